"""Real servers looked at from outside."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import cycle
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from countersign.ca.recipes import catalogue
from countersign.ca.revocation.faults import Kind
from countersign.ca.revocation.judging import Answer, Verdict
from countersign.errors import EnvironmentFault, UserError
from countersign.findings.probing import Plan, census, probe
from countersign.findings.probing.handshaking import handshake
from countersign.findings.probing.instance import look_at_instance
from countersign.findings.probing.model import STARTTLS
from countersign.findings.probing.showing import show, show_census
from countersign.proxy import Mode
from countersign.proxy.orders import ChainOrders, Orders
from countersign.proxy.ways.credentials import Credentials
from countersign.recorder.recording import Status, from_json, to_json
from countersign.recorder.wire.text import printable
from tests.peers.openssl import OpensslServer
from tests.peers.postgres import PostgresServer
from tests.proxy.ordered import HOST, Scripted
from tests.proxy.running import AUTHORITY, RunningProxy

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.peers.certs import Lab


def plan(port: int, lab: Lab | None = None, **more: Any) -> Plan:
    roots = (lab.root.certificate.public_bytes(Encoding.DER),) if lab is not None else None
    given = {"host": "127.0.0.1", "port": port, "name": "localhost", "roots": roots, "revocation": False, **more}
    return Plan(**given)


@pytest.mark.peer("openssl")
def test_a_good_server_is_good_and_its_recording_is_whole(lab: Lab) -> None:
    with OpensslServer(lab.server, "-alpn", "http/1.1", mode="www") as server:
        found = probe(plan(server.port, lab))
    assert found.good, found.to_json()
    assert [one.facts.subject for one in found.chain] == ["CN=localhost,O=Lab", "CN=Lab Issuing CA,O=Lab"]
    reading = found.recording.legs[0].read()
    assert (reading.version, reading.alpn, reading.sni) == ("TLSv1.3", "http/1.1", "localhost")
    assert {"encrypted_extensions", "certificate_verify", "finished"} <= {one.type for one in reading.messages}
    assert found.recording.outcome.status is Status.ABANDONED  # a look is all that it was
    assert found.recording.legs[0].secrets == ()
    document = json.loads(json.dumps(to_json(found.recording)))
    assert to_json(from_json(document)) == document


@pytest.mark.peer("openssl")
def test_a_leaf_that_is_its_own_root_is_good_and_nothing_is_wrong_with_it(lab: Lab) -> None:
    alone = lab.issue("localhost", signer=None)
    own = (alone.certificate.public_bytes(Encoding.DER),)
    with OpensslServer(alone, mode="www") as server:
        trusted, stranger = probe(plan(server.port, roots=own)), probe(plan(server.port, lab))
    assert trusted.good
    assert not trusted.defects
    assert "The chain is good: nobody but the leaf vouches for it" in show(trusted, width=120)
    assert "wrong" not in show(trusted, width=120)
    assert not stranger.good
    assert [one.id for one in stranger.defects] == ["self-signed"]
    assert "What is wrong with it" in show(stranger, width=120)


@pytest.mark.peer("openssl")
@pytest.mark.parametrize(
    ("server", "versions", "ciphers", "groups"),
    [
        (
            ("-tls1_3", "-ciphersuites", "TLS_AES_256_GCM_SHA384", "-groups", "P-256:X25519"),
            ("TLSv1.3",),
            [("TLSv1.3", "TLS_AES_256_GCM_SHA384")],
            ("x25519", "secp256r1"),
        ),
        (
            ("-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384", "-groups", "P-384"),
            ("TLSv1.2",),
            [
                ("TLSv1.2", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
                ("TLSv1.2", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"),
            ],
            ("secp384r1",),
        ),
        (
            ("-no_tls1_3", "-no_tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA@SECLEVEL=0"),
            ("TLSv1.1", "TLSv1.0"),
            [
                ("TLSv1.1", "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA"),
                ("TLSv1.0", "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA"),
            ],
            None,
        ),
    ],
    ids=["1.3", "1.2", "1.0 and 1.1"],
)
def test_what_a_server_offers_is_found(
    lab: Lab,
    server: Sequence[str],
    versions: tuple[str, ...],
    ciphers: list[tuple[str, str]],
    groups: tuple[str, ...] | None,
) -> None:
    with OpensslServer(lab.server, *server) as target:
        found = probe(plan(target.port, lab, all_versions=True))
    assert found.seen.versions == versions
    assert set(found.seen.versions) | set(found.seen.refused_versions) == {
        "TLSv1.3",
        "TLSv1.2",
        "TLSv1.1",
        "TLSv1.0",
        "SSLv3",
    }
    assert found.seen.ciphers is not None
    assert sorted(found.seen.ciphers) == sorted(ciphers)
    if groups is not None:
        assert found.seen.groups == groups


@pytest.mark.peer("openssl")
def test_a_server_that_asks_for_a_certificate_says_whose_and_takes_ours(lab: Lab) -> None:
    with OpensslServer(lab.server, verify_ca=lab.root_pem) as server:
        without = probe(plan(server.port, lab))
        shown = probe(plan(server.port, lab, certificate=lab.client.fullchain_pem, key=lab.client.key_pem))
        with pytest.raises(UserError, match="cannot use the client certificate"):
            probe(plan(server.port, lab, certificate=lab.client.fullchain_pem, key=lab.server.key_pem))
        with pytest.raises(UserError, match="its key has to be in the same file, or named by --client-key"):
            probe(plan(server.port, lab, certificate=lab.client.fullchain_pem))
    assert without.recording.legs[0].read().requested_ca_texts == ("CN=Lab Root CA,O=Lab",)
    assert without.recording.outcome.alert == "certificate_required"
    assert "Asks for a client certificate, naming 1 authority" in show(without, width=100)
    assert shown.recording.outcome.alert is None


@pytest.mark.peer("openssl")
def test_without_a_name_none_is_sent(lab: Lab) -> None:
    with OpensslServer(lab.server) as server:
        found = probe(plan(server.port, lab, name=""))
    assert found.recording.legs[0].read().sni is None
    assert found.good  # nothing to compare names with


def test_an_intercepted_chain_is_said_to_be_one_and_what_is_wrong_with_it() -> None:
    chain = ChainOrders(recipe=catalogue()["sent-leaf-only"])
    with RunningProxy(director=Scripted([Orders(chain=chain)])) as proxy:
        found = probe(plan(proxy.port, name=HOST, roots=(AUTHORITY.root.der,)))
    assert not found.good
    assert found.product == "countersign"
    assert [one.id for one in found.defects] == ["missing-intermediate"]
    assert found.verdict is not None
    assert found.verdict.code == 20


@pytest.mark.parametrize(
    ("verdicts", "known"),
    [
        ((), True),
        ((("ocsp", "good"), ("crl", "no answer")), True),
        ((("ocsp", "unknown"), ("crl", "revoked")), True),
        ((("ocsp", "no answer"), ("crl", "unusable"), ("aia", "found")), False),
        ((("aia", "no answer"),), True),
    ],
)
def test_where_nobody_tells_whether_a_certificate_is_revoked_that_is_said(
    verdicts: tuple[tuple[str, str], ...], *, known: bool
) -> None:
    with RunningProxy() as proxy:
        found = probe(plan(proxy.port, name=HOST, roots=(AUTHORITY.root.der,)))
    answers = tuple(
        Answer("http://ocsp.lab.test/", Kind(kind), "GET", Verdict(verdict), "told so", datetime.now(UTC), 0.1)
        for kind, verdict in verdicts
    )
    leaf, *others = found.chain
    found = replace(found, chain=(replace(leaf, answers=answers), *others))
    assert found.to_json()["revocation_unknown"] == ([] if known else [0])
    shown = show(found, width=200)
    assert ("Whether it is revoked could not be found out (certificates 0)" in shown) is not known
    assert found.good is (("crl", "revoked") not in verdicts)


def test_nodes_that_show_other_chains_are_counted() -> None:
    script = [
        Orders(chain=ChainOrders(recipe=catalogue()[recipe] if recipe else None))
        for recipe in (None, "sent-leaf-only", None, None, "sent-leaf-only", None)
    ]
    with RunningProxy(director=Scripted(script)) as proxy:
        found = census(plan(proxy.port, name=HOST), 6)
    assert found.incomplete == 2
    assert sum(times for times, _ in found.chains) == 6
    assert {len(chain) for _, chain in found.chains} == {1, 2}
    assert show_census(found, width=90).startswith("6 connections, ")


@pytest.mark.peer("openssl")
def test_through_a_proxy_that_wants_a_password(lab: Lab) -> None:
    with OpensslServer(lab.server) as server:
        roots = (lab.root.certificate.public_bytes(Encoding.DER),)
        with RunningProxy(
            mode=Mode.CONNECT, roots=roots, credentials=Credentials.parse(b"me:secret\n", name="x")
        ) as proxy:
            found = probe(plan(server.port, via=f"http://me:secret@127.0.0.1:{proxy.port}"))
            with pytest.raises(EnvironmentFault, match=r"it answered HTTP/1.1 407") as refused:
                probe(plan(server.port, via=f"http://me:wrong@127.0.0.1:{proxy.port}"))
    assert found.product == "countersign"
    assert "wrong" not in str(refused.value)
    assert "secret" not in json.dumps(found.to_json())


# -- STARTTLS ------------------------------------------------------------------------------------------------------

LDAP_ASKED = bytes.fromhex("301d02010177188016") + b"1.3.6.1.4.1.1466.20037"
MYSQL_GREETING = b"\x0a8.0.0\0" + bytes(4) + b"12345678\0" + b"\xff\xff" + b"\x08\x02\0\xff\xdf" + bytes(11)
DIALOGUES: dict[str, list[tuple[bytes, bytes]]] = {
    "smtp": [(b"", b"220-a\r\n220 b\r\n"), (b"EHLO", b"250-x\r\n250 STARTTLS\r\n"), (b"STARTTLS", b"220 go\r\n")],
    "lmtp": [(b"", b"220 b\r\n"), (b"LHLO", b"250 STARTTLS\r\n"), (b"STARTTLS", b"220 go\r\n")],
    "imap": [(b"", b"* OK\r\n"), (b"a STARTTLS", b"* x\r\na OK go\r\n")],
    "pop3": [(b"", b"+OK\r\n"), (b"STLS", b"+OK\r\n")],
    "ftp": [(b"", b"220 x\r\n"), (b"AUTH TLS", b"234 go\r\n")],
    "ldap": [(LDAP_ASKED, bytes.fromhex("300c02010178070a010004000400"))],
    "postgres": [(b"\0\0\0\x08\x04\xd2\x16\x2f", b"S")],
    "mysql": [(b"", len(MYSQL_GREETING).to_bytes(3, "little") + b"\0" + MYSQL_GREETING), (b"\x20\0\0\x01", b"")],
    "xmpp": [(b"<?xml", b"<stream:stream><stream:features></stream:features>"), (b"<starttls", b"<proceed/>")],
}
REFUSED = {
    "smtp": b"454 no\r\n",
    "lmtp": b"454 no\r\n",
    "imap": b"a BAD no\r\n",
    "pop3": b"-ERR no\r\n",
    "ftp": b"534 no\r\n",
    "ldap": bytes.fromhex("300c02010178070a010204000400"),
    "postgres": b"N",
    "xmpp": b"<failure/>",
}


@contextmanager
def speaking(lab: Lab, script: list[tuple[bytes, bytes]]) -> Iterator[int]:
    """A server that has this dialogue and then TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(lab.server.fullchain_pem, lab.server.key_pem)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        connection.settimeout(10)
        with connection:
            for awaited, answer in script:
                if awaited:
                    # What no answer is awaited for may come together with the ClientHello (MySQL's request: 36 bytes).
                    assert connection.recv(4096 if answer else 36).startswith(awaited)
                connection.sendall(answer)
            try:
                with context.wrap_socket(connection, server_side=True) as tls:
                    tls.recv(100)
            except OSError:  # declined, or only looked at
                pass

    thread = threading.Thread(target=serve, name="speaking")
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        thread.join(15)
        listener.close()


