"""Which process a recording is being made by, and whether it still lives.

A recording that is still open belongs to the proxy that makes it. When that process is killed, its open recordings
are *interrupted*; those of another proxy that shares the store are not. A process is told from a later one with the
same number by its start time and by the boot that it lives in (both from ``/proc``).

Two things cannot be told from here: a process on another machine (they may share a PostgreSQL store) and one in
another container (its number means nothing outside). For these the store goes by when they last were heard of; see
:meth:`countersign.recorder.store.database.Store.mark_interrupted`.

Where there is no ``/proc`` an owner is its process number alone: a later process with the same number passes for it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Owner:
    """A process. ``started``: clock ticks since boot; ``namespace``: the inode of its pid namespace (0: unknown)."""

    boot_id: str
    pid: int
    started: int
    namespace: int = 0

    @classmethod
    def current(cls) -> Owner:
        """The process that asks. After a fork, ask again."""
        pid = os.getpid()
        return cls(boot_id=_boot_id(), pid=pid, started=_start_time(pid) or 0, namespace=_namespace())

    @property
    def visible(self) -> bool:
        """Whether it can be told from here if the process lives: same boot of the same machine, same container."""
        return self.boot_id == _boot_id() and self.namespace == _namespace()

    def alive(self) -> bool:
        """Whether the process lives; ``True`` as well for one that is not :attr:`visible`."""
        if not self.visible:
            return True
        if self.boot_id:
            return _start_time(self.pid) == self.started
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True


def _boot_id() -> str:
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _namespace() -> int:
    try:
        return (_PROC / "self/ns/pid").stat().st_ino
    except OSError:
        return 0


def _start_time(pid: int) -> int | None:
    """Field 22 of ``/proc/PID/stat`` (proc(5)); ``None`` when it is gone or a zombie, which writes no more."""
    try:
        stat = (_PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    fields = stat[stat.rindex(b")") + 2 :].split()  # the name in field 2 may hold anything, so count from its end
    return None if fields[0] in (b"Z", b"X") else int(fields[19])
