"""Runs a client to its end, whatever it does: a time limit, no child left behind, no more output kept than is of use.

A client is a stranger's program. It may never end, start programs that outlive it, write without end, or hold its
output open in the background. So it gets a session of its own (what it starts stays in its process group unless it
leaves on purpose), and a mark in its environment that its descendants inherit and that ``/proc`` shows: where its time
was up, or its output is still held when it has ended, whoever carries the mark is ended too, group or not.

That its first process has ended is the end of a client; what then still writes is not waited for. asyncio's own
subprocesses would wait for it (they are over when every pipe is closed), so the process is waited for by its pidfd.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from countersign.errors import EnvironmentFault, UserError
from countersign.scenarios.running.texts import Said, what_it_said

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

KEPT = 64 * 1024
"""Bytes that are kept of the beginning of an output, and as many of its end."""

_MARK = "COUNTERSIGN_RUN"
_AFTER_THE_END = 0.2  # seconds for what is still in a pipe when the client has ended
_ROUNDS = 20  # of ending what carries the mark: a program that forks faster than this is not a client


@dataclass(frozen=True, slots=True)
class Ran:
    """What became of a client.

    ``code`` is its exit code, ``None`` where a signal ended it; ``signal`` is that signal's name. ``timed_out``: it was
    still there when its time was up, and was ended by us. ``output`` and ``errors`` are text; where more came than is
    kept, the middle is left out and a line says how much.
    """

    argv: tuple[str, ...]
    code: int | None
    signal: str | None
    timed_out: bool
    output: str
    errors: str
    seconds: float

    @property
    def well(self) -> bool:
        """It ended by itself and says that all went well."""
        return self.code == 0 and not self.timed_out

    @property
    def crashed(self) -> bool:
        """A signal that was not ours ended it. ``SIGPIPE`` is how a filter ends, and no crash."""
        return self.signal is not None and not self.timed_out and self.signal != "SIGPIPE"

    @property
    def how_it_ended(self) -> str:
        return f"it ended with exit code {self.code}" if self.signal is None else f"{self.signal} ended it"

    @property
    def hung(self) -> str:
        return f"it was still running after {self.seconds:.3g} s and was ended"

    @property
    def well_said(self) -> str:
        return "its exit code is 0 all the same"

    @property
    def said(self) -> tuple[Said, ...]:
        """The lines in which it tells what went wrong."""
        return what_it_said(self.output, self.errors)


async def run_client(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    timeout: float,  # noqa: ASYNC109 - the limit is the client's, not this coroutine's
    stdin: bytes = b"",
) -> Ran:
    """Run it and wait for its end, ``timeout`` seconds at most.

    Raises :class:`UserError` where there is no such program, :class:`EnvironmentFault` where it cannot be started.
    """
    loop = asyncio.get_running_loop()
    mark = secrets.token_hex(16)
    began = time.monotonic()
    process = _start(argv, {**env, _MARK: mark}, stdin)
    outputs: list[_Kept] = []
    timed_out = False
    try:
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            _, kept = await loop.connect_read_pipe(_Kept, pipe)
            outputs.append(kept)
        try:
            async with asyncio.timeout(timeout):
                await _ended(process)
        except TimeoutError:
            timed_out = True
            _end_group(process.pid)
            _end_marked(mark)
            await _ended(process)
        seconds = time.monotonic() - began
        _end_group(process.pid)
        await asyncio.wait([kept.closed for kept in outputs], timeout=_AFTER_THE_END)
    finally:
        _end_group(process.pid)  # before it is waited for: until then nobody else can have its number
        if not all(kept.closed.done() for kept in outputs):
            _end_marked(mark)
        process.wait()
        for kept in outputs:
            kept.hang_up()
        for pipe in (process.stdout, process.stderr):  # one that was not listened to yet has nobody else to close it
            assert pipe is not None
            pipe.close()
    code = process.returncode
    return Ran(
        argv=tuple(argv),
        code=code if code >= 0 else None,
        signal=_signal_name(-code) if code < 0 else None,
        timed_out=timed_out,
        output=outputs[0].text(),
        errors=outputs[1].text(),
        seconds=seconds,
    )


def _start(argv: Sequence[str], env: Mapping[str, str], stdin: bytes) -> subprocess.Popen[bytes]:
    try:
        with _input(stdin) as given:
            return subprocess.Popen(  # noqa: S603 - running what the user names is what this is for
                list(argv),
                env=env,
                stdin=given,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(_not_found(argv[0])) from None
    except PermissionError:
        raise UserError(f"cannot run {argv[0]!r}: it is not executable") from None
    except (OSError, ValueError) as error:
        raise EnvironmentFault(f"cannot run {argv[0]!r}: {error}") from None


def _input(data: bytes) -> IO[bytes]:
    """A file with what the client reads, so that nobody has to write while it does not."""
    if not data:
        return Path(os.devnull).open("rb")
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller's with closes it
    file.write(data)
    file.seek(0)
    return file


def _not_found(program: str) -> str:
    if "/" not in program:
        return f"cannot run {program!r}: no program of that name is on the PATH"
    if Path(program).exists():
        return f"cannot run {program!r}: the interpreter that its first line names is not there"
    return f"cannot run {program!r}: there is no such file"


async def _ended(process: subprocess.Popen[bytes]) -> None:
    """Wait until the process itself has ended, whoever holds its pipes; it is not reaped yet."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    descriptor = os.pidfd_open(process.pid)
    try:
        loop.add_reader(descriptor, over.set)
        await over.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _end_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _end_marked(mark: str) -> None:
    """Kill everything that carries the mark, until nothing does."""
    for _ in range(_ROUNDS):
        found = list(_marked(mark))
        if not found:
            return
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)


def _marked(mark: str) -> Iterator[int]:
    """Processes of this user that were started with the mark; zombies have no environment, and are not among them."""
    wanted = f"{_MARK}={mark}".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            found = wanted in (entry / "environ").read_bytes().split(b"\0")
        except OSError:  # another user's, or gone by now
            continue
        if found:
            yield int(entry.name)


class _Kept(asyncio.Protocol):
    """The beginning and the end of an output of any length."""

    def __init__(self) -> None:
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.BaseTransport | None = None
        self._head = bytearray()
        self._tail = bytearray()
        self._length = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._length += len(data)
        room = KEPT - len(self._head)
        self._head += data[:room]
        self._tail += data[room:]
        del self._tail[:-KEPT]

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        if not self.closed.done():
            self.closed.set_result(None)

    def hang_up(self) -> None:
        """Let go of the pipe, which a program that got away may still hold open."""
        if self._transport is not None:
            self._transport.close()

    def text(self) -> str:
        left_out = self._length - len(self._head) - len(self._tail)
        between = f"\n... {left_out} bytes are left out here ...\n".encode() if left_out else b""
        return bytes(self._head + between + self._tail).decode("utf-8", "backslashreplace")
