"""What is asked of a server, and what was found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from countersign.errors import UserError
from countersign.recorder.wire.text import host_port, printable

if TYPE_CHECKING:
    from pathlib import Path

    from countersign.ca.revocation.judging import Answer
    from countersign.ca.verify import Verdict
    from countersign.findings.diagnosing.chain import Defect
    from countersign.recorder.certificates import CertificateFacts
    from countersign.recorder.recording import Recording

STARTTLS = ("smtp", "lmtp", "imap", "pop3", "ftp", "ldap", "postgres", "mysql", "xmpp")
PROXY_PORT = 3128
_PORTS = {"smtp": 25, "lmtp": 24, "imap": 143, "pop3": 110, "ftp": 21, "ldap": 389, "postgres": 5432, "mysql": 3306}
_PORTS |= {"xmpp": 5222}
_SUBMISSION = 587


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Whom to ask and how. ``via`` is an HTTP proxy's URL, ``certificate`` and ``key`` are PEM files.

    ``name`` is the server name that is asked for; empty for none. ``roots`` are trusted (DER); None: the system's.
    """

    host: str
    port: int
    name: str
    via: str | None = None
    starttls: str | None = None
    certificate: Path | None = None
    key: Path | None = None
    roots: tuple[bytes, ...] | None = None
    all_versions: bool = False
    revocation: bool = True
    seconds: float = 10.0
    resolve: str | None = None

    def __post_init__(self) -> None:
        if self.starttls is not None and self.starttls not in STARTTLS:
            raise UserError(f"--starttls takes one of {', '.join(STARTTLS)}; got {self.starttls!r}")
        if self.key is not None and self.certificate is None:
            raise UserError("--client-key needs --client-cert")
        if self.via is not None:
            try:
                parts = urlsplit(self.via)
                right = parts.scheme == "http" and parts.hostname and _is_name(parts.hostname) and parts.port != 0
            except ValueError:
                right = False
            if not right:
                raise UserError(f"--via takes the URL of a proxy, http://HOST:PORT; got {printable(self.via)!r}")
        for what, name in (("the server", self.host), ("--name", self.name)):
            if name and not _is_name(name):
                raise UserError(
                    f"{what}: {printable(name)} is no host name; a label has 1 to 63 bytes (RFC 1035 2.3.4)"
                )

    @property
    def proxy(self) -> str | None:
        """``host:port`` of the proxy, without what it is shown."""
        parts = urlsplit(self.via or "")
        return printable(f"{parts.hostname}:{parts.port or PROXY_PORT}", limit=255) if self.via else None

    @property
    def place(self) -> str:
        return host_port(self.host, self.port)


def _is_name(host: str) -> bool:
    """Whether it can be looked up and asked for: addresses are names here."""
    try:
        host.encode("idna")
    except UnicodeError:
        return False
    return True


def default_port(starttls: str | None) -> int:
    """The port that IANA has for the protocol in whose dialogue TLS begins; without one that of HTTPS."""
    return _PORTS.get(starttls or "", 443)


def protocol_of(port: int) -> str | None:
    """The protocol whose port this is and in whose dialogue TLS begins; 587 is that of submission (RFC 6409 3.1)."""
    return "smtp" if port == _SUBMISSION else next((name for name, its in _PORTS.items() if its == port), None)


@dataclass(frozen=True, slots=True)
class Seen:
    """What was offered one at a time and taken. ``None``: not asked. Names are IANA's."""

    versions: tuple[str, ...] = ()
    refused_versions: tuple[str, ...] = ()
    ciphers: tuple[tuple[str, str], ...] | None = None
    groups: tuple[str, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "versions": list(self.versions),
            "refused_versions": list(self.refused_versions),
            "ciphers": None if self.ciphers is None else [{"version": v, "cipher": c} for v, c in self.ciphers],
            "groups": None if self.groups is None else list(self.groups),
        }


@dataclass(frozen=True, slots=True)
class CertificateLook:
    """One certificate of the chain, and the status of it that was asked for live."""

    facts: CertificateFacts
    der: bytes = field(repr=False)
    answers: tuple[Answer, ...] = ()


@dataclass(frozen=True, slots=True)
class Probe:
    """All that was found. ``verdict`` is OpenSSL's, None without a chain; ``product`` is an inspection product."""

    plan: Plan
    recording: Recording
    seen: Seen
    chain: tuple[CertificateLook, ...] = ()
    verdict: Verdict | None = None
    defects: tuple[Defect, ...] = ()
    product: str | None = None

    @property
    def good(self) -> bool:
        """Whether a careful client would go on."""
        return self.verdict is not None and self.verdict.ok and not self.revoked

    @property
    def trusted_by_itself(self) -> bool:
        """Whether nobody but the leaf vouches for it, and it is among the roots."""
        return self.verdict is not None and self.verdict.ok and self.chain[0].facts.self_issued

    @property
    def revoked(self) -> bool:
        return any(answer.verdict.value == "revoked" for one in self.chain for answer in one.answers)

    @property
    def undecided(self) -> tuple[int, ...]:
        """Which certificates name places to ask whether they are revoked, of which none has told."""
        return tuple(place for place, one in enumerate(self.chain) if _undecided(one.answers))

    @property
    def places(self) -> tuple[str, ...]:
        """What a firewall has to let through for the revocation checks of this chain: ``host:port``, each once."""
        found: dict[str, None] = {}
        for one in self.chain:
            for url in (*one.facts.ocsp, *one.facts.crl, *one.facts.ca_issuers):
                try:
                    parts = urlsplit(url)
                    port = parts.port or {"http": 80, "https": 443, "ldap": 389}.get(parts.scheme)
                except ValueError:
                    continue
                if parts.hostname and port:
                    found[f"{printable(parts.hostname, limit=255)}:{port}"] = None
        return tuple(found)

    def to_json(self) -> dict[str, Any]:
        """``{"schema": 1, "target": ..., "good": bool, "chain": [...], "offers": {...}, ...}``."""
        reading = self.recording.legs[0].read() if self.recording.legs else None
        return {
            "schema": 1,
            "target": self.plan.place,
            "name": self.plan.name or None,
            "via": self.plan.proxy,
            "recording": self.recording.id,
            "outcome": self.recording.outcome.text,
            "good": self.good,
            "version": None if reading is None else reading.version,
            "cipher": None if reading is None else reading.cipher,
            "group": None if reading is None else reading.group,
            "alpn": None if reading is None else reading.alpn,
            "requested_ca_names": None if reading is None else _names(reading.requested_ca_texts),
            "offers": self.seen.to_json(),
            "chain": [
                {**one.facts.to_json(), "revocation": [answer.to_json() for answer in one.answers]}
                for one in self.chain
            ],
            "verdict": None if self.verdict is None else self.verdict.to_json(),
            "defects": [{"id": one.id, "certificate": one.place, "text": one.text} for one in self.defects],
            "revocation_unknown": list(self.undecided),
            "looks_like": self.product,
            "allow": list(self.places),
        }


def _undecided(answers: tuple[Answer, ...]) -> bool:
    asked = [one.verdict.value for one in answers if one.kind.value != "aia"]
    return bool(asked) and not {"good", "revoked"} & set(asked)


def _names(names: tuple[str | None, ...] | None) -> list[str | None] | None:
    return None if names is None else list(names)
