"""The server leg: we are the client of the target, and offer it what our own client offered.

Where the target asks for a certificate and the client decides about that, the leg is not done yet when it is opened:
:mod:`.mtls` has the answer, and :func:`go_on` takes the handshake to its end.

What that is, :mod:`.offer` says. What the target's chain is worth is on the recording; one that cannot be trusted ends
the session, unless asked otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from countersign.proxy._openssl import CertificateAsked, TlsTrouble
from countersign.proxy.leg import HandshakeEnded
from countersign.proxy.trouble import failed_handshake
from countersign.recorder.recording import FailureCode, LegRole, Party, Verification
from countersign.recorder.wire.codes import CERTIFICATE
from countersign.recorder.wire.events import Content
from countersign.recorder.wire.names import alert_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from countersign.proxy.client_leg import Offered
    from countersign.proxy.context import Context
    from countersign.proxy.leg import TlsLeg
    from countersign.proxy.mtls import Exchange
    from countersign.proxy.sessions import Resumption
    from countersign.proxy.settings import Address
    from countersign.proxy.stream import Stream
    from countersign.recorder.wire.reading import HelloSummary
    from countersign.recorder.wire.tap import LegTap


async def open_server_leg(
    context: Context,
    stream: Stream,
    target: Address,
    offered: Offered,
    tap: LegTap,
    *,
    exchange: Exchange,
    resumption: Resumption,
) -> TlsLeg:
    """The leg with the target, its handshake done, or waiting for a certificate (``stands`` tells).

    A failure ends the session; the client hears of it by ``tap``.
    """
    summary, mirrored = offered.summary, offered.mirrored
    try:
        shows = exchange.ordered
        connection = context.engine.client_side.connection(
            mirrored.prepared,
            name=summary.sni or target.host,
            sni=server_name(context, summary),
            alpn=context.conduct.protocols(summary.alpn_raw),
            enforce=context.conduct.enforce,
            asks_status=summary.has_status_request if mirrored.asks_status is None else mirrored.asks_status,
            session=resumption.session(),
        )
    except TlsTrouble as trouble:
        raise context.refuse(
            tap,
            "internal_error",
            LegRole.SERVER,
            Party.PROXY,
            code=FailureCode.CANNOT_BEGIN,
            text=f"cannot begin TLS with the target: OpenSSL says {trouble.reason!r}",
        ) from None
    leg = context.leg(LegRole.SERVER, stream, connection)
    exchange.watch_server(leg, summary)

    def tell(alert: str) -> None:
        context.alert_client(tap, alert)

    await go_on(context, leg, exchange, resumption, tell)
    if shows is not None and not leg.stands and exchange.request is not None:
        leg.connection.present(shows)
        await go_on(context, leg, exchange, resumption, tell)
    return leg


def server_name(context: Context, summary: HelloSummary) -> bytes | None:
    """What the target is told in SNI (RFC 6066 3): what the client says, unless something else is ordered."""
    ordered = context.orders.target
    return summary.sni_raw if ordered is None or ordered.sni is None else ordered.sni or None


async def go_on(
    context: Context, leg: TlsLeg, exchange: Exchange, resumption: Resumption, tell: Callable[[str], None]
) -> None:
    """The handshake with the target, to its end or to where it waits for a certificate.

    A failure ends the session; ``tell`` lets the client know of it by the alert that it is given.
    """
    try:
        await leg.handshake(context.settings.limits.handshake)
    except CertificateAsked:
        _note_verification(context, leg)
        return
    except (TlsTrouble, HandshakeEnded) as trouble:
        _note_verification(context, leg)
        over = failed_handshake(context, leg, trouble)
        tell(_fitting_alert(leg, trouble))
        raise over from None
    exchange.handshake_over()
    resumption.target_done(leg.connection)
    _note_verification(context, leg)


def _note_verification(context: Context, leg: TlsLeg) -> None:
    error, enforced = leg.connection.verify_error, context.conduct.enforce
    if error is not None:
        leg.live.verification = Verification(trusted=False, error=error[0], depth=error[1], enforced=enforced)
    elif any(message.content is Content.HANDSHAKE and message.code == CERTIFICATE for message in leg.live.messages):
        leg.live.verification = Verification(trusted=True, enforced=enforced)


def _fitting_alert(leg: TlsLeg, trouble: TlsTrouble | HandshakeEnded) -> str:
    """What the client is told: the target's own fatal alert where it sent one."""
    if leg.peer_alert is not None:
        return alert_name(leg.peer_alert)
    return "handshake_failure" if isinstance(trouble, TlsTrouble) else "internal_error"
