"""Which step is in force: laws that hold whenever anybody connects, and the cases that people write."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

from hypothesis import given, strategies as st

from countersign.scenarios.clock import Clock
from countersign.scenarios.model import Duration, Order, Scenario, Schedule, Step
from countersign.scenarios.schedule import Course, Entered

BEGAN = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def of(*steps: Step, order: Order = "steps") -> Scenario:
    return Scenario(id="x", steps=steps, schedule=Schedule(order=order))


def after(seconds: float) -> Step:
    return Step(after=Duration(seconds))


class Walk:
    """A course, and a clock that is moved by hand."""

    def __init__(self, scenario: Scenario, *, clock: float = 1, seed: int = 0) -> None:
        self.course = Course(scenario, 0.0, BEGAN, Clock(clock), seed)

    def meet(self, at: float = 0.0) -> Entered:
        return self.course.meet(at, BEGAN + timedelta(seconds=at))

    def peek(self, at: float = 0.0) -> Entered:
        return self.course.peek(at, BEGAN + timedelta(seconds=at))

    def numbers(self, *moments: float) -> list[int]:
        return [self.meet(at).number for at in moments]


def test_a_scenario_without_steps_is_always_at_the_first() -> None:
    assert Walk(Scenario(id="x")).numbers(0, 1, 1e9) == [1, 1, 1]


def test_steps_go_on_after_so_many_connections_and_the_last_one_stays() -> None:
    steps = of(Step(), Step(connections=2), Step(connections=3))
    assert Walk(steps).numbers(*[0.0] * 8) == [1, 1, 2, 2, 2, 3, 3, 3]


def test_steps_go_on_after_a_time_whoever_connects() -> None:
    assert Walk(of(Step(), after(10), after(20))).numbers(0, 9.9, 10, 29.9, 30, 1e6) == [1, 1, 2, 2, 3, 3]


def test_what_was_slept_through_is_passed_all_the_same() -> None:
    assert Walk(of(Step(), after(10), after(20), after(5))).meet(100).passed == (2, 3, 4)


def test_of_several_conditions_the_first_that_comes_counts() -> None:
    either = of(Step(), Step(connections=3, after=Duration(10)))
    assert Walk(either).numbers(0, 1, 2, 3) == [1, 1, 1, 2]
    assert Walk(either).numbers(0, 11) == [1, 2]


def test_a_sped_up_clock_makes_two_weeks_pass_in_two_minutes() -> None:
    walk = Walk(of(Step(), after(14 * 86400)), clock=10000)
    assert walk.numbers(0, 120.9, 121) == [1, 1, 2]


def test_a_moment_is_that_of_the_clock_on_the_wall_however_fast_the_other_runs() -> None:
    steps = of(Step(), Step(at=BEGAN + timedelta(hours=1)))
    assert Walk(steps, clock=1000).numbers(0, 3599, 3600) == [1, 1, 2]


def test_a_time_of_day_comes_every_day_and_in_its_own_zone() -> None:
    nights = of(Step(at=time(2, tzinfo=UTC)), Step(at=time(14, tzinfo=UTC)), order="loop")
    hour = 3600.0
    assert Walk(nights).numbers(0, 1.9 * hour, 2 * hour, 14 * hour, 26 * hour) == [1, 1, 2, 1, 2]
    assert Walk(of(Step(), Step(at=time(12, 30, tzinfo=UTC)))).numbers(0, 0.5 * hour) == [1, 2]


def test_a_time_of_day_without_a_zone_is_the_machines_own() -> None:
    local = (BEGAN + timedelta(minutes=5)).astimezone().time()
    assert Walk(of(Step(), Step(at=local))).numbers(0, 299, 300) == [1, 1, 2]


def test_a_loop_begins_again() -> None:
    assert Walk(of(Step(connections=1), Step(connections=2), order="loop")).numbers(*[0.0] * 7) == [1, 1, 2, 1, 1, 2, 1]


def test_a_loop_of_one_step_enters_it_anew_each_time() -> None:
    walk = Walk(of(after(10), order="loop"))
    assert [walk.meet(at).passed for at in (0, 10, 15, 20)] == [(), (1,), (), (1,)]


def test_after_years_a_loop_is_where_it_should_be_at_once() -> None:
    walk = Walk(of(after(0.5), after(1.5), after(1), order="loop"))
    assert walk.meet(3e9).number == 1
    assert walk.meet(3e9 + 1.5).number == 2
    assert len(walk.meet(9e9).passed) <= 6


def test_by_call_the_next_step_begins_or_the_one_that_is_named() -> None:
    walk = Walk(of(Step(), Step(on_call=True), Step(on_call=True)))
    assert walk.numbers(0, 1, 2) == [1, 1, 1]
    assert walk.course.call(3, BEGAN).number == 2
    assert walk.numbers(4) == [2]
    assert walk.course.call(5, BEGAN, 1).passed == (1,)
    assert [walk.course.call(6, BEGAN).number for _ in range(4)] == [2, 3, 3, 3]
    assert walk.course.call(7, BEGAN).passed == ()


def test_chance_is_the_same_for_the_same_seed() -> None:
    dice = of(Step(), Step(chance=0.3))
    runs = {seed: Walk(dice, seed=seed).numbers(*[0.0] * 30) for seed in range(20)}
    assert all(Walk(dice, seed=seed).numbers(*[0.0] * 30) == run for seed, run in runs.items())
    assert len({run.index(2) for run in runs.values() if 2 in run}) > 3
    assert all(run[0] == 1 for run in runs.values()), "the first connection meets the first step"


def test_of_random_steps_each_comes_as_often_as_it_weighs() -> None:
    nodes = of(Step(weight=3), Step(), Step(weight=1e-6), order="random")
    met = Walk(nodes).numbers(*[0.0] * 2000)
    assert 0.7 < met.count(1) / 2000 < 0.8
    assert met.count(3) < 3


# -- laws --------------------------------------------------------------------------------------------------------

_SPANS = st.lists(st.integers(1, 400), min_size=1, max_size=4)
_MOMENTS = st.lists(st.integers(0, 3000), max_size=12).map(sorted)


@given(_SPANS, _MOMENTS, st.integers(0, 3000), st.sampled_from(["steps", "loop"]))
def test_where_there_are_only_times_the_step_at_a_moment_depends_on_that_moment_alone(
    spans: list[int], before: list[int], moment: int, order: Order
) -> None:
    first = [] if order == "loop" else [Step()]
    steps = of(*first, *map(after, spans), order=order)
    busy, quiet = Walk(steps), Walk(steps)
    busy.numbers(*(float(at) for at in before if at <= moment))
    assert busy.meet(moment).number == quiet.meet(moment).number


@given(_SPANS, _MOMENTS)
def test_no_step_is_left_out_and_none_is_entered_twice(spans: list[int], moments: list[int]) -> None:
    walk = Walk(of(*map(after, spans), order="loop"))
    passed = [number for at in moments for number in walk.meet(at).passed if moments]
    expected = [number % len(spans) + 1 for number in range(1, len(passed) + 1)]
    skipped = sum(span for span in spans) * 2
    if all(later - earlier < skipped for earlier, later in zip([0, *moments], moments, strict=False)):
        assert passed == expected


@given(_SPANS, st.integers(0, 10**6))
def test_leaving_out_whole_rounds_changes_nothing(spans: list[int], moment: int) -> None:
    left = moment % sum(spans)
    number = 1
    for turn in [*range(1, len(spans)), 0]:
        if left < spans[turn]:
            break
        left -= spans[turn]
        number = turn + 1
    assert Walk(of(*map(after, spans), order="loop")).meet(moment).number == number


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(1, 40), st.sampled_from(["steps", "loop"]))
def test_connections_are_counted_one_by_one(counts: list[int], connections: int, order: Order) -> None:
    """Step n+1 comes after as many connections of step n as it says; in a loop the first one says it of the last."""
    steps = [Step(connections=count) for count in counts]
    walk = Walk(of(*([Step()] if order == "steps" else []), *steps, order=order))
    lasts = [*counts[1:], counts[0]] if order == "loop" else [*counts, connections]
    expected = [number for number, count in enumerate(lasts, 1) for _ in range(count)]
    while order == "loop" and len(expected) < connections:
        expected += expected
    assert walk.numbers(*[0.0] * connections) == expected[:connections]


@given(
    _SPANS, st.floats(0.01, 0.99), st.integers(0, 5), st.lists(st.integers(0, 900), min_size=1, max_size=8).map(sorted)
)
def test_looking_ahead_tells_what_comes_and_changes_nothing(
    spans: list[int], chance: float, seed: int, moments: list[int]
) -> None:
    steps = of(Step(), *(Step(after=Duration(span), chance=chance) for span in spans))
    walk, other = Walk(steps, seed=seed), Walk(steps, seed=seed)
    for at in moments:
        for _ in range(3):
            seen = walk.peek(at)
        assert (met := walk.meet(at)).number == seen.number
        assert met.passed == seen.passed
        assert other.meet(at).number == met.number


@given(_SPANS, _MOMENTS, st.integers(1, 1000))
def test_a_clock_that_runs_n_times_as_fast_is_the_real_one_with_every_moment_n_times_as_late(
    spans: list[int], moments: list[int], factor: int
) -> None:
    steps = of(Step(), *(after(span * factor) for span in spans))
    fast, real = Walk(steps, clock=factor), Walk(of(Step(), *map(after, spans)))
    assert fast.numbers(*(at + 1e-6 for at in moments)) == real.numbers(*(at + 1e-6 for at in moments))
