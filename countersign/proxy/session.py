"""The way of one connection, from accept to the finished recording. Ends are exceptions.

    accept -> prelude -> sniff the ClientHello -> decide -> dial -> what was decided, to the end

Each step is a module: :mod:`.prelude` (how the client names its target), :mod:`.sniff`, :mod:`.decide`, :mod:`.dial`,
then :mod:`.intercept` (with :mod:`.server_leg` and :mod:`.client_leg`) or :mod:`.passthrough`. They share a
:class:`~countersign.proxy.context.Context`. Here is their order, what is dialled, and how a session ends.

What ends a session early is noted on the recording as a :class:`~countersign.recorder.recording.Failure` with who is at
fault; nothing is only logged.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from countersign.proxy.context import Context, Over
from countersign.proxy.decide import check_before_dial, decide, refuse, turn_away
from countersign.proxy.dial import DialFailed, barred, barred_name, dial, literal, resolve
from countersign.proxy.entry import prelude_of
from countersign.proxy.intercept import intercept
from countersign.proxy.passthrough import pass_through, relay_not_tls
from countersign.proxy.prelude import Asked, PreludeFailed
from countersign.proxy.relay import LastWords
from countersign.proxy.settings import Action, Address, may_connect
from countersign.proxy.sniff import Sniffer
from countersign.proxy.ways.policy import Verdict
from countersign.recorder.live import LiveLeg
from countersign.recorder.recording import Ending, Failure, FailureCode, LegRole, Party
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from countersign.proxy.engine import Engine
    from countersign.proxy.relay import Relay
    from countersign.proxy.settings import Limits
    from countersign.proxy.sniff import Hello
    from countersign.proxy.stream import Stream
    from countersign.proxy.ways.http_in import Shows
    from countersign.recorder.recording import Recording
    from countersign.recorder.wire.events import Problem

_LAST_WORDS = 1.0  # seconds
_YOUNG = 0.05  # seconds that a session has to be open to be worth a snapshot
_SMALL = 128 * 1024  # bytes of a recording whose snapshots are taken as often as any
_SNAPSHOT_AGAIN = 0.1 / (256 * 1024)  # seconds until the next one for each byte beyond that


class Session:
    """One client connection. Preludes see it as their :class:`~countersign.proxy.prelude.Reach`."""

    def __init__(self, engine: Engine, stream: Stream, destination: Address | None = None) -> None:
        self._engine = engine
        self.destination = destination
        self.aimed: Address | None = None
        self._context = context = Context(engine, stream)
        role = LegRole.CLIENT if engine.settings.action is Action.INTERCEPT else LegRole.THROUGH
        self._role = role
        self._policy = engine.policy  # a later one is for later sessions
        self._sniffer = Sniffer(context, role)
        self._client_left = False
        self._was_stopped = False
        self._task: asyncio.Task[object] | None = None
        self._snapshot_at = _YOUNG
        self._fetched: list[Stream] = []  # for what a prelude serves by itself
        self._fetched_bytes = 0
        self.recording = context.recording

    def clock(self) -> float:
        """Seconds since the session's start."""
        return self._context.clock()

    @property
    def limits(self) -> Limits:
        return self._engine.settings.limits

    # -- from the first step to the last -------------------------------------------------------------------------------

    async def run(self) -> None:
        """Everything, from accept to close. Raises nothing but cancellation."""
        self._task = asyncio.current_task()
        try:
            try:
                relay = await self._go()
                if relay is not None:  # nothing but it is held while it lasts
                    await self._context.until_finished(relay)
            except Over as over:
                over.__traceback__ = over.__context__ = None  # whose frames hold all of the session, and some hold it
            await self._last_words()
        except asyncio.CancelledError:
            if self._client_left:
                self._context.client_left()
            else:
                self._stopped()
        finally:
            self._close()

    async def _go(self) -> Relay | None:
        """Everything up to the relay, which has begun; None where what had to be relayed is over."""
        context = self._context
        if not may_connect(context.client.peer_host(), context.settings.allow):
            context.recording.action = "refuse"
            text = "does not let this client in (--allow)"
            raise context.over(None, Party.PROXY, code=FailureCode.CLIENT_NOT_ALLOWED, text=text)
        context.shaping.arrived()
        asked = await self._ask()
        if asked is None:
            context.recording.not_tls = True
            context.recording.action = "relay"
            return None
        context.shaping.awaiting_hello()
        hello = await self._sniffer.hello()
        context.recording.sni = hello.summary.sni if hello.summary else None
        asked, target = self._aim(asked, hello)
        if hello.summary is not None:
            context.take_orders(str(target))
        context.shaping.hello_came()
        decision = decide(context, self._policy, target, hello)
        if decision.verdict is Verdict.REFUSE:
            raise refuse(context, decision, hello)
        reach = partial(self._reach, asked)
        try:
            if hello.first is None:
                what = relay_not_tls(context, hello, dial=reach)
            elif decision.verdict is Verdict.PASSTHROUGH:
                what = pass_through(context, hello, dial=reach)
            else:
                what = intercept(context, target, hello, dial=reach, left=self._leave, told=self.exchanged)
            del hello  # who has it lets it go as soon as it is of no use any more
            return await what
        except DialFailed as failed:
            raise context.over(None, failed.by, code=failed.code, text=failed.text) from None

    def _aim(self, asked: Asked, hello: Hello) -> tuple[Asked, Address]:
        """Where it goes, by the server name where the client has not said. Ends the session where it leads nowhere."""
        if asked.target is not None:
            return asked, asked.target
        sni = self.recording.sni
        target = asked.by_name(sni) if asked.by_name is not None else None
        if target is None:
            name = "no server name" if sni is None else f"the server name {printable(sni, limit=255)}"
            text = f"has no target for {name}"
            raise turn_away(self._context, hello, "unrecognized_name", code=FailureCode.NO_TARGET, text=text)
        asked = replace(asked, target=target)
        self._note(asked)
        return asked, target

    async def _ask(self) -> Asked | None:
        """What the client wants; where it waits for an answer, the target is dialled and it has been told."""
        context = self._context
        try:
            asked = await prelude_of(context.settings).run(context.client, self)
        except PreludeFailed as failed:
            context.recording.prelude.update(failed.record)
            raise context.over(None, failed.by, code=failed.code, text=failed.text) from None
        if asked is not None:
            self._note(asked)
            if asked.reply is not None:
                await self.open(asked)
        return asked

    def note(self, record: Mapping[str, Any], *, client: str | None = None, problems: Iterable[Problem] = ()) -> None:
        """:meth:`countersign.proxy.prelude.Reach.note`."""
        self.recording.prelude.update(record)
        self.recording.problems += [(LegRole.CLIENT, problem) for problem in problems]
        if client is not None:
            self.recording.client = client
            self._context.client_host = client.rpartition(":")[0].strip("[]")
        self.recording.changed = True

    def exchanged(self, record: Mapping[str, Any]) -> None:
        """:meth:`countersign.proxy.prelude.Reach.exchanged`."""
        self.recording.http.append({"t": round(self.clock(), 6), **record})
        self.recording.changed = True

    def stop_idle(self) -> NoReturn:
        """:meth:`countersign.proxy.prelude.Reach.stop_idle`."""
        self.recording.stopped = f"ended the session, in which nothing had moved for {self.limits.idle:g} s"
        raise Over

    def _note(self, asked: Asked) -> None:
        recording = self.recording
        recording.prelude.update(asked.record)
        if asked.target is not None:
            self.aimed = asked.target
            recording.target = printable(str(asked.target))
        recording.changed = True

    async def open(self, asked: Asked) -> Stream:
        """:meth:`countersign.proxy.prelude.Reach.open`."""
        self._note(asked)
        if asked.reply is not None:
            await self._context.shaping.answers(asked.reply)
        try:
            stream = await self._reach(asked)
        except DialFailed as failed:
            if asked.reply is not None:
                self._context.shaping.answered()  # what is ordered is for tunnels that there are
                text = f"the {failed.by.value} {failed.text}"
                self.recording.prelude.update(asked.reply.refused(failed.code, text))
            raise self._context.over(None, failed.by, code=failed.code, text=failed.text) from None
        if asked.reply is not None:
            self.recording.prelude.update(asked.reply.granted())
            self._context.shaping.answered()
        return stream

    async def _reach(self, asked: Asked) -> Stream:
        """The TCP connection to the target, made once. Raises :class:`DialFailed`."""
        if self._context.target is None:
            self._context.target = await self._dial(asked)
            self._context.shaping.dialled(self._context.target)
        return self._context.target

    async def fetch(self, target: Address) -> tuple[Stream, Shows | None]:
        """:meth:`countersign.proxy.prelude.Reach.fetch`."""
        through, upstream = None, self._engine.upstream
        try:
            stream = await self._dial(Asked(target))
        except DialFailed as failed:
            if upstream is None or failed.code is not FailureCode.UPSTREAM_REFUSED or not upstream.forwards:
                raise
            stream, through = await upstream.forward(limit=self.limits.connect)
            self.note({"upstream": {**self.recording.prelude["upstream"], "forwards": True}})
        self._forget_fetched()
        self._fetched.append(stream)
        return stream, through

    async def _dial(self, asked: Asked) -> Stream:
        """A TCP connection to what was asked for, if it may be had. Raises :class:`DialFailed`."""
        target, limit, engine = asked.target, self.limits.connect, self._engine
        assert target is not None
        if engine.dialled is not None and engine.dialled.has(self._context.client.peer(), self.destination):
            text = "was reached by its own connection, which a rule of the network has turned back to it; "
            text += "leave what the proxy sends itself out of that rule"
            raise DialFailed(FailureCode.TARGET_NOT_ALLOWED, Party.PROXY, text)
        if asked.by_client:
            check_before_dial(self._context, self._policy, target)
        found = asked.addresses or literal(target) or engine.overrides(target)
        if engine.upstream is None and not found:
            found = await resolve(target, limit=limit)
        own = engine.own_ports
        reason = (barred_name(target, own) or barred(found, own)) if asked.by_client else None
        if reason is not None:
            raise DialFailed(FailureCode.TARGET_NOT_ALLOWED, Party.PROXY, f"does not dial {target}: {reason}")
        if engine.upstream is not None:
            asked_for = Address(str(found[0][1][0]), target.port) if found else target
            return await engine.upstream.connect(asked_for, limit=limit, note=self.note)
        source = engine.settings.bind_out
        return await dial(
            target, found, buffer=engine.receive_buffer, limit=limit, source=source, dialled=engine.dialled
        )

    def _forget_fetched(self) -> None:
        """Count what came from connections that are over."""
        over = [stream for stream in self._fetched if stream.closed.done()]
        self._fetched_bytes += sum(stream.received for stream in over)
        self._fetched = [stream for stream in self._fetched if stream not in over]

    # -- how it ends ---------------------------------------------------------------------------------------------------

    def _leave(self) -> None:
        """The client left while the target was being spoken to."""
        self._client_left = True
        if self._task is not None:
            self._task.cancel()

    def _stopped(self) -> None:
        """The proxy is being stopped: both sides of every leg end by our hand."""
        self._was_stopped = True
        self.recording.stopped = "was stopped"
        self._context.end_all(self._sniffer.give_up(Ending.STOPPED))

    async def _last_words(self) -> None:
        """Where one leg broke and the other stands, that one gets a second for what is still on its way.

        The target is told goodbye, for it has done nothing wrong. The client is not: what the target has cut off must
        not look to it like a regular end. A late alert of the target's is passed on to it.
        """
        self._context.client.on_end = None
        waiting: list[asyncio.Future[None]] = []
        for leg in self._context.legs:
            if leg.stands and leg.stream.ending is None and not leg.stream.gone:
                if leg.role is LegRole.CLIENT and self._refused is not None:
                    leg.alert(self._refused)
                words = LastWords(leg, buffers=self._engine.buffers)
                words.begin(goodbye=leg.role is LegRole.SERVER)
                waiting.append(words.over)
        if waiting:
            done, _ = await asyncio.wait(waiting, timeout=_LAST_WORDS)
            for over in done:
                over.result()

    @property
    def _refused(self) -> int | None:
        """The target's fatal alert, where it sent one."""
        return next((leg.peer_alert for leg in self._context.legs if leg.role is LegRole.SERVER), None)

    def _close(self) -> None:
        for leg in self._context.legs:
            leg.close()
        for stream in (self._context.client, self._context.target, *self._fetched):
            if stream is not None:
                stream.close(patient=not self._was_stopped)
                self._engine.lingers(stream)
        self._context.shaping.told()
        self._count_bytes()
        self._context.let_go()

    def broke(self, error: BaseException) -> None:
        """A fault of our own ended the session; the recording says so."""
        text = f"broke on a fault of its own ({type(error).__name__}); its log has the details"
        self.recording.fail(Failure(self.clock(), None, Party.PROXY, code=FailureCode.INTERNAL, text=text))

    def never_ran(self) -> None:
        """The proxy was stopped before the session's first step."""
        self._stopped()
        self._close()

    # -- while it goes on ----------------------------------------------------------------------------------------------

    @property
    def due(self) -> bool:
        """Whether there is something new that is worth a snapshot now: what holds much is handed over less often."""
        return self.recording.changed and self.clock() >= self._snapshot_at

    def snapshot(self) -> Recording:
        """The open session as it stands, with what there is of a ClientHello that is not whole yet."""
        self._count_bytes()
        self._snapshot_at = self.clock() + (self.recording.weight - _SMALL) * _SNAPSHOT_AGAIN
        recording = self.recording.snapshot()
        begun = self._sniffer.unfinished()
        if begun:
            leg = LiveLeg(self._role)
            for message in begun:
                leg.add(message)
            recording = replace(recording, legs=(leg.frozen(),))
        return recording

    def _count_bytes(self) -> None:
        self.recording.from_client = self._context.client.received
        streams = [*self._fetched, *([self._context.target] if self._context.target is not None else [])]
        self.recording.from_target = self._fetched_bytes + sum(stream.received for stream in streams)
