"""What ``--out`` and ``--out-dir`` find in their place: it stays unless told, and what is ours stays in any case."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from countersign.ca.stores import StoreType, load_store, write_store
from tests.cli.commands import countersign
from tests.cli.test_commands import assert_is_one_line

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.commands import Ran

Words = tuple[str, ...]

WRITING: list[Words] = [
    ("ca", "root"),
    ("ca", "root", "--format", "der"),
    ("ca", "issue", "a.test"),
    ("export", "last", "--format", "json"),
]


def assert_stays(path: Path, before: int, ran: Ran, code: int, *parts: str) -> None:
    assert ran.code == code, ran
    assert_is_one_line(ran.err, str(path), *parts)
    assert path.stat().st_ino == before  # what is replaced is another file


@pytest.fixture
def kept(home: Path) -> Path:
    """A home with a CA and recordings in it."""
    assert countersign("demo", "--keep").code == 0
    assert countersign("ca", "init").code == 0
    return home


@pytest.mark.parametrize("words", WRITING, ids=" ".join)
def test_a_file_that_is_there_is_replaced_only_when_told(words: Words, kept: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_bytes(b"mine")
    assert_stays(out, out.stat().st_ino, countersign(*words, "--out", out), 3, "it exists", "--overwrite")
    assert out.read_bytes() == b"mine"
    told = countersign(*words, "--out", out, "--overwrite")
    assert told.code == 0, told.err
    assert out.read_bytes() != b"mine"
    assert stat.S_IMODE(out.stat().st_mode) & 0o077 == (0o044 if words[1] == "root" else 0)


@pytest.mark.parametrize("words", WRITING, ids=" ".join)
@pytest.mark.parametrize("name", ["ca/root.key.pem", "ca/intermediate-1.pem", "recordings.sqlite"])
def test_no_file_of_the_home_is_ever_replaced(words: Words, name: str, kept: Path, tmp_path: Path) -> None:
    link = tmp_path / "elsewhere"
    link.symlink_to(kept)
    before = (kept / name).stat().st_ino
    for out in (kept / name, link / name):
        told = countersign(*words, "--out", out, "--overwrite")
        assert_stays(out, before, told, 2, "not replaced")


def test_a_new_file_in_the_home_is_no_trouble(kept: Path) -> None:
    assert countersign("ca", "root", "--out", kept / "corp-root.pem").code == 0


@pytest.mark.parametrize("form", ["{}", "sqlite:///{}"])
def test_a_store_elsewhere_is_not_replaced_either(
    form: str, kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "other.sqlite"
    (kept / "recordings.sqlite").rename(path)
    before, url = path.stat().st_ino, form.format(path)
    told = countersign("export", "last", "--store", url, "--out", path, "--overwrite")
    assert_stays(path, before, told, 2, "it is the store")
    monkeypatch.setenv("COUNTERSIGN_STORE", url)
    assert_stays(path, before, countersign("ca", "root", "--out", path, "--overwrite"), 2, "it is the store")


def test_split_and_convert_name_the_flags_that_help(home: Path, tmp_path: Path) -> None:
    countersign("ca", "init")
    countersign("ca", "issue", "a.test", "--out", tmp_path / "a.pem")
    countersign("ca", "split", tmp_path / "a.pem", "--out-dir", tmp_path / "parts")
    told = countersign("ca", "split", tmp_path / "a.pem", "--out-dir", tmp_path / "parts")
    assert told.code == 3
    assert_is_one_line(told.err, "it exists", "--overwrite or another --out-dir")
    told = countersign("ca", "keystore", "convert", tmp_path / "a.pem", tmp_path / "a.pem", "--to", "pem")
    assert told.code == 3
    assert_is_one_line(told.err, "it exists", "--overwrite")


@pytest.mark.parametrize("kind", ["jks", "jceks"])
def test_a_password_that_keytool_does_not_take_is_refused(kind: str, home: Path, tmp_path: Path) -> None:
    countersign("ca", "init")
    words = ("ca", "issue", "a.test", "--store-type", kind, "--out", tmp_path / "store", "--store-password")
    told = countersign(*words, "abcde")
    assert told.code == 2
    assert_is_one_line(told.err, kind, "5 characters", "at least 6")
    assert "abcde" not in told.err
    assert not (tmp_path / "store").exists()
    assert countersign(*words, "abcdef").code == 0
    entries = load_store(tmp_path / "store", "abcdef").entries
    (tmp_path / "in").write_bytes(write_store(StoreType.PKCS12, entries, "abc"))
    convert = ("ca", "keystore", "convert", tmp_path / "in", tmp_path / "out", "--store-password", "abc", "--to")
    assert countersign(*convert, kind).code == 2
    assert countersign(*convert, "bcfks").code == 0


def test_a_home_that_is_not_there_is_not_made_by_looking(tmp_path: Path, kept: Path) -> None:
    other = tmp_path / "other"
    out = tmp_path / "x.json"
    words = ("export", "last", "--format", "json", "--store", kept / "recordings.sqlite", "--home", other)
    assert countersign(*words, "--out", out).code == 0
    assert not os.path.lexists(other)


@pytest.mark.parametrize("name", ["ca/root.key.pem", "ca/intermediate-1.pem"])
def test_convert_and_split_replace_no_file_of_the_home(name: str, kept: Path, tmp_path: Path) -> None:
    countersign("ca", "issue", "a.test", "--out", tmp_path / "a.pem")
    before = (kept / name).stat().st_ino
    words = ("ca", "keystore", "convert", tmp_path / "a.pem", kept / name, "--to", "pem", "--overwrite")
    assert_stays(kept / name, before, countersign(*words), 2, "not replaced")
    for part in ("leaf.pem", "ca-chain.pem", "key-and-leaf.pem"):
        (kept / "ca" / part).write_bytes(b"mine")
        told = countersign("ca", "split", tmp_path / "a.pem", "--out-dir", kept / "ca", "--overwrite")
        assert told.code == 2
        assert (kept / "ca" / part).read_bytes() == b"mine"
        assert sorted(each.name for each in (kept / "ca").glob("*leaf*")) == ([part] if "leaf" in part else [])
        (kept / "ca" / part).unlink()


def test_the_chain_of_a_responder_replaces_a_file_only_when_told(kept: Path, tmp_path: Path) -> None:
    chain = tmp_path / "chain.pem"
    chain.write_bytes(b"mine")
    words = ("ca", "responder", "--listen", "127.0.0.1:0", "--chain")
    assert_stays(chain, chain.stat().st_ino, countersign(*words, chain), 3, "it exists", "--overwrite")
    assert chain.read_bytes() == b"mine"
    root = kept / "ca" / "root.pem"
    assert_stays(root, root.stat().st_ino, countersign(*words, root, "--overwrite"), 2, "not replaced")
