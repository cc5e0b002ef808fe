"""The way there and back: what cannot be reached, who fell silent, who hung up, and what is not TLS at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from countersign.findings.diagnosing.case import noted
from countersign.findings.diagnosing.model import Found, Severity
from countersign.recorder.outcome import is_health_check
from countersign.recorder.recording import Ending, FailureCode, LegRole, Party, Status
from countersign.recorder.wire import codes, names
from countersign.recorder.wire.events import Side
from countersign.recorder.wire.extensions import KeyShare, SupportedVersions
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from countersign.findings.diagnosing.case import Case, View

_PROBE = "probe"  # the mode of recordings of our own looks, which send nothing
_SEGMENT = 1400  # bytes of a ClientHello that surely fit one TCP segment
_BY_CODE = {
    FailureCode.CLIENT_NOT_ALLOWED: "client-not-allowed",
    FailureCode.TARGET_NOT_ALLOWED: "target-not-allowed",
    FailureCode.REFUSED_BY_RULE: "refused-by-rule",
    FailureCode.SILENT: "client-silent",
    FailureCode.CLIENT_LEFT: "client-left",
    FailureCode.NO_REQUEST: "client-left",
    FailureCode.NO_TARGET: "no-target",
    FailureCode.BAD_REQUEST: "bad-proxy-request",
    FailureCode.UNSUPPORTED_REQUEST: "bad-proxy-request",
    FailureCode.NOT_AUTHENTICATED: "proxy-authentication",
    FailureCode.NO_PROXY_HEADER: "no-proxy-header",
    FailureCode.NO_HELLO: "no-hello",
    FailureCode.CUT_HELLO: "client-left",
    FailureCode.HELLO_TOO_LONG: "hello-too-long",
    FailureCode.BAD_HELLO: "bad-hello",
    FailureCode.UNKNOWN_HOST: "unknown-host",
    FailureCode.RESOLVER_TIMEOUT: "unknown-host",
    FailureCode.RESOLVER_BUSY: "proxy-overloaded",
    FailureCode.DIAL_REFUSED: "target-refuses-tcp",
    FailureCode.DIAL_TIMEOUT: "target-unreachable",
    FailureCode.DIAL_RESET: "target-reset",
    FailureCode.UNREACHABLE: "target-unreachable",
    FailureCode.NO_DESCRIPTORS: "proxy-overloaded",
    FailureCode.UPSTREAM_REFUSED: "upstream-proxy-refused",
    FailureCode.UPSTREAM_NOT_AUTHENTICATED: "upstream-proxy-authentication",
    FailureCode.UPSTREAM_BROKEN: "upstream-proxy-broken",
    FailureCode.BROKEN_ANSWER: "target-broken-answer",
    FailureCode.NOT_TLS: "target-not-tls",
    FailureCode.PLAIN_HTTP: "target-plain-http",
    FailureCode.TOO_COSTLY: "too-costly",
    FailureCode.CANNOT_BEGIN: "proxy-cannot-speak",
    FailureCode.CANNOT_MIMIC: "cannot-mimic",
    FailureCode.CA_EXPIRED: "inspection-ca-expired",
    FailureCode.INTERNAL: "proxy-fault",
    FailureCode.BROKEN_MESSAGE: "broken-message",
    FailureCode.LEFT_TLS: "left-tls",
    FailureCode.NO_RENEGOTIATION: "no-renegotiation",
}


def conversation(case: Case) -> Iterator[Found]:
    """What went wrong on the way, that no certificate and no parameter is to blame for."""
    target = printable(case.recording.target or "the target", limit=255)
    for failure in case.recording.failures:
        kind = _BY_CODE.get(failure.code)
        if kind is None:
            continue
        who = "the proxy" if failure.by is Party.PROXY else f"the {failure.by.value}"
        text = f"{who} {failure.text}"
        if failure.code is FailureCode.SILENT and failure.by is Party.TARGET:
            kind = "target-silent"
        elif failure.code is FailureCode.SILENT and not case.recording.from_client:
            kind = "client-says-nothing"
        rank = 2 if kind == "broken-message" else 0
        yield Found(kind, text, noted(failure), rank=rank, values={"target": target, "status": "another"})
    if case.recording.outcome.status is Status.NOT_TLS:
        yield from _not_tls(case)
    for view in case.views:
        yield from _ends(case, view)


def _not_tls(case: Case) -> Iterator[Found]:
    prelude = case.recording.prelude
    if case.recording.http:
        text = f"the client sent plain HTTP requests to a proxy, which forwarded them ({len(case.recording.http)})"
        yield Found("plain-http-forwarded", text, ("what the proxy noted (http)",), Severity.NOTE)
        return
    if is_health_check(case.recording):
        text = "a load balancer connected for itself (LOCAL in its PROXY header), as its health checks do"
        yield Found("health-check", text, ("the PROXY header",), Severity.NOTE)
        return
    if "dialogue" in prelude:
        protocol = printable(str(prelude.get("protocol")), limit=40)
        text = f"the dialogue in clear ({protocol}) ended without TLS: the client did not ask for it, or was denied it"
        yield Found("stayed-in-clear", text, ("the dialogue before TLS",), rank=0)
        return
    first = prelude.get("not_tls")
    first = first if isinstance(first, dict) else {}
    words = printable(str(first.get("from_client") or ""), limit=300)
    is_http = first.get("protocol") == "http"
    kind = "client-plain-http" if is_http else "client-not-tls"
    text = "the client speaks plain HTTP to a TLS port" if is_http else "the client does not speak TLS"
    evidence = (f"the first bytes of the client{': ' if words else ''}{words}",)
    yield Found(kind, text, evidence, rank=0)


def _ends(case: Case, view: View) -> Iterator[Found]:
    """Bytes that ended, or did not come, in the middle of the handshake."""
    ended = view.ended
    if ended is None or ended.end is None or len(view.reading.handshake_finished) == 2:
        return
    if case.recording.outcome.status is not Status.FAILED:
        return
    if case.recording.outcome.broken_by is Party.UNKNOWN:
        return  # what was said last is sealed
    end, who = ended.end, view.who(ended.end.sender)
    if ended.party is Party.NETWORK:
        who = "something between the proxy and the target"
    said = [one for one in view.reading.messages if one.type != "alert"]  # Java sends one when the server has gone
    last = said[-1] if said else None
    after = f"after {last.type} of {view.who(last.message.sender)}" if last is not None else "before any message"
    evidence = view.evidence(last)
    from_server = end.sender is Side.SERVER
    if from_server and last is not None and last.type == "client_hello":
        yield from _hello_unanswered(view, end.how, evidence)
    silent = end.how is Ending.SILENT
    kind = {
        (True, Ending.SILENT): "target-silent",
        (True, Ending.RESET): "target-reset",
        (True, Ending.FIN): "target-closed",
        (False, Ending.SILENT): "client-silent",
        (False, Ending.RESET): "client-reset",
        (False, Ending.FIN): "client-left",
    }.get((from_server, end.how))
    if kind is not None:
        how = {Ending.SILENT: "fell silent", Ending.RESET: "reset the connection", Ending.FIN: "closed the connection"}
        yield Found(kind, f"{who} {how[end.how]} {after}", evidence, rank=2 if not silent else 1)


def _hello_unanswered(view: View, how: Ending, evidence: tuple[str, ...]) -> Iterator[Found]:
    """A ClientHello that got no answer: something about it was too much for what stands before the server."""
    hello = view.message("client_hello")
    if hello is None:
        return
    what = {Ending.SILENT: "no answer", Ending.RESET: "a reset", Ending.FIN: "a closed connection"}.get(
        how, "no answer"
    )
    length = hello.message.length
    shares = view.extension(KeyShare)
    hybrid = [one.group for one in shares.entries if one.group in names.POST_QUANTUM_GROUPS] if shares else []
    if length > _SEGMENT:
        why = f" with a post-quantum key share ({names.group_name(hybrid[0])})" if hybrid else ""
        text = f"a ClientHello of {length} bytes{why}, which takes more than one TCP segment, got {what}"
        yield Found("large-hello-dropped", text, evidence, rank=1, values={"length": str(length)})
    versions = view.extension(SupportedVersions)
    if versions is not None and names.TLS13 in versions.versions:
        text = f"a ClientHello that offers TLS 1.3 got {what}: some devices do not let that through"
        yield Found("tls13-intolerance", text, evidence, rank=3)
    if view.reading.sni is None:
        yield Found("no-sni", f"a ClientHello without a server name (SNI) got {what}", evidence, rank=3)


def records_damaged(case: Case) -> Iterator[Found]:
    """Alerts about the records themselves."""
    kinds = {
        codes.BAD_RECORD_MAC: "damaged-record",
        codes.DECRYPTION_FAILED: "damaged-record",
        codes.RECORD_OVERFLOW: "oversized-record",
        codes.DECOMPRESSION_FAILURE: "damaged-record",
        codes.DECRYPT_ERROR: "handshake-signature",
    }
    for view in case.views:
        ended = view.ended
        if ended is None or ended.alert not in kinds or ended.party is Party.PROXY:
            continue
        sender = Side.CLIENT if ended.party is view.party(Side.CLIENT) else Side.SERVER
        text = f"{view.who(sender)} could not take a record or a proof of {view.who(sender.peer)} (alert {ended.name})"
        kind = kinds[ended.alert]
        if "_PSK_" in (view.reading.cipher or "") and ended.alert != codes.RECORD_OVERFLOW:
            kind = "unknown-psk"
            text += f", whose keys come from a pre-shared key ({view.reading.cipher})"
        yield Found(kind, text, view.evidence(ended.place), rank=1)


def internal(case: Case) -> Iterator[Found]:
    """Alerts by which a peer says that the fault is its own, or says nothing."""
    for view in case.views:
        ended = view.ended
        if ended is None or ended.alert is None or (ended.party is Party.PROXY and _excused(case, view)):
            continue
        if ended.alert == codes.INTERNAL_ERROR:
            text = f"the {ended.party.value} had a fault of its own (internal_error)"
            yield Found("internal-error", text, view.evidence(ended.place), rank=2)
        elif ended.alert == codes.ACCESS_DENIED and not view.chain(Side.CLIENT):
            yield Found("access-denied", f"the {ended.party.value} denies access", view.evidence(ended.place), rank=1)
        elif ended.alert == codes.USER_CANCELED:
            continue
        elif case.recording.outcome.status is Status.FAILED:
            text = f"the {ended.party.value} ended the handshake with the alert {ended.name}"
            yield Found("other-alert", text, view.evidence(ended.place), rank=3)


def _excused(case: Case, view: View) -> bool:
    """Whether the proxy's alert only passes on what happened elsewhere."""
    return view.role is not LegRole.CLIENT or bool(case.recording.failures)


def by_hand(case: Case) -> Iterator[Found]:
    """Sessions that nobody broke."""
    outcome = case.recording.outcome
    if outcome.status is Status.INTERRUPTED:
        yield Found("interrupted", "the session was stopped before it had come to anything", rank=3)
    elif outcome.status is Status.ABANDONED and case.recording.mode != _PROBE:
        view = case.of_client
        evidence = view.evidence(view.message("finished", Side.CLIENT)) if view is not None else ()
        text = (
            "the client finished the handshake and closed without sending anything: so it looks when it judges the "
            "certificate only then (host names, pins; Node and NSS the whole chain), or only tried whether the port "
            "answers"
        )
        yield Found("abandoned", text, evidence, rank=1)
    elif outcome.status is Status.OPEN:
        yield Found("still-open", "the session is still going on", rank=3)


__all__ = ["by_hand", "conversation", "internal", "records_damaged"]
