"""What a server's answer breaks of the protocol, seen by holding it to the hello that it answers.

A client that gets such an answer ends the handshake, often without an alert, so the answer has to speak for itself:
RFC 8446 4.1.3 (session id, suite and version must be those that were offered, no compression), 4.2 (no extension that
was not asked for), RFC 7301 3.2 (one of the protocols offered), and RFC 8446 5 for the records that it came in.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

from countersign.findings.diagnosing.model import Found
from countersign.findings.diagnosing.signing import signature_holds, signed_message
from countersign.recorder.recording import NO_TLS, FailureCode, LegRole, Party
from countersign.recorder.wire import codes, names
from countersign.recorder.wire.dialogue import Form
from countersign.recorder.wire.events import Content, Side
from countersign.recorder.wire.extensions import SupportedVersions
from countersign.recorder.wire.messages import ClientHello, HelloRetryRequest, ServerHello
from countersign.recorder.wire.records import HTTP, NO_RECORD, TOO_LONG
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from countersign.findings.diagnosing.case import Case, View
    from countersign.recorder.wire.events import Problem

_COOKIE, _RENEGOTIATION_INFO, _SCSV = 44, 0xFF01, 0x00FF
_FLIGHT_13 = (
    "server_hello",
    "encrypted_extensions",
    "certificate_request",
    "certificate",
    "certificate_verify",
    "finished",
)
_FLIGHT_12 = (
    "server_hello",
    "certificate",
    "certificate_status",
    "server_key_exchange",
    "certificate_request",
    "server_hello_done",
)
_THOUGHT = 2.5  # and that thinks no longer about a certificate, but waits for somebody
_WAITED = 1.0  # seconds for which a client waits that was not served
_OF_NO_TLS = {
    codes.UNEXPECTED_MESSAGE,
    codes.RECORD_OVERFLOW,
    codes.ILLEGAL_PARAMETER,
    codes.DECODE_ERROR,
    codes.PROTOCOL_VERSION,
    codes.INTERNAL_ERROR,
    None,
}
"""With what alerts a client ends that gets bytes that are no TLS; OpenSSL and Node send none."""


def answered(case: Case) -> Iterator[Found]:
    """What is wrong with the answer on the leg that its client ended, or its server, having sent that."""
    for view in case.views:
        ended = view.ended
        if ended is None or Side.CLIENT in view.reading.handshake_finished or _holed(view):
            continue
        by_client = ended.party is view.party(Side.CLIENT) and ended.party is not Party.PROXY
        hung_up = ended.end is not None and ended.end.sender is Side.SERVER
        problems = [one for role, one in case.recording.problems if role is view.role and one.sender is Side.SERVER]
        puzzled = any(
            failure.code is FailureCode.BROKEN_MESSAGE and failure.leg is view.role and failure.by is not Party.PROXY
            for failure in case.recording.failures
        )  # what the server sent could not be taken, or the client's answer, whose keys then come from something else
        if by_client or hung_up or puzzled:
            yield from _no_tls(view, problems)
            yield from _records(view, problems)
            yield from _mismatches(view)
            yield from _warned(view)
            if (puzzled or ended.alert == codes.BAD_RECORD_MAC) and signature_holds(view) is False:
                signed = signed_message(view)
                text = f"{view.who(Side.SERVER)}'s {signed.type if signed else 'signature'} is not over what was sent: "
                text += "something changed it on the way, or after it was signed"
                yield Found("handshake-signature", text, view.evidence(signed), rank=0)
        if by_client and ended.alert is None:
            yield from _waited(view)


def echoed(case: Case) -> Iterator[Found]:
    """A server that sends back what it gets."""
    for view in case.views:
        if view.leg.echoed:
            hello, back = (view.message("client_hello", side) for side in Side)
            text = (
                f"{view.who(Side.SERVER)} answered the ClientHello with that same ClientHello, byte by byte: an echo "
                "service, or something that leads the connection back to where it comes from"
            )
            yield Found("target-echoes", text, view.evidence(hello, back), rank=0)


def _no_tls(view: View, problems: list[Problem]) -> Iterator[Found]:
    strange = next((one for one in problems if one.field in {NO_RECORD, HTTP}), None)
    strange = strange or next((one for one in problems if one.field == "record.type"), None)
    noted = any(failure.code in NO_TLS for failure in view.recording.failures)  # with more of its words
    if strange is None or view.answer is not None or noted:
        return
    who = view.who(Side.SERVER)
    got = printable(strange.got, limit=100)
    http = strange.field == HTTP
    kind = "target-plain-http" if http else "target-not-tls"
    text = f"{who} answered the ClientHello with what is no TLS: {got}"
    if http:
        text += "; a proxy or firewall that blocks the connection answers so"
    yield Found(kind, text, view.evidence(view.message("client_hello")), rank=0)


_DECLINES = {
    "smtp": r"[45]\d\d[ -]",
    "lmtp": r"[45]\d\d[ -]",
    "ftp": r"[45]\d\d[ -]",
    "imap": r"[^\s*+]+ (?:NO|BAD)\b",
    "pop3": r"-ERR\b",
    "xmpp": r"<failure\b",
    "postgres": r"N\b",
}


_NO_UPGRADE = {"unknown", "http"}
"""Protocols of a dialogue before TLS in which nothing leads up to TLS."""


def in_clear(case: Case) -> Iterator[Found]:
    """What the server said before the hello, which it then did not answer: that it will not, or another protocol's."""
    view = case.view(LegRole.THROUGH) or case.view(LegRole.SERVER)
    turns = case.recording.prelude.get("dialogue")
    if view is None or view.answer is not None or not isinstance(turns, list | tuple):
        return
    said = [one for one in turns if isinstance(one, dict) and isinstance(one.get("text"), str)]
    if not said or said[-1].get("from") != Side.SERVER.value:
        return
    protocol, last = str(case.recording.prelude.get("protocol")), said[-1]["text"]
    words = printable(last.strip(), limit=200)
    evidence = ("the dialogue before TLS", *view.evidence(view.message("client_hello")))
    final = last.strip().splitlines()[-1:] or [""]
    if protocol in _DECLINES and re.match(_DECLINES[protocol], final[0], re.IGNORECASE):
        text = f"{view.who(Side.SERVER)} declined to begin TLS in {protocol}: {words}"
        yield Found("starttls-declined", text, evidence, rank=0, values={"words": words})
    elif protocol in _NO_UPGRADE and len(said) == 1:
        text = f"{view.who(Side.SERVER)} began to speak by itself, and no TLS: {words}"
        yield Found("target-plain-http" if protocol == "http" else "target-not-tls", text, evidence, rank=0)