@pytest.mark.parametrize("dialect", STARTTLS)
def test_tls_behind_a_dialogue_is_looked_at(lab: Lab, dialect: str) -> None:
    with speaking(lab, DIALOGUES[dialect]) as port:
        assert probe(plan(port, lab, starttls=dialect)).good


@pytest.mark.parametrize("dialect", REFUSED)
def test_a_server_that_declines_is_quoted(lab: Lab, dialect: str) -> None:
    script = [*DIALOGUES[dialect][:-1], (DIALOGUES[dialect][-1][0], REFUSED[dialect])]
    with speaking(lab, script) as port, pytest.raises(EnvironmentFault, match=f"does not begin TLS by {dialect}"):
        probe(plan(port, lab, starttls=dialect))


@pytest.mark.peer("initdb", "psql")
def test_a_real_postgresql_is_looked_at(lab: Lab) -> None:
    with PostgresServer(lab.server) as server:
        assert probe(plan(server.address.port, lab, starttls="postgres")).good


# -- what goes wrong -----------------------------------------------------------------------------------------------


def test_nobody_there_is_the_environments_fault() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with pytest.raises(EnvironmentFault, match="cannot reach "):
        probe(plan(port))
    with pytest.raises(UserError, match="--starttls takes one of"):
        plan(1, starttls="gopher")
    with pytest.raises(UserError, match="--via takes the URL of a proxy"):
        plan(1, via="ftp://x")


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x15\x03\x03\x00\x02\x02\x28", bytes(5000)]
)
def test_what_is_no_tls_is_a_recording_and_no_fault(answer: bytes) -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for _ in range(40):
            try:
                connection, _address = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

    thread = threading.Thread(target=serve, name="no tls")
    thread.start()
    try:
        found = probe(plan(listener.getsockname()[1], seconds=2))
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)
    assert not found.good
    assert found.recording.outcome.status is Status.FAILED
    assert all(line == printable(line) for line in show(found, width=80).splitlines())


