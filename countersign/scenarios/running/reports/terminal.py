"""The matrix for a person: a line for each scenario, those that are not right with their reasons."""

from __future__ import annotations

from typing import TYPE_CHECKING

from countersign.recorder.wire.text import printable
from countersign.scenarios.running.reports.words import details, summary, verdict_text
from countersign.scenarios.running.verdict import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from countersign.scenarios.running.results import Matrix, Result

Line = tuple[str, str]
"""A text, and its style as rich calls it."""


def lines(matrix: Matrix) -> Iterator[Line]:
    """All results in their order, and the sum of them."""
    width = max((len(printable(result.key)) for result in matrix.results), default=0)
    for result in matrix.results:
        yield from result_lines(result, width)
    yield "", ""
    yield summary(matrix), "bold"


def result_lines(result: Result, width: int = 0) -> Iterator[Line]:
    """One result; its reasons stand below it where it is not right."""
    kind = result.verdict.kind
    odd = kind in {Kind.SKIPPED, Kind.UNPROVED} or result.verdict.excused
    style = "yellow" if odd else "green" if kind.right else "bold red"
    yield f"{printable(result.key):<{width}}  {verdict_text(result)}", style
    if not kind.right:
        for detail in details(result):
            yield f"{'':<{width}}    {detail}", "dim"