def _records(view: View, problems: list[Problem]) -> Iterator[Found]:
    for one in problems:
        if one.field in {TOO_LONG, "record.version", "record.content"}:
            kind = "oversized-record" if one.field == TOO_LONG else "bad-answer"
            text = f"{view.who(Side.SERVER)} sent a record that breaks the protocol: {printable(str(one), limit=200)}"
            yield Found(kind, text, view.evidence(view.message("server_hello")), rank=0)
            return


def _mismatches(view: View) -> Iterator[Found]:
    """ServerHello against the ClientHello before it."""
    hello: ClientHello | None = None
    for read in view.reading.messages:
        value = read.value
        if isinstance(value, ClientHello):
            hello = value
        elif isinstance(value, ServerHello | HelloRetryRequest) and hello is not None:
            if _cut(read.message.raw):
                return  # what did not come is not what was chosen
            for wrong in _wrong(view, hello, value):
                text = f"{view.who(Side.SERVER)} {wrong}"
                yield Found("bad-answer", text, view.evidence(read), rank=0)
                return
    if (disorder := _disorder(view)) is not None:
        text = f"{view.who(Side.SERVER)} {disorder}"
        yield Found("bad-answer", text, view.evidence(view.message("server_hello")), rank=0)
        return
    protocol = view.reading.alpn
    if protocol is not None and protocol not in view.reading.alpn_offered:
        text = f"{view.who(Side.SERVER)} chose the ALPN protocol {printable(protocol)}, which was not offered"
        yield Found("bad-answer", text, view.evidence(view.message("server_hello")), rank=0)


