"""The matrix as SARIF 2.1.0 (OASIS), which code hosts show beside the code: a rule for each scenario, a result for
each verdict that says no.

A result needs a place in the repository, and what is to be mended is the client: its command line names files, of which
the first that is there is taken; else the name of its program stands for it.
"""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from countersign import __version__
from countersign.recorder.recording import rfc3339
from countersign.recorder.wire.text import printable
from countersign.scenarios.running.reports.words import command, details, verdict_text
from countersign.scenarios.running.verdict import Kind

if TYPE_CHECKING:
    from countersign.scenarios.running.results import Matrix, Result

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def to_sarif(matrix: Matrix) -> bytes:
    """One run, with the scenarios that it was about as rules."""
    rules = list({result.scenario: result for result in matrix.results}.values())
    place = _place(matrix)
    document = {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "countersign",
                        "version": __version__,
                        "rules": [_rule(result) for result in rules],
                    }
                },
                "invocations": [
                    {
                        "executionSuccessful": not matrix.count(Kind.UNPROVED),
                        "commandLine": command(matrix),
                        "startTimeUtc": rfc3339(matrix.started),
                    }
                ],
                "results": [_result(result, place) for result in matrix.results if not result.right_done],
            }
        ],
    }
    return (json.dumps(document, indent=1, ensure_ascii=True) + "\n").encode()


def _rule(result: Result) -> dict[str, Any]:
    return {
        "id": result.scenario,
        "shortDescription": {"text": printable(result.title or result.scenario)},
        "properties": {"tags": [result.family], "right": result.right},
    }


def _result(result: Result, place: str) -> dict[str, Any]:
    level = "note" if result.verdict.known else "error"
    text = f"{printable(result.title or result.scenario)}: {verdict_text(result)}"
    return {
        "ruleId": result.scenario,
        "level": level,
        "kind": "fail",
        "message": {"text": "\n".join([text, *details(result)])},
        "locations": [{"physicalLocation": {"artifactLocation": {"uri": place}, "region": {"startLine": 1}}}],
        "partialFingerprints": {"countersign/v1": f"{result.key}:{result.verdict.kind.value}"},
    }


def _place(matrix: Matrix) -> str:
    """A relative path, as a URI."""
    for word in matrix.client:
        path = PurePosixPath(word)
        if not path.is_absolute() and ".." not in path.parts and _is_file(word):
            return quote(str(path))
    return quote(PurePosixPath(matrix.client[0]).name or "client") if matrix.client else "client"


def _is_file(word: str) -> bool:
    try:
        return Path(word).is_file()
    except OSError:  # too long to be the name of one
        return False
