"""The responder over HTTP: what it answers, when it refuses, what it remembers."""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from itertools import pairwise
from typing import TYPE_CHECKING
from urllib.parse import quote

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509 import ocsp as library
from cryptography.x509.oid import ExtendedKeyUsageOID
from yarl import URL

from countersign.ca import Authority, Plan, issue
from countersign.ca.revocation import (
    Asked,
    CrlStyle,
    Kind,
    Manner,
    Reason,
    Register,
    Responder,
    SignedBy,
    State,
    Verdict,
    ask,
    ask_all,
    parse_fault,
    pointed_at,
)
from countersign.ca.revocation.ocsp import CertId, Request, Status, read_response, serial_of
from countersign.ca.revocation.points import CaForm, CrlForm
from countersign.errors import EnvironmentFault, UserError
from countersign.recorder.certificates import read_certificate
from tests.ca.revocation.lab import NAME, answered, path_of, until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.ca.revocation.lab import Chain


async def get(url: str, *, method: str = "GET", data: bytes | None = None) -> tuple[int, dict[str, str], bytes]:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, URL(url, encoded=True), data=data, allow_redirects=False) as response,
    ):
        return response.status, {name.title(): value for name, value in response.headers.items()}, await response.read()


def question(chain: Chain, nonce: bytes | None = None) -> bytes:
    return Request((CertId.of(chain.leaf, chain.issuer),), nonce).encoded


# OCSP


async def test_a_question_in_the_path_may_be_written_in_many_ways(tmp_path: Path) -> None:
    """RFC 6960 A.1; a `/` or `+` of base64 may be percent-encoded or not, its `=` may be left out."""
    async with answered(tmp_path / "f") as chain:
        for _ in range(200):  # until the base64 has all of the characters that matter
            asked = Request((CertId.of(chain.leaf, chain.issuer),), b"\xfb\xff\xbf" * 3).encoded
            text = base64.b64encode(asked).decode()
        assert "/" in text
        assert "+" in text
        base = chain.ocsp.rpartition("/ocsp/")[0]
        for url in (
            f"{chain.ocsp}/{text}",
            f"{chain.ocsp}/{quote(text, safe='')}",
            f"{chain.ocsp}/{text.rstrip('=')}",
            f"{chain.ocsp}/{text.replace('+', '%20')}",
            f"{base}/ocsp/{quote(text, safe='')}",
        ):
            status, headers, body = await get(url)
            assert (status, headers["Content-Type"]) == (200, "application/ocsp-response")
            response = read_response(body)
            assert not isinstance(response, Status), url
            assert response.singles[0].certificate.serial == chain.serial


async def test_what_may_be_cached_says_so_and_nothing_else_does(tmp_path: Path) -> None:
    """RFC 5019 6.2: GET without a nonce."""
    async with answered(tmp_path / "f") as chain:
        text = quote(base64.b64encode(question(chain)).decode(), safe="")
        _, headers, body = await get(f"{chain.ocsp}/{text}")
        read = library.load_der_ocsp_response(body)
        assert parsedate_to_datetime(headers["Expires"]) == read.next_update_utc
        assert parsedate_to_datetime(headers["Last-Modified"]) == read.this_update_utc
        assert headers["Etag"]
        assert headers["Cache-Control"].startswith("max-age=86")
        assert headers["Cache-Control"].endswith(",public,no-transform,must-revalidate")
        with_nonce = quote(base64.b64encode(question(chain, b"n" * 16)).decode(), safe="")
        for url, method, data in (
            (f"{chain.ocsp}/{with_nonce}", "GET", None),
            (chain.ocsp, "POST", question(chain)),
        ):
            _, headers, _ = await get(url, method=method, data=data)
            assert headers["Cache-Control"] == "no-store"
            assert "Expires" not in headers
        await chain.fault("tryLater")
        _, headers, _ = await get(f"{chain.ocsp}/{text}")
        assert headers["Cache-Control"] == "no-store"
        await chain.fault("expired")
        _, headers, _ = await get(f"{chain.ocsp}/{text}")
        assert headers["Cache-Control"] == "no-store"


