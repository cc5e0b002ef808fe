"""A comparison as text: sentences first, the two ladders below. What a peer chose is printable when it comes here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from countersign.findings.comparing.model import Weight
from countersign.findings.wrapping import sentence, wrapped
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from countersign.findings.comparing.model import Comparison, Difference, Half, Pair, Step

_TITLE = 34


def show(comparison: Comparison, *, width: int, brief: bool = False) -> str:
    """For a terminal of ``width`` columns; in brief, what matters and what could not be seen: no notes, no ladders."""
    return "\n".join(_lines(comparison, max(width, 60), brief)) + "\n"


def _lines(comparison: Comparison, width: int, brief: bool) -> Iterator[str]:  # noqa: FBT001
    for name, recording in zip(comparison.names, comparison.recordings, strict=True):
        started = f"{recording.started:%Y-%m-%d %H:%M:%S}"
        place = printable(recording.target or recording.sni or "-", limit=80)
        yield f"{name}: {recording.id}  {started}  {place}  {recording.outcome.status}"
    first = [] if comparison.matters else [f"Nothing differs that matters between {' and '.join(comparison.names)}."]
    first += _sentences(_of(comparison.session, Weight.MATTERS), width, comparison.labels)
    yield from ["", *first] if first else []
    several = len(comparison.pairs) > 1
    for pair in comparison.pairs:
        if several:
            yield ""
            yield f"{pair.a.leg.role.value.capitalize()} leg"
        found = _of(pair.differences, Weight.MATTERS)
        yield from _sentences(found, width, comparison.labels)
        if several and not found:
            yield "  nothing differs that matters"
        if not brief:
            yield from _titled("Notes", _of(pair.differences, Weight.NOTE), width, comparison.labels)
        if pair.unseen:
            yield ""
            yield "Could not be compared"
            for one in pair.unseen:
                yield from wrapped(f"- {one}", width)
        if not brief:
            yield from _ladders(pair, width)
    if not brief:
        yield from _titled("Notes on the sessions", _of(comparison.session, Weight.NOTE), width, comparison.labels)


def _of(found: Sequence[Difference], weight: Weight) -> list[Difference]:
    return [one for one in found if one.weight is weight]


def _titled(title: str, found: Sequence[Difference], width: int, labels: tuple[str, ...]) -> Iterator[str]:
    if found:
        yield ""
        yield title
        yield from _sentences(found, width, labels)


def _sentences(found: Sequence[Difference], width: int, labels: tuple[str, ...]) -> Iterator[str]:
    for one in found:
        yield from wrapped(f"- {sentence(one.text, *labels)}  [{one.field}]", width)


def _ladders(pair: Pair, width: int) -> Iterator[str]:
    """The two courses side by side; ``=`` where a message is the same kind on both sides and says the same."""
    differing = {number for one in pair.differences for number in _numbers(one, pair)}
    column = min(_TITLE, (width - 12) // 2)
    yield ""
    yield f"  {'':8}{pair.a.name[:column]:{column}}   {pair.b.name[:column]}"
    for step in pair.steps:
        marks = "=" if (step.a, step.b) not in differing else "~"
        mark = marks if None not in (step.a, step.b) else "<" if step.b is None else ">"
        left, right = (_cell(half, number, step, column) for half, number in ((pair.a, step.a), (pair.b, step.b)))
        yield f"  {step.sender:8}{left:{column}} {mark} {right}".rstrip()


def _numbers(one: Difference, pair: Pair) -> Iterator[tuple[int | None, int | None]]:
    """The messages that show a difference, as the pair that a step has."""
    numbers = {piece.name: piece.message for piece in one.evidence}
    if one.weight is Weight.MATTERS and len(numbers) == 2:
        yield numbers[pair.a.name], numbers[pair.b.name]


def _cell(half: Half, number: int | None, step: Step, column: int) -> str:
    if number is None:
        return ""
    message = half.leg.messages[number]
    lock = "*" if message.encrypted else ""
    return f"{step.title}{lock} ({message.length})"[:column]
