"""The MID-like client against the instance, straight and through the proxy; explain reads what it says."""

from __future__ import annotations

from contextlib import AsyncExitStack
from io import BytesIO
from typing import TYPE_CHECKING

import pytest

from countersign.ca.pem import to_pem
from countersign.ca.stores import StoreType
from countersign.findings.explaining import explain
from countersign.lab.instance import Inbound, Instance, InstancePlan, Policy
from countersign.lab.target import HOST, Pki
from countersign.proxy import Address
from countersign.scenarios.reading import Source, read_scenario
from countersign.scenarios.running.stage import Props, Stage, Target
from tests.lab.instance_lab import instance, pki
from tests.lab.mid import key_store, mid, mids, trust_store
from tests.proxy.test_mtls import relaying

if TYPE_CHECKING:
    from pathlib import Path

    from tests.peers.certs import Lab

pytestmark = pytest.mark.peer("java", "javac")

CERTIFICATE_REFUSED = "Could not authenticate user 'null' on the ServiceNow instance"


@pytest.mark.peer("openssl", "bcprov", "bctls")
@pytest.mark.parametrize(
    ("provider", "kinds"),
    [
        ("sun", (StoreType.JKS, StoreType.PKCS12, StoreType.JCEKS)),
        ("fips", (StoreType.BCFKS,)),
        pytest.param("bc", (StoreType.BCFKS,), marks=pytest.mark.long),
    ],
)
async def test_a_client_certificate_from_a_store_of_ours_opens_an_instance_that_requires_one(
    provider: str, kinds: tuple[StoreType, ...], lab: Lab, tmp_path: Path
) -> None:
    """R17, R18: straight to the instance, and through a proxy that relays the certificate."""
    shown = pki().client
    issuer = tmp_path / "asked.pem"
    issuer.write_bytes(b"".join(map(to_pem, shown.chain[1:])))
    async with instance(inbound=Inbound.ON) as made:
        with relaying(lab, tmp_path, names=(issuer,), mode="www") as (_, proxy):
            inspected = trust_store(tmp_path, proxy.authority.root.der, name="inspected.p12")
            public = trust_store(tmp_path, pki().public.root.der)
            to_instance = ("--url", f"https://{HOST}:{made.port}", "--truststore", public)
            to_proxy = ("--url", f"https://server.lab.test:{proxy.port}", "--plain", "--truststore", inspected)
            more = [("--provider", provider, "--keystore", key_store(tmp_path, shown, kind)) for kind in kinds]
            said = await mids(
                *((*to, *client) for to in (to_instance, to_proxy) for client in more),
                folder=tmp_path,
                hosts=(HOST, "server.lab.test"),
            )
            recordings = proxy.recordings(len(kinds))
        assert [each.code for each in said] == [0] * 2 * len(kinds), said
        paths = ("/InstanceInfo.do", "/mid_cert_check_policy.do", "/MIDFileSyncSnapshot.do")
        assert [path for path, _, _ in made.requests] == [*paths] * len(kinds)
        assert {(status, user) for _, status, user in made.requests} == {(200, "mid.server")}
    for each in said[: len(kinds)]:
        assert "Snapshot received" in each.log
    for recording in recordings:
        assert recording.outcome.broken_by is None, recording.outcome.text
        assert recording.mtls["presented"]["subject"] == recording.mtls["chosen"]["subject"] == "CN=mid.lab.test"


@pytest.mark.peer("bcprov", "bctls")
async def test_in_fips_mode_a_store_other_than_bcfks_fails(tmp_path: Path) -> None:
    """R18"""
    said = await mid(
        *("--url", f"https://{HOST}:1", "--provider", "fips"),
        *("--truststore", trust_store(tmp_path, pki().public.root.der)),
        *("--keystore", key_store(tmp_path, pki().client, StoreType.PKCS12)),
        folder=tmp_path,
    )
    assert said.code == 1
    assert "PKCS12 not found" in said.log


FLAWS = {
    "hostname": 'certificate.recipe = "leaf-other-name"',
    "chain": 'certificate.issuer = "unknown"',
    "revocation": 'certificate.recipe.leaf.ocsp = ["http://127.0.0.1:1"]\ncertificate.recipe.leaf.crl = ["http://127.0.0.1:1"]',
}


