"""Record framing of one direction: bytes in any slicing come in, records come out.

A TLS record is five bytes of header (type, version, length) and its payload (RFC 8446 5.1, RFC 5246 6.2.1). The
very first one of a client may have the SSLv2 form instead, two bytes of header with the high bit set (RFC 5246 E.2).

The framer never raises and never stops. A header of three fields can be wrong in three ways:

- One field is wrong (an unknown type, a version that is not 3.x, a length over 2^14 + 2048): the header is still
  believed as to where the record ends, and a :class:`Flaw` says what is wrong. Reading goes on behind it.
- Two or three fields are wrong: this is no record. From here every byte is opaque until something that looks like a
  whole header comes by (type 20 to 24, version 3.0 to 3.4, length 1 to 2^14 + 2048). Chance makes one of about
  three million random bytes look like that; then the next header is wrong again, and the search goes on.
- The stream ends inside a record: :attr:`RecordFramer.pending` and :meth:`RecordFramer.rest` tell.

What is decided depends on the bytes alone and never on how they were sliced.

Bulk data takes a short way: while :attr:`RecordFramer.skip` is set, application-data records are counted as they
pass and never copied. The caller pulls one frame at a time, so it may change its mind between two records.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from countersign.recorder.wire.messages import looks_like_sslv2_hello

CHANGE_CIPHER_SPEC = 20
ALERT = 21
HANDSHAKE = 22
APPLICATION_DATA = 23
HEARTBEAT = 24
SSLV2_HELLO = 0x80
"""The content type that a :class:`Record` bears when it has the SSLv2 form; no TLS record has it."""

MAX_PLAINTEXT = 1 << 14
MAX_TLS13 = MAX_PLAINTEXT + 256
"""RFC 8446 5.2."""
MAX_RECORD = MAX_PLAINTEXT + 2048
"""RFC 5246 6.2.3."""

NO_RECORD, HTTP = "record.header", "record.http"
"""The fields of problems with bytes that are no TLS at all; the second: they are the beginning of an answer of HTTP."""
TOO_LONG, CUT = "record.length", "record.end"
"""The fields of problems with a record that is longer than it may be, and with one in which the bytes ended."""

_HTTP_ANSWER = re.compile(rb"HTTP/(?:\d|\Z)|<html|<!doc(?:type html|\Z)", re.IGNORECASE)
_HTTP_REQUEST = re.compile(rb"(?:GET|HEAD|POST|PUT|DELETE|OPTIONS|PATCH|TRACE|CONNECT) [!-~]")
_KNOWN_TYPES = frozenset(range(CHANGE_CIPHER_SPEC, HEARTBEAT + 1))
_HEADER = re.compile(rb"[\x14-\x18]\x03[\x00-\x04](?:\x00[^\x00]|[\x01-\x47].|\x48\x00)", re.DOTALL)
_HEADER_SIZE = 5
_SSLV2_HELLO_LEAST = 9  # type, version and three lengths


class Record(NamedTuple):
    """One record. ``offset`` is that of its header in the stream of this side.

    ``length`` is the declared one; the payload is shorter only in what :meth:`RecordFramer.rest` gives. A record in
    SSLv2 form keeps its two bytes of header in ``payload``, for it has no other place where they would survive.
    """

    content_type: int
    version: int
    length: int
    payload: bytes
    offset: int


class Skipped(NamedTuple):
    """Application-data records that passed without being copied; ``length`` counts their payloads."""

    records: int
    length: int


@dataclass(frozen=True, slots=True)
class Flaw:
    """What is wrong with the framing at a byte of the stream; the leg makes a problem of it."""

    field: str
    offset: int
    expected: str
    got: str


Frame = Record | Skipped | Flaw


class RecordFramer:
    """The records of one direction. Feed a slice, then pull frames until there is none."""

    __slots__ = (
        "_carry",
        "_data",
        "_end",
        "_lost_at",
        "_opaque_left",
        "_pos",
        "_record_end",
        "_skip_left",
        "_skipping",
        "_start",
        "opaque",
        "skip",
        "skip_at_most",
        "skip_not",
        "sslv2_may_come",
    )

    def __init__(self, *, sslv2_may_come: bool = False) -> None:
        self.sslv2_may_come = sslv2_may_come
        """The first record may be a ClientHello in SSLv2 form."""
        self.skip = False
        """Count application-data records instead of copying them."""
        self.skip_not: frozenset[int] = frozenset()
        """Payload lengths that are given as records even then (records of the size of an alert)."""
        self.skip_at_most = MAX_RECORD
        """Records with longer payloads are given even then."""
        self.opaque = 0
        """Bytes that belong to no record, or to one whose header was not believable as a whole."""
        self._data: bytes | memoryview = b""
        self._pos = 0
        self._end = 0
        self._start = 0  # the offset in the stream of _data[0]
        self._carry = bytearray()  # the beginning of a record whose rest has not come
        self._record_end = 0  # bytes that _carry must have to be whole; 0 while the header is not
        self._skipping = 0  # payload length of the record that is being skipped
        self._skip_left = 0
        self._opaque_left = 0  # of a record whose payload nobody wants
        self._lost_at = -1  # the offset where no header was found; -1 while in step

    def feed(self, data: bytes | memoryview) -> None:
        """Take the next slice. It is not copied: it must stay as it is until :meth:`next` has given None."""
        if self._pos < self._end:
            data = bytes(self._data[self._pos : self._end]) + bytes(data)
        self._start += self._pos
        self._data = data
        self._pos = 0
        self._end = len(data)

    def next(self) -> Frame | None:
        """The next frame, or None when the slice is used up."""
        while True:
            if self._skip_left:
                skipped = self._skip_on()
                if skipped is not None:
                    return skipped
            if self._opaque_left:
                taken = min(self._opaque_left, self._end - self._pos)
                self._pos += taken
                self._opaque_left -= taken
                self.opaque += taken
            if self._pos == self._end:
                self._done()
                return None
            if self._lost_at >= 0:
                found = self._search()
                if found is not None:
                    return found
                continue
            if not self._carry:
                if self.skip and self._data[self._pos] == APPLICATION_DATA:
                    skipped = self._skip_from_here()
                    if skipped is not None:
                        return skipped
                    if self._skip_left or self._pos == self._end:
                        continue
                whole = self._whole()
                if whole is not None:
                    return whole
            frame = self._carried()
            if frame is not None:
                return frame

    @property
    def offset(self) -> int:
        """How many bytes of the stream were read, an unfinished record's included."""
        return self._start + self._pos

    @property
    def pending(self) -> bool:
        """Whether a record was begun and is not finished."""
        return bool(self._carry or self._skip_left or self._opaque_left)

    def rest(self) -> list[Frame]:
        """What there is when the stream ends here: a flaw, and the beginning of a record where its header came."""
        frames: list[Frame] = []
        carry = bytes(self._carry)
        if self._lost_at >= 0:
            self.opaque += len(carry)
            frames.append(self._opaque_flaw(self.offset, "the stream ends"))
        elif self._skip_left:
            frames.append(_cut(self.offset, self._skipping, self._skipping - self._skip_left))
        elif self._opaque_left:
            frames.append(Flaw(CUT, self.offset, f"{self._opaque_left} bytes more", "the end of the stream"))
        elif carry:
            offset = self.offset - len(carry)
            if not self._record_end:
                frames.append(Flaw("record", offset, f"{_HEADER_SIZE} bytes of record header", f"{len(carry)} bytes"))
            elif carry[0] & 0x80:
                frames.append(_cut(self.offset, self._record_end - 2, len(carry) - 2))
                frames.append(Record(SSLV2_HELLO, 0x0002, self._record_end - 2, carry, offset))
            else:
                length = self._record_end - _HEADER_SIZE
                frames.append(_cut(self.offset, length, len(carry) - _HEADER_SIZE))
                version = carry[1] << 8 | carry[2]
                frames.append(Record(carry[0], version, length, carry[_HEADER_SIZE:], offset))
        self._carry.clear()
        self._record_end = self._skip_left = self._opaque_left = 0
        self._lost_at = -1
        return frames

    def gap(self, missing: int) -> list[Frame]:
        """So many bytes of the stream are not to be had; what :meth:`feed` is given next lies behind them.

        Where all of them belong to the record that is being read, its header still says where the next one begins.
        Else whatever comes next is looked through for a header. Gives the beginning of the record with the hole.
        """
        frames: list[Frame] = []
        left = self._skip_left or self._opaque_left
        if not left and self._lost_at < 0 and self._record_end:
            left = self._record_end - len(self._carry)
        if missing <= left:
            if self._skip_left:
                self._skip_left -= missing
                if not self._skip_left:
                    frames.append(Skipped(1, self._skipping))
            else:
                frames = [] if self._opaque_left else self.rest()
                self._opaque_left = left - missing
            self._start += missing
            return frames
        if self.pending:
            frames = self.rest()
        self._start += missing
        self._lost_at = self.offset
        self.sslv2_may_come = False
        return frames

    # the short way

    def _skip_from_here(self) -> Skipped | None:
        """Step over the application-data records at the cursor. None where there is something else to decide."""
        data, pos, end, stops, most = self._data, self._pos, self._end, self.skip_not, self.skip_at_most
        records = total = 0
        while end - pos >= _HEADER_SIZE and data[pos] == APPLICATION_DATA and data[pos + 1] == 3:
            length = data[pos + 3] << 8 | data[pos + 4]
            if length > most or length in stops or data[pos + 2] > 4:
                break
            pos += _HEADER_SIZE + length
            if pos > end:
                self._skipping = length
                self._skip_left = pos - end
                pos = end
                break
            records += 1
            total += length
        self._pos = pos
        return Skipped(records, total) if records else None

    def _skip_on(self) -> Skipped | None:
        taken = min(self._skip_left, self._end - self._pos)
        self._pos += taken
        self._skip_left -= taken
        return None if self._skip_left else Skipped(1, self._skipping)

    # whole records within a slice, and records over several

    def _whole(self) -> Record | None:
        """The record at the cursor, if all of it is in this slice and nothing is wrong; else nothing is taken."""
        data, pos = self._data, self._pos
        available = self._end - pos
        if available < _HEADER_SIZE:
            return None
        if self.sslv2_may_come and data[pos] & 0x80:
            return None
        content_type = data[pos]
        version = data[pos + 1] << 8 | data[pos + 2]
        length = data[pos + 3] << 8 | data[pos + 4]
        if content_type not in _KNOWN_TYPES or version >> 8 != 3 or version > 0x0304 or length > MAX_RECORD:
            return None
        stop = pos + _HEADER_SIZE + length
        if stop > self._end:
            return None
        self.sslv2_may_come = False
        self._pos = stop
        return Record(content_type, version, length, bytes(data[pos + _HEADER_SIZE : stop]), self._start + pos)

    def _carried(self) -> Frame | None:
        """Take bytes into the carry until a header is read, then until the record is whole."""
        carry = self._carry
        if not self._record_end:
            self._take(_HEADER_SIZE)
            if len(carry) < _HEADER_SIZE:
                return None
            judged = self._judge()
            if judged is not None or not self._record_end:
                return judged
        self._take(self._record_end)
        if len(carry) < self._record_end:
            return None
        offset = self.offset - len(carry)
        self._record_end = 0
        if carry[0] & 0x80:
            payload = bytes(carry)
            carry.clear()
            return Record(SSLV2_HELLO, 0x0002, len(payload) - 2, payload, offset)
        record = Record(
            carry[0],
            carry[1] << 8 | carry[2],
            len(carry) - _HEADER_SIZE,
            bytes(memoryview(carry)[_HEADER_SIZE:]),
            offset,
        )
        carry.clear()
        return record

    def _take(self, wanted: int) -> None:
        taken = min(wanted - len(self._carry), self._end - self._pos)
        if taken > 0:
            self._carry += self._data[self._pos : self._pos + taken]
            self._pos += taken

    def _judge(self) -> Flaw | Skipped | None:
        """Read the header in the carry: where does its record end, and what is wrong with it?"""
        head = bytes(self._carry)
        offset = self.offset - len(head)
        first, self.sslv2_may_come = self.sslv2_may_come, False
        if first and looks_like_sslv2_hello(head) and ((head[0] & 0x7F) << 8 | head[1]) >= _SSLV2_HELLO_LEAST:
            self._record_end = 2 + ((head[0] & 0x7F) << 8 | head[1])
            return None
        content_type, version, length = head[0], head[1] << 8 | head[2], head[3] << 8 | head[4]
        flaws: list[Flaw] = []
        if content_type not in _KNOWN_TYPES:
            flaws.append(Flaw("record.type", offset, "20 to 24", str(content_type)))
        if version >> 8 != 3 or version > 0x0304:
            flaws.append(Flaw("record.version", offset + 1, "0x0300 to 0x0304", f"0x{version:04x}"))
        if length > MAX_RECORD:
            flaws.append(Flaw(TOO_LONG, offset + 3, f"at most {MAX_RECORD}", str(length)))
        skipped = self.skip and content_type == APPLICATION_DATA and length <= self.skip_at_most
        if not flaws and skipped and length not in self.skip_not:
            self._carry.clear()
            self._skipping = self._skip_left = length
            return None if length else Skipped(1, 0)
        if not flaws:
            self._record_end = _HEADER_SIZE + length
            return None
        if len(flaws) > 1:
            self._lost_at = offset
            field = HTTP if looks_like_http_answer(head) else NO_RECORD
            return Flaw(field, offset, "the header of a TLS record", shown(head))
        if flaws[0].field == "record.version":
            self._record_end = _HEADER_SIZE + length
        else:
            self._carry.clear()
            self.opaque += _HEADER_SIZE
            self._opaque_left = length
        return flaws[0]

    # out of step

    def _search(self) -> Flaw | None:
        """Look for something like a header in the carry and this slice; keep the last four bytes for the next one."""
        carried = len(self._carry)
        window = bytes(self._carry) + bytes(self._data[self._pos : self._end])
        base = self.offset - carried
        found = _HEADER.search(window)
        self._carry.clear()
        if found is None:
            keep = min(len(window), _HEADER_SIZE - 1)
            self.opaque += len(window) - keep
            self._carry += window[len(window) - keep :]
            self._pos = self._end
            return None
        self.opaque += found.start()
        # The header may have begun in an earlier slice: what lies there is carried, the rest is still in the slice.
        at = found.start() - carried
        if at < 0:
            self._carry += window[found.start() : carried]
        else:
            self._pos += at
        at, since = base + found.start(), self._lost_at
        flaw = self._opaque_flaw(at, "a record follows") if at > since else None  # behind a gap it may be right there
        self._lost_at = -1
        return flaw

    def _opaque_flaw(self, until: int, how: str) -> Flaw:
        return Flaw("record", self._lost_at, "TLS records", f"{until - self._lost_at} bytes that are none, then {how}")

    def _done(self) -> None:
        """Let go of the slice: the caller may use its buffer again."""
        self._start += self._pos
        self._data = b""
        self._pos = self._end = 0


