"""Puts trusted certificates into a store that is in use, a JVM's cacerts above all, without harm to what is in it.

Everything else in the store is written as it was: keys still sealed, secret keys, dates, the very form of encryption.
What was made is read again before it takes the old one's place.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from countersign.ca.pem import to_pem
from countersign.ca.stores import pbe
from countersign.ca.stores.convert import Addition, with_certificates
from countersign.ca.stores.errors import CannotHold, PasswordMissing, StoreError
from countersign.ca.stores.model import Entry, KeyEntry, Scheme, Store, StoreType
from countersign.ca.stores.pkcs12 import LEGACY
from countersign.ca.stores.reading import LARGEST, read_store
from countersign.ca.stores.writing import write_store
from countersign.recorder.private_files import read_regular, rewrite
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class Added:
    """What was done: to which file (links followed), where the backup is, what was in the store, what is new."""

    path: Path
    backup: Path | None
    before: Store
    addition: Addition


def add_to_file(
    path: str | os.PathLike[str],
    certificates: Iterable[bytes],
    password: str | None = None,
    *,
    alias: str | None = None,
    backup: bool = False,
    now: datetime | None = None,
) -> Added:
    """Put certificates into the store at ``path`` as trusted ones; ``backup`` keeps a dated copy of it first.

    Raises a :class:`StoreError` (:class:`AlreadyThere` where nothing is new) or :class:`FileFault`; the file is then
    as it was.
    """
    place, now = Path(path), now or datetime.now(UTC)
    attempted = f"cannot add to {printable(str(place))}"
    data = read_regular(place, at_most=LARGEST)
    if data is None:
        raise StoreError(f"{attempted}: there is no such file; name the store that the client uses")
    try:
        store = read_store(data, password, open_keys=False)
        if not store.verified and password is None and store.kind in {StoreType.JKS, StoreType.JCEKS}:
            raise PasswordMissing(f"writing a {store.kind.label} store")
        addition = with_certificates(store, certificates, alias=alias)
        made = _rewritten(data, store, addition, password, now)
    except StoreError as wrong:
        raise wrong.about(attempted) from wrong
    name = f"{place.resolve().name}.{now:%Y-%m-%dT%H%M%SZ}.bak" if backup else None
    real = rewrite(place, made, expected=data, backup=name)
    return Added(real, real.parent / name if name else None, store, addition)


def _rewritten(data: bytes, store: Store, addition: Addition, password: str | None, now: datetime) -> bytes:
    if store.kind is StoreType.DER:
        raise CannotHold("a DER file holds one certificate; convert it first: countersign ca keystore convert --to pem")
    if store.kind is StoreType.PEM:
        made = _appended(data, addition)
    else:
        form = store.form and replace(
            store.form, content=_writable(store.form.content), keys=_writable(store.form.keys)
        )
        armour = store.kind is StoreType.PKCS7 and not data.startswith(b"\x30")
        made = write_store(store.kind, addition.entries, password, form=form, armour=armour, now=now)
    again = read_store(made, password, open_keys=False)
    if set(again.certificates) != set(replace(store, entries=addition.entries).certificates) or (
        store.kind is not StoreType.PEM and _kinds(again.entries) != _kinds(addition.entries)
    ):
        raise StoreError("what was written does not read as what was meant, and was not put in place; report this")
    return made


def _appended(data: bytes, addition: Addition) -> bytes:
    """PEM with blocks behind it; the text of others that stands in it stays."""
    if data[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        raise CannotHold("the file is in UTF-16, which few programs read as PEM; save it as ASCII or UTF-8 first")
    gap = b"" if data.endswith((b"\n", b"\r")) else b"\n"
    return data + gap + b"".join(to_pem(entry.certificate) for entry in addition.added)


def _kinds(entries: Iterable[Entry]) -> set[tuple[str, object]]:
    """The entries without what a type of store may change on the way (the case of names, fractions of a second)."""
    return {
        (entry.alias.lower(), entry.sealed or entry.key if isinstance(entry, KeyEntry) else None) for entry in entries
    }


def _writable(scheme: Scheme | None) -> Scheme | None:
    """The scheme, or the nearest to one that is only read (RC4): the old one that everybody knows."""
    return LEGACY.keys if scheme is not None and not pbe.can_write(scheme) else scheme
