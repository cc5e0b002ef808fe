"""Sessions that are taken up again: on both legs or on none, and never behind another's certificate."""

from __future__ import annotations

import contextlib
import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from countersign.ca import Authority, Plan
from countersign.proxy import Address, Mtls
from countersign.proxy.sessions import Resumption
from countersign.recorder.recording import LegRole, Party, Recording, Status, to_json
from tests.peers.java import java_client, java_truststore
from tests.peers.openssl import OpensslServer, openssl_client
from tests.peers.process import Arg, Background, run
from tests.proxy.running import RunningProxy
from tests.proxy.wire import Client, Target, client_context, echo, rest, server_context, tls

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.peers.certs import Issued, Lab

VERSIONS = ("TLSv1_2", "TLSv1_3")
LEGS = (LegRole.CLIENT, LegRole.SERVER)


def der(issued: Issued) -> bytes:
    return issued.certificate.public_bytes(Encoding.DER)


def common_name(encoded: bytes) -> str:
    (name,) = x509.load_der_x509_certificate(encoded).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(name.value)


def resumed(recording: Recording) -> tuple[bool | None, ...]:
    """Whether the client leg resumed, and whether the server leg did."""
    legs = {leg["leg"]: leg["resumed"] for leg in to_json(recording)["legs"]}
    return tuple(legs.get(role.value) for role in LEGS)


class Visits:
    """One client that comes again and again, each time with the session that it had last, if it is to.

    ``visit()`` gives the recording of the visit; ``context`` holds the client's certificate, if it has one.
    """

    def __init__(self, proxy: RunningProxy, version: str | None = None, identity: Issued | None = None) -> None:
        self.proxy = proxy
        self.context = client_context(proxy.authority.root_pem.decode(), version=version)
        self.session: ssl.SSLSession | None = None
        if identity is not None:
            self.context.load_cert_chain(identity.fullchain_pem, identity.key_pem)

    def visit(self, *, again: bool = True, name: str = "localhost", goodbye: bool = True) -> Recording:
        before = len(self.proxy.kept.finished)
        with tls(self.proxy, self.context, name=name, session=self.session if again else None) as connection:
            connection.sendall(b"good morning\n")
            assert connection.recv(100)
            self.session = connection.session
            if goodbye:
                with contextlib.suppress(OSError):
                    connection.unwrap()
        return self.proxy.recordings(before + 1)[-1]


@contextmanager
def standing(
    lab: Lab, handle: Callable[[socket.socket], None] | None = None, **settings: Any
) -> Iterator[RunningProxy]:
    """A proxy in front of a server that resumes what it knows."""
    with (
        Target(handle or echo(server_context(lab.server))) as target,
        RunningProxy(target=target.address, roots=(der(lab.root),), **settings) as proxy,
    ):
        yield proxy


