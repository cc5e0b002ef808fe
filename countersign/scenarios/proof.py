"""Whether what a scenario says was really on the wire: read from recordings, and never from what was ordered.

Each part of a scene has a proof of its own, and those of a scenario are the proofs of all its parts in all its steps.
Where one fails, the run was no test of the scenario: the sentence says what was not there (:class:`Unproved`). What
waits for a question that the client need not ask (a stapled response; OCSP, CRLs and issuers' certificates) says so in
``not_asked`` where nobody asked; faults of a responder are proved by questions of our own
(:func:`countersign.scenarios.answered.questions`), which belong into the responder's log.

A session that was resumed shows no certificates (RFC 8446 2.2), so it proves nothing about them; one session of a step
that does is needed, and each that does has to.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from itertools import combinations, pairwise
from typing import TYPE_CHECKING

from countersign.ca import Authority, Plan
from countersign.ca.presets import presets
from countersign.ca.recipes import Recipe
from countersign.ca.revocation import Fault, What
from countersign.proxy.faults import FAULTS
from countersign.recorder.certificates import cut_certificate, read_certificate, signed_by
from countersign.recorder.der import DerError
from countersign.recorder.recording import LegRole
from countersign.recorder.wire.events import Content, Side
from countersign.recorder.wire.extensions import StapledStatus
from countersign.recorder.wire.messages import (
    Certificate13,
    CertificateStatus,
    CertificateVerify,
    NewSessionTicket,
    ServerHello,
    ServerKeyExchange,
    Signature,
)
from countersign.recorder.wire.names import SIGNATURE_SCHEMES, version_name
from countersign.recorder.wire.reading import read_leg, summarize_client_hello
from countersign.scenarios.answered import not_answered, not_stapled
from countersign.scenarios.clock import REAL, Clock
from countersign.scenarios.directing import is_of_strangers, recipe_of
from countersign.scenarios.handshaking import key_in_use
from countersign.scenarios.likeness import Shown, unlike
from countersign.scenarios.model import (
    VERSION_NAMES,
    Certificate,
    ClientAuth,
    Protocol,
    Scenario,
    Scene,
    Stapling,
    Step,
    Target,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from countersign.ca.revocation import Answer, Asked
    from countersign.proxy.answer import ProxyAnswer
    from countersign.proxy.faults import WireFault
    from countersign.proxy.network import Network
    from countersign.recorder.recording import Recording
    from countersign.recorder.wire.reading import HelloSummary, LegReading, ReadMessage

GOOD = Fault(What.GOOD)
_EXTENDED_MASTER_SECRET = 23
_REFUSALS = {
    "handshake_failure",
    "protocol_version",
    "no_application_protocol",
    "insufficient_security",
    "illegal_parameter",
}
_SERVER_NAME = "localhost"


@dataclass(frozen=True, slots=True)
class Unproved:
    """A part of a step that was not shown to have been on the wire, and why.

    ``not_asked``: because the client did not ask for it, which is its right.
    """

    part: str
    step: int
    text: str
    not_asked: bool = False


@dataclass(frozen=True)  # without slots, so that what is read is kept
class _Session:
    """A recording, its client leg read."""

    recording: Recording
    leg: LegReading

    @cached_property
    def chain(self) -> tuple[bytes, ...]:
        """What the client was shown."""
        return tuple(each.der for each in self.leg.certificates if each.sender is Side.SERVER)

    @cached_property
    def server_leg(self) -> LegReading:
        """What was said with the target."""
        leg = self.recording.leg(LegRole.SERVER)
        return read_leg(()) if leg is None else leg.read()

    @cached_property
    def target_leaf(self) -> bytes | None:
        """What the target showed, where it was recorded."""
        return next((each.der for each in self.server_leg.certificates if each.sender is Side.SERVER), None)

    @property
    def host(self) -> str:
        """The host that a recipe was told."""
        target = (self.recording.target or "").rpartition(":")[0].strip("[]")
        return self.recording.sni or target or _SERVER_NAME


def proofs(
    scenario: Scenario,
    recordings: Iterable[Recording],
    responder_log: Iterable[Asked | Answer] = (),
    *,
    anchors: Sequence[bytes] = (),
    clients: Authority | None = None,
    clock: Clock = REAL,
) -> tuple[Unproved, ...]:
    """What of ``scenario`` was not on the wire; empty where all of it was.

    ``anchors`` are what the client trusts (DER), ``clients`` the CA of its certificates, ``clock`` the one that the
    director had. Never raises for anything that was recorded.
    """
    sessions = [_session(each) for each in recordings if each.scenario == scenario.id]
    known = _Known(tuple(anchors), clients, clock, tuple(responder_log))
    by_step = {
        number: [each for each in sessions if each.recording.step == number]
        for number in range(1, len(scenario.scenes) + 1)
    }
    found: list[Unproved] = _unreached(scenario, by_step)
    for number, scene in enumerate(scenario.scenes, 1):
        there = by_step[number]
        step = scenario.steps[number - 1] if scenario.steps else Step()
        if not there:
            continue
        until = scenario.steps[:number] if scenario.schedule.order == "steps" else scenario.steps
        rooted = not any(each.rotate == "root" for each in until)
        found += _scene(scene, step, number, there, replace(known, rooted=rooted))
        if step.keep_sessions and not any(each.leg.resumed for each in there):
            found.append(_not_resumed(number, there))
        if step.rotate is not None and scenario.schedule.order == "steps":
            before = [each for other in range(1, number) for each in by_step[other]]
            found += _told("rotate", number, not_rotated(step, before, there))
        elif step.rotate is not None:
            found += _told("rotate", number, _never_rotated(step, sessions))
    return tuple(found)


def _session(recording: Recording) -> _Session:
    leg = recording.leg(LegRole.CLIENT) or recording.leg(LegRole.THROUGH)
    return _Session(recording, read_leg(()) if leg is None else leg.read())


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known beside the recordings. ``rooted``: the root is still the one that the client trusts."""

    anchors: tuple[bytes, ...]
    clients: Authority | None
    clock: Clock
    log: tuple[Asked | Answer, ...]
    rooted: bool = True


