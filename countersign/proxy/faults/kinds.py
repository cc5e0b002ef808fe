"""What every kind of fault is: a name, a sentence, options that are checked, a worker that does it, and a proof.

There are two sorts, and a direction of a leg has first the ones and then the others in its way:

- *message faults* take the place of messages by other ones (:class:`MessageWorker`): they see each message whole, in
  clear, before it is put into records and, where it is to be, encrypted again;
- *stream faults* do something to the bytes that then go out (:class:`StreamWorker`): they see each record as it will be
  on the wire, with marks where messages begin and end in it, and say what is to be done with it, and when.

A worker is made for one fault on one connection. It says :meth:`Note.applied` at the moment at which what it does goes
out, and never before: a fault of which the recording says nothing was not on the wire.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from countersign.errors import UserError
from countersign.recorder.wire.events import Side
from countersign.recorder.wire.messages import message_type
from countersign.recorder.wire.names import alert_number

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from countersign.proxy.faults.effects import Effect, Stretch
    from countersign.proxy.faults.items import Item
    from countersign.proxy.faults.model import Place, WireFault
    from countersign.proxy.sealer import Agreed
    from countersign.recorder.recording import Leg, Recording
    from countersign.recorder.wire.events import Message

Right = Literal["refuse", "accept", "either"]
"""What a right client does that meets a fault with its defaults."""


class FaultError(UserError):
    """A fault that cannot be as it is written; ``key`` is the key at fault."""

    def __init__(self, key: str, text: str) -> None:
        super().__init__(text)
        self.key = key


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One of a kind's own keys. ``form`` is what its value is; ``alert`` is an alert's name or number.

    ``bytes`` are written in hex. ``least`` and ``most`` bound numbers, and the length of bytes. Without a ``default``
    the key has to be there, unless it is ``optional``.
    """

    says: str
    form: Literal["int", "float", "bool", "text", "bytes", "alert"]
    default: object = None
    optional: bool = False
    least: int | None = None
    most: int | None = None
    choices: tuple[object, ...] = ()

    def read(self, do: str, key: str, value: object) -> object:
        """The value as workers get it. Raises :class:`FaultError`."""
        took = self._take(value)
        if took is None:
            raise FaultError(key, f"the fault {do!r} cannot take {key} = {value!r}: {self.expected()}")
        return took

    def expected(self) -> str:
        """What the value has to be, in words."""
        if self.choices:
            return f"expected one of {', '.join(map(repr, self.choices))}"
        words = {
            "int": "a whole number",
            "float": "a number",
            "bool": "true or false",
            "text": "a text",
            "bytes": "bytes in hex, as in '0a ff'",
            "alert": "an alert's name, as in 'unknown_ca', or its number",
        }[self.form]
        if self.least is not None and self.most is not None:
            words += f" from {self.least} to {self.most}"
        elif self.least is not None:
            words += f", at least {self.least}"
        elif self.most is not None:
            words += f", at most {self.most}"
        return f"expected {words}" + (" (its length)" if self.form == "bytes" and self.least is not None else "")

    def _take(self, value: object) -> object | None:
        took = self._converted(value)
        if took is None or (self.choices and took not in self.choices):
            return None
        size = len(took) if isinstance(took, bytes) else took
        if isinstance(size, int | float) and not isinstance(size, bool):
            if self.least is not None and size < self.least:
                return None
            if self.most is not None and size > self.most:
                return None
        return took

    def _converted(self, value: object) -> object | None:
        match self.form:
            case "bool":
                return value if isinstance(value, bool) else None
            case "int":
                return value if isinstance(value, int) and not isinstance(value, bool) else None
            case "float":
                return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
            case "text":
                return value if isinstance(value, str) else None
            case "bytes":
                return _bytes(value)
            case "alert":
                if isinstance(value, str):
                    return alert_number(value)
                return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255 else None


def _bytes(value: object) -> bytes | None:
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        return None
    try:
        return bytes.fromhex(value)
    except ValueError:
        return None


OCCURRENCE = Option(says="which message of that name, counted from 1", form="int", default=1, least=1)
"""Every kind has this option."""

_CONSISTENT = "what is signed and hashed behind it is made right again, on the client leg in TLS 1.3"


class Note(Protocol):
    """The direction that a worker is in, and where it says what it has done. ``side`` is whose bytes go through it."""

    side: Side

    @property
    def agreed(self) -> Agreed:
        """What the hellos of this leg say, as far as they have passed."""

    def can_seal(self, epoch: int) -> bool:
        """Whether a message of ours can go out in this epoch (:mod:`countersign.proxy.sealer`)."""

    def applied(self, text: str, *, at: str | None = None, byte: int | None = None, sent: bool = True) -> None:
        """It goes out now. ``at`` is the message it was done to, ``byte`` the byte of that message where it begins.

        ``sent`` is false where that message is not sent at all.
        """


class MessageWorker(Protocol):
    """Does one message fault in one direction of one connection."""

    def take(self, item: Item) -> Iterable[Item]:
        """What goes on in the place of this message; at most all that was kept back before, too."""

    def rest(self) -> Iterable[Item]:
        """The sender waits for an answer now: what was kept back goes on as it is."""


