"""R35, T17: our verdict and its reason are those of ``openssl verify``, our hashes those of ``openssl x509``."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from countersign.ca.stores import StoreError, StoreType, write_store
from countersign.ca.verify import certificates_of, verify_leaf
from countersign.errors import UserError
from tests.ca.stores.made_stores import PASSWORD, chain, entries
from tests.peers.keystores import openssl

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.peers.certs import Issued, Lab

pytestmark = pytest.mark.peer("openssl")

SOON = datetime.now(UTC).replace(microsecond=0)


def cases(lab: Lab) -> dict[str, tuple[bytes, list[bytes], list[bytes], list[str]]]:
    """Leaf, trusted, untrusted, and what else ``openssl verify`` is told."""

    def der(issued: Issued) -> bytes:
        return issued.certificate.public_bytes(serialization.Encoding.DER)

    root, between, leaf = der(lab.root), der(lab.intermediate), der(lab.server)
    client = der(lab.client)
    expired = der(lab.issue("old.test", not_before=SOON - timedelta(days=40)))
    future = der(lab.issue("new.test", not_before=SOON + timedelta(days=40)))
    own = der(lab.issue("self.test", signer=None))
    wrong_issuer = der(lab.issue("x.test", signer=lab.server))
    below = lab.issue(common_name="Below", ca=True)
    too_long = der(lab.issue("deep.test", signer=below))
    twin = lab.issue(common_name="Lab Issuing CA", signer=lab.root, ca=True, key="ec-p384")
    forged = bytearray(leaf)
    forged[-5] ^= 1
    other = der(lab.issue(common_name="Other Root", signer=None, ca=True))
    good = [root], [between]
    return {
        "right": (leaf, *good, []),
        "root alone": (root, [root], [], []),
        "intermediate": (between, [root], [], []),
        "intermediate missing": (leaf, [root], [], []),
        "nothing trusted that is related": (leaf, [other], [between], []),
        "untrusted root in the chain": (leaf, [other], [between, root], []),
        "trusted intermediate alone": (leaf, [between], [], []),
        "self-signed leaf": (own, [root], [], []),
        "self-signed leaf that is trusted": (own, [own], [], []),
        "expired": (expired, *good, []),
        "not yet valid": (future, *good, []),
        "expired then": (leaf, *good, ["-attime", str(int((SOON + timedelta(days=60)).timestamp()))]),
        "not yet valid then": (leaf, *good, ["-attime", str(int((SOON - timedelta(days=60)).timestamp()))]),
        "valid then": (expired, *good, ["-attime", str(int((SOON - timedelta(days=20)).timestamp()))]),
        "issued by a leaf": (wrong_issuer, [root], [between, leaf], []),
        "path too long": (too_long, [root], [between, der(below)], []),
        "altered": (bytes(forged), *good, []),
        "another issuer of the same name": (leaf, [root], [der(twin)], []),
        "both issuers of the same name": (leaf, [root], [der(twin), between], []),
        "for servers": (leaf, *good, ["-purpose", "sslserver"]),
        "a server's for clients": (leaf, *good, ["-purpose", "sslclient"]),
        "a client's for servers": (client, *good, ["-purpose", "sslserver"]),
        "for anything": (client, *good, ["-purpose", "any"]),
        "for mail": (client, *good, ["-purpose", "smimesign"]),
        "its name": (leaf, *good, ["-verify_hostname", "server.lab.test"]),
        "another name": (leaf, *good, ["-verify_hostname", "other.lab.test"]),
        "its address": (leaf, *good, ["-verify_ip", "127.0.0.1"]),
        "its address of six": (leaf, *good, ["-verify_ip", "::1"]),
        "another address": (leaf, *good, ["-verify_ip", "192.0.2.1"]),
        "name and purpose and time": (
            leaf, *good,
            ["-verify_hostname", "localhost", "-purpose", "sslserver", "-attime", str(int(SOON.timestamp()))],
        ),
    }  # fmt: skip


def by_openssl(
    directory: Path, leaf: bytes, roots: Sequence[bytes], untrusted: Sequence[bytes], words: Sequence[str]
) -> tuple[int, int, str]:
    """Number, depth and words of its first error; zeros and ``ok`` where it has none."""
    for name, ders in (("leaf", [leaf]), ("roots", roots), ("untrusted", untrusted)):
        loaded = [x509.load_der_x509_certificate(der) for der in ders]
        (directory / name).write_bytes(b"".join(each.public_bytes(serialization.Encoding.PEM) for each in loaded))
    given = ["-untrusted", str(directory / "untrusted")] if untrusted else []
    done = openssl("verify", *words, "-CAfile", directory / "roots", *given, directory / "leaf")
    found = re.search(r"error (\d+) at (\d+) depth lookup: (.*)", done.stdout + done.stderr)
    assert (found is None) is (done.returncode == 0), done
    return (int(found[1]), int(found[2]), found[3]) if found else (0, 0, "ok")


def test_verdict_and_reason_are_those_of_openssl(lab: Lab, tmp_path: Path) -> None:
    seen: set[int] = set()
    for name, (leaf, roots, untrusted, words) in cases(lab).items():
        told = dict(zip(words[::2], words[1::2], strict=True))
        at = told.get("-attime")
        found = verify_leaf(
            leaf,
            roots=roots,
            untrusted=untrusted,
            purpose=told.get("-purpose"),
            hostname=told.get("-verify_hostname") or told.get("-verify_ip"),
            at=datetime.fromtimestamp(int(at), UTC) if at else None,
        )
        expected = by_openssl(tmp_path, leaf, roots, untrusted, words)
        assert (found.code, found.depth) == expected[:2], name
        assert found.reason.lower().startswith(expected[2].lower()), name  # OpenSSL 4 says more of error 9
        assert found.ok is (expected[0] == 0), name
        assert found.ok or found.cure, (name, found)
        seen.add(found.code)
    assert seen >= {0, 7, 9, 10, 18, 19, 20, 25, 26, 62, 64}


def test_the_chain_of_hashes_is_the_one_that_openssl_prints(lab: Lab, tmp_path: Path) -> None:
    """K1: ``leaf >>> intermediate >>> root``."""
    leaf, between, root = chain(lab.server)
    lines = [
        openssl("x509", "-hash", "-issuer_hash", "-noout", "-in", each.cert_pem).check().stdout.split()
        for each in (lab.server, lab.intermediate, lab.root)
    ]
    right = verify_leaf(leaf, roots=[root], untrusted=[between])
    assert [[link.hash, link.issuer_hash] for link in right.links] == lines
    assert right.hashes == " >>> ".join(own for own, _ in lines)
    assert right.links[-1].hash == right.links[-1].issuer_hash
    missing = verify_leaf(leaf, roots=[root])
    assert missing.hashes == f"{lines[0][0]} >>> {lines[0][1]} (missing)"
    by_name = verify_leaf(leaf, roots=[leaf[:-1] + b"\x00"], untrusted=[between, root])
    assert by_name.hashes == right.hashes


@pytest.mark.parametrize(
    "attributes",
    [
        [(NameOID.COMMON_NAME, "  Spaces   inside  "), (NameOID.ORGANIZATION_NAME, "UPPER lower")],
        [(NameOID.COMMON_NAME, "Grüße \u4e2d\u6587"), (NameOID.COUNTRY_NAME, "DE")],
        [(NameOID.COMMON_NAME, "\u00c4\u00d6\u00dc İ"), (NameOID.EMAIL_ADDRESS, "Me@Example.COM")],
        [],
    ],
    ids=["spaces", "unicode", "case", "empty"],
)
def test_hashes_are_over_the_canonical_name(
    attributes: list[tuple[x509.ObjectIdentifier, str]], lab: Lab, tmp_path: Path
) -> None:
    name = x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes])
    made = (
        x509.CertificateBuilder(name, name, lab.server.key.public_key(), 1, SOON, SOON + timedelta(days=1))
        .sign(lab.server.key, hashes.SHA256())
    )  # fmt: skip
    (tmp_path / "pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    printed = openssl("x509", "-hash", "-issuer_hash", "-noout", "-in", tmp_path / "pem").check().stdout.split()
    link = verify_leaf(made.public_bytes(serialization.Encoding.DER), roots=[]).links[0]
    assert [link.hash, link.issuer_hash] == printed


def test_loops_and_crossed_roots_end(lab: Lab, tmp_path: Path) -> None:
    """Two CAs that issued each other, and 200 intermediates of one name (T18)."""
    first = lab.issue(common_name="A", signer=None, ca=True, key="ec-p256")
    second = lab.issue(common_name="B", signer=first, ca=True, key="ec-p384")
    back = lab.issue(common_name="A", signer=second, ca=True, key="ec-p256")
    leaf = lab.issue("x.test", signer=second)
    ders = [each.certificate.public_bytes(serialization.Encoding.DER) for each in (leaf, second, back)]
    found = verify_leaf(ders[0], roots=[], untrusted=ders[1:])
    assert (found.code, found.depth, found.reason) == by_openssl(tmp_path, ders[0], chain(lab.root), ders[1:], ())
    assert len(found.links) == 3
    many = [
        lab.issue(common_name="Lab Issuing CA", signer=lab.root, ca=True).certificate.public_bytes(
            serialization.Encoding.DER
        )
        for _ in range(200)
    ]
    server, between, root = chain(lab.server)
    assert verify_leaf(server, roots=[root], untrusted=[*many, between]).ok


def test_the_systems_roots_are_taken_where_none_are_given(lab: Lab) -> None:
    leaf, between, root = chain(lab.server)
    assert verify_leaf(leaf, untrusted=[between, root]).code == 19


def test_what_cannot_be_asked_is_the_users_error(lab: Lab) -> None:
    leaf = chain(lab.server)[0]
    with pytest.raises(UserError, match="expected client, server"):
        verify_leaf(leaf, roots=[], purpose="mail")
    with pytest.raises(UserError, match="OpenSSL does not read"):
        verify_leaf(b"\x30\x03\x02\x01\x00", roots=[])
    with pytest.raises(UserError, match="no host name"):
        verify_leaf(leaf, roots=[], hostname="x" * 70 + "\u00e4")


def test_certificates_come_from_files_of_any_kind_in_their_order(lab: Lab, tmp_path: Path) -> None:
    ders = chain(lab.server)
    reversed_pem = b"".join(
        x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM) for der in ders[::-1]
    )
    (tmp_path / "pem").write_bytes(reversed_pem)
    assert certificates_of(tmp_path / "pem") == ders[::-1]
    (tmp_path / "der").write_bytes(ders[0])
    assert certificates_of(tmp_path / "der") == ders[:1]
    (tmp_path / "jks").write_bytes(write_store(StoreType.JKS, entries(lab)[:1], PASSWORD))
    assert certificates_of(tmp_path / "jks", PASSWORD)[1:] == ders[1:]
    for data, told in ((b"", "an empty file"), (lab.server.key_pem.read_bytes(), "no certificate|a private key")):
        (tmp_path / "file").write_bytes(data)
        with pytest.raises(StoreError, match=told):
            certificates_of(tmp_path / "file")
    with pytest.raises(StoreError, match="no such file"):
        certificates_of(tmp_path / "missing")


def test_who_asks_for_another_name_is_told_those_that_there_are(lab: Lab) -> None:
    leaf, root = (each.certificate.public_bytes(serialization.Encoding.DER) for each in (lab.issue("a.test"), lab.root))
    between = lab.intermediate.certificate.public_bytes(serialization.Encoding.DER)
    found = verify_leaf(leaf, roots=[root], untrusted=[between], hostname="b.test")
    assert (found.code, found.cure) == (
        62,
        "it is for DNS:a.test; it was issued for other names: connect by one of those, or have it issued anew",
    )
