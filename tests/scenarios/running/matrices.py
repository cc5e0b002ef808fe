"""The clients whose verdicts are kept in ``expected/``, and how they are run."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from countersign.scenarios.running.baseline import read_baseline
from countersign.scenarios.running.verdict import Kind
from tests.peers.java import BOUNCY_CASTLE
from tests.peers.process import run
from tests.scenarios.running.playing import CARELESS, CURL, WITH_CERTIFICATE, java, known, playing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from countersign.scenarios.model import Scenario
    from countersign.scenarios.running.results import Matrix

_SECONDS = 20.0  # on a busy machine too those that only wait a little are through by then

EXPECTED = Path(__file__).parent / "expected"


@dataclass(frozen=True, slots=True)
class Kept:
    """A client with its verdicts. ``family`` is how ``expect`` calls it, where its program does not tell.

    ``careless``: it verifies nothing, and meets what should be refused alone. ``differs``: scenarios in which it does
    not what is said of its family, and why.
    """

    name: str
    argv: Callable[[], Sequence[str]]
    peers: tuple[str, ...]
    family: str | None = None
    careless: bool = False
    differs: Mapping[str, str] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        return EXPECTED / f"{self.name}.json"

    def scenarios(self) -> list[Scenario]:
        every = list(known().values())
        return [each for each in every if each.expect.right == "refuse"] if self.careless else every

    def verdicts(self) -> dict[str, str]:
        """Those that are kept."""
        return read_baseline(self.path.read_bytes(), name=self.path.name)

    async def run(self, scenarios: Sequence[Scenario], *, jobs: int) -> Matrix:
        async with playing(self.argv(), timeout=_SECONDS, family=self.family) as runner:
            return await runner.matrix(scenarios, jobs=jobs)


PYTHON = """
import socket, ssl, sys
context = ssl.create_default_context()
context.load_cert_chain(sys.argv[3], sys.argv[4])
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as plain:
    with context.wrap_socket(plain, server_hostname=sys.argv[1]) as tls:
        tls.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
        assert tls.recv(4096)
"""
OPENSSL = (
    "openssl", "s_client", "-connect", "{host}:{port}", "-servername", "{host}", "-verify_hostname", "{host}",
    "-verify_return_error", "-brief", "-ign_eof", "-cert", "{client_cert}", "-cert_chain", "{client_cert}",
    "-key", "{client_key}",
)  # fmt: skip
GNUTLS = (
    "gnutls-cli", "--x509cafile", "{ca}", "--x509certfile", "{client_cert}", "--x509keyfile", "{client_key}",
    "--port", "{port}", "{host}",
)  # fmt: skip
NODE = """
const [url, cert, key] = process.argv.slice(1), {readFileSync} = require('fs');
require('https').get(url, {cert: readFileSync(cert), key: readFileSync(key)}, answer => answer.resume());
"""

REQUESTS = """
import sys, requests
requests.get(sys.argv[1], cert=tuple(sys.argv[2:])).raise_for_status()
"""
HTTPX = """
import sys, httpx
with httpx.Client(cert=tuple(sys.argv[2:]), timeout=None) as client:
    client.get(sys.argv[1]).raise_for_status()
"""
AIOHTTP = """
import asyncio, ssl, sys, aiohttp
async def main():
    context = ssl.create_default_context()
    context.load_cert_chain(*sys.argv[2:])
    async with aiohttp.ClientSession(trust_env=True) as session:
        async with session.get(sys.argv[1], ssl=context) as answer:
            answer.raise_for_status()
