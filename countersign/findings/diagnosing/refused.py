"""A certificate that somebody would not have: the server's, refused by the client; or the client's, by the server.

The alert and the chain are two witnesses. An alert that names its reason (RFC 8446 6.2: ``certificate_expired``,
``unknown_ca``) is believed, and of what is wrong with the chain that counts which fits it. ``certificate_unknown`` and
``bad_certificate`` name none (Java says the first of everything), and so does a connection that is simply closed; then
what is wrong with the chain is the cause, and a chain in which nothing is wrong is one whose root is not trusted, or
one that is pinned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from countersign.findings.diagnosing.answered import answered, no_tunnel
from countersign.findings.diagnosing.case import named
from countersign.findings.diagnosing.chain import defects
from countersign.findings.diagnosing.inspection import is_root_of_a_product, product_of
from countersign.findings.diagnosing.model import Found, Severity, kinds
from countersign.findings.diagnosing.said import says_otherwise
from countersign.findings.diagnosing.signing import signature_holds, signed_message
from countersign.recorder.recording import FailureCode, LegRole, Party, Status
from countersign.recorder.wire import codes
from countersign.recorder.wire.events import Side
from countersign.recorder.wire.text import listed, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from countersign.findings.diagnosing.case import Case, Ended, View
    from countersign.findings.diagnosing.chain import Defect
    from countersign.recorder.certificates import CertificateFacts

_ABOUT_CERTIFICATES = {
    codes.BAD_CERTIFICATE,
    codes.UNSUPPORTED_CERTIFICATE,
    codes.CERTIFICATE_REVOKED,
    codes.CERTIFICATE_EXPIRED,
    codes.CERTIFICATE_UNKNOWN,
    codes.UNKNOWN_CA,
    codes.BAD_CERTIFICATE_STATUS_RESPONSE,
}
_NAMES_NO_REASON = {codes.BAD_CERTIFICATE, codes.CERTIFICATE_UNKNOWN, None}

_LARGEST = 100 * 1024
_LARGEST_FOR_JAVA = 32 * 1024
_MOST_FOR_JAVA = 10
_SMALLEST = 8  # the header and empty lists

_FIT = {
    codes.CERTIFICATE_EXPIRED: {"leaf-expired", "issuer-expired", "leaf-not-yet-valid", "issuer-not-yet-valid"},
    codes.UNKNOWN_CA: {
        "missing-intermediate",
        "wrong-order",
        "self-signed",
        "issuer-is-no-ca",
        "issuer-may-not-sign",
        "path-too-long",
        "old-version",
        "weak-signature",
        "weak-key",
        "malformed-certificate",
        "other-issuer-key",
        "signature-does-not-hold",
        "long-chain",
        "chain-loop",
        "leaf-not-first",
    },
    codes.UNSUPPORTED_CERTIFICATE: {
        "leaf-not-first",
        "wrong-eku",
        "issuer-wrong-eku",
        "wrong-key-usage",
        "weak-key",
        "weak-signature",
    },
    codes.DECRYPT_ERROR: {"signature-does-not-hold", "malformed-certificate"},
    codes.HANDSHAKE_FAILURE: {"weak-key", "weak-signature", "long-chain"},
}
"""What may be behind an alert that names its reason, by OpenSSL's mapping and those of NSS, GnuTLS and Go."""

_TELLING = (  # what is wrong with a chain, the more often the cause the earlier
    "leaf-not-first",
    "leaf-expired",
    "leaf-not-yet-valid",
    "issuer-expired",
    "issuer-not-yet-valid",
    "signature-does-not-hold",
    "self-signed",
    "missing-intermediate",
    "chain-loop",
    "other-issuer-key",
    "wrong-eku",
    "issuer-wrong-eku",
    "issuer-is-no-ca",
    "issuer-may-not-sign",
    "path-too-long",
    "outside-name-constraints",
    "policy-missing",
    "unknown-critical-extension",
    "precertificate",
    "malformed-certificate",
    "old-version",
    "weak-key",
    "weak-signature",
    "wrong-key-usage",
    "wrong-host-name",
    "no-alternative-name",
    "bad-serial",
    "wrong-order",
    "long-chain",
    "just-issued",
    "repeated-certificate",
    "unrelated-certificate",
)
_HARMLESS = {"just-issued", "repeated-certificate", "unrelated-certificate"}
_NEVER_ALONE = _HARMLESS | {"bad-serial", "long-chain"}
"""Most clients take these; where the alert names no reason they are possible, and no more."""


