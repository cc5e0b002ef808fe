"""The messages of TLS 1.0 to 1.3, each as data: decoded from bytes, built again to the same bytes, shown as JSON.

The first error does not end the reading, as it would in a TLS library: a decoder here is a witness. It returns the best
typed form that the bytes allow together with the problems it saw, and :class:`Opaque` where there is no form at all.
No bytes whatever make it raise.

TLS cannot be decoded without context. The same four bytes may begin the Certificate of TLS 1.2 or that of 1.3, and a
ServerKeyExchange has the form that the cipher suite gives it, so a :class:`DecodeContext` says what was negotiated.
Where it says nothing (a capture that starts in the middle), the forms are tried in turn and the first that fits the
bytes to the last one is taken.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final

from countersign.recorder.certificates import read_certificate
from countersign.recorder.wire import names
from countersign.recorder.wire.events import Content, Side
from countersign.recorder.wire.extensions import (
    DistinguishedNameCodec,
    Extension,
    ExtensionBlock,
    OcspResponseCodec,
    Where,
)
from countersign.recorder.wire.reader import (
    U8,
    U16,
    U24,
    U32,
    Bytes,
    Codec,
    FieldProblem,
    Fixed,
    Many,
    Nested,
    Number,
    Numbers,
    Reader,
    Rest,
    Struct,
    Text,
    byte_count,
    layout,
    read_struct,
)
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "HELLO_RETRY_REQUEST_RANDOM",
    "MAX_DECOMPRESSED",
    "Alert",
    "Certificate",
    "Certificate13",
    "CertificateEntry",
    "CertificateRequest10",
    "CertificateRequest12",
    "CertificateRequest13",
    "CertificateStatus",
    "CertificateStatusMulti",
    "CertificateUrl",
    "CertificateVerify",
    "CertificateVerify10",
    "ChangeCipherSpec",
    "ClientCertificateRequest",
    "ClientHello",
    "ClientKeyExchangeDh",
    "ClientKeyExchangeDhePsk",
    "ClientKeyExchangeEcdh",
    "ClientKeyExchangeEcdhePsk",
    "ClientKeyExchangeImplicit",
    "ClientKeyExchangeKerberos",
    "ClientKeyExchangeOther",
    "ClientKeyExchangePsk",
    "ClientKeyExchangeRsa",
    "ClientKeyExchangeRsaPsk",
    "ClientKeyExchangeSrp",
    "CompressedCertificate",
    "DecodeContext",
    "Decoded",
    "DhParams",
    "DhePskParams",
    "EcParams",
    "EcdhParams",
    "EcdhePskParams",
    "EktKey",
    "EncryptedExtensions",
    "EndOfEarlyData",
    "ExplicitPrimeParams",
    "FieldProblem",
    "Finished",
    "HandshakeMessage",
    "HeartbeatMessage",
    "HelloRequest",
    "HelloRetryRequest",
    "KeyUpdate",
    "MessageHash",
    "NewSessionTicket",
    "NewSessionTicket13",
    "NextProtocol",
    "Opaque",
    "PskHintParams",
    "RsaParams",
    "ServerHello",
    "ServerHelloDone",
    "ServerKeyExchange",
    "Signature",
    "Signature10",
    "SrpParams",
    "Sslv2ClientHello",
    "SupplementalData",
    "SupplementalDataEntry",
    "TypedMessage",
    "UrlAndHash",
    "decode",
    "decode_alert",
    "decode_change_cipher_spec",
    "decode_heartbeat",
    "decode_message",
    "glance",
    "looks_like_sslv2_hello",
    "message_type",
]

HELLO_RETRY_REQUEST_RANDOM: Final = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
"""SHA-256 of ``HelloRetryRequest``: the random that makes a ServerHello one (RFC 8446 4.1.3)."""

MAX_DECOMPRESSED: Final = 1 << 20
"""A certificate message that declares to be longer than this is not decompressed."""


@dataclass(frozen=True, slots=True)
class DecodeContext:
    """What must be known to choose the form of a message; None is "not known"."""

    version: int | None = None
    """The negotiated version, 0x0303 or 0x0304; None before the ServerHello."""
    cipher_suite: int | None = None
    sender: Side | None = None


@dataclass(frozen=True, slots=True)
class Opaque:
    """A message without a typed form, by its bytes. ``code`` is -1 when not even that could be read."""

    code: int
    raw: bytes

    @property
    def type(self) -> str:
        return names.handshake_type_name(self.code) if self.code >= 0 else "unreadable"

    def build(self) -> bytes:
        return self.raw

    def fields(self) -> dict[str, Any]:
        return {"data": self.raw[4:].hex()}


class HandshakeMessage(Struct):
    """Base of the typed handshake messages."""

    __slots__ = ()
    code: ClassVar[int]
    type: ClassVar[str]

    def build(self) -> bytes:
        """The whole message, with its header (RFC 8446 4)."""
        body = self.body()
        return self.code.to_bytes(1, "big") + len(body).to_bytes(3, "big") + body


# --------------------------------------------------------------------------------------------------------- hellos


# RFC 5246 7.4.1.1
@dataclass(frozen=True, slots=True)
class HelloRequest(HandshakeMessage):
    code: ClassVar[int] = 0
    type: ClassVar[str] = "hello_request"


# RFC 8446 4.1.2, RFC 5246 7.4.1.2
@dataclass(frozen=True, slots=True)
class ClientHello(HandshakeMessage):
    code: ClassVar[int] = 1
    type: ClassVar[str] = "client_hello"
    legacy_version: Annotated[int, Number(2, names.version_name)]
    random: Annotated[bytes, Fixed(32)]
    session_id: Annotated[bytes, Bytes(1, maximum=32)]
    cipher_suites: Annotated[tuple[int, ...], Numbers(2, 2, names.cipher_suite_name, minimum=2)]
    compression_methods: Annotated[tuple[int, ...], Numbers(1, 1, names.COMPRESSION_METHODS, minimum=1)]
    extensions: Annotated[tuple[Extension, ...] | None, ExtensionBlock(Where.CLIENT_HELLO, optional=True)] = None


# RFC 5246 E.2
@dataclass(frozen=True, slots=True)
class Sslv2ClientHello(Struct):
    """A ClientHello in the form of SSL 2.0. ``header`` is its two bytes of record header where they were kept."""

    code: ClassVar[int] = 1
    type: ClassVar[str] = "client_hello"
    msg_type: Annotated[int, U8]
    version: Annotated[int, Number(2, names.version_name)]
    cipher_specs: tuple[int, ...]
    session_id: bytes
    challenge: bytes
    header: bytes = b""

    @property
    def cipher_suites(self) -> tuple[int, ...]:
        """Those of the cipher specs that are TLS suites."""
        return tuple([spec for spec in self.cipher_specs if spec < 0x10000])

    @property
    def random(self) -> bytes:
        """The challenge as a client random, right-justified (RFC 5246 E.2)."""
        return self.challenge[-32:].rjust(32, b"\0")

    def build(self) -> bytes:
        specs = b"".join(spec.to_bytes(3, "big") for spec in self.cipher_specs)
        lengths = b"".join(len(part).to_bytes(2, "big") for part in (specs, self.session_id, self.challenge))
        head = bytes([self.msg_type]) + self.version.to_bytes(2, "big")
        return self.header + head + lengths + specs + self.session_id + self.challenge

    def fields(self) -> dict[str, Any]:
        return {
            "form": "sslv2",
            "legacy_version": names.version_name(self.version),
            "cipher_suites": [names.ssl2_cipher_name(spec) for spec in self.cipher_specs],
            "session_id": self.session_id.hex(),
            "challenge": self.challenge.hex(),
        }


class _ServerHelloBase(HandshakeMessage):
    __slots__ = ()
    code: ClassVar[int] = 2


# RFC 8446 4.1.3, RFC 5246 7.4.1.3
@dataclass(frozen=True, slots=True)
class ServerHello(_ServerHelloBase):
    type: ClassVar[str] = "server_hello"
    legacy_version: Annotated[int, Number(2, names.version_name)]
    random: Annotated[bytes, Fixed(32)]
    session_id: Annotated[bytes, Bytes(1, maximum=32)]
    cipher_suite: Annotated[int, Number(2, names.cipher_suite_name)]
    compression_method: Annotated[int, Number(1, names.COMPRESSION_METHODS)]
    extensions: Annotated[tuple[Extension, ...] | None, ExtensionBlock(Where.SERVER_HELLO, optional=True)] = None

    @property
    def downgraded_from_tls13(self) -> bool:
        """Does the random say that the server could have spoken a newer version (RFC 8446 4.1.3)?"""
        return self.random[24:31] == b"DOWNGRD" and self.random[31] < 2

    def fields(self) -> dict[str, Any]:
        shown = Struct.fields(self)
        if self.downgraded_from_tls13:
            shown["downgrade"] = "TLSv1.3 to TLSv1.2" if self.random[31] else "to TLSv1.1 or below"
        return shown


# RFC 8446 4.1.4
@dataclass(frozen=True, slots=True)
class HelloRetryRequest(_ServerHelloBase):
    type: ClassVar[str] = "hello_retry_request"
    legacy_version: Annotated[int, Number(2, names.version_name)]
    random: Annotated[bytes, Fixed(32)]
    session_id: Annotated[bytes, Bytes(1, maximum=32)]
    cipher_suite: Annotated[int, Number(2, names.cipher_suite_name)]
    compression_method: Annotated[int, Number(1, names.COMPRESSION_METHODS)]
    extensions: Annotated[tuple[Extension, ...] | None, ExtensionBlock(Where.HELLO_RETRY_REQUEST, optional=True)] = None


# RFC 8446 4.3.1
@dataclass(frozen=True, slots=True)
class EncryptedExtensions(HandshakeMessage):
    code: ClassVar[int] = 8
    type: ClassVar[str] = "encrypted_extensions"
    extensions: Annotated[tuple[Extension, ...], ExtensionBlock(Where.ENCRYPTED_EXTENSIONS)]


# --------------------------------------------------------------------------------------------------- certificates


class CertificateCodec(Bytes):
    """One DER certificate, shown by what names it; its bytes are in the recording's list of certificates."""

    __slots__ = ()

    def show(self, value: bytes) -> dict[str, Any]:
        facts = read_certificate(value)
        shown: dict[str, Any] = {
            "length": len(value),
            "sha256": facts.sha256,
            "subject": facts.subject,
            "issuer": facts.issuer,
        }
        if facts.bare_key:
            shown["public_key"] = facts.key
        elif facts.subject is None or facts.issuer is None:
            shown["error"] = "; ".join(facts.problems[:2])
        return shown


