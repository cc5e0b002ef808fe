"""Recordings to store: a real ClientHello, real certificates, and other messages of the usual sizes."""

from __future__ import annotations

import random
import ssl
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from countersign.recorder.recording import (
    DataCount,
    End,
    Ending,
    Failure,
    FailureCode,
    Leg,
    LegRole,
    Outcome,
    Party,
    Recording,
    Status,
    Verification,
)
from countersign.recorder.wire.events import Content, Message, Problem, Side
from countersign.recorder.wire.secrets import Secret

C, S = Side.CLIENT, Side.SERVER
STARTED = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)


@cache
def der(subject: str, issuer: str, *, san: str | None = None) -> bytes:
    """A certificate of about the usual size, signed by a key of its own."""
    key = ec.generate_private_key(ec.SECP256R1())

    def name(common: str) -> x509.Name:
        return x509.Name(
            [
                x509.NameAttribute(NameOID.COUNTRY_NAME, "US"),
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, f"The {common} Organization"),
                x509.NameAttribute(NameOID.COMMON_NAME, common),
            ]
        )

    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(STARTED - timedelta(days=1))
        .not_valid_after(STARTED + timedelta(days=90))
        .add_extension(x509.BasicConstraints(ca=san is None, path_length=None), critical=True)
    )
    if san is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(san)]), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


@cache
def chain(host: str, authority: str) -> tuple[bytes, ...]:
    """A leaf, its intermediate and the root."""
    return (
        der(host, f"{authority} Issuing CA", san=f"www.{host}"),
        der(f"{authority} Issuing CA", f"{authority} Root CA"),
        der(f"{authority} Root CA", f"{authority} Root CA"),
    )


@cache
def client_hello(host: str) -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname=host)
    try:
        session.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()[5:]
    raise AssertionError("a client speaks first")


def message(sender: Side, code: int, body: bytes, *, t: float = 0.0, encrypted: bool = False) -> Message:
    raw = bytes([code]) + len(body).to_bytes(3, "big") + body
    return Message(t, sender, Content.HANDSHAKE, code, encrypted, len(raw), raw)


def server_hello(version: int = 0x0304) -> Message:
    extensions = b"\x00\x2b\x00\x02" + version.to_bytes(2, "big")
    body = b"\x03\x03" + bytes(32) + b"\x20" + bytes(32) + b"\x13\x02\x00" + len(extensions).to_bytes(2, "big")
    return message(S, 2, body + extensions, t=0.002)


def certificate12(sender: Side, ders: tuple[bytes, ...], *, t: float = 0.003) -> Message:
    listed = b"".join(len(one).to_bytes(3, "big") + one for one in ders)
    return message(sender, 11, len(listed).to_bytes(3, "big") + listed, t=t)


def certificate13(sender: Side, ders: tuple[bytes, ...], *, context: bytes = b"", stapled: bytes = b"") -> Message:
    listed = b"".join(len(one).to_bytes(3, "big") + one + len(stapled).to_bytes(2, "big") + stapled for one in ders)
    body = bytes([len(context)]) + context + len(listed).to_bytes(3, "big") + listed
    return message(sender, 11, body, t=0.003, encrypted=True)


def leg(role: LegRole, host: str, ders: tuple[bytes, ...], *, seed: int = 0) -> Leg:
    noise = random.Random(seed)
    hello = client_hello(host)
    return Leg(
        role=role,
        messages=(
            Message(0.001, C, Content.HANDSHAKE, 1, False, len(hello), hello),
            server_hello(),
            Message(0.0021, S, Content.CHANGE_CIPHER_SPEC, 1, False, 1, b"\x01"),
            message(S, 8, bytes(10), t=0.0022, encrypted=True),
            certificate13(S, ders),
            message(S, 15, noise.randbytes(79), t=0.0031, encrypted=True),
            message(S, 20, noise.randbytes(48), t=0.0032, encrypted=True),
            message(C, 20, noise.randbytes(48), t=0.004, encrypted=True),
            message(S, 4, noise.randbytes(230), t=0.005, encrypted=True),
            message(S, 4, noise.randbytes(230), t=0.005, encrypted=True),
        ),
        data={C: DataCount(1, 120, 0.0061, 0.0061), S: DataCount(3, 4000, 0.007, 0.009)},
        ends=(End(0.01, C, Ending.FIN), End(0.011, S, Ending.RESET)),
        verification=Verification(trusted=True) if role is LegRole.SERVER else None,
    )


