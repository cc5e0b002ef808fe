"""Prints a list of recordings, a line each, in as many columns as there are."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import typer

from countersign.cli.common import coloured_output, unicode_output
from countersign.recorder.recording import Status
from countersign.recorder.wire.text import columns, printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from countersign.recorder.store import Summary

_GAP = "  "
_NARROWEST = 12  # what is left of a name that is cut
_COLOURS = {
    Status.ESTABLISHED: typer.colors.GREEN,
    Status.FAILED: typer.colors.RED,
    Status.ABANDONED: typer.colors.YELLOW,
    Status.INTERRUPTED: typer.colors.MAGENTA,
}


def print_list(found: Sequence[Summary], beginnings: Mapping[str, str]) -> None:
    """To standard output, as wide as the terminal or ``COLUMNS``; all that there is where neither is known.

    ``beginnings`` has for each id what is enough of it to tell the recording.
    """
    table = _fitting(found, beginnings, shutil.get_terminal_size((0, 0)).columns)
    colours = coloured_output()
    widths = {heading: max(map(columns, (heading, *cells))) for heading, cells in table.items()}
    headings = _GAP.join(_filled(heading, width) for heading, width in widths.items())
    typer.echo(typer.style(headings, bold=True) if colours else headings.rstrip())
    for number, summary in enumerate(found):
        line = {heading: _filled(cells[number], widths[heading]) for heading, cells in table.items()}
        if colours:
            line["outcome"] = typer.style(line["outcome"], fg=_COLOURS.get(summary.outcome.status))
        typer.echo(_GAP.join(line.values()).rstrip())


def _filled(cell: str, width: int) -> str:
    return cell + " " * (width - columns(cell))


def _fitting(found: Sequence[Summary], beginnings: Mapping[str, str], room: int) -> dict[str, list[str]]:
    """The cells under each heading. Where there is too little room, what says least goes first.

    That is the rest of the ids and the seconds, then the client, then a column for the server name where the target's
    says it too; at last names are cut.
    """
    moments = [summary.started.astimezone() for summary in found]
    table = {
        "id": [_shown(summary.id) for summary in found],
        "started": [f"{moment:%m-%d %H:%M:%S}" for moment in moments],
        "client": [_shown(summary.client) for summary in found],
        "target": [_shown(summary.target) for summary in found],
        "sni": [_shown(summary.sni) for summary in found],
        "outcome": [summary.outcome.status.value for summary in found],
        "by": [_shown(summary.broken_by) for summary in found],
        "alert": [_shown(summary.outcome.alert) for summary in found],
    }
    if not room or _width(table) <= room:
        return table
    table["id"] = [_shown(beginnings.get(summary.id, summary.id)) for summary in found]
    table["started"] = [f"{moment:%m-%d %H:%M}" for moment in moments]
    if _width(table) > room:
        del table["client"]
    if _width(table) > room:
        table["target"] = [_shown(_name_and_target(summary)) for summary in found]
        del table["sni"]
    for heading in ("target", "alert"):
        over = _width(table) - room
        if over > 0:
            most = max(max(map(columns, table[heading])) - over, _NARROWEST)
            table[heading] = [_cut(cell, most) for cell in table[heading]]
    return table


def _width(table: Mapping[str, list[str]]) -> int:
    return sum(max(map(columns, (heading, *cells))) + len(_GAP) for heading, cells in table.items()) - len(_GAP)


def _shown(text: str | None) -> str:
    return printable(text or "-", ascii_only=not unicode_output())


def _name_and_target(summary: Summary) -> str | None:
    """The server name goes first where it is not the target's own, for it may be cut."""
    named = summary.sni is not None and not (summary.target or "").startswith(f"{summary.sni}:")
    return f"{summary.sni} at {summary.target}" if named else summary.target


def _cut(text: str, most: int) -> str:
    if columns(text) <= most:
        return text
    mark = "…" if unicode_output() else ">"
    kept = ""
    for character in text:
        if columns(kept + character + mark) > most:
            break
        kept += character
    return kept + mark
