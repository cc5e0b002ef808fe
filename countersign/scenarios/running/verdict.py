"""What a client did under a scenario, against what a right one does: the recordings, its exit code, what it said.

The recordings decide, not the words. In each session the client has

- *refused*: it sent a fatal alert, or left before the handshake was over or before it had used it;
- *accepted*: it finished the handshake and sent application data, after all there was to be seen had been shown to it;
- been *turned away*: somebody else ended the session. We did (a cut, an alert, a certificate of the client's that is
  refused), and in TLS 1.3 that comes after the client's first data (RFC 8446 4.4.2.4, E.1.1), so what it had sent by
  then accepts nothing. Or the target's side broke, which the client learns of in the middle of its data at times. Then
  only its exit code tells what it made of it.

A client that finishes the handshake, sends nothing and ends with 0 has accepted: ``openssl s_client`` with nothing to
say looks so. With another exit code it is the host name verifier that refuses afterwards.

A run may have several sessions, for clients try again by themselves. To *accept* is right when the last session that
tells is an accepted one; where to *refuse* is right, one accepted session is one too many. Of a schedule's steps, those
before the last are on the way there: they count only where acceptance is what is right. Where steps go round or come by
chance, one of them is what has to be refused, each time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

from countersign.errors import UserError
from countersign.recorder.recording import FailureCode, LegRole, Party, Status
from countersign.recorder.wire import codes
from countersign.recorder.wire.events import Content, Side

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from countersign.recorder.recording import Leg, Recording
    from countersign.scenarios.expect import ClientExpect
    from countersign.scenarios.model import Scenario
    from countersign.scenarios.running.process import Ran
    from countersign.scenarios.running.texts import Said
    from countersign.scenarios.running.trigger import Answered


NEVER_ON_THE_WIRE = "the fault never was on the wire: "
"""How the text of a verdict begins that is unproved; then comes why."""

_OURS = {FailureCode.CANNOT_MIMIC, FailureCode.CANNOT_BEGIN, FailureCode.CA_EXPIRED, FailureCode.INTERNAL}
"""Failures of the proxy that no scenario orders."""


class Did(StrEnum):
    """What a client did in a session, or in all."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    TURNED_AWAY = "turned-away"


class Kind(StrEnum):
    """A verdict in one word."""

    REFUSED = "refused"
    ACCEPTED = "accepted"
    ACCEPTED_WRONGLY = "accepted-wrongly"
    REFUSED_WRONGLY = "refused-wrongly"
    HUNG = "hung"
    CRASHED = "crashed"
    NEVER_CONNECTED = "never-connected"
    SKIPPED = "skipped"
    UNPROVED = "unproved"
    """The fault never was on the wire: no verdict can be given."""

    @property
    def right(self) -> bool:
        """Whether nothing is to be done about it."""
        return self in {Kind.REFUSED, Kind.ACCEPTED, Kind.SKIPPED}


@dataclass(frozen=True, slots=True)
class Session:
    """One session as the client had it. ``sent`` counts bytes of application data; ``alert`` is its own."""

    did: Did
    sent: int
    resumed: bool
    alert: str | None
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """``text`` is the sentence. ``known``: clients of this family are known to do so. ``notes`` stand behind it.

    ``excused`` is why it is taken as it is where it is wrong, if somebody has said so (:class:`Excuse`).
    """

    kind: Kind
    text: str
    sent: int = 0
    sessions: int = 0
    resumed: bool = False
    alerts: tuple[str, ...] = ()
    said: tuple[Said, ...] = ()
    known: bool = False
    notes: tuple[str, ...] = ()
    excused: str = ""


@dataclass(frozen=True, slots=True)
class Excuse:
    """What is known of this very client under a scenario, and why that is taken as it is."""

    does: Literal["accept", "refuse"]
    reason: str

    @classmethod
    def parse(cls, text: str) -> tuple[str, Excuse]:
        """``SCENARIO=accept:reason`` as the scenario's name and the rest. Raises :class:`UserError`."""
        name, _, rest = text.partition("=")
        does, _, reason = rest.partition(":")
        if not name.strip() or does not in {"accept", "refuse"} or not reason.strip():
            raise UserError(
                "--known takes a scenario, what the client does, and why that is taken as it is, as in"
                f" expired=accept:TICKET-123; got {text!r}"
            )
        return name.strip(), cls("accept" if does == "accept" else "refuse", reason.strip())

    def of(self, verdict: Verdict) -> Verdict:
        """The verdict with this in mind: excused, or with a note that the excuse is not needed any more."""
        wrong = Kind.ACCEPTED_WRONGLY if self.does == "accept" else Kind.REFUSED_WRONGLY
        if verdict.kind is wrong:
            return replace(verdict, excused=self.reason)
        if verdict.kind in {Kind.ACCEPTED, Kind.REFUSED}:
            note = f"it was said to {self.does} ({self.reason}), and that is not wrong, or not so any more"
            return replace(verdict, notes=(*verdict.notes, note))
        return verdict