def _told(part: str, step: int, text: str | None) -> list[Unproved]:
    return [] if text is None else [Unproved(part, step, text)]


def _unreached(scenario: Scenario, by_step: dict[int, list[_Session]]) -> list[Unproved]:
    """Steps of which nothing was on the wire. Of those that go round or by chance two different ones are enough."""
    reached = [number for number, sessions in by_step.items() if sessions]
    if not reached:
        return [Unproved("session", 1, f"no session of the scenario {scenario.id!r} was recorded")]
    if scenario.schedule.order != "steps":
        enough = len(reached) > 1 or len(scenario.steps) == 1
        text = f"all sessions were in step {reached[0]}; expected some in another"
        return [] if enough else [Unproved("step", reached[0], text)]
    return [
        Unproved("step", number, f"step {number} was never reached: the last session was in step {max(reached)}")
        for number, sessions in by_step.items()
        if not sessions and number > 1
    ]


def _scene(scene: Scene, step: Step, number: int, sessions: list[_Session], known: _Known) -> list[Unproved]:
    found: list[Unproved] = []
    if scene.action is not None:
        other = next((each for each in sessions if each.recording.action != scene.action), None)
        text = None if other is None else f"a session was not {scene.action}: it is {other.recording.action}"
        if text is None and scene.action == "intercept":
            text = _each(sessions, _not_intercepted)
        found += _told("action", number, text)
    certificate = scene.certificate
    if certificate is not None and certificate != Certificate():
        found += _told("certificate", number, _shown_otherwise(certificate, step, sessions, known))
    if scene.protocol is not None:
        spoken = scene.protocol
        reached = [each for each in sessions if not (_is_behind(scene) and _broke_behind(each))]
        found += _told("protocol", number, _each(reached, lambda each: spoken_otherwise(spoken, each)))
        if spoken.alpn is not None and not any(_offers_protocols(each) for each in sessions):
            text = "the client offered no protocol to choose from (ALPN)"
            found.append(Unproved("protocol", number, text, not_asked=True))
        if spoken.resumption == "none" and not any(_offers_to_resume(each) for each in sessions):
            text = "the client did not try to resume a session"
            found.append(Unproved("protocol", number, text, not_asked=True))
    if scene.client_auth is not None:
        asked = scene.client_auth
        found += _told("client_auth", number, _some(sessions, lambda each: asked_otherwise(asked, each, known.clients)))
    if scene.target is not None:
        target = scene.target
        found += _told("target", number, _some(sessions, lambda each: target_otherwise(target, each, known.clients)))
    if scene.stapling is not None:
        found += _stapled(scene.stapling, number, sessions, known)
    if scene.revocation == ():
        found += _told("revocation", number, not_answered(GOOD, known.log))
    for fault in scene.revocation or ():
        found += _told("revocation", number, not_answered(fault, known.log))
    for wire in scene.wire or ():
        proof = partial(_wire_unproved, wire)
        found += _told("wire", number, _some(sessions, proof))
    if (network := scene.network) is not None:
        found += _told("network", number, _some(sessions, lambda each: _network_unproved(network, each)))
    if (answer := scene.answer) is not None:
        found += _told("answer", number, _some(sessions, lambda each: _answer_unproved(answer, each)))
    return found


