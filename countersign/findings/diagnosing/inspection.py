"""What stands between: which product a chain looks like, and what interception changed.

Nobody says in a certificate that it is an interceptor's, but the names of the authorities above it do. A product is
named only where one of its own words stands in a name of the chain; ``products.toml`` has these words, and what is in
none of them is not guessed at.
"""

from __future__ import annotations

import re
import tomllib
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from countersign.ca.presets import presets
from countersign.findings.diagnosing.case import named
from countersign.findings.diagnosing.model import Found, Severity
from countersign.findings.diagnosing.parameters import lost_protocols
from countersign.recorder.recording import LegRole
from countersign.recorder.wire import names
from countersign.recorder.wire.events import Side
from countersign.recorder.wire.extensions import KeyShare
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from countersign.findings.diagnosing.case import Case
    from countersign.recorder.certificates import CertificateFacts


@cache
def _products() -> Mapping[str, tuple[str, ...]]:
    text = resources.files(__package__).joinpath("products.toml").read_text("utf-8")
    return {name: tuple(table["words"]) for name, table in tomllib.loads(text).items()}


_TELLING_APART = ("serial", "issuer", "subject", "not_before", "not_after", "ski")


def product_of(chain: Sequence[CertificateFacts]) -> str | None:
    """The product whose words stand in the name of an authority of this chain; the leaf's own subject says nothing."""
    authorities = [one.issuer for one in chain] + [one.subject for one in chain[1:]]
    said = " ".join(name.lower() for name in authorities if name)
    return next((name for name, words in _products().items() if any(word in said for word in words)), None)


@cache
def _any_word() -> re.Pattern[str]:
    words = sorted((word for some in _products().values() for word in some), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, words)), re.IGNORECASE)


def words_of_products(name: str) -> list[tuple[int, int]]:
    """Where in a name the words stand by which :func:`product_of` knows a product: beginnings and ends."""
    return [found.span() for found in _any_word().finditer(name)]


@cache
def _roots() -> frozenset[str]:
    """The common names of the products' own roots, as far as the presets know them."""
    names = (str(name) for preset in presets().values() for name in preset.authority.root.subject or ())
    return frozenset(name.removeprefix("CN=").strip().lower() for name in names if name.startswith("CN="))


def is_root_of_a_product(name: str | None) -> bool:
    """Whether a name is that of a root that is known: what it signed lacks no intermediate."""
    commons = re.findall(r"(?:^|,)CN=((?:\\.|[^,\\])*)", name or "")
    return any(re.sub(r"\\(.)", r"\1", one).strip().lower() in _roots() for one in commons)


def inspection(case: Case) -> Iterator[Found]:
    """That somebody stood between, and what that took away."""
    view = case.of_target
    if view is not None and (facts := view.facts(Side.SERVER)):
        product = product_of(facts)
        if product is not None:
            text = f"what the target showed was signed by {named(facts[0].issuer)}: it looks like {product}"
            evidence = view.evidence(view.message("certificate", Side.SERVER))
            yield Found("intercepted", text, evidence, Severity.NOTE, values={"product": product})
    yield from _issuer_changed(case)
    lost = lost_protocols(case)
    client, server = case.view(LegRole.CLIENT), case.view(LegRole.SERVER)
    if lost:
        text = f"interception lost the ALPN protocols {', '.join(lost)}: the target was not offered them"
        hellos = [view.evidence(view.message("client_hello")) for view in (client, server) if view is not None]
        values = {"protocols": ", ".join(lost)}
        yield Found("alpn-lost", text, sum(hellos, ()), severity=Severity.WARNING, values=values)
    elif client is not None and server is not None and client.reading.alpn and not server.reading.alpn:
        text = f"the client got ALPN {printable(client.reading.alpn)} and the target agreed on none"
        evidence = server.evidence(server.message("server_hello"))
        values = {"protocols": printable(client.reading.alpn)}
        yield Found("alpn-lost", text, evidence, severity=Severity.WARNING, values=values)
    if client is not None and server is not None:
        before, after = (view.extension(KeyShare) for view in (client, server))
        hybrid = [one.group for one in before.entries if one.group in names.POST_QUANTUM_GROUPS] if before else []
        if hybrid and after is not None and not any(one.group in names.POST_QUANTUM_GROUPS for one in after.entries):
            text = f"interception took the post-quantum key share {names.group_name(hybrid[0])} out of the hello"
            evidence = client.evidence(client.message("client_hello")) + server.evidence(server.message("client_hello"))
            yield Found("post-quantum-lost", text, evidence, severity=Severity.NOTE)
    for left_out in case.recording.not_mirrored:
        text = f"interception could not repeat: {printable(left_out, limit=200)}"
        yield Found("not-mirrored", text, ("what the proxy noted (not_mirrored)",), severity=Severity.NOTE)
    yield from _mtls(case)
    yield from _channel_binding(case)


