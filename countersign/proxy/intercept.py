"""An intercepted connection: the client's hello, the server leg, the client leg, and what flows between the two.

The target is spoken to first: the leaf that the client gets is made after the one that the target showed, and what the
target chose (version, suite, group, ALPN) is what the client gets. A client that leaves meanwhile ends the session.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from countersign.proxy.client_leg import check_hello, not_mirrored, open_client_leg
from countersign.proxy.dial import DialFailed
from countersign.proxy.mtls import Exchange
from countersign.proxy.passthrough import pass_through
from countersign.proxy.relay import Relay, TlsDirection
from countersign.proxy.server_leg import open_server_leg
from countersign.proxy.settings import Action, Mtls
from countersign.proxy.sniff import Hello
from countersign.proxy.trouble import peer_of
from countersign.recorder.recording import Failure, FailureCode, LegRole, Party
from countersign.recorder.wire.events import Side
from countersign.recorder.wire.tap import LegTap

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from countersign.proxy._openssl import TlsTrouble
    from countersign.proxy.context import Context
    from countersign.proxy.leg import TlsLeg
    from countersign.proxy.settings import Address
    from countersign.proxy.stream import Stream


async def intercept(
    context: Context,
    target: Address,
    hello: Hello,
    *,
    dial: Callable[[], Awaitable[Stream]],
    left: Callable[[], None],
) -> None:
    """Both legs, then the relay between them.

    ``dial`` gives the connection to the target or raises :class:`~countersign.proxy.dial.DialFailed`; ``left`` is
    called when the client leaves while the target is being spoken to.
    """
    if context.engine.certificates.passes((target, context.recording.sni)):
        context.recording.action = Action.PASSTHROUGH.value
        context.recording.mtls.update(mode=Mtls.BYPASS.value, why="the target asked for a client certificate before")
        await pass_through(context, hello, dial=dial)
        return
    tap = LegTap(decoder=hello.decoder)
    context.recording.add(LegRole.CLIENT, tap.told(hello.events))
    for t, data in hello.unread:
        context.recording.add(LegRole.CLIENT, tap.wire(Side.CLIENT, data, t))
    offered = check_hello(context, hello, tap)
    if context.client.ending is not None:
        raise context.client_left()
    context.client.on_end = left
    try:
        stream = await dial()
    except DialFailed as failed:
        raise context.refuse(
            tap, "internal_error", LegRole.SERVER, failed.by, code=failed.code, text=failed.text
        ) from None
    exchange = Exchange(context)
    server = await open_server_leg(context, stream, target, offered, tap, exchange=exchange)
    if not server.stands and exchange.mode is Mtls.BYPASS:
        await _pass_by(context, target, hello, server, tap, dial=dial)
        return
    context.recording.not_mirrored += not_mirrored(server)
    client = await open_client_leg(context, hello, offered.summary, server, tap, exchange=exchange)
    await _relay(context, client, server)


async def _pass_by(
    context: Context,
    target: Address,
    hello: Hello,
    server: TlsLeg,
    tap: LegTap,
    *,
    dial: Callable[[], Awaitable[Stream]],
) -> None:
    """Close the connection in which the target asked for a certificate, and make one that passes through."""
    recording = context.recording
    context.engine.certificates.remember((target, recording.sni))
    server.close()
    if context.settings.starttls is not None:
        text = "closed the connection: the target asked for a client certificate, and --mtls bypass cannot begin anew"
        text += " behind a dialogue in clear; the next connection to this target passes through"
        raise context.refuse(
            tap, "internal_error", LegRole.SERVER, Party.PROXY, code=FailureCode.UNSUPPORTED_OFFER, text=text
        )
    context.legs.remove(server)
    server.stream.close()
    context.engine.lingers(server.stream)
    context.target = None
    for role in (LegRole.CLIENT, LegRole.SERVER):  # the client's hello is on the leg that passes through
        recording.legs.pop(role).budget.release()
    recording.not_mirrored.clear()
    recording.action = Action.PASSTHROUGH.value
    recording.mtls["why"] = (
        "the target asked for a client certificate, so this connection was closed and made again to pass through;"
        " the next ones pass through from the start"
    )
    context.client.on_end = None
    await pass_through(context, Hello(hello.first, hello.summary, hello.chunks, unread=hello.chunks), dial=dial)


async def _relay(context: Context, client: TlsLeg, server: TlsLeg) -> None:
    def trouble(leg: TlsLeg, trouble: TlsTrouble) -> None:
        """After the handshake: an alert is on the recording already; anything else is the peer's doing."""
        leg.flush()
        if leg.peer_alert is None:
            text = f"sent something after the handshake that cannot be taken: OpenSSL says {trouble.reason!r}"
            failure = Failure(context.clock(), leg.role, peer_of(leg), code=FailureCode.BROKEN_MESSAGE, text=text)
            context.recording.fail(failure)

    relay = Relay(idle=context.settings.limits.idle)
    for source, destination in ((client, server), (server, client)):
        TlsDirection(relay, source, destination, buffers=context.engine.buffers, trouble=trouble).begin()
    await context.until_finished(relay)