def _wire_unproved(fault: WireFault, session: _Session) -> str | None:
    return FAULTS[fault.do].proof(session.recording, fault)


def _not_intercepted(session: _Session) -> str | None:
    if session.chain and session.chain[0] == session.target_leaf:
        return "the client was shown the target's own certificate"
    return None if session.chain or session.leg.resumed else "no certificate was sent to the client"


def _network_unproved(network: Network, session: _Session) -> str | None:
    """The proxy notes a network when the first bytes have come through it, and what happens in it when it does."""
    noted = [fault for leg in session.recording.legs for fault in leg.faults]
    if not any(fault.get("do") == "network" and fault.get("text") == network.text for fault in noted):
        return "nothing came through the network that was ordered"
    for place, do in ((network.stall_after_bytes, "network_stall"), (network.reset_after_bytes, "network_reset")):
        if place is not None and not any(fault.get("do") == do for fault in noted):
            return f"fewer than {place} bytes came through the network, so there was no {do.removeprefix('network_')}"
    if network.reset_after_seconds is not None and not any(fault.get("do") == "network_reset" for fault in noted):
        return f"the connection was over before {network.reset_after_seconds:g} s had passed, so there was no reset"
    return None


def _answer_unproved(answer: ProxyAnswer, session: _Session) -> str | None:
    ordered = session.recording.prelude.get("ordered")
    said = ordered.get("answer") if isinstance(ordered, dict) else None
    if said in {answer.text(), answer.text(socks=True)}:
        return None
    return "the client did not ask the proxy for a tunnel, or got another answer than the one that was ordered"


def _some(sessions: list[_Session], wrong: Callable[[_Session], str | None]) -> str | None:
    """What is wrong with the first of them, unless there is one with which nothing is."""
    found = [wrong(each) for each in sessions]
    return None if None in found else found[0]


def _each(sessions: list[_Session], wrong: Callable[[_Session], str | None]) -> str | None:
    """What is wrong with the first with which something is."""
    return next((text for each in sessions if (text := wrong(each)) is not None), None)


# -- certificates ------------------------------------------------------------------------------------------------


def _shown_otherwise(certificate: Certificate, step: Step, sessions: list[_Session], known: _Known) -> str | None:
    showing = [each for each in sessions if each.chain]
    if showing:
        return _each(showing, lambda each: shown_otherwise(certificate, each, known))
    if any(each.leg.resumed for each in sessions):
        return None if step.keep_sessions else "every session was resumed, and a resumed one shows no certificate"
    return "no certificate was sent to the client"


def shown_otherwise(certificate: Certificate, session: _Session, known: _Known) -> str | None:
    """In what the chain that the client was shown is not what this part of a scene says."""
    recipe, preset = recipe_of(certificate, known.clock), certificate.own_preset
    trusted = certificate.issuer == "trusted"
    needs_anchors = not trusted or (recipe is not None and (recipe.trust != ("root",) or bool(recipe.root.changed)))
    if needs_anchors and not known.anchors:
        return "what the client trusts is not known, and the fault is about that"
    if not trusted and (anchor := _leads_to(session.chain, known.anchors)):
        return f"the chain leads to what the client trusts, '{anchor}'"
    if recipe is None and preset is None and certificate.levels is None:
        return None
    text = None
    for base in _bases(certificate, known):
        wrong = _unlike(recipe or Recipe(), base, session, known, trusted=trusted)
        if wrong is None and preset is not None:
            wrong = _named_otherwise(base, session.chain)
        if wrong is None:
            text = None
            break
        text = text or wrong
    if text is None and recipe is not None and recipe.impostor and key_in_use(session.recording) is not False:
        text = "the handshake was not signed with another key than the leaf's"
    return text


def _bases(certificate: Certificate, known: _Known) -> Iterator[Authority]:
    """Authorities like the one that signed; how deep that was where the scene does not say is not known."""
    if certificate.preset is not None:
        yield _product(certificate.preset, known.clock)
    elif certificate.levels is not None:
        yield _authority(certificate.levels)
    else:
        yield from map(_authority, (1, 0, 2, 3))


