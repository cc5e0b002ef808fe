"""Three verifiers that know nothing of us, and what they say of a chain: openssl, a JVM, and ``cryptography``.

Each gets what a TLS peer would get (the certificates sent, in their order), the roots that it is to trust, the host,
and the time; none looks at the clock. The JVM is started once for all chains.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from countersign.ca.pem import to_pem
from tests.peers.process import Arg, run

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

ACCEPTS = "accepts"
JAVA_SOURCE = Path(__file__).with_name("java") / "PathJudge.java"


@dataclass(frozen=True, slots=True)
class Case:
    """A chain as a verifier sees it."""

    sent: tuple[bytes, ...]
    anchors: tuple[bytes, ...]
    host: str
    now: datetime
    role: str = "server"


def openssl(case: Case, directory: Path, *options: str) -> str:
    """What ``openssl verify`` says: ``accepts``, or the number and text of its first error (X509_V_ERR)."""
    if not case.sent:
        return "nothing was sent"
    for name, ders in (("leaf", case.sent[:1]), ("untrusted", case.sent[1:]), ("anchors", case.anchors)):
        (directory / f"{name}.pem").write_bytes(b"".join(map(to_pem, ders)))
    words: list[Arg] = ["openssl", "verify", "-attime", f"{case.now.timestamp():.0f}", "-no-CApath", "-no-CAstore"]
    words += ["-CAfile", directory / "anchors.pem", "-purpose", f"ssl{case.role}", "-auth_level", "2", *options]
    if case.sent[1:]:
        words += ["-untrusted", directory / "untrusted.pem"]
    if case.role == "server":
        words += ["-verify_ip" if _is_address(case.host) else "-verify_hostname", case.host]
    done = run(*words, directory / "leaf.pem")
    if not done.returncode:
        return ACCEPTS
    said = re.search(r"^error (\d+) at \d+ depth lookup: (.*)$", done.stderr, re.MULTILINE)
    return f"{said[1]} {said[2]}" if said else f"cannot read it: {done.stderr.splitlines()[0]}"


def jvm(cases: Mapping[str, Case], directory: Path) -> dict[str, str]:
    """What JSSE's trust manager says: ``accepts``, or its exceptions, outermost first."""
    directory.mkdir(exist_ok=True)
    lines = []
    for name, case in cases.items():
        place = directory / name
        place.mkdir(parents=True)
        for prefix, ders in (("", case.sent), ("root-", case.anchors)):
            for number, der in enumerate(ders):
                (place / f"{prefix}{number}.der").write_bytes(der)
        lines.append(f"{place}\t{case.now.timestamp():.0f}\t{case.role}\t{case.host}\n")
    (directory / "list").write_text("".join(lines))
    exports = ("--add-exports", "java.base/sun.security.util=ALL-UNNAMED")
    done = run("java", "-XX:TieredStopAtLevel=1", *exports, JAVA_SOURCE, directory / "list", timeout=300).check()
    said = dict(line.split("\t", 1) for line in done.stdout.splitlines())
    return {name: said[str(directory / name)] for name in cases}


def cryptography(case: Case) -> str:
    """What ``cryptography.x509.verification`` says, which keeps to the profile of the Web PKI."""
    if not case.sent:
        return "nothing was sent"
    try:
        leaf, *others = (x509.load_der_x509_certificate(der) for der in case.sent)
        builder = PolicyBuilder().store(Store([x509.load_der_x509_certificate(der) for der in case.anchors]))
        builder = builder.time(case.now)
        if case.role == "client":
            builder.build_client_verifier().verify(leaf, others)
        else:
            address = _is_address(case.host)
            name = x509.IPAddress(ipaddress.ip_address(case.host)) if address else x509.DNSName(case.host)
            builder.build_server_verifier(name).verify(leaf, others)
    except (VerificationError, ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as wrong:
        return f"{type(wrong).__name__}: {wrong}"
    return ACCEPTS


def _is_address(host: str) -> bool:
    return bool(re.fullmatch(r"[0-9.]+|[0-9a-fA-F:]*:[0-9a-fA-F:.]*", host))
