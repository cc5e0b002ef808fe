"""A chain on the wire: served with our own TLS stack and seen with our own recorder."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from countersign.proxy._openssl import (
    Buffers,
    EndOfData,
    Offer,
    TlsClientSide,
    TlsConnection,
    TlsServerSide,
    TlsTrouble,
)
from countersign.recorder.wire.events import Event, Message, Side
from countersign.recorder.wire.reading import read_leg
from countersign.recorder.wire.tap import LegTap
from tests.proxy.wire import Target

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from countersign.ca.recipes import MadeChain

VERSIONS = {"1.2": (0x0303,), "1.3": (0x0304,)}
_SUITES = (0x1302, 0x1301, 0xC02B, 0xC02F, 0xC02C, 0xC030)


def offer(version: str) -> Offer:
    return Offer(VERSIONS[version], _SUITES)


@dataclass
class Seen:
    """What the recorder saw of one connection, and what OpenSSL said at the server's side if it gave up."""

    events: list[Event] = field(default_factory=list)
    trouble: str | None = None

    @property
    def messages(self) -> list[Message]:
        return [each for each in self.events if isinstance(each, Message)]

    @property
    def sent(self) -> tuple[bytes, ...]:
        """The certificates of the server (DER), in their order."""
        return tuple(each.der for each in read_leg(self.messages).certificates if each.sender is Side.SERVER)


def judged_in_memory(made: MadeChain, host: str, version: str = "1.3") -> tuple[tuple[bytes, ...], str | None]:
    """The chain as our own client got it, and what that said: ``None`` where it is content.

    Raises :class:`TlsTrouble` where OpenSSL cannot serve the chain.
    """
    server = TlsServerSide().connection(offer(version), chain=made.chain, key=made.key)
    side = TlsClientSide(made.anchors)
    client = side.connection(side.prepare(offer(version), level=1), name=host, sni=None, alpn=())
    buffers = Buffers()
    said: str | None = None
    got: tuple[bytes, ...] = ()
    try:
        for _ in range(10):
            for one, other in ((client, server), (server, client)):
                try:
                    one.handshake()
                except TlsTrouble as trouble:
                    if one is client:
                        said = said or trouble.reason
                if data := one.drain(buffers):
                    other.feed(data)
            got = got or client.peer_chain()
        if client.verify_error:
            said = client.verify_error[0]
    finally:
        server.close()
        client.close()
    return got, said


@contextlib.contextmanager
def serving(made: MadeChain, version: str = "1.3") -> Iterator[tuple[Target, Seen]]:
    """A server on loopback that shows this chain to one client."""
    seen = Seen()
    connection = TlsServerSide().connection(offer(version), chain=made.chain, key=made.key)
    with Target(lambda peer: _converse(connection, peer, seen)) as target:
        yield target, seen
    connection.close()


def _converse(connection: TlsConnection, peer: socket.socket, seen: Seen) -> None:
    tap, buffers, done = LegTap(), Buffers(), False
    connection.tap(lambda written, kind, version, data: tap.inside(_side(written), kind, version, data))
    while data := peer.recv(65536):
        seen.events += tap.wire(Side.CLIENT, data, 0.0)
        connection.feed(data)
        try:
            done = done or connection.handshake()
            if done:
                connection.read(buffers)
        except (TlsTrouble, EndOfData) as ended:
            seen.trouble = getattr(ended, "reason", None)
        out = connection.drain(buffers)
        seen.events += [*tap.wire(Side.SERVER, out, 0.0), *tap.settle(0.0)]
        if out:
            peer.sendall(out)
        if seen.trouble:
            return


def _side(written: bool) -> Side:  # noqa: FBT001 - OpenSSL's flag
    return Side.SERVER if written else Side.CLIENT
