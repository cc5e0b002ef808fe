"""A recording as bytes: what one row of the store holds.

The form is ours, plain and versioned; nothing in it is ever executed. All numbers are little endian::

    magic      2 bytes   "CR"
    version    1 byte    1
    reserved   1 byte    0
    checksum   4 bytes   CRC-32 of everything after it, begun with the four bytes before it
    head       u32 length, then JSON: all that is small; what has its default is left out
    references u32 count, then the SHA-256 (32 bytes) of each certificate that was taken out
    legs       for each leg named in the head:
                 u32 count, then that many messages
                 u32 count, then that many secrets (three pieces, each u16 length and bytes)

    message    f64 time, u8 flags, i32 code, u64 length, u32 size
               [u16 length, digest]                   flag 8: the digest as text
               [u32 count, (u32 offset, u32 number)]  flag 16: put certificate `number` in at `offset`
               `size` bytes

A message that was told and not seen (:mod:`countersign.recorder.wire.told`) has no bytes here; what was told stands in
the head, by the message's number.

Certificates come again with every session, so the store keeps each once. A Certificate message that was kept whole
and whose lists are well formed has them cut out, to be put back at the same offset byte for byte; any other message
stays as it is. What is cut out is looked up by its SHA-256 and checked against it on the way back.

The checksum is against accidents (a cut file, a flipped bit), not against malice: who can write the store can write a
checksum too.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from typing import Any, NamedTuple, TypeVar
from zlib import crc32

from countersign.recorder.recording import (
    DataCount,
    End,
    Ending,
    Failure,
    FailureCode,
    Leg,
    LegRole,
    Outcome,
    Party,
    Recording,
    Status,
    Verification,
)
from countersign.recorder.wire.codes import CERTIFICATE, COMPRESSED_CERTIFICATE
from countersign.recorder.wire.events import Content, EncryptedRecord, Message, Problem, Side
from countersign.recorder.wire.messages import CompressedCertificate, decode_message
from countersign.recorder.wire.secrets import Secret
from countersign.recorder.wire.told import Told

_MAGIC = b"CR"
_VERSION = 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

_PREFIX = struct.Struct("<2sBBI")
_COUNT = struct.Struct("<I")
_SHORT = struct.Struct("<H")
_MESSAGE = struct.Struct("<dBiQI")
_REFERENCE = struct.Struct("<II")

# The flags of a message: bit 0 who sent it, bits 1 and 2 what carried it, bit 5 whether it was encrypted.
_SENDERS = {Side.CLIENT: 0, Side.SERVER: 1}
_CONTENT_BITS = {Content.HANDSHAKE: 0, Content.ALERT: 2, Content.CHANGE_CIPHER_SPEC: 4, Content.HEARTBEAT: 6}
_SIDE_OF = (Side.CLIENT, Side.SERVER)
_CONTENT_OF = (Content.HANDSHAKE, Content.ALERT, Content.CHANGE_CIPHER_SPEC, Content.HEARTBEAT)
_HAS_DIGEST = 8
_HAS_REFERENCES = 16
_ENCRYPTED = 32

_SMALLEST_CERTIFICATE = 128  # a list of a hundred thousand one-byte "certificates" stays in its message
_MOST_CERTIFICATES = 64  # of one message
_CACHED_UP_TO = 16 << 10

_Kind = TypeVar("_Kind")

Find = Callable[[Sequence[bytes]], Mapping[bytes, bytes]]
"""Gives the certificates (DER) of these SHA-256 digests; what it does not have it leaves out."""


class BlobError(ValueError):
    """The bytes are no recording, or not whole. The text ends a sentence that names the recording."""


class Packed(NamedTuple):
    """A recording's bytes, and the certificates that its messages show: SHA-256 to DER."""

    data: bytes
    certificates: dict[bytes, bytes]


@dataclass(frozen=True, slots=True)
class CutCertificates:
    """Where the certificates of a Certificate message are: for each its offset in the message, its SHA-256 and DER."""

    places: tuple[tuple[int, bytes, bytes], ...]
    rest: bytes


def microseconds(moment: datetime) -> int:
    """Whole microseconds since 1970, UTC. The moment must know its time zone."""
    return (moment - _EPOCH) // _MICROSECOND


def moment(microseconds_: int) -> datetime:
    """The reverse of :func:`microseconds`."""
    return _EPOCH + timedelta(microseconds=microseconds_)


# -- to bytes ----------------------------------------------------------------------------------------------------


