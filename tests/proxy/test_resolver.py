"""Names that hang: they take one thread each, hold up no other name, and nobody waits for them at the end."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from countersign.proxy.dial import DialFailed, resolve
from countersign.proxy.resolver import KEPT, Found, Resolver, ResolverBusy, system_lookup
from countersign.proxy.settings import Address
from countersign.recorder.recording import FailureCode, Party

if TYPE_CHECKING:
    from collections.abc import Iterator

FOUND: Found = [(socket.AF_INET, "192.0.2.1", 0), (socket.AF_INET6, "fe80::1", 3)]


class Names:
    """A resolver's lookup in which names that begin with ``slow`` hang until they are let go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.asked: Counter[str] = Counter()
        self.hanging = 0
        self.most_hanging = 0
        self._lock = threading.Lock()

    def __call__(self, name: str) -> Found:
        with self._lock:
            self.asked[name] += 1
        if name.startswith("slow"):
            with self._lock:
                self.hanging += 1
                self.most_hanging = max(self.most_hanging, self.hanging)
            assert self.let_go.wait(30)
            with self._lock:
                self.hanging -= 1
        if name == "unknown.test":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        if name == "odd.test":
            raise UnicodeError("label too long")
        return FOUND


@pytest.fixture
def names() -> Iterator[Names]:
    made = Names()
    yield made
    made.let_go.set()


async def gone(condition: object) -> None:
    assert callable(condition)
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.002)
    raise AssertionError("it did not come to pass")


async def test_a_name_has_its_addresses_with_the_port(names: Names) -> None:
    found = await resolve(Address("good.test", 443), limit=5, resolver=Resolver(lookup=names))
    assert found == [(socket.AF_INET, ("192.0.2.1", 443)), (socket.AF_INET6, ("fe80::1", 443, 0, 3))]


async def test_an_address_is_never_looked_up(names: Names) -> None:
    resolver = Resolver(lookup=names)
    assert await resolve(Address("192.0.2.7", 1), limit=5, resolver=resolver) == [(socket.AF_INET, ("192.0.2.7", 1))]
    assert await resolve(Address("2001:db8::1", 1), limit=5, resolver=resolver) == [
        (socket.AF_INET6, ("2001:db8::1", 1, 0, 0))
    ]
    assert not names.asked


@pytest.mark.parametrize(
    ("name", "reason"), [("unknown.test", "Name or service not known"), ("odd.test", "not a host")]
)
async def test_a_name_without_an_address_says_why(names: Names, name: str, reason: str) -> None:
    with pytest.raises(DialFailed, match=reason) as failed:
        await resolve(Address(name, 443), limit=5, resolver=Resolver(lookup=names))
    assert (failed.value.code, failed.value.by) == (FailureCode.UNKNOWN_HOST, Party.NETWORK)


async def test_a_name_that_hangs_is_given_up_and_its_thread_is_not_waited_for(names: Names) -> None:
    with pytest.raises(DialFailed, match=r"named no address of slow\.test within 0\.05 s") as failed:
        await resolve(Address("slow.test", 443), limit=0.05, resolver=Resolver(lookup=names))
    assert (failed.value.code, failed.value.by) == (FailureCode.RESOLVER_TIMEOUT, Party.NETWORK)


async def test_names_that_hang_hold_up_no_other_name(names: Names) -> None:
    """Thirty are as many as asyncio's own threads."""
    resolver = Resolver(lookup=names)
    hanging = [asyncio.create_task(resolver.addresses(f"slow{n}.test", limit=20)) for n in range(30)]
    await gone(lambda: names.hanging == 30)
    assert await resolver.addresses("good.test", limit=5) == FOUND
    names.let_go.set()
    assert await asyncio.gather(*hanging) == [FOUND] * 30


async def test_a_name_takes_one_thread_however_many_ask_for_it(names: Names) -> None:
    resolver = Resolver(lookup=names, threads=2, waiting=0)
    asking = [asyncio.create_task(resolver.addresses("slow.test", limit=20)) for _ in range(50)]
    await gone(lambda: names.hanging == 1)
    for one in asking[:20]:
        one.cancel()
    assert await resolver.addresses("good.test", limit=5) == FOUND
    names.let_go.set()
    done = await asyncio.gather(*asking, return_exceptions=True)
    assert [one for one in done if one == FOUND] == [FOUND] * 30
    assert names.asked["slow.test"] == 1


