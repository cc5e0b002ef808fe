"""What went over an intercepted connection, in one line for each exchange: ``--http-summary``.

Method, target without its query, and status of HTTP/1.1 exchanges, how long their bodies were, and when each step was;
no field, no body, and nothing of what a client writes behind a question mark. So "the request was never sent" and "the
block page came from the device" are facts on a recording. HTTP/2 is only named.

:class:`HttpSummary` watches two streams of plaintext and changes neither. Each request and each answer gets an h11
connection of its own, for a watcher has no say in when a cycle ends; requests wait in a queue for their answers (RFC
9112 9.3.2). It stops for good when a protocol is switched, when something is not HTTP, and at its bounds: then
:attr:`HttpSummary.stopped` says why, and costs nothing any more.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import h11

from countersign.proxy.ways.events import Exchanged
from countersign.recorder.wire.events import Side
from countersign.recorder.wire.redaction import redacted_target, request_record
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

_HEAD_AT_MOST: Final = 64 * 1024
_TARGET_AT_MOST: Final = 1000
_WAITING_AT_MOST: Final = 100  # requests without an answer
_EXCHANGES_AT_MOST: Final = 1000
_SLICE: Final = 16 * 1024

_FIELDS: Final = [(b"Host", b"x"), (b"Upgrade", b"x")]  # so that h11 takes any answer; nothing of it goes anywhere


def exchange_record(method: bytes, target: bytes, status: int | None) -> dict[str, Any]:
    """What a recording keeps of an exchange; ``status`` is None where no answer came."""
    path = bytes(target).decode("latin-1").partition("?")[0]
    if not path.startswith("/"):  # a URL, which may name a user
        path = redacted_target(path)
    return {
        "method": request_record(method, b"", b"", ())["method"],
        "target": printable(path, limit=_TARGET_AT_MOST),
        "status": status,
    }


@dataclass(slots=True)
class _Exchange:
    """One that is not over. Times are seconds from the session's start, lengths those of bodies."""

    request: h11.Request
    t: float
    sent: int = 0
    status: int | None = None
    answered: float | None = None
    received: int = 0

    def over(self, t: float) -> Exchanged:
        record = exchange_record(self.request.method, self.request.target, self.status)
        times = {"answered": None if self.answered is None else round(self.answered, 6), "ended": round(t, 6)}
        lengths = {"request_bytes": self.sent, "answer_bytes": self.received}
        return Exchanged({"t": round(self.t, 6), **record, **lengths, **times})


class HttpSummary:
    """The watcher of one connection, on which ``alpn`` was agreed."""

    def __init__(self, alpn: str | None) -> None:
        self.stopped: str | None = alpn if alpn is not None and not alpn.startswith("http/1") else None
        """Why it does not look any more: the protocol that was agreed, ``h2`` say, or a sentence."""
        self.exchanges = 0
        """How many are over, or had begun when it stopped."""
        self._waiting: deque[_Exchange] = deque()  # requests without a whole answer yet, oldest first
        self._asking: _Exchange | None = None  # whose request is not whole yet
        self._t = 0.0
        self._client = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD_AT_MOST)
        self._server: h11.Connection | None = None  # while an answer is expected or read

    def receive(self, side: Side, data: bytes, t: float) -> list[Exchanged]:
        """Plaintext that a side sent; empty when its bytes have ended. Gives the exchanges that are over by it."""
        self._t = t
        read = self._request_bytes if side is Side.CLIENT else self._answer_bytes
        found: list[Exchanged] = []
        for at in range(0, max(1, len(data)), _SLICE):
            if self.stopped is not None:
                break
            try:
                found += read(data[at : at + _SLICE])
            except h11.RemoteProtocolError:
                whose = "the client" if side is Side.CLIENT else "the target"
                found += self._stop(f"{whose} {'sent what is not HTTP/1.1' if data else 'closed in mid-message'}")
        return found

    def rest(self, t: float) -> list[Exchanged]:
        """The connection is over: the requests that never got an answer, or not all of it."""
        self._t = t
        return self._stop("the connection ended") if self.stopped is None else []

    def _stop(self, why: str) -> list[Exchanged]:
        self.stopped = why
        left = [one.over(self._t) for one in self._waiting]
        self.exchanges += len(left)
        self._waiting.clear()
        return left

    def _request_bytes(self, data: bytes) -> Iterator[Exchanged]:
        self._client.receive_data(data)
        while self.stopped is None:
            event = self._client.next_event()
            if event is h11.NEED_DATA or isinstance(event, h11.ConnectionClosed):
                return
            if isinstance(event, h11.Request):
                self._asking = _Exchange(event, self._t)
                self._waiting.append(self._asking)
                if len(self._waiting) > _WAITING_AT_MOST:
                    yield from self._stop(f"more than {_WAITING_AT_MOST} requests wait for an answer")
            elif isinstance(event, h11.Data) and self._asking is not None:
                self._asking.sent += len(event.data)
            elif isinstance(event, h11.EndOfMessage):
                self._client = _go_on(self._client, h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD_AT_MOST))

    def _answer_bytes(self, data: bytes) -> Iterator[Exchanged]:
        while self.stopped is None and (data or self._server is not None):
            if self._server is None:
                if not self._waiting:
                    yield from self._stop("the target answered what nobody had asked")
                    return
                self._server = _expecting(self._waiting[0].request)
            self._server.receive_data(data)
            data = yield from self._answer()
            if not data:
                return

    def _answer(self) -> Generator[Exchanged, None, bytes]:
        """Read what there is of an answer; gives the bytes behind it."""
        assert self._server is not None
        answering = self._waiting[0]
        while True:
            event = self._server.next_event()
            if event is h11.NEED_DATA or event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                return b""
            if isinstance(event, h11.InformationalResponse) and event.status_code != 101:
                continue
            if isinstance(event, h11.Response | h11.InformationalResponse):
                answering.status, answering.answered = event.status_code, self._t
                if self._server.their_state is h11.SWITCHED_PROTOCOL:
                    yield self._exchanged()
                    yield from self._stop("another protocol was switched to")
                    return b""
            elif isinstance(event, h11.Data):
                answering.received += len(event.data)
            elif isinstance(event, h11.EndOfMessage):
                rest = bytes(self._server.trailing_data[0])
                self._server = None
                yield self._exchanged()
                return rest

    def _exchanged(self) -> Exchanged:
        self.exchanges += 1
        if self.exchanges == _EXCHANGES_AT_MOST and self.stopped is None:
            self.stopped = f"{_EXCHANGES_AT_MOST} exchanges were told"
        return self._waiting.popleft().over(self._t)


def _expecting(asked: h11.Request) -> h11.Connection:
    """A connection that reads the answer to this request."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_AT_MOST)
    connection.send(h11.Request(method=asked.method, target=b"/", headers=_FIELDS))
    connection.send(h11.EndOfMessage())
    return connection


def _go_on(old: h11.Connection, new: h11.Connection) -> h11.Connection:
    """The new connection with what the old one has not read."""
    rest, ended = old.trailing_data
    if rest:
        new.receive_data(bytes(rest))
    if ended:
        new.receive_data(b"")
    return new
