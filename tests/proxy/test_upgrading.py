"""STARTTLS through a running proxy: real clients, real servers, and the dialogue on the recording."""

from __future__ import annotations

import json
import shutil
import socket
import struct
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest

from countersign.proxy import Action, Address, Limits, Mode
from countersign.recorder.recording import LegRole, Status, to_json
from tests.peers.curl import curl
from tests.peers.java import PASSWORD, QUICK_START, SOURCE, java_truststore
from tests.peers.openssl import openssl_client
from tests.peers.postgres import PostgresServer, psql
from tests.peers.process import Background, run
from tests.proxy.running import RunningProxy
from tests.proxy.ways.starttls.dialogues import mysql_greeting
from tests.proxy.ways.starttls.test_real_clients import SERVERS, SMTP, directory
from tests.proxy.wire import Target, client_context, connect, connect_request, echo, server_context, silent, tls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.peers.certs import Lab


def mysql(connection: socket.socket) -> None:
    """Greets, and reads the request for TLS and nothing of what comes behind it."""
    connection.sendall(mysql_greeting())
    said = b""
    while len(said) < 36:
        came = connection.recv(36 - len(said))
        if not came:
            raise OSError("the client closed")
        said += came


def upgrading(serve: Callable[[socket.socket], None], lab: Lab) -> Target:
    secured = echo(server_context(lab.server))

    def handle(connection: socket.socket) -> None:
        serve(connection)
        secured(connection)

    return Target(handle)


def running(target: Address, starttls: str, **settings: Any) -> RunningProxy:
    return RunningProxy(**{"target": target, "verify": False, "starttls": starttls, **settings})


@pytest.mark.peer("openssl")
@pytest.mark.parametrize("auto", [False, True], ids=["named", "auto"])
@pytest.mark.parametrize("protocol", SERVERS)
def test_openssl_upgrades(protocol: str, lab: Lab, tmp_path: Path, *, auto: bool) -> None:
    name = protocol.removesuffix("-server")
    serve = mysql if protocol == "mysql" else SERVERS[protocol]
    with upgrading(serve, lab) as target, running(target.address, "auto" if auto else name) as proxy:
        client = openssl_client(
            f"127.0.0.1:{proxy.port}", "-starttls", protocol, "-name", "me.test",
            ca=proxy.root_file(tmp_path), send=b"hello\n", until="hello",
        )  # fmt: skip
        recording = proxy.recording()
    assert client.verify_code == 0, client.completed
    assert recording.outcome.status is Status.ESTABLISHED, recording.outcome
    assert {leg.role for leg in recording.legs} == {LegRole.CLIENT, LegRole.SERVER}
    assert recording.prelude["protocol"] == {"lmtp": "smtp"}.get(name, name)
    assert {turn["from"] for turn in recording.prelude["dialogue"]} == {"client", "server"}
    assert recording.problems == ()


@pytest.mark.peer("openssl")
def test_what_passes_through_is_watched_behind_the_dialogue(lab: Lab) -> None:
    with upgrading(SMTP, lab) as target, running(target.address, "smtp", action=Action.PASSTHROUGH) as proxy:
        client = openssl_client(
            f"127.0.0.1:{proxy.port}", "-starttls", "smtp", ca=lab.root_pem, send=b"hello\n", until="hello"
        )
        recording = proxy.recording()
    assert client.verify_code == 0
    assert [leg.role for leg in recording.legs] == [LegRole.THROUGH]
    assert "STARTTLS" in str(recording.prelude["dialogue"])


def test_auto_takes_a_client_that_begins_with_tls(lab: Lab) -> None:
    with Target(echo(server_context(lab.server))) as target, running(target.address, "auto") as proxy:
        with tls(proxy) as connection:
            connection.sendall(b"hello")
            assert connection.recv(10) == b"hello"
        assert proxy.recording().outcome.status is Status.ESTABLISHED


