"""What the machines say to whoever moves their bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from countersign.proxy.settings import Address
    from countersign.recorder.recording import FailureCode, Party


@dataclass(frozen=True, slots=True)
class Send:
    """Bytes for the peer whose bytes were received."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Wanted:
    """The client has named its target: it is to be dialled, and the machine told how that went."""

    target: Address


@dataclass(frozen=True, slots=True)
class Redial:
    """The upstream proxy goes on only on a new connection: close this one, dial again, and ``begin`` again."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The way is open. ``rest`` is what came behind the dialogue; it belongs to what flows through."""

    rest: bytes = b""


@dataclass(frozen=True, slots=True)
class Refused:
    """It ends here. ``text`` is the end of a sentence that begins with the party ``by``."""

    by: Party
    code: FailureCode
    text: str


@dataclass(frozen=True, slots=True)
class Exchanged:
    """One HTTP exchange is over, as far as it went: what a recording's ``http`` keeps of it."""

    record: Mapping[str, Any]
