"""How a session ended, who broke it and on which leg: one judgement from what was recorded, never from guesses.

The theory. What ends a handshake is the first of three things: a fatal alert, something that the proxy noticed itself
(a :class:`Failure`: the target could not be reached, its chain is not trusted), or an end of bytes in the middle.
Alerts are named by who sent them: the roles of a leg map to the client, the proxy and the target. An alert that *we*
sent is looked through: it is either our refusal (of the target's chain) or our answer to a broken message, and then
the peer broke it.

What the proxy did to a session on purpose is in the ``faults`` of its legs. A break behind one of them is the proxy's,
except where a peer has said by an alert what it thinks of it; and the text names what was ordered.

Where TLS 1.3 was not opened, what was said is known by its sizes alone (:mod:`countersign.recorder.sealed`). They tell
who left first and how far the client had come; where they do not, it is unknown who broke it.

What does not end a handshake is no proof that it stands either. In TLS 1.3 a client has finished before the server has
judged its certificate, so *finished* is not *accepted*. A leg stands when:

- its client accepted the server: its Finished is there (RFC 8446 4.4.4: after the server's certificate was judged);
- its server accepted the client: below TLS 1.3 its Finished is there; in TLS 1.3 it has sent something after the
  client's Finished that it would not have sent to a client it refuses (a ticket, application data), or it has ended
  well, with close_notify.

A session whose legs stand but in which the client sent no application data before it closed is *abandoned*: so a host
name verifier looks that refuses after the handshake. If the target was the first to leave, the target failed
it; if nobody left and we ended it, it is *interrupted*. ``user_canceled`` and ``close_notify`` refuse nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from countersign.recorder.recording import End, Ending, FailureCode, Leg, LegRole, Outcome, Party, Recording, Status
from countersign.recorder.sealed import Flight, Sealed, sealed
from countersign.recorder.wire import codes
from countersign.recorder.wire.events import Content, Message, Side
from countersign.recorder.wire.names import alert_name
from countersign.recorder.wire.records import APPLICATION_DATA, HANDSHAKE
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from countersign.recorder.recording import Failure

_ASK_AGAIN = frozenset({codes.HELLO_REQUEST, codes.CLIENT_HELLO, codes.CERTIFICATE_REQUEST})
_WANTS_CERTIFICATE = frozenset(
    {
        codes.HANDSHAKE_FAILURE,
        codes.NO_CERTIFICATE,
        codes.BAD_CERTIFICATE,
        codes.CERTIFICATE_UNKNOWN,
        codes.ACCESS_DENIED,
        codes.CERTIFICATE_REQUIRED,
    }
)
"""With these a server refuses a client that has shown none: by RFC 8446 4.4.2.4 the last, by RFC 5246 7.4.6 the first,
and others in practice."""

_OF_NAMES = frozenset({codes.BAD_CERTIFICATE, codes.CERTIFICATE_UNKNOWN})
"""OpenSSL says bad_certificate where the host name is not the certificate's, Java certificate_unknown."""

_CERTIFICATE_ALERTS = {
    codes.BAD_CERTIFICATE: "says that the certificate is bad",
    codes.UNSUPPORTED_CERTIFICATE: "does not take this kind of certificate",
    codes.CERTIFICATE_REVOKED: "says that the certificate is revoked",
    codes.CERTIFICATE_EXPIRED: "says that the certificate has expired or is not yet valid",
    codes.CERTIFICATE_UNKNOWN: "refuses the certificate and does not say why"
    " (Java says this of every certificate that it refuses, most often for want of the CA in its trust store)",
    codes.UNKNOWN_CA: "does not trust the CA that the certificate comes from",
    codes.BAD_CERTIFICATE_STATUS_RESPONSE: "does not accept the OCSP response that came with the certificate",
    codes.CERTIFICATE_REQUIRED: "wants a client certificate and got none",
}
_OTHER_ALERTS = {
    codes.UNEXPECTED_MESSAGE: "did not expect the message that it got",
    codes.BAD_RECORD_MAC: "could not authenticate a record",
    codes.RECORD_OVERFLOW: "got a record that is too long",
    codes.HANDSHAKE_FAILURE: "found no acceptable set of parameters, or misses a certificate",
    codes.ILLEGAL_PARAMETER: "found a field with an illegal value",
    codes.ACCESS_DENIED: "denies access",
    codes.DECODE_ERROR: "could not decode a message",
    codes.DECRYPT_ERROR: "says that a signature or a Finished message is wrong",
    codes.PROTOCOL_VERSION: "does not speak the version that it was offered",
    codes.INSUFFICIENT_SECURITY: "finds what it was offered not secure enough",
    codes.INTERNAL_ERROR: "had an internal error",
    codes.INAPPROPRIATE_FALLBACK: "refuses a fallback to a lower version",
    codes.MISSING_EXTENSION: "misses an extension",
    codes.UNSUPPORTED_EXTENSION: "got an extension that it did not ask for",
    codes.UNRECOGNIZED_NAME: "does not know the name in the SNI extension",
    codes.UNKNOWN_PSK_IDENTITY: "does not know the pre-shared key",
    codes.NO_APPLICATION_PROTOCOL: "speaks none of the protocols that ALPN offered",
}
_TO_SEE_IT = "record with --intercept, or with the client's key log"
_LONGEST_ALERT = 64  # in a record of any version, its padding and MAC with it
_NAMED_FAULTS = 3
_PEER_MISBEHAVED = frozenset(
    {
        codes.UNEXPECTED_MESSAGE,
        codes.BAD_RECORD_MAC,
        codes.DECRYPTION_FAILED,
        codes.RECORD_OVERFLOW,
        codes.DECOMPRESSION_FAILURE,
        codes.ILLEGAL_PARAMETER,
        codes.DECODE_ERROR,
        codes.DECRYPT_ERROR,
        codes.MISSING_EXTENSION,
        codes.UNSUPPORTED_EXTENSION,
    }
)


