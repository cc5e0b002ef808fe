"""Scenarios met by MID Servers of all releases at once: who breaks on what (R8), in the words of the articles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from countersign.recorder.recording import Party, Status
from countersign.scenarios.running.clients import Way
from countersign.scenarios.running.stage import Props, Stage
from countersign.scenarios.running.verdict import Kind
from tests.lab.mid import Said, classes, mid
from tests.scenarios.running.playing import QUICK_JAVA, known, playing

if TYPE_CHECKING:
    from pathlib import Path

    from countersign.recorder.recording import Recording

pytestmark = pytest.mark.peer("java", "javac")

CHAIN = ["orlando-p7a", "paris-p1hf3a", "paris-p2", "quebec"]
REVOCATION = ["orlando", "orlando-p7a", "paris", "paris-p1hf3a", "paris-p2", "quebec"]


async def play(
    scenario: str, *args: object, folder: Path, way: Way = Way.CONNECT, ldap: bool = False
) -> tuple[Said, tuple[Recording, ...]]:
    async with (
        Props() as props,
        Stage(known().open(scenario), props, way=way, own_names=True, answers=True) as stage,
    ):
        place = stage.place()
        where = ("--ldap", f"{place.host}:{place.port}") if ldap else ("--url", place.url)
        proxy = () if way is Way.REVERSE else ("--proxy", place.proxy)
        said = await mid(*where, *proxy, "--truststore", place.trust_store, *args, folder=folder)
        await stage.settle()
        return said, stage.recordings


@pytest.mark.parametrize(
    ("scenario", "broken"),
    [
        ("other-name", ["quebec"]),
        pytest.param("unknown-root", CHAIN, marks=pytest.mark.long),
        ("ocsp-revoked", REVOCATION),
        pytest.param("plain", [], marks=pytest.mark.long),
        pytest.param("missing-intermediate", CHAIN, marks=pytest.mark.long),
        pytest.param("revocation-good", [], marks=pytest.mark.long),
        pytest.param("ocsp-reset", [], marks=pytest.mark.long),
        pytest.param("crl-and-ocsp-reset", REVOCATION, marks=pytest.mark.long),
    ],
)
async def test_a_release_breaks_on_what_it_checks_and_on_nothing_else(
    scenario: str, broken: list[str], tmp_path: Path
) -> None:
    """R8. Java asks for the CRL where OCSP fails, so one of both resets nobody."""
    said, recordings = await play(scenario, "--profile", "all", folder=tmp_path)
    assert said.broken() == broken, said.log
    assert {each.outcome.broken_by for each in recordings if each.outcome.status is Status.FAILED} <= {Party.CLIENT}
    for profile in broken:
        assert "Unable to get InstanceInfo: Request not sent to uri= https://" in said.of(profile)
    if broken:
        assert {"mid-request-not-sent", "mid-network-hint"} <= said.kinds


async def test_the_connection_to_a_dead_responder_is_told_as_in_the_article(tmp_path: Path) -> None:
    """R6: the first line names whom the certificate is for, the second why nobody was reached."""
    said, _ = await play("crl-and-ocsp-reset", "--profile", "orlando", folder=tmp_path)
    assert "WARNING *** WARNING *** OCSP revoke check IOException for " in said.log
    assert "WARNING *** WARNING *** org.apache.commons.httpclient.HttpException: " in said.log
    assert "mid-ocsp" in said.kinds


@pytest.mark.peer("bcprov", "bctls")
@pytest.mark.parametrize(
    ("scenario", "text", "kind"),
    [
        (
            "missing-intermediate",
            "No issuer certificate for certificate in certification path found.",
            "untrusted-bc-no-issuer",
        ),
        ("unknown-root-sent", "Unable to find certificate chain.", "untrusted-bc-no-chain"),
    ],
)
async def test_an_ldap_probe_meets_the_article_s_text(scenario: str, text: str, kind: str, tmp_path: Path) -> None:
    """R5: LDAPS by JNDI, with Bouncy Castle as first provider."""
    said, recordings = await play(scenario, "--provider", "bc", folder=tmp_path, way=Way.REVERSE, ldap=True)
    assert (
        "[Root exception is javax.net.ssl.SSLHandshakeException: sun.security.validator.ValidatorException: "
        f"PKIX path building failed: java.security.cert.CertPathBuilderException: {text}]"
    ) in said.log
    assert said.log.startswith("MID Server reported error: javax.naming.CommunicationException: instance.lab.test:")
    assert said.kinds == {kind}
    assert [each.outcome.broken_by for each in recordings] == [Party.CLIENT]


@pytest.mark.peer("bcprov", "bctls")
@pytest.mark.parametrize(
    ("scenario", "broken"),
    [
        ("fips-x25519-only", True),
        pytest.param("plain", False, marks=pytest.mark.long),
        pytest.param("fips-chacha20-only", True, marks=pytest.mark.long),
        pytest.param("fips-rsa-key-exchange", True, marks=pytest.mark.long),
        pytest.param("fips-signed-with-md5", True, marks=pytest.mark.long),
    ],
)
async def test_in_fips_mode_what_is_not_approved_is_refused(
    scenario: str,
    broken: bool,  # noqa: FBT001 - a parameter of the test
    tmp_path: Path,
) -> None:
    """R18, with Debian's Bouncy Castle in its approved mode, an approximation of bc-fips."""
    said, recordings = await play(scenario, "--provider", "fips", folder=tmp_path)
    assert said.code == int(broken), said.log
    assert {each.outcome.status is Status.ESTABLISHED for each in recordings} == {not broken}


async def test_a_release_under_run_gets_a_verdict_for_each_scenario() -> None:
    """R8 the other way round: what Orlando Patch 7a lets pass although it should not."""
    argv = (*QUICK_JAVA, "-cp", classes().name, "MidClient", "--profile", "orlando-p7a", "--url", "{url}")
    async with playing(argv) as runner:
        made = await runner.matrix([known().open(name) for name in ("unknown-root", "other-name")], jobs=1)
    assert {each.scenario: each.verdict.kind for each in made.results} == {
        "unknown-root": Kind.REFUSED,
        "other-name": Kind.ACCEPTED_WRONGLY,
    }
