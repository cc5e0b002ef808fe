"""What a client can be that knocks at a server: what certificate it shows, what it speaks, and how its hello comes.

Each client's recipe of the CA's catalogue is one knock; a server that asks for certificates has to take the right ones
and no others. The rest are about the hello. None changes a byte of the handshake messages themselves, for then client
and server would disagree about the transcript and no right server could accept; what is odd is the names in the hello,
its size, and the records that it comes in, of which RFC 8446 5.1 leaves the client its choice.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import TYPE_CHECKING

from countersign.ca.recipes import catalogue
from countersign.errors import UserError
from countersign.findings.probing.handshaking import PLAINLY, Manner
from countersign.scenarios.model import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from countersign.ca.recipes import Recipe
    from countersign.scenarios.expect import Right

ELSEWHERE = "nobody.invalid"
"""A server name that is nobody's (RFC 6761 6.4)."""

_HEADER = 5
_MANY_PROTOCOLS = tuple(f"x-countersign-{number:02}-{'x' * 40}" for number in range(28))


@dataclass(frozen=True, slots=True, kw_only=True)
class Knock:
    """One. ``right`` is what a right server does, by the ``rfc``. ``recipe`` makes the certificate that is shown where
    one is asked for; without, it is a right one. ``name`` is the server name in the hello, empty for none; None: the
    server's own.
    """

    id: str
    family: str
    title: str
    right: Right
    rfc: str
    recipe: Recipe | None = None
    name: str | None = None
    manner: Manner = PLAINLY


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