def refused(case: Case) -> Iterator[Found]:
    """Why a certificate was refused; nothing where none was."""
    for view in case.views:
        ended = view.ended
        if ended is None:
            continue
        if _client_refused(case, view, ended):
            yield from _server_chain(case, view, ended)
        elif _server_refused(case, view, ended):
            yield from _client_chain(case, view, ended)
    yield from _by_the_proxy(case)


# -- the server's certificate ------------------------------------------------------------------------------------------


def _client_refused(case: Case, view: View, ended: Ended) -> bool:
    """The client ended it, having seen the server's certificates, for their sake as far as can be told."""
    if ended.party is not view.party(Side.CLIENT) or ended.party is Party.PROXY:
        return False
    if ended.alert is not None:
        about = ended.alert in _ABOUT_CERTIFICATES or (
            ended.alert in {codes.DECRYPT_ERROR, codes.HANDSHAKE_FAILURE} and _shown(view)
        )
        about = about or _too_large(view, ended) is not None or _empty(view)
        return about and not _client_finished_before(view, ended)
    failed = case.recording.outcome.status in {Status.FAILED, Status.ABANDONED}
    if any(answered(case)) or any(no_tunnel(case)):
        return False  # what the server sent is reason enough, or the proxy before it
    return failed and (_shown(view) or _empty(view)) and Side.CLIENT not in view.reading.handshake_finished


def _shown(view: View) -> bool:
    return bool(view.chain(Side.SERVER))


def _client_finished_before(view: View, ended: Ended) -> bool:
    finished = view.message("finished", Side.CLIENT)
    late = finished is not None and ended.place is not None and finished.number < ended.place
    return late and ended.alert not in _ABOUT_CERTIFICATES


def _too_large(view: View, ended: Ended) -> str | None:
    """More than OpenSSL takes unless told otherwise (``SSL_MAX_CERT_LIST_DEFAULT``), or Java, by its alert for that
    (``jdk.tls.maxHandshakeMessageSize``). Whose limit it is, with the number.
    """
    sent = view.message("certificate", Side.SERVER)
    if sent is None or ended.alert is None:
        return None
    if ended.alert == codes.UNEXPECTED_MESSAGE and sent.message.length > _LARGEST_FOR_JAVA:
        return f"Java takes no more than {_LARGEST_FOR_JAVA} (jdk.tls.maxHandshakeMessageSize)"
    return f"OpenSSL takes no more than {_LARGEST}" if sent.message.length > _LARGEST else None


def _empty(view: View) -> bool:
    sent = view.message("certificate", Side.SERVER)
    return sent is not None and 0 < sent.message.length <= _SMALLEST


