"""What real programs say of each fault, in their own words: openssl, curl, GnuTLS."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import pytest
from OpenSSL import SSL

from countersign.ca import Plan, issue
from countersign.ca.pem import to_pem
from countersign.ca.revocation import CrlStyle, Kind, Manner, Reason, ResponderId, SignedBy, ask
from countersign.ca.revocation.points import CrlForm
from tests.ca.revocation.lab import NAME, answered, crl_pem
from tests.ca.revocation.stapling import StaplingServer
from tests.peers.process import Completed, run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.ca.revocation.lab import Chain

pytestmark = pytest.mark.peer("openssl")


async def openssl_ocsp(chain: Chain, *more: str | Path) -> Completed:
    """As a user would: verify against the root, ask with a nonce."""
    files = chain.files
    return await asyncio.to_thread(
        run,
        *("openssl", "ocsp", "-url", chain.ocsp, "-issuer", files / "issuer.pem", "-cert", files / "leaf.pem"),
        *("-CAfile", files / "root.pem", "-timeout", "2", *more),
    )


async def openssl_verify(chain: Chain, *more: str | Path, download: bool = True) -> Completed:
    files = chain.files
    words: list[str | Path] = ["openssl", "verify", "-CAfile", files / "root.pem", "-crl_check_all"]
    words += ["-untrusted", files / "intermediates.pem", "-CRLfile", files / "root.crl"]
    if download:
        words.append("-crl_download")
    return await asyncio.to_thread(run, *words, *more, files / "leaf.pem")


# The fault, and what is in openssl's output with it, in this order.
OCSP: dict[str, tuple[int, tuple[str, ...]]] = {
    "": (0, ("Response verify OK", "leaf.pem: good")),
    "revoked=keyCompromise@2026-01-31": (
        0,
        ("leaf.pem: revoked", "Reason: keyCompromise", "Revocation Time: Jan 31 00:00:00 2026 GMT"),
    ),
    "unknown": (0, ("leaf.pem: unknown",)),
    "malformedRequest": (1, ("Responder Error: malformedrequest (1)",)),
    "internalError": (1, ("Responder Error: internalerror (2)",)),
    "tryLater": (1, ("Responder Error: trylater (3)",)),
    "sigRequired": (1, ("Responder Error: sigrequired (5)",)),
    "unauthorized": (1, ("Responder Error: unauthorized (6)",)),
    "wrong-signer": (1, ("Response Verify Failure", "unable to get local issuer certificate")),
    "signer-without-eku": (1, ("Response Verify Failure", "missing ocspsigning usage")),
    "signer-expired": (1, ("Response Verify Failure", "Verify error: certificate has expired")),
    "bad-signature": (1, ("Response Verify Failure", "ocsp_verify:signature failure")),
    "expired": (0, ("Status times invalid", "status expired")),
    "future": (0, ("Status times invalid", "status not yet valid")),
    "no-next-update": (0, ("Response verify OK", "leaf.pem: good")),
    "wrong-serial": (1, ("Response verify OK", "ERROR: No Status found.")),
    "wrong-issuer": (1, ("Response Verify Failure", "ERROR: No Status found.")),
    "no-nonce": (0, ("WARNING: no nonce in response", "Response verify OK")),
    "wrong-nonce": (1, ("Nonce Verify error",)),
    "malformed": (1, ("inconsistent content length", "ASN.1 length=260, Content-Length=36")),
    "404": (1, ("code=404, reason=Not Found",)),
    "500": (1, ("code=500, reason=Internal Server Error",)),
    "redirect": (1, ("code=307, reason=Temporary Redirect",)),
    "redirect-loop": (1, ("code=307, reason=Temporary Redirect",)),
    "content-type": (1, ("unexpected content type", "actual=text/html; charset=utf-8")),
    "block-page": (1, ("unexpected content type", "actual=text/html; charset=utf-8")),
    "empty": (1, ("failed reading data",)),
    "truncated": (1, ("failed reading data",)),
    "hang": (1, ("transfer timeout",)),
    "drip=0.05": (1, ("transfer timeout",)),
    "slow=0.2": (0, ("leaf.pem: good",)),
    "reset": (1, ("failed reading data",)),
    "refuse": (1, ("connect timeout",)),
}


@pytest.mark.parametrize("fault", OCSP, ids=[fault or "nothing" for fault in OCSP])
async def test_openssl_ocsp_says_of_each_fault_what_it_is(tmp_path: Path, fault: str) -> None:
    code, words = OCSP[fault]
    async with answered(tmp_path / "f", *([fault] if fault else [])) as chain:
        done = await openssl_ocsp(chain)
    said = done.stdout + done.stderr
    assert done.returncode == code, said
    for word in words:
        assert word in said


@pytest.mark.parametrize("signed_by", SignedBy)
@pytest.mark.parametrize("responder_id", ResponderId)
@pytest.mark.parametrize("digest", ["-sha1", "-sha256"])
async def test_openssl_believes_every_manner_of_answering(
    tmp_path: Path, signed_by: SignedBy, responder_id: ResponderId, digest: str
) -> None:
    async with answered(tmp_path / "f", manner=Manner(signed_by, responder_id)) as chain:
        files = chain.files
        done = await asyncio.to_thread(
            run,
            *("openssl", "ocsp", "-url", chain.ocsp, "-issuer", files / "issuer.pem", digest),
            *("-cert", files / "leaf.pem", "-CAfile", files / "root.pem", "-text"),
        )
    assert "Response verify OK" in done.stderr
    assert "leaf.pem: good" in done.stdout
    named = (
        "Responder Id: O = countersign, CN = " if responder_id is ResponderId.NAME else r"Responder Id: [0-9A-F]{40}"
    )
    assert re.search(named, done.stdout)
    assert ("OCSP No Check" in done.stdout) is (signed_by is SignedBy.DELEGATE)


async def test_openssl_asks_about_several_certificates_at_once(tmp_path: Path) -> None:
    async with answered(tmp_path / "f") as chain:
        second = issue(chain.responder.authority, "b.lab.test").chain[0]
        (chain.files / "second.pem").write_bytes(to_pem(second))
        chain.responder.revoke(second, reason=Reason.SUPERSEDED)
        done = await openssl_ocsp(chain, "-cert", chain.files / "second.pem", "-serial", "0x99")
    assert "leaf.pem: good" in done.stdout
    assert re.search(r"second\.pem: revoked\n.*\n.*\n\s+Reason: superseded", done.stdout)
    assert "0x99: good" in done.stdout
    assert "Response verify OK" in done.stderr


async def test_openssl_reads_what_came_with_get(tmp_path: Path) -> None:
    """A real client that asks with GET (it has no such option) is curl with openssl's request in the path."""
    async with answered(tmp_path / "f") as chain:
        files = chain.files
        request, response = files / "request.der", files / "response.der"
        words: tuple[str | Path, ...] = ("-issuer", files / "issuer.pem", "-cert", files / "leaf.pem")
        await asyncio.to_thread(run, "openssl", "ocsp", *words, "-reqout", request, "-no_nonce")
        coded = (await asyncio.to_thread(run, "openssl", "base64", "-A", "-in", request)).stdout
        escaped = coded.replace("/", "%2F").replace("+", "%2B").replace("=", "%3D")
        fetched = await asyncio.to_thread(run, "curl", "-q", "-sS", "-o", response, f"{chain.ocsp}/{escaped}")
        done = await asyncio.to_thread(
            run, "openssl", "ocsp", "-respin", response, *words, "-CAfile", files / "root.pem", "-no_nonce"
        )
    fetched.check()
    assert "leaf.pem: good" in done.stdout
    assert "Response verify OK" in done.stderr


