"""Writing a recording as pcapng, so that Wireshark and tshark open it as they would a capture.

A recording is not a capture: it holds messages, with their times, and neither TCP nor ciphertext. What it lacks is
made up here, so that a dissector finds a whole conversation, and what was made up is said in the section's comment:

- Each leg is one TCP connection on an interface of its own ("client leg", "server leg"), without loss, with right
  numbers and checksums (:mod:`._tcp`). Addresses are the real ones where they are known, else those reserved for
  documentation (RFC 5737, RFC 3849), with the names in a Name Resolution Block. The client leg's server is the proxy.
- The encrypted messages are encrypted once more under throwaway keys, and these are in a Decryption Secrets Block
  (:mod:`._resealed`). No real secret is ever in the file, whatever ``--secrets`` was: they would not open this
  ciphertext, and a recording has to be safe to attach to a ticket. ``export --format keylog`` gives them.
- Application data was never kept: one record stands for it, with the true count in a comment.
- Some ports belong to other protocols in every dissector (5432, 25, 8080). Where the target's does, 443 stands in.

Problems, faults and failures are comments on the packets during which they were noticed. Nothing in a comment or name
is shown as it came from the wire: it goes through :func:`~countersign.recorder.wire.text.printable`.

The whole recording is in the file too, for the way back: Custom Blocks of the kind that may be copied (0x00000BAD)
under the enterprise number for documentation and examples, 32473 (RFC 5612), for the project has none of its own. The
data of each begins with :data:`MAGIC`, then part and parts (two bytes each) and the length (four bytes, all numbers in
the section's byte order), then that many bytes of the JSON form in ASCII, then padding. The parts joined are the JSON.

The format: https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-03.html, its section numbers are cited below.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from heapq import merge
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING

from countersign import __version__
from countersign.recorder.files._resealed import ResealedLeg
from countersign.recorder.files._tcp import Address, Conversation, Endpoint
from countersign.recorder.files._words import fault_text
from countersign.recorder.recording import Ending, LegRole, Recording, to_json
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from countersign.recorder.recording import End, Leg
    from countersign.recorder.wire.secrets import Secret

MAGIC = b"countersign-json"
"""The first sixteen bytes of our Custom Blocks' data."""
PRIVATE_ENTERPRISE_NUMBER = 32473

_SECTION, _INTERFACE, _NAMES, _PACKET, _SECRETS, _CUSTOM = 0x0A0D0D0A, 1, 4, 6, 0x0A, 0x0BAD
_LINKTYPE_RAW = 101  # IPv4 or IPv6, told by the first four bits
_PART = 4 << 20  # readers refuse blocks of more than 16 MiB
_LONGEST_COMMENT = 2_000
_MOST_COMMENTS = 20  # on one packet

_TLS_PORTS = frozenset({443, 465, 636, 853, 993, 995, 2443, 3496, 5061, 5671, 8883, 11207, 19999, 27017})
_UNCLAIMED_PORTS = frozenset({4433, 4443, 6443, 7443, 8443, 9443, 10443, 14433})
_CLAIMED_HIGH_PORTS = frozenset({34980, 44321, 44322, 44818, 48049, 48898, 50000, 57000})

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def export_pcapng(recording: Recording) -> bytes:
    """The recording as one pcapng section."""
    return b"".join(pcapng_blocks(recording))


def pcapng_blocks(recording: Recording) -> Iterator[bytes]:
    """The blocks of one recording's section, in order."""
    tracks = [_Track(recording, leg, number) for number, leg in enumerate(recording.legs)]
    unplaced = _place_comments(recording, tracks)
    yield _section_header(recording, tracks, unplaced)
    for track in tracks:
        yield _interface(track)
    names = {address: name for track in tracks for address, name in track.names.items()}
    if names:
        yield _name_resolution(names)
    secrets = [secret for track in tracks for secret in track.secrets]
    if secrets:
        yield _decryption_secrets(secrets)
    for packet in merge(*(track.packets for track in tracks), key=lambda packet: packet.t):
        yield _enhanced_packet(packet, recording.started)
    # Last, for tshark 4 shows a Custom Block as a frame without a time, and would count all times from it.
    yield from _recording_blocks(recording)


# -- from a leg to packets ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Packet:
    t: float
    interface: int
    data: bytes
    comments: list[str] = field(default_factory=list)


