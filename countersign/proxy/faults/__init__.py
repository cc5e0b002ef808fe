"""What is broken on purpose on the way between a leg and its socket.

:data:`FAULTS` has every kind by its name (:mod:`.kinds` says what one is), and :func:`read_fault` reads one fault as a
scenario's file has it. At work they are in :mod:`.armed`, in the order of :mod:`.way`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from countersign.proxy.faults import reading
from countersign.proxy.faults.kinds import FaultError, FaultKind, Option
from countersign.proxy.faults.model import WireFault
from countersign.proxy.faults.registry import FAULTS

if TYPE_CHECKING:
    from collections.abc import Mapping


def read_fault(table: Mapping[str, Any]) -> WireFault:
    """The fault that a table of a scenario's file says. Raises :class:`FaultError`."""
    return reading.read_fault(FAULTS, table)


__all__ = ["FAULTS", "FaultError", "FaultKind", "Option", "WireFault", "read_fault"]
