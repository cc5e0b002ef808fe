"""Several processes on one address: everything is recorded, sessions are resumed, and who dies is replaced."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from countersign.recorder.recording import Status, to_json
from countersign.recorder.store import Store
from tests.peers.process import peer_env
from tests.proxy.wire import Target, client_context, echo, server_context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from countersign.recorder.recording import Recording
    from tests.peers.certs import Lab

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="sockets that share an address are dealt out on Linux")


class Group:
    """``countersign proxy --workers`` in front of an echo server."""

    def __init__(self, process: subprocess.Popen[bytes], home: Path, log: Path, port: int) -> None:
        self.process = process
        self.home = home
        self._log = log
        self.port = port
        self.rules = home
        self.context = client_context((home / "ca" / "root.pem").read_text())

    def lines(self, event: str) -> list[dict[str, Any]]:
        """What was logged of this event so far."""
        found = [json.loads(line) for line in self._log.read_text().splitlines() if line.startswith("{")]
        return [line for line in found if line["event"] == event]

    def until(self, what: Callable[[], bool], timeout: float = 40) -> None:
        deadline = time.monotonic() + timeout
        while not what():
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.02)

    def visit(self, session: ssl.SSLSession | None = None) -> ssl.SSLSession | None:
        with (
            socket.create_connection(("127.0.0.1", self.port), 10) as connection,
            self.context.wrap_socket(connection, server_hostname="localhost", session=session) as tls,
        ):
            tls.sendall(b"good morning\n")
            assert tls.recv(100) == b"good morning\n"
            return tls.session

    def said(self, event: str, count: int) -> bool:
        """Whether this was logged as often."""
        return len(self.lines(event)) >= count

    @contextmanager
    def session_lines(self, count: int) -> Iterator[list[dict[str, Any]]]:
        """The log's lines of the sessions in the block, once there are so many of them."""
        before = len(self.lines("session"))
        lines: list[dict[str, Any]] = []
        yield lines
        self.until(lambda: len(self.lines("session")) >= before + count)
        lines += self.lines("session")[before:]

    def stored(self, lines: Iterable[dict[str, Any]]) -> list[Recording]:
        """What the store has of these sessions; waits until that is all."""
        ids = {line["id"] for line in lines}
        store = Store.open(self.home / "recordings.sqlite")
        try:
            self.until(lambda: store.known(ids) == ids)
            self.until(lambda: all(store.get(each).ended is not None for each in ids))
            return [store.get(each) for each in ids]
        finally:
            store.close()


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def gone(pid: int) -> bool:
    """Whether it has ended; what nobody has waited for yet has, too."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in {"Z", "X"}
    except OSError:
        return True


@contextmanager
def group(lab: Lab, directory: Path, *flags: str) -> Iterator[Group]:
    """Two workers; when they are told to stop they do, and nothing is left."""
    ready, log, home = directory / "ready.json", directory / "log", directory / "home"
    with Target(echo(server_context(lab.server))) as target, log.open("wb") as output:
        words = [sys.executable, "-m", "countersign", "proxy", "--listen", "127.0.0.1:0", "--home", str(home)]
        words += ["--target", f"localhost:{target.address.port}", "--upstream-ca", str(lab.root_pem)]
        words += ["--workers", "2", "--ready-file", str(ready), *flags]
        process = subprocess.Popen(words, stdout=output, stderr=output, env=peer_env(), stdin=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 60
            while not ready.exists():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.02)
            told = json.loads(ready.read_text())
            assert told["pid"] == process.pid
            yield Group(process, home, log, told["port"])
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture(scope="module")
def running(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    directory = tmp_path_factory.mktemp("workers")
    rules = directory / "rules.toml"
    rules.write_text("")
    with group(lab, directory, "--rules", str(rules)) as made:
        made.rules = rules
        yield made
        pids = children(made.process.pid)
        made.process.send_signal(signal.SIGTERM)
        assert made.process.wait(30) == 0
        assert all(gone(pid) for pid in pids)


def test_both_serve_and_nothing_is_lost(running: Group) -> None:
    with running.session_lines(40) as lines:
        for _ in range(40):
            running.visit()
    assert {line["worker"] for line in lines} == {1, 2}
    assert all(one.outcome.status is Status.ESTABLISHED for one in running.stored(lines))


def test_a_session_is_resumed_whichever_worker_has_made_it(running: Group) -> None:
    with running.session_lines(21) as lines:
        session = running.visit()
        for _ in range(20):
            session = running.visit(session)
    by = {line["id"]: line["worker"] for line in lines}
    kept = sorted(running.stored(lines), key=lambda one: one.started)
    legs = [{leg["leg"]: leg["resumed"] for leg in to_json(one)["legs"]} for one in kept]
    assert all(one["client"] == one["server"] for one in legs)
    assert any(
        by[earlier.id] != by[later.id] and leg["client"]
        for (earlier, later), leg in zip(pairwise(kept), legs[1:], strict=True)
    )  # a ticket of one worker was taken up by the other
    for worker in (1, 2):  # each has to make a session with the target of its own, and no more than that
        full = [one for one, leg in zip(kept[1:], legs[1:], strict=True) if by[one.id] == worker and not leg["client"]]
        assert len(full) <= 1


def test_a_worker_that_dies_is_said_and_started_again_and_what_connects_meanwhile_waits(running: Group) -> None:
    before = children(running.process.pid)
    died, listening = len(running.lines("a worker died")), len(running.lines("listening"))
    for pid in before:
        os.kill(pid, signal.SIGSTOP)
    connections = [socket.create_connection(("127.0.0.1", running.port), 30) for _ in range(8)]
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    for connection in connections:
        with running.context.wrap_socket(connection, server_hostname="localhost") as tls:
            tls.sendall(b"x")
            assert tls.recv(1) == b"x"
    running.until(partial(running.said, "listening", listening + 2))
    assert len(running.lines("a worker was started again")) >= 2
    assert all(line["how"] == "killed by SIGKILL" for line in running.lines("a worker died")[died:])
    assert not set(children(running.process.pid)) & set(before)


def test_rules_are_read_again_by_all(running: Group) -> None:
    for text, refused in (('[[rule]]\nsni = "localhost"\naction = "refuse"\n', True), ("", False)):
        before = len(running.lines("the rules were read again"))
        running.rules.write_text(text)
        running.process.send_signal(signal.SIGHUP)
        running.until(partial(running.said, "the rules were read again", before + 2))
        with running.session_lines(8) as lines:
            for _ in range(8):
                with contextlib.suppress(ssl.SSLError):
                    running.visit()
        assert [line["outcome"] for line in lines] == ["failed" if refused else "established"] * 8


def test_no_worker_outlives_the_parent(lab: Lab, tmp_path: Path) -> None:
    with group(lab, tmp_path) as made:
        pids = children(made.process.pid)
        made.process.kill()
        made.process.wait(10)
        made.until(lambda: all(gone(pid) for pid in pids))


def test_what_keeps_a_worker_from_beginning_is_said_once_and_ends_them_all(lab: Lab, tmp_path: Path) -> None:
    taken = socket.create_server(("127.0.0.1", 0))
    port = taken.getsockname()[1]
    for target, listen, said in (
        ("nowhere.invalid:443", "127.0.0.1:0", "nowhere.invalid"),
        ("localhost:1", f"127.0.0.1:{port}", "something else listens there"),
    ):
        words = [sys.executable, "-m", "countersign", "proxy", "--home", str(tmp_path / "home"), "--workers", "3"]
        words += ["--listen", listen, "--target", target, "--upstream-ca", str(lab.root_pem)]
        done = subprocess.run(words, capture_output=True, timeout=30, env=peer_env(), check=False)
        assert done.returncode == 3
        ours = [line for line in done.stderr.decode().splitlines() if line.startswith("countersign: ")]
        assert len(ours) == 1
        assert said in ours[0]
    taken.close()
