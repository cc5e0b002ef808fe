"""Whether the server showed that it has the key of its certificate (RFC 8446 4.4.3, RFC 5246 7.4.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa

from countersign.recorder.certificates import cut_certificate
from countersign.recorder.der import DerError
from countersign.recorder.recording import LegRole
from countersign.recorder.wire.events import Content, Side
from countersign.recorder.wire.messages import CertificateVerify, HelloRetryRequest, ServerKeyExchange, Signature
from countersign.recorder.wire.names import SIGNATURE_SCHEMES

if TYPE_CHECKING:
    from countersign.recorder.recording import Recording
    from countersign.recorder.wire.reading import LegReading, ReadMessage

_HASHES: dict[str, type[hashes.HashAlgorithm]] = {
    "sha1": hashes.SHA1, "sha224": hashes.SHA224, "sha256": hashes.SHA256, "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
}  # fmt: skip
_CONTEXT = b" " * 64 + b"TLS 1.3, server CertificateVerify\0"
_MESSAGE_HASH = 254


def key_in_use(recording: Recording) -> bool | None:
    """Whether the server's signature is of the key in its certificate; ``None`` where that cannot be told."""
    leg = recording.leg(LegRole.CLIENT)
    if leg is None:
        return None
    reading = leg.read()
    chain = [each.der for each in reading.certificates if each.sender is Side.SERVER]
    made = _signed(reading)
    if not chain or made is None:
        return None
    scheme, signature, data = made
    try:
        key = serialization.load_der_public_key(cut_certificate(chain[0]).public_key)
    except (DerError, ValueError, UnsupportedAlgorithm):
        return None
    return _holds(key, SIGNATURE_SCHEMES.get(scheme, ""), signature, data)


def _signed(reading: LegReading) -> tuple[int, bytes, bytes] | None:
    """The scheme, the signature, and what was signed."""
    for read in reading.messages:
        if read.message.sender is not Side.SERVER:
            continue
        match read.value:
            case CertificateVerify() as verify:
                return verify.algorithm, verify.signature, _CONTEXT + _transcript(reading, read)
            case ServerKeyExchange(signature=Signature() as signature) as exchange:
                randoms = _randoms(reading)
                return None if randoms is None else (
                    signature.algorithm, signature.signature, randoms + exchange.params.body()
                )  # fmt: skip
    return None


def _transcript(reading: LegReading, until: ReadMessage) -> bytes:
    """The hash of all handshake messages before this one (RFC 8446 4.4.1)."""
    algorithm = hashes.SHA384() if (reading.cipher or "").endswith("SHA384") else hashes.SHA256()
    parts: list[bytes] = []
    for read in reading.messages[: until.number]:
        if read.message.content is not Content.HANDSHAKE:
            continue
        if isinstance(read.value, HelloRetryRequest):
            first = _hashed(algorithm, b"".join(parts))
            parts = [bytes((_MESSAGE_HASH, 0, 0, len(first))) + first]
        parts.append(read.message.raw)
    return _hashed(algorithm, b"".join(parts))


def _hashed(algorithm: hashes.HashAlgorithm, data: bytes) -> bytes:
    digest = hashes.Hash(algorithm)
    digest.update(data)
    return digest.finalize()


def _randoms(reading: LegReading) -> bytes | None:
    found = {read.type: getattr(read.value, "random", None) for read in reading.messages}
    client, server = found.get("client_hello"), found.get("server_hello")
    return client + server if client and server else None


def _holds(key: Any, scheme: str, signature: bytes, data: bytes) -> bool | None:
    name = next((each for each in _HASHES if scheme.endswith(each)), "")
    try:
        match key:
            case ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey():
                key.verify(signature, data)
            case ec.EllipticCurvePublicKey() if name:
                key.verify(signature, data, ec.ECDSA(_HASHES[name]()))
            case rsa.RSAPublicKey() if name and "pss" in scheme:
                size = _HASHES[name]().digest_size
                key.verify(signature, data, padding.PSS(padding.MGF1(_HASHES[name]()), size), _HASHES[name]())
            case rsa.RSAPublicKey() if name:
                key.verify(signature, data, padding.PKCS1v15(), _HASHES[name]())
            case _:
                return None
    except InvalidSignature:
        return False
    except (ValueError, UnsupportedAlgorithm):
        return None
    return True
