"""R40: a file of a key and certificates, in whatever state, becomes exactly three files in order."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from countersign.ca.pem import to_pem
from countersign.ca.split import CHAIN, KEY_AND_LEAF, LEAF, Split, split_file, write_split
from countersign.ca.stores import (
    CertificateEntry,
    DigestWrong,
    EmptyStore,
    EntryNotFound,
    KeyMismatch,
    PasswordMissing,
    StoreError,
    StoreType,
    UnknownType,
    write_store,
)
from countersign.errors import UserError
from countersign.recorder.private_files import FileFault
from tests.ca.stores.made_stores import FORMS, PASSWORD, chain, key_entry, pkcs8
from tests.peers.keystores import openssl

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.peers.certs import Issued, Lab


def pem(der: bytes) -> bytes:
    return to_pem(der)


def key_pem(issued: Issued, password: bytes | None = None) -> bytes:
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return issued.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def assert_is_split(split: Split, issued: Issued) -> None:
    """Exactly key and leaf, leaf, intermediate and root, in this order, as openssl reads them."""
    leaf, intermediate, root = chain(issued)
    files = split.files()
    assert list(files) == [KEY_AND_LEAF, LEAF, CHAIN]
    assert files[LEAF] == pem(leaf)
    assert files[CHAIN] == pem(intermediate) + pem(root)
    assert files[KEY_AND_LEAF].endswith(b"-----END PRIVATE KEY-----\n" + pem(leaf))
    key = serialization.load_pem_private_key(files[KEY_AND_LEAF], None)
    assert key.public_key() == x509.load_pem_x509_certificate(files[LEAF]).public_key()


WORST: dict[str, Callable[[Issued], bytes]] = {
    "in order": lambda issued: key_pem(issued) + b"".join(map(pem, chain(issued))),
    "mixed order": lambda issued: b"".join(map(pem, chain(issued)[::-1])) + key_pem(issued),
    "key in the middle": lambda issued: pem(chain(issued)[2]) + key_pem(issued) + b"".join(map(pem, chain(issued)[:2])),
    "CRLF": lambda issued: (key_pem(issued) + b"".join(map(pem, chain(issued)))).replace(b"\n", b"\r\n"),
    "CR": lambda issued: (key_pem(issued) + b"".join(map(pem, chain(issued)))).replace(b"\n", b"\r"),
    "BOM": lambda issued: b"\xef\xbb\xbf" + key_pem(issued) + b"".join(map(pem, chain(issued))),
    "UTF-16": lambda issued: (key_pem(issued) + b"".join(map(pem, chain(issued)))).decode().encode("utf-16"),
    "text between": lambda issued: (
        b"Hello,\nhere is your certificate:\n"
        + b"\nAnd this is who issued it:\n".join(map(pem, chain(issued)))
        + b"-- your key: --\n"
        + key_pem(issued)
        + b"Regards"
    ),
    "bag attributes": lambda issued: b"".join(
        b"Bag Attributes\n    localKeyID: 01 02 \n    friendlyName: x-----y\nsubject=CN = a\nissuer=CN = b\n" + each
        for each in (key_pem(issued), *map(pem, chain(issued)))
    ),
    "duplicates": lambda issued: (key_pem(issued) + b"".join(map(pem, chain(issued)))) * 2,
    "no newline at the end": lambda issued: (b"".join(map(pem, chain(issued))) + key_pem(issued)).rstrip(),
    "nothing between": lambda issued: (key_pem(issued) + b"".join(map(pem, chain(issued)))).replace(
        b"-----\n-----BEGIN", b"----------BEGIN"
    ),
    "indented": lambda issued: (key_pem(issued) + b"".join(map(pem, chain(issued)))).replace(b"\n", b"\n\t    "),
    "one line": lambda issued: (key_pem(issued) + b"".join(map(pem, chain(issued)))).replace(b"\n", b"\\n"),
    "double spaced": lambda issued: (key_pem(issued) + b"".join(map(pem, chain(issued)))).replace(b"\n", b"\n\n"),
    "old labels": lambda issued: (key_pem(issued) + b"".join(map(pem, chain(issued)))).replace(
        b" CERTIFICATE-", b" X509 CERTIFICATE-"
    ),
    "unrelated": lambda issued: (
        b"-----BEGIN DH PARAMETERS-----\nMAA=\n-----END DH PARAMETERS-----\n"
        + key_pem(issued)
        + b"".join(map(pem, chain(issued)))
    ),
    "der": lambda issued: b"".join(chain(issued)) + pkcs8(issued),
    "der, key first, with a line break": lambda issued: pkcs8(issued) + b"".join(chain(issued)[::-1]) + b"\r\n",
}


@pytest.mark.parametrize("how", WORST)
@pytest.mark.parametrize("kind", ["rsa-2048", "ec-p256"])
def test_the_worst_files_that_people_have_are_split(how: str, kind: str, lab: Lab, tmp_path: Path) -> None:
    issued = lab.issue("localhost", key=kind)  # type: ignore[arg-type]
    (tmp_path / "file").write_bytes(WORST[how](issued))
    assert_is_split(split_file(tmp_path / "file"), issued)


@pytest.mark.peer("openssl")
def test_openssls_trusted_certificates_and_pkcs12_output_are_split(lab: Lab, tmp_path: Path) -> None:
    issued = lab.issue("localhost", key="ec-p256")
    text = key_pem(issued)
    for number, der in enumerate(chain(issued)):
        (tmp_path / f"{number}.pem").write_bytes(pem(der))
        words = ("-in", tmp_path / f"{number}.pem", "-trustout", "-addtrust", "serverAuth", "-setalias", "x")
        text += openssl("x509", *words).check().stdout.encode()
    assert text.count(b"BEGIN TRUSTED CERTIFICATE") == 3
    (tmp_path / "trusted").write_bytes(text)
    assert_is_split(split_file(tmp_path / "trusted"), issued)
    (tmp_path / "p12").write_bytes(write_store(StoreType.PKCS12, [key_entry(lab, "x", "ec-p256")], PASSWORD))
    told = openssl("pkcs12", "-in", tmp_path / "p12", "-passin", f"pass:{PASSWORD}", "-nodes").check().stdout
    (tmp_path / "told").write_text(told)
    assert len(split_file(tmp_path / "told").chain) == 2


@pytest.mark.parametrize("name", FORMS)
def test_key_stores_are_split(name: str, lab: Lab, tmp_path: Path) -> None:
    kind, form = FORMS[name]
    issued = lab.issue("localhost", key="ec-p256")
    entry = key_entry(lab, "x", "ec-p256")
    entry = type(entry)("own", chain(issued), pkcs8(issued))
    (tmp_path / "store").write_bytes(write_store(kind, [entry], PASSWORD, form=form))
    assert_is_split(split_file(tmp_path / "store", PASSWORD, clear_key=True), issued)
    kept = split_file(tmp_path / "store", PASSWORD)
    assert kept.key_encrypted
    assert serialization.load_pem_private_key(kept.files()[KEY_AND_LEAF], PASSWORD.encode())


def test_an_encrypted_key_stays_encrypted_unless_asked(lab: Lab, tmp_path: Path) -> None:
    issued = lab.issue("localhost", key="rsa-2048")
    (tmp_path / "file").write_bytes(b"".join(map(pem, chain(issued)[::-1])) + key_pem(issued, b"secret"))
    sealed = split_file(tmp_path / "file")
    assert sealed.files()[KEY_AND_LEAF].startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    assert serialization.load_pem_private_key(sealed.files()[KEY_AND_LEAF], b"secret")
    assert sealed.leaf == chain(issued)[0]
    assert "was not compared" in sealed.notes[0]
    assert split_file(tmp_path / "file", "secret").key_encrypted
    assert_is_split(split_file(tmp_path / "file", "secret", clear_key=True), issued)
    with pytest.raises(PasswordMissing):
        split_file(tmp_path / "file", clear_key=True)
    with pytest.raises(DigestWrong) as caught:
        split_file(tmp_path / "file", "wrong-one")
    assert "wrong-one" not in str(caught.value)


@pytest.mark.peer("openssl")
def test_a_key_is_as_protected_as_it_was(lab: Lab, tmp_path: Path) -> None:
    """A password that happens to be there encrypts nothing that was in clear; openssl's older encryption is kept up."""
    issued = lab.issue("localhost", key="rsa-2048")
    (tmp_path / "clear").write_bytes(key_pem(issued) + b"".join(map(pem, chain(issued))))
    assert_is_split(split_file(tmp_path / "clear", "secret"), issued)
    words = ("-in", issued.key_pem, "-out", tmp_path / "key", "-aes256", "-traditional", "-passout", "pass:secret")
    openssl("pkey", *words).check()
    (tmp_path / "old").write_bytes((tmp_path / "key").read_bytes() + b"".join(map(pem, chain(issued))))
    kept = split_file(tmp_path / "old", "secret")
    assert kept.key_encrypted
    assert serialization.load_pem_private_key(kept.files()[KEY_AND_LEAF], b"secret")
    with pytest.raises(PasswordMissing):
        split_file(tmp_path / "old")


