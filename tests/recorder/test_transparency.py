"""Signed certificate timestamps and OCSP responses: read as `cryptography` and openssl read them, whatever comes."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ocsp

from countersign.recorder import der
from countersign.recorder.certificates import read_certificate
from countersign.recorder.ocsp import read_ocsp_response
from countersign.recorder.wire.extensions import Where, read_extension, show_extension
from countersign.recorder.wire.messages import CertificateStatus, DecodeContext, decode_message
from countersign.recorder.wire.reader import Reader
from countersign.recorder.wire.transparency import (
    IN_CERTIFICATE,
    IN_OCSP_RESPONSE,
    POISON,
    SignedCertificateTimestamp,
    read_timestamps,
)
from countersign.recorder.x509_fields import KEPT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
LATER = NOW + timedelta(days=7)
MILLISECONDS = 1_795_176_000_123


@pytest.fixture(scope="module")
def key() -> EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def timestamp(key: EllipticCurvePrivateKey, milliseconds: int = MILLISECONDS) -> SignedCertificateTimestamp:
    """One that this log signed, over whatever."""
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    signature = key.sign(milliseconds.to_bytes(8, "big"), ec.ECDSA(hashes.SHA256()))
    return SignedCertificateTimestamp(0, hashlib.sha256(spki).digest(), milliseconds, b"", 0x0403, signature)


def sct_list(*scts: SignedCertificateTimestamp) -> bytes:
    entries = b"".join(len(sct.body()).to_bytes(2, "big") + sct.body() for sct in scts)
    return len(entries).to_bytes(2, "big") + entries


def certificate(key: EllipticCurvePrivateKey, *extensions: tuple[str, bytes]) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "logged.test")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(0x5EED)
        .not_valid_before(NOW)
        .not_valid_after(LATER)
    )
    for oid, value in extensions:
        critical = oid == POISON
        builder = builder.add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value), critical)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def octets(value: bytes) -> bytes:
    return der.encode(der.OCTET_STRING, value)


# -- certificates


def test_timestamps_in_a_certificate_are_read_as_the_library_reads_them(key: EllipticCurvePrivateKey) -> None:
    sent = (timestamp(key), timestamp(ec.generate_private_key(ec.SECP256R1()), MILLISECONDS + 1000))
    data = certificate(key, (IN_CERTIFICATE, octets(sct_list(*sent))))
    facts = read_certificate(data)
    assert facts.problems == ()
    assert facts.scts == sent
    assert facts.sct_count == 2
    extension = x509.load_der_x509_certificate(data).extensions.get_extension_for_class(
        x509.PrecertificateSignedCertificateTimestamps
    )
    for ours, theirs in zip(facts.scts, extension.value, strict=True):
        assert ours.log_id == theirs.log_id
        assert ours.timestamp == theirs.timestamp.replace(tzinfo=UTC).timestamp() * 1000
        assert ours.signature == theirs.signature


def test_a_timestamp_is_shown_with_its_log_its_time_and_its_algorithm(key: EllipticCurvePrivateKey) -> None:
    sct = timestamp(key)
    (shown,) = read_certificate(certificate(key, (IN_CERTIFICATE, octets(sct_list(sct))))).to_json()["scts"]
    assert shown == {
        "version": 0,
        "log_id": sct.log_id.hex(),
        "timestamp": "2026-11-20T12:00:00.123Z",
        "extensions": "",
        "algorithm": "ecdsa_secp256r1_sha256",
        "signature": sct.signature.hex(),
    }


@pytest.mark.peer("openssl")
def test_openssl_prints_the_same_timestamps(key: EllipticCurvePrivateKey, tmp_path: Path) -> None:
    sct = timestamp(key)
    (tmp_path / "c.der").write_bytes(certificate(key, (IN_CERTIFICATE, octets(sct_list(sct)))))
    command = ["openssl", "x509", "-inform", "DER", "-in", "c.der", "-noout", "-ext", "ct_precert_scts"]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True, text=True).stdout
    assert "Nov 20 12:00:00.123 2026 GMT" in said
    assert sct.log_id.hex().upper() in said.replace(":", "").replace("\n", "").replace(" ", "")


def test_the_poison_tells_a_precertificate(key: EllipticCurvePrivateKey) -> None:
    poisoned = read_certificate(certificate(key, (POISON, b"\x05\x00")))
    assert poisoned.precertificate
    assert poisoned.critical == ("precertificate_poison",)
    assert not read_certificate(certificate(key)).precertificate


def test_must_staple_is_the_feature_status_request(key: EllipticCurvePrivateKey) -> None:
    def features(*numbers: int) -> bytes:
        return der.encode(der.SEQUENCE, *map(der.encode_integer, numbers))

    stapled = read_certificate(certificate(key, ("1.3.6.1.5.5.7.1.24", features(5, 17, 70_000))))
    assert stapled.must_staple
    assert stapled.tls_features == ("status_request", "status_request_v2", "70000")
    other = read_certificate(certificate(key, ("1.3.6.1.5.5.7.1.24", features(17))))
    assert not other.must_staple


@pytest.mark.parametrize(
    ("value", "count", "what"),
    [
        (b"", 0, "a list behind two bytes of length"),
        (b"\x00\x04\x00\x02\x00\x01", 1, "[0].log_id"),
        (b"\x00\x02\x00\x00", 1, "at least 1 byte"),
        (b"\x00\x09\x00\x02", 1, "9 bytes as declared"),
        (b"\x00\x00\xff", 0, "1 byte left over"),
    ],
)
def test_a_bad_list_of_timestamps_is_a_problem_and_no_more(
    key: EllipticCurvePrivateKey, value: bytes, count: int, what: str
) -> None:
    facts = read_certificate(certificate(key, (IN_CERTIFICATE, octets(value))))
    assert facts.subject == "CN=logged.test"
    assert facts.sct_count == count
    assert any(what in problem for problem in facts.problems), facts.problems


def test_a_list_without_end_costs_nothing(key: EllipticCurvePrivateKey) -> None:
    """T18: as many empty timestamps as a list can have."""
    read = read_timestamps(b"\xff\xfe" + b"\x00\x00" * 32_767, most=KEPT)
    assert read.count == 32_767
    assert len(read.scts) == KEPT
    assert len(read.problems) <= KEPT


def test_a_time_beyond_the_calendar_stays_a_number(key: EllipticCurvePrivateKey) -> None:
    assert timestamp(key, 2**64 - 1).fields()["timestamp"] == 2**64 - 1


# -- TLS


def test_the_tls_extension_has_the_same_form(key: EllipticCurvePrivateKey) -> None:
    sct = timestamp(key)
    reader = Reader(sct_list(sct), [], name="")
    shown = show_extension(read_extension(18, reader, Where.CERTIFICATE))
    assert shown["scts"] == [sct.fields()]


# -- OCSP


def response(key: EllipticCurvePrivateKey, **revoked: Any) -> ocsp.OCSPResponse:
    """One that `cryptography` makes."""
    issuer = x509.load_der_x509_certificate(certificate(key))
    return (
        ocsp.OCSPResponseBuilder()
        .add_response(
            issuer,
            issuer,
            hashes.SHA1(),
            ocsp.OCSPCertStatus.REVOKED if revoked else ocsp.OCSPCertStatus.GOOD,
            NOW,
            LATER,
            revoked.get("at"),
            revoked.get("reason"),
        )
        .responder_id(ocsp.OCSPResponderEncoding.NAME, issuer)
        .sign(key, hashes.SHA256())
    )


def with_single_extension(made: ocsp.OCSPResponse, oid: str, value: bytes) -> bytes:
    """The same answer with an extension of its own; the signature does not fit any more."""
    status, outer = der.exactly(2, der.first_piece(made.public_bytes(Encoding.DER)).body, "")
    kind, octet_string = der.exactly(2, der.first_piece(outer.body).body, "")
    data, *behind = der.pieces(der.first_piece(octet_string.body).body)
    responder, produced_at, responses = der.exactly(3, data.body, "")
    (single,) = der.pieces(responses.body)
    extension = der.encode(der.SEQUENCE, der.encode_oid(oid), octets(value))
    single_der = der.encode(der.SEQUENCE, single.body, der.encode(0xA1, der.encode(der.SEQUENCE, extension)))
    data_der = der.encode(der.SEQUENCE, responder.raw, produced_at.raw, der.encode(der.SEQUENCE, single_der))
    basic = der.encode(der.SEQUENCE, data_der, *(piece.raw for piece in behind))
    answer = der.encode(der.SEQUENCE, kind.raw, octets(basic))
    return der.encode(der.SEQUENCE, status.raw, der.encode(0xA0, answer))


def test_a_response_is_read_as_the_library_reads_it(key: EllipticCurvePrivateKey) -> None:
    made = response(key)
    facts = read_ocsp_response(made.public_bytes(Encoding.DER))
    assert facts.problems == ()
    assert facts.response_status == "successful"
    assert facts.responder == "CN=logged.test"
    assert facts.produced_at == made.produced_at_utc.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert facts.signature_algorithm == "ecdsa-with-SHA256"
    (answer,) = facts.answers
    assert (answer.certificate_status, answer.serial_number) == ("good", "5eed")
    assert (answer.this_update, answer.next_update) == ("2026-11-20T12:00:00Z", "2026-11-27T12:00:00Z")


def test_a_revocation_tells_when_and_why(key: EllipticCurvePrivateKey) -> None:
    made = response(key, at=NOW - timedelta(days=1), reason=x509.ReasonFlags.key_compromise)
    shown = read_ocsp_response(made.public_bytes(Encoding.DER)).to_json()
    assert shown["certificate_status"] == "revoked"
    assert (shown["revoked_at"], shown["revocation_reason"]) == ("2026-11-19T12:00:00Z", "key_compromise")


def test_a_refusal_has_a_status_and_nothing_else() -> None:
    made = ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.TRY_LATER)
    facts = read_ocsp_response(made.public_bytes(Encoding.DER))
    assert (facts.response_status, facts.answers, facts.problems) == ("try_later", (), ())


def test_a_responder_may_be_named_by_its_key(key: EllipticCurvePrivateKey) -> None:
    issuer = x509.load_der_x509_certificate(certificate(key))
    made = (
        ocsp.OCSPResponseBuilder()
        .add_response(issuer, issuer, hashes.SHA1(), ocsp.OCSPCertStatus.UNKNOWN, NOW, None, None, None)
        .responder_id(ocsp.OCSPResponderEncoding.HASH, issuer)
        .sign(key, hashes.SHA256())
    )
    facts = read_ocsp_response(made.public_bytes(Encoding.DER))
    assert made.responder_key_hash is not None
    assert facts.responder == f"#{made.responder_key_hash.hex()}"
    assert (facts.answers[0].certificate_status, facts.answers[0].next_update) == ("unknown", None)


def test_timestamps_in_a_response_are_read(key: EllipticCurvePrivateKey) -> None:
    sct = timestamp(key)
    data = with_single_extension(response(key), IN_OCSP_RESPONSE, octets(sct_list(sct)))
    facts = read_ocsp_response(data)
    assert facts.problems == ()
    assert facts.answers[0].scts == (sct,)
    extension = ocsp.load_der_ocsp_response(data).single_extensions.get_extension_for_class(
        x509.SignedCertificateTimestamps
    )
    assert [one.log_id for one in extension.value] == [sct.log_id]


@pytest.mark.peer("openssl")
def test_openssl_prints_the_same_timestamps_of_a_response(key: EllipticCurvePrivateKey, tmp_path: Path) -> None:
    data = with_single_extension(response(key), IN_OCSP_RESPONSE, octets(sct_list(timestamp(key))))
    (tmp_path / "r.der").write_bytes(data)
    command = ["openssl", "ocsp", "-respin", "r.der", "-resp_text", "-noverify"]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True, text=True).stdout
    assert "Nov 20 12:00:00.123 2026 GMT" in said


def test_a_stapled_response_shows_them_in_its_message(key: EllipticCurvePrivateKey) -> None:
    sct = timestamp(key)
    data = with_single_extension(response(key), IN_OCSP_RESPONSE, octets(sct_list(sct)))
    message = decode_message(CertificateStatus(1, data).build(), DecodeContext())
    assert message.value.fields()["response"]["scts"] == [sct.fields()]


@pytest.mark.parametrize("at", range(0, 160, 4))
def test_a_cut_response_is_a_problem_and_never_an_error(key: EllipticCurvePrivateKey, at: int) -> None:
    data = response(key).public_bytes(Encoding.DER)
    assert read_ocsp_response(data[: len(data) * at // 160]).problems


def test_whatever_comes_is_read_and_can_be_shown(key: EllipticCurvePrivateKey, scaled: Callable[[int], int]) -> None:
    """T16: nothing unhandled, nothing that does not print."""
    dice = random.Random(6960)
    whole = with_single_extension(response(key), IN_OCSP_RESPONSE, octets(sct_list(timestamp(key))))
    for _ in range(scaled(20_000)):
        data = bytearray(whole)
        for _ in range(dice.randint(1, 3)):
            data[dice.randrange(len(data))] = dice.choice((0, 0x80, 0xFF, dice.randrange(256)))
        shown = json.dumps(read_ocsp_response(bytes(data)).to_json(), ensure_ascii=False)
        assert shown.isprintable()
