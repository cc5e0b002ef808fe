"""What ends a proxy, and how: in order, with every recording finished."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.cli.commands import countersign
from tests.peers.process import peer_env

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def started(
    home: Path, *before: str, terminal: int = subprocess.DEVNULL
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A proxy, perhaps behind another command, with its port."""
    home.mkdir(mode=0o700)
    ready = home / "ready.json"
    process = subprocess.Popen(
        [*before, sys.executable, "-m", "countersign", "proxy", "--listen", "127.0.0.1:0", "--target", "127.0.0.1:9",
         "--ready-file", str(ready)],
        stdin=terminal, stdout=terminal, stderr=terminal, env=peer_env({"COUNTERSIGN_HOME": str(home)}),
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not ready.exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield process, json.loads(ready.read_text())["port"]
    finally:
        process.kill()
        process.wait()


def assert_stops_in_order(home: Path, process: subprocess.Popen[bytes], session: socket.socket) -> None:
    """It is not ready any more, but lets the open session come to its own end."""
    deadline = time.monotonic() + 60
    while (home / "ready.json").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    session.close()
    assert process.wait(10) == 0
    (entry,) = countersign("ls", "--json").json()["recordings"]
    assert (entry["outcome"]["status"], entry["outcome"]["broken_by"]) == ("failed", "client")
    assert "in the middle of its ClientHello" in entry["outcome"]["text"]


def begin(port: int) -> socket.socket:
    """A session that is open when the signal comes."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    connection.sendall(b"\x16\x03\x01\x02\x00\x01")
    time.sleep(0.2)
    return connection


@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP"])
def test_a_signal_stops_it_in_order(home: Path, name: str) -> None:
    with started(home) as (process, port), begin(port) as session:
        process.send_signal(getattr(signal, name))
        assert_stops_in_order(home, process, session)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="setsid is Linux's")
def test_a_terminal_that_is_closed_stops_it_in_order(home: Path) -> None:
    """The kernel sends SIGHUP, and from then on the log cannot be written."""
    near, far = pty.openpty()
    with started(home, "setsid", "--ctty", terminal=far) as (process, port), begin(port) as session:
        os.close(far)
        os.close(near)
        assert_stops_in_order(home, process, session)


def test_under_nohup_it_goes_on(home: Path) -> None:
    with started(home, "nohup") as (process, port):
        with begin(port):
            process.send_signal(signal.SIGHUP)
            time.sleep(0.3)
            assert process.poll() is None
            with socket.create_connection(("127.0.0.1", port), timeout=10):
                pass
        process.terminate()
        assert process.wait(10) == 0
    assert len(countersign("ls", "--json").json()["recordings"]) == 2


_INTERRUPTED_AT = """
import os, signal, sys

class Interrupt:
    def find_spec(self, name, *_):
        if name == wanted:
            os.kill(os.getpid(), signal.SIGINT)

wanted = sys.argv.pop(1)
sys.meta_path.insert(0, Interrupt())
from countersign.__main__ import main
main()
"""


@pytest.mark.parametrize(
    ("module", "said"),
    [("countersign.cli.app", "countersign: interrupted\n"), ("typer", "countersign: interrupted\n"),
     ("countersign.cli.ls", "countersign: interrupted\n"), ("countersign.recorder.store", "")],
)  # fmt: skip
def test_a_program_that_is_interrupted_while_it_starts_says_no_more_than_that(
    home: Path, module: str, said: str
) -> None:
    words = [sys.executable, "-c", _INTERRUPTED_AT, module, "ls"]
    env = peer_env({"COUNTERSIGN_HOME": str(home)})
    done = subprocess.run(words, capture_output=True, env=env, timeout=60, text=True, check=False)
    assert (done.returncode, done.stderr.removeprefix("\n")) == (130, said)
