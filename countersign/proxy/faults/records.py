"""From records to messages and back: the two ends of a direction that has faults in its way.

The :class:`Reader` takes bytes in any slicing and gives whole messages, in clear. The :class:`Writer` takes messages
and gives records. What nobody has touched comes out as it went in, byte for byte: a record that has lost nothing of
what it held, at the same place in the sequence of its key, is passed on as it is.

A handshake message may lie in several records, and a record may hold several messages (RFC 8446 5.1). The pieces of a
message remember their records, so that the writer can put them together again; something new always gets records of
its own, and what was cut in two by it continues in the next one.

What cannot be read as TLS, or what declares to be longer than anything that is worth waiting for, is passed on as it
is from there on (*blind*), and no fault finds anything in it. So is what is renegotiated within TLS 1.2: the messages
are there, but which keys follow is not looked after.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from countersign.proxy.faults.effects import Mark, Stretch
from countersign.proxy.faults.items import Item, Origin, Piece
from countersign.proxy.sealer import APPLICATION, CLEAR, HANDSHAKE, Agreed, Keyring, RecordKey, RecordKey13
from countersign.recorder.wire import records
from countersign.recorder.wire.events import Content, Side
from countersign.recorder.wire.extensions import SelectedVersion
from countersign.recorder.wire.messages import ClientHello, HelloRetryRequest, ServerHello, decode_message, message_type
from countersign.recorder.wire.names import content_type_name

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEADER = 5
_LONGEST_MESSAGE = 1 << 20
_HELD = 1 << 20  # bytes that wait for a key at most
_TYPES = range(records.CHANGE_CIPHER_SPEC, records.HEARTBEAT + 1)


class Reader:
    """The messages of one direction. Feed bytes, then take :meth:`items`; again when secrets have come."""

    def __init__(self, side: Side, ring: Keyring) -> None:
        self.side = side
        self._ring = ring
        self._agreed = ring.agreed
        self._waiting = bytearray()
        self._epoch = CLEAR
        self._generation = 0
        self._key: RecordKey | None = None
        self._begun = bytearray()  # a handshake message whose end has not come
        self._pieces: list[Piece] = []
        self._blind = False

    def feed(self, data: bytes | memoryview) -> None:
        """The next bytes of this side."""
        self._waiting += data

    @property
    def within(self) -> bool:
        """Whether a message was begun whose end has not come."""
        return bool(self._begun)

    @property
    def holds(self) -> bool:
        """Whether anything waits for its rest, or for a key."""
        return bool(self._waiting or self._begun)

    def let_go(self) -> bytes:
        """Nothing more is fed: the record that has only begun."""
        waiting = bytes(self._waiting)
        self._waiting.clear()
        return waiting

    def items(self) -> Iterator[Item]:
        """What there is as whole messages."""
        while True:
            if self._blind:
                if self._waiting:
                    raw = bytes(self._waiting)
                    self._waiting.clear()
                    yield Item(name="", content_type=0, data=raw, opened=False)
                return
            if len(self._waiting) < _HEADER:
                return
            content_type, version, length = (
                self._waiting[0],
                int.from_bytes(self._waiting[1:3]),
                int.from_bytes(self._waiting[3:5]),
            )
            if content_type not in _TYPES or version >> 8 != 3 or length > records.MAX_RECORD:
                yield from self._give_up()
                continue
            if len(self._waiting) < _HEADER + length:
                return
            raw = bytes(self._waiting[: _HEADER + length])
            origin = self._opened(raw)
            if origin is None:
                if len(self._waiting) <= _HELD:
                    return  # its key is on its way
                yield from self._give_up()
                continue
            del self._waiting[: _HEADER + length]
            kind, record = origin
            if kind < 0:
                yield self._unopened(record)
            else:
                yield from self._messages(kind, version, record)

    def _opened(self, raw: bytes) -> tuple[int, Origin] | None:
        """The inner type and the record; a type of -1 where it cannot be opened, None where that has to be awaited."""
        agreed, kind = self._agreed, raw[0]
        if agreed.tls13 and kind != records.APPLICATION_DATA:
            return kind, Origin(raw, raw[_HEADER:], CLEAR)
        if self._epoch == CLEAR:
            if not agreed.tls13:
                early = kind == records.APPLICATION_DATA
                return (-1 if early else kind), Origin(raw, raw[_HEADER:], CLEAR)
            self._epoch = HANDSHAKE
        if self._key is None:
            self._key = self._ring.key(self.side, self._epoch)
            if self._key is None:
                if self._ring.may_come:
                    return None
                return -1, Origin(raw, raw[_HEADER:], self._epoch)
        count = self._key.count
        opened = self._key.open(raw)
        if opened is None:  # early data, or broken: nobody's business here
            return -1, Origin(raw, raw[_HEADER:], self._epoch)
        inner, payload, padding = opened
        return inner, Origin(raw, payload, self._epoch, self._generation, count, padding)

    def _unopened(self, record: Origin) -> Item:
        """Below TLS 1.3 the first handshake record behind the change-cipher-spec is the Finished (RFC 5246 7.4.9)."""
        kind = record.raw[0]
        name = "finished" if kind == records.HANDSHAKE and record.epoch == HANDSHAKE else content_type_name(kind)
        return Item(
            name=name,
            content_type=kind,
            data=record.payload,
            epoch=record.epoch,
            then=record.epoch,
            pieces=(Piece(record.payload, record, last=True),),
            opened=False,
        )

    def _messages(self, kind: int, version: int, record: Origin) -> Iterator[Item]:
        if kind != records.HANDSHAKE or not record.payload:
            yield from self._others(kind, version, record)
            return
        at, payload = 0, record.payload
        while at < len(payload):
            self._begun += payload[at : at + max(4 - len(self._begun), 0)]
            taken = len(self._begun) - sum(len(piece.data) for piece in self._pieces)
            if len(self._begun) < 4:
                self._pieces.append(Piece(payload[at:], record, last=True))
                return
            size = 4 + int.from_bytes(self._begun[1:4])
            if size > _LONGEST_MESSAGE:
                yield from self._give_up(record, at)
                return
            self._begun += payload[at + taken : at + taken + size - len(self._begun)]
            end = at + len(self._begun) - sum(len(piece.data) for piece in self._pieces)
            self._pieces.append(Piece(payload[at:end], record, last=end == len(payload)))
            at = end
            if len(self._begun) == size:
                yield self._whole(version)

    def _whole(self, version: int) -> Item:
        data, pieces = bytes(self._begun), tuple(self._pieces)
        self._begun.clear()
        self._pieces.clear()
        name, epoch = message_type(Content.HANDSHAKE, data[0], data), pieces[0].origin.epoch
        then = self._learn(name, data, epoch)
        return Item(
            name=name,
            content_type=records.HANDSHAKE,
            data=data,
            epoch=epoch,
            then=then,
            version=version,
            pieces=pieces,
            padding=pieces[-1].origin.padding,
        )

    def _learn(self, name: str, data: bytes, epoch: int) -> int:
        """What this message changes for what follows it; the epoch that is in force then."""
        agreed = self._agreed
        if name in {"client_hello", "server_hello", "hello_retry_request"} and epoch == CLEAR:
            learn(agreed, data)
            return HANDSHAKE if name == "server_hello" and agreed.tls13 else CLEAR
        if agreed.tls13 and name == "finished" and epoch == HANDSHAKE:
            self._epoch, self._key = APPLICATION, None
            return APPLICATION
        if agreed.tls13 and name == "key_update" and isinstance(self._key, RecordKey13):
            self._key = self._key.updated()
            self._generation += 1
        return epoch

    def _others(self, kind: int, version: int, record: Origin) -> Iterator[Item]:
        payload, epoch = record.payload, record.epoch
        parts = [payload]
        if kind == records.ALERT and payload and not len(payload) % 2:
            parts = [payload[at : at + 2] for at in range(0, len(payload), 2)]
        if kind == records.CHANGE_CIPHER_SPEC and not self._agreed.tls13 and epoch == CLEAR:
            self._epoch = HANDSHAKE
        then = max(epoch, self._epoch) if kind == records.CHANGE_CIPHER_SPEC else epoch
        for number, part in enumerate(parts, start=1):
            yield Item(
                name=content_type_name(kind),
                content_type=kind,
                data=part,
                epoch=epoch,
                then=then,
                version=version,
                pieces=(Piece(part, record, last=number == len(parts)),),
                padding=record.padding,
            )

    def _give_up(self, record: Origin | None = None, at: int = 0) -> Iterator[Item]:
        """From here on bytes are bytes."""
        self._blind = True
        pieces = list(self._pieces)
        if record is not None:
            pieces.append(Piece(record.payload[at:], record, last=True))
        self._pieces.clear()
        self._begun.clear()
        for piece in pieces:
            yield Item(
                name="",
                content_type=records.HANDSHAKE,
                data=piece.data,
                epoch=piece.origin.epoch,
                then=piece.origin.epoch,
                pieces=(piece,),
            )


def learn(agreed: Agreed, data: bytes) -> None:
    """What a hello says that keys depend on. Hellos that cannot be read say nothing."""
    value = decode_message(data).value
    if isinstance(value, ClientHello):
        agreed.client_hello = agreed.client_hello or value
        agreed.client_random = agreed.client_hello.random
    elif isinstance(value, ServerHello | HelloRetryRequest):
        chosen = [each.selected_version for each in value.extensions or () if isinstance(each, SelectedVersion)]
        agreed.version = chosen[0] if chosen else value.legacy_version
        agreed.suite = value.cipher_suite
        if isinstance(value, ServerHello):
            agreed.server_random = value.random


class Writer:
    """Puts messages into records. Each item given is answered by what can go out now; :meth:`flush` ends a record."""

    def __init__(self, side: Side, ring: Keyring, source: Keyring) -> None:
        self.side = side
        self._ring = ring
        self._same_keys = ring is source
        self._keys: dict[int, RecordKey | None] = {}
        self._generation = 0
        self._open: list[tuple[Item, Piece, int]] = []  # what is in the record that is not ended: where it begins

    def can_seal(self, epoch: int) -> bool:
        """Whether something of ours can go out under these keys."""
        return epoch == CLEAR or self._key(epoch) is not None

    def write(self, item: Item) -> Iterator[Stretch]:
        """The records that end with this item or within it."""
        if not item.name and not item.pieces:
            yield from self.flush()
            yield Stretch(item.data)
            return
        if not item.pieces:
            yield from self.flush()
            yield from self._new(item)
            return
        at = 0
        for piece in item.pieces:
            if self._open and self._open[-1][1].origin is not piece.origin:
                yield from self.flush()
            self._open.append((item, piece, at))
            at += len(piece.data)
            if piece.last:
                yield from self.flush()
        self._update(item)

    def flush(self) -> Iterator[Stretch]:
        """End the record that is being put together."""
        if not self._open:
            return
        parts, self._open = self._open, []
        first, origin = parts[0][0], parts[0][1].origin
        payload = b"".join(piece.data for _, piece, _ in parts)
        key = None if origin.epoch == CLEAR else self._key(origin.epoch)
        untouched = payload == origin.payload and self._in_step(key, origin)
        if not first.opened or untouched:
            raw = origin.raw
            if key is not None and first.opened:
                key.count += 1
        elif key is None:
            raw = _plain(first.content_type, first.version, payload)
        else:
            raw = key.seal(first.content_type, first.version, payload, origin.padding)
        yield Stretch(raw, _marks([(item, len(piece.data), at) for item, piece, at in parts], _skip(key)))

    def _in_step(self, key: RecordKey | None, origin: Origin) -> bool:
        if origin.epoch == CLEAR:
            return True
        return (
            self._same_keys
            and key is not None
            and key.count == origin.count
            and (origin.epoch != APPLICATION or self._generation == origin.generation)
        )

    def _new(self, item: Item) -> Iterator[Stretch]:
        key = None if item.epoch == CLEAR else self._key(item.epoch)
        size = max(item.record_size, 1)
        for at in range(0, len(item.data), size) or (0,):
            part = item.data[at : at + size]
            if key is None:
                raw = _plain(item.content_type, item.version, part)
            else:
                raw = key.seal(item.content_type, item.version, part, item.padding)
            yield Stretch(raw, _marks([(item, len(part), at)], _skip(key)))
        self._update(item)

    def _update(self, item: Item) -> None:
        """What is written behind a KeyUpdate is under the next key (RFC 8446 7.2)."""
        key = self._keys.get(APPLICATION)
        if item.name == "key_update" and item.epoch == APPLICATION and isinstance(key, RecordKey13):
            self._keys[APPLICATION] = key.updated()
            self._generation += 1

    def _key(self, epoch: int) -> RecordKey | None:
        found = self._keys.get(epoch)
        if found is None:
            found = self._keys[epoch] = self._ring.key(self.side, epoch)
        return found


def _skip(key: RecordKey | None) -> int:
    """What of a record is before the first byte of what it holds."""
    return _HEADER + (0 if key is None else key.explicit)


def _plain(content_type: int, version: int, payload: bytes) -> bytes:
    return bytes([content_type]) + version.to_bytes(2) + len(payload).to_bytes(2) + payload


def _marks(parts: list[tuple[Item, int, int]], skip: int) -> tuple[Mark, ...]:
    marks, begins = [], skip
    for item, length, at in parts:
        marks.append(Mark(item.name, begins, begins + length, at, len(item.data)))
        begins += length
    return tuple(marks)
