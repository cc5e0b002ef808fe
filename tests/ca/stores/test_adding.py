"""Certificates put into stores that are in use (R46): nothing else changes, and a crash or a rival harms nothing."""

from __future__ import annotations

import os
import shutil
import stat
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from countersign.ca.stores import (
    CLEAR,
    LEGACY,
    AlreadyThere,
    CannotHold,
    CertificateEntry,
    KeyEntry,
    PasswordMissing,
    StoreError,
    StoreType,
    add_to_file,
    load_store,
    read_store,
    write_store,
)
from countersign.recorder.private_files import FileFault, rewrite
from tests.ca.stores.made_stores import FORMS, MADE, PASSWORD, QUICK, chain, entries
from tests.peers.keystores import in_java, openssl

if TYPE_CHECKING:
    from tests.peers.certs import Lab
    from tests.peers.process import Arg

NOW = datetime(2026, 11, 21, 12, 3, 4, tzinfo=UTC)
CACERTS = Path("/etc/ssl/certs/java/cacerts")


@pytest.mark.parametrize("name", FORMS)
def test_everything_else_stays_as_it_was(name: str, lab: Lab, tmp_path: Path) -> None:
    """Keys under a password that nobody tells, dates, aliases, the form of encryption."""
    kind, form = FORMS[name]
    undated = kind is StoreType.PKCS12
    before = [
        replace(entry, created=None) if undated and isinstance(entry, CertificateEntry) else entry
        for entry in entries(lab)
    ]
    store = tmp_path / "store"
    store.write_bytes(write_store(kind, before, PASSWORD, key_password="for the keys", form=form))
    added = add_to_file(store, [chain(lab.intermediate)[0]], PASSWORD, alias="new", now=NOW)
    assert added.backup is None
    again = load_store(store, PASSWORD, key_password="for the keys")
    assert again.entries[: len(before)] == tuple(before)
    assert [entry.alias for entry in again.entries[len(before) :]] == ["new"]
    assert again.form == form


@pytest.mark.peer("openssl")
@pytest.mark.parametrize("protection", ["PBE-SHA1-RC4-128", "NONE", "PBE-SHA1-RC2-40"])
def test_what_openssl_made_is_added_to(protection: str, lab: Lab, tmp_path: Path) -> None:
    """A protection that is only read (RC4) becomes the nearest that is written."""
    words: tuple[Arg, ...] = (
        "-inkey",
        lab.server.key_pem,
        "-in",
        lab.server.cert_pem,
        "-legacy",
        "-certpbe",
        protection,
    )
    openssl("pkcs12", "-export", *words, "-out", tmp_path / "p12", "-passout", f"pass:{PASSWORD}").check()
    add_to_file(tmp_path / "p12", [chain(lab.root)[0]], PASSWORD)
    words = ("-in", tmp_path / "p12", "-passin", f"pass:{PASSWORD}", "-nodes", "-legacy")
    assert openssl("pkcs12", *words).check().stdout.count("BEGIN CERTIFICATE") == 2
    form = load_store(tmp_path / "p12", PASSWORD).form
    assert form is not None
    assert form.content == (None if protection == "NONE" else LEGACY.keys if "RC4" in protection else form.content)


@pytest.mark.peer("java", "javac")
@pytest.mark.skipif(not CACERTS.exists(), reason="no cacerts on this machine")
def test_a_jvms_cacerts_takes_a_root(lab: Lab, tmp_path: Path) -> None:
    cacerts = tmp_path / "cacerts"
    shutil.copy(CACERTS, cacerts)
    before = load_store(cacerts, PASSWORD)
    add_to_file(cacerts, [chain(lab.root)[0]], PASSWORD, backup=True, now=NOW)
    kind = {StoreType.JKS: "JKS", StoreType.PKCS12: "PKCS12"}[before.kind]
    seen = in_java(("list", kind, cacerts, PASSWORD, PASSWORD))[0].entries
    assert len(seen) == len(before.entries) + 1
    assert seen["lab root ca"].kind == "certificate"


def test_a_trust_store_without_a_password_needs_none(lab: Lab, tmp_path: Path) -> None:
    """As the cacerts of JDK 18 and later."""
    store = tmp_path / "cacerts"
    store.write_bytes(write_store(StoreType.PKCS12, [CertificateEntry("a", chain(lab.server)[0])], form=CLEAR))
    add_to_file(store, [chain(lab.root)[0]])
    assert [entry.alias for entry in load_store(store).entries] == ["a", "lab root ca"]
    assert load_store(store).form == CLEAR


