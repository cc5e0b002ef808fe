"""Whom the proxy trusts upstream: the system's roots, or those of a file.

OpenSSL does the verifying, in the proxy, from the same file or the same default places. What is here is for people: a
file is read before the first connection, so that a wrong one is a sentence at the start and not a hundred refused
handshakes, and a :class:`TrustStore` can say what it is when a chain was refused.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from countersign.ca.pem import PemError, certificates_in
from countersign.errors import UserError


class TrustError(UserError):
    """A file of trusted roots that cannot be used; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class TrustStore:
    """The roots that targets are verified against. ``roots`` is ``None`` where they are the system's own.

    ``name`` is how messages call it.
    """

    name: str
    roots: tuple[bytes, ...] | None = None
    path: Path | None = None

    @classmethod
    def system(cls) -> Self:
        """What OpenSSL takes by default: ``SSL_CERT_FILE`` and ``SSL_CERT_DIR``, else the system's places."""
        places = ssl.get_default_verify_paths()
        file = os.environ.get(places.openssl_cafile_env) or places.cafile
        place = file or os.environ.get(places.openssl_capath_env) or places.capath
        return cls(f"the system's trust store ({place})" if place else "the system's trust store, which is empty")

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Self:
        """The roots in ``path``. Raises :class:`TrustError`."""
        path = Path(path)
        roots = load_roots(path)
        return cls(f"{path} ({len(roots)} certificate{'s' if len(roots) > 1 else ''})", roots, path)

    @classmethod
    def choose(cls, path: str | os.PathLike[str] | None) -> Self:
        """The file if one is given (``--upstream-ca``), else the system's."""
        return cls.system() if path is None else cls.from_file(path)


def load_roots(path: str | os.PathLike[str]) -> tuple[bytes, ...]:
    """The DER of each certificate in a PEM bundle or DER file, each once. Raises :class:`TrustError`."""
    try:
        data = Path(path).read_bytes()
    except OSError as wrong:
        reason = (wrong.strerror or str(wrong)).lower()
        raise TrustError(f"cannot read the trusted roots in {path}: {reason}; name a PEM file") from wrong
    try:
        return tuple(dict.fromkeys(certificates_in(data)))
    except PemError as wrong:
        raise TrustError(f"cannot read the trusted roots in {path}: {wrong}") from wrong
