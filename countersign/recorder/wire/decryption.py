"""Record openers: one object for each direction and key, which turns a protected record into type and plaintext.

There is one for each way of protection that TLS has had (:mod:`.protection`). Openers count sequence numbers; one that
fails to open a record gives None and stays where it was, so that a caller may try another key, and goes on with
:meth:`Opener.miss`. Keys never show in a ``repr``.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Protocol

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.ciphers import Cipher, modes

from countersign.recorder.wire import keyschedule
from countersign.recorder.wire.protection import (
    TLS13_PROTECTIONS,
    Aead,
    Protection,
    aead,
    block_cipher,
    mac_header,
    nonce,
    stream_cipher,
    tls12_keys,
)

if TYPE_CHECKING:
    from countersign.recorder.wire.events import Side
    from countersign.recorder.wire.keyschedule import DirectionKeys
    from countersign.recorder.wire.records import Record

Opened = tuple[int, bytes]
"""Content type and plaintext."""


class Opener(Protocol):
    """Opens the records of one direction under one key, in their order."""

    def open(self, record: Record) -> Opened | None:
        """Type and plaintext, or None when the record does not open; then nothing was counted."""

    def miss(self, record: Record) -> None:
        """Count a record that could not be opened, so that the next one may be."""


def tls13_opener(suite: int, secret: bytes) -> Tls13Opener | None:
    """The opener under a TLS 1.3 traffic secret; None where the suite is none of the five or the length is wrong."""
    protection = TLS13_PROTECTIONS.get(suite)
    if protection is None or len(secret) != (48 if protection.hash_name == "sha384" else 32):
        return None
    return Tls13Opener(protection, secret)


def tls12_opener(
    side: Side,
    *,
    version: int,
    suite: int,
    master: bytes,
    client_random: bytes,
    server_random: bytes,
    encrypt_then_mac: bool,
) -> Opener | None:
    """The opener of one side's records below TLS 1.3; None where the suite or the version cannot be opened."""
    found = tls12_keys(
        version=version, suite=suite, master=master, client_random=client_random, server_random=server_random
    )
    if found is None:
        return None
    protection, keys = found
    try:
        if protection.tag:
            return _AeadOpener(protection, keys[side])
        if protection.block:
            return _CbcOpener(protection, keys[side], encrypt_then_mac=encrypt_then_mac)
        return _StreamOpener(protection, keys[side])
    except (UnsupportedAlgorithm, ValueError):  # a build of OpenSSL without the cipher or the hash
        return None


class Tls13Opener:
    """RFC 8446 5.2: the additional data is the outer header, the type is the last byte that is not zero."""

    __slots__ = ("_aead", "_iv", "_protection", "_secret", "_sequence")

    def __init__(self, protection: Protection, secret: bytes) -> None:
        key, iv = keyschedule.traffic_key(secret, protection.key_length, protection.hash_name)
        self._protection = protection
        self._secret = secret
        self._aead = aead(protection, key)
        self._iv = int.from_bytes(iv, "big")
        self._sequence = 0

    def open(self, record: Record) -> Opened | None:
        header = bytes((record.content_type,)) + record.version.to_bytes(2, "big") + record.length.to_bytes(2, "big")
        inner = _decrypt(self._aead, nonce(self._iv, self._sequence), record.payload, header)
        if inner is None:
            return None
        self._sequence += 1
        content = inner.rstrip(b"\x00")
        # All zeros is a record without a type; zero is a type that no message has.
        return (content[-1], content[:-1]) if content else (0, inner)

    def miss(self, record: Record) -> None:  # noqa: ARG002 - the one shape of all openers
        self._sequence += 1

    def updated(self) -> Tls13Opener:
        """The opener after a KeyUpdate of this side (RFC 8446 7.2)."""
        secret = keyschedule.next_traffic_secret(self._secret, self._protection.hash_name)
        return Tls13Opener(self._protection, secret)


