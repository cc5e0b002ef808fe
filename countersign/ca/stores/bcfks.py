"""BCFKS: the FIPS key store of Bouncy Castle, which no RFC describes and no Python library writes.

An ObjectStore is an encrypted ObjectStoreData and an integrity check over the encrypted bytes. Inside, each entry is
an ObjectData: a kind, an alias, two dates and bytes, which for a private key are an EncryptedPrivateKeyInfo and its
chain::

    ObjectStore     ::= SEQUENCE { storeData CHOICE { EncryptedObjectStoreData, ObjectStoreData }, integrityCheck }
    EncryptedObjectStoreData ::= SEQUENCE { AlgorithmIdentifier, OCTET STRING }
    ObjectStoreData ::= SEQUENCE { version, integrityAlgorithm, created, modified, SEQUENCE OF ObjectData, comment? }
    ObjectData      ::= SEQUENCE { kind, alias UTF8String, created, modified, OCTET STRING, comment? }
    integrityCheck  ::= CHOICE { SEQUENCE { macAlgorithm, pbkd, mac OCTET STRING }, [0] SignatureCheck }

Everything is under keys that come from a password and from what the key is for (``STORE_ENCRYPTION``,
``PRIVATE_KEY_ENCRYPTION``, ``INTEGRITY_CHECK``): both in the form of RFC 7292 B.1, one behind the other, through PBKDF2
(51200 iterations of HMAC-SHA512) or scrypt, to AES-256 in CCM mode or as key wrap (RFC 5649).

Aliases keep their case, and the dates of an entry are whole seconds.
"""

from __future__ import annotations

import hmac
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from countersign.ca.stores import pbe
from countersign.ca.stores.errors import (
    CannotHold,
    DigestWrong,
    KeySealed,
    PasswordMissing,
    UnknownAlgorithm,
    WrongKeyPassword,
    shown,
)
from countersign.ca.stores.fields import Source
from countersign.ca.stores.model import (
    Access,
    CertificateEntry,
    Entry,
    Form,
    KeyEntry,
    Scheme,
    Sealed,
    SecretEntry,
    Store,
    StoreType,
)
from countersign.recorder import der

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from countersign.ca.stores.fields import Node

_CCM = Scheme("aes-256-ccm", "pbkdf2", 51_200, "sha512")
PBKDF2 = Form(keys=_CCM, content=_CCM, mac=Scheme("hmac-sha512", "pbkdf2", 51_200, "sha512"))
"""What keytool with Bouncy Castle writes."""

SCRYPT = Form(
    keys=_CCM,
    content=Scheme("aes-256-ccm", "scrypt", 16_384, "", 8, 8),
    mac=Scheme("hmac-sha512", "scrypt", 16_384, "", 8, 8),
)
"""With scrypt for the store; keys stay with PBKDF2, as Bouncy Castle has it (two eights: :func:`_as_bouncy_castle`)."""

_CERTIFICATE, _PRIVATE_KEY, _SECRET_KEY, _PROTECTED_PRIVATE_KEY, _PROTECTED_SECRET_KEY = range(5)
_STORE, _KEY, _INTEGRITY = "STORE_ENCRYPTION", "PRIVATE_KEY_ENCRYPTION", "INTEGRITY_CHECK"
_MACS = {
    "1.2.840.113549.2.9": "sha256", "1.2.840.113549.2.10": "sha384", "1.2.840.113549.2.11": "sha512",
    "2.16.840.1.101.3.4.2.16": "sha3_512",
}  # fmt: skip
_MAC_KEY = 64
_SALT = 64
_MOST_CHAIN = 1_000


# -- reading -----------------------------------------------------------------------------------------------------


def read_bcfks(source: Source, access: Access, budget: pbe.Budget) -> Store:
    """The store. Raises :class:`StructureBroken`, :class:`DigestWrong`, :class:`PasswordMissing`,
    :class:`WrongKeyPassword`, :class:`UnknownAlgorithm` and :class:`TooCostly`.
    """
    data, check = source.whole().sequence("an ObjectStore", 2, 2)
    parts = data.sequence("the store's data", 2, 6)
    encrypted = parts[0].tag == der.SEQUENCE
    algorithm = pbe.read_algorithm(parts[0], "this BCFKS store") if encrypted else None
    mac, mac_scheme = _check_mac(data, check, access, budget)
    if algorithm is not None and mac_scheme.kdf == "scrypt" and mac_scheme.parallel == mac_scheme.block:
        algorithm = _as_bouncy_castle(algorithm)
    if algorithm is None:
        objects = data
    else:
        secret = pbe.Secret(access.password, _STORE)
        try:
            plain = pbe.decrypt(algorithm, parts[1].octets("the encrypted store"), secret, budget)
        except pbe.WrongSecretError as wrong:
            raise DigestWrong(StoreType.BCFKS.label, what="the tag of its encryption") from wrong
        objects = Source(plain, "the decrypted store", "BCFKS store").whole()
    entries = tuple(_read_objects(objects, mac))
    keys = next((entry.sealed for entry in entries if isinstance(entry, KeyEntry) and entry.sealed), None)
    form = Form(
        keys=_read_sealed(keys.data)[0].scheme if keys else None,
        content=algorithm.scheme if algorithm else None,
        mac=mac_scheme,
    )
    return Store(StoreType.BCFKS, tuple(_opened(entry, access, budget) for entry in entries), verified=True, form=form)