def _server_chain(case: Case, view: View, ended: Ended) -> Iterator[Found]:
    chain = view.chain(Side.SERVER)
    evidence = view.evidence(view.message("certificate", Side.SERVER), ended.place)
    if (limit := _too_large(view, ended)) is not None:
        size = next(one.message.length for one in view.reading.messages if one.type == "certificate")
        text = f"the server's Certificate message has {size} bytes; {limit}"
        yield Found("chain-too-large", text, evidence, rank=1, values={"length": str(size)})
        return
    if _empty(view):
        yield Found("no-server-certificate", "the server's Certificate message holds no certificate", evidence, rank=0)
        return
    if not chain:
        yield Found(
            "certificate-refused-unseen",
            f"the client refused the server's certificate ({ended.name}), which was not seen: it is encrypted here",
            evidence,
            rank=2,
        )
        return
    yield from _stapled(case, view, ended, evidence)
    found = list(
        defects(
            chain,
            at=case.recording.started,
            name=_wanted(case, view),
            suite=view.reading.cipher,
            broken=view.broken(Side.SERVER),
        )
    )
    if is_root_of_a_product(chain[-1].facts.issuer):
        found = [one for one in found if one.id != "missing-intermediate"]
    yield from _ranked(found, ended.alert, evidence)
    fitting = [one for one in found if _rank(one, ended.alert) == 1]
    if ended.alert == codes.CERTIFICATE_EXPIRED:
        if not fitting:
            text = (
                "the client says that the certificate has expired or is not valid yet; by the proxy's clock it is valid"
            )
            text += "; a root that was not sent may have expired"
            yield Found("clock-skew", text, evidence, rank=1, values=_dates(chain[0].facts))
        return
    if ended.alert in {
        codes.CERTIFICATE_REVOKED,
        codes.BAD_CERTIFICATE_STATUS_RESPONSE,
        codes.UNSUPPORTED_CERTIFICATE,
        codes.DECRYPT_ERROR,
        codes.HANDSHAKE_FAILURE,
    }:
        yield from _said(view, ended, evidence, chain[0].facts, fitted=bool(fitting))
        return
    solid = [one for one in fitting if one.id not in _NEVER_ALONE and one.id != "wrong-order"]
    late = case.recording.outcome.status is Status.ABANDONED and product_of([one.facts for one in chain]) is None
    yield from _untrusted(case, view, ended, evidence, rank=3 if solid or late or says_otherwise(case) else 1)


def _wanted(case: Case, view: View) -> str | None:
    """The name that the client checks: its SNI on this leg, or else the host that it went to."""
    return view.reading.sni or (case.host if view.role is not LegRole.SERVER else None)


def _rank(one: Defect, alert: int | None) -> int:
    """How well a defect fits the alert: 1 well, 2 it may be."""
    if alert in _NAMES_NO_REASON:
        return 2 if one.id in _NEVER_ALONE else 1
    if one.id == "long-chain" and int(one.values["count"]) <= _MOST_FOR_JAVA:
        return 2
    return 1 if one.id in _FIT.get(alert or 0, ()) else 2


def _ranked(found: Sequence[Defect], alert: int | None, evidence: tuple[str, ...]) -> Iterator[Found]:
    for one in sorted(found, key=lambda defect: (_rank(defect, alert), _TELLING.index(defect.id))):
        rank = _rank(one, alert)
        yield Found(one.id, one.text, evidence, _severity(one, alert, rank), rank, one.values)


def _severity(one: Defect, alert: int | None, rank: int) -> Severity:
    """A cause is what fits; what an alert that names its reason does not speak of will break others."""
    if rank == 1:
        return Severity.CAUSE
    if one.id in _HARMLESS:
        return Severity.NOTE
    return Severity.CAUSE if alert in _NAMES_NO_REASON else Severity.WARNING


def _dates(leaf: CertificateFacts) -> dict[str, str]:
    return {"not_before": str(leaf.not_before), "not_after": str(leaf.not_after)}


def _said(
    view: View, ended: Ended, evidence: tuple[str, ...], leaf: CertificateFacts, *, fitted: bool
) -> Iterator[Found]:
    """What an alert alone tells."""
    subject = named(leaf.subject)
    if ended.alert == codes.CERTIFICATE_REVOKED:
        yield Found("revoked", f"{view.who(Side.CLIENT)} found {subject} revoked", evidence, rank=0)
    elif ended.alert == codes.BAD_CERTIFICATE_STATUS_RESPONSE:
        text = f"{view.who(Side.CLIENT)} did not accept the OCSP answer that was stapled to {subject}"
        yield Found("bad-stapled-answer", text, evidence, rank=1)
    elif ended.alert == codes.UNSUPPORTED_CERTIFICATE and not fitted:
        text = f"{view.who(Side.CLIENT)} cannot take a certificate of this kind: key {leaf.key}, {subject}"
        yield Found("unsupported-certificate", text, evidence, rank=1, values={"key": str(leaf.key)})
    elif ended.alert in {codes.HANDSHAKE_FAILURE, codes.DECRYPT_ERROR}:
        yield from _signature(view, ended, evidence, leaf, fitted=fitted)


