"""Where a connection was going before the kernel turned it: in a network of our own, with rules of nftables."""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from countersign.errors import EnvironmentFault
from countersign.proxy.settings import Address
from countersign.proxy.ways.transparent import (
    is_transparent,
    make_transparent,
    original_destination,
    parse_sockaddr,
)
from tests.peers.process import run

V4 = struct.pack("=H", socket.AF_INET) + b"\x01\xbb" + bytes((203, 0, 113, 5)) + bytes(8)
V6 = struct.pack("=H", socket.AF_INET6) + b"\x01\xbb" + bytes(4)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (V4, Address("203.0.113.5", 443)),
        (V6 + socket.inet_pton(socket.AF_INET6, "2001:db8::5") + bytes(4), Address("2001:db8::5", 443)),
        (V6 + socket.inet_pton(socket.AF_INET6, "::ffff:203.0.113.5") + bytes(4), Address("203.0.113.5", 443)),
        (b"", None),
        (V4[:7], None),
        (V6 + bytes(15), None),
        (struct.pack("=H", socket.AF_UNIX) + bytes(26), None),
    ],
)
def test_the_kernels_address_is_read(data: bytes, expected: Address | None) -> None:
    assert parse_sockaddr(data) == expected


@given(st.binary(max_size=40))
def test_any_bytes_are_read(data: bytes) -> None:
    parse_sockaddr(data)


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_a_connection_that_nobody_turned_was_going_nowhere_else(family: socket.AddressFamily, host: str) -> None:
    with (
        socket.create_server((host, 0), family=family) as listening,
        socket.create_connection(listening.getsockname()[:2], 10),
        closing(listening.accept()[0]) as accepted,
    ):
        assert original_destination(accepted) is None


@pytest.mark.skipif(sys.platform != "linux", reason="Linux only")
def test_listening_transparently_needs_a_capability_and_says_so() -> None:
    script = (
        "import socket\nfrom countersign.errors import EnvironmentFault\n"
        "from countersign.proxy.ways.transparent import make_transparent\n"
        "try:\n    make_transparent(socket.socket())\nexcept EnvironmentFault as fault:\n    print(fault)\n"
    )
    as_nobody = ["setpriv", "--bounding-set=-net_admin,-net_raw"] if os.geteuid() == 0 else []
    done = run(*as_nobody, sys.executable, "-c", script).check()
    assert "CAP_NET_ADMIN" in done.stdout


def test_elsewhere_transparent_mode_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with closing(socket.socket()) as made, pytest.raises(EnvironmentFault, match="Linux only"):
        make_transparent(made)


def test_a_socket_that_is_not_transparent_says_so() -> None:
    with closing(socket.socket()) as made:
        assert not is_transparent(made)


APART = ("unshare", "-n") if os.geteuid() == 0 else ("unshare", "-Urn")


@pytest.fixture
def own_network() -> None:
    if run(*APART, "true").returncode != 0:
        text = "this machine lets nobody have a network namespace of his own"
        if os.environ.get("REQUIRE_PEERS", "") not in {"", "0"}:
            pytest.fail(text)
        pytest.skip(text)


@pytest.mark.peer("unshare", "ip", "nft")
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("how", ["REDIRECT", "TPROXY"])
def test_the_destination_of_a_turned_connection_is_found(how: str, version: int, own_network: None) -> None:
    script = Path(__file__).with_name("turned.py")
    path = {"PYTHONPATH": str(Path(__file__).parents[3]), "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    done = run(*APART, sys.executable, script, how, str(version), timeout=60, env=path).check()
    found = json.loads(done.stdout)
    nowhere, gateway, client = {
        4: ("203.0.113.5:443", "10.77.0.1:8443", "10.77.0.2"),
        6: ("[2001:db8::5]:443", "[fd77::1]:8443", "fd77::2"),
    }[version]
    assert found["turned"] == {"destination": nowhere, "client": client, "heard": "hello", "answer": "answer"}
    assert found["transparent"] is (how == "TPROXY")
    straight = gateway if how == "TPROXY" else None  # our own address, which no client may have dialled
    assert found["straight"] == {"destination": straight, "client": client, "heard": "hello", "answer": "answer"}
