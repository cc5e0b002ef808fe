"""An intercepted connection: the client's hello, the server leg, the client leg, and what flows between the two.

The target is spoken to first: the leaf that the client gets is made after the one that the target showed, and what the
target chose (version, suite, group, ALPN) is what the client gets. A client that leaves meanwhile ends the session.
"""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any

from countersign.proxy._openssl import TlsTrouble
from countersign.proxy.asked_later import AskedLater
from countersign.proxy.binding import ChannelBinding
from countersign.proxy.client_leg import check_hello, not_mirrored, open_client_leg
from countersign.proxy.dial import DialFailed
from countersign.proxy.mtls import Exchange
from countersign.proxy.passthrough import pass_through
from countersign.proxy.relay import Relay, TlsDirection
from countersign.proxy.server_leg import open_server_leg, server_name
from countersign.proxy.sessions import Place, Resumption
from countersign.proxy.settings import Action, Mtls
from countersign.proxy.sniff import Hello
from countersign.proxy.summary import Summary
from countersign.proxy.trouble import behind_records, in_clear, peer_of
from countersign.recorder.recording import Failure, FailureCode, LegRole, Party
from countersign.recorder.wire.events import Side
from countersign.recorder.wire.tap import LegTap

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from countersign.proxy.client_leg import Offered
    from countersign.proxy.context import Context, Over
    from countersign.proxy.leg import TlsLeg
    from countersign.proxy.settings import Address
    from countersign.proxy.stream import Stream


_ASKED = "the target asked for a client certificate"
_UNTRUSTED = "the target is not trusted"


async def intercept(
    context: Context,
    target: Address,
    hello: Hello,
    *,
    dial: Callable[[], Awaitable[Stream]],
    left: Callable[[], None],
    told: Callable[[Mapping[str, Any]], None],
) -> Relay:
    """Both legs, then the relay between them, which has begun.

    ``dial`` gives the connection to the target or raises :class:`~countersign.proxy.dial.DialFailed`; ``left`` is
    called when the client leaves while the target is being spoken to, and ``told`` with what of HTTP is to be noted.
    """
    passes = context.engine.certificates.passes((target, context.recording.sni))
    if passes and context.conduct.mtls is Mtls.BYPASS:
        context.recording.action = Action.PASSTHROUGH.value
        context.recording.mtls.update(mode=Mtls.BYPASS.value, why="the target asked for a client certificate before")
        return await pass_through(context, hello, dial=dial)
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
    exchange = Exchange(context, target)
    resumption = Resumption(context, _place(context, target, offered), offered.summary, exchange)
    server = await open_server_leg(context, stream, target, offered, tap, exchange=exchange, resumption=resumption)
    if not server.stands and exchange.mode is Mtls.BYPASS:
        context.engine.certificates.remember((target, context.recording.sni))
        return await _pass_by(context, hello, server, tap, _ASKED, dial=dial)
    if not server.stands and exchange.mode is Mtls.BLOCK:
        raise _blocked(context, server, tap)
    if server.connection.verify_error is not None and context.conduct.bad_upstream == "pass-through":
        return await _pass_by(context, hello, server, tap, _UNTRUSTED, dial=dial)
    context.recording.not_mirrored += not_mirrored(server)
    client = await open_client_leg(
        context,
        hello,
        offered.summary,
        server,
        tap,
        name=offered.summary.sni or target.host,
        exchange=exchange,
        resumption=resumption,
    )
    return _relay(context, client, server, exchange, told)


def _place(context: Context, target: Address, offered: Offered) -> Place:
    summary = offered.summary
    alpn = context.conduct.protocols(summary.alpn_raw)
    return Place(str(target), server_name(context, summary), alpn, offered.mirrored.prepared)


