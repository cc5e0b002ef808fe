"""What a file is, by its bytes; what it looks like where it is no key store; and what is wrong with one that is."""

from __future__ import annotations

import base64
import gzip
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import serialization

from countersign.ca.stores import (
    AlreadyThere,
    CannotHold,
    CertificateEntry,
    ChainOutOfOrder,
    DigestWrong,
    EmptyStore,
    EntryNotFound,
    KeyEntry,
    KeyMismatch,
    KeySealed,
    KeyWithoutChain,
    PasswordMissing,
    Store,
    StoreError,
    StoreType,
    UnknownType,
    check_entry,
    detect,
    entries_for,
    load_store,
    problems_of,
    read_store,
    with_certificates,
    write_store,
)
from tests.ca.stores.made_stores import MADE, PASSWORD, QUICK, QUICK_BCFKS, chain, entries, key_entry
from tests.peers.keystores import openssl

if TYPE_CHECKING:
    from pathlib import Path

    from tests.peers.certs import KeyType, Lab
    from tests.peers.process import Arg


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "an empty file"),
        (b"\xef\xbb\xbf \r\n\n", "an empty file"),
        (b"<!DOCTYPE html><title>Sign in</title>", "an HTML page, perhaps a login"),
        (b"\n<html>", "an HTML page"),
        (b'<?xml version="1.0"?>', "XML"),
        (b'{"error": "unauthorized"}', "JSON"),
        (gzip.compress(b"x", mtime=0), "a gzip archive; unpack it first"),
        (b"PK\x03\x04rest", "a ZIP archive"),
        (b"SQLite format 3\0", "pk12util"),
        (b"\0\0\0\1\0\0\0\x14" + bytes(30), "BKS store of Bouncy Castle; convert it: keytool"),
        (b"\0\0\0\0CERT", "Windows certificate store"),
        (b"ssh-ed25519 AAAA me", "an OpenSSH public key"),
        (b"hello", "text that holds none"),
        (b"\x80\x02\x03\xff\xfe\x00\x00\x01\x02", "it begins with 80 02 03 ff fe 00 00 01"),
        (base64.b64encode(b"\xfe\xed\xfe\xed" + bytes(90)), "base64 text of a JKS store; decode it first"),
        (base64.b64encode(b"\x30\x82\x05\x00" + bytes(90)), "base64 text of a DER structure"),
        (b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", "countersign ca sign"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "a public key"),
        (b"-----BEGIN PGP PRIVATE KEY BLOCK-----\n", "an OpenPGP key"),
        (b"-----BEGIN DH PARAMETERS-----\nAAAA\n-----END DH PARAMETERS-----\n", "PEM with dh parameters alone"),
        (b"\x30\x03\x0a\x01\x06", "an OCSP response"),
        (b"\x30\x03\x05\x00\x00", "DER of another kind"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else value[:4].hex(),
)
def test_what_is_no_key_store_is_named_with_what_to_do(data: bytes, told: str) -> None:
    with pytest.raises(UnknownType, match=told):
        detect(data)


@pytest.mark.peer("openssl")
def test_requests_lists_and_public_keys_in_der_are_named(lab: Lab, tmp_path: Path) -> None:
    words: tuple[Arg, ...] = (
        "-new",
        "-key",
        lab.server.key_pem,
        "-subj",
        "/CN=x",
        "-outform",
        "DER",
        "-out",
        tmp_path / "csr",
    )
    openssl("req", *words).check()
    openssl("pkey", "-in", lab.server.key_pem, "-pubout", "-outform", "DER", "-out", tmp_path / "public").check()
    (tmp_path / "index").touch()
    (tmp_path / "cnf").write_text(f"[ca]\ndefault_ca=c\n[c]\ndatabase={tmp_path / 'index'}\ndefault_md=sha256\n")
    words = ("-config", tmp_path / "cnf", "-gencrl", "-crldays", "1", "-keyfile", lab.root.key_pem)
    pem = openssl("ca", *words, "-cert", lab.root_pem).check().stdout
    openssl("crl", "-outform", "DER", "-out", tmp_path / "crl", stdin=pem.encode()).check()
    for name, told in (("csr", "certificate request"), ("public", "public key"), ("crl", "revoked")):
        with pytest.raises(UnknownType, match=told):
            load_store(tmp_path / name)


def test_a_name_says_nothing(lab: Lab, tmp_path: Path) -> None:
    """R44: agent_keystore has no suffix; people call everything .jks."""
    for kind, form in ((StoreType.PKCS12, QUICK), (StoreType.BCFKS, QUICK_BCFKS), (StoreType.JKS, None)):
        (tmp_path / "store.jks").write_bytes(write_store(kind, entries(lab), PASSWORD, form=form))
        assert load_store(tmp_path / "store.jks", PASSWORD, open_keys=False).kind is kind


@pytest.mark.parametrize("form", ["PKCS8", "TraditionalOpenSSL"])
def test_keys_in_der_are_known(form: str, lab: Lab) -> None:
    for issued in (lab.issue("a", key="rsa-2048"), lab.issue("a", key="ec-p256")):
        private = getattr(serialization.PrivateFormat, form)
        data = issued.key.private_bytes(serialization.Encoding.DER, private, serialization.NoEncryption())
        assert detect(data) is StoreType.DER
        certificate = chain(issued)[0]
        both = read_store(certificate + data + b"\n").keys
        assert [(entry.chain, entry.key is not None) for entry in both] == [((certificate,), True)]


def test_a_file_that_is_not_there_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no such file"):
        load_store(tmp_path / "missing")


# -- each thing that can be wrong --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [StoreType.JKS, StoreType.JCEKS, StoreType.PKCS12, StoreType.BCFKS])
def test_a_wrong_password_and_altered_bytes_are_one_error_and_a_cut_file_is_another(kind: StoreType, lab: Lab) -> None:
    """Nothing in the file can tell those two apart."""
    form = {StoreType.PKCS12: QUICK, StoreType.BCFKS: QUICK_BCFKS}.get(kind)
    data = write_store(kind, entries(lab)[-1:], PASSWORD, form=form)
    with pytest.raises(DigestWrong, match="the password is wrong, or bytes were altered") as password:
        read_store(data, "wrong")
    altered = bytearray(data)
    altered[len(data) // 2] ^= 1
    with pytest.raises(DigestWrong) as bytes_altered:
        read_store(bytes(altered), PASSWORD)
    assert str(password.value) == str(bytes_altered.value)
    with pytest.raises(StoreError, match=r"broken at offset \d+ of the file"):
        read_store(data[: len(data) // 2], PASSWORD)


def test_a_password_that_is_missing_is_asked_for(lab: Lab) -> None:
    first, *_ = entries(lab)
    for kind, form in ((StoreType.PKCS12, QUICK), (StoreType.BCFKS, QUICK_BCFKS)):
        with pytest.raises(PasswordMissing, match="--store-password-file"):
            read_store(write_store(kind, [first], PASSWORD, form=form))
    for kind in (StoreType.JKS, StoreType.JCEKS, StoreType.PKCS12, StoreType.BCFKS):
        with pytest.raises(PasswordMissing):
            write_store(kind, [first])


def test_jks_without_its_password_is_listed_unchecked(lab: Lab) -> None:
    """As keytool does; its keys stay sealed, and cannot be written as another type."""
    meant = entries(lab)
    store = read_store(write_store(StoreType.JKS, meant, PASSWORD))
    assert (store.verified, [entry.key for entry in store.keys]) == (False, [None, None, None])
    with pytest.raises(KeySealed, match="give its password"):
        write_store(StoreType.PKCS12, entries_for(store, StoreType.PKCS12), PASSWORD)
    assert read_store(write_store(StoreType.JKS, store.entries, PASSWORD), PASSWORD).entries == meant


def test_an_empty_store_is_told_with_what_a_jvm_would_say() -> None:
    for kind in (StoreType.JKS, StoreType.PKCS12, StoreType.BCFKS, StoreType.PKCS7):
        store = read_store(write_store(kind, [], PASSWORD), PASSWORD)
        assert store.entries == ()
        with pytest.raises(EmptyStore, match="trustAnchors parameter must be non-empty"):
            entries_for(store, StoreType.PEM)
        assert "trustAnchors" in problems_of(store, MADE)[0]


def test_a_key_without_its_certificate_is_told(lab: Lab) -> None:
    store = read_store(lab.server.key_pem.read_bytes())
    with pytest.raises(KeyWithoutChain, match="put its certificate"):
        entries_for(store, StoreType.JKS)
    assert entries_for(store, StoreType.PEM)


def test_a_chain_in_the_wrong_order_is_told_and_put_in_order_on_demand(lab: Lab) -> None:
    entry = key_entry(lab, "own", "ec-p256")
    for wrong in (entry.chain[::-1], (entry.chain[0], *entry.chain[:0:-1])):
        store = Store(StoreType.JKS, (replace(entry, chain=wrong),))
        with pytest.raises(ChainOutOfOrder, match="--reorder") as caught:
            entries_for(store, StoreType.JKS)
        assert "'own'" in str(caught.value)
        assert entries_for(store, StoreType.JKS, reorder=True) == (entry,)
        assert "wrong order" in problems_of(store, MADE)[0]
    with pytest.raises(ChainOutOfOrder) as caught:
        check_entry(replace(entry, chain=(entry.chain[0], entry.chain[2])))
    assert caught.value.position == 2


def test_a_key_that_is_not_its_certificates_is_told(lab: Lab) -> None:
    others: tuple[KeyType, ...] = ("ec-p384", "rsa-2048")
    for other in others:
        entry = replace(key_entry(lab, "own", "ec-p256"), key=key_entry(lab, "x", other).key)
        with pytest.raises(KeyMismatch, match="is not the key of its certificate"):
            check_entry(entry)


def test_a_name_that_is_not_there_is_answered_with_the_nearest(lab: Lab) -> None:
    store = Store(StoreType.JKS, entries(lab))
    with pytest.raises(EntryNotFound, match="the nearest are 'the root'") as caught:
        store.entry("the-root")
    assert caught.value.exit_code == 1
    assert store.entry("RSA").alias == "rsa"
    with pytest.raises(EntryNotFound, match="holds no entries"):
        Store(StoreType.JKS, ()).entry("x")


def test_what_a_type_has_no_place_for_is_told(lab: Lab) -> None:
    first, second, *_, root = entries(lab)
    assert isinstance(first, KeyEntry)
    for kind, held, told in (
        (StoreType.DER, [first], "one certificate"),
        (StoreType.DER, [root, CertificateEntry("x", first.chain[0])], "2 to write"),
        (StoreType.DER, [], "0 to write"),
        (StoreType.PKCS7, [first], "--certificates-only"),
        (StoreType.JKS, [first, replace(second, alias="RSA")], "Java folds their case"),
        (StoreType.BCFKS, [first, replace(second, alias="rsa")], "another alias"),
        (StoreType.JKS, [replace(root, alias="x" * 70_000)], "shorter"),
    ):
        with pytest.raises(CannotHold, match=told):
            write_store(kind, held, PASSWORD)
    with pytest.raises(CannotHold, match="ASCII"):
        write_store(StoreType.JCEKS, [first], "grüße")
    write_store(StoreType.BCFKS, [first, replace(second, alias="RSA")], PASSWORD, form=QUICK_BCFKS)


def test_certificates_alone_are_taken_out_of_chains_each_once(lab: Lab) -> None:
    store = Store(StoreType.JKS, entries(lab))
    made = entries_for(store, StoreType.PKCS7, certificates_only=True)
    assert len(made) == 5  # three leaves, one intermediate, one root
    assert all(isinstance(entry, CertificateEntry) for entry in made)
    assert [entry.alias for entry in made] == ["rsa", "lab issuing ca", "lab root ca", "ec", "münchen 384"]


def test_what_is_there_already_is_not_added_again(lab: Lab) -> None:
    root, intermediate = (chain(each)[0] for each in (lab.root, lab.intermediate))
    store = Store(StoreType.JKS, (CertificateEntry("root", root, MADE),))
    with pytest.raises(AlreadyThere, match="'root'") as caught:
        with_certificates(store, [root])
    assert caught.value.exit_code == 1
    made = with_certificates(store, [root, intermediate, intermediate])
    assert [entry.alias for entry in made.added] == ["lab issuing ca"]
    assert [entry.alias for entry in made.present] == ["root"]
    with pytest.raises(AlreadyThere, match="--alias"):
        with_certificates(store, [intermediate], alias="ROOT")


def test_a_certificate_that_java_does_not_trust_is_made_trusted_by_adding_it(lab: Lab) -> None:
    root = chain(lab.root)[0]
    store = Store(StoreType.PKCS12, (CertificateEntry("root", root, None, trusted=False),))
    assert "lacks Java's mark of trust" in problems_of(store, MADE)[0]
    made = with_certificates(store, [root])
    assert made.entries == (CertificateEntry("lab root ca", root),)
