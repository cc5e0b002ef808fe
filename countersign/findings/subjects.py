"""What a user points at: a recording of the store or of a file, or one leg of it.

A reference is an id, an unambiguous beginning of one, a label, ``last`` or ``last~1``; ``-`` or the name of a file that
there is (a capture, an export, a Java log), which stands for its only recording, or for one of several as ``FILE#3``,
counted from 1. Behind any of these ``:client``, ``:server`` or ``:through`` names one leg.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import TYPE_CHECKING

from countersign.errors import NothingCalledSo, UserError
from countersign.recorder.files.importing import ImportTrouble, import_files
from countersign.recorder.recording import LegRole, Recording
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from countersign.recorder.wire.secrets import KeyLog

_LEG = re.compile(r"(?P<rest>.+):(?P<leg>client|server|through)")
_NUMBERED = re.compile(r"(?P<file>.+)#(?P<number>[1-9]\d{0,6})")
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Subject:
    """A recording, and the leg that is meant where one was named."""

    reference: str
    recording: Recording
    role: LegRole | None = None


class NoTls(UserError):  # noqa: N818 - a fact about the file
    """A file in which no TLS was found: perhaps it is a log of another kind."""


def find(
    reference: str, stored: Callable[[str], Recording], *, keylog: KeyLog | None = None, broken: bool = False
) -> Subject:
    """What the reference stands for; ``stored`` looks in the store. Raises :class:`UserError` when there is none.

    ``broken``: of a file with several recordings it is the last that broke, and the reference says which.
    """
    rest, role = reference, None
    if (named := _LEG.fullmatch(reference)) and _mode(reference) is None:
        rest, role = named["rest"], LegRole(named["leg"])
    if (found := _of_file(rest, keylog, broken=broken)) is not None:
        rest, recording = found
    else:
        try:
            recording = stored(rest)
        except NothingCalledSo as nothing:
            raise UserError(f"there is no file {printable(rest)}, and {nothing}") from None
    if role is not None and recording.leg(role) is None:
        there = ", ".join(leg.role.value for leg in recording.legs) or "none"
        raise UserError(f"{printable(reference)}: recording {recording.id} has no {role} leg; its legs are: {there}")
    return Subject(rest, recording, role)


def _mode(name: str) -> int | None:
    """What kind of file it is; None where there is none, nor can be: people give an error text for a name."""
    try:
        return Path(name).stat().st_mode if name else None
    except (OSError, ValueError):
        return None


def _of_file(name: str, keylog: KeyLog | None, *, broken: bool) -> tuple[str, Recording] | None:
    """Its recording, and what it is called by."""
    number = None
    if name != "-" and not S_ISREG(_mode(name) or 0):
        numbered = _NUMBERED.fullmatch(name)
        if numbered is None or not S_ISREG(_mode(numbered["file"]) or 0):
            mode = _mode(name)
            if mode is not None and S_ISDIR(mode):
                raise UserError(f"{printable(name)} is a folder; name a file in it")
            if mode is not None:
                way = "pipe what a program writes into the command, with - for the file"
                raise UserError(f"{printable(name)} is not a regular file; {way}")
            if "/" in name:
                raise UserError(f"there is no file {printable(name)}")
            return None
        name, number = numbered["file"], int(numbered["number"])
    trouble: ImportTrouble | None = None
    first: list[Recording] = []
    last: tuple[int, Recording] | None = None
    count = 0
    for one in import_files([name], keylog=keylog):
        if isinstance(one, ImportTrouble):
            trouble = trouble or one
            continue
        count += 1
        if count == number:
            return f"{name}#{number}", one
        if last is None or _tells_more(one, last[1]):
            last = count, one
        first += [one] if count <= _SHOWN else []
    if not first:
        raise NoTls(str(trouble) if trouble else f"{printable(name)}: no TLS was found in it")
    if number is not None:
        raise UserError(f"{printable(name)} has {count} recordings; there is no number {number}")
    if count > 1 and broken:
        assert last is not None
        return f"{name}#{last[0]}", last[1]
    if count > 1:
        raise UserError(f"{printable(name)} has {count} recordings; say which:\n" + _listed(name, first, count))
    return name, first[0]


def _tells_more(one: Recording, earlier: Recording) -> bool:
    """Whether a later recording of a file is rather what somebody asks about: one that broke, and that had TLS in it
    (a proxy that wants a password refuses the first CONNECT of every client).
    """
    if one.outcome.broken_by is None or earlier.outcome.broken_by is None:
        return one.outcome.broken_by is not None or earlier.outcome.broken_by is None
    return bool(one.legs) or not earlier.legs


def _listed(name: str, first: list[Recording], count: int) -> str:
    lines = [
        f"  {printable(name)}#{n}  {one.client or '-'} to {one.target or '-'}  {printable(one.sni or '-')}"
        f"  {one.outcome.status}"
        for n, one in enumerate(first, 1)
    ]
    return "\n".join([*lines, *([f"  ... and {count - len(first)} more"] if count > len(first) else [])])
