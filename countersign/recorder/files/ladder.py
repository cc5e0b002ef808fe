"""A recording as a ladder: client, proxy and target side by side, every message of both legs in the order of time.

It is made in two steps. :func:`rows` says what is to be seen, one :class:`Row` for each message, burst of application
data, ending, problem, fault and failure, in an order that puts causes before effects. :func:`ladder` lays the rows out
for a terminal of some width: lines of typed parts (:class:`Part`), which whoever prints them may colour. A page would
draw the same rows.

All text of a row has been through :func:`~countersign.recorder.wire.text.printable`: names in certificates, hellos are
whatever a peer chose to send.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING

from countersign.recorder.files._words import fault_text
from countersign.recorder.outcome import party_of
from countersign.recorder.recording import DataCount, Ending, LegRole, Party, Recording, Status
from countersign.recorder.wire import names
from countersign.recorder.wire.events import Content, Problem, Side
from countersign.recorder.wire.extensions import (
    CertificateAuthorities,
    EarlyData,
    KeyShareChosen,
    KeyShareWanted,
    PreSharedKeyChosen,
    SelectedVersion,
    SignatureAlgorithms,
    distinguished_name,
)
from countersign.recorder.wire.messages import (
    Alert,
    Certificate,
    Certificate13,
    CertificateRequest10,
    CertificateRequest12,
    CertificateRequest13,
    CertificateStatus,
    CertificateVerify,
    ClientHello,
    CompressedCertificate,
    EncryptedExtensions,
    HelloRetryRequest,
    KeyUpdate,
    NewSessionTicket,
    NewSessionTicket13,
    ServerHello,
    ServerKeyExchange,
    Signature,
    Sslv2ClientHello,
)
from countersign.recorder.wire.reading import summarize_client_hello
from countersign.recorder.wire.text import columns, listed, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from countersign.recorder.certificates import CertificateFacts
    from countersign.recorder.recording import End, Failure, Leg, Verification
    from countersign.recorder.wire.extensions import Extension
    from countersign.recorder.wire.reading import LegReading, ReadMessage

_LONGEST_NAME = 200
_MOST_NAMES = 5  # CA names that are listed
_MOST_CERTIFICATES = 10
_MOST_TURNS = 50
_MOST_PROBLEMS = 20  # of a leg


class Kind(StrEnum):
    """What a row is about."""

    MESSAGE = "message"
    DATA = "data"
    EXCHANGE = "exchange"
    END = "end"
    PROBLEM = "problem"
    FAULT = "fault"
    FAILURE = "failure"
    OUTCOME = "outcome"


class Tone(StrEnum):
    """What a part of a line is, for whoever colours it."""

    PLAIN = "plain"
    TIME = "time"
    LANE = "lane"
    ARROW = "arrow"
    LOCK = "lock"
    TITLE = "title"
    LENGTH = "length"
    DETAIL = "detail"
    ALERT = "alert"
    TROUBLE = "trouble"
    FAULT = "fault"
    GOOD = "good"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Detail:
    """Something worth saying about a row. ``alone``: on a line of its own, as one of a list."""

    text: str
    alone: bool = False
    tone: Tone = Tone.DETAIL


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that happened. ``t`` is seconds from the session's start; ``length`` is in bytes.

    Where ``sender`` is set it goes from this side of ``leg`` to the other; else it happened at ``party``.
    """

    kind: Kind
    t: float | None
    title: str
    leg: LegRole | None = None
    sender: Side | None = None
    party: Party | None = None
    encrypted: bool = False
    length: int | None = None
    details: tuple[Detail, ...] = ()
    tone: Tone = Tone.TITLE


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a line, safe to print."""

    text: str
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True, slots=True)
class LadderLine:
    """One line on the screen, and the row that it belongs to (None for the head)."""

    parts: tuple[Part, ...]
    row: Row | None = field(default=None, compare=False, repr=False)

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.parts).rstrip()


# -- what is to be seen ------------------------------------------------------------------------------------------


def rows(recording: Recording) -> list[Row]:
    """What happened, in order of time; things of one moment in the order message, problem, data, fault, end."""
    timed: list[tuple[float, int, Row]] = []
    for leg in recording.legs:
        reading = leg.read()
        noticed = [problem for role, problem in recording.problems if role is leg.role]
        timed += _leg_rows(leg, reading, [*noticed, *reading.problems])
    timed += [(0.0, 2, row) for row in _not_tls(recording)]
    timed += [(row.t or 0.0, 2, row) for row in _http(recording)]
    timed += [(row.t or 0.0, 2, row) for row in _dialogue(recording)]
    timed += [(failure.t, 4, _failure(failure)) for failure in recording.failures]
    timed.sort(key=lambda entry: entry[:2])
    return [row for _, _, row in timed]


def _leg_rows(leg: Leg, reading: LegReading, problems: list[Problem]) -> Iterator[tuple[float, int, Row]]:
    last_chain = max((read.number for read in reading.messages if _carries_server_chain(read)), default=None)
    for read in reading.messages:
        verdict = leg.verification if read.number == last_chain else None
        yield read.message.t, 0, _message(leg, reading, read, verdict)
    for problem in problems[:_MOST_PROBLEMS]:
        yield problem.t, 1, _problem(leg, problem, str(problem))
    if len(problems) > _MOST_PROBLEMS:
        yield problems[-1].t, 1, _problem(leg, problems[-1], f"{len(problems) - _MOST_PROBLEMS} more on this leg")
    for side in Side:
        if (count := leg.count(side)).records or count.length:
            yield count.first or 0.0, 2, _data(leg, side, count)
    for fault in leg.faults:
        t = _fault_time(fault, leg)
        text = Detail(_name(fault_text(fault)))
        yield t, 3, Row(Kind.FAULT, t, "fault", leg.role, party=Party.PROXY, details=(text,), tone=Tone.FAULT)
    for end in leg.ends:
        yield end.t, 5, _end(leg, end)


def _not_tls(recording: Recording) -> Iterator[Row]:
    """What was relayed as it was, there being no TLS: how much each way, and how it began."""
    first = recording.prelude.get("not_tls")
    if not isinstance(first, dict):
        return
    for side, key, length in (
        (Side.CLIENT, "from_client", recording.from_client),
        (Side.SERVER, "from_target", recording.from_target),
    ):
        begins = first.get(key)
        said = (Detail(f"begins {printable(begins, limit=500)}"),) if isinstance(begins, str) and begins else ()
        yield Row(Kind.DATA, None, "not TLS", LegRole.THROUGH, side, length=length, details=said)


def _dialogue(recording: Recording) -> Iterator[Row]:
    """What both sides said in clear before TLS."""
    turns = recording.prelude.get("dialogue")
    for turn in (turns if isinstance(turns, list | tuple) else ())[:_MOST_TURNS]:
        said = turn if isinstance(turn, dict) else {}
        t, text, sender = said.get("t"), said.get("text"), said.get("from")
        if isinstance(t, int | float) and isinstance(text, str) and sender in set(Side):
            words = Detail(printable(" / ".join(text.strip().splitlines()), limit=200))
            yield Row(Kind.DATA, float(t), "in clear", LegRole.THROUGH, Side(sender), details=(words,))


def _http(recording: Recording) -> Iterator[Row]:
    """What was asked in HTTP and what the answer was, and from where on nobody looked at what passed through."""
    for entry in recording.http:
        t, method, stopped = entry.get("t"), entry.get("method"), entry.get("stopped")
        at = float(t) if isinstance(t, int | float) else None
        if isinstance(stopped, str):
            detail = Detail(printable(stopped, limit=500))
            yield Row(Kind.EXCHANGE, at, "no HTTP summary", party=Party.PROXY, details=(detail,))
        elif isinstance(method, str):
            asked = Detail(f"{_name(method)} {printable(str(entry.get('target')), limit=500)}")
            yield Row(Kind.EXCHANGE, at, "HTTP", party=Party.PROXY, details=(asked, *_answer(entry, at)))
    unwatched = recording.prelude.get("unwatched")
    if isinstance(unwatched, dict) and isinstance(t := unwatched.get("t"), int | float):
        up, down = unwatched.get("from_client"), unwatched.get("from_target")
        text = f"passed on by the kernel from byte {up} of the client and byte {down} of the target on"
        yield Row(Kind.DATA, float(t), "not watched", party=Party.PROXY, details=(Detail(printable(text)),))


def _answer(entry: Mapping[str, object], t: float | None) -> Iterator[Detail]:
    status, length, answered = entry.get("status"), entry.get("answer_bytes"), entry.get("answered")
    if not isinstance(status, int):
        yield Detail("no answer", tone=Tone.TROUBLE)
        return
    yield Detail(f"{status}, {length} bytes" if isinstance(length, int) else str(status))
    if isinstance(answered, int | float) and t is not None:
        yield Detail(f"after {_milliseconds(max(0.0, answered - t))} ms")


def _problem(leg: Leg, problem: Problem, text: str) -> Row:
    details = (Detail(printable(text, limit=500), tone=Tone.TROUBLE),)
    party = party_of(leg.role, problem.sender)
    return Row(Kind.PROBLEM, problem.t, "problem", leg.role, party=party, details=details, tone=Tone.TROUBLE)


def _message(leg: Leg, reading: LegReading, read: ReadMessage, verdict: Verification | None) -> Row:
    message = read.message
    alert = message.content is Content.ALERT
    details = [*_details(read, reading), *_verdict(verdict)]
    if read.value is None and message.encrypted and message.told is None:
        details.append(Detail("not opened"))
    if message.raw and not message.complete:
        details.append(Detail(f"only {len(message.raw)} of {message.length} bytes", tone=Tone.TROUBLE))
    return Row(
        Kind.MESSAGE,
        message.t,
        _name(read.type),
        leg.role,
        message.sender,
        encrypted=message.encrypted,
        length=message.length if message.told is None else None,
        details=tuple(details),
        tone=Tone.ALERT if alert else Tone.TITLE,
    )


def _data(leg: Leg, side: Side, count: DataCount) -> Row:
    opened = leg.role is not LegRole.THROUGH or any(message.encrypted and message.form for message in leg.messages)
    records = f"{count.records} record{'s' * (count.records != 1)}"
    details = [Detail(f"{records}, {count.length} bytes")]
    if count.first is not None and count.last is not None and count.last > count.first:
        details.append(Detail(f"until {_milliseconds(count.last)} ms"))
    title = "application_data" if opened else "encrypted records"
    return Row(Kind.DATA, count.first, title, leg.role, side, encrypted=True, details=tuple(details))


def _end(leg: Leg, end: End) -> Row:
    party = party_of(leg.role, end.sender)
    match end.how:
        case Ending.FIN:
            return Row(Kind.END, end.t, "closed", leg.role, end.sender, details=(Detail("TCP FIN"),))
        case Ending.RESET:
            details = (Detail("TCP RST", tone=Tone.TROUBLE),)
            return Row(Kind.END, end.t, "reset", leg.role, end.sender, details=details, tone=Tone.TROUBLE)
        case Ending.SILENT:
            details = (Detail("nothing more until its time was up", tone=Tone.TROUBLE),)
            return Row(Kind.END, end.t, "silence", leg.role, party=party, details=details, tone=Tone.TROUBLE)
        case Ending.STOPPED:
            return Row(
                Kind.END, end.t, "stopped", leg.role, party=Party.PROXY, details=(Detail("ended by countersign"),)
            )


def _failure(failure: Failure) -> Row:
    text = Detail(printable(failure.text, limit=500), tone=Tone.TROUBLE)
    return Row(
        Kind.FAILURE, failure.t, _name(failure.code), failure.leg, party=failure.by, details=(text,), tone=Tone.BAD
    )


def _fault_time(fault: Mapping[str, object], leg: Leg) -> float:
    t, number = fault.get("t"), fault.get("message")
    if isinstance(t, int | float):
        return float(t)
    if isinstance(number, int) and 0 <= number < len(leg.messages):
        return leg.messages[number].t
    return 0.0


# -- what a message says -----------------------------------------------------------------------------------------


def _details(read: ReadMessage, reading: LegReading) -> Iterable[Detail]:
    if not read.message.complete:
        return _cut_short(read)
    if read.value is None and read.message.told is not None:
        return _told(read, reading)
    match value := read.value:
        case ClientHello():
            return _client_hello(read.message.form)
        case Sslv2ClientHello():
            return [Detail("SSLv2 form"), Detail(names.version_name(value.version))]
        case ServerHello() | HelloRetryRequest():
            return _server_hello(value, reading)
        case EncryptedExtensions():
            early = (
                [Detail("early data accepted")] if any(isinstance(one, EarlyData) for one in value.extensions) else []
            )
            return [Detail(f"ALPN {_name(reading.alpn)}" if reading.alpn else "no ALPN"), *early]
        case Certificate() | Certificate13() | CompressedCertificate():
            return [Detail(_chain(_sent_in(read, reading)))]
        case CertificateStatus():
            return [Detail(f"OCSP response, {len(value.response)} bytes")]
        case ServerKeyExchange():
            signature = value.signature
            scheme = [_scheme(signature.algorithm)] if isinstance(signature, Signature) else []
            return [*([Detail(_name(reading.group))] if reading.group else []), *scheme]
        case CertificateRequest10():
            return _authorities(_texts(value.certificate_authorities))
        case CertificateRequest12():
            return [_schemes(value.signature_algorithms), *_authorities(_texts(value.certificate_authorities))]
        case CertificateRequest13():
            return _certificate_request(value.extensions)
        case CertificateVerify():
            return [_scheme(value.algorithm)]
        case NewSessionTicket():
            return [Detail(f"lifetime {value.ticket_lifetime_hint} s")]
        case NewSessionTicket13():
            return [Detail(f"lifetime {value.ticket_lifetime} s")]
        case KeyUpdate():
            return [Detail(names.KEY_UPDATE_REQUESTS.get(value.request_update, str(value.request_update)))]
        case Alert():
            words = f"{names.alert_level_name(value.level)}: {names.alert_name(value.description)}"
            return [Detail(words, tone=Tone.ALERT)]
        case _:
            return []


def _told(read: ReadMessage, reading: LegReading) -> Iterator[Detail]:
    """What a log told and no typed form can hold."""
    sent = _sent_in(read, reading)
    if sent:
        yield Detail(_chain(sent))
    told = read.message.told
    if told is not None and told.authorities is not None:
        yield from _authorities(told.authorities)


def _sent_in(read: ReadMessage, reading: LegReading) -> list[CertificateFacts]:
    return [sent.facts for sent in reading.certificates if sent.message == read.number]


def _cut_short(read: ReadMessage) -> Iterator[Detail]:
    """Of a message that is not all there nothing that it seems to lack is said."""
    if read.message.raw:
        yield Detail(f"cut short: {len(read.message.raw)} of {read.message.length} bytes")
    if isinstance(read.value, ClientHello) and (sni := summarize_client_hello(read.message.raw).sni) is not None:
        yield Detail(f"SNI {_name(sni)}")


def _client_hello(raw: bytes) -> Iterator[Detail]:
    hello = summarize_client_hello(raw)
    yield Detail(", ".join(names.version_name(one) for one in hello.versions if not names.is_grease(one)))
    yield Detail(f"SNI {_name(hello.sni)}" if hello.sni is not None else "no SNI")
    yield Detail("ALPN " + ", ".join(map(_name, hello.alpn_offered)) if hello.alpn_offered else "no ALPN")
    suites = [one for one in hello.ciphers if not names.is_grease(one) and one not in names.SIGNALLING_SUITES]
    yield Detail(f"{len(suites)} suite{'s' * (len(suites) != 1)}")
    groups = [one for one in hello.groups if not names.is_grease(one)]
    if groups:
        yield Detail(f"groups {listed([names.group_name(one) for one in groups], 6)}")
    shares = [one for one in hello.key_share_groups if not names.is_grease(one)]
    if shares:
        yield Detail("key shares " + ", ".join(map(names.group_name, shares)))
    if names.POST_QUANTUM_GROUPS.intersection(groups):
        yield Detail("post-quantum")
    if hello.psk_identities:
        yield Detail("offers to resume")
    if hello.has_early_data:
        yield Detail("early data")
    if hello.has_encrypted_client_hello:
        yield Detail("encrypted hello (ECH)")


def _server_hello(hello: ServerHello | HelloRetryRequest, reading: LegReading) -> Iterator[Detail]:
    extensions = hello.extensions or ()
    chosen = [one.selected_version for one in extensions if isinstance(one, SelectedVersion)]
    yield Detail(names.version_name(chosen[0] if chosen else hello.legacy_version))
    yield Detail(names.cipher_suite_name(hello.cipher_suite))
    for one in extensions:
        if isinstance(one, KeyShareChosen):
            yield Detail(f"group {names.group_name(one.group)}")
        elif isinstance(one, KeyShareWanted):
            yield Detail(f"wants a key share of {names.group_name(one.selected_group)}")
    if isinstance(hello, HelloRetryRequest):
        return
    if any(isinstance(one, PreSharedKeyChosen) for one in extensions) or (not chosen and reading.resumed):
        yield Detail("resumed")
    if not chosen and reading.alpn:
        yield Detail(f"ALPN {_name(reading.alpn)}")


def _certificate_request(extensions: tuple[Extension, ...]) -> Iterator[Detail]:
    for one in extensions:
        if isinstance(one, SignatureAlgorithms):
            yield _schemes(one.schemes)
    asked = [one.authorities for one in extensions if isinstance(one, CertificateAuthorities)]
    yield from _authorities(_texts(asked[0]) if asked else ())


def _texts(asked: tuple[bytes, ...]) -> list[str]:
    return [distinguished_name(der)["text"] or f"unreadable, {len(der)} bytes" for der in asked]


def _authorities(asked: Sequence[str]) -> Iterator[Detail]:
    if not asked:
        yield Detail("no CA names: any issuer")
        return
    yield Detail(f"{len(asked)} CA name{'s' * (len(asked) != 1)}:")
    for text in asked[:_MOST_NAMES]:
        yield Detail(_name(text), alone=True)
    if len(asked) > _MOST_NAMES:
        yield Detail(f"and {len(asked) - _MOST_NAMES} more", alone=True)


def _schemes(schemes: tuple[int, ...]) -> Detail:
    return Detail(f"{len(schemes)} signature algorithm{'s' * (len(schemes) != 1)}")


def _scheme(algorithm: int) -> Detail:
    return Detail(names.signature_scheme_name(algorithm))


def _chain(certificates: Sequence[CertificateFacts]) -> str:
    """``2 certificates: leaf <- intermediate <- root (not sent)``; a break where one did not issue the one before."""
    if not certificates:
        return "empty"
    facts = certificates[:_MOST_CERTIFICATES]
    if facts[0].bare_key:
        return f"the public key alone, {facts[0].key}"
    text = _common_name(facts[0].subject)
    for below, above in pairwise(facts):
        joined = below.issuer is not None and below.issuer == above.subject
        text += " ← " if joined else f" ← {_common_name(below.issuer)} (not sent); then "
        text += _common_name(above.subject)
    if len(certificates) > _MOST_CERTIFICATES:
        text += f" and {len(certificates) - _MOST_CERTIFICATES} more"
    elif not facts[-1].self_issued:
        text += f" ← {_common_name(facts[-1].issuer)} (not sent)"
    elif len(facts) == 1:
        text += ", self-issued"
    return f"{len(certificates)} certificate{'s' * (len(certificates) != 1)}: {text}"


def _common_name(distinguished: str | None) -> str:
    """The common name in an RFC 4514 text, else all of it."""
    if not distinguished:
        return "(no name)" if distinguished is not None else "(unreadable)"
    found = re.search(r"(?:^|[,+])CN=((?:\\.|[^\\,+])*)", distinguished)
    return _name(found[1] if found and found[1] else distinguished)


def _verdict(verification: Verification | None) -> Iterator[Detail]:
    if verification is None:
        return
    if verification.trusted:
        yield Detail("trusted", tone=Tone.GOOD)
        return
    where = "" if verification.depth is None else f" at depth {verification.depth}"
    let = "" if verification.enforced else ", let pass"
    yield Detail(f"not trusted: {_name(verification.error or 'no reason given')}{where}{let}", tone=Tone.BAD)


def _carries_server_chain(read: ReadMessage) -> bool:
    chain = isinstance(read.value, Certificate | Certificate13 | CompressedCertificate)
    return chain and read.message.sender is Side.SERVER


def _name(text: str | None) -> str:
    return printable(text or "", limit=_LONGEST_NAME)


# -- how it is drawn ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Glyphs:
    life: str
    line: str  # a message in clear
    double: str  # an encrypted one
    dotted: str  # application data
    right: str
    left: str
    reset: str
    tees: Mapping[str, tuple[str, str, str]]  # by the line: where it starts going right, going left, where it crosses
    mark: str
    lock: str
    issued_by: str


_BOX = _Glyphs(
    "│", "─", "═", "╌", "►", "◄", "×",
    {"─": ("├", "┤", "┼"), "═": ("╞", "╡", "╪"), "╌": ("├", "┤", "┼")},
    "●", "🔒", "←",
)  # fmt: skip
_ASCII = _Glyphs(
    "|", "-", "=", ".", ">", "<", "x",
    {"-": ("|", "|", "+"), "=": ("|", "|", "+"), ".": ("|", "|", "+")},
    "*", "#", "<-",
)  # fmt: skip

_NARROWEST = 64
_TITLE = 20
_LENGTH = 6
_BESIDE = 44  # columns that details need to stand beside a message rather than below it


def render_ladder(recording: Recording, *, width: int | None = None, ascii: bool = False) -> str:  # noqa: A002
    """The ladder as plain text, a newline at the end; ``ascii`` keeps to ASCII throughout."""
    return "".join(f"{line.text}\n" for line in ladder(recording, width=width, ascii=ascii))


def ladder(
    recording: Recording,
    *,
    width: int | None = None,
    ascii: bool = False,  # noqa: A002 - the word that a user knows
) -> list[LadderLine]:
    """The ladder's lines, at most ``width`` columns each (100 unless told; not below 64); the outcome comes last."""
    happened = rows(recording)
    drawing = _Drawing(happened, max(width or 100, _NARROWEST), _ASCII if ascii else _BOX)
    lines = [*drawing.head(recording)]
    for row in happened:
        lines += drawing.row(row)
    return [*lines, *drawing.outcome(recording)]


