"""The running proxy: listeners, the sessions in progress, their recordings on the way to the store, a graceful stop.

The engine never waits for the store. Every 100 ms it hands over a snapshot of each open session that has something
new and is 50 ms old at least (most of those that are younger will be over when the next turn comes), and a finished
session at once, before anything is logged of it; what the store does with them happens in its own thread.

Without a descriptor left no connection can be accepted, and trying on would be a spin. The listener is set aside then
and taken up again as soon as a connection of ours is closed, for that is when there is a descriptor, or after half a
second, for somebody else may have closed one. It is said once when this begins and once when all that waited is served.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol, Self

import structlog
from structlog.typing import FilteringBoundLogger

from countersign.errors import EnvironmentFault
from countersign.proxy._openssl import Buffers, TlsClientSide, TlsServerSide
from countersign.proxy.conduct import Conduct, conduct_of
from countersign.proxy.decide import policy_of, turned_down
from countersign.proxy.dial import DialFailed, Dialled, literal, resolve
from countersign.proxy.listening import AddressInfo, cannot_listen, listen_on
from countersign.proxy.mtls import ClientCertificates
from countersign.proxy.offer import Mirror
from countersign.proxy.orders import NOTHING_ORDERED, Orders
from countersign.proxy.outward import Outward
from countersign.proxy.session import Session
from countersign.proxy.sessions import Sessions
from countersign.proxy.settings import Address, Mode, Mtls, SecretsKept
from countersign.proxy.signing import Signing
from countersign.proxy.splice import Pipes
from countersign.proxy.stapling import Staples
from countersign.proxy.stream import ReceiveBuffer, Stream, address_text
from countersign.proxy.transport import SocketTransport
from countersign.proxy.turns import Turns
from countersign.proxy.ways.policy import Bypasses
from countersign.proxy.ways.transparent import original_destination
from countersign.recorder.budget import Pool
from countersign.recorder.recording import Outcome, Party, Status
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from countersign.ca import Authority
    from countersign.ca.revocation import Register
    from countersign.proxy.dial import SockAddr
    from countersign.proxy.orders import Director
    from countersign.proxy.settings import Settings
    from countersign.proxy.ways.policy import Policy
    from countersign.recorder.recording import Recording

_SNAPSHOT_EVERY = 0.1
_ACCEPTED_AT_ONCE = 16  # where descriptors were short, which is over when nobody waits, and before a stop
_QUIET = 0.0002  # seconds that a turn of the loop takes in which there is nothing to do
_WAITS_AT_MOST = 0.005  # seconds that a client waits for such a turn
_ACCEPT_AGAIN_AFTER = 0.5

Log = FilteringBoundLogger

_log: Log = structlog.get_logger("countersign.proxy")


class Keeper(Protocol):
    """Where recordings go: the store's writer, or a list in a test."""

    def submit(self, recording: Recording) -> None:
        """Keep this; a later one with the same id replaces it. Must not block and must not raise."""


async def _places(where: Address) -> list[AddressInfo]:
    """The addresses to listen on. One that stands there already needs no resolver, nor the thread that it runs in."""
    if stands := literal(where):
        return [(family, socket.SOCK_STREAM, 0, "", address) for family, address in stands]
    loop = asyncio.get_running_loop()
    return [*await loop.getaddrinfo(where.host, where.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)]


