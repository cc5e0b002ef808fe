"""What of a client's offer our own hello to the target repeats, and what the client then gets of the target's choice.

Our hello offers nothing that the client did not: no version, suite, group or signature scheme. Else the target could
choose what the client cannot follow, or something weaker than the client would have taken. What OpenSSL cannot
repeat of the offer is named on the recording as ``not_mirrored``, and GREASE (RFC 8701) is not missed.

*Three hellos* (``--hello``). ``mirror``: what the client offers, in its order, and without extended_master_secret,
encrypt_then_mac or session_ticket where it has none. ``own``: of what the client offers, in OpenSSL's order, as an
appliance does. A preset (:mod:`.hellos`): what another client would offer, whatever ours does; what the target then
chooses the client leg follows as far as the client can. How near that comes to the real one is measured by its JA3 and
JA4, and what differs is named once more, extensions too.

*Versions.* OpenSSL offers versions without a hole. Where the client leaves one out, the run with its highest version is
offered. TLS 1.3 needs groups and signature schemes to be named (RFC 8446 9.2); a TLS 1.2 client that names no schemes
stands by those of RFC 5246 7.4.1.4.1.

*Trial.* Which combinations OpenSSL takes is for OpenSSL to say: a suite needs a scheme that fits its certificate, a
version a suite, a level its strength. So a hello is made once for each different offer and read again. Where none can
be made the next run of versions is tried; where none of them can, the client is told that it cannot be spoken with.
What went into the hello, and not what was asked for, is compared with the client's offer.

*Key shares* are made for the groups for which the client has made one, four at most.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple

from countersign.proxy._openssl import (
    GROUP_NAMES,
    OPENSSL_VERSION,
    OPTIONAL_EXTENSIONS,
    IdentityRefused,
    Offer,
    TlsTrouble,
    first_flight,
    own_hello,
    signature_name,
    suite_name,
)
from countersign.proxy.hellos import HelloPreset
from countersign.recorder.wire.fingerprints import ja3, ja4
from countersign.recorder.wire.messages import ClientHello, decode_message
from countersign.recorder.wire.names import (
    GREASE,
    TLS10,
    TLS11,
    TLS12,
    TLS13,
    cipher_suite_name,
    extension_name,
    group_name,
    signature_scheme_name,
    version_name,
)
from countersign.recorder.wire.reading import summarize_client_hello
from countersign.recorder.wire.text import listed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from countersign.proxy._openssl import Prepared, TlsClientSide, TlsConnection
    from countersign.proxy.orders import ProtocolOrders
    from countersign.recorder.wire.reading import HelloSummary

_STATUS_REQUEST = 5
_SUPPORTED_GROUPS, _SIGNATURE_ALGORITHMS, _SUPPORTED_VERSIONS = 10, 13, 43
_DEFAULT_GROUPS = (0x11EC, 0x001D, 0x0017, 0x001E, 0x0018, 0x0019, 0x0100, 0x0101)  # OpenSSL's own order
_IMPLIED_SCHEMES = (0x0201, 0x0203, 0x0202)  # SHA-1 with RSA, ECDSA, DSA (RFC 5246 7.4.1.4.1)
_IMPLIED_GROUPS = "secp256r1:secp384r1:secp521r1"  # RFC 8422 4: who names none takes any, but may be as old as RFC 4492
_UNUSED_GROUP = "X25519"
_NO_SUITES = frozenset({0x00FF, 0x5600})  # signals (RFC 5746 3.3, RFC 7507): OpenSSL says them in its own way
_SHARES_AT_MOST = 4
_NAMED_AT_MOST = 20
_EXTENSIONS_KEPT = 64  # of a list that is remembered
_KEPT_AT_MOST = 1000  # numbers in an offer that is remembered: no honest client has as many


class CannotSpeak(Exception):  # noqa: N818 - a fact about the client's offer
    """OpenSSL can speak nothing of what the client offers; ``alert`` is what the client is told."""

    def __init__(self, text: str, *, alert: str) -> None:
        super().__init__(text)
        self.text = text
        self.alert = alert


@dataclass(frozen=True, slots=True)
class Mirrored:
    """How the target is spoken to on behalf of a client, and what of its offer is missing there, in words.

    ``asks_status``: whether the target is asked for an OCSP response; None: where the client asks us. ``extensions``
    are those of our hello where it is made after the client's own.
    """

    prepared: Prepared
    left_out: tuple[str, ...]
    asks_status: bool | None = None
    extensions: tuple[int, ...] = ()

    def missing(self, summary: HelloSummary) -> tuple[str, ...]:
        """What is missing of this client's offer, its extensions among it."""
        if not self.extensions:
            return self.left_out
        make = _unlike_extensions
        unlike = make if len(summary.extensions) <= _EXTENSIONS_KEPT else make.__wrapped__
        return (*self.left_out, *unlike(summary.extensions, self.extensions))


