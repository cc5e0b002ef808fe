"""A log file as lines, and what other programs have put before them.

Logs come as they were written and as they were carried: UTF-8 with a piece of Windows-1252 in it, UTF-16 where
PowerShell redirected the output, with Windows line ends, with binary rubbish where a disk was full. A line is decoded
for itself, so one odd line spoils no other, and a line without an end is cut at 1 MiB.

Before the JVM's own text may stand the prefix of a service wrapper, of a container or system log, of a MID Server's
agent, or several of them. The known ones are cut off and tell the time and the process. An unknown one is learnt from
the first line in which something stands before the JVM's own marker; from then on what has the same shape (the same
text but for digits) is cut off too.
"""

from __future__ import annotations

import codecs
import re
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

MARKER: Final = "javax.net.ssl|"
"""With this JSSE begins each entry since Java 11."""
LONGEST: Final = 1 << 20
"""Bytes of a line that are kept."""

_SLICE = 1 << 18
_MOST_SHAPES = 8
_LONGEST_PREFIX = 300


class Line(NamedTuple):
    """One line as bytes, without its end. ``number`` counts from 1."""

    number: int
    raw: bytes

    @property
    def text(self) -> str:
        return decoded(self.raw)


def decoded(raw: bytes) -> str:
    """UTF-8 where it is UTF-8, else what Windows takes it for."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("cp1252", "replace") if raw.count(b"\0") == 0 else raw.decode("latin-1")


def read_blocks(source: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """The file from where it stands: some whole lines at a time, the end of the last one cut off, with the number of
    the first.
    """
    number = 1
    pending = b""
    for piece in _slices(source):
        whole, found, rest = piece.rpartition(b"\n")
        if not found:
            pending = (pending + piece)[:LONGEST]
            continue
        yield number, pending + whole
        number += whole.count(b"\n") + 1
        pending = rest
    if pending:
        yield number, pending


def _slices(source: BinaryIO) -> Iterator[bytes]:
    """The file in slices, as UTF-8 where it is UTF-16."""
    first = source.read(_SLICE)
    encoding = wide(first)
    if encoding is None:
        first = first.removeprefix(codecs.BOM_UTF8)
        while first:
            yield first
            first = source.read(_SLICE)
        return
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    while first:
        yield decoder.decode(first).removeprefix("\ufeff").encode("utf-8", "replace")
        first = source.read(_SLICE)


def wide(head: bytes) -> str | None:
    """Which UTF-16 it is: by its mark, or because every other byte is zero."""
    if head.startswith(codecs.BOM_UTF16_LE):
        return "utf-16-le"
    if head.startswith(codecs.BOM_UTF16_BE):
        return "utf-16-be"
    sample = head[:512]
    half = len(sample) // 2
    if half < 16:
        return None
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    if odd > half * 9 // 10 and even < half // 2:
        return "utf-16-le"
    if even > half * 9 // 10 and odd < half // 2:
        return "utf-16-be"
    return None


# -- prefixes ----------------------------------------------------------------------------------------------------


class Prefix(NamedTuple):
    """What stood before a line: the time and the process or thread that it names, and itself."""

    time: str | None = None
    source: str = ""
    thread: str | None = None
    level: str | None = None
    text: str = ""


_NONE = Prefix()
_LEVEL = r"SEVERE|WARNING|WARN|INFO|CONFIG|FINE|FINER|FINEST|DEBUG|ERROR|TRACE|FATAL"

# Java Service Wrapper (wrapper.log): level, process, time and message between bars, which ones as it is configured.
_WRAPPER = re.compile(
    r"(?:(?:STATUS|ADVICE|NOTICE|EVENT|" + _LEVEL + r")\s*\|\s)?"
    r"(?P<source>jvm \d+|wrapper[a-z]?)\s*\|\s"
    r"(?:(?P<time>\d{4}[/-]\d\d[/-]\d\d \d\d:\d\d:\d\d(?:[.,]\d+)?)\s\|(?:\s|$))?"
)
_WRAPPER_TIME_FIRST = re.compile(
    r"(?P<time>\d{4}[/-]\d\d[/-]\d\d \d\d:\d\d:\d\d(?:[.,]\d+)?)\s\|\s"
    r"(?:(?:STATUS|ADVICE|NOTICE|EVENT|" + _LEVEL + r")\s*\|\s)?(?P<source>jvm \d+|wrapper[a-z]?)\s*\|(?:\s|$)"
)
# Container runtimes (CRI): time, stream, whether the line is whole.
_CONTAINER = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)) (?P<source>stdout|stderr) [FP] "
)
# syslog and journal: the process's own text begins behind its name.
_SYSLOG = re.compile(r"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \S+ (?P<source>[\w./-]+(?:\[\d+\])?): ")
# Agent logs of a MID Server, the older form and the newer one.
_AGENT = re.compile(
    r"(?P<time>\d\d/\d\d/\d\d \d\d:\d\d:\d\d \(\d{1,3}\)) (?:(?P<thread>\S.{0,200}?) (?P<level>" + _LEVEL + r"):? )?"
)
_AGENT_NEW = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[.,]\d{3}(?:Z|[+-]\d\d:?\d\d)?) +(?P<level>" + _LEVEL + r") +"
    r"\((?P<thread>[^()]{1,200}(?:\([^()]*\)[^()]*)*)\) (?:\[[^\]]{1,200}\] )?"
)
_KNOWN: Final = (_WRAPPER, _WRAPPER_TIME_FIRST, _CONTAINER, _SYSLOG, _AGENT, _AGENT_NEW)
_BEGINS = re.compile("|".join(re.sub(r"\?P<\w+>", "?:", one.pattern) for one in _KNOWN))
"""One look where most lines have none of them."""


class Prefixes:
    """Cuts prefixes off the lines of one file."""

    def __init__(self) -> None:
        self._shapes: list[re.Pattern[str]] = []
        self.firsts: set[bytes] = set()  # bytes that one of them begins with
        self.margin = ""  # what was put before each line when the log was pasted into a text, as a block of code
        self._last = _NONE

    def learn(self, prefix: str) -> None:
        """Something that stood before a JVM's marker: from now on it is a prefix."""
        if not prefix.strip():
            self.margin = self.margin or prefix[:_LONGEST_PREFIX]
            return
        if len(prefix) > _LONGEST_PREFIX or len(self._shapes) >= _MOST_SHAPES:
            return
        self.firsts.add(prefix.encode("utf-8", "replace")[:1])
        pieces = re.split(r"(\d+)", prefix)
        self._shapes.append(re.compile("".join(r"\d+" if one.isdigit() else re.escape(one) for one in pieces)))

    def strip(self, text: str) -> tuple[Prefix, str]:
        """The prefixes of a line put together, and the rest of it."""
        text = text.removeprefix(self.margin)
        at = len(self._last.text)
        if text.startswith(MARKER, at) and text.startswith(self._last.text):
            return self._last, text[at:]
        at = 0
        time = thread = level = None
        source = ""
        for _ in range(3):
            found = _known(text, at) if _BEGINS.match(text, at) else None
            if found is not None:
                named = found.groupdict()
                time = named.get("time") or time
                source = source or named.get("source") or ""
                thread, level = named.get("thread") or thread, named.get("level") or level
            else:
                found = next((match for shape in self._shapes if (match := shape.match(text, at))), None)
            if found is None or found.end() == at:
                break
            at = found.end()
        if not at:
            return _NONE, text
        self._last = Prefix(time, source, thread, level, text[:at])
        return self._last, text[at:]


def _known(text: str, at: int) -> re.Match[str] | None:
    for pattern in _KNOWN:
        found = pattern.match(text, at)
        if found is not None:
            return found
    return None
