"""A proxy under a scenario as a program holds it: where to send a client, what it then did, and what is expected of it.

Clients of a program are of two kinds. One that runs as a process (:meth:`ScenarioProxy.run`) has an exit code; one that
is a call in the program itself raises, or does not (:meth:`ScenarioProxy.attempt`). Recordings tell most of what a
client did, and this the rest: whether one that was cut off has noticed, whether one that finished the handshake and
went was content. Where the rest is needed and nobody has said it, there is no verdict (:class:`CannotTell`).

A session may go on while it is judged, for clients keep connections. It is waited for until it has ended or carries
data both ways, whichever comes first.

An assertion that holds says nothing where the fault never was on the wire. So each looks first whether it was, and
raises :class:`NotOnTheWire` where it was not. That steps of a scenario are still to come is looked at when it is
closed.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self, TypeVar

from countersign.errors import CountersignError, UserError
from countersign.recorder.files.ladder import render_ladder
from countersign.recorder.recording import LegRole
from countersign.recorder.wire.events import Content, Side
from countersign.recorder.wire.names import ALERTS
from countersign.scenarios.model import nearest
from countersign.scenarios.running.clients import Place, Way, environment, family_of, filled
from countersign.scenarios.running.guard import MARK
from countersign.scenarios.running.process import Ran, run_client
from countersign.scenarios.running.verdict import Kind, Take, Verdict, judge

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from pathlib import Path
    from types import TracebackType

    from countersign.recorder.recording import Recording
    from countersign.scenarios.model import Scenario
    from countersign.scenarios.proof import Unproved
    from countersign.scenarios.running.stage import Stage
    from countersign.scenarios.running.thread import LoopThread

_Made = TypeVar("_Made")

_LADDER_WIDTH = 110
_ACCEPTED, _REFUSED = {Kind.ACCEPTED, Kind.ACCEPTED_WRONGLY}, {Kind.REFUSED, Kind.REFUSED_WRONGLY}


class NotOnTheWire(CountersignError):  # noqa: N818 - no fault of the client's
    """What the scenario orders was not on the wire, so nothing was tested; or no client came at all."""

    exit_code = 4


class CannotTell(AssertionError):  # noqa: N818 - an assertion that cannot be judged
    """The recordings leave open what the client did, and nobody has said how it went."""


class Attempt:
    """What a client in this program does, as a ``with`` block.

    An exception that comes out of it is how the client refused: it stays here, as ``error``, and the program goes on.
    Assertions of the program's own pass through, and so do errors of ours.
    """

    def __init__(self, proxy: ScenarioProxy) -> None:
        self._proxy = proxy
        self._began = 0.0
        self.error: Exception | None = None

    def __enter__(self) -> Self:
        self._proxy.settle()
        self._proxy.divide(None)
        self._began = time.monotonic()
        return self

    def __exit__(self, _type: object, error: BaseException | None, _where: TracebackType | None) -> bool:
        kept = isinstance(error, Exception) and not isinstance(error, AssertionError | CountersignError)
        if error is not None and not kept:
            return False
        self.error = error if isinstance(error, Exception) else None
        self._proxy.settle()
        self._proxy.divide(
            Ran(
                argv=("the program",),
                code=0 if error is None else 1,
                signal=None,
                timed_out=False,
                output="",
                errors="\n".join(_words(error)),
                seconds=time.monotonic() - self._began,
            )
        )
        return True


def _words(error: BaseException | None) -> list[str]:
    """What an exception says, and those behind it: libraries wrap what TLS said into errors of their own."""
    found: list[str] = []
    while error is not None and len(found) < 10:
        found.append(f"{type(error).__name__}: {error}")
        error = error.__cause__ or error.__context__
    return found


@dataclass(frozen=True, slots=True)
class _Take:
    """A run of a client; ``ran`` is None where nobody has said how it went. ``recordings`` are ids."""

    ran: Ran | None
    recordings: frozenset[str]


class ScenarioProxy:
    """See the top of the module; :func:`countersign.run` and the pytest fixture make them.

    ``url``, ``host`` and ``port`` are where a client is to go, ``ca`` is the file (PEM) of what it has to trust,
    ``proxy_url`` the proxy that it has to be told of (None where it goes straight). ``client_cert`` and ``client_key``
    are files with what it may show. All of these are good in any thread or process.
    """

    def __init__(
        self,
        thread: LoopThread,
        stage: Stage,
        *,
        mark: str,
        family: str | None,
        on_close: Callable[[ScenarioProxy], None],
    ) -> None:
        self.scenario: Scenario = stage.scenario
        self.where = where = stage.where
        self.url, self.host, self.port = where.url, where.host, where.port
        self.ca: Path = where.ca
        self.proxy_url = f"http://{where.proxy}" if where.way is Way.CONNECT else None
        self.answered_for = False
        """Whether an assertion has looked at what there was to see."""
        self._thread, self._stage, self._watch, self._mark = thread, stage, stage.watch, mark
        self._family, self._given = family, family is not None
        self._on_close = on_close
        self._takes: list[_Take] = []
        self._told: set[str] = set()
        self._final: tuple[tuple[Recording, ...], tuple[Unproved, ...]] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<ScenarioProxy {self.scenario.id} at {self.where.proxy}{'' if self._final is None else ', stopped'}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a proxy cannot be sent to another process: send what the client there needs, such as proxy.url and"
            " str(proxy.ca), or start it with proxy.env"
        )

    # -- for clients ---------------------------------------------------------------------------------------------

    @cached_property
    def place(self) -> Place:
        """All that a client may be given, made when somebody wants more than ``url`` and ``ca``; here or in a fork."""
        if not self.ca.exists():
            raise UserError(
                f"the proxy under {self.scenario.id} was stopped, and its files are gone; take env, client_cert and"
                " client_key while it runs"
            )
        return self._stage.place()

    @property
    def client_cert(self) -> Path:
        return self.place.client_cert

    @property
    def client_key(self) -> Path:
        return self.place.client_key

    @property
    def env(self) -> dict[str, str]:
        """The environment for a client that is a process: ours with proxy and roots, as many clients know them.

        A process that has it is ended at the latest when this program is.
        """
        return environment(os.environ, self.place) | {MARK: self._mark}

    def attempt(self) -> Attempt:
        """``with proxy.attempt():`` around what a client in this program does."""
        return Attempt(self)

    def run(self, *argv: str | os.PathLike[str], timeout: float = 30.0, env: Mapping[str, str] | None = None) -> Ran:
        """Run a client as a process; ``{url}``, ``{ca}`` and their like are filled in. ``env`` is put over ours.

        It gets ``timeout`` seconds; then it is ended, with whatever it has started. Raises :class:`UserError` where
        there is no such program.
        """
        words = tuple(os.fspath(word) for word in argv)
        if not words:
            raise UserError("cannot run a client: expected its program and arguments, got nothing")
        family = family_of(words)
        told = self.env | dict(env or {})
        self.settle()
        self.divide(None)
        ran = self._call(
            run_client(filled(words, self.place), env=told, timeout=timeout, stdin=family.says), what="run a client"
        )
        if not self._given:
            self._family = family.name
        self.settle()
        self.divide(ran)
        return ran

    def step(self, number: int | None = None) -> int:
        """Go to the next step of the scenario, or to this one (the first is 1), and say which it is now."""
        return self._call(self._step(number), what="go to a step")

    async def _step(self, number: int | None) -> int:
        now = self._stage.director.step_to(number)
        await self._stage.turn()
        return now

    # -- what happened -------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Wait until what clients have done so far is recorded, three seconds at most.

        All that follows does so by itself. In a coroutine whose own loop the client needs for its last words, await
        ``asyncio.to_thread(proxy.settle)`` before.
        """
        if self._final is None:
            self._call(self._watch.settle(lambda: self._stage.engine.open_sessions), what="wait for the sessions")

    @property
    def recordings(self) -> tuple[Recording, ...]:
        """The sessions so far, in the order in which they began; those that still go on as far as they are."""
        if self._final is not None:
            return self._final[0]
        self.settle()
        return self._call(self._recorded(), what="read the recordings")

    async def _recorded(self) -> tuple[Recording, ...]:
        there = {each.id: each for each in (*self._watch.still_open, *self._stage.recordings)}
        return tuple(sorted(there.values(), key=lambda each: each.started))

    @property
    def alerts(self) -> tuple[str, ...]:
        """The names of the alerts that clients sent, ``close_notify`` and ``user_canceled`` left out."""
        return self._alerts(Side.CLIENT)

    def _alerts(self, sender: Side) -> tuple[str, ...]:
        found = [
            ALERTS.get(message.raw[1], str(message.raw[1]))
            for recording in self.recordings
            if (leg := recording.leg(LegRole.CLIENT) or recording.leg(LegRole.THROUGH)) is not None
            for message in leg.messages
            if message.content is Content.ALERT and message.sender is sender and len(message.raw) > 1
        ]
        return tuple(dict.fromkeys(name for name in found if name not in {"close_notify", "user_canceled"}))

    @property
    def unproved(self) -> tuple[Unproved, ...]:
        """What of the scenario was not on the wire so far, in all its steps."""
        if self._final is not None:
            return self._final[1]
        self.settle()
        return self._call(self._stage.unproved(self._watch.still_open), what="look at the wire")

    def ladder(self) -> str:
        """All sessions as text, as ``countersign show`` draws them."""
        return "\n\n".join(render_ladder(each, width=_LADDER_WIDTH) for each in self.recordings)

    def divide(self, ran: Ran | None) -> None:
        """What has been recorded since the last one is a run of the client, which went so."""
        new = frozenset(each.id for each in self.recordings) - self._told
        if new or ran is not None:
            self._takes.append(_Take(ran, new))
            self._told |= new

    def verdict(self) -> Verdict:
        """What the client did, against what a right one does, over all its runs so far; as ``countersign run`` says it.

        Raises :class:`CannotTell`.
        """
        recordings = {each.id: each for each in self.recordings}
        if not recordings:
            return Verdict(kind=Kind.NEVER_CONNECTED, text=f"never connected: nobody came to {self._where()}")
        rest = frozenset(recordings) - self._told
        takes = [take for take in (*self._takes, _Take(None, rest)) if take.recordings]
        missing = self.unproved
        well, ill = (
            judge(
                self.scenario,
                [
                    Take(
                        take.ran or _untold(code),
                        tuple(each for each in recordings.values() if each.id in take.recordings),
                    )
                    for take in takes
                ],
                family=self._family or "python",
                unproved=[each.text for each in missing if not each.not_asked and not self._to_come(each)],
                notes=[each.text for each in missing if each.not_asked],
            )
            for code in (0, 1)
        )
        if well.kind is not ill.kind:
            raise CannotTell(
                f"the recordings of {self.scenario.id} do not tell what the client made of it ({self._outcomes()});"
                " run it in a `with proxy.attempt():` block, or by proxy.run(...), so that it is known how it went for"
                " the client"
            )
        return well if well.kind in _ACCEPTED else ill

    def _to_come(self, unproved: Unproved) -> bool:
        """A step that may still be reached."""
        return unproved.part == "step" and self._final is None

    # -- expectations --------------------------------------------------------------------------------------------

    def assert_refused(self) -> None:
        """The client refused what it was shown, whether that is right or not."""
        __tracebackhide__ = True
        self._expect("refuse", _REFUSED)

    def assert_accepted(self) -> None:
        """The client accepted what it was shown, whether that is right or not."""
        __tracebackhide__ = True
        self._expect("accept", _ACCEPTED)

    def assert_right(self) -> None:
        """The client did what is right under this scenario: for tests that run under many."""
        __tracebackhide__ = True
        verdict = self._proved()
        if not verdict.kind.right:
            self._fail(f"the client did wrong under {self._called()}: it {verdict.text}", verdict)

    def assert_alert(self, *names: str, sender: Literal["client", "proxy"] = "client") -> None:
        """An alert of one of these names was sent, by the client unless it is to be the proxy."""
        __tracebackhide__ = True
        if not names:
            raise UserError("cannot look for an alert: expected its name, such as unknown_ca")
        for name in names:
            if name not in ALERTS.values():
                raise UserError(f"there is no alert {name!r}{nearest(name, ALERTS.values())}")
        verdict = self._proved()
        sent = self._alerts(Side.CLIENT if sender == "client" else Side.SERVER)
        if not set(sent) & set(names):
            came = f"it sent {', '.join(sent)}" if sent else "it sent none"
            self._fail(
                f"expected the {sender} to send {' or '.join(names)} under {self._called()}; {came}"
                f" (the client {verdict.text})",
                verdict,
            )

    def assert_no_connection(self) -> None:
        """Nobody came: for a client that is to stay away."""
        __tracebackhide__ = True
        self.answered_for = True
        if self.recordings:
            raise AssertionError(f"expected nobody to come to {self._where()}, but {self._outcomes()}")

    def check_wire(self) -> None:
        """Raise :class:`NotOnTheWire` where no client came, or the scenario was not on the wire in all its steps."""
        __tracebackhide__ = True
        if not self.recordings:
            raise NotOnTheWire(
                f"nothing was tested under {self.scenario.id}: no client came to {self._where()} (a client that is to"
                " stay away is what assert_no_connection() is for)"
            )
        missing = [each for each in self.unproved if not each.not_asked]
        if missing:
            raise NotOnTheWire(
                f"nothing was tested: what {self.scenario.id} orders never was on the wire:"
                f" {'; '.join(each.text for each in missing)}"
            )

    def _expect(self, what: str, kinds: set[Kind]) -> None:
        __tracebackhide__ = True
        verdict = self._proved()
        if verdict.kind not in kinds:
            self._fail(f"expected the client to {what} {self._called()}; it {verdict.text}", verdict)

    def _proved(self) -> Verdict:
        __tracebackhide__ = True
        self.answered_for = True
        verdict = self.verdict()
        if verdict.kind is Kind.UNPROVED:
            raise NotOnTheWire(f"nothing was tested under {self.scenario.id}: {verdict.text}")
        return verdict

    def _fail(self, sentence: str, verdict: Verdict) -> NoReturn:
        __tracebackhide__ = True
        lines = [sentence, f"  seen: {self._outcomes()}"]
        lines += [f"  it said: {said.line}" + (f" ({said.meaning})" if said.meaning else "") for said in verdict.said]
        lines += [f"  note: {note}" for note in verdict.notes]
        raise AssertionError("\n".join(lines))

    def _called(self) -> str:
        return f"{self.scenario.id} ({self.scenario.title})" if self.scenario.title else self.scenario.id

    def _where(self) -> str:
        return self.url if self.proxy_url is None else f"the proxy {self.proxy_url}"

    def _outcomes(self) -> str:
        found = [each.outcome.text or each.outcome.status.value for each in self.recordings]
        return " / ".join(dict.fromkeys(found)) or "no session"

    # -- end -----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Stop it. What was recorded can still be read, and asserted. Once is enough, again does no harm."""
        if self._final is not None:
            return
        if not self._thread.here:  # in a fork it is not ours, and without its thread it is gone
            return
        self._final = self._call(self._conclude(), what="stop the proxy")
        self._on_close(self)

    async def _conclude(self) -> tuple[tuple[Recording, ...], tuple[Unproved, ...]]:
        try:
            await self._watch.settle(lambda: self._stage.engine.open_sessions)
            missing = await self._stage.unproved(self._watch.still_open)
        finally:
            await self._stage.__aexit__(None, None, None)
        return await self._recorded(), missing

    def _call(self, work: Coroutine[Any, Any, _Made], *, what: str) -> _Made:
        if self._final is not None:
            work.close()
            raise UserError(f"cannot {what}: the proxy under {self.scenario.id} was stopped")
        return self._thread.call(work, what=what)


def _untold(code: int) -> Ran:
    return Ran(("the program",), code, None, timed_out=False, output="", errors="", seconds=0.0)