# CRLs

CRL: dict[str, tuple[int, tuple[str, ...]]] = {
    "": (0, ("leaf.pem: OK",)),
    "revoked=keyCompromise,serial=SERIAL": (2, ("error 23 at 0 depth lookup: certificate revoked",)),
    "revoked,serial=1": (0, ("leaf.pem: OK",)),
    "wrong-signer": (2, ("error 3 at 0 depth lookup: unable to get certificate CRL",)),
    "wrong-issuer": (2, ("error 3 at 0 depth lookup: unable to get certificate CRL",)),
    "bad-signature": (2, ("error 8 at 0 depth lookup: CRL signature failure",)),
    "expired": (2, ("error 12 at 0 depth lookup: CRL has expired",)),
    "future": (2, ("error 11 at 0 depth lookup: CRL is not yet valid",)),
    "no-next-update": (0, ("leaf.pem: OK",)),
    "big=4M": (0, ("leaf.pem: OK",)),
    "malformed": (2, ("Unable to load CRL via CDP", "ASN.1 length=260, Content-Length=36")),
    "404": (2, ("Unable to load CRL via CDP", "code=404, reason=Not Found")),
    "500": (2, ("Unable to load CRL via CDP", "code=500, reason=Internal Server Error")),
    "redirect-loop": (2, ("Unable to load CRL via CDP", "failed reading data")),
    "content-type": (0, ("leaf.pem: OK",)),
    "block-page": (2, ("Unable to load CRL via CDP", "missing asn1 encoding")),
    "empty": (2, ("Unable to load CRL via CDP", "failed reading data")),
    "truncated": (2, ("Unable to load CRL via CDP", "failed reading data")),
    "slow=0.1": (0, ("leaf.pem: OK",)),
    "drip=0.0005": (0, ("leaf.pem: OK",)),
    "reset": (2, ("Unable to load CRL via CDP", "failed reading data")),
}