@dataclass(frozen=True, slots=True)
class _Break:
    """What ended a handshake, with when; ``rank`` orders things of the same moment, the more telling first."""

    t: float
    rank: int
    outcome: Outcome


INTERRUPTED = Outcome(Status.INTERRUPTED, text="The proxy process died before the session was over.")
"""What becomes of a session whose process is gone."""


def judge(
    recording: Recording,
    *,
    not_tls: bool = False,
    stopped: str | None = None,
    witness: str = "proxy",
    data_seen: bool = True,
) -> Outcome:
    """The outcome of a session that is over.

    ``not_tls`` says that its client never spoke TLS, ``stopped`` that the ``witness`` (the proxy, an imported capture
    or log) ended it for no fault of anybody, and why ("was stopped"). Where the witness does not tell of application
    data (``data_seen`` is False: a log of handshakes), that there is none means nothing.

    What a capture has not seen (``stream.gap`` and ``stream.begin`` among the problems) nobody is accused of: then an
    end in the middle of the handshake may be none.
    """
    outcome = _judged(recording, not_tls=not_tls, stopped=stopped, witness=witness, data_seen=data_seen)
    outcome = _as_ordered(recording, outcome)
    if any(leg.echoed for leg in recording.legs):
        outcome = replace(outcome, text=f"{outcome.text}; what the target sent is the ClientHello that it got: an echo")
    return replace(outcome, text=f"{outcome.text[:1].upper()}{outcome.text[1:]}.")


def _judged(recording: Recording, *, not_tls: bool, stopped: str | None, witness: str, data_seen: bool) -> Outcome:
    if not_tls:
        return _not_tls(recording)
    unseen = {problem.field for _, problem in recording.problems} & {"stream.begin", "stream.gap"}
    ends = [] if unseen else _from_ends(recording)
    breaks = [*_from_alerts(recording), *_from_failures(recording), *ends]
    if breaks:
        return _blamed(recording, min(breaks, key=lambda found: (found.t, found.rank)))
    if not data_seen and recording.legs and all(_finished(leg, side) for leg in recording.legs for side in Side):
        return _told_no_further(recording, witness)
    if stopped and not all(map(_stands, recording.legs)):
        which = "handshakes were" if witness == "proxy" else "handshake was"
        return Outcome(Status.INTERRUPTED, text=f"the {witness} {stopped} before the {which} proven good")
    if unseen and not all(map(_stands, recording.legs)):
        why = "began in the middle of the conversation" if "stream.begin" in unseen else "lacks bytes of it"
        return Outcome(Status.INTERRUPTED, text=f"the {witness} {why}, so how the handshake ended cannot be told")
    if (refused := _no_tunnel(recording)) is not None:
        return refused
    if not recording.legs or not any(leg.messages or _hidden_but_used(leg) for leg in recording.legs):
        if stopped:
            return Outcome(Status.INTERRUPTED, text=f"the proxy {stopped} before the client had sent a ClientHello")
        return Outcome(
            Status.FAILED, Party.CLIENT, None, None, "the client connected and closed without sending a ClientHello"
        )
    for leg in recording.legs:
        if not _stands(leg):
            return _unproven(recording, leg)
    outcome = _standing(recording, stopped, witness)
    if outcome.status is Status.INTERRUPTED:
        return outcome
    if "stream.begin" in unseen and outcome.status is Status.ESTABLISHED:
        outcome = replace(outcome, text="established before the capture began, which has not seen how")
    return replace(outcome, text=f"{outcome.text}; the {witness} {stopped}") if stopped else outcome


