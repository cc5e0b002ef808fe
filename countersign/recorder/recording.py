"""A recording: what is kept of one session, and its JSON form.

A :class:`Recording` is frozen data: the messages of each leg as bytes, how each side stopped, what the proxy itself
noticed, and the judgement (:mod:`countersign.recorder.outcome`). What the messages *say* is not stored in it: it is
read from the bytes each time, here for the JSON form, through :mod:`countersign.recorder.wire.reading`.

The JSON form is versioned by its ``schema`` number, described by ``schema/recording-1.json`` and the same wherever
the project shows a recording. Keys are only ever added to it.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from countersign.errors import UserError
from countersign.recorder.wire import codes
from countersign.recorder.wire.events import Content, EncryptedRecord, Message, Problem, Side
from countersign.recorder.wire.reading import LegReading, ReadMessage, SentCertificate, read_leg
from countersign.recorder.wire.told import Told

if TYPE_CHECKING:
    from collections.abc import Mapping

    from countersign.recorder.wire.secrets import Secret

SCHEMA = 1


class LegRole(StrEnum):
    """Which TLS conversation of the session: with the client, with the target, or the one that passed through."""

    CLIENT = "client"
    SERVER = "server"
    THROUGH = "through"


class Party(StrEnum):
    """Who can break a handshake."""

    CLIENT = "client"
    PROXY = "proxy"
    TARGET = "target"
    UPSTREAM_PROXY = "upstream-proxy"
    NETWORK = "network"
    UNKNOWN = "unknown"


class Status(StrEnum):
    """How a session ended; ``open`` while it has not."""

    ESTABLISHED = "established"
    ABANDONED = "abandoned"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    NOT_TLS = "not-tls"
    OPEN = "open"


class FailureCode(StrEnum):
    """What went wrong, in one stable word, where no message on the wire tells. A word that is not one of these reads
    as :attr:`OTHER`: a newer countersign wrote it.
    """

    CLIENT_NOT_ALLOWED = "client-not-allowed"
    """The client's address is not among those that may use the proxy."""
    TARGET_NOT_ALLOWED = "target-not-allowed"
    """The client asked for what is not dialled for anybody: the proxy itself, or a metadata service."""
    REFUSED_BY_RULE = "refused-by-rule"
    """A rule of the policy refuses the connection."""
    SILENT = "silent"
    """The client, or the server that was probed, said nothing, or not enough, before its time was up."""
    CLIENT_LEFT = "client-left"
    """The client went before the proxy had answered its ClientHello."""

    NO_REQUEST = "no-request"
    """The client closed without asking for a target."""
    NO_TARGET = "no-target"
    """The proxy has no target for the server name that the client asked for."""
    BAD_REQUEST = "bad-request"
    """The client asked for a target in a way that cannot be understood."""
    UNSUPPORTED_REQUEST = "unsupported-request"
    """The client asked for something else than a connection to a target."""
    NOT_AUTHENTICATED = "not-authenticated"
    """The client showed no user name and password that the proxy knows."""
    NO_PROXY_HEADER = "no-proxy-header"
    """The connection does not begin with the header of the PROXY protocol, or with a broken one."""

    NO_HELLO = "no-hello"
    """The client closed, or sent something else, where a ClientHello belongs."""
    CUT_HELLO = "cut-hello"
    """The client's bytes ended in the middle of its ClientHello."""
    HELLO_TOO_LONG = "hello-too-long"
    """The ClientHello was not whole when it had taken more bytes or records than any client needs."""
    BAD_HELLO = "bad-hello"
    """The ClientHello cannot be read, or names a host that can be none."""
    UNSUPPORTED_OFFER = "unsupported-offer"
    """OpenSSL speaks nothing of what the client offers."""

    UNKNOWN_HOST = "unknown-host"
    """The target's name has no address."""
    RESOLVER_TIMEOUT = "resolver-timeout"
    """The target's name was not resolved in time."""
    RESOLVER_BUSY = "resolver-busy"
    """So many names were being resolved that this one was not begun."""
    DIAL_REFUSED = "dial-refused"
    """The target refused the TCP connection."""
    DIAL_TIMEOUT = "dial-timeout"
    """No TCP connection to the target came about in time."""
    DIAL_RESET = "dial-reset"
    """The target reset the TCP connection as soon as it stood."""
    UNREACHABLE = "unreachable"
    """The network has no way to the target."""
    NO_DESCRIPTORS = "no-descriptors"
    """The proxy has no file descriptor left for a connection to the target."""
    UPSTREAM_REFUSED = "upstream-refused"
    """The upstream proxy gives no connection to the target."""
    UPSTREAM_NOT_AUTHENTICATED = "upstream-not-authenticated"
    """The upstream proxy does not take what it was shown to authenticate, or wants something that there is not."""
    UPSTREAM_BROKEN = "upstream-broken"
    """The upstream proxy closed in mid-dialogue, or speaks something else."""
    BROKEN_ANSWER = "broken-answer"
    """The target's answer to a plain HTTP request ends in its middle, or breaks its own framing."""

    NOT_TLS = "not-tls"
    """The target's answer is no TLS."""
    PLAIN_HTTP = "plain-http"
    """The target's answer is no TLS, and HTTP."""
    UNTRUSTED = "untrusted"
    """The target's chain does not lead to a root that is trusted."""
    NOT_VALID_NOW = "not-valid-now"
    """A certificate of the target's chain has expired or is not valid yet."""
    WRONG_NAME = "wrong-name"
    """The target's certificate is for other names."""
    BAD_CHAIN = "bad-chain"
    """The target's chain is refused for another reason: its usages, its strength, its form."""
    VERSION_NOT_OFFERED = "version-not-offered"
    """The target answered with a version that was not offered."""
    NOTHING_SHARED = "nothing-shared"
    """There is no version, suite, group or protocol that both sides speak."""
    NO_RENEGOTIATION = "no-renegotiation"
    """The client does not renegotiate, and the target wants to."""
    LEFT_TLS = "left-tls"
    """A peer went on in clear behind the handshake."""
    BROKEN_MESSAGE = "broken-message"
    """OpenSSL cannot take what the peer sent."""
    TOO_COSTLY = "too-costly"
    """What the peer showed would take too long to work with: its keys, its chain, its parameters."""
    CANNOT_BEGIN = "cannot-begin"
    """OpenSSL cannot begin a handshake as it would have to."""
    CANNOT_MIMIC = "cannot-mimic"
    """No certificate like the target's can be made or served."""
    CLIENT_CERTIFICATE = "client-certificate"
    """The client's certificate is not what was ordered for this connection, or there is none."""
    CA_EXPIRED = "ca-expired"
    """The inspection CA is not valid now."""

    ORDERED = "ordered"
    """The proxy ended it as it was told to."""
    INTERNAL = "internal"
    """A fault of the proxy's own."""
    OTHER = "other"
    """A word of another version of countersign."""

    @classmethod
    def _missing_(cls, value: object) -> FailureCode | None:
        return cls.OTHER if isinstance(value, str) else None