def _signature(
    view: View, ended: Ended, evidence: tuple[str, ...], leaf: CertificateFacts, *, fitted: bool
) -> Iterator[Found]:
    """The server's signature in the handshake, which JSSE refuses by ``handshake_failure``, others as is right."""
    holds, signed = signature_holds(view), signed_message(view)
    if holds is False and signed is not None:
        text = (
            f"the signature of the server's {signed.type} does not hold by the key of {named(leaf.subject)} "
            f"({leaf.key}) over what the client was sent"
        )
        yield Found("handshake-signature", text, (*evidence, *view.evidence(signed)), rank=1)
    elif ended.alert == codes.DECRYPT_ERROR and not fitted and holds:
        text = "the server's own signature holds: it was a certificate's whose issuer was not sent, or the Finished"
        yield Found("handshake-signature", text, (*evidence, *view.evidence(signed)), rank=1)
    elif ended.alert == codes.DECRYPT_ERROR and not fitted:
        text = "a signature did not hold: of a certificate, of CertificateVerify or ServerKeyExchange, or a Finished"
        yield Found("handshake-signature", text, evidence, rank=1)
    elif holds is None and not fitted:
        text = (
            f"{view.who(Side.CLIENT)} ended it behind the server's certificate and names no reason; Java says so where "
            "a signature (CertificateVerify, ServerKeyExchange) does not hold, which cannot be tried here"
        )
        yield Found("handshake-signature", text, evidence, rank=2)


def _stapled(case: Case, view: View, ended: Ended, evidence: tuple[str, ...]) -> Iterator[Found]:
    answers = list(_answers(view))
    leaf = view.facts(Side.SERVER)[0]
    fits = ended.alert in {codes.CERTIFICATE_REVOKED, codes.BAD_CERTIFICATE_STATUS_RESPONSE, *_NAMES_NO_REASON}
    for answer in answers:
        status = answer.get("certificate_status")
        if status == "revoked":
            since = answer.get("revoked_at")
            text = f"the stapled OCSP answer says that {named(leaf.subject)} is revoked since {since}"
            yield Found("revoked", text, evidence, rank=0 if fits else 2)
        elif answer.get("response_status") not in {"successful", None} or status == "unknown":
            text = f"the stapled OCSP answer says {status or answer.get('response_status')}"
            yield Found("bad-stapled-answer", text, evidence, rank=1 if fits else 2)
        elif _is_stale(answer, case):
            text = f"the stapled OCSP answer is out of date: nextUpdate {answer.get('next_update')}"
            yield Found("bad-stapled-answer", text, evidence, rank=1 if fits else 2)
    if leaf.must_staple and not answers:
        text = f"{named(leaf.subject)} must come with a stapled OCSP answer (must-staple, RFC 7633), and none came"
        yield Found("must-staple-missing", text, evidence, rank=1 if fits else 2)


def _answers(view: View) -> Iterator[dict[str, object]]:
    """The stapled OCSP answers' fields: of CertificateStatus, or beside the leaf in TLS 1.3."""
    status = view.message("certificate_status", Side.SERVER)
    stapled = status.fields.get("response") if status is not None else None
    if isinstance(stapled, dict):
        yield stapled
    certificate = view.message("certificate", Side.SERVER)
    entries = certificate.fields.get("entries") if certificate is not None else None
    for entry in (entries or [])[:1]:
        for extension in entry.get("extensions") or ():
            if isinstance(extension.get("response"), dict):
                yield extension["response"]


def _is_stale(answer: dict[str, object], case: Case) -> bool:
    until = answer.get("next_update")
    return isinstance(until, str) and until < f"{case.recording.started:%Y-%m-%dT%H:%M:%SZ}"


