"""One direction of a leg with faults in its way: bytes in, effects out, and nothing known of sockets or clocks.

    bytes -> Reader -> message faults, one after another -> Writer -> stream faults, one after another -> effects

Of the message faults those that change what is said come first, and those that cut and pad records behind them.

What comes out depends on the bytes alone and not on how they were sliced: a record is worked on when it is whole, a
message when all of it is there. A :class:`Way` for what OpenSSL sends is given all of it; that it has nothing more to
say before it gets an answer is told by :meth:`Way.rest`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from countersign.proxy.faults.effects import Applied, Close, Effect, Send, Stretch
from countersign.proxy.faults.items import END, Item
from countersign.proxy.faults.records import Reader, Writer
from countersign.proxy.sealer import APPLICATION
from countersign.recorder.wire.records import ALERT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from countersign.proxy.faults.kinds import FaultKind, MessageWorker, StreamWorker
    from countersign.proxy.faults.model import WireFault
    from countersign.proxy.sealer import Agreed, Keyring
    from countersign.recorder.wire.events import Side


@dataclass(slots=True)
class _Note:
    """:class:`~countersign.proxy.faults.kinds.Note` of one fault."""

    way: Way
    fault: WireFault
    side: Side

    @property
    def agreed(self) -> Agreed:
        return self.way.agreed

    def can_seal(self, epoch: int) -> bool:
        return self.way.writer.can_seal(epoch)

    def applied(self, text: str, *, at: str | None = None, byte: int | None = None, sent: bool = True) -> None:
        self.way.notes.append(Applied(self.fault.do, text, at, byte, sent, of=self.fault.at))


class Way:
    """What ``side`` sends. ``source`` has the keys under which it comes, ``wire`` those under which it is to go on.

    Two workers may be ``around`` the faults that change what is said: one sees it before them, the other behind them.
    """

    def __init__(
        self,
        side: Side,
        faults: Sequence[tuple[FaultKind, WireFault]],
        *,
        source: Keyring,
        wire: Keyring,
        around: tuple[MessageWorker, MessageWorker] | None = None,
    ) -> None:
        self.reader = Reader(side, source)
        self.writer = Writer(side, wire, source)
        self.agreed = source.agreed
        self.notes: list[Applied] = []
        self._wire = wire
        self._items: Iterator[Item] | None = None
        self._blocked: Item | None = None
        made = [(kind, kind.worker(fault, _Note(self, fault, side))) for kind, fault in faults]
        said = [cast("MessageWorker", each) for kind, each in made if kind.sort == "message" and not kind.late]
        cut = [cast("MessageWorker", each) for kind, each in made if kind.sort == "message" and kind.late]
        first, last = ((around[0],), (around[1],)) if around is not None else ((), ())
        self._messages = [*first, *said, *last, *cut]
        self._streams = [cast("StreamWorker", each) for kind, each in made if kind.sort == "stream"]

    def begin(self) -> list[Effect]:
        """What is done before the first byte."""
        out: list[Effect] = []
        for worker in self._streams:
            done = list(worker.begin())
            out += [*self._take_notes(), *done]
        return out

    def feed(self, data: bytes | memoryview) -> list[Effect]:
        """What is done now that these bytes have come."""
        self.reader.feed(data)
        return self.again()

    def again(self) -> list[Effect]:
        """What is done now, perhaps because there are new keys."""
        out: list[Effect] = []
        while (item := self._next()) is not None:
            if item.opened and not self.writer.can_seal(item.epoch) and self._wire.may_come:
                self._blocked = item
                break
            self._pass(item, 0, out)
        if not self.reader.within and self._blocked is None:
            self._end_record(out)
        return out + self._take_notes()

    def _next(self) -> Item | None:
        """The next message; one that waited for keys first."""
        item, self._blocked = self._blocked, None
        if item is not None:
            return item
        self._items = self._items or self.reader.items()
        item = next(self._items, None)
        if item is None:
            self._items = None
        return item

    def say(self, level: int, description: int) -> list[Effect]:
        """Send an alert of ours behind what has been sent, under application keys; nothing where that cannot be."""
        if not self.agreed.tls13 or not self.writer.can_seal(APPLICATION):
            return []
        out = self.rest()
        nothing = Item(name="", content_type=ALERT, data=b"", epoch=APPLICATION)
        for stretch in self.writer.write(nothing.alert(level, description, epoch=APPLICATION)):
            out.append(Send(stretch.data))
        return out

    def rest(self) -> list[Effect]:
        """What was kept back goes on: its sender waits for an answer."""
        out: list[Effect] = []
        for number, worker in enumerate(self._messages):
            for item in worker.rest():
                self._pass(item, number + 1, out)
        if not self.reader.within:
            self._end_record(out)
        return out + self._take_notes()

    def _pass(self, item: Item, number: int, out: list[Effect]) -> None:
        """Bring this message through the message faults from the given one on, and into records."""
        if number < len(self._messages):
            for each in self._messages[number].take(item):
                self._pass(each, number + 1, out)
            return
        if item.content_type == END:
            self._end_record(out)
            out += [*self._take_notes(), Close()]
            return
        for stretch in self.writer.write(item):
            self._send(stretch, out)

    def _end_record(self, out: list[Effect]) -> None:
        for stretch in self.writer.flush():
            self._send(stretch, out)

    def _send(self, stretch: Stretch, out: list[Effect]) -> None:
        out += self._take_notes()
        effects: list[Effect | Stretch] = [stretch]
        for worker in self._streams:
            taken, effects = effects, []
            for each in taken:
                effects += self._noted(worker.take(each)) if isinstance(each, Stretch) else [each]
        out += [Send(each.data) if isinstance(each, Stretch) else each for each in effects]

    def _noted(self, effects: Iterable[Effect | Stretch]) -> list[Effect | Stretch]:
        done = list(effects)
        return [*self._take_notes(), *done]

    def _take_notes(self) -> list[Effect]:
        notes: list[Effect] = list(self.notes)
        self.notes.clear()
        return notes
