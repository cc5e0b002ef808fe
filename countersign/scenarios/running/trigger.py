"""Clients that are daemons: already there, and asked by HTTP to go out. What they then did is in the recordings.

A client that we start is told of the proxy, of a root and of a place to go, and its end is the end of what it does. A
daemon has all of that in its own configuration, and does not end. So it is *triggered*: something of its own (a health
check, a refresh, a job) is asked for by a request to its management endpoint, and on the way there it makes a
connection through us. When it has done what it does is seen from its sessions (:meth:`.watch.Watch.rest`); the answer
alone does not tell, for many answer 202 and go out later, and others answer and try again.

Its answer stands where the exit code of other clients stands: a status of 2xx says that all went well. What is in it is
quoted as what the client said, less whatever it echoes of the request's own secrets. An answer that came before there
was a session, or a 202 (RFC 9110 15.3.3: the work may not be done yet), says nothing of how it went; where the
recordings leave that open, there is no verdict then.

Daemons keep connections, and one that is kept would carry the next request past the next step. So once they are at rest
those still open are ended, as a proxy's idle time would, and the daemon is given as long again to notice.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import h11

from countersign.errors import EnvironmentFault, UserError, words_of
from countersign.recorder.wire.text import printable
from countersign.scenarios.running.clients import filled_text, placeholders
from countersign.scenarios.running.texts import Said, what_it_said

if TYPE_CHECKING:
    from pathlib import Path
    from urllib.parse import SplitResult

    from countersign.proxy import Engine
    from countersign.scenarios.running.clients import Place
    from countersign.scenarios.running.watch import Watch

SETTLES = 0.5
"""Seconds without anything new after which a daemon is taken to be done."""

_CONNECT = 10.0
_ACCEPTED = 0.02  # seconds in which who has connected before the answer is seen to have done so
_KEPT = 64 * 1024  # bytes of an answer
_SECRET = 6  # characters from which on a word of the request is not shown
_WORD = re.compile(rf"[^\s\"'&=:,;{{}}\[\]<>]{{{_SECRET},}}")
_SHORTEST = 3  # of a value that is not shown either
_VALUE = re.compile(rf"[=:]\s*[\"']?([^\s\"'&=:,;{{}}\[\]<>]{{{_SHORTEST},{_SECRET - 1}}})(?![^\s\"'&,;}}\]])")
_METHOD = re.compile(r"[A-Z]{1,20}")
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_OURS = frozenset({"connection", "content-length", "expect", "te", "trailer", "transfer-encoding", "upgrade"})
_LONGEST_QUOTE = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """The request that makes a daemon go out. ``url`` and ``body`` may have placeholders, as a client's arguments may.

    ``headers`` and ``body`` may hold secrets and are never shown; ``ca`` has the roots of an https URL, else they are
    the system's. ``settles`` is how long the daemon has to be still to be taken to be done. ``shows``: it has a
    certificate that scenarios ask for.
    """

    url: str
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    body: str | None = field(default=None, repr=False)
    ca: Path | None = None
    settles: float = SETTLES
    shows: bool = False

    def __post_init__(self) -> None:
        _check_url(self.url)
        if not _METHOD.fullmatch(self.method):
            raise UserError(f"--trigger-method takes GET, POST or another method of HTTP; got {self.method!r}")
        if not 0.05 <= self.settles <= 60:
            raise UserError(f"--settle takes seconds, 0.05 to 60; got {self.settles:g}")
        if given := self.named & {"client_cert", "client_key", "client_store"}:
            raise UserError(
                f"--trigger: {{{min(given)}}} is for clients that are run; a daemon shows its own certificate"
            )
        if self.ca is not None:
            if not self.url.startswith("https:"):
                raise UserError("--trigger-ca is for a --trigger that begins with https:")
            self.trust()

    @property
    def words(self) -> tuple[str, ...]:
        """How it stands in reports, where others have a command line; a query may hold what is nobody's business."""
        return ("trigger", self.method, self.place)

    @property
    def place(self) -> str:
        """The URL as far as it is shown."""
        parts = urlsplit(self.url)
        return printable(urlunsplit((parts.scheme, parts.netloc, parts.path, "", "")))

    @property
    def name(self) -> str:
        """What the daemon is called, where others have the name of their program."""
        return f"the daemon at {self.place}"

    @property
    def named(self) -> frozenset[str]:
        """The placeholders in it."""
        return placeholders((self.url, self.body or ""))

    def trust(self) -> ssl.SSLContext:
        """For the request itself. Raises :class:`UserError` for a file that has no roots."""
        try:
            return ssl.create_default_context(cafile=self.ca)
        except (OSError, ssl.SSLError) as wrong:
            shown = printable(str(self.ca))
            raise UserError(f"--trigger-ca: cannot use {shown}: {printable(words_of(wrong))}") from None


