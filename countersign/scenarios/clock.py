"""A clock that can be sped up: two weeks in two minutes, for clients whose own clock is right.

A certificate of a virtual date is refused by a client with a real clock. So it is *durations* that are scaled, never
dates: what lasts 14 days lasts 121 seconds at 10000x, really, from the moment at which it begins. A certificate's
notAfter comes so much earlier; its notBefore stays in the past where it was in the past, for as long as it was; a step
comes so much earlier after the one before it. What is said by the clock on the wall (``at``) stays.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from countersign.errors import UserError

if TYPE_CHECKING:
    from countersign.ca.presets import Preset
    from countersign.ca.recipes import CertSpec, Recipe

_FASTEST = 1e9
_FEW = 100_000
_AHEAD = re.compile(r"\+(\d+(?:\.\d+)?)([smhdy])", re.ASCII)
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "y": 365 * 86400}


@dataclass(frozen=True, slots=True)
class Clock:
    """``factor`` is how many times as fast it runs; nothing that lasts becomes shorter than a second."""

    factor: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.factor <= _FASTEST:
            raise UserError(f"a clock runs 1 to 1000000000 times as fast (10000x), got {self.factor:g}")

    @classmethod
    def parse(cls, text: str) -> Clock:
        """``10000x``, or the number alone."""
        found = re.fullmatch(r"(\d{1,12}(?:\.\d{1,6})?)x?", text.strip(), re.ASCII)
        if found is None:
            raise UserError(f"--clock takes how many times as fast it runs, as in 10000x; got {text!r}")
        return cls(float(found[1]))

    def lasts(self, seconds: float) -> float:
        """How long something lasts that certificates say, in seconds: whole ones, as they have."""
        return seconds if self.factor == 1 else float(max(1, round(seconds / self.factor)))

    def passes(self, seconds: float) -> float:
        """How long something takes, in seconds."""
        return seconds / self.factor

    def ahead(self, seconds: float) -> str:
        """The end of what lasts so long from now, in the words of recipes: in the smallest unit that has few digits."""
        lasts = self.lasts(seconds)
        unit = next((each for each in "smhd" if lasts / _UNITS[each] < _FEW), "y")
        return f"+{math.ceil(lasts / _UNITS[unit])}{unit}"

    def recipe(self, recipe: Recipe) -> Recipe:
        """The recipe with what lies ahead of now so much nearer."""
        if self.factor == 1:
            return recipe
        return replace(
            recipe,
            root=self._spec(recipe.root),
            intermediate=self._spec(recipe.intermediate),
            leaf=self._spec(recipe.leaf),
            other=tuple(self._spec(each) for each in recipe.other),
        )

    def preset(self, preset: Preset) -> Preset:
        """The preset with what lies ahead of now so much nearer."""
        if self.factor == 1:
            return preset
        return replace(preset, authority=self.recipe(preset.authority), leaf=self.recipe(preset.leaf))

    def _spec(self, spec: CertSpec) -> CertSpec:
        return replace(spec, not_before=self._ahead(spec.not_before), not_after=self._ahead(spec.not_after))

    def _ahead(self, moment: str | None) -> str | None:
        found = _AHEAD.fullmatch(moment) if moment else None
        if found is None or float(found[1]) == 0:
            return moment
        return self.ahead(float(found[1]) * _UNITS[found[2]])


REAL = Clock()
"""As fast as any other."""
