"""JA3, JA3S and JA4: short names for the way in which a peer speaks.

JA3 and JA3S are Salesforce's (https://github.com/salesforce/ja3, BSD): an MD5 over decimal numbers in the order in
which they were sent, GREASE left out. JA4 is FoxIO's (https://github.com/FoxIO-LLC/ja4, technical_details/JA4.md,
BSD): the lists are sorted before they are hashed, so that clients which shuffle their extensions keep one fingerprint.
JA4S and the rest of that family are under another licence and are not here.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import md5, sha256
from typing import TYPE_CHECKING, Final

from countersign.recorder.wire.extensions import (
    Alpn,
    EcPointFormats,
    SignatureAlgorithms,
    SupportedGroups,
    SupportedVersions,
)
from countersign.recorder.wire.messages import Sslv2ClientHello
from countersign.recorder.wire.names import GREASE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from countersign.recorder.wire.extensions import Extension
    from countersign.recorder.wire.messages import ClientHello, ServerHello

_JA4_VERSIONS: Final = {
    0x0304: "13",
    0x0303: "12",
    0x0302: "11",
    0x0301: "10",
    0x0300: "s3",
    0x0002: "s2",
    0xFEFF: "d1",
    0xFEFD: "d2",
    0xFEFC: "d3",
}
_NOTHING: Final = "000000000000"


def ja3_text(hello: ClientHello) -> str:
    """What :func:`ja3` hashes: ``version,ciphers,extensions,groups,point formats``."""
    extensions = hello.extensions or ()
    groups = next((one.groups for one in extensions if isinstance(one, SupportedGroups)), ())
    formats = next((one.formats for one in extensions if isinstance(one, EcPointFormats)), ())
    codes = [one.code for one in extensions]
    lists = (_decimal(part) for part in (hello.cipher_suites, tuple(codes), groups))
    return ",".join([str(hello.legacy_version), *lists, "-".join(map(str, formats))])


def ja3(hello: ClientHello) -> str:
    """JA3 of a ClientHello, 32 hex digits."""
    return _md5(ja3_text(hello))


def ja3s_text(hello: ServerHello) -> str:
    """What :func:`ja3s` hashes: ``version,cipher,extensions``."""
    codes = [one.code for one in hello.extensions or ()]
    return f"{hello.legacy_version},{hello.cipher_suite},{_decimal(tuple(codes))}"


def ja3s(hello: ServerHello) -> str:
    """JA3S of a ServerHello, 32 hex digits."""
    return _md5(ja3s_text(hello))


def ja4(hello: ClientHello | Sslv2ClientHello, *, transport: str = "t") -> str:
    """JA4 of a ClientHello, ``t13d1516h2_8daaf6152771_e5627efa2ab1``.

    ``transport`` is ``t`` for TCP, ``q`` for QUIC, ``d`` for DTLS.
    """
    if isinstance(hello, Sslv2ClientHello):
        return ja4_of(hello.version, hello.cipher_suites, (), transport=transport)
    return ja4_of(hello.legacy_version, hello.cipher_suites, hello.extensions or (), transport=transport)


def ja4_of(version: int, suites: Sequence[int], extensions: Sequence[Extension], *, transport: str = "t") -> str:
    """JA4 from the parts of a hello, GREASE and all; ``version`` is the legacy one."""
    alpn: tuple[bytes, ...] = ()
    schemes: tuple[int, ...] = ()
    named = False
    codes = []
    for one in extensions:
        code = one.code
        if code in GREASE:
            continue
        codes.append(code)
        if code == 0:
            named = True
        elif isinstance(one, Alpn):
            alpn = alpn or one.protocols
        elif isinstance(one, SignatureAlgorithms):
            schemes = schemes or one.schemes
        elif isinstance(one, SupportedVersions):
            version = max((offered for offered in one.versions if offered not in GREASE), default=version)
    ciphers, hashed_ciphers = _cipher_part(tuple(suites))
    head = (
        f"{transport}{_JA4_VERSIONS.get(version, '00')}{'d' if named else 'i'}"
        f"{min(ciphers, 99):02}{min(len(codes), 99):02}{_alpn_ends(alpn)}"
    )
    return f"{head}_{hashed_ciphers}_{_extension_part(tuple(sorted(codes)), schemes)}"


# Clients send the same lists again and again, with other randoms: the hashes are worth keeping.
@lru_cache(maxsize=1024)
def _cipher_part(suites: tuple[int, ...]) -> tuple[int, str]:
    """How many ciphers there are without GREASE, and the hash over them in sorted order."""
    ciphers = sorted([suite for suite in suites if suite not in GREASE])
    return len(ciphers), _sha256(",".join([f"{suite:04x}" for suite in ciphers]))


@lru_cache(maxsize=1024)
def _extension_part(codes: tuple[int, ...], schemes: tuple[int, ...]) -> str:
    """The hash over the sorted extensions, server_name and ALPN left out, and the schemes in their order."""
    listed = ",".join([f"{code:04x}" for code in codes if code not in {0, 16}])
    signed = ",".join([f"{scheme:04x}" for scheme in schemes if scheme not in GREASE])
    return _sha256(f"{listed}_{signed}" if signed else listed)


def _alpn_ends(protocols: Iterable[bytes]) -> str:
    """First and last character of the first protocol; of its hex form when one of them is not alphanumeric ASCII."""
    first = next(iter(protocols), b"")
    if not first:
        return "00"
    ends = first[:1] + first[-1:]
    if ends.isalnum():
        return ends.decode("ascii")
    return first[:1].hex()[0] + first[-1:].hex()[1]


@lru_cache(maxsize=1024)
def _decimal(numbers: tuple[int, ...]) -> str:
    return "-".join([str(number) for number in numbers if number not in GREASE])


def _md5(text: str) -> str:
    return md5(text.encode(), usedforsecurity=False).hexdigest()


def _sha256(text: str) -> str:
    """The first twelve hex digits, or twelve zeros for nothing."""
    return sha256(text.encode()).hexdigest()[:12] if text else _NOTHING
