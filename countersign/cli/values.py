"""Values of options that are more than a word or a number. ``what`` names the option in an error."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from countersign.errors import UserError

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_SIZES = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_NO_LABEL = re.compile(r"last|[0-9a-f]{16}|.*[:~].*", re.DOTALL)  # how recordings are called otherwise
_LABEL_AT_MOST = 200


def parse_moment(text: str, *, what: str) -> datetime:
    """``30m`` ago, or a moment, in local time unless it says otherwise."""
    try:
        if text[:-1].isdecimal() and text[-1:] in _UNITS:
            return datetime.now().astimezone() - timedelta(**{_UNITS[text[-1]]: int(text[:-1])})
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise UserError(f"{what} takes a time such as 2026-11-21T08:00 or 30m, 2h, 7d; got {text!r}") from None


def parse_duration(text: str, *, what: str) -> float:
    """``90s``, ``10m``, ``2h``, ``1d`` as seconds, more than none and at most a year."""
    number, unit = text[:-1], text[-1:]
    if unit in _UNITS and number.isascii() and number.isdecimal() and len(number) < 10:
        seconds = timedelta(**{_UNITS[unit]: int(number)}).total_seconds()
        if 0 < seconds <= 366 * 86400:
            return seconds
    raise UserError(f"{what} takes a time such as 90s, 10m, 2h or 1d, at most a year; got {text!r}")


def parse_size(text: str, *, what: str) -> int:
    """``500M``, ``2G`` as bytes."""
    number, unit = (text[:-1], text[-1].upper()) if text and text[-1].upper() in _SIZES else (text, "")
    if not (number.isascii() and number.isdecimal()) or int(number) == 0:
        raise UserError(f"{what} takes a size such as 500M or 2G, got {text!r}")
    return int(number) * _SIZES.get(unit, 1)


def parse_label(text: str | None, *, what: str) -> str | None:
    """A name for recordings, by which they can be asked for later: not ``last``, ``last~1``, ``ID:client`` or an id."""
    if text is None:
        return None
    if not text.strip() or len(text) > _LABEL_AT_MOST:
        raise UserError(f"{what} takes a name of 1 to {_LABEL_AT_MOST} characters, got {len(text)}")
    if _NO_LABEL.fullmatch(text):
        raise UserError(
            f"{what} takes a name that is no other way to say which recording: not `last`, no id, no `:` or `~` in it;"
            f" got {text!r}"
        )
    return text


def size_text(size: int) -> str:
    """Bytes for a person."""
    for unit, one in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= one:
            return f"{size / one:.1f} {unit}"
    return f"{size} bytes"
