"""The timed queue of one direction, by a clock that only a test turns."""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, strategies as st

from countersign.proxy.faults.effects import (
    Applied,
    Close,
    Effect,
    Finish,
    Gather,
    Pieces,
    Reset,
    Send,
    Silence,
    Wait,
)
from countersign.proxy.lane import Lane
from countersign.proxy.network import Network, NetworkError, Weather

if TYPE_CHECKING:
    from collections.abc import Callable

    from countersign.proxy.lane import Out


@dataclass(order=True)
class Timer:
    due: float
    number: int
    callback: Callable[[], None] = field(compare=False)
    cancelled: bool = field(default=False, compare=False)

    def cancel(self) -> None:
        self.cancelled = True


class Turned:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0
        self._timers: list[Timer] = []
        self._numbers = itertools.count()

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], None], /) -> Timer:
        timer = Timer(self.now + delay, next(self._numbers), callback)
        heapq.heappush(self._timers, timer)
        return timer

    @property
    def pending(self) -> int:
        return sum(not timer.cancelled for timer in self._timers)

    def turn(self, seconds: float) -> None:
        until = self.now + seconds
        while self._timers and self._timers[0].due <= until:
            timer = heapq.heappop(self._timers)
            self.now = max(self.now, timer.due)
            if not timer.cancelled:
                timer.callback()
        self.now = until

    def run_out(self) -> None:
        """Until nothing is due any more."""
        while any(not timer.cancelled for timer in self._timers):
            self.turn(max(0.0, self._timers[0].due - self.now))


class Mouth:
    """Where a lane ends: what came out, and when."""

    def __init__(self, clock: Turned) -> None:
        self.clock = clock
        self.blocked = False
        self.came: list[tuple[float, Out]] = []

    def take(self, effect: Out) -> None:
        self.came.append((round(self.clock.now - 100, 6), effect))

    @property
    def data(self) -> bytes:
        return b"".join(effect.data for _, effect in self.came if isinstance(effect, Send))

    @property
    def sizes(self) -> list[int]:
        return [len(effect.data) for _, effect in self.came if isinstance(effect, Send)]


class Table:
    """A lane with its clock and its end."""

    def __init__(self, network: Network | None = None) -> None:
        self.clock = Turned()
        self.mouth = Mouth(self.clock)
        self.rooms: list[bool] = []
        self.applied: list[tuple[str, int]] = []
        self.told: list[tuple[str, int]] = []
        self.lane = Lane(
            self.mouth,
            self.clock,
            on_room=lambda: self.rooms.append(self.lane.full),
            on_applied=lambda each: self.applied.append((each.do, len(self.mouth.data))),
        )
        if network is not None:
            self.lane.shape(Weather(network, told=lambda do, byte, _text: self.told.append((do, byte))))

    def put(self, *effects: Effect) -> None:
        self.lane.put(effects)


# -- faults --------------------------------------------------------------------------------------------------------


def test_what_nothing_holds_up_goes_out_at_once_and_in_one_write() -> None:
    table = Table()
    table.put(Send(b"one"), Applied("delay", ""), Send(b"two"))
    table.put(Send(b"three"))
    assert table.mouth.came == [(0, Send(b"onetwo")), (0, Send(b"three"))]
    assert table.applied == [("delay", 6)]
    assert table.clock.pending == 0


def test_a_wait_holds_up_what_is_behind_it_and_nothing_before_it() -> None:
    table = Table()
    table.put(Send(b"a"), Wait(2), Send(b"b"))
    table.clock.turn(1)
    table.put(Send(b"c"))
    assert table.mouth.data == b"a"
    table.clock.turn(1)
    assert table.mouth.came[1:] == [(2, Send(b"bc"))]


def test_pieces_have_their_size_and_their_distance() -> None:
    table = Table()
    table.put(Pieces(b"abcdefg", 3, 0.5), Send(b"!"))
    table.clock.run_out()
    assert table.mouth.came == [(0, Send(b"abc")), (0.5, Send(b"def")), (1, Send(b"g")), (1.5, Send(b"!"))]


