"""What BCJSSE logs through java.util.logging, of real handshakes with OpenSSL."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from countersign.recorder.recording import Status
from tests.peers.java import BOUNCY_CASTLE, PASSWORD, QUICK_START
from tests.peers.openssl import OpensslServer
from tests.peers.process import run
from tests.peers.witness import jvm_trust
from tests.recorder.javalog import logs_of_java as java

if TYPE_CHECKING:
    from countersign.recorder.recording import Recording
    from tests.peers.certs import Lab

LOGGING = """handlers=java.util.logging.ConsoleHandler
.level=OFF
org.bouncycastle.level=ALL
java.util.logging.ConsoleHandler.level=ALL
"""
NEEDED = pytest.mark.peer("java", "javac", "keytool", "openssl", "bcprov", "bctls")


@cache
def _classes() -> tempfile.TemporaryDirectory[str]:
    directory = tempfile.TemporaryDirectory(prefix="talking-peer-")
    run("javac", "-d", directory.name, Path(__file__).with_name("TalkingPeer.java"), timeout=90).check()
    return directory


def log_of_client(lab: Lab, folder: Path, version: str, *, trusted: bool = True, **server: Any) -> list[Recording]:
    root = lab.root if trusted else lab.issue(common_name="Elsewhere", signer=None, ca=True)
    logging, hosts = folder / "logging.properties", folder / "hosts"
    logging.write_text(LOGGING)
    hosts.write_text("127.0.0.1 server.lab.test\n127.0.0.1 localhost\n")
    given = {
        "javax.net.ssl.trustStore": jvm_trust(root.cert_pem.read_bytes()),
        "javax.net.ssl.trustStorePassword": PASSWORD,
        "java.util.logging.config.file": logging,
        "jdk.net.hosts.file": hosts,
    }
    with OpensslServer(lab.server, version=version, **server) as serving:
        done = run(
            *("java", *QUICK_START, *(f"-D{name}={value}" for name, value in given.items())),
            *("-cp", ":".join([_classes().name, *map(str, BOUNCY_CASTLE)]), "TalkingPeer"),
            *("client", "server.lab.test", str(serving.port), "--bc", "--quiet"),
            timeout=90,
        )
    return java.read(done.stderr)


@NEEDED
@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_an_untrusted_certificate_is_told_with_version_suite_and_the_reason(
    lab: Lab, tmp_path: Path, version: str
) -> None:
    (recording,) = log_of_client(lab, tmp_path, version, trusted=False)
    outcome = recording.outcome
    assert (outcome.status, outcome.broken_by, outcome.alert) == (Status.FAILED, "client", "certificate_unknown")
    reading = recording.legs[0].read()
    assert reading.version == version
    assert reading.cipher is not None
    assert recording.log["form"] == "bcjsse"
    assert "stream.begin" in java.problems(recording)
    assert reading.client_random is None


@NEEDED
def test_a_certificate_that_the_server_wanted_is_the_server_s_refusal(lab: Lab, tmp_path: Path) -> None:
    (recording,) = log_of_client(lab, tmp_path, "TLSv1.2", verify_ca=lab.root_pem)
    assert (recording.outcome.broken_by, recording.outcome.alert) == ("target", "handshake_failure")
