"""Our decoder held against tshark on any capture: ``python -m tests.peers.compare FILE [--keylog F]``.

Each TCP connection in the file is put together from tshark's packets and given to :class:`LegDecoder`; each message
is then compared with what tshark dissected: types and lengths in their order, and within a message every field that
both know, value by value and in order (extensions, suites, groups, schemes, versions, names, certificates, tickets,
signatures, ...). JA3, JA3S and JA4 are compared too.

What tshark cannot do is made good here and nowhere else, each with its reason in :data:`EXCUSES`.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections import Counter
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from xml.etree import ElementTree as ET

from countersign.recorder.wire import extensions as e, messages as m
from countersign.recorder.wire.events import Content, EncryptedRecord, Message, Side
from countersign.recorder.wire.fingerprints import ja3, ja3s, ja4
from countersign.recorder.wire.leg import LegDecoder
from countersign.recorder.wire.reading import read_leg
from countersign.recorder.wire.secrets import KeyLog
from tests.peers.process import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

Values = dict[str, list[str]]
"""By tshark's name of a field its values in their order, as hex."""


class Difference(NamedTuple):
    """One thing that the two do not agree on; ``number`` counts the messages of that side."""

    stream: int
    sender: str
    number: int
    field: str
    tshark: str
    ours: str

    def __str__(self) -> str:
        where = f"connection {self.stream}, {self.sender} message {self.number}"
        return f"{where}: {self.field}: tshark {self.tshark}, we {self.ours}"


@dataclass(frozen=True, slots=True)
class Read:
    """One message as one of the two reads it; ``values`` are empty where its inside is not known."""

    content: str
    type: str
    length: int
    values: Values = field(default_factory=dict)


Sides = dict[Side, list[Read]]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What came of one capture. ``messages`` counts those that were compared, by connection."""

    differences: tuple[Difference, ...]
    messages: Mapping[int, int]
    types: Mapping[int, Counter[str]]
    uncompared: Counter[str]
    """tshark's fields with a value that nothing of ours was held against."""


def compare(pcap: Path, keylog: Path | None = None, *, timeout: float = 60) -> list[Difference]:
    """How our reading of a capture differs from tshark's; empty where it does not."""
    return list(comparison(pcap, keylog, timeout=timeout).differences)


def comparison(pcap: Path, keylog: Path | None = None, *, timeout: float = 60) -> Comparison:
    """The same with what was compared."""
    streams = read_streams(pcap, timeout=timeout)
    keys = read_keys(pcap, keylog)
    uncompared: Counter[str] = Counter()
    theirs = _by_tshark(pcap, keylog, streams, uncompared, timeout=timeout)
    differences: list[Difference] = []
    messages: dict[int, int] = {}
    types: dict[int, Counter[str]] = {}
    for number in sorted(theirs):
        ours = _by_us(streams[number], keys)
        types[number] = Counter(read.type for side in ours.values() for read in side)
        messages[number] = types[number].total()
        for side in Side:
            differences += _unlike(number, side, theirs[number][side], ours[side])
    return Comparison(tuple(differences), messages, types, uncompared)


# -- streams


@dataclass(slots=True)
class Stream:
    """The bytes of one TCP connection in the order in which they were seen, from where its TLS begins."""

    client: tuple[str, str]
    server_port: int = 0
    chunks: list[tuple[Side, bytes]] = field(default_factory=list)
    began_at_once: bool = True


@dataclass(slots=True)
class _Direction:
    """TCP reassembly of one direction: what is early waits, what came already is dropped."""

    next: int | None = None
    waiting: dict[int, bytes] = field(default_factory=dict)

    def take(self, sequence: int, data: bytes, *, syn: bool) -> Iterator[bytes]:
        if syn:
            self.next = (sequence + 1) & 0xFFFFFFFF
            sequence = self.next
        if not data:
            return
        if self.next is None:
            self.next = sequence
        self.waiting[sequence] = max(data, self.waiting.get(sequence, b""), key=len)
        while ready := [one for one in self.waiting if self._before(one) >= 0]:
            at = min(ready, key=self._before)
            part = self.waiting.pop(at)[self._before(at) :]
            if part:
                self.next = (self.next + len(part)) & 0xFFFFFFFF
                yield part

    def _before(self, sequence: int) -> int:
        """How many bytes before the next expected one it begins; negative where it is early."""
        assert self.next is not None
        distance = (self.next - sequence) & 0xFFFFFFFF
        return distance if distance < 1 << 31 else distance - (1 << 32)