# RFC 5246 7.4.2
@dataclass(frozen=True, slots=True)
class Certificate(HandshakeMessage):
    """The form up to TLS 1.2: the chain and nothing else."""

    code: ClassVar[int] = 11
    type: ClassVar[str] = "certificate"
    certificates: Annotated[tuple[bytes, ...], Many(3, CertificateCodec(3, minimum=1))]


@dataclass(frozen=True, slots=True)
class CertificateEntry(Struct):
    certificate: Annotated[bytes, CertificateCodec(3, minimum=1)]
    extensions: Annotated[tuple[Extension, ...], ExtensionBlock(Where.CERTIFICATE)] = ()


# RFC 8446 4.4.2
@dataclass(frozen=True, slots=True)
class Certificate13(HandshakeMessage):
    """The form of TLS 1.3: each certificate with extensions of its own."""

    code: ClassVar[int] = 11
    type: ClassVar[str] = "certificate"
    context: Annotated[bytes, Bytes(1)]
    entries: Annotated[tuple[CertificateEntry, ...], Many(3, Nested(CertificateEntry))]

    @property
    def certificates(self) -> tuple[bytes, ...]:
        return tuple(entry.certificate for entry in self.entries)


# RFC 8879 4
@dataclass(frozen=True, slots=True)
class CompressedCertificate(HandshakeMessage):
    """A Certificate message in compressed form; ``certificate`` is what came out of it, None if nothing did."""

    code: ClassVar[int] = 25
    type: ClassVar[str] = "compressed_certificate"
    algorithm: Annotated[int, Number(2, names.CERTIFICATE_COMPRESSION)]
    uncompressed_length: Annotated[int, U24]
    compressed: Annotated[bytes, Bytes(3, minimum=1)]
    certificate: Certificate13 | None = None

    @property
    def certificates(self) -> tuple[bytes, ...]:
        return () if self.certificate is None else self.certificate.certificates

    def fields(self) -> dict[str, Any]:
        shown = Struct.fields(self)
        shown["compressed"] = byte_count(len(self.compressed))
        shown["certificate"] = None if self.certificate is None else self.certificate.fields()
        return shown


# RFC 6066 8
@dataclass(frozen=True, slots=True)
class CertificateStatus(HandshakeMessage):
    code: ClassVar[int] = 22
    type: ClassVar[str] = "certificate_status"
    status_type: Annotated[int, Number(1, names.CERTIFICATE_STATUS_TYPES)]
    response: Annotated[bytes, OcspResponseCodec(3, minimum=1)]


