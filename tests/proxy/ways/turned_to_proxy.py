"""Runs inside of a network namespace of its own: the real proxy in transparent mode, and a TLS client behind a cable.

The target is in our own network, at an address that the client cannot know to be ours. Prints as JSON what the client
heard and what the recording says. Arguments: REDIRECT or TPROXY, and 4 or 6.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
from ipaddress import ip_network
from pathlib import Path

from countersign.proxy import Address, Mode
from tests.peers.certs import Lab
from tests.proxy.running import RunningProxy
from tests.proxy.ways.turned import ADDRESSES, PORT, cable, do, rules
from tests.proxy.wire import Target, echo, server_context

_CLIENT = """
import socket, ssl
context = ssl._create_unverified_context()
with socket.create_connection(({host!r}, {port}), 10) as plain:
    with context.wrap_socket(plain, server_hostname="localhost") as s:
        s.sendall(b"hello"); print(s.recv(10).decode())
"""


def main(how: str, version: int) -> None:
    nowhere = ADDRESSES[version][3]
    everything = "0.0.0.0" if version == 4 else "::"
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    holding = [sys.executable, "-c", "import sys; print('there', flush=True); sys.stdin.read()"]
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(["unshare", "--net", *holding], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client,
    ):
        assert client.stdout is not None
        assert client.stdin is not None
        client.stdout.readline()
        cable(client, version)
        width = 32 if version == 4 else 128
        do("ip", "addr", "add", f"{nowhere}/{width}", "dev", "lo", *(("nodad",) if version == 6 else ()))
        rules(how, version)
        target = Target.__new__(Target)
        target.__init__(echo(server_context(Lab(Path(folder)).server)), host=nowhere)  # type: ignore[misc]
        target._listener.close()
        target._listener = socket.create_server((nowhere, 443), family=family)
        with (
            target,
            RunningProxy(
                mode=Mode.TRANSPARENT,
                listen=Address(everything, PORT),
                allow=(ip_network("0.0.0.0/0"), ip_network("::/0")),
                tproxy=how == "TPROXY",
                verify=False,
            ) as proxy,
        ):
            inside = ("nsenter", f"--net=/proc/{client.pid}/ns/net", sys.executable, "-c")
            heard = subprocess.run(
                [*inside, _CLIENT.format(host=nowhere, port=443)],
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
            recording = proxy.recording()
            subprocess.run(
                [*inside, _CLIENT.format(host=ADDRESSES[version][2], port=PORT)],
                capture_output=True, timeout=30, check=False,
            )  # fmt: skip
            straight = proxy.recordings(2)[1]
        client.stdin.close()
    told = {
        "heard": heard.stdout.strip() or heard.stderr,
        "client": recording.client,
        "target": recording.target,
        "status": recording.outcome.status.value,
        "legs": [leg.role.value for leg in recording.legs],
        "straight": straight.outcome.text,
    }
    print(json.dumps(told))  # noqa: T201 - to whoever started us


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
