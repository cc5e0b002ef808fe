"""The numbers of TLS that decisions compare with. The names of all of them are in :mod:`.names`."""

from __future__ import annotations

from typing import Final

from countersign.recorder.wire.events import Content

# Handshake types (RFC 8446 4, RFC 5246 7.4).
HELLO_REQUEST: Final = 0
CLIENT_HELLO: Final = 1
SERVER_HELLO: Final = 2
NEW_SESSION_TICKET: Final = 4
END_OF_EARLY_DATA: Final = 5
ENCRYPTED_EXTENSIONS: Final = 8
CERTIFICATE: Final = 11
CERTIFICATE_REQUEST: Final = 13
FINISHED: Final = 20
KEY_UPDATE: Final = 24
COMPRESSED_CERTIFICATE: Final = 25

# Extensions (RFC 8446 4.2).
SUPPORTED_VERSIONS: Final = 43

# Alerts (RFC 8446 6): the level, and descriptions.
FATAL: Final = 2
CLOSE_NOTIFY: Final = 0
DECODE_ERROR: Final = 50
USER_CANCELED: Final = 90
NO_RENEGOTIATION: Final = 100
CERTIFICATE_REQUIRED: Final = 116

NEVER_FATAL: Final = frozenset({CLOSE_NOTIFY, USER_CANCELED, NO_RENEGOTIATION})
"""Alerts that end no handshake, whatever their level (RFC 8446 6.1, RFC 5246 7.2.2)."""

CONTENTS: Final = {
    20: Content.CHANGE_CIPHER_SPEC,
    21: Content.ALERT,
    22: Content.HANDSHAKE,
    24: Content.HEARTBEAT,
}
"""What the types of records carry that are told message by message (RFC 8446 5.1, RFC 6520)."""
