"""OCSP messages and CRLs as bytes: an independent library reads what is built and builds what is read."""

from __future__ import annotations

import io
import tempfile
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp as library
from hypothesis import given, strategies as st

from countersign.ca import Authority, Plan, issue
from countersign.ca.revocation import Reason, judge_staple
from countersign.ca.revocation.crl import CrlFields, Listed, build_crl, read_crl, write_big_crl
from countersign.ca.revocation.ocsp import (
    CertId,
    Request,
    Single,
    Status,
    build_response,
    by_key,
    by_name,
    failure,
    issuer_hashes,
    read_request,
    read_response,
    serial_of,
)
from countersign.ca.revocation.points import CrlPoint
from countersign.recorder import der
from countersign.recorder.certificates import cut_certificate, signature_holds
from countersign.recorder.der import DerError

if TYPE_CHECKING:
    from collections.abc import Callable

    from countersign.ca import Issuer

NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
LATER = NOW + timedelta(days=1)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.make(Plan(now=NOW))


@pytest.fixture(scope="module")
def leaf(authority: Authority) -> bytes:
    return issue(authority, "a.lab.test", now=NOW).chain[0]


def parsed(der_bytes: bytes) -> x509.Certificate:
    return x509.load_der_x509_certificate(der_bytes)


# Requests


@pytest.mark.parametrize(
    ("digest", "algorithm"), [("sha1", hashes.SHA1()), ("sha256", hashes.SHA256())], ids=["sha1", "sha256"]
)
def test_a_request_of_the_library_is_read(
    authority: Authority, leaf: bytes, digest: str, algorithm: hashes.SHA1 | hashes.SHA256
) -> None:
    builder = library.OCSPRequestBuilder().add_certificate(parsed(leaf), parsed(authority.issuer.der), algorithm)
    asked = builder.add_extension(x509.OCSPNonce(b"n" * 16), critical=False).build()
    request = read_request(asked.public_bytes(Encoding.DER))
    (certificate,) = request.certificates
    assert certificate.names_same(CertId.of(leaf, authority.issuer.der, digest=digest))
    assert request.nonce == b"n" * 16


@pytest.mark.parametrize("digest", ["sha1", "sha256"])
def test_a_request_is_read_by_the_library(authority: Authority, leaf: bytes, digest: str) -> None:
    request = Request((CertId.of(leaf, authority.issuer.der, digest=digest),), b"n" * 32)
    asked = library.load_der_ocsp_request(request.encoded)
    assert asked.serial_number == serial_of(leaf)
    assert asked.hash_algorithm.name == digest
    assert (asked.issuer_name_hash, asked.issuer_key_hash) == issuer_hashes(authority.issuer.der, digest)
    assert asked.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == b"n" * 32
    assert read_request(request.encoded) == request


def test_a_request_may_ask_about_several_certificates(authority: Authority) -> None:
    one = CertId.of(authority.issuer.der, authority.root.der)
    asked = tuple(CertId(one.algorithm, one.hash, one.name_hash, one.key_hash, number) for number in (1, -5, 1 << 160))
    assert read_request(Request(asked).encoded).certificates == asked


def nonce_of(length: int) -> bytes:
    extension = der.encode(
        der.SEQUENCE,
        der.encode_oid("1.3.6.1.5.5.7.48.1.2"),
        der.encode(der.OCTET_STRING, der.encode(der.OCTET_STRING, bytes(length))),
    )
    return der.encode(0xA2, der.encode(der.SEQUENCE, extension))


def a_request(
    authority: Authority, extensions: bytes = b"", single_extensions: bytes = b"", before: bytes = b""
) -> bytes:
    certificate = CertId.of(authority.issuer.der, authority.root.der).encoded
    single = der.encode(der.SEQUENCE, certificate, single_extensions)
    return der.encode(der.SEQUENCE, der.encode(der.SEQUENCE, before, der.encode(der.SEQUENCE, single), extensions))


@pytest.mark.parametrize("length", [1, 16, 32, 128])
def test_a_nonce_of_1_to_128_bytes_is_taken(authority: Authority, length: int) -> None:
    """RFC 9654 2.1."""
    assert read_request(a_request(authority, nonce_of(length))).nonce == bytes(length)