@pytest.mark.parametrize("fault", CRL, ids=[fault or "nothing" for fault in CRL])
async def test_openssl_verify_says_of_each_fault_of_a_crl_what_it_is(tmp_path: Path, fault: str) -> None:
    """``-crl_download`` fetches from the distribution points of every certificate of the chain."""
    code, words = CRL[fault]
    async with answered(tmp_path / "f", *([f"crl:{fault}"] if fault else [])) as chain:
        done = await openssl_verify(chain)
    said = done.stdout + done.stderr
    assert done.returncode == code, said
    for word in words:
        assert word in said


@pytest.mark.parametrize("levels", [1, 2, 3])
async def test_openssl_verify_finds_a_revoked_certificate_at_any_depth(tmp_path: Path, levels: int) -> None:
    """R7: leaf, and each intermediate of chains of 3 to 5."""
    async with answered(tmp_path / "f", plan=Plan(levels=levels)) as chain:
        assert (await openssl_verify(chain)).returncode == 0
        for depth, certificate in enumerate((chain.leaf, *chain.responder.authority.chain)):
            label = chain.responder.labels[levels - depth]
            entry = chain.responder.revoke(certificate, reason=Reason.CERTIFICATE_HOLD)
            if label == "root":
                of_root = await ask(chain.crl(label="root"), certificate, certificate, kind=Kind.CRL)
                (chain.files / "root.crl").write_bytes(crl_pem(of_root.body))
            done = await openssl_verify(chain)
            assert f"error 23 at {depth} depth lookup: certificate revoked" in done.stderr
            chain.responder.register.release(entry.issuer, entry.serial, entry.at)
        assert levels + 1 == len(chain.minted.chain)


async def crl_files(chain: Chain, *forms: CrlForm) -> list[str | Path]:
    words: list[str | Path] = []
    for label in chain.responder.labels:
        for form in forms:
            body = (await ask(chain.crl(form, label), chain.leaf, chain.issuer, kind=Kind.CRL)).body
            (chain.files / f"{label}-{form}.crl").write_bytes(crl_pem(body))
            words += ["-CRLfile", chain.files / f"{label}-{form}.crl"]
    return words


async def test_openssl_verify_follows_a_delta(tmp_path: Path) -> None:
    """With ``-use_deltas``; what was on hold in the base is released by ``removeFromCRL``."""
    async with answered(tmp_path / "f", crl=CrlStyle.DELTA) as chain:
        delta = ("-use_deltas", "-extended_crl")
        assert (
            await openssl_verify(chain, *await crl_files(chain, CrlForm.BASE, CrlForm.DELTA), *delta)
        ).returncode == 0
        entry = chain.responder.revoke(chain.leaf, reason=Reason.CERTIFICATE_HOLD)
        words = await crl_files(chain, CrlForm.BASE, CrlForm.DELTA)
        assert "certificate revoked" in (await openssl_verify(chain, *words, *delta, download=False)).stderr
        base = await crl_files(chain, CrlForm.BASE)
        assert (await openssl_verify(chain, *base, download=False)).returncode == 0  # the base alone knows nothing
        assert "certificate revoked" in (await openssl_verify(chain, *delta)).stderr  # from the freshest CRL point
        chain.responder.register.release(entry.issuer, entry.serial, entry.at)
        words = await crl_files(chain, CrlForm.BASE, CrlForm.DELTA)
        assert (await openssl_verify(chain, *words, *delta, download=False)).returncode == 0


