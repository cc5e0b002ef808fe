"""R41: requests of keytool and openssl, checked and signed; keytool takes the reply."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from countersign.ca import Authority, AuthorityError, Plan
from countersign.ca.csr import RequestError, read_request, sign_request
from countersign.ca.pem import to_pem
from countersign.errors import UserError
from countersign.recorder import der
from countersign.recorder.certificates import cut_certificate
from tests.peers.certs import a_key
from tests.peers.keystores import PASSWORD, keytool, openssl

if TYPE_CHECKING:
    from pathlib import Path

    from tests.peers.certs import KeyType
    from tests.peers.process import Arg


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.make(Plan())


def request(
    *attributes: tuple[x509.ObjectIdentifier, str],
    key: KeyType = "ec-p256",
    extensions: tuple[x509.ExtensionType, ...] = (),
) -> x509.CertificateSigningRequest:
    names = attributes or ((NameOID.COMMON_NAME, "own.example.com"), (NameOID.ORGANIZATION_NAME, "Example"))
    builder = x509.CertificateSigningRequestBuilder(x509.Name([x509.NameAttribute(*each) for each in names]))
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(a_key(key), None if key.startswith("ed") else hashes.SHA256())


def encoded(made: x509.CertificateSigningRequest) -> bytes:
    return made.public_bytes(serialization.Encoding.DER)


def signed(authority: Authority, data: bytes, **settings: object) -> x509.Certificate:
    reply = sign_request(authority, read_request(data), **settings)  # type: ignore[arg-type]
    return x509.load_der_x509_certificate(reply.chain[0])


@pytest.mark.peer("keytool")
@pytest.mark.parametrize("kind", ["RSA", "EC", "Ed25519"])
@pytest.mark.parametrize("store_type", ["JKS", "PKCS12"])
def test_keytool_takes_the_reply_and_holds_a_chain_of_three(
    kind: str, store_type: str, authority: Authority, tmp_path: Path
) -> None:
    """K0, step by step: genkey, certreq, import of the merged file; keytool's request carries no EKU."""
    store = ("-keystore", tmp_path / "my.keystore", "-storetype", store_type, "-storepass", PASSWORD)
    names = ("-dname", "CN=mid, O=Example", "-keyalg", kind, "-keypass", PASSWORD)
    keytool("-genkeypair", "-alias", "mydomain", *names, *store).check()
    keytool(
        "-certreq", "-alias", "mydomain", "-file", tmp_path / "csr", "-ext", "san=dns:mid.example.com", *store
    ).check()
    reply = sign_request(authority, read_request((tmp_path / "csr").read_bytes()), purpose="client")
    (tmp_path / "merged.crt").write_bytes(reply.pem)
    keytool("-importcert", "-noprompt", "-alias", "mydomain", "-file", tmp_path / "merged.crt", *store).check()
    told = keytool("-list", "-v", "-alias", "mydomain", *store).check().stdout
    assert "Certificate chain length: 3" in told
    assert re.search(r"ExtendedKeyUsages \[\s+clientAuth\s+\]", told)
    assert "DNSName: mid.example.com" in told
    assert told.index("CN=mid, O=Example") < told.index("intermediate") < told.rindex(" root ")


@pytest.mark.peer("openssl")
@pytest.mark.parametrize("form", ["PEM", "DER"])
def test_a_request_of_openssl_is_signed(form: str, authority: Authority, tmp_path: Path) -> None:
    words: tuple[Arg, ...] = (
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        tmp_path / "key",
        "-subj",
        "/CN=a.example.com/O=x",
    )
    words += ("-addext", "subjectAltName=DNS:a.example.com,IP:192.0.2.1", "-outform", form, "-out", tmp_path / "csr")
    openssl("req", "-new", *words).check()
    reply = sign_request(authority, read_request((tmp_path / "csr").read_bytes()), purpose="both", days=10)
    (tmp_path / "leaf").write_bytes(to_pem(reply.chain[0]))
    (tmp_path / "between").write_bytes(to_pem(reply.chain[1]))
    (tmp_path / "root").write_bytes(to_pem(reply.chain[2]))
    for purpose in ("sslclient", "sslserver"):
        words = ("-x509_strict", "-purpose", purpose, "-CAfile", tmp_path / "root", "-untrusted", tmp_path / "between")
        openssl("verify", *words, tmp_path / "leaf").check()
    told = openssl("x509", "-in", tmp_path / "leaf", "-noout", "-text").check().stdout
    assert "DNS:a.example.com, IP Address:192.0.2.1" in told
    assert "Digital Signature, Key Encipherment" in told


@pytest.mark.parametrize("key", ["rsa-2048", "ec-p256", "ec-p521", "ed25519", "ed448"])
def test_subject_and_key_are_those_of_the_request_to_the_byte(key: KeyType, authority: Authority) -> None:
    made = request(key=key)
    reply = sign_request(authority, read_request(encoded(made)))
    parts = cut_certificate(reply.chain[0])
    assert parts.subject == made.subject.public_bytes()
    assert parts.public_key == a_key(key).public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert len(reply.chain) == 3


