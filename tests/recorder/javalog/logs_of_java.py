"""Logs for the tests: reading them, taking them to pieces, and printing messages as Java 7 and 8 print them.

The printer is written after the output of those versions, apart from the reader, so that any hello can be printed and
read back. What JSSE does today is not printed here: those logs are made by a real JVM.
"""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countersign.recorder.files.javalog import read_java_log
from countersign.recorder.recording import to_json
from countersign.recorder.schema.checking import what_is_wrong
from countersign.recorder.wire import extensions as e, messages as m, names

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from countersign.recorder.recording import Recording

LOGS = Path(__file__).with_name("logs")
DATED = datetime(2026, 11, 21, 12, tzinfo=UTC)
"""The time of a file whose log has none."""


def log(name: str) -> str:
    return (LOGS / name).read_text(encoding="utf-8")


def read(text: str | bytes | Path) -> list[Recording]:
    """The recordings in a log, each of which is as the schema says."""
    data = text.read_bytes() if isinstance(text, Path) else text.encode("utf-8") if isinstance(text, str) else text
    recordings = list(read_java_log(io.BytesIO(data), otherwise=DATED))
    for recording in recordings:
        assert what_is_wrong(to_json(recording)) is None
    return recordings


def read_one(text: str | bytes | Path) -> Recording:
    (only,) = read(text)
    return only


def told(recording: Recording) -> list[tuple[str, str, bool]]:
    """Each message: who sent it, what it is, whether it was encrypted."""
    (leg,) = recording.legs
    return [(one.message.sender.value, one.type, one.message.encrypted) for one in leg.read().messages]


def fields(recording: Recording, kind: str, number: int = 0) -> dict[str, Any]:
    """What one message of this type says."""
    (leg,) = recording.legs
    return [one for one in leg.read().messages if one.type == kind][number].fields


def problems(recording: Recording) -> list[str]:
    return [problem.field for _, problem in recording.problems]


def comparable(recording: Recording) -> dict[str, Any]:
    """All of a recording but where in which file it stood, and when it was."""
    document = to_json(recording)
    for name in ("id", "started", "ended", "log"):
        del document[name]
    document["problems"] = [
        problem for problem in document["problems"] if problem["field"] not in {"log.time", "log.time_zone"}
    ]
    for part in (
        document["problems"],
        document["legs"][0]["messages"],
        document["legs"][0]["ends"],
        document["failures"],
    ):
        for one in part:
            one.pop("t"), one.pop("offset", None)
    for count in document["legs"][0]["data"].values():
        del count["first"], count["last"]
    return document


# -- the form of Java 7 and 8 --------------------------------------------------------------------------------------


def client_hello(hello: m.ClientHello) -> list[str]:
    suites = ", ".join(map(_suite, hello.cipher_suites))
    return [
        f"*** ClientHello, {_version(hello.legacy_version)}",
        _cookie(hello.random),
        f"Session ID:  {{{', '.join(map(str, hello.session_id))}}}",
        f"Cipher Suites: [{suites}]",
        f"Compression Methods:  {decimals(bytes(hello.compression_methods))}",
        *(_extension(one) for one in hello.extensions or ()),
        "***",
    ]


def server_hello(hello: m.ServerHello) -> list[str]:
    return [
        f"*** ServerHello, {_version(hello.legacy_version)}",
        _cookie(hello.random),
        f"Session ID:  {{{', '.join(map(str, hello.session_id))}}}",
        f"Cipher Suite: {_suite(hello.cipher_suite)}",
        f"Compression Method: {hello.compression_method}",
        *(_extension(one) for one in hello.extensions or ()),
        "***",
    ]


def finished(verify_data: bytes) -> list[str]:
    return ["*** Finished", f"verify_data:  {decimals(verify_data)}", "***"]