@pytest.mark.parametrize("name", ["smtp", "auto"])
def test_a_dialogue_behind_connect(lab: Lab, name: str) -> None:
    with upgrading(SMTP, lab) as target, RunningProxy(mode=Mode.CONNECT, verify=False, starttls=name) as proxy:
        with connect(proxy) as connection:
            connection.sendall(connect_request("127.0.0.1", target.address.port))
            until(connection, b"220 ready\r\n")
            connection.sendall(b"EHLO me\r\n")
            until(connection, b"STARTTLS\r\n")
            connection.sendall(b"STARTTLS\r\n")
            until(connection, b"220 go\r\n")
            with tls(proxy, client_context(), connection=connection) as secured:
                secured.sendall(b"hello")
                assert secured.recv(10) == b"hello"
        recording = proxy.recording()
    assert recording.prelude["answer"] == 200
    assert recording.prelude["protocol"] == "smtp"


def until(connection: socket.socket, words: bytes) -> bytes:
    said = b""
    while words not in said:
        came = connection.recv(4096)
        assert came, said
        said += came
    return said


def test_commands_behind_starttls_are_dropped_and_told(lab: Lab) -> None:
    """CVE-2011-0411."""
    heard: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        connection.sendall(b"220 ready\r\n")
        heard.append(connection.recv(4096))
        connection.sendall(b"220 go\r\n")
        echo(server_context(lab.server))(connection)

    with Target(serve) as target, running(target.address, "smtp") as proxy:
        with connect(proxy) as connection:
            until(connection, b"220 ready\r\n")
            connection.sendall(b"STARTTLS\r\nRSET\r\n")
            until(connection, b"220 go\r\n")
            with tls(proxy, client_context(), connection=connection) as secured:
                secured.sendall(b"hello")
                assert secured.recv(10) == b"hello"
        recording = proxy.recording()
    assert heard == [b"STARTTLS\r\n"]
    assert [problem.field for _, problem in recording.problems] == ["smtp.injection"]


def test_a_dialogue_without_tls_is_relayed_and_its_password_is_not_kept() -> None:
    def serve(connection: socket.socket) -> None:
        connection.sendall(b"+OK ready\r\n")
        while data := connection.recv(4096):
            connection.sendall(b"+OK\r\n" if b"\n" in data else b"")

    with Target(serve) as target, running(target.address, "pop3") as proxy:
        with connect(proxy) as connection:
            until(connection, b"ready\r\n")
            connection.sendall(b"USER me\r\n")
            until(connection, b"+OK\r\n")
            connection.sendall(b"PASS hunter2\r\n")
            until(connection, b"+OK\r\n")
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(10) == b""
        recording = proxy.recording()
    assert recording.outcome.status is Status.NOT_TLS
    assert "PASS (redacted)" in str(recording.prelude["dialogue"])
    assert "hunter2" not in json.dumps(to_json(recording))


def test_a_dialogue_in_which_nothing_moves_ends() -> None:
    with (
        Target(silent) as target,
        running(target.address, "smtp", limits=Limits(idle=0.3)) as proxy,
    ):
        with connect(proxy) as connection:
            assert connection.recv(10) == b""
        recording = proxy.recording()
    assert "nothing had moved for 0.3 s" in recording.outcome.text


# -- real servers --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def postgres(lab: Lab) -> Iterator[PostgresServer]:
    with PostgresServer(lab.server) as server:
        yield server


@pytest.mark.peer("initdb", "pg_ctl", "psql")
@pytest.mark.parametrize("name", ["postgres", "auto"])
@pytest.mark.parametrize(("sslmode", "version"), [("verify-full", "TLSv1.3"), ("disable", "none")])
def test_psql(postgres: PostgresServer, tmp_path: Path, name: str, sslmode: str, version: str) -> None:
    with running(postgres.address, name) as proxy:
        root = proxy.root_file(tmp_path)
        address = Address("127.0.0.1", proxy.port)
        done = psql(address, f"sslmode={sslmode} gssencmode=disable channel_binding=disable sslrootcert={root}")
        recording = proxy.recording()
    assert done.stdout.strip() == version, done
    expected = Status.ESTABLISHED if version != "none" else Status.NOT_TLS
    assert recording.outcome.status is expected, recording.outcome
    assert recording.prelude["protocol"] == "postgres"