_FIELDS = (
    "tcp.stream",
    "ip.src",
    "ipv6.src",
    "tcp.srcport",
    "tcp.dstport",
    "tcp.seq_raw",
    "tcp.flags.syn",
    "tcp.payload",
)
_HELLO = re.compile(rb"\x16\x03[\x00-\x04]..\x01\x00..\x03[\x00-\x03]", re.DOTALL)


def read_streams(pcap: Path, *, timeout: float = 60) -> dict[int, Stream]:
    """The connections of a capture by tshark's number, those without TLS too."""
    words = [word for name in _FIELDS for word in ("-e", name)]
    quiet = ("-o", "tcp.desegment_tcp_streams:FALSE", "-E", "occurrence=f", "-Y", "tcp")
    done = run("tshark", "-n", "-r", pcap, *quiet, "-T", "fields", *words, timeout=timeout).check()
    raw: dict[int, list[tuple[tuple[str, str], bytes]]] = {}
    directions: dict[tuple[int, tuple[str, str]], _Direction] = {}
    ports: dict[int, tuple[tuple[str, str], int]] = {}
    for line in done.stdout.splitlines():
        stream, ip4, ip6, source, target, sequence, syn, payload = line.split("\t")
        who = (ip4 or ip6, source)
        number = int(stream)
        ports.setdefault(number, (who, int(target)))
        direction = directions.setdefault((number, who), _Direction())
        for data in direction.take(int(sequence), bytes.fromhex(payload), syn=syn in {"1", "True"}):
            raw.setdefault(number, []).append((who, data))
    return {number: _stream(*ports[number], raw.get(number, [])) for number in ports}


def _stream(client: tuple[str, str], port: int, chunks: list[tuple[tuple[str, str], bytes]]) -> Stream:
    """The connection from its ClientHello on; before it there may be a dialogue (STARTTLS, CONNECT)."""
    whole = b"".join(data for who, data in chunks if who == client)
    hello = _HELLO.search(whole)
    if hello is None or hello.start() == 0:
        return Stream(client, port, [(Side.CLIENT if who == client else Side.SERVER, data) for who, data in chunks])
    stream = Stream(client, port, began_at_once=False)
    skip, begun = hello.start(), False
    for who, data in chunks:
        rest = data
        if who == client and not begun:
            begun = skip < len(data)
            rest = data[skip:]
            skip -= len(data) - len(rest)
        if begun and rest:
            stream.chunks.append((Side.CLIENT if who == client else Side.SERVER, rest))
    return stream


def read_keys(pcap: Path, keylog: Path | None) -> KeyLog:
    """The key log, and what a pcapng has in its Decryption Secrets Blocks (type 10, of TLS key log lines)."""
    keys = KeyLog()
    if keylog is not None:
        keys.add_text(keylog.read_bytes())
    order: Literal["little", "big"] = "little"
    with pcap.open("rb") as file:
        while len(head := file.read(8)) == 8:
            if head[:4] == b"\x0a\x0d\x0d\x0a":
                order = "little" if file.read(4) == b"\x4d\x3c\x2b\x1a" else "big"
                file.seek(-4, os.SEEK_CUR)
            elif file.tell() == 8:
                break  # no pcapng
            length = int.from_bytes(head[4:], order)
            if length < 12:
                break
            if int.from_bytes(head[:4], order) == 10:
                body = file.read(length - 12)
                file.seek(4, os.SEEK_CUR)
                if int.from_bytes(body[:4], order) == 0x544C534B:
                    keys.add_text(body[8 : 8 + int.from_bytes(body[4:8], order)])
            else:
                file.seek(length - 8, os.SEEK_CUR)
    return keys


# -- our side


def _by_us(stream: Stream, keys: KeyLog) -> Sides:
    decoder = LegDecoder(keylog=keys if len(keys) else None)
    events = [event for side, data in stream.chunks for event in decoder.receive(side, data, 0.0)]
    events += [event for side in Side for event in decoder.end(side, 0.0)]
    reading = iter(read_leg([event for event in events if isinstance(event, Message)]).messages)
    sides: Sides = {side: [] for side in Side}
    for event in events:
        if isinstance(event, Message):
            read = next(reading)
            sealed = event.encrypted and not event.raw
            kind = "encrypted" if sealed else read.type
            values = {} if sealed else values_of(read.value)
            sides[event.sender].append(Read(event.content.value, kind, event.length, values))
        elif isinstance(event, EncryptedRecord) and event.content_type == 22:
            sides[event.sender].append(Read(Content.HANDSHAKE.value, "encrypted", event.length))
    return sides


