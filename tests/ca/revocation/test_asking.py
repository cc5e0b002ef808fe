"""Our own questions: each fault of the responder, and what :func:`ask` says of it."""

from __future__ import annotations

import asyncio
import socket
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from countersign.ca import Authority, Plan
from countersign.ca.pem import to_pem
from countersign.ca.revocation import (
    CrlStyle,
    Doubt,
    Kind,
    Manner,
    Patience,
    Reason,
    ResponderId,
    SignedBy,
    Verdict,
    What,
    ask,
    ask_all,
    certificates_only,
    fetch_issuers,
    judge_staple,
)
from countersign.ca.revocation.asking import _is_barred, _why_not
from countersign.ca.revocation.points import CaForm, CrlForm
from tests.ca.revocation.lab import Chain, answered

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# The fault in words, what the answer comes to, the doubts (those alone), and a part of the text.
Expected = tuple[str, Verdict, set[Doubt], str]

EVERYWHERE: list[Expected] = [
    ("malformed", Verdict.UNUSABLE, {Doubt.MALFORMED}, "got 36 bytes of something else"),
    ("404", Verdict.NO_ANSWER, {Doubt.HTTP}, "no answer: HTTP 404"),
    ("500", Verdict.NO_ANSWER, {Doubt.HTTP}, "no answer: HTTP 500"),
    ("http=204", Verdict.NO_ANSWER, {Doubt.HTTP}, "no answer: HTTP 204"),
    ("redirect-loop", Verdict.NO_ANSWER, {Doubt.REDIRECTS}, "redirected more than 5 times"),
    ("redirect=http://169.254.169.254/", Verdict.NO_ANSWER, {Doubt.NOT_ASKED}, "link-local addresses are not asked"),
    ("block-page", Verdict.UNUSABLE, {Doubt.CONTENT_TYPE, Doubt.MALFORMED}, "got an HTML page"),
    ("empty", Verdict.UNUSABLE, {Doubt.MALFORMED}, "got nothing"),
    ("truncated", Verdict.NO_ANSWER, {Doubt.CUT}, "the answer broke off after"),
    ("hang", Verdict.NO_ANSWER, {Doubt.TIMEOUT}, "no whole answer within 0.5 s"),
    ("drip=0.1", Verdict.NO_ANSWER, {Doubt.TIMEOUT}, "bytes came)"),
    ("reset", Verdict.NO_ANSWER, {Doubt.RESET}, "no answer: the connection was reset"),
    ("refuse", Verdict.NO_ANSWER, {Doubt.REFUSED}, "refused: nobody listens there"),
]

