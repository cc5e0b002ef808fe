"""PEM as a key store: keys and certificates in blocks, in any order, each name in the bag attributes before its block.

Nothing guards such a file but the encryption of its keys. PKCS #8 (``ENCRYPTED PRIVATE KEY``) is opened where the
cost of its password is bounded, and so is OpenSSL's own older form (``Proc-Type: 4,ENCRYPTED``).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from countersign.ca.pem import CERTIFICATE_LABELS, Block, as_utf8, blocks_in, certificate_of, to_pem
from countersign.ca.stores import loose, pbe
from countersign.ca.stores.chains import common_name
from countersign.ca.stores.der import open_sealed
from countersign.ca.stores.detect import KEY_LABELS, PKCS7_LABELS
from countersign.ca.stores.errors import CannotHold, DigestWrong, KeySealed, PasswordMissing, shown
from countersign.ca.stores.fields import Source
from countersign.ca.stores.model import Access, CertificateEntry, Entry, KeyEntry, Scheme, Store, StoreType
from countersign.ca.stores.pkcs7 import store_of
from countersign.recorder.der import DerError
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_SCHEME = Scheme("aes-256-cbc", "pbkdf2", 10_000, "sha256")
_MOST_BLOCKS = 10_000
_NO_ENTRY = {"EC PARAMETERS", "DH PARAMETERS", "DSA PARAMETERS"}


def read_pem(source: Source, access: Access, budget: pbe.Budget) -> Store:
    """What the blocks hold, as entries. Raises :class:`StructureBroken` at the offset of a block that is cut or broken,
    :class:`DigestWrong` for an encrypted key that does not open, and :class:`PasswordMissing`.
    """
    source = Source(as_utf8(source.data), source.name, source.form)
    keys: list[loose.LooseKey] = []
    certificates: list[loose.LooseCertificate] = []
    notes: list[str] = []
    for number, block in enumerate(blocks_in(source.data), 1):
        if number > _MOST_BLOCKS:
            raise source.broken(block.start, f"more than {_MOST_BLOCKS} blocks")
        if block.data is None:
            raise source.broken(block.start, f"block {number} ({block.label.lower()}) {block.problem}")
        if block.label in CERTIFICATE_LABELS:
            try:
                data = certificate_of(block.label, block.data)
            except DerError as wrong:
                raise source.broken(block.start, f"block {number} is no certificate ({wrong})") from wrong
            certificates.append(loose.LooseCertificate(block.start, data, block.name))
        elif block.label in KEY_LABELS:
            keys.append(_key(block, source, access, budget))
        elif block.label in PKCS7_LABELS:
            inside = store_of(Source(block.data, f"block {number}", "PKCS #7 block"))
            certificates += [loose.LooseCertificate(block.start, data) for data in inside.certificates]
        elif block.label not in _NO_ENTRY:
            notes.append(f"block {number} ({block.label.lower()}) is left out")
    return Store(StoreType.PEM, loose.put_together(StoreType.PEM, keys, certificates), notes=tuple(notes))


def _key(block: Block, source: Source, access: Access, budget: pbe.Budget) -> loose.LooseKey:
    assert block.data is not None
    if block.label == "ENCRYPTED PRIVATE KEY":
        node = Source(block.data, "the encrypted key", "PEM file").whole()
        key = open_sealed(node, access, budget, StoreType.PEM) if access.open_keys else None
        return loose.LooseKey(block.start, key, block.data, block.name)
    if "ENCRYPTED" in block.headers.get("Proc-Type", ""):
        if not access.open_keys:
            return loose.LooseKey(block.start, None, None, block.name)
        key = _traditional(block, access, budget)
        if key is None:  # one wrong password in 256 leaves a padding that is right by chance
            raise DigestWrong(StoreType.PEM.label, what="what its encrypted key decrypts to")
        sealed = pbe.seal_key(key, pbe.Secret(access.for_keys), pbe.new_algorithm(_SCHEME, os.urandom))
        return loose.LooseKey(block.start, key, sealed, block.name)  # sealed as it would be today
    if block.label.startswith("OPENSSH"):
        key = loose.as_pkcs8(to_pem(block.data, block.label), openssh=True)
    else:
        key = loose.as_pkcs8(block.data)
    if key is None:
        raise source.broken(block.start, f"the {block.label.lower()} in this block cannot be read")
    return loose.LooseKey(block.start, key, None, block.name)


def _traditional(block: Block, access: Access, budget: pbe.Budget) -> bytes | None:
    """A key under OpenSSL's older encryption (``DEK-Info``)."""
    assert block.data is not None
    if access.for_keys is None:
        raise PasswordMissing("the encrypted key in this PEM file")
    algorithm = pbe.read_dek_info(block.headers.get("DEK-Info", ""), "the key in this PEM file")
    try:
        return loose.as_pkcs8(pbe.decrypt(algorithm, block.data, pbe.Secret(access.for_keys), budget))
    except pbe.WrongSecretError as wrong:
        raise DigestWrong(StoreType.PEM.label, what="the padding of its encrypted key") from wrong


def write_pem(entries: Iterable[Entry], password: str | None, *, rng: Callable[[int], bytes]) -> bytes:
    """Keys (encrypted if there is a password) each with its chain behind it, then certificates of their own.

    A name stands in bag attributes before its block, as openssl writes them, unless it is the certificate's own.
    Raises :class:`CannotHold` for a secret key.
    """
    return b"".join(_written(entries, None if password is None else pbe.Secret(password), rng))


def _written(entries: Iterable[Entry], secret: pbe.Secret | None, rng: Callable[[int], bytes]) -> Iterator[bytes]:
    for entry in entries:
        match entry:
            case KeyEntry():
                name = _attributes(entry.alias, entry.chain[0] if entry.chain else b"")
                yield name + _written_key(entry, secret, rng)
                for number, der in enumerate(entry.chain):
                    yield (name if number == 0 else b"") + to_pem(der)
            case CertificateEntry():
                yield _attributes(entry.alias, entry.certificate) + to_pem(entry.certificate)
            case _:
                raise CannotHold(f"a PEM file cannot hold the secret key {shown(entry.alias)}")


def _written_key(entry: KeyEntry, secret: pbe.Secret | None, rng: Callable[[int], bytes]) -> bytes:
    if entry.key is None:
        if entry.sealed is None or entry.sealed.kind not in {StoreType.PEM, StoreType.DER, StoreType.PKCS12}:
            raise KeySealed(entry.alias)
        return to_pem(entry.sealed.data, "ENCRYPTED PRIVATE KEY")
    if secret is None:
        return to_pem(entry.key, "PRIVATE KEY")
    return to_pem(pbe.seal_key(entry.key, secret, pbe.new_algorithm(_SCHEME, rng)), "ENCRYPTED PRIVATE KEY")


def _attributes(alias: str, der: bytes) -> bytes:
    """The alias as openssl writes one; nothing where a reader would find it in the certificate."""
    if der and alias == common_name(der):
        return b""
    return f"Bag Attributes\n    friendlyName: {printable(alias)}\n".encode()
