"""What the client itself said of the failure, where the recording was imported from its log."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from countersign.findings.diagnosing.model import Found
from countersign.findings.explaining import explain
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from countersign.findings.diagnosing.case import Case

_LONGEST = 300
_MOST = 20


def said(case: Case) -> Iterator[Found]:
    """The texts that its log has for this handshake, where it is known what they mean."""
    entries = case.recording.log.get("said")
    for entry in entries[:_MOST] if isinstance(entries, list | tuple) else ():
        if not isinstance(entry, dict):
            continue
        causes = entry.get("causes")
        words = [str(one) for one in (entry.get("text"), *(causes if isinstance(causes, list) else ())) if one]
        known = [one for one in explain(io.BytesIO("\n".join(words).encode())).findings if not one.kind.vague]
        if not known:
            continue
        text = f"the client's log says {printable(words[0], limit=_LONGEST)!r}: {known[0].kind.text}"
        evidence = (f"line {entry.get('line')} of the log",)
        yield Found("client-says", text, evidence, rank=2, values={"cure": known[0].fix})
        return
