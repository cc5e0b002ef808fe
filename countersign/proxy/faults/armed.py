"""The faults of one leg at work: a way in, a way out, and a witness who reads what is really on the wire.

On a leg with faults the message callback of OpenSSL cannot be believed any more, for OpenSSL does not know what became
of its messages. There the recording is made from the wire alone, by the decoder that reads captures, with the secrets
that the key log callback gives: these are in memory only, and gone with the leg.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from countersign.proxy.faults.effects import Applied
from countersign.proxy.faults.recast import Recast
from countersign.proxy.faults.registry import FAULTS
from countersign.proxy.faults.way import Way
from countersign.proxy.sealer import Agreed, Keyring
from countersign.recorder.recording import LegRole
from countersign.recorder.wire.events import Event, Side
from countersign.recorder.wire.leg import LegDecoder
from countersign.recorder.wire.messages import message_type
from countersign.recorder.wire.secrets import CLIENT_RANDOM, KeyLog, Secret, parse_line
from countersign.recorder.wire.tap import LegTap

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

    from countersign.proxy.faults.model import WireFault
    from countersign.recorder.live import LiveLeg


class Witness(LegTap):
    """A tap that believes the wire alone; what OpenSSL says of it is left out."""

    def __init__(self) -> None:
        self.keylog = KeyLog()
        super().__init__(decoder=LegDecoder(keylog=self.keylog))

    def wire(self, sender: Side, data: bytes | memoryview, t: float) -> list[Event]:
        """:meth:`LegTap.wire`, with everything that the keys open, and application data."""
        return self._decoder.receive(sender, data, t)

    def inside(self, sender: Side, content_type: int, version: int, data: bytes) -> None:
        """OpenSSL's word does not count, so the wire is never done."""

    def settle(self, t: float) -> list[Event]:
        """What was waiting for its keys."""
        return self._decoder.unlock(t)

    def end(self, sender: Side, t: float) -> list[Event]:
        """:meth:`LegTap.end`."""
        return self._decoder.end(sender, t)


@dataclass(frozen=True, slots=True)
class Served:
    """What a client leg serves: the leaf's ``key``, and its ``chain`` where that is another one than OpenSSL's."""

    key: PrivateKeyTypes | bytes
    chain: tuple[bytes, ...] | None = None


class Armed:
    """The faults of a leg, that of ``role``: ``out`` is the way of what we send, ``into`` that of what OpenSSL gets.

    ``keep`` is called with each line of the key log that opens what is on the wire, and ``master`` gives OpenSSL's
    master secret below TLS 1.3, once it has one. With ``served`` the handshake can be made anew (:mod:`.recast`);
    ``cannot`` is called where what is served cannot be shown without that, and that cannot be.
    """

    def __init__(
        self,
        role: LegRole,
        faults: Sequence[WireFault],
        *,
        keep: Callable[[bytes], None],
        master: Callable[[], bytes | None],
        served: Served | None = None,
        cannot: Callable[[], None] = lambda: None,
    ) -> None:
        self.witness = Witness()
        self._keep = keep
        self._waiting: list[Secret] = []  # while it is not known whose keys are those of the wire
        self._agreed = agreed = Agreed()
        self._master = master
        self.ring = self.wire_ring = Keyring(agreed, fetch=self._fetch)
        us = Side.SERVER if role is LegRole.CLIENT else Side.CLIENT
        self.recast: Recast | None = None
        around_out = around_into = None
        if served is not None and (served.chain is not None or any(map(_consistent, faults))):
            self.wire_ring = Keyring(agreed, fetch=self._fetch)
            self.recast = recast = Recast(
                key=served.key,
                chain=served.chain,
                source=self.ring,
                tell=self._tell,
                decided=self._decided,
                shown=self._shown,
                cannot=cannot,
            )
            around_out = recast.out_first, recast.out_last
            around_into = recast.into_first, recast.into_last
        into = [(FAULTS[each.do], each) for each in faults if each.to == "proxy"]
        out = [(FAULTS[each.do], each) for each in faults if each.to != "proxy"]
        # Both are there even where one has no fault: each learns from its hellos what the other's keys depend on.
        self.out = Way(us, out, source=self.ring, wire=self.wire_ring, around=around_out)
        self.into = Way(us.peer, into, source=self.wire_ring, wire=self.ring, around=around_into)

    def secret(self, line: bytes) -> None:
        """A line of OpenSSL's key log."""
        found = parse_line(line.decode("ascii", "replace"))
        if found is None:
            return
        if self.recast is not None and self.recast.on is None:
            self._waiting.append(found)
        elif self._same_keys:
            self._on_wire(found)
        self.ring.add(found.label, found.secret)

    def _fetch(self) -> bytes | None:
        """The master secret of TLS 1.2 and below, before OpenSSL logs it."""
        master = self._master()
        if master is not None:
            self._on_wire(Secret(CLIENT_RANDOM, self._agreed.client_random, master))
        return master

    @property
    def _same_keys(self) -> bool:
        """Whether what opens OpenSSL's records opens those on the wire."""
        return self.recast is None or not self.recast.on or not self._agreed.tls13

    def _decided(self) -> None:
        for found in self._waiting if self._same_keys else ():
            self._on_wire(found)
        self._waiting.clear()

    def _tell(self, label: str, secret: bytes) -> None:
        self._on_wire(Secret(label, self._agreed.client_random, secret))

    def _on_wire(self, found: Secret) -> None:
        if self.wire_ring.secret(found.label) == found.secret:
            return
        self.wire_ring.add(found.label, found.secret)
        self.witness.keylog.add(found.label, found.client_random, found.secret)
        self._keep(found.line.encode("ascii"))

    def _shown(self) -> None:
        text = "showed a chain that OpenSSL cannot serve, in a handshake that is right but for it"
        self.out.notes.append(Applied("certificate", text, at="certificate"))


def _consistent(fault: WireFault) -> bool:
    return fault.to == "client" and bool(fault.options.get("consistent"))


def entry(applied: Applied, live: LiveLeg, sender: Side, t: float) -> dict[str, Any]:
    """What the recording tells of a fault: ``message`` is the number of the last one of that name, if it was sent.

    ``at`` is the message that shows it, ``of`` the one that the fault itself names.
    """
    number = next(
        (
            len(live.messages) - 1 - back
            for back, one in enumerate(reversed(live.messages))
            if applied.sent and one.sender is sender and message_type(one.content, one.code, one.raw) == applied.at
        ),
        None,
    )
    return {
        "do": applied.do,
        "at": applied.at,
        "of": applied.of,
        "message": number,
        "t": round(t, 6),
        "byte": applied.byte,
        "text": applied.text,
    }
