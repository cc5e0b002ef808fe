"""Sealing TLS records: the other direction of :mod:`countersign.recorder.wire.decryption`.

A sealer protects what one side sends under one set of keys and counts its records. There is one for each way of
protection that TLS has had, and they are the openers of that module turned around: AEAD of TLS 1.3, AEAD of TLS 1.2,
CBC with the MAC inside or outside, and a MAC behind a stream cipher or none.

It exists to write files, where keys are thrown away and time tells nothing to anyone: explicit nonces and IVs are the
count of records. It is no way to protect data.
"""

from __future__ import annotations

import hmac
import struct
from typing import TYPE_CHECKING, Any, Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.decrepit.ciphers import algorithms as decrepit
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM, ChaCha20Poly1305

from countersign.recorder.wire.decryption import TLS13_PROTECTIONS, Protection, tls12_protection
from countersign.recorder.wire.events import Side
from countersign.recorder.wire.keyschedule import DirectionKeys, key_block, next_traffic_secret, traffic_key

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_PLAINTEXT = 1 << 14
"""RFC 8446 5.1, RFC 5246 6.2.1."""

_TLS10 = 0x0301
_TLS12 = 0x0303


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
    protection = tls12_protection(suite)
    if protection is None or not _TLS10 <= version <= _TLS12 or (protection.tag and version < _TLS12):
        return None
    # The implicit IV of a block cipher is in the key block of TLS 1.0 only (RFC 2246 6.3, RFC 4346 6.3).
    explicit = bool(protection.block) and version > _TLS10
    pair = key_block(
        version,
        master,
        client_random,
        server_random,
        hash_name=protection.hash_name,
        mac_length=protection.mac_length,
        key_length=protection.key_length,
        iv_length=0 if explicit else protection.fixed_iv,
    )
    try:
        if protection.tag:
            return {side: _AeadSealer(version, protection, keys) for side, keys in zip(Side, pair, strict=True)}
        return {
            side: _MacSealer(version, protection, keys, mac_last=encrypt_then_mac and bool(protection.block))
            for side, keys in zip(Side, pair, strict=True)
        }
    except UnsupportedAlgorithm:  # a build of OpenSSL without the cipher
        return None


class Tls13Sealer:
    """RFC 8446 5.2 and 5.3, without padding."""

    def __init__(self, protection: Protection, secret: bytes) -> None:
        key, iv = traffic_key(secret, protection.key_length, protection.hash_name)
        self._encrypt = _aead(protection, key)
        self._protection = protection
        self._secret = secret
        self._iv = int.from_bytes(iv, "big")
        self._count = 0

    def seal(self, content_type: int, plaintext: bytes) -> bytes:
        header = struct.pack("!BHH", 23, _TLS12, len(plaintext) + 1 + self._protection.tag)
        nonce = (self._iv ^ self._count).to_bytes(12, "big")
        self._count += 1
        return header + self._encrypt(nonce, plaintext + bytes([content_type]), header)

    def updated(self) -> Tls13Sealer:
        """The sealer after a KeyUpdate of this side (RFC 8446 7.2)."""
        return Tls13Sealer(self._protection, next_traffic_secret(self._secret, self._protection.hash_name))


class _AeadSealer:
    """RFC 5246 6.2.3.3 with the nonces of RFC 5288 and RFC 6655 (explicit) and of RFC 7905 (from the count)."""

    def __init__(self, version: int, protection: Protection, keys: DirectionKeys) -> None:
        self._encrypt = _aead(protection, keys.key)
        self._version = version
        self._iv = keys.iv
        self._count = 0

    def seal(self, content_type: int, plaintext: bytes) -> bytes:
        count = struct.pack("!Q", self._count)
        if len(self._iv) == 4:
            explicit, nonce = count, self._iv + count
        else:
            explicit, nonce = b"", (int.from_bytes(self._iv, "big") ^ self._count).to_bytes(12, "big")
        self._count += 1
        additional = count + struct.pack("!BHH", content_type, self._version, len(plaintext))
        payload = explicit + self._encrypt(nonce, plaintext, additional)
        return struct.pack("!BHH", content_type, self._version, len(payload)) + payload


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
        self._stream: Any = None
        if protection.cipher == "RC4_128":
            self._stream = Cipher(_old_algorithm("ARC4")(keys.key), None).encryptor()
        elif protection.block:
            self._algorithm = _block_cipher(protection.cipher, keys.key)
            Cipher(self._algorithm, modes.CBC(bytes(self._block))).encryptor()  # says now whether there is the cipher

    def seal(self, content_type: int, plaintext: bytes) -> bytes:
        if self._mac_last:
            payload = self._encrypt(plaintext)
            payload += self._mac(content_type, payload)
        else:
            payload = self._encrypt(plaintext + self._mac(content_type, plaintext))
        self._count += 1
        return struct.pack("!BHH", content_type, self._version, len(payload)) + payload

    def _mac(self, content_type: int, data: bytes) -> bytes:
        head = struct.pack("!QBHH", self._count, content_type, self._version, len(data))
        return hmac.digest(self._mac_key, head + data, self._mac_name)

    def _encrypt(self, data: bytes) -> bytes:
        if not self._block:
            return bytes(self._stream.update(data)) if self._stream is not None else data
        padding = self._block - 1 - len(data) % self._block
        explicit = b"" if self._iv else self._count.to_bytes(self._block, "big")
        encryptor = Cipher(self._algorithm, modes.CBC(explicit or self._iv)).encryptor()
        encrypted = encryptor.update(data + bytes([padding]) * (padding + 1)) + encryptor.finalize()
        if self._iv:
            self._iv = encrypted[-self._block :]
        return explicit + encrypted


def _aead(protection: Protection, key: bytes) -> Callable[[bytes, bytes, bytes], bytes]:
    """The cipher's (nonce, plaintext, additional data) -> ciphertext and tag."""
    if protection.cipher == "AES_GCM":
        return AESGCM(key).encrypt
    if protection.cipher == "AES_CCM":
        return AESCCM(key, tag_length=protection.tag).encrypt
    return ChaCha20Poly1305(key).encrypt


def _block_cipher(cipher: str, key: bytes) -> Any:
    if cipher.startswith("AES"):
        return algorithms.AES(key)
    if cipher.startswith("CAMELLIA"):
        return _old_algorithm("Camellia")(key)
    if cipher == "3DES_EDE_CBC":
        return _old_algorithm("TripleDES")(key)
    raise UnsupportedAlgorithm(f"{cipher} is not sealed here")


def _old_algorithm(name: str) -> Any:
    """A cipher that ``cryptography`` moves, release by release, to its module for old ones."""
    found = getattr(decrepit, name, None) or getattr(algorithms, name, None)
    if found is None:
        raise UnsupportedAlgorithm(f"{name} is gone from cryptography")
    return found
