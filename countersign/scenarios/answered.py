"""Whether an answer about revocation has the fault that was ordered: by our own judgement, not by what was ordered.

Faults wait for a question, and no client need ask. So the responder is asked by ourselves, over HTTP as a client would;
what was stapled is on the recording. Both are judged in :mod:`countersign.ca.revocation`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from countersign.ca.revocation import Answer, Doubt, Fault, Kind, Verdict, What, judge_staple

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from countersign.ca.revocation import Asked, Patience

_DOUBTS: dict[What, Doubt] = {
    What.MALFORMED_REQUEST: Doubt.STATUS,
    What.INTERNAL_ERROR: Doubt.STATUS,
    What.TRY_LATER: Doubt.STATUS,
    What.SIG_REQUIRED: Doubt.STATUS,
    What.UNAUTHORIZED: Doubt.STATUS,
    What.SIGNER_WITHOUT_EKU: Doubt.SIGNER,
    What.SIGNER_EXPIRED: Doubt.SIGNER,
    What.BAD_SIGNATURE: Doubt.SIGNATURE,
    What.EXPIRED: Doubt.EXPIRED,
    What.FUTURE: Doubt.FUTURE,
    What.NO_NEXT_UPDATE: Doubt.NO_NEXT_UPDATE,
    What.WRONG_SERIAL: Doubt.WRONG_CERTIFICATE,
    What.WRONG_ISSUER: Doubt.WRONG_ISSUER,
    What.NO_NONCE: Doubt.NO_NONCE,
    What.WRONG_NONCE: Doubt.WRONG_NONCE,
    What.MALFORMED: Doubt.MALFORMED,
    What.BIG: Doubt.TOO_LARGE,
    What.HTTP: Doubt.HTTP,
    What.REDIRECT_LOOP: Doubt.REDIRECTS,
    What.CONTENT_TYPE: Doubt.CONTENT_TYPE,
    What.BLOCK_PAGE: Doubt.MALFORMED,
    What.EMPTY: Doubt.MALFORMED,
    What.TRUNCATED: Doubt.CUT,
    What.HANG: Doubt.TIMEOUT,
    What.DRIP: Doubt.TIMEOUT,
    What.RESET: Doubt.RESET,
    What.REFUSE: Doubt.REFUSED,
}
_VERDICTS = {What.GOOD: Verdict.GOOD, What.REVOKED: Verdict.REVOKED, What.UNKNOWN: Verdict.UNKNOWN}


def has(answer: Answer, fault: Fault) -> bool:
    """Whether this answer has what the fault does."""
    what = fault.what
    if what in _VERDICTS:
        return answer.verdict is _VERDICTS[what]
    if what is What.WRONG_SIGNER:
        return answer.has(Doubt.SIGNER) or answer.has(Doubt.SIGNATURE)
    if what is What.SLOW:
        return answer.seconds >= fault.seconds or answer.has(Doubt.TIMEOUT)
    if what is What.REDIRECT:
        return answer.http_status is None or answer.has(Doubt.NOT_ASKED) or answer.verdict is not Verdict.NO_ANSWER
    if what in {What.MALFORMED_REQUEST, What.INTERNAL_ERROR, What.TRY_LATER, What.SIG_REQUIRED, What.UNAUTHORIZED}:
        return any(doubt is Doubt.STATUS and what.value in text for doubt, text in answer.doubts) or (
            answer.verdict is Verdict.DECLINED and what.value in answer.text
        )
    return answer.has(_DOUBTS[what])


def not_answered(fault: Fault, log: Iterable[Asked | Answer]) -> str | None:
    """Why no answer to our own questions in the log shows this fault; None where one does."""
    seen = 0
    for one in log:
        if one.kind is not None and one.kind in fault.on:
            seen += 1
            if isinstance(one, Answer) and has(one, fault):
                return None
    if not seen:
        return f"nobody asked the responder about {_kinds(fault)}, we neither: the fault {fault} is not proved"
    return f"the responder was asked about {_kinds(fault)}, and no answer of it shows the fault {fault}"


def not_stapled(fault: Fault, body: bytes | None, leaf: bytes, issuer: bytes, now: datetime) -> str | None:
    """Why what was stapled (None: nothing) does not show this fault; None where it does."""
    if body is None:
        return None if fault.what is What.EMPTY else f"no OCSP response was stapled, expected one with {fault}"
    answer = judge_staple(body, leaf, issuer, now=now)
    if fault.what is What.TRUNCATED:
        return None if answer.has(Doubt.MALFORMED) else "what was stapled is whole, expected half of it"
    return None if has(answer, fault) else f"what was stapled does not show {fault}: it is {answer.text}"


async def questions(
    chain: Iterable[bytes], *, root: bytes | None = None, patience: Patience | None = None
) -> list[Answer]:
    """Ask for each certificate of a chain all that it names, as the proof of faults that wait for a question."""
    from countersign.ca.revocation import ask_all

    certificates = list(chain)
    answers: list[Answer] = []
    for certificate, issuer in zip(certificates, [*certificates[1:], *([] if root is None else [root])], strict=False):
        answers += await ask_all(certificate, issuer, patience=patience)
    return answers


def _kinds(fault: Fault) -> str:
    return " or ".join(sorted(kind.value.upper() for kind in fault.on if isinstance(kind, Kind)))
