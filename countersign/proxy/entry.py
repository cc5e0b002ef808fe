"""Which prelude a proxy's settings make: a mode, behind the PROXY protocol or not, with STARTTLS behind it or not."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from countersign.proxy.explicit import Connect, Socks
from countersign.proxy.prelude import Asked, PreludeFailed
from countersign.proxy.settings import Mode
from countersign.proxy.upgrading import Starttls
from countersign.proxy.ways.addressing import Targets
from countersign.proxy.ways.starttls import dialect_named
from countersign.recorder.recording import FailureCode
from countersign.recorder.wire.proxy_protocol import NoHeader, ProxyHeader, read_proxy_header

if TYPE_CHECKING:
    from countersign.proxy.prelude import Prelude, Reach
    from countersign.proxy.settings import Address, Settings
    from countersign.proxy.stream import Stream


def prelude_of(settings: Settings) -> Prelude:
    """What a client says before TLS under these settings."""
    prelude = _mode_of(settings)
    client_first = True
    if settings.starttls is not None:
        dialect = dialect_named(settings.starttls)
        prelude = Starttls(prelude, dialect)
        client_first = settings.mode in {Mode.CONNECT, Mode.SOCKS5} or dialect.server_first is False
    return Fronted(prelude, client_first=client_first) if settings.proxy_protocol else prelude


def _mode_of(settings: Settings) -> Prelude:
    match settings.mode:
        case Mode.CONNECT:
            return Connect(settings.credentials)
        case Mode.SOCKS5:
            return Socks(settings.credentials)
        case Mode.TRANSPARENT:
            return Transparent()
        case Mode.REVERSE:
            assert settings.target is not None
            return ByName(settings.target) if isinstance(settings.target, Targets) else Reverse(settings.target)


@dataclass(frozen=True, slots=True)
class Reverse:
    """Every client goes to the same target, and says nothing before its ClientHello."""

    target: Address

    async def run(self, stream: Stream, reach: Reach) -> Asked:  # noqa: ARG002 - as every prelude
        return Asked(self.target, by_client=False)


@dataclass(frozen=True, slots=True)
class ByName:
    """Every client goes to the target of the server name in its ClientHello."""

    targets: Targets

    async def run(self, stream: Stream, reach: Reach) -> Asked:  # noqa: ARG002 - as every prelude
        return Asked(None, by_name=self.targets.choose, by_client=False)


@dataclass(frozen=True, slots=True)
class Transparent:
    """The client does not know of us; the kernel does (:mod:`countersign.proxy.ways.transparent`)."""

    async def run(self, stream: Stream, reach: Reach) -> Asked:  # noqa: ARG002 - as every prelude
        if reach.destination is None:
            text = "connected to this proxy itself, and no rule of the kernel had turned it here"
            raise PreludeFailed(FailureCode.NO_TARGET, text)
        return Asked(reach.destination)


@dataclass(frozen=True, slots=True)
class Fronted:
    """A load balancer stands in front, and says in the header of the PROXY protocol who the client is.

    ``client_first``: nothing comes from the target before the client has spoken.
    """

    inner: Prelude
    client_first: bool

    async def run(self, stream: Stream, reach: Reach) -> Asked | None:
        header = await _header(stream, reach)
        client = str(header.source) if header.source is not None and header.command == "PROXY" else None
        reach.note({"proxy_protocol": header.record()}, client=client)
        for_itself = header.command == "LOCAL"  # which need not be more than a look whether we are there
        if for_itself and self.client_first:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(reach.limits.hello):
                    data = await stream.read()
                    if not data:
                        return None
                    stream.unread(data)
        return await self.inner.run(stream, reach)


async def _header(stream: Stream, reach: Reach) -> ProxyHeader:
    data = b""
    try:
        async with asyncio.timeout(reach.limits.hello):
            while True:
                more = await stream.read()
                if not more:
                    begun = "in the middle of" if data else "before"
                    text = f"closed {begun} the header of the PROXY protocol"
                    raise PreludeFailed(FailureCode.NO_PROXY_HEADER, text)
                data += more
                header = read_proxy_header(data)
                if isinstance(header, NoHeader):
                    raise PreludeFailed(FailureCode.NO_PROXY_HEADER, header.text)
                if header is not None:
                    stream.unread(data[header.length :])
                    return header
    except TimeoutError:
        text = "connected and sent no header of the PROXY protocol in time"
        raise PreludeFailed(FailureCode.NO_PROXY_HEADER, text) from None
