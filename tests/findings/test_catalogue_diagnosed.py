"""The catalogue diagnosed: what a scenario breaks is the primary finding, from the recording alone.

Which scenarios count is a rule and no list. The whole catalogue is played; a scenario counts for a client when a
session of its run broke (the recording is of a handshake that failed, or that the client did not use), or when the
client refused without having made and used a whole one. What the client takes, because it does not look at it or
because it is right to, has no broken handshake to diagnose, and neither has what cannot be put to it (``skipped``) or
breaks behind the handshake. ``causes.toml`` has what a right diagnosis names; a scenario that counts and is not in it
counts as not found.

Scenario, step, faults and whatever else says what was ordered are taken out of each recording before, so that nothing
but what was seen can tell; and nothing of that changes a finding. Neither do the pseudonyms of a redacted bundle.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from countersign.findings.bundling import Pseudonyms
from countersign.findings.diagnosing import Diagnosis, diagnose, kinds
from countersign.findings.diagnosing.model import Severity
from countersign.proxy.faults import WireFault
from countersign.recorder.recording import FailureCode, Status
from countersign.scenarios.model import Scenario
from countersign.scenarios.running.verdict import Kind
from tests.proxy.running import Kept
from tests.scenarios.running.playing import CURL, WITH_CERTIFICATE, java, known, playing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from countersign.recorder.recording import Recording

CAUSES: dict[str, list[str]] = tomllib.loads((Path(__file__).parent / "causes.toml").read_text())
LEAST = 0.95
BROKEN = {Status.FAILED, Status.ABANDONED}
REFUSED = {Kind.REFUSED, Kind.REFUSED_WRONGLY, Kind.HUNG, Kind.CRASHED, Kind.NEVER_CONNECTED, Kind.UNPROVED}
PSEUDONYMS = Pseudonyms(bytes(range(32)))
_OF_ORDERS = {"ordered", "inspection"}


def blind(recording: Recording) -> Recording:
    """The recording without what was ordered."""
    return replace(
        recording,
        scenario=None,
        step=0,
        legs=tuple(replace(leg, faults=()) for leg in recording.legs),
        prelude={key: value for key, value in recording.prelude.items() if key not in _OF_ORDERS},
        failures=tuple(one for one in recording.failures if one.code is not FailureCode.ORDERED),
        outcome=replace(recording.outcome, text=""),
    )


@dataclass(frozen=True)
class Played:
    """A scenario that counts, and what is said of its first session that broke; None where the recordings show none."""

    name: str
    diagnosis: Diagnosis | None

    @property
    def cause(self) -> str | None:
        cause = self.diagnosis.cause if self.diagnosis is not None else None
        return None if cause is None else cause.id


async def played(argv: Sequence[str], names: Sequence[str]) -> list[Played]:
    kept = Kept()
    async with playing(argv, keeper=kept, timeout=20.0) as runner:
        matrix = await runner.matrix([known().open(name) for name in names], jobs=2)
    found = []
    for result in matrix.results:
        of_it = [one for one in kept.finished if one.scenario == result.scenario]
        broken = next((one for one in of_it if one.outcome.status in BROKEN), None)
        used = bool(of_it) and of_it[-1].outcome.status is Status.ESTABLISHED
        if broken is not None:
            found.append(Played(result.scenario, said(broken)))
        elif result.verdict.kind in REFUSED and not used:
            found.append(Played(result.scenario, None))
    return found


def said(recording: Recording) -> Diagnosis:
    """What is found, which neither what was ordered nor other names change, with its evidence."""
    diagnosis = diagnose(blind(recording))
    assert diagnosis.findings == diagnose(recording).findings, recording.scenario
    hidden = diagnose(PSEUDONYMS.redacted(recording))
    assert [one.id for one in hidden.findings] == [one.id for one in diagnosis.findings], recording.scenario
    assert all(one.evidence for one in diagnosis.findings), (recording.scenario, diagnosis.to_json())
    return diagnosis


def judge(found: list[Played], client: str, *, of: int, least: float = LEAST) -> None:
    wrong = {one.name: one.cause for one in found if one.cause not in CAUSES.get(one.name, ())}
    share = 1 - len(wrong) / len(found)
    of_all = f"{len(found) - len(wrong)} of {len(found)} scenarios that break something, of {of} in all ({share:.1%})"
    print(f"{client}: the cause is found of {of_all}; not of {wrong}")  # noqa: T201 - the figure is the point
    assert share >= least, wrong


def test_each_cause_is_a_kind_of_finding_and_each_name_a_scenario() -> None:
    assert {cause for causes in CAUSES.values() for cause in causes} <= set(kinds())
    assert set(CAUSES) <= set(known())


@pytest.mark.long
@pytest.mark.peer("curl")
@pytest.mark.timeout(900)
async def test_the_cause_of_what_breaks_curl_is_found() -> None:
    judge(await played((*CURL, *WITH_CERTIFICATE), list(known())), "curl", of=len(known()))


@pytest.mark.peer("curl")
async def test_an_issuer_that_changed_is_no_cause_where_the_target_broke() -> None:
    """Each run has a CA of its own, so since the last good session the issuer has changed; no client minded."""
    kept = Kept()
    reset = WireFault(do="reset", leg="server", to="target", at="finished")
    for scenario in (known()["plain"], Scenario(id="reset", wire=(reset,))):
        async with playing(CURL, keeper=kept) as runner:
            await runner.matrix([scenario])
    good = next(each for each in kept.finished if each.outcome.status is Status.ESTABLISHED)
    bad = next(each for each in kept.finished if each.scenario == "reset")
    found = diagnose(blind(replace(bad, target=good.target)), history=[good])
    severities = {each.id: each.severity for each in found.findings}
    assert severities["rotated"] is Severity.NOTE


@pytest.mark.long
@pytest.mark.peer("java", "javac")
@pytest.mark.timeout(1800)
async def test_the_cause_of_what_breaks_a_jvm_is_found() -> None:
    judge(await played(java("HandshakeClient", "{url}"), list(known())), "a JVM", of=len(known()))


@pytest.mark.peer("curl")
async def test_the_cause_of_what_breaks_curl_is_found_where_that_takes_no_time() -> None:
    """Those that are known to break something, but for those that wait; the whole catalogue with ``--long``."""
    names = [name for name in CAUSES if not known().open(name).waits]
    judge(await played((*CURL, *WITH_CERTIFICATE), names), "curl", of=len(names))


@pytest.mark.peer("java", "javac")
async def test_the_cause_of_what_breaks_a_jvm_is_found_for_some() -> None:
    """One scenario in eight, so few that one weighs a lot; all of them with ``--long``."""
    names = list(CAUSES)[::8]
    judge(await played(java("HandshakeClient", "{url}"), names), "a JVM", of=len(names), least=0.8)
