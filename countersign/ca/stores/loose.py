"""Keys and certificates that lie in a file one behind another, PEM or DER, and how entries are made of them.

Neither form has entries. A key is put together with the certificate that has its public key, then with the issuers of
that as far as they are there; what is left over is a certificate of its own. A key that cannot be opened tells nothing
about itself, so it gets the certificate of its name, or the next one behind it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from countersign.ca.stores.chains import Pool, common_name
from countersign.ca.stores.model import CertificateEntry, Entry, KeyEntry, Sealed, StoreType, without_twins
from countersign.recorder.certificates import read_certificate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes


@dataclass(frozen=True, slots=True)
class LooseKey:
    """A key, open or sealed, and the name that stood before it. ``offset`` is where in the file."""

    offset: int
    key: bytes | None = field(repr=False)
    sealed: bytes | None = field(default=None, repr=False)
    name: str | None = None


@dataclass(frozen=True, slots=True)
class LooseCertificate:
    """A certificate and the name that stood before it."""

    offset: int
    der: bytes
    name: str | None = None


def put_together(
    kind: StoreType, keys: Sequence[LooseKey], certificates: Sequence[LooseCertificate]
) -> tuple[Entry, ...]:
    """The entries: keys with their chains first, certificates of their own behind; each certificate once."""
    pool = Pool(each.der for each in certificates)
    entries: list[KeyEntry | CertificateEntry] = []
    in_chains: set[bytes] = set()
    for each in {key.key or key.sealed or key.offset: key for key in keys}.values():
        own = _own(each, certificates, pool)
        chain = pool.chain(own.der) if own else ()
        in_chains.update(chain)
        alias = each.name or (own and own.name) or (common_name(chain[0]) if chain else "key")
        sealed = Sealed(kind, each.sealed) if each.sealed is not None else None
        entries.append(KeyEntry(alias, chain, each.key, None, sealed))
    for certificate in certificates:
        if certificate.der not in in_chains:
            in_chains.add(certificate.der)
            entries.append(CertificateEntry(certificate.name or common_name(certificate.der), certificate.der))
    names = without_twins(entry.alias for entry in entries)
    return tuple(
        KeyEntry(name, entry.chain, entry.key, None, entry.sealed)
        if isinstance(entry, KeyEntry)
        else CertificateEntry(name, entry.certificate)
        for name, entry in zip(names, entries, strict=True)
    )


def _own(key: LooseKey, certificates: Sequence[LooseCertificate], pool: Pool) -> LooseCertificate | None:
    """The certificate of a key."""
    if key.key is not None:
        owners = pool.owners(key.key)
        matching = [each for each in certificates if each.der in owners]
        named = [each for each in matching if key.name is not None and each.name == key.name]
        return next(iter(named or matching), None)
    candidates = [each for each in certificates if key.name is not None and each.name == key.name]
    if not candidates:
        behind = [each for each in certificates if each.offset > key.offset]
        candidates = [*behind, *certificates]
    leaves = [each for each in candidates if not read_certificate(each.der).is_ca]
    return next(iter(leaves or candidates), None)


def as_pkcs8(data: bytes, *, openssh: bool = False) -> bytes | None:
    """A private key in DER (PKCS #8, PKCS #1, RFC 5915) or OpenSSH's PEM as PKCS #8, if it can be read."""
    try:
        key: PrivateKeyTypes
        if openssh:
            key = serialization.load_ssh_private_key(data, None)
        else:
            key = serialization.load_der_private_key(data, None, unsafe_skip_rsa_key_validation=True)
        return key.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
