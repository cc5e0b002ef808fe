"""Certificates and chains that are wrong on purpose, or odd, or right: recipes, and a catalogue of them.

The smallest calls::

    made = Recipe().make(authority, name="host.example")        # right; made.key, made.chain, made.anchors
    made = Recipe(leaf=CertSpec(not_after="-1d")).make(authority)
    made = catalogue()["leaf-expired"].make(authority, target=target_der)
    recipes = load_recipes("mine.toml")

:mod:`countersign.ca.recipes.model` says what a recipe can say; the ``*.toml`` files beside it are the catalogue.
"""

from countersign.ca.recipes.catalogue import catalogue
from countersign.ca.recipes.making import MadeChain
from countersign.ca.recipes.model import (
    BasicConstraints,
    CertSpec,
    Extension,
    NameConstraints,
    Recipe,
    RecipeError,
    Send,
)
from countersign.ca.recipes.reading import load_recipes, read_recipes, to_toml

__all__ = [
    "BasicConstraints",
    "CertSpec",
    "Extension",
    "MadeChain",
    "NameConstraints",
    "Recipe",
    "RecipeError",
    "Send",
    "catalogue",
    "load_recipes",
    "read_recipes",
    "to_toml",
]
