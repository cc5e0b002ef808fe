"""tshark as a second opinion on what was on the wire, and tcpdump where capturing is permitted."""

from __future__ import annotations

import getpass
import socket
import subprocess
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, NamedTuple, Self
from xml.etree import ElementTree as ET

from tests.peers.process import Background, run

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

HANDSHAKE_NAMES = {  # RFC 8446 4, RFC 5246 7.4, RFC 6066, RFC 8879
    0: "hello_request",
    1: "client_hello",
    2: "server_hello",
    4: "new_session_ticket",
    5: "end_of_early_data",
    8: "encrypted_extensions",
    11: "certificate",
    12: "server_key_exchange",
    13: "certificate_request",
    14: "server_hello_done",
    15: "certificate_verify",
    16: "client_key_exchange",
    20: "finished",
    22: "certificate_status",
    24: "key_update",
    25: "compressed_certificate",
}


class Seen(NamedTuple):
    """One message that tshark dissected, ``length`` with its header.

    ``type`` is ``encrypted`` (and ``length`` the record's) where an alert or handshake record below TLS 1.3 could not
    be opened; TLS 1.3 handshake messages without their keys look like application data and are not here at all.
    """

    frame: int
    stream: int
    sender: Literal["client", "server"]
    content: Literal["handshake", "alert", "change_cipher_spec"]
    type: str
    length: int


def tshark_handshakes(
    capture: Path, keylog: Path | None = None, *, decode_as: Mapping[int, str] | None = None, timeout: float = 30
) -> list[Seen]:
    """Every handshake message, alert and change-cipher-spec in the file, in the order of its frames.

    The client of a stream is whoever sent its first packet. ``decode_as`` names the protocol on a TCP port (``tls``,
    ``http`` for CONNECT) where tshark would not guess it. A pcapng file with its secrets inside needs no ``keylog``.
    """
    options: list[str | Path] = ["-o", f"tls.keylog_file:{keylog}"] if keylog else []
    for port, protocol in (decode_as or {}).items():
        options += ["-d", f"tcp.port=={port},{protocol}"]
    # -2 would be wrong here: one pass sees the frames as they came, and the key log is read whole before the first.
    done = run("tshark", "-n", "-r", capture, *options, "-T", "pdml", "-J", "frame tcp tls", timeout=timeout).check()
    return list(_messages(ET.fromstring(done.stdout)))


def _messages(document: ET.Element) -> Iterable[Seen]:
    clients: dict[int, tuple[str, str]] = {}
    for packet in document.iter("packet"):
        tcp = packet.find("proto[@name='tcp']")
        if tcp is None:
            continue
        number = int(_value(packet.find("proto[@name='frame']"), "frame.number"))
        stream = int(_value(tcp, "tcp.stream"))
        ports = (_value(tcp, "tcp.srcport"), _value(tcp, "tcp.dstport"))
        sender: Literal["client", "server"] = "client" if clients.setdefault(stream, ports) == ports else "server"
        for tls in packet.iter("proto"):
            if tls.get("name") != "tls":
                continue
            for record in tls.iter("field"):
                if record.get("name") == "tls.record":
                    for content, kind, length in _record(record):
                        yield Seen(number, stream, sender, content, kind, length)


def _record(record: ET.Element) -> Iterable[tuple[Literal["handshake", "alert", "change_cipher_spec"], str, int]]:
    for field in record.iter("field"):
        match field.get("name"):
            case "tls.change_cipher_spec":
                yield "change_cipher_spec", "change_cipher_spec", 1
            case "tls.alert_message":
                opened = field.find("field[@name='tls.alert_message.desc']") is not None
                yield "alert", "alert" if opened else "encrypted", 2 if opened else _length(record)
            case "tls.handshake":
                kind = field.find("field[@name='tls.handshake.type']")
                if kind is not None:
                    code = int(kind.get("show", "-1"))
                    length = 4 + int(_value(field, "tls.handshake.length"))
                    yield "handshake", HANDSHAKE_NAMES.get(code, f"handshake_{code}"), length
                elif "Encrypted" in (field.get("showname") or field.get("show") or ""):
                    yield "handshake", "encrypted", _length(record)


def _length(record: ET.Element) -> int:
    return int(_value(record, "tls.record.length"))


def _value(element: ET.Element | None, name: str) -> str:
    found = element.find(f".//field[@name='{name}']") if element is not None else None
    assert found is not None, f"tshark printed no {name}"
    return found.get("show", "")


class Capture:
    """``with Capture(port, pcap=path)``: tcpdump on loopback for one TCP port, where :meth:`permitted`.

    A datagram of ours to the same port marks the beginning and the end: when it is in the file, so is all before it.
    """

    def __init__(self, port: int, *, pcap: Path) -> None:
        self._port = port
        self._path = pcap
        self._tcpdump = Background(
            *("tcpdump", "-i", "lo", "-n", "-U", "--immediate-mode", "-s", "0", "-Z", getpass.getuser()),
            *("-w", pcap, f"port {port}"),
        )

    @staticmethod
    def permitted() -> bool:
        """Whether tcpdump may capture on loopback here; asks by trying."""
        try:
            tried = subprocess.run(
                ["tcpdump", "-i", "lo", "-c", "1", "-d"], capture_output=True, timeout=10, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
        return tried.returncode == 0

    def __enter__(self) -> Self:
        self._tcpdump.__enter__()
        try:
            self._tcpdump.wait_for(r"listening on lo")
            self._mark(b"capture begins")
        except BaseException:
            self._tcpdump.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._mark(b"capture ends")
        finally:
            self._tcpdump.stop()

    def _mark(self, text: bytes, timeout: float = 30) -> None:
        deadline = time.monotonic() + timeout
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            while not (self._path.exists() and text in self._path.read_bytes()):
                assert time.monotonic() < deadline, f"tcpdump does not see loopback traffic\n{self._tcpdump.stderr}"
                with suppress(ConnectionRefusedError):
                    s.sendto(text, ("127.0.0.1", self._port))
                time.sleep(0.02)
