"""Faults of the bytes on the wire, as raw sockets and real peers meet them."""

from __future__ import annotations

import asyncio
import errno
import gc
import json
import socket
import ssl
import struct
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from countersign.proxy import Action, Limits
from countersign.proxy.faults import FAULTS, FaultError, read_fault
from countersign.proxy.faults.block_pages import VENDORS, block_page
from countersign.proxy.faults.effects import Send
from countersign.proxy.faults.way import Way
from countersign.proxy.network import Network
from countersign.proxy.orders import Orders
from countersign.proxy.sealer import Agreed, Keyring
from countersign.proxy.stream import Stream
from countersign.recorder.recording import Ending, LegRole, Party, Recording, Status, from_json, to_json
from countersign.recorder.wire.events import Side
from tests.peers.curl import curl
from tests.peers.java import java_client, java_truststore
from tests.peers.process import run
from tests.proxy.ordered import Scripted
from tests.proxy.running import RunningProxy
from tests.proxy.wire import (
    Target,
    client_context,
    client_hello,
    connect,
    echo,
    in_records,
    rest,
    server_context,
    tls,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from countersign.proxy.faults import WireFault
    from tests.peers.certs import Lab

QUICK = Limits(hello=1.0, handshake=1.0, idle=1.5, stop=0.1)
PATIENT = Limits(hello=3.0, handshake=3.0, idle=3.0, stop=0.1)
HELLO = in_records(client_hello(sni=b"localhost"))
_DATA_SEGS_IN = 152
"""Where Linux's struct tcp_info (linux/tcp.h) has how many segments with data have come."""


def orders(*tables: Mapping[str, Any]) -> Orders:
    return Orders(scenario="faulted", faults=tuple(read_fault(table) for table in tables))


def faulted(*tables: Mapping[str, Any], **settings: Any) -> RunningProxy:
    """A proxy that does these to each connection."""
    ordered = orders(*tables)
    return RunningProxy(director=Scripted([ordered], before=ordered), **{"limits": QUICK, **settings})


def told(recording: Recording) -> list[tuple[str, str, int | None]]:
    return [(each["do"], each["at"], each["byte"]) for leg in recording.legs for each in leg.faults]


def proof(recording: Recording, table: Mapping[str, Any]) -> str | None:
    fault = read_fault(table)
    return FAULTS[fault.do].proof(recording, fault)


def said_to(proxy: RunningProxy, data: bytes = HELLO) -> tuple[bytes, type[BaseException] | None]:
    """All that comes back for these bytes, and what ended it: None is a FIN."""
    found = b""
    try:
        with connect(proxy) as raw:
            raw.sendall(data)
            while more := raw.recv(65536):
                found += more
    except OSError as error:
        return found, type(error)
    return found, None


# -- ends, as the socket sees them ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("do", "ending"), [("cut", None), ("half_close", None), ("reset", ConnectionResetError)])
@pytest.mark.parametrize(("table", "length"), [({"place": "before"}, 0), ({"within": 10}, 15)])
def test_an_end_at_a_message_comes_after_so_many_bytes_and_is_what_it_says(
    do: str, ending: type[BaseException] | None, table: dict[str, Any], length: int
) -> None:
    fault = {"do": do, **table}
    with faulted(fault) as proxy:
        found, how = said_to(proxy)
        recording = proxy.recording()
    assert (len(found), how) == (length, ending)
    assert found in (b"", found[:5] + b"\x02\x00\x00" + found[8:])  # a handshake record with a ServerHello
    assert told(recording) == [(do, "server_hello", table.get("within", 0))]
    assert recording.legs[0].ends[0].sender is Side.SERVER, "the client was left, whoever ordered it"
    assert recording.legs[0].ends[0].how is (Ending.RESET if do == "reset" else Ending.FIN)
    assert proof(recording, fault) is None
    assert (recording.outcome.status, recording.outcome.broken_by) == (Status.FAILED, Party.PROXY)
    assert "s ordered" in recording.outcome.text


def test_after_a_message_all_of_it_has_gone() -> None:
    with faulted({"do": "cut", "at": "server_hello", "place": "after"}) as proxy:
        found, how = said_to(proxy)
    assert how is None
    assert len(found) == 5 + int.from_bytes(found[3:5])


def test_the_recording_has_of_a_message_what_went_out_of_it() -> None:
    with faulted({"do": "cut", "within": 40}) as proxy:
        said_to(proxy)
        recording = proxy.recording()
    leg = recording.leg(LegRole.CLIENT)
    assert leg is not None
    hello = leg.messages[-1]
    assert (hello.code, len(hello.raw)) == (2, 40)


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_messages_under_encryption_are_found_as_well(version: str) -> None:
    """The server's Finished is encrypted in both versions."""
    with faulted({"do": "reset", "at": "finished", "place": "after"}) as proxy:
        context = client_context(proxy.authority.root_pem.decode(), version=version)
        raw = connect(proxy)
        error = 0
        try:
            raw = tls(proxy, context, connection=raw)
            while not error:
                error = raw.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        except ConnectionResetError as reset:  # in TLS 1.3 it may come before the client is done
            error = reset.errno or 0
        raw.close()
        recording = proxy.recording()
    assert error == errno.ECONNRESET
    assert [each[:2] for each in told(recording)] == [("reset", "finished")]
    assert recording.legs[0].faults[0]["message"] is not None


def test_a_half_closed_client_is_still_heard() -> None:
    """What a client says to a FIN in mid-handshake is on the recording, and the proxy waits for it."""
    with faulted({"do": "half_close", "place": "after"}) as proxy, connect(proxy) as raw:
        raw.sendall(HELLO)
        rest(raw)
        raw.sendall(b"\x15\x03\x03\x00\x02\x02\x28")
        raw.close()
        recording = proxy.recording()
    assert recording.outcome.alert == "handshake_failure"
    assert recording.outcome.broken_by is Party.CLIENT, "what a peer says by an alert is its own"
    assert recording.outcome.text.endswith("as ordered, the proxy ended one direction (FIN) after server_hello.")


# -- segments ------------------------------------------------------------------------------------------------------


def segments_in(raw: socket.socket) -> int:
    info = raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    return int(struct.unpack_from("=I", info, _DATA_SEGS_IN)[0])


@pytest.mark.skipif(not hasattr(socket, "TCP_INFO"), reason="counts segments by Linux's TCP_INFO")
@pytest.mark.parametrize("size", [1, 7, 100])
def test_each_piece_is_a_tcp_segment_of_its_own(size: int) -> None:
    with faulted({"do": "cut", "place": "after"}, {"do": "segments", "size": size, "length": 90}) as proxy:
        raw = connect(proxy)
        raw.sendall(HELLO)
        found = rest(raw)
        counted = segments_in(raw)
        raw.close()
    pieces = -(-90 // size)
    assert counted == pieces + (len(found) > 90)


def test_what_is_coalesced_comes_in_one_segment() -> None:
    with faulted({"do": "coalesce", "seconds": 0.1}, {"do": "cut", "at": "application_data"}) as proxy:
        raw = connect(proxy)
        raw.sendall(HELLO)
        first = raw.recv(65536)
        assert segments_in(raw) == 1
        raw.close()
    assert first.count(b"\x17\x03\x03") >= 2, "more than one record"


def test_a_client_hello_in_segments_reaches_the_target_whole(lab: Lab) -> None:
    with (
        Target(echo(server_context(lab.server))) as target,
        faulted(
            {"do": "segments", "leg": "server", "size": 11}, target=target.address, roots=None, verify=False
        ) as proxy,
        tls(proxy, client_context()) as connection,
    ):
        connection.sendall(b"hello")
        assert connection.recv(100) == b"hello"


# -- instead of TLS ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_block_page_is_a_whole_http_answer(vendor: str) -> None:
    with faulted({"do": "block_page", "vendor": vendor}) as proxy:
        found, how = said_to(proxy)
    head, _, body = found.partition(b"\r\n\r\n")
    assert how is None
    assert found == block_page(vendor)
    assert f"Content-Length: {len(body)}".encode() in head
    assert head.startswith(b"HTTP/1.1 ")


def test_a_banner_comes_before_the_client_has_said_anything() -> None:
    with faulted({"do": "banner", "service": "smtp"}) as proxy, connect(proxy) as raw:
        assert raw.recv(100) == b"220 mail.example.com ESMTP Postfix\r\n"


def test_an_oversized_record_declares_more_than_a_record_may_have() -> None:
    with faulted({"do": "oversized_record", "then": "close"}) as proxy:
        found, _ = said_to(proxy)
    assert (found[0], int.from_bytes(found[3:5]), len(found)) == (22, 2**14 + 257, 5 + 2**14 + 257)


def test_empty_records_and_wrong_headers_are_on_the_wire() -> None:
    for table, begins in (
        ({"do": "empty_records", "count": 3}, bytes.fromhex("1603030000" * 3 + "1603")),
        ({"do": "record_version", "version": "0500"}, bytes.fromhex("160500")),
        ({"do": "content_type", "type": 25}, bytes.fromhex("190303")),
        ({"do": "sslv2_answer"}, bytes.fromhex("8003000001")),
        ({"do": "sslv2_answer", "message": "server_hello"}, bytes.fromhex("801e04000100020000000300100100")),
        ({"do": "garbage", "data": "00 01 02"}, bytes.fromhex("000102")),
    ):
        with faulted(table, {"do": "cut", "place": "after"}) as proxy:
            found, _ = said_to(proxy)
            assert found.startswith(begins), table
            assert proof(proxy.recording(), table) is None


# -- before the hello ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("how", "ending"), [("silently", None), ("reset", ConnectionResetError)])
def test_a_large_client_hello_is_dropped_and_a_small_one_is_not(how: str, ending: type[BaseException] | None) -> None:
    table = {"do": "big_hello_dropped", "over": len(HELLO), "how": how}
    with faulted(table, {"do": "cut", "place": "after"}) as proxy:
        small, _ = said_to(proxy)
        hello = client_hello(sni=b"localhost", alpn=[b"x" * 200])
        large, how_it_ended = said_to(proxy, in_records(hello))
        first, second = proxy.recordings(2)
    assert small[:1] == b"\x16"
    assert (large, how_it_ended) == (b"", ending)
    assert "was not applied" in str(proof(first, table))
    assert proof(second, table) is None
    assert second.outcome.broken_by is Party.PROXY
    assert [one.raw for one in second.legs[0].messages] == [hello], "it was on the wire"
    how_we_left = Ending.RESET if how == "reset" else Ending.SILENT
    assert (second.legs[0].ends[0].sender, second.legs[0].ends[0].how) == (Side.SERVER, how_we_left)
    assert second.from_target == 0, "the target was not dialled for a hello that has not come"


@pytest.mark.parametrize("do", ["cut", "reset", "silence"])
def test_a_fault_at_connect_needs_no_hello(do: str) -> None:
    with faulted({"do": do, "at": "connect"}) as proxy:
        found, how = said_to(proxy, b"")
        recording = proxy.recording()
    assert found == b""
    assert how is (ConnectionResetError if do == "reset" else None)
    assert told(recording) == [(do, "connect", None)]
    assert recording.outcome.broken_by is Party.PROXY
    assert from_json(to_json(recording)).legs == recording.legs


def test_a_hello_that_drips_is_the_same_hello() -> None:
    table = {"do": "drip", "to": "proxy", "at": "client_hello", "size": 20, "every": 0.001}
    with faulted(table, limits=Limits(hello=20, stop=0.1)) as proxy:
        with tls(proxy) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert connection.recv(12) == b"HTTP/1.1 200"
        assert proof(proxy.recording(), table) is None


# -- the server leg, and what passes through -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "table",
    [
        {"do": "cut", "within": 20},
        {"do": "reset", "at": "certificate"},
        {"do": "garbage"},
        {"do": "content_type"},
        {"do": "oversized_record"},
        {"do": "silence"},
        {"do": "cut", "to": "target", "at": "client_hello", "within": 30},
        {"do": "big_hello_dropped", "over": 100, "how": "reset"},
    ],
    ids=lambda table: "-".join(map(str, table.values())),
)
def test_what_breaks_the_server_leg_reaches_the_client_as_an_alert_and_is_not_laid_on_the_target(
    table: dict[str, Any],
) -> None:
    table = {"leg": "server", "to": "target" if table["do"] == "big_hello_dropped" else "proxy", **table}
    with faulted(table) as proxy:
        found, _ = said_to(proxy)
        recording = proxy.recording()
    assert found[:1] == b"\x15"
    assert proof(recording, table) is None
    assert recording.outcome.broken_by is Party.PROXY
    assert "as ordered" in recording.outcome.text


@pytest.mark.parametrize(
    ("table", "accepted"),
    [
        ({"do": "cut", "within": 5}, False),
        ({"do": "reset", "at": "application_data"}, False),
        ({"do": "block_page"}, False),
        ({"do": "segments", "size": 3}, True),
        ({"do": "delay", "leg": "server", "seconds": 0.01}, True),
        ({"do": "cut", "leg": "server", "to": "proxy", "within": 10}, False),
    ],
    ids=str,
)
def test_what_passes_through_has_faults_as_well(table: dict[str, Any], *, accepted: bool) -> None:
    with faulted(table, action=Action.PASSTHROUGH) as proxy:
        context = client_context()
        if accepted:
            with tls(proxy, context) as connection:
                connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
                assert connection.recv(12) == b"HTTP/1.1 200"
        else:
            with pytest.raises((ssl.SSLError, OSError)):
                tls(proxy, context)
        recording = proxy.recording()
    assert [leg.role for leg in recording.legs] == [LegRole.THROUGH]
    assert proof(recording, table) is None
    assert recording.outcome.broken_by is (None if accepted else Party.PROXY)


# -- application data ----------------------------------------------------------------------------------------------


def test_a_transfer_is_cut_off_at_its_byte_without_a_close_notify(lab: Lab) -> None:
    def flood(connection: ssl.SSLSocket) -> None:
        with suppress(OSError):
            connection.sendall(bytes(300_000))

    context = server_context(lab.server)

    def handle(raw: socket.socket) -> None:
        with context.wrap_socket(raw, server_side=True) as connection:
            flood(connection)

    table = {"do": "cut", "at": "application_data", "within": 100_000}
    with Target(handle) as target, faulted(table, target=target.address, verify=False) as proxy:
        connection = client_context().wrap_socket(connect(proxy), suppress_ragged_eofs=False)
        got = 0
        with suppress(ssl.SSLEOFError):
            while data := connection.recv(65536):
                got += len(data)
            raise AssertionError("it ended as if it were whole")
        connection.close()
        recording = proxy.recording()
    assert 100_000 - 16_384 <= got <= 100_000, "whole records up to the byte"
    assert told(recording) == [("cut", "application_data", 100_000)]
    assert recording.outcome.status is Status.ESTABLISHED
    assert "as ordered" in recording.outcome.text


@pytest.mark.parametrize(("table", "length"), [({"within": 0}, 5), ({"within": 150}, 160), ({"place": "after"}, 105)])
def test_application_data_is_counted_through_all_its_records(table: dict[str, Any], length: int) -> None:
    fault = read_fault({"do": "cut", "at": "application_data", **table})
    keys = Keyring(Agreed())
    way = Way(Side.SERVER, [(FAULTS["cut"], fault)], source=keys, wire=keys)
    sent = [
        each.data for each in way.feed(b"".join([b"\x17\x03\x03\x00\x64" + bytes(100)] * 3)) if isinstance(each, Send)
    ]
    assert len(b"".join(sent)) == length


def test_a_stalled_transfer_holds_up_its_sender_and_ends_with_the_session_limit(lab: Lab) -> None:
    sent: list[int] = []
    context = server_context(lab.server)

    def handle(raw: socket.socket) -> None:
        with context.wrap_socket(raw, server_side=True) as connection, suppress(OSError):
            while True:
                connection.sendall(bytes(16_384))
                sent.append(16_384)

    table = {"do": "silence", "at": "application_data", "within": 1000}
    with Target(handle) as target, faulted(table, target=target.address, verify=False) as proxy:
        connection = tls(proxy, client_context())
        before = -1
        while before != sum(sent) or not sent:
            before = sum(sent)
            time.sleep(0.05)
        assert before < 16 << 20, "the rest stays with its sender"
        recording = proxy.recording()
        connection.close()
    assert "as ordered, the proxy fell silent for good after 1000 bytes" in recording.outcome.text


# -- limits --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", [{"do": "silence"}, {"do": "silence", "to": "proxy", "at": "client_hello"}], ids=str)
def test_a_hang_ends_when_the_client_goes(table: dict[str, Any]) -> None:
    with faulted(table, limits=Limits()) as proxy:
        with connect(proxy) as raw:
            raw.sendall(HELLO)
            while not told_so_far(proxy):
                time.sleep(0.005)
        recording = proxy.recording()
    assert recording.ended is not None
    assert (recording.ended - recording.started).total_seconds() < 5


def told_so_far(proxy: RunningProxy) -> bool:
    """Whether a session has met its fault."""
    sessions = list(proxy.engine._sessions.values())
    return any(session._context.shaping._told or told(session.recording.snapshot()) for session in sessions)


@pytest.mark.parametrize(
    "table", [{"do": "silence"}, {"do": "delay", "seconds": 3600}, {"do": "drip", "every": 60}], ids=str
)
def test_the_engine_stops_without_waiting_for_a_fault(table: dict[str, Any]) -> None:
    with faulted(table, limits=Limits(stop=0.05)) as proxy, connect(proxy) as raw:
        raw.sendall(HELLO)
        while not told_so_far(proxy):
            time.sleep(0.005)
        began = time.monotonic()
        proxy.run(proxy.engine.stop())
        took = time.monotonic() - began
    assert took < 10, "limits.stop, and a second for the last words: nothing of what the fault has still to do"


def test_many_sessions_with_faults_leave_nothing_behind(scaled: Callable[[int], int]) -> None:
    tables: list[dict[str, Any]] = [
        {"do": "cut"},
        {"do": "reset", "within": 3},
        {"do": "silence"},
        {"do": "delay", "seconds": 600},
        {"do": "drip", "every": 30},
        {"do": "coalesce", "seconds": 300},
        {"do": "block_page"},
        {"do": "silence", "at": "connect"},
        {"do": "garbage", "leg": "server", "to": "proxy"},
        {"do": "big_hello_dropped", "over": 10},
    ]
    script = [
        Orders(faults=(read_fault(table),), network=Network(leg="both", latency=0.002, loss=0.1, retransmission=0.005))
        for table in tables
    ]

    class Turning(Scripted):
        """Each client meets the next one, before its hello and after it."""

        def arriving(self, client: str) -> Orders:
            self.arrived.append(client)
            return script[len(self.arrived) % len(script)]

        def orders(self, client: str, sni: str | None, target: str) -> Orders:  # noqa: ARG002 - as every director
            return script[self.arrived.index(client) % len(script)]

    count = scaled(200) * 4  # 40, and 800 with --long
    with RunningProxy(director=Turning([]), limits=Limits(hello=0.5, handshake=0.5, stop=0.1)) as proxy:
        tls_once(proxy)
        descriptors, tasks = descriptors_open(), proxy.run(counted_tasks())
        for start in range(0, count, 20):
            raws = [connect(proxy) for _ in range(min(20, count - start))]
            for raw in raws:
                raw.sendall(HELLO)
            for raw in raws:
                rest(raw)
                raw.close()
        proxy.recordings(count + 1, timeout=20)
        deadline = time.monotonic() + 30
        while proxy.run(lingering(proxy)) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert proxy.run(counted_tasks()) <= tasks
        assert descriptors_open() <= descriptors
        proxy.kept.finished.clear()
        gc.collect()
        assert proxy.run(live_timers()) == []
        left = [each for each in gc.get_objects() if isinstance(each, Stream)]
        assert len(left) <= 2, "of one session at most, which the loop that takes snapshots has had in its hand"


def descriptors_open() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def tls_once(proxy: RunningProxy) -> None:
    """So that what is made once is made before it is counted."""
    with suppress(OSError):
        tls(proxy, client_context()).close()
    proxy.recordings(1)


async def counted_tasks() -> int:
    return len(asyncio.all_tasks())


async def lingering(proxy: RunningProxy) -> bool:
    return bool(proxy.engine._lingering) or bool(proxy.engine.open_sessions)


async def live_timers() -> list[str]:
    """Of the loop: what is to be called in more than a second, by its name."""
    loop = asyncio.get_running_loop()
    scheduled = loop._scheduled  # type: ignore[attr-defined]
    return [repr(each) for each in scheduled if not each.cancelled() and each.when() > loop.time() + 1]


# -- what real peers do --------------------------------------------------------------------------------------------


class Case(NamedTuple):
    name: str
    table: dict[str, Any]

    def accepted(self, peer: str) -> bool:
        """JSSE alone does not mind a record's version (RFC 8446 5.1)."""
        right = FAULTS[self.table["do"]].right
        return right == "accept" or (right == "either" and peer == "java")


CASES = [
    Case("cut", {"do": "cut"}),
    Case("cut-in-certificate", {"do": "cut", "at": "certificate", "within": 100}),
    Case("reset", {"do": "reset"}),
    Case("reset-in-server-hello", {"do": "reset", "within": 30}),
    Case("half-close", {"do": "half_close", "place": "after"}),
    Case("silence", {"do": "silence", "place": "after"}),
    Case("garbage", {"do": "garbage"}),
    Case("block-page", {"do": "block_page", "vendor": "zscaler"}),
    Case("record-version", {"do": "record_version"}),
    Case("content-type", {"do": "content_type"}),
    Case("oversized-record", {"do": "oversized_record"}),
    Case("sslv2-answer", {"do": "sslv2_answer"}),
    Case("banner", {"do": "banner", "at": "server_hello", "then": "close"}),
    Case("delay", {"do": "delay", "seconds": 0.02}),
    Case("drip", {"do": "drip", "size": 30, "every": 0.001}),
    Case("segments", {"do": "segments", "size": 1}),
    Case("coalesce", {"do": "coalesce", "seconds": 0.02}),
]


@dataclass(frozen=True)
class Met:
    """How a peer fared in one handshake, and its words."""

    well: bool
    words: str


class Place(NamedTuple):
    proxy: RunningProxy
    folder: Path

    @property
    def root(self) -> Path:
        return self.proxy.root_file(self.folder)


def by_curl(place: Place) -> list[Met]:
    found = []
    for _ in CASES:
        answer = curl(f"https://localhost:{place.proxy.port}/", ca=place.root, timeout=5)
        found.append(Met(answer.status == 200, f"{answer.exit_code} {answer.error}"))
    return found


def by_openssl(place: Place) -> list[Met]:
    words = ("-connect", f"localhost:{place.proxy.port}", "-CAfile", place.root, "-verify_return_error", "-brief")
    runs = [run("openssl", "s_client", *words, "-servername", "localhost", timeout=10) for _ in CASES]
    return [Met(done.returncode == 0, done.stderr) for done in runs]


def by_gnutls(place: Place) -> list[Met]:
    words = ("--x509cafile", place.root, "-p", str(place.proxy.port), "localhost")
    runs = [run("gnutls-cli", *words, timeout=10) for _ in CASES]
    return [Met("Handshake was completed" in done.stdout, done.stdout + done.stderr) for done in runs]


def by_python(place: Place) -> list[Met]:
    found = []
    for _ in CASES:
        try:
            with tls(place.proxy) as connection:
                connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
                found.append(Met(connection.recv(12) == b"HTTP/1.1 200", ""))
        except OSError as error:
            found.append(Met(well=False, words=f"{type(error).__name__} {error}"))
    return found


NODE = """
const [port, ca, count] = process.argv.slice(1);
const where = {port, host: 'localhost', family: 4, ca: require('fs').readFileSync(ca), agent: false};
const next = (left) => left && require('https').get(where, (answer) => {
  answer.on('data', () => {}).on('end', () => { console.log(answer.statusCode); next(left - 1); });
}).on('error', (error) => { console.log(error.code); next(left - 1); });
next(Number(count));
"""


def by_node(place: Place) -> list[Met]:
    done = run("node", "-e", NODE, str(place.proxy.port), place.root, str(len(CASES)), timeout=30).check()
    return [Met(line == "200", line) for line in done.stdout.split()]


def by_java(place: Place) -> list[Met]:
    store = java_truststore(place.folder / "trust.p12", place.root)
    done = java_client(f"localhost:{place.proxy.port}", truststore=store, repeat=len(CASES))
    return [Met(attempt.ok, " ".join(attempt.causes)) for attempt in done.attempts]


WORDS: dict[str, dict[str, str]] = {
    "curl": {
        "cut": "35 OpenSSL SSL_connect: SSL_ERROR_SYSCALL",
        "reset": "35 Recv failure: Connection reset by peer",
        "garbage": "wrong version number",
        "block-page": "wrong version number",
        "record-version": "wrong version number",
        "oversized-record": "data length too long",
    },
    "openssl": {"block-page": "wrong version number", "oversized-record": "data length too long"},
    "gnutls-cli": {
        "cut": "The TLS connection was non-properly terminated",
        "block-page": "An unexpected TLS packet was received",
        "oversized-record": "A TLS record packet with invalid length was received",
    },
    "python": {
        "cut": "UNEXPECTED_EOF_WHILE_READING",
        "reset": "ConnectionResetError",
        "block-page": "WRONG_VERSION_NUMBER",
    },
    "node": {"cut": "ECONNRESET", "reset": "ECONNRESET", "block-page": "EPROTO"},
    "java": {
        "cut": "Remote host terminated the handshake",
        "reset": "Connection reset",
        "block-page": "Unsupported or unrecognized SSL message",
    },
}
"""What each says of some of them, measured."""


@pytest.mark.parametrize(
    ("peer", "meet"),
    [
        pytest.param(name, meet, marks=pytest.mark.peer(name), id=name)
        for name, meet in {
            "curl": by_curl,
            "openssl": by_openssl,
            "gnutls-cli": by_gnutls,
            "node": by_node,
            "java": by_java,
        }.items()
    ]
    + [pytest.param("python", by_python, id="python")],
)
def test_what_each_peer_does_on_each_fault(peer: str, meet: Callable[[Place], Sequence[Met]], tmp_path: Path) -> None:
    script = [orders(case.table) for case in CASES]
    with RunningProxy(director=Scripted(script), limits=PATIENT) as proxy:
        met = meet(Place(proxy, tmp_path))
        recordings = proxy.recordings(len(CASES))
    assert len(met) == len(recordings) == len(CASES)
    wrong = {case.name: one.words for case, one in zip(CASES, met, strict=True) if one.well is not case.accepted(peer)}
    assert not wrong
    for case, one, recording in zip(CASES, met, recordings, strict=True):
        assert proof(recording, case.table) is None, case.name
        assert WORDS[peer].get(case.name, "") in one.words, (case.name, one.words)
        assert "as ordered" in recording.outcome.text or "As ordered" in recording.outcome.text
        if not one.well:
            assert recording.outcome.broken_by is Party.PROXY or recording.outcome.alert, case.name
        json.dumps(to_json(recording))


# -- reading -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ({"do": "cut", "at": "connect", "within": 3}, "at"),
        ({"do": "content_type", "at": "connect"}, "at"),
        ({"do": "big_hello_dropped", "at": "server_hello"}, "at"),
        ({"do": "big_hello_dropped", "to": "client"}, "to"),
        ({"do": "record_version", "within": 3}, "within"),
        ({"do": "block_page", "vendor": "nobody"}, "vendor"),
        ({"do": "silence", "seconds": -1}, "seconds"),
        ({"do": "garbage", "data": "xyz"}, "data"),
        ({"do": "drip", "size": 0}, "size"),
        ({"do": "garbage", "then": "explode"}, "then"),
    ],
)
def test_a_fault_that_cannot_be_names_its_key(table: dict[str, Any], key: str) -> None:
    with pytest.raises(FaultError) as wrong:
        read_fault(table)
    assert wrong.value.key == key


def test_a_fault_that_finds_no_place_is_not_proved() -> None:
    table = {"do": "cut", "at": "hello_retry_request"}
    with faulted(table) as proxy:
        tls(proxy).close()
        recording = proxy.recording()
    assert told(recording) == []
    assert "was not applied" in str(proof(recording, table))


def kinds() -> list[WireFault]:
    """Each kind of this sort with its defaults."""
    return [read_fault({"do": name}) for name, kind in FAULTS.items() if kind.sort == "stream"]


def test_each_kind_of_the_bytes_can_be_written_with_its_name_alone() -> None:
    assert {fault.do for fault in kinds()} >= {case.table["do"] for case in CASES}