def critical(oid: str, tag: int) -> bytes:
    extension = der.encode(
        der.SEQUENCE, der.encode_oid(oid), b"\x01\x01\xff", der.encode(der.OCTET_STRING, b"\x05\x00")
    )
    return der.encode(tag, der.encode(der.SEQUENCE, extension))


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda _: b"", "expected a tag and a length, got 0 bytes"),
        (lambda _: der.encode(der.SEQUENCE), "expected something in the OCSPRequest"),
        (lambda _: der.encode(der.SEQUENCE, der.encode(der.SEQUENCE)), "expected a list of requests, got none"),
        (
            lambda _: der.encode(der.SEQUENCE, der.encode(der.SEQUENCE, der.encode(der.SEQUENCE))),
            "expected at least one request, got none",
        ),
        (lambda a: a_request(a) + b"\x00", "1 bytes after an OCSPRequest"),
        (lambda a: a_request(a, nonce_of(0)), "expected one nonce of 1 to 128 bytes, got 1 of 0"),
        (lambda a: a_request(a, nonce_of(129)), "expected one nonce of 1 to 128 bytes, got 1 of 129"),
        (
            lambda a: a_request(a, critical("1.2.3.4", 0xA2)),
            "no critical extension that is not known here, got 1.2.3.4",
        ),
        (lambda a: a_request(a, b"", critical("1.2.3.4", 0xA0)), "no critical extension that is not known here"),
        (
            lambda a: a_request(a, before=der.encode(0xA0, der.encode_integer(1))),
            "expected version 1 of OCSP, got another",
        ),
    ],
    ids=range(10),
)
def test_what_is_no_request_is_told(authority: Authority, make: Callable[[Authority], bytes], complaint: str) -> None:
    with pytest.raises(DerError) as raised:
        read_request(make(authority))
    assert complaint in str(raised.value)


def test_a_version_and_a_requestor_may_stand_there(authority: Authority) -> None:
    before = der.encode(0xA0, der.encode_integer(0)) + der.encode(0xA1, der.encode(0xA4, authority.root.subject))
    assert read_request(a_request(authority, before=before)).nonce is None


def test_every_beginning_of_a_request_is_none(authority: Authority, leaf: bytes) -> None:
    whole = Request((CertId.of(leaf, authority.issuer.der),), b"n" * 32).encoded
    for end in range(len(whole)):
        with pytest.raises(DerError):
            read_request(whole[:end])


# Responses


def a_response(issuer: Issuer, single: Single, **otherwise: Any) -> bytes:
    given: dict[str, Any] = {"responder_id": by_key(issuer.signer.key_id), "produced_at": NOW, "singles": [single]}
    return build_response(issuer.signer, **(given | otherwise))


@pytest.mark.parametrize(
    ("revoked", "unknown", "status"),
    [
        (None, False, library.OCSPCertStatus.GOOD),
        (None, True, library.OCSPCertStatus.UNKNOWN),
        ((NOW, Reason.UNSPECIFIED), False, library.OCSPCertStatus.REVOKED),
        ((NOW, Reason.AA_COMPROMISE), False, library.OCSPCertStatus.REVOKED),
    ],
    ids=["good", "unknown", "revoked", "aACompromise"],
)
def test_a_response_is_read_by_the_library_and_by_us(
    authority: Authority,
    leaf: bytes,
    revoked: tuple[datetime, Reason] | None,
    unknown: bool,  # noqa: FBT001 - a value of the table
    status: library.OCSPCertStatus,
) -> None:
    issuer = authority.issuer
    single = Single(CertId.of(leaf, issuer.der), NOW, LATER, revoked, unknown)
    made = a_response(issuer, single, nonce=b"n" * 32)
    read = library.load_der_ocsp_response(made)
    assert read.response_status is library.OCSPResponseStatus.SUCCESSFUL
    assert read.certificate_status is status
    assert (read.this_update_utc, read.next_update_utc, read.produced_at_utc) == (NOW, LATER, NOW)
    assert read.serial_number == serial_of(leaf)
    assert read.responder_key_hash == issuer.signer.key_id
    expected = revoked[1] if revoked and revoked[1] is not Reason.UNSPECIFIED else None
    assert (read.revocation_reason.value if read.revocation_reason else None) == (expected.value if expected else None)
    key = parsed(issuer.der).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert read.signature_hash_algorithm is not None
    key.verify(read.signature, read.tbs_response_bytes, ec.ECDSA(read.signature_hash_algorithm))
    ours = read_response(made)
    assert not isinstance(ours, Status)
    assert ours.nonce == b"n" * 32
    assert ours.singles == (Single(single.certificate, NOW, LATER, revoked and (NOW, expected), unknown),)


