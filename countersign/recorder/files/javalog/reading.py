"""A log file from its first line to its last: which reader a line is for."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple

from countersign.recorder.files.javalog import exceptions
from countersign.recorder.files.javalog.bouncy import BouncyReader
from countersign.recorder.files.javalog.classic import ClassicReader
from countersign.recorder.files.javalog.conversations import Conversations
from countersign.recorder.files.javalog.events import At, Said
from countersign.recorder.files.javalog.jsse import Entry, JsseReader
from countersign.recorder.files.javalog.lines import (
    LONGEST,
    MARKER,
    Line,
    Prefix,
    Prefixes,
    decoded,
    read_blocks,
    wide,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from countersign.recorder.files.javalog.events import Event
    from countersign.recorder.recording import Recording

_BEGINNINGS: Final = (
    b"javax.net.ssl", b"***", b"READ: ", b"WRITE: ", b" ALERT: ", b"SHA1 hashes: ", b"[Raw ", b"bouncycastle",
    b") alert",
    b'Hello": {', b'CertificateRequest": {', b"ssl.SSLLogger ",
)  # fmt: skip
"""One of these is in every line with which something of TLS begins."""
_WORDS: Final = (
    *_BEGINNINGS, b"called closeSocket", b"handling exception", b"fatal error: ", b"Exception", b"getSession(): ",
    b"%% ", b"no suitable certificate", b"matching alias", b"selected protocol", b"selected cipher",
    b"specified new session", b"any credentials", b"usable signature", b"connection to ", b"connection with ",
    b"connection from ", b"disconnected from", b"TlsFatalAlert",
)  # fmt: skip
"""Of a line with none of these nothing is told, unless it goes on with what a line before it began."""
_SOON: Final = 20_000  # lines behind the last word of TLS in which more may be said of it

_BY_JAVA_UTIL_LOGGING: Final = "sun.security.ssl.SSLLogger "
"""Where javax.net.debug has no value, JSSE logs so, by the titles of its messages alone."""
_LEARNS_FROM = re.compile(r"\*\*\* (?:ClientHello|ServerHello), ")
_BOUNCY = re.compile(
    r"org\.bouncycastle\.jsse| alert\b|selected (?:protocol version|cipher suite): |new session: |"
    r"any credentials|usable signature schemes|(?:opening|established) connection|disconnected from"
)
_BODY_BEGINS: Final = (b" ", b'"', b"}", b"]")
"""So begin most lines between the brackets of an entry, and no prefix that is known beforehand."""
_NOT_OF_A_BODY: Final = (MARKER.encode(), b"*** ", b'{ | "')
_TOGETHER: Final = 500  # lines
_MOST_SOURCES: Final = 32
_OTHER: Final = "other"
_NEAR: Final = 1_000  # lines between the last word of TLS and an exception that may be of it


def looks_like_text(head: bytes) -> bool:
    """Whether a file that begins like this can be a log: mostly printable, or UTF-16."""
    if not head:
        return False
    if wide(head) is not None:
        return True
    odd = sum(1 for byte in head if byte < 32 and byte not in b"\t\n\r\x1b\f")
    return odd * 4 <= len(head)


@dataclass(slots=True)
class Hearing:
    """How much was heard of JSSE: ``lines`` with its marker, whether they told of a handshake or not."""

    lines: int = 0


def read_java_log(
    source: BinaryIO,
    *,
    otherwise: datetime,
    label: str | None = None,
    tell: Callable[[], None] | None = None,
    hearing: Hearing | None = None,
) -> Iterator[Recording]:
    """Every TLS conversation in a log, in the order in which they were over. Never raises on what is in it.

    ``otherwise`` is when it was, for a log without times (say, when the file was written last). ``tell`` is called now
    and then, ``hearing`` filled as the lines are read.
    """
    job = _Job(Conversations(label=label, otherwise=otherwise), Hearing() if hearing is None else hearing)
    for first, block in read_blocks(source):
        lines = block.split(b"\n")
        at = 0
        while at < len(lines):
            taken = job.take_body(lines, at)
            if not taken:
                yield from job.line(Line(first + at, lines[at][:LONGEST].rstrip(b"\r")))
            at += taken or 1
        if tell is not None:
            tell()
    yield from job.finish()


class _Source:
    """The readers of one process."""

    def __init__(self) -> None:
        self.jsse = JsseReader()
        self.classic = ClassicReader()
        self.bouncy = BouncyReader()
        self.last: At | None = None  # where something was said of TLS last
        self.trace: _Trace | None = None
        self.prefix_thread: str | None = None  # of the prefix of what is being printed without one of its own

    @property
    def busy(self) -> bool:
        return self.jsse.busy or self.classic.busy or self.trace is not None


class _Trace:
    """A stack trace in the making."""

    def __init__(self, at: At, text: str) -> None:
        self.at = at
        self.text = text
        self.lines = [text]

    def said(self) -> Said:
        causes = exceptions.causes(self.lines)
        return Said(self.at, "exception", exceptions.kept(self.text), causes or (exceptions.kept(self.text),))


class _Body(NamedTuple):
    """An entry whose lines are only gathered until its bracket closes, and how such lines begin."""

    entry: Entry
    prefix: bytes
    begins: tuple[bytes, ...]


class _Job:
    """The state of reading one file."""

    def __init__(self, conversations: Conversations, hearing: Hearing) -> None:
        self._conversations = conversations
        self._hearing = hearing
        self._prefixes = Prefixes()
        self._sources: dict[str, _Source] = {}
        self._busy = False
        self._until = _SOON
        self._body: _Body | None = None
        self._singly = 0  # lines that are to be looked at one by one

    def take_body(self, lines: list[bytes], at: int) -> int:
        """Take the lines from ``at`` on that are of the entry that is open and nothing else; how many there were.

        Nine lines in ten are such. What :meth:`line` would find out of each is known of all of them.
        """
        body = self._body
        if body is None:
            return 0
        if self._singly:
            self._singly -= 1
            return 0
        begins, end = body.begins, at
        for raw in itertools.islice(lines, at, at + _TOGETHER):
            if not raw.startswith(begins):
                break
            end += 1
        if end == at:
            return 0
        texts = _plain(lines[at:end], len(body.prefix))
        if texts is None or not body.entry.add_all(texts):
            self._singly = end - at - 1
            return 0
        return end - at

    def line(self, line: Line) -> Iterator[Recording]:
        """Take the next one. Where the bars of a wrapper stand in its midst, it was several before it was pasted."""
        if b'{ | "' in line.raw:
            for piece in line.raw.split(b" | "):
                yield from self._line(Line(line.number, piece))
        else:
            yield from self._line(line)

    def _line(self, line: Line) -> Iterator[Recording]:
        if not self._busy and not _has(_WORDS if line.number < self._until else _BEGINNINGS, line.raw):
            return
        text = decoded(line.raw)
        self._hearing.lines += _BY_JAVA_UTIL_LOGGING in text
        prefix, rest = self._prefixes.strip(text)
        if not prefix.text and (learnt := _before_marker(rest)):
            self._prefixes.learn(learnt)
            prefix, rest = self._prefixes.strip(text)
        source = self._sources.get(prefix.source)
        if source is None:
            if len(self._sources) >= _MOST_SOURCES:
                return
            source = self._sources[prefix.source] = _Source()
        if not self._busy and _tells_nothing(rest):
            self._hearing.lines += 1
            return
        for event in self._events(source, line.number, rest, prefix):
            source.last = event.at
            self._until = line.number + _SOON
            yield from self._conversations.take(prefix.source, event)
        self._busy = any(one.busy for one in self._sources.values())
        self._body = self._body_of(source, prefix)

    def _body_of(self, source: _Source, prefix: Prefix) -> _Body | None:
        """What the next lines are of, if they begin like the one that was just taken."""
        entry = source.jsse.gathering
        if entry is None or source.trace is not None or prefix.thread != entry.prefix.thread:
            return None
        margin = self._prefixes.margin
        if not (prefix.text.isascii() and margin.isascii()):
            return None
        before = (margin + prefix.text).encode()
        begins = tuple(before + one for one in _BODY_BEGINS if one not in self._prefixes.firsts)
        return _Body(entry, before, begins)

    def finish(self) -> Iterator[Recording]:
        for name, source in self._sources.items():
            for event in (*source.jsse.end(cut=True), *source.classic.end(), *_end_trace(source)):
                yield from self._conversations.take(name, event)
        yield from self._conversations.finish()

    def _events(self, source: _Source, number: int, text: str, prefix: Prefix) -> Iterator[Event]:
        if source.trace is not None:
            if exceptions.is_frame(text) or not text.strip():
                source.trace.lines.append(text)
                return
            yield from _end_trace(source)
        if MARKER in text or source.jsse.busy or '"javax.net.ssl"' in text or text.rstrip().endswith('": {'):
            self._hearing.lines += MARKER in text
            if MARKER in text:
                yield from source.classic.end()
            yield from source.jsse.line(number, text, prefix)
            return
        if prefix.thread == source.prefix_thread or _has(_WORDS, text.encode("utf-8", "replace")):
            source.prefix_thread = prefix.thread
            yield from source.classic.line(number, text, prefix)
        if _BOUNCY.search(text):
            yield from source.bouncy.line(number, text, prefix)
        if "Exception" in text or "TlsFatalAlert" in text:
            thrown = exceptions.thrown_in(text)
            if thrown is not None:
                at = _thrown_at(source, number, prefix)
                source.trace = None if at is None else _Trace(at, thrown)


def _thrown_at(source: _Source, number: int, prefix: Prefix) -> At | None:
    """Whose exception a line tells of: its thread's, or where no thread is named, that of what was just said."""
    if prefix.thread is not None:
        return At(number, _OTHER, prefix.thread, prefix.time, prefix.text)
    if source.last is None or number - source.last.line > _NEAR:
        return None
    return replace(source.last, line=number, time=prefix.time)