# RFC 6961 2.2
@dataclass(frozen=True, slots=True)
class CertificateStatusMulti(HandshakeMessage):
    code: ClassVar[int] = 22
    type: ClassVar[str] = "certificate_status"
    status_type: Annotated[int, Number(1, names.CERTIFICATE_STATUS_TYPES)]
    responses: Annotated[tuple[bytes, ...], Many(3, OcspResponseCodec(3), minimum=1)]


@dataclass(frozen=True, slots=True)
class UrlAndHash(Struct):
    url: Annotated[bytes, Text(2, minimum=1)]
    padding: Annotated[int, U8]
    sha1_hash: Annotated[bytes, Fixed(20)]


# RFC 6066 5
@dataclass(frozen=True, slots=True)
class CertificateUrl(HandshakeMessage):
    code: ClassVar[int] = 21
    type: ClassVar[str] = "certificate_url"
    chain_type: Annotated[int, Number(1, names.CERTIFICATE_CHAIN_TYPES)]
    url_and_hash_list: Annotated[tuple[UrlAndHash, ...], Many(2, Nested(UrlAndHash), minimum=1)]


# -------------------------------------------------------------------------------------------- certificate requests


# RFC 4346 7.4.4
@dataclass(frozen=True, slots=True)
class CertificateRequest10(HandshakeMessage):
    """The form of TLS 1.0 and 1.1."""

    code: ClassVar[int] = 13
    type: ClassVar[str] = "certificate_request"
    certificate_types: Annotated[tuple[int, ...], Numbers(1, 1, names.CLIENT_CERTIFICATE_TYPES, minimum=1)]
    certificate_authorities: Annotated[tuple[bytes, ...], Many(2, DistinguishedNameCodec(2, minimum=1))]


# RFC 5246 7.4.4
@dataclass(frozen=True, slots=True)
class CertificateRequest12(HandshakeMessage):
    """The form of TLS 1.2."""

    code: ClassVar[int] = 13
    type: ClassVar[str] = "certificate_request"
    certificate_types: Annotated[tuple[int, ...], Numbers(1, 1, names.CLIENT_CERTIFICATE_TYPES, minimum=1)]
    signature_algorithms: Annotated[tuple[int, ...], Numbers(2, 2, names.SIGNATURE_SCHEMES, minimum=2)]
    certificate_authorities: Annotated[tuple[bytes, ...], Many(2, DistinguishedNameCodec(2, minimum=1))]


# RFC 8446 4.3.2
@dataclass(frozen=True, slots=True)
class CertificateRequest13(HandshakeMessage):
    """The form of TLS 1.3."""

    code: ClassVar[int] = 13
    type: ClassVar[str] = "certificate_request"
    context: Annotated[bytes, Bytes(1)]
    extensions: Annotated[tuple[Extension, ...], ExtensionBlock(Where.CERTIFICATE_REQUEST, minimum=2)]


# RFC 9261 4
@dataclass(frozen=True, slots=True)
class ClientCertificateRequest(HandshakeMessage):
    code: ClassVar[int] = 17
    type: ClassVar[str] = "client_certificate_request"
    context: Annotated[bytes, Bytes(1)]
    extensions: Annotated[tuple[Extension, ...], ExtensionBlock(Where.CERTIFICATE_REQUEST, minimum=2)]


# ---------------------------------------------------------------------------------------------- key exchange <= 1.2


@dataclass(frozen=True, slots=True)
class EcdhParams(Struct):
    """RFC 8422 5.4: a named curve and the server's point on it."""

    curve_type: Annotated[int, Number(1, names.EC_CURVE_TYPES)]
    named_curve: Annotated[int, Number(2, names.GROUPS)]
    public: Annotated[bytes, Bytes(1, minimum=1)]


@dataclass(frozen=True, slots=True)
class ExplicitPrimeParams(Struct):
    """RFC 4492 5.4: a curve over a prime field, written out (deprecated by RFC 8422)."""

    curve_type: Annotated[int, Number(1, names.EC_CURVE_TYPES)]
    prime: Annotated[bytes, Bytes(1, minimum=1)]
    a: Annotated[bytes, Bytes(1, minimum=1)]
    b: Annotated[bytes, Bytes(1, minimum=1)]
    base: Annotated[bytes, Bytes(1, minimum=1)]
    order: Annotated[bytes, Bytes(1, minimum=1)]
    cofactor: Annotated[bytes, Bytes(1, minimum=1)]
    public: Annotated[bytes, Bytes(1, minimum=1)]


@dataclass(frozen=True, slots=True)
class OtherParams(Struct):
    """Parameters without a form here, by their bytes."""

    data: Annotated[bytes, Rest()]


@dataclass(frozen=True, slots=True)
class DhParams(Struct):
    """RFC 5246 7.4.3."""

    dh_p: Annotated[bytes, Bytes(2, minimum=1)]
    dh_g: Annotated[bytes, Bytes(2, minimum=1)]
    dh_ys: Annotated[bytes, Bytes(2, minimum=1)]

    @property
    def bits(self) -> int:
        return int.from_bytes(self.dh_p, "big").bit_length()


@dataclass(frozen=True, slots=True)
class RsaParams(Struct):
    """RFC 2246 7.4.3: the short key of an export suite."""

    rsa_modulus: Annotated[bytes, Bytes(2, minimum=1)]
    rsa_exponent: Annotated[bytes, Bytes(2, minimum=1)]


@dataclass(frozen=True, slots=True)
class PskHintParams(Struct):
    """RFC 4279 2."""

    psk_identity_hint: Annotated[bytes, Text(2)]


@dataclass(frozen=True, slots=True)
class DhePskParams(Struct):
    """RFC 4279 3."""

    psk_identity_hint: Annotated[bytes, Text(2)]
    dh: Annotated[DhParams, Nested(DhParams)]


@dataclass(frozen=True, slots=True)
class EcdhePskParams(Struct):
    """RFC 5489 2."""

    psk_identity_hint: Annotated[bytes, Text(2)]
    ecdh: Annotated[EcdhParams, Nested(EcdhParams)]


@dataclass(frozen=True, slots=True)
class SrpParams(Struct):
    """RFC 5054 2.8.2."""

    srp_n: Annotated[bytes, Bytes(2, minimum=1)]
    srp_g: Annotated[bytes, Bytes(2, minimum=1)]
    srp_s: Annotated[bytes, Bytes(1, minimum=1)]
    srp_b: Annotated[bytes, Bytes(2, minimum=1)]


