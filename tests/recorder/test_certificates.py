from __future__ import annotations

import json
import re
import subprocess
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, strategies as st

from countersign.ca import assemble
from countersign.recorder import der
from countersign.recorder.certificates import CertificateFacts, cut_certificate, read_certificate
from countersign.recorder.wire.text import printable
from tests.ca import odd_certificates
from tests.ca.odd_certificates import certificate, dns, san, subject

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.peers.certs import KeyType, Lab

KINDS: dict[KeyType, str] = {
    "ec-p256": "EC P-256",
    "ec-p384": "EC P-384",
    "ec-p521": "EC P-521",
    "rsa-2048": "RSA 2048",
    "rsa-3072": "RSA 3072",
    "ed25519": "Ed25519",
    "ed448": "Ed448",
}


def odd(name: str) -> CertificateFacts:
    return read_certificate(odd_certificates.odd()[name])


def about(facts: CertificateFacts, name: str) -> list[str]:
    return [problem for problem in facts.problems if problem.startswith(f"{name}:")]


@pytest.mark.parametrize("kind", KINDS)
def test_a_right_certificate_reads_as_the_library_reads_it(lab: Lab, kind: KeyType) -> None:
    issued = lab.issue("localhost", "*.lab.test", "127.0.0.1", "::1", key=kind, usages=("server", "client"))
    loaded = issued.certificate
    facts = read_certificate(loaded.public_bytes(Encoding.DER))
    assert facts.problems == ()
    assert facts.subject == loaded.subject.rfc4514_string()
    assert facts.issuer == loaded.issuer.rfc4514_string()
    assert facts.serial is not None
    assert int(facts.serial, 16) == loaded.serial_number
    assert facts.not_before == loaded.not_valid_before_utc.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert facts.not_after == loaded.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert facts.key == KINDS[kind]
    assert facts.san == ("DNS:localhost", "DNS:*.lab.test", "IP:127.0.0.1", "IP:::1")
    assert facts.extended_key_usage == ("serverAuth", "clientAuth")
    assert facts.ski == loaded.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest.hex()
    assert not facts.is_ca
    assert not facts.self_issued
    assert facts.self_signed is False
    assert facts.signature_algorithm == "ecdsa-with-SHA256"


def test_a_root_is_a_ca_and_signed_itself(lab: Lab) -> None:
    facts = read_certificate(lab.root.certificate.public_bytes(Encoding.DER))
    assert (facts.is_ca, facts.self_issued, facts.self_signed) == (True, True, True)
    assert facts.key_usage == ("keyCertSign", "cRLSign")
    assert facts.critical == ("basic_constraints", "key_usage")


@pytest.mark.parametrize("kind", ["EC P-256", "EC P-521", "RSA 2048", "Ed25519", "Ed448"])
def test_a_certificate_that_signed_itself_is_told_from_one_that_only_says_so(kind: str) -> None:
    right = certificate(kind)
    assert read_certificate(right).self_signed is True
    forged = read_certificate(right.replace(b"odd.test", b"odb.test"))
    assert (forged.self_issued, forged.self_signed) == (True, False)


@given(text=st.text(st.characters(categories=["L", "N", "P", "S"], include_characters=" "), min_size=1, max_size=15))
def test_a_name_is_written_as_the_library_writes_it(text: str) -> None:
    if printable(text) != text:
        return  # the library does not escape what does not print
    der_name = assemble.name_der(O="Acme", CN=text)
    facts = read_certificate(certificate(subject=der_name))
    assert (
        facts.subject
        == x509.Name(
            [
                x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "Acme"),
                x509.NameAttribute(x509.NameOID.COMMON_NAME, text),
            ]
        ).rfc4514_string()
    )


