"""PKCS #12, PKCS #7 and PEM between us, the openssl command, NSS and the library's own reader, both ways."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key, pkcs7, pkcs12

from countersign.ca.stores import (
    CertificateEntry,
    DigestWrong,
    Form,
    KeyEntry,
    Scheme,
    StoreType,
    UnknownAlgorithm,
    WrongKeyPassword,
    entries_for,
    load_store,
    public_key_of,
    read_store,
    write_store,
)
from countersign.ca.stores.pkcs12 import MODERN
from tests.ca.stores.made_stores import FORMS, PASSWORD, chain, key_entry, pkcs8
from tests.peers.keystores import openssl
from tests.peers.process import run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.peers.certs import KeyType, Lab

pytestmark = pytest.mark.peer("openssl")

EXPORTS: dict[str, tuple[str, ...]] = {
    "modern": (),
    "legacy": ("-legacy",),
    "des": ("-legacy", "-descert"),
    "rc2-128": ("-legacy", "-certpbe", "PBE-SHA1-RC2-128", "-keypbe", "PBE-SHA1-RC2-128"),
    "rc4-128": ("-legacy", "-certpbe", "PBE-SHA1-RC4-128", "-keypbe", "PBE-SHA1-RC4-40"),
    "2des": ("-legacy", "-certpbe", "PBE-SHA1-2DES", "-keypbe", "PBE-SHA1-2DES"),
    "aes-192": ("-certpbe", "AES-192-CBC", "-keypbe", "AES-128-CBC"),
    "clear": ("-certpbe", "NONE", "-keypbe", "NONE"),
    "no-mac": ("-nomac",),
    "one-iteration": ("-noiter", "-nomaciter"),
    "sha512": ("-macalg", "sha512"),
    "sha1": ("-macalg", "sha1"),
}


@pytest.mark.parametrize("kind", ["rsa-2048", "ec-p256", "ed25519"])
@pytest.mark.parametrize("how", EXPORTS)
def test_we_read_every_protection_that_openssl_has(how: str, kind: KeyType, lab: Lab, tmp_path: Path) -> None:
    issued = lab.issue("localhost", key=kind)
    (tmp_path / "all.pem").write_bytes(issued.fullchain_pem.read_bytes() + issued.root_pem.read_bytes())
    words = ("-inkey", issued.key_pem, "-in", tmp_path / "all.pem", "-name", "its name", "-out", tmp_path / "p12")
    openssl("pkcs12", "-export", *words, "-passout", f"pass:{PASSWORD}", *EXPORTS[how]).check()
    store = load_store(tmp_path / "p12", PASSWORD)
    assert store.entries == (KeyEntry("its name", chain(issued), pkcs8(issued)),)
    assert store.verified is (how != "no-mac")
    if how != "clear":  # without a MAC openssl leaves the certificates in clear
        with pytest.raises(WrongKeyPassword if how == "no-mac" else DigestWrong):
            load_store(tmp_path / "p12", "wrong")


@pytest.mark.parametrize("empty", [("-passout", "pass:"), ("-passout", "pass:", "-legacy")], ids=["modern", "legacy"])
def test_an_empty_password_of_openssl_is_read(empty: tuple[str, ...], lab: Lab, tmp_path: Path) -> None:
    words = ("-inkey", lab.server.key_pem, "-in", lab.server.cert_pem, "-out", tmp_path / "p12")
    openssl("pkcs12", "-export", *words, *empty).check()
    assert load_store(tmp_path / "p12", "").keys[0].key == pkcs8(lab.server)
    assert load_store(tmp_path / "p12").verified


@pytest.mark.parametrize("password", [PASSWORD, "", "grüße \u20ac"])
@pytest.mark.parametrize("name", ["pkcs12", "pkcs12-legacy"])
def test_openssl_reads_what_we_write(name: str, password: str, lab: Lab, tmp_path: Path) -> None:
    entry = key_entry(lab, "its name", "rsa-2048")
    kind, form = FORMS[name]
    (tmp_path / "p12").write_bytes(write_store(kind, [entry], password, form=form))
    (tmp_path / "password").write_text(password + "\n", encoding="utf-8")
    words = ("-in", tmp_path / "p12", "-passin", f"file:{tmp_path / 'password'}", "-nodes", "-legacy")
    told = openssl("pkcs12", *words).check().stdout
    assert told.count("friendlyName: its name") == 2
    assert entries_for(read_store(told.encode()), StoreType.PEM) == (KeyEntry("its name", entry.chain, entry.key),)
    assert "ca verify" not in told
    assert openssl("pkcs12", "-in", tmp_path / "p12", "-passin", "pass:wrong", "-nodes", "-legacy").returncode != 0


def test_several_entries_keep_apart_in_openssl(lab: Lab, tmp_path: Path) -> None:
    first, second = key_entry(lab, "first", "rsa-2048"), key_entry(lab, "second", "ec-p256")
    (tmp_path / "p12").write_bytes(write_store(StoreType.PKCS12, [first, second], PASSWORD))
    told = openssl("pkcs12", "-in", tmp_path / "p12", "-passin", f"pass:{PASSWORD}", "-nodes").check().stdout
    found = {entry.alias: entry for entry in read_store(told.encode()).keys}
    assert {alias: (entry.key, entry.chain) for alias, entry in found.items()} == {
        entry.alias: (entry.key, entry.chain) for entry in (first, second)
    }


def test_the_library_agrees_on_a_mac_of_rfc_9579(lab: Lab) -> None:
    """PBMAC1, which openssl from 3.4 on writes."""
    entry = key_entry(lab, "own", "ec-p256")
    form = Form(MODERN.keys, MODERN.content, Scheme("hmac-sha256", "pbkdf2", 2048, "sha256"))
    data = write_store(StoreType.PKCS12, [entry], PASSWORD, form=form)
    loaded = pkcs12.load_pkcs12(data, PASSWORD.encode())
    assert loaded.cert is not None
    assert loaded.cert.friendly_name == b"own"
    assert read_store(data, PASSWORD).form == form
    with pytest.raises(ValueError, match=r"(?i)password"):
        pkcs12.load_pkcs12(data, b"wrong")


# -- NSS ---------------------------------------------------------------------------------------------------------


@pytest.mark.peer("certutil")
@pytest.mark.parametrize("name", ["pkcs12", "pkcs12-legacy"])
def test_nss_takes_ours_and_we_take_what_it_writes(name: str, lab: Lab, tmp_path: Path) -> None:
    """NSS writes indefinite lengths and strings in segments, which DER does not have."""
    entry = key_entry(lab, "its name", "rsa-2048")
    kind, form = FORMS[name]
    (tmp_path / "ours").write_bytes(write_store(kind, [entry], PASSWORD, form=form))
    (tmp_path / "db").mkdir()
    run("certutil", "-N", "-d", f"sql:{tmp_path / 'db'}", "--empty-password", timeout=60).check()
    where = ("-d", f"sql:{tmp_path / 'db'}", "-W", PASSWORD)
    run("pk12util", "-i", tmp_path / "ours", *where, timeout=60).check()
    run("pk12util", "-o", tmp_path / "theirs", "-n", "its name", *where, timeout=60).check()
    store = load_store(tmp_path / "theirs", PASSWORD)
    assert entry.key is not None
    assert [(each.alias, each.chain, public_key_of(each.key or b"")) for each in store.keys] == [
        ("its name", entry.chain, public_key_of(entry.key))
    ]


# -- PKCS #7 and PEM ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["PEM", "DER"])
def test_pkcs7_is_read_and_written(form: str, lab: Lab, tmp_path: Path) -> None:
    certificates = chain(lab.server)
    (tmp_path / "all.pem").write_bytes(lab.server.fullchain_pem.read_bytes() + lab.root_pem.read_bytes())
    words = ("-certfile", tmp_path / "all.pem", "-outform", form, "-out", tmp_path / "theirs")
    openssl("crl2pkcs7", "-nocrl", *words).check()
    store = load_store(tmp_path / "theirs")
    assert store.kind is StoreType.PKCS7
    assert set(store.certificates) == set(certificates)
    assert store.certificates == certificates
    held = [CertificateEntry(f"c{number}", der) for number, der in enumerate(certificates)]
    (tmp_path / "ours").write_bytes(write_store(StoreType.PKCS7, held, armour=form == "PEM"))
    printed = openssl("pkcs7", "-inform", form, "-in", tmp_path / "ours", "-print_certs").check().stdout
    assert set(read_store(printed.encode()).certificates) == set(certificates)
    loaded = pkcs7.load_pem_pkcs7_certificates if form == "PEM" else pkcs7.load_der_pkcs7_certificates
    assert len(loaded((tmp_path / "ours").read_bytes())) == 3


@pytest.mark.parametrize("cipher", ["-aes256", "-aes192", "-des3", "-aria128"])
@pytest.mark.parametrize("form", ["-traditional", "pkcs8"])
def test_encrypted_pem_keys_of_openssl_are_opened(cipher: str, form: str, lab: Lab, tmp_path: Path) -> None:
    issued = lab.issue("localhost", key="rsa-2048")
    words = ("-in", issued.key_pem, "-out", tmp_path / "key", "-passout", f"pass:{PASSWORD}", cipher)
    openssl("pkey", *words, *([form] if form == "-traditional" else [])).check()
    data = issued.cert_pem.read_bytes() + (tmp_path / "key").read_bytes()
    if cipher == "-aria128":
        with pytest.raises(UnknownAlgorithm, match="not known here"):
            read_store(data, PASSWORD)
        return
    assert read_store(data, PASSWORD).keys[0].key == pkcs8(issued)
    with pytest.raises(DigestWrong):
        read_store(data, "wrong")


@pytest.mark.parametrize(
    "scheme",
    [("-v2", "aes-128-cbc", "-v2prf", "hmacWithSHA512"), ("-scrypt",), ("-v2", "des3"), ("-v1", "PBE-MD5-DES"),
     ("-v1", "PBE-SHA1-RC2-64"), ("-v1", "PBE-SHA1-3DES")],
    ids="".join,
)  # fmt: skip
def test_every_pkcs8_encryption_of_openssl_is_opened(scheme: tuple[str, ...], lab: Lab, tmp_path: Path) -> None:
    words = ("-topk8", "-in", lab.server.key_pem, "-out", tmp_path / "key", "-passout", f"pass:{PASSWORD}")
    openssl("pkcs8", *words, *scheme, "-provider", "legacy", "-provider", "default").check()
    assert read_store((tmp_path / "key").read_bytes(), PASSWORD).keys[0].key == pkcs8(lab.server)


def test_openssl_opens_our_encrypted_pem_key(lab: Lab, tmp_path: Path) -> None:
    entry = key_entry(lab, "own", "ec-p256")
    data = write_store(StoreType.PEM, [entry], PASSWORD)
    assert b"ENCRYPTED PRIVATE KEY" in data
    (tmp_path / "pem").write_bytes(data)
    openssl("pkey", "-in", tmp_path / "pem", "-passin", f"pass:{PASSWORD}", "-noout").check()
    assert load_pem_private_key(data[data.index(b"-----BEGIN ENC") :], PASSWORD.encode())
