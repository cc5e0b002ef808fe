"""Hellos that offer one thing at a time, and what the server makes of them.

A ServerHello says yes to what was offered, an alert or a closed connection says no. For groups of TLS 1.3 the hello
offers the group without a key share: a server that has it asks for one with a HelloRetryRequest (RFC 8446 4.1.4), so
the key never has to be made. Suites are found by offering all of them and leaving out what was chosen, until nothing
is; the order in which they come is the server's own, where it has one.
"""

from __future__ import annotations

import os
from time import monotonic
from typing import TYPE_CHECKING

from countersign.findings.probing.reaching import reach
from countersign.recorder.wire import codes, names
from countersign.recorder.wire.events import Content, Message, Side
from countersign.recorder.wire.extensions import (
    Alpn,
    KeyShare,
    PskKeyExchangeModes,
    ServerName,
    ServerNameEntry,
    SignatureAlgorithms,
    SupportedGroups,
    SupportedVersions,
    UnknownExtension,
)
from countersign.recorder.wire.leg import LegDecoder
from countersign.recorder.wire.messages import ClientHello, HelloRetryRequest, ServerHello
from countersign.recorder.wire.names import SSL3, TLS10, TLS11, TLS12, TLS13
from countersign.recorder.wire.reading import read_leg

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from countersign.findings.probing.model import Plan
    from countersign.recorder.wire.extensions import Extension
    from countersign.recorder.wire.reading import LegReading

VERSIONS = (TLS13, TLS12, TLS11, TLS10)
_RENEGOTIATION_SCSV = 0x00FF
_SUITES_13 = tuple(number for number in names.CIPHER_SUITES if number >> 8 == 0x13)
_SUITES_12 = tuple(
    number
    for number, name in names.CIPHER_SUITES.items()
    if number >> 8 != 0x13 and number not in {_RENEGOTIATION_SCSV, 0x5600} and "NULL_WITH_NULL" not in name
)
_GROUPS = (4588, 4587, 4589, 29, 23, 24, 25, 30, 256, 257, 258, 259, 260, 22, 26, 27, 28, 31, 32, 33, 41)
_SCHEMES = (
    0x0403, 0x0503, 0x0603, 0x0807, 0x0808, 0x0809, 0x080A, 0x080B, 0x0804, 0x0805, 0x0806, 0x0401, 0x0501, 0x0601,
    0x081A, 0x081B, 0x081C, 0x0203, 0x0201, 0x0402, 0x0202,
)  # fmt: skip
_LONGEST_ANSWER = 64 * 1024
_FLIGHT = 10  # messages; a server's first has five
_SERVER_HELLO_DONE = 14
_SUITES_AT_ONCE = 120  # some servers close on more


def versions(plan: Plan) -> Iterator[tuple[str, bool]]:
    """Each version with whether the server speaks it, the newest first. SSL 3.0 is asked for as well."""
    for version in (*VERSIONS, SSL3):
        suites = _SUITES_13 if version == TLS13 else _SUITES_12
        answer = _ask(plan, _hello(plan, version, suites[:_SUITES_AT_ONCE], _GROUPS))
        if answer is None and version != TLS13:
            answer = _ask(plan, _hello(plan, version, _COMMON, _GROUPS))
        yield names.version_name(version), _version(answer) == version


def ciphers(plan: Plan, spoken: Sequence[str]) -> Iterator[tuple[str, str]]:
    """``(version, suite)`` in the order in which the server prefers them."""
    for version in VERSIONS:
        if names.version_name(version) not in spoken:
            continue
        for part in _parts(_SUITES_13 if version == TLS13 else _SUITES_12):
            left = list(part)
            while left:
                answer = _ask(plan, _hello(plan, version, left, _GROUPS))
                chosen = answer.cipher_suite if answer is not None and _version(answer) == version else None
                if chosen not in left:
                    break
                left.remove(chosen)
                yield names.version_name(version), names.cipher_suite_name(chosen)


