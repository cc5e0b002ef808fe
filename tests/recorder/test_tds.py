"""TLS inside of TDS packets, as Microsoft SQL Server has it up to version 7 (MS-TDS 2.2.6.5)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from OpenSSL import SSL

from countersign.recorder.files.importing import import_files
from countersign.recorder.recording import Recording, Status
from countersign.recorder.wire.events import Message
from countersign.recorder.wire.tds import Unwrapper, tell_prelogin
from tests.peers.process import run
from tests.recorder.made_captures import Lost, Wire
from tests.recorder.tls_pairs import C, Pair, S, messages, pair

if TYPE_CHECKING:
    from pathlib import Path

    from countersign.recorder.wire.events import Side
    from tests.recorder.made_captures import Said

PRELOGIN, RESPONSE = 0x12, 0x04
TLS12, TLS13 = SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION


def packets(kind: int, data: bytes, *, size: int = 4096) -> bytes:
    """A TDS message in packets of at most this size; the last one says that it is."""
    pieces = [data[at : at + size - 8] for at in range(0, len(data), size - 8)]
    heads = (
        struct.pack("!BBHHBB", kind, piece is pieces[-1], 8 + len(piece), 0, number & 0xFF, 0)
        for number, piece in enumerate(pieces, start=1)
    )
    return b"".join(head + piece for head, piece in zip(heads, pieces, strict=True))


def prelogin(encryption: int, kind: int = PRELOGIN) -> bytes:
    """Version and encryption."""
    options = struct.pack("!BHHBHHB", 0, 11, 6, 1, 17, 1, 0xFF)
    return packets(kind, options + b"\x10\x00\x03\xe8\x00\x00" + bytes([encryption]))


def spoken(version: int, *, encryption: int = 1, server: int = PRELOGIN, size: int = 4096) -> tuple[list[Said], Pair]:
    """What goes over the wire, and who said it."""
    made = pair(version=version)
    made.run()
    handshake = len(made.log)
    made.say(made.client, b"a login")
    made.say(made.server, b"tokens" * 3000)
    made.close()
    kinds = {C: PRELOGIN, S: server}
    wrapped = [(side, packets(kinds[side], data, size=size)) for side, data in made.log[:handshake]]
    before = [(C, prelogin(encryption)), (S, prelogin(encryption, RESPONSE))]
    return [*before, *wrapped, *made.log[handshake:]], made


def imported(folder: Path, said: list[Said], made: Pair) -> Recording:
    capture = folder / "tds.pcap"
    capture.write_bytes(Wire().conversation(said, server="192.0.2.7:1433").pcap())
    (found,) = import_files([capture], keylog=made.keylog)
    assert isinstance(found, Recording)
    return found


def live(made: Pair, side: Side) -> list[tuple[str, str, int, bool, bytes]]:
    end = made.client if side is C else made.server
    return messages((event for event in end.events if isinstance(event, Message)), side)


@pytest.mark.parametrize("version", [TLS12, TLS13], ids=["tls12", "tls13"])
@pytest.mark.parametrize("server", [PRELOGIN, RESPONSE], ids=["prelogin", "response"])
@pytest.mark.parametrize("size", [32, 512, 4096])
def test_tls_in_tds_packets_is_found(tmp_path: Path, version: int, server: int, size: int) -> None:
    said, made = spoken(version, server=server, size=size)
    got = imported(tmp_path, said, made)
    assert [messages(got.legs[0].messages, side) for side in (C, S)] == [live(made, side) for side in (C, S)]
    assert got.problems == ()
    assert got.outcome.status is Status.ESTABLISHED
    assert got.prelude["protocol"] == "tds"
    assert [turn["text"] for turn in got.prelude["dialogue"]] == [
        "PRELOGIN: encryption on; version",
        "response: encryption on; version",
    ]


def test_a_login_that_alone_was_encrypted_is_followed_by_tds_in_clear(tmp_path: Path) -> None:
    made = pair(version=TLS12)
    made.run()
    handshake = len(made.log)
    made.say(made.client, b"a login")
    said: list[Said] = [(C, prelogin(0)), (S, prelogin(0, RESPONSE))]
    said += [(side, packets(PRELOGIN, data)) for side, data in made.log[:handshake]]
    said += made.log[handshake:]
    said += [(S, packets(RESPONSE, b"\xe3\x1b\x00\x01" + bytes(200))), (C, packets(1, b"s\0e\0l\0e\0c\0t\0"))]
    got = imported(tmp_path, said, made)
    assert [messages(got.legs[0].messages, side) for side in (C, S)] == [live(made, side) for side in (C, S)]
    assert got.legs[0].count(C).records == 1
    assert {problem.got for _, problem in got.problems} == {"TDS in clear behind the login, which alone was encrypted"}
    assert [problem.sender for _, problem in got.problems] == [S, C]
    assert got.prelude["dialogue"][0]["text"].startswith("PRELOGIN: encryption off (the login alone)")


def test_a_gap_in_a_tds_packet_is_a_gap_in_its_record(tmp_path: Path) -> None:
    said, made = spoken(TLS12)
    at = next(n for n, (side, _) in enumerate(said) if side is S and n > 1)
    whole = said[at][1]
    assert isinstance(whole, bytes)
    holed: list[Said] = [*said[:at], (S, whole[:200]), (S, Lost(whole[200:300])), (S, whole[300:]), *said[at + 1 :]]
    got = imported(tmp_path, holed, made)
    assert [problem.field for _, problem in got.problems if problem.field == "stream.gap"] == ["stream.gap"]
    assert messages(got.legs[0].messages, C) == live(made, C)
    assert got.legs[0].count(S).length == 18_000


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_unwrapping_does_not_depend_on_slicing(size: int) -> None:
    said, made = spoken(TLS12)
    for side in (C, S):
        stream = b"".join(data for who, data in said[2:] if who is side and isinstance(data, bytes))
        unwrapper = Unwrapper()
        slices = (stream[at : at + size] for at in range(0, len(stream), size))
        assert b"".join(map(unwrapper.feed, slices)) == b"".join(data for who, data in made.log if who is side)
        assert not unwrapper.in_clear


@pytest.mark.parametrize(
    "data",
    [b"", b"\x12\x01\x00\x08\0\0\0\0", b"\x10" + prelogin(1)[1:], packets(PRELOGIN, b"\0" * 300)],
)
def test_what_is_no_prelogin_is_not_told(data: bytes) -> None:
    assert tell_prelogin(data) is None


@pytest.mark.peer("tshark")
def test_tshark_finds_the_same_handshake(tmp_path: Path) -> None:
    said, made = spoken(TLS12)
    got = imported(tmp_path, said, made)
    words = ("-d", "tcp.port==1433,tds", "-T", "fields", "-e", "tls.handshake.type", "-Y", "tls.handshake.type")
    done = run("tshark", "-n", "-r", tmp_path / "tds.pcap", *words, timeout=30).check()
    theirs = ",".join(done.stdout.split()).split(",")
    ours = [str(m.code) for m in got.legs[0].messages if m.content.value == "handshake" and not m.encrypted]
    assert theirs == ours
