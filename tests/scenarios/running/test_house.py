"""Proxies under scenarios inside this program: its own calls as clients, processes as clients, and what goes wrong."""

from __future__ import annotations

import asyncio
import os
import pickle
import socket
import ssl
import subprocess
import sys
import threading
import time
import unittest
import urllib.request
import warnings
from typing import TYPE_CHECKING, Any

import pytest

import countersign
from countersign.errors import EnvironmentFault, UserError
from countersign.recorder.recording import LegRole, Status
from countersign.scenarios.running.house import CannotBePut, House
from countersign.scenarios.running.trial import CannotTell, NotOnTheWire
from countersign.scenarios.running.verdict import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from countersign.scenarios.running.trial import ScenarioProxy


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with House() as made:
        yield made


def context(proxy: ScenarioProxy) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=proxy.ca)


def get(proxy: ScenarioProxy) -> str:
    with urllib.request.urlopen(proxy.url, context=context(proxy), timeout=10) as answer:
        return str(answer.read(), "ascii")


def shake_hands(proxy: ScenarioProxy) -> None:
    """A handshake, and not a word after it."""
    with (
        socket.create_connection((proxy.host, proxy.port), timeout=10) as plain,
        context(proxy).wrap_socket(plain, server_hostname=proxy.host),
    ):
        pass


# -- what a client did --------------------------------------------------------------------------------------------


def test_a_call_that_accepts_is_told_from_one_that_refuses(house: House) -> None:
    with house.open("plain") as proxy:
        assert "seen over TLSv1.3" in get(proxy)
        proxy.assert_accepted()
        proxy.assert_right()
    with house.open("missing-intermediate") as proxy:
        with proxy.attempt() as attempt:
            get(proxy)
        proxy.assert_refused()
        proxy.assert_right()
        proxy.assert_alert("certificate_unknown", "unknown_ca")
        proxy.check_wire()
    assert "unable to get local issuer certificate" in str(attempt.error)
    (recording,) = proxy.recordings
    assert (recording.scenario, recording.outcome.status) == ("missing-intermediate", Status.FAILED)


def test_an_assertion_that_does_not_hold_says_what_was_seen(house: House) -> None:
    with house.open("missing-intermediate") as proxy:
        with proxy.attempt():
            get(proxy)
        with pytest.raises(AssertionError) as wrong:
            proxy.assert_accepted()
        assert "expected the client to accept missing-intermediate (The intermediate is missing)" in str(wrong.value)
        assert "seen: The client broke the handshake with alert unknown_ca" in str(wrong.value)
        assert "it said: URLError:" in str(wrong.value)
        with pytest.raises(AssertionError, match=r"expected the client to send bad_certificate .* it sent unknown_ca"):
            proxy.assert_alert("bad_certificate")
        with pytest.raises(AssertionError, match="expected nobody to come to https://localhost:"):
            proxy.assert_no_connection()
        with pytest.raises(UserError, match="no alert 'unknown-ca'; did you mean unknown_ca"):
            proxy.assert_alert("unknown-ca")


def test_a_careless_client_is_wrong_and_says_how_much_it_sent(house: House) -> None:
    with house.open("missing-intermediate") as proxy:
        careless = ssl._create_unverified_context()
        urllib.request.urlopen(proxy.url, context=careless, timeout=10).close()
        with pytest.raises(
            AssertionError, match=r"did wrong under .* accepted but should have refused \(sent \d+ bytes"
        ):
            proxy.assert_right()


@pytest.mark.peer("curl")
def test_clients_that_are_processes_go_either_way(house: House) -> None:
    for mode in ("reverse", "connect"):
        with house.open("missing-intermediate", mode=mode) as proxy:
            ran = proxy.run("curl", "-sS", "{url}")
            assert ran.code == 60
            proxy.assert_right()
            assert proxy.run("curl", "-sSk", "{url}").well
            assert proxy.verdict().kind is Kind.ACCEPTED_WRONGLY
            assert (proxy.proxy_url is None) is (mode == "reverse")


@pytest.mark.peer("curl")
def test_the_environment_is_all_that_a_client_needs(house: House) -> None:
    with house.open("plain", mode="connect") as proxy:
        done = subprocess.run(["curl", "-sS", proxy.url], env=proxy.env, capture_output=True, timeout=20, check=False)
        assert b"seen over TLSv1.3" in done.stdout, done.stderr
        proxy.assert_accepted()


