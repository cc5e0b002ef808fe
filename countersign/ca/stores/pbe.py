"""Encryption under a password, in every form that key stores have: PBES2 (RFC 8018), PBES1 (RFC 8018 6.1), the six
schemes of PKCS #12 (RFC 7292 B, C), and the two of Java's own, for JKS and JCEKS.

Where they differ is how a password becomes bytes (:class:`Secret`), how those become a key (the ``kdf`` of a
:class:`Scheme`), and the cipher. An :class:`Algorithm` is a scheme with its salt and initialisation vector, read from
an AlgorithmIdentifier or made anew.

A file says itself how often its password is to be hashed, and a hostile one says two thousand million times. So every
derivation is paid for from a :class:`Budget` before it is done: ``MOST_ROUNDS`` for one, ``MOST_ROUNDS_A_FILE`` for all
of a file, and 512 MiB for scrypt.
"""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.decrepit.ciphers.algorithms import ARC4, TripleDES
from cryptography.hazmat.primitives import hashes, keywrap
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESCCM
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from countersign.ca.stores import rc2
from countersign.ca.stores.errors import StructureBroken, TooCostly, UnknownAlgorithm
from countersign.ca.stores.fields import Source
from countersign.ca.stores.model import Scheme
from countersign.recorder import der
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from countersign.ca.stores.fields import Node

MOST_ROUNDS = 5_000_000
"""Iterations of one derivation, as many as a JVM makes; what programs write is between 1 and 600,000."""

MOST_ROUNDS_A_FILE = 25_000_000
MOST_SCRYPT_MEMORY = 512 << 20
_MOST_RC2 = 1 << 20  # bytes; half a second for each 200 KB
_LONGEST_KEY = 64
_TAG = 8  # bytes of a CCM tag, as Bouncy Castle has it


class WrongSecretError(ValueError):
    """The password does not open this, or its bytes were altered."""


@dataclass(slots=True)
class Budget:
    """What may still be spent on one file."""

    rounds: int = MOST_ROUNDS_A_FILE

    def spend(self, rounds: int, times: int = 1) -> None:
        """Pay for ``times`` derivations of ``rounds`` iterations. Raises :class:`TooCostly`."""
        if rounds > MOST_ROUNDS:
            raise TooCostly(
                f"the file asks for {rounds} iterations over its password, and at most {MOST_ROUNDS} are made: no "
                "program writes that; if the file is your own, write it anew with the default of openssl or keytool"
            )
        self.rounds -= rounds * times
        if self.rounds < 0:
            raise TooCostly(
                f"the file asks for more than {MOST_ROUNDS_A_FILE} iterations over its password in all; "
                "if it is your own, split it, or write it anew with fewer iterations"
            )

    def spend_memory(self, cost: int, block: int, parallel: int) -> None:
        """The same for scrypt (RFC 7914 2)."""
        memory = 128 * block * (cost + parallel)
        if memory > MOST_SCRYPT_MEMORY or cost * block * parallel > MOST_ROUNDS:
            raise TooCostly(
                f"the file asks scrypt for {memory >> 20} MiB (N {cost}, r {block}, p {parallel}), and at most "
                f"{MOST_SCRYPT_MEMORY >> 20} MiB are given; if it is your own, write it anew with N 16384, r 8, p 1"
            )
        self.spend(cost * block * parallel)


@dataclass(frozen=True, slots=True)
class Secret:
    """A password (``None``: not even an empty one) and, in BCFKS, what the key is for."""

    text: str | None = field(repr=False)
    purpose: str = ""

    @property
    def utf8(self) -> bytes:
        return (self.text or "").encode("utf-8", "surrogatepass")

    @property
    def bmp(self) -> bytes:
        """RFC 7292 B.1: UTF-16 with two zero bytes at the end; nothing at all without a password."""
        return b"" if self.text is None else _utf16(self.text) + b"\x00\x00"

    @property
    def utf16(self) -> bytes:
        """As JKS has it: UTF-16 and no end."""
        return _utf16(self.text or "")

    @property
    def for_pbes2(self) -> bytes:
        """UTF-8; in BCFKS the password, then what the key is for, each as RFC 7292 B.1 has it if not empty."""
        if not self.purpose:
            return self.utf8
        return (self.bmp if self.text else b"") + _utf16(self.purpose) + b"\x00\x00"


