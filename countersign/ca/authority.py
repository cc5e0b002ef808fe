"""The authority: a root, an intermediate under it, and their keys, made on first use and kept in the home.

The directory of an authority is made whole under another name and renamed, so that two processes that start at once
agree: a rename onto a directory with something in it fails, and who loses takes what the winner made. It is 0700, the
keys in it are 0600 from birth, and a key file that others can read is refused as ssh refuses it (THREATS.md T23).

    root.pem  root.key.pem  intermediate-1.pem  intermediate-1.key.pem  ...

Every install has its own keys and names (T20: one vendor shipped the same root on every laptop), and can be told by six
digits of its root key's hash: ``countersign inspection root 3fa2c1``. A root lives for a year at most unless asked for
more, says how many authorities may follow it, and can be constrained to names (RFC 5280 4.2.1.10), after which it can
harm nobody else even when its key is stolen.

The intermediate signs; an authority of which any part has expired signs nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from countersign.ca import assemble, keys
from countersign.ca.assemble import PrivateKey, Signer
from countersign.ca.pem import PemError, certificates_in, to_pem
from countersign.errors import EnvironmentFault, UserError
from countersign.recorder.certificates import (
    CertificateFacts,
    cut_certificate,
    read_certificate,
    read_validity,
    signed_by,
)
from countersign.recorder.der import DerError
from countersign.recorder.private_files import (
    FileFault,
    make_private_dir,
    read_private,
    write_private,
    write_public,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

YEAR = 365
"""Days that a root lives unless asked for more (THREATS.md T20)."""

_BACKDATED = timedelta(days=1)  # a client's clock may be behind
_LONGEST_NAME = 40  # with its role and mark behind it, within the 64 of a common name (RFC 5280 A.1)
_CA_USAGE = ("keyCertSign", "cRLSign")


class AuthorityError(EnvironmentFault):
    """An authority that is missing, broken, unsafe or expired; the text says which file and what to do."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """One certificate of the authority with its key: ``der``, its subject as it stands in there, and its dates."""

    der: bytes
    subject: bytes
    not_before: datetime
    not_after: datetime
    signer: Signer

    @property
    def facts(self) -> CertificateFacts:
        return read_certificate(self.der)


@dataclass(frozen=True, slots=True)
class Authority:
    """A root and the intermediates under it, outermost first; the last one (or a root alone) is the ``issuer``."""

    root: Issuer
    intermediates: tuple[Issuer, ...]
    directory: Path | None = None
    fingerprint: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "fingerprint", hashlib.sha256(self.issuer.der).hexdigest())

    @property
    def issuer(self) -> Issuer:
        """Who signs leaves."""
        return self.intermediates[-1] if self.intermediates else self.root

    @property
    def chain(self) -> tuple[bytes, ...]:
        """What a server sends after its leaf: the DER of the intermediates, the issuer first, the root left out."""
        return tuple(issuer.der for issuer in reversed(self.intermediates))

    @property
    def root_pem(self) -> bytes:
        """The root as PEM: what a client must trust."""
        return to_pem(self.root.der)

    @property
    def name(self) -> str:
        """The root's subject, to be shown."""
        return self.root.facts.subject or "?"

    @property
    def not_before(self) -> datetime:
        """From when all of its certificates are valid."""
        return max(issuer.not_before for issuer in (self.root, *self.intermediates))

    @property
    def not_after(self) -> datetime:
        """Until when all of its certificates are valid."""
        return min(issuer.not_after for issuer in (self.root, *self.intermediates))

    def check(self, now: datetime) -> None:
        """Raise :class:`AuthorityError` unless every certificate of the authority is valid at ``now``."""
        if self.not_before <= now <= self.not_after:
            return
        for issuer in (self.root, *self.intermediates):
            where = f" in {self.directory}" if self.directory else ""
            if now > issuer.not_after:
                raise AuthorityError(
                    f"cannot sign with the CA{where}: '{issuer.facts.subject}' expired on "
                    f"{issuer.facts.not_after}; move that directory away, run `countersign ca init`, "
                    "and have the clients trust the new root"
                )
            if now < issuer.not_before:
                raise AuthorityError(
                    f"cannot sign with the CA{where}: '{issuer.facts.subject}' is valid from "
                    f"{issuer.facts.not_before} on, and it is {now:%Y-%m-%dT%H:%M:%SZ}; set the clock right"
                )

    # -- made, loaded, or whichever it takes ---------------------------------------------------------------------

    @classmethod
    def make(
        cls,
        *,
        name: str = "countersign inspection",
        key: str = "ec:P-256",
        days: int = YEAR,
        constrain: Iterable[str] = (),
        now: datetime | None = None,
        rng: Callable[[int], bytes] = os.urandom,
    ) -> Self:
        """A new authority in memory alone: a root and one intermediate, valid from a day ago for ``days`` days.

        ``constrain`` are the domains and networks that it may speak for, all if empty; ``rng`` makes the serials
        (keys come from the library's own generator). Raises :class:`UserError` for values that make no authority.
        """
        if not 2 <= days <= 36500:
            raise UserError(f"cannot make a CA that is valid for {days} days: expected 2 to 36500")
        if not 1 <= len(name) <= _LONGEST_NAME:
            raise UserError(f"cannot name a CA with {len(name)} characters: expected 1 to {_LONGEST_NAME}")
        kind = keys.key_kind(key)
        constraints = [assemble.name_constraints(names)] if (names := tuple(constrain)) else []
        not_before = (now or datetime.now(UTC)).astimezone(UTC).replace(microsecond=0) - _BACKDATED
        validity = (not_before, not_before + timedelta(days=days))
        signers = [Signer.of(keys.generate(kind)) for _ in range(2)]
        mark = hashlib.sha256(signers[0].public_key).hexdigest()[:6]
        root_name, intermediate_name = (
            assemble.name_der(O="countersign", CN=f"{name} {role} {mark}") for role in ("root", "intermediate")
        )
        issue = partial(_issue_issuer, signer=signers[0], issuer_name=root_name, validity=validity, rng=rng)
        root = issue(subject=signers[0], subject_name=root_name, path_length=1, constraints=constraints)
        intermediate = issue(subject=signers[1], subject_name=intermediate_name, path_length=0, constraints=[])
        return cls(root, (intermediate,))

    @classmethod
    def create(
        cls,
        directory: str | os.PathLike[str],
        *,
        name: str = "countersign inspection",
        key: str = "ec:P-256",
        days: int = YEAR,
        constrain: Iterable[str] = (),
        now: datetime | None = None,
        rng: Callable[[int], bytes] = os.urandom,
    ) -> Self:
        """A new authority (see :meth:`make`) kept in ``directory``, which may not hold anything yet.

        Raises :class:`AuthorityError` where it does, :class:`FileFault` where it cannot be written.
        """
        directory = Path(directory)
        made = cls.make(name=name, key=key, days=days, constrain=constrain, now=now, rng=rng)
        if not _put(made, directory):
            raise AuthorityError(
                f"cannot make a CA in {directory}: it is not empty; move it away to start anew, or name another place"
            )
        return cls(made.root, made.intermediates, directory)

    @classmethod
    def load(cls, directory: str | os.PathLike[str]) -> Self:
        """The authority kept in ``directory``, its keys and certificates checked against each other.

        Raises :class:`AuthorityError` naming the file at fault, :class:`FileFault` for one that others can read.
        """
        directory = Path(directory)
        if directory.is_symlink():
            raise AuthorityError(f"cannot load a CA from {directory}: it is a symbolic link; name the directory itself")
        if not (directory / "root.pem").exists():
            raise AuthorityError(f"cannot load a CA from {directory}: no root.pem in it; run `countersign ca init`")
        root = _load_issuer(directory, "root")
        _check_signed(root, root, directory / "root.pem")
        intermediates: list[Issuer] = []
        while (directory / f"intermediate-{len(intermediates) + 1}.pem").exists():
            stem = f"intermediate-{len(intermediates) + 1}"
            intermediate = _load_issuer(directory, stem)
            _check_signed(intermediate, intermediates[-1] if intermediates else root, directory / f"{stem}.pem")
            intermediates.append(intermediate)
        return cls(root, tuple(intermediates), directory)

    @classmethod
    def open(
        cls,
        directory: str | os.PathLike[str],
        *,
        name: str = "countersign inspection",
        key: str = "ec:P-256",
        days: int = YEAR,
        constrain: Iterable[str] = (),
        now: datetime | None = None,
        rng: Callable[[int], bytes] = os.urandom,
    ) -> Self:
        """The authority kept in ``directory``, made there first if nothing is; safe for several processes at once."""
        directory = Path(directory)
        if not _holds_something(directory):
            made = cls.make(name=name, key=key, days=days, constrain=constrain, now=now, rng=rng)
            if _put(made, directory):
                return cls(made.root, made.intermediates, directory)
        return cls.load(directory)


