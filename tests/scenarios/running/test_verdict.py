"""Verdicts: what the recordings, the exit code and what is right make together."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import pytest

from countersign.recorder.recording import Failure, FailureCode, Leg, LegRole, Outcome, Party, Recording, Status
from countersign.recorder.wire.events import Side
from countersign.scenarios.expect import ClientExpect, Expect
from countersign.scenarios.model import Scenario, Schedule, Step
from countersign.scenarios.running.verdict import Did, Kind, Take, Verdict, judge, session_of
from tests.scenarios.running.made import CERTIFICATE_REQUIRED, UNKNOWN_CA, alert, ran, scenario, session

if TYPE_CHECKING:
    from countersign.scenarios.running.process import Ran

REFUSED = session(Status.FAILED, by=Party.CLIENT, named="unknown_ca", messages=[alert(Side.CLIENT, UNKNOWN_CA, 0.1)])
ACCEPTED = session(Status.ESTABLISHED, sent=87)
ABANDONED = session(Status.ABANDONED, by=Party.CLIENT)
TURNED_AWAY_LATE = session(
    Status.FAILED,
    by=Party.CLIENT,
    named="certificate_required",
    sent=87,
    messages=[alert(Side.SERVER, CERTIFICATE_REQUIRED, 0.3, encrypted=True)],
)


def verdict(made: Scenario, *takes: tuple[Ran, tuple[Recording, ...]], **settings: object) -> Verdict:
    return judge(made, [Take(*take) for take in takes], family="curl", **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("right", "recording", "code", "kind", "text"),
    [
        ("refuse", REFUSED, 60, Kind.REFUSED, "refused as it should"),
        ("refuse", ACCEPTED, 0, Kind.ACCEPTED_WRONGLY,
         "accepted but should have refused (sent 87 bytes of application data)"),
        ("refuse", ACCEPTED, 22, Kind.ACCEPTED_WRONGLY,
         "accepted but should have refused (sent 87 bytes of application data)"),
        ("accept", ACCEPTED, 0, Kind.ACCEPTED, "accepted as it should"),
        ("accept", ACCEPTED, 128, Kind.ACCEPTED, "accepted as it should"),
        ("accept", REFUSED, 60, Kind.REFUSED_WRONGLY, "refused but should have accepted"),
        ("either", REFUSED, 60, Kind.REFUSED, "refused, as it may"),
        ("either", ACCEPTED, 0, Kind.ACCEPTED, "accepted, as it may"),
        ("refuse", ABANDONED, 1, Kind.REFUSED, "refused as it should"),
        ("refuse", ABANDONED, 0, Kind.ACCEPTED_WRONGLY,
         "accepted but should have refused (sent 0 bytes of application data)"),
    ],
)  # fmt: skip
def test_each_pair_of_right_and_done_has_its_words(
    right: str, recording: Recording, code: int, kind: Kind, text: str
) -> None:
    given = verdict(scenario(right), (ran(code), (recording,)))
    assert (given.kind, given.text) == (kind, text)


def test_data_sent_before_a_tls13_refusal_arrives_is_no_acceptance() -> None:
    assert session_of(TURNED_AWAY_LATE, ended_well=False).did is Did.TURNED_AWAY
    assert verdict(scenario("refuse"), (ran(56), (TURNED_AWAY_LATE,))).kind is Kind.REFUSED
    assert verdict(scenario("accept"), (ran(56), (TURNED_AWAY_LATE,))).kind is Kind.REFUSED_WRONGLY


def test_a_client_that_was_turned_away_and_is_content_has_accepted_what_it_should_not() -> None:
    assert verdict(scenario("refuse"), (ran(0), (TURNED_AWAY_LATE,))).kind is Kind.ACCEPTED_WRONGLY


def test_data_sent_before_the_fault_is_no_acceptance_either() -> None:
    late = session(Status.ESTABLISHED, sent=87, first=0.2, faults=[{"do": "cut", "t": 0.3}])
    early = session(Status.ESTABLISHED, sent=87, first=0.2, faults=[{"do": "swap", "t": 0.1}])
    assert verdict(scenario("refuse"), (ran(18), (late,))).kind is Kind.REFUSED
    assert verdict(scenario("refuse"), (ran(18), (early,))).kind is Kind.ACCEPTED_WRONGLY


@pytest.mark.parametrize(("code", "kind"), [(52, Kind.REFUSED), (0, Kind.ACCEPTED_WRONGLY)])
def test_where_the_target_breaks_the_exit_code_tells_what_the_client_made_of_it(code: int, kind: Kind) -> None:
    """The handshake with the proxy was right, so the client has sent its request; the answer never came."""
    fine = session(Status.ESTABLISHED, sent=87, first=0.2)
    cut = replace(fine, legs=(*fine.legs, Leg(LegRole.SERVER, faults=({"do": "cut", "t": 0.3},))))
    failed = Outcome(Status.FAILED, Party.TARGET, LegRole.SERVER, "certificate_required")
    refused = replace(fine, legs=(*fine.legs, Leg(LegRole.SERVER)), outcome=failed)
    for recording in (cut, refused):
        assert session_of(recording, ended_well=code == 0).did is Did.TURNED_AWAY
        assert verdict(scenario("refuse"), (ran(code), (recording,))).kind is kind


def test_a_fault_on_the_targets_side_before_the_data_turns_nobody_away() -> None:
    fine = session(Status.ESTABLISHED, sent=87, first=0.2)
    slow = replace(fine, legs=(*fine.legs, Leg(LegRole.SERVER, faults=({"do": "segments", "t": 0.1},))))
    assert session_of(slow, ended_well=False).did is Did.ACCEPTED


@pytest.mark.parametrize(("code", "level"), [(0, 1), (90, 2), (100, 1)])
def test_alerts_that_refuse_nothing_do_not_turn_a_client_away(code: int, level: int) -> None:
    recording = session(Status.ESTABLISHED, sent=5, messages=[alert(Side.SERVER, code, 0.3, level=level)])
    assert session_of(recording, ended_well=True).did is Did.ACCEPTED


def test_an_alert_of_ours_behind_one_of_the_clients_changes_nothing() -> None:
    both = session(
        Status.FAILED, by=Party.CLIENT, named="unknown_ca",
        messages=[alert(Side.CLIENT, UNKNOWN_CA, 0.1), alert(Side.SERVER, 80, 0.2)],
    )  # fmt: skip
    assert session_of(both, ended_well=True).did is Did.REFUSED


def test_one_accepted_session_among_several_is_one_too_many() -> None:
    given = verdict(scenario("refuse"), (ran(0), (REFUSED, ACCEPTED, REFUSED)))
    assert given.kind is Kind.ACCEPTED_WRONGLY
    assert "it connected 3 times" in given.notes


def test_a_client_that_tries_again_until_it_gets_through_has_accepted() -> None:
    assert verdict(scenario("accept"), (ran(0), (REFUSED, ACCEPTED))).kind is Kind.ACCEPTED
    assert verdict(scenario("accept"), (ran(1), (ACCEPTED, REFUSED))).kind is Kind.REFUSED_WRONGLY


STEPS = Scenario(id="made", steps=(Step(), Step(connections=1, rotate="root")))


def test_of_steps_only_the_last_has_to_be_refused() -> None:
    first, second = session(Status.ESTABLISHED, sent=9, step=1), session(Status.ESTABLISHED, sent=87, step=2)
    refused = session(Status.FAILED, by=Party.CLIENT, step=2)
    assert verdict(STEPS, (ran(0), (first,)), (ran(60), (refused,))).kind is Kind.REFUSED
    given = verdict(STEPS, (ran(0), (first,)), (ran(0), (second,)))
    assert (given.kind, given.sent) == (Kind.ACCEPTED_WRONGLY, 87)


@pytest.mark.parametrize("order", ["loop", "random"])
def test_where_steps_go_round_one_of_them_has_to_be_refused_each_time(order: Literal["loop", "random"]) -> None:
    steps = (Step(connections=1), Step(connections=1)) if order == "loop" else (Step(), Step())
    round_and_round = Scenario(id="made", steps=steps, schedule=Schedule(order=order))
    good, bad = session(Status.ESTABLISHED, sent=9, step=1), session(Status.FAILED, by=Party.CLIENT, step=2)
    taken = session(Status.ESTABLISHED, sent=9, step=2)
    assert verdict(round_and_round, (ran(0), (good,)), (ran(60), (bad,)), (ran(0), (good,))).kind is Kind.REFUSED
    assert verdict(round_and_round, (ran(0), (good,)), (ran(0), (taken,))).kind is Kind.ACCEPTED_WRONGLY
    assert verdict(round_and_round, (ran(60), (bad,)), (ran(0), (taken, good))).kind is Kind.ACCEPTED_WRONGLY


def test_a_client_that_had_to_be_ended_hung_whatever_it_did_before() -> None:
    given = verdict(scenario("accept"), (ran(None, timed_out=True, signal="SIGKILL", seconds=5.0), (ACCEPTED,)))
    assert (given.kind, given.text) == (Kind.HUNG, "hung: it was still running after 5 s and was ended")


def test_a_client_that_a_signal_ended_crashed() -> None:
    given = verdict(scenario("refuse"), (ran(None, signal="SIGSEGV"), (REFUSED,)))
    assert (given.kind, given.text) == (Kind.CRASHED, "crashed: SIGSEGV ended it")


def test_a_client_without_a_session_never_connected() -> None:
    given = verdict(scenario("refuse"), (ran(7), ()))
    assert (given.kind, given.text) == (Kind.NEVER_CONNECTED, "never connected: it ended with exit code 7")
    assert verdict(scenario("accept"), (ran(0), (ACCEPTED,)), (ran(7), ())).kind is Kind.NEVER_CONNECTED


def test_what_was_not_on_the_wire_gives_no_verdict_but_that() -> None:
    given = verdict(scenario("refuse"), (ran(60), (REFUSED,)), unproved=["the intermediate was sent"])
    assert (given.kind, given.text) == (
        Kind.UNPROVED,
        "the fault never was on the wire: the intermediate was sent",
    )
    assert not given.kind.right


def test_a_proxy_that_could_not_make_the_certificate_is_no_refusal_of_the_client() -> None:
    failure = Failure(0.1, LegRole.CLIENT, Party.PROXY, code=FailureCode.CANNOT_MIMIC, text="cannot mimic this")
    broken = session(Status.FAILED, by=Party.PROXY, failures=(failure,))
    given = verdict(scenario("refuse"), (ran(35), (broken,)))
    assert (given.kind, given.text) == (
        Kind.UNPROVED,
        "the fault never was on the wire: the proxy cannot mimic this",
    )


def test_what_clients_of_a_kind_are_known_to_do_is_said_and_stays_wrong() -> None:
    made = scenario("refuse", clients={"curl": ClientExpect(known="accept", note="curl does not ask")})
    given = verdict(made, (ran(0), (ACCEPTED,)))
    assert given.known
    assert not given.kind.right
    assert "curl does not ask" in given.notes
    assert not verdict(made, (ran(60), (REFUSED,))).known


def test_a_refusal_with_other_words_than_expected_is_noted() -> None:
    made = scenario("refuse", clients={"curl": ClientExpect(alerts=("certificate_expired",), texts=("has expired",))})
    given = verdict(made, (ran(60, errors="curl: (60) unable to get local issuer certificate"), (REFUSED,)))
    assert given.kind is Kind.REFUSED
    assert given.notes == (
        "it sent unknown_ca, where certificate_expired was expected",
        "it did not say what was expected: 'has expired'",
    )
    assert given.said[0].line == "curl: (60) unable to get local issuer certificate"


def test_a_refusal_that_the_exit_code_hides_is_noted() -> None:
    assert verdict(scenario("refuse"), (ran(0), (REFUSED,))).notes == ("its exit code is 0 all the same",)


def test_what_the_client_did_not_ask_for_is_said_behind_its_verdict() -> None:
    given = verdict(scenario("refuse"), (ran(0), (ACCEPTED,)), notes=["it asked for no stapled response"])
    assert given.kind is Kind.ACCEPTED_WRONGLY
    assert given.notes[-1] == "it asked for no stapled response"


@pytest.mark.parametrize(
    ("right", "did", "sources", "why", "told"),
    [
        (
            "refuse",
            "ACCEPTED",
            ("R3", "RFC 5280 4.1.2.5"),
            "",
            "a right client would refuse: expired (RFC 5280 4.1.2.5)",
        ),
        ("refuse", "ACCEPTED", ("R3",), "", "a right client would refuse: expired"),
        (
            "accept",
            "REFUSED",
            (),
            "the root is there twice",
            "a right client would accept: expired (the root is there twice)",
        ),
    ],
)
def test_a_wrong_verdict_says_what_the_client_met_and_why_that_is_wrong(
    right: Literal["refuse", "accept"], did: str, sources: tuple[str, ...], why: str, told: str
) -> None:
    made = replace(scenario(right), title="expired", sources=sources, expect=Expect(right=right, why=why))
    assert verdict(made, (ran(60), ({"ACCEPTED": ACCEPTED, "REFUSED": REFUSED}[did],))).notes[0] == told


def test_a_session_without_any_tls_is_judged_by_the_exit_code() -> None:
    none = session(Status.FAILED, by=Party.CLIENT, legs=())
    assert verdict(scenario("refuse"), (ran(56), (none,))).kind is Kind.REFUSED
    assert verdict(scenario("refuse"), (ran(0), (none,))).kind is Kind.ACCEPTED_WRONGLY
