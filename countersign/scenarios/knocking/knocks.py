"""What a client can be that knocks at a server: what certificate it shows, what it speaks, and how its hello comes.

Each client's recipe of the CA's catalogue is one knock; a server that asks for certificates has to take the right ones
and no others. The rest are about the hello, and most change no byte of a handshake message, for then client and server
would disagree about the transcript and could finish no handshake: what is odd is the names in the hello, its groups,
its size, and the records that it comes in, of which RFC 8446 5.1 leaves the client its choice. Where a hello goes out
that is not the one that was made, its answer is all there is to be judged (``another``).
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import TYPE_CHECKING

from countersign.ca.recipes import catalogue
from countersign.errors import UserError
from countersign.findings.probing.handshaking import PLAINLY, Manner
from countersign.recorder.wire.events import Side
from countersign.recorder.wire.extensions import (
    KeyShare,
    KeyShareEntry,
    SignatureAlgorithms,
    SupportedGroups,
    SupportedVersions,
    UnknownExtension,
)
from countersign.recorder.wire.messages import ClientHello, DecodeContext, decode_message
from countersign.recorder.wire.records import HANDSHAKE
from countersign.scenarios.knocking.speaking import speaking
from countersign.scenarios.model import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from countersign.ca.recipes import Recipe
    from countersign.recorder.wire.extensions import Extension
    from countersign.scenarios.expect import Right

ELSEWHERE = "nobody.invalid"
"""A server name that is nobody's (RFC 6761 6.4)."""

_HEADER = 5
_RANDOM = slice(11, 43)  # of the hello in its record: header, type, length, version
_SSL3 = 0x0300
_TO_COME = 0x0305
_UNHEARD_OF = 0xFACE
_MANY_PROTOCOLS = tuple(f"x-countersign-{number:02}-{'x' * 40}" for number in range(28))


@dataclass(frozen=True, slots=True, kw_only=True)
class Knock:
    """One. ``right`` is what a right server does, by the ``rfc``. ``recipe`` makes the certificate that is shown where
    one is asked for; without, it is a right one. ``name`` is the server name in the hello, empty for none; None: the
    server's own. ``needs`` is the knock that has to be accepted for this one to say anything.
    """

    id: str
    family: str
    title: str
    right: Right
    rfc: str
    recipe: Recipe | None = None
    name: str | None = None
    manner: Manner = PLAINLY
    needs: str | None = None


def _records(size: int) -> Manner:
    """The hello in records of so many bytes, all sent at once (RFC 8446 5.1: messages may be fragmented)."""

    def cut(data: bytes) -> Sequence[bytes]:
        head, body = data[:3], data[_HEADER:]
        pieces = (body[at : at + size] for at in range(0, len(body), size))
        return [b"".join(head + len(piece).to_bytes(2, "big") + piece for piece in pieces)]

    return Manner(cut=cut)


