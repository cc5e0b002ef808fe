"""The log: no line of it costs a connection, and what could not be written is counted and said."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from countersign.cli.log import LogSink, logs
from tests.cli.commands import countersign
from tests.peers.process import peer_env
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def say_lost(lost: int) -> str:
    return f"{lost} lost"


def missing(lines: list[str]) -> int:
    return sum(int(line.split()[0]) for line in lines if line.endswith(" lost"))


class Pipe:
    """``near`` is written to; the reader reads when it likes, and may go."""

    def __init__(self) -> None:
        self.far, self.near = os.pipe()
        self._begun = b""
        fcntl.fcntl(self.near, fcntl.F_SETPIPE_SZ, 4096)

    def read(self, lines: int) -> list[str]:
        """At least so many lines."""
        data = self._begun
        while data.count(b"\n") < lines:
            data += os.read(self.far, 65536)
        whole, end, self._begun = data.rpartition(b"\n")
        return (whole + end).decode().splitlines()

    def hang_up(self) -> None:
        os.close(self.far)
        self.far = -1

    def close(self) -> None:
        for descriptor in {self.far, self.near} - {-1}:
            os.close(descriptor)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


# -- the sink ----------------------------------------------------------------------------------------------------


def test_lines_come_in_their_order(pipe: Pipe) -> None:
    sink = LogSink(pipe.near, say_lost=say_lost)
    for number in range(100):
        sink.put(f"line {number}")
    assert pipe.read(100) == [f"line {number}" for number in range(100)]
    sink.close()


def test_a_stuck_reader_holds_nobody_up_and_what_it_missed_is_counted(pipe: Pipe) -> None:
    sink = LogSink(pipe.near, say_lost=say_lost, most=10_000)
    began = time.monotonic()
    for number in range(10_000):
        sink.put(f"line {number:95}")
    assert time.monotonic() - began < 5  # the first write of a blocked sink would never return
    lines = pipe.read(2)
    assert lines[0].endswith(" 0")
    while len(lines) + missing(lines) < 10_000 or not lines[-1].endswith(" lost"):
        lines += pipe.read(1)
    sink.put("after")
    assert pipe.read(1) == ["after"]
    sink.close()
    kept = [int(line.split()[1]) for line in lines if line.startswith("line ")]
    assert len(kept) + missing(lines) == 10_000
    assert kept == sorted(kept)


def test_a_line_that_a_full_disk_cut_is_continued_where_it_was_cut(tmp_path: Path) -> None:
    """The disk is a file size limit, which a write meets in the midst of its bytes as it meets a full disk."""
    path = tmp_path / "log"
    script = (
        "import os, resource, signal, sys, time\n"
        "from pathlib import Path\n"
        "from countersign.cli.log import LogSink\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))\n"
        "log = Path(sys.argv[1])\n"
        "sink = LogSink(os.open(log, os.O_WRONLY | os.O_CREAT, 0o600), say_lost=lambda n: f'{n} lost', most=5000)\n"
        "for number in range(150): sink.put(f'line {number:94}')\n"
        "while log.stat().st_size < 1000: time.sleep(0.01)\n"
        "for number in range(150, 300): sink.put(f'line {number:94}')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))\n"
        "while b' lost' not in log.read_bytes(): time.sleep(0.01)\n"
        "sink.put('after'); sink.close()\n"
    )
    subprocess.run([sys.executable, "-c", script, path], check=True, timeout=30, env=peer_env())
    lines = path.read_text().splitlines()
    assert lines[-1] == "after"
    numbers = [int(line.split()[1]) for line in lines if line.startswith("line ")]
    assert all(len(line) == 99 for line in lines if line.startswith("line "))
    assert len(numbers) + missing(lines) == 300
    assert numbers == sorted(set(numbers))


def test_a_reader_that_went_and_a_descriptor_that_is_closed_are_nobodys_trouble(pipe: Pipe) -> None:
    pipe.hang_up()
    with pytest.raises(BrokenPipeError):
        os.write(pipe.near, b"x")
    for descriptor, error in ((pipe.near, errno.EPIPE), (1_000_000, errno.EBADF)):
        sink = LogSink(descriptor, say_lost=say_lost, most=1000)
        for _ in range(1000):
            sink.put("nobody reads this")
        began = time.monotonic()
        sink.close()
        assert time.monotonic() - began < 0.9, errno.errorcode[error]  # there is nothing to wait for


def test_a_reader_that_comes_back_gets_what_was_kept_and_how_much_was_not(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo, 0o600)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(fifo, os.O_WRONLY)
    sink = LogSink(writer, say_lost=say_lost, most=100)
    os.close(reader)
    sink.put("kept 1")
    until(lambda: sink._waiting == 0)  # it is being written
    for _ in range(10):
        sink.put("kept 2 or lost".ljust(49))
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reader, True)
    got = b""
    while b"lost\n" not in got:
        got += os.read(reader, 65536)
    sink.close()
    os.close(reader)
    os.close(writer)
    assert [line.strip() for line in got.decode().splitlines()] == ["kept 1", *["kept 2 or lost"] * 2, "8 lost"]


def test_a_pipe_that_somebody_made_non_blocking_loses_nothing(pipe: Pipe) -> None:
    os.set_blocking(pipe.near, False)
    sink = LogSink(pipe.near, say_lost=say_lost)
    for number in range(1000):
        sink.put(f"line {number:95}")
    assert [int(line.split()[1]) for line in pipe.read(1000)] == list(range(1000))
    sink.close()


def test_closing_writes_what_waits_and_waits_for_nobody_who_is_stuck(pipe: Pipe) -> None:
    sink = LogSink(pipe.near, say_lost=say_lost)
    sink.put("last words")
    sink.close()
    assert pipe.read(1) == ["last words"]
    stuck = LogSink(pipe.near, say_lost=say_lost)
    stuck.put("x" * 100_000)
    began = time.monotonic()
    stuck.close(0.3)
    assert 0.2 < time.monotonic() - began < 5
    stuck.put("too late")
    while stuck._thread.is_alive():  # so that the pipe is nobody's when it is closed
        os.read(pipe.far, 65536)
        stuck._thread.join(0.01)


def test_what_is_no_text_is_written_all_the_same(pipe: Pipe) -> None:
    sink = LogSink(pipe.near, say_lost=say_lost)
    sink.put("lone \udcff surrogate")
    assert pipe.read(1) == ["lone \\udcff surrogate"]
    sink.close()


def test_a_finaliser_that_logs_in_the_midst_of_a_put_stops_nothing(pipe: Pipe) -> None:
    """It runs in the same thread, wherever an object happens to die."""
    sink = LogSink(pipe.near, say_lost=say_lost)

    class Line(str):
        __slots__ = ()

        def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
            with sink._wake:  # as if it died while the lock was held
                sink.put("from the finaliser")
            return super().encode(encoding, errors)

    done = threading.Thread(target=sink.put, args=(Line("the line"),), daemon=True)
    done.start()
    done.join(5)
    assert not done.is_alive()
    assert sorted(pipe.read(2)) == ["from the finaliser", "the line"]
    sink.close()


# -- what goes through it ----------------------------------------------------------------------------------------


def logged(work: Callable[[], object], **options: Any) -> list[dict[str, Any]]:
    """The lines that are logged while this runs."""
    pipe = Pipe()
    fcntl.fcntl(pipe.near, fcntl.F_SETPIPE_SZ, 1 << 20)
    try:
        with logs(descriptor=pipe.near, **options):
            work()
        os.close(pipe.near)
        pipe.near = -1
        data = b""
        while more := os.read(pipe.far, 1 << 20):
            data += more
    finally:
        pipe.close()
    return [json.loads(line) for line in data.splitlines()]


def test_structlog_the_standard_library_and_warnings_go_the_same_way() -> None:
    def work() -> None:
        structlog.get_logger("ours").info("hello", what="\x1b[2J")
        logging.getLogger("asyncio").error("%s happened", "it")
        logging.getLogger("some.library").warning("%d too %d", *[1])  # its arguments do not fit
        logging.getLogger("some.library").log(35, "a level of its own")
        logging.getLogger("some.library").info("chatter")
        warnings.warn("beware", ResourceWarning, stacklevel=1)

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        lines = logged(work)
    assert [(line["level"], line["event"].split(":")[-1].strip()) for line in lines[:4]] == [
        ("info", "hello"),
        ("error", "it happened"),
        ("warning", "%d too %d"),
        ("warning", "a level of its own"),
    ]
    assert lines[0]["what"] == r"\x1b[2J"
    assert "ResourceWarning" in lines[4]["event"]
    assert lines[4]["logger"] == "py.warnings"


def test_an_exception_in_a_callback_of_the_loop_is_logged_with_its_traceback() -> None:
    async def fail() -> None:
        asyncio.get_running_loop().call_soon(lambda: 1 / 0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    (line,) = logged(lambda: asyncio.run(fail()))
    assert line["event"].startswith("Exception in callback")
    assert "ZeroDivisionError" in line["exception"]


def test_an_exception_that_nobody_can_catch_is_logged() -> None:
    class Dying:
        def __del__(self) -> None:
            raise ValueError("in a finaliser")

    (line,) = logged(lambda: Dying() and None)
    assert "ValueError: in a finaliser" in line["exception"]


def test_only_errors_are_logged_where_only_errors_are_wanted() -> None:
    def work() -> None:
        log = structlog.get_logger()
        log.warning("no")
        log.error("yes")

    assert [line["event"] for line in logged(work, only_errors=True)] == ["yes"]


def test_all_is_as_it_was_when_logging_is_over() -> None:
    before = structlog.get_config(), logging.getLogger().handlers[:], sys.unraisablehook, warnings.showwarning
    logged(lambda: None)
    assert (structlog.get_config(), logging.getLogger().handlers, sys.unraisablehook, warnings.showwarning) == before


def test_the_line_that_says_how_many_are_missing_is_json_like_the_others(pipe: Pipe) -> None:
    with logs(descriptor=pipe.near):
        log = structlog.get_logger()
        for number in range(12_000):
            log.info("a line of some length, as they all are", number=number)
        lines: list[dict[str, Any]] = []
        while not lines or "lost" not in lines[-1]:
            lines += map(json.loads, pipe.read(1))
    assert lines[-1]["level"] == "warning"
    assert lines[-1]["lost"] + len(lines) - 1 == 12_000


# -- the proxy ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def proxy(home: Path, stderr: int) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """``countersign proxy`` with this as its standard error, and its port."""
    home.mkdir(mode=0o700)
    ready = home / "ready.json"
    process = subprocess.Popen(
        [sys.executable, "-m", "countersign", "proxy", "--listen", "127.0.0.1:0", "--target", "127.0.0.1:9",
         "--ready-file", ready],
        stderr=stderr, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        env=peer_env({"COUNTERSIGN_HOME": str(home)}),
    )  # fmt: skip
    try:
        until(lambda: ready.exists() or process.poll() is not None)
        assert process.poll() is None
        yield process, json.loads(ready.read_text())["port"]
    finally:
        process.kill()
        process.wait()


def visit(port: int) -> None:
    """A session that is over at once, and makes a log line."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"\x16\x03\x01\x00\x01\x00")
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(4096):
            pass