def values_of(value: Any) -> Values:
    """What one message says, under tshark's names."""
    out = _Values()
    out.take(value)
    return out.found


_HELLO_FIELDS = ("legacy_version", "random", "session_id", "cipher_suite", "compression_method", "extensions")


class _Values:
    """Collects values in the order of the message."""

    def __init__(self) -> None:
        self.found: Values = {}

    def say(self, name: str, *values: int | bytes, size: int = 1) -> None:
        listed = self.found.setdefault(f"tls.{name}", [])
        listed += [(one if isinstance(one, bytes) else one.to_bytes(size, "big")).hex() for one in values]

    def take(self, value: Any) -> None:
        match value:
            case m.ClientHello() | m.ServerHello() | m.HelloRetryRequest():
                self._hello(value)
            case m.Sslv2ClientHello():
                self.say("handshake.version", value.version, size=2)
                self.say("handshake.cipherspec", *value.cipher_specs, size=3)
            case m.EncryptedExtensions():
                self._extensions(value.extensions)
            case m.Certificate():
                self._certificates(value.certificates)
            case m.Certificate13():
                self._context(value.context)
                for entry in value.entries:
                    self._certificates([entry.certificate])
                    self._extensions(entry.extensions)
            case m.CompressedCertificate():
                self.say("compress_certificate.algorithm", value.algorithm, size=2)
                self.say("compress_certificate.uncompressed_length", value.uncompressed_length, size=3)
                self.say("compress_certificate.compressed_certificate_message", value.compressed)
                if value.certificate is not None:
                    self.take(value.certificate)
            case m.CertificateStatus():
                self.say("handshake.extensions_status_request_type", value.status_type)
                self.say("handshake.ocsp_response_len", len(value.response), size=3)
            case m.CertificateRequest10() | m.CertificateRequest12():
                self.say("handshake.cert_type", *value.certificate_types)
                if isinstance(value, m.CertificateRequest12):
                    self._schemes(value.signature_algorithms)
                self._names(value.certificate_authorities)
            case m.CertificateRequest13():
                self._context(value.context)
                self._extensions(value.extensions)
            case m.ServerKeyExchange():
                self._params(value.params)
                if isinstance(value.signature, m.Signature):
                    self._schemes([value.signature.algorithm])
                if value.signature is not None:
                    self.say("handshake.sig", value.signature.signature)
            case m.ClientKeyExchangeEcdh():
                self.say("handshake.client_point", value.ecdh_yc)
            case m.ClientKeyExchangeDh():
                self.say("handshake.yc", value.dh_yc)
            case m.ClientKeyExchangeRsa():
                self.say("handshake.epms", value.encrypted_pre_master_secret)
            case m.ClientKeyExchangePsk():
                self.say("handshake.identity", value.psk_identity)
            case m.ClientKeyExchangeDhePsk():
                self.say("handshake.identity", value.psk_identity)
                self.say("handshake.yc", value.dh_yc)
            case m.ClientKeyExchangeEcdhePsk():
                self.say("handshake.identity", value.psk_identity)
                self.say("handshake.client_point", value.ecdh_yc)
            case m.ClientKeyExchangeRsaPsk():
                self.say("handshake.identity", value.psk_identity)
                self.say("handshake.epms", value.encrypted_pre_master_secret)
            case m.CertificateVerify():
                self._schemes([value.algorithm])
                self.say("handshake.client_cert_vrfy.sig", value.signature)
            case m.CertificateVerify10():
                self.say("handshake.client_cert_vrfy.sig", value.signature)
            case m.NewSessionTicket():
                self.say("handshake.session_ticket_lifetime_hint", value.ticket_lifetime_hint, size=4)
                self.say("handshake.session_ticket", value.ticket)
            case m.NewSessionTicket13():
                self.say("handshake.session_ticket_lifetime_hint", value.ticket_lifetime, size=4)
                self.say("handshake.session_ticket_age_add", value.ticket_age_add, size=4)
                self.say("handshake.session_ticket_nonce", value.ticket_nonce)
                self.say("handshake.session_ticket", value.ticket)
                self._extensions(value.extensions)
            case m.KeyUpdate():
                self.say("handshake.key_update.request_update", value.request_update)
            case m.NextProtocol():
                self.say("handshake.npn_selected_protocol", value.selected_protocol)
            case m.Alert():
                self.say("alert_message.level", value.level)
                self.say("alert_message.desc", value.description)
            case m.HeartbeatMessage():
                self.say("heartbeat_message.type", value.heartbeat_type)

    def _hello(self, value: m.ClientHello | m.ServerHello | m.HelloRetryRequest) -> None:
        self.say("handshake.version", value.legacy_version, size=2)
        self.say("handshake.random", value.random)
        self.say("handshake.session_id", *([value.session_id] if value.session_id else []))
        if isinstance(value, m.ClientHello):
            self.say("handshake.ciphersuite", *value.cipher_suites, size=2)
            self.say("handshake.comp_method", *value.compression_methods)
            self.found |= {"tls.handshake.ja3": [ja3(value)], "tls.handshake.ja4": [ja4(value)]}
        else:
            self.say("handshake.ciphersuite", value.cipher_suite, size=2)
            self.say("handshake.comp_method", value.compression_method)
            # To tshark a HelloRetryRequest is a ServerHello, so it has a JA3S.
            self.found["tls.handshake.ja3s"] = [ja3s(m.ServerHello(*(getattr(value, name) for name in _HELLO_FIELDS)))]
        self._extensions(value.extensions or ())

    def _certificates(self, ders: Iterable[bytes]) -> None:
        self.say("handshake.certificate", *[der for der in ders if der])

    def _context(self, context: bytes) -> None:
        self.say("handshake.certificate_request_context", *([context] if context else []))

    def _schemes(self, schemes: Iterable[int]) -> None:
        self.say("handshake.sig_hash_alg", *schemes, size=2)

    def _names(self, ders: Iterable[bytes]) -> None:
        self.say("handshake.dname_len", *[len(der) for der in ders], size=2)

    def _params(self, params: Any) -> None:
        match params:
            case m.EcdhParams():
                self.say("handshake.server_curve_type", params.curve_type)
                self.say("handshake.server_named_curve", params.named_curve, size=2)
                self.say("handshake.server_point", params.public)
            case m.DhParams():
                self.say("handshake.p", params.dh_p)
                self.say("handshake.g", params.dh_g)
                self.say("handshake.ys", params.dh_ys)
            case m.PskHintParams():
                self.say("handshake.hint", params.psk_identity_hint)
            case m.DhePskParams():
                self.say("handshake.hint", *([params.psk_identity_hint] if params.psk_identity_hint else []))
                self._params(params.dh)
            case m.EcdhePskParams():
                self.say("handshake.hint", *([params.psk_identity_hint] if params.psk_identity_hint else []))
                self._params(params.ecdh)

    def _extensions(self, listed: Iterable[e.Extension]) -> None:
        for one in listed:
            self.say("handshake.extension.type", one.code, size=2)
            self.say("handshake.extension.len", len(one.build()) - 4, size=2)
            self._extension(one)

    def _extension(self, one: e.Extension) -> None:
        match one:
            case e.ServerName():
                self.say("handshake.extensions_server_name_type", *[entry.name_type for entry in one.names])
                self.say("handshake.extensions_server_name", *[entry.host_name for entry in one.names])
            case e.MaxFragmentLength():
                self.say("handshake.max_fragment_length", one.max_fragment_length)
            case e.StatusRequest():
                self.say("handshake.extensions_status_request_type", one.status_type)
                self.say("handshake.extensions_status_request_exts_len", len(one.request_extensions), size=2)
            case e.StatusRequestV2():
                self.say("handshake.extensions_status_request_type", *[each.status_type for each in one.requests])
                lengths = [len(each.request.request_extensions) for each in one.requests]
                self.say("handshake.extensions_status_request_exts_len", *lengths, size=2)
            case e.StapledStatus():
                self.say("handshake.extensions_status_request_type", one.status_type)
                self.say("handshake.ocsp_response_len", len(one.response), size=3)
            case e.SupportedGroups():
                self.say("handshake.extensions_supported_group", *one.groups, size=2)
            case e.EcPointFormats():
                self.say("handshake.extensions_ec_point_format", *one.formats)
            case e.SignatureAlgorithms() | e.SignatureAlgorithmsCert() | e.DelegatedCredentialSchemes():
                self._schemes(one.schemes)
            case e.Heartbeat():
                self.say("handshake.extension.heartbeat.mode", one.mode)
            case e.Alpn():
                self.say("handshake.extensions_alpn_str", *one.protocols)
            case e.Padding():
                self.say("handshake.extensions_padding_data", *([one.padding] if one.padding else []))
            case e.CompressCertificate():
                self.say("compress_certificate.algorithm", *one.algorithms, size=2)
            case e.RecordSizeLimit():
                self.say("record_size_limit", one.record_size_limit, size=2)
            case e.PreSharedKey():
                self.say("handshake.extensions.psk.identity.identity", *[each.identity for each in one.identities])
                ages = [each.obfuscated_ticket_age for each in one.identities]
                self.say("handshake.extensions.psk.identity.obfuscated_ticket_age", *ages, size=4)
                length = sum(1 + len(binder) for binder in one.binders)
                self.say("handshake.extensions.psk.binders_len", length, size=2)
            case e.PreSharedKeyChosen():
                self.say("handshake.extensions.psk.identity.selected", one.selected_identity, size=2)
            case e.EarlyDataAllowed():
                self.say("early_data.max_early_data_size", one.max_early_data_size, size=4)
            case e.SupportedVersions():
                self.say("handshake.extensions.supported_version", *one.versions, size=2)
            case e.SelectedVersion():
                self.say("handshake.extensions.supported_version", one.selected_version, size=2)
            case e.Cookie():
                self.say("handshake.extensions.cookie", one.cookie)
            case e.PskKeyExchangeModes():
                self.say("extension.psk_ke_mode", *one.modes)
            case e.CertificateAuthorities():
                self._names(one.authorities)
            case e.KeyShare():
                self.say("handshake.extensions_key_share_group", *[entry.group for entry in one.entries], size=2)
                shares = [entry.key_exchange for entry in one.entries]
                self.say("handshake.extensions_key_share_key_exchange", *shares)
            case e.KeyShareChosen():
                self.say("handshake.extensions_key_share_group", one.group, size=2)
                self.say("handshake.extensions_key_share_key_exchange", one.key_exchange)
            case e.KeyShareWanted():
                self.say("handshake.extensions_key_share_selected_group", one.selected_group, size=2)
            case e.RenegotiationInfo():
                bound = one.renegotiated_connection
                self.say("handshake.extensions_reneg_info_len", len(bound))
                self.say("handshake.extensions_reneg_info", *([bound] if bound else []))
            case e.CertType() | e.ClientCertificateType() | e.ServerCertificateType():
                self.say("handshake.cert_type.type", *one.certificate_types)
            case e.CertTypeChosen() | e.ClientCertificateTypeChosen() | e.ServerCertificateTypeChosen():
                self.say("handshake.cert_type.type", one.certificate_type)
            case e.Srp():
                self.say("handshake.extensions_srp_username", one.user_name)
            case e.DelegatedCredential():
                self.say("handshake.cred.valid_time", one.valid_time, size=4)
                self._schemes([one.dc_cert_verify_algorithm])
                self.say("handshake.cred.pubkey", one.public_key)
                self._schemes([one.algorithm])
                self.say("handshake.cred.signature", one.signature)
            case e.NextProtocolNegotiation():
                self.say("handshake.extensions_npn", *one.protocols)
            case e.ApplicationSettings() | e.ApplicationSettingsDraft():
                self.say("handshake.extensions_alps_alpn_str", *one.protocols)
            case e.SignedCertificateTimestamps():
                self.say("sct.sct_version", *[sct.version for sct in one.scts])
                self.say("sct.sct_logid", *[sct.log_id for sct in one.scts])
                self.say("sct.sct_timestamp", *[sct.timestamp for sct in one.scts], size=8)
                for sct in one.scts:
                    self._schemes([sct.algorithm])
                self.say("sct.sct_signature", *[sct.signature for sct in one.scts])


