"""What is wrong with a chain by itself, whoever looks at it: RFC 5280 6.1, with what clients do beyond it.

A :class:`Defect` is a fact about the bytes that were sent and the time and name at which they were. Whether it is why
the peer refused them is for :mod:`.refused` to say, which knows the alert.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING

from countersign.ca.limits import outside
from countersign.findings.diagnosing.case import named
from countersign.recorder import der as asn1
from countersign.recorder.certificates import cut_certificate, cut_extensions, signed_by
from countersign.recorder.der import DerError
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from countersign.recorder.certificates import CertificateFacts
    from countersign.recorder.wire.reading import SentCertificate

_WEAK_HASHES = ("md2", "md4", "md5", "sha1")
_JUST_BEGUN = timedelta(hours=26)
_SMALLEST_RSA, _SMALLEST_EC = 2048, 224
_SERVER_AUTH, _CLIENT_AUTH, _ANY = "serverAuth", "clientAuth", "anyExtendedKeyUsage"
_LONG = 9
_POLICY_CONSTRAINTS = "2.5.29.36"
_NEVER_CRITICAL = {  # RFC 5280 4.2.1.1, 4.2.1.2, 4.2.2.1
    "authority_key_identifier",
    "subject_key_identifier",
    "authority_info_access",
}


@dataclass(frozen=True, slots=True)
class Defect:
    """``id`` is the finding's for a server's chain; ``place`` counts from the leaf."""

    id: str
    text: str
    place: int
    values: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


def defects(
    chain: Sequence[SentCertificate],
    *,
    at: datetime,
    name: str | None,
    client: bool = False,
    suite: str | None = None,
    broken: Collection[tuple[int, int]] | None = None,
) -> Iterator[Defect]:
    """Everything that is wrong with it, the leaf first. ``name`` is the host that the client wanted, ``suite`` the
    cipher suite that was agreed on, which says what the leaf's key is for. ``broken``: its names are pseudonyms, so
    signatures are not tried; those of the first of these places, by the key of the second, are known not to hold.
    """
    facts = [sent.facts for sent in chain]
    if not facts or facts[0].bare_key:
        return
    whose = "client's " if client else ""
    if facts[0].is_ca and any(one.issuer == facts[0].subject for one in facts[1:] if not one.self_issued):
        first = named(facts[0].subject)
        text = f"the {whose}chain does not begin with the leaf: its first certificate, {first}, issued another of them"
        yield Defect("leaf-not-first", text, 0, {"first": first})
        return
    for place, (sent, one) in enumerate(zip(chain, facts, strict=True)):
        yield from _dates(one, place, at, whose)
        yield from _strength(one, place, whose)
        yield from _use(one, place, facts, whose, client=client, suite=suite)
        yield from _form(sent, one, place)
    yield from _structure(chain, facts, whose, broken)
    yield from _policies(chain, facts)
    yield from _constrained(chain)
    if not client and name is not None:
        yield from _name(facts[0], name)
    yield from _self_signed(facts, whose)


def _what(place: int, one: CertificateFacts, whose: str = "") -> str:
    part = "leaf" if place == 0 else "root" if one.self_issued else "intermediate"
    return f"the {whose}{part} {named(one.subject)}"


def _dates(one: CertificateFacts, place: int, at: datetime, whose: str) -> Iterator[Defect]:
    part = "leaf" if place == 0 else "issuer"
    try:
        before = datetime.fromisoformat(one.not_before) if one.not_before else None
        after = datetime.fromisoformat(one.not_after) if one.not_after else None
    except ValueError:
        return
    if after is not None and at > after:
        text = f"{_what(place, one, whose)} expired on {one.not_after}; it was {at:%Y-%m-%dT%H:%M:%SZ}"
        yield Defect(f"{part}-expired", text, place, {"subject": named(one.subject), "date": str(one.not_after)})
    if before is not None and at < before:
        text = f"{_what(place, one, whose)} is valid from {one.not_before} on; it was {at:%Y-%m-%dT%H:%M:%SZ}"
        yield Defect(f"{part}-not-yet-valid", text, place, {"subject": named(one.subject), "date": str(one.not_before)})
    elif before is not None and timedelta(0) <= at - before < _JUST_BEGUN and place == 0:
        text = (
            f"{_what(place, one, whose)} is valid only since {one.not_before}: with a clock behind that it is not yet"
        )
        yield Defect("just-issued", text, place, {"date": str(one.not_before)})


def _strength(one: CertificateFacts, place: int, whose: str) -> Iterator[Defect]:
    algorithm = (one.signature_algorithm or "").lower().replace("-", "")
    if any(weak in algorithm for weak in _WEAK_HASHES) and not one.self_issued:
        text = f"{_what(place, one, whose)} is signed with {one.signature_algorithm}, which most clients refuse by now"
        yield Defect("weak-signature", text, place, {"algorithm": str(one.signature_algorithm)})
    key = re.match(r"(RSA|DSA|EC P-|EC secp|EC)\D*(\d+)", one.key or "")
    if key is not None:
        least = _SMALLEST_EC if key[1].startswith("EC") else _SMALLEST_RSA
        if int(key[2]) < least:
            text = f"the key of {_what(place, one, whose)} is {one.key}; most clients refuse less than {least} bits"
            yield Defect("weak-key", text, place, {"key": str(one.key)})


def _use(
    one: CertificateFacts,
    place: int,
    facts: Sequence[CertificateFacts],
    whose: str,
    *,
    client: bool,
    suite: str | None,
) -> Iterator[Defect]:
    wanted = _CLIENT_AUTH if client else _SERVER_AUTH
    usages = one.extended_key_usage
    if "extended_key_usage" in one.extensions and wanted not in usages and not one.self_issued:
        shown = ", ".join(usages) or "nothing"
        text = f"{_what(place, one, whose)} may be used for {shown} (extended key usage), not for {wanted}"
        text += "; that any use is allowed, OpenSSL does not count" if _ANY in usages else ""
        values = {"usages": shown, "wanted": wanted}
        yield Defect("wrong-eku" if place == 0 else "issuer-wrong-eku", text, place, values)
    if place == 0:
        # RFC 5246 7.4.2: RSA key exchange encrypts, and all others sign, but for those with a static key.
        encrypts = not client and (suite or "").startswith(("TLS_RSA_WITH_", "TLS_RSA_PSK_WITH_"))
        needed = "keyEncipherment" if encrypts else "digitalSignature"
        if one.key_usage and needed not in one.key_usage and (encrypts or "keyAgreement" not in one.key_usage):
            shown = ", ".join(one.key_usage)
            text = f"the key usage of {_what(0, one, whose)} is {shown}, without {needed}"
            text += f", and {suite} needs that" if encrypts else ""
            yield Defect("wrong-key-usage", text, 0, {"usages": shown, "needed": needed})
        return
    signs = any(other.issuer == one.subject for other in facts if other is not one)
    if signs and not one.is_ca:
        text = f"{_what(place, one, whose)} issued another certificate but is no CA (basicConstraints)"
        yield Defect("issuer-is-no-ca", text, place, {"subject": named(one.subject)})
    if signs and one.key_usage and "keyCertSign" not in one.key_usage:
        text = f"{_what(place, one, whose)} issued another certificate; its key usage has no keyCertSign"
        yield Defect("issuer-may-not-sign", text, place, {"subject": named(one.subject)})
    below = _below(one, facts)
    if one.path_length is not None and below > one.path_length:
        text = f"{_what(place, one, whose)} allows {one.path_length} CAs below it (path length), and there are {below}"
        yield Defect("path-too-long", text, place, {"subject": named(one.subject)})


def _below(one: CertificateFacts, facts: Sequence[CertificateFacts]) -> int:
    """How many CAs are on the path from the leaf to this one: what was sent twice or belongs to no path is none of
    them, and self-issued ones do not count (RFC 5280 4.2.1.9).
    """
    at, left, below = facts[0], [other for other in facts[1:] if other is not one], 0
    while at.issuer is not None and at.issuer != one.subject:
        above = next((other for other in left if other.subject == at.issuer), None)
        if above is None:
            return 0
        left.remove(above)
        at, below = above, below + (not above.self_issued)
    return below


def _form(sent: SentCertificate, one: CertificateFacts, place: int) -> Iterator[Defect]:
    if one.version is not None and one.version < 3 and place > 0:
        text = f"{_what(place, one)} is an X.509 version {one.version} certificate, which cannot say that it is a CA"
        yield Defect("old-version", text, place)
    unknown = [name for name in one.critical if re.fullmatch(r"[\d.]+", name) or name in _NEVER_CRITICAL]
    if unknown:
        text = f"{_what(place, one)} has critical extensions that clients do not process: {', '.join(unknown)}"
        yield Defect("unknown-critical-extension", text, place, {"extensions": ", ".join(unknown)})
    if one.problems and sent.der:
        text = f"{_what(place, one)} is not as RFC 5280 says: {printable(one.problems[0], limit=200)}"
        yield Defect("malformed-certificate", text, place, {"problem": printable(one.problems[0], limit=200)})
    if "key_usage" in one.extensions and not one.key_usage:
        text = f"{_what(place, one)} has a key usage that names no use (RFC 5280 4.2.1.3)"
        yield Defect("malformed-certificate", text, place, {"problem": "a key usage without any use"})
    if sent.der and _padded(sent.der):
        text = f"the serial number of {_what(place, one)} is not in DER: it begins with a zero byte too many"
        yield Defect("malformed-certificate", text, place, {"problem": "a serial number that is not DER"})
    if one.serial is not None and (one.serial.startswith("-") or one.serial.strip("0") == ""):
        text = f"the serial number of {_what(place, one)} is {one.serial}: Go and others refuse what is not positive"
        yield Defect("bad-serial", text, place, {"serial": one.serial})
    if one.precertificate:
        text = f"{_what(place, one)} is a precertificate (RFC 6962), which is no certificate"
        yield Defect("precertificate", text, place)


def incomplete(chain: Sequence[SentCertificate]) -> SentCertificate | None:
    """The certificate of this chain whose issuer was not sent with it, a root's own included."""
    if not chain:
        return None
    gap = _path([sent.facts for sent in chain])[1]
    return None if gap is None else chain[gap]