def _untrusted(case: Case, view: View, ended: Ended, evidence: tuple[str, ...], rank: int) -> Iterator[Found]:
    """Nothing else is wrong with the chain: its root is not trusted, or it is pinned."""
    facts = view.facts(Side.SERVER)
    top = facts[-1]
    issuer = named(top.subject if top.self_issued else top.issuer)
    root = issuer if len(facts) > 1 else f"{issuer}, or the root above it"
    leaf = named(facts[0].subject)
    product = product_of(facts)
    ours = view.role is LegRole.CLIENT
    trusted = _accepted_before(case, view, facts)
    values = {"root": root, "leaf": leaf, "product": product or "an inspecting device"}
    if facts[0].self_issued:
        return  # said by the chain itself
    if len(facts) == 1:
        sent = f"{issuer}, its issuer, was not sent"
    elif top.self_issued:
        sent = f"its root {issuer} was sent with it"
    else:
        sent = f"{issuer}, above the last certificate sent, was not sent, as is usual for a root"
    if trusted is not None:
        sent += f"; a client with the same hello took a chain under the same root in recording {trusted}: was it this "
        sent += "one, then what that root allows (path length, names) or what has changed is the reason"
    if ours or product:
        device = f"looks like {product}" if product else "is this proxy's own inspection CA"
        text = f"the client does not trust the CA that signed {leaf} again on the way; it {device}; {sent}"
        yield Found("untrusted-inspection-ca", text, evidence, rank=rank, values=values)
    else:
        text = f"the client does not trust the CA that {leaf} comes from; {sent}"
        yield Found("untrusted-root", text, evidence, rank=rank, values=values)
    whole = top.self_issued or is_root_of_a_product(top.issuer) or trusted is not None
    if rank == 1 and len(facts) > 1 and not whole:
        text = f"or {issuer}, which issued the last certificate sent, is no root, and an intermediate is missing"
        yield Found("missing-intermediate", text, evidence, rank=3, values=values | {"missing": issuer, "urls": ""})
    if ended.alert in _NAMES_NO_REASON and (ours or product or trusted is not None):
        text = "or the client has pinned another certificate or CA, or checks something that is not on the wire"
        if trusted is not None:
            text += f": a client with the same hello took a chain under the same root in recording {trusted}"
        yield Found("pinned", text, evidence, rank=3, values=values)


def _accepted_before(case: Case, view: View, facts: Sequence[CertificateFacts]) -> str | None:
    """A session in which a client with the same hello took a chain under the same root."""
    top = facts[-1]
    root = top.subject if top.self_issued else top.issuer
    for earlier in case.history:
        if earlier.outcome.status is not Status.ESTABLISHED:
            continue
        leg = earlier.leg(view.role)
        reading = leg.read() if leg is not None else None
        if reading is None or reading.ja4 != view.reading.ja4 or reading.resumed:
            continue
        others = [sent.facts for sent in reading.chain(Side.SERVER)]
        if others and root is not None and root in {others[-1].issuer, others[-1].subject}:
            return earlier.id
    return None


def abandoned(case: Case) -> Iterator[Found]:
    """A client that finished and went: a host name is checked only then, by curl and by Java's verifiers."""
    view = case.of_client
    if case.recording.outcome.status is not Status.ABANDONED or view is None:
        return
    evidence = view.evidence(view.message("certificate", Side.SERVER), view.message("finished", Side.CLIENT))
    chain, at = view.chain(Side.SERVER), case.recording.started
    for one in defects(chain, at=at, name=_wanted(case, view), broken=view.broken(Side.SERVER)):
        if one.id in {"wrong-host-name", "no-alternative-name"}:
            yield Found(one.id, one.text, evidence, rank=0, values=one.values)


# -- the client's certificate ------------------------------------------------------------------------------------------


