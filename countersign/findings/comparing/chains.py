"""Two chains, certificate by certificate, by the part that each plays.

The leaf is held to the leaf. Of the rest, the same certificate is held to itself wherever it stands; then one with the
same subject, then one with the same key, and what is left in the order of the chain, for an interceptor's intermediate
stands where the target's own did. What has no counterpart is missing, or is there beside the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from countersign.findings.comparing.model import Difference, Evidence, Weight
from countersign.recorder.certificates import CertificateFacts, cut_certificate
from countersign.recorder.der import DerError
from countersign.recorder.wire.events import Side
from countersign.recorder.wire.text import listed, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from countersign.findings.comparing.model import Half

_LONGEST = 300
_FIELDS: dict[str, str] = {
    "subject": "the subject",
    "issuer": "the issuer",
    "serial": "the serial number",
    "not_before": "notBefore",
    "not_after": "notAfter",
    "version": "the version",
    "key": "the key",
    "signature_algorithm": "the signature algorithm",
    "is_ca": "cA in basicConstraints",
    "path_length": "the path length",
    "must_staple": "must-staple",
    "sct_count": "the number of SCTs",
}
_SELDOM_TOLD = {"is_ca", "path_length", "must_staple", "sct_count", "version", "key"}
_LISTS = {
    "san": "alternative names",
    "key_usage": "key usages",
    "extended_key_usage": "extended key usages",
    "ocsp": "OCSP responders (AIA)",
    "ca_issuers": "CA issuers (AIA)",
    "crl": "CRL distribution points",
    "extensions": "extensions",
    "critical": "critical extensions",
}


@dataclass(frozen=True, slots=True)
class _Sent:
    """A certificate of a chain, at its place in the message."""

    place: int
    message: int
    der: bytes
    facts: CertificateFacts

    @property
    def title(self) -> str:
        return printable(self.facts.subject or "a certificate with no subject", limit=_LONGEST)

    @property
    def key(self) -> bytes | None:
        """None where it cannot be cut out, or the certificate was only told."""
        try:
            return cut_certificate(self.der).public_key
        except DerError:
            return None


def chains(a: Half, b: Half, sender: Side) -> Iterator[Difference]:
    """What differs between the chains of the two legs' servers, or of their clients."""
    ours, theirs = _sent(a, sender), _sent(b, sender)
    prefix = "chain" if sender is Side.SERVER else "client_chain"
    whose = "" if sender is Side.SERVER else "client's "
    if not ours or not theirs:
        return
    for one, other in _aligned(ours, theirs):
        evidence = tuple(
            Evidence(half.name, each.message, each.place) for half, each in ((a, one), (b, other)) if each is not None
        )
        if one is not None and other is not None:
            part = _part(one)
            for difference in _certificate((a.name, b.name), f"{prefix}.{part}", f"{whose}{part}", one, other):
                yield Difference(*difference, evidence=evidence)
            continue
        there, lacking = (a, b) if other is None else (b, a)
        cert = one or other
        assert cert is not None
        part = _part(cert)
        text = f"the {whose}{part} {cert.title} is missing in {lacking.name}; {there.name} sends it"
        if other is not None:
            text = f"{there.name} sends the {whose}{part} {cert.title} as well; {lacking.name} does not"
        hashes = [None if each is None else each.facts.sha256 for each in (one, other)]
        yield Difference(f"{prefix}.{part}", text, hashes[0], hashes[1], evidence=evidence)
    common = {cert.der for cert in ours if cert.der} & {cert.der for cert in theirs}
    orders = [[cert for cert in chain if cert.der in common] for chain in (ours, theirs)]
    if [cert.der for cert in orders[0]] != [cert.der for cert in orders[1]]:
        shown = [" > ".join(cert.title for cert in chain) for chain in orders]
        text = f"the {whose}chain is in another order: {a.name} sends {shown[0]}; {b.name} sends {shown[1]}"
        hashes_in_order = [[cert.facts.sha256 for cert in chain] for chain in orders]
        yield Difference(f"{prefix}.order", text, hashes_in_order[0], hashes_in_order[1])


