"""One server looked at, or the same server many times."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from countersign.ca.revocation import ask_all
from countersign.ca.revocation.judging import Patience
from countersign.ca.verify import Verdict, verify_leaf
from countersign.errors import UserError
from countersign.findings.diagnosing.chain import defects
from countersign.findings.diagnosing.inspection import product_of
from countersign.findings.probing import offering
from countersign.findings.probing.handshaking import handshake
from countersign.findings.probing.model import CertificateLook, Plan, Probe, Seen
from countersign.recorder.certificates import read_certificate
from countersign.recorder.recording import NO_TLS
from countersign.recorder.wire.events import Side

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from countersign.recorder.certificates import CertificateFacts
    from countersign.recorder.recording import Recording
    from countersign.recorder.wire.reading import SentCertificate

_MOST_CERTIFICATES = 10  # whose status is asked for


def probe(plan: Plan, *, label: str | None = None, told: Callable[[str], None] = lambda _: None) -> Probe:
    """Everything about one server. ``told`` hears what is being done. Raises :class:`EnvironmentFault`."""
    told("a handshake")
    recording = handshake(plan, label=label)
    no_tls = any(each.code in NO_TLS for each in recording.failures) or any(leg.echoed for leg in recording.legs)
    seen = _offers(plan, told) if plan.all_versions and not no_tls else Seen()
    chain = _chain(recording)
    if not chain:
        return Probe(plan, recording, seen)
    facts = [one.facts for one in chain]
    told("the chain")
    verdict = verdict_on(plan, recording)
    looks = chain
    if plan.revocation:
        told("OCSP and CRL")
        looks = asyncio.run(_revocation(chain, verdict, plan))
    found = defects(_sent(recording), at=recording.started, name=plan.name or None)
    trusted = {"just-issued"} | ({"self-signed"} if verdict is not None and verdict.ok else set())
    wrong = tuple(one for one in found if one.id not in trusted)
    return Probe(plan, recording, seen, tuple(looks), verdict, wrong, product_of(facts))


def _offers(plan: Plan, told: Callable[[str], None]) -> Seen:
    told("versions")
    answers = list(offering.versions(plan))
    spoken = [name for name, yes in answers if yes]
    told("suites")
    ciphers = tuple(offering.ciphers(plan, spoken))
    told("groups")
    groups = tuple(offering.groups(plan, spoken)) if spoken else ()
    return Seen(tuple(spoken), tuple(name for name, yes in answers if not yes), ciphers, groups)


def _sent(recording: Recording) -> Sequence[SentCertificate]:
    return recording.legs[0].read().chain(Side.SERVER) if recording.legs else ()


def _chain(recording: Recording) -> list[CertificateLook]:
    return [CertificateLook(sent.facts, sent.der) for sent in _sent(recording) if sent.der]


def verdict_on(plan: Plan, recording: Recording) -> Verdict | None:
    """What OpenSSL says of the chain that a server showed, by the plan's roots; None where it showed none."""
    chain = _chain(recording)
    if not chain:
        return None
    untrusted = [one.der for one in chain[1:]]
    try:
        return verify_leaf(
            chain[0].der, roots=plan.roots, untrusted=untrusted, purpose="sslserver", hostname=plan.name or None
        )
    except UserError:
        return None


async def _revocation(chain: Sequence[CertificateLook], verdict: Verdict | None, plan: Plan) -> list[CertificateLook]:
    """Each certificate with what its own responders say of it; who issued it is in the chain that was verified."""
    ders = [link.der for link in verdict.links] if verdict is not None else [one.der for one in chain]
    looks = []
    for one in chain[:_MOST_CERTIFICATES]:
        issuer = _issuer(one.facts, chain, ders)
        patience = Patience(plan.seconds)
        answers = () if one.facts.self_issued else await ask_all(one.der, issuer, patience=patience)
        looks.append(CertificateLook(one.facts, one.der, answers))
    return [*looks, *chain[_MOST_CERTIFICATES:]]


def _issuer(facts: CertificateFacts, chain: Sequence[CertificateLook], ders: Sequence[bytes]) -> bytes | None:
    known = [*((one.facts.subject, one.der) for one in chain), *((read_certificate(der).subject, der) for der in ders)]
    if facts.self_issued:
        return None
    return next((der for subject, der in known if subject == facts.issuer), None)


@dataclass(frozen=True, slots=True)
class Census:
    """How many different chains came out of so many connections. ``chains`` are the most frequent first, and
    ``verdicts`` those on them, where there were roots to judge them by.

    ``failed`` are connections that gave no chain, with their outcomes.
    """

    count: int
    chains: tuple[tuple[int, tuple[CertificateFacts, ...]], ...]
    incomplete: int
    failed: tuple[str, ...]
    verdicts: tuple[Verdict | None, ...] = ()

    @property
    def good(self) -> bool:
        """Whether all connections gave the same whole chain, and a good one as far as it was judged."""
        refused = any(one is None or not one.ok for one in self.verdicts)
        return not (self.incomplete or self.failed or refused) and len(self.chains) < 2

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": 1,
            "count": self.count,
            "chains": [
                {"times": times, "chain": [one.to_json() for one in chain], **_judged(verdict)}
                for (times, chain), verdict in zip_longest(self.chains, self.verdicts)
            ],
            "incomplete": self.incomplete,
            "failed": list(self.failed),
        }


def census(plan: Plan, count: int, *, told: Callable[[str], None] = lambda _: None) -> Census:
    """The chains that the nodes behind one name show, connection after connection."""
    seen: Counter[tuple[str, ...]] = Counter()
    known: dict[tuple[str, ...], Recording] = {}
    failed: list[str] = []
    lacking = 0
    for n in range(count):
        told(f"connection {n + 1} of {count}")
        recording = handshake(plan)
        sent = _sent(recording)
        if not sent:
            failed.append(recording.outcome.text)
            continue
        key = tuple(one.facts.sha256 for one in sent)
        seen[key] += 1
        known[key] = recording
        found = {one.id for one in defects(sent, at=recording.started, name=None)}
        lacking += "missing-intermediate" in found
    often = seen.most_common()
    chains = tuple((times, tuple(one.facts for one in _sent(known[key]))) for key, times in often)
    verdicts = tuple(verdict_on(plan, known[key]) for key, _ in often) if plan.roots is not None else ()
    return Census(count, chains, lacking, tuple(failed), verdicts)


def _judged(verdict: Verdict | None) -> dict[str, Any]:
    return {} if verdict is None else {"verdict": verdict.to_json()}