def _check_url(url: str) -> None:
    """Raise :class:`UserError`; a password in it is not repeated."""
    wanted = "--trigger takes an http:// or https:// URL of the daemon, as in http://127.0.0.1:9000/refresh"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as wrong:
        raise UserError(f"{wanted}; this is none ({wrong})") from None
    try:
        (parts.hostname or "").encode("idna")
    except UnicodeError:
        raise UserError(
            f"--trigger: {printable(parts.hostname or '')} is no host name; a label has 1 to 63 bytes (RFC 1035 2.3.4)"
        ) from None
    if parts.username is not None or parts.password is not None:
        raise UserError(
            "--trigger shows a password to everybody who lists processes: put an Authorization line into"
            " --trigger-headers FILE"
        )
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0 or "{" in parts.netloc:
        raise UserError(f"{wanted}; got {printable(url)!r}")
    if parts.fragment or any(not "!" <= character <= "~" for character in url):
        raise UserError(f"{wanted}, percent-encoded and without a fragment; got {printable(url)!r}")


def parse_headers(data: bytes, *, name: str) -> tuple[tuple[str, str], ...]:
    """``Name: value`` lines; empty ones and those with ``#`` first are left out. Raises :class:`UserError`, in which
    no value is repeated.
    """
    try:
        lines = data.decode("utf-8").splitlines()
    except UnicodeDecodeError:
        raise UserError(f"cannot read {name}: it is not UTF-8") from None
    found: list[tuple[str, str]] = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        key, colon, value = line.partition(":")
        if not colon or not _NAME.fullmatch(key):
            raise UserError(f"{name}:{number}: expected `Name: value`")
        if key.lower() in _OURS:
            raise UserError(f"{name}:{number}: {key} is said by countersign itself; leave it out")
        if key.lower() == "host" and any(other.lower() == "host" for other, _ in found):  # RFC 9112 3.2
            raise UserError(f"{name}:{number}: a request has one Host, and it was given already")
        if any(ord(character) < 32 and character != "\t" for character in value.strip()) or "\x7f" in value:
            raise UserError(f"{name}:{number}: the value of {key} has control characters")
        found.append((key, value.strip()))
    return tuple(found)


# -- what comes of it ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What a daemon answered, in the place of :class:`~.process.Ran`.

    ``status`` is None where it had not answered when the time was up. ``timed_out`` is so then, and where one of its
    sessions had come to no end. ``tells``: the answer came when it was done; ``supposed`` is how it went if somebody
    wants to know what would follow from that.
    """

    argv: tuple[str, ...]
    status: int | None
    timed_out: bool
    output: str
    seconds: float
    tells: bool = True
    supposed: bool | None = None

    code = None
    signal = None
    crashed = False
    errors = ""

    @property
    def well(self) -> bool:
        """It says that all went well."""
        if self.supposed is not None:
            return self.supposed
        return is_good(self.status) and not self.timed_out

    def supposing(self, *, well: bool) -> Answered:
        """The same, and where it does not tell how it went, that it went so."""
        return self if self.tells else replace(self, supposed=well)

    @property
    def line(self) -> str:
        """``502 Bad Gateway``."""
        known = {each.value: each.phrase for each in HTTPStatus}
        return f"{self.status} {known.get(self.status or 0, '')}".strip()

    @property
    def how_it_ended(self) -> str:
        return f"it answered the trigger with {self.line}"

    @property
    def hung(self) -> str:
        if self.status is None:
            return f"it had not answered the trigger after {self.seconds:.3g} s"
        return f"{self.how_it_ended}, but a session of its had come to nothing after {self.seconds:.3g} s"

    @property
    def well_said(self) -> str:
        return f"{self.how_it_ended} all the same"

    @property
    def said(self) -> tuple[Said, ...]:
        """The status, and the lines that tell what went wrong, else the first."""
        told = what_it_said(self.output, "")
        if not told:
            told = tuple(
                Said(line.strip()[:_LONGEST_QUOTE], None) for line in self.output.splitlines() if line.strip()
            )[:1]
        status = (Said(self.line, None),) if self.status is not None and not is_good(self.status) else ()
        return (*status, *told)


async def triggered(trigger: Trigger, place: Place, *, engine: Engine, watch: Watch, limit: float) -> Answered:
    """Ask the daemon, and wait until it is at rest, ``limit`` seconds at most; its sessions are over then.

    Raises :class:`EnvironmentFault` where nobody can be asked.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    before = watch.count
    status, text = await _asked(trigger, place, limit)
    await asyncio.sleep(_ACCEPTED)
    came = engine.open_sessions > 0 or watch.count > before
    rested = await watch.rest(
        lambda: engine.open_sessions,
        quiet=trigger.settles,
        until=began + limit,
        beyond=before if is_good(status) else None,
    )
    seconds = loop.time() - began
    if await engine.hang_up():
        await asyncio.sleep(trigger.settles)
    return Answered(
        argv=trigger.words,
        status=status,
        timed_out=status is None or not rested,
        output=text,
        seconds=seconds,
        tells=not is_good(status) or (came and status != HTTPStatus.ACCEPTED),
    )


