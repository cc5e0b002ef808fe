"""What a fault on the wire says: what is done, on which leg, to whom, and at which message."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Place = Literal["before", "within", "after"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WireFault:
    """One fault.

    ``do`` names its kind. ``leg`` is ``client`` or ``server``, and ``to`` is who receives the bytes that are faulted:
    ``client`` or ``target``, or ``proxy`` for what comes from them. ``at`` is a message's name (RFC 8446, RFC 5246, in
    snake_case), ``connect`` for before any byte, or ``application_data``. With ``place`` ``within``, ``offset`` bytes
    of the message go first. ``options`` are the kind's own.
    """

    do: str
    leg: Literal["client", "server"] = "client"
    to: Literal["client", "proxy", "target"] = "client"
    at: str = "server_hello"
    place: Place = "before"
    offset: int = 0
    options: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