def _utf16(text: str) -> bytes:
    return text.encode("utf-16-be", "surrogatepass")


@dataclass(frozen=True, slots=True)
class Algorithm:
    """A scheme with the values that make it one of a kind; ``key_length`` is 0 where the cipher says it."""

    scheme: Scheme
    salt: bytes
    iv: bytes = b""
    tag_length: int = 16
    key_length: int = 0


# -- keys from passwords -----------------------------------------------------------------------------------------

_HASHES: dict[str, Callable[[], hashes.HashAlgorithm]] = {
    "sha1": hashes.SHA1, "sha224": hashes.SHA224, "sha256": hashes.SHA256, "sha384": hashes.SHA384,
    "sha512": hashes.SHA512, "sha512-224": hashes.SHA512_224, "sha512-256": hashes.SHA512_256,
    "sha3-224": hashes.SHA3_224, "sha3-256": hashes.SHA3_256, "sha3-384": hashes.SHA3_384, "sha3-512": hashes.SHA3_512,
}  # fmt: skip


def derive(algorithm: Algorithm, secret: Secret, size: int, budget: Budget) -> bytes:
    """``size`` bytes by PBKDF2 (RFC 8018 5.2) or scrypt (RFC 7914 6)."""
    scheme = algorithm.scheme
    if scheme.kdf == "scrypt":
        budget.spend_memory(scheme.rounds, scheme.block, scheme.parallel)
        try:
            return Scrypt(algorithm.salt, size, scheme.rounds, scheme.block, scheme.parallel).derive(secret.for_pbes2)
        except (ValueError, MemoryError) as wrong:
            raise UnknownAlgorithm("the store", f"scrypt with N {scheme.rounds}, r {scheme.block}") from wrong
    prf = _HASHES[scheme.prf]()
    budget.spend(scheme.rounds, math.ceil(size / prf.digest_size))
    return PBKDF2HMAC(prf, size, algorithm.salt, scheme.rounds).derive(secret.for_pbes2)


FOR_KEY, FOR_IV, FOR_MAC = 1, 2, 3
"""What RFC 7292 B.3 tells derived bytes apart by."""


def pkcs12_key(
    algorithm: Algorithm, secret: Secret, purpose: int, size: int, budget: Budget, *, digest: str = "sha1"
) -> bytes:
    """``size`` bytes by RFC 7292 B.2."""
    new = getattr(hashlib, digest)
    block_size = new().block_size
    rounds = algorithm.scheme.rounds
    budget.spend(rounds, math.ceil(size / new().digest_size))
    diversifier = bytes((purpose,)) * block_size
    filled = _filled(algorithm.salt, block_size) + _filled(secret.bmp, block_size)
    made = b""
    while len(made) < size:
        a = new(diversifier + filled).digest()
        for _ in range(rounds - 1):
            a = new(a).digest()
        made += a
        b = int.from_bytes(_filled(a, block_size)[:block_size]) + 1
        filled = b"".join(
            (int.from_bytes(filled[at : at + block_size]) + b).to_bytes(block_size + 1)[1:]
            for at in range(0, len(filled), block_size)
        )
    return made[:size]


def _filled(data: bytes, size: int) -> bytes:
    """``data`` over and over until it fills whole blocks of ``size``."""
    whole = size * math.ceil(len(data) / size)
    return (data * math.ceil(whole / len(data)))[:whole] if data else b""


def _jceks_key(secret: Secret, salt: bytes, rounds: int, budget: Budget) -> bytes:
    """A 3DES key and its initialisation vector: MD5 over both halves of the salt, each ``rounds`` times."""
    budget.spend(rounds, 2)
    password = bytes(ord(character) & 0x7F for character in secret.text or "")
    first, second = salt[:4], salt[4:]
    if first == second:  # else the two would be the same
        first = first[::-1]
    made = b""
    for half in (first, second):
        digest = half
        for _ in range(rounds):
            digest = hashlib.md5(digest + password, usedforsecurity=False).digest()
        made += digest
    return made


