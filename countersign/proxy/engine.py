"""The running proxy: listeners, the sessions in progress, their recordings on the way to the store, a graceful stop.

The engine never waits for the store. Every 100 ms it hands over a snapshot of each open session that has something
new, and a finished session at once, before anything is logged of it; what the store does with them happens in its own
thread.

Without a descriptor left no connection can be accepted, and trying on would be a spin. The listener is set aside then
and taken up again as soon as a connection of ours is closed, for that is when there is a descriptor, or after half a
second, for somebody else may have closed one. It is said once when this begins and once when all that waited is served.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Protocol, Self

import structlog

from countersign.ca import LeafMint
from countersign.errors import EnvironmentFault
from countersign.proxy._openssl import Buffers, TlsClientSide, TlsServerSide
from countersign.proxy.decide import policy_of, turned_down
from countersign.proxy.dial import DialFailed, literal, resolve
from countersign.proxy.mtls import ClientCertificates
from countersign.proxy.offer import Mirror
from countersign.proxy.outward import Outward
from countersign.proxy.session import Session
from countersign.proxy.settings import Address, Mode, SecretsKept
from countersign.proxy.stream import RECEIVE_BUFFER, Stream, address_text
from countersign.proxy.ways.policy import Bypasses
from countersign.proxy.ways.transparent import make_transparent, original_destination
from countersign.recorder.budget import Pool
from countersign.recorder.recording import Outcome, Party, Status
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from countersign.ca import Authority
    from countersign.proxy.dial import SockAddr
    from countersign.proxy.settings import Settings
    from countersign.proxy.ways.policy import Policy
    from countersign.recorder.recording import Recording

_SNAPSHOT_EVERY = 0.1
_BACKLOG = 1024
_ACCEPTED_AT_ONCE = 64
_ACCEPT_AGAIN_AFTER = 0.5

log = structlog.get_logger("countersign.proxy")


class Keeper(Protocol):
    """Where recordings go: the store's writer, or a list in a test."""

    def submit(self, recording: Recording) -> None:
        """Keep this; a later one with the same id replaces it. Must not block and must not raise."""


