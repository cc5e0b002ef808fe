"""The one place that writes files which others may not read: keys, key logs, stores, exports.

Three mistakes have been made by tools of this kind, and each has its rule here.

*Born private.* A file that is created with the mode of the umask and changed afterwards can be opened in between. Files
are created with mode 0600 and directories with 0700 in the call that creates them, whatever the umask allows.

*Whole or not at all.* The bytes go to a new file beside the real one, are flushed to the disk, and take the name in one
step; a crash leaves the old file or the new one.

*Not led astray.* A name that someone else can put there first, a symbolic link above all, decides where a secret goes.
Links are never followed at the last part of a path, and a directory in which everybody may write is refused, unless the
caller says that its sticky bit (``/tmp``) is good enough for what it writes.

What goes wrong is a :class:`FileFault`: a sentence with what was attempted, what came, and what to do.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from countersign.errors import EnvironmentFault, words_of

if TYPE_CHECKING:
    from collections.abc import Iterator

PRIVATE_FILE = 0o600
PRIVATE_DIRECTORY = 0o700
_PUBLIC_FILE = 0o644
_EVERYBODY_WRITES = 0o002
_OTHERS = 0o077
_Shared = Literal["never", "sticky", "any"]


class FileFault(EnvironmentFault):
    """A file or directory could not be written or is not safe to use."""


def make_private_dir(path: str | os.PathLike[str]) -> Path:
    """Make ``path`` a directory of mode 0700, and its parents where missing; an existing one may not be world-writable.

    Raises :class:`FileFault`, for a symbolic link or a file in that place as well.
    """
    path = Path(path)
    try:
        for directory in reversed([place for place in (path, *path.parents) if not place.exists()]):
            with contextlib.suppress(FileExistsError):
                directory.mkdir(mode=PRIVATE_DIRECTORY)
        found = path.lstat()
    except OSError as wrong:
        raise FileFault(_cannot("make the directory", path, wrong)) from wrong
    if stat.S_ISLNK(found.st_mode):
        raise FileFault(f"cannot use the directory {path}: it is a symbolic link; name the directory itself")
    if not stat.S_ISDIR(found.st_mode):
        raise FileFault(f"cannot make the directory {path}: a file of that name is there; name another place")
    if found.st_mode & _EVERYBODY_WRITES:
        raise FileFault(
            f"cannot use the directory {path}: everybody may write in it (mode {found.st_mode & 0o7777:04o}); "
            f"run: chmod 700 {path}"
        )
    return path


def write_private(
    path: str | os.PathLike[str], data: bytes, *, overwrite: bool = False, allow_sticky: bool = False
) -> None:
    """Write ``data`` to ``path`` with mode 0600, whole or not at all.

    An existing file is an error unless ``overwrite``; a symbolic link in its place always is. ``allow_sticky`` takes a
    world-writable directory whose sticky bit is set. Raises :class:`FileFault`.
    """
    _write(Path(path), data, mode=PRIVATE_FILE, overwrite=overwrite, shared="sticky" if allow_sticky else "never")


def write_public(path: str | os.PathLike[str], data: bytes, *, overwrite: bool = True) -> None:
    """Write ``data``, which is no secret, to ``path`` with mode 0644 less the umask, whole or not at all.

    Raises :class:`FileFault`; the directory may be anyone's, a symbolic link in the file's place is not followed.
    """
    _write(Path(path), data, mode=_PUBLIC_FILE, overwrite=overwrite, shared="any")


def rewrite(path: str | os.PathLike[str], data: bytes, *, expected: bytes, backup: str | None = None) -> Path:
    """Put ``data`` in the place of a file that others made, whole or not at all, with the mode and owner that it had.

    The file must still hold ``expected``, what the caller read and made ``data`` of. A symbolic link is followed, since
    a JVM's cacerts is one more often than not; the path of the file itself is returned. ``backup`` is the name beside
    it for a copy of what was there. Raises :class:`FileFault`.
    """
    real = Path(os.path.realpath(path))
    with _directory(real, shared="any") as parent:
        try:
            found = os.stat(real.name, dir_fd=parent, follow_symlinks=False)
            if not stat.S_ISREG(found.st_mode):
                raise FileFault(f"cannot write {real}: it is not a regular file; name another")
            if found.st_nlink != 1:
                raise FileFault(f"cannot write {real}: it has a second name (hard link) that would keep the old bytes")
            if backup is not None:
                _create_like(found, backup, expected, parent=parent)
            temporary = f".{real.name[:100]}.{secrets.token_hex(8)}.new"
            _create_like(found, temporary, data, parent=parent)
            try:
                now = os.stat(real.name, dir_fd=parent, follow_symlinks=False)
                if now.st_size != len(expected) or _read(real, at_most=now.st_size, flags=os.O_NOFOLLOW) != expected:
                    raise FileFault(f"cannot write {real}: it was changed by someone else meanwhile; do it again")
                os.rename(temporary, real.name, src_dir_fd=parent, dst_dir_fd=parent)
            except BaseException:
                os.unlink(temporary, dir_fd=parent)
                raise
            os.fsync(parent)
        except FileExistsError as wrong:
            raise FileFault(f"cannot write {real.parent / (backup or '')}: it exists; remove it first") from wrong
        except OSError as wrong:
            raise FileFault(_cannot("write", real, wrong)) from wrong
    return real


def read_private(path: str | os.PathLike[str], *, at_most: int = 1 << 20) -> bytes:
    """The bytes of a file that only its owner may read.

    Raises :class:`FileFault` where it is missing, larger than ``at_most`` bytes, a symbolic link or anything but a
    regular file, or where its mode lets others read or write it (with the ``chmod`` that cures it).
    """
    path = Path(path)
    try:
        return _read(path, at_most=at_most, flags=os.O_NOFOLLOW, refused=_OTHERS)
    except OSError as wrong:
        raise FileFault(_cannot("read", path, wrong)) from wrong


def read_regular(path: str | os.PathLike[str], *, at_most: int = 1 << 20, follow: bool = True) -> bytes | None:
    """The bytes of a regular file, whoever else may read it; ``None`` if it is missing.

    Nothing is waited for: what is a pipe, a device or a directory, or larger than ``at_most`` bytes, is a
    :class:`FileFault`, and so is a symbolic link unless links are to be followed.
    """
    path = Path(path)
    try:
        return _read(path, at_most=at_most, flags=0 if follow else os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    except OSError as wrong:
        raise FileFault(_cannot("read", path, wrong)) from wrong


def open_private(path: str | os.PathLike[str], *, append: bool = True) -> int:
    """A descriptor to write ``path`` through, created with mode 0600; for logs and stores that grow.

    An existing file must be a regular one of mode 0600 or less. Raises :class:`FileFault`, for a symbolic link and for
    a world-writable directory too, sticky or not: a growing file is open for longer than a name can be trusted there.
    """
    path = Path(path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    with _directory(path, shared="never") as parent:
        try:
            descriptor = os.open(path.name, flags | (os.O_APPEND if append else 0), PRIVATE_FILE, dir_fd=parent)
        except OSError as wrong:
            raise FileFault(_cannot("write", path, wrong)) from wrong
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_mode & _OTHERS or found.st_nlink != 1:
        os.close(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise FileFault(f"cannot write {path}: it is not a regular file")
        if found.st_nlink != 1:
            raise FileFault(f"cannot write {path}: it has a second name (hard link); name another file")
        raise FileFault(
            f"cannot write secrets to {path}: others may read it (mode {found.st_mode & 0o7777:04o}, expected 0600); "
            f"run: chmod 600 {path}"
        )
    return descriptor


# -- how ---------------------------------------------------------------------------------------------------------


def _read(path: Path, *, at_most: int, flags: int = 0, refused: int = 0) -> bytes:
    """``refused`` are the bits of a mode that the file may not have."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | flags)
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise FileFault(f"cannot read {path}: it is not a regular file")
        if found.st_mode & refused:
            raise FileFault(
                f"cannot use {path}: others may read it (mode {found.st_mode & 0o7777:04o}, expected 0600); "
                f"run: chmod 600 {path}"
            )
        data = file.read(at_most + 1)
    if len(data) > at_most:
        raise FileFault(f"cannot read {path}: it is larger than {at_most} bytes")
    return data


