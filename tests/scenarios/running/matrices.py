"""The clients whose verdicts are kept in ``expected/``, and how they are run."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from countersign.scenarios.running.baseline import read_baseline
from countersign.scenarios.running.verdict import Kind
from tests.scenarios.running.playing import CARELESS, CURL, WITH_CERTIFICATE, java, known, playing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from countersign.scenarios.model import Scenario
    from countersign.scenarios.running.results import Matrix

_SECONDS = 20.0  # on a busy machine too those that only wait a little are through by then

EXPECTED = Path(__file__).parent / "expected"


@dataclass(frozen=True, slots=True)
class Kept:
    """A client with its verdicts. ``careless``: it verifies nothing, and meets what should be refused alone."""

    name: str
    argv: Callable[[], Sequence[str]]
    peers: tuple[str, ...]
    careless: bool = False

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
        async with playing(self.argv(), timeout=_SECONDS) as runner:
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
        Kept("java-that-verifies-nothing", lambda: java("TrustAllClient", "{url}"), ("java", "javac"), careless=True),
    )
}

FAMILIES = ("curl", "java", "openssl", "gnutls", "node", "python")
"""Those of the clients above after which a family is called in the scenarios' ``expect``."""

AGREES = {
    "accept": {Kind.ACCEPTED, Kind.ACCEPTED_WRONGLY},
    "refuse": {Kind.REFUSED, Kind.REFUSED_WRONGLY},
    "either": {Kind.ACCEPTED, Kind.REFUSED},
}
"""The verdicts that agree with what a client of some kind is expected to do."""
