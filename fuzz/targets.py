"""What must hold for any bytes at all, one function a target.

A target takes the bytes that the engine made up and raises where a promise is broken: an exception that should not
leave the decoder, a result that depends on how its input was sliced, a message that is not built again to the byte,
more output than input. :class:`BrokenError` is a promise of ours, anything else that comes out is a defect as well.

The inputs have forms of their own, made so that cutting, joining and changing them anywhere gives inputs again: what
is missing is empty, and what is too long is cut. ``seeds.py`` builds real ones.
"""

from __future__ import annotations

import io
import json
import random
import tempfile
import time
from contextlib import redirect_stdout
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from countersign.errors import UserError
from countersign.findings.explaining import explain
from countersign.recorder import certificates, der
from countersign.recorder.files._dialogue import Chunk, read_prelude
from countersign.recorder.files.capture import MOST_TROUBLES
from countersign.recorder.files.documents import read_document
from countersign.recorder.files.importing import ImportTrouble, Tally, import_files
from countersign.recorder.files.javalog import read_java_log
from countersign.recorder.files.ladder import render_ladder
from countersign.recorder.ocsp import read_ocsp_response
from countersign.recorder.recording import Leg, LegRole, Outcome, Recording, Status, from_json, to_json
from countersign.recorder.schema.checking import what_is_wrong
from countersign.recorder.store.blob import BlobError, Packed, microseconds, moment, pack, unpack
from countersign.recorder.wire import extensions
from countersign.recorder.wire.events import (
    ApplicationData,
    Content,
    EncryptedRecord,
    Event,
    Message,
    Problem,
    Side,
)
from countersign.recorder.wire.handshakes import KEEP
from countersign.recorder.wire.leg import HELD_AT_MOST, PROBLEMS_AT_MOST, LegDecoder
from countersign.recorder.wire.messages import (
    ClientHello,
    CompressedCertificate,
    DecodeContext,
    Opaque,
    decode,
    looks_like_sslv2_hello,
)
from countersign.recorder.wire.reader import MAX_PROBLEMS
from countersign.recorder.wire.reading import read_leg, summarize_client_hello
from countersign.recorder.wire.secrets import LABELS, KeyLog
from countersign.recorder.wire.tds import Unwrapper
from countersign.recorder.x509_fields import KEPT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

SECONDS_A_INPUT = 2.0
"""No input of these sizes may take longer, on any machine: what they take here is some milliseconds."""

_ESCAPED_AT_MOST = 12  # characters that one hostile byte or character can become


class BrokenError(AssertionError):
    """A promise that was not kept."""


def check(kept: object, promise: str, *shown: object) -> None:
    if not kept:
        raise BrokenError(promise + "".join(f"\n  {one!r}"[:2000] for one in shown))


def in_time(target: Callable[[bytes], None], data: bytes) -> None:
    """The target, and the promise that it is quick: measured in this process's CPU time."""
    begun = time.process_time()
    target(data)
    took = time.process_time() - begun
    check(took < SECONDS_A_INPUT, f"{len(data)} bytes are decoded in under {SECONDS_A_INPUT} s, not {took:.1f}")


# -- conversation


