"""The secrets of a recording as an NSS key log, the form that Wireshark reads (draft-ietf-tls-keylogfile)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from countersign.errors import UserError

if TYPE_CHECKING:
    from countersign.recorder.recording import Recording


class NoSecrets(UserError):  # noqa: N818 - the recording is in order, it only has no secrets
    """There is no key log to export. The answer is no, the usage was right: exit code 1 (DESIGN: command line)."""

    exit_code = 1


def export_keylog(recording: Recording) -> str:
    """One line a secret, each once. They open a capture of the real connection; keep the file as you would the data.

    Raises :class:`NoSecrets` where none were kept.
    """
    lines = list(dict.fromkeys(secret.line for leg in recording.legs for secret in leg.secrets))
    if not lines:
        raise NoSecrets(
            f"recording {recording.id} has no key log: it was recorded with --secrets none, the default, or with"
            " --secrets handshake, which keeps nothing below TLS 1.3; record again with --secrets all"
        )
    return "".join(f"{line}\n" for line in lines)
