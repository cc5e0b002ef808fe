"""What passes through is moved by the kernel after a while: every byte, every end, back-pressure, the recording."""

from __future__ import annotations

import contextlib
import errno
import socket
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from countersign.proxy import Action, Limits, splice
from countersign.proxy.splice import Pipes
from countersign.proxy.stream import Stream
from countersign.recorder.files.ladder import render_ladder
from countersign.recorder.recording import Ending, LegRole, Status
from countersign.recorder.wire.events import Side
from tests.proxy.running import RunningProxy
from tests.proxy.test_relay import leg_of
from tests.proxy.wire import Target, client_context, connect, echo, reset, rest, server_context, tls

if TYPE_CHECKING:
    from collections.abc import Callable

    from countersign.recorder.recording import Recording
    from tests.peers.certs import Lab

linux = pytest.mark.skipif(not splice.CAN_SPLICE, reason="splice(2) is Linux's")
HELLO = b"not TLS, "  # what is no TLS passes through in any mode
SOME = bytes(range(256)) * 4096  # 1 MiB


def passing(target: Target, *, idle: float = 30) -> RunningProxy:
    return RunningProxy(target=target.address, action=Action.PASSTHROUGH, limits=Limits(idle=idle, stop=0.2))


def unwatched(recording: Recording) -> dict[str, float]:
    found = recording.prelude.get("unwatched")
    assert isinstance(found, dict), recording.prelude
    return found


def sending(connection: socket.socket, data: bytes, *, finish: bool = False) -> threading.Thread:
    def work() -> None:
        with contextlib.suppress(OSError):
            connection.sendall(data)
            if finish:
                connection.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=work, name="sends")
    thread.start()
    return thread


def said_back(connection: socket.socket) -> None:
    """An echo in clear."""
    while data := connection.recv(65536):
        connection.sendall(data)


def taking(connection: socket.socket, count: int) -> bytes:
    got = bytearray()
    while len(got) < count and (data := connection.recv(min(1 << 18, count - len(got)))):
        got += data
    return bytes(got)


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


# -- every byte ----------------------------------------------------------------------------------------------------


@linux
def test_tls_passes_whole_both_ways_and_from_where_nobody_watched_is_recorded(lab: Lab) -> None:
    with Target(echo(server_context(lab.server))) as target, passing(target) as proxy:
        with tls(proxy, client_context(lab.root_pem.read_text())) as connection:
            for number in range(49):  # one thread: an SSLSocket is not safe for two before Python 3.13
                some = number.to_bytes(1, "big") + SOME[: 1 << 16]
                connection.sendall(some)
                assert taking(connection, len(some)) == some
        recording = proxy.recording()
    assert recording.outcome.status is Status.ESTABLISHED, recording.outcome
    found = unwatched(recording)
    assert 1 << 18 < found["from_client"] + found["from_target"] < 4 * len(SOME)
    assert not recording.problems
    assert {end.how for end in leg_of(recording, LegRole.THROUGH).ends} == {Ending.FIN}
    assert min(recording.from_client, recording.from_target) > 3 * len(SOME)
    leg = leg_of(recording, LegRole.THROUGH)
    for side, total in ((Side.CLIENT, recording.from_client), (Side.SERVER, recording.from_target)):
        # What comes before it can be told from the handshake stands there record by record, and is not counted as data;
        # nor are the handshake in clear and the record in whose middle it began.
        sealed = sum(record.length for record in leg.encrypted_records if record.sender is side)
        assert total - 24_000 < leg.count(side).length + sealed < total
    text = " ".join(render_ladder(recording).split())
    assert f"from byte {found['from_client']} of the client" in text


def test_of_little_every_byte_is_looked_at(lab: Lab) -> None:
    with Target(echo(server_context(lab.server))) as target, passing(target) as proxy:
        with tls(proxy, client_context(lab.root_pem.read_text())) as connection:
            connection.sendall(SOME[:100_000])
            assert taking(connection, 100_000) == SOME[:100_000]
        recording = proxy.recording()
    assert "unwatched" not in recording.prelude