async def test_several_certificates_are_answered_for_in_one_response(tmp_path: Path) -> None:
    async with answered(tmp_path / "f") as chain:
        second = issue(chain.responder.authority, "b.lab.test").chain[0]
        chain.responder.revoke(second, reason=Reason.SUPERSEDED)
        of_root = CertId.of(chain.issuer, chain.responder.authority.root.der)
        ids = [CertId.of(each, chain.issuer) for each in (chain.leaf, second)]
        ids.append(replace(CertId.of(chain.leaf, chain.issuer, digest="sha256"), serial=99))
        _, _, body = await get(chain.ocsp, method="POST", data=Request((*ids, of_root)).encoded)
        read = read_response(body)
        assert not isinstance(read, Status)
        assert [single.certificate.encoded for single in read.singles] == [one.encoded for one in (*ids, of_root)]
        assert [bool(single.revoked) for single in read.singles] == [False, True, False, False]
        # Who signs for the leaf's issuer can say nothing of another's certificates (RFC 6960 2.2).
        assert [single.unknown for single in read.singles] == [False, False, False, True]
        await chain.fault("unknown,serial=SERIAL")
        _, _, body = await get(chain.ocsp, method="POST", data=Request(tuple(ids)).encoded)
        read = read_response(body)
        assert not isinstance(read, Status)
        assert [single.unknown for single in read.singles] == [True, False, False]


async def test_who_signs_is_authorised_for_just_that(tmp_path: Path) -> None:
    """RFC 6960 4.2.2.2: by the issuer itself, for OCSP signing, not to be asked about, within the issuer's dates."""
    async with answered(tmp_path / "f") as chain:
        _, _, body = await get(chain.ocsp, method="POST", data=question(chain))
        (delegate,) = library.load_der_ocsp_response(body).certificates
        eku = delegate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert list(eku) == [ExtendedKeyUsageOID.OCSP_SIGNING]
        assert delegate.extensions.get_extension_for_class(x509.OCSPNoCheck)
        issuer = x509.load_der_x509_certificate(chain.issuer)
        delegate.verify_directly_issued_by(issuer)
        assert issuer.not_valid_before_utc <= delegate.not_valid_before_utc <= datetime.now(UTC)
        assert delegate.not_valid_after_utc <= issuer.not_valid_after_utc
        again = library.load_der_ocsp_response((await get(chain.ocsp, method="POST", data=question(chain)))[2])
        assert again.certificates == [delegate]


async def test_the_register_is_seen_at_once_whoever_changes_it(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "ca")
    register = Register.of_home(tmp_path / "ca")
    async with Responder(authority, register=register) as responder:
        leaf = issue(responder.authority, NAME).chain[0]
        urls, issuer = responder.urls(), responder.authority.issuer.der
        other = Register.of_home(tmp_path / "ca")
        entry = responder.revoke(leaf, reason=Reason.CERTIFICATE_HOLD)
        assert (await ask(urls.ocsp, leaf, issuer)).reason is Reason.CERTIFICATE_HOLD
        other.release(entry.issuer, entry.serial, datetime.now(UTC))
        assert (await ask(urls.ocsp, leaf, issuer)).verdict is Verdict.GOOD
        other.put(replace(entry, state=State.UNKNOWN))
        assert (await ask(urls.ocsp, leaf, issuer)).verdict is Verdict.UNKNOWN
        assert (await ask(urls.crl(CrlForm.FULL), leaf, issuer, kind=Kind.CRL)).verdict is Verdict.GOOD


async def test_nothing_is_called_good_while_the_register_cannot_be_read(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "ca")
    async with Responder(authority, register=Register.of_home(tmp_path / "ca")) as responder:
        leaf, urls = issue(responder.authority, NAME).chain[0], responder.urls()
        (tmp_path / "ca" / "revoked.json").write_bytes(b"{")
        answers = await ask_all(leaf, responder.authority.issuer.der)
        assert [answer.text for answer in answers[:2]] == ["declined: internalError", "no answer: HTTP 500"]
        assert "others may read it" in responder.asked[0].answer or "cannot" in responder.asked[0].answer
        (tmp_path / "ca" / "revoked.json").unlink()
        assert (await ask(urls.ocsp, leaf, responder.authority.issuer.der)).verdict is Verdict.GOOD


