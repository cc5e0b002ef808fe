"""Logs: for a person on a terminal, JSON lines otherwise, both to standard error.

A log line must never cost a connection. Its disk may be full, its reader may have gone, or, which is worse, may be
stuck: then a write would wait, and the event loop with it. So whoever logs hands the line over and goes on
(:class:`LogSink`); a thread of the sink's own writes. While it cannot, lines wait up to a limit, the newest beyond it
are dropped and counted, and as soon as writing works again one line says how many are missing, where they are missing.

What the standard library logs (asyncio above all), warnings, and errors that Python can tell nobody go the same way.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import sys
import threading
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

import structlog

from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from structlog.typing import EventDict, Processor, WrappedLogger

_STANDARD_ERROR = 2
_GATHER = 0.01  # seconds that a line waits for company: one write for many
_FIRST_RETRY = 0.05
_LAST_RETRY = 1.0


class LogSink:
    """Writes lines to a descriptor in a thread of its own; :meth:`put` never waits and never raises.

    ``most`` is how many bytes may wait. ``say_lost`` makes the line that says how many were dropped. Make the sink in
    the process that uses it: a thread does not survive a fork.
    """

    def __init__(self, descriptor: int, *, say_lost: Callable[[int], str], most: int = 1 << 20) -> None:
        self._descriptor = descriptor
        self._say_lost = say_lost
        self._most = most
        # Reentrant, as Condition's own lock is: a finaliser that warns may run in the midst of put().
        self._wake = threading.Condition()
        self._lines: deque[bytes] = deque()
        self._waiting = 0
        self._lost = 0
        self._idle = False
        self._closing = False
        self._deadline = 0.0
        self._thread = threading.Thread(target=self._run, name="countersign-log", daemon=True)
        self._thread.start()

    def put(self, line: str) -> None:
        """Take a line without its end."""
        data = line.encode("utf-8", "backslashreplace") + b"\n"
        with self._wake:
            if self._closing or self._waiting + len(data) > self._most:
                self._lost += 1
                return
            self._lines.append(data)
            self._waiting += len(data)
            if self._idle:
                self._idle = False
                self._wake.notify()

    def close(self, timeout: float = 1.0) -> None:
        """Write what waits, for ``timeout`` seconds at most; what comes after is dropped."""
        with self._wake:
            self._closing = True
            self._deadline = time.monotonic() + timeout
            self._wake.notify()
        self._thread.join(timeout)

    def _run(self) -> None:
        while lines := self._next():
            self._write(b"".join(lines))

    def _next(self) -> list[bytes]:
        """All that waits, and behind it how many came when there was no more room; empty at the end."""
        with self._wake:
            if not self._lines and not self._closing:
                self._idle = True
                self._wake.wait_for(lambda: not self._idle or self._closing)
                self._wake.wait_for(lambda: self._closing, _GATHER)
            lines, lost = list(self._lines), self._lost
            self._lines.clear()
            self._waiting = self._lost = 0
        if lost:
            lines.append(self._say_lost(lost).encode("utf-8", "backslashreplace") + b"\n")
        return lines

    def _write(self, data: bytes) -> None:
        """All of it, however long it takes; what a full disk cut short is continued where it was cut."""
        view = memoryview(data)
        retry = _FIRST_RETRY
        while view:
            try:
                view = view[os.write(self._descriptor, view) :]
                retry = _FIRST_RETRY
            except BlockingIOError:  # somebody else has made the descriptor non-blocking
                if self._over():
                    return
                select.select([], [self._descriptor], [], _FIRST_RETRY)
            except OSError:
                with self._wake:
                    if self._wake.wait_for(lambda: self._closing, retry):
                        return
                retry = min(2 * retry, _LAST_RETRY)

    def _over(self) -> bool:
        with self._wake:
            return self._closing and time.monotonic() > self._deadline


class DirectSink:
    """Writes each line at once, or not at all."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def put(self, line: str) -> None:
        """Take a line without its end."""
        with contextlib.suppress(OSError):
            os.write(self._descriptor, line.encode("utf-8", "backslashreplace") + b"\n")

    def close(self) -> None:
        """Nothing waits."""


def _name_worker(worker: int, _logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    event["worker"] = worker
    return event


@contextlib.contextmanager
def logs(
    *,
    only_errors: bool = False,
    descriptor: int = _STANDARD_ERROR,
    worker: int | None = None,
    threaded: bool = True,
) -> Iterator[LogSink | DirectSink]:
    """Everything that is logged goes to ``descriptor`` while the block runs; what waits at its end is written.

    ``worker`` is named on each line. Without a thread whoever logs waits: for a process that forks.
    """
    processors: list[Processor] = [
        structlog.processors.add_log_level,
        *([] if worker is None else [partial(_name_worker, worker)]),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _printable,
        *_rendering(os.isatty(descriptor)),
    ]
    before = structlog.get_config()
    sink: LogSink | DirectSink = DirectSink(descriptor)
    if threaded:
        sink = LogSink(descriptor, say_lost=lambda lost: _lost_line(processors, lost))
    handler = _ToStructlog()
    root = logging.getLogger()
    for other in [each for each in root.handlers if isinstance(each, _ToStructlog)]:
        root.removeHandler(other)  # a process that was forked has its parent's
    raising, unraisable = logging.raiseExceptions, sys.unraisablehook
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR if only_errors else logging.INFO),
        logger_factory=lambda *_: _Lines(sink),
        cache_logger_on_first_use=False,
    )
    root.addHandler(handler)
    logging.raiseExceptions = False  # a message that cannot be made is no reason to write to standard error directly
    sys.unraisablehook = _unraisable
    logging.captureWarnings(capture=True)
    try:
        yield sink
    finally:
        logging.captureWarnings(capture=False)
        sys.unraisablehook = unraisable
        logging.raiseExceptions = raising
        root.removeHandler(handler)
        structlog.configure(**before)
        sink.close()


def _rendering(terminal: bool) -> list[Processor]:
    if terminal:  # rich's tracebacks would show the values of local variables
        return [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=True)]


def _printable(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """No value of a peer's can forge a line or move a cursor."""
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = printable(value)
    return event


def _lost_line(processors: list[Processor], lost: int) -> str:
    event: EventDict = {"event": "log lines are missing here, they could not be written in time", "lost": lost}
    for process in processors:
        event = process(None, "warning", event)  # type: ignore[assignment] # the last one makes the line
    return str(event)


class _Lines:
    """What structlog hands a finished line to, by the name of its level."""

    def __init__(self, sink: LogSink | DirectSink) -> None:
        self.debug = self.info = self.warning = self.error = self.critical = sink.put


class _ToStructlog(logging.Handler):
    """What the standard library logs goes the same way."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except (TypeError, ValueError):  # its arguments do not fit it
            message = str(record.msg)
        level = min(max(record.levelno // 10 * 10, logging.DEBUG), logging.CRITICAL)
        structlog.get_logger().log(level, message, logger=record.name, exc_info=record.exc_info)


def _unraisable(error: sys.UnraisableHookArgs) -> None:
    """An exception in a finaliser or a callback from C."""
    what = error.err_msg or "Exception ignored in"
    structlog.get_logger().error(f"{what}: {error.object!r}", exc_info=error.exc_value)
