"""Counts the sessions whose recordings go by on their way to the store."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from countersign.proxy import Keeper
    from countersign.recorder.recording import Recording


class Counting:
    """A :class:`~countersign.proxy.Keeper` before another; ``outcomes`` and ``broken_by`` are of those that ended."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self.outcomes: Counter[str] = Counter()
        self.broken_by: Counter[str] = Counter()

    def submit(self, recording: Recording) -> None:
        """Hand it on."""
        self._keeper.submit(recording)
        if recording.ended is not None:
            self.outcomes[recording.outcome.status.value] += 1
            if recording.outcome.broken_by is not None:
                self.broken_by[recording.outcome.broken_by.value] += 1