EcParams = EcdhParams | ExplicitPrimeParams | OtherParams


@dataclass(frozen=True, slots=True)
class Signature(Struct):
    """RFC 5246 4.7: TLS 1.2 says which algorithm."""

    algorithm: Annotated[int, Number(2, names.SIGNATURE_SCHEMES)]
    signature: Annotated[bytes, Bytes(2)]


@dataclass(frozen=True, slots=True)
class Signature10(Struct):
    """RFC 4346 4.7: before, the suite said it."""

    signature: Annotated[bytes, Bytes(2)]


# RFC 5246 7.4.3
@dataclass(frozen=True, slots=True)
class ServerKeyExchange(HandshakeMessage):
    """Parameters in the form that the suite gives them, and a signature where the suite has one."""

    code: ClassVar[int] = 12
    type: ClassVar[str] = "server_key_exchange"
    params: Struct
    signature: Signature | Signature10 | None = None

    def body(self) -> bytes:
        return self.params.body() + (b"" if self.signature is None else self.signature.body())

    def fields(self) -> dict[str, Any]:
        shown = self.params.fields()
        if isinstance(self.params, DhParams):
            shown["dh_bits"] = self.params.bits
        elif isinstance(self.params, DhePskParams):
            shown["dh_bits"] = self.params.dh.bits
        if self.signature is not None:
            shown |= self.signature.fields()
        return shown


# RFC 5246 7.4.5
@dataclass(frozen=True, slots=True)
class ServerHelloDone(HandshakeMessage):
    code: ClassVar[int] = 14
    type: ClassVar[str] = "server_hello_done"


class _ClientKeyExchange(HandshakeMessage):
    __slots__ = ()
    code: ClassVar[int] = 16
    type: ClassVar[str] = "client_key_exchange"


# RFC 5246 7.4.7.1
@dataclass(frozen=True, slots=True)
class ClientKeyExchangeRsa(_ClientKeyExchange):
    encrypted_pre_master_secret: Annotated[bytes, Bytes(2, minimum=1)]


# RFC 5246 7.4.7.2
@dataclass(frozen=True, slots=True)
class ClientKeyExchangeDh(_ClientKeyExchange):
    dh_yc: Annotated[bytes, Bytes(2, minimum=1)]


# RFC 8422 5.7
@dataclass(frozen=True, slots=True)
class ClientKeyExchangeEcdh(_ClientKeyExchange):
    ecdh_yc: Annotated[bytes, Bytes(1, minimum=1)]


# RFC 5246 7.4.7.2, RFC 8422 5.7: the public value was in the client's certificate
@dataclass(frozen=True, slots=True)
class ClientKeyExchangeImplicit(_ClientKeyExchange):
    pass


# RFC 4279 2
@dataclass(frozen=True, slots=True)
class ClientKeyExchangePsk(_ClientKeyExchange):
    psk_identity: Annotated[bytes, Text(2)]


# RFC 4279 3
@dataclass(frozen=True, slots=True)
class ClientKeyExchangeDhePsk(_ClientKeyExchange):
    psk_identity: Annotated[bytes, Text(2)]
    dh_yc: Annotated[bytes, Bytes(2, minimum=1)]


# RFC 5489 2
@dataclass(frozen=True, slots=True)
class ClientKeyExchangeEcdhePsk(_ClientKeyExchange):
    psk_identity: Annotated[bytes, Text(2)]
    ecdh_yc: Annotated[bytes, Bytes(1, minimum=1)]


# RFC 4279 4
@dataclass(frozen=True, slots=True)
class ClientKeyExchangeRsaPsk(_ClientKeyExchange):
    psk_identity: Annotated[bytes, Text(2)]
    encrypted_pre_master_secret: Annotated[bytes, Bytes(2, minimum=1)]


# RFC 5054 2.8.3
@dataclass(frozen=True, slots=True)
class ClientKeyExchangeSrp(_ClientKeyExchange):
    srp_a: Annotated[bytes, Bytes(2, minimum=1)]


# RFC 2712 3
@dataclass(frozen=True, slots=True)
class ClientKeyExchangeKerberos(_ClientKeyExchange):
    ticket: Annotated[bytes, Bytes(2)]
    authenticator: Annotated[bytes, Bytes(2)]
    encrypted_pre_master_secret: Annotated[bytes, Bytes(2)]


# SSL 3.0 (RFC 6101 5.6.7.1: no length), GOST (RFC 9189: DER), and what no suite explains
@dataclass(frozen=True, slots=True)
class ClientKeyExchangeOther(_ClientKeyExchange):
    exchange_keys: Annotated[bytes, Rest()]


# RFC 8446 4.4.3, RFC 5246 7.4.8
@dataclass(frozen=True, slots=True)
class CertificateVerify(HandshakeMessage):
    """The form of TLS 1.2 and 1.3."""

    code: ClassVar[int] = 15
    type: ClassVar[str] = "certificate_verify"
    algorithm: Annotated[int, Number(2, names.SIGNATURE_SCHEMES)]
    signature: Annotated[bytes, Bytes(2, minimum=1)]


# RFC 4346 7.4.8
@dataclass(frozen=True, slots=True)
class CertificateVerify10(HandshakeMessage):
    """The form of TLS 1.0 and 1.1."""

    code: ClassVar[int] = 15
    type: ClassVar[str] = "certificate_verify"
    signature: Annotated[bytes, Bytes(2, minimum=1)]


# ------------------------------------------------------------------------------------------------- finished, after


# RFC 8446 4.4.4, RFC 5246 7.4.9
@dataclass(frozen=True, slots=True)
class Finished(HandshakeMessage):
    code: ClassVar[int] = 20
    type: ClassVar[str] = "finished"
    verify_data: Annotated[bytes, Rest()]


# RFC 5077 3.3
@dataclass(frozen=True, slots=True)
class NewSessionTicket(HandshakeMessage):
    """The form up to TLS 1.2."""

    code: ClassVar[int] = 4
    type: ClassVar[str] = "new_session_ticket"
    ticket_lifetime_hint: Annotated[int, U32]
    ticket: Annotated[bytes, Bytes(2)]


# RFC 8446 4.6.1
@dataclass(frozen=True, slots=True)
class NewSessionTicket13(HandshakeMessage):
    """The form of TLS 1.3."""

    code: ClassVar[int] = 4
    type: ClassVar[str] = "new_session_ticket"
    ticket_lifetime: Annotated[int, U32]
    ticket_age_add: Annotated[int, U32]
    ticket_nonce: Annotated[bytes, Bytes(1)]
    ticket: Annotated[bytes, Bytes(2, minimum=1)]
    extensions: Annotated[tuple[Extension, ...], ExtensionBlock(Where.NEW_SESSION_TICKET)] = ()


