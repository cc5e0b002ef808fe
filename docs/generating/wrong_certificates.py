"""The recipes of chains, and the presets of inspection products with where each of their fields is known from."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from countersign.ca.presets import Behaviour, Preset, presets
from countersign.ca.recipes import catalogue
from docs.generating.writing import code, listed, paragraph, section, table

if TYPE_CHECKING:
    from docutils import nodes

    from countersign.ca.recipes import Recipe
    from docs.generating.writing import Inline

_ROLES = (("server", "What a server shows"), ("client", "What a client shows"))


def recipes_made() -> list[nodes.Element]:
    head = ("recipe", "what it is", "OpenSSL says", "a JVM says", "RFC")
    return [
        section(
            title, f"recipes-{role}", table(head, [_row(each) for each in catalogue().values() if each.role == role])
        )
        for role, title in _ROLES
    ]


def _row(recipe: Recipe) -> list[str | nodes.Node]:
    what = f"{recipe.title}: {recipe.wrong}" if recipe.wrong else recipe.title
    handshake = f"{recipe.handshake} (in the handshake)" if recipe.handshake else recipe.openssl
    return [code(recipe.id), what, handshake, recipe.jvm, recipe.rfc]


def presets_made() -> list[nodes.Element]:
    return [section(code(each.id), f"preset-{each.id}", *_preset(each)) for each in presets().values()]


def _preset(preset: Preset) -> list[nodes.Element]:
    says = {each.name: getattr(preset.behaviour, each.name) for each in fields(Behaviour)}
    ways: list[list[Inline]] = [[code(name), listed(map(code, words))] for name, words in says.items() if words]
    said: list[list[Inline]] = [
        [listed(map(code, each.fields)), each.source, "assumed" if each.assumed else ""] for each in preset.facts
    ]
    days = f" It changes its issuing CA every {preset.issuer_days} days." if preset.issuer_days else ""
    found: list[nodes.Element] = [paragraph(f"{preset.title}.{days}")]
    if ways:
        found.append(table(("what it does with", "ways, the default first"), ways))
    return [*found, table(("field", "known from", ""), said)]
