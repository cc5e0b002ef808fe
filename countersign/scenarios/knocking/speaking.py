"""A client with the OpenSSL of the proxy, for hellos that the machine's own cannot make: post-quantum key shares.

It has the face of :class:`ssl.SSLObject` between memory BIOs, and the errors of that, so that the conversation is the
same whoever speaks.
"""

from __future__ import annotations

import ssl
import weakref
from functools import partial
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import load_pem_private_key

from countersign.ca.pem import certificates_in
from countersign.proxy import Buffers, EndOfData, Offer, TlsClientSide, TlsConnection, TlsTrouble
from countersign.recorder.private_files import read_regular

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from countersign.findings.probing import Plan
    from countersign.findings.probing.handshaking import Manner, Speaker

_VERSIONS = (0x0303, 0x0304)
_SUITES = (0x1301, 0x1302, 0x1303, 0xC02B, 0xC02F, 0xC02C, 0xC030, 0xCCA9, 0xCCA8)


def speaking(groups: str) -> Callable[[Plan, Manner, ssl.MemoryBIO, ssl.MemoryBIO, Path], Speaker]:
    """Who offers these groups, in OpenSSL's words: with ``*`` before those for which there is a key share."""

    def speaks(plan: Plan, manner: Manner, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, keys: Path) -> Speaker:
        connection = _connection(plan, manner, Offer(_VERSIONS, _SUITES, groups))
        connection.log_secrets(partial(_keep, keys))
        return _Speaker(connection, incoming, outgoing)

    return speaks


def _connection(plan: Plan, manner: Manner, offer: Offer) -> TlsConnection:
    identity = None
    if plan.certificate is not None:
        data = read_regular(plan.certificate) or b""
        identity = (certificates_in(data), load_pem_private_key(data, None))
    side = TlsClientSide((), enforce=False, identity=identity)
    return side.connection(
        side.prepare(offer, level=0),
        name=plan.name or plan.host,
        sni=plan.name.encode() if plan.name else None,
        alpn=() if plan.starttls is not None else [each.encode() for each in manner.alpn],
    )


def _keep(keys: Path, line: bytes) -> None:
    with keys.open("ab") as file:
        file.write(line.rstrip(b"\n") + b"\n")


def _as_of_ssl(trouble: TlsTrouble) -> ssl.SSLError:
    wrong = ssl.SSLError(str(trouble))
    wrong.reason = trouble.reason
    return wrong


class _Speaker:
    def __init__(self, connection: TlsConnection, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> None:
        self._connection, self._incoming, self._outgoing = connection, incoming, outgoing
        self._buffers = Buffers()
        weakref.finalize(self, connection.close)

    def _take(self) -> None:
        data = self._incoming.read()
        if data:
            self._connection.feed(data)

    def _give(self) -> None:
        while data := self._connection.drain(self._buffers):
            self._outgoing.write(bytes(data))

    def do_handshake(self) -> None:
        self._take()
        try:
            done = self._connection.handshake()
        except TlsTrouble as trouble:
            raise _as_of_ssl(trouble) from None
        finally:
            self._give()
        if not done:
            raise ssl.SSLWantReadError

    def read(self, count: int) -> bytes:  # noqa: ARG002 - of what there is, all is given
        self._take()
        try:
            found = self._connection.read(self._buffers)
        except EndOfData:
            return b""
        except TlsTrouble as trouble:
            raise _as_of_ssl(trouble) from None
        finally:
            self._give()
        if not found:
            raise ssl.SSLWantReadError
        return bytes(self._buffers.read(found))

    def write(self, data: bytes) -> int:
        self._connection.write(data)
        self._give()
        return len(data)

    def unwrap(self) -> None:
        self._connection.close_notify()
        self._give()
