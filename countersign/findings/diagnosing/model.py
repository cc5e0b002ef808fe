"""What a diagnosis is made of, and the kinds of findings that there are."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class Severity(StrEnum):
    """``cause``: this broke it, or may have; ``warning``: it will break some clients; ``note``: worth knowing."""

    CAUSE = "cause"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Kind:
    """What all findings of one kind have in common. ``fixes`` maps a family of clients to its own words for the cure;
    in ``fix``, and in these, ``{name}`` stands for what the finding knows.
    """

    id: str
    title: str
    fix: str
    source: str
    fixes: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


@cache
def kinds() -> Mapping[str, Kind]:
    """Every kind by its id."""
    text = resources.files(__package__).joinpath("kinds.toml").read_text("utf-8")
    return MappingProxyType({name: _kind(name, table) for name, table in tomllib.loads(text).items()})


def _kind(name: str, table: dict[str, Any]) -> Kind:
    others = {key: value for key, value in table.items() if key not in {"title", "fix", "source"}}
    return Kind(name, table["title"], table["fix"], table["source"], MappingProxyType(others))


@dataclass(frozen=True, slots=True)
class Found:
    """A finding before it is put into words. ``rank`` orders causes: the lower, the more of it the wire proves.

    0: the wire says so by itself. 1: it is there, and it fits what ended the session. 2: it is there, and what ended
    the session says nothing of it. 3: nothing else is left.
    """

    id: str
    text: str
    evidence: tuple[str, ...] = ()
    severity: Severity = Severity.CAUSE
    rank: int = 1
    values: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Finding:
    """A cause, its evidence and its cure."""

    id: str
    severity: Severity
    title: str
    text: str
    evidence: tuple[str, ...]
    fix: str
    source: str

    def to_json(self) -> dict[str, Any]:
        """As it stands among a recording's ``findings``."""
        return {
            "id": self.id,
            "severity": self.severity.value,
            "title": self.title,
            "text": self.text,
            "evidence": list(self.evidence),
            "fix": self.fix,
            "source": self.source,
        }


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All findings, the primary cause first. ``unseen`` are sentences for what the recording could not show.

    ``scenario`` is the one that ran: what it broke is told as if it were the server's own doing.
    """

    recording_id: str
    outcome: str
    findings: tuple[Finding, ...]
    unseen: tuple[str, ...] = ()
    scenario: str | None = field(default=None, compare=False)

    @property
    def cause(self) -> Finding | None:
        """What most probably broke it; None where nothing did, or it cannot be told."""
        return next((one for one in self.findings if one.severity is Severity.CAUSE), None)

    def to_json(self) -> dict[str, Any]:
        """``{"schema": 1, "id", "outcome", "scenario", "cause": id or None, "findings": [...], "unseen": [...]}``."""
        return {
            "schema": 1,
            "id": self.recording_id,
            "outcome": self.outcome,
            "scenario": self.scenario,
            "cause": None if self.cause is None else self.cause.id,
            "findings": [one.to_json() for one in self.findings],
            "unseen": list(self.unseen),
        }
