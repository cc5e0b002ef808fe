"""One conversation through the intercepting proxy, witnessed by everybody who can: what each of them says of it.

    client - relay - proxy - relay - target

The relays write what passes on either side of the proxy into capture files, the client and the target print their
messages (``openssl -msg``) and both they and the proxy keep key logs. :func:`tshark_saw`, :func:`decoded`,
:func:`recorded` and :func:`openssl_told` bring all into one form: for each side of a leg its messages in order, with
their lengths, headers included.
"""

from __future__ import annotations

import atexit
import shutil
import struct
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from countersign.proxy import Address, SecretsKept
from countersign.recorder.recording import LegRole
from countersign.recorder.wire.events import Content, Message, Side
from countersign.recorder.wire.leg import LegDecoder
from countersign.recorder.wire.messages import message_type
from countersign.recorder.wire.secrets import KeyLog
from tests.peers.java import java_truststore
from tests.peers.openssl import OpensslServer
from tests.peers.relay import FIN, RST, SYN, Relay
from tests.peers.tshark import tshark_handshakes
from tests.proxy.running import RunningProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from countersign.recorder.recording import Leg, Recording
    from tests.peers.openssl import Msg
    from tests.peers.tshark import Seen as TsharkSeen


class Seen(NamedTuple):
    """One message as any witness reports it; ``length`` with the header of a handshake message."""

    content: str
    type: str
    length: int


Sides = dict[Side, list[Seen]]
"""What each side of a leg sent, in order."""

KEYLOGS = {LegRole.CLIENT: "client.keys", LegRole.SERVER: "target.keys"}
_PRINTS_WITHIN = 5.0
_PCAP_HEADER = 24


class Target(Protocol):
    """What stands behind the proxy."""

    @property
    def port(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Scene:
    """What a client in a conversation can use: where to go, its own key log, and the target for a word at its side.

    ``root`` is the inspection CA's, ``target_root`` the one that vouches for the target.
    """

    port: int
    folder: Path
    target: Any
    target_root: Path
    proxy: RunningProxy

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def keylog(self) -> Path:
        return self.folder / KEYLOGS[LegRole.CLIENT]

    @property
    def root(self) -> Path:
        return self.proxy.root_file(self.folder)

    @property
    def jvm_trust(self) -> Path:
        return jvm_trust(self.proxy.authority.root_pem)


@dataclass(frozen=True, slots=True)
class Witnessed:
    """A conversation that is over. ``told`` is what ``openssl -msg`` printed at the client and at the target."""

    folder: Path
    recordings: tuple[Recording, ...]
    captures: Mapping[LegRole, Path]
    told: Mapping[LegRole, Sequence[Msg]]

    def legs(self, role: LegRole) -> list[Leg]:
        return [leg for recording in self.recordings if (leg := recording.leg(role)) is not None]

    @property
    def own_secrets(self) -> KeyLog:
        """What the proxy kept."""
        kept = KeyLog()
        for secret in (s for r in self.recordings for leg in r.legs for s in leg.secrets):
            kept.add(secret.label, secret.client_random, secret.secret)
        return kept

    @property
    def own_keylog(self) -> Path:
        """What the proxy kept, as a file."""
        path = self.folder / "proxy.keys"
        path.write_text("".join(f"{line}\n" for line in self.own_secrets.lines()))
        return path

    def peer_keylog(self, role: LegRole) -> Path | None:
        """What the client or the target kept, if it did."""
        path = self.folder / KEYLOGS[role]
        return path if path.exists() and path.stat().st_size else None


@cache
def jvm_trust(*roots: bytes) -> Path:
    """A JVM's trust store of these roots, made once a session: keytool takes its time."""
    folder = _stores() / str(len(list(_stores().iterdir())))
    folder.mkdir()
    pems = [folder / f"{number}.pem" for number in range(len(roots))]
    for pem, root in zip(pems, roots, strict=True):
        pem.write_bytes(root)
    return java_truststore(folder / "trust.p12", *pems)


@cache
def _stores() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="trust-stores-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def witness(
    client: Callable[[Scene], Sequence[Msg] | None],
    target: AbstractContextManager[Target],
    folder: Path,
    *,
    target_root: Path,
    sessions: int = 1,
    **settings: Any,
) -> Witnessed:
    """Let the client talk to the target through the proxy ``sessions`` times; ``settings`` are the proxy's."""
    captures = {role: folder / f"{role}.pcap" for role in (LegRole.CLIENT, LegRole.SERVER)}
    told: dict[LegRole, Sequence[Msg]] = {}
    with ExitStack() as stack:
        serving = stack.enter_context(target)
        back = stack.enter_context(Relay(("127.0.0.1", serving.port), pcap=captures[LegRole.SERVER]))
        where = Address("127.0.0.1", back.port)
        proxy = stack.enter_context(RunningProxy(target=where, secrets=SecretsKept.ALL, **settings))
        front = stack.enter_context(Relay(proxy.address, pcap=captures[LegRole.CLIENT]))
        scene = Scene(front.port, folder, serving, target_root, proxy)
        messages = client(scene)
        if messages is not None:
            told[LegRole.CLIENT] = messages
        recordings = tuple(proxy.recordings(sessions))
        if isinstance(serving, OpensslServer):
            told[LegRole.SERVER] = _all_told(serving, recordings)
    return Witnessed(folder, recordings, captures, told)