class Engine:
    """An asyncio proxy. ``start``, then ``stop``; or ``async with``.

    ``client_authority`` signs clients' certificates again, where these are relayed (``Mtls.RELAY``). ``director`` says
    what each connection is to meet (:mod:`countersign.proxy.orders`); what it leaves open is as ``settings.orders``.
    ``register`` has the leaves that stapled responses call revoked. ``log`` is for whoever does not want what structlog
    is configured to do.
    ``now`` and ``monotonic`` are the clocks: the first gives aware UTC datetimes, the second seconds.
    """

    def __init__(
        self,
        settings: Settings,
        authority: Authority,
        keeper: Keeper,
        *,
        client_authority: Authority | None = None,
        director: Director | None = None,
        register: Register | None = None,
        log: Log | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self.log = _log if log is None else log
        self.now = now
        self.monotonic = monotonic
        self.receive_buffer = ReceiveBuffer()
        self.buffers = Buffers()
        self.pipes = Pipes()
        self.dialled = Dialled() if settings.mode is Mode.TRANSPARENT else None
        self.turns = Turns()
        self.pool = Pool()
        self.signing = Signing(authority)
        self.staples = Staples(register, now=now, monotonic=monotonic)
        self.certificates = ClientCertificates(settings, client_authority, monotonic=monotonic)
        self.policy = policy_of(settings)
        self.bypasses = Bypasses() if settings.bypass_after_failure else None
        self.upstream = (
            None
            if settings.upstream is None
            else Outward(settings, self.receive_buffer, lingers=self.lingers, dialled=self.dialled)
        )
        keylog = settings.secrets is not SecretsKept.NONE
        identity = settings.identity
        self.client_side = TlsClientSide(
            settings.roots,
            enforce=settings.verify,
            identity=None if identity is None else (identity.chain, identity.key),
            keylog=keylog,
        )
        self.mirror = Mirror(self.client_side, hello=settings.hello)
        self.server_side = TlsServerSide(keylog=keylog, resumes=settings.resumption)
        self.sessions = Sessions(self.server_side, monotonic=monotonic)
        self.beside: list[int] = []
        self._director = director
        self._keeper = keeper
        self._given: list[socket.socket] | None = None
        self._listeners: list[socket.socket] = []
        self._set_aside: list[socket.socket] = []
        self._try_again: asyncio.TimerHandle | None = None
        self._refused_since: float | None = None
        self._looked = 0.0  # when the loop last told that a client waits
        self._waits_since = 0.0  # 0: none does
        self._sessions: dict[asyncio.Task[None], Session] = {}
        self._snapshots: asyncio.Task[None] | None = None
        self._lingering: set[asyncio.Future[None]] = set()

    # -- life ----------------------------------------------------------------------------------------------------

    def become_worker(self, keeper: Keeper, listeners: Iterable[socket.socket]) -> None:
        """After a fork, before the start: what this process has of its own (:mod:`countersign.proxy.workers`)."""
        self._keeper = keeper
        self._given = list(listeners)

    async def start(self) -> None:
        """Listen. Raises :class:`EnvironmentFault` when the address cannot be had, or the target has none."""
        listen = self.settings.listen
        if self.settings.mode is Mode.TRANSPARENT and sys.platform != "linux":
            raise EnvironmentFault("--mode transparent is there on Linux only; use --mode connect or socks5")
        await self._check_places()
        self._check_source()
        try:
            await self._listen(listen)
        except OSError as error:
            self._close_listeners()
            raise EnvironmentFault(cannot_listen(listen, error)) from None
        try:
            if self.upstream is not None:
                await self.upstream.check(self.ports)
        except EnvironmentFault:
            self._close_listeners()
            raise
        self._snapshots = asyncio.create_task(self._take_snapshots(), name="countersign-snapshots")

    def _check_source(self) -> None:
        """What is dialled from is an address of this machine."""
        source = self.settings.bind_out
        if source is None:
            return
        family = socket.AF_INET if source.version == 4 else socket.AF_INET6
        try:
            with socket.socket(family) as one:
                one.bind((str(source), 0))
        except OSError as error:
            text = f"--bind-out {source} is no address to dial from here: {os.strerror(error.errno or 0).lower()}"
            raise EnvironmentFault(f"{text}; give one that this machine has") from None

    async def _check_places(self) -> None:
        """Each target has an address, as long as we are who looks for it."""
        target = self.settings.target
        if target is None or self.upstream is not None:
            return
        for place in (target,) if isinstance(target, Address) else target.places:
            if self.overrides(place):
                continue
            try:
                await resolve(place, limit=self.settings.limits.connect)
            except DialFailed as failed:
                raise EnvironmentFault(f"cannot serve {place}: {failed.by.value} {failed.text}") from None

    def overrides(self, target: Address) -> list[SockAddr]:
        """The addresses that ``--resolve`` has for it."""
        found = self.settings.resolve.lookup(target) if self.settings.resolve is not None else ()
        return [address for host in found for address in literal(Address(host, target.port))]

    def use(self, policy: Policy) -> None:
        """From now on new connections are decided by this one; what is open goes on as it was decided."""
        self.policy = policy
        if self.bypasses is not None:
            self.bypasses.forget()

    def order(self, orders: Orders) -> None:
        """From now on these are for all new connections, as far as a director says nothing else."""
        self.settings = replace(self.settings, orders=orders)

    # -- what a connection is to meet ----------------------------------------------------------------------------

    def arriving(self, client: str) -> Orders:
        """What is ordered for a client that has just connected."""
        always = self.settings.orders
        return always if self._director is None else self._director.arriving(client).over(always)

    def orders(self, client: str, sni: str | None, target: str) -> Orders:
        """What is ordered for a session whose ClientHello has come; what is meant for others is left out."""
        always = self.settings.orders if self.settings.orders.match.fits(sni, target) else NOTHING_ORDERED
        if self._director is None:
            return always
        said = self._director.orders(client, sni, target)
        orders = said.over(always) if said.match.fits(sni, target) else always
        if orders.forget_sessions:
            self.forget_sessions()
        return orders

    def conduct(self, orders: Orders) -> Conduct:
        """What is done under these orders besides certificates."""
        found = conduct_of(self.settings, orders.chain.preset, can_relay=self.certificates.mint is not None)
        if orders.target is None or orders.target.shows is None:
            return found
        return replace(found, mtls=Mtls.STRIP if orders.target.shows == "none" else Mtls.PRESENT)

    def forget_sessions(self) -> None:
        """From now on no ticket and no session that a client or we have from before is taken up again."""
        self.sessions.forget()

    async def stop(self) -> None:
        """No new connections; open sessions get ``limits.stop`` seconds, then they end; all recordings are finished."""
        for listener in [one for one in self._listeners if one not in self._set_aside]:
            self._let_in(listener, _ACCEPTED_AT_ONCE)  # whoever waits has connected, and is on a recording
        self._close_listeners()
        if self._sessions:
            await asyncio.wait(self._sessions, timeout=self.settings.limits.stop)
        await self.hang_up()
        if self._lingering:
            await asyncio.wait(self._lingering)  # a second at most: the last words of each session go out
        if self._snapshots is not None:
            self._snapshots.cancel()
            await asyncio.gather(self._snapshots, return_exceptions=True)
        self.pipes.close()

    async def hang_up(self) -> int:
        """End the sessions that are open, and say how many; who connects next is served as before."""
        ended = list(self._sessions)
        for task in ended:
            task.cancel()
        if ended:
            await asyncio.wait(ended)
        return len(ended)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def addresses(self) -> list[str]:
        """Where it listens, with the real port."""
        return [address_text(listener.getsockname()) for listener in self._listeners]

    @property
    def ports(self) -> list[int]:
        """The ports of all listeners."""
        return [listener.getsockname()[1] for listener in self._listeners]

    @property
    def own_ports(self) -> list[int]:
        """Where no client may have itself connected to: these, and those of what is run beside the proxy."""
        return [*self.ports, *self.beside]

    @property
    def open_sessions(self) -> int:
        return len(self._sessions)

    # -- listeners -----------------------------------------------------------------------------------------------

    async def _listen(self, where: Address) -> None:
        """A listener for each address of ``where``.

        asyncio's own servers are not used: without descriptors left theirs tries a thousand times at once and logs
        each (https://github.com/python/cpython/issues/151615).
        """
        loop = asyncio.get_running_loop()
        if self._given is None:
            found = await _places(where)
            self._listeners += listen_on(found, transparent=self.settings.tproxy)
        else:
            self._listeners += self._given
        for listener in self._listeners:
            loop.add_reader(listener, self._accept, listener)

    def _close_listeners(self) -> None:
        loop = asyncio.get_running_loop()
        self._set_aside.clear()
        if self._try_again is not None:
            self._try_again.cancel()
        for listener in self._listeners:
            loop.remove_reader(listener)
            listener.close()
        self._listeners.clear()

    def _accept(self, listener: socket.socket) -> None:
        """A client waits. It is let in when nobody else has anything for us, or it has waited for long.

        What has begun goes on first: handshakes that are worked off side by side all become slow. Whether there is
        something else to do shows in how long the loop took since it asked the last time, which it does again at once.
        """
        now = asyncio.get_running_loop().time()
        quiet, self._looked = now - self._looked < _QUIET, now
        if not quiet:
            self._waits_since = self._waits_since or now
            if now - self._waits_since < _WAITS_AT_MOST:
                return
        self._waits_since = 0.0
        self._let_in(listener, 1 if self._refused_since is None else _ACCEPTED_AT_ONCE)

    def _let_in(self, listener: socket.socket, most: int) -> None:
        for _ in range(most):
            try:
                accepted, peer = listener.accept()
            except BlockingIOError:
                self._accepted_all()
                return
            except (InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._cannot_accept(listener, error)
                return
            accepted.setblocking(False)
            self._connected(accepted, peer)

    def _cannot_accept(self, listener: socket.socket, error: OSError) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(listener)
        self._set_aside.append(listener)
        if self._try_again is None:
            self._try_again = loop.call_later(_ACCEPT_AGAIN_AFTER, self._accept_again)
        if self._refused_since is None:
            self._refused_since = self.monotonic()
            self.log.warning("cannot accept connections", reason=error.strerror)

    def _accept_again(self) -> None:
        if self._try_again is not None:
            self._try_again.cancel()
            self._try_again = None
        for listener in self._set_aside:
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)
        self._set_aside.clear()

    def _accepted_all(self) -> None:
        if self._refused_since is not None and not self._set_aside:
            self.log.info("accepting connections again", after=round(self.monotonic() - self._refused_since, 1))
            self._refused_since = None

    # -- sessions ------------------------------------------------------------------------------------------------

    def _connected(self, accepted: socket.socket, peer: tuple[Any, ...]) -> None:
        transparent = self.settings.mode is Mode.TRANSPARENT
        destination = original_destination(accepted) if transparent else None
        stream = SocketTransport.begin(Stream(self.receive_buffer), accepted, peer)
        session = Session(self, stream, destination)
        task = asyncio.get_running_loop().create_task(session.run(), name=f"session-{session.recording.id}")
        self._sessions[task] = session
        task.add_done_callback(self._over)

    def lingers(self, stream: Stream) -> None:
        """The session of this stream is over; it closes by itself, and the engine does not stop before."""
        self._lingering.add(stream.closed)
        stream.closed.add_done_callback(self._closed)

    def _closed(self, closed: asyncio.Future[None]) -> None:
        """A descriptor is free."""
        self._lingering.discard(closed)
        self._accept_again()

    def _over(self, task: asyncio.Task[None]) -> None:
        session = self._sessions.pop(task)
        broke: BaseException | None = None
        if task.cancelled():
            session.never_ran()
        elif (broke := task.exception()) is not None:
            # A bug of ours: the recording says so, the log has where, and the next client is served.
            session.broke(broke)
        recording, unjudged = self._finished(session)
        why = turned_down(recording) if self.bypasses is not None else None
        if self.bypasses is not None and session.aimed is not None and why is not None:
            self.bypasses.remember(session.aimed, recording.sni, why, now=self.monotonic())
        self._keeper.submit(recording)
        for what, error in (("session broke", broke), ("session cannot be judged", unjudged)):
            if error is not None:
                self.log.error(what, id=recording.id, exc_info=error)
        outcome = recording.outcome
        write = self.log.info if outcome.broken_by is None else self.log.warning
        write(
            "session",
            id=recording.id,
            outcome=outcome.status.value,
            broken_by=outcome.broken_by.value if outcome.broken_by else None,
            alert=outcome.alert,
            client=recording.client,
            target=recording.target,
            sni=printable(recording.sni) if recording.sni else None,
            seconds=round(session.clock(), 3),
            text=printable(outcome.text),
        )

    def _finished(self, session: Session) -> tuple[Recording, Exception | None]:
        """The recording, and the fault of ours that kept it from being judged."""
        ended = self.now()
        try:
            return session.recording.finished(ended), None
        except Exception as error:  # noqa: BLE001 - whatever it is, what was recorded is kept, and the caller logs it
            session.broke(error)
            outcome = Outcome(Status.FAILED, broken_by=Party.PROXY, text="The proxy could not judge this session.")
            return replace(session.recording.snapshot(), ended=ended, outcome=outcome), error

    async def _take_snapshots(self) -> None:
        while True:
            await asyncio.sleep(_SNAPSHOT_EVERY)
            await self._take_those_that_are_due()  # a frame of its own, or the last session would be held here

    async def _take_those_that_are_due(self) -> None:
        for task, session in list(self._sessions.items()):
            try:
                if not session.due or task not in self._sessions:  # it may have ended while others had their turn
                    continue
                self._keeper.submit(session.snapshot())
            except Exception:
                session.recording.changed = False  # again when there is something new
                self.log.exception("no snapshot of session", id=session.recording.id)
            await asyncio.sleep(0)
