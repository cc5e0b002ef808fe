"""A session while it goes on: collects what the engine sees and gives a :class:`Recording` at any moment.

Nothing here knows asyncio or OpenSSL; the engine passes the seconds since the session's start with everything.
How much of it is kept, whatever the peers send: :mod:`countersign.recorder.budget`.
"""

from __future__ import annotations

import secrets as random_source
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from countersign.recorder.budget import LIVE, Budget, Pool
from countersign.recorder.outcome import judge
from countersign.recorder.recording import (
    DataCount,
    End,
    Ending,
    Failure,
    Leg,
    LegRole,
    Outcome,
    Recording,
    Status,
    Verification,
)
from countersign.recorder.wire.events import ApplicationData, EncryptedRecord, Event, Message, Problem, Side

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from countersign.recorder.wire.secrets import Secret

_ENCRYPTED_KEPT = 200
_FAULTS_KEPT = 200
_SECRETS_KEPT = 200  # of one leg; each renegotiation makes new ones


@dataclass(slots=True)
class _Count:
    side: Side
    records: int = 0
    length: int = 0
    first: float | None = None
    last: float | None = None

    def frozen(self) -> DataCount:
        return DataCount(self.records, self.length, self.first, self.last)


def _counted(counts: tuple[_Count, ...], side: Side, length: int, t: float, records: int = 1) -> tuple[_Count, ...]:
    """The counts of one or both sides with so much more of this one."""
    for counted in counts:
        if counted.side is side:
            counted.records += records
            counted.length += length
            counted.last = t
            return counts
    return (*counts, _Count(side, records, length, t, t))


@dataclass(slots=True)
class LiveLeg:
    """What has been seen of one leg so far."""

    role: LegRole
    messages: list[Message] = field(default_factory=list)
    budget: Budget = field(default_factory=Budget)
    data: tuple[_Count, ...] = ()
    ends: tuple[End, ...] = ()  # of these and the others there are few or none: no list is kept for each
    encrypted_records: tuple[EncryptedRecord, ...] = ()
    encrypted_beyond: tuple[_Count, ...] = ()
    """Those that are only counted."""
    secrets: tuple[Secret, ...] = ()
    verification: Verification | None = None
    faults: tuple[dict[str, Any], ...] = ()
    faults_beyond: int = 0
    revocation: tuple[dict[str, Any], ...] = ()

    def add(self, message: Message) -> None:
        """The next message of either side, as far as it can be kept."""
        kept = self.budget.take(message)
        if kept is not None:
            self.messages.append(kept)

    def add_encrypted(self, record: EncryptedRecord) -> None:
        """The next protected record that was not opened, as far as it can be kept."""
        if len(self.encrypted_records) < _ENCRYPTED_KEPT:
            self.encrypted_records += (record,)
        else:
            self.encrypted_beyond = _counted(self.encrypted_beyond, record.sender, record.length, record.t)

    def count(self, side: Side, length: int, t: float, records: int = 1) -> None:
        """Application data that ``side`` sent."""
        self.data = _counted(self.data, side, length, t, records)

    def has_data_of(self, side: Side) -> bool:
        """Whether this side has sent application data."""
        for counted in self.data:  # noqa: SIM110 - asked for each bite of bulk data
            if counted.side is side:
                return True
        return False

    def unkept(self) -> Iterator[Problem]:
        """What there was more of than is kept."""
        expected = (
            f"at most {LIVE.messages} messages and {LIVE.bytes} bytes of them kept, less while many sessions hold much"
        )
        problem = self.budget.problem("leg.messages", expected)
        if problem is not None:
            yield problem
        for more in self.encrypted_beyond:
            expected = f"at most {_ENCRYPTED_KEPT} encrypted records of a leg kept one by one"
            got = f"{more.records} more with {more.length} bytes, which are only counted"
            yield Problem(more.first or 0.0, more.side, "leg.encrypted_records", 0, expected, got)
        if self.faults_beyond:
            expected = f"at most {_FAULTS_KEPT} faults of a leg kept one by one"
            got = f"{self.faults_beyond} more, which are only counted"
            yield Problem(self.faults[-1].get("t", 0.0), Side.SERVER, "leg.faults", 0, expected, got)

    def frozen(self) -> Leg:
        return Leg(
            role=self.role,
            messages=tuple(self.messages),
            data={count.side: count.frozen() for count in self.data},
            ends=self.ends,
            encrypted_records=self.encrypted_records,
            secrets=self.secrets,
            verification=self.verification,
            faults=self.faults,
            revocation=self.revocation,
        )


_STILL_OPEN = Outcome(Status.OPEN, text="The session is still open.")


