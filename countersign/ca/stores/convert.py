"""What is in one key store made fit for another, and checked on the way.

A conversion never drops anything in silence. What the other type has no place for is an error that names the option
that leaves it out; what a JVM would stumble over later (a key that is not its certificate's, a chain in the wrong
order) is an error now.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from countersign.ca.stores.chains import check_entry, common_name, reordered
from countersign.ca.stores.errors import AlreadyThere, CannotHold, EmptyStore, shown
from countersign.ca.stores.model import (
    CertificateEntry,
    Entry,
    KeyEntry,
    SecretEntry,
    Store,
    StoreType,
    without_twins,
)
from countersign.recorder.certificates import read_certificate

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def entries_for(
    store: Store,
    kind: StoreType,
    *,
    aliases: Sequence[str] = (),
    reorder: bool = False,
    certificates_only: bool = False,
    drop_secret_keys: bool = False,
    same_password: bool = True,
) -> tuple[Entry, ...]:
    """The entries of ``store`` (or those named) as a store of type ``kind`` takes them.

    ``reorder`` puts chains in order instead of refusing them, ``certificates_only`` makes each certificate of a chain
    an entry of its own and leaves keys out, ``drop_secret_keys`` leaves those out that cannot be carried over: a
    secret key is opaque here and stays under its old password (``same_password``) in its old type of store. Raises
    :class:`EmptyStore`, :class:`EntryNotFound`, :class:`KeyWithoutChain`, :class:`KeyMismatch`,
    :class:`ChainOutOfOrder` and :class:`CannotHold`.
    """
    if not store.entries:
        raise EmptyStore(store.kind.label)
    chosen = [store.entry(alias) for alias in dict.fromkeys(aliases)] if aliases else list(store.entries)
    if certificates_only:
        return _certificates(chosen)
    entries: list[Entry] = []
    for entry in chosen:
        match entry:
            case KeyEntry():
                entries.append(_key(entry, kind, reorder=reorder))
            case CertificateEntry():
                entries.append(replace(entry, trusted=True, attributes=_kept(entry, store.kind, kind)))
            case SecretEntry() if entry.kind is kind and same_password:
                entries.append(entry)
            case SecretEntry() if not drop_secret_keys:
                raise CannotHold(_secret(entry, kind))
    return tuple(entries)


def _key(entry: KeyEntry, kind: StoreType, *, reorder: bool) -> KeyEntry:
    if reorder and entry.chain:
        entry = replace(entry, chain=reordered(entry.chain, entry.key))
    if entry.chain or kind is not StoreType.PEM:
        check_entry(entry)
    return replace(entry, attributes=_kept(entry, entry.sealed.kind if entry.sealed else None, kind))


def _kept(entry: KeyEntry | CertificateEntry, of: StoreType | None, kind: StoreType) -> tuple[bytes, ...]:
    """Attributes are PKCS #12's own."""
    return entry.attributes if of is kind is StoreType.PKCS12 else ()


def _secret(entry: SecretEntry, kind: StoreType) -> str:
    if entry.kind is kind:
        why = "would stay under the old password: give the same password as before"
    else:
        why = f"is known to {entry.kind.label} stores alone: keep it there"
    return f"the secret key {shown(entry.alias)} {why}, or leave it out with --drop-secret-keys"


def _certificates(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Every certificate once, under its entry's alias or its own name."""
    found: dict[bytes, str] = {}
    for entry in entries:
        if isinstance(entry, CertificateEntry):
            found.setdefault(entry.certificate, entry.alias)
        elif isinstance(entry, KeyEntry):
            for position, der in enumerate(entry.chain):
                found.setdefault(der, entry.alias if position == 0 else common_name(der))
    if not found:
        raise EmptyStore("certificates-only")
    names = without_twins(found.values())
    return tuple(CertificateEntry(name, der) for name, der in zip(names, found, strict=True))


@dataclass(frozen=True, slots=True)
class Addition:
    """A store with something put in: what was added under which alias, and what had the same subject before."""

    entries: tuple[Entry, ...]
    added: tuple[CertificateEntry, ...]
    present: tuple[CertificateEntry, ...]
    namesakes: tuple[CertificateEntry, ...]


def with_certificates(store: Store, certificates: Iterable[bytes], *, alias: str | None = None) -> Addition:
    """``store`` with these as trusted certificates, those that it holds already left out.

    Raises :class:`AlreadyThere` where it holds all of them, or something else under ``alias``.
    """
    trusted = {each.certificate: each for each in store.entries if isinstance(each, CertificateEntry) and each.trusted}
    wanted = list(dict.fromkeys(certificates))
    present = tuple(trusted[der] for der in wanted if der in trusted)
    new = [der for der in wanted if der not in trusted]
    if not new:
        held = ", ".join(f"{shown(each.alias)} ({_fingerprint(each.certificate)})" for each in present[:3])
        raise AlreadyThere(f"nothing to add: the store trusts the same certificate already, as {held}")
    others = [each for each in store.entries if not (isinstance(each, CertificateEntry) and each.certificate in new)]
    taken = {each.alias.lower() for each in others}
    if alias is not None and alias.lower() in taken:
        raise AlreadyThere(
            f"there is another entry {shown(alias)} in the store, which stays as it is; give a new alias with --alias"
        )
    wished = [alias or common_name(der) for der in new]
    names = without_twins([*(each.alias for each in others), *wished])[len(others) :]
    added = tuple(CertificateEntry(name, der) for name, der in zip(names, new, strict=True))
    subjects = {read_certificate(der).subject for der in new}
    namesakes = tuple(each for der, each in trusted.items() if read_certificate(der).subject in subjects)
    return Addition((*others, *added), added, present, namesakes)


def _fingerprint(der: bytes) -> str:
    return f"SHA-256 {read_certificate(der).sha256[:16]}..."
