"""Record openers: one object for each direction and key, which turns a protected record into type and plaintext.

TLS 1.3 knows one form of protection (RFC 8446 5.2). Below it there are four: AEAD with an explicit nonce (GCM, CCM),
AEAD with a nonce from the sequence number (ChaCha20-Poly1305), a stream cipher or none with a MAC inside, and CBC with
the MAC inside the encryption (RFC 5246 6.2.3.2) or outside it (RFC 7366).

What a suite needs is read off its IANA name, so that there is one list of suites in the project. Openers count
sequence numbers; one that fails to open a record gives None and stays where it was, so that a caller may try another
key, and goes on with :meth:`Opener.miss`. Keys never show in a ``repr``.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.decrepit.ciphers import algorithms as decrepit
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM, ChaCha20Poly1305

from countersign.recorder.wire import keyschedule, names
from countersign.recorder.wire.events import Side

if TYPE_CHECKING:
    from countersign.recorder.wire.keyschedule import DirectionKeys
    from countersign.recorder.wire.records import Record

Opened = tuple[int, bytes]
"""Content type and plaintext."""

Aead = AESGCM | AESCCM | ChaCha20Poly1305

TLS10 = 0x0301
TLS12 = 0x0303


class Opener(Protocol):
    """Opens the records of one direction under one key, in their order."""

    def open(self, record: Record) -> Opened | None:
        """Type and plaintext, or None when the record does not open; then nothing was counted."""

    def miss(self, record: Record) -> None:
        """Count a record that could not be opened, so that the next one may be."""


@dataclass(frozen=True, slots=True)
class Protection:
    """What a cipher suite does to records. Lengths in bytes; ``hash_name`` is that of the PRF or the HKDF."""

    cipher: str
    key_length: int
    hash_name: str
    mac: str = ""
    mac_length: int = 0
    fixed_iv: int = 0
    block: int = 0
    tag: int = 0


TLS13_PROTECTIONS = {
    0x1301: Protection("AES_GCM", 16, "sha256", fixed_iv=12, tag=16),
    0x1302: Protection("AES_GCM", 32, "sha384", fixed_iv=12, tag=16),
    0x1303: Protection("CHACHA20_POLY1305", 32, "sha256", fixed_iv=12, tag=16),
    0x1304: Protection("AES_CCM", 16, "sha256", fixed_iv=12, tag=16),
    0x1305: Protection("AES_CCM", 16, "sha256", fixed_iv=12, tag=8),
}
TLS13_SUITES = frozenset(TLS13_PROTECTIONS)
"""The five of RFC 8446 B.4."""

_MACS = {"MD5": ("md5", 16), "SHA": ("sha1", 20), "SHA256": ("sha256", 32), "SHA384": ("sha384", 48)}
_AEAD_NAME = re.compile(r"_WITH_AES_(128|256)_(GCM|CCM)(_8)?(?:_(SHA256|SHA384))?$")
_CHACHA_NAME = re.compile(r"_WITH_CHACHA20_POLY1305_SHA256$")
_MAC_NAME = re.compile(r"_WITH_([A-Z0-9_]+?)_(MD5|SHA|SHA256|SHA384)$")
_MAC_CIPHERS = {
    "NULL": (0, 0),
    "RC4_128": (16, 0),
    "DES_CBC": (8, 8),
    "3DES_EDE_CBC": (24, 8),
    "IDEA_CBC": (16, 8),
    "SEED_CBC": (16, 16),
    "AES_128_CBC": (16, 16),
    "AES_256_CBC": (32, 16),
    "CAMELLIA_128_CBC": (16, 16),
    "CAMELLIA_256_CBC": (32, 16),
}


@lru_cache(maxsize=512)
def tls12_protection(suite: int) -> Protection | None:
    """How a suite of TLS 1.0 to 1.2 protects records; None for those that cannot be opened (export, ARIA, GOST, SM4).

    ARIA in CBC and GCM mode is missing in `cryptography`, and so is Camellia in GCM mode.
    """
    name = names.cipher_suite_name(suite)
    if found := _AEAD_NAME.search(name):
        bits, mode, short, digest = found.groups()
        hash_name = "sha384" if digest == "SHA384" else "sha256"
        return Protection(f"AES_{mode}", int(bits) // 8, hash_name, fixed_iv=4, tag=8 if short else 16)
    if _CHACHA_NAME.search(name):
        return Protection("CHACHA20_POLY1305", 32, "sha256", fixed_iv=12, tag=16)
    if (found := _MAC_NAME.search(name)) and found[1] in _MAC_CIPHERS:
        key_length, block = _MAC_CIPHERS[found[1]]
        mac, mac_length = _MACS[found[2]]
        hash_name = "sha384" if found[2] == "SHA384" else "sha256"
        return Protection(found[1], key_length, hash_name, mac, mac_length, block, block)
    return None


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
    protection = tls12_protection(suite)
    if protection is None or not TLS10 <= version <= TLS12 or (protection.tag and version < TLS12):
        return None
    # The implicit IV of a block cipher is in the key block of TLS 1.0 only (RFC 2246 6.3, RFC 4346 6.3).
    explicit = bool(protection.block) and version > TLS10
    try:
        pair = keyschedule.key_block(
            version,
            master,
            client_random,
            server_random,
            hash_name=protection.hash_name,
            mac_length=protection.mac_length,
            key_length=protection.key_length,
            iv_length=0 if explicit else protection.fixed_iv,
        )
        keys = pair[0] if side is Side.CLIENT else pair[1]
        if protection.tag:
            return _AeadOpener(protection, keys)
        if protection.block:
            return _CbcOpener(protection, keys, explicit=explicit, encrypt_then_mac=encrypt_then_mac)
        return _StreamOpener(protection, keys)
    except (UnsupportedAlgorithm, ValueError):  # a build of OpenSSL without the cipher or the hash
        return None


class Tls13Opener:
    """RFC 8446 5.2: the additional data is the outer header, the type is the last byte that is not zero."""

    __slots__ = ("_aead", "_iv", "_protection", "_secret", "_sequence")

    def __init__(self, protection: Protection, secret: bytes) -> None:
        key, iv = keyschedule.traffic_key(secret, protection.key_length, protection.hash_name)
        self._protection = protection
        self._secret = secret
        self._aead = _aead(protection, key)
        self._iv = int.from_bytes(iv, "big")
        self._sequence = 0

    def open(self, record: Record) -> Opened | None:
        nonce = (self._iv ^ self._sequence).to_bytes(12, "big")
        header = bytes((record.content_type,)) + record.version.to_bytes(2, "big") + record.length.to_bytes(2, "big")
        inner = _decrypt(self._aead, nonce, record.payload, header)
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
        self._aead = _aead(protection, keys.key)
        self._iv = keys.iv
        self._explicit = 8 if len(keys.iv) == 4 else 0
        self._tag = protection.tag
        self._sequence = 0

    def open(self, record: Record) -> Opened | None:
        explicit, sealed = record.payload[: self._explicit], record.payload[self._explicit :]
        length = len(sealed) - self._tag
        if length < 0:
            return None
        if explicit:
            nonce = self._iv + explicit
        else:
            nonce = (int.from_bytes(self._iv, "big") ^ self._sequence).to_bytes(12, "big")
        plain = _decrypt(self._aead, nonce, sealed, _mac_header(self._sequence, record, length))
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
        self._stream: Any = None
        if protection.cipher == "RC4_128":
            self._stream = Cipher(_algorithm("ARC4")(keys.key), None).decryptor()

    def open(self, record: Record) -> Opened | None:
        # A stream cannot be tried and taken back; nothing below TLS 1.3 needs a second try with another key.
        data = self._stream.update(record.payload) if self._stream is not None else record.payload
        self._sequence += 1
        plain, mac = data[: -self._mac_length], data[-self._mac_length :]
        header = _mac_header(self._sequence - 1, record, len(plain))
        right = hmac.digest(self._mac_key, header + plain, self._mac)
        if not hmac.compare_digest(mac, right):
            return None
        return record.content_type, plain

    def miss(self, record: Record) -> None:
        """Nothing: :meth:`open` has counted it."""


class _CbcOpener:
    """CBC with the MAC inside (RFC 5246 6.2.3.2) or outside (RFC 7366), IV explicit or the last block before."""

    __slots__ = ("_algorithm", "_block", "_etm", "_explicit", "_iv", "_mac", "_mac_key", "_mac_length", "_sequence")

    def __init__(self, protection: Protection, keys: DirectionKeys, *, explicit: bool, encrypt_then_mac: bool) -> None:
        self._algorithm = _block_cipher(protection.cipher, keys.key)
        self._block = protection.block
        self._explicit = explicit
        self._etm = encrypt_then_mac
        self._iv = keys.iv or bytes(self._block)
        self._mac = protection.mac
        self._mac_key = keys.mac_key
        self._mac_length = protection.mac_length
        self._sequence = 0
        Cipher(self._algorithm, modes.CBC(self._iv)).decryptor()  # says now whether this build has the cipher

    def open(self, record: Record) -> Opened | None:
        body = record.payload
        if self._etm:
            body, mac = body[: -self._mac_length], body[-self._mac_length :]
            header = _mac_header(self._sequence, record, len(body))
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
            header = _mac_header(self._sequence, record, len(plain))
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


def _aead(protection: Protection, key: bytes) -> Aead:
    if protection.cipher == "AES_GCM":
        return AESGCM(key)
    if protection.cipher == "AES_CCM":
        return AESCCM(key, tag_length=protection.tag)
    return ChaCha20Poly1305(key)


def _decrypt(aead: Aead, nonce: bytes, sealed: bytes, additional: bytes) -> bytes | None:
    try:
        return aead.decrypt(nonce, sealed, additional)
    except (InvalidTag, ValueError):  # ValueError: shorter than a tag
        return None


def _mac_header(sequence: int, record: Record, length: int) -> bytes:
    """Sequence number, type, version and plaintext length (RFC 5246 6.2.3.1)."""
    return b"%b%c%b%b" % (
        sequence.to_bytes(8, "big"),
        record.content_type,
        record.version.to_bytes(2, "big"),
        length.to_bytes(2, "big"),
    )


def _algorithm(name: str) -> Any:
    """A cipher that `cryptography` moves, release by release, to its module for old ones."""
    found = getattr(decrepit, name, None) or getattr(algorithms, name, None)
    if found is None:
        raise UnsupportedAlgorithm(name)
    return found


def _block_cipher(cipher: str, key: bytes) -> Any:
    if cipher.startswith("AES"):
        return algorithms.AES(key)
    if cipher.startswith("CAMELLIA"):
        return _algorithm("Camellia")(key)
    if cipher == "SEED_CBC":
        return _algorithm("SEED")(key)
    if cipher == "IDEA_CBC":
        return _algorithm("IDEA")(key)
    return _algorithm("TripleDES")(key * 3 if cipher == "DES_CBC" else key)
