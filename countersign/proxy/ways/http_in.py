"""A client of an explicit HTTP proxy: CONNECT for tunnels, and plain ``http://`` requests that are forwarded.

Plain requests are what OCSP and CRL are fetched with: a client whose only way out is this proxy could not check a
certificate otherwise. They are forwarded message by message between two h11 connections, never as bytes:

    client bytes -> h11 server -> [checked, stripped, addressed anew] -> h11 client -> target bytes

so that what the target reads is only what was understood and recorded here. That is what keeps requests from being
smuggled (RFC 9112 11.2): the framing that the target sees is always written by us, and of what can be read in two ways
nothing passes: Content-Length beside Transfer-Encoding, Transfer-Encoding in HTTP/1.0, a body on CONNECT. h11 refuses
the rest (two lengths, odd numbers, unknown codings, broken chunks, blanks before a colon) and unfolds what is folded.
On top of it each request gets a connection to its target of its own, which is closed behind the answer: nothing that a
target may take for a second request can reach another client's.

What a proxy owes beyond that (RFC 9110 7.6): hop-by-hop fields and those that Connection names end here, Via is added
both ways, ``Host`` is written from the request's target (RFC 9112 3.2.2). Upgrade is hop-by-hop, so no protocol is ever
switched. Credentials for this proxy end here too. Interim answers pass (100-continue among them), but not to HTTP/1.0;
trailers pass where both sides are chunked.

Whoever moves the bytes feeds :meth:`HttpIn.from_client` and :meth:`HttpIn.from_target` (empty bytes: they ended), reads
from the client only while :attr:`HttpIn.wants_client`, and does what the events say. At most a chunk of 16 KiB beyond a
head of 64 KiB is held each way, plus what the client has pipelined in one reading.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final

import h11

from countersign.errors import UserError
from countersign.proxy.settings import Address, parse_address
from countersign.proxy.ways.events import Exchanged, Ready, Refused, Send, Wanted
from countersign.proxy.ways.http_summary import exchange_record
from countersign.recorder.recording import FailureCode, Party
from countersign.recorder.wire.records import looks_like_tls
from countersign.recorder.wire.redaction import REDACTED, request_record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from h11._headers import Headers

    from countersign.proxy.ways.credentials import Credentials

HEAD_AT_MOST: Final = 64 * 1024
_SLICE: Final = 16 * 1024  # h11 minds its limit only between two slices
_CHALLENGES_AT_MOST: Final = 10
_REALM: Final = b'Basic realm="countersign", charset="UTF-8"'
_VIA: Final = b" countersign"

_HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""RFC 9110 7.6.1, and 11.7 for the two about this proxy's own credentials."""

_NOT_BY_NAME: Final = frozenset({b"content-length", b"host", b"via"})
"""What a Connection field cannot take away, for the next reader would misread the message without it."""

_NO_TRAILER: Final = _HOP_BY_HOP | {
    b"authorization",
    b"cache-control",
    b"content-encoding",
    b"content-length",
    b"content-range",
    b"content-type",
    b"cookie",
    b"expect",
    b"host",
    b"max-forwards",
    b"set-cookie",
    b"via",
}
"""RFC 9110 6.5.1: framing, routing, authentication and the like are no trailers."""

_ESTABLISHED: Final = b"HTTP/1.1 200 Connection established\r\n\r\n"

_PHRASES: Final = {
    400: b"Bad Request",
    403: b"Forbidden",
    407: b"Proxy Authentication Required",
    431: b"Request Header Fields Too Large",
    501: b"Not Implemented",
    502: b"Bad Gateway",
    504: b"Gateway Timeout",
    505: b"HTTP Version Not Supported",
}


@dataclass(frozen=True, slots=True)
class Fetch:
    """A plain request wants a connection of its own to its target; tell how that went."""

    target: Address


