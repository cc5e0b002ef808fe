"""A recording as a ladder: client, proxy and target side by side, every message of both legs in the order of time.

It is made in two steps. :func:`rows` says what is to be seen, one :class:`Row` for each message, burst of application
data, ending, problem, fault and failure, in an order that puts causes before effects. :func:`ladder` lays the rows out
for a terminal of some width: lines of typed parts (:class:`Part`), which whoever prints them may colour. A page would
draw the same rows.

All text of a row has been through :func:`~countersign.recorder.text.printable`: names in certificates and hellos are
whatever a peer chose to send (THREATS.md T9).
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from countersign.recorder.certificates import read_certificate
from countersign.recorder.files._words import fault_text
from countersign.recorder.recording import DataCount, Ending, LegRole, Party, Recording, Status
from countersign.recorder.text import columns, printable
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

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from countersign.recorder.recording import End, Failure, Leg, Verification
    from countersign.recorder.wire.extensions import Extension
    from countersign.recorder.wire.reading import LegReading, ReadMessage

_LONGEST_NAME = 200
_MOST_NAMES = 5  # CA names that are listed
_MOST_CERTIFICATES = 10
_MOST_PROBLEMS = 20  # of a leg


class Kind(StrEnum):
    """What a row is about."""

    HEAD = "head"
    MESSAGE = "message"
    DATA = "data"
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
    timed += [(failure.t, 4, _failure(failure)) for failure in recording.failures]
    timed.sort(key=lambda entry: entry[:2])
    return [row for _, _, row in timed]


def _leg_rows(leg: Leg, reading: LegReading, problems: list[Problem]) -> Iterator[tuple[float, int, Row]]:
    last_chain = max((read.number for read in reading.messages if _carries_server_chain(read)), default=None)
    for read in reading.messages:
        verdict = leg.verification if read.number == last_chain else None
        yield read.message.t, 0, _message(leg, reading, read, verdict)
    for problem in problems[:_MOST_PROBLEMS]:
        yield problem.t, 1, _row(Kind.PROBLEM, problem.t, "problem", leg, problem.sender, str(problem), Tone.TROUBLE)
    if len(problems) > _MOST_PROBLEMS:
        t, more = problems[-1].t, f"{len(problems) - _MOST_PROBLEMS} more on this leg"
        yield t, 1, _row(Kind.PROBLEM, t, "problems", leg, problems[-1].sender, more, Tone.TROUBLE)
    for side in Side:
        if (count := leg.count(side)).records or count.length:
            yield count.first or 0.0, 2, _data(leg, side, count)
    for fault in leg.faults:
        t = _fault_time(fault, leg)
        text = Detail(_name(fault_text(fault)))
        yield t, 3, Row(Kind.FAULT, t, "fault", leg.role, party=Party.PROXY, details=(text,), tone=Tone.FAULT)
    for end in leg.ends:
        yield end.t, 5, _end(leg, end)


def _row(kind: Kind, t: float, title: str, leg: Leg, sender: Side, text: str, tone: Tone) -> Row:
    party = _party(leg.role, sender)
    return Row(kind, t, title, leg.role, party=party, details=(Detail(printable(text, limit=500)),), tone=tone)


def _message(leg: Leg, reading: LegReading, read: ReadMessage, verdict: Verification | None) -> Row:
    message = read.message
    alert = message.content is Content.ALERT
    details = [*_details(read.value, reading), *_verdict(verdict)]
    if read.value is None and message.encrypted:
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
        length=message.length,
        details=tuple(details),
        tone=Tone.ALERT if alert else Tone.TITLE,
    )


def _data(leg: Leg, side: Side, count: DataCount) -> Row:
    opened = leg.role is not LegRole.THROUGH
    records = f"{count.records} record{'s' * (count.records != 1)}"
    details = [Detail(f"{records}, {count.length} bytes")]
    if count.first is not None and count.last is not None and count.last > count.first:
        details.append(Detail(f"until {_milliseconds(count.last)} ms"))
    title = "application_data" if opened else "encrypted records"
    return Row(Kind.DATA, count.first, title, leg.role, side, encrypted=True, details=tuple(details))


def _end(leg: Leg, end: End) -> Row:
    party = _party(leg.role, end.sender)
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
            return Row(Kind.END, end.t, "stopped", leg.role, party=Party.PROXY, details=(Detail("ended by countersign"),))


def _failure(failure: Failure) -> Row:
    text = Detail(printable(failure.text, limit=500), tone=Tone.TROUBLE)
    return Row(Kind.FAILURE, failure.t, _name(failure.code), failure.leg, party=failure.by, details=(text,), tone=Tone.BAD)


def _party(role: LegRole, side: Side) -> Party:
    """Who a side of a leg is."""
    if side is Side.CLIENT:
        return Party.PROXY if role is LegRole.SERVER else Party.CLIENT
    return Party.PROXY if role is LegRole.CLIENT else Party.TARGET


def _fault_time(fault: Mapping[str, object], leg: Leg) -> float:
    t, number = fault.get("t"), fault.get("message")
    if isinstance(t, int | float):
        return float(t)
    if isinstance(number, int) and 0 <= number < len(leg.messages):
        return leg.messages[number].t
    return 0.0


# -- what a message says -----------------------------------------------------------------------------------------


def _details(value: object, reading: LegReading) -> Iterable[Detail]:
    match value:
        case ClientHello():
            return _client_hello(value)
        case Sslv2ClientHello():
            return [Detail("SSLv2 form"), Detail(names.version_name(value.version))]
        case ServerHello() | HelloRetryRequest():
            return _server_hello(value, reading)
        case EncryptedExtensions():
            early = [Detail("early data accepted")] if any(isinstance(one, EarlyData) for one in value.extensions) else []
            return [Detail(f"ALPN {_name(reading.alpn)}" if reading.alpn else "no ALPN"), *early]
        case Certificate() | Certificate13() | CompressedCertificate():
            return [Detail(_chain(value.certificates))]
        case CertificateStatus():
            return [Detail(f"OCSP response, {len(value.response)} bytes")]
        case ServerKeyExchange():
            signature = value.signature
            scheme = [_scheme(signature.algorithm)] if isinstance(signature, Signature) else []
            return [*([Detail(_name(reading.group))] if reading.group else []), *scheme]
        case CertificateRequest10():
            return _authorities(value.certificate_authorities)
        case CertificateRequest12():
            return [_schemes(value.signature_algorithms), *_authorities(value.certificate_authorities)]
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


def _client_hello(value: ClientHello) -> Iterator[Detail]:
    hello = summarize_client_hello(value.build())
    yield Detail(", ".join(names.version_name(one) for one in hello.versions if not names.is_grease(one)))
    yield Detail(f"SNI {_name(hello.sni)}" if hello.sni is not None else "no SNI")
    yield Detail("ALPN " + ", ".join(map(_name, hello.alpn_offered)) if hello.alpn_offered else "no ALPN")
    suites = [one for one in hello.ciphers if not names.is_grease(one) and one not in names.SIGNALLING_SUITES]
    yield Detail(f"{len(suites)} suite{'s' * (len(suites) != 1)}")
    groups = [one for one in hello.groups if not names.is_grease(one)]
    if groups:
        listed = ", ".join(map(names.group_name, groups[:6])) + (f" and {len(groups) - 6} more" if groups[6:] else "")
        yield Detail(f"groups {listed}")
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
    yield from _authorities(asked[0] if asked else ())


def _authorities(asked: tuple[bytes, ...]) -> Iterator[Detail]:
    if not asked:
        yield Detail("no CA names: any issuer")
        return
    yield Detail(f"{len(asked)} CA name{'s' * (len(asked) != 1)}:")
    for der in asked[:_MOST_NAMES]:
        yield Detail(_name(distinguished_name(der)["text"] or f"unreadable, {len(der)} bytes"), alone=True)
    if len(asked) > _MOST_NAMES:
        yield Detail(f"and {len(asked) - _MOST_NAMES} more", alone=True)


def _schemes(schemes: tuple[int, ...]) -> Detail:
    return Detail(f"{len(schemes)} signature algorithm{'s' * (len(schemes) != 1)}")


def _scheme(algorithm: int) -> Detail:
    return Detail(names.signature_scheme_name(algorithm))


def _chain(certificates: tuple[bytes, ...]) -> str:
    """``2 certificates: leaf <- intermediate <- root (not sent)``; a break where one did not issue the one before."""
    if not certificates:
        return "empty"
    facts = [read_certificate(der) for der in certificates[:_MOST_CERTIFICATES]]
    text = _common_name(facts[0].subject)
    for below, above in zip(facts, facts[1:], strict=False):
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