# RFC 8446 4.5
@dataclass(frozen=True, slots=True)
class EndOfEarlyData(HandshakeMessage):
    code: ClassVar[int] = 5
    type: ClassVar[str] = "end_of_early_data"


# RFC 8446 4.6.3
@dataclass(frozen=True, slots=True)
class KeyUpdate(HandshakeMessage):
    code: ClassVar[int] = 24
    type: ClassVar[str] = "key_update"
    request_update: Annotated[int, Number(1, names.KEY_UPDATE_REQUESTS)]


# draft-agl-tls-nextprotoneg-04 3
@dataclass(frozen=True, slots=True)
class NextProtocol(HandshakeMessage):
    code: ClassVar[int] = 67
    type: ClassVar[str] = "next_protocol"
    selected_protocol: Annotated[bytes, Text(1)]
    padding: Annotated[bytes, Bytes(1)]


@dataclass(frozen=True, slots=True)
class SupplementalDataEntry(Struct):
    supp_data_type: Annotated[int, U16]
    data: Annotated[bytes, Bytes(2)]


# RFC 4680 2
@dataclass(frozen=True, slots=True)
class SupplementalData(HandshakeMessage):
    code: ClassVar[int] = 23
    type: ClassVar[str] = "supplemental_data"
    entries: Annotated[tuple[SupplementalDataEntry, ...], Many(3, Nested(SupplementalDataEntry), minimum=1)]


# RFC 8870 5.2.2
@dataclass(frozen=True, slots=True)
class EktKey(HandshakeMessage):
    code: ClassVar[int] = 26
    type: ClassVar[str] = "ekt_key"
    ekt_key_value: Annotated[bytes, Bytes(2, minimum=1, maximum=256)]
    srtp_master_salt: Annotated[bytes, Bytes(2, minimum=1, maximum=256)]
    ekt_spi: Annotated[int, U16]
    ekt_ttl: Annotated[int, U24]


# RFC 8446 4.4.1: never on the wire, only in transcripts
@dataclass(frozen=True, slots=True)
class MessageHash(HandshakeMessage):
    code: ClassVar[int] = 254
    type: ClassVar[str] = "message_hash"
    hash: Annotated[bytes, Rest()]


# ------------------------------------------------------------------------------------------ other than handshake


# RFC 8446 6
@dataclass(frozen=True, slots=True)
class Alert(Struct):
    type: ClassVar[str] = "alert"
    level: Annotated[int, Number(1, names.ALERT_LEVELS)]
    description: Annotated[int, Number(1, names.ALERTS)]

    def build(self) -> bytes:
        return self.body()


# RFC 5246 7.1
@dataclass(frozen=True, slots=True)
class ChangeCipherSpec(Struct):
    type: ClassVar[str] = "change_cipher_spec"
    value: Annotated[int, U8]

    def build(self) -> bytes:
        return self.body()


# RFC 6520 4
@dataclass(frozen=True, slots=True)
class HeartbeatMessage(Struct):
    """A payload length that reaches over the end is the attack of 2014 (CVE-2014-0160); it is a problem here."""

    type: ClassVar[str] = "heartbeat"
    heartbeat_type: Annotated[int, Number(1, names.HEARTBEAT_TYPES)]
    payload: Annotated[bytes, Bytes(2)]
    padding: Annotated[bytes, Rest()]

    def build(self) -> bytes:
        return self.body()


TypedMessage = HandshakeMessage | Sslv2ClientHello | Alert | ChangeCipherSpec | HeartbeatMessage


@dataclass(frozen=True, slots=True)
class Decoded:
    """The best reading of a message, and what was wrong with it. ``value.build()`` is ``raw`` if nothing was."""

    value: TypedMessage | Opaque
    problems: tuple[FieldProblem, ...]

    @property
    def unreached(self) -> tuple[str, ...]:
        """The message's own fields that its bytes end before. In ``value`` they are empty, which is no reading."""
        for problem in self.problems:
            if problem.unreached and problem.field == f"{self.value.type}.{problem.unreached[0]}":
                return problem.unreached
        return ()


# -------------------------------------------------------------------------------------------------------- decoding

_NO_CONTEXT: Final = DecodeContext()

# One form in all versions.
_SIMPLE: Final[dict[int, type[HandshakeMessage]]] = {
    0: HelloRequest,
    1: ClientHello,
    5: EndOfEarlyData,
    8: EncryptedExtensions,
    14: ServerHelloDone,
    17: ClientCertificateRequest,
    20: Finished,
    21: CertificateUrl,
    23: SupplementalData,
    24: KeyUpdate,
    25: CompressedCertificate,
    26: EktKey,
    67: NextProtocol,
    254: MessageHash,
}

# What comes in a ServerKeyExchange, and whether it is signed.
_SERVER_KEY_EXCHANGES: Final[dict[str, tuple[type[Struct], bool]]] = {
    "ECDHE_RSA": (EcdhParams, True),  # RFC 8422 5.4
    "ECDHE_ECDSA": (EcdhParams, True),
    "ECDH_anon": (EcdhParams, False),
    "DHE_RSA": (DhParams, True),  # RFC 5246 7.4.3
    "DHE_DSS": (DhParams, True),
    "DH_anon": (DhParams, False),
    "RSA": (RsaParams, True),  # RFC 2246 7.4.3: export only
    "PSK": (PskHintParams, False),  # RFC 4279
    "RSA_PSK": (PskHintParams, False),
    "DHE_PSK": (DhePskParams, False),
    "ECDHE_PSK": (EcdhePskParams, False),  # RFC 5489
    "SRP_SHA": (SrpParams, False),  # RFC 5054 2.8.2
    "SRP_SHA_RSA": (SrpParams, True),
    "SRP_SHA_DSS": (SrpParams, True),
}
_GUESSED_SERVER_KEY_EXCHANGES: Final[tuple[tuple[type[Struct], bool], ...]] = tuple(
    _SERVER_KEY_EXCHANGES[name]
    for name in ("ECDHE_RSA", "DHE_RSA", "ECDH_anon", "DH_anon", "ECDHE_PSK", "DHE_PSK", "PSK")
)

