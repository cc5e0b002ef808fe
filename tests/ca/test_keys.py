"""Keys, what they can sign with, and where their chance comes from."""

from __future__ import annotations

import os

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from OpenSSL import crypto

from countersign.ca.keys import generate, key_kind, new_signer
from countersign.ca.randomness import Seeded, below, prime
from countersign.ca.signer import ALGORITHMS, Signer, impostor_key
from countersign.errors import UserError
from countersign.recorder.certificates import describe_algorithm, describe_key

KINDS = ("RSA 1024", "RSA-PSS 1024", "EC P-256", "EC P-384", "EC P-521", "EC brainpoolP256r1", "Ed25519", "Ed448")
DATA = b"what is signed" * 50


def schemes(signer: Signer) -> list[str]:
    able = ALGORITHMS[signer.kind]
    return [each for each in able if not signer.pss or each.startswith("pss-")]


def verify(signer: Signer, signature: bytes) -> None:
    """By the library, with the public key as it stands in a certificate. Raises where it does not fit."""
    name = signer.scheme.removeprefix("pss-").upper()
    digest: hashes.HashAlgorithm | None = getattr(hashes, name)() if hasattr(hashes, name) else None
    key = serialization.load_der_public_key(signer.public_key)
    match key:
        case rsa.RSAPublicKey() if digest and signer.scheme.startswith("pss-"):
            key.verify(signature, DATA, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
        case rsa.RSAPublicKey() if digest:
            key.verify(signature, DATA, padding.PKCS1v15(), digest)
        case ec.EllipticCurvePublicKey() if digest:
            key.verify(signature, DATA, ec.ECDSA(digest))
        case ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey():
            key.verify(signature, DATA)
        case _:
            raise AssertionError(signer.scheme)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seeded", [False, True])
def test_every_scheme_of_a_key_makes_signatures_that_fit(kind: str, seeded: bool) -> None:  # noqa: FBT001
    signer = new_signer(kind, Seeded(1) if seeded else os.urandom)
    assert describe_key(signer.public_key) == kind
    for scheme in schemes(signer):
        if kind == "RSA 1024" and scheme == "pss-sha512":
            continue  # RFC 8017 9.1.1: the key is too short for two hashes of 64 bytes
        if kind == "RSA-PSS 1024" and scheme == "pss-sha512":
            continue
        other = signer.using(scheme)
        verify(other, other.sign(DATA))
        assert (other.sign(DATA) == other.sign(DATA)) >= seeded
        assert describe_algorithm(other.algorithm)


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_makes_the_same_key_and_the_system_never_does(kind: str) -> None:
    one, other = (new_signer(kind, Seeded("same")) for _ in range(2))
    assert one.public_key == other.public_key
    assert one.sign(DATA) == other.sign(DATA)
    assert new_signer(kind, Seeded("another")).public_key != one.public_key
    assert new_signer(kind).public_key != new_signer(kind).public_key


@pytest.mark.parametrize("scheme", ["", "sha1", "sha512", "pss-sha384"])
def test_a_key_for_pss_alone_says_so_and_signs_with_nothing_else(scheme: str) -> None:
    key = generate("RSA 2048")
    if scheme and not scheme.startswith("pss-"):
        with pytest.raises(UserError, match=r"an rsa-pss key: expected pss-sha256 or pss-sha384 or pss-sha512"):
            Signer.of(key, scheme=scheme, pss=True)
        return
    signer = Signer.of(key, scheme=scheme, pss=True)
    verify(signer, signer.sign(DATA))
    assert isinstance(signer.served, bytes)
    assert crypto.load_privatekey(crypto.FILETYPE_ASN1, signer.served).type() == 912  # NID_rsassaPss
    assert Signer.of(key).served is key


def test_a_scheme_of_another_kind_of_key_is_the_users_error() -> None:
    with pytest.raises(UserError, match="cannot sign with 'pss-sha256' and an ec key: expected sha1 or sha224"):
        new_signer("EC P-256").using("pss-sha256")
    with pytest.raises(UserError, match="cannot make an RSA-PSS key of an ed25519 key"):
        Signer.of(generate("Ed25519"), pss=True)


@pytest.mark.parametrize("kind", ["EC P-256", "EC P-521", "RSA 2048"])
def test_an_impostor_has_the_public_key_of_the_other(kind: str) -> None:
    """OpenSSL takes it for the key of the certificate."""
    key = generate(kind)
    forged = crypto.load_privatekey(crypto.FILETYPE_ASN1, impostor_key(key))
    public = crypto.dump_publickey(crypto.FILETYPE_ASN1, forged)
    assert public == key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def test_an_edwards_key_has_no_impostor() -> None:
    with pytest.raises(UserError, match="cannot make an impostor of an Edwards key"):
        impostor_key(generate("Ed25519"))


def test_primes_are_prime_and_of_their_size() -> None:
    for bits in (64, 129, 512):
        for seed in range(5):
            found = prime(bits, Seeded(seed))
            assert found.bit_length() == bits
            assert all(pow(base, found - 1, found) == 1 for base in (2, 3, 5, 7, 1234567))
    assert prime(16, Seeded(1)) != prime(16, Seeded(1), not_one_of=prime(16, Seeded(1)))


def test_a_number_from_chance_is_within_its_limit() -> None:
    assert {below(4, Seeded(seed)) for seed in range(100)} == {1, 2, 3}


@pytest.mark.parametrize(("text", "kind"), [("rsa:1024", "RSA 1024"), ("rsa:2056", "RSA 2056"),
                                            ("RSA-PSS:3072", "RSA-PSS 3072"), ("rsa-pss", "RSA-PSS 2048")])  # fmt: skip
def test_sizes_between_1024_and_4096_can_be_had_by_name(text: str, kind: str) -> None:
    assert key_kind(text) == kind
