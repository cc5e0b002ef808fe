"""Reading a leg: what its messages say, together.

A message alone does not say which version it belongs to, whether a session was resumed, or which group was agreed.
Here the messages of one leg are decoded in order, each in the light of those before it, and the answers that need
several of them are put together. Nothing here raises: a message that cannot be read is
:class:`Opaque <.messages.Opaque>`, one that was cut is read as far as it goes, and ``fields`` says so.

:func:`summarize_client_hello` is for those who must decide while the client waits: it reads a ClientHello and types
only the extensions that a decision needs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from countersign.recorder.certificates import read_certificate
from countersign.recorder.wire import names
from countersign.recorder.wire.codes import EARLY_DATA
from countersign.recorder.wire.events import Content, Message, Problem, Side
from countersign.recorder.wire.extensions import (
    Alpn,
    CertificateAuthorities,
    CompressCertificate,
    Extension,
    KeyShare,
    KeyShareChosen,
    PreSharedKey,
    PreSharedKeyChosen,
    SelectedVersion,
    ServerName,
    SessionTicket,
    SignatureAlgorithms,
    SupportedGroups,
    SupportedVersions,
    distinguished_name,
)
from countersign.recorder.wire.fingerprints import ja3, ja3s, ja4, ja4_of
from countersign.recorder.wire.messages import (
    Certificate,
    Certificate13,
    CertificateRequest10,
    CertificateRequest12,
    CertificateRequest13,
    ClientHello,
    CompressedCertificate,
    DecodeContext,
    DhePskParams,
    DhParams,
    EcdhePskParams,
    EcdhParams,
    EncryptedExtensions,
    Finished,
    HelloRetryRequest,
    NextProtocol,
    Opaque,
    ServerHello,
    ServerHelloDone,
    ServerKeyExchange,
    Sslv2ClientHello,
    TypedMessage,
    decode,
    glance,
    message_type,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from countersign.recorder.certificates import CertificateFacts
    from countersign.recorder.wire.reader import FieldProblem, Struct
    from countersign.recorder.wire.told import Told

__all__ = [
    "HelloSummary",
    "LegReading",
    "ReadMessage",
    "SentCertificate",
    "read_leg",
    "summarize_client_hello",
]


@dataclass(frozen=True, slots=True)
class ReadMessage:
    """A message, its number in its leg, and what it says.

    ``value`` is the typed message or :class:`Opaque <.messages.Opaque>`; None for a message that stayed encrypted, and
    for one that was told in words that have no typed form (:mod:`.told`). ``unreached`` are the fields that its bytes
    end before; ``told_fields`` is the JSON form of a message that was told.
    """

    message: Message
    number: int
    type: str
    value: TypedMessage | Opaque | None
    unreached: tuple[str, ...] = ()
    told_fields: dict[str, Any] | None = None

    @property
    def sealed(self) -> bool:
        """Nothing of it could be read, for it is encrypted. What was not kept has its hash, and is not sealed."""
        message = self.message
        return message.told is None and message.encrypted and not message.raw and not message.digest

    @property
    def fields(self) -> dict[str, Any]:
        """The JSON form, made anew each time; None in it for what the bytes end before.

        ``truncated`` in it says how much was kept of a message that is not whole, ``sealed`` that it is.
        """
        if self.told_fields is not None:
            return self.told_fields
        if self.sealed:
            return {"sealed": True}
        fields = {} if self.value is None else self.value.fields()
        fields |= {name: None for name in self.unreached if name in fields}
        message = self.message
        if not message.complete:
            fields["truncated"] = {"kept": len(message.raw), "length": message.length}
        return fields


@dataclass(frozen=True, slots=True)
class SentCertificate:
    """One certificate of a Certificate message; ``message`` is that message's number.

    Of one that was only told there is no DER, and ``told`` has what is known of it.
    """

    sender: Side
    der: bytes
    message: int
    told: CertificateFacts | None = None

    @property
    def facts(self) -> CertificateFacts:
        """What it says."""
        return self.told or read_certificate(self.der)


@dataclass(frozen=True, slots=True)
class LegReading:
    """What the messages of one leg say together. None means: no message said it.

    ``requested_ca_names`` are DER; where a log told them there is their text alone, in ``told_ca_names``.
    """

    messages: tuple[ReadMessage, ...]
    problems: tuple[Problem, ...]
    version: str | None
    cipher: str | None
    group: str | None
    sni: str | None
    alpn: str | None
    alpn_offered: tuple[str, ...]
    resumed: bool | None
    ja3: str | None
    ja3s: str | None
    ja4: str | None
    certificates: tuple[SentCertificate, ...]
    requested_ca_names: tuple[bytes, ...] | None
    handshake_finished: frozenset[Side]
    client_random: bytes | None
    told_ca_names: tuple[str, ...] | None = None

    def chain(self, sender: Side) -> tuple[SentCertificate, ...]:
        """What this side showed in its first Certificate message, in its order; that of a renegotiation is another."""
        every = [sent for sent in self.certificates if sent.sender is sender]
        return tuple(sent for sent in every if sent.message == every[0].message)

    @property
    def requested_ca_texts(self) -> tuple[str | None, ...] | None:
        """The CA names as RFC 4514 texts, however they are known; None in it for a name that cannot be read."""
        if self.requested_ca_names is None:
            return self.told_ca_names
        return tuple(distinguished_name(der)["text"] for der in self.requested_ca_names)


# ------------------------------------------------------------------------------------------------------------- a leg


def read_leg(messages: Sequence[Message]) -> LegReading:
    """Decode the messages of one leg in their order and say what they say together. Never raises.

    Where a leg holds several handshakes (renegotiation), what was negotiated is taken from the first, which is the one
    that the others are protected by; a CertificateRequest and certificates are taken from wherever they come.
    """
    leg = _Leg()
    for number, message in enumerate(messages):
        leg.take(message, number)
    return leg.reading()


class _Leg:
    """The state that is carried from message to message."""

    def __init__(self) -> None:
        self._read: list[ReadMessage] = []
        self._problems: list[Problem] = []
        self._certificates: list[SentCertificate] = []
        self._finished: set[Side] = set()
        self._client_hello: ClientHello | Sslv2ClientHello | None = None
        self._server_hello: ServerHello | None = None
        self._hellos = 0
        self._version: int | None = None  # of the handshake that is under way
        self._suite: int | None = None
        self._group: str | None = None
        self._alpn: bytes | None = None
        self._ca_names: tuple[bytes, ...] | None = None
        self._told_ca_names: tuple[str, ...] | None = None
        self._told_hello: Told | None = None
        self._resumed: bool | None = None

    def take(self, message: Message, number: int) -> None:
        if message.told is not None:
            self._take_told(message, message.told, number)
            return
        if not message.raw:
            kind = message_type(message.content, message.code, b"")
            self._read.append(ReadMessage(message, number, kind, None))
            self._opaque(message)
            return
        context = DecodeContext(self._version, self._suite, message.sender)
        decoded = decode(message.content, message.raw, context)
        value, unreached = decoded.value, decoded.unreached
        if decoded.problems:
            self._problems.extend([_problem(one, message, number) for one in decoded.problems])
        self._read.append(ReadMessage(message, number, value.type, value, unreached))
        if "cipher_suite" not in unreached:  # a hello that ends before it says nothing of what was agreed on
            self._learn(value, message, number)

    def _take_told(self, message: Message, told: Told, number: int) -> None:
        """A message that somebody wrote down: what he left out is None, and what has no wire form is put in."""
        kind = message_type(message.content, message.code, message.form)
        value: TypedMessage | Opaque | None = None
        fields: dict[str, Any] = {}
        if told.form:
            decoded = decode(message.content, told.form, DecodeContext(self._version, self._suite, message.sender))
            value, fields = decoded.value, decoded.value.fields()
            if told.whole:
                self._problems.extend(_problem(one, message, number) for one in decoded.problems)
        for path in told.absent:
            _leave_out(fields, path)
        if isinstance(value, ClientHello) and self._client_hello is None:
            self._told_hello = told
        if told.certificates:
            _put_certificates(fields, told.certificates)
            self._certificates.extend(
                SentCertificate(message.sender, b"", number, facts) for facts in told.certificates
            )
            self._full_handshake(message.sender)
            value = None
        if told.authorities is not None:
            _put_authorities(fields, told.authorities)
            self._told_ca_names = self._told_ca_names or told.authorities
            value = None
        self._read.append(ReadMessage(message, number, kind, value, told_fields=fields))
        if value is None:
            self._opaque(message)
        elif not told.lacks("cipher_suite", "certificate_authorities"):
            self._learn(value, message, number)

    def _opaque(self, message: Message) -> None:
        if message.content is Content.CHANGE_CIPHER_SPEC:
            self._server_done(message.sender)

    def _learn(self, value: object, message: Message, number: int) -> None:
        sender = message.sender
        if message.content is Content.CHANGE_CIPHER_SPEC:
            self._server_done(sender)
        elif isinstance(value, ClientHello | Sslv2ClientHello):
            self._client_hello = self._client_hello or value
        elif isinstance(value, HelloRetryRequest):
            self._version, self._suite = _negotiated(value), value.cipher_suite
        elif isinstance(value, ServerHello):
            self._take_server_hello(value)
        elif isinstance(value, EncryptedExtensions):
            self._alpn = self._alpn or _chosen_alpn(value.extensions)
        elif isinstance(value, Certificate | Certificate13 | CompressedCertificate):
            self._certificates.extend(SentCertificate(sender, der, number) for der in value.certificates)
            self._full_handshake(sender)
        elif isinstance(value, ServerKeyExchange):
            self._group = self._group or _exchanged_group(value.params)
            self._full_handshake(sender)
        elif isinstance(value, ServerHelloDone):
            self._full_handshake(sender)
        elif isinstance(value, CertificateRequest10 | CertificateRequest12):
            if self._ca_names is None:
                self._ca_names = value.certificate_authorities
        elif isinstance(value, CertificateRequest13):
            if self._ca_names is None:
                self._ca_names = _asked_names(value.extensions)
        elif isinstance(value, NextProtocol):
            self._alpn = self._alpn or value.selected_protocol
        elif isinstance(value, Finished):
            self._finished.add(sender)
            self._server_done(sender)

    def _take_server_hello(self, hello: ServerHello) -> None:
        self._version, self._suite = _negotiated(hello), hello.cipher_suite
        if self._server_hello is not None:
            return
        self._server_hello = hello
        extensions = hello.extensions or ()
        if names.is_tls13(self._version):
            self._resumed = any(isinstance(one, PreSharedKeyChosen) for one in extensions)  # RFC 8446 4.2.11
        chosen = next((one for one in extensions if isinstance(one, KeyShareChosen)), None)
        if chosen is not None:
            self._group = names.group_name(chosen.group)
        self._alpn = self._alpn or _chosen_alpn(extensions)

    def _full_handshake(self, sender: Side) -> None:
        """RFC 5246 7.3: a server that sends any of these does not resume."""
        if sender is Side.SERVER and self._resumed is None and self._server_hello is not None:
            self._resumed = False

    def _server_done(self, sender: Side) -> None:
        """RFC 5246 7.3, figure 2: it resumes when its ChangeCipherSpec comes right behind its hello."""
        if sender is Side.SERVER and self._resumed is None and self._server_hello is not None:
            self._resumed = True

    def reading(self) -> LegReading:
        hello, answer = self._client_hello, self._server_hello
        extensions: tuple[Extension, ...] = (hello.extensions or ()) if isinstance(hello, ClientHello) else ()
        version = None if answer is None else _negotiated(answer)
        printed = self._told_hello is None or not any(map(_FINGERPRINTED.fullmatch, self._told_hello.absent))
        lacks_random = self._told_hello is not None and self._told_hello.lacks("random")
        return LegReading(
            messages=tuple(self._read),
            problems=tuple(self._problems),
            version=None if version is None else names.version_name(version),
            cipher=None if answer is None else names.cipher_suite_name(answer.cipher_suite),
            group=self._group,
            sni=_server_name(extensions),
            alpn=None if self._alpn is None else names.readable(self._alpn),
            alpn_offered=tuple(names.readable(one) for one in _offered_alpn(extensions)),
            resumed=self._resumed,
            ja3=ja3(hello) if isinstance(hello, ClientHello) and printed else None,
            ja3s=None if answer is None else ja3s(answer),
            ja4=None if hello is None or not printed else ja4(hello),
            certificates=tuple(self._certificates),
            requested_ca_names=self._ca_names,
            handshake_finished=frozenset(self._finished),
            client_random=None if hello is None or lacks_random else hello.random,
            told_ca_names=self._told_ca_names,
        )


_FINGERPRINTED: Final = re.compile(r"legacy_version|cipher_suites|extensions(?:\[\d+\])?")
"""What of a ClientHello a fingerprint is made of (:mod:`.fingerprints`)."""


def _leave_out(fields: dict[str, Any], path: str) -> None:
    """Make what is at this path of a message's fields None; of an extension all but which one it is."""
    *way, last = re.findall(r"[^.\[\]]+", path)
    place: Any = fields
    try:
        for step in way:
            place = place[int(step) if isinstance(place, list) else step]
        key: Any = int(last) if isinstance(place, list) else last
        if isinstance(place[key], dict) and "code" in place[key]:
            place[key] = {name: one if name in {"type", "code"} else None for name, one in place[key].items()}
        else:
            place[key] = None
    except (KeyError, IndexError, TypeError, ValueError):
        return  # it is not in this form of the message