class LiveRecording:
    """One session being recorded. ``changed`` tells whoever stores it that there is something new."""

    def __init__(
        self,
        *,
        started: datetime,
        mode: str,
        action: str,
        client: str,
        target: str | None,
        label: str | None,
        pool: Pool | None = None,
    ) -> None:
        self.id = random_source.token_hex(8)
        self.started = started
        self.mode = mode
        self.action = action
        self.client = client
        self.target = target
        self.label = label
        self._pool = pool
        self.scenario: str | None = None
        self.step = 0
        self.sni: str | None = None
        self.legs: dict[LegRole, LiveLeg] = {}
        self.problems: list[tuple[LegRole, Problem]] = []  # a decoder tells a hundred of each side and then only counts
        self.failures: list[Failure] = []
        self.prelude: dict[str, Any] = {}
        self.http: list[dict[str, Any]] = []
        self.mtls: dict[str, Any] = {}
        self.not_mirrored: list[str] = []
        self.from_client = 0
        self.from_target = 0
        self.not_tls = False
        self.stopped: str | None = None  # why the proxy itself ended the session: what it did, behind "the proxy"
        self.changed = True

    def leg(self, role: LegRole) -> LiveLeg:
        """The leg of this role, begun if it was not."""
        if role not in self.legs:
            self.legs[role] = LiveLeg(role, budget=Budget(pool=self._pool))
        return self.legs[role]

    def add(self, role: LegRole, events: Sequence[Event]) -> None:
        """What a decoder said of this leg."""
        if not events:
            return
        self.changed = True
        leg = self.leg(role)
        for event in events:
            match event:
                case Message():
                    leg.add(event)
                case ApplicationData():
                    leg.count(event.sender, event.length, event.t, event.records)
                case EncryptedRecord():
                    leg.add_encrypted(event)
                case Problem():
                    self.problems.append((role, event))

    def end(self, role: LegRole, side: Side, how: Ending, t: float) -> None:
        """How the bytes of one side ended; the first ending of a side counts."""
        leg = self.leg(role)
        if not any(end.sender is side for end in leg.ends):
            leg.ends += (End(t, side, how),)
            self.changed = True

    def keep(self, role: LegRole, secret: Secret, t: float) -> None:
        """A traffic secret of this leg that the recording is to hold."""
        leg = self.leg(role)
        if len(leg.secrets) < _SECRETS_KEPT:
            leg.secrets += (secret,)
            self.changed = True
        elif not any(problem.field == "leg.secrets" and on is role for on, problem in self.problems):
            expected, got = f"at most {_SECRETS_KEPT} secrets kept of a leg", "more, which are not kept"
            self.problems.append((role, Problem(t, Side.CLIENT, "leg.secrets", 0, expected, got)))

    def fault(self, role: LegRole, entry: dict[str, Any]) -> None:
        """What was broken on purpose on this leg: what was done (``do``), at which message, when, and in a sentence."""
        leg = self.leg(role)
        if len(leg.faults) < _FAULTS_KEPT:
            leg.faults += (entry,)
        else:
            leg.faults_beyond += 1
        self.changed = True

    def fail(self, failure: Failure) -> None:
        self.failures.append(failure)
        self.changed = True

    @property
    def weight(self) -> int:
        """About how many bytes of memory its messages take; what a snapshot costs grows with it."""
        return sum(leg.budget.weight for leg in self.legs.values())

    def snapshot(self) -> Recording:
        """The session so far; its outcome is ``open``."""
        self.changed = False
        return self._recording(None)

    def _recording(self, ended: datetime | None) -> Recording:
        return Recording(
            id=self.id,
            started=self.started,
            ended=ended,
            mode=self.mode,
            action=self.action,
            scenario=self.scenario,
            step=self.step,
            client=self.client,
            target=self.target,
            sni=self.sni,
            label=self.label,
            outcome=_STILL_OPEN,
            from_client=self.from_client,
            from_target=self.from_target,
            legs=tuple(leg.frozen() for leg in self.legs.values()),
            problems=(*self.problems, *((leg.role, one) for leg in self.legs.values() for one in leg.unkept())),
            failures=tuple(self.failures),
            prelude=dict(self.prelude),
            http=tuple(self.http),
            mtls=dict(self.mtls),
            not_mirrored=tuple(self.not_mirrored),
        )

    def finished(self, ended: datetime) -> Recording:
        """The whole session with its judgement; what its messages had borrowed from the pool is given back."""
        for leg in self.legs.values():
            leg.budget.release()
        recording = self._recording(ended)
        return replace(recording, outcome=judge(recording, not_tls=self.not_tls, stopped=self.stopped))
