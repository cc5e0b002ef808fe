"""The OpenSSL inside cryptography as a peer: it speaks what the machine's own does not yet (X25519MLKEM768)."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from OpenSSL import SSL

if TYPE_CHECKING:
    from pathlib import Path

    from tests.peers.certs import Issued

_GIVE_UP_AFTER = 10


def _context(groups: str, keylog: Path) -> SSL.Context:
    context = SSL.Context(SSL.TLS_METHOD)
    assert SSL._lib.SSL_CTX_set1_curves_list(context._context, groups.encode()) == 1  # type: ignore[attr-defined]

    def keep(_connection: SSL.Connection, line: bytes) -> None:
        with keylog.open("ab") as file:
            file.write(line + b"\n")

    context.set_keylog_callback(keep)
    return context


class ModernServer:
    """Answers one connection's first words with themselves while the ``with`` block runs."""

    def __init__(self, identity: Issued, *, groups: str, keylog: Path) -> None:
        self._context = _context(groups, keylog)
        self._context.use_certificate_chain_file(str(identity.fullchain_pem))
        self._context.use_privatekey_file(str(identity.key_pem))

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(_GIVE_UP_AFTER)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, name="modern server")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(_GIVE_UP_AFTER)

    def _serve(self) -> None:
        with suppress(OSError, SSL.Error):
            raw, _ = self._listener.accept()
            with raw:
                raw.settimeout(None)
                connection = SSL.Connection(self._context, raw)
                connection.set_accept_state()
                connection.sendall(connection.recv(100))
                with suppress(SSL.ZeroReturnError):
                    connection.recv(100)
                connection.shutdown()


def modern_client(port: int, *, groups: str, ca: Path, keylog: Path, name: str = "localhost") -> str | None:
    """Says hello, hears it back, says goodbye and waits for the answer; the group that was agreed on."""
    context = _context(groups, keylog)
    context.load_verify_locations(str(ca))
    context.set_verify(SSL.VERIFY_PEER)
    with socket.create_connection(("127.0.0.1", port), timeout=_GIVE_UP_AFTER) as raw:
        raw.settimeout(None)
        connection = SSL.Connection(context, raw)
        connection.set_tlsext_host_name(name.encode())
        connection.set_connect_state()
        connection.sendall(b"hello")
        assert connection.recv(100) == b"hello"
        group = connection.get_group_name()
        connection.shutdown()
        with suppress(SSL.ZeroReturnError):
            connection.recv(100)
    return group