def _blocked(context: Context, server: TlsLeg, tap: LegTap) -> Over:
    text = "refuses the connection: the target asked for a client certificate (--mtls block)"
    over = context.refuse(
        tap, "handshake_failure", LegRole.SERVER, Party.PROXY, code=FailureCode.REFUSED_BY_RULE, text=text
    )
    server.connection.refuse_to_present()
    with contextlib.suppress(TlsTrouble):
        server.connection.handshake()
    server.flush()
    return over


async def _pass_by(
    context: Context,
    hello: Hello,
    server: TlsLeg,
    tap: LegTap,
    why: str,
    *,
    dial: Callable[[], Awaitable[Stream]],
) -> Relay:
    """Close the connection in which the target did what is not intercepted, and make one that passes through."""
    recording = context.recording
    server.close()
    if context.settings.starttls is not None:
        text = f"closed the connection: {why}, and what is to pass through for that cannot begin anew"
        text += " behind a dialogue in clear"
        if why == _ASKED:
            text += "; the next connection to this target passes through"
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
    if why == _ASKED:
        recording.mtls["why"] = (
            "the target asked for a client certificate, so this connection was closed and made again to pass through;"
            " the next ones pass through from the start"
        )
    else:
        recording.prelude["decision"] = f"{why}, so the connection was closed and made again to pass through"
    context.client.on_end = None
    return await pass_through(context, Hello(hello.first, hello.summary, hello.chunks, unread=hello.chunks), dial=dial)


def _both(one: Callable[[bytes], bool], other: Callable[[bytes], bool] | None) -> Callable[[bytes], bool]:
    """One that shows what it sees to each, as long as they want to see more."""
    if other is None:
        return one
    watchers = [one, other]

    def watch(data: bytes) -> bool:
        watchers[:] = [each for each in watchers if each(data)]
        return bool(watchers)

    return watch


def _end_both(later: AskedLater, summary: Summary) -> None:
    later.end()
    summary.end()


def _relay(
    context: Context,
    client: TlsLeg,
    server: TlsLeg,
    exchange: Exchange,
    told: Callable[[Mapping[str, Any]], None],
) -> Relay:
    def trouble(leg: TlsLeg, trouble: TlsTrouble, chunk: bytes) -> None:
        """After the handshake: an alert is on the recording already; anything else is the peer's doing."""
        leg.flush()
        if leg.peer_alert is not None:
            return
        code, text = FailureCode.BROKEN_MESSAGE, "sent something after the handshake that cannot be taken: OpenSSL says"
        text = f"{text} {trouble.reason!r}"
        clear = behind_records(chunk) if trouble.no_record else b""
        if clear:
            code = FailureCode.LEFT_TLS
            text = f"gave TLS up after the handshake and went on in clear: {in_clear(clear)}"
        elif trouble.no_renegotiation:
            code = FailureCode.NO_RENEGOTIATION
            text = "does not renegotiate, and below TLS 1.3 it cannot be asked for a certificate in mid-connection else"
        context.recording.fail(Failure(context.clock(), leg.role, peer_of(leg), code=code, text=text))

    relay = Relay(idle=context.settings.limits.idle, legs=(client, server))
    summary = None
    if context.settings.http_summary:
        summary = Summary(server.connection.chosen_alpn, clock=context.clock, told=told)
    binding = ChannelBinding(lambda found: context.recording.prelude.update(channel_binding=found))
    later = AskedLater(context, client, server, exchange, relay)
    asked = later.asked

    def direction(source: TlsLeg, destination: TlsLeg) -> TlsDirection:
        summing = None if summary is None else summary.watcher(source.peer)
        watch = _both(binding.watcher(source.peer), summing)
        return TlsDirection(
            relay,
            source,
            destination,
            buffers=context.engine.buffers,
            trouble=trouble,
            asked=asked,
            watch=watch,
        )

    relay.at_end = later.end if summary is None else partial(_end_both, later, summary)
    later.from_client, later.from_target = direction(client, server), direction(server, client)
    later.from_client.begin()
    later.from_target.begin()
    return relay
