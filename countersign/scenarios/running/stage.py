"""Where a client meets a scenario: a proxy, a target behind it, a responder, files for the client to trust and to show.

    async with Props.make() as props, Stage(scenario, props) as stage:
        place = stage.place()          # place.url, place.ca ...
        ...
        stage.recordings

:class:`Props` are what stages have in common: authorities and keys, the embedded target, the files. They take the time
and are made once, each when it is first needed, for many a client is shown no store and asked for no certificate; a
:class:`Stage` takes a millisecond or two, and nothing of one is left for the next: each has an engine, a director and,
where somebody may ask about revocation, a responder of its own, on free ports of loopback.

Clients that are there before us (:mod:`.trigger`) know one address and one root: for them props :class:`Stand` on what
they know.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
import tempfile
import threading
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Self

from countersign.ca import Authority, KeyPool, Minted, issue
from countersign.ca.pem import to_pem
from countersign.ca.revocation import Manner, Patience
from countersign.ca.signer import pkcs8_der
from countersign.ca.stores import CertificateEntry, Form, KeyEntry, Scheme, StoreType, write_store
from countersign.errors import EnvironmentFault, UserError, words_of
from countersign.lab.target import HOST, EmbeddedTarget, Pki
from countersign.proxy import Address, Engine, Keeper, Limits, Mode, Settings
from countersign.proxy.listening import cannot_listen
from countersign.proxy.orders import NOTHING_ORDERED, ChainOrders, Orders
from countersign.proxy.ways.addressing import Overrides
from countersign.recorder.recording import LegRole, Status
from countersign.recorder.wire.events import Side
from countersign.scenarios.answered import questions
from countersign.scenarios.clock import REAL, Clock
from countersign.scenarios.directing import CLIENT_NAME, ScenarioDirector, direct, needs_clients
from countersign.scenarios.proof import Unproved, proofs
from countersign.scenarios.running.clients import Place, Way, Where
from countersign.scenarios.running.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from ipaddress import IPv4Network, IPv6Network

    from countersign.ca.presets import Preset
    from countersign.ca.recipes import Recipe
    from countersign.ca.revocation import Answer, Asked, Fault, Responder
    from countersign.proxy.engine import Log
    from countersign.recorder.recording import Recording
    from countersign.scenarios.model import Scenario, Target as TargetPart

PASSWORD = "changeit"  # noqa: S105 - what every Java store has, and the JVM prints it anyway
LOCALHOST = "localhost"
DEFAULT_HOST = "default.lab.test"
"""For whom a target's certificate is that its client has not named."""

_LOOPBACK = "127.0.0.1"
_ANY = ("0.0.0.0", "::")  # noqa: S104 - what may have been given, not what is chosen
_DIAL = 10.0
_PATIENCE = 1.0
_KEPT, LONG_KEPT = 2.0, 20.0
_QUICK = Scheme("aes-256-cbc", "pbkdf2", 1000, "sha256")
_STORE = Form(keys=_QUICK, content=_QUICK, mac=Scheme("hmac-sha256", "pkcs12", 1000))


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A target that was named, and how far it is trusted: ``roots`` are DER, None for the system's."""

    address: Address
    roots: tuple[bytes, ...] | None = None
    verify: bool = True

    async def check(self) -> None:
        """Raise :class:`EnvironmentFault` where nobody can be reached there."""
        try:
            async with asyncio.timeout(_DIAL):
                _, writer = await asyncio.open_connection(self.address.host, self.address.port)
        except TimeoutError:
            raise EnvironmentFault(f"cannot reach the target {self.address}: no answer within {_DIAL:g} s") from None
        except OSError as error:
            raise EnvironmentFault(f"cannot reach the target {self.address}: {words_of(error)}") from None
        writer.close()


def own_target(target: TargetPart, pki: Pki, host: str, *, pool: KeyPool, kept: float = LONG_KEPT) -> EmbeddedTarget:
    """A target that is as a scenario wants it, for this host."""
    recipe = target.own_certificate
    made = issue(pki.public, host) if recipe is None else recipe.make(pki.public, name=host, pool=pool)
    default = issue(pki.public, DEFAULT_HOST) if target.by_name else None
    return EmbeddedTarget(pki, server=made, judges=target.asks, default=default, kept=kept)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """What a client knows of us before we are there: where we ``listen``, and the ``authority`` whose root it trusts.

    ``clients`` is the CA that its own certificate is of, where it has one. ``allow`` says who may connect; it is needed
    beyond loopback. A port 0 is one that nobody knows yet: it is chosen once, for all stages.
    """

    listen: Address
    authority: Authority
    clients: Authority
    allow: tuple[IPv4Network | IPv6Network, ...] = ()


