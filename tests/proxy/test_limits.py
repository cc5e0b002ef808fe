"""Time limits, the graceful stop, snapshots of open sessions, many clients at once, and no descriptors left."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import socket
import ssl
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from countersign.errors import EnvironmentFault
from countersign.proxy import Action, Address, Engine, Limits, Mode, Settings, engine as engine_module
from countersign.recorder.recording import Ending, LegRole, Party, Recording, Status, to_json
from countersign.recorder.wire.events import Content, Side
from tests.proxy.running import AUTHORITY, Kept, RunningProxy
from tests.proxy.wire import (
    Client,
    Target,
    ask,
    client_context,
    client_hello,
    connect,
    connect_request,
    echo,
    in_records,
    rest,
    send,
    server_context,
    silent,
    tls,
)
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.peers.certs import Lab


@pytest.fixture
def target(lab: Lab) -> Iterator[Target]:
    with Target(echo(server_context(lab.server))) as running:
        yield running


def proxied(target: Target, **settings: Any) -> RunningProxy:
    return RunningProxy(target=target.address, **{"verify": False, **settings})


# -- time limits -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_a_client_that_falls_silent_in_its_handshake(target: Target, version: str) -> None:
    hello = client_hello() if version == "TLSv1_3" else client_hello(versions=None)
    with proxied(target, limits=Limits(handshake=0.3)) as proxy:
        with connect(proxy) as connection:
            connection.sendall(in_records(hello))
            began = time.monotonic()
            rest(connection)
            assert 0.2 < time.monotonic() - began < 10
        recording = proxy.recording()
    assert (recording.outcome.status, recording.outcome.broken_by) == (Status.FAILED, Party.CLIENT)
    assert "fell silent in the middle of the handshake" in recording.outcome.text
    leg = recording.leg(LegRole.CLIENT)
    assert leg is not None
    assert [end.how for end in leg.ends if end.sender is Side.CLIENT] == [Ending.SILENT]


@pytest.mark.parametrize("action", list(Action))
def test_a_session_in_which_nothing_moves_is_ended(target: Target, action: Action) -> None:
    with proxied(target, limits=Limits(idle=0.3), action=action) as proxy:
        with tls(proxy, client_context()) as connection:
            for _ in range(3):  # what moves is not idle
                time.sleep(0.15)
                connection.sendall(b"x")
                assert connection.recv(1) == b"x"
            began = time.monotonic()
            assert connection.recv(1) == b""
            assert 0.2 < time.monotonic() - began < 10
        recording = proxy.recording()
    assert recording.outcome.status is Status.ESTABLISHED
    assert "0.3 s" in recording.outcome.text
    assert {end.how for leg in recording.legs for end in leg.ends} == {Ending.STOPPED}


def test_passed_through_a_target_that_says_nothing_is_named() -> None:
    with Target(silent) as target, proxied(target, limits=Limits(idle=0.2), action=Action.PASSTHROUGH) as proxy:
        assert send(proxy, in_records(client_hello())) == b""
        recording = proxy.recording()
    assert (recording.outcome.status, recording.outcome.broken_by) == (Status.FAILED, Party.TARGET)
    assert "fell silent in the middle of the handshake, after client_hello of the client" in recording.outcome.text


# -- the stop ----------------------------------------------------------------------------------------------------


def test_open_sessions_get_their_time_and_are_finished(target: Target) -> None:
    with contextlib.ExitStack() as stack:
        proxy = proxied(target, limits=Limits(stop=0.5))
        proxy.__enter__()
        try:
            used, quick = (stack.enter_context(tls(proxy, client_context())) for _ in range(2))
            used.sendall(b"used")
            assert used.recv(4) == b"used"
            unused = stack.enter_context(tls(proxy, client_context()))
            assert unused
            early = stack.enter_context(connect(proxy))
            begun = stack.enter_context(connect(proxy))
            begun.sendall(in_records(client_hello())[:100])
            until(lambda: proxy.engine.open_sessions == 5)
            began = time.monotonic()
            address = proxy.address
            stopping = threading.Thread(target=proxy.__exit__, args=(None, None, None))
            stopping.start()
            time.sleep(0.1)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(address)
            quick.sendall(b"in time")
            assert quick.recv(7) == b"in time"
            quick.close()
        except BaseException:
            proxy.__exit__()
            raise
        assert early.recv(1) == b""
        stopping.join(5)
        took = time.monotonic() - began
    assert 0.4 < took < 4.5
    recordings = proxy.recordings(5)
    outcomes = sorted(recording.outcome.status.value for recording in recordings)
    assert outcomes == ["established", "established", "interrupted", "interrupted", "interrupted"], [
        recording.outcome for recording in recordings
    ]
    interrupted = [recording for recording in recordings if recording.outcome.status is Status.INTERRUPTED]
    for recording in interrupted:
        assert recording.outcome.broken_by is None
        assert "stopped" in recording.outcome.text
    assert sorted(recording.from_client for recording in interrupted)[:2] == [0, 100]
    assert any(leg.messages for recording in interrupted for leg in recording.legs)


def test_a_stop_while_the_target_is_dialled_or_spoken_to() -> None:
    with Target(silent) as target:
        proxy = proxied(target, limits=Limits(stop=0.1))
        with contextlib.ExitStack() as stack:
            with proxy:
                connection = stack.enter_context(connect(proxy))
                connection.sendall(in_records(client_hello()))
                until(lambda: target.connections)
            (recording,) = proxy.kept.finished
    assert recording.outcome.status is Status.INTERRUPTED
    assert {leg.role for leg in recording.legs} == {LegRole.CLIENT, LegRole.SERVER}


def test_a_session_that_was_stopped_before_its_first_step(target: Target) -> None:
    with proxied(target) as proxy, connect(proxy) as connection:

        async def born_and_stopped() -> None:
            for _ in range(100_000):
                if proxy.engine._sessions:
                    break
                await asyncio.sleep(0)
            for task in proxy.engine._sessions:
                task.cancel()

        proxy.run(born_and_stopped())
        assert connection.recv(1) == b""
        assert proxy.recording().outcome.status is Status.INTERRUPTED


def test_a_client_is_let_in_when_nothing_else_is_to_do_or_it_has_waited_for_long(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "_QUIET", 0.0)  # there is always something else to do
    monkeypatch.setattr(engine_module, "_WAITS_AT_MOST", 1e9)
    with proxied(target) as proxy:
        looked = proxy.engine._looked
        with connect(proxy) as waiting:
            until(lambda: proxy.engine._looked > looked)  # it was seen
            time.sleep(0.05)
            assert proxy.engine.open_sessions == 0
            monkeypatch.setattr(engine_module, "_WAITS_AT_MOST", 0.0)
            until(lambda: proxy.engine.open_sessions == 1)
            waiting.close()
        proxy.recording()
        monkeypatch.setattr(engine_module, "_QUIET", 1e9)
        monkeypatch.setattr(engine_module, "_WAITS_AT_MOST", 1e9)
        with connect(proxy):
            until(lambda: proxy.engine.open_sessions == 1)


def test_no_session_is_born_after_the_stop(target: Target) -> None:
    with contextlib.ExitStack() as stack:
        proxy = proxied(target, limits=Limits(stop=0))
        with proxy:

            async def stop_while_accepting() -> None:
                listener = proxy.engine._listeners[0]
                for _ in range(5):
                    stack.enter_context(socket.create_connection(listener.getsockname()))
                while proxy.engine.open_sessions < 5:
                    proxy.engine._accept(listener)
                await proxy.engine.stop()
                assert proxy.engine.open_sessions == 0
                assert len(proxy.kept.finished) == 5

            proxy.run(stop_while_accepting())
            assert {recording.outcome.status for recording in proxy.kept.finished} == {Status.INTERRUPTED}


def test_a_fault_in_one_session_costs_no_other_its_snapshots_and_no_recording(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxied(target) as proxy:
        with connect(proxy) as bad:
            until(lambda: proxy.engine.open_sessions == 1)
            (session,) = proxy.engine._sessions.values()

            def fail(*_: object) -> None:
                raise ValueError("a bug")

            monkeypatch.setattr(session, "snapshot", fail)
            monkeypatch.setattr(session.recording, "finished", fail)
            bad.sendall(b"\x16")
            with connect(proxy) as good:
                good.sendall(b"\x16")
                until(lambda: any(one.id != session.recording.id for one in proxy.kept.snapshots))
        recordings = proxy.recordings(2)
    (broken,) = [one for one in recordings if one.id == session.recording.id]
    assert (broken.outcome.status, broken.outcome.broken_by) == (Status.FAILED, Party.PROXY)
    assert [failure.code for failure in broken.failures if failure.by is Party.PROXY] == ["internal"]


def test_a_stop_without_sessions_is_immediate(target: Target) -> None:
    proxy = proxied(target)
    with proxy:
        assert ask(proxy, client_context())
        proxy.recording()
        time.sleep(0.05)
        began = time.monotonic()
    assert time.monotonic() - began < 4


def test_a_port_that_is_taken_is_a_fault_of_the_environment(target: Target) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = Address("127.0.0.1", taken.getsockname()[1])
        with pytest.raises(EnvironmentFault, match="something else listens there"):
            asyncio.run(Engine(Settings(listen=listen, target=target.address), AUTHORITY, Kept()).start())


# -- snapshots ---------------------------------------------------------------------------------------------------


def test_what_happened_is_handed_over_within_a_quarter_of_a_second(target: Target) -> None:
    with proxied(target) as proxy:

        def shown(test: Callable[[Recording], object]) -> Callable[[], bool]:
            return lambda: any(test(snapshot) for snapshot in proxy.kept.snapshots)

        with connect(proxy) as raw:
            assert until(lambda: proxy.kept.snapshots) < 0.5
            begun = in_records(client_hello())[:50]
            raw.sendall(begun)
            assert until(shown(lambda one: one.from_client == 50)) < 0.6
            (message,) = proxy.kept.snapshots[-1].legs[0].messages
            assert begun.endswith(message.raw)
            assert not message.complete
        client = Client(proxy, client_context())
        client.handshake()
        assert until(shown(_handshake_is_whole)) < 0.6
        client.send(b"data")
        assert client.recv() == b"data"
        assert until(shown(lambda one: any(leg.count(Side.SERVER).length == 4 for leg in one.legs))) < 0.6
        for snapshot in proxy.kept.snapshots:
            assert snapshot.outcome.status is Status.OPEN
            to_json(snapshot)
        time.sleep(0.25)
        quiet = len(proxy.kept.snapshots)
        time.sleep(0.3)
        assert len(proxy.kept.snapshots) == quiet  # nothing new, nothing handed over
        client.close()


def _handshake_is_whole(recording: Recording) -> bool:
    return len(recording.legs) == 2 and all(
        sum(message.content is Content.HANDSHAKE and message.code == 20 for message in leg.messages) == 2
        for leg in recording.legs
    )


# -- many --------------------------------------------------------------------------------------------------------


def test_200_clients_at_once_are_all_served_and_recorded() -> None:
    with RunningProxy() as proxy:  # its own target runs in the engine's loop: no thread for each connection
        context = client_context()
        hold = threading.Barrier(201, timeout=30)

        def one(number: int) -> bool:
            with tls(proxy, context) as connection:
                hold.wait()
                connection.sendall(b"GET /%d HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % number)
                return connection.recv(100).startswith(b"HTTP/1.1 200")

        with ThreadPoolExecutor(200) as pool:
            answers = [pool.submit(one, number) for number in range(200)]
            hold.wait()
            assert proxy.engine.open_sessions == 200
            assert all(answer.result(30) for answer in answers)
        recordings = proxy.recordings(200, timeout=10)
    assert {recording.outcome.status for recording in recordings} == {Status.ESTABLISHED}
    assert len({recording.id for recording in recordings}) == 200
    assert proxy.engine.open_sessions == 0


def test_without_descriptors_it_backs_off_and_comes_back(lab: Lab) -> None:
    """T27, in a process of its own with 64 descriptors."""
    script = Path(__file__).with_name("few_descriptors.py")
    process = subprocess.Popen(
        [sys.executable, "-W", "error", str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert process.stdout is not None
    try:
        port = int(process.stdout.readline())
        with contextlib.ExitStack() as stack:
            for _ in range(500):
                stack.enter_context(socket.create_connection(("127.0.0.1", port), 5))
            time.sleep(0.3)
            before = _cpu_of(process.pid)
            time.sleep(0.5)
            assert _cpu_of(process.pid) - before < 0.25
        began = time.monotonic()
        while True:
            with contextlib.suppress(OSError, ssl.SSLError):
                raw = socket.create_connection(("127.0.0.1", port), 2)
                with client_context().wrap_socket(raw, server_hostname="localhost") as connection:
                    connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    if connection.recv(100).startswith(b"HTTP/1.1 200"):
                        break
            assert time.monotonic() - began < 20
            time.sleep(0.05)
        time.sleep(1)  # it says so once it has accepted all that waited
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=10)
    assert "Traceback" not in errors, errors
    lines = [json.loads(line) for line in errors.splitlines() if line.startswith("{")]
    said = [line["event"] for line in lines if line["event"] != "session"]
    assert said[:2] == ["cannot accept connections", "accepting connections again"]
    assert len(said) <= 6


def test_a_connection_that_closes_makes_room_for_one_that_waits(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, not when the next try is due."""
    monkeypatch.setattr("countersign.proxy.engine._ACCEPT_AGAIN_AFTER", 60)
    with proxied(target) as proxy, contextlib.ExitStack() as stack:
        first = stack.enter_context(tls(proxy, client_context()))
        assert proxy.engine._listeners

        async def without_descriptors() -> None:
            (listener,) = proxy.engine._listeners
            proxy.engine._cannot_accept(listener, OSError(24, "Too many open files"))

        proxy.run(without_descriptors())
        waiting = stack.enter_context(connect(proxy))
        waiting.settimeout(0.3)
        waiting.sendall(in_records(client_hello()))
        with pytest.raises(TimeoutError):
            waiting.recv(1)
        first.close()
        waiting.settimeout(10)
        assert waiting.recv(1) == b"\x16"


