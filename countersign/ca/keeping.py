"""Authorities in files: those that are kept in a directory, and those that somebody gives.

The directory of an authority is made whole under another name and renamed, so that two processes that start at once
agree: a rename onto a directory with something in it fails, and who loses takes what the winner made. It is 0700, the
keys in it are 0600 from birth, and a key file that others can read is refused as ssh refuses it.

    root.pem  root.key.pem  intermediate-1.pem  intermediate-1.key.pem  ...  crossed-1.pem

A rotation changes none of these files. The new authority is a directory of the same form beside them
(``generation-2``), and ``generations.json`` says which one is in force and when the others went:

    {"schema": 1, "current": "generation-2",
     "retired": [{"directory": ".", "what": "intermediate", "at": "2026-11-20T12:00:00Z", "until": "2026-12-04T..."}]}

That file is replaced in one step and only after the new directory is whole; a crash leaves the old authority in force,
and what was half made is removed by the next rotation.
A retired one whose directory has been removed is forgotten.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import secrets
import shutil
import stat
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from countersign.ca.authority import Authority, Issuer, Plan, Retired
from countersign.ca.errors import AuthorityError, PassphraseNeeded
from countersign.ca.keypair import load_key_pair
from countersign.ca.pem import PemError, certificates_in, to_pem
from countersign.ca.signer import PrivateKey, Signer
from countersign.ca.stores import CertificateEntry, KeyEntry, load_store
from countersign.errors import words_of
from countersign.recorder.certificates import cut_certificate, describe_key
from countersign.recorder.private_files import (
    FileFault,
    make_private_dir,
    read_private,
    read_regular,
    write_private,
    write_public,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from countersign.ca.authority import Rotated

_GENERATIONS = "generations.json"
_ABANDONED = 3600.0  # seconds: a new authority is written in less than one
_PLACE = re.compile(r"\.|generation-[1-9][0-9]{0,5}")


def create(directory: str | os.PathLike[str], plan: Plan, passphrase: bytes | None) -> Authority:
    """:meth:`Authority.create`."""
    return keep(Authority.make(plan), directory, passphrase)


def keep(authority: Authority, directory: str | os.PathLike[str], passphrase: bytes | None) -> Authority:
    """:meth:`Authority.keep`."""
    directory = Path(directory)
    if not _put(authority, directory, passphrase):
        raise AuthorityError(
            f"cannot make a CA in {directory}: it is not empty; move it away to start anew, or name another place"
        )
    return replace(authority, directory=directory)


def open_or_create(directory: str | os.PathLike[str], plan: Plan, passphrase: bytes | None) -> Authority:
    """:meth:`Authority.open`."""
    return open_or_make(directory, lambda: Authority.make(plan), passphrase)


def open_or_make(
    directory: str | os.PathLike[str], make: Callable[[], Authority], passphrase: bytes | None
) -> Authority:
    """The authority kept in ``directory``; what ``make`` makes is kept there first if nothing is."""
    directory = Path(directory)
    if not _holds_something(directory):
        made = make()
        if _put(made, directory, passphrase):
            return replace(made, directory=directory)
    return load(directory, passphrase)


def load(directory: str | os.PathLike[str], passphrase: bytes | None) -> Authority:
    """:meth:`Authority.load`."""
    directory = Path(directory)
    if directory.is_symlink():
        raise AuthorityError(f"cannot load a CA from {directory}: it is a symbolic link; name the directory itself")
    current, retired = _generations(directory)
    loaded = _load_one(directory / current, passphrase)
    return replace(loaded, directory=directory, retired=tuple(_retired(directory, retired, passphrase)))


def _load_one(directory: Path, passphrase: bytes | None) -> Authority:
    if not (directory / "root.pem").exists():
        raise AuthorityError(f"cannot load a CA from {directory}: no root.pem in it; run `countersign ca init`")
    root = _load_issuer(directory, "root", passphrase)
    _check_signed(root, root, directory / "root.pem")
    intermediates: list[Issuer] = []
    while (directory / f"intermediate-{len(intermediates) + 1}.pem").exists():
        stem = f"intermediate-{len(intermediates) + 1}"
        intermediate = _load_issuer(directory, stem, passphrase)
        _check_signed(intermediate, intermediates[-1] if intermediates else root, directory / f"{stem}.pem")
        intermediates.append(intermediate)
    crossed: list[bytes] = []
    while (path := directory / f"crossed-{len(crossed) + 1}.pem").exists():
        crossed.append(_load_certificate(path))
    return Authority(root, tuple(intermediates), directory, tuple(crossed))


# -- writing -----------------------------------------------------------------------------------------------------


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
        raise AuthorityError(f"cannot look into {directory}: {words_of(wrong)}") from wrong


def _put(authority: Authority, directory: Path, passphrase: bytes | None) -> bool:
    """Write the authority under another name and rename it to ``directory``; ``False`` if something is there."""
    if _holds_something(directory):
        return False
    make_private_dir(directory.parent)
    _sweep(directory.parent, directory.name, older_than=_ABANDONED)
    temporary = directory.parent / f".{directory.name}.{secrets.token_hex(8)}.new"
    make_private_dir(temporary)
    try:
        for stem, issuer in _stems(authority):
            write_private(temporary / f"{stem}.key.pem", key_to_pem(issuer.signer.key, passphrase))
            write_public(temporary / f"{stem}.pem", to_pem(issuer.der))
        for number, crossed in enumerate(authority.crossed, 1):
            write_public(temporary / f"crossed-{number}.pem", to_pem(crossed))
        temporary.rename(directory)
    except OSError as wrong:
        shutil.rmtree(temporary, ignore_errors=True)
        if _holds_something(directory):
            return False
        raise AuthorityError(f"cannot keep a CA in {directory}: {words_of(wrong)}") from wrong
    except (FileFault, AuthorityError):
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _flush(directory.parent)
    return True


def _sweep(directory: Path, name: str, *, older_than: float = 0) -> None:
    """Remove what was being made in ``directory`` under this name when its maker was killed; it may hold keys."""
    for each in directory.glob(f".{name}.{'[0-9a-f]' * 16}.new"):
        with contextlib.suppress(OSError):
            found = each.lstat()
            if time.time() - found.st_mtime < older_than:
                continue
            if stat.S_ISDIR(found.st_mode):
                shutil.rmtree(each)
            else:
                each.unlink()


def _flush(directory: Path) -> None:
    """Make a rename last; a file system that cannot is one where it need not."""
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def key_to_pem(key: PrivateKey, passphrase: bytes | None = None) -> bytes:
    """The key as PKCS #8 PEM, encrypted if there is a passphrase."""
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        encryption = serialization.BestAvailableEncryption(passphrase)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


