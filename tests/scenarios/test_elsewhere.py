"""Faults of the wire where TLS begins in a dialogue, and where the client's certificate is relayed to the target."""

from __future__ import annotations

import pytest

from countersign.proxy import Mtls
from countersign.recorder.recording import Party, Status
from tests.scenarios.driving import Client, Driven, drive
from tests.scenarios.running.playing import known

WIRE = [each for each in known().values() if each.wire and not each.steps]
QUICK = {
    "alert-inside", "bad-certificate-verify", "cut-before-certificate", "half-closed", "no-certificate-at-all",
    "one-byte-records", "reset-before-finished", "ssh-banner", "target-alert", "target-bad-certificate-verify",
    "ticket-flood", "wrong-finished",
}  # fmt: skip
EACH = [pytest.param(each.id, marks=() if each.id in QUICK else (pytest.mark.long,)) for each in WIRE]
ONLY_RECAST = {"server-hello-twice", "unsolicited-extension"}
"""Where no certificate is asked for, the whole handshake has the fault in it; else only its bytes have."""


def ends(driven: Driven) -> list[tuple[Status, Party | None, str | None]]:
    outcomes = [each.outcome for each in driven.recordings]
    return [(each.status, each.broken_by, each.alert) for each in outcomes]


def test_the_quick_ones_are_there() -> None:
    assert {each.id for each in WIRE} >= QUICK | ONLY_RECAST


@pytest.mark.parametrize("starttls", ["smtp", pytest.param("auto", marks=pytest.mark.long)])
@pytest.mark.parametrize("name", EACH)
async def test_a_fault_acts_behind_starttls_as_it_does_without(name: str, starttls: str) -> None:
    scenario = known()[name]
    straight = await drive(scenario, client=Client(patience=3.0))
    upgraded = await drive(scenario, client=Client(patience=3.0, upgrades=True), starttls=starttls)
    assert upgraded.unproved(scenario) == ()
    assert ends(upgraded) == ends(straight)
    assert scenario.waits or upgraded.words == straight.words


@pytest.mark.parametrize("name", EACH)
async def test_a_fault_acts_while_a_certificate_is_relayed(name: str) -> None:
    """On the client leg it is not the target's matter; nothing is presented unless the client has proved its key."""
    scenario = known()[name]
    straight = await drive(scenario, client=Client(patience=3.0))
    relayed = await drive(scenario, client=Client(patience=3.0), asks=True, mtls=Mtls.RELAY)
    assert relayed.unproved(scenario) == ()
    if name not in ONLY_RECAST:
        assert ends(relayed) == ends(straight)
    for recording in relayed.recordings:
        stands = recording.outcome.status is Status.ESTABLISHED
        assert recording.mtls.get("presented", {}).get("certificates", 0) == (2 if stands else 0)
