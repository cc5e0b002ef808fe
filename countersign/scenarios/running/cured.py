"""Whether a cure was one: the handshake that failed, and the same client's one after it.

What broke the first is diagnosed again, so that both are judged by the same rules, and what differs between the two is
said by the same comparison as anywhere. A cure is one where the second session went well. Where it did not, it matters
whether the cause is still the same: often one fault hides another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from countersign.errors import AnswerIsNo, UserError
from countersign.findings.comparing import Comparison, Weight, compare
from countersign.findings.diagnosing import Diagnosis, diagnose
from countersign.findings.subjects import Subject
from countersign.findings.wrapping import sentence
from countersign.recorder.recording import Status, summary
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from countersign.recorder.recording import Recording


@dataclass(frozen=True, slots=True)
class Cure:
    """Before and after, each with what broke it; ``cured`` is the answer, ``text`` the sentence."""

    before: Diagnosis
    after: Diagnosis
    comparison: Comparison
    cured: bool
    text: str

    @property
    def differences(self) -> tuple[str, ...]:
        """What differs between the two that matters, in sentences."""
        return tuple(each.text for each in self.comparison.differences if each.weight is Weight.MATTERS)

    def to_json(self) -> dict[str, Any]:
        """``{"schema": 1, "cured": bool, "text": ..., "before": {...}, "after": {...}, "comparison": {...}}``."""
        one, other = self.comparison.recordings
        return {
            "schema": 1,
            "cured": self.cured,
            "text": self.text,
            "before": {**summary(one), "diagnosis": self.before.to_json()},
            "after": {**summary(other), "diagnosis": self.after.to_json()},
            "comparison": self.comparison.to_json(),
        }


def check_failed(recording: Recording) -> None:
    """Raise :class:`UserError` for a recording that nothing is to be cured of."""
    if recording.outcome.status is Status.ESTABLISHED and diagnose(recording).cause is None:
        raise UserError(f"there is nothing to cure in {recording.id}: {printable(recording.outcome.text)}")


def same_again(before: Recording, sessions: Sequence[Recording]) -> Recording:
    """Of the client's sessions now the last that went where the failing one went. Raises :class:`AnswerIsNo`."""
    for each in reversed(sessions):
        if each.target == before.target or (before.sni is not None and each.sni == before.sni):
            return each
    went = ", ".join(dict.fromkeys(printable(each.target or each.sni or "somewhere") for each in sessions))
    raise AnswerIsNo(
        f"the client went to {went}, and {before.id} was about {printable(before.target or before.sni or 'elsewhere')}"
    )


def cure(before: Recording, after: Recording, *, well: bool, family: str = "any") -> Cure:
    """``well``: the client says that all went well now; a session that nobody used is a good one only then."""
    one, other = diagnose(before, family=family), diagnose(after, family=family)
    cured = after.outcome.status is Status.ESTABLISHED or (after.outcome.status is Status.ABANDONED and well)
    if cured:
        text = "Cured: the handshake goes through now."
    elif one.cause is not None and other.cause is not None and one.cause.id != other.cause.id:
        text = f"Not cured: that is over, and now it is something else: {other.cause.title}."
    else:
        text = "Not cured: it is what it was." if one.cause is not None else "Not cured: it still fails."
    return Cure(one, other, _compared(before, after), cured, text)


def _compared(before: Recording, after: Recording) -> Comparison:
    return compare(Subject("before", before), Subject("after", after), names=("before", "after"))


def lines(found: Cure) -> Iterator[str]:
    """For a terminal, not yet wrapped: the answer, before and after, and what has changed between."""
    yield found.text
    for name, diagnosis in (("Before", found.before), ("After", found.after)):
        yield ""
        yield f"{name}: {printable(diagnosis.outcome)}"
        if diagnosis.cause is not None:
            yield f"  Cause: {diagnosis.cause.title} [{diagnosis.cause.id}]"
            yield f"  Fix: {diagnosis.cause.fix}"
    yield ""
    changes = found.differences
    yield "What has changed" if changes else "Nothing has changed that matters."
    for text in changes:
        yield f"- {sentence(text)}"
