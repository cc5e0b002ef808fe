"""STARTTLS and its kin: when a dialogue in clear becomes TLS. A file each protocol; :mod:`.dialect` has the theory."""

from countersign.errors import UserError
from countersign.proxy.ways.starttls.auto import DIALECTS, SILENCE, Auto
from countersign.proxy.ways.starttls.dialect import Dialect
from countersign.proxy.ways.starttls.events import (
    Agreed,
    Asked,
    Declined,
    Event,
    Forward,
    Said,
    Settled,
    Upgraded,
    Violation,
)
from countersign.proxy.ways.starttls.smtp import Smtp
from countersign.proxy.ways.starttls.transcript import Transcript

__all__ = [
    "DIALECTS",
    "SILENCE",
    "Agreed",
    "Asked",
    "Auto",
    "Declined",
    "Dialect",
    "Event",
    "Forward",
    "Said",
    "Settled",
    "Transcript",
    "Upgraded",
    "Violation",
    "dialect_named",
]

_ALL: tuple[type[Dialect], ...] = (*DIALECTS, Auto)
_BY_NAME = {dialect.name: dialect for dialect in _ALL} | {"lmtp": Smtp}


def dialect_named(name: str) -> type[Dialect]:
    """The dialect of ``--starttls``. Raises :class:`UserError`."""
    if name not in _BY_NAME:
        raise UserError(f"--starttls takes one of {', '.join(sorted(_BY_NAME))}; got {name!r}")
    return _BY_NAME[name]
