"""A certificate before it is signed: pieces that can each be replaced.

Everybody who makes certificates makes a draft first: from the target's certificate, from nothing, or from a certificate
that is there already. Whoever wants one field otherwise (:mod:`countersign.ca.recipes`) changes that field of the draft
and no other; then it is signed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from countersign.ca import assemble
from countersign.recorder import der
from countersign.recorder.certificates import ExtensionPart, cut_certificate, cut_extensions

if TYPE_CHECKING:
    from collections.abc import Iterable

    from countersign.ca.signer import Signer


@dataclass(slots=True, kw_only=True)
class Draft:
    """The fields of RFC 5280 4.1 that stand before the signature, as DER, ``extensions`` one by one.

    ``version`` is empty for version 1; ``unique_ids`` are the parts between key and extensions (4.1.2.8), as they are.
    """

    version: bytes = assemble.VERSION_3
    serial: int | bytes
    issuer: bytes
    validity: bytes
    subject: bytes
    public_key: bytes
    unique_ids: tuple[bytes, ...] = ()
    extensions: list[ExtensionPart] = field(default_factory=list)

    @classmethod
    def of(cls, certificate: bytes) -> Self:
        """What was signed to make this certificate (DER). Raises :class:`~countersign.recorder.der.DerError`."""
        parts = cut_certificate(certificate)
        return cls(
            version=parts.version,
            serial=parts.serial,
            issuer=parts.issuer,
            validity=parts.validity,
            subject=parts.subject,
            public_key=parts.public_key,
            unique_ids=tuple(raw for _, raw in parts.others),
            extensions=[] if parts.extensions is None else list(cut_extensions(parts.extensions)),
        )

    def put(self, oid: str, value: bytes, *, critical: bool) -> None:
        """Put an extension in the place of the one of its kind, or behind the others."""
        new = part(oid, value, critical=critical)
        for index, each in enumerate(self.extensions):
            if each.oid == oid:
                self.extensions[index] = new
                return
        self.extensions.append(new)

    def drop(self, oid: str) -> None:
        """Leave out every extension of this kind."""
        self.extensions = [each for each in self.extensions if each.oid != oid]

    def find(self, oid: str) -> ExtensionPart | None:
        """The first extension of this kind."""
        return next((each for each in self.extensions if each.oid == oid), None)

    def sign(
        self,
        signer: Signer,
        *,
        inner_algorithm: bytes | None = None,
        outer_algorithm: bytes | None = None,
        broken: bool = False,
    ) -> bytes:
        """The certificate (DER); the options are those of :func:`~countersign.ca.assemble.assemble`."""
        return assemble.assemble(
            signer,
            version=self.version,
            serial=self.serial,
            issuer=self.issuer,
            validity=self.validity,
            subject=self.subject,
            public_key=self.public_key,
            before_extensions=self.unique_ids,
            extensions=[each.raw for each in self.extensions],
            inner_algorithm=inner_algorithm,
            outer_algorithm=outer_algorithm,
            broken=broken,
        )


def part(oid: str, value: bytes, *, critical: bool = False) -> ExtensionPart:
    """An extension of a draft."""
    return ExtensionPart(oid, critical, value, assemble.extension(oid, value, critical=critical))


def parts_of(extensions: Iterable[bytes]) -> tuple[ExtensionPart, ...]:
    """Encoded extensions as those of a draft. Raises :class:`~countersign.recorder.der.DerError`."""
    inside = b"".join(extensions)
    return tuple(cut_extensions(der.encode(0xA3, der.encode(der.SEQUENCE, inside)))) if inside else ()
