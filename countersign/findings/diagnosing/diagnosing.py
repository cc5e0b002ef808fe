"""All rules over one recording, and their findings in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from countersign.errors import UserError
from countersign.findings.diagnosing.answered import answered, echoed, in_clear, no_tunnel
from countersign.findings.diagnosing.case import FAMILIES, Case, named
from countersign.findings.diagnosing.conversation import by_hand, conversation, internal, records_damaged
from countersign.findings.diagnosing.inspection import inspection
from countersign.findings.diagnosing.model import Diagnosis, Finding, Found, Severity, kinds
from countersign.findings.diagnosing.parameters import unshared
from countersign.findings.diagnosing.refused import abandoned, refused, revocation_asked
from countersign.findings.diagnosing.said import said
from countersign.findings.diagnosing.standing import standing
from countersign.findings.diagnosing.unseen import refused_unseen
from countersign.recorder.recording import LegRole, Party, Status
from countersign.recorder.wire.events import Side
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Sequence

    from countersign.findings.diagnosing.case import View
    from countersign.recorder.recording import Recording

_RULES: tuple[Callable[[Case], Iterator[Found]], ...] = (
    refused,
    refused_unseen,
    answered,
    echoed,
    in_clear,
    no_tunnel,
    abandoned,
    unshared,
    conversation,
    records_damaged,
    revocation_asked,
    inspection,
    said,
    by_hand,
    standing,
    internal,
)
_SEVERITIES = {Severity.CAUSE: 0, Severity.WARNING: 1, Severity.NOTE: 2}
_NO_MORE_THAN_SAID = {
    "other-alert",
    "internal-error",
    "nothing-shared",
    "target-closed",
    "client-left",
    "client-reset",
    "interrupted",
}
"""What only repeats how it ended, where something else says why."""

_NO_TLS_THERE = {"target-plain-http", "target-not-tls", "target-echoes", "starttls-declined"}
_OF_A_TLS_SERVER = {
    "tls13-intolerance",
    "no-sni",
    "large-hello-dropped",
    "answer-refused",
    "broken-message",
    "other-alert",
    "target-closed",
    "target-reset",
    "target-silent",
}
"""What would be wrong with a server that speaks TLS."""

_BEHIND_IT = {"channel-binding"}
"""What breaks a session whose handshake is good."""

_FOR_WANT_OF_A_ROOT = ("untrusted-inspection-ca", "untrusted-root")
_STANDS = {Status.ESTABLISHED, Status.OPEN}


def check_family(family: str) -> None:
    """Raise :class:`UserError` where there is no such family of clients that cures are worded for."""
    if family not in FAMILIES:
        raise UserError(f"there is no family of clients {family!r}; expected {', '.join(FAMILIES)}")


def diagnose(recording: Recording, *, history: Sequence[Recording] = (), family: str = "any") -> Diagnosis:
    """What broke it, most probable first. ``history`` are other recordings of the same target, newest first.

    ``family`` words the cures for one family of clients (:data:`FAMILIES`); by default it is read from the hello.
    What ran on order (``scenario``, ``step``, ``faults``) is not looked at: the wire must tell.
    """
    check_family(family)
    case = Case(recording, [one for one in history if one.id != recording.id], family)
    found: dict[str, Found] = {}
    for rule in _RULES:
        for one in rule(case):
            known = found.get(one.id)
            if known is None or _order(one) < _order(known):
                found[one.id] = one
    if recording.outcome.status in _STANDS:
        found = {name: one for name, one in found.items() if one.severity is not Severity.CAUSE or name in _BEHIND_IT}
    if "outside-name-constraints" in found:
        found.pop("cannot-mimic", None)  # the same, as the proxy noticed it
    if _NO_TLS_THERE & found.keys():
        found = {name: one for name, one in found.items() if name not in _OF_A_TLS_SERVER}
    causes = (one for one in found.values() if one.severity is Severity.CAUSE and one.id not in _NO_MORE_THAN_SAID)
    if any(one.rank < 3 for one in causes):
        found = {name: one for name, one in found.items() if name not in _NO_MORE_THAN_SAID}
    ordered = sorted(found.values(), key=_order)
    findings = tuple(_worded(one, case) for one in ordered)
    return Diagnosis(recording.id, recording.outcome.text, findings, tuple(_unseen(case, found)), recording.scenario)


def _order(one: Found) -> tuple[int, int]:
    return _SEVERITIES[one.severity], one.rank


def _worded(one: Found, case: Case) -> Finding:
    kind = kinds()[one.id]
    family = case.client_family
    words = kind.fixes.get(family) or (kind.fixes.get("openssl") if family in {"curl", "python", "node"} else None)
    host = printable(case.host or "HOST", limit=255)
    values = _Values(
        {"host": host, "target": printable(case.recording.target or "the target", limit=255), **one.values}
    )
    fix = kind.fix.format_map(values) + (f" {case.jvm.filled(words).format_map(values)}" if words else "")
    text = f"{one.text[:1].upper()}{one.text[1:]}"
    text = text if text.endswith((".", "!")) else f"{text}."
    evidence = one.evidence or (f"how the session ended ({case.recording.outcome.status.value})",)
    return Finding(one.id, one.severity, kind.title, text, evidence, fix, kind.source)


class _Values(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return key.upper()


def _refused_by_client(view: View) -> bool:
    ended = view.ended
    return ended is not None and ended.party is Party.CLIENT


def _unseen(case: Case, found: Container[str]) -> Iterator[str]:
    """What the recording could not show, so that nothing was concluded from it."""
    if any(name in found for name in _FOR_WANT_OF_A_ROOT):
        for view in case.views:
            last = view.facts(Side.SERVER)[-1:]
            if last and not last[0].self_issued and _refused_by_client(view):
                text = (
                    f"{named(last[0].issuer)}, which was not sent: whether it is a root, what it allows below it (path "
                )
                yield f"{text}length, names), and whether it signed {named(last[0].subject)}"
    for view in case.views:
        sealed = bool(view.leg.encrypted_records) or any(one.sealed for one in view.reading.messages)
        if sealed and not view.chain(Side.SERVER) and not view.reading.resumed:
            yield f"the certificates of the {view.title}: they are encrypted, and there are no keys (TLS 1.3)"
    if case.view(LegRole.THROUGH) is not None and not case.view(LegRole.CLIENT):
        yield "what the client trusts: no recording shows that"
    if any(view.renamed for view in case.views):
        yield "signatures: names here are pseudonyms (--redact), and what was wrong with any was noted before"
    if not case.history:
        yield "how this target behaved before: no other recording of it was found"