COMPARED = frozenset(
    f"tls.{name}"
    for name in [
        "alert_message.desc",
        "alert_message.level",
        "compress_certificate.algorithm",
        "compress_certificate.compressed_certificate_message",
        "compress_certificate.uncompressed_length",
        "early_data.max_early_data_size",
        "extension.psk_ke_mode",
        "handshake.cert_type",
        "handshake.cert_type.type",
        "handshake.certificate",
        "handshake.certificate_request_context",
        "handshake.cipherspec",
        "handshake.ciphersuite",
        "handshake.client_cert_vrfy.sig",
        "handshake.client_point",
        "handshake.comp_method",
        "handshake.cred.pubkey",
        "handshake.cred.signature",
        "handshake.cred.valid_time",
        "handshake.dname_len",
        "handshake.epms",
        "handshake.extension.heartbeat.mode",
        "handshake.extension.len",
        "handshake.extension.type",
        "handshake.extensions.cookie",
        "handshake.extensions.psk.binders_len",
        "handshake.extensions.psk.identity.identity",
        "handshake.extensions.psk.identity.obfuscated_ticket_age",
        "handshake.extensions.psk.identity.selected",
        "handshake.extensions.supported_version",
        "handshake.extensions_alpn_str",
        "handshake.extensions_alps_alpn_str",
        "handshake.extensions_ec_point_format",
        "handshake.extensions_key_share_group",
        "handshake.extensions_key_share_key_exchange",
        "handshake.extensions_key_share_selected_group",
        "handshake.extensions_npn",
        "handshake.extensions_padding_data",
        "handshake.extensions_reneg_info",
        "handshake.extensions_reneg_info_len",
        "handshake.extensions_server_name",
        "handshake.extensions_server_name_type",
        "handshake.extensions_srp_username",
        "handshake.extensions_status_request_exts_len",
        "handshake.extensions_status_request_type",
        "handshake.extensions_supported_group",
        "handshake.g",
        "handshake.hint",
        "handshake.identity",
        "handshake.ja3",
        "handshake.ja3s",
        "handshake.ja4",
        "handshake.key_update.request_update",
        "handshake.max_fragment_length",
        "handshake.npn_selected_protocol",
        "handshake.ocsp_response_len",
        "handshake.p",
        "handshake.random",
        "handshake.server_curve_type",
        "handshake.server_named_curve",
        "handshake.server_point",
        "handshake.session_id",
        "handshake.session_ticket",
        "handshake.session_ticket_age_add",
        "handshake.session_ticket_lifetime_hint",
        "handshake.session_ticket_nonce",
        "handshake.sig",
        "handshake.sig_hash_alg",
        "handshake.version",
        "handshake.yc",
        "handshake.ys",
        "heartbeat_message.type",
        "record_size_limit",
        "sct.sct_logid",
        "sct.sct_signature",
        "sct.sct_timestamp",
        "sct.sct_version",
    ]
)