def _no_tunnel(recording: Recording) -> Outcome | None:
    """A capture of a CONNECT that was answered with anything but a tunnel, behind which there was no TLS."""
    prelude = recording.prelude
    if recording.legs or recording.failures or not isinstance(prelude.get("request"), dict) or "answer" not in prelude:
        return None
    status = prelude["answer"]
    if isinstance(status, int):
        text = f"the proxy answered the client's CONNECT with status {status} and gave no tunnel"
        return Outcome(Status.FAILED, Party.UPSTREAM_PROXY, None, None, text)
    ended = prelude.get("ended")
    if isinstance(ended, dict) and ended.get("from") == Side.SERVER.value:
        text = "the proxy ended the connection and gave the client's CONNECT no answer that is one"
        return Outcome(Status.FAILED, Party.UPSTREAM_PROXY, None, None, text)
    text = "the client's CONNECT got no answer from the proxy that is one"
    return Outcome(Status.FAILED, Party.UNKNOWN, None, None, text)


# -- what was ordered ----------------------------------------------------------------------------------------------


def _blamed(recording: Recording, found: _Break) -> Outcome:
    """What came behind a fault that was ordered is nobody else's doing, but for what a peer says of it by an alert."""
    ordered = any(fault["t"] <= found.t for leg in recording.legs for fault in leg.faults)
    if ordered and found.rank:
        return replace(found.outcome, broken_by=Party.PROXY)
    return found.outcome


def _as_ordered(recording: Recording, outcome: Outcome) -> Outcome:
    """The same, with the faults that were ordered named: without them it would read as an accusation."""
    done = [str(fault["text"]) for leg in recording.legs for fault in leg.faults]
    if not done:
        return outcome
    done = [text for text in done if text not in outcome.text]
    if not done:
        return replace(outcome, text=f"{outcome.text}, as ordered")
    more = f" and did {len(done) - _NAMED_FAULTS} more things" if len(done) > _NAMED_FAULTS else ""
    told = f"as ordered, the proxy {', and '.join(done[:_NAMED_FAULTS])}{more}"
    if outcome.broken_by is Party.UNKNOWN:  # there is nothing else that could have ended it
        return replace(outcome, broken_by=Party.PROXY, text=f"{told}; the handshake was not finished")
    ours = outcome.status is Status.FAILED and outcome.alert is None
    return replace(outcome, broken_by=Party.PROXY if ours else outcome.broken_by, text=f"{outcome.text}; {told}")


# -- the three kinds of breaks -------------------------------------------------------------------------------------


def _from_alerts(recording: Recording) -> list[_Break]:
    """The first of each leg; the first of the proxy's as well, which only tells what was the reason for it (rank 3)."""
    found = []
    for leg in recording.legs:
        alerts = [
            (number, message)
            for number, message in enumerate(leg.messages)
            if message.content is Content.ALERT and message.code not in codes.NEVER_FATAL
        ]
        if not alerts:
            continue
        tls13 = _is_tls13(leg.messages)
        used, proven = _first_data(leg)
        asked_again = _asked_again(leg, used)
        ours: _Break | None = None
        for number, message in alerts:
            if not _is_fatal(message, tls13=tls13):
                continue
            by_proxy = party_of(leg.role, message.sender) is Party.PROXY
            stood = proven < message.t and not (message.code in _CERTIFICATE_ALERTS and number > asked_again)
            if (by_proxy and ours) or stood or _answers_a_cut(recording, leg, message):
                continue
            if by_proxy and _tells_of_an_order(recording, leg, message):
                continue
            outcome = _alerted(recording, leg, number)
            if not by_proxy:
                found.append(_Break(message.t, 0, outcome))
                break
            ours = _Break(message.t, 3, outcome)
            found.append(ours)
    return found


def _is_fatal(alert: Message, *, tls13: bool) -> bool:
    """In TLS 1.3 the level means nothing (RFC 8446 6); below it, a warning about a certificate is a refusal, too."""
    if len(alert.raw) < 2:
        return False
    level, description = alert.raw[0], alert.raw[1]
    return description not in codes.NEVER_FATAL and (
        level == codes.FATAL or description in _CERTIFICATE_ALERTS or (alert.encrypted and tls13)
    )


def _first_data(leg: Leg) -> tuple[float, float]:
    """When a side sent application data, and when both had: from then on the handshake stood, whatever ended it."""
    firsts = [math.inf if first is None else first for first in (leg.count(side).first for side in Side)]
    return min(firsts), max(firsts)


def _asked_again(leg: Leg, used: float) -> int:
    """The number of the first message by which a side asked for a certificate or a handshake once there had been one:
    what was asked for later, an alert can refuse later. The number behind the last message where there is none.
    """
    finished: set[Side] = set()
    for number, message in enumerate(leg.messages):
        if message.code == codes.FINISHED and message.content is Content.HANDSHAKE:
            finished.add(message.sender)
        elif (
            message.code in _ASK_AGAIN
            and message.content is Content.HANDSHAKE
            and len(finished) == len(Side)
            and message.t >= used
        ):
            return number
    return len(leg.messages)