class _Drawing:
    """Columns: time, three lifelines with a lane between each two, then what is said."""

    def __init__(self, happened: list[Row], width: int, glyphs: _Glyphs) -> None:
        self._width = width
        self._glyphs = glyphs
        self._time = max([6, *(len(_milliseconds(row.t)) for row in happened if row.t is not None)])
        self._lane = 9 if width < 90 else 13
        self._said = self._time + 2 * self._lane + 8
        beside = self._said + 3 + _TITLE + 1 + _LENGTH + 2
        self._detail = beside if width - beside >= _BESIDE else self._said + 5

    def head(self, recording: Recording) -> Iterator[LadderLine]:
        started = f"{recording.started:%Y-%m-%d %H:%M:%S} {recording.started.tzname()}"
        about = [
            f"recording {recording.id}" + (f" ({_name(recording.label)})" if recording.label else ""),
            f"{recording.mode}, {recording.action}",
            *([f"scenario {_name(recording.scenario)}"] if recording.scenario else []),
            started,
        ]
        ends = [f"client {_name(recording.client or 'unknown')}", f"target {_name(recording.target or 'unknown')}"]
        if recording.sni is not None:
            ends.append(f"SNI {_name(recording.sni)}")
        for texts in (about, ends):
            for parts in self._flow([Detail(printable(text), tone=Tone.PLAIN) for text in texts], self._width):
                yield LadderLine(tuple(parts))
        yield LadderLine(())
        middle, last = self._lane + 1, 2 * self._lane + 2
        names_above = f"{'client':<{middle - 2}}{'proxy':<5}{'target':>{last - middle - 2}}"
        headings = f"{'ms':>{self._time}}  {names_above}     {'message':<{_TITLE}} {'bytes':>{_LENGTH}}"
        legend = f"  {self._glyphs.lock} is encrypted"
        if columns(headings + legend) <= self._width:
            headings += legend
        yield LadderLine((Part(headings, Tone.LANE),))

    def row(self, row: Row) -> Iterator[LadderLine]:
        lock = self._glyphs.lock if row.encrypted else ""
        title = _cut(self._safe(row.title), self._width - self._said - 3)[0]
        first = [
            Part(f"{_milliseconds(row.t):>{self._time}}  " if row.t is not None else " " * (self._time + 2), Tone.TIME),
            *self._lanes(row),
            Part("  "),
            Part(lock + " " * (3 - columns(lock)), Tone.LOCK),
            Part(title.ljust(_TITLE), row.tone),
        ]
        if row.length is not None:
            first.append(Part(f" {row.length:>{_LENGTH}}", Tone.LENGTH))
        flowed = self._flow(row.details, self._width - self._detail)
        used = sum(columns(part.text) for part in first)
        if flowed and used + 2 <= self._detail:
            first += [Part(" " * (self._detail - used)), *flowed.pop(0)]
        yield LadderLine(_merged(first), row)
        idle = [Part(" " * (self._time + 2)), *self._lanes(None)]
        used = sum(columns(part.text) for part in idle)
        for parts in flowed:
            yield LadderLine(_merged([*idle, Part(" " * (self._detail - used)), *parts]), row)

    def outcome(self, recording: Recording) -> Iterator[LadderLine]:
        outcome = recording.outcome
        tone = {Status.ESTABLISHED: Tone.GOOD, Status.OPEN: Tone.PLAIN, Status.NOT_TLS: Tone.PLAIN}.get(
            outcome.status, Tone.BAD
        )
        text = printable(outcome.text, limit=2_000) or outcome.status.value
        row = Row(Kind.OUTCOME, None, outcome.status.value, outcome.leg, details=(Detail(text, tone=tone),), tone=tone)
        yield LadderLine((), row)
        for parts in self._flow(row.details, self._width):
            yield LadderLine(tuple(parts), row)

    def _lanes(self, row: Row | None) -> list[Part]:
        """The three lifelines, with the row's arrow or mark."""
        glyphs, lane = self._glyphs, self._lane
        stations = (0, lane + 1, 2 * lane + 2)
        cells = [Part(" ", Tone.LANE)] * (stations[2] + 1)
        for at in stations:
            cells[at] = Part(glyphs.life, Tone.LANE)
        if row is None:
            return cells
        tone = Tone.ARROW if row.tone is Tone.TITLE else row.tone
        if row.sender is None or row.leg is None:
            at = {Party.CLIENT: 0, Party.TARGET: stations[2]}.get(row.party or Party.PROXY, stations[1])
            cells[at] = Part(glyphs.mark, tone)
            return cells
        start = stations[1] if row.leg is LegRole.SERVER else stations[0]
        end = stations[1] if row.leg is LegRole.CLIENT else stations[2]
        line = glyphs.dotted if row.kind is Kind.DATA else glyphs.double if row.encrypted else glyphs.line
        to_right, to_left, crossing = glyphs.tees[line]
        cells[start + 1 : end] = [Part(line, tone)] * (end - start - 1)
        if row.leg is LegRole.THROUGH:
            cells[stations[1]] = Part(crossing, tone)
        reset = row.tone is Tone.TROUBLE and row.kind is Kind.END
        if row.sender is Side.CLIENT:
            cells[start], cells[end - 1] = Part(to_right, tone), Part(glyphs.reset if reset else glyphs.right, tone)
        else:
            cells[end], cells[start + 1] = Part(to_left, tone), Part(glyphs.reset if reset else glyphs.left, tone)
        return cells

    def _flow(self, details: Iterable[Detail], room: int) -> list[list[Part]]:
        """The details in lines of ``room`` columns, broken between words where it can be."""
        lines: list[list[Part]] = []
        left = 0
        alone = True
        for number, detail in enumerate(details):
            text = self._safe(detail.text)
            if detail.alone or alone:
                lines.append([])
                left = room
                text = f"- {text}" if detail.alone else text
            elif number:
                lines[-1].append(Part(";" if left else "", detail.tone))
                left -= 1
            alone = detail.alone
            for word in text.split(" "):
                for piece in _cut(word, room):
                    gap = " " if lines[-1] else ""
                    if columns(piece) + len(gap) > left:
                        lines.append([])
                        left, gap = room, ""
                    lines[-1].append(Part(gap + piece, detail.tone))
                    left -= columns(piece) + len(gap)
        return lines

    def _safe(self, text: str) -> str:
        if self._glyphs is _BOX:
            return text
        return printable(text.replace(_BOX.issued_by, self._glyphs.issued_by), ascii_only=True)


def _cut(word: str, room: int) -> list[str]:
    """A word in pieces that fit; most fit whole."""
    if columns(word) <= room:
        return [word]
    half = max(room // 2, 1)  # a character takes two columns at most
    return [word[start : start + half] for start in range(0, len(word), half)]


def _merged(parts: Iterable[Part]) -> tuple[Part, ...]:
    """Neighbours of the same tone as one part."""
    merged: list[Part] = []
    for part in parts:
        if merged and merged[-1].tone is part.tone:
            merged[-1] = Part(merged[-1].text + part.text, part.tone)
        else:
            merged.append(part)
    return tuple(merged)


def _milliseconds(t: float) -> str:
    return f"{t * 1000:.1f}"