def _server_refused(case: Case, view: View, ended: Ended) -> bool:
    """The server ended it, having asked for a certificate and seen the client's answer, for its sake as far as told."""
    if ended.party is not view.party(Side.SERVER):
        return False
    if ended.party is Party.PROXY:
        return any(one.code is FailureCode.CLIENT_CERTIFICATE for one in case.recording.failures)
    shown = view.message("certificate", Side.CLIENT)
    asked = view.asked_for_certificate
    if ended.alert == codes.CERTIFICATE_REQUIRED:
        return True
    if asked is None or shown is None:
        hidden = bool(view.leg.encrypted_records) or any(one.sealed for one in view.reading.messages)
        return ended.alert in _ABOUT_CERTIFICATES and hidden
    if ended.place is not None and ended.place < shown.number:
        return False
    if ended.alert is not None:
        about = _ABOUT_CERTIFICATES | {codes.ACCESS_DENIED, codes.HANDSHAKE_FAILURE, codes.DECRYPT_ERROR}
        about |= set() if view.chain(Side.CLIENT) else {codes.DECODE_ERROR}  # GnuTLS says that of an empty list
        return ended.alert in about
    elsewhere = case.recording.outcome.leg not in {None, view.role}  # then this leg only went with the other one
    return case.recording.outcome.status is Status.FAILED and not elsewhere and not _went_on(view)


def _went_on(view: View) -> bool:
    """The server has said something that it says to a client which it has accepted (RFC 8446 4.4.4, 4.6.1)."""
    finished = view.message("finished", Side.CLIENT)
    return finished is not None and any(
        one.message.sender is Side.SERVER and one.number > finished.number for one in view.reading.messages
    )


def _client_chain(case: Case, view: View, ended: Ended) -> Iterator[Found]:
    shown, asked = view.message("certificate", Side.CLIENT), view.asked_for_certificate
    evidence = view.evidence(asked, shown, ended.place)
    chain = view.chain(Side.CLIENT)
    if shown is None:
        text = (
            f"the target refused the client's certificate, or that there was none ({ended.name}): it is encrypted here"
        )
        yield Found("client-certificate-refused-unseen", text, evidence, rank=0)
        return
    if not chain:
        yield from none_shown(case, view, evidence)
        return
    found = list(defects(chain, at=case.recording.started, name=None, client=True, broken=view.broken(Side.CLIENT)))
    names = view.reading.requested_ca_texts
    values = {"subject": named(chain[0].facts.subject), "issuer": named(chain[0].facts.issuer)}
    fitting = 0
    for one in sorted(found, key=lambda defect: (_rank(defect, ended.alert), _TELLING.index(defect.id))):
        rank = 1 if ended.alert == codes.HANDSHAKE_FAILURE else _rank(one, ended.alert)
        fitting += rank == 1 and one.id not in _NEVER_ALONE
        yield Found(_of_client(one.id), one.text, evidence, rank=rank, values=dict(one.values))
    if ended.alert == codes.CERTIFICATE_REVOKED:
        yield Found("client-revoked", f"the target found {values['subject']} revoked", evidence, rank=0, values=values)
        return
    if ended.alert in {codes.CERTIFICATE_EXPIRED, codes.UNSUPPORTED_CERTIFICATE} and fitting:
        return
    rank = 3 if fitting else 1
    if names and not any(one.facts.issuer in names or one.facts.subject in names for one in chain):
        wanted = listed([named(name) for name in names], 5, joint="; ")
        text = f"the client's certificate was issued by {values['issuer']}, and the target takes those of: {wanted}"
        yield Found("client-issuer-not-listed", text, evidence, rank=min(rank, 2) if fitting else 1, values=values)
        rank = 3
    text = (
        f"the target does not take {values['subject']}, issued by {values['issuer']}: it does not trust that issuer, "
    )
    text += "has no user for the certificate, or found it revoked"
    yield Found("client-certificate-not-trusted", text, evidence, rank=rank, values=values)


def _of_client(name: str) -> str:
    return f"client-{name}" if f"client-{name}" in kinds() else "client-certificate-unfit"