# -- generations -------------------------------------------------------------------------------------------------


def add_generation(new: Authority, directory: Path, *, replaces: Authority, passphrase: bytes | None) -> None:
    """Keep ``new`` in ``directory`` and put it in force there, where ``replaces`` has to be in force until now."""
    with _locked(directory):
        _sweep(directory, "generation-*")  # nobody else is making one: what is half made was left by a crash
        _sweep(directory, _GENERATIONS)
        current, retired = _generations(directory)
        if _load_certificate(directory / current / _issuer_file(replaces)) != replaces.issuer.der:
            raise AuthorityError(
                f"cannot rotate the CA in {directory}: it has been rotated by somebody else meanwhile; load it again"
            )
        if passphrase is None and _is_encrypted(directory / current):
            raise AuthorityError(
                f"cannot rotate the CA in {directory}: its keys are encrypted; give the passphrase for the new ones too"
            )
        taken = {current, *(each["directory"] for each in retired), *(each.name for each in directory.iterdir())}
        place = next(name for number in range(2, len(taken) + 3) if (name := f"generation-{number}") not in taken)
        _put(new, directory / place, passphrase)
        went = new.retired[-1]
        mark = {"directory": current, "what": went.what, "at": went.at.isoformat(), "until": went.until.isoformat()}
        generations = {"schema": 1, "current": place, "retired": [*retired, mark]}
        write_private(directory / _GENERATIONS, json.dumps(generations, indent=1).encode() + b"\n", overwrite=True)


def _is_encrypted(directory: Path) -> bool:
    return any(b"ENCRYPTED" in read_private(each) for each in directory.glob("*.key.pem"))


