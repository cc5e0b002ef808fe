"""What is done with a connection: intercept it, pass it through, or refuse it; and what refusing is.

A policy is a value (:mod:`countersign.proxy.ways.policy`): given the :class:`~.ways.policy.Facts` of a connection it
gives a :class:`~.ways.policy.Decision`. Without rules it is what ``--intercept`` or ``--passthrough`` say.

It is asked when the client has said its first thing and before that is answered. Where no rule looks at a ClientHello
it is asked before the dial as well, so that a client which waits for an answer of its own (CONNECT, SOCKS) is refused
in its own words, and a target that nobody may reach is not dialled.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from countersign.proxy.dial import DialFailed
from countersign.proxy.ways.policy import RESET, Decision, Facts, Policy, Verdict
from countersign.recorder.recording import FailureCode, LegRole, Party, Status
from countersign.recorder.wire.events import Side
from countersign.recorder.wire.tap import LegTap

if TYPE_CHECKING:
    from countersign.proxy.context import Context, Over
    from countersign.proxy.settings import Address, Settings
    from countersign.proxy.sniff import Hello
    from countersign.recorder.recording import Recording


def policy_of(settings: Settings) -> Policy:
    """What decides under these settings."""
    return settings.policy or Policy(default=Verdict(settings.action.value))


def decide(context: Context, policy: Policy, target: Address, hello: Hello) -> Decision:
    """What the policy says of this connection; the recording's action is set to it."""
    summary = hello.summary
    facts = Facts(
        target=target,
        client=context.client_host,
        sni=summary.sni if summary else None,
        alpn=summary.alpn_offered if summary else (),
        ja4=lambda: summary.ja4 if summary else None,
    )
    decision = policy.decide(facts)
    if context.engine.bypasses is not None:
        decision = context.engine.bypasses.apply(decision, facts, now=context.engine.monotonic())
    ordered = context.orders.action
    if ordered is not None and decision.verdict is not Verdict.REFUSE and decision.verdict != ordered.value:
        decision = replace(decision, verdict=Verdict(ordered.value), reason="ordered for this connection")
    context.recording.action = decision.verdict.value
    if policy.rules or context.engine.bypasses is not None or ordered is not None:
        context.recording.prelude["decision"] = decision.reason
    return decision


def turned_down(recording: Recording) -> str | None:
    """Why the client would have none of our certificate, behind "the client"; None where that is not what happened.

    Only the client leg tells, and only when the target's is done: whatever failed before has nothing to do with us.
    """
    outcome = recording.outcome
    ours = recording.action == Verdict.INTERCEPT and outcome.status is Status.FAILED
    if not ours or outcome.broken_by is not Party.CLIENT or outcome.leg is not LegRole.CLIENT:
        return None
    client = next((leg for leg in recording.legs if leg.role is LegRole.CLIENT), None)
    if client is None or not any(message.sender is Side.SERVER for message in client.messages):
        return None
    return f"answered it with the alert {outcome.alert}" if outcome.alert else "broke off the handshake"


def check_before_dial(context: Context, policy: Policy, target: Address) -> None:
    """Raise :class:`~countersign.proxy.dial.DialFailed` for what is refused whatever the client says in its hello."""
    if policy.needs_hello:
        return
    decision = policy.decide(Facts(target=target, client=context.client_host))
    if decision.verdict is Verdict.REFUSE:
        context.recording.action = decision.verdict.value
        raise DialFailed(FailureCode.REFUSED_BY_RULE, Party.PROXY, _text(decision))


def refuse(context: Context, decision: Decision, hello: Hello) -> Over:
    """Turn the client away as the decision says; give what ends the session."""
    how = decision.refuse_with or "access_denied"
    return turn_away(context, hello, how, code=FailureCode.REFUSED_BY_RULE, text=_text(decision))


def turn_away(context: Context, hello: Hello, how: str, *, code: FailureCode, text: str) -> Over:
    """End a session that had only begun, with this alert or with a reset; who speaks no TLS gets no alert."""
    tap = LegTap()
    if hello.first is not None:
        for t, data in hello.chunks:
            context.recording.add(LegRole.CLIENT, tap.wire(Side.CLIENT, data, t))
    if how == RESET or hello.first is None:
        over = context.over(None, Party.PROXY, code=code, text=text)
        context.client.abort()
        return over
    return context.refuse(tap, how, LegRole.CLIENT, Party.PROXY, code=code, text=text)


def _text(decision: Decision) -> str:
    return f"does not serve this connection: {decision.reason}"