async def test_openssl_verify_puts_partitions_together(tmp_path: Path) -> None:
    """With ``-extended_crl``; one half alone covers not all reasons."""
    async with answered(tmp_path / "f", crl=CrlStyle.REASONS) as chain:
        both = await crl_files(chain, CrlForm.KEYS, CrlForm.OTHERS)
        root = ("-extended_crl", "-CRLfile", chain.files / "root.crl")
        assert (await openssl_verify(chain, *both, *root, download=False)).returncode == 0
        half = await crl_files(chain, CrlForm.KEYS)
        lacking = await openssl_verify(chain, *half, *root, download=False)
        assert "error 3 at 0 depth lookup: unable to get certificate CRL" in lacking.stderr
        for reason in (Reason.KEY_COMPROMISE, Reason.SUPERSEDED):
            chain.responder.revoke(chain.leaf, reason=reason)
            both = await crl_files(chain, CrlForm.KEYS, CrlForm.OTHERS)
            assert "certificate revoked" in (await openssl_verify(chain, *both, *root, download=False)).stderr


@pytest.mark.parametrize("size", ["8M", pytest.param("100M", marks=pytest.mark.long)])
async def test_openssl_verifies_the_signature_of_a_large_crl(tmp_path: Path, size: str) -> None:
    async with answered(tmp_path / "f", f"crl:big={size}") as chain:
        target = chain.files / "big.crl"
        await asyncio.to_thread(run, "curl", "-q", "-sS", "-o", target, chain.crl(), timeout=60)
        assert abs(target.stat().st_size - int(size[:-1]) * (1 << 20)) < 4096
        words = ("openssl", "crl", "-inform", "DER", "-in", target, "-noout", "-CAfile", chain.files / "issuer.pem")
        done = await asyncio.to_thread(run, *words, timeout=90)
        target.unlink()
    assert "verify OK" in done.stderr


# GnuTLS

OCSPTOOL: dict[str, tuple[int, str]] = {
    "": (0, "Success."),
    "revoked=keyCompromise@2026-01-31": (0, "Certificate Status: revoked"),
    "unknown": (0, "Certificate Status: unknown"),
    "tryLater": (1, "Response Status: tryLater"),
    "unauthorized": (1, "Response Status: unauthorized"),
    "wrong-signer": (1, "Failure"),
    "signer-without-eku": (1, "Failure"),
    "bad-signature": (1, "Failure, Signature failure"),
    "malformed": (1, "error importing response: Base64 unexpected header error."),
    "404": (1, "error importing response: Base64 unexpected header error."),
    "empty": (1, "Received empty response"),
    "reset": (1, "recv: Connection reset by peer"),
    "refuse": (1, "Connection refused"),
}


@pytest.mark.peer("ocsptool")
@pytest.mark.parametrize("fault", OCSPTOOL, ids=[fault or "nothing" for fault in OCSPTOOL])
async def test_ocsptool_says_of_a_fault_what_it_is(tmp_path: Path, fault: str) -> None:
    code, words = OCSPTOOL[fault]
    async with answered(tmp_path / "f", *([fault] if fault else [])) as chain:
        files = chain.files
        done = await asyncio.to_thread(
            run,
            *("ocsptool", f"--ask={chain.ocsp}", "--load-cert", files / "leaf.pem"),
            *("--load-issuer", files / "issuer.pem", "--load-signer", files / "issuer.pem"),
        )
    said = done.stdout + done.stderr
    assert done.returncode == code, said
    assert words in said


# Stapling

