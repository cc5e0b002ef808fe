"""A target for the commands that run a client against one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from countersign.scenarios.running.house import House

if TYPE_CHECKING:
    from collections.abc import Iterator

    from countersign.scenarios.running.trial import ScenarioProxy


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with House() as made:
        yield made


@pytest.fixture
def target(house: House) -> Iterator[ScenarioProxy]:
    """A server of ours, which is a proxy itself."""
    with house.open("plain") as proxy:
        yield proxy
