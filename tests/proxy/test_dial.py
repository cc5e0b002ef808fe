"""Which addresses a client may not have dialled, whatever they are dressed in. Nothing here is dialled."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import ip_address
from typing import Any

import pytest

from countersign.proxy import dial as dialling
from countersign.proxy.dial import Dialled, SockAddr, barred, barred_name, dial, embedded, literal
from countersign.proxy.settings import Address
from countersign.proxy.stream import ReceiveBuffer, address_text

OWN = 3128


def sockaddr(host: str, port: int = 443) -> SockAddr:
    if ":" in host:
        return socket.AF_INET6, (host, port, 0, 0)
    return socket.AF_INET, (host, port)


DRESSED = [
    ("::ffff:{}", "IPv4-mapped"),
    ("::{}", "IPv4-compatible"),
    ("::ffff:0:{}", "IPv4-translated"),
    ("64:ff9b::{}", "NAT64"),
    ("64:ff9b:1::{}", "NAT64 for local use, prefix of 96 bits"),
    ("64:ff9b:1:ab:cd:ef:{}", "NAT64 for local use, deep"),
    ("2001:db8::5efe:{}", "ISATAP"),
    ("2001:db8::200:5efe:{}", "ISATAP, global"),
]


def hex_of(address: str) -> tuple[str, str]:
    packed = ip_address(address).packed
    return packed[:2].hex(), packed[2:].hex()


def elsewhere(address: str) -> list[str]:
    """The schemes that do not have it at the end."""
    high, low = hex_of(address)
    a, b, c, d = (f"{octet:02x}" for octet in ip_address(address).packed)
    turned_high, turned_low = (f"{0xFFFF ^ int(half, 16):x}" for half in (high, low))
    return [
        f"2002:{high}:{low}::1",  # 6to4
        f"2001:0:{high}:{low}::1",  # the server of a Teredo address
        f"2001:0:102:304:0:0:{turned_high}:{turned_low}",  # its client
        f"64:ff9b:1:{a}{b}:{c}:{d}00::",  # RFC 6052 2.2, prefix of 48 bits
        f"64:ff9b:1:0{a}:{b}:{c}{d}::",  # prefix of 56 bits
        f"64:ff9b:1:0:{a}:{b}{c}:{d}00:0",  # prefix of 64 bits
    ]


METADATA = ["169.254.169.254", "169.254.170.2", "168.63.129.16", "192.0.0.192", "100.100.100.200"]


@pytest.mark.parametrize("address", METADATA)
def test_metadata_services_are_barred_in_every_dress(address: str) -> None:
    """T29."""
    for shown in (address, *(form.format(address) for form, _ in DRESSED), *elsewhere(address)):
        reason = barred([sockaddr(shown)], [OWN])
        assert reason is not None, shown
        assert "metadata" in reason, shown
        assert address in reason, shown


@pytest.mark.parametrize(
    "address",
    [
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd00:c1::a9fe:a9fe",
        "fd00:a9fe:a9fe::1",
        "fd00:100::100:200",
        "fd20:ce::254",
        "fd00:42::42",
        "fe80::1",
        "fe80::a9fe:a9fe%lo",
        "169.254.1.1",
    ],
)
def test_metadata_services_with_addresses_of_their_own_are_barred(address: str) -> None:
    assert "metadata" in (barred([sockaddr(address)], [OWN]) or "")


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "0.0.0.0"])
def test_our_own_port_is_barred_in_every_dress(address: str) -> None:
    """T28."""
    for shown in (address, *(form.format(address) for form, _ in DRESSED), *elsewhere(address)):
        assert "this proxy itself" in (barred([sockaddr(shown, OWN)], [OWN]) or ""), shown
        assert barred([sockaddr(shown, OWN + 1)], [OWN]) is None, shown


@pytest.mark.parametrize("address", ["::1", "::", "127.0.0.1"])
def test_our_own_addresses_at_other_ports_may_be_dialled(address: str) -> None:
    assert "this proxy itself" in (barred([sockaddr(address, OWN)], [1, OWN]) or "")
    assert barred([sockaddr(address, OWN)], [1]) is None


@pytest.mark.parametrize(
    "address",
    [
        "192.0.2.1",
        "10.0.0.1",
        "2001:db8::1",
        "2606:4700::1111",
        "::ffff:192.0.2.1",
        "64:ff9b::192.0.2.1",
        "2002:c000:201::1",
        "2001:0:c000:201:0:0:3f57:fdfe",
        "fd00:ec2::253",
        "192.0.0.191",
    ],
)
def test_other_addresses_may_be_dialled(address: str) -> None:
    assert barred([sockaddr(address, OWN)], [OWN]) is None


def test_one_barred_address_among_many_is_enough() -> None:
    several = [sockaddr("192.0.2.1"), sockaddr("2001:db8::1"), sockaddr("169.254.169.254")]
    assert barred(several, [OWN]) == "169.254.169.254 is link-local, where cloud metadata services live"


def test_the_reason_says_what_the_address_is_dressed_in() -> None:
    reason = barred([sockaddr("64:ff9b::a83f:8110")], [OWN])
    assert reason == "64:ff9b::a83f:8110, in which 168.63.129.16 is, is a cloud's metadata service"


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1", "::", "::1", "fe80::1", "2003::1"])
def test_most_addresses_have_no_other_in_them(address: str) -> None:
    assert list(embedded(ip_address(address))) == []


async def test_of_several_addresses_that_answer_at_once_one_connection_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are closed: the server sees them end."""
    ended: list[int] = []
    stand: list[socket.socket] = []
    all_stand, others_ended = asyncio.Event(), asyncio.Event()

    async def connect_together(*where: Any) -> socket.socket:
        made = await connect_one(*where)
        stand.append(made)
        if len(stand) == 3:
            all_stand.set()
        await all_stand.wait()
        return made

    connect_one = dialling._connect
    monkeypatch.setattr(dialling, "_connect", connect_together)
    monkeypatch.setattr(dialling, "_NEXT_ADDRESS_AFTER", 0.0)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ended.append(len(await reader.read()))
        if len(ended) == 2:
            others_ended.set()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        addresses = [sockaddr("127.0.0.1", port)] * 3
        stream = await dial(Address("127.0.0.1", port), addresses, buffer=ReceiveBuffer(), limit=5)
        async with asyncio.timeout(5):
            await others_ended.wait()
        assert ended == [0, 0]
        assert [one.fileno() >= 0 for one in stand].count(True) == 1
        assert stream.ending is None
        stream.abort()
        await stream.closed
    finally:
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize(
    "host", ["0xA9FEA9FE", "2852039166", "169.254.43518", "0251.0376.0251.0376", "169.254.169.254."]
)
def test_an_address_is_read_as_resolvers_read_it(host: str) -> None:
    found = literal(Address(host, 80))
    assert found == [(socket.AF_INET, ("169.254.169.254", 80))]
    assert barred(found, [OWN])


@pytest.mark.parametrize("host", ["metadata.google.internal", "Metadata.Google.Internal.", "metadata"])
def test_the_names_of_metadata_services_are_barred(host: str) -> None:
    assert barred_name(Address(host, 80), [OWN])


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "x.localhost"])
def test_our_own_names_are_barred_on_our_own_port_alone(host: str) -> None:
    assert barred_name(Address(host, OWN), [OWN])
    assert barred_name(Address(host, OWN + 1), [OWN]) is None


async def test_where_connections_of_ours_come_from_is_known_while_they_are_open() -> None:
    dialled = Dialled()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        addresses = literal(Address("127.0.0.1", port))
        stream = await dial(Address("127.0.0.1", port), addresses, buffer=ReceiveBuffer(), limit=5, dialled=dialled)
        accepted, peer = listener.accept()
        with accepted:
            there = Address("127.0.0.1", port)
            assert dialled.has(address_text(peer), there)
            assert not dialled.has(f"127.0.0.1:{port}", there)
            assert not dialled.has(address_text(peer), Address("127.0.0.1", port ^ 1))  # by the same port elsewhere
            assert not dialled.has(address_text(peer), None)
            stream.abort()
            await stream.closed
            assert not dialled.has(address_text(peer), there)
