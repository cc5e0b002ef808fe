"""Whether a chain is right, in OpenSSL's words, and how its certificates hang together by the hashes of their names.

The verdict and its reason are those of ``openssl verify -CAfile ROOTS -untrusted INTERMEDIATES LEAF``. What is added is
what to do about it, and the chain as ``openssl x509 -hash -issuer_hash`` would show it, one certificate after another::

    70f02020 >>> 20403030 >>> 20d05000

A hash on the right that no certificate has as its own is a missing issuer.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from countersign.ca import _openssl
from countersign.ca.pem import PemError, certificates_in, check_no_trust
from countersign.ca.stores import LARGEST, Pool, StoreError, StoreType, detect, read_store
from countersign.errors import UserError
from countersign.recorder.certificates import read_certificate
from countersign.recorder.private_files import read_regular
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from datetime import datetime

PURPOSES = tuple(_openssl.PURPOSES)
MOST_CERTIFICATES = 20_000

_HOST = re.compile(r"(?=.{1,253}\Z)\.?[!-\-/-~]{1,63}(?:\.[!-\-/-~]{1,63})*")  # a dot before it: any name below

_CURES = {
    2: "its issuer is known to nobody: give the root with --ca-file",
    7: "it was altered, or another CA of the same name issued it: fetch it again",
    9: "it is not valid yet: is the clock right?",
    10: "it has expired: renew it",
    18: "it vouches for itself: trust it with --ca-file, or use one that a CA issued",
    19: "the chain ends in a root that is not trusted: give that root with --ca-file",
    20: "its issuer is missing: give the intermediates with --untrusted and the root with --ca-file",
    21: "nothing vouches for it: give the intermediates with --untrusted and the root with --ca-file",
    22: "the chain is longer than OpenSSL follows",
    25: "a CA above allows fewer CAs below it (path length)",
    26: "it was not issued for this purpose (extended key usage): ask for one with clientAuth or serverAuth",
    32: "its issuer may not sign certificates (key usage): it was issued with the wrong certificate",
    34: "it has a critical extension that OpenSSL does not know",
    47: "a CA above may not speak for this name (name constraints)",
    48: "a CA above is barred from this name (name constraints)",
    62: "it was issued for other names: connect by one of those, or have it issued anew",
    79: "it is no CA certificate (basicConstraints) and issued another: that one was issued with the wrong certificate",
    64: "it was issued for other addresses: connect by one of its names, or have it issued anew",
}


_OF_NAMES = frozenset({62, 64})


@dataclass(frozen=True, slots=True)
class Link:
    """One certificate of a chain with OpenSSL's hashes of its two names."""

    der: bytes
    hash: str
    issuer_hash: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """OpenSSL's verdict: its error's number (0: none) and words, and which certificate it is about, the leaf being 0.

    ``links`` is the chain that was verified, or, where it was not, as far as names lead.
    """

    code: int
    reason: str
    depth: int
    about: bytes | None
    links: tuple[Link, ...]

    @property
    def ok(self) -> bool:
        return self.code == 0

    @property
    def hashes(self) -> str:
        """The chain of hashes, the leaf first; the last is that of the issuer where its certificate is missing."""
        chain = [link.hash for link in self.links]
        if self.links and self.links[-1].issuer_hash != chain[-1]:
            chain.append(f"{self.links[-1].issuer_hash} (missing)")
        return " >>> ".join(chain)

    @property
    def cure(self) -> str | None:
        """What to do, for the errors that people meet."""
        cure = _CURES.get(self.code)
        if cure and self.about and self.code in _OF_NAMES:
            cure = f"it is for {read_certificate(self.about).names()}; {cure}"
        return cure

    def to_json(self) -> dict[str, Any]:
        chain = [
            {
                "subject": (facts := read_certificate(link.der)).subject,
                "issuer": facts.issuer,
                "hash": link.hash,
                "issuer_hash": link.issuer_hash,
                "sha256": facts.sha256,
            }
            for link in self.links
        ]
        about = read_certificate(self.about).subject if self.about else None
        return {
            "ok": self.ok,
            "code": self.code,
            "reason": self.reason,
            "depth": self.depth,
            "about": about,
            "cure": self.cure,
            "hashes": self.hashes,
            "chain": chain,
        }


