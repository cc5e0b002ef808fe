"""Whether a signature holds, for the schemes that certificates, CRLs and OCSP responses are signed with."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from countersign.recorder.certificates import cut_certificate, read_certificate, signed_by

PssHash = hashes.SHA224 | hashes.SHA256 | hashes.SHA384 | hashes.SHA512
HASHES: dict[str, PssHash] = {
    "sha224": hashes.SHA224(),
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}


@cache
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@pytest.mark.parametrize("salt", [0, 20, 32, 64])
@pytest.mark.parametrize("digest", HASHES)
def test_rsa_pss_is_checked_with_every_hash_and_salt(digest: str, salt: int) -> None:
    """RFC 4055 3.1."""
    algorithm = HASHES[digest]
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pss.lab.test")])
    made = (
        x509.CertificateBuilder(name, name, key().public_key(), 1)
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2027, 1, 1, tzinfo=UTC))
        .sign(key(), algorithm, rsa_padding=padding.PSS(padding.MGF1(algorithm), salt))
        .public_bytes(Encoding.DER)
    )
    parts = cut_certificate(made)
    assert signed_by(parts, parts.public_key) is True
    assert read_certificate(made).self_signed is True
    broken = bytes((*made[:-1], made[-1] ^ 1))
    assert signed_by(cut_certificate(broken), parts.public_key) is False
