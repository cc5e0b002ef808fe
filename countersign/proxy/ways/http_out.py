"""Out through an upstream HTTP proxy: CONNECT (RFC 9110 9.3.6), with authentication when it asks for it.

One :class:`ConnectThrough` is one tunnel. It says what to send; 200 is :class:`~.events.Ready`; a 407 is answered
(:mod:`.digest`) on the same connection where the proxy keeps it open, else after :class:`~.events.Redial`. Anything
else is the proxy's refusal, told with its status and reason.

Bounds: a head of 64 KiB, a body of a 407 of 64 KiB (more: redial instead of reading on), ten interim answers, and four
requests in all: one without an answer, one with, one more for a nonce that had become stale, and one for a proxy that
closes behind its 407 without having said so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import h11

from countersign.proxy.ways.events import Ready, Redial, Refused, Send
from countersign.recorder.recording import FailureCode, Party
from countersign.recorder.wire.records import looks_like_tls, shown
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from countersign.proxy.settings import Address
    from countersign.proxy.ways.digest import Authenticator

Event = Send | Redial | Ready | Refused

_HEAD_AT_MOST: Final = 64 * 1024
_BODY_AT_MOST: Final = 64 * 1024
_INTERIM_AT_MOST: Final = 10
_REQUESTS_AT_MOST: Final = 4
_SLICE: Final = 16 * 1024  # h11 minds its limit only between two slices


class ConnectThrough:
    """A tunnel to ``target``. Send what :meth:`begin` gives, then feed :meth:`receive`; begin again after a redial."""

    def __init__(self, target: Address, authenticator: Authenticator | None = None) -> None:
        self._place = str(target).encode("ascii" if target.host.isascii() else "idna")
        self._authenticator = authenticator
        self._requests = 0
        self._over = False
        self._connection = h11.Connection(h11.CLIENT)
        self._fresh = True  # whether no request went over this connection before
        self._answered = False  # whether the request out there carries Proxy-Authorization
        self._challenged = False
        self._interim = 0
        self._again = False  # a 407 that can be answered is being read to its end
        self._body = 0
        self._first = b""  # of what came since the last request
        self.record: dict[str, Any] = {"target": str(target)}
        """What a recording's ``prelude`` keeps as ``upstream``: the status, and how we authenticated."""

    def begin(self) -> bytes:
        """The request, for a new connection."""
        self._connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_AT_MOST)
        self._fresh = True
        self._over = False
        return self._request()

    def receive(self, data: bytes) -> list[Event]:
        """What the proxy sent; empty for the end of its bytes."""
        events: list[Event] = []
        for at in range(0, max(1, len(data)), _SLICE):
            if self._over:
                break
            piece = data[at : at + _SLICE]
            self._first = (self._first + piece)[:16]
            self._connection.receive_data(piece)
            try:
                events += self._read()
            except h11.RemoteProtocolError as error:
                events += self._broken(error, ended=not data)
            if events and isinstance(events[-1], Ready):  # what lies behind the answer belongs to the tunnel
                events[-1] = Ready(events[-1].rest + data[at + _SLICE :])
        return events

    def _request(self) -> bytes:
        self._requests += 1
        self._interim = self._body = 0
        self._again = False
        self._first = b""
        headers = [(b"Host", self._place)]
        answer = self._authenticator.answer("CONNECT", self._place.decode("ascii")) if self._authenticator else None
        self._answered = answer is not None
        if answer is not None and self._authenticator is not None:
            headers.append((b"Proxy-Authorization", answer))
            self.record["authentication"] = self._authenticator.scheme
        request = h11.Request(method=b"CONNECT", target=self._place, headers=headers)
        sent = self._connection.send(request) + self._connection.send(h11.EndOfMessage())
        assert isinstance(sent, bytes)
        return sent

    def _read(self) -> Iterator[Event]:
        while not self._over:
            event = self._connection.next_event()
            if event is h11.NEED_DATA or event is h11.PAUSED:
                return
            if isinstance(event, h11.InformationalResponse):
                self._interim += 1
                if self._interim > _INTERIM_AT_MOST:
                    text = f"answers with {event.status_code} again and again, which is no final status"
                    yield from self._refused(FailureCode.UPSTREAM_BROKEN, text)
            elif isinstance(event, h11.Response):
                self.record["answer"] = event.status_code
                yield from self._answer(event)
            elif isinstance(event, h11.Data):
                self._body += len(event.data)
                if self._body > _BODY_AT_MOST:
                    yield from self._next(open_still=False)
            else:  # the end of a 407's body, or of the connection behind it
                yield from self._next(open_still=not self._connection.trailing_data[1])

    def _answer(self, response: h11.Response) -> list[Event]:
        status = response.status_code
        if 200 <= status < 300:
            for name, value in response.headers:
                if name == b"proxy-authentication-info" and self._authenticator is not None:
                    self._authenticator.informed(value.decode("utf-8", "surrogateescape"))
            self._over = True
            return [Ready(bytes(self._connection.trailing_data[0]))]
        if status != 407:
            reason = printable(bytes(response.reason).decode("latin-1"), limit=100)
            text = f"answers the CONNECT request with {status}{f' {reason}' if reason else ''}"
            return self._refused(FailureCode.UPSTREAM_REFUSED, text)
        if self._authenticator is None:
            return self._unauthenticated("asks for a user name and password (407) and was given none")
        fields = [value for name, value in response.headers if name == b"proxy-authenticate"]
        values = [value.decode("utf-8", "surrogateescape") for value in fields]
        trouble = self._authenticator.challenged(values, answered=self._answered and self._challenged)
        self._challenged = True
        if trouble is not None:
            return self._unauthenticated(trouble)
        if self._requests == _REQUESTS_AT_MOST:
            return self._unauthenticated(f"has challenged {self._requests} requests and takes no answer")
        self._again = True
        return []

    def _next(self, *, open_still: bool) -> list[Event]:
        """The 407 is over: ask again, here if the proxy lets us."""
        if open_still and self._connection.their_state is h11.DONE:
            self._connection.start_next_cycle()
            self._fresh = False
            return [Send(self._request())]
        self._over = True  # until begin
        return [Redial()]

    def _broken(self, error: h11.RemoteProtocolError, *, ended: bool) -> list[Event]:
        if self._again:  # a 407 whose body breaks off has still said what it wants
            return self._next(open_still=False)
        if ended and not self._fresh and not self._first and self._requests < _REQUESTS_AT_MOST:
            return self._next(open_still=False)
        if ended:
            code, text = FailureCode.UPSTREAM_BROKEN, "closed the connection before it had answered the CONNECT request"
        elif looks_like_tls(self._first):
            code, text = FailureCode.UPSTREAM_BROKEN, "answers in TLS: it is an https:// proxy"
        elif error.error_status_hint == 431:
            code, text = FailureCode.UPSTREAM_BROKEN, f"answers with a head of more than {_HEAD_AT_MOST} bytes"
        else:
            code, text = FailureCode.UPSTREAM_BROKEN, f"answers with something that is not HTTP: {shown(self._first)}"
        return self._refused(code, text)

    def _unauthenticated(self, text: str) -> list[Event]:
        return self._refused(FailureCode.UPSTREAM_NOT_AUTHENTICATED, text)

    def _refused(self, code: FailureCode, text: str) -> list[Event]:
        self._over = True
        return [Refused(Party.UPSTREAM_PROXY, code, text)]
