"""Standard input, output and error that are closed, full, or whose other end has gone."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.cli.commands import countersign
from tests.cli.test_commands import assert_is_one_line
from tests.peers.process import peer_env

if TYPE_CHECKING:
    from pathlib import Path

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the disk that is always full is Linux's")

PRINTING = [
    "--version",
    "--help",
    "ls",
    "ls --json",
    "show last",
    "show last --json",
    "ca root",
    "export last --format text",
    "export last --format pcapng --out -",
    "prune --older 30d",
]


def shell(command: str, home: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """``countersign`` in a shell's command line stands for ours."""
    function = f'countersign() {{ {sys.executable} -m countersign "$@"; }}\n'
    return subprocess.run(
        ["bash", "-c", function + command],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=60, check=False,
        env=peer_env({"COUNTERSIGN_HOME": str(home), **env}),
    )  # fmt: skip


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a CA and two recordings."""
    home = tmp_path_factory.mktemp("kept") / "home"
    done = shell("countersign demo --keep && countersign ca init", home)
    assert done.returncode == 0, done.stderr
    return home


@linux
@pytest.mark.parametrize("command", PRINTING)
def test_output_that_finds_no_room_is_one_line_and_a_fault_of_the_machine(kept: Path, command: str) -> None:
    done = shell(f"countersign {command} >/dev/full", kept)
    assert done.returncode == 3
    assert_is_one_line(done.stderr, "cannot write to standard output", "no space left")


@pytest.mark.parametrize("command", PRINTING)
def test_output_that_is_closed_is_one_line_and_a_fault_of_the_machine(kept: Path, command: str) -> None:
    done = shell(f"countersign {command} >&-", kept)
    assert done.returncode == 3
    assert_is_one_line(done.stderr, "cannot write to standard output", "closed")


@pytest.mark.parametrize("command", PRINTING)
def test_a_reader_that_has_gone_ends_the_command_as_it_ends_grep(kept: Path, command: str) -> None:
    gone = "exec 3> >(exit 0); wait $!; countersign"
    done = shell(f"{gone} {command} >&3", kept)
    assert (done.returncode, done.stderr) == (141, "")
    assert shell("exec 3> >(exit 0); wait $!; grep root /etc/passwd >&3", kept).returncode == 141


def test_reading_is_cut_short_without_complaint(kept: Path) -> None:
    done = shell("set -o pipefail; for i in 1 2 3; do countersign show last --json; done | head -n 1", kept)
    assert (done.returncode, done.stdout, done.stderr) == (141, "{\n", "")


@linux
@pytest.mark.parametrize("stderr", ["2>/dev/full", "2>&-"])
def test_what_cannot_be_said_changes_no_exit_code(kept: Path, tmp_path: Path, stderr: str) -> None:
    assert shell(f"countersign ls {stderr}", tmp_path / "empty").returncode == 0  # says "no recordings"
    assert shell(f"countersign show nobody {stderr}", kept).returncode == 2
    assert shell(f"countersign nonsense {stderr}", kept).returncode == 2
    assert shell(f"countersign ls >/dev/full {stderr}", kept).returncode == 3
    assert shell(f"countersign ls --json {stderr}", kept).stdout.startswith("{")
    assert shell(f"countersign demo {stderr}", kept).returncode == 0


def test_all_three_closed_is_no_trouble(kept: Path) -> None:
    assert shell("countersign prune --older 30d <&- >&- 2>&-", kept).returncode == 3
    assert shell("countersign export last --out /dev/null/nowhere <&- >&- 2>&-", kept).returncode == 3


@pytest.mark.parametrize("command", ["import -", "import x --keylog -"])
def test_input_that_is_closed_is_one_line(kept: Path, command: str) -> None:
    done = shell(f"countersign {command} <&-", kept)
    assert done.returncode == 2
    assert_is_one_line(done.stderr, "cannot", "Bad file descriptor")


def test_a_pipe_that_somebody_made_non_blocking_gets_all_of_it(kept: Path) -> None:
    far, near = os.pipe()
    os.set_blocking(near, False)
    process = subprocess.Popen(
        [sys.executable, "-m", "countersign", "export", "last", "last~1", "--format", "jsonl"],
        stdout=near, stderr=subprocess.PIPE, env=peer_env({"COUNTERSIGN_HOME": str(kept)}),
    )  # fmt: skip
    os.close(near)
    with os.fdopen(far, "rb") as pipe:
        data = pipe.read()
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, b"")
    assert [json.loads(line)["schema"] for line in data.splitlines()] == [1, 1]


def test_a_terminal_without_unicode_gets_a_ladder_of_ascii(kept: Path) -> None:
    for command in ("show last", "ls"):
        done = shell(f"COLUMNS=70 countersign {command}", kept, PYTHONIOENCODING="ascii")
        assert done.returncode == 0, done.stderr
        assert done.stdout.isascii()
        assert r"\u" not in done.stdout
        assert r"\U" not in done.stdout


@pytest.mark.parametrize("command", ["show", "ls"])
def test_colours_are_for_terminals_and_for_those_who_want_them(kept: Path, command: str) -> None:
    def on_a_terminal(**env: str) -> bytes:
        near, far = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "countersign", command], stdin=far, stdout=far, stderr=far,
            env=peer_env({"COUNTERSIGN_HOME": str(kept), "TERM": "xterm", **env}),
        )  # fmt: skip
        os.close(far)
        data = b""
        try:
            while more := os.read(near, 65536):
                data += more
        except OSError:  # that is how Linux says that the other side has closed
            pass
        os.close(near)
        assert process.wait(30) == 0
        return data

    assert b"\x1b[" in on_a_terminal()
    assert b"\x1b[" not in on_a_terminal(NO_COLOR="1")
    assert "\x1b[" not in countersign(command, "--home", kept).out
