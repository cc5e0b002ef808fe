"""What a server did when a client knocked: read from the recording, and from the first line that it said inside.

A server has *accepted* when something of it shows that it has taken all that the client sent: in TLS 1.2 its Finished,
which is its last word on the client's certificate; in TLS 1.3, where the client is done first, a ticket, an answer or
a goodbye behind the client's Finished (RFC 8446 4.4.2.4). It has *refused* with a fatal alert, or by leaving. Who does
neither for as long as the client waits has accepted, for all that can be seen, and a note says so. A hello of which no
handshake can come (:attr:`Manner.another`) is accepted by who answers it with one. Who never says a word of TLS, not
even to a right client, takes part in no handshake, and nothing is judged.

Many servers refuse one layer further up: nginx finishes the handshake with a client whose certificate is missing or
not good, and answers its request with a ``400`` that speaks of certificates; IIS with such a ``403``; load balancers
with ``495`` or ``496``. For a client's certificate that is a refusal too. Any other answer is none: that the page at
``/`` wants a login says nothing of TLS.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from countersign.recorder.recording import Ending, FailureCode, LegRole, Party, Status
from countersign.recorder.wire import codes
from countersign.recorder.wire.events import Content, Side
from countersign.recorder.wire.names import alert_name
from countersign.recorder.wire.text import printable
from countersign.scenarios.running.verdict import Kind, Verdict, skipped

if TYPE_CHECKING:
    from countersign.recorder.recording import Recording
    from countersign.scenarios.knocking.knocks import Knock

_REFUSING = re.compile(rb"HTTP/1\.[01] (?:(49[56])|(40[013])(?=.*certificate))\b([^\r\n]*)", re.DOTALL | re.IGNORECASE)


def no_handshake(recording: Recording) -> str | None:
    """Why there was none at all, as a sentence; None where the server has said anything in TLS, were it an alert.

    An echo of our hello says nothing.
    """
    leg = recording.leg(LegRole.THROUGH)
    said = {each.content for each in leg.messages if each.sender is Side.SERVER} if leg is not None else set()
    if leg is None or leg.echoed or not said & {Content.HANDSHAKE, Content.ALERT}:
        return recording.outcome.text
    return None


def judge(knock: Knock, recording: Recording, heard: bytes) -> Verdict:
    """The verdict on the server. ``heard`` is the beginning of what it said inside."""
    leg = recording.leg(LegRole.THROUGH)
    outcome = recording.outcome
    asked = leg is not None and any(each.is_handshake(codes.CERTIFICATE_REQUEST) for each in leg.messages)
    answered = leg is not None and any(each.sender is Side.SERVER for each in leg.messages)
    if any(each.code is FailureCode.CANNOT_BEGIN for each in recording.failures):
        return skipped(f"{outcome.text[:1].lower()}{outcome.text[1:].rstrip('.')}")
    if leg is not None and any(each.sender is Side.SERVER and each.how is Ending.SILENT for each in leg.ends):
        return Verdict(kind=Kind.HUNG, text="hung: it neither went on nor ended the session", notes=(outcome.text,))
    if knock.recipe is not None and answered and not asked and outcome.status is not Status.FAILED:
        return skipped("the server asks for no client certificate")
    if knock.manner.another:
        return _answered(knock, recording)
    alerts = (outcome.alert,) if outcome.alert and outcome.broken_by is Party.TARGET else ()
    refusal = _REFUSING.match(heard) if knock.recipe is not None else None
    notes = []
    if refusal is not None:
        words = printable(
            b"".join(each or b"" for each in refusal.groups()).decode("latin-1"), limit=100, ascii_only=True
        )
        notes.append(f"the handshake went well, and its answer to the request was {words}")
    stood = (
        outcome.status is Status.ABANDONED and leg is not None and all(each.sender is Side.CLIENT for each in leg.ends)
    )
    if stood:
        notes.append("nothing shows that it has looked at all that the client sent: it neither answered nor refused")
    accepted = (stood or outcome.status is Status.ESTABLISHED) and refusal is None
    if not accepted and refusal is None:
        notes.append(outcome.text)
    kind, text = _against(knock, accepted=accepted)
    return Verdict(kind=kind, text=text, sent=len(heard), sessions=1, alerts=alerts, notes=tuple(notes))


def _answered(knock: Knock, recording: Recording) -> Verdict:
    """The verdict on the answer to a hello of which no handshake can come."""
    leg = recording.leg(LegRole.THROUGH)
    said = [each for each in leg.messages if each.sender is Side.SERVER] if leg is not None else []
    accepted = any(each.is_handshake(codes.SERVER_HELLO) for each in said)
    alert = next((each for each in said if each.content is Content.ALERT and len(each.raw) > 1), None)
    kind, text = _against(knock, accepted=accepted)
    how = "it was left when it had answered the hello" if accepted else recording.outcome.text
    alerts = () if alert is None else (alert_name(alert.raw[1]),)
    return Verdict(kind=kind, text=text, sessions=1, alerts=alerts, notes=(how,))


def in_view_of(verdict: Verdict, right: Verdict) -> Verdict:
    """The same, where a right client got the verdict ``right``: who refuses all has refused none for cause, neither
    who was to be refused nor who was not. What is said as of the right client is not said again.
    """
    refused = verdict.kind in {Kind.REFUSED, Kind.REFUSED_WRONGLY}
    if not refused or right.kind not in {Kind.REFUSED_WRONGLY, Kind.HUNG}:
        return verdict
    text = "nothing can be told from its refusal: it refuses a right client as well"
    if (verdict.alerts, verdict.notes) == (right.alerts, right.notes):
        return Verdict(kind=Kind.UNPROVED, text=f"{text}, and in the same way")
    return Verdict(kind=Kind.UNPROVED, text=text, alerts=verdict.alerts, notes=verdict.notes)


def what_first(right: Verdict, recording: Recording) -> str | None:
    """What to do before anything can be told of a server that refuses a right client; None where it does not."""
    if right.kind not in {Kind.REFUSED_WRONGLY, Kind.HUNG}:
        return None
    leg = recording.leg(LegRole.THROUGH)
    asked = leg is not None and any(each.is_handshake(codes.CERTIFICATE_REQUEST) for each in leg.messages)
    if asked:
        do = "most often it does not trust HOME/client-ca/root.pem yet"
    elif "unrecognized_name" in right.alerts:
        do = "knock with a server name that it has (--name)"
    elif "protocol_version" in right.alerts:
        do = "it speaks neither TLS 1.2 nor TLS 1.3; the hellos of older versions tell what it does speak"
    else:
        do = f"ask why: countersign diagnose {recording.id}"
    return f"the refusals of a server that refuses a right client tell nothing, so this comes first: {do}"


def _against(knock: Knock, *, accepted: bool) -> tuple[Kind, str]:
    match knock.right:
        case "either":
            return (Kind.ACCEPTED, "accepted, as it may") if accepted else (Kind.REFUSED, "refused, as it may")
        case "accept":
            if accepted:
                return Kind.ACCEPTED, "accepted as it should"
            return Kind.REFUSED_WRONGLY, f"refused but should have accepted ({knock.rfc})"
        case "refuse":
            if not accepted:
                return Kind.REFUSED, "refused as it should"
            return Kind.ACCEPTED_WRONGLY, f"accepted but should have refused ({knock.rfc})"
