"""What can be wrong with a key store, each thing a class of its own, so that nobody is told "wrong password?" for a
cut file.

A digest that does not fit says only that: the password is wrong or bytes were altered. JKS has one text for both in
Java and so has Bouncy Castle; nothing in the file can tell them apart. What can be told apart are a structure that
breaks off (:class:`StructureBroken`, with the offset), a whole one whose digest is wrong (:class:`DigestWrong`), and
bytes that are no key store at all (:class:`UnknownType`, with what they look like).
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Self

from countersign.errors import AnswerIsNo, UserError
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

_LONGEST_ALIAS = 80


def shown(alias: str) -> str:
    """An alias between quotes, everything in it that does not print as itself escaped."""
    return f"'{printable(alias, limit=_LONGEST_ALIAS)}'"


class StoreError(UserError):
    """A key store that cannot be read, written or used as asked; the text says why and what to do."""

    def about(self, attempted: str) -> Self:
        """The same, beginning with what was attempted: ``cannot read agent_keystore: ...``."""
        self.args = (f"{attempted}: {self}",)
        return self


class StructureBroken(StoreError):  # noqa: N818 - what was found, as all of these are named
    """The bytes stop making sense at ``offset`` of ``where`` (the file, or something that was decrypted from it)."""

    def __init__(self, offset: int, what: str, *, where: str = "the file", form: str = "store") -> None:
        super().__init__(
            f"the structure of the {form} is broken at offset {offset} of {where}: {what}; "
            "the file is cut or damaged: copy it again in binary mode, or take a backup"
        )
        self.offset = offset
        self.where = where


class DigestWrong(StoreError):  # noqa: N818
    """The structure is whole and the digest over it does not fit the password."""

    def __init__(self, form: str, *, what: str = "its digest") -> None:
        super().__init__(
            f"the {form} store is whole in structure, but {what} is wrong: the password is wrong, or bytes were "
            "altered (these two look the same); try the other passwords that you know (a JDK's cacerts has changeit), "
            "then a backup"
        )


class PasswordMissing(StoreError):  # noqa: N818
    """What is asked for cannot be had without a password, and none was given."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} needs a password, and none was given; give --store-password-file FILE or set "
            "COUNTERSIGN_STORE_PASSWORD (a JDK's cacerts has changeit)"
        )


class WrongKeyPassword(StoreError):  # noqa: N818
    """The password opens the store (or it has none), but not this entry's key."""

    def __init__(self, alias: str) -> None:
        super().__init__(
            f"the key of entry {shown(alias)} does not open with this password, while the store itself did or asks for "
            "none: give the key's own with --key-password-file (if this is the key's own, its bytes were altered)"
        )
        self.alias = alias


class KeySealed(StoreError):  # noqa: N818
    """A key was not opened, and is needed open."""

    def __init__(self, alias: str) -> None:
        super().__init__(
            f"the key of entry {shown(alias)} is still encrypted as another type of store keeps it; give its password"
        )
        self.alias = alias


class UnknownType(StoreError):  # noqa: N818
    """No key store, certificate or key; ``looks_like`` says what the first bytes are instead, and what to do."""

    def __init__(self, looks_like: str) -> None:
        super().__init__(f"expected a key store (PKCS #12, JKS, JCEKS, BCFKS), PKCS #7, PEM or DER, got {looks_like}")
        self.looks_like = looks_like


class EmptyStore(StoreError):  # noqa: N818
    """A store without entries, which a JVM answers with "trustAnchors parameter must be non-empty"."""

    def __init__(self, form: str) -> None:
        super().__init__(
            f"the {form} store holds no entries (a JVM would say: the trustAnchors parameter must be non-empty); "
            "import the certificates into it, or name the store that holds them"
        )


class KeyWithoutChain(StoreError):  # noqa: N818
    """A private key whose certificate is not there."""

    def __init__(self, alias: str) -> None:
        super().__init__(
            f"the key of entry {shown(alias)} has no certificate with it; "
            "put its certificate and those of its issuers into the same file, behind the key"
        )
        self.alias = alias


class ChainOutOfOrder(StoreError):  # noqa: N818
    """A chain in which certificate ``position`` (from 1) did not issue the one before it."""

    def __init__(self, alias: str, position: int, subject: str, before: str) -> None:
        super().__init__(
            f"the chain of entry {shown(alias)} is in the wrong order: certificate {position} ('{subject}') did not "
            f"issue the one before it ('{before}'); run again with --reorder, or put the key's certificate first "
            "and each issuer behind what it issued"
        )
        self.alias = alias
        self.position = position


class KeyMismatch(StoreError):  # noqa: N818
    """A private key that is not the one of the certificate beside it."""

    def __init__(self, alias: str, subject: str) -> None:
        super().__init__(
            f"the key of entry {shown(alias)} is not the key of its certificate ('{subject}'); "
            "put the certificate that was issued for this key in its place, or the key that was made for it"
        )
        self.alias = alias


class EntryNotFound(StoreError, AnswerIsNo):  # noqa: N818
    """No entry of that name; the text names the nearest."""

    def __init__(self, alias: str, there: Iterable[str]) -> None:
        names = list(there)
        near = difflib.get_close_matches(alias, names, n=3, cutoff=0.5) or names[:3]
        more = f" and {len(names) - len(near)} more" if len(names) > len(near) else ""
        if near:
            told = f"the nearest are {', '.join(map(shown, near))}{more}"
        else:
            told = "the store holds no entries"
        super().__init__(f"there is no entry {shown(alias)}; {told}")
        self.alias = alias


class CannotHold(StoreError):  # noqa: N818
    """The type of store has no place for what was to be put there."""


class AlreadyThere(StoreError, AnswerIsNo):  # noqa: N818
    """What was to be added is in the store already."""


class TooCostly(StoreError):  # noqa: N818
    """Reading would take more time or memory than any real store needs."""


class UnknownAlgorithm(StoreError):  # noqa: N818
    """The store is protected in a way that is not read here."""

    def __init__(self, what: str, algorithm: str) -> None:
        super().__init__(
            f"cannot read {what}: it is protected with {algorithm}, which is not known here; write the store anew with "
            "the program that made it (openssl pkcs12, keytool -importkeystore) and its default algorithms"
        )
