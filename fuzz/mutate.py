"""Changes to an input, for where atheris is not: no coverage, but the same inputs for the same seed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

WORDS = [
    b"\x16\x03\x01",
    b"\x17\x03\x03",
    b"\x14\x03\x03\x00\x01\x01",
    b"\x15\x03\x03\x00\x02\x02\x28",
    b"\x6a\x6a",
    b"\x00\x29",
    b"\x00\x2a",
    b"\x00\x2b\x00\x02\x03\x04",
    b"\x00\x33",
    b"\xfe\x0d",
    b"\xff\xff\xff",
    b"\x00\x00\x00\x00",
    b"\x30\x82\xff\xff",
    b"CLIENT_RANDOM ",
    b"\x80\x2e\x01\x03\x01",
    bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c"),
]
_EDGES = (0, 1, 2, 4, 0x7F, 0x80, 0xFF, 0x100, 0x3FFF, 0x4000, 0x4800, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF)


def mutated(data: bytes, corpus: Sequence[bytes], dice: random.Random, longest: int) -> bytes:
    """One to eight changes, mostly few."""
    out = bytearray(data)
    for _ in range(min(8, 1 + int(dice.expovariate(0.8)))):
        dice.choice(_CHANGES)(out, corpus, dice)
    return bytes(out[:longest])


def _place(out: bytearray, dice: random.Random) -> int:
    return dice.randrange(len(out) + 1)


def _size(dice: random.Random) -> int:
    return dice.choice((1, 1, 1, 2, 3, 4, 8, 32, 200))


def _flip(out: bytearray, _: Sequence[bytes], dice: random.Random) -> None:
    if out:
        out[dice.randrange(len(out))] ^= 1 << dice.randrange(8)


def _byte(out: bytearray, _: Sequence[bytes], dice: random.Random) -> None:
    if out:
        out[dice.randrange(len(out))] = dice.choice(
            (0, 1, 2, 3, 4, 0x16, 0x17, 0x7F, 0x80, 0xFE, 0xFF, dice.randrange(256))
        )


def _length(out: bytearray, _: Sequence[bytes], dice: random.Random) -> None:
    """A number of one, two or three bytes made larger, smaller or absurd: where lengths are, this is what hurts."""
    size = dice.choice((1, 2, 2, 3))
    if len(out) < size:
        return
    at = dice.randrange(len(out) - size + 1)
    value = int.from_bytes(out[at : at + size], "big")
    value = dice.choice((value + 1, value - 1, value * 2, value // 2, dice.choice(_EDGES), len(out) - at - size))
    out[at : at + size] = (value % 256**size).to_bytes(size, "big")


def _insert(out: bytearray, _: Sequence[bytes], dice: random.Random) -> None:
    at = _place(out, dice)
    out[at:at] = dice.randbytes(_size(dice))


def _word(out: bytearray, _: Sequence[bytes], dice: random.Random) -> None:
    at = _place(out, dice)
    word = dice.choice(WORDS)
    out[at : at + dice.choice((0, len(word)))] = word


def _remove(out: bytearray, _: Sequence[bytes], dice: random.Random) -> None:
    at = _place(out, dice)
    del out[at : at + _size(dice)]


def _repeat(out: bytearray, _: Sequence[bytes], dice: random.Random) -> None:
    at, size = _place(out, dice), _size(dice)
    out[at:at] = bytes(out[at : at + size]) * dice.choice((1, 1, 2, 20))


def _move(out: bytearray, _: Sequence[bytes], dice: random.Random) -> None:
    at, size = _place(out, dice), _size(dice)
    part = bytes(out[at : at + size])
    del out[at : at + size]
    at = _place(out, dice)
    out[at:at] = part


def _splice(out: bytearray, corpus: Sequence[bytes], dice: random.Random) -> None:
    other = dice.choice(corpus)
    start = dice.randrange(len(other) + 1)
    at = _place(out, dice)
    out[at : at + dice.choice((0, 0, _size(dice), len(out)))] = other[start : start + dice.choice((_size(dice), 9999))]


def _cut(out: bytearray, _: Sequence[bytes], dice: random.Random) -> None:
    del out[_place(out, dice) :]


_CHANGES: tuple[Callable[[bytearray, Sequence[bytes], random.Random], None], ...] = (
    _flip,
    _flip,
    _byte,
    _byte,
    _length,
    _length,
    _insert,
    _word,
    _remove,
    _repeat,
    _move,
    _splice,
    _cut,
)