def test_a_certificate_that_is_sent_twice_makes_no_path_longer() -> None:
    chain = ChainOrders(recipe=catalogue()["sent-twice"])
    with RunningProxy(director=Scripted([Orders(chain=chain)])) as proxy:
        found = probe(plan(proxy.port, name=HOST, roots=(AUTHORITY.root.der,)))
    assert found.good
    assert [one.id for one in found.defects] == ["repeated-certificate"]


def test_a_look_says_of_itself_what_is_of_use(lab: Lab) -> None:
    with RunningProxy() as proxy:
        trusted = show(probe(plan(proxy.port, name=HOST, roots=(AUTHORITY.root.der,))), width=200)
        others = show(probe(plan(proxy.port, lab, name=HOST)), width=200)
    assert "The handshake was finished.\n" in trusted
    assert "refuses the host name" not in trusted
    assert "give the root with --ca-file" in others
    assert "--untrusted" not in others


def test_hostile_names_are_escaped_where_they_are_shown() -> None:
    chain = ChainOrders(recipe=catalogue()["leaf-subject-with-escape-sequences"])
    with RunningProxy(director=Scripted([Orders(chain=chain)])) as proxy:
        found = probe(plan(proxy.port, name=HOST))
    hostile = replace(found, plan=replace(found.plan, name="\x1b[31mx"))
    assert all(line == printable(line) for line in show(hostile, width=80).splitlines())