@linux
def test_a_half_close_passes_and_the_other_way_goes_on() -> None:
    def handle(connection: socket.socket) -> None:
        heard = rest(connection)
        connection.sendall(heard[::-1])

    with Target(handle) as target, passing(target) as proxy:
        with connect(proxy) as connection:
            writer = sending(connection, HELLO + SOME, finish=True)
            assert rest(connection) == (HELLO + SOME)[::-1]
            writer.join(10)
        recording = proxy.recording()
    assert set(unwatched(recording)) == {"t", "from_client", "from_target"}
    assert recording.from_client == recording.from_target == len(HELLO + SOME)


@linux
def test_a_way_that_was_over_before_stays_so() -> None:
    """The client has ended its side before there is anything to splice."""

    def handle(connection: socket.socket) -> None:
        assert rest(connection) == HELLO
        connection.sendall(SOME * 2)

    with Target(handle) as target, passing(target) as proxy:
        with connect(proxy) as connection:
            connection.sendall(HELLO)
            connection.shutdown(socket.SHUT_WR)
            assert rest(connection) == SOME * 2
        recording = proxy.recording()
    assert set(unwatched(recording)) == {"t", "from_target"}


# -- ends ----------------------------------------------------------------------------------------------------------


@linux
@pytest.mark.parametrize("who", ["client", "target"])
@pytest.mark.parametrize("when", ["while it sends", "while it is sent to", "at rest"])
def test_a_reset_reaches_the_other_side(who: str, when: str) -> None:
    """Whoever resets, the other one is reset as well, whatever is on its way."""
    moved, over = threading.Event(), threading.Event()
    left: list[type[BaseException]] = []

    def resets(connection: socket.socket) -> None:
        taking(connection, len(HELLO) + (len(SOME) if who == "target" else 0))
        if when == "while it sends":
            connection.sendall(SOME)
        moved.wait(10)
        reset(connection)

    def is_reset(connection: socket.socket) -> None:
        try:
            if when == "while it is sent to":
                moved.set()
                while True:
                    connection.sendall(SOME)
            elif when == "while it sends":
                taking(connection, len(SOME))
            moved.set()
            while connection.recv(65536):
                pass
        except OSError as error:
            left.append(type(error))
        over.set()

    def on_target(connection: socket.socket) -> None:
        if who == "target":
            resets(connection)
        else:
            connection.sendall(HELLO)
            taking(connection, len(HELLO) + len(SOME))
            is_reset(connection)

    with Target(on_target) as target, passing(target) as proxy:
        connection = connect(proxy)
        connection.sendall(HELLO + SOME)
        if who == "client":
            resets(connection)
        else:
            is_reset(connection)
            connection.close()
        assert over.wait(10)
        recording = proxy.recording()
    assert "unwatched" in recording.prelude
    assert left in ([ConnectionResetError], [BrokenPipeError]), left


@linux
def test_one_in_which_nothing_moves_any_more_is_ended() -> None:
    with Target(said_back) as target, passing(target, idle=0.5) as proxy:
        with connect(proxy) as connection:
            writer = sending(connection, HELLO + SOME)
            assert taking(connection, len(HELLO + SOME)) == HELLO + SOME
            writer.join(10)
            assert rest(connection) == b""
        recording = proxy.recording()
    assert "unwatched" in recording.prelude


@linux
def test_nothing_is_left_behind_when_the_proxy_stops_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []
    drop = Pipes.drop

    def noticed(self: Pipes, pipe: tuple[int, int]) -> None:
        held.append(pipe[0])
        drop(self, pipe)

    monkeypatch.setattr(Pipes, "drop", noticed)
    before = descriptors()
    stuck = threading.Event()

    def floods(connection: socket.socket) -> None:
        connection.recv(1)
        connection.settimeout(0.3)
        try:
            while True:
                connection.sendall(SOME)
        except TimeoutError:
            stuck.set()

    with Target(floods) as target:
        with passing(target) as proxy:
            connection = connect(proxy)
            connection.sendall(HELLO)
            assert stuck.wait(10)
        recording = proxy.recording()
        connection.close()
    assert "unwatched" in recording.prelude
    assert held  # what was in it is lost, so it is not used again
    deadline = time.monotonic() + 60
    while descriptors() > before:
        assert time.monotonic() < deadline
        time.sleep(0.02)