def test_what_is_gathered_goes_out_in_one_write() -> None:
    table = Table()
    table.put(Gather(0.3), Send(b"a"), Send(b"b"))
    table.clock.turn(0.1)
    table.put(Send(b"c"))
    assert table.mouth.came == []
    table.clock.turn(0.3)
    table.put(Send(b"d"))
    assert table.mouth.came == [(0.3, Send(b"abc")), (0.4, Send(b"d"))]


@pytest.mark.parametrize("end", [Finish(), Close(), Reset()])
def test_an_end_is_the_last_thing_and_comes_behind_what_was_gathered(end: Out) -> None:
    table = Table()
    table.put(Gather(5), Send(b"a"), end, Send(b"b"))
    table.put(Send(b"c"))
    assert [effect for _, effect in table.mouth.came] == [Send(b"a"), end]
    assert table.clock.pending == 0


def test_behind_a_silence_nothing_goes_out_and_the_lane_fills_up_to_its_bound() -> None:
    table = Table()
    table.put(Send(b"a"), Silence(), Send(b"b"))
    assert (table.mouth.data, table.lane.silent, table.lane.empty, table.lane.full) == (b"a", True, True, False)
    table.put(Send(bytes(70_000)))
    assert table.lane.full
    assert table.rooms == [True]


def test_a_fault_is_told_when_its_bytes_are_out_and_before_the_end_that_it_is() -> None:
    table = Table()
    table.put(Send(b"1234"), Wait(1), Applied("cut", ""), Send(b"56"), Close())
    assert table.applied == []
    table.clock.run_out()
    assert table.applied == [("cut", 6)]


def test_an_outlet_that_takes_nothing_holds_up_the_lane_and_room_is_told_again() -> None:
    table = Table()
    table.mouth.blocked = True
    table.put(Send(bytes(65_000)), Send(bytes(1000)))
    assert (table.mouth.sizes, table.lane.full) == ([], True)
    table.mouth.blocked = False
    table.lane.go_on()
    assert (table.mouth.sizes, table.lane.full, table.rooms) == ([66_000], False, [True, False])


def test_a_dropped_lane_leaves_no_timer_and_sends_nothing_more() -> None:
    table = Table(Network(latency=1, reset_after_seconds=5))
    table.put(Send(b"a"), Gather(3), Send(b"b"), Wait(2), Send(b"c"))
    table.lane.drop()
    assert table.clock.pending == 0
    table.put(Send(b"d"))
    table.clock.run_out()
    assert table.mouth.came == []


def test_who_closes_hears_when_the_last_byte_is_out() -> None:
    table = Table()
    emptied: list[float] = []
    table.put(Wait(1), Send(b"bye"))
    table.lane.on_empty = lambda: emptied.append(table.clock.now - 100)
    assert table.lane.ahead == pytest.approx(1)
    table.clock.run_out()
    assert emptied == [1.0]


lossless = st.one_of(
    st.builds(Send, st.binary(min_size=1, max_size=40)),
    st.builds(Pieces, st.binary(min_size=1, max_size=40), st.integers(1, 9), st.sampled_from([0.0, 0.01])),
    st.builds(Wait, st.sampled_from([0.0, 0.02, 1.0])),
    st.builds(Gather, st.sampled_from([0.0, 0.03])),
)
networks = st.one_of(
    st.none(),
    st.builds(
        Network,
        latency=st.sampled_from([0.01, 0.5]),
        jitter=st.sampled_from([0.0, 0.2]),
        bandwidth=st.sampled_from([None, 10, 1000]),
        loss=st.sampled_from([0.0, 0.3]),
        stall_after_bytes=st.just(7),
        stall_seconds=st.just(1.0),
        seed=st.integers(0, 99),
    ),
)


@given(st.lists(st.tuples(lossless, st.sampled_from([0.0, 0.015]))), networks)
def test_what_is_only_delayed_split_or_joined_is_the_same_bytes_in_the_same_order(
    effects: list[tuple[Effect, float]], network: Network | None
) -> None:
    table = Table(network)
    for effect, pause in effects:
        table.put(effect)
        table.clock.turn(pause)
    table.clock.run_out()
    expected = b"".join(bytes(each.data) for each, _ in effects if isinstance(each, Send | Pieces))
    assert table.mouth.data == expected
    assert table.lane.empty
    assert [when for when, _ in table.mouth.came] == sorted(when for when, _ in table.mouth.came)


