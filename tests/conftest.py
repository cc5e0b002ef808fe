"""What every test stands on: real peers by name, no network but loopback, nothing left behind.

Drivers of real programs are imported as ``tests.peers.<name>``; they block, so a test whose own event loop must
go on meanwhile calls them through :func:`asyncio.to_thread`.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

sys.path.append(str(Path(__file__).resolve().parent.parent))  # tests.peers, whichever way pytest was started

from tests.peers.certs import Lab
from tests.peers.guard import children, is_loopback

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from concurrent.futures import Future

pytest_plugins = ["pytester"]

JAVA_ARCHIVES = Path("/usr/share/java")

# What a peer is, and the command whose first line of output names its version.
PEERS: dict[str, tuple[str, ...]] = {
    "certutil": (),
    "curl": ("--version",),
    "dovecot": ("--version",),
    "dumpcap": ("--version",),
    "git": ("--version",),
    "gnutls-cli": ("--version",),
    "go": ("version",),
    "gnutls-serv": ("--version",),
    "initdb": ("--version",),
    "ip": ("-V",),
    "java": ("-version",),
    "javac": ("-version",),
    "keytool": (),
    "nft": ("--version",),
    "nginx": ("-v",),
    "node": ("--version",),
    "ocsptool": ("--version",),
    "openssl": ("version",),
    "pg_ctl": ("--version",),
    "postfix": (),
    "psql": ("--version",),
    "selfserv": (),
    "slapd": (),
    "sslsplit": ("-V",),
    "tcpdump": ("--version",),
    "tshark": ("--version",),
    "tstclnt": (),
    "setpriv": ("--version",),
    "unshare": ("--version",),
    "wget": ("--version",),
    "bcprov": (),
    "bctls": (),
    "junit4": (),
}
ARCHIVES = {"bcprov", "bctls", "junit4"}

# In CI the same examples each time, so that a red run is about the change; on a laptop and with --long, new ones.
settings.register_profile("countersign", deadline=None, print_blob=True, derandomize="CI" in os.environ)
settings.register_profile("countersign-long", deadline=None, print_blob=True, max_examples=1000)


def where(peer: str) -> str | None:
    """Where a peer is on this machine, if it is; some are archives that a JVM loads."""
    if peer not in PEERS:
        raise pytest.UsageError(f"no peer is called {peer!r}; the peers are {', '.join(sorted(PEERS))}")
    if peer in ARCHIVES:
        archive = JAVA_ARCHIVES / f"{peer}.jar"
        return str(archive) if archive.exists() else None
    return shutil.which(peer) or shutil.which(peer, path="/usr/sbin")  # nginx, which is not on everybody's PATH


def version(peer: str) -> str:
    path = where(peer)
    if path is None:
        return f"{peer}: missing"
    if not PEERS[peer]:
        return f"{peer}: {Path(path).resolve().name if path.endswith('.jar') else 'present'}"
    try:
        done = subprocess.run(
            [path, *PEERS[peer]], capture_output=True, stdin=subprocess.DEVNULL, timeout=20, check=False, text=True
        )
    except (OSError, subprocess.TimeoutExpired) as e:
        return f"{peer}: {e}"
    lines = [line for line in (done.stdout + done.stderr).splitlines() if any(c.isdigit() for c in line)]
    return f"{peer}: {lines[0] if lines else f'exit code {done.returncode}'}"


def peers_required() -> bool:
    return os.environ.get("REQUIRE_PEERS", "") not in {"", "0"}


# Options, markers, header


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run the tests marked long, and all of them with full counts")


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("countersign-long" if config.getoption("--long") else "countersign")


def pytest_report_header(config: pytest.Config) -> list[str]:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor() as pool:
        versions: list[Future[str]] = [pool.submit(version, peer) for peer in PEERS]
        lines = [f"  {v.result()}" for v in versions]
    missing = "a missing one fails (REQUIRE_PEERS)" if peers_required() else "a missing one skips"
    return [f"peers, of which {missing}:", *lines]


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("long") and not item.config.getoption("--long"):
        pytest.skip("long: runs with --long")  # so that CI need not have the peers of those that it does not run
    for mark in item.iter_markers("peer"):
        missing = [peer for peer in mark.args if where(peer) is None]
        if missing:
            text = f"not on this machine: {', '.join(missing)}"
            if peers_required():
                pytest.fail(f"{text} (REQUIRE_PEERS is set)", pytrace=False)
            pytest.skip(text)


# Nothing left behind


def threads() -> set[threading.Thread]:
    return {t for t in threading.enumerate() if not t.daemon}


LeftBehind = tuple[set[int], set[threading.Thread]]
before_key = pytest.StashKey[LeftBehind]()


@pytest.fixture(autouse=True)
def _what_was_there_before(request: pytest.FixtureRequest) -> None:
    """Fixtures of a wider scope are set up by now, so what they started is not this test's."""
    request.node.stash[before_key] = (set(children()), threads())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    yield
    before = item.stash.get(before_key, None)
    if before is None:
        return
    deadline = time.monotonic() + 2
    while left := _left_behind(before):
        if time.monotonic() > deadline:
            pytest.fail("the test left behind " + "; ".join(left), pytrace=False)
        time.sleep(0.02)


def _left_behind(before: LeftBehind) -> list[str]:
    processes, running = before
    return [f"process {pid}: {what}" for pid, what in children().items() if pid not in processes] + [
        f"thread {t.name}" for t in threads() - running
    ]


# No network but loopback


@pytest.fixture(autouse=True)
def _only_loopback(monkeypatch: pytest.MonkeyPatch) -> Iterable[None]:
    """A connect or datagram to anywhere else is refused as a firewall would, and fails the test, caught or not."""
    tried: list[str] = []

    def guarded(name: str) -> None:
        original: Callable[..., object] = getattr(socket.socket, name)

        def call(self: socket.socket, *args: object) -> object:
            address = args[-1] if args else None
            off = isinstance(address, tuple) and not is_loopback(str(address[0]))
            if off and self.family in {socket.AF_INET, socket.AF_INET6}:
                tried.append(f"{name} to {address}")
                raise PermissionError(1, f"tests stay on loopback: {name} to {address}")
            return original(self, *args)

        monkeypatch.setattr(socket.socket, name, call)

    for name in ("connect", "connect_ex", "sendto"):
        guarded(name)
    yield
    if tried:
        pytest.fail(f"the test left loopback: {', '.join(tried)}", pytrace=False)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the developer's shell says about proxies, trust, its width and us is not part of a test."""
    aside = {"SSLKEYLOGFILE", "NO_COLOR", "COLUMNS"}
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith("COUNTERSIGN_") or name in aside:
            monkeypatch.delenv(name)


# Fixtures


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """Root, intermediate, a server's and a client's certificate, written as PEM files; ``lab.issue`` makes more."""
    return Lab(tmp_path_factory.mktemp("lab"))


@pytest.fixture
def free_port() -> int:
    """A loopback port where nothing listens. To listen, ask for port 0 instead and see what was given."""
    with socket.create_server(("127.0.0.1", 0)) as s:
        port: int = s.getsockname()[1]
    return port


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home of countersign's own, also in ``COUNTERSIGN_HOME``; not yet created."""
    path = tmp_path / "home"
    monkeypatch.setenv("COUNTERSIGN_HOME", str(path))
    return path


@pytest.fixture(scope="session")
def scaled(pytestconfig: pytest.Config) -> Callable[[int], int]:
    """The count to run where a full run has ``n``: a twentieth, but all of them with ``--long``."""
    return (lambda n: n) if pytestconfig.getoption("--long") else (lambda n: max(1, n // 20))