def certificates_of(path: str | os.PathLike[str], password: str | None = None) -> tuple[bytes, ...]:
    """Every certificate in a file (DER), in its order: PEM with anything around it, DER, PKCS #7, or a key store.

    Raises a :class:`StoreError`.
    """
    return _certificates_of(path, password, roots=False)


def roots_of(path: str | os.PathLike[str], password: str | None = None) -> tuple[bytes, ...]:
    """The same of a file of roots. Raises a :class:`StoreError` too where one is not trusted for everything."""
    return _certificates_of(path, password, roots=True)


def _certificates_of(path: str | os.PathLike[str], password: str | None, *, roots: bool) -> tuple[bytes, ...]:
    data = read_regular(path, at_most=LARGEST)
    shown = printable(str(path))
    if data is None:
        raise StoreError(f"cannot read {shown}: there is no such file; name a file of certificates")
    try:
        if roots:
            check_no_trust(data)
        if detect(data) is StoreType.PEM:
            return certificates_in(data)
        certificates = read_store(data, password, open_keys=False).certificates
    except PemError as wrong:
        raise StoreError(f"cannot read {shown}: {wrong}") from wrong
    except StoreError as wrong:
        raise wrong.about(f"cannot read {shown}") from wrong
    if not certificates:
        raise StoreError(f"cannot read {shown}: there is no certificate in it; name another file")
    return certificates


def verify_leaf(
    leaf: bytes,
    *,
    roots: Sequence[bytes] | None = None,
    untrusted: Sequence[bytes] = (),
    purpose: str | None = None,
    hostname: str | None = None,
    at: datetime | None = None,
) -> Verdict:
    """Verify a certificate (DER) with these trusted ``roots`` (default: the system's) and ``untrusted`` intermediates.

    ``hostname`` may be an address. Raises :class:`UserError` for what OpenSSL cannot read or does not know.
    """
    if purpose is not None and purpose not in _openssl.PURPOSES:
        raise UserError(f"cannot verify for {purpose!r}: expected {', '.join(PURPOSES)}")
    if (count := len(roots or ()) + len(untrusted)) > MOST_CERTIFICATES:
        raise UserError(f"cannot verify with {count} certificates beside it: expected at most {MOST_CERTIFICATES}")
    host, address = _host(hostname)
    question = _openssl.Question(purpose, host, address, at)
    try:
        found = _openssl.judge(leaf, roots=roots, untrusted=untrusted, question=question)
        chain = found.chain or Pool([leaf, *untrusted, *(roots or ())]).chain(leaf)
        links = tuple(Link(der, *_openssl.name_hashes(der)) for der in chain)
    except _openssl.Unreadable as wrong:
        raise UserError(f"cannot verify: OpenSSL does not read one of the certificates ({wrong})") from wrong
    return Verdict(found.code, found.reason, found.depth, found.certificate, links)


def _host(name: str | None) -> tuple[str | None, ipaddress.IPv4Address | ipaddress.IPv6Address | None]:
    if name is None:
        return None, None
    try:
        return None, ipaddress.ip_address(name)
    except ValueError:
        pass
    try:
        host = name.encode("idna").decode("ascii") if not name.isascii() else name
    except UnicodeError as wrong:
        raise UserError(f"cannot verify for the host '{printable(name)}': it is no host name") from wrong
    if not _HOST.fullmatch(host):  # an empty one would be no check at all
        raise UserError(
            f"cannot verify for the host '{printable(name, limit=100)}': it is no host name (expected "
            "one such as www.example.com, without a dot at the end)"
        )
    return host, None
