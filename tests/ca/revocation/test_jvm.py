"""What a JVM says: every fault in one run, with OCSP and CRLs, hard and soft, over a handshake and with AIA.

Where the table says nothing of an issuer, the fault befalls the intermediate's responder and the leaf's alike, and the
JVM stops at the intermediate: it checks from the root down.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from countersign.ca import Plan, issue
from countersign.ca.pem import to_pem
from countersign.ca.revocation import CrlStyle, Reason
from tests.ca.revocation.lab import NAME, answered
from tests.ca.revocation.stapling import StaplingServer
from tests.peers.java import QUICK_START
from tests.peers.process import run

if TYPE_CHECKING:
    from tests.ca.revocation.lab import Chain

pytestmark = pytest.mark.peer("java")

SOURCE = Path(__file__).with_name("java") / "RevocationChecks.java"
PROPERTIES = {
    "com.sun.security.enableCRLDP": "true",
    "com.sun.security.enableAIAcaIssuers": "true",
    "com.sun.security.ocsp.timeout": "2",
    "com.sun.security.crl.timeout": "2",
    "com.sun.security.crl.readtimeout": "2",
    "jdk.security.certpath.ocspNonce": "true",
}

NETWORK = "Unable to determine revocation status due to network error"
UNDETERMINED = "Could not determine revocation status"
ERROR = "OCSP response error: "
STALE = "Response is unreliable: its validity interval is out-of-date"
OTHERS = "OCSP response does not include a response for a certificate supplied in the OCSP request"
STORE = "sun.security.provider.certpath.PKIX$CertStoreTypeException: java.security.cert.CRLException: "
REVOKED = "Certificate has been revoked, reason: "


@dataclass(frozen=True, slots=True)
class Case:
    """What a mode says with a fault: part of the outermost cause and of the innermost, nothing for success.

    ``soft`` is what was let pass, once for each certificate.
    """

    mode: str
    fault: str
    cause: str = ""
    inner: str = ""
    soft: str = ""

    @property
    def name(self) -> str:
        return f"{self.mode} {self.fault or 'nothing'}"


CASES = [
    # OCSP alone, no mercy
    Case("hard", ""),
    Case(
        "hard",
        "revoked=keyCompromise@2026-01-31,serial=SERIAL",
        f"{REVOKED}KEY_COMPROMISE, revocation date: Sat Jan 31",
    ),
    Case("hard", "revoked=keyCompromise,issuer=root", f"{REVOKED}KEY_COMPROMISE"),
    Case("hard", "unknown", "Certificate's revocation status is unknown"),
    Case("hard", "malformedRequest", f"{ERROR}MALFORMED_REQUEST"),
    Case("hard", "internalError", f"{ERROR}INTERNAL_ERROR"),
    Case("hard", "tryLater", f"{ERROR}TRY_LATER"),
    Case("hard", "sigRequired", f"{ERROR}SIG_REQUIRED"),
    Case("hard", "unauthorized", f"{ERROR}UNAUTHORIZED"),
    Case("hard", "wrong-signer", "Responder's certificate is not authorized to sign OCSP responses"),
    Case("hard", "signer-without-eku", "Responder's certificate not valid for signing OCSP responses"),
    Case("hard", "signer-expired", "Responder's certificate not within the validity period", "NotAfter: "),
    Case("hard", "bad-signature", "Error verifying OCSP Response's signature"),
    Case("hard", "expired", STALE),
    Case("hard", "future", STALE),
    Case("hard", "no-next-update"),
    Case("hard", "wrong-serial", OTHERS),
    Case("hard", "wrong-issuer", OTHERS),
    Case("hard", "no-nonce"),
    Case("hard", "wrong-nonce", "Nonces don't match"),
    Case("hard", "malformed", NETWORK, "EOFException: not enough content"),
    Case("hard", "404", NETWORK, "Received HTTP error: 404 - Not Found"),
    Case("hard", "500", NETWORK, "Received HTTP error: 500 - Internal Server Error"),
    Case("hard", "redirect"),
    Case("hard", "redirect-loop", NETWORK, "Server redirected too many  times (20)"),
    Case("hard", "content-type"),
    Case("hard", "block-page", NETWORK, "extra data at the end"),
    Case("hard", "empty", NETWORK, "Too short"),
    Case("hard", "truncated", NETWORK, "EOFException"),
    Case("hard", "hang", NETWORK, "SocketTimeoutException: Read timed out"),
    Case("hard", "drip=0.003"),  # the time limit is for each read, not for the whole
    Case("hard", "slow=0.5"),
    Case("hard", "reset", NETWORK, "SocketException: Connection reset"),
    Case("hard", "refuse", NETWORK, "ConnectException: Connection refused"),
    Case("hard", "crl:404"),
    # the leaf alone, and what befalls its issuer does not matter
    Case("leaf", "tryLater,issuer=root"),
    Case("leaf", "tryLater,issuer=intermediate-1", f"{ERROR}TRY_LATER"),
    # soft: what could not be determined is let pass, what was answered wrongly is not
    Case("soft", "revoked=keyCompromise", f"{REVOKED}KEY_COMPROMISE"),
    Case("soft", "unknown", soft="Certificate's revocation status is unknown"),
    Case("soft", "tryLater", soft=f"{ERROR}TRY_LATER"),
    Case("soft", "internalError", soft=f"{ERROR}INTERNAL_ERROR"),
    Case("soft", "unauthorized", f"{ERROR}UNAUTHORIZED"),
    Case("soft", "bad-signature", "Error verifying OCSP Response's signature"),
    Case("soft", "expired", STALE),
    Case("soft", "hang", soft=NETWORK),
    Case("soft", "reset", soft=NETWORK),
    Case("soft", "refuse", soft=NETWORK),
    Case("soft", "500", soft=NETWORK),
    Case("soft", "block-page", soft=NETWORK),
    # CRLs alone
    Case("crl", ""),
    Case("crl", "crl:revoked=superseded@2026-01-31,serial=SERIAL", f"{REVOKED}SUPERSEDED, revocation date: Sat Jan 31"),
    Case("crl", "crl:wrong-signer", UNDETERMINED),
    Case("crl", "crl:wrong-issuer", UNDETERMINED),
    Case("crl", "crl:bad-signature", UNDETERMINED),
    Case("crl", "crl:expired", UNDETERMINED),
    Case("crl", "crl:future", UNDETERMINED),
    Case("crl", "crl:no-next-update", UNDETERMINED),
    Case("crl", "crl:malformed", f"{STORE}Incomplete BER/DER data"),
    Case("crl", "crl:404", NETWORK, "FileNotFoundException: http://127.0.0.1:"),
    Case("crl", "crl:500", NETWORK, "Server returned HTTP response code: 500 for URL: http://127.0.0.1:"),
    Case("crl", "crl:redirect"),
    Case("crl", "crl:redirect-loop", NETWORK, "Server redirected too many  times (20)"),
    Case("crl", "crl:content-type"),
    Case("crl", "crl:block-page", f"{STORE}Empty input"),
    Case("crl", "crl:empty", f"{STORE}Empty input"),
    Case("crl", "crl:truncated", f"{STORE}Incomplete BER/DER data"),
    Case("crl", "crl:hang", NETWORK, "SocketTimeoutException: Read timed out"),
    Case("crl", "crl:drip=0.003"),
    Case("crl", "crl:reset", NETWORK, "SocketException: Connection reset"),
    Case("crl", "refuse", NETWORK, "ConnectException: Connection refused"),
    Case("crl", "crl:big=4M"),
    Case("crl", "ocsp:404"),
    Case("crl-soft", "crl:hang", soft=NETWORK),
    Case("crl-soft", "crl:reset", soft=NETWORK),
    Case("crl-soft", "crl:expired", soft=UNDETERMINED),
    # what PKIX does by itself: OCSP, and where that fails the CRL; if both fail it tells of OCSP
    Case("property", ""),
    Case("property", "revoked=keyCompromise,serial=SERIAL", f"{REVOKED}KEY_COMPROMISE"),
    Case("property", "crl:revoked=keyCompromise,serial=SERIAL"),  # nobody looks at it while OCSP answers
    Case("property", "tryLater"),
    Case("property", "ocsp:reset"),
    Case("property", "reset", NETWORK, "SocketException: Connection reset"),  # K4: the article's own text
    Case("property", "refuse", NETWORK, "ConnectException: Connection refused"),
    Case("property", "500", NETWORK, "Received HTTP error: 500"),
    Case("either", "ocsp:hang"),
    Case("either", "ocsp:bad-signature"),
    Case("either", "bad-signature", "Error verifying OCSP Response's signature"),
    # the issuer's certificate, fetched because only the leaf was shown
    Case("build", ""),
    Case("build", "aia:wrong-issuer", "unable to find valid certification path to requested target"),
    Case("build", "aia:404", "unable to find valid certification path to requested target"),
    Case("build", "aia:reset", "unable to find valid certification path to requested target"),
    Case("build", "aia:malformed", "unable to find valid certification path to requested target"),
    # a handshake
    Case("tls", ""),
    Case("tls", "revoked=keyCompromise,serial=SERIAL", f"{REVOKED}KEY_COMPROMISE", REVOKED),
    Case("tls", "revoked=cACompromise,issuer=root", f"{REVOKED}CA_COMPROMISE", REVOKED),
    Case("tls", "reset", NETWORK, "SocketException: Connection reset"),
]

# Ways to answer that are all right, and chains of every length: each in the modes "hard" and "crl".
RIGHT: dict[str, dict[str, object]] = {
    "rsa": {"plan": Plan(key="rsa:2048")},
    "root alone": {"plan": Plan(levels=0)},
    "three intermediates": {"plan": Plan(levels=3)},
    "with a delta": {"crl": CrlStyle.DELTA},
    "apart": {"apart": True},
}


async def test_a_jvm_says_of_each_fault_what_it_is(tmp_path: Path) -> None:
    """One JVM for all: hundreds of certificates, each with its own responder."""
    expected: dict[str, Case] = {}
    lines: list[str] = []

    def add(case: Case, name: str, chain: Chain, port: int = 0) -> None:
        expected[name] = case
        lines.append("\t".join((name, case.mode, f"{chain.files}/root.pem", f"{chain.files}/chain.pem", str(port))))

    async with AsyncExitStack() as stack:
        for number, case in enumerate(CASES):
            chain = await stack.enter_async_context(answered(tmp_path / str(number)))
            await chain.fault(*([case.fault] if case.fault else []))
            port = 0
            if case.mode == "tls":
                key = chain.minted.key
                assert not isinstance(key, bytes)
                port = stack.enter_context(StaplingServer(chain.minted.chain, key, lambda: b"")).port
            add(case, case.name, chain, port)
        for what, settings in RIGHT.items():
            chain = await stack.enter_async_context(answered(tmp_path / what.replace(" ", "-"), **settings))  # type: ignore[arg-type]
            for mode in ("hard", "crl"):
                add(Case(mode, ""), f"{mode}, {what}", chain)
        parted = await stack.enter_async_context(answered(tmp_path / "parted", crl=CrlStyle.REASONS))
        # Sun's provider waits for all nine bits of ReasonFlags, of which the first is named "unused" and never set.
        add(Case("crl", "", UNDETERMINED), "crl, partitioned", parted)
        add(Case("hard", ""), "hard, partitioned", parted)
        for depth in range(3):  # R7: every certificate of a chain of four
            chain = await stack.enter_async_context(answered(tmp_path / f"depth-{depth}", plan=Plan(levels=2)))
            chain.responder.revoke(chain.minted.chain[depth], reason=Reason.CA_COMPROMISE)
            for mode in ("hard", "crl", "property"):
                add(Case(mode, "", f"{REVOKED}CA_COMPROMISE", f"index {depth}"), f"{mode}, depth {depth}", chain)
        bare = await stack.enter_async_context(answered(tmp_path / "bare"))
        given = bare.responder._given[0]
        whole = (*issue(bare.responder.authority, NAME).chain[:1], given.issuer.der)
        (bare.files / "chain.pem").write_bytes(b"".join(map(to_pem, whole)))
        add(Case("hard", "", "Certificate does not specify OCSP responder"), "hard, a bare intermediate", bare)
        (tmp_path / "cases").write_text("\n".join(lines) + "\n")
        done = await asyncio.to_thread(
            run,
            *("java", *QUICK_START, *(f"-D{name}={value}" for name, value in PROPERTIES.items())),
            *(SOURCE, tmp_path / "cases"),
            timeout=100,
        )
    said: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for line in done.stdout.splitlines():
        name, what, told = line.split("\t")
        said[name][what].append(told)
    wrong = {name: dict(said[name]) for name, case in expected.items() if not _as_expected(case, said[name])}
    assert wrong == {}, done.stderr
    assert said["build nothing"]["length"] == ["2"]


def _as_expected(case: Case, said: dict[str, list[str]]) -> bool:
    if not case.cause:
        count = said.get("soft", [])
        return said.get("result") == ["OK"] and set(count) == ({case.soft} if case.soft else set())
    causes = said.get("cause", [])
    if case.inner.startswith("index"):
        return any(case.cause in cause for cause in causes) and said.get("index", [])[0] == case.inner.split()[1]
    return any(case.cause in cause for cause in causes) and case.inner in causes[-1]
