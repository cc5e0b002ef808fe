"""Scenarios met by MID Servers of all releases at once: who breaks on what (R8), in the words of the articles."""

from __future__ import annotations

import re
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from countersign.recorder.recording import Party, Status
from countersign.scenarios.running.clients import Way
from countersign.scenarios.running.stage import Props, Stage
from countersign.scenarios.running.verdict import Kind
from tests.lab.mid import Said, classes, mids
from tests.scenarios.running.playing import QUICK_JAVA, known, playing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from countersign.recorder.recording import Recording

pytestmark = pytest.mark.peer("java", "javac")

CHAIN = ["orlando-p7a", "paris-p1hf3a", "paris-p2", "quebec"]
REVOCATION = ["orlando", "orlando-p7a", "paris", "paris-p1hf3a", "paris-p2", "quebec"]
BREAKS = {
    # Which releases do not get through. Java asks for the CRL where OCSP fails, so one of both resets nobody.
    "plain": [],
    "unknown-root": CHAIN,
    "self-signed": CHAIN,
    "missing-intermediate": CHAIN,
    "expired": CHAIN,
    "other-name": ["quebec"],
    "revocation-good": [],
    "ocsp-revoked": REVOCATION,
    "ocsp-reset": [],
    "crl-and-ocsp-reset": REVOCATION,
}


async def play(
    scenarios: Sequence[str], *args: object, folder: Path, way: Way = Way.CONNECT, ldap: bool = False
) -> dict[str, tuple[Said, tuple[Recording, ...]]]:
    """One client a scenario, on a stage of its own, all in one JVM."""
    async with Props() as props, AsyncExitStack() as opened:
        stages = [Stage(known().open(name), props, way=way, own_names=True, answers=True) for name in scenarios]
        clients = []
        for stage in stages:
            await opened.enter_async_context(stage)
            place = stage.place()
            where = ("--ldap", f"{place.host}:{place.port}") if ldap else ("--url", place.url)
            proxy = () if way is Way.REVERSE else ("--proxy", place.proxy)
            clients.append((*where, *proxy, "--truststore", place.trust_store, *args))
        said = await mids(*clients, folder=folder)
        for stage in stages:
            await stage.settle()
        return {name: (each, stage.recordings) for name, each, stage in zip(scenarios, said, stages, strict=True)}


@pytest.mark.peer("bcprov", "bctls")
@pytest.mark.parametrize("provider", ["sun", "bc", pytest.param("fips", marks=pytest.mark.long)])
async def test_a_release_breaks_on_what_it_checks_and_on_nothing_else(provider: str, tmp_path: Path) -> None:
    """R8"""
    met = await play(list(BREAKS), "--profile", "all", "--provider", provider, folder=tmp_path)
    assert {name: said.broken() for name, (said, _) in met.items()} == BREAKS
    for name, (said, recordings) in met.items():
        failed = [each.outcome for each in recordings if each.outcome.status is Status.FAILED]
        assert {each.broken_by for each in failed} <= {Party.CLIENT}
        for profile in BREAKS[name]:
            assert "Unable to get InstanceInfo: Request not sent to uri= https://" in said.of(profile)
        if BREAKS[name]:
            assert {"mid-request-not-sent", "mid-network-hint"} <= said.kinds


async def test_the_workaround_that_turns_ocsp_off_turns_the_chain_check_off_too(tmp_path: Path) -> None:
    """R8: one switch; the host name is still looked at, where the release does that."""
    names = ["ocsp-revoked", "unknown-root", "expired", "other-name"]
    met = await play(names, "--profile", "all", "--ocsp-off", folder=tmp_path)
    assert [said.broken() for said, _ in met.values()] == [[], [], [], ["quebec"]]


async def test_the_connection_to_a_dead_responder_is_told_as_in_the_article(tmp_path: Path) -> None:
    """R6: the first line names whom the certificate is for, the second why nobody was reached."""
    met = await play(["crl-and-ocsp-reset"], "--profile", "orlando", folder=tmp_path)
    said, _ = met["crl-and-ocsp-reset"]
    assert "WARNING *** WARNING *** OCSP revoke check IOException for instance.lab.test\n" in said.log
    assert "WARNING *** WARNING *** org.apache.commons.httpclient.HttpException: Connection reset\n" in said.log
    assert "mid-ocsp" in said.kinds


WORKER = "File sync worker: ecc_agent_jar"
SOAP = (
    '<SOAP-ENV:Envelope xmlns:xsd="http://www.w3.org/2001/XMLSchema" '
    'xmlns:SOAP-ENC="http://schemas.xmlsoap.org/soap/encoding/" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
    'xmlns:tns="http://www.service-now.com/GetMIDInfo" xmlns:m="http://www.service-now.com" '
    'xmlns:SOAP-ENV="http://schemas.xmlsoap.org/soap/envelope/" '
    'SOAP-ENV:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><SOAP-ENV:Body><m:execute>'
    '<attachments xsi:type="xsd:string">true</attachments><type xsi:type="xsd:string">ecc_agent_jar</type>'
    "</m:execute></SOAP-ENV:Body></SOAP-ENV:Envelope>"
)
NO_ISSUER, NO_CHAIN = (
    ("No issuer certificate for certificate in certification path found.", "untrusted-bc-no-issuer"),
    ("Unable to find certificate chain.", "untrusted-bc-no-chain"),
)
BOUNCY = {"missing-intermediate": NO_ISSUER, "unknown-root": NO_ISSUER, "unknown-root-sent": NO_CHAIN}
CAUSE = (
    "javax.net.ssl.SSLHandshakeException: sun.security.validator.ValidatorException: PKIX path building failed: "
    "java.security.cert.CertPathBuilderException: "
)


