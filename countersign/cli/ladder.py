"""Prints a recording's ladder, with colours where there is a terminal for them."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

import typer

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
    """To standard output."""
    if not sys.stdout.isatty() or "NO_COLOR" in os.environ:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _WIDTH
        typer.echo(render_ladder(recording, width=width))
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    for line in ladder(recording, width=console.width):
        text = Text(no_wrap=True, end="")
        for part in line.parts:
            text.append(part.text, style=_STYLES.get(part.tone, ""))
        console.print(text, soft_wrap=True)
