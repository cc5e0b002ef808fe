"""A diagnosis as text: the cure first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from countersign.findings.diagnosing.model import Severity
from countersign.findings.wrapping import wrapped
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from countersign.findings.diagnosing.model import Diagnosis, Finding


def show(diagnosis: Diagnosis, *, width: int) -> str:
    """For a terminal of ``width`` columns."""
    return "\n".join(_lines(diagnosis, max(width, 60))) + "\n"


def _lines(diagnosis: Diagnosis, width: int) -> Iterator[str]:
    cause = diagnosis.cause
    fix = "none needed, as far as this recording shows." if cause is None else cause.fix
    yield from wrapped(f"Fix: {fix}", width, "")
    if diagnosis.scenario is not None:
        yield ""
        name = printable(diagnosis.scenario, limit=200)
        text = f"The proxy ran the scenario {name}: what that broke was broken on purpose, and not by the target."
        yield from wrapped(f"{text} It is told as if a real server were like that.", width, "")
    if cause is not None:
        yield ""
        yield from wrapped(f"Cause: {cause.title} [{cause.id}]", width, "")
        yield from _details(cause, width)
    yield ""
    yield from wrapped(f"Outcome: {diagnosis.outcome}", width, "")
    others = [one for one in diagnosis.findings if one is not cause]
    for title, severity in (
        ("Also possible", Severity.CAUSE),
        ("Warnings", Severity.WARNING),
        ("Notes", Severity.NOTE),
    ):
        some = [one for one in others if one.severity is severity]
        if some:
            yield ""
            yield title
        for one in some:
            yield from wrapped(f"- {one.title} [{one.id}]", width)
            yield from _details(one, width, fix=severity is not Severity.NOTE)
    if diagnosis.unseen:
        yield ""
        yield "Not seen"
        for text in diagnosis.unseen:
            yield from wrapped(f"- {text}", width)


def _details(one: Finding, width: int, *, fix: bool = False) -> Iterator[str]:
    pieces = [one.text, *(f"Evidence: {each}" for each in one.evidence), *([f"Fix: {one.fix}"] if fix else [])]
    for text in (*pieces, f"Source: {one.source}"):
        yield from wrapped(text, width, "    ")
