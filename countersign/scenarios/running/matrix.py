"""A client under one scenario or many: the plain one first, then all of them, several at a time.

Before any other verdict the client has to accept the *plain* scenario in the same environment, for one that ignores our
trust settings would pass every scenario in which refusing is right. That is also how the way in is found: a client that
never connects by the way that its family prefers is sent the other way, and only then it is said that it cannot be had.
One that asks about revocation, and refuses what names no responder, gets certificates that do, in every scenario.

A scenario with steps is played until its last step has been met: the client is run again, the time that a step waits
for is waited for where it is short, and a step that would take too long is called. Scenarios whose point is waiting are
begun first and beside the others, since they cost nothing but time.

A daemon (:mod:`.trigger`) knows one address, so all of its scenarios are met one after the other, and one root, so
those for which another has to be trusted are left out.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from countersign.ca import AuthorityError, CannotMimic
from countersign.errors import CountersignError, EnvironmentFault, UserError
from countersign.proxy.settings import is_loopback
from countersign.recorder.files.ladder import render_ladder
from countersign.recorder.wire.text import printable
from countersign.scenarios.clock import REAL, Clock
from countersign.scenarios.directing import wants_another_root
from countersign.scenarios.model import Protocol, Scenario, Scene
from countersign.scenarios.running.clients import Family, Way, environment, filled, placeholders
from countersign.scenarios.running.process import run_client
from countersign.scenarios.running.results import Matrix, Result, Shard
from countersign.scenarios.running.stage import Stage
from countersign.scenarios.running.trigger import Answered, Trigger, is_good, triggered
from countersign.scenarios.running.verdict import NEVER_ON_THE_WIRE, Excuse, Kind, Take, Verdict, judge, skipped

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from countersign.proxy import Keeper
    from countersign.scenarios.running.process import Ran
    from countersign.scenarios.running.stage import Props

PLAIN = "plain"
"""The scenario in which nothing is wrong."""

TIMEOUT = 30.0
WAITING_TIMEOUT = 5.0
"""Seconds that a client gets: where waiting is not the point of the scenario, and where it is."""

_MOST_RUNS = 40
_MOST_SEEDS = 8
_WAITING_AT_ONCE = 16
_LONGEST_WAIT = 10.0  # seconds until a step; one that takes longer is called
_LONGEST_WAIT_ASKED_FOR = 900.0  # with a clock that somebody has set for it
_AGAIN_AND_AGAIN = 5  # sessions of a daemon that was triggered once
_LADDER_WIDTH = 110


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A client and how it is run. ``way`` None: whichever it takes. ``timeout`` None: as the scenario needs.

    One with a ``trigger`` is not run, but asked; its ``argv`` are the trigger's words.
    """

    argv: tuple[str, ...]
    family: Family
    env: Mapping[str, str] = field(repr=False)
    way: Way | None = None
    timeout: float | None = None
    trigger: Trigger | None = None

    @property
    def name(self) -> str:
        return self.argv[0] if self.trigger is None else self.trigger.name

    def __post_init__(self) -> None:
        placeholders(self.argv)  # a mistake in one is told before anything is started

    @property
    def own_names(self) -> bool:
        """It can be told which names are this machine's."""
        return self.trigger is None and (self.family.name or "").startswith("java")

    @property
    def shows(self) -> bool | None:
        """Whether it has our client certificate to show; None where nobody can know."""
        if self.trigger is not None:
            return self.trigger.shows
        if placeholders(self.argv) & {"client_cert", "client_store"} or self.own_names:
            return True
        return None if self.family.name is None else False

    def ways(self) -> tuple[Way, ...]:
        """The ways to try. Where only host and port are asked for, it means to dial by itself."""
        if self.way is not None:
            return (self.way,)
        if self.trigger is not None:
            return (Way.CONNECT,)
        named = placeholders(self.argv)
        straight = bool(named & {"host", "port"}) and "url" not in named and "proxy" not in named
        first = Way.REVERSE if straight else self.family.way
        if not named & {"url", "host", "port"}:
            return (Way.CONNECT,)
        return (first, Way.REVERSE if first is Way.CONNECT else Way.CONNECT)


