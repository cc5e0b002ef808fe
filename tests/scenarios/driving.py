"""Drives a scenario against the engine in this process, with a client that accepts anything, so that all is seen."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from cryptography import x509
from OpenSSL import SSL

from countersign.ca import Authority, KeyPool, Plan, issue
from countersign.ca.revocation import Manner, Patience, Responder, What
from countersign.lab.target import HOST, EmbeddedTarget, Pki
from countersign.proxy import Address, Engine, Limits, Mode, Settings
from countersign.proxy.ways.addressing import Overrides
from countersign.recorder.recording import LegRole
from countersign.recorder.wire.events import Side
from countersign.scenarios.answered import questions
from countersign.scenarios.clock import REAL, Clock
from countersign.scenarios.directing import ScenarioDirector
from countersign.scenarios.model import ENTERING, PARTS, Scene, Stapling, Step
from countersign.scenarios.proof import Unproved, proofs
from countersign.scenarios.running.stage import own_target

if TYPE_CHECKING:
    from countersign.ca.revocation import Answer
    from countersign.recorder.recording import Recording
    from countersign.scenarios.model import Scenario

AUTHORITY = Authority.make()
CLIENTS = Authority.make(Plan(name="clients of the lab"))
POOL = KeyPool()
_LATE = frozenset({What.HANG, What.DRIP, What.SLOW})


@cache
def pki() -> Pki:
    """One target for all tests of a process."""
    return Pki.make(HOST)


@dataclass
class Kept:
    """A keeper that holds what is finished."""

    finished: list[Recording] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def submit(self, recording: Recording) -> None:
        if recording.ended is not None:
            self.finished.append(recording)
            self.news.set()

    async def more_than(self, count: int) -> None:
        """Until so many are finished, and one more."""
        async with asyncio.timeout(30):
            while len(self.finished) <= count:
                self.news.clear()
                await self.news.wait()


@dataclass
class Time:
    """Both clocks of a director, moved by hand."""

    passed: float = 0.0
    began: datetime = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)

    def now(self) -> float:
        return self.passed

    def wall(self) -> datetime:
        return self.began + timedelta(seconds=self.passed)


@dataclass(frozen=True)
class Client:
    """One that verifies nothing, in its own words: what it offers, what it shows, how long it waits; ``upgrades``: it
    begins TLS in a dialogue of SMTP, with a target that does.
    """

    patience: float = 20.0
    most: int = SSL.TLS1_3_VERSION
    least: int = SSL.TLS1_VERSION
    staple: bool = False
    shows: bool = True
    groups: str = ""
    upgrades: bool = False

    def context(self) -> SSL.Context:
        made = SSL.Context(SSL.TLS_CLIENT_METHOD)
        made.set_verify(SSL.VERIFY_NONE, lambda *_: True)
        made.set_min_proto_version(self.least)
        made.set_max_proto_version(self.most)
        made.set_cipher_list(b"ALL:@SECLEVEL=0")
        made.set_alpn_protos([b"http/1.1"])
        made.set_session_cache_mode(SSL.SESS_CACHE_CLIENT)
        if self.staple:
            made.set_ocsp_client_callback(lambda *_: True)
        if self.shows:
            minted = issue(CLIENTS, "client.lab.test", purpose="client")
            made.use_certificate(x509.load_der_x509_certificate(minted.chain[0]))
            assert not isinstance(minted.key, bytes)
            made.use_privatekey(minted.key)
            for each in minted.chain[1:]:
                made.add_extra_chain_cert(x509.load_der_x509_certificate(each))
        return made

    def talk(self, port: int, context: SSL.Context, session: Any) -> tuple[str, Any]:
        """Ask one thing through the proxy, and say in a word how it went."""
        raw = socket.create_connection(("127.0.0.1", port), timeout=self.patience)
        connection = None
        try:
            raw.sendall(f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n".encode())
            head = b""
            while b"\r\n\r\n" not in head and (byte := raw.recv(1)):
                head += byte
            if not head.startswith((b"HTTP/1.1 2", b"HTTP/1.0 2")) or b"\r\n\r\n" not in head:
                return head[:40].decode("latin-1"), session
            if self.upgrades and (refused := _upgrade(raw)):
                return refused, session
            raw.settimeout(None)
            seconds = int(self.patience), int(self.patience % 1 * 1e6)
            for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
                raw.setsockopt(socket.SOL_SOCKET, option, _timeval(*seconds))
            connection = SSL.Connection(context, raw)
            connection.set_tlsext_host_name(HOST.encode())
            if self.staple:
                connection.request_ocsp()
            if session is not None:
                connection.set_session(session)
            connection.set_connect_state()
            connection.do_handshake()
            connection.sendall(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
            answer = connection.recv(12)
            return answer.decode("latin-1"), connection.get_session()
        except (SSL.Error, OSError) as wrong:
            return repr(wrong), session
        finally:
            if connection is not None:
                try:
                    connection.shutdown()
                except SSL.Error:
                    pass
            raw.close()


def _upgrade(raw: socket.socket) -> str:
    """RFC 3207 2; what was said instead."""
    with raw.makefile("rb", buffering=0) as lines:
        for command in (b"", b"EHLO me\r\n", b"STARTTLS\r\n"):
            raw.sendall(command)
            while (line := lines.readline())[3:4] == b"-" and line[:3].isdigit():
                continue
            if not line.startswith((b"220", b"250")):
                return line.decode("latin-1")
    return ""


class _Front:
    """A mail server whose TLS is that of the port behind it."""

    def __init__(self, behind: int) -> None:
        self._behind = behind
        self._tasks: set[asyncio.Task[Any]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        writers = [writer]
        try:
            writer.write(b"220 ready\r\n")
            while not (line := await reader.readline()).startswith(b"STARTTLS"):
                if not line:
                    return
                writer.write(b"250-mx\r\n250 STARTTLS\r\n")
            writer.write(b"220 go\r\n")
            inner, outer = await asyncio.open_connection("127.0.0.1", self._behind)
            writers.append(outer)
            await asyncio.gather(_pump(reader, outer), _pump(inner, writer))
        finally:
            for each in writers:
                each.close()
                with contextlib.suppress(OSError):
                    await each.wait_closed()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(1 << 16):
            sink.write(data)
            await sink.drain()
        sink.write_eof()


def _timeval(seconds: int, micro: int) -> bytes:
    import struct

    return struct.pack("ll", seconds, micro)


@dataclass
class Driven:
    """What came of it, and what is known beside the recordings."""

    recordings: list[Recording]
    words: list[str]
    director: ScenarioDirector
    anchors: tuple[bytes, ...]
    answers: list[Answer]
    clock: Clock

    def unproved(self, scenario: Scenario) -> tuple[Unproved, ...]:
        """Of this scenario, whatever was driven."""
        return proofs(
            scenario,
            self.recordings,
            self.answers,
            anchors=self.anchors,
            clients=self.director.clients,
            clock=self.clock,
        )


def mended(scenario: Scenario) -> Scenario:
    """The scenario with everything taken out that it puts on the wire; its steps keep their turns.

    Of a recipe that names what it breaks only that is put back.
    """
    nothing: dict[str, Any] = dict.fromkeys(PARTS)
    if scenario.action == "intercept":
        nothing["action"] = "passthrough"
    if scenario.stapling is not None and scenario.stapling.body == b"":
        nothing["stapling"] = Stapling()
    certificate = scenario.certificate
    if certificate is not None and certificate.own_recipe is not None and certificate.own_recipe.breaks:
        nothing["certificate"] = replace(certificate, recipe=certificate.own_recipe.mended())
    return replace(scenario, **nothing, steps=tuple(map(_mended_step, scenario.steps)))


def _mended_step(step: Step) -> Step:
    if step.keep_sessions:
        return replace(step, keep_sessions=False)
    kept = {each: getattr(step, each) for each in (*ENTERING, "weight", "title")}
    return Step(**kept)


def visits(scenario: Scenario) -> list[float]:
    """When to connect so that every step is met: at the start, and when the turn of the next one has come."""
    moments = [0.0]
    for step in scenario.steps[1:] if scenario.schedule.order == "steps" else scenario.steps:
        later = moments[-1] + (step.after or 0.0)
        if step.at is not None:
            later += 86400.0
        moments += [later] * ((step.connections or 1) if step.chance is None else 10)
    return moments + [moments[-1]] * (8 if scenario.schedule.order == "random" else 0)


async def drive(
    scenario: Scenario,
    *,
    client: Client | None = None,
    times: int = 0,
    clock: Clock = REAL,
    asks: bool = False,
    **settings: Any,
) -> Driven:
    """Connect as often as it takes, one after the other; ``asks``: the target asks for a client certificate."""
    client = client or Client()
    time = Time()
    director = ScenarioDirector(scenario, AUTHORITY, clients=CLIENTS, clock=clock, now=time.now, wall=time.wall)
    scenes: list[Scene | Step] = [scenario, *scenario.steps]
    tells = any(each.revocation is not None or each.stapling is not None for each in scenes)
    kept, context, session = Kept(), client.context(), None
    words: list[str] = []
    answers: list[Answer] = []
    responder = Responder(*director.authorities, manner=Manner(clock=clock.factor)) if tells else None
    part = scenario.scenes[0].target
    own = EmbeddedTarget(pki()) if part is None else own_target(part, pki(), HOST, pool=POOL)
    async with AsyncExitStack() as stack:
        target = await stack.enter_async_context(own)
        if responder is not None:
            await responder.start()
            director.point(responder.authorities)
        try:
            made = Settings(
                listen=Address("127.0.0.1", 0),
                mode=Mode.CONNECT,
                roots=(pki().public.root.der,),
                resolve=Overrides.parse([f"{HOST}:443:127.0.0.1"]),
                limits=Limits(hello=client.patience, handshake=client.patience, stop=0.2),
                **settings,
            )
            made = replace(made, resolve=None)
            behind = target.asking_port if asks or (part is not None and part.asks) else target.plain_port
            port = await stack.enter_async_context(_Front(behind)) if client.upgrades else behind
            async with _engine(made, director, kept, port) as engine:
                engine.signing.mint.pool = POOL
                anchors = director.anchors(POOL)
                for moment in visits(scenario) if not times else [0.0] * times:
                    time.passed = moment
                    count = len(kept.finished)
                    if scenario.schedule.per == "run" and words:
                        director.next_run()
                    if words and any(step.on_call for step in scenario.steps):
                        director.step_to()
                    if responder is not None:
                        await responder.change(scenario.scene(director.current).revocation or ())
                    said, session = await asyncio.to_thread(client.talk, engine.ports[0], context, session)
                    words.append(said)
                    await kept.more_than(count)
                if responder is not None:
                    late = any(fault.what in _LATE for scene in scenario.scenes for fault in scene.revocation or ())
                    answers = await _ask(kept.finished[-1], director, Patience(0.4 if late else 20.0, size=1 << 20))
        finally:
            if responder is not None:
                await responder.stop()
    return Driven(kept.finished, words, director, anchors, answers, clock)


def _engine(settings: Settings, director: ScenarioDirector, kept: Kept, port: int) -> Engine:
    """CONNECT to the lab's host leads to the target, wherever that listens."""
    engine = Engine(settings, AUTHORITY, kept, director=director, client_authority=CLIENTS)
    engine.overrides = lambda _: [(socket.AF_INET, ("127.0.0.1", port))]  # type: ignore[method-assign, assignment]
    return engine


async def _ask(recording: Recording, director: ScenarioDirector, patience: Patience) -> list[Answer]:
    leg = recording.leg(LegRole.CLIENT)
    chain = [] if leg is None else [each.der for each in leg.read().certificates if each.sender is Side.SERVER]
    issuers = [each.der for each in reversed(director.authorities[0].issuers)]
    return await questions([*chain[:1], *issuers[:-1]], root=issuers[-1], patience=patience) if chain else []
