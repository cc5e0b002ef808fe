"""A key store in words and as JSON: what is in it, and what a client would stumble over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from countersign.ca.stores.chains import check_entry, subject_of
from countersign.ca.stores.errors import EmptyStore, StoreError, shown
from countersign.ca.stores.model import CertificateEntry, Entry, KeyEntry, Store
from countersign.recorder.certificates import read_certificate

if TYPE_CHECKING:
    from datetime import datetime


def describe_store(store: Store, now: datetime) -> dict[str, Any]:
    """The store as the command line's ``--json`` has it; no key is in it."""
    return {
        "type": store.kind.value,
        "verified": store.verified,
        "protection": _protection(store),
        "entries": [describe_entry(entry) for entry in store.entries],
        "problems": list(problems_of(store, now)),
        "notes": list(store.notes),
    }


def _protection(store: Store) -> dict[str, str | None] | None:
    if store.form is None:
        return None
    parts = {"keys": store.form.keys, "content": store.form.content, "mac": store.form.mac}
    return {name: str(scheme) if scheme else None for name, scheme in parts.items()}


def describe_entry(entry: Entry) -> dict[str, Any]:
    """One entry: its alias, kind, date and certificates."""
    created = entry.created.isoformat(timespec="seconds").replace("+00:00", "Z") if entry.created else None
    match entry:
        case KeyEntry():
            kind, chain = "key", entry.chain
        case CertificateEntry():
            kind, chain = "certificate" if entry.trusted else "untrusted-certificate", (entry.certificate,)
        case _:
            kind, chain = "secret-key", ()
    certificates = [read_certificate(der).to_json() for der in chain]
    return {"alias": entry.alias, "kind": kind, "created": created, "certificates": certificates}


def problems_of(store: Store, now: datetime) -> tuple[str, ...]:
    """What is wrong with what the store holds, in sentences, each with what to do."""
    if not store.entries:
        return (str(EmptyStore(store.kind.label)),)
    found: list[str] = []
    for entry in store.entries:
        match entry:
            case KeyEntry():
                found += _of_key(entry, now)
            case CertificateEntry():
                if not entry.trusted:
                    found.append(
                        f"a JVM does not see certificate {shown(entry.alias)}: it lacks Java's mark of trust; "
                        "write the store anew with: countersign ca keystore convert IN OUT --to pkcs12"
                    )
                found += _expired(entry.alias, (entry.certificate,), now)
    return tuple(found)


def _of_key(entry: KeyEntry, now: datetime) -> list[str]:
    found: list[str] = []
    try:
        check_entry(entry)
    except StoreError as wrong:
        found.append(str(wrong))
    return found + _expired(entry.alias, entry.chain, now)


def _expired(alias: str, chain: tuple[bytes, ...], now: datetime) -> list[str]:
    found: list[str] = []
    for der in chain:
        facts = read_certificate(der)
        if facts.valid_at(now) is False:
            when = f"from {facts.not_before} to {facts.not_after}"
            found.append(f"entry {shown(alias)}: '{subject_of(der)}' is valid {when} only; get a new one")
    return found
