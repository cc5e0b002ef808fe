"""PKCS #7 (RFC 2315, RFC 5652 5.1): certificates in a SignedData that nobody signed, DER or PEM; ``.p7b`` and
``.p7c``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from countersign.ca.pem import blocks_in, to_pem
from countersign.ca.stores import loose
from countersign.ca.stores.chains import leaf_first
from countersign.ca.stores.detect import PKCS7_LABELS
from countersign.ca.stores.errors import CannotHold
from countersign.ca.stores.fields import Source
from countersign.ca.stores.model import CertificateEntry, Entry, Store, StoreType
from countersign.recorder import der

if TYPE_CHECKING:
    from collections.abc import Iterable

_SIGNED_DATA, _DATA = "1.2.840.113549.1.7.2", "1.2.840.113549.1.7.1"


def read_pkcs7(source: Source) -> Store:
    """The certificates as entries, a leaf first: the file has no order. Raises :class:`StructureBroken`."""
    if source.data[:1] == b"\x30":
        return store_of(source)
    stores: list[Store] = []
    for block in blocks_in(source.data):
        if block.label in PKCS7_LABELS:
            if block.data is None:
                raise source.broken(block.start, f"the PKCS7 block {block.problem}")
            stores.append(store_of(Source(block.data, "the PKCS7 block", "PKCS #7 file")))
    certificates = [der for store in stores for der in store.certificates]
    notes = tuple(dict.fromkeys(note for store in stores for note in store.notes))
    return Store(StoreType.PKCS7, _entries(certificates), notes=notes)


def store_of(source: Source) -> Store:
    """One ContentInfo."""
    node, after = source.node(0, len(source.data))
    if source.data[after:].strip(b"\r\n\t \0"):
        raise source.broken(after, f"{len(source.data) - after} bytes after the end")
    kind, content = node.sequence("a ContentInfo", 2, 2)
    if (oid := kind.oid("a content type")) != _SIGNED_DATA:
        raise kind.broken(f"expected SignedData, got a content of type {oid}")
    parts = content.expect(0xA0, "the content").only("SignedData").sequence("SignedData", 4, 6)
    certificates: list[bytes] = []
    notes: list[str] = []
    for part in parts[3:-1]:
        if part.tag == 0xA0:
            certificates += [each.expect(der.SEQUENCE, "a certificate").raw for each in part.children()]
        elif part.tag == 0xA1:
            notes.append("lists of revoked certificates in it are left out")
    return Store(StoreType.PKCS7, _entries(certificates), notes=tuple(notes))


def _entries(certificates: Iterable[bytes]) -> tuple[Entry, ...]:
    in_order = [loose.LooseCertificate(0, each) for each in leaf_first(certificates)]
    return loose.put_together(StoreType.PKCS7, (), in_order)


def write_pkcs7(entries: Iterable[Entry], *, armour: bool = False) -> bytes:
    """The certificates of their own, as DER or (``armour``) PEM. Raises :class:`CannotHold` for a key."""
    certificates: list[bytes] = []
    for entry in entries:
        if not isinstance(entry, CertificateEntry):
            raise CannotHold(
                "a PKCS #7 file holds certificates and no keys; add --certificates-only for the chain without its key, "
                "or take pkcs12"
            )
        certificates.append(entry.certificate)
    nothing = der.encode(der.SET)
    signed = der.encode(
        der.SEQUENCE,
        der.encode_integer(1),
        nothing,
        der.encode(der.SEQUENCE, der.encode_oid(_DATA)),
        der.encode(0xA0, *sorted(certificates)),  # X.690 11.6: a SET OF is sorted
        nothing,
    )
    data = der.encode(der.SEQUENCE, der.encode_oid(_SIGNED_DATA), der.encode(0xA0, signed))
    return to_pem(data, "PKCS7") if armour else data