def test_a_client_that_never_ends_is_ended_and_has_hung(house: House) -> None:
    with house.open("plain") as proxy:
        get(proxy)
        ran = proxy.run(sys.executable, "-c", HOLDS, "{host}", "{port}", timeout=1.5)
        assert ran.timed_out
        assert proxy.verdict().kind is Kind.HUNG


HOLDS = "import socket, sys, time; s = socket.create_connection(sys.argv[1:]); time.sleep(60)"


def test_what_the_recordings_leave_open_has_to_be_said(house: House) -> None:
    with house.open("plain") as proxy:
        shake_hands(proxy)
        with pytest.raises(CannotTell, match=r"run it in a `with proxy.attempt\(\):` block"):
            proxy.assert_accepted()
    with house.open("plain") as proxy:
        with proxy.attempt():
            shake_hands(proxy)
        proxy.assert_accepted()
        with proxy.attempt():
            shake_hands(proxy)
            raise ConnectionError("its own verifier does not like the name")
        with pytest.raises(AssertionError, match="does not like the name"):
            proxy.assert_accepted()


def test_a_test_s_own_assertion_comes_out_of_an_attempt(house: House) -> None:
    def ours(proxy: ScenarioProxy) -> None:
        with proxy.attempt():
            assert get(proxy) == "what it is not"

    with house.open("plain") as proxy, pytest.raises(AssertionError, match="what it is not"):
        ours(proxy)


def test_a_connection_that_is_kept_is_judged_while_it_is_open(house: House) -> None:
    with house.open("plain") as proxy:
        with (
            socket.create_connection((proxy.host, proxy.port), timeout=10) as plain,
            context(proxy).wrap_socket(plain, server_hostname=proxy.host) as tls,
        ):
            tls.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert tls.recv(1000)
            proxy.assert_accepted()
            (recording,) = proxy.recordings
            assert recording.outcome.status is Status.OPEN
        (recording,) = proxy.recordings
        assert recording.ended is not None


# -- what was on the wire -----------------------------------------------------------------------------------------


CUT = """
family = "wire"
title = "Cut in a message that only TLS 1.2 has"
expect.right = "refuse"

[[wire]]
do = "cut"
leg = "client"
to = "client"
at = "server_key_exchange"
within = 10
"""


def test_an_assertion_does_not_hold_where_the_fault_never_was_on_the_wire(house: House, tmp_path: Path) -> None:
    (tmp_path / "cut-in-1.2.toml").write_text(CUT)
    with house.open("cut-in-1.2", directories=[tmp_path]) as proxy:
        with proxy.attempt():
            get(proxy)
        with pytest.raises(NotOnTheWire, match=r"under cut-in-1\.2: the fault never was on the wire"):
            proxy.assert_right()
    with house.open("cut-in-1.2", directories=[tmp_path], tls="1.2") as proxy:
        with proxy.attempt():
            get(proxy)
        proxy.assert_right()
        proxy.check_wire()


def test_a_scenario_that_is_written_anew_is_read_anew(house: House, tmp_path: Path) -> None:
    file = tmp_path / "ours.toml"
    for title in ("One", "Another"):
        file.write_text(f'extends = "plain"\ntitle = "{title}"\n')
        os.utime(file, ns=(len(title), len(title)))
        with house.open("ours", directories=[tmp_path]) as proxy:
            assert proxy.scenario.title == title


def test_steps_are_called_and_those_never_reached_are_missed_at_the_end(house: House) -> None:
    with house.open("rotation-root") as proxy:
        get(proxy)
        proxy.assert_accepted()
        with pytest.raises(NotOnTheWire, match="step 2 was never reached"):
            proxy.check_wire()
        assert proxy.step() == 2
        with proxy.attempt():
            get(proxy)
        proxy.assert_refused()
    proxy.check_wire()
    assert {each.step for each in proxy.recordings} == {1, 2}


def test_nobody_came(house: House) -> None:
    with house.open("plain") as proxy:
        proxy.assert_no_connection()
    with pytest.raises(NotOnTheWire, match="no client came to https://localhost"):
        proxy.check_wire()
    with pytest.raises(AssertionError, match=r"expected the client to refuse plain .*; it never connected"):
        proxy.assert_refused()


