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
    from countersign.findings.explaining import Explained

_LONGEST = 300
_MOST = 20
_OF_THE_CHAIN = {
    "expired",
    "not-yet-valid",
    "dates",
    "host-name",
    "revoked",
    "revocation-unknown",
    "stapling",
    "weak",
    "wrong-usage",
    "ca-constraints",
    "strict-x509",
    "bad-signature",
    "malformed-certificate",
    "critical-extension",
    "chain-too-long",
    "policy",
    "pinned",
    "store-empty",
    "transparency",
    "fips",
    "mid-ocsp",
}
"""Reasons to refuse a chain that are not its root; no alert has to say them, and not all are on the wire."""


def said(case: Case) -> Iterator[Found]:
    """The texts that its log has for this handshake, where it is known what they mean."""
    for line, words, explained in _known(case):
        text = f"the client's log says {printable(words, limit=_LONGEST)!r}: {explained.kind.text}"
        rank = 1 if explained.kind.id in _OF_THE_CHAIN else 2
        yield Found(
            "client-says", text, (f"line {line} of the log",), rank=rank, values={"cure": explained.cure(case.jvm)}
        )
        return


def says_otherwise(case: Case) -> bool:
    """Whether the client itself has named a reason that is not the root of the chain."""
    return next((explained.kind.id in _OF_THE_CHAIN for _, _, explained in _known(case)), False)


def _known(case: Case) -> Iterator[tuple[object, str, Explained]]:
    """The line, the words, and what they mean."""
    entries = case.recording.log.get("said")
    for entry in entries[:_MOST] if isinstance(entries, list | tuple) else ():
        if not isinstance(entry, dict):
            continue
        causes = entry.get("causes")
        words = [str(one) for one in (entry.get("text"), *(causes if isinstance(causes, list) else ())) if one]
        for one in explain(io.BytesIO("\n".join(words).encode())).findings:
            if not one.kind.vague:
                yield entry.get("line"), words[0], one
