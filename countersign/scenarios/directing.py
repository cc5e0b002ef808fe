"""Directs an engine by a scenario: a :class:`~countersign.proxy.orders.Director` that says what each connection meets.

    director = direct(scenario, authority)
    engine = Engine(settings, authority, keeper, director=director)
    director.anchors(engine.signing.mint.pool)          # what a client has to trust for this scenario

A director holds the course through the steps (:mod:`countersign.scenarios.schedule`) and the authorities that scenes
name: the ``trusted`` one is that of the engine, whose root clients have; any other is made for the run. A rotation
makes the next generation of them. Keys take time and a director must not, so what a step will rotate to is made ahead
of its turn, in a thread.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

from countersign.ca import Authority, AuthorityError, KeyPool, Plan
from countersign.ca.recipes import Recipe
from countersign.proxy import Action
from countersign.proxy.orders import (
    ChainOrders,
    ClientAuthOrders,
    Orders,
    ProtocolOrders,
    StaplingOrders,
    TargetOrders,
)
from countersign.recorder.wire.names import CIPHER_SUITES, GROUPS, SIGNATURE_SCHEMES, VERSIONS
from countersign.scenarios.clock import REAL, Clock
from countersign.scenarios.model import (
    Certificate,
    ClientAuth,
    Protocol,
    Scenario,
    Scene,
    Stapling,
    Step,
    Target,
    numbers,
)
from countersign.scenarios.schedule import Course, Entered

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from countersign.ca import Minted
    from countersign.ca.authority import Rotated
    from countersign.ca.recipes import CertSpec

log = logging.getLogger("countersign.scenarios")

_MOST_CLIENTS = 1000
_OVERLAP = timedelta(days=14)
_PLAIN = Certificate()

CLIENT_NAME = "client.lab.test"
"""For whom client certificates are made."""

Who = tuple[str, str | None, int | None]
"""Which authority: the issuer's name, the preset, the number of intermediates."""

_OWN: Who = ("trusted", None, None)
"""The engine's."""


def who_signs(certificate: Certificate | None) -> Who:
    """The authority that signs for this part of a scene."""
    one = certificate or _PLAIN
    return (one.issuer, one.preset, one.levels)


def wants_another_root(scenario: Scenario, clock: Clock = REAL) -> bool:
    """Whether a client has to trust a root that is made for the scenario, and not only that of the engine's CA."""
    for scene in scenario.scenes:
        recipe = recipe_of(scene.certificate, clock)
        who = who_signs(scene.certificate)
        if (recipe is not None and not _leaves_the_root(recipe)) or (who[0] == "trusted" and who != _OWN):
            return True
    return False


def recipe_of(certificate: Certificate | None, clock: Clock = REAL) -> Recipe | None:
    """How the chain is made, where it is not only a copy of the target's leaf under the authority."""
    if certificate is None:
        return None
    preset = certificate.own_preset
    recipe = certificate.own_recipe or (preset.leaf if preset is not None and preset.leaf.changes else None)
    recipe = None if recipe is None else clock.recipe(recipe)
    if certificate.valid is None:
        return recipe
    until = clock.ahead(certificate.valid)
    base = recipe or Recipe(id="short-lived")

    def dated(spec: CertSpec) -> CertSpec:
        return replace(spec, not_before=spec.not_before or "-1h", not_after=until)

    if certificate.levels == 0:
        return replace(base, leaf=dated(base.leaf))
    return replace(base, leaf=dated(base.leaf), intermediate=dated(base.intermediate))


@dataclass(slots=True)
class _Generations:
    """The authorities of one course, each in its latest generation, and the leaves' keys."""

    latest: dict[Who, Authority]
    generation: int = 0
    ahead: dict[str, tuple[threading.Thread, dict[Who, Authority]]] = field(default_factory=dict)

    def rotate(self, step: Step) -> None:
        """As the step says, made ahead where it was."""
        if step.rotate is None:
            return
        if step.rotate == "leaf":
            self.generation += 1
            return
        self.prepare(step)
        thread, made = self.ahead.pop(_rotation(step))
        thread.join()
        self.latest = made or self.latest
        self.ahead.clear()

    def prepare(self, step: Step) -> None:
        """Make in a thread what this step will rotate to."""
        if step.rotate in {None, "leaf"} or _rotation(step) in self.ahead:
            return
        made: dict[Who, Authority] = {}

        def make() -> None:
            try:
                made.update(self._next(step))
            except AuthorityError as wrong:  # it has expired meanwhile, which every client is told
                log.warning("the issuer cannot be changed: %s", wrong)

        thread = threading.Thread(target=make, name="countersign-rotation", daemon=True)
        self.ahead[_rotation(step)] = (thread, made)
        thread.start()

    def _next(self, step: Step) -> dict[Who, Authority]:
        what: Rotated = "root" if step.rotate == "root" else "intermediate"
        kept = step.rotate == "intermediate"
        return {
            who: _unkept(
                each.rotate(
                    what if each.intermediates else "root",
                    same_name=kept and step.same_name and bool(each.intermediates),
                    same_key=kept and step.same_key and bool(each.intermediates),
                    overlap=_OVERLAP if step.cross_signed else timedelta(),
                )
            )
            for who, each in self.latest.items()
        }


