"""Certificate requests (PKCS #10, RFC 2986) of ``keytool -certreq`` and ``openssl req``, checked and signed.

What a request says about itself is taken over where it is the requester's to say: subject, subject alternative names,
key. What it may be used for is the issuer's to say: keytool asks for no extended key usage at all, and a client
certificate without clientAuth is refused by half of the servers. The signature over the request shows that whoever
asks has the key.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from countersign.ca import assemble
from countersign.ca.issue import Purpose, draft_leaf
from countersign.ca.pem import as_utf8, blocks_in, to_pem
from countersign.ca.signer import key_identifier
from countersign.errors import UserError
from countersign.recorder import der
from countersign.recorder.certificates import ExtensionPart, cut_extensions, describe_key, read_certificate
from countersign.recorder.der import DerError
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from countersign.ca.authority import Authority
    from countersign.ca.randomness import Rng

LABELS = ("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST")

_LARGEST = 1 << 20
_DNS_NAME = re.compile(rb"[!-~]{1,253}")
_EXTENSION_REQUESTS = {"1.2.840.113549.1.9.14", "1.3.6.1.4.1.311.2.1.14"}  # RFC 2985 5.4.2, and Microsoft's own


class RequestError(UserError):
    """A certificate request that cannot be read or signed; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request whose signature is right: its subject and key as DER, the names that it asks for, and the rest of
    it.
    """

    subject: bytes
    public_key: bytes
    alternative_names: bytes | None
    others: tuple[ExtensionPart, ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """The certificate with those above it, the root last, and what of the request was not taken over."""

    chain: tuple[bytes, ...]
    notes: tuple[str, ...]

    @property
    def pem(self) -> bytes:
        """The merged file that ``keytool -importcert`` takes as the reply to its request."""
        return b"".join(map(to_pem, self.chain))


def read_request(data: bytes) -> Request:
    """The request in a PEM or DER file. Raises :class:`RequestError`."""
    if len(data) > _LARGEST:
        raise RequestError(f"cannot sign a request of {len(data)} bytes: expected at most {_LARGEST}")
    encoded = _encoded(data)
    try:
        outer = der.first_piece(encoded).expect(der.SEQUENCE, "a request")
        if encoded[len(outer.raw) :].strip():  # an editor may have left a line break behind it
            raise DerError(f"{len(encoded) - len(outer.raw)} bytes after the request")
        info, _, _ = der.exactly(3, outer.body, "a request")
        fields = der.at_most(4, info.expect(der.SEQUENCE, "a request's content").body, "a request's content")
        if len(fields) < 3:
            raise DerError(f"expected at least 3 parts in a request's content, got {len(fields)}")
        extensions = _extensions(fields[3].body) if len(fields) == 4 else []
        describe_key(fields[2].raw)
    except DerError as wrong:
        raise RequestError(f"cannot read the request: {wrong}; make it anew: keytool -certreq, openssl req") from wrong
    _check_possession(outer.raw)
    names = next((each.value for each in extensions if each.oid == assemble.SAN), None)
    others = tuple(each for each in extensions if each.oid != assemble.SAN)
    return Request(fields[1].raw, fields[2].raw, names, others)


def _encoded(data: bytes) -> bytes:
    blocks = [block for block in blocks_in(data) if block.label in LABELS]
    if len(blocks) > 1:
        raise RequestError(f"expected one certificate request in the file, got {len(blocks)}; split it")
    if blocks:
        if blocks[0].data is None:
            raise RequestError(f"the certificate request {blocks[0].problem}")
        return blocks[0].data
    data = as_utf8(data)
    if not data.startswith(b"\x30"):
        what = "a certificate, which is signed already" if b"BEGIN CERTIFICATE-" in data else "something else"
        what = "an empty file" if not data.strip() else what
        raise RequestError(
            f"expected a certificate request (PEM or DER), got {what}; make one with: "
            "keytool -certreq -alias NAME -keystore STORE -file FILE"
        )
    return data


def _extensions(attributes: bytes) -> list[ExtensionPart]:
    """The extensions that a request asks for (RFC 2985 5.4.2)."""
    found: list[ExtensionPart] = []
    for attribute in der.at_most(64, attributes, "attributes"):
        oid, values = der.exactly(2, attribute.expect(der.SEQUENCE, "an attribute").body, "an attribute")
        if der.decode_oid(oid.expect(der.OID, "an attribute").body) in _EXTENSION_REQUESTS:
            wanted = der.exactly(1, values.expect(der.SET, "an attribute's values").body, "an extension request")[0]
            found += cut_extensions(der.encode(0xA3, wanted.raw))
    return found


def _check_possession(encoded: bytes) -> None:
    try:
        proven = x509.load_der_x509_csr(encoded).is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as wrong:
        raise RequestError(
            f"cannot tell whether the request was made with its key ({wrong}); make it anew with an RSA or EC key"
        ) from wrong
    if not proven:
        raise RequestError(
            "the signature of the request is wrong: it was altered, or made with another key than the one in it; "
            "make it anew: keytool -certreq, openssl req"
        )


def sign_request(
    authority: Authority,
    request: Request,
    *,
    purpose: Purpose = "client",
    names: tuple[str, ...] = (),
    days: int = 90,
    now: datetime | None = None,
    rng: Rng = os.urandom,
) -> Reply:
    """A certificate for the request, for ``purpose``, with its own subject and names, or ``names`` in their place.

    Raises :class:`AuthorityError` when the authority has expired and :class:`UserError` for a name that it may not
    speak for.
    """
    now = now or datetime.now(UTC)
    authority.check(now)
    draft = draft_leaf(
        authority, names, signer=authority.issuer.signer, purpose=purpose, common_name="-", days=days, now=now, rng=rng
    )
    draft.subject, draft.public_key = request.subject, request.public_key
    rsa = describe_key(request.public_key).startswith("RSA ")
    usage = assemble.key_usage_value(["digitalSignature", *(["keyEncipherment"] if rsa else [])])
    draft.put(assemble.KEY_USAGE, usage, critical=True)
    draft.put(assemble.SKI, assemble.key_id_value(key_identifier(request.public_key)), critical=False)
    alternative = draft.find(assemble.SAN)
    wanted = alternative.value if alternative else request.alternative_names
    if wanted is not None:  # RFC 5280 4.2.1.6: critical where there is no other name
        draft.put(assemble.SAN, wanted, critical=not der.whole(request.subject, der.SEQUENCE, "a subject").body)
        authority.check_names(_hosts(wanted))
    made = draft.sign(authority.issuer.signer)
    root = () if authority.root.der in authority.chain else (authority.root.der,)
    return Reply((made, *authority.chain, *root), _notes(request, names, read_certificate(made).subject))


def _hosts(alternative_names: bytes) -> list[str]:
    """The host names and addresses among them, which an authority may be barred from.

    A NUL or an escape in a name reads as another name to half of the programs, and is never signed.
    """
    try:
        names = list(der.pieces(der.whole(alternative_names, der.SEQUENCE, "alternative names").body))
    except DerError as wrong:
        raise RequestError(f"cannot read the names that the request asks for: {wrong}; give them with --san") from wrong
    for each in names:
        if each.tag == 0x82 and not _DNS_NAME.fullmatch(each.body):
            name = printable(each.body.decode("ascii", "backslashreplace"), limit=100)
            raise RequestError(f"the name '{name}' that the request asks for is no host name; give others with --san")
        if each.tag == 0x87 and len(each.body) not in {4, 16}:
            raise RequestError(f"the request asks for an address of {len(each.body)} bytes; give others with --san")
    hosts = [each.body.decode("ascii") for each in names if each.tag == 0x82]
    return hosts + [str(ip_address(each.body)) for each in names if each.tag == 0x87]


def _notes(request: Request, names: tuple[str, ...], subject: str | None) -> tuple[str, ...]:
    notes: list[str] = []
    if not subject:
        notes.append("the request has no subject; most programs want one")
    if names and request.alternative_names is not None:
        notes.append("the names of the request were replaced by those given with --san")
    if others := [each.oid for each in request.others if each.oid != assemble.SKI]:
        listed = ", ".join(dict.fromkeys(_KNOWN.get(oid, oid) for oid in others))
        notes.append(f"what the request asks for besides is the issuer's to say, and was not taken over: {listed}")
    return tuple(notes)


_KNOWN = {
    "2.5.29.19": "basicConstraints", "2.5.29.15": "keyUsage", "2.5.29.37": "extendedKeyUsage",
    "2.5.29.32": "certificatePolicies",
}  # fmt: skip
