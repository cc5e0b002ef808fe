"""Files of others, and our own exports, as recordings: captures, JSON and JSON lines, debug logs of Java.

What a file is tells its beginning, never its name: a capture by its magic number, JSON by its brace. Any other file is
looked through as a log (:mod:`countersign.recorder.files.javalog`), for those may begin with anything.

Everything streams: a file of any size is read packet by packet, a conversation is told when it is over, and what is
held is the conversations that are open (each within the bounds of its decoder).

A pcapng file is read twice. Keys may stand behind the packets that they open, and what Wireshark and ``editcap`` inject
may stand anywhere; the first reading collects them, and with them the recordings in our own Custom Blocks. The
second one follows the packets. So standard input, which cannot be read twice, goes through a file without a name first.

Our own exports hold each recording twice, as packets that were made up for dissectors and as the recording itself. The
second counts: a conversation whose ClientHello is one of such a recording's is passed over.

Nothing in a file raises. What is wrong with it is an :class:`ImportTrouble` among the recordings, and what can be read
goes on being read: behind a damaged packet, behind a damaged line, in the next file.
"""

from __future__ import annotations

import errno
import gzip
import io
import os
import re
import stat
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, BinaryIO, cast
from zlib import error as zlib_error

from countersign.errors import UserError
from countersign.recorder.files._conversation import Conversation, Settings
from countersign.recorder.files.capture import (
    CaptureError,
    CustomBlock,
    Packet,
    SecretsFound,
    Trouble,
    is_capture,
    read_capture,
)
from countersign.recorder.files.documents import CustomBlocks, read_documents
from countersign.recorder.files.javalog import Hearing, looks_like_text, read_java_log
from countersign.recorder.files.pcapng import made_up_port
from countersign.recorder.files.streams import Closed, Data, Gap, Noted, Opened, Reassembler
from countersign.recorder.wire import codes
from countersign.recorder.wire.events import Side
from countersign.recorder.wire.secrets import KeyLog, parse_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from countersign.recorder.recording import Recording

_PCAPNG = b"\x0a\x0d\x0d\x0a"
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_JAVA_OBJECT = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*\{\s*\"logger\"\s*:\s*\"javax\.net\.ssl\""
)  # javax.net.debug=...:expand
_COPIED_AT_ONCE = 1 << 20
_IN_MEMORY = 16 << 20
_PACKETS_BETWEEN_PROGRESS = 2_000
_RANDOMS_SHOWN = 3
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MADE_UP = b"# made up by countersign"  # how the secrets of our own exports begin


@dataclass(frozen=True, slots=True)
class ImportTrouble:
    """What was wrong with a file: where, and what. ``broken`` says that something in it could not be imported."""

    file: str
    offset: int | None
    text: str
    broken: bool = False

    def __str__(self) -> str:
        where = "" if self.offset is None else f", at byte {self.offset}"
        return f"{self.file}{where}: {self.text}"


@dataclass(slots=True)
class Tally:
    """Counts what an import has seen. ``opened`` and ``closed`` count TLS conversations with and without keys.

    ``matched`` are the client randoms for which the key log had a line, ``unmatched`` the first few for which it had
    none; ``silent`` counts connections in which nobody sent a byte, ``passed_over`` packets without a TCP segment, by
    what they were, ``cut_packets`` those that were captured in part.
    """

    recordings: int = 0
    not_tls: int = 0
    silent: int = 0
    opened: int = 0
    closed: int = 0
    made_up: int = 0
    matched: set[bytes] = field(default_factory=set)
    unmatched: list[bytes] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)
    cut_packets: int = 0

    def keys(self, conversation: Conversation) -> None:
        if conversation.with_keys:
            self.opened += 1
            self.matched.add(cast("bytes", conversation.client_random))
            return
        self.closed += 1
        if conversation.client_random is not None and len(self.unmatched) < _RANDOMS_SHOWN:
            self.unmatched.append(conversation.client_random)


def import_files(
    paths: Iterable[str | Path],
    *,
    keylog: KeyLog | None = None,
    kept: frozenset[str] = frozenset(),
    label: str | None = None,
    tally: Tally | None = None,
    progress: Callable[[str, int, int | None], None] | None = None,
) -> Iterator[Recording | ImportTrouble]:
    """Every TLS conversation and every recording in these files; ``-`` is standard input.

    ``kept`` are the labels of the secrets that the recordings keep, of those in ``keylog`` and in the files. ``label``
    is given to all of them. ``progress`` is called now and then with the file's name, how many bytes of it were read,
    and how many it has.
    """
    job = _Job(keylog or KeyLog(), kept, label, tally or Tally(), progress)
    for path in paths:
        yield from job.file(str(path))


