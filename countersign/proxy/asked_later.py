"""A target that asks for a client certificate in mid-connection, and a client that is asked in its turn (``relay``).

Web servers do so that want a certificate for one folder only: they have read the request before they ask, by
post-handshake authentication in TLS 1.3 (RFC 8446 4.6.2) and by a renegotiation below (RFC 5246 7.4.1.1). What happens
then, one step after the other, while the relay goes on beneath:

    target: CertificateRequest -> the server leg waits, and is not read -> the client is asked by the client leg
    client: Certificate ... Finished -> signed again -> the server leg goes on, with what was kept back for it

A client may have been speaking when it was asked, so what it sends meanwhile is kept, up to 1 MiB. One that gives no
answer while a handshake may last has no certificate, and the target hears just that; one that leaves has left both.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from countersign.ca import AuthorityError, CannotMimic
from countersign.proxy._openssl import IdentityRefused, TlsTrouble
from countersign.recorder.recording import FailureCode, LegRole, Party

if TYPE_CHECKING:
    from countersign.proxy.context import Context
    from countersign.proxy.leg import TlsLeg
    from countersign.proxy.mtls import Exchange
    from countersign.proxy.relay import Relay, TlsDirection

_KEPT_AT_MOST = 1 << 20


class AskedLater:
    """Beside one relay, whose two directions are told once they are made. :meth:`end` must be called."""

    __slots__ = (
        "_answering", "_client", "_context", "_deadline", "_exchange", "_relay", "_server", "from_client",
        "from_target",
    )  # fmt: skip

    from_client: TlsDirection
    from_target: TlsDirection

    def __init__(self, context: Context, client: TlsLeg, server: TlsLeg, exchange: Exchange, relay: Relay) -> None:
        self._context = context
        self._client = client
        self._server = server
        self._exchange = exchange
        self._relay = relay
        self._deadline: asyncio.TimerHandle | None = None
        self._answering: asyncio.Task[None] | None = None

    def asked(self) -> None:
        """The target has asked, and the server leg waits."""
        if self._server.waits:
            return
        self._server.waits = True
        self._server.patience = _KEPT_AT_MOST
        try:
            asks = self._exchange.ask_again(self._client)
        except TlsTrouble as trouble:
            asks = False
            self._exchange.give_up(f"could not be asked: OpenSSL says {trouble.reason!r}")
        self._client.flush()
        if not asks:
            self._answer()
            return
        self.from_client.moved = self._client_moved
        if self._client.stream.ending is not None:
            self._client_moved()
            return
        limit, loop = self._context.settings.limits.handshake, asyncio.get_running_loop()
        self._deadline = loop.call_later(limit, self._give_up, f"gave no answer within {limit:g} s")

    def _client_moved(self) -> None:
        if self._exchange.answered:
            self._answer()
        elif self._client.stream.ending is not None:
            self._give_up("left")

    def _give_up(self, why: str) -> None:
        self._exchange.give_up(why)
        self._answer()

    def _answer(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self.from_client.moved = None
        self._answering = asyncio.create_task(self._go_on(), name="answer the target")
        self._answering.add_done_callback(self._gone_on)

    def _gone_on(self, answering: asyncio.Task[None]) -> None:
        if not answering.cancelled() and isinstance(fault := answering.exception(), Exception):
            self._relay.finish(fault)  # of our own, which the session has to know

    async def _go_on(self) -> None:
        server = self._server
        try:
            await self._exchange.answer(server)
        except (CannotMimic, IdentityRefused) as reason:
            text = f"cannot present the client's certificate to the target: {reason}. Use --mtls bypass for this target"
            self._cannot(FailureCode.CANNOT_MIMIC, text)
        except AuthorityError as reason:
            self._cannot(FailureCode.CA_EXPIRED, str(reason))
        else:
            server.waits, server.patience = False, 0
            self.from_target.go_on()

    def _cannot(self, code: FailureCode, text: str) -> None:
        self._context.over(LegRole.SERVER, Party.PROXY, code=code, text=text)
        self._exchange.refuse(self._server)
        self._relay.finish()

    def end(self) -> None:
        """The relay is over."""
        if self.from_client.moved is not None:
            self.from_client.moved = None
            left = self._client.stream.ending is not None
            self._exchange.give_up("left" if left else "had not answered when the session ended")
        if self._deadline is not None:
            self._deadline.cancel()
        if self._answering is not None:
            self._answering.cancel()
        del self.from_client, self.from_target  # which hold us