def _answers_a_cut(recording: Recording, leg: Leg, alert: Message) -> bool:
    """OpenSSL answers bytes that end without close_notify with decode_error: the end came first, the peer's own or one
    of the other leg that was passed on.
    """
    return (
        alert.code == codes.DECODE_ERROR
        and _finished(leg, Side.CLIENT)
        and _finished(leg, Side.SERVER)
        and any(
            end.t <= alert.t and (other is not leg or end.sender is not alert.sender)
            for other in recording.legs
            for end in other.ends
        )
    )


def _tells_of_an_order(recording: Recording, leg: Leg, alert: Message) -> bool:
    """Whether we told the target that nothing will come of it, for what was done to the client on purpose."""
    return leg.role is LegRole.SERVER and any(
        fault["t"] <= alert.t for other in recording.legs if other is not leg for fault in other.faults
    )


def _alerted(recording: Recording, leg: Leg, place: int) -> Outcome:
    alert = leg.messages[place]
    number = alert.raw[1]
    name = alert_name(number)
    party = party_of(leg.role, alert.sender)
    about = next((failure for failure in recording.failures if failure.leg is leg.role), None)
    if party is Party.PROXY:
        if about is not None:
            return Outcome(Status.FAILED, about.by, leg.role, name, _sentence(recording, about))
        peer = party_of(leg.role, alert.sender.peer)
        if number in _PEER_MISBEHAVED:
            return Outcome(
                Status.FAILED, peer, leg.role, name, f"the proxy got something wrong from {_who(recording, peer)}"
            )
    seen = not any(problem.field == "stream.begin" for _, problem in recording.problems)
    if seen and not any(message.content is Content.HANDSHAKE for message in leg.messages[:place]):
        text = f"{_who(recording, party)} began with alert {name}, where a ClientHello belongs"
        return Outcome(Status.FAILED, party, leg.role, name, text)
    meaning = _CERTIFICATE_ALERTS.get(number) or _OTHER_ALERTS.get(number) or "ended the handshake"
    if about is not None and about.code is FailureCode.CANNOT_MIMIC and number in _CERTIFICATE_ALERTS:
        return Outcome(Status.FAILED, about.by, leg.role, name, _sentence(recording, about))
    if number == codes.UNRECOGNIZED_NAME and alert.sender is Side.SERVER and _names_nobody(leg):
        meaning = "has nothing for a client that names no server (there was no SNI extension)"
    text = f"{_who(recording, party)} broke the handshake with alert {name}: it {meaning}"
    if number in _CERTIFICATE_ALERTS and number != codes.CERTIFICATE_REQUIRED:
        text += _shown(leg, alert.sender.peer)
    if number in _OF_NAMES and alert.sender is Side.CLIENT:
        text += _names_asked(recording, leg)
    if alert.sender is Side.SERVER and number in _WANTS_CERTIFICATE and _given(leg) is False:
        text += _cure(leg) if number == codes.CERTIFICATE_REQUIRED else _asked_for_certificate(leg)
    return Outcome(Status.FAILED, party, leg.role, name, text)


def _names_nobody(leg: Leg) -> bool:
    """Whether the hello was seen and has no server name (RFC 6066 3)."""
    hello = any(message.is_handshake(codes.CLIENT_HELLO) for message in leg.messages)
    return hello and leg.read().sni is None


def _shown(leg: Leg, side: Side) -> str:
    """Which chain the refusing side had been shown, and whether its root was sent: most servers leave that out, as
    they may (RFC 8446 4.4.2), and then the refusing side has to know it.
    """
    chain = [sent.facts for sent in leg.read().chain(side)]
    if not chain:
        return ""
    first, last = chain[0], chain[-1]
    if first.bare_key:
        return " (shown: a public key without a certificate)"
    if len(chain) == 1:
        text = "which vouches for itself and was sent alone"
        if not first.self_issued:
            text = f"sent alone; it was issued by {_named(first.issuer)}, which was not sent"
        return f" (shown: {_named(first.subject)}, {text})"
    end = f"{_named(last.subject)}, issued by {_named(last.issuer)}, which was not sent"
    if last.self_issued:
        end = f"the root {_named(last.subject)}"
    elif any(each.subject == last.issuer for each in chain):
        end = f"{_named(last.subject)}, issued by {_named(last.issuer)}, which was sent before it"
    return f" (shown: {_named(first.subject)}, issued by {_named(first.issuer)}; the chain sent ends with {end})"


def _named(name: str | None) -> str:
    return name or ("a name that cannot be read" if name is None else "an empty name")


def _names_asked(recording: Recording, leg: Leg) -> str:
    """What a client that refuses the host name would have compared, unless the two agree."""
    chain = leg.read().chain(Side.SERVER)
    if not chain:
        return ""
    leaf, wanted = chain[0].facts, (recording.sni or "").lower()
    if wanted and {f"dns:{wanted}", f"dns:*.{wanted.partition('.')[2]}"} & {name.lower() for name in leaf.san}:
        return ""
    sni = printable(recording.sni, limit=100) if recording.sni else "not there"
    names = leaf.names()
    return f"; perhaps for the host name: the certificate is for {names}, and the client's SNI was {sni}"


