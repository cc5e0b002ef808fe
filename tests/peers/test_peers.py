"""The drivers of real peers, against each other: what they tell about a handshake is what happened."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.peers.certs import Lab
from tests.peers.curl import PEER_FAILED_VERIFICATION, curl
from tests.peers.guard import children, is_loopback
from tests.peers.java import java_client, java_truststore
from tests.peers.openssl import OpensslServer, openssl_client
from tests.peers.process import Background
from tests.peers.relay import Relay
from tests.peers.tshark import Capture, tshark_handshakes

if TYPE_CHECKING:
    from collections.abc import Callable

LAB_NAME = "server.lab.test"
HOSTS = {LAB_NAME: "127.0.0.1"}

TLS13 = [
    ("client", "client_hello"),
    ("server", "server_hello"),
    ("server", "encrypted_extensions"),
    ("server", "certificate"),
    ("server", "certificate_verify"),
    ("server", "finished"),
    ("client", "finished"),
    ("server", "new_session_ticket"),
    ("server", "new_session_ticket"),
]
TLS12 = [
    ("client", "client_hello"),
    ("server", "server_hello"),
    ("server", "certificate"),
    ("server", "server_key_exchange"),
    ("server", "server_hello_done"),
    ("client", "client_key_exchange"),
    ("client", "finished"),
    ("server", "new_session_ticket"),
    ("server", "finished"),
]


@pytest.mark.peer("openssl")
@pytest.mark.parametrize(
    ("version", "expected"), [("TLSv1", TLS12), ("TLSv1.1", TLS12), ("TLSv1.2", TLS12), ("TLSv1.3", TLS13)]
)
def test_openssl_tells_the_same_messages_on_both_sides(lab: Lab, version: str, expected: list[tuple[str, str]]) -> None:
    with OpensslServer(lab.server, version=version) as server:
        client = openssl_client(server.address, ca=lab.root_pem, version=version, send=b"hello\n", until=r"^olleh$")
        server.wait_for("CONNECTION CLOSED")
        seen = [m for m in server.messages if m.content == "handshake"]
    assert client.verify_code == 0
    assert [(m.sender, m.type) for m in client.messages if m.content == "handshake"] == expected
    assert [m.raw for m in client.messages if m.content == "handshake"] == [m.raw for m in seen]
    assert all(len(m.raw) == m.length for m in seen)
    assert seen[1].version == version


@pytest.mark.peer("openssl")
def test_openssl_shows_a_hello_retry_request(lab: Lab) -> None:
    with OpensslServer(lab.server, groups="P-384") as server:
        client = openssl_client(server.address, "-groups", "X25519:P-384", ca=lab.root_pem)
    kinds = [(m.type, m.is_hello_retry_request) for m in client.messages[:5]]
    assert [k for k in kinds if k[0] != "change_cipher_spec"][:4] == [
        ("client_hello", False),
        ("server_hello", True),
        ("client_hello", False),
        ("server_hello", False),
    ]


@pytest.mark.peer("openssl")
def test_openssl_server_asks_for_a_client_certificate_and_refuses_none(lab: Lab) -> None:
    with OpensslServer(lab.server, verify_ca=lab.root_pem) as server:
        accepted = openssl_client(
            server.address, ca=lab.root_pem, identity=lab.client, send=b"hello\n", until=r"^olleh$"
        )
        refused = openssl_client(server.address, ca=lab.root_pem, send=b"hello\n", until=r"^olleh$", timeout=5)
    assert ("client", "certificate_verify") in [(m.sender, m.type) for m in accepted.messages]
    assert "olleh" in accepted.output
    assert refused.messages[-1].type == "alert"
    assert refused.messages[-1].raw == bytes([2, 116])  # certificate_required, RFC 8446 6.2


@pytest.mark.peer("openssl")
def test_openssl_server_sends_the_leaf_alone_when_asked(lab: Lab) -> None:
    with OpensslServer(lab.server, send_chain=False) as server:
        client = openssl_client(server.address, ca=lab.root_pem)
    assert client.completed.returncode != 0
    assert "unable to get local issuer certificate" in client.completed.stderr


@pytest.mark.peer("openssl")
def test_openssl_server_obeys_key_update(lab: Lab) -> None:
    with OpensslServer(lab.server, mode="plain", version="TLSv1.3") as server:
        with Background("openssl", "s_client", "-connect", server.address, "-msg") as client:
            client.wait_for("NewSessionTicket")
            server.command("k")
            client.wait_for(r"^<<< .*KeyUpdate")
        server.wait_for_message("KeyUpdate")


@pytest.mark.peer("openssl", "curl")
def test_curl_tells_status_version_and_refusal(lab: Lab, tmp_path: Path) -> None:
    keylog = tmp_path / "keys.log"
    with OpensslServer(lab.server, mode="www") as server:
        url = f"https://localhost:{server.port}/"
        trusted = curl(url, "--tlsv1.3", ca=lab.root_pem, keylog=keylog)
        untrusted = curl(url, ca=lab.client.cert_pem)
    assert (trusted.status, trusted.exit_code) == (200, 0)
    assert b"TLSv1.3" in trusted.body
    assert "CLIENT_HANDSHAKE_TRAFFIC_SECRET" in keylog.read_text()
    assert untrusted.exit_code == PEER_FAILED_VERIFICATION
    assert untrusted.status == 0
    assert "certificate" in untrusted.error


@pytest.mark.peer("openssl", "java", "javac", "keytool")
def test_a_jvm_trusts_what_its_store_holds_and_says_why_not(lab: Lab, tmp_path: Path) -> None:
    trusting = java_truststore(tmp_path / "trusting.p12", lab.root_pem)
    strange = java_truststore(tmp_path / "strange.jks", Lab(tmp_path, name="Other").root_pem, store_type="JKS")
    with OpensslServer(lab.server, mode="www") as server:
        url = f"https://{LAB_NAME}:{server.port}/"
        well = java_client(url, truststore=trusting, hosts=HOSTS, repeat=2)
        refused = java_client(url, truststore=strange, hosts=HOSTS)
        shown = server.messages
    assert well.ok, well.completed
    assert [a.said["status"] for a in well.attempts] == ["200", "200"]
    assert well.attempts[0].said["protocol"] == "TLSv1.3"
    assert len(well.attempts[0].peers) == 2
    assert not refused.ok
    assert refused.causes[-1].endswith("unable to find valid certification path to requested target")
    assert (shown[-1].sender, shown[-1].raw) == ("client", bytes([2, 46]))  # certificate_unknown, whatever the cause


@pytest.mark.peer("openssl", "java", "javac", "keytool")
def test_a_plain_jvm_socket_brings_its_own_certificate(lab: Lab, tmp_path: Path) -> None:
    trusting = java_truststore(tmp_path / "trusting.p12", lab.root_pem)
    own = lab.client.pkcs12(tmp_path / "own.p12")
    with OpensslServer(lab.server, verify_ca=lab.root_pem) as server:
        run = java_client(
            f"{LAB_NAME}:{server.port}", truststore=trusting, keystore=own, hosts=HOSTS, protocols=["TLSv1.2"]
        )
        types = [(m.sender, m.type) for m in server.messages]
    assert run.ok, run.completed
    assert run.attempts[0].said["protocol"] == "TLSv1.2"
    assert ("client", "certificate_verify") in types


@pytest.mark.peer("openssl", "java", "javac", "keytool", "bcprov")
def test_bouncy_castle_names_its_own_cause(lab: Lab, tmp_path: Path) -> None:
    strange = java_truststore(tmp_path / "strange.p12", Lab(tmp_path, name="Other").root_pem)
    with OpensslServer(lab.server, mode="www") as server:
        run = java_client(f"https://{LAB_NAME}:{server.port}/", truststore=strange, hosts=HOSTS, bouncy_castle=True)
    assert run.causes[-1].endswith("No issuer certificate for certificate in certification path found.")


@pytest.mark.peer("openssl", "tshark")
@pytest.mark.parametrize("version", ["TLSv1", "TLSv1.2", "TLSv1.3"])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_tshark_reads_what_the_relay_wrote_as_openssl_saw_it(lab: Lab, tmp_path: Path, version: str, host: str) -> None:
    capture, keylog = tmp_path / "relay.pcap", tmp_path / "keys.log"
    with OpensslServer(lab.server, version=version, keylog=keylog, host=host, verify_ca=lab.root_pem) as server:
        with Relay((host, server.port), pcap=capture, host=host) as relay:
            client = openssl_client(
                relay.address, ca=lab.root_pem, identity=lab.client, version=version, send=b"hello\n", until=r"^olleh$"
            )
        server.wait_for("CONNECTION CLOSED")
        told = server.messages
    seen = tshark_handshakes(capture, keylog)
    assert client.verify_code == 0
    assert [m[2:] for m in seen if m.content == "handshake"] == [
        (m.sender, m.content, m.type, m.length) for m in told if m.content == "handshake"
    ]
    assert {m.stream for m in seen} == {0}
    assert [m.sender for m in seen if m.content == "change_cipher_spec"] == (
        ["server", "client"] if version == "TLSv1.3" else ["client", "server"]
    )
    assert [m.length for m in seen if m.content == "alert"] == [2, 2]


@pytest.mark.peer("openssl", "tshark")
def test_tshark_without_keys_says_what_it_could_not_open(lab: Lab, tmp_path: Path) -> None:
    capture = tmp_path / "relay.pcap"
    with OpensslServer(lab.server, version="TLSv1.2") as server:
        with Relay(("127.0.0.1", server.port), pcap=capture) as relay:
            openssl_client(relay.address, ca=lab.root_pem, send=b"hello\n", until=r"^olleh$")
        server.wait_for("CONNECTION CLOSED")
    seen = tshark_handshakes(capture)
    assert [(m.sender, m.content) for m in seen if m.type == "encrypted"] == [
        ("client", "handshake"),
        ("server", "handshake"),
        ("client", "alert"),
        ("server", "alert"),
    ]


@pytest.mark.peer("openssl", "tshark", "tcpdump")
def test_a_capture_on_loopback_shows_what_the_relay_wrote(lab: Lab, tmp_path: Path) -> None:
    if not Capture.permitted():
        pytest.skip("no permission to capture on loopback")
    real, relayed, keylog = tmp_path / "real.pcap", tmp_path / "relay.pcap", tmp_path / "keys.log"
    with (
        OpensslServer(lab.server, version="TLSv1.3", keylog=keylog) as server,
        Capture(server.port, pcap=real),
        Relay(("127.0.0.1", server.port), pcap=relayed) as relay,
    ):
        openssl_client(relay.address, ca=lab.root_pem, send=b"hello\n", until=r"^olleh$")
        server.wait_for("CONNECTION CLOSED")
    seen = tshark_handshakes(real, keylog)
    assert seen
    assert [m[2:] for m in seen] == [m[2:] for m in tshark_handshakes(relayed, keylog)]


def test_the_relay_passes_half_close_and_reset(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as target:
        target.settimeout(5)
        with Relay(target.getsockname()[:2], pcap=tmp_path / "x.pcap") as relay:
            with socket.create_connection((relay.host, relay.port), timeout=5) as client:
                accepted, _ = target.accept()
                with accepted:
                    accepted.settimeout(5)
                    client.sendall(b"question")
                    client.shutdown(socket.SHUT_WR)
                    assert accepted.recv(100) == b"question"
                    assert accepted.recv(100) == b""
                    accepted.sendall(b"answer")
                    assert client.recv(100) == b"answer"
            client = socket.create_connection((relay.host, relay.port), timeout=5)
            accepted, _ = target.accept()
            with accepted:
                accepted.settimeout(5)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                client.close()
                with pytest.raises(ConnectionResetError):
                    accepted.recv(100)


@pytest.mark.parametrize(
    ("host", "stays"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", True),
        ("localhost", True),
        ("fe80::1%lo", False),
        ("192.0.2.1", False),
        ("::ffff:192.0.2.1", False),
        ("localhost.example", False),
    ],
)
def test_the_network_guard_knows_loopback(host: str, *, stays: bool) -> None:
    assert is_loopback(host) is stays


CARELESS = {
    "connect": "socket.create_connection(('192.0.2.1', 9), timeout=1)",
    "caught": "with contextlib.suppress(OSError): socket.create_connection(('192.0.2.1', 9), timeout=1)",
    "child": "subprocess.Popen(['sleep', '30'])",
    "thread": "threading.Thread(target=time.sleep, args=(4,), name='forgotten').start()",
}


@pytest.fixture
def inner(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], pytest.RunResult]:
    """A test session of its own, under our conftest, with this body as its only test."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    pytester.makeini("[pytest]\nmarkers =\n  peer\n  long\nasyncio_default_fixture_loop_scope = function\n")

    def run(source: str) -> pytest.RunResult:
        pytester.makepyfile(f"import contextlib, pytest, socket, subprocess, threading, time\n{source}\n")
        plugins = ("-p", "tests.conftest", "-p", "no:randomly", "-p", "no:cacheprovider")
        return pytester.runpytest_subprocess("-rsfE", *plugins)

    return run


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("connect", "tests stay on loopback"),
        ("caught", "the test left loopback: connect to"),
        ("child", "the test left behind process"),
        ("thread", "the test left behind thread forgotten"),
    ],
)
def test_a_careless_test_fails(inner: Callable[[str], pytest.RunResult], what: str, said: str) -> None:
    result = inner(f"def test_it():\n    {CARELESS[what]}")
    assert result.ret == 1
    result.stdout.fnmatch_lines([f"*{said}*"])
    if left := re.search(r"left behind process (\d+)", result.stdout.str()):
        os.kill(int(left[1]), signal.SIGTERM)  # what the inner session left is ours to end


def test_a_careful_test_passes(inner: Callable[[str], pytest.RunResult]) -> None:
    result = inner("def test_it():\n    subprocess.Popen(['sleep', '0.3']).wait()\n    threading.Thread().start()")
    assert result.ret == 0


@pytest.mark.parametrize(("required", "outcome"), [("", "skipped"), ("1", "errors")])
def test_a_missing_peer_skips_on_a_laptop_and_fails_in_ci(
    inner: Callable[[str], pytest.RunResult], monkeypatch: pytest.MonkeyPatch, required: str, outcome: str
) -> None:
    monkeypatch.setenv("REQUIRE_PEERS", required)
    monkeypatch.setenv("PATH", "")
    result = inner("@pytest.mark.peer('sslsplit')\ndef test_it(): pass")
    assert result.parseoutcomes() == {outcome: 1}
    result.stdout.fnmatch_lines(["*not on this machine: sslsplit*"])


def test_a_child_that_was_waited_for_is_gone() -> None:
    before = children()
    with subprocess.Popen(["sleep", "0"]) as child:
        pass
    assert child.pid not in children()
    assert children().keys() == before.keys()
    assert threading.active_count() >= 1