def is_good(status: int | None) -> bool:
    """RFC 9110 15.3: whether what was asked for was done, or will be."""
    return status is not None and 200 <= status < 300


async def _asked(trigger: Trigger, place: Place, limit: float) -> tuple[int | None, str]:
    """The status and the beginning of the answer; None where there was none in time. Nothing is asked twice."""
    url = urlsplit(filled_text(trigger.url, place, lambda value: quote(value, safe="")))
    cannot = f"cannot trigger {trigger.place}"
    trust = trigger.trust() if url.scheme == "https" else None
    try:
        async with asyncio.timeout(_CONNECT):
            reader, writer = await asyncio.open_connection(url.hostname, url.port or (443 if trust else 80), ssl=trust)
    except TimeoutError:
        raise EnvironmentFault(f"{cannot}: no answer within {_CONNECT:g} s; is the daemon there?") from None
    except ssl.SSLCertVerificationError as wrong:
        text = printable(wrong.verify_message)
        raise EnvironmentFault(f"{cannot}: its certificate is not trusted ({text}); see --trigger-ca") from None
    except ssl.SSLError as wrong:
        raise EnvironmentFault(f"{cannot}: TLS failed ({printable(words_of(wrong))})") from None
    except OSError as wrong:
        raise EnvironmentFault(f"{cannot}: {words_of(wrong)}; the daemon has to run before countersign does") from None
    answer = _Answer()
    try:
        async with asyncio.timeout(limit):
            body = b"" if trigger.body is None else filled_text(trigger.body, place).encode()
            writer.write(answer.request(trigger, url, body))
            while not answer.take(await reader.read(_KEPT)):
                pass
    except TimeoutError:
        pass  # what has come by then is what there is
    except (h11.RemoteProtocolError, OSError) as wrong:
        if answer.status is None:
            silent = isinstance(wrong, OSError) or not answer.began
            what = "the connection was closed without an answer" if silent else "what answers there speaks no HTTP"
            raise EnvironmentFault(f"{cannot}: {what}") from None
    finally:
        writer.transport.abort()
    return answer.status, _without_secrets(answer.body.decode("utf-8", "backslashreplace"), trigger)


class _Answer:
    """One request and as much of its answer as is kept (RFC 9112)."""

    def __init__(self) -> None:
        self._http = h11.Connection(h11.CLIENT)
        self.began = False
        self.status: int | None = None
        self.body = bytearray()

    def request(self, trigger: Trigger, url: SplitResult, body: bytes) -> bytes:
        """The bytes of the whole request."""
        told = {name.lower() for name, _ in trigger.headers}
        ours = {"Host": url.netloc, "User-Agent": "countersign", "Accept": "*/*", "Connection": "close"}
        headers = [(name, value) for name, value in ours.items() if name.lower() not in told]
        headers += [*trigger.headers, *([("Content-Length", str(len(body)))] if trigger.body is not None else [])]
        target = urlunsplit(("", "", url.path or "/", url.query, ""))
        request = h11.Request(
            method=trigger.method, target=target, headers=[(name.encode(), value.encode()) for name, value in headers]
        )
        data = self._http.send(request) or b""
        if body:
            data += self._http.send(h11.Data(data=body)) or b""
        return data + (self._http.send(h11.EndOfMessage()) or b"")

    def take(self, data: bytes) -> bool:
        """What came; whether that is all, or enough. Raises :class:`h11.RemoteProtocolError`."""
        self.began = self.began or bool(data)
        self._http.receive_data(data)
        while len(self.body) < _KEPT:
            event = self._http.next_event()
            if isinstance(event, h11.Response):
                self.status = event.status_code
            elif isinstance(event, h11.Data):
                self.body += bytes(event.data)[: _KEPT - len(self.body)]
            elif event is h11.NEED_DATA:
                return False
            elif not isinstance(event, h11.InformationalResponse):
                return True
        return True


def _without_secrets(text: str, trigger: Trigger) -> str:
    """The answer less what it echoes of the headers, the query and the body.

    A word of six characters goes wherever it is. A shorter one is a secret only as a value, and goes where it stands
    alone: three characters are in any text.
    """
    query = urlsplit(trigger.url).query
    told = (query, unquote(query), trigger.body or "")
    values = {value for _, value in trigger.headers}
    words = {word for said in told for word in _WORD.findall(said)} | {word for each in values for word in each.split()}
    for word in sorted((word for word in words | values if len(word) >= _SECRET), key=len, reverse=True):
        text = text.replace(word, "***")
    short = {value for said in told for value in _VALUE.findall(said)} | {
        each for each in values if len(each) < _SECRET
    }
    for word in sorted((word for word in short if len(word) >= _SHORTEST), key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", "***", text)
    return text
