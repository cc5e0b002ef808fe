"""What a comparison is made of."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from countersign.recorder.recording import LegRole, summary

if TYPE_CHECKING:
    from countersign.recorder.recording import Leg, Recording
    from countersign.recorder.wire.reading import LegReading


class Weight(StrEnum):
    """``matters``: a peer can take it otherwise. ``note``: worth knowing, no peer decides by it."""

    MATTERS = "matters"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Half:
    """One of the two legs that are compared, and what it is called in sentences."""

    name: str
    recording: Recording
    leg: Leg
    reading: LegReading


@dataclass(frozen=True, slots=True)
class Evidence:
    """A message of one of the two, and a certificate in it. Reads ``good: message 4, certificate 0``."""

    name: str
    message: int
    certificate: int | None = None

    def __str__(self) -> str:
        where = "" if self.certificate is None else f", certificate {self.certificate}"
        return f"{self.name}: message {self.message}{where}"


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that differs. ``field`` is its path (``client_hello.cipher_suites``, ``chain.leaf.issuer``); ``a`` and
    ``b`` are JSON-able; ``evidence`` are the messages that show it.
    """

    field: str
    text: str
    a: Any = None
    b: Any = None
    weight: Weight = Weight.MATTERS
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """A line of the two ladders side by side: a message number of each leg, or None where it has none there."""

    sender: str
    title: str
    a: int | None
    b: int | None


@dataclass(frozen=True, slots=True)
class Pair:
    """Two legs and what differs between them. ``unseen`` are sentences for what one of them does not show."""

    a: Half
    b: Half
    differences: tuple[Difference, ...]
    unseen: tuple[str, ...]
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """All pairs of legs, and what differs between the sessions as such; the first name is A's, the second B's."""

    names: tuple[str, str]
    recordings: tuple[Recording, Recording]
    session: tuple[Difference, ...]
    pairs: tuple[Pair, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """Those of the names that somebody gave, and that stay as they are wherever they stand."""
        return tuple(name for name in self.names if name not in {f"the {role} leg" for role in LegRole})

    @property
    def differences(self) -> tuple[Difference, ...]:
        """All of them, what matters first."""
        every = [*self.session, *(one for pair in self.pairs for one in pair.differences)]
        return tuple(sorted(every, key=lambda one: one.weight is not Weight.MATTERS))

    @property
    def matters(self) -> bool:
        return any(one.weight is Weight.MATTERS for one in self.differences)

    def to_json(self) -> dict[str, Any]:
        """``{"schema": 1, "differs": bool, "a": {...}, "b": {...}, "session": [...], "legs": [...]}``."""
        a, b = self.recordings
        return {
            "schema": 1,
            "differs": self.matters,
            "a": {"name": self.names[0], **summary(a)},
            "b": {"name": self.names[1], **summary(b)},
            "session": [_difference_json(one) for one in self.session],
            "legs": [_pair_json(pair) for pair in self.pairs],
        }


def _pair_json(pair: Pair) -> dict[str, Any]:
    roles: dict[str, LegRole] = {"a": pair.a.leg.role, "b": pair.b.leg.role}
    return {
        **{side: role.value for side, role in roles.items()},
        "differences": [_difference_json(one) for one in pair.differences],
        "unseen": list(pair.unseen),
        "course": [{"from": step.sender, "type": step.title, "a": step.a, "b": step.b} for step in pair.steps],
    }


def _difference_json(one: Difference) -> dict[str, Any]:
    return {
        "field": one.field,
        "weight": one.weight.value,
        "text": one.text,
        "a": one.a,
        "b": one.b,
        "evidence": [str(each) for each in one.evidence],
    }
