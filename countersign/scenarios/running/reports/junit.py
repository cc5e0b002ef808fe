"""The matrix as JUnit XML, which every build server reads: a suite for each family, a case for each scenario."""

from __future__ import annotations

import re
from itertools import groupby
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

from countersign.recorder.recording import rfc3339
from countersign.recorder.wire.text import printable
from countersign.scenarios.running.reports.words import command, details, plain_ladder, tool, verdict_text
from countersign.scenarios.running.verdict import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from countersign.scenarios.running.results import Matrix, Result

_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, 2.2


def to_junit(matrix: Matrix) -> bytes:
    """Wrong verdicts are failures, scenarios that never were on the wire are errors."""
    results = sorted(matrix.results, key=lambda result: result.family)
    totals = _counts(results)
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<testsuites name="{tool(matrix)}" {totals} time="{matrix.seconds:.3f}">',
    ]
    for family, found in groupby(results, key=lambda result: result.family):
        suite = list(found)
        seconds = sum(result.seconds for result in suite)
        started = rfc3339(matrix.started)[:19]
        lines.append(
            f'  <testsuite name={_attribute(family)} {_counts(suite)} time="{seconds:.3f}" timestamp="{started}">'
        )
        subject = f'name="{matrix.subject}" value={_attribute(command(matrix))}'
        lines.append(f"    <properties><property {subject}/></properties>")
        for result in suite:
            lines += _case(result)
        lines.append("  </testsuite>")
    lines.append("</testsuites>")
    return ("\n".join(lines) + "\n").encode()


def _case(result: Result) -> Iterator[str]:
    name, group = _attribute(result.key), _attribute(f"countersign.{result.family}")
    opening = f'    <testcase name={name} classname={group} time="{result.seconds:.3f}"'
    kind, text = result.verdict.kind, _attribute(verdict_text(result))
    if kind is Kind.SKIPPED:
        yield f"{opening}><skipped message={text}/></testcase>"
    elif result.right_done:
        yield f"{opening}/>"
    else:
        element = "error" if kind is Kind.UNPROVED else "failure"
        body = "\n".join([printable(result.title), *details(result), *map(plain_ladder, result.ladders)])
        yield f"{opening}><{element} type={_attribute(kind.value)} message={text}>{_text(body)}</{element}></testcase>"


def _counts(results: Iterable[Result]) -> str:
    found = list(results)
    kinds = [result.verdict.kind for result in found]
    errors, skips = kinds.count(Kind.UNPROVED), kinds.count(Kind.SKIPPED)
    failures = sum(not result.right_done for result in found) - errors
    return f'tests="{len(kinds)}" failures="{failures}" errors="{errors}" skipped="{skips}"'


def _attribute(text: str) -> str:
    return quoteattr(_NO_XML.sub("\ufffd", text))


def _text(text: str) -> str:
    return escape(_NO_XML.sub("\ufffd", text))
