"""A log file from its first line to its last: which reader a line is for."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO, Final

from countersign.recorder.files.javalog import exceptions
from countersign.recorder.files.javalog.bouncy import BouncyReader
from countersign.recorder.files.javalog.classic import ClassicReader
from countersign.recorder.files.javalog.conversations import Conversations
from countersign.recorder.files.javalog.events import At, Said
from countersign.recorder.files.javalog.jsse import MARKER, JsseReader
from countersign.recorder.files.javalog.lines import Line, Prefix, Prefixes, decoded, read_lines, wide

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from countersign.recorder.files.javalog.events import Event
    from countersign.recorder.recording import Recording

_BEGINNINGS: Final = (
    b"javax.net.ssl", b"***", b"READ: ", b"WRITE: ", b" ALERT: ", b"SHA1 hashes: ", b"[Raw ", b"bouncycastle",
    b") alert",
    b'Hello": {', b'CertificateRequest": {',
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

_LEARNS_FROM = re.compile(r"\*\*\* (?:ClientHello|ServerHello), ")
_BOUNCY = re.compile(
    r"org\.bouncycastle\.jsse| alert\b|selected (?:protocol version|cipher suite): |new session: |"
    r"any credentials|usable signature schemes|(?:opening|established) connection|disconnected from"
)
_MOST_SOURCES: Final = 32
_LINES_BETWEEN_PROGRESS: Final = 20_000
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
    for line in read_lines(source):
        yield from job.line(line)
        if tell is not None and line.number % _LINES_BETWEEN_PROGRESS == 0:
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


class _Job:
    """The state of reading one file."""

    def __init__(self, conversations: Conversations, hearing: Hearing) -> None:
        self._conversations = conversations
        self._hearing = hearing
        self._prefixes = Prefixes()
        self._sources: dict[str, _Source] = {}
        self._busy = False
        self._until = _SOON

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
        prefix, rest = self._prefixes.strip(text)
        if not prefix.text and (learnt := _before_marker(rest)):
            self._prefixes.learn(learnt)
            prefix, rest = self._prefixes.strip(text)
        source = self._sources.get(prefix.source)
        if source is None:
            if len(self._sources) >= _MOST_SOURCES:
                return
            source = self._sources[prefix.source] = _Source()
        for event in self._events(source, line.number, rest, prefix):
            source.last = event.at
            self._until = line.number + _SOON
            yield from self._conversations.take(prefix.source, event)
        self._busy = any(one.busy for one in self._sources.values())

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


def _before_marker(text: str) -> str | None:
    """What stands before the JVM's own text in this line, if anything does."""
    at = text.find(MARKER)
    if at < 0:
        found = _LEARNS_FROM.search(text)
        at = -1 if found is None else found.start()
    return text[:at] if at > 0 else None