# Implied by what is compared: lengths of what is compared whole, parts of it, and texts about it.
_IMPLIED = re.compile(
    r"tls\.(?:handshake\.(?:type|length|random_time|random_bytes|sig_hash_hash|sig_hash_sig|verify_data|(?:ja3|ja3s|ja4)_(?:full|r)"
    r"|fragment.*|reassembled.*|extension\.data|extensions\.psk\.binders)|.*(?:_|\.)len(?:gth)?|.*_count)$"
)


# -- tshark's side


def _by_tshark(
    pcap: Path, keylog: Path | None, streams: Mapping[int, Stream], uncompared: Counter[str], *, timeout: float
) -> dict[int, Sides]:
    options: list[str | Path] = ["-o", f"tls.keylog_file:{keylog}"] if keylog else []
    options += ["-o", "tcp.reassemble_out_of_order:TRUE"]
    for port in sorted({stream.server_port for stream in streams.values() if _begins_with_tls(stream)}):
        options += ["-d", f"tcp.port=={port},tls"]
    done = run("tshark", "-n", "-r", pcap, *options, "-T", "pdml", "-J", "tcp tls", timeout=timeout).check()
    found: dict[int, Sides] = {}
    for packet in ET.fromstring(done.stdout).iter("packet"):
        tcp = packet.find("proto[@name='tcp']")
        if tcp is None:
            continue
        number = int(_shown(tcp, "tcp.stream"))
        client = streams[number].client
        sender = Side.CLIENT if _shown(tcp, "tcp.srcport") == client[1] else Side.SERVER
        for tls in packet.iter("proto"):
            if tls.get("name") == "tls":
                sides = found.setdefault(number, {side: [] for side in Side})
                for record in tls.iter("field"):
                    if record.get("name") == "tls.record":
                        sides[sender] += _record(record, uncompared)
    return found


