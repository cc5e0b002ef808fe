"""Distinguished names as ``X500Principal.toString`` prints them, put in the words of our own texts (RFC 4514).

Java prints ``CN=Lab Root CA, O="Lab, Inc.", C=US``: most specific part first, a comma and a blank between the parts,
values with special characters in quotes. One name is read without doubt. A *list* of names is another matter: JSSE
prints the CA names of a TLS 1.2 CertificateRequest in one line with the same comma between two names as between the
parts of one, so where a name ends is not in the text. :func:`split_names` decides by the names that the log shows
elsewhere (of certificates), else by the order in which the parts of a name usually come, and says when it had to.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from countersign.recorder.x509_fields import name_text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

Part = tuple[tuple[str, str], ...]
"""One relative name: its attributes, type and value."""

_ATTRIBUTE = re.compile(r"\s*([A-Za-z][A-Za-z0-9.-]*|\d+(?:\.\d+)+)=")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_PLAIN = re.compile(r"(?:[^,+\\]|\\.)*", re.DOTALL)
_SEPARATOR = re.compile(r"\s*(,|\+|$)\s*")

_SHORT: Final = {
    "S": "ST",
    "SURNAME": "SN",
    "GIVENNAME": "GN",
    "T": "title",
    "EMAILADDRESS": "emailAddress",
    "SERIALNUMBER": "serialNumber",
    "DNQ": "dnQualifier",
    "DNQUALIFIER": "dnQualifier",
    "INITIALS": "2.5.4.43",
    "GENERATION": "2.5.4.44",
    "IP": "1.3.6.1.4.1.42.2.11.2.1",
}
"""Java's keywords that are not ours; https://docs.oracle.com/javase/8/docs/api/javax/security/auth/x500/X500Principal.html"""

_RANKS: Final = {
    "CN": 0,
    "emailAddress": 0,
    "serialNumber": 0,
    "UID": 0,
    "OU": 1,
    "O": 2,
    "L": 3,
    "ST": 4,
    "C": 5,
    "DC": 6,
}
"""How general an attribute is; within one name it does not go down, if the name is in the usual order."""

_REPEATED: Final = frozenset({"OU", "DC"})


def read_name(text: str) -> str | None:
    """Our text of one name; None for what is none."""
    parts = _parts(text)
    return None if parts is None else name_text(parts)


def split_names(text: str, known: Collection[str] = ()) -> tuple[tuple[str, ...], bool] | None:
    """The names of a list in one line, and whether it is certain where each of them ends; None for what is no list.

    ``known`` are names, as texts of ours, that are likely to be in it.
    """
    parts = _parts(text)
    if parts is None:
        return None
    shown = [name_text([part]) for part in parts]
    whole = {name: name.count(",") + 1 for name in known}  # an upper bound: escaped commas are counted too
    found: list[str] = []
    certain = len(parts) < 2
    at, sure = 0, True
    while at < len(parts):
        longest = max((size for size in whole.values()), default=0)
        size = next(
            (n for n in range(min(longest, len(parts) - at), 0, -1) if ",".join(shown[at : at + n]) in whole), 0
        )
        if not size:
            sure = False
            size = _usual_length(parts[at:])
        found.append(",".join(shown[at : at + size]))
        at += size
    return tuple(found), certain or sure


def _usual_length(parts: Sequence[Part]) -> int:
    """How many parts the first name has, if it is in the usual order."""
    seen: set[str] = set()
    before = -1
    for size, part in enumerate(parts):
        kind = part[0][0]
        rank = _RANKS.get(kind, before)
        if size and (rank < before or (kind in seen and kind not in _REPEATED)):
            return size
        seen.add(kind)
        before = rank
    return len(parts)


def _parts(text: str) -> tuple[Part, ...] | None:
    found: list[Part] = []
    part: list[tuple[str, str]] = []
    for kind, value, separator in _attributes(text):
        if not kind:
            return None
        part.append((kind, value))
        if separator != "+":
            found.append(tuple(part))
            part = []
    return tuple(found)


def _attributes(text: str) -> Iterator[tuple[str, str, str]]:
    """Type, value and what stands behind them, for each attribute; an empty type where there is none."""
    at = 0
    while at < len(text):
        start = _ATTRIBUTE.match(text, at)
        if start is None:
            yield "", "", ""
            return
        kind = start[1].removeprefix("OID.").removeprefix("oid.")
        quoted = _QUOTED.match(text, start.end())
        if quoted is not None and _SEPARATOR.match(text, quoted.end()):
            value, end = re.sub(r"\\(.)", r"\1", quoted[1]), quoted.end()
        else:
            end = _end_of_plain(text, start.end())
            value = text[start.end() : end].rstrip(" ")
        separator = _SEPARATOR.match(text, end)
        if separator is None:
            yield "", "", ""
            return
        yield _SHORT.get(kind.upper(), kind), value, separator[1]
        at = separator.end()


def _end_of_plain(text: str, at: int) -> int:
    """Where a value without quotes ends: before a comma or plus that an attribute follows, or at the end."""
    while True:
        found = _PLAIN.match(text, at)
        end = len(text) if found is None else found.end()
        if end >= len(text) or _ATTRIBUTE.match(text, end + 1):
            return min(end, len(text))
        at = end + 1