def _put_certificates(fields: dict[str, Any], certificates: Sequence[CertificateFacts]) -> None:
    """In the place that the DER would have had in the fields of a Certificate."""
    shown = [{"length": None, "sha256": None, "subject": one.subject, "issuer": one.issuer} for one in certificates]
    entries = fields.get("entries")
    if entries is None:
        fields["certificates"] = shown
        return
    for entry, certificate in zip(entries, shown, strict=False):
        entry["certificate"] = certificate


def _put_authorities(fields: dict[str, Any], authorities: Sequence[str]) -> None:
    shown = [{"der": None, "text": text} for text in authorities]
    for extension in fields.get("extensions") or ():
        if "authorities" in extension:
            extension["authorities"] = shown
            return
    fields["certificate_authorities"] = shown


def _problem(problem: FieldProblem, message: Message, number: int) -> Problem:
    return Problem(
        message.t, message.sender, problem.field, problem.offset, problem.expected, problem.got, message=number
    )


def _negotiated(hello: ServerHello | HelloRetryRequest) -> int:
    """The version that a ServerHello chose (RFC 8446 4.1.3: supported_versions goes before legacy_version)."""
    for one in hello.extensions or ():
        if isinstance(one, SelectedVersion):
            return one.selected_version
    return hello.legacy_version


