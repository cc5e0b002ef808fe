"""Key schedule and record openers: published vectors, suites against OpenSSL's own table, ciphers nobody speaks now."""

from __future__ import annotations

import hmac
import re
import subprocess
from typing import Any

import pytest
from cryptography.hazmat.decrepit.ciphers import algorithms as decrepit
from cryptography.hazmat.primitives.ciphers import Cipher, modes

from countersign.recorder.wire import keyschedule, names
from countersign.recorder.wire.decryption import Opener, tls12_opener, tls13_opener
from countersign.recorder.wire.events import Side
from countersign.recorder.wire.protection import TLS13_SUITES, tls12_protection
from countersign.recorder.wire.records import Record
from tests.recorder.tls_pairs import Sealer

MASTER = bytes(range(48))
CLIENT_RANDOM = b"\x11" * 32
SERVER_RANDOM = b"\x22" * 32


# RFC 8448 3: simple 1-RTT handshake
@pytest.mark.parametrize(
    ("secret", "key", "iv"),
    [
        (
            "b3eddb126e067f35a780b3abf45e2d8f3b1a950738f52e9600746a0e27a55a21",
            "dbfaa693d1762c5b666af5d950258d01",
            "5bd3c71b836e0b76bb73265f",
        ),
        (
            "b67b7d690cc16c4e75e54213cb2d37b4e9c912bcded9105d42befd59d391ad38",
            "3fce516009c21727d0f2e4e86ee403bc",
            "5d313eb2671276ee13000b30",
        ),
        (
            "a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643",
            "9f02283b6c9c07efc26bb9f2ac92e356",
            "cf782b88dd83549aadf1e984",
        ),
        (
            "9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5",
            "17422dda596ed5d9acd890e3c63f5051",
            "5b78923dee08579033e523d9",
        ),
    ],
)
def test_traffic_keys_are_those_of_rfc8448(secret: str, key: str, iv: str) -> None:
    found = keyschedule.traffic_key(bytes.fromhex(secret), 16, "sha256")
    assert found == (bytes.fromhex(key), bytes.fromhex(iv))


def test_the_prf_of_tls12_is_that_of_the_published_vector() -> None:
    """https://mailarchive.ietf.org/arch/msg/tls/fzVCzk-z3FShgGJ6DOXqM1ydxms/."""
    out = keyschedule.prf(
        0x0303,
        bytes.fromhex("9bbe436ba940f017b17652849a71db35"),
        b"test label",
        bytes.fromhex("a0ba9f936cda311827a6f796ffd5198c"),
        100,
        hash_name="sha256",
    )
    assert out.hex() == (
        "e3f229ba727be17b8d122620557cd453c2aab21d07c3d495329b52d4e61edb5a6b301791e90d35c9c9a46b4e14baf9af"
        "0fa022f7077def17abfd3797c0564bab4fbc91666e9def9b97fce34f796789baa48082d122ee42c5a72e5a5110fff701"
        "87347b66"
    )


def opener(suite: int, *, version: int = 0x0303, side: Side = Side.CLIENT, etm: bool = False) -> Opener | None:
    return tls12_opener(
        side,
        version=version,
        suite=suite,
        master=MASTER,
        client_random=CLIENT_RANDOM,
        server_random=SERVER_RANDOM,
        encrypt_then_mac=etm,
    )


def keys(version: int, mac: int, key: int, iv: int) -> keyschedule.DirectionKeys:
    return keyschedule.key_block(
        version,
        MASTER,
        CLIENT_RANDOM,
        SERVER_RANDOM,
        hash_name="sha256",
        mac_length=mac,
        key_length=key,
        iv_length=iv,
    )[0]


def protect(key: bytes, mac_name: str, sequence: int, plain: bytes, version: int) -> bytes:
    header = sequence.to_bytes(8, "big") + b"\x17" + version.to_bytes(2, "big") + len(plain).to_bytes(2, "big")
    return plain + hmac.digest(key, header + plain, mac_name)


def record(payload: bytes, version: int = 0x0303) -> Record:
    return Record(23, version, len(payload), payload, 0)


@pytest.mark.parametrize(("suite", "mac_name", "mac"), [(0x0004, "md5", 16), (0x0005, "sha1", 20)])
def test_rc4_is_opened_over_its_one_stream(suite: int, mac_name: str, mac: int) -> None:
    made = keys(0x0303, mac, 16, 0)
    stream = Cipher(decrepit.ARC4(made.key), None).encryptor()
    found = opener(suite)
    assert found is not None
    for n, plain in enumerate((b"one", b"", b"three")):
        sealed = stream.update(protect(made.mac_key, mac_name, n, plain, 0x0303))
        assert found.open(record(sealed)) == (23, plain)
    broken = stream.update(protect(made.mac_key, mac_name, 9, b"x", 0x0303))
    assert found.open(record(broken)) is None
    found.miss(record(broken))
    assert found.open(record(stream.update(protect(made.mac_key, mac_name, 4, b"five", 0x0303)))) == (23, b"five")


@pytest.mark.parametrize("version", [0x0301, 0x0302, 0x0303])
@pytest.mark.parametrize(("suite", "key"), [(0x000A, 24), (0x0009, 8)], ids=["3des", "des"])
def test_triple_des_and_des_are_opened(suite: int, key: int, version: int) -> None:
    made = keys(version, 20, key, 8 if version == 0x0301 else 0)
    found = opener(suite, version=version)
    assert found is not None
    iv = made.iv
    for n, plain in enumerate((b"one", b"two and more", bytes(40))):
        body = protect(made.mac_key, "sha1", n, plain, version)
        padding = 8 - len(body) % 8
        body += bytes((padding - 1,)) * padding
        explicit = b"" if version == 0x0301 else b"explicit"
        cipher: Any = decrepit.TripleDES(made.key * (3 if key == 8 else 1))
        encryptor = Cipher(cipher, modes.CBC(explicit or iv)).encryptor()
        sealed = encryptor.update(body)
        iv = sealed[-8:]
        assert found.open(record(explicit + sealed, version)) == (23, plain)


