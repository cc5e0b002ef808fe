"""Messages with something wrong in them.

In clear, and where the change is within TLS 1.3's encryption, too, the peer has to notice: every message is in the
transcript that Finished is about (RFC 8446 4.4.4, RFC 5246 7.4.9), if nothing of it was wrong before that.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from countersign.proxy.faults.kinds import AtMessage, FaultError, FaultKind, Note, Option, Proved, Right
from countersign.recorder.wire.events import Content
from countersign.recorder.wire.messages import (
    Certificate,
    Certificate13,
    DecodeContext,
    HandshakeMessage,
    ServerKeyExchange,
    decode,
)
from countersign.recorder.wire.reader import Struct, layout
from countersign.recorder.wire.records import ALERT, CHANGE_CIPHER_SPEC, HANDSHAKE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from countersign.proxy.faults.items import Item
    from countersign.proxy.faults.model import WireFault
    from countersign.proxy.sealer import Agreed
    from countersign.recorder.wire.events import Side

_CONTENTS = {HANDSHAKE: Content.HANDSHAKE, ALERT: Content.ALERT, CHANGE_CIPHER_SPEC: Content.CHANGE_CIPHER_SPEC}


def read_item(item: Item, agreed: Agreed, side: Side) -> Any:
    """The message as the recorder reads it, or None where it is none; it builds to the same bytes again."""
    content = _CONTENTS.get(item.content_type)
    if content is None:
        return None
    context = DecodeContext(agreed.version, agreed.suite or None, side)
    value = decode(content, item.data, context).value
    return value if value.build() == item.data else None


def spans(value: Struct) -> dict[str, tuple[int, int]]:
    """Where the fields of a message are among its bytes, by the names that a recording has for them."""
    found: dict[str, tuple[int, int]] = {}
    at = 4 if isinstance(value, HandshakeMessage) else 0
    parts: list[Struct | None] = [value]
    if isinstance(value, ServerKeyExchange):
        parts = [value.params, value.signature]
    for part in parts:
        for name, codec in layout(type(part)) if part is not None else ():
            size = len(codec.build(getattr(part, name)))
            found[name] = (at, at + size)
            at += size
    return found


class Corrupt(FaultKind):
    """One byte is another one."""

    name = "corrupt"
    consistent = False
    says = "changes one byte of a message, by its number or in a named field, and nothing else of it"
    options: ClassVar[Mapping[str, Option]] = MappingProxyType(
        {
            "byte": Option(says="which byte of the message, from 0, its header of four bytes included; -1 is the last",
                           form="int", optional=True, least=-(1 << 20), most=1 << 20),
            "field": Option(says="the field whose last byte is changed, as a recording names it", form="text",
                            optional=True),
            "flip": Option(says="the bits that are turned over", form="int", default=1, least=1, most=255),
        }
    )  # fmt: skip

    def check(self, fault: WireFault) -> None:
        if ("byte" in fault.options) == ("field" in fault.options):
            key = "field" if "field" in fault.options else "byte"
            raise FaultError(key, "the fault 'corrupt' needs either byte, the number of one, or field, the name of one")

    def right_of(self, fault: WireFault) -> Right:
        """Where everything behind it is right, it depends on what the byte says."""
        return "either" if fault.options.get("consistent") else "refuse"

    def worker(self, fault: WireFault, note: Note) -> AtMessage:
        return _Corrupting(self, fault, note)

    def shown(self, proved: Proved, fault: WireFault) -> str | None:
        entry = proved.entries[0]
        if entry.get("message") is None:
            return f"no {fault.at} is among the messages of the {fault.leg} leg"
        return None


class _Corrupting(AtMessage):
    def act(self, item: Item) -> Iterable[Item]:
        byte = self._byte(item)
        if byte is None:
            return (item,)
        return (_flipped(self, item, byte, str(self.fault.options.get("field", ""))),)

    def _byte(self, item: Item) -> int | None:
        options = self.fault.options
        if "byte" in options:
            number = int(str(options["byte"]))
            number += len(item.data) if number < 0 else 0
            return number if 0 <= number < len(item.data) else None
        value = read_item(item, self.note.agreed, self.note.side)
        begins, ends = spans(value).get(str(options["field"]), (0, 0)) if isinstance(value, Struct) else (0, 0)
        return ends - 1 if ends > begins else None


def _flipped(worker: AtMessage, item: Item, byte: int, field: str = "") -> Item:
    flip = int(str(worker.fault.options.get("flip", 1)))
    data = bytearray(item.data)
    data[byte] ^= flip
    what = f"byte {byte}" + (f", in {field}," if field else "")
    text = f"changed {what} of the {item.name} from {item.data[byte]:02x} to {data[byte]:02x}"
    worker.note.applied(text, at=item.name, byte=byte)
    return item.with_data(bytes(data))


class _BrokenField(FaultKind):
    """A kind that breaks one field of one message."""

    field: ClassVar[str]

    def worker(self, fault: WireFault, note: Note) -> AtMessage:
        return _Breaking(self, fault, note, self.field)

    def check(self, fault: WireFault) -> None:
        if fault.at != self.default_at:
            raise FaultError("at", f"the fault {self.name!r} is about the {self.default_at}; use 'corrupt' for others")

    def shown(self, proved: Proved, fault: WireFault) -> str | None:
        if proved.entries[0].get("message") is None:
            return f"no {fault.at} is among the messages of the {fault.leg} leg"
        return None


class _Breaking(AtMessage):
    def __init__(self, kind: FaultKind, fault: WireFault, note: Note, field: str) -> None:
        super().__init__(kind, fault, note)
        self._field = field

    def act(self, item: Item) -> Iterable[Item]:
        value = read_item(item, self.note.agreed, self.note.side)
        begins, ends = spans(value).get(self._field, (0, 0)) if isinstance(value, Struct) else (0, 0)
        return (_flipped(self, item, ends - 1, self._field),) if ends > begins else (item,)


class BadServerKeyExchange(_BrokenField):
    """RFC 5246 7.4.3: the signature over the parameters."""

    name = "bad_server_key_exchange"
    says = "breaks the signature in the ServerKeyExchange of TLS 1.2 and below"
    needs = frozenset({"tls12"})
    default_at = "server_key_exchange"
    field = "signature"


class BadCertificateVerify(_BrokenField):
    """RFC 8446 4.4.3: the signature over the transcript."""

    name = "bad_certificate_verify"
    consistent = True
    says = "breaks the signature in the CertificateVerify"
    default_at = "certificate_verify"
    field = "signature"


class WrongFinished(_BrokenField):
    """RFC 8446 4.4.4, RFC 5246 7.4.9: the verify_data over the transcript."""

    name = "wrong_finished"
    says = "breaks the verify_data in the Finished"
    default_at = "finished"
    field = "verify_data"


class EmptyCertificate(FaultKind):
    """RFC 8446 4.4.2.4, RFC 5246 7.4.2: a server has to have one."""

    name = "empty_certificate"
    consistent = True
    says = "sends a Certificate message with no certificate in it"
    default_at = "certificate"

    def worker(self, fault: WireFault, note: Note) -> AtMessage:
        return _Emptying(self, fault, note)

    def check(self, fault: WireFault) -> None:
        if fault.at != self.default_at:
            raise FaultError("at", f"the fault {self.name!r} is about the {self.default_at}")

    def shown(self, proved: Proved, fault: WireFault) -> str | None:
        if any(not _certificates(one.raw) for one in proved.named(fault, "certificate")):
            return None
        return f"no empty certificate message is among the messages of the {fault.leg} leg"


def _certificates(raw: bytes) -> bytes:
    """The list, whichever form the message has."""
    return raw[7:].strip(b"\0")


class _Emptying(AtMessage):
    def act(self, item: Item) -> Iterable[Item]:
        value = read_item(item, self.note.agreed, self.note.side)
        match value:
            case Certificate13(context=context):
                empty = Certificate13(context, ()).build()
            case Certificate():
                empty = Certificate(()).build()
            case _:
                return (item,)
        self.note.applied("sent a certificate message with no certificate in it", at=item.name)
        return (item.with_data(empty),)


KINDS = (Corrupt, BadServerKeyExchange, BadCertificateVerify, WrongFinished, EmptyCertificate)
