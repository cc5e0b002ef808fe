"""Sealing TLS records: the other direction of :mod:`.decryption`.

A sealer protects what one side sends under one set of keys and counts its records. There is one for each way of
protection that TLS has had (:mod:`.protection`). Explicit nonces and IVs are the count of records, which is good for
keys that are thrown away and no way to protect data.
"""

from __future__ import annotations

import hmac
import struct
from typing import TYPE_CHECKING, Any, Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.ciphers import Cipher, modes

from countersign.recorder.wire.keyschedule import next_traffic_secret, traffic_key
from countersign.recorder.wire.names import TLS12
from countersign.recorder.wire.protection import (
    TLS13_PROTECTIONS,
    Protection,
    aead,
    block_cipher,
    mac_header,
    nonce,
    stream_cipher,
    tls12_keys,
)
from countersign.recorder.wire.records import APPLICATION_DATA

if TYPE_CHECKING:
    from countersign.recorder.wire.events import Side
    from countersign.recorder.wire.keyschedule import DirectionKeys


class Sealer(Protocol):
    """Protects the records of one direction, one after another."""

    def seal(self, content_type: int, plaintext: bytes) -> bytes:
        """One whole record, header included; ``plaintext`` is at most :data:`MAX_PLAINTEXT` bytes."""


def tls13_secret_size(suite: int) -> int | None:
    """How long the traffic secrets of a TLS 1.3 suite are; None where its records cannot be sealed."""
    protection = TLS13_PROTECTIONS.get(suite)
    return hmac.new(b"", b"", protection.hash_name).digest_size if protection else None


def tls13_sealer(suite: int, secret: bytes) -> Tls13Sealer:
    """The sealer under a traffic secret of a suite that :func:`tls13_secret_size` knows."""
    return Tls13Sealer(TLS13_PROTECTIONS[suite], secret)


def tls12_sealers(
    *,
    version: int,
    suite: int,
    master: bytes,
    client_random: bytes,
    server_random: bytes,
    encrypt_then_mac: bool,
) -> dict[Side, Sealer] | None:
    """Both sides' sealers below TLS 1.3; None where the suite or the version cannot be sealed."""
    found = tls12_keys(
        version=version, suite=suite, master=master, client_random=client_random, server_random=server_random
    )
    if found is None:
        return None
    protection, both = found
    last = encrypt_then_mac and bool(protection.block)
    try:
        if protection.tag:
            return {side: _AeadSealer(version, protection, keys) for side, keys in both.items()}
        return {side: _MacSealer(version, protection, keys, mac_last=last) for side, keys in both.items()}
    except UnsupportedAlgorithm:  # a build of OpenSSL without the cipher
        return None


class Tls13Sealer:
    """RFC 8446 5.2 and 5.3, without padding."""

    def __init__(self, protection: Protection, secret: bytes) -> None:
        key, iv = traffic_key(secret, protection.key_length, protection.hash_name)
        self._aead = aead(protection, key)
        self._protection = protection
        self._secret = secret
        self._iv = int.from_bytes(iv, "big")
        self._count = 0

    def seal(self, content_type: int, plaintext: bytes) -> bytes:
        header = _header(APPLICATION_DATA, TLS12, len(plaintext) + 1 + self._protection.tag)
        sealed = self._aead.encrypt(nonce(self._iv, self._count), plaintext + bytes([content_type]), header)
        self._count += 1
        return header + sealed

    def updated(self) -> Tls13Sealer:
        """The sealer after a KeyUpdate of this side (RFC 8446 7.2)."""
        return Tls13Sealer(self._protection, next_traffic_secret(self._secret, self._protection.hash_name))


class _AeadSealer:
    """RFC 5246 6.2.3.3 with the nonces of RFC 5288 and RFC 6655 (explicit) and of RFC 7905 (from the count)."""

    def __init__(self, version: int, protection: Protection, keys: DirectionKeys) -> None:
        self._aead = aead(protection, keys.key)
        self._version = version
        self._iv = keys.iv
        self._count = 0

    def seal(self, content_type: int, plaintext: bytes) -> bytes:
        explicit = self._count.to_bytes(8, "big") if len(self._iv) == 4 else b""
        whole = self._iv + explicit if explicit else nonce(int.from_bytes(self._iv, "big"), self._count)
        additional = mac_header(self._count, content_type, self._version, len(plaintext))
        payload = explicit + self._aead.encrypt(whole, plaintext, additional)
        self._count += 1
        return _header(content_type, self._version, len(payload)) + payload


class _MacSealer:
    """A MAC inside CBC (RFC 5246 6.2.3.2), behind it (RFC 7366), or with RC4 or no cipher (RFC 5246 6.2.3.1)."""

    def __init__(self, version: int, protection: Protection, keys: DirectionKeys, *, mac_last: bool) -> None:
        self._version = version
        self._mac_name = protection.mac
        self._mac_key = keys.mac_key
        self._mac_last = mac_last
        self._block = protection.block
        self._count = 0
        self._iv = keys.iv  # empty where each record sends its own
        stream = None if self._block else stream_cipher(protection, keys.key)
        self._stream = stream.encryptor() if stream is not None else None
        self._algorithm: Any = block_cipher(protection, keys.key) if self._block else None

    def seal(self, content_type: int, plaintext: bytes) -> bytes:
        if self._mac_last:
            payload = self._encrypt(plaintext)
            payload += self._mac(content_type, payload)
        else:
            payload = self._encrypt(plaintext + self._mac(content_type, plaintext))
        self._count += 1
        return _header(content_type, self._version, len(payload)) + payload

    def _mac(self, content_type: int, data: bytes) -> bytes:
        head = mac_header(self._count, content_type, self._version, len(data))
        return hmac.digest(self._mac_key, head + data, self._mac_name)

    def _encrypt(self, data: bytes) -> bytes:
        if not self._block:
            return self._stream.update(data) if self._stream is not None else data
        padding = self._block - 1 - len(data) % self._block
        explicit = b"" if self._iv else self._count.to_bytes(self._block, "big")
        encryptor = Cipher(self._algorithm, modes.CBC(explicit or self._iv)).encryptor()
        encrypted = encryptor.update(data + bytes([padding]) * (padding + 1)) + encryptor.finalize()
        if self._iv:
            self._iv = encrypted[-self._block :]
        return explicit + encrypted


def _header(content_type: int, version: int, length: int) -> bytes:
    return struct.pack("!BHH", content_type, version, length)
