"""What a proxy adds to a new connection, with 200 others open and arrivals at half of its best rate.

First the best rate is found, with connections made back to back. Then connections arrive at random moments, at half of
that rate, each for one request; the time from connect to the answer is taken, and the time that a direct connection
takes under the same arrivals is taken off once for each leg.

    python -m bench.latency --seconds 20
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import statistics
import sys
import time
from typing import TYPE_CHECKING

from bench import peers

if TYPE_CHECKING:
    import ssl

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
BACK_TO_BACK = 8
SEED = 1


async def once(port: int, how: ssl.SSLContext) -> float:
    """Seconds from connect to the first byte of the answer."""
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=how, server_hostname="localhost")
    writer.write(REQUEST)
    if not await reader.read(100):
        raise SystemExit("a connection was closed instead of answered")
    took = time.perf_counter() - began
    writer.transport.abort()
    return took


async def best_rate(port: int, how: ssl.SSLContext, seconds: float) -> float:
    """Connections a second, several at a time without a pause."""
    until, done = time.perf_counter() + seconds, 0

    async def one_after_the_other() -> None:
        nonlocal done
        while time.perf_counter() < until:
            await once(port, how)
            done += 1

    await asyncio.gather(*(one_after_the_other() for _ in range(BACK_TO_BACK)))
    return done / seconds


async def arrivals(port: int, how: ssl.SSLContext, rate: float, seconds: float) -> list[float]:
    """How long each took of those that came at random moments (a Poisson process), no matter how the others fare."""
    draw = random.Random(SEED)
    tasks, until = [], time.perf_counter() + seconds
    while (now := time.perf_counter()) < until:
        tasks.append(asyncio.create_task(once(port, how)))
        await asyncio.sleep(max(0.0, now + draw.expovariate(rate) - time.perf_counter()))
    return await asyncio.gather(*tasks)


async def with_others_open(port: int, how: ssl.SSLContext, others: int, rate: float, seconds: float) -> list[float]:
    async with contextlib.AsyncExitStack() as held:
        for _ in range(others):
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=how, server_hostname="localhost")
            held.callback(writer.transport.abort)
        return await arrivals(port, how, rate, seconds)


def quantile(values: list[float], share: float) -> float:
    return statistics.quantiles(values, n=1000)[round(share * 1000) - 1] * 1000


def main() -> None:
    parser = peers.arguments(__doc__)
    parser.add_argument("--seconds", type=float, default=15, help="of arrivals (default: 15)")
    parser.add_argument("--others", type=int, default=200, help="connections that stay open (default: 200)")
    asked = parser.parse_args()
    figures: dict[str, list[float]] = {}
    makers = {"direct": peers.direct} | peers.installed(peers.INTERCEPTING, asked.only)
    with peers.scene(makers, lambda lab, core, directory: peers.target(lab.server, core, directory)) as proxies:
        direct = proxies.pop(0)
        for proxy in proxies:
            how = peers.context(proxy)
            rate = asyncio.run(best_rate(proxy.port, how, 4)) / 2
            ours = asyncio.run(with_others_open(proxy.port, how, asked.others, rate, asked.seconds))
            alone = asyncio.run(with_others_open(direct.port, peers.context(direct), asked.others, rate, asked.seconds))
            added = quantile(ours, 0.99) - 2 * quantile(alone, 0.99)
            line = ", ".join(
                f"{what} p50 {quantile(times, 0.5):.1f} ms, p99 {quantile(times, 0.99):.1f} ms"
                for what, times in {proxy.name: ours, "direct": alone}.items()
            )
            print(f"{rate:.0f} a second: {line}", file=sys.stderr)
            figures[proxy.name] = [added]
    peers.report("p99 of a new connection, less two direct ones", figures, unit="ms", as_json=asked.json)


if __name__ == "__main__":
    main()
