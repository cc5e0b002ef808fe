"""Kinds of private keys by name, and a pool of keys that leaves share.

A leaf mimics its target's kind of key, and a key of each kind is made once and serves every leaf of that kind: what
tells leaves apart is what they say. EC and Edwards keys cost less than a signature; RSA keys cost 85 ms (2048 bits) to
490 ms (4096), so :meth:`KeyPool.get_soon` makes them in a thread (the library lets go of the interpreter meanwhile)
and everybody who waits for the same kind waits for the same key.

The kinds are few on purpose. A target chooses its own key, and one that showed an RSA key of another odd size to each
connection would have us make a key for each: sizes are rounded *down* to those of ``RSA_SIZES``, never up, because a
weak key that turned strong would make a bad certificate good.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from math import gcd
from typing import TYPE_CHECKING

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from countersign.ca.randomness import Rng, below, is_system, prime
from countersign.ca.signer import Signer
from countersign.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    from countersign.ca.signer import PrivateKey

RSA_SIZES = (1024, 2048, 3072, 4096)
"""The sizes that a target's key is rounded down to; who asks by name may have any multiple of 8 between them."""
_EXPONENT = 65537
FALLBACK = "RSA 2048"
"""What stands in for a kind of key that cannot be made here: the one that every client knows."""

_CURVES: dict[str, Callable[[], ec.EllipticCurve]] = {
    "P-192": ec.SECP192R1,
    "P-224": ec.SECP224R1,
    "P-256": ec.SECP256R1,
    "P-384": ec.SECP384R1,
    "P-521": ec.SECP521R1,
    "secp256k1": ec.SECP256K1,
    "brainpoolP256r1": ec.BrainpoolP256R1,
    "brainpoolP384r1": ec.BrainpoolP384R1,
    "brainpoolP512r1": ec.BrainpoolP512R1,
}


def key_kind(text: str) -> str:
    """``ec:P-256``, ``rsa:2048``, ``rsa-pss:2048`` or ``ed25519`` as a kind of key (``EC P-256``).

    Raises :class:`UserError`.
    """
    name, _, size = text.replace(" ", ":").partition(":")
    match name.lower():
        case "rsa" | "rsa-pss" if (size or "2048") in _RSA_SIZES_ASKED_FOR:
            return f"{name.upper()} {size or 2048}"
        case "ec":
            curve = {known.lower(): known for known in _CURVES}.get(size.lower() or "p-256")
            if curve:
                return f"EC {curve}"
        case "ed25519" | "ed448" if not size:
            return name.capitalize()
    raise UserError(
        f"cannot make a key of kind {text!r}: expected rsa:2048 (1024 to 4096), rsa-pss:2048, "
        f"ec:{' ec:'.join(_CURVES)}, ed25519 or ed448"
    )


_RSA_SIZES_ASKED_FOR = {str(size) for size in range(RSA_SIZES[0], RSA_SIZES[-1] + 1, 8)}


def generate(kind: str, rng: Rng = os.urandom) -> PrivateKey:
    """A new key of a kind that :func:`key_kind` knows (:mod:`~countersign.ca.randomness` says what ``rng`` does)."""
    name, _, size = kind.partition(" ")
    if not is_system(rng):
        return _from(rng, name, size)
    match name:
        case "RSA" | "RSA-PSS":
            return rsa.generate_private_key(_EXPONENT, int(size))
        case "EC":
            return ec.generate_private_key(_CURVES[size]())
        case "Ed25519":
            return ed25519.Ed25519PrivateKey.generate()
        case _:
            return ed448.Ed448PrivateKey.generate()


