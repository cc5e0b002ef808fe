"""Policy: which connections are intercepted, which pass through, which are refused, and under which scenario.

Rules are read from TOML, in order; the first that fits decides, and where none fits the default does::

    [[rule]]
    name = "banks pass"
    sni = ["*.bank.example", "bank.example"]
    action = "passthrough"

    [[rule]]
    client = "10.1.0.0/16"
    alpn = "h2"
    action = "refuse"
    with = "access_denied"        # an alert of RFC 8446 6, or "reset"

    [[rule]]
    target = "*.lab.test:8443"
    scenario = "missing-intermediate"

Within a condition any one of its values is enough, and all conditions of a rule must fit. ``sni`` and ``target`` take
names, ``*.name`` for everything below a name and ``*`` for any; the SNI ``""`` is that of a hello without one.
``target`` may have a port. ``client`` takes addresses and ranges, ``alpn`` one of the protocols that the client offers,
``ja4`` a fingerprint. A file is read strictly: what is misspelt is an error that names what it may have meant.

A failed interception can be remembered, as inspection appliances do: :class:`Bypasses` holds for a time which targets'
clients turned it down, a bounded number of them, and those pass through.
"""

from __future__ import annotations

import difflib
import tomllib
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TYPE_CHECKING, Any, Final

from countersign.errors import UserError
from countersign.proxy.settings import within
from countersign.proxy.ways.addressing import name_fits, normalized, parse_pattern
from countersign.recorder.wire.names import ALERTS, alert_number
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from countersign.proxy.settings import Address


class Verdict(StrEnum):
    """What is done with a connection."""

    INTERCEPT = "intercept"
    PASSTHROUGH = "passthrough"
    REFUSE = "refuse"


RESET: Final = "reset"
_REFUSED_WITH: Final = "access_denied"


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a connection when it is decided. ``ja4`` is made only if a rule asks for it."""

    target: Address | None
    client: str
    sni: str | None = None
    alpn: tuple[str, ...] = ()
    ja4: Callable[[], str | None] = field(default=lambda: None, compare=False)


@dataclass(frozen=True, slots=True)
class Decision:
    """What is done, and the reason as the recording tells it. ``refuse_with`` is the name of an alert or ``reset``."""

    verdict: Verdict
    reason: str
    refuse_with: str | None = None
    scenario: str | None = None


@dataclass(frozen=True, slots=True)
class TargetPattern:
    """A name pattern, and a port where only that one is meant."""

    name: str
    port: int | None = None

    def fits(self, target: Address | None) -> bool:
        if target is None or (self.port is not None and target.port != self.port):
            return False
        return name_fits(self.name, normalized(target.host))


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule; an empty condition fits everything."""

    number: int
    name: str | None = None
    sni: tuple[str, ...] = ()
    target: tuple[TargetPattern, ...] = ()
    client: tuple[IPv4Network | IPv6Network, ...] = ()
    alpn: tuple[str, ...] = ()
    ja4: tuple[str, ...] = ()
    verdict: Verdict = Verdict.INTERCEPT
    refuse_with: str | None = None
    scenario: str | None = None

    def __str__(self) -> str:
        return f"rule {self.number}" + (f" ({printable(self.name, limit=80)})" if self.name else "")

    def fits(self, facts: Facts) -> bool:
        name = normalized(facts.sni or "")
        if self.sni and not any(name_fits(pattern, name) for pattern in self.sni):
            return False
        if self.target and not any(pattern.fits(facts.target) for pattern in self.target):
            return False
        if self.client and not within(facts.client, self.client):
            return False
        if self.alpn and not set(self.alpn) & set(facts.alpn):
            return False
        return not self.ja4 or facts.ja4() in self.ja4


@dataclass(frozen=True, slots=True)
class Policy:
    """Rules in their order, and what happens where none fits."""

    rules: tuple[Rule, ...] = ()
    default: Verdict = Verdict.INTERCEPT

    def decide(self, facts: Facts) -> Decision:
        """What to do with this connection."""
        for rule in self.rules:
            if rule.fits(facts):
                return Decision(rule.verdict, f"{rule} says {rule.verdict}", rule.refuse_with, rule.scenario)
        return Decision(self.default, "no rule fits" if self.rules else "there are no rules")

    @property
    def needs_hello(self) -> bool:
        """Whether a decision needs the ClientHello: if not, a client can be refused before it has spoken."""
        return any(rule.sni or rule.alpn or rule.ja4 for rule in self.rules)


# -- the file ------------------------------------------------------------------------------------------------------

_TOP: Final = ("default", "rule")
_KEYS: Final = ("name", "sni", "target", "client", "alpn", "ja4", "action", "with", "scenario")


