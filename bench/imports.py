"""CPU and memory that an import takes, beside ``tshark -T json -Y tls.handshake`` on the same capture and key log.

The capture is made here: full handshakes in memory, half of them TLS 1.3 and half TLS 1.2, with tickets, a request and
an answer, and a goodbye, in packets made by hand, and the key log beside it. Both programs run alone on one core, one
after the other, round by round; what counts is their user and system time, and the most memory they had.

    python -m bench.imports --handshakes 2000 --rounds 3 --json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from OpenSSL import SSL

from countersign.recorder.files._tcp import Conversation, Endpoint
from countersign.recorder.wire.events import Side
from tests.peers.certs import Lab

if TYPE_CHECKING:
    from collections.abc import Iterator

    from OpenSSL.SSL import Connection

VERSIONS = {"1.3": SSL.TLS1_3_VERSION, "1.2": SSL.TLS1_2_VERSION}
LINKTYPE_RAW = 101


class Cost(NamedTuple):
    """Of one run: seconds of CPU, and the most memory in MiB."""

    cpu: float
    memory: float


# The capture


def handshakes(lab: Lab, count: int, keylog: Path, data: int) -> Iterator[list[tuple[Side, bytes]]]:
    """What both sides of each connection sent, in order, 1.3 and 1.2 in turns."""
    with keylog.open("wb") as keys:

        def write(_: Connection, line: bytes) -> None:
            keys.write(line + b"\n")

        contexts = {}
        for name, version in VERSIONS.items():
            server, client = SSL.Context(SSL.TLS_METHOD), SSL.Context(SSL.TLS_METHOD)
            server.use_certificate_file(str(lab.server.cert_pem))
            server.use_privatekey_file(str(lab.server.key_pem))
            for issuer in lab.server.issuers[:-1]:
                server.add_extra_chain_cert(issuer)
            for context in (server, client):
                context.set_min_proto_version(version)
                context.set_max_proto_version(version)
                context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
            client.set_keylog_callback(write)
            contexts[name] = client, server
        for number in range(count):
            yield list(conversation(*contexts["1.3" if number % 2 == 0 else "1.2"], data))


def conversation(client_context: SSL.Context, server_context: SSL.Context, data: int) -> Iterator[tuple[Side, bytes]]:
    client, server = SSL.Connection(client_context, None), SSL.Connection(server_context, None)
    client.set_connect_state()
    client.set_tlsext_host_name(b"server.lab.test")
    server.set_accept_state()
    ends = {Side.CLIENT: client, Side.SERVER: server}
    for step in (SSL.Connection.do_handshake, None, SSL.Connection.shutdown):
        for side, end in ends.items():
            if step is None:
                end.sendall(b"GET / HTTP/1.1\r\n\r\n" if side is Side.CLIENT else b"a" * data)
        for _ in range(6):
            for side, end in ends.items():
                try:
                    if step is not None:
                        step(end)
                    else:
                        end.recv(65536)
                except (SSL.WantReadError, SSL.ZeroReturnError, SSL.Error):
                    pass
                sent = drained(end)
                if sent:
                    yield side, sent
                    ends[side.peer].bio_write(sent)


def drained(end: Connection) -> bytes:
    sent = b""
    while True:
        try:
            sent += end.bio_read(65536)
        except SSL.WantReadError:
            return sent


def write_capture(path: Path, keylog: Path, count: int, lab: Lab, data: int) -> None:
    """A pcap file; the connections overlap by eight, as on a busy wire."""
    overlap = 8
    clock = 1_763_700_000_000_000
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 0x40000, LINKTYPE_RAW))
        waiting: list[Iterator[bytes]] = []
        made = handshakes(lab, count, keylog, data)
        number = 0
        while True:
            while len(waiting) < overlap and (said := next(made, None)) is not None:
                waiting.append(packets(said, number))
                number += 1
            if not waiting:
                return
            for one in list(waiting):
                packet = next(one, None)
                if packet is None:
                    waiting.remove(one)
                    continue
                clock += 50
                file.write(struct.pack("<IIII", clock // 10**6, clock % 10**6, len(packet), len(packet)) + packet)


def packets(said: list[tuple[Side, bytes]], number: int) -> Iterator[bytes]:
    client = Endpoint(IPv4Address("10.0.0.1") + number // 20_000, 40_000 + number % 20_000)
    tcp = Conversation(client, Endpoint(IPv4Address("192.0.2.7"), 443))
    yield from tcp.open()
    for side, sent in said:
        yield from tcp.send(side, sent)
    yield from tcp.finish(Side.CLIENT)
    yield from tcp.finish(Side.SERVER)


# What is measured


def run(words: list[str], core: int, out: Path) -> Cost:
    with out.open("wb") as output:
        process = subprocess.Popen(
            words,
            stdout=output,
            stderr=subprocess.PIPE,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),  # noqa: PLW1509  # no thread of ours runs yet
        )
        assert process.stderr
        error = process.stderr.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(words)}: exit code {process.returncode}\n{error.decode(errors='replace')}")
    return Cost(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    arguments.add_argument("--handshakes", type=int, default=2000, help="half TLS 1.3, half TLS 1.2 (default: 2000)")
    arguments.add_argument("--rounds", type=int, default=3, help="of each program (default: 3)")
    arguments.add_argument("--data", type=int, default=2000, help="bytes of each answer (default: 2000)")
    arguments.add_argument("--keep", type=Path, help="write capture.pcap and keys.txt into this folder, and stop")
    arguments.add_argument("--json", action="store_true", help="print JSON instead of a table")
    asked = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = asked.keep or Path(folder)
        capture, keylog = scratch / "capture.pcap", scratch / "keys.txt"
        write_capture(capture, keylog, asked.handshakes, Lab(Path(folder) / "lab"), asked.data)
        if asked.keep:
            return
        core = max(os.sched_getaffinity(0))
        rounds: dict[str, list[Cost]] = {"countersign": [], "tshark": []}
        if not shutil.which("tshark"):
            del rounds["tshark"]
            print("tshark is not installed: countersign alone is measured", file=sys.stderr)
        for number in range(asked.rounds):
            ours = [sys.executable, "-m", "countersign", "import", str(capture), "--keylog", str(keylog)]
            words = {
                "countersign": [*ours, "--home", str(scratch / f"home-{number}")],
                "tshark": ["tshark", "-n", "-r", str(capture), "-o", f"tls.keylog_file:{keylog}"],
            }
            words["tshark"] += ["-T", "json", "-Y", "tls.handshake"]
            for name, costs in rounds.items():
                costs.append(run(words[name], core, scratch / "output"))
            if not asked.json:
                figures = "   ".join(f"{name} {c[-1].cpu:.2f} s, {c[-1].memory:.0f} MiB" for name, c in rounds.items())
                print(f"round {number + 1}: {figures}", flush=True)
        size = capture.stat().st_size
    medians = {name: statistics.median(cost.cpu for cost in costs) for name, costs in rounds.items()}
    memory = {name: max(cost.memory for cost in costs) for name, costs in rounds.items()}
    ratio = medians["countersign"] / medians["tshark"] if len(rounds) == 2 else None
    if asked.json:
        report = {"handshakes": asked.handshakes, "bytes": size, "cpu_s": medians, "memory_mib": memory, "ratio": ratio}
        print(json.dumps(report | {"python": platform.python_version()}))
        return
    for name, median in medians.items():
        each = median * 1000 / asked.handshakes
        print(f"{name}: {median:.2f} s of CPU, {each:.2f} ms for each handshake, at most {memory[name]:.0f} MiB")
    if ratio is not None:
        print(f"ratio, countersign to tshark: {ratio:.2f}")


if __name__ == "__main__":
    main()
