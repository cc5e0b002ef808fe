"""The times in a log, made UTC as far as that goes.

JSSE prints the hour from 1 to 24, so half past midnight is ``24:30`` of the day that begins (the pattern is ``kk``),
and the zone as an abbreviation. Many of those stand for several zones: ``CST`` is Chicago and Shanghai. The likeliest
is taken, and :attr:`Moment.doubt` says so. Wrappers, agents and ``java.util.logging`` print local time without a zone,
which is then read as if it were UTC; that is a doubt as well.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

_HOURS: Final = {
    "UTC": 0, "GMT": 0, "Z": 0, "UT": 0, "WET": 0, "WEST": 1, "CET": 1, "CEST": 2, "MET": 1, "MEST": 2, "MEZ": 1,
    "MESZ": 2, "EET": 2, "EEST": 3, "MSK": 3, "TRT": 3, "SAST": 2, "CAT": 2, "EAT": 3, "WAT": 1, "PKT": 5, "SGT": 8,
    "HKT": 8, "PHT": 8, "AWST": 8, "JST": 9, "KST": 9, "AEST": 10, "AEDT": 11, "NZST": 12, "NZDT": 13, "BRT": -3,
    "ART": -3, "CLT": -4, "COT": -5, "PET": -5, "EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6,
    "PST": -8, "PDT": -7, "AKST": -9, "AKDT": -8, "HST": -10, "AST": -4, "ADT": -3, "BST": 1, "IST": 5.5, "ACST": 9.5,
    "ACDT": 10.5, "NST": -3.5, "NDT": -2.5, "WIB": 7, "ICT": 7, "UZT": 5, "AMT": -4, "GST": 4,
}  # fmt: skip

_DOUBTFUL: Final = {
    "CST": "-06:00 (North America), +08:00 (China) or -05:00 (Cuba)",
    "IST": "+05:30 (India), +02:00 (Israel) or +01:00 (Ireland)",
    "BST": "+01:00 (Britain) or +06:00 (Bangladesh)",
    "AST": "-04:00 (Atlantic) or +03:00 (Arabia)",
    "AMT": "-04:00 (Amazon) or +04:00 (Armenia)",
    "GST": "+04:00 (Gulf) or -02:00 (South Georgia)",
}

_MONTHS: Final = {
    "Jan": 1, "Feb": 2, "Mar": 3, "Apr": 4, "May": 5, "Jun": 6,
    "Jul": 7, "Aug": 8, "Sep": 9, "Oct": 10, "Nov": 11, "Dec": 12,
}  # fmt: skip
_YEAR_FIRST = re.compile(
    r"(\d{4})[-/.](\d\d)[-/.](\d\d)[ T](\d\d?):(\d\d):(\d\d)(?:[.,](\d{1,9}))?\s*(\S.*)?$", re.DOTALL
)
_DATE = re.compile(r"[A-Z][a-z]{2} ([A-Z][a-z]{2}) +(\d\d?) (\d\d):(\d\d):(\d\d) (\S+) (\d{4})$")
_AGENT = re.compile(r"(\d\d)/(\d\d)/(\d\d) (\d\d):(\d\d):(\d\d) \((\d{1,3})\)")
_SPOKEN = re.compile(r"([A-Z][a-z]{2})\w*\.? (\d\d?), (\d{4}),? (\d\d?):(\d\d):(\d\d)(?:\s([AP]M))?$")
_OFFSET = re.compile(r"(?:GMT|UTC)?([+-])(\d\d?):?(\d\d)?$")


@dataclass(frozen=True, slots=True)
class Moment:
    """A time in UTC; ``doubt`` says what is not certain about it."""

    utc: datetime
    doubt: str = ""


def read_time(text: str) -> Moment | None:
    """A time in any of the forms that logs print; None for what is none, or a date that does not exist."""
    text = text.strip()
    try:
        if found := _YEAR_FIRST.match(text):
            year, month, day, hour, minute, second = map(int, found.groups()[:6])
            fraction = int((found[7] or "").ljust(6, "0")[:6] or 0)
            return _moment(year, month, day, hour % 24, minute, second, fraction, found[8])
        if found := _DATE.match(text):
            month = _MONTHS.get(found[1], 0)
            day, hour, minute, second = int(found[2]), int(found[3]), int(found[4]), int(found[5])
            return _moment(int(found[7]), month, day, hour, minute, second, 0, found[6])
        if found := _AGENT.match(text):
            month, day, year, hour, minute, second, millisecond = map(int, found.groups())
            return _moment(2000 + year, month, day, hour % 24, minute, second, millisecond * 1000, None)
        if found := _SPOKEN.match(text):
            hour = int(found[4]) % 12 + (12 if found[7] == "PM" else 0) if found[7] else int(found[4]) % 24
            month = _MONTHS.get(found[1], 0)
            return _moment(int(found[3]), month, int(found[2]), hour, int(found[5]), int(found[6]), 0, None)
    except (ValueError, OverflowError):
        return None
    return None


def _moment(  # noqa: PLR0917  in the order of a datetime's
    year: int, month: int, day: int, hour: int, minute: int, second: int, microsecond: int, zone: str | None
) -> Moment:
    local = datetime(year, month, day, hour, minute, second, microsecond, tzinfo=UTC)
    offset, doubt = _zone(zone)
    return Moment(local - offset, doubt)


def _zone(zone: str | None) -> tuple[timedelta, str]:
    if zone is None:
        return timedelta(), "times without a zone, taken as UTC"
    if zone in _HOURS:
        offset = timedelta(hours=_HOURS[zone])
        return offset, f"{zone}, which is {_DOUBTFUL[zone]}; the first is taken" if zone in _DOUBTFUL else ""
    found = _OFFSET.match(zone)
    if found:
        minutes = int(found[2]) * 60 + int(found[3] or 0)
        return timedelta(minutes=minutes if found[1] == "+" else -minutes), ""
    return timedelta(), f"the zone {zone[:40]!r}, which is not known, taken as UTC"
