"""What one connection is to meet, beyond the settings: a director says it, the engine does it.

The engine knows nothing of scenarios. It asks its :class:`Director` twice for each session: when the client has
connected, for what must be known before its first byte; and after the ClientHello, for the rest. What a director says
nothing of is as ``Settings.orders`` has it, which is for all connections.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from countersign.ca.recipes import RecipeError
from countersign.errors import UserError
from countersign.proxy._openssl import GROUP_NAMES, signature_name, suite_name
from countersign.recorder import der
from countersign.recorder.wire.names import (
    TLS10,
    TLS13,
    cipher_suite_name,
    group_name,
    signature_scheme_name,
    version_name,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from countersign.ca import Authority, Minted
    from countersign.ca.presets import Preset
    from countersign.ca.recipes import Recipe
    from countersign.ca.revocation import Fault
    from countersign.proxy.answer import ProxyAnswer
    from countersign.proxy.faults.model import WireFault
    from countersign.proxy.network import Network
    from countersign.proxy.settings import Action

_Made = TypeVar("_Made")

CaNames = Literal["full", "empty", "roots", "intermediates", "others"]
Resumption = Literal["ticket", "id", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Which sessions orders are for: patterns (``*.example.com``) for the server name and for ``host:port``.

    ``*`` stands for anything and ``?`` for one character; brackets are those of an IPv6 address.
    """

    sni: str | None = None
    target: str | None = None

    def fits(self, sni: str | None, target: str) -> bool:
        """Whether a session with this server name and target is meant."""
        return (self.sni is None or _fits(self.sni, sni or "")) and (self.target is None or _fits(self.target, target))


