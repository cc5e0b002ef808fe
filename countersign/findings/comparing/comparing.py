"""Which leg is held to which, and all that differs between the two.

Where a leg was named, it is that one. Else, two intercepted sessions are compared leg by leg, and of anything else it
is what the client saw: the client leg, or the only conversation that there was.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from countersign.errors import UserError
from countersign.findings.comparing.chains import chains, seen
from countersign.findings.comparing.course import course, steps
from countersign.findings.comparing.hellos import agreed, messages
from countersign.findings.comparing.model import Comparison, Difference, Half, Pair, Weight
from countersign.recorder.recording import LegRole
from countersign.recorder.wire.events import Side
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from countersign.findings.subjects import Subject
    from countersign.recorder.recording import Leg, Recording

_FIELD = re.compile(r"[\w.*?\[\]!-]+")


def compare(a: Subject, b: Subject, *, ignore: Sequence[str] = (), names: tuple[str, str] | None = None) -> Comparison:
    """All that differs. ``ignore`` are fields that do not count (``chain.leaf.serial``, ``client_hello``, ``time.*``).
    ``names`` are what the two are called, where it is not by their labels.

    Raises :class:`UserError` where there is nothing to compare.
    """
    for field in ignore:
        if not _FIELD.fullmatch(field):
            raise UserError(f"--ignore takes the path of a field such as client_hello.cipher_suites, got {field!r}")
    names = names or _names(a, b)
    pairs = tuple(_pair(names, (a.recording, one), (b.recording, other), ignore) for one, other in _pairs(a, b))
    same = a.recording.id == b.recording.id
    session = () if same else tuple(_kept(_session(names, a.recording, b.recording), ignore))
    return Comparison(names, (a.recording, b.recording), session, pairs)


def _names(a: Subject, b: Subject) -> tuple[str, str]:
    """What the two are called: their labels, their legs, or A and B."""
    if a.recording.id == b.recording.id and a.role is not None and b.role is not None and a.role is not b.role:
        return f"the {a.role} leg", f"the {b.role} leg"
    labels = a.recording.label, b.recording.label
    if labels[0] and labels[1] and labels[0] != labels[1]:
        return printable(labels[0], limit=40), printable(labels[1], limit=40)
    return "A", "B"


def _pairs(a: Subject, b: Subject) -> Iterator[tuple[Leg, Leg]]:
    if a.role is None and b.role is None:
        both = [role for role in (LegRole.CLIENT, LegRole.SERVER) if a.recording.leg(role) and b.recording.leg(role)]
        if len(both) == 2:
            for role in both:
                one, other = a.recording.leg(role), b.recording.leg(role)
                assert one is not None
                assert other is not None
                yield one, other
            return
    yield _chosen(a), _chosen(b)


def _chosen(subject: Subject) -> Leg:
    recording = subject.recording
    roles = (subject.role,) if subject.role is not None else (LegRole.CLIENT, LegRole.THROUGH, LegRole.SERVER)
    leg = next((leg for role in roles if role is not None and (leg := recording.leg(role)) is not None), None)
    if leg is None:
        raise UserError(f"recording {recording.id} has no TLS in it: {recording.outcome.text}")
    return leg


def _pair(names: tuple[str, str], a: tuple[Recording, Leg], b: tuple[Recording, Leg], ignore: Sequence[str]) -> Pair:
    one, other = (Half(name, *half, half[1].read()) for name, half in zip(names, (a, b), strict=True))
    lines = steps(one, other)
    found = [
        *agreed(one, other),
        *chains(one, other, Side.SERVER),
        *chains(one, other, Side.CLIENT),
        *messages(one, other),
        *course(one, other, lines),
        *_fingerprints(one, other),
    ]
    return Pair(one, other, tuple(_kept(found, ignore)), tuple(_unseen(one, other)), lines)


def _kept(found: Iterator[Difference] | Sequence[Difference], ignore: Sequence[str]) -> Iterator[Difference]:
    for one in found:
        if not any(fnmatchcase(one.field, field) or one.field.startswith(f"{field}.") for field in ignore):
            yield one


def _session(names: tuple[str, str], a: Recording, b: Recording) -> Iterator[Difference]:
    one, other = a.outcome, b.outcome
    if (one.status, one.broken_by, one.leg, one.alert) != (other.status, other.broken_by, other.leg, other.alert):
        text = f"{names[0]}: {_outcome(a)} {names[1]}: {_outcome(b)}"
        yield Difference("outcome", text, one.text, other.text)
    if a.target != b.target:
        shown = [printable(each or "none") for each in (a.target, b.target)]
        yield Difference(
            "target", f"{names[0]} went to {shown[0]}, {names[1]} to {shown[1]}", a.target, b.target, Weight.NOTE
        )


def _outcome(recording: Recording) -> str:
    text = printable(recording.outcome.text)
    return text if text.endswith((".", "!", ")")) else f"{text}."


def _fingerprints(a: Half, b: Half) -> Iterator[Difference]:
    for name in ("ja4", "ja3", "ja3s"):
        one, other = getattr(a.reading, name), getattr(b.reading, name)
        if None not in (one, other) and one != other:
            text = f"{name.upper()} is {one} in {a.name} and {other} in {b.name}"
            yield Difference(f"fingerprint.{name}", text, one, other, Weight.NOTE)


def _unseen(a: Half, b: Half) -> Iterator[str]:
    """What one of the two does not show, where the other does or none does."""
    for half in (a, b):
        if not any(message.type == "client_hello" for message in half.reading.messages):
            yield f"{half.name} has no ClientHello"
        elif not any(message.type == "server_hello" for message in half.reading.messages):
            yield f"{half.name} has no ServerHello: nothing was agreed on"
        elif not seen(half, Side.SERVER):
            yield f"the server's certificates of {half.name}: {_why_no_chain(half)}"
        sealed = sum(1 for message in half.reading.messages if message.sealed)
        sealed += len(half.leg.encrypted_records)
        if sealed:
            yield f"{sealed} encrypted messages or records of {half.name} were not opened, for there were no keys"


def _why_no_chain(half: Half) -> str:
    if half.reading.resumed:
        return "the session was resumed, so none were sent"
    if half.leg.encrypted_records or any(message.sealed for message in half.reading.messages):
        return "they are encrypted, and there were no keys"
    return "none were sent"
