"""Whether a proxy that is used for long grows: connections one after the other, and some that stay, for minutes.

Every connection makes a full handshake and a request; each tenth stays until a hundred others do. What counts
is resident memory: its course is printed, and how much the last half has added for each connection.

    python -m bench.soak --minutes 10
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import sys
import time
from typing import TYPE_CHECKING

from bench import peers

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.peers.certs import Lab

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
_HELD = 100
_SAMPLES = 20


def _end(held: Iterable[contextlib.ExitStack]) -> None:
    for each in held:
        each.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10, help="how long (default: 10)")
    parser.add_argument("--rate", type=float, default=50, help="connections a second at most (default: 50)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a sentence")
    asked = parser.parse_args()
    makers = peers.installed({"countersign": peers.countersign})

    def target(lab: Lab, core: int, directory: Path) -> AbstractContextManager[int]:
        return peers.target(lab.server, core, directory)

    course: list[tuple[int, int]] = []
    with peers.scene(makers, target) as (proxy,), contextlib.ExitStack() as stack:
        how = peers.context(proxy)
        held: collections.deque[contextlib.ExitStack] = collections.deque()
        stack.callback(_end, held)
        began, made = time.monotonic(), 0
        course.append((made, peers.memory(proxy.pid)))
        every = asked.minutes * 60 / _SAMPLES
        while (passed := time.monotonic() - began) < asked.minutes * 60:
            one = contextlib.ExitStack()
            tls = one.enter_context(peers.connected(proxy, how))
            held.append(one)
            tls.sendall(REQUEST)
            if not tls.recv(1000):
                raise SystemExit("the proxy closed instead of answering")
            made += 1
            if made % 10:
                held.pop().close()
            elif len(held) > _HELD:
                held.popleft().close()
            if passed >= every * len(course):
                course.append((made, peers.memory(proxy.pid)))
                print(f"{passed:6.0f} s: {made} connections, {course[-1][1] / 1e6:.1f} MB", file=sys.stderr, flush=True)
            time.sleep(max(0.0, made / asked.rate - passed))
        course.append((made, peers.memory(proxy.pid)))
    middle, last = course[(len(course) - 1) // 2], course[-1]
    each = (last[1] - middle[1]) / max(1, last[0] - middle[0])
    if asked.json:
        print(json.dumps({"connections": made, "course": course, "bytes for each in the last half": each}))
        return
    print(f"{made} connections in {asked.minutes:g} minutes: {each:.0f} bytes more for each in the last half")


if __name__ == "__main__":
    main()
