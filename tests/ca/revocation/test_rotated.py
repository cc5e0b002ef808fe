"""Revocation beyond a rotation: old certificates find their old issuer, and a responder that runs finds the new one."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from countersign.ca import Authority, Plan, issue
from countersign.ca.authority import Issuer
from countersign.ca.pem import to_pem
from countersign.ca.revocation import Entry, Kind, Reason, Register, Responder, Verdict, ask, ask_all, entry_for, named
from countersign.ca.revocation.ocsp import serial_of
from countersign.ca.revocation.points import CaForm, CrlForm, pointed_at
from countersign.errors import UserError
from tests.ca.revocation.lab import crl_pem
from tests.cli.commands import countersign
from tests.peers.process import run

if TYPE_CHECKING:
    from pathlib import Path

NEW_KEY: list[dict[str, Any]] = [{}, {"same_name": True}]
AT = datetime(2026, 1, 31, 8, tzinfo=UTC)


def generations(directory: Path) -> tuple[Authority, ...]:
    found = Authority.load(directory)
    return found, *(retired.authority for retired in found.retired)


@pytest.mark.peer("openssl")
@pytest.mark.parametrize("how", NEW_KEY)
async def test_what_was_issued_before_a_rotation_is_checked_with_its_old_urls(
    tmp_path: Path, how: dict[str, Any]
) -> None:
    directory = tmp_path / "ca"
    Authority.create(directory)
    register = Register.of_home(directory)
    async with Responder(
        *generations(directory), register=register, reopen=lambda: generations(directory)
    ) as responder:
        old, where = responder.authority, responder.urls()
        leaf = issue(old, "old.lab.test").chain[0]
        Authority.load(directory).rotate("intermediate", **how)
        assert await verified(tmp_path, leaf, old, where.crl(CrlForm.FULL), responder) == (0, "")
        served = (await ask(where.ca(CaForm.CERTIFICATE), leaf, old.issuer.der, kind=Kind.AIA)).body
        assert Issuer.of(served).public_key == old.issuer.public_key  # the signature is another one each time
        assert serial_of(served) == serial_of(old.issuer.der)

        new = responder.authority
        fresh = issue(new, "new.lab.test").chain[0]
        for certificate, issuer in ((leaf, old.issuer.der), (fresh, new.issuer.der)):
            verdicts = [answer.verdict for answer in await ask_all(certificate, issuer)]
            assert verdicts == [Verdict.GOOD, Verdict.GOOD, Verdict.FOUND]
        assert responder.urls().ca(CaForm.CERTIFICATE) != where.ca(CaForm.CERTIFICATE)

        responder.revoke(leaf, reason=Reason.KEY_COMPROMISE)
        code, said = await verified(tmp_path, leaf, old, where.crl(CrlForm.FULL), responder)
        assert (code, "certificate revoked" in said) == (2, True)
        assert (await ask_all(fresh, new.issuer.der))[1].verdict is Verdict.GOOD


async def verified(files: Path, leaf: bytes, old: Authority, url: str, responder: Responder) -> tuple[int, str]:
    """What ``openssl verify -crl_check_all`` makes of the leaf with the CRLs that are there now."""
    urls = (url, responder.urls("root").crl(CrlForm.FULL))
    crls = [crl_pem((await ask(each, leaf, old.issuer.der, kind=Kind.CRL)).body) for each in urls]
    for name, data in {
        "leaf.pem": to_pem(leaf),
        "root.pem": to_pem(old.root.der),
        "between.pem": to_pem(old.issuer.der),
        "all.crl": b"".join(crls),
    }.items():
        (files / name).write_bytes(data)
    done = await asyncio.to_thread(
        run,
        *("openssl", "verify", "-crl_check_all", "-CAfile", files / "root.pem", "-untrusted", files / "between.pem"),
        *("-CRLfile", files / "all.crl", files / "leaf.pem"),
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("apart", [False, True])
async def test_a_responder_that_runs_answers_for_an_issuer_that_came_later(tmp_path: Path, *, apart: bool) -> None:
    directory = tmp_path / "ca"
    old = Authority.create(directory)
    async with Responder(old, apart=apart, reopen=lambda: generations(directory)) as responder:
        before = responder.authority
        leaf = issue(before, "old.lab.test").chain[0]
        Authority.load(directory).rotate("root")
        await ask(responder.urls().ocsp, leaf, before.issuer.der)
        fresh = issue(responder.authority, "new.lab.test").chain[0]
        assert responder.labels == ("root", "intermediate-1", "2-root", "2-intermediate-1")
        assert responder.authority.root.der == Authority.load(directory).root.der != old.root.der
        for certificate, issuer in ((leaf, before.issuer.der), (fresh, responder.authority.issuer.der)):
            verdicts = [answer.verdict for answer in await ask_all(certificate, issuer)]
            assert verdicts == [Verdict.GOOD, Verdict.GOOD, Verdict.FOUND]
        assert len(responder.addresses) == (12 if apart else 1)


async def test_generations_that_cannot_be_read_leave_the_responder_as_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "ca"
    old = Authority.create(directory)
    async with Responder(old, reopen=lambda: generations(directory)) as responder:
        leaf = issue(responder.authority, "old.lab.test").chain[0]
        (directory / "generations.json").write_text("junk")
        (directory / "generations.json").chmod(0o600)
        for _ in range(2):
            answer = await ask(responder.urls().ocsp, leaf, responder.authority.issuer.der)
            assert answer.verdict is Verdict.GOOD
    (said,) = [record.getMessage() for record in caplog.records if "rotated" in record.getMessage()]
    assert "stays with what it had" in said


def test_the_urls_of_an_issuer_are_the_same_in_every_generation(tmp_path: Path) -> None:
    old = Authority.create(tmp_path / "ca")
    renewed = old.rotate("intermediate", same_key=True)
    rotated = Authority.load(tmp_path / "ca").rotate("intermediate")
    first, same, other = (pointed_at(each, "http://127.0.0.1:1").points for each in (old, renewed, rotated))
    assert first == same != other
    assert [*named(rotated, *(each.authority for each in rotated.retired))] == [
        "root", "intermediate-1", "2-intermediate-1",
    ]  # fmt: skip


def test_a_leaf_is_told_by_its_signature_where_two_issuers_have_one_name() -> None:
    old = Authority.make()
    new = old.rotate("intermediate", same_name=True)
    for order in ((old, new), (new, old)):
        for each in (old, new):
            entry = entry_for(named(*order), issue(each, "a.lab.test").chain[0], "root", AT)
            assert entry.issuer == each.issuer.signer.key_id.hex()


ONE = Entry("ab", 7, AT, reason=Reason.KEY_COMPROMISE, name="CN=a")
LATER = AT.replace(month=3)


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        (Reason.UNSPECIFIED, ONE),
        (Reason.KEY_COMPROMISE, ONE),
        (Reason.SUPERSEDED, replace(ONE, reason=Reason.SUPERSEDED)),
    ],
)
def test_who_is_revoked_twice_keeps_the_first_date(tmp_path: Path, reason: Reason, expected: Entry) -> None:
    register = Register(tmp_path / "revoked.json")
    register.revoke(ONE)
    assert register.revoke(replace(ONE, at=LATER, reason=reason, name="")) == expected
    assert list(Register(tmp_path / "revoked.json")) == [expected]


def test_a_revocation_for_good_does_not_become_a_hold_but_a_hold_one_for_good() -> None:
    register = Register()
    register.revoke(replace(ONE, reason=Reason.CERTIFICATE_HOLD))
    assert register.revoke(replace(ONE, at=LATER)) == ONE
    with pytest.raises(UserError, match=r"cannot put the certificate 7 on hold: it was revoked for keyCompromise on"):
        register.revoke(replace(ONE, reason=Reason.CERTIFICATE_HOLD))
    assert list(register) == [ONE]


def test_a_second_revocation_is_told_as_one(home: Path) -> None:
    home.mkdir(mode=0o700)
    Authority.create(home / "ca")
    assert countersign("ca", "revoke", "1f", "--reason", "keyCompromise", "--at", "2026-01-31T08:00Z").code == 0
    for words, said in (
        ((), "1f: already revoked (keyCompromise) since 2026-01-31T08:00:00Z\n"),
        (("--reason", "superseded"), "1f: revoked (superseded) since 2026-01-31T08:00:00Z\n"),
        (("--reason", "superseded"), "1f: already revoked (superseded) since 2026-01-31T08:00:00Z\n"),
    ):
        assert countersign("ca", "revoke", "1f", *words).out == said
    assert countersign("ca", "revoke").out == "1f: revoked (superseded) since 2026-01-31T08:00:00Z\n"


def test_a_root_is_not_revoked(home: Path, tmp_path: Path) -> None:
    home.mkdir(mode=0o700)
    authority = Authority.create(home / "ca", Plan(levels=2))
    file = tmp_path / "root.pem"
    file.write_bytes(authority.root_pem)
    for what in (str(file), f"{serial_of(authority.root.der):x}"):
        ran = countersign("ca", "revoke", what)
        assert (ran.code, ran.out) == (2, "")
        assert "it is a root, whose revocation nobody looks up; take it out of the trust stores" in ran.err
    assert not (home / "ca" / "revoked.json").exists()