@pytest.mark.peer("java", "javac", "keytool")
def test_jndi_upgrades(lab: Lab, tmp_path: Path) -> None:
    """R5."""
    with upgrading(directory, lab) as target, running(target.address, "ldap") as proxy:
        done = jndi(f"ldap://localhost:{proxy.port}", java_truststore(tmp_path / "t.p12", proxy.root_file(tmp_path)))
        recording = proxy.recording()
    assert done.stdout.startswith("protocol: TLSv1."), done
    assert recording.outcome.status in {Status.ESTABLISHED, Status.ABANDONED}  # it may say nothing inside of TLS
    assert "extendedRequest 1.3.6.1.4.1.1466.20037 (StartTLS)" in str(recording.prelude["dialogue"])


def jndi(url: str, store: Path) -> Any:
    trust = (f"-Djavax.net.ssl.trustStore={store}", f"-Djavax.net.ssl.trustStorePassword={PASSWORD}")
    return run("java", *QUICK_START, *trust, SOURCE.with_name("LdapStartTls.java"), url, timeout=90)


class Slapd:
    """OpenLDAP's server in a folder of its own: ``plain`` with StartTLS, ``secured`` is LDAPS."""

    def __init__(self, lab: Lab) -> None:
        self._home = Path(tempfile.mkdtemp(prefix="cs-ldap-"))
        ports = []
        with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
            ports = [one.getsockname()[1], other.getsockname()[1]]
        self.plain, self.secured = (Address("127.0.0.1", port) for port in ports)
        (self._home / "slapd.conf").write_text(
            f"TLSCertificateFile {lab.server.fullchain_pem}\nTLSCertificateKeyFile {lab.server.key_pem}\n"
            f"TLSCACertificateFile {lab.root_pem}\npidfile {self._home}/pid\n"
        )
        self._process = Background(
            shutil.which("slapd") or "/usr/sbin/slapd", "-d", "0", "-f", self._home / "slapd.conf",
            "-h", f"ldap://{self.plain} ldaps://{self.secured}",
        )  # fmt: skip

    def __enter__(self) -> Self:
        self._process.__enter__()
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection((self.plain.host, self.plain.port), 1).close()
                return self
            except OSError:
                if time.monotonic() > deadline or self._process.ended():
                    self.__exit__()
                    raise
                time.sleep(0.02)

    def __exit__(self, *_: object) -> None:
        self._process.stop()
        shutil.rmtree(self._home, ignore_errors=True)


@pytest.mark.peer("slapd", "java", "javac", "keytool", "curl")
def test_openldap_with_jndi_and_curl(lab: Lab, tmp_path: Path) -> None:
    """R5: StartTLS with a JVM, and LDAPS, which needs nothing."""
    with Slapd(lab) as server:
        with running(server.plain, "ldap") as proxy:
            root = proxy.root_file(tmp_path)
            done = jndi(f"ldap://localhost:{proxy.port}", java_truststore(tmp_path / "t.p12", root))
            assert done.stdout.startswith("protocol: TLSv1."), done
            assert proxy.recording().outcome.status in {Status.ESTABLISHED, Status.ABANDONED}
        with RunningProxy(target=server.secured, verify=False) as proxy:
            answer = curl(f"ldaps://localhost:{proxy.port}/?namingContexts?base", "-4", ca=proxy.root_file(tmp_path))
            recording = proxy.recording()
    assert answer.ok, answer.error
    assert recording.outcome.status is Status.ESTABLISHED


def test_a_reset_in_the_dialogue_ends_both_sides() -> None:
    ended: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        connection.sendall(b"220 ready\r\n")
        try:
            ended.append(connection.recv(10))
        except ConnectionResetError:
            ended.append(b"reset")

    with Target(serve) as target, running(target.address, "smtp") as proxy:
        connection = connect(proxy)
        until(connection, b"ready")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
        proxy.recording()
        for _ in range(500):
            if ended:
                break
            time.sleep(0.01)
    assert ended == [b"reset"]
