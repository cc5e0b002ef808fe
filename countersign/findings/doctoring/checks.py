"""What is looked at in a MID Server's folder, and what is said of it.

Sources are the knowledge base articles on MID Servers and certificates; each remark says which. Where a cure would
lose something (deleting the agent's key store takes web server and mutual TLS certificates with it), that is said.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from countersign.ca.stores import (
    CertificateEntry,
    DigestWrong,
    KeyEntry,
    PasswordMissing,
    StoreError,
    WrongKeyPassword,
    load_store,
)
from countersign.errors import UserError, words_of
from countersign.findings.diagnosing.case import named
from countersign.findings.diagnosing.chain import defects
from countersign.findings.diagnosing.inspection import product_of
from countersign.findings.doctoring.config import is_true, read_parameters
from countersign.findings.doctoring.home import MidHome, java_version, read_config
from countersign.findings.explaining import explain
from countersign.findings.jvm import ANY, Jvm
from countersign.recorder.certificates import read_certificate
from countersign.recorder.private_files import FileFault
from countersign.recorder.wire.events import Side
from countersign.recorder.wire.reading import SentCertificate
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from countersign.ca.stores import Store
    from countersign.findings.explaining import Explained
    from countersign.recorder.certificates import CertificateFacts

_ARTICLE = "MID Servers and Certificates"
_MUTUAL = "MID Server mutual authentication"
_FIPS = "How to use mTLS on a MID Server in FIPS enforced mode"
_OF_EVERY_JDK = "changeit"
_SOON = timedelta(days=30)
_BOOTSTRAP = "mid.ssl.bootstrap.default.check_cert_"
_CHECKS = ("hostname", "chain", "revocation")
_LOG_AT_MOST = 2 << 30
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Remark:
    """One thing worth saying; the fields are those of a finding in a recording."""

    id: str
    severity: str
    text: str
    fix: str
    source: str
    evidence: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "severity": self.severity,
            "text": self.text,
            "evidence": list(self.evidence),
            "fix": self.fix,
            "source": self.source,
        }


@dataclass(frozen=True, slots=True)
class Checkup:
    """What was found: ``facts`` by name, ``remarks`` by their weight, ``unseen`` what could not be read."""

    facts: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[Remark, ...] = ()
    unseen: tuple[str, ...] = ()

    @property
    def sick(self) -> bool:
        return any(one.severity == "cause" for one in self.remarks)

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": 1,
            "facts": dict(self.facts),
            "findings": [one.to_json() for one in self.remarks],
            "unseen": list(self.unseen),
        }


def examine(
    home: MidHome,
    *,
    cacerts_password: str | None = None,
    keystore_password: str | None = None,
    now: datetime | None = None,
) -> Checkup:
    """Everything that is there; what cannot be read is a remark, or stands in ``unseen``."""
    now = now or datetime.now(UTC)
    unseen: list[str] = []
    remarks: list[Remark] = []
    parameters: dict[str, str] = {}
    try:
        data = read_config(home)
        if data is None:
            unseen.append("config.xml: it is not there")
        else:
            parameters = read_parameters(data)
    except FileFault as wrong:
        unseen.append(printable(str(wrong), limit=400))
    except UserError as wrong:
        fix = "Put the copy back that was made last; a MID Server does not start with such a file."
        remarks.append(Remark("config-unreadable", "cause", str(wrong), fix, f"{_ARTICLE}, 2"))
    facts = _facts(home, parameters)
    remarks += _configured(parameters) if parameters else ()
    for path, password, look in (
        (home.cacerts, cacerts_password or _OF_EVERY_JDK, _cacerts),
        (home.keystore, keystore_password, _keystore),
        (home.webserver, keystore_password, _webserver),
    ):
        if path is None:
            continue
        try:
            store = load_store(path, password, open_keys=False)
        except StoreError as wrong:
            unseen.append(printable(str(wrong), limit=400))
            remarks += _unreadable(path, wrong, parameters)
            continue
        except FileFault as wrong:  # too large, or no file that can be read
            unseen.append(printable(str(wrong), limit=400))
            continue
        facts[path.name] = f"{store.kind.label}, {len(store.entries)} entries"
        remarks += look(store, path, parameters, now)
    if home.cacerts is None:
        unseen.append("cacerts: no JRE is in this folder")
    if home.keystore is None:
        unseen.append("the agent's key store: it is not there")
    jvm = ANY if home.cacerts is None else Jvm(home.cacerts.parents[2])
    for log in home.logs:
        try:
            remarks += _log(log, mutual=_is_mutual(parameters), jvm=jvm)
        except OSError as wrong:
            unseen.append(f"{printable(log.name, limit=100)}: it cannot be read ({words_of(wrong)})")
        except UserError as wrong:
            unseen.append(str(wrong))
    weights = {"cause": 0, "warning": 1, "note": 2}
    merged = _merged(remarks)
    return Checkup(facts, tuple(sorted(merged, key=lambda one: weights.get(one.severity, 2))), tuple(unseen))


def _facts(home: MidHome, parameters: Mapping[str, str]) -> dict[str, str]:
    facts = {"folder": printable(str(home.agent))}
    if (version := java_version(home)) is not None:
        facts["java"] = version
    for name in ("url", "name", "mid.proxy.use_proxy", "mid.proxy.host", "mid.proxy.port", "mid.instance.username"):
        if name in parameters:
            facts[name] = printable(parameters[name], limit=200)
    for name, value in parameters.items():
        if name.startswith("mid.ssl.") or "mutual" in name.lower():
            facts[printable(name, limit=100)] = printable(value, limit=200)
    facts["logs"] = str(len(home.logs))
    return facts


def _is_mutual(parameters: Mapping[str, str]) -> bool:
    """Setting up mutual authentication takes the user name out of config.xml."""
    said = any("mutual" in name.lower() and is_true(value) for name, value in parameters.items())
    return said or ("url" in parameters and not parameters.get("mid.instance.username"))


# -- config.xml ----------------------------------------------------------------------------------------------------


def _configured(parameters: Mapping[str, str]) -> Iterator[Remark]:
    url = parameters.get("url", "")
    try:
        scheme = urlsplit(url).scheme if url else ""
    except ValueError:
        scheme = "?"
    if url and scheme != "https":
        yield Remark(
            "instance-url-not-https",
            "cause",
            f"the instance's url is {printable(url, limit=200)}; only https is allowed to the instance",
            "Set url to https://INSTANCE.service-now.com/ in config.xml and restart the MID Server.",
            f"{_ARTICLE}, 1.2",
        )
    mutual = _is_mutual(parameters)
    off = [name for name in _CHECKS if is_true(parameters.get(_BOOTSTRAP + name)) is False]
    if off and mutual:
        names = ", ".join(_BOOTSTRAP + name for name in off)
        yield Remark(
            "bootstrap-checks-off",
            "cause",
            f"mutual authentication seems to be set up and these are false: {names}",
            "Set all three to true, and the MID Security Policy for *.service-now.com back to its defaults; with "
            "others the MID Server connects at first and sends no certificate once it has fetched the policy.",
            f"{_MUTUAL} (MID Security Policy not at its defaults)",
        )
    elif off:
        yield Remark(
            "certificate-checks-off",
            "warning",
            f"the MID Server starts with these checks off: {', '.join(off)}",
            "Switch them on when the certificates are in order: the one for OCSP switches the chain check off as well.",
            f"{_ARTICLE}, 1.2 and the table of releases",
        )
    if is_true(parameters.get("mid.proxy.use_proxy")) and not parameters.get("mid.proxy.host"):
        yield Remark(
            "proxy-without-host",
            "cause",
            "the parameter mid.proxy.use_proxy is true and mid.proxy.host is not set",
            "Set mid.proxy.host and mid.proxy.port, or mid.proxy.use_proxy to false.",
            f"{_ARTICLE}, 1.2 (traditional proxy)",
        )
    elif not is_true(parameters.get("mid.proxy.use_proxy")):
        yield Remark(
            "no-proxy-configured",
            "note",
            "no proxy is set up (mid.proxy.use_proxy); a transparent one may intercept all the same",
            "Look at the chain that this machine is shown: countersign probe INSTANCE.service-now.com",
            f"{_ARTICLE}, 1.2 (HTTPS inspection)",
        )
    if mutual:
        yield Remark(
            "mutual-authentication",
            "note",
            "there is no mid.instance.username: mutual authentication seems to be set up",
            "Re-key, Validate and Invalidate are not to be had then; never delete the agent's key store without a "
            "copy, for the certificate for mutual TLS is in it. \"Could not authenticate user 'null'\" is a side "
            "effect of it failing.",
            f"{_MUTUAL} (errors)",
        )


# -- key stores ----------------------------------------------------------------------------------------------------


def _unreadable(path: Path, wrong: StoreError, parameters: Mapping[str, str]) -> Iterator[Remark]:
    if not isinstance(wrong, DigestWrong | PasswordMissing | WrongKeyPassword):
        yield Remark(
            "key-store-broken",
            "cause",
            f"the store {path.name} cannot be read: {printable(str(wrong), limit=300)}",
            "Put the copy back that was made last; its type, not its name, decides what reads it.",
            f"{_ARTICLE}, 2",
        )
        return
    lost = "the web server's and the mutual TLS certificate in it are lost and must be imported again"
    more = " Mutual authentication seems to be set up: Re-key will not do." if _is_mutual(parameters) else ""
    yield Remark(
        "key-store-password",
        "warning",
        f"the store {path.name} does not open with the password that was given, or its bytes were changed: "
        f"{printable(str(wrong), limit=300)}",
        "Give the password (--keystore-password-file). If it is config.xml's own and wrong, restore config.xml or the "
        f"store; to delete the store is the last resort, for {lost}.{more}",
        f"{_ARTICLE}, 2 (keystore and config.xml out of sync)",
    )


def _cacerts(store: Store, path: Path, parameters: Mapping[str, str], now: datetime) -> Iterator[Remark]:
    del parameters
    entries = [entry for entry in store.entries if isinstance(entry, CertificateEntry)]
    facts = [(entry.alias, read_certificate(entry.certificate), entry.trusted) for entry in entries]
    yield from _dates(path, [(alias, one) for alias, one, _ in facts], now, only_recent=True)
    untrusted = [alias for alias, _, trusted in facts if not trusted]
    if untrusted:
        yield Remark(
            "no-trust-mark",
            "cause",
            f"the store {path.name} is a PKCS #12 file whose certificates lack Java's mark of trust "
            f"({len(untrusted)} of {len(facts)}): a JVM says `trustAnchors parameter must be non-empty`",
            "Import them with keytool -importcert, or countersign ca keystore add.",
            "JDK, PKCS #12 trust stores",
            _some(untrusted),
        )
    leaves = [alias for alias, one, _ in facts if not one.is_ca and not one.self_issued]
    if leaves:
        yield Remark(
            "leaf-in-trust-store",
            "warning",
            f"{len(leaves)} certificates in {path.name} are no CAs: a leaf that was imported is useless once it is "
            f"replaced",
            "Import the root of the device or server instead, and take the leaf out.",
            f"{_ARTICLE}, 1.2 (devices that change their certificate every 2 weeks)",
            _some(leaves),
        )
    products = {product: alias for alias, one, _ in facts if (product := product_of([one, one])) is not None}
    for product, alias in products.items():
        yield Remark(
            "inspection-root-trusted",
            "note",
            f"the store {path.name} trusts {product} ({printable(alias, limit=80)})",
            "Nothing to do: that device's certificates are believed here.",
            f"{_ARTICLE}, 1.2 (HTTPS inspection)",
        )
    if not entries:
        yield Remark(
            "empty-trust-store",
            "cause",
            f"the store {path.name} holds no certificate: nothing is trusted",
            "Put the JRE's own cacerts back and import what is missing.",
            f"{_ARTICLE}, 1.2",
        )


def _keystore(store: Store, path: Path, parameters: Mapping[str, str], now: datetime) -> Iterator[Remark]:
    keys = [entry for entry in store.entries if isinstance(entry, KeyEntry)]
    if not keys:
        yield Remark(
            "no-private-key",
            "cause",
            f"the store {path.name} holds no private key",
            "Restart the MID Server, which makes one, or import the key with its whole chain for mutual "
            "authentication.",
            f"{_ARTICLE}, 2",
        )
    fips = any("fips" in name.lower() and is_true(value) for name, value in parameters.items())
    if fips and store.kind.value != "bcfks":
        yield Remark(
            "store-not-bcfks",
            "cause",
            f"FIPS mode is on and {path.name} is {store.kind.label}",
            "Convert it: countersign ca keystore convert --type bcfks, or keytool with the BCFIPS provider.",
            _FIPS,
        )
    for entry in keys:
        chain = [read_certificate(der) for der in entry.chain]
        yield from _dates(path, [(entry.alias, one) for one in chain[:1]], now)
        if chain and chain[0].self_issued and chain[0].subject and "snc-mid" in chain[0].subject:
            continue  # the MID Server's own, for encryption: self-signed by design
        sent = [SentCertificate(Side.CLIENT, der, 0) for der in entry.chain]
        for defect in defects(sent, at=now, name=None, client=True):
            if defect.id in {"just-issued", "leaf-expired", "leaf-not-yet-valid"}:
                continue
            yield Remark(
                f"key-{defect.id}",
                "warning" if defect.id == "self-signed" and not _is_mutual(parameters) else "cause",
                f"the store {path.name}, {printable(entry.alias, limit=80)}: {defect.text}",
                _CURES.get(
                    defect.id, "Have the certificate issued again without that, and import it with its whole chain."
                ),
                _MUTUAL,
            )


_CURES = {
    "missing-intermediate": "Import root and intermediates first and then the signed certificate, so that the entry "
    "holds the whole chain (keytool -list -v: certificate chain length).",
    "wrong-eku": "Have it issued with clientAuth in its extended key usage; a server's certificate will not do.",
    "self-signed": "Use one that a CA issued: self-signed client certificates are not supported.",
}


def _webserver(store: Store, path: Path, parameters: Mapping[str, str], now: datetime) -> Iterator[Remark]:
    del parameters
    keys = [entry for entry in store.entries if isinstance(entry, KeyEntry)]
    if len(keys) != 1:
        yield Remark(
            "web-server-key",
            "warning",
            f"the store {path.name} should hold one key for the web server extension, and holds {len(keys)}",
            "Keep only the key of the host name by which the MID Server is called.",
            f"{_ARTICLE}, 4",
        )
    for entry in keys:
        chain = [read_certificate(der) for der in entry.chain]
        yield from _dates(path, [(entry.alias, one) for one in chain[:1]], now)
        if chain and not chain[0].san:
            yield Remark(
                "web-server-names",
                "warning",
                f"the store {path.name}, {printable(entry.alias, limit=80)}: the certificate has no alternative names",
                "Have it issued for the name in the URL that clients use, be it an alias or a load balancer's.",
                f"{_ARTICLE}, 4",
            )


def _dates(
    path: Path, entries: Sequence[tuple[str, CertificateFacts]], now: datetime, *, only_recent: bool = False
) -> Iterator[Remark]:
    """``only_recent``: of a trust store with its many roots, those that ended within the last year, or will soon."""
    for alias, one in entries:
        try:
            until = datetime.fromisoformat(one.not_after) if one.not_after else None
        except ValueError:
            continue
        if until is None or until > now + _SOON or (only_recent and until < now - timedelta(days=365)):
            continue
        over = until < now
        yield Remark(
            "certificate-expired" if over else "certificate-expires-soon",
            ("warning" if only_recent else "cause") if over else "warning",
            f"the store {path.name}, {printable(alias, limit=80)}: {named(one.subject)} "
            + (f"expired on {one.not_after}" if over else f"expires on {one.not_after}"),
            "Renew it." if not only_recent else "Import its successor, if anything still depends on it.",
            _ARTICLE,
        )


# -- logs ----------------------------------------------------------------------------------------------------------


def _log(path: Path, *, mutual: bool, jvm: Jvm) -> Iterator[Remark]:
    if path.stat().st_size > _LOG_AT_MOST:
        raise UserError(f"{printable(path.name, limit=100)}: it has more than 2 GiB; give it to countersign explain")
    with path.open("rb") as file:
        explanation = explain(file)
    for finding in explanation.findings:
        yield _from_log(path, finding, mutual=mutual, jvm=jvm)


def _from_log(path: Path, finding: Explained, *, mutual: bool, jvm: Jvm) -> Remark:
    places = tuple(f"{path.name}, line {place.line}: {place.text}" for place in finding.places[:_SHOWN])
    fix = finding.cure(jvm)
    if mutual and "re-key" in fix.lower():
        fix = f"Mutual authentication seems to be set up, so first look at its certificate. {fix}"
    return Remark(finding.kind.id, finding.kind.severity, finding.kind.text, fix, finding.kind.source, places)


def _merged(remarks: Sequence[Remark]) -> list[Remark]:
    """One remark for the same thing from several logs."""
    found: dict[tuple[str, str], Remark] = {}
    for one in remarks:
        key = one.id, one.text
        known = found.get(key)
        if known is None:
            found[key] = one
        else:
            evidence = (*known.evidence, *one.evidence)[: _SHOWN * 2]
            found[key] = Remark(one.id, one.severity, one.text, one.fix, one.source, evidence)
    return list(found.values())


def _some(names: Sequence[str]) -> tuple[str, ...]:
    shown = [printable(name, limit=80) for name in names[:_SHOWN]]
    return tuple(shown) + ((f"and {len(names) - _SHOWN} more",) if len(names) > _SHOWN else ())
