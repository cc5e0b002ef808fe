"""Real clients that meet one fault after another: a proxy that gives each connection its own, and what each says.

Some programs make all their connections in one process, since it is the start of the process that costs. A case is
counted by its connection, so none of them may connect twice for one attempt.
"""

from __future__ import annotations

import re
import socket
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from countersign.proxy.faults import read_fault
from countersign.proxy.orders import Orders, ProtocolOrders
from tests.peers.curl import curl
from tests.peers.java import java_client, java_truststore
from tests.peers.process import Background, run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from countersign.recorder.recording import Leg, Recording

TLS12, TLS13 = 0x0303, 0x0304
GOT = re.compile(rb"GET seen|</html>", re.IGNORECASE)  # the lab's target, and s_server
REQUEST = b"GET / HTTP/1.0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Case:
    """A fault and the version it is met in."""

    fault: Mapping[str, object]
    version: int = TLS13

    def orders(self) -> Orders:
        """What the proxy is told. No session is taken up again, so that each handshake is a full one."""
        protocol = ProtocolOrders(versions=(self.version, self.version))
        return Orders(faults=(read_fault(self.fault),), protocol=protocol, forget_sessions=True)


def case(do: str, *, version: int = TLS13, **options: object) -> Case:
    """``case("drop", at="finished")``."""
    return Case({"do": do, **options}, version)


@dataclass(slots=True)
class OneAfterAnother:
    """A director: the first connection gets the first orders, the next one the next; then the last again."""

    orders_of: Sequence[Orders]
    met: int = field(default=0)

    def arriving(self, client: str) -> Orders:  # noqa: ARG002 - the director's signature
        return Orders()

    def orders(self, client: str, sni: str | None, target: str) -> Orders:  # noqa: ARG002 - the director's signature
        number = min(self.met, len(self.orders_of) - 1)
        self.met += 1
        return self.orders_of[number]


@dataclass(frozen=True, slots=True)
class Said:
    """Whether the client got its answer, and what it said."""

    ok: bool
    text: str


def by_curl(port: int, ca: Path, count: int) -> list[Said]:
    """curl with OpenSSL 3.0."""
    answers = [curl(f"https://localhost:{port}/", ca=ca, timeout=10) for _ in range(count)]
    return [Said(each.ok, each.error) for each in answers]


def by_openssl(port: int, ca: Path, count: int) -> list[Said]:
    """s_client of Debian's OpenSSL."""
    words = ("openssl", "s_client", "-quiet", "-connect", f"localhost:{port}", "-servername", "localhost")
    return [_asked(*words, "-CAfile", ca, "-verify_return_error") for _ in range(count)]


def by_gnutls(port: int, ca: Path, count: int) -> list[Said]:
    """gnutls-cli."""
    return [_asked("gnutls-cli", "--x509cafile", ca, "-p", str(port), "localhost") for _ in range(count)]


def _asked(*words: str | Path) -> Said:
    """What a program says that passes on what it is told."""
    with Background(*words) as client:
        try:
            client.say(REQUEST)
            client.wait_for("GET seen")
        except (BrokenPipeError, AssertionError):  # it ended before, and says why
            if not client.ended():
                raise
        client.hang_up()
        done = client.stop()
    return Said("GET seen" in done.stdout, done.stderr + done.stdout)


NODE = """
const [port, ca, count] = process.argv.slice(1);
const options = {host: 'localhost', port, ca: require('fs').readFileSync(ca), agent: false, maxCachedSessions: 0};
function next(n) {
  if (n >= count) return;
  const said = (line) => { console.log(line.replace(/\\n/g, ' ')); next(n + 1); };
  const request = require('https').get(options, (response) => {
    let body = '';
    response.on('data', (data) => { body += data; });
    response.on('end', () => said('ok ' + body));
    response.on('error', (error) => said('no ' + error.code + ' ' + error.message));
  });
  request.setTimeout(8000, () => request.destroy(new Error('nothing came')));
  request.on('error', (error) => said('no ' + error.code + ' ' + error.message));
}
next(0);
"""


def by_node(port: int, ca: Path, count: int) -> list[Said]:
    """Node, all in one process."""
    done = run("node", "-e", NODE, str(port), ca, str(count), timeout=20 + 2 * count)
    lines = [line for line in done.stdout.splitlines() if line[:3] in {"ok ", "no "}]
    return [Said(line.startswith("ok ") and "GET seen" in line, line[3:]) for line in lines]


def by_python(port: int, ca: Path, count: int, *, keylog: Path | None = None) -> list[Said]:
    """The interpreter's own ssl module."""
    return [_by_python(port, ca, keylog) for _ in range(count)]


def _by_python(port: int, ca: Path, keylog: Path | None) -> Said:
    context = ssl.create_default_context(cafile=str(ca))
    if keylog is not None:
        context.keylog_filename = str(keylog)
    answer = b""
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=8) as raw,
            context.wrap_socket(raw, server_hostname="localhost") as tls,
        ):
            tls.sendall(REQUEST)
            while not GOT.search(answer) and (piece := tls.recv(65536)):
                answer += piece
    except OSError as error:
        return Said(ok=False, text=f"{type(error).__name__}: {error}")
    return Said(bool(GOT.search(answer)), answer.decode())


def by_java(port: int, ca: Path, count: int) -> list[Said]:
    """The JSSE of Java 17, all in one process."""
    trust = ca.with_suffix(".p12")
    if not trust.exists():
        java_truststore(trust, ca)
    done = java_client(f"localhost:{port}", truststore=trust, repeat=count, timeout=40 + 2 * count)
    return [Said(each.ok, " <- ".join(each.causes)) for each in done.attempts]


CLIENTS: dict[str, tuple[tuple[str, ...], Callable[[int, Path, int], list[Said]]]] = {
    "curl": (("curl",), by_curl),
    "openssl": (("openssl",), by_openssl),
    "gnutls": (("gnutls-cli",), by_gnutls),
    "node": (("node",), by_node),
    "python": ((), by_python),
    "java": (("java", "javac", "keytool"), by_java),
}
"""By family: what it takes, and how it connects so many times."""


def leg_of(recording: Recording, role: str = "client") -> Leg:
    """The leg of this role."""
    (found,) = [leg for leg in recording.legs if leg.role.value == role]
    return found