# CRLs and certificates


async def test_a_delta_follows_its_base(tmp_path: Path) -> None:
    """RFC 5280 5.2.4: what is new, what is changed, and what is revoked no longer."""
    authority = Authority.make()
    async with Responder(authority, crl=CrlStyle.DELTA) as responder:
        leaves = [issue(responder.authority, f"{letter}.lab.test").chain[0] for letter in "abcd"]
        held, changed, new, _ = leaves
        urls = responder.urls()

    register = Register()
    async with Responder(authority, crl=CrlStyle.DELTA, register=register) as responder:
        urls = responder.urls()
        key_id = authority.issuer.signer.key_id.hex()
        for leaf in (held, changed):
            responder.revoke(leaf, reason=Reason.CERTIFICATE_HOLD)
        base = x509.load_der_x509_crl((await get(urls.crl(CrlForm.BASE)))[2])
        assert len(base) == 0  # it stands since the start

    async with Responder(authority, crl=CrlStyle.DELTA, register=register) as responder:
        urls = responder.urls()
        register.release(key_id, serial_of(held), datetime.now(UTC))
        responder.revoke(changed, reason=Reason.KEY_COMPROMISE)
        responder.revoke(new, reason=Reason.SUPERSEDED)
        base = x509.load_der_x509_crl((await get(urls.crl(CrlForm.BASE)))[2])
        delta = x509.load_der_x509_crl((await get(urls.crl(CrlForm.DELTA)))[2])
        number = base.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        assert delta.extensions.get_extension_for_class(x509.DeltaCRLIndicator).value.crl_number == number
        assert delta.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number > number
        assert {entry.serial_number for entry in base} == {serial_of(held), serial_of(changed)}
        reasons = {
            entry.serial_number: entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
            for entry in delta
        }
        assert reasons == {
            serial_of(held): x509.ReasonFlags.remove_from_crl,
            serial_of(changed): x509.ReasonFlags.key_compromise,
            serial_of(new): x509.ReasonFlags.superseded,
        }
        leaf = issue(responder.authority, NAME).chain[0]
        fresh = x509.load_der_x509_certificate(leaf).extensions.get_extension_for_class(x509.FreshestCRL).value
        assert fresh[0].full_name == [x509.UniformResourceIdentifier(urls.crl(CrlForm.DELTA))]
        assert base.extensions.get_extension_for_class(x509.FreshestCRL).value[0].full_name == fresh[0].full_name


async def test_crl_numbers_rise_through_restarts(tmp_path: Path) -> None:
    numbers, authority = [], Authority.make()
    for _ in range(2):
        async with Responder(authority) as responder:
            for _ in range(3):
                made = x509.load_der_x509_crl((await get(responder.urls().crl(CrlForm.FULL)))[2])
                numbers.append(made.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number)
    assert numbers == sorted(set(numbers))


async def test_crl_numbers_rise_while_the_clock_stands_still(tmp_path: Path) -> None:
    moment = datetime.now(UTC)
    async with answered(tmp_path / "f", now=lambda: moment) as chain:
        made = [x509.load_der_x509_crl((await get(chain.crl()))[2]) for _ in range(3)]
    numbers = [crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number for crl in made]
    assert numbers == sorted(set(numbers))