@dataclass(frozen=True, slots=True)
class ToTarget:
    """Bytes for the target that was fetched."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Dropped:
    """The exchange is over, and with it the connection to its target, if there is one: close it."""


@dataclass(frozen=True, slots=True)
class Finished:
    """No more requests come on this connection: close it in good order. ``requests``: how many were understood."""

    requests: int


Shows = Callable[[str, str], bytes | None]
"""What a proxy is to be shown (Proxy-Authorization) for a request of this method and target."""

Event = Send | Wanted | Fetch | ToTarget | Dropped | Exchanged | Ready | Finished | Refused


class _State(Enum):
    REQUEST = auto()  # waiting for a request
    DIALLING = auto()  # a request waits for its connection
    FORWARDING = auto()
    OVER = auto()


class HttpIn:
    """One client's connection. With ``credentials`` every request must show some of them (RFC 7617)."""

    def __init__(self, credentials: Credentials | None = None) -> None:
        self._credentials = credentials
        self._client = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_AT_MOST)
        self._target = h11.Connection(h11.CLIENT)
        self._state = _State.REQUEST
        self._request: h11.Request | None = None  # as the client sent it
        self._outgoing: h11.Request | None = None  # as it goes on; none for a tunnel
        self._through = False  # it goes to a proxy
        self._status: int | None = None  # of the answer to it
        self._length_known = False  # the answer's length, which leaves no place for trailers
        self._waiting = b""  # from the client, not yet given to h11
        self._waiting_end = False
        self._head = 0  # bytes of the request's head so far
        self._first = b""
        self._challenges = 0
        self.turned_away: str | None = None
        """What there is to say of a client that asks no more, where the last that it heard was that it may not."""
        self._requests = 0
        self.record: dict[str, Any] = {}
        """What a recording's ``prelude`` keeps: the last request, and the answer that it got from this proxy."""

    @property
    def wants_client(self) -> bool:
        """Whether more of the client's bytes can be taken now."""
        if self._state is _State.FORWARDING:
            return self._client.their_state is h11.SEND_BODY
        return self._state is _State.REQUEST

    @property
    def midway(self) -> bool:
        """Whether the client has begun a request and not ended its head."""
        return self._state is _State.REQUEST and (self._head > 0 or bool(self._waiting))

    # -- what happens outside

    def from_client(self, data: bytes) -> list[Event]:
        """What the client sent; empty when its bytes have ended."""
        if self._requests == 0:
            self._first = (self._first + data[:16])[:16]
        self._waiting += data
        self._waiting_end = self._waiting_end or not data
        return list(self._pump())

    def from_target(self, data: bytes) -> list[Event]:
        """What the target of a plain request sent; empty when its bytes have ended."""
        return list(self._answer_on(data))

    def connected(self, through: Shows | None = None) -> list[Event]:
        """The connection that :class:`Wanted` or :class:`Fetch` asked for stands.

        ``through``: it leads to a proxy that forwards in its turn, and this is what that one is shown.
        """
        assert self._state is _State.DIALLING
        if self._outgoing is None:
            return self._tunnel()
        self._through = through is not None
        if through is not None:
            self._outgoing = _for_a_proxy(self._outgoing, through)
        self._target = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_AT_MOST)
        self._state = _State.FORWARDING
        return [*self._to_target(self._outgoing), *self._pump()]

    def failed(self, status: int, text: str) -> list[Event]:
        """It does not, for the reason in ``text``; the client gets ``status``, and that is the end of a tunnel."""
        assert self._state is _State.DIALLING
        if self._outgoing is None:
            self._state = _State.OVER
            return self._answer(status, text, close=True)
        return [*self._answer(status, text), *self._exchange_over(status)]

    # -- the client's bytes

    def _pump(self) -> Iterator[Event]:
        """Take what waits from the client as far as the state of things allows."""
        while self.wants_client:
            try:
                event = self._client.next_event()
            except h11.RemoteProtocolError as error:
                yield from self._misread(error)
                return
            if event is h11.NEED_DATA:
                if not self._feed():
                    return
            elif isinstance(event, h11.Request):
                yield from self._asked(event)
            elif isinstance(event, h11.Data):
                yield from self._to_target(h11.Data(data=bytes(event.data)))
            elif isinstance(event, h11.EndOfMessage):
                yield from self._request_ends(event)
            else:  # it has closed between two requests
                yield from self._finish()

    def _feed(self) -> bool:
        """Give h11 the next slice; False when there is none."""
        if self._requests == 0 and not self._head and not self._waiting_end and looks_like_tls(self._first) is None:
            return False  # h11 refuses the first byte of TLS; a few more tell what it is
        piece, self._waiting = self._waiting[:_SLICE], self._waiting[_SLICE:]
        if not piece and (not self._waiting_end or self._client.trailing_data[1]):
            return False
        if self._state is _State.REQUEST:
            self._head += len(piece)
        self._client.receive_data(piece)
        return True

    def _misread(self, error: h11.RemoteProtocolError) -> Iterator[Event]:
        """The client's bytes are no request, or no body as it was announced."""
        if looks_like_tls(self._first):
            text = "began with TLS where a CONNECT request belongs: it takes this proxy for the target itself"
        elif self._client.trailing_data[1]:
            text = "closed in the middle of its proxy request"
        elif error.error_status_hint == 431:
            text = f"sent no proxy request that can be understood: its head is longer than {HEAD_AT_MOST} bytes"
        else:
            text = "sent no proxy request that can be understood"  # h11 quotes the line, credentials and all
        yield from self._bad(error.error_status_hint or 400, "this is not a proxy request", text)

    def _asked(self, request: h11.Request) -> Iterator[Event]:
        head, self._head = self._head - len(self._client.trailing_data[0]), 0
        self._requests += 1
        self._request, self._outgoing, self._status = request, None, None
        self.record = {"request": _record(request)}
        self.turned_away = None
        wrong = _two_meanings(request)
        if head > HEAD_AT_MOST:  # h11 minds only a request that is not whole
            text = f"sent no proxy request that can be understood: its head is longer than {HEAD_AT_MOST} bytes"
            yield from self._bad(431, "the request is too long", text)
        elif request.http_version[:2] != b"1.":
            text = f"sent a request of HTTP/{request.http_version.decode('ascii')}, and HTTP/1 is spoken here"
            yield from self._bad(505, "this proxy speaks HTTP/1", text)
        elif wrong is not None:
            yield from self._bad(400, wrong, f"sent a request that could be read in two ways: {wrong}")
        elif self._credentials is not None and not _shows(request, self._credentials):
            yield from self._challenge()
        elif request.method == b"CONNECT":
            yield from self._asked_for_tunnel(request)
        else:
            yield from self._asked_for_page(request)

    def _asked_for_tunnel(self, request: h11.Request) -> Iterator[Event]:
        try:
            target = parse_address(request.target.decode("ascii"), what="CONNECT")
        except (UserError, UnicodeDecodeError):
            text = "sent a CONNECT request whose target is not HOST:PORT"
            yield from self._bad(400, "CONNECT takes HOST:PORT", text)
            return
        self._whole()
        self._state = _State.DIALLING
        yield Wanted(target)

    def _asked_for_page(self, request: h11.Request) -> Iterator[Event]:
        found = _absolute(request)
        if isinstance(found, str):
            method = self.record["request"]["method"]
            what = "an unknown" if method == REDACTED else f"a {method}"
            text = f"sent {what} request where a CONNECT request or an http:// URL belongs: {found}"
            yield from self._bad(400, found, text, FailureCode.UNSUPPORTED_REQUEST)
            return
        target, path = found
        self._outgoing = _outgoing(request, target, path)
        self._state = _State.DIALLING
        yield Fetch(target)

    def _challenge(self) -> Iterator[Event]:
        """RFC 9110 11.7: the client may ask again, on the same connection where its request is over."""
        self._challenges += 1
        assert self._request is not None
        showed = any(name == b"proxy-authorization" for name, _ in self._request.headers)
        self.turned_away = "showed a user name and password that this proxy does not know (407), and left"
        if not showed:
            self.turned_away = "was asked for a user name and password (407), and left without showing any"
        answer = "this proxy wants a user name and password"
        if self._challenges == _CHALLENGES_AT_MOST:
            text = f"showed no user name and password that this proxy knows in {self._challenges} requests"
            yield from self._bad(407, answer, text, FailureCode.NOT_AUTHENTICATED)
            return
        yield from self._answer(407, answer)
        yield from self._next_request()

    def _tunnel(self) -> list[Event]:
        self.record["answer"] = 200
        self._state = _State.OVER
        return [Send(_ESTABLISHED), Ready(bytes(self._client.trailing_data[0]) + self._waiting)]

    def _request_ends(self, end: h11.EndOfMessage) -> Iterator[Event]:
        assert self._outgoing is not None
        chunked = any(name == b"transfer-encoding" for name, _ in self._outgoing.headers)
        yield from self._to_target(h11.EndOfMessage(headers=_trailers(end.headers) if chunked else []))

    def _to_target(self, event: h11.Request | h11.Data | h11.EndOfMessage) -> list[Event]:
        sent = self._target.send(event)
        return [ToTarget(sent)] if sent else []

    # -- the target's bytes

    def _answer_on(self, data: bytes) -> Iterator[Event]:
        for at in range(0, max(1, len(data)), _SLICE):
            if self._state is not _State.FORWARDING:
                return
            self._target.receive_data(data[at : at + _SLICE])
            while self._state is _State.FORWARDING:
                try:
                    event = self._target.next_event()
                except h11.RemoteProtocolError as error:
                    yield from self._misread_answer(error, ended=not data)
                    break
                if event is h11.NEED_DATA or event is h11.PAUSED:
                    break
                yield from self._answer_event(event)

    def _answer_event(self, event: object) -> Iterator[Event]:
        assert self._request is not None
        old = self._request.http_version == b"1.0"
        if isinstance(event, h11.InformationalResponse):
            if event.status_code == 101:
                yield from self._bad_answer("switched protocols, which nobody had asked for")
            elif not old:  # RFC 9110 15.2
                headers = _forwarded(event.headers, event.http_version)
                yield from self._to_client(
                    h11.InformationalResponse(status_code=event.status_code, headers=headers, reason=event.reason)
                )
        elif isinstance(event, h11.Response) and event.status_code == 407 and self._through:
            yield from self._answer(502, "the upstream proxy wants a user name and password that it was not shown")
            yield from self._exchange_over(502)
        elif isinstance(event, h11.Response):
            yield from self._to_client(self._response(event))
        elif isinstance(event, h11.Data):
            yield from self._to_client(h11.Data(data=bytes(event.data)))
        elif isinstance(event, h11.EndOfMessage):
            headers = [] if old or self._length_known else _trailers(event.headers)
            yield from self._to_client(h11.EndOfMessage(headers=headers))
            yield from self._exchange_over(self._status)

    def _response(self, response: h11.Response) -> h11.Response:
        assert self._request is not None
        self._status = response.status_code
        headers = _forwarded(response.headers, response.http_version)
        if any(name == b"transfer-encoding" for name, _ in response.headers):  # RFC 9112 6.3: it overrides the length
            headers = [(name, value) for name, value in headers if name.lower() != b"content-length"]
        if not self._whole():  # the rest of the request will not be read
            headers.append((b"Connection", b"close"))
        empty = self._request.method == b"HEAD" or response.status_code in {204, 304}
        self._length_known = empty or any(name.lower() == b"content-length" for name, _ in headers)
        return h11.Response(status_code=response.status_code, headers=headers, reason=response.reason)

    def _misread_answer(self, error: h11.RemoteProtocolError, *, ended: bool) -> Iterator[Event]:
        if self._status is not None:
            how = "closed" if ended else "broke its own framing"
            self._state = _State.OVER
            yield from self._close_exchange(self._status)
            yield Refused(
                Party.TARGET, FailureCode.BROKEN_ANSWER, f"{how} in the middle of its answer to a plain HTTP request"
            )
        elif ended:
            yield from self._bad_answer("closed without an answer")
        elif error.error_status_hint == 431:
            yield from self._bad_answer(f"sent a head of more than {HEAD_AT_MOST} bytes")
        else:
            yield from self._bad_answer("sent something that is not HTTP")

    def _bad_answer(self, what: str) -> Iterator[Event]:
        yield from self._answer(502, f"the target {what}")
        yield from self._exchange_over(502)

    # -- how requests end

    def _whole(self) -> bool:
        """Whether the request has ended; one without a body has, as soon as it is looked at."""
        assert self._request is not None
        if self._client.their_state is h11.SEND_BODY and not _has_body(self._request):
            self._client.next_event()
        return self._client.their_state is not h11.SEND_BODY

    def _exchange_over(self, status: int | None) -> Iterator[Event]:
        yield from self._close_exchange(status)
        yield from self._next_request()

    def _close_exchange(self, status: int | None) -> Iterator[Event]:
        assert self._request is not None
        yield Exchanged(exchange_record(self._request.method, self._request.target, status))
        yield Dropped()

    def _next_request(self) -> Iterator[Event]:
        """Behind an answer: the next request on this connection, where both sides let it live."""
        if self._client.our_state is h11.DONE and self._client.their_state is h11.DONE:
            self._client.start_next_cycle()
            self._request = None
            self._head = len(self._client.trailing_data[0])
            self._state = _State.REQUEST
            yield from self._pump()
        else:
            yield from self._finish()

    def _finish(self) -> Iterator[Event]:
        self._state = _State.OVER
        if self.turned_away is not None:
            yield Refused(Party.CLIENT, FailureCode.NOT_AUTHENTICATED, self.turned_away)
        else:
            yield Finished(self._requests)

    def _bad(self, status: int, answer: str, text: str, code: FailureCode = FailureCode.BAD_REQUEST) -> Iterator[Event]:
        """The client is at fault, and its connection is over."""
        if self._client.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            yield from self._answer(status, answer, close=True)
        if self._state is _State.FORWARDING:
            yield from self._close_exchange(self._status)
        self._state = _State.OVER
        yield Refused(Party.CLIENT, code, text)

    # -- what the client is told

    def _answer(self, status: int, text: str, *, close: bool = False) -> list[Event]:
        """An answer of our own; it ends the connection where the rest of the request would have to be read first."""
        self.record["answer"] = status
        body = f"countersign: {text}\n".encode("ascii", "backslashreplace")
        headers = [(b"Content-Type", b"text/plain; charset=us-ascii"), (b"Content-Length", b"%d" % len(body))]
        if status == 407:
            headers.append((b"Proxy-Authenticate", _REALM))
        if close or not self._whole():
            headers.append((b"Connection", b"close"))
        head = h11.Response(status_code=status, headers=headers, reason=_PHRASES.get(status, b"Error"))
        said = self._to_client(head)
        if self._request is None or self._request.method != b"HEAD":
            said += self._to_client(h11.Data(data=body))
        return [*said, *self._to_client(h11.EndOfMessage())]

    def _to_client(self, event: h11.InformationalResponse | h11.Response | h11.Data | h11.EndOfMessage) -> list[Event]:
        sent = self._client.send(event)
        return [Send(sent)] if sent else []


