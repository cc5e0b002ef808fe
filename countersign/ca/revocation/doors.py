"""Ports that can be closed without being lost.

To refuse a connection the port must be closed, and yet nobody else may take it meanwhile. So every port is held by a
socket that is bound and never listens, and the one that listens is opened and closed beside it; the holder allows a
second socket on its port (SO_REUSEADDR) only for the moment that this takes.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

from countersign.recorder.wire.text import host_port

if TYPE_CHECKING:
    from collections.abc import Callable

    from countersign.ca.revocation.faults import Kind


class Door:
    """A port that is ours whether it is open or not; see the top of the module.

    ``behind`` is what is asked for there, the name in an issuer's URLs and a kind of URL, or ``None`` for everything.
    """

    def __init__(self, where: tuple[Any, ...], port: int, behind: tuple[str, Kind] | None) -> None:
        self._family, address = where[0], where[4]
        self.behind = behind
        self._server: asyncio.Server | None = None
        self._holder = self._bound((address[0], port, *address[2:]))
        self._address = self._holder.getsockname()
        try:
            with self._bound(self._address) as trial:  # whether it can be listened on; and Linux checks the port anew
                trial.listen()
            self._let_others_in(allow=False)
        except BaseException:
            self._holder.close()
            raise

    def _bound(self, address: tuple[Any, ...]) -> socket.socket:
        made = socket.socket(self._family, socket.SOCK_STREAM)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(address)
        except BaseException:
            made.close()
            raise
        return made

    def _let_others_in(self, *, allow: bool) -> None:
        self._holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(allow))

    @property
    def host(self) -> str:
        return str(self._address[0])

    @property
    def port(self) -> int:
        return int(self._address[1])

    @property
    def address(self) -> str:
        return host_port(self.host, self.port)

    async def open(self, make: Callable[[], asyncio.Protocol]) -> None:
        if self._server is not None:
            return
        self._let_others_in(allow=True)
        try:
            listener = self._bound(self._address)
            self._server = await asyncio.get_running_loop().create_server(make, sock=listener, backlog=128)
        finally:
            self._let_others_in(allow=False)

    def shut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def close(self) -> None:
        self.shut()
        self._holder.close()
