"""The three standard streams, made safe to write to before anything else happens in the process.

*A closed one.* A process that is started with descriptor 0, 1 or 2 closed gives that number to the next file that it
opens: a client's socket could be "standard error", and the log would go to the client. So what is closed is filled with
``/dev/null``, opened the wrong way round for input and output, which makes their use the error that it ought to be.

*Output that cannot be written.* What a command prints is its result, so a full disk is an error with exit code 3. A
reader that has gone (``countersign ls | head -1``) is none: the command ends without a word and with the exit code that
a shell shows for ``grep`` then, 128 + SIGPIPE. Both are told once; what is left in the buffers goes nowhere.

*Errors that cannot be written* are for nobody: they are dropped, and the exit code says what there is to say.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from typing import TYPE_CHECKING

from countersign.errors import CountersignError, EnvironmentFault, words_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

    from _typeshed import ReadableBuffer

READER_GONE = 141  # 128 + SIGPIPE


class OutputFault(EnvironmentFault):
    """Standard output cannot be written."""


class ReaderGone(CountersignError):  # noqa: N818 - nothing went wrong
    """Whoever read standard output has had enough."""

    exit_code = READER_GONE


def guard_streams() -> None:
    """Fill closed descriptors; make standard output and standard error fail as this module says."""
    for number, flags in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_WRONLY)):
        _fill(number, flags)
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - open as long as the process is
    sys.stdout = _text(_Output(1, "wb", closefd=False), sys.stdout)
    sys.stderr = _text(_Errors(2, "wb", closefd=False), sys.stderr)


def ending_with_output(work: Callable[[], None]) -> None:
    """Do the work; what it printed is written when this returns. Ends the process where that could not be done."""
    try:
        try:
            work()
        finally:
            sys.stdout.flush()
    except OutputFault as fault:
        sys.stderr.write(f"countersign: {fault}\n")
        sys.exit(fault.exit_code)
    except ReaderGone as gone:
        sys.exit(gone.exit_code)


def _fill(number: int, flags: int) -> None:
    try:
        os.fstat(number)
    except OSError:
        opened = os.open(os.devnull, flags)
        os.dup2(opened, number)
        if opened != number:
            os.close(opened)


class _Waiting(io.FileIO):
    """Waits where somebody else has made the descriptor non-blocking."""

    def write(self, data: ReadableBuffer, /) -> int:
        while (written := super().write(data)) is None:
            select.select([], [self], [])
        return written


class _Output(_Waiting):
    _failed = False

    def write(self, data: ReadableBuffer, /) -> int:
        if self._failed:
            return memoryview(data).nbytes
        try:
            return super().write(data)
        except BrokenPipeError:
            self._failed = True
            raise ReaderGone from None
        except OSError as error:
            self._failed = True
            reason = "it is closed" if error.errno == errno.EBADF else words_of(error)
            raise OutputFault(f"cannot write to standard output: {reason}") from None


class _Errors(_Waiting):
    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def _text(raw: io.FileIO, before: TextIO | None) -> TextIO:
    """The stream in the encoding that the one before had. What it cannot encode is shown by its number."""
    terminal = raw.isatty()
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=before.encoding if before is not None else "utf-8",
        errors="backslashreplace",
        line_buffering=terminal or raw.fileno() == 2,
    )
