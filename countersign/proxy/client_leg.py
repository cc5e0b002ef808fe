"""The client leg: we are the client's server, with a leaf made after the target's and with the target's choices.

Made in three steps, because the target comes in between: what the client offers is looked at first
(:func:`check_hello`); then the server leg is opened; then comes the leaf and the handshake (:func:`open_client_leg`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from countersign.ca import AuthorityError, CannotMimic
from countersign.proxy._openssl import GROUP_NAMES, OPENSSL_VERSION, IdentityRefused, TlsTrouble
from countersign.proxy.leg import HandshakeEnded
from countersign.proxy.offer import CannotSpeak, Mirrored, client_leg_offer
from countersign.proxy.server_leg import go_on
from countersign.proxy.trouble import failed_handshake
from countersign.recorder.recording import Ending, FailureCode, LegRole, Party
from countersign.recorder.wire.codes import CERTIFICATE
from countersign.recorder.wire.events import Content, EncryptedRecord
from countersign.recorder.wire.messages import message_type

if TYPE_CHECKING:
    from countersign.proxy.context import Context, Over
    from countersign.proxy.leg import TlsLeg
    from countersign.proxy.mtls import Exchange
    from countersign.proxy.sniff import Hello
    from countersign.recorder.wire.reading import HelloSummary
    from countersign.recorder.wire.tap import LegTap


_BARRED = frozenset({42, 46})
"""bad_certificate and certificate_unknown: a client that misses the root itself says unknown_ca."""


class Offered(NamedTuple):
    """What the client offers, and how that is repeated to the target."""

    summary: HelloSummary
    mirrored: Mirrored


def check_hello(context: Context, hello: Hello, tap: LegTap) -> Offered:
    """What the client offers. Ends the session when there is no hello, or none that OpenSSL can be shown."""

    def refused(alert: str, by: Party, code: FailureCode, text: str) -> Over:
        return context.refuse(tap, alert, LegRole.CLIENT, by, code=code, text=text)

    first, summary = hello.first, hello.summary
    if isinstance(first, EncryptedRecord):
        text = "began with application data where a ClientHello belongs; none of it was passed on"
        raise refused("unexpected_message", Party.CLIENT, FailureCode.NO_HELLO, text)
    assert first is not None
    if summary is None:
        text = f"began with {message_type(first.content, first.code, first.raw)} where a ClientHello belongs"
        raise refused("unexpected_message", Party.CLIENT, FailureCode.NO_HELLO, text)
    if summary.sslv2:
        text = f"cannot speak with a client that begins in SSLv2's form; {OPENSSL_VERSION} has that no more."
        text += " Use --passthrough for this client"
        raise refused("protocol_version", Party.PROXY, FailureCode.UNSUPPORTED_OFFER, text)
    try:
        mirrored = context.engine.mirror.of(summary)
    except CannotSpeak as reason:
        if not summary.well_formed:
            text = "sent a ClientHello that cannot be read"
            raise refused("decode_error", Party.CLIENT, FailureCode.BAD_HELLO, text) from None
        raise refused(reason.alert, Party.PROXY, FailureCode.UNSUPPORTED_OFFER, reason.text) from None
    except IdentityRefused as trouble:
        text = f"cannot use the client certificate given to it: OpenSSL says {trouble.reason!r}"
        raise refused("internal_error", Party.PROXY, FailureCode.CANNOT_BEGIN, text) from None
    name = summary.sni_raw
    if name is not None and (b"\0" in name or not 0 < len(name) < 256):
        text = "sent a server name (SNI) that cannot be a host name's: "
        text += "a NUL byte is in it" if b"\0" in name else f"it has {len(name)} bytes"
        # The alert is the one that OpenSSL has for such a name.
        raise refused("unrecognized_name", Party.CLIENT, FailureCode.BAD_HELLO, text)
    context.recording.not_mirrored += mirrored.left_out
    return Offered(summary, mirrored)


async def open_client_leg(
    context: Context, hello: Hello, summary: HelloSummary, server: TlsLeg, tap: LegTap, *, exchange: Exchange
) -> TlsLeg:
    """The leg with the client, its handshake done, on a leaf that mimics the target's. A failure ends the session.

    Where the server leg waits for a certificate, the client is asked for it and the server leg is done as well.
    """
    asks = None if server.stands or exchange.request is None else exchange.request.names
    chain = server.connection.peer_chain()
    try:
        minted = await context.engine.mint.leaf_for(chain[0])
    except CannotMimic as reason:
        raise _cannot_mimic(context, tap, str(reason)) from None
    except AuthorityError as reason:
        raise context.refuse(
            tap, "internal_error", LegRole.CLIENT, Party.PROXY, code=FailureCode.CA_EXPIRED, text=str(reason)
        ) from None
    context.recording.not_mirrored += minted.left_out
    if minted.outside is not None:
        context.recording.not_mirrored.append(f"names: {minted.outside}")
    try:
        offer = client_leg_offer(server.connection, summary)
        connection = context.engine.server_side.connection(
            offer if asks is None else exchange.offer(offer, summary, minted),
            chain=minted.chain,
            key=minted.key,
            alpn=server.connection.chosen_alpn,
            ask_under=asks,
        )
    except TlsTrouble as trouble:
        words = f"cannot mimic the target's certificate: {OPENSSL_VERSION} cannot serve such a one"
        raise _cannot_mimic(context, tap, f"{words} ({trouble.reason})") from None
    context.client.on_end = None  # from here on the leg notices how the client ends
    leg = context.leg(LegRole.CLIENT, context.client, connection, tap)
    for _t, data in hello.chunks:
        leg.feed(data, seen=True)
    try:
        if asks is not None:
            exchange.watch_client(leg)
            await exchange.client_answers(leg, context.settings.limits.handshake)
            await _hand_over(context, leg, server, tap, exchange)
        if not leg.stands:
            await leg.handshake(context.settings.limits.handshake)
    except (TlsTrouble, HandshakeEnded) as trouble:
        if minted.outside is not None:
            _note_barred_names(context, leg, trouble, minted.outside)
        over = failed_handshake(context, leg, trouble)
        if not server.stands:
            exchange.refuse(server)
        raise over from None
    return leg


async def _hand_over(context: Context, leg: TlsLeg, server: TlsLeg, tap: LegTap, exchange: Exchange) -> None:
    """The client has shown a certificate, or that it has none; with that the server leg goes on to its end.

    What the target has against it, the client is told in the target's words where its own handshake is not done yet.
    """

    def tell(alert: str) -> None:
        if not leg.stands:
            context.alert_client(tap, alert)

    def cannot(code: FailureCode, text: str) -> Over:
        over = context.over(LegRole.SERVER, Party.PROXY, code=code, text=text)
        tell("internal_error")
        exchange.refuse(server)
        return over

    try:
        await exchange.answer(server)
    except (CannotMimic, IdentityRefused) as reason:
        text = f"cannot present the client's certificate to the target: {reason}. Use --mtls bypass for this target"
        raise cannot(FailureCode.CANNOT_MIMIC, text) from None
    except AuthorityError as reason:
        raise cannot(FailureCode.CA_EXPIRED, str(reason)) from None
    await go_on(context, server, exchange, tell)


def _note_barred_names(context: Context, leg: TlsLeg, trouble: TlsTrouble | HandshakeEnded, outside: str) -> None:
    """Where the client refused the leaf, or went when it had seen it, that is for a fault of the proxy's own CA."""
    shown = any(one.content is Content.HANDSHAKE and one.code == CERTIFICATE for one in leg.live.messages)
    went = isinstance(trouble, HandshakeEnded) and trouble.how is not Ending.SILENT
    if shown and (went or leg.peer_alert in _BARRED):
        text = f"had no certificate that the client could accept: {outside}."
        text += " Make a CA that may: countersign ca init --constrain"
        context.over(LegRole.CLIENT, Party.PROXY, code=FailureCode.CANNOT_MIMIC, text=text)


def _cannot_mimic(context: Context, tap: LegTap, reason: str) -> Over:
    text = f"{reason}. Use --passthrough for this target"
    return context.refuse(tap, "internal_error", LegRole.CLIENT, Party.PROXY, code=FailureCode.CANNOT_MIMIC, text=text)


def not_mirrored(server: TlsLeg) -> list[str]:
    """What of the target's choices the client leg cannot follow."""
    group = server.connection.group
    if group is None or any(name.lower() == group.lower() for name in GROUP_NAMES.values()):
        return []
    return [f"group {group}"]
