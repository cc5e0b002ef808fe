"""``countersign ca revoke`` and ``countersign ca responder`` as a user calls them."""

from __future__ import annotations

import asyncio
import json
import stat
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from countersign.ca import Authority, Plan, issue
from countersign.ca.pem import certificates_in, to_pem
from countersign.ca.revocation import Kind, Verdict, ask, ask_all, pointed_at
from countersign.ca.revocation.ocsp import serial_of
from countersign.ca.revocation.points import CrlForm, Urls, url_name
from tests.cli.commands import countersign
from tests.peers.process import Background, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def authority(home: Path) -> Authority:
    home.mkdir(mode=0o700)
    return Authority.create(home / "ca", Plan(levels=2))


@contextmanager
def responder(home: Path, *words: str | Path) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The real program; its address, and what it has logged once it has ended."""
    ready, log = home / "responder.json", list[dict[str, Any]]()
    process = Background(
        *(sys.executable, "-m", "countersign", "ca", "responder", "--ready-file", ready, *words),
        env={"COUNTERSIGN_HOME": str(home)},
    )
    with process:
        deadline = time.monotonic() + 30
        while not ready.exists():
            assert not process.ended(), process.stderr
            assert time.monotonic() < deadline, process.stderr
            time.sleep(0.02)
        yield f"http://{json.loads(ready.read_text())['listen']}", log
        done = process.stop()
    assert done.returncode == 0, done.stderr
    log += [json.loads(line) for line in done.stderr.splitlines()]


def urls(base: str, authority: Authority, number: int = 2) -> Urls:
    return Urls("", url_name(authority.issuers[number], number), base, base, base)


def test_what_is_revoked_is_seen_by_a_responder_that_runs(home: Path, authority: Authority, tmp_path: Path) -> None:
    with responder(home) as (base, log):
        pointed = pointed_at(authority, base)
        leaf = issue(pointed, "a.lab.test").chain[0]
        file = tmp_path / "leaf.pem"
        file.write_bytes(to_pem(leaf))

        def verdicts() -> list[Verdict]:
            return [answer.verdict for answer in asyncio.run(ask_all(leaf, pointed.issuer.der))]

        assert verdicts() == [Verdict.GOOD, Verdict.GOOD, Verdict.FOUND]
        ran = countersign("ca", "revoke", file, "--reason", "certificateHold")
        assert (ran.code, ran.err) == (0, "")
        assert ran.out.startswith(f"{serial_of(leaf):x}: revoked (certificateHold) since 20")
        assert ran.out.endswith("Z  CN=a.lab.test\n")
        assert verdicts() == [Verdict.REVOKED, Verdict.REVOKED, Verdict.FOUND]
        assert countersign("ca", "revoke", f"{serial_of(leaf):x}", "--release").code == 0
        assert verdicts() == [Verdict.GOOD, Verdict.GOOD, Verdict.FOUND]
        assert countersign("ca", "revoke", file, "--unknown").code == 0
        assert verdicts() == [Verdict.UNKNOWN, Verdict.GOOD, Verdict.FOUND]
    told = [line for line in log if line["event"] == "asked"]
    assert {"good", "unknown"} < {line["answer"] for line in told}
    assert all(line["about"] == [f"{serial_of(leaf):x}"] for line in told if "/ocsp/" in line["url"])
    assert stat.S_IMODE((home / "ca" / "revoked.json").stat().st_mode) == 0o600
    assert not (home / "responder.json").exists()


def test_faults_and_revocations_of_the_command_line_are_for_this_run_alone(
    home: Path, authority: Authority, tmp_path: Path
) -> None:
    leaf = issue(authority, "a.lab.test").chain[0]
    file = tmp_path / "chain.pem"
    with responder(
        home, "--fault", "crl:404,issuer=root", "--fault", "ocsp:tryLater,times=1", "--revoke", f"{serial_of(leaf):x}",
        "--chain", file, "--clock", "1000", "--signed-by", "issuer", "--responder-id", "name", "--crl", "delta",
    ) as (base, log):  # fmt: skip
        issuer, root = authority.issuer.der, authority.root.der
        first, second = (asyncio.run(ask(urls(base, authority).ocsp, leaf, issuer)) for _ in range(2))
        assert first.text == "declined: tryLater"
        assert second.verdict is Verdict.REVOKED
        assert second.signer == authority.issuer.facts.subject
        assert second.next_update is not None
        assert (second.next_update - second.at).total_seconds() < 90
        for form, verdict in ((CrlForm.FULL, Verdict.REVOKED), (CrlForm.DELTA, Verdict.REVOKED)):
            assert asyncio.run(ask(urls(base, authority).crl(form), leaf, issuer, kind=Kind.CRL)).verdict is verdict
        of_root = asyncio.run(ask(urls(base, authority, 0).crl(CrlForm.FULL), authority.chain[-1], root, kind=Kind.CRL))
        assert of_root.text == "no answer: HTTP 404"
        assert file.read_bytes().count(b"BEGIN CERTIFICATE") == 2
    events = {line["event"]: line for line in log}
    assert events["answers are wrong on purpose"]["faults"][:2] == ["crl:http=404,issuer=root", "tryLater,times=1"]
    assert countersign("ca", "revoke").out == "no certificate is revoked\n"


@pytest.mark.peer("openssl")
def test_a_certificate_is_issued_for_a_responder_with_its_whole_chain(
    home: Path, authority: Authority, tmp_path: Path
) -> None:
    """And one that keytool or openssl has asked for, too."""
    request = tmp_path / "request.pem"
    run("openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=b",
        "-keyout", tmp_path / "key.pem", "-out", request).check()  # fmt: skip
    with responder(home) as (base, _):
        for words in (("issue", "a.lab.test"), ("sign", request, "--eku", "server")):
            out = tmp_path / f"{words[0]}.pem"
            ran = countersign("ca", *words, "--responder", base, "--out", out)
            assert ran.code == 0, ran.err
            chain = certificates_in(out.read_bytes())
            for certificate, issuer in zip(chain[:3], (*chain[1:3], authority.root.der), strict=True):
                answers = asyncio.run(ask_all(certificate, issuer))
                assert [answer.verdict for answer in answers] == [Verdict.GOOD, Verdict.GOOD, Verdict.FOUND]
    refused = countersign("ca", "issue", "a.lab.test", "--responder", "ftp://a/")
    assert (refused.code, "a responder is named by its address" in refused.err) == (2, True)


def test_each_issuer_is_told_at_the_start_with_its_urls(home: Path, authority: Authority) -> None:
    with responder(home, "--host", "ocsp.lab.test") as (base, log):
        port = base.rpartition(":")[2]
    told = {line["issuer"]: line for line in log if line["event"] == "answering"}
    assert [*told] == ["root", "intermediate-1", "intermediate-2"]
    name = f"root-{authority.root.signer.key_id.hex()[:8]}"
    assert told["root"]["ocsp"] == f"http://ocsp.lab.test:{port}/ocsp/{name}"
    assert told["root"]["crl"] == [f"http://ocsp.lab.test:{port}/crl/{name}.crl"]
    assert told["root"]["ca_issuers"] == f"http://ocsp.lab.test:{port}/aia/{name}.cer"


def test_revoked_certificates_are_listed(home: Path, authority: Authority, tmp_path: Path) -> None:
    file = tmp_path / "intermediate.pem"
    file.write_bytes(to_pem(authority.issuer.der))
    serial = serial_of(authority.issuer.der)
    assert (
        countersign("ca", "revoke", "1f:3A", "-0x7", "--at", "2026-01-31T08:00:00Z", "--reason", "superseded").code == 2
    )
    ran = countersign(
        "ca", "revoke", "--at", "2026-01-31T08:00:00Z", "--reason", "superseded", "--", "1f:3A", "-0x7", file
    )
    assert ran.code == 0, ran.err
    listed = countersign("ca", "revoke")
    assert listed.out.splitlines() == [
        "1f3a: revoked (superseded) since 2026-01-31T08:00:00Z",
        "-7: revoked (superseded) since 2026-01-31T08:00:00Z",
        f"{serial:x}: revoked (superseded) since 2026-01-31T08:00:00Z  {authority.issuer.facts.subject}",
    ]
    document = countersign("ca", "revoke", "--json").json()
    assert document["schema"] == 1
    one, _, other = document["certificates"]
    assert one == {
        "issuer": authority.issuer.signer.key_id.hex(), "serial": "1f3a", "state": "revoked", "reason": "superseded",
        "at": "2026-01-31T08:00:00Z", "name": "",
    }  # fmt: skip
    assert other["issuer"] == authority.intermediates[0].signer.key_id.hex()
    of_root = countersign("ca", "revoke", "5", "--issuer", "root", "--json").json()
    assert of_root["certificates"][0]["issuer"] == authority.root.signer.key_id.hex()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["xyz"], "cannot revoke 'xyz': expected a file that exists, or a serial number as 1f:3a"),
        (["1", "--reason", "boredom"], "there is no reason 'boredom' to revoke a certificate"),
        (["1", "--reason", "removeFromCRL"], "--reason removeFromCRL is the end of a hold: say --release"),
        (["1", "--release"], "cannot release the certificate 1: it is not on hold"),
        (["1", "--release", "--reason", "superseded"], "--release ends a hold and goes with neither"),
        (["1", "--release", "--unknown"], "--release ends a hold and goes with neither"),
        (["1", "--at", "soon"], "--at takes a time such as"),
        (["1", "--issuer", "nobody"], "--issuer takes root, intermediate-1, intermediate-2; got 'nobody'"),
        (["stranger.pem"], "cannot revoke 'CN=b.lab.test': it was issued by "),
        (["junk.pem"], "cannot revoke what is in "),
    ],
)
def test_what_cannot_be_revoked_is_said(
    authority: Authority, home: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], complaint: str
) -> None:
    monkeypatch.chdir(home)
    (home / "stranger.pem").write_bytes(to_pem(issue(Authority.make(), "b.lab.test").chain[0]))
    (home / "junk.pem").write_bytes(b"junk")
    ran = countersign("ca", "revoke", *words)
    assert (ran.code, ran.out) == (2, "")
    assert complaint in ran.err
    assert not (home / "ca" / "revoked.json").exists()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--listen", "0.0.0.0:0"], "say that this is meant (--beyond-loopback), or listen on 127.0.0.1"),
        (["--listen", "nowhere"], "--listen takes HOST:PORT"),
        (["--fault", "nonsense"], "there is no fault 'nonsense'"),
        (["--fault", "ocsp:refuse"], "needs a port for each kind of URL and each issuer (--apart)"),
        (["--fault", "hang,issuer=leaf"], "names no issuer here: there are root, intermediate-1, intermediate-2"),
        (["--crl", "none"], "--crl takes full, delta, reasons; got 'none'"),
        (["--signed-by", "me"], "--signed-by takes delegate, issuer; got 'me'"),
        (["--responder-id", "x"], "--responder-id takes key, name; got 'x'"),
        (["--lifetime", "0"], "--lifetime takes hours, a second to ten years; got 0"),
        (["--lifetime", "nan"], "--lifetime takes hours, a second to ten years; got nan"),
        (["--clock", "0.5"], "the clock of a responder runs 1 to 1e9 times as fast, got 0.5"),
        (["--revoke", "xyz"], "cannot revoke 'xyz'"),
        (["--host", "a b"], "cannot write URLs with the host 'a b'"),
    ],
)
def test_a_responder_that_cannot_be_is_a_sentence(
    home: Path, authority: Authority, words: list[str], complaint: str
) -> None:
    ran = countersign("ca", "responder", *words)
    assert (ran.code, ran.out) == (2, "")
    assert complaint in ran.err


def test_without_a_ca_there_is_nothing_to_answer_for(home: Path) -> None:
    for command in ("responder", "revoke"):
        ran = countersign("ca", command)
        assert ran.code == 3
        assert "run `countersign ca init`" in ran.err