def test_a_stop_while_no_connection_can_be_accepted(target: Target) -> None:
    with proxied(target) as proxy:

        async def without_descriptors() -> None:
            (listener,) = proxy.engine._listeners
            proxy.engine._cannot_accept(listener, OSError(24, "Too many open files"))

        proxy.run(without_descriptors())
    assert proxy.engine._try_again is not None
    assert proxy.engine._try_again.cancelled()


def test_what_was_recorded_is_handed_over_before_anything_is_logged(target: Target) -> None:
    """A log that cannot be written costs no recording, not even that of a session which broke."""

    def fail(*_: object) -> Any:
        raise OSError(28, "No space left on device")

    before = structlog.get_config()
    structlog.configure(processors=[fail])
    try:
        with proxied(target) as proxy:
            for broken in (False, True):
                with connect(proxy) as connection:
                    until(lambda: proxy.engine.open_sessions == 1)
                    if broken:
                        (session,) = proxy.engine._sessions.values()
                        session._sniffer._receive = session.recording.finished = fail  # type: ignore[method-assign,assignment]
                    connection.sendall(b"\x16")
                until(lambda: proxy.engine.open_sessions == 0)
            recordings = proxy.recordings(2)
    finally:
        structlog.configure(**before)
    assert [recording.outcome.broken_by for recording in recordings] == [Party.CLIENT, Party.PROXY]


def _cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def test_a_target_that_cannot_be_dialled_for_want_of_descriptors_is_not_blamed() -> None:
    """The proxy's own limit is the proxy's fault."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with RunningProxy(mode=Mode.CONNECT, verify=False) as proxy, contextlib.ExitStack() as stack:
        connection = stack.enter_context(connect(proxy))
        time.sleep(0.1)
        used = len(list(Path("/proc/self/fd").iterdir()))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (used, hard))
        fill = []
        with contextlib.suppress(OSError):
            while True:
                fill.append(socket.socket())
        connection.sendall(connect_request("127.0.0.1", proxy.port - 1 or 1))
        answer = connection.recv(1000)
        for each in fill:
            each.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        recording = proxy.recording()
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert recording.outcome.broken_by is Party.PROXY
    assert "file descriptor" in recording.outcome.text