_CLIENT_KEY_EXCHANGES: Final[dict[str, type[_ClientKeyExchange]]] = {
    "RSA": ClientKeyExchangeRsa,
    "RSA_FIPS": ClientKeyExchangeRsa,
    "DHE_RSA": ClientKeyExchangeDh,
    "DHE_DSS": ClientKeyExchangeDh,
    "DH_RSA": ClientKeyExchangeDh,
    "DH_DSS": ClientKeyExchangeDh,
    "DH_anon": ClientKeyExchangeDh,
    "ECDHE_RSA": ClientKeyExchangeEcdh,
    "ECDHE_ECDSA": ClientKeyExchangeEcdh,
    "ECDH_RSA": ClientKeyExchangeEcdh,
    "ECDH_ECDSA": ClientKeyExchangeEcdh,
    "ECDH_anon": ClientKeyExchangeEcdh,
    "PSK": ClientKeyExchangePsk,
    "DHE_PSK": ClientKeyExchangeDhePsk,
    "ECDHE_PSK": ClientKeyExchangeEcdhePsk,
    "RSA_PSK": ClientKeyExchangeRsaPsk,
    "SRP_SHA": ClientKeyExchangeSrp,
    "SRP_SHA_RSA": ClientKeyExchangeSrp,
    "SRP_SHA_DSS": ClientKeyExchangeSrp,
    "KRB5": ClientKeyExchangeKerberos,
}


def decode(content: Content, raw: bytes, context: DecodeContext = _NO_CONTEXT) -> Decoded:
    """Decode a message of any content type. Never raises."""
    if content is Content.HANDSHAKE:
        return decode_message(raw, context)
    return _decode_small(content, raw) if len(raw) <= _SMALL else _decode_other(content, raw)


def decode_message(raw: bytes, context: DecodeContext = _NO_CONTEXT, *, only: frozenset[int] | None = None) -> Decoded:
    """Decode a handshake message with its header (RFC 8446 4). Never raises, whatever the bytes are.

    A message that is shorter than its header says is read as far as it goes; what follows a whole one is a problem.
    ``only`` leaves all but these extensions of a hello untyped, for those who have no time.
    """
    raw = bytes(raw)
    if looks_like_sslv2_hello(raw):
        return _decode_sslv2_hello(raw)
    problems: list[FieldProblem] = []
    if len(raw) < 4:
        problems.append(FieldProblem("handshake", 0, "a header of 4 bytes", byte_count(len(raw))))
        return Decoded(Opaque(raw[0] if raw else -1, raw), tuple(problems))
    code, declared = raw[0], int.from_bytes(raw[1:4], "big")
    if declared > len(raw) - 4:
        problems.append(
            FieldProblem("handshake.length", 1, f"{byte_count(declared)} as declared", byte_count(len(raw) - 4))
        )
    reader = Reader(raw, problems, name=message_type(Content.HANDSHAKE, code, raw), pos=4)
    reader.end = min(len(raw), 4 + declared)
    value = _read_message(code, reader, context) if only is None else _read_hello(code, reader, context, only)
    if reader.pos != reader.end:
        reader.finish()
    if len(raw) > 4 + declared:
        reader.problem("", "nothing more", f"{byte_count(len(raw) - 4 - declared)} left over", offset=4 + declared)
    return Decoded(value, tuple(problems))


_SMALL: Final = 2


@lru_cache(maxsize=256)
def _decode_small(content: Content, raw: bytes) -> Decoded:
    """Alerts and change-cipher-specs, of which there are few different ones."""
    return _decode_other(content, raw)


def _decode_other(content: Content, raw: bytes) -> Decoded:
    if content is Content.ALERT:
        return decode_alert(raw)
    if content is Content.CHANGE_CIPHER_SPEC:
        return decode_change_cipher_spec(raw)
    return decode_heartbeat(raw)


_GLANCED: Final = frozenset({0, 10, 13, 16, 22, 27, 35, 41, 42, 43, 51})
_SMALL_HELLO: Final = 2048


def glance(raw: bytes) -> Decoded:
    """:func:`decode_message` of a hello with only the extensions typed that framing, keys and decisions depend on.

    Several ask for the same hello one after the other, so the last ones are kept.
    """
    return _glance_again(raw) if len(raw) <= _SMALL_HELLO else decode_message(raw, only=_GLANCED)


@lru_cache(maxsize=32)
def _glance_again(raw: bytes) -> Decoded:
    return decode_message(raw, only=_GLANCED)


def decode_alert(raw: bytes) -> Decoded:
    """Decode an alert: level and description (RFC 8446 6). Never raises."""
    return _decode_plain(Alert, bytes(raw))


def decode_change_cipher_spec(raw: bytes) -> Decoded:
    """Decode a change_cipher_spec, the single byte 1 (RFC 5246 7.1). Never raises."""
    decoded = _decode_plain(ChangeCipherSpec, bytes(raw))
    if isinstance(decoded.value, ChangeCipherSpec) and not decoded.problems and decoded.value.value != 1:
        problem = FieldProblem("change_cipher_spec.value", 0, "1", str(decoded.value.value))
        return Decoded(decoded.value, (problem,))
    return decoded


def decode_heartbeat(raw: bytes) -> Decoded:
    """Decode a heartbeat message (RFC 6520 4). Never raises."""
    return _decode_plain(HeartbeatMessage, bytes(raw))


def message_type(content: Content, code: int, raw: bytes) -> str:
    """The snake_case type of a message without decoding it.

    A HelloRetryRequest is told from a ServerHello by its random. Handshake messages that stayed encrypted are
    ``encrypted_handshake``, those of unknown types ``handshake_0x99``.
    """
    if content is not Content.HANDSHAKE:
        return content.value
    if code == 2 and raw[6:38] == HELLO_RETRY_REQUEST_RANDOM:
        return "hello_retry_request"
    if looks_like_sslv2_hello(raw):
        return "client_hello"
    if code < 0:
        return "encrypted_handshake" if not raw else "unreadable"
    return names.handshake_type_name(code)


def looks_like_sslv2_hello(raw: bytes) -> bool:
    """Is this a ClientHello in the form of SSL 2.0, with its two bytes of record header (RFC 5246 E.2)?"""
    return len(raw) > 4 and raw[0] & 0xF0 == 0x80 and raw[2] == 1 and (raw[3] == 3 or raw[3:5] == b"\x00\x02")


def _decode_plain(form: type[Alert | ChangeCipherSpec | HeartbeatMessage], raw: bytes) -> Decoded:
    problems: list[FieldProblem] = []
    if not raw:
        problem = FieldProblem(form.type, 0, "a message", "0 bytes")
        return Decoded(Opaque(-1, raw), (problem,))
    reader = Reader(raw, problems, name=form.type)
    value = read_struct(form, reader)
    reader.finish()
    return Decoded(value, tuple(problems))