def groups(plan: Plan, spoken: Sequence[str]) -> Iterator[str]:
    """Groups for the key exchange, in our order; below TLS 1.3 only elliptic curves can be told.

    There, an ECDSA certificate has to be on an offered curve as well (RFC 8422 5.1), so that curve is offered behind
    the one that is asked about, and the ServerKeyExchange says which was taken.
    """
    if "TLSv1.3" in spoken:
        for group in _GROUPS:
            if _version(_ask(plan, _hello(plan, TLS13, _SUITES_13, (group,)))) == TLS13:
                yield names.group_name(group)
        return
    suites = [one for one in _SUITES_12 if names.key_exchange(one) in _ELLIPTIC]
    curve = _certificate_curve(_told(plan, _hello(plan, TLS12, suites, _GROUPS)))
    for group in _GROUPS:
        offered = (group,) if curve in {None, group} else (group, curve)
        reading = _told(plan, _hello(plan, TLS12, suites, offered))
        if reading.group == names.group_name(group):
            yield reading.group


def _certificate_curve(reading: LegReading) -> int | None:
    """The group of an elliptic leaf's key."""
    leaf = next((sent.facts.key for sent in reading.certificates), None) or ""
    known = {"EC P-256": 23, "EC P-384": 24, "EC P-521": 25}
    return known.get(leaf)


_ELLIPTIC = {"ECDHE_RSA", "ECDHE_ECDSA"}
_COMMON = (
    0xC02F,
    0xC030,
    0xC02B,
    0xC02C,
    0xC013,
    0xC014,
    0xC009,
    0xC00A,
    0x002F,
    0x0035,
    0x000A,
    0x0005,
    0x0033,
    0x0039,
)


def _parts(suites: Sequence[int]) -> Iterator[Sequence[int]]:
    for at in range(0, len(suites), _SUITES_AT_ONCE):
        yield suites[at : at + _SUITES_AT_ONCE]


def _hello(plan: Plan, version: int, suites: Sequence[int], offered: Sequence[int]) -> bytes:
    """A ClientHello in one record (RFC 8446 5.1: its legacy version is 1.0)."""
    extensions: list[Extension] = []
    if plan.name:
        extensions.append(ServerName((ServerNameEntry(0, plan.name.encode("idna")),)))
    if version > SSL3:
        extensions += [
            SupportedGroups(tuple(offered)),
            UnknownExtension(11, b"\x01\x00"),
            Alpn((b"h2", b"http/1.1")),
        ]
    if version >= TLS12:
        extensions.append(SignatureAlgorithms(_SCHEMES))
    if version == TLS13:
        extensions += [SupportedVersions((TLS13,)), KeyShare(()), PskKeyExchangeModes((1,))]
    session = os.urandom(32) if version == TLS13 else b""
    first = min(version, TLS12)
    extra = () if version == TLS13 else (_RENEGOTIATION_SCSV,)
    hello = ClientHello(first, os.urandom(32), session, (*suites, *extra), (0,), tuple(extensions) or None).build()
    record = TLS10 if version > SSL3 else SSL3
    return b"\x16" + record.to_bytes(2, "big") + len(hello).to_bytes(2, "big") + hello


def _version(answer: ServerHello | HelloRetryRequest | None) -> int | None:
    if answer is None:
        return None
    chosen = next((one for one in answer.extensions or () if one.code == codes.SUPPORTED_VERSIONS), None)
    return getattr(chosen, "selected_version", None) or answer.legacy_version


def _ask(plan: Plan, hello: bytes) -> ServerHello | HelloRetryRequest | None:
    """The server's answer; None for an alert, a closed connection, silence, or what is no answer."""
    values = (one.value for one in _told(plan, hello, enough=1).messages)
    return next((one for one in values if isinstance(one, ServerHello | HelloRetryRequest)), None)


def _told(plan: Plan, hello: bytes, *, enough: int = _FLIGHT) -> LegReading:
    """What the server says to this hello, up to so many messages or to the end of its flight in clear."""
    connection = reach(plan)
    decoder = LegDecoder()
    found: list[Message] = []
    size = 0
    deadline = monotonic() + plan.seconds
    with connection:
        try:
            connection.sendall(hello)
            decoder.receive(Side.CLIENT, hello, 0.0)
            while len(found) < enough and size < _LONGEST_ANSWER and (left := deadline - monotonic()) > 0:
                connection.settimeout(left)
                data = connection.recv(16 * 1024)
                if not data:
                    break
                size += len(data)
                events = decoder.receive(Side.SERVER, data, 0.0)
                found += [event for event in events if isinstance(event, Message)]
                if any(one.content is Content.ALERT or one.code == _SERVER_HELLO_DONE for one in found):
                    break
        except OSError:
            pass
    return read_leg(found)