class Props:
    """See the top of the module. ``preset`` is the product that the proxy is to be, whatever the scenario.

    ``stand`` is for clients that know us already. The files stand in a directory of their own, which is made in
    ``folder``. ``kept`` is how many seconds our own targets wait for another request on a connection: there are
    programs that end only then, for they leave their response unread (Node). One that goes on anyway is given more.
    """

    def __init__(
        self,
        *,
        target: Target | None = None,
        preset: Preset | None = None,
        stand: Stand | None = None,
        folder: Path | None = None,
        kept: float | None = None,
    ) -> None:
        self.target = target
        self.kept = kept if kept is not None else _KEPT if stand is None else LONG_KEPT
        self.preset = preset
        self.stand = stand
        self.pki = Pki.make(HOST)
        if stand is not None:
            self.authority = stand.authority
        else:
            self.authority = Authority.make() if preset is None else preset.make_authority()
        self.pool = KeyPool()
        self._targets: dict[str, EmbeddedTarget] = {}
        self._making, self._one = asyncio.Lock(), threading.RLock()
        self._parent, self._folder = folder, Path()
        self._trust: dict[tuple[bytes, ...], tuple[Path, Path]] = {}
        self._shown: dict[Recipe | None, tuple[Path, Path, Path]] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        if self.target is not None:
            await self.target.check()
        if self.stand is not None and not self.stand.listen.port:
            kept = self._stack.enter_context(_kept_port(self.stand.listen))
            self.stand = replace(self.stand, listen=Address(self.stand.listen.host, kept.getsockname()[1]))
        made = tempfile.TemporaryDirectory(prefix="countersign-run-", dir=self._parent)
        self._folder = Path(self._stack.enter_context(made))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def clients(self) -> Authority:
        """The CA that clients' certificates are of. Any thread may ask."""
        with self._one:
            return self.pki.clients if self.stand is None else self.stand.clients

    async def address(self, *, named: bool) -> Address:
        """Where the target is. One of our own has a host name of its own; or it is ``localhost``, if not ``named``."""
        if self.target is not None:
            return self.target.address
        host = HOST if named else LOCALHOST
        async with self._making:
            if host not in self._targets:
                target = EmbeddedTarget(self.pki, server=issue(self.pki.public, host), kept=self.kept)
                self._targets[host] = await self._stack.enter_async_context(target)
        return Address(host, self._targets[host].plain_port)

    def settings(self, way: Way, limits: Limits, *, address: Address, port: int = 0) -> Settings:
        """Those of an engine for clients that come in this way, on their way to the target at ``address``."""
        target = self.target
        return Settings(
            listen=Address(_LOOPBACK, port) if self.stand is None else self.stand.listen,
            allow=() if self.stand is None else self.stand.allow,
            mode=Mode.CONNECT if way is Way.CONNECT else Mode.REVERSE,
            target=None if way is Way.CONNECT else address,
            resolve=Overrides.parse([f"{address}:{_LOOPBACK}"]) if target is None else None,
            roots=(self.pki.public.root.der,) if target is None else target.roots,
            verify=target is None or target.verify,
            limits=limits,
            orders=NOTHING_ORDERED if self.preset is None else Orders(chain=ChainOrders(preset=self.preset)),
        )

    # -- files ---------------------------------------------------------------------------------------------------

    def trust_files(self, anchors: tuple[bytes, ...]) -> tuple[Path, Path]:
        """These roots as a PEM bundle and as a store for a JVM."""
        with self._one:
            if anchors not in self._trust:
                bundle = self.trust_bundle(anchors)
                entries = [CertificateEntry(f"root-{number}", der) for number, der in enumerate(anchors)]
                store = write_store(StoreType.PKCS12, entries, PASSWORD, form=_STORE)
                self._trust[anchors] = (bundle, self._file(f"{bundle.stem}.p12", store))
            return self._trust[anchors]

    def trust_bundle(self, anchors: tuple[bytes, ...]) -> Path:
        """These roots as a PEM bundle."""
        name = hashlib.sha256(b"".join(anchors)).hexdigest()[:12]
        return self._file(f"ca-{name}.pem", b"".join(map(to_pem, anchors)))

    def client_files(self, recipe: Recipe | None) -> tuple[Path, Path, Path]:
        """A client's certificate with its chain, its key, and both as a store: a right one, or as the recipe has it."""
        with self._one:
            if recipe not in self._shown:
                clients = self.pki.clients
                minted: Minted = (
                    issue(clients, CLIENT_NAME, purpose="client")
                    if recipe is None
                    else recipe.make(clients, name=CLIENT_NAME, pool=KeyPool())
                )
                key = minted.key if isinstance(minted.key, bytes) else pkcs8_der(minted.key)
                name = "client" if recipe is None else f"client-{len(self._shown)}"
                entry = KeyEntry("client", minted.chain, key)
                self._shown[recipe] = (
                    self._file(f"{name}.pem", b"".join(map(to_pem, minted.chain))),
                    self._file(f"{name}.key", to_pem(key, "PRIVATE KEY")),
                    self._file(f"{name}.p12", write_store(StoreType.PKCS12, [entry], PASSWORD, form=_STORE)),
                )
            return self._shown[recipe]

    def hosts_file(self, *names: str) -> Path:
        """A hosts file in which these are this machine; a JVM asks nobody else then."""
        text = "".join(f"{_LOOPBACK} {name}\n" for name in (LOCALHOST, *names))
        return self._file("hosts-" + hashlib.sha256(text.encode()).hexdigest()[:12], text.encode())

    def wgetrc(self, ca: Path) -> Path:
        """Wget knows no variable for roots, but one for its configuration."""
        return self._file(f"wgetrc-{ca.stem}", f"ca_certificate = {ca}\n".encode())

    def _file(self, name: str, data: bytes) -> Path:
        path = self._folder / name
        with self._one:
            if not path.exists():
                path.touch(mode=0o600)
                path.write_bytes(data)
        return path