@dataclass(slots=True)
class _Job:
    keylog: KeyLog
    kept: frozenset[str]
    label: str | None
    tally: Tally
    progress: Callable[[str, int, int | None], None] | None

    def file(self, name: str) -> Iterator[Recording | ImportTrouble]:
        with ExitStack() as stack:
            try:
                raw = _opened(name, stack)
            except OSError as wrong:
                yield ImportTrouble(_shown(name), None, f"cannot be read: {wrong.strerror}", broken=True)
                return
            reading = _Reading(self, _shown(name), raw)
            try:
                yield from reading.all()
            except CaptureError as wrong:
                text = str(wrong).partition(f"byte {wrong.offset}: ")[2]
                yield ImportTrouble(reading.name, wrong.offset, text, broken=True)
            except OSError as wrong:
                yield ImportTrouble(reading.name, raw.tell(), f"cannot be read on: {wrong}", broken=True)


class _Reading:
    """One file being read."""

    def __init__(self, job: _Job, name: str, raw: BinaryIO) -> None:
        self.name = name
        self._job = job
        self._raw = raw
        self._size = raw.seek(0, io.SEEK_END) if raw.seekable() else None
        raw.seek(0)
        self._own: set[bytes] = set()  # SHA-256 of the ClientHellos of the recordings in it
        self._own_mute: list[tuple[int, int, int]] = []  # those of legs without one: from when to when, client's port
        self._exported = False  # by us: the keys in it say so

    def all(self) -> Iterator[Recording | ImportTrouble]:
        try:
            head = self._plain().read(4096)
        except _unpacking_errors():
            head = b""  # let the reader of captures say it its way
        if _JAVA_OBJECT.match(head):
            yield from self._java_log(head)
        elif head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
            yield from self._documents()
        elif b"\0" not in head and any(map(parse_line, head.splitlines())):
            yield ImportTrouble(self.name, 0, "it is a key log: give it with --keylog, beside a capture", broken=True)
        elif head and not is_capture(head):
            yield from self._java_log(head)
        else:
            keylog = self._job.keylog
            if head.startswith(_PCAPNG):
                found = KeyLog()
                yield from self._first_reading(found)
                keylog = _merged(found, keylog) if len(found) else keylog
            yield from self._packets(keylog)

    # JSON

    def _documents(self) -> Iterator[Recording | ImportTrouble]:
        source = self._plain()
        try:
            for offset, found in read_documents(source):
                if isinstance(found, UserError):
                    yield ImportTrouble(self.name, offset, str(found), broken=True)
                else:
                    yield self._labelled(found)
                self._tell()
        except _unpacking_errors() as wrong:
            yield ImportTrouble(self.name, self._raw.tell(), f"its compression is damaged: {wrong}", broken=True)

    def _labelled(self, recording: Recording) -> Recording:
        self._job.tally.recordings += 1
        return replace(recording, label=self._job.label) if self._job.label is not None else recording

    # logs

    def _java_log(self, head: bytes) -> Iterator[Recording | ImportTrouble]:
        when = datetime.fromtimestamp(os.fstat(self._raw.fileno()).st_mtime, UTC)
        found, hearing = False, Hearing()
        try:
            for recording in read_java_log(
                self._plain(), otherwise=when, label=self._job.label, tell=self._tell, hearing=hearing
            ):
                found = True
                self._job.tally.recordings += 1
                yield recording
        except _unpacking_errors() as wrong:
            yield ImportTrouble(self.name, self._raw.tell(), f"its compression is damaged: {wrong}", broken=True)
            return
        if found:
            return
        if hearing.lines:
            text = "a JVM's debug log without messages: javax.net.debug=ssl prints none; use ssl:handshake or all"
            yield ImportTrouble(self.name, None, text, broken=True)
        elif looks_like_text(head):
            text = "it is no capture, no export, and no log in which a JVM tells of TLS (javax.net.debug, BCJSSE)"
            yield ImportTrouble(self.name, None, text, broken=True)
        else:
            yield from self._packets(self._job.keylog)  # which says what it is

    # captures

    def _first_reading(self, found: KeyLog) -> Iterator[Recording | ImportTrouble]:
        """The keys and the recordings in a pcapng file. What is wrong with the file the second reading tells."""
        blocks = CustomBlocks()
        self._raw.seek(0)
        theirs: list[bytes] = []
        try:
            for item in read_capture(self._raw, name=self.name):
                if isinstance(item, SecretsFound):
                    if item.text.startswith(_MADE_UP):
                        self._exported = True
                        found.add_text(item.text)
                    else:
                        theirs.append(item.text)
                elif isinstance(item, CustomBlock):
                    try:
                        recording = blocks.add(item.data)
                    except UserError as wrong:
                        yield ImportTrouble(self.name, None, str(wrong), broken=True)
                        continue
                    if recording is not None:
                        self._remember(recording)
                        yield self._labelled(recording)
        except CaptureError:
            pass
        for text in theirs:  # real ones go before those that we made up
            found.add_text(text)

    def _remember(self, recording: Recording) -> None:
        for leg in recording.legs:
            for message in leg.messages:
                if message.is_handshake(codes.CLIENT_HELLO) and message.sender is Side.CLIENT:
                    self._own.add(sha256(message.form).digest())
                    break
            else:
                port = (recording.client or "").rpartition(":")[2]
                began, ended = _microseconds(recording.started), _microseconds(recording.ended or recording.started)
                for client in {int(port) if port.isdecimal() else 0, made_up_port(recording)}:
                    self._own_mute.append((began, ended, client))

    def _packets(self, keylog: KeyLog) -> Iterator[Recording | ImportTrouble]:
        settings = Settings(keylog, self._job.kept, self._job.label)
        reassembler = Reassembler()
        live: dict[int, Conversation] = {}
        self._raw.seek(0)
        packets = 0
        failed: CaptureError | None = None

        def follow(events: Iterable[object]) -> Iterator[Recording]:
            for event in events:
                match event:
                    case Data():
                        live[event.conversation].data(event.t_ns, event.from_initiator, event.data)
                    case Gap():
                        live[event.conversation].gap(event.t_ns, event.from_initiator, event.missing)
                    case Opened():
                        live[event.conversation] = Conversation(event, settings)
                    case Noted():
                        live[event.conversation].noted(event.t_ns, event.from_initiator, event.text)
                    case Closed():
                        if live[event.conversation].closed(event):
                            recording = self._recording(live.pop(event.conversation))
                            if recording is not None:
                                yield recording

        try:
            for item in read_capture(self._raw, name=self.name):
                if isinstance(item, Packet):
                    self._job.tally.cut_packets += len(item.data) < item.original_length
                    yield from follow(reassembler.packet(item))
                    packets += 1
                    if packets % _PACKETS_BETWEEN_PROGRESS == 0:
                        self._tell()
                elif isinstance(item, Trouble):
                    yield ImportTrouble(self.name, item.offset, item.text)
        except CaptureError as wrong:
            failed = wrong
        yield from follow(reassembler.finish())
        self._job.tally.passed_over += reassembler.passed_over
        self._tell()
        if self._exported and not self._own:
            text = "it is an export of countersign without the recording itself: what is imported is what the packets"
            text += " show that were made up for it"
            yield ImportTrouble(self.name, None, text, broken=failed is None)
        if failed is not None:
            raise failed

    def _recording(self, conversation: Conversation) -> Recording | None:
        tally = self._job.tally
        recording = conversation.recording()
        if self._is_made_up(conversation):
            tally.made_up += 1
            return None
        if recording is None:
            if conversation.carried:
                tally.not_tls += 1
            else:
                tally.silent += 1
            return None
        tally.keys(conversation)
        tally.recordings += 1
        return recording

    def _is_made_up(self, conversation: Conversation) -> bool:
        """Whether it is the packets that stand in an export of ours beside the recording itself."""
        if conversation.hello_digest is not None:
            return conversation.hello_digest in self._own
        began, port = conversation.began
        return any(first <= began <= last and port == client for first, last, client in self._own_mute)

    # the file

    def _plain(self) -> BinaryIO:
        """The file from its beginning, decompressed."""
        self._raw.seek(0)
        magic = self._raw.read(4)
        self._raw.seek(0)
        if magic.startswith(_GZIP):
            return cast("BinaryIO", gzip.GzipFile(fileobj=self._raw))
        if magic == _ZSTD:
            import zstandard

            reader = zstandard.ZstdDecompressor().stream_reader(self._raw, read_across_frames=True, closefd=False)
            return cast("BinaryIO", io.BufferedReader(cast("io.RawIOBase", reader)))
        return self._raw

    def _tell(self) -> None:
        if self._job.progress is not None:
            self._job.progress(self.name, self._raw.tell(), self._size)


