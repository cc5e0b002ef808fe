"""Handshake reassembly: any fragmentation, bounded memory."""

from __future__ import annotations

import tracemalloc
from hashlib import sha256
from itertools import pairwise

from hypothesis import given, settings, strategies as st

from countersign.recorder.wire.handshakes import Handshake, HandshakeAssembler


def message(code: int, body: bytes) -> bytes:
    return bytes((code,)) + len(body).to_bytes(3, "big") + body


def assemble(*fragments: bytes, keep: int = 1 << 18) -> tuple[list[Handshake], HandshakeAssembler]:
    assembler = HandshakeAssembler(keep)
    out = []
    for fragment in fragments:
        assembler.feed(fragment)
        while (found := assembler.next()) is not None:
            out.append(found)
    return out, assembler


def test_several_messages_in_one_record_are_given_one_by_one() -> None:
    assembler = HandshakeAssembler()
    assembler.feed(message(2, b"hello") + message(11, b"") + message(14, b"x")[:3])
    assert assembler.next() == Handshake(2, 9, message(2, b"hello"), 9)
    assert assembler.unread == 7
    assert assembler.next() == Handshake(11, 4, message(11, b""), 4)
    assert assembler.next() is None
    assert assembler.pending


@settings(max_examples=80)
@given(bodies=st.lists(st.binary(max_size=60), max_size=6), cuts=st.sets(st.integers(1, 300), max_size=12))
def test_reassembly_does_not_depend_on_fragmentation(bodies: list[bytes], cuts: set[int]) -> None:
    stream = b"".join(message(n, body) for n, body in enumerate(bodies))
    edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    fragments = [stream[a:b] for a, b in pairwise(edges)]
    for keep in (1 << 18, 20):
        out, assembler = assemble(*fragments, keep=keep)
        assert not assembler.pending
        assert [found.raw for found in out] == [message(n, body)[:keep] for n, body in enumerate(bodies)]
        assert out == assemble(stream, keep=keep)[0]


def test_what_is_over_the_cap_is_counted_and_hashed() -> None:
    whole = message(11, bytes(range(256)) * 10)
    for fragments in ([whole], [whole[:3], whole[3:700], whole[700:]], [whole[n : n + 1] for n in range(len(whole))]):
        (found,), _ = assemble(*fragments, keep=100)
        assert found.raw == whole[:100]
        assert found.length == found.arrived == len(whole)
        assert found.digest == sha256(whole).hexdigest()


def test_a_message_exactly_at_the_cap_is_kept_whole() -> None:
    whole = message(11, bytes(96))
    for fragments in ([whole], [whole[:50], whole[50:]]):
        (found,), _ = assemble(*fragments, keep=100)
        assert found == Handshake(11, 100, whole, 100)


def test_the_longest_declaration_costs_no_memory_however_it_is_dripped() -> None:
    """T12: 2^24 - 1 bytes declared, then one byte a record for ever."""
    assembler = HandshakeAssembler(4096)
    assembler.feed(b"\x0b\xff\xff\xff")
    assert assembler.next() is None
    tracemalloc.start()
    for _ in range(30_000):
        assembler.feed(b"x")
        assert assembler.next() is None
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 * 1024
    cut = assembler.flush()
    assert (cut.code, cut.length, cut.arrived, len(cut.raw)) == (11, (1 << 24) + 3, 30_004, 4096)
    assert cut.digest == sha256(b"\x0b\xff\xff\xff" + b"x" * 30_000).hexdigest()


def test_every_strict_prefix_is_pending_and_says_what_arrived() -> None:
    whole = message(11, b"certificate")
    for cut in range(1, len(whole)):
        out, assembler = assemble(whole[:cut])
        assert out == []
        found = assembler.flush()
        assert found.code == 11
        assert found.raw == whole[:cut]
        assert found.arrived == cut
        assert found.length == (len(whole) if cut >= 4 else 4)
        assert not assembler.pending