_SUITES_OF_ALL_VERSIONS = (0x1301, 0x1302, 0x1303, 0xC009, 0xC013, 0xC00A, 0xC014, 0x002F, 0x0035)
"""AES with ECDHE or RSA: GCM of TLS 1.3, and CBC with SHA-1, which every version below has."""


class _Offered(NamedTuple):
    """A client's offer, GREASE left out. No ``schemes`` means: no such extension."""

    versions: tuple[int, ...]
    ciphers: tuple[int, ...]
    groups: tuple[int, ...] | None
    shares: tuple[int, ...]
    schemes: tuple[int, ...] | None
    without: frozenset[int] = frozenset()


class Mirror:
    """Finds what to offer a target for a client. Clients repeat themselves: what was found is kept.

    ``hello`` is ``mirror``, ``own``, or whose is to be offered instead of the client's.
    """

    def __init__(
        self, side: TlsClientSide, *, hello: HelloPreset | Literal["mirror", "own"] = "mirror", size: int = 256
    ) -> None:
        self._side = side
        self._hello = hello
        self._size = size
        self._preset: Mirrored | None = None
        self._kept: OrderedDict[_Offered, Mirrored] = OrderedDict()

    def of(self, summary: HelloSummary) -> Mirrored:
        """Raises :class:`CannotSpeak`, and :class:`IdentityRefused` for the client certificate that was given."""
        offered = _offered(summary)
        if isinstance(self._hello, HelloPreset):
            if not _possible(offered, offered.ciphers):
                raise _cannot_speak(offered)
            return self._of_preset(self._hello)
        return self._repeated(offered)

    def offering(self, summary: HelloSummary, versions: tuple[int, ...]) -> Mirrored:
        """The same with these versions in the place of the client's, whatever hello is to be offered.

        Where none of the client's suites is for any of them, the usual ones stand behind those. Raises as :meth:`of`.
        """
        offered = _offered(summary)._replace(versions=versions)
        try:
            return self._repeated(offered)
        except CannotSpeak:
            return self._repeated(offered._replace(ciphers=(*offered.ciphers, *_SUITES_OF_ALL_VERSIONS)))

    def _repeated(self, offered: _Offered) -> Mirrored:
        """What this offer comes to, made once."""
        if self._hello == "own":
            offered = _in_own_order(offered)
        found = self._kept.get(offered)
        if found is None:
            found = self._find(offered)
            if len(offered.ciphers) + len(offered.groups or ()) + len(offered.schemes or ()) <= _KEPT_AT_MOST:
                self._kept[offered] = found
            if len(self._kept) > self._size:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(offered)
        return found

    def _of_preset(self, preset: HelloPreset) -> Mirrored:
        if self._preset is None:
            found = self._find(
                _Offered(
                    preset.versions,
                    preset.ciphers,
                    preset.groups,
                    preset.key_shares,
                    preset.signature_algorithms,
                    OPTIONAL_EXTENSIONS - set(preset.extensions),
                ),
                levels=(0,),  # which leaves out no SHA-1; the chain is judged by us then
            )
            asks = _STATUS_REQUEST in preset.extensions
            hello = first_flight(found.prepared.context, name=b"host.example", alpn=preset.alpn, asks_status=asks)
            whose = f"--hello {preset.id}: "
            left_out = (*found.left_out, *_unlike(preset, hello))
            self._preset = Mirrored(found.prepared, tuple(whose + text for text in left_out), asks)
        return self._preset

    def _find(self, offered: _Offered, *, levels: Sequence[int] = (2, 0)) -> Mirrored:
        groups, ciphers = _groups(offered), offered.ciphers
        if not groups:
            # OpenSSL would offer its own, those for DHE too (RFC 7919 4). One that no suite uses keeps it from that.
            groups = _UNUSED_GROUP
            ciphers = tuple(cipher for cipher in ciphers if not cipher_suite_name(cipher).startswith("TLS_ECDH"))
        for run in _runs(_possible(offered, ciphers)):
            schemes = self._schemes(offered, run)
            if schemes == ():
                continue
            for level in (0,) if run[0] < TLS12 else levels:
                try:
                    offer = Offer(run, ciphers, groups, schemes, offered.without)
                    prepared = self._side.prepare(offer, level=level)
                except IdentityRefused:
                    raise
                except TlsTrouble:
                    continue
                ours = summarize_client_hello(prepared.hello)
                extensions = ours.extensions if self._hello == "mirror" else ()
                return Mirrored(prepared, _left_out(offered, run, ours), extensions=extensions)
        raise _cannot_speak(offered)

    def _schemes(self, offered: _Offered, run: Sequence[int]) -> tuple[int, ...] | None:
        """The client's schemes that OpenSSL has. A certificate of ours needs one of its own for each version."""
        if run[-1] < TLS12:
            return None  # RFC 5246 7.4.1.4.1: the extension means nothing there
        schemes = offered.schemes if offered.schemes is not None else _IMPLIED_SCHEMES
        known = [scheme for scheme in schemes if signature_name(scheme) is not None]
        for version, own in self._side.own_schemes.items():
            if version in run and known and not set(own) & set(known):
                known.append(own[0])
        return tuple(known)


