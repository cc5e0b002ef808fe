"""What a scenario is: what goes wrong, when, and what a right client does then.

A scenario is a *scene*, what a connection meets, or several that follow each other as *steps*, each in force until the
next one's turn comes (:mod:`countersign.scenarios.schedule`). A scene has parts: the certificates that the client is
shown, what is asked of it, what is broken on the way. A part that a step names stands in place of the scenario's own
whole part; what it does not name stays the scenario's::

    title = "The proxy changes its intermediate after two connections"
    family = "rotation"

    [[step]]

    [[step]]
    connections = 2
    rotate = "intermediate"

All of it is frozen, and checked when it is made: two steps that contradict each other, a recipe that does not exist, a
fault that cannot be are a :class:`~countersign.errors.UserError` with the key at fault (:class:`Mistake`).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping  # noqa: TC003 - the annotations are read, by typed.py
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, time
from types import MappingProxyType
from typing import Literal, NewType

from countersign.ca.presets import Preset, presets
from countersign.ca.recipes import Recipe, catalogue as recipes
from countersign.ca.revocation import Fault  # noqa: TC001 - the same
from countersign.errors import UserError
from countersign.proxy.answer import ProxyAnswer  # noqa: TC001 - the same
from countersign.proxy.faults import WireFault  # noqa: TC001 - the same
from countersign.proxy.network import Network  # noqa: TC001 - the same
from countersign.proxy.orders import Match
from countersign.recorder import der
from countersign.recorder.wire.names import CIPHER_SUITES, GROUPS, SIGNATURE_SCHEMES
from countersign.scenarios.expect import Expect

Duration = NewType("Duration", float)
"""Seconds; in TOML words such as ``"90s"``, ``"14d"``."""

Moment = datetime | time
"""A moment, or a time of every day (of the machine's own clock)."""

FAMILIES = (
    "plain", "trust", "chain", "rotation", "validity", "names", "keys", "usages", "constraints", "revocation",
    "stapling", "mtls", "protocol", "wire", "network", "proxy", "target", "middlebox", "channel-binding", "fips",
    "java", "odd-but-valid", "own",
)  # fmt: skip
"""What scenarios are about; ``own`` is for those of a user."""

VERSION_NAMES = ("TLSv1.0", "TLSv1.1", "TLSv1.2", "TLSv1.3")
_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,79}")
_PARAMETER = re.compile(r"[a-z][a-z0-9_]{0,39}")


class Mistake(UserError):  # noqa: N818 - what it is
    """Something in a scenario that cannot be; ``key`` is where, by its path in the file (``step.2.after``)."""

    def __init__(self, key: str, text: str) -> None:
        super().__init__(f"{key}: {text}" if key else text)
        self.key = key
        self.text = text