NO_TLS: Final = frozenset({FailureCode.NOT_TLS, FailureCode.PLAIN_HTTP})
"""What came from the target in the place of TLS was none."""


class Ending(StrEnum):
    """How one side's bytes ended. ``silent``: a time limit passed while it was its turn; ``stopped``: we ended it."""

    FIN = "fin"
    RESET = "reset"
    SILENT = "silent"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class End:
    """How and when the bytes of one side of a leg ended."""

    t: float
    sender: Side
    how: Ending


@dataclass(frozen=True, slots=True)
class DataCount:
    """Application data that one side of a leg sent; ``first`` and ``last`` are seconds from the session's start."""

    records: int = 0
    length: int = 0
    first: float | None = None
    last: float | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong as the proxy itself noticed it, for what no message on the wire tells.

    ``text`` is the end of the sentence that :mod:`countersign.recorder.outcome` makes of it, behind who it was.
    """

    t: float
    leg: LegRole | None
    by: Party
    code: FailureCode = field(kw_only=True)
    text: str = field(kw_only=True)


@dataclass(frozen=True, slots=True)
class Verification:
    """What the proxy thought of the target's chain. ``error`` has OpenSSL's words, ``depth`` counts from the leaf."""

    trusted: bool
    error: str | None = None
    depth: int | None = None
    enforced: bool = True


@dataclass(frozen=True, slots=True)
class Leg:
    """One TLS conversation. ``data`` maps each side to the application data that it sent.

    ``encrypted_records`` are the first protected records of a leg without keys that may be handshake or alert.
    ``faults`` (what was broken on purpose) and ``revocation`` (what was asked of OCSP responders) come from whoever
    broke and asked: the proxy does neither by itself.
    """

    role: LegRole
    messages: tuple[Message, ...] = ()
    data: Mapping[Side, DataCount] = field(default_factory=dict)
    ends: tuple[End, ...] = ()
    encrypted_records: tuple[EncryptedRecord, ...] = ()
    secrets: tuple[Secret, ...] = ()
    verification: Verification | None = None
    faults: tuple[Mapping[str, Any], ...] = ()
    revocation: tuple[Mapping[str, Any], ...] = ()

    def read(self) -> LegReading:
        """What the messages say; decoded anew at each call."""
        return read_leg(self.messages)

    def count(self, side: Side) -> DataCount:
        return self.data.get(side, DataCount())

    @property
    def echoed(self) -> bool:
        """Whether the first thing that the server said is the client's own ClientHello, which no TLS server sends."""
        hello = next((one for one in self.messages if one.sender is Side.CLIENT), None)
        answer = next((one for one in self.messages if one.sender is Side.SERVER), None)
        if hello is None or answer is None or not answer.is_handshake(codes.CLIENT_HELLO):
            return False
        return bool(answer.raw) and answer.raw == hello.raw


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the session ended, who broke it and on which leg; ``text`` is one plain sentence."""

    status: Status
    broken_by: Party | None = None
    leg: LegRole | None = None
    alert: str | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class Recording:
    """One session, from accept to close. ``problems`` pairs each with the leg that it was noticed on.

    ``scenario`` and ``step`` name the scenario that the session ran under, ``mtls`` says how a client certificate was
    dealt with, ``http`` what was asked in clear, ``findings`` what was concluded: empty where nobody has set them.
    ``log`` is set where it was imported from a program's log: where it stood, and what else was said there.
    """

    id: str
    started: datetime
    mode: str
    action: str
    ended: datetime | None = None
    scenario: str | None = None
    step: int = 0
    client: str | None = None
    target: str | None = None
    sni: str | None = None
    label: str | None = None
    outcome: Outcome = Outcome(Status.OPEN, text="The session is still open.")
    from_client: int = 0
    from_target: int = 0
    legs: tuple[Leg, ...] = ()
    problems: tuple[tuple[LegRole, Problem], ...] = ()
    failures: tuple[Failure, ...] = ()
    prelude: Mapping[str, Any] = field(default_factory=dict)
    http: tuple[Mapping[str, Any], ...] = ()
    mtls: Mapping[str, Any] = field(default_factory=dict)
    not_mirrored: tuple[str, ...] = ()
    findings: tuple[Mapping[str, Any], ...] = ()
    log: Mapping[str, Any] = field(default_factory=dict)

    def leg(self, role: LegRole) -> Leg | None:
        return next((leg for leg in self.legs if leg.role is role), None)


# -- to JSON -----------------------------------------------------------------------------------------------------


def to_json(recording: Recording) -> dict[str, Any]:
    """The whole recording as JSON-able values, messages decoded, in the form of ``schema/recording-1.json``."""
    readings = [leg.read() for leg in recording.legs]
    read_problems = [
        (leg.role, problem)
        for leg, reading in zip(recording.legs, readings, strict=True)
        for problem in reading.problems
    ]
    return {
        **summary(recording),
        "legs": [_leg_json(leg, reading) for leg, reading in zip(recording.legs, readings, strict=True)],
        "problems": [_problem_json(role, problem) for role, problem in (*recording.problems, *read_problems)],
        "failures": [_failure_json(failure) for failure in recording.failures],
        "prelude": dict(recording.prelude),
        "http": [dict(exchange) for exchange in recording.http],
        "mtls": dict(recording.mtls),
        "not_mirrored": list(recording.not_mirrored),
        "findings": [dict(finding) for finding in recording.findings],
        **({"log": dict(recording.log)} if recording.log else {}),
    }


def summary(recording: Recording) -> dict[str, Any]:
    """The recording without its legs and what hangs on them: a row of ``ls --json``."""
    outcome = recording.outcome
    return {
        "schema": SCHEMA,
        "id": recording.id,
        "started": rfc3339(recording.started),
        "ended": rfc3339(recording.ended) if recording.ended else None,
        "mode": recording.mode,
        "action": recording.action,
        "scenario": recording.scenario,
        "step": recording.step,
        "client": recording.client,
        "target": recording.target,
        "sni": recording.sni,
        "label": recording.label,
        "outcome": {
            "status": outcome.status.value,
            "broken_by": outcome.broken_by.value if outcome.broken_by else None,
            "leg": outcome.leg.value if outcome.leg else None,
            "alert": outcome.alert,
            "text": outcome.text,
        },
        "bytes": {"from_client": recording.from_client, "from_target": recording.from_target},
    }


def rfc3339(moment: datetime) -> str:
    """UTC with microseconds and ``Z`` (RFC 3339)."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _leg_json(leg: Leg, reading: LegReading) -> dict[str, Any]:
    return {
        "leg": leg.role.value,
        "version": reading.version,
        "cipher": reading.cipher,
        "group": reading.group,
        "sni": reading.sni,
        "alpn": reading.alpn,
        "resumed": reading.resumed,
        "ja3": reading.ja3,
        "ja3s": reading.ja3s,
        "ja4": reading.ja4,
        "messages": [_message_json(read) for read in reading.messages],
        "certificates": [_certificate_json(sent) for sent in reading.certificates],
        "faults": [dict(fault) for fault in leg.faults],
        "revocation": [dict(asked) for asked in leg.revocation],
        "data": {
            side.value: {"records": count.records, "bytes": count.length, "first": count.first, "last": count.last}
            for side in Side
            for count in [leg.count(side)]
        },
        "ends": [{"t": round(end.t, 6), "from": end.sender.value, "how": end.how.value} for end in leg.ends],
        "encrypted_records": [
            {
                "t": round(record.t, 6),
                "from": record.sender.value,
                "content_type": record.content_type,
                "length": record.length,
                "alert_size": record.alert_size,
            }
            for record in leg.encrypted_records
        ],
        "verification": None
        if leg.verification is None
        else {
            "trusted": leg.verification.trusted,
            "error": leg.verification.error,
            "depth": leg.verification.depth,
            "enforced": leg.verification.enforced,
        },
        "secrets": [secret.label for secret in leg.secrets],
    }


