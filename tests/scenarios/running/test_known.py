"""``--known``: what a client is known to do wrong, and why that is taken as it is."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from countersign.errors import UserError
from countersign.scenarios.running.baseline import changes
from countersign.scenarios.running.reports import FORMS
from countersign.scenarios.running.results import from_json, to_json
from countersign.scenarios.running.verdict import Excuse, Kind, Verdict
from tests.cli.commands import countersign
from tests.scenarios.running.made import matrix, result

if TYPE_CHECKING:
    from pathlib import Path

WRONG = result("expired", Kind.ACCEPTED_WRONGLY)
EXCUSED = replace(WRONG, verdict=Excuse("accept", "it's <T-1>").of(WRONG.verdict))


def test_what_is_excused_is_no_failure_and_says_why() -> None:
    made = matrix(EXCUSED)
    assert (matrix(WRONG).exit_code, made.exit_code) == (1, 0)
    assert from_json(to_json(made), name="report.json") == made
    assert list(changes(made.results, {})) == []
    junit = FORMS["junit"](made).decode()
    assert 'failures="0"' in junit
    assert "<failure" not in junit
    assert b"taken as it is" in FORMS["markdown"](made)
    assert b"&lt;T-1&gt;" in FORMS["html"](made)
    assert b'"ruleId"' not in FORMS["sarif"](made)


def test_a_report_from_before_excuses_is_read() -> None:
    document = to_json(matrix(WRONG))
    del document["results"][0]["excused"]
    assert from_json(document, name="report.json") == matrix(WRONG)


@pytest.mark.parametrize("kind", [Kind.HUNG, Kind.CRASHED, Kind.UNPROVED, Kind.NEVER_CONNECTED, Kind.REFUSED_WRONGLY])
def test_only_what_was_named_is_excused(kind: Kind) -> None:
    verdict = Verdict(kind=kind, text="it did")
    assert Excuse("accept", "T-1").of(verdict) == verdict


def test_an_excuse_that_is_not_needed_any_more_is_told() -> None:
    (note,) = Excuse("accept", "T-1").of(Verdict(kind=Kind.REFUSED, text="refused")).notes
    assert note == "it was said to accept (T-1), and that is not wrong, or not so any more"


def test_a_client_that_refuses_wrongly_may_be_excused_too() -> None:
    verdict = Verdict(kind=Kind.REFUSED_WRONGLY, text="refused")
    name, excuse = Excuse.parse("wildcard=refuse:old: very old")
    assert (name, excuse.of(verdict).excused) == ("wildcard", "old: very old")


@pytest.mark.parametrize("text", ["expired", "expired=accept", "expired=accept:", "=accept:x", "expired=hang:x", ""])
def test_an_excuse_that_cannot_be_read_says_how_it_goes(text: str) -> None:
    with pytest.raises(UserError, match="--known takes a scenario, what the client does, and why"):
        Excuse.parse(text)


@pytest.mark.peer("curl")
def test_a_run_with_a_known_fault_of_the_client_goes_well(home: Path) -> None:
    careless = ("--", "curl", "-sSk", "{url}")
    made = countersign("run", "--scenario", "expired", "--known", "expired=accept:T-1", *careless)
    assert made.code == 0, made.out + made.err
    assert "accepted but should have refused" in made.out
    assert "(taken as it is: T-1)" in made.out
    assert countersign("run", "--scenario", "expired", "--known", "plain=accept:T-1", *careless).code == 1


def test_an_excuse_for_what_there_is_not_is_a_mistake(home: Path) -> None:
    made = countersign("run", "--scenario", "expired", "--known", "expird=accept:x", "--", "true")
    assert made.code == 2
    assert "did you mean expired" in made.err
    twice = ("--known", "expired=accept:x", "--known", "expired=accept:y")
    assert "two things of expired" in countersign("run", "--scenario", "expired", *twice, "--", "true").err
