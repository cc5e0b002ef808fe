"""Text for a terminal."""

from __future__ import annotations

import textwrap


def sentence(text: str, *names: str) -> str:
    """The text with a capital letter first, unless it begins with one of these ``names``, which stay as they are."""
    if any(text.startswith(name) for name in names):
        return text
    return f"{text[:1].upper()}{text[1:]}"


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