def _structure(
    chain: Sequence[SentCertificate],
    facts: Sequence[CertificateFacts],
    whose: str,
    broken: Collection[tuple[int, int]] | None,
) -> Iterator[Defect]:
    path, gap = _path(facts)
    if len(facts) >= _LONG:
        text = f"the {whose}chain has {len(facts)} certificates: Java takes 10 by default, and others fewer"
        yield Defect("long-chain", text, 0, {"count": str(len(facts))})
    for below, above in pairwise(path):
        holds = _signed(chain[below], chain[above]) if broken is None else False if (below, above) in broken else None
        mine, issuers = facts[below].aki, facts[above].ski
        if mine and issuers and mine != issuers:
            text = (
                f"{_what(below, facts[below], whose)} names another key of its issuer (authority key identifier) than "
                f"{named(facts[above].subject)} has"
            )
            yield Defect("other-issuer-key", text, below, {"subject": named(facts[below].subject)})
        if holds is None and _cannot_fit(facts[below].signature_algorithm, facts[above].key):
            text = (
                f"{_what(below, facts[below], whose)} is signed with {facts[below].signature_algorithm}, which a key "
                f"of its issuer ({facts[above].key}) does not make"
            )
            yield Defect("signature-does-not-hold", text, below, {"subject": named(facts[below].subject)})
        if holds is False:
            text = (
                f"the signature of {_what(below, facts[below], whose)} is not of the key of "
                f"{named(facts[above].subject)}, though that is its issuer's name"
            )
            yield Defect("signature-does-not-hold", text, below, {"subject": named(facts[below].subject)})
    if path != sorted(path):
        order = " > ".join(named(facts[place].subject) for place in range(len(facts)))
        text = f"the certificates of the {whose}chain are not in the order in which they sign: {order}"
        yield Defect("wrong-order", text, 0, {"order": order})
    elif gap is not None and any(one.subject == facts[gap].issuer for one in facts):
        text = f"the {whose}chain leads back into itself: {named(facts[gap].subject)} was issued by one below it"
        yield Defect("chain-loop", text, gap)
    elif gap is not None and any(one not in [facts[place] for place in path] for one in facts[gap + 1 :]):
        missing = named(facts[gap].issuer)
        text = f"the {whose}chain has a hole: {named(facts[gap].subject)} was issued by {missing}, which was not sent"
        yield Defect("missing-intermediate", text, gap, {"missing": missing, "urls": _urls(facts[gap])})
    elif gap is not None and len(facts) == 1 and not facts[0].self_issued:
        missing = named(facts[0].issuer)
        text = f"only the {whose}leaf {named(facts[0].subject)} was sent, without its issuer {missing}"
        yield Defect("missing-intermediate", text, 0, {"missing": missing, "urls": _urls(facts[0])})
    unrelated = [place for place in range(len(facts)) if place not in path]
    repeated = len({sent.der for sent in chain if sent.der}) < sum(1 for sent in chain if sent.der)
    if repeated:
        yield Defect("repeated-certificate", f"a certificate is twice in the {whose}chain", 0)
    elif unrelated and path == sorted(path) and gap is None:
        some = ", ".join(named(facts[place].subject) for place in unrelated[:3])
        text = f"certificates that do not belong to the {whose}chain were sent with it: {some}"
        yield Defect("unrelated-certificate", text, unrelated[0], {"subjects": some})