@cache
def _authority(levels: int) -> Authority:
    """One to compare with, whose keys are used for nothing else."""
    return Authority.make(Plan(levels=levels, days=36500))


def _product(preset: str, clock: Clock) -> Authority:
    """The same of a product, with keys that take no time to make. Its issuing CA may be good for a minute alone."""
    return replace(clock.preset(presets()[preset]), key="ec:P-256").make_authority()


def _unlike(recipe: Recipe, base: Authority, session: _Session, known: _Known, *, trusted: bool) -> str | None:
    """The recipe with what the client trusts of it; where steps trust several roots, with any of those."""
    count = len(recipe.trust) if trusted and known.rooted else 0
    text = None
    for anchors in combinations(known.anchors, count) if len(known.anchors) >= count else [()]:
        shown = Shown(session.chain, anchors, session.recording.started)
        text = unlike(recipe, shown, base=base, target=session.target_leaf, host=session.host)
        if text is None:
            return None
    return text


def _leads_to(chain: Sequence[bytes], anchors: Sequence[bytes]) -> str | None:
    """The anchor by which a certificate of the chain is signed, by name."""
    for each in chain:
        for anchor in anchors:
            try:
                one, other = cut_certificate(each), cut_certificate(anchor)
            except DerError:
                continue
            if one.issuer == other.subject and signed_by(one, other.public_key):
                return read_certificate(anchor).subject
    return None


def _named_otherwise(base: Authority, chain: Sequence[bytes]) -> str | None:
    expected = [each.facts.subject for each in reversed(base.intermediates)]
    found = [read_certificate(each).subject for each in chain[1 : 1 + len(expected)]]
    return None if expected == found else f"the issuers are called {found}, expected {expected}"


def _not_resumed(number: int, sessions: list[_Session]) -> Unproved:
    offered = any(_offers_to_resume(each) for each in sessions)
    text = "no session was resumed" if offered else "the client did not try to resume a session"
    return Unproved("keep_sessions", number, text, not_asked=not offered)


def _offers_protocols(session: _Session) -> bool:
    hello = _hello(session)
    return hello is not None and bool(hello.alpn_raw)


def _offers_to_resume(session: _Session) -> bool:
    hello = _hello(session)
    return hello is not None and bool(hello.psk_identities or hello.session_ticket)


def _never_rotated(step: Step, sessions: Sequence[_Session]) -> str | None:
    """The same of steps that go round: some session and the one after it show the change."""
    showing = sorted((each for each in sessions if each.chain), key=lambda each: each.recording.started)
    texts = [not_rotated(step, [one], [other]) for one, other in pairwise(showing)]
    if not texts:
        return "the certificates of before, or of after, were not seen"
    return None if None in texts else texts[0]


def not_rotated(step: Step, before: Sequence[_Session], after: Sequence[_Session]) -> str | None:
    """Why the sessions of a step do not show that on entering it the issuer, or the leaf's key, was changed."""
    if step.keep_sessions and any(each.leg.resumed for each in after):
        return None
    olds, news = ([each.chain for each in sessions if each.chain] for sessions in (before, after))
    if not olds or not news:
        return "the certificates of before, or of after, were not seen"
    try:
        old, new = [_signs(olds[-1])], [_signs(each) for each in news]
    except DerError as wrong:
        return f"a certificate of the chain cannot be read: {wrong}"
    for each, chain in zip(new, news, strict=True):
        same_key, same_issuer, same_top = (mine == his for mine, his in zip(old[0], each, strict=True))
        if step.rotate == "leaf" and (same_key or not same_issuer):
            return "the leaf has the key that it had before" if same_key else "another issuer signed the leaf"
        if step.rotate == "intermediate" and ((same_issuer and not step.same_key) or not same_top):
            return "the leaf has the issuer that it had before" if same_top else "the root has changed, too"
        if step.same_key and chain[1:] == olds[-1][1:]:
            return "the issuer's certificate is the one that it was before"
        if step.rotate == "root" and same_issuer:
            return "the leaf has the issuer that it had before"
        if step.rotate == "root" and same_top is not step.cross_signed:
            return f"the chain leads to {'the root' if same_top else 'another root than the one'} that it led to before"
    return None


def _signs(chain: Sequence[bytes]) -> tuple[bytes, bytes, bytes]:
    """The leaf's key; who issued it, by name and key where these were sent; and what the chain leads to."""
    leaf = cut_certificate(chain[0])
    facts = read_certificate(chain[0])
    last = read_certificate(chain[-1])
    top = (last.aki or "") + (last.issuer or "")
    return leaf.public_key, leaf.issuer + (facts.aki or "").encode(), top.encode()


