"""An answer about revocation proves the fault that it has, and no other."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from countersign.ca.revocation import Answer, Doubt, Fault, Kind, Verdict, What
from countersign.scenarios.answered import has, not_answered

NOW = datetime(2026, 11, 21, tzinfo=UTC)
SEEN = {
    What.SIGNER_EXPIRED: Doubt.SIGNER,
    What.BAD_SIGNATURE: Doubt.SIGNATURE,
    What.EXPIRED: Doubt.EXPIRED,
    What.FUTURE: Doubt.FUTURE,
    What.WRONG_SERIAL: Doubt.WRONG_CERTIFICATE,
    What.NO_NONCE: Doubt.NO_NONCE,
    What.MALFORMED: Doubt.MALFORMED,
    What.CONTENT_TYPE: Doubt.CONTENT_TYPE,
    What.RESET: Doubt.RESET,
    What.REFUSE: Doubt.REFUSED,
}


def answered(*doubts: Doubt) -> Answer:
    return Answer(
        url="http://127.0.0.1/",
        kind=Kind.OCSP,
        method="POST",
        verdict=Verdict.GOOD,
        text="good",
        at=NOW,
        seconds=0.01,
        doubts=tuple((one, one.value) for one in doubts),
    )


@pytest.mark.parametrize("what", list(SEEN), ids=lambda what: what.value)
def test_an_answer_proves_the_fault_that_it_has_and_no_other(what: What) -> None:
    fault = Fault(what)
    assert has(answered(SEEN[what]), fault)
    assert not has(answered(), fault)
    assert not has(answered(*set(SEEN.values()) - {SEEN[what]}), fault)


def test_a_right_answer_and_no_question_at_all_prove_nothing() -> None:
    fault = Fault(What.EXPIRED)
    assert not_answered(fault, [answered(Doubt.EXPIRED)]) is None
    assert "no answer of it shows the fault" in str(not_answered(fault, [answered()]))
    assert "nobody asked the responder" in str(not_answered(fault, []))
