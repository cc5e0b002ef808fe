"""What clients say when something goes wrong, and what it means: as ``explain`` knows it.

Nothing is concluded from these words: the verdict comes from the recording, and the words stand beside it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from io import BytesIO

from countersign.findings.explaining import explain

_COMPLAINS = re.compile(r"error|exception|fail|cannot|could not|unable|refused|fatal|\*\*\*", re.IGNORECASE)
_STACK = re.compile(r"\s+(at |\.\.\. \d+ more)")
_TRACEBACK = re.compile(r"^([ |]*)  File \"[^\n]*\n(?:\1    [^\n]*(?:\n|$))*", re.MULTILINE)
"""A frame of Python's: where it is, and the program's line, which is not what the program says."""
_ECHOED = re.compile(r"^(NOTE: )?Picked up \w+_OPTIONS:.*\n?", re.MULTILINE)
_MOST_LINES = 4
_LONGEST_LINE = 400


@dataclass(frozen=True, slots=True)
class Said:
    """A line of a client, and what it means where that is known."""

    line: str
    meaning: str | None


def what_it_said(output: str, errors: str) -> tuple[Said, ...]:
    """The lines in which a client tells what went wrong: the first of each meaning, without those that only say that it
    failed where others say more; else those that complain, else the last one among its errors.
    """
    said, printed = (
        [
            line.strip()[:_LONGEST_LINE]
            for line in _TRACEBACK.sub("", text).splitlines()
            if line.strip() and not _STACK.match(line)
        ]
        for text in (without_echo(errors), output)
    )
    lines = said + printed
    known = explain(BytesIO("\n".join(lines).encode("utf-8", "replace"))).findings
    telling = [one for one in known if not one.kind.vague] or known
    understood: dict[str, Said] = {}
    for one in sorted(telling, key=lambda one: one.places[0].line):
        understood.setdefault(one.kind.id, Said(one.places[0].text[:_LONGEST_LINE], one.kind.text))
    others = dict.fromkeys(Said(line, None) for line in lines if _COMPLAINS.search(line))
    others = others or dict.fromkeys(Said(line, None) for line in said[-1:])
    return tuple(understood.values() or others)[:_MOST_LINES]


def without_echo(text: str) -> str:
    """The output less what a JVM says of the options that it was given, a password among them."""
    return _ECHOED.sub("", text)
