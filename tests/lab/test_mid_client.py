"""The MID-like client against the instance, straight and through the proxy; explain reads what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from countersign.ca.stores import StoreType
from countersign.lab.instance import Inbound, Policy
from countersign.lab.target import HOST
from tests.lab.instance_lab import instance, pki
from tests.lab.mid import key_store, mid, trust_store

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.peer("java", "javac")

CERTIFICATE_REFUSED = "Could not authenticate user 'null' on the ServiceNow instance"


@pytest.mark.peer("bcprov", "bctls")
@pytest.mark.parametrize(
    ("kind", "provider"),
    [
        (StoreType.JKS, "sun"),
        (StoreType.BCFKS, "fips"),
        pytest.param(StoreType.PKCS12, "sun", marks=pytest.mark.long),
        pytest.param(StoreType.JCEKS, "sun", marks=pytest.mark.long),
        pytest.param(StoreType.BCFKS, "bc", marks=pytest.mark.long),
    ],
)
async def test_a_client_certificate_from_a_store_of_ours_opens_an_instance_that_requires_one(
    kind: StoreType, provider: str, tmp_path: Path
) -> None:
    """R17, R18"""
    async with instance(inbound=Inbound.ON) as made:
        said = await mid(
            *("--url", f"https://{HOST}:{made.port}", "--provider", provider),
            *("--truststore", trust_store(tmp_path, pki().public.root.der)),
            *("--keystore", key_store(tmp_path, pki().client, kind)),
            folder=tmp_path,
        )
        assert said.code == 0, said.log
        assert [(path, user) for path, _, user in made.requests] == [
            ("/InstanceInfo.do", "mid.server"),
            ("/mid_cert_check_policy.do", "mid.server"),
            ("/MIDFileSyncSnapshot.do", "mid.server"),
        ]
    assert "Snapshot received" in said.log


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
