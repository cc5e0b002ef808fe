"""Clients that know that they talk to a proxy: HTTP (CONNECT and plain requests) and SOCKS, moved between two streams.

What is said is decided by the machines in :mod:`countersign.proxy.ways`; here their bytes are read and written. A plain
``http://`` request has a target of its own, and both ends talk while it is forwarded, so both are read at once: a read
that is not over when the other one is stays where it is. What one side does not take is not read from the other.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from countersign.proxy.dial import DialFailed
from countersign.proxy.prelude import Asked, PreludeFailed
from countersign.proxy.ways.events import Exchanged, Ready, Refused, Send, Wanted
from countersign.proxy.ways.http_in import Dropped, Fetch, HttpIn, ToTarget
from countersign.proxy.ways.socks import SocksServer
from countersign.recorder.recording import Ending, FailureCode, Party

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from countersign.proxy.prelude import Reach
    from countersign.proxy.stream import Stream
    from countersign.proxy.ways import http_in, socks
    from countersign.proxy.ways.credentials import Credentials

_TIMED_OUT = frozenset({FailureCode.DIAL_TIMEOUT, FailureCode.RESOLVER_TIMEOUT})
_FORBIDDEN = frozenset({FailureCode.TARGET_NOT_ALLOWED, FailureCode.REFUSED_BY_RULE})


def _status(code: FailureCode) -> int:
    """RFC 9110 15.5.4, 15.6.3, 15.6.5."""
    if code in _FORBIDDEN:
        return 403
    return 504 if code in _TIMED_OUT else 502


# -- HTTP ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Connect:
    """CONNECT requests, and plain ``http://`` ones, which are served here to the end."""

    credentials: Credentials | None = None

    async def run(self, stream: Stream, reach: Reach) -> Asked | None:
        return await _HttpClient(stream, reach, HttpIn(self.credentials)).run()


class _HttpClient:
    def __init__(self, stream: Stream, reach: Reach, machine: HttpIn) -> None:
        self._stream = stream
        self._reach = reach
        self._machine = machine
        self._target: Stream | None = None
        self._reading: dict[Stream, asyncio.Task[bytes]] = {}
        self._asked_before = False
        self._asked: Asked | None = None

    async def run(self) -> Asked | None:
        """A tunnel that is asked for, or None when the client has been served."""
        try:
            while True:
                limit = self._reach.limits.idle if self._asked_before else self._reach.limits.hello
                async with asyncio.timeout(limit):
                    over = await self._act(await self._read())
                if over:
                    return self._asked
        except TimeoutError:
            if self._asked_before:
                raise self._failed(FailureCode.SILENT, f"moved nothing for {limit:g} s") from None
            raise self._failed(FailureCode.SILENT, "connected and sent no CONNECT request in time") from None
        finally:
            for task in self._reading.values():
                task.cancel()
            self._drop()

    async def _read(self) -> list[http_in.Event]:
        """Wait for either side."""
        stream, target, machine = self._stream, self._target, self._machine
        if machine.wants_client and stream not in self._reading:
            self._reading[stream] = asyncio.create_task(stream.read(), name="read client")
        if target is not None and target not in self._reading:
            self._reading[target] = asyncio.create_task(target.read(), name="read target")
        until: set[asyncio.Future[bytes] | asyncio.Future[None]] = {*self._reading.values(), stream.closed}
        done, _ = await asyncio.wait(until, return_when=asyncio.FIRST_COMPLETED)
        events: list[http_in.Event] = []
        if target is not None and (read := self._reading[target]) in done:
            del self._reading[target]
            events += machine.from_target(read.result())
            return events
        if stream in self._reading and (read := self._reading[stream]) in done:
            del self._reading[stream]
            data = read.result()
            if not data and stream.ending is Ending.RESET:
                self._left()
            return machine.from_client(data)
        self._left()
        return events

    def _left(self) -> None:
        """The client reset its connection: there is nobody left to serve."""
        if self._machine.turned_away is not None and not self._machine.midway:
            raise self._failed(FailureCode.NOT_AUTHENTICATED, self._machine.turned_away)
        if self._asked_before and not self._machine.midway:
            raise self._failed(FailureCode.CLIENT_LEFT, "reset the connection before it had its answer")
        if self._machine.midway:
            raise self._failed(FailureCode.BAD_REQUEST, "reset the connection in the middle of its proxy request")
        raise self._failed(FailureCode.NO_REQUEST, "connected and reset the connection without sending a request")

    async def _act(self, waiting: list[http_in.Event]) -> bool:
        """Do what the machine says; whether the client has been served, or wants a tunnel."""
        while waiting:
            event = waiting.pop(0)
            match event:
                case Send(data):
                    self._stream.write(data)
                    await self._stream.drained()
                case ToTarget(data):
                    if self._target is not None:
                        self._target.write(data)
                        await self._target.drained()
                case Wanted(target):
                    reply = _HttpReply(self._stream, self._machine)
                    self._asked = Asked(target, record=self._machine.record, reply=reply)
                    return True
                case Fetch(target):
                    self._asked_before = True
                    try:
                        self._target, through = await self._reach.fetch(target)
                    except DialFailed as failed:
                        text = f"the {failed.by.value} {failed.text}"
                        waiting += self._machine.failed(_status(failed.code), text)
                    else:
                        waiting += self._machine.connected(through)
                case Exchanged(record):
                    self._reach.exchanged(record)
                case Dropped():
                    self._drop()
                case Refused(by, code, text):
                    if by is Party.TARGET:  # a part of its answer is out, and must not look like the whole
                        self._stream.abort()
                    if code is FailureCode.BAD_REQUEST and not self._machine.record and not self._stream.received:
                        code, text = FailureCode.NO_REQUEST, "connected and closed without sending a CONNECT request"
                    raise self._failed(code, text, by=by)
                case Ready():  # comes from the reply, once the tunnel stands
                    raise AssertionError(event)
                case _:  # Finished
                    if not event.requests:
                        text = "connected and closed without sending a CONNECT request"
                        raise self._failed(FailureCode.NO_REQUEST, text)
                    self._reach.note(self._machine.record)
                    return True
        return False

    def _drop(self) -> None:
        if self._target is not None:
            task = self._reading.pop(self._target, None)
            if task is not None:
                task.cancel()
            self._target.close()
            self._target = None

    def _failed(self, code: FailureCode, text: str, *, by: Party = Party.CLIENT) -> PreludeFailed:
        return PreludeFailed(code, text, by=by, record=self._machine.record)


