"""PKCS #12 (RFC 7292): what OpenSSL, browsers, Windows and today's Java keep keys and certificates in.

A file is a PFX: an *authenticated safe* (a row of contents, each clear or encrypted under the password) and a MAC
over its bytes. The contents hold bags: a key, a certificate or a secret each, with attributes. Nothing says which
certificates make up a chain; a key and its own certificate share a ``localKeyID``, and issuers are found by name.

A certificate without a key is *trusted* for Java only if it has the attribute ``2.16.840.1.113894.746875.1.1``; a trust
store that openssl made lacks it, and a JVM sees it as empty (``trustAnchors parameter must be non-empty``). Java also
keeps the moment of a key's making in its localKeyID (``Time 1763721600000``), and finds an alias whatever its case.

No password and an empty one are two things (RFC 7292 B.1: no bytes, or two zero bytes) which programs mix up: the other
is tried when one of them does not fit. Since JDK 18 a JVM's cacerts has no password at all: clear contents and no MAC.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from countersign.ca.stores import pbe
from countersign.ca.stores.chains import Pool, common_name
from countersign.ca.stores.errors import (
    CannotHold,
    DigestWrong,
    KeySealed,
    PasswordMissing,
    StructureBroken,
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
    without_twins,
)
from countersign.recorder import der

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from countersign.ca.stores.fields import Node

_AES = Scheme("aes-256-cbc", "pbkdf2", 10_000, "sha256")
MODERN = Form(keys=_AES, content=_AES, mac=Scheme("hmac-sha256", "pkcs12", 10_000))
"""What Java 17 writes; Java 8 (from 8u301 on) and OpenSSL 1.1 read it too."""

LEGACY = Form(
    keys=Scheme("3des-cbc", "pkcs12", 50_000),
    content=Scheme("rc2-40-cbc", "pkcs12", 50_000),
    mac=Scheme("hmac-sha1", "pkcs12", 100_000),
)
"""What Java 8 writes, and ``openssl pkcs12 -legacy`` with fewer iterations; for programs that read nothing newer."""

CLEAR = Form(keys=None, content=None, mac=None)
"""A trust store without a password, as the cacerts of JDK 18 and later."""

_DATA, _ENCRYPTED = "1.2.840.113549.1.7.1", "1.2.840.113549.1.7.6"
_BAG = "1.2.840.113549.1.12.10.1."
_KEY_BAG, _SHROUDED_BAG, _CERT_BAG = f"{_BAG}1", f"{_BAG}2", f"{_BAG}3"
_CRL_BAG, _SECRET_BAG, _NESTED_BAG = f"{_BAG}4", f"{_BAG}5", f"{_BAG}6"
_X509 = "1.2.840.113549.1.9.22.1"
_FRIENDLY_NAME, _LOCAL_KEY_ID = "1.2.840.113549.1.9.20", "1.2.840.113549.1.9.21"
_TRUSTED, _ANY_USE = "2.16.840.1.113894.746875.1.1", "2.5.29.37.0"
_PBMAC1 = "1.2.840.113549.1.5.14"
_DIGESTS = {
    "1.2.840.113549.2.5": "md5", "1.3.14.3.2.26": "sha1", "2.16.840.1.101.3.4.2.4": "sha224",
    "2.16.840.1.101.3.4.2.1": "sha256", "2.16.840.1.101.3.4.2.2": "sha384", "2.16.840.1.101.3.4.2.3": "sha512",
}  # fmt: skip
_DIGEST_OIDS = {name: oid for oid, name in _DIGESTS.items()}

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MOST_CONTENTS = 64
_MOST_ATTRIBUTES = 64
_DEEPEST = 4


@dataclass(frozen=True, slots=True)
class _Bag:
    """One bag: what it holds, and its attributes, those that are not known here as they came."""

    kind: str
    node: Node
    alias: str | None = None
    key_id: bytes | None = None
    trusted: bool = False
    attributes: tuple[bytes, ...] = ()


@dataclass(slots=True)
class _Read:
    """What was found so far."""

    bags: list[_Bag] = field(default_factory=list)
    encrypted: list[tuple[pbe.Algorithm, bytes]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


# -- reading -----------------------------------------------------------------------------------------------------


def read_pkcs12(source: Source, access: Access, budget: pbe.Budget) -> Store:
    """The store. Without a password only what is clear, or under an empty one, is read.

    Raises :class:`StructureBroken`, :class:`DigestWrong`, :class:`PasswordMissing`, :class:`WrongKeyPassword`,
    :class:`UnknownAlgorithm` and :class:`TooCostly`.
    """
    parts = source.whole().sequence("a PFX", 2, 3)
    if (version := parts[0].integer("the version")) != 3:
        raise parts[0].broken(f"expected version 3, got {version}")
    kind, content = _content_info(parts[1])
    if kind != _DATA or content is None:
        raise UnknownAlgorithm("this PKCS #12 store", f"a public key instead of a password ({kind})")
    read = _Read()
    _read_contents(content.inside("the authenticated safe").whole(), read)
    mac = _read_mac(parts[2]) if len(parts) == 3 else None
    secrets = _right_secrets(mac, content.octets("the authenticated safe"), access, budget)
    content_scheme = read.encrypted[0][0].scheme if read.encrypted else None
    secret = _decrypt_contents(read, secrets, checked=mac is not None, budget=budget)
    return Store(
        StoreType.PKCS12,
        _entries(read, secret, access, budget),
        verified=mac is not None,
        form=Form(_key_scheme(read.bags), content_scheme, mac.scheme if mac else None),
        notes=tuple(read.notes),
    )


def _content_info(node: Node) -> tuple[str, Node | None]:
    parts = node.sequence("a ContentInfo", 1, 2)
    content = parts[1].expect(0xA0, "the content").only("the content") if len(parts) == 2 else None
    return parts[0].oid("a content type"), content


def _read_contents(safe: Node, read: _Read) -> None:
    for info in safe.expect(der.SEQUENCE, "an AuthenticatedSafe").children(at_most=_MOST_CONTENTS):
        kind, content = _content_info(info)
        if content is None:
            raise info.broken("expected a content, got its type alone")
        if kind == _DATA:
            _read_bags(content.inside("the contents").whole(), read, 0)
        elif kind == _ENCRYPTED:
            version_and_info = content.sequence("EncryptedData", 2, 3)
            parts = version_and_info[1].sequence("EncryptedContentInfo", 3, 3)
            algorithm = pbe.read_algorithm(parts[1], "the certificates of this PKCS #12 store")
            read.encrypted.append((algorithm, parts[2].octets("the encrypted content", tag=0x80)))
        else:
            raise UnknownAlgorithm("this PKCS #12 store", f"a public key instead of a password ({kind})")


def _read_bags(node: Node, read: _Read, depth: int) -> None:
    """SafeContents (RFC 7292 4.2)."""
    for each in node.expect(der.SEQUENCE, "SafeContents").children():
        parts = each.sequence("a SafeBag", 2, 3)
        kind = parts[0].oid("the kind of a bag")
        value = parts[1].expect(0xA0, "the value of a bag").only("the value of a bag")
        if kind == _NESTED_BAG:
            if depth == _DEEPEST:
                raise each.broken(f"more than {_DEEPEST} levels of bags")
            _read_bags(value, read, depth + 1)
        elif kind in {_KEY_BAG, _SHROUDED_BAG, _CERT_BAG, _SECRET_BAG}:
            read.bags.append(_bag(kind, value, parts[2] if len(parts) == 3 else None))
        else:
            what = "a list of revoked certificates" if kind == _CRL_BAG else f"a bag of kind {kind}"
            read.notes.append(f"{what} in it is left out")


def _bag(kind: str, value: Node, attributes: Node | None) -> _Bag:
    alias, key_id, trusted = None, None, False
    others: list[bytes] = []
    if kind == _CERT_BAG:
        form, octets = value.sequence("a CertBag", 2, 2)
        if (name := form.oid("the type of a certificate")) != _X509:
            raise form.broken(f"expected a certificate of type X.509, got {name}")
        value = octets.expect(0xA0, "a certificate").only("a certificate")
        value.octets("a certificate")
    for each in attributes.expect(der.SET, "attributes").children(at_most=_MOST_ATTRIBUTES) if attributes else ():
        oid, values = each.sequence("an attribute", 2, 2)
        name = oid.oid("an attribute")
        held = values.expect(der.SET, "the values of an attribute").children(at_most=_MOST_ATTRIBUTES)
        if name == _FRIENDLY_NAME and held:
            text = held[0].expect(0x1E, "a friendly name").value
            if len(text) % 2:
                raise held[0].broken(f"expected a friendly name of two bytes each character, got {len(text)} bytes")
            alias = text.decode("utf-16-be", "surrogatepass")
        elif name == _LOCAL_KEY_ID and held:
            key_id = held[0].octets("a local key id")
        elif name == _TRUSTED:
            trusted = True
        else:
            others.append(each.raw)
    return _Bag(kind, value, alias, key_id, trusted, tuple(others))


@dataclass(frozen=True, slots=True)
class _Mac:
    scheme: Scheme
    salt: bytes
    digest: bytes = b""
    kdf: pbe.Algorithm | None = None
    """PBMAC1 alone (RFC 9579)."""

    def fits(self, data: bytes, secret: pbe.Secret, budget: pbe.Budget) -> bool:
        return hmac.compare_digest(self.over(data, secret, budget), self.digest)

    def over(self, data: bytes, secret: pbe.Secret, budget: pbe.Budget) -> bytes:
        digest = self.scheme.cipher.removeprefix("hmac-")
        size = hashlib.new(digest, usedforsecurity=False).digest_size
        if self.kdf is None:
            algorithm = pbe.Algorithm(self.scheme, self.salt)
            key = pbe.pkcs12_key(algorithm, secret, pbe.FOR_MAC, size, budget, digest=digest)
        else:
            key = pbe.derive(self.kdf, secret, self.kdf.key_length or size, budget)
        return hmac.digest(key, data, digest)


def _read_mac(node: Node) -> _Mac:
    parts = node.sequence("MacData", 2, 3)
    algorithm, digest = parts[0].sequence("a DigestInfo", 2, 2)
    named = algorithm.sequence("a digest algorithm", 1, 2)
    oid = named[0].oid("a digest algorithm")
    salt = parts[1].octets("the salt of the MAC")
    if oid == _PBMAC1 and len(named) == 2:
        kdf_node, hmac_node = named[1].sequence("PBMAC1-params", 2, 2)
        kdf = pbe.read_kdf(kdf_node, "this PKCS #12 store")
        name = hmac_node.sequence("a MAC", 1, 2)[0].oid("a MAC")
        prf = next((prf for prf, known in pbe.PRF_OIDS.items() if known == name), "")
        if prf not in _DIGEST_OIDS:
            raise UnknownAlgorithm("this PKCS #12 store", f"the MAC {name}")
        scheme = Scheme(f"hmac-{prf}", kdf.scheme.kdf, kdf.scheme.rounds, kdf.scheme.prf)
        return _Mac(scheme, salt, digest.octets("the MAC"), kdf)
    if oid not in _DIGESTS:
        raise UnknownAlgorithm("this PKCS #12 store", f"a MAC with {oid}")
    rounds = parts[2].integer("an iteration count") if len(parts) == 3 else 1
    if rounds < 1:
        raise parts[2].broken(f"expected an iteration count above 0, got {rounds}")
    return _Mac(Scheme(f"hmac-{_DIGESTS[oid]}", "pkcs12", rounds), salt, digest.octets("the MAC"))


def _right_secrets(mac: _Mac | None, data: bytes, access: Access, budget: pbe.Budget) -> tuple[pbe.Secret, ...]:
    """The secrets that may be the right one: one if the MAC could tell."""
    candidates = tuple(map(pbe.Secret, [access.password] if access.password else [access.password, None, ""]))
    if mac is None:
        return candidates
    for secret in dict.fromkeys(candidates):
        if mac.fits(data, secret, budget):
            return (secret,)
    if access.password is None:
        raise PasswordMissing("reading this PKCS #12 store")
    raise DigestWrong(StoreType.PKCS12.label, what="its MAC")


def _decrypt_contents(read: _Read, secrets: Sequence[pbe.Secret], *, checked: bool, budget: pbe.Budget) -> pbe.Secret:
    """Read what is encrypted; the secret that opened it."""
    clear = len(read.bags)
    for secret in dict.fromkeys(secrets):
        try:
            for number, (algorithm, data) in enumerate(read.encrypted, 1):
                plain = pbe.decrypt(algorithm, data, secret, budget)
                name = "the decrypted certificates" if len(read.encrypted) == 1 else f"decrypted content {number}"
                _read_bags(Source(plain, name, "PKCS #12 store").whole(), read, 0)
        except pbe.WrongSecretError:
            del read.bags[clear:]
        except StructureBroken:
            if checked:
                raise
            del read.bags[clear:]  # without a MAC a wrong password may decrypt to nonsense
        else:
            return secret
    if secrets[0].text is None:
        raise PasswordMissing("reading the certificates of this PKCS #12 store")
    raise DigestWrong(StoreType.PKCS12.label, what="what the password should decrypt")


def _key_scheme(bags: Iterable[_Bag]) -> Scheme | None:
    for bag in bags:
        if bag.kind == _SHROUDED_BAG:
            algorithm, _ = bag.node.sequence("an EncryptedPrivateKeyInfo", 2, 2)
            return pbe.read_algorithm(algorithm, f"the key of entry {shown(bag.alias or '')}").scheme
    return None


def _entries(read: _Read, secret: pbe.Secret, access: Access, budget: pbe.Budget) -> tuple[Entry, ...]:
    certificates = [(bag, bag.node.octets("a certificate")) for bag in read.bags if bag.kind == _CERT_BAG]
    pool = Pool(data for _, data in certificates)
    in_chains: set[bytes] = set()
    entries: list[Entry] = []
    keys = [bag for bag in read.bags if bag.kind in {_KEY_BAG, _SHROUDED_BAG}]
    for bag in keys:
        key = _opened(bag, secret, access, budget)
        own = _own_certificate(bag, key, certificates, pool, alone=len(keys) == 1)
        chain = pool.chain(own) if own is not None else ()
        in_chains.update(chain)
        sealed = Sealed(StoreType.PKCS12, bag.node.raw) if bag.kind == _SHROUDED_BAG else None
        alias = bag.alias or (common_name(chain[0]) if chain else "key")
        entries.append(KeyEntry(alias, chain, key, _created(bag.key_id), sealed, bag.attributes))
    entries.extend(
        SecretEntry(bag.alias or "secret", StoreType.PKCS12, bag.node.raw, _created(bag.key_id), bag.attributes)
        for bag in read.bags
        if bag.kind == _SECRET_BAG
    )
    for bag, data in certificates:
        if bag.trusted or data not in in_chains:
            entries.append(CertificateEntry(bag.alias or common_name(data), data, None, bag.trusted, bag.attributes))
            in_chains.add(data)
    aliases = without_twins(entry.alias for entry in entries)
    return tuple(_renamed(entry, alias) for entry, alias in zip(entries, aliases, strict=True))


def _renamed(entry: Entry, alias: str) -> Entry:
    match entry:
        case KeyEntry():
            return KeyEntry(alias, entry.chain, entry.key, entry.created, entry.sealed, entry.attributes)
        case CertificateEntry():
            return CertificateEntry(alias, entry.certificate, entry.created, entry.trusted, entry.attributes)
        case SecretEntry():
            return SecretEntry(alias, entry.kind, entry.data, entry.created, entry.attributes)


def _opened(bag: _Bag, secret: pbe.Secret, access: Access, budget: pbe.Budget) -> bytes | None:
    if bag.kind == _KEY_BAG:
        return bag.node.raw
    if not access.open_keys:
        return None
    if access.key_password is not None:
        secret = pbe.Secret(access.key_password)
    alias = bag.alias or ""
    try:
        return pbe.open_key(bag.node, secret, budget, f"the key of entry {shown(alias)}")
    except pbe.WrongSecretError as wrong:
        if access.for_keys is None:
            return None
        raise WrongKeyPassword(alias) from wrong


def _own_certificate(
    bag: _Bag, key: bytes | None, certificates: Sequence[tuple[_Bag, bytes]], pool: Pool, *, alone: bool
) -> bytes | None:
    """The certificate of a key: by localKeyID, by the key itself, by its name, or the only one there could be."""
    linked = [(each, data) for each, data in certificates if bag.key_id is not None and each.key_id == bag.key_id]
    if linked:
        named = [data for each, data in linked if each.alias == bag.alias]
        return (named or [data for _, data in linked])[0]
    if key is not None and (owners := pool.owners(key)):
        return owners[0]
    if bag.alias is not None:
        for each, data in certificates:
            if each.alias == bag.alias and not each.trusted:
                return data
    return certificates[0][1] if alone and len(certificates) == 1 and key is None else None


def _created(key_id: bytes | None) -> datetime | None:
    """When the key was made, as Java says it in the localKeyID."""
    if key_id is None or not key_id.startswith(b"Time ") or not key_id[5:].isdigit() or len(key_id) > 24:
        return None
    try:
        return _EPOCH + timedelta(milliseconds=int(key_id[5:]))
    except OverflowError:
        return None


# -- writing -----------------------------------------------------------------------------------------------------


def write_pkcs12(
    entries: Iterable[Entry],
    password: str | None,
    *,
    key_password: str | None = None,
    form: Form = MODERN,
    rng: Callable[[int], bytes],
) -> bytes:
    """The store, protected as ``form`` says; ``CLEAR`` needs no password.

    Raises :class:`PasswordMissing`, and :class:`CannotHold` for what has no place in it.
    """
    entries = list(entries)
    if password is None and (form.content is not None or form.mac is not None):
        raise PasswordMissing("writing a PKCS #12 store")
    secret = pbe.Secret(password)
    key_secret = secret if key_password is None else pbe.Secret(key_password)
    contents: list[bytes] = []
    key_bags, cert_bags = _bags(entries, form.keys or MODERN.keys, key_secret, rng)
    if key_bags:
        contents.append(_data(der.encode(der.SEQUENCE, *key_bags)))
    if cert_bags:
        safe = der.encode(der.SEQUENCE, *cert_bags)
        contents.append(_data(safe) if form.content is None else _encrypted(safe, form.content, secret, rng))
    authenticated = der.encode(der.SEQUENCE, *contents)
    mac = b"" if form.mac is None else _mac_data(authenticated, form.mac, secret, rng)
    return der.encode(der.SEQUENCE, der.encode_integer(3), _data(authenticated), mac)


def _bags(
    entries: Iterable[Entry], scheme: Scheme | None, secret: pbe.Secret, rng: Callable[[int], bytes]
) -> tuple[list[bytes], list[bytes]]:
    keys: list[bytes] = []
    certificates: list[bytes] = []
    used: set[bytes] = set()
    for entry in entries:
        alias = entry.alias
        match entry:
            case KeyEntry():
                key_id = _key_id(entry, used)
                attributes = _attributes(alias, key_id, entry.attributes)
                keys.append(_safe_bag(_SHROUDED_BAG, _shrouded(entry, scheme, secret, rng), attributes))
                for position, data in enumerate(entry.chain):
                    certificates.append(_cert_bag(data, attributes if position == 0 else _attributes(None, None)))
            case CertificateEntry():
                trusted = [_attribute(_TRUSTED, der.encode_oid(_ANY_USE))] if entry.trusted else []
                attributes = _attributes(alias, None, (*trusted, *entry.attributes))
                certificates.append(_cert_bag(entry.certificate, attributes))
            case SecretEntry():
                if entry.kind is not StoreType.PKCS12:
                    raise CannotHold(f"a PKCS #12 store cannot hold a secret key of {entry.kind.label}: {shown(alias)}")
                attributes = _attributes(alias, _key_id(entry, used), entry.attributes)
                keys.append(_safe_bag(_SECRET_BAG, entry.data, attributes))
    return keys, certificates


def _key_id(entry: KeyEntry | SecretEntry, used: set[bytes]) -> bytes:
    """Java's ``Time ...`` where the time is known, else what OpenSSL takes: SHA-1 of the certificate. Never twice."""
    if entry.created is None:
        held = entry.data if isinstance(entry, SecretEntry) else b"".join(entry.chain[:1])
        key_id = hashlib.sha1(held, usedforsecurity=False).digest()
        while key_id in used:
            key_id = hashlib.sha1(key_id, usedforsecurity=False).digest()
    else:
        milliseconds = (entry.created - _EPOCH) // timedelta(milliseconds=1)
        while (key_id := f"Time {milliseconds}".encode()) in used:
            milliseconds += 1
    used.add(key_id)
    return key_id


