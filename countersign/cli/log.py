"""Logs: for a person on a terminal, JSON lines otherwise, both to standard error."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

import structlog

from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import MutableMapping


def set_up_logging(*, only_errors: bool = False) -> None:
    """Route structlog and the standard library's warnings to standard error."""
    shared: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _printable,
    ]
    if sys.stderr.isatty():
        last: list[Any] = [
            structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        ]  # rich would show locals
    else:
        last = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=True)]
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR if only_errors else logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.getLogger("asyncio").addHandler(_ToStructlog())
    logging.getLogger("asyncio").propagate = False


def _printable(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """No value of a peer's can forge a line or move a cursor (THREATS T9, T10)."""
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = printable(value)
    return event


class _ToStructlog(logging.Handler):
    """What asyncio itself has to say (an accept that failed for want of descriptors) goes the same way."""

    def emit(self, record: logging.LogRecord) -> None:
        structlog.get_logger("asyncio").log(record.levelno, record.getMessage())
