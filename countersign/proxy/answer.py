"""What an explicit proxy answers on purpose, where it would open the tunnel or say why not.

A client that asks a proxy for a tunnel has its own ideas of what may come back. CONNECT is the request of which most
goes wrong in the field: an answer of 200 has no body, whatever its fields say (RFC 9110 9.3.6), and a client that reads
one takes the first bytes of TLS for it, or the other way round; HTTP/1.0 is as good as 1.1; a 407 that comes again to
everything is a loop, unless the client counts.

An answer *tunnels* where its status is of the 200s, or a SOCKS reply of 0: then the target is dialled and the session
goes on behind it, as odd as it may be. Else the target is never dialled. For SOCKS the same is said in its own words:
``socks_reply`` (RFC 1928 6) stands for the status, and what is of HTTP alone is left out.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from http import HTTPStatus
from random import Random
from typing import TYPE_CHECKING, Literal

from countersign.errors import UserError
from countersign.proxy.faults.effects import Finish, Pieces, Send, Wait
from countersign.proxy.ways.socks import REPLIES

if TYPE_CHECKING:
    from countersign.proxy.faults.effects import Effect
    from countersign.proxy.stream import Stream

Scheme = Literal["Basic", "Digest", "NTLM", "Negotiate"]
SCHEMES: tuple[Scheme, ...] = ("Basic", "Digest", "NTLM", "Negotiate")

_REQUEST_AT_MOST = 64 * 1024
_LOOK_AGAIN = 0.005  # seconds; a stream tells nobody but its sink when there is room


class AnswerError(UserError):
    """An answer that cannot be as it is written; ``key`` is the key at fault."""

    def __init__(self, key: str, text: str) -> None:
        super().__init__(text)
        self.key = key


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyAnswer:
    """What CONNECT gets, or a SOCKS request.

    ``status`` with its ``headers`` (whole lines) and ``body`` (with its length, or ``chunked``) in HTTP/``version``;
    407 offers the ``schemes`` and is said to each request again, for good. ``socks_reply`` is the code for SOCKS.
    ``hang``: no answer at all. ``garbage``: so many bytes that are none. All of it begins after ``delay`` seconds,
    comes a byte every ``every`` seconds, and is cut off with a FIN after ``cut_after`` bytes.
    """

    status: int = 403
    version: Literal["1.1", "1.0"] = "1.1"
    headers: tuple[str, ...] = ()
    body: str | None = None
    chunked: bool = False
    schemes: tuple[Scheme, ...] = ("Basic",)
    socks_reply: int | None = None
    hang: bool = False
    garbage: int | None = None
    delay: float = 0.0
    every: float = 0.0
    cut_after: int | None = None

    def __post_init__(self) -> None:
        if not 200 <= self.status <= 599:
            raise AnswerError("status", f"a proxy answers with a status from 200 to 599, got {self.status!r}")
        if self.version not in {"1.1", "1.0"}:
            raise AnswerError("version", f"a proxy answers in HTTP 1.1 or 1.0, got {self.version!r}")
        for line in self.headers:
            if ":" not in line or not line.isprintable() or not line.isascii():
                raise AnswerError("headers", f"a header line is 'Name: value' in ASCII, got {line!r}")
        if not self.schemes or any(scheme not in SCHEMES for scheme in self.schemes):
            raise AnswerError("schemes", f"a proxy offers some of {', '.join(SCHEMES)}, got {self.schemes!r}")
        if self.socks_reply is not None and not 0 <= self.socks_reply <= 255:
            raise AnswerError("socks_reply", f"a SOCKS reply is a number from 0 to 255, got {self.socks_reply!r}")
        if self.chunked and self.body is None:
            raise AnswerError("chunked", "an answer that is chunked needs a body; give one, or an empty one")
        for key in ("delay", "every"):
            if not 0 <= getattr(self, key) <= 86400:
                raise AnswerError(key, f"{key} is in seconds, from 0 to 86400; got {getattr(self, key)!r}")
        for key, least in (("garbage", 1), ("cut_after", 0)):
            value = getattr(self, key)
            if value is not None and value < least:
                raise AnswerError(key, f"{key} is a number of bytes, at least {least}; got {value!r}")
        if self.hang and (self.garbage is not None or self.body is not None or self.every or self.delay):
            raise AnswerError("hang", "an answer that never comes can have nothing else; leave out the rest, or hang")

    def tunnels(self, *, socks: bool = False) -> bool:
        """Whether the session goes on behind it."""
        if self.hang or self.garbage is not None or self.cut_after is not None:
            return False
        return self._reply == 0 if socks else 200 <= self.status <= 299

    def code(self, *, socks: bool = False) -> int | None:
        """The status, or the reply of SOCKS; none where it says neither."""
        if self.hang or self.garbage is not None:
            return None
        return self._reply if socks else self.status

    @property
    def _reply(self) -> int:
        """The code for SOCKS: a proxy that refuses says at least 1, a general failure."""
        if self.socks_reply is not None:
            return self.socks_reply
        return 0 if 200 <= self.status <= 299 else {403: 2, 502: 5, 503: 4, 504: 6}.get(self.status, 1)

    def text(self, *, socks: bool = False) -> str:
        """What was done, behind "the proxy"."""
        asked = "a SOCKS request" if socks else "CONNECT"
        if self.hang:
            return f"gave no answer to {asked}"
        if self.garbage is not None:
            what = f"{self.garbage} bytes of garbage"
        elif socks:
            what = f"the reply {self._reply} ({REPLIES.get(self._reply, 'which RFC 1928 does not have')})"
        else:
            what = f"HTTP/{self.version} {self.status}"
            if self.status == 407:
                what += f", wanting {' or '.join(self.schemes)}, again and again"
            if self.body is not None:
                what += f" and {len(self.body.encode())} bytes of body{' in chunks' if self.chunked else ''}"
            if self.headers:
                what += f" and {', '.join(self.headers)}"
        if self.delay:
            what += f", after {self.delay:g} s"
        if self.every:
            what += f", a byte every {self.every:g} s"
        if self.cut_after is not None:
            what += f", cut off after {self.cut_after} bytes"
        return f"answered {asked} with {what}"

    def effects(self, right: bytes) -> list[Effect]:
        """What is sent in the place of the ``right`` answer, which tells whether HTTP or which SOCKS is spoken."""
        if self.hang:
            return []
        data = self._bytes(right)
        if self.cut_after is not None:
            data = data[: self.cut_after]
        sent: Effect = Pieces(data, 1, self.every) if self.every else Send(data)
        return [
            *([Wait(self.delay)] if self.delay else []),
            sent,
            *([Finish()] if self.cut_after is not None else []),
        ]

    def _bytes(self, right: bytes) -> bytes:
        if self.garbage is not None:
            return b"\xee" + Random(self.garbage).randbytes(self.garbage - 1)  # noqa: S311 - noise, the same each time
        if right.startswith(b"HTTP/"):
            return self._http()
        if right[:1] == b"\0":  # SOCKS4
            return bytes((0, 0x5B if self._reply else 0x5A)) + right[2:]
        return bytes((5, self._reply)) + right[2:]

    def _http(self) -> bytes:
        try:
            phrase = HTTPStatus(self.status).phrase
        except ValueError:
            phrase = "Unknown"
        body = None if self.body is None else self.body.encode()
        if body is None and not 200 <= self.status <= 299:
            body = f"{self.status} {phrase}\n".encode()
        lines = [f"HTTP/{self.version} {self.status} {phrase}", *self.headers]
        if self.status == 407:
            lines += [f"Proxy-Authenticate: {_challenge(scheme)}" for scheme in self.schemes]
        given = {line.partition(":")[0].lower() for line in self.headers}
        if body is not None:
            if self.chunked:
                lines.append("Transfer-Encoding: chunked")
                body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"
            elif "content-length" not in given:
                lines.append(f"Content-Length: {len(body)}")
            if "content-type" not in given:
                lines.append("Content-Type: text/plain")
        return "\r\n".join([*lines, "", ""]).encode("ascii") + (body or b"")


def _challenge(scheme: Scheme) -> str:
    """RFC 7617 2, RFC 7616 3.3, and for the last two, whose first word is the client's, RFC 4559 4."""
    match scheme:
        case "Basic":
            return 'Basic realm="proxy"'
        case "Digest":
            return f'Digest realm="proxy", qop="auth", algorithm=SHA-256, nonce="{secrets.token_hex(16)}"'
        case _:
            return scheme