def _pbkdf1_key(password: bytes, salt: bytes, rounds: int, digest: str, budget: Budget) -> bytes:
    """16 bytes by RFC 8018 5.1: a key and an initialisation vector of 8 bytes each."""
    budget.spend(rounds)
    made = password + salt
    for _ in range(rounds):
        made = hashlib.new(digest, made, usedforsecurity=False).digest()
    return made[:16]


def _openssl_key(password: bytes, salt: bytes, size: int) -> bytes:
    """OpenSSL's EVP_BytesToKey with MD5 and one round, for keys in PEM from before PKCS #8."""
    made = last = b""
    while len(made) < size:
        last = hashlib.md5(last + password + salt, usedforsecurity=False).digest()
        made += last
    return made[:size]


# -- ciphers -----------------------------------------------------------------------------------------------------

# The bytes of each cipher's key and of its block (initialisation vector).
_CIPHERS = {
    "aes-128-cbc": (16, 16), "aes-192-cbc": (24, 16), "aes-256-cbc": (32, 16), "aes-128-ccm": (16, 12),
    "aes-192-ccm": (24, 12), "aes-256-ccm": (32, 12), "aes-256-kwp": (32, 0), "3des-cbc": (24, 8),
    "3des-2key-cbc": (16, 8), "des-cbc": (8, 8), "rc2-128-cbc": (16, 8), "rc2-64-cbc": (8, 8), "rc2-40-cbc": (5, 8),
    "rc4-128": (16, 0), "rc4-40": (5, 0),
}  # fmt: skip


def _key_and_iv(algorithm: Algorithm, secret: Secret, budget: Budget) -> tuple[bytes, bytes]:
    scheme, salt = algorithm.scheme, algorithm.salt
    key_size, iv_size = _CIPHERS[scheme.cipher]
    match scheme.kdf:
        case "pkcs12":
            key, iv = (
                pkcs12_key(algorithm, secret, purpose, size, budget)
                for purpose, size in ((FOR_KEY, key_size), (FOR_IV, iv_size))
            )
            return key, iv
        case "pbkdf1":
            made = _pbkdf1_key(secret.utf8, salt, scheme.rounds, scheme.prf, budget)
            return made[:8], made[8:]
        case "openssl":
            return _openssl_key(secret.utf8, salt, key_size), algorithm.iv
        case "jceks":
            made = _jceks_key(secret, salt, scheme.rounds, budget)
            return made[:24], made[24:]
        case _:
            return derive(algorithm, secret, key_size, budget), algorithm.iv


def decrypt(algorithm: Algorithm, data: bytes, secret: Secret, budget: Budget) -> bytes:
    """What was encrypted. Raises :class:`WrongSecretError`, :class:`TooCostly` and :class:`UnknownAlgorithm`."""
    cipher = algorithm.scheme.cipher
    if cipher == "sun":
        return _sun_decrypt(data, secret)
    _check_size(cipher, len(data))
    key, iv = _key_and_iv(algorithm, secret, budget)
    try:
        match cipher:
            case _ if cipher.endswith("-ccm"):
                return AESCCM(key, algorithm.tag_length).decrypt(iv, data, None)
            case "aes-256-kwp":
                return keywrap.aes_key_unwrap_with_padding(key, data)
            case _ if cipher.startswith("rc4"):
                return Cipher(ARC4(key), None).decryptor().update(data)
            case _ if cipher.startswith("rc2"):
                padded = rc2.decrypt(key, int(cipher.split("-")[1]), iv, data)
            case _:
                decryptor = Cipher(_block_cipher(cipher, key), modes.CBC(iv)).decryptor()
                padded = decryptor.update(data) + decryptor.finalize()
    except (ValueError, InvalidTag, keywrap.InvalidUnwrap) as wrong:
        raise WrongSecretError("wrong") from wrong
    except UnsupportedAlgorithm as wrong:
        raise UnknownAlgorithm("the store", cipher) from wrong
    return _unpadded(padded, len(iv))


