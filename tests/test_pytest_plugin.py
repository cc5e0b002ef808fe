"""The pytest plugin as its users have it: found by its entry point, in a pytest of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

CLIENT = """
    import ssl, urllib.request
    import pytest

    def get(proxy):
        with urllib.request.urlopen(
            proxy.url, context=ssl.create_default_context(cafile=proxy.ca), timeout=10
        ) as answer:
            return answer.read()
"""
QUIET = ("-p", "no:randomly", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", "--strict-markers", "-W", "error")


def module(pytester: pytest.Pytester, text: str, *, ini: str = "", mode: str = "auto") -> None:
    pytester.makepyfile(CLIENT + text)
    pytester.makeini(f"[pytest]\nasyncio_mode = {mode}\nasyncio_default_fixture_loop_scope = function\n{ini}")


def test_the_plugin_is_found_by_its_entry_point() -> None:
    (found,) = [each for each in entry_points(group="pytest11") if each.name == "countersign"]
    assert found.value == "countersign.pytest_plugin"


def test_the_plugin_imports_nothing_before_the_fixture_is_used() -> None:
    script = (
        "import sys, countersign.pytest_plugin, json; heavy = ('countersign', 'OpenSSL', 'cryptography', 'asyncio');"
        "print(json.dumps([name for name in sys.modules if name.startswith(heavy)]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60, check=True)
    assert json.loads(done.stdout) == ["countersign", "countersign.pytest_plugin"]


def test_tests_under_scenarios_pass_fail_and_err(pytester: pytest.Pytester) -> None:
    module(
        pytester,
        """
    @pytest.mark.tls_scenario("missing-intermediate")
    def test_refuses(countersign):
        with countersign.attempt():
            get(countersign)
        countersign.assert_refused()
        countersign.assert_alert("unknown_ca")

    def test_opens_two_and_forgets_to_stop_them(countersign, tls_scenario):
        assert tls_scenario is None
        first, second = countersign.scenario("plain"), countersign.scenario("plain", mode="connect")
        get(first)
        first.assert_accepted()
        assert countersign.proxy is second
        second.assert_no_connection()

    @pytest.mark.tls_scenario("plain")
    def test_wrong(countersign):
        get(countersign)
        countersign.assert_refused()

    @pytest.mark.tls_scenario("plain")
    def test_nobody_came(countersign):
        pass

    @pytest.mark.tls_scenario("rotation-root")
    def test_half_of_it(countersign):
        get(countersign)
        countersign.assert_accepted()

    @pytest.mark.tls_scenario("plane")
    def test_misspelt(countersign):
        pass

    @pytest.mark.tls_scenario("connect-407-for-ever")
    def test_wrong_way(countersign):
        pass

    def test_no_scenario(countersign):
        countersign.url

    @pytest.mark.tls_scenario("plain")
    async def test_in_a_loop(countersign):
        import asyncio
        assert b"seen over" in await asyncio.to_thread(get, countersign)
        countersign.assert_accepted()
        assert asyncio.get_running_loop().is_running()

    @pytest.mark.tls_scenario("own-scenario", tls="1.2")
    def test_a_scenario_of_its_own(countersign):
        get(countersign)
        countersign.assert_accepted()
    """,
        ini="countersign_scenarios = scenarios",
    )
    scenarios = pytester.mkdir("scenarios")
    (scenarios / "own-scenario.toml").write_text('extends = "plain"\ntitle = "Ours"\n')
    done = pytester.runpytest_subprocess(*QUIET, timeout=100)
    done.assert_outcomes(passed=6, failed=2, errors=4)
    done.stdout.fnmatch_lines_random(
        [
            "*ERROR at teardown of test_nobody_came*",
            "nothing was tested under plain: no client came to https://localhost:*",
            "*ERROR at teardown of test_half_of_it*",
            "nothing was tested: what rotation-root orders never was on the wire: step 2 was never reached*",
            "*ERROR at setup of test_misspelt*",
            "there is no scenario 'plane'; did you mean plain?*",
            "connect-407-for-ever cannot be put to a client that goes straight: *use mode='connect'",
            "*UserError: no proxy is open: mark the test with @pytest.mark.tls_scenario(ID)*",
            "E*AssertionError: expected the client to refuse plain (Nothing is wrong); it accepted as it should",
            "* countersign: plain *",
            "*│◄════════════╡             │  🔒 certificate  *",
        ]
    )
    assert "trial.py" not in done.stdout.str()  # a failing assertion is shown where the test makes it


def test_a_selection_becomes_tests_for_all_workers_alike(pytester: pytest.Pytester) -> None:
    module(
        pytester,
        """
    @pytest.mark.tls_scenarios("missing-*intermediate or connect-403 or wildcard")
    def test_does_what_is_right(countersign, tls_scenario):
        with countersign.attempt():
            get(countersign)
        countersign.assert_right()
        assert countersign.proxy.scenario.id == tls_scenario

    @pytest.mark.tls_scenario("plain", "root-sent")
    def test_accepts(countersign):
        get(countersign)
        countersign.assert_accepted()
    """,
    )
    done = pytester.runpytest_subprocess(*QUIET, "-v", "-rs", "-n", "2", timeout=100)
    done.assert_outcomes(passed=4, skipped=2)
    done.stdout.fnmatch_lines_random(
        [
            "*PASSED*test_does_what_is_right*missing-intermediate*",
            "*PASSED*test_does_what_is_right*missing-upper-intermediate*",
            "*PASSED*test_accepts*root-sent*",
            "*SKIPPED*connect-403 cannot be put to a client that goes straight*",
            "*SKIPPED*wildcard cannot be put to a client that goes straight*",
        ]
    )


@pytest.mark.parametrize(
    ("marked", "sentence"),
    [
        ('tls_scenarios("family:chian")\ndef test_it(countersign)', "*no family 'chian'; did you mean chain*"),
        ('tls_scenarios("nothing-like-it")\ndef test_it(countersign)', "*'nothing-like-it' fits no scenario*"),
        ('tls_scenario("plain")\ndef test_it()', "*does not use the fixture countersign*"),
        ('tls_scenario("plain", mod="connect")\ndef test_it(countersign)', "*no keyword 'mod'; did you mean mode*"),
        ("tls_scenario()\ndef test_it(countersign)", "*takes ids of scenarios, got ()*"),
    ],
)
def test_a_wrong_marker_is_said_when_tests_are_collected(pytester: pytest.Pytester, marked: str, sentence: str) -> None:
    pytester.makepyfile(f"import pytest\n@pytest.mark.{marked}: pass\n")
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    done = pytester.inline_run("--collect-only", "-p", "no:randomly", "-p", "no:cacheprovider")
    (report,) = [each for each in done.getreports("pytest_collectreport") if each.failed]
    pytest.LineMatcher([str(report.longrepr)]).fnmatch_lines([sentence])


def test_tests_of_anyio_run_under_scenarios(pytester: pytest.Pytester) -> None:
    module(
        pytester,
        """
    import anyio

    @pytest.fixture
    def anyio_backend():
        return "asyncio"

    @pytest.mark.anyio
    @pytest.mark.tls_scenario("missing-intermediate")
    async def test_refuses(countersign):
        with countersign.attempt():
            await anyio.to_thread.run_sync(get, countersign)
        countersign.assert_refused()
    """,
        mode="strict",
    )
    pytester.runpytest_subprocess(*QUIET, timeout=60).assert_outcomes(passed=1)


# -- the end of pytest --------------------------------------------------------------------------------------------

LONG = """
    import os, pathlib

    @pytest.mark.tls_scenario("plain")
    def test_that_is_in_its_midst(countersign):
        get(countersign)
        told = pathlib.Path("told.tmp")
        told.write_text(f"{countersign.ca.parent.parent} {countersign.port}")
        told.rename("told")
        countersign.run("sleep", "321", timeout=100)