def seen(half: Half, sender: Side) -> bool:
    """Whether this side's certificates are to be seen."""
    return bool(half.reading.chain(sender))


def _sent(half: Half, sender: Side) -> list[_Sent]:
    """What this side sent in its first Certificate message."""
    chain = half.reading.chain(sender)
    return [_Sent(place, sent.message, sent.der, sent.facts) for place, sent in enumerate(chain)]


def _part(cert: _Sent) -> str:
    if cert.place == 0:
        return "leaf"
    return "root" if cert.facts.self_issued else "intermediate"


def _aligned(ours: list[_Sent], theirs: list[_Sent]) -> Iterator[tuple[_Sent | None, _Sent | None]]:
    yield ours[0], theirs[0]
    left, right = ours[1:], theirs[1:]
    matched: list[tuple[_Sent | None, _Sent | None]] = []
    by: tuple[Callable[[_Sent], object], ...] = (
        lambda cert: cert.der or None,
        lambda cert: cert.facts.subject,
        lambda cert: cert.key,
        lambda cert: _part(cert) == "root",
    )
    for same in by:
        for one in list(left):
            value = same(one)
            other = next((each for each in right if value is not None and same(each) == value), None)
            if other is not None:
                left.remove(one)
                right.remove(other)
                matched.append((one, other))
    places = max(len(left), len(right))
    matched += [(left[n] if n < len(left) else None, right[n] if n < len(right) else None) for n in range(places)]
    yield from sorted(matched, key=lambda both: next(each.place for each in both if each is not None))


_Found = tuple[str, str, object, object, Weight]


def _certificate(names: tuple[str, str], path: str, part: str, one: _Sent, other: _Sent) -> Iterator[_Found]:
    if one.der and one.der == other.der:
        return
    (a, b), facts, others = names, one.facts, other.facts
    told = not (one.der and other.der)  # what a log leaves out is not known
    for name, what in _FIELDS.items():
        left, right = getattr(facts, name), getattr(others, name)
        if left != right and not (told and (name in _SELDOM_TOLD or None in {left, right})):
            text = f"{what} of the {part} is {_shown(left)} in {a} and {_shown(right)} in {b}"
            yield f"{path}.{name}", text, left, right, Weight.MATTERS
    if told:
        return
    if one.key != other.key and facts.key == others.key:
        text = f"the {part} has another key of the same kind ({facts.key}) in {b}"
        yield f"{path}.key", text, facts.ski, others.ski, Weight.MATTERS
    for name, what in _LISTS.items():
        before, after = list(getattr(facts, name)), list(getattr(others, name))
        gone = [each for each in before if each not in after]
        new = [each for each in after if each not in before]
        if gone or new:
            parts = [f"lost {_names(gone)}"] if gone else []
            parts += [f"has {_names(new)}, which {a} has not"] if new else []
            yield f"{path}.{name}", f"{what} of the {part}: {b} {' and '.join(parts)}", before, after, Weight.MATTERS
        elif before != after:
            text = f"{what} of the {part} come in another order in {b}"
            yield f"{path}.{name}", text, before, after, Weight.NOTE
    if one.key == other.key and all(getattr(facts, name) == getattr(others, name) for name in (*_FIELDS, *_LISTS)):
        text = f"the {part} differs in its bytes alone: it was signed again, or an extension's value changed"
        yield f"{path}.bytes", text, facts.sha256, others.sha256, Weight.MATTERS


def _shown(value: object) -> str:
    if value is None:
        return "absent"
    return str(value).lower() if isinstance(value, bool) else printable(str(value), limit=_LONGEST)


def _names(names: list[str]) -> str:
    return listed([printable(name, limit=_LONGEST) for name in names], 12)
