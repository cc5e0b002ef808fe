"""A ClientHello that never becomes whole costs little: its bytes are read once, a slice at a time, up to a bound."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from countersign.proxy import Action, Limits
from countersign.proxy.sniff import HELLO_AT_MOST, RECORDS_AT_MOST
from countersign.recorder.recording import Ending, FailureCode, Party, Status, to_json
from countersign.recorder.wire.events import Side
from countersign.recorder.wire.leg import LegDecoder
from tests.proxy.running import RunningProxy
from tests.proxy.wire import Target, client_hello, connect, in_records, rest, silent
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

ENDLESS = b"\x01\x01\x00\x00" + bytes(200_000)
"""The beginning of a hello of 64 KiB that goes on for ever."""


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes each call of a decoder was given."""
    sizes: list[int] = []
    receive = LegDecoder.receive

    def counted(self: LegDecoder, sender: Side, data: Any, t: float) -> Any:
        sizes.append(len(data))
        return receive(self, sender, data, t)

    monkeypatch.setattr(LegDecoder, "receive", counted)
    return sizes


@pytest.fixture
def target() -> Iterator[Target]:
    with Target(silent) as running:
        yield running


@pytest.mark.parametrize("action", list(Action))
def test_snapshots_of_an_unfinished_hello_do_not_read_it_again(target: Target, read: list[int], action: Action) -> None:
    with RunningProxy(target=target.address, action=action) as proxy, connect(proxy) as connection:
        sent = 0
        for _ in range(5):
            piece = in_records(ENDLESS[sent : sent + 100], size=1)
            shown = len(proxy.kept.snapshots)
            connection.sendall(piece)
            sent += 100
            until(lambda shown=shown: len(proxy.kept.snapshots) > shown)  # type: ignore[misc]
        assert sum(read) == 5 * 100 * 6
        (message,) = proxy.kept.snapshots[-1].legs[0].messages
        assert message.raw == ENDLESS[:500]
        assert (message.length, message.complete) == (65_540, False)
        for snapshot in proxy.kept.snapshots:
            to_json(snapshot)


def test_a_hello_is_read_in_slices(target: Target, read: list[int]) -> None:
    with RunningProxy(target=target.address, action=Action.PASSTHROUGH) as proxy, connect(proxy) as connection:
        connection.sendall(in_records(client_hello(padding=60_000)))
        until(lambda: target.connections)
    assert max(read) <= 8_192
    assert sum(read) < 61_000  # once: whoever records the leg goes on with what has been read


@pytest.mark.parametrize("action", list(Action))
@pytest.mark.parametrize("size", [1, 2, 3, 16_384])
def test_a_hello_without_end_is_given_up_at_a_bound(target: Target, read: list[int], size: int, action: Action) -> None:
    with RunningProxy(target=target.address, action=action) as proxy:
        with connect(proxy) as connection, contextlib.suppress(ConnectionError):
            connection.sendall(in_records(b"\x01\xff\xff\xff" + bytes(250_000), size=size))
            assert rest(connection) == b""
        recording = proxy.recording()
    assert (recording.outcome.status, recording.outcome.broken_by) == (Status.FAILED, Party.CLIENT)
    (failure,) = recording.failures
    assert failure.code is FailureCode.HELLO_TOO_LONG
    assert f"{HELLO_AT_MOST} bytes in {RECORDS_AT_MOST} records are the most that is taken" in failure.text
    ((end,),) = [leg.ends for leg in recording.legs]
    assert (end.sender, end.how) == (Side.CLIENT, Ending.STOPPED)
    assert sum(read) <= (HELLO_AT_MOST if size > 100 else RECORDS_AT_MOST * (size + 5))
    assert not target.connections
    to_json(recording)


def test_a_hello_in_as_many_records_as_are_taken_is_taken(target: Target) -> None:
    hello = client_hello(padding=3_000)
    with RunningProxy(target=target.address, action=Action.PASSTHROUGH) as proxy, connect(proxy) as connection:
        connection.sendall(in_records(hello, size=1)[: 6 * len(hello)])
        assert len(hello) < RECORDS_AT_MOST
        until(lambda: target.connections)
        connection.close()
        assert proxy.recording().legs[0].messages[0].raw == hello


def test_what_came_behind_the_hello_is_passed_on_in_order() -> None:
    said: list[bytes] = []

    def listen(connection: Any) -> None:
        while data := connection.recv(65536):
            said.append(data)

    behind = bytes(range(256)) * 150
    whole = in_records(client_hello(padding=20_000)) + b"\x17\3\3\x40\0" + (behind * 2)[:16_384]
    with Target(listen) as target, RunningProxy(target=target.address, action=Action.PASSTHROUGH) as proxy:
        with connect(proxy) as connection:
            connection.sendall(whole)
            until(lambda: sum(map(len, said)) == len(whole))
        proxy.recording()
    assert b"".join(said) == whole


def test_a_hello_that_takes_too_long_is_kept_as_far_as_it_came(target: Target) -> None:
    with RunningProxy(target=target.address, limits=Limits(hello=0.3)) as proxy:
        with connect(proxy) as connection:
            connection.sendall(in_records(ENDLESS[:300], size=1))
            assert rest(connection) == b""
        recording = proxy.recording()
    (message,) = recording.legs[0].messages
    assert message.raw == ENDLESS[:300]
    assert [failure.code for failure in recording.failures] == [FailureCode.SILENT]
