"""Out through an upstream proxy: each connection to a target is one to that proxy, and a dialogue in it.

The dialogue is decided by machines (:mod:`.ways.http_out`, :mod:`.ways.socks`); what a proxy wants to be shown is
learnt once (:class:`~.ways.digest.Authenticator`) and shown at once by all later connections. An ``https://`` proxy is
spoken to inside of TLS of its own: the chain of that proxy is always verified, against the system's roots and those of
``--upstream-ca``, for a password goes there.

Names of targets are resolved by the proxy, as with every client of one.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
from typing import TYPE_CHECKING, Any

from countersign.errors import EnvironmentFault
from countersign.proxy.dial import DialFailed, barred, connect, resolve
from countersign.proxy.stream import Stream
from countersign.proxy.transport import SocketTransport
from countersign.proxy.ways.digest import Authenticator
from countersign.proxy.ways.events import Ready, Redial, Refused, Send
from countersign.proxy.ways.http_out import ConnectThrough
from countersign.proxy.ways.socks import SocksClient
from countersign.recorder.recording import Ending, FailureCode, Party
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from countersign.proxy.dial import Dialled
    from countersign.proxy.settings import Address, Settings
    from countersign.proxy.stream import ReceiveBuffer
    from countersign.proxy.ways.http_in import Shows


class Outward:
    """The way through one upstream proxy, for all sessions of an engine.

    ``lingers`` is told of each connection that came to nothing and closes by itself.
    """

    def __init__(
        self, settings: Settings, buffer: ReceiveBuffer, *, lingers: Callable[[Stream], None], dialled: Dialled | None
    ) -> None:
        assert settings.upstream is not None
        self._proxy = settings.upstream
        self._buffer = buffer
        self._lingers = lingers
        self._dialled = dialled
        self._source = settings.bind_out
        self._connect_limit = settings.limits.connect
        login = self._proxy.login
        self._authenticator = None if login is None else Authenticator(login)
        self._tls = _trusting(settings.roots) if self._proxy.tls else None

    async def check(self, own_ports: Sequence[int]) -> None:
        """Raise :class:`EnvironmentFault` where the proxy has no address, or is this one."""
        try:
            found = await resolve(self._proxy.address, limit=self._connect_limit)
        except DialFailed as failed:
            raise EnvironmentFault(f"cannot use --upstream-proxy {self._proxy}: {failed.text}") from None
        for address in found:
            if address[1][1] in own_ports and barred([address], own_ports) is not None:
                raise EnvironmentFault(f"cannot use --upstream-proxy {self._proxy}: that is this proxy itself")

    async def connect(self, target: Address, *, limit: float, note: Callable[[dict[str, Any]], None]) -> Stream:
        """A tunnel to the target, within ``limit`` seconds. Raises :class:`DialFailed`.

        ``note`` takes what the recording's ``prelude`` keeps of the dialogue.
        """
        machine: ConnectThrough | SocksClient
        if self._proxy.kind == "socks":
            machine = SocksClient(target, self._proxy.login)
        else:
            try:
                machine = ConnectThrough(target, self._authenticator)
            except UnicodeError:
                text = "named a target that no CONNECT request can ask for"
                raise DialFailed(FailureCode.BAD_REQUEST, Party.CLIENT, text) from None
        try:
            async with asyncio.timeout(limit):
                while True:
                    stream = await self._dial(limit)
                    stands = False
                    try:
                        stands = await _dialogue(stream, machine)
                    finally:
                        if not stands:
                            stream.close()
                            self._lingers(stream)
                    if stands:
                        return stream
        except TimeoutError:
            text = f"gave no connection to {target} within {limit:g} s"
            raise DialFailed(FailureCode.DIAL_TIMEOUT, Party.UPSTREAM_PROXY, text) from None
        finally:
            note({"upstream": {"proxy": str(self._proxy), **machine.record}})

    @property
    def forwards(self) -> bool:
        """Whether it may take plain requests as they are: many proxies give tunnels to port 443 alone."""
        return self._proxy.kind != "socks"

    async def forward(self, *, limit: float) -> tuple[Stream, Shows]:
        """A connection to the proxy itself, for a request in absolute-form, and what it is shown.

        Raises :class:`DialFailed`.
        """
        try:
            async with asyncio.timeout(limit):
                stream = await self._dial(limit)
        except TimeoutError:
            text = f"gave no connection within {limit:g} s"
            raise DialFailed(FailureCode.DIAL_TIMEOUT, Party.UPSTREAM_PROXY, text) from None
        return stream, self._shows

    def _shows(self, method: str, target: str) -> bytes | None:
        return None if self._authenticator is None else self._authenticator.answer(method, target)

    async def _dial(self, limit: float) -> Stream:
        """A connection to the proxy itself."""
        address = self._proxy.address
        try:
            found = await resolve(address, limit=limit)
            made = await connect(address, found, limit=limit, source=self._source, dialled=self._dialled)
        except DialFailed as failed:
            by = Party.UPSTREAM_PROXY if failed.by is Party.TARGET else failed.by
            raise DialFailed(failed.code, by, failed.text) from None
        if self._tls is None:
            return SocketTransport.begin(Stream(self._buffer), made)
        try:
            _, secured = await asyncio.get_running_loop().create_connection(
                lambda: _Secured(self._buffer), sock=made, ssl=self._tls, server_hostname=address.host
            )
        except ssl.SSLError as error:
            why = getattr(error, "verify_message", None) or error.reason or "no TLS"
            text = f"gave no TLS connection to {self._proxy}: {printable(str(why), limit=100)}"
            raise DialFailed(FailureCode.UPSTREAM_BROKEN, Party.UPSTREAM_PROXY, text) from None
        except OSError:
            text = f"broke off the handshake with {self._proxy}"
            raise DialFailed(FailureCode.UPSTREAM_BROKEN, Party.UPSTREAM_PROXY, text) from None
        return secured


class _Secured(Stream):
    """A stream inside of TLS, in which there is no half-close: the end of one direction is the end of both."""

    def eof_received(self) -> bool:
        super().eof_received()
        return False


async def _dialogue(stream: Stream, machine: ConnectThrough | SocksClient) -> bool:
    """True when the tunnel stands, False when the proxy wants a new connection. Raises :class:`DialFailed`."""
    stream.write(machine.begin())
    while True:
        data = await stream.read()
        if not data and isinstance(machine, SocksClient):
            how = "reset" if stream.ending is Ending.RESET else "closed"
            text = f"{how} the connection in the middle of the SOCKS dialogue"
            raise DialFailed(FailureCode.UPSTREAM_BROKEN, Party.UPSTREAM_PROXY, text)
        for event in machine.receive(data):
            match event:
                case Send(said):
                    stream.write(said)
                case Redial():
                    return False
                case Ready(rest):
                    stream.unread(rest)
                    return True
                case Refused(by, code, text):
                    raise DialFailed(code, by, text)


def _trusting(roots: Sequence[bytes] | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    for root in roots or ():
        with contextlib.suppress(ssl.SSLError, ValueError):
            pem = base64.encodebytes(root).decode("ascii")
            context.load_verify_locations(cadata=f"-----BEGIN CERTIFICATE-----\n{pem}-----END CERTIFICATE-----\n")
    return context