MISSING = 1460
"""Bytes of a gap."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """The input of :func:`leg`: who sends what, in order, and a key log.

    ``flags`` (bit 0: use the key log; bit 1: it comes late; bit 2: an empty segment is a gap), two bytes that seed the
    slicing, a length (two bytes) and that many bytes of key log, then segments: two bytes, of which the highest bit
    says that it is the server's and the rest how long it is, and its bytes.
    """

    flags: int
    dice: int
    keylog: bytes
    segments: tuple[tuple[Side, bytes], ...]

    @classmethod
    def parse(cls, data: bytes) -> Conversation:
        size = int.from_bytes(data[3:5], "big")
        keylog, rest = data[5 : 5 + size], data[5 + size :]
        segments = []
        while rest:
            head = int.from_bytes(rest[:2], "big")
            length = head & 0x7FFF
            segments.append((Side.SERVER if head & 0x8000 else Side.CLIENT, rest[2 : 2 + length]))
            rest = rest[2 + length :]
        return cls(data[0] if data else 0, int.from_bytes(data[1:3], "big"), keylog, tuple(segments))

    def build(self) -> bytes:
        out = bytes([self.flags]) + self.dice.to_bytes(2, "big") + len(self.keylog).to_bytes(2, "big") + self.keylog
        for side, data in self.segments:
            for at in range(0, max(1, len(data)), 0x7FFF):
                part = data[at : at + 0x7FFF]
                out += (len(part) | (0x8000 if side is Side.SERVER else 0)).to_bytes(2, "big") + part
        return out


def leg(data: bytes) -> None:
    """LegDecoder: the same events for every slicing, never more than came in, and every message of them readable."""
    conversation = Conversation.parse(data)
    whole = _decoded(conversation, lambda part: (part,))
    dice = random.Random(conversation.dice)

    def anyhow(part: bytes) -> Iterable[bytes]:
        at = 0
        while at < len(part):
            size = dice.choice((1, 2, 4, 5, 6, 9, 100, 1000, 5000))
            yield part[at : at + size]
            at += size

    sliced = _decoded(conversation, anyhow)
    for side in Side:
        ours, theirs = _summed(whole, side), _summed(sliced, side)
        if ours != theirs:
            first = next((pair for pair in zip(ours, theirs, strict=False) if pair[0] != pair[1]), None)
            check(False, "events do not depend on slicing", side, first, ours[-3:], theirs[-3:])
    _bounded(whole, conversation)
    _readable([event for event in whole if isinstance(event, Message)])


def _decoded(conversation: Conversation, cut: Callable[[bytes], Iterable[bytes]]) -> list[Event]:
    keylog = KeyLog() if conversation.flags & 1 else None
    late = conversation.flags & 2
    if keylog is not None and not late:
        keylog.add_text(conversation.keylog)
    decoder = LegDecoder(keylog=keylog)
    out: list[Event] = []
    for sender, part in conversation.segments:
        if not part and conversation.flags & 4:
            out += decoder.gap(sender, MISSING, 0.0)
        for piece in cut(part):
            out += decoder.receive(sender, piece, 0.0)
    if keylog is not None and late:
        keylog.add_text(conversation.keylog)
        out += decoder.unlock(0.0)
    for side in Side:
        out += decoder.end(side, 0.0)
    again = [event for side in Side for event in decoder.end(side, 0.0)]
    check(again == [], "a second end has nothing to tell", again)
    held = sum(direction.held_bytes for direction in (decoder._client, decoder._server))  # noqa: SLF001
    check(held <= 2 * HELD_AT_MOST, "what is held is bounded", held)
    return out


def _summed(events: list[Event], side: Side) -> list[Event]:
    out: list[Event] = []
    for event in events:
        if event.sender is not side:
            continue
        last = out[-1] if out else None
        if isinstance(event, ApplicationData) and isinstance(last, ApplicationData):
            out[-1] = ApplicationData(0.0, side, last.records + event.records, last.length + event.length)
        else:
            out.append(event)
    return out


def _bounded(events: list[Event], conversation: Conversation) -> None:
    came = {side: sum(len(data) or MISSING for who, data in conversation.segments if who is side) for side in Side}
    for side in Side:
        mine = [event for event in events if event.sender is side]
        messages = [event for event in mine if isinstance(event, Message)]
        told = sum(len(message.raw) for message in messages)
        check(told <= came[side], "messages hold no more bytes than came", told, came[side])
        check(all(len(message.raw) <= KEEP for message in messages), "a message keeps at most the cap")
        check(all(len(message.raw) <= max(message.length, 4) for message in messages), "a message is as long as it is")
        if not conversation.flags & 1:
            leaks = [message for message in messages if message.encrypted and message.raw]
            check(not leaks, "nothing encrypted is read without keys", leaks)
        problems = sum(isinstance(event, Problem) for event in mine)
        check(problems <= PROBLEMS_AT_MOST + 1, "problems of a side are bounded", problems)
        counted = sum(event.length for event in mine if isinstance(event, ApplicationData | EncryptedRecord))
        check(told + counted <= came[side] + 0x10000, "no more is counted than came", told, counted, came[side])


# -- message


VERSIONS = (None, 0x0300, 0x0301, 0x0302, 0x0303, 0x0304, 0x7F1C, 0x0305)
CONTENTS = tuple(Content)


class Given(NamedTuple):
    """The input of :func:`message`: four bytes of context, then the message."""

    content: Content
    context: DecodeContext
    raw: bytes

    @classmethod
    def parse(cls, data: bytes) -> Given:
        head = data[:4].ljust(4, b"\0")
        suite = int.from_bytes(head[2:4], "big")
        context = DecodeContext(VERSIONS[head[0] & 7], suite or None, tuple(Side)[head[1] & 1])
        return cls(CONTENTS[head[0] >> 3 & 3], context, data[4:])


def message(data: bytes) -> None:
    """decode: what has no problem is built again to the byte, and whatever it is can be shown."""
    _message(*Given.parse(data))


def _message(content: Content, context: DecodeContext, raw: bytes) -> None:
    decoded = decode(content, raw, context)
    check(decoded == decode(content, raw, context), "a message is always read alike")
    value = decoded.value
    built = value.build()
    if isinstance(value, Opaque):
        check(built == raw, "opaque is as it came", value)
    if not decoded.problems:
        check(built == raw, "what has no problem is built again to the byte", value, built, raw)
    check(len(decoded.problems) <= MAX_PROBLEMS, "problems of a message are bounded", len(decoded.problems))
    inner = isinstance(value, CompressedCertificate)  # its offsets count in what was decompressed
    for problem in decoded.problems:
        check(inner or 0 <= problem.offset <= len(raw), "a problem is within its message", problem, len(raw))
        _printable([problem.field, problem.expected, problem.got])
    shown = value.fields()
    _printable(json.loads(json.dumps(shown, allow_nan=False)))
    if content is Content.HANDSHAKE and not decoded.problems and raw[:1] == b"\x01":
        for end in range(0, len(raw), max(1, len(raw) // 16)):
            check(decode(content, raw[:end], context).problems, "a strict prefix has a problem", end)
    if content is Content.HANDSHAKE:
        _glance(raw, value, clean=not decoded.problems)


def _glance(raw: bytes, value: object, *, clean: bool) -> None:
    summary = summarize_client_hello(raw)
    if isinstance(value, ClientHello) and clean:
        check(summary.well_formed, "a glance sees nothing wrong where there is nothing wrong", value)
        check(summary.ciphers == value.cipher_suites, "a glance sees the suites", value)
        check(summary.extensions == tuple(one.code for one in value.extensions or ()), "and the extensions", value)
    if raw[:1] != b"\x01" and not looks_like_sslv2_hello(raw):
        check(not summary.well_formed, "what is no ClientHello is not well formed", raw[:8])


def _printable(shown: object) -> None:
    if isinstance(shown, str):
        check(shown.isprintable(), "what is shown is printable", shown)
    elif isinstance(shown, dict):
        for key, value in shown.items():
            _printable(key)
            _printable(value)
    elif isinstance(shown, list):
        for one in shown:
            _printable(one)


# -- leg


def reading(data: bytes) -> None:
    """read_leg: messages in any order. ``flags`` (side, content, encrypted) and a length (two bytes) before each."""
    messages: list[Message] = []
    at = 0
    while at + 3 <= len(data):
        flags, size = data[at], int.from_bytes(data[at + 1 : at + 3], "big")
        raw = data[at + 3 : at + 3 + size]
        content = CONTENTS[flags >> 1 & 3]
        length = size if flags & 16 else len(raw)
        code = raw[content is Content.ALERT and len(raw) > 1] if raw else -1
        messages.append(Message(0.0, tuple(Side)[flags & 1], content, code, bool(flags & 8), length, raw))
        at += 3 + size
    _readable(messages)


def message_list(messages: Iterable[Message]) -> bytes:
    """The input of :func:`reading` for these messages."""
    out = b""
    for one in messages:
        raw = one.raw[:0xFFFF]
        flags = tuple(Side).index(one.sender) | CONTENTS.index(one.content) << 1 | one.encrypted << 3
        out += bytes([flags]) + len(raw).to_bytes(2, "big") + raw
    return out


def _readable(messages: list[Message]) -> None:
    read = read_leg(messages)
    check(len(read.messages) == len(messages), "every message is read")
    check(all(one.type.isprintable() for one in read.messages), "types are printable")
    made = _recording(messages)
    document = json.loads(json.dumps(to_json(made), allow_nan=False))
    _printable(document)
    back = from_json(document)
    check(back == made, "a recording comes back from its JSON form", back, made)
    packed = pack(made)
    back = unpack(packed.data, _finder(packed))
    check(back == made, "a recording comes back from its bytes", back, made)


def _recording(messages: Iterable[Message]) -> Recording:
    return Recording(
        id="fuzz",
        started=moment(0),
        mode="reverse",
        action="intercept",
        outcome=Outcome(Status.OPEN),
        legs=(Leg(LegRole.CLIENT, tuple(messages)),),
    )


# -- certificate


def certificate(data: bytes) -> None:
    """read_certificate and the DER readers inside messages: never an exception, bounded, printable."""
    facts = certificates.read_certificate(data)
    check(facts == certificates.read_certificate(data), "a certificate is always read alike")
    shown = json.loads(json.dumps(facts.to_json(), allow_nan=False))
    _printable(shown)
    for name, value in shown.items():
        if isinstance(value, list):
            check(len(value) <= KEPT, "lists are bounded", name, len(value))
    check(len(json.dumps(shown)) < (1 << 17) + _ESCAPED_AT_MOST * len(data), "facts are bounded", len(data))
    try:
        parts = certificates.cut_certificate(data)
    except der.DerError:
        check(facts.problems, "what is no certificate says so")
    else:
        pieces = (parts.version, parts.serial, parts.inner_algorithm, parts.issuer, parts.validity, parts.subject)
        check(b"".join(pieces) in parts.tbs, "the parts are those of the certificate", parts)
        check(parts.tbs + parts.algorithm + parts.signature in data, "and lie in it in their order", parts)
    for said in (extensions.distinguished_name(data), read_ocsp_response(data).to_json()):
        _printable(json.loads(json.dumps(said, allow_nan=False)))


# -- captures


def capture(data: bytes) -> None:
    """import_files: whatever a file holds, recordings that come back from their JSON form, and troubles in one line."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        tally = Tally()
        found = list(import_files([file.name], kept=LABELS, tally=tally))
    recordings = [one for one in found if isinstance(one, Recording)]
    check(tally.recordings == len(recordings), "recordings are counted", tally)
    told = [one for one in found if isinstance(one, ImportTrouble)]
    check(len(told) <= MOST_TROUBLES + _BROKEN_AT_MOST, "troubles are bounded", len(told))
    for trouble in told:
        check(str(trouble).isprintable(), "a trouble is one printable line", str(trouble))
        check((trouble.offset or 0) >= 0, "a trouble has a place", trouble)
    for one in recordings[:_LOOKED_AT]:
        shown = json.loads(json.dumps(to_json(one), allow_nan=False))
        check(what_is_wrong(shown) is None, "a recording is as the schema says", what_is_wrong(shown))
        _printable(shown["legs"])
        _printable([problem["got"] for problem in shown["problems"]])
        without = replace(one, legs=tuple(replace(leg, secrets=()) for leg in one.legs))
        back = from_json(shown)
        check(back == without, "a recording comes back from its JSON form", back, without)
        check(render_ladder(one, width=80).isascii() is not None, "a recording can be shown")


