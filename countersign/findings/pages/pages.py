"""What stands on a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from countersign.findings.comparing.model import Weight
from countersign.findings.diagnosing.model import Severity
from countersign.findings.pages.drawing import draw
from countersign.findings.pages.markup import element, page, table, text
from countersign.findings.wrapping import sentence
from countersign.recorder.wire.events import Side

if TYPE_CHECKING:
    from collections.abc import Iterator

    from countersign.findings.comparing.model import Comparison, Difference
    from countersign.findings.diagnosing.model import Diagnosis, Finding
    from countersign.recorder.recording import Leg, Recording


def recording_page(recording: Recording, diagnosis: Diagnosis | None = None) -> bytes:
    """One recording: the cure and the cause where there is one, the ladder, what was agreed on, the chains."""
    parts = [element("h1", text(f"Recording {recording.id}")), _facts(recording)]
    if diagnosis is not None:
        parts += _diagnosis(diagnosis)
    parts += [element("h2", "Ladder"), draw(recording)]
    for leg in recording.legs:
        parts += _leg(leg)
    return page(f"countersign: recording {recording.id}", *parts)


def comparison_page(comparison: Comparison) -> bytes:
    """Two recordings: the sentences, then both ladders."""
    names = comparison.names
    parts = [element("h1", text(f"{names[0]} and {names[1]}"))]
    for name, recording in zip(names, comparison.recordings, strict=True):
        parts += [element("h2", text(name)), _facts(recording)]
    parts.append(element("h2", "What differs"))
    if not comparison.matters:
        parts.append(element("p", "Nothing differs that matters."))
    parts.append(_differences(comparison.session, comparison.labels))
    for pair in comparison.pairs:
        if len(comparison.pairs) > 1:
            parts.append(element("h2", text(f"{pair.a.leg.role.value.capitalize()} leg")))
        parts.append(_differences(pair.differences, comparison.labels))
        if pair.unseen:
            parts.append(element("p", "Could not be compared: " + text("; ".join(pair.unseen)), class_="note"))
    for name, recording in zip(names, comparison.recordings, strict=True):
        parts += [element("h2", text(f"Ladder of {name}")), draw(recording)]
    return page(f"countersign: {names[0]} and {names[1]}", *parts)


def _facts(recording: Recording) -> str:
    rows = [
        ("Outcome", text(recording.outcome.text)),
        ("Started", text(f"{recording.started:%Y-%m-%d %H:%M:%S} UTC")),
        ("Client", text(recording.client or "-")),
        ("Target", text(recording.target or "-")),
        ("Server name", text(recording.sni or "-")),
        ("Mode", text(f"{recording.mode}, {recording.action}")),
    ]
    if recording.label:
        rows.append(("Label", text(recording.label)))
    if recording.scenario:
        rows.append(("Scenario", text(f"{recording.scenario}, step {recording.step}")))
    return table(rows)


def _diagnosis(diagnosis: Diagnosis) -> Iterator[str]:
    cause = diagnosis.cause
    yield element("h2", "Diagnosis")
    if cause is None:
        yield element("p", "Nothing is wrong, as far as this recording shows.", class_="good")
    else:
        yield element("p", element("strong", "Fix: ") + text(cause.fix), class_="fix")
    for one in diagnosis.findings:
        yield _finding(one)
    for unseen in diagnosis.unseen:
        yield element("p", "Not seen: " + text(unseen), class_="note")


def _finding(one: Finding) -> str:
    look = "cause" if one.severity is Severity.CAUSE else "note"
    head = element(
        "summary", element("span", text(f"{one.severity}: {one.title}"), class_=look) + " " + text(f"[{one.id}]")
    )
    rows = [("What", text(one.text)), ("Evidence", text("; ".join(one.evidence) or "-"))]
    rows += [("Fix", text(one.fix)), ("Source", text(one.source))]
    return element("details", head + table(rows), **({"open": "open"} if one.severity is Severity.CAUSE else {}))


def _leg(leg: Leg) -> Iterator[str]:
    reading = leg.read()
    yield element("h2", text(f"{leg.role.value.capitalize()} leg"))
    named = (
        ("Version", reading.version),
        ("Cipher suite", reading.cipher),
        ("Group", reading.group),
        ("ALPN", reading.alpn),
        ("Resumed", reading.resumed),
        ("JA4", reading.ja4),
        ("JA3", reading.ja3),
    )
    yield table((name, text(value)) for name, value in named if value is not None)
    for side in Side:
        sent = [one.facts for one in reading.certificates if one.sender is side]
        if not sent:
            continue
        yield element("h3", text(f"Certificates of the {side.value}"))
        for place, facts in enumerate(sent):
            yield table(
                (
                    (str(place), text(facts.subject or "(no name)")),
                    ("Issuer", text(facts.issuer or "(no name)")),
                    ("Valid", text(f"{facts.not_before} to {facts.not_after}")),
                    ("Key", text(f"{facts.key}, signed with {facts.signature_algorithm}")),
                    ("Names", text(facts.names(20))),
                    ("SHA-256", element("code", text(facts.sha256))),
                )
            )


def _differences(found: tuple[Difference, ...], labels: tuple[str, ...]) -> str:
    ordered = sorted(found, key=lambda one: one.weight is not Weight.MATTERS)
    looks = {Weight.MATTERS: "bad", Weight.NOTE: "note"}
    sentences = (element("span", text(sentence(one.text, *labels)), class_=looks[one.weight]) for one in ordered)
    return table((element("code", text(one.field)), said) for one, said in zip(ordered, sentences, strict=True))
