"""What a file is, by its bytes and never by its name: the MID Server's agent_keystore has no suffix, and .p12 files
hold JKS.

Only the beginning is looked at, tag by tag, so that a file that was cut is still known for what it was, and then told
to be broken at its offset. What is no key store is named as well as can be, with what to do about it.
"""

from __future__ import annotations

import base64
import binascii
import re

from countersign.ca.pem import CERTIFICATE_LABELS, as_utf8, blocks_in
from countersign.ca.stores.errors import UnknownType
from countersign.ca.stores.jks import MAGIC
from countersign.ca.stores.model import StoreType
from countersign.recorder import der

KEY_LABELS = ("PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "DSA PRIVATE KEY",
              "OPENSSH PRIVATE KEY", "ANY PRIVATE KEY")  # fmt: skip
PKCS7_LABELS = ("PKCS7", "CMS", "PKCS #7 SIGNED DATA")

_SIGNED_DATA = der.encode_oid("1.2.840.113549.1.7.2")


def detect(data: bytes) -> StoreType:
    """The type of a key store. Raises :class:`UnknownType`, which says what the bytes look like instead."""
    if data[:4] in MAGIC:
        return MAGIC[data[:4]]
    if data[:1] == b"\x30" and (found := _encoded(data)):
        return found
    labels = {block.label for block in blocks_in(data)}
    if labels & {*CERTIFICATE_LABELS, *KEY_LABELS}:
        return StoreType.PEM
    if labels & set(PKCS7_LABELS):
        return StoreType.PKCS7
    raise UnknownType(_looks_like(data, labels))


def _encoded(data: bytes) -> StoreType | None:
    """What a SEQUENCE is, by the tags that it begins with."""
    first = _tags(data, _body(data, 0), 3)
    match [tag for tag, _ in first]:
        case [der.INTEGER, der.SEQUENCE, *_] if data[first[0][1] : first[0][1] + 3] == b"\x02\x01\x03":
            return StoreType.PKCS12
        case [der.OID, *_] if data.startswith(_SIGNED_DATA, first[0][1]):
            return StoreType.PKCS7
        case [der.INTEGER, der.SEQUENCE | der.INTEGER | der.OCTET_STRING, *_]:
            return StoreType.DER  # a key: PKCS #8, PKCS #1 or RFC 5915
        case [der.SEQUENCE, *_]:
            return _of_sequences(data, first)
    return None


def _of_sequences(data: bytes, first: list[tuple[int, int]]) -> StoreType | None:
    """A certificate, an encrypted key, or an ObjectStore: all of them begin with a SEQUENCE in a SEQUENCE."""
    start = first[0][1]
    inner = _tags(data, _body(data, start), 3)
    tags = [tag for tag, _ in inner]
    if tags[:1] == [der.SEQUENCE] and _tags(data, _body(data, inner[0][1]), 1)[:1] and len(first) < 3:
        return StoreType.BCFKS if _tags(data, _body(data, inner[0][1]), 1)[0][0] == der.OID else None
    if tags == [der.INTEGER, der.SEQUENCE, der.GENERALIZED_TIME]:
        return StoreType.BCFKS  # one that is not encrypted
    if tags[:1] == [der.OID] and [tag for tag, _ in first[1:2]] in ([], [der.OCTET_STRING]):
        return StoreType.DER  # an EncryptedPrivateKeyInfo
    if tags[:1] == [0xA0] or (tags[:2] == [der.INTEGER, der.SEQUENCE] and not _is_request(data, inner)):
        return StoreType.DER  # a certificate
    return None


def _is_request(data: bytes, inner: list[tuple[int, int]]) -> bool:
    """Whether what follows the number is a name (of sets) and not an algorithm: requests and lists begin otherwise."""
    within = _tags(data, _body(data, inner[1][1]), 1)
    return not within or within[0][0] != der.OID or len(inner) < 3 or inner[2][0] != der.SEQUENCE


def _body(data: bytes, start: int) -> int:
    """Where the value begins of what is at ``start``."""
    length = data[start + 1] if start + 1 < len(data) else 0
    return start + 2 + (length & 0x7F if length & 0x80 else 0)


def _tags(data: bytes, start: int, count: int) -> list[tuple[int, int]]:
    """The tags and offsets of the first pieces from ``start`` on, as far as they are there."""
    found: list[tuple[int, int]] = []
    while len(found) < count and start + 1 < len(data):
        found.append((data[start], start))
        body = _body(data, start)
        length = data[start + 1]
        if length == 0x80:  # indefinite: the next sibling is not looked for
            break
        start = body + (int.from_bytes(data[start + 2 : body]) if length & 0x80 else length)
    return found


# -- what is none ------------------------------------------------------------------------------------------------

