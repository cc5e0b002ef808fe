"""A file of a key and certificates, in whatever state, split into the three that people are asked for.

*Key and leaf*, the *leaf*, and *the CAs* above it, nearest first and the root last: the first is for the machine that
authenticates itself, the second for whoever is to know it, the third for whoever is to trust it. File names are
fixed, so that no name in a certificate decides where anything is written.

The key stays as protected as it was (an encrypted one is not even opened unless its password is given) unless it is
asked for in clear.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from countersign.ca.pem import to_pem
from countersign.ca.stores import (
    CannotHold,
    EmptyStore,
    KeyEntry,
    PasswordMissing,
    Pool,
    Store,
    StoreError,
    StoreType,
    check_entry,
    leaf_first,
    load_store,
    write_store,
)
from countersign.ca.stores.errors import shown
from countersign.errors import UserError
from countersign.recorder.certificates import read_certificate
from countersign.recorder.private_files import make_private_dir, write_private, write_public

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEY_AND_LEAF, LEAF, CHAIN = "key-and-leaf.pem", "leaf.pem", "ca-chain.pem"


@dataclass(frozen=True, slots=True)
class Split:
    """The leaf and those above it (DER, nearest first), the key as PEM if there is one, and what there is to say."""

    leaf: bytes
    chain: tuple[bytes, ...]
    key_pem: bytes | None
    key_encrypted: bool
    notes: tuple[str, ...]

    def files(self) -> dict[str, bytes]:
        """The content of each file by its name; the one with the key only where there is a key."""
        leaf = to_pem(self.leaf)
        chain = b"".join(map(to_pem, self.chain))
        with_key = {} if self.key_pem is None else {KEY_AND_LEAF: self.key_pem + leaf}
        return {**with_key, LEAF: leaf, CHAIN: chain}


def split_file(
    path: str | os.PathLike[str],
    password: str | None = None,
    *,
    key_password: str | None = None,
    alias: str | None = None,
    clear_key: bool = False,
    rng: Callable[[int], bytes] = os.urandom,
) -> Split:
    """Split a key store, PEM or DER file of any kind. ``alias`` picks one key of several.

    Raises a :class:`StoreError`, which names what is wrong.
    """
    given = password if key_password is None else key_password
    try:
        store = load_store(path, password, key_password=key_password)
    except PasswordMissing:
        if clear_key:
            raise
        store = load_store(path, password, open_keys=False)
    entry = _chosen(store, alias)
    if entry is None:
        return _without_key(store)
    if entry.key is None and entry.sealed is None:
        raise PasswordMissing("the encrypted key in this file")
    notes: list[str] = []
    if entry.key is None:
        if not entry.chain:
            raise CannotHold("there is no certificate beside the encrypted key; put its certificate into the file")
        notes.append("the key is encrypted and was not compared with the certificate: give its password to have it so")
    else:
        check_entry(entry)
    protected = entry.sealed is not None or store.kind not in {StoreType.PEM, StoreType.DER}
    secret = given if protected and not clear_key else None
    bare = replace(entry, chain=())
    key_pem = write_store(StoreType.PEM, [replace(bare, alias="key")], secret, rng=rng)
    notes += _notes(store, entry.chain)
    return Split(entry.chain[0], entry.chain[1:], _block_only(key_pem), b"ENCRYPTED" in key_pem, tuple(notes))


def _chosen(store: Store, alias: str | None) -> KeyEntry | None:
    if not store.entries:
        raise EmptyStore(store.kind.label)
    if alias is not None:
        entry = store.entry(alias)
        if not isinstance(entry, KeyEntry):
            raise UserError(f"entry {shown(alias)} is a certificate and no key; name the entry of a key")
        return entry
    if len(store.keys) > 1:
        names = ", ".join(shown(entry.alias) for entry in store.keys[:5])
        raise StoreError(f"there are {len(store.keys)} keys ({names}); say which one with --alias")
    return store.keys[0] if store.keys else None


def _without_key(store: Store) -> Split:
    """The leaf is the certificate that issued none of the others."""
    if not store.certificates:
        raise EmptyStore(store.kind.label)
    chain = Pool(store.certificates).chain(leaf_first(store.certificates)[0])
    leaf = chain[0]
    notes = ["there is no key in it", *_notes(store, chain)]
    if read_certificate(leaf).is_ca:
        notes.append(
            f"no leaf either: {LEAF} is the certificate of an authority; who is to trust it needs that file too"
        )
    return Split(leaf, chain[1:], None, False, tuple(notes))


def _notes(store: Store, chain: tuple[bytes, ...]) -> list[str]:
    """What whoever gets these files should know."""
    notes = list(store.notes)
    others = [der for der in store.certificates if der not in chain]
    if others:
        names = ", ".join(f"'{read_certificate(der).subject}'" for der in others[:3])
        notes.append(f"{len(others)} other certificate{'s' * (len(others) > 1)} left out, not of this chain: {names}")
    top = read_certificate(chain[-1])
    if not top.self_issued:
        notes.append(
            f"the chain is not complete: the certificate of '{top.issuer}' is not in it; add it to the last file"
        )
    return notes


def _block_only(pem: bytes) -> bytes:
    """The block without the bag attributes before it."""
    return pem[pem.index(b"-----BEGIN") :]


def write_split(split: Split, directory: str | os.PathLike[str], *, overwrite: bool = False) -> dict[str, Path]:
    """Write the files, the one with the key with mode 0600; their paths by name. Raises :class:`FileFault`."""
    place = make_private_dir(directory)
    written: dict[str, Path] = {}
    for name, data in split.files().items():
        if name == KEY_AND_LEAF:
            write_private(place / name, data, overwrite=overwrite)
        else:
            write_public(place / name, data, overwrite=overwrite)
        written[name] = place / name
    return written