@pytest.mark.peer("openssl")
def test_openssl_prints_the_same_names_and_serials(tmp_path: Path) -> None:
    for name in ("negative serial", "TeletexString", "BMPString", "other kinds of names"):
        data = odd_certificates.odd()[name]
        (tmp_path / "c.der").write_bytes(data)
        command = ["openssl", "x509", "-inform", "DER", "-in", "c.der", "-noout", "-subject", "-serial"]
        shown = subprocess.run(
            [*command, "-nameopt", "RFC2253,-esc_msb,utf8"], cwd=tmp_path, capture_output=True, check=True, text=True
        ).stdout.splitlines()
        facts = read_certificate(data)
        assert shown[0] == f"subject={facts.subject}"
        assert shown[1].lower() == f"serial={facts.serial}"


def test_text_that_could_hurt_a_terminal_is_escaped() -> None:
    assert odd("NUL in the name").subject == r"CN=good.test\x00.evil.test"
    assert odd("escapes in the name").subject == r"CN=\x1b]52\;c\;ZXZpbA==\x07\x1b[31mred\r\n"
    assert odd("C1 and bidi in the name").subject == r"CN=a\u202egnp.exe\x9b31m\u200b"
    assert odd("NUL in the alternative name").san == (r"DNS:good.test\x00.evil.test",)
    assert odd("alternative name in Latin-1").san == (r"DNS:caf\xe9.test",)


def test_a_real_backslash_cannot_be_taken_for_an_escape() -> None:
    facts = read_certificate(certificate(subject=subject(rb"\x1b"), extensions=[san(dns(r"\x1b"))]))
    assert facts.subject == r"CN=\\x1b"
    assert facts.san == (r"DNS:\\x1b",)


def test_a_trailing_space_shows() -> None:
    """Zscaler's issuer has one (getsentry/sentry-java#4254)."""
    assert read_certificate(certificate(subject=subject(b"Zscaler (t) "))).subject == r"CN=Zscaler (t)\ "


def test_each_kind_of_alternative_name_is_named() -> None:
    facts = odd("other kinds of names")
    assert facts.san[:5] == (
        "email:a@odd.test",
        r"URI:https://odd.test/\x1b[0m",
        "RID:1.2.3.4",
        r"dirName:CN=dir\, name",
        "otherName:1.3.6.1.4.1.311.20.2.3:upn",
    )
    assert facts.san_count == 8
    assert len(about(facts, "subject_alt_name")) == 3


def test_every_extension_is_read() -> None:
    facts = read_certificate(odd_certificates.whole())
    assert facts.problems == ()
    assert (facts.is_ca, facts.path_length) == (True, 3)
    assert facts.key_usage == ("digitalSignature", "keyEncipherment")
    assert (facts.ski, facts.aki) == ("00" * 20, "00" * 20)
    assert facts.ocsp == facts.crl == ("http://odd.test/",)
    assert facts.ca_issuers == ()
    assert facts.must_staple
    assert facts.sct_count == 1
    assert facts.critical == ("basic_constraints", "key_usage", "name_constraints")


def test_a_second_extension_of_a_kind_is_noted_and_the_first_one_read() -> None:
    facts = odd("two alternative names")
    assert facts.san == ("DNS:odd.test",)
    assert facts.problems == ("extensions: subject_alt_name more than once",)


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("month 13", "not_before"),
        ("no seconds", "not_before"),
        ("time that is text", "not_before"),
        ("reversed validity", "validity"),
        ("serial zero", "serial"),
        ("negative serial", "serial"),
        ("serial of 21 bytes", "serial"),
        ("RSA without a modulus", "key"),
        ("basic constraints that is garbage", "basic_constraints"),
        ("IP address of 5 bytes", "subject_alt_name"),
        ("UTF-8 that is none", "subject"),
        ("subject that is no sequence", "subject"),
        ("no certificate", "certificate"),
    ],
)
def test_a_bad_field_is_a_problem_of_its_own(name: str, field: str) -> None:
    assert [problem.partition(":")[0] for problem in odd(name).problems] == [field]


def test_the_fields_beside_a_bad_one_are_read() -> None:
    facts = odd("month 13")
    assert facts.not_before is None
    assert facts.not_after == "2027-01-01T00:00:00Z"
    assert facts.subject == "CN=odd.test,O=Odd"
    assert facts.san_count == 3
    assert facts.valid_at(odd_certificates.NOW) is None