class Runner:
    """Runs one client under scenarios, on the same props.

    ``keeper`` gets all recordings; ``ladders`` draws them into the results. ``excuses`` are by the scenarios' ids.
    """

    def __init__(
        self,
        client: Client,
        props: Props,
        *,
        plain: Scenario,
        clock: Clock = REAL,
        seed: int | str = 0,
        keeper: Keeper | None = None,
        ladders: bool = False,
        excuses: Mapping[str, Excuse] | None = None,
    ) -> None:
        self.client, self.props = client, props
        self._excuses = excuses or {}
        self._plain, self._clock, self._seed, self._keeper, self._ladders = plain, clock, seed, keeper, ladders
        self.way: Way | None = None
        self.asks = False

    # -- the plain scenario --------------------------------------------------------------------------------------

    async def check(self, tls: Sequence[str | None] = (None,)) -> None:
        """The client accepts the plain scenario, or :class:`EnvironmentFault` says what it did instead."""
        for way in self.client.ways():
            self.way = way
            result = await self._played(self._plain, tls[0])
            if result.verdict.kind is not Kind.NEVER_CONNECTED:
                break
        if result.verdict.kind is Kind.REFUSED_WRONGLY:
            self.asks = True  # perhaps for want of an answer about revocation: now there is one
            self.asks = (await self._played(self._plain, tls[0])).verdict.kind is Kind.ACCEPTED
        for version in tls:
            if version is not tls[0] or self.asks:
                result = await self._played(self._plain, version)
            self._check_answer(result)
            if result.verdict.kind is not Kind.ACCEPTED:
                to_localhost = self.props.target is not None and way is Way.REVERSE and not self.client.own_names
                raise EnvironmentFault(_not_plain(result, self.client, version, to_localhost=to_localhost))

    def _check_answer(self, result: Result) -> None:
        """A trigger that is declined where nothing is wrong: with 4xx the request is at fault, else the daemon."""
        status = result.answered
        if status is None or is_good(status) or result.verdict.kind not in {Kind.NEVER_CONNECTED, Kind.ACCEPTED}:
            return
        went = "although its connection went well" if result.verdict.kind is Kind.ACCEPTED else "and connected nowhere"
        told = "; ".join(printable(each.line) for each in result.verdict.said[1:])
        text = f"{self.client.name} answered {printable(result.verdict.said[0].line)} to the trigger, {went}"
        text += f". It said: {told}" if told else ""
        raise UserError(text) if 400 <= status < 500 else EnvironmentFault(text)

    # -- scenarios -----------------------------------------------------------------------------------------------

    async def matrix(
        self,
        scenarios: Sequence[Scenario],
        *,
        tls: Sequence[str | None] = (None,),
        jobs: int = 2,
        shard: Shard | None = None,
        on_result: Callable[[Result], None] = lambda _result: None,
    ) -> Matrix:
        """Every scenario with every version, after :meth:`check`; the results stand in the order of the scenarios."""
        if jobs < 1:
            raise UserError(f"--jobs takes a number from 1 up, got {jobs}")
        if self.client.trigger is not None and jobs > 1:
            raise UserError(f"--jobs {jobs}: a daemon meets one scenario at a time; leave --jobs out")
        started, began = datetime.now(UTC), time.monotonic()
        await self.check(tls)
        wanted = [(scenario, version) for scenario in scenarios for version in tls]
        busy = asyncio.Semaphore(jobs)
        waiting = busy if self.client.trigger is not None else asyncio.Semaphore(_WAITING_AT_ONCE)

        async def one(scenario: Scenario, version: str | None) -> Result:
            async with waiting if scenario.waits else busy:
                result = await self.result(scenario, version)
            on_result(result)
            return result

        try:
            async with asyncio.TaskGroup() as group:
                first = sorted(wanted, key=lambda each: not each[0].waits)
                tasks = {
                    (scenario.id, version): group.create_task(one(scenario, version), name=f"scenario {scenario.id}")
                    for scenario, version in first
                }
        except BaseExceptionGroup as broken:
            faults = broken.subgroup(CountersignError)
            raise (faults or broken).exceptions[0] from None
        assert self.way is not None
        return Matrix(
            client=self.client.argv,
            family=self.client.family.name,
            way=self.way.value,
            started=started,
            seconds=time.monotonic() - began,
            results=tuple(tasks[scenario.id, version].result() for scenario, version in wanted),
            shard=shard,
        )

    async def result(self, scenario: Scenario, tls: str | None = None) -> Result:
        """The client under this scenario."""
        why = self._cannot(scenario, tls)
        if why:
            return _result(scenario, tls, skipped(why))
        try:
            result = await self._played(scenario, tls)
        except (UserError, AuthorityError, CannotMimic) as wrong:
            # What it wants cannot be made of this target, or by this authority; others can.
            return _result(scenario, tls, Verdict(kind=Kind.UNPROVED, text=f"{NEVER_ON_THE_WIRE}{wrong}"))
        excuse = self._excuses.get(scenario.id)
        return result if excuse is None else replace(result, verdict=excuse.of(result.verdict))

    def _cannot(self, scenario: Scenario, tls: str | None) -> str:
        """Why the scenario cannot be put to this client."""
        known = scenario.expect.of(self.client.family.name).skip
        if known:
            return known
        if self.client.trigger is not None and (unfit := _not_for_a_daemon(scenario, self.props, self._clock)):
            return unfit
        shown = scenario.client_certificate
        nothing = shown is not None and shown.own_recipe.send.order == "empty"
        if nothing and self.client.trigger is not None and self.client.shows:
            return "the daemon has a certificate to show, and here it shall have none"
        if nothing and placeholders(self.client.argv) & {"client_cert", "client_key"}:
            return "the client has a certificate to show, and here it shall have none"
        if not nothing and self.client.shows is False and any(scene.client_auth for scene in scenario.scenes):
            if self.client.trigger is not None:
                return (
                    "the daemon has no certificate of the home's CA to show; where it has one, say --shows-certificate"
                )
            return "the client has no certificate to show; give it {client_cert} and {client_key}"
        assert self.way is not None
        if out_of_reach := not_this_way(scenario, self.way, own_names=self.client.own_names):
            return out_of_reach
        if self.props.target is not None and any(scene.target and scene.target.is_own for scene in scenario.scenes):
            return "it is about a target of its own, and one was named"
        if tls is not None and not any(_speaks(scene, tls) for scene in scenario.scenes):
            return f"it is not about {tls}"
        return ""

    async def _played(self, scenario: Scenario, tls: str | None) -> Result:
        """Play it; where chance decides and has not shown all there is to it, again with another seed."""
        seeds = [f"{self._seed}", *(f"{self._seed}.{number}" for number in range(1, _MOST_SEEDS))]
        for seed in seeds if _by_chance(scenario) else seeds[:1]:
            result = await self._played_with(scenario, tls, seed)
            if result.verdict.kind is not Kind.UNPROVED:
                break
        return result

    async def _played_with(self, scenario: Scenario, tls: str | None, seed: str) -> Result:
        assert self.way is not None
        held = scenario if tls is None else held_to(scenario, tls)
        limit = self.client.timeout or (WAITING_TIMEOUT if scenario.waits else TIMEOUT)
        began = time.monotonic()
        async with Stage(
            held,
            self.props,
            way=self.way,
            own_names=self.client.own_names,
            answers=self.asks,
            clock=self._clock,
            seed=seed,
            patience=limit + 5,
            keeper=self._keeper,
            proves=scenario,
        ) as stage:
            takes, notes = await self._takes(stage, limit)
            if _about_answers(held) and not stage.asked:
                notes.append("it asked no responder and fetched no CRL")
            found = await stage.unproved()
        recordings = stage.recordings
        verdict = self._judged(
            held,
            takes,
            unproved=[each.text for each in found if not each.not_asked],
            notes=[*notes, *(each.text for each in found if each.not_asked)],
        )
        ran = takes[-1].ran
        return replace(
            _result(scenario, tls, verdict),
            argv=ran.argv,
            code=ran.code,
            signal=ran.signal,
            answered=ran.status if isinstance(ran, Answered) else None,
            seconds=time.monotonic() - began,
            client_seconds=sum(take.ran.seconds for take in takes),
            recordings=tuple(each.id for each in recordings),
            ladders=tuple(render_ladder(each, width=_LADDER_WIDTH) for each in recordings) if self._ladders else (),
        )

    def _judged(
        self, scenario: Scenario, takes: Sequence[Take], *, unproved: Sequence[str], notes: Sequence[str]
    ) -> Verdict:
        """The verdict, if it is the same whatever an answer that does not tell would have said."""
        well, ill = (
            [
                replace(take, ran=take.ran.supposing(well=each)) if isinstance(take.ran, Answered) else take
                for take in takes
            ]
            for each in (True, False)
        )
        judged, other = (
            judge(scenario, each, family=self.client.family.name, unproved=unproved, notes=notes)
            for each in (well, ill)
        )
        if judged.kind is not other.kind:
            return skipped(
                "the recordings do not tell what the daemon made of it, and it answered the trigger before it was done"
            )
        return judged

    async def _takes(self, stage: Stage, limit: float) -> tuple[list[Take], list[str]]:
        """Run the client until the last step has been met, or nothing more will come of it; with notes on how."""
        takes: list[Take] = []
        notes: list[str] = []
        seen = 0
        while True:
            await stage.turn()
            ran = await self._ran(stage, limit)
            made = stage.recordings[seen:]
            seen += len(made)
            takes.append(Take(ran, made))
            if ran.timed_out or ran.crashed or not made or len(takes) >= _MOST_RUNS or _all_met(stage, len(takes)):
                return takes, notes
            if await self._go_on(stage):
                notes = ["a step was called, for its time would have been long in coming (see --clock)"]

    async def _ran(self, stage: Stage, limit: float) -> Ran | Answered:
        """One run of the client, whose sessions are over then."""
        client, place = self.client, stage.place()
        if client.trigger is not None:
            return await triggered(client.trigger, place, engine=stage.engine, watch=stage.watch, limit=limit)
        ran = await run_client(
            filled(client.argv, place), env=environment(client.env, place), timeout=limit, stdin=client.family.says
        )
        await stage.settle()
        return ran

    async def _go_on(self, stage: Stage) -> bool:
        """Bring the next step about, as far as running the client again does not. Says whether it had to be called."""
        scenario, director = stage.scenario, stage.director
        before = director.current
        if director.next_run() != before or scenario.schedule.order == "random":
            return False
        number = director.current % len(scenario.steps) + 1
        following = scenario.steps[number - 1]
        if following.connections is not None or following.chance is not None:
            return False
        if following.after is not None:
            wait = self._clock.passes(following.after)
            if wait <= (_LONGEST_WAIT if self._clock == REAL else _LONGEST_WAIT_ASKED_FOR):
                await asyncio.sleep(wait)
                return False
        director.step_to(number)
        return not following.on_call


