"""Reaching the target: names to addresses, what must not be reached, and why it could not be.

Addresses are tried one after the other, the families in turn, a new one 250 ms after the last if that has not
answered (RFC 8305 5). Two kinds of addresses are refused where the *client* names the target: our own listeners under
any name (a proxy that talks to itself), and those at which clouds serve machines their credentials: all that is
link-local, and the few that are not.

Half a dozen schemes write an IPv4 address into an IPv6 one, and a translator between here and the target takes it out
again. So each address that stands in another is judged as well (:func:`embedded`).
"""

from __future__ import annotations

import asyncio
import errno
import re
import socket
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from countersign.errors import words_of
from countersign.proxy.resolver import RESOLVER, ResolverBusy
from countersign.proxy.stream import Stream, address_text
from countersign.proxy.transport import SocketTransport
from countersign.proxy.ways.addressing import interleaved
from countersign.recorder.recording import FailureCode, Party
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from countersign.proxy.resolver import Resolver
    from countersign.proxy.settings import Address
    from countersign.proxy.stream import ReceiveBuffer

_NEXT_ADDRESS_AFTER = 0.25
_METADATA = frozenset(
    map(
        ip_address,
        (
            "168.63.129.16",  # Azure's WireServer
            "192.0.0.192",  # Oracle Cloud
            "100.100.100.200",  # Alibaba Cloud
            "fd00:ec2::254",  # Amazon EC2
            "fd00:ec2::23",  # Amazon EKS Pod Identity
            "fd00:a9fe:a9fe::1",  # Linode
            "fd00:c1::a9fe:a9fe",  # Oracle Cloud
            "fd00:100::100:200",  # Alibaba Cloud
            "fd20:ce::254",  # Google Cloud
            "fd00:42::42",  # Scaleway
        ),
    )
)
_METADATA_NAMES = frozenset({"metadata", "metadata.google.internal", "instance-data", "instance-data.ec2.internal"})
_OLD_IPV4 = re.compile(r"(?:0[xX][0-9A-Fa-f]+|\d+)(?:\.(?:0[xX][0-9A-Fa-f]+|\d+)){0,3}")

SockAddr = tuple[socket.AddressFamily, tuple[str, int] | tuple[str, int, int, int]]