def _server_name(extensions: Iterable[Extension]) -> str | None:
    name = _server_name_bytes(extensions)
    return None if name is None else names.readable(name)


def _server_name_bytes(extensions: Iterable[Extension]) -> bytes | None:
    return next((one.host for one in extensions if isinstance(one, ServerName)), None)


def _offered_alpn(extensions: Iterable[Extension]) -> tuple[bytes, ...]:
    return next((one.protocols for one in extensions if isinstance(one, Alpn)), ())


def _chosen_alpn(extensions: Iterable[Extension]) -> bytes | None:
    return next(iter(_offered_alpn(extensions)), None)


def _asked_names(extensions: Iterable[Extension]) -> tuple[bytes, ...]:
    return next((one.authorities for one in extensions if isinstance(one, CertificateAuthorities)), ())


def _exchanged_group(params: Struct) -> str | None:
    """The group of a ServerKeyExchange: the curve's name, or ``dhe-2048``."""
    if isinstance(params, EcdhePskParams):
        params = params.ecdh
    if isinstance(params, DhePskParams):
        params = params.dh
    if isinstance(params, EcdhParams):
        return names.group_name(params.named_curve)
    if isinstance(params, DhParams):
        return f"dhe-{params.bits}"
    return None


# ------------------------------------------------------------------------------------------ a ClientHello, at a glance