# -- requests and their fields -------------------------------------------------------------------------------------


def _record(request: h11.Request) -> dict[str, Any]:
    return request_record(request.method, request.target, request.http_version, request.headers)


def _has_body(request: h11.Request) -> bool:
    """As its fields announce it (RFC 9112 6.3)."""
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and int(value) > 0)
        for name, value in request.headers
    )


def _two_meanings(request: h11.Request) -> str | None:
    """What of a request's framing the next reader might take in another way than we do."""
    names = {name for name, _ in request.headers}
    if b"transfer-encoding" in names and b"content-length" in names:  # RFC 9112 6.1: an attempt to smuggle
        return "it has both Content-Length and Transfer-Encoding"
    if b"transfer-encoding" in names and request.http_version == b"1.0":  # RFC 9112 6.1: faulty framing
        return "it has Transfer-Encoding in HTTP/1.0"
    if request.method == b"CONNECT" and _has_body(request):  # RFC 9110 9.3.6: no such thing
        return "it is CONNECT and has a body"
    return None


def _shows(request: h11.Request, credentials: Credentials) -> bool:
    shown = [value for name, value in request.headers if name == b"proxy-authorization"]
    return len(shown) == 1 and credentials.fit_basic(shown[0])


_URL = re.compile(rb"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^#]*)(#.*)?")


