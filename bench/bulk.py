"""CPU that a gigabyte costs each proxy on its way from the target to the client.

Intercepted beside sslsplit and mitmproxy, or with ``--passthrough`` beside haproxy, which sees no more than bytes.

    python -m bench.bulk --megabytes 512 --rounds 5
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bench import peers

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.peers.certs import Lab

REQUEST = b"GET /big HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def download(proxy: peers.Proxy, size: int) -> None:
    buffer = bytearray(1 << 18)
    with peers.connected(proxy, peers.context(proxy)) as tls:
        tls.sendall(REQUEST)
        got = 0
        while count := tls.recv_into(buffer):
            got += count
    if got < size:
        raise SystemExit(f"{proxy.name} passed on {got} of {size} bytes")


def main() -> None:
    parser = peers.arguments(__doc__)
    parser.add_argument("--megabytes", type=int, default=512, help="in each round (default: 512)")
    parser.add_argument("--passthrough", action="store_true", help="passing through, beside haproxy")
    asked = parser.parse_args()
    size: int = asked.megabytes << 20

    def target(lab: Lab, core: int, directory: Path) -> AbstractContextManager[int]:
        return peers.target(lab.server, core, directory, size=size)

    def measure(proxy: peers.Proxy) -> float:
        before = peers.cpu(proxy.pid)
        download(proxy, size)
        time.sleep(0.3)
        return (peers.cpu(proxy.pid) - before) * 1e9 / size

    makers = peers.PASSING if asked.passthrough else peers.INTERCEPTING
    with peers.scene(peers.installed(makers, asked.only), target) as proxies:
        for proxy in proxies:
            download(proxy, size)
        figures = peers.take_turns(proxies, asked.rounds, measure, unit="s")
    how = "passed through" if asked.passthrough else "intercepted"
    peers.report(f"CPU for each GB {how}", figures, unit="s", as_json=asked.json)


if __name__ == "__main__":
    main()
