"""Baselines: the verdicts of an earlier run, so that a build fails when something has changed and not before.

A change is a change in either direction: a client that has become better deserves a new baseline, too. A skipped
scenario or one that the baseline does not know is compared with what is right.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from countersign.errors import UserError
from countersign.scenarios.running.verdict import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from countersign.scenarios.running.results import Result

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Change:
    """A verdict that is not as it was; ``before`` is None for a scenario that the baseline does not have."""

    key: str
    before: str | None
    now: str

    def __str__(self) -> str:
        if self.before is None:
            return f"{self.key}: {self.now}, and the baseline does not have it"
        return f"{self.key}: was {self.before}, is {self.now}"


def changes(results: Iterable[Result], baseline: Mapping[str, str]) -> Iterator[Change]:
    """What is not as the baseline says, in the order of the results."""
    for result in results:
        before, now = baseline.get(result.key), result.verdict.kind
        if before is None:
            if not result.right_done:
                yield Change(result.key, None, now.value)
        elif before != now.value:
            yield Change(result.key, before, now.value)


def read_baseline(data: bytes, *, name: str) -> dict[str, str]:
    """The verdicts by their keys. Raises :class:`UserError`."""
    try:
        document: Any = json.loads(data)
        known = {kind.value for kind in Kind}
        if document["schema"] != SCHEMA or not set(document["verdicts"].values()) <= known:
            raise ValueError
        return dict(document["verdicts"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(
            f"cannot read the baseline {name}: it is none that --update-baseline wrote (this one reads schema {SCHEMA})"
        ) from None


def write_baseline(results: Iterable[Result], before: Mapping[str, str]) -> bytes:
    """The verdicts of these results over those of ``before``, so that a part of a matrix updates its part alone."""
    verdicts = dict(before) | {result.key: result.verdict.kind.value for result in results}
    document = {"schema": SCHEMA, "verdicts": dict(sorted(verdicts.items()))}
    return (json.dumps(document, indent=1) + "\n").encode()
