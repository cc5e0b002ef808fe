"""Whether the server's own signature in the handshake holds: CertificateVerify, or below TLS 1.3 ServerKeyExchange.

Everything that it was made over is on the recording, so nobody's alert has to be believed: a signature that does not
hold was made with another key than the certificate's, or over other bytes than the client got. Where something is not
there (sealed records, a message that was only told, TLS 1.1 and below) nothing is said.
"""

from __future__ import annotations

import hashlib
from itertools import takewhile
from typing import TYPE_CHECKING

from countersign.recorder.certificates import cut_certificate, scheme_holds
from countersign.recorder.der import DerError
from countersign.recorder.wire.events import Content, Side
from countersign.recorder.wire.messages import (
    CertificateVerify,
    ClientHello,
    HelloRetryRequest,
    ServerHello,
    ServerKeyExchange,
    Signature,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from countersign.findings.diagnosing.case import View
    from countersign.recorder.wire.reading import ReadMessage

_CONTEXT = b" " * 64 + b"TLS 1.3, server CertificateVerify\0"  # RFC 8446 4.4.3
_MESSAGE_HASH = 254


def signed_message(view: View) -> ReadMessage | None:
    """The message that holds the server's signature."""
    kind = "certificate_verify" if view.reading.version == "TLSv1.3" else "server_key_exchange"
    return view.message(kind, Side.SERVER)


def signature_holds(view: View) -> bool | None:
    """None where it cannot be told."""
    if view.renamed:
        return view.signature_held
    chain, signed = view.chain(Side.SERVER), signed_message(view)
    if not chain or not chain[0].der or signed is None:
        return None
    try:
        key = cut_certificate(chain[0].der).public_key
    except DerError:
        return None
    match signed.value:
        case CertificateVerify(scheme, signature):
            transcript = _transcript(view, signed)
            return None if transcript is None else scheme_holds(key, scheme, signature, _CONTEXT + transcript)
        case ServerKeyExchange(params, Signature(scheme, signature)):
            randoms = _randoms(view)
            return None if randoms is None else scheme_holds(key, scheme, signature, randoms + params.body())
    return None


def _transcript(view: View, until: ReadMessage) -> bytes | None:
    """The hash over all handshake messages before this one (RFC 8446 4.4.1)."""
    before = takewhile(lambda one: one is not until, view.reading.messages)
    said = [one for one in before if one.message.content is Content.HANDSHAKE]
    if any(len(one.message.raw) < one.message.length or not one.message.raw for one in said):
        return None
    digest = "sha384" if (view.reading.cipher or "").endswith("SHA384") else "sha256"
    return hashlib.new(digest, b"".join(_told(said, digest))).digest()


def _told(said: Sequence[ReadMessage], digest: str) -> list[bytes]:
    """Their bytes; a ClientHello that was sent back counts as its hash."""
    found = [one.message.raw for one in said]
    if len(said) > 1 and isinstance(said[1].value, HelloRetryRequest):
        first = hashlib.new(digest, found[0]).digest()
        found[0] = bytes((_MESSAGE_HASH, 0, 0, len(first))) + first
    return found


def _randoms(view: View) -> bytes | None:
    """RFC 5246 7.4.3."""
    answer = next((one.value for one in view.reading.messages if isinstance(one.value, ServerHello)), None)
    hello = next((one.value for one in view.reading.messages if isinstance(one.value, ClientHello)), None)
    return None if answer is None or hello is None else hello.random + answer.random
