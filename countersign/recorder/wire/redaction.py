"""What a recording may keep of what strangers say in clear, before TLS or in its place.

A recording is made to be attached to a ticket, and what a client says to a proxy holds its credentials more
often than not. Where they stand is known for some places and guessed for the others, and a guess by name ("does this
look like a password?") misses. So it goes the other way round: of a request, only what cannot hold any is kept.

- Of its target: no user name, no password, no parameters of its path (``;jsessionid=``), no query and no fragment (RFC
  3986 3.2.1, 3.3, 3.4, 3.5).
- Of its fields: the names of the first hundred, and the values of those that are about the message and the software
  alone (:data:`KEPT_FIELDS`).

What is not HTTP is kept for 64 bytes, up to the first word that credentials may follow in one of the dialects that are
met there.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

REDACTED: Final = "(redacted)"

KEPT_FIELDS: Final = frozenset(
    {
        "accept", "accept-charset", "accept-encoding", "accept-language", "connection", "content-length",
        "content-type", "date", "expect", "host", "keep-alive", "max-forwards", "proxy-connection", "server", "te",
        "trailer", "transfer-encoding", "upgrade", "user-agent", "via",
    }
)  # fmt: skip
"""The fields of HTTP whose values are kept."""

_FIELDS_KEPT = 100
_LONGEST = 200
_BYTES_SHOWN = 16
_METHOD = re.compile(r"[A-Z]{1,20}")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def request_record(
    method: bytes, target: bytes, version: bytes, fields: Iterable[tuple[bytes, bytes]]
) -> dict[str, Any]:
    """The head of an HTTP request as a recording's ``prelude`` keeps it."""
    method_text = method.decode("latin-1")
    kept = [[_shown(name), _field(name, value)] for name, value in fields]
    record: dict[str, Any] = {
        "method": method_text if _METHOD.fullmatch(method_text) else REDACTED,
        "target": printable(redacted_target(target.decode("latin-1")), limit=2_000),
        "version": version.decode("latin-1"),
        "headers": kept[:_FIELDS_KEPT],
    }
    if len(kept) > _FIELDS_KEPT:
        record["headers_left_out"] = len(kept) - _FIELDS_KEPT
    return record


def _field(name: bytes, value: bytes) -> str:
    lowered = name.decode("latin-1").lower()
    if lowered not in KEPT_FIELDS:
        return REDACTED
    return printable(redacted_target(value.decode("latin-1")), limit=_LONGEST) if lowered == "host" else _shown(value)


def _shown(text: bytes) -> str:
    return printable(text.decode("latin-1"), limit=_LONGEST)


def redacted_target(target: str, *, whole: bool = True) -> str:
    """A request's target without what may be secret in it; ``whole`` is false where its end has not come.

    Everything up to the last ``@`` is taken for user and password, whatever stands before it: a password may hold a
    slash, or a question mark.
    """
    scheme = _SCHEME.match(target)
    prefix = scheme[0] if scheme else ""
    rest = target[len(prefix) :]
    if "@" in rest:
        rest = f"{REDACTED}@{rest.rpartition('@')[2]}"
    elif not whole and not rest.startswith("/"):
        return f"{prefix}{REDACTED}"  # an @ may have followed
    found = re.search(r"[;?#]", rest)
    return prefix + (f"{rest[: found.end()]}{REDACTED}" if found else rest)


# -- what is no request to a proxy, and its first bytes only -------------------------------------------------------

_HTTP = re.compile(
    rb"(?:(GET|HEAD|POST|PUT|DELETE|OPTIONS|TRACE|PATCH|CONNECT|PROPFIND|RTSP) ([^ \r\n]*)|HTTP/[\d.]+ \d{3})"
)
_SECRETS_FOLLOW = re.compile(  # SMTP, IMAP, POP3, FTP, Redis, XMPP, PostgreSQL, forms; an LDAP BindRequest
    r"(?is)((?<![a-z])(?:auth|authenticate|authorization|bearer|cookie|pass|passcode|passw(?:or)?d|requirepass|pwd|login"
    r"|user|token|secret|session|sid|api[-_]?key)(?![a-z])|`.{1,5}\x02\x01[\x02\x03]).*"
)


def first_line(data: bytes) -> str:
    """How a conversation began that is none of ours, for a sentence: its first line without credentials, or bytes."""
    line = data.splitlines()[0].strip() if data else b""
    readable = line.isascii() and line.decode("ascii").isprintable() and line
    return repr(first_bytes(line)) if readable else data[:_BYTES_SHOWN].hex(" ")


def first_bytes(data: bytes) -> str:
    """The first bytes of a conversation, or of one side of it, without credentials, as printable text."""
    text = data.decode("latin-1")
    begin = _HTTP.match(data)
    if begin is None:
        text = re.sub(r"//\S*@|//\S*\Z", f"//{REDACTED}", text)
        return printable(_SECRETS_FOLLOW.sub(rf"\1 {REDACTED}", text))
    line, *fields = re.split(r"\r\n|\r|\n", text)
    if begin[1] is not None:
        target = redacted_target(begin[2].decode("latin-1"), whole=len(data) > begin.end())
        line = f"{begin[1].decode()} {target}{line[begin.end() :]}"
    kept = [line]
    for number, field in enumerate(fields):
        if not field:  # what comes behind the head is a body
            kept += [REDACTED] if any(fields[number:]) else []
            break
        name, colon, value = field.partition(":")
        shown = value if name.lower() in KEPT_FIELDS - {"host"} else f" {REDACTED}"
        kept.append(f"{name}:{shown}" if colon else REDACTED)
    return printable("\r\n".join(kept))
