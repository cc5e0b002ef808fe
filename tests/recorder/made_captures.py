"""Captures made by hand: TCP conversations of which every byte is known, as a pcap or pcapng file."""

from __future__ import annotations

import struct
from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple

from countersign.recorder.files._tcp import Conversation, Endpoint
from countersign.recorder.wire.events import Side

if TYPE_CHECKING:
    from collections.abc import Iterable

C, S = Side.CLIENT, Side.SERVER

STARTED = 1_763_700_000_000_000
"""When the first packet comes, in microseconds since 1970."""

_LINKTYPE_RAW = 101


class Lost(NamedTuple):
    """Bytes that were sent, and that the capture does not have."""

    data: bytes


Said = tuple[Side, bytes | Lost]
"""One side says something. The sides are TCP's: ``client`` opens the connection."""


class Wire:
    """``conversation`` adds packets, a millisecond apart; ``pcap`` and ``pcapng`` give the file."""

    def __init__(self) -> None:
        self.packets: list[tuple[int, bytes]] = []
        self._clock = STARTED
        self._port = 50_000

    def conversation(
        self,
        said: Iterable[Said],
        *,
        client: str | None = None,
        server: str = "192.0.2.7:443",
        opened: bool = True,
        ends: Iterable[Side] = Side,
        reset: Side | None = None,
    ) -> Wire:
        """One connection from its opening (unless the capture began later) to its end."""
        self._port += 1
        tcp = Conversation(_endpoint(client or f"198.51.100.1:{self._port}"), _endpoint(server))
        opening = list(tcp.open())
        if opened:
            self._add(opening)
        for side, what in said:
            if isinstance(what, Lost):
                list(tcp.send(side, what.data))
            else:
                self._add(tcp.send(side, what))
        if reset is not None:
            self._add(tcp.reset(reset))
            return self
        for side in ends:
            self._add(tcp.finish(side))
        return self

    def interleaved(self) -> Wire:
        """The same packets with all conversations going on at the same time."""
        flows: dict[bytes, list[bytes]] = {}
        for _, packet in self.packets:
            flows.setdefault(
                b"".join(sorted((packet[12:16] + packet[20:22], packet[16:20] + packet[22:24]))), []
            ).append(packet)
        times = [t for t, _ in self.packets]
        mixed = []
        while flows:
            for key in list(flows):
                mixed.append(flows[key].pop(0))
                if not flows[key]:
                    del flows[key]
        self.packets = list(zip(times, mixed, strict=True))
        return self

    def pcap(self) -> bytes:
        head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 0x40000, _LINKTYPE_RAW)
        return head + b"".join(
            struct.pack("<IIII", t // 10**6, t % 10**6, len(packet), len(packet)) + packet for t, packet in self.packets
        )

    def pcapng(self, *, secrets_before: str = "", secrets_after: str = "") -> bytes:
        return b"".join(
            (
                block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)),
                secrets_block(secrets_before),
                block(1, struct.pack("<HHI", _LINKTYPE_RAW, 0, 0)),
                *(
                    block(6, struct.pack("<IIIII", 0, t >> 32, t & 0xFFFFFFFF, len(packet), len(packet)) + packet)
                    for t, packet in self.packets
                ),
                secrets_block(secrets_after),
            )
        )

    def _add(self, packets: Iterable[bytes]) -> None:
        for packet in packets:
            self.packets.append((self._clock, packet))
            self._clock += 1000


def secrets_block(text: str) -> bytes:
    data = text.encode()
    return block(0x0A, struct.pack("<II", 0x544C534B, len(data)) + data) if data else b""


def block(kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    total = struct.pack("<I", 12 + len(body))
    return struct.pack("<I", kind) + total + body + total


def _endpoint(place: str) -> Endpoint:
    host, _, port = place.rpartition(":")
    return Endpoint(ip_address(host.strip("[]")), int(port))