def test_a_negative_serial_keeps_its_sign() -> None:
    assert odd("negative serial").serial == "-10" + "00" * 12


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("RSA 16384", "RSA 16384"),
        ("RSA 2047", "RSA 2047"),
        ("RSA-PSS key", "RSA-PSS 2048"),
        ("explicit curve", "EC explicit parameters"),
        ("curve of another number", "EC 1.3.132.0.1"),
        ("DSA", "DSA 1024"),
        ("GOST", "GOST 2012-256"),
        ("unknown key", "unknown (1.2.3.4)"),
    ],
)
def test_a_key_is_described_without_being_loaded(name: str, key: str) -> None:
    assert odd(name).key == key


def test_a_bare_key_in_place_of_a_certificate_is_one() -> None:
    """RFC 7250 3."""
    facts = read_certificate(cut_certificate(certificate()).public_key)
    assert (facts.bare_key, facts.key, facts.subject) == (True, "EC P-256", None)
    assert not read_certificate(certificate()).bare_key
    assert not odd("no certificate").bare_key


def test_dates_are_compared_within_the_certificate() -> None:
    facts = read_certificate(certificate())
    assert facts.valid_at(odd_certificates.NOW) is True
    assert facts.valid_at(datetime(2099, 1, 1, tzinfo=UTC)) is False


def test_whatever_comes_is_read_and_can_be_shown(scaled: Callable[[int], int]) -> None:
    """T16: nothing unhandled, nothing that does not print, and JSON without lone surrogates."""
    for data in (*odd_certificates.odd().values(), *odd_certificates.broken(scaled(40_000))):
        shown = json.dumps(read_certificate(data).to_json(), ensure_ascii=False)
        shown.encode()
        assert shown.isprintable()


@given(st.binary(max_size=300))
def test_no_bytes_are_too_odd(data: bytes) -> None:
    assert read_certificate(data).sha256


def test_each_strict_prefix_of_a_certificate_is_read_as_cut() -> None:
    right = certificate()
    for end in range(len(right)):
        assert read_certificate(right[:end]).problems[0].startswith("certificate:")
    assert read_certificate(right + b"tail").problems == ("certificate: 4 bytes after it",)


@pytest.mark.parametrize(
    "name", ["10,000 alternative names", "RSA 16384", "explicit curve", "too large", "deep nesting"]
)
def test_a_costly_certificate_is_read_at_once(name: str) -> None:
    """T18 allows a lag of 250 ms; a tenth of that here."""
    data = odd_certificates.odd()[name]
    best = min(_seconds(data) for _ in range(3))
    assert best < 0.1


def _seconds(data: bytes) -> float:
    begun = time.perf_counter()
    read_certificate(data)
    return time.perf_counter() - begun


def test_long_lists_keep_a_hundred_entries_and_the_count() -> None:
    facts = odd("10,000 alternative names")
    assert (len(facts.san), facts.san_count) == (100, 10_000)


def test_the_json_form_begins_with_what_a_recording_promises() -> None:
    names = list(read_certificate(certificate()).to_json())
    assert names[:6] == ["subject", "issuer", "serial", "not_before", "not_after", "sha256"]
    assert all(re.fullmatch("[a-z0-9_]+", name) for name in names)
    assert "der" not in names


@given(st.integers(-(1 << 200), 1 << 200))
def test_integers_survive_the_round_trip(value: int) -> None:
    encoded = der.encode_integer(value)
    assert der.decode_integer(der.first_piece(encoded).body) == value


@pytest.mark.parametrize("dotted", ["2.5.29.17", "1.3.6.1.4.1.11129.2.4.2", "2.999.1", "0.9.2342.19200300.100.1.25"])
def test_object_identifiers_survive_the_round_trip(dotted: str) -> None:
    assert der.decode_oid(der.first_piece(der.encode_oid(dotted)).body) == dotted
