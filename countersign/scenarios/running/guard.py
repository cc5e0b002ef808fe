"""What is done after a program that could not clean up after itself: one that was killed, or crashed.

A shell holds the end of a pipe whose other end the program has. When the program is gone, however it went, the pipe is
closed; then the shell ends the clients that carry the program's mark in their environment, and removes its files. A
program that ends as it should has done both by then, and the shell finds nothing to do. It stands in a session of its
own, so that a Ctrl-C does not reach it.
"""

from __future__ import annotations

import secrets
import subprocess
import tempfile
from pathlib import Path

MARK = "COUNTERSIGN_HOUSE"

_SCRIPT = """
read -r _
for environ in /proc/[0-9]*/environ; do
  if grep -qsF -e "$1" "$environ"; then
    pid=${environ#/proc/}
    kill -9 "${pid%/environ}" 2>/dev/null
  fi
done
rm -rf -- "$2"
"""
_ENDS = 5.0


class Guard:
    """``folder`` is for files, ``mark`` for the environment of clients, under the name :data:`MARK`."""

    def __init__(self) -> None:
        self.mark = secrets.token_hex(16)
        self.folder = Path(tempfile.mkdtemp(prefix="countersign-"))
        self._shell = subprocess.Popen(  # noqa: S603 - the script is ours, and so are its arguments
            ["/bin/sh", "-c", _SCRIPT, "countersign-guard", f"{MARK}={self.mark}", str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def close(self) -> None:
        """The program is done: what is left of its clients is ended now, and its files are removed."""
        assert self._shell.stdin is not None
        self._shell.stdin.close()
        self._shell.wait(_ENDS)