def _not_for_a_daemon(scenario: Scenario, props: Props, clock: Clock) -> str:
    """Why the scenario cannot be put to a client that knows one root, shows what it has, and may be elsewhere."""
    if wants_another_root(scenario, clock):
        return "a root made for it would have to be trusted, and a daemon trusts that of the home's CA"
    shown = scenario.client_certificate
    if shown is not None and shown.own_recipe.send.order != "empty" and shown.own_recipe.id != "client":
        return "it is about a certificate that the client is given, and a daemon shows its own"
    if _about_answers(scenario) and props.stand is not None and not is_loopback(props.stand.listen.host):
        return "answers about revocation are given on loopback, and the daemon may be elsewhere"
    return ""


def _about_answers(scenario: Scenario) -> bool:
    return any(scene.revocation is not None for scene in scenario.scenes)


def _by_chance(scenario: Scenario) -> bool:
    return scenario.schedule.order == "random" or any(step.chance is not None for step in scenario.steps)


def not_this_way(scenario: Scenario, way: Way, *, own_names: bool = False) -> str:
    """Why the scenario cannot be met by a client that comes in this way; empty where it can."""
    if way is Way.REVERSE and any(scene.answer for scene in scenario.scenes):
        return "it is about what a proxy answers, and the client comes straight"
    recipes = (scene.certificate.own_recipe for scene in scenario.scenes if scene.certificate is not None)
    if way is Way.REVERSE and not own_names and any(recipe is not None and recipe.wants_domain for recipe in recipes):
        return "it is about a host name with a domain, and the client is sent to localhost"
    return ""