def _decode_sslv2_hello(raw: bytes) -> Decoded:
    """RFC 5246 E.2: three lengths, then the three fields that have them."""
    problems: list[FieldProblem] = []
    reader = Reader(raw, problems, name="client_hello", pos=2)
    declared = (raw[0] & 0x7F) << 8 | raw[1]
    if declared > len(raw) - 2:
        reader.problem("length", f"{byte_count(declared)} as declared", byte_count(len(raw) - 2), offset=0)
    reader.end = min(len(raw), 2 + declared)
    head = read_struct(_Sslv2Head, reader)
    parts = []
    for field, size in (
        ("cipher_specs", head.cipher_spec_length),
        ("session_id", head.session_id_length),
        ("challenge", head.challenge_length),
    ):
        if size > reader.left:
            reader.problem(field, f"{byte_count(size)} as declared", byte_count(reader.left))
        parts.append(reader.take(min(size, reader.left), field))
    specs = parts[0]
    if len(specs) % 3 or not specs:
        reader.problem(
            "cipher_specs", "a multiple of 3 bytes, not 0", byte_count(len(specs)), offset=min(11, reader.end)
        )
    reader.finish()
    if len(raw) > 2 + declared:
        reader.problem("", "nothing more", f"{byte_count(len(raw) - 2 - declared)} left over", offset=2 + declared)
    numbers = tuple(int.from_bytes(specs[at : at + 3], "big") for at in range(0, len(specs) - 2, 3))
    value = Sslv2ClientHello(head.msg_type, head.version, numbers, parts[1], parts[2], raw[:2])
    return Decoded(value, tuple(problems))


@dataclass(frozen=True, slots=True)
class _Sslv2Head(Struct):
    msg_type: Annotated[int, U8]
    version: Annotated[int, U16]
    cipher_spec_length: Annotated[int, U16]
    session_id_length: Annotated[int, U16]
    challenge_length: Annotated[int, U16]


def _read_message(code: int, reader: Reader, context: DecodeContext) -> HandshakeMessage | Opaque:
    """Choose the form of a message and read it."""
    version = context.version
    if code == 2:
        return read_struct(_server_hello_form(reader), reader)
    if code == 20:
        return _read_finished(reader, version)
    if code == 25:
        return _read_compressed_certificate(reader)
    if code in _SIMPLE:
        return read_struct(_SIMPLE[code], reader)
    if code == 22:
        multi = reader.left > 0 and reader.data[reader.pos] == 2
        return read_struct(CertificateStatusMulti, reader) if multi else read_struct(CertificateStatus, reader)
    if code == 12:
        return _read_server_key_exchange(reader, context)
    if code == 16:
        return _read_client_key_exchange(reader, context)
    forms = _forms_by_version(code, version)
    if forms:
        return _read_best(forms, reader)
    reader.pos = reader.end
    return Opaque(code, reader.data)


def _server_hello_form(reader: Reader) -> type[ServerHello | HelloRetryRequest]:
    return HelloRetryRequest if reader.data[6:38] == HELLO_RETRY_REQUEST_RANDOM else ServerHello


def _read_hello(code: int, reader: Reader, context: DecodeContext, only: frozenset[int]) -> HandshakeMessage | Opaque:
    """The same with only these extensions of a hello typed."""
    form: type[HandshakeMessage]
    if code == 1:
        form = ClientHello
    elif code == 2:
        form = _server_hello_form(reader)
    else:
        return _read_message(code, reader, context)
    fields = _LIMITED.get((form, only))
    if fields is None:
        fields = _LIMITED[form, only] = tuple(
            (name, codec.limited_to(only) if isinstance(codec, ExtensionBlock) else codec)
            for name, codec in layout(form)
        )
    return read_struct(form, reader, fields)


_LIMITED: Final[dict[tuple[type[HandshakeMessage], frozenset[int]], tuple[tuple[str, Codec], ...]]] = {}


def _forms_by_version(code: int, version: int | None) -> Sequence[type[HandshakeMessage]]:
    """The forms that a message can have, most likely first: one when the version is known."""
    tls13, tls12 = names.is_tls13(version), version == names.TLS12
    if code == 4:
        forms: tuple[type[HandshakeMessage], ...] = (NewSessionTicket13, NewSessionTicket)
        return forms if version is None else forms[:1] if tls13 else forms[1:]
    if code == 11:
        forms = (Certificate, Certificate13)
        return forms if version is None else forms[1:] if tls13 else forms[:1]
    if code == 13:
        forms = (CertificateRequest12, CertificateRequest13, CertificateRequest10)
        return forms if version is None else forms[1:2] if tls13 else forms[:1] if tls12 else forms[2:]
    if code == 15:
        forms = (CertificateVerify, CertificateVerify10)
        return forms if version is None else forms[:1] if tls13 or tls12 else forms[1:]
    return ()


def _read_best(forms: Sequence[type[HandshakeMessage]], reader: Reader) -> HandshakeMessage:
    """Read the first form that fits to the last byte; when none does, the one with the fewest problems."""
    if len(forms) == 1:
        return read_struct(forms[0], reader)
    best: tuple[int, HandshakeMessage, list[FieldProblem], int] | None = None
    for form in forms:
        trial = _trial(reader)
        value = read_struct(form, trial)
        trial.finish()
        if best is None or len(trial.problems) < best[0]:
            best = (len(trial.problems), value, trial.problems, trial.pos)
        if not trial.problems:
            break
    assert best is not None
    reader.problems.extend(best[2])
    reader.pos = best[3]
    return best[1]


def _trial(reader: Reader) -> Reader:
    """A copy of a reader whose problems do not count yet."""
    trial = Reader(reader.data, [], name=reader.name, pos=reader.pos)
    trial.end = reader.end
    return trial


# RFC 5246 7.4.9 (12 bytes), RFC 9189 4.2.6 (12 or 32), RFC 6101 5.6.9 (36), RFC 8446 4.4.4 (the hash's length)
def _read_finished(reader: Reader, version: int | None) -> Finished:
    start = reader.pos
    value = read_struct(Finished, reader)
    if names.is_tls13(version):
        sizes: tuple[int, ...] = (32, 48, 64)
    elif version == names.SSL3:
        sizes = (36,)
    elif version is not None:
        sizes = (12, 32)
    else:
        sizes = (12, 32, 36, 48, 64)
    if len(value.verify_data) not in sizes:
        wanted = " or ".join(str(size) for size in sizes)
        reader.problem("verify_data", f"{wanted} bytes", byte_count(len(value.verify_data)), offset=start)
    return value


