"""The server leg: we are the client of the target, and offer it what our own client offered.

Nothing goes into our hello that was not in the client's: no version, suite or group, and key shares of the same groups,
so that the target's choice can always be followed on the client leg. What the target's chain is worth is on the
recording; one that cannot be trusted ends the session, unless asked otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from countersign.proxy._openssl import GROUP_NAMES, Offer, TlsTrouble
from countersign.proxy.leg import HandshakeEnded
from countersign.proxy.trouble import failed_handshake
from countersign.recorder.recording import FailureCode, LegRole, Party, Verification
from countersign.recorder.wire.codes import CERTIFICATE, SUPPORTED_VERSIONS
from countersign.recorder.wire.events import Content
from countersign.recorder.wire.names import alert_name, cipher_suite_name

if TYPE_CHECKING:
    from countersign.proxy.context import Context
    from countersign.proxy.leg import TlsLeg
    from countersign.proxy.settings import Address
    from countersign.proxy.stream import Stream
    from countersign.recorder.wire.reading import HelloSummary
    from countersign.recorder.wire.tap import LegTap

DEFAULT_GROUPS = (0x11EC, 0x001D, 0x0017, 0x001E, 0x0018, 0x0019, 0x0100, 0x0101)
"""OpenSSL's own groups in its own order."""


async def open_server_leg(
    context: Context, stream: Stream, target: Address, summary: HelloSummary, tap: LegTap
) -> TlsLeg:
    """The leg with the target, its handshake done. A failure ends the session; the client hears of it by ``tap``."""
    try:
        connection = context.engine.client_side.connection(
            server_offer(summary),
            name=summary.sni or target.host,
            sni=summary.sni_raw,
            alpn=summary.alpn_raw,
        )
    except TlsTrouble as trouble:
        whose = "" if context.settings.identity is None else ", which may be about the client certificate given to it"
        raise context.refuse(
            tap,
            "internal_error",
            LegRole.SERVER,
            Party.PROXY,
            code=FailureCode.CANNOT_BEGIN,
            text=f"cannot begin TLS with the target: OpenSSL says {trouble.reason!r}{whose}",
        ) from None
    leg = context.leg(LegRole.SERVER, stream, connection)
    try:
        await leg.handshake(context.settings.limits.handshake)
    except (TlsTrouble, HandshakeEnded) as trouble:
        _note_verification(context, leg)
        over = failed_handshake(context, leg, trouble)
        context.alert_client(tap, _fitting_alert(leg, trouble))
        raise over from None
    _note_verification(context, leg)
    return leg


def _note_verification(context: Context, leg: TlsLeg) -> None:
    error, enforced = leg.connection.verify_error, context.settings.verify
    if error is not None:
        leg.live.verification = Verification(trusted=False, error=error[0], depth=error[1], enforced=enforced)
    elif any(message.content is Content.HANDSHAKE and message.code == CERTIFICATE for message in leg.live.messages):
        leg.live.verification = Verification(trusted=True, enforced=enforced)


def _fitting_alert(leg: TlsLeg, trouble: TlsTrouble | HandshakeEnded) -> str:
    """What the client is told: the target's own fatal alert where it sent one."""
    if leg.peer_alert is not None:
        return alert_name(leg.peer_alert)
    return "handshake_failure" if isinstance(trouble, TlsTrouble) else "internal_error"


# -- what is offered ---------------------------------------------------------------------------------------------------


def server_offer(summary: HelloSummary) -> Offer:
    """Our own hello, but nothing that the client did not offer: else the target's choice could not be followed."""
    groups = [group for group in DEFAULT_GROUPS if group in summary.groups]
    groups = groups or [group for group in summary.groups if group in GROUP_NAMES]
    shares = set([group for group in groups if group in summary.key_share_groups][:4])  # OpenSSL takes no more
    names = [f"?{'*' if group in shares else ''}{GROUP_NAMES[group]}" for group in groups]
    versions, ciphers = offered_versions(summary), summary.ciphers
    if not groups:  # OpenSSL would offer its own: RFC 8446 9.2 wants the list, RFC 8422 4 does without
        versions = tuple(version for version in versions if version < 0x0304)
        if summary.groups:
            ciphers = tuple(cipher for cipher in ciphers if not cipher_suite_name(cipher).startswith("TLS_ECDH"))
    return Offer(versions, ciphers, ":".join(names))


def offered_versions(summary: HelloSummary) -> tuple[int, ...]:
    """Without supported_versions a hello means everything up to its version (RFC 8446 4.2.1)."""
    if SUPPORTED_VERSIONS in summary.extensions:
        return summary.versions
    return tuple(version for version in (0x0301, 0x0302, 0x0303) if version <= summary.legacy_version)
