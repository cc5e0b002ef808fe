"""Waiting for what comes to pass, and how long others kept this process from the CPU meanwhile: what a test that
measures time has to take off.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def until(condition: Callable[[], object], seconds: float = 60) -> float:
    """How many seconds it took, less those for which others had the CPU; fails after ``seconds``."""
    began, waited = time.monotonic(), kept_waiting()
    while not condition():
        assert time.monotonic() - began < seconds, f"not within {seconds:g} s"
        time.sleep(0.005)
    return time.monotonic() - began - (kept_waiting() - waited)


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