def parse_policy(text: str, *, name: str, default: Verdict = Verdict.INTERCEPT) -> Policy:
    """The policy of a TOML file; ``name`` is what errors call it. Raises :class:`UserError`."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as wrong:  # it says line and column
        raise UserError(f"{name} is not TOML: {wrong}") from None
    _known(document, _TOP, name)
    if "default" in document:
        default = _choice(document["default"], f"{name}: default")
    rules = document.get("rule", [])
    if not isinstance(rules, list) or not all(isinstance(rule, dict) for rule in rules):
        raise UserError(f"{name}: rules are written as [[rule]], each with its keys below it")
    return Policy(tuple(_rule(rule, number, name, default) for number, rule in enumerate(rules, 1)), default)


def _rule(table: dict[str, Any], number: int, name: str, default: Verdict) -> Rule:
    where = f"{name}: rule {number}"
    label = table.get("name")
    if label is not None and not isinstance(label, str):
        raise UserError(f"{where}: name takes text, got {label!r}")
    where += f" ({printable(label, limit=80)})" if label else ""
    _known(table, _KEYS, where)
    verdict = _choice(table["action"], f"{where}: action") if "action" in table else default
    scenario = table.get("scenario")
    if scenario is not None and (not isinstance(scenario, str) or not scenario):
        raise UserError(f"{where}: scenario takes the id of one, got {scenario!r}")
    if scenario is not None and "action" not in table:
        verdict = Verdict.INTERCEPT
    if scenario is not None and verdict is not Verdict.INTERCEPT:
        raise UserError(f"{where}: a scenario breaks what is intercepted; action {verdict} leaves nothing to break")
    return Rule(
        number=number,
        name=label,
        sni=tuple(parse_pattern(one, what=f"{where}: sni") for one in _texts(table, "sni", where)),
        target=tuple(_target(one, f"{where}: target") for one in _texts(table, "target", where)),
        client=tuple(_network(one, f"{where}: client") for one in _texts(table, "client", where)),
        alpn=_texts(table, "alpn", where),
        ja4=_texts(table, "ja4", where),
        verdict=verdict,
        refuse_with=_refusal(table, verdict, where),
        scenario=scenario,
    )


def _known(table: dict[str, Any], keys: Iterable[str], where: str) -> None:
    for key in table:
        if key not in keys:
            hint = _near(key, keys, f"; there are {', '.join(keys)}")
            raise UserError(f"{where}: there is no key {printable(key, limit=80)!r}{hint}")


def _near(word: object, known: Iterable[str], otherwise: str) -> str:
    """The one that may have been meant."""
    found = difflib.get_close_matches(str(word).lower(), [str(one) for one in known], n=1, cutoff=0.5)
    return f"; did you mean {found[0]!r}?" if found else otherwise


def _choice(value: object, where: str) -> Verdict:
    if isinstance(value, str) and value in list(Verdict):
        return Verdict(value)
    raise UserError(f"{where} is one of {', '.join(Verdict)}; got {value!r}{_near(value, Verdict, '')}")


def _texts(table: dict[str, Any], key: str, where: str) -> tuple[str, ...]:
    """One text, or a list of them; an empty list would fit nothing and is a mistake."""
    if key not in table:
        return ()
    value = table[key]
    values = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(one, str) for one in values):
        raise UserError(f"{where}: {key} takes a text or a list of texts, got {value!r}")
    if key != "sni" and not all(values):
        raise UserError(f"{where}: {key} has an empty text in it")
    return tuple(values)


def _target(text: str, where: str) -> TargetPattern:
    if text.startswith("["):  # an IPv6 address, with a port or without
        host, bracket, port = text[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            raise UserError(f"{where}: an IPv6 address goes in brackets, as in [::1]:443; got {text!r}")
        port = port[1:]
    else:
        host, _, port = text.partition(":")
        if ":" in port:
            raise UserError(f"{where}: an IPv6 address goes in brackets, as in [::1]:443; got {text!r}")
    if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise UserError(f"{where}: a port is a number from 1 to 65535, got {port!r}")
    return TargetPattern(parse_pattern(host, what=where), int(port) if port else None)


def _network(text: str, where: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text.strip(), strict=False)
    except ValueError:
        raise UserError(f"{where} takes addresses and ranges such as 10.1.0.0/16, got {text!r}") from None


def _refusal(table: dict[str, Any], verdict: Verdict, where: str) -> str | None:
    value = table.get("with")
    if verdict is not Verdict.REFUSE:
        if value is not None:
            raise UserError(f'{where}: "with" belongs to action = "refuse"')
        return None
    if value is None:
        return _REFUSED_WITH
    if isinstance(value, str) and (value == RESET or alert_number(value) is not None):
        return value
    hint = _near(value, (RESET, *ALERTS.values()), f", such as {_REFUSED_WITH!r}")
    raise UserError(f'{where}: "with" takes {RESET!r} or the name of an alert; got {value!r}{hint}')


# -- remembered bypasses -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Bypass:
    until: float
    why: str


class Bypasses:
    """The targets whose clients turned an interception down, for ``--bypass-after-failure``.

    A target is its address and the SNI. One that is passed through keeps its time: it is not prolonged by being used,
    so that interception is tried again. Of more than ``at_most`` the one that was noted longest ago is forgotten.
    """

    def __init__(self, *, seconds: float = 3600.0, at_most: int = 1000) -> None:
        self._seconds = seconds
        self._at_most = at_most
        self._noted: OrderedDict[tuple[str, str], _Bypass] = OrderedDict()

    def __len__(self) -> int:
        return len(self._noted)

    def remember(self, target: Address, sni: str | None, why: str, *, now: float) -> None:
        """An interception failed because of the client; ``why`` ends a sentence that starts with "the client"."""
        key = _key(target, sni)
        self._noted.pop(key, None)
        self._noted[key] = _Bypass(now + self._seconds, why)
        while len(self._noted) > self._at_most:
            self._noted.popitem(last=False)

    def apply(self, decision: Decision, facts: Facts, *, now: float) -> Decision:
        """The decision, or passing through where it would intercept what was turned down."""
        if decision.verdict is not Verdict.INTERCEPT or decision.scenario is not None or facts.target is None:
            return decision
        key = _key(facts.target, facts.sni)
        noted = self._noted.get(key)
        if noted is None:
            return decision
        if noted.until <= now:
            del self._noted[key]
            return decision
        reason = f"an interception was turned down: the client {noted.why} (--bypass-after-failure)"
        return replace(decision, verdict=Verdict.PASSTHROUGH, reason=reason)

    def forget(self) -> None:
        """Begin anew, as after a reload."""
        self._noted.clear()


def _key(target: Address, sni: str | None) -> tuple[str, str]:
    return str(target), normalized(sni or "")