async def test_partitions_cover_all_reasons_between_them(tmp_path: Path) -> None:
    async with answered(tmp_path / "f", crl=CrlStyle.REASONS) as chain:
        points = x509.load_der_x509_certificate(chain.leaf).extensions.get_extension_for_class(
            x509.CRLDistributionPoints
        )
        covered: set[x509.ReasonFlags] = set()
        for point, form in zip(points.value, (CrlForm.KEYS, CrlForm.OTHERS), strict=True):
            crl = x509.load_der_x509_crl((await get(chain.crl(form)))[2])
            limits = crl.extensions.get_extension_for_class(x509.IssuingDistributionPoint).value
            assert limits.full_name == point.full_name
            assert limits.only_some_reasons == point.reasons
            covered |= set(point.reasons or ())
        assert covered == set(x509.ReasonFlags) - {x509.ReasonFlags.unspecified, x509.ReasonFlags.remove_from_crl}


async def test_certificates_and_crls_come_with_their_types(tmp_path: Path) -> None:
    async with answered(tmp_path / "f", plan=Plan(levels=2)) as chain:
        urls = chain.responder.urls()
        for url, kind in (
            (urls.crl(CrlForm.FULL), "application/pkix-crl"),
            (urls.ca(CaForm.CERTIFICATE), "application/pkix-cert"),
            (urls.ca(CaForm.BUNDLE), "application/pkcs7-mime"),
        ):
            status, headers, body = await get(url)
            assert (status, headers["Content-Type"]) == (200, kind)
            assert headers["Server"] == "countersign"
            status, headers, empty = await get(url, method="HEAD")
            assert (status, int(headers["Content-Length"]) in range(len(body) - 4, len(body) + 5), empty) == (
                200,
                True,
                b"",
            )
        held = pkcs7.load_der_pkcs7_certificates((await get(urls.ca(CaForm.BUNDLE)))[2])
        authority = chain.responder.authority
        assert set(held) == {x509.load_der_x509_certificate(issuer.der) for issuer in authority.issuers}


# Points in certificates


async def test_every_certificate_below_the_root_says_where_it_is_answered_for(tmp_path: Path) -> None:
    """A JVM looks at the intermediate before the leaf."""
    given = Authority.make(Plan(levels=2))
    async with Responder(given) as responder:
        authority = responder.authority
        assert authority.root == given.root
        leaf = issue(authority, NAME).chain[0]
        labels = ["intermediate-2", "intermediate-1", "root"]
        for certificate, label in zip((leaf, *authority.chain), labels, strict=True):
            facts, urls = read_certificate(certificate), responder.urls(label)
            assert facts.ocsp == (urls.ocsp,)
            assert facts.crl == (urls.crl(CrlForm.FULL),)
            assert facts.ca_issuers == (urls.ca(CaForm.CERTIFICATE),)
        for made, before in zip(authority.intermediates, given.intermediates, strict=True):
            assert (made.subject, made.public_key, made.not_after, made.path_length) == (
                before.subject, before.public_key, before.not_after, before.path_length,
            )  # fmt: skip
            assert made.facts.serial != before.facts.serial
        assert authority.root.signed(authority.intermediates[0])
        assert authority.intermediates[0].signed(authority.intermediates[1])


async def test_the_same_urls_give_the_same_serials_again(free_port: int) -> None:
    given, serials = Authority.make(), set()
    for _ in range(2):
        async with Responder(given, listen=("127.0.0.1", free_port)) as responder:
            serials.add(responder.authority.issuer.facts.serial)
    assert len(serials) == 1


async def test_the_urls_have_the_name_that_clients_know() -> None:
    async with Responder(Authority.make(), host="ocsp.lab.test") as responder:
        name = f"intermediate-1-{responder.authority.issuer.signer.key_id.hex()[:8]}"
        port = responder.addresses[0].rpartition(":")[2]
        assert responder.urls().ocsp == f"http://ocsp.lab.test:{port}/ocsp/{name}"


@pytest.mark.parametrize("host", ["", "a b", "a/b", "a@b", "é.test", "a" * 300])
def test_a_host_that_no_url_can_have_is_refused(host: str) -> None:
    with pytest.raises(UserError, match="cannot write URLs with the host"):
        Responder(Authority.make(), host=host)


