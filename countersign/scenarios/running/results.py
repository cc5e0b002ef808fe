"""What a client did under many scenarios: frozen results, their JSON form, and how parts of them are joined.

The JSON form is what ``--json`` prints and ``--report json=`` writes; the other forms are made from the same results,
also after ``countersign matrix merge`` has joined those of several machines. Keys are only ever added to it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from countersign.errors import UserError
from countersign.recorder.recording import rfc3339
from countersign.scenarios.running.texts import Said
from countersign.scenarios.running.verdict import Kind, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One client under one scenario. ``tls`` is the version that it was held to, if any.

    ``argv`` is what was run, ``code`` its exit code, or ``signal`` what ended it; ``answered`` is the status that a
    daemon answered with. ``seconds`` is how long it took, and ``client_seconds`` how much of that the client ran.
    ``recordings`` are the ids of its sessions, ``ladders`` the same as text, for reports that are read without the
    store.
    """

    scenario: str
    tls: str | None
    family: str
    title: str
    right: str
    verdict: Verdict
    argv: tuple[str, ...] = ()
    code: int | None = None
    signal: str | None = None
    answered: int | None = None
    seconds: float = 0.0
    client_seconds: float = 0.0
    recordings: tuple[str, ...] = ()
    ladders: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """How it is called in lists and baselines: the scenario, with the version where it was held to one."""
        return self.scenario if self.tls is None else f"{self.scenario}@{self.tls}"

    @property
    def right_done(self) -> bool:
        return self.verdict.kind.right or bool(self.verdict.excused)