class Swapped:
    """An echo server whose context can be changed, so that it knows nothing of earlier sessions."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context

    def __call__(self, connection: socket.socket) -> None:
        echo(self.context)(connection)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_that_resumes_does_so_on_both_legs_and_the_recording_says_so(lab: Lab, version: str) -> None:
    with standing(lab) as proxy:
        client = Visits(proxy, version)
        seen = [client.visit() for _ in range(3)]
    assert [resumed(one) for one in seen] == [(False, False), (True, True), (True, True)]
    assert all(one.outcome.status is Status.ESTABLISHED for one in seen)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_that_does_not_resume_gets_full_handshakes_on_both_legs(lab: Lab, version: str) -> None:
    with standing(lab) as proxy:
        client = Visits(proxy, version)
        client.visit()
        assert resumed(client.visit(again=False)) == (False, False)


def test_a_client_without_tickets_resumes_by_session_id(lab: Lab) -> None:
    with standing(lab) as proxy:
        client = Visits(proxy, "TLSv1_2")
        client.context.options |= ssl.OP_NO_TICKET
        assert [resumed(client.visit()) for _ in range(3)] == [(False, False), (True, True), (True, True)]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("tickets", [True, False], ids=["tickets", "ids"])
def test_a_session_is_resumed_while_the_connection_that_it_is_from_is_still_open(
    lab: Lab,
    version: str,
    tickets: bool,  # noqa: FBT001
) -> None:
    with standing(lab) as proxy:
        client = Visits(proxy, version)
        if not tickets:
            client.context.options |= ssl.OP_NO_TICKET
        with tls(proxy, client.context) as first:
            first.sendall(b"good morning\n")
            assert first.recv(100)
            client.session = first.session
            assert resumed(client.visit()) == (True, True)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("tickets", [True, False], ids=["tickets", "ids"])
def test_a_session_is_declined_when_the_target_wants_a_full_handshake(lab: Lab, version: str, tickets: bool) -> None:  # noqa: FBT001
    handle = Swapped(server_context(lab.server))
    with standing(lab, handle) as proxy:
        client = Visits(proxy, version)
        if not tickets:
            client.context.options |= ssl.OP_NO_TICKET
        client.visit()
        handle.context = server_context(lab.issue("localhost"))
        seen = [client.visit() for _ in range(3)]
    assert [resumed(one) for one in seen] == [(False, False), (True, True), (True, True)]


def test_the_leaf_is_that_of_the_rotated_target_once_it_has_declined(lab: Lab) -> None:
    """Resumption hides a rotation from a client, here as without a proxy, and no longer than the target lets it."""
    handle = Swapped(server_context(lab.server))
    with standing(lab, handle) as proxy:
        client = Visits(proxy)
        client.visit()
        rotated = lab.issue("localhost")
        handle.context.load_cert_chain(rotated.fullchain_pem, rotated.key_pem)
        hidden = client.visit()
        shown = client.visit(again=False)
    assert resumed(hidden) == (True, True)
    assert [leg["certificates"] for leg in to_json(hidden)["legs"]] == [[], []]
    assert to_json(shown)["legs"][1]["certificates"][0]["der"]


def test_a_session_is_for_the_server_name_that_it_was_made_for(lab: Lab) -> None:
    leaf = lab.issue("localhost", "other.example")
    with standing(lab, echo(server_context(leaf))) as proxy:
        client = Visits(proxy)
        client.visit()
        client.context.check_hostname = False
        assert resumed(client.visit(name="other.example")) == (False, False)


def test_without_resumption_every_handshake_is_a_full_one(lab: Lab) -> None:
    with standing(lab, resumption=False) as proxy:
        for version in VERSIONS:
            client = Visits(proxy, version)
            seen = [client.visit() for _ in range(3)]
            assert [resumed(one) for one in seen] == [(False, False)] * 3


def test_what_is_forgotten_is_not_taken_up_again(lab: Lab) -> None:
    with standing(lab) as proxy:
        for version in VERSIONS:
            client = Visits(proxy, version)
            client.visit()
            proxy.run(forgotten(proxy))
            assert [resumed(client.visit()) for _ in range(2)] == [(False, False), (True, True)]


async def forgotten(proxy: RunningProxy) -> None:
    proxy.engine.forget_sessions()


def test_a_session_of_somebody_else_is_no_session_of_ours(lab: Lab) -> None:
    """What a client has from before there was a proxy means nothing to it, and the recording says that."""
    handle = echo(server_context(lab.server))
    with standing(lab, handle) as other, standing(lab, handle) as proxy:
        client = Visits(other)
        client.visit()
        client.proxy = proxy
        seen = client.visit()
    assert resumed(seen) == (False, False)
    assert any("none that this proxy has given" in note for note in seen.not_mirrored)


def test_a_target_without_sessions_makes_a_client_without_any(lab: Lab) -> None:
    context = server_context(lab.server, version="TLSv1_2")
    context.options |= ssl.OP_NO_TICKET
    context.set_ciphers("ECDHE")

    def handle(connection: socket.socket) -> None:
        fresh = server_context(lab.server, version="TLSv1_2")
        fresh.options |= ssl.OP_NO_TICKET
        echo(fresh)(connection)

    with standing(lab, handle) as proxy:
        client = Visits(proxy, "TLSv1_2")
        assert [resumed(client.visit()) for _ in range(2)] == [(False, False)] * 2


def test_a_session_outlives_a_connection_that_ends_without_goodbye(lab: Lab) -> None:
    """RFC 5246 7.2.1: since TLS 1.1 that is no reason not to resume."""

    def rude(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            secured.sendall(secured.recv(100))

    for version in VERSIONS:
        context = server_context(lab.server, version=version)
        with standing(lab, rude) as proxy:
            client = Visits(proxy)
            seen = [client.visit(goodbye=False) for _ in range(3)]
        assert [resumed(one) for one in seen] == [(False, False), (True, True), (True, True)]


def test_a_session_dies_with_a_connection_that_ends_with_a_fatal_alert(lab: Lab) -> None:
    """RFC 5246 7.2.2, RFC 8446 6.2. What the client sends last of its first visit cannot be opened by the proxy."""
    with standing(lab) as proxy:
        context = client_context(proxy.authority.root_pem.decode(), version="TLSv1_2")
        context.options |= ssl.OP_NO_TICKET
        with Client(proxy, context) as first:
            first.handshake()
            first.send(b"good morning\n")
            assert first.recv()
            first.connection.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
            assert rest(first.connection)
            session = first.tls.session
        broken = proxy.recordings(1)[-1]
        assert not proxy.engine.sessions._ids  # or the target would be asked to resume for nothing
        with tls(proxy, context, session=session) as connection:
            connection.sendall(b"x")
            assert not connection.session_reused
        assert broken.outcome.status is Status.ESTABLISHED or broken.outcome.broken_by is Party.CLIENT


# -- client certificates -----------------------------------------------------------------------------------------


class Who:
    """A server that asks for a certificate, resumes, and tells each client whom it takes it for."""

    def __init__(self, lab: Lab, clients: Authority, version: str) -> None:
        self.context = server_context(lab.server, version=version)
        self.context.load_verify_locations(cadata=clients.root_pem.decode())
        self.context.verify_mode = ssl.CERT_OPTIONAL

    def __call__(self, connection: socket.socket) -> None:
        with self.context.wrap_socket(connection, server_side=True) as secured:
            if secured.recv(100):
                shown = secured.getpeercert(binary_form=True)
                name = "nobody" if shown is None else common_name(shown)
                secured.sendall(f"{name} {'again' if secured.session_reused else 'first'}\n".encode())
                while secured.recv(100):
                    pass
            with contextlib.suppress(OSError):
                secured.unwrap()


class Caller:
    """A client that asks whom the target takes it for."""

    def __init__(self, proxy: RunningProxy, identity: Issued | None, version: str) -> None:
        self.proxy = proxy
        self.context = client_context(proxy.authority.root_pem.decode(), version=version)
        self.session: ssl.SSLSession | None = None
        if identity is not None:
            self.context.load_cert_chain(identity.fullchain_pem, identity.key_pem)

    def who(self) -> str:
        before = len(self.proxy.kept.finished)
        with tls(self.proxy, self.context, session=self.session) as connection:
            connection.sendall(b"who am I?\n")
            answer = connection.recv(100).decode().strip()
            self.session = connection.session
            with contextlib.suppress(OSError):
                connection.unwrap()
        self.proxy.recordings(before + 1)
        return answer


@pytest.mark.parametrize("version", VERSIONS)
def test_no_client_ever_inherits_the_certificate_of_another(lab: Lab, version: str) -> None:
    clients = Authority.make(Plan(name="countersign clients"))
    who = Who(lab, clients, version)
    with standing(lab, who, mtls=Mtls.RELAY, clients=clients) as proxy:
        alice, bob = [
            Caller(proxy, lab.issue(common_name=name, usages=("client",)), version) for name in ("alice", "bob")
        ]
        nobody = Caller(proxy, None, version)
        said = [one.who() for one in (alice, bob, nobody, bob, alice, nobody)]
    assert said == ["alice first", "bob first", "nobody first", "bob again", "alice again", "nobody again"]


@pytest.mark.parametrize("version", VERSIONS)
def test_who_does_not_take_up_the_session_that_it_offers_is_not_let_in_by_it(
    lab: Lab, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ticket is there to be heard by everybody. Here the client leg makes a full handshake in spite of it."""
    clients = Authority.make(Plan(name="countersign clients"))
    with standing(lab, Who(lab, clients, version), mtls=Mtls.RELAY, clients=clients) as proxy:
        alice = Caller(proxy, lab.issue(common_name="alice", usages=("client",)), version)
        assert alice.who() == "alice first"
        taken_up = Resumption.base.fget  # type: ignore[attr-defined]
        monkeypatch.setattr(Resumption, "base", property(lambda self: 1 - taken_up(self)))
        with contextlib.suppress(OSError), tls(proxy, alice.context, session=alice.session) as connection:
            connection.sendall(b"who am I?\n")
            assert connection.recv(100) == b""
        seen = proxy.recordings(2)[-1]
    assert resumed(seen) == (False, True)
    assert seen.outcome.status is Status.FAILED
    assert seen.outcome.broken_by is Party.CLIENT