def _issue_issuer(
    *,
    signer: Signer,
    issuer_name: bytes,
    subject: Signer,
    subject_name: bytes,
    validity: tuple[datetime, datetime],
    path_length: int,
    constraints: list[bytes],
    rng: Callable[[int], bytes],
) -> Issuer:
    certificate = assemble.assemble(
        signer,
        serial=assemble.new_serial(rng),
        issuer=issuer_name,
        validity=assemble.validity_der(*validity),
        subject=subject_name,
        public_key=subject.public_key,
        extensions=[
            assemble.basic_constraints(path_length=path_length),
            assemble.key_usage(_CA_USAGE),
            assemble.subject_key_identifier(subject.key_id),
            assemble.authority_key_identifier(signer.key_id),
            *constraints,
        ],
    )
    return Issuer(certificate, subject_name, *validity, subject)


# -- on the disk -------------------------------------------------------------------------------------------------


def _stems(authority: Authority) -> Iterable[tuple[str, Issuer]]:
    yield "root", authority.root
    for number, issuer in enumerate(authority.intermediates, 1):
        yield f"intermediate-{number}", issuer


def _holds_something(directory: Path) -> bool:
    try:
        return directory.is_symlink() or any(directory.iterdir())
    except FileNotFoundError:
        return False
    except NotADirectoryError as wrong:
        raise AuthorityError(f"cannot keep a CA in {directory}: it is a file; name a directory") from wrong
    except OSError as wrong:
        raise AuthorityError(f"cannot look into {directory}: {(wrong.strerror or str(wrong)).lower()}") from wrong


