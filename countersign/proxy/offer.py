"""What of a client's offer our own hello to the target repeats, and what the client then gets of the target's choice.

Our hello offers nothing that the client did not: no version, suite, group or signature scheme. Else the target could
choose what the client cannot follow, or something weaker than the client would have taken. What OpenSSL cannot
repeat of the offer is named on the recording as ``not_mirrored``, and GREASE (RFC 8701) is not missed.

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
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from countersign.proxy._openssl import (
    GROUP_NAMES,
    OPENSSL_VERSION,
    IdentityRefused,
    Offer,
    TlsTrouble,
    signature_name,
    suite_name,
)
from countersign.recorder.wire.names import (
    GREASE,
    TLS10,
    TLS11,
    TLS12,
    TLS13,
    cipher_suite_name,
    group_name,
    signature_scheme_name,
    version_name,
)
from countersign.recorder.wire.reading import summarize_client_hello

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from countersign.proxy._openssl import Prepared, TlsClientSide, TlsConnection
    from countersign.recorder.wire.reading import HelloSummary

_SUPPORTED_GROUPS, _SIGNATURE_ALGORITHMS, _SUPPORTED_VERSIONS = 10, 13, 43
_DEFAULT_GROUPS = (0x11EC, 0x001D, 0x0017, 0x001E, 0x0018, 0x0019, 0x0100, 0x0101)  # OpenSSL's own order
_IMPLIED_SCHEMES = (0x0201, 0x0203, 0x0202)  # SHA-1 with RSA, ECDSA, DSA (RFC 5246 7.4.1.4.1)
_IMPLIED_GROUPS = "secp256r1:secp384r1:secp521r1"  # RFC 8422 4: who names none takes any, but may be as old as RFC 4492
_UNUSED_GROUP = "X25519"
_NO_SUITES = frozenset({0x00FF, 0x5600})  # signals (RFC 5746 3.3, RFC 7507): OpenSSL says them in its own way
_SHARES_AT_MOST = 4
_NAMED_AT_MOST = 20
_KEPT_AT_MOST = 1000  # numbers in an offer that is remembered: no honest client has as many


class CannotSpeak(Exception):  # noqa: N818 - a fact about the client's offer
    """OpenSSL can speak nothing of what the client offers; ``alert`` is what the client is told."""

    def __init__(self, text: str, *, alert: str) -> None:
        super().__init__(text)
        self.text = text
        self.alert = alert


@dataclass(frozen=True, slots=True)
class Mirrored:
    """How the target is spoken to on behalf of a client, and what of its offer is missing there, in words."""

    prepared: Prepared
    left_out: tuple[str, ...]


class _Offered(NamedTuple):
    """A client's offer, GREASE left out. No ``schemes`` means: no such extension."""

    versions: tuple[int, ...]
    ciphers: tuple[int, ...]
    groups: tuple[int, ...] | None
    shares: tuple[int, ...]
    schemes: tuple[int, ...] | None


class Mirror:
    """Finds what to offer a target for a client. Clients repeat themselves: what was found is kept."""

    def __init__(self, side: TlsClientSide, *, size: int = 256) -> None:
        self._side = side
        self._size = size
        self._kept: OrderedDict[_Offered, Mirrored] = OrderedDict()

    def of(self, summary: HelloSummary) -> Mirrored:
        """Raises :class:`CannotSpeak`, and :class:`IdentityRefused` for the client certificate that was given."""
        offered = _offered(summary)
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

    def _find(self, offered: _Offered) -> Mirrored:
        groups, ciphers = _groups(offered), offered.ciphers
        if not groups:
            # OpenSSL would offer its own, those for DHE too (RFC 7919 4). One that no suite uses keeps it from that.
            groups = _UNUSED_GROUP
            ciphers = tuple(cipher for cipher in ciphers if not cipher_suite_name(cipher).startswith("TLS_ECDH"))
        for run in _runs(_possible(offered, ciphers)):
            schemes = self._schemes(offered, run)
            if schemes == ():
                continue
            for level in (0,) if run[0] < TLS12 else (2, 0):
                try:
                    prepared = self._side.prepare(Offer(run, ciphers, groups, schemes), level=level)
                except IdentityRefused:
                    raise
                except TlsTrouble:
                    continue
                return Mirrored(prepared, _left_out(offered, run, prepared.hello))
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
    )


def _sensible(numbers: Iterable[int]) -> tuple[int, ...]:
    """Each once, and no GREASE."""
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


def _left_out(offered: _Offered, run: Sequence[int], hello: bytes) -> tuple[str, ...]:
    """What of the offer is not in our hello, and what is in it for the sake of our own certificate."""
    ours = summarize_client_hello(hello)
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
    more = f" and {len(missing) - _NAMED_AT_MOST} more" if len(missing) > _NAMED_AT_MOST else ""
    return f"{what}: {', '.join(map(name, missing[:_NAMED_AT_MOST]))}{more}" if missing else ""


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
    more = f" and {len(numbers) - 6} more" if len(numbers) > 6 else ""
    return ", ".join(map(name, numbers[:6])) + more


# -- towards the client ------------------------------------------------------------------------------------------


def client_leg_offer(server: TlsConnection, summary: HelloSummary) -> Offer:
    """What the target chose first; the client's other suites and schemes stand behind it, in the client's order."""
    version, group = server.version, server.group
    chosen = server.chosen_cipher(summary.ciphers)
    assert chosen is not None, "OpenSSL takes no suite that was not offered"
    others = [GROUP_NAMES[number] for number in _DEFAULT_GROUPS if GROUP_NAMES[number].lower() != (group or "").lower()]
    # Behind a slash stands what is taken only if the client knows nothing before it: a group that it made no key share
    # for brings it a HelloRetryRequest then, as the target did (SSL_set1_groups_list(3)).
    groups = (f"?{group}/" if group else "") + ":".join(f"?{name}" for name in others)
    ciphers = (chosen, *(cipher for cipher in summary.ciphers if cipher != chosen and suite_name(cipher) is not None))
    schemes = tuple(scheme for scheme in summary.signature_algorithms if signature_name(scheme) is not None)
    return Offer((version,), ciphers, groups, schemes if schemes and version >= TLS12 else None)
