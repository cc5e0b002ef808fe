"""What ``diagnose`` can find, and the error texts that ``explain`` knows."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from countersign.findings import explaining
from countersign.findings.diagnosing.model import kinds
from countersign.findings.jvm import of_family
from docs.generating.writing import bullets, code, paragraph, section, strong, ticked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from docutils import nodes


def findings_made() -> list[nodes.Element]:
    return [
        section(
            code(kind.id),
            f"finding-{kind.id}",
            paragraph(strong(kind.title)),
            *_cure(kind.fix, kind.fixes),
            paragraph(f"Source: {kind.source}"),
        )
        for kind in kinds().values()
    ]


def _cure(fix: str, fixes: Mapping[str, str]) -> list[nodes.Element]:
    said: list[nodes.Element] = [paragraph(strong("Cure: "), ticked(_filled("any", fix)))]
    if fixes:
        said.append(bullets([strong(family), ": ", *ticked(_filled(family, words))] for family, words in fixes.items()))
    return said


def _filled(family: str, words: str) -> str:
    """The braces that are meant as such stand doubled, for values are put into a cure when it is told."""
    return of_family(family).filled(words).replace("{{", "{").replace("}}", "}")


def texts_made() -> list[nodes.Element]:
    """A section a kind, with the texts of each family that are of it."""
    known = sorted(explaining.texts(), key=lambda each: (each.kind.id, each.family.name))
    by_kind = {
        kind: {family: list(texts) for family, texts in groupby(some, key=lambda each: each.family.name)}
        for kind, some in groupby(known, key=lambda each: each.kind.id)
    }
    return [
        section(
            code(kind.id),
            f"text-{kind.id}",
            paragraph(strong(kind.text)),
            bullets([strong(family), ": ", *_told(some)] for family, some in by_kind.get(kind.id, {}).items()),
            *_cure(kind.fix, kind.fixes),
            paragraph(strong("Would prove it: "), ticked(kind.wanted)),
            paragraph(f"Source: {kind.source}"),
        )
        for kind in explaining.kinds().values()
    ]


def _told(texts: Sequence[explaining.Text]) -> list[str | nodes.Node]:
    found: list[str | nodes.Node] = []
    for text in texts:
        found += [*([", "] if found else []), *_pieces(text)]
    return found


def _pieces(text: explaining.Text) -> list[str | nodes.Node]:
    found: list[str | nodes.Node] = []
    for piece in text.says:
        found += [" ... ", code(piece.decode())] if found else [code(piece.decode())]
    return found