def _offered(summary: HelloSummary) -> _Offered:
    extensions = summary.extensions
    return _Offered(
        _sensible(_versions(summary)),
        _sensible(summary.ciphers),
        _sensible(summary.groups) if _SUPPORTED_GROUPS in extensions else None,
        _sensible(summary.key_share_groups),
        _sensible(summary.signature_algorithms) if _SIGNATURE_ALGORITHMS in extensions else None,
        OPTIONAL_EXTENSIONS.difference(extensions),
    )


@cache
def _own() -> HelloSummary:
    """What OpenSSL offers unless told, and all of its suites."""
    return summarize_client_hello(own_hello())


def _in_own_order(offered: _Offered) -> _Offered:
    """The same offer in OpenSSL's order, what OpenSSL would not offer by itself behind it; with its key shares."""
    own = _own()

    def ordered(numbers: tuple[int, ...], first: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(numbers, key=lambda one: first.index(one) if one in first else len(first)))

    groups = None if offered.groups is None else ordered(offered.groups, own.groups)
    shares = tuple(group for group in own.key_share_groups if group in (groups or ()))
    return offered._replace(
        ciphers=ordered(offered.ciphers, own.ciphers),
        groups=groups,
        shares=shares or (groups or ())[:1],
        schemes=None if offered.schemes is None else ordered(offered.schemes, own.signature_algorithms),
        without=frozenset(),
    )


def _unlike(preset: HelloPreset, hello: bytes) -> list[str]:
    """How a hello of ours differs from the one that it is made after, besides what it offers."""
    ours = decode_message(hello).value
    assert isinstance(ours, ClientHello)
    codes = [one.code for one in ours.extensions or ()]
    missing = _named("extensions", preset.extensions, codes, extension_name)
    added = _named("extensions", codes, preset.extensions, extension_name)
    differs = [missing, f"{added}, added" if added else ""]
    if not missing and not added and codes != list(preset.extensions):
        differs.append("extensions: in another order")
    for what, mine, theirs in (("ja3", ja3(ours), preset.ja3), ("ja4", ja4(ours), preset.ja4)):
        if theirs is not None and mine != theirs:
            differs.append(f"{what}: {mine} instead of {theirs}")
    return [text for text in differs if text]


def _sensible(numbers: tuple[int, ...]) -> tuple[int, ...]:
    """Each once, and no GREASE."""
    return _sensible_again(numbers) if len(numbers) <= _KEPT_AT_MOST else _sensible_again.__wrapped__(numbers)


