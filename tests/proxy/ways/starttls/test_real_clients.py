"""Real clients ask for TLS in each protocol, through a relay that does what the dialect says and nothing else.

The servers are a few lines each, as far as the clients need them, and a real PostgreSQL.
"""

from __future__ import annotations

import contextlib
import select
import socket
from typing import TYPE_CHECKING

import pytest

from countersign.proxy.ways.starttls import (
    Auto,
    Dialect,
    Forward,
    Settled,
    Transcript,
    Upgraded,
    Violation,
    dialect_named,
)
from countersign.recorder.wire.dialogue import EXTENDED_REQUEST, ldap_message
from countersign.recorder.wire.events import Side
from tests.peers.curl import curl
from tests.peers.java import PASSWORD, QUICK_START, SOURCE, java_truststore
from tests.peers.openssl import openssl_client
from tests.peers.postgres import PostgresServer, psql
from tests.peers.process import run
from tests.proxy.ways.starttls.dialogues import NS, ldap_answer, mysql_greeting
from tests.proxy.wire import Target, echo, server_context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from countersign.proxy import Address
    from countersign.proxy.ways.starttls import Event
    from tests.peers.certs import Lab


# -- servers, up to the upgrade ------------------------------------------------------------------------------------


def lines(greeting: bytes, answers: dict[bytes, bytes], last: bytes) -> Callable[[socket.socket], None]:
    """A server that greets, and answers each line by its first words; behind ``last`` comes TLS."""

    def handle(connection: socket.socket) -> None:
        connection.sendall(greeting)
        reader = connection.makefile("rb", buffering=0)
        while line := reader.readline():
            for words, answer in answers.items():
                if words in line.upper():
                    connection.sendall(answer.replace(b"TAG", line.split()[0]))
                    if words == last:
                        return
                    break
            else:
                raise OSError(f"nobody answers {line!r}")

    return handle


def exactly(*turns: tuple[bytes, int]) -> Callable[[socket.socket], None]:
    """A server that says these bytes and then reads that many of its client, in turn."""

    def handle(connection: socket.socket) -> None:
        reader = connection.makefile("rb")
        for saying, reading in turns:
            connection.sendall(saying)
            if len(reader.read(reading)) < reading:
                raise OSError("the client closed")

    return handle


def xmpp(connection: socket.socket) -> None:
    def until(end: bytes) -> None:
        said = b""
        while end not in said:
            came = connection.recv(1000)
            if not came:
                raise OSError("the client closed")
            said += came

    until(b">")
    connection.sendall(b"<?xml version='1.0'?><stream:stream xmlns='jabber:client' id='1' version='1.0' ")
    connection.sendall(b"xmlns:stream='http://etherx.jabber.org/streams'><stream:features>")
    connection.sendall(b"<starttls xmlns='" + NS + b"'/></stream:features>")
    until(b"starttls")
    connection.sendall(b"<proceed xmlns='" + NS + b"'/>")


SMTP = lines(
    b"220-mx.test\r\n220 ready\r\n",
    {
        b"EHLO": b"250-mx\r\n250-AUTH PLAIN\r\n250 STARTTLS\r\n",
        b"LHLO": b"250 STARTTLS\r\n",
        b"STARTTLS": b"220 go\r\n",
    },
    b"STARTTLS",
)
IMAP = lines(
    b"* OK ready\r\n",
    {b"CAPABILITY": b"* CAPABILITY IMAP4rev1 STARTTLS\r\nTAG OK\r\n", b"STARTTLS": b"TAG OK begin\r\n"},
    b"STARTTLS",
)
POP3 = lines(b"+OK ready\r\n", {b"CAPA": b"+OK\r\nSTLS\r\nUSER\r\n.\r\n", b"STLS": b"+OK begin\r\n"}, b"STLS")
FTP = lines(b"220 ready\r\n", {b"FEAT": b"211 none\r\n", b"AUTH ": b"234 begin\r\n"}, b"AUTH ")
LDAP = exactly((b"", 31), (ldap_answer(0, number=1), 0))
MYSQL = exactly((mysql_greeting(), 36))
POSTGRES = exactly((b"", 8), (b"S", 0))
NNTP = lines(
    b"200 news\r\n", {b"CAPABILITIES": b"101 \r\nSTARTTLS\r\n.\r\n", b"STARTTLS": b"382 begin\r\n"}, b"STARTTLS"
)
SIEVE = lines(b'"IMPLEMENTATION" "x"\r\n"STARTTLS"\r\nOK\r\n', {b"STARTTLS": b"OK begin\r\n"}, b"STARTTLS")