def _policies(chain: Sequence[SentCertificate], facts: Sequence[CertificateFacts]) -> Iterator[Defect]:
    """An issuer that requires a policy of what is below it, and a path without one (RFC 5280 6.1.3 (f)).

    No policy is valid for a path in which one certificate names none.
    """
    path, _ = _path(facts)
    for height, place in enumerate(path[1:], 1):
        skipped = _explicit_policy(chain[place])
        bare = next((each for each in path[: height + 1] if "certificate_policies" not in facts[each].extensions), None)
        if skipped is None or skipped > height or facts[place].self_issued or bare is None:
            continue
        text = (
            f"{_what(place, facts[place])} requires a certificate policy of what is below it, and "
            f"{_what(bare, facts[bare])} names none"
        )
        yield Defect("policy-missing", text, bare, {"subject": named(facts[bare].subject)})


def _explicit_policy(sent: SentCertificate) -> int | None:
    """After how many certificates a policy is required below this one (RFC 5280 4.2.1.11)."""
    if "policy_constraints" not in sent.facts.extensions or not sent.der:
        return None
    try:
        extensions = cut_certificate(sent.der).extensions
        values = [one.value for one in cut_extensions(extensions or b"") if one.oid == _POLICY_CONSTRAINTS]
        fields = asn1.at_most(2, asn1.whole(values[0], asn1.SEQUENCE, "policy constraints").body, "policy constraints")
        return next((asn1.decode_integer(field.body) for field in fields if field.tag == 0x80), None)
    except (DerError, IndexError):
        return None