def dump(data: bytes, *, upper: bool = True, spaced: bool = True) -> list[str]:
    """``0000: 16 03 03 00 5D 02 00 00   59 03 03 ...  .]..Y..``"""
    lines = []
    for at in range(0, len(data), 16):
        piece = data[at : at + 16]
        digits = [f"{byte:02X}" for byte in piece]
        halves = [" ".join(digits[:8]), " ".join(digits[8:])]
        text = ("   " if spaced else " ").join(half for half in halves if half)
        shown = "".join(chr(byte) if 32 < byte < 127 else "." for byte in piece)
        line = f"{at & 0xFFFF:04X}: {text if upper else text.lower()}"
        lines.append(f"{line:<57}{shown}")
    return lines


def decimals(data: Iterable[int]) -> str:
    return f"{{ {', '.join(map(str, data))} }}"


def _cookie(random: bytes) -> str:
    """Java adds up bytes that have a sign."""
    signed = [byte - 256 if byte > 127 else byte for byte in random[:4]]
    gmt = (signed[0] << 24) + (signed[1] << 16) + (signed[2] << 8) + signed[3]
    gmt = (gmt + (1 << 31)) % (1 << 32) - (1 << 31)
    return f"RandomCookie:  GMT: {gmt} bytes = {decimals(random[4:])}"


def _version(number: int) -> str:
    known = {0x0300: "SSLv3", 0x0301: "TLSv1", 0x0302: "TLSv1.1", 0x0303: "TLSv1.2"}
    return known.get(number, f"Unknown-{number >> 8}.{number & 0xFF}")


def _suite(number: int) -> str:
    name = names.cipher_suite_name(number)
    return f"Unknown 0x{number >> 8:x}:0x{number & 0xFF:x}" if name.startswith("0x") else name


_HASHES = ("NONE", "MD5", "SHA1", "SHA224", "SHA256", "SHA384", "SHA512")
_KEYS = ("", "RSA", "DSA", "ECDSA")
_KNOWN = {0x0101, 0x0202, 0x0201, 0x0203, 0x0301, 0x0303, 0x0401, 0x0403, 0x0501, 0x0503, 0x0601, 0x0603}


def scheme(number: int) -> str:
    if number in _KNOWN:
        return f"{_HASHES[number >> 8]}with{_KEYS[number & 0xFF]}"
    return f"Unknown (hash:0x{number >> 8:x}, signature:0x{number & 0xFF:x})"


_CURVES = {23: "secp256r1", 24: "secp384r1", 25: "secp521r1", 22: "secp256k1", 9: "sect283k1"}


def _extension(one: e.Extension) -> str:
    match one:
        case e.ServerName():
            hosts = "".join(f"[type=host_name (0), value={entry.host_name.decode()}]" for entry in one.names)
            return f"Extension server_name, server_name: {hosts}"
        case e.ServerNameAcknowledged():
            return "Extension server_name, server_name: "
        case e.SupportedGroups():
            curves = ", ".join(_CURVES.get(number, f"unknown curve {number}") for number in one.groups)
            return f"Extension elliptic_curves, curve names: {{{curves}}}"
        case e.EcPointFormats():
            known = ("uncompressed", "ansiX962_compressed_prime", "ansiX962_compressed_char2")
            shown = ", ".join(known[number] for number in one.formats)
            return f"Extension ec_point_formats, formats: [{shown}]"
        case e.SignatureAlgorithms():
            schemes = ", ".join(map(scheme, one.schemes))
            return f"Extension signature_algorithms, signature_algorithms: {schemes}"
        case e.ExtendedMasterSecret():
            return "Extension extended_master_secret"
        case e.RenegotiationInfo():
            data = one.renegotiated_connection
            return f"Extension renegotiation_info, renegotiated_connection: {data.hex(':') if data else '<empty>'}"
        case e.Alpn():
            protocols = "".join(f"[{name.decode()}]" for name in one.protocols)
            return f"Extension application_layer_protocol_negotiation, protocol names: {protocols}"
        case e.UnknownExtension():
            return f"Unsupported extension type_{one.code}, data: {one.data.hex(':')}"
        case _:
            raise ValueError(one)


def lines(*parts: Sequence[str] | str) -> str:
    """A log of these lines and lists of lines."""
    flat: list[str] = []
    for part in parts:
        flat += [part] if isinstance(part, str) else part
    return "".join(f"{line}\n" for line in flat)