def _issuer_file(authority: Authority) -> str:
    count = len(authority.intermediates)
    return f"intermediate-{count}.pem" if count else "root.pem"


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as wrong:
        raise AuthorityError(f"cannot rotate the CA in {directory}: {words_of(wrong)}") from wrong
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def generations_seen(directory: Path) -> tuple[int, ...] | None:
    """What tells one state of the generations in a directory from another; ``None`` before the first rotation."""
    try:
        found = (directory / _GENERATIONS).lstat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _generations(directory: Path) -> tuple[str, list[dict[str, str]]]:
    """Where the authority in force is, and the marks of the retired ones."""
    path = directory / _GENERATIONS
    if not path.exists() and not path.is_symlink():
        return ".", []
    try:
        said: Any = json.loads(read_private(path))
        current, retired = said["current"], said["retired"]
        places = [current, *(each["directory"] for each in retired)]
        sound = said["schema"] == 1 and all(isinstance(each, str) and _PLACE.fullmatch(each) for each in places)
        for each in retired:
            _moment(each["at"]), _moment(each["until"])
            sound = sound and each["what"] in {"intermediate", "root"}
    except (ValueError, KeyError, TypeError) as wrong:
        raise AuthorityError(_broken(path, f"it is not in its form ({type(wrong).__name__})")) from wrong
    if not sound:
        raise AuthorityError(_broken(path, "it is not in its form"))
    return current, retired


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _retired(directory: Path, marks: list[dict[str, str]], passphrase: bytes | None) -> Iterator[Retired]:
    for each in marks:
        place = directory / each["directory"]
        if (place / "root.pem").exists():
            what: Rotated = "root" if each["what"] == "root" else "intermediate"
            yield Retired(_load_one(place, passphrase), what, _moment(each["at"]), _moment(each["until"]))


# -- reading -----------------------------------------------------------------------------------------------------


def _load_issuer(directory: Path, stem: str, passphrase: bytes | None) -> Issuer:
    certificate_file, key_file = directory / f"{stem}.pem", directory / f"{stem}.key.pem"
    certificate = _load_certificate(certificate_file)
    key = _load_key(key_file, passphrase)
    try:
        issuer = Issuer.of(certificate)
        signer = signer_for(key, certificate)
    except ValueError as wrong:
        raise AuthorityError(_broken(certificate_file, str(wrong))) from wrong
    if signer is None:
        raise AuthorityError(_broken(key_file, f"it is not the key of {certificate_file.name}"))
    return replace(issuer, held=signer)


def signer_for(key: PrivateKey, certificate: bytes) -> Signer | None:
    """The signer of this certificate with its key; ``None`` if it is another key. Raises :class:`DerError`."""
    public_key = cut_certificate(certificate).public_key
    pss = isinstance(key, rsa.RSAPrivateKey) and describe_key(public_key).startswith("RSA-PSS")
    signer = Signer.of(key, pss=pss)
    return signer if signer.public_key == public_key else None


def _load_certificate(path: Path) -> bytes:
    try:
        data = read_regular(path)
        if data is None:
            raise AuthorityError(_broken(path, "there is no such file"))
        ders = certificates_in(data)
    except PemError as wrong:
        raise AuthorityError(_broken(path, str(wrong))) from wrong
    if len(ders) != 1:
        raise AuthorityError(_broken(path, f"expected one certificate, got {len(ders)}"))
    return ders[0]


