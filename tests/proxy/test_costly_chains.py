"""What a target may show that is too costly to work with (T18): a verdict within a second, and nobody waits for it."""

from __future__ import annotations

import os
import ssl
import subprocess
import time
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from countersign.ca.pem import to_pem
from countersign.proxy.measures import AFFORDABLE, costly_chain, costly_prime, ffdhe_prime
from countersign.recorder import der as asn1
from countersign.recorder.recording import LegRole, Party, Recording, Status, to_json
from countersign.recorder.wire.events import Side
from tests.proxy.lag import watched
from tests.proxy.running import RunningProxy
from tests.proxy.wire import (
    TLS12,
    Target,
    alert,
    ask,
    client_context,
    client_hello,
    connect,
    echo,
    in_records,
    rest,
    send,
)

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from tests.peers.certs import Lab

HELLO = in_records(client_hello())
RSA, EC, DSA = "1.2.840.113549.1.1.1", "1.2.840.10045.2.1", "1.2.840.10040.4.1"
PRIME_FIELD, P256 = "1.2.840.10045.1.1", "1.2.840.10045.3.1.7"


# -- certificates with any key, signed by nobody -------------------------------------------------------------------


def name(common_name: str) -> bytes:
    attribute = asn1.encode(asn1.SEQUENCE, asn1.encode_oid("2.5.4.3"), asn1.encode(0x0C, common_name.encode()))
    return asn1.encode(asn1.SEQUENCE, asn1.encode(asn1.SET, attribute))


def extension(oid: str, value: bytes) -> bytes:
    return asn1.encode(asn1.SEQUENCE, asn1.encode_oid(oid), asn1.encode(asn1.OCTET_STRING, value))


def public_key(oid: str, parameters: bytes, key: bytes) -> bytes:
    algorithm = asn1.encode(asn1.SEQUENCE, asn1.encode_oid(oid), parameters)
    return asn1.encode(asn1.SEQUENCE, algorithm, asn1.encode(asn1.BIT_STRING, b"\0", key))