def _all_told(server: OpensslServer, recordings: Iterable[Recording]) -> list[Msg]:
    """The target's messages, once it has printed all that was recorded; it prints a moment later than it speaks."""
    legs = [leg for recording in recordings if (leg := recording.leg(LegRole.SERVER)) is not None]
    deadline = time.monotonic() + _PRINTS_WITHIN
    while unlike_told(legs, server.messages, Side.SERVER) and time.monotonic() < deadline:
        time.sleep(0.01)
    return server.messages


# -- witnesses -----------------------------------------------------------------------------------------------------


def recorded(legs: Iterable[Leg]) -> Sides:
    """What the proxy recorded."""
    return in_one_form(message for leg in legs for message in leg.messages)


def in_one_form(messages: Iterable[Message]) -> Sides:
    """Messages of ours; a HelloRetryRequest keeps its name."""
    sides: Sides = {side: [] for side in Side}
    for message in messages:
        kind = message_type(message.content, message.code, message.raw)
        sides[message.sender].append(Seen(message.content.value, kind, message.length))
    return sides


def openssl_told(messages: Iterable[Msg]) -> Sides:
    """What ``-msg`` printed. It never tells of a change-cipher-spec that it received."""
    sides: Sides = {side: [] for side in Side}
    for message in messages:
        kind = "hello_retry_request" if message.is_hello_retry_request else message.type
        sides[Side(message.sender)].append(Seen(message.content, kind, message.length))
    return sides


def tshark_saw(witnessed: Witnessed, *keylogs: Path) -> dict[LegRole, Sides]:
    """What tshark found in the captures of both legs. To it a HelloRetryRequest is a ServerHello."""
    merged, keys = witnessed.folder / "both.pcap", witnessed.folder / "merged.keys"
    first, second = (witnessed.captures[role] for role in (LegRole.CLIENT, LegRole.SERVER))
    merged.write_bytes(first.read_bytes() + second.read_bytes()[_PCAP_HEADER:])
    keys.write_bytes(b"".join(keylog.read_bytes() for keylog in keylogs))
    of_client = len(connections(first))
    legs: dict[LegRole, Sides] = {role: {side: [] for side in Side} for role in witnessed.captures}
    ports = dict.fromkeys(_ports(merged), "tls")
    for stream, sides in _by_stream(tshark_handshakes(merged, keys, decode_as=ports)).items():
        for side, seen in sides.items():
            legs[LegRole.CLIENT if stream < of_client else LegRole.SERVER][side] += seen
    return legs


def tshark_saw_in_export(file: Path) -> list[Sides]:
    """What tshark finds in a recording's export, leg by leg; the keys are in the file."""
    return [sides for _, sides in sorted(_by_stream(tshark_handshakes(file)).items())]


def _by_stream(messages: Iterable[TsharkSeen]) -> dict[int, Sides]:
    streams: dict[int, Sides] = {}
    for message in messages:
        sides = streams.setdefault(message.stream, {side: [] for side in Side})
        sides[Side(message.sender)].append(Seen(message.content, message.type, message.length))
    return streams


