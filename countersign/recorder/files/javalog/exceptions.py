"""What an exception of Java says about the connection, and what of its text may be kept.

JSSE words the end of a connection as an exception, and the same few texts come from every version of it. Only those are
looked at that say how the bytes ended; *why* a certificate was refused is kept as text, for those who explain it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from countersign.recorder.recording import Ending
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

NOT_TLS: Final = "not-tls"

_ENDINGS: Final[tuple[tuple[re.Pattern[str], Ending | str], ...]] = (
    (re.compile(r"Unsupported or unrecognized SSL message|Unrecognized SSL message|plaintext connection"), NOT_TLS),
    (
        re.compile(
            r"Connection reset|Broken pipe|connection abort|Connection aborted|forcibly closed|"
            r"connection was aborted",
            re.IGNORECASE,
        ),
        Ending.RESET,
    ),
    (re.compile(r"Read timed out|SocketTimeoutException|Accept timed out"), Ending.SILENT),
    (
        re.compile(
            r"Remote host (?:terminated the handshake|closed connection)|SSL peer shut down incorrectly|"
            r"[Cc]losing inbound before receiving|Inbound closed before receiving|EOFException|"
            r"No data available to read|"
            r"TlsNoCloseNotifyException|end of stream"
        ),
        Ending.FIN,
    ),
)
_TURNED_DOWN = re.compile(
    r"SSLPeerUnverifiedException|HTTPS hostname wrong|hostname in certificate didn't match|"
    r"\b(?:Validator|CertPathValidator|Certificate(?:Expired|NotYetValid|Revoked)?)Exception\b"
)
_THROWN = re.compile(r"(?:Caused by: )?((?:[A-Za-z_$][\w$]*\.)+[A-Z][\w$]*(?:Exception|Error|Alert\w*|Throwable)\b.*)$")
_OF_TLS = re.compile(
    r"SSL|[tT]ls|Cert|PKIX|Validator|Socket|Connect|EOF|Security|KeyStore|KeyException|No trusted|IOException"
)
_FRAME = re.compile(r"at [\w$.<>/@-]+\(|\.\.\. \d+ (?:more|common frames omitted)")
_CREDENTIALS = re.compile(
    r"(?i)(?P<scheme>[a-z][a-z0-9+.-]*://)[^\s/@]+@"
    r"|(?P<header>(?:proxy-)?authorization:\s*)\S+(?:\s+\S+)?"
    r"|(?P<field>\b(?:[\w.-]*(?:password|passwd|passphrase|secret|token|apikey|api_key)|pwd|cookie)\b[\"']?\s*[=:]\s*)"
    r"(?:\"[^\"]*\"|'[^']*'|\S+)"
)
_MOST_CAUSES = 12
_LONGEST_TEXT = 1_000
_MOST_READ = 2_000  # of a line by an expression, which may take as long as this squared


def how_it_ended(texts: Iterable[str]) -> Ending | str | None:
    """How the peer's bytes ended by these texts, :data:`NOT_TLS`, or None where they do not tell."""
    joined = "\n".join(texts)
    return next((ending for pattern, ending in _ENDINGS if pattern.search(joined)), None)


def turned_down(texts: Iterable[str]) -> str | None:
    """By which of these texts a program refuses a peer's name or chain, were the handshake finished; None by none."""
    return next((text for text in texts if _TURNED_DOWN.search(text)), None)


def causes(lines: Iterable[str]) -> tuple[str, ...]:
    """The exception and its causes of a printed stack trace, outermost first."""
    found: list[str] = []
    for line in lines:
        stripped = line.strip()[:_MOST_READ]
        thrown = _THROWN.match(stripped)
        if thrown and not _FRAME.match(stripped) and len(found) < _MOST_CAUSES:
            text = kept(thrown[1].rstrip("}"))
            if text not in found:
                found.append(text)
    return tuple(found)


def is_frame(line: str) -> bool:
    """Whether it is a line of a stack trace behind the first one."""
    stripped = line.strip()
    return bool(_FRAME.match(stripped)) or stripped.startswith("Caused by: ")


def thrown_in(line: str) -> str | None:
    """The exception that a line names, anywhere in it."""
    found = re.search(
        r"((?:[A-Za-z_$][\w$]*\.)+(?:[A-Z][\w$]*(?:Exception|Error)|TlsFatalAlert\w*)\b.*)$", line[:_MOST_READ]
    )
    return None if found is None or _FRAME.match(line.strip()) else kept(found[1])


def of_tls(thrown: Iterable[str]) -> bool:
    """Whether an exception with these causes can have to do with a TLS connection."""
    return any(_OF_TLS.search(one.partition(": ")[0]) for one in thrown)


def kept(text: str) -> str:
    """A stranger's text as a recording may hold it: printable, of bounded length, without credentials."""

    def redacted(found: re.Match[str]) -> str:
        head = found["scheme"] or found["header"] or found["field"] or ""
        return f"{head}(redacted){'@' if found['scheme'] else ''}"

    return printable(_CREDENTIALS.sub(redacted, text.strip()[:_MOST_READ]), limit=_LONGEST_TEXT)
