"""Nothing in common: versions, suites, groups, signature algorithms, names and protocols that one side will not have.

``handshake_failure`` says that something is not shared and not what. What the same target agreed on with others, where
a recording of that is kept, tells; without one, what the client leaves out of what nearly everybody offers is named,
as possibilities.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from countersign.findings.diagnosing.case import noted
from countersign.findings.diagnosing.model import Found
from countersign.recorder.recording import FailureCode, LegRole, Party, Status
from countersign.recorder.wire import codes, names
from countersign.recorder.wire.events import Side
from countersign.recorder.wire.extensions import (
    Alpn,
    PreSharedKey,
    SignatureAlgorithms,
    SupportedGroups,
    SupportedVersions,
)
from countersign.recorder.wire.messages import DhePskParams, DhParams, ServerHello, ServerKeyExchange
from countersign.recorder.wire.text import listed, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from countersign.findings.diagnosing.case import Case, Ended, View
    from countersign.recorder.wire.messages import ClientHello
    from countersign.recorder.wire.reading import LegReading, ReadMessage

_BROKEN = {
    codes.UNEXPECTED_MESSAGE: "unexpected",
    codes.ILLEGAL_PARAMETER: "illegal",
    codes.DECODE_ERROR: "undecodable",
    codes.MISSING_EXTENSION: "incomplete",
    codes.UNSUPPORTED_EXTENSION: "unsolicited",
}
_X25519 = {29, 30}
_AES_128_GCM_SHA256 = 0x1301
_SMALLEST_DH = 2048
_TOO_WEAK = {codes.HANDSHAKE_FAILURE, codes.INSUFFICIENT_SECURITY, codes.ILLEGAL_PARAMETER}
_OLD = {"TLSv1.0", "TLSv1.1"}
_SHOWN = 6


def unshared(case: Case) -> Iterator[Found]:
    """Why the two sides did not come together."""
    for view in case.views:
        ended = view.ended
        hello = view.hello
        if ended is None or ended.alert is None or hello is None or Side.CLIENT in view.reading.handshake_finished:
            continue
        ours = ended.party is Party.PROXY and view.role is LegRole.CLIENT
        if ours and any(one.leg is LegRole.SERVER for one in case.recording.failures):
            continue  # the alert passes on what befell us with the target
        told = any(one.code is FailureCode.NOTHING_SHARED for one in case.recording.failures)
        if ours and told and ended.alert != codes.PROTOCOL_VERSION:
            continue  # the alert is OpenSSL's choice, and its words say more
        if ours or ended.party is view.party(Side.SERVER):
            yield from _server_said(case, view, ended, hello)
        elif ended.party is view.party(Side.CLIENT):
            yield from _client_said(view, ended, hello)
    for failure in case.recording.failures:
        if failure.code is FailureCode.VERSION_NOT_OFFERED:
            text = f"the target {failure.text}"
            yield Found("version-not-offered", text, noted(failure), rank=0)
        elif failure.code is FailureCode.UNSUPPORTED_OFFER:
            yield Found("proxy-cannot-speak", f"the proxy {failure.text}", noted(failure), rank=0)
        elif failure.code is FailureCode.NOTHING_SHARED:
            yield Found("nothing-shared", f"the {failure.by.value} {failure.text}", noted(failure), rank=2)


def _server_said(case: Case, view: View, ended: Ended, hello: ClientHello) -> Iterator[Found]:
    evidence = view.evidence(view.message("client_hello"), ended.place)
    who = view.who(Side.SERVER)
    if view.message("certificate", Side.CLIENT) is not None:
        return  # then it is about the certificate
    match ended.alert:
        case codes.PROTOCOL_VERSION:
            text = f"{who} speaks none of the versions that the client offers: {_versions(view, hello)}"
            yield Found("no-shared-version", text, evidence, rank=0, values={"versions": _versions(view, hello)})
        case codes.UNRECOGNIZED_NAME:
            if view.reading.sni is None:
                text = f"the client named no server (SNI), and {who} has nothing for those who name none"
                yield Found("no-sni", text, evidence, rank=0)
                return
            name = printable(view.reading.sni, limit=255)
            yield Found(
                "unknown-name", f"{who} does not know the server name {name}", evidence, rank=0, values={"name": name}
            )
        case codes.NO_APPLICATION_PROTOCOL:
            offered = ", ".join(printable(one, limit=40) for one in view.reading.alpn_offered)
            text = f"{who} speaks none of the protocols that the client offers by ALPN: {offered}"
            yield Found("no-shared-protocol", text, evidence, rank=0, values={"protocols": offered})
        case codes.INAPPROPRIATE_FALLBACK:
            text = f"{who} speaks a newer version and takes the client's retry with an older one for an attack"
            yield Found("inappropriate-fallback", text, evidence, rank=0)
        case codes.UNKNOWN_PSK_IDENTITY:
            yield Found("unknown-psk", f"{who} does not know the pre-shared key", evidence, rank=0)
        case codes.INSUFFICIENT_SECURITY:
            text = f"{who} finds what the client offers too weak: {_suites(hello)}"
            yield Found("too-weak-for-server", text, evidence, rank=0)
        case codes.HANDSHAKE_FAILURE:
            yield from _unnamed(case, view, hello, evidence)
        case number if number in _BROKEN:
            by_key = view.extension(PreSharedKey) is not None and view.answer is None
            if number == codes.ILLEGAL_PARAMETER and by_key:
                text = f"{who} refused a hello that offers a pre-shared key, whose proof (binder) did not hold for it"
                yield Found("unknown-psk", text, evidence, rank=1)
            text = f"{who} found the client's message {_BROKEN[number]} (alert {ended.name})"
            yield Found("hello-refused", text, evidence, rank=1)


def _unnamed(case: Case, view: View, hello: ClientHello, evidence: tuple[str, ...]) -> Iterator[Found]:
    """``handshake_failure``: what others agreed on with this target tells, else what the hello lacks."""
    who = view.who(Side.SERVER)
    known = _agreed_elsewhere(case, view)
    told = False
    if known is not None:
        reading, where = known
        for what, one, offered in (
            ("cipher", reading.cipher, [names.cipher_suite_name(each) for each in hello.cipher_suites]),
            ("group", reading.group, [names.group_name(each) for each in _groups(view)]),
            ("version", reading.version, _version_names(view, hello)),
        ):
            if one is not None and offered and one not in offered:
                told = True
                shown = listed(offered, _SHOWN)
                text = f"{who} agreed on {one} with another client (recording {where}); this one offers only: {shown}"
                yield Found(f"no-shared-{what}", text, evidence, rank=1, values={"offered": shown, "known": one})
    rank = 2 if told else 1
    narrow = list(_narrow(view, hello))
    if view.reading.sni is None:
        first = not any(one.id == "no-shared-version" for one in narrow)
        text = f"the client named no server (SNI), and {who} may have no certificate for that"
        yield Found("no-sni", text, evidence, rank=rank if first else 2)
        rank = 2 if first else rank
    fips = " (only what FIPS 140 approves)" if _is_fips(view, hello) else ""
    for found in narrow:
        yield Found(
            found.id, f"{who} found nothing to agree on; {found.text}{fips}", evidence, rank=rank, values=found.values
        )
        rank = max(rank, 2)
    text = (
        f"{who} found nothing to agree on in what the client offers{fips}: {_versions(view, hello)}; {_suites(hello)}"
    )
    yield Found("nothing-shared", text, evidence, rank=3 if rank > 1 else 2)


def _narrow(view: View, hello: ClientHello) -> Iterator[Found]:
    """What of its offer leaves out what nearly everybody has, the narrowest first."""
    versions = _numbers(view, hello)
    suites = [one for one in hello.cipher_suites if not names.is_grease(one) and one not in {0x00FF, 0x5600}]
    old = [one for one in suites if one >> 8 != 0x13]
    exchanges = {names.key_exchange(one) for one in old}
    groups = _groups(view)
    if versions and max(versions) < names.TLS12:
        yield Found("no-shared-version", f"the client offers no more than {names.version_name(max(versions))}")
    everybodys = names.TLS13 in versions and _AES_128_GCM_SHA256 in suites  # RFC 8446 9.1: whoever speaks 1.3 has it
    if (len(suites) <= 3 and not everybodys) or (names.TLS13 not in versions and exchanges and exchanges <= {"RSA"}):
        shown = listed([names.cipher_suite_name(one) for one in suites], _SHOWN)
        yield Found(
            "no-shared-cipher", f"the client offers only: {shown}", values={"offered": shown, "known": "others"}
        )
    if groups and len(groups) <= 1:
        shown = listed([names.group_name(one) for one in groups], _SHOWN)
        yield Found(
            "no-shared-group",
            f"the client offers only the groups: {shown}",
            values={"offered": shown, "known": "others"},
        )
    schemes = view.extension(SignatureAlgorithms)
    if schemes is not None and len(schemes.schemes) <= 2:
        shown = listed([names.signature_scheme_name(one) for one in schemes.schemes], _SHOWN)
        text = f"the client verifies only the signature algorithms: {shown}"
        yield Found("no-shared-signature-algorithm", text, values={"offered": shown})
    if versions and min(versions) >= names.TLS13:  # GnuTLS says handshake_failure of that
        yield Found("no-shared-version", f"the client offers nothing below {names.version_name(min(versions))}")


def _client_said(view: View, ended: Ended, hello: ClientHello) -> Iterator[Found]:
    """The client will not have what the server chose."""
    answer = view.answer
    if ended.alert in _BROKEN and (answer is not None or view.leg.messages):
        last = next((one for one in reversed(view.reading.messages) if one.message.sender is Side.SERVER), None)
        said = f"{view.who(Side.SERVER)}'s {last.type}" if last is not None else view.who(Side.SERVER)
        text = f"the client found {said}, or what should have come instead, {_BROKEN[ended.alert]} (alert {ended.name})"
        yield Found("answer-refused", text, view.evidence(last, ended.place), rank=1)
    if answer is None:
        return
    evidence = view.evidence(view.message("server_hello") or view.message("hello_retry_request"), ended.place)
    chosen = view.reading.version or "an older version"
    if ended.alert in {codes.HANDSHAKE_FAILURE, codes.INSUFFICIENT_SECURITY, codes.INTERNAL_ERROR} and chosen in _OLD:
        text = f"{view.who(Side.SERVER)} chose {chosen}, which the client offers and does not go on with"
        yield Found("no-shared-version", text, evidence, rank=1, values={"versions": chosen})
        return
    exchange = view.message("server_key_exchange", Side.SERVER)
    bits = _dh_bits(exchange)
    if bits is not None and bits < _SMALLEST_DH and ended.alert in _TOO_WEAK:
        text = f"{view.who(Side.SERVER)} chose {view.reading.cipher or chosen} with a DHE group of {bits} bits"
        yield Found(
            "too-weak-for-client",
            f"{text}; most clients take none below {_SMALLEST_DH}",
            (*view.evidence(exchange, ended.place),),
        )
    if view.chain(Side.SERVER):
        return
    match ended.alert:
        case codes.PROTOCOL_VERSION:
            text = f"{view.who(Side.SERVER)} chose {chosen}, and the client speaks only {_versions(view, hello)}"
            yield Found("no-shared-version", text, evidence, rank=0, values={"versions": _versions(view, hello)})
        case codes.ILLEGAL_PARAMETER if isinstance(answer, ServerHello) and answer.downgraded_from_tls13:
            text = (
                f"{chosen} was agreed on though {view.who(Side.SERVER)} could have spoken a newer version (the "
                "downgrade mark in its random): somebody between the two took the newer one out"
            )
            yield Found("downgraded", text, evidence, rank=0)
        case codes.HANDSHAKE_FAILURE | codes.INSUFFICIENT_SECURITY:
            suite = view.reading.cipher or "the suite"
            text = f"the client will not have what {view.who(Side.SERVER)} chose: {chosen}, {suite}"
            yield Found("too-weak-for-client", text, evidence, rank=1)


def _dh_bits(exchange: ReadMessage | None) -> int | None:
    match exchange.value if exchange is not None else None:
        case ServerKeyExchange(DhParams() as params) | ServerKeyExchange(DhePskParams(_, params)):
            return params.bits
    return None


# -- what was offered --------------------------------------------------------------------------------------------------


def _agreed_elsewhere(case: Case, view: View) -> tuple[LegReading, str] | None:
    """What the same target agreed on in another session, with that session's id."""
    for earlier in case.history:
        if earlier.outcome.status is Status.ESTABLISHED and earlier.target == case.recording.target:
            leg = earlier.leg(view.role) or earlier.leg(LegRole.THROUGH) or earlier.leg(LegRole.SERVER)
            if leg is not None:
                return leg.read(), earlier.id
    return None