def encrypt(algorithm: Algorithm, data: bytes, secret: Secret, rng: Callable[[int], bytes] = os.urandom) -> bytes:
    """``data`` encrypted; ``rng`` is asked by JKS alone, the others have their salt in the algorithm."""
    cipher = algorithm.scheme.cipher
    if cipher == "sun":
        return _sun_encrypt(data, secret, rng)
    key, iv = _key_and_iv(algorithm, secret, Budget())
    if cipher.endswith("-ccm"):
        return AESCCM(key, algorithm.tag_length).encrypt(iv, data, None)
    if cipher == "aes-256-kwp":
        return keywrap.aes_key_wrap_with_padding(key, data)
    padding = len(iv) - len(data) % len(iv)
    data += bytes((padding,)) * padding
    if cipher.startswith("rc2"):
        return rc2.encrypt(key, int(cipher.split("-")[1]), iv, data)
    encryptor = Cipher(_block_cipher(cipher, key), modes.CBC(iv)).encryptor()
    return encryptor.update(data) + encryptor.finalize()


def _check_size(cipher: str, size: int) -> None:
    if cipher.startswith("rc2") and size > _MOST_RC2:
        raise TooCostly(
            f"{size} bytes are encrypted with RC2, and at most {_MOST_RC2} are decrypted; "
            "write the store anew with today's algorithms (openssl pkcs12 -export without -legacy)"
        )


def _block_cipher(cipher: str, key: bytes) -> algorithms.AES | TripleDES:
    if cipher.startswith("aes"):
        return algorithms.AES(key)
    return TripleDES({8: key * 3, 16: key + key[:8]}.get(len(key), key))


def _unpadded(data: bytes, block: int) -> bytes:
    """RFC 8018 6.1.1: as many bytes at the end as each of them says."""
    count = data[-1] if data else 0
    if not 0 < count <= block or data[-count:] != bytes((count,)) * count:
        raise WrongSecretError("wrong padding")
    return data[:-count]


def _sun_decrypt(data: bytes, secret: Secret) -> bytes:
    """JKS: a salt of 20 bytes, the key masked with SHA-1 of password and what came before, and a SHA-1 over the key."""
    if len(data) < 40:
        raise WrongSecretError("too short")
    salt, masked, check = data[:20], data[20:-20], data[-20:]
    key = _sun_masked(masked, salt, secret.utf16)
    if hashlib.sha1(secret.utf16 + key, usedforsecurity=False).digest() != check:
        raise WrongSecretError("wrong digest")
    return key


def _sun_encrypt(data: bytes, secret: Secret, rng: Callable[[int], bytes]) -> bytes:
    salt = rng(20)
    check = hashlib.sha1(secret.utf16 + data, usedforsecurity=False).digest()
    return salt + _sun_masked(data, salt, secret.utf16) + check


def _sun_masked(data: bytes, salt: bytes, password: bytes) -> bytes:
    mask, last = bytearray(), salt
    while len(mask) < len(data):
        last = hashlib.sha1(password + last, usedforsecurity=False).digest()
        mask += last
    return (int.from_bytes(data) ^ int.from_bytes(mask[: len(data)])).to_bytes(len(data))


# -- their encodings ---------------------------------------------------------------------------------------------

PBES2, PBKDF2, SCRYPT = "1.2.840.113549.1.5.13", "1.2.840.113549.1.5.12", "1.3.6.1.4.1.11591.4.11"
_SUN, _JCEKS = "1.3.6.1.4.1.42.2.17.1.1", "1.3.6.1.4.1.42.2.19.1"

_PRFS = {
    "1.2.840.113549.2.7": "sha1", "1.2.840.113549.2.8": "sha224", "1.2.840.113549.2.9": "sha256",
    "1.2.840.113549.2.10": "sha384", "1.2.840.113549.2.11": "sha512", "1.2.840.113549.2.12": "sha512-224",
    "1.2.840.113549.2.13": "sha512-256", "2.16.840.1.101.3.4.2.13": "sha3-224", "2.16.840.1.101.3.4.2.14": "sha3-256",
    "2.16.840.1.101.3.4.2.15": "sha3-384", "2.16.840.1.101.3.4.2.16": "sha3-512",
}  # fmt: skip
PRF_OIDS = {name: oid for oid, name in _PRFS.items()}

_AES = "2.16.840.1.101.3.4.1."
_PBES2_CIPHERS = {
    f"{_AES}2": "aes-128-cbc", f"{_AES}22": "aes-192-cbc", f"{_AES}42": "aes-256-cbc", f"{_AES}7": "aes-128-ccm",
    f"{_AES}27": "aes-192-ccm", f"{_AES}47": "aes-256-ccm", f"{_AES}48": "aes-256-kwp",
    "1.2.840.113549.3.7": "3des-cbc", "1.3.14.3.2.7": "des-cbc",
}  # fmt: skip
_PBES2_OIDS = {name: oid for oid, name in _PBES2_CIPHERS.items()}

