"""Revocation over real HTTP: who is revoked, OCSP, CRLs and issuers' certificates, right or wrong on order.

The smallest calls::

    async with Responder(Authority.make()) as responder:          # on a loopback port
        leaf, issuer, *_ = issue(responder.authority, "host").chain
        responder.revoke(leaf, reason=Reason.KEY_COMPROMISE)
        await responder.change([parse_fault("ocsp:tryLater")])
        answer = await ask(responder.urls().ocsp, leaf, issuer)   # answer.verdict, answer.text
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from countersign.ca.revocation.answers import Answers, Manner, ResponderId, certificates_only, stapler
from countersign.ca.revocation.faults import Fault, Kind, What, fault_of, parse_fault, parse_serial
from countersign.ca.revocation.issuers import SignedBy, entry_for, named
from countersign.ca.revocation.judging import Answer, Doubt, Patience, Verdict, judge_staple
from countersign.ca.revocation.points import CrlPoint, CrlStyle, Points, Urls, pointed_at, with_points
from countersign.ca.revocation.register import Entry, Reason, Register, RegisterError, State

if TYPE_CHECKING:
    from countersign.ca.revocation.asking import ask, ask_all, fetch_issuers
    from countersign.ca.revocation.responder import Asked, Limits, Responder

# What speaks HTTP takes a quarter of a second to load, and a proxy that staples does not need it.
_LOADED_WHEN_USED = {
    "Asked": "responder", "Limits": "responder", "Responder": "responder", "ask": "asking", "ask_all": "asking",
    "fetch_issuers": "asking",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _LOADED_WHEN_USED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LOADED_WHEN_USED[name]}"), name)


__all__ = [
    "Answer",
    "Answers",
    "Asked",
    "CrlPoint",
    "CrlStyle",
    "Doubt",
    "Entry",
    "Fault",
    "Kind",
    "Limits",
    "Manner",
    "Patience",
    "Points",
    "Reason",
    "Register",
    "RegisterError",
    "Responder",
    "ResponderId",
    "SignedBy",
    "State",
    "Urls",
    "Verdict",
    "What",
    "ask",
    "ask_all",
    "certificates_only",
    "entry_for",
    "fault_of",
    "fetch_issuers",
    "judge_staple",
    "named",
    "parse_fault",
    "parse_serial",
    "pointed_at",
    "stapler",
    "with_points",
]
