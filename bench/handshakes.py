"""CPU that one intercepted handshake costs each proxy, everything recorded and stored by ours.

The client makes full handshakes one after the other and gets a line through each, so that both legs are known to be
done. sslsplit takes part with P-256 leaves, as ours are, unless told to make the RSA-2048 ones of its defaults.

    python -m bench.handshakes --handshakes 400 --rounds 5 --tls 1.3 --json
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bench import peers

if TYPE_CHECKING:
    import ssl
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.peers.certs import Lab

WARM_UP = 40
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def handshakes(proxy: peers.Proxy, count: int, version: ssl.TLSVersion) -> None:
    how = peers.context(proxy, version)
    for _ in range(count):
        with peers.connected(proxy, how) as tls:
            tls.sendall(REQUEST)
            if not tls.recv(100):
                raise SystemExit(f"{proxy.name} closed instead of answering")


def main() -> None:
    parser = peers.arguments(__doc__)
    parser.add_argument("--handshakes", type=int, default=400, help="in each round (default: 400)")
    parser.add_argument("--tls", choices=peers.VERSIONS, default="1.3", help="the client's version (default: 1.3)")
    parser.add_argument(
        "--rsa-target", action="store_true", help="a target with an RSA-2048 leaf instead of ECDSA P-256"
    )
    parser.add_argument("--sslsplit-rsa", action="store_true", help="sslsplit with the RSA leaf key of its defaults")
    parser.add_argument("--resume", action="store_true", help="let the proxies resume with the target")
    asked = parser.parse_args()
    version = peers.VERSIONS[asked.tls]
    count: int = asked.handshakes

    def target(lab: Lab, core: int, directory: Path) -> AbstractContextManager[int]:
        leaf = lab.issue("localhost", key="rsa-2048") if asked.rsa_target else lab.server
        return peers.target(leaf, core, directory, resume=asked.resume)

    def measure(proxy: peers.Proxy) -> float:
        before = peers.cpu(proxy.pid)
        handshakes(proxy, count, version)
        time.sleep(0.3)  # what it does after the close (writing its record, say) is its work too
        return (peers.cpu(proxy.pid) - before) * 1000 / count

    makers = peers.INTERCEPTING | ({"sslsplit": peers.with_rsa_leaves} if asked.sslsplit_rsa else {})
    with peers.scene(peers.installed(makers, asked.only), target) as proxies:
        for proxy in proxies:
            handshakes(proxy, WARM_UP, version)
        figures = peers.take_turns(proxies, asked.rounds, measure, unit="ms")
    kind = "RSA-2048" if asked.rsa_target else "ECDSA P-256"
    title = f"CPU for each intercepted TLS {asked.tls} handshake, target with {kind}"
    peers.report(title, figures, unit="ms", as_json=asked.json)


if __name__ == "__main__":
    main()