def test_a_ticket_whose_owner_is_not_known_any_more_is_a_full_handshake_where_certificates_are_relayed(
    lab: Lab,
) -> None:
    clients = Authority.make(Plan(name="countersign clients"))
    with standing(lab, Who(lab, clients, "TLSv1_3"), mtls=Mtls.RELAY, clients=clients) as proxy:
        alice = Caller(proxy, lab.issue(common_name="alice", usages=("client",)), "TLSv1_3")
        said = [alice.who()]
        proxy.engine.sessions._tickets.clear()  # as in another process
        said.append(alice.who())
        seen = proxy.recordings(2)[-1]
    assert said == ["alice first"] * 2
    assert any("whose certificate" in note for note in seen.not_mirrored)


# -- programs ----------------------------------------------------------------------------------------------------


def legs_of(proxy: RunningProxy, count: int) -> list[tuple[bool | None, ...]]:
    return [resumed(one) for one in proxy.recordings(count)]


@pytest.mark.peer("openssl")
@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
@pytest.mark.parametrize("tickets", [True, False], ids=["tickets", "ids"])
def test_openssl_resumes_as_it_does_without_a_proxy(
    lab: Lab,
    tmp_path: Path,
    version: str,
    tickets: bool,  # noqa: FBT001
) -> None:
    """By session id in TLS 1.2 where it wants no ticket; in TLS 1.3 its tickets are good either way."""
    kept = tmp_path / "session.pem"
    more = () if tickets else ("-no_ticket",)
    with (
        OpensslServer(lab.server, version=version) as server,
        RunningProxy(target=Address("127.0.0.1", server.port), roots=(der(lab.root),)) as proxy,
    ):
        for flag in ("-sess_out", "-sess_in"):
            client = openssl_client(
                f"127.0.0.1:{proxy.port}",
                *(flag, kept, *more),
                ca=proxy.root_file(tmp_path),
                version=version,
                send=b"ping\n",
                until="gnip",
            )
            assert ("Reused, TLS" in client.output) is (flag == "-sess_in")
        assert legs_of(proxy, 2) == [(False, False), (True, True)]