def _constrained(chain: Sequence[SentCertificate]) -> Iterator[Defect]:
    ders = [sent.der for sent in chain]
    reason = outside(ders[0], ders[1:]) if all(ders) else None
    if reason is not None:
        yield Defect("outside-name-constraints", printable(reason, limit=300), 0)


def _path(facts: Sequence[CertificateFacts]) -> tuple[list[int], int | None]:
    """From the leaf up, by names: the places in the chain, and where an issuer is lacking that is not the last's own.

    The top is whole when it is self-issued. Else the place of the topmost is given, for its issuer was not sent.
    """
    path, place = [0], 0
    while not facts[place].self_issued:
        following = [n for n, one in enumerate(facts) if n not in path and one.subject == facts[place].issuer]
        if not following:
            return path, place
        place = next((n for n in following if n > place), following[0])
        path.append(place)
    return path, None


def _signed(below: SentCertificate, above: SentCertificate) -> bool | None:
    """Whether the one's key made the other's signature; None where that was not tried."""
    if not below.der or not above.der:
        return None
    try:
        return signed_by(cut_certificate(below.der), cut_certificate(above.der).public_key)
    except DerError:
        return None


def broken_signatures(chain: Sequence[SentCertificate]) -> list[tuple[int, int]]:
    """The places of certificates whose signature does not hold, with those of the issuers by whose keys."""
    path, _ = _path([sent.facts for sent in chain]) if chain else ([], None)
    return [both for both in pairwise(path) if _signed(chain[both[0]], chain[both[1]]) is False]


