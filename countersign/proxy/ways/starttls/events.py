"""What a dialect says of a dialogue before TLS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from countersign.recorder.wire.events import Side


@dataclass(frozen=True, slots=True)
class Forward:
    """Bytes of ``side`` that its peer may have."""

    side: Side
    data: bytes


@dataclass(frozen=True, slots=True)
class Said:
    """A line or a message of ``side`` as it may be told: without credentials. Lines have their end."""

    side: Side
    text: str


@dataclass(frozen=True, slots=True)
class Asked:
    """The client has asked for TLS. What it says from now on waits for the answer."""


@dataclass(frozen=True, slots=True)
class Agreed:
    """The server has agreed: from here nothing in clear is passed on in either direction."""


@dataclass(frozen=True, slots=True)
class Declined:
    """The server has not agreed, in these words; the dialogue goes on in clear."""

    text: str


@dataclass(frozen=True, slots=True)
class Upgraded:
    """The client begins TLS with these bytes. The dialogue is over."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Settled:
    """No TLS can come any more, for this reason: what follows is relayed and not looked at."""

    reason: str


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that is not as the protocol says; a problem of the recording."""

    side: Side
    field: str
    expected: str
    got: str


Event = Forward | Said | Asked | Agreed | Declined | Upgraded | Settled | Violation
