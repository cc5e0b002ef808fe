"""Captures of real peers, without keys: whose doing it was and why, as far as it can be seen, and not further."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest
from OpenSSL import SSL

from countersign.findings.diagnosing import Diagnosis, diagnose
from countersign.findings.subjects import NoTls, find
from countersign.recorder.files.importing import import_files
from countersign.recorder.recording import LegRole, Recording, Status
from countersign.recorder.wire.events import Side
from countersign.recorder.wire.secrets import KeyLog
from tests.peers.curl import curl
from tests.peers.java import PASSWORD, QUICK_START, SOURCE, _classes, java_client, java_truststore
from tests.peers.openssl import OpensslServer, openssl_client
from tests.peers.process import run
from tests.peers.relay import Relay
from tests.recorder.made_captures import Lost, Wire
from tests.recorder.tls_pairs import connected

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.peers.certs import Issued, Lab
    from tests.peers.process import Arg


AES_128, AES_256 = "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384"


def diagnosed(capture: Path) -> tuple[Recording, Diagnosis]:
    (recording,) = import_files([capture])
    assert isinstance(recording, Recording)
    return recording, diagnose(recording)


def told(capture: Path) -> tuple[str, str | None, str | None]:
    """How it ended, by whom, and the cause."""
    recording, found = diagnosed(capture)
    assert all(one.evidence for one in found.findings)
    by = recording.outcome.broken_by
    return recording.outcome.status.value, None if by is None else by.value, found.cause.id if found.cause else None


def by_curl(server: Issued, capture: Path, *args: Arg, ca: Path, **more: object) -> tuple[str, str | None, str | None]:
    with (
        OpensslServer(server, mode="www", **more) as target,  # type: ignore[arg-type]
        Relay(("127.0.0.1", target.port), pcap=capture) as relay,
    ):
        curl(f"https://localhost:{relay.port}/", *args, "--connect-to", f"::127.0.0.1:{relay.port}", ca=ca)
    return told(capture)


@pytest.mark.peer("curl", "openssl")
@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_client_that_refuses_the_name_behind_the_handshake_is_not_laid_to_the_target(
    lab: Lab, tmp_path: Path, version: str
) -> None:
    """curl says close_notify under encryption, and the target closes at that before it does."""
    other = lab.issue("other.example")
    found = by_curl(other, tmp_path / "capture", "--tls-max", version, ca=lab.root_pem)
    assert found == ("abandoned", "client", "wrong-host-name" if version == "1.2" else "abandoned")
    fine = by_curl(lab.server, tmp_path / "fine", "--tls-max", version, ca=lab.root_pem)
    assert fine == ("established", None, None)


@pytest.mark.peer("curl", "openssl")
def test_a_pin_behind_the_handshake_is_no_root_that_is_not_trusted(lab: Lab, tmp_path: Path) -> None:
    """Nothing is wrong with the chain, and a client that had no root for it would not have sent its Finished."""
    pin = ("--tls-max", "1.2", "--pinnedpubkey", f"sha256//{'A' * 43}=")
    assert by_curl(lab.server, tmp_path / "capture", *pin, ca=lab.root_pem) == ("abandoned", "client", "abandoned")


@pytest.mark.peer("tstclnt", "certutil", "openssl")
def test_a_client_that_judges_a_chain_behind_its_finished_is_shown_the_chains_faults(lab: Lab, tmp_path: Path) -> None:
    """NSS says its alert under encryption, and the target closes at that."""
    store, capture = tmp_path / "nss", tmp_path / "capture"
    store.mkdir()
    run("certutil", "-N", "-d", f"sql:{store}", "--empty-password").check()
    with (
        OpensslServer(lab.server, mode="www", version="TLSv1.2", send_chain=False) as target,
        Relay(("127.0.0.1", target.port), pcap=capture) as relay,
    ):
        run("tstclnt", "-h", "127.0.0.1", "-a", "localhost", "-p", str(relay.port), "-d", f"sql:{store}", timeout=30)
    recording, found = diagnosed(capture)
    assert recording.outcome.broken_by == "client"
    assert found.cause is not None
    assert found.cause.id == "missing-intermediate"


@pytest.mark.peer("curl", "openssl")
def test_a_target_that_wants_a_client_certificate_is_known_by_the_sizes_of_what_it_got(
    lab: Lab, tmp_path: Path
) -> None:
    strict = {"verify_ca": lab.root_pem, "version": "TLSv1.3"}
    assert by_curl(lab.server, tmp_path / "none", ca=lab.root_pem, **strict) == (
        "failed", "target", "no-client-certificate",
    )  # fmt: skip
    unfit = lab.issue("server.lab.test")  # for servers
    shown = ("--cert", unfit.fullchain_pem, "--key", unfit.key_pem)
    assert by_curl(lab.server, tmp_path / "unfit", *shown, ca=lab.root_pem, **strict) == (
        "failed", "target", "client-certificate-refused-unseen",
    )  # fmt: skip
    shown = ("--cert", lab.client.fullchain_pem, "--key", lab.client.key_pem)
    assert by_curl(lab.server, tmp_path / "fit", *shown, ca=lab.root_pem, **strict) == ("established", None, None)


@pytest.mark.peer("java", "javac", "openssl")
def test_a_jvm_that_refuses_under_encryption_is_named_and_what_it_refuses_is_not(lab: Lab, tmp_path: Path) -> None:
    capture = tmp_path / "capture"
    with (
        OpensslServer(lab.issue("localhost", signer=None), version="TLSv1.3") as target,
        Relay(("127.0.0.1", target.port), pcap=capture) as relay,
    ):
        java_client(relay.address, truststore=java_truststore(tmp_path / "trust.p12", lab.root_pem))
    assert told(capture) == ("failed", "client", "certificate-refused-unseen")
    _, found = diagnosed(capture)
    assert any("certificates of the conversation: they are encrypted" in text for text in found.unseen)


VERIFIER = SOURCE.with_name("RefusingVerifier.java")


@pytest.mark.peer("java", "javac", "openssl")
def test_a_jvm_that_refuses_the_name_behind_a_tls13_handshake_has_used_nothing(lab: Lab, tmp_path: Path) -> None:
    """It says user_canceled and close_notify, one alert more than others: told by sizes, with keys, and by its log."""
    capture, keys, log = tmp_path / "capture", tmp_path / "keys", tmp_path / "client.log"
    trusted = java_truststore(tmp_path / "trust.p12", lab.root_pem)
    store = {"trustStore": trusted, "trustStorePassword": PASSWORD}
    with (
        OpensslServer(lab.issue("other.example"), mode="www", version="TLSv1.3", keylog=keys) as target,
        Relay(("127.0.0.1", target.port), pcap=capture) as relay,
    ):
        done = run(
            *("java", *QUICK_START, "-cp", _classes().name, "-Djavax.net.debug=ssl:handshake"),
            *(f"-Djavax.net.ssl.{name}={value}" for name, value in store.items()),
            *(VERIFIER, f"https://localhost:{relay.port}/"),
            timeout=60,
        )
    log.write_text(done.stderr + done.stdout)
    assert told(capture) == ("abandoned", "client", "abandoned")
    opened = KeyLog()
    opened.add_text(keys.read_bytes())
    (with_keys,) = import_files([capture], keylog=opened)
    assert isinstance(with_keys, Recording)
    assert (with_keys.outcome.status, with_keys.outcome.broken_by) == (Status.ABANDONED, "client")
    (of_log,) = import_files([log])
    assert isinstance(of_log, Recording)
    assert "the client refused whom it had reached; the log gives as reason: " in of_log.outcome.text
    assert "HTTPS hostname wrong" in of_log.outcome.text
    assert told(log) == ("abandoned", "client", "client-says")


@pytest.mark.peer("openssl")
def test_what_is_too_narrow_in_an_offer_is_the_cause_and_what_everybody_has_is_not(lab: Lab, tmp_path: Path) -> None:
    for number, (server, client, cause) in enumerate(
        (
            (("-groups", "P-384"), ("-groups", "X25519"), "no-shared-group"),
            ((), ("-sigalgs", "RSA-PSS+SHA256"), "no-shared-signature-algorithm"),
            (
                ("-ciphersuites", AES_128),
                ("-ciphersuites", AES_256),
                "no-shared-cipher",
            ),
        )
    ):
        capture = tmp_path / f"{number}"
        with (
            OpensslServer(lab.server, "-tls1_3", *server) as target,
            Relay(("127.0.0.1", target.port), pcap=capture) as relay,
        ):
            openssl_client(relay.address, "-tls1_3", "-servername", "localhost", *client, ca=lab.root_pem)
        assert told(capture) == ("failed", "target", cause)


@pytest.mark.peer("openssl")
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_keys_that_were_shared_and_are_not_the_same_are_named(lab: Lab, tmp_path: Path, version: str) -> None:
    capture = tmp_path / "capture"
    with (
        OpensslServer(lab.server, "-psk", "aabb", version) as target,
        Relay(("127.0.0.1", target.port), pcap=capture) as relay,
    ):
        suites = ("-cipher", "PSK") if version == "-tls1_2" else ("-ciphersuites", AES_128)
        openssl_client(relay.address, "-psk", "aacc", version, *suites, ca=lab.root_pem)
    assert told(capture) == ("failed", "target", "unknown-psk")


@contextmanager
def saying(*answers: bytes) -> Iterator[int]:
    """A server of one connection that says the first by itself, and each other to what it is told; then it closes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                peer, _ = listener.accept()
                with peer:
                    peer.settimeout(20)
                    for number, answer in enumerate(answers):
                        if number:
                            peer.recv(65536)
                        peer.sendall(answer)
                    peer.recv(65536)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(30)


