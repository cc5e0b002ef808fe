"""The questions that a recording cannot answer, in the order of the article's tree; what it can answer is answered."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from countersign.findings.diagnosing.model import Diagnosis

SOURCE = "MID Server mutual authentication, troubleshooting"


@dataclass(frozen=True, slots=True)
class Question:
    """``settled`` are findings that answer it with no, ``shown`` those that it takes a yes to have."""

    id: str
    text: str
    no: str
    settled: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Asked:
    """A question with the recording's answer and the finding that gives it; ``answer`` is None where it shows none."""

    question: Question
    answer: bool | None
    by: str | None = None

    def to_json(self) -> dict[str, Any]:
        """``answer`` is null where no recording shows it; ``no`` is what to do if it is no."""
        one = self.question
        return {"id": one.id, "text": one.text, "answer": self.answer, "by": self.by, "no": one.no}


@cache
def questions() -> tuple[Question, ...]:
    """All of them, in their order."""
    text = resources.files(__package__).joinpath("questions.toml").read_text("utf-8")
    return tuple(
        Question(
            one["id"], one["text"], one["no"], tuple(one.get("settled", ())), tuple(one.get("shown", ()))
        )
        for one in tomllib.loads(text)["question"]
    )  # fmt: skip


def walk(diagnosis: Diagnosis) -> Iterator[Asked]:
    """Each question with what the recording says to it."""
    found = {one.id for one in diagnosis.findings}
    for question in questions():
        no = next((name for name in question.settled if name in found), None)
        yes = next((name for name in question.shown if name in found), None)
        if no is not None:
            yield Asked(question, answer=False, by=no)
        elif yes is not None:
            yield Asked(question, answer=True, by=yes)
        else:
            yield Asked(question, answer=None)