def nearest(name: str, known: Iterable[str]) -> str:
    """`` (did you mean ...?)``, where something is near."""
    near = difflib.get_close_matches(name, list(known), 3, 0.5)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def numbers(names: Iterable[str] | None, key: str, table: Mapping[int, str]) -> tuple[int, ...] | None:
    """The numbers of names on the wire. Raises :class:`Mistake` for a name that is none."""
    if names is None:
        return None
    found = {name: number for number, name in reversed(list(table.items()))}
    for name in names:
        if name not in found:
            raise Mistake(key, f"there is no {name!r}{nearest(name, found)}")
    return tuple(found[name] for name in names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """The chain that the client is shown.

    ``recipe`` is one of :func:`countersign.ca.recipes.catalogue` by its id, or a table of its own; ``preset`` the
    product that it looks like. ``issuer`` says who signs: ``trusted`` is the CA whose root the client trusts, any other
    name is a CA that is made for the run and that nobody trusts. ``levels`` is the number of intermediates. ``valid``
    is how long intermediate and leaf are good for from when they are made.
    """

    recipe: str | Recipe | None = None
    preset: str | None = None
    issuer: str = "trusted"
    levels: int | None = None
    valid: Duration | None = None

    def __post_init__(self) -> None:
        if isinstance(self.recipe, str):
            made = recipes().get(self.recipe)
            if made is None:
                raise Mistake("recipe", f"there is no recipe {self.recipe!r}{nearest(self.recipe, recipes())}")
        if (recipe := self.own_recipe) is not None and recipe.role != "server":
            raise Mistake("recipe", f"{recipe.id!r} is a client's; expected one that a server shows")
        if self.preset is not None and self.preset not in presets():
            raise Mistake("preset", f"there is no preset {self.preset!r}; expected {', '.join(presets())}")
        if self.preset is not None and (self.recipe is not None or self.levels is not None):
            raise Mistake("preset", "a preset has its own chain; expected no recipe and no levels beside it")
        if self.levels is not None and not 0 <= self.levels <= 10:
            raise Mistake("levels", f"expected 0 to 10 intermediates, got {self.levels}")
        if self.valid is not None and not 1 <= self.valid <= 3650 * 86400:
            raise Mistake("valid", "expected a second to ten years")

    @property
    def own_recipe(self) -> Recipe | None:
        """The recipe, looked up where it is named."""
        return recipes()[self.recipe] if isinstance(self.recipe, str) else self.recipe

    @property
    def own_preset(self) -> Preset | None:
        """The preset, looked up."""
        return None if self.preset is None else presets()[self.preset]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCertificate:
    """What the client is given to show: the ``recipe`` (of the role client) that its certificate is made by."""

    recipe: str | Recipe = "client"

    def __post_init__(self) -> None:
        made = recipes().get(self.recipe) if isinstance(self.recipe, str) else self.recipe
        if made is None:
            known = [each.id for each in recipes().values() if each.role == "client"]
            raise Mistake("recipe", f"there is no recipe {self.recipe!r}{nearest(str(self.recipe), known)}")
        if made.role != "client":
            raise Mistake("recipe", f"{made.id!r} is a server's; expected one that a client shows")

    @property
    def own_recipe(self) -> Recipe:
        return recipes()[self.recipe] if isinstance(self.recipe, str) else self.recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientAuth:
    """The client is asked for a certificate (RFC 8446 4.3.2, RFC 5246 7.4.4), whatever the target asks.

    ``names``: whose names the request lists: all of the client CA's (``full``), none (``empty``), its ``roots`` or
    ``intermediates`` alone, or ``others`` that nobody has; or a list, in its order, of ``roots``, ``intermediates`` and
    names of somebody else (DER in hexadecimal digits), such as a recorded request had them. ``verify``: what the client
    shows has to be of the client CA, of now (``dates``) and for clients (``usage``); ``required``: it may not come
    without.
    """

    names: Literal["full", "empty", "roots", "intermediates", "others"] | tuple[str, ...] = "full"
    signature_algorithms: tuple[str, ...] | None = None
    required: bool = True
    verify: bool = True
    usage: bool = True
    dates: bool = True

    def __post_init__(self) -> None:
        numbers(self.signature_algorithms, "signature_algorithms", SIGNATURE_SCHEMES)
        for name in self.names if isinstance(self.names, tuple) else ():
            if name in _OWN_NAMES:
                continue
            try:
                der.whole(bytes.fromhex(name), der.SEQUENCE, "a name")
            except ValueError as wrong:
                expected = f"expected {', '.join(_OWN_NAMES)} or a name (DER) in hexadecimal digits"
                raise Mistake("names", f"{expected}, got {name[:60]!r}: {wrong}") from wrong

    def names_with(
        self, issuers: Iterable[tuple[bytes, bool]]
    ) -> Literal["full", "empty", "roots", "intermediates", "others"] | tuple[bytes, ...]:
        """A list as it goes into the request; ``issuers`` are the client CA's subjects, and whether each is a root."""
        if not isinstance(self.names, tuple):
            return self.names
        issuers = list(issuers)
        own = {word: [name for name, root in issuers if root is (word == "roots")] for word in _OWN_NAMES}
        listed = (own[name] if name in own else [bytes.fromhex(name)] for name in self.names)
        return tuple(dict.fromkeys(each for names in listed for each in names))


_OWN_NAMES = ("roots", "intermediates")


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """What is spoken with the client, by the names of RFCs and IANA; what is None follows the target.

    ``versions`` are one, or the lowest and the highest. ``ciphers``, ``groups`` and ``signature_algorithms`` are all
    that is taken. ``alpn`` is chosen whatever the client offered; empty: none is.
    """

    versions: tuple[str, ...] | None = None
    ciphers: tuple[str, ...] | None = None
    groups: tuple[str, ...] | None = None
    signature_algorithms: tuple[str, ...] | None = None
    alpn: str | None = None
    resumption: Literal["ticket", "id", "none"] | None = None
    extended_master_secret: bool = True

    def __post_init__(self) -> None:
        _check_versions(self.versions)
        numbers(self.ciphers, "ciphers", CIPHER_SUITES)
        numbers(self.groups, "groups", GROUPS)
        numbers(self.signature_algorithms, "signature_algorithms", SIGNATURE_SCHEMES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stapling:
    """The OCSP response that goes with the certificate: a right one, one with ``faults``, or ``body`` (nothing, if
    empty). ``unasked``: below TLS 1.3 to clients that do not ask, too.
    """

    faults: tuple[Fault, ...] = ()
    body: bytes | None = None
    unasked: bool = False

    def __post_init__(self) -> None:
        if self.faults and self.body is not None:
            raise Mistake("body", "what is given is stapled as it is; expected no faults beside it")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The other side of the proxy: what it says to the target, and what that is like.

    ``versions`` are one, or the lowest and the highest that the target is offered. ``server_name`` is what it is told
    in SNI; empty: nothing. ``shows`` is the recipe (of the role client) of the certificate that it gets if it asks.

    A target of the lab's own may ask for one that is of its clients' CA, of now, and for clients (``asks``), have a
    ``certificate`` by a recipe, or show its own only to those who name it in SNI (``by_name``). One that was named
    is as it is.
    """

    versions: tuple[str, ...] | None = None
    server_name: str | None = None
    shows: str | Recipe | None = None
    asks: bool = False
    certificate: str | Recipe | None = None
    by_name: bool = False

    def __post_init__(self) -> None:
        _check_versions(self.versions)
        for key, role in (("shows", "client"), ("certificate", "server")):
            made = _recipe(getattr(self, key), key)
            if made is not None and made.role != role:
                raise Mistake(key, f"{made.id!r} is of the role {made.role}; expected one that a {role} shows")
        if self.server_name is not None and not (self.server_name.isascii() and len(self.server_name) < 256):
            raise Mistake("server_name", "expected a host name of at most 255 ASCII characters, or nothing")

    @property
    def own_shows(self) -> Recipe | None:
        """The recipe of what the proxy shows, looked up."""
        return _recipe(self.shows, "shows")

    @property
    def own_certificate(self) -> Recipe | None:
        """The recipe of what the target shows, looked up."""
        return _recipe(self.certificate, "certificate")

    @property
    def is_own(self) -> bool:
        """Whether it is about a target that is made for it."""
        return self.asks or self.by_name or self.certificate is not None


def _recipe(recipe: str | Recipe | None, key: str) -> Recipe | None:
    """The recipe, looked up where it is named."""
    if not isinstance(recipe, str):
        return recipe
    if recipe not in recipes():
        raise Mistake(key, f"there is no recipe {recipe!r}{nearest(recipe, recipes())}")
    return recipes()[recipe]


def _check_versions(versions: tuple[str, ...] | None) -> None:
    if versions is not None and not (1 <= len(versions) <= 2 and set(versions) <= set(VERSION_NAMES)):
        raise Mistake("versions", f"expected one, or the lowest and the highest, of {', '.join(VERSION_NAMES)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What a connection meets; a part that is None is as it would be without a scenario."""

    certificate: Certificate | None = None
    client_auth: ClientAuth | None = None
    protocol: Protocol | None = None
    stapling: Stapling | None = None
    target: Target | None = None
    revocation: tuple[Fault, ...] | None = None
    wire: tuple[WireFault, ...] | None = None
    network: Network | None = None
    answer: ProxyAnswer | None = None
    action: Literal["intercept", "passthrough"] | None = None

    def over(self, base: Scene) -> Scene:
        """The scene that this is over ``base``: with the parts of that one where it has none."""
        parts = {each: getattr(self, each) for each in PARTS}
        return Scene(**{each: getattr(base, each) if part is None else part for each, part in parts.items()})


PARTS = tuple(each.name for each in fields(Scene))
"""The names of a scene's parts."""

ENTERING = ("connections", "after", "at", "chance", "on_call")
"""The keys of a step that say when its turn comes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(Scene):
    """A scene with its turn; the first one's has come from the start, unless the steps go round.

    A step is entered after ``connections`` of the step before it, ``after`` a time since that was entered, ``at`` a
    moment or a time of day, with ``chance`` before each connection, or ``on_call``; where several are said, whichever
    comes first. Among ``random`` steps it has a ``weight``.

    ``rotate``: on entering it the issuer is changed: the ``leaf`` gets a new key, the ``intermediate`` or the ``root``
    is another one (``same_name``, ``same_key``: the intermediate is renewed under its name, for its key;
    ``cross_signed``: the old root vouches for the new one). Session cache and ticket keys are dropped then, unless it
    is about resumption: ``keep_sessions``.
    """

    title: str = ""
    connections: int | None = None
    after: Duration | None = None
    at: Moment | None = None
    chance: float | None = None
    on_call: bool = False
    weight: float | None = None
    rotate: Literal["leaf", "intermediate", "root"] | None = None
    same_name: bool = False
    same_key: bool = False
    cross_signed: bool = False
    keep_sessions: bool = False

    def __post_init__(self) -> None:
        if self.connections is not None and self.connections < 1:
            raise Mistake("connections", f"expected a number from 1 up, got {self.connections}")
        if self.after is not None and self.after <= 0:
            raise Mistake("after", "expected a time above 0")
        if self.chance is not None and not 0 < self.chance <= 1:
            raise Mistake("chance", f"expected more than 0 and at most 1, got {self.chance:g}")
        if self.weight is not None and not 0 < self.weight <= 1e6:
            raise Mistake("weight", f"expected more than 0 and at most a million, got {self.weight:g}")
        if (self.same_name or self.same_key) and self.rotate != "intermediate":
            key = "same_name" if self.same_name else "same_key"
            raise Mistake(key, 'this is for rotate = "intermediate"')
        if self.cross_signed and self.rotate != "root":
            raise Mistake("cross_signed", 'this is for rotate = "root"')

    @property
    def entered_by(self) -> tuple[str, ...]:
        """The keys that say when its turn comes."""
        return tuple(each for each in ENTERING if getattr(self, each) not in {None, False})


Order = Literal["steps", "loop", "random"]
Per = Literal["connection", "run", "client"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How the steps follow each other and what is counted.

    ``order``: ``steps`` go on to the last, which stays; a ``loop`` begins again with the first; of ``random`` ones each
    connection meets any. ``per``: what ``connections`` counts: each ``connection``; each ``run`` of the client, however
    many connections that makes; or each ``client`` by its address, with steps and times of its own.
    """

    order: Order = "steps"
    per: Per = "connection"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """What can be set from outside; ``default`` is what stands there unless it is."""

    default: str | int | float | bool
    text: str = ""
    least: float | None = None
    most: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.default, bool | str):
            return
        if self.least is not None and self.default < self.least:
            raise Mistake("default", f"expected {self.least:g} or more, got {self.default:g}")
        if self.most is not None and self.default > self.most:
            raise Mistake("default", f"expected {self.most:g} or less, got {self.default:g}")


ANY, EXPECT = Match(), Expect()


def _none() -> Mapping[str, Parameter]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario(Scene):
    """One scenario; its own parts are the scene of each step that has none of its own.

    ``story`` is what happens in the field, ``sources`` where that is known from (``R2`` and the like are rows of the
    requirements; an RFC; an issue). ``waits``: its point is waiting, so that a run takes its time.
    """

    id: str
    family: str = "own"
    title: str = ""
    story: str = ""
    sources: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    waits: bool = False
    match: Match = ANY
    client_certificate: ClientCertificate | None = None
    schedule: Schedule = Schedule()
    steps: tuple[Step, ...] = ()
    expect: Expect = EXPECT
    parameters: Mapping[str, Parameter] = field(default_factory=_none)

    def __post_init__(self) -> None:
        for each in self.id.split("+"):
            if not _ID.fullmatch(each):
                raise Mistake("id", f"expected small letters, digits, points and dashes, at most 80; got {self.id!r}")
        if self.family not in FAMILIES:
            expected = f"expected {', '.join(FAMILIES)}"
            raise Mistake("family", f"there is no family {self.family!r}{nearest(self.family, FAMILIES)}; {expected}")
        for name in self.parameters:
            if not _PARAMETER.fullmatch(name) or name in {"name", "parent"}:
                raise Mistake(f"parameters.{name}", "a parameter's name is of small letters, and not name or parent")
        self._check_turns()
        for number, scene in enumerate(self.scenes, 1):
            if _as_it_is(scene.target) != _as_it_is(self.scenes[0].target):
                text = "the target is the same in all steps; say asks, certificate and by_name of all of them at once"
                raise Mistake(f"step.{number}.target", text)
        for number, scene in enumerate(self.scenes, 1):
            check_scene(scene, f"step.{number}" if self.steps else "")

    def _check_turns(self) -> None:
        """Whether each step's turn can come, and none contradicts another."""
        order, previous = self.schedule.order, None
        if order != "steps" and not self.steps:
            raise Mistake("schedule.order", f"{order} is for several steps, and there are none")
        for number, step in enumerate(self.steps, 1):
            key, entered = f"step.{number}", step.entered_by
            if order == "random" and entered:
                raise Mistake(
                    f"{key}.{entered[0]}", "of random steps each connection meets any; expected a weight alone"
                )
            if order != "random" and step.weight is not None:
                raise Mistake(f"{key}.weight", 'a weight is for schedule.order = "random"')
            if order == "steps" and number == 1 and entered:
                raise Mistake(
                    f"{key}.{entered[0]}", "the first step is in force from the start; say this of the next one"
                )
            if order == "steps" and number == 1 and step.rotate:
                raise Mistake(
                    f"{key}.rotate", "there is nothing to rotate before the first step; say this of the next one"
                )
            if order == "steps" and number > 1 and not entered:
                raise Mistake(key, f"its turn never comes; expected one of {', '.join(ENTERING)}")
            if order == "loop" and not entered:
                raise Mistake(key, f"the loop would not go on past it; expected one of {', '.join(ENTERING)}")
            if self.schedule.per == "run" and step.after is not None and step.entered_by == ("after",):
                raise Mistake(
                    f"{key}.after", 'with schedule.per = "run" steps are counted in runs; expected connections'
                )
            if isinstance(step.at, datetime):
                if previous is not None and not _later(step.at, previous):
                    raise Mistake(f"{key}.at", f"contradicts an earlier step, whose moment {previous} is not before it")
                if order == "loop":
                    raise Mistake(f"{key}.at", "in a loop a moment comes only once; expected a time of day (02:00:00)")
                previous = step.at

    @property
    def scenes(self) -> tuple[Scene, ...]:
        """The scene of each step, whole; of a scenario without steps the only one."""
        return tuple(step.over(self) for step in self.steps) or (Scene().over(self),)

    def scene(self, number: int) -> Scene:
        """The scene of the step with this number, the first being 1 (a scenario without steps is always at 1)."""
        return self.scenes[min(max(number, 1), len(self.scenes)) - 1]

    def named(self, name: str) -> Scenario:
        """The same one under another id."""
        return replace(self, id=name)


def _later(one: datetime, other: datetime) -> bool:
    if (one.tzinfo is None) != (other.tzinfo is None):
        raise Mistake(
            "at", "of two moments one says its zone and the other does not; expected both with one (a Z, say)"
        )
    return one > other


def _as_it_is(target: Target | None) -> tuple[object, ...]:
    """What of it is the target's own."""
    return (False, None, False) if target is None else (target.asks, target.certificate, target.by_name)


def check_scene(scene: Scene, key: str) -> None:
    """Raise :class:`Mistake` for parts of a scene that do not go together."""
    where = f"{key}." if key else ""
    if scene.action == "passthrough":
        for part in PARTS:
            if part not in {"action", "wire", "network", "answer"} and getattr(scene, part):
                raise Mistake(f"{where}{part}", "this needs interception, and what passes through has none")