@dataclass(frozen=True, slots=True)
class HelloSummary:
    """What a decision about a connection needs to know of its ClientHello.

    Strings are escaped (:func:`~.names.readable`), the ``_raw`` fields hold the bytes as they came. Lists are in the
    order in which they were sent, GREASE included. ``well_formed`` is False when anything was wrong with the message,
    which is then read as far as it goes; ``sslv2`` tells the old form.
    """

    legacy_version: int
    versions: tuple[int, ...]
    random: bytes
    session_id: bytes
    ciphers: tuple[int, ...]
    compression_methods: tuple[int, ...]
    extensions: tuple[int, ...]
    sni: str | None
    sni_raw: bytes | None
    alpn_offered: tuple[str, ...]
    alpn_raw: tuple[bytes, ...]
    groups: tuple[int, ...]
    key_share_groups: tuple[int, ...]
    signature_algorithms: tuple[int, ...]
    certificate_compression: tuple[int, ...]
    psk_identities: tuple[bytes, ...]
    session_ticket: bytes
    has_status_request: bool
    has_session_ticket: bool
    has_extended_master_secret: bool
    has_encrypted_client_hello: bool
    has_post_handshake_auth: bool
    has_early_data: bool
    ja4: str
    well_formed: bool
    sslv2: bool = False


