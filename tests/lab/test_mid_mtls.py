"""A MID Server and a stock JVM are asked for their certificate under each kind of list of authorities (R13)."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from countersign.ca import Minted, issue
from countersign.findings.diagnosing import diagnose
from countersign.recorder.recording import LegRole, Status
from countersign.recorder.wire.events import Side
from countersign.scenarios.model import Protocol
from countersign.scenarios.running.stage import Props, Stage
from tests.lab.mid import key_store, mids
from tests.scenarios.running.playing import known

if TYPE_CHECKING:
    from pathlib import Path

    from countersign.recorder.recording import Recording

pytestmark = pytest.mark.peer("java", "javac")

SHOWN, NOTHING = "the chain", "no certificate"
ANSWERS = {
    # The MID Server as the article has it, a stock JVM, and one whose store holds the leaf alone.
    "certificate-asked": (SHOWN, SHOWN, "the leaf"),
    "ca-names-empty": (NOTHING, SHOWN, "the leaf"),
    "ca-names-root-only": (NOTHING, SHOWN, NOTHING),
    "ca-names-intermediate-only": (SHOWN, SHOWN, "the leaf"),
    "ca-names-of-others": (NOTHING, NOTHING, NOTHING),
}
NAMED = {
    "certificate-asked": ["root", "intermediate"],
    "ca-names-empty": [],
    "ca-names-root-only": ["root"],
    "ca-names-intermediate-only": ["intermediate"],
    "ca-names-of-others": ["else", "else", "else"],
}
ALERT = {"TLSv1.2": "handshake_failure", "TLSv1.3": "certificate_required"}


def answered(recording: Recording) -> str:
    leg = recording.leg(LegRole.CLIENT)
    assert leg is not None
    sent = [each for each in leg.read().certificates if each.sender is Side.CLIENT]
    assert recording.mtls["chosen"]["certificates"] == len(sent)
    return (NOTHING, "the leaf", SHOWN)[len(sent)]


def asked_under(recording: Recording) -> list[str]:
    """The kinds of authorities that the request named, by a word of their names."""
    leg = recording.leg(LegRole.CLIENT)
    assert leg is not None
    words = ("root", "intermediate", "else")
    return [word for name in leg.read().requested_ca_texts or () for word in words if f" {word} " in str(name)]


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
async def test_who_shows_a_certificate_depends_on_the_list_and_the_key_manager(version: str, tmp_path: Path) -> None:
    """Which list and which answer it was is on the recording, and the finding says so."""
    (tmp_path / "leaf").mkdir()
    async with Props() as props, AsyncExitStack() as stages:
        shown = issue(props.pki.clients, "mid.lab.test", purpose="client")
        whole, leaf = key_store(tmp_path, shown), key_store(tmp_path / "leaf", Minted(shown.key, shown.chain[:1]))
        clients = (("--keystore", whole), *(("--keystore", each, "--key-manager", "stock") for each in (whole, leaf)))
        met = []
        for name in ANSWERS:
            scenario = replace(known().open(name), protocol=Protocol(versions=(version,)))
            for client in clients:
                stage = await stages.enter_async_context(Stage(scenario, props, own_names=True))
                place = stage.place()
                to = ("--url", place.url, "--plain", "--proxy", place.proxy, "--truststore", place.trust_store)
                met.append((name, stage, (*to, *client)))
        said = await mids(*(args for _, _, args in met), folder=tmp_path)
        for _, stage, _ in met:
            await stage.settle()
    answers: dict[str, list[str]] = {name: [] for name in ANSWERS}
    for (name, stage, _), client_said in zip(met, said, strict=True):
        recording = stage.recordings[0]  # a JVM that was refused in TLS 1.3 tries again
        answers[name].append(answered(recording))
        assert asked_under(recording) == NAMED[name]
        found = {finding.id for finding in diagnose(recording).findings}
        match answered(recording):
            case "no certificate":
                empty = "no-client-certificate-empty-list" if name == "ca-names-empty" else "no-client-certificate"
                assert empty in found
                assert recording.outcome.alert == ALERT[version]
                assert f"Received fatal alert: {ALERT[version]}" in client_said.log
            case "the leaf":
                assert "client-missing-intermediate" in found
            case _:
                assert recording.outcome.status is Status.ESTABLISHED
                assert client_said.code == 0
    assert {name: tuple(row) for name, row in answers.items()} == ANSWERS