class _Track:
    """One leg as packets. ``carriers`` has the packet in which each message ends."""

    def __init__(self, recording: Recording, leg: Leg, number: int) -> None:
        self.leg = leg
        self.number = number
        self.packets: list[_Packet] = []
        self.carriers: dict[int, _Packet] = {}
        self.names: dict[Address, str] = {}
        client, server, remark = _ends_of(recording, leg.role, self.names)
        self._conversation = Conversation(client, server)
        resealed = ResealedLeg(leg)
        endings = sorted(leg.ends, key=lambda end: end.t)
        for sent in resealed:
            while endings and endings[0].t < sent.t:
                self._end(endings.pop(0))
            self._open(sent.t)
            self._add(sent.t, self._conversation.send(sent.sender, sent.data))
            if sent.message is not None:
                self.carriers[sent.message] = self.packets[-1]
            if sent.note:
                self.packets[-1].comments.append(sent.note)
        for end in endings:
            self._end(end)
        if remark and self.packets:
            self.packets[0].comments.append(remark)
        self.secrets = resealed.secrets
        self.notes = resealed.notes

    def during(self, t: float) -> _Packet | None:
        """The last packet up to ``t``, else the first."""
        return next((packet for packet in reversed(self.packets) if packet.t <= t), next(iter(self.packets), None))

    def _open(self, t: float) -> None:
        if not self.packets:
            # The session starts with the client's connection; when the target was dialled, no message tells.
            began = t if self.leg.role is LegRole.SERVER else 0.0
            self._add(min(began, t), self._conversation.open())

    def _end(self, end: End) -> None:
        self._open(end.t)
        if end.how is Ending.FIN:
            self._add(end.t, self._conversation.finish(end.sender))
        elif end.how is Ending.RESET:
            self._add(end.t, self._conversation.reset(end.sender))
        else:
            what = (
                "said nothing more until its time was up" if end.how is Ending.SILENT else "was cut off by countersign"
            )
            self.packets[-1].comments.append(f"the {end.sender.value} {what}, at {end.t:.6f} s")

    def _add(self, t: float, packets: Iterable[bytes]) -> None:
        self.packets += [_Packet(t, self.number, packet) for packet in packets]


def _place_comments(recording: Recording, tracks: list[_Track]) -> list[str]:
    """Put what went wrong on the packets where it was noticed; give back what has no packet to go to."""
    unplaced: list[str] = []
    by_role = {track.leg.role: track for track in tracks}
    for role, problem in recording.problems:
        _place(by_role.get(role), problem.message, problem.t, f"problem: {problem}", unplaced)
    for track in tracks:
        for problem in track.leg.read().problems:
            _place(track, problem.message, problem.t, f"problem: {problem}", unplaced)
        for fault in track.leg.faults:
            _place(track, fault.get("message"), fault.get("t"), f"fault: {fault_text(fault)}", unplaced)
    for failure in recording.failures:
        where = by_role.get(failure.leg) if failure.leg else None
        _place(where, None, failure.t, f"{failure.code}, by the {failure.by.value}: {failure.text}", unplaced)
    return unplaced


def _place(track: _Track | None, message: object, t: object, text: str, unplaced: list[str]) -> None:
    packet = None
    if track is not None:
        when = float(t) if isinstance(t, int | float) else 0.0
        packet = track.carriers.get(message) if isinstance(message, int) else None
        packet = packet or track.during(when)
    if packet is None:
        unplaced.append(text)
    else:
        packet.comments.append(text)


# -- addresses ---------------------------------------------------------------------------------------------------


def _ends_of(recording: Recording, role: LegRole, names: dict[Address, str]) -> tuple[Endpoint, Endpoint, str]:
    """Both ends of a leg, and what has to be said about them; ``names`` receives what the addresses are called."""
    client_host, client_port = _split(recording.client, made_up_port(recording))
    target_host, target_port = _split(recording.target or recording.sni, 443)
    client, target = _literal(client_host), _literal(target_host)
    version = target.version if target and role is not LegRole.CLIENT else client.version if client else 4
    proxy = _reserved("proxy", version)
    if role is LegRole.SERVER:
        client, client_port = proxy, made_up_port(recording)
    elif client is None or client.version != version:
        client = _reserved(f"client {client_host or recording.id}", version)
    if role is LegRole.CLIENT:
        target, target_port = proxy, 443
    elif target is None:
        target = _reserved(f"target {target_host}", version)
        names[target] = target_host or "target"
    elif recording.sni and recording.sni != target_host:
        names[target] = recording.sni
    if role is not LegRole.THROUGH:
        names[proxy] = "countersign"
    remark = ""
    if not _opens_as_tls(target_port, client_port):
        remark = f"port 443 stands for {target_port}, which dissectors take for another protocol"
        target_port = 443
    return Endpoint(client, client_port), Endpoint(target, target_port), remark


def made_up_port(recording: Recording) -> int:
    """The port of a client whose own is not known, the proxy's to the target among them.

    It is the recording's own, so that the conversations of several recordings in one file stay apart.
    """
    port = 49152 + int.from_bytes(sha256(recording.id.encode()).digest()[:2]) % 16384
    return port + 1 if port in _CLAIMED_HIGH_PORTS else port


def _opens_as_tls(server_port: int, client_port: int) -> bool:
    """Whether tshark 4 looks for TLS there: the port is registered for it, or neither is for anything else."""
    if server_port in _TLS_PORTS:
        return True
    unclaimed = server_port in _UNCLAIMED_PORTS or (server_port >= 0x8000 and server_port not in _CLAIMED_HIGH_PORTS)
    return unclaimed and client_port >= 0x8000 and client_port not in _CLAIMED_HIGH_PORTS