def _cannot_fit(algorithm: str | None, key: str | None) -> bool:
    """Whether no key of this kind makes such a signature, by their names."""
    signed = (algorithm or "").lower()
    if re.fullmatch(r"[\d.]+", signed):
        return True
    kinds = {"ecdsa": "EC", "rsa": "RSA", "ed25519": "Ed25519", "ed448": "Ed448"}
    wanted = next((kind for word, kind in kinds.items() if word in signed), None)
    return wanted is not None and key is not None and not key.startswith(wanted)


def _padded(der: bytes) -> bool:
    """Whether the serial number has a zero byte in front that it does not need (X.690 8.3.2)."""
    try:
        serial = cut_certificate(der).serial
    except DerError:
        return False
    return len(serial) > 3 and serial[2] == 0 and serial[3] < 0x80


def _urls(one: CertificateFacts) -> str:
    shown = ", ".join(printable(url, limit=200) for url in one.ca_issuers)
    return f" (to be had at {shown})" if shown else ""


def _name(leaf: CertificateFacts, host: str) -> Iterator[Defect]:
    shown = printable(host, limit=255)
    if not leaf.san:
        text = f"the leaf {named(leaf.subject)} has no alternative names; the client wanted {shown}"
        yield Defect("no-alternative-name", text, 0, {"host": shown, "names": "none"})
    elif not any(fits(one, host) for one in leaf.san) and leaf.san_count == len(leaf.san):
        text = f"the leaf is for {leaf.names()}; the client wanted {shown}"
        unseen = [one for one in leaf.san if one.partition(":")[2].strip(" .").lower() == host.lower()]
        text += f"; a space or final dot belongs to the name: {printable(repr(unseen[0]), limit=255)}" if unseen else ""
        yield Defect("wrong-host-name", text, 0, {"host": shown, "names": leaf.names()})


def fits(alternative: str, host: str) -> bool:
    """Whether an alternative name (``DNS:*.example.com``, ``IP:10.0.0.1``) is for this host (RFC 9525 6.3)."""
    kind, _, value = alternative.partition(":")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    if address is not None:
        if not kind.upper().startswith("IP"):
            return False
        try:
            return ipaddress.ip_address(value) == address
        except ValueError:
            return False
    wanted, name = host.lower().rstrip("."), value.lower()  # no final dot belongs in a certificate (RFC 5280 4.2.1.6)
    if kind != "DNS":
        return False
    if name.startswith("*."):
        return "." in name[2:] and wanted.partition(".")[2] == name[2:] and bool(wanted.partition(".")[0])
    return wanted == name


def _self_signed(facts: Sequence[CertificateFacts], whose: str) -> Iterator[Defect]:
    if facts[0].self_issued:
        text = f"the {whose}leaf {named(facts[0].subject)} vouches for itself: no CA issued it"
        yield Defect("self-signed", text, 0, {"subject": named(facts[0].subject)})


def remaining(one: CertificateFacts, at: datetime) -> timedelta | None:
    """How long it is still valid."""
    try:
        return datetime.fromisoformat(one.not_after).astimezone(UTC) - at if one.not_after else None
    except ValueError:
        return None
