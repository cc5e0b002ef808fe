"""Prints a recording's ladder, with colours where there is a terminal for them."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

import typer

from countersign.recorder.files.ladder import render_ladder

if TYPE_CHECKING:
    from countersign.recorder.recording import Recording


def print_ladder(recording: Recording) -> None:
    """To standard output."""
    width = shutil.get_terminal_size((120, 40)).columns if sys.stdout.isatty() else 120
    typer.echo(render_ladder(recording, width=width))
