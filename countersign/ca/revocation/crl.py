"""Certificate revocation lists, built of what they are told and read strictly (RFC 5280 5).

A CRL may be huge, and a client that is given one of 100 MB is worth watching, so one can be made without ever being in
memory: :func:`write_big_crl` writes the signed part to a file, signs the file's mapping, and sets the signature behind
it. The filler entries are right entries of serial numbers that nobody has.

RFC 5280 is meant wherever only a section is cited.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from countersign.ca import assemble
from countersign.ca.revocation.points import CrlPoint, freshest_crl, reason_flags, uri
from countersign.ca.revocation.register import Reason
from countersign.recorder import der
from countersign.recorder.certificates import cut_extensions
from countersign.recorder.der import DerError, Piece
from countersign.recorder.x509_fields import read_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from countersign.ca.signer import Signer

CRL_NUMBER, DELTA_INDICATOR, DISTRIBUTION_POINT = "2.5.29.20", "2.5.29.27", "2.5.29.28"

_REASON_CODE, _AKI, _FRESHEST = "2.5.29.21", "2.5.29.35", "2.5.29.46"
_VERSION_2 = der.encode_integer(1)
_LONGEST_END = 1 << 11  # an algorithm and a signature of RSA 8192, with room to spare


@dataclass(frozen=True, slots=True)
class Listed:
    """One entry: a certificate that is revoked, or in a delta CRL one that no longer is (``removeFromCRL``)."""

    serial: int
    at: datetime
    reason: Reason = Reason.UNSPECIFIED

    @property
    def encoded(self) -> bytes:
        """5.1.2.6; a reason that says nothing is left out (5.3.1)."""
        extensions = b""
        if self.reason is not Reason.UNSPECIFIED:
            coded = der.encode(der.ENUMERATED, bytes((self.reason.code,)))
            extensions = der.encode(der.SEQUENCE, assemble.extension(_REASON_CODE, coded))
        return der.encode(der.SEQUENCE, der.encode_integer(self.serial), _times(self.at), extensions)


@dataclass(frozen=True, slots=True)
class CrlFields:
    """What a CRL is to say: ``issuer`` is a Name's DER, ``key_id`` of who signs.

    ``base`` makes it a delta CRL to the complete one of that number (5.2.4); ``freshest`` says where the delta is
    (5.2.6); ``point`` is the distribution point that it is for (5.2.5), with the reasons that it is about if not all.
    """

    issuer: bytes
    key_id: bytes
    this_update: datetime
    next_update: datetime | None
    number: int
    entries: tuple[Listed, ...] = ()
    base: int | None = None
    freshest: tuple[str, ...] = ()
    point: CrlPoint | None = None

    def head(self, algorithm: bytes) -> bytes:
        """What is before the entries."""
        dates = (self.this_update,) if self.next_update is None else (self.this_update, self.next_update)
        return b"".join((_VERSION_2, algorithm, self.issuer, *map(_times, dates)))

    @property
    def extensions(self) -> bytes:
        """What is behind the entries."""
        made = [
            assemble.authority_key_identifier(self.key_id),
            assemble.extension(CRL_NUMBER, der.encode_integer(self.number)),
        ]
        if self.base is not None:
            made.append(assemble.extension(DELTA_INDICATOR, der.encode_integer(self.base), critical=True))
        if self.point is not None:
            made.append(_issuing_point(self.point))
        if self.freshest:
            made.append(freshest_crl(self.freshest))
        return der.encode(0xA0, der.encode(der.SEQUENCE, *made))


def _issuing_point(point: CrlPoint) -> bytes:
    """5.2.5: critical, and its name the same as in the certificates."""
    name = der.encode(0xA0, der.encode(0xA0, uri(point.url)))
    flags = reason_flags(0x83, point.reasons) if point.reasons else b""
    return assemble.extension(DISTRIBUTION_POINT, der.encode(der.SEQUENCE, name, flags), critical=True)


def build_crl(signer: Signer, fields: CrlFields, *, broken: bool = False) -> bytes:
    """A signed CertificateList; ``broken``: the last bit of its signature is the wrong one."""
    entries = b"".join(entry.encoded for entry in fields.entries)
    listed = der.encode(der.SEQUENCE, entries) if entries else b""  # 5.1.2.6: absent where nothing is revoked
    signed = der.encode(der.SEQUENCE, fields.head(signer.algorithm), listed, fields.extensions)
    return der.encode(der.SEQUENCE, signed, signer.algorithm, _signature(signer, signed, broken=broken))


def write_big_crl(file: BinaryIO, signer: Signer, fields: CrlFields, size: int, *, broken: bool = False) -> int:
    """A CRL of about ``size`` bytes, filled up with entries, into an empty file; its true size is returned.

    Memory is bounded whatever the size. Blocks until it is written, about a second for 200 MB.
    """
    head, extensions = fields.head(signer.algorithm), fields.extensions
    own = b"".join(entry.encoded for entry in fields.entries)
    filler = _Filler(fields.this_update)
    count = max((size - len(head) - len(own) - len(extensions) - _LONGEST_END) // filler.entry_size, 8)
    while True:
        listed = _header(der.SEQUENCE, len(own) + count * filler.entry_size)
        inside = len(head) + len(listed) + len(own) + count * filler.entry_size + len(extensions)
        start = _header(der.SEQUENCE, inside)
        # The signature varies in length and is known last; the header before it must be of one size all the same.
        room = len(_header(der.SEQUENCE, len(start) + inside))
        if room == len(_header(der.SEQUENCE, len(start) + inside + _LONGEST_END)):
            break
        count -= 1
    file.write(bytes(room) + start + head + listed + own)
    file.writelines(filler.blocks(count))
    file.write(extensions)
    file.flush()
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped)[room:] as signed:
        end = signer.algorithm + _signature(signer, signed, broken=broken)
    file.write(end)
    file.seek(0)
    file.write(_header(der.SEQUENCE, len(start) + inside + len(end)))
    file.flush()
    return room + len(start) + inside + len(end)


class _Filler:
    """Entries that are all of one size, made many at a time."""

    _AT_ONCE = 4096
    _MARK = b"\x7ffiller"

    def __init__(self, at: datetime) -> None:
        time = _times(at)
        sample = der.encode(der.SEQUENCE, der.encode(der.INTEGER, bytes(16)), time)
        self.entry_size = len(sample)
        self._serial_at = len(sample) - len(time) - 16
        self._block = b"".join(
            b"".join((sample[: self._serial_at], self._MARK, bytes(5), number.to_bytes(4), time))
            for number in range(self._AT_ONCE)
        )

    def blocks(self, count: int) -> Iterable[bytes]:
        """So many entries, no serial twice: five bytes of it count the blocks."""
        for number in range(-(-count // self._AT_ONCE)):
            block = self._block.replace(self._MARK + bytes(5), self._MARK + number.to_bytes(5))
            yield block[: (count - number * self._AT_ONCE) * self.entry_size]


def _header(tag: int, length: int) -> bytes:
    """A tag and a length that is at least 128 (X.690 8.1.3.5)."""
    size = length.to_bytes((length.bit_length() + 7) // 8)
    return bytes((tag, 0x80 | len(size))) + size


def _signature(signer: Signer, signed: bytes | memoryview, *, broken: bool) -> bytes:
    signature = signer.sign(signed)  # type: ignore[arg-type]  # every key of the library takes any buffer
    if broken:
        signature = signature[:-1] + bytes((signature[-1] ^ 1,))
    return der.encode(der.BIT_STRING, b"\x00", signature)


def _times(moment: datetime) -> bytes:
    """5.1.2.4: a Time by the rule for certificates, UTCTime up to 2049 and GeneralizedTime from 2050."""
    return der.first_piece(assemble.validity_der(moment, b"")).body


# -- read --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Crl:
    """A CRL as it was read. ``listed`` is the body of the list of entries.

    ``only`` says in words what it is limited to by 5.2.5, and is empty for one about everything.
    """

    issuer: bytes
    this_update: datetime
    next_update: datetime | None
    listed: bytes
    base: int | None
    only: tuple[str, ...]
    unknown_critical: tuple[str, ...]
    signed: bytes
    algorithm: bytes
    signature: bytes

    def find(self, serial: int) -> Listed | None:
        """The entry of a certificate. Takes about a second for 15 MB; raises :class:`DerError` on a broken one."""
        for piece in der.pieces(self.listed):
            parts = der.at_most(3, piece.expect(der.SEQUENCE, "an entry of a CRL").body, "an entry of a CRL")
            if len(parts) < 2:
                raise DerError(f"expected a serial number and a date in an entry of a CRL, got {len(parts)} parts")
            number = parts[0].expect(der.INTEGER, "a serial number").body
            if len(number) <= 64 and der.decode_integer(number) == serial:
                return Listed(serial, read_time(parts[1])[0], _read_reason(parts[2:]))
        return None


def read_crl(data: bytes) -> Crl:
    """Raises :class:`DerError` for what is no CertificateList."""
    signed, algorithm, signature = der.exactly(
        3, der.whole(data, der.SEQUENCE, "a CertificateList").body, "a CertificateList"
    )
    fields = der.at_most(8, signed.expect(der.SEQUENCE, "a TBSCertList").body, "a TBSCertList")
    if fields and fields[0].tag == der.INTEGER:
        fields.pop(0)
    if len(fields) < 3:
        raise DerError(f"expected at least 3 parts in a TBSCertList, got {len(fields)}")
    _, issuer, this_update, *rest = fields
    next_update, listed, extensions = None, b"", b""
    for part in rest:
        match part.tag:
            case der.UTC_TIME | der.GENERALIZED_TIME if next_update is None:
                next_update, _ = read_time(part)
            case der.SEQUENCE:
                listed = part.body
            case 0xA0:
                extensions = part.raw
            case tag:
                raise DerError(f"expected dates, entries or extensions in a TBSCertList, got tag 0x{tag:02x}")
    base, only, unknown = _read_extensions(extensions)
    return Crl(
        issuer=issuer.raw,
        this_update=read_time(this_update)[0],
        next_update=next_update,
        listed=listed,
        base=base,
        only=only,
        unknown_critical=unknown,
        signed=signed.raw,
        algorithm=algorithm.raw,
        signature=signature.raw,
    )


def _read_extensions(field: bytes) -> tuple[int | None, tuple[str, ...], tuple[str, ...]]:
    base: int | None = None
    only: tuple[str, ...] = ()
    unknown: list[str] = []
    for extension in cut_extensions(field, tag=0xA0) if field else ():
        match extension.oid:
            case _ if extension.oid == DELTA_INDICATOR:
                base = der.decode_integer(der.whole(extension.value, der.INTEGER, "a CRL number").body)
            case _ if extension.oid == DISTRIBUTION_POINT:
                only = _read_limits(extension.value)
            case oid if extension.critical and oid not in {_AKI, CRL_NUMBER, _FRESHEST}:
                unknown.append(oid)
    return base, only, tuple(unknown)


def _read_limits(value: bytes) -> tuple[str, ...]:
    """5.2.5: what a CRL is limited to; each flag is an implicitly tagged BOOLEAN, the reasons a BIT STRING."""
    words = {0x81: "user certificates", 0x82: "CA certificates", 0x84: "indirect", 0x85: "attribute certificates"}
    found: list[str] = []
    for part in der.children(value, "an IssuingDistributionPoint"):
        if part.tag in words and any(part.body):
            found.append(words[part.tag])
        elif part.tag == 0x83:
            found.append("some reasons")
    return tuple(found)


def _read_reason(extensions: Sequence[Piece]) -> Reason:
    for piece in extensions:
        for extension in cut_extensions(der.encode(0xA0, piece.raw), tag=0xA0):
            if extension.oid == _REASON_CODE:
                coded = der.whole(extension.value, der.ENUMERATED, "a reason")
                return Reason.of_code(der.decode_integer(coded.body)) or Reason.UNSPECIFIED
    return Reason.UNSPECIFIED