def _as_bouncy_castle(algorithm: pbe.Algorithm) -> pbe.Algorithm:
    """Up to now Bouncy Castle gives scrypt its block size for the parallelization, whatever the file says of the
    latter.

    So where the two differ both are tried on reading, and they are written alike.
    """
    scheme = algorithm.scheme
    if scheme.kdf != "scrypt":
        return algorithm
    return replace(algorithm, scheme=replace(scheme, parallel=scheme.block))


def _read_sealed(sealed: bytes) -> tuple[pbe.Algorithm, bytes]:
    """How a key is encrypted, and what is."""
    algorithm, data = Source(sealed, "a key", "BCFKS store").whole().sequence("an EncryptedPrivateKeyInfo", 2, 2)
    return pbe.read_algorithm(algorithm, "a key of this BCFKS store"), data.octets("an encrypted key")


def _check_mac(data: Node, check: Node, access: Access, budget: pbe.Budget) -> tuple[bytes, Scheme]:
    """The integrity algorithm as it stands in the file, and how its key is made, once the MAC is right."""
    if check.tag == 0xA0:
        raise UnknownAlgorithm("this BCFKS store", "a signature instead of a password")
    algorithm, kdf_node, mac = check.sequence("an integrity check", 3, 3)
    oid = algorithm.sequence("a MAC", 1, 2)[0].oid("a MAC")
    if oid not in _MACS:
        raise UnknownAlgorithm("this BCFKS store", f"the MAC {oid}")
    written, expected = pbe.read_kdf(kdf_node, "this BCFKS store"), mac.octets("the MAC")
    if access.password is None:
        raise PasswordMissing("reading a BCFKS store")
    secret, content = pbe.Secret(access.password, _INTEGRITY), data.raw
    for kdf in dict.fromkeys((written, _as_bouncy_castle(written))):
        key = pbe.derive(kdf, secret, kdf.key_length or _MAC_KEY, budget)
        if hmac.compare_digest(hmac.digest(key, content, _MACS[oid]), expected):
            return algorithm.raw, replace(kdf.scheme, cipher=f"hmac-{_MACS[oid]}")
    raise DigestWrong(StoreType.BCFKS.label, what="its MAC")


def _read_objects(node: Node, mac: bytes) -> Iterable[Entry]:
    parts = node.sequence("ObjectStoreData", 5, 6)
    if (version := parts[0].integer("the version")) != 1:
        raise parts[0].broken(f"expected version 1, got {version}")
    if parts[1].raw != mac:
        raise parts[1].broken("the integrity algorithm is not the one outside")
    for each in parts[4].sequence("the entries"):
        yield _read_object(each)


def _read_object(node: Node) -> Entry:
    parts = node.sequence("an entry", 5, 6)
    kind = parts[0].integer("the kind of an entry")
    try:
        alias = parts[1].expect(0x0C, "an alias").value.decode("utf-8")
    except UnicodeDecodeError as wrong:
        raise parts[1].broken("expected an alias in UTF-8, got other bytes") from wrong
    modified = _moment(parts[3])
    if kind == _CERTIFICATE:
        return CertificateEntry(alias, parts[4].octets("a certificate"), modified)
    if kind in {_PRIVATE_KEY, _PROTECTED_PRIVATE_KEY}:
        sealed, chain = parts[4].inside("a key").whole().sequence("EncryptedPrivateKeyData", 2, 2)
        certificates = tuple(each.raw for each in chain.sequence("a chain", 0, _MOST_CHAIN))
        return KeyEntry(alias, certificates, None, modified, Sealed(StoreType.BCFKS, sealed.raw))
    if kind in {_SECRET_KEY, _PROTECTED_SECRET_KEY}:
        data = der.encode_integer(kind) + der.encode(der.OCTET_STRING, parts[4].octets("a secret key"))
        return SecretEntry(alias, StoreType.BCFKS, data, modified)
    raise parts[0].broken(f"expected an entry of kind 0 to 4, got {kind}")


