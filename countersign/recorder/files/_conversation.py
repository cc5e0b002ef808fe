"""One TCP conversation of a capture, from its first packet to its end: does it carry TLS, and then what was said.

*Where TLS begins.* Mostly with the first byte. Else the ClientHello is looked for in what both sides say, up to 64 KiB:
a record header, the handshake type and the version inside are seven bytes that plaintext does not have by chance. What
went before is the dialogue (:mod:`._dialogue`). TLS that is wrapped in TDS packets is unwrapped
(:mod:`countersign.recorder.wire.tds`). A capture that began in the middle has no hello; there a chain of record headers
that point at each other shows the TLS.

*Who the client is.* Whoever sends the ClientHello, not whoever opened the connection: with FTP in active mode, or a
server that dials back, these are two. Without a ClientHello it is the peer of whoever sends the ServerHello, else the
one who opened the connection, or seems to have.

*Keys.* The decoder gets the key log only where the key log has a line for this ClientHello. One that waits for keys
that never come holds back what it could tell (:mod:`countersign.recorder.wire.leg`), and here all keys are there from
the start: the file was looked through for them before.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from countersign.recorder.files._dialogue import Chunk, read_prelude
from countersign.recorder.live import LiveRecording
from countersign.recorder.outcome import judge
from countersign.recorder.recording import Ending, Failure, FailureCode, LegRole, Party, Recording
from countersign.recorder.wire import codes, records, tds
from countersign.recorder.wire.dialogue import answer_form
from countersign.recorder.wire.events import ApplicationData, Content, EncryptedRecord, Event, Message, Problem, Side
from countersign.recorder.wire.leg import STRAY_DATA, LegDecoder
from countersign.recorder.wire.proxy_protocol import V2_AT_MOST, ProxyHeader, read_proxy_header
from countersign.recorder.wire.reading import summarize_client_hello
from countersign.recorder.wire.redaction import first_bytes
from countersign.recorder.wire.secrets import KeyLog
from countersign.recorder.wire.text import host_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from countersign.recorder.files.streams import Closed, Endpoint, Opened

SEEK_AT_MOST: Final = 64 << 10
"""Bytes of a conversation, both sides together, among which its ClientHello must be."""

_THROUGH = LegRole.THROUGH
_REPLAYED_AT_MOST = 1 << 20
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# type 22, version 3.x, length, ClientHello or ServerHello, its length below 64 KiB, version 3.x (RFC 8446 4.1.2)
_HELLO = re.compile(rb"\x16\x03[\x00-\x04][\x00-\x48].([\x01\x02])\x00..\x03[\x00-\x03]", re.DOTALL)
_HELLO_SIZE = 11
_BEGUN_HELLO = re.compile(rb"\x16\x03[\x00-\x04][\x00-\x48].([\x01\x02])", re.DOTALL)
_HEADER = re.compile(rb"[\x14-\x18]\x03[\x00-\x04](?:\x00[^\x00]|[\x01-\x47].|\x48\x00)", re.DOTALL)
_HEADER_SIZE = 5
_PLAIN_HTTP = re.compile(rb"(?:GET|HEAD|POST|PUT|DELETE|OPTIONS|PATCH) [!-~]+ HTTP/1")
_ALERT = re.compile(rb"\x15\x03[\x00-\x04]\x00\x02[\x01\x02]")
_ANSWER = re.compile(rb"\x16\x03[\x00-\x04][\x00-\x48].\x02\x00|" + _ALERT.pattern, re.DOTALL)
_FIRST_BYTES = 64
_IN_CLEAR = frozenset({0, 1, 2, 4, 11, 12, 13, 14, 15, 16, 22, 67})
"""Handshake messages that may be seen in clear up to TLS 1.2."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What all conversations of an import share. ``kept`` are the labels of the secrets that recordings keep."""

    keylog: KeyLog
    kept: frozenset[str] = frozenset()
    label: str | None = None