def _shrouded(entry: KeyEntry, scheme: Scheme | None, secret: pbe.Secret, rng: Callable[[int], bytes]) -> bytes:
    if entry.key is None:
        if entry.sealed is None or entry.sealed.kind is not StoreType.PKCS12:
            raise KeySealed(entry.alias)
        return entry.sealed.data
    if secret.text is None or scheme is None:
        raise PasswordMissing(f"writing the key of entry {shown(entry.alias)} to a PKCS #12 store")
    return pbe.seal_key(entry.key, secret, pbe.new_algorithm(scheme, rng))


def _safe_bag(kind: str, value: bytes, attributes: bytes) -> bytes:
    return der.encode(der.SEQUENCE, der.encode_oid(kind), der.encode(0xA0, value), attributes)


def _cert_bag(data: bytes, attributes: bytes) -> bytes:
    octets = der.encode(0xA0, der.encode(der.OCTET_STRING, data))
    return _safe_bag(_CERT_BAG, der.encode(der.SEQUENCE, der.encode_oid(_X509), octets), attributes)


def _attributes(alias: str | None, key_id: bytes | None, others: Iterable[bytes] = ()) -> bytes:
    attributes = list(others)
    if alias is not None:
        attributes.append(_attribute(_FRIENDLY_NAME, der.encode(0x1E, alias.encode("utf-16-be", "surrogatepass"))))
    if key_id is not None:
        attributes.append(_attribute(_LOCAL_KEY_ID, der.encode(der.OCTET_STRING, key_id)))
    return der.encode(der.SET, *sorted(attributes)) if attributes else b""