_DEK_CIPHERS = {
    "AES-128-CBC": "aes-128-cbc", "AES-192-CBC": "aes-192-cbc", "AES-256-CBC": "aes-256-cbc",
    "DES-EDE3-CBC": "3des-cbc", "DES-CBC": "des-cbc",
}  # fmt: skip

# RFC 7292 C and RFC 8018 A.3: (cipher, kdf, hash of PBKDF1)
_PBES1 = {
    "1.2.840.113549.1.12.1.1": ("rc4-128", "pkcs12", "sha1"), "1.2.840.113549.1.12.1.2": ("rc4-40", "pkcs12", "sha1"),
    "1.2.840.113549.1.12.1.3": ("3des-cbc", "pkcs12", "sha1"),
    "1.2.840.113549.1.12.1.4": ("3des-2key-cbc", "pkcs12", "sha1"),
    "1.2.840.113549.1.12.1.5": ("rc2-128-cbc", "pkcs12", "sha1"),
    "1.2.840.113549.1.12.1.6": ("rc2-40-cbc", "pkcs12", "sha1"),
    "1.2.840.113549.1.5.3": ("des-cbc", "pbkdf1", "md5"), "1.2.840.113549.1.5.6": ("rc2-64-cbc", "pbkdf1", "md5"),
    "1.2.840.113549.1.5.10": ("des-cbc", "pbkdf1", "sha1"), "1.2.840.113549.1.5.11": ("rc2-64-cbc", "pbkdf1", "sha1"),
    _JCEKS: ("3des-cbc", "jceks", "md5"),
}  # fmt: skip
_PBES1_OIDS = {(cipher, kdf): oid for oid, (cipher, kdf, _) in _PBES1.items() if kdf != "pbkdf1"}


def read_algorithm(node: Node, what: str) -> Algorithm:
    """An AlgorithmIdentifier of password-based encryption; ``what`` it protects is for the error."""
    parts = node.sequence("an AlgorithmIdentifier", 1, 2)
    oid = parts[0].oid("an algorithm")
    if oid == _SUN:
        return Algorithm(Scheme("sun", "sun", 1), b"")
    if oid == PBES2 and len(parts) == 2:
        kdf, cipher = parts[1].sequence("PBES2-params", 2, 2)
        return _read_cipher(cipher, read_kdf(kdf, what), what)
    if oid in _PBES1 and len(parts) == 2:
        salt, count = parts[1].sequence("a salt and an iteration count", 2, 2)
        cipher_name, kdf_name, prf = _PBES1[oid]
        salted = salt.octets("a salt")
        if kdf_name == "jceks" and len(salted) != 8:
            raise salt.broken(f"expected a salt of 8 bytes, got {len(salted)}")
        return Algorithm(Scheme(cipher_name, kdf_name, _positive(count, "an iteration count"), prf), salted)
    raise UnknownAlgorithm(what, f"the algorithm {oid}")


def read_dek_info(text: str, what: str) -> Algorithm:
    """The ``DEK-Info`` of a PEM block (RFC 1421 4.6.1.3): ``AES-256-CBC,`` and the initialisation vector in
    hexadecimal.
    """
    name, _, digits = text.partition(",")
    cipher = _DEK_CIPHERS.get(name.strip().upper())
    try:
        iv = bytes.fromhex(digits)
    except ValueError:
        iv = b""
    if cipher is None or len(iv) != _CIPHERS[cipher][1]:
        raise UnknownAlgorithm(what, f"'{printable(text, limit=60)}'")
    return Algorithm(Scheme(cipher, "openssl", 1, "md5"), iv[:8], iv)