def _begins_with_tls(stream: Stream) -> bool:
    first = next((data for side, data in stream.chunks if side is Side.CLIENT), b"")
    return stream.began_at_once and bool(re.match(rb"[\x14-\x18]\x03[\x00-\x04]|[\x80-\x8f].\x01[\x00\x03]", first))


def _record(record: ET.Element, uncompared: Counter[str]) -> Iterator[Read]:
    length = int(_shown(record, "tls.record.length"))
    if record.find("field[@name='tls.handshake.cipher_spec_len']") is not None:
        yield Read("handshake", "client_hello", 2 + length, _values(record, uncompared))  # in SSLv2 form
    for one in record.iter("field"):
        match one.get("name"):
            case "tls.change_cipher_spec":
                yield Read("change_cipher_spec", "change_cipher_spec", 1)
            case "tls.heartbeat_message":
                yield Read("heartbeat", "heartbeat", length, _values(one, uncompared))
            case "tls.alert_message":
                opened = one.find("field[@name='tls.alert_message.desc']") is not None
                if opened:
                    yield Read("alert", "alert", 2, _values(one, uncompared))
                else:
                    yield Read("alert", "encrypted", length)
            case "tls.handshake":
                kind = one.find("field[@name='tls.handshake.type']")
                if kind is not None:
                    name = m.message_type(Content.HANDSHAKE, int(kind.get("value", "0"), 16), b"")
                    values = _values(one, uncompared)
                    if name == "client_hello":
                        values.setdefault("tls.handshake.ja4", [_ja4(one)])
                    if values.get("tls.handshake.random") == [m.HELLO_RETRY_REQUEST_RANDOM.hex()]:
                        name = "hello_retry_request"
                    yield Read("handshake", name, 4 + int(_shown(one, "tls.handshake.length")), values)
                elif "Encrypted" in (one.get("showname") or one.get("show") or ""):
                    yield Read("handshake", "encrypted", length)