def _from_failures(recording: Recording) -> list[_Break]:
    return [
        _Break(failure.t, 1, Outcome(Status.FAILED, failure.by, failure.leg, None, _sentence(recording, failure)))
        for failure in recording.failures
    ]


def _sentence(recording: Recording, failure: Failure) -> str:
    return f"{_who(recording, failure.by)} {failure.text}"


def _from_ends(recording: Recording) -> list[_Break]:
    found = []
    for leg in recording.legs:
        if not leg.messages or (_finished(leg, Side.CLIENT) and _finished(leg, Side.SERVER)) or _hidden_but_used(leg):
            continue
        course = sealed(leg)
        if course is not None and course.flight is Flight.ALERT and course.client_left <= course.server_left:
            text = "the client sealed a record of the size of an alert behind the server's flight and no Finished: most"
            text += f" often that refuses the certificate; what it says is encrypted ({_TO_SEE_IT};"
            text += " a Java client says it in clear when it runs with -Djdk.tls.client.protocols=TLSv1.2)"
            found.append(_Break(course.began, 2, Outcome(Status.FAILED, Party.CLIENT, leg.role, None, text)))
        for message in leg.messages:
            party = party_of(leg.role, message.sender)
            if _says_goodbye(message) and party is not Party.PROXY:
                text = f"{_who(recording, party)} said goodbye (close_notify) in the middle of the handshake"
                found.append(_Break(message.t, 2, Outcome(Status.FAILED, party, leg.role, None, text)))
        for end in leg.ends:
            if end.how is Ending.STOPPED or _goes_on_unseen(leg, end):
                continue
            party = party_of(leg.role, end.sender)
            if party is Party.PROXY:
                continue  # we end a leg only for a reason, and that is recorded
            if course is not None and course.flight is Flight.ALERT and course.began <= end.t:
                continue  # its alert came before
            how = {
                Ending.FIN: "closed the connection in the middle of the handshake",
                Ending.RESET: "reset the connection in the middle of the handshake",
                Ending.SILENT: "fell silent in the middle of the handshake",
            }[end.how]
            text = f"{_who(recording, party)} {how}, after {_last_message(leg, end)}"
            if end.how is not Ending.SILENT:
                text += _silent_refusal(leg) if party is Party.CLIENT else _asked_for_certificate(leg)
            found.append(_Break(end.t, 2, Outcome(Status.FAILED, party, leg.role, None, text)))
    return found


def _silent_refusal(leg: Leg) -> str:
    """What a client that went was shown, if it has said nothing since."""
    for one in reversed(leg.messages):
        if one.sender is Side.CLIENT and one.content is Content.HANDSHAKE:
            return ""
        if one.sender is Side.SERVER and _is(one, codes.CERTIFICATE):
            break
    else:
        return ""
    return f"{_shown(leg, Side.SERVER)} (a client that refuses a certificate without an alert does so)"


def _asked_for_certificate(leg: Leg) -> str:
    """Whether a server that refused or went had asked for a client certificate, and what it got."""
    given = _given(leg)
    if given is None:
        return ""
    sent = any(_is(one, codes.CERTIFICATE) and one.sender is Side.CLIENT for one in leg.messages)
    text = f"got {'one' if given else f'none{_cure(leg)}'}" if sent else "had no answer yet"
    return f"; it had asked for a client certificate and {text}"


def _cure(leg: Leg) -> str:
    return ": --client-cert gives the proxy one to show" if leg.role is LegRole.SERVER else ""


def _given(leg: Leg) -> bool | None:
    """Whether the client has shown a certificate; none where it was not asked for any."""
    if not any(_is(one, codes.CERTIFICATE_REQUEST) and one.sender is Side.SERVER for one in leg.messages):
        return None
    # Header and length of the list; in TLS 1.3 (RFC 8446 4.4.2) the context as well.
    tls13 = _is_tls13(leg.messages)
    return any(
        _is(one, codes.CERTIFICATE)
        and one.sender is Side.CLIENT
        and (
            bool(one.told.certificates)
            if one.told is not None
            else one.length > (8 + (one.raw[4] if len(one.raw) > 4 else 0) if tls13 else 7)
        )
        for one in leg.messages
    )


def _last_message(leg: Leg, end: End) -> str:
    """What was said last before this end; what was sent into the closed connection was not."""
    from countersign.recorder.wire.messages import message_type

    last = next((message for message in reversed(leg.messages) if message.t <= end.t), leg.messages[0])
    party = party_of(leg.role, last.sender)
    return f"{message_type(last.content, last.code, last.form)} of the {party.value}"