# -- back-pressure -------------------------------------------------------------------------------------------------


@linux
def test_who_does_not_read_is_not_read_for_and_then_gets_all() -> None:
    sent = 0

    def floods(connection: socket.socket) -> None:
        nonlocal sent
        taking(connection, len(HELLO))
        for _ in range(60):
            connection.sendall(SOME)
            sent += len(SOME)

    with Target(floods) as target, passing(target) as proxy:
        with connect(proxy) as connection:
            connection.sendall(HELLO)
            before = -1
            while sent != before:  # until the kernel's own buffers are full
                before = sent
                time.sleep(0.3)
            assert sent < 40 * len(SOME)
            got = bytearray(1 << 20)
            count = 0
            while read := connection.recv_into(got):
                assert got[:read] == (SOME * 2)[count % 256 : count % 256 + read]
                count += read
        recording = proxy.recording()
    assert count == 60 * len(SOME)
    assert recording.from_target == count


@linux
def test_a_way_that_is_blocked_does_not_block_the_other() -> None:
    """The client reads nothing until all that it says has been taken."""
    taken = threading.Event()

    def handle(connection: socket.socket) -> None:
        flooding = sending(connection, SOME * 30)
        taking(connection, len(HELLO) + 20 * len(SOME))
        taken.set()
        flooding.join(10)

    with Target(handle) as target, passing(target) as proxy:
        with connect(proxy) as connection:
            connection.sendall(HELLO + SOME * 20)
            assert taken.wait(10)
            assert taking(connection, 30 * len(SOME)) == SOME * 30
        assert proxy.recording().from_client == len(HELLO) + 20 * len(SOME)


# -- where it cannot be --------------------------------------------------------------------------------------------


def _no_splice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splice, "CAN_SPLICE", False)


def _no_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    def lend(self: Stream) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(Stream, "lend", lend)


def _a_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stream, "lendable", False)


@pytest.mark.parametrize("missing", [_no_splice, _no_descriptors, _a_lane])
def test_where_the_kernel_cannot_all_goes_on_as_before(
    missing: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    missing(monkeypatch)
    with Target(said_back) as target, passing(target) as proxy:
        with connect(proxy) as connection:
            writer = sending(connection, HELLO + SOME * 4, finish=True)
            assert rest(connection) == HELLO + SOME * 4
            writer.join(10)
        recording = proxy.recording()
    assert "unwatched" not in recording.prelude
    assert recording.from_client == recording.from_target == len(HELLO) + 4 * len(SOME)


@linux
def test_without_a_pipe_it_waits_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    left = 5
    take = Pipes.take

    def scarce(self: Pipes) -> tuple[int, int]:
        nonlocal left
        if left:
            left -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return take(self)

    monkeypatch.setattr(Pipes, "take", scarce)
    with Target(said_back) as target, passing(target) as proxy:
        with connect(proxy) as connection:
            writer = sending(connection, HELLO + SOME * 4, finish=True)
            assert rest(connection) == HELLO + SOME * 4
            writer.join(10)
        assert "unwatched" in proxy.recording().prelude
    assert left == 0


def test_pipes_are_used_again_and_not_hoarded() -> None:
    pipes = Pipes()
    before = descriptors() if sys.platform == "linux" else 0
    taken = [pipes.take() for _ in range(40)]
    for pipe in taken:
        pipes.give(pipe)
    if before:
        assert descriptors() - before <= 32
    assert pipes.take() in taken
    pipes.close()