@dataclass(frozen=True, slots=True)
class _HttpReply:
    stream: Stream
    machine: HttpIn

    def granted(self) -> Mapping[str, Any]:
        return _answer(self.stream, self.machine.connected(), self.machine.record)

    def refused(self, code: FailureCode, text: str) -> Mapping[str, Any]:
        return _answer(self.stream, self.machine.failed(_status(code), text), self.machine.record)


def _answer(
    stream: Stream, events: Sequence[http_in.Event | socks.Event], record: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Tell the client how the dial went; what it had sent behind its request is for what comes next."""
    for event in events:
        if isinstance(event, Send):
            stream.write(event.data)
        elif isinstance(event, Ready):
            stream.unread(event.rest)
    return record


# -- SOCKS ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Socks:
    """SOCKS5 and SOCKS4a; names are resolved here."""

    credentials: Credentials | None = None

    async def run(self, stream: Stream, reach: Reach) -> Asked:
        machine = SocksServer(self.credentials)
        try:
            async with asyncio.timeout(reach.limits.hello):
                while True:
                    data = await stream.read()
                    if not data:
                        raise _socks_ended(stream, machine)
                    for event in machine.receive(data):
                        match event:
                            case Send(said):
                                stream.write(said)
                            case Wanted(target):
                                record = {"socks": machine.record}
                                return Asked(target, record=record, reply=_SocksReply(stream, machine))
                            case Refused(by, code, text):
                                raise PreludeFailed(code, text, by=by, record=_socks_record(machine))
        except TimeoutError:
            text = "connected and sent no SOCKS request in time"
            raise PreludeFailed(FailureCode.SILENT, text, record=_socks_record(machine)) from None


def _socks_record(machine: SocksServer) -> Mapping[str, Any]:
    return {"socks": dict(machine.record)} if machine.record else {}


def _socks_ended(stream: Stream, machine: SocksServer) -> PreludeFailed:
    how = "reset the connection" if stream.ending is Ending.RESET else "closed"
    if machine.midway:
        text = f"{how} in the middle of its SOCKS request"
        return PreludeFailed(FailureCode.BAD_REQUEST, text, record=_socks_record(machine))
    return PreludeFailed(FailureCode.NO_REQUEST, f"connected and {how} without sending a SOCKS request")


@dataclass(frozen=True, slots=True)
class _SocksReply:
    stream: Stream
    machine: SocksServer

    def granted(self) -> Mapping[str, Any]:
        return {"socks": dict(_answer(self.stream, self.machine.granted(), self.machine.record))}

    def refused(self, code: FailureCode, text: str) -> Mapping[str, Any]:  # noqa: ARG002 - SOCKS has numbers only
        return {"socks": dict(_answer(self.stream, self.machine.failed(code), self.machine.record))}
