"""Text for a terminal."""

from __future__ import annotations

import textwrap


def wrapped(text: str, width: int, indent: str = "  ") -> list[str]:
    """The lines of a text in ``width`` columns, those after the first two further in; names and URLs stay whole."""
    return textwrap.wrap(
        text,
        width,
        initial_indent=indent,
        subsequent_indent=indent + "  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