@pytest.mark.peer("openssl")
def test_openssl_reconnects_five_times_with_one_session(lab: Lab, tmp_path: Path) -> None:
    with (
        OpensslServer(lab.server, version="TLSv1.2") as server,
        RunningProxy(target=Address("127.0.0.1", server.port), roots=(der(lab.root),)) as proxy,
    ):
        openssl_client(f"127.0.0.1:{proxy.port}", "-reconnect", ca=proxy.root_file(tmp_path), version="TLSv1.2")
        assert legs_of(proxy, 6) == [(False, False), *[(True, True)] * 5]


@pytest.mark.peer("curl")
def test_curl_resumes_for_its_second_url(tmp_path: Path) -> None:
    with RunningProxy() as proxy:
        url = f"https://localhost:{proxy.port}/"
        words: list[Arg] = [
            "curl",
            "-q",
            "-sS",
            "--noproxy",
            "*",
            "-H",
            "Connection: close",
            "--cacert",
            proxy.root_file(tmp_path),
        ]
        run(*words, url, url).check()
        assert legs_of(proxy, 2) == [(False, False), (True, True)]


@pytest.mark.peer("java")
@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_a_jvm_resumes_and_shows_no_certificate_then(tmp_path: Path, version: str) -> None:
    with RunningProxy() as proxy:
        trusted = java_truststore(tmp_path / "trusted.p12", proxy.root_file(tmp_path))
        ran = java_client(f"localhost:{proxy.port}", truststore=trusted, protocols=[version], repeat=2)
        assert ran.ok, ran.completed.stdout
        assert legs_of(proxy, 2) == [(False, False), (True, True)]


