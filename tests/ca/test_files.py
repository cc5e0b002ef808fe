"""What users bring: key pairs and trusted roots, right and wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import Encoding

from countersign.ca import KeyPairError, TrustError, load_key_pair, load_roots
from countersign.ca.keys import key_kind, like
from countersign.ca.pem import to_pem
from countersign.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.peers.certs import KeyType, Lab


@pytest.mark.parametrize("kind", ["ec-p256", "rsa-2048", "ed25519"])
def test_a_key_and_its_chain_are_loaded(lab: Lab, kind: KeyType) -> None:
    issued = lab.issue("localhost", key=kind)
    pair = load_key_pair(issued.fullchain_pem, issued.key_pem)
    assert pair.chain == tuple(
        each.public_bytes(Encoding.DER) for each in (issued.certificate, lab.intermediate.certificate)
    )
    assert pair.key.public_key() == issued.key.public_key()
    assert "PRIVATE" not in repr(pair)


def test_both_may_be_in_one_file_in_any_order_with_text_around_them(lab: Lab, tmp_path: Path) -> None:
    key, chain = lab.server.key_pem.read_bytes(), lab.server.fullchain_pem.read_bytes()
    for number, data in enumerate((key + chain, b"Bag Attributes\n  x\n" + chain + b"\n# text\n" + key)):
        (tmp_path / f"{number}.pem").write_bytes(data.replace(b"\n", b"\r\n"))
        assert len(load_key_pair(tmp_path / f"{number}.pem").chain) == 2


def test_der_is_taken(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "cert.der").write_bytes(lab.server.certificate.public_bytes(Encoding.DER))
    (tmp_path / "key.der").write_bytes(
        lab.server.key.private_bytes(Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    assert len(load_key_pair(tmp_path / "cert.der", tmp_path / "key.der").chain) == 1


def test_an_encrypted_key_wants_its_passphrase(lab: Lab, tmp_path: Path) -> None:
    for encoding in (Encoding.PEM, Encoding.DER):
        (tmp_path / "key").write_bytes(
            lab.server.key.private_bytes(
                encoding, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"right")
            )
        )
        assert load_key_pair(lab.server.cert_pem, tmp_path / "key", passphrase="right").key
        with pytest.raises(KeyPairError, match="it is encrypted"):
            load_key_pair(lab.server.cert_pem, tmp_path / "key")
        with pytest.raises(KeyPairError, match="passphrase is wrong") as caught:
            load_key_pair(lab.server.cert_pem, tmp_path / "key", passphrase="wrong-one")
        assert "wrong-one" not in str(caught.value)


def test_a_passphrase_for_a_key_that_needs_none_is_no_error(lab: Lab) -> None:
    assert load_key_pair(lab.server.cert_pem, lab.server.key_pem, passphrase="unused").key


def test_files_that_are_no_key_pair_are_told_apart(lab: Lab, tmp_path: Path) -> None:
    cert, key = lab.server.cert_pem, lab.server.key_pem
    (tmp_path / "empty").touch()
    (tmp_path / "cut.pem").write_bytes(cert.read_bytes()[:300])
    (tmp_path / "cut.key").write_bytes(key.read_bytes()[:120] + b"\n-----END PRIVATE KEY-----\n")
    reversed_chain = lab.intermediate.cert_pem.read_bytes() + cert.read_bytes()
    (tmp_path / "reversed.pem").write_bytes(reversed_chain)
    for certificate, private, expected in (
        (tmp_path / "missing", key, "certificate file .*missing: no such file"),
        (cert, tmp_path / "missing", "key file .*missing: no such file"),
        (tmp_path / "empty", key, "an empty file"),
        (key, key, "a private key and no certificate"),
        (cert, cert, "found none"),
        (tmp_path / "cut.pem", key, "no END line"),
        (cert, tmp_path / "cut.key", "is broken"),
        (cert, lab.client.key_pem, "is not the key of the certificate"),
        (tmp_path / "reversed.pem", key, "belongs to certificate 2 .* put the certificate of the key first"),
        (tmp_path, key, "is a directory"),
    ):
        with pytest.raises(KeyPairError, match=expected):
            load_key_pair(certificate, private)


def test_a_bundle_of_roots_is_read_each_once(lab: Lab, tmp_path: Path) -> None:
    root, other = (each.certificate.public_bytes(Encoding.DER) for each in (lab.root, lab.intermediate))
    (tmp_path / "bundle.pem").write_bytes(b"# a comment\n" + to_pem(root) + b"\r\n" + to_pem(other) + to_pem(root))
    assert load_roots(tmp_path / "bundle.pem") == (root, other)
    (tmp_path / "root.der").write_bytes(root)
    assert load_roots(tmp_path / "root.der") == (root,)


def test_a_file_saved_by_a_windows_editor_is_read(lab: Lab, tmp_path: Path) -> None:
    text = lab.root_pem.read_text()
    (tmp_path / "bom.pem").write_text(text, encoding="utf-8-sig")
    (tmp_path / "utf16.pem").write_text(text, encoding="utf-16")
    assert load_roots(tmp_path / "bom.pem") == load_roots(tmp_path / "utf16.pem") == load_roots(lab.root_pem)


def test_a_file_without_roots_says_what_it_is(lab: Lab, tmp_path: Path) -> None:
    for content, expected in (
        (b"", "an empty file"),
        (b"hello", "something else"),
        (lab.server.key_pem.read_bytes(), "a private key and no certificate"),
        (b"-----BEGIN PKCS7-----\nAA==\n-----END PKCS7-----\n", "openssl pkcs7 -print_certs"),
        (b"-----BEGIN CERTIFICATE REQUEST-----\n", "a certificate request"),
        (b"\xfe\xed\xfe\xed\x00\x00", "keytool -exportcert"),
        (b"\x30\x03\x02\x01\x00", "DER that is none"),
        (
            lab.root_pem.read_bytes() + b"-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----",
            "certificate 2 of 2",
        ),
    ):
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(TrustError, match=expected):
            load_roots(tmp_path / "file")
    with pytest.raises(TrustError, match="no such file or directory; name a PEM file"):
        load_roots(tmp_path / "missing")


@pytest.mark.parametrize(
    ("text", "kind"),
    [("rsa", "RSA 2048"), ("RSA:4096", "RSA 4096"), ("ec", "EC P-256"), ("EC:p-521", "EC P-521"), ("ed448", "Ed448")],
)
def test_kinds_of_keys_have_names(text: str, kind: str) -> None:
    assert key_kind(text) == kind
    assert like(kind) == (kind, None)


@pytest.mark.parametrize("text", ["", "rsa:1", "rsa:2047", "ec:P-257", "ed25519:1", "dsa:1024"])
def test_a_kind_that_is_none_is_the_users_error(text: str) -> None:
    with pytest.raises(UserError, match="cannot make a key"):
        key_kind(text)
