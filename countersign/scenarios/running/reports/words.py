"""The words of the reports: what is said of a result, for whichever form."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from countersign.recorder.wire.text import printable
from countersign.scenarios.running.verdict import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from countersign.scenarios.running.results import Matrix, Result

_COUNTED = {
    Kind.REFUSED: "refused as they should",
    Kind.ACCEPTED: "accepted as they should",
    Kind.ACCEPTED_WRONGLY: "accepted but should have refused",
    Kind.REFUSED_WRONGLY: "refused but should have accepted",
    Kind.HUNG: "hung",
    Kind.CRASHED: "crashed",
    Kind.NEVER_CONNECTED: "never connected",
    Kind.SKIPPED: "skipped",
    Kind.UNPROVED: "the fault never was on the wire",
}


def command(matrix: Matrix) -> str:
    """The client's command line, as one would type it."""
    return printable(shlex.join(matrix.client))


def title(matrix: Matrix) -> str:
    """What all of it is about."""
    return f"What a {matrix.subject} does when TLS goes wrong"


def tool(matrix: Matrix) -> str:
    """What has made it."""
    return "countersign knock" if matrix.subject == "server" else "countersign matrix"


def summary(matrix: Matrix) -> str:
    """``120 scenarios in 14 s: 80 refused as they should, ...``."""
    words = _COUNTED | ({Kind.UNPROVED: "of which nothing can be told"} if matrix.subject == "server" else {})
    counts = ", ".join(f"{found} {words[kind]}" for kind in words if (found := matrix.count(kind)))
    number = len(matrix.results)
    return f"{number} scenario{'s' * (number != 1)} in {matrix.seconds:.1f} s: {counts or 'nothing'}"


def verdict_text(result: Result) -> str:
    """The verdict as one sentence, with what is known of clients of this kind."""
    text = printable(result.verdict.text)
    if result.verdict.known and not result.verdict.kind.right:
        text += " (clients of this kind are known to)"
    if result.verdict.excused:
        text += f" (taken as it is: {printable(result.verdict.excused)})"
    return text


def details(result: Result) -> Iterator[str]:
    """What stands behind the verdict, a line each."""
    verdict = result.verdict
    if verdict.alerts:
        yield f"alert: {', '.join(map(printable, verdict.alerts))}"
    for said in verdict.said:
        yield f"it said: {printable(said.line)}"
        if said.meaning:
            yield f"that is: {said.meaning}"
    yield from map(printable, verdict.notes)


def plain_ladder(ladder: str) -> str:
    """A ladder, each of its lines safe to show."""
    return "\n".join(printable(line) for line in ladder.splitlines())
