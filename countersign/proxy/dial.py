"""Reaching the target: names to addresses, what must not be reached, and why it could not be.

Addresses are tried one after the other in the resolver's order, a new one 250 ms after the last if that has not
answered (RFC 8305 5). Two kinds of addresses are refused where the *client* names the target: our own listeners under
any name (a proxy that talks to itself), and link-local ones (cloud metadata services live there).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING

from countersign.proxy.stream import Stream
from countersign.recorder.recording import Party
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from countersign.proxy.settings import Address

_NEXT_ADDRESS_AFTER = 0.25
_METADATA = frozenset({ip_address("169.254.169.254"), ip_address("fd00:ec2::254"), ip_address("100.100.100.200")})

SockAddr = tuple[socket.AddressFamily, tuple[str, int] | tuple[str, int, int, int]]


class DialFailed(Exception):  # noqa: N818 - an outcome of the session, not an error of the program
    """The target was not reached; ``code`` is a stable word, ``text`` ends a sentence that starts with ``by``."""

    def __init__(self, code: str, by: Party, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.by = by
        self.text = text


async def resolve(target: Address, *, limit: float) -> list[SockAddr]:
    """All stream addresses of the target. Raises :class:`DialFailed`.

    An address needs no resolver: names that are slow to resolve hold up nobody else's.
    """
    with contextlib.suppress(ValueError):
        literal = ip_address(target.host)
        if isinstance(literal, IPv4Address):
            return [(socket.AF_INET, (target.host, target.port))]
        if not literal.scope_id:
            return [(socket.AF_INET6, (target.host, target.port, 0, 0))]
    loop = asyncio.get_running_loop()
    name = printable(target.host, limit=255)
    try:
        async with asyncio.timeout(limit):
            found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except TimeoutError:
        raise DialFailed("connect-timeout", Party.NETWORK, f"named no address of {name} within {limit:g} s") from None
    except (socket.gaierror, UnicodeError) as error:
        reason = error.strerror if isinstance(error, socket.gaierror) else "not a host name"
        raise DialFailed("unknown-host", Party.NETWORK, f"knows no address of {name}: {reason}") from None
    return [(family, address) for family, _, _, _, address in found if family in {socket.AF_INET, socket.AF_INET6}]  # type: ignore[misc]


def barred(addresses: Iterable[SockAddr], own_ports: Sequence[int]) -> str | None:
    """Why a client may not have us dial these addresses, or none."""
    for _family, name in addresses:
        address = ip_address(str(name[0]).partition("%")[0])
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if address.is_link_local or address in _METADATA:
            return f"{address} is link-local, where cloud metadata services live"
        if name[1] in own_ports and _is_ours(address):
            return f"{address} port {name[1]} is this proxy itself"
    return None


def _is_ours(address: IPv4Address | IPv6Address) -> bool:
    """Whether this machine has the address: then a socket can be bound to it."""
    if address.is_loopback or address.is_unspecified:
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError:
            return False
    return True


async def dial(target: Address, addresses: Sequence[SockAddr], *, buffer: bytearray, limit: float) -> Stream:
    """A TCP connection to the first address that answers. Raises :class:`DialFailed`."""
    try:
        async with asyncio.timeout(limit):
            connected = await _first(addresses)
    except TimeoutError:
        raise DialFailed(
            "connect-timeout", Party.NETWORK, f"gave no connection to {target} within {limit:g} s"
        ) from None
    except OSError as error:
        raise _refusal(target, error) from None
    loop = asyncio.get_running_loop()
    _transport, stream = await loop.create_connection(lambda: Stream(buffer), sock=connected)
    return stream


def _refusal(target: Address, error: OSError) -> DialFailed:
    if error.errno == errno.ECONNREFUSED:
        return DialFailed("connect-refused", Party.TARGET, "refuses TCP connections (nothing listens on that port)")
    if error.errno in {errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE, errno.ENOTCONN}:
        return DialFailed("connect-reset", Party.TARGET, "resets TCP connections as soon as they stand")
    if error.errno in {errno.EMFILE, errno.ENFILE}:
        return DialFailed("no-descriptors", Party.PROXY, f"has no file descriptor left to dial {target}")
    reason = os.strerror(error.errno) if error.errno else str(error)  # asyncio's own words name no reason
    return DialFailed("unreachable", Party.NETWORK, f"gave no connection to {target}: {reason.lower()}")


async def _first(addresses: Sequence[SockAddr]) -> socket.socket:
    """Happy eyeballs: the first socket that connects; the others are closed. Raises the last OSError."""
    waiting: set[asyncio.Task[socket.socket]] = set()
    rest = list(addresses)
    last: OSError = OSError(errno.EADDRNOTAVAIL, "no address")
    try:
        while rest or waiting:
            if rest:
                waiting.add(asyncio.create_task(_connect(*rest.pop(0)), name="dial"))
            done, waiting = await asyncio.wait(
                waiting, timeout=_NEXT_ADDRESS_AFTER if rest else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                try:
                    return task.result()
                except OSError as error:
                    last = error
        raise last
    finally:
        for task in waiting:
            task.cancel()
            task.add_done_callback(_close_late)


def _close_late(task: asyncio.Task[socket.socket]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().close()


async def _connect(family: socket.AddressFamily, address: tuple[str, int] | tuple[str, int, int, int]) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(made, address)
    except BaseException:
        made.close()
        raise
    return made