def _fits(pattern: str, text: str) -> bool:
    return fnmatchcase(text.lower(), pattern.lower().replace("[", "[[]"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainOrders:
    """Who signs the leaf, how it is made, and how its chain is sent; what is None is as the engine has it.

    ``preset`` brings its leaf, its behaviour, and, unless ``authority`` is given, an authority of its own, which lives
    as long as the engine does. ``untrusted`` is who signs for targets that the product does not trust, likewise.
    ``recipe`` stands before the preset's. With another ``generation`` leaves have other keys.
    """

    authority: Authority | None = None
    recipe: Recipe | None = None
    preset: Preset | None = None
    untrusted: Authority | None = None
    generation: int = 0

    def __post_init__(self) -> None:
        if self.recipe is None:
            return
        if self.recipe.role != "server":
            raise RecipeError(f"cannot serve the recipe '{self.recipe.id}': it makes a client's chain, not a server's")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientAuthOrders:
    """The client is asked for a certificate, whatever the target asks (RFC 8446 4.3.2, RFC 5246 7.4.4).

    ``names`` are those of the authorities that the request lists: all of ``authorities`` (DER certificates), the
    ``roots`` among them, the ``intermediates``, ``others`` that nobody is called by, none at all (``empty``), or given
    ones (DER). ``signature_algorithms`` are asked for in that order; unless told, those that the client itself names.

    Its chain has to lead to one of the ``trusted`` roots (DER), and be of now (``dates``) and for clients (``usage``);
    with ``trusted`` None whatever it shows is taken. ``required``: it may not come without. The alert of a refusal is
    the one that OpenSSL's servers have for it.
    """

    names: CaNames | tuple[bytes, ...] = "full"
    authorities: tuple[bytes, ...] = ()
    signature_algorithms: tuple[int, ...] | None = None
    required: bool = True
    trusted: tuple[bytes, ...] | None = None
    usage: bool = True
    dates: bool = True

    def __post_init__(self) -> None:
        if self.names in {"roots", "intermediates"} and not self.authorities:
            raise UserError(f"cannot ask clients under the names of {self.names}: no authorities are given")
        if isinstance(self.names, tuple):
            for name in self.names:
                try:
                    der.whole(name, der.SEQUENCE, "a name")
                except der.DerError as wrong:
                    raise UserError(f"cannot ask clients under this name: {wrong}") from wrong
        _check_known("ask for", self.signature_algorithms, signature_name, signature_scheme_name)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolOrders:
    """What the client leg speaks, by numbers on the wire; what is None follows the target, as ever.

    ``versions`` are the lowest and the highest. ``ciphers``, ``groups`` and ``signature_algorithms`` are all that is
    taken, in that order; a client that shares nothing gets the alert that OpenSSL has for it. ``alpn`` is chosen where
    the client offers any, be it among them or not; empty: none is. ``resumption``: sessions are resumed by ``ticket``,
    by session ``id`` alone, or not at all (``none``); OpenSSL's two tickets of TLS 1.3 are sent in any case, and with
    ``none`` nobody knows them again. ``extended_master_secret`` off: not even where the client wants it (RFC 7627).
    """

    versions: tuple[int, int] | None = None
    ciphers: tuple[int, ...] | None = None
    groups: tuple[int, ...] | None = None
    signature_algorithms: tuple[int, ...] | None = None
    alpn: bytes | None = None
    resumption: Resumption | None = None
    extended_master_secret: bool = True

    def __post_init__(self) -> None:
        if self.versions is not None and not TLS10 <= self.versions[0] <= self.versions[1] <= TLS13:
            shown = " to ".join(map(version_name, self.versions))
            raise UserError(f"cannot speak {shown}: expected the lowest and the highest of TLS 1.0 to 1.3")
        if self.alpn is not None and len(self.alpn) > 255:
            raise UserError(f"cannot choose an ALPN protocol of {len(self.alpn)} bytes: RFC 7301 has 255 at most")
        _check_known("speak", self.ciphers, suite_name, cipher_suite_name)
        _check_known("speak", self.groups, GROUP_NAMES.get, group_name)
        _check_known("speak", self.signature_algorithms, signature_name, signature_scheme_name)


def _check_known(
    what: str,
    numbers: Sequence[int] | None,
    known: Callable[[int], str | None],
    name: Callable[[int], str],
) -> None:
    """OpenSSL leaves out what it does not have, and nobody would notice."""
    if numbers is None:
        return
    if not numbers:
        raise UserError(f"cannot {what} nothing: the list is empty")
    missing = [name(number) for number in numbers if known(number) is None]
    if missing:
        raise UserError(f"cannot {what} {', '.join(missing)}: this OpenSSL does not have it")


@dataclass(frozen=True, slots=True, kw_only=True)
class StaplingOrders:
    """What OCSP response goes with our certificate to clients that ask for one (RFC 6066 8, RFC 8446 4.4.2.1).

    A right one, with the ``faults`` of OCSP that one can have (:meth:`countersign.ca.revocation.Answers.staple`); or
    ``body``, a given one, of which empty means none; OpenSSL sends it only where it can parse it and finds an answer
    for the leaf in it. ``unasked``, below TLS 1.3: to clients that do not ask, too.
    """

    faults: tuple[Fault, ...] = ()
    body: bytes | None = None
    unasked: bool = False

    def __post_init__(self) -> None:
        if self.faults and self.body is not None:
            raise UserError("cannot staple a given response with faults: what is given is sent as it is")


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetOrders:
    """What the target is told, whatever the client offers; what is None is as ever.

    ``versions`` are the lowest and the highest that are offered, those of the client's own hello or not; they stand
    before ``--hello``. ``sni`` is the server name, empty: none is sent; the certificate still has to be for the
    client's. ``shows`` is what a target that asks for a certificate gets (``none``: no certificate), and no client is
    asked.
    """

    versions: tuple[int, int] | None = None
    sni: bytes | None = None
    shows: Minted | Literal["none"] | None = None

    def __post_init__(self) -> None:
        if self.versions is not None and not TLS10 <= self.versions[0] <= self.versions[1] <= TLS13:
            shown = " to ".join(map(version_name, self.versions))
            raise UserError(
                f"cannot offer {shown} to the target: expected the lowest and the highest of TLS 1.0 to 1.3"
            )

    @property
    def certificate(self) -> Minted | None:
        """What a target that asks is shown, if it is shown any by order."""
        return None if isinstance(self.shows, str) else self.shows


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What one connection is to meet. ``scenario`` and ``step`` go to its recording.

    ``forget_sessions``: neither ticket nor session of an earlier connection is taken up again.
    """

    scenario: str | None = None
    step: int = 0
    match: Match = Match()
    action: Action | None = None
    chain: ChainOrders = ChainOrders()
    client_auth: ClientAuthOrders | None = None
    protocol: ProtocolOrders | None = None
    stapling: StaplingOrders | None = None
    target: TargetOrders | None = None
    faults: tuple[WireFault, ...] = ()
    network: Network | None = None
    answer: ProxyAnswer | None = None
    forget_sessions: bool = False

    @property
    def resumes(self) -> bool:
        """Whether sessions of earlier connections may be taken up again; who resumes is not asked for a certificate."""
        asked = self.client_auth is not None or (self.target is not None and self.target.certificate is not None)
        return not asked and (self.protocol is None or self.protocol.resumption != "none")

    def over(self, base: Orders) -> Orders:
        """These orders, and those of ``base`` where these say nothing."""
        if base == NOTHING_ORDERED:
            return self
        return replace(_over(self, base), chain=_over(self.chain, base.chain))


def _over(upper: _Made, lower: _Made) -> _Made:
    said: dict[str, Any] = {}
    for each in fields(upper):  # type: ignore[arg-type]  # both are dataclasses
        value = getattr(upper, each.name)
        if value != each.default:
            said[each.name] = value
    return replace(lower, **said)  # type: ignore[type-var]


NOTHING_ORDERED = Orders()


class Director(Protocol):
    """Who says what each connection is to meet. Must not block and must not raise."""

    def arriving(self, client: str) -> Orders:
        """For a client that has just connected. Only what must be known before its first byte is read of this."""

    def orders(self, client: str, sni: str | None, target: str) -> Orders:
        """For a session whose ClientHello has come; once for each, so that schedules can count."""
