"""The same bytes in different slices: what a machine says must not depend on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def slicings(data: bytes) -> Iterator[list[bytes]]:
    """Whole, byte by byte, and in two pieces at every place."""
    yield [data]
    yield [data[at : at + 1] for at in range(len(data))]
    for at in range(1, len(data)):
        yield [data[:at], data[at:]]