def _all_met(stage: Stage, runs: int) -> bool:
    """Whether there is nothing more to be met; of a loop, that is after its first step has come again."""
    scenario = stage.scenario
    met = {each.step for each in stage.recordings}
    if scenario.schedule.order == "steps":
        return not scenario.steps or len(scenario.steps) in met
    return len(met) == len(scenario.steps) and (scenario.schedule.order == "random" or runs > len(scenario.steps))


def _result(scenario: Scenario, tls: str | None, verdict: Verdict) -> Result:
    return Result(
        scenario=scenario.id,
        tls=tls,
        family=scenario.family,
        title=scenario.title,
        right=scenario.expect.right,
        verdict=verdict,
    )


def _not_plain(result: Result, client: Client, tls: str | None, *, to_localhost: bool) -> str:
    """The sentence for a client that does not even accept the plain scenario.

    ``to_localhost``: it was sent there, and the target that was named is called otherwise.
    """
    verdict = result.verdict
    under = f" over {tls}" if tls else ""
    cure = {
        Kind.NEVER_CONNECTED: "use {url} or {host} and {port} among its arguments, or make it obey HTTPS_PROXY",
        Kind.HUNG: "give it more time with --timeout, or a client that ends",
        Kind.UNPROVED: "what is behind the proxy has to be there, and trusted (see --upstream-ca, --upstream-insecure)",
    }.get(verdict.kind, "it has to take the roots that it is given: {ca} names them in a file, as does SSL_CERT_FILE")
    if client.trigger is not None:
        cure = {
            Kind.NEVER_CONNECTED: "what --listen says has to be its proxy (or, with --mode reverse, where it goes), and"
            " the trigger has to make it connect anew",
            Kind.REFUSED_WRONGLY: "it has to trust the root of the CA in the home: `countersign ca trust --for java`"
            " (or python, mid ...) says how",
            Kind.HUNG: "give it more time with --timeout"
            if verdict.sessions < _AGAIN_AND_AGAIN
            else "it connects again and again and is never at rest: trigger what connects once, or let --settle be"
            " shorter than its pauses",
        }.get(verdict.kind, cure)
    elif to_localhost and verdict.kind is Kind.REFUSED_WRONGLY:
        cure = "it was sent to localhost, as it obeys no proxy, and the target's certificate is for another name"
    told = [each.line for each in verdict.said]
    parts = [f"It said: {'; '.join(told)}"] * bool(told) + [*verdict.notes]
    what = verdict.text.removeprefix(NEVER_ON_THE_WIRE)  # there is no fault
    text = f"does not accept a proxy with nothing wrong{under}: {what}; {cure}"
    return printable(". ".join([f"{client.name} {text}", *parts]))


# -- versions -----------------------------------------------------------------------------------------------------

TLS = {"1.2": ("TLSv1.2",), "1.3": ("TLSv1.3",), "both": ("TLSv1.2", "TLSv1.3")}
"""What ``--tls`` takes, and the versions that it holds the client to."""


def _speaks(scene: Scene, tls: str) -> bool:
    return scene.protocol is None or scene.protocol.versions is None or scene.protocol.versions == (tls,)


def held_to(scenario: Scenario, tls: str) -> Scenario:
    """The scenario spoken over this version alone, but for scenes that say themselves what is spoken.

    What has to be on the wire stays what the scenario says: a fault may come before there is any version.
    """

    def held(protocol: Protocol | None) -> Protocol:
        base = protocol or Protocol()
        return base if base.versions is not None else replace(base, versions=(tls,))

    if not scenario.steps:
        return replace(scenario, protocol=held(scenario.protocol))
    both = zip(scenario.steps, scenario.scenes, strict=True)
    steps = tuple(step if _passes(scene) else replace(step, protocol=held(scene.protocol)) for step, scene in both)
    return replace(scenario, steps=steps)


def _passes(scene: Scene) -> bool:
    """What passes through is spoken as the target likes."""
    return scene.action == "passthrough"
