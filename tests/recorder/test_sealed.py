"""What the sizes of sealed records tell, on legs made by hand; real ones are in tests/findings."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from countersign.recorder.outcome import judge
from countersign.recorder.recording import DataCount, End, Ending, Leg, LegRole, Party, Status
from countersign.recorder.sealed import Flight, sealed
from countersign.recorder.wire.events import EncryptedRecord, Side
from tests.recorder import made_recordings as made
from tests.recorder.transcripts import transcript

C, S = Side.CLIENT, Side.SERVER
HELLOS = tuple(replace(one, t=0.0) for one in transcript("tls13-full")[:2])
EMPTY, FINISHED, ALERT, JSSE = 25, 69, 19, 16  # TLS_AES_256_GCM_SHA384
FLIGHT = tuple(EncryptedRecord(0.1, S, 23, length) for length in (23, 900, 100, FINISHED))


def leg(*client: int, answers: tuple[int, ...] = (), ends: tuple[End, ...] = ()) -> Leg:
    """The client's records at 0.2, 0.21 ..., what the server says to them at 0.3, 0.31 ..."""
    said = [(0.2 + n / 100, C, length) for n, length in enumerate(client)]
    said += [(0.3 + n / 100, S, length) for n, length in enumerate(answers)]
    records = (EncryptedRecord(t, side, 23, length, length in {ALERT, ALERT + JSSE}) for t, side, length in said)
    return Leg(LegRole.THROUGH, HELLOS, {}, ends, encrypted_records=(*FLIGHT, *records))


LEAVES, CLOSES = End(0.4, C, Ending.FIN), End(0.35, S, Ending.FIN)


@pytest.mark.parametrize(
    ("client", "flight", "used"),
    [
        ((), Flight.NOTHING, False),
        ((ALERT,), Flight.ALERT, False),
        ((ALERT + JSSE,), Flight.ALERT, False),
        ((FINISHED,), Flight.FINISHED, False),
        ((FINISHED + JSSE, ALERT + JSSE), Flight.FINISHED, False),
        ((FINISHED, 96, ALERT), Flight.FINISHED, True),
        ((FINISHED + JSSE, ALERT + JSSE, ALERT + JSSE), Flight.FINISHED, False),  # user_canceled, close_notify
        ((FINISHED + JSSE, ALERT + JSSE, ALERT + JSSE, ALERT + JSSE), Flight.FINISHED, True),
        ((FINISHED, ALERT + JSSE, ALERT), Flight.FINISHED, True),
        ((FINISHED, ALERT, ALERT), Flight.FINISHED, True),
        ((EMPTY, FINISHED), Flight.NO_CERTIFICATE, False),
        ((EMPTY + JSSE, FINISHED + JSSE, 96), Flight.NO_CERTIFICATE, True),
        ((FINISHED + 8,), Flight.NO_CERTIFICATE, False),  # both in one record
        ((1200, 100, FINISHED), Flight.CERTIFICATE, False),
    ],
)
def test_the_clients_flight_is_known_by_its_sizes(client: tuple[int, ...], flight: Flight, used: bool) -> None:  # noqa: FBT001
    found = sealed(leg(*client))
    assert found is not None
    assert (found.flight, found.used, found.answered) == (flight, used, False)


def test_what_fits_nothing_is_not_guessed_at() -> None:
    assert sealed(leg(500)) is None
    assert sealed(leg(500, ALERT, FINISHED)) is None
    finished = leg(FINISHED)
    assert sealed(finished) is not None
    assert sealed(replace(finished, role=LegRole.CLIENT)) is None
    assert sealed(replace(finished, messages=())) is None
    assert sealed(replace(finished, encrypted_records=())) is None
    for name, hellos in (("tls12-ecdhe", 2), ("tls13-early-data", 3)):
        assert sealed(replace(finished, messages=tuple(transcript(name)[:hellos]))) is None


def test_data_of_the_size_of_an_alert_that_is_answered_is_no_goodbye() -> None:
    """``GET / HTTP/1.1`` has the size of an alert of JSSE's."""
    asked = sealed(leg(FINISHED, ALERT + JSSE, answers=(500,)))
    assert asked is not None
    assert (asked.used, asked.client_left) == (True, math.inf)
    left = sealed(leg(FINISHED, ALERT, answers=(250,)))  # tickets that were on their way
    assert left is not None
    assert (left.used, left.answered) == (False, True)
    assert left.client_left == pytest.approx(0.21)
    crossed = leg(FINISHED + JSSE, ALERT + JSSE, ALERT + JSSE, answers=(250, 250))
    for left_at, used in ((0.25, False), (0.4, True)):  # before the tickets came, and behind what it waited for
        found = sealed(replace(crossed, ends=(End(left_at, C, Ending.FIN),)))
        assert found is not None
        assert (found.used, found.answered) == (used, True)
        assert found.client_left == pytest.approx(left_at if used else 0.21)
    more = replace(leg(FINISHED), data={C: DataCount(1, 90, 0.25, 0.25)})
    found = sealed(more)
    assert found is not None
    assert found.used


@pytest.mark.parametrize(
    ("made_leg", "status", "by", "words"),
    [
        (leg(ALERT, ends=(CLOSES, LEAVES)), Status.FAILED, Party.CLIENT, "and no Finished"),
        (leg(ends=(LEAVES,)), Status.FAILED, Party.CLIENT, "closed the connection in the middle"),
        (leg(ends=(CLOSES, LEAVES)), Status.FAILED, Party.TARGET, "closed the connection in the middle"),
        (leg(FINISHED, ALERT, answers=(250,), ends=(LEAVES,)), Status.ABANDONED, Party.CLIENT, "by the sizes"),
        (leg(FINISHED, ALERT, ends=(CLOSES, LEAVES)), Status.ABANDONED, Party.CLIENT, "by the sizes"),
        (leg(FINISHED, 96, answers=(250, 900), ends=(LEAVES,)), Status.ESTABLISHED, None, "encrypted"),
        (leg(EMPTY, FINISHED, 96, answers=(ALERT,), ends=(CLOSES,)), Status.FAILED, Party.TARGET, "and got none"),
        (leg(1200, FINISHED, answers=(ALERT,), ends=(CLOSES,)), Status.FAILED, Party.TARGET, "and got one"),
        (leg(FINISHED, 96, answers=(ALERT,), ends=(CLOSES,)), Status.FAILED, Party.TARGET, "did not answer it"),
        (leg(EMPTY, FINISHED, 96, ALERT, answers=(ALERT,), ends=(CLOSES,)), Status.FAILED, Party.UNKNOWN, "encrypted"),
        (leg(500, ends=(CLOSES, LEAVES)), Status.FAILED, Party.UNKNOWN, "encrypted"),
    ],
)
def test_who_ended_it_is_said_as_far_as_sizes_tell(made_leg: Leg, status: Status, by: Party | None, words: str) -> None:
    outcome = judge(made.recording(made_leg, action="passthrough"))
    assert (outcome.status, outcome.broken_by) == (status, by), outcome.text
    assert words in outcome.text
