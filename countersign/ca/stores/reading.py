"""Opens a key store of whichever type it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from countersign.ca.stores import pbe
from countersign.ca.stores.bcfks import read_bcfks
from countersign.ca.stores.der import read_der
from countersign.ca.stores.detect import detect
from countersign.ca.stores.errors import StoreError, TooCostly
from countersign.ca.stores.fields import Source
from countersign.ca.stores.jks import read_jks
from countersign.ca.stores.model import Access, Store, StoreType
from countersign.ca.stores.pem import read_pem
from countersign.ca.stores.pkcs7 import read_pkcs7
from countersign.ca.stores.pkcs12 import read_pkcs12
from countersign.recorder.private_files import read_regular
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

LARGEST = 16 << 20
"""Bytes of a key store; the trust store of a JDK has 200 KB."""

_READERS: dict[StoreType, Callable[[Source, Access, pbe.Budget], Store]] = {
    StoreType.PEM: read_pem,
    StoreType.DER: read_der,
    StoreType.PKCS7: lambda source, _access, _budget: read_pkcs7(source),
    StoreType.PKCS12: read_pkcs12,
    StoreType.JKS: read_jks,
    StoreType.JCEKS: read_jks,
    StoreType.BCFKS: read_bcfks,
}


def read_store(
    data: bytes, password: str | None = None, *, key_password: str | None = None, open_keys: bool = True
) -> Store:
    """The entries of a key store, its type found from its bytes.

    Keys are opened with ``key_password``, or with ``password`` where there is none, unless ``open_keys`` is off.
    Without a password JKS and JCEKS are read unchecked and with their keys sealed; PKCS #12 as far as it is clear.
    Raises a :class:`StoreError`, which names what is wrong; nothing else, for any bytes.
    """
    if len(data) > LARGEST:
        raise TooCostly(f"expected a key store of at most {LARGEST >> 20} MiB, got {len(data)} bytes; is it one?")
    kind = detect(data)
    source = Source(data, "the file", f"{kind.label} store")
    return _READERS[kind](source, Access(password, key_password, open_keys), pbe.Budget())


def load_store(
    path: str | os.PathLike[str],
    password: str | None = None,
    *,
    key_password: str | None = None,
    open_keys: bool = True,
) -> Store:
    """The same from a file; the text of a :class:`StoreError` begins with its name."""
    place = Path(path)
    data = read_regular(place, at_most=LARGEST)
    if data is None:
        raise StoreError(f"cannot read {_shown(place)}: there is no such file; name the key store")
    try:
        return read_store(data, password, key_password=key_password, open_keys=open_keys)
    except StoreError as wrong:
        raise wrong.about(f"cannot read {_shown(place)}") from wrong


def _shown(path: Path) -> str:
    return printable(str(path))
