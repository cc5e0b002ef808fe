"""A scenario from a recording: what a recorded server did, done again under keys of our own.

A capture from a customer shows a server that nobody here has. What a client met there can be met again: the chain in
its shape (how many certificates, in which order, who signed whom, of which kind of key, with which usages, dates as far
from the session as they were), version, suite, group and ALPN as they were agreed on, the request for a client
certificate, and how the server ended it, at the same place. What a recording does not show is not made up, and said in
``notes``: of a passed-through TLS 1.3 session without keys there is no chain.

Names above the leaf stay those that were recorded. The leaf's own names become those of whoever is asked for, where the
recorded ones fitted what the client wanted; where they did not, they do not again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from countersign.ca.keys import key_kind
from countersign.ca.recipes import BasicConstraints, CertSpec, Extension, Recipe, RecipeError, Send
from countersign.errors import UserError
from countersign.findings.diagnosing import diagnose
from countersign.findings.diagnosing.chain import fits
from countersign.proxy.faults import read_fault
from countersign.proxy.orders import ClientAuthOrders
from countersign.recorder.certificates import (
    CertificateParts,
    cut_certificate,
    cut_extensions,
    read_certificate,
    signed_by,
)
from countersign.recorder.der import DerError
from countersign.recorder.recording import Ending, LegRole, Party, Status
from countersign.recorder.wire import codes
from countersign.recorder.wire.events import Content, Side
from countersign.recorder.wire.extensions import SignatureAlgorithms
from countersign.recorder.wire.messages import (
    CertificateRequest12,
    CertificateRequest13,
    CertificateVerify,
    ServerKeyExchange,
    Signature,
)
from countersign.recorder.wire.names import alert_name, signature_scheme_name
from countersign.recorder.wire.records import HTTP, NO_RECORD
from countersign.scenarios.expect import Expect
from countersign.scenarios.model import Certificate, ClientAuth, ClientCertificate, Mistake, Protocol, Scenario

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from countersign.proxy.faults.model import WireFault
    from countersign.recorder.certificates import CertificateFacts, ExtensionPart
    from countersign.recorder.recording import Leg, Recording
    from countersign.recorder.wire.reading import LegReading

_FIELDS = {  # RFC 5280 4.2, by the names that recipes have for them
    "2.5.29.15": "key_usage",
    "2.5.29.37": "extended_key_usage",
    "2.5.29.19": "basic_constraints",
    "2.5.29.30": "name_constraints",
    "2.5.29.32": "policies",
}
_SAN, _SKI, _AKI = "2.5.29.17", "2.5.29.14", "2.5.29.35"
_MUST_STAPLE, _SCTS, _AIA, _CRL = "1.3.6.1.5.5.7.1.24", "1.3.6.1.4.1.11129.2.4.2", "1.3.6.1.5.5.7.1.1", "2.5.29.31"
_OURS = {_SAN, _SKI, _AKI, _SCTS, _AIA, _CRL, _MUST_STAPLE, *_FIELDS}
_CRITICAL = {"basic_constraints", "key_usage"}  # as recipes have them unless told
_UNTRUSTED = {"untrusted-root", "untrusted-inspection-ca"}
_USUAL = {"leaf": "intermediate", "intermediate": "root", "root": "root"}
"""The certificates that every recipe has, and who issues them there unless told."""
_EXACT = 100_000
_NOBODYS_KEY = "00" * 20
_SHOWN_BY_CLIENT = {
    "client-wrong-eku": "client-for-servers",
    "client-leaf-expired": "client-expired",
    "client-self-signed": "client-self-signed",
    "client-missing-intermediate": "client-leaf-only",
    "client-issuer-not-listed": "client-of-an-unknown-ca",
    "client-certificate-not-trusted": "client-of-an-unknown-ca",
    "no-client-certificate": "client-without-a-certificate",
    "no-client-certificate-empty-list": "client-without-a-certificate",
}
_OF_CLIENTS_CERTIFICATE = {
    codes.HANDSHAKE_FAILURE,
    codes.BAD_CERTIFICATE,
    codes.UNSUPPORTED_CERTIFICATE,
    codes.CERTIFICATE_REVOKED,
    codes.CERTIFICATE_EXPIRED,
    codes.CERTIFICATE_UNKNOWN,
    codes.UNKNOWN_CA,
    codes.CERTIFICATE_REQUIRED,
}
_NOT_DONE_AGAIN = {
    "abandoned",
    "answer-refused",
    "bad-answer",
    "broken-message",
    "chain-too-large",
    "clock-skew",
    "damaged-record",
    "handshake-signature",
    "no-server-certificate",
    "oversized-record",
    "pinned",
}
"""Findings whose cause is in bytes that are not kept, or with the client."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """The scenario, and in sentences what of the recording is not in it."""

    scenario: Scenario
    notes: tuple[str, ...]


def rebuild(recording: Recording, *, role: LegRole | None = None, name: str | None = None) -> Rebuilt:
    """The scenario that makes a server like the recorded one. Raises :class:`UserError` where there is nothing to tell.

    ``role`` is the leg whose server is meant, unless told what the client met. ``name`` is its id; unless told it is
    made of the recording's.
    """
    leg = recording.leg(LegRole.THROUGH) or recording.leg(LegRole.CLIENT) or recording.leg(LegRole.SERVER)
    if role is not None:
        leg = recording.leg(role)
    if leg is None or not leg.messages:
        raise UserError(f"cannot make a scenario of recording {recording.id}: there is no TLS in it")
    maker = _Rebuilding(recording, leg)
    scenario = maker.scenario(name or f"from-{recording.id}")
    return Rebuilt(scenario, tuple(maker.notes))


class _Rebuilding:
    def __init__(self, recording: Recording, leg: Leg) -> None:
        self._recording = recording
        self._leg = leg
        self._reading: LegReading = leg.read()
        self._diagnosis = diagnose(recording)
        self.notes: list[str] = []

    def scenario(self, name: str) -> Scenario:
        recording = self._recording
        broken = recording.outcome.status in {Status.FAILED, Status.ABANDONED}
        client_auth, certificate, wire = self._client_auth(), self._certificate(), tuple(self._wire())
        nothing = client_auth is None and certificate is None and not wire
        try:
            return Scenario(
                id=name,
                title=f"Like the server of recording {recording.id}",
                story=recording.outcome.text,
                sources=(f"recording {recording.id}",),
                certificate=certificate,
                protocol=self._protocol(certificate),
                client_auth=client_auth,
                client_certificate=None if client_auth is None else ClientCertificate(recipe=self._shown()),
                wire=wire or None,
                waits=self._silent is not None,
                expect=Expect(right=self._right(broken=broken, nothing=nothing)),
            )
        except Mistake as wrong:
            raise UserError(f"cannot make a scenario of recording {recording.id}: {wrong}") from None

    def _right(self, *, broken: bool, nothing: bool) -> Literal["refuse", "accept", "either"]:
        """What the recorded client did; either, where what it did that for is not done again.

        ``nothing`` of what the server did but the parameters is: it was encrypted.
        """
        cause = self._diagnosis.cause
        if not broken:
            return "accept"
        strange = cause is not None and cause.id == "other-alert" and not self._by_alert
        if cause is None or cause.id in _NOT_DONE_AGAIN or strange or (nothing and self._hidden):
            what = self._recording.outcome.text if cause is None else cause.text
            self.notes.append(f"what broke it is not done again: {what}")
            return "either"
        return "refuse"

    def _shown(self) -> str:
        """The recipe of what the client showed, as far as what was wrong with it is known."""
        cause = self._diagnosis.cause
        usual = "client" if self._client_showed or self._failed else "client-without-a-certificate"
        return _SHOWN_BY_CLIENT.get("" if cause is None else cause.id, usual)

    @property
    def _client_showed(self) -> bool:
        return any(one.sender is Side.CLIENT for one in self._reading.certificates)

    # -- the chain

    def _certificate(self) -> Certificate | None:
        sent = [one for one in self._reading.certificates if one.sender is Side.SERVER]
        ders = [one.der for one in sent]
        if not sent or not all(ders):
            why = "only names and dates of it are known" if sent else "it was not seen, or none was sent"
            target = self._recording.leg(LegRole.SERVER) if self._leg.role is LegRole.CLIENT and not sent else None
            if target is not None and target.read().chain(Side.SERVER):
                why = f"the proxy sent none; the target's is in {self._recording.id}:server"
            self.notes.append(f"the chain is not in it: {why}")
            return None
        cause = self._diagnosis.cause
        trusted = cause is None or cause.id not in _UNTRUSTED
        try:
            recipe = _recipe(ders, self._recording)
        except (DerError, RecipeError) as wrong:
            self.notes.append(f"the chain is not in it: {wrong}")
            return None
        return Certificate(recipe=recipe, issuer="trusted" if trusted else "unknown")

    # -- what was agreed on

    def _protocol(self, certificate: Certificate | None) -> Protocol | None:
        reading = self._reading
        if reading.version is None or reading.cipher is None:
            return None
        given: dict[str, Any] = {}
        agreed: tuple[tuple[str, Any], ...] = (
            ("versions", (reading.version,)),
            ("ciphers", (reading.cipher,)),
            ("groups", (reading.group,) if reading.group else None),
            ("signature_algorithms", self._signed_with(certificate)),
        )
        for key, value in agreed:
            one: dict[str, Any] = {key: value}
            try:
                Protocol(**one)
            except UserError as wrong:
                self.notes.append(f"{key} follow the target: {wrong}")
            else:
                given[key] = value
        if reading.alpn is not None and reading.alpn.isascii():
            given["alpn"] = reading.alpn
        elif reading.alpn_offered and reading.alpn is None and Side.SERVER in reading.handshake_finished:
            given["alpn"] = ""
        return Protocol(**given)

    def _signed_with(self, certificate: Certificate | None) -> tuple[str, ...] | None:
        """The scheme of the server's own signature in the handshake, where its leaf has the key that makes such."""
        recipe = None if certificate is None else certificate.recipe
        if not isinstance(recipe, Recipe) or recipe.leaf.key is None:
            return None
        for one in self._reading.messages:
            match one.value if one.message.sender is Side.SERVER else None:
                case CertificateVerify(scheme) | ServerKeyExchange(_, Signature(int(scheme))):
                    return (signature_scheme_name(scheme),)
        return None

    def _client_auth(self) -> ClientAuth | None:
        reading = self._reading
        names = reading.requested_ca_texts
        if names is None and not any(one.type == "certificate_request" for one in reading.messages):
            return None
        refused = any(number == codes.CERTIFICATE_REQUIRED for number, _ in self._server_alerts())
        required = refused or self._failed or self._client_showed
        given = self._asked_names(reading.requested_ca_names or ())
        return ClientAuth(
            names=given or ("full" if names else "empty"), signature_algorithms=self._asked_schemes(), required=required
        )

    def _asked_schemes(self) -> tuple[str, ...] | None:
        """What the client was to sign with, in the request's order; None where it does not tell (before TLS 1.2)."""
        asked = next((one.value for one in self._reading.messages if one.type == "certificate_request"), None)
        schemes: tuple[int, ...] = ()
        if isinstance(asked, CertificateRequest12):
            schemes = asked.signature_algorithms
        elif isinstance(asked, CertificateRequest13):
            schemes = next((each.schemes for each in asked.extensions if isinstance(each, SignatureAlgorithms)), ())
        known = []
        for each in schemes:
            try:
                ClientAuthOrders(signature_algorithms=(each,))
            except UserError as wrong:
                self.notes.append(f"the request goes without a signature algorithm: {wrong}")
            else:
                known.append(signature_scheme_name(each))
        return tuple(known) or None

    def _asked_names(self, names: Sequence[bytes]) -> tuple[str, ...]:
        """Those of the recorded request; our client CA's stand for those that the client's chain led to."""
        chain = [one.der for one in self._reading.certificates if one.sender is Side.CLIENT and one.der]
        issuers: list[bytes] = []
        for one in chain:
            try:
                issuers.append(cut_certificate(one).issuer)
            except DerError:
                continue
        own = {name: "roots" if place else "intermediates" for place, name in reversed(list(enumerate(issuers)))}
        return tuple(dict.fromkeys(own.get(name) or name.hex() for name in names))

    # -- how it ended

    @property
    def _silent(self) -> str | None:
        """The message after which the server said no more, and the client waited."""
        cause = self._diagnosis.cause
        if cause is None or cause.id != "target-silent" or self._hidden:
            return None
        return next((m.type for m in reversed(self._reading.messages) if m.message.sender is Side.SERVER), "")

    @property
    def _by_alert(self) -> bool:
        return next(self._server_alerts(), None) is not None

    def _server_alerts(self) -> Iterator[tuple[int, int]]:
        """Description and place of each fatal alert of the server."""
        for place, message in enumerate(self._leg.messages):
            by_server = message.content is Content.ALERT and message.sender is Side.SERVER and len(message.raw) == 2
            if by_server and message.raw[1] not in codes.NEVER_FATAL:
                yield message.raw[1], place

    def _wire(self) -> Iterator[WireFault]:
        for number, place in self._server_alerts():
            if number == codes.CERTIFICATE_REQUIRED or self._answers_client(place):
                if number not in _OF_CLIENTS_CERTIFICATE:
                    name = alert_name(number)
                    self.notes.append(
                        f"what the client shows was refused with {name}, and is with OpenSSL's alert for it"
                    )
                return
            yield self._fault("alert", place, alert=alert_name(number))
            return
        if (strange := self._no_tls()) is not None:
            yield strange
            return
        if self._silent is not None:
            yield self._fault("silence", len(self._leg.messages))
            return
        ends = sorted(self._leg.ends, key=lambda one: one.t)
        if self._recording.outcome.broken_by is Party.CLIENT:
            return  # the server's end answers that
        if not self._failed or len(self._reading.handshake_finished) == 2 or not ends:
            return
        if not self._by_server(ends[0].sender, ends[0].how):
            return
        if self._hidden:
            self.notes.append("after which message the server ended it is not known: its messages are encrypted")
        else:
            yield self._fault("reset" if ends[0].how is Ending.RESET else "cut", len(self._leg.messages))

    @property
    def _failed(self) -> bool:
        return self._recording.outcome.status not in {Status.ESTABLISHED, Status.ABANDONED}

    @property
    def _hidden(self) -> bool:
        """Whether the server has sent records of its handshake that nobody opened."""
        return any(one.sender is Side.SERVER for one in self._leg.encrypted_records)

    def _by_server(self, sender: Side, how: Ending) -> bool:
        if how is Ending.STOPPED:
            return self._leg.role is LegRole.CLIENT and not self._recording.failures
        return sender is Side.SERVER and how in {Ending.FIN, Ending.RESET}

    def _answers_client(self, place: int) -> bool:
        """Whether the alert came when the client had shown a certificate, or that it has none."""
        before = self._reading.messages[:place]
        return any(one.type == "certificate" and one.message.sender is Side.CLIENT for one in before)

    def _fault(self, kind: str, place: int, **options: str) -> WireFault:
        """One that acts behind the server's last message before ``place``, or before its hello."""
        before = [one for one in self._reading.messages[:place] if one.message.sender is Side.SERVER]
        last = next((one.type for one in reversed(before) if one.message.content is Content.HANDSHAKE), None)
        place_ = {"at": last or "server_hello", "place": "after" if last else "before"}
        return read_fault({"do": kind, "leg": "client", "to": "client", **place_, **options})

    def _no_tls(self) -> WireFault | None:
        """An answer that was no TLS, as far as its beginning was kept."""
        if any(one.message.sender is Side.SERVER for one in self._reading.messages):
            return None
        for _, problem in self._recording.problems:
            if problem.sender is Side.SERVER and problem.field in {NO_RECORD, HTTP}:
                data = "".join(re.findall(r"\b[0-9a-f]{2}\b", problem.got.partition("(")[0]))
                if problem.field == HTTP:
                    return read_fault({"do": "block_page", "leg": "client", "to": "client", "at": "server_hello"})
                return read_fault(
                    {"do": "garbage", "leg": "client", "to": "client", "at": "server_hello", "data": data}
                )
        return None