@pytest.mark.peer("bcprov", "bctls")
async def test_an_ldap_probe_meets_the_article_s_text(tmp_path: Path) -> None:
    """R5: LDAPS by JNDI, with Bouncy Castle as first provider."""
    met = await play(list(BOUNCY), "--provider", "bc", folder=tmp_path, way=Way.REVERSE, ldap=True)
    for name, (text, kind) in BOUNCY.items():
        said, recordings = met[name]
        assert said.log.startswith("MID Server reported error: javax.naming.CommunicationException: instance.lab.test:")
        assert f" [Root exception is {CAUSE}{text}]\nat " in said.log
        assert "com.sun.jndi.ldap.LdapCtxFactory.getLdapCtxInstance(" in said.log
        assert said.kinds == {kind}
        assert [each.outcome.broken_by for each in recordings] == [Party.CLIENT]


@pytest.mark.peer("bcprov", "bctls")
async def test_a_mid_server_behind_an_inspecting_device_says_what_the_article_says(tmp_path: Path) -> None:
    """K4, 1.2: the worker that gets the files, before it another instance's, and a probe of a script."""
    files = await play(["unknown-root-sent"], "--provider", "bc", folder=tmp_path)
    probe = await play(["unknown-root-sent"], "--provider", "bc", "--plain", folder=tmp_path)
    (asked, _), (probed, _) = files["unknown-root-sent"], probe["unknown-root-sent"]
    first, second, third = asked.log.splitlines()
    start = "StartupSequencer WARNING *** WARNING *** Unable to get InstanceInfo: Request not sent to uri= https://"
    assert first.startswith(start)
    assert first.endswith(f"/InstanceInfo.do?SOAP : {CAUSE}{NO_CHAIN[0]}")
    assert second.startswith(
        "(Network Configuration issue) Please check that the MID server can ping the instance: https://"
    )
    allow = "You may also need to configure the network that the MID server uses to allow traffic over TCP port"
    assert third == f"{allow} 443."
    assert probed.log == f"Worker-Standard:JavascriptProbe WARNING *** WARNING *** {CAUSE}{NO_CHAIN[0]}\n"


async def test_a_root_that_changes_in_mid_life_breaks_the_worker_that_gets_the_files(tmp_path: Path) -> None:
    """R20, K4, 1.2: the first requests went well; the lines are those of the article, word for word."""
    met = await play(["rotation-root"], "--provider", "bc", folder=tmp_path)
    said, recordings = met["rotation-root"]
    assert [each.outcome.status.value for each in recordings] == ["established", "established", "failed"]
    uri = re.findall(r"uri= (https://\S+/MIDFileSyncSnapshot\.do\?SOAP)", said.log)[0]
    problem = f"Request not sent to uri= {uri} : {CAUSE}{NO_ISSUER[0]}"
    assert said.log.splitlines()[-4:] == [
        f"{WORKER} WARNING *** WARNING *** {problem}",
        f"{WORKER} SEVERE *** ERROR *** SOAP Request: {SOAP}",
        f"{WORKER} SEVERE *** ERROR *** SOAP Response: Status code=0, Response body=null",
        f"{WORKER} WARNING *** WARNING *** Could not get file sync snapshot because: {problem}",
    ]


FIPS = [each.id for each in known().values() if each.family == "fips"]


@pytest.mark.peer("bcprov", "bctls")
async def test_in_fips_mode_what_is_not_approved_is_refused(tmp_path: Path) -> None:
    """R18, with Debian's Bouncy Castle in its approved mode, an approximation of bc-fips: what it lets pass although it
    is not approved stands with the scenarios, too.
    """
    met = await play(FIPS, "--provider", "fips", folder=tmp_path)
    for name, (said, recordings) in met.items():
        refused = known()[name].expect.expected("java-fips") == "refuse"
        assert said.code == int(refused), (name, said.log)
        assert {each.outcome.status is Status.ESTABLISHED for each in recordings} == {not refused}
    assert {name for name, (said, _) in met.items() if said.code == 0} == {
        "fips-p-256-and-aes", "fips-rsa-1024", "fips-rsa-key-exchange", "fips-signed-with-sha1",
    }  # fmt: skip


async def test_a_release_under_run_gets_a_verdict_for_each_scenario() -> None:
    """R8 the other way round: what Orlando Patch 7a lets pass although it should not."""
    argv = (*QUICK_JAVA, "-cp", classes().name, "MidClient", "--profile", "orlando-p7a", "--url", "{url}")
    async with playing(argv) as runner:
        made = await runner.matrix([known().open(name) for name in ("unknown-root", "other-name")], jobs=1)
    assert {each.scenario: each.verdict.kind for each in made.results} == {
        "unknown-root": Kind.REFUSED,
        "other-name": Kind.ACCEPTED_WRONGLY,
    }