@contextlib.contextmanager
def _directory(path: Path, *, shared: _Shared) -> Iterator[int]:
    """The directory of ``path``, held open, so that the checks and the writing are about the same one."""
    try:
        parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as wrong:
        raise FileFault(_cannot("write", path, wrong)) from wrong
    try:
        mode = os.fstat(parent).st_mode
        if mode & _EVERYBODY_WRITES and shared != "any" and not (shared == "sticky" and mode & stat.S_ISVTX):
            raise FileFault(
                f"cannot write secrets to {path}: everybody may write in {path.parent} "
                f"(mode {mode & 0o7777:04o}); name a directory that only you can write to"
            )
        yield parent
    finally:
        os.close(parent)


def _write(path: Path, data: bytes, *, mode: int, overwrite: bool, shared: _Shared) -> None:
    with _directory(path, shared=shared) as parent:
        try:
            _check_place(path, parent, overwrite=overwrite)
            temporary = f".{path.name[:100]}.{secrets.token_hex(8)}.new"
            _create(temporary, data, mode=mode, parent=parent)
            try:
                _take_name(temporary, path.name, parent, overwrite=overwrite)
            except BaseException:
                os.unlink(temporary, dir_fd=parent)
                raise
            os.fsync(parent)
        except FileExistsError as wrong:
            raise FileFault(f"cannot write {path}: it exists; remove it or name another file") from wrong
        except OSError as wrong:
            raise FileFault(_cannot("write", path, wrong)) from wrong