def _split(place: str | None, port: int) -> tuple[str, int]:
    """``host:port``, ``[v6]:port`` or a bare host; the given port where none can be read."""
    if not place:
        return "", port
    host, colon, number = place.rpartition(":")
    if not colon or not (number.isascii() and number.isdecimal() and 0 < int(number[:6]) < 0x10000):
        return place.strip("[]"), port
    return host.strip("[]"), int(number)


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _reserved(who: str, version: int) -> Address:
    """An address for documentation, the same for the same name: the proxy's in one net, all others in another."""
    number = 1 if who == "proxy" else 1 + sha256(who.encode("utf-8", "backslashreplace")).digest()[0] % 254
    if version == 6:  # RFC 3849
        return IPv6Address("2001:db8::" if who == "proxy" else "2001:db8:1::") + number
    return IPv4Address("192.0.2.0" if who == "proxy" else "198.51.100.0") + number  # RFC 5737


# -- blocks ------------------------------------------------------------------------------------------------------


def _section_header(recording: Recording, tracks: list[_Track], unplaced: list[str]) -> bytes:
    """Section 4.1, with what has to be said about the whole recording as comments."""
    made_up = (
        "written from recorded messages: TCP is synthesised; encrypted messages were re-encrypted under throwaway keys "
        "by countersign; ciphertext and record boundaries are not those of the wire; application data was not kept"
    )
    notes = (f"{track.leg.role.value} leg: {note}" for track in tracks for note in track.notes)
    comments = [f"countersign recording {recording.id}: {recording.outcome.text}", made_up, *notes, *unplaced]
    options = [*_comments(comments), (4, f"countersign {__version__}".encode())]  # shb_userappl
    return _block(_SECTION, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1) + _options(options))


def _interface(track: _Track) -> bytes:
    """Section 4.2; times are in microseconds (if_tsresol 6)."""
    options = [(2, f"{track.leg.role.value} leg".encode()), (9, b"\x06")]
    return _block(_INTERFACE, struct.pack("<HHI", _LINKTYPE_RAW, 0, 0) + _options(options))


def _recording_blocks(recording: Recording) -> Iterator[bytes]:
    """Section 4.7: the recording's JSON form, in parts where it is long."""
    document = json.dumps(to_json(recording), separators=(",", ":")).encode("ascii")
    parts = [document[start : start + _PART] for start in range(0, len(document), _PART)]
    for number, part in enumerate(parts):
        head = struct.pack("<I16sHHI", PRIVATE_ENTERPRISE_NUMBER, MAGIC, number, len(parts), len(part))
        yield _block(_CUSTOM, _padded(head + part))


def _name_resolution(names: Mapping[Address, str]) -> bytes:
    """Section 4.5."""
    records = b""
    for address, name in names.items():
        value = address.packed + printable(name, limit=250).encode("utf-8") + b"\0"
        records += struct.pack("<HH", 1 if address.version == 4 else 2, len(value)) + _padded(value)
    return _block(_NAMES, records + struct.pack("<HH", 0, 0))


def _decryption_secrets(secrets: list[Secret]) -> bytes:
    """Section 4.8, a TLS key log."""
    lines = ["# made up by countersign for this file: these open nothing else", *(secret.line for secret in secrets)]
    text = "".join(f"{line}\n" for line in lines).encode("ascii")
    return _block(_SECRETS, struct.pack("<II", 0x544C534B, len(text)) + _padded(text))


def _enhanced_packet(packet: _Packet, started: datetime) -> bytes:
    """Section 4.3."""
    ticks = (started - _EPOCH) // _MICROSECOND + round(packet.t * 1_000_000)
    size = len(packet.data)
    head = struct.pack("<IIIII", packet.interface, ticks >> 32 & 0xFFFFFFFF, ticks & 0xFFFFFFFF, size, size)
    comments = packet.comments
    if len(comments) > _MOST_COMMENTS:
        comments = [*comments[:_MOST_COMMENTS], f"and {len(comments) - _MOST_COMMENTS} more"]
    return _block(_PACKET, head + _padded(packet.data) + _options(_comments(comments)))


def _comments(texts: Iterable[str]) -> list[tuple[int, bytes]]:
    return [(1, printable(text, limit=_LONGEST_COMMENT).encode("utf-8")) for text in texts]


def _options(options: Iterable[tuple[int, bytes]]) -> bytes:
    """Section 3.5; nothing at all where there is none."""
    packed = b"".join(struct.pack("<HH", code, len(value)) + _padded(value) for code, value in options)
    return packed and packed + struct.pack("<HH", 0, 0)


def _block(kind: int, body: bytes) -> bytes:
    """Section 3.1."""
    total = struct.pack("<I", 12 + len(body))
    return struct.pack("<I", kind) + total + body + total


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