def _cut(raw: bytes) -> bool:
    """Whether a handshake message ended before as many bytes had come as it declares (RFC 8446 4)."""
    return len(raw) < 4 + int.from_bytes(raw[1:4], "big")


def _wrong(view: View, hello: ClientHello, answer: ServerHello | HelloRetryRequest) -> Iterator[str]:
    offered = view.extension(SupportedVersions)
    versions = offered.versions if offered is not None else ()
    chosen = next((one for one in answer.extensions or () if one.code == codes.SUPPORTED_VERSIONS), None)
    version = getattr(chosen, "selected_version", None) or answer.legacy_version
    if version >= names.TLS13 and answer.session_id != hello.session_id:
        yield "echoed another session id than the client sent (RFC 8446 4.1.3)"
    if answer.cipher_suite not in hello.cipher_suites:
        yield f"chose {names.cipher_suite_name(answer.cipher_suite)}, which was not offered"
    if (versions and version not in versions) or (not versions and version > hello.legacy_version):
        yield f"chose {names.version_name(version)}, which was not offered"
    if answer.compression_method not in hello.compression_methods:
        yield f"chose compression method {answer.compression_method}, which was not offered"
    if (
        isinstance(answer, ServerHello)
        and answer.downgraded_from_tls13
        and names.TLS13 in versions
        and version < names.TLS13
    ):
        yield "marks its random as a downgrade (RFC 8446 4.1.3), though TLS 1.3 was offered"
    asked = {one.code for one in hello.extensions or ()}
    asked |= {_RENEGOTIATION_INFO} if _SCSV in hello.cipher_suites else set()
    asked |= {_COOKIE} if isinstance(answer, HelloRetryRequest) else set()
    extra = [names.extension_name(one.code) for one in answer.extensions or () if one.code not in asked]
    if extra:
        yield f"sent extensions that were not asked for: {', '.join(extra)}"


def _holed(view: View) -> bool:
    """Whether the recording lacks bytes of the leg: then what is strange about the rest is nobody's doing."""
    fields = {one.field for role, one in view.recording.problems if role is view.role}
    return bool(fields & {"stream.gap", "stream.begin"})


def _disorder(view: View) -> str | None:
    """What is not in its order, there twice or missing in the server's first flight (RFC 8446 2, RFC 5246 7.3)."""
    tls13 = view.reading.version == "TLSv1.3"
    order = _FLIGHT_13 if tls13 else _FLIGHT_12
    types = [one.type for one in view.reading.messages if one.message.sender is Side.SERVER]
    flight = [name for name in types if name in order]
    for before, after in pairwise(flight):
        if order.index(after) <= order.index(before):
            return f"sent {after} behind {before}"
    if view.reading.resumed or not flight or flight[-1] != order[-1] or "compressed_certificate" in types:
        return None
    needed = {"encrypted_extensions", "certificate", "certificate_verify"} if tls13 else set()
    if not tls13 and (view.reading.cipher or "").startswith(("TLS_ECDHE_", "TLS_DHE_")):
        needed = {"server_key_exchange"}
    missing = [name for name in order if name in needed and name not in flight]
    return f"sent no {missing[0]}" if missing else None


def _warned(view: View) -> Iterator[Found]:
    """The server says by a warning that it does not know the name, and goes on (RFC 6066 3 advises against that)."""
    for read in view.reading.messages:
        alert = read.message
        warning = alert.content is Content.ALERT and alert.raw[:1] not in {b"", bytes((codes.FATAL,))}
        if warning and alert.sender is Side.SERVER and alert.code == codes.UNRECOGNIZED_NAME:
            sni = view.reading.sni
            name = f"the name {printable(sni, limit=255)}" if sni is not None else "a client that named no server (SNI)"
            text = (
                f"{view.who(Side.SERVER)} sent the warning unrecognized_name for {name} and went on; there are clients "
                "that go no further (Java)"
            )
            if sni is None:
                yield Found("no-sni", text, view.evidence(read), rank=1)
            else:
                values = {"name": printable(sni, limit=255)}
                yield Found("unknown-name", text, view.evidence(read), rank=1, values=values)
            return


