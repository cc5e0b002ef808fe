"""What the two legs' messages say otherwise: hellos, the request for a certificate, and whatever else there is.

Versions, suites, groups and protocols that were agreed on are compared as such, once, in :func:`agreed`, whichever
message said them. For the rest each message of one leg is held to the message of the same type, sender and turn of the
other; what the server says in EncryptedExtensions of TLS 1.3 belongs to its hello, where TLS 1.2 has it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from countersign.findings.comparing.essence import Value, essence
from countersign.findings.comparing.model import Difference, Evidence, Weight
from countersign.recorder.wire.events import Content, Side
from countersign.recorder.wire.text import listed, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from countersign.findings.comparing.model import Half
    from countersign.recorder.wire.reading import LegReading, ReadMessage

_NOUNS = {
    "client_hello.cipher_suites": "cipher suites",
    "client_hello.extensions": "extensions",
    "client_hello.compression_methods": "compression methods",
    "client_hello.extensions.supported_versions.versions": "versions",
    "client_hello.extensions.supported_groups.groups": "groups",
    "client_hello.extensions.signature_algorithms.schemes": "signature algorithms",
    "client_hello.extensions.signature_algorithms_cert.schemes": "signature algorithms for certificates",
    "client_hello.extensions.application_layer_protocol_negotiation.protocols": "ALPN protocols",
    "client_hello.extensions.key_share.entries": "key shares",
    "client_hello.extensions.server_name.names": "server names",
    "client_hello.extensions.psk_key_exchange_modes.modes": "PSK modes",
    "client_hello.extensions.ec_point_formats.formats": "point formats",
    "client_hello.extensions.compress_certificate.algorithms": "certificate compressions",
    "server_hello.extensions": "extensions",
    "certificate_request.certificate_authorities": "names of authorities",
    "certificate_request.extensions.certificate_authorities.authorities": "names of authorities",
    "certificate_request.signature_algorithms": "signature algorithms",
    "certificate_request.extensions.signature_algorithms.schemes": "signature algorithms",
    "certificate_request.certificate_types": "certificate types",
}
_VERBS = {"client_hello": "offer", "server_hello": "answer with", "certificate_request": "ask with"}
_ORDER_SAYS_NOTHING = {
    "client_hello.extensions",  # RFC 8446 4.2: any order; Chrome draws one
    "server_hello.extensions",
    "client_hello.extensions.supported_versions.versions",
    "client_hello.extensions.key_share.entries",
    "certificate_request.certificate_authorities",
    "certificate_request.extensions.certificate_authorities.authorities",
    "certificate_request.certificate_types",
    "certificate_request.extensions",
}
_NOTES = {  # what no peer decides by
    "client_hello.session_id",  # RFC 8446 appendix D.4
    "server_hello.session_id",
    "server_hello.compression_method",
    "client_hello.extensions.padding",
    "client_hello.extensions.session_ticket.ticket",
    "new_session_ticket.ticket_lifetime",
    "new_session_ticket.ticket_lifetime_hint",
    "new_session_ticket.extensions",
}
_AGREED = {"supported_versions", "key_share", "pre_shared_key", "application_layer_protocol_negotiation"}
_ELSEWHERE = {"certificate", "compressed_certificate", "alert", "change_cipher_spec", "key_update"}
_SAME_IN = "certificate_request"
_RENAMED = {  # where TLS 1.3 and TLS 1.2 say the same in two places
    "certificate_request.extensions.certificate_authorities.authorities": "certificate_request.certificate_authorities",
    "certificate_request.extensions.signature_algorithms.schemes": "certificate_request.signature_algorithms",
}
_LISTED = 12


def agreed(a: Half, b: Half) -> Iterator[Difference]:
    """What was agreed on: version, suite, group, ALPN, server name, resumption."""
    for field, what in (
        ("version", "the version"),
        ("cipher", "the cipher suite"),
        ("group", "the group"),
        ("alpn", "the ALPN protocol"),
    ):
        one, other = getattr(a.reading, field), getattr(b.reading, field)
        if one == other or not (_answered(a) and _answered(b)):
            continue
        evidence = _evidence(a, b, "server_hello")
        yield Difference(f"agreed.{field}", _agreed_text(a, b, field, what), one, other, evidence=evidence)
    if a.reading.sni != b.reading.sni and _first(a.reading, "client_hello") and _first(b.reading, "client_hello"):
        text = f"{a.name} asks for {_name(a)}, {b.name} for {_name(b)}"
        yield Difference("agreed.sni", text, a.reading.sni, b.reading.sni, evidence=_evidence(a, b, "client_hello"))
    if a.reading.resumed is not b.reading.resumed and None not in (a.reading.resumed, b.reading.resumed):
        resumed, full = (a, b) if a.reading.resumed else (b, a)
        text = f"{resumed.name} resumes an earlier session, so no certificate is judged there; {full.name} does not"
        yield Difference("agreed.resumed", text, a.reading.resumed, b.reading.resumed)


def _agreed_text(a: Half, b: Half, field: str, what: str) -> str:
    one, other = getattr(a.reading, field), getattr(b.reading, field)
    if field == "alpn" and other is None:
        return f"{b.name} lost ALPN {printable(one)}: no protocol is agreed on there"
    if field == "alpn" and one is None:
        return f"{b.name} agreed on ALPN {printable(other)}, {a.name} on none"
    shown = [("none" if each is None else printable(str(each))) for each in (one, other)]
    return f"{what} is {shown[0]} in {a.name} and {shown[1]} in {b.name}"


def _name(half: Half) -> str:
    sni = half.reading.sni
    return f"the server name {printable(sni, limit=255)}" if sni else "no server name (SNI)"


def _answered(half: Half) -> bool:
    return _first(half.reading, "server_hello") is not None


def messages(a: Half, b: Half) -> Iterator[Difference]:
    """What each message says otherwise than its counterpart."""
    ours, theirs = _counterparts(a.reading), _counterparts(b.reading)
    for key in (each for each in ours if each in theirs):
        (one, fields), (other, others) = ours[key], theirs[key]
        if one.message.told is not None or other.message.told is not None:  # what a log leaves out is not known
            both = fields.keys() & others.keys()
            fields, others = ({path: each[path] for path in each if path in both} for each in (fields, others))
        evidence = (Evidence(a.name, one.number), Evidence(b.name, other.number))
        found = _fields((a.name, b.name), key[0], fields, others, evidence)
        if key[0] == "server_hello" and a.reading.version != b.reading.version:
            found = (replace(difference, weight=Weight.NOTE) for difference in found)  # another version, other answers
        yield from found


_Key = tuple[str, Side, int]


def _counterparts(reading: LegReading) -> dict[_Key, tuple[ReadMessage, dict[str, Value]]]:
    """Each message that says something, by its type, its sender, and how many of these came before it."""
    found: dict[_Key, tuple[ReadMessage, dict[str, Value]]] = {}
    counts: dict[tuple[str, Side], int] = {}
    for message in reading.messages:
        shown = message.fields
        unread = not shown or message.sealed or "truncated" in shown
        if unread or message.type in _ELSEWHERE or message.message.content is not Content.HANDSHAKE:
            continue
        turn = message.type, message.message.sender
        if message.type == "encrypted_extensions":
            _join(found, message)
            continue
        counts[turn] = counts.get(turn, -1) + 1
        fields = {_RENAMED.get(path, path): value for path, value in essence(shown, message.type).items()}
        if message.type == _SAME_IN:
            fields.pop("certificate_request.extensions", None)
            fields.pop("certificate_request.context", None)
        if message.type == "server_hello":
            _without_agreed(fields)
        found[(*turn, counts[turn])] = message, fields
    return found


def _join(found: dict[_Key, tuple[ReadMessage, dict[str, Value]]], message: ReadMessage) -> None:
    hello = next((found[key] for key in reversed(found) if key[0] == "server_hello"), None)
    if hello is None:
        return
    inner = essence(message.fields, "server_hello")
    names = (*hello[1].get("server_hello.extensions", ()), *inner.pop("server_hello.extensions", ()))
    hello[1].update(inner)
    hello[1]["server_hello.extensions"] = names
    _without_agreed(hello[1])


def _without_agreed(fields: dict[str, Value]) -> None:
    fields.pop("server_hello.cipher_suite", None)
    fields.pop("server_hello.legacy_version", None)
    names = fields.get("server_hello.extensions", ())
    fields["server_hello.extensions"] = tuple(name for name in names if name not in _AGREED)
    for path in [path for path in fields if path.split(".")[2:3] and path.split(".")[2] in _AGREED]:
        del fields[path]


def _fields(
    names: tuple[str, str], kind: str, one: dict[str, Value], other: dict[str, Value], evidence: tuple[Evidence, ...]
) -> Iterator[Difference]:
    for path in dict.fromkeys((*one, *other)):
        left, right = one.get(path), other.get(path)
        if left is None or right is None:
            if _part_of_extension(path):
                continue  # that the extension is not there is said once
            left, right = left or (), right or ()
        if left == right:
            continue
        if isinstance(left, tuple) and isinstance(right, tuple):
            difference = _of_lists(names, kind, path, left, right)
        else:
            text = f"{_called(path)} is {_shown(left)} in {names[0]} and {_shown(right)} in {names[1]}"
            difference = text, _weight(path)
        text, weight = difference
        yield Difference(path, text, _json(left), _json(right), weight, evidence)


def _part_of_extension(path: str) -> bool:
    return ".extensions." in path


def _of_lists(
    called: tuple[str, str], kind: str, path: str, left: tuple[str, ...], right: tuple[str, ...]
) -> tuple[str, Weight]:
    a, b = called
    gone = [name for name in dict.fromkeys(left) if name not in right]
    new = [name for name in dict.fromkeys(right) if name not in left]
    what, verb = _NOUNS.get(path, _called(path)), _VERBS.get(kind, "have")
    if gone or new:
        parts = [f"{b} does not {verb} the {what} {_names(gone)}"] if gone else []
        if new:
            noun = "" if gone else f"the {what} "
            parts.append(f"{'it' if gone else b} {_third(verb)} {noun}{_names(new)}, which {a} does not")
        only_grease = set(gone) | set(new) == {"GREASE"}
        return "; ".join(parts), Weight.NOTE if only_grease else _weight(path)
    if sorted(left) != sorted(right):
        return f"{a} and {b} repeat some of the {what}, each in its own way", _weight(path)
    text = f"{a} and {b} {verb} the same {what} in another order: {_begin(left, right)}"
    return text, Weight.NOTE if path in _ORDER_SAYS_NOTHING else _weight(path)


def _third(verb: str) -> str:
    word, _, rest = verb.partition(" ")
    return ("has" if word == "have" else f"{word}s") + (f" {rest}" if rest else "")


def _begin(left: tuple[str, ...], right: tuple[str, ...]) -> str:
    at = next(n for n, (one, other) in enumerate(zip(left, right, strict=True)) if one != other)
    return f"number {at + 1} is {left[at]}, and {right[at]}"


def _names(names: list[str]) -> str:
    return listed(names, _LISTED)


def _called(path: str) -> str:
    """``server_hello.extensions.record_size_limit.record_size_limit``: the record_size_limit of the server_hello."""
    parts = path.split(".")
    inner = [part for part in parts[1:] if part != "extensions"]
    shown = inner[0] if len(inner) > 1 and inner[-1] == inner[0] else " ".join(inner)
    return f"{shown} of the {parts[0]}" if shown else parts[0]


def _weight(path: str) -> Weight:
    return Weight.NOTE if path in _NOTES else Weight.MATTERS


def _shown(value: Value) -> str:
    return (", ".join(value) or "empty") if isinstance(value, tuple) else value or "empty"


def _json(value: Value) -> object:
    return list(value) if isinstance(value, tuple) else value


def _first(reading: LegReading, kind: str) -> ReadMessage | None:
    return next((message for message in reading.messages if message.type == kind), None)


def _evidence(a: Half, b: Half, kind: str) -> tuple[Evidence, ...]:
    found = [(half.name, _first(half.reading, kind)) for half in (a, b)]
    return tuple(Evidence(name, message.number) for name, message in found if message is not None)
