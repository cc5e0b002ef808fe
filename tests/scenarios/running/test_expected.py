"""The whole catalogue against real clients: what they do is what is expected of them (``expected/README.md``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from countersign.scenarios.running.baseline import changes
from countersign.scenarios.running.results import Shard
from countersign.scenarios.running.verdict import Kind
from countersign.scenarios.selecting import select
from tests.scenarios.running.matrices import AGREES, CLIENTS, FAMILIES, Kept
from tests.scenarios.running.playing import known

if TYPE_CHECKING:
    from countersign.scenarios.running.results import Matrix

CERTIFICATES = frozenset({"trust", "chain", "validity", "names", "usages", "revocation", "constraints"})
"""Families of which a client that looks at no certificate refuses nothing."""

NO_MATTER_OF_VERIFYING = {
    "curl-that-verifies-nothing": {"leaf-last"},
    "java-that-verifies-nothing": {"leaf-last", "month-13", "names-twice", "no-name"},
}
"""Scenarios of these families that fail all the same: the first certificate has another key than the server; and what
a JVM cannot read (a thirteenth month, an extension twice, no name in any place) it cannot take.
"""


RUN_IN_CI = frozenset({"curl", "curl-that-verifies-nothing", "java", "java-that-verifies-nothing"})
"""Clients with tests of their own below."""

MEASURED_ELSEWHERE = frozenset({"postgres"})
"""Families of clients whose figures other tests measure: psql's in ``tests/proxy/test_hello_binding.py``."""


def with_its_peers(name: str) -> object:
    return pytest.param(name, id=name, marks=pytest.mark.peer(*CLIENTS[name].peers))


async def unchanged(client: Kept, part: Shard) -> Matrix:
    """Run the client's part; what it does is what is kept."""
    by_id = {each.id: each for each in client.scenarios()}
    made = await client.run([by_id[name] for name in part.of_all(list(by_id))], jobs=2)
    found = [str(change) for change in changes(made.results, client.verdicts())]
    reasons = [
        f"{result.key}: {result.verdict}" for result in made.results if any(result.key in text for text in found)
    ]
    assert not found, "\n".join([*found, *reasons])
    return made


@pytest.mark.peer("curl")
@pytest.mark.parametrize("part", [1, 2])
async def test_curl_does_what_is_expected_of_it(part: int) -> None:
    await unchanged(CLIENTS["curl"], Shard(part, 2))


@pytest.mark.peer("java", "javac")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", [1, 2, 3, 4])
async def test_a_jvm_does_what_is_expected_of_it(part: int) -> None:
    await unchanged(CLIENTS["java"], Shard(part, 4))


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", [with_its_peers(name) for name in CLIENTS if name not in RUN_IN_CI])
async def test_other_clients_do_what_is_expected_of_them(name: str) -> None:
    await unchanged(CLIENTS[name], Shard(1, 1))


@pytest.mark.parametrize("name", ["requests", "httpx"])
async def test_libraries_of_python_do_what_is_expected_of_them(name: str) -> None:
    """One scenario in sixty of those that no waiting is in; all of them, and aiohttp, with ``--long``."""
    client = CLIENTS[name]
    some = [each for each in client.scenarios() if not each.waits][::60]
    made = await client.run(some, jobs=2)
    kept = client.verdicts()
    assert {each.scenario: each.verdict.kind.value for each in made.results} == {
        each.id: kept[each.id] for each in some
    }


@pytest.mark.peer("curl")
async def test_a_curl_that_verifies_nothing_fails_every_scenario_in_which_verifying_helps() -> None:
    name = "curl-that-verifies-nothing"
    fails_all(name, await unchanged(CLIENTS[name], Shard(1, 1)))


@pytest.mark.long
@pytest.mark.peer("java", "javac")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", [1, 2])
async def test_a_jvm_that_trusts_everybody_fails_every_scenario_in_which_verifying_helps(part: int) -> None:
    name = "java-that-verifies-nothing"
    fails_all(name, await unchanged(CLIENTS[name], Shard(part, 2)))


@pytest.mark.peer("java", "javac")
async def test_a_jvm_that_trusts_everybody_is_caught() -> None:
    """A dozen of them; all of them with ``--long``."""
    name = "java-that-verifies-nothing"
    client = CLIENTS[name]
    some = [each for each in client.scenarios() if each.family in {"trust", "validity"}][:12]
    fails_all(name, await client.run(some, jobs=2))


def fails_all(name: str, made: Matrix) -> None:
    """Nothing in which the certificate decides was refused."""
    besides = NO_MATTER_OF_VERIFYING[name]
    passed = {
        result.scenario: result.verdict
        for result in made.results
        if result.family in CERTIFICATES and result.right_done and result.scenario not in besides
    }
    assert not passed


# -- what is kept --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(CLIENTS))
def test_there_is_a_verdict_for_each_scenario_and_none_besides(name: str) -> None:
    client = CLIENTS[name]
    assert set(client.verdicts()) == {each.id for each in client.scenarios()}


def test_every_figure_of_a_family_is_measured_by_a_client_of_that_family() -> None:
    """What cannot be had here (browsers) has no figure."""
    said = {
        family
        for scenario in known().values()
        for family, expected in scenario.expect.clients.items()
        if expected.known is not None or expected.skip
    }
    assert said <= set(FAMILIES.values()) | MEASURED_ELSEWHERE
    assert "browsers" not in said


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_what_is_kept_agrees_with_what_the_scenarios_say_of_the_family(name: str) -> None:
    """``expect`` says what is right, and of each family of clients what it is known to do instead."""
    client, differs = CLIENTS[name], {}
    for scenario_id, verdict in client.verdicts().items():
        scenario, kind = known()[scenario_id], Kind(verdict)
        if kind is Kind.SKIPPED or (kind is Kind.HUNG and scenario.waits):
            continue
        expected = scenario.expect.expected(FAMILIES[name])
        if kind not in AGREES[expected]:
            differs[scenario_id] = f"expected to {expected}, and it is {kind.value}"
    assert differs.keys() == client.differs.keys(), differs


@pytest.mark.parametrize(
    "row", ["R1", "R2", "R3", "R4", "R6", "R7", "R9", "R10", "R11", "R13", "R14", "R15", "R18", "R20"]
)
def test_each_row_has_scenarios_that_were_put_to_a_jvm(row: str) -> None:
    verdicts = CLIENTS["java"].verdicts()
    found = [scenario.id for scenario in select(known(), f"source:{row}")]
    assert any(Kind(verdicts[name]) not in {Kind.SKIPPED, Kind.UNPROVED} for name in found), found


@pytest.mark.parametrize("name", sorted(CLIENTS))
def test_no_scenario_is_kept_as_one_that_never_was_on_the_wire(name: str) -> None:
    unproved = [each for each, verdict in CLIENTS[name].verdicts().items() if verdict == Kind.UNPROVED.value]
    assert not unproved