# -- proof ---------------------------------------------------------------------------------------------------------


def _stands(leg: Leg) -> bool:
    if not (_finished(leg, Side.CLIENT) and _finished(leg, Side.SERVER)):
        return _hidden_but_used(leg)
    return _server_accepted(leg)


def _server_accepted(leg: Leg) -> bool:
    if leg.role is LegRole.CLIENT or not _is_tls13(leg.messages):
        # The server is we; or the last flight of a full handshake is the server's, and a resumed one judges nobody.
        return True
    finished = next(one for one in leg.messages if one.sender is Side.CLIENT and _is(one, codes.FINISHED))
    proof = any(
        one.sender is Side.SERVER and (_is(one, codes.NEW_SESSION_TICKET) or _says_goodbye(one))
        for one in leg.messages[leg.messages.index(finished) + 1 :]
    )
    return proof or leg.count(Side.SERVER).length > 0


def _is_tls13(messages: Sequence[Message]) -> bool:
    """Only TLS 1.3 has EncryptedExtensions, always; a renegotiation below it has an encrypted Certificate, too."""
    for message in messages:
        if message.code == codes.ENCRYPTED_EXTENSIONS and message.encrypted and message.content is Content.HANDSHAKE:
            return True
    return False


def _hidden_but_used(leg: Leg) -> bool:
    """Passed through without keys, and both sides have sent what only comes after the handshake."""
    if any(_is(one, codes.CLIENT_HELLO) for one in leg.messages) and not _may_be_used(leg):
        return False
    return leg.role is LegRole.THROUGH and (all(_has_used(leg, side) for side in Side) or _answered(leg))


def _may_be_used(leg: Leg) -> bool:
    """Where a capture lacks the ServerHello, nobody knows whether a small record of the server's is an alert."""
    if any(_is(one, codes.SERVER_HELLO) for one in leg.messages):
        return True
    sealed_by_server = [one.length for one in leg.encrypted_records if one.sender is Side.SERVER]
    return max([leg.count(Side.SERVER).length, *sealed_by_server]) > _LONGEST_ALERT


def _answered(leg: Leg) -> bool:
    """TLS 1.3: after the client's first sealed record the target has sealed one that is no alert.

    The client accepted, or its record would be an alert; the target accepted what the client's flight held, or its own
    would be. A client that sends its request at once behind its Finished shows no more from outside.
    """
    protected = [record for record in leg.encrypted_records if record.content_type == APPLICATION_DATA]
    client = [record for record in protected if record.sender is Side.CLIENT]
    if not client or client[0].alert_size:
        return False
    began = client[0].t
    spoke = [record.t for record in protected if record.sender is Side.SERVER and not record.alert_size]
    last = leg.count(Side.SERVER).last
    return any(t > began for t in spoke) or (last is not None and last > began)


def _has_used(leg: Leg, side: Side) -> bool:
    """Application data that has the size of an alert (``GET / HTTP/1.1`` alone) looks like one. A refusal is the last
    thing that its side sends; what is not, and what the peer has spoken after, is none.
    """
    if leg.count(side).length > 0:
        return True
    sized = [record.t for record in leg.encrypted_records if record.sender is side and record.alert_size]
    answered = leg.count(side.peer).last
    return len(sized) > 1 and answered is not None and answered > sized[0]


def _goes_on_unseen(leg: Leg, end: End) -> bool:
    """Passed through without keys, and the server's TLS 1.3 handshake has gone on under encryption: how far, is not
    seen. Only a side that has sent nothing under encryption fell silent for certain.
    """
    course = sealed(leg)
    if course is not None and course.flight is Flight.NOTHING:
        return False  # no Finished of the client's, so the handshake was not over
    spoke = {record.sender for record in leg.encrypted_records if record.content_type == APPLICATION_DATA}
    return (
        leg.role is LegRole.THROUGH
        and Side.SERVER in spoke
        and (end.how is not Ending.SILENT or end.sender in spoke or leg.count(end.sender).length > 0)
    )


def _finished(leg: Leg, side: Side) -> bool:
    """Its Finished is there; without keys, below TLS 1.3, the first handshake record under encryption is it."""
    for message in leg.messages:
        if message.code == codes.FINISHED and message.sender is side and message.content is Content.HANDSHAKE:
            return True
    return any(record.content_type == HANDSHAKE and record.sender is side for record in leg.encrypted_records)


def _is(message: Message, code: int) -> bool:
    return message.content is Content.HANDSHAKE and message.code == code


def _says_goodbye(message: Message) -> bool:
    return message.content is Content.ALERT and message.raw[1:] == b"\0"


