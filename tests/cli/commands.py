"""Runs the command line in this process, or the real program in another."""

from __future__ import annotations

import io
import json
import signal
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from countersign.cli.app import run
from tests.peers.process import Background, Completed

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


class _Output(io.TextIOWrapper):
    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", errors="backslashreplace", write_through=True)

    def text(self) -> str:
        buffer = self.buffer
        assert isinstance(buffer, io.BytesIO)
        return buffer.getvalue().decode("utf-8")


def countersign(*args: str | Path) -> Ran:
    """One command in this process; what it raises beyond an exit is a failure of the test."""
    before, out, err = sys.argv, _Output(), _Output()
    sys.argv = ["countersign", *map(str, args)]
    code = 0
    try:
        with redirect_stdout(out), redirect_stderr(err):
            run()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(bool(end.code))
    finally:
        sys.argv = before
    return Ran(code, out.text(), err.text())


class ProxyProcess:
    """``countersign proxy`` as a real process; ``port`` once it is ready."""

    def __init__(self, home: Path, *args: str | Path) -> None:
        home.mkdir(mode=0o700, exist_ok=True)
        self.home = home
        self._ready = home / "ready.json"
        self._ended: Completed | None = None
        self._background = Background(
            sys.executable, "-m", "countersign", "proxy", "--listen", "127.0.0.1:0", "--ready-file", self._ready,
            *args, env={"COUNTERSIGN_HOME": str(home)},
        )  # fmt: skip

    def __enter__(self) -> Self:
        self._background.__enter__()
        deadline = time.monotonic() + 60
        while not self._ready.exists():
            if self._background.ended() or time.monotonic() > deadline:
                text = self.log
                self._background.__exit__(None, None, None)
                raise AssertionError(f"the proxy did not start: {text}")
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self._background.__exit__(None, None, None)

    @property
    def port(self) -> int:
        return int(json.loads(self._ready.read_text())["port"])

    @property
    def pid(self) -> int:
        return self._background.pid

    @property
    def log(self) -> str:
        """What it wrote to standard error."""
        return self._ended.stderr if self._ended else self._background.stderr

    def kill(self) -> None:
        """SIGKILL: it cannot say goodbye."""
        self._ended = self._background.stop(signal.SIGKILL)

    def terminate(self) -> int:
        """SIGTERM; its exit code."""
        self._ended = self._background.stop(signal.SIGTERM, timeout=30)
        return self._ended.returncode
