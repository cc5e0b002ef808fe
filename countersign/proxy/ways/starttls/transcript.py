"""A dialogue as a recording keeps it: turns with their time, in the form that an imported capture has too."""

from __future__ import annotations

from typing import Any

from countersign.proxy.ways.starttls.events import Event, Said, Violation
from countersign.recorder.wire.dialogue import TURN_AT_MOST, TURNS_AT_MOST
from countersign.recorder.wire.events import Problem, Side


class Transcript:
    """Collects what was said. ``problems`` are for the recording's list of problems."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self._turns: list[dict[str, Any]] = []
        self._last: Side | None = None
        self._length = 0  # of the last turn, what was left out included
        self._left_out = 0

    def note(self, events: list[Event], t: float) -> None:
        """What a dialect has just said, at ``t`` seconds of the session."""
        for event in events:
            if isinstance(event, Said):
                self._say(event, t)
            elif isinstance(event, Violation):
                self.problems.append(Problem(t, event.side, event.field, 0, event.expected, event.got))

    def _say(self, said: Said, t: float) -> None:
        if said.side is not self._last:
            self._last, self._length = said.side, 0
            if len(self._turns) == TURNS_AT_MOST:
                self._left_out += 1
            else:
                self._turns.append({"t": round(t, 6), "from": said.side.value, "text": ""})
        if self._left_out:
            return
        turn, text = self._turns[-1], said.text
        if turn["text"] and not turn["text"].endswith(("\n", "\r", ">")):
            text = f", {text}"
        self._length += len(text)
        kept = turn["text"][:TURN_AT_MOST]
        kept += text[: max(0, TURN_AT_MOST - len(kept))]
        turn["text"] = kept if self._length <= TURN_AT_MOST else f"{kept} ({self._length} characters)"

    def record(self, protocol: str) -> dict[str, Any]:
        """What goes into the recording's ``prelude``."""
        record: dict[str, Any] = {"protocol": protocol, "dialogue": [dict(turn) for turn in self._turns]}
        if self._left_out:
            record["turns_left_out"] = self._left_out
        return record