def none_shown(case: Case, view: View, evidence: tuple[str, ...]) -> Iterator[Found]:
    """The target asked for a certificate, and the client had none to show."""
    names = view.reading.requested_ca_texts or ()
    mtls = case.recording.mtls
    if view.role is LegRole.SERVER and mtls.get("mode") and mtls.get("asked_of_client") is None:
        text = "the target asked for a client certificate, and the inspecting proxy answered with none: it did not ask "
        text += f"the client (--mtls {printable(str(mtls['mode']), limit=20)})"
        if mtls.get("asked_again") and mtls.get("why"):
            text += f"; {printable(str(mtls['why']), limit=300)}"
        yield Found("mtls-stripped", text, evidence, rank=0)
        return
    asked = view.asked_for_certificate
    assert asked is not None
    if not names:
        text = "the target asked for a certificate without naming any authority, and the client sent none"
        yield Found("no-client-certificate-empty-list", text, evidence, rank=0)
        return
    wanted = listed([named(name) for name in names], 5, joint="; ")
    text = f"the target asked for a certificate of {wanted}, and the client sent none, as if it had none of these"
    yield Found("no-client-certificate", text, evidence, rank=0, values={"names": wanted})


# -- what the proxy itself refused -------------------------------------------------------------------------------------

_REFUSALS = {
    FailureCode.UNTRUSTED: {"missing-intermediate", "self-signed", "wrong-order", "issuer-is-no-ca", "path-too-long"},
    FailureCode.NOT_VALID_NOW: _FIT[codes.CERTIFICATE_EXPIRED],
    FailureCode.WRONG_NAME: {"wrong-host-name", "no-alternative-name"},
    FailureCode.BAD_CHAIN: set(_TELLING),
}
_INSTEAD = {
    FailureCode.UNTRUSTED: "target-untrusted",
    FailureCode.NOT_VALID_NOW: "leaf-expired",
    FailureCode.WRONG_NAME: "wrong-host-name",
    FailureCode.BAD_CHAIN: "target-chain-refused",
}


def _by_the_proxy(case: Case) -> Iterator[Found]:
    """The proxy did not take the target's chain: for what is wrong with it, or for its root."""
    view = case.view(LegRole.SERVER)
    failure = next((one for one in case.recording.failures if one.code in _REFUSALS), None)
    if view is None or failure is None:
        return
    chain = view.chain(Side.SERVER)
    evidence = view.evidence(view.message("certificate", Side.SERVER))
    found = list(
        defects(chain, at=case.recording.started, name=view.reading.sni or case.host, broken=view.broken(Side.SERVER))
    )
    fitting = [one for one in found if one.id in _REFUSALS[failure.code]]
    for one in sorted(found, key=lambda defect: (defect not in fitting, _TELLING.index(defect.id))):
        yield Found(one.id, one.text, evidence, rank=1 if one in fitting else 2, values=one.values)
    error = view.leg.verification.error if view.leg.verification is not None else None
    words = f" (OpenSSL: {printable(error, limit=200)})" if error else ""
    text = f"the proxy {failure.text}{words}"
    root = named(chain[-1].facts.issuer) if chain else ""
    yield Found(_INSTEAD[failure.code], text, evidence, rank=3 if fitting else 1, values={"root": root})


def revocation_asked(case: Case) -> Iterator[Found]:
    """OCSP and CRL as far as this recording asked or was told: what was asked and not answered well."""
    for view in case.views:
        for asked in view.leg.revocation:
            answer = str(asked.get("answer", ""))
            if answer in {"good", ""}:
                continue
            url = printable(str(asked.get("url", "")), limit=300)
            kind = "revoked" if answer == "revoked" else "revocation-unreachable"
            yield Found(
                kind,
                f"{url} was asked and answered: {printable(answer, limit=200)}",
                (f"{view.title}: what was asked about revocation",),
                severity=Severity.CAUSE if kind == "revoked" else Severity.WARNING,
                rank=2,
                values={"url": url},
            )


__all__ = ["abandoned", "refused", "revocation_asked"]
