"""CPU that one intercepted handshake costs the proxy, beside sslsplit where it is installed.

A target with an ECDSA P-256 chain, a client that makes full handshakes one after the other and gets a line through,
and between them the proxy under test, alone on a core. What counts is the CPU time of the proxy's processes, from
/proc, so that neither the client's nor the target's work is in it and a busy machine disturbs little. The proxies take
turns, round by round; the figures are medians, and the ratio is of rounds that ran side by side.

    python bench/handshakes.py --handshakes 400 --rounds 5 --tls 1.3 --json
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

sys.path.append(str(Path(__file__).resolve().parents[1]))

from tests.peers.certs import Lab

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    Maker = Callable[[Lab, int, int, Path], AbstractContextManager["Proxy"]]

TICKS = os.sysconf("SC_CLK_TCK")
WARM_UP = 40
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


@dataclass(frozen=True, slots=True)
class Proxy:
    name: str
    pid: int
    port: int
    trusted: Path


# The target


@contextlib.contextmanager
def target(lab: Lab, core: int, directory: Path, *, resume: bool) -> Iterator[int]:
    """A server that reverses lines; without ``resume`` it keeps no session, so that each handshake upstream is full."""
    port = free_port()
    words = ["openssl", "s_server", "-quiet", "-rev", "-accept", f"127.0.0.1:{port}"]
    words += ["-cert", str(lab.server.cert_pem), "-key", str(lab.server.key_pem)]
    words += ["-cert_chain", str(lab.server.chain_pem)]
    words += [] if resume else ["-no_cache", "-no_ticket", "-num_tickets", "0"]
    with started(words, core, directory):
        for _ in until(20, "the target did not listen"):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
        yield port


# The proxies


@contextlib.contextmanager
def started(words: list[str], core: int, directory: Path) -> Iterator[int]:
    """A program on one core, its output in a file that is shown if it fails; ended by its pid."""
    log = directory / "output.txt"
    with log.open("wb") as output:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
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
def countersign(lab: Lab, port: int, core: int, directory: Path) -> Iterator[Proxy]:
    home, ready, root = directory / "home", directory / "ready.json", directory / "corp-root.pem"
    us = [sys.executable, "-m", "countersign"]
    words = [*us, "proxy", "--listen", "127.0.0.1:0", "--target", f"localhost:{port}", "--upstream-ca"]
    words += [str(lab.root_pem), "--ready-file", str(ready), "--home", str(home)]
    with started(words, core, directory) as pid:
        for _ in until(20, "countersign did not become ready"):
            with contextlib.suppress(OSError, ValueError):
                told = json.loads(ready.read_text())
                break
        env = os.environ | {"COUNTERSIGN_HOME": str(home)}
        subprocess.run([*us, "ca", "root", "--out", str(root)], env=env, check=True, stdout=subprocess.DEVNULL)
        yield Proxy("countersign", pid, int(told["listen"].rpartition(":")[2]), root)


@contextlib.contextmanager
def sslsplit(lab: Lab, port: int, core: int, directory: Path, *, rsa: bool = False) -> Iterator[Proxy]:
    """With a P-256 CA and leaf key, as ours has, or with its default, an RSA-2048 leaf key, which costs it more."""
    program = shutil.which("sslsplit")
    assert program
    own = free_port()
    ca = Lab(directory / "ca", name="Split").root
    words = [program, "-k", str(ca.key_pem), "-c", str(ca.cert_pem)]
    words += [] if rsa else ["-K", str(lab.client.key_pem)]
    words += ["ssl", "127.0.0.1", str(own), "127.0.0.1", str(port)]
    with started(words, core, directory) as pid:
        for _ in until(20, "sslsplit did not listen"):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", own), timeout=1):
                break
        yield Proxy("sslsplit", pid, own, ca.cert_pem)


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


# What is measured


def handshakes(proxy: Proxy, count: int, version: ssl.TLSVersion) -> None:
    """Full handshakes, verified, each with a line there and back so that both legs are known to be done."""
    context = ssl.create_default_context(cafile=str(proxy.trusted))
    context.minimum_version = context.maximum_version = version
    for _ in range(count):
        with (
            socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as tls,
        ):
            tls.sendall(b"?\n")
            if tls.recv(2)[:1] != b"?":
                raise SystemExit(f"{proxy.name} closed instead of answering")


def cpu(pid: int) -> float:
    """Seconds of CPU that a process and its descendants have used, in steps of a clock tick (10 ms)."""
    parents: dict[int, list[int]] = {}
    used: dict[int, float] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            fields = entry.read_text().rpartition(") ")[2].split()
            own = int(entry.parent.name)
            parents.setdefault(int(fields[1]), []).append(own)
            used[own] = sum(map(int, fields[11:15])) / TICKS  # user, system, and of children that were waited for
    family, total = [pid], 0.0
    while family:
        member = family.pop()
        total += used.get(member, 0.0)
        family += parents.get(member, [])
    return total


def measure(proxy: Proxy, count: int, version: ssl.TLSVersion) -> float:
    """Milliseconds of CPU for each handshake."""
    before = cpu(proxy.pid)
    handshakes(proxy, count, version)
    time.sleep(0.3)  # what it does after the close (writing its record, say) is its work too
    return (cpu(proxy.pid) - before) * 1000 / count


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    arguments.add_argument("--handshakes", type=int, default=400, help="in each round (default: 400)")
    arguments.add_argument("--rounds", type=int, default=5, help="for each proxy (default: 5)")
    arguments.add_argument("--tls", choices=VERSIONS, default="1.3", help="the client's version (default: 1.3)")
    arguments.add_argument("--only", choices=["countersign", "sslsplit"], help="measure one proxy alone")
    arguments.add_argument("--sslsplit-rsa", action="store_true", help="sslsplit with the RSA leaf key of its defaults")
    arguments.add_argument("--resume", action="store_true", help="let the proxies resume with the target")
    arguments.add_argument("--json", action="store_true", help="print JSON instead of a table")
    asked = arguments.parse_args()

    makers: dict[str, Maker] = {
        "countersign": countersign,
        "sslsplit": functools.partial(sslsplit, rsa=asked.sslsplit_rsa),
    }
    if asked.only:
        makers = {asked.only: makers[asked.only]}
    elif not shutil.which("sslsplit"):
        del makers["sslsplit"]
        print("sslsplit is not installed: countersign alone is measured", file=sys.stderr)

    cores = sorted(os.sched_getaffinity(0))
    rounds: dict[str, list[float]] = {name: [] for name in makers}
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        scratch.chmod(0o755)  # sslsplit, started as root, goes on as nobody
        os.sched_setaffinity(0, set(cores[:-1]) or set(cores))
        lab = Lab(scratch / "lab")
        for name in ("target", *makers):
            (scratch / name).mkdir()
        port = stack.enter_context(target(lab, cores[0], scratch / "target", resume=asked.resume))
        proxies = []
        for name, make in makers.items():
            proxies.append(stack.enter_context(make(lab, port, cores[-1], scratch / name)))
        for proxy in proxies:
            handshakes(proxy, WARM_UP, VERSIONS[asked.tls])
        for number in range(asked.rounds):
            for proxy in proxies:
                rounds[proxy.name].append(measure(proxy, asked.handshakes, VERSIONS[asked.tls]))
            if not asked.json:
                figures = "   ".join(f"{name} {values[-1]:.2f} ms" for name, values in rounds.items())
                print(f"round {number + 1}: {figures}", flush=True)

    medians = {name: statistics.median(values) for name, values in rounds.items()}
    ratio = None
    if len(rounds) == 2:
        ratio = statistics.median(a / b for a, b in zip(rounds["countersign"], rounds["sslsplit"], strict=True))
    if asked.json:
        report = {"tls": asked.tls, "handshakes": asked.handshakes, "cpu_ms": rounds, "median_ms": medians}
        report |= {"sslsplit_rsa": asked.sslsplit_rsa, "resume": asked.resume}
        print(json.dumps(report | {"ratio": ratio, "python": platform.python_version(), "cores": len(cores)}))
        return
    for name, median in medians.items():
        print(f"{name}: {median:.2f} ms of CPU for each intercepted TLS {asked.tls} handshake")
    if ratio is not None:
        print(f"ratio, countersign to sslsplit: {ratio:.2f}")


if __name__ == "__main__":
    main()
