"""A JVM client with the JSSE of the machine's JDK, plain or with Bouncy Castle as first provider.

What a JVM does by itself decides how it is started: it sends no SNI for ``localhost`` and bypasses proxies for it, so
a test uses a dotted lab name that ``hosts`` maps to loopback; ``HTTPS_PROXY`` is ignored, so proxies are properties.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from tests.peers.process import Completed, run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SOURCE = Path(__file__).with_name("java") / "HandshakeClient.java"
BOUNCY_CASTLE = tuple(Path("/usr/share/java") / f"{name}.jar" for name in ("bcprov", "bcutil", "bctls"))
BOUNCY_CASTLE_PROVIDER = "org.bouncycastle.jce.provider.BouncyCastleProvider"
PASSWORD = "changeit"
QUICK_START = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto")


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request or handshake; ``causes`` is the exception and what caused it, outermost first."""

    ok: bool
    causes: tuple[str, ...]
    said: Mapping[str, str]
    peers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class JavaRun:
    attempts: tuple[Attempt, ...]
    completed: Completed

    @property
    def ok(self) -> bool:
        return bool(self.attempts) and all(a.ok for a in self.attempts)

    @property
    def causes(self) -> tuple[str, ...]:
        return self.attempts[-1].causes

    @property
    def debug(self) -> str:
        """What ``-Djavax.net.debug`` printed."""
        return self.completed.stderr


@cache
def _classes() -> tempfile.TemporaryDirectory[str]:
    """HandshakeClient compiled, once a session; the directory goes when the interpreter does."""
    directory = tempfile.TemporaryDirectory(prefix="handshake-client-")
    run("javac", "-d", directory.name, SOURCE, timeout=90).check()
    return directory


def java_client(
    target: str,
    *,
    truststore: Path | None = None,
    password: str = PASSWORD,
    keystore: Path | None = None,
    keystore_password: str = PASSWORD,
    protocols: Sequence[str] = (),
    hosts: Mapping[str, str] | None = None,
    proxy: tuple[str, int] | None = None,
    bouncy_castle: bool = False,
    repeat: int = 1,
    post: bool = False,
    debug: str | None = None,
    properties: Mapping[str, str] | None = None,
    timeout: float = 60,
) -> JavaRun:
    """``target`` is a URL (HttpsURLConnection) or host:port (a plain SSLSocket, which checks no name).

    ``hosts`` maps names to addresses for this JVM alone; no other name resolves then. ``debug`` is the value of
    ``javax.net.debug``, such as ``ssl:handshake``.
    """
    with tempfile.TemporaryDirectory() as directory:
        given: dict[str, str] = {}
        if truststore:
            given |= {"javax.net.ssl.trustStore": str(truststore), "javax.net.ssl.trustStorePassword": password}
        if keystore:
            given |= {"javax.net.ssl.keyStore": str(keystore), "javax.net.ssl.keyStorePassword": keystore_password}
        if protocols:
            given["jdk.tls.client.protocols"] = ",".join(protocols)
        if hosts is not None:
            table = Path(directory) / "hosts"
            table.write_text(
                "".join(f"{ip} {name}\n" for name, ip in ({"localhost": "127.0.0.1"} | dict(hosts)).items())
            )
            given["jdk.net.hosts.file"] = str(table)
        if proxy:
            for scheme in ("http", "https"):
                given |= {f"{scheme}.proxyHost": proxy[0], f"{scheme}.proxyPort": str(proxy[1])}
            given["http.nonProxyHosts"] = ""  # exactly empty: any word here still bypasses loopback
        if debug:
            given["javax.net.debug"] = debug
        if bouncy_castle:
            given["jdk.tls.namedGroups"] = "secp256r1"  # else JSSE meets "BCXDHPublicKey cannot be cast" in TLS 1.3
        class_path = [_classes().name, *map(str, BOUNCY_CASTLE if bouncy_castle else ())]
        done = run(
            "java",
            *QUICK_START,
            *(f"-D{name}={value}" for name, value in (given | dict(properties or {})).items()),
            "-cp",
            ":".join(class_path),
            "HandshakeClient",
            target,
            *(["--repeat", str(repeat)] if repeat != 1 else []),
            *(["--post"] if post else []),
            *(["--provider", BOUNCY_CASTLE_PROVIDER] if bouncy_castle else []),
            timeout=timeout,
        )
    return JavaRun(tuple(_attempts(done.stdout)), done)


def _attempts(text: str) -> list[Attempt]:
    attempts: list[Attempt] = []
    lines = [(key, value) for key, found, value in (line.partition(": ") for line in text.splitlines()) if found]
    starts = [n for n, (key, _) in enumerate(lines) if key == "attempt"]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        said = lines[start:end]
        attempts.append(
            Attempt(
                ok=("result", "OK") in said,
                causes=tuple(value for key, value in said if key == "cause"),
                said={key: value for key, value in said if key not in {"cause", "peer"}},
                peers=tuple(value for key, value in said if key == "peer"),
            )
        )
    return attempts


def java_truststore(path: Path, *pems: Path, store_type: str = "PKCS12", password: str = PASSWORD) -> Path:
    """A trust store that a JVM takes, made by keytool: one made by openssl lacks Java's trusted-key attribute."""
    for n, pem in enumerate(pems):
        run(
            *("keytool", "-importcert", "-noprompt", "-alias", f"trusted-{n}", "-file", pem),
            *("-keystore", path, "-storetype", store_type, "-storepass", password),
            timeout=60,
        ).check()
    return path
