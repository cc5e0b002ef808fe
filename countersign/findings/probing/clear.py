"""What a server says where a ServerHello belongs, when it is no TLS: which protocol that is, and how TLS begins in it.

Many servers begin in clear and take TLS up later (STARTTLS), so the port is the right one and the way to it is not.
They are known by how they greet, or by how they complain of a ClientHello.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from countersign.findings.probing.model import protocol_of
from countersign.recorder.recording import NO_TLS, LegRole
from countersign.recorder.wire.events import Side
from countersign.recorder.wire.records import looks_like_http_answer
from countersign.recorder.wire.redaction import first_line

if TYPE_CHECKING:
    from countersign.findings.probing.model import Plan
    from countersign.recorder.recording import Recording

_KNOWN = tuple(
    (re.compile(pattern, re.DOTALL | re.IGNORECASE), name, starttls)
    for pattern, name, starttls in (
        (rb"SSH-\d", "SSH", ()),  # RFC 4253 4.2
        (rb"220[ -][^\r\n]*LMTP", "LMTP", ("lmtp",)),  # RFC 2033 4
        (rb"220[ -][^\r\n]*FTP", "FTP", ("ftp",)),  # RFC 959 5.4
        (rb"220[ -][^\r\n]*SMTP", "SMTP", ("smtp",)),  # RFC 5321 3.1
        (rb"(?:220|421|554)[ -]", "SMTP or FTP", ("smtp", "ftp")),
        (rb"\* (?:OK|PREAUTH|BYE|BAD) ", "IMAP", ("imap",)),  # RFC 9051 7.1
        (
            rb"-ERR unknown command|-NOAUTH |-DENIED ",
            "Redis",
            (),
        ),  # RESP simple errors; POP3 greets before it complains
        (rb"\+OK|-ERR", "POP3", ("pop3",)),  # RFC 1939 3
        (rb"...\0(?:\x0a\d+\.\d|\xff.\x04)", "MySQL", ("mysql",)),  # Protocol::HandshakeV10, ERR_Packet
        (rb"E\0\0..S[A-Z]+\0", "PostgreSQL", ("postgres",)),  # ErrorResponse
        (rb"0(?:[\0-\x7f]|\x81.|\x82..|\x84....)\x02\x01.[\x61-\x79]", "LDAP", ("ldap",)),  # RFC 4511 4.1.1
        (rb"<\?xml[^>]*>\s*<stream:|<stream:", "XMPP", ("xmpp",)),  # RFC 6120 4.2
    )
)


def in_place_of_tls(first: bytes, *, upgraded: bool) -> str:
    """The end of the sentence about a server that began with these bytes; ``upgraded``: behind STARTTLS."""
    text = f"does not speak TLS: it said {first_line(first)}"
    if looks_like_http_answer(first):
        return f"{text}; that is HTTP"
    for pattern, name, starttls in _KNOWN:
        if pattern.match(first):
            text += f"; that is {name}"
            if starttls and not upgraded:
                text += f", in which TLS begins later: {' or '.join(f'--starttls {each}' for each in starttls)}"
            break
    return text


def other_way(plan: Plan, recording: Recording) -> str | None:
    """How else to ask a server that has said nothing at all, by its port; None where that tells nothing."""
    leg = recording.leg(LegRole.THROUGH)
    said = leg is not None and any(each.sender is Side.SERVER for each in leg.messages)
    if said or plan.starttls is not None or any(each.code in NO_TLS for each in recording.failures):
        return None
    name = protocol_of(plan.port)
    return name and f"Port {plan.port} is that of {name}, in which TLS begins later: --starttls {name}"