async def test_a_certificate_can_be_made_for_a_responder_that_runs_elsewhere(free_port: int) -> None:
    """By its address alone; the serials are the same, so what one says of them is true of the other's."""
    given = Authority.make(Plan(levels=2))
    elsewhere = pointed_at(given, f"http://127.0.0.1:{free_port}/", CrlStyle.DELTA)
    leaf = issue(elsewhere, NAME).chain[0]
    async with Responder(given, listen=("127.0.0.1", free_port), crl=CrlStyle.DELTA) as responder:
        for ours, theirs in zip(elsewhere.issuers, responder.authority.issuers, strict=True):
            assert ours.facts.serial == theirs.facts.serial
        assert elsewhere.points == responder.authority.points
        for certificate, issuer in pairwise((leaf, *elsewhere.chain)):
            answers = await ask_all(certificate, issuer)
            assert [answer.verdict for answer in answers] == [Verdict.GOOD, Verdict.GOOD, Verdict.FOUND]
            unknown = await ask_all(certificate, None)  # who issued it is found first
            assert [answer.verdict for answer in unknown] == [Verdict.GOOD, Verdict.GOOD, Verdict.FOUND]
    for wrong in ("", "https://a/", "http://", "http://a b/", "a:80", "http://a/?q"):
        with pytest.raises(UserError, match="a responder is named by its address"):
            pointed_at(given, wrong)


async def test_a_responder_on_ipv6_has_urls_with_brackets(tmp_path: Path) -> None:
    async with answered(tmp_path / "f", listen=("::1", 0)) as chain:
        assert chain.ocsp.startswith("http://[::1]:")
        assert [answer.verdict for answer in await ask_all(chain.leaf, chain.issuer)] == [
            Verdict.GOOD, Verdict.GOOD, Verdict.FOUND,
        ]  # fmt: skip


async def test_several_authorities_are_answered_for_side_by_side() -> None:
    authorities = Authority.make(), Authority.make(Plan(levels=0))
    async with Responder(*authorities) as responder:
        assert responder.labels == ("root", "intermediate-1", "2-root")
        for authority in responder.authorities:
            leaf = issue(authority, NAME).chain[0]
            answers = await ask_all(leaf, authority.issuer.der)
            assert [answer.verdict for answer in answers] == [Verdict.GOOD, Verdict.GOOD, Verdict.FOUND]


async def test_an_issuer_whose_key_is_elsewhere_is_left_as_it_is() -> None:
    whole = Authority.make(Plan(levels=2))
    given = replace(whole, root=replace(whole.root, held=None))
    async with Responder(given) as responder:
        assert responder.authority.intermediates[0] == whole.intermediates[0]
        leaf = issue(responder.authority, NAME).chain[0]
        assert (await ask(responder.urls().ocsp, leaf, responder.authority.issuer.der)).verdict is Verdict.GOOD
        with pytest.raises(UserError, match="no issuer called 'root' is answered for"):
            responder.urls("root")


# Time


async def test_a_clock_that_runs_faster_shortens_what_lasts_and_nothing_begins_ahead(tmp_path: Path) -> None:
    for clock, lasts in ((1, 86400), (1000, 86), (1e9, 1)):
        async with answered(tmp_path / str(clock), manner=Manner(clock=clock)) as chain:
            before = datetime.now(UTC)
            for url, kind in ((chain.ocsp, Kind.OCSP), (chain.crl(), Kind.CRL)):
                answer = await ask(url, chain.leaf, chain.issuer, kind=kind)
                assert answer.verdict is Verdict.GOOD
                assert answer.this_update is not None
                assert answer.next_update is not None
                assert answer.this_update <= before
                left = (answer.next_update - before).total_seconds()
                assert lasts - 1.5 <= left <= lasts + 1.5
            _, _, body = await get(chain.ocsp, method="POST", data=question(chain))
            (delegate,) = library.load_der_ocsp_response(body).certificates
            assert delegate.not_valid_before_utc <= before