OCSP: list[Expected] = [
    ("", Verdict.GOOD, set(), "good, until"),
    ("good", Verdict.GOOD, set(), "good, until"),
    ("revoked=superseded@2026-01-31", Verdict.REVOKED, set(), "revoked (superseded) on 2026-01-31T00:00:00Z"),
    ("revoked,serial=SERIAL", Verdict.REVOKED, set(), "revoked (unspecified) on"),
    ("revoked,serial=1", Verdict.GOOD, set(), "good, until"),
    ("unknown", Verdict.UNKNOWN, set(), "the responder does not know this certificate"),
    *(
        (word, Verdict.DECLINED, {Doubt.STATUS}, f"declined: {word}")
        for word in ("malformedRequest", "internalError", "tryLater", "sigRequired", "unauthorized")
    ),
    ("wrong-signer", Verdict.UNUSABLE, {Doubt.SIGNER}, "was authorised by 'CN=stranger intermediate"),
    ("signer-without-eku", Verdict.UNUSABLE, {Doubt.SIGNER}, "is not for OCSP signing"),
    ("signer-expired", Verdict.UNUSABLE, {Doubt.SIGNER}, "not of now"),
    ("bad-signature", Verdict.UNUSABLE, {Doubt.SIGNATURE}, "the signature is not that of 'CN=OCSP responder"),
    ("expired", Verdict.UNUSABLE, {Doubt.EXPIRED}, "it was good until"),
    ("future", Verdict.UNUSABLE, {Doubt.FUTURE}, "which is yet to come"),
    ("no-next-update", Verdict.GOOD, {Doubt.NO_NEXT_UPDATE}, "good"),
    ("wrong-serial", Verdict.UNUSABLE, {Doubt.WRONG_CERTIFICATE}, "it is about the certificate"),
    ("wrong-issuer", Verdict.UNUSABLE, {Doubt.WRONG_ISSUER}, "of another issuer with this serial number"),
    ("no-nonce", Verdict.GOOD, {Doubt.NO_NONCE}, "good, until"),
    ("wrong-nonce", Verdict.UNUSABLE, {Doubt.WRONG_NONCE}, "this answers another question"),
    ("content-type", Verdict.GOOD, {Doubt.CONTENT_TYPE}, "good, until"),
    ("redirect", Verdict.GOOD, set(), "good, until"),
    ("slow=0.2", Verdict.GOOD, set(), "good, until"),
    ("drip=0.0001", Verdict.GOOD, set(), "good, until"),
    ("crl:404", Verdict.GOOD, set(), "good, until"),
    ("tryLater,issuer=root", Verdict.GOOD, set(), "good, until"),
    ("tryLater,issuer=intermediate-1", Verdict.DECLINED, {Doubt.STATUS}, "declined: tryLater"),
    *EVERYWHERE,
]

CRL: list[Expected] = [
    ("", Verdict.GOOD, set(), "good: not on the CRL, until"),
    ("revoked=aACompromise,serial=SERIAL", Verdict.REVOKED, set(), "revoked (aACompromise) on"),
    ("revoked,serial=1", Verdict.GOOD, set(), "good: not on the CRL"),
    ("wrong-signer", Verdict.UNUSABLE, {Doubt.SIGNATURE}, "the signature is not that of"),
    ("bad-signature", Verdict.UNUSABLE, {Doubt.SIGNATURE}, "the signature is not that of"),
    ("expired", Verdict.UNUSABLE, {Doubt.EXPIRED}, "it was good until"),
    ("future", Verdict.UNUSABLE, {Doubt.FUTURE}, "which is yet to come"),
    ("no-next-update", Verdict.GOOD, {Doubt.NO_NEXT_UPDATE}, "good: not on the CRL"),
    ("wrong-issuer", Verdict.UNUSABLE, {Doubt.WRONG_ISSUER}, "it is the CRL of another issuer"),
    ("big=64K", Verdict.GOOD, set(), "good: not on the CRL, until"),
    ("big=2M", Verdict.NO_ANSWER, {Doubt.TOO_LARGE}, "and 1048576 are read"),
    ("content-type", Verdict.GOOD, {Doubt.CONTENT_TYPE}, "good: not on the CRL"),
    ("redirect", Verdict.GOOD, set(), "good: not on the CRL"),
    ("ocsp:404", Verdict.GOOD, set(), "good: not on the CRL"),
    *EVERYWHERE,
]

AIA: list[Expected] = [
    ("", Verdict.FOUND, set(), "found the issuer 'CN=countersign inspection intermediate"),
    ("wrong-issuer", Verdict.UNUSABLE, {Doubt.WRONG_ISSUER}, "the issuer is not among the 1 that came: 'CN=stranger"),
    ("content-type", Verdict.FOUND, {Doubt.CONTENT_TYPE}, "found the issuer"),
    ("redirect", Verdict.FOUND, set(), "found the issuer"),
    *EVERYWHERE,
]

PATIENCE = Patience(seconds=0.5, size=1 << 20)