def _values(message: ET.Element, uncompared: Counter[str]) -> Values:
    values: Values = {}
    for one in message.iter("field"):
        name, value = one.get("name", ""), one.get("value", "")
        if name in {"tls.handshake.ja3", "tls.handshake.ja3s", "tls.handshake.ja4"}:
            value = one.get("show", "")
        if name in COMPARED:
            if value:
                values.setdefault(name, []).append(value)
        elif value and name.startswith("tls.") and not _IMPLIED.match(name):
            uncompared[name] += 1
    return values


_JA4_VERSIONS = {0x0304: "13", 0x0303: "12", 0x0302: "11", 0x0301: "10", 0x0300: "s3"}


def _ja4(hello: ET.Element) -> str:
    """JA4 put together from what tshark dissected, for a tshark that has none of its own (it came with 4.2).

    https://github.com/FoxIO-LLC/ja4/blob/main/technical_details/JA4.md
    """

    def numbers(of: ET.Element, name: str) -> list[int]:
        found = (int(one.get("value") or "0", 16) for one in of.iter("field") if one.get("name") == f"tls.{name}")
        return [number for number in found if number & 0x0F0F != 0x0A0A or number >> 8 != number & 0xFF]

    def digest(text: str) -> str:
        return sha256(text.encode()).hexdigest()[:12] if text else "0" * 12

    suites = numbers(hello, "handshake.ciphersuite")
    codes = numbers(hello, "handshake.extension.type")
    versions = numbers(hello, "handshake.extensions.supported_version") or numbers(hello, "handshake.version")
    alpn = next((one for one in hello.iter("field") if one.get("name") == "tls.handshake.extensions_alpn_str"), None)
    first = bytes.fromhex(alpn.get("value", "")) if alpn is not None else b""
    ends = (first[:1] + first[-1:]).decode("latin-1") or "00"
    if not (ends.isascii() and ends.isalnum()):
        ends = first.hex()[0] + first.hex()[-1]
    schemes: list[int] = []
    for extension in hello.iter("field"):
        kind = extension.find("field[@name='tls.handshake.extension.type']")
        if kind is not None and kind.get("value") == "000d":
            schemes = numbers(extension, "handshake.sig_hash_alg")
    named = "d" if 0 in codes else "i"
    head = f"t{_JA4_VERSIONS.get(max(versions), '00')}{named}{min(len(suites), 99):02}{min(len(codes), 99):02}{ends}"
    listed = ",".join(f"{code:04x}" for code in sorted(codes) if code not in {0, 16})
    signed = ",".join(f"{scheme:04x}" for scheme in schemes)
    hashed = digest(",".join(f"{suite:04x}" for suite in sorted(suites)))
    return f"{head}_{hashed}_{digest(f'{listed}_{signed}' if signed else listed)}"


