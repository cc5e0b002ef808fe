r"""The one place that makes a stranger's text safe to show.

Names in certificates, server names and protocol names are whatever a peer chose to send. Printed as they are they
can colour a terminal, rewrite its clipboard (OSC 52), hide a link (OSC 8), forge a log line with a newline or turn
the reading direction around (U+202E). So everything that does not print as itself is shown by its number instead:
``\x1b``, ``\u202e``. That is CVE-2021-25743 (kubectl) and the "Trojan Source" paper (CVE-2021-42574).

Escaping is for showing only. What is stored, compared and exported as data stays as it came.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}

# Letters and marks by category, yet nothing or a blank on the screen: Unicode's Default_Ignorable_Code_Point beyond
# what its category already tells, and the braille blank.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


@lru_cache(maxsize=256)
def host_port(host: str, port: int) -> str:
    """``host:port``, an IPv6 address in brackets (RFC 3986 3.2.2)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def listed(names: Sequence[str], most: int, *, joint: str = ", ") -> str:
    """The first ``most`` of them, and how many more there are."""
    return joint.join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def printable(text: str, *, limit: int | None = None, ascii_only: bool = False) -> str:
    r"""The text with everything that does not print as itself escaped; one line, whatever came in.

    Escaped are control characters (C0 and C1), format and bidirectional characters, line and paragraph separators,
    blanks other than the space, lone surrogates, private and unassigned code points, and letters that show nothing;
    with ``ascii_only`` everything beyond ASCII. ``limit`` keeps that many of the text's characters and says how many
    were left out. Escaping what is escaped already changes nothing.
    """
    if limit is not None and len(text) > limit:
        return f"{printable(text[:limit], ascii_only=ascii_only)}... ({len(text) - limit} more)"
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character
        if character.isprintable() and not _INVISIBLE.match(character) and (character.isascii() or not ascii_only)
        else _escaped(character)
        for character in text
    )


def columns(text: str) -> int:
    """How many columns of a terminal the printable text takes (Unicode Annex 11: wide characters take two)."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )


def _escaped(character: str) -> str:
    number = ord(character)
    if character in _SHORT:
        return _SHORT[character]
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