@lru_cache(maxsize=128)
def _sensible_again(numbers: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(dict.fromkeys([number for number in numbers if number not in GREASE]))


def _versions(summary: HelloSummary) -> tuple[int, ...]:
    """Without supported_versions a hello means everything up to its version (RFC 8446 4.2.1)."""
    if _SUPPORTED_VERSIONS in summary.extensions:
        return summary.versions
    meant = tuple(version for version in (TLS10, TLS11, TLS12) if version <= summary.legacy_version)
    return meant or (summary.legacy_version,)


def _groups(offered: _Offered) -> str:
    """The client's that OpenSSL has, in the client's order and OpenSSL's words; a star asks for a key share."""
    if offered.groups is None:
        return _IMPLIED_GROUPS
    groups = [group for group in offered.groups if group in GROUP_NAMES]
    shares = set([group for group in groups if group in offered.shares][:_SHARES_AT_MOST])
    return ":".join(f"?{'*' if group in shares else ''}{GROUP_NAMES[group]}" for group in groups)


def _possible(offered: _Offered, ciphers: Sequence[int]) -> set[int]:
    """The client's versions for which something of everything that they need is there."""
    known = [cipher for cipher in ciphers if suite_name(cipher) is not None]
    named = offered.schemes is not None and any(group in GROUP_NAMES for group in offered.groups or ())
    tls13 = named and any(cipher >> 8 == 0x13 for cipher in known)
    below = any(cipher >> 8 != 0x13 for cipher in known)
    return {version for version in offered.versions if (tls13 if version == TLS13 else below and version in _BELOW)}


_BELOW = frozenset({TLS10, TLS11, TLS12})


def _runs(versions: set[int]) -> Iterator[tuple[int, ...]]:
    """Runs without a hole, that with the highest version first, then the same without it, and so on."""
    for highest in sorted(versions, reverse=True):
        lowest = highest
        while lowest - 1 in versions:
            lowest -= 1
        yield tuple(range(lowest, highest + 1))


_TOLD_ELSEWHERE = frozenset({0, 5, 16, 21, 41, 42, 44, 49, 65281})
"""server_name, status_request and ALPN come with the connection. Of sessions, 0-RTT and post-handshake authentication
who decides about them tells; a cookie is the server's, renegotiation_info can be a signal among the suites, and padding
says nothing (RFC 7685).
"""


@lru_cache(maxsize=128)
def _unlike_extensions(theirs: tuple[int, ...], ours: tuple[int, ...]) -> tuple[str, ...]:
    """The client's extensions that our hello has not, and ours that the client has not (RFC 8446 4.2)."""
    telling = [code for code in theirs if code not in _TOLD_ELSEWHERE and code not in GREASE]
    missing = _named("extensions", telling, ours, extension_name)
    added = _named("extensions", [code for code in ours if code not in _TOLD_ELSEWHERE], theirs, extension_name)
    return tuple(filter(None, (missing, f"{added}, added" if added else "")))


def _left_out(offered: _Offered, run: Sequence[int], ours: HelloSummary) -> tuple[str, ...]:
    """What of the offer is not in our hello, and what is in it for the sake of our own certificate."""
    schemes = offered.schemes or () if run[-1] >= TLS12 else ()
    missing = [
        _named("versions", offered.versions, run, version_name),
        _named(
            "cipher_suites", [one for one in offered.ciphers if one not in _NO_SUITES], ours.ciphers, cipher_suite_name
        ),
        _named("supported_groups", offered.groups or (), ours.groups, group_name),
        _named("signature_algorithms", schemes, ours.signature_algorithms, signature_scheme_name),
    ]
    if offered.schemes is not None:
        added = _named("signature_algorithms", ours.signature_algorithms, offered.schemes, signature_scheme_name)
        missing.append(f"{added}, offered for the client certificate given" if added else "")
    return tuple(filter(None, missing))


def _named(what: str, wanted: Sequence[int], there: Iterable[int], name: Callable[[int], str]) -> str:
    known = set(there)
    missing = [number for number in wanted if number not in known]
    return f"{what}: {listed([name(number) for number in missing], _NAMED_AT_MOST)}" if missing else ""


def _cannot_speak(offered: _Offered) -> CannotSpeak:
    """Names what the client offers, and the kind of it of which OpenSSL has nothing."""
    speaks = any(version in _BELOW or version == TLS13 for version in offered.versions)
    versions = _list(offered.versions, version_name) or "no version"
    suites = _list([one for one in offered.ciphers if one not in _NO_SUITES], cipher_suite_name) or "no suite"
    text, what = f"{versions} with {suites}", "combination"
    if not speaks:
        what = "version"
    elif not any(suite_name(cipher) for cipher in offered.ciphers):
        what = "cipher suite"
    else:
        if offered.groups:
            text += f", groups {_list(offered.groups, group_name)}"
            what = what if any(group in GROUP_NAMES for group in offered.groups) else "group"
        if offered.schemes:
            text += f", signature schemes {_list(offered.schemes, signature_scheme_name)}"
            what = what if any(map(signature_name, offered.schemes)) else "signature scheme"
    return CannotSpeak(
        f"cannot speak what the client offers: {text}; {OPENSSL_VERSION} has no {what} of these."
        " Use --passthrough for this client",
        alert="handshake_failure" if speaks else "protocol_version",
    )


def _list(numbers: Sequence[int], name: Callable[[int], str]) -> str:
    return listed([name(number) for number in numbers], 6)


# -- towards the client ------------------------------------------------------------------------------------------


def client_leg_offer(server: TlsConnection, summary: HelloSummary) -> Offer:
    """What the target chose first; the client's other suites and schemes stand behind it, in the client's order."""
    chosen = server.chosen_cipher(summary.ciphers)
    offered = _offered(summary)
    size = len(summary.ciphers) + len(summary.signature_algorithms)
    make = _leg_offer if size <= _KEPT_AT_MOST else _leg_offer.__wrapped__
    return make(
        spoken=server.version,
        chosen=chosen,
        group=server.group,
        offered=offered,
        suites=summary.ciphers,
        signatures=summary.signature_algorithms,
    )


@lru_cache(maxsize=256)
def _leg_offer(
    *,
    spoken: int,
    chosen: int | None,
    group: str | None,
    offered: _Offered,
    suites: tuple[int, ...],
    signatures: tuple[int, ...],
) -> Offer:
    possible = _possible(offered, offered.ciphers)
    version = spoken if spoken in possible else max(possible)  # which only a preset's hello can bring
    others = [GROUP_NAMES[number] for number in _DEFAULT_GROUPS if GROUP_NAMES[number].lower() != (group or "").lower()]
    # Behind a slash stands what is taken only if the client knows nothing before it: a group that it made no key share
    # for brings it a HelloRetryRequest then, as the target did (SSL_set1_groups_list(3)).
    groups = (f"?{group}/" if group else "") + ":".join(f"?{name}" for name in others)
    rest = [cipher for cipher in suites if cipher != chosen and suite_name(cipher) is not None]
    ciphers = tuple(rest) if chosen is None else (chosen, *rest)
    schemes = tuple(scheme for scheme in signatures if signature_name(scheme) is not None)
    return Offer((version,), ciphers, groups, schemes if schemes and version >= TLS12 else None)


_USUAL_SUITES = (0x1301, 0x1302, 0xC02B, 0xC02F)  # for versions of which the client has named no suite


def as_ordered(offer: Offer, orders: ProtocolOrders) -> Offer:
    """The offer with what is ordered in its place. A version that no suite of these is for is left out."""
    ciphers = orders.ciphers or tuple(dict.fromkeys((*offer.ciphers, *_USUAL_SUITES)))
    lowest, highest = orders.versions or (offer.versions[0], offer.versions[-1])
    if orders.ciphers is not None:
        tls13, below = (any((cipher >> 8 == 0x13) is new for cipher in ciphers) for new in (True, False))
        if orders.versions is None and not (tls13 if highest == TLS13 else below):
            lowest = highest = TLS13 if tls13 else TLS12
        highest = highest if tls13 else min(highest, TLS12)
        lowest = lowest if below else max(lowest, TLS13)
    versions = tuple(range(lowest, highest + 1)) or (lowest,)
    signatures = offer.signatures if orders.signature_algorithms is None else orders.signature_algorithms
    groups = offer.groups
    if orders.groups is not None:
        groups = ":".join(GROUP_NAMES[group] for group in orders.groups)
    return replace(
        offer,
        versions=versions,
        ciphers=ciphers,
        groups=groups,
        signatures=signatures if versions[-1] >= TLS12 else None,
    )
