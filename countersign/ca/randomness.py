"""Where chance comes from: the operating system, or a seed.

Everything here that needs chance takes a source of it (``rng=``), by default :func:`os.urandom`. Serial numbers, and
the padding of certificates, are drawn from whatever source is given. Keys are not a thing to make from a source that
somebody passed on by accident, so the rule is strict and simple: with :func:`os.urandom` keys and signatures come from
the library's own generator; with any other source they are made from that source too, and the same source gives the
same keys, certificates and signatures, byte for byte. That is for tests, and for a case that shall look the same
tomorrow; a key that follows from a seed is as secret as the seed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable

Rng = Callable[[int], bytes]
"""A source of chance: as many bytes as asked for, like :func:`os.urandom`."""

_SMALL_PRIMES = [n for n in range(3, 2000) if all(n % d for d in range(2, int(n**0.5) + 1))]
_WITNESSES = 24


class Seeded:
    """Bytes that follow from a seed: ``Seeded(7)`` gives the same ones in every run."""

    def __init__(self, seed: bytes | str | int) -> None:
        self._seed = hashlib.sha256(repr(seed).encode()).digest()
        self._asked = 0

    def __call__(self, count: int) -> bytes:
        self._asked += 1
        return hashlib.shake_256(self._seed + self._asked.to_bytes(8)).digest(count)


def is_system(rng: Rng) -> bool:
    """Whether this is the operating system's own source."""
    return rng is os.urandom


def below(limit: int, rng: Rng) -> int:
    """A number from 1 to ``limit`` - 1, evenly as far as 64 spare bits allow."""
    return int.from_bytes(rng((limit.bit_length() + 71) // 8)) % (limit - 1) + 1


def prime(bits: int, rng: Rng, *, not_one_of: int = 0) -> int:
    """A prime of exactly so many bits, its two highest set, so that two of them make a modulus of twice the size."""
    while True:
        candidate = int.from_bytes(rng((bits + 7) // 8)) & ((1 << bits) - 1) | 3 << (bits - 2) | 1
        if candidate != not_one_of and (candidate - 1) % 65537 and _is_prime(candidate, rng):
            return candidate


def _is_prime(candidate: int, rng: Rng) -> bool:
    """Miller and Rabin's test (FIPS 186-5 B.3.1) behind a sieve."""
    if any(candidate % small == 0 for small in _SMALL_PRIMES):
        return False
    odd, twos = candidate - 1, 0
    while not odd & 1:
        odd, twos = odd >> 1, twos + 1
    return all(_passes(candidate, below(candidate - 1, rng), odd, twos) for _ in range(_WITNESSES))


def _passes(candidate: int, base: int, odd: int, twos: int) -> bool:
    power = pow(base, odd, candidate)
    if power in {1, candidate - 1}:
        return True
    for _ in range(twos - 1):
        power = power * power % candidate
        if power == candidate - 1:
            return True
    return False
