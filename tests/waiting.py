"""How long others kept this process from the CPU: what a test that measures time has to take off."""

from __future__ import annotations

import contextlib
from pathlib import Path


def kept_waiting() -> float:
    """Seconds that the threads of this process, together, were ready to run and had to wait for a CPU so far.

    From ``/proc/self/task/*/schedstat`` (Linux, Documentation/scheduler/sched-stats.rst: the second number, in
    nanoseconds). Where there is none, a busy machine is not told from a slow program: 0.
    """
    waited = 0
    for thread in Path("/proc/self/task").glob("*/schedstat"):
        with contextlib.suppress(OSError, IndexError):  # it ended meanwhile
            waited += int(thread.read_text().split()[1])
    return waited / 1e9
