"""What real clients make of each fault: whom it is refused by, in which words, with which alert, and who does not mind.

The figures are measured, with OpenSSL 3.0 (curl, s_client, Node 18, Python 3.11), GnuTLS 3.7 and JSSE of Java 17. Some
do not mind what they have to refuse: that is what such faults are for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from countersign.proxy.faults import FAULTS, read_fault
from countersign.recorder.recording import Status
from countersign.recorder.wire.events import Content, Side
from tests.proxy.faults.facing import CLIENTS, TLS12, Case, OneAfterAnother, case, leg_of
from tests.proxy.running import RunningProxy

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

OPENSSL = ("curl", "openssl", "node", "python")


@dataclass(frozen=True, slots=True)
class Met:
    """A part of each family's words where it refuses, None where it does not mind, and s_client's alert."""

    case: Case
    openssl: str | None
    gnutls: str | None
    java: str | None
    alert: int | None = None
    others: Mapping[str, str | None] = field(default_factory=dict)

    def words_of(self, family: str) -> str | None:
        if family in self.others:
            return self.others[family]
        return {"gnutls": self.gnutls, "java": self.java}.get(family) if family not in OPENSSL else self.openssl


def accepted(what: Case, **others: str | None) -> Met:
    """Nobody minds, but for some."""
    return Met(what, None, None, None, others=others)


UNEXPECTED = "unexpected message"
GNUTLS_UNEXPECTED = "An unexpected TLS handshake packet was received"
GNUTLS_SIGNATURE = "Public key signature verification has failed"
GNUTLS_ILLEGAL = "An illegal parameter has been received"
GNUTLS_EXTENSION = "An illegal TLS extension was received"
JAVA_CREDENTIALS = "No X509 credentials negotiated for CertificateVerify"
SCT = "0004 0002 0102"

MET = {
    # alerts
    "alert": Met(
        case("alert", alert="unrecognized_name"), "unrecognized name", "The server name sent was not recognized",
        "Received fatal alert: unrecognized_name",
    ),
    "alert within encryption": Met(
        case("alert", at="certificate", alert="internal_error"), "internal error", "Internal error",
        "Received fatal alert: internal_error",
    ),
    "alert behind Finished": Met(
        case("alert", at="finished", place="after", alert="access_denied"), "access denied", "Access was denied",
        "Received fatal alert: access_denied",
    ),
    "warning in TLS 1.2": Met(
        case("alert", alert="unrecognized_name", level="warning", version=TLS12), None, None,
        "received handshake warning: unrecognized_name",
    ),
    # what is wrong in a message
    "random corrupted": Met(
        case("corrupt", at="server_hello", field="random"), "bad record mac", "Decryption has failed", "Tag mismatch!",
        20,
    ),
    "certificate corrupted in TLS 1.2": Met(
        case("corrupt", at="certificate", byte=-1, version=TLS12), "", "Error in the certificate",
        "signature check failed", 51,
    ),
    "certificate corrupted, and all else right": Met(
        case("corrupt", at="certificate", byte=-30, consistent=True), "", "Error in the certificate",
        "signature check failed", 51, others={"node": "certificate signature failure"},
    ),
    "bad ServerKeyExchange": Met(
        case("bad_server_key_exchange", version=TLS12), "bad signature", GNUTLS_SIGNATURE,
        "Invalid ECDH ServerKeyExchange signature", 51,
    ),
    "bad CertificateVerify": Met(
        case("bad_certificate_verify"), "bad signature", GNUTLS_SIGNATURE, "Invalid CertificateVerify signature", 51
    ),
    "wrong Finished": Met(
        case("wrong_finished"), "digest check failed", "TLS Finished packet calculation",
        "The Finished message cannot be verified", 51,
    ),
    "wrong Finished in TLS 1.2": Met(
        case("wrong_finished", version=TLS12), "digest check failed", "TLS Finished packet calculation",
        "The Finished message cannot be verified", 51,
    ),
    "no certificate": Met(
        case("empty_certificate"), "length mismatch", "No certificate was found", "Empty server certificate chain", 50
    ),
    "no certificate in TLS 1.2": Met(
        case("empty_certificate", version=TLS12), "length mismatch", "No certificate was found",
        "Empty server certificate chain", 50,
    ),
    # what is missing or in another place
    "no Certificate message": Met(
        case("drop", at="certificate"), UNEXPECTED, GNUTLS_UNEXPECTED, JAVA_CREDENTIALS, 10
    ),
    "no CertificateVerify": Met(
        case("drop", at="certificate_verify"), UNEXPECTED, GNUTLS_UNEXPECTED, "Unexpected Finished handshake message",
        10,
    ),
    "no EncryptedExtensions": Met(
        case("drop", at="encrypted_extensions"), UNEXPECTED, GNUTLS_UNEXPECTED, None, 10
    ),
    "no ServerKeyExchange": Met(
        case("drop", at="server_key_exchange", version=TLS12), UNEXPECTED, GNUTLS_UNEXPECTED,
        "No ECDHE credentials negotiated", 10,
    ),
    "no ChangeCipherSpec": Met(  # JSSE reads the ciphertext as a message, and says what it finds there
        case("drop", at="change_cipher_spec", version=TLS12), UNEXPECTED, "An unexpected TLS packet was received",
        "", 10,
    ),
    "Certificate twice": Met(
        case("duplicate", at="certificate"), UNEXPECTED, GNUTLS_UNEXPECTED, "Unexpected handshake message: certificate",
        10,
    ),
    "Finished twice": Met(
        case("duplicate", at="finished"), UNEXPECTED, "An unexpected TLS packet was received",
        "Unexpected handshake message: finished", 10,
    ),
    "CertificateVerify before Certificate": Met(
        case("swap", at="certificate"), UNEXPECTED, GNUTLS_UNEXPECTED, JAVA_CREDENTIALS, 10
    ),
    "ServerKeyExchange before Certificate": Met(
        case("swap", at="certificate", version=TLS12), UNEXPECTED, GNUTLS_UNEXPECTED, "ServerKeyExchange", 10
    ),
    "Finished too early": Met(
        case("wrong_message", message="finished", at="encrypted_extensions"), UNEXPECTED, GNUTLS_UNEXPECTED,
        "Unexpected Finished handshake message", 10,
    ),
    "HelloRequest within a handshake of TLS 1.2": Met(
        case("wrong_message", message="hello_request", at="certificate", version=TLS12), None, GNUTLS_UNEXPECTED, None
    ),
    "HelloRequest in TLS 1.3": Met(
        case("wrong_message", message="hello_request", at="certificate"), None, GNUTLS_UNEXPECTED,
        "Unsupported handshake message: hello_request",
    ),
    "ChangeCipherSpec too early": Met(
        case("early_change_cipher_spec", version=TLS12), UNEXPECTED, "An unexpected TLS packet was received",
        "Unexpected content: 20", 10,
    ),
    # what was not offered
    "downgrade sentinel": Met(
        case("downgrade_sentinel", version=TLS12), "inappropriate fallback", GNUTLS_ILLEGAL,
        "A potential protocol version downgrade attack", 47,
    ),
    "another session id": Met(case("other_session_id"), "invalid session id", None, None, 47),
    "a version that was not offered": Met(
        case("version_not_offered"), "bad protocol version number", GNUTLS_ILLEGAL,
        "The server selected protocol version SSL30 is not accepted", 47,
    ),
    "a version that was not offered, in TLS 1.2": Met(
        case("version_not_offered", version=TLS12), "unsupported protocol", "illegal or unsupported version",
        "The server selected protocol version SSL30 is not accepted", 70,
    ),
    "a suite that was not offered": Met(
        case("suite_not_offered"), "wrong cipher returned", "Could not negotiate a supported cipher suite",
        "Server selected improper ciphersuite TLS_AES_128_CCM_8_SHA256", 47,
    ),
    "a suite that was not offered, in TLS 1.2": Met(
        case("suite_not_offered", version=TLS12), "cipher returned", "Could not negotiate a supported cipher suite",
        "Server selected improper ciphersuite", 47,
    ),
    "compression": Met(
        case("compression_not_offered"), "invalid compression algorithm", GNUTLS_ILLEGAL,
        "compression type not supported", 47,
    ),
    "compression in TLS 1.2": Met(
        case("compression_not_offered", version=TLS12), "compression", GNUTLS_ILLEGAL, "compression type not supported",
        47,
    ),
    "an unknown extension in ServerHello": accepted(case("unsolicited_extension")),
    "an unknown extension in EncryptedExtensions": accepted(
        case("unsolicited_extension", at="encrypted_extensions")
    ),
    "an unknown extension beside a certificate": accepted(
        case("unsolicited_extension", at="certificate"), gnutls=GNUTLS_EXTENSION
    ),
    "early data that nobody offered": Met(
        case("unsolicited_extension", at="encrypted_extensions", extension=42), "unsolicited extension",
        GNUTLS_EXTENSION, None, 110,
    ),
    "timestamps that nobody asked for": Met(
        case("unsolicited_extension", at="certificate", extension=18, data=SCT), "bad extension", GNUTLS_EXTENSION,
        None, 110,
    ),
    "an unknown extension in a ticket": accepted(
        case("unsolicited_extension", at="new_session_ticket", consistent=False)
    ),
    # odd, and valid
    "ServerHello in small records": accepted(case("split_records", size=5)),
    "all in small records of TLS 1.2": accepted(case("split_records", size=5, all=True, version=TLS12)),
    "all in records of a byte": accepted(case("one_byte_records")),
    "all in records of a byte, in TLS 1.2": accepted(case("one_byte_records", version=TLS12)),
    "padded records": accepted(case("record_padding", zeros=4000)),
    "a hundred tickets": accepted(case("ticket_flood")),
    "six updates of keys": accepted(case("key_update_flood", count=6)),
    "six updates of keys that are to be answered": accepted(case("key_update_flood", count=6, answer=True)),
    "forty updates of keys": accepted(
        case("key_update_flood", count=40), gnutls="Too many handshake packets have been received"
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    "family", [pytest.param(family, marks=pytest.mark.peer(*needs)) for family, (needs, _) in CLIENTS.items()]
)
def test_each_family_says_of_each_fault_what_it_says(family: str, tmp_path: Path) -> None:
    connect = CLIENTS[family][1]
    director = OneAfterAnother([met.case.orders() for met in MET.values()])
    with RunningProxy(director=director) as proxy:
        said = connect(proxy.port, proxy.root_file(tmp_path), len(MET))
        recordings = proxy.recordings(len(MET))
    assert director.met == len(said) == len(MET)
    wrong = {}
    for (name, met), answer, recording in zip(MET.items(), said, recordings, strict=True):
        words, fault = met.words_of(family), read_fault(met.case.fault)
        leg = leg_of(recording)
        alerts = [one.code for one in leg.messages if one.content is Content.ALERT and one.sender is Side.CLIENT]
        unproved = FAULTS[fault.do].proof(recording, fault)
        if unproved is not None:
            wrong[name] = unproved
        elif answer.ok != (words is None) or (words or "") not in answer.text:
            wrong[name] = f"{'accepted' if answer.ok else 'refused'}: {answer.text}"
        elif family == "openssl" and met.alert is not None and met.alert not in alerts:
            wrong[name] = f"alerts {alerts}"
        elif answer.ok and recording.outcome.status is not Status.ESTABLISHED:
            wrong[name] = recording.outcome.text
    assert not wrong


def test_nobody_minds_what_is_valid() -> None:
    """A kind that a right client has to accept is refused by nobody here."""
    valid = [met for met in MET.values() if FAULTS[read_fault(met.case.fault).do].right == "accept"]
    assert len(valid) >= 6
    assert all(met.words_of(family) is None for met in valid for family in CLIENTS)


def test_every_kind_is_met() -> None:
    met = {str(met.case.fault["do"]) for met in MET.values()}
    elsewhere = {"strip_post_quantum", "refuse_post_quantum"}  # tests/proxy/faults/test_legs.py
    assert {name for name, kind in FAULTS.items() if kind.sort == "message"} - elsewhere == met
