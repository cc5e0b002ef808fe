"""The live merge of two taps: the bytes of a leg that we ourselves speak, and the TLS library's message callback.

Plaintext messages come from the wire, where nothing is left out: what the library rejects, hellos in SSLv2 form,
change-cipher-specs, wrong records. Encrypted ones come from the library, which has opened them anyway.

What joins the two is one rule of TLS: *in one direction, every message in clear comes before every encrypted one.* The
library reports all messages of a direction in order, those in clear too. If the wire showed K handshake messages in
clear, the library's first K are the same ones, and from number K on they are encrypted. Alerts and
change-cipher-specs are counted alike, each kind for itself. What does not count: a hello in SSLv2 form, which the
library never reports.

A message that the library has written is reported before its bytes can be seen on the wire. So :meth:`LegTap.inside`
only queues, and nothing of a direction is given out as encrypted until the wire has shown a protected record of it.

The library does not report a received change-cipher-spec. In the clear that is no loss. Within a TLS 1.2
renegotiation it is encrypted, and then the Finished behind it proves it: without that message the library would not
have read the Finished (RFC 5246 7.4.9).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING

from countersign.recorder.wire import codes, names, records
from countersign.recorder.wire.events import Content, Event, Message, Problem, Side
from countersign.recorder.wire.handshakes import KEEP
from countersign.recorder.wire.leg import LegDecoder

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


_KINDS = range(records.CHANGE_CIPHER_SPEC, records.HEARTBEAT + 1)
_UNCOUNTED: list[int] = []


class _Inside:
    """What the library reported of one direction."""

    __slots__ = ("change_cipher_specs", "finished", "queue", "seen")

    def __init__(self) -> None:
        self.queue: list[tuple[int, int, bytes]] | None = None  # serial, content type, message
        self.seen = [0] * len(_KINDS)  # how many of each kind the library has reported so far
        self.finished = 0
        self.change_cipher_specs = 0  # encrypted ones that were given out


@dataclass(frozen=True, slots=True)
class _Seen:
    """What is still asked of the wire when there is nothing more to see on it."""

    version: int | None
    change_cipher_spec_counts: Mapping[Side, int]


_NONE: Mapping[Side, int] = dict.fromkeys(Side, 0)


def _in_clear(wire: LegDecoder) -> tuple[Mapping[Side, int], ...]:
    """How many the wire has shown in clear, by the kinds of :data:`_KINDS`; application data are not counted."""
    return wire.change_cipher_spec_counts, wire.alert_counts, wire.handshake_counts, _NONE, _NONE


@lru_cache(maxsize=256)
def _seen(version: int | None, client: int, server: int) -> _Seen:
    return _Seen(version, {Side.CLIENT: client, Side.SERVER: server})


class LegTap:
    """Live legs: plaintext messages from the wire, encrypted ones from the TLS library's message callback.

    For each step of the library: give :meth:`wire` what came in, let the library work (its callback calls
    :meth:`inside`), give :meth:`wire` what went out, then :meth:`settle`. Events come in this order: incoming in
    clear, incoming encrypted, outgoing in clear, outgoing encrypted.

    A ``decoder`` that has read the client's first bytes already goes on from there; what it told goes to :meth:`told`.
    """

    def __init__(self, *, keep: int = KEEP, decoder: LegDecoder | None = None) -> None:
        self._keep = keep
        self._decoder = LegDecoder(keep=keep) if decoder is None else decoder
        self._decoder.clear_alone = True
        self._wire: LegDecoder | _Seen = self._decoder
        self._in_clear: tuple[Mapping[Side, int], ...] | None = _in_clear(self._decoder)
        self._client, self._server = _Inside(), _Inside()
        self._serial = 0
        self.wire_done = False
        """Whether both sides' Finished were given out encrypted: nothing in clear can follow, stop feeding bytes."""

    @property
    def version(self) -> int | None:
        return self._wire.version

    def let_go(self) -> None:
        """Keep nothing that only more bytes of the wire would need; :attr:`wire_done` must be true."""
        if self._in_clear is not None:
            counts = self._decoder.change_cipher_spec_counts
            self._wire = _seen(self._decoder.version, counts[Side.CLIENT], counts[Side.SERVER])
            self._in_clear = None  # all that comes now is encrypted, so nobody counts any more
            self._client.seen = self._server.seen = _UNCOUNTED
            del self._decoder

    def wire(self, sender: Side, data: bytes | memoryview, t: float) -> list[Event]:
        """Take bytes of ``sender`` as they are on the socket; give plaintext messages and problems.

        What the library said of the other side meanwhile comes first, for it answers that.
        """
        out: list[Event] = []
        self._settle(sender.peer, t, out)
        self._add_clear(self._decoder.receive(sender, data, t), out)
        return out

    def told(self, events: Iterable[Event]) -> list[Event]:
        """Of what the decoder told before it came here, what :meth:`wire` would have given."""
        out: list[Event] = []
        self._add_clear(events, out)
        return out

    def inside(self, sender: Side, content_type: int, version: int, data: bytes) -> None:  # noqa: ARG002
        """Take one whole message from the library's callback. Pseudo types (256 and up) are left out."""
        if content_type in codes.CONTENTS and data:
            self._serial += 1
            inside, told = self._inside(sender), (self._serial, content_type, data)
            if inside.queue is None:
                inside.queue = [told]
            else:
                inside.queue.append(told)

    def settle(self, t: float) -> list[Event]:
        """The encrypted messages of the step that is done, in order; its output was given to :meth:`wire`."""
        out: list[Event] = []
        # wire() has settled the incoming side if output followed. Without it (the wire is done) the library's own
        # order says which side began.
        client, server = self._client.queue, self._server.queue
        first = Side.SERVER if client and server and server[0][0] < client[0][0] else Side.CLIENT
        for side in (first, first.peer):
            self._settle(side, t, out)
        return out

    def end(self, sender: Side, t: float) -> list[Event]:
        """Take notice that this side sends no more: tell what is unfinished on the wire."""
        out: list[Event] = []
        self._settle(sender.peer, t, out)
        self._settle(sender, t, out)
        self._add_clear(self._decoder.end(sender, t), out)
        return out

    def _inside(self, side: Side) -> _Inside:
        return self._client if side is Side.CLIENT else self._server

    def _add_clear(self, events: Iterable[Event], out: list[Event]) -> None:
        out += [
            event
            for event in events
            if isinstance(event, Problem) or (isinstance(event, Message) and not event.encrypted)
        ]

    def _settle(self, side: Side, t: float, out: list[Event]) -> None:
        inside = self._inside(side)
        queue, in_clear = inside.queue, self._in_clear
        if not queue:
            return
        if in_clear is None:
            for _, content_type, data in queue:
                self._encrypted(side, content_type, data, t, out)
            inside.queue = None
            return
        seen, sealed = inside.seen, self._decoder.sealed_seen(side)
        settled = 0
        for _, content_type, data in queue:
            kind = content_type - records.CHANGE_CIPHER_SPEC
            if seen[kind] >= in_clear[kind][side]:
                if not sealed:
                    break  # written by the library, and not on the wire yet
                self._encrypted(side, content_type, data, t, out)
            seen[kind] += 1
            settled += 1
        if settled == len(queue):
            inside.queue = None
        else:
            del queue[:settled]

    def _encrypted(self, side: Side, content_type: int, data: bytes, t: float, out: list[Event]) -> None:
        inside = self._inside(side)
        if content_type == records.CHANGE_CIPHER_SPEC:
            inside.change_cipher_specs += 1
        elif content_type == records.HANDSHAKE and data[0] == codes.FINISHED:
            known = self._wire.change_cipher_spec_counts[side] + inside.change_cipher_specs
            if known <= inside.finished and not names.is_tls13(self._wire.version):
                inside.change_cipher_specs += 1
                out.append(Message(t, side, Content.CHANGE_CIPHER_SPEC, 1, encrypted=True, length=1, raw=b"\x01"))
            inside.finished += 1
            self.wire_done = self._inside(side.peer).finished > 0
        if content_type == records.ALERT:
            code = data[1] if len(data) > 1 else -1
        else:
            code = data[0]
        digest = sha256(data).hexdigest() if len(data) > self._keep else ""
        raw = data[: self._keep] if digest else data
        out.append(Message(t, side, codes.CONTENTS[content_type], code, True, len(data), raw, digest))