def read_kdf(node: Node, what: str) -> Algorithm:
    """A key derivation function (RFC 8018 A.2, RFC 7914 7.1), as an algorithm without its cipher."""
    parts = node.sequence("a key derivation function", 2, 2)
    oid = parts[0].oid("a key derivation function")
    if oid == SCRYPT:
        values = parts[1].sequence("scrypt-params", 4, 5)
        cost, block, parallel = (_positive(value, "a parameter of scrypt") for value in values[1:4])
        size = _positive(values[4], "a key length") if len(values) == 5 else 0
        if cost < 2 or cost & cost - 1:
            raise values[1].broken(f"expected a power of two as the cost of scrypt, got {cost}")
        return Algorithm(Scheme("", "scrypt", cost, "", block, parallel), values[0].octets("a salt"), key_length=size)
    if oid != PBKDF2:
        raise UnknownAlgorithm(what, f"the key derivation {oid}")
    values = parts[1].sequence("PBKDF2-params", 2, 4)
    rounds = _positive(values[1], "an iteration count")
    size, prf = 0, "sha1"  # RFC 8018 A.2: the default
    for value in values[2:]:
        if value.tag == der.INTEGER:
            size = _positive(value, "a key length")
            continue
        name = value.sequence("a pseudorandom function", 1, 2)[0].oid("a pseudorandom function")
        if name not in _PRFS:
            raise UnknownAlgorithm(what, f"PBKDF2 over {name}")
        prf = _PRFS[name]
    if size > _LONGEST_KEY:
        raise node.broken(f"expected a key of at most {_LONGEST_KEY} bytes, got one of {size}")
    return Algorithm(Scheme("", "pbkdf2", rounds, prf), values[0].octets("a salt"), key_length=size)


def _read_cipher(node: Node, kdf: Algorithm, what: str) -> Algorithm:
    parts = node.sequence("an encryption scheme", 1, 2)
    oid = parts[0].oid("an encryption scheme")
    cipher = _PBES2_CIPHERS.get(oid)
    if cipher is None:
        raise UnknownAlgorithm(what, f"the cipher {oid}")
    iv, tag_length = b"", 16
    if cipher.endswith("-ccm") and len(parts) == 2:  # RFC 5084 3.1
        values = parts[1].sequence("CCMParameters", 1, 2)
        iv, tag_length = values[0].octets("a nonce"), values[1].integer("a tag length") if len(values) == 2 else 12
        if not 7 <= len(iv) <= 13 or tag_length not in range(4, 17, 2):
            raise parts[1].broken(f"expected a nonce of 7 to 13 bytes, got {len(iv)} (tag of {tag_length})")
    elif cipher != "aes-256-kwp":
        iv = parts[1].octets("an initialisation vector") if len(parts) == 2 else b""
        if len(iv) != _CIPHERS[cipher][1]:
            raise node.broken(f"expected an initialisation vector of {_CIPHERS[cipher][1]} bytes, got {len(iv)}")
    if kdf.key_length not in {0, _CIPHERS[cipher][0]}:
        raise node.broken(f"expected a key of {_CIPHERS[cipher][0]} bytes for {cipher}, got one of {kdf.key_length}")
    scheme = kdf.scheme
    named = Scheme(cipher, scheme.kdf, scheme.rounds, scheme.prf, scheme.block, scheme.parallel)
    return Algorithm(named, kdf.salt, iv, tag_length, kdf.key_length)


def _positive(node: Node, what: str) -> int:
    value = node.integer(what)
    if not 0 < value < 1 << 63:
        raise node.broken(f"expected {what} above 0, got {value}")
    return value


def can_write(scheme: Scheme) -> bool:
    """Whether :func:`encrypt` knows it; RC4 and PBKDF1 are for reading alone."""
    if scheme.kdf in {"pbkdf2", "scrypt"}:
        return scheme.cipher in _PBES2_OIDS
    return (scheme.cipher, scheme.kdf) in _PBES1_OIDS and not scheme.cipher.startswith("rc4")


def new_algorithm(scheme: Scheme, rng: Callable[[int], bytes], *, salt_size: int = 20) -> Algorithm:
    """``scheme`` with a salt and an initialisation vector of its own."""
    if scheme.cipher == "sun":
        return Algorithm(scheme, b"")
    in_kdf = scheme.kdf in {"pkcs12", "jceks"}
    iv = b"" if in_kdf else rng(_CIPHERS[scheme.cipher][1])
    return Algorithm(scheme, rng(8 if scheme.kdf == "jceks" else salt_size), iv, _TAG)


