"""Files and words that nobody sends by accident: each is told as what it is, never a crash, never trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from countersign.ca import Authority, AuthorityError, Plan, load_roots
from countersign.ca.csr import RequestError, read_request, sign_request
from countersign.ca.keeping import PASSPHRASE_VARIABLE, read_passphrase
from countersign.ca.stores import CLEAR, CertificateEntry, StoreError, StoreType, read_store, write_store
from countersign.ca.trust import TrustError
from countersign.ca.trusting import instructions
from countersign.ca.verify import roots_of, verify_leaf
from countersign.errors import UserError
from countersign.recorder import der
from tests.peers.certs import a_key
from tests.peers.keystores import openssl

if TYPE_CHECKING:
    from pathlib import Path

    from tests.peers.certs import Lab


@pytest.mark.peer("openssl")
@pytest.mark.parametrize("settings", [("-addreject", "serverAuth"), ("-addtrust", "clientAuth")])
def test_a_root_with_settings_of_trust_is_not_taken_for_a_bare_one(
    settings: tuple[str, str], lab: Lab, tmp_path: Path
) -> None:
    root, marked = tmp_path / "root.pem", tmp_path / "marked.pem"
    root.write_bytes(lab.root.certificate.public_bytes(serialization.Encoding.PEM))
    openssl("x509", "-in", root, *settings, "-trustout", "-out", marked)
    assert b"BEGIN TRUSTED CERTIFICATE" in marked.read_bytes()
    with pytest.raises(UserError, match=r"settings of trust.*openssl x509 -in"):
        roots_of(marked)
    with pytest.raises(TrustError, match=r"settings of trust.*openssl x509 -in"):
        load_roots(marked)
    openssl("x509", "-in", marked, "-out", root)
    assert roots_of(root) == load_roots(root)


@pytest.mark.parametrize("host", ["", "a" * 300, "a.example.", "a\0b", "a..b"])
def test_a_host_that_openssl_does_not_look_for_is_never_right(host: str, lab: Lab) -> None:
    leaf, between, root = (
        each.certificate.public_bytes(serialization.Encoding.DER) for each in (lab.server, lab.intermediate, lab.root)
    )
    try:
        assert not verify_leaf(leaf, roots=[root], untrusted=[between], hostname=host).ok
    except UserError as refused:
        assert "is no host name" in str(refused)  # noqa: PT017 - either is right


def test_half_a_character_in_an_alias_is_a_broken_store(lab: Lab) -> None:
    root = lab.root.certificate.public_bytes(serialization.Encoding.DER)
    store = write_store(StoreType.PKCS12, [CertificateEntry("alias", root)], None, form=CLEAR)

    def cut(piece: der.Piece) -> bytes:
        if piece.tag == 0x1E:
            return der.encode(0x1E, piece.body[:-1])
        if piece.tag == der.OCTET_STRING and piece.body[:1] == b"\x30" and b"\x1e" in piece.body:
            return der.encode(der.OCTET_STRING, cut(der.first_piece(piece.body)))
        if piece.tag & 0x20:
            return der.encode(piece.tag, *map(cut, der.pieces(piece.body)))
        return piece.raw

    with pytest.raises(StoreError, match="a friendly name"):
        read_store(cut(der.first_piece(store)))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (b"\x82\x08evil.x\0y", "is no host name"),
        (b"\x82\x04a\x1b[2", "is no host name"),
        (b"\x82\x03\xff\xfe\xfd", "is no host name"),
        (b"\x87\x05abcde", "address of 5 bytes"),
    ],
)
def test_names_that_are_none_are_not_signed(names: bytes, said: str) -> None:
    key = a_key("ec-p256")
    value = der.encode(der.SEQUENCE, names)
    request = (
        x509.CertificateSigningRequestBuilder(x509.Name([]))
        .add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.17"), value), critical=False)
        .sign(key, hashes.SHA256())
    )
    asked = read_request(request.public_bytes(serialization.Encoding.DER))
    with pytest.raises(RequestError, match=said):
        sign_request(Authority.make(Plan()), asked)


def test_a_passphrase_is_bytes_of_a_bearable_length(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(PASSPHRASE_VARIABLE, "caf\udce9")
    assert read_passphrase() == b"caf\xe9"
    file = tmp_path / "passphrase"
    file.touch(mode=0o600)
    file.write_bytes(b"p" * 1024 + b"\n")
    with pytest.raises(AuthorityError, match="at most 1023 bytes") as refused:
        read_passphrase(file)
    assert "ppp" not in str(refused.value)


@pytest.mark.parametrize("client", ["debian", "macos", "rhel"])
def test_a_path_that_programs_take_for_an_option_is_refused(client: str, lab: Lab) -> None:
    root = lab.root.certificate.public_bytes(serialization.Encoding.DER)
    with pytest.raises(UserError, match=r"give it whole"):
        instructions(client, "-rf", root)
