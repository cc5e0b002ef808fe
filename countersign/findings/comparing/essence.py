"""What of a message is more than noise.

Two handshakes of the same two programs differ in every random, key share, ticket and signature. :func:`essence` is a
message's fields without these: values that are new each time are left out, and where it says something that there is
one at all (a session id, a ticket, a cookie), that is what is kept. GREASE (RFC 8701) is one thing, whichever value was
drawn. Lists of numbers stay lists, so that order can be told from content.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Value = str | tuple[str, ...]

GREASE = "GREASE"

_DRAWN_ANEW = {
    "random",
    "verify_data",
    "signature",
    "ticket_age_add",
    "ticket_nonce",
    "obfuscated_ticket_age",
    "key_exchange",
    "public",
    "ecdh_yc",
    "dh_yc",
    "dh_ys",
    "srp_a",
    "srp_b",
    "srp_s",
    "encrypted_pre_master_secret",
    "binders",
    "padding",
    "payload",
    "enc",
    "compressed",
    "uncompressed_length",
    "response",  # an OCSP answer: compared by its own words in hellos
    "truncated",
    "sealed",
}
_THERE_OR_NOT = {"session_id", "ticket", "identities", "cookie", "renegotiated_connection"}
_INSTEAD = ("group", "host_name", "text", "name")  # what a struct in a list is called by
_IS_GREASE = re.compile(r"0x([0-9a-f])a\1a")
_ALSO_GREASE = re.compile(r"0x[0-9a-f]a")  # psk_key_exchange_modes (RFC 8701 2)


def essence(fields: Mapping[str, Any], prefix: str) -> dict[str, Value]:
    """Path -> value, in the message's own order."""
    return dict(_walk(fields, prefix))


def _walk(fields: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Value]]:
    for name, value in fields.items():
        path = f"{prefix}.{name}"
        if name in _DRAWN_ANEW or value is None:
            continue
        if name in _THERE_OR_NOT:
            yield path, "present" if value else "empty"
        elif name == "extensions" and isinstance(value, list):
            yield path, tuple(extension_name(one) for one in value)
            for one in value:
                inner = {key: each for key, each in one.items() if key not in {"type", "code", "grease"}}
                if not one.get("grease"):
                    yield from _walk(inner, f"{path}.{one['type']}")
        elif isinstance(value, dict):
            yield from _walk(value, path)
        elif isinstance(value, list):
            yield path, tuple(_word(one, name) for one in value)
        else:
            yield path, _word(value, name)


def extension_name(extension: Mapping[str, Any]) -> str:
    return GREASE if extension.get("grease") else str(extension["type"])


def _word(value: object, name: str) -> str:
    if isinstance(value, dict):
        for key in _INSTEAD:
            if isinstance(value.get(key), str):
                return _word(value[key], name)
        kept = {key: one for key, one in value.items() if key not in _DRAWN_ANEW}
        return printable(json.dumps(kept, sort_keys=True), limit=300)
    text = "yes" if value is True else "no" if value is False else str(value)
    if _IS_GREASE.fullmatch(text) or (name == "modes" and _ALSO_GREASE.fullmatch(text)):
        return GREASE
    return printable(text, limit=300)
