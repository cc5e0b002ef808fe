"""Prints a recording's ladder, with colours where there is a terminal for them."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import typer

from countersign.cli.common import coloured_output, unicode_output
from countersign.recorder.files.ladder import Tone, ladder, render_ladder

if TYPE_CHECKING:
    from countersign.recorder.recording import Recording

_STYLES = {
    Tone.TIME: "dim",
    Tone.LANE: "dim",
    Tone.ARROW: "cyan",
    Tone.TITLE: "bold",
    Tone.LENGTH: "dim",
    Tone.ALERT: "bold red",
    Tone.TROUBLE: "red",
    Tone.FAULT: "magenta",
    Tone.GOOD: "green",
    Tone.BAD: "bold red",
}
_WIDTH = 120  # where there is no terminal to ask


def print_ladder(recording: Recording) -> None:
    """To standard output, as wide as the terminal or ``COLUMNS``."""
    width = shutil.get_terminal_size((_WIDTH, 0)).columns
    plain = not unicode_output()
    if not coloured_output():
        typer.echo(render_ladder(recording, width=width, ascii=plain))
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    for line in ladder(recording, width=width, ascii=plain):
        text = Text(no_wrap=True, end="")
        for part in line.parts:
            text.append(part.text, style=_STYLES.get(part.tone, ""))
        console.print(text, soft_wrap=True)