async def test_an_answer_is_stale_when_its_time_is_over(tmp_path: Path) -> None:
    moment = datetime.now(UTC)
    async with answered(tmp_path / "f", now=lambda: moment) as chain:
        for days, verdict in ((0, Verdict.GOOD), (2, Verdict.GOOD), (40, Verdict.GOOD)):
            moment = datetime.now(UTC) + timedelta(days=days)
            answer = await ask(chain.ocsp, chain.leaf, chain.issuer, now=chain.responder.answers.now)
            assert answer.verdict is verdict, answer.text  # the delegate of day 0 has been replaced by day 40
        old = await ask(chain.ocsp, chain.leaf, chain.issuer, now=lambda: moment + timedelta(days=2))
        assert old.verdict is Verdict.UNUSABLE


@pytest.mark.parametrize("clock", [0.5, 0, -1, float("nan"), 1e12])
def test_a_clock_cannot_run_slower(clock: float) -> None:
    with pytest.raises(UserError, match="the clock of a responder runs 1 to 1e9 times as fast"):
        Manner(clock=clock)


# Doors


async def test_a_refused_port_stays_ours_and_opens_again(tmp_path: Path) -> None:
    async with answered(tmp_path / "f") as chain:
        port = int(chain.responder.addresses[0].rpartition(":")[2])
        for _ in range(3):
            await chain.fault("refuse")
            assert "refused" in (await ask(chain.ocsp, chain.leaf, chain.issuer)).text
            for reuse in (False, True):
                with pytest.raises(OSError, match="in use"):
                    await asyncio.start_server(lambda *_: None, "127.0.0.1", port, reuse_address=reuse)
            await chain.fault()
            assert (await ask(chain.ocsp, chain.leaf, chain.issuer)).verdict is Verdict.GOOD


async def test_a_port_that_is_refused_from_the_start_is_ours_as_well() -> None:
    async with Responder(Authority.make(), faults=[parse_fault("refuse")]) as responder:
        port = int(responder.addresses[0].rpartition(":")[2])
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        with pytest.raises(OSError, match="in use"):
            await asyncio.start_server(lambda *_: None, "127.0.0.1", port, reuse_address=True)


async def test_connections_that_are_open_do_not_survive_a_refusal(tmp_path: Path) -> None:
    async with answered(tmp_path / "f") as chain:
        port = int(chain.responder.addresses[0].rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        path = path_of(chain.responder.urls("root").ca(CaForm.CERTIFICATE))
        writer.write(b"GET " + path + b" HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        await chain.fault("refuse")
        with pytest.raises(ConnectionError):
            await reader.read()
        writer.close()


async def test_one_kind_and_one_issuer_are_refused_alone_where_ports_are_apart(tmp_path: Path) -> None:
    async with answered(tmp_path / "f", apart=True) as chain:
        root = chain.responder.authority.root.der
        assert len(set(chain.responder.addresses)) == 6

        async def verdicts() -> list[list[str]]:
            return [
                [answer.verdict.value for answer in await ask_all(chain.leaf, chain.issuer)],
                [answer.verdict.value for answer in await ask_all(chain.issuer, root)],
            ]

        await chain.fault("ocsp:refuse,issuer=root")
        assert await verdicts() == [["good", "good", "found"], ["no answer", "good", "found"]]
        await chain.fault("crl:refuse")
        assert await verdicts() == [["good", "no answer", "found"]] * 1 + [["good", "no answer", "found"]]
        await chain.fault("refuse,issuer=intermediate-1")
        assert await verdicts() == [["no answer"] * 3, ["good", "good", "found"]]


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ("ocsp:refuse", "needs a port for each kind of URL and each issuer (--apart)"),
        ("refuse,issuer=root", "needs a port for each kind of URL and each issuer (--apart)"),
        ("hang,issuer=intermediate-7", "names no issuer here: there are root, intermediate-1"),
    ],
)
def test_a_fault_that_cannot_happen_here_is_said(fault: str, complaint: str) -> None:
    with pytest.raises(UserError) as raised:
        Responder(Authority.make(), faults=[parse_fault(fault)])
    assert complaint in str(raised.value)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "example.com", ""])