def _plain(lines: list[bytes], cut: int) -> list[str] | None:
    """Lines without what stands before them, if none of them may be more than a line of an entry's body."""
    if cut:
        lines = [raw[cut:] for raw in lines]
    joined = b"\n".join(lines)
    if len(joined) > LONGEST or _has(_NOT_OF_A_BODY, joined):
        return None
    if b"\r" in joined or not joined.isascii():
        return [decoded(raw.rstrip(b"\r")) for raw in lines]
    return joined.decode("ascii").split("\n")


def _has(words: tuple[bytes, ...], raw: bytes) -> bool:
    """Whether one of them is in it; a search in C for each is many times faster than one expression for all."""
    for word in words:  # noqa: SIM110  any() with its generator takes twice as long, and every line comes by here
        if word in raw:
            return True
    return False


def _end_trace(source: _Source) -> Iterator[Event]:
    trace, source.trace = source.trace, None
    said = None if trace is None else trace.said()
    if said is not None and exceptions.of_tls(said.causes):
        yield said


def _tells_nothing(text: str) -> bool:
    """Of every other entry this is told at a glance: ``...|SSLExtensions.java:272|Ignore unavailable extension``."""
    return (
        "|Ignore" in text
        and text.startswith(MARKER)
        and text.count("|") == 6
        and text.rpartition("|")[2].startswith("Ignore")
    )


def _before_marker(text: str) -> str | None:
    """What stands before the JVM's own text in this line, if anything does."""
    at = text.find(MARKER)
    if at < 0:
        found = _LEARNS_FROM.search(text)
        at = -1 if found is None else found.start()
    return text[:at] if at > 0 else None
