"""Which certificate issued which, and which key is whose: how loose certificates become chains.

An issuer is looked for by name first. Of several with one name the one whose key verifies the signature is taken, then
the one whose key identifier fits, then the first: stores hold chains that are broken on purpose too, and a broken
signature does not make a chain's next certificate anybody else's.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from countersign.ca.stores.errors import ChainOutOfOrder, KeyMismatch, KeyWithoutChain
from countersign.recorder.certificates import cut_certificate, read_certificate, signed_by
from countersign.recorder.der import DerError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from countersign.ca.stores.model import KeyEntry

LONGEST_CHAIN = 100
_COMMON_NAME = re.compile(r"(?:^|[,+])CN=((?:\\.|[^,+\\])*)")
_TRIED = 16  # of the issuers with one name, so that a hostile file cannot ask for thousands of signatures


def subject_of(der: bytes) -> str:
    """The subject, to be shown."""
    return read_certificate(der).subject or "no subject"


def common_name(der: bytes) -> str:
    """The common name, or failing that the whole subject: what an entry without an alias is called."""
    subject = read_certificate(der).subject or "certificate"
    found = _COMMON_NAME.search(subject)
    return (re.sub(r"\\([^0-9A-Za-z])", r"\1", found[1]) if found and found[1] else subject).lower()


class Pool:
    """Certificates to build chains from."""

    def __init__(self, certificates: Iterable[bytes]) -> None:
        self._by_subject: dict[str, list[bytes]] = {}
        self._by_key: dict[bytes, list[bytes]] = {}
        for der in dict.fromkeys(certificates):
            self._by_subject.setdefault((read_certificate(der).subject or "").casefold(), []).append(der)
            if key := _public_key(der):
                self._by_key.setdefault(key, []).append(der)

    def owners(self, key: bytes) -> list[bytes]:
        """The certificates of a private key (PKCS #8)."""
        public = public_key_of(key)
        return self._by_key.get(public, []) if public else []

    def issuer(self, der: bytes) -> bytes | None:
        """The certificate that issued ``der``, other than itself."""
        facts = read_certificate(der)
        named = [other for other in self._by_subject.get((facts.issuer or "").casefold(), ()) if other != der][:_TRIED]
        if not named or facts.self_issued:
            return None
        return named[0] if len(named) == 1 else max(named, key=lambda other: _rank(der, other, facts.aki))

    def chain(self, leaf: bytes) -> tuple[bytes, ...]:
        """``leaf``, its issuer, and so on as far as they are there."""
        chain = [leaf]
        while len(chain) < LONGEST_CHAIN and (issuer := self.issuer(chain[-1])) and issuer not in chain:
            chain.append(issuer)
        return tuple(chain)


def _rank(der: bytes, issuer: bytes, aki: str | None) -> tuple[bool, bool]:
    """How well ``issuer`` fits; of equals, ``max`` takes the first."""
    try:
        verified = signed_by(cut_certificate(der), cut_certificate(issuer).public_key) is True
    except DerError:
        verified = False
    return verified, aki is not None and aki == read_certificate(issuer).ski


def _public_key(der: bytes) -> bytes | None:
    """The SubjectPublicKeyInfo of a certificate, in the library's encoding if it can load it."""
    try:
        public_key = cut_certificate(der).public_key
    except DerError:
        return None
    try:
        return serialization.load_der_public_key(public_key).public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return public_key


def public_key_of(key: bytes) -> bytes | None:
    """The SubjectPublicKeyInfo that belongs to a PKCS #8; ``None`` where the library does not know the kind of key."""
    try:
        loaded = serialization.load_der_private_key(key, None, unsafe_skip_rsa_key_validation=True)
        return loaded.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None


def leaf_first(certificates: Iterable[bytes]) -> tuple[bytes, ...]:
    """Certificates that are in no order: those that issued none of the others first, each with its issuers behind
    it.
    """
    known = list(dict.fromkeys(certificates))
    pool = Pool(known)
    issuers = {pool.issuer(der) for der in known}
    leaves = [der for der in known if der not in issuers]
    leaves.sort(key=lambda der: read_certificate(der).is_ca)
    ordered = [each for der in leaves for each in pool.chain(der)]
    return tuple(dict.fromkeys([*ordered, *known]))


def reordered(entry_chain: Sequence[bytes], key: bytes | None) -> tuple[bytes, ...]:
    """The chain of a key in its right order, what does not belong to it behind; as it is where no order is found."""
    pool = Pool(entry_chain)
    owners = pool.owners(key) if key is not None else []
    leaf = owners[0] if owners else entry_chain[0]
    chain = pool.chain(leaf)
    return (*chain, *(der for der in dict.fromkeys(entry_chain) if der not in chain))


def check_entry(entry: KeyEntry) -> None:
    """Raise :class:`KeyWithoutChain`, :class:`KeyMismatch` or :class:`ChainOutOfOrder` where the entry is one of these.

    A key that is still sealed is not compared.
    """
    if not entry.chain:
        raise KeyWithoutChain(entry.alias)
    if entry.key is not None:
        public, own = public_key_of(entry.key), _public_key(entry.chain[0])
        if public is not None and public != own:
            for position, der in enumerate(entry.chain[1:], 2):
                if _public_key(der) == public:
                    raise ChainOutOfOrder(entry.alias, position, subject_of(der), subject_of(entry.chain[position - 2]))
            raise KeyMismatch(entry.alias, subject_of(entry.chain[0]))
    for position, (der, above) in enumerate(zip(entry.chain, entry.chain[1:], strict=False), 2):
        issuer, subject = read_certificate(der).issuer or "", read_certificate(above).subject or ""
        if issuer.casefold() != subject.casefold():
            raise ChainOutOfOrder(entry.alias, position, subject_of(above), subject_of(der))