def _segments(data: bytes) -> Sequence[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def _newer_record(data: bytes) -> Sequence[bytes]:
    return [data[:1] + b"\x03\x03" + data[3:]]


def _another(change: Callable[[ClientHello], ClientHello]) -> Manner:
    """Another hello than the one that was made, with the same random."""

    def cut(data: bytes) -> Sequence[bytes]:
        hello = decode_message(data[_HEADER:], DecodeContext(None, None, Side.CLIENT)).value
        assert isinstance(hello, ClientHello)
        message = change(hello).build()
        return [data[:3] + len(message).to_bytes(2, "big") + message]

    return Manner(cut=cut, another=True)


def _ssl3(data: bytes) -> Sequence[bytes]:
    """A hello as it was in 1996 (RFC 6101 5.6.1.2): no extensions, the suites of the time."""
    hello = ClientHello(_SSL3, data[_RANDOM], b"", (0x0005, 0x0004, 0x000A, 0x0035, 0x002F, 0x00FF), (0,))
    message = hello.build()
    return [b"\x16" + _SSL3.to_bytes(2, "big") + len(message).to_bytes(2, "big") + message]


def _greased(hello: ClientHello) -> ClientHello:
    """RFC 8701 3.1: values that nobody has, in each place that has a list."""
    suite, first, last, group, version, scheme = (0x0A0A + 0x1010 * number for number in range(6))
    inside: list[Extension] = []
    for each in hello.extensions or ():
        match each:
            case SupportedGroups():
                inside.append(replace(each, groups=(group, *each.groups)))
            case KeyShare():
                inside.append(replace(each, entries=(KeyShareEntry(group, b"\0"), *each.entries)))
            case SupportedVersions():
                inside.append(replace(each, versions=(version, *each.versions)))
            case SignatureAlgorithms():
                inside.append(replace(each, schemes=(scheme, *each.schemes)))
            case _:
                inside.append(each)
    extensions = (UnknownExtension(first, b""), *inside, UnknownExtension(last, b"\0"))
    return replace(hello, cipher_suites=(suite, *hello.cipher_suites), extensions=extensions)


def _of_a_version_to_come(hello: ClientHello) -> ClientHello:
    extensions = tuple(
        replace(each, versions=(_TO_COME, *each.versions)) if isinstance(each, SupportedVersions) else each
        for each in hello.extensions or ()
    )
    return replace(hello, extensions=extensions)


def _with_a_large_one(hello: ClientHello) -> ClientHello:
    return replace(hello, extensions=(*(hello.extensions or ()), UnknownExtension(_UNHEARD_OF, bytes(4096))))


def _twice(hello: ClientHello) -> ClientHello:
    again = (each for each in hello.extensions or () if isinstance(each, SupportedGroups))
    return replace(hello, extensions=(*(hello.extensions or ()), *again))


def _other_way_round(hello: ClientHello) -> ClientHello:
    return replace(hello, extensions=tuple(reversed(hello.extensions or ())))


def _unheard_of_suites(hello: ClientHello) -> ClientHello:
    return replace(hello, cipher_suites=(*range(0xFA00, 0xFA00 + 200), *hello.cipher_suites))


def _handshake_records(data: bytes) -> Sequence[bytes]:
    """Handshake messages in clear in records of one byte each; from ChangeCipherSpec on, records as they are."""
    found, rest, sealed = [], data, False
    while rest:
        size = _HEADER + int.from_bytes(rest[3:_HEADER], "big")
        record, rest = rest[:size], rest[size:]
        sealed = sealed or record[0] != HANDSHAKE
        single = (record[:3] + b"\0\1" + record[at : at + 1] for at in range(_HEADER, size))
        found.append(record if sealed else b"".join(single))
    return [b"".join(found)]


def _speaking(version: ssl.TLSVersion) -> Manner:
    return Manner(versions=(version, version))


def _about_certificates() -> Iterable[Knock]:
    for recipe in catalogue().values():
        if recipe.role == "client":
            right: Right = "refuse" if recipe.wrong else "accept"
            yield Knock(id=recipe.id, family="mtls", title=recipe.title, right=right, rfc=recipe.rfc, recipe=recipe)


_ABOUT_HELLOS = (
    Knock(
        id="hello-for-another-name",
        family="names",
        title="The hello asks for a name that is not the server's",
        right="either",
        rfc="RFC 6066 3: it may send unrecognized_name, or go on",
        name=ELSEWHERE,
    ),
    Knock(
        id="hello-without-a-name",
        family="names",
        title="The hello asks for no name",
        right="either",
        rfc="RFC 8446 9.2: it may want one",
        name="",
    ),
    Knock(
        id="hello-of-ssl-3",
        family="protocol",
        title="The client speaks SSL 3.0 alone",
        right="refuse",
        rfc="RFC 7568 3",
        manner=Manner(cut=_ssl3, another=True),
    ),
    Knock(
        id="hello-of-tls-1.0",
        family="protocol",
        title="The client speaks TLS 1.0 alone",
        right="refuse",
        rfc="RFC 8996 4",
        manner=_speaking(ssl.TLSVersion.TLSv1),
    ),
    Knock(
        id="hello-of-tls-1.1",
        family="protocol",
        title="The client speaks TLS 1.1 alone",
        right="refuse",
        rfc="RFC 8996 5",
        manner=_speaking(ssl.TLSVersion.TLSv1_1),
    ),
    Knock(
        id="hello-of-tls-1.2",
        family="protocol",
        title="The client speaks TLS 1.2 alone",
        right="either",
        rfc="RFC 9325 3.1.1: servers should have it, new ones need not",
        manner=_speaking(ssl.TLSVersion.TLSv1_2),
    ),
    Knock(
        id="hello-of-tls-1.3",
        family="protocol",
        title="The client speaks TLS 1.3 alone",
        right="either",
        rfc="RFC 9325 3.1.1: servers should have it",
        manner=_speaking(ssl.TLSVersion.TLSv1_3),
    ),
    Knock(
        id="hello-as-large-as-post-quantum",
        family="odd-but-valid",
        title="The hello is as large as one with a post-quantum key share, and needs two segments",
        right="accept",
        rfc="RFC 7301 3.1: protocols that the server does not know do not keep it from one that it does",
        manner=Manner(alpn=(*_MANY_PROTOCOLS, "http/1.1")),
    ),
    Knock(
        id="hello-with-a-post-quantum-share",
        family="odd-but-valid",
        title="The hello has a key share of X25519MLKEM768, 1216 bytes, before one of X25519",
        right="accept",
        rfc="RFC 8446 4.2.7, 4.2.8: groups that the server does not know are passed over",
        manner=Manner(speaks=speaking("*X25519MLKEM768:*X25519:P-256")),
    ),
    Knock(
        id="hello-with-a-post-quantum-share-alone",
        family="odd-but-valid",
        title="The only key share is one of X25519MLKEM768; X25519 and P-256 are there to be asked for",
        right="accept",
        rfc="RFC 8446 4.1.4: the server asks for a share of a group that it has",
        manner=Manner(speaks=speaking("*X25519MLKEM768:X25519:P-256")),
    ),
    Knock(
        id="hello-with-no-group-but-a-post-quantum-one",
        family="odd-but-valid",
        title="The client has no group but X25519MLKEM768",
        right="either",
        rfc="RFC 8446 4.1.1: with no group in common it sends handshake_failure",
        manner=Manner(speaks=speaking("*X25519MLKEM768")),
    ),
    Knock(
        id="hello-without-compatibility",
        family="odd-but-valid",
        title="The hello has no session id, as one of TLS 1.3 without thought for old middleboxes",
        right="accept",
        rfc="RFC 8446 4.1.2, D.4: it may be empty",
        manner=Manner(without=ssl.OP_ENABLE_MIDDLEBOX_COMPAT),
    ),
    Knock(
        id="hello-with-grease",
        family="odd-but-valid",
        title="The hello has values that nobody has in each of its lists, as browsers' have",
        right="accept",
        rfc="RFC 8701 3.1",
        manner=_another(_greased),
    ),
    Knock(
        id="hello-with-a-large-unknown-extension",
        family="odd-but-valid",
        title="The hello has an extension that nobody has, of 4 KB",
        right="accept",
        rfc="RFC 8446 4.2: unrecognized extensions are ignored",
        manner=_another(_with_a_large_one),
    ),
    Knock(
        id="hello-with-extensions-the-other-way-round",
        family="odd-but-valid",
        title="The extensions of the hello come in an order that nobody has",
        right="accept",
        rfc="RFC 8446 4.2: in any order",
        manner=_another(_other_way_round),
    ),
    Knock(
        id="hello-with-many-unknown-suites",
        family="odd-but-valid",
        title="Before the suites that the server may know there are 200 that nobody has",
        right="accept",
        rfc="RFC 8446 4.1.2: suites that are not recognized are ignored",
        manner=_another(_unheard_of_suites),
    ),
    Knock(
        id="hello-of-a-version-to-come",
        family="odd-but-valid",
        title="The first version in the hello is one after TLS 1.3",
        right="accept",
        rfc="RFC 8446 4.2.1: unknown versions are ignored",
        manner=_another(_of_a_version_to_come),
    ),
    Knock(
        id="hello-with-an-extension-twice",
        family="protocol",
        title="The groups of the hello are there twice",
        right="refuse",
        rfc="RFC 8446 4.2: no more than one of each type",
        manner=_another(_twice),
    ),
    Knock(
        id="flight-in-one-byte-records",
        family="odd-but-valid",
        title="In TLS 1.2, hello, certificate and key exchange come in records of one byte each",
        right="accept",
        rfc="RFC 5246 6.2.1: messages may be fragmented across records",
        manner=replace(_speaking(ssl.TLSVersion.TLSv1_2), cut=_handshake_records, cut_on=_handshake_records),
        needs="hello-of-tls-1.2",
    ),
    Knock(
        id="hello-in-one-byte-records",
        family="odd-but-valid",
        title="The hello comes in records of one byte each",
        right="accept",
        rfc="RFC 8446 5.1: messages may be fragmented across records",
        manner=_records(1),
    ),
    Knock(
        id="hello-in-short-records",
        family="odd-but-valid",
        title="The hello comes in records of a hundred bytes",
        right="accept",
        rfc="RFC 8446 5.1: messages may be fragmented across records",
        manner=_records(100),
    ),
    Knock(
        id="hello-byte-by-byte",
        family="odd-but-valid",
        title="The hello comes in segments of one byte each",
        right="accept",
        rfc="RFC 9293 3.4: TCP keeps no boundaries",
        manner=Manner(cut=_segments),
    ),
    Knock(
        id="hello-in-a-record-of-tls-1.2",
        family="odd-but-valid",
        title="The record of the hello says TLS 1.2, where most say 1.0",
        right="accept",
        rfc="RFC 8446 5.1: legacy_record_version is ignored",
        manner=Manner(cut=_newer_record),
    ),
    Knock(
        id="hello-with-unknown-protocols-alone",
        family="odd-but-valid",
        title="The hello offers application protocols that nobody has",
        right="either",
        rfc="RFC 7301 3.2: it sends no_application_protocol, or speaks what it always does",
        manner=Manner(alpn=_MANY_PROTOCOLS[:1]),
    ),
)

KNOCKS: Mapping[str, Knock] = MappingProxyType({each.id: each for each in (*_about_certificates(), *_ABOUT_HELLOS)})
"""All, by their ids."""


def chosen(names: Iterable[str]) -> list[Knock]:
    """Those of these ids or patterns (``client-*``), in the order of the catalogue; all, without any.

    Raises :class:`UserError` for one that fits nothing.
    """
    patterns = list(names)
    for pattern in patterns:
        if not any(fnmatchcase(each, pattern) for each in KNOCKS):
            raise UserError(f"there is no knock {pattern!r}{nearest(pattern, KNOCKS)}")
    return [
        each for each in KNOCKS.values() if not patterns or any(fnmatchcase(each.id, pattern) for pattern in patterns)
    ]