def pack(recording: Recording) -> Packed:
    """The bytes of a recording, its certificates beside them."""
    numbers: dict[bytes, int] = {}
    certificates: dict[bytes, bytes] = {}
    body: list[bytes] = []
    for leg in recording.legs:
        body.append(_COUNT.pack(len(leg.messages)))
        for message in leg.messages:
            _pack_message(message, body, numbers, certificates)
        body.append(_COUNT.pack(len(leg.secrets)))
        for secret in leg.secrets:
            for piece in (secret.label.encode("utf-8", "surrogatepass"), secret.client_random, secret.secret):
                body += (_SHORT.pack(len(piece)), piece)
    head = _JSON.encode(_head(recording)).encode("ascii")
    data = b"".join((_COUNT.pack(len(head)), head, _COUNT.pack(len(numbers)), *numbers, *body))
    checksum = crc32(data, crc32(bytes((*_MAGIC, _VERSION, 0))))
    return Packed(_PREFIX.pack(_MAGIC, _VERSION, 0, checksum) + data, certificates)


def cut_certificates(message: Message) -> CutCertificates | None:
    """The certificates of a whole, well-formed Certificate message; ``None`` for every other message."""
    raw = message.raw
    if message.code != CERTIFICATE or message.content is not Content.HANDSHAKE or len(raw) != message.length:
        return None
    return (_cut_again if len(raw) <= _CACHED_UP_TO else _cut)(raw)


def shown_certificates(message: Message) -> Sequence[tuple[bytes, bytes]]:
    """The certificates in a message, SHA-256 and DER, also those in a compressed one, which stays as it is."""
    if message.code == COMPRESSED_CERTIFICATE and message.complete and message.content is Content.HANDSHAKE:
        return _decompressed(message.raw)
    cut = cut_certificates(message)
    return [] if cut is None else [(digest, der) for _, digest, der in cut.places]


@lru_cache(maxsize=64)
def _decompressed(raw: bytes) -> Sequence[tuple[bytes, bytes]]:
    read = decode_message(raw).value  # RFC 8879 4; what comes out is bounded there
    found = read.certificates[:_MOST_CERTIFICATES] if isinstance(read, CompressedCertificate) else ()
    return [(sha256(der).digest(), der) for der in found if len(der) >= _SMALLEST_CERTIFICATE]


def _cut(raw: bytes) -> CutCertificates | None:
    # Either form fits only its own version: a TLS 1.3 message begins with a context (one byte of length), so that
    # the list's length, read three bytes from the start, cannot come out even. Were a message to fit both, the bytes
    # would still be put back where they were.
    places = _entries(raw, 4, extensions=False)  # RFC 5246 7.4.2
    if places is None and len(raw) > 4:
        places = _entries(raw, 5 + raw[4], extensions=True)  # RFC 8446 4.4.2
    if not places:
        return None
    places = [(start, end) for start, end in places if end - start >= _SMALLEST_CERTIFICATE][:_MOST_CERTIFICATES]
    rest, at = [], 0
    for start, end in places:
        rest.append(raw[at:start])
        at = end
    rest.append(raw[at:])
    found = ((start, raw[start:end]) for start, end in places)
    return CutCertificates(tuple((start, sha256(der).digest(), der) for start, der in found), b"".join(rest))


_cut_again = lru_cache(maxsize=512)(_cut)


def _entries(raw: bytes, at: int, *, extensions: bool) -> list[tuple[int, int]] | None:
    """Where each entry of the certificate list at ``at`` begins and ends; ``None`` unless it fills the message."""
    end = len(raw)
    if at + 3 > end or at + 3 + int.from_bytes(raw[at : at + 3], "big") != end:
        return None
    at += 3
    places = []
    while at < end:
        start = at + 3
        at = start + int.from_bytes(raw[at:start], "big")
        places.append((start, at))
        if extensions:
            at += 2 + int.from_bytes(raw[at : at + 2], "big")
    return places if at == end else None


def _pack_message(
    message: Message, body: list[bytes], numbers: dict[bytes, int], certificates: dict[bytes, bytes]
) -> None:
    flags = _SENDERS[message.sender] | _CONTENT_BITS[message.content]
    if message.encrypted:
        flags |= _ENCRYPTED
    raw = message.raw
    extra = b""
    if message.digest:
        flags |= _HAS_DIGEST
        digest = message.digest.encode("utf-8")
        extra = _SHORT.pack(len(digest)) + digest
    cut = cut_certificates(message)
    if cut is not None and cut.places:
        flags |= _HAS_REFERENCES
        raw = cut.rest
        extra += _COUNT.pack(len(cut.places))
        for offset, digest, der in cut.places:
            extra += _REFERENCE.pack(offset, numbers.setdefault(digest, len(numbers)))
            certificates[digest] = der
    elif message.code == COMPRESSED_CERTIFICATE:
        certificates.update(shown_certificates(message))
    body.append(_MESSAGE.pack(message.t, flags, message.code, message.length, len(raw)))
    if extra:
        body.append(extra)
    body.append(raw)


