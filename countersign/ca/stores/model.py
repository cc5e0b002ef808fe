"""What a key store holds, whichever type it is: entries under aliases, in the order of the file.

A key is PKCS #8 once it is opened; before that (and after it, for a rewrite under the same password) it is ``sealed``:
the EncryptedPrivateKeyInfo as it stands in the file, together with the type of store that knows how to open it.
Certificates are DER and stay as they came, readable or not.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from countersign.ca.stores.errors import EntryNotFound

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime


class StoreType(StrEnum):
    """The types that are read and written, by the names that the command line has for them."""

    PEM = "pem"
    DER = "der"
    PKCS7 = "pkcs7"
    PKCS12 = "pkcs12"
    JKS = "jks"
    JCEKS = "jceks"
    BCFKS = "bcfks"

    @property
    def label(self) -> str:
        """How sentences call it."""
        return {"pkcs7": "PKCS #7", "pkcs12": "PKCS #12"}.get(self.value, self.value.upper())

    @property
    def folds_aliases(self) -> bool:
        """Whether Java finds an alias only in lower case."""
        return self in {StoreType.PKCS12, StoreType.JKS, StoreType.JCEKS}


@dataclass(frozen=True, slots=True)
class Access:
    """What a store may be opened with. Keys open with ``key_password``, or with that of the store if there is none.

    Without ``open_keys`` they stay sealed, and nobody needs to know their password.
    """

    password: str | None = field(default=None, repr=False)
    key_password: str | None = field(default=None, repr=False)
    open_keys: bool = True

    @property
    def for_keys(self) -> str | None:
        return self.password if self.key_password is None else self.key_password


@dataclass(frozen=True, slots=True)
class Sealed:
    """An encrypted key as ``kind`` keeps it."""

    kind: StoreType
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """A private key with its chain, its own certificate first. ``key`` is PKCS #8, ``None`` while it is not opened."""

    alias: str
    chain: tuple[bytes, ...]
    key: bytes | None = field(default=None, repr=False)
    created: datetime | None = None
    sealed: Sealed | None = field(default=None, repr=False, compare=False)
    attributes: tuple[bytes, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class CertificateEntry:
    """A certificate on its own. ``trusted`` is false where a PKCS #12 file lacks Java's mark of trust on it."""

    alias: str
    certificate: bytes
    created: datetime | None = None
    trusted: bool = True
    attributes: tuple[bytes, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class SecretEntry:
    """A secret (symmetric) key, opaque: its bytes are still encrypted, in the form of ``kind`` alone."""

    alias: str
    kind: StoreType
    data: bytes = field(repr=False)
    created: datetime | None = None
    attributes: tuple[bytes, ...] = field(default=(), repr=False)


Entry = KeyEntry | CertificateEntry | SecretEntry


@dataclass(frozen=True, slots=True)
class Scheme:
    """How something is encrypted under a password: a cipher, and how its key comes from the password.

    ``rounds`` is the iteration count, or the cost of scrypt, which has ``block`` and ``parallel`` besides. ``kdf`` is
    ``pbkdf2``, ``scrypt``, ``pkcs12`` (RFC 7292 B), ``pbkdf1`` (RFC 8018 5.1), ``sun`` (JKS), ``jceks`` or ``openssl``
    (PEM from before PKCS #8).
    """

    cipher: str
    kdf: str
    rounds: int
    prf: str = "sha1"
    block: int = 8
    parallel: int = 1

    def __str__(self) -> str:
        rounds = f"{self.rounds} iterations" if self.kdf != "scrypt" else f"N {self.rounds}, r {self.block}"
        return f"{self.cipher}, {self.kdf}{f' {self.prf}' if self.kdf == 'pbkdf2' else ''}, {rounds}"


@dataclass(frozen=True, slots=True)
class Form:
    """How a PKCS #12 or BCFKS file protects itself; ``None`` where it does not.

    ``keys`` encrypts each key, ``content`` the certificates (PKCS #12) or everything (BCFKS), and ``mac`` guards the
    whole, its cipher being the digest (``hmac-sha256``).
    """

    keys: Scheme | None
    content: Scheme | None
    mac: Scheme | None


@dataclass(frozen=True, slots=True)
class Store:
    """A key store that was read. ``verified`` is whether a digest over it was checked with the password.

    ``notes`` are sentences about what was read around: a list of revoked certificates in it, a block that is cut.
    """

    kind: StoreType
    entries: tuple[Entry, ...]
    verified: bool = False
    form: Form | None = None
    notes: tuple[str, ...] = ()

    def entry(self, alias: str) -> Entry:
        """The entry of that name, whatever its case where only one differs in case; :class:`EntryNotFound`."""
        exact = [entry for entry in self.entries if entry.alias == alias]
        folded = [entry for entry in self.entries if entry.alias.lower() == alias.lower()]
        if exact or len(folded) == 1:
            return (exact or folded)[0]
        raise EntryNotFound(alias, (entry.alias for entry in self.entries))

    @property
    def keys(self) -> tuple[KeyEntry, ...]:
        return tuple(entry for entry in self.entries if isinstance(entry, KeyEntry))

    @property
    def certificates(self) -> tuple[bytes, ...]:
        """Every certificate, each once, chains before certificates of their own."""
        chains = [der for entry in self.keys for der in entry.chain]
        alone = [entry.certificate for entry in self.entries if isinstance(entry, CertificateEntry)]
        return tuple(dict.fromkeys([*chains, *alone]))


def without_twins(aliases: Iterable[str]) -> list[str]:
    """The aliases, those that were there before with ``-2``, ``-3`` and so on behind them."""
    seen: set[str] = set()
    numbers: dict[str, int] = {}
    found: list[str] = []
    for alias in aliases:
        name, number = alias, numbers.get(alias.lower(), 1)
        while name.lower() in seen:
            number += 1
            name = f"{alias}-{number}"
        numbers[alias.lower()] = number
        seen.add(name.lower())
        found.append(name)
    return found