# -- certificates ----------------------------------------------------------------------------------------------------


def _recipe(ders: Sequence[bytes], recording: Recording) -> Recipe:
    """The chain's shape. Raises :class:`DerError` for what is no certificate even in outline."""
    facts = [read_certificate(der) for der in ders]
    parts = [cut_certificate(der) for der in ders]
    names = _named(facts)
    taken = recording.outcome.status in {Status.ESTABLISHED, Status.ABANDONED}
    specs: dict[str, CertSpec] = {}
    unsent: dict[str, bytes] = {}  # the names of issuers that were not sent
    for place, name in enumerate(names):
        if name in specs:
            continue  # sent twice
        above = _parent(place, facts)
        given = _spec(parts[place], facts[place], recording.started, leaf=place == 0)
        if above is None:
            # Where the client found a way up, none was missing.
            given["issuer"] = "intermediate" if name == "leaf" and not taken else "root"
            unsent.setdefault(given["issuer"], parts[place].issuer)
        elif above == place:
            given["issuer"] = name
        else:
            given["issuer"] = names[above]
            given["signature_broken"] = signed_by(parts[place], parts[above].public_key) is False
            if facts[place].aki and facts[above].ski and facts[place].aki != facts[above].ski:
                given["aki"] = _NOBODYS_KEY
        if place == 0:
            given |= _leaf_names(parts[0], facts[0], recording)
        else:
            given["subject"] = parts[place].subject
        if name not in _USUAL:
            given["name"] = name
        elif given["issuer"] == _USUAL[name]:
            given.pop("issuer")
        specs[name] = CertSpec(**given)
    for name, subject in unsent.items():
        if name not in specs:
            free = BasicConstraints(ca=True) if name == "root" else None  # as long a path as was recorded
            specs[name] = CertSpec(subject=subject, basic_constraints=free)
    return Recipe(
        title="a chain like a recorded one",
        mimic=False,
        leaf=specs.get("leaf", CertSpec()),
        intermediate=specs.get("intermediate", CertSpec()),
        root=specs.get("root", CertSpec()),
        other=tuple(spec for name, spec in specs.items() if name not in {"leaf", "intermediate", "root"}),
        send=Send(order=tuple(names)),
    )


