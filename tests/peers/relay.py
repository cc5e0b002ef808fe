"""A TCP relay that keeps its own capture: what passes is written to a pcap file as synthesised TCP over IP.

So tshark can read a conversation between any two peers on a machine where nobody may capture packets. The addresses in
the file are the client's and, as the server's, the relay's own.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pathlib import Path

LINKTYPE_RAW = 101
FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10

Address = tuple[str, int]


class PcapWriter:
    """Packets of any number of TCP connections into one file, at the moment at which they are written."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 0xFFFF, LINKTYPE_RAW))
        self._lock = threading.Lock()

    def packet(self, data: bytes) -> None:
        now = time.time_ns() // 1000
        with self._lock:
            self._file.write(struct.pack("<IIII", now // 10**6, now % 10**6, len(data), len(data)) + data)
            self._file.flush()

    def close(self) -> None:
        self._file.close()


class TcpPackets:
    """One TCP connection's packets, with sequence numbers that add up."""

    def __init__(self, pcap: PcapWriter, client: Address, server: Address) -> None:
        self._pcap = pcap
        self._ends = (client, server)
        self._next = [1000, 5000]
        self._lock = threading.Lock()
        self._segment(0, SYN)
        self._segment(1, SYN | ACK)
        self._segment(0, ACK)

    def data(self, sender: int, data: bytes) -> None:
        """From the client (0) or the server (1)."""
        for at in range(0, len(data), 16384):
            self._segment(sender, PSH | ACK, data[at : at + 16384])
            self._segment(1 - sender, ACK)

    def end(self, sender: int, *, reset: bool) -> None:
        self._segment(sender, RST | ACK if reset else FIN | ACK)
        if not reset:
            self._segment(1 - sender, ACK)

    def _segment(self, sender: int, flags: int, data: bytes = b"") -> None:
        (source, source_port), (target, target_port) = self._ends[sender], self._ends[1 - sender]
        with self._lock:
            sequence, acknowledged = self._next[sender], self._next[1 - sender]
            self._next[sender] += len(data) + bool(flags & (SYN | FIN))
            tcp = struct.pack(
                "!HHIIBBHHH",
                source_port,
                target_port,
                sequence & 0xFFFFFFFF,
                acknowledged & 0xFFFFFFFF if flags & ACK else 0,
                5 << 4,
                flags,
                0xFFFF,
                0,  # no checksum, as on a capture of offloaded packets: readers do not check it unless told to
                0,
            )
            self._pcap.packet(_ip(source, target, tcp + data))


def _ip(source: str, target: str, payload: bytes) -> bytes:
    """RFC 791 or RFC 8200, by the look of the addresses."""
    a, b = ipaddress.ip_address(source), ipaddress.ip_address(target)
    if a.version == 6:
        return struct.pack("!IHBB", 6 << 28, len(payload), socket.IPPROTO_TCP, 64) + a.packed + b.packed + payload
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0x4000, 64, socket.IPPROTO_TCP, 0)
    header += a.packed + b.packed
    total = sum(struct.unpack("!10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return header[:10] + struct.pack("!H", 0xFFFF - total) + header[12:] + payload


class Relay:
    """``with Relay((host, port), pcap=path) as relay``: connect to ``relay.port``. Half-close and reset pass."""

    def __init__(self, target: Address, *, pcap: Path, host: str = "127.0.0.1") -> None:
        self._target = target
        self._path = pcap
        self._host = host
        self._threads: list[threading.Thread] = []
        self._open: set[socket.socket] = set()
        self._closing = False

    def __enter__(self) -> Self:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        self._listener = socket.create_server((self._host, 0), family=family)
        self.host: str = self._host
        self.port: int = self._listener.getsockname()[1]
        self._pcap = PcapWriter(self._path)
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        """Give connections that are ending a moment to end, then cut the rest and write nothing more."""
        self._closing = True
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        deadline = time.monotonic() + 0.5
        while any(t.is_alive() for t in self._threads) and time.monotonic() < deadline:
            time.sleep(0.01)
        for s in list(self._open):
            with suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        self._pcap.close()

    @property
    def address(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def _start(self, work: object, *args: object) -> threading.Thread:
        assert callable(work)
        thread = threading.Thread(target=work, args=args, name=f"relay {self.port}")
        self._threads.append(thread)
        thread.start()
        return thread

    def _accept(self) -> None:
        while not self._closing:
            try:
                client, address = self._listener.accept()
            except OSError:  # closed by __exit__
                return
            self._start(self._connection, client, address[:2])

    def _connection(self, client: socket.socket, address: Address) -> None:
        """Both ways of one connection; this thread is the way to the server."""
        with client:
            try:
                server = socket.create_connection(self._target, timeout=10)
            except OSError:
                return
            with server:
                server.settimeout(None)
                self._open |= {client, server}
                packets = TcpPackets(self._pcap, address, (self.host, self.port))
                back = threading.Thread(target=self._pump, args=(server, client, packets, 1), name=f"relay {self.port}")
                back.start()
                self._pump(client, server, packets, 0)
                back.join()
                self._open -= {client, server}

    def _pump(self, source: socket.socket, sink: socket.socket, packets: TcpPackets, sender: int) -> None:
        while True:
            try:
                data = source.recv(65536)
            except OSError:
                packets.end(sender, reset=True)
                self._reset(sink)
                return
            if not data:
                packets.end(sender, reset=False)
                with suppress(OSError):
                    sink.shutdown(socket.SHUT_WR)
                return
            packets.data(sender, data)
            try:
                sink.sendall(data)
            except OSError:  # the other way has seen or will see why
                with suppress(OSError):
                    source.shutdown(socket.SHUT_RD)
                return

    @staticmethod
    def _reset(sink: socket.socket) -> None:
        """Pass a reset on: the close that follows sends RST, and the other way wakes up."""
        with suppress(OSError):
            sink.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sink.shutdown(socket.SHUT_RD)