def _from(rng: Rng, name: str, size: str) -> PrivateKey:
    """A key that follows from ``rng``; an RSA one takes about a second, being looked for in Python."""
    match name:
        case "RSA" | "RSA-PSS":
            p = prime(int(size) // 2, rng)
            q = prime(int(size) // 2, rng, not_one_of=p)
            d = pow(_EXPONENT, -1, (p - 1) * (q - 1) // gcd(p - 1, q - 1))
            return rsa.RSAPrivateNumbers(
                p=p, q=q, d=d, dmp1=d % (p - 1), dmq1=d % (q - 1), iqmp=pow(q, -1, p),
                public_numbers=rsa.RSAPublicNumbers(_EXPONENT, p * q),
            ).private_key()  # fmt: skip
        case "EC":
            curve = _CURVES[size]()
            return ec.derive_private_key(below(curve.group_order, rng), curve)
        case "Ed25519":
            return ed25519.Ed25519PrivateKey.from_private_bytes(rng(32))
        case _:
            return ed448.Ed448PrivateKey.from_private_bytes(rng(57))


def new_signer(kind: str, rng: Rng = os.urandom) -> Signer:
    """A new key of that kind, ready to sign."""
    return Signer.of(generate(kind, rng), pss=kind.startswith("RSA-PSS"), deterministic=not is_system(rng))


def like(described: str) -> tuple[str, str | None]:
    """The kind of key that mimics one described by ``describe_key``, and in words what could not be had, if anything.

    >>> like("EC P-256")
    ('EC P-256', None)
    >>> like("RSA 8192")
    ('RSA 4096', 'key: RSA 8192 (RSA 4096 instead)')
    """
    name, _, size = described.partition(" ")
    kind = FALLBACK
    if name in {"RSA", "RSA-PSS"} and size.isdigit():
        kind = f"RSA {max((each for each in RSA_SIZES if each <= int(size)), default=RSA_SIZES[0])}"
    elif (name == "EC" and size in _CURVES) or described in {"Ed25519", "Ed448"}:
        kind = described
    elif name == "EC":
        kind = "EC P-256"
    return kind, None if kind == described else f"key: {described} ({kind} instead)"


@dataclass(slots=True)
class KeyPool:
    """One key of each kind for each owner, made when first asked for. For one event loop, or one thread without any.

    Leaves that a proxy mints are all of one owner; the certificates of one chain are not, or two would share a key.
    """

    rng: Rng = os.urandom
    _made: dict[tuple[str, str], Signer] = field(default_factory=dict)
    _making: dict[tuple[str, str], asyncio.Task[Signer]] = field(default_factory=dict)

    def ready(self, kind: str, owner: str = "") -> bool:
        """Whether :meth:`get` would answer without making a slow key."""
        return (kind, owner) in self._made or not kind.startswith("RSA")

    def get(self, kind: str, owner: str = "") -> Signer:
        """The key of that kind; made here and now if need be."""
        found = self._made.get((kind, owner))
        if found is None:
            found = self._made[kind, owner] = self._make(kind)
        return found

    async def get_soon(self, kind: str, owner: str = "") -> Signer:
        """The key of that kind; a slow one is made in a thread, once, whoever waits and whoever stops waiting."""
        if self.ready(kind, owner):
            return self.get(kind, owner)
        task = self._making.get((kind, owner))
        if task is None:
            task = asyncio.create_task(asyncio.to_thread(self._make, kind), name=f"make a key: {kind}")
            self._making[kind, owner] = task
            task.add_done_callback(lambda done: self._keep((kind, owner), done))
        return await asyncio.shield(task)

    def forget(self) -> None:
        """Make new keys from now on (a rotation of the leaves)."""
        self._made.clear()

    def _keep(self, which: tuple[str, str], done: asyncio.Task[Signer]) -> None:
        self._making.pop(which, None)
        if not done.cancelled() and not done.exception():
            self._made.setdefault(which, done.result())

    def _make(self, kind: str) -> Signer:
        try:
            return new_signer(kind, self.rng)
        except UnsupportedAlgorithm:  # a curve that this build of the library leaves out
            return new_signer("EC P-256", self.rng)