def _parent(place: int, facts: Sequence[CertificateFacts]) -> int | None:
    """Where the issuer of a certificate stands; itself where it vouches for itself."""
    if facts[place].self_issued:
        return place
    others = [n for n, one in enumerate(facts) if n != place and one.subject == facts[place].issuer]
    return next((n for n in others if n > place), others[0] if others else None)


def _named(facts: Sequence[CertificateFacts]) -> list[str]:
    """What each certificate is called in the recipe; the same one twice has one name."""
    names: dict[int, str] = {0: "leaf"}
    known = {facts[0].sha256: "leaf"}
    above = _parent(0, facts)
    place, step = above, 0
    while place is not None and place not in names:
        if facts[place].self_issued:
            names[place] = "root"
            break
        names[place] = "intermediate" if step == 0 else f"upper-{step}"
        known[facts[place].sha256] = names[place]
        place, step = _parent(place, facts), step + 1
    for number, one in enumerate(facts):
        if number not in names:
            names[number] = known.get(one.sha256) or f"beside-{number}"
        known[one.sha256] = names[number]
    return [names[number] for number in range(len(facts))]


def _spec(parts: CertificateParts, facts: CertificateFacts, at: datetime, *, leaf: bool) -> dict[str, Any]:
    given: dict[str, Any] = {}
    if facts.key is not None and (kind := _kind(facts.key)) is not None:
        given["key"] = kind
    if found := re.search(r"(md5|sha1|sha384|sha512)", (facts.signature_algorithm or "").lower().replace("-", "")):
        given["signature"] = found[1]
    given |= _dates(parts, facts, at)
    if facts.version is not None and facts.version != 3:
        given["version"] = facts.version
    if facts.serial is not None and (facts.serial.startswith("-") or facts.serial.strip("0") == ""):
        given["serial"] = int(facts.serial, 16)
    found_extensions = list(cut_extensions(parts.extensions)) if parts.extensions is not None else []
    given |= _extensions(found_extensions, leaf=leaf)
    return given