def _check_place(path: Path, parent: int, *, overwrite: bool) -> None:
    try:
        found = os.stat(path.name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return
    if stat.S_ISLNK(found.st_mode):
        raise FileFault(f"cannot write {path}: it is a symbolic link, which is not followed; name the file itself")
    if not stat.S_ISREG(found.st_mode):
        raise FileFault(f"cannot write {path}: it is not a regular file; name another")
    if not overwrite:
        raise FileExistsError


def _create(name: str, data: bytes, *, mode: int, parent: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, mode, dir_fd=parent)
    try:
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]
            os.fsync(file.fileno())
    except BaseException:
        os.unlink(name, dir_fd=parent)
        raise


def _create_like(found: os.stat_result, name: str, data: bytes, *, parent: int) -> None:
    """A new file with the owner and mode of another."""
    _create(name, data, mode=PRIVATE_FILE, parent=parent)
    try:
        made = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if (made.st_uid, made.st_gid) != (found.st_uid, found.st_gid):
            os.chown(name, found.st_uid, found.st_gid, dir_fd=parent, follow_symlinks=False)
        os.chmod(name, stat.S_IMODE(found.st_mode), dir_fd=parent)
    except BaseException:
        os.unlink(name, dir_fd=parent)
        raise


def _take_name(temporary: str, name: str, parent: int, *, overwrite: bool) -> None:
    """Rename; where nothing may be replaced, link, which fails when the name has been taken meanwhile."""
    if overwrite:
        os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
        return
    try:
        os.link(temporary, name, src_dir_fd=parent, dst_dir_fd=parent, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: the check was made a moment ago
        os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
        return
    os.unlink(temporary, dir_fd=parent)


def _cannot(what: str, path: Path, wrong: OSError) -> str:
    """The sentence for an error of the operating system, with the cure where there is one."""
    match wrong:
        case FileNotFoundError():
            reason, cure = "there is no such file or directory", f"make {path.parent} first"
        case PermissionError():
            cure = "name a place that you may write to (--home) or run as its owner"
            reason, cure = "permission denied", cure if what != "read" else "run as its owner, or be given the right to"
        case NotADirectoryError() | FileExistsError():
            reason, cure = "a part of the path is a file, not a directory", "name another place"
        case IsADirectoryError():
            reason, cure = "it is a directory", "name a file"
        case _ if wrong.errno == errno.ELOOP:  # from O_NOFOLLOW
            reason, cure = "it is a symbolic link, which is not followed", "name the file itself"
        case _ if wrong.errno == errno.ENOSPC:
            reason, cure = "the disk is full", "free some space"
        case _ if wrong.errno == errno.EROFS:
            reason, cure = "the file system is read-only", "name a place that you may write to (--home)"
        case _:
            reason, cure = words_of(wrong), "name another place"
    return f"cannot {what} {path}: {reason}; {cure}"
