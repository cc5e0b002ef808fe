from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from countersign.errors import EnvironmentFault
from countersign.recorder.private_files import (
    FileFault,
    make_private_dir,
    open_private,
    read_private,
    read_regular,
    write_private,
    write_public,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _umask_000() -> Iterator[None]:
    """The worst umask there is (T23)."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return make_private_dir(tmp_path / "place")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_a_private_file_is_0600_under_umask_000(place: Path) -> None:
    write_private(place / "key", b"secret")
    assert (place / "key").read_bytes() == b"secret"
    assert mode(place / "key") == 0o600
    assert [each.name for each in place.iterdir()] == ["key"]


def test_it_is_0600_from_birth(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not created open and closed afterwards: looked at while its first byte is written."""
    seen: list[int] = []
    fsync = os.fsync

    def look(descriptor: int) -> None:
        seen.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", look)
    monkeypatch.setattr(os, "chmod", None)
    monkeypatch.setattr(os, "fchmod", None)
    write_private(place / "key", b"secret")
    assert seen == [0o600, 0o700]


def test_every_directory_on_the_way_is_0700(tmp_path: Path) -> None:
    make_private_dir(tmp_path / "a" / "b" / "c")
    assert [mode(tmp_path / each) for each in ("a", "a/b", "a/b/c")] == [0o700] * 3
    make_private_dir(tmp_path / "a" / "b" / "c")


def test_an_existing_file_is_not_written_over_unless_asked(place: Path) -> None:
    write_private(place / "key", b"old")
    with pytest.raises(FileFault, match="it exists"):
        write_private(place / "key", b"new")
    assert (place / "key").read_bytes() == b"old"
    write_private(place / "key", b"new", overwrite=True)
    assert (place / "key").read_bytes() == b"new"


def test_writing_over_an_open_file_makes_it_private(place: Path) -> None:
    (place / "key").write_bytes(b"old")
    assert mode(place / "key") == 0o666
    write_private(place / "key", b"new", overwrite=True)
    assert mode(place / "key") == 0o600


def test_a_crash_while_writing_leaves_the_old_file_and_nothing_else(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_private(place / "key", b"old")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(FileFault, match="the disk is full"):
        write_private(place / "key", b"new", overwrite=True)
    assert (place / "key").read_bytes() == b"old"
    assert [each.name for each in place.iterdir()] == ["key"]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("exists", [False, True])
def test_a_symbolic_link_is_refused_wherever_it_leads(place: Path, *, overwrite: bool, exists: bool) -> None:
    """T32."""
    elsewhere = place / "elsewhere"
    if exists:
        elsewhere.write_bytes(b"theirs")
    (place / "key").symlink_to(elsewhere)
    with pytest.raises(FileFault, match="symbolic link"):
        write_private(place / "key", b"secret", overwrite=overwrite)
    with pytest.raises(FileFault, match="symbolic link"):
        open_private(place / "key")
    with pytest.raises(FileFault, match="symbolic link"):
        read_private(place / "key")
    with pytest.raises(FileFault, match="symbolic link"):
        write_public(place / "key", b"no secret")
    assert elsewhere.exists() == exists
    assert not exists or elsewhere.read_bytes() == b"theirs"


def test_a_directory_behind_a_symbolic_link_is_refused(place: Path) -> None:
    (place / "real").mkdir(mode=0o700)
    (place / "link").symlink_to(place / "real")
    (place / "dangling").symlink_to(place / "nowhere")
    for name in ("link", "dangling"):
        with pytest.raises(FileFault, match="symbolic link"):
            make_private_dir(place / name)
    assert not (place / "nowhere").exists()


def test_a_world_writable_directory_is_refused(place: Path) -> None:
    """T32."""
    (place / "open").mkdir(mode=0o777)
    for write in (lambda path: write_private(path, b""), open_private):
        with pytest.raises(FileFault, match="everybody may write"):
            write(place / "open" / "key")
    with pytest.raises(FileFault, match="chmod 700"):
        make_private_dir(place / "open")
    assert not list((place / "open").iterdir())


def test_a_sticky_directory_is_good_enough_only_where_the_caller_says_so(place: Path) -> None:
    (place / "tmp").mkdir()
    (place / "tmp").chmod(0o1777)
    with pytest.raises(FileFault, match="everybody may write"):
        write_private(place / "tmp" / "key", b"")
    with pytest.raises(FileFault, match="everybody may write"):
        open_private(place / "tmp" / "key")
    write_private(place / "tmp" / "key", b"", allow_sticky=True)
    assert mode(place / "tmp" / "key") == 0o600


def test_a_log_is_0600_and_grows(place: Path) -> None:
    for line in (b"one\n", b"two\n"):
        descriptor = open_private(place / "keys.log")
        os.write(descriptor, line)
        os.close(descriptor)
    assert mode(place / "keys.log") == 0o600
    assert (place / "keys.log").read_bytes() == b"one\ntwo\n"


def test_a_log_that_others_can_read_or_that_has_two_names_is_refused(place: Path) -> None:
    (place / "open.log").touch(mode=0o644)
    with pytest.raises(FileFault, match=r"chmod 600 .*open\.log"):
        open_private(place / "open.log")
    (place / "one.log").touch(mode=0o600)
    os.link(place / "one.log", place / "two.log")
    with pytest.raises(FileFault, match="second name"):
        open_private(place / "two.log")


def test_what_is_no_regular_file_is_refused_without_waiting_for_it(place: Path) -> None:
    os.mkfifo(place / "pipe", 0o600)
    for use in (lambda path: write_private(path, b"", overwrite=True), read_private, open_private):
        with pytest.raises(FileFault):
            use(place / "pipe")


def test_a_key_that_others_can_read_is_refused_with_its_cure(place: Path) -> None:
    write_private(place / "key", b"secret")
    assert read_private(place / "key") == b"secret"
    for open_mode in (0o640, 0o604, 0o620):
        (place / "key").chmod(open_mode)
        with pytest.raises(FileFault, match=rf"mode {open_mode:04o}, expected 0600\); run: chmod 600"):
            read_private(place / "key")


def test_errors_say_what_to_do_and_blame_the_machine(place: Path) -> None:
    (place / "file").touch()
    with pytest.raises(EnvironmentFault, match=r"no such file or directory; make .*missing first"):
        write_private(place / "missing" / "key", b"")
    with pytest.raises(EnvironmentFault, match="a part of the path is a file"):
        write_private(place / "file" / "key", b"")
    with pytest.raises(EnvironmentFault, match="a file of that name is there"):
        make_private_dir(place / "file")
    write_private(place / "key", b"four")
    with pytest.raises(EnvironmentFault, match="larger than 3 bytes"):
        read_private(place / "key", at_most=3)


def test_a_public_file_has_the_mode_that_the_umask_leaves(place: Path) -> None:
    os.umask(0o027)
    write_public(place / "root.pem", b"one")
    write_public(place / "root.pem", b"two")
    assert (place / "root.pem").read_bytes() == b"two"
    assert mode(place / "root.pem") == 0o640


def test_a_regular_file_is_read_whoever_else_may_read_it(place: Path) -> None:
    assert read_regular(place / "settings") is None
    assert read_regular(place / "missing" / "settings") is None
    (place / "settings").write_bytes(b"four")
    (place / "link").symlink_to("settings")
    assert read_regular(place / "settings", at_most=4) == read_regular(place / "link") == b"four"
    with pytest.raises(FileFault, match="larger than 3 bytes"):
        read_regular(place / "settings", at_most=3)
    with pytest.raises(FileFault, match="symbolic link"):
        read_regular(place / "link", follow=False)


@pytest.mark.parametrize("through", ["itself", "a link"])
def test_what_is_no_regular_file_is_not_read_and_not_waited_for(place: Path, through: str) -> None:
    os.mkfifo(place / "pipe")
    (place / "directory").mkdir()
    (place / "loop").symlink_to("loop")
    for name in ("pipe", "directory", "loop"):
        path = place / name
        if through == "a link":
            path = place / f"to {name}"
            path.symlink_to(name)
        with pytest.raises(FileFault, match="cannot read"):
            read_regular(path)
