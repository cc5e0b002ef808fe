"""The TLS extensions, each as data: what stands in its body, by the message that carries it.

The same number means different things in different messages: a ClientHello's key_share is a list, a ServerHello's one
entry, a HelloRetryRequest's a bare group. So each class below says in which messages it is found (none said: in all).
Numbers that nobody knows, GREASE among them, and known numbers in messages where they have no form, keep their bytes
as :class:`UnknownExtension`. Order is kept, and so is every duplicate (which is noted: RFC 8446 4.2 forbids it).

Registry: https://www.iana.org/assignments/tls-extensiontype-values. The section that defines a body stands above it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, ClassVar, Final, TypeVar

from countersign.recorder.ocsp import read_ocsp_response
from countersign.recorder.wire import names
from countersign.recorder.wire.reader import (
    MAX_PROBLEMS,
    U8,
    U16,
    U32,
    Bytes,
    Codec,
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
    read_struct,
)
from countersign.recorder.wire.transparency import SignedCertificateTimestamp
from countersign.recorder.x509_fields import Reading, read_name


class Where(Enum):
    """The message that carries an extension (the TLS 1.3 column of the registry)."""

    CLIENT_HELLO = "client_hello"
    SERVER_HELLO = "server_hello"
    HELLO_RETRY_REQUEST = "hello_retry_request"
    ENCRYPTED_EXTENSIONS = "encrypted_extensions"
    CERTIFICATE = "certificate"
    CERTIFICATE_REQUEST = "certificate_request"
    NEW_SESSION_TICKET = "new_session_ticket"


_CH = Where.CLIENT_HELLO
_SH = Where.SERVER_HELLO
_HRR = Where.HELLO_RETRY_REQUEST
_EE = Where.ENCRYPTED_EXTENSIONS
_CT = Where.CERTIFICATE
_CR = Where.CERTIFICATE_REQUEST
_NST = Where.NEW_SESSION_TICKET


class KnownExtension(Struct):
    """Base of the typed extensions."""

    __slots__ = ()
    code: ClassVar[int]

    @property
    def name(self) -> str:
        return names.extension_name(self.code)

    def build(self) -> bytes:
        """The extension with its type and length, as it stands in an extension block."""
        body = self.body()
        return self.code.to_bytes(2, "big") + len(body).to_bytes(2, "big") + body


@dataclass(frozen=True, slots=True)
class UnknownExtension:
    """An extension without a typed form: its number and its bytes. GREASE is one of these."""

    code: int
    data: bytes

    @property
    def name(self) -> str:
        return names.extension_name(self.code)

    def build(self) -> bytes:
        return self.code.to_bytes(2, "big") + len(self.data).to_bytes(2, "big") + self.data

    def fields(self) -> dict[str, Any]:
        return {"data": self.data.hex()}


Extension = KnownExtension | UnknownExtension

_Form = type[KnownExtension] | Callable[[Reader], type[KnownExtension]]
_FORMS: Final[dict[int, dict[Where, _Form]]] = {}
E_ = TypeVar("E_", bound=type[KnownExtension])


def _found_in(code: int, *where: Where) -> Callable[[E_], E_]:
    """Register a class as the form of extension ``code`` in these messages, or in all of them."""

    def register(form: E_) -> E_:
        form.code = code
        _choose(code, form, *where)
        return form

    return register


def _choose(code: int, form: _Form, *where: Where) -> None:
    forms = _FORMS.setdefault(code, {})
    for message in where or tuple(Where):
        forms[message] = form


class _Empty(KnownExtension):
    """An extension that says everything by being there."""

    __slots__ = ()


# --------------------------------------------------------------------------------------------- RFC 6066: extensions


@dataclass(frozen=True, slots=True)
class ServerNameEntry(Struct):
    name_type: Annotated[int, Number(1, names.NAME_TYPES)]
    host_name: Annotated[bytes, Text(2, minimum=1)]


# RFC 6066 3
@_found_in(0, _CH)
@dataclass(frozen=True, slots=True)
class ServerName(KnownExtension):
    names: Annotated[tuple[ServerNameEntry, ...], Many(2, Nested(ServerNameEntry), minimum=1)]

    @property
    def host(self) -> bytes | None:
        """The first host name, as it was sent."""
        return next((entry.host_name for entry in self.names if entry.name_type == 0), None)


# RFC 6066 3: the server's answer is empty
@_found_in(0, _SH, _EE, _HRR, _CT, _CR, _NST)
@dataclass(frozen=True, slots=True)
class ServerNameAcknowledged(_Empty):
    pass


# RFC 6066 4
@_found_in(1)
@dataclass(frozen=True, slots=True)
class MaxFragmentLength(KnownExtension):
    max_fragment_length: Annotated[int, Number(1, names.MAX_FRAGMENT_LENGTHS)]


# RFC 6066 5
@_found_in(2)
@dataclass(frozen=True, slots=True)
class ClientCertificateUrl(_Empty):
    pass


@dataclass(frozen=True, slots=True)
class TrustedAuthority:
    """RFC 6066 6. ``identifier`` is a SHA-1, a distinguished name, or empty for ``pre_agreed``."""

    identifier_type: int
    identifier: bytes


class _TrustedAuthorityCodec(Codec):
    """A union that is chosen by its first byte (RFC 6066 6)."""

    __slots__ = ()

    def read(self, reader: Reader, field: str) -> TrustedAuthority:
        identifier_type = reader.uint(1, f"{field}.identifier_type")
        if identifier_type == 0:
            return TrustedAuthority(identifier_type, b"")
        if identifier_type in {1, 3}:
            return TrustedAuthority(identifier_type, reader.take(20, f"{field}.sha1_hash"))
        if identifier_type == 2:
            return TrustedAuthority(identifier_type, reader.sub(2, f"{field}.distinguished_name", minimum=1).rest())
        return TrustedAuthority(identifier_type, reader.rest())

    def build(self, value: TrustedAuthority) -> bytes:
        prefix = len(value.identifier).to_bytes(2, "big") if value.identifier_type == 2 else b""
        return bytes([value.identifier_type]) + prefix + value.identifier

    def show(self, value: TrustedAuthority) -> Any:
        kind = names.TRUSTED_AUTHORITY_TYPES.get(value.identifier_type)
        kind = kind or names.hexadecimal(value.identifier_type, digits=2)
        shown = distinguished_name(value.identifier) if value.identifier_type == 2 else value.identifier.hex()
        return {"identifier_type": kind, "identifier": shown}


# RFC 6066 6
@_found_in(3, _CH)
@dataclass(frozen=True, slots=True)
class TrustedCaKeys(KnownExtension):
    trusted_authorities: Annotated[tuple[TrustedAuthority, ...], Many(2, _TrustedAuthorityCodec())]


@_found_in(3, _SH, _EE)
@dataclass(frozen=True, slots=True)
class TrustedCaKeysAcknowledged(_Empty):
    pass


# RFC 6066 7
@_found_in(4)
@dataclass(frozen=True, slots=True)
class TruncatedHmac(_Empty):
    pass


@dataclass(frozen=True, slots=True)
class OcspStatusRequest(Struct):
    responder_id_list: Annotated[tuple[bytes, ...], Many(2, Bytes(2, minimum=1))]
    request_extensions: Annotated[bytes, Bytes(2)]


# RFC 6066 8
@dataclass(frozen=True, slots=True)
class StatusRequest(KnownExtension):
    status_type: Annotated[int, Number(1, names.CERTIFICATE_STATUS_TYPES)]
    responder_id_list: Annotated[tuple[bytes, ...], Many(2, Bytes(2, minimum=1))]
    request_extensions: Annotated[bytes, Bytes(2)]


@dataclass(frozen=True, slots=True)
class StatusRequestOfUnknownType(KnownExtension):
    status_type: Annotated[int, Number(1, names.CERTIFICATE_STATUS_TYPES)]
    request: Annotated[bytes, Rest()]


# RFC 6066 8, RFC 8446 4.4.2.1: empty where it only announces or asks
@dataclass(frozen=True, slots=True)
class StatusRequestAcknowledged(_Empty):
    pass


class OcspResponseCodec(Bytes):
    """A stapled OCSPResponse, with what can be read of it."""

    __slots__ = ()

    def show(self, value: bytes) -> dict[str, Any]:
        return {"length": len(value), "der": value.hex(), **read_ocsp_response(value).to_json()}


# RFC 8446 4.4.2.1: the CertificateStatus of RFC 6066 8 on a certificate
@dataclass(frozen=True, slots=True)
class StapledStatus(KnownExtension):
    status_type: Annotated[int, Number(1, names.CERTIFICATE_STATUS_TYPES)]
    response: Annotated[bytes, OcspResponseCodec(3, minimum=1)]


for _status in (StatusRequest, StatusRequestOfUnknownType, StatusRequestAcknowledged, StapledStatus):
    _status.code = 5


def _choose_status(body: Reader) -> type[KnownExtension]:
    return StatusRequest if body.left == 0 or body.data[body.pos] == 1 else StatusRequestOfUnknownType


_choose(5, _choose_status, _CH)
_choose(5, StatusRequestAcknowledged, _SH, _EE, _CR)
_choose(5, StapledStatus, _CT)


# RFC 4681 2
@_found_in(6)
@dataclass(frozen=True, slots=True)
class UserMapping(KnownExtension):
    user_mapping_types: Annotated[tuple[int, ...], Numbers(1, 1, names.USER_MAPPING_TYPES, minimum=1)]


# RFC 5878 2.3
@_found_in(7)
@dataclass(frozen=True, slots=True)
class ClientAuthz(KnownExtension):
    authz_format_list: Annotated[tuple[int, ...], Numbers(1, 1, names.AUTHORIZATION_FORMATS, minimum=1)]


# RFC 5878 2.3
@_found_in(8)
@dataclass(frozen=True, slots=True)
class ServerAuthz(KnownExtension):
    authz_format_list: Annotated[tuple[int, ...], Numbers(1, 1, names.AUTHORIZATION_FORMATS, minimum=1)]


# RFC 6091 3.1
@_found_in(9, _CH)
@dataclass(frozen=True, slots=True)
class CertType(KnownExtension):
    certificate_types: Annotated[tuple[int, ...], Numbers(1, 1, names.CERTIFICATE_TYPES, minimum=1)]


@_found_in(9, _SH, _EE)
@dataclass(frozen=True, slots=True)
class CertTypeChosen(KnownExtension):
    certificate_type: Annotated[int, Number(1, names.CERTIFICATE_TYPES)]


# ----------------------------------------------------------------------------------- groups, formats, signatures


# RFC 8446 4.2.7, RFC 8422 5.1.1
@_found_in(10)
@dataclass(frozen=True, slots=True)
class SupportedGroups(KnownExtension):
    groups: Annotated[tuple[int, ...], Numbers(2, 2, names.GROUPS, minimum=2)]


# RFC 8422 5.1.2
@_found_in(11)
@dataclass(frozen=True, slots=True)
class EcPointFormats(KnownExtension):
    formats: Annotated[tuple[int, ...], Numbers(1, 1, names.EC_POINT_FORMATS, minimum=1)]


# RFC 5054 2.8.1
@_found_in(12)
@dataclass(frozen=True, slots=True)
class Srp(KnownExtension):
    user_name: Annotated[bytes, Text(1, minimum=1)]


# RFC 8446 4.2.3, RFC 5246 7.4.1.4.1
@_found_in(13)
@dataclass(frozen=True, slots=True)
class SignatureAlgorithms(KnownExtension):
    schemes: Annotated[tuple[int, ...], Numbers(2, 2, names.SIGNATURE_SCHEMES, minimum=2)]


# RFC 5764 4.1.1
@_found_in(14)
@dataclass(frozen=True, slots=True)
class UseSrtp(KnownExtension):
    profiles: Annotated[tuple[int, ...], Numbers(2, 2, names.SRTP_PROFILES, minimum=2)]
    mki: Annotated[bytes, Bytes(1)]


# RFC 6520 2
@_found_in(15)
@dataclass(frozen=True, slots=True)
class Heartbeat(KnownExtension):
    mode: Annotated[int, Number(1, names.HEARTBEAT_MODES)]


# RFC 7301 3.1
@_found_in(16)
@dataclass(frozen=True, slots=True)
class Alpn(KnownExtension):
    protocols: Annotated[tuple[bytes, ...], Many(2, Text(1, minimum=1), minimum=2)]


@dataclass(frozen=True, slots=True)
class StatusRequestItem(Struct):
    status_type: Annotated[int, Number(1, names.CERTIFICATE_STATUS_TYPES)]
    request: Annotated[OcspStatusRequest, Nested(OcspStatusRequest, prefix=2)]


# RFC 6961 2.2
@_found_in(17, _CH)
@dataclass(frozen=True, slots=True)
class StatusRequestV2(KnownExtension):
    requests: Annotated[tuple[StatusRequestItem, ...], Many(2, Nested(StatusRequestItem), minimum=1)]


@_found_in(17, _SH)
@dataclass(frozen=True, slots=True)
class StatusRequestV2Acknowledged(_Empty):
    pass


# RFC 6962 3.3.1
@_found_in(18, _SH, _EE, _CT)
@dataclass(frozen=True, slots=True)
class SignedCertificateTimestamps(KnownExtension):
    scts: Annotated[
        tuple[SignedCertificateTimestamp, ...],
        Many(2, Nested(SignedCertificateTimestamp, prefix=2, minimum=1), minimum=1),
    ]


@_found_in(18, _CH, _CR)
@dataclass(frozen=True, slots=True)
class SignedCertificateTimestampsWanted(_Empty):
    pass


# RFC 7250 3
@_found_in(19, _CH)
@dataclass(frozen=True, slots=True)
class ClientCertificateType(KnownExtension):
    certificate_types: Annotated[tuple[int, ...], Numbers(1, 1, names.CERTIFICATE_TYPES, minimum=1)]


@_found_in(19, _SH, _EE)
@dataclass(frozen=True, slots=True)
class ClientCertificateTypeChosen(KnownExtension):
    certificate_type: Annotated[int, Number(1, names.CERTIFICATE_TYPES)]


@_found_in(20, _CH)
@dataclass(frozen=True, slots=True)
class ServerCertificateType(KnownExtension):
    certificate_types: Annotated[tuple[int, ...], Numbers(1, 1, names.CERTIFICATE_TYPES, minimum=1)]


@_found_in(20, _SH, _EE)
@dataclass(frozen=True, slots=True)
class ServerCertificateTypeChosen(KnownExtension):
    certificate_type: Annotated[int, Number(1, names.CERTIFICATE_TYPES)]


class _PaddingCodec(Rest):
    """Zeros by the hundred: their number is enough, unless they are none."""

    __slots__ = ()

    def show(self, value: bytes) -> Any:
        return value.hex() if value.strip(b"\0") else byte_count(len(value))


# RFC 7685 3
@_found_in(21)
@dataclass(frozen=True, slots=True)
class Padding(KnownExtension):
    padding: Annotated[bytes, _PaddingCodec()]


# RFC 7366 2
@_found_in(22)
@dataclass(frozen=True, slots=True)
class EncryptThenMac(_Empty):
    pass


# RFC 7627 5.1
@_found_in(23)
@dataclass(frozen=True, slots=True)
class ExtendedMasterSecret(_Empty):
    pass


# RFC 8472 2
@_found_in(24)
@dataclass(frozen=True, slots=True)
class TokenBinding(KnownExtension):
    major: Annotated[int, U8]
    minor: Annotated[int, U8]
    key_parameters: Annotated[tuple[int, ...], Numbers(1, 1, names.TOKEN_BINDING_PARAMETERS, minimum=1)]


@dataclass(frozen=True, slots=True)
class CachedObject(Struct):
    type: Annotated[int, Number(1, names.CACHED_INFORMATION_TYPES)]
    hash_value: Annotated[bytes, Bytes(1, minimum=1)]


# RFC 7924 3
@_found_in(25, _CH)
@dataclass(frozen=True, slots=True)
class CachedInfo(KnownExtension):
    cached_info: Annotated[tuple[CachedObject, ...], Many(2, Nested(CachedObject), minimum=1)]


@_found_in(25, _SH, _EE)
@dataclass(frozen=True, slots=True)
class CachedInfoChosen(KnownExtension):
    cached_info: Annotated[tuple[int, ...], Numbers(2, 1, names.CACHED_INFORMATION_TYPES, minimum=1)]


# draft-gutmann-tls-lts
@_found_in(26)
@dataclass(frozen=True, slots=True)
class TlsLts(_Empty):
    pass


# RFC 8879 3
@_found_in(27)
@dataclass(frozen=True, slots=True)
class CompressCertificate(KnownExtension):
    algorithms: Annotated[tuple[int, ...], Numbers(1, 2, names.CERTIFICATE_COMPRESSION, minimum=2)]


# RFC 8449 4
@_found_in(28)
@dataclass(frozen=True, slots=True)
class RecordSizeLimit(KnownExtension):
    record_size_limit: Annotated[int, U16]


# RFC 8492 4.4.1
@_found_in(29)
@dataclass(frozen=True, slots=True)
class PwdProtect(KnownExtension):
    protected_name: Annotated[bytes, Bytes(1, minimum=1)]


# RFC 8492 4.4.2
@_found_in(30)
@dataclass(frozen=True, slots=True)
class PwdClear(KnownExtension):
    name_in_clear: Annotated[bytes, Text(1, minimum=1)]


# RFC 8492 4.4.3
@_found_in(31)
@dataclass(frozen=True, slots=True)
class PasswordSalt(KnownExtension):
    salt: Annotated[bytes, Bytes(2)]


# RFC 8672 3.2
@_found_in(32, _CH)
@dataclass(frozen=True, slots=True)
class TicketPinning(KnownExtension):
    ticket: Annotated[bytes, Bytes(2)]


@_found_in(32, _SH, _EE)
@dataclass(frozen=True, slots=True)
class TicketPinningAnswer(KnownExtension):
    proof: Annotated[bytes, Bytes(1)]
    ticket: Annotated[bytes, Bytes(2)]
    lifetime: Annotated[int, U32]


# RFC 8773 4
@_found_in(33)
@dataclass(frozen=True, slots=True)
class TlsCertWithExternPsk(_Empty):
    pass


# RFC 9345 4.1.1
@_found_in(34, _CH, _CR)
@dataclass(frozen=True, slots=True)
class DelegatedCredentialSchemes(KnownExtension):
    schemes: Annotated[tuple[int, ...], Numbers(2, 2, names.SIGNATURE_SCHEMES, minimum=2)]


# RFC 9345 4
@_found_in(34, _CT)
@dataclass(frozen=True, slots=True)
class DelegatedCredential(KnownExtension):
    valid_time: Annotated[int, U32]
    dc_cert_verify_algorithm: Annotated[int, Number(2, names.SIGNATURE_SCHEMES)]
    public_key: Annotated[bytes, Bytes(3, minimum=1)]
    algorithm: Annotated[int, Number(2, names.SIGNATURE_SCHEMES)]
    signature: Annotated[bytes, Bytes(2, minimum=1)]


# RFC 5077 3.2: the ticket itself, without a length of its own
@_found_in(35)
@dataclass(frozen=True, slots=True)
class SessionTicket(KnownExtension):
    ticket: Annotated[bytes, Rest()]


# ETSI TS 103 523-2
@_found_in(36)
@dataclass(frozen=True, slots=True)
class Tlmsp(KnownExtension):
    data: Annotated[bytes, Rest()]


@_found_in(37)
@dataclass(frozen=True, slots=True)
class TlmspProxying(KnownExtension):
    data: Annotated[bytes, Rest()]


@_found_in(38)
@dataclass(frozen=True, slots=True)
class TlmspDelegate(KnownExtension):
    data: Annotated[bytes, Rest()]


# RFC 8870 5.2
@_found_in(39, _CH)
@dataclass(frozen=True, slots=True)
class SupportedEktCiphers(KnownExtension):
    supported_ciphers: Annotated[tuple[int, ...], Numbers(1, 1, minimum=1)]


@_found_in(39, _SH, _EE)
@dataclass(frozen=True, slots=True)
class SupportedEktCipherChosen(KnownExtension):
    selected_cipher: Annotated[int, U8]


# ------------------------------------------------------------------------------------------------- RFC 8446: TLS 1.3


@dataclass(frozen=True, slots=True)
class PskIdentity(Struct):
    identity: Annotated[bytes, Bytes(2, minimum=1)]
    obfuscated_ticket_age: Annotated[int, U32]


# RFC 8446 4.2.11
@_found_in(41, _CH)
@dataclass(frozen=True, slots=True)
class PreSharedKey(KnownExtension):
    identities: Annotated[tuple[PskIdentity, ...], Many(2, Nested(PskIdentity), minimum=7)]
    binders: Annotated[tuple[bytes, ...], Many(2, Bytes(1, minimum=32), minimum=33)]


@_found_in(41, _SH)
@dataclass(frozen=True, slots=True)
class PreSharedKeyChosen(KnownExtension):
    selected_identity: Annotated[int, U16]


# RFC 8446 4.2.10
@_found_in(42, _CH, _EE)
@dataclass(frozen=True, slots=True)
class EarlyData(_Empty):
    pass


@_found_in(42, _NST)
@dataclass(frozen=True, slots=True)
class EarlyDataAllowed(KnownExtension):
    max_early_data_size: Annotated[int, U32]


# RFC 8446 4.2.1
@_found_in(43, _CH)
@dataclass(frozen=True, slots=True)
class SupportedVersions(KnownExtension):
    versions: Annotated[tuple[int, ...], Numbers(1, 2, names.version_name, minimum=2)]


@_found_in(43, _SH, _HRR)
@dataclass(frozen=True, slots=True)
class SelectedVersion(KnownExtension):
    selected_version: Annotated[int, Number(2, names.version_name)]


# RFC 8446 4.2.2
@_found_in(44)
@dataclass(frozen=True, slots=True)
class Cookie(KnownExtension):
    cookie: Annotated[bytes, Bytes(2, minimum=1)]


def _psk_mode_name(mode: int) -> str:
    return names.PSK_KEY_EXCHANGE_MODES.get(mode) or names.hexadecimal(mode, digits=2)


# RFC 8446 4.2.9
@_found_in(45)
@dataclass(frozen=True, slots=True)
class PskKeyExchangeModes(KnownExtension):
    modes: Annotated[tuple[int, ...], Numbers(1, 1, _psk_mode_name, minimum=1)]


class DistinguishedNameCodec(Bytes):
    """A DER Name, shown with its text."""

    __slots__ = ()

    def show(self, value: bytes) -> dict[str, Any]:
        return distinguished_name(value)


# RFC 8446 4.2.4
@_found_in(47)
@dataclass(frozen=True, slots=True)
class CertificateAuthorities(KnownExtension):
    authorities: Annotated[tuple[bytes, ...], Many(2, DistinguishedNameCodec(2, minimum=1), minimum=3)]


@dataclass(frozen=True, slots=True)
class OidFilter(Struct):
    oid: Annotated[bytes, Bytes(1, minimum=1)]
    values: Annotated[bytes, Bytes(2)]


# RFC 8446 4.2.5
@_found_in(48)
@dataclass(frozen=True, slots=True)
class OidFilters(KnownExtension):
    filters: Annotated[tuple[OidFilter, ...], Many(2, Nested(OidFilter))]


# RFC 8446 4.2.6
@_found_in(49)
@dataclass(frozen=True, slots=True)
class PostHandshakeAuth(_Empty):
    pass


# RFC 8446 4.2.3
@_found_in(50)
@dataclass(frozen=True, slots=True)
class SignatureAlgorithmsCert(KnownExtension):
    schemes: Annotated[tuple[int, ...], Numbers(2, 2, names.SIGNATURE_SCHEMES, minimum=2)]


@dataclass(frozen=True, slots=True)
class KeyShareEntry(Struct):
    group: Annotated[int, Number(2, names.GROUPS)]
    key_exchange: Annotated[bytes, Bytes(2, minimum=1)]


# RFC 8446 4.2.8
@_found_in(51, _CH)
@dataclass(frozen=True, slots=True)
class KeyShare(KnownExtension):
    entries: Annotated[tuple[KeyShareEntry, ...], Many(2, Nested(KeyShareEntry))]


@_found_in(51, _SH)
@dataclass(frozen=True, slots=True)
class KeyShareChosen(KnownExtension):
    group: Annotated[int, Number(2, names.GROUPS)]
    key_exchange: Annotated[bytes, Bytes(2, minimum=1)]


@_found_in(51, _HRR)
@dataclass(frozen=True, slots=True)
class KeyShareWanted(KnownExtension):
    selected_group: Annotated[int, Number(2, names.GROUPS)]


# --------------------------------------------------------------------------------------------------- after RFC 8446


# RFC 9162 6.5
@_found_in(52, _SH, _EE, _CT)
@dataclass(frozen=True, slots=True)
class TransparencyInfo(KnownExtension):
    items: Annotated[tuple[bytes, ...], Many(2, Bytes(2, minimum=1), minimum=1)]


@_found_in(52, _CH, _CR)
@dataclass(frozen=True, slots=True)
class TransparencyInfoWanted(_Empty):
    pass


# RFC 9146 3, its number in the drafts
@_found_in(53)
@dataclass(frozen=True, slots=True)
class ConnectionIdDeprecated(KnownExtension):
    cid: Annotated[bytes, Bytes(1)]


# RFC 9146 3
@_found_in(54)
@dataclass(frozen=True, slots=True)
class ConnectionId(KnownExtension):
    cid: Annotated[bytes, Bytes(1)]


# RFC 8844 3.2
@_found_in(55)
@dataclass(frozen=True, slots=True)
class ExternalIdHash(KnownExtension):
    binding_hash: Annotated[bytes, Bytes(1, maximum=32)]


# RFC 8844 4.3
@_found_in(56)
@dataclass(frozen=True, slots=True)
class ExternalSessionId(KnownExtension):
    session_id: Annotated[bytes, Bytes(1, minimum=20)]


@dataclass(frozen=True, slots=True)
class QuicParameter:
    """RFC 9000 18. Variable-length integers need not be minimal, so their widths are kept (RFC 9000 16)."""

    id: int
    value: bytes
    id_width: int = 0
    length_width: int = 0


class _QuicParameterCodec(Codec):
    __slots__ = ()

    def read(self, reader: Reader, field: str) -> QuicParameter:
        number, id_width = _read_varint(reader, f"{field}.id")
        start = reader.pos
        size, length_width = _read_varint(reader, f"{field}.length")
        if size > reader.left:
            reader.problem(field, f"{byte_count(size)} as declared", byte_count(reader.left), offset=start)
            size = reader.left
        return QuicParameter(number, reader.take(size, field), id_width, length_width)

    def build(self, value: QuicParameter) -> bytes:
        return _varint(value.id, value.id_width) + _varint(len(value.value), value.length_width) + value.value

    def show(self, value: QuicParameter) -> Any:
        name = names.QUIC_TRANSPORT_PARAMETERS.get(value.id)
        return {"id": name or names.hexadecimal(value.id, digits=2), "value": value.value.hex()}


def _read_varint(reader: Reader, field: str) -> tuple[int, int]:
    first = reader.uint(1, field)
    width = 1 << (first >> 6)
    value = first & 0x3F
    if width > 1:
        value = value << 8 * (width - 1) | reader.uint(width - 1, field)
    return value, width


def _varint(value: int, width: int) -> bytes:
    least = 1 if value < 1 << 6 else 2 if value < 1 << 14 else 4 if value < 1 << 30 else 8
    width = max(width, least)
    return (value | (width.bit_length() - 1) << 8 * width - 2).to_bytes(width, "big")


# RFC 9001 8.2
@_found_in(57)
@dataclass(frozen=True, slots=True)
class QuicTransportParameters(KnownExtension):
    parameters: Annotated[tuple[QuicParameter, ...], Many(0, _QuicParameterCodec())]


# RFC 9001 8.2, its number in the drafts
@_found_in(65445)
@dataclass(frozen=True, slots=True)
class QuicTransportParametersDraft(KnownExtension):
    data: Annotated[bytes, Rest()]


# RFC 9149 3
@_found_in(58, _CH)
@dataclass(frozen=True, slots=True)
class TicketRequest(KnownExtension):
    new_session_count: Annotated[int, U8]
    resumption_count: Annotated[int, U8]


@_found_in(58, _EE)
@dataclass(frozen=True, slots=True)
class TicketRequestAnswer(KnownExtension):
    expected_count: Annotated[int, U8]


# RFC 9102 2.2
@_found_in(59, _CH)
@dataclass(frozen=True, slots=True)
class DnssecChainWanted(KnownExtension):
    port_number: Annotated[int, U16]


@_found_in(59, _SH, _CT)
@dataclass(frozen=True, slots=True)
class DnssecChain(KnownExtension):
    lifetime: Annotated[int, U16]
    chain: Annotated[bytes, Rest()]


# draft-pismenny-tls-dtls-plaintext-sequence-number
@_found_in(60)
@dataclass(frozen=True, slots=True)
class SequenceNumberEncryptionAlgorithms(KnownExtension):
    data: Annotated[bytes, Rest()]


# RFC 9853 3
@_found_in(61)
@dataclass(frozen=True, slots=True)
class Rrc(_Empty):
    pass


class _FlagsCodec(Bytes):
    """A bit field, shown as the numbers of the flags that are set."""

    __slots__ = ()

    def show(self, value: bytes) -> list[int]:
        return [8 * at + bit for at, byte in enumerate(value) for bit in range(8) if byte >> bit & 1]


# draft-ietf-tls-tlsflags 2
@_found_in(62)
@dataclass(frozen=True, slots=True)
class TlsFlags(KnownExtension):
    flags: Annotated[bytes, _FlagsCodec(1, minimum=1)]


# ------------------------------------------------------------------------------------------ Encrypted Client Hello


# RFC 9849 5.1
@_found_in(64768)
@dataclass(frozen=True, slots=True)
class EchOuterExtensions(KnownExtension):
    outer_extensions: Annotated[tuple[int, ...], Numbers(1, 2, names.EXTENSIONS, minimum=2)]


@dataclass(frozen=True, slots=True)
class HpkeSuite(Struct):
    kdf_id: Annotated[int, Number(2, names.HPKE_KDFS)]
    aead_id: Annotated[int, Number(2, names.HPKE_AEADS)]


# RFC 9849 5: type 0, the hello that the world sees
@dataclass(frozen=True, slots=True)
class EchOuter(KnownExtension):
    type: Annotated[int, Number(1, {0: "outer", 1: "inner"})]
    cipher_suite: Annotated[HpkeSuite, Nested(HpkeSuite)]
    config_id: Annotated[int, U8]
    enc: Annotated[bytes, Bytes(2)]
    payload: Annotated[bytes, Bytes(2, minimum=1)]


# RFC 9849 5: type 1, the hello inside
@dataclass(frozen=True, slots=True)
class EchInner(KnownExtension):
    type: Annotated[int, Number(1, {0: "outer", 1: "inner"})]


@dataclass(frozen=True, slots=True)
class EchConfigContents(Struct):
    config_id: Annotated[int, U8]
    kem_id: Annotated[int, Number(2, names.HPKE_KEMS)]
    public_key: Annotated[bytes, Bytes(2, minimum=1)]
    cipher_suites: Annotated[tuple[HpkeSuite, ...], Many(2, Nested(HpkeSuite), minimum=4)]
    maximum_name_length: Annotated[int, U8]
    public_name: Annotated[bytes, Text(1, minimum=1)]
    extensions: Annotated[bytes, Bytes(2)]


@dataclass(frozen=True, slots=True)
class EchConfig:
    """RFC 9849 4. The contents are typed for version 0xfe0d; of another version they are bytes."""

    version: int
    contents: EchConfigContents | bytes


class _EchConfigCodec(Codec):
    __slots__ = ()

    def read(self, reader: Reader, field: str) -> EchConfig:
        version = reader.uint(2, f"{field}.version")
        sub = reader.sub(2, f"{field}.contents")
        if version != 0xFE0D:
            return EchConfig(version, sub.rest())
        contents = read_struct(EchConfigContents, sub)
        sub.finish()
        return EchConfig(version, contents)

    def build(self, value: EchConfig) -> bytes:
        contents = value.contents if isinstance(value.contents, bytes) else value.contents.body()
        return value.version.to_bytes(2, "big") + len(contents).to_bytes(2, "big") + contents

    def show(self, value: EchConfig) -> Any:
        contents = value.contents.hex() if isinstance(value.contents, bytes) else value.contents.fields()
        return {"version": names.hexadecimal(value.version), "contents": contents}


# RFC 9849 5
@dataclass(frozen=True, slots=True)
class EchRetryConfigs(KnownExtension):
    retry_configs: Annotated[tuple[EchConfig, ...], Many(2, _EchConfigCodec(), minimum=4)]


# RFC 9849 5
@dataclass(frozen=True, slots=True)
class EchConfirmation(KnownExtension):
    confirmation: Annotated[bytes, Fixed(8)]


for _ech in (EchOuter, EchInner, EchRetryConfigs, EchConfirmation):
    _ech.code = 65037


def _choose_ech(body: Reader) -> type[KnownExtension]:
    return EchInner if body.left and body.data[body.pos] == 1 else EchOuter


_choose(65037, _choose_ech, _CH)
_choose(65037, EchRetryConfigs, _EE)
_choose(65037, EchConfirmation, _HRR)


# RFC 5746 3.2
@_found_in(65281)
@dataclass(frozen=True, slots=True)
class RenegotiationInfo(KnownExtension):
    renegotiated_connection: Annotated[bytes, Bytes(1)]


# ------------------------------------------------------------------------------------------- outside the registry


# draft-agl-tls-nextprotoneg-04 3
@_found_in(13172, _SH, _EE)
@dataclass(frozen=True, slots=True)
class NextProtocolNegotiation(KnownExtension):
    protocols: Annotated[tuple[bytes, ...], Many(0, Text(1, minimum=1))]


@_found_in(13172, _CH)
@dataclass(frozen=True, slots=True)
class NextProtocolNegotiationOffered(_Empty):
    pass


# draft-vvv-tls-alps-01 4
@_found_in(17513, _CH)
@dataclass(frozen=True, slots=True)
class ApplicationSettingsDraft(KnownExtension):
    protocols: Annotated[tuple[bytes, ...], Many(2, Text(1, minimum=1), minimum=2)]


@_found_in(17513, _EE)
@dataclass(frozen=True, slots=True)
class ApplicationSettingsDraftAnswer(KnownExtension):
    settings: Annotated[bytes, Rest()]


@_found_in(17613, _CH)
@dataclass(frozen=True, slots=True)
class ApplicationSettings(KnownExtension):
    protocols: Annotated[tuple[bytes, ...], Many(2, Text(1, minimum=1), minimum=2)]


@_found_in(17613, _EE)
@dataclass(frozen=True, slots=True)
class ApplicationSettingsAnswer(KnownExtension):
    settings: Annotated[bytes, Rest()]


# draft-balfanz-tls-channelid-01 4
@_found_in(30031)
@dataclass(frozen=True, slots=True)
class ChannelIdOld(_Empty):
    pass


@_found_in(30032)
@dataclass(frozen=True, slots=True)
class ChannelId(_Empty):
    pass


class _TrustAnchorCodec(Bytes):
    """A trust anchor identifier is a relative object identifier (draft-ietf-tls-trust-anchor-ids 3)."""

    __slots__ = ()

    def show(self, value: bytes) -> str:
        return value.hex()


# draft-ietf-tls-trust-anchor-ids 4
@_found_in(51764, _CH, _EE, _CR)
@dataclass(frozen=True, slots=True)
class TrustAnchors(KnownExtension):
    trust_anchors: Annotated[tuple[bytes, ...], Many(2, _TrustAnchorCodec(1, minimum=1))]


@_found_in(51764, _CT)
@dataclass(frozen=True, slots=True)
class TrustAnchorsMatched(_Empty):
    pass


# draft-ietf-tls-esni-02 4
@_found_in(65486)
@dataclass(frozen=True, slots=True)
class EncryptedServerName(KnownExtension):
    data: Annotated[bytes, Rest()]


# ----------------------------------------------------------------------------------------------------- the block


class ExtensionBlock(Codec):
    """The extensions of one message (RFC 8446 4.2); where the block may be missing altogether, None."""

    __slots__ = ("_forms", "_optional", "minimum", "where")
    empty: ClassVar[Any] = ()

    def __init__(self, where: Where, *, optional: bool = False, minimum: int = 0) -> None:
        self.where = where
        self.minimum = minimum
        self._optional = optional
        self._forms = {code: forms[where] for code, forms in _FORMS.items() if where in forms}

    def limited_to(self, only: frozenset[int]) -> ExtensionBlock:
        """The same with all extensions but these left as bytes."""
        limited = ExtensionBlock(self.where, optional=self._optional, minimum=self.minimum)
        limited._forms = {code: form for code, form in self._forms.items() if code in only}
        return limited

    def read(self, reader: Reader, field: str) -> tuple[Extension, ...] | None:
        if self._optional and reader.pos == reader.end:  # RFC 5246 7.4.1.2: no extensions, not even an empty list
            return None
        block = reader.sub(2, field, minimum=self.minimum)
        found: list[Extension] = []
        seen: set[int] = set()
        data, forms, end = block.data, self._forms, block.end
        while block.pos < end:
            start = block.pos
            if end - start < 4:
                block.problem(f"[{len(found)}]", "type and length (4 bytes)", byte_count(block.left))
                block.pos = end
                break
            code = data[start] << 8 | data[start + 1]
            size = data[start + 2] << 8 | data[start + 3]
            block.pos = start + 4
            if code in seen:  # RFC 8446 4.2
                block.problem(_label(found, code), "each extension type once", "a second one", offset=start)
            seen.add(code)
            if size > end - block.pos:
                got = byte_count(block.left)
                block.problem(_label(found, code), f"{byte_count(size)} as declared", got, offset=start + 2)
                size = end - block.pos
            form = forms.get(code)
            if form is None:
                found.append(UnknownExtension(code, data[block.pos : block.pos + size]))
                block.pos += size
            elif code in _ALIKE and size <= _ALIKE_UP_TO:
                key = form, data[block.pos : block.pos + size]
                known = _alike.get(key)
                if known is None:
                    noted = len(block.problems)
                    known = _read_extension(form, block.child(size, _label(found, code)))
                    if len(block.problems) == noted < MAX_PROBLEMS:
                        _keep_alike(key, known)
                else:
                    block.pos += size
                found.append(known)
            else:
                found.append(_read_extension(form, block.child(size, _label(found, code))))
        if self.where is Where.CLIENT_HELLO and any(one.code == 41 for one in found[:-1]):  # RFC 8446 4.2.11
            block.problem("", "pre_shared_key as the last extension", names.extension_name(found[-1].code))
        return tuple(found)

    def build(self, value: tuple[Extension, ...] | None) -> bytes:
        if value is None:
            return b""
        body = b"".join([one.build() for one in value])
        return len(body).to_bytes(2, "big") + body

    def show(self, value: tuple[Extension, ...] | None) -> Any:
        if value is None:
            return None
        return [show_extension(one) for one in value]


def _label(found: list[Extension], code: int) -> str:
    return f"[{len(found)}].{names.EXTENSIONS.get(code) or names.hexadecimal(code)}"


# A peer says the same in these each time. What was read without a problem is the same value for the same bytes.
_ALIKE: Final = frozenset({0, 1, 5, 10, 11, 13, 16, 27, 28, 43, 45, 50})
_ALIKE_UP_TO: Final = 256
_ALIKE_KEPT: Final = 1024
_alike: Final[dict[tuple[_Form, bytes], KnownExtension]] = {}


def _keep_alike(key: tuple[_Form, bytes], value: KnownExtension) -> None:
    if len(_alike) >= _ALIKE_KEPT:
        _alike.clear()
    _alike[key] = value


def read_extension(code: int, body: Reader, where: Where) -> Extension:
    """One extension's body; ``body`` ends where it ends."""
    form = _FORMS.get(code, {}).get(where)
    return UnknownExtension(code, body.rest()) if form is None else _read_extension(form, body)


