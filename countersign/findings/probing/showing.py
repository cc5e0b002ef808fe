"""A probe as text, ready to paste into a ticket. What a peer chose is escaped."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING

from countersign.findings.probing.clear import other_way
from countersign.findings.wrapping import wrapped
from countersign.recorder.recording import Status
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from countersign.ca.verify import Verdict
    from countersign.findings.probing.model import CertificateLook, Probe
    from countersign.findings.probing.probing import Census
    from countersign.recorder.certificates import CertificateFacts

_LONGEST = 300
_INCOMPLETE = "its issuer is missing: give the root with --ca-file; an intermediate has to be sent by the server"
_CURES = {20: _INCOMPLETE, 21: _INCOMPLETE}  # in place of OpenSSL's, whose cure is a file of intermediates


def show(found: Probe, *, width: int) -> str:
    """For a terminal of ``width`` columns."""
    return "\n".join(_lines(found, max(width, 60))) + "\n"


def _lines(found: Probe, width: int) -> Iterator[str]:
    plan, recording = found.plan, found.recording
    name = f"server name {printable(plan.name)}" if plan.name else "no server name (SNI)"
    yield f"{printable(plan.place)}, {name}, recording {recording.id}"
    if recording.outcome.status is Status.ABANDONED:  # as it has to be: nothing is sent after the handshake
        yield "  The handshake was finished."
    else:
        yield from wrapped(recording.outcome.text, width)
    if (way := other_way(plan, recording)) is not None:
        yield from wrapped(f"{way}.", width)
    reading = recording.legs[0].read() if recording.legs else None
    if reading is not None and reading.version is not None:
        yield f"  {reading.version}, {reading.cipher or 'no suite'}, {reading.group or 'no group'}, " + (
            f"ALPN {printable(reading.alpn)}" if reading.alpn else "no ALPN"
        )
    yield from _verdict(found, width)
    for place, one in enumerate(found.chain):
        yield ""
        yield from _certificate(place, one, width)
    if found.defects:
        yield ""
        yield "What other clients may refuse" if found.good else "What is wrong with it"
        for defect in found.defects:
            yield from wrapped(f"- {defect.text} [{defect.id}]", width)
    if reading is not None and (names := reading.requested_ca_texts) is not None:
        yield ""
        count = f"{len(names)} authorit{'y' if len(names) == 1 else 'ies'}"
        yield f"Asks for a client certificate, naming {count}" + (":" if names else "")
        for each in names:
            yield from wrapped(f"- {printable(each or '(a name that cannot be read)', limit=_LONGEST)}", width)
    yield from _offers(found, width)
    if found.places:
        yield ""
        yield "For the firewall (OCSP, CRL, issuers)"
        yield from (f"  {place}" for place in found.places)


def _verdict(found: Probe, width: int) -> Iterator[str]:
    verdict = found.verdict
    if found.product is not None:
        yield from wrapped(f"Intercepted: the chain looks like {found.product}.", width)
    if verdict is None:
        return
    if verdict.ok and found.revoked:
        yield "  The chain is good, but a certificate of it is revoked (see below)."
    elif verdict.ok and found.undecided:
        which = ", ".join(str(place) for place in found.undecided)
        text = f"The chain is good. Whether it is revoked could not be found out (certificates {which}): clients that "
        yield from wrapped(f"{text}insist on that refuse it, as Java with revocation checks and MID Servers do.", width)
    elif found.trusted_by_itself:
        yield "  The chain is good: nobody but the leaf vouches for it, and it is among the trusted roots."
    elif verdict.ok:
        yield "  The chain is good."
    else:
        yield from refused(verdict, width)
    yield from wrapped(f"Hashes: {verdict.hashes}", width)


def refused(verdict: Verdict, width: int) -> Iterator[str]:
    """That OpenSSL refuses the chain, why, and what to do."""
    yield from wrapped(f"The chain is refused: {verdict.reason} (certificate {verdict.depth}).", width)
    cure = _CURES.get(verdict.code, verdict.cure)
    if cure:
        yield from wrapped(f"{cure[:1].upper()}{cure[1:]}.", width)


def show_verdicts(ways: Iterable[tuple[str, Verdict | None]], *, width: int) -> str:
    """What is said of the chain to which each way led."""
    lines = []
    for way, verdict in ways:
        lines.append(f"{printable(way[:1].upper())}{printable(way[1:])}:")
        if verdict is None:
            lines.append("  No chain came.")
        else:
            lines += ["  The chain is good."] if verdict.ok else refused(verdict, width)
    return "\n".join(lines) + "\n"


def _certificate(place: int, one: CertificateLook, width: int) -> Iterator[str]:
    facts = one.facts
    yield from wrapped(f"{place}  {_name(facts.subject)}", width, "")
    yield from wrapped(f"issued by {_name(facts.issuer)}", width)
    yield f"  {facts.not_before} to {facts.not_after}, {facts.key}, {facts.signature_algorithm}"
    yield f"  SHA-256 {facts.sha256}"
    if facts.san:
        yield from wrapped(f"for {facts.names(8)}", width)
    if facts.extended_key_usage:
        yield from wrapped(f"use: {', '.join(facts.extended_key_usage)}", width)
    for answer in one.answers:
        known = answer.text.startswith(answer.verdict.value)
        said = answer.text if known else f"{answer.verdict.value}; {answer.text}"
        yield from wrapped(f"{answer.kind.value} {printable(answer.url, limit=_LONGEST)}: {said}", width)


def _offers(found: Probe, width: int) -> Iterator[str]:
    seen = found.seen
    if seen.ciphers is None:
        return
    yield ""
    yield from wrapped(
        f"Speaks {', '.join(seen.versions) or 'nothing'}; not {', '.join(seen.refused_versions)}", width, ""
    )
    for version in seen.versions:
        yield from wrapped(f"{version}: {', '.join(suite for one, suite in seen.ciphers if one == version)}", width)
    if seen.groups:
        yield from wrapped(f"groups: {', '.join(seen.groups)}", width)


def show_census(found: Census, *, width: int) -> str:
    """The chains and how often each came."""
    lines = [
        f"{found.count} connections, {len(found.chains)} different chains, {found.incomplete} without an intermediate"
    ]
    for (times, chain), verdict in zip_longest(found.chains, found.verdicts):
        lines += ["", f"{times} times:"]
        lines += [line for facts in chain for line in _short(facts, width)]
        if verdict is not None:
            lines += ["  The chain is good."] if verdict.ok else refused(verdict, width)
    for text in dict.fromkeys(found.failed):
        lines += ["", *wrapped(f"{found.failed.count(text)} times no chain: {text}", width)]
    return "\n".join(lines) + "\n"


def _short(facts: CertificateFacts, width: int) -> Sequence[str]:
    return wrapped(f"{_name(facts.subject)}, until {facts.not_after}, SHA-256 {facts.sha256[:16]}", width)


def _name(name: str | None) -> str:
    return printable(name, limit=_LONGEST) if name else "(no name)"
