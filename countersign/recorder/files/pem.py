"""The certificates of a recording as PEM (RFC 7468), each under a comment that says where it was seen.

The comment is explanatory text as RFC 7468 5.2 has it, one line that starts with ``#``. What it repeats of the
certificate is escaped, so no name can begin a line or a certificate of its own.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from countersign.errors import AnswerIsNo
from countersign.recorder.der import to_pem
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from countersign.recorder.recording import Leg, Recording


def export_pem(recording: Recording) -> str:
    """Every chain of its legs, in the order in which it was sent.

    Raises :class:`AnswerIsNo` where no certificate was seen.
    """
    text = "".join(part for leg in recording.legs for part in _chains(leg))
    if not text:
        why = "none was sent before it ended"
        if any(leg.read().certificates for leg in recording.legs):
            why = "the log that it was imported from tells of some, and not their bytes"
        raise AnswerIsNo(f"recording {recording.id} holds no certificate: {why}")
    return text


def _chains(leg: Leg) -> Iterator[str]:
    for _, sent_together in groupby(leg.read().certificates, key=lambda sent: sent.message):
        chain = [sent for sent in sent_together if sent.told is None]
        for position, sent in enumerate(chain, start=1):
            subject = printable(sent.facts.subject or "unreadable subject", limit=500)
            yield f"# {leg.role.value} leg, from the {sent.sender.value}, {position} of {len(chain)}: {subject}\n"
            yield to_pem(sent.der).decode("ascii")