# -- network -------------------------------------------------------------------------------------------------------


def test_latency_is_the_same_for_all_that_is_on_its_way_at_once() -> None:
    table = Table(Network(latency=0.2))
    table.put(Send(b"a"))
    table.clock.turn(0.1)
    table.put(Send(b"b"))
    table.clock.run_out()
    assert table.mouth.came == [(0.2, Send(b"a")), (0.3, Send(b"b"))]


def test_bandwidth_is_kept_and_the_rest_waits_within_the_bound() -> None:
    table = Table(Network(bandwidth=10_000))
    for _ in range(40):
        table.put(Send(bytes(5000)))
    assert table.lane.full
    table.clock.turn(5)
    assert 49_900 <= len(table.mouth.data) <= 50_000
    table.clock.turn(15.1)
    assert (len(table.mouth.data), table.lane.full, table.lane.empty) == (200_000, False, True)
    assert max(table.mouth.sizes) <= 100  # a hundredth of a second at a time


def test_a_lost_segment_comes_later_and_holds_up_those_behind_it() -> None:
    table = Table(Network(loss=0.5, retransmission=1, seed=4))
    for number in range(20):
        table.put(Send(bytes([number])))
    table.clock.run_out()
    times = [when for when, _ in table.mouth.came]
    assert table.mouth.data == bytes(range(20))
    assert times == sorted(times)
    assert 1 <= times[-1] <= 10
    again = Table(Network(loss=0.5, retransmission=1, seed=4))
    for number in range(20):
        again.put(Send(bytes([number])))
    again.clock.run_out()
    assert again.mouth.came == table.mouth.came, "the same seed is the same weather"


def test_a_reset_comes_behind_its_byte_and_nothing_behind_it() -> None:
    table = Table(Network(reset_after_bytes=10))
    table.put(Send(b"1234567"))
    assert table.told == [("network", 0)]
    table.put(Send(b"89abcdef"))
    assert table.mouth.data == b"123456789a"
    assert table.mouth.came[-1][1] == Reset()
    assert table.told[1:] == [("network_reset", 10)]


def test_a_reset_after_seconds_needs_no_byte() -> None:
    table = Table(Network(reset_after_seconds=3))
    table.clock.run_out()
    assert table.mouth.came == [(3, Reset())]


def test_a_stall_ends_or_does_not() -> None:
    table = Table(Network(stall_after_bytes=4, stall_seconds=2))
    table.put(Send(b"123456"))
    table.clock.run_out()
    assert table.mouth.came == [(0, Send(b"1234")), (2, Send(b"56"))]
    for_good = Table(Network(stall_after_bytes=4))
    for_good.put(Send(b"123456"))
    for_good.clock.run_out()
    assert (for_good.mouth.data, for_good.lane.silent, for_good.lane.empty) == (b"1234", True, True)
    assert ("network_stall", 4) in for_good.told


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ({}, "latency"),
        ({"latency": -1}, "latency"),
        ({"latency": "fast"}, "latency"),
        ({"latency": True}, "latency"),
        ({"bandwidth": 0}, "bandwidth"),
        ({"bandwidth": 1.5}, "bandwidth"),
        ({"loss": 1}, "loss"),
        ({"stall_seconds": 1}, "stall_seconds"),
        ({"reset_after_bytes": 0}, "reset_after_bytes"),
        ({"latency": 1, "leg": "through"}, "leg"),
        ({"latency": 1, "to": "client"}, "to"),
        ({"latency": float("nan")}, "latency"),
    ],
)
def test_a_network_that_cannot_be_names_its_key(table: dict[str, Any], key: str) -> None:
    with pytest.raises(NetworkError) as wrong:
        Network(**table)
    assert wrong.value.key == key
    assert key in str(wrong.value)


def test_a_network_says_which_way_it_is_on_and_what_it_does() -> None:
    network = Network(leg="server", to="proxy", latency=0.2, reset_after_bytes=5)
    assert network.acts("server", "proxy")
    assert not network.acts("server", "target")
    assert not network.acts("client", "proxy")
    assert network.text == "gave the network 0.2 s of latency, a reset after 5 bytes"