def test_only_loopback_is_listened_on_unless_asked(host: str) -> None:
    with pytest.raises(UserError, match="everybody who reaches it could ask; say that this is meant"):
        Responder(Authority.make(), listen=(host, 0))
    Responder(Authority.make(), listen=(host, 0), beyond_loopback=True)


async def test_a_taken_port_is_a_sentence_and_nothing_stays_open(tmp_path: Path) -> None:
    async with answered(tmp_path / "f") as chain:
        port = int(chain.responder.addresses[0].rpartition(":")[2])
        other = Responder(Authority.make(), listen=("127.0.0.1", port))
        with pytest.raises(EnvironmentFault, match=f"cannot listen on 127.0.0.1:{port}: .*choose another port"):
            await other.start()
        assert other.addresses == []


async def test_a_host_without_an_address_is_a_sentence() -> None:
    other = Responder(Authority.make(), listen=("no.such.host.invalid", 0), beyond_loopback=True)
    with pytest.raises(EnvironmentFault, match=r"cannot listen on no\.such\.host\.invalid:0"):
        await other.start()


async def test_it_can_be_stopped_while_clients_hang(tmp_path: Path) -> None:
    async with answered(tmp_path / "f", "hang") as chain:
        tasks = [asyncio.create_task(ask(chain.ocsp, chain.leaf, chain.issuer)) for _ in range(5)]
        server = chain.responder._server
        assert server is not None
        await until(lambda: len(server.connections) == 5)
    answers = await asyncio.wait_for(asyncio.gather(*tasks), 5)
    assert {answer.verdict for answer in answers} == {Verdict.NO_ANSWER}


async def test_before_the_start_there_is_nothing_to_ask() -> None:
    with pytest.raises(RuntimeError, match="the responder has not been started"):
        Responder(Authority.make()).urls()
    with pytest.raises(UserError, match="a responder needs an authority"):
        Responder()


# Faults in order, and what is remembered


async def test_a_fault_befalls_only_so_many_questions(tmp_path: Path) -> None:
    async with answered(tmp_path / "f", "ocsp:tryLater,times=2", "crl:404,times=1") as chain:
        texts = [(await ask(chain.ocsp, chain.leaf, chain.issuer)).text for _ in range(3)]
        assert texts[:2] == ["declined: tryLater"] * 2
        assert texts[2].startswith("good")
        listed = [await ask(chain.crl(), chain.leaf, chain.issuer, kind=Kind.CRL) for _ in range(2)]
        assert [answer.verdict for answer in listed] == [Verdict.NO_ANSWER, Verdict.GOOD]
        await chain.fault("ocsp:tryLater,times=2")  # asked for again, it happens again
        assert (await ask(chain.ocsp, chain.leaf, chain.issuer)).text == "declined: tryLater"


async def test_dates_at_the_ends_of_time_can_be_answered(tmp_path: Path) -> None:
    for date in ("0001-01-01", "1949-12-31", "1950-01-01", "2049-12-31", "2050-01-01", "9999-12-31T23:59:59Z"):
        async with answered(tmp_path / date[:4], f"revoked=@{date},serial=SERIAL") as chain:
            answers = await ask_all(chain.leaf, chain.issuer)
            assert [answer.verdict for answer in answers[:2]] == [Verdict.REVOKED] * 2
            assert {f"{answer.revoked_at:%m-%d}" for answer in answers[:2]} == {date[5:10]}