def test_a_response_names_who_signed_it_by_name_and_carries_the_certificate(authority: Authority, leaf: bytes) -> None:
    issuer = authority.issuer
    single = Single(CertId.of(leaf, issuer.der), NOW, None)
    made = a_response(issuer, single, responder_id=by_name(issuer.subject), certificates=[issuer.der])
    read = library.load_der_ocsp_response(made)
    assert read.responder_name == parsed(issuer.der).subject
    assert read.certificates == [parsed(issuer.der)]
    assert read.next_update_utc is None
    assert judge_staple(made, leaf, issuer.der, now=NOW).text == "good"


@pytest.mark.parametrize("status", [each for each in Status if each is not Status.SUCCESSFUL])
def test_a_failure_is_read_by_the_library_and_by_us(status: Status) -> None:
    assert library.load_der_ocsp_response(failure(status)).response_status.value == status
    assert read_response(failure(status)) is status


def test_a_failure_has_the_name_that_the_rfc_gives_it() -> None:
    assert [status.word for status in Status] == [
        "successful", "malformedRequest", "internalError", "tryLater", "sigRequired", "unauthorized",
    ]  # fmt: skip


def test_a_broken_signature_is_broken_and_nothing_else_is(authority: Authority, leaf: bytes) -> None:
    issuer = authority.issuer
    single = Single(CertId.of(leaf, issuer.der), NOW, LATER)
    made = read_response(a_response(issuer, single, broken=True))
    assert not isinstance(made, Status)
    public_key = cut_certificate(issuer.der).public_key
    assert signature_holds(public_key, made.algorithm, made.signature, made.signed) is False
    assert made.singles == (single,)


@given(st.integers(0, 10_000), st.integers(0, 255), st.booleans())
def test_no_mutation_of_a_message_raises_anything_else(at: int, value: int, cut: bool) -> None:  # noqa: FBT001
    """Requests, responses, CRLs: DerError or a value."""
    for whole, read in MUTATED:
        changed = bytearray(whole)
        changed[at % len(whole)] = value
        data = bytes(changed[: at % len(whole)] if cut else changed)
        try:
            found = read(data)
            if hasattr(found, "find"):
                found.find(7)
        except DerError:
            pass
        assert judge_staple(data, LEAF, AUTHORITY.issuer.der, now=NOW).text


AUTHORITY = Authority.make(Plan(now=NOW))
LEAF = issue(AUTHORITY, "a.lab.test", now=NOW).chain[0]


# CRLs


def fields(issuer: Issuer, *entries: Listed, **otherwise: Any) -> CrlFields:
    given: dict[str, Any] = {"this_update": NOW, "next_update": LATER, "number": 1_795_000_000_000}
    return CrlFields(issuer.subject, issuer.signer.key_id, entries=entries, **(given | otherwise))


MUTATED: list[tuple[bytes, Callable[[bytes], Any]]] = [
    (Request((CertId.of(LEAF, AUTHORITY.issuer.der),), b"n" * 32).encoded, read_request),
    (
        a_response(
            AUTHORITY.issuer,
            Single(CertId.of(LEAF, AUTHORITY.issuer.der), NOW, LATER, (NOW, Reason.SUPERSEDED)),
            nonce=b"n" * 32,
            certificates=[AUTHORITY.issuer.der],
        ),
        read_response,
    ),
    (
        build_crl(
            AUTHORITY.issuer.signer,
            fields(
                AUTHORITY.issuer,
                Listed(7, NOW, Reason.SUPERSEDED),
                base=3,
                point=CrlPoint("http://a/", ("superseded",)),
            ),
        ),
        read_crl,
    ),
]


def test_a_crl_is_read_by_the_library_and_by_us(authority: Authority) -> None:
    issuer = authority.issuer
    entries = (Listed(5, NOW), Listed(-6, NOW, Reason.CERTIFICATE_HOLD), Listed(1 << 158, NOW, Reason.AA_COMPROMISE))
    made = build_crl(issuer.signer, fields(issuer, *entries))
    read = x509.load_der_x509_crl(made)
    assert read.is_signature_valid(parsed(issuer.der).public_key())  # type: ignore[arg-type]
    assert (read.last_update_utc, read.next_update_utc) == (NOW, LATER)
    assert read.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 1_795_000_000_000
    assert [entry.serial_number for entry in read] == [5, -6, 1 << 158]
    entry = read.get_revoked_certificate_by_serial_number(1 << 158)
    assert entry is not None
    assert entry.extensions.get_extension_for_class(x509.CRLReason).value.reason is x509.ReasonFlags.aa_compromise
    ours = read_crl(made)
    assert [ours.find(listed.serial) for listed in entries] == list(entries)
    assert ours.find(8) is None


