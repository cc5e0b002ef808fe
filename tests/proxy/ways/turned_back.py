"""Runs inside of a network namespace of its own: a rule that turns every connection to the proxy, its own ones too.

Prints as JSON how many sessions that made, and what is said of them. Arguments: REDIRECT, and 4 or 6.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from ipaddress import ip_network

from countersign.proxy import Address, Limits, Mode
from tests.proxy.running import RunningProxy
from tests.proxy.ways.turned import ADDRESSES, PORT, do
from tests.proxy.wire import client_hello, in_records


def main(version: int) -> None:
    family, nowhere = "ip" if version == 4 else "ip6", ADDRESSES[version][3]
    width = 32 if version == 4 else 128
    do("ip", "link", "set", "lo", "up")
    do("ip", "addr", "add", f"{nowhere}/{width}", "dev", "lo", *(("nodad",) if version == 6 else ()))
    do("nft", "add", "table", family, "turn")
    do("nft", "add", "chain", family, "turn", "output", "{ type nat hook output priority -100; }")
    do("nft", "add", "rule", family, "turn", "output", *f"tcp dport 443 redirect to :{PORT}".split())
    with RunningProxy(
        mode=Mode.TRANSPARENT,
        listen=Address("0.0.0.0" if version == 4 else "::", PORT),
        allow=(ip_network("0.0.0.0/0"), ip_network("::/0")),
        verify=False,
        limits=Limits(connect=5, hello=5, stop=1),
    ) as proxy:
        with socket.create_connection((nowhere, 443), 10) as client:
            client.sendall(in_records(client_hello()))
            heard = client.recv(100)
        proxy.recordings(2)
        time.sleep(0.5)
        recordings = list(proxy.kept.finished)
    told = {"heard": heard.hex(), "said": [recording.outcome.text for recording in recordings]}
    print(json.dumps(told))  # noqa: T201 - to whoever started us


if __name__ == "__main__":
    main(int(sys.argv[1]))
