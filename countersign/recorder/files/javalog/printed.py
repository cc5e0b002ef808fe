"""Certificates as Java prints them, read into the facts that a certificate itself would give.

There are two forms. JSSE prints a few quoted fields and the extensions behind them; ``X509CertImpl.toString``, which
the classic form of the log uses, prints a page. What an extension says is printed alike in both, line by line:
``KeyIdentifier [``, ``DNSName: lab.test``, ``accessMethod: ocsp``.

Neither prints the DER, so there is no SHA-256 of the certificate, and whether it signed itself is not known. What is
not printed stays empty. JSSE says ``EC`` or ``RSA`` of the key and no size.
"""

from __future__ import annotations

import ipaddress
import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from countersign.recorder.certificates import CertificateFacts, extension_name
from countersign.recorder.files.javalog import words
from countersign.recorder.files.javalog.clock import read_time
from countersign.recorder.files.javalog.distinguished import read_name
from countersign.recorder.files.javalog.outline import hex_dump
from countersign.recorder.wire.text import printable
from countersign.recorder.x509_fields import KEPT, clipped, shown_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from countersign.recorder.files.javalog.outline import Node

_EXTENSION = re.compile(r"(?:\[\d+\]:\s*)?ObjectId: (\d+(?:\.\d+)+) Criticality=(true|false)")
_NAME = re.compile(r"(DNSName|IPAddress|URIName|RFC822Name|OIDName|Other-Name): (.*?)\]?,?$")
_PLACE = re.compile(r"URIName: (\S+?)\]?,?$")
_CLASSIC_FIELD = re.compile(
    r"(Version|Subject|Signature Algorithm|Issuer|SerialNumber|Key|Validity|parameters): *(.*)$"
)
_BITS = re.compile(r"Sun (?:Java )?(?:RSA|EC|DSA) public key, (\d+) bits")

_PREFIXES: Final = {
    "DNSName": "DNS",
    "IPAddress": "IP",
    "URIName": "URI",
    "RFC822Name": "email",
    "OIDName": "RID",
    "Other-Name": "otherName",
}
_KEY_USAGES: Final = {
    "DigitalSignature": "digitalSignature",
    "Non_repudiation": "nonRepudiation",
    "Key_Encipherment": "keyEncipherment",
    "Data_Encipherment": "dataEncipherment",
    "Key_Agreement": "keyAgreement",
    "Key_CertSign": "keyCertSign",
    "Crl_Sign": "cRLSign",
    "Encipher_Only": "encipherOnly",
    "Decipher_Only": "decipherOnly",
}
_CURVES: Final = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521", "secp224r1": "P-224"}
_MOST_LINES = 20_000


def from_jsse(node: Node) -> CertificateFacts:
    """The ``"certificate" : {`` of a JSSE entry."""
    facts: dict[str, Any] = {"sha256": "", "self_signed": None}
    for key, name in (("issuer", "issuer"), ("subject", "subject")):
        facts[name] = _name(node.get(key))
    version = words.number((node.get("version") or "").removeprefix("v"))
    facts["version"] = version
    facts["serial"] = _serial(node.get("serial number"))
    facts["signature_algorithm"] = _algorithm(node.get("signature algorithm"))
    facts["key"] = node.get("subject public key")
    for key, name in (("not before", "not_before"), ("not after", "not_after")):
        shown = next((one.value for one in node.children if " ".join(one.key.split()) == key), None)
        facts[name] = _date(shown)
    extensions = node.child("extensions")
    if extensions is not None:
        _extensions(extensions.text, facts)
    return _finished(facts)


def from_page(lines: Sequence[str]) -> CertificateFacts:
    """What ``X509CertImpl.toString`` prints, from ``[`` to ``]``."""
    facts: dict[str, Any] = {"sha256": "", "self_signed": None}
    at = next((n for n, line in enumerate(lines) if _EXTENSION.match(line.strip())), len(lines))
    validity = ""
    for line in lines[:at]:
        stripped = line.strip()
        if stripped.startswith("To:"):
            facts["not_after"] = _date(stripped[3:].strip(" ]"))
        elif found := _CLASSIC_FIELD.match(stripped):
            key, value = found[1], found[2].strip()
            match key:
                case "Version":
                    facts["version"] = words.number(value.removeprefix("V"))
                case "Subject" | "Issuer":
                    facts[key.lower()] = _name(value)
                case "Signature Algorithm":
                    facts["signature_algorithm"] = _algorithm(value.partition(",")[0])
                case "SerialNumber":
                    facts["serial"] = _serial(value.strip("[] "))
                case "Key":
                    facts["key"] = _key(value)
                case "parameters":
                    facts["key"] = _curve(value)
                case "Validity":
                    validity = value.removeprefix("[From:").strip(" ,")
    facts["not_before"] = _date(validity)
    _extensions([line.strip() for line in lines[at:]], facts)
    return _finished(facts)


def _finished(facts: dict[str, Any]) -> CertificateFacts:
    subject = facts.get("subject")
    return CertificateFacts(**facts, self_issued=subject is not None and subject == facts.get("issuer"))


# -- fields ------------------------------------------------------------------------------------------------------


def _name(text: str | None) -> str | None:
    return None if text is None else read_name(text)


