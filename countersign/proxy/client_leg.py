"""The client leg: we are the client's server, with a leaf made after the target's and with the target's choices.

Made in three steps, because the target comes in between: what the client offers is looked at first
(:func:`check_hello`); then the server leg is opened; then comes the leaf and the handshake (:func:`open_client_leg`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from countersign.ca import AuthorityError, CannotMimic
from countersign.errors import UserError
from countersign.proxy._openssl import GROUP_NAMES, OPENSSL_VERSION, ClientJudging, IdentityRefused, TlsTrouble
from countersign.proxy.conduct import named_groups, without_post_quantum
from countersign.proxy.faults.armed import Served
from countersign.proxy.faults.recast import stand_in
from countersign.proxy.leg import HandshakeEnded
from countersign.proxy.mtls import Asking, judging_of, names_of
from countersign.proxy.offer import CannotSpeak, Mirrored, as_ordered, client_leg_offer
from countersign.proxy.orders import ProtocolOrders
from countersign.proxy.server_leg import go_on
from countersign.proxy.settings import Mtls
from countersign.proxy.stapling import asking_for_status, judged, like, noted
from countersign.proxy.trouble import failed_handshake
from countersign.recorder.recording import Ending, FailureCode, LegRole, Party
from countersign.recorder.wire.codes import BAD_CERTIFICATE, CERTIFICATE, CERTIFICATE_UNKNOWN
from countersign.recorder.wire.events import Content, EncryptedRecord, Message
from countersign.recorder.wire.messages import message_type
from countersign.recorder.wire.names import TLS13, version_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from countersign.ca import Authority, Minted
    from countersign.proxy.context import Context, Over
    from countersign.proxy.leg import TlsLeg
    from countersign.proxy.mtls import Exchange
    from countersign.proxy.sessions import Resumption
    from countersign.proxy.sniff import Hello
    from countersign.recorder.wire.reading import HelloSummary
    from countersign.recorder.wire.tap import LegTap


_BARRED = frozenset({BAD_CERTIFICATE, CERTIFICATE_UNKNOWN})
"""A client that misses the root itself says unknown_ca."""


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
    summary = _as_product_sees_it(context, summary, refused)
    try:
        mirrored = _mirrored(context, summary)
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
    context.recording.not_mirrored += mirrored.missing(summary)
    return Offered(summary, mirrored)


def _mirrored(context: Context, summary: HelloSummary) -> Mirrored:
    """The offer as it is repeated to the target, with the versions that are ordered. Raises as :meth:`Mirror.of`."""
    ordered = context.orders.target
    if ordered is None or ordered.versions is None:
        return context.engine.mirror.of(summary)
    lowest, highest = ordered.versions
    mirrored = context.engine.mirror.offering(summary, tuple(range(lowest, highest + 1)))
    others = [version_name(each) for each in summary.versions if not lowest <= each <= highest]
    if others:
        context.recording.not_mirrored.append(f"versions: {', '.join(others)}, left out as ordered")
    return mirrored


def _as_product_sees_it(context: Context, summary: HelloSummary, refused: Callable[..., Over]) -> HelloSummary:
    """The offer as far as the product in force lets it through; ends the session where it takes offence."""
    post_quantum = context.conduct.post_quantum
    if post_quantum == "keep":
        return summary
    remaining, taken = without_post_quantum(summary)
    if taken and post_quantum == "refuse":
        text = f"refuses a client that offers {named_groups(taken)}, as the product does whose preset is in force"
        raise refused("illegal_parameter", Party.PROXY, FailureCode.REFUSED_BY_RULE, text)
    if taken and not remaining.groups:
        text = f"serves no client that offers post-quantum groups alone ({named_groups(taken)}):"
        text += " the product whose preset is in force takes them out"
        raise refused("handshake_failure", Party.PROXY, FailureCode.REFUSED_BY_RULE, text)
    if taken:
        context.recording.not_mirrored.append(f"supported_groups: {named_groups(taken)}, taken out")
    return remaining


async def open_client_leg(
    context: Context,
    hello: Hello,
    summary: HelloSummary,
    server: TlsLeg,
    tap: LegTap,
    *,
    name: str,
    exchange: Exchange,
    resumption: Resumption,
) -> TlsLeg:
    """The leg with the client, its handshake done, on a leaf that mimics the target's. A failure ends the session.

    ``name`` is the host that a recipe is told. Where the server leg waits for a certificate, the client is asked for it
    and the server leg is done as well.
    """
    waits = not server.stands and exchange.request is not None
    ordered, protocol = context.orders.client_auth, context.orders.protocol or ProtocolOrders()
    asks = exchange.request.names if waits and exchange.request is not None else None
    if ordered is not None:
        asks = names_of(ordered)
    chain = server.connection.peer_chain()
    try:
        minted, authority = await context.engine.signing.leaf_for(
            context.orders.chain,
            chain[0],
            name=name,
            bad_upstream="" if server.connection.verify_error is None else context.conduct.bad_upstream,
        )
    except CannotMimic as reason:
        raise _cannot_mimic(context, tap, str(reason)) from None
    except AuthorityError as reason:
        raise context.refuse(
            tap, "internal_error", LegRole.CLIENT, Party.PROXY, code=FailureCode.CA_EXPIRED, text=str(reason)
        ) from None
    context.recording.not_mirrored += minted.left_out
    if minted.outside is not None:
        context.recording.not_mirrored.append(f"names: {minted.outside}")
    staple = await _staple(context, server, summary, minted, authority)
    served, loaded = _served(context, minted)
    recasts = asks is None or served.chain is not None  # a client's proof that it has its key is over what it knows
    try:
        offer = client_leg_offer(server.connection, summary)
        offer = offer if context.orders.protocol is None else as_ordered(offer, protocol)
        connection = context.engine.server_side.connection(
            offer if asks is None else exchange.offer(offer, summary.signature_algorithms, minted.key),
            chain=loaded,
            key=minted.key,
            alpn=server.connection.chosen_alpn if protocol.alpn is None else protocol.alpn,
            ask_under=asks,
            base=resumption.base,
            scope=resumption.scope,
            tickets=resumption.gives(server) and protocol.resumption != "id",
            ids=resumption.gives(server) and protocol.resumption != "ticket" and asks is None,
            staple=staple,
            judging=ClientJudging() if ordered is None else judging_of(ordered),
            insists_on_alpn=protocol.alpn is not None,
            extended_master_secret=protocol.extended_master_secret and served.chain is None,
        )
    except TlsTrouble as trouble:
        words = f"cannot mimic the target's certificate: {OPENSSL_VERSION} cannot serve such a one"
        if context.orders.chain.recipe is not None:
            words = f"cannot serve what the recipe '{context.orders.chain.recipe.id}' makes: {OPENSSL_VERSION} does not"
        raise _cannot_mimic(context, tap, f"{words} ({trouble.reason})") from None
    if ordered is None and exchange.mode is Mtls.RELAY:
        exchange.asking = Asking(offer, summary.signature_algorithms, tuple(loaded), minted.key, resumption.scope)
    context.client.on_end = None  # from here on the leg notices how the client ends
    leg = context.leg(LegRole.CLIENT, context.client, connection, tap, served=served if recasts else None)
    resumption.client_begins(connection)
    stapling = context.orders.stapling
    unasked = stapling is not None and stapling.unasked and not summary.has_status_request
    if unasked and offer.versions[-1] < TLS13 and isinstance(hello.first, Message):
        leg.feed(asking_for_status(hello.first.raw), seen=True)
    else:
        for _t, data in hello.chunks:
            leg.feed(data, seen=True)
    try:
        if asks is not None:
            exchange.watch_client(leg)
        if waits:
            await exchange.client_answers(leg, context.settings.limits.handshake)
            await _hand_over(context, leg, server, tap, exchange=exchange, resumption=resumption)
        if not leg.stands:
            await leg.handshake(context.settings.limits.handshake)
    except (TlsTrouble, HandshakeEnded) as trouble:
        if minted.outside is not None:
            _note_barred_names(context, leg, trouble, minted.outside)
        over = failed_handshake(context, leg, trouble)
        if not server.stands:
            exchange.refuse(server)
        raise over from None
    over_resumed = resumption.client_done(leg)
    if over_resumed is not None:
        raise over_resumed
    return leg


async def _staple(
    context: Context, server: TlsLeg, summary: HelloSummary, minted: Minted, authority: Authority
) -> bytes:
    """The OCSP response for the client, which is ours; what the target has stapled is noted."""
    orders, answer, theirs = context.orders.stapling, None, server.connection.stapled()
    if theirs:
        answer = judged(theirs, server.connection.peer_chain(), context.engine.now())
        server.live.revocation += (noted(theirs, answer, context.clock()),)
    if orders is None:
        orders = like(answer)
    if orders is None or not (summary.has_status_request or orders.unasked):
        return b""
    try:
        body = await context.engine.staples.staple(minted, authority, orders)
    except UserError as reason:
        context.recording.not_mirrored.append(f"status_request: {reason}")
        return b""
    if context.orders.stapling is not None:
        said = ", ".join(str(fault).removeprefix("ocsp:") for fault in orders.faults) or (
            "good" if orders.body is None else f"{len(body)} given bytes"
        )
        context.recording.prelude.setdefault("inspection", {})["stapled"] = said
    return body


async def _hand_over(
    context: Context, leg: TlsLeg, server: TlsLeg, tap: LegTap, *, exchange: Exchange, resumption: Resumption
) -> None:
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
    await go_on(context, server, exchange, resumption, tell)


def _served(context: Context, minted: Minted) -> tuple[Served, tuple[bytes, ...]]:
    """What the client is to be shown, and what OpenSSL gets to serve: a stand-in for what it cannot load."""
    recipe = context.orders.chain.recipe
    if recipe is not None and not recipe.served and not isinstance(minted.key, bytes):
        other = stand_in(minted.key)
        if other is not None:
            return Served(minted.key, minted.chain), (other,)
    return Served(minted.key), minted.chain


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