@dataclass(frozen=True, slots=True)
class Shard:
    """The ``index``-th of ``of`` parts of a matrix; the first is 1."""

    index: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """``i/n``. Raises :class:`UserError`."""
        first, slash, second = text.partition("/")
        if not (slash and first.isdecimal() and second.isdecimal() and 1 <= int(first) <= int(second) <= 10_000):
            raise UserError(f"--shard takes the part and how many there are, as in 2/5; got {text!r}")
        return cls(int(first), int(second))

    def of_all(self, keys: Sequence[str]) -> list[str]:
        """Those of this part: every ``of``-th one, so that the slow families are spread."""
        return [key for number, key in enumerate(keys) if number % self.of == self.index - 1]

    def __str__(self) -> str:
        return f"{self.index}/{self.of}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """All results of a client, with what it was: its command line as given, the family, when, how long, which part.

    ``subject`` is ``server`` where a server was knocked at; then ``client`` is that.
    """

    client: tuple[str, ...]
    family: str | None
    way: str
    started: datetime
    seconds: float
    results: tuple[Result, ...]
    shard: Shard | None = None
    subject: Literal["client", "server"] = "client"

    @property
    def exit_code(self) -> int:
        """4 where a fault never was on the wire, 1 where a verdict says no, else 0."""
        if self.count(Kind.UNPROVED):
            return 4
        return 0 if all(result.right_done for result in self.results) else 1

    def count(self, kind: Kind) -> int:
        return sum(result.verdict.kind is kind for result in self.results)

    @property
    def counts(self) -> dict[str, int]:
        """How many there are of each kind of verdict that there is."""
        return {kind.value: found for kind in Kind if (found := self.count(kind))}

    def result(self, key: str) -> Result:
        return next(result for result in self.results if result.key == key)


def to_json(matrix: Matrix) -> dict[str, Any]:
    """The stable form."""
    return {
        "schema": SCHEMA,
        "subject": matrix.subject,
        "client": list(matrix.client),
        "family": matrix.family,
        "mode": matrix.way,
        "started": rfc3339(matrix.started),
        "seconds": round(matrix.seconds, 3),
        "shard": None if matrix.shard is None else {"index": matrix.shard.index, "of": matrix.shard.of},
        "counts": matrix.counts,
        "exit_code": matrix.exit_code,
        "results": [_result_json(result) for result in matrix.results],
    }


def _result_json(result: Result) -> dict[str, Any]:
    verdict = result.verdict
    return {
        "scenario": result.scenario,
        "tls": result.tls,
        "family": result.family,
        "title": result.title,
        "right": result.right,
        "verdict": verdict.kind.value,
        "text": verdict.text,
        "right_done": result.right_done,
        "known": verdict.known,
        "excused": verdict.excused or None,
        "sent": verdict.sent,
        "sessions": verdict.sessions,
        "resumed": verdict.resumed,
        "alerts": list(verdict.alerts),
        "said": [{"line": said.line, "meaning": said.meaning} for said in verdict.said],
        "notes": list(verdict.notes),
        "argv": list(result.argv),
        "exit_code": result.code,
        "signal": result.signal,
        "answered": result.answered,
        "seconds": round(result.seconds, 3),
        "client_seconds": round(result.client_seconds, 3),
        "recordings": list(result.recordings),
        "ladders": list(result.ladders),
    }


def from_json(document: Any, *, name: str) -> Matrix:
    """What :func:`to_json` gave, read from the file ``name``. Raises :class:`UserError` for anything else."""
    if not isinstance(document, dict) or document.get("schema") != SCHEMA or "results" not in document:
        raise UserError(f"cannot read {name}: it is no result of `countersign matrix --report json=FILE`")
    try:
        shard = document["shard"]
        return Matrix(
            client=_texts(document["client"]),
            family=None if document["family"] is None else _text(document["family"]),
            way=_text(document["mode"]),
            started=datetime.fromisoformat(_text(document["started"])).astimezone(UTC),
            seconds=_number(document["seconds"]),
            results=tuple(_result_from_json(entry) for entry in document["results"]),
            subject="server" if document.get("subject") == "server" else "client",
            shard=None if shard is None else Shard.parse(f"{shard['index']}/{shard['of']}"),
        )
    except KeyError as missing:
        raise UserError(f"cannot read {name}: its key {missing} is missing") from None
    except (TypeError, ValueError, AttributeError, OverflowError) as wrong:
        raise UserError(f"cannot read {name}: a value is not what its key says ({wrong})") from None


def _result_from_json(entry: Mapping[str, Any]) -> Result:
    verdict = Verdict(
        kind=Kind(entry["verdict"]),
        text=_text(entry["text"]),
        sent=int(_number(entry["sent"])),
        sessions=int(_number(entry["sessions"])),
        resumed=bool(entry["resumed"]),
        alerts=_texts(entry["alerts"]),
        said=tuple(
            Said(_text(said["line"]), None if said["meaning"] is None else _text(said["meaning"]))
            for said in entry["said"]
        ),
        known=bool(entry["known"]),
        notes=_texts(entry["notes"]),
        excused=_text(entry.get("excused") or ""),
    )
    return Result(
        scenario=_text(entry["scenario"]),
        tls=None if entry["tls"] is None else _text(entry["tls"]),
        family=_text(entry["family"]),
        title=_text(entry["title"]),
        right=_text(entry["right"]),
        verdict=verdict,
        argv=_texts(entry["argv"]),
        code=None if entry["exit_code"] is None else int(_number(entry["exit_code"])),
        signal=None if entry["signal"] is None else _text(entry["signal"]),
        answered=None if entry.get("answered") is None else int(_number(entry["answered"])),
        seconds=_number(entry["seconds"]),
        client_seconds=_number(entry["client_seconds"]),
        recordings=_texts(entry["recordings"]),
        ladders=_texts(entry["ladders"]),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, got {value!r}"[:200])
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError(f"expected a list, got {value!r}"[:200])
    return tuple(map(_text, value))


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError(f"expected a number, got {value!r}"[:200])
    return value


def merge(parts: Iterable[tuple[str, Matrix]]) -> Matrix:
    """Parts of one matrix as a whole; each comes with the name of its file.

    Raises :class:`UserError` where they are not of the same client, or are of different numbers of shards, or one of
    them is missing or there twice.
    """
    named = sorted(parts, key=lambda part: (part[1].shard.index if part[1].shard else 0, part[0]))
    first_name, first = named[0]
    seen: dict[str, str] = {}
    shards: dict[int, str] = {}
    for name, part in named:
        if part.client != first.client:
            raise UserError(
                f"cannot merge {name} with {first_name}: one is of `{' '.join(part.client)}`,"
                f" the other of `{' '.join(first.client)}`"
            )
        if (part.shard.of if part.shard else None) != (first.shard.of if first.shard else None):
            raise UserError(f"cannot merge {name} with {first_name}: one is part {part.shard}, the other {first.shard}")
        if part.shard is not None:
            if part.shard.index in shards:
                raise UserError(f"cannot merge {name}: part {part.shard} is in {shards[part.shard.index]} already")
            shards[part.shard.index] = name
        for result in part.results:
            if result.key in seen:
                raise UserError(f"cannot merge {name}: the result of {result.key} is in {seen[result.key]} already")
            seen[result.key] = name
    missing = sorted(set(range(1, first.shard.of + 1)) - shards.keys()) if first.shard else []
    if missing:
        assert first.shard is not None
        raise UserError(f"cannot merge: part {', '.join(f'{each}/{first.shard.of}' for each in missing)} is missing")
    return replace(
        first,
        started=min(part.started for _, part in named),
        seconds=sum(part.seconds for _, part in named),
        results=tuple(result for _, part in named for result in part.results),
        shard=None,
    )
