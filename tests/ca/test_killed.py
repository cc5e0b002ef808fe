"""A rotation that is killed, at any of its calls to the system, leaves a home that works and nothing half made."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Each try is a child that counts what it asks of the system and kills itself at the one that it is told. Forked, for
# a new interpreter each time would take a minute; in a process without threads, for those would be forked too.
HARNESS = """
import json, os, shutil, signal, sys
from pathlib import Path
from countersign.ca import Authority, issue

what, home, step = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
CALLS = ("open", "close", "write", "fsync", "mkdir", "rename", "link", "unlink", "rmdir", "replace")

def rotate(place, kill_at):
    count = 0
    def counted(real):
        def call(*args, **more):
            nonlocal count
            count += 1
            if count == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **more)
        return call
    authority = Authority.load(place)
    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))
    authority.rotate(what)
    return count

def left(place):
    return [str(each) for each in place.rglob(".*.new")]

Authority.create(home / "first")
before = Authority.load(home / "first")
told = {"killed": 0, "old": 0, "new": 0, "half made": 0}
kill_at = 1
while True:
    place = home / "tried"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(home / "first", place)
    child = os.fork()
    if not child:
        try:
            rotate(place, kill_at)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        break
    told["killed"] += 1
    told["half made"] += bool(left(place))
    now = Authority.load(place)
    is_old = now.issuer == before.issuer
    assert is_old != (len(now.retired) == 1), "what is in force and what is marked belong together"
    told["old" if is_old else "new"] += 1
    assert issue(now, "host").chain
    again = now.rotate(what)
    assert Authority.load(place).issuer == again.issuer
    assert left(place) == [], left(place)
    kill_at += step
print(json.dumps(told))
"""


@pytest.mark.parametrize("what", ["intermediate", "root"])
def test_a_rotation_that_is_killed_anywhere_leaves_the_old_or_the_new(
    what: str, tmp_path: Path, scaled: Callable[[int], int]
) -> None:
    step = 1 if scaled(20) == 20 else 3
    done = subprocess.run(
        [sys.executable, "-c", HARNESS, what, tmp_path, str(step)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["killed"] * step >= 20
    assert told["old"] > 0
    assert told["new"] > 0
    assert told["half made"] > 0, "else nothing had to be swept"