async def check(chain: Chain, url: str, kind: Kind, expected: Expected, **how: str) -> None:
    words, verdict, doubts, text = expected
    await chain.fault(*([words] if words else []))
    patience = PATIENCE if Doubt.TIMEOUT in doubts else Patience(seconds=20, size=1 << 20)
    answer = await ask(url, chain.leaf, chain.issuer, kind=kind, patience=patience, **how)  # type: ignore[arg-type]
    assert (answer.verdict, {doubt for doubt, _ in answer.doubts}) == (verdict, doubts), answer.text
    assert text in answer.text
    assert all(answer.has(doubt) for doubt in doubts)


@pytest.mark.parametrize("expected", OCSP, ids=[words or "nothing" for words, *_ in OCSP])
@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_each_fault_of_ocsp_is_told_for_what_it_is(tmp_path: Path, method: str, expected: Expected) -> None:
    async with answered(tmp_path / "f") as chain:
        await check(chain, chain.ocsp, Kind.OCSP, expected, method=method)


@pytest.mark.parametrize("expected", CRL, ids=[words or "nothing" for words, *_ in CRL])
async def test_each_fault_of_a_crl_is_told_for_what_it_is(tmp_path: Path, expected: Expected) -> None:
    async with answered(tmp_path / "f") as chain:
        await check(chain, chain.crl(), Kind.CRL, expected)


@pytest.mark.parametrize("expected", AIA, ids=[words or "nothing" for words, *_ in AIA])
@pytest.mark.parametrize("form", CaForm)
async def test_each_fault_of_a_certificate_is_told_for_what_it_is(
    tmp_path: Path, form: CaForm, expected: Expected
) -> None:
    async with answered(tmp_path / "f") as chain:
        await check(chain, chain.responder.urls().ca(form), Kind.AIA, expected)


def test_every_fault_is_in_these_tables() -> None:
    said = {words.rpartition(":")[2].partition("=")[0].partition(",")[0] for words, *_ in (*OCSP, *CRL, *AIA)}
    assert {what.value for what in What} - said - {"http"} == set()


@pytest.mark.parametrize("signed_by", SignedBy)
@pytest.mark.parametrize("responder_id", ResponderId)
@pytest.mark.parametrize("digest", ["sha1", "sha256"])
async def test_every_manner_of_answering_is_believed(
    tmp_path: Path, signed_by: SignedBy, responder_id: ResponderId, digest: str
) -> None:
    async with answered(tmp_path / "f", manner=Manner(signed_by, responder_id)) as chain:
        answer = await ask(chain.ocsp, chain.leaf, chain.issuer, digest=digest)
        assert (answer.verdict, answer.doubts) == (Verdict.GOOD, ())
        who = "OCSP responder" if signed_by is SignedBy.DELEGATE else "countersign inspection intermediate"
        assert who in (answer.signer or "")


@pytest.mark.parametrize("key", ["rsa:2048", "rsa-pss:2048", "ec:P-384", "ec:P-521", "ed25519", "ed448"])
async def test_issuers_with_any_key_are_believed_and_not_their_broken_signatures(tmp_path: Path, key: str) -> None:
    for signed_by in SignedBy:
        async with answered(tmp_path / signed_by, plan=Plan(key=key), manner=Manner(signed_by)) as chain:
            for faults, verdict in (((), Verdict.GOOD), (("bad-signature",), Verdict.UNUSABLE)):
                await chain.fault(*faults)
                for url, kind in ((chain.ocsp, Kind.OCSP), (chain.crl(), Kind.CRL)):
                    answer = await ask(url, chain.leaf, chain.issuer, kind=kind)
                    assert answer.verdict is verdict, answer.text
                    assert {doubt for doubt, _ in answer.doubts} == ({Doubt.SIGNATURE} if faults else set())