def test_a_crl_of_nothing_has_no_list_at_all(authority: Authority) -> None:
    """RFC 5280 5.1.2.6."""
    made = build_crl(authority.issuer.signer, fields(authority.issuer, next_update=None))
    assert len(x509.load_der_x509_crl(made)) == 0
    assert read_crl(made).next_update is None
    tbs = der.first_piece(der.whole(made, der.SEQUENCE, "a CRL").body)
    assert [piece.tag for piece in der.pieces(tbs.body)] == [
        der.INTEGER,
        der.SEQUENCE,
        der.SEQUENCE,
        der.UTC_TIME,
        0xA0,
    ]


def test_a_delta_and_a_partition_say_what_they_are(authority: Authority) -> None:
    issuer = authority.issuer
    point = CrlPoint("http://crl.lab.test/keys.crl", ("keyCompromise", "cACompromise", "aACompromise"))
    made = x509.load_der_x509_crl(build_crl(issuer.signer, fields(issuer, base=17, point=point)))
    delta = made.extensions.get_extension_for_class(x509.DeltaCRLIndicator)
    assert (delta.critical, delta.value.crl_number) == (True, 17)
    limits = made.extensions.get_extension_for_class(x509.IssuingDistributionPoint)
    assert limits.critical
    assert limits.value.full_name == [x509.UniformResourceIdentifier(point.url)]
    flags = x509.ReasonFlags
    assert limits.value.only_some_reasons == frozenset({flags.key_compromise, flags.ca_compromise, flags.aa_compromise})
    fresh = x509.load_der_x509_crl(build_crl(issuer.signer, fields(issuer, freshest=("http://crl.lab.test/d.crl",))))
    assert fresh.extensions.get_extension_for_class(x509.FreshestCRL).value[0].full_name is not None


@pytest.mark.parametrize(
    ("key", "size"),
    [
        *(("ec:P-256", size) for size in (1 << 10, 2000, 1 << 16, (1 << 16) + 600, (1 << 16) + 1500, 1 << 20, 1 << 24)),
        ("rsa:2048", 1 << 16),
        ("ed25519", 1 << 16),
    ],
)
def test_a_large_crl_is_a_right_one_of_nearly_the_size(key: str, size: int) -> None:
    issuer = Authority.make(Plan(now=NOW, key=key)).issuer
    with tempfile.TemporaryFile() as file:
        told = write_big_crl(file, issuer.signer, fields(issuer, Listed(5, NOW, Reason.SUPERSEDED)), size)
        file.seek(0)
        made = file.read()
    assert len(made) == told
    assert max(size - 6000, 0) <= told <= max(size, 4000)
    read = x509.load_der_x509_crl(made)
    assert read.is_signature_valid(parsed(issuer.der).public_key())  # type: ignore[arg-type]
    count = len(read)
    assert read[0].serial_number == 5
    serials = {entry.serial_number for entry in read} if size <= 1 << 20 else set(range(count))
    assert len(serials) == count
    assert made[:1] == b"\x30"
    assert der.encode(der.SEQUENCE, der.whole(made, der.SEQUENCE, "a CRL").body) == made  # the shortest lengths


def test_a_large_crl_has_the_shortest_lengths_at_the_border_too() -> None:
    """Where its length begins to need a third byte once the signature is there."""
    for size in range((1 << 16) + 1800, (1 << 16) + 2400, 20):
        with tempfile.TemporaryFile() as file:
            write_big_crl(file, AUTHORITY.issuer.signer, fields(AUTHORITY.issuer), size)
            file.seek(0)
            made = file.read()
        assert der.encode(der.SEQUENCE, der.whole(made, der.SEQUENCE, "a CRL").body) == made
        assert read_crl(made).find(7) is None


def test_what_follows_a_crl_is_told() -> None:
    whole = build_crl(AUTHORITY.issuer.signer, fields(AUTHORITY.issuer))
    for wrong in (whole + b"\x00", whole[:-1], b"", b"\x30\x00", io.BytesIO(whole).read(20)):
        with pytest.raises(DerError):
            read_crl(wrong)