@pytest.mark.peer("openssl")
@pytest.mark.parametrize(
    ("answers", "starttls", "cause"),
    [
        ((b"220 mx ESMTP\r\n", b"250 mx\r\n", b"454 4.7.0 TLS not available\r\n"), "smtp", "starttls-declined"),
        ((b"* OK ready\r\n", b"* CAPABILITY IMAP4\r\n. OK\r\n", b". BAD what\r\n"), "imap", "starttls-declined"),
        ((b"+OK ready\r\n", b"-ERR no TLS here\r\n"), "pop3", "starttls-declined"),
        ((b"SSH-2.0-OpenSSH_9.2p1\r\n",), None, "target-not-tls"),
    ],
)
def test_a_server_that_will_have_no_tls_says_so_before_the_hello(
    tmp_path: Path, answers: tuple[bytes, ...], starttls: str | None, cause: str
) -> None:
    capture = tmp_path / "capture"
    with saying(*answers) as port, Relay(("127.0.0.1", port), pcap=capture) as relay:
        more = ("-starttls", starttls) if starttls else ()
        run("openssl", "s_client", "-connect", relay.address, *more, timeout=30)
    recording, found = diagnosed(capture)
    assert recording.outcome.status is Status.FAILED
    assert [one.id for one in found.findings if one.severity.value == "cause"] == [cause]


