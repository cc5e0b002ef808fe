"""Messages that are missing, that come twice, in another order, or that nobody expects (RFC 8446 2, RFC 5246 7.3)."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from countersign.proxy.faults.kinds import AtMessage, FaultError, FaultKind, Note, Option, Proved, Right
from countersign.recorder.wire.events import Side
from countersign.recorder.wire.names import HANDSHAKE_TYPES
from countersign.recorder.wire.records import CHANGE_CIPHER_SPEC, HANDSHAKE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from countersign.proxy.faults.items import Item
    from countersign.proxy.faults.model import Place, WireFault

_TYPES = {name: code for code, name in HANDSHAKE_TYPES.items()}
_BODIES = {
    "hello_request": b"",
    "server_hello_done": b"",
    "end_of_early_data": b"",
    "key_update": b"\0",
    "encrypted_extensions": b"\0\0",
    "finished": bytes(12),
    "certificate": bytes(3),
    "certificate_status": b"\1\0\0\1\0",
    "new_session_ticket": b"\0\0\x0e\x10\0\x10" + bytes(range(16)),
}
_BODIES_13 = {
    "certificate": bytes(4),
    "new_session_ticket": b"\0\0\x0e\x10" + bytes(4) + b"\1\0" + b"\0\x10" + bytes(range(16)) + b"\0\0",
}


class Drop(FaultKind):
    """A message is missing."""

    name = "drop"
    consistent = True
    says = "leaves a message out; what comes behind it goes on"
    default_at = "certificate"

    def worker(self, fault: WireFault, note: Note) -> AtMessage:
        return _Dropping(self, fault, note)

    def shown(self, proved: Proved, fault: WireFault) -> str | None:
        which = int(str(fault.options.get("occurrence", 1)))
        if len(proved.named(fault, fault.at)) < which or fault.at in {"application_data", "alert"}:
            return None
        again = f"{which} of them" if which > 1 else "it"
        return f"the {fault.at} was not left out: the {fault.leg} leg has {again}"


class _Dropping(AtMessage):
    def act(self, item: Item) -> Iterable[Item]:
        self.note.applied(f"left out the {item.name}", at=item.name, sent=False)
        return ()


class Duplicate(FaultKind):
    """A message comes twice."""

    name = "duplicate"
    consistent = True
    says = "sends a message twice, the second time under the keys that are in force behind the first"
    default_at = "server_hello"

    def worker(self, fault: WireFault, note: Note) -> AtMessage:
        return _Doubling(self, fault, note)

    def shown(self, proved: Proved, fault: WireFault) -> str | None:
        sent = [(name, one.raw) for name, one in proved.messages(fault)]
        if fault.at == "application_data" or any(
            name == fault.at and (name, raw) == before for before, (name, raw) in pairwise(sent)
        ):
            return None
        return f"no two {fault.at} messages in a row are the same on the {fault.leg} leg"


class _Doubling(AtMessage):
    def act(self, item: Item) -> Iterable[Item]:
        yield item
        self.note.applied(f"sent the {item.name} a second time", at=item.name)
        yield replace(item.with_data(item.data), epoch=item.then)


class Swap(FaultKind):
    """Two messages change places."""

    name = "swap"
    consistent = True
    says = "sends the next message of the same flight ahead of this one"
    default_at = "certificate"

    def worker(self, fault: WireFault, note: Note) -> AtMessage:
        return _Swapping(self, fault, note)

    def shown(self, proved: Proved, fault: WireFault) -> str | None:
        text = str(proved.entries[0].get("text", ""))
        sent = [name for name, _ in proved.messages(fault)]
        for before, name in pairwise(sent):
            if name == fault.at and f" {before} ahead of " in text:
                return None
        return f"no message stands ahead of the {fault.at} that belongs behind it on the {fault.leg} leg"


class _Swapping(AtMessage):
    def __init__(self, kind: FaultKind, fault: WireFault, note: Note) -> None:
        super().__init__(kind, fault, note)
        self._kept: Item | None = None

    def act(self, item: Item) -> Iterable[Item]:
        self._kept = item
        return ()

    def take(self, item: Item) -> Iterable[Item]:
        kept, self._kept = self._kept, None
        if kept is None:
            return super().take(item)
        if item.epoch != kept.epoch or not item.opened:
            return (kept, item)  # under other keys there is no ahead
        self.note.applied(f"sent the {item.name} ahead of the {kept.name}", at=kept.name)
        return (item.with_data(item.data), kept.with_data(kept.data))

    def rest(self) -> Iterable[Item]:
        kept, self._kept = self._kept, None
        return () if kept is None else (kept,)


class WrongMessage(FaultKind):
    """A message that does not belong there."""

    name = "wrong_message"
    consistent = True
    says = "sends a message that does not belong there, before, after or in the place of another"
    places: ClassVar[frozenset[Place]] = frozenset({"before", "after"})
    default_at = "certificate"
    options: ClassVar[Mapping[str, Option]] = MappingProxyType(
        {
            "message": Option(says="which one", form="text", default="finished", choices=tuple(sorted(_TYPES))),
            "data": Option(says="what is in it, without its header of four bytes", form="bytes", optional=True),
            "instead": Option(says="the right message is left out", form="bool", default=False),
        }
    )

    def check(self, fault: WireFault) -> None:
        name = str(fault.options["message"])
        if "data" not in fault.options and name not in _BODIES:
            known = ", ".join(sorted(_BODIES))
            raise FaultError("data", f"a {name} out of nowhere needs data, what is in it; without there are {known}")

    def right_of(self, fault: WireFault) -> Right:
        """Below TLS 1.3 a client that is shaking hands overlooks a HelloRequest (RFC 5246 7.4.1.1)."""
        return "either" if fault.options["message"] == "hello_request" else "refuse"

    def worker(self, fault: WireFault, note: Note) -> AtMessage:
        return _Inserting(self, fault, note)

    def shown(self, proved: Proved, fault: WireFault) -> str | None:
        name = str(fault.options["message"])
        return None if proved.named(fault, name) else f"no {name} was sent on the {fault.leg} leg"


class _Inserting(AtMessage):
    def act(self, item: Item) -> Iterable[Item]:
        options, after = self.fault.options, self.fault.place == "after"
        name = str(options["message"])
        epoch = item.then if after else item.epoch
        if not self.note.can_seal(epoch):
            return (item,)
        body = options.get("data")
        if not isinstance(body, bytes):
            body = {**_BODIES, **(_BODIES_13 if self.note.agreed.tls13 else {})}[name]
        wrong = item.beside(name, bytes([_TYPES[name]]) + len(body).to_bytes(3) + body, epoch=epoch)
        where = "in the place of" if options["instead"] else self.fault.place
        self.note.applied(f"sent a {name} {where} the {item.name}", at=name)
        kept = () if options["instead"] else (item,)
        return (*kept, wrong) if after else (wrong, *kept)


class EarlyChangeCipherSpec(FaultKind):
    """RFC 5246 7.1; CVE-2014-0224. In TLS 1.3 it would mean nothing (RFC 8446 5), so there it is not done."""

    name = "early_change_cipher_spec"
    says = "sends a ChangeCipherSpec before there are any keys to change to"
    needs = frozenset({"tls12"})
    default_at = "server_hello_done"

    def worker(self, fault: WireFault, note: Note) -> AtMessage:
        return _Changing(self, fault, note)

    def shown(self, proved: Proved, fault: WireFault) -> str | None:
        side = Side.SERVER if fault.to != "target" else Side.CLIENT
        sent = [name for name, _ in proved.messages(fault)]
        if "change_cipher_spec" in sent and (
            fault.at not in sent or sent.index("change_cipher_spec") < sent.index(fault.at)
        ):
            return None
        return f"the {side.value} of the {fault.leg} leg sent no change_cipher_spec before its {fault.at}"


class _Changing(AtMessage):
    def act(self, item: Item) -> Iterable[Item]:
        if item.epoch or item.content_type not in {HANDSHAKE, CHANGE_CIPHER_SPEC}:
            return (item,)
        self.note.applied(f"sent a change_cipher_spec before the {item.name}", at="change_cipher_spec")
        return (item.change_cipher_spec(), item)


KINDS = (Drop, Duplicate, Swap, WrongMessage, EarlyChangeCipherSpec)
