"""The excerpts of logs in the knowledge base articles, word for word: such pieces are what people have."""

from __future__ import annotations

import io
import subprocess
import sys
from typing import TYPE_CHECKING, BinaryIO

import pytest

from countersign.recorder.files.importing import ImportTrouble, import_files
from countersign.recorder.files.javalog import read_java_log
from countersign.recorder.recording import Status
from tests.recorder.javalog import logs_of_java as java

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PROBE = """\
Agent Log:
Worker-Standard:JavascriptProbe-05422d31db9c9050d6f9f9b2f396193f WARNING *** WARNING *** \
javax.net.ssl.SSLHandshakeException: sun.security.validator.ValidatorException: PKIX path building failed: \
java.security.cert.CertPathBuilderException: Unable to find certificate chain.
Caused by error in MID Server script include 'CSMIDServerRemoteFileImport' at line 23

Wrapper Log:
Worker-Standard:JavascriptProbe-05422d31db9c9050d6f9f9b2f396193f, SEND TLSv1.2 ALERT: fatal, description = \
certificate_unknown
Worker-Standard:JavascriptProbe-05422d31db9c9050d6f9f9b2f396193f, WRITE: TLSv1.2 Alert, length = 2
Worker-Standard:JavascriptProbe-05422d31db9c9050d6f9f9b2f396193f, called closeSocket()
Worker-Standard:JavascriptProbe-05422d31db9c9050d6f9f9b2f396193f, handling exception: \
javax.net.ssl.SSLHandshakeException: sun.security.validator.ValidatorException: PKIX path building failed: \
java.security.cert.CertPathBuilderException: Unable to find certificate chain.
"""

REQUEST = (
    'list of certificates returned on a lab environment: | "CertificateRequest": { | "certificate types": [...] |'
    ' "supported signature algorithms": [...] | "certificate authorities": [CN=CS Automation Lab Certificate Authority'
    " Intermediate, OU=CS Automation Lab Certificate Authority, O=CS Automation Lab, ST=Florida, C=US, CN=CS Automation"
    " Lab Certificate Authority Root, OU=CS Automation Lab Certificate Authority, O=CS Automation Lab, L=Orlando,"
    " ST=Florida, C=US, ... ] | } | ) In the above example we see both the Intermediate and Root certificates"
)
NAMES = (
    (
        "CN=CS Automation Lab Certificate Authority Intermediate,OU=CS Automation Lab Certificate Authority,"
        "O=CS Automation Lab,ST=Florida,C=US"
    ),
    (
        "CN=CS Automation Lab Certificate Authority Root,OU=CS Automation Lab Certificate Authority,"
        "O=CS Automation Lab,L=Orlando,ST=Florida,C=US"
    ),
)


def test_the_alert_of_a_probe_is_imported_and_whose_log_it_is_taken_for_is_said() -> None:
    recording = java.read_one(PROBE)
    assert (recording.outcome.status, recording.outcome.broken_by) == (Status.FAILED, "client")
    assert recording.outcome.alert == "certificate_unknown"
    assert "Unable to find certificate chain" in recording.outcome.text
    assert {"log.side", "stream.begin"} <= set(java.problems(recording))
    assert recording.legs[0].read().version is None


def test_a_log_that_tells_whose_it_is_is_taken_for_nobody_s() -> None:
    assert "log.side" not in java.problems(java.read_one(java.log("java8-untrusted.log")))


@pytest.mark.parametrize("text", [REQUEST, REQUEST.replace(" | ", "\n| "), REQUEST.replace(" | ", "\r\n")])
def test_a_request_without_the_line_above_it_is_imported_with_its_names(text: str) -> None:
    recording = java.read_one(text)
    assert java.told(recording) == [("server", "certificate_request", False)]
    assert recording.legs[0].read().requested_ca_texts == NAMES
    asked = java.fields(recording, "certificate_request")
    assert asked["certificate_types"] is None
    assert asked["signature_algorithms"] is None
    doubts = [problem.got for _, problem in recording.problems if problem.field == "log.certificate_authorities"]
    assert any("cut short" in doubt for doubt in doubts)
    assert recording.outcome.broken_by is None


def test_a_debug_log_without_messages_says_which_setting_prints_them(tmp_path: Path) -> None:
    path = tmp_path / "ssl.log"
    path.write_text(
        "javax.net.ssl|DEBUG|10|main|2026-11-21 13:19:39.376 UTC|SSLSocketImpl.java:577|duplex close of SSLSocket\n"
    )
    (trouble,) = import_files([path])
    assert isinstance(trouble, ImportTrouble)
    assert "ssl:handshake" in str(trouble)


class Repeated(io.RawIOBase):
    """A log as long as one likes, of which one piece is in memory."""

    def __init__(self, piece: bytes, times: int) -> None:
        self._piece, self._left, self._at = piece, times, 0

    def read(self, size: int = -1, /) -> bytes:
        out = bytearray()
        while self._left and (size < 0 or len(out) < size):
            part = self._piece[self._at : self._at + (size - len(out))]
            out += part
            self._at += len(part)
            if self._at == len(self._piece):
                self._left, self._at = self._left - 1, 0
        return bytes(out)


def peak_of(source: BinaryIO) -> tuple[int, int]:
    """How many recordings there are in it, and the most memory that reading it took."""
    import tracemalloc

    tracemalloc.start()
    try:
        count = sum(1 for _ in read_java_log(source, otherwise=java.DATED))
        return count, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def a_day_of_an_agent(lines: int = 200) -> bytes:
    noise = "".join(
        f"11/21/26 12:{n // 60 % 60:02}:{n % 60:02} ({n % 999:03}) Worker-Standard:Probe-{n:032x} DEBUG: done\n"
        for n in range(lines)
    )
    return (noise + java.log("jdk17-tls13-untrusted.log") + noise).encode()


def test_the_memory_that_a_log_takes_does_not_grow_with_it(scaled: Callable[[int], int]) -> None:
    piece = a_day_of_an_agent()
    read_java_log(io.BytesIO(piece), otherwise=java.DATED)
    few, small = peak_of(Repeated(piece, 3))  # type: ignore[arg-type]
    many, large = peak_of(Repeated(piece, scaled(400)))  # type: ignore[arg-type]
    assert (few, many) == (3, scaled(400))
    assert large < small + (4 << 20)


READING = """
import resource, sys
from datetime import UTC, datetime
from countersign.findings.explaining import explain
from countersign.recorder.files.javalog import read_java_log
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with open(sys.argv[1], "rb") as log:
    count = sum(1 for _ in read_java_log(log, otherwise=datetime.now(UTC)))
with open(sys.argv[1], "rb") as log:
    lines = explain(log).lines
print(count, lines, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.long
def test_a_log_of_200_megabytes_is_read_and_explained_in_16_more(tmp_path: Path) -> None:
    piece, path = a_day_of_an_agent(5_000), tmp_path / "wrapper.log"
    times = (200 << 20) // len(piece)
    with path.open("wb") as log:
        for _ in range(times):
            log.write(piece)
    done = subprocess.run([sys.executable, "-c", READING, path], capture_output=True, text=True, check=True)
    count, lines, kilobytes = map(int, done.stdout.split())
    assert count == times
    assert lines >= times * piece.count(b"\n")
    assert kilobytes < 16 << 10