def _read_extension(form: _Form, body: Reader) -> KnownExtension:
    value: KnownExtension = read_struct(form if isinstance(form, type) else form(body), body)
    if body.pos != body.end:
        body.finish()
    return value


def show_extension(extension: Extension) -> dict[str, Any]:
    """The JSON form of one extension: its type by name, its number, what it says."""
    shown: dict[str, Any] = {"type": extension.name, "code": extension.code}
    if names.is_grease(extension.code):
        shown = {"type": names.hexadecimal(extension.code), "code": extension.code, "grease": True}
    for key, value in extension.fields().items():
        shown["kind" if key == "type" else key] = value
    return shown


def extension_forms() -> dict[int, dict[Where, tuple[type[KnownExtension], ...]]]:
    """Every typed form there is, by number and message (for those who list, document or test them)."""
    chosen: dict[_Form, tuple[type[KnownExtension], ...]] = {
        _choose_status: (StatusRequest, StatusRequestOfUnknownType),
        _choose_ech: (EchOuter, EchInner),
    }
    return {
        code: {where: (form,) if isinstance(form, type) else tuple(chosen[form]) for where, form in forms.items()}
        for code, forms in _FORMS.items()
    }


# ----------------------------------------------------------------------------- DER inside, read as far as it goes


def distinguished_name(der: bytes) -> dict[str, Any]:
    """A DER Name as ``{"der": hex, "text": RFC 4514 text}``; unreadable, ``text`` is None and ``error`` says why."""
    reading = Reading()
    reading.field("text", lambda: read_name(der, "name", reading))
    shown: dict[str, Any] = {"der": der.hex(), "text": reading.facts.get("text")}
    if reading.problems:
        shown["error"] = reading.problems[0].removeprefix("name: ").removeprefix("text: ")
    return shown
