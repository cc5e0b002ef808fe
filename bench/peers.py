"""The peers that are measured beside each other: how they are started, what is read from them, how rounds are taken.

Each proxy is alone on the last core, target and client share the others. What counts is what the proxy's processes
used, CPU time and memory from /proc, so that neither the client's nor the target's work is in it and a busy machine
disturbs little. The proxies take turns, round by round; figures are medians, and a ratio is of rounds side by side.

sslsplit, mitmproxy and haproxy take part where they are installed (``MITMDUMP`` names a mitmdump that is not on PATH).
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import platform
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.peers.certs import Issued, Lab

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

    Maker = Callable[[Lab, int, int, Path], AbstractContextManager["Proxy"]]

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_SBIN = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/usr/local/sbin"


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy that runs: where it listens, and which root a client behind it must trust."""

    name: str
    pid: int
    port: int
    trusted: Path


# Targets


@contextlib.contextmanager
def target(leaf: Issued, core: int, directory: Path, *, size: int = 0, resume: bool = False) -> Iterator[int]:
    """nginx: ``/big`` has ``size`` bytes, ``/`` a line, and connections may be idle for an hour.

    Without ``resume`` it keeps no session, so that each handshake with it is a full one.
    """
    program = shutil.which("nginx", path=_SBIN)
    if program is None:
        raise SystemExit("nginx is not installed: it is the target of this measurement")
    files = directory / "files"
    files.mkdir()
    (files / "index.html").write_text("hello\n")
    with (files / "big").open("wb") as big:
        big.truncate(size)
    for path in (directory, files, *directory.parents):
        if path.is_relative_to(tempfile.gettempdir()) and path != Path(tempfile.gettempdir()):
            path.chmod(0o755)  # its worker goes on as nobody
    port = free_port()
    settings = directory / "nginx.conf"
    settings.write_text(
        f"""daemon off; pid {directory}/pid; error_log {directory}/error.log; worker_processes 1;
        worker_rlimit_nofile 20000;
        events {{ worker_connections 19000; }}
        http {{
          access_log off; keepalive_timeout 3600s; keepalive_requests 1000000; client_body_temp_path {directory}/b;
          proxy_temp_path {directory}/p; fastcgi_temp_path {directory}/f; uwsgi_temp_path {directory}/u;
          scgi_temp_path {directory}/s; ssl_buffer_size 16k;
          server {{
            listen 127.0.0.1:{port} ssl backlog=4096; root {files};
            ssl_certificate {leaf.fullchain_pem}; ssl_certificate_key {leaf.key_pem};
            ssl_protocols TLSv1.2 TLSv1.3;
            ssl_session_tickets {"on" if resume else "off"}; ssl_session_cache {"shared:x:1m" if resume else "off"};
          }}
        }}"""
    )
    with started([program, "-c", str(settings), "-e", str(directory / "error.log")], core, directory):
        listens(port, "nginx")
        yield port


# The proxies


@contextlib.contextmanager
def started(words: list[str], core: int, directory: Path, **variables: str) -> Iterator[int]:
    """A program on one core, its output in a file that is shown if it fails; ended by its pid."""
    log = directory / "output.txt"
    with log.open("wb") as output:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | variables,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),  # noqa: PLW1509  # no thread of ours runs yet
        )
    try:
        yield process.pid
    except BaseException:
        sys.stderr.write(log.read_text(errors="replace")[-4000:])
        raise
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def countersign(lab: Lab, port: int, core: int, directory: Path, *, flags: Iterable[str] = ()) -> Iterator[Proxy]:
    """Ours with its defaults, everything recorded and stored."""
    home, ready, root = directory / "home", directory / "ready.json", directory / "corp-root.pem"
    us = [sys.executable, "-m", "countersign"]
    words = [*us, "proxy", "--listen", "127.0.0.1:0", "--target", f"localhost:{port}", "--upstream-ca"]
    words += [str(lab.root_pem), "--ready-file", str(ready), "--home", str(home), *flags]
    with started(words, core, directory) as pid:
        for _ in until(20, "countersign did not become ready"):
            with contextlib.suppress(OSError, ValueError):
                told = json.loads(ready.read_text())
                break
        env = os.environ | {"COUNTERSIGN_HOME": str(home)}
        subprocess.run([*us, "ca", "root", "--out", str(root)], env=env, check=True, stdout=subprocess.DEVNULL)
        yield Proxy("countersign", pid, told["port"], root)


