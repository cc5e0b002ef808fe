"""What framing and keys hang on in a hello, stepped over to and not read: a tenth of the work of reading it.

Both hellos of both legs of every connection come by here. Only one that is whole and well-formed as far as it is looked
at is skimmed; of any other there is None, and whoever asked has it read (:func:`~.messages.glance`).
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from countersign.recorder.wire import names
from countersign.recorder.wire.codes import (
    CLIENT_HELLO,
    EARLY_DATA,
    ENCRYPT_THEN_MAC,
    SERVER_HELLO,
    SUPPORTED_VERSIONS,
)
from countersign.recorder.wire.messages import HELLO_RETRY_REQUEST_RANDOM

_OF_CLIENT: Final = frozenset({EARLY_DATA, SUPPORTED_VERSIONS})
_OF_SERVER: Final = frozenset({ENCRYPT_THEN_MAC, SUPPORTED_VERSIONS})
_BEFORE_SESSION_ID: Final = 38  # header, version, random
_LONGEST_SESSION_ID: Final = 32


class SkimmedClientHello(NamedTuple):
    """What a ClientHello says that framing and keys depend on."""

    random: bytes
    suites: tuple[int, ...]
    tls13: bool
    early_data: bool


class SkimmedServerHello(NamedTuple):
    """The same of a ServerHello; ``version`` is the one that was chosen."""

    random: bytes
    version: int
    suite: int
    compression: int
    encrypt_then_mac: bool


def skim_client_hello(raw: bytes) -> SkimmedClientHello | None:
    """RFC 8446 4.1.2, header included."""
    at = _behind_session_id(raw, CLIENT_HELLO)
    if at is None or at + 2 > len(raw):
        return None
    size = raw[at] << 8 | raw[at + 1]
    first, at = at + 2, at + 2 + size
    if size < 2 or size & 1 or at >= len(raw) or not raw[at]:  # cipher suites, then compression methods
        return None
    found = _extensions(raw, at + 1 + raw[at], _OF_CLIENT)
    if found is None:
        return None
    tls13 = False
    versions = found.get(SUPPORTED_VERSIONS)
    if versions is not None:  # RFC 8446 4.2.1
        if len(versions) < 3 or versions[0] != len(versions) - 1 or versions[0] & 1:
            return None
        tls13 = any(map(names.is_tls13, struct.unpack(f">{versions[0] // 2}H", versions[1:])))
    early_data = found.get(EARLY_DATA)
    if early_data:  # RFC 8446 4.2.10: in a ClientHello it is empty
        return None
    suites = struct.unpack_from(f">{size // 2}H", raw, first)
    return SkimmedClientHello(raw[6:_BEFORE_SESSION_ID], suites, tls13, early_data is not None)


def skim_server_hello(raw: bytes) -> SkimmedServerHello | None:
    """RFC 8446 4.1.3, header included; None for a HelloRetryRequest too."""
    at = _behind_session_id(raw, SERVER_HELLO)
    if at is None or at + 3 > len(raw) or raw[6:_BEFORE_SESSION_ID] == HELLO_RETRY_REQUEST_RANDOM:
        return None
    found = _extensions(raw, at + 3, _OF_SERVER)
    if found is None:
        return None
    chosen = found.get(SUPPORTED_VERSIONS, raw[4:6])
    encrypt_then_mac = found.get(ENCRYPT_THEN_MAC)
    if len(chosen) != 2 or encrypt_then_mac:  # RFC 7366 2: it is empty
        return None
    version, suite = chosen[0] << 8 | chosen[1], raw[at] << 8 | raw[at + 1]
    return SkimmedServerHello(raw[6:_BEFORE_SESSION_ID], version, suite, raw[at + 2], encrypt_then_mac is not None)


def _behind_session_id(raw: bytes, code: int) -> int | None:
    """Where a whole hello goes on behind its session id."""
    if len(raw) <= _BEFORE_SESSION_ID or raw[0] != code or int.from_bytes(raw[1:4]) != len(raw) - 4:
        return None
    size = raw[_BEFORE_SESSION_ID]
    return None if size > _LONGEST_SESSION_ID else _BEFORE_SESSION_ID + 1 + size


def _extensions(raw: bytes, at: int, wanted: frozenset[int]) -> dict[int, bytes] | None:
    """Those of the extensions from ``at`` on that are wanted; None where the block does not end with the message, or
    one of them comes twice (RFC 8446 4.2).
    """
    end, found = len(raw), dict[int, bytes]()
    if at == end:  # RFC 5246 7.4.1.2: there need not be any
        return found
    if at + 2 > end or at + 2 + (raw[at] << 8 | raw[at + 1]) != end:
        return None
    at += 2
    while at + 4 <= end:
        code = raw[at] << 8 | raw[at + 1]
        start = at + 4
        at = start + (raw[at + 2] << 8 | raw[at + 3])
        if code in wanted:
            if code in found:
                return None
            found[code] = raw[start:at]
    return found if at == end else None