def _load_key(path: Path, passphrase: bytes | None) -> PrivateKey:
    data = read_private(path)
    encrypted = b"ENCRYPTED" in data
    if encrypted and not passphrase:
        raise PassphraseNeeded(
            f"cannot use the CA file {path}: it is encrypted; give its passphrase in {PASSPHRASE_VARIABLE}"
        )
    try:
        key = serialization.load_pem_private_key(data, passphrase if encrypted else None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as wrong:
        reason = "the passphrase is wrong, or the file is broken" if encrypted else "expected a PEM private key"
        raise AuthorityError(_broken(path, reason)) from wrong
    if not isinstance(key, PrivateKey):
        raise AuthorityError(_broken(path, "expected an RSA, EC or Edwards key"))
    return key


def _check_signed(issued: Issuer, issuer: Issuer, path: Path) -> None:
    if not issuer.signed(issued):
        raise AuthorityError(_broken(path, f"it was not signed by '{issuer.facts.subject}'"))


def _broken(path: Path, what: str) -> str:
    return (
        f"cannot use the CA file {path}: {what}; put the right file back, "
        "or move its directory away and run `countersign ca init`"
    )


# -- given -------------------------------------------------------------------------------------------------------


def given(
    certificates: str | os.PathLike[str], key: str | os.PathLike[str] | None, passphrase: bytes | None
) -> Authority:
    """:meth:`Authority.given`."""
    file = Path(certificates)
    private_key, (own, *others) = _given_parts(file, key, passphrase)
    try:
        issuers = [replace(Issuer.of(own), held=signer_for(private_key, own))]
    except ValueError as wrong:
        raise AuthorityError(f"cannot use the certificate in {file} as a CA: {wrong}; give that of a CA") from wrong
    while others and not issuers[0].facts.self_issued:
        above = next((each for each in others if _signed_by(issuers[0], each)), None)
        if above is None:
            break
        others.remove(above)
        issuers.insert(0, Issuer.of(above))
    return Authority(issuers[0], tuple(issuers[1:]))


def _given_parts(
    file: Path, key: str | os.PathLike[str] | None, passphrase: bytes | None
) -> tuple[PrivateKey, tuple[bytes, ...]]:
    """The key and the certificates, its own first: from two files, or from a key store of any type with one key."""
    try:
        password = passphrase.decode() if passphrase else None
    except UnicodeDecodeError:  # PEM keys take any bytes, key stores take text
        password, key = None, key or file
    if key is not None:
        pair = load_key_pair(file, key, passphrase=passphrase)
        return pair.key, pair.chain
    store = load_store(file, password)
    entries = [each for each in store.entries if isinstance(each, KeyEntry)]
    if len(entries) != 1 or not entries[0].chain or entries[0].key is None:
        held = f"{len(entries)} keys" if len(entries) != 1 else "a key without its certificate"
        raise AuthorityError(f"cannot use {file} as a CA: expected one key with its certificate in it, got {held}")
    loaded = serialization.load_der_private_key(entries[0].key, None)
    if not isinstance(loaded, PrivateKey):
        raise AuthorityError(f"cannot use {file} as a CA: expected an RSA, EC or Edwards key")
    loose = (each.certificate for each in store.entries if isinstance(each, CertificateEntry))
    return loaded, (*entries[0].chain, *loose)


def _signed_by(issued: Issuer, certificate: bytes) -> bool:
    try:
        return Issuer.of(certificate).signed(issued)
    except ValueError:
        return False


# -- passphrases -------------------------------------------------------------------------------------------------

PASSPHRASE_VARIABLE = "COUNTERSIGN_CA_PASSPHRASE"  # noqa: S105 - the name of a variable
_LONGEST_PASSPHRASE = 1023  # what OpenSSL encrypts a key under


def read_passphrase(path: str | os.PathLike[str] | None = None) -> bytes | None:
    """The passphrase of the CA's keys: the first line of a file that only its owner may read, else the environment's.

    ``None`` where there is neither. Raises :class:`FileFault`, and :class:`AuthorityError` for one that is too long.
    """
    if path is not None:
        line = read_private(path, at_most=1 << 16).split(b"\n", 1)[0].rstrip(b"\r")
        return checked_passphrase(line, str(path))
    return checked_passphrase(os.fsencode(os.environ.get(PASSPHRASE_VARIABLE, "")), PASSPHRASE_VARIABLE)


def checked_passphrase(passphrase: bytes, where: str) -> bytes | None:
    """The passphrase that came from there, ``None`` where it is empty. Raises :class:`AuthorityError`: too long."""
    if len(passphrase) > _LONGEST_PASSPHRASE:
        raise AuthorityError(
            f"cannot use the passphrase in {where}: expected at most {_LONGEST_PASSPHRASE} bytes, "
            f"got {len(passphrase)}; is it the right file?"
        )
    return passphrase or None
