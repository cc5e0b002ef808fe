"""What a client says before TLS: the CONNECT request of an explicit proxy (RFC 9110 9.3.6), parsed by h11."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import h11

from countersign.errors import UserError
from countersign.proxy.settings import Address, parse_address
from countersign.recorder.recording import Ending
from countersign.recorder.wire.records import looks_like_tls

if TYPE_CHECKING:
    from countersign.proxy.stream import Stream

_HEAD_AT_MOST = 64 * 1024
_CREDENTIALS = frozenset({b"proxy-authorization", b"authorization", b"cookie"})


class PreludeFailed(Exception):  # noqa: N818 - an outcome of the session
    """The client did not ask as it should; it has been answered. ``text`` ends a sentence that starts with it."""

    def __init__(self, code: str, text: str, record: dict[str, Any]) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.record = record


@dataclass(frozen=True, slots=True)
class Connect:
    """A CONNECT request that was understood. It has not been answered yet."""

    target: Address
    record: dict[str, Any]


async def read_connect(stream: Stream) -> Connect | None:
    """The client's CONNECT request; none when it closed without a word. Bytes after it stay in the stream.

    A request that is none is answered with its status code. Raises :class:`PreludeFailed`.
    """
    parser = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD_AT_MOST)
    first, size = b"", 0
    while True:
        try:
            event = parser.next_event()
        except h11.RemoteProtocolError as error:
            status = error.error_status_hint or 400
            answer(stream, status, "this is not a proxy request")
            text = "sent no proxy request that can be understood"  # h11 quotes the line, credentials and all
            if looks_like_tls(first):
                text = "began with TLS where a CONNECT request belongs: it takes this proxy for the target itself"
            raise PreludeFailed("bad-request", text, {"answer": status}) from None
        if isinstance(event, h11.Request):
            break
        data = await stream.read()
        if not data:
            if size:
                how = "reset the connection" if stream.ending is Ending.RESET else "closed"
                raise PreludeFailed("bad-request", f"{how} in the middle of its proxy request", {})
            return None
        first = first or data[:16]
        size += len(data)
        parser.receive_data(data)
    if size - len(parser.trailing_data[0]) > _HEAD_AT_MOST:  # h11 minds only a request that is not whole
        answer(stream, 431, "the request is too long")
        text = f"sent no proxy request that can be understood: its head is longer than {_HEAD_AT_MOST} bytes"
        raise PreludeFailed("bad-request", text, {"answer": 431})
    record: dict[str, Any] = {"request": _request_record(event)}
    if event.method != b"CONNECT":
        answer(stream, 501, "this proxy takes CONNECT requests only", allow=True)
        record["answer"] = 501
        method = event.method.decode("ascii", "replace")
        raise PreludeFailed("not-connect", f"sent a {method} request where a CONNECT request belongs", record)
    try:
        target = parse_address(event.target.decode("ascii"), what="CONNECT")
    except (UserError, UnicodeDecodeError):
        answer(stream, 400, "CONNECT takes HOST:PORT")
        record["answer"] = 400
        raise PreludeFailed("bad-request", "sent a CONNECT request whose target is not HOST:PORT", record) from None
    stream.unread(parser.trailing_data[0])
    return Connect(target, record)


def _request_record(request: h11.Request) -> dict[str, Any]:
    return {
        "method": request.method.decode("ascii", "replace"),
        "target": request.target.decode("ascii", "backslashreplace"),
        "version": request.http_version.decode("ascii", "replace"),
        "headers": [
            [
                name.decode("ascii", "replace"),
                "(redacted)" if name.lower() in _CREDENTIALS else value.decode("latin-1"),
            ]
            for name, value in request.headers
        ],
    }


_PHRASES = {
    200: "Connection established",
    400: "Bad Request",
    403: "Forbidden",
    405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
    501: "Not Implemented",
    502: "Bad Gateway",
    504: "Gateway Timeout",
}


def answer(stream: Stream, status: int, text: str = "", *, allow: bool = False) -> None:
    """Answer a CONNECT request; a refusal carries its reason as text."""
    phrase = _PHRASES.get(status, "Error")
    if status == 200:
        stream.write(f"HTTP/1.1 200 {phrase}\r\n\r\n".encode("ascii"))
        return
    body = f"countersign: {text}\n".encode("ascii", "backslashreplace")
    head = f"HTTP/1.1 {status} {phrase}\r\nContent-Type: text/plain; charset=us-ascii\r\n"
    head += f"Content-Length: {len(body)}\r\nConnection: close\r\n" + ("Allow: CONNECT\r\n" if allow else "") + "\r\n"
    stream.write(head.encode("ascii") + body)