def sample(n: int = 0, **changes: Any) -> Recording:
    """A session that went well: two legs, three certificates each. ``n`` makes it another one."""
    host = changes.pop("host", "instance.example.com")
    values: dict[str, Any] = {
        "id": f"{n * 0x9E3779B97F4A7C15 % 2**64:016x}",
        "started": STARTED + timedelta(milliseconds=n),
        "ended": STARTED + timedelta(milliseconds=n + 20),
        "mode": "reverse",
        "action": "intercept",
        "client": f"127.0.0.1:{40000 + n % 20000}",
        "target": f"{host}:443",
        "sni": host,
        "outcome": Outcome(Status.ESTABLISHED, text="the client and the target talked"),
        "from_client": 120,
        "from_target": 4000,
        "legs": (
            leg(LegRole.SERVER, host, chain(host, "Public"), seed=n),
            leg(LegRole.CLIENT, host, chain(host, "Inspection"), seed=n + 1),
        ),
    }
    return Recording(**{**values, **changes})


def open_sample(n: int = 0, **changes: Any) -> Recording:
    """A session that has only begun."""
    return sample(n, **{"ended": None, "outcome": Outcome(Status.OPEN, text="the session is still open"), **changes})


def full_sample() -> Recording:
    """A session with something in every place that there is."""
    cut = certificate12(S, chain("cut.example.com", "Public"))
    alert = Message(0.02, C, Content.ALERT, 48, True, 2, b"\x02\x30")
    through = Leg(
        role=LegRole.THROUGH,
        messages=(
            Message(0.1, C, Content.HANDSHAKE, -1, True, 40, b""),
            Message(0.2, S, Content.HEARTBEAT, 1, False, 3, b"\x01\x00\x00"),
            Message(0.3, S, Content.HANDSHAKE, 11, False, cut.length, cut.raw[:900], "ab" * 32),
            certificate12(C, chain("client.example.com", "Device"), t=0.4),
            alert,
        ),
        secrets=(Secret("CLIENT_RANDOM", bytes(range(32)), bytes(range(48))), Secret("", b"", b"")),
        verification=Verification(trusted=False, error="unable to get issuer", depth=1, enforced=False),
        faults=({"id": "truncate", "at": 12, "where": {"message": 3}},),
        revocation=({"url": "http://ocsp.example.com/", "asked_at": 0.5, "answer": "good"},),
    )
    plain = sample(1)
    return sample(
        7,
        scenario="missing-intermediate",
        step=3,
        label="bad \u00fc \ud800 \u202e",
        sni="nul\0.example.com",
        outcome=Outcome(Status.FAILED, Party.CLIENT, LegRole.CLIENT, "unknown_ca", "the client broke it"),
        legs=(*plain.legs, through),
        problems=(
            (LegRole.CLIENT, Problem(0.5, C, "record.length", 17, "at most 16640", "65535")),
            (LegRole.SERVER, Problem(0.6, S, "certificate.list", 4, "3 bytes", "1", message=4)),
        ),
        failures=(
            Failure(0.7, LegRole.SERVER, Party.TARGET, code=FailureCode.DIAL_REFUSED, text="the target refused"),
            Failure(0.8, None, Party.NETWORK, code=FailureCode.UNREACHABLE, text="the network broke it"),
        ),
        prelude={"kind": "connect", "headers": [["Host", "x"], ["Proxy-Authorization", "[redacted]"]]},
        http=({"method": "GET", "path": "/"},),
        mtls={"asked": True, "names": ["CN=Device Root CA"]},
        not_mirrored=("x25519mlkem768",),
        findings=({"id": "client-cert-wrong-eku", "severity": "cause", "evidence": ["message 4"]},),
    )