def _serial(text: str | None) -> str | None:
    """As :func:`countersign.recorder.x509_fields.read_serial` writes it; Java prints the bytes of the integer."""
    digits = (text or "").removeprefix("0x").replace(" ", "")
    data = words.hexadecimal(digits if ":" in digits or len(digits) % 2 == 0 else f"0{digits}")
    if not data or len(data) > 64:
        return None
    negative = data[0] & 0x80 and ":" in (text or "")
    value = int.from_bytes(data, signed=bool(negative))
    digits = f"{abs(value):x}"
    return ("-" if value < 0 else "") + digits.rjust(len(digits) + len(digits) % 2, "0")


def _date(text: str | None) -> str | None:
    moment = read_time(text) if text else None
    return None if moment is None else shown_time(moment.utc.replace(microsecond=0))


def _algorithm(text: str | None) -> str | None:
    """``SHA256withRSA`` in the words of the registry."""
    if not text:
        return None
    digest, found, key = text.partition("with")
    if not found:
        return {"RSASSA-PSS": "rsassaPss"}.get(text, text)
    match key:
        case "RSA":
            return f"{digest.lower()}WithRSAEncryption"
        case "ECDSA":
            return f"ecdsa-with-{digest}"
        case "DSA":
            return "dsaWithSHA1" if digest == "SHA1" else f"dsa_with_{digest}"
        case _:
            return text


def _key(text: str) -> str | None:
    found = _BITS.match(text)
    if found is None:
        return text.partition(",")[0] or None
    kind = text.partition(" public key")[0].rpartition(" ")[2]
    return f"{kind} {found[1]}"


def _curve(text: str) -> str:
    name = text.partition(" ")[0]
    return f"EC {_CURVES.get(name, name)}"


# -- extensions --------------------------------------------------------------------------------------------------


def _extensions(lines: Sequence[str], facts: dict[str, Any]) -> None:
    names: list[str] = []
    critical: list[str] = []
    starts = [n for n, line in enumerate(lines[:_MOST_LINES]) if _EXTENSION.match(line)]
    for start, end in pairwise([*starts, len(lines)]):
        found = _EXTENSION.match(lines[start])
        if found is None or len(names) == KEPT:
            break
        name = extension_name(found[1])
        names.append(name)
        if found[2] == "true":
            critical.append(name)
        _extension(name, lines[start + 1 : end], facts)
    facts["extensions"], facts["critical"] = tuple(names), tuple(critical)


def _extension(name: str, lines: Sequence[str], facts: dict[str, Any]) -> None:
    match name:
        case "subject_alt_name":
            names = [shown for line in lines if (shown := _general_name(line)) is not None]
            facts["san"], facts["san_count"] = tuple(names[:KEPT]), len(names)
        case "basic_constraints":
            facts["is_ca"] = any(line.replace(" ", "") == "CA:true" for line in lines)
            length = next((line.partition(":")[2].strip() for line in lines if line.startswith("PathLen")), "")
            facts["path_length"] = int(length) if length.isdecimal() and len(length) < 10 else None
        case "key_usage":
            facts["key_usage"] = tuple(_KEY_USAGES[line] for line in lines if line in _KEY_USAGES)
        case "extended_key_usage":
            usages = [line for line in lines if re.fullmatch(r"[A-Za-z0-9]+|\d+(\.\d+)+", line)]
            facts["extended_key_usage"] = tuple(usages[:KEPT])
        case "subject_key_identifier" | "authority_key_identifier":
            identifier = hex_dump(_dumped(lines))
            facts["ski" if name.startswith("subject") else "aki"] = clipped(identifier.hex()) if identifier else None
        case "authority_info_access":
            facts.update(_access(lines))
        case "crl_distribution_points":
            facts["crl"] = tuple(found[1] for line in lines if (found := _PLACE.search(line)))[:KEPT]
        case "precertificate_poison":
            facts["precertificate"] = True
        case _:
            return


def _dumped(lines: Sequence[str]) -> Iterable[str]:
    """The lines of the first dump."""
    start = next((n for n, line in enumerate(lines) if line.startswith("0000:")), len(lines))
    end = next((n for n in range(start + 1, len(lines)) if lines[n].startswith("0000:")), len(lines))
    return lines[start:end]


def _general_name(line: str) -> str | None:
    """One name, with the prefix that it has elsewhere."""
    found = _NAME.match(line)
    if found is None:
        name = read_name(line) if re.match(r"[A-Z]+=", line) else None
        return None if name is None else f"dirName:{name}"
    kind, value = found[1], clipped(found[2])
    if kind == "IPAddress":
        try:
            value = str(ipaddress.ip_address(value))
        except ValueError:
            value = printable(value)
    return f"{_PREFIXES[kind]}:{printable(value, ascii_only=True)}"


def _access(lines: Sequence[str]) -> dict[str, tuple[str, ...]]:
    places: dict[str, list[str]] = {"ocsp": [], "ca_issuers": []}
    method = ""
    for line in lines:
        if "accessMethod:" in line:
            method = line.partition("accessMethod:")[2].strip()
        elif (found := _PLACE.search(line)) and method in {"ocsp", "caIssuers"}:
            places["ocsp" if method == "ocsp" else "ca_issuers"].append(found[1])
    return {kind: tuple(found[:KEPT]) for kind, found in places.items()}