class Engine:
    """An asyncio proxy. ``start``, then ``stop``; or ``async with``.

    ``client_authority`` signs clients' certificates again, where these are relayed (``Mtls.RELAY``).
    ``now`` and ``monotonic`` are the clocks: the first gives aware UTC datetimes, the second seconds.
    """

    def __init__(
        self,
        settings: Settings,
        authority: Authority,
        keeper: Keeper,
        *,
        client_authority: Authority | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self.now = now
        self.monotonic = monotonic
        self.receive_buffer = bytearray(RECEIVE_BUFFER)
        self.buffers = Buffers()
        self.pool = Pool()
        self.mint = LeafMint(authority)
        self.certificates = ClientCertificates(settings, client_authority, monotonic=monotonic)
        self.policy = policy_of(settings)
        self.bypasses = Bypasses() if settings.bypass_after_failure else None
        self.upstream = (
            None if settings.upstream is None else Outward(settings, self.receive_buffer, lingers=self.lingers)
        )
        keylog = settings.secrets is not SecretsKept.NONE
        identity = settings.identity
        self.client_side = TlsClientSide(
            settings.roots,
            enforce=settings.verify,
            identity=None if identity is None else (identity.chain, identity.key),
            keylog=keylog,
        )
        self.mirror = Mirror(self.client_side)
        self.server_side = TlsServerSide(keylog=keylog)
        self._keeper = keeper
        self._listeners: list[socket.socket] = []
        self._set_aside: list[socket.socket] = []
        self._try_again: asyncio.TimerHandle | None = None
        self._refused_since: float | None = None
        self._accepting: set[asyncio.Task[None]] = set()
        self._sessions: dict[asyncio.Task[None], Session] = {}
        self._snapshots: asyncio.Task[None] | None = None
        self._lingering: set[asyncio.Future[None]] = set()

    # -- life ----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen. Raises :class:`EnvironmentFault` when the address cannot be had, or the target has none."""
        listen = self.settings.listen
        if self.settings.mode is Mode.TRANSPARENT and sys.platform != "linux":
            raise EnvironmentFault("--mode transparent is there on Linux only; use --mode connect or socks5")
        await self._check_places()
        try:
            await self._listen(listen)
        except OSError as error:
            self._close_listeners()
            raise EnvironmentFault(_cannot_listen(str(listen), error)) from None
        try:
            if self.upstream is not None:
                await self.upstream.check(self.ports)
        except EnvironmentFault:
            self._close_listeners()
            raise
        self._snapshots = asyncio.create_task(self._take_snapshots(), name="countersign-snapshots")

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

    async def stop(self) -> None:
        """No new connections; open sessions get ``limits.stop`` seconds, then they end; all recordings are finished."""
        self._close_listeners()
        if self._accepting:
            await asyncio.wait(self._accepting)  # a step of the loop each: no session is born after this
        if self._sessions:
            await asyncio.wait(self._sessions, timeout=self.settings.limits.stop)
        for task in list(self._sessions):
            task.cancel()
        if self._sessions:
            await asyncio.wait(self._sessions)
        if self._lingering:
            await asyncio.wait(self._lingering)  # a second at most: the last words of each session go out
        if self._snapshots is not None:
            self._snapshots.cancel()
            await asyncio.gather(self._snapshots, return_exceptions=True)

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
    def open_sessions(self) -> int:
        return len(self._sessions)

    # -- listeners -----------------------------------------------------------------------------------------------

    async def _listen(self, where: Address) -> None:
        """A listener for each address of ``where``.

        asyncio's own servers are not used: without descriptors left theirs tries a thousand times at once and logs
        each (https://github.com/python/cpython/issues/151615). T27.
        """
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(where.host, where.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, address in dict.fromkeys(found):
            listener = socket.socket(family, socket.SOCK_STREAM)
            self._listeners.append(listener)
            listener.setblocking(False)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if self.settings.tproxy:
                make_transparent(listener)
            listener.bind(address)
            listener.listen(_BACKLOG)
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
        loop = asyncio.get_running_loop()
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                accepted, _address = listener.accept()
            except BlockingIOError:
                self._accepted_all()
                return
            except (InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._cannot_accept(listener, error)
                return
            accepted.setblocking(False)
            task = loop.create_task(self._connected(accepted), name="accept")
            self._accepting.add(task)
            task.add_done_callback(self._accepting.discard)

    def _cannot_accept(self, listener: socket.socket, error: OSError) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(listener)
        self._set_aside.append(listener)
        if self._try_again is None:
            self._try_again = loop.call_later(_ACCEPT_AGAIN_AFTER, self._accept_again)
        if self._refused_since is None:
            self._refused_since = self.monotonic()
            log.warning("cannot accept connections", reason=error.strerror)

    def _accept_again(self) -> None:
        if self._try_again is not None:
            self._try_again.cancel()
            self._try_again = None
        for listener in self._set_aside:
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)
        self._set_aside.clear()

    def _accepted_all(self) -> None:
        if self._refused_since is not None and not self._set_aside:
            log.info("accepting connections again", after=round(self.monotonic() - self._refused_since, 1))
            self._refused_since = None

    async def _connected(self, accepted: socket.socket) -> None:
        transparent = self.settings.mode is Mode.TRANSPARENT
        destination = original_destination(accepted) if transparent else None
        make = partial(Stream, self.receive_buffer, partial(self._accepted, destination))
        await asyncio.get_running_loop().connect_accepted_socket(make, accepted)

    # -- sessions ------------------------------------------------------------------------------------------------

    def _accepted(self, destination: Address | None, stream: Stream) -> None:
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
                log.error(what, id=recording.id, exc_info=error)
        outcome = recording.outcome
        write = log.info if outcome.broken_by is None else log.warning
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
            for task, session in list(self._sessions.items()):
                try:
                    if not session.due or task not in self._sessions:  # it may have ended while others had their turn
                        continue
                    self._keeper.submit(session.snapshot())
                except Exception:
                    session.recording.changed = False  # again when there is something new
                    log.exception("no snapshot of session", id=session.recording.id)
                await asyncio.sleep(0)


def _cannot_listen(address: str, error: OSError) -> str:
    reason = {
        errno.EADDRINUSE: "something else listens there; choose another port, or 0 for any free one",
        errno.EADDRNOTAVAIL: "this machine has no such address",
        errno.EACCES: "ports below 1024 need privileges; choose a higher one",
    }.get(error.errno or 0)
    if isinstance(error, socket.gaierror):
        reason = "no address is known for that name"
    return f"cannot listen on {address}: {reason or error.strerror or error}"
