"""``--ready-file``: there while the proxy listens, and never in the place of another's file."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from countersign.cli.ready import ready_file
from countersign.errors import EnvironmentFault
from tests.cli.commands import ProxyProcess, countersign
from tests.cli.test_commands import assert_is_one_line

if TYPE_CHECKING:
    from collections.abc import Callable

LISTEN = "127.0.0.1:8443"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    return folder / "ready.json"


def assert_is_alone(path: Path) -> None:
    """No temporary file is left beside it."""
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_it_says_where_the_proxy_listens_and_goes_with_it(path: Path) -> None:
    with ready_file(path, "[::1]:8443"):
        found = json.loads(path.read_bytes())
        assert found == {"listen": "[::1]:8443", "host": "::1", "port": 8443, "pid": os.getpid()}
        assert_is_alone(path)
    assert not path.exists()


@pytest.mark.parametrize(
    "before", [b"", b"\n", b'{"listen": "127.0.0.1:1", "host": "127.0.0.1", "port": 1, "pid": 1}\n']
)
def test_an_empty_file_and_an_earlier_ready_file_are_replaced(path: Path, before: bytes) -> None:
    path.write_bytes(before)
    with ready_file(path, LISTEN):
        assert json.loads(path.read_bytes())["port"] == 8443
    assert not path.exists()


@pytest.mark.parametrize(
    "theirs",
    [b"important", b"{}", b"[]", b'"listen port pid"', b"[" * 1000, b"\xff", b"x" * 100_000, b'{"listen": 1}'],
    ids=["text", "object", "list", "string", "deep", "binary", "large", "other"],
)
def test_another_file_stays_as_it_is(path: Path, theirs: bytes) -> None:
    path.write_bytes(theirs)
    with pytest.raises(EnvironmentFault, match=r"ready\.json"), ready_file(path, LISTEN):
        pytest.fail("it was replaced")
    assert path.read_bytes() == theirs
    assert_is_alone(path)


def test_what_is_no_file_is_neither_replaced_nor_waited_for(path: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("")
    makers: dict[str, Callable[[], object]] = {
        "pipe": lambda: os.mkfifo(path),
        "directory": path.mkdir,
        "link": lambda: path.symlink_to(elsewhere),
        "dangling": lambda: path.symlink_to(tmp_path / "nowhere"),
    }
    for kind, make in makers.items():
        make()
        before = path.lstat()
        with pytest.raises(EnvironmentFault, match=r"ready\.json"), ready_file(path, LISTEN):
            pytest.fail(f"the {kind} was replaced")
        assert path.lstat().st_ino == before.st_ino, kind
        assert_is_alone(path)
        if stat.S_ISDIR(before.st_mode):
            path.rmdir()
        else:
            path.unlink()
    assert elsewhere.read_text() == ""
    assert not (tmp_path / "nowhere").exists()


def test_its_temporary_name_cannot_be_taken_beforehand(path: Path, tmp_path: Path) -> None:
    """Whoever knew the name could put a link there."""
    theirs = tmp_path / "theirs"
    theirs.write_text("theirs")
    (path.parent / f".{path.name}.{os.getpid()}").symlink_to(theirs)
    with ready_file(path, LISTEN):
        assert not path.is_symlink()
    assert theirs.read_text() == "theirs"


@pytest.mark.parametrize("kind", ["another proxy's", "a pipe", "gone"])
def test_what_has_taken_its_place_stays(path: Path, kind: str) -> None:
    with ready_file(path, LISTEN):
        path.unlink()
        if kind == "a pipe":
            os.mkfifo(path)
        elif kind != "gone":
            path.write_text('{"listen": "127.0.0.1:2", "host": "127.0.0.1", "port": 2, "pid": 2}\n')
    assert path.exists() == (kind != "gone")


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda path: path.parent.rmdir(), "make"),
        (Path.mkdir, "directory"),
        (os.mkfifo, "not a regular file"),
        (lambda path: path.write_text("mine"), "another file is there"),
        (lambda path: path.symlink_to(path), "symbolic link"),
    ],
    ids=["no-directory", "directory", "pipe", "file", "link"],
)
def test_a_place_where_it_cannot_be_is_one_line(
    home: Path, path: Path, make: Callable[[Path], object], part: str
) -> None:
    make(path)
    told = countersign("proxy", "--listen", "127.0.0.1:0", "--target", "127.0.0.1:9", "--ready-file", path)
    assert told.code == 3
    assert_is_one_line(told.err, str(path), part)


def test_it_is_there_before_and_gone_after_a_real_proxy(home: Path) -> None:
    with ProxyProcess(home, "--target", "127.0.0.1:9") as proxy:
        assert json.loads((home / "ready.json").read_text())["pid"] == proxy.pid
        assert stat.S_IMODE((home / "ready.json").stat().st_mode) & 0o022 == 0
        assert proxy.terminate() == 0
    assert not (home / "ready.json").exists()
