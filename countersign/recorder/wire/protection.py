"""What cipher suites do to records: the keys, nonces and headers that sealing and opening have in common.

TLS 1.3 knows one form of protection (RFC 8446 5.2). Below it there are four: AEAD with an explicit nonce (GCM, CCM),
AEAD with a nonce from the sequence number (ChaCha20-Poly1305), a stream cipher or none with a MAC inside, and CBC with
the MAC inside the encryption (RFC 5246 6.2.3.2) or outside it (RFC 7366).

What a suite needs is read off its IANA name, so that there is one list of suites in the project.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.decrepit.ciphers import algorithms as decrepit
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM, ChaCha20Poly1305

from countersign.recorder.wire import keyschedule, names
from countersign.recorder.wire.events import Side

if TYPE_CHECKING:
    from countersign.recorder.wire.keyschedule import DirectionKeys

Aead = AESGCM | AESCCM | ChaCha20Poly1305

_MAC_HEADER = struct.Struct("!QBHH").pack


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
_JSSE_PADDING = 16

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


@lru_cache(maxsize=64)
def sealed_lengths(suite: int | None, size: int) -> frozenset[int]:
    """How long a TLS 1.3 record is in which ``size`` bytes are sealed (RFC 8446 5.2): next to nobody pads (5.4), but
    for JSSE, which adds 16 bytes to every record.
    """
    protection = TLS13_PROTECTIONS.get(suite or 0, TLS13_PROTECTIONS[0x1301])
    bare = size + 1 + protection.tag  # the byte is its type
    return frozenset({bare, bare + _JSSE_PADDING})


@lru_cache(maxsize=512)
def tls12_protection(suite: int) -> Protection | None:
    """How a suite of TLS 1.0 to 1.2 protects records; None for those not known here (export, ARIA, GOST, SM4).

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


def tls12_keys(
    *, version: int, suite: int, master: bytes, client_random: bytes, server_random: bytes
) -> tuple[Protection, dict[Side, DirectionKeys]] | None:
    """What protects the records of both sides below TLS 1.3; None for a suite or a version that is not known here.

    Keys for CBC have an IV in TLS 1.0 alone (RFC 2246 6.3): from TLS 1.1 on each record sends its own (RFC 4346 6.3).
    """
    protection = tls12_protection(suite)
    if protection is None or not names.TLS10 <= version <= names.TLS12:
        return None
    if protection.tag and version < names.TLS12:
        return None
    pair = keyschedule.key_block(
        version,
        master,
        client_random,
        server_random,
        hash_name=protection.hash_name,
        mac_length=protection.mac_length,
        key_length=protection.key_length,
        iv_length=0 if protection.block and version > names.TLS10 else protection.fixed_iv,
    )
    return protection, dict(zip((Side.CLIENT, Side.SERVER), pair, strict=True))


def aead(protection: Protection, key: bytes) -> Aead:
    """The cipher of a suite that has a tag."""
    if protection.cipher == "AES_GCM":
        return AESGCM(key)
    if protection.cipher == "AES_CCM":
        return AESCCM(key, tag_length=protection.tag)
    return ChaCha20Poly1305(key)


def nonce(iv: int, sequence: int) -> bytes:
    """RFC 8446 5.3, RFC 7905 2: the IV of twelve bytes, as a number, and the sequence number."""
    return (iv ^ sequence).to_bytes(12, "big")


def mac_header(sequence: int, content_type: int, version: int, length: int) -> bytes:
    """Sequence number, type, version and plaintext length (RFC 5246 6.2.3.1, 6.2.3.3)."""
    return _MAC_HEADER(sequence, content_type, version, length)


def stream_cipher(protection: Protection, key: bytes) -> Cipher[None] | None:
    """RC4, or no cipher at all."""
    return Cipher(_algorithm("ARC4")(key), None) if protection.cipher == "RC4_128" else None


def block_cipher(protection: Protection, key: bytes) -> Any:
    """The algorithm under CBC. Raises :class:`UnsupportedAlgorithm` where this build of OpenSSL has none."""
    cipher = protection.cipher
    if cipher.startswith("AES"):
        found = algorithms.AES(key)
    elif cipher.startswith("CAMELLIA"):
        found = _algorithm("Camellia")(key)
    elif cipher in {"SEED_CBC", "IDEA_CBC"}:
        found = _algorithm(cipher.removesuffix("_CBC"))(key)
    else:
        found = _algorithm("TripleDES")(key * 3 if cipher == "DES_CBC" else key)
    Cipher(found, modes.CBC(bytes(protection.block))).decryptor()  # says it now
    return found


def _algorithm(name: str) -> Any:
    """A cipher that `cryptography` moves, release by release, to its module for old ones."""
    found = getattr(decrepit, name, None) or getattr(algorithms, name, None)
    if found is None:
        raise UnsupportedAlgorithm(name)
    return found
