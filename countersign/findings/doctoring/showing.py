"""A checkup as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from countersign.findings.wrapping import sentence, wrapped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from countersign.findings.doctoring.checks import Checkup

_TITLES = {"cause": "Wrong", "warning": "Warnings", "note": "Notes"}


def show(checkup: Checkup, *, width: int) -> str:
    """For a terminal of ``width`` columns, the causes first."""
    return "\n".join(_lines(checkup, max(width, 60))) + "\n"


def _lines(checkup: Checkup, width: int) -> Iterator[str]:
    for severity, title in _TITLES.items():
        some = [one for one in checkup.remarks if one.severity == severity]
        if not some:
            continue
        yield title
        for one in some:
            yield from wrapped(f"- {sentence(one.text)} [{one.id}]", width, "  ")
            yield from wrapped(f"Fix: {one.fix}", width, "      ")
            for piece in one.evidence:
                yield from wrapped(piece, width, "      ")
            yield from wrapped(f"Source: {one.source}", width, "      ")
        yield ""
    if not any(one.severity != "note" for one in checkup.remarks):
        yield from ("Nothing wrong was found in what could be read.", "")
    yield "Read"
    yield from (line for name, value in checkup.facts.items() for line in wrapped(f"{name}: {value}", width, "  "))
    if checkup.unseen:
        yield ""
        yield "Not read"
        for text in checkup.unseen:
            yield from wrapped(f"- {text}", width, "  ")
