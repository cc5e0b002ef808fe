"""A lab's certificates: a root, an intermediate, and whatever leaf a test asks for, as PEM files that peers read."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
KeyType = Literal["ec-p256", "ec-p384", "ec-p521", "rsa-2048", "rsa-3072", "rsa-4096", "ed25519", "ed448"]
Usage = Literal["server", "client"]

EKU = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}
SERVER_NAMES = ("localhost", "server.lab.test", "127.0.0.1", "::1")


def new_key(kind: KeyType) -> PrivateKey:
    match kind:
        case "ec-p256":
            return ec.generate_private_key(ec.SECP256R1())
        case "ec-p384":
            return ec.generate_private_key(ec.SECP384R1())
        case "ec-p521":
            return ec.generate_private_key(ec.SECP521R1())
        case "rsa-2048" | "rsa-3072" | "rsa-4096":
            return rsa.generate_private_key(65537, int(kind[4:]))
        case "ed25519":
            return ed25519.Ed25519PrivateKey.generate()
        case "ed448":
            return ed448.Ed448PrivateKey.generate()


@cache
def a_key(kind: KeyType) -> PrivateKey:
    """One key of each kind a session: big RSA keys are slow to make. For distinct keys there is :func:`new_key`."""
    return new_key(kind)


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate with its key and what is above it, nearest first and the root last; and where its files are.

    ``cert_pem`` is it alone, ``chain_pem`` the intermediates without the root (perhaps an empty file), and
    ``fullchain_pem`` both; ``root_pem`` is what a client must trust.
    """

    certificate: x509.Certificate
    key: PrivateKey
    issuers: tuple[x509.Certificate, ...]
    directory: Path

    @property
    def cert_pem(self) -> Path:
        return self.directory / "cert.pem"

    @property
    def key_pem(self) -> Path:
        return self.directory / "key.pem"

    @property
    def chain_pem(self) -> Path:
        return self.directory / "chain.pem"

    @property
    def fullchain_pem(self) -> Path:
        return self.directory / "fullchain.pem"

    @property
    def root_pem(self) -> Path:
        return self.directory / "root.pem"

    def pkcs12(self, path: Path, password: str = "changeit", *, friendly_name: str = "lab") -> Path:
        """Key, certificate and issuers as a PKCS#12 key store, which a JVM takes for client authentication."""
        sealed = serialization.BestAvailableEncryption(password.encode())
        path.write_bytes(
            pkcs12.serialize_key_and_certificates(
                friendly_name.encode(), self.key, self.certificate, self.issuers, sealed
            )
        )
        return path


class Lab:
    """``Lab(directory)`` has ``root``, ``intermediate``, ``server`` (localhost and server.lab.test) and ``client``."""

    def __init__(self, directory: Path, *, name: str = "Lab", key: KeyType = "ec-p256") -> None:
        self.directory = directory
        self.name = name
        self._count = 0
        self.root = self.issue(common_name=f"{name} Root CA", signer=None, ca=True, key=new_key(key), days=365)
        self.intermediate = self.issue(
            common_name=f"{name} Issuing CA", signer=self.root, ca=True, key=new_key(key), days=180, path_length=0
        )
        self.server = self.issue(*SERVER_NAMES, signer=self.intermediate, key=new_key(key))
        self.client = self.issue(
            common_name=f"{name} Client", signer=self.intermediate, usages=("client",), key=new_key(key)
        )

    @property
    def root_pem(self) -> Path:
        return self.root.cert_pem

    def issue(
        self,
        *names: str,
        common_name: str | None = None,
        signer: Issued | Literal["intermediate"] | None = "intermediate",
        key: PrivateKey | KeyType = "ec-p256",
        usages: Sequence[Usage] = ("server",),
        ca: bool = False,
        path_length: int | None = None,
        not_before: datetime | None = None,
        days: float = 30,
    ) -> Issued:
        """A certificate for DNS names and addresses, from an hour ago for ``days`` days; self-signed with no signer."""
        if signer == "intermediate":
            signer = self.intermediate
        own = a_key(key) if isinstance(key, str) else key
        start = not_before or datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, self.name),
                x509.NameAttribute(NameOID.COMMON_NAME, common_name or names[0]),
            ]
        )
        above = signer.certificate if signer else None
        signing = signer.key if signer else own
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(above.subject if above else subject)
            .public_key(own.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=path_length), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(own.public_key()), critical=False)
            .add_extension(_key_usage(own, ca=ca), critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()),
                critical=False,
            )
        )
        if not ca and usages:
            builder = builder.add_extension(x509.ExtendedKeyUsage([EKU[u] for u in usages]), critical=False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([*map(_general_name, names)]), critical=False)
        certificate = builder.sign(signing, _digest(signing))
        issuers = (signer.certificate, *signer.issuers) if signer else ()
        self._count += 1
        directory = self.directory / f"{self._count:03}"
        directory.mkdir(parents=True, mode=0o700)
        issued = Issued(certificate, own, issuers, directory)
        _write(issued)
        return issued


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_usage(key: PrivateKey, *, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        key_encipherment=not ca and isinstance(key, rsa.RSAPrivateKey),
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _digest(key: PrivateKey) -> hashes.SHA256 | None:
    return None if isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey) else hashes.SHA256()


def _write(issued: Issued) -> None:
    above = [c.public_bytes(serialization.Encoding.PEM) for c in issued.issuers]
    own = issued.certificate.public_bytes(serialization.Encoding.PEM)
    issued.cert_pem.write_bytes(own)
    issued.chain_pem.write_bytes(b"".join(above[:-1]))
    issued.fullchain_pem.write_bytes(own + b"".join(above[:-1]))
    issued.root_pem.write_bytes(above[-1] if above else own)
    issued.key_pem.touch(mode=0o600)
    issued.key_pem.write_bytes(
        issued.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
