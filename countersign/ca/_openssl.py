"""The one module of this room that knows OpenSSL: its verdict on a chain, and its hashes of names.

Whether a chain can be trusted is not decided twice (a verifier of one's own is wrong sooner or later): the
certificates go to OpenSSL's X509_verify_cert, as ``openssl verify`` gives them, and its error is the reason. Below
pyOpenSSL's public names lie the purpose, the expected host and the hash of an issuer's name; names that are missing
in another version of pyOpenSSL are reported at import, by name.
"""

from __future__ import annotations

import calendar
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import OpenSSL
from OpenSSL import _util, crypto

from countersign.errors import EnvironmentFault

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from ipaddress import IPv4Address, IPv6Address

_NEEDED = (
    "X509_STORE_set_purpose", "X509_STORE_set1_param", "X509_VERIFY_PARAM_new", "X509_VERIFY_PARAM_free",
    "X509_VERIFY_PARAM_set1_host", "X509_VERIFY_PARAM_set1_ip", "X509_VERIFY_PARAM_set_time", "X509_NAME_hash",
    "X509_get_issuer_name",
)  # fmt: skip
_lib: Any = _util.lib
_ffi: Any = _util.ffi
_missing = [name for name in _NEEDED if not hasattr(_lib, name)]
if _missing:
    raise EnvironmentFault(
        f"pyOpenSSL {OpenSSL.__version__} cannot be used: its binding lacks {', '.join(_missing)}; "
        "countersign was written for pyOpenSSL 26.4 with cryptography 50"
    )

PURPOSES = {
    "client": 1, "server": 2, "sslclient": 1, "sslserver": 2, "nssslserver": 3, "smimesign": 4, "smimeencrypt": 5,
    "crlsign": 6, "any": 7, "ocsphelper": 8, "timestampsign": 9, "codesign": 10,
}  # fmt: skip
"""The names that ``openssl verify -purpose`` takes, and two short ones."""


class Unreadable(ValueError):  # noqa: N818 - a fact about a certificate
    """OpenSSL does not read this certificate at all."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """OpenSSL's error (0: none), its words for it, which certificate of the chain it is about, and the chain if
    right.
    """

    code: int
    reason: str
    depth: int
    certificate: bytes | None
    chain: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Question:
    """What to verify for: a purpose, a host or an address in the leaf, a moment other than now."""

    purpose: str | None = None
    host: str | None = None
    address: IPv4Address | IPv6Address | None = None
    at: datetime | None = None


def _loaded(der: bytes) -> crypto.X509:
    try:
        return crypto.load_certificate(crypto.FILETYPE_ASN1, der)
    except crypto.Error as wrong:
        reasons = [entry[2] for entry in wrong.args[0] if entry[2]] if wrong.args else []
        raise Unreadable(reasons[-1] if reasons else "no certificate") from wrong


def name_hashes(der: bytes) -> tuple[str, str]:
    """What ``openssl x509 -hash -issuer_hash`` prints for a certificate. Raises :class:`Unreadable`."""
    certificate = _loaded(der)
    issuer = _lib.X509_NAME_hash(_lib.X509_get_issuer_name(certificate._x509))  # noqa: SLF001
    return f"{certificate.subject_name_hash():08x}", f"{issuer:08x}"


def judge(leaf: bytes, *, roots: Sequence[bytes] | None, untrusted: Sequence[bytes], question: Question) -> Judgement:
    """OpenSSL's verdict; ``roots`` are those of the system if there are none. Raises :class:`Unreadable`."""
    store = crypto.X509Store()
    if roots is None:
        places = ssl.get_default_verify_paths()
        if places.cafile or places.capath:
            store.load_locations(places.cafile, places.capath)
    for root in roots or ():
        store.add_cert(_loaded(root))
    _set(store, question)
    context = crypto.X509StoreContext(store, _loaded(leaf), [_loaded(each) for each in untrusted])
    try:
        chain = context.get_verified_chain()
    except crypto.X509StoreContextError as wrong:
        code, depth, reason = wrong.errors
        return Judgement(code, reason, depth, _dumped(wrong.certificate), ())
    return Judgement(0, "ok", 0, None, tuple(map(_dumped, chain)))


def _dumped(certificate: crypto.X509) -> bytes:
    return crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate)


def _set(store: crypto.X509Store, question: Question) -> None:
    if question.purpose is not None:
        _check(_lib.X509_STORE_set_purpose(store._store, PURPOSES[question.purpose]))  # noqa: SLF001
    parameters = _ffi.gc(_lib.X509_VERIFY_PARAM_new(), _lib.X509_VERIFY_PARAM_free)
    if question.host is not None:
        host = question.host.encode("ascii")
        _check(_lib.X509_VERIFY_PARAM_set1_host(parameters, host, len(host)))
    if question.address is not None:
        packed = question.address.packed
        _check(_lib.X509_VERIFY_PARAM_set1_ip(parameters, packed, len(packed)))
    if question.at is not None:
        _lib.X509_VERIFY_PARAM_set_time(parameters, calendar.timegm(question.at.utctimetuple()))
    _check(_lib.X509_STORE_set1_param(store._store, parameters))  # noqa: SLF001


def _check(result: int) -> None:
    if result != 1:
        raise EnvironmentFault("OpenSSL would not take a setting of the verification; is it out of memory?")
