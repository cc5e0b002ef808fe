"""What is done with a connection: intercept it, pass it through, or refuse it; and what refusing is.

Decided once, when the client has said its first thing and before the target is dialled (or, where the client waits for
an answer of its own, before it has said anything more). A policy is a value (:mod:`countersign.proxy.ways.policy`):
given the :class:`~countersign.proxy.ways.policy.Facts` of a connection it gives a
:class:`~countersign.proxy.ways.policy.Decision`. Without rules it is what ``--intercept`` or ``--passthrough`` say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from countersign.proxy.ways.policy import RESET, Decision, Facts, Policy, Verdict
from countersign.recorder.recording import FailureCode, LegRole, Party
from countersign.recorder.wire.events import Side
from countersign.recorder.wire.tap import LegTap

if TYPE_CHECKING:
    from countersign.proxy.context import Context, Over
    from countersign.proxy.settings import Address
    from countersign.proxy.sniff import Hello


def decide(context: Context, policy: Policy, target: Address, hello: Hello) -> Decision:
    """What the policy says of this connection; the recording's action is set to it."""
    summary = hello.summary
    facts = Facts(
        target=target,
        client=context.client.peer_host(),
        sni=summary.sni if summary else None,
        alpn=summary.alpn_offered if summary else (),
        ja4=lambda: summary.ja4 if summary else None,
    )
    decision = policy.decide(facts)
    context.recording.action = decision.verdict.value
    return decision


def policy_of(context: Context) -> Policy:
    """What decides where no rules were given."""
    return Policy(default=Verdict(context.settings.action.value))


def refuse(context: Context, decision: Decision, hello: Hello) -> Over:
    """Turn the client away as the decision says, with an alert or with a reset; give what ends the session."""
    tap = LegTap()
    for t, data in hello.chunks:
        context.recording.add(LegRole.CLIENT, tap.wire(Side.CLIENT, data, t))
    text = f"does not serve this connection: {decision.reason}"
    if decision.refuse_with == RESET:
        context.client.abort()
        return context.over(LegRole.CLIENT, Party.PROXY, code=FailureCode.REFUSED_BY_RULE, text=text)
    alert = decision.refuse_with or "access_denied"
    return context.refuse(tap, alert, LegRole.CLIENT, Party.PROXY, code=FailureCode.REFUSED_BY_RULE, text=text)