def _numbers(view: View, hello: ClientHello) -> list[int]:
    offered = view.extension(SupportedVersions)
    if offered is None:
        return [hello.legacy_version]
    return [one for one in offered.versions if not names.is_grease(one)]


def _version_names(view: View, hello: ClientHello) -> list[str]:
    return [names.version_name(one) for one in _numbers(view, hello)]


def _versions(view: View, hello: ClientHello) -> str:
    up_to = "up to " if view.extension(SupportedVersions) is None else ""
    return up_to + ", ".join(_version_names(view, hello))


def _suites(hello: ClientHello) -> str:
    return listed([names.cipher_suite_name(one) for one in hello.cipher_suites if not names.is_grease(one)], _SHOWN)


def _groups(view: View) -> list[int]:
    groups = view.extension(SupportedGroups)
    return [one for one in groups.groups if not names.is_grease(one)] if groups is not None else []


def _is_fips(view: View, hello: ClientHello) -> bool:
    """Neither ChaCha20 nor X25519, though TLS 1.2 or later and elliptic curves are offered."""
    suites = [names.cipher_suite_name(one) for one in hello.cipher_suites]
    groups = _groups(view)
    return (
        max(_numbers(view, hello), default=0) >= names.TLS12
        and bool(groups)
        and not any("CHACHA20" in one for one in suites)
        and not _X25519 & set(groups)
    )


def lost_protocols(case: Case) -> list[str]:
    """ALPN protocols that the client offers and the target is not offered."""
    client, server = case.view(LegRole.CLIENT), case.view(LegRole.SERVER)
    if client is None or server is None or server.hello is None:
        return []
    ours, theirs = client.extension(Alpn), server.extension(Alpn)
    before = client.reading.alpn_offered if ours is not None else ()
    after = server.reading.alpn_offered if theirs is not None else ()
    return [printable(one, limit=40) for one in before if one not in after]
