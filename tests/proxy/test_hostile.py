"""What peers may do to stop the proxy, to make it grow or to make it spin: it goes on, and says what they did."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from countersign.ca.pem import to_pem
from countersign.proxy import Action, Limits
from countersign.recorder.budget import weigh
from countersign.recorder.recording import LegRole, Party, Recording, Status, to_json
from countersign.recorder.wire.events import Content, Side
from countersign.recorder.wire.keyschedule import next_traffic_secret, traffic_key
from tests.ca.odd_certificates import broken, odd, signer
from tests.proxy.running import RunningProxy
from tests.proxy.wire import (
    TLS12,
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
    server_context,
    tls,
)
from tests.recorder.tls_pairs import Sealer
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.peers.certs import Lab

CLOSE_NOTIFY = b"\x15\3\3\0\2\1\0"


def assert_nothing_broke(proxy: RunningProxy) -> None:
    for recording in proxy.kept.finished:
        assert not [failure for failure in recording.failures if failure.code == "internal"], recording.failures
        to_json(recording)


def cpu_in(seconds: float) -> float:
    """CPU time that the whole process takes while this thread sleeps."""
    before = time.process_time()
    time.sleep(seconds)
    return time.process_time() - before


def resident() -> int:
    """Bytes of this process that are in memory."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