_LOOKED_AT = 4
_BROKEN_AT_MOST = 200  # documents that are none, each told


def prelude(data: bytes) -> None:
    """read_prelude: what goes before TLS. ``flags`` (bit 0: the client's; bit 1: missing) and a length before each."""
    chunks = []
    at = 0
    while at + 3 <= len(data):
        flags, size = data[at], int.from_bytes(data[at + 1 : at + 3], "big")
        said = data[at + 3 : at + 3 + size]
        chunks.append(Chunk(0.0, bool(flags & 1), None if flags & 2 else said))
        at += 3 + size
    read = read_prelude(chunks, proxy="192.0.2.7:443")
    text = json.dumps(read.record, allow_nan=False)
    check(len(text) < (1 << 14) + 2 * _ESCAPED_AT_MOST * len(data), "a prelude is bounded", len(text), len(data))
    whole, piecemeal = Unwrapper(), Unwrapper()
    stream = b"".join(chunk.data or b"" for chunk in chunks)
    check(
        whole.feed(stream) == b"".join(piecemeal.feed(stream[n : n + 1]) for n in range(len(stream))),
        "what is unwrapped does not depend on slicing",
    )


# -- key log


def keylog(data: bytes) -> None:
    """KeyLog.add_text: counts add up, text and bytes say the same, what it gives out it takes again, nothing shows."""
    log = KeyLog()
    counts = log.add_text(data)
    check(counts.secrets + counts.ignored + counts.broken <= len(data.splitlines()), "every line counts once", counts)
    check((log.ignored, log.broken) == (counts.ignored, counts.broken), "counts add up", counts)
    check(len(log) <= counts.secrets, "no more secrets than lines", len(log), counts)
    again = KeyLog()
    lines = list(log.lines())
    check(again.add_text("\n".join(lines)).secrets == len(lines), "its lines are read again")
    check(list(again) == list(log), "and are the same")
    singly = KeyLog()
    for line in data.splitlines():
        singly.add_line(line)
    check(list(singly) == list(log), "line by line it is the same")
    said = repr(log) + "".join(repr(secret) + str(secret) for secret in log) + repr(counts)
    for secret in log:
        if secret.secret not in {one.client_random for one in log}:
            check(secret.secret.hex() not in said, "a secret never shows")
        check(log.get(secret.client_random)[secret.label] == secret.secret, "a secret is found by its random")


