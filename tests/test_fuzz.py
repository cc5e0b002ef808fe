"""The fuzz harness itself: its promises hold for its seeds and for some changes to them, and a broken one is told."""

from __future__ import annotations

import random
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from countersign.recorder.wire.leg import LegDecoder
from fuzz import seeds, targets
from fuzz.mutate import mutated

if TYPE_CHECKING:
    from collections.abc import Callable

    from countersign.recorder.wire.events import Event, Side

ROOT = Path(__file__).parents[1]


@cache
def corpus(target: str) -> tuple[bytes, ...]:
    return tuple(seeds.SEEDS[target]())


@pytest.mark.parametrize("target", targets.TARGETS)
def test_every_promise_is_kept_for_the_seeds_and_for_changes_to_them(target: str, scaled: Callable[[int], int]) -> None:
    dice = random.Random()
    known = corpus(target)
    for data in random.Random(1).sample(known, min(len(known), scaled(600))):
        targets.quiet(targets.TARGETS[target].run, data)
    for _ in range(scaled(1000)):
        data = mutated(dice.choice(known), known, dice, targets.TARGETS[target].longest)
        try:
            targets.quiet(targets.TARGETS[target].run, data)
        except Exception as broken:
            raise AssertionError(f"{target}: {data.hex()}") from broken


@pytest.mark.parametrize(
    "path", sorted(seeds.REGRESSIONS.glob("*/*")), ids=lambda path: f"{path.parent.name}/{path.name}"
)
def test_what_was_found_once_is_mended(path: Path) -> None:
    targets.quiet(targets.TARGETS[path.parent.name].run, path.read_bytes())


def test_a_conversation_is_read_as_it_was_built() -> None:
    data = next(seeds.leg())
    assert targets.Conversation.parse(data).build() == data


def test_a_broken_promise_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder that loses the last byte of each slice depends on how its input is sliced."""
    right = LegDecoder.receive

    def careless(self: LegDecoder, sender: Side, data: bytes, t: float) -> list[Event]:
        return right(self, sender, data[:-1] if len(data) > 1 else data, t)

    monkeypatch.setattr(LegDecoder, "receive", careless)
    with pytest.raises(targets.BrokenError, match="do not depend on slicing"):
        targets.leg(next(seeds.leg()))


def test_the_same_seed_makes_the_same_inputs() -> None:
    def made() -> list[bytes]:
        dice = random.Random("leg 1")
        return [mutated(dice.choice(corpus("leg")), corpus("leg"), dice, 16384) for _ in range(50)]

    assert made() == made()


def test_the_runner_reproduces_an_input(tmp_path: Path) -> None:
    good = tmp_path / "good"
    good.write_bytes(next(seeds.keylog()))
    words = [sys.executable, str(ROOT / "fuzz" / "run.py"), "--reproduce", "keylog", str(good)]
    done = subprocess.run(words, capture_output=True, timeout=60, check=False, text=True)
    assert (done.returncode, done.stdout) == (0, "every promise was kept\n"), done.stderr