@pytest.mark.parametrize(
    ("server", "answer", "adcv2", "mutual"),
    [
        ("snow_adc", (200, "true"), True, True),
        ("snow_adc", (200, "mixed"), True, True),
        ("snow_adc", (404, "true"), True, False),
        ("nginx", (302, ""), False, False),
    ],
)
def test_an_instances_load_balancer_is_asked(
    lab: Lab, server: str, answer: tuple[int, str], *, adcv2: bool, mutual: bool
) -> None:
    class Instance(BaseHTTPRequestHandler):
        server_version, sys_version = server, ""

        def version_string(self) -> str:
            return server

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            status, text = answer if self.path == "/adcv2/supports_tls" else (200, "")
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(lab.server.fullchain_pem, lab.server.key_pem)
    with HTTPServer(("127.0.0.1", 0), Instance) as http:
        http.socket = context.wrap_socket(http.socket, server_side=True)
        thread = threading.Thread(target=http.serve_forever, name="instance")
        thread.start()
        try:
            found = look_at_instance(plan(http.server_address[1], lab))
        finally:
            http.shutdown()
            thread.join(10)
    assert (found.adcv2, found.mutual) == (adcv2, mutual)
    assert server in found.lines[0]


def test_an_instance_that_answers_a_byte_at_a_time_is_cut_off_at_the_limit(lab: Lab) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(lab.server.fullchain_pem, lab.server.key_pem)

    def drip(listener: socket.socket) -> None:
        with context.wrap_socket(listener.accept()[0], server_side=True) as connection, suppress(OSError):
            while True:
                connection.sendall(b"H")
                time.sleep(0.1)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip, args=(listener,), daemon=True)
        thread.start()
        with pytest.raises(EnvironmentFault, match=r"cannot ask \S+ for /: no whole answer within 2 s"):
            look_at_instance(plan(listener.getsockname()[1], lab, seconds=2.0))
        thread.join(30)
    assert not thread.is_alive()


