"""Words that more than one of the exports uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def fault_text(fault: Mapping[str, object]) -> str:
    """A fault's own sentence where it has one, else its values; their names are the scenarios' business."""
    if isinstance(text := fault.get("text"), str):
        return text
    return ", ".join(f"{name} {value}" for name, value in fault.items() if value is not None)
