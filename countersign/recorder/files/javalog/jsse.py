"""The log of JSSE since Java 11, and of Java 8 since 8u261: entries with a header, and with a body in brackets.

    javax.net.ssl|DEBUG|01|main|2026-11-21 12:00:00.123 UTC|ClientHello.java:639|Produced ClientHello handshake message
    ( "ClientHello": { ... } )

The thread's name may hold bars itself, so a header is read from its time, which nothing else looks like. With
``expand`` the same entry is an object of one key a line. An entry is written in one call, so entries of different
threads follow on each other whole, but a wrapper may put a line of another stream into one, and a file may begin or end
in one: then the next header ends it, and what there is of it is read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from countersign.recorder.files.javalog import exceptions, words
from countersign.recorder.files.javalog.events import (
    AlertUnsent,
    At,
    BytesDumped,
    Ended,
    Event,
    MessageTold,
    NotTls,
    RecordNamed,
    Said,
)
from countersign.recorder.files.javalog.handshakes import CODES, SENDERS, Rebuilt, rebuild
from countersign.recorder.files.javalog.lines import MARKER
from countersign.recorder.files.javalog.outline import hex_dump, outline
from countersign.recorder.recording import Ending
from countersign.recorder.wire import codes
from countersign.recorder.wire.events import Content, Side

if TYPE_CHECKING:
    from collections.abc import Iterator

    from countersign.recorder.files.javalog.lines import Prefix

FORM: Final = "jsse"

_HEADER = re.compile(
    r"javax\.net\.ssl\|(?P<level>[A-Z]+)\|(?P<id>[0-9A-Fa-f ]*)\|(?P<thread>.*?)\|"
    r"(?P<time>\d{4}-\d\d-\d\d \d\d?:\d\d:\d\d[.,]\d{3}(?: [^|]*)?)\|(?P<caller>[^|]*)\|(?P<message>.*)$",
    re.DOTALL,
)
_EXPANDED = re.compile(r'\s*"(logger|level|thread id|thread name|time|caller|message)"\s*: "(.*?)",?\s*$', re.DOTALL)
_MESSAGE = re.compile(
    r"(Produced|Consuming|Reproduced) (?:(client|server) )?(.*?)(?: (?:handshake |post-handshake )?message)?\s*$"
)
_HEADLESS = re.compile(r'(?P<margin>\s*)"(?P<name>ClientHello|ServerHello|CertificateRequest)"\s*: \{\s*$')
_FATAL = re.compile(r"Fatal \((\w+)\): (.*)$", re.DOTALL)
_RECORD = re.compile(r"(READ|WRITE): (?:.* )?(\w+), length = ([\d,]+)$")
_ALERT_RECORD = re.compile(r"WRITE: \S+ alert\((\w+)\), length = ([\d,]+)$")
_RECORD_TYPES: Final = {"change_cipher_spec": 20, "alert": 21, "handshake": 22, "application_data": 23}
_NOISE = re.compile(
    r"Ignore |Ignoring |Unsupported signature scheme|Unsupported authentication scheme|Unavailable authentication|"
    r"Signature algorithm, |Unable to indicate server name|SSLSocket duplex close failed|Fatal: \w+ (?:record )?closure"
)
_NOTES = re.compile(
    r"No X\.509 certificate for client authentication|No available (?:client )?authentication scheme|"
    r"No X\.509 cert selected|Resuming session|"
    r"KeyMgr: |No credentials|Requested server name|Server certificate "
)
_REPEATED: Final = {"Certificate", "CertificateRequest"}
"""Long messages that come again, word for word, in every handshake with the same server."""
_REMEMBERED: Final = 32  # of these
_MOST_BODY_LINES = 30_000
_MOST_BODY_CHARACTERS = 4 << 20


@dataclass(slots=True)
class Entry:
    """One entry in the making."""

    line: int
    prefix: Prefix
    level: str = ""
    thread_id: str = ""
    thread: str = ""
    time: str = ""
    caller: str = ""
    message: str = ""
    body: list[str] = field(default_factory=list)
    size: int = 0
    expanded: bool = False
    headless: bool = False  # its first line is missing, as in what people paste into tickets
    margin: str = ""  # and that far is it from the edge

    def add(self, line: str) -> None:
        if len(self.body) < _MOST_BODY_LINES and self.size < _MOST_BODY_CHARACTERS:
            self.body.append(line)
            self.size += len(line)

    def add_all(self, lines: list[str]) -> bool:
        """Take these lines, unless they are so many that some would be left out."""
        size = sum(map(len, lines))
        if len(self.body) + len(lines) > _MOST_BODY_LINES or self.size + size > _MOST_BODY_CHARACTERS:
            return False
        self.body += lines
        self.size += size
        return True

    def at(self) -> At:
        thread = f"{self.thread_id.strip()}|{self.thread}" if self.thread_id.strip() else self.thread
        return At(self.line, FORM, thread, self.time, self.prefix.text)


class JsseReader:
    """Give it the lines of one process; it gives the events of the entries that are complete."""

    def __init__(self) -> None:
        self._open: Entry | None = None
        self.names: dict[str, None] = {}  # names of certificates, which help to cut lists of CA names
        self._made: dict[bytes, Rebuilt] = {}  # by the hash of what was printed

    @property
    def busy(self) -> bool:
        """Whether the next line may belong to an entry that is not complete."""
        return self._open is not None

    @property
    def gathering(self) -> Entry | None:
        """The entry of which each next line is, but for a header, the closing bracket and another program's line."""
        entry = self._open
        return None if entry is None or entry.expanded or entry.headless else entry

    def line(self, number: int, text: str, prefix: Prefix) -> Iterator[Event]:
        """Take a line that may be a header, or while :attr:`busy` any line."""
        at = text.find(MARKER)
        if at >= 0 and (header := _HEADER.match(text, at)):
            yield from self.end(cut=True)
            yield from self._begin(number, header, prefix)
        elif self._open is not None:
            yield from self._inside(text, prefix)
        elif (found := _EXPANDED.match(text)) and found[1] == "logger" and found[2] == "javax.net.ssl":
            self._open = Entry(number, prefix, expanded=True)
        elif found := _HEADLESS.match(text.removeprefix("| ")):
            message = f"Consuming {found['name']} handshake message"
            self._open = Entry(number, prefix, message=message, headless=True, margin=found["margin"])
            self._open.add(text.removeprefix("| "))

    def end(self, *, cut: bool = False) -> Iterator[Event]:
        """There is no more to come of what is open."""
        entry, self._open = self._open, None
        if entry is not None and entry.message:
            yield from self._events(entry, cut=cut)

    def _begin(self, number: int, header: re.Match[str], prefix: Prefix) -> Iterator[Event]:
        entry = Entry(number, prefix, header["level"], header["id"], header["thread"], header["time"], header["caller"])
        message = header["message"].rstrip()
        if message.endswith("("):
            entry.message = message[:-1].rstrip()
            self._open = entry
        else:
            entry.message = message
            yield from self._events(entry, cut=False)

    def _inside(self, text: str, prefix: Prefix) -> Iterator[Event]:
        entry = self._open
        assert entry is not None
        if not entry.expanded:
            if text.rstrip() == ")":
                yield from self.end()
            elif entry.headless and text.removeprefix("| ").rstrip() == entry.margin + "}":
                entry.add("}")
                yield from self.end()
            elif prefix.thread == entry.prefix.thread:  # another program's own line does not belong here
                entry.add(text.removeprefix("| "))
            return
        if text.rstrip() == "}":
            yield from self.end()
        elif not entry.body and (found := _EXPANDED.match(text)):
            setattr(entry, {"thread id": "thread_id", "thread name": "thread"}.get(found[1], found[1]), found[2])
        elif not (not entry.body and text.strip().startswith('"specifics"')):
            entry.add(text)

    # -- what an entry says --------------------------------------------------------------------------------------

    def _events(self, entry: Entry, *, cut: bool) -> Iterator[Event]:
        message = entry.message
        first = message[:1]
        if first == "I" and message.startswith("Ignore"):
            return
        if first in "PCR" and (found := _MESSAGE.match(message)) and "extension" not in message:
            yield from self._message(entry, found, cut=cut)
        elif first in "RW" and (found := _ALERT_RECORD.match(message)):
            number = words.alert(found[1])
            yield RecordNamed(entry.at(), own=True, content_type=21, length=words.number(found[2]) or 0)
            if number is not None:
                level = 1 if number in codes.NEVER_FATAL else codes.FATAL
                yield _alert(entry.at(), "record", level, number, own=True)
        elif first in "RW" and (found := _RECORD.match(message)):
            twice = not entry.caller.startswith("SSLEngine")
            length = words.number(found[3]) or 0
            yield RecordNamed(entry.at(), found[1] == "WRITE", _RECORD_TYPES.get(found[2], -1), length, twice)
        elif message.startswith(("Raw read", "Raw write")):
            yield BytesDumped(entry.at(), "socket", message.startswith("Raw write"), hex_dump(entry.body))
        elif "laintext " in message and ("ENCRYPTION" in message or "DECRYPTION" in message):
            yield BytesDumped(entry.at(), "plain", "before ENCRYPTION" in message, hex_dump(entry.body))
        elif message.startswith("Received alert message"):
            tree = outline(entry.body)
            body = next(iter(tree.children), tree)
            number = words.alert(body.get("description") or "")
            if number is not None:
                level = 1 if body.get("level") == "warning" else codes.FATAL
                yield _alert(entry.at(), "told", level, number, own=False)
        else:
            yield from self._rest(entry)

    def _rest(self, entry: Entry) -> Iterator[Event]:
        message = entry.message
        if found := _FATAL.match(message):
            yield from self._fatal(entry, found)
        elif message.startswith("Fatal: failed to send fatal alert"):
            yield AlertUnsent(entry.at())
        elif message.startswith("handling exception"):
            thrown = exceptions.causes(entry.body)
            yield from _consequences(entry.at(), thrown)
            yield Said(entry.at(), "exception", "handling exception", thrown)
        elif message == "close the underlying socket":
            yield Ended(entry.at(), own=True, how=Ending.FIN)
        elif _NOTES.match(message):
            yield Said(entry.at(), "note", exceptions.kept(message))
        elif entry.level in {"WARNING", "ERROR", "SEVERE"} and not _NOISE.match(message):
            kind = "warning" if entry.level == "WARNING" else "fatal"
            yield Said(entry.at(), kind, exceptions.kept(message), exceptions.causes(entry.body))

    def _fatal(self, entry: Entry, found: re.Match[str]) -> Iterator[Event]:
        at = entry.at()
        thrown = exceptions.causes(entry.body)
        yield from _consequences(at, (found[2], *thrown))
        number = words.alert(found[1])
        if number is not None:
            yield _alert(at, "raised", codes.FATAL, number, own=not found[2].startswith("Received fatal alert"))
        yield Said(at, "fatal", exceptions.kept(found[2]), thrown)

    def _message(self, entry: Entry, found: re.Match[str], *, cut: bool) -> Iterator[Event]:
        own = None if entry.headless else found[1] != "Consuming"
        name = found[3].partition("(")[0].replace(" stateless", "").replace(" handshake", "").split()[-1:]
        last = name[0] if name else ""
        if last == "ChangeCipherSpec":
            yield MessageTold(entry.at(), "told", Content.CHANGE_CIPHER_SPEC, 1, own=own, raw=b"\x01")
            return
        if last not in CODES:
            return
        side = {"client": Side.CLIENT, "server": Side.SERVER}.get(found[2] or "") or SENDERS.get(last)
        made = self._rebuilt(last, entry.body)
        for facts in made.certificates:
            for shown in (facts.subject, facts.issuer):
                if shown and len(self.names) < 2_000:
                    self.names[shown] = None
        yield MessageTold(
            entry.at(), "told", Content.HANDSHAKE, CODES[last], own, side, made.told(), b"", tuple(made.doubts), cut
        )

    def _rebuilt(self, name: str, body: list[str]) -> Rebuilt:
        """A message in wire form. What was read before is not read again, unless more names are known by now."""
        if name not in _REPEATED:
            return rebuild(name, outline(body), self.names)
        whole = sha256("\n".join((name, str(len(self.names)), *body)).encode("utf-8", "surrogateescape")).digest()
        made = self._made.get(whole)
        if made is None:
            made = self._made[whole] = rebuild(name, outline(body), self.names)
            if len(self._made) > _REMEMBERED:
                del self._made[next(iter(self._made))]
        return made


def _alert(at: At, kind: str, level: int, number: int, *, own: bool) -> MessageTold:
    return MessageTold(at, kind, Content.ALERT, number, own=own, raw=bytes([level, number]))


def _consequences(at: At, texts: tuple[str, ...]) -> Iterator[Event]:
    """What an exception tells of the peer's bytes."""
    ending = exceptions.how_it_ended(texts)
    if isinstance(ending, Ending):
        yield Ended(at, own=False, how=ending)
    elif ending is not None:
        yield NotTls(at)
