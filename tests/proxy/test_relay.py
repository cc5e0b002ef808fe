"""What goes through: every version, ALPN, names, IPv6, half-close, bulk data both ways, passed through and relayed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any
from unittest.mock import MagicMock

import pytest
from OpenSSL import SSL

from countersign.proxy import Action, Address, Identity
from countersign.proxy._openssl import CertificateAsked, EndOfData, TlsTrouble
from countersign.proxy.relay import Relay, TlsDirection
from countersign.recorder.recording import Ending, Leg, LegRole, Party, Recording, Status, to_json
from countersign.recorder.wire.events import Content, Message, Side
from tests.proxy.running import RunningProxy
from tests.proxy.wire import (
    Client,
    Target,
    ask,
    client_context,
    client_hello,
    connect,
    echo,
    in_records,
    reset,
    rest,
    send,
    server_context,
    tls,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.peers.certs import Issued, Lab


def der(issued: Issued) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return issued.certificate.public_bytes(Encoding.DER)


def proxied(target: Target, lab: Lab, **settings: Any) -> RunningProxy:
    return RunningProxy(target=target.address, **{"roots": (der(lab.root),), **settings})


def leg_of(recording: Recording, role: LegRole) -> Leg:
    leg = recording.leg(role)
    assert leg is not None
    return leg


def sent(leg: Leg, side: Side, code: int) -> list[Message]:
    return [
        message
        for message in leg.messages
        if message.content is Content.HANDSHAKE and message.code == code and message.sender is side
    ]


def assert_established(recording: Recording) -> None:
    assert recording.outcome.status is Status.ESTABLISHED, recording.outcome
    assert recording.outcome.broken_by is None
    to_json(recording)


# -- what is negotiated ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1", "TLSv1_2", "TLSv1_3"])
def test_every_version_goes_through(lab: Lab, version: str) -> None:
    with Target(echo(server_context(lab.server, version=version))) as target, proxied(target, lab) as proxy:
        trusting = client_context(proxy.authority.root_pem.decode(), version=version)
        assert ask(proxy, trusting) == b"good morning\n"
        recording = proxy.recording()
    assert_established(recording)
    named = {"TLSv1": "TLSv1.0"}.get(version, version.replace("_", "."))
    assert {leg.read().version for leg in recording.legs} == {named}
    assert len({leg.read().cipher for leg in recording.legs}) == 1
    assert len({leg.read().group for leg in recording.legs}) == 1
    for leg in recording.legs:
        assert len(sent(leg, Side.CLIENT, 20)) == len(sent(leg, Side.SERVER, 20)) == 1


@pytest.mark.parametrize(
    ("offered", "had", "chosen"),
    [
        (["h2", "http/1.1"], ["h2", "http/1.1"], "h2"),
        (["h2", "http/1.1"], ["http/1.1"], "http/1.1"),
        (["http/1.1", "h2"], ["h2", "http/1.1"], "h2"),
        (["h2"], [], None),
        ([], ["h2"], None),
    ],
)
def test_the_targets_choice_of_alpn_is_the_clients(
    lab: Lab, offered: list[str], had: list[str], chosen: str | None
) -> None:
    context = server_context(lab.server)
    if had:
        context.set_alpn_protocols(had)
    with Target(echo(context)) as target, proxied(target, lab) as proxy:
        with tls(proxy, client_context(alpn=offered)) as connection:
            assert connection.selected_alpn_protocol() == chosen
            connection.sendall(b"x")
            connection.recv(1)
        recording = proxy.recording()
    assert_established(recording)
    assert [leg.read().alpn for leg in recording.legs] == [chosen, chosen]


@pytest.mark.parametrize("name", ["server.lab.test", "localhost", None])
def test_the_server_name_is_passed_on(lab: Lab, name: str | None) -> None:
    seen: list[str | None] = []
    context = server_context(lab.server)
    context.sni_callback = lambda _connection, given, _context: seen.append(given)
    with Target(echo(context)) as target, proxied(target, lab) as proxy:
        trusting = client_context(proxy.authority.root_pem.decode())
        assert ask(proxy, trusting, name=name) == b"good morning\n"
        recording = proxy.recording()
    assert seen == [name]
    assert recording.sni == name
    assert_established(recording)


def test_ipv6_on_both_sides(lab: Lab) -> None:
    with (
        Target(echo(server_context(lab.server)), host="::1") as target,
        proxied(target, lab, listen=Address("::1", 0)) as proxy,
    ):
        raw = socket.create_connection(("::1", proxy.port), 10)
        with tls(proxy, connection=raw) as connection:
            connection.sendall(b"six")
            assert connection.recv(10) == b"six"
        recording = proxy.recording()
    assert_established(recording)
    assert recording.client is not None
    assert recording.client.startswith("[::1]:")
    assert recording.target == f"[::1]:{target.address.port}"


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_a_second_connection_resumes_and_is_recorded_so(lab: Lab, version: str) -> None:
    with Target(echo(server_context(lab.server))) as target, proxied(target, lab) as proxy:
        context = client_context(version=version)
        with tls(proxy, context) as connection:
            connection.sendall(b"x")
            connection.recv(1)
            session = connection.session
        with tls(proxy, context, session=session) as connection:
            assert connection.session_reused
            connection.sendall(b"x")
            connection.recv(1)
        first, second = proxy.recordings(2)
    for recording in (first, second):
        assert_established(recording)
    for role in (LegRole.CLIENT, LegRole.SERVER):
        assert [leg_of(one, role).read().resumed for one in (first, second)] == [False, True]
    assert sent(leg_of(first, LegRole.CLIENT), Side.SERVER, 4)


def test_new_session_tickets_of_both_legs_are_recorded(lab: Lab) -> None:
    with Target(echo(server_context(lab.server))) as target, proxied(target, lab) as proxy:
        assert ask(proxy, client_context(version="TLSv1_3"))
        recording = proxy.recording()
    for leg in recording.legs:
        assert sent(leg, Side.SERVER, 4)
        assert all(message.encrypted for message in sent(leg, Side.SERVER, 4))


def test_a_client_certificate_of_ours_is_shown_to_a_target_that_asks(lab: Lab) -> None:
    context = server_context(lab.server)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(lab.root_pem)
    identity = Identity((der(lab.client), der(lab.intermediate)), lab.client.key)
    with Target(echo(context)) as target:
        with proxied(target, lab, identity=identity) as proxy:
            assert ask(proxy) == b"good morning\n"
            recording = proxy.recording()
        assert_established(recording)
        shown = [one.der for one in leg_of(recording, LegRole.SERVER).read().certificates if one.sender is Side.CLIENT]
        assert shown == list(identity.chain)
        for version in ("TLSv1_2", "TLSv1_3"):
            with proxied(target, lab) as proxy:
                with contextlib.suppress(ssl.SSLError, OSError):
                    ask(proxy, client_context(version=version))
                refused = proxy.recording()
            assert (refused.outcome.status, refused.outcome.broken_by) == (Status.FAILED, Party.TARGET)
            assert refused.outcome.leg is LegRole.SERVER
            assert "certificate" in refused.outcome.text


# -- half-close and bulk -----------------------------------------------------------------------------------------


def openssl_client(proxy: RunningProxy) -> tuple[SSL.Connection, socket.socket]:
    """A client that can say close_notify and go on reading."""
    raw = connect(proxy)
    raw.settimeout(None)
    connection = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), raw)
    connection.set_tlsext_host_name(b"localhost")
    connection.set_connect_state()
    connection.do_handshake()
    return connection, raw


def all_of(connection: SSL.Connection) -> bytes:
    found = bytearray()
    with contextlib.suppress(SSL.ZeroReturnError, SSL.SysCallError):
        while True:
            found += connection.recv(65536)
    return bytes(found)


def openssl_server(lab: Lab, handle: Callable[[SSL.Connection], None]) -> Callable[[socket.socket], None]:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.use_certificate_chain_file(str(lab.server.fullchain_pem))
    context.use_privatekey_file(str(lab.server.key_pem))

    def serve(raw: socket.socket) -> None:
        raw.settimeout(None)
        connection = SSL.Connection(context, raw)
        connection.set_accept_state()
        with contextlib.suppress(SSL.Error):
            connection.do_handshake()
            handle(connection)

    return serve


@pytest.mark.parametrize("action", list(Action))
def test_a_client_that_has_said_all_still_gets_the_whole_answer(lab: Lab, action: Action) -> None:
    answer = os.urandom(1_000_000)
    heard: list[bytes] = []

    def serve(connection: SSL.Connection) -> None:
        heard.append(all_of(connection))  # until the client's close_notify
        connection.sendall(answer)
        connection.shutdown()

    with Target(openssl_server(lab, serve)) as target, proxied(target, lab, action=action) as proxy:
        connection, raw = openssl_client(proxy)
        connection.sendall(b"that is all")
        connection.shutdown()
        assert all_of(connection) == answer
        raw.close()
        recording = proxy.recording()
    assert heard == [b"that is all"]
    assert_established(recording)


@pytest.mark.parametrize("action", list(Action))
def test_a_target_that_has_said_all_still_hears_the_client(lab: Lab, action: Action) -> None:
    question = os.urandom(1_000_000)
    heard: list[bytes] = []

    def serve(connection: SSL.Connection) -> None:
        connection.sendall(b"welcome")
        connection.shutdown()
        heard.append(all_of(connection))

    with Target(openssl_server(lab, serve)) as target, proxied(target, lab, action=action) as proxy:
        connection, raw = openssl_client(proxy)
        assert all_of(connection) == b"welcome"
        connection.sendall(question)
        connection.shutdown()
        raw.close()
        recording = proxy.recording()
    assert heard == [question]
    assert_established(recording)


@pytest.mark.parametrize("action", list(Action))
async def test_20_mb_each_way_at_the_same_time_arrive_unaltered(lab: Lab, action: Action) -> None:
    up, down = os.urandom(1 << 20) * 20, os.urandom(1 << 20) * 20
    heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, say: bytes, hear: int) -> bytes:
        writer.write(say)
        received, _ = await asyncio.gather(reader.readexactly(hear), writer.drain())
        return received

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.set_result(await exchange(reader, writer, down, len(up)))
        await reader.read()
        writer.close()

    async with (
        asyncio.timeout(30),
        await asyncio.start_server(serve, "127.0.0.1", ssl=server_context(lab.server)) as server,
    ):
        address = Address(*server.sockets[0].getsockname())
        with RunningProxy(target=address, verify=False, action=action) as proxy:
            reader, writer = await asyncio.open_connection(*proxy.address, ssl=client_context())
            received = await exchange(reader, writer, up, len(down))
            writer.close()
            await writer.wait_closed()
            assert received == down
            assert await heard == up
            recording = await asyncio.to_thread(proxy.recording)
    assert_established(recording)
    assert recording.from_client > len(up)
    if action is Action.INTERCEPT:
        for leg in recording.legs:
            assert (leg.count(Side.CLIENT).length, leg.count(Side.SERVER).length) == (len(up), len(down))


def test_a_client_that_leaves_without_goodbye_ends_the_targets_connection_too(lab: Lab) -> None:
    gone = threading.Event()

    def serve(connection: SSL.Connection) -> None:
        connection.sendall(connection.recv(100))
        with contextlib.suppress(SSL.Error):
            connection.recv(100)
        gone.set()

    with Target(openssl_server(lab, serve)) as target, proxied(target, lab) as proxy:
        connection, raw = openssl_client(proxy)
        connection.sendall(b"hello")
        assert connection.recv(100) == b"hello"
        raw.shutdown(socket.SHUT_RDWR)
        raw.close()
        assert gone.wait(10)
        assert_established(proxy.recording())


def all_in_clear(connection: socket.socket) -> None:
    while connection.recv(100):
        pass


@pytest.mark.parametrize("action", list(Action))
def test_a_target_that_resets_resets_the_client(lab: Lab, action: Action) -> None:
    def serve(connection: socket.socket) -> None:
        secured = server_context(lab.server).wrap_socket(connection, server_side=True)
        secured.sendall(secured.recv(100))
        time.sleep(0.05)
        reset(secured)

    with Target(serve) as target, proxied(target, lab, action=action) as proxy:
        with Client(proxy, client_context()) as client:
            client.handshake()
            client.send(b"hello")
            assert client.recv() == b"hello"
            with pytest.raises(ConnectionResetError):
                all_in_clear(client.connection)
        recording = proxy.recording()
    assert_established(recording)
    # Our own reset is no end of the client's bytes.
    assert [(end.sender, end.how) for leg in recording.legs for end in leg.ends] == [(Side.SERVER, Ending.RESET)]


@pytest.mark.parametrize("action", list(Action))
def test_a_session_that_is_hung_up_leaves_no_timer_that_holds_it(lab: Lab, action: Action) -> None:
    async def waiting() -> int:
        timers = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
        owners = [getattr(timer._callback, "__self__", None) for timer in timers if not timer.cancelled()]
        return sum(isinstance(owner, Relay) for owner in owners)

    with (
        Target(echo(server_context(lab.server))) as target,
        proxied(target, lab, action=action) as proxy,
        tls(proxy, client_context()) as connection,
    ):
        connection.sendall(b"hello")
        assert connection.recv(10) == b"hello"
        assert proxy.run(waiting()) == 1
        proxy.run(proxy.engine.hang_up())
        assert proxy.run(waiting()) == 0


class BrokenLegs:
    """A direction between two legs of which one raises at a step."""

    def __init__(self, breaks: str) -> None:
        self.relay = Relay(idle=60)
        self.source, self.destination = MagicMock(stands=True), MagicMock(stands=True)
        self.source.connection.read.side_effect = [5, 0]
        self.source.connection.holding = self.destination.connection.holding = 0
        self.source.patience = self.destination.patience = 0
        self.destination.stream.full = self.source.stream.full = False
        self.blamed: list[object] = []
        step = self.source.connection.read if breaks == "source" else self.destination.connection.pass_on
        step.side_effect = TlsTrouble("broken")
        self.direction = TlsDirection(
            self.relay,
            self.source,
            self.destination,
            buffers=MagicMock(),
            trouble=lambda leg, _trouble, _chunk: self.blamed.append(leg),
            asked=MagicMock(),
        )


@pytest.mark.parametrize("breaks", ["source", "destination"])
async def test_the_leg_that_breaks_is_the_one_that_is_blamed(breaks: str) -> None:
    legs = BrokenLegs(breaks)
    legs.direction.begin()
    broken, other = (legs.source, legs.destination) if breaks == "source" else (legs.destination, legs.source)
    assert legs.blamed == [broken]
    assert (broken.stands, other.stands) == (False, True)
    broken.stream.close.assert_called_once()
    other.stream.close.assert_not_called()
    assert legs.relay.finished.done()
    legs.source.stream.pour_into.assert_not_called()


@pytest.mark.parametrize("fails", [None, CertificateAsked, EndOfData, TlsTrouble("broken"), ValueError])
async def test_what_was_lent_is_taken_back_however_its_reading_ended(fails: Any) -> None:
    """What is left of it would be overwritten by the next bytes of any connection."""
    legs = BrokenLegs("source")
    legs.source.connection.read.side_effect = [5, 0] if fails is None else fails
    with contextlib.suppress(ValueError):
        legs.direction.data(memoryview(bytes(20_000)))
    legs.source.feed.assert_called_once()
    assert legs.source.feed.call_args.kwargs == {"lent": True}
    legs.source.connection.take_back.assert_called_once()


async def test_nothing_begins_when_the_other_direction_broke_already() -> None:
    legs = BrokenLegs("source")
    legs.relay.finish()
    legs.direction.begin()
    assert legs.blamed == []
    legs.source.stream.pour_into.assert_not_called()


# -- passed through ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_passed_through_the_client_sees_the_target_itself(lab: Lab, version: str) -> None:
    with Target(echo(server_context(lab.server))) as target, proxied(target, lab, action=Action.PASSTHROUGH) as proxy:
        context = client_context(lab.root_pem.read_text(), version=version)
        with tls(proxy, context) as connection:
            assert connection.getpeercert(binary_form=True) == der(lab.server)
            connection.sendall(b"x" * 1000)
            connection.recv(1000)
        recording = proxy.recording()
    assert_established(recording)
    (leg,) = recording.legs
    assert leg.role is LegRole.THROUGH
    assert recording.action == "passthrough"
    assert recording.sni == "localhost"
    assert leg.read().version == version.replace("_", ".")
    assert sent(leg, Side.CLIENT, 1)
    assert sent(leg, Side.SERVER, 2)
    if version == "TLSv1_2":
        assert [one.der for one in leg.read().certificates] == [der(lab.server), der(lab.intermediate)]


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_passed_through_a_refusal_is_the_clients(lab: Lab, version: str) -> None:
    with Target(echo(server_context(lab.server))) as target, proxied(target, lab, action=Action.PASSTHROUGH) as proxy:
        with pytest.raises(ssl.SSLCertVerificationError):
            tls(proxy, client_context(proxy.authority.root_pem.decode(), version=version))
        recording = proxy.recording()
    assert recording.outcome.status is Status.FAILED
    if version == "TLSv1_2":
        assert (recording.outcome.broken_by, recording.outcome.alert) == (Party.CLIENT, "unknown_ca")
    else:
        assert recording.outcome.broken_by in {Party.CLIENT, Party.UNKNOWN}


def test_passed_through_a_refusal_by_the_target_is_the_targets(lab: Lab) -> None:
    with (
        Target(echo(server_context(lab.server, version="TLSv1_3"))) as target,
        proxied(target, lab, action=Action.PASSTHROUGH) as proxy,
    ):
        with pytest.raises(ssl.SSLError):
            tls(proxy, client_context(version="TLSv1_2"))
        recording = proxy.recording()
    assert (recording.outcome.broken_by, recording.outcome.alert) == (Party.TARGET, "protocol_version")


def test_passed_through_a_target_that_cannot_be_reached(free_port: int) -> None:
    with RunningProxy(target=Address("127.0.0.1", free_port), action=Action.PASSTHROUGH) as proxy:
        assert send(proxy, in_records(client_hello())) == b""
        recording = proxy.recording()
    assert recording.outcome.broken_by is Party.TARGET
    assert "refuses TCP connections" in recording.outcome.text
    assert recording.sni == "localhost"
    assert sent(leg_of(recording, LegRole.THROUGH), Side.CLIENT, 1)


# -- what is not TLS ---------------------------------------------------------------------------------------------


def echo_in_clear(connection: socket.socket) -> None:
    while data := connection.recv(65536):
        connection.sendall(data)


def say_all(connection: socket.socket, data: bytes) -> None:
    connection.sendall(data)
    connection.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("action", list(Action))
def test_what_is_not_tls_is_relayed_both_ways_to_its_end(action: Action) -> None:
    payload = b"EHLO me\r\n" + os.urandom(500_000)
    with Target(echo_in_clear) as target, RunningProxy(target=target.address, action=action) as proxy:
        with connect(proxy) as connection:
            sender = threading.Thread(target=say_all, args=(connection, payload))
            sender.start()
            assert rest(connection) == payload
            sender.join()
        recording = proxy.recording()
    assert recording.outcome.status is Status.NOT_TLS
    assert (recording.from_client, recording.from_target) == (len(payload), len(payload))
    assert recording.action == "relay"


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\nAuthorization: Basic c2VjcmV0\r\n\r\n",
        b"GET / HTTP/1.1\r\nPROXY-AUTHORIZATION:c2VjcmV0\r\n\r\n",
        b"GET / HTTP/1.1\r\nCookie: sid=c2VjcmV0\r\n\r\n",
        b"USER me\r\nPASS c2VjcmV0\r\n",
        b"AUTH PLAIN c2VjcmV0\r\n",
        b"AUTH LOGIN\r\nbWU=\r\nc2VjcmV0\r\n",
        b"a1 LOGIN me c2VjcmV0\r\n",
        b"a1 AUTHENTICATE PLAIN\r\nc2VjcmV0\r\n",
        b"*2\r\n$4\r\nAUTH\r\n$8\r\nc2VjcmV0\r\n",
        b"AUTH c2VjcmV0\r\n",
        b"<auth mechanism='PLAIN'>c2VjcmV0</auth>",
        b"\x30\x1d\x02\x01\x01\x60\x18\x02\x01\x03\x04\x09cn=me,c=x\x80\x08c2VjcmV0",
        b"\0\0\0\x10\0\3\0\0user\0me\0p\0\0\0\x0dc2VjcmV0\0",
        b"GET /?password=c2VjcmV0 HTTP/1.1\r\n\r\n",
    ],
    ids=range(14),
)
def test_credentials_in_what_is_not_tls_are_not_kept(said: bytes) -> None:
    with Target(echo_in_clear) as target, RunningProxy(target=target.address) as proxy:
        assert send(proxy, said, finish=True) == said
        recording = proxy.recording()
    assert "c2VjcmV0" not in str(to_json(recording))
    assert recording.prelude["not_tls"]["from_client"]


def test_only_the_first_64_bytes_are_kept_of_what_is_not_tls() -> None:
    with Target(echo_in_clear) as target, RunningProxy(target=target.address) as proxy:
        with connect(proxy) as connection:
            for piece in (b"a" * 10, b"b" * 53, b"c", b"d" * 100):
                connection.sendall(piece)
                connection.recv(200, socket.MSG_WAITALL if len(piece) == 200 else 0)
        recording = proxy.recording()
    kept = recording.prelude["not_tls"]
    assert kept["from_client"] == kept["from_target"] == "a" * 10 + "b" * 53 + "c"
