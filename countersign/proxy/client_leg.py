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
from countersign.proxy.trouble import failed_handshake
from countersign.recorder.recording import FailureCode, LegRole, Party
from countersign.recorder.wire.events import EncryptedRecord
from countersign.recorder.wire.messages import message_type

if TYPE_CHECKING:
    from countersign.proxy.context import Context, Over
    from countersign.proxy.leg import TlsLeg
    from countersign.proxy.sniff import Hello
    from countersign.recorder.wire.reading import HelloSummary
    from countersign.recorder.wire.tap import LegTap


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


async def open_client_leg(context: Context, hello: Hello, summary: HelloSummary, server: TlsLeg, tap: LegTap) -> TlsLeg:
    """The leg with the client, its handshake done, on a leaf that mimics the target's. A failure ends the session."""
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
    try:
        connection = context.engine.server_side.connection(
            client_leg_offer(server.connection, summary),
            chain=minted.chain,
            key=minted.key,
            alpn=server.connection.chosen_alpn,
        )
    except TlsTrouble as trouble:
        words = f"cannot mimic the target's certificate: {OPENSSL_VERSION} cannot serve such a one"
        raise _cannot_mimic(context, tap, f"{words} ({trouble.reason})") from None
    context.client.on_end = None  # from here on the leg notices how the client ends
    leg = context.leg(LegRole.CLIENT, context.client, connection, tap)
    for _t, data in hello.chunks:
        leg.feed(data, seen=True)
    try:
        await leg.handshake(context.settings.limits.handshake)
    except (TlsTrouble, HandshakeEnded) as trouble:
        raise failed_handshake(context, leg, trouble) from None
    return leg


def _cannot_mimic(context: Context, tap: LegTap, reason: str) -> Over:
    text = f"{reason}. Use --passthrough for this target"
    return context.refuse(tap, "internal_error", LegRole.CLIENT, Party.PROXY, code=FailureCode.CANNOT_MIMIC, text=text)


def not_mirrored(server: TlsLeg) -> list[str]:
    """What of the target's choices the client leg cannot follow."""
    group = server.connection.group
    if group is None or any(name.lower() == group.lower() for name in GROUP_NAMES.values()):
        return []
    return [f"group {group}"]