def _shown(element: ET.Element, name: str) -> str:
    found = element.find(f".//field[@name='{name}']")
    assert found is not None, f"tshark printed no {name}"
    return found.get("show", "")


# -- like with like


def _unlike(stream: int, side: Side, theirs: Sequence[Read], ours: Sequence[Read]) -> Iterator[Difference]:
    their_types = [(read.content, read.type, read.length) for read in theirs]
    our_types = [(read.content, read.type, read.length) for read in ours]
    if _starts_again(theirs, ours):
        ours, our_types = ours[: len(theirs)], our_types[: len(theirs)]
    if their_types != our_types:
        for number, (one, other) in enumerate(zip_longest(their_types, our_types)):
            if one != other:
                yield Difference(stream, side.value, number, "message", _listed(one), _listed(other))
                return
    for number, (one, other) in enumerate(zip(theirs, ours, strict=True)):
        for name in sorted(one.values.keys() | {name for name, listed in other.values.items() if listed}):
            said, read = one.values.get(name, []), other.values.get(name, [])
            if said != read and not any(excuse.covers(name, one) for excuse in EXCUSES):
                yield Difference(stream, side.value, number, f"{one.type} {name}", _short(said), _short(read))


def _starts_again(theirs: Sequence[Read], ours: Sequence[Read]) -> bool:
    """tshark 4.0 takes the Finished of a client that authenticates later for that of the handshake (RFC 8446 4.6.2),
    starts again from the first application secret, and so opens nothing of what that client says after it.
    """
    types = [read.type for read in theirs]
    return types.count("finished") > 1 and types[-1] == "finished" and "client_key_exchange" not in types


class Excuse(NamedTuple):
    """Why a difference is no fault of ours, and which: by the field's name and what tshark read of the message."""

    why: str
    covers: Callable[[str, Read], bool]


EXCUSES = (
    Excuse(
        "tshark looks into compressed certificates for the algorithms alone that it was built with",
        lambda name, theirs: (
            theirs.type == "compressed_certificate"
            and not name.startswith("tls.compress_certificate.")
            and "tls.handshake.certificate" not in theirs.values
        ),
    ),
    Excuse("tshark 4.0 shows nothing of what is in a KeyUpdate", lambda _, theirs: theirs.type == "key_update"),
    Excuse(
        "tshark 4.0 does not read the key exchanges of DHE_PSK and ECDHE_PSK",
        lambda _, theirs: theirs.type in {"server_key_exchange", "client_key_exchange"} and not theirs.values,
    ),
    Excuse(
        "tshark 4.0 knows application settings by the number of the draft alone",
        lambda name, theirs: name.endswith("_alps_alpn_str") and name not in theirs.values,
    ),
)


def _listed(read: tuple[str, str, int] | None) -> str:
    return "nothing more" if read is None else f"{read[1]} ({read[0]}, {read[2]} bytes)"


def _short(values: Sequence[str]) -> str:
    shown = [
        one if len(one) <= 64 else f"{sha256(bytes.fromhex(one)).hexdigest()} ({len(one) // 2} bytes)" for one in values
    ]
    return "[" + ", ".join(shown) + "]"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--keylog", type=Path)
    parser.add_argument("--timeout", type=float, default=600)
    given = parser.parse_args()
    found = comparison(given.file, given.keylog, timeout=given.timeout)
    count = sum(found.messages.values())
    lines = [str(difference) for difference in found.differences]
    lines.append(f"{len(found.messages)} connections, {count} messages, {len(lines)} differences")
    if found.uncompared:
        lines.append("fields of tshark that nothing was held against: " + ", ".join(sorted(found.uncompared)))
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 1 if found.differences else 0


if __name__ == "__main__":
    sys.exit(main())
