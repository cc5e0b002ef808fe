"""Signed certificate timestamps: a log's promise that it will show a certificate to the world (RFC 6962 3.2).

The same list comes in three places (RFC 6962 3.3): in a TLS extension, in an extension of the certificate, and in an
extension of a stapled OCSP response. Its form stands here, for all three. What a signature is worth is not said: that
needs the log's key.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

from countersign.recorder.wire import names
from countersign.recorder.wire.reader import U8, Bytes, FieldProblem, Fixed, Number, Reader, Struct, read_struct

IN_CERTIFICATE: Final = "1.3.6.1.4.1.11129.2.4.2"
POISON: Final = "1.3.6.1.4.1.11129.2.4.3"
"""What makes a precertificate unusable for anything but a log (RFC 6962 3.1)."""
IN_OCSP_RESPONSE: Final = "1.3.6.1.4.1.11129.2.4.5"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Milliseconds(Number):
    """A time in milliseconds since 1970, shown as RFC 3339 has it; beyond the year 9999 as a number."""

    __slots__ = ()

    def show(self, value: int) -> str | int:
        try:
            moment = _EPOCH + timedelta(milliseconds=value)
        except OverflowError:
            return value
        return f"{moment.replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


@dataclass(frozen=True, slots=True)
class SignedCertificateTimestamp(Struct):
    """RFC 6962 3.2. ``timestamp`` counts milliseconds since 1970, ``log_id`` is the SHA-256 of the log's key."""

    version: Annotated[int, U8]
    log_id: Annotated[bytes, Fixed(32)]
    timestamp: Annotated[int, Milliseconds(8)]
    extensions: Annotated[bytes, Bytes(2)]
    algorithm: Annotated[int, Number(2, names.SIGNATURE_SCHEMES)]
    signature: Annotated[bytes, Bytes(2)]


@dataclass(frozen=True, slots=True)
class TimestampList:
    """What a list held: its first entries, how many there were, and what was wrong with them."""

    scts: tuple[SignedCertificateTimestamp, ...]
    count: int
    problems: tuple[FieldProblem, ...]


def read_timestamps(data: bytes, *, most: int) -> TimestampList:
    """A SignedCertificateTimestampList by itself (RFC 6962 3.3), at most ``most`` of its entries typed."""
    problems: list[FieldProblem] = []
    reader = Reader(data, problems, name="")
    if reader.left < 2:
        reader.problem("", "a list behind two bytes of length", f"{len(data)} bytes")
        return TimestampList((), 0, tuple(problems))
    entries = reader.sub(2, "")
    reader.finish()
    scts: list[SignedCertificateTimestamp] = []
    count = 0
    while entries.left >= 2:
        entry = entries.sub(2, f"[{count}]", minimum=1)
        if count < most:
            scts.append(read_struct(SignedCertificateTimestamp, entry))
            entry.finish()
        count += 1
    entries.finish()
    return TimestampList(tuple(scts), count, tuple(problems))
