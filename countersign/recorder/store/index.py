"""What a list or a filter asks of a recording, found without decoding all of it.

A proxy under load hands over thousands of recordings a second, so here is read only: the ClientHello's fingerprint, the
version that the ServerHello chose, and the hashes of the certificates. Everything else is read when someone looks.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from countersign.recorder.certificates import read_certificate
from countersign.recorder.recording import Leg, LegRole, Recording
from countersign.recorder.store.blob import shown_certificates
from countersign.recorder.wire.codes import (
    CERTIFICATE,
    CLIENT_HELLO,
    COMPRESSED_CERTIFICATE,
    SERVER_HELLO,
    SUPPORTED_VERSIONS,
)
from countersign.recorder.wire.events import Content, Side
from countersign.recorder.wire.names import version_name
from countersign.recorder.wire.reading import summarize_client_hello

if TYPE_CHECKING:
    from collections.abc import Iterable

_LONGEST_NAMES = 16 << 10
_SIDES = {Side.CLIENT: b"c", Side.SERVER: b"s"}
_ROLES = {LegRole.CLIENT: b"C", LegRole.SERVER: b"S", LegRole.THROUGH: b"T"}


class Index(NamedTuple):
    """``version`` and ``ja4`` are of the conversation with the client, or where there was none of the other one.

    ``digest`` names the chain: which side of which leg showed which certificates; empty when there were none.
    """

    version: str | None
    ja4: str | None
    digest: bytes
    leaf_client: bytes | None
    leaf_target: bytes | None


def index_of(recording: Recording) -> Index:
    """The index of a recording."""
    version = ja4 = leaf_client = leaf_target = None
    shown: list[bytes] = []
    for leg in sorted(recording.legs, key=_client_first):
        if version is None or ja4 is None:
            leg_version, leg_ja4 = _hellos(leg)
            version, ja4 = version or leg_version, ja4 or leg_ja4
        for message in leg.messages:
            if message.code not in {CERTIFICATE, COMPRESSED_CERTIFICATE}:
                continue
            digests = [digest for digest, _ in shown_certificates(message)]
            if not digests:
                continue
            shown += (_ROLES[leg.role], _SIDES[message.sender], *digests)
            if message.sender is Side.SERVER:
                if leg.role is LegRole.CLIENT:
                    leaf_client = leaf_client or digests[0]
                else:
                    leaf_target = leaf_target or digests[0]
    digest = sha256(b"".join(shown)).digest() if shown else b""
    return Index(version, ja4, digest, leaf_client, leaf_target)


def names_of(certificates: Iterable[bytes]) -> str:
    """The names in these certificates (DER), in lower case, one a line, for searching."""
    names: dict[str, None] = {}
    for der in certificates:
        facts = read_certificate(der)
        for name in (facts.subject, facts.issuer, *facts.san):
            if name:
                names[name.lower()] = None
    return "\n".join(names)[:_LONGEST_NAMES]


def _client_first(leg: Leg) -> bool:
    return leg.role is not LegRole.CLIENT


def _hellos(leg: Leg) -> tuple[str | None, str | None]:
    version = ja4 = None
    for message in leg.messages:
        if message.content is not Content.HANDSHAKE:
            continue
        if message.code == CLIENT_HELLO and ja4 is None:
            ja4 = summarize_client_hello(message.form).ja4
        elif message.code == SERVER_HELLO:
            version = _chosen_version(message.form) or version
            break
    return version, ja4


def _chosen_version(raw: bytes) -> str | None:
    """RFC 8446 4.1.3 and 4.2.1: the version that supported_versions names, else the one in the body."""
    if len(raw) < 39:
        return None
    chosen = raw[4:6]
    at = 39 + raw[38] + 3  # past session id, cipher suite and compression method
    end = min(len(raw), at + 2 + int.from_bytes(raw[at : at + 2], "big"))
    at += 2
    while at + 4 <= end:
        kind, size = int.from_bytes(raw[at : at + 2], "big"), int.from_bytes(raw[at + 2 : at + 4], "big")
        if kind == SUPPORTED_VERSIONS and size == 2 and at + 6 <= end:
            chosen = raw[at + 4 : at + 6]
        at += 4 + size
    return version_name(int.from_bytes(chosen, "big"))
