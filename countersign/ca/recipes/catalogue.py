"""The recipes that come with the package: the ``*.toml`` files of this directory, one file a subject."""

from __future__ import annotations

from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import TYPE_CHECKING

from countersign.ca.recipes.reading import read_recipes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from countersign.ca.recipes.model import Recipe


@cache
def catalogue() -> Mapping[str, Recipe]:
    """Every recipe of the package by its id, in the order of the files."""
    found: dict[str, Recipe] = {}
    files = (each for each in resources.files(__package__).iterdir() if each.name.endswith(".toml"))
    for file in sorted(files, key=lambda each: each.name):
        recipes = read_recipes(file.read_text("utf-8"), where=file.name)
        twins = found.keys() & recipes.keys()
        assert not twins, f"recipes of the same id: {twins}"
        found |= recipes
    return MappingProxyType(found)