def _kind(key: str) -> str | None:
    words = key.replace(" ", ":", 1)
    try:
        key_kind(words)
    except UserError:
        return None
    return words.lower() if words.startswith(("RSA", "Ed")) else words.replace("EC:", "ec:")


def _dates(parts: CertificateParts, facts: CertificateFacts, at: datetime) -> dict[str, Any]:
    """As far from the session as they were; those that cannot be read, as they were."""
    try:
        spans = [datetime.fromisoformat(str(one)) - at for one in (facts.not_before, facts.not_after)]
    except ValueError:
        return {"validity": parts.validity}
    if any("not" in one for one in facts.problems):
        return {"validity": parts.validity}
    texts = [_span(int(span.total_seconds())) for span in spans]
    return {"not_before": texts[0], "not_after": texts[1]}


def _span(seconds: int) -> str:
    """In words of :func:`countersign.ca.pieces.moment`, the coarser the farther away it is."""
    sign, count = "-" if seconds < 0 else "+", abs(seconds)
    if count < _EXACT:
        return f"{sign}{count}s"
    if count < 60 * _EXACT:
        return f"{sign}{count // 60}m"
    return f"{sign}{count // 3600}h" if count < 3600 * _EXACT else f"{sign}{count // 86400}d"


def _extensions(found: Sequence[ExtensionPart], *, leaf: bool) -> dict[str, Any]:
    given: dict[str, Any] = {}
    there: dict[str, ExtensionPart] = {}
    twice: list[str] = []
    for one in found:
        name = _FIELDS.get(one.oid) or ("san" if one.oid == _SAN else None)
        if one.oid in there and name is not None:
            twice.append(name)
        there.setdefault(one.oid, one)
    for oid, name in _FIELDS.items():
        extension = there.get(oid)
        given[name] = extension.value if extension is not None else False
    for oid, name in ((_SKI, "ski"), (_AKI, "aki")):
        if oid not in there:
            given[name] = False
    if not leaf and _SAN in there:
        given["san"] = there[_SAN].value
    given["must_staple"] = _MUST_STAPLE in there or None
    given["extra"] = tuple(
        Extension(oid=one.oid, value=one.value, critical=one.critical) for one in found if one.oid not in _OURS
    )
    flags = {_FIELDS.get(oid) or ("san" if oid == _SAN else ""): one.critical for oid, one in there.items()}
    given["critical"] = tuple(name for name, critical in flags.items() if name and critical and name not in _CRITICAL)
    given["not_critical"] = tuple(name for name, critical in flags.items() if name in _CRITICAL and not critical)
    given["twice"] = tuple(dict.fromkeys(twice))
    return given


def _leaf_names(parts: CertificateParts, facts: CertificateFacts, recording: Recording) -> dict[str, Any]:
    """Those of whoever is asked for, where the recorded ones fitted; the recorded ones where not."""
    host = recording.sni or (recording.target or "").rpartition(":")[0].strip("[]")
    extensions = list(cut_extensions(parts.extensions)) if parts.extensions is not None else []
    san = next((one.value for one in extensions if one.oid == _SAN), None)
    if san is None:
        common = re.search(r"CN=([^,]+)", facts.subject or "")
        return {"san": False} | ({} if common and fits(f"DNS:{common[1]}", host) else {"subject": parts.subject})
    if not host or any(fits(name, host) for name in facts.san):
        return {}
    return {"san": san, "subject": parts.subject}
