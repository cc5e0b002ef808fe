"""Recordings for the tests of their written forms: real handshakes in memory, and what a hostile peer would send."""

from __future__ import annotations

import warnings
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from countersign.recorder.recording import DataCount, Leg, LegRole, Outcome, Recording, Status
from countersign.recorder.wire.events import Content, Message, Side

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.recorder.tls_pairs import Pair

STARTED = datetime(2026, 11, 20, 12, 0, 0, 250_000, tzinfo=UTC)

HOSTILE = {
    "escape": "\x1b[31mred\x1b[0m",
    "osc 8": "\x1b]8;;http://evil.test\x1b\\link\x1b]8;;\x1b\\",
    "osc 52": "\x1b]52;c;ZWNobyBwd25lZA==\x07",
    "c1": "\x9b31m\x85\x9d",
    "return": "visible\rhidden",
    "bell": "\x07",
    "override": "good\u202egnp.exe",
    "isolate": "\u2066\u2069\u200b\ufeff",
    "separators": "one\u2028two\u2029three",
    "forged line": 'x"}\n{"event": "session", "outcome": "established"}',
    "markup": "<img src=x onerror=alert(1)>[red]",
    "wide": "株式会社" * 40,
    "long": "a" * 4_000,
}
"""Names that some peer could have: what they do to a terminal, a log and a page is well known."""

CONTROLS = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))] + list(
    "\u200b\u2028\u2029\u202e\u2066\u2069\ufeff"
)


def recording(*legs: Leg, **settings: Any) -> Recording:
    """A recording of these legs, with the settings of a plain one where none are given."""
    defaults: dict[str, Any] = {
        "id": "0123456789abcdef",
        "started": STARTED,
        "mode": "reverse",
        "action": "intercept",
        "client": "127.0.0.1:53122",
        "target": "localhost:9443",
        "sni": "localhost",
        "outcome": Outcome(Status.ESTABLISHED, text="the handshake was completed on both legs"),
    }
    return Recording(**{**defaults, **settings, "legs": legs})


def leg(pair: Pair, role: LegRole = LegRole.CLIENT, *, scale: float = 0.001) -> Leg:
    """What the client's end saw; its clock ticks once a flight, ``scale`` makes seconds of that."""
    return Leg(role, timed((event for event in pair.client.events if isinstance(event, Message)), scale))


def timed(messages: Iterable[Message], scale: float) -> tuple[Message, ...]:
    return tuple(replace(message, t=round(message.t * scale, 6)) for message in messages)


def with_data(given: Leg, *, sides: Iterable[Side] = Side) -> Leg:
    """Application data right after the last Finished."""
    t = max(message.t for message in given.messages if message.content is Content.HANDSHAKE)
    return replace(given, data={side: DataCount(3, 40_000, t, t + 0.5) for side in sides})


def handshake(sender: Side, code: int, body: bytes, *, t: float, encrypted: bool = True) -> Message:
    raw = bytes([code]) + len(body).to_bytes(3, "big") + body
    return Message(t, sender, Content.HANDSHAKE, code, encrypted, len(raw), raw)


def certificate_for(name: str, *, issuer: str | None = None, hosts: Iterable[str] = ()) -> bytes:
    """DER of a certificate whose names are these, whatever they are."""
    key = ec.generate_private_key(ec.SECP256R1())
    with warnings.catch_warnings(action="ignore"):  # longer than ub-common-name (RFC 5280 A.1) is what some names are
        subject, above = (
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text, _validate=False)])
            for text in (name, issuer or name)
        )
    builder = x509.CertificateBuilder(subject_name=subject, issuer_name=above, public_key=key.public_key())
    builder = builder.serial_number(1).not_valid_before(STARTED).not_valid_after(STARTED + timedelta(days=1))
    if alternatives := [x509.DNSName(host) for host in hosts]:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def certificate_message(sender: Side, chain: Iterable[bytes], *, t: float) -> Message:
    """In the form up to TLS 1.2 (RFC 5246 7.4.2), in clear."""
    entries = b"".join(len(der).to_bytes(3, "big") + der for der in chain)
    return handshake(sender, 11, len(entries).to_bytes(3, "big") + entries, t=t, encrypted=False)


def client_hello(name: bytes, *, alpn: bytes = b"", t: float = 0.0) -> Message:
    """A ClientHello with these bytes as its SNI (RFC 6066 3) and its one protocol (RFC 7301 3.1)."""
    entry = b"\0" + len(name).to_bytes(2, "big") + name
    extensions = _extension(0, len(entry).to_bytes(2, "big") + entry)
    if alpn:
        protocol = bytes([len(alpn)]) + alpn
        extensions += _extension(16, len(protocol).to_bytes(2, "big") + protocol)
    body = (
        b"\x03\x03"
        + bytes(32)
        + b"\0"
        + b"\0\x02\xc0\x2f"
        + b"\x01\0"
        + len(extensions).to_bytes(2, "big")
        + extensions
    )
    return handshake(Side.CLIENT, 1, body, t=t, encrypted=False)


def hostile(name: str) -> Recording:
    """A recording in which everything that a peer can name has this name."""
    raw = name.encode("utf-8")[:250]
    chain = [certificate_for(name, issuer=f"issuer of {name}")]
    messages = (
        client_hello(raw, alpn=raw, t=0.0),
        certificate_message(Side.SERVER, chain, t=0.1),
        Message(0.2, Side.CLIENT, Content.ALERT, 48, False, 2, b"\x02\x30"),
    )
    return recording(
        Leg(LegRole.CLIENT, messages),
        client=name,
        target=f"{name}:443",
        sni=name,
        label=name,
        outcome=Outcome(Status.FAILED, text=f"the client refused the certificate of {name}"),
    )


def _extension(number: int, body: bytes) -> bytes:
    return number.to_bytes(2, "big") + len(body).to_bytes(2, "big") + body
