"""Refusals in TLS 1.3 that nobody opened: what the sizes of sealed records tell (:mod:`countersign.recorder.sealed`).

They tell how far the client came and who left first, so whose certificate was refused; never what was wrong with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from countersign.findings.diagnosing.model import Found
from countersign.recorder.recording import Party, Status
from countersign.recorder.sealed import Flight
from countersign.recorder.wire.events import Side
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from countersign.findings.diagnosing.case import Case

_HOW = {
    Flight.ALERT: "sealed one record behind the server's certificate, of the size of an alert, and no Finished: it "
    "refuses what it was shown, most often that certificate",
    Flight.NOTHING: "closed the connection right behind the server's certificate, without a word: so it looks when one "
    "refuses that without an alert (Node does), or is ended",
}


def refused_unseen(case: Case) -> Iterator[Found]:
    """The client's refusal of the server's certificate, or the server's of the client's."""
    for view in case.views:
        course, outcome = view.sealed, case.recording.outcome
        if course is None or outcome.status is not Status.FAILED or outcome.leg is not view.role or outcome.alert:
            continue
        evidence = (
            *view.evidence(view.message("server_hello")),
            f"{view.title}, the sizes of the sealed records behind it",
        )
        if outcome.broken_by is Party.UNKNOWN:
            if course.flight is Flight.NO_CERTIFICATE and not course.answered:
                text = (
                    f"{view.who(Side.SERVER)} asked for a client certificate and got an empty Certificate message (by "
                    "its size), and never answered that; whether it minded is encrypted here"
                )
                yield Found("no-client-certificate", text, evidence, values={"names": "encrypted here"})
            yield Found("ended-unseen", printable(outcome.text, limit=600), evidence, rank=2)
        elif outcome.broken_by is Party.CLIENT and course.flight in _HOW:
            text = f"{view.who(Side.CLIENT)} {_HOW[course.flight]}, which is encrypted here"
            yield Found("certificate-refused-unseen", text, evidence, rank=1)
        elif outcome.broken_by is Party.TARGET and course.flight is Flight.NO_CERTIFICATE:
            text = (
                f"{view.who(Side.SERVER)} asked for a client certificate and got an empty Certificate message (by its "
                "size), and ended the session without an answer"
            )
            yield Found(
                "no-client-certificate", text, evidence, values={"names": "named by the target, encrypted here"}
            )
        elif outcome.broken_by is Party.TARGET and course.flight is Flight.CERTIFICATE:
            text = (
                f"{view.who(Side.SERVER)} asked for a client certificate, got one (by the sizes), and ended the "
                "session without an answer: most often that refuses it, and what it says is encrypted here"
            )
            yield Found("client-certificate-refused-unseen", text, evidence)