def _message_json(read: ReadMessage) -> dict[str, Any]:
    message, told = read.message, read.message.told
    document = {
        "n": read.number,
        "t": round(message.t, 6),
        "from": message.sender.value,
        "type": read.type,
        "code": message.code,
        "content": message.content.value,
        "encrypted": message.encrypted,
        "length": message.length if told is None else None,
        "sha256": message.sha256 if told is None else None,
        "raw": _b64(message.raw) if told is None else None,
        "fields": read.fields,
    }
    return document if told is None else document | {"told": told.to_json()}


def _certificate_json(sent: SentCertificate) -> dict[str, Any]:
    der = _b64(sent.der) if sent.told is None else None
    return {"from": sent.sender.value, **sent.facts.to_json(), "message": sent.message, "der": der}


def _problem_json(role: LegRole, problem: Problem) -> dict[str, Any]:
    return {
        "t": round(problem.t, 6),
        "leg": role.value,
        "from": problem.sender.value,
        "message": problem.message,
        "field": problem.field,
        "offset": problem.offset,
        "expected": problem.expected,
        "got": problem.got,
    }


def _failure_json(failure: Failure) -> dict[str, Any]:
    return {
        "t": round(failure.t, 6),
        "leg": failure.leg.value if failure.leg else None,
        "by": failure.by.value,
        "code": failure.code.value,
        "text": failure.text,
    }


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