def identifier(oid: str) -> bytes:
    """An AlgorithmIdentifier whose parameters are NULL (RFC 5280 4.1.1.2)."""
    return der.encode(der.SEQUENCE, der.encode_oid(oid), b"\x05\x00")


def algorithm_der(algorithm: Algorithm) -> bytes:
    """The AlgorithmIdentifier of what :func:`new_algorithm` made."""
    scheme = algorithm.scheme
    if scheme.cipher == "sun":
        return identifier(_SUN)
    if scheme.kdf in {"pkcs12", "jceks"}:
        salt, count = der.encode(der.OCTET_STRING, algorithm.salt), der.encode_integer(scheme.rounds)
        oid = der.encode_oid(_PBES1_OIDS[scheme.cipher, scheme.kdf])
        return der.encode(der.SEQUENCE, oid, der.encode(der.SEQUENCE, salt, count))
    if scheme.cipher.endswith("-ccm"):
        parameters = der.encode(
            der.SEQUENCE, der.encode(der.OCTET_STRING, algorithm.iv), der.encode_integer(algorithm.tag_length)
        )
    else:
        parameters = der.encode(der.OCTET_STRING, algorithm.iv) if algorithm.iv else b""
    cipher = der.encode(der.SEQUENCE, der.encode_oid(_PBES2_OIDS[scheme.cipher]), parameters)
    both = der.encode(der.SEQUENCE, kdf_der(algorithm, _CIPHERS[scheme.cipher][0]), cipher)
    return der.encode(der.SEQUENCE, der.encode_oid(PBES2), both)


def kdf_der(algorithm: Algorithm, size: int) -> bytes:
    """The key derivation function of an algorithm, for a key of ``size`` bytes."""
    scheme, salt = algorithm.scheme, der.encode(der.OCTET_STRING, algorithm.salt)
    numbers = (scheme.rounds, scheme.block, scheme.parallel) if scheme.kdf == "scrypt" else (scheme.rounds,)
    values = [salt, *map(der.encode_integer, (*numbers, size))]
    if scheme.kdf == "scrypt":
        return der.encode(der.SEQUENCE, der.encode_oid(SCRYPT), der.encode(der.SEQUENCE, *values))
    prf = identifier(PRF_OIDS[scheme.prf])
    return der.encode(der.SEQUENCE, der.encode_oid(PBKDF2), der.encode(der.SEQUENCE, *values, prf))


# -- encrypted keys ----------------------------------------------------------------------------------------------


def open_key(sealed: Node, secret: Secret, budget: Budget, what: str) -> bytes:
    """The PKCS #8 in an EncryptedPrivateKeyInfo (RFC 5958 3). Raises :class:`WrongSecretError` besides the rest."""
    algorithm, data = sealed.sequence("an EncryptedPrivateKeyInfo", 2, 2)
    key = decrypt(read_algorithm(algorithm, what), data.octets("an encrypted key"), secret, budget)
    try:  # one wrong password in 256 leaves a padding that is right by chance
        der.whole(key, der.SEQUENCE, "a PrivateKeyInfo")
    except der.DerError as wrong:
        raise WrongSecretError("no key") from wrong
    return key


def check_cost(data: bytes) -> None:
    """Raise :class:`TooCostly` where ``data`` is an EncryptedPrivateKeyInfo that asks for more than is given.

    For keys that somebody else decrypts: what is none, or is broken, passes, for that one to say.
    """
    budget = Budget()
    try:
        algorithm, _ = Source(data).whole().sequence("an EncryptedPrivateKeyInfo", 2, 2)
        scheme = read_algorithm(algorithm, "the key").scheme
    except (StructureBroken, UnknownAlgorithm):
        return
    if scheme.kdf == "scrypt":
        budget.spend_memory(scheme.rounds, scheme.block, scheme.parallel)
    else:
        budget.spend(scheme.rounds)


def seal_key(key: bytes, secret: Secret, algorithm: Algorithm, rng: Callable[[int], bytes] = os.urandom) -> bytes:
    """An EncryptedPrivateKeyInfo."""
    encrypted = der.encode(der.OCTET_STRING, encrypt(algorithm, key, secret, rng))
    return der.encode(der.SEQUENCE, algorithm_der(algorithm), encrypted)