@pytest.mark.parametrize("levels", [1, 2, 3])
async def test_every_certificate_of_a_chain_is_answered_for(tmp_path: Path, levels: int) -> None:
    """R7: the chain as a whole, each with a responder, a CRL and its issuer's certificate."""
    async with answered(tmp_path / "f", plan=Plan(levels=levels)) as chain:
        authority = chain.responder.authority
        whole = [chain.leaf, *authority.chain, authority.root.der]
        for certificate, issuer in pairwise(whole):
            answers = await ask_all(certificate, issuer)
            assert [(answer.kind, answer.verdict) for answer in answers] == [
                (Kind.OCSP, Verdict.GOOD), (Kind.CRL, Verdict.GOOD), (Kind.AIA, Verdict.FOUND),
            ]  # fmt: skip
        assert await ask_all(authority.root.der, authority.root.der) == ()


@pytest.mark.parametrize("levels", [1, 2, 3])
async def test_everything_above_a_leaf_is_fetched_up_to_the_root(tmp_path: Path, levels: int) -> None:
    async with answered(tmp_path / "f", plan=Plan(levels=levels)) as chain:
        authority = chain.responder.authority
        found = [answer.issuer for answer in await fetch_issuers(chain.leaf)]
        assert found == [*authority.chain, authority.root.der]
        assert await fetch_issuers(authority.root.der) == ()
        await chain.fault("wrong-issuer")
        (answer,) = await fetch_issuers(chain.leaf)
        assert (answer.verdict, answer.issuer) == (Verdict.UNUSABLE, None)


async def test_an_intermediate_is_revoked_by_the_root_alone(tmp_path: Path) -> None:
    """R7: the responder of the leaf knows nothing of it."""
    async with answered(tmp_path / "f") as chain:
        authority = chain.responder.authority
        chain.responder.revoke(authority.issuer.der, reason=Reason.CA_COMPROMISE)
        of_leaf = await ask_all(chain.leaf, chain.issuer)
        of_intermediate = await ask_all(chain.issuer, authority.root.der)
        assert [answer.verdict for answer in of_leaf] == [Verdict.GOOD, Verdict.GOOD, Verdict.FOUND]
        assert [answer.verdict for answer in of_intermediate] == [Verdict.REVOKED, Verdict.REVOKED, Verdict.FOUND]
        assert of_intermediate[0].reason is Reason.CA_COMPROMISE


async def test_delta_and_partitioned_crls_are_said_to_be_about_a_part(tmp_path: Path) -> None:
    async with answered(tmp_path / "f", crl=CrlStyle.DELTA) as chain:
        delta = await ask(chain.crl(CrlForm.DELTA), chain.leaf, chain.issuer, kind=Kind.CRL)
        assert (delta.verdict, delta.has(Doubt.PARTIAL)) == (Verdict.UNKNOWN, True)
        assert "nothing has changed for this certificate since CRL" in delta.text
        chain.responder.revoke(chain.leaf, reason=Reason.CERTIFICATE_HOLD)
        base = await ask(chain.crl(CrlForm.BASE), chain.leaf, chain.issuer, kind=Kind.CRL)
        delta = await ask(chain.crl(CrlForm.DELTA), chain.leaf, chain.issuer, kind=Kind.CRL)
        assert (base.verdict, delta.verdict) == (Verdict.GOOD, Verdict.REVOKED)
        for form, verdict in ((CrlForm.KEYS, Verdict.GOOD), (CrlForm.OTHERS, Verdict.REVOKED)):
            part = await ask(chain.crl(form), chain.leaf, chain.issuer, kind=Kind.CRL)
            assert (part.verdict, part.has(Doubt.PARTIAL)) == (verdict, True)


async def test_a_question_for_another_issuer_is_declined(tmp_path: Path) -> None:
    async with answered(tmp_path / "a") as chain, answered(tmp_path / "b") as other:
        answer = await ask(chain.ocsp, other.leaf, other.issuer)
        assert answer.text == "declined: unauthorized"
        listed = await ask(chain.crl(), other.leaf, other.issuer, kind=Kind.CRL)
        assert {doubt for doubt, _ in listed.doubts} == {Doubt.WRONG_ISSUER, Doubt.SIGNATURE}