# -- what was spoken ---------------------------------------------------------------------------------------------


def spoken_otherwise(spoken: Protocol, session: _Session) -> str | None:
    """In what was not spoken with the client as this part of a scene says; where that is not offered, an alert is."""
    leg = session.leg
    if not any(isinstance(each.value, ServerHello) for each in leg.messages):
        alert = next((each for each in _sent(leg) if each.message.content is Content.ALERT), None)
        name = None if alert is None else alert.fields.get("description")
        return None if name in _REFUSALS else "the client got no ServerHello, and no alert that says why"
    for key, expected, found in (
        ("version", _versions(spoken), leg.version),
        ("cipher", spoken.ciphers, leg.cipher),
        ("group", spoken.groups, leg.group),
        ("alpn", (spoken.alpn or None,) if spoken.alpn is not None and _offers_protocols(session) else None, leg.alpn),
        ("signature algorithm", spoken.signature_algorithms, _scheme(leg)),
    ):
        if (
            expected is not None
            and found not in expected
            and (found is not None or key in {"version", "cipher", "alpn"})
        ):
            return f"the {key} was {found}, expected {' or '.join(map(str, expected))}"
    if spoken.resumption == "none" and leg.resumed:
        return "the session was resumed, and nothing should be"
    if spoken.resumption == "id" and any(isinstance(each.value, NewSessionTicket) for each in leg.messages):
        return "the client got a ticket, and should be known by its session id alone"
    if not spoken.extended_master_secret and any(
        extension.code == _EXTENDED_MASTER_SECRET
        for each in leg.messages
        if isinstance(each.value, ServerHello)
        for extension in each.value.extensions or ()
    ):
        return "the extended master secret was agreed, and should not be"
    return None


def _versions(spoken: Protocol) -> tuple[str, ...] | None:
    return None if spoken.versions is None else _between(spoken.versions)


def _between(versions: Sequence[str]) -> tuple[str, ...]:
    at = [VERSION_NAMES.index(each) for each in versions]
    return VERSION_NAMES[min(at) : max(at) + 1]


def _sent(leg: LegReading) -> list[ReadMessage]:
    return [each for each in leg.messages if each.message.sender is Side.SERVER]


def _scheme(leg: LegReading) -> str | None:
    """What the server signed the handshake with."""
    for each in _sent(leg):
        match each.value:
            case CertificateVerify() as verify:
                return SIGNATURE_SCHEMES.get(verify.algorithm)
            case ServerKeyExchange(signature=Signature() as signature):
                return SIGNATURE_SCHEMES.get(signature.algorithm)
    return None


def asked_otherwise(asked: ClientAuth, session: _Session, clients: Authority | None) -> str | None:
    """In what the CertificateRequest to the client is not what this part of a scene says."""
    leg = session.leg
    if not any(each.type == "certificate_request" for each in _sent(leg)):
        return "the client was not asked for a certificate"
    found = set(leg.requested_ca_names or ())
    ours = {each.subject: each.facts.self_issued for each in clients.issuers} if clients is not None else {}
    if isinstance(asked.names, tuple):
        listed = asked.names_with(ours.items())
        right = not ours or leg.requested_ca_names == listed
        return None if right else f"the request lists {len(found)} names that are not those that it should"
    right = {
        "empty": not found,
        "full": bool(found) and (not ours or found >= set(ours)),
        "roots": bool(found) and (not ours or found == {name for name, root in ours.items() if root}),
        "intermediates": bool(found) and (not ours or found == {name for name, root in ours.items() if not root}),
        "others": bool(found) and not found & set(ours),
    }[asked.names]
    return None if right else f"the request lists {len(found)} names that are not the {asked.names} ones"


def _is_behind(scene: Scene) -> bool:
    """Whether something of it is on the target's side of the proxy."""
    on_the_way = scene.network is not None and scene.network.leg != "client"
    return scene.target is not None or on_the_way or any(fault.leg == "server" for fault in scene.wire or ())


def _broke_behind(session: _Session) -> bool:
    """Whether the target's side broke before the client could be answered, in whatever version."""
    if any(isinstance(each.value, ServerHello) for each in session.leg.messages):
        return False
    server = session.recording.leg(LegRole.SERVER)
    return session.recording.outcome.leg is LegRole.SERVER or (server is not None and bool(server.ends))