SERVERS = {
    "smtp": SMTP,
    "lmtp": SMTP,
    "imap": IMAP,
    "pop3": POP3,
    "ftp": FTP,
    "ldap": LDAP,
    "postgres": POSTGRES,
    "mysql": MYSQL,
    "xmpp": xmpp,
    "xmpp-server": xmpp,
}


# -- the relay -----------------------------------------------------------------------------------------------------


class Watched:
    """A relay whose only knowledge is the dialect's; ``events`` are what it said."""

    def __init__(self, make: Callable[[], Dialect], target: Address) -> None:
        self._make = make
        self._target = target
        self.events: list[Event] = []
        self.transcript = Transcript()
        self.protocol = ""

    def __call__(self, client: socket.socket) -> None:
        with socket.create_connection((self._target.host, self._target.port), 10) as target:
            dialect = self._make()
            ways = {client: (Side.CLIENT, target), target: (Side.SERVER, client)}
            while not dialect.upgraded:
                readable, _, _ = select.select([client, target], [], [], 10)
                if not readable:
                    raise OSError("nothing moves any more")
                for source in readable:
                    side = ways[source][0]
                    data = source.recv(65536)
                    if not data:
                        return
                    events = dialect.receive(side, data)
                    self.events += events
                    self.protocol = dialect.protocol
                    self.transcript.note(events, 0.0)
                    for event in events:
                        if isinstance(event, Forward):
                            (target if event.side is Side.CLIENT else client).sendall(event.data)
                        elif isinstance(event, Upgraded):
                            target.sendall(event.data)
                    if dialect.upgraded:
                        break
            while True:
                for source in select.select([client, target], [], [], 10)[0]:
                    data = source.recv(65536)
                    if not data:
                        return
                    ways[source][1].sendall(data)

    @property
    def problems(self) -> list[Violation]:
        return [event for event in self.events if isinstance(event, Violation)]


@contextlib.contextmanager
def relayed(
    serve: Callable[[socket.socket], None], lab: Lab, make: Callable[[], Dialect]
) -> Iterator[tuple[Watched, Address]]:
    secured = echo(server_context(lab.server))

    def handle(connection: socket.socket) -> None:
        serve(connection)
        secured(connection)

    with Target(handle) as target:
        watched = Watched(make, target.address)
        with Target(watched) as relay:
            yield watched, relay.address


# -- openssl s_client -starttls ------------------------------------------------------------------------------------


@pytest.mark.peer("openssl")
@pytest.mark.parametrize("auto", [False, True], ids=["named", "auto"])
@pytest.mark.parametrize("protocol", SERVERS)
def test_openssl_upgrades(protocol: str, lab: Lab, *, auto: bool) -> None:
    name = protocol.removesuffix("-server")
    make = Auto if auto else dialect_named(name)
    with relayed(SERVERS[protocol], lab, make) as (watched, address):
        client = openssl_client(
            str(address), "-starttls", protocol, "-name", "me.test", ca=lab.root_pem, send=b"hello\n", until="hello"
        )
    assert client.verify_code == 0, client.completed
    assert watched.problems == []
    assert watched.protocol == dialect_named(name).name
    assert isinstance(watched.events[-1], Upgraded)
    record = watched.transcript.record(watched.protocol)
    assert {turn["from"] for turn in record["dialogue"]} == {"client", "server"}


@pytest.mark.peer("openssl")
@pytest.mark.parametrize(("protocol", "serve"), [("nntp", NNTP), ("sieve", SIEVE)])
def test_openssl_upgrades_in_a_protocol_that_auto_does_not_know(
    protocol: str, serve: Callable[[socket.socket], None], lab: Lab
) -> None:
    with relayed(serve, lab, Auto) as (watched, address):
        client = openssl_client(str(address), "-starttls", protocol, ca=lab.root_pem, send=b"hello\n", until="hello")
    assert client.verify_code == 0, client.completed
    assert watched.protocol == "unknown"
    assert "STARTTLS" in str(watched.transcript.record("unknown"))


# -- curl ----------------------------------------------------------------------------------------------------------


