"""The recipes that come with the package: the ``*.toml`` files of this directory, one file a subject."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from countersign.ca.recipes.reading import read_recipe, read_toml

if TYPE_CHECKING:
    from countersign.ca.recipes.model import Recipe


class _Recipes(Mapping[str, "Recipe"]):
    """By their ids, in the order of the files. A recipe is made of its table when it is first asked for."""

    def __init__(self) -> None:
        self._tables: dict[str, tuple[Any, str]] = {}
        self._made: dict[str, Recipe] = {}
        files = (each for each in resources.files(__package__).iterdir() if each.name.endswith(".toml"))
        for file in sorted(files, key=lambda each: each.name):
            tables = read_toml(file.read_text("utf-8"), "recipes", file.name)
            twins = self._tables.keys() & tables.keys()
            assert not twins, f"recipes of the same id: {twins}"
            self._tables |= {name: (table, file.name) for name, table in tables.items()}

    def __getitem__(self, name: str) -> Recipe:
        if name not in self._made:
            table, where = self._tables[name]
            self._made[name] = read_recipe(name, table, where=where)
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in self._tables

    def __iter__(self) -> Iterator[str]:
        return iter(self._tables)

    def __len__(self) -> int:
        return len(self._tables)


@cache
def catalogue() -> Mapping[str, Recipe]:
    """Every recipe of the package by its id, in the order of the files."""
    return _Recipes()