async def test_all_that_is_wrong_is_told_and_not_the_first_thing_alone(tmp_path: Path) -> None:
    async with answered(tmp_path / "f", "expired", "bad-signature", "wrong-nonce", "signer-without-eku") as chain:
        answer = await ask(chain.ocsp, chain.leaf, chain.issuer)
        assert {doubt for doubt, _ in answer.doubts} == {
            Doubt.EXPIRED, Doubt.SIGNATURE, Doubt.WRONG_NONCE, Doubt.SIGNER,
        }  # fmt: skip
        assert answer.text.count(";") == 3


@pytest.mark.parametrize(
    "words", ["", "revoked", "unknown", "tryLater", "expired", "bad-signature", "wrong-serial", "empty"]
)
async def test_staples_are_judged_like_answers(tmp_path: Path, words: str) -> None:
    moment = datetime.now(UTC)
    async with answered(tmp_path / "f", *([words] if words else []), now=lambda: moment) as chain:
        staple = chain.responder.staple(chain.leaf)
        judged = judge_staple(staple, chain.leaf, chain.issuer, now=chain.responder.answers.now())
        asked = await ask(chain.ocsp, chain.leaf, chain.issuer, nonce=False)
        assert (judged.verdict, judged.text) == (asked.verdict, asked.text)
        assert judged.method == "stapled"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ldap://ldap.test/cn=a?certificateRevocationList", "only http is asked, not ldap"),
        ("file:///etc/passwd", "only http is asked, not file"),
        ("https://a.test/", "only http is asked, not https"),
        ("", "only http is asked, not nothing"),
        ("http://", "it names no host"),
        ("http://[::1", "it is no URL"),
        ("http://a.test:99999/", "it is no URL"),
        ("http://169.254.169.254/latest/meta-data", "link-local addresses are not asked"),
        ("http://[fe80::1]/", "link-local addresses are not asked"),
        ("http://[::ffff:169.254.169.254]/", "link-local addresses are not asked"),
        ("http://224.0.0.1/", "link-local addresses are not asked"),
    ],
)
async def test_what_a_certificate_names_is_not_always_asked(tmp_path: Path, url: str, reason: str) -> None:
    async with answered(tmp_path / "f") as chain:
        assert reason in _why_not(url)
        answer = await ask(url, chain.leaf, chain.issuer, kind=Kind.CRL)
        assert (answer.verdict, answer.has(Doubt.NOT_ASKED)) == (Verdict.NO_ANSWER, True)
        assert reason in answer.text


def test_addresses_that_are_asked() -> None:
    assert not any(map(_is_barred, ("127.0.0.1", "::1", "10.0.0.1", "192.0.2.1", "a.test", "[::1]")))


async def test_a_name_that_means_a_link_local_address_is_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = socket.getaddrinfo

    def fake(host: str, *rest: object, **more: object) -> object:
        return original("169.254.169.254" if host == "metadata.test" else host, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", fake)
    async with answered(tmp_path / "f") as chain:
        answer = await ask("http://metadata.test/", chain.leaf, chain.issuer, patience=Patience(seconds=3))
        assert answer.has(Doubt.UNREACHABLE)
        assert "has only link-local addresses" in answer.text


async def served(answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], object]) -> asyncio.Server:
    return await asyncio.start_server(answer, "127.0.0.1", 0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("response", "doubt", "text"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", Doubt.HTTP, "what came is no HTTP"),
        (b"", Doubt.RESET, "the connection was closed without an answer"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000 + b"\r\n", Doubt.HTTP, "what came is no HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b", Doubt.MALFORMED, "2 bytes"),
        (
            b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n",
            Doubt.NOT_ASKED,
            "only http is asked, not file",
        ),
        (b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n", Doubt.HTTP, "HTTP 302"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", Doubt.TOO_LARGE, "99999999999 bytes or more"),
        (b"HTTP/1.1 200 \x1b[31mred\r\nContent-Type: \x1b[31m\r\nContent-Length: 0\r\n\r\n", None, ""),
    ],
    ids=["ssh", "nothing", "headers", "gzip", "redirect", "no-location", "declared", "escapes"],
)
async def test_a_server_that_is_none_is_an_answer_too(
    tmp_path: Path, response: bytes, doubt: Doubt | None, text: str
) -> None:
    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(response)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await served(say)
    async with answered(tmp_path / "f") as chain:
        port = server.sockets[0].getsockname()[1]
        answer = await ask(f"http://127.0.0.1:{port}/", chain.leaf, chain.issuer, patience=PATIENCE)
    server.close()
    await server.wait_closed()
    assert doubt is None or answer.has(doubt), answer.text
    assert text in answer.text
    assert answer.text.isprintable()