def _unproven(recording: Recording, leg: Leg) -> Outcome:
    party = party_of(leg.role, Side.SERVER)
    finished = _finished(leg, Side.CLIENT) and _finished(leg, Side.SERVER)
    if leg.role is LegRole.THROUGH and not finished:
        if (course := sealed(leg)) is not None and (told := _by_sizes(recording, leg, course)) is not None:
            return told
        text = "the connection ended before both sides had sent application data; what they said is encrypted"
        text += f" (a refusal in TLS 1.3 looks like this from outside: {_TO_SEE_IT})"
        alerts = {record.sender for record in leg.encrypted_records if record.alert_size}
        if len(alerts) == 1:
            sender = alerts.pop()
            text += f"; the {party_of(leg.role, sender).value} has sent a record of the size of an alert"
            if _last_was_alert_size(leg, sender):
                text += ", and nothing after it: that may be a refusal, and what it says is encrypted"
                if sender is Side.CLIENT:  # JDK 17 has no key log, and its alerts are in clear up to TLS 1.2
                    text += " (a Java client says it in clear when it runs with -Djdk.tls.client.protocols=TLSv1.2)"
        return Outcome(Status.FAILED, Party.UNKNOWN, leg.role, None, text)
    if not finished:
        text = f"the session ended before the handshake with the {_peer(leg).value} was finished"
        return Outcome(Status.FAILED, Party.UNKNOWN, leg.role, None, f"{text}, and nothing tells who ended it")
    facing = leg if leg.role is LegRole.THROUGH else recording.leg(LegRole.CLIENT)
    if facing is not None and _left(facing, Side.CLIENT) < _left(leg, Side.SERVER):
        if not facing.count(Side.CLIENT).length:
            return _abandoned(facing)
        text = "the client left before the target had answered; nothing proves that the target accepted the handshake"
        return Outcome(Status.ABANDONED, Party.CLIENT, facing.role, None, text)
    return Outcome(
        Status.FAILED,
        party,
        leg.role,
        None,
        f"the {party.value} closed the connection after the handshake and said nothing that proves that it accepted it"
        + _asked_for_certificate(leg),
    )


def _by_sizes(recording: Recording, leg: Leg, course: Sealed) -> Outcome | None:
    """How it ended where the sizes of sealed records tell who left first, behind the client's flight."""
    if course.flight in {Flight.NOTHING, Flight.ALERT} or course.answered:
        return None
    if course.server_left_first:
        sent = "sealed a record of the size of an alert" if course.refused else "closed the connection"
        text = f"{_who(recording, Party.TARGET)} {sent} behind the client's last flight, and did not answer it"
        text += {
            Flight.NO_CERTIFICATE: ": it had asked for a client certificate and got none",
            Flight.CERTIFICATE: ": it had asked for a client certificate and got one",
        }.get(course.flight, "")
        text += f" (by the sizes of sealed records; what they say is encrypted: {_TO_SEE_IT})"
        return Outcome(Status.FAILED, Party.TARGET, leg.role, None, text)
    return None if course.used or course.client_left == math.inf else _abandoned(leg, by_sizes=True)


def _peer(leg: Leg) -> Party:
    """Who of a leg is not the proxy."""
    return party_of(leg.role, Side.CLIENT if leg.role is LegRole.CLIENT else Side.SERVER)


def _last_was_alert_size(leg: Leg, side: Side) -> bool:
    last = [record for record in leg.encrypted_records if record.sender is side][-1]
    said = max((message.t for message in leg.messages if message.sender is side), default=0.0)
    return last.alert_size and last.t >= max(said, leg.count(side).last or 0.0)


def _spoke_sealed(leg: Leg) -> bool:
    """Passed through without keys: more was said after the handshake than it takes, but not by whom how much."""
    protected = [one for one in leg.encrypted_records if one.sender is Side.CLIENT and not one.alert_size]
    said = leg.count(Side.SERVER).length > 0 or len(protected) > 1
    return leg.role is LegRole.THROUGH and said and _answered(leg)


def _standing(recording: Recording, stopped: str | None, witness: str) -> Outcome:
    facing = recording.leg(LegRole.CLIENT) or recording.legs[0]
    sent = facing.count(Side.CLIENT)
    course = sealed(facing)
    if course is not None and not course.used and course.client_left < course.server_left:
        return _abandoned(facing, by_sizes=True)
    if not sent.length and _spoke_sealed(facing):
        text = "established: the handshake was accepted; what was sent after it is encrypted"
        return Outcome(Status.ESTABLISHED, text=text)
    if not sent.length and not facing.count(Side.SERVER).length:
        return _unused(recording, facing, f"the {witness} {stopped}" if stopped else None)
    handshakes = "both handshakes were" if len(recording.legs) > 1 else "the handshake was"
    text = f"established: {handshakes} accepted; the client sent {sent.length} bytes of application data"
    return Outcome(Status.ESTABLISHED, text=f"{text} and the target {facing.count(Side.SERVER).length}")