def _waited(view: View) -> Iterator[Found]:
    """The client went without a word, after a long wait for the server."""
    messages, ends = view.leg.messages, sorted(view.leg.ends, key=lambda one: one.t)
    if not messages or not ends or view.role is LegRole.SERVER:
        return
    wait = ends[0].t - messages[-1].t
    if Side.SERVER in view.reading.handshake_finished:
        if wait >= _THOUGHT:
            last = view.reading.messages[-1]
            text = (
                f"the client said nothing for {wait:.1f} s after {view.who(Side.SERVER)}'s {last.type} and gave up: "
                "what was sent did not all arrive, or something that the client asked (OCSP, CRL, a password) never "
                "answered"
            )
            yield Found("client-silent", text, view.evidence(last), rank=0)
    elif wait >= _WAITED:
        last = view.reading.messages[-1]
        text = f"the client waited {wait:.1f} s for {view.who(Side.SERVER)} after {last.type} and gave up"
        yield Found("target-silent", text, view.evidence(last), rank=0)


_NO_ANSWER: dict[str, str] = {Form.NOTHING: "", Form.CUT: "broke off", Form.NO_HTTP: "is no HTTP"}


def no_tunnel(case: Case) -> Iterator[Found]:
    """What an explicit proxy answered to the client's CONNECT, as the dialogue before TLS has it."""
    prelude = case.recording.prelude
    if not isinstance(prelude.get("request"), dict) or "answer" not in prelude:
        return
    status, said = prelude["answer"], printable(str(prelude.get("said", "")), limit=200)
    form = str(prelude.get("form"))
    evidence = ("the dialogue before TLS (CONNECT)",)
    went_on = any(view.leg.messages for view in case.views)
    if status == 407:
        yield Found("proxy-authentication", "the proxy wants the client to authenticate (407)", evidence, rank=0)
    elif isinstance(status, int) and (not 200 <= status < 300 or (status != 200 and not went_on)):
        text = f"the proxy answered the client's CONNECT with status {status}"
        if status < 300:
            text += ", which opens a tunnel (RFC 9110 9.3.6), and the client did not go on: Java takes 200 alone"
        yield Found("no-tunnel", text, evidence, rank=0, values={"status": str(status)})
    elif status == 200 and (body := _body(case, said, form)) is not None:
        text = f"the proxy's answer to the client's CONNECT has a body, which it cannot have: '{body}'; the client "
        text += "took that for the beginning of TLS, or TLS for its end (RFC 9110 9.3.6)"
        yield Found("no-tunnel", text, evidence, rank=0, values={"status": "200 with a body"})
    elif status is None and not went_on and form in _NO_ANSWER:
        text, got = "the proxy did not answer the client's CONNECT", "no answer"
        if form != Form.NOTHING:
            text = f"the proxy's answer to the client's CONNECT {_NO_ANSWER[form]}: '{said}'"
            got = "no answer that is one"
        values = {"status": got}
        yield Found("no-tunnel", text, evidence, rank=0, values=values)


def _body(case: Case, said: str, form: str) -> str | None:
    """What came behind a 200 where a tunnel has no body, if the client stumbled over that.

    The proxy's own answer is there with its head; of a capture there are the words before TLS, and they are the
    target's unless that spoke TLS behind them.
    """
    view, prelude = case.of_client, case.recording.prelude
    if view is None or not _read_nothing(view):
        return None
    if form == Form.WITH_BODY:
        return said
    turns = prelude.get("dialogue")
    if view.answer is None or prelude.get("protocol") not in _NO_UPGRADE or not isinstance(turns, list | tuple):
        return None
    words = [one.get("text") for one in turns if isinstance(one, dict) and one.get("from") == Side.SERVER.value]
    alone = bool(words) and len(words) == len(turns)
    return printable(str(words[0]).strip(), limit=200) if alone else None


def _read_nothing(view: View) -> bool:
    """The client ended it, and nothing shows that it has read what the server sent: it has said no more than its hello,
    and no alert but one that bytes get which are no TLS. How far the server had come by then says nothing.
    """
    ended = view.ended
    if ended is None or ended.party is not view.party(Side.CLIENT) or ended.alert not in _OF_NO_TLS:
        return False
    said = [one.type for one in view.reading.messages if one.message.sender is Side.CLIENT and one.type != "alert"]
    return said in ([], ["client_hello"])