def _attribute(oid: str, value: bytes) -> bytes:
    return der.encode(der.SEQUENCE, der.encode_oid(oid), der.encode(der.SET, value))


def _data(content: bytes) -> bytes:
    return der.encode(der.SEQUENCE, der.encode_oid(_DATA), der.encode(0xA0, der.encode(der.OCTET_STRING, content)))


def _encrypted(content: bytes, scheme: Scheme, secret: pbe.Secret, rng: Callable[[int], bytes]) -> bytes:
    algorithm = pbe.new_algorithm(scheme, rng)
    info = der.encode(
        der.SEQUENCE,
        der.encode_oid(_DATA),
        pbe.algorithm_der(algorithm),
        der.encode(0x80, pbe.encrypt(algorithm, content, secret)),
    )
    data = der.encode(der.SEQUENCE, der.encode_integer(0), info)
    return der.encode(der.SEQUENCE, der.encode_oid(_ENCRYPTED), der.encode(0xA0, data))


def _mac_data(content: bytes, scheme: Scheme, secret: pbe.Secret, rng: Callable[[int], bytes]) -> bytes:
    salt, digest = rng(20), scheme.cipher.removeprefix("hmac-")
    if scheme.kdf == "pkcs12":
        made = _Mac(scheme, salt).over(content, secret, pbe.Budget())
        algorithm = pbe.identifier(_DIGEST_OIDS[digest])
        rounds = scheme.rounds
    else:
        size = hashlib.new(digest).digest_size
        kdf = pbe.Algorithm(scheme, salt, key_length=size)
        made = _Mac(scheme, salt, kdf=kdf).over(content, secret, pbe.Budget())
        parameters = der.encode(der.SEQUENCE, pbe.kdf_der(kdf, size), pbe.identifier(pbe.PRF_OIDS[digest]))
        algorithm, rounds = der.encode(der.SEQUENCE, der.encode_oid(_PBMAC1), parameters), 1
    info = der.encode(der.SEQUENCE, algorithm, der.encode(der.OCTET_STRING, made))
    count = der.encode_integer(rounds) if rounds != 1 else b""  # DEFAULT 1
    return der.encode(der.SEQUENCE, info, der.encode(der.OCTET_STRING, salt), count)
