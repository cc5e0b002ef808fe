"""Real programs with a time limit each, ended by their own pid and by nothing wider."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

Arg = str | Path


@dataclass(frozen=True, slots=True)
class Completed:
    args: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str

    def check(self) -> Self:
        assert self.returncode == 0, f"{' '.join(self.args)}\nexit code {self.returncode}\n{self.stdout}\n{self.stderr}"
        return self


_ASIDE = {
    "SSLKEYLOGFILE", "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS", "CLASSPATH", "OPENSSL_CONF",
    "PYTEST_ADDOPTS",
}  # fmt: skip


def peer_env(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Our environment less what would turn a peer aside (proxies, key logs, options), in the C locale, UTC."""
    kept = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy") and k not in _ASIDE}
    return kept | {"LC_ALL": "C.UTF-8", "TZ": "UTC"} | dict(extra or {})


def run(*args: Arg, timeout: float = 30, env: Mapping[str, str] | None = None, stdin: bytes = b"") -> Completed:
    """Run it to its end; past ``timeout`` seconds it is killed and ``subprocess.TimeoutExpired`` raised."""
    words = tuple(map(str, args))
    done = subprocess.run(words, input=stdin, capture_output=True, timeout=timeout, env=peer_env(env), check=False)
    return Completed(words, done.returncode, _text(done.stdout), _text(done.stderr))


class Background:
    """A program that runs while the ``with`` block does. What it prints goes to files, so it never waits for us."""

    def __init__(self, *args: Arg, env: Mapping[str, str] | None = None) -> None:
        self.args = tuple(map(str, args))
        self._env = env
        self._out: IO[bytes]
        self._err: IO[bytes]
        self._process: subprocess.Popen[bytes]

    def __enter__(self) -> Self:
        self._out, self._err = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # closed in stop()
        try:
            self._process = subprocess.Popen(
                self.args, stdin=subprocess.PIPE, stdout=self._out, stderr=self._err, env=peer_env(self._env)
            )
        except BaseException:
            self._out.close()
            self._err.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def stdout(self) -> str:
        return _text(_contents(self._out))

    @property
    def stderr(self) -> str:
        return _text(_contents(self._err))

    def say(self, data: bytes) -> None:
        """Write to its standard input."""
        assert self._process.stdin
        self._process.stdin.write(data)
        self._process.stdin.flush()

    def hang_up(self) -> None:
        """Close its standard input."""
        assert self._process.stdin
        try:
            self._process.stdin.close()
        except BrokenPipeError:  # it ended with our last words unread
            pass

    def ended(self) -> bool:
        return self._process.poll() is not None

    def wait_for(self, pattern: str, timeout: float = 40) -> re.Match[str]:
        """The first match in its standard output or, failing that, its standard error."""
        deadline = time.monotonic() + timeout
        while True:
            over = self.ended() or time.monotonic() > deadline
            for text in (self.stdout, self.stderr):
                if match := re.search(pattern, text, re.MULTILINE):
                    return match
            if over:
                raise AssertionError(f"{' '.join(self.args)}\nnever said {pattern!r}\n{self.stdout}\n{self.stderr}")
            time.sleep(0.01)

    def wait(self, timeout: float = 40) -> int:
        return self._process.wait(timeout)

    def stop(self, sig: int = signal.SIGTERM, timeout: float = 20) -> Completed:
        """End it if it still runs. Stopping twice is harmless only for the output that was read before."""
        if not self.ended():
            self._process.send_signal(sig)
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.hang_up()
        if not self._out.closed:
            self._done = Completed(self.args, self._process.returncode, self.stdout, self.stderr)
            self._out.close()
            self._err.close()
        return self._done


def _contents(file: IO[bytes]) -> bytes:
    """The whole file, without moving the offset that the program writes at."""
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")