@contextmanager
def talking(*pieces: bytes, first: bytes = b"") -> Iterator[int]:
    """The port of a server that says ``first``, and then the pieces again and again."""

    def talk(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.sendall(first)
            for piece in cycle(pieces):
                connection.sendall(piece)

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=talk, args=(listener.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("protocol", "piece"),
    [("smtp", b"220-hello\r\n"), ("ftp", b"220-hello\r\n"), ("imap", b"* hello\r\n"), ("xmpp", b"<a/>\r\n")],
)
def test_a_dialogue_has_its_seconds_in_all(protocol: str, piece: bytes) -> None:
    with talking(piece * 100) as port, pytest.raises(EnvironmentFault, match=r"no answer in time|without end"):
        handshake(plan(port, starttls=protocol, seconds=0.3))


def test_a_packet_number_of_mysql_goes_round() -> None:
    greeting = b"\x0a8.0\0" + bytes(4 + 8 + 1) + b"\x00\x08" + bytes(40)
    with talking(bytes(100), first=len(greeting).to_bytes(3, "little") + b"\xff" + greeting) as port:
        found = handshake(plan(port, starttls="mysql", seconds=2.0))
    assert found.legs[0].messages[0].code == 1  # the dialogue was done


@pytest.mark.peer("openssl")
def test_a_server_that_talks_on_after_the_handshake_is_left(lab: Lab) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(lab.server.fullchain_pem, lab.server.key_pem)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def talk() -> None:
            with suppress(OSError), context.wrap_socket(listener.accept()[0], server_side=True) as connection:
                while True:
                    connection.sendall(bytes(1000))

        threading.Thread(target=talk, daemon=True).start()
        found = handshake(plan(listener.getsockname()[1], seconds=1.0))
    assert found.legs[0].read().version == "TLSv1.3"


@pytest.mark.parametrize(
    "given",
    [
        {"name": ".foo"},
        {"name": "a" * 64 + ".example"},
        {"host": "a..b"},
        {"via": "http://x:99999"},
        {"via": "http://[::1"},
        {"via": "http://a..b:1"},
    ],
)
def test_names_that_no_server_can_have_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"no host name|takes the URL"):
        plan(1, **given)