class _AeadOpener:
    """RFC 5246 6.2.3.3 with the nonces of RFC 5288 and RFC 6655 (explicit) and of RFC 7905 (from the sequence)."""

    __slots__ = ("_aead", "_explicit", "_iv", "_sequence", "_tag")

    def __init__(self, protection: Protection, keys: DirectionKeys) -> None:
        self._aead = aead(protection, keys.key)
        self._iv = keys.iv
        self._explicit = 8 if len(keys.iv) == 4 else 0
        self._tag = protection.tag
        self._sequence = 0

    def open(self, record: Record) -> Opened | None:
        explicit, sealed = record.payload[: self._explicit], record.payload[self._explicit :]
        length = len(sealed) - self._tag
        if length < 0:
            return None
        whole = self._iv + explicit if explicit else nonce(int.from_bytes(self._iv, "big"), self._sequence)
        header = mac_header(self._sequence, record.content_type, record.version, length)
        plain = _decrypt(self._aead, whole, sealed, header)
        if plain is None:
            return None
        self._sequence += 1
        return record.content_type, plain

    def miss(self, record: Record) -> None:  # noqa: ARG002 - the one shape of all openers
        self._sequence += 1


class _StreamOpener:
    """RC4, or no cipher at all: plaintext and MAC in one stream (RFC 5246 6.2.3.1)."""

    __slots__ = ("_mac", "_mac_key", "_mac_length", "_sequence", "_stream")

    def __init__(self, protection: Protection, keys: DirectionKeys) -> None:
        self._mac = protection.mac
        self._mac_key = keys.mac_key
        self._mac_length = protection.mac_length
        self._sequence = 0
        cipher = stream_cipher(protection, keys.key)
        self._stream = cipher.decryptor() if cipher is not None else None

    def open(self, record: Record) -> Opened | None:
        # A stream cannot be tried and taken back; nothing below TLS 1.3 needs a second try with another key.
        data = self._stream.update(record.payload) if self._stream is not None else record.payload
        self._sequence += 1
        plain, mac = data[: -self._mac_length], data[-self._mac_length :]
        header = mac_header(self._sequence - 1, record.content_type, record.version, len(plain))
        right = hmac.digest(self._mac_key, header + plain, self._mac)
        if not hmac.compare_digest(mac, right):
            return None
        return record.content_type, plain

    def miss(self, record: Record) -> None:
        """Nothing: :meth:`open` has counted it."""


class _CbcOpener:
    """CBC with the MAC inside (RFC 5246 6.2.3.2) or outside (RFC 7366), IV explicit or the last block before."""

    __slots__ = ("_algorithm", "_block", "_etm", "_explicit", "_iv", "_mac", "_mac_key", "_mac_length", "_sequence")

    def __init__(self, protection: Protection, keys: DirectionKeys, *, encrypt_then_mac: bool) -> None:
        self._algorithm = block_cipher(protection, keys.key)
        self._block = protection.block
        self._explicit = not keys.iv
        self._etm = encrypt_then_mac
        self._iv = keys.iv or bytes(self._block)
        self._mac = protection.mac
        self._mac_key = keys.mac_key
        self._mac_length = protection.mac_length
        self._sequence = 0

    def open(self, record: Record) -> Opened | None:
        body = record.payload
        if self._etm:
            body, mac = body[: -self._mac_length], body[-self._mac_length :]
            header = mac_header(self._sequence, record.content_type, record.version, len(body))
            if not hmac.compare_digest(mac, hmac.digest(self._mac_key, header + body, self._mac)):
                return None
        if self._explicit:
            iv, body = body[: self._block], body[self._block :]
        else:
            iv = self._iv
        if not body or len(body) % self._block or len(iv) != self._block:
            return None
        decryptor = Cipher(self._algorithm, modes.CBC(iv)).decryptor()
        padded = decryptor.update(body) + decryptor.finalize()
        padding = padded[-1] + 1
        if len(padded) < padding or padded[-padding:] != bytes((padding - 1,)) * padding:
            return None
        plain = padded[:-padding]
        if not self._etm:
            if len(plain) < self._mac_length:
                return None
            plain, mac = plain[: -self._mac_length], plain[-self._mac_length :]
            header = mac_header(self._sequence, record.content_type, record.version, len(plain))
            if not hmac.compare_digest(mac, hmac.digest(self._mac_key, header + plain, self._mac)):
                return None
        self.miss(record)
        return record.content_type, plain

    def miss(self, record: Record) -> None:
        self._sequence += 1
        if not self._explicit:
            end = len(record.payload) - (self._mac_length if self._etm else 0)
            if end >= self._block:
                self._iv = record.payload[end - self._block : end]


def _decrypt(aead: Aead, nonce: bytes, sealed: bytes, additional: bytes) -> bytes | None:
    try:
        return aead.decrypt(nonce, sealed, additional)
    except (InvalidTag, ValueError):  # ValueError: shorter than a tag
        return None