def _head(recording: Recording) -> dict[str, Any]:
    """All that is small. Keys that have their default are left out; a reader of today ignores keys of tomorrow."""
    outcome = recording.outcome
    head: dict[str, Any] = {
        "id": recording.id,
        "started": microseconds(recording.started),
        "mode": recording.mode,
        "action": recording.action,
        "outcome": [outcome.status, outcome.broken_by, outcome.leg, outcome.alert, outcome.text],
        "bytes": [recording.from_client, recording.from_target],
        "legs": [_leg_head(leg) for leg in recording.legs],
    }
    if recording.ended is not None:
        head["ended"] = microseconds(recording.ended)
    if recording.step:
        head["step"] = recording.step
    for name in ("scenario", "client", "target", "sni", "label"):
        value = getattr(recording, name)
        if value is not None:
            head[name] = value
    for name in ("prelude", "http", "mtls", "not_mirrored", "findings", "log"):
        value = getattr(recording, name)
        if value:
            head[name] = value
    if recording.problems:
        head["problems"] = [
            [role, found.t, found.sender, found.field, found.offset, found.expected, found.got, found.message]
            for role, found in recording.problems
        ]
    if recording.failures:
        head["failures"] = [
            [failure.t, failure.leg, failure.by, failure.code, failure.text] for failure in recording.failures
        ]
    return head


def _leg_head(leg: Leg) -> dict[str, Any]:
    head: dict[str, Any] = {"leg": leg.role}
    told = {number: message.told.to_json() for number, message in enumerate(leg.messages) if message.told is not None}
    if told:
        head["told"] = told
    if leg.data:
        head["data"] = {
            side: [count.records, count.length, count.first, count.last] for side, count in leg.data.items()
        }
    if leg.ends:
        head["ends"] = [[end.t, end.sender, end.how] for end in leg.ends]
    if leg.encrypted_records:
        head["encrypted_records"] = [
            [record.t, record.sender, record.content_type, record.length, record.alert_size]
            for record in leg.encrypted_records
        ]
    if leg.verification is not None:
        seen = leg.verification
        head["verification"] = [seen.trusted, seen.error, seen.depth, seen.enforced]
    if leg.faults:
        head["faults"] = leg.faults
    if leg.revocation:
        head["revocation"] = leg.revocation
    return head