async def test_certificates_come_in_any_wrapping(tmp_path: Path) -> None:
    """DER and PKCS #7 as the RFC has it, PEM as some servers do, the right one among others."""
    async with answered(tmp_path / "f") as chain:
        root, issuer = chain.responder.authority.root.der, chain.issuer
        for body, verdict in (
            (issuer, Verdict.FOUND),
            (to_pem(issuer), Verdict.FOUND),
            (to_pem(root) + to_pem(issuer), Verdict.FOUND),
            (certificates_only([root, issuer]), Verdict.FOUND),
            (certificates_only([root]), Verdict.UNUSABLE),
            (certificates_only([]), Verdict.UNUSABLE),
            (issuer[:-1], Verdict.UNUSABLE),
        ):

            async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes = body) -> None:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                writer.close()

            server = await served(say)
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
            answer = await ask(url, chain.leaf, issuer, kind=Kind.AIA)
            assert answer.verdict is verdict, answer.text
            assert (answer.issuer == issuer) is (verdict is Verdict.FOUND)
            server.close()
            await server.wait_closed()


async def test_a_crl_with_a_critical_extension_that_nobody_knows_is_not_believed(tmp_path: Path) -> None:
    """RFC 5280 5.2: another's CRL, made by the library."""
    async with answered(tmp_path / "f") as chain:
        issuer = chain.responder.authority.issuer
        key = issuer.signer.key
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4.5"), b"\x05\x00")
        now = datetime.now(UTC)
        for critical, verdict in ((False, Verdict.GOOD), (True, Verdict.UNUSABLE)):
            builder = x509.CertificateRevocationListBuilder().issuer_name(
                x509.load_der_x509_certificate(issuer.der).subject
            )
            builder = builder.last_update(now).next_update(now + timedelta(days=1)).add_extension(unknown, critical)
            body = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)

            async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes = body) -> None:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                writer.close()

            server = await served(say)
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
            answer = await ask(url, chain.leaf, chain.issuer, kind=Kind.CRL)
            assert (answer.verdict, answer.has(Doubt.CRITICAL)) == (verdict, critical), answer.text
            server.close()
            await server.wait_closed()


async def test_a_certificate_that_is_none_is_not_asked_about() -> None:
    answer = await ask("http://127.0.0.1:1/", b"junk", Authority.make().root.der)
    assert (answer.verdict, answer.has(Doubt.NOT_ASKED)) == (Verdict.NO_ANSWER, True)


async def test_an_answer_as_json_has_no_surprises(tmp_path: Path) -> None:
    async with answered(tmp_path / "f", "revoked=superseded@2026-01-31") as chain:
        answer = (await ask(chain.ocsp, chain.leaf, chain.issuer)).to_json()
        assert answer["verdict"] == "revoked"
        assert answer["revoked_at"] == "2026-01-31T00:00:00Z"
        assert answer["reason"] == "superseded"
        assert answer["doubts"] == []
        assert "body" not in answer
