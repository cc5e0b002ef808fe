"""What clients and servers do beside TLS, and how the recording and its diagnosis tell it."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import pytest

from countersign.errors import EnvironmentFault
from countersign.findings.diagnosing import diagnose
from countersign.proxy import Address, Limits, Mode, Mtls
from countersign.proxy.ways.credentials import Credentials
from countersign.recorder.files.ladder import rows
from countersign.recorder.recording import FailureCode, Party, Recording, Status
from tests.proxy.running import AUTHORITY, RunningProxy
from tests.proxy.wire import Client, Target, client_context, connect, connect_request, echo, reset, rest, server_context

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.peers.certs import Lab

UNBIND = bytes.fromhex("30050201034200")  # RFC 4511 4.3


def first_finding(recording: Recording) -> str:
    return diagnose(recording).findings[0].id


def echoing(lab: Lab) -> Target:
    return Target(echo(server_context(lab.server)))


# -- TLS that is given up ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_a_client_that_goes_on_in_clear_is_told_from_one_that_breaks_a_record(
    lab: Lab,
    version: str,
    at_once: bool,  # noqa: FBT001
) -> None:
    """libldap behind StartTLS: what it thinks of the certificate it tells nobody, and its goodbye is in clear."""
    came, goes = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = client_context(version=version).wrap_bio(came, goes, server_hostname="localhost")
    with echoing(lab) as target, RunningProxy(target=target.address, verify=False) as proxy:
        with connect(proxy) as connection:
            while True:
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    connection.sendall(goes.read())
                    came.write(connection.recv(65536))
            last = goes.read()
            if at_once:
                connection.sendall(last + UNBIND)
            else:
                tls.write(b"hello")
                connection.sendall(last + goes.read())
                assert connection.recv(65536)
                connection.sendall(UNBIND)
            rest(connection)
        recording = proxy.recording()
    (failure,) = recording.failures
    assert (failure.code, failure.by) == (FailureCode.LEFT_TLS, Party.CLIENT)
    assert "an LDAP unbindRequest" in recording.outcome.text
    assert first_finding(recording) == "left-tls"


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_a_long_record_that_was_altered_is_not_taken_for_clear_text(lab: Lab, version: str) -> None:
    """The bytes with which it cannot be opened begin in its middle, and are like no record."""
    with (
        echoing(lab) as target,
        RunningProxy(target=target.address, verify=False) as proxy,
        Client(proxy, client_context(version=version)) as client,
    ):
        client.handshake()
        client.send(b"hello")
        assert client.recv()
        client.tls.write(os.urandom(16_000))
        altered = bytearray(client._out.read())
        altered[-1] ^= 1
        client.connection.sendall(altered)
        recording = proxy.recording()
    (failure,) = recording.failures
    assert (failure.code, failure.by) == (FailureCode.BROKEN_MESSAGE, Party.CLIENT)
    assert "OpenSSL says 'decryption failed or bad record mac'" in failure.text


def test_what_a_server_says_in_clear_behind_the_handshake_is_quoted(lab: Lab) -> None:
    """vsftpd, where the data connection does not resume the session."""

    def serve(connection: socket.socket) -> None:
        secured = server_context(lab.server).wrap_socket(connection, server_side=True)
        secured.recv(100)
        with socket.socket(fileno=secured.detach()) as bare:
            bare.sendall(b"522 SSL connection failed: session reuse required\r\n")
            rest(bare)

    with Target(serve) as target, RunningProxy(target=target.address, verify=False) as proxy:
        context = client_context()
        with connect(proxy) as raw, context.wrap_socket(raw, server_hostname="localhost") as client:
            client.sendall(b"LIST\r\n")
            rest(client)
        recording = proxy.recording()
    assert recording.outcome.broken_by is Party.TARGET
    assert "went on in clear: 522 SSL connection failed" in recording.outcome.text


# -- who is no client ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leaves", [reset, socket.socket.close])
@pytest.mark.parametrize(
    ("headers", "words"),
    [
        (("Proxy-Authorization: Basic dTp4",), "showed a user name and password that this proxy does not know (407)"),
        ((), "was asked for a user name and password (407), and left without showing any"),
    ],
)
def test_a_client_that_leaves_at_the_challenge_is_told_what_it_was_refused_for(
    headers: tuple[str, ...], words: str, leaves: Callable[[socket.socket], None]
) -> None:
    known = Credentials.parse(b"u:p\n", name="users")
    with RunningProxy(mode=Mode.CONNECT, credentials=known) as proxy:
        connection = connect(proxy)
        connection.sendall(connect_request("target.test", 443, *headers))
        assert connection.recv(12, socket.MSG_WAITALL) == b"HTTP/1.1 407"
        leaves(connection)
        recording = proxy.recording()
    assert recording.failures[0].code is FailureCode.NOT_AUTHENTICATED
    assert words in recording.outcome.text


LOCAL = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"


@pytest.mark.parametrize("leaves", [reset, socket.socket.close])
def test_a_health_check_of_the_balancer_is_no_failure(lab: Lab, leaves: Callable[[socket.socket], None]) -> None:
    with echoing(lab) as target, RunningProxy(target=target.address, verify=False, proxy_protocol=True) as proxy:
        connection = connect(proxy)
        connection.sendall(LOCAL)
        leaves(connection)
        recording = proxy.recording()
    assert (recording.outcome.status, recording.outcome.broken_by) == (Status.NOT_TLS, None)
    assert "as its health checks do" in recording.outcome.text
    assert first_finding(recording) == "health-check"


@pytest.mark.parametrize("protocol", ["smtp", "auto"])
def test_a_health_check_that_waits_for_a_greeting_has_it_at_once(protocol: str) -> None:
    """HAProxy's smtpchk over send-proxy-v2."""

    def serve(connection: socket.socket) -> None:
        connection.sendall(b"220 ready\r\n")
        rest(connection)

    settings: dict[str, Any] = {"proxy_protocol": True, "starttls": protocol, "limits": Limits(hello=1e6)}
    with Target(serve) as target, RunningProxy(target=target.address, **settings) as proxy:
        with connect(proxy) as connection:
            connection.sendall(LOCAL)
            assert connection.recv(11, socket.MSG_WAITALL) == b"220 ready\r\n"
        recording = proxy.recording()
    assert first_finding(recording) == "health-check"


