"""Whom the proxy trusts upstream, where that is a file's roots.

OpenSSL does the verifying, in the proxy. What is here is for people: the file is read before the first connection, so
that a wrong one is a sentence at the start and not a hundred refused handshakes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from countersign.ca.pem import PemError, certificates_in, check_no_trust
from countersign.errors import UserError
from countersign.recorder.private_files import FileFault, read_regular

if TYPE_CHECKING:
    import os


_LARGEST = 16 << 20  # bytes; the bundle of a browser has 250 KB


class TrustError(UserError):
    """A file of trusted roots that cannot be used; the text says why and what to do."""


def load_roots(path: str | os.PathLike[str]) -> tuple[bytes, ...]:
    """The DER of each certificate in a PEM bundle or DER file, each once.

    Raises :class:`TrustError`, also for one that OpenSSL's settings say is not trusted for everything.
    """
    try:
        data = read_regular(path, at_most=_LARGEST)
    except FileFault as wrong:
        raise TrustError(f"cannot use the trusted roots: {wrong}") from wrong
    if data is None:
        raise TrustError(f"cannot read the trusted roots in {path}: no such file or directory; name a PEM file")
    try:
        check_no_trust(data)
        return tuple(dict.fromkeys(certificates_in(data)))
    except PemError as wrong:
        raise TrustError(f"cannot read the trusted roots in {path}: {wrong}") from wrong