@pytest.mark.parametrize(
    ("purpose", "usages"),
    [
        ("client", [ExtendedKeyUsageOID.CLIENT_AUTH]),
        ("server", [ExtendedKeyUsageOID.SERVER_AUTH]),
        ("both", [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
        ("none", None),
    ],
)
def test_the_purpose_is_the_issuers_to_say(
    purpose: str, usages: list[x509.ObjectIdentifier] | None, authority: Authority
) -> None:
    wanted = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), x509.BasicConstraints(ca=True, path_length=5))
    made = signed(authority, encoded(request(extensions=wanted)), purpose=purpose)
    constraints = made.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert not constraints.ca
    if usages is None:
        with pytest.raises(x509.ExtensionNotFound):
            made.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    else:
        assert list(made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == usages
    notes = sign_request(authority, read_request(encoded(request(extensions=wanted)))).notes
    assert any("extendedKeyUsage, basicConstraints" in note for note in notes)


def test_names_are_copied_or_replaced(authority: Authority) -> None:
    names = x509.SubjectAlternativeName([x509.DNSName("a.test"), x509.RFC822Name("me@a.test")])
    data = encoded(request(extensions=(names,)))
    kept = signed(authority, data).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert (kept.value, kept.critical) == (names, False)
    replaced = signed(authority, data, names=("b.test", "192.0.2.7"))
    value = replaced.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert value.get_values_for_type(x509.DNSName) == ["b.test"]
    assert "replaced" in sign_request(authority, read_request(data), names=("b.test",)).notes[0]


def test_without_a_subject_the_names_are_critical(authority: Authority) -> None:
    """RFC 5280 4.2.1.6."""
    names = x509.SubjectAlternativeName([x509.DNSName("a.test")])
    builder = x509.CertificateSigningRequestBuilder(x509.Name([])).add_extension(names, critical=False)
    made = signed(authority, encoded(builder.sign(a_key("ec-p256"), hashes.SHA256())))
    assert made.extensions.get_extension_for_class(x509.SubjectAlternativeName).critical


def test_an_authority_that_is_constrained_or_expired_does_not_sign() -> None:
    bound = Authority.make(Plan(constrain=("example.com",)))
    inside = x509.SubjectAlternativeName([x509.DNSName("a.example.com")])
    assert signed(bound, encoded(request(extensions=(inside,))))
    many = [x509.DNSName(f"n{number}.example.com") for number in range(200)]
    for outside in ([x509.DNSName("a.test")], [*many, x509.DNSName("a.test")]):
        names = x509.SubjectAlternativeName(outside)
        with pytest.raises(UserError, match=r"a\.test"):
            signed(bound, encoded(request(extensions=(names,))))
    old = Authority.make(Plan(now=datetime.now(UTC) - timedelta(days=900)))
    with pytest.raises(AuthorityError, match="expired"):
        signed(old, encoded(request()))


def test_whoever_does_not_have_the_key_gets_no_certificate() -> None:
    data = bytearray(encoded(request()))
    data[-3] ^= 1
    with pytest.raises(RequestError, match="signature of the request is wrong"):
        read_request(bytes(data))
    other = x509.CertificateSigningRequestBuilder(x509.Name([])).sign(a_key("ec-p384"), hashes.SHA256())
    info = der.first_piece(der.first_piece(encoded(other)).body).raw
    _, algorithm, signature = der.exactly(3, der.first_piece(encoded(request())).body, "a request")
    with pytest.raises(RequestError, match="signature of the request is wrong"):
        read_request(der.encode(der.SEQUENCE, info, algorithm.raw, signature.raw))


def test_files_that_are_no_request_say_what_they_are(authority: Authority) -> None:
    good = request().public_bytes(serialization.Encoding.PEM)
    assert read_request(good.replace(b"CERTIFICATE REQUEST", b"NEW CERTIFICATE REQUEST").replace(b"\n", b"\r\n"))
    assert read_request(b"text\n" + good + b"more")
    assert read_request(encoded(request()) + b"\r\n")
    for data, told in (
        (b"", "an empty file"),
        (b"hello", "something else; make one with: keytool -certreq"),
        (authority.root_pem, "a certificate, which is signed already"),
        (good * 2, "got 2; split it"),
        (good[:200], "no END line"),
        (encoded(request())[:100], "cannot read the request"),
        (b"\x30\x03\x02\x01\x00", "cannot read the request"),
        (authority.root.der, "cannot read the request|cannot tell|is wrong"),
        (b"\x30" * 2_000_000, "expected at most"),
    ):
        with pytest.raises(RequestError, match=told):
            read_request(data)


def test_altered_requests_are_an_error_of_the_user(authority: Authority) -> None:
    names = x509.SubjectAlternativeName([x509.DNSName("a.test")])
    whole = encoded(request(extensions=(names,)))
    signed_until = whole.index(der.first_piece(der.first_piece(whole).body).raw) + len(
        der.first_piece(der.first_piece(whole).body).raw
    )
    for at in range(len(whole)):
        for bit in (0, 3, 7):
            data = bytearray(whole)
            data[at] ^= 1 << bit
            try:
                sign_request(authority, read_request(bytes(data)))
            except UserError:
                continue
            assert at >= signed_until, at  # the count of unused bits of the signature says nothing
    for length in range(len(whole)):
        with pytest.raises(RequestError):
            read_request(whole[:length])