def _told_no_further(recording: Recording, witness: str) -> Outcome:
    """Finished on both sides, for a witness who does not tell what comes then."""
    if all(map(_stands, recording.legs)):
        text = f"established: the handshake was accepted; the {witness} does not tell what was sent after it"
        return Outcome(Status.ESTABLISHED, text=text)
    text = f"the handshake was finished; the {witness} shows nothing by which the target says that it accepted it"
    return Outcome(Status.INTERRUPTED, text=text)


def _unused(recording: Recording, facing: Leg, stopped: str | None) -> Outcome:
    """Finished, and no application data: whoever left first is the reason."""
    target = recording.leg(LegRole.SERVER) or recording.leg(LegRole.THROUGH)
    client_left = _left(facing, Side.CLIENT)
    target_left = _left(target, Side.SERVER) if target is not None else math.inf
    if target is not None and target_left < client_left:
        end = next((end.how for end in target.ends if end.sender is Side.SERVER and end.t == target_left), None)
        how: dict[Ending | None, str] = {Ending.FIN: "closed the connection", Ending.RESET: "reset the connection"}
        goodbye = "sent an alert that was not opened" if _unopened_goodbye(target, Side.SERVER) else "said close_notify"
        text = f"{_who(recording, Party.TARGET)} {how.get(end, goodbye)} after the handshake,"
        text += f" before any application data{_asked_for_certificate(target)}"
        return Outcome(Status.FAILED, Party.TARGET, target.role, None, text)
    if stopped and client_left == math.inf:
        text = f"the handshake was finished but the connection was unused when {stopped}"
        return Outcome(Status.INTERRUPTED, text=text)
    return _abandoned(facing)


def _abandoned(facing: Leg, *, by_sizes: bool = False) -> Outcome:
    text = "the handshake was finished and the client left without sending any application data"
    text += ", by the sizes of its sealed records" if by_sizes else ""
    text += " (a client does so that judges the host name, a pin or the chain only then, and refuses it)"
    return Outcome(Status.ABANDONED, Party.CLIENT, facing.role, None, text)


def _left(leg: Leg, side: Side) -> float:
    """When this side ended the conversation, with close_notify or without; never, if it did not."""
    goodbyes = [message.t for message in leg.messages if message.sender is side and _says_goodbye(message)]
    goodbyes += _unopened_goodbye(leg, side)
    ends = [end.t for end in leg.ends if end.sender is side and end.how in {Ending.FIN, Ending.RESET}]
    return min([*goodbyes, *ends], default=math.inf)


def _unopened_goodbye(leg: Leg, side: Side) -> list[float]:
    """Below TLS 1.3 an alert without its key is known as one (RFC 5246 6.2.1); the last thing that a side says, it is
    either close_notify or a refusal.
    """
    said = [one for one in leg.messages if one.sender is side]
    last = leg.count(side).last
    if not said or said[-1].content is not Content.ALERT or said[-1].code >= 0 or not said[-1].encrypted:
        return []
    return [] if last is not None and last > said[-1].t else [said[-1].t]


# -- words ---------------------------------------------------------------------------------------------------------


def party_of(role: LegRole, side: Side) -> Party:
    """Who plays this side of a leg of this role."""
    if side is Side.CLIENT:
        return Party.PROXY if role is LegRole.SERVER else Party.CLIENT
    return Party.PROXY if role is LegRole.CLIENT else Party.TARGET


def _who(recording: Recording, party: Party) -> str:
    if party is Party.TARGET:
        return f"the target {recording.target}" if recording.target else "the target"
    return {
        Party.CLIENT: "the client",
        Party.PROXY: "the proxy",
        Party.UPSTREAM_PROXY: "the upstream proxy",
        Party.NETWORK: "the network",
    }.get(party, "somebody")


def is_health_check(recording: Recording) -> bool:
    """Whether it is a connection of the load balancer's own (PROXY protocol 2.2, LOCAL), which began no TLS."""
    header = recording.prelude.get("proxy_protocol")
    local = isinstance(header, dict) and header.get("command") == "LOCAL"
    return local and "not_tls" not in recording.prelude and not recording.legs


def _not_tls(recording: Recording) -> Outcome:
    failure = recording.failures[0] if recording.failures else None
    if failure is not None:
        return Outcome(Status.NOT_TLS, failure.by, failure.leg, None, f"not TLS; {_sentence(recording, failure)}")
    if any(leg.faults for leg in recording.legs):
        return Outcome(Status.FAILED, Party.UNKNOWN, text="the client did not begin with TLS")
    if recording.http:
        text = f"the client sent plain HTTP requests, which were forwarded: {len(recording.http)} of them"
        return Outcome(Status.NOT_TLS, text=text)
    if is_health_check(recording):
        text = "a load balancer connected for itself (PROXY LOCAL), as its health checks do, and began no TLS"
        return Outcome(Status.NOT_TLS, text=text)
    return Outcome(
        Status.NOT_TLS,
        text=f"the client did not speak TLS; {recording.from_client} bytes from it went by as they were,"
        f" and {recording.from_target} from the target",
    )