async def test_a_name_that_was_given_up_is_still_the_same_lookup(names: Names) -> None:
    resolver = Resolver(lookup=names, monotonic=lambda: now[0])
    now = [100.0]
    for _ in range(5):
        with pytest.raises(TimeoutError):
            await resolver.addresses("slow.test", limit=0.02)
    again = asyncio.create_task(resolver.addresses("slow.test", limit=20))
    await asyncio.sleep(0)
    names.let_go.set()
    assert await again == FOUND
    assert names.asked["slow.test"] == 1
    now[0] += KEPT
    assert await resolver.addresses("slow.test", limit=5) == FOUND  # answered long ago, so that it is looked up anew
    assert names.asked["slow.test"] == 2


async def test_what_was_found_is_good_for_a_moment_and_an_error_is_not(names: Names) -> None:
    now = [100.0]
    resolver = Resolver(lookup=names, monotonic=lambda: now[0])
    for _ in range(3):
        assert await resolver.addresses("good.test", limit=5) == FOUND
        with pytest.raises(socket.gaierror):
            await resolver.addresses("unknown.test", limit=5)
    assert names.asked == {"good.test": 1, "unknown.test": 3}
    now[0] += KEPT
    assert await resolver.addresses("good.test", limit=5) == FOUND
    assert names.asked["good.test"] == 2


async def test_threads_and_queue_are_bounded(names: Names) -> None:
    resolver = Resolver(lookup=names, threads=3, waiting=4)
    asking = [asyncio.create_task(resolver.addresses(f"slow{n}.test", limit=20)) for n in range(7)]
    await gone(lambda: names.hanging == 3)
    with pytest.raises(ResolverBusy):
        await resolver.addresses("good.test", limit=5)
    with pytest.raises(DialFailed, match="so many names") as failed:
        await resolve(Address("good.test", 443), limit=5, resolver=resolver)
    assert (failed.value.code, failed.value.by) == (FailureCode.RESOLVER_BUSY, Party.PROXY)
    names.let_go.set()
    assert await asyncio.gather(*asking) == [FOUND] * 7
    assert names.most_hanging == 3
    assert await resolver.addresses("good.test", limit=5) == FOUND


async def test_a_name_that_nobody_waits_for_any_more_is_not_begun(names: Names) -> None:
    resolver = Resolver(lookup=names, threads=1, waiting=2)
    first = asyncio.create_task(resolver.addresses("slow.test", limit=20))
    await gone(lambda: names.hanging == 1)
    for _ in range(10):
        with pytest.raises(TimeoutError):
            await resolver.addresses("good.test", limit=0.01)
    names.let_go.set()
    assert await first == FOUND
    assert await resolver.addresses("other.test", limit=5) == FOUND
    assert names.asked["good.test"] == 0


async def test_threads_are_used_again(names: Names) -> None:
    resolver = Resolver(lookup=names)
    for n in range(50):
        assert await resolver.addresses(f"good{n}.test", limit=5) == FOUND
    assert resolver._threads <= 2


def test_two_loops_share_a_lookup(names: Names) -> None:
    resolver = Resolver(lookup=names)
    results: list[Found] = []

    def ask() -> None:
        results.append(asyncio.run(resolver.addresses("slow.test", limit=20)))

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    names.let_go.set()
    for thread in threads:
        thread.join(10)
    assert results == [FOUND, FOUND]


def test_an_answer_for_a_loop_that_is_over_is_dropped(names: Names) -> None:
    resolver = Resolver(lookup=names)

    async def leave() -> None:
        task = asyncio.create_task(resolver.addresses("slow.test", limit=20))
        await gone(lambda: names.hanging == 1)
        task.cancel()

    asyncio.run(leave())
    names.let_go.set()
    assert asyncio.run(resolver.addresses("good.test", limit=5)) == FOUND


def test_the_end_of_the_process_waits_for_no_name() -> None:
    script = textwrap.dedent(
        """
        import asyncio, socket, time
        socket.getaddrinfo = lambda *_, **__: time.sleep(60)
        from countersign.proxy.dial import DialFailed, resolve
        from countersign.proxy.settings import Address

        async def main():
            for n in range(40):
                asyncio.create_task(resolve(Address(f"slow{n}.test", 443), limit=50))
            await asyncio.sleep(0.1)

        asyncio.run(main())
        print("ended")
        """
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout == "ended\n"
    assert "Exception" not in done.stderr


def test_the_system_knows_this_machine() -> None:
    assert any(host in {"127.0.0.1", "::1"} for _, host, _ in system_lookup("localhost"))
    assert system_lookup("127.1") == [(socket.AF_INET, "127.0.0.1", 0)]
