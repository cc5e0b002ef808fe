"""What the guards of conftest.py look at: our child processes, and whether an address is on this machine."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path


def children() -> dict[int, str]:
    """Our child processes, zombies too, with their command lines."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT | os.WNOHANG)
    except ChildProcessError:
        return {}
    found: dict[int, str] = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (process / "stat").read_text().rpartition(") ")[2].split()[:2]
            if int(parent) != os.getpid():
                continue
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except (OSError, ValueError):  # it ended while we looked
            continue
        if "multiprocessing.resource_tracker" in command:  # one a process, until the interpreter exits
            continue
        found[int(process.name)] = "never waited for (zombie)" if state == "Z" else command
    return found


def is_loopback(host: str) -> bool:
    """Whether connecting to this address stays on this machine; ``0.0.0.0`` and ``::`` do, on Linux."""
    host = host.partition("%")[0]
    if host in {"", "localhost"} or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return address.is_loopback or address.is_unspecified