"""


def sleepers(mark: str) -> Iterator[int]:
    """Processes that were started under this test's mark."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environ, command = (process / "environ").read_bytes(), (process / "cmdline").read_bytes()
        except OSError:
            continue
        if mark.encode() in environ and command == b"sleep\0" + b"321\0":
            yield int(process.name)


def wait_until(condition: object, seconds: float = 60) -> None:
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


CRASH = """
    import os, pathlib, threading, time

    @pytest.mark.tls_scenario("plain")
    def test_that_crashes(countersign):
        threading.Thread(target=countersign.run, args=("sleep", "321"), kwargs={"timeout": 100}, daemon=True).start()
        told = pathlib.Path("told.tmp")
        told.write_text(str(countersign.ca.parent.parent))
        told.rename("told")
        while not pathlib.Path("crash").exists():
            time.sleep(0.01)
        os.abort()

    def test_that_comes_after_it():
        pass
"""


@pytest.mark.parametrize("workers", ["0", pytest.param("1", marks=pytest.mark.long)], ids=["alone", "worker"])
def test_nothing_is_left_of_a_test_that_crashes(pytester: pytest.Pytester, workers: str) -> None:
    """xdist takes another worker for what is left; pytest alone is gone."""
    module(pytester, CRASH)
    mark = f"OUR_MARK={pytester.path}"
    name, _, value = mark.partition("=")
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", *QUIET, "-p", "no:faulthandler", "-n", workers],
        env=os.environ | {name: value}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        told = pytester.path / "told"
        wait_until(lambda: told.exists() and list(sleepers(mark)))
        folder = Path(told.read_text())
        assert folder.exists()
        (pytester.path / "crash").touch()
        said, _ = process.communicate(timeout=90)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == (1 if workers == "1" else -signal.SIGABRT)
    assert workers == "0" or "1 failed, 1 passed" in said
    wait_until(lambda: not list(sleepers(mark)) and not folder.exists())


@pytest.mark.parametrize("workers", ["0", pytest.param("1", marks=pytest.mark.long)], ids=["alone", "worker"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "killed"])
def test_nothing_is_left_when_pytest_ends_early(
    pytester: pytest.Pytester, number: signal.Signals, workers: str
) -> None:
    module(pytester, LONG)
    mark = f"OUR_MARK={pytester.path}"
    name, _, value = mark.partition("=")
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", *QUIET, "-n", workers],
        env=os.environ | {name: value},
        stdout=subprocess.DEVNULL,
    )
    try:
        told = pytester.path / "told"
        wait_until(lambda: told.exists() and list(sleepers(mark)))
        folder = Path(told.read_text().split()[0])
        assert folder.exists()
        process.send_signal(number)
        code = process.wait(60)
    finally:
        process.kill()
        process.wait()
    assert code == (2 if number is signal.SIGINT else -signal.SIGKILL)
    wait_until(lambda: not list(sleepers(mark)) and not folder.exists())