def test_one_key_of_several_is_chosen(lab: Lab, tmp_path: Path) -> None:
    held = [key_entry(lab, "first", "rsa-2048"), key_entry(lab, "second", "ec-p256")]
    held_root = CertificateEntry("root", chain(lab.root)[0])
    (tmp_path / "store").write_bytes(write_store(StoreType.JKS, [*held, held_root], PASSWORD))
    with pytest.raises(StoreError, match=r"2 keys \('first', 'second'\); say which one with --alias"):
        split_file(tmp_path / "store", PASSWORD)
    assert split_file(tmp_path / "store", PASSWORD, alias="second").leaf == held[1].chain[0]
    with pytest.raises(EntryNotFound, match="'second'"):
        split_file(tmp_path / "store", PASSWORD, alias="secund")
    with pytest.raises(UserError, match="a certificate and no key"):
        split_file(tmp_path / "store", PASSWORD, alias="root")


def test_what_is_missing_or_too_much_is_told(lab: Lab, tmp_path: Path) -> None:
    issued, other = lab.issue("localhost"), lab.issue(common_name="Other", signer=None, ca=True)
    leaf, intermediate, _ = chain(issued)
    (tmp_path / "file").write_bytes(key_pem(issued) + pem(leaf) + pem(intermediate) + pem(chain(other)[0]))
    split = split_file(tmp_path / "file")
    assert split.chain == (intermediate,)
    assert any("not complete" in note and "Lab Root CA" in note for note in split.notes)
    assert any("left out" in note and "Other" in note for note in split.notes)