def _unkept(authority: Authority) -> Authority:
    """The same in memory alone: a scenario changes no CA on disk, and remembers none that is over."""
    return replace(authority, directory=None, retired=())


def _rotation(step: Step) -> str:
    return f"{step.rotate} {step.same_name} {step.same_key} {step.cross_signed}"


@dataclass(slots=True)
class _Way:
    """A course with what it has been through."""

    course: Course
    generations: _Generations


class ScenarioDirector:
    """See the top of the module. ``now`` gives seconds, ``wall`` an aware datetime; both are for tests.

    ``clients`` is the CA of client certificates, made where a scene asks for some and there is none, or where the
    client's is to be of one that is not known here. ``run`` is the number of runs of the client that came before this
    one, where steps are counted in runs.
    """

    def __init__(
        self,
        scenario: Scenario,
        authority: Authority,
        *,
        clients: Authority | None = None,
        clock: Clock = REAL,
        seed: int | str = 0,
        run: int = 0,
        now: Callable[[], float] = time.monotonic,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.scenario, self.clock = scenario, clock
        self._seed, self._now, self._wall = seed, now, wall
        self.clients = clients
        if _of_strangers(scenario) or (clients is None and needs_clients(scenario)):
            self.clients = Authority.make(Plan(name="countersign clients"))
        self._first = _authorities(scenario, authority, clock)
        self._ways: OrderedDict[str, _Way] = OrderedDict()
        self._shared = self._begin("")
        self._called = False
        self._shown = _shown_to_target(scenario, clients or self.clients)
        self._early = any(_ends_early(scene) for scene in scenario.scenes)
        if scenario.schedule.per == "run":
            for _ in range(run + 1):
                self.next_run()

    # -- what the engine asks ------------------------------------------------------------------------------------

    def arriving(self, client: str) -> Orders:
        """For a client that has just connected: of the step that it would be in.

        It counts later, unless a step may end sessions before a ClientHello has come.
        """
        way = self._way(client)
        return self._orders(way, self._met(way) if self._early else self._peek(way), entered=False)

    def orders(self, client: str, sni: str | None, target: str) -> Orders:
        """For a session whose ClientHello has come; it counts, if it is meant."""
        if not self.scenario.match.fits(sni, target):
            return Orders()
        way = self._way(client)
        place = self._here(way) if self._early else self._met(way)
        entered, self._called = bool(place.passed) or self._called, False
        return self._orders(way, place, entered=entered)

    # -- what others ask -----------------------------------------------------------------------------------------

    @property
    def current(self) -> int:
        """The number of the step that is in force, the first being 1; of scenarios that go by client, of the last."""
        return self._latest.course.number

    def step_to(self, number: int | None = None) -> int:
        """Go to the next step, or to the one with this number, for all clients, and say which it is."""
        for way in (*self._ways.values(), self._shared):
            self._turn(way, way.course.call(self._now(), self._wall(), number))
        self._called = True
        return self.current

    def next_run(self) -> int:
        """The client is run (again): where steps are counted in runs, this is one. Says the number of the step."""
        if self.scenario.schedule.per == "run":
            place = self._shared.course.meet(self._now(), self._wall())
            self._turn(self._shared, place)
            self._called = self._called or bool(place.passed)
        return self.current

    @property
    def authorities(self) -> tuple[Authority, ...]:
        """All that the scenario begins with, the engine's own first."""
        return tuple(self._first.values())

    @property
    def in_force(self) -> tuple[Authority, ...]:
        """All that may sign for the next connection, each in its latest generation, the engine's own first."""
        return tuple(each for way in (self._latest, *self._ways.values()) for each in way.generations.latest.values())

    def point(self, authorities: tuple[Authority, ...]) -> None:
        """Use these instead, the same ones with the points of a responder in their certificates. Before the start."""
        self._first = dict(zip(self._first, map(_unkept, authorities), strict=True))
        self._ways.clear()
        self._shared = self._begin("")

    def anchors(self, pool: KeyPool) -> tuple[bytes, ...]:
        """The certificates (DER) that a client has to trust: the roots of what is trusted at the beginning.

        ``pool`` is the one that the engine takes keys from, for a recipe may make its own root.
        """
        found: dict[bytes, None] = {}
        for scene in self.scenario.scenes:
            who = who_signs(scene.certificate)
            recipe = recipe_of(scene.certificate, self.clock)
            if who[0] != "trusted":
                who = _OWN
            authority = self._first[who]
            if recipe is None or _leaves_the_root(recipe):
                found[authority.root.der] = None
            else:
                found |= dict.fromkeys(recipe.make(authority, pool=pool).anchors)
        return tuple(found)

    # -- inside --------------------------------------------------------------------------------------------------

    @property
    def _latest(self) -> _Way:
        return next(reversed(self._ways.values())) if self._ways else self._shared

    def _begin(self, client: str) -> _Way:
        course = Course(self.scenario, self._now(), self._wall(), self.clock, f"{self._seed}{client}")
        way = _Way(course, _Generations(dict(self._first)))
        self._prepare(way)
        return way

    def _way(self, client: str) -> _Way:
        """The course of this client: by its address where each has its own."""
        if self.scenario.schedule.per != "client":
            return self._shared
        way = self._ways.get(client)
        if way is None:
            way = self._ways[client] = self._begin(client)
            if len(self._ways) > _MOST_CLIENTS:
                self._ways.popitem(last=False)
        self._ways.move_to_end(client)
        return way

    def _here(self, way: _Way) -> Entered:
        """Where the last connection was, or the run is."""
        return Entered(way.course.number, self._now(), self._wall())

    def _peek(self, way: _Way) -> Entered:
        """Where the next connection will be, which does not count yet."""
        return self._here(way) if self.scenario.schedule.per == "run" else way.course.peek(self._now(), self._wall())

    def _met(self, way: _Way) -> Entered:
        """Where this connection is, which counts; in a run all are where the run is."""
        if self.scenario.schedule.per == "run":
            return self._here(way)
        place = way.course.meet(self._now(), self._wall())
        self._turn(way, place)
        self._called = self._called or (self._early and bool(place.passed))
        return place

    def _turn(self, way: _Way, place: Entered) -> None:
        for number in place.passed:
            way.generations.rotate(self.scenario.steps[number - 1])
        if place.passed:
            self._prepare(way)

    def _prepare(self, way: _Way) -> None:
        """What any step that may come next will need."""
        steps = self.scenario.steps
        for step in steps if self.scenario.schedule.order == "random" else steps[way.course.number :][:1] or steps[:1]:
            way.generations.prepare(step)

    def _orders(self, way: _Way, place: Entered, *, entered: bool) -> Orders:
        scenario = self.scenario
        scene = scenario.scene(place.number)
        keep = bool(scenario.steps) and scenario.steps[place.number - 1].keep_sessions
        return Orders(
            scenario=scenario.id,
            step=place.number,
            match=scenario.match,
            action=None if scene.action is None else Action(scene.action),
            chain=self._chain(scene, way.generations),
            client_auth=_client_auth(scene.client_auth, self.clients),
            protocol=_protocol(scene.protocol),
            stapling=_stapling(scene.stapling),
            target=_target(scene.target, self._shown),
            faults=scene.wire or (),
            network=scene.network,
            answer=scene.answer,
            forget_sessions=entered and not keep,
        )

    def _chain(self, scene: Scene, generations: _Generations) -> ChainOrders:
        certificate = scene.certificate
        preset = None if certificate is None else certificate.own_preset
        return ChainOrders(
            authority=generations.latest[who_signs(certificate)],
            recipe=recipe_of(certificate, self.clock),
            preset=None if preset is None else self.clock.preset(preset),
            generation=generations.generation,
        )


def direct(
    scenario: Scenario,
    authority: Authority,
    *,
    clients: Authority | None = None,
    clock: Clock = REAL,
    seed: int | str = 0,
    run: int = 0,
) -> ScenarioDirector:
    """A director for one engine; ``authority`` is the one whose root clients trust."""
    return ScenarioDirector(scenario, authority, clients=clients, clock=clock, seed=seed, run=run)


def _authorities(scenario: Scenario, authority: Authority, clock: Clock) -> dict[Who, Authority]:
    """Every authority that a scene names, the given one first."""
    found: dict[Who, Authority] = {_OWN: _unkept(authority)}
    for step in scenario.steps:
        _check_can_rotate(scenario, step, authority)
    for scene in scenario.scenes:
        who = who_signs(scene.certificate)
        if who in found:
            continue
        _, _, levels = who
        preset = None if scene.certificate is None else scene.certificate.own_preset
        if preset is not None:
            found[who] = clock.preset(preset).make_authority()
        else:
            plan = Plan(
                name="countersign inspection", levels=len(authority.intermediates) if levels is None else levels
            )
            found[who] = Authority.make(plan)
    return found


def _ends_early(scene: Scene) -> bool:
    """Whether a session may be over before its ClientHello has come."""
    return (scene.answer is not None and not scene.answer.tunnels()) or any(
        fault.leg == "client" and (fault.at == "connect" or (fault.to == "proxy" and fault.at == "client_hello"))
        for fault in scene.wire or ()
    )


def needs_clients(scenario: Scenario) -> bool:
    """Whether a CA of client certificates has a part in it: the client is asked for one, or the target is shown one."""
    return any(scene.client_auth is not None or shown_to_target(scene) is not None for scene in scenario.scenes)


def shown_to_target(scene: Scene) -> Recipe | None:
    """How the certificate is made that the target gets if it asks."""
    return None if scene.target is None else scene.target.own_shows


def _shown_to_target(scenario: Scenario, clients: Authority | None) -> dict[Recipe, Minted]:
    """Each of these certificates, made once; one that leads to no root of the clients' CA is of another."""
    made: dict[Recipe, Minted] = {}
    for recipe in dict.fromkeys(filter(None, map(shown_to_target, scenario.scenes))):
        assert clients is not None
        signs = Authority.make(Plan(name="somebody else")) if is_of_strangers(recipe) else clients
        made[recipe] = recipe.make(signs, name=CLIENT_NAME)
    return made


def is_of_strangers(recipe: Recipe) -> bool:
    """Whether a client's certificate is to be of a CA that nobody asks for."""
    return recipe.trust != ("root",)


def _of_strangers(scenario: Scenario) -> bool:
    """The same of the one that the client is given."""
    shown = scenario.client_certificate
    return shown is not None and is_of_strangers(shown.own_recipe)


def _check_can_rotate(scenario: Scenario, step: Step, authority: Authority) -> None:
    """Raise :class:`AuthorityError` where the key that has to sign the next generation is somewhere else."""
    above = authority.issuers[-2] if step.rotate == "intermediate" and authority.intermediates else authority.root
    if (step.rotate == "intermediate" or step.cross_signed) and above.held is None:
        raise AuthorityError(
            f"cannot run the scenario {scenario.id!r}: it changes the {step.rotate}, and the private key of "
            f"'{above.facts.subject}', which has to sign the new one, is not here; use a CA that was made here"
        )


def _leaves_the_root(recipe: Recipe) -> bool:
    """Whether clients trust the authority's own root under this recipe."""
    return recipe.trust == ("root",) and not recipe.root.changed


def _client_auth(asked: ClientAuth | None, clients: Authority | None) -> ClientAuthOrders | None:
    if asked is None or clients is None:
        return None
    return ClientAuthOrders(
        names=asked.names_with((each.subject, each.facts.self_issued) for each in clients.issuers),
        authorities=tuple(each.der for each in clients.issuers),
        signature_algorithms=numbers(asked.signature_algorithms, "signature_algorithms", SIGNATURE_SCHEMES),
        required=asked.required,
        trusted=(clients.root.der,) if asked.verify else None,
        usage=asked.usage,
        dates=asked.dates,
    )


def _protocol(spoken: Protocol | None) -> ProtocolOrders | None:
    if spoken is None:
        return None
    return ProtocolOrders(
        versions=_lowest_and_highest(spoken.versions),
        ciphers=numbers(spoken.ciphers, "ciphers", CIPHER_SUITES),
        groups=numbers(spoken.groups, "groups", GROUPS),
        signature_algorithms=numbers(spoken.signature_algorithms, "signature_algorithms", SIGNATURE_SCHEMES),
        alpn=None if spoken.alpn is None else spoken.alpn.encode(),
        resumption=spoken.resumption,
        extended_master_secret=spoken.extended_master_secret,
    )


def _target(target: Target | None, shown: Mapping[Recipe, Minted]) -> TargetOrders | None:
    if target is None:
        return None
    recipe = target.own_shows
    shows: Minted | Literal["none"] | None = "none" if target.asks else None
    return TargetOrders(
        versions=_lowest_and_highest(target.versions),
        sni=None if target.server_name is None else target.server_name.encode(),
        shows=shows if recipe is None else shown[recipe],
    )


def _lowest_and_highest(names: Sequence[str] | None) -> tuple[int, int] | None:
    by_name = {name: number for number, name in VERSIONS.items()}
    versions = sorted(by_name[name] for name in names or ())
    return (versions[0], versions[-1]) if versions else None


def _stapling(stapled: Stapling | None) -> StaplingOrders | None:
    if stapled is None:
        return None
    return StaplingOrders(faults=stapled.faults, body=stapled.body, unasked=stapled.unasked)