_BEGINNINGS = (
    (b"\x1f\x8b", "a gzip archive; unpack it first: gunzip FILE"),
    (b"PK\x03\x04", "a ZIP archive; unpack it first"),
    (b"BZh", "a bzip2 archive; unpack it first"),
    (b"\xfd7zXZ", "an xz archive; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive; unpack it first"),
    (b"7z\xbc\xaf", "a 7z archive; unpack it first"),
    (b"SQLite format 3\0", "an SQLite database, perhaps that of NSS; export from it: pk12util -o FILE -n NAME -d DIR"),
    (b"\0\0\0\0CERT", "a Windows certificate store (.sst); export it as .pfx or .p7b"),
    (b"ssh-", "an OpenSSH public key"),
    (b"ecdsa-sha2-", "an OpenSSH public key"),
    (b"PuTTY-User-Key-File", "a PuTTY key; convert it: puttygen KEY -O private-openssh"),
    (b"---- BEGIN SSH2", "an SSH public key"),
    (b"#!", "a script"),
    (b"\x7fELF", "a program"),
    (b"%PDF", "a PDF document"),
)  # fmt: skip
_BKS = "a BKS store of Bouncy Castle; convert it: keytool -importkeystore -srcstoretype BKS -deststoretype PKCS12"
_LABELS = {
    "CERTIFICATE REQUEST": "a certificate request, which a CA has yet to sign (countersign ca sign)",
    "NEW CERTIFICATE REQUEST": "a certificate request, which a CA has yet to sign (countersign ca sign)",
    "PUBLIC KEY": "a public key", "RSA PUBLIC KEY": "a public key",
    "X509 CRL": "a list of revoked certificates",
    "PGP PUBLIC KEY BLOCK": "an OpenPGP key", "PGP PRIVATE KEY BLOCK": "an OpenPGP key",
}  # fmt: skip
_BASE64 = re.compile(rb"[A-Za-z0-9+/\s]{64,}={0,2}\s*")


def _looks_like(data: bytes, labels: set[str]) -> str:
    """The end of a sentence: what this is, and what to do."""
    text = as_utf8(data).removeprefix(b"\xef\xbb\xbf").lstrip()
    if not text:
        return "an empty file; download or export it again"
    if labels:
        label = min(labels)
        return _LABELS.get(label, f"PEM with {label.lower()} alone")
    for beginning, what in _BEGINNINGS:
        if data.startswith(beginning):
            return what
    lowered = text[:200].lower()
    if lowered.startswith((b"<!doctype html", b"<html")):
        return "an HTML page, perhaps a login or error page that was saved in its place; download it again, signed in"
    if lowered.startswith(b"<"):
        return "XML, perhaps the answer of a service; take the key store out of it"
    if lowered.startswith((b"{", b"[")):
        return "JSON, perhaps the answer of a service; take the key store out of it"
    if data[:8] in {b"\0\0\0\1\0\0\0\x14", b"\0\0\0\2\0\0\0\x14"}:
        return _BKS
    if data[:1] == b"\x30":
        return _encoded_otherwise(data)
    if _BASE64.match(text[:4096]) and (inside := _from_base64(text[:64])):
        return f"the base64 text of {inside}; decode it first: base64 -d FILE > STORE"
    if text[:200].isascii() and not re.search(rb"[^\t\n\r -~]", text[:200]):
        return "text that holds none of these"
    return f"something else (it begins with {data[:8].hex(' ')}); was it copied in binary mode?"


def _encoded_otherwise(data: bytes) -> str:
    """What a SEQUENCE may be that is no key store."""
    first = _tags(data, _body(data, 0), 3)
    inner = _tags(data, _body(data, first[0][1]), 3) if first else []
    match [tag for tag, _ in first], [tag for tag, _ in inner]:
        case [der.SEQUENCE, *_], [der.INTEGER, der.SEQUENCE, der.SEQUENCE | 0xA0, *_] if len(first) == 3:
            return "a certificate request (DER), which a CA has yet to sign (countersign ca sign)"
        case [der.SEQUENCE, *_], [der.INTEGER | der.SEQUENCE, der.SEQUENCE, *_] if len(first) == 3:
            return "a list of revoked certificates (DER)"
        case [der.SEQUENCE, der.BIT_STRING, *_], _:
            return "a public key (DER)"
        case [0x0A, *_], _:
            return "an OCSP response (DER)"
    return f"DER of another kind (it begins with {data[:8].hex(' ')})"


def _from_base64(text: bytes) -> str | None:
    compact = b"".join(text.split())
    try:
        inside = base64.b64decode(compact[: len(compact) // 4 * 4], validate=True)
    except binascii.Error:
        return None
    if inside[:4] in MAGIC:
        return f"a {MAGIC[inside[:4]].label} store"
    return "a DER structure (a certificate or a PKCS #12 store)" if inside[:1] == b"\x30" else None