def _put(authority: Authority, directory: Path) -> bool:
    """Write the authority under another name and rename it to ``directory``; ``False`` if something is there."""
    if _holds_something(directory):
        return False
    make_private_dir(directory.parent)
    temporary = directory.parent / f".{directory.name}.{secrets.token_hex(8)}.new"
    make_private_dir(temporary)
    try:
        for stem, issuer in _stems(authority):
            write_private(temporary / f"{stem}.key.pem", key_to_pem(issuer.signer.key))
            write_public(temporary / f"{stem}.pem", to_pem(issuer.der))
        temporary.rename(directory)
    except OSError as wrong:
        shutil.rmtree(temporary, ignore_errors=True)
        if _holds_something(directory):
            return False
        raise AuthorityError(f"cannot keep a CA in {directory}: {(wrong.strerror or str(wrong)).lower()}") from wrong
    except FileFault:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _flush(directory.parent)
    return True


def _flush(directory: Path) -> None:
    """Make a rename last; a file system that cannot is one where it need not."""
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def key_to_pem(key: PrivateKey) -> bytes:
    """An unencrypted PKCS #8 PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _load_issuer(directory: Path, stem: str) -> Issuer:
    certificate_file, key_file = directory / f"{stem}.pem", directory / f"{stem}.key.pem"
    try:
        ders = certificates_in(certificate_file.read_bytes())
    except OSError as wrong:
        raise AuthorityError(_broken(certificate_file, (wrong.strerror or str(wrong)).lower())) from wrong
    except PemError as wrong:
        raise AuthorityError(_broken(certificate_file, str(wrong))) from wrong
    if len(ders) != 1:
        raise AuthorityError(_broken(certificate_file, f"expected one certificate, got {len(ders)}"))
    key = _load_key(key_file)
    try:
        parts = cut_certificate(ders[0])
    except DerError as wrong:
        raise AuthorityError(_broken(certificate_file, str(wrong))) from wrong
    not_before, not_after, problems = read_validity(parts.validity)
    if not_before is None or not_after is None:
        raise AuthorityError(_broken(certificate_file, problems[0]))
    if not read_certificate(ders[0]).is_ca:
        raise AuthorityError(_broken(certificate_file, "expected a CA certificate, got one that is none"))
    signer = Signer.of(key)
    if signer.public_key != parts.public_key:
        raise AuthorityError(_broken(key_file, f"it is not the key of {certificate_file.name}"))
    return Issuer(ders[0], parts.subject, not_before, not_after, signer)


def _load_key(path: Path) -> PrivateKey:
    try:
        key = serialization.load_pem_private_key(read_private(path), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as wrong:
        reason = "it is encrypted" if isinstance(wrong, TypeError) else "expected an unencrypted PEM private key"
        raise AuthorityError(_broken(path, reason)) from wrong
    if not isinstance(
        key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
    ):
        raise AuthorityError(_broken(path, "expected an RSA, EC or Edwards key"))
    return key


def _check_signed(issued: Issuer, issuer: Issuer, path: Path) -> None:
    parts = cut_certificate(issued.der)
    if parts.issuer != issuer.subject or not signed_by(parts, issuer.signer.public_key):
        raise AuthorityError(_broken(path, f"it was not signed by '{issuer.facts.subject}'"))


def _broken(path: Path, what: str) -> str:
    return (
        f"cannot use the CA file {path}: {what}; put the right file back, "
        "or move its directory away and run `countersign ca init`"
    )
