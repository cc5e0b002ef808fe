"""The catalogue diagnosed: what a scenario breaks is the primary finding, from the recording alone.

``causes.toml`` has what a right diagnosis names. Scenario, step and faults are taken out of each recording before, so
that nothing but what was seen can tell.
"""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from countersign.findings.diagnosing import diagnose, kinds
from countersign.recorder.recording import Status
from tests.proxy.running import Kept
from tests.scenarios.running.playing import CURL, WITH_CERTIFICATE, java, known, playing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from countersign.recorder.recording import Recording

CAUSES: dict[str, list[str]] = tomllib.loads((Path(__file__).parent / "causes.toml").read_text())
LEAST = 0.95
BROKEN = {Status.FAILED, Status.ABANDONED}


def blind(recording: Recording) -> Recording:
    """The recording without what was ordered."""
    legs = tuple(replace(leg, faults=()) for leg in recording.legs)
    return replace(recording, scenario=None, step=0, legs=legs)


async def diagnosed(argv: Sequence[str], names: Sequence[str]) -> dict[str, str | None]:
    """The primary finding of each scenario's first session that broke."""
    kept = Kept()
    async with playing(argv, keeper=kept, timeout=20.0) as runner:
        await runner.matrix([known().open(name) for name in names], jobs=2)
    first: dict[str, Recording] = {}
    for recording in kept.finished:
        if recording.scenario is not None and recording.outcome.status in BROKEN:
            first.setdefault(recording.scenario, recording)
    found = {}
    for name, recording in first.items():
        cause = diagnose(blind(recording)).cause
        found[name] = None if cause is None else cause.id
    return found


def judge(found: dict[str, str | None], client: str, *, least: float = LEAST) -> None:
    wrong = {name: cause for name, cause in found.items() if cause not in CAUSES[name]}
    share = 1 - len(wrong) / len(found)
    of_all = f"{len(found) - len(wrong)} of {len(found)} scenarios ({share:.1%})"
    print(f"{client}: the cause is found of {of_all}; not of {wrong}")  # noqa: T201 - the figure is the point
    assert share >= least, wrong


def test_each_cause_is_a_kind_of_finding_and_each_name_a_scenario() -> None:
    assert {cause for causes in CAUSES.values() for cause in causes} <= set(kinds())
    assert set(CAUSES) <= set(known())


@pytest.mark.peer("curl")
async def test_the_cause_of_what_breaks_curl_is_found() -> None:
    judge(await diagnosed((*CURL, *WITH_CERTIFICATE), list(CAUSES)), "curl")


@pytest.mark.long
@pytest.mark.peer("java", "javac")
@pytest.mark.timeout(900)
async def test_the_cause_of_what_breaks_a_jvm_is_found() -> None:
    judge(await diagnosed(java("HandshakeClient", "{url}"), list(CAUSES)), "a JVM")


@pytest.mark.peer("java", "javac")
async def test_the_cause_of_what_breaks_a_jvm_is_found_for_some() -> None:
    """One scenario in eight, so few that one weighs a lot; all of them with ``--long``."""
    judge(await diagnosed(java("HandshakeClient", "{url}"), list(CAUSES)[::8]), "a JVM", least=0.8)
