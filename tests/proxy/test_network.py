"""Bad networks that the proxy makes by itself, as real clients meet them."""

from __future__ import annotations

import os
import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, strategies as st

from countersign.proxy import Action, Limits
from countersign.proxy.faults import FAULTS, read_fault
from countersign.proxy.faults.effects import Applied
from countersign.proxy.faults.way import Way
from countersign.proxy.network import Network
from countersign.proxy.orders import Orders
from countersign.proxy.sealer import Agreed, Keyring
from countersign.recorder.recording import LegRole, Party, Recording, Status
from countersign.recorder.wire.events import Side
from tests.peers.curl import curl
from tests.proxy.ordered import Scripted
from tests.proxy.running import RunningProxy
from tests.proxy.test_lane import Table
from tests.proxy.wire import Target, client_context, client_hello, connect, echo, in_records, rest, server_context, tls

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from tests.peers.certs import Lab

QUICK = Limits(hello=3.0, handshake=3.0, idle=3.0, stop=0.1)


def networked(network: Network, **settings: Any) -> RunningProxy:
    ordered = Orders(network=network)
    return RunningProxy(director=Scripted([ordered], before=ordered), **{"limits": QUICK, **settings})


def told(recording: Recording) -> list[tuple[str, str, int]]:
    return [(leg.role.value, each["do"], each["byte"]) for leg in recording.legs for each in leg.faults]


@pytest.mark.peer("curl")
@pytest.mark.parametrize(
    ("network", "least"),
    [
        (Network(latency=0.03), 0.12),  # two round trips and more
        (Network(leg="both", latency=0.01, jitter=0.02), 0.06),
        (Network(leg="server", latency=0.03), 0.12),
        (Network(to="peer", bandwidth=20_000), 0.07),
        (Network(loss=0.9, retransmission=0.02, seed=1), 0.02),
        (Network(stall_after_bytes=300, stall_seconds=0.1), 0.1),
    ],
    ids=lambda each: each.text if isinstance(each, Network) else "",
)
def test_a_slow_network_is_slow_and_right(network: Network, least: float, tmp_path: Path) -> None:
    with networked(network) as proxy:
        began = time.monotonic()
        answer = curl(f"https://localhost:{proxy.port}/", ca=proxy.root_file(tmp_path), timeout=10)
        took = time.monotonic() - began
        recording = proxy.recording()
    assert answer.status == 200
    assert took >= least
    assert recording.outcome.status is Status.ESTABLISHED
    legs = {"client", "server"} if network.leg == "both" else {network.leg}
    assert {leg for leg, do, _ in told(recording) if do == "network"} == legs
    assert f"as ordered, the proxy {network.text}" in recording.outcome.text


def test_a_reset_comes_at_its_byte() -> None:
    with networked(Network(to="peer", reset_after_bytes=500)) as proxy, connect(proxy) as raw:
        raw.sendall(in_records(client_hello()))
        found, error = b"", None
        while error is None:
            try:
                found += raw.recv(1)
            except ConnectionResetError as reset:
                error = reset
        recording = proxy.recording()
    assert len(found) == 500
    assert ("client", "network_reset", 500) in told(recording)
    assert recording.outcome.broken_by is Party.PROXY


def test_a_reset_on_the_server_leg_is_not_the_targets() -> None:
    with networked(Network(leg="server", to="proxy", reset_after_bytes=300)) as proxy, connect(proxy) as raw:
        raw.sendall(in_records(client_hello()))
        assert rest(raw)[:1] == b"\x15"
        recording = proxy.recording()
    assert recording.outcome.broken_by is Party.PROXY


def test_what_passes_through_has_its_network_too(lab: Lab) -> None:
    with (
        Target(echo(server_context(lab.server))) as target,
        networked(Network(latency=0.01), action=Action.PASSTHROUGH, target=target.address) as proxy,
    ):
        with tls(proxy, client_context()) as connection:
            connection.sendall(b"hello")
            assert connection.recv(10) == b"hello"
        recording = proxy.recording()
    assert told(recording) == [("through", "network", 0)]
    assert [leg.role for leg in recording.legs] == [LegRole.THROUGH]


def test_bulk_data_is_whole_and_a_slow_link_slows_its_sender_down(lab: Lab) -> None:
    payload, sent = os.urandom(2 << 20), [0]
    context = server_context(lab.server)

    def handle(raw: socket.socket) -> None:
        with context.wrap_socket(raw, server_side=True) as connection:
            for at in range(0, len(payload), 16_384):
                connection.sendall(payload[at : at + 16_384])
                sent[0] = at
            connection.unwrap()

    network = Network(to="peer", bandwidth=8 << 20, latency=0.01)
    with Target(handle) as target, networked(network, target=target.address, verify=False) as proxy:
        connection = tls(proxy, client_context())
        began, found = time.monotonic(), bytearray()
        while data := connection.recv(65536):
            found += data
        took = time.monotonic() - began
        connection.close()
    assert found == payload
    assert took >= 0.2, "2 MiB at 8 MiB a second"


HELLO = in_records(client_hello())
LOSSLESS = st.one_of(
    st.fixed_dictionaries({"do": st.just("segments"), "size": st.integers(1, 50), "length": st.integers(1, 300)}),
    st.fixed_dictionaries({"do": st.just("drip"), "size": st.integers(1, 50), "every": st.sampled_from([0.001, 0.1])}),
    st.fixed_dictionaries({"do": st.just("delay"), "seconds": st.sampled_from([0.0, 0.5])}),
    st.fixed_dictionaries({"do": st.just("silence"), "seconds": st.just(0.2)}),
    st.fixed_dictionaries({"do": st.just("coalesce"), "seconds": st.sampled_from([0.0, 0.3])}),
)
PLACES: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.just({}), st.just({"place": "after"}), st.fixed_dictionaries({"within": st.integers(0, len(HELLO) - 6)})
)


@given(
    st.lists(st.tuples(LOSSLESS, PLACES), min_size=1, max_size=3),
    st.lists(st.integers(1, len(HELLO)), max_size=6),
    st.integers(1, 3),
)
def test_faults_that_lose_nothing_lose_nothing_wherever_they_are_and_however_the_bytes_come(
    tables: list[tuple[dict[str, Any], dict[str, Any]]], cuts: list[int], records: int
) -> None:
    """A hello, in records of any number, in slices of any size, with any of these faults at any of its bytes."""
    faults = [
        read_fault({**table, **place, "leg": "server", "to": "target", "at": "client_hello"}) for table, place in tables
    ]
    keys = Keyring(Agreed())
    way = Way(Side.CLIENT, [(FAULTS[each.do], each) for each in faults], source=keys, wire=keys)
    data = in_records(client_hello(), size=-(-len(HELLO) // records))
    table = Table()
    edges = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    for start, end in pairwise(edges):
        table.put(*way.feed(data[start:end]))
        table.clock.turn(0.01)
    table.put(*way.rest())
    table.clock.run_out()
    assert table.mouth.data == data
    assert not isinstance(table.mouth.came[-1][1], Applied)
