"""Transparent mode: where a connection was going before the kernel turned it to us. Linux only.

Two ways lead here, and each keeps the client's own destination in another place:

- *REDIRECT* (``nft ... redirect to :8443``, ``iptables -t nat ... REDIRECT``) rewrites the destination. Connection
  tracking remembers the one that the client had dialled: the socket option SO_ORIGINAL_DST, of IPv4 and of IPv6
  (``linux/netfilter_ipv4.h``, ``linux/netfilter_ipv6/ip6_tables.h``).
- *TPROXY* (``nft ... tproxy to :8443``) rewrites nothing: the accepted socket's own address is the destination. The
  listener needs IP_TRANSPARENT (and CAP_NET_ADMIN) to be given such connections (``ip(7)``).

A client that connects to the listener by its own address was not turned by anybody. It would send the proxy to itself;
that is refused where every target of a client is checked, in :mod:`countersign.proxy.dial`.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from countersign.errors import EnvironmentFault
from countersign.proxy.settings import Address

_SO_ORIGINAL_DST: Final = 80
"""Of SOL_IP and, under the name IP6T_SO_ORIGINAL_DST, of SOL_IPV6."""
_IP_TRANSPARENT: Final = 19
_IPV6_TRANSPARENT: Final = 75
_SOCKADDR_IN, _SOCKADDR_IN6 = 16, 28


def parse_sockaddr(data: bytes) -> Address | None:
    """A ``struct sockaddr_in`` or ``sockaddr_in6`` as the kernel gives it: the family in the machine's byte order."""
    if len(data) < 4:
        return None
    (family,) = struct.unpack_from("=H", data)
    (port,) = struct.unpack_from("!H", data, 2)
    if family == socket.AF_INET and len(data) >= 8:
        return Address(str(IPv4Address(data[4:8])), port)
    if family == socket.AF_INET6 and len(data) >= 24:
        address = IPv6Address(data[8:24])
        return Address(str(address.ipv4_mapped or address), port)
    return None


def original_destination(accepted: socket.socket) -> Address | None:
    """Where the client of an accepted connection was going; None where nobody turned it to us.

    Connection tracking is asked first; it knows nothing of a connection that came by TPROXY, whose socket has the
    destination for its own address.
    """
    mapped = accepted.family == socket.AF_INET6 and "." in str(accepted.getsockname()[0])
    if accepted.family == socket.AF_INET or mapped:
        level, size = socket.SOL_IP, _SOCKADDR_IN
    else:
        level, size = socket.IPPROTO_IPV6, _SOCKADDR_IN6
    try:
        found = parse_sockaddr(accepted.getsockopt(level, _SO_ORIGINAL_DST, size))
    except OSError as wrong:
        if wrong.errno not in {errno.ENOENT, errno.ENOPROTOOPT, errno.EOPNOTSUPP}:
            raise
        found = None
    host, port = accepted.getsockname()[:2]
    local = Address(str(host).removeprefix("::ffff:") if mapped else str(host), port)
    if found is not None and found != local:
        return found
    return local if is_transparent(accepted) else None


def is_transparent(listening: socket.socket) -> bool:
    """Whether IP_TRANSPARENT is set; what a listener has is handed on to what it accepts."""
    level, option = _transparent_option(listening)
    try:
        return bool(listening.getsockopt(level, option))
    except OSError:
        return False


def make_transparent(listening: socket.socket) -> None:
    """Let this socket be given connections to addresses that this machine does not have, for TPROXY.

    Raises :class:`EnvironmentFault` where that is not permitted, or not known.
    """
    if sys.platform != "linux":
        raise EnvironmentFault("transparent mode with TPROXY is there on Linux only; use --mode connect or socks5")
    level, option = _transparent_option(listening)
    try:
        listening.setsockopt(level, option, 1)
    except PermissionError:
        raise EnvironmentFault(
            "cannot listen for TPROXY: IP_TRANSPARENT needs CAP_NET_ADMIN; run as root or with "
            "setcap cap_net_admin+ep, or use a REDIRECT rule, which needs neither"
        ) from None
    except OSError as wrong:
        raise EnvironmentFault(f"cannot listen for TPROXY: the kernel says {wrong.strerror}; use REDIRECT") from wrong


def _transparent_option(made: socket.socket) -> tuple[int, int]:
    if made.family == socket.AF_INET6:
        return socket.IPPROTO_IPV6, _IPV6_TRANSPARENT
    return socket.SOL_IP, _IP_TRANSPARENT