def _absolute(request: h11.Request) -> tuple[Address, bytes] | str:
    """Where an absolute-form request goes, and its target in origin form (RFC 9112 3.2); or what is wrong with it."""
    found = _URL.fullmatch(request.target)
    if found is None:
        return "this is a proxy, which takes CONNECT HOST:PORT and http:// URLs"
    if found[1].lower() != b"http":
        return "https:// URLs go through CONNECT" if found[1].lower() == b"https" else "only http:// URLs are fetched"
    if b"@" in found[2]:  # RFC 9110 4.2.4: an error
        return "a URL must not hold a user name and password"
    if found[4] is not None:
        return "a URL of a request has no fragment"
    place = found[2].decode("ascii", "replace").removesuffix(":")
    try:
        target = parse_address(place if re.search(r":\d+$", place) else f"{place}:80", what="the URL")
    except UserError:
        return "the URL names no host and port"
    if not found[3]:  # RFC 9112 3.2.4
        return target, b"*" if request.method == b"OPTIONS" else b"/"
    return target, found[3] if found[3].startswith(b"/") else b"/" + found[3]


def _outgoing(request: h11.Request, target: Address, path: bytes) -> h11.Request:
    """The request as it goes on to the target."""
    host = f"[{target.host}]" if ":" in target.host else target.host
    place = host if target.port == 80 else f"{host}:{target.port}"
    old = request.http_version == b"1.0"
    dropped = {b"host", b"expect"} if old else {b"host"}  # RFC 9110 10.1.1: 1.0 expects nothing
    headers = [(b"Host", place.encode("ascii"))]
    headers += [
        (name, value)
        for name, value in _forwarded(request.headers, request.http_version)
        if name.lower() not in dropped
    ]
    if any(name == b"transfer-encoding" for name, _ in request.headers):
        headers.append((b"Transfer-Encoding", b"chunked"))
    headers.append((b"Connection", b"close"))
    return h11.Request(method=request.method, target=path, headers=headers)


def _for_a_proxy(request: h11.Request, shows: Shows) -> h11.Request:
    """The request in absolute-form (RFC 9112 3.2.2), ``OPTIONS *`` without a path (3.2.4)."""
    host = next(value for name, value in request.headers if name == b"host")
    target = b"http://" + host + (b"" if request.target == b"*" else request.target)
    answer = shows(request.method.decode("ascii"), target.decode("ascii"))
    headers = list(request.headers.raw_items())
    if answer is not None:
        headers.append((b"Proxy-Authorization", answer))
    return h11.Request(method=request.method, target=target, headers=headers)


def _forwarded(headers: Headers, version: bytes) -> list[tuple[bytes, bytes]]:
    """The fields that go on (RFC 9110 7.6.1), with Via (7.6.3), in their order and with the case of their names."""
    named = {
        option.strip().lower() for name, value in headers if name == b"connection" for option in value.split(b",")
    } - _NOT_BY_NAME
    kept = [(name, value) for name, value in headers.raw_items() if name.lower() not in _HOP_BY_HOP | named]
    return [*kept, (b"Via", version + _VIA)]


def _trailers(headers: Headers) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in headers.raw_items() if name.lower() not in _NO_TRAILER]