asyncio.run(main())
"""
OFFERS_ALPN = {"alpn-that-nobody-offered": "it offers ALPN, which ssl alone does not"}
NO_COMMON_NAMES = {"common-name-only": "urllib3 takes no common name for a host name"}
OF_WGET = {
    "ca-names-of-others": "it shows no certificate of a CA that was not asked for",
    "target-leaves-after-the-request": "it says that nothing came",
    **dict.fromkeys(
        (
            "code-signing-certificate", "intermediate-for-clients", "key-may-only-encrypt",
            "key-may-only-sign-certificates", "server-shows-client-certificate",
        ),
        "it does not ask GnuTLS what a certificate is for",
    ),
}  # fmt: skip
WGET = (
    "wget", "-nv", "-O", "-", "--tries=1", "--certificate={client_cert}", "--private-key={client_key}", "{url}",
)  # fmt: skip


def script(text: str) -> tuple[str, ...]:
    """A program in Python that is given the URL and a client certificate."""
    return (sys.executable, "-W", "ignore", "-c", text, "{url}", "{client_cert}", "{client_key}")


def java_fips() -> tuple[str, ...]:
    """The same program; its security properties leave it no JSSE but BCJSSE in FIPS mode."""
    program, *options, main, url = java("HandshakeClient", "{url}")
    path = ":".join([options.pop(), *map(str, BOUNCY_CASTLE)])
    properties = Path(__file__).parent / "java" / "fips.security"
    return (program, f"-Djava.security.properties={properties}", *options, path, main, url)


GO_CLIENT = Path(__file__).parent / "go" / "client.go"


@cache
def go_program() -> tempfile.TemporaryDirectory[str]:
    """The client in Go, built once a session; the directory goes when the interpreter does."""
    directory = tempfile.TemporaryDirectory(prefix="matrix-clients-")
    env = {"GOCACHE": f"{directory.name}/cache", "CGO_ENABLED": "0"}
    run("go", "build", "-o", f"{directory.name}/client", GO_CLIENT, env=env, timeout=300).check()
    return directory


def go() -> tuple[str, ...]:
    return (f"{go_program().name}/client", "{url}", "{client_cert}", "{client_key}")


CLIENTS = {
    each.name: each
    for each in (
        Kept("curl", lambda: (*CURL, *WITH_CERTIFICATE), ("curl",)),
        Kept("curl-that-verifies-nothing", lambda: (*CARELESS, *WITH_CERTIFICATE), ("curl",), careless=True),
        Kept("java", lambda: java("HandshakeClient", "{url}"), ("java", "javac")),
        Kept("openssl", lambda: OPENSSL, ("openssl",)),
        Kept("gnutls", lambda: GNUTLS, ("gnutls-cli",)),
        Kept("node", lambda: ("node", "-e", NODE, "{url}", "{client_cert}", "{client_key}"), ("node",)),
        Kept(
            "python",
            lambda: (sys.executable, "-S", "-c", PYTHON, "{host}", "{port}", "{client_cert}", "{client_key}"),
            (),
        ),
        Kept("requests", lambda: script(REQUESTS), (), differs=OFFERS_ALPN | NO_COMMON_NAMES),
        Kept("httpx", lambda: script(HTTPX), (), differs=OFFERS_ALPN),
        Kept("aiohttp", lambda: script(AIOHTTP), ()),
        Kept("wget", lambda: WGET, ("wget",), differs=OF_WGET),
        Kept("java-fips", java_fips, ("java", "javac", "bcprov", "bctls"), family="java-fips"),
        Kept("go", go, ("go",), family="go"),
        Kept("java-that-verifies-nothing", lambda: java("TrustAllClient", "{url}"), ("java", "javac"), careless=True),
    )
}

FAMILIES = {
    **{name: name for name in ("curl", "java", "openssl", "gnutls", "node", "python", "java-fips", "go")},
    **dict.fromkeys(("requests", "httpx", "aiohttp"), "python"),
    "wget": "gnutls",
}
"""How the scenarios' ``expect`` calls the clients above; those that verify nothing are of no family."""

AGREES = {
    "accept": {Kind.ACCEPTED, Kind.ACCEPTED_WRONGLY},
    "refuse": {Kind.REFUSED, Kind.REFUSED_WRONGLY},
    "either": {Kind.ACCEPTED, Kind.REFUSED},
}
"""The verdicts that agree with what a client of some kind is expected to do."""