def recorded() -> int:
    return len(countersign("ls", "--json", "--limit", "1000").json()["recordings"])


def test_a_proxy_outlives_the_reader_of_its_log_and_records_on(home: Path, pipe: Pipe) -> None:
    with proxy(home, pipe.near) as (process, port):
        visit(port)
        pipe.read(2)
        pipe.hang_up()
        for _ in range(5):
            visit(port)
        process.terminate()
        assert process.wait(10) == 0
    assert recorded() == 6


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the disk that is always full is Linux's")
def test_a_proxy_whose_log_has_no_room_records_on(home: Path) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        with proxy(home, full) as (process, port):
            for _ in range(5):
                visit(port)
            process.terminate()
            assert process.wait(10) == 0
    finally:
        os.close(full)
    assert recorded() == 5


def test_a_proxy_whose_log_nobody_reads_serves_on(home: Path, pipe: Pipe) -> None:
    """A pipe of 4 KiB with a reader that is stuck."""
    with proxy(home, pipe.near) as (process, port):
        for _ in range(40):
            visit(port)
        until(lambda: recorded() == 40)
        process.terminate()
        assert process.wait(10) == 0


def test_a_proxy_without_standard_error_serves_and_no_client_gets_the_log(home: Path) -> None:
    """Descriptor 2 is closed at the start; the next file that is opened would get its number."""
    command = (
        f"exec {sys.executable} -m countersign proxy --listen 127.0.0.1:0 --target 127.0.0.1:9"
        f" --ready-file {home}/ready.json 2>&- <&- >&-"
    )
    home.mkdir(mode=0o700)
    ready = home / "ready.json"
    process = subprocess.Popen(["sh", "-c", command], env=peer_env({"COUNTERSIGN_HOME": str(home)}))
    try:
        until(lambda: ready.exists() or process.poll() is not None)
        port = json.loads(ready.read_text())["port"]
        for _ in range(3):
            visit(port)
        for number in (0, 1, 2):
            assert str(Path(f"/proc/{process.pid}/fd/{number}").readlink()) == "/dev/null"
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
    assert recorded() == 3