def _opened(name: str, stack: ExitStack) -> BinaryIO:
    if name != "-":
        return open_regular(name, stack)
    copy = stack.enter_context(tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY))  # noqa: SIM115 - the stack closes it
    while block := sys.stdin.buffer.read(_COPIED_AT_ONCE):
        copy.write(block)
    return cast("BinaryIO", copy)


def open_regular(name: str, stack: ExitStack) -> BinaryIO:
    """A file that is all there: nothing is waited for. Raises :class:`OSError` with a reason, for a FIFO, say."""
    descriptor = os.open(name, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    opened = stack.enter_context(os.fdopen(descriptor, "rb"))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        hint = "it is not a regular file (pipe what a program writes into `countersign import -`)"
        raise OSError(errno.EINVAL, hint)
    return opened


def _microseconds(moment: datetime) -> int:
    """Since 1970."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _unpacking_errors() -> tuple[type[Exception], ...]:
    """What a damaged archive raises."""
    zstandard = sys.modules.get("zstandard")  # which only :meth:`_Reading._plain` needs, and may not have needed
    return (EOFError, gzip.BadGzipFile, zlib_error, *((zstandard.ZstdError,) if zstandard else ()))


def _shown(name: str) -> str:
    return "standard input" if name == "-" else name


def _merged(found: KeyLog, given: KeyLog) -> KeyLog:
    """Both; what the user gave goes before what the file has."""
    for secret in given:
        found.add(secret.label, secret.client_random, secret.secret)
    return found