def test_a_missed_record_does_not_lose_the_ones_behind_it() -> None:
    """TLS 1.0: the next implicit IV is the last block of the record that did not open."""
    made = keys(0x0301, 20, 24, 8)
    found = opener(0x000A, version=0x0301)
    assert found is not None
    encryptor = Cipher(decrepit.TripleDES(made.key), modes.CBC(made.iv)).encryptor()
    sealed = []
    for n in range(3):
        body = protect(made.mac_key, "sha1", n, b"abc", 0x0301)
        sealed.append(encryptor.update(body + bytes((8 - len(body) % 8 - 1,)) * (8 - len(body) % 8)))
    assert found.open(record(sealed[0], 0x0301)) == (23, b"abc")
    touched = bytes((sealed[1][0] ^ 1,)) + sealed[1][1:]
    assert found.open(record(touched, 0x0301)) is None
    found.miss(record(touched, 0x0301))
    assert found.open(record(sealed[2], 0x0301)) == (23, b"abc")


@pytest.mark.parametrize("suite", [0x009C, 0xC0A0, 0xCCA8, 0x002F, 0x003C, 0x0005, 0x003B, 0xC09C])
@pytest.mark.parametrize("etm", [False, True])
def test_records_of_any_length_that_are_no_records_open_to_nothing(suite: int, *, etm: bool) -> None:
    found = opener(suite, etm=etm)
    assert found is not None
    for length in range(80):
        assert found.open(record(bytes(length))) is None
        found.miss(record(bytes(length)))


def test_tls13_records_that_are_none_open_to_nothing_and_a_miss_is_counted() -> None:
    for suite in TLS13_SUITES:
        secret = bytes(48 if suite == 0x1302 else 32)
        found = tls13_opener(suite, secret)
        assert found is not None
        for length in range(40):
            assert found.open(record(bytes(length))) is None
    sealer = Sealer(bytes(32))
    sealed = [sealer.seal(23, b"data", padding=n) for n in range(3)]
    found = tls13_opener(0x1301, bytes(32))
    assert found is not None
    assert found.open(record(sealed[0][5:])) == (23, b"data")
    assert found.open(record(sealed[2][5:])) is None
    found.miss(record(sealed[1][5:]))
    assert found.open(record(sealed[2][5:])) == (23, b"data")


def test_a_record_of_nothing_but_padding_has_no_type() -> None:
    found = tls13_opener(0x1301, bytes(32))
    assert found is not None
    assert found.open(record(Sealer(bytes(32)).seal(0, b"", padding=5)[5:])) == (0, bytes(6))


def test_what_cannot_be_opened_has_no_opener() -> None:
    assert tls13_opener(0x1301, bytes(48)) is None
    assert tls13_opener(0x00C6, bytes(32)) is None  # SM4
    for name in ("TLS_RSA_WITH_ARIA_128_GCM_SHA256", "TLS_RSA_WITH_CAMELLIA_128_GCM_SHA256", "TLS_NULL_WITH_NULL_NULL"):
        number = names.cipher_suite_number(name)
        assert number is not None
        assert opener(number) is None
    assert opener(0x0A0A) is None  # GREASE
    assert opener(0x002F, version=0x0300) is None  # SSL 3.0
    assert opener(0x009C, version=0x0301) is None  # AEAD needs TLS 1.2


@pytest.mark.peer("openssl")
def test_what_is_read_off_suite_names_is_what_openssl_says() -> None:
    out = subprocess.run(
        ["openssl", "ciphers", "-V", "ALL:COMPLEMENTOFALL:@SECLEVEL=0"], capture_output=True, text=True, check=True
    ).stdout
    ciphers = {
        "AES_GCM": "AESGCM",
        "AES_CCM": "AESCCM",
        "CHACHA20_POLY1305": "CHACHA20/POLY1305",
        "NULL": "None",
        "AES": "AES",
        "CAMELLIA": "Camellia",
    }
    compared = 0
    for line in out.splitlines():
        found = re.search(r"0x(..),0x(..) - \S+\s+(\S+) .*Enc=(\S+?)(?:\((\d+)\))?\s+Mac=(\S+)", line)
        assert found, line
        number = int(found[1] + found[2], 16)
        ours = tls12_protection(number)
        if found[3] == "TLSv1.3" or found[4].startswith("ARIA"):
            assert ours is None
            continue
        assert ours is not None, line
        cipher = re.sub(r"_\d+_CBC$", "", ours.cipher)
        assert ciphers[cipher] + ("8" if ours.tag == 8 else "") == found[4], line
        assert ours.key_length * 8 == int(found[5] or 0), line
        assert (ours.mac.upper() or "AEAD") == found[6], line
        compared += 1
    assert compared > 100


def test_keys_never_show_in_a_repr() -> None:
    made = keys(0x0303, 20, 16, 16)
    shown = f"{made!r} {opener(0x002F)!r} {tls13_opener(0x1301, bytes(range(32)))!r}"
    for secret in (made.key, made.mac_key, made.iv, MASTER, bytes(range(32))):
        assert secret.hex() not in shown
        assert repr(secret)[2:-1] not in shown
