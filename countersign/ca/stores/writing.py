"""Writes a key store of whichever type is asked for."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from countersign.ca.stores import bcfks, pkcs12
from countersign.ca.stores.der import write_der
from countersign.ca.stores.errors import CannotHold, shown
from countersign.ca.stores.jks import write_jks
from countersign.ca.stores.model import Form, StoreType
from countersign.ca.stores.pem import write_pem
from countersign.ca.stores.pkcs7 import write_pkcs7

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from countersign.ca.stores.model import Entry


def write_store(
    kind: StoreType,
    entries: Iterable[Entry],
    password: str | None = None,
    *,
    key_password: str | None = None,
    form: Form | None = None,
    armour: bool = False,
    now: datetime | None = None,
    rng: Callable[[int], bytes] = os.urandom,
) -> bytes:
    """The bytes of a key store with these entries, whatever state they are in: what is right is checked elsewhere.

    Keys are under ``key_password``, or under ``password`` where there is none; PEM keys are in clear without any.
    ``form`` is how PKCS #12 or BCFKS protect themselves (default: as Java 17 and Bouncy Castle do), ``armour`` makes
    PKCS #7 PEM, ``now`` dates entries that have no date. Raises :class:`PasswordMissing`, and :class:`CannotHold` where
    the type has no place for an entry.
    """
    entries = list(entries)
    now = now or datetime.now(UTC)
    _check_aliases(kind, entries)
    match kind:
        case StoreType.PEM:
            return write_pem(entries, password if key_password is None else key_password, rng=rng)
        case StoreType.DER:
            return write_der(entries)
        case StoreType.PKCS7:
            return write_pkcs7(entries, armour=armour)
        case StoreType.PKCS12:
            form = form or pkcs12.MODERN
            return pkcs12.write_pkcs12(entries, password, key_password=key_password, form=form, rng=rng)
        case StoreType.BCFKS:
            form = form or bcfks.PBKDF2
            return bcfks.write_bcfks(entries, password, key_password=key_password, form=form, now=now, rng=rng)
        case _:
            return write_jks(kind, entries, password, key_password=key_password, now=now, rng=rng)


def _check_aliases(kind: StoreType, entries: Iterable[Entry]) -> None:
    """No two entries under one name, where the type of store finds them by it."""
    if kind in {StoreType.PEM, StoreType.DER, StoreType.PKCS7}:
        return
    seen: dict[str, str] = {}
    for entry in entries:
        alias = entry.alias.lower() if kind.folds_aliases else entry.alias
        if alias in seen:
            raise CannotHold(
                f"a {kind.label} store cannot hold both {shown(seen[alias])} and {shown(entry.alias)}: "
                f"{'Java folds their case; ' if kind.folds_aliases else ''}give one of them another alias"
            )
        seen[alias] = entry.alias
