"""The matrix as Markdown, for a comment on a change or a page of a wiki."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from countersign.recorder.wire.text import printable
from countersign.scenarios.running.reports.words import command, details, summary, tool, verdict_text

if TYPE_CHECKING:
    from countersign.scenarios.running.results import Matrix, Result

_MARKUP = re.compile(r"([\\`*_{}\[\]<>()#+!|&~$])")


def to_markdown(matrix: Matrix) -> bytes:
    """What is wrong first, in a table with reasons; then all of it."""
    lines = [
        f"# {tool(matrix)}",
        "",
        f"{matrix.subject.capitalize()}: {_code(command(matrix))}",
        "",
        _safe(summary(matrix)) + ".",
        "",
    ]
    wrong = [result for result in matrix.results if not result.right_done]
    if wrong:
        lines += ["## What is not right", "", "| scenario | verdict | why |", "| --- | --- | --- |"]
        lines += [
            f"| {_safe(result.key)} | {_safe(verdict_text(result))} | {'<br>'.join(map(_safe, details(result)))} |"
            for result in wrong
        ]
        lines.append("")
    lines += ["## All", "", "| scenario | family | right is | verdict |", "| --- | --- | --- | --- |"]
    lines += [_row(result) for result in matrix.results]
    return ("\n".join(lines) + "\n").encode()


def _row(result: Result) -> str:
    cells = (result.key, result.family, f"to {result.right}", verdict_text(result))
    return f"| {' | '.join(map(_safe, cells))} |"


def _safe(text: str) -> str:
    """Text that shows as itself; nothing in it becomes markup or ends a cell."""
    return _MARKUP.sub(r"\\\1", printable(text))


def _code(text: str) -> str:
    """Between more backticks than there are in it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * (longest + 1)
    return f"{fence} {text} {fence}" if longest else f"{fence}{text}{fence}"