def test_mode_owner_and_links_stay(lab: Lab, tmp_path: Path) -> None:
    """A JVM's cacerts is a symbolic link on Debian: the file behind it is changed, and the link stays one."""
    (tmp_path / "real").mkdir()
    real, link = tmp_path / "real" / "cacerts", tmp_path / "cacerts"
    real.write_bytes(write_store(StoreType.JKS, entries(lab)[-1:], PASSWORD))
    real.chmod(0o640)
    if os.getuid() == 0:
        os.chown(real, 12345, 23456)
    link.symlink_to(real)
    before = real.stat()
    added = add_to_file(link, [chain(lab.intermediate)[0]], PASSWORD, backup=True, now=NOW)
    after = real.stat()
    assert link.is_symlink()
    assert (stat.S_IMODE(after.st_mode), after.st_uid, after.st_gid) == (0o640, before.st_uid, before.st_gid)
    assert added.path == real
    assert added.backup == tmp_path / "real" / "cacerts.2026-11-21T120304Z.bak"
    kept = added.backup.stat()
    assert (stat.S_IMODE(kept.st_mode), kept.st_uid, kept.st_gid) == (0o640, before.st_uid, before.st_gid)
    assert len(load_store(added.backup, PASSWORD).entries) == 1
    assert sorted(path.name for path in real.parent.iterdir()) == ["cacerts", "cacerts.2026-11-21T120304Z.bak"]


def test_a_bundle_keeps_its_text(lab: Lab, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.pem"
    text = b"# Roots of the house\r\n" + lab.root_pem.read_bytes() + b"# the end, without a line break"
    bundle.write_bytes(text)
    add_to_file(bundle, [chain(lab.intermediate)[0]])
    assert bundle.read_bytes().startswith(text + b"\n-----BEGIN CERTIFICATE-----")
    assert len(load_store(bundle).certificates) == 2
    with pytest.raises(AlreadyThere):
        add_to_file(bundle, [chain(lab.root)[0]])


def test_what_cannot_be_added_to_is_told_and_left_alone(lab: Lab, tmp_path: Path) -> None:
    root, other = chain(lab.root)[0], chain(lab.intermediate)[0]
    for name, data, password, error in (
        ("wrong password", write_store(StoreType.JKS, [CertificateEntry("a", other)], PASSWORD), "wrong", StoreError),
        ("no password", write_store(StoreType.JKS, [CertificateEntry("a", other)], PASSWORD), None, PasswordMissing),
        ("der", other, None, CannotHold),
        ("utf-16", lab.intermediate.cert_pem.read_text().encode("utf-16"), None, CannotHold),
        ("text", b"hello", None, StoreError),
        ("empty", b"", None, StoreError),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(error, match=f"cannot add to .*{name}"):
            add_to_file(tmp_path / name, [root], password, backup=True)
        assert (tmp_path / name).read_bytes() == data
    with pytest.raises(StoreError, match="no such file"):
        add_to_file(tmp_path / "missing", [root])
    assert not list(tmp_path.glob("*.bak"))


def test_a_file_that_changed_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "store"
    file.write_bytes(b"somebody else's")
    with pytest.raises(FileFault, match="changed by someone else"):
        rewrite(file, b"ours", expected=b"what was read")
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
    assert file.read_bytes() == b"somebody else's"


def test_a_file_with_two_names_is_refused(tmp_path: Path) -> None:
    """The other name would keep the old bytes, and nobody would notice."""
    (tmp_path / "store").write_bytes(b"x")
    (tmp_path / "other").hardlink_to(tmp_path / "store")
    with pytest.raises(FileFault, match="second name"):
        rewrite(tmp_path / "store", b"y", expected=b"x")


def test_a_backup_is_never_overwritten(lab: Lab, tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.write_bytes(lab.root_pem.read_bytes())
    add_to_file(store, [chain(lab.intermediate)[0]], backup=True, now=NOW)
    with pytest.raises(FileFault, match=r"\.bak: it exists"):
        add_to_file(store, [chain(lab.server)[0]], backup=True, now=NOW)
    assert len(load_store(store).certificates) == 2


@pytest.mark.parametrize("failing", ["fsync", "rename", "chmod"])
def test_a_write_that_fails_leaves_the_old_store(
    failing: str, lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    store.write_bytes(write_store(StoreType.PKCS12, entries(lab), PASSWORD, form=QUICK))
    before = store.read_bytes()

    def fails(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(f"countersign.recorder.private_files.os.{failing}", fails)
        with pytest.raises(FileFault, match="the disk is full"):
            add_to_file(store, [chain(lab.intermediate)[0]], PASSWORD)
    assert store.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_what_was_there_under_the_same_name_is_told(lab: Lab, tmp_path: Path) -> None:
    """A device that rotated its root: the old one stays until somebody takes it out."""
    first, *_ = entries(lab)
    assert isinstance(first, KeyEntry)
    old = lab.issue(common_name="Device", signer=None, ca=True)
    new = lab.issue(common_name="Device", signer=None, ca=True)
    store = tmp_path / "store"
    store.write_bytes(write_store(StoreType.JKS, [CertificateEntry("device", chain(old)[0], MADE)], PASSWORD))
    added = add_to_file(store, [chain(new)[0]], PASSWORD)
    assert [entry.alias for entry in added.addition.namesakes] == ["device"]
    assert [entry.alias for entry in read_store(store.read_bytes(), PASSWORD).entries] == ["device", "device-2"]
