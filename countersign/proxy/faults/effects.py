"""What leaves a direction that has faults in its way: records with marks on them, and what is to be done with them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a message, or the part of it that is in this record, is among the record's bytes.

    The part is ``data[begins:ends]`` of its :class:`Stretch` (encrypted, where the record is), and begins with byte
    ``at`` of the message, which has ``size`` bytes in all. ``name`` is as in a fault's ``at``.
    """

    name: str
    begins: int
    ends: int
    at: int
    size: int

    @property
    def first(self) -> bool:
        """Whether the message begins here."""
        return self.at == 0

    @property
    def last(self) -> bool:
        """Whether the message ends here."""
        return self.at + self.ends - self.begins == self.size


@dataclass(frozen=True, slots=True)
class Stretch:
    """One record as it goes on the wire, header included, or bytes that are no record (then without marks)."""

    data: bytes
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True, slots=True)
class Send:
    """These bytes go out."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Pieces:
    """These bytes go out in segments of ``size`` bytes, with ``every`` seconds behind each."""

    data: bytes | memoryview
    size: int
    every: float = 0.0


@dataclass(frozen=True, slots=True)
class Gather:
    """What goes out in the next so many seconds is held back, and then goes out at once."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing more goes out for so long; what comes meanwhile waits behind it."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Silence:
    """Nothing goes out any more, and the connection stays open."""


@dataclass(frozen=True, slots=True)
class Finish:
    """Our direction ends (TCP FIN), and nothing goes out any more; the other direction stays open."""


@dataclass(frozen=True, slots=True)
class Close:
    """The connection is closed in both directions, by FIN."""


@dataclass(frozen=True, slots=True)
class Reset:
    """The connection is reset."""


@dataclass(frozen=True, slots=True)
class Applied:
    """A fault is on the wire with what goes out next; what the recording tells of it.

    ``byte`` is one of the message ``at``, which may not have been ``sent`` at all. ``of`` is the ``at`` of the fault.
    """

    do: str
    text: str
    at: str | None = None
    byte: int | None = None
    sent: bool = True
    of: str | None = None


Effect = Send | Pieces | Gather | Wait | Silence | Finish | Close | Reset | Applied
"""What is done, one after the other. Behind a silence or an end nothing is done any more."""
