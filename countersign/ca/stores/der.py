"""DER files: one certificate, as most programs write it, or keys and certificates one behind another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from countersign.ca.stores import loose, pbe
from countersign.ca.stores.errors import CannotHold, DigestWrong, PasswordMissing
from countersign.ca.stores.model import Access, CertificateEntry, Entry, KeyEntry, Store, StoreType
from countersign.recorder import der
from countersign.recorder.certificates import cut_certificate

if TYPE_CHECKING:
    from collections.abc import Iterable

    from countersign.ca.stores.fields import Node, Source

_MOST = 10_000
_LINE_BREAKS = b"\r\n\t \x1a"


def read_der(source: Source, access: Access, budget: pbe.Budget) -> Store:
    """What lies in the file, as entries. Raises :class:`StructureBroken`, :class:`DigestWrong` for an encrypted key
    that does not open, and :class:`PasswordMissing` where one is there and no password.
    """
    keys: list[loose.LooseKey] = []
    certificates: list[loose.LooseCertificate] = []
    end = len(source.data.rstrip(_LINE_BREAKS))
    offset = 0
    while offset < end or not offset:
        node, after = source.node(offset, len(source.data))
        _sort(node, keys, certificates, access, budget)
        offset = after
        if len(keys) + len(certificates) > _MOST:
            raise source.broken(offset, f"more than {_MOST} keys and certificates")
    return Store(StoreType.DER, loose.put_together(StoreType.DER, keys, certificates))


def _sort(
    node: Node,
    keys: list[loose.LooseKey],
    certificates: list[loose.LooseCertificate],
    access: Access,
    budget: pbe.Budget,
) -> None:
    parts = [part.tag for part in node.expect(der.SEQUENCE, "a certificate or key").children(at_most=16)]
    if parts == [der.SEQUENCE, der.SEQUENCE, der.BIT_STRING]:
        try:
            cut_certificate(node.raw)
        except der.DerError as wrong:
            raise node.broken(f"expected a certificate, got something else ({wrong})") from wrong
        certificates.append(loose.LooseCertificate(node.start, node.raw))
    elif parts == [der.SEQUENCE, der.OCTET_STRING]:
        key = open_sealed(node, access, budget, StoreType.DER) if access.open_keys else None
        keys.append(loose.LooseKey(node.start, key, node.raw))
    elif parts[:1] == [der.INTEGER]:
        key = loose.as_pkcs8(node.raw)
        if key is None:
            raise node.broken("expected a private key, got one that cannot be read")
        keys.append(loose.LooseKey(node.start, key))
    else:
        raise node.broken("expected a certificate or a private key, got something else")


def open_sealed(node: Node, access: Access, budget: pbe.Budget, kind: StoreType) -> bytes:
    """The key in an EncryptedPrivateKeyInfo that stands alone in a file."""
    if access.for_keys is None:
        raise PasswordMissing(f"the encrypted key in this {kind.label} file")
    try:
        return pbe.open_key(node, pbe.Secret(access.for_keys), budget, "the key")
    except pbe.WrongSecretError as wrong:
        raise DigestWrong(kind.label, what="the padding of its encrypted key") from wrong


def write_der(entries: Iterable[Entry]) -> bytes:
    """The one certificate. Raises :class:`CannotHold` for anything more."""
    entries = list(entries)
    if any(not isinstance(entry, CertificateEntry) for entry in entries):
        keys = sum(isinstance(entry, KeyEntry) for entry in entries)
        raise CannotHold(
            f"a DER file holds one certificate, and there {'is a key' if keys == 1 else f'are {keys} keys'} to write; "
            "name the entry of a certificate with --alias, or take pem or pkcs12"
        )
    certificates = [entry.certificate for entry in entries if isinstance(entry, CertificateEntry)]
    if len(certificates) != 1:
        raise CannotHold(
            f"a DER file holds one certificate, and there are {len(certificates)} to write; "
            "name one with --alias, or take pem or pkcs7"
        )
    return certificates[0]
