"""Record framing: any slicing, every kind of wrong header."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings, strategies as st

from countersign.recorder.wire.records import (
    APPLICATION_DATA,
    HANDSHAKE,
    MAX_RECORD,
    SSLV2_HELLO,
    Flaw,
    Frame,
    Record,
    RecordFramer,
    Skipped,
    looks_like_http_answer,
    looks_like_tls,
    shown,
)

HELLO = b"\x16\x03\x01\x00\x05hello"
DATA = b"\x17\x03\x03\x00\x04data"
SSLV2 = b"\x80\x1f\x01\x03\x03\x00\x06\x00\x00\x00\x10\x00\x00\x2f\x07\x00\xc0" + bytes(16)


def record(content_type: int, payload: bytes, version: int = 0x0303) -> bytes:
    return bytes((content_type,)) + version.to_bytes(2, "big") + len(payload).to_bytes(2, "big") + payload


def frames(*parts: bytes, skip: bool = False, sslv2: bool = False, end: bool = True) -> list[Frame]:
    framer = RecordFramer(sslv2_may_come=sslv2)
    framer.skip = skip
    out: list[Frame] = []
    for part in parts:
        framer.feed(memoryview(part))
        while (frame := framer.next()) is not None:
            last = out[-1] if out else None
            if isinstance(frame, Skipped) and isinstance(last, Skipped):
                out[-1] = Skipped(last.records + frame.records, last.length + frame.length)
            else:
                out.append(frame)
    return out + (framer.rest() if end else [])


def fields(found: list[Frame]) -> list[str]:
    return [frame.field for frame in found if isinstance(frame, Flaw)]


def records(found: list[Frame]) -> list[tuple[int, bytes]]:
    return [(frame.content_type, frame.payload) for frame in found if isinstance(frame, Record)]


def test_a_record_is_its_type_version_payload_and_place() -> None:
    assert frames(HELLO + DATA) == [
        Record(HANDSHAKE, 0x0301, 5, b"hello", 0),
        Record(APPLICATION_DATA, 0x0303, 4, b"data", 10),
    ]


STREAMS = {
    "good": HELLO + DATA + record(21, b"\x01\x00") + record(22, b""),
    "sslv2": SSLV2 + HELLO,
    "unknown type": HELLO + record(99, b"what") + HELLO,
    "wrong version": record(22, b"old", 0x0200) + DATA,
    "too long": b"\x16\x03\x03\xff\xff" + bytes(65535) + DATA,
    "garbage between": HELLO + b"this is not TLS at all" + HELLO + DATA,
    "garbage to the end": HELLO + b"\x00" * 500,
    "half a header in garbage": b"zzzzzz\x16\x03zz" + HELLO,
    "cut record": HELLO + DATA[:7],
    "cut header": HELLO + DATA[:3],
    "cut bulk": DATA * 3 + record(23, bytes(1000))[:600],
    "cut sslv2": SSLV2[:20],
    "cut opaque": record(99, b"what")[:7],
}


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_framing_does_not_depend_on_slicing(stream: bytes, *, skip: bool) -> None:
    whole = frames(stream, skip=skip, sslv2=True)
    assert frames(*(stream[n : n + 1] for n in range(len(stream))), skip=skip, sslv2=True) == whole
    for size in (2, 3, 5, 7, 11):
        parts = (stream[n : n + size] for n in range(0, len(stream), size))
        assert frames(*parts, skip=skip, sslv2=True) == whole


@settings(max_examples=60)
@given(
    pieces=st.lists(
        st.one_of(
            st.sampled_from(
                [HELLO, DATA, record(20, b"\x01"), b"\x16\x03", record(99, b"?"), record(22, b"x", 0x0505)]
            ),
            st.binary(max_size=40),
        ),
        max_size=8,
    ),
    cuts=st.lists(st.integers(0, 300), max_size=6),
    skip=st.booleans(),
)
def test_framing_of_anything_never_raises_and_does_not_depend_on_slicing(
    pieces: list[bytes], cuts: list[int], *, skip: bool
) -> None:
    stream = b"".join(pieces)
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    parts = [stream[a:b] for a, b in pairwise(edges)]
    assert frames(*parts, skip=skip, sslv2=True) == frames(stream, skip=skip, sslv2=True)


def test_every_strict_prefix_is_unfinished_and_says_what_is_missing() -> None:
    for cut in range(1, len(HELLO)):
        found = frames(HELLO[:cut])
        assert fields(found) == ["record" if cut < 5 else "record.end"]
        assert records(found) == ([] if cut < 5 else [(HANDSHAKE, HELLO[5:cut])])
    assert frames(HELLO, end=False) == frames(HELLO)


def test_an_unknown_type_is_a_flaw_and_reading_goes_on_behind_it() -> None:
    found = frames(record(99, b"what") + HELLO)
    assert found[0] == Flaw("record.type", 0, "20 to 24", "99")
    assert records(found) == [(HANDSHAKE, b"hello")]


def test_a_wrong_version_is_a_flaw_and_the_record_is_still_given() -> None:
    found = frames(record(22, b"hello", 0x0700) + HELLO)
    assert found[0] == Flaw("record.version", 1, "0x0300 to 0x0304", "0x0700")
    assert records(found) == [(HANDSHAKE, b"hello"), (HANDSHAKE, b"hello")]


def test_an_absurd_length_is_a_flaw_and_its_payload_costs_no_memory() -> None:
    framer = RecordFramer()
    framer.feed(b"\x16\x03\x03" + (MAX_RECORD + 1).to_bytes(2, "big") + bytes(MAX_RECORD))
    assert framer.next() == Flaw("record.length", 3, f"at most {MAX_RECORD}", str(MAX_RECORD + 1))
    assert framer.next() is None
    assert not framer._carry
    framer.feed(b"\x00" + HELLO)
    assert framer.next() == Record(HANDSHAKE, 0x0301, 5, b"hello", MAX_RECORD + 6)
    assert framer.opaque == MAX_RECORD + 6


def test_the_longest_record_is_no_flaw() -> None:
    assert fields(frames(record(23, bytes(MAX_RECORD)))) == []


def test_garbage_is_counted_and_reading_goes_on_at_the_next_record() -> None:
    found = frames(HELLO + b"HTTP/1.1 400 Bad Request\r\n" + DATA)
    assert fields(found) == ["record.http", "record"]
    assert isinstance(found[1], Flaw)
    assert found[1].got == "48 54 54 50 2f ('HTTP/')"
    assert isinstance(found[2], Flaw)
    assert "26 bytes that are none" in found[2].got
    assert records(found)[-1] == (APPLICATION_DATA, b"data")


def test_a_stream_that_never_is_tls_again_is_opaque_to_its_end() -> None:
    framer = RecordFramer()
    framer.feed(b"\x00" * 10_000)
    first = framer.next()
    assert isinstance(first, Flaw)
    assert framer.next() is None
    framer.feed(b"\x01" * 10_000)
    assert framer.next() is None
    assert len(framer._carry) == 4
    (last,) = framer.rest()
    assert isinstance(last, Flaw)
    assert last.got == "20000 bytes that are none, then the stream ends"
    assert framer.opaque == 20_000


def test_a_hello_in_sslv2_form_is_taken_as_the_first_record_only() -> None:
    found = frames(SSLV2 + HELLO, sslv2=True)
    assert found[0] == Record(SSLV2_HELLO, 0x0002, 31, SSLV2, 0)
    assert records(found)[1:] == [(HANDSHAKE, b"hello")]
    assert fields(frames(SSLV2 + HELLO)) == ["record.header", "record"]
    assert fields(frames(HELLO + SSLV2 + HELLO, sslv2=True)) == ["record.header", "record"]


def test_skipped_records_are_counted_and_never_copied() -> None:
    stream = record(23, bytes(16384)) * 5 + HELLO + DATA
    assert frames(stream, skip=True) == [
        Skipped(5, 5 * 16384),
        Record(HANDSHAKE, 0x0301, 5, b"hello", 5 * 16389),
        Skipped(1, 4),
    ]
    framer = RecordFramer()
    framer.skip = True
    framer.feed(memoryview(stream)[:20_000])
    assert framer.next() == Skipped(1, 16384)
    assert framer.next() is None
    assert not framer._carry


def test_wrong_headers_are_seen_while_skipping() -> None:
    stream = DATA + b"\x17\x03\x03\xff\x00" + bytes(0xFF00) + DATA + record(23, b"data", 0x0309) + DATA
    found = frames(stream, skip=True)
    assert fields(found) == ["record.length", "record.version"]
    assert [frame.records for frame in found if isinstance(frame, Skipped)] == [1, 1, 1]


def test_a_payload_length_can_be_kept_from_being_skipped() -> None:
    framer = RecordFramer()
    framer.skip = True
    framer.skip_not = frozenset({4})
    framer.feed(record(23, b"alike") + DATA + record(23, b"alike"))
    assert [framer.next() for _ in range(4)] == [
        Skipped(1, 5),
        Record(APPLICATION_DATA, 0x0303, 4, b"data", 10),
        Skipped(1, 5),
        None,
    ]


@pytest.mark.parametrize(
    ("head", "verdict"),
    [
        (b"", None),
        (b"\x16", None),
        (b"\x16\x03\x01\x02", None),
        (b"\x16\x03\x01\x02\x00", True),
        (b"\x16\x03\x01\xff\xff", True),
        (b"\x17\x03\x03\x00\x05", True),
        (b"G", False),
        (b"\x16\x02", False),
        (b"\x16\x03\x09", False),
        (b"\x80\x2e\x01\x03\x01", True),
        (b"\x80\x2e\x01\x00\x02", True),
        (b"\x80\x2e\x01", None),
        (b"\x80\x2e\x02", False),
        (b"\xff", False),
        (b"\x80\x2e\x01\x05", False),
    ],
)
def test_the_first_bytes_say_whether_it_is_tls(head: bytes, *, verdict: bool | None) -> None:
    assert looks_like_tls(head) is verdict


def test_bytes_are_shown_as_hex_and_as_text_where_they_are_text() -> None:
    assert shown(b"GET /") == "47 45 54 20 2f ('GET /')"
    assert shown(b"\x00\xff") == "00 ff"


@pytest.mark.parametrize(
    ("head", "http"),
    [(b"HTTP/1.1 200", True), (b"HTTP/", True), (b"<html>", True), (b"<!DOC", True), (b"<!doctype HTML>", True),
     (b"SSH-2", False), (b"HTTPS", False)],
)  # fmt: skip
def test_an_answer_of_http_is_known_by_as_many_bytes_as_a_header_has(head: bytes, http: bool) -> None:  # noqa: FBT001
    assert looks_like_http_answer(head) is http
    assert fields(frames(head))[0] == ("record.http" if http else "record.header")
    assert not looks_like_http_answer(b"HTTP/x")
    assert not looks_like_http_answer(b"<!DOCUMENT>")
