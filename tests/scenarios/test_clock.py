"""A clock that runs faster: durations shrink, dates do not, and nothing is of the future."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, strategies as st

from countersign.ca import Authority
from countersign.ca.presets import presets
from countersign.ca.recipes import CertSpec, Recipe
from countersign.errors import UserError
from countersign.recorder.certificates import cut_certificate, read_validity
from countersign.scenarios.clock import Clock
from countersign.scenarios.directing import recipe_of
from countersign.scenarios.model import Certificate, Duration

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(("text", "factor"), [("1", 1), ("10000x", 10000), ("2.5x", 2.5), (" 60x ", 60)])
def test_a_factor_is_a_number_with_or_without_an_x(text: str, factor: float) -> None:
    assert Clock.parse(text).factor == factor


@pytest.mark.parametrize("text", ["", "x", "0.5x", "-3", "10000 x x", "1e5", "9999999999999x", "0"])
def test_what_is_no_factor_is_a_mistake(text: str) -> None:
    with pytest.raises(UserError, match=r"--clock takes|a clock runs"):
        Clock.parse(text)


def test_fourteen_days_at_10000x_are_really_121_seconds() -> None:
    certificate = Certificate(valid=Duration(14 * 86400))
    recipe = recipe_of(certificate, Clock(10000))
    assert recipe is not None
    made = recipe.make(Authority.make(), name="host", now=NOW)
    for der in made.chain:
        begins, ends, _ = read_validity(cut_certificate(der).validity)
        assert ends == NOW + timedelta(seconds=121)
        assert begins is not None
        assert begins <= NOW


def test_a_preset_lives_so_much_shorter() -> None:
    clock = Clock(10000)
    zscaler = clock.preset(presets()["zscaler"])
    assert zscaler.authority.intermediate.not_after == "+112s"
    assert zscaler.authority.intermediate.not_before == "-1d"
    assert Clock().preset(presets()["zscaler"]) is presets()["zscaler"]


@given(st.sampled_from("smhdy"), st.integers(1, 99999), st.floats(1, 1e9))
def test_what_lies_ahead_comes_nearer_and_stays_ahead(unit: str, count: int, factor: float) -> None:
    recipe = Recipe(leaf=CertSpec(not_before=f"-{count}{unit}", not_after=f"+{count}{unit}"))
    scaled = Clock(factor).recipe(recipe)
    seconds = {"s": 1, "m": 60, "h": 3600, "d": 86400, "y": 365 * 86400}
    assert scaled.leaf.not_before == recipe.leaf.not_before, "what was valid before stays so"
    text = scaled.leaf.not_after
    assert text is not None
    lasts = int(text[1:-1]) * seconds[text[-1]]
    expected = max(1.0, count * seconds[unit] / factor)
    assert expected - 1 <= lasts <= expected + seconds[text[-1]], "rounded up, to the unit that it is in"


@pytest.mark.parametrize(
    "moment", ["-1d", "+0s", "utc:510101000000Z", "generalized:99991231235959Z", "2030-01-01", None]
)
def test_the_past_and_what_is_no_duration_stay_as_they_are(moment: str | None) -> None:
    recipe = Recipe(leaf=CertSpec(not_after=moment))
    assert Clock(1000).recipe(recipe) == recipe