def _plain(value: object) -> Any:
    """What JSON has no form for: a mapping that is no dict."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a recording holds {type(value).__name__}, which has no JSON form")


_JSON = json.JSONEncoder(separators=(",", ":"), default=_plain)


# -- from bytes --------------------------------------------------------------------------------------------------


def unpack(data: bytes, find: Find) -> Recording:
    """The recording that :func:`pack` was given. Raises :class:`BlobError` for bytes that are not whole."""
    if len(data) < _PREFIX.size:
        raise BlobError(f"{len(data)} bytes are left of it")
    magic, version, reserved, checksum = _PREFIX.unpack_from(data)
    if magic != _MAGIC:
        raise BlobError(f"it begins with {bytes(magic).hex()} instead of {_MAGIC.hex()}")
    if version > _VERSION:
        raise BlobError(f"it was written by a newer countersign (form {version}, this one reads {_VERSION}): upgrade")
    counted = crc32(memoryview(data)[_PREFIX.size :], crc32(bytes((*magic, version, reserved))))
    if checksum != counted:
        raise BlobError(f"its checksum should be {checksum:08x} and is {counted:08x}: it was cut or changed")
    try:
        return _unpack(_Reader(data, _PREFIX.size), find)
    except BlobError:
        raise
    except (struct.error, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as wrong:
        raise BlobError(f"its checksum is right and its content is not ({type(wrong).__name__}: {wrong})") from wrong


class _Reader:
    __slots__ = ("at", "data")

    def __init__(self, data: bytes, at: int) -> None:
        self.data = data
        self.at = at

    def numbers(self, form: struct.Struct) -> tuple[Any, ...]:
        values = form.unpack_from(self.data, self.at)
        self.at += form.size
        return values

    def count(self) -> int:
        return int(self.numbers(_COUNT)[0])

    def take(self, size: int) -> bytes:
        piece = self.data[self.at : self.at + size]
        if len(piece) != size:
            raise BlobError(f"{size} bytes were expected at {self.at}, {len(piece)} are there")
        self.at += size
        return piece

    def piece(self) -> bytes:
        return self.take(self.numbers(_SHORT)[0])


def _unpack(reader: _Reader, find: Find) -> Recording:
    head = json.loads(reader.take(reader.count()))
    digests = [reader.take(32) for _ in range(reader.count())]
    certificates = _found(digests, find) if digests else []
    legs = tuple(_leg(entry, reader, certificates) for entry in head["legs"])
    if reader.at != len(reader.data):
        raise BlobError(f"{len(reader.data) - reader.at} bytes are left over after its last leg")
    status, broken_by, leg, alert, text = head["outcome"]
    return Recording(
        id=head["id"],
        started=moment(head["started"]),
        ended=moment(head["ended"]) if "ended" in head else None,
        mode=head["mode"],
        action=head["action"],
        scenario=head.get("scenario"),
        step=head.get("step", 0),
        client=head.get("client"),
        target=head.get("target"),
        sni=head.get("sni"),
        label=head.get("label"),
        outcome=Outcome(Status(status), _optional(Party, broken_by), _optional(LegRole, leg), alert, text),
        from_client=head["bytes"][0],
        from_target=head["bytes"][1],
        legs=legs,
        problems=tuple(
            (LegRole(role), Problem(t, Side(sender), field, offset, expected, got, message))
            for role, t, sender, field, offset, expected, got, message in head.get("problems", ())
        ),
        failures=tuple(
            Failure(t, _optional(LegRole, leg), Party(by), code=FailureCode(code), text=text)
            for t, leg, by, code, text in head.get("failures", ())
        ),
        prelude=head.get("prelude", {}),
        http=tuple(head.get("http", ())),
        mtls=head.get("mtls", {}),
        not_mirrored=tuple(head.get("not_mirrored", ())),
        findings=tuple(head.get("findings", ())),
        log=head.get("log", {}),
    )


def _optional(kind: Callable[[str], _Kind], value: str | None) -> _Kind | None:
    return None if value is None else kind(value)


def _found(digests: Sequence[bytes], find: Find) -> list[bytes]:
    found = find(digests)
    certificates = []
    for digest in digests:
        der = found.get(digest)
        if der is None:
            raise BlobError(f"the certificate {digest.hex()} that it refers to is not in the store")
        if sha256(der).digest() != digest:
            raise BlobError(f"the certificate {digest.hex()} that it refers to was changed in the store")
        certificates.append(der)
    return certificates


def _leg(head: Mapping[str, Any], reader: _Reader, certificates: Sequence[bytes]) -> Leg:
    messages = [_message(reader, certificates) for _ in range(reader.count())]
    for number, told in head.get("told", {}).items():
        messages[int(number)] = replace(messages[int(number)], told=Told.from_json(told))
    secrets = tuple(
        Secret(reader.piece().decode("utf-8", "surrogatepass"), reader.piece(), reader.piece())
        for _ in range(reader.count())
    )
    seen = head.get("verification")
    return Leg(
        role=LegRole(head["leg"]),
        messages=tuple(messages),
        data={Side(side): DataCount(*count) for side, count in head.get("data", {}).items()},
        ends=tuple(End(t, Side(sender), Ending(how)) for t, sender, how in head.get("ends", ())),
        secrets=secrets,
        encrypted_records=tuple(
            EncryptedRecord(t, Side(sender), content_type, length, alert_size)
            for t, sender, content_type, length, alert_size in head.get("encrypted_records", ())
        ),
        verification=None if seen is None else Verification(*seen),
        faults=tuple(head.get("faults", ())),
        revocation=tuple(head.get("revocation", ())),
    )


def _message(reader: _Reader, certificates: Sequence[bytes]) -> Message:
    t, flags, code, length, size = reader.numbers(_MESSAGE)
    digest = reader.piece().decode() if flags & _HAS_DIGEST else ""
    references = [reader.numbers(_REFERENCE) for _ in range(reader.count())] if flags & _HAS_REFERENCES else []
    raw = reader.take(size)
    if references:
        raw = _with_certificates(raw, [(offset, certificates[number]) for offset, number in references])
    return Message(
        t=t,
        sender=_SIDE_OF[flags & 1],
        content=_CONTENT_OF[flags >> 1 & 3],
        code=code,
        encrypted=bool(flags & _ENCRYPTED),
        length=length,
        raw=raw,
        digest=digest,
    )


def _with_certificates(rest: bytes, places: Sequence[tuple[int, bytes]]) -> bytes:
    whole = bytearray()
    at = 0
    for offset, der in places:
        literal = offset - len(whole)
        whole += rest[at : at + literal]
        at += literal
        if len(whole) != offset:
            raise BlobError(f"a certificate belongs at byte {offset} of a message that ends at {len(whole)}")
        whole += der
    whole += rest[at:]
    return bytes(whole)