# -- the target's side ---------------------------------------------------------------------------------------------


def target_otherwise(target: Target, session: _Session, clients: Authority | None) -> str | None:
    """In what the conversation with the target is not what this part of a scene says."""
    leg = session.server_leg
    hello = _hello_in(leg)
    if hello is None:
        return "no ClientHello went to the target"
    if target.versions is not None:
        offered = [version_name(each) for each in hello.versions] or [version_name(hello.legacy_version)]
        wrong = [each for each in offered if each not in _between(target.versions)]
        if wrong:
            return f"the target was offered {', '.join(wrong)}, expected {' to '.join(target.versions)} alone"
    if target.server_name is not None and (hello.sni or "") != target.server_name:
        return f"the target was told the server name {hello.sni!r}, expected {target.server_name or None!r}"
    if target.asks and not any(each.type == "certificate_request" for each in _sent(leg)):
        return "the target did not ask for a certificate"
    sent, shown = (
        tuple(each.der for each in leg.certificates if each.sender is side) for side in (Side.SERVER, Side.CLIENT)
    )
    if target.by_name and not target.server_name and (text := _named(sent, session.host)):
        return text
    for recipe, chain, whose in ((target.own_shows, shown, "the proxy"), (target.own_certificate, sent, "the target")):
        if recipe is not None and (text := _made_otherwise(recipe, chain, session)):
            return f"of what {whose} showed: {text}"
    ours = () if clients is None else (clients.root.der,)
    if target.own_shows is not None and is_of_strangers(target.own_shows) and _leads_to(shown, ours):
        return "what the proxy showed leads to the CA that the target asks for"
    return None


def _named(chain: tuple[bytes, ...], host: str) -> str | None:
    """Whether the certificate of a target that nobody has named is for that name all the same."""
    if not chain:
        return "the target showed no certificate"
    return f"the target's certificate is for {host}" if f"DNS:{host}" in read_certificate(chain[0]).san else None


def _made_otherwise(recipe: Recipe, chain: tuple[bytes, ...], session: _Session) -> str | None:
    """The chain laid beside the recipe's, of whatever depth its CA is; what is trusted is not looked at."""
    shown = Shown(chain, (), session.recording.started)
    texts = [unlike(recipe, shown, base=base, target=None, host=session.host) for base in map(_authority, (1, 0, 2, 3))]
    return None if None in texts else texts[0]


# -- what was stapled --------------------------------------------------------------------------------------------


def _stapled(stapling: Stapling, number: int, sessions: list[_Session], known: _Known) -> list[Unproved]:
    asking = [each for each in sessions if _asks_for_status(each) or stapling.unasked]
    if not asking:
        return [Unproved("stapling", number, "the client did not ask for a stapled OCSP response", not_asked=True)]
    return _told("stapling", number, _some(asking, lambda each: stapled_otherwise(stapling, each, known.anchors)))


def stapled_otherwise(stapling: Stapling, session: _Session, anchors: Sequence[bytes] = ()) -> str | None:
    """In what the stapled response is not what this part of a scene says."""
    body, chain = _staple_of(session.leg), session.chain
    if stapling.body is not None:
        return None if (body or b"") == stapling.body else "what was stapled is not what should have been"
    if not chain:
        return "no certificate was sent to the client"
    issuer = chain[1] if len(chain) > 1 else next(iter(anchors), None)
    if issuer is None:
        return "who issued the leaf is not known, so what was stapled cannot be judged"
    moment = session.recording.started
    for fault in stapling.faults:
        if (text := not_stapled(fault, body, chain[0], issuer, moment)) is not None:
            return text
    if stapling.faults:
        return None
    return not_stapled(GOOD, body, chain[0], issuer, moment)


def _asks_for_status(session: _Session) -> bool:
    hello = _hello(session)
    return hello is not None and hello.has_status_request


def _hello(session: _Session) -> HelloSummary | None:
    return _hello_in(session.leg)


def _hello_in(leg: LegReading) -> HelloSummary | None:
    found = next((each for each in leg.messages if each.type == "client_hello"), None)
    return None if found is None else summarize_client_hello(found.message.raw)


def _staple_of(leg: LegReading) -> bytes | None:
    """The OCSP response for the leaf: a message of its own below TLS 1.3, an extension of the leaf's entry there."""
    for each in _sent(leg):
        match each.value:
            case CertificateStatus(response=response):
                return response
            case Certificate13(entries=(first, *_)):
                return next((one.response for one in first.extensions if isinstance(one, StapledStatus)), None)
    return None
