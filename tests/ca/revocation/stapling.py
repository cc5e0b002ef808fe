"""A TLS server that staples whatever it is given, for clients that look at it."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING, Self

from cryptography import x509
from OpenSSL import SSL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from countersign.ca.signer import PrivateKey


class StaplingServer:
    """Answers each HTTP request with 204 on ``port`` while the ``with`` block runs; ``staple`` is asked each time."""

    def __init__(
        self,
        chain: Sequence[bytes],
        key: PrivateKey,
        staple: Callable[[], bytes],
        *,
        version: int = SSL.TLS1_3_VERSION,
    ) -> None:
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_min_proto_version(version)
        context.set_max_proto_version(version)
        context.use_certificate(x509.load_der_x509_certificate(chain[0]))
        for certificate in chain[1:]:
            context.add_extra_chain_cert(x509.load_der_x509_certificate(certificate))
        context.use_privatekey(key)
        context.set_ocsp_server_callback(lambda _connection, _data: staple())
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._run, name="stapling server")

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _run(self) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return
            with accepted:
                accepted.settimeout(None)
                connection = SSL.Connection(self._context, accepted)
                connection.set_accept_state()
                try:
                    connection.do_handshake()
                    if connection.recv(1 << 16):
                        connection.sendall(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
                    connection.shutdown()
                except SSL.Error:  # the client did not like what it was shown
                    pass