def test_certificates_without_a_key_are_two_files(lab: Lab, tmp_path: Path) -> None:
    issued = lab.issue("localhost")
    (tmp_path / "file").write_bytes(b"".join(map(pem, chain(issued)[::-1])))
    split = split_file(tmp_path / "file")
    assert list(split.files()) == [LEAF, CHAIN]
    assert (split.leaf, split.chain) == (chain(issued)[0], chain(issued)[1:])
    assert split.notes == ("there is no key in it",)


def test_a_root_alone_is_said_to_be_no_leaf(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(pem(chain(lab.issue("localhost"))[-1]))
    split = split_file(tmp_path / "file")
    assert split.leaf == chain(lab.issue("localhost"))[-1]
    assert any("no leaf" in note for note in split.notes)


def test_files_that_cannot_be_split_say_why(lab: Lab, tmp_path: Path) -> None:
    issued, other = lab.issue("localhost", key="rsa-2048"), lab.issue("localhost", key="ec-p256")
    whole = key_pem(issued) + pem(chain(issued)[0])
    for data, error, told in (
        (b"", UnknownType, "an empty file"),
        (whole[:-40], StoreError, "no END line"),
        (key_pem(issued), StoreError, "has no certificate with it"),
        (write_store(StoreType.JKS, [], PASSWORD), EmptyStore, "no entries"),
    ):
        (tmp_path / "file").write_bytes(data)
        with pytest.raises(error, match=told):
            split_file(tmp_path / "file", PASSWORD)
    (tmp_path / "file").write_bytes(
        write_store(StoreType.JKS, [type(key_entry(lab, "x", "ec-p256"))("x", chain(other), pkcs8(issued))], PASSWORD)
    )
    with pytest.raises(KeyMismatch):
        split_file(tmp_path / "file", PASSWORD)


def test_only_the_key_is_private_and_nothing_is_replaced(lab: Lab, tmp_path: Path) -> None:
    """T23, T6: modes from birth whatever the umask, fixed names, no link followed."""
    import os

    issued = lab.issue("../../x", common_name="../../x\x1b")
    (tmp_path / "file").write_bytes(key_pem(issued) + b"".join(map(pem, chain(issued))))
    split = split_file(tmp_path / "file")
    before = os.umask(0)
    try:
        written = write_split(split, tmp_path / "out")
    finally:
        os.umask(before)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted([KEY_AND_LEAF, LEAF, CHAIN])
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o700
    assert {name: stat.S_IMODE(path.stat().st_mode) for name, path in written.items()} == {
        KEY_AND_LEAF: 0o600, LEAF: 0o644, CHAIN: 0o644,
    }  # fmt: skip
    with pytest.raises(FileFault, match="it exists"):
        write_split(split, tmp_path / "out")
    write_split(split, tmp_path / "out", overwrite=True)
    (tmp_path / "elsewhere").touch()
    (tmp_path / "out" / KEY_AND_LEAF).unlink()
    (tmp_path / "out" / KEY_AND_LEAF).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileFault, match="symbolic link"):
        write_split(split, tmp_path / "out", overwrite=True)
    assert (tmp_path / "elsewhere").read_bytes() == b""