@dataclass(slots=True)
class _Piece:
    """What one side sent at once; ``at`` is where in that side's stream, -1 when a gap came after it."""

    t: float
    from_initiator: bool
    data: bytes | None
    at: int


@dataclass(slots=True)
class _Stream:
    """One side while it is not known what it speaks: bytes since the last gap."""

    data: bytearray = field(default_factory=bytearray)
    gaps: bool = False
    plain: bool = False  # cannot be TLS from its first byte


@dataclass(slots=True)
class _Waiting:
    """One side's bytes after the hello of the other, until they show where its records begin."""

    pieces: list[tuple[float, bytes]] = field(default_factory=list)
    size: int = 0


class Conversation:
    """Give it what :class:`~.streams.Reassembler` says of one conversation, then ask for its :meth:`recording`."""

    def __init__(self, opened: Opened, settings: Settings) -> None:
        self._opened = opened
        self._settings = settings
        self._began = opened.t_ns
        self._last = opened.t_ns
        self._sizes = {True: 0, False: 0}
        self._pieces: list[_Piece] = []
        self._streams = {True: _Stream(), False: _Stream()}
        self._ends: list[tuple[float, bool, Ending]] = []
        self._stopped: str | None = None  # what the capture did
        self._client_is_initiator = True
        self._dialogue: list[Chunk] = []
        self._live: LiveRecording | None = None
        self._decoder: LegDecoder | _MiddleOfStream | None = None
        self._replay: list[tuple[Side, bytes, float]] | None = None
        self._replay_size = 0
        self._waiting: dict[Side, _Waiting] = {}
        self._within_tds: dict[Side, tds.Unwrapper] = {}
        self._ragged = dict.fromkeys(Side, opened.midstream)  # the first byte may lie within a record
        self._hello = b""
        self._gaps: set[bool] = set()  # sides of which bytes are missing
        self.not_tls = False
        """No TLS was found in it, and none will be."""

    @property
    def carried(self) -> bool:
        """Whether any byte was sent."""
        return any(self._sizes.values())

    @property
    def client_random(self) -> bytes | None:
        return self._decoder.client_random if self._decoder is not None else None

    @property
    def hello_digest(self) -> bytes | None:
        """SHA-256 of its ClientHello; None where there was none."""
        return sha256(self._hello).digest() if self._hello else None

    @property
    def began(self) -> tuple[int, int]:
        """When, in microseconds since 1970, and the port of whoever opened it."""
        return self._began // 1000, self._opened.initiator.port

    @property
    def with_keys(self) -> bool:
        """Whether the key log has secrets of it."""
        return self.client_random is not None and self.client_random in self._settings.keylog

    # what happens

    def data(self, t_ns: int, from_initiator: bool, data: bytes) -> None:  # noqa: FBT001 - as the event has it
        self._sizes[from_initiator] += len(data)
        self._last = t_ns
        if self.not_tls:
            return
        t = self._t(t_ns)
        if self._decoder is None:
            self._seek(t, from_initiator, data)
        else:
            self._feed(t, self._side(from_initiator), data)

    def gap(self, t_ns: int, from_initiator: bool, missing: int) -> None:  # noqa: FBT001
        self._last = t_ns
        self._gaps.add(from_initiator)
        if self.not_tls:
            return
        t = self._t(t_ns)
        if self._decoder is None:
            stream = self._streams[from_initiator]
            stream.data.clear()
            stream.gaps = True
            for piece in self._pieces:
                if piece.from_initiator is from_initiator:
                    piece.at = -1
            self._pieces.append(_Piece(t, from_initiator, None, -1))
            return
        side = self._side(from_initiator)
        if side in self._within_tds:
            self._within_tds[side].gap(missing)
        if side in self._waiting:
            self._ragged[side] = True
            if isinstance(self._decoder, LegDecoder):
                self._decoder.lacks_bytes()
        else:
            self._add(self._decoder.gap(side, missing, t))
            return
        self._add([_gap_problem(t, side, missing)])

    def noted(self, t_ns: int, from_initiator: bool, text: str) -> None:  # noqa: FBT001
        if self._live is not None:
            problem = Problem(self._t(t_ns), self._side(from_initiator), "stream", 0, "one stream of bytes", text)
            self._live.problems.append((_THROUGH, problem))

    def closed(self, event: Closed) -> bool:
        """One side, or both, send no more; whether the conversation is over."""
        self._last = max(self._last, event.t_ns)
        if event.how == "fin" and event.from_initiator is not None:
            self._ends.append((self._t(event.t_ns), event.from_initiator, Ending.FIN))
            return len(self._ends) > 1
        if event.how == "reset":
            if event.reset_by_initiator is not None:
                self._ends.append((self._t(event.t_ns), event.reset_by_initiator, Ending.RESET))
        else:
            self._stopped = "ended" if event.how == "stopped" else "lost sight of the connection"
        return True

    def recording(self) -> Recording | None:
        """The conversation as it was, judged; None where it carried no TLS. Call it once, at the end."""
        if self._decoder is None or self._live is None:
            return self._without_tls()
        end = self._t(self._last)
        for side in Side:
            waiting = self._waiting.pop(side, None)
            if waiting is not None:
                for t, data in waiting.pieces:
                    self._receive(t, side, data)
                if waiting.pieces and side is Side.SERVER and isinstance(self._decoder, LegDecoder):
                    self._not_tls_answer(waiting)
        live = self._live
        order = sorted(
            Side, key=lambda side: min((t for t, by, _ in self._ends if self._side(by) is side), default=end)
        )
        for side in order:
            ended = next(((t, how) for t, by, how in self._ends if self._side(by) is side), None)
            self._add(self._decoder.end(side, ended[0] if ended else end))
            if ended is not None:
                live.end(_THROUGH, side, ended[1], ended[0])
        if any(not self._sizes[side] for side in self._gaps):
            # Of one side the capture has nothing. So nothing is known of keys, and what the other sent may be right.
            live.problems[:] = [(leg, problem) for leg, problem in live.problems if problem.got != STRAY_DATA]
        self._name(live)
        self._keep_secrets(live)
        recording = replace(live.snapshot(), ended=self._moment(self._last))
        return replace(recording, outcome=judge(recording, stopped=self._stopped, witness="capture"))

    def _without_tls(self) -> Recording | None:
        """A CONNECT that got no tunnel, or plain HTTP to a port of TLS; None for what else is no TLS."""
        pieces = self._pieces
        if self._opened.midstream or self._gaps or not pieces or not pieces[0].from_initiator:
            return None
        asked, answer = (
            b"".join([piece.data or b"" for piece in pieces if piece.from_initiator is by]) for by in (True, False)
        )
        plain = _PLAIN_HTTP.match(asked) is not None and _ALERT.match(answer) is not None
        chunks = [Chunk(piece.t, piece.from_initiator, piece.data) for piece in pieces]
        prelude = read_prelude(chunks, proxy=_address(self._opened.responder))
        status = prelude.record.get("answer")
        if not plain and ("request" not in prelude.record or (status is not None and status // 100 == 2)):
            return None
        self._start()
        live = self._live
        assert live is not None
        live.legs.clear()
        if plain:
            begun = {"from_client": asked, "from_target": answer}
            told = {key: first_bytes(data[:_FIRST_BYTES]) for key, data in begun.items()}
            live.prelude = {"not_tls": told | {"protocol": "http"}}
        else:
            said = {"said": first_bytes(answer[:_FIRST_BYTES]), "form": answer_form(answer).value}
            said = {} if status is not None else said
            live.prelude = {"answer": None, **said, **prelude.record}
            live.target = prelude.target or live.target
        for t, by, how in self._ends[:1]:
            live.prelude["ended"] = {"t": t, "from": self._side(by).value, "how": how.value}
        self._identify(live)
        recording = replace(live.snapshot(), ended=self._moment(self._last))
        return replace(recording, outcome=judge(recording, not_tls=plain, stopped=self._stopped, witness="capture"))

    # times and sides

    def _t(self, t_ns: int) -> float:
        """Seconds since the first packet. A clock that was set back does not make them negative."""
        return round(max(0, t_ns - self._began) / 1e9, 6)

    @staticmethod
    def _moment(t_ns: int) -> datetime:
        return _EPOCH + timedelta(microseconds=t_ns // 1000)

    def _side(self, from_initiator: bool) -> Side:  # noqa: FBT001
        return Side.CLIENT if from_initiator is self._client_is_initiator else Side.SERVER

    # until TLS begins

    def _seek(self, t: float, from_initiator: bool, data: bytes) -> None:  # noqa: FBT001
        stream = self._streams[from_initiator]
        before = len(stream.data)
        self._pieces.append(_Piece(t, from_initiator, data, before))
        stream.data += data
        if self._begins(stream, from_initiator, before, data):
            return
        if sum(self._sizes.values()) > SEEK_AT_MOST:
            self.not_tls = True
            self._streams.clear()
            if not (self._pieces[0].data or b"").startswith(b"CONNECT "):
                self._pieces.clear()

    def _begins(self, stream: _Stream, from_initiator: bool, before: int, data: bytes) -> bool:  # noqa: FBT001
        """Whether TLS begins in what this side has sent; then it was begun."""
        if not stream.gaps and not stream.plain:
            header = read_proxy_header(bytes(stream.data[:V2_AT_MOST])) if stream.data[:1] in b"P\r" else None
            start = header.length if isinstance(header, ProxyHeader) else 0
            head = bytes(stream.data[start : start + _HEADER_SIZE + 1])
            is_tls = records.looks_like_tls(head[:_HEADER_SIZE]) if head else None
            if is_tls and head[0] & 0x80:
                if from_initiator and not self._opened.midstream:
                    self._begin(from_initiator, start, client_is_initiator=True)
                    return True
                is_tls = False
            elif is_tls and (_HEADER.match(head) is None or self._answers_http(from_initiator, head)):
                is_tls = False
            if is_tls:
                if len(head) <= _HEADER_SIZE:
                    return False
                self._begin_at_first_byte(from_initiator, start, head)
                return True
            stream.plain = is_tls is False and not start
        found = _HELLO.search(stream.data, max(0, before - _HELLO_SIZE + 1))
        at, kind = (found.start(), found[1][0]) if found else (-1, 0)
        if found is None and (begun := _BEGUN_HELLO.match(data)):  # cut into records of a few bytes
            at, kind = before, begun[1][0]
        if at >= 0:
            self._begin(from_initiator, at, client_is_initiator=from_initiator is (kind == codes.CLIENT_HELLO))
            return True
        if self._opened.midstream or stream.gaps:
            at = _chain(stream.data)
            if at >= 0:
                self._begin_in_the_middle(from_initiator)
                return True
        return False

    def _answers_http(self, from_initiator: bool, head: bytes) -> bool:  # noqa: FBT001
        """Whether it is an alert to a request in plain HTTP."""
        asked = self._pieces[0]
        return (
            not from_initiator
            and not self._opened.midstream
            and head[:1] == bytes((records.ALERT,))
            and asked.from_initiator
            and _PLAIN_HTTP.match(asked.data or b"") is not None
        )

    def _begin_at_first_byte(self, from_initiator: bool, start: int, head: bytes) -> None:  # noqa: FBT001
        if head[0] == records.HANDSHAKE and head[5] in {codes.CLIENT_HELLO, codes.SERVER_HELLO}:
            client = from_initiator is (head[5] == codes.CLIENT_HELLO)
            self._begin(from_initiator, start, client_is_initiator=client)
        elif head[0] == records.HANDSHAKE and head[5] in _IN_CLEAR:
            self._begin(from_initiator, start, client_is_initiator=True)
        elif not self._opened.midstream and head[0] != records.APPLICATION_DATA:
            self._begin(from_initiator, start, client_is_initiator=True)  # a client that begins with an alert
        else:
            self._begin_in_the_middle(from_initiator)

    def _begin(self, from_initiator: bool, at: int, *, client_is_initiator: bool) -> None:  # noqa: FBT001
        """TLS begins at this byte of this side; what was said before it is the dialogue."""
        self._client_is_initiator = client_is_initiator
        wrapped = tds.holds_tls(self._streams[from_initiator].data, at)
        if wrapped and from_initiator is client_is_initiator:
            self._within_tds = {Side.CLIENT: tds.Unwrapper(wrapped), Side.SERVER: tds.Unwrapper()}
        keylog = self._keys_at(from_initiator, at)
        self._decoder = LegDecoder(keylog=keylog)
        pieces, self._pieces = self._pieces, []
        self._streams.clear()
        self._start()
        begun = False
        for piece in pieces:
            in_tls = piece.from_initiator is from_initiator and piece.at >= 0 and piece.data is not None
            inside = len(piece.data or b"") + piece.at - at if in_tls else 0
            if inside > 0 and piece.data is not None:
                begun = True
                cut = len(piece.data) - inside
                if cut > 0:
                    self._said(piece.t, piece.from_initiator, piece.data[:cut])
                self._feed(piece.t, self._side(from_initiator), piece.data[max(0, cut) :])
            elif begun and piece.data is not None:
                self._feed(piece.t, self._side(piece.from_initiator), piece.data)
            else:
                self._said(piece.t, piece.from_initiator, piece.data)

    def _begin_in_the_middle(self, from_initiator: bool) -> None:  # noqa: FBT001, ARG002
        """A conversation whose handshake was over before the capture, or that part of it, began."""
        self._client_is_initiator = True
        self._decoder = _MiddleOfStream()
        self._ragged = dict.fromkeys(Side, True)
        pieces, self._pieces = self._pieces, []
        self._streams.clear()
        self._start()
        for piece in pieces:
            if piece.data is not None:
                self._feed(piece.t, self._side(piece.from_initiator), piece.data)

    def _keys_at(self, from_initiator: bool, at: int) -> KeyLog | None:  # noqa: FBT001
        """The key log, where it knows the ClientHello that begins here. Where that cannot be seen yet: a replay."""
        keylog = self._settings.keylog
        if not len(keylog):
            return None
        data = self._streams[from_initiator].data
        together = len(data) >= at + 43 and not self._within_tds
        plain = together and data[at] == records.HANDSHAKE and data[at + 3] << 8 | data[at + 4] >= 38
        if plain and data[at + 5] == codes.CLIENT_HELLO:
            return keylog if bytes(data[at + 11 : at + 43]) in keylog else None
        self._replay = []
        return None

    def _start(self) -> None:
        opened = self._opened
        client, server = opened.initiator, opened.responder
        if not self._client_is_initiator:
            client, server = server, client
        self._live = LiveRecording(
            started=self._moment(self._began),
            mode="import",
            action="import",
            client=_address(client),
            target=_address(server),
            label=self._settings.label,
        )
        self._live.leg(_THROUGH)
        self._waiting = {side: _Waiting() for side in Side}

    def _said(self, t: float, from_initiator: bool, data: bytes | None) -> None:  # noqa: FBT001
        self._dialogue.append(Chunk(t, from_initiator is self._client_is_initiator, data))

    # once TLS has begun

    def _feed(self, t: float, side: Side, data: bytes) -> None:
        if side in self._within_tds:
            data = self._unwrapped(t, side, data)
            if not data:
                return
        waiting = self._waiting.get(side)
        if waiting is None:
            self._receive(t, side, data)
            return
        waiting.pieces.append((t, data))
        waiting.size += len(data)
        at = self._where_records_begin(side, waiting)
        if at is None:
            return
        del self._waiting[side]
        if at and self._ragged[side]:
            self._add([Problem(waiting.pieces[0][0], side, "stream.begin", 0, "a record", f"{at} bytes of one before")])
        for then, piece in waiting.pieces:
            if at >= len(piece):
                at -= len(piece)
                if not self._ragged[side]:
                    self._said(then, self._client_is_initiator is (side is Side.CLIENT), piece)
                continue
            if at and not self._ragged[side]:
                self._said(then, self._client_is_initiator is (side is Side.CLIENT), piece[:at])
            self._receive(then, side, piece[at:])
            at = 0

    def _unwrapped(self, t: float, side: Side, data: bytes) -> bytes:
        unwrapper = self._within_tds[side]
        was_in_clear = unwrapper.in_clear
        data = unwrapper.feed(data)
        if unwrapper.in_clear and not was_in_clear:
            got = "TDS in clear behind the login, which alone was encrypted"
            self._add([Problem(t, side, "stream", 0, "TLS to the end of the stream", got)])
        return data

    def _where_records_begin(self, side: Side, waiting: _Waiting) -> int | None:
        """The offset in what waits; None while it cannot be told."""
        first = waiting.pieces[0][1]
        data = first if len(first) == waiting.size else b"".join(piece for _, piece in waiting.pieces)
        head = data[:_HEADER_SIZE]
        if side is Side.CLIENT and data[0] & 0x80 and not self._ragged[side]:
            return 0  # a hello in SSLv2 form
        if len(head) < _HEADER_SIZE:
            if records.looks_like_tls(head) is None:
                return None
        elif _HEADER.match(head) and not (self._ragged[side] and _chain(data) > 0):
            return 0
        if self._ragged[side]:
            at = _chain(data)
            if at >= 0:
                return at
        else:
            found = _ANSWER.search(data)
            if found:
                return found.start()
        return 0 if waiting.size > SEEK_AT_MOST else None

    def _receive(self, t: float, side: Side, data: bytes) -> None:
        assert self._decoder is not None
        self._add(self._decoder.receive(side, data, t))
        if self._replay is None:
            return
        self._replay.append((side, data, t))
        self._replay_size += len(data)
        client_random = self._decoder.client_random
        if client_random is not None and client_random in self._settings.keylog:
            again, self._replay = self._replay, None
            self._decoder = LegDecoder(keylog=self._settings.keylog)
            problems = [] if self._live is None else [p for _, p in self._live.problems if p.field == "stream.begin"]
            self._start_leg_anew(problems)
            for sender, sent, then in again:
                self._add(self._decoder.receive(sender, sent, then))
        elif client_random is not None or self._replay_size > _REPLAYED_AT_MOST:
            self._replay = None

    def _start_leg_anew(self, problems: list[Problem]) -> None:
        assert self._live is not None
        self._live.legs.clear()
        self._live.leg(_THROUGH)
        self._live.problems[:] = [(_THROUGH, problem) for problem in problems]

    def _add(self, events: list[Event]) -> None:
        assert self._live is not None
        if not self._hello:
            for event in events:
                if (
                    isinstance(event, Message)
                    and event.content is Content.HANDSHAKE
                    and event.code == codes.CLIENT_HELLO
                ):
                    self._hello = event.raw
                    self._live.sni = summarize_client_hello(event.raw).sni
                    break
        self._live.add(_THROUGH, events)

    def _not_tls_answer(self, waiting: _Waiting) -> None:
        assert self._live is not None
        t, data = waiting.pieces[0]
        text = f"answered the ClientHello with what is no TLS: {records.shown(data[:24])}"
        code = FailureCode.PLAIN_HTTP if records.looks_like_http_answer(data) else FailureCode.NOT_TLS
        self._live.fail(Failure(t, _THROUGH, Party.TARGET, code=code, text=text))

    # the end

    def _name(self, live: LiveRecording) -> None:
        """Whose conversation it was, and an id that is the same whenever this conversation is imported."""
        if not self._hello:
            expected = "a ClientHello"
            got = "none: the capture began in the middle of the conversation, or has lost it"
            live.problems.insert(0, (_THROUGH, Problem(0.0, Side.CLIENT, "stream.begin", 0, expected, got)))
        prelude = read_prelude(self._dialogue, proxy=live.target or "") if self._dialogue else None
        if prelude is not None:
            live.prelude = prelude.record
            live.client = prelude.client or live.client
            live.target = prelude.target or live.target
        self._identify(live)

    def _identify(self, live: LiveRecording) -> None:
        live.from_client = self._sizes[self._client_is_initiator]
        live.from_target = self._sizes[not self._client_is_initiator]
        ends = f"{_address(self._opened.initiator)} {_address(self._opened.responder)} {self._began}"
        live.id = sha256(ends.encode() + self._hello).hexdigest()[:16]

    def _keep_secrets(self, live: LiveRecording) -> None:
        if self._settings.kept and self.client_random is not None:
            secrets = self._settings.keylog.get(self.client_random)
            kept = KeyLog()
            live.leg(_THROUGH).secrets += tuple(
                kept.add(label, self.client_random, secret)
                for label, secret in secrets.items()
                if label in self._settings.kept
            )


class _MiddleOfStream:
    """Counts the records of a conversation whose handshake nobody saw, in place of a :class:`LegDecoder`.

    All is encrypted from its first byte, so what the outer types say is all there is.
    """

    client_random: bytes | None = None

    def __init__(self) -> None:
        self._framers = {side: records.RecordFramer() for side in Side}
        for framer in self._framers.values():
            framer.skip = True

    def receive(self, sender: Side, data: bytes, t: float) -> list[Event]:
        framer = self._framers[sender]
        framer.feed(data)
        return list(self._told(framer, sender, t))

    def gap(self, sender: Side, missing: int, t: float) -> list[Event]:
        out: list[Event] = [_gap_problem(t, sender, missing)]
        frames = self._framers[sender].gap(missing)
        whole = (frame for frame in frames if isinstance(frame, records.Skipped))
        return [*out, *(ApplicationData(t, sender, frame.records, frame.length) for frame in whole)]

    def end(self, sender: Side, t: float) -> list[Event]:
        framer = self._framers[sender]
        flaws = (frame for frame in framer.rest() if isinstance(frame, records.Flaw))
        return [Problem(t, sender, flaw.field, flaw.offset, flaw.expected, flaw.got) for flaw in flaws]

    @staticmethod
    def _told(framer: records.RecordFramer, sender: Side, t: float) -> Iterator[Event]:
        while (frame := framer.next()) is not None:
            if isinstance(frame, records.Skipped):
                yield ApplicationData(t, sender, frame.records, frame.length)
            elif isinstance(frame, records.Flaw):
                yield Problem(t, sender, frame.field, frame.offset, frame.expected, frame.got)
            elif frame.content_type != records.HANDSHAKE and frame.content_type in codes.CONTENTS:
                yield Message(t, sender, codes.CONTENTS[frame.content_type], -1, True, frame.length, b"")
            else:
                yield EncryptedRecord(t, sender, frame.content_type, frame.length)


def _chain(data: bytes | bytearray) -> int:
    """Where the first record header lies that points at another one, or at the very end; -1 where there is none."""
    at = 0
    while found := _HEADER.search(data, at):
        at = found.start()
        behind = at + _HEADER_SIZE + (data[at + 3] << 8 | data[at + 4])
        if behind == len(data) or (behind < len(data) and _HEADER.match(data, behind)):
            return at
        at += 1
    return -1


def _gap_problem(t: float, side: Side, missing: int) -> Problem:
    return Problem(t, side, "stream.gap", 0, "the next bytes of the stream", f"{missing} bytes that are missing")


def _address(endpoint: Endpoint) -> str:
    return host_port(endpoint.address, endpoint.port)
