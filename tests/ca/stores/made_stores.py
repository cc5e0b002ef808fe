"""Entries to put into key stores: real keys and chains, and made-up ones for properties."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import serialization
from hypothesis import strategies as st

from countersign.ca.stores import CertificateEntry, Entry, KeyEntry, StoreType
from countersign.ca.stores.bcfks import PBKDF2, SCRYPT
from countersign.ca.stores.model import Form, Scheme
from countersign.ca.stores.pkcs12 import LEGACY, MODERN
from countersign.recorder import der

if TYPE_CHECKING:
    from tests.peers.certs import Issued, KeyType, Lab

MADE = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
PASSWORD = "changeit"


def _light(scheme: Scheme | None) -> Scheme:
    """With less of scrypt, which a JVM takes seconds for."""
    assert scheme is not None
    return replace(scheme, rounds=512)


_WRAPPED = Scheme("aes-256-kwp", "pbkdf2", 1_000, "sha3-512")
FORMS: dict[str, tuple[StoreType, Form | None]] = {
    "jks": (StoreType.JKS, None),
    "jceks": (StoreType.JCEKS, None),
    "pkcs12": (StoreType.PKCS12, MODERN),
    "pkcs12-legacy": (StoreType.PKCS12, LEGACY),
    "bcfks": (StoreType.BCFKS, PBKDF2),
    "bcfks-scrypt": (StoreType.BCFKS, Form(SCRYPT.keys, _light(SCRYPT.content), _light(SCRYPT.mac))),
    "bcfks-wrapped": (
        StoreType.BCFKS,
        Form(_WRAPPED, _WRAPPED, Scheme("hmac-sha3_512", "pbkdf2", 1_000, "sha3-512")),
    ),
}
"""Every type of store with a password, in every form that is written."""

QUICK = Form(
    keys=Scheme("aes-256-cbc", "pbkdf2", 2, "sha256"),
    content=Scheme("aes-128-cbc", "pbkdf2", 2, "sha1"),
    mac=Scheme("hmac-sha256", "pkcs12", 2),
)
"""PKCS #12 that costs nothing to open, for tests that open it a thousand times."""

QUICK_BCFKS = Form(
    keys=Scheme("aes-256-ccm", "pbkdf2", 2, "sha512"),
    content=Scheme("aes-256-ccm", "pbkdf2", 2, "sha512"),
    mac=Scheme("hmac-sha512", "pbkdf2", 2, "sha512"),
)


def pkcs8(issued: Issued) -> bytes:
    return issued.key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def chain(issued: Issued) -> tuple[bytes, ...]:
    """With the root."""
    return tuple(each.public_bytes(serialization.Encoding.DER) for each in (issued.certificate, *issued.issuers))


def key_entry(lab: Lab, alias: str, kind: KeyType, *, created: datetime | None = MADE) -> KeyEntry:
    """A key of that kind under the lab's intermediate: a chain of three."""
    issued = lab.issue(f"{kind}.lab.test", common_name=f"The {kind} Client", key=kind, usages=("client", "server"))
    return KeyEntry(alias, chain(issued), pkcs8(issued), created)


def entries(lab: Lab) -> tuple[Entry, ...]:
    """An RSA key and two EC keys, each with a chain of three, and the root as a trusted certificate."""
    root = lab.root.certificate.public_bytes(serialization.Encoding.DER)
    return (
        key_entry(lab, "rsa", "rsa-2048"),
        key_entry(lab, "ec", "ec-p256", created=MADE + timedelta(hours=1)),
        key_entry(lab, "münchen 384", "ec-p384", created=MADE + timedelta(hours=2)),
        CertificateEntry("the root", root, MADE + timedelta(hours=3)),
    )


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# -- made up -----------------------------------------------------------------------------------------------------


def certificate(subject: str, issuer: str, inside: bytes) -> bytes:
    """Something with the outline of a certificate and these two names; ``inside`` stands for all the rest."""
    names = [
        der.encode(
            der.SEQUENCE,
            der.encode(der.SET, der.encode(der.SEQUENCE, der.encode_oid("2.5.4.3"), der.encode(0x0C, each.encode()))),
        )
        for each in (issuer, subject)
    ]
    algorithm = der.encode(der.SEQUENCE, der.encode_oid("1.2.3.4"))
    validity = der.encode(der.SEQUENCE, *[der.encode(der.UTC_TIME, b"260101000000Z")] * 2)
    key = der.encode(der.SEQUENCE, algorithm, der.encode(der.BIT_STRING, b"\x00", inside))
    tbs = der.encode(der.SEQUENCE, der.encode_integer(1), algorithm, names[0], validity, names[1], key)
    return der.encode(der.SEQUENCE, tbs, algorithm, der.encode(der.BIT_STRING, b"\x00", inside))


def key(inside: bytes) -> bytes:
    """Something with the outline of a PKCS #8 of a kind that nobody knows."""
    algorithm = der.encode(der.SEQUENCE, der.encode_oid("1.2.3.4"))
    return der.encode(der.SEQUENCE, der.encode_integer(0), algorithm, der.encode(der.OCTET_STRING, inside))


ascii_passwords = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=12)
passwords = st.text(max_size=12)
aliases = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).map(lambda text: text.lower())
_moments = st.integers(0, 4_000_000_000).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))


@st.composite
def stores(draw: st.DrawFn, *, dated: bool = True) -> tuple[Entry, ...]:
    """Keys with chains first, then certificates of their own; every name, date and certificate once."""
    names = draw(st.lists(aliases, min_size=1, max_size=5, unique_by=lambda alias: alias.lower().casefold()))
    keys = draw(st.integers(0, len(names)))
    dates = draw(st.lists(_moments, min_size=len(names), max_size=len(names), unique=True))
    found: list[Entry] = []
    for number, (alias, date) in enumerate(zip(names, dates, strict=True)):
        inside = draw(st.binary(max_size=30))
        if number < keys:
            length = draw(st.integers(1, 4))
            subjects = [f"{number}-{place}" for place in range(length + 1)]
            subjects[-1] = subjects[-2]  # the root vouches for itself
            links = tuple(
                certificate(subject, issuer, inside + bytes((number, place)))
                for place, (subject, issuer) in enumerate(pairwise(subjects))
            )
            found.append(KeyEntry(alias, links, key(inside + bytes((number,))), date))
        else:
            own = certificate(f"c{number}", f"d{number}", inside + bytes((number,)))
            found.append(CertificateEntry(alias, own, date if dated else None))
    return tuple(found)