# -- ends at every byte (T14) ------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
@pytest.mark.parametrize("how", ["close_notify", "half-close", "reset"])
def test_an_end_at_every_byte_of_the_clients_flight_ends_the_session(
    how: str, version: str, scaled: Callable[[int], int]
) -> None:
    """CVE-2024-32650."""
    with RunningProxy() as proxy:
        whole = _flights(proxy, version)
        count = sum(map(len, whole))
        offsets = range(0, count, count // scaled(count))
        done = len(proxy.recordings(1))
        for number, offset in enumerate(offsets):
            _end_at(proxy, version, offset, how)
            proxy.recordings(done + number + 1)
            until(lambda: proxy.engine.open_sessions == 0)
        time.sleep(0.05)
        assert cpu_in(0.2) < 0.1
        assert_nothing_broke(proxy)


def _flights(proxy: RunningProxy, version: str) -> list[bytes]:
    with Client(proxy, client_context(version=version)) as client:
        client.handshake()
        client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return client.flights


def _end_at(proxy: RunningProxy, version: str, offset: int, how: str) -> None:
    client = Client(proxy, client_context(version=version), at_most=offset)
    with contextlib.suppress(ssl.SSLError, OSError, EOFError):
        client.handshake()
        client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    with contextlib.suppress(OSError):
        if how == "close_notify":
            client.connection.sendall(CLOSE_NOTIFY)
        if how == "reset":
            reset(client.connection)
        else:
            client.connection.shutdown(socket.SHUT_WR)
            rest(client.connection)
    client.close()


# -- odd certificates (T16) --------------------------------------------------------------------------------------


def _flight_with(leaf: bytes) -> bytes:
    """A TLS 1.2 server's flight with these bytes as its certificate, and a signature that is none."""

    def message(kind: int, body: bytes) -> bytes:
        return bytes([kind]) + len(body).to_bytes(3, "big") + body

    hello = b"\3\3" + bytes(32) + b"\0" + b"\xc0\x2b" + b"\0"
    entry = len(leaf).to_bytes(3, "big") + leaf
    exchange = b"\3\0\x1d\x20" + bytes(range(32)) + b"\4\3\0\x08" + bytes(8)
    flight = message(2, hello) + message(11, len(entry).to_bytes(3, "big") + entry) + message(12, exchange)
    return in_records(flight + message(14, b""))


@pytest.mark.parametrize("verify", [True, False])
def test_broken_certificates_are_the_targets_fault(verify: bool, scaled: Callable[[int], int]) -> None:  # noqa: FBT001
    """CVE-2023-46724: whatever stands in a target's certificate, the session fails and the engine goes on."""
    shown = iter(broken(scaled(2500), seed=161 + verify))

    def show(connection: socket.socket) -> None:
        if leaf := next(shown, b""):
            connection.recv(65536)
            connection.sendall(_flight_with(leaf))
            rest(connection)

    hello = in_records(client_hello(versions=(TLS12,)))
    with Target(show) as target, RunningProxy(target=target.address, roots=(), verify=verify) as proxy:
        for _ in range(scaled(2500)):
            with connect(proxy) as connection:
                connection.sendall(hello)
                assert rest(connection)[:3] == b"\x15\3\3"
        recordings = proxy.recordings(scaled(2500))
        assert_nothing_broke(proxy)
    assert {recording.outcome.status for recording in recordings} == {Status.FAILED}
    assert {recording.outcome.broken_by for recording in recordings} <= {Party.TARGET, Party.PROXY}


def _contexts(folder: Path) -> Iterator[tuple[str, ssl.SSLContext]]:
    """Servers that show each of the odd certificates that OpenSSL can serve, with the key that belongs to it."""
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = folder / "key.pem"
    key.write_bytes(signer("EC P-256").key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    for number, (name, encoded) in enumerate(odd().items()):
        path = folder / f"{number}.pem"
        path.write_bytes(to_pem(encoded))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with contextlib.suppress(ssl.SSLError):
            context.load_cert_chain(path, key)
            yield name, context


def test_odd_certificates_that_a_server_can_show_are_mimicked_or_refused(tmp_path: Path) -> None:
    serving: list[ssl.SSLContext] = []
    names: list[str] = []

    def newest(connection: socket.socket) -> None:
        echo(serving[-1])(connection)

    with (
        Target(newest) as target,
        RunningProxy(target=target.address, roots=(), verify=False) as proxy,
    ):
        context = client_context()
        for name, served in _contexts(tmp_path):
            serving.append(served)
            names.append(name)
            with contextlib.suppress(ssl.SSLError, OSError):
                assert ask(proxy, context) in {b"good morning\n", b""}
        recordings = proxy.recordings(len(names))
        assert_nothing_broke(proxy)
    established = [recording for recording in recordings if recording.outcome.status is Status.ESTABLISHED]
    assert len(names) > 40
    assert len(established) > 30


def test_a_client_that_refuses_an_odd_certificate_is_quoted_safely(tmp_path: Path) -> None:
    """T9, T10: what is in a certificate reaches the outcome's sentence as printable text, in one line."""
    served = dict(_contexts(tmp_path))
    for name in ("escapes in the name", "C1 and bidi in the name", "NUL in the name"):
        with Target(echo(served[name])) as target, RunningProxy(target=target.address, roots=(), verify=False) as proxy:
            with pytest.raises(ssl.SSLError):
                tls(proxy, ssl.create_default_context())
            recording = proxy.recording()
        assert recording.outcome.broken_by is Party.CLIENT
        assert recording.outcome.text.isprintable()
        assert_nothing_broke(proxy)


# -- slow and greedy peers (T25, T26) ----------------------------------------------------------------------------


def test_slow_clients_hold_up_nobody_and_are_dropped_at_their_limit(lab: Lab) -> None:
    hello = in_records(client_hello())
    with Target(echo(server_context(lab.server))) as target, contextlib.ExitStack() as stack:
        proxy = stack.enter_context(RunningProxy(target=target.address, verify=False, limits=Limits(hello=2)))
        slow = [stack.enter_context(connect(proxy)) for _ in range(50)]
        took = []
        for byte in range(4):
            for connection in slow:
                connection.sendall(hello[byte : byte + 1])
            began = time.monotonic()
            assert ask(proxy, client_context()) == b"good morning\n"
            took.append(time.monotonic() - began)
        assert sorted(took)[2] < 1.5, "they have until two seconds"
        until(lambda: len(proxy.kept.finished) == 54)
        for connection in slow:
            assert connection.recv(10) == b""
        assert_nothing_broke(proxy)


@pytest.mark.parametrize("action", list(Action))
@pytest.mark.parametrize("reader", ["client", "target"])
def test_a_peer_that_never_reads_stops_the_other_and_costs_little(lab: Lab, action: Action, reader: str) -> None:
    total = 50_000_000
    sent = [0]
    measured = threading.Event()
    chunk = bytes(1 << 16)

    def pour(connection: ssl.SSLSocket) -> None:
        connection.settimeout(0.5)
        with contextlib.suppress(TimeoutError, OSError):
            while sent[0] < total:
                sent[0] += connection.send(chunk)

    def target_side(connection: socket.socket) -> None:
        small(connection)
        with server_context(lab.server).wrap_socket(connection, server_side=True) as secured:
            if reader == "client":
                pour(secured)
            measured.wait(10)

    with Target(target_side) as target, RunningProxy(target=target.address, verify=False, action=action) as proxy:
        warm = connect(proxy)
        warm.close()
        raw = connect(proxy)
        small(raw)
        with tls(proxy, client_context(), connection=raw) as client:
            before = resident()
            if reader == "target":
                pour(client)
            else:
                time.sleep(0.8)
            grown = resident() - before
            waiting = [
                stream._transport.get_write_buffer_size()
                for session in proxy.engine._sessions.values()
                for stream in (session._context.client, session._context.target)
                if stream is not None and stream._transport is not None
            ]
            measured.set()
            reset(client)
    assert 0 < sent[0] < total
    assert waiting
    assert max(waiting) <= 256 * 1024
    assert grown < 3_000_000, grown
    assert cpu_in(0.1) < 0.05


def small(connection: socket.socket) -> None:
    """Little room in the kernel, so that it is the proxy that has to wait."""
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        connection.setsockopt(socket.SOL_SOCKET, option, 65536)


# -- floods (T15) ------------------------------------------------------------------------------------------------

EMPTY_HANDSHAKE, EMPTY_DATA, EMPTY_ALERT = (bytes((kind, 3, 3, 0, 0)) for kind in (22, 23, 21))
CHANGE_CIPHER_SPEC = b"\x14\3\3\0\1\1"
WARNING = b"\x15\3\3\0\2\1\x5a"


@pytest.mark.parametrize("action", list(Action))
@pytest.mark.parametrize("first", [True, False], ids=["first", "after the hello"])
@pytest.mark.parametrize(
    "record",
    [EMPTY_HANDSHAKE, EMPTY_DATA, EMPTY_ALERT, CHANGE_CIPHER_SPEC, WARNING],
    ids=["empty handshake", "empty data", "empty alert", "ccs", "warning"],
)
def test_floods_in_clear(record: bytes, first: bool, action: Action) -> None:  # noqa: FBT001
    flood = record * 20_000

    def listen(connection: socket.socket) -> None:
        rest(connection)

    with Target(listen) as target, RunningProxy(target=target.address, verify=False, action=action) as proxy:
        before, memory = time.process_time(), resident()
        with connect(proxy) as connection, contextlib.suppress(OSError):
            connection.sendall((b"" if first else in_records(client_hello())) + flood)
            connection.shutdown(socket.SHUT_WR)
            rest(connection)
        recording = proxy.recording()
        took = time.process_time() - before
        assert_nothing_broke(proxy)
    assert took < 3, took
    assert resident() - memory < 20_000_000
    assert recording.outcome.status is Status.FAILED
    assert sum(len(leg.messages) for leg in recording.legs) <= 2_100
    assert len(recording.problems) <= 210


def _sealer(client: Client, keylog: Path) -> Sealer:
    lines = keylog.read_text().split("\n")
    secret = next(line.split()[2] for line in lines if line.startswith("CLIENT_TRAFFIC_SECRET_0"))
    return _Sealer256(bytes.fromhex(secret))


class _Sealer256(Sealer):
    """The same with AES-256-GCM, which OpenSSL likes best."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._sequence = 0
        self._key, self._iv = traffic_key(secret, 32, "sha384")

    def update(self) -> None:
        self.__init__(next_traffic_secret(self._secret, "sha384"))  # type: ignore[misc]


def _sealing(proxy: RunningProxy, folder: Path) -> tuple[Client, Sealer]:
    """A TLS 1.3 client that has just finished its handshake, and what seals records in its place."""
    keylog = folder / "keys.txt"
    context = client_context(version="TLSv1_3", keylog=keylog)
    client = Client(proxy, context)
    client.handshake()
    return client, _sealer(client, keylog)


@pytest.mark.parametrize("kind", ["empty data", "key update", "user_canceled"])
def test_floods_under_encryption(lab: Lab, tmp_path: Path, kind: str) -> None:
    with Target(echo(server_context(lab.server))) as target, RunningProxy(target=target.address, verify=False) as proxy:
        client, sealer = _sealing(proxy, tmp_path)
        flood = bytearray()
        for _ in range(5_000):
            if kind == "key update":
                flood += sealer.seal(22, b"\x18\0\0\1\0")
                sealer.update()
            elif kind == "empty data":
                flood += sealer.seal(23, b"")
            else:
                flood += sealer.seal(21, b"\1\x5a")
        memory, before = resident(), time.process_time()
        with contextlib.suppress(OSError):
            client.connection.sendall(bytes(flood))
            client.connection.shutdown(socket.SHUT_WR)
            rest(client.connection)
        client.close()
        recording = proxy.recording()
        took = time.process_time() - before
        assert_nothing_broke(proxy)
        assert ask(proxy, client_context()) == b"good morning\n"
    assert took < 6, took
    assert resident() - memory < 20_000_000
    leg = recording.leg(LegRole.CLIENT)
    assert leg is not None
    assert len(leg.messages) <= 2_000


def test_a_target_that_floods_with_tickets_is_kept_in_part_and_said_to_be(lab: Lab, tmp_path: Path) -> None:
    """A session's recording stays a few megabytes, says what is not in it, and still tells how the session ended."""
    keylog = tmp_path / "target.keys"
    context = server_context(lab.server, version="TLSv1_3")
    context.num_tickets = 0  # so that our record is the first under the traffic keys
    context.keylog_filename = str(keylog)
    count, body = 120, struct.pack("!II", 7200, 1) + b"\x01a" + struct.pack("!H", 60_000) + bytes(60_000) + b"\0\0"
    ticket = b"\x04" + len(body).to_bytes(3, "big") + body

    def flood(connection: socket.socket) -> None:
        into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
        server = context.wrap_bio(into, out, server_side=True)
        while True:
            with contextlib.suppress(ssl.SSLWantReadError):
                server.do_handshake()
                break
            connection.sendall(out.read())
            into.write(connection.recv(65536))
        connection.sendall(out.read())
        secret = next(line for line in keylog.read_text().split("\n") if line.startswith("SERVER_TRAFFIC_SECRET_0"))
        sealer = _Sealer256(bytes.fromhex(secret.split()[2]))
        for _ in range(count):
            connection.sendall(
                b"".join(sealer.seal(22, ticket[at : at + 16_000]) for at in range(0, len(ticket), 16_000))
            )
        connection.sendall(sealer.seal(21, b"\2\x30"))
        rest(connection)

    with Target(flood) as target, RunningProxy(target=target.address, verify=False) as proxy:
        with tls(proxy, client_context(version="TLSv1_3")) as client, contextlib.suppress(OSError):
            client.recv(1)
        recording = proxy.recording()
        assert_nothing_broke(proxy)
    leg = recording.leg(LegRole.SERVER)
    assert leg is not None
    tickets = [message for message in leg.messages if message.code == 4 and message.content is Content.HANDSHAKE]
    assert len(tickets) == count
    assert {message.sha256 for message in tickets} == {sha256(ticket).hexdigest()}
    cut = [message for message in tickets if not message.complete]
    assert sum(len(message.raw) for message in leg.messages) <= 2 << 20
    ((role, problem),) = recording.problems
    assert (role, problem.field) == (LegRole.SERVER, "leg.messages")
    assert problem.got == f"{len(cut)} more of {len(cut) * len(ticket)} bytes, kept as length and SHA-256"
    assert (recording.outcome.broken_by, recording.outcome.alert) == (Party.TARGET, "unknown_ca")
    assert max(weigh(leg.messages) for one in (recording, *proxy.kept.snapshots) for leg in one.legs) < 3 << 20


def test_a_key_update_is_recorded_and_followed(lab: Lab, tmp_path: Path) -> None:
    with Target(echo(server_context(lab.server))) as target, RunningProxy(target=target.address, verify=False) as proxy:
        client, sealer = _sealing(proxy, tmp_path)
        update = sealer.seal(22, b"\x18\0\0\1\1")  # update_requested
        sealer.update()
        client.connection.sendall(update + sealer.seal(23, b"under new keys"))
        assert client.recv() == b"under new keys"
        client.close()
        recording = proxy.recording()
    assert recording.outcome.status is Status.ESTABLISHED
    assert _senders(recording, LegRole.CLIENT, 24) == [Side.CLIENT, Side.SERVER]
    assert _senders(recording, LegRole.SERVER, 24) == []
    assert set(_senders(recording, LegRole.CLIENT, 4)) == {Side.SERVER}


def _senders(recording: Recording, role: LegRole, code: int) -> list[Side]:
    leg = recording.leg(role)
    assert leg is not None
    return [
        message.sender
        for message in leg.messages
        if message.content is Content.HANDSHAKE and message.code == code and message.encrypted
    ]


def test_a_wrong_record_after_the_handshake_is_the_clients_fault(lab: Lab, tmp_path: Path) -> None:
    with Target(echo(server_context(lab.server))) as target, RunningProxy(target=target.address, verify=False) as proxy:
        client, sealer = _sealing(proxy, tmp_path)
        sealed = bytearray(sealer.seal(23, b"good morning"))
        sealed[-1] ^= 1
        client.connection.sendall(bytes(sealed))
        rest(client.connection)
        client.close()
        recording = proxy.recording()
    assert (recording.outcome.status, recording.outcome.broken_by) == (Status.FAILED, Party.CLIENT)
    assert recording.outcome.alert == "bad_record_mac"
    assert "after the handshake" in recording.outcome.text
