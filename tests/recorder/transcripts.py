"""The golden transcripts (golden/record.py), and small tools to take messages apart and put them together."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from countersign.recorder.wire import names
from countersign.recorder.wire.events import Content, Message, Side
from countersign.recorder.wire.messages import ClientHello, DecodeContext
from countersign.recorder.wire.reading import LegReading, read_leg

if TYPE_CHECKING:
    from collections.abc import Sequence

    from countersign.recorder.wire.extensions import Extension

GOLDEN = Path(__file__).parent / "golden"
NAMES = sorted(path.stem for path in GOLDEN.glob("*.txt"))

# RFC 8448 section 3
RFC8448_CLIENT_HELLO = bytes.fromhex(
    "010000c00303cb34ecb1e78163ba1c38c6dacb196a6dffa21a8d9912ec18a2ef6283024dece7000006130113031302010000910000000b00"
    "09000006736572766572ff01000100000a00140012001d0017001800190100010101020103010400230000003300260024001d0020993"
    "81de560e4bd43d23d8e435a7dbafeb3c06e51c13cae4d5413691e529aaf2c002b0003020304000d0020001e040305030603020308040805"
    "080604010501060102010402050206020202002d00020101001c00024001"
)
RFC8448_SERVER_HELLO = bytes.fromhex(
    "020000560303a6af06a4121860dc5e6e60249cd34c95930c8ac5cb1434dac155772ed3e2692800130100002e00330024001d0020c9828876"
    "112095fe66762bdbf7c672e156d6cc253b833df1dd69b1b04e751f0f002b00020304"
)
RFC8448_ENCRYPTED_EXTENSIONS = bytes.fromhex(
    "080000240022000a00140012001d00170018001901000101010201030104001c0002400100000000"
)


def message(
    raw: bytes, sender: Side = Side.CLIENT, content: Content = Content.HANDSHAKE, *, length: int | None = None
) -> Message:
    code = -1
    if raw:
        code = raw[min(1, len(raw) - 1)] if content is Content.ALERT else raw[0]
    return Message(0.0, sender, content, code, False, len(raw) if length is None else length, raw)


@cache
def transcript(name: str) -> tuple[Message, ...]:
    found = []
    for line in (GOLDEN / f"{name}.txt").read_text().splitlines():
        if not line.startswith("#"):
            sender, content, data = line.split()
            found.append(message(bytes.fromhex(data), Side(sender), Content(content)))
    return tuple(found)


@cache
def reading(name: str) -> LegReading:
    return read_leg(transcript(name))


def context(name: str) -> DecodeContext:
    """What was negotiated in a transcript."""
    read = reading(name)
    version = next((number for number, known in names.VERSIONS.items() if known == read.version), None)
    suite = None if read.cipher is None else names.cipher_suite_number(read.cipher)
    return DecodeContext(version, suite)


def hello(
    extensions: Sequence[Extension] | None = (), *, suites: Sequence[int] = (0x1301,), version: int = 0x0303
) -> ClientHello:
    return ClientHello(version, bytes(32), b"", tuple(suites), (0,), None if extensions is None else tuple(extensions))


def framed(code: int, body: bytes) -> bytes:
    return bytes([code]) + len(body).to_bytes(3, "big") + body
