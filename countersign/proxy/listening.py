"""The sockets that clients connect to; several for one address where several processes serve it."""

from __future__ import annotations

import errno
import socket
import sys
from typing import TYPE_CHECKING, Any

from countersign.errors import EnvironmentFault, words_of
from countersign.proxy.ways.transparent import make_transparent

if TYPE_CHECKING:
    from collections.abc import Iterable

    from countersign.proxy.settings import Address, Settings

_BACKLOG = 1024

AddressInfo = tuple[Any, ...]
"""What ``getaddrinfo`` gives: family, type, protocol, canonical name, socket address."""


def listen_on(found: Iterable[AddressInfo], *, transparent: bool, shared: bool = False) -> list[socket.socket]:
    """A listening socket for each of these addresses. Raises :class:`OSError`; then there is none."""
    listeners: list[socket.socket] = []
    try:
        for family, _, _, _, address in dict.fromkeys(found):
            # asyncio sets TCP_NODELAY on accepted sockets whose protocol is named, and on no others
            listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
            listeners.append(listener)
            listener.setblocking(False)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if transparent:
                make_transparent(listener)
            listener.bind(address)
            listener.listen(_BACKLOG)
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def listen_for(settings: Settings, count: int) -> list[list[socket.socket]]:
    """As many listeners on the same address as there are processes; the kernel deals connections out evenly.

    Raises :class:`EnvironmentFault`.
    """
    if sys.platform != "linux":
        raise EnvironmentFault("several workers share one address on Linux only; use --workers 1")
    where = settings.listen
    try:
        found = socket.getaddrinfo(where.host, where.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # Alone first: sockets that share an address would join those of another proxy that is there already.
        alone = listen_on(found, transparent=settings.tproxy)
        bound = [(one.family, socket.SOCK_STREAM, 0, "", one.getsockname()) for one in alone]
        for one in alone:
            one.close()
        return [listen_on(bound, transparent=settings.tproxy, shared=True) for _ in range(count)]
    except OSError as error:
        raise EnvironmentFault(cannot_listen(where, error)) from None


def cannot_listen(where: Address, error: OSError) -> str:
    """Why an address cannot be had, for a person."""
    reason = {
        errno.EADDRINUSE: "something else listens there; choose another port, or 0 for any free one",
        errno.EADDRNOTAVAIL: "this machine has no such address",
        errno.EACCES: "ports below 1024 need privileges; choose a higher one",
    }.get(error.errno or 0)
    if isinstance(error, socket.gaierror):
        reason = "no address is known for that name"
    return f"cannot listen on {where}: {reason or words_of(error)}"
