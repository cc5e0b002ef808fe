"""What the readers said, sorted into conversations, and each conversation as a recording.

*Which conversation?* A log has threads, and a thread has one conversation after the other: a ClientHello begins the
next one, unless it answers a HelloRetryRequest or carries the Finished of the one before (a renegotiation, RFC 5746).
An application that does its TLS by an engine may have several under way on one thread, or carry one from thread to
thread. So a conversation stays open behind the next hello, and a message goes to the latest one of its thread that can
still get it; a ServerHello that no conversation of its thread waits for goes to the one whose session id it echoes (RFC
8446 4.1.3).

*One message, several prints.* It may be printed field by field, dumped as a record, dumped after decryption, dumped for
the transcript's hash, and named as an alert was raised. The first print makes a message of the recording, and each
other kind of print of a message of the same type from the same side is taken for the first one that lacks that kind.
Where bytes were dumped they are the message; else what was told stands for it.

*Times.* What happened at one time of the log's clock is set a microsecond apart, in the order of the lines, for order
is what a judgement needs. What has no time gets that of the line before it.
"""

from __future__ import annotations

import re
from collections import OrderedDict, deque
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from countersign.recorder.budget import LIVE, Budget
from countersign.recorder.files.javalog import bouncy, exceptions, jsse
from countersign.recorder.files.javalog.clock import read_time
from countersign.recorder.files.javalog.events import (
    AlertUnsent,
    At,
    Begun,
    BytesDumped,
    Ended,
    Event,
    MessageTold,
    NotTls,
    RecordNamed,
    Said,
)
from countersign.recorder.outcome import judge
from countersign.recorder.recording import (
    DataCount,
    End,
    Failure,
    FailureCode,
    Leg,
    LegRole,
    Outcome,
    Party,
    Recording,
    Status,
)
from countersign.recorder.wire import codes, names, records
from countersign.recorder.wire.events import Content, Message, Problem, Side
from countersign.recorder.wire.extensions import RenegotiationInfo, SelectedVersion
from countersign.recorder.wire.handshakes import HandshakeAssembler
from countersign.recorder.wire.leg import LegDecoder
from countersign.recorder.wire.messages import ClientHello, HelloRetryRequest, ServerHello, decode_message
from countersign.recorder.wire.reading import summarize_client_hello
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from countersign.recorder.wire.told import Told

_THROUGH = LegRole.THROUGH
_TICK: Final = 1e-6
_MOST_OPEN: Final = 256
_MOST_ON_A_THREAD: Final = 16
_FEW_OPEN: Final = 8  # of so many the only one that waits for a message is looked for
_MOST_SAID: Final = 60
_MOST_PROBLEMS: Final = 100
_MOST_HELD: Final = 64  # dumps of what a thread has read, before it is known what of
_DUMPS = frozenset({"socket", "plain", "messages"})
_AGAIN = frozenset({codes.HELLO_REQUEST, codes.NEW_SESSION_TICKET, codes.KEY_UPDATE})
_AFTER_FINISHED = frozenset({codes.CERTIFICATE_REQUEST, codes.CERTIFICATE, codes.CERTIFICATE_VERIFY, codes.FINISHED})
_IN_CLEAR_12 = frozenset({0, 1, 2, 4, 11, 12, 13, 14, 15, 16, 20, 22})
_MERE_ALERT = re.compile(r"TlsFatalAlert\w*: \w+\(\d+\)$")
_URL = re.compile(r"https://([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:]+\])(?::(\d{1,5}))?(?=[/?#\s]|$)")


@dataclass(slots=True)
class _Slot:
    """A message, with the kinds of prints of it that there were so far."""

    t: float
    line: int
    side: Side
    content: Content
    code: int
    kinds: set[str]
    raw: bytes = b""
    told: Told | None = None
    encrypted: bool | None = None

    @property
    def form(self) -> bytes:
        return self.raw or (self.told.form if self.told else b"")