def _moment(node: Node) -> datetime:
    text = node.expect(der.GENERALIZED_TIME, "a date").value.decode("latin-1")
    try:
        return datetime.strptime(text[:14] + text[-1:], "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
    except ValueError as wrong:
        raise node.broken("expected a date, got other text") from wrong


def _opened(entry: Entry, access: Access, budget: pbe.Budget) -> Entry:
    if not isinstance(entry, KeyEntry) or entry.sealed is None or not access.open_keys:
        return entry
    algorithm, data = _read_sealed(entry.sealed.data)
    try:
        key = pbe.decrypt(algorithm, data, pbe.Secret(access.for_keys, _KEY), budget)
    except pbe.WrongSecretError as wrong:
        raise WrongKeyPassword(entry.alias) from wrong
    return KeyEntry(entry.alias, entry.chain, key, entry.created, entry.sealed)


# -- writing -----------------------------------------------------------------------------------------------------


def write_bcfks(
    entries: Iterable[Entry],
    password: str | None,
    *,
    key_password: str | None = None,
    form: Form = PBKDF2,
    now: datetime,
    rng: Callable[[int], bytes],
) -> bytes:
    """The store as Bouncy Castle writes it.

    Raises :class:`PasswordMissing`, and :class:`CannotHold` for what has no place in it.
    """
    if password is None:
        raise PasswordMissing("writing a BCFKS store")
    if form.mac is None or form.content is None:
        raise CannotHold("a BCFKS store is encrypted and guarded, always; name how, or leave it to the default")
    key_secret = pbe.Secret(password if key_password is None else key_password, _KEY)
    objects = [_object(entry, form.keys or _CCM, key_secret, now, rng) for entry in entries]
    digest = form.mac.cipher.removeprefix("hmac-")
    mac_oid = next(oid for oid, name in _MACS.items() if name == digest)
    mac_algorithm = pbe.identifier(mac_oid)
    dates = _time(now) * 2
    plain = der.encode(der.SEQUENCE, der.encode_integer(1), mac_algorithm, dates, der.encode(der.SEQUENCE, *objects))
    data = _sealed(plain, form.content, pbe.Secret(password, _STORE), rng)
    kdf = pbe.Algorithm(form.mac, rng(_SALT), key_length=_MAC_KEY)
    key = pbe.derive(kdf, pbe.Secret(password, _INTEGRITY), _MAC_KEY, pbe.Budget())
    mac = der.encode(der.OCTET_STRING, hmac.digest(key, data, digest))
    check = der.encode(der.SEQUENCE, mac_algorithm, pbe.kdf_der(kdf, _MAC_KEY), mac)
    return der.encode(der.SEQUENCE, data, check)


def _sealed(data: bytes, scheme: Scheme, secret: pbe.Secret, rng: Callable[[int], bytes]) -> bytes:
    """AlgorithmIdentifier and encrypted bytes: both an EncryptedObjectStoreData and an EncryptedPrivateKeyInfo."""
    algorithm = pbe.new_algorithm(scheme, rng, salt_size=_SALT)
    encrypted = pbe.encrypt(algorithm, data, secret)
    return der.encode(der.SEQUENCE, pbe.algorithm_der(algorithm), der.encode(der.OCTET_STRING, encrypted))


def _object(entry: Entry, scheme: Scheme, secret: pbe.Secret, now: datetime, rng: Callable[[int], bytes]) -> bytes:
    match entry:
        case CertificateEntry():
            kind, data = _CERTIFICATE, entry.certificate
        case KeyEntry():
            if entry.key is not None:
                sealed = _sealed(entry.key, scheme, secret, rng)
            elif entry.sealed is not None and entry.sealed.kind is StoreType.BCFKS:
                sealed = entry.sealed.data
            else:
                raise KeySealed(entry.alias)
            kind, data = _PRIVATE_KEY, der.encode(der.SEQUENCE, sealed, der.encode(der.SEQUENCE, *entry.chain))
        case SecretEntry():
            if entry.kind is not StoreType.BCFKS:
                raise CannotHold(f"a BCFKS store cannot hold a secret key of {entry.kind.label}: {shown(entry.alias)}")
            kind_piece, octets = der.exactly(2, entry.data, "a secret key")
            kind, data = der.decode_integer(kind_piece.body), octets.body
    try:
        alias = der.encode(0x0C, entry.alias.encode())
    except UnicodeEncodeError as wrong:
        raise CannotHold(f"the alias {shown(entry.alias)} is no Unicode text; give the entry another one") from wrong
    dates = _time(entry.created or now) * 2
    return der.encode(der.SEQUENCE, der.encode_integer(kind), alias, dates, der.encode(der.OCTET_STRING, data))


def _time(moment: datetime) -> bytes:
    return der.encode(der.GENERALIZED_TIME, moment.astimezone(UTC).strftime("%Y%m%d%H%M%SZ").encode())
