"""Memory that an idle intercepted connection keeps in each proxy.

Connections are made one by one and stay open, each after a request, or with ``--after-bulk`` after a megabyte; what
counts is how the proxy's resident memory grew.

    python -m bench.idle --connections 1000
    python -m bench.idle --connections 9000 --only countersign --rounds 1      # within 20,000 descriptors
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from bench import peers

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.peers.certs import Lab

MEGABYTE = 1 << 20
WARM_UP = 50


def main() -> None:
    parser = peers.arguments(__doc__, rounds=3)
    parser.add_argument("--connections", type=int, default=1000, help="held at once (default: 1000)")
    parser.add_argument("--after-bulk", action="store_true", help="each after a transfer of a megabyte")
    asked = parser.parse_args()
    path = "/big" if asked.after_bulk else "/"
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()

    def target(lab: Lab, core: int, directory: Path) -> AbstractContextManager[int]:
        return peers.target(lab.server, core, directory, size=MEGABYTE)

    def hold(proxy: peers.Proxy, count: int) -> float:
        """Bytes for each of so many connections."""
        how = peers.context(proxy)
        before = peers.memory(proxy.pid)
        with contextlib.ExitStack() as held:
            for number in range(count):
                tls = held.enter_context(peers.connected(proxy, how))
                tls.sendall(request)
                expected = MEGABYTE if asked.after_bulk else 1
                got = 0
                while got < expected:
                    if not (data := tls.recv(1 << 16)):
                        raise SystemExit(f"{proxy.name} closed connection {number + 1} of {count}")
                    got += len(data)
            time.sleep(2)  # what it does when idle, it has done
            return (peers.memory(proxy.pid) - before) / count

    makers = peers.installed(peers.INTERCEPTING, asked.only)
    figures: dict[str, list[float]] = {name: [] for name in makers}
    for _ in range(asked.rounds):  # each with new processes: what a round leaves behind, the next one would use again
        with peers.scene(makers, target) as proxies:
            for proxy in proxies:
                hold(proxy, WARM_UP)
                figures[proxy.name].append(hold(proxy, asked.connections) / 1000)
    peers.report("memory for each idle intercepted connection", figures, unit="KB", as_json=asked.json)


if __name__ == "__main__":
    main()
