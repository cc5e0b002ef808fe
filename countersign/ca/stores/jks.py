"""JKS and JCEKS: Java's own key stores, one layout under two magic numbers.

A version, a count, then the entries (a private key with its chain, a certificate, in JCEKS a secret key too), each with
its alias and the moment of its making; at the end SHA-1 over the password, the words "Mighty Aphrodite" and everything
before. That digest is all that guards the file, and it needs no password to walk the structure; so a cut file is told
from a wrong password, while a wrong password cannot be told from altered bytes.

The keys of JKS are masked with SHA-1 (``sun``), those of JCEKS encrypted with 3DES under MD5 (``jceks``); both may
have a password other than the store's. Java finds aliases in lower case only, so they are written in it.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from countersign.ca.stores import pbe
from countersign.ca.stores.errors import CannotHold, DigestWrong, KeySealed, PasswordMissing, WrongKeyPassword, shown
from countersign.ca.stores.fields import Cursor, Source, encode_utf
from countersign.ca.stores.jceks import skip_object
from countersign.ca.stores.model import (
    Access,
    CertificateEntry,
    Entry,
    KeyEntry,
    Scheme,
    Sealed,
    SecretEntry,
    Store,
    StoreType,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MAGIC = {b"\xfe\xed\xfe\xed": StoreType.JKS, b"\xce\xce\xce\xce": StoreType.JCEKS}

_SALT = b"Mighty Aphrodite"
_DIGEST_SIZE = 20
_KEY, _CERTIFICATE, _SECRET = 1, 2, 3
_MOST_ENTRIES = 100_000
_MOST_CHAIN = 1_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SCHEMES = {StoreType.JKS: Scheme("sun", "sun", 1), StoreType.JCEKS: Scheme("3des-cbc", "jceks", 200_000, "md5")}


def read_jks(source: Source, access: Access, budget: pbe.Budget) -> Store:
    """The store; without a password its digest is not checked and its keys stay sealed.

    Raises :class:`StructureBroken`, :class:`DigestWrong`, :class:`WrongKeyPassword` and :class:`TooCostly`.
    """
    kind = MAGIC[source.data[:4]]
    cursor = Cursor(source, 4, max(4, len(source.data) - _DIGEST_SIZE))
    entries = _read_entries(cursor, kind)
    if cursor.offset != cursor.end:
        raise cursor.broken(f"{cursor.end - cursor.offset} bytes behind the last entry, before the digest")
    if access.password is not None and _digest(source.data[:-_DIGEST_SIZE], access.password) != source.data[-20:]:
        raise DigestWrong(kind.label)
    if access.open_keys and access.for_keys is not None:
        entries = [_opened(entry, access.for_keys, budget) for entry in entries]
    return Store(kind, tuple(entries), verified=access.password is not None)


def _read_entries(cursor: Cursor, kind: StoreType) -> list[Entry]:
    version = cursor.number(4, "the version")
    if version not in {1, 2}:
        raise cursor.source.broken(4, f"expected version 1 or 2, got {version}")
    count = cursor.number(4, "the number of entries")
    if count > _MOST_ENTRIES:
        raise cursor.source.broken(8, f"expected at most {_MOST_ENTRIES} entries, got {count}")
    return [_read_entry(cursor, kind, version) for _ in range(count)]


def _read_entry(cursor: Cursor, kind: StoreType, version: int) -> Entry:
    start = cursor.offset
    tag = cursor.number(4, "an entry")
    alias = cursor.text("an alias")
    created = _moment(cursor.number(8, "a date", signed=True))
    if tag == _KEY:
        sealed = Sealed(kind, cursor.block("an encrypted key"))
        count = cursor.number(4, "the length of a chain")
        if count > _MOST_CHAIN:
            raise cursor.broken(f"expected a chain of at most {_MOST_CHAIN} certificates, got {count}")
        chain = tuple(_read_certificate(cursor, version) for _ in range(count))
        return KeyEntry(alias, chain, None, created, sealed)
    if tag == _CERTIFICATE:
        return CertificateEntry(alias, _read_certificate(cursor, version), created)
    if tag == _SECRET and kind is StoreType.JCEKS:
        begin = cursor.offset
        skip_object(cursor)
        return SecretEntry(alias, kind, cursor.source.data[begin : cursor.offset], created)
    raise cursor.source.broken(start, f"expected an entry of kind 1, 2 or (in JCEKS) 3, got {tag}")


def _read_certificate(cursor: Cursor, version: int) -> bytes:
    if version == 2:
        start = cursor.offset
        kind = cursor.text("the type of a certificate")
        if kind not in {"X.509", "X509"}:
            raise cursor.source.broken(start, f"expected a certificate of type X.509, got {shown(kind)}")
    return cursor.block("a certificate")


def _moment(milliseconds: int) -> datetime | None:
    try:
        return _EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError:  # a year that no calendar here has
        return None


def _opened(entry: Entry, password: str, budget: pbe.Budget) -> Entry:
    if not isinstance(entry, KeyEntry) or entry.sealed is None:
        return entry
    what = f"the key of entry {shown(entry.alias)}"
    node = Source(entry.sealed.data, what, entry.sealed.kind.label).whole()
    try:
        key = pbe.open_key(node, pbe.Secret(password), budget, what)
    except pbe.WrongSecretError as wrong:
        raise WrongKeyPassword(entry.alias) from wrong
    return KeyEntry(entry.alias, entry.chain, key, entry.created, entry.sealed)


def _digest(data: bytes, password: str) -> bytes:
    return hashlib.sha1(pbe.Secret(password).utf16 + _SALT + data, usedforsecurity=False).digest()


def write_jks(
    kind: StoreType,
    entries: Iterable[Entry],
    password: str | None,
    *,
    key_password: str | None = None,
    now: datetime,
    rng: Callable[[int], bytes],
) -> bytes:
    """The store as Java reads it. Keys are under ``key_password``, or that of the store.

    Raises :class:`PasswordMissing`, and :class:`CannotHold` for what has no place in it.
    """
    if password is None:
        raise PasswordMissing(f"writing a {kind.label} store")
    secret = pbe.Secret(password if key_password is None else key_password)
    if kind is StoreType.JCEKS and not (secret.text or "").isascii():
        raise CannotHold("JCEKS encrypts keys under ASCII passwords alone; take another password, or type of store")
    written = [_entry(kind, entry, secret, now, rng) for entry in entries]
    magic = next(magic for magic, of in MAGIC.items() if of is kind)
    data = magic + (2).to_bytes(4) + len(written).to_bytes(4) + b"".join(written)
    return data + _digest(data, password)


def _entry(kind: StoreType, entry: Entry, secret: pbe.Secret, now: datetime, rng: Callable[[int], bytes]) -> bytes:
    since = (entry.created or now) - _EPOCH
    head = _text(entry.alias.lower()) + (since // timedelta(milliseconds=1)).to_bytes(8, signed=True)
    match entry:
        case KeyEntry():
            if entry.key is not None:
                algorithm = pbe.new_algorithm(_SCHEMES[kind], rng)
                key = pbe.seal_key(entry.key, secret, algorithm, rng)
            elif entry.sealed is not None and entry.sealed.kind is kind:
                key = entry.sealed.data
            else:
                raise KeySealed(entry.alias)
            chain = b"".join(_certificate(der) for der in entry.chain)
            return _number(_KEY) + head + _number(len(key)) + key + _number(len(entry.chain)) + chain
        case CertificateEntry():
            return _number(_CERTIFICATE) + head + _certificate(entry.certificate)
        case SecretEntry():
            if entry.kind is not kind or kind is not StoreType.JCEKS:
                raise CannotHold(f"a {kind.label} store cannot hold the secret key {shown(entry.alias)}")
            return _number(_SECRET) + head + entry.data


def _certificate(der: bytes) -> bytes:
    return _text("X.509") + _number(len(der)) + der


def _number(value: int) -> bytes:
    return value.to_bytes(4)


def _text(text: str) -> bytes:
    data = encode_utf(text)
    if len(data) > 0xFFFF:
        raise CannotHold(f"the alias {shown(text)} is longer than 65535 bytes; give the entry a shorter one")
    return len(data).to_bytes(2) + data
