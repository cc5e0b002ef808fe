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
CERTIFICATE_VERIFY: Final = 15
FINISHED: Final = 20
KEY_UPDATE: Final = 24
COMPRESSED_CERTIFICATE: Final = 25

# Extensions (RFC 8446 4.2, RFC 7366).
ENCRYPT_THEN_MAC: Final = 22
EARLY_DATA: Final = 42
SUPPORTED_VERSIONS: Final = 43

# Alerts (RFC 8446 6, RFC 5246 7.2): how many bytes they have, the level, and descriptions.
ALERT_LENGTH: Final = 2
FATAL: Final = 2
CLOSE_NOTIFY: Final = 0
UNEXPECTED_MESSAGE: Final = 10
BAD_RECORD_MAC: Final = 20
DECRYPTION_FAILED: Final = 21
RECORD_OVERFLOW: Final = 22
DECOMPRESSION_FAILURE: Final = 30
HANDSHAKE_FAILURE: Final = 40
NO_CERTIFICATE: Final = 41
BAD_CERTIFICATE: Final = 42
UNSUPPORTED_CERTIFICATE: Final = 43
CERTIFICATE_REVOKED: Final = 44
CERTIFICATE_EXPIRED: Final = 45
CERTIFICATE_UNKNOWN: Final = 46
ILLEGAL_PARAMETER: Final = 47
UNKNOWN_CA: Final = 48
ACCESS_DENIED: Final = 49
DECODE_ERROR: Final = 50
DECRYPT_ERROR: Final = 51
PROTOCOL_VERSION: Final = 70
INSUFFICIENT_SECURITY: Final = 71
INTERNAL_ERROR: Final = 80
INAPPROPRIATE_FALLBACK: Final = 86
USER_CANCELED: Final = 90
NO_RENEGOTIATION: Final = 100
MISSING_EXTENSION: Final = 109
UNSUPPORTED_EXTENSION: Final = 110
UNRECOGNIZED_NAME: Final = 112
BAD_CERTIFICATE_STATUS_RESPONSE: Final = 113
UNKNOWN_PSK_IDENTITY: Final = 115
CERTIFICATE_REQUIRED: Final = 116
NO_APPLICATION_PROTOCOL: Final = 120

NEVER_FATAL: Final = frozenset({CLOSE_NOTIFY, USER_CANCELED, NO_RENEGOTIATION})
"""Alerts that end no handshake, whatever their level (RFC 8446 6.1, RFC 5246 7.2.2)."""

CONTENTS: Final = {
    20: Content.CHANGE_CIPHER_SPEC,
    21: Content.ALERT,
    22: Content.HANDSHAKE,
    24: Content.HEARTBEAT,
}
"""What the types of records carry that are told message by message (RFC 8446 5.1, RFC 6520)."""