class DialFailed(Exception):  # noqa: N818 - an outcome of the session, not an error of the program
    """The target was not reached; ``text`` ends a sentence that starts with ``by``."""

    def __init__(self, code: FailureCode, by: Party, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.by = by
        self.text = text


async def resolve(target: Address, *, limit: float, resolver: Resolver = RESOLVER) -> list[SockAddr]:
    """All stream addresses of the target. Raises :class:`DialFailed`.

    An address needs no resolver: names that are slow to resolve hold up nobody else's.
    """
    if known := literal(target):
        return known
    name = printable(target.host, limit=255)
    try:
        found = await resolver.addresses(target.host, limit=limit)
    except TimeoutError:
        text = f"named no address of {name} within {limit:g} s"
        raise DialFailed(FailureCode.RESOLVER_TIMEOUT, Party.NETWORK, text) from None
    except ResolverBusy:
        text = f"is waiting for the addresses of so many names that it does not ask for {name}"
        raise DialFailed(FailureCode.RESOLVER_BUSY, Party.PROXY, text) from None
    except (socket.gaierror, UnicodeError) as error:
        reason = error.strerror if isinstance(error, socket.gaierror) else "not a host name"
        cure = "" if error.args[:1] == (socket.EAI_AGAIN,) else "; check the name"
        text = f"knows no address of {name}: {reason}{cure}"
        raise DialFailed(FailureCode.UNKNOWN_HOST, Party.NETWORK, text) from None
    return [
        (family, (host, target.port) if family == socket.AF_INET else (host, target.port, 0, scope))
        for family, host, scope in found
    ]


def literal(target: Address) -> list[SockAddr]:
    """The address that stands in the target itself, if it is one; with a scope it has to be looked up.

    IPv4 addresses are read as resolvers read them: in hex, octal, with fewer than four parts (POSIX ``inet_addr``).
    """
    host = target.host.removesuffix(".")
    address = _written_in(host)
    if address is None:
        return []
    if isinstance(address, IPv4Address):
        return [(socket.AF_INET, (str(address), target.port))]
    return [] if address.scope_id else [(socket.AF_INET6, (target.host, target.port, 0, 0))]


@lru_cache(maxsize=256)
def _written_in(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(socket.inet_aton(host)) if _OLD_IPV4.fullmatch(host) else ip_address(host)
    except (OSError, ValueError):
        return None


# -- what a client may not have us dial ----------------------------------------------------------------------------


def barred_name(target: Address, own_ports: Sequence[int]) -> str | None:
    """Why a client may not have us ask for this name, or none; for where somebody else looks it up."""
    name = target.host.lower().removesuffix(".")
    if name in _METADATA_NAMES:
        return f"{name} is a cloud's metadata service"
    if target.port in own_ports and (
        name in {"localhost", socket.gethostname().lower()} or name.endswith(".localhost")
    ):
        return f"{name} port {target.port} is this proxy itself"
    return None


def barred(addresses: Iterable[SockAddr], own_ports: Sequence[int]) -> str | None:
    """Why a client may not have us dial these addresses, or none."""
    for _family, name in addresses:
        whole = ip_address(str(name[0]).partition("%")[0])
        for address in (whole, *embedded(whole)):
            shown = f"{whole}" if address == whole else f"{whole}, in which {address} is,"
            if address.is_link_local:
                return f"{shown} is link-local, where cloud metadata services live"
            if address in _METADATA:
                return f"{shown} is a cloud's metadata service"
            if name[1] in own_ports and _is_ours(address):
                return f"{shown} port {name[1]} is this proxy itself"
    return None


_NAT64 = IPv6Network("64:ff9b::/96")
_NAT64_LOCAL = IPv6Network("64:ff9b:1::/48")
_6TO4 = IPv6Network("2002::/16")
_TEREDO = IPv6Network("2001::/32")
_TRANSLATED = IPv6Network("::ffff:0:0:0/96")
_IN_THE_LAST_BITS = (IPv6Network("::/96"), IPv6Network("::ffff:0:0/96"), _TRANSLATED, _NAT64)
_ISATAP = frozenset({0x00005EFE, 0x02005EFE})


def embedded(address: IPv4Address | IPv6Address) -> Iterator[IPv4Address]:
    """The IPv4 addresses that stand in an IPv6 address, by every scheme that it may be of.

    IPv4-compatible and IPv4-mapped (RFC 4291 2.5.5), IPv4-translated (RFC 2765 2.1), NAT64 (RFC 6052 2.2 with its
    well-known prefix and with the one for local use of RFC 8215, of which each operator takes a part), 6to4 (RFC 3056
    2), Teredo (RFC 4380 4: its server, and its client with all bits turned), ISATAP (RFC 5214 6.1).
    """
    if isinstance(address, IPv4Address):
        return
    number = int(address)
    if number > 1 and any(address in network for network in _IN_THE_LAST_BITS):
        yield IPv4Address(number & 0xFFFFFFFF)
    elif address in _NAT64_LOCAL:
        octets = address.packed
        without_u = octets[:8] + octets[9:]  # bits 64 to 71 are left out of an address that runs across them
        for prefix in (6, 7, 8):
            yield IPv4Address(without_u[prefix : prefix + 4])
        yield IPv4Address(octets[12:])
    elif address in _6TO4:
        yield IPv4Address(number >> 80 & 0xFFFFFFFF)
    elif address in _TEREDO:
        yield IPv4Address(number >> 64 & 0xFFFFFFFF)
        yield IPv4Address(~number & 0xFFFFFFFF)
    if number >> 32 & 0xFFFFFFFF in _ISATAP:
        yield IPv4Address(number & 0xFFFFFFFF)


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


# -- dialling ------------------------------------------------------------------------------------------------------


class Dialled:
    """The connections that an engine has made, so that one which a rule of the network turns back to it is known (in
    transparent mode, where rules do that).

    It comes from where ours comes from, and was going where ours was going. Where it comes from is not enough: one port
    of ours can be used for connections to several places.
    """

    def __init__(self) -> None:
        self._open: WeakValueDictionary[tuple[str, str], socket.socket] = WeakValueDictionary()

    def note(self, connection: socket.socket) -> None:
        ends = address_text(connection.getsockname()), address_text(connection.getpeername())
        self._open[ends] = connection

    def has(self, peer: str, destination: Address | None) -> bool:
        """Whether a client from there (``127.0.0.1:443``), which was going to ``destination``, is one of them."""
        found = self._open.get((peer, str(destination)))
        return found is not None and found.fileno() >= 0


async def dial(
    target: Address,
    addresses: Sequence[SockAddr],
    *,
    buffer: ReceiveBuffer,
    limit: float,
    source: IPv4Address | IPv6Address | None = None,
    dialled: Dialled | None = None,
) -> Stream:
    """A TCP connection to the first address that answers, from ``source``. Raises :class:`DialFailed`."""
    connected = await connect(target, addresses, limit=limit, source=source, dialled=dialled)
    return SocketTransport.begin(Stream(buffer), connected)


async def connect(
    target: Address,
    addresses: Sequence[SockAddr],
    *,
    limit: float,
    source: IPv4Address | IPv6Address | None,
    dialled: Dialled | None = None,
) -> socket.socket:
    """The same as a bare socket."""
    if source is not None:
        family = socket.AF_INET if source.version == 4 else socket.AF_INET6
        addresses = [address for address in addresses if address[0] == family]
        if not addresses:
            text = f"has no address of {target} that can be dialled from {source}: it has none of IPv{source.version}"
            raise DialFailed(FailureCode.UNREACHABLE, Party.PROXY, text)
    try:
        async with asyncio.timeout(limit):
            return await _first(interleaved(addresses), source, dialled)
    except TimeoutError:
        raise DialFailed(
            FailureCode.DIAL_TIMEOUT, Party.NETWORK, f"gave no connection to {target} within {limit:g} s"
        ) from None
    except OSError as error:
        raise _refusal(target, error) from None


def _refusal(target: Address, error: OSError) -> DialFailed:
    if error.errno == errno.ECONNREFUSED:
        return DialFailed(
            FailureCode.DIAL_REFUSED, Party.TARGET, "refuses TCP connections (nothing listens on that port)"
        )
    if error.errno in {errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE, errno.ENOTCONN}:
        return DialFailed(FailureCode.DIAL_RESET, Party.TARGET, "resets TCP connections as soon as they stand")
    if error.errno in {errno.EMFILE, errno.ENFILE}:
        return DialFailed(FailureCode.NO_DESCRIPTORS, Party.PROXY, f"has no file descriptor left to dial {target}")
    return DialFailed(FailureCode.UNREACHABLE, Party.NETWORK, f"gave no connection to {target}: {words_of(error)}")


async def _first(
    addresses: Sequence[SockAddr],
    source: IPv4Address | IPv6Address | None = None,
    dialled: Dialled | None = None,
) -> socket.socket:
    """Happy eyeballs: the first socket that connects; the others are closed. Raises the last OSError."""
    if len(addresses) == 1:  # then there is nobody to race
        return await _connect(*addresses[0], source, dialled)
    dials: list[asyncio.Task[socket.socket]] = []
    waiting: set[asyncio.Task[socket.socket]] = set()
    rest = list(addresses)
    last: OSError = OSError(errno.EADDRNOTAVAIL, "no address")
    try:
        while rest or waiting:
            if rest:
                dials.append(asyncio.create_task(_connect(*rest.pop(0), source, dialled), name="dial"))
                waiting.add(dials[-1])
            done, waiting = await asyncio.wait(
                waiting, timeout=_NEXT_ADDRESS_AFTER if rest else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                try:
                    connected = task.result()
                except OSError as error:
                    last = error
                else:
                    dials.remove(task)
                    return connected
        raise last
    finally:
        for task in dials:
            task.cancel()
            task.add_done_callback(_close_late)


def _close_late(task: asyncio.Task[socket.socket]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().close()


async def _connect(
    family: socket.AddressFamily,
    address: tuple[str, int] | tuple[str, int, int, int],
    source: IPv4Address | IPv6Address | None,
    dialled: Dialled | None,
) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setblocking(False)
    try:
        if source is not None:
            made.bind((str(source), 0))
        await asyncio.get_running_loop().sock_connect(made, address)
        if dialled is not None:
            dialled.note(made)  # before whoever has been reached can have sent us on
    except BaseException:
        made.close()
        raise
    return made