@contextlib.contextmanager
def passing_through(lab: Lab, port: int, core: int, directory: Path) -> Iterator[Proxy]:
    """Ours with ``--passthrough``: recorded from outside."""
    with countersign(lab, port, core, directory, flags=["--passthrough"]) as ours:
        yield Proxy("countersign", ours.pid, ours.port, lab.root_pem)


@contextlib.contextmanager
def direct(lab: Lab, port: int, _core: int, _directory: Path) -> Iterator[Proxy]:
    """No proxy at all."""
    yield Proxy("direct", os.getpid(), port, lab.root_pem)


@contextlib.contextmanager
def sslsplit(lab: Lab, port: int, core: int, directory: Path, *, rsa: bool = False) -> Iterator[Proxy]:
    """With a P-256 CA and leaf key, as ours has, or with its default, an RSA-2048 leaf key, which costs it more.

    It verifies nothing and records nothing.
    """
    own = free_port()
    ca = Lab(directory / "ca", name="Split").root
    words = [_program("sslsplit"), "-k", str(ca.key_pem), "-c", str(ca.cert_pem)]
    words += [] if rsa else ["-K", str(lab.client.key_pem)]
    words += ["ssl", "127.0.0.1", str(own), "127.0.0.1", str(port)]
    with started(words, core, directory) as pid:
        listens(own, "sslsplit")
        yield Proxy("sslsplit", pid, own, ca.cert_pem)


@contextlib.contextmanager
def mitmproxy(lab: Lab, port: int, core: int, directory: Path) -> Iterator[Proxy]:
    """mitmdump in reverse mode, verifying the target as ours does, bodies streamed."""
    own, home = free_port(), directory / "home"
    words = [_program("mitmdump"), "--quiet", "--set", f"confdir={home}", "--listen-host", "127.0.0.1"]
    words += [
        "--listen-port",
        str(own),
        "--mode",
        f"reverse:https://localhost:{port}",
        "--set",
        "stream_large_bodies=1",
    ]
    words += ["--set", f"ssl_verify_upstream_trusted_ca={lab.root_pem}"]
    with started(words, core, directory) as pid:
        listens(own, "mitmdump")
        yield Proxy("mitmproxy", pid, own, home / "mitmproxy-ca-cert.pem")


@contextlib.contextmanager
def haproxy(lab: Lab, port: int, core: int, directory: Path) -> Iterator[Proxy]:
    """haproxy in TCP mode, which sees no more than bytes; it splices where the kernel can."""
    own, settings = free_port(), directory / "haproxy.cfg"
    settings.write_text(
        "global\n  nbthread 1\n  maxconn 4000\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n"
        f"  timeout server 1h\n  option splice-auto\nlisten through\n  bind 127.0.0.1:{own}\n"
        f"  server target 127.0.0.1:{port}\n"
    )
    with started([_program("haproxy"), "-f", str(settings), "-db"], core, directory) as pid:
        listens(own, "haproxy")
        yield Proxy("haproxy", pid, own, lab.root_pem)


def _program(name: str) -> str:
    found = _where(name)
    assert found, f"{name} is not installed"
    return found


def _where(name: str) -> str | None:
    return (name == "mitmdump" and os.environ.get("MITMDUMP")) or shutil.which(name, path=_SBIN)


_PROGRAMS = {"sslsplit": "sslsplit", "mitmproxy": "mitmdump", "haproxy": "haproxy"}
INTERCEPTING: dict[str, Maker] = {"countersign": countersign, "sslsplit": sslsplit, "mitmproxy": mitmproxy}
PASSING: dict[str, Maker] = {"countersign": passing_through, "haproxy": haproxy}


def installed(makers: dict[str, Maker], only: Iterable[str] = ()) -> dict[str, Maker]:
    """Those that this machine has, ours always; what is missing is said."""
    chosen = {name: make for name, make in makers.items() if not only or name in only}
    missing = [name for name in chosen if name in _PROGRAMS and not _where(_PROGRAMS[name])]
    for name in missing:
        print(f"{name} is not installed and takes no part", file=sys.stderr)
    return {name: make for name, make in chosen.items() if name not in missing}


# What is read from them


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as s:
        port: int = s.getsockname()[1]
    return port


def until(seconds: float, otherwise: str) -> Iterator[None]:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        yield
        time.sleep(0.05)
    raise SystemExit(f"{otherwise} within {seconds:.0f} s")


