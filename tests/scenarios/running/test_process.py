"""A client is run to its end, whatever it does."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from pathlib import Path

import pytest

from countersign.errors import EnvironmentFault, UserError
from countersign.scenarios.running.process import KEPT, run_client

ENV = dict(os.environ)


def alive(pid: int) -> bool:
    """Whether it runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except OSError:
        return False


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 30
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not alive(pid)


async def test_what_a_client_says_and_its_exit_code_are_told_apart() -> None:
    ran = await run_client(["sh", "-c", "echo out; echo err >&2; exit 3"], env=ENV, timeout=10)
    assert (ran.output, ran.errors, ran.code, ran.signal) == ("out\n", "err\n", 3, None)
    assert not ran.well
    assert not ran.crashed
    assert not ran.timed_out


async def test_what_it_is_to_read_reaches_it_and_ends() -> None:
    ran = await run_client(["cat"], env=ENV, timeout=10, stdin=b"GET /")
    assert (ran.output, ran.well) == ("GET /", True)


async def test_without_input_it_reads_an_end_and_does_not_wait() -> None:
    assert (await run_client(["cat"], env=ENV, timeout=10)).well


async def test_it_gets_this_environment_and_no_other() -> None:
    ran = await run_client(["env"], env={"PATH": os.environ["PATH"], "COLOUR": "green"}, timeout=10)
    names = {line.partition("=")[0] for line in ran.output.splitlines()}
    assert "COLOUR=green" in ran.output
    assert names <= {"PATH", "COLOUR", "COUNTERSIGN_RUN", "PWD", "SHLVL", "_"}


async def test_a_client_that_never_ends_is_killed_with_its_children(tmp_path: Path) -> None:
    script = "sleep 600 & echo $! >> pids; setsid sleep 600 & echo $! >> pids; echo $$ >> pids; exec sleep 600"
    ran = await run_client(["sh", "-c", f"cd {tmp_path}; {script}"], env=ENV, timeout=0.5)
    assert ran.timed_out
    assert not ran.well
    assert not ran.crashed, "it was we who ended it"
    assert 0.5 <= ran.seconds < 5
    pids = [int(line) for line in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 3
    assert all(map(gone, pids)), [pid for pid in pids if alive(pid)]


async def test_a_client_that_ignores_every_polite_signal_is_killed() -> None:
    ran = await run_client(["sh", "-c", "trap '' TERM INT HUP; while :; do sleep 0.05; done"], env=ENV, timeout=0.3)
    assert (ran.timed_out, ran.signal) == (True, "SIGKILL")


async def test_what_a_client_leaves_in_the_background_is_ended_and_not_waited_for(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    ran = await run_client(["sh", "-c", f"sleep 600 & echo $! > {pid_file}; echo done"], env=ENV, timeout=30)
    assert (ran.code, ran.output) == (0, "done\n")
    assert ran.seconds < 5
    assert gone(int(pid_file.read_text()))


async def test_one_that_left_its_group_and_holds_the_output_is_ended_too(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    ran = await run_client(["sh", "-c", f"setsid sleep 600 & echo $! > {pid_file}"], env=ENV, timeout=30)
    assert ran.code == 0
    assert gone(int(pid_file.read_text()))


async def test_a_crash_has_the_name_of_its_signal() -> None:
    ran = await run_client(["sh", "-c", "kill -SEGV $$"], env=ENV, timeout=10)
    assert (ran.signal, ran.crashed, ran.code) == ("SIGSEGV", True, None)


async def test_a_filter_whose_reader_has_gone_has_not_crashed() -> None:
    ran = await run_client(["sh", "-c", "kill -PIPE $$"], env=ENV, timeout=10)
    assert (ran.signal, ran.crashed) == ("SIGPIPE", False)


async def test_of_a_flood_the_beginning_and_the_end_are_kept() -> None:
    script = f"import sys; sys.stdout.write('first' + 'x' * {8 * KEPT} + 'last')"
    ran = await run_client([sys.executable, "-c", script], env=ENV, timeout=30)
    assert ran.output.startswith("first")
    assert ran.output.endswith("last")
    assert len(ran.output) < 2 * KEPT + 100
    assert f"... {6 * KEPT + 9} bytes are left out here ..." in ran.output


async def test_bytes_that_are_no_text_are_shown_by_their_numbers() -> None:
    ran = await run_client(["printf", r"a\377b"], env=ENV, timeout=10)
    assert ran.output == r"a\xffb"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["no-such-client-here"], "no program of that name is on the PATH"),
        (["/no/such/client"], "there is no such file"),
        (["/etc/passwd"], "it is not executable"),
    ],
)
async def test_a_client_that_cannot_be_had_is_a_mistake_of_the_user(argv: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        await run_client(argv, env=ENV, timeout=10)
    assert argv[0] in str(caught.value)


async def test_a_script_whose_interpreter_is_missing_is_not_said_to_be_missing_itself(tmp_path: Path) -> None:
    script = tmp_path / "client"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    with pytest.raises(UserError, match="interpreter that its first line names"):
        await run_client([str(script)], env=ENV, timeout=10)


async def test_what_cannot_be_executed_at_all_is_the_environments_fault(tmp_path: Path) -> None:
    program = tmp_path / "client"
    program.write_bytes(b"\x7fELF nonsense")
    program.chmod(0o755)
    with pytest.raises(EnvironmentFault, match="cannot run"):
        await run_client([str(program)], env=ENV, timeout=10)


@pytest.mark.parametrize("before", [[], ["env", "-i"]], ids=["", "with its environment thrown away"])
async def test_who_is_cancelled_leaves_no_client_behind(tmp_path: Path, before: list[str]) -> None:
    pid_file = tmp_path / "pid"
    script = f"echo $$ > {pid_file}; exec /bin/sleep 600"
    task = asyncio.create_task(run_client([*before, "/bin/sh", "-c", script], env=ENV, timeout=60))
    while not (pid_file.exists() and pid_file.read_text().strip()):  # noqa: ASYNC110 - another process writes it
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert gone(int(pid_file.read_text()))


async def test_many_run_at_the_same_time() -> None:
    runs = await asyncio.gather(*(run_client(["sh", "-c", f"exit {n}"], env=ENV, timeout=30) for n in range(40)))
    assert [ran.code for ran in runs] == list(range(40))


def descriptors() -> set[int]:
    """Those that are open in this process."""
    found = set()
    for number in range(1024):
        with contextlib.suppress(OSError):
            os.fstat(number)
            found.add(number)
    return found


@pytest.mark.parametrize("steps", range(6))
async def test_a_run_that_is_given_up_at_any_step_leaves_no_descriptor_open(steps: int) -> None:
    before = descriptors()
    running = asyncio.ensure_future(run_client(["sleep", "60"], env=ENV, timeout=30))
    for _ in range(steps):
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await asyncio.sleep(0.05)  # transports close in their turn
    assert descriptors() - before == set()