@dataclass(slots=True)
class _Count:
    records: int = 0
    length: int = 0
    first: float | None = None
    last: float | None = None
    latest: int = 0

    def add(self, length: int, t: float) -> None:
        self.records += 1
        self.length += length
        self.first = t if self.first is None else self.first
        self.last = t
        self.latest = length

    def was(self, length: int) -> None:
        """How long the latest one was without its protection."""
        self.length += length - self.latest
        self.latest = length


class _Conversation:
    """One connection as the log of one side tells it."""

    def __init__(self, at: At, side: Side | None, *, hello: bool) -> None:
        self.first = self.last = at
        self.side = side  # whose log it is
        self.presumed = False  # and nothing told that
        self.hello = hello  # it began with a ClientHello
        self.slots: list[_Slot] = []
        self.left_out = 0
        self.seen: set[tuple[Side, int]] = set()
        self.retried = False
        self.answered = False  # by a ServerHello
        self.version: int | None = None
        self.session_id = b""
        self.finished: set[Side] = set()
        self.dead = False
        self.over = False
        self.names_records = False
        self.ends: list[End] = []
        self.failures: list[Failure] = []
        self.problems: list[Problem] = []
        self.said: list[dict[str, Any]] = []
        self.reason = ""
        self.explained = False  # the reason is an exception
        self.turned_down: str | None = None  # by which words the client refused the peer behind the handshake
        self.stands = False  # it was said that the connection is established
        self.doubts: dict[str, None] = {}
        self.counts = {side: _Count() for side in Side}
        self.began: datetime | None = None
        self._t = -_TICK
        self._decoder: LegDecoder | None = None
        self._assemblers = {(side, kind): HandshakeAssembler() for side in Side for kind in ("plain", "messages")}
        self._named: dict[bool, RecordNamed] = {}  # the record that each way was named last
        self._paired = False
        self._unsure: tuple[int, float] | None = None  # a record that was read, of which it is not sure what is in it
        self._opened = b""  # and what was dumped of it

    def presume_client(self) -> None:
        """Nothing printed tells whose log it is; those who are asked to explain one mostly have a client's."""
        self.side, self.presumed = Side.CLIENT, True

    # -- what belongs to it --------------------------------------------------------------------------------------

    def continues(self, event: MessageTold) -> bool:
        """Whether a ClientHello belongs to this conversation: behind a HelloRetryRequest, or to renegotiate."""
        if self.dead or self._side_of(event) is not Side.CLIENT or not self.hello:
            return False
        if self.retried and not self.answered:
            return sum(1 for slot in self.slots if _is(slot, codes.CLIENT_HELLO)) == 1
        if len(self.finished) < len(Side):
            return False
        hello = decode_message(event.raw or (event.told.form if event.told else b"")).value
        extensions = hello.extensions or () if isinstance(hello, ClientHello) else ()
        return any(isinstance(one, RenegotiationInfo) and one.renegotiated_connection for one in extensions)

    def accepts(self, event: MessageTold) -> bool:
        """Whether this message can come next."""
        if event.content is not Content.HANDSHAKE:
            return True
        side = self._side_of(event)
        if self.dead or side is None:
            return False
        if self.side is not None and event.own is not None and event.own is not (side is self.side):
            return False
        if event.code == codes.SERVER_HELLO:
            return self.hello and not self.answered
        if not self.answered and self.hello:
            return False
        if (side, event.code) not in self.seen or event.code in _AGAIN:
            return True
        if len(self.finished) == len(Side) and event.code in _AFTER_FINISHED:
            return True
        return self._lacking(side, event.content, event.code, event.kind) is not None

    def _side_of(self, event: MessageTold) -> Side | None:
        if event.side is not None:
            return event.side
        if self.side is None or event.own is None:
            return None
        return self.side if event.own else self.side.peer

    # -- what was said -------------------------------------------------------------------------------------------

    def time(self, at: At) -> float:
        """Seconds from the beginning; later than all before."""
        self.last = at
        moment = read_time(at.time) if at.time else None
        t = self._t + _TICK
        if moment is not None:
            if moment.doubt:
                self.doubts[moment.doubt] = None
            if self.began is None:
                self.began = moment.utc - timedelta(seconds=max(t, 0.0))
            t = max(t, (moment.utc - self.began).total_seconds())
        self._t = t
        return t

    def message(self, event: MessageTold) -> None:
        side = self._side_of(event)
        if side is None:
            return
        if self.side is None and event.own is not None:
            self.side = side if event.own else side.peer
        t = self.time(event.at)
        raw = event.raw
        if event.own is False:
            raw = raw or self._from_opened(event)
            self._unsure = None  # the record that was read held this
        slot = self._put(side, event.content, event.code, event.kind, t, event.at.line, raw, event.told)
        if event.cut:
            self.problem(
                t, side, "log.cut", event.at.line, "the whole message", "only its beginning, for the log is cut"
            )
        for doubt in event.doubts:
            self.problem(t, side, "log.certificate_authorities", event.at.line, "one name a line", doubt)
        if slot is not None and event.content is Content.ALERT:
            self._alerted(slot)

    def dumped(self, event: BytesDumped) -> None:
        if self.side is None:
            return
        side = self.side if event.own else self.side.peer
        t = self.time(event.at)
        line = event.at.line
        if event.kind == "socket":
            if self.hello:
                self._socket(side, event.data, t, line)
        elif event.kind == "messages":
            self._messages(side, "messages", event.data, t, line)
        else:
            self._plaintext(side, event, t)

    def named(self, event: RecordNamed) -> None:
        """A record by its type and length."""
        if self.side is None:
            return
        before = self._named.get(event.own)
        again = before is not None and (before.content_type, before.length) == (event.content_type, event.length)
        if event.twice and not event.own and again and not self._paired:
            self._paired = True
            return
        self._paired = False
        self.names_records = True
        self._named[event.own] = event
        side = self.side if event.own else self.side.peer
        t = self.time(event.at)
        self._settle()
        if event.content_type == records.CHANGE_CIPHER_SPEC:
            self._put(side, Content.CHANGE_CIPHER_SPEC, 1, "record", t, event.at.line, b"\x01", None)
        elif event.content_type == records.APPLICATION_DATA:
            if names.is_tls13(self.version) and not event.own:
                self._unsure = (event.length, t)
            else:
                self.counts[side].add(event.length, t)

    def unsent(self, event: AlertUnsent) -> None:
        """The alert that was raised last did not go out."""
        self.time(event.at)
        own = [slot for slot in self.slots if slot.content is Content.ALERT and slot.side is self.side]
        if own:
            self.slots.remove(own[-1])

    def remark(self, event: Said) -> None:
        t = self.time(event.at)
        if event.kind in {"fatal", "exception"}:
            telling = next((cause for cause in event.causes if not _MERE_ALERT.search(cause)), None)
            if telling is not None and not self.explained:
                self.reason, self.explained = telling, True
            self.reason = self.reason or event.text
            if len(self.finished) == len(Side) and self.side is Side.CLIENT:
                self.turned_down = self.turned_down or exceptions.turned_down(event.causes)
        self.stands = self.stands or event.kind == "established"
        causes = list(event.causes)
        for one in self.said:
            if one["causes"][0] == causes[0] if causes and one["causes"] else one["text"] == event.text:
                one["causes"] = max(one["causes"], causes, key=len)
                return
        if len(self.said) < _MOST_SAID:
            said = {"t": round(t, 6), "line": event.at.line, "kind": event.kind, "text": event.text, "causes": causes}
            self.said.append(said)

    def ended(self, event: Ended) -> None:
        t = self.time(event.at)
        self._settle()
        if self.side is None:
            return
        side = self.side if event.own else self.side.peer
        self.over = True
        if not any(end.sender is side for end in self.ends):
            self.ends.append(End(t, side, event.how))

    def not_tls(self, event: NotTls) -> None:
        t = self.time(event.at)
        self.dead = self.over = True
        if self.side is not Side.SERVER:
            text = "answered the ClientHello with what is no TLS"
            self.failures.append(Failure(t, _THROUGH, Party.TARGET, code=FailureCode.NOT_TLS, text=text))

    def problem(  # noqa: PLR0917  in the order of a Problem's
        self, t: float, side: Side, name: str, line: int, expected: str, got: str
    ) -> None:
        if len(self.problems) < _MOST_PROBLEMS:
            self.problems.append(Problem(t, side, name, line, expected, got))

    # -- prints of messages --------------------------------------------------------------------------------------

    def _put(  # noqa: PLR0917  what a message is, and where it stood
        self, side: Side, content: Content, code: int, kind: str, t: float, line: int, raw: bytes, told: Told | None,
        *, encrypted: bool | None = None,
    ) -> _Slot | None:  # fmt: skip
        """One more print of a message, or the first one of it."""
        slot = self._lacking(side, content, code, kind)
        if slot is None:
            if len(self.slots) >= LIVE.messages:
                self.left_out += 1
                return None
            slot = _Slot(t, line, side, content, code, {kind}, raw, told, encrypted)
            self.slots.append(slot)
        else:
            slot.kinds.add(kind)
            if raw and (not slot.raw or kind in _DUMPS):
                slot.raw = raw
            slot.told = slot.told or told
            slot.encrypted = encrypted if encrypted is not None else slot.encrypted
        if content is Content.HANDSHAKE:
            self._learn(slot)
        return slot

    def _lacking(self, side: Side, content: Content, code: int, kind: str) -> _Slot | None:
        """The first message of this type from this side of which there was no print of this kind yet."""
        wanted = (side, content, code)
        return next((o for o in self.slots if (o.side, o.content, o.code) == wanted and kind not in o.kinds), None)

    def _learn(self, slot: _Slot) -> None:
        self.seen.add((slot.side, slot.code))
        if slot.code == codes.FINISHED:
            self.finished.add(slot.side)
        elif slot.code == codes.CLIENT_HELLO:
            if not self.session_id:
                self.session_id = summarize_client_hello(slot.form).session_id
            self.answered = False if len(self.finished) == len(Side) else self.answered
        elif slot.code == codes.SERVER_HELLO:
            hello = decode_message(slot.form).value
            if isinstance(hello, HelloRetryRequest):
                self.retried = True
            elif isinstance(hello, ServerHello):
                self.answered = True
                chosen = [one.selected_version for one in hello.extensions or () if isinstance(one, SelectedVersion)]
                self.version = chosen[0] if chosen else hello.legacy_version

    def _alerted(self, slot: _Slot) -> None:
        if slot.code == codes.CLOSE_NOTIFY:
            self.over = True
        elif slot.raw[:1] == b"\x02":
            self.dead = self.over = True

    def _socket(self, side: Side, data: bytes, t: float, line: int) -> None:
        """Bytes as they were on the socket: what is in clear in them."""
        decoder = self._decoder = self._decoder or LegDecoder()
        for event in decoder.receive(side, data, t):
            if isinstance(event, Message) and not event.encrypted and event.raw:
                slot = self._put(side, event.content, event.code, "socket", t, line, event.raw, None, encrypted=False)
                if slot is not None and event.content is Content.ALERT:
                    self._alerted(slot)
            elif isinstance(event, Problem):
                self.problems += [event] if len(self.problems) < _MOST_PROBLEMS else []

    def _messages(self, side: Side, kind: str, data: bytes, t: float, line: int) -> None:
        assembler = self._assemblers[side, kind]
        assembler.feed(data)
        while (found := assembler.next()) is not None:
            encrypted = True if kind == "plain" else None
            self._put(side, Content.HANDSHAKE, found.code, kind, t, line, found.raw, None, encrypted=encrypted)

    def _plaintext(self, side: Side, event: BytesDumped, t: float) -> None:
        """What was in a protected record."""
        data = event.data
        named = self._named.get(event.own)
        kind = named.content_type if named is not None else -1
        if not names.is_tls13(self.version):
            self._content(side, kind, data, t, event.at.line)
            if kind == records.APPLICATION_DATA:
                self.counts[side].was(len(data))
        elif event.own:  # with its type and zeros behind it (RFC 8446 5.2)
            data = data.rstrip(b"\0")
            kind, data = (data[-1], data[:-1]) if data else (-1, b"")
            self._content(side, kind, data, t, event.at.line)
            if kind == records.APPLICATION_DATA and not self.names_records:
                self.counts[side].add(len(data), t)
        elif len(self.finished) < len(Side):  # without them: what it is tells what comes
            kind = records.ALERT if len(data) == 2 else records.HANDSHAKE
            self._content(side, kind, data, t, event.at.line)
        else:
            if not self.names_records:
                self._settle()
            self._unsure, self._opened = (len(data), t), data

    def _content(self, side: Side, kind: int, data: bytes, t: float, line: int) -> None:
        """What was in a protected record of this type, but for application data."""
        if kind == records.ALERT and len(data) >= 2 and data[0] in {1, 2}:
            slot = self._put(side, Content.ALERT, data[1], "plain", t, line, data[:2], None, encrypted=True)
            if slot is not None:
                self._alerted(slot)
        elif kind == records.HANDSHAKE and names.is_tls13(self.version):
            self._messages(side, "plain", data, t, line)
        elif kind == records.HANDSHAKE:
            # What a block cipher leaves behind the messages (its MAC and padding) is none.
            while len(data) >= 4 and data[0] in _IN_CLEAR_12 and 4 + int.from_bytes(data[1:4], "big") <= len(data):
                size = 4 + int.from_bytes(data[1:4], "big")
                self._put(side, Content.HANDSHAKE, data[0], "plain", t, line, data[:size], None, encrypted=True)
                data = data[size:]

    def _from_opened(self, event: MessageTold) -> bytes:
        """The bytes of a message of TLS 1.3 behind the handshake, if the record that it was in was dumped."""
        data, self._opened = self._opened, b""
        if event.content is not Content.HANDSHAKE or len(data) < 4 or data[0] != event.code:
            return b""
        size = 4 + int.from_bytes(data[1:4], "big")
        self._opened = data[size:]
        return data[:size] if len(data) >= size else b""

    def _settle(self) -> None:
        """A record that was read and of which no message came: application data, once the handshake is over."""
        if self._unsure is not None and self.side is not None and len(self.finished) == len(Side):
            self.counts[self.side.peer].add(*self._unsure)
        self._unsure, self._opened = None, b""

    # -- the recording -------------------------------------------------------------------------------------------

    @property
    def worth_it(self) -> bool:
        """Whether anything of TLS was seen."""
        return any(slot.content is not Content.CHANGE_CIPHER_SPEC for slot in self.slots)

    def recording(self, *, label: str | None, otherwise: datetime) -> Recording:
        """All of it, judged. ``otherwise`` is its time where the log has none."""
        self._settle()
        side = self.side or Side.CLIENT
        if self.began is None:
            self.problem(0.0, side, "log.time", self.first.line, "times", "none: it is dated by the file")
        for doubt in self.doubts:
            self.problem(0.0, side, "log.time_zone", self.first.line, "one offset from UTC", doubt)
        if not self.hello:
            got = "none: " + (
                "Bouncy Castle prints no messages"
                if self.first.form == bouncy.FORM
                else f"what line {self.first.line} tells belongs to a handshake that began before it"
            )
            self.problems.insert(0, Problem(0.0, Side.CLIENT, "stream.begin", 0, "a ClientHello", got))
        if self.presumed:
            expected, got = "a message that tells whose log it is", "none: it is taken for a client's"
            self.problem(0.0, side, "log.side", self.first.line, expected, got)
        if self.left_out:
            expected, got = f"at most {LIVE.messages} messages kept", f"{self.left_out} more, which are only counted"
            self.problem(self._t, side, "leg.messages", self.last.line, expected, got)
        started = self.began or otherwise
        hello = next((slot.form for slot in self.slots if _is(slot, codes.CLIENT_HELLO)), b"")
        sni = summarize_client_hello(hello).sni if hello else None
        recording = Recording(
            id=self._id(started if self.began else None, hello),
            started=started,
            ended=started + timedelta(seconds=max(self._t, 0.0)),
            mode="import",
            action="log",
            target=self._target(sni),
            sni=sni,
            label=label,
            legs=(self._leg(),),
            problems=tuple((_THROUGH, problem) for problem in self.problems),
            failures=tuple(self.failures),
            log=self._log(),
        )
        stopped = None if self.over else "says no more of it"
        outcome = judge(recording, stopped=stopped, witness="log", data_seen=self.names_records)
        if outcome.status is Status.INTERRUPTED and self.first.form == bouncy.FORM:
            outcome = self._by_few_words()
        if self.turned_down is not None and outcome.status is not Status.FAILED:
            text = "The handshake was finished, and behind it the client refused whom it had reached; the log gives as "
            text += f"reason: {self.turned_down.rstrip('.')}."
            outcome = Outcome(Status.ABANDONED, Party.CLIENT, _THROUGH, None, text)
        if outcome.status is Status.FAILED and self.reason:
            outcome = replace(outcome, text=f"{outcome.text} The log gives as reason: {self.reason.rstrip('.')}.")
        return replace(recording, outcome=outcome)

    def _by_few_words(self) -> Outcome:
        """What becomes of a connection of which no message was printed and no alert broke it."""
        if self.stands:
            return Outcome(
                Status.ESTABLISHED, text="Established, as the log says; it does not tell what was sent after it."
            )
        text = "The log tells of no alert that broke the handshake, and not that it was finished either."
        return Outcome(Status.INTERRUPTED, text=text)

    def _leg(self) -> Leg:
        budget = Budget()
        kept = [one for message in self._encrypted_or_not() if (one := budget.take(message)) is not None]
        problem = budget.problem("leg.messages", f"at most {LIVE.bytes} bytes of messages kept")
        if problem is not None:
            self.problems.append(problem)
        data = {
            side: DataCount(count.records, count.length, count.first, count.last)
            for side, count in self.counts.items()
            if count.records
        }
        return Leg(_THROUGH, messages=tuple(kept), data=data, ends=tuple(self.ends))

    def _encrypted_or_not(self) -> Iterator[Message]:
        """Behind its ServerHello all of TLS 1.3 is encrypted (RFC 8446 2); below, what follows a change-cipher-spec."""
        tls13 = answered = False
        changed: set[Side] = set()
        for slot in sorted(self.slots, key=lambda one: one.t):
            encrypted = answered if tls13 else slot.side in changed
            if slot.content is Content.CHANGE_CIPHER_SPEC:
                encrypted = False if tls13 or slot.encrypted is False else slot.side in changed
                changed.add(slot.side)
            elif _is(slot, codes.CLIENT_HELLO) and tls13:
                encrypted = False
            if slot.encrypted is not None:
                encrypted = slot.encrypted
            told = None if slot.raw else slot.told
            yield Message(slot.t, slot.side, slot.content, slot.code, encrypted, len(slot.raw), slot.raw, told=told)
            if _is(slot, codes.SERVER_HELLO) and not isinstance(decode_message(slot.form).value, HelloRetryRequest):
                answered, tls13 = True, names.is_tls13(self.version)

    def _id(self, started: datetime | None, hello: bytes) -> str:
        """The same whenever this conversation is imported from this side's log."""
        what = [f"log of the {self.side}", started.isoformat() if started else "", hello.hex()]
        if not hello:
            what += [str(self.first.thread), str(self.first.line)]
        return sha256("\n".join(what).encode("utf-8", "surrogateescape")).hexdigest()[:16]

    def _target(self, sni: str | None) -> str | None:
        """The place that an exception names, if it is the one that was asked for."""
        if self.side is not Side.CLIENT:
            return None
        for one in self.said:
            for text in (one["text"], *one["causes"]):
                found = _URL.search(text)
                if found and (sni is None or found[1].lower() == sni.lower()):
                    return f"{found[1]}:{found[2] or 443}"
        return None

    def _log(self) -> dict[str, Any]:
        thread = self.first.thread
        name = thread.partition("|")[2] if thread and self.first.form == jsse.FORM and "|" in thread else thread
        shown: dict[str, Any] = {
            "form": self.first.form,
            "side": self.side.value if self.side else None,
            "thread": None if name is None else printable(name, limit=300),
            "first_line": self.first.line,
            "last_line": self.last.line,
        }
        if self.first.prefix:
            shown["prefix"] = printable(self.first.prefix.rstrip(), limit=300)
        return shown | {"said": self.said}


