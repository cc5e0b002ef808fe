"""Which certificates are revoked, on hold, released from a hold, or unknown: the register of an authority.

A certificate is named by its issuer's key and its serial number, as OCSP names it (RFC 6960 4.1.1): two issuers may use
the same number. What is not in the register is good, for countersign keeps no list of what it has issued: serials are
random (RFC 5280 4.1.2.2), and a leaf that mimics a target's is forgotten when its connection is.

Kept in the home the register is one JSON file, ``revoked.json``, of mode 0600. A change is made under a lock and takes
the file's name in one step, so that two ``countersign ca revoke`` at once both count and a crash leaves the old file
or the new one; a running responder looks before each answer whether the file is another.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from countersign.errors import EnvironmentFault, UserError, words_of
from countersign.recorder.private_files import make_private_dir, read_private, write_private

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FILE_NAME = "revoked.json"

_LARGEST_FILE = 64 << 20


class RegisterError(EnvironmentFault):
    """The register's file cannot be read; the text says what is wrong with it and what to do."""


class Reason(StrEnum):
    """Why a certificate was revoked (RFC 5280 5.3.1)."""

    UNSPECIFIED = "unspecified"
    KEY_COMPROMISE = "keyCompromise"
    CA_COMPROMISE = "cACompromise"
    AFFILIATION_CHANGED = "affiliationChanged"
    SUPERSEDED = "superseded"
    CESSATION_OF_OPERATION = "cessationOfOperation"
    CERTIFICATE_HOLD = "certificateHold"
    REMOVE_FROM_CRL = "removeFromCRL"
    PRIVILEGE_WITHDRAWN = "privilegeWithdrawn"
    AA_COMPROMISE = "aACompromise"

    @property
    def code(self) -> int:
        """The number of the CRLReason; 7 is not used."""
        return _CODES[self]

    @classmethod
    def of_code(cls, code: int) -> Reason | None:
        return next((reason for reason, number in _CODES.items() if number == code), None)

    @classmethod
    def read(cls, text: str) -> Reason:
        """By its name in any case, with or without hyphens. Raises :class:`UserError`."""
        plain = text.strip().lower().replace("-", "").replace("_", "")
        for reason in cls:
            if reason.value.lower() == plain:
                return reason
        raise UserError(f"there is no reason {text!r} to revoke a certificate; there are {', '.join(cls)}")


_CODES: dict[Reason, int] = dict(zip(Reason, (*range(7), 8, 9, 10), strict=True))


class State(StrEnum):
    """What the register says of a certificate; a hold is a revocation whose reason is certificateHold."""

    REVOKED = "revoked"
    RELEASED = "released"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Entry:
    """One certificate in the register.

    ``issuer`` is the key identifier of its issuer in hexadecimal (RFC 5280 4.2.1.2, method 1); ``name`` is only shown.
    """

    issuer: str
    serial: int
    at: datetime
    state: State = State.REVOKED
    reason: Reason = Reason.UNSPECIFIED
    name: str = ""

    @property
    def is_revoked(self) -> bool:
        return self.state is State.REVOKED

    def to_json(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "serial": f"{self.serial:x}",
            "state": self.state.value,
            "reason": self.reason.value,
            "at": self.at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
            "name": self.name,
        }

    @classmethod
    def of_json(cls, value: Any) -> Entry:
        """Raises ValueError, KeyError, TypeError or OverflowError for what :meth:`to_json` did not write."""
        at = datetime.fromisoformat(value["at"])
        if at.tzinfo is None:
            raise ValueError("a time without its zone")
        return cls(
            issuer=bytes.fromhex(value["issuer"]).hex(),
            serial=int(value["serial"], 16),
            at=at.astimezone(UTC),
            state=State(value["state"]),
            reason=Reason(value["reason"]),
            name=str(value["name"]),
        )


