"""Certificates in files as people have them: PEM with anything around it, DER, and what is neither."""

from __future__ import annotations

import base64
import binascii
import re

from countersign.recorder import der as asn1
from countersign.recorder.certificates import cut_certificate

_BLOCK = re.compile(
    rb"-----BEGIN (?P<kind>(?:TRUSTED |X509 )?CERTIFICATE)-----(?P<body>[^-]*)(?P<end>-----END (?P=kind)-----)?"
)
_LINE = 64


class PemError(ValueError):
    """No certificates could be read; the text is the end of a sentence."""


def certificates_in(data: bytes) -> tuple[bytes, ...]:
    """The DER of every certificate in ``data``, PEM or one DER, in their order. Raises :class:`PemError`."""
    if data[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        data = data.decode("utf-16", "replace").encode("utf-8", "replace")
    blocks = list(_BLOCK.finditer(data))
    if blocks:
        return tuple(_decoded(block, number, len(blocks)) for number, block in enumerate(blocks, 1))
    if data[:1] == b"\x30":
        try:
            return (_whole(data),)
        except asn1.DerError as wrong:
            raise PemError(f"expected a certificate, got DER that is none ({wrong})") from wrong
    raise PemError(f"expected a certificate (PEM or DER), got {_what(data)}")


def _decoded(block: re.Match[bytes], number: int, count: int) -> bytes:
    which = "the certificate" if count == 1 else f"certificate {number} of {count}"
    if not block["end"]:
        raise PemError(f"{which} has no END line: the file is cut or was pasted badly")
    try:
        der = base64.b64decode(b"".join(block["body"].split()), validate=True)
        if block["kind"].startswith(b"TRUSTED"):  # OpenSSL's own form: the certificate, then what it is trusted for
            der = asn1.first_piece(der).raw
        return _whole(der)
    except (binascii.Error, asn1.DerError) as wrong:
        raise PemError(f"{which} is broken ({wrong}); fetch it again") from wrong


def _whole(der: bytes) -> bytes:
    """``der`` if it has the outline of a certificate, without the line break that an editor may have left behind it."""
    piece = asn1.first_piece(der)
    if der[len(piece.raw) :].strip():
        raise asn1.DerError(f"{len(der) - len(piece.raw)} bytes after the certificate")
    cut_certificate(piece.raw)
    return piece.raw


def _what(data: bytes) -> str:
    """What a file without a certificate seems to be."""
    if not data.strip():
        return "an empty file"
    if b"-----BEGIN PKCS7-----" in data:
        return "PKCS #7; convert it: openssl pkcs7 -print_certs -in FILE"
    if b"PRIVATE KEY-----" in data:
        return "a private key and no certificate"
    if b"-----BEGIN CERTIFICATE REQUEST-----" in data or b"-----BEGIN NEW CERTIFICATE REQUEST-----" in data:
        return "a certificate request, which a CA has yet to sign"
    if data[:4] in {b"\xfe\xed\xfe\xed", b"\xce\xce\xce\xce"}:
        return "a Java key store; export it: keytool -exportcert -rfc -keystore FILE"
    return "something else"


def to_pem(der: bytes) -> bytes:
    """``der`` between BEGIN and END lines (RFC 7468)."""
    text = base64.b64encode(der)
    lines = [text[start : start + _LINE] for start in range(0, len(text), _LINE)]
    return b"\n".join((b"-----BEGIN CERTIFICATE-----", *lines, b"-----END CERTIFICATE-----", b""))