def _read_server_key_exchange(reader: Reader, context: DecodeContext) -> HandshakeMessage | Opaque:
    exchange = None if context.cipher_suite is None else names.key_exchange(context.cipher_suite)
    kinds = _GUESSED_SERVER_KEY_EXCHANGES
    if context.cipher_suite is not None:
        if exchange not in _SERVER_KEY_EXCHANGES:
            return ServerKeyExchange(OtherParams(reader.rest()))
        kinds = (_SERVER_KEY_EXCHANGES[exchange],)
    if context.version is None:
        signatures: tuple[type[Signature | Signature10], ...] = (Signature, Signature10)
    else:
        signatures = (Signature,) if context.version >= names.TLS12 else (Signature10,)
    best: tuple[ServerKeyExchange, Reader] | None = None
    for params, signed in kinds:
        for signature in signatures if signed else (None,):
            trial = _trial(reader)
            value = _read_signed(params, signature, trial)
            trial.finish()
            if best is None or len(trial.problems) < len(best[1].problems):
                best = (value, trial)
            if not trial.problems:
                break
        if best is not None and not best[1].problems:
            break
    assert best is not None
    reader.problems.extend(best[1].problems)
    reader.pos = reader.end
    return best[0]


def _read_signed(
    params: type[Struct], signature: type[Signature | Signature10] | None, reader: Reader
) -> ServerKeyExchange:
    """Read the parameters and, behind them, the signature."""
    if params is EcdhParams and reader.left and reader.data[reader.pos] != 3:  # RFC 8422 5.4 allows named curves alone
        reader.problem("curve_type", "named_curve", names.hexadecimal(reader.data[reader.pos], digits=2))
        params = ExplicitPrimeParams if reader.data[reader.pos] == 1 else OtherParams
    read = read_struct(params, reader)
    if signature is None or params is OtherParams:
        return ServerKeyExchange(read)
    return ServerKeyExchange(read, read_struct(signature, reader))


def _read_client_key_exchange(reader: Reader, context: DecodeContext) -> HandshakeMessage:
    exchange = None if context.cipher_suite is None else names.key_exchange(context.cipher_suite)
    form = _CLIENT_KEY_EXCHANGES.get(exchange or "")
    if form is ClientKeyExchangeRsa and context.version == names.SSL3:  # RFC 6101 5.6.7.1: no length
        form = ClientKeyExchangeOther
    if form in {ClientKeyExchangeDh, ClientKeyExchangeEcdh} and not reader.left:
        return ClientKeyExchangeImplicit()
    if form is not None:
        return read_struct(form, reader)
    if context.cipher_suite is None:  # one length byte that fits exactly is a point on a curve
        return _read_best((ClientKeyExchangeEcdh, ClientKeyExchangeOther), reader)
    return read_struct(ClientKeyExchangeOther, reader)


# ------------------------------------------------------------------------------------------ compressed certificates


def _read_compressed_certificate(reader: Reader) -> CompressedCertificate:
    """RFC 8879 4: read it, decompress it within bounds, read the Certificate that comes out."""
    start = reader.pos
    before = len(reader.problems)
    value = read_struct(CompressedCertificate, reader)
    if len(reader.problems) > before:
        return value
    if value.uncompressed_length > MAX_DECOMPRESSED:  # nothing is decompressed on the word of such a declaration
        got = f"a declared length of {byte_count(value.uncompressed_length)} for {byte_count(len(value.compressed))}"
        reader.problem("uncompressed_length", f"at most {byte_count(MAX_DECOMPRESSED)}", got, offset=start + 2)
        return value
    body, fault = decompress(value.algorithm, value.compressed, value.uncompressed_length)
    if fault is not None:
        expected = f"{byte_count(value.uncompressed_length)} of {_compression_name(value.algorithm)} data"
        reader.problem("compressed", expected, fault, offset=start + 8)
        return value
    inner = Reader(body, reader.problems, name="compressed_certificate.certificate")
    certificate = read_struct(Certificate13, inner)
    inner.finish()
    return replace(value, certificate=certificate)


def decompress(algorithm: int, data: bytes, size: int) -> tuple[bytes, str | None]:
    """Decompress to exactly ``size`` bytes; never more than one byte more is produced.

    Returns the bytes and None, or no bytes and a phrase that says what came instead.
    """
    try:
        if algorithm == 1:
            return _exactly(size, *_unzlib(data, size + 1))
        if algorithm == 2:
            return _exactly(size, *_unbrotli(data, size + 1))
        if algorithm == 3:
            return _exactly(size, *_unzstd(data, size + 1))
    except Exception as reason:  # noqa: BLE001  three libraries, each with errors of its own; the data is at fault
        return b"", printable(f"broken data ({type(reason).__name__}: {reason})")[:200]
    return b"", f"an unknown algorithm {names.hexadecimal(algorithm)}"


def _exactly(size: int, body: bytes, finished: bool) -> tuple[bytes, str | None]:  # noqa: FBT001  a pair from below
    if len(body) > size:
        return b"", f"more than {byte_count(size)}"
    if len(body) < size:
        return b"", byte_count(len(body))
    return (body, None) if finished else (b"", "data that does not end there")


def _unzlib(data: bytes, limit: int) -> tuple[bytes, bool]:
    stream = zlib.decompressobj()
    body = stream.decompress(data, limit)
    return body, stream.eof and not stream.unused_data


def _unbrotli(data: bytes, limit: int) -> tuple[bytes, bool]:
    import brotli  # type: ignore[import-untyped]

    stream = brotli.Decompressor()
    body = stream.process(data, output_buffer_limit=limit)
    while len(body) < limit and not stream.is_finished() and not stream.can_accept_more_data():
        more = stream.process(b"", output_buffer_limit=limit - len(body))
        if not more:
            break
        body += more
    return body[:limit], stream.is_finished()


def _unzstd(data: bytes, limit: int) -> tuple[bytes, bool]:
    import zstandard

    # RFC 8878 3.1.1.1.2 recommends support of windows up to 8 MiB and no more
    decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 23)
    body = decompressor.stream_reader(data).read(limit)
    if len(body) == limit:
        return body, False
    whole = decompressor.decompressobj()  # bounded by what the reader has just shown
    whole.decompress(data)
    return body, whole.eof and not whole.unused_data


def _compression_name(algorithm: int) -> str:
    return names.CERTIFICATE_COMPRESSION.get(algorithm) or names.hexadecimal(algorithm)
