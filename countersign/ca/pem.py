"""PEM as people have it (RFC 7468 and what came before it), and certificates in files of any kind.

Files reach us through editors, mail, wikis, YAML and Windows: with a byte order mark, in UTF-16, indented, with CR
alone or ``\\n`` spelled out, text or attributes between the blocks, no newline at the end. :func:`blocks_in` takes
all of it and says of each block what it is, where it stands, and what is wrong with it if it cannot be decoded.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from countersign.recorder import der as asn1
from countersign.recorder.certificates import cut_certificate

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CERTIFICATE_LABELS = ("CERTIFICATE", "TRUSTED CERTIFICATE", "X509 CERTIFICATE")

_BEGIN = re.compile(rb"-----BEGIN ([A-Z0-9][A-Z0-9 #]{0,40})-----")
_CUT_BEGIN = re.compile(rb"-----B(?:E(?:G(?:I(?:N(?: [A-Z0-9 #]{0,40}-{0,4})?)?)?)?)?\Z")
_HEADER = re.compile(rb"[ \t]*([A-Za-z][A-Za-z0-9-]{0,30}):[ \t]*([^\r\n]{0,200})(?:\r\n|\n|\r)")
_FRIENDLY_NAME = re.compile(rb"friendlyName:[ \t]*([^\r\n]{1,2000})")
_NOT_BASE64 = re.compile(rb"\\[nr]|\xef\xbb\xbf|\xc2\xa0|\s+")


_UTF8_STRING = 0x0C


class PemError(ValueError):
    """No certificates could be read; the text is the end of a sentence."""


@dataclass(frozen=True, slots=True)
class Block:
    """One block: its label, the headers of RFC 1421, its bytes (``None`` with ``problem`` where they cannot be had).

    ``start`` and ``end`` are offsets of the file (after UTF-16 was undone); ``name`` is the last ``friendlyName:``
    before it, as openssl writes it among the bag attributes.
    """

    label: str
    start: int
    end: int
    data: bytes | None = field(default=None, repr=False)
    problem: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    name: str | None = None


def as_utf8(data: bytes) -> bytes:
    """``data``, from UTF-16 if it begins as that does."""
    if data[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        return data.decode("utf-16", "replace").encode("utf-8", "replace")
    return data


def blocks_in(data: bytes) -> Iterator[Block]:
    """Every block of ``data``, in their order, with anything around them."""
    data = as_utf8(data)
    found = list(_BEGIN.finditer(data))
    before = 0
    for number, begin in enumerate(found):
        limit = found[number + 1].start() if number + 1 < len(found) else len(data)
        label = begin[1].decode("ascii")
        end_line = b"-----END " + begin[1] + b"-----"
        stop = data.find(end_line, begin.end(), limit)
        names = _FRIENDLY_NAME.findall(data, before, begin.start())
        name = names[-1].decode("utf-8", "replace").strip() if names else None
        before = begin.end()
        problem: str | None = "has no END line: the file is cut or was pasted badly"
        if stop < 0:
            yield Block(label, begin.start(), limit, problem=problem, name=name)
            continue
        before = stop + len(end_line)
        headers, body = _split_headers(data[begin.end() : stop])
        try:
            decoded, problem = base64.b64decode(_NOT_BASE64.sub(b"", body), validate=True), None
        except binascii.Error as wrong:
            decoded, problem = None, f"is broken ({wrong}); fetch it again"
        yield Block(label, begin.start(), before, decoded, problem, headers, name)
    if cut := _CUT_BEGIN.search(data, max(before, len(data) - 64)):
        yield Block("block", cut.start(), len(data), problem="has only a part of its BEGIN line: the file is cut")


def _split_headers(body: bytes) -> tuple[dict[str, str], bytes]:
    """The headers of a block (``Proc-Type: 4,ENCRYPTED``) and what is left."""
    headers: dict[str, str] = {}
    rest = body.lstrip(b" \t\r\n")
    at = 0
    while match := _HEADER.match(rest, at):
        headers[match[1].decode("ascii")] = match[2].decode("utf-8", "replace").strip()
        at = match.end()
    return headers, rest[at:]


def certificates_in(data: bytes) -> tuple[bytes, ...]:
    """The DER of every certificate in ``data``, PEM or one DER, in their order. Raises :class:`PemError`."""
    blocks = [block for block in blocks_in(data) if block.label in CERTIFICATE_LABELS]
    if blocks:
        return tuple(_decoded(block, number, len(blocks)) for number, block in enumerate(blocks, 1))
    data = as_utf8(data)
    if data[:1] == b"\x30":
        try:
            return (_whole(data),)
        except asn1.DerError as wrong:
            raise PemError(f"expected a certificate, got DER that is none ({wrong})") from wrong
    raise PemError(f"expected a certificate (PEM or DER), got {_what(data)}")


def _decoded(block: Block, number: int, count: int) -> bytes:
    which = "the certificate" if count == 1 else f"certificate {number} of {count}"
    if block.data is None:
        raise PemError(f"{which} {block.problem}")
    try:
        return certificate_of(block.label, block.data)
    except asn1.DerError as wrong:
        raise PemError(f"{which} is broken ({wrong}); fetch it again") from wrong


def certificate_of(label: str, data: bytes) -> bytes:
    """The certificate in a block's bytes: what OpenSSL appends to a trusted one is taken off. Raises ``DerError``."""
    return _whole(asn1.first_piece(data).raw if label.startswith("TRUSTED") else data)


def check_no_trust(data: bytes) -> None:
    """Raise :class:`PemError` where a certificate comes with OpenSSL's settings of trust (its X509_CERT_AUX).

    They say for what a root is trusted, or is not. Who takes the certificate alone would trust it for everything.
    """
    for block in blocks_in(data):
        if block.data is not None and block.label.startswith("TRUSTED") and _says_trust(block.data):
            raise PemError(
                "a TRUSTED CERTIFICATE in it has settings of trust, which are OpenSSL's own and would be ignored; "
                "if it is to be trusted for everything, take them off: openssl x509 -in FILE -out BARE"
            )


def _says_trust(data: bytes) -> bool:
    """Whether there is more behind the certificate than an alias and a key identifier."""
    try:
        behind = data[len(asn1.first_piece(data).raw) :]
        settings = asn1.pieces(asn1.whole(behind, asn1.SEQUENCE, "settings of trust").body) if behind.strip() else ()
        return any(each.tag not in {_UTF8_STRING, asn1.OCTET_STRING} for each in settings)
    except asn1.DerError:
        return True


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


to_pem = asn1.to_pem