def test_a_client_that_comes_after_the_end_finds_nobody(house: House) -> None:
    proxy = house.open("plain")
    proxy.close()
    proxy.close()
    with pytest.raises(OSError, match="refused"):
        get(proxy)
    assert proxy.recordings == ()
    with pytest.raises(UserError, match="cannot go to a step: the proxy under plain was stopped"):
        proxy.step()


# -- targets, ports, mistakes -------------------------------------------------------------------------------------


def test_a_target_that_is_named_is_the_target(house: House) -> None:
    with house.open("plain") as first:
        where = f"{first.host}:{first.port}"
        with house.open("plain", target=where, upstream_ca=first.ca) as second:
            get(second)
            second.assert_accepted()
            assert second.recordings[0].target == where
        assert first.recordings[-1].outcome.status is Status.ESTABLISHED


def test_two_on_the_same_port_is_an_error_that_says_so(house: House) -> None:
    with house.open("plain") as proxy:
        with pytest.raises(EnvironmentFault, match=f"cannot listen on 127.0.0.1:{proxy.port}"):
            house.open("expired", port=proxy.port)
        get(proxy)
        proxy.assert_accepted()
    with house.open("plain", port=proxy.port) as again:
        assert again.port == proxy.port


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ({"scenario": "missing-intermediat"}, "did you mean missing-intermediate"),
        ({"mode": "direct"}, "mode takes connect or reverse; got 'direct'"),
        ({"tls": "1.1"}, "tls takes 1.2 or 1.3, got '1.1'"),
        ({"preset": "zscalar"}, "no preset 'zscalar'; did you mean zscaler"),
        ({"port": 70000}, "port takes 0 .any. to 65535"),
        ({"upstream_insecure": True}, "for a target that is named"),
        ({"target": "localhost"}, "target takes HOST:PORT"),
        ({"family": "curly"}, "takes curl"),
        ({"clock": "fast"}, "takes how many times"),
        ({"values": {"days": 3}}, "days"),
    ],
)
def test_mistakes_are_sentences(house: House, how: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        house.open(how.pop("scenario", "plain"), **how)


def test_a_target_that_is_not_there_is_an_error_that_says_so(house: House, free_port: int) -> None:
    with pytest.raises(EnvironmentFault, match="cannot reach the target"):
        house.open("plain", target=f"127.0.0.1:{free_port}")


def test_what_cannot_be_met_straight_says_which_way_it_can(house: House) -> None:
    with pytest.raises(CannotBePut, match="use mode='connect'"):
        house.open("connect-407-for-ever")


def test_a_version_a_preset_and_parameters_are_as_ordered(house: House) -> None:
    with house.open("rotation-intermediate", tls="1.2", preset="zscaler", values={"connections": 1}) as proxy:
        get(proxy)
        get(proxy)
        proxy.assert_accepted()
        proxy.check_wire()
        legs = [recording.leg(LegRole.CLIENT) for recording in proxy.recordings]
        assert {leg.read().version for leg in legs if leg is not None} == {"TLSv1.2"}


# -- loops, threads, processes ------------------------------------------------------------------------------------


def test_loops_may_come_and_go(house: House) -> None:
    proxy = house.open("plain")

    async def once() -> None:
        assert "seen over" in await asyncio.to_thread(get, proxy)
        proxy.assert_accepted()

    asyncio.run(once())
    asyncio.run(once())
    proxy.close()
    assert len(proxy.recordings) == 2


def test_a_loop_that_was_closed_under_the_async_twin_leaves_a_proxy_that_works() -> None:
    loop = asyncio.new_event_loop()
    opened = countersign.running("plain")
    proxy = loop.run_until_complete(opened.__aenter__())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    assert "seen over" in get(proxy)
    proxy.assert_accepted()
    folder = proxy.ca.parent
    proxy.close()
    assert not folder.exists()
    asyncio.run(opened.__aexit__(None, None, None))  # as another loop may do it


def test_the_plain_context_manager_leaves_nothing() -> None:
    with countersign.run(scenario="expired") as proxy:
        with proxy.attempt():
            get(proxy)
        proxy.assert_refused()
        folder = proxy.ca.parent
        assert folder.exists()
    assert not folder.exists()


def test_unittest_needs_no_plugin() -> None:
    class Refuses(unittest.TestCase):
        def setUp(self) -> None:
            self.proxy = countersign.run("missing-intermediate")
            self.addCleanup(self.proxy.close)

        def test_it(self) -> None:
            with self.proxy.attempt():
                get(self.proxy)
            self.proxy.assert_refused()

        def test_it_wrongly(self) -> None:
            with self.proxy.attempt():
                get(self.proxy)
            self.proxy.assert_accepted()

    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(Refuses).run(result)
    assert (result.testsRun, len(result.errors)) == (2, 0)
    assert [case.id().rpartition(".")[2] for case, _text in result.failures] == ["test_it_wrongly"]


def test_one_that_is_forgotten_works_and_ends_with_its_program(tmp_path: Path) -> None:
    script = """
import countersign, ssl, sys, urllib.request
proxy = countersign.run("plain")
urllib.request.urlopen(proxy.url, context=ssl.create_default_context(cafile=proxy.ca)).close()
proxy.assert_accepted()
print(proxy.port)
raise SystemExit("over")
"""
    env = os.environ | {"TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (1, b"over\n")
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("localhost", int(done.stdout)), timeout=10)
    deadline = time.monotonic() + 60
    while list(tmp_path.iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.02)


async def test_the_async_twin_is_a_client_s_loop_alone() -> None:
    async with countersign.running("plain") as proxy:
        reader, writer = await asyncio.open_connection(proxy.host, proxy.port, ssl=context(proxy))
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        assert b"seen over" in await reader.read()
        writer.close()
        await writer.wait_closed()
        await asyncio.to_thread(proxy.settle)
        proxy.assert_accepted()
    assert not proxy.ca.exists()


def test_the_async_twin_that_is_cancelled_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    async def begin() -> None:
        async with countersign.running("plain"):
            pytest.fail("it was cancelled before")

    async def cancelled() -> None:
        task = asyncio.create_task(begin())
        await asyncio.sleep(0)  # now its thread begins
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    before = threading.active_count()
    asyncio.run(cancelled())
    assert list(tmp_path.iterdir()) == []
    assert threading.active_count() == before


def test_a_house_that_is_closed_takes_its_proxies_along() -> None:
    house = House()
    proxy = house.open("plain")
    get(proxy)
    house.close()
    house.close()
    proxy.assert_accepted()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((proxy.host, proxy.port), timeout=10)
    with pytest.raises(UserError, match="cannot start a proxy under plain: "):
        house.open("plain")


def in_a_fork(work: Any) -> str:
    """What the exception says that ``work`` ends with in a fork of this process."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # since Python 3.12, of threads
        child = os.fork()
    if child == 0:
        try:
            work()
            os.write(writing, b"it went well")
        except BaseException as error:  # noqa: BLE001 - it is told to the parent
            os.write(writing, str(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as pipe:
        return pipe.read()


def test_a_fork_can_be_a_client_and_is_told_where_the_rest_is(house: House) -> None:
    with house.open("plain") as proxy:
        assert in_a_fork(lambda: get(proxy)) == "it went well"
        proxy.assert_accepted()
        said = in_a_fork(lambda: proxy.recordings)
        assert said.startswith("cannot wait for the sessions: process ")
        assert f"the proxy runs in process {os.getpid()}" in said
        assert in_a_fork(proxy.close) == "it went well"
        assert in_a_fork(house.close) == "it went well"
        get(proxy)
        assert len(proxy.recordings) == 2
        assert proxy.ca.exists()


def test_what_is_spawned_is_told_what_to_take_along(house: House) -> None:
    with house.open("plain") as proxy, pytest.raises(TypeError, match="send what the client there needs"):
        pickle.dumps(proxy)


# -- what a start is spared ------------------------------------------------------------------------------------------


def test_what_only_a_program_is_given_is_made_when_one_is_run() -> None:
    with House() as own, own.open("plain") as proxy:
        folder = proxy.ca.parent
        assert {path.suffix for path in folder.iterdir()} == {".pem"}
        assert proxy.client_key.exists()
        assert {".pem", ".key", ".p12"} <= {path.suffix for path in folder.iterdir()}
        assert str(proxy.place.trust_store) in proxy.env["JAVA_TOOL_OPTIONS"]
    with House() as own:
        late = own.open("plain")
    with pytest.raises(UserError, match="its files are gone; take env, client_cert and client_key while it runs"):
        _ = late.env


def test_a_proxy_that_nobody_asks_about_revocation_loads_no_http_library() -> None:
    script = """
import sys
from countersign.scenarios.running.house import House
with House() as house, house.open("plain"):
    sys.exit("aiohttp" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], timeout=60, check=False)
    assert done.returncode == 0
