"""Every kind of fault by its name."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from countersign.proxy.faults import alerts, byte_kinds, changing, floods, framing, hellos, order

if TYPE_CHECKING:
    from collections.abc import Mapping

    from countersign.proxy.faults.kinds import FaultKind

_KINDS: tuple[type[FaultKind], ...] = (
    alerts.Alert,
    *changing.KINDS,
    *order.KINDS,
    *hellos.KINDS,
    *framing.KINDS,
    *floods.KINDS,
    *byte_kinds.BYTE_KINDS,
)

FAULTS: Mapping[str, FaultKind] = MappingProxyType({kind.name: kind() for kind in _KINDS})