# curl's exit code and words; GnuTLS's verdict. OpenSSL's server code hands out no response that it cannot read, nor one
# that is about another certificate: those three are faults of HTTP and of the wire, not of a staple.
STAPLED: dict[str, tuple[int, str, str]] = {
    "": (0, "", "The certificate is trusted."),
    "revoked=keyCompromise": (
        91,
        "SSL certificate revocation reason: keyCompromise (1)",
        "The certificate chain is revoked.",
    ),
    "unknown": (91, "SSL server certificate status verification FAILED", "The certificate is trusted."),
    "tryLater": (91, "Invalid OCSP response status: trylater (3)", "The certificate is trusted."),
    "unauthorized": (91, "Invalid OCSP response status: unauthorized (6)", "The certificate is trusted."),
    "wrong-signer": (91, "OCSP response verification failed", "The received OCSP status response is invalid."),
    "signer-without-eku": (91, "OCSP response verification failed", "The received OCSP status response is invalid."),
    "signer-expired": (91, "OCSP response verification failed", "The received OCSP status response is invalid."),
    "bad-signature": (91, "OCSP response verification failed", "The received OCSP status response is invalid."),
    "expired": (91, "OCSP response has expired", "The revocation or OCSP data are old and have been superseded."),
    "future": (91, "OCSP response has expired", "The certificate is trusted."),
    "no-next-update": (0, "", "The certificate is trusted."),
    "empty": (91, "No OCSP response received", "The certificate is trusted."),
}


@pytest.mark.peer("curl", "gnutls-cli")
@pytest.mark.parametrize("fault", STAPLED, ids=[fault or "nothing" for fault in STAPLED])
@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION], ids=["TLSv1.2", "TLSv1.3"])
async def test_a_stapled_fault_is_told_by_curl_and_gnutls(tmp_path: Path, version: int, fault: str) -> None:
    code, words, verdict = STAPLED[fault]
    async with answered(tmp_path / "f", *([fault] if fault else [])) as chain:
        key = chain.minted.key
        assert not isinstance(key, bytes)
        with StaplingServer(
            chain.minted.chain, key, lambda: chain.responder.staple(chain.leaf), version=version
        ) as server:
            root, port = chain.files / "root.pem", str(server.port)
            done = await asyncio.to_thread(
                run,
                *("curl", "-q", "-sS", "--noproxy", "*", "--max-time", "10", "--cert-status", "--cacert", root),
                *("--resolve", f"{NAME}:{port}:127.0.0.1", f"https://{NAME}:{port}/"),
            )
            other = await asyncio.to_thread(
                run,
                *(
                    "gnutls-cli",
                    "--x509cafile",
                    root,
                    "--port",
                    port,
                    "--sni-hostname",
                    NAME,
                    "--verify-hostname",
                    NAME,
                ),
                "127.0.0.1",
            )
            shown = await asyncio.to_thread(
                run,
                *(
                    "openssl",
                    "s_client",
                    "-connect",
                    f"127.0.0.1:{port}",
                    "-servername",
                    NAME,
                    "-status",
                    "-CAfile",
                    root,
                ),
            )
    assert (done.returncode, words in done.stderr) == (code, True), done.stderr
    assert verdict in other.stdout + other.stderr
    status = {"tryLater": "trylater (0x3)", "unauthorized": "unauthorized (0x6)"}.get(fault, "successful (0x0)")
    expected = "OCSP response: no response sent" if fault == "empty" else f"OCSP Response Status: {status}"
    assert expected in shown.stdout


async def test_every_issuer_of_the_chain_can_be_stapled_for(tmp_path: Path) -> None:
    async with answered(tmp_path / "f", plan=Plan(levels=2)) as chain:
        for certificate in chain.minted.chain:
            (chain.files / "staple.der").write_bytes(chain.responder.staple(certificate))
            done = await asyncio.to_thread(
                run, "openssl", "ocsp", "-respin", chain.files / "staple.der", "-CAfile", chain.files / "root.pem",
                "-verify_other", chain.files / "intermediates.pem", "-text",
            )  # fmt: skip
            assert "Response verify OK" in done.stderr
            assert "Cert Status: good" in done.stdout