def listens(port: int, who: str) -> None:
    for _ in until(20, f"{who} did not listen"):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return


def _family(pid: int) -> dict[int, list[str]]:
    """The fields of /proc/PID/stat behind the name, of a process and its descendants."""
    parents: dict[int, list[int]] = {}
    stat: dict[int, list[str]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            fields = entry.read_text().rpartition(") ")[2].split()
            own = int(entry.parent.name)
            parents.setdefault(int(fields[1]), []).append(own)
            stat[own] = fields
    members, family = [pid], {}
    while members:
        member = members.pop()
        if member in stat:
            family[member] = stat[member]
        members += parents.get(member, [])
    return family


def cpu(pid: int) -> float:
    """Seconds of CPU that a process and its descendants have used, in steps of a clock tick (10 ms)."""
    ticks = sum(sum(map(int, fields[11:15])) for fields in _family(pid).values())  # user, system, of those waited for
    return float(ticks / TICKS)


def memory(pid: int) -> int:
    """Bytes that are resident, of a process and its descendants."""
    return sum(int(fields[21]) for fields in _family(pid).values()) * PAGE


# Clients


def context(proxy: Proxy, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=str(proxy.trusted))
    made.minimum_version = made.maximum_version = version
    return made


@contextlib.contextmanager
def connected(proxy: Proxy, how: ssl.SSLContext) -> Iterator[ssl.SSLSocket]:
    with (
        socket.create_connection(("127.0.0.1", proxy.port), timeout=30) as plain,
        how.wrap_socket(plain, server_hostname="localhost") as tls,
    ):
        yield tls


# Rounds


@contextlib.contextmanager
def scene(
    makers: dict[str, Maker], make_target: Callable[[Lab, int, Path], AbstractContextManager[int]]
) -> Iterator[list[Proxy]]:
    """The target and all proxies, running and pinned."""
    cores = sorted(os.sched_getaffinity(0))
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        scratch.chmod(0o755)  # sslsplit, started as root, goes on as nobody
        os.sched_setaffinity(0, set(cores[:-1]) or set(cores))
        lab = Lab(scratch / "lab")
        for name in ("target", *makers):
            (scratch / name).mkdir()
        port = stack.enter_context(make_target(lab, cores[0], scratch / "target"))
        yield [stack.enter_context(make(lab, port, cores[-1], scratch / name)) for name, make in makers.items()]


def take_turns(
    proxies: list[Proxy], rounds: int, measure: Callable[[Proxy], float], *, unit: str
) -> dict[str, list[float]]:
    """Measure each in turn; a line a round goes to standard error."""
    figures: dict[str, list[float]] = {proxy.name: [] for proxy in proxies}
    for number in range(rounds):
        for proxy in proxies:
            figures[proxy.name].append(measure(proxy))
        line = "   ".join(f"{name} {values[-1]:.2f}" for name, values in figures.items())
        print(f"round {number + 1}: {line} {unit}", file=sys.stderr, flush=True)
    return figures


def report(title: str, figures: dict[str, list[float]], *, unit: str, as_json: bool) -> None:
    """Medians, and what ours is beside each of the others."""
    medians = {name: statistics.median(values) for name, values in figures.items()}
    ours = figures.get("countersign", [])
    ratios = {
        name: statistics.median(a / b for a, b in zip(ours, theirs, strict=True) if b)
        for name, theirs in figures.items()
        if ours and name != "countersign" and any(theirs)
    }
    if as_json:
        facts = {"python": platform.python_version(), "cores": os.cpu_count()}
        print(
            json.dumps({"what": title, "unit": unit, "rounds": figures, "medians": medians, "ratios": ratios} | facts)
        )
        return
    print(title)
    for name, median in medians.items():
        beside = f"   countersign is {ratios[name]:.2f} of that" if name in ratios else ""
        print(f"  {name:12} {median:8.2f} {unit}{beside}")


def arguments(text: str | None, *, rounds: int = 5) -> argparse.ArgumentParser:
    """What all measurements take."""
    parser = argparse.ArgumentParser(description=(text or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=rounds, help=f"for each proxy (default: {rounds})")
    parser.add_argument("--only", action="append", default=[], help="this proxy alone; may be given again")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser


with_rsa_leaves = functools.partial(sslsplit, rsa=True)
"""sslsplit as it comes: leaves with an RSA-2048 key."""