async def test_the_checks_of_a_policy_hold_from_when_it_was_fetched(tmp_path: Path) -> None:
    """R16: the third connection shows a certificate with a flaw, which one of the policy's checks would find; with a
    user's name, for the policy takes the client's certificate away.
    """
    names = Pki.make(HOST, "127.0.0.1")
    met = []
    async with AsyncExitStack() as opened:
        for without in (None, *FLAWS):
            policy = Policy() if without is None else Policy.without(without)
            made = await opened.enter_async_context(
                Instance.of(names, InstancePlan(users={"mid": "secret"}, policy=policy))
            )
            target = Target(address=Address("127.0.0.1", made.port), roots=(names.public.root.der,))
            props = await opened.enter_async_context(Props(target=target))
            for flaw, lines in FLAWS.items():
                scenario = read_scenario(Source(SCENARIO.format(lines), name=f"{flaw}.toml", id=flaw))
                stage = await opened.enter_async_context(Stage(scenario, props))
                place = stage.place()
                client = ("--url", place.url, "--proxy", place.proxy, "--truststore", place.trust_store)
                met.append((without, flaw, (*client, "--set", "mid.instance.username=mid", *PASSWORD)))
        said = await mids(*(client for _, _, client in met), folder=tmp_path)
    got = {(without, flaw): each.code == 0 for (without, flaw, _), each in zip(met, said, strict=True)}
    assert got == {(without, flaw): without == flaw for without, flaw, _ in met}, said
    for each in said:
        assert "InstanceInfo received" in each.log
        assert "MID Security Policy received" in each.log


SCENARIO = """
title = "A flaw from the third connection on"
family = "own"
[[step]]
[[step]]
connections = 2
{}
"""
PASSWORD = ("--set", "mid.instance.password=secret")


@pytest.mark.parametrize(
    ("policy", "settings", "through"),
    [
        pytest.param(Policy(), (), True, marks=pytest.mark.long),
        (Policy.without("revocation"), (), False),
        (Policy.without("revocation"), ("--set", "mid.ssl.bootstrap.default.check_cert_revocation=true"), True),
    ],
)
async def test_a_policy_off_its_defaults_bars_a_mid_server_once_it_has_fetched_it(
    policy: Policy,
    settings: tuple[str, ...],
    through: bool,  # noqa: FBT001 - a parameter of the test
    tmp_path: Path,
) -> None:
    """R16"""
    async with instance(policy=policy) as made:
        said = await mid(
            *("--url", f"https://{HOST}:{made.port}"),
            *("--truststore", trust_store(tmp_path, pki().public.root.der)),
            *("--keystore", key_store(tmp_path, pki().client)),
            *settings,
            folder=tmp_path,
        )
        assert [status for _, status, _ in made.requests] == [200, 200, 200 if through else 401]
    assert said.code == (0 if through else 1)
    assert (CERTIFICATE_REFUSED in said.log) is not through
    assert ("mid-user-null" in said.kinds) is not through


async def test_the_log_of_a_barred_mid_server_is_explained_with_the_policy(tmp_path: Path) -> None:
    """R16: with javax.net.debug, as the article has it, and told by the empty list."""
    async with instance(policy=Policy.without("chain")) as made:
        said = await mid(
            *("--url", f"https://{HOST}:{made.port}"),
            *("--truststore", trust_store(tmp_path, pki().public.root.der)),
            *("--keystore", key_store(tmp_path, pki().client)),
            folder=tmp_path,
            properties=("-Djavax.net.debug=ssl:handshake", "-Djdk.tls.client.protocols=TLSv1.2"),
        )
    found = explain(BytesIO(said.log.encode())).findings
    texts = {each.kind.id: each.kind.text for each in found}
    assert "the MID Security Policy is not at its defaults" in texts["client-certificate-empty"]
    assert "mid-user-null" in texts


async def test_ca_records_that_do_not_exist_yet_leave_the_mid_server_without_a_certificate(tmp_path: Path) -> None:
    """R12, R13: no CA is named, so it shows nothing, and is user null; later it gets through."""
    moment = [0.0]
    made = instance(publishing=300)
    made._now = lambda: moment[0]
    for record in made.ca_records:
        record.uploaded = 0.0
    arguments = (
        *("--truststore", trust_store(tmp_path, pki().public.root.der)),
        *("--keystore", key_store(tmp_path, pki().client)),
    )
    async with made:
        before = await mid("--url", f"https://{HOST}:{made.port}", *arguments, folder=tmp_path)
        moment[0] = 301.0
        after = await mid("--url", f"https://{HOST}:{made.port}", *arguments, folder=tmp_path)
    assert (before.code, after.code) == (1, 0)
    assert "mid-user-null" in before.kinds


async def test_a_wrong_word_is_said_with_what_was_expected(tmp_path: Path) -> None:
    said = await mid("--profile", "rome", "--url", "https://x", folder=tmp_path)
    assert said.code == 2
    assert "--profile takes one of new-york, orlando, orlando-p7a, paris" in said.log


async def test_a_file_that_is_no_key_store_is_a_mistake(tmp_path: Path) -> None:
    source = tmp_path / "M.java"
    source.write_text("class M {}")
    said = await mid("--truststore", source, "--url", "https://x", folder=tmp_path)
    assert said.code == 2
    assert "M.java is no key store: expected PKCS12, JKS or BCFKS" in said.log