async def test_each_question_is_remembered_with_its_answer(tmp_path: Path) -> None:
    seen: list[Asked] = []
    async with answered(tmp_path / "f", on_asked=seen.append) as chain:
        seen.clear()
        chain.responder.asked.clear()
        await ask(chain.ocsp, chain.leaf, chain.issuer)
        await chain.fault("revoked=keyCompromise@2026-01-31", "slow=0.05")
        await ask(chain.ocsp, chain.leaf, chain.issuer, method="GET")
        await chain.fault("crl:truncated")
        await ask(chain.crl(), chain.leaf, chain.issuer, kind=Kind.CRL)
        await chain.fault()
        await get(chain.responder.urls().ca(CaForm.CERTIFICATE))
        await get(chain.ocsp.replace("/ocsp/", "/elsewhere/"))
        await get(chain.ocsp, method="DELETE")
        serial = f"{chain.serial:x}"
        told = [(asked.kind, asked.method, asked.serials, asked.issuer, asked.status, asked.faults) for asked in seen]
        leaf = "intermediate-1"
        assert told == [
            (Kind.OCSP, "POST", (serial,), leaf, 200, ()),
            (Kind.OCSP, "GET", (serial,), leaf, 200, ("revoked=keyCompromise@2026-01-31T00:00:00Z", "slow=0.05")),
            (Kind.CRL, "GET", (), leaf, 200, ("crl:truncated",)),
            (Kind.AIA, "GET", (), leaf, 200, ()),
            (None, "GET", (), None, 404, ()),
            (None, "DELETE", (), None, 405, ()),
        ]
        answers = [asked.answer for asked in seen]
        assert answers[0] == "good"
        assert answers[1] == (
            "revoked (keyCompromise) on 2026-01-31T00:00:00Z [revoked=keyCompromise@2026-01-31T00:00:00Z, slow=0.05]"
        )
        assert answers[2].startswith("the first ")
        assert answers[2].endswith(" with 0 entries [crl:truncated]")
        assert answers[3].startswith("the certificate of CN=countersign inspection intermediate")
        assert seen[0].url == chain.ocsp
        assert seen[1].url.startswith(f"{chain.ocsp}/M")
        assert seen[1].seconds >= 0.05
        assert all(asked.client.startswith("127.0.0.1:") for asked in seen)
        assert list(chain.responder.asked) == seen
        form = seen[0].to_json(seen[0].monotonic - 1.5)
        assert form == {"url": chain.ocsp, "asked_at": 1.5, "answer": "good"}
        assert json.loads(json.dumps(form)) == form


async def test_who_left_is_remembered_as_one_who_left(tmp_path: Path) -> None:
    async with answered(tmp_path / "f", "hang") as chain:
        task = asyncio.create_task(ask(chain.ocsp, chain.leaf, chain.issuer))
        server = chain.responder._server
        assert server is not None
        await until(lambda: any(connection._current_request for connection in server.connections))
        task.cancel()
        count = len(chain.responder.asked)
        await until(lambda: len(chain.responder.asked) > count)
        assert chain.responder.asked[-1].answer.startswith("nothing [hang]; the client left after ")


# Stapling and entering


async def test_a_certificate_of_somebody_else_is_neither_stapled_nor_revoked(tmp_path: Path) -> None:
    async with answered(tmp_path / "f") as chain:
        stranger = issue(Authority.make(), NAME).chain[0]
        with pytest.raises(UserError, match="that issuer is not served here"):
            chain.responder.staple(stranger)
        with pytest.raises(
            UserError, match=r"cannot revoke 'CN=revoked\.lab\.test': it was issued by '.*', not by this CA"
        ):
            chain.responder.revoke(stranger)
        for nonsense in (b"", b"junk", stranger[:-1]):
            with pytest.raises(UserError, match="cannot"):
                chain.responder.staple(nonsense)
            with pytest.raises(UserError, match="cannot"):
                chain.responder.revoke(nonsense)


async def test_a_bare_serial_is_of_who_issues_leaves_unless_said(tmp_path: Path) -> None:
    async with answered(tmp_path / "f", manner=Manner(SignedBy.ISSUER)) as chain:
        entry = chain.responder.revoke(chain.serial)
        assert (await ask(chain.ocsp, chain.leaf, chain.issuer)).verdict is Verdict.REVOKED
        assert entry.issuer == chain.responder.authority.issuer.signer.key_id.hex()
        root = chain.responder.authority.root
        of_root = chain.responder.revoke(serial_of(chain.issuer), issuer="root")
        assert of_root.issuer == root.signer.key_id.hex()
        assert (await ask_all(chain.issuer, root.der))[0].verdict is Verdict.REVOKED
