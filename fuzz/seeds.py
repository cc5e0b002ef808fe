"""The seed corpus: real inputs for every target, made anew from what the tests have.

Golden transcripts, the traces of RFC 8448 and odd certificates are the same each time; handshakes of OpenSSL with
itself are new ones in every corpus. Beside them are the inputs in ``regressions/``: what the fuzzers found once.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL

from countersign.recorder.files.pcapng import export_pcapng
from countersign.recorder.recording import to_json
from countersign.recorder.store.blob import pack
from countersign.recorder.wire import names
from countersign.recorder.wire.events import Content, Message, Side
from countersign.recorder.wire.extensions import UnknownExtension
from countersign.recorder.wire.messages import ClientHello
from countersign.recorder.wire.transparency import IN_CERTIFICATE, IN_OCSP_RESPONSE, POISON
from fuzz import targets
from tests.ca import odd_certificates
from tests.recorder import (
    made_captures,
    made_recordings,
    packet_makers,
    store_samples,
    test_importing,
    test_packets,
    test_rfc8448 as rfc8448,
    test_tds,
    test_transparency,
    tls_pairs,
    transcripts,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
REGRESSIONS = HERE / "regressions"
_SMALL = 8192

# What OpenSSL's handshakes with itself add to the traces: versions, ciphers, clients that show certificates, refusals.
PAIRS: tuple[dict[str, Any], ...] = (
    {},
    {"ask": True, "present": True, "cert": "rsa"},
    {"suites": "TLS_CHACHA20_POLY1305_SHA256"},
    {"suites": "TLS_AES_128_CCM_8_SHA256", "compat": False},
    {"client_groups": "X25519:P-384", "server_groups": "P-384"},
    {"version": SSL.TLS1_2_VERSION, "ciphers": "ECDHE-ECDSA-AES128-GCM-SHA256"},
    {"version": SSL.TLS1_2_VERSION, "ciphers": "ECDHE-ECDSA-AES256-SHA384"},
    {"version": SSL.TLS1_2_VERSION, "ciphers": "ECDHE-ECDSA-AES128-SHA256", "etm": False, "ask": True, "present": True},
    {"version": SSL.TLS1_2_VERSION, "ciphers": "ECDHE-RSA-CHACHA20-POLY1305", "cert": "rsa"},
    {"version": SSL.TLS1_VERSION, "ciphers": "AES128-SHA:@SECLEVEL=0", "cert": "rsa"},
    {"client_trusts": False},
)


def build(folder: Path) -> dict[str, int]:
    """Write the corpus of each target into a folder of its name; how many inputs each has."""
    counts = {}
    for target, made in SEEDS.items():
        place = folder / target
        place.mkdir(parents=True, exist_ok=True)
        for data in (*made(), *regressions(target)):
            (place / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
        counts[target] = len(list(place.iterdir()))
    return counts


def regressions(target: str) -> Iterator[bytes]:
    """What was found once, and must not come back."""
    for path in sorted((REGRESSIONS / target).glob("*")):
        yield path.read_bytes()


# -- leg, message


def _conversations() -> Iterator[targets.Conversation]:
    """Traces of the RFC with their keys, transcripts in clear, and what is no TLS at all."""
    for name in rfc8448.TRACES:
        wire = tuple((value.side, value.data[1]) for value in rfc8448.values(name, "record"))
        lines = "\n".join(rfc8448.keylog(name).lines()).encode()
        for flags in (0, 1, 3):
            yield targets.Conversation(flags, 77, lines, wire)
        holed = tuple((side, b"" if number % 4 == 3 else data) for number, (side, data) in enumerate(wire))
        for flags in (4, 5, 7):
            yield targets.Conversation(flags, 78, lines, holed)
    for name in transcripts.NAMES:
        yield targets.Conversation(0, 5, b"", tuple(_record(message) for message in transcripts.transcript(name)))
    sslv2 = bytes.fromhex("802e0103010015000000100100800300800700c0060040020080040080") + bytes(19)
    for client, server in (
        (sslv2, b"\x15\x03\x01\x00\x02\x02\x28"),
        (b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        (b"\x17\x03\x03\x00\x13" + bytes(19), b"\x17\x03\x03\x00\x23" + bytes(35)),
        (b"\x16\x03\x01\x00\x04\x01\xff\xff\xff" + b"\x16\x03\x01\x00\x01x" * 30, b"\x14\x03\x03\x00\x01\x01"),
    ):
        yield targets.Conversation(0, 9, b"", ((Side.CLIENT, client), (Side.SERVER, server)))


def _record(message: Message) -> tuple[Side, bytes]:
    """A message of a transcript as it went over the wire, but in clear."""
    kinds = {Content.CHANGE_CIPHER_SPEC: 20, Content.ALERT: 21, Content.HANDSHAKE: 22, Content.HEARTBEAT: 24}
    head = bytes([kinds[message.content], 3, 3]) + len(message.raw[:0x4000]).to_bytes(2, "big")
    return message.sender, head + message.raw[:0x4000]


def _pairs() -> Iterator[targets.Conversation]:
    for settings in PAIRS:
        made = tls_pairs.pair(**settings)
        made.run()
        if made.client.done and made.server.done:
            made.say(made.client, b"GET / HTTP/1.1\r\n\r\n")
            made.say(made.server, b"x" * 300)
        made.close()
        lines = "\n".join(made.keylog.lines()).encode()
        for flags in (0, 1, 3):
            yield targets.Conversation(flags, 11, lines, tuple(made.log))


def leg() -> Iterator[bytes]:
    for conversation in (*_conversations(), *_pairs()):
        data = conversation.build()
        if len(data) <= targets.TARGETS["leg"].longest:
            yield data


def message() -> Iterator[bytes]:
    for name in transcripts.NAMES:
        known = transcripts.context(name)
        for one in transcripts.transcript(name):
            sender = 1 if one.sender is Side.SERVER else 0
            for version, suite in ((known.version, known.cipher_suite or 0), (None, 0)):
                yield _given(version, one.content, sender, suite) + one.raw
    for name in rfc8448.TRACES:
        for value in rfc8448.values(name, "message"):
            yield _given(0x0304, Content.HANDSHAKE, int(value.side is Side.SERVER), 0x1301) + value.data[0]
    for code in (*names.EXTENSIONS, 0x1A1A, 0xFFFF):
        for body in (b"", bytes(8), b"\x00\x04\x00\x02\x61\x62"):
            hello = ClientHello(0x0303, bytes(32), b"", (0x1301,), (0,), (UnknownExtension(code, body),))
            yield _given(None, Content.HANDSHAKE, 0, 0) + hello.build()
    for code in names.HANDSHAKE_TYPES:
        for version in (None, 0x0301, 0x0303, 0x0304):
            yield _given(version, Content.HANDSHAKE, 1, 0xC02F) + bytes([code, 0, 0, 6]) + b"\x00\x04\x00\x02ab"


def _given(version: int | None, content: Content, sender: int, suite: int) -> bytes:
    first = targets.VERSIONS.index(version) | targets.CONTENTS.index(content) << 3
    return bytes([first, sender]) + suite.to_bytes(2, "big")


def reading() -> Iterator[bytes]:
    for name in transcripts.NAMES:
        yield targets.message_list(transcripts.transcript(name))


# -- captures


def _said() -> Iterator[list[Any]]:
    """What goes over the wire: conversations of both versions, whole and holed, behind dialogues, within TDS."""
    for settings in (PAIRS[0], PAIRS[3], PAIRS[5], PAIRS[9], PAIRS[10]):
        made = tls_pairs.pair(**settings)
        made.run()
        if made.client.done and made.server.done:
            made.say(made.client, b"GET / HTTP/1.1\r\n\r\n")
            made.say(made.server, b"x" * 3000)
        made.close()
        yield made.log
        at = len(made.log) // 2
        side, data = made.log[at]
        yield [*made.log[:at], (side, made_captures.Lost(data[: len(data) // 2])), (side, data[len(data) // 2 :])]
    for dialogue in test_importing.DIALOGUES.values():
        yield [*dialogue, *tls_pairs.connected().log]
    yield test_tds.spoken(SSL.TLS1_2_VERSION)[0]


def capture() -> Iterator[bytes]:
    for number, said in enumerate(_said()):
        wire = made_captures.Wire().conversation(said, opened=number % 5 != 4)
        yield wire.pcapng() if number % 3 == 2 else wire.pcap()
    for link, data in test_packets.WRAPPED.values():
        yield packet_makers.pcap([data] * 3, link=link)
    made = tls_pairs.connected(suites="TLS_AES_128_GCM_SHA256")
    keys = "".join(f"{line}\n" for line in made.keylog.lines())
    yield made_captures.Wire().conversation(made.log).pcapng(secrets_after=keys)
    yield gzip.compress(made_captures.Wire().conversation(made.log).pcap())
    exported = made_recordings.recording(made_recordings.leg(made))
    yield export_pcapng(exported)
    yield (json.dumps(to_json(exported)) + "\n").encode()


def prelude() -> Iterator[bytes]:
    connect = test_importing.CONNECT.replace(b"%b", b"bWU6Y29ycmVjdC1ob3JzZQ==")
    socks = [(Side.CLIENT, b"\x05\x02\0\2"), (Side.SERVER, b"\x05\2"), (Side.CLIENT, b"\1\2me\x0dcorrect-horse")]
    dialogues: list[list[made_captures.Said]] = [
        *test_importing.DIALOGUES.values(),
        [(Side.CLIENT, connect), (Side.SERVER, test_importing.ESTABLISHED)],
        [(Side.CLIENT, b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 443\r\n")],
        [*socks],
        test_tds.spoken(SSL.TLS1_2_VERSION)[0][:3],
    ]
    for said in dialogues:
        parts = [(bytes([side is Side.CLIENT]), data) for side, data in said if isinstance(data, bytes)]
        yield b"".join(flag + len(data).to_bytes(2, "big") + data for flag, data in parts)


# -- the others


def certificate() -> Iterator[bytes]:
    for data in odd_certificates.odd().values():
        if len(data) <= targets.TARGETS["certificate"].longest:
            yield data
    for name in transcripts.NAMES:
        for sent in transcripts.reading(name).certificates:
            yield sent.der
    key = ec.generate_private_key(ec.SECP256R1())
    listed = test_transparency.octets(test_transparency.sct_list(test_transparency.timestamp(key)))
    yield test_transparency.certificate(key, (IN_CERTIFICATE, listed), (POISON, b"\x05\x00"))
    yield test_transparency.with_single_extension(test_transparency.response(key), IN_OCSP_RESPONSE, listed)


def keylog() -> Iterator[bytes]:
    for name in rfc8448.TRACES:
        yield "\n".join(rfc8448.keylog(name).lines()).encode()
    random, master = "ab" * 32, "cd" * 48
    yield f"# comment\r\nCLIENT_RANDOM {random.upper()} {master}\r\nRSA 0011223344556677 {master}\n".encode()
    yield f"\ufeffCLIENT_RANDOM {random} {master[:-1]}\n\nECH_SECRET {random} {random}\rEXPORTER_SECRET".encode()


def blob() -> Iterator[bytes]:
    """Whole, and without what a checksum would hide from a change; no certificates, which would be in the store."""
    for recording in (store_samples.sample(), store_samples.full_sample()):
        legs = [replace(leg, messages=tuple(one for one in leg.messages if one.code != 11)) for leg in recording.legs]
        data = pack(replace(recording, legs=tuple(legs))).data
        if len(data) <= _SMALL:
            yield data
        yield data[8:]


def document() -> Iterator[bytes]:
    for recording in (store_samples.sample(), replace(store_samples.full_sample(), findings=())):
        yield json.dumps(to_json(recording)).encode()
    for place in range(0, 400, 7):
        yield place.to_bytes(2, "big") + bytes([place % 200]) + (3 * place).to_bytes(2, "big")


def java_log() -> Iterator[bytes]:
    """Each log in overlapping slices as long as an input may be."""
    for path in sorted((Path(__file__).parents[1] / "tests" / "recorder" / "javalog" / "logs").glob("*.log")):
        data = path.read_bytes()
        for at in range(0, len(data), _SMALL):
            yield data[at : at + 2 * _SMALL]


def explanation() -> Iterator[bytes]:
    """The real wordings, a family at a time and each for itself."""
    for path in sorted((Path(__file__).parents[1] / "tests" / "findings" / "wordings").glob("*.tsv")):
        wordings = [line.partition("\t")[2] for line in path.read_text(encoding="utf-8").splitlines()]
        yield "\n".join(wordings).encode()[:_SMALL]
        yield from (wording.encode() for wording in wordings)


SEEDS = {
    "leg": leg,
    "message": message,
    "reading": reading,
    "certificate": certificate,
    "capture": capture,
    "prelude": prelude,
    "keylog": keylog,
    "blob": blob,
    "document": document,
    "java_log": java_log,
    "explanation": explanation,
}