_NODE = """
const tls = require("tls"), fs = require("fs"), port = Number(process.argv[2]);
function visit(session, left) {
  let kept = session;
  const socket = tls.connect({port, host: "localhost", ca: fs.readFileSync(process.argv[1]), session}, () => {
    console.log("reused", socket.isSessionReused());
    socket.write("GET / HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n");
  });
  socket.on("session", (one) => { kept = one; });
  socket.on("data", () => socket.end());
  socket.on("close", () => { if (left) visit(kept, left - 1); });
}
visit(undefined, 1);
"""


@pytest.mark.peer("node")
def test_node_resumes_with_the_session_that_it_was_given(tmp_path: Path) -> None:
    with RunningProxy() as proxy:
        done = run("node", "-e", _NODE, proxy.root_file(tmp_path), str(proxy.port)).check()
        assert done.stdout.splitlines() == ["reused false", "reused true"]
        assert legs_of(proxy, 2) == [(False, False), (True, True)]


@pytest.mark.peer("gnutls-cli")
@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_gnutls_resumes(tmp_path: Path, version: str) -> None:
    with RunningProxy() as proxy:
        words: list[Arg] = [
            "gnutls-cli",
            "--resume",
            "--waitresumption",
            f"--priority=NORMAL:-VERS-ALL:+VERS-TLS{version}",
        ]
        words += [f"--x509cafile={proxy.root_file(tmp_path)}", "-p", str(proxy.port), "localhost"]
        with Background(*words) as client:
            client.wait_for(r"This is a resumed session")
            client.hang_up()
            client.wait()
        assert legs_of(proxy, 2) == [(False, False), (True, True)]


# -- 0-RTT -------------------------------------------------------------------------------------------------------


@pytest.mark.peer("openssl")
def test_early_data_is_refused_and_both_sides_of_it_are_noted(lab: Lab, tmp_path: Path) -> None:
    """A session from before there was a proxy lets the client try; the target's tickets would let it, too."""
    kept, early = tmp_path / "session.pem", tmp_path / "early"
    early.write_bytes(b"early\n")
    with (
        OpensslServer(lab.server, "-early_data", version="TLSv1.3", mode="plain") as server,
        RunningProxy(target=Address("127.0.0.1", server.port), roots=(der(lab.root),)) as proxy,
    ):
        ticket = "NewSessionTicket"
        openssl_client(server.address, "-sess_out", kept, ca=lab.root_pem, version="TLSv1.3", until=ticket)
        client = openssl_client(
            f"127.0.0.1:{proxy.port}",
            *("-sess_in", kept, "-early_data", early),
            ca=proxy.root_file(tmp_path),
            version="TLSv1.3",
            send=b"ping\n",
            until=f"(?s){ticket}.*{ticket}",
        )
        assert "Early data was rejected" in client.output
        seen = proxy.recording()
    assert seen.outcome.status is Status.ESTABLISHED
    assert resumed(seen) == (False, False)
    noted = " ".join(seen.not_mirrored)
    assert "0-RTT data is refused" in noted
    assert "the target takes 16384 bytes of 0-RTT data" in noted
