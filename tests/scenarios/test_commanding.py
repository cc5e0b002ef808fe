"""A director that is told what to do while connections come."""

from __future__ import annotations

import asyncio
import contextvars
from typing import TYPE_CHECKING, Any

import pytest

from countersign.proxy import Address, Engine, Settings
from countersign.proxy.faults import read_fault
from countersign.proxy.orders import ChainOrders, Orders
from countersign.scenarios.catalogue import catalogue
from countersign.scenarios.commanding import Commanded
from countersign.scenarios.directing import direct
from tests.scenarios.driving import AUTHORITY, Kept

if TYPE_CHECKING:
    from countersign.proxy.faults import WireFault

LATE = read_fault({"do": "cut", "at": "server_hello"})
EARLY = read_fault({"do": "reset", "at": "connect"})


def commanded(**settings: Any) -> Commanded:
    made = Commanded()
    made.engine = Engine(
        Settings(listen=Address("127.0.0.1", 0), target=Address("127.0.0.1", 9), **settings),
        AUTHORITY,
        Kept(),
        director=made,
    )
    return made


def arrives(director: Commanded) -> tuple[tuple[WireFault, ...], contextvars.Context]:
    """One connection in a context of its own, as the engine accepts it."""
    context = contextvars.copy_context()
    return context.run(director.arriving, "127.0.0.1").faults, context


def says_hello(director: Commanded, context: contextvars.Context) -> tuple[WireFault, ...]:
    return context.run(director.orders, "127.0.0.1", "localhost", "localhost:443").faults


def test_a_fault_is_for_so_many_sessions_and_who_only_connects_takes_none() -> None:
    director = commanded()
    director.break_next(LATE, 2)
    contexts = [arrives(director)[1] for _ in range(4)]
    assert director.armed is not None
    assert director.armed.left == 2
    assert [says_hello(director, each) for each in contexts] == [(LATE,), (LATE,), (), ()]
    assert director.armed is None


def test_a_fault_before_the_hello_is_for_the_connections_that_got_it_whoever_speaks_first() -> None:
    director = commanded()
    director.break_next(EARLY, 2)
    came = [arrives(director) for _ in range(4)]
    assert [faults for faults, _ in came] == [(EARLY,), (EARLY,), (), ()]
    assert [says_hello(director, context) for _, context in reversed(came)] == [(), (), (EARLY,), (EARLY,)]


def test_a_fault_that_is_taken_back_is_for_nobody() -> None:
    director = commanded()
    director.break_next(LATE, 5)
    director.break_next(None)
    assert says_hello(director, arrives(director)[1]) == ()


def test_it_stands_in_place_of_the_faults_of_a_scenario_and_the_scenario_goes_on_counting() -> None:
    director = commanded()
    director.play(direct(catalogue()["rotation-intermediate"], AUTHORITY))
    director.break_next(LATE, 1)
    _, context = arrives(director)
    orders = context.run(director.orders, "127.0.0.1", "localhost", "localhost:443")
    assert (orders.scenario, orders.step, orders.faults) == ("rotation-intermediate", 1, (LATE,))
    steps = [director.orders("127.0.0.1", "localhost", "localhost:443").step for _ in range(5)]
    assert steps[-1] == 2


@pytest.mark.parametrize("own", [False, True], ids=["the-engines", "the-chains"])
async def test_who_signs_is_followed_by_another_and_is_back_when_nothing_is_ordered(own: bool) -> None:  # noqa: FBT001
    director = commanded(orders=Orders(chain=ChainOrders(authority=AUTHORITY))) if own else commanded()

    def chain() -> ChainOrders:
        return director.orders("127.0.0.1", None, "localhost:443").chain

    assert chain().authority is None
    assert await director.rotate("intermediate") == "intermediate"
    first = chain().authority
    assert first is not None
    assert (first.root, first.issuer.public_key == AUTHORITY.issuer.public_key) == (AUTHORITY.root, False)
    assert await director.rotate("intermediate") == "intermediate"
    second = chain().authority
    assert second is not None
    assert second.issuer.public_key != first.issuer.public_key
    assert await director.rotate("root") == "root"
    third = chain().authority
    assert third is not None
    assert third.root.public_key != AUTHORITY.root.public_key
    assert not third.crossed
    assert director.signs == third
    assert await director.rotate("leaf") == "leaf"
    assert chain().generation
    assert director.rotated == ("intermediate", "intermediate", "root", "leaf")
    director.stop()
    assert chain() == ChainOrders()
    assert director.signs == AUTHORITY


async def test_what_a_scenario_has_rotated_to_is_followed_too_and_what_it_makes_later_is_its_own() -> None:
    director = commanded()
    director.play(direct(catalogue()["rotation-on-call"], AUTHORITY))

    def root() -> bytes:
        authority = director.orders("127.0.0.1", None, "localhost:443").chain.authority
        assert authority is not None
        return authority.root.public_key

    roots = [root()]
    await director.rotate("root")
    roots.append(root())
    director.step_to()
    roots.append(root())
    await director.rotate("root")
    roots.append(root())
    assert len(set(roots)) == 4
    assert director.signs.root.public_key == roots[-1]


async def test_a_ca_that_cannot_sign_its_successor_says_so_and_stays() -> None:
    from dataclasses import replace

    from countersign.ca import AuthorityError

    director = commanded()
    assert director.engine is not None
    given = replace(AUTHORITY, root=replace(AUTHORITY.root, held=None))
    director.engine.signing.mint.authority = given
    with pytest.raises(AuthorityError):
        await director.rotate("intermediate")
    assert director.signs == given
    assert director.rotated == ()


async def test_contexts_of_sessions_are_those_in_which_their_clients_were_accepted() -> None:
    """What the counting of early faults rests on: a task inherits what was set where it was made, and no other's."""
    director = commanded()
    director.break_next(EARLY, 1)

    async def connection(number: int) -> tuple[WireFault, ...]:
        director.arriving("127.0.0.1")

        async def session() -> tuple[WireFault, ...]:
            await asyncio.sleep(0.01 * (2 - number))
            return director.orders("127.0.0.1", None, "localhost:443").faults

        return await asyncio.create_task(session())

    assert list(await asyncio.gather(connection(0), connection(1))) == [(EARLY,), ()]