# -- from JSON ---------------------------------------------------------------------------------------------------


def from_json(document: Mapping[str, Any]) -> Recording:
    """The recording that :func:`to_json` was given, but for its secrets, which JSON never holds.

    Derived values (fields, certificates, fingerprints) are not taken from the document: they are read from the raw
    messages again. Raises :class:`UserError` naming the key that is not as the schema says.
    """
    if document.get("schema") != SCHEMA:
        raise UserError(
            f"cannot read the recording: its schema is {document.get('schema')!r}, this countersign reads {SCHEMA}"
        )
    try:
        outcome = document["outcome"]
        read_problem_keys = {
            (leg["leg"], entry["message"], entry["field"], entry["offset"])
            for leg in document["legs"]
            for entry in _derived_problems(leg)
        }
        return Recording(
            id=str(document["id"]),
            started=_moment(document["started"]),
            ended=_moment(document["ended"]) if document["ended"] else None,
            mode=document["mode"],
            action=document["action"],
            scenario=document["scenario"],
            step=document["step"],
            client=document["client"],
            target=document["target"],
            sni=document["sni"],
            label=document["label"],
            outcome=Outcome(
                status=Status(outcome["status"]),
                broken_by=Party(outcome["broken_by"]) if outcome["broken_by"] else None,
                leg=LegRole(outcome["leg"]) if outcome["leg"] else None,
                alert=outcome["alert"],
                text=outcome["text"],
            ),
            from_client=document["bytes"]["from_client"],
            from_target=document["bytes"]["from_target"],
            legs=tuple(_leg_from_json(leg) for leg in document["legs"]),
            problems=tuple(
                (LegRole(entry["leg"]), _problem_from_json(entry))
                for entry in document["problems"]
                if (entry["leg"], entry["message"], entry["field"], entry["offset"]) not in read_problem_keys
            ),
            failures=tuple(
                Failure(
                    t=entry["t"],
                    leg=LegRole(entry["leg"]) if entry["leg"] else None,
                    by=Party(entry["by"]),
                    code=FailureCode(entry["code"]),
                    text=entry["text"],
                )
                for entry in document["failures"]
            ),
            prelude=document["prelude"],
            http=tuple(document["http"]),
            mtls=document["mtls"],
            not_mirrored=tuple(document["not_mirrored"]),
            findings=tuple(document["findings"]),
            log=document.get("log", {}),
        )
    except KeyError as missing:
        raise UserError(f"cannot read the recording: its key {missing} is missing") from None
    except (TypeError, ValueError, AttributeError, OverflowError) as wrong:
        raise UserError(f"cannot read the recording: a value is not as its schema says ({wrong})") from None