class AtMessage(ABC):
    """A message worker that acts once, on the message that its fault names, in the version that its kind needs."""

    def __init__(self, kind: FaultKind, fault: WireFault, note: Note) -> None:
        self.kind = kind
        self.fault = fault
        self.note = note
        self._seen = 0

    def take(self, item: Item) -> Iterable[Item]:
        """:meth:`MessageWorker.take`."""
        if item.name == self.fault.at:
            self._seen += 1
            if self._seen == self.fault.options.get("occurrence", 1) and self._can_act(item):
                return self.act(item)
        return (item,)

    def _can_act(self, item: Item) -> bool:
        needs, tls13 = self.kind.needs, self.note.agreed.tls13
        version_fits = ("tls13" not in needs or tls13) and ("tls12" not in needs or not tls13)
        return version_fits and item.opened and self.note.can_seal(item.epoch)

    @abstractmethod
    def act(self, item: Item) -> Iterable[Item]:
        """What goes on in the place of the message."""

    def rest(self) -> Iterable[Item]:
        """:meth:`MessageWorker.rest`."""
        return ()


class StreamWorker(Protocol):
    """Does one stream fault in one direction of one connection."""

    def begin(self) -> Iterable[Effect]:
        """What is done before the first byte."""

    def take(self, stretch: Stretch) -> Iterable[Effect | Stretch]:
        """What is done in the place of sending this. The next fault sees the stretches among it; the rest is final."""


@dataclass(frozen=True, slots=True)
class Proved:
    """The entries that a fault has left on a recording, and the leg on which they are."""

    leg: Leg
    entries: tuple[Mapping[str, Any], ...]

    def messages(self, fault: WireFault) -> list[tuple[str, Message]]:
        """What was sent on the leg in the direction of this fault, with its names."""
        side = Side.CLIENT if sender_is_client(fault) else Side.SERVER
        return [(message_type(one.content, one.code, one.raw), one) for one in self.leg.messages if one.sender is side]

    def named(self, fault: WireFault, name: str) -> list[Message]:
        """The messages of that name in the direction of this fault."""
        return [message for each, message in self.messages(fault) if each == name]


def sender_is_client(fault: WireFault) -> bool:
    """Whether the bytes that such a fault is about come from the TLS client of the leg."""
    return (fault.leg == "client") == (fault.to == "proxy")


class FaultKind(ABC):
    """One kind. What it is stands in its class; an instance is the kind, not one fault of it.

    ``needs``: ``tls13``, or ``tls12`` for what is for TLS 1.2 and below; in another version nothing is done.
    ``late``: it is about records, and not about what is said in them. ``consistent``: whether, on the client leg in TLS
    1.3, what is signed and hashed behind the fault is made right again (:mod:`.recast`), unless a fault says otherwise
    by the option of that name; None for kinds to which it means nothing.
    ``sides``: who the faulted bytes may be for. ``default_at`` and ``default_place`` are for a fault that says none.
    """

    name: ClassVar[str]
    says: ClassVar[str]
    needs: ClassVar[frozenset[Literal["tls13", "tls12"]]] = frozenset()
    right: ClassVar[Right] = "refuse"
    sides: ClassVar[frozenset[Literal["client", "proxy", "target"]]] = frozenset({"client", "proxy", "target"})
    options: ClassVar[Mapping[str, Option]] = MappingProxyType({})
    places: ClassVar[frozenset[Place]] = frozenset({"before"})
    default_at: ClassVar[str] = "server_hello"
    default_place: ClassVar[Place] = "before"
    sort: ClassVar[Literal["message", "stream"]] = "message"
    late: ClassVar[bool] = False
    consistent: ClassVar[bool | None] = None

    def check(self, fault: WireFault) -> None:  # noqa: B027 - most kinds have nothing to add
        """What of a fault, beyond its options one by one, cannot be. Raises :class:`FaultError`."""

    @property
    def known(self) -> Mapping[str, Option]:
        """The keys that a fault of this kind can have, beside those that every fault has."""
        if self.consistent is None:
            return {**self.options, "occurrence": OCCURRENCE}
        consistent = Option(says=_CONSISTENT, form="bool", default=self.consistent)
        return {**self.options, "occurrence": OCCURRENCE, "consistent": consistent}

    def right_of(self, fault: WireFault) -> Right:  # noqa: ARG002 - for kinds to which it matters
        """What a right client does that meets this fault of the kind."""
        return self.right

    @abstractmethod
    def worker(self, fault: WireFault, note: Note) -> Any:
        """A :class:`MessageWorker` or :class:`StreamWorker`, as ``sort`` says, for one connection."""

    def proof(self, recording: Recording, fault: WireFault) -> str | None:
        """Why the recording does not prove that this fault was on the wire; None where it does."""
        proved = entries_of(recording, fault)
        if isinstance(proved, str):
            return proved
        return None if fault.to == "proxy" else self.shown(proved, fault)

    def shown(self, proved: Proved, fault: WireFault) -> str | None:  # noqa: ARG002 - for kinds that look at messages
        """What the recorded messages lack that this fault would show there; None where they lack nothing.

        What was faulted on its way to the proxy is recorded as it came, so there is nothing to be seen of the fault.
        """
        return None


def entries_of(recording: Recording, fault: WireFault) -> Proved | str:
    """What this fault has left on the recording, or why there is nothing."""
    legs = [leg for leg in recording.legs if leg.role.value in {fault.leg, "through"}]
    if not legs:
        return f"the fault {fault.do!r} was not applied: the session has no {fault.leg} leg"
    entries = tuple(
        each for each in legs[0].faults if each.get("do") == fault.do and each.get("of", fault.at) == fault.at
    )
    if not entries:
        place = f"no {fault.at} that it could be done to passed on the {fault.leg} leg to the {fault.to}"
        return f"the fault {fault.do!r} was not applied: {place}"
    return Proved(legs[0], entries)