class Conversations:
    """All conversations of a log. Give it the events of the readers, and take the recordings as they are complete."""

    def __init__(self, *, label: str | None, otherwise: datetime) -> None:
        self._label = label
        self._otherwise = otherwise
        self._open: OrderedDict[int, tuple[str, _Conversation]] = OrderedDict()
        self._threads: dict[str, list[int]] = {}
        self._held: dict[str, deque[BytesDumped]] = {}
        self._by_name: OrderedDict[str, str] = OrderedDict()
        self._serial = 0

    def take(self, source: str, event: Event) -> Iterator[Recording]:
        """One event of the process ``source``."""
        key = self._key(source, event)
        if isinstance(event, BytesDumped) and event.kind == "socket" and not event.own:
            self._held.setdefault(key, deque(maxlen=_MOST_HELD)).append(event)
            if len(self._held) > _MOST_OPEN:
                del self._held[next(iter(self._held))]
            return
        if isinstance(event, MessageTold):
            number = self._for_message(source, key, event)
        elif isinstance(event, Begun):
            number = self._begin(source, key, _Conversation(event.at, event.side, hello=False))
        else:
            number = self._latest(key)
        if number is None:
            return
        conversation = self._open[number][1]
        self._open.move_to_end(number)
        if not isinstance(event, RecordNamed):
            for held in self._held.pop(key, ()):
                conversation.dumped(held)
        _tell(conversation, event)
        yield from self._overflow(key)

    def finish(self) -> Iterator[Recording]:
        """There are no more events."""
        for number in list(self._open):
            yield from self._close(number)

    def _key(self, source: str, event: Event) -> str:
        """What tells the thread from others. A thread that only has a name is the one that last had this name."""
        thread = event.at.thread
        if event.at.form == bouncy.FORM:
            return f"{source}\n{bouncy.FORM}\n{thread or ''}"
        by_name = f"{source}\n{thread}"
        if event.at.form != jsse.FORM:
            return self._by_name.get(by_name, by_name)
        by_name = f"{source}\n{(thread or '').partition('|')[2]}"
        key = f"{source}\n{thread}"
        self._by_name[by_name] = key
        self._by_name.move_to_end(by_name)
        if len(self._by_name) > 4 * _MOST_OPEN:
            self._by_name.popitem(last=False)
        return key

    def _latest(self, key: str) -> int | None:
        numbers = self._threads.get(key)
        return numbers[-1] if numbers else None

    def _begin(self, source: str, key: str, conversation: _Conversation) -> int:
        self._serial += 1
        self._open[self._serial] = (source, conversation)
        self._threads.setdefault(key, []).append(self._serial)
        return self._serial

    def _for_message(self, source: str, key: str, event: MessageTold) -> int | None:
        """The conversation that a message belongs to, begun if there is none; None for what begins nothing."""
        numbers = self._threads.get(key, [])
        handshake = event.content is Content.HANDSHAKE
        if handshake and event.code == codes.CLIENT_HELLO:
            if numbers and self._open[numbers[-1]][1].continues(event):
                return numbers[-1]
            local = None if event.own is None else Side.CLIENT if event.own else Side.SERVER
            return self._begin(source, key, _Conversation(event.at, local, hello=True))
        for number in reversed(numbers):
            if self._open[number][1].accepts(event):
                numbers.remove(number)
                numbers.append(number)
                return number
        if handshake:
            elsewhere = self._elsewhere(source, event, alone=not numbers)
            if elsewhere is not None:
                self._threads.setdefault(key, []).append(elsewhere)
                return elsewhere
        elif event.content is Content.CHANGE_CIPHER_SPEC or event.code in codes.NEVER_FATAL:
            return None
        elif (elsewhere := self._without_thread(source, alone=not numbers)) is not None:
            self._threads.setdefault(key, []).append(elsewhere)
            return elsewhere
        side = None
        if event.side is not None and event.own is not None:
            side = event.side if event.own else event.side.peer
        conversation = _Conversation(event.at, side, hello=False)
        if event.side is None:
            conversation.presume_client()
        return self._begin(source, key, conversation)

    def _elsewhere(self, source: str, event: MessageTold, *, alone: bool) -> int | None:
        """A conversation of another thread that this message belongs to: told by its session id, or the only one."""
        form = event.raw or (event.told.form if event.told else b"")
        if event.code == codes.SERVER_HELLO:
            hello = decode_message(form).value
            echoed = hello.session_id if isinstance(hello, ServerHello | HelloRetryRequest) else b""
            found = [
                number for number, (where, one) in self._open.items() if where == source and one.session_id == echoed
            ]
            if echoed and len(found) == 1 and self._open[found[0]][1].accepts(event):
                return found[0]
        if not alone or len(self._open) > _FEW_OPEN:
            return None
        waiting = [number for number, (where, one) in self._open.items() if where == source and one.accepts(event)]
        return waiting[0] if len(waiting) == 1 else None

    def _without_thread(self, source: str, *, alone: bool) -> int | None:
        """The only open conversation, if it was pasted without the line that names its thread."""
        found = [number for number, (where, one) in self._open.items() if where == source and not one.dead]
        if not alone or len(found) != 1:
            return None
        only = self._open[found[0]][1]
        if only.first.form != jsse.FORM or only.first.thread:
            return None
        if only.side is None:
            only.presume_client()
        return found[0]

    def _overflow(self, key: str) -> Iterator[Recording]:
        """Let go of what has not been heard of for longest."""
        numbers = self._threads.get(key, [])
        while len(numbers) > _MOST_ON_A_THREAD:
            yield from self._close(numbers[0])
        while len(self._open) > _MOST_OPEN:
            yield from self._close(next(iter(self._open)))

    def _close(self, number: int) -> Iterator[Recording]:
        _, conversation = self._open.pop(number)
        for key in [key for key, numbers in self._threads.items() if number in numbers]:
            self._threads[key].remove(number)
            if not self._threads[key]:
                del self._threads[key]
        if conversation.worth_it:
            yield conversation.recording(label=self._label, otherwise=self._otherwise)


def _tell(conversation: _Conversation, event: Event) -> None:
    match event:
        case MessageTold():
            conversation.message(event)
        case BytesDumped():
            conversation.dumped(event)
        case RecordNamed():
            conversation.named(event)
        case AlertUnsent():
            conversation.unsent(event)
        case Said():
            conversation.remark(event)
        case Ended():
            conversation.ended(event)
        case NotTls():
            conversation.not_tls(event)
        case Begun():
            conversation.time(event.at)


def _is(slot: _Slot, code: int) -> bool:
    return slot.content is Content.HANDSHAKE and slot.code == code