@dataclass(frozen=True, slots=True)
class Take:
    """One run of a client and the sessions that it made."""

    ran: Ran | Answered
    recordings: tuple[Recording, ...]


def skipped(why: str) -> Verdict:
    """The scenario could not be put to this client."""
    return Verdict(kind=Kind.SKIPPED, text=f"skipped: {why}")


def judge(
    scenario: Scenario,
    takes: Sequence[Take],
    *,
    family: str | None,
    unproved: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> Verdict:
    """The verdict on all runs of a client under ``scenario``, of which there is at least one.

    ``unproved`` are the reasons why the fault cannot have been met; ``notes`` what else is to be said, such as what the
    client did not ask for, as it may, and so has not met.
    """
    ran = takes[-1].ran
    sessions = [session_of(each, ended_well=take.ran.well) for take in takes for each in take.recordings]
    counted = _counted(scenario, sessions)
    sent = sum(session.sent for session in counted if session.did is Did.ACCEPTED)
    resumed = any(session.resumed and session.did is Did.ACCEPTED for session in counted)
    expect = scenario.expect.of(family)
    did: Did | None = None
    if any(take.ran.timed_out for take in takes):
        kind, text = Kind.HUNG, f"hung: {next(take.ran.hung for take in takes if take.ran.timed_out)}"
    elif crashed := next((take.ran for take in takes if take.ran.crashed), None):
        kind, text = Kind.CRASHED, f"crashed: {crashed.signal} ended it"
    elif not takes[-1].recordings:
        kind, text = Kind.NEVER_CONNECTED, f"never connected: {ran.how_it_ended}"
    elif reasons := [*_made_impossible(takes), *unproved]:
        kind, text = Kind.UNPROVED, f"{NEVER_ON_THE_WIRE}{reasons[0]}"
    else:
        did = _did(scenario, counted, ran)
        kind, text = _against(scenario, did, sent)
        if resumed and did is Did.ACCEPTED:
            text += "; it resumed an earlier session, so it was shown no certificate"
    alerts = tuple(dict.fromkeys(session.alert for session in counted if session.alert))
    return Verdict(
        kind=kind,
        text=text,
        sent=sent,
        sessions=len(sessions),
        resumed=resumed,
        alerts=alerts,
        said=() if did is Did.ACCEPTED and ran.well else ran.said,
        known=did is not None and _is_known(expect, did),
        notes=(
            *_why(scenario, kind),
            *_notes(expect, did, counted, ran, alerts=alerts),
            *_of_the_target(takes[-1].recordings),
            *notes,
        ),
    )


def _made_impossible(takes: Sequence[Take]) -> Iterator[str]:
    """What kept the proxy from showing the client anything at all."""
    for take in takes:
        for recording in take.recordings:
            ours = [f"the proxy {each.text}" for each in recording.failures if each.code in _OURS]
            leg = recording.leg(LegRole.CLIENT)
            if ours and (leg is None or not any(sent.sender is Side.SERVER for sent in leg.read().certificates)):
                yield from ours


def _counted(scenario: Scenario, sessions: Sequence[Session]) -> Sequence[Session]:
    """Those that the verdict is about."""
    if scenario.expect.right != "refuse" or not sessions:
        return sessions
    by_step = {
        number: [each for each in sessions if each.step == number] for number in {each.step for each in sessions}
    }
    if scenario.schedule.order == "steps":
        return by_step[max(by_step)]
    refused = (found for found in by_step.values() if all(each.did is not Did.ACCEPTED for each in found))
    return next(refused, sessions)


def _did(scenario: Scenario, sessions: Sequence[Session], ran: Ran | Answered) -> Did:
    told = [session.did for session in sessions if session.did is not Did.TURNED_AWAY]
    if not told:
        return Did.ACCEPTED if ran.well else Did.REFUSED
    if scenario.expect.right == "refuse":
        return Did.ACCEPTED if Did.ACCEPTED in told else Did.REFUSED
    return Did.REFUSED if Did.REFUSED in told and (told[-1] is Did.REFUSED or not ran.well) else Did.ACCEPTED


def _against(scenario: Scenario, did: Did, sent: int) -> tuple[Kind, str]:
    accepted = did is Did.ACCEPTED
    match scenario.expect.right:
        case "either":
            return (Kind.ACCEPTED, "accepted, as it may") if accepted else (Kind.REFUSED, "refused, as it may")
        case "accept":
            if accepted:
                return Kind.ACCEPTED, "accepted as it should"
            return Kind.REFUSED_WRONGLY, "refused but should have accepted"
        case "refuse":
            if not accepted:
                return Kind.REFUSED, "refused as it should"
            return (
                Kind.ACCEPTED_WRONGLY,
                f"accepted but should have refused (sent {sent} bytes of application data)",
            )


def _why(scenario: Scenario, kind: Kind) -> Iterator[str]:
    """What the client met and why that asks for another answer, in the scenario's own words."""
    if kind in {Kind.ACCEPTED_WRONGLY, Kind.REFUSED_WRONGLY}:
        why = scenario.expect.why or ", ".join(each for each in scenario.sources if each.startswith("RFC "))
        yield f"a right client would {scenario.expect.right}: {scenario.title}" + (f" ({why})" if why else "")


def _is_known(expect: ClientExpect, did: Did) -> bool:
    return expect.known == ("accept" if did is Did.ACCEPTED else "refuse")


def _notes(
    expect: ClientExpect,
    did: Did | None,
    sessions: Sequence[Session],
    ran: Ran | Answered,
    *,
    alerts: Sequence[str],
) -> list[str]:
    notes = []
    if did is Did.REFUSED and ran.well:
        notes.append(ran.well_said)
    if did is Did.REFUSED and expect.alerts and alerts and not set(alerts) & set(expect.alerts):
        notes.append(f"it sent {', '.join(alerts)}, where {' or '.join(expect.alerts)} was expected")
    if did is Did.REFUSED and expect.texts and not any(text in ran.errors + ran.output for text in expect.texts):
        notes.append(f"it did not say what was expected: {' or '.join(repr(text) for text in expect.texts)}")
    if len(sessions) > 1:
        notes.append(f"it connected {len(sessions)} times")
    if did is not None and _is_known(expect, did) and expect.note:
        notes.append(expect.note)
    return notes


def _of_the_target(recordings: Sequence[Recording]) -> Iterator[str]:
    """Sessions that broke on the target's side, before the client had anything to judge."""
    for recording in recordings:
        outcome = recording.outcome
        if outcome.status is Status.FAILED and outcome.leg is LegRole.SERVER:
            yield outcome.text


# -- one session ---------------------------------------------------------------------------------------------------


def session_of(recording: Recording, *, ended_well: bool) -> Session:
    """What the client did in this session; ``ended_well`` is what its exit code says of all of them."""
    leg = recording.leg(LegRole.CLIENT) or recording.leg(LegRole.THROUGH)
    if leg is None:
        return Session(Did.TURNED_AWAY, 0, False, None, recording.step)
    sent = leg.count(Side.CLIENT).length
    resumed = bool(leg.read().resumed)
    alert = recording.outcome.alert if recording.outcome.broken_by is Party.CLIENT else None
    return Session(_did_in(recording, leg, ended_well=ended_well), sent, resumed, alert, recording.step)


def _did_in(recording: Recording, leg: Leg, *, ended_well: bool) -> Did:
    outcome = recording.outcome
    if _ended_by_us(leg) or _target_broke(recording, leg):
        return Did.TURNED_AWAY
    if outcome.broken_by is Party.CLIENT and outcome.status is Status.FAILED:
        return Did.REFUSED
    if outcome.status is Status.ESTABLISHED or leg.count(Side.CLIENT).length:
        return Did.ACCEPTED
    if outcome.status is Status.ABANDONED:
        return Did.ACCEPTED if ended_well else Did.REFUSED
    return Did.TURNED_AWAY


def _ended_by_us(leg: Leg) -> bool:
    """A fatal alert of ours to the client came before any of its own, or a fault once it had sent its first data."""
    for message in leg.messages:
        if message.content is not Content.ALERT or len(message.raw) < 2 or message.raw[1] in codes.NEVER_FATAL:
            continue
        if message.sender is Side.CLIENT:
            break
        if message.raw[0] == codes.FATAL or message.encrypted:  # in TLS 1.3 the level means nothing (RFC 8446 6)
            return True
    first = leg.count(Side.CLIENT).first
    return first is not None and any(float(fault.get("t", 0.0)) >= first for fault in leg.faults)


def _target_broke(recording: Recording, leg: Leg) -> bool:
    """What the client wanted never came through: the target's side failed, or a fault met its data there."""
    server, first = recording.leg(LegRole.SERVER), leg.count(Side.CLIENT).first
    if server is None or first is None:
        return False
    failed = recording.outcome.status is Status.FAILED and recording.outcome.leg is LegRole.SERVER
    return failed or any(float(fault.get("t", 0.0)) >= first for fault in server.faults)