def looks_like_tls(head: bytes) -> bool | None:
    """Whether a client that begins so speaks TLS. None as long as the bytes allow both (at most five are needed).

    A TLS conversation begins with a record of version 3.x and a known type, or with a hello in SSLv2 form. A wrong
    length or a wrong type within that range is TLS with a problem, not another protocol.
    """
    if not head:
        return None
    if head[0] & 0x80:
        if head[0] & 0x70:  # more than 4095 bytes
            return False
        if len(head) >= 3 and head[2] != 1:
            return False
        if len(head) >= 4 and head[3] not in {0, 3}:
            return False
        return looks_like_sslv2_hello(head) if len(head) >= _HEADER_SIZE else None
    if head[0] not in _KNOWN_TYPES:
        return False
    if len(head) >= 2 and head[1] != 3:
        return False
    if len(head) >= 3 and head[2] > 4:
        return False
    return True if len(head) >= _HEADER_SIZE else None


def looks_like_http_answer(head: bytes) -> bool:
    """Whether a server that begins so answers in HTTP (RFC 9112 4), or takes it for HTTP/0.9 and gives a page alone.

    Five bytes, as many as the header of a record has, are enough.
    """
    return _HTTP_ANSWER.match(head) is not None


def looks_like_http_request(head: bytes) -> bool:
    """Whether a client that begins so asks in HTTP (RFC 9112 3)."""
    return _HTTP_REQUEST.match(head) is not None


def shown(data: bytes) -> str:
    """Bytes for a sentence: hex, and the text where it is one."""
    text = data.decode("latin-1")
    printable = f" ({text!r})" if text.isascii() and text.isprintable() else ""
    return data.hex(" ") + printable


def _cut(offset: int, length: int, came: int) -> Flaw:
    return Flaw(CUT, offset, f"{length} bytes of payload", f"{came}, then the end of the stream")
