"""What is worth knowing of a session that nobody broke: what another client, or tomorrow, will break on."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from countersign.findings.diagnosing.case import named
from countersign.findings.diagnosing.chain import defects, remaining
from countersign.findings.diagnosing.model import Found, Severity
from countersign.findings.diagnosing.refused import none_shown
from countersign.recorder.recording import LegRole, Status
from countersign.recorder.wire.events import Side

if TYPE_CHECKING:
    from collections.abc import Iterator

    from countersign.findings.diagnosing.case import Case

_SOON = timedelta(days=14)
_ONLY_NOTES = {"repeated-certificate", "unrelated-certificate", "bad-serial"}


def standing(case: Case) -> Iterator[Found]:
    """Warnings for chains that were taken, notes on how the session was made."""
    if case.recording.outcome.status is Status.INTERRUPTED:
        yield from _perhaps_for_want_of_one(case)
    if case.recording.outcome.status not in {Status.ESTABLISHED, Status.ABANDONED}:
        return
    for view in case.views:
        if view.role is LegRole.CLIENT and case.view(LegRole.SERVER) is not None:
            continue  # that chain is made after the target's
        evidence = view.evidence(view.message("certificate", Side.SERVER))
        chain = view.chain(Side.SERVER)
        for one in defects(chain, at=case.recording.started, name=view.reading.sni, broken=view.broken(Side.SERVER)):
            if one.id == "just-issued":
                continue
            severity = Severity.NOTE if one.id in _ONLY_NOTES else Severity.WARNING
            text = f"{one.text}; this client took it, another may not"
            yield Found(one.id, text, evidence, severity, rank=2, values=one.values)
        for sent in chain:
            left = remaining(sent.facts, case.recording.started)
            if left is not None and timedelta(0) < left < _SOON:
                text = f"{named(sent.facts.subject)} expires in {_days(left)}, on {sent.facts.not_after}"
                yield Found(
                    "expires-soon", text, evidence, Severity.WARNING, values={"date": str(sent.facts.not_after)}
                )
        if len(chain) > 1 and chain[-1].facts.self_issued:
            text = f"the root {named(chain[-1].facts.subject)} is sent with the chain: no client needs it"
            yield Found("root-sent", text, evidence, Severity.NOTE)
        if view.reading.version in {"TLSv1.0", "TLSv1.1", "SSLv3"}:
            text = f"{view.title}: {view.reading.version} was agreed on, which most peers refuse by now (RFC 8996)"
            yield Found("old-protocol", text, view.evidence(view.message("server_hello")), Severity.WARNING)
    yield from _without_certificate(case)
    yield from _resumed(case)


def _perhaps_for_want_of_one(case: Case) -> Iterator[Found]:
    """The client was asked for a certificate, showed none, has finished, and no word of the target came behind that:
    in TLS 1.3 the refusal comes there (RFC 8446 4.4.2.4), and a client that writes first may never read it.
    """
    for view in case.views:
        asked, shown = view.asked_for_certificate, view.message("certificate", Side.CLIENT)
        if asked is None or shown is None or view.chain(Side.CLIENT) or view.role is LegRole.CLIENT:
            continue
        finished = view.message("finished", Side.CLIENT)
        later = [each for each in view.reading.messages if each.message.sender is Side.SERVER]
        if finished is None or any(each.number > finished.number for each in later):
            continue
        for one in none_shown(case, view, view.evidence(asked, shown, finished)):
            yield replace(one, text=f"{one.text}; no word of the target came behind that", rank=1)


def _without_certificate(case: Case) -> Iterator[Found]:
    """The client was asked for a certificate, showed none, and the handshake stands: the application tells the rest."""
    for view in case.views:
        asked, shown = view.asked_for_certificate, view.message("certificate", Side.CLIENT)
        if asked is None or shown is None or view.chain(Side.CLIENT):
            continue
        if view.role is LegRole.CLIENT and case.view(LegRole.SERVER) is not None:
            continue  # the proxy asks as the target does
        evidence = view.evidence(asked, shown)
        for one in none_shown(case, view, evidence):
            text = f"{one.text}; the target went on without, and may answer 401 or 403 for that (or to user 'null')"
            yield replace(one, text=text, severity=Severity.NOTE)


def _resumed(case: Case) -> Iterator[Found]:
    for view in case.views:
        if view.reading.resumed:
            text = f"{view.title}: an earlier session was resumed, so no certificate was judged"
            yield Found("resumed", text, view.evidence(view.message("server_hello")), Severity.NOTE)


def _days(left: timedelta) -> str:
    return f"{left.days} days" if left.days > 1 else f"{int(left.total_seconds() // 3600)} hours"
