"""The secrets of a recording as an NSS key log, the form that Wireshark reads (draft-ietf-tls-keylogfile)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from countersign.errors import AnswerIsNo

if TYPE_CHECKING:
    from countersign.recorder.recording import Recording


def export_keylog(recording: Recording) -> str:
    """One line a secret, each once. They open a capture of the real connection; keep the file as you would the data.

    Raises :class:`AnswerIsNo` where none were kept.
    """
    lines = list(dict.fromkeys(secret.line for leg in recording.legs for secret in leg.secrets))
    if not lines and recording.mode == "import":
        raise AnswerIsNo(
            f"recording {recording.id} has no key log: it was imported without secrets; import its capture again with"
            " --keylog FILE and --secrets all"
        )
    if not lines:
        raise AnswerIsNo(
            f"recording {recording.id} has no key log: it was recorded with --secrets none, the default, or with"
            " --secrets handshake, which keeps nothing below TLS 1.3; record again with --secrets all"
        )
    return "".join(f"{line}\n" for line in lines)