class Register:
    """The entries, in memory alone or with a file behind them; every change is in the file when the call returns."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._entries: dict[tuple[str, int], Entry] = {}
        self._seen: tuple[int, ...] | None = None
        self.refresh()

    @classmethod
    def of_home(cls, directory: str | os.PathLike[str]) -> Self:
        """The register of the authority kept in ``directory``. Raises :class:`RegisterError` and ``FileFault``."""
        return cls(Path(directory) / FILE_NAME)

    def __iter__(self) -> Iterator[Entry]:
        return iter(tuple(self._entries.values()))

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, issuer: str, serial: int) -> Entry | None:
        return self._entries.get((issuer, serial))

    def of_issuer(self, issuer: str) -> tuple[Entry, ...]:
        """The entries of one issuer's certificates, in the order in which they were made."""
        return tuple(entry for entry in self._entries.values() if entry.issuer == issuer)

    # -- changes -------------------------------------------------------------------------------------------------

    def put(self, entry: Entry) -> Entry:
        """Enter a certificate, in the place of what was said of it before, and return what is entered."""

        def change(entries: dict[tuple[str, int], Entry]) -> None:
            entries.pop((entry.issuer, entry.serial), None)
            entries[entry.issuer, entry.serial] = entry

        self._change(change)
        return entry

    def revoke(self, entry: Entry) -> Entry:
        """Enter a certificate as revoked, and return what the register says of it now.

        One that is revoked stays so from its first date on, for the reason that is given now or, without any, the one
        that was. Raises :class:`UserError` where a revocation for good would become a hold, which can be released.
        """
        made: list[Entry] = []

        def change(entries: dict[tuple[str, int], Entry]) -> None:
            before = entries.get((entry.issuer, entry.serial))
            made.append(_revoked_again(before, entry) if before is not None and before.is_revoked else entry)
            entries[entry.issuer, entry.serial] = made[0]

        self._change(change)
        return made[0]

    def release(self, issuer: str, serial: int, at: datetime) -> Entry:
        """End the hold of a certificate, which delta CRLs then say with removeFromCRL (RFC 5280 5.3.1).

        Raises :class:`UserError` where it is not on hold: no other revocation can be taken back.
        """
        made: list[Entry] = []

        def change(entries: dict[tuple[str, int], Entry]) -> None:
            entry = entries.get((issuer, serial))
            if entry is None or not entry.is_revoked:
                raise UserError(f"cannot release the certificate {serial:x}: it is not on hold")
            if entry.reason is not Reason.CERTIFICATE_HOLD:
                raise UserError(
                    f"cannot release the certificate {serial:x}: it was revoked for {entry.reason}, which is for good;"
                    " only a certificateHold ends"
                )
            made.append(replace(entry, state=State.RELEASED, reason=Reason.REMOVE_FROM_CRL, at=at))
            entries[issuer, serial] = made[0]

        self._change(change)
        return made[0]

    def _change(self, change: Callable[[dict[tuple[str, int], Entry]], None]) -> None:
        if self.path is None:
            change(self._entries)
            return
        with _locked(self.path.parent):
            self.refresh()
            changed = dict(self._entries)
            change(changed)
            document = {"schema": 1, "entries": [entry.to_json() for entry in changed.values()]}
            write_private(self.path, json.dumps(document, indent=1).encode() + b"\n", overwrite=True)
            self.refresh()

    # -- the file ------------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Read the file if it is another than before. Raises :class:`RegisterError` and ``FileFault``."""
        if self.path is None:
            return
        try:
            found = self.path.lstat()
        except FileNotFoundError:
            self._entries, self._seen = {}, None
            return
        except OSError as wrong:
            raise RegisterError(f"cannot read the register {self.path}: {words_of(wrong)}") from wrong
        seen = (found.st_ino, found.st_mtime_ns, found.st_size, found.st_mode)
        if seen != self._seen:
            self._entries = _read(self.path)
            self._seen = seen


def _revoked_again(before: Entry, entry: Entry) -> Entry:
    if entry.reason in {Reason.UNSPECIFIED, before.reason}:
        return before
    if entry.reason is Reason.CERTIFICATE_HOLD:
        raise UserError(
            f"cannot put the certificate {entry.serial:x} on hold: it was revoked for {before.reason} on"
            f" {before.at:%Y-%m-%dT%H:%M:%SZ}, which is for good"
        )
    return replace(entry, at=before.at, name=entry.name or before.name)


def _read(path: Path) -> dict[tuple[str, int], Entry]:
    data = read_private(path, at_most=_LARGEST_FILE)
    try:
        document = json.loads(data)
        if document["schema"] != 1:
            raise RegisterError(
                f"cannot read the register {path}: it is of schema {document['schema']!r}, expected 1;"
                " a newer countersign wrote it"
            )
        entries = [Entry.of_json(value) for value in document["entries"]]
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as wrong:
        raise RegisterError(
            f"cannot read the register {path}: it is not what countersign wrote there"
            f" ({type(wrong).__name__}); put the right file back, or remove it to start with nothing revoked"
        ) from wrong
    return {(entry.issuer, entry.serial): entry for entry in entries}


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Alone among the processes that change a register in this directory, until the block ends."""
    make_private_dir(directory)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
