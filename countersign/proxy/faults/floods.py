"""Much of what is allowed, behind the handshake of TLS 1.3 (RFC 8446 4.6)."""

from __future__ import annotations

import secrets
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from countersign.proxy.faults.kinds import AtMessage, FaultKind, Note, Option, Proved
from countersign.proxy.sealer import APPLICATION
from countersign.recorder.wire.messages import KeyUpdate, NewSessionTicket13

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from countersign.proxy.faults.items import Item
    from countersign.proxy.faults.model import Place, WireFault

_MOST = 5_000
"""They are made in one go; more would hold up everybody else."""
_KEPT = 100
"""So many of a flood a recording has in any case."""


class _Flood(FaultKind):
    needs = frozenset({"tls13"})
    places: ClassVar[frozenset[Place]] = frozenset({"before", "after"})
    message: ClassVar[str]

    def worker(self, fault: WireFault, note: Note) -> AtMessage:
        return _Flooding(self, fault, note)

    def flood(self, item: Item, fault: WireFault) -> list[Item]:
        """The messages beside this one."""
        raise NotImplementedError

    def shown(self, proved: Proved, fault: WireFault) -> str | None:
        count, found = int(str(fault.options["count"])), len(proved.named(fault, self.message))
        if found >= min(count, _KEPT):
            return None
        return f"only {found} of {count} {self.message} are among the messages of the {fault.leg} leg"


class _Flooding(AtMessage):
    kind: _Flood

    def act(self, item: Item) -> Iterable[Item]:
        epoch = item.then if self.fault.place == "after" else item.epoch
        if epoch != APPLICATION or not self.note.can_seal(epoch):
            return (item,)
        many = self.kind.flood(item, self.fault)
        text = f"sent {len(many)} {self.kind.message} messages {self.fault.place} the {item.name}"
        self.note.applied(text, at=self.kind.message)
        return (item, *many) if self.fault.place == "after" else (*many, item)


class TicketFlood(_Flood):
    """RFC 8446 4.6.1: a server may send several. These are of no use to anybody: no server knows them again."""

    name = "ticket_flood"
    says = "sends many NewSessionTicket messages, which nobody will know again: resuming with one is a full handshake"
    right = "accept"
    sides = frozenset({"client", "proxy"})
    default_at = "new_session_ticket"
    default_place = "after"
    message = "new_session_ticket"
    options: ClassVar[Mapping[str, Option]] = MappingProxyType(
        {
            "count": Option(says="how many", form="int", default=100, least=1, most=_MOST),
            "size": Option(says="bytes of each ticket", form="int", default=200, least=1, most=16_000),
        }
    )

    def flood(self, item: Item, fault: WireFault) -> list[Item]:
        """One after the other, each with a nonce of its own."""
        size, many = int(str(fault.options["size"])), range(int(str(fault.options["count"])))
        return [
            item.beside(
                self.message,
                NewSessionTicket13(7200, secrets.randbits(32), b"\xff" + number.to_bytes(4), secrets.token_bytes(size)),
                epoch=APPLICATION,
            )
            for number in many
        ]


class KeyUpdateFlood(_Flood):
    """RFC 8446 4.6.3. OpenSSL takes 32 of them in a row, for each has to be answered if that is asked for."""

    name = "key_update_flood"
    says = "sends many KeyUpdate messages in a row, each with the next keys"
    right = "either"
    default_at = "application_data"
    message = "key_update"
    options: ClassVar[Mapping[str, Option]] = MappingProxyType(
        {
            "count": Option(says="how many", form="int", default=100, least=1, most=_MOST),
            "answer": Option(says="ask for an update in return each time", form="bool", default=False),
        }
    )

    def flood(self, item: Item, fault: WireFault) -> list[Item]:
        """One after the other."""
        update = KeyUpdate(1 if fault.options["answer"] else 0)
        many = int(str(fault.options["count"]))
        return [item.beside(self.message, update, epoch=APPLICATION) for _ in range(many)]


KINDS = (TicketFlood, KeyUpdateFlood)