async def turn_down(answer: ProxyAnswer, stream: Stream, right: bytes, *, limit: float) -> int:
    """Say it, in the place of the ``right`` answer, and stay until the client has gone, or for ``limit`` seconds where
    it hangs or is asked to authenticate; how often it was said.
    """
    said = 1
    stream.perform(answer.effects(right))
    try:
        async with asyncio.timeout(limit):
            while not (stream.sent_all or stream.gone or stream.ending is not None):  # noqa: ASYNC110 - as above
                await asyncio.sleep(_LOOK_AGAIN)
            if answer.hang:
                while await stream.read():
                    pass
            elif answer.status == 407 and answer.cut_after is None and right.startswith(b"HTTP/"):
                said += await _again_and_again(answer, stream, right)
    except TimeoutError:
        pass
    return said


async def _again_and_again(answer: ProxyAnswer, stream: Stream, right: bytes) -> int:
    """The same to each further request."""
    said, waiting = 0, b""
    while data := await stream.read():
        waiting = (waiting + data)[-_REQUEST_AT_MOST:]
        while b"\r\n\r\n" in waiting:
            waiting = waiting.partition(b"\r\n\r\n")[2]
            stream.perform(answer.effects(right))
            said += 1
        while stream.full and not stream.gone:  # noqa: ASYNC110 - nobody's answers may pile up
            await asyncio.sleep(_LOOK_AGAIN)
    return said
