"""Why a handshake of ours failed, as the recording tells it: who is at fault, in a word and in a sentence."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from countersign.proxy._openssl import TooCostly
from countersign.proxy.context import Over
from countersign.proxy.leg import HandshakeEnded
from countersign.recorder.certificates import read_certificate
from countersign.recorder.recording import FailureCode, LegRole, Party
from countersign.recorder.wire.reading import read_leg
from countersign.recorder.wire.records import looks_like_http_answer, looks_like_tls
from countersign.recorder.wire.redaction import first_bytes, first_line
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from countersign.proxy._openssl import TlsTrouble
    from countersign.proxy.context import Context
    from countersign.proxy.leg import TlsLeg
    from countersign.recorder.certificates import CertificateFacts

_WORDS = 80  # bytes in clear that are quoted
_KINDS = {
    **dict.fromkeys((2, 18, 19, 20, 21, 27, 28), FailureCode.UNTRUSTED),
    **dict.fromkeys((9, 10), FailureCode.NOT_VALID_NOW),
    **dict.fromkeys((62, 63, 64), FailureCode.WRONG_NAME),
}
"""By the X509_V_ERR numbers of X509_STORE_CTX_get_error(3); the rest are chains that are no good for other reasons."""


def peer_of(leg: TlsLeg) -> Party:
    """Who of a leg is not the proxy."""
    return Party.CLIENT if leg.role is LegRole.CLIENT else Party.TARGET


def behind_records(chunk: bytes) -> bytes:
    """What stands behind the last record in these bytes, which begin with one, and cannot begin another (RFC 8446 5.1).

    Of bytes that begin in the middle of a record it is all that is unlike one.
    """
    at = 0
    while at + 5 <= len(chunk) and 20 <= chunk[at] <= 24 and chunk[at + 1] == 3:
        at += 5 + int.from_bytes(chunk[at + 3 : at + 5])
    rest = chunk[at:]
    return rest if rest[:1] and (not 20 <= rest[0] <= 24 or rest[1:2] not in {b"", b"\3"}) else b""


_UNBIND = re.compile(rb"\x30.{1,5}\x42\x00", re.DOTALL)  # RFC 4511 4.3


def in_clear(data: bytes) -> str:
    """What bytes in clear say, in a few words."""
    if _UNBIND.match(data):
        return "an LDAP unbindRequest, as a client sends it that would not have the certificate"
    return printable(first_bytes(data[:_WORDS]), limit=2 * _WORDS)


def failed_handshake(context: Context, leg: TlsLeg, trouble: TlsTrouble | HandshakeEnded) -> Over:
    """Put on the recording why the handshake failed, unless the wire tells, and give what ends the session."""
    if isinstance(trouble, HandshakeEnded):
        leg.ended(trouble.how)
        return Over()
    if trouble.by_peer or leg.peer_alert is not None:
        return Over()  # its alert is on the recording, and says more than OpenSSL's words
    if isinstance(trouble, TooCostly):
        text = f"shows what is too costly to work with: {trouble.reason}; it was refused unworked"
        return context.over(leg.role, peer_of(leg), code=FailureCode.TOO_COSTLY, text=text)
    if leg.role is LegRole.SERVER:
        return _of_target(context, leg, trouble)
    if leg.connection.verify_error is not None or trouble.no_certificate:
        return _of_client(context, leg)
    if trouble.nothing_shared:
        return _unshared(context, leg, trouble)
    return _broken(context, leg, trouble)


def _of_target(context: Context, leg: TlsLeg, trouble: TlsTrouble) -> Over:
    settings = context.settings
    verdict = leg.connection.verify_error
    if verdict is not None and context.conduct.enforce:
        error, depth = verdict
        code = _KINDS.get(leg.connection.verify_number, FailureCode.BAD_CHAIN)
        about = "the leaf" if depth == 0 else f"certificate {depth} of the chain, counted from the leaf"
        if code is FailureCode.UNTRUSTED:
            roots = (
                "the system's roots, --upstream-ca names others" if settings.roots is None else "those of --upstream-ca"
            )
            about += f"; the roots that it trusts are {roots}"
        elif code is FailureCode.WRONG_NAME:
            about += _of_names(context, leg)
        elif code is FailureCode.NOT_VALID_NOW:
            about += _of_dates(leg, depth)
        text = f"does not trust the target's certificate: {error} ({about})"
        return context.over(leg.role, Party.PROXY, code=code, text=text)
    if leg.first and looks_like_tls(leg.first) is False:
        text = f"does not speak TLS: it answered {first_line(leg.first)}"
        code = FailureCode.PLAIN_HTTP if looks_like_http_answer(leg.first) else FailureCode.NOT_TLS
        return context.over(leg.role, Party.TARGET, code=code, text=text)
    if trouble.strange_version:
        text = f"answered with {read_leg(leg.live.messages).version}, which was not offered"
        return context.over(leg.role, Party.TARGET, code=FailureCode.VERSION_NOT_OFFERED, text=text)
    if not leg.live.messages:  # OpenSSL could not even say hello: that is the proxy's own
        return _unshared(context, leg, trouble)
    return _broken(context, leg, trouble)


def _of_client(context: Context, leg: TlsLeg) -> Over:
    verdict = leg.connection.verify_error
    text = "refuses the client: it was asked for a certificate, as ordered, and showed none"
    if verdict is not None:
        about = "the leaf" if verdict[1] == 0 else f"certificate {verdict[1]} of the chain, counted from the leaf"
        text = f"refuses the client's certificate, as ordered: {verdict[0]} ({about})"
    return context.over(leg.role, Party.PROXY, code=FailureCode.CLIENT_CERTIFICATE, text=text)


def _of_names(context: Context, leg: TlsLeg) -> str:
    """Which name was compared with which, and whether the client would compare the same."""
    sni, target = context.recording.sni, context.recording.target
    asked = f"{printable(sni, limit=255)}, the client's SNI" if sni else f"that of the target {target}: no SNI was sent"
    text = f"; the name checked is {asked}"
    if (leaf := _sent(leg, 0)) is not None:
        text += f"; the certificate is for {leaf.names()}"
    if sni:
        return f"{text}; the client would be shown the same names and refuse them too"
    return f"{text}; with --upstream-insecure the client decides about them"


def _of_dates(leg: TlsLeg, depth: int) -> str:
    """The date that was passed or is not reached. Only the leaf's are the client's too: those above are replaced."""
    text, sent = "", _sent(leg, depth)
    now = datetime.now(UTC)
    if sent is not None and sent.valid_at(now) is False:
        assert sent.not_after is not None
        expired = datetime.fromisoformat(sent.not_after) < now
        text = f"; expired on {sent.not_after}" if expired else f"; valid from {sent.not_before} on"
    if depth == 0:
        return f"{text}; the client would be shown the same dates and refuse them too"
    return f"{text}; --upstream-insecure lets it through"


def _sent(leg: TlsLeg, place: int) -> CertificateFacts | None:
    chain = [one.der for one in read_leg(leg.live.messages).certificates if one.sender is leg.peer]
    return read_certificate(chain[place]) if place < len(chain) else None


def _unshared(context: Context, leg: TlsLeg, trouble: TlsTrouble) -> Over:
    text = f"found nothing that both sides speak: OpenSSL says {trouble.reason!r}"
    return context.over(leg.role, Party.PROXY, code=FailureCode.NOTHING_SHARED, text=text)


def _broken(context: Context, leg: TlsLeg, trouble: TlsTrouble) -> Over:
    text = f"sent something that cannot be taken: OpenSSL says {trouble.reason!r}"
    return context.over(leg.role, peer_of(leg), code=FailureCode.BROKEN_MESSAGE, text=text)
