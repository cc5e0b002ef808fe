"""From a key log's secrets to the keys of one direction: HKDF labels of TLS 1.3, the PRF of TLS 1.0 to 1.2.

HMAC and the hashes come from the interpreter's OpenSSL, ciphers from `cryptography`; here are only the labels, their
lengths and the order in which a key block is cut.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field

TLS12 = 0x0303


def hkdf_expand_label(secret: bytes, label: str, context: bytes, length: int, hash_name: str) -> bytes:
    """HKDF-Expand-Label of RFC 8446 7.1."""
    full = b"tls13 " + label.encode("ascii")
    info = length.to_bytes(2, "big") + bytes((len(full),)) + full + bytes((len(context),)) + context
    out = block = b""
    counter = 0
    while len(out) < length:
        counter += 1
        block = hmac.digest(secret, block + info + bytes((counter,)), hash_name)
        out += block
    return out[:length]


def traffic_key(secret: bytes, key_length: int, hash_name: str, *, iv_length: int = 12) -> tuple[bytes, bytes]:
    """The key and the IV under a traffic secret (RFC 8446 7.3)."""
    key = hkdf_expand_label(secret, "key", b"", key_length, hash_name)
    return key, hkdf_expand_label(secret, "iv", b"", iv_length, hash_name)


def next_traffic_secret(secret: bytes, hash_name: str) -> bytes:
    """The traffic secret after a KeyUpdate (RFC 8446 7.2)."""
    return hkdf_expand_label(secret, "traffic upd", b"", len(secret), hash_name)


def p_hash(secret: bytes, seed: bytes, length: int, hash_name: str) -> bytes:
    """P_hash of RFC 5246 5 and RFC 2246 5."""
    out = b""
    chain = seed
    while len(out) < length:
        chain = hmac.digest(secret, chain, hash_name)
        out += hmac.digest(secret, chain + seed, hash_name)
    return out[:length]


def prf(version: int, secret: bytes, label: bytes, seed: bytes, length: int, *, hash_name: str) -> bytes:
    """The PRF of the version: one hash in TLS 1.2 (RFC 5246 5), MD5 xor SHA-1 before it (RFC 2246 5)."""
    seed = label + seed
    if version >= TLS12:
        return p_hash(secret, seed, length, hash_name)
    half = (len(secret) + 1) // 2
    left = p_hash(secret[:half], seed, length, "md5")
    right = p_hash(secret[len(secret) - half :], seed, length, "sha1")
    return (int.from_bytes(left, "big") ^ int.from_bytes(right, "big")).to_bytes(length, "big")


@dataclass(frozen=True, slots=True)
class DirectionKeys:
    """What protects one direction below TLS 1.3. Never shown."""

    mac_key: bytes = field(repr=False)
    key: bytes = field(repr=False)
    iv: bytes = field(repr=False)


def key_block(
    version: int,
    master: bytes,
    client_random: bytes,
    server_random: bytes,
    *,
    hash_name: str,
    mac_length: int,
    key_length: int,
    iv_length: int,
) -> tuple[DirectionKeys, DirectionKeys]:
    """The keys of the client's and of the server's direction (RFC 5246 6.3)."""
    total = 2 * (mac_length + key_length + iv_length)
    block = prf(version, master, b"key expansion", server_random + client_random, total, hash_name=hash_name)
    pieces: list[bytes] = []
    at = 0
    for size in (mac_length, mac_length, key_length, key_length, iv_length, iv_length):
        pieces.append(block[at : at + size])
        at += size
    client_mac, server_mac, client_key, server_key, client_iv, server_iv = pieces
    return DirectionKeys(client_mac, client_key, client_iv), DirectionKeys(server_mac, server_key, server_iv)
