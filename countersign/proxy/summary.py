"""``--http-summary``: what :mod:`.ways.http_summary` finds in what is relayed, on the recording.

It looks at what has been passed on already, so it can neither hold up nor change a byte. An entry of the recording's
``http`` is an exchange, or it says why there are no more of them: ``stopped``, with the protocol that was agreed on.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from countersign.proxy.ways.http_summary import HttpSummary
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from countersign.proxy.ways.events import Exchanged
    from countersign.recorder.wire.events import Side


class Summary:
    """The exchanges of one relay, on whose legs ``alpn`` was agreed; each goes to ``told``."""

    def __init__(
        self, alpn: bytes | None, *, clock: Callable[[], float], told: Callable[[Mapping[str, Any]], None]
    ) -> None:
        self._alpn = None if alpn is None else printable(alpn.decode("latin-1"), limit=255)
        self._machine = HttpSummary(self._alpn)
        self._clock = clock
        self._told = told
        self._over = False
        if self._machine.stopped is not None:
            self._stop(f"{self._alpn} was agreed on, and only HTTP/1.1 is summarised")

    def watcher(self, side: Side) -> Callable[[bytes], bool] | None:
        """What is to be told of this side's plaintext, empty at its end; gives whether it wants to be told more."""
        return None if self._over else partial(self._saw, side)

    def _saw(self, side: Side, data: bytes) -> bool:
        if not self._over:
            self._tell(self._machine.receive(side, data, self._clock()))
            if self._machine.stopped is not None:
                self._stop(self._machine.stopped)
        return not self._over

    def end(self) -> None:
        """The relay is over."""
        if not self._over:
            self._tell(self._machine.rest(self._clock()))
            self._over = True
            if not self._machine.exchanges:
                self._stop("the connection ended, and no whole request was sent")

    def _tell(self, found: Iterable[Exchanged]) -> None:
        for exchange in found:
            self._told(exchange.record)

    def _stop(self, why: str) -> None:
        self._over = True
        self._told({"protocol": self._alpn, "stopped": why})
