"""How the two handshakes went: the ladders side by side, where they part, and how each ended.

Change-cipher-spec, tickets and key updates come and go without meaning, so where they alone differ it is a note.
"""

from __future__ import annotations

from difflib import SequenceMatcher
from itertools import pairwise
from typing import TYPE_CHECKING

from countersign.findings.comparing.model import Difference, Evidence, Step, Weight
from countersign.recorder.wire.events import Content, Side
from countersign.recorder.wire.text import listed, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from countersign.findings.comparing.model import Half
    from countersign.recorder.wire.reading import LegReading, ReadMessage

_BY_THE_WAY = {
    "change_cipher_spec",
    "new_session_ticket",
    "key_update",
    "alert close_notify",
    "alert user_canceled",
}
_SLOWER = 3.0  # times
_SLOW = 0.1  # seconds, below which nobody minds


def steps(a: Half, b: Half) -> tuple[Step, ...]:
    """The messages of both legs in one line after another, the same kind of message of the same sender in one line."""
    ours, theirs = [list(_titles(half.reading)) for half in (a, b)]
    found: list[Step] = []
    for what, first, last, start, end in SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes():
        if what == "equal":
            found += [
                Step(*title, a=number, b=start + number - first)
                for number, title in enumerate(ours[first:last], first)
            ]  # fmt: skip
            continue
        found += [Step(*title, a=number, b=None) for number, title in enumerate(ours[first:last], first)]
        found += [Step(*title, a=None, b=number) for number, title in enumerate(theirs[start:end], start)]
    return tuple(found)


def course(a: Half, b: Half, lines: Sequence[Step]) -> Iterator[Difference]:
    """Where they part, what alerts there were, how long they took."""
    parted = [step for step in lines if None in (step.a, step.b)]
    telling = [step for step in parted if step.title not in _BY_THE_WAY]
    same_kind = a.reading.version == b.reading.version and a.reading.resumed == b.reading.resumed
    alerts = [step for step in telling if step.title.startswith("alert ")]
    for step in alerts:
        there, other = (a, b) if step.b is None else (b, a)
        number, alert = (step.a if step.b is None else step.b), step.title.removeprefix("alert ")
        text = f"in {there.name} the {step.sender} sends the alert {alert}; in {other.name} it does not"
        values = (alert, None) if there is a else (None, alert)
        assert number is not None
        evidence = (Evidence(there.name, number),)
        yield Difference(f"alert.{step.sender}", text, values[0], values[1], evidence=evidence)
    others = [step for step in telling if step not in alerts]
    if others:
        step = others[0]
        there, other = (a, b) if step.b is None else (b, a)
        only = [one.title for one in others if (one.b is None) is (step.b is None)]
        text = f"only {there.name} has {_listed(only)}, {_behind(lines, step)}"
        weight = Weight.MATTERS if same_kind else Weight.NOTE  # another version has other messages
        yield Difference("course", text, _course(lines, first=True), _course(lines, first=False), weight)
    elif parted and not alerts:
        counts = [sum(1 for step in parted if (step.b is None) is first) for first in (True, False)]
        kinds = _listed(list(dict.fromkeys(step.title for step in parted)))
        text = f"{a.name} and {b.name} do not send the same number of: {kinds}"
        yield Difference("course.extra", text, counts[0], counts[1], Weight.NOTE)
    yield from _time(a, b)


def _time(a: Half, b: Half) -> Iterator[Difference]:
    """Who was waited for."""
    if a.reading.handshake_finished != b.reading.handshake_finished:
        return
    took = [_seconds(half) for half in (a, b)]
    if min(took) < 0 or max(took) < _SLOW or max(took) < _SLOWER * min(took):
        return
    slow = a if took[0] > took[1] else b
    sender, wait = _longest_wait(slow)
    text = (
        f"the handshake took {took[0]:.3f} s in {a.name} and {took[1]:.3f} s in {b.name}; "
        f"the longest wait in {slow.name} was {wait:.3f} s for the {sender}"
    )
    yield Difference("time.handshake", text, round(took[0], 6), round(took[1], 6), Weight.NOTE)


def _seconds(half: Half) -> float:
    times = [message.t for message in half.leg.messages if message.content is not Content.ALERT]
    return times[-1] - times[0] if times else -1.0


def _longest_wait(half: Half) -> tuple[Side, float]:
    messages = half.leg.messages
    waits = [(message.sender, message.t - before.t) for before, message in pairwise(messages)]
    return max(waits, key=lambda one: one[1])


def _titles(reading: LegReading) -> Iterator[tuple[str, str]]:
    for message in reading.messages:
        yield message.message.sender.value, _title(message)


def _title(message: ReadMessage) -> str:
    if message.message.content is Content.ALERT:
        description = message.fields.get("description")
        return "alert " + (printable(str(description)) if description is not None else "that was not opened")
    return message.type


def _behind(lines: Sequence[Step], step: Step) -> str:
    before = lines[: lines.index(step)]
    return f"behind {before[-1].title} of the {before[-1].sender}" if before else "at its beginning"


def _course(lines: Sequence[Step], *, first: bool) -> list[str]:
    return [f"{step.sender}: {step.title}" for step in lines if (step.a if first else step.b) is not None]


def _listed(names: list[str]) -> str:
    return listed(list(dict.fromkeys(names)), 8)
