"""The scenarios that come with the package, family by family."""

from __future__ import annotations

import re
from itertools import groupby
from typing import TYPE_CHECKING

from countersign.scenarios.catalogue import catalogue
from countersign.scenarios.model import FAMILIES
from docs.generating.writing import bullets, code, inline, listed, paragraph, section, strong

if TYPE_CHECKING:
    from collections.abc import Iterable

    from docutils import nodes

    from countersign.scenarios.expect import ClientExpect
    from countersign.scenarios.model import Scenario

_DOES = {"refuse": "refuses", "accept": "accepts", "either": "may do either"}


def made() -> list[nodes.Element]:
    return of(catalogue().values())


def of(scenarios: Iterable[Scenario]) -> list[nodes.Element]:
    """A section a family, in it one a scenario."""
    ordered = sorted(scenarios, key=lambda each: (FAMILIES.index(each.family), each.id))
    return [
        section(family, f"scenarios-{family}", *map(_scenario, some))
        for family, some in groupby(ordered, key=lambda each: each.family)
    ]


def _scenario(scenario: Scenario) -> nodes.section:
    why = f": {scenario.expect.why}" if scenario.expect.why else ""
    parts: list[nodes.Element] = [paragraph(strong(scenario.title))] if scenario.title else []
    parts += [paragraph(each) for each in scenario.story.strip().split("\n\n") if each]
    parts.append(paragraph("A right client ", strong(_DOES[scenario.expect.right]), f"{why}."))
    if scenario.parameters:
        known = scenario.parameters.items()
        parts.append(bullets([code(f"--set {name}={each.default}"), f" {each.text}"] for name, each in known))
    if scenario.expect.clients:
        known_clients = scenario.expect.clients.items()
        parts.append(bullets([strong(family), ": ", *_client(each)] for family, each in known_clients))
    sources = [source for source in scenario.sources if not re.fullmatch(r"R\d+", source)]  # rows of the requirements
    if sources:
        parts.append(paragraph(f"Known from: {', '.join(sources)}"))
    return section(code(scenario.id), f"scenario-{scenario.id}", *parts)


def _client(expected: ClientExpect) -> list[nodes.Node]:
    said: list[list[str | nodes.Node]] = []
    if expected.skip:
        said.append([f"skipped, {expected.skip}"])
    if expected.known is not None:
        said.append([f"{_DOES[expected.known]}, as measured"])
    if expected.alerts:
        said.append(["alert ", *listed(map(code, expected.alerts), " or ")])
    if expected.texts:
        said.append(["says ", *listed(map(code, expected.texts), " or ")])
    if expected.note:
        said.append([expected.note])
    return [node for number, each in enumerate(said) for node in inline(*(["; "] if number else []), *each)]