# -- before TLS, and without it ------------------------------------------------------------------------------------

CONNECT = (
    Side.CLIENT,
    b"CONNECT api.example:443 HTTP/1.1\r\nHost: api.example\r\nProxy-Authorization: Basic c2U=\r\n\r\n",
)
GET = (Side.CLIENT, b"GET /a?token=c2U= HTTP/1.1\r\nHost: localhost\r\n\r\n")


def of_file(path: Path, wire: Wire) -> tuple[Recording, Diagnosis]:
    path.write_bytes(wire.pcap())

    def stored(reference: str) -> Recording:
        raise AssertionError(reference)

    recording = find(str(path), stored, broken=True).recording
    return recording, diagnose(recording)


@pytest.mark.parametrize(
    ("answer", "by", "cause"),
    [
        (
            b"HTTP/1.1 403 Forbidden\r\nContent-Length: 70000\r\n\r\n" + b"<html>" * 15_000,
            "upstream-proxy",
            "no-tunnel",
        ),
        (b"HTTP/1.1 407 No\r\n\r\n", "upstream-proxy", "proxy-authentication"),
        (b"", "upstream-proxy", "no-tunnel"),
        (b"\x00\x01 password=c2U=", "upstream-proxy", "no-tunnel"),
    ],
)
def test_a_connect_that_gets_no_tunnel_is_a_recording_with_its_cause(
    tmp_path: Path, answer: bytes, by: str, cause: str
) -> None:
    said = [CONNECT, *([(Side.SERVER, answer)] if answer else [])]
    recording, found = of_file(tmp_path / "capture", Wire().conversation(said, ends=(Side.SERVER, Side.CLIENT)))
    assert (recording.outcome.status, recording.outcome.broken_by) == (Status.FAILED, by)
    assert recording.target == "api.example:443"
    assert found.cause is not None
    assert found.cause.id == cause
    assert "c2U=" not in str(recording)


def test_a_client_that_speaks_http_to_a_tls_port_is_known_by_the_alert_that_it_gets(tmp_path: Path) -> None:
    alert = (Side.SERVER, bytes.fromhex("1503010002020a"))
    recording, found = of_file(tmp_path / "capture", Wire().conversation([GET, alert]))
    assert recording.outcome.status is Status.NOT_TLS
    assert recording.prelude["not_tls"]["from_client"] == r"GET /a?(redacted) HTTP/1.1\r\nHost: (redacted)"
    assert found.cause is not None
    assert found.cause.id == "client-plain-http"


def test_what_is_no_try_of_tls_is_no_recording_and_tls_comes_before_a_refused_connect(tmp_path: Path) -> None:
    opened = (Side.SERVER, b"HTTP/1.1 200 OK\r\n\r\n")
    plain = Wire().conversation([CONNECT, opened, (Side.CLIENT, b"SSH-2.0-x\r\n"), (Side.SERVER, b"SSH-2.0-y\r\n")])
    plain.conversation([GET, (Side.SERVER, b"HTTP/1.1 200 OK\r\n\r\n")])
    with pytest.raises(NoTls):
        of_file(tmp_path / "plain", plain)
    refused = (Side.SERVER, b"HTTP/1.1 407 No\r\n\r\n")
    talk = connected(client_trusts=False)
    for several in (
        Wire().conversation(talk.log).conversation([CONNECT, refused]),
        Wire().conversation([CONNECT, refused]).conversation(talk.log),
    ):
        recording, _ = of_file(tmp_path / "several", several)
        assert recording.leg(LegRole.THROUGH) is not None


@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
def test_of_a_capture_without_the_servers_flight_nobody_is_accused(tmp_path: Path, version: int) -> None:
    """What is sealed behind the hole is no alert in clear, and what is missing was not left out."""
    talk = connected(version=version)
    flight = next(number for number, (side, _) in enumerate(talk.log) if side is Side.SERVER)
    said = [(side, Lost(data) if number == flight else data) for number, (side, data) in enumerate(talk.log)]
    recording, found = of_file(tmp_path / "capture", Wire().conversation(said))
    assert recording.outcome.broken_by is None
    assert found.cause is None or found.cause.id == "interrupted"