def test_a_client_that_waits_for_a_greeting_is_told_of_starttls(lab: Lab) -> None:
    limits = Limits(hello=0.2)
    with echoing(lab) as target, RunningProxy(target=target.address, verify=False, limits=limits) as proxy:
        with connect(proxy) as connection:
            rest(connection)
        recording = proxy.recording()
    finding = diagnose(recording).findings[0]
    assert finding.id == "client-says-nothing"
    assert "--starttls" in finding.fix


def test_a_dialogue_that_stays_in_clear_is_on_the_ladder_and_diagnosed() -> None:
    def serve(connection: socket.socket) -> None:
        connection.sendall(b"+OK ready\r\n")
        while connection.recv(4096):
            connection.sendall(b"+OK\r\n")

    with Target(serve) as target, RunningProxy(target=target.address, starttls="pop3") as proxy:
        with connect(proxy) as connection:
            assert connection.recv(100)
            connection.sendall(b"USER me\r\n")
            assert connection.recv(100)
            connection.shutdown(socket.SHUT_WR)
            rest(connection)
        recording = proxy.recording()
    said = [row.details[0].text for row in rows(recording) if row.title == "in clear"]
    assert said == ["+OK ready", "USER me", "+OK"]
    finding = diagnose(recording).findings[0]
    assert finding.id == "stayed-in-clear"
    assert "{" not in " ".join((finding.text, *finding.evidence))


def test_plain_requests_that_were_forwarded_are_nothing_wrong() -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        rest(connection)

    with Target(serve) as target, RunningProxy(mode=Mode.CONNECT) as proxy:
        with connect(proxy) as connection:
            connection.sendall(
                f"GET http://{target.address}/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
            )
            assert rest(connection).endswith(b"ok")
        recording = proxy.recording()
    assert recording.outcome.text == "The client sent plain HTTP requests, which were forwarded: 1 of them."
    assert first_finding(recording) == "plain-http-forwarded"


# -- what interception did -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chosen", "severity"), [(b"SCRAM-SHA-256-PLUS p=tls-server-end-point,,", "cause"), (b"none", "note")]
)
def test_a_login_that_is_bound_to_the_channel_is_the_cause_where_it_is_chosen(
    lab: Lab, chosen: bytes, severity: str
) -> None:
    offered = b"SCRAM-SHA-256-PLUS"

    def serve(connection: socket.socket) -> None:
        with server_context(lab.server).wrap_socket(connection, server_side=True) as secured:
            secured.sendall(offered)
            secured.recv(100)

    with Target(serve) as target, RunningProxy(target=target.address, verify=False) as proxy:
        context = ssl.create_default_context(cadata=AUTHORITY.root_pem.decode())
        with connect(proxy) as raw, context.wrap_socket(raw, server_hostname="localhost") as client:
            assert client.recv(100) == offered
            client.sendall(chosen)
            rest(client)
        recording = proxy.recording()
    found = {one.id: one.severity.value for one in diagnose(recording).findings}
    assert found["channel-binding"] == severity


def test_an_address_to_dial_from_that_is_not_here_is_told_at_the_start() -> None:
    with (
        pytest.raises(EnvironmentFault, match=r"--bind-out 203\.0\.113\.7 is no address to dial from here"),
        RunningProxy(target=Address("127.0.0.1", 9), bind_out=ip_address("203.0.113.7")),
    ):
        pass


def test_who_was_not_asked_in_mid_connection_is_not_told_to_show_a_certificate(lab: Lab) -> None:
    def serve(connection: socket.socket) -> None:
        context = server_context(lab.server)
        context.load_verify_locations(cafile=str(lab.root_pem))
        context.post_handshake_auth, context.verify_mode = True, ssl.CERT_REQUIRED
        with context.wrap_socket(connection, server_side=True) as secured:
            secured.recv(100)
            secured.verify_client_post_handshake()
            secured.sendall(b"who are you?")
            secured.recv(100)

    context = client_context()
    context.post_handshake_auth = True
    with Target(serve) as target, RunningProxy(target=target.address, verify=False, mtls=Mtls.BYPASS) as proxy:
        with connect(proxy) as raw, context.wrap_socket(raw, server_hostname="localhost") as client:
            client.sendall(b"hello")
            with contextlib.suppress(ssl.SSLError):
                rest(client)
        recording = proxy.recording()
    assert (recording.outcome.broken_by, recording.outcome.alert) == (Party.TARGET, "certificate_required")
    finding = diagnose(recording).findings[0]
    assert finding.id == "mtls-stripped"
    assert "it did not ask the client (--mtls bypass)" in finding.text