def rsa_key(bits: int, exponent: int = 65537) -> bytes:
    modulus = int.from_bytes(os.urandom(bits // 8)) | 1 << bits - 1 | 1
    body = asn1.encode(asn1.SEQUENCE, asn1.encode_integer(modulus), asn1.encode_integer(exponent))
    return public_key(RSA, b"\5\0", body)


def dsa_key(bits: int) -> bytes:
    prime, order = (int.from_bytes(os.urandom(size // 8)) | 1 << size - 1 | 1 for size in (bits, 256))
    parameters = asn1.encode(asn1.SEQUENCE, *map(asn1.encode_integer, (prime, order, 2)))
    return public_key(DSA, parameters, asn1.encode_integer(prime - 2))


def explicit_ec_key() -> bytes:
    """P-256 spelled out (RFC 5480 2.1.1 ``specifiedCurve``)."""
    p = 2**256 - 2**224 + 2**192 + 2**96 - 1
    b = bytes.fromhex("5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604b")
    g = bytes.fromhex(
        "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
        "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
    )
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    field = asn1.encode(asn1.SEQUENCE, asn1.encode_oid(PRIME_FIELD), asn1.encode_integer(p))
    curve = asn1.encode(asn1.SEQUENCE, *(asn1.encode(asn1.OCTET_STRING, value) for value in ((p - 3).to_bytes(32), b)))
    parts = (asn1.encode_integer(1), field, curve, asn1.encode(asn1.OCTET_STRING, g), asn1.encode_integer(order))
    return public_key(EC, asn1.encode(asn1.SEQUENCE, *parts), g)


@cache
def p256_key() -> bytes:
    return (
        ec.generate_private_key(ec.SECP256R1())
        .public_key()
        .public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    )


def certificate(
    subject: str,
    issuer: str,
    key: bytes,
    *,
    names: Iterable[bytes] = (),
    constraints: int = 0,
    authority: bool = True,
    signature: int = 64,
) -> bytes:
    """``constraints`` is a number of excluded subtrees; the signature is that many random bytes."""
    extensions = [extension("2.5.29.19", asn1.encode(asn1.SEQUENCE, b"\1\1\xff" if authority else b""))]
    if found := b"".join(asn1.encode(0x82, one) for one in names):
        extensions.append(extension("2.5.29.17", asn1.encode(asn1.SEQUENCE, found)))
    if constraints:
        trees = b"".join(asn1.encode(asn1.SEQUENCE, asn1.encode(0x82, b"%x" % one)) for one in range(constraints))
        extensions.append(extension("2.5.29.30", asn1.encode(asn1.SEQUENCE, asn1.encode(0xA1, trees))))
    algorithm = asn1.encode(asn1.SEQUENCE, asn1.encode_oid("1.2.840.113549.1.1.11"), b"\5\0")
    validity = asn1.encode(
        asn1.SEQUENCE, asn1.encode(asn1.UTC_TIME, b"200101000000Z"), asn1.encode(asn1.UTC_TIME, b"490101000000Z")
    )
    tbs = asn1.encode(
        asn1.SEQUENCE,
        asn1.encode(0xA0, asn1.encode_integer(2)),
        asn1.encode_integer(int.from_bytes(os.urandom(8))),
        algorithm,
        name(issuer),
        validity,
        name(subject),
        key,
        asn1.encode(0xA3, asn1.encode(asn1.SEQUENCE, *extensions)),
    )
    return asn1.encode(asn1.SEQUENCE, tbs, algorithm, asn1.encode(asn1.BIT_STRING, b"\0", os.urandom(signature)))


def above(keys: Sequence[bytes], **settings: Any) -> list[bytes]:
    """Intermediates over ``Leaf``, each over the one before, none of them signed by the next."""
    return [
        certificate(f"CA {number}", f"CA {number + 1}", key, signature=len(key) - 24, **settings)
        for number, key in enumerate(keys)
    ]


class Leaf:
    """A leaf of a real key for localhost, under ``CA 0``."""

    def __init__(self, **settings: Any) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        spki = self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.der = certificate("localhost", "CA 0", spki, **{"names": [b"localhost"], "authority": False, **settings})

    def server(self, folder: Path, chain: Sequence[bytes], *, version: str) -> Callable[[socket.socket], None]:
        """A server that shows this leaf and that chain."""
        pem = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        path = folder / "chain.pem"
        path.write_bytes(pem + b"".join(map(to_pem, (self.der, *chain))))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        context.load_cert_chain(path)
        context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
        return echo(context)


COSTLY: dict[str, Callable[[], tuple[Leaf, list[bytes]]]] = {
    "a modulus of 16400 bits": lambda: (Leaf(), above([rsa_key(16400)])),
    "an exponent of 72 bits": lambda: (Leaf(), above([rsa_key(2048, 2**71 + 1)])),
    "explicit EC parameters": lambda: (Leaf(), above([explicit_ec_key()])),
    "22 moduli of 16384 bits with exponents of 64": lambda: (Leaf(), above([rsa_key(16384, 2**64 - 1)] * 22)),
    "20 DSA keys of 10000 bits": lambda: (Leaf(), above([dsa_key(10000)] * 20)),
    "10000 names": lambda: (Leaf(names=[b"%d.example" % number for number in range(10_000)]), []),
    "names times constraints": lambda: (
        Leaf(names=[b"%x" % number for number in range(6000)]),
        above([p256_key()] * 40, constraints=110),
    ),
}


@pytest.mark.parametrize("verify", [True, False], ids=["verified", "insecure"])
@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
@pytest.mark.parametrize("kind", COSTLY)
def test_a_chain_that_is_too_costly_is_refused_unworked(
    tmp_path: Path,
    kind: str,
    version: str,
    verify: bool,  # noqa: FBT001
) -> None:
    leaf, chain = COSTLY[kind]()
    with (
        Target(leaf.server(tmp_path, chain, version=version)) as target,
        RunningProxy(target=target.address, verify=verify, roots=()) as proxy,
    ):
        with watched(proxy) as lag:
            began = time.process_time()
            answer = send(proxy, HELLO)
            took = time.process_time() - began
        recording = proxy.recording()
    assert answer == alert("handshake_failure")
    assert_too_costly(recording)
    assert took < 1
    assert lag.longest < 0.25


def assert_too_costly(recording: Recording) -> None:
    outcome = recording.outcome
    assert (outcome.status, outcome.broken_by) == (Status.FAILED, Party.TARGET), outcome
    assert "too costly" in outcome.text
    assert [failure.code for failure in recording.failures] == ["too-costly"]
    to_json(recording)


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_what_was_refused_is_on_the_recording_as_it_came(tmp_path: Path, version: str) -> None:
    """OpenSSL is shown a spoilt message, the recording is not; the target is told bad_certificate."""
    leaf, chain = COSTLY["explicit EC parameters"]()
    with (
        Target(leaf.server(tmp_path, chain, version=version)) as target,
        RunningProxy(target=target.address, verify=False) as proxy,
    ):
        send(proxy, HELLO)
        leg = proxy.recording().leg(LegRole.SERVER)
    assert leg is not None
    assert [one.der for one in leg.read().certificates] == [leaf.der, *chain]
    sent = [read for read in leg.read().messages if read.type == "alert" and read.message.sender is Side.CLIENT]
    assert [read.fields["description"] for read in sent] == ["bad_certificate"]


@pytest.mark.parametrize("verify", [True, False], ids=["verified", "insecure"])
def test_200_cross_signed_intermediates_get_a_verdict(
    tmp_path: Path,
    verify: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    chain = [certificate(f"CA {number % 2}", f"CA {(number + 1) % 2}", p256_key()) for number in range(200)]
    with (
        Target(Leaf().server(tmp_path, chain, version="TLSv1_3")) as target,
        RunningProxy(target=target.address, verify=verify, roots=()) as proxy,
        watched(proxy) as lag,
    ):
        began = time.process_time()
        with connect(proxy) as connection:
            connection.sendall(HELLO)
            answer = connection.recv(5)
        took = time.process_time() - began
    assert answer[:1] == (b"\x15" if verify else b"\x16")
    assert took < 1
    assert lag.longest < 0.25


def test_a_long_chain_of_usual_keys_is_affordable(tmp_path: Path) -> None:
    leaf, chain = Leaf(), above([p256_key()] * 99)
    with (
        Target(leaf.server(tmp_path, chain, version="TLSv1_3")) as target,
        RunningProxy(target=target.address, verify=False) as proxy,
        watched(proxy) as lag,
    ):
        assert ask(proxy, client_context()) == b"good morning\n"
    assert lag.longest < 0.25


@pytest.mark.long
@pytest.mark.peer("openssl")
def test_a_target_of_rsa_16384_is_served_and_its_leaf_mimicked_aside(tmp_path: Path) -> None:
    """Five primes make such a key in half a minute; the leaf's own, of 4096 bits, is made in a thread."""
    key, shown = tmp_path / "key.pem", tmp_path / "leaf.pem"
    options = ("-pkeyopt", "rsa_keygen_bits:16384", "-pkeyopt", "rsa_keygen_primes:5")
    subprocess.run(["openssl", "genpkey", "-algorithm", "RSA", *options, "-out", key], check=True, capture_output=True)
    words = ["openssl", "req", "-x509", "-key", str(key), "-subj", "/CN=localhost", "-days", "2", "-out", str(shown)]
    subprocess.run([*words, "-addext", "subjectAltName=DNS:localhost"], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(shown, key)
    with (
        Target(echo(context)) as target,
        RunningProxy(target=target.address, verify=False) as proxy,
        watched(proxy) as lag,
    ):
        assert ask(proxy, client_context()) == b"good morning\n"
    assert lag.longest < 0.25


def test_a_certificate_that_cannot_be_read_is_weighed_as_the_worst_of_its_length() -> None:
    garbage = b"\x30\x80" + os.urandom(4000)  # BER of indefinite length, which OpenSSL reads
    assert costly_chain([garbage]) is None
    assert costly_chain([garbage] * 20) is not None


def test_what_the_web_uses_weighs_next_to_nothing() -> None:
    keys = [rsa.generate_private_key(65537, 2048) for _ in range(2)]
    usual = [key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) for key in keys]
    assert costly_chain(above([*usual, rsa_key(4096), rsa_key(8192)] * 10)) is None
    assert costly_chain(above([rsa_key(16384)] * 4)) is None
    assert AFFORDABLE <= 100


# -- Diffie-Hellman ------------------------------------------------------------------------------------------------


def dhe_server(prime: bytes, certificate_der: bytes) -> Callable[[socket.socket], None]:
    """TLS 1.2 up to a ServerKeyExchange with this prime (RFC 5246 7.4.3); it waits for the answer."""

    def message(code: int, body: bytes) -> bytes:
        return bytes([code]) + len(body).to_bytes(3) + body

    def handle(connection: socket.socket) -> None:
        connection.recv(65536)
        listed = len(certificate_der).to_bytes(3) + certificate_der
        params = b"".join(len(one).to_bytes(2) + one for one in (prime, b"\2", prime))
        flight = message(2, b"\3\3" + os.urandom(32) + b"\0" + b"\0\x9e" + b"\0" + b"\0\5\xff\1\0\1\0")
        flight += message(11, len(listed).to_bytes(3) + listed)
        flight += message(12, params + b"\4\1" + (256).to_bytes(2) + os.urandom(256))
        connection.sendall(in_records(flight + message(14, b"")))
        rest(connection)

    return handle


def test_a_prime_that_is_too_long_to_compute_with_is_refused(lab: Lab) -> None:
    prime = (2**9999 + 7).to_bytes(1250)
    shown = certificate("localhost", "CA 0", rsa_key(2048), authority=False, names=[b"localhost"])
    hello = in_records(client_hello(versions=(TLS12,), suites=(0x009E,), groups=None))
    with (
        Target(dhe_server(prime, shown)) as target,
        RunningProxy(target=target.address, verify=False) as proxy,
        watched(proxy) as lag,
    ):
        send(proxy, hello)
        recording = proxy.recording()
    assert_too_costly(recording)
    assert "prime of 10000 bits" in recording.outcome.text
    assert lag.longest < 0.25


@pytest.mark.parametrize(
    ("bits", "offset", "ending"),
    [(2048, 560316, "886b423861285c97"), (3072, 2625351, "25e41d2b66c62e37"), (8192, 10965728, "d68c8bb7c5c6424c")],
)
def test_the_primes_of_rfc_7919_come_from_their_formula(bits: int, offset: int, ending: str) -> None:
    prime = ffdhe_prime(bits, offset)
    assert prime.bit_length() == bits
    assert f"{prime:x}".endswith(ending + "f" * 16)  # as appendix A prints them
    assert pow(3, prime - 1, prime) == 1


def test_primes_that_are_worked_with() -> None:
    assert costly_prime((2**4095 + 7).to_bytes(512)) is None
    assert costly_prime(b"\0" + (2**6143 + 7).to_bytes(768)) is None
    assert costly_prime(ffdhe_prime(8192, 10965728).to_bytes(1024)) is None
    assert costly_prime((2**8191 + 7).to_bytes(1024)) is not None
    assert costly_prime(b"") is None