# -- blob and JSON


def blob(data: bytes) -> None:
    """unpack: bytes with a right checksum are a recording that comes back, or a BlobError."""
    for body in (data, sealed(data)):
        try:
            read = unpack(body, lambda _: {})
        except BlobError as wrong:
            check(str(wrong).isprintable(), "an error is one line", str(wrong))
            continue
        try:
            packed = pack(read)
        except (TypeError, ValueError, OverflowError, AttributeError) as wrong:
            # What JSON may hold and our fields do not (a number for a name): who writes that can write checksums.
            check(_misfit(read), "what was unpacked can be packed", wrong, read)
            continue
        back = unpack(packed.data, _finder(packed))
        check(repr(back) == repr(read), "a recording comes back from its bytes", back, read)


def _finder(packed: Packed) -> Callable[[Sequence[bytes]], dict[bytes, bytes]]:
    """What a store would find."""
    return lambda digests: {one: packed.certificates[one] for one in digests}


def sealed(body: bytes) -> bytes:
    """The same with the head and the checksum of a blob."""
    from zlib import crc32

    return b"CR\x01\x00" + crc32(body, crc32(b"CR\x01\x00")).to_bytes(4, "little") + body


def _misfit(read: Recording) -> bool:
    """Whether a recording has values that no recording of ours can have."""
    texts = (read.id, read.mode, read.action, read.outcome.text)
    return not all(isinstance(text, str) for text in texts) or microseconds(read.started) < 0