@pytest.mark.peer("curl")
@pytest.mark.parametrize("auto", [False, True], ids=["named", "auto"])
@pytest.mark.parametrize("protocol", ["smtp", "imap", "pop3", "ftp"])
def test_curl_upgrades_before_it_shows_its_password(protocol: str, lab: Lab, *, auto: bool) -> None:
    make = Auto if auto else dialect_named(protocol)
    with relayed(SERVERS[protocol], lab, make) as (watched, address):
        curl(f"{protocol}://{address}/x", "--ssl-reqd", "-u", "me:hunter2", "--max-time", "2", ca=lab.root_pem)
    assert isinstance(watched.events[-1], Upgraded)
    assert watched.problems == []
    assert watched.protocol == protocol
    assert "hunter2" not in str(watched.transcript.record(protocol))


@pytest.mark.peer("curl")
def test_a_password_in_clear_behind_the_agreement_goes_nowhere(lab: Lab) -> None:
    """curl 7.88 binds in clear where TLS was agreed (ldap:// with --ssl-reqd). Others begin TLS, which is as good."""
    with relayed(LDAP, lab, dialect_named("ldap")) as (watched, address):
        curl(f"ldap://{address}/x", "--ssl-reqd", "-u", "me:hunter2", "--max-time", "2", ca=lab.root_pem)
    sent = b"".join(event.data for event in watched.events if isinstance(event, Forward))
    assert b"1.3.6.1.4.1.1466.20037" in sent
    assert b"hunter2" not in sent
    assert isinstance(watched.events[-1], Upgraded) or [problem.field for problem in watched.problems] == [
        "ldap.injection"
    ]


# -- a JVM ---------------------------------------------------------------------------------------------------------


def directory(connection: socket.socket) -> None:
    """A server that takes every bind and agrees to StartTLS."""
    while (message := ldap_message(data := connection.recv(4096))) is not None:
        assert data
        if message.operation == EXTENDED_REQUEST:
            connection.sendall(ldap_answer(0, number=message.number))
            return
        connection.sendall(b"\x30\x0c\x02\x01" + bytes((message.number,)) + b"\x61\x07\x0a\x01\0\x04\0\x04\0")
    raise OSError("the client sent something else")


@pytest.mark.peer("java", "javac", "keytool")
@pytest.mark.parametrize("make", [dialect_named("ldap"), Auto], ids=["named", "auto"])
def test_jndi_upgrades(make: type[Dialect], lab: Lab, tmp_path: Path) -> None:
    store = java_truststore(tmp_path / "trust.p12", lab.root_pem)
    with relayed(directory, lab, make) as (watched, address):
        done = run(
            "java",
            *QUICK_START,
            f"-Djavax.net.ssl.trustStore={store}",
            f"-Djavax.net.ssl.trustStorePassword={PASSWORD}",
            SOURCE.with_name("LdapStartTls.java"),
            f"ldap://localhost:{address.port}",
            timeout=90,
        )
    assert done.stdout.startswith("protocol: TLSv1."), done
    assert isinstance(watched.events[-1], Upgraded)
    assert watched.problems == []
    words = " ".join(turn["text"] for turn in watched.transcript.record(watched.protocol)["dialogue"])
    assert "extendedRequest 1.3.6.1.4.1.1466.20037 (StartTLS) extendedResponse 0 (success)" in words
    assert watched.protocol == "ldap"


# -- a real PostgreSQL ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def postgres(lab: Lab) -> Iterator[PostgresServer]:
    with PostgresServer(lab.server) as server:
        yield server


@pytest.mark.peer("initdb", "pg_ctl", "psql")
@pytest.mark.parametrize("make", [dialect_named("postgres"), Auto], ids=["named", "auto"])
@pytest.mark.parametrize(
    ("sslmode", "version", "last", "told"),
    [
        ("verify-full", "TLSv1.3", Upgraded, ["SSLRequest", "S (yes, TLS)"]),
        ("disable", "none", Settled, ["StartupMessage of protocol 3.0"]),
    ],
)
def test_psql_gets_through_with_tls_and_without(  # noqa: PLR0917
    postgres: PostgresServer, lab: Lab, make: type[Dialect], sslmode: str, version: str, last: type, told: list[str]
) -> None:
    watched = Watched(make, postgres.address)
    with Target(watched) as relay:
        done = psql(relay.address, f"sslmode={sslmode} gssencmode=disable sslrootcert={lab.root_pem}")
    assert done.stdout.strip() == version, done
    assert [type(event) for event in watched.events if isinstance(event, Upgraded | Settled)] == [last]
    assert watched.problems == []
    assert [turn["text"] for turn in watched.transcript.record("postgres")["dialogue"]] == told
