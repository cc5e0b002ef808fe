"""Records cut or padded as nobody does it, and as everybody has to take it (RFC 8446 5.1, 5.4, RFC 5246 6.2.1).

What is said stays the same, so a right client accepts all of this. Of application data so much is cut as makes some
thousand records; cutting a download into bytes would hold up everybody else.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from countersign.proxy.faults.kinds import AtMessage, FaultKind, Note, Option
from countersign.recorder.wire.records import APPLICATION_DATA, HANDSHAKE, MAX_PLAINTEXT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from countersign.proxy.faults.items import Item
    from countersign.proxy.faults.model import WireFault

_RECORDS = 20_000
"""So many records at most are made of application data."""

_ALL = Option(says="everything from there on, application data as well, and not this message alone", form="bool",
              default=False)  # fmt: skip


class SplitRecords(FaultKind):
    """A message in many records."""

    name = "split_records"
    says = "sends a message in records of so many bytes each, in clear or encrypted"
    right = "accept"
    late = True
    default_at = "server_hello"
    options: ClassVar[Mapping[str, Option]] = MappingProxyType(
        {
            "size": Option(
                says="bytes of the message in each record", form="int", default=100, least=1, most=MAX_PLAINTEXT
            ),
            "all": _ALL,
        }
    )

    def worker(self, fault: WireFault, note: Note) -> AtMessage:
        return _Framing(self, fault, note, size=int(str(fault.options["size"])))


class OneByteRecords(FaultKind):
    """The extreme of that."""

    name = "one_byte_records"
    says = "sends every handshake message from one on in records of a single byte, within encryption, too"
    right = "accept"
    late = True
    default_at = "server_hello"
    options: ClassVar[Mapping[str, Option]] = MappingProxyType({"all": replace(_ALL, default=True)})

    def worker(self, fault: WireFault, note: Note) -> AtMessage:
        return _Framing(self, fault, note, size=1)


class RecordPadding(FaultKind):
    """RFC 8446 5.4."""

    name = "record_padding"
    says = "pads encrypted records of TLS 1.3 with so many zeros"
    needs = frozenset({"tls13"})
    right = "accept"
    late = True
    default_at = "encrypted_extensions"
    options: ClassVar[Mapping[str, Option]] = MappingProxyType(
        {
            "zeros": Option(says="how many, as far as they fit", form="int", default=256, least=1, most=MAX_PLAINTEXT),
            "all": replace(_ALL, default=True),
        }
    )

    def worker(self, fault: WireFault, note: Note) -> AtMessage:
        return _Framing(self, fault, note, padding=int(str(fault.options["zeros"])))


class _Framing(AtMessage):
    def __init__(
        self, kind: FaultKind, fault: WireFault, note: Note, *, size: int = MAX_PLAINTEXT, padding: int = 0
    ) -> None:
        super().__init__(kind, fault, note)
        self._size = size
        self._padding = padding
        self._begun = False
        self._records = _RECORDS

    def take(self, item: Item) -> Iterable[Item]:
        if self._begun and self.fault.options["all"] and self._can_act(item):
            return (self._framed(item),)
        return super().take(item)

    def act(self, item: Item) -> Iterable[Item]:
        framed = self._framed(item)
        if framed is item:
            return (item,)
        self._begun = True
        behind = " and what is behind it" if self.fault.options["all"] else ""
        if self._padding:
            text = f"padded the record of the {item.name}{behind} with {framed.padding} zeros"
        else:
            text = f"sent the {item.name}{behind} in records of {self._size} byte{'s' * (self._size != 1)}"
        self.note.applied(text, at=item.name)
        return (framed,)

    def _framed(self, item: Item) -> Item:
        """Alerts and ChangeCipherSpec must not be cut (RFC 8446 5.1), and there is no padding in clear."""
        if item.content_type not in {HANDSHAKE, APPLICATION_DATA} or (self._padding and not item.epoch):
            return item
        size = min(self._size, item.record_size)
        if not self._padding and len(item.data) <= size:
            return item
        if item.content_type == APPLICATION_DATA:
            self._records -= len(item.data) // size
            if self._records < 0:
                return item
        room = MAX_PLAINTEXT - min(len(item.data), size)
        return replace(item.with_data(item.data), record_size=size, padding=max(item.padding, min(self._padding, room)))


KINDS = (SplitRecords, OneByteRecords, RecordPadding)