def reached_at(listen: Address, port: int) -> str:
    """Where a client on this machine finds what listens there, with its real port."""
    return str(Address(_LOOPBACK if listen.host in _ANY else listen.host, port))


def _kept_port(listen: Address) -> socket.socket:
    """A socket that has a free port and does not listen, so that the port is ours between one stage and the next."""
    try:
        family = socket.AF_INET6 if ip_address(listen.host).version == 6 else socket.AF_INET
    except ValueError:
        raise UserError(f"--listen {listen}: any free port goes with an address, not with a name") from None
    kept = socket.socket(family, socket.SOCK_STREAM)
    try:
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the listeners do, which share it then
        kept.bind((listen.host, 0))
    except OSError as error:
        kept.close()
        raise EnvironmentFault(cannot_listen(listen, error)) from None
    return kept


class Stage:
    """See the top of the module. ``way`` is how clients come in, ``patience`` how long the proxy waits, in seconds.

    ``own_names``: the client can be given a hosts file, as a JVM can; else, where it comes straight, it can only be
    sent to ``localhost``. ``answers``: certificates name a responder even where the scenario is about something else,
    for clients that ask about each. ``port`` is where to listen, any free one unless it is given, or the props stand
    somewhere. ``keeper`` gets every recording, too; ``log`` what the engine has to say, else it says it as structlog is
    configured. ``proves`` is the scenario that has to be on the wire, where what is played is narrower. ``watch`` knows
    the sessions; ``where`` is where clients are sent, once it has begun.
    """

    def __init__(
        self,
        scenario: Scenario,
        props: Props,
        *,
        way: Way = Way.CONNECT,
        own_names: bool = False,
        answers: bool = False,
        clock: Clock = REAL,
        seed: int | str = 0,
        patience: float = 20.0,
        port: int = 0,
        keeper: Keeper | None = None,
        log: Log | None = None,
        proves: Scenario | None = None,
    ) -> None:
        self.scenario, self.props, self.way = scenario, props, way
        self._proves = proves or scenario
        self._port, self._log = port, log
        self._named = own_names or way is Way.CONNECT
        self._address: Address
        self.where: Where
        self._answers, self._patience, self._keeper = answers, patience, keeper
        self.watch = Watch()
        self._stack = AsyncExitStack()
        self.director: ScenarioDirector = direct(
            scenario,
            props.authority,
            clients=props.clients if needs_clients(scenario) else None,
            clock=clock,
            seed=seed,
        )
        self.engine: Engine
        self.responder: Responder | None = None

    async def __aenter__(self) -> Self:
        try:
            await self._set_up()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def _set_up(self) -> None:
        asked = (scene.revocation is not None or scene.stapling is not None for scene in self.scenario.scenes)
        if self._answers or any(asked):
            from countersign.ca.revocation import Responder

            manner = Manner(clock=self.director.clock.factor)
            self.responder = Responder(*self.director.authorities, faults=self._faults(), manner=manner)
            await self._stack.enter_async_context(self.responder)
            self.director.point(self.responder.authorities)
        limits = Limits(hello=self._patience, handshake=self._patience, idle=self._patience, stop=0.5)
        self._address = await self.props.address(named=self._named)
        await self._set_up_target()
        settings = self.props.settings(self.way, limits, address=self._address, port=self._port)
        self.engine = Engine(settings, self.props.authority, self, director=self.director, log=self._log)
        self.engine.signing.mint.pool = self.props.pool
        await self._stack.enter_async_context(self.engine)
        port = self.engine.ports[0]
        self.where = Where(
            way=self.way,
            host=self._address.host if self._named else LOCALHOST,
            port=port if self.way is Way.REVERSE else self._address.port,
            proxy=reached_at(settings.listen, port),
            ca=self.props.trust_bundle(self.anchors),
        )

    async def _set_up_target(self) -> None:
        """Where the scenario is about a target, one of its own."""
        target = self.scenario.scenes[0].target
        if self.props.target is not None or target is None or not target.is_own:
            return
        host = self._address.host
        own = own_target(target, self.props.pki, host, pool=self.props.pool, kept=self.props.kept)
        await self._stack.enter_async_context(own)
        self._address = Address(host, own.asking_port if target.asks else own.plain_port)

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def submit(self, recording: Recording) -> None:
        """What the engine hands over."""
        self.watch.submit(recording)
        if self._keeper is not None:
            self._keeper.submit(recording)

    @property
    def recordings(self) -> tuple[Recording, ...]:
        """Those that are finished, in the order in which they began; a client's questions in clear are none of them."""
        return tuple(each for each in self.watch.finished if not _in_clear(each))

    @property
    def asked(self) -> Sequence[Asked]:
        """What the responder was asked."""
        return () if self.responder is None else tuple(self.responder.asked)

    @property
    def anchors(self) -> tuple[bytes, ...]:
        """The roots (DER) that the client is given to trust."""
        return self.director.anchors(self.props.pool)

    async def questions(self) -> list[Answer]:
        """What we are told when we ask about the chain that was shown last; a short patience proves a long silence."""
        chains = (leg.read().certificates for each in self.recordings if (leg := each.leg(LegRole.CLIENT)) is not None)
        shown = [[each.der for each in chain if each.sender is Side.SERVER] for chain in chains]
        chain = next((each for each in reversed(shown) if each), [])
        return await questions(chain, root=self.anchors[0], patience=Patience(seconds=_PATIENCE))

    async def unproved(self, still_open: Sequence[Recording] = ()) -> tuple[Unproved, ...]:
        """What was not on the wire, in finished sessions and in those that are ``still_open``.

        The client need ask the responder nothing: we do, and that counts.
        """
        log: list[Asked | Answer] = list(self.asked)
        if any(scene.revocation is not None for scene in self.scenario.scenes):
            log += await self.questions()
        return proofs(
            self._proves,
            [*self.recordings, *still_open],
            log,
            anchors=self.anchors,
            clients=self.director.clients,
            clock=self.director.clock,
        )

    def _faults(self) -> Iterable[Fault]:
        return self.scenario.scene(self.director.current).revocation or ()

    async def turn(self) -> None:
        """The responder follows the step that is in force."""
        if self.responder is not None:
            await self.responder.change(self._faults())

    async def settle(self) -> None:
        """Wait until the sessions of a client that is gone have ended."""
        await self.watch.settle(lambda: self.engine.open_sessions, to_the_end=True)

    def place(self) -> Place:
        """Where to send a client that is a program, with all that it may be given. Any thread may ask."""
        where, shown = self.where, self.scenario.client_certificate
        ca, store = self.props.trust_files(self.anchors)
        certificate, key, client_store = self.props.client_files(None if shown is None else shown.own_recipe)
        straight = self.way is Way.REVERSE
        return Place(
            way=where.way,
            host=where.host,
            port=where.port,
            proxy=where.proxy,
            ca=ca,
            trust_store=store,
            store_password=PASSWORD,
            client_cert=certificate,
            client_key=key,
            client_store=client_store,
            hosts=self.props.hosts_file(self._address.host) if straight or self.props.target is None else None,
            wgetrc=self.props.wgetrc(ca),
        )


def _in_clear(recording: Recording) -> bool:
    """What a JVM asks of responders goes through its proxy as any plain HTTP, and is relayed."""
    return recording.outcome.status is Status.NOT_TLS and recording.outcome.broken_by is None