def document(data: bytes) -> None:
    """read_document: a recording, which then comes back, or a UserError in one line.

    What does not begin as JSON does is a list of changes to a real document, four bytes each: which value (two bytes),
    what becomes of it (:data:`_BECOMES`, or the value of another place), and two bytes for that.
    """
    text = data if data[:1] == b"{" else json.dumps(_changed(data)).encode()
    try:
        read = read_document(text)
    except UserError as wrong:
        check(str(wrong).isprintable(), "an error is one printable line", str(wrong)[:300])
        return
    back = read_document(json.dumps(to_json(read)).encode())
    check(repr(back) == repr(read), "a recording comes back from its JSON form", back, read)


_BECOMES: tuple[Any, ...] = (
    *(
        None,
        True,
        0,
        1,
        -1,
        2**31,
        2**63,
        2**70,
        0.5,
        1e400,
        -1e400,
        "",
        "x",
        "client",
        "server",
        "2026-11-20T12:00:00Z",
    ),
    *("9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "\ud800", "\x1b[31m", "AAAA", [], {}, [None], {"x": 1}),
)


def _changed(data: bytes) -> Any:
    made = json.loads(_a_document())
    for at in range(0, min(len(data), 64) - 4, 5):
        places = list(_places(made))
        holder, key = places[int.from_bytes(data[at : at + 2], "big") % len(places)]
        choice, other = data[at + 2], int.from_bytes(data[at + 3 : at + 5], "big")
        if choice < len(_BECOMES):
            holder[key] = deepcopy(_BECOMES[choice])  # else one of them could come to hold itself
        elif choice < 160:
            source, name = places[other % len(places)]
            holder[key] = deepcopy(source[name])
        elif choice < 200 and isinstance(holder[key], str):
            text = holder[key]
            where = other % (len(text) + 1)
            holder[key] = text[:where] + chr(choice) + text[where + 1 :]
        else:
            del holder[key]
    return made


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a document that holds a value."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from _places(value[key])


@cache
def _a_document() -> str:
    from tests.recorder.store_samples import full_sample

    return json.dumps(to_json(replace(full_sample(), findings=())))


# -- all of it


def quiet(target: Callable[[bytes], None], data: bytes) -> None:
    """The target, and the promise that a decoder never prints."""
    out = io.StringIO()
    with redirect_stdout(out):
        in_time(target, data)
    check(not out.getvalue(), "a decoder never prints", out.getvalue()[:200])


class Target(NamedTuple):
    """A function, the longest input that is worth its time, and its share of the total."""

    run: Callable[[bytes], None]
    longest: int
    share: int


# -- java log


def java_log(data: bytes) -> None:
    """Whatever a log is: its recordings fit the schema, survive JSON, and show no control character."""
    recordings = list(read_java_log(io.BytesIO(data), otherwise=_DATED))
    for recording in recordings:
        document = to_json(recording)
        wrong = what_is_wrong(document)
        check(wrong is None, f"the JSON form fits the schema: {wrong}")
        check(to_json(from_json(document)) == document, "what is read back from JSON is the same")
        shown = render_ladder(recording) + json.dumps(document["log"], ensure_ascii=False)
        check(not any(ord(one) < 32 and one != "\n" for one in shown), "no control character is shown", shown)
    check(len(recordings) <= data.count(b"\n") + 1, "a line begins at most one conversation")
    ended = data.replace(b"\r\n", b"\n")
    if b"\r" not in ended and b"\0" not in data:
        wrapped = list(read_java_log(io.BytesIO(ended.replace(b"\n", b"\r\n")), otherwise=_DATED))
        check([to_json(one) for one in wrapped] == [to_json(one) for one in recordings], "line ends change nothing")


def explanation(data: bytes) -> None:
    """Any text is explained or said to be unknown, with lines that are there and no control character."""
    explained = explain(io.BytesIO(data))
    document = explained.to_json()
    shown = json.dumps(document, ensure_ascii=False)
    check(not any(ord(one) < 32 or ord(one) == 127 for one in shown), "no control character is shown", shown)
    for finding in explained.findings:
        check(finding.count >= len(finding.places) >= 1, "a finding has its places")
        check(all(1 <= place.line <= explained.lines for place in finding.places), "a line is one of the file's")


_DATED = datetime(2026, 11, 21, tzinfo=UTC)

TARGETS = {
    "leg": Target(leg, 16384, 6),
    "message": Target(message, 8192, 4),
    "reading": Target(reading, 16384, 2),
    "certificate": Target(certificate, 4096, 2),
    "capture": Target(capture, 32768, 4),
    "prelude": Target(prelude, 4096, 1),
    "keylog": Target(keylog, 4096, 1),
    "blob": Target(blob, 8192, 1),
    "document": Target(document, 32768, 1),
    "java_log": Target(java_log, 16384, 2),
    "explanation": Target(explanation, 8192, 1),
}