def _leg_from_json(document: Mapping[str, Any]) -> Leg:
    verification = document["verification"]
    return Leg(
        role=LegRole(document["leg"]),
        messages=tuple(_message_from_json(entry) for entry in document["messages"]),
        data={
            Side(side): DataCount(entry["records"], entry["bytes"], entry["first"], entry["last"])
            for side, entry in document["data"].items()
            if entry["records"] or entry["bytes"]
        },
        ends=tuple(End(entry["t"], Side(entry["from"]), Ending(entry["how"])) for entry in document["ends"]),
        encrypted_records=tuple(
            EncryptedRecord(
                entry["t"], Side(entry["from"]), entry["content_type"], entry["length"], entry["alert_size"]
            )
            for entry in document["encrypted_records"]
        ),
        verification=None if verification is None else Verification(**verification),
        faults=tuple(document["faults"]),
        revocation=tuple(document["revocation"]),
    )


def _message_from_json(entry: Mapping[str, Any]) -> Message:
    told = entry.get("told")
    if told is not None:
        return Message(
            t=entry["t"],
            sender=Side(entry["from"]),
            content=Content(entry["content"]),
            code=entry["code"],
            encrypted=entry["encrypted"],
            length=0,
            raw=b"",
            told=Told.from_json(told),
        )
    try:
        raw = base64.b64decode(entry["raw"], validate=True)
    except binascii.Error as wrong:
        raise UserError(f"cannot read the recording: the raw bytes of message {entry['n']} are no base64") from wrong
    return Message(
        t=entry["t"],
        sender=Side(entry["from"]),
        content=Content(entry["content"]),
        code=entry["code"],
        encrypted=entry["encrypted"],
        length=entry["length"],
        raw=raw,
        digest="" if entry["sha256"] == sha256(raw).hexdigest() else entry["sha256"],
    )


def _problem_from_json(entry: Mapping[str, Any]) -> Problem:
    return Problem(
        t=entry["t"],
        sender=Side(entry["from"]),
        field=entry["field"],
        offset=entry["offset"],
        expected=entry["expected"],
        got=entry["got"],
        message=entry["message"],
    )


def _derived_problems(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The problems that reading the leg's messages gives again; the rest came from framing and must be kept."""
    reading = read_leg([_message_from_json(entry) for entry in document["messages"]])
    role = LegRole(document["leg"])
    return [_problem_json(role, problem) for problem in reading.problems]


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