def decoded(capture: Path, keylog: KeyLog) -> list[list[Message]]:
    """What our sans-IO decoder finds in the bytes of each connection of a capture."""
    found: list[list[Message]] = []
    for chunks in connections(capture):
        decoder = LegDecoder(keylog=keylog)
        events = [e for sender, data, t in chunks for e in decoder.receive(sender, data, t)]
        events += [e for side in Side for e in decoder.end(side, 0)]
        found.append([event for event in events if isinstance(event, Message)])
    return found


# -- like with like ------------------------------------------------------------------------------------------------


def as_tshark_names_them(sides: Sides) -> Sides:
    return {
        side: [m._replace(type="server_hello") if m.type == "hello_retry_request" else m for m in sent]
        for side, sent in sides.items()
    }


def unlike_told(legs: Sequence[Leg], told: Sequence[Msg], teller: Side) -> str:
    """How the recorded legs differ from what ``openssl -msg`` printed at this side; empty where they do not.

    Two things it does not print: a change-cipher-spec that it received, and what it has not read. A side that has sent
    an alert (its goodbye or a fatal one) reads no further, so at the end of a connection that much may be missing.
    """
    theirs = openssl_told(told)
    begin = dict.fromkeys(Side, 0)
    for leg in legs:
        ours = recorded([leg])
        ours[teller.peer] = [m for m in ours[teller.peer] if m.content != Content.CHANGE_CIPHER_SPEC]
        sent = theirs[teller][begin[teller] :][: len(ours[teller])]
        received = theirs[teller.peer][begin[teller.peer] :][: len(ours[teller.peer])]
        if sent and sent[-1].content == Content.ALERT:
            while received != ours[teller.peer][: len(received)]:
                received.pop()  # the next connection's
            ours[teller.peer] = ours[teller.peer][: len(received)]
        if (sent, received) != (ours[teller], ours[teller.peer]):
            return _shown({teller: sent, teller.peer: received}, recorded([leg]))
        begin[teller] += len(sent)
        begin[teller.peer] += len(received)
    if any(len(theirs[side]) != begin[side] for side in Side):
        return _shown({side: theirs[side][begin[side] :] for side in Side}, {})
    return ""


def unlike(theirs: Sides, ours: Sides) -> str:
    """How the two differ; empty where they do not."""
    return "" if theirs == ours else _shown(theirs, ours)


def _shown(theirs: Mapping[Side, Sequence[Seen]], ours: Mapping[Side, Sequence[Seen]]) -> str:
    lines = []
    for side in Side:
        for whose, said in (("theirs", theirs), ("ours", ours)):
            lines.append(f"{side} {whose}: " + ", ".join(f"{m.type} {m.length}" for m in said.get(side, ())))
    return "\n".join(lines)


# -- captures ------------------------------------------------------------------------------------------------------


def connections(capture: Path) -> list[list[tuple[Side, bytes, float]]]:
    """The bytes of each TCP connection in a file of :class:`~tests.peers.relay.Relay`: nothing lost, all in order."""
    found: dict[frozenset[bytes], tuple[bytes, list[tuple[Side, bytes, float]]]] = {}
    for t, packet in _packets(capture.read_bytes()):
        header = (packet[0] & 15) * 4
        source, target = packet[12:16] + packet[header : header + 2], packet[16:20] + packet[header + 2 : header + 4]
        client, chunks = found.setdefault(frozenset((source, target)), (source, []))
        data = packet[header + 20 :]
        if data:
            chunks.append((Side.CLIENT if source == client else Side.SERVER, data, t))
    return [chunks for _, chunks in found.values()]


def _packets(file: bytes) -> Iterator[tuple[float, bytes]]:
    at = _PCAP_HEADER
    while at < len(file):
        seconds, micro, length, _ = struct.unpack_from("<IIII", file, at)
        yield seconds + micro / 1e6, file[at + 16 : at + 16 + length]
        at += 16 + length


def _ports(capture: Path) -> set[int]:
    """The server's port of each connection."""
    found = set()
    for _, packet in _packets(capture.read_bytes()):
        header = (packet[0] & 15) * 4
        if packet[header + 13] & (SYN | FIN | RST | 0x10) == SYN:
            found.add(int.from_bytes(packet[header + 2 : header + 4], "big"))
    return found
