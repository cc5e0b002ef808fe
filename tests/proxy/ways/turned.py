"""Runs inside of a network namespace of its own (``unshare -n``): a router that turns its clients' connections to us.

A second namespace behind a virtual cable is the client. Each case is one connection of it to an address that nobody
has; what our side finds out about it is printed as JSON. Arguments: REDIRECT or TPROXY, and 4 or 6.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from typing import Any

from countersign.proxy.ways.transparent import is_transparent, make_transparent, original_destination

PORT = 8443
ADDRESSES = {
    4: ("10.77.0.1/24", "10.77.0.2/24", "10.77.0.1", "203.0.113.5"),
    6: ("fd77::1/64", "fd77::2/64", "fd77::1", "2001:db8::5"),
}


def do(*words: str) -> None:
    subprocess.run(words, check=True, timeout=20)


def cable(client: subprocess.Popen[bytes], version: int) -> None:
    """Here ``near``, over there ``far``, which sends everything to us."""
    here, there, gateway, _ = ADDRESSES[version]
    inside = ("nsenter", f"--net=/proc/{client.pid}/ns/net", "ip")
    no_dad = ("nodad",) if version == 6 else ()
    do("ip", "link", "set", "lo", "up")
    do("ip", "link", "add", "near", "type", "veth", "peer", "name", "far", "netns", str(client.pid))
    do("ip", "addr", "add", here, "dev", "near", *no_dad)
    do("ip", "link", "set", "near", "up")
    do(*inside, "addr", "add", there, "dev", "far", *no_dad)
    do(*inside, "link", "set", "far", "up")
    do(*inside, "route", "add", "default", "via", gateway)


def rules(how: str, version: int) -> None:
    family = "ip" if version == 4 else "ip6"
    if how == "REDIRECT":
        chain = "{ type nat hook prerouting priority dstnat; }"
        rule = f"iifname near tcp dport 443 redirect to :{PORT}"
    else:
        chain = "{ type filter hook prerouting priority mangle; }"
        rule = f"iifname near tcp dport 443 tproxy to :{PORT} meta mark set 1 accept"
        do("ip", f"-{version}", "rule", "add", "fwmark", "1", "lookup", "100")
        do("ip", f"-{version}", "route", "add", "local", "default", "dev", "lo", "table", "100")
    do("nft", "add", "table", family, "turn")
    do("nft", "add", "chain", family, "turn", "prerouting", chain)
    do("nft", "add", "rule", family, "turn", "prerouting", *rule.split())


def connection(listening: socket.socket, client: subprocess.Popen[bytes], host: str, port: int) -> dict[str, Any]:
    """One connection of the client, and where we think it was going."""
    dialling = (
        "import socket, sys\n"
        f"with socket.create_connection(({host!r}, {port}), 10) as s:\n"
        "    s.sendall(b'hello'); print(s.recv(10).decode())"
    )
    inside = ("nsenter", f"--net=/proc/{client.pid}/ns/net", sys.executable, "-c", dialling)
    with subprocess.Popen(inside, stdout=subprocess.PIPE) as talking:
        accepted, peer = listening.accept()
        with accepted:
            accepted.settimeout(10)
            found = original_destination(accepted)
            heard = accepted.recv(10)
            accepted.sendall(b"answer")
        said, _ = talking.communicate(timeout=20)
    return {
        "destination": None if found is None else str(found),
        "client": peer[0],
        "heard": heard.decode(),
        "answer": said.decode().strip(),
    }


def main(how: str, version: int) -> None:
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    holding = [sys.executable, "-c", "import sys; print('there', flush=True); sys.stdin.read()"]
    with (
        subprocess.Popen(["unshare", "--net", *holding], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client,
        socket.socket(family, socket.SOCK_STREAM) as listening,
    ):
        assert client.stdout is not None
        assert client.stdin is not None
        client.stdout.readline()
        listening.settimeout(20)
        if how == "TPROXY":
            make_transparent(listening)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("::" if version == 6 else "0.0.0.0", PORT))
        listening.listen()
        cable(client, version)
        rules(how, version)
        _, _, gateway, nowhere = ADDRESSES[version]
        found = {
            "transparent": is_transparent(listening),
            "turned": connection(listening, client, nowhere, 443),
            "straight": connection(listening, client, gateway, PORT),
        }
        client.stdin.close()
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