def _channel_binding(case: Case) -> Iterator[Found]:
    """A login that signs something of one TLS conversation, where there are two."""
    bound = case.recording.prelude.get("channel_binding")
    if not isinstance(bound, dict) or case.view(LegRole.THROUGH) is not None:
        return
    chosen = [printable(str(bound[key]), limit=60) for key in ("chosen", "kind") if key in bound]
    offered = bound.get("offered")
    evidence = ("the words of the login (prelude.channel_binding)",)
    if chosen:
        text = f"the client's login is bound to its TLS channel ({', '.join(chosen)}), and the target is at the end of "
        text += "another one: a target that checks this refuses the login as a forged one"
        yield Found("channel-binding", text, evidence, rank=0)
    elif isinstance(offered, list | tuple):
        mechanisms = printable(", ".join(map(str, offered)), limit=100)
        text = f"the target offers logins that are bound to the TLS channel ({mechanisms})"
        yield Found("channel-binding", text, evidence, Severity.NOTE)


def _issuer_changed(case: Case) -> Iterator[Found]:
    """Another issuer, or another certificate, than in the last good session with this target."""
    view = case.of_client
    facts = view.facts(Side.SERVER) if view is not None else []
    if view is None or not facts:
        return
    for earlier in case.history:
        leg = earlier.leg(view.role)
        others = [sent.facts for sent in leg.read().chain(Side.SERVER)] if leg is not None else []
        if not others or earlier.outcome.status.value != "established":
            continue
        if _same(others[0], facts[0]) and len(others) == len(facts):
            return
        what = list(_changed(others, facts))
        if what:
            text = (
                f"since the last good session with this target ({earlier.id}) these changed: {', '.join(what)}; "
                f"its leaf was issued by {named(others[0].issuer)}, and is by {named(facts[0].issuer)} now"
            )
            outcome, client = case.recording.outcome, view.party(Side.CLIENT)
            refused = view.ended is not None and view.ended.party is client and outcome.broken_by is client
            severity = Severity.CAUSE if refused else Severity.NOTE  # who broke it elsewhere minds no certificate
            evidence = view.evidence(view.message("certificate", Side.SERVER))
            yield Found("rotated", text, evidence, severity, rank=2, values={"issuer": named(facts[0].issuer)})
        return


def _changed(before: Sequence[CertificateFacts], after: Sequence[CertificateFacts]) -> Iterator[str]:
    if not _same(before[0], after[0]):
        yield "the leaf"
    if before[0].issuer != after[0].issuer:
        yield "the leaf's issuer"
    if before[0].ski != after[0].ski:
        yield "the leaf's key"
    issuers = [each[1] for each in (before, after) if len(each) > 1]
    if len(issuers) == 1 or (issuers and not _same(*issuers)):
        yield "the issuing certificate"
    if len(before) != len(after):
        yield "the number of certificates sent"


def _same(one: CertificateFacts, other: CertificateFacts) -> bool:
    """Whether it is the same certificate; a log prints no hash of it, but enough to tell."""
    if one.sha256 and other.sha256:
        return one.sha256 == other.sha256
    return all(getattr(one, name) == getattr(other, name) for name in _TELLING_APART)


def _mtls(case: Case) -> Iterator[Found]:
    mtls = case.recording.mtls
    evidence = tuple(each for view in case.views for each in view.evidence(view.asked_for_certificate))
    evidence = evidence or ("what the proxy noted (mtls)",)
    if mtls.get("mode") == "strip" and mtls.get("asked") is not None:
        text = (
            "the target asked for a client certificate, and the client was not asked: interception answered with none"
        )
        yield Found("mtls-stripped", text, evidence, severity=Severity.WARNING, rank=2)
    if mtls.get("differs"):
        text = f"the client was not asked as the target asked: {printable(str(mtls['differs']), limit=200)}"
        yield Found("certificate-request-changed", text, evidence, severity=Severity.WARNING)
