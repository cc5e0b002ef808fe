"""A key and its certificate from the user's files, checked against each other before anything is served with them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from countersign.ca.pem import PemError, blocks_in, certificates_in
from countersign.ca.signer import PrivateKey, public_key_der
from countersign.ca.stores.errors import TooCostly
from countersign.ca.stores.pbe import check_cost
from countersign.errors import UserError
from countersign.recorder.certificates import cut_certificate
from countersign.recorder.private_files import FileFault, read_regular

if TYPE_CHECKING:
    import os


_LARGEST = 4 << 20  # bytes


class KeyPairError(UserError):
    """A key or certificate file that cannot be used; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A private key, and the DER of its certificate followed by what is sent after it."""

    key: PrivateKey = field(repr=False)
    chain: tuple[bytes, ...]


def load_key_pair(
    cert_path: str | os.PathLike[str],
    key_path: str | os.PathLike[str] | None = None,
    *,
    passphrase: bytes | str | None = None,
) -> KeyPair:
    """The key in ``key_path`` (or in the same file) with the chain in ``cert_path``, which begins with its certificate.

    PEM or DER. Raises :class:`KeyPairError`; neither key nor passphrase is ever part of its text.
    """
    cert_file, key_file = Path(cert_path), Path(key_path or cert_path)
    try:
        chain = certificates_in(_read(cert_file, "certificate"))
    except PemError as wrong:
        raise KeyPairError(f"cannot use the certificate file {cert_file}: {wrong}") from wrong
    key = _load_key(_read(key_file, "key"), key_file, passphrase)
    public_key = public_key_der(key)
    owners = [number for number, der in enumerate(chain, 1) if cut_certificate(der).public_key == public_key]
    if not owners:
        raise KeyPairError(
            f"the key in {key_file} is not the key of the certificate in {cert_file}; "
            "name the key that the certificate was requested with"
        )
    if owners[0] != 1:
        raise KeyPairError(
            f"the key in {key_file} belongs to certificate {owners[0]} in {cert_file}, expected the first; "
            "put the certificate of the key first and its issuers after it"
        )
    return KeyPair(key, chain)


def _read(path: Path, what: str) -> bytes:
    try:
        data = read_regular(path, at_most=_LARGEST)
    except FileFault as wrong:
        raise KeyPairError(f"cannot use the {what} file: {wrong}") from wrong
    if data is None:
        raise KeyPairError(f"cannot read the {what} file {path}: no such file or directory; name a PEM file")
    return data


def _load_key(data: bytes, path: Path, passphrase: bytes | str | None) -> PrivateKey:
    if b"PRIVATE KEY-----" not in data and not data.startswith(b"\x30"):
        raise KeyPairError(f"cannot use the key file {path}: expected a PEM private key, found none")
    secret = passphrase.encode() if isinstance(passphrase, str) else passphrase
    encrypted = b"ENCRYPTED" in data
    load = serialization.load_der_private_key if data.startswith(b"\x30") else serialization.load_pem_private_key
    if encrypted and not secret:
        raise KeyPairError(
            f"cannot use the key file {path}: it is encrypted; write it in clear to a file that only you can read"
            f" (umask 077; openssl pkey -in {path} -out FILE)"
        )
    try:
        _check_cost(data)
    except TooCostly as wrong:
        raise KeyPairError(f"cannot use the key file {path}: {wrong}") from wrong
    try:
        key = load(_only_key(data), secret if encrypted or load is serialization.load_der_private_key else None)
    except TypeError as wrong:
        reason = "it is not encrypted but a passphrase was given" if secret else "it is encrypted; give its passphrase"
        raise KeyPairError(f"cannot use the key file {path}: {reason}") from wrong
    except (ValueError, UnsupportedAlgorithm) as wrong:
        reason = "the passphrase is wrong or the file is broken" if secret else "the private key in it is broken"
        raise KeyPairError(f"cannot use the key file {path}: {reason}") from wrong
    if not isinstance(
        key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
    ):
        raise KeyPairError(f"cannot use the key file {path}: expected an RSA, EC or Edwards key")
    return key


def _check_cost(data: bytes) -> None:
    """Before the password is hashed as often as the file asks for."""
    if data.startswith(b"\x30"):
        check_cost(data)
    for block in blocks_in(data):
        if block.label == "ENCRYPTED PRIVATE KEY" and block.data is not None:
            check_cost(block.data)


def _only_key(data: bytes) -> bytes:
    """The PEM block of the private key, where certificates or EC parameters stand before it."""
    end = data.find(b"PRIVATE KEY-----")
    begin = data.rfind(b"-----BEGIN ", 0, max(end, 0))
    return data[begin:] if begin >= 0 else data