def summarize_client_hello(raw: bytes) -> HelloSummary:
    """Read a ClientHello, header included, for a decision that must be made now. Never raises.

    What is no ClientHello at all gives a summary without anything in it, and ``well_formed`` is False. Who decides
    asks first and who stores it soon after, so the last ones of usual length are kept.
    """
    return _summarized_again(raw) if len(raw) <= _USUAL_HELLO else _summarized(raw)


_USUAL_HELLO: Final = 2048


def _summarized(raw: bytes) -> HelloSummary:
    decoded = glance(raw)
    hello = decoded.value
    if isinstance(hello, Sslv2ClientHello):
        old = ClientHello(hello.version, hello.random, hello.session_id, hello.cipher_suites, ())
        return replace(_summary(old, (), well_formed=not decoded.problems), sslv2=True)
    if not isinstance(hello, ClientHello):
        return _NO_HELLO
    return _summary(hello, hello.extensions or (), well_formed=not decoded.problems)


_summarized_again = lru_cache(maxsize=128)(_summarized)


def _summary(hello: ClientHello, extensions: tuple[Extension, ...], *, well_formed: bool) -> HelloSummary:
    codes = tuple([one.code for one in extensions])
    there = set(codes)
    typed: dict[type, Any] = {}
    for one in extensions:
        typed.setdefault(type(one), one)
    server_name: ServerName | None = typed.get(ServerName)
    alpn: Alpn | None = typed.get(Alpn)
    versions: SupportedVersions | None = typed.get(SupportedVersions)
    groups: SupportedGroups | None = typed.get(SupportedGroups)
    shares: KeyShare | None = typed.get(KeyShare)
    schemes: SignatureAlgorithms | None = typed.get(SignatureAlgorithms)
    compression: CompressCertificate | None = typed.get(CompressCertificate)
    psk: PreSharedKey | None = typed.get(PreSharedKey)
    ticket: SessionTicket | None = typed.get(SessionTicket)
    host = server_name.host if server_name else None
    protocols = alpn.protocols if alpn else ()
    return HelloSummary(
        legacy_version=hello.legacy_version,
        versions=versions.versions if versions else (hello.legacy_version,) if hello.legacy_version else (),
        random=hello.random,
        session_id=hello.session_id,
        ciphers=hello.cipher_suites,
        compression_methods=hello.compression_methods,
        extensions=codes,
        sni=None if host is None else names.readable(host),
        sni_raw=host,
        alpn_offered=tuple([names.readable(one) for one in protocols]),
        alpn_raw=protocols,
        groups=groups.groups if groups else (),
        key_share_groups=tuple([one.group for one in shares.entries]) if shares else (),
        signature_algorithms=schemes.schemes if schemes else (),
        certificate_compression=compression.algorithms if compression else (),
        psk_identities=tuple([one.identity for one in psk.identities]) if psk else (),
        session_ticket=ticket.ticket if ticket else b"",
        has_status_request=5 in there,
        has_session_ticket=35 in there,
        has_extended_master_secret=23 in there,
        has_encrypted_client_hello=65037 in there,
        has_post_handshake_auth=49 in there,
        has_early_data=EARLY_DATA in there,
        ja4=ja4_of(hello.legacy_version, hello.cipher_suites, extensions),
        well_formed=well_formed,
    )


_NO_HELLO: Final = _summary(ClientHello(0, b"", b"", (), ()), (), well_formed=False)
