"""The one module that knows OpenSSL: contexts, connections over memory BIOs, its callbacks, its reasons.

A :class:`TlsConnection` is an OpenSSL connection whose network side is bytes in and bytes out. What reaches below
pyOpenSSL's public names is all here:

- the *message callback* (``SSL_CTX_set_msg_callback``) gives every handshake message and alert in clear, in both
  directions, encrypted ones too. OpenSSL calls it when a message has come and before it works with it, so it is also
  the place where what is too costly to work with is kept from OpenSSL (:mod:`countersign.proxy.measures`): the
  callback cannot refuse, but it can spoil the message, and OpenSSL then refuses it with the alert that fits;
- callbacks get an ``SSL *`` that leads to a connection by a table of ours. Addresses are used again after a connection
  is freed, so an entry lives exactly as long as its connection;
- the *no-auto-chain mode*: without it OpenSSL completes a served chain from its trust store;
- ``SSL_read``, ``SSL_write``, ``BIO_read`` and ``BIO_write`` on buffers that are allocated once, for bulk data.

*Contexts* cost fifteen times as much as a connection. So there is one for each set of things that are offered, and it
is kept: by :class:`~countersign.proxy.offer.Mirror` for the target's side, by :class:`TlsServerSide` for the client's.
What changes with each connection (name, ALPN) is set on the connection.

*Tickets and session ids* belong to the context that a connection was made from, whatever context it is given later
(``SSL_set_SSL_CTX``). So all connections with clients are made from one of two base contexts that do nothing else, and
a session can be taken up again under another leaf and other settings, and in every process that was forked after the
bases were made. There are two because OpenSSL cannot be told to decline a session: a connection from the other base,
which has other keys, cannot open the ticket, makes a full handshake, and gives the client a ticket of its own. The name
of its key begins each ticket (RFC 5077 4), so the base that can open it is known from the ClientHello.

*Security level.* 2 where it can be: 112 bits, OpenSSL's default. It takes no version below TLS 1.2 at all, no SHA-1
and no tag of 64 bits, so where these are all that can be spoken it is 0, and the target's chain is then held to the
measure of level 2 by us. Towards the client it is 0 always: what is shown there is what the target has chosen.

Names that are missing in another version of pyOpenSSL are reported at import, by name.
"""

# ruff: noqa: SLF001 - pyOpenSSL's private names are what this module is for

from __future__ import annotations

import base64
import contextlib
import re
import time
from collections import OrderedDict
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import OpenSSL
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from OpenSSL import SSL, _util, crypto

from countersign.errors import EnvironmentFault
from countersign.proxy.measures import costly_chain, costly_prime, ffdhe_prime, weakness
from countersign.recorder import der
from countersign.recorder.certificates import cut_certificate, read_validity
from countersign.recorder.der import DerError
from countersign.recorder.wire.names import SIGNATURE_SCHEMES, TLS10, TLS11, TLS12, TLS13

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

_NEEDED = (
    "SSL_CTX_set_msg_callback", "SSL_CTX_set1_sigalgs_list", "SSL_CTX_set1_curves_list", "SSL_CTX_set_cert_store",
    "SSL_CTX_set_verify", "SSL_CTX_set_alpn_select_cb", "SSL_CTX_set_keylog_callback", "SSL_CTX_add_client_CA",
    "SSL_set_post_handshake_auth", "SSL_verify_client_post_handshake", "SSL_renegotiate", "SSL_set_cert_cb",
    "SSL_set_SSL_CTX", "SSL_CTX_set_client_CA_list",
    "SSL_CTX_set_session_cache_mode", "d2i_X509_NAME", "X509_NAME_free", "sk_X509_NAME_new_null", "sk_X509_NAME_push",
    "SSL_CTX_use_PrivateKey", "SSL_CTX_use_certificate", "SSL_CTX_add_extra_chain_cert", "SSL_CTX_set_tmp_dh",
    "PEM_read_bio_DHparams", "BIO_new_mem_buf", "X509_STORE_up_ref", "X509_dup", "X509_VERIFY_PARAM_set1_host",
    "X509_VERIFY_PARAM_set1_ip", "X509_verify_cert_error_string", "X509_STORE_CTX_get_current_cert",
    "X509_STORE_CTX_get_error", "X509_STORE_CTX_get_error_depth", "X509_STORE_CTX_set_error",
    "X509_STORE_CTX_get_ex_data",
    "SSL_get_ex_data_X509_STORE_CTX_idx", "SSL_get0_param", "SSL_CIPHER_find", "SSL_CIPHER_get_name",
    "SSL_get_current_cipher", "SSL_set_tlsext_host_name", "SSL_set_alpn_protos", "SSL_do_handshake", "SSL_read",
    "SSL_write", "SSL_get_error", "BIO_read", "BIO_write", "BIO_get_mem_data", "SSL_set_bio", "SSL_CTX_clear_mode",
    "ERR_clear_error", "SSL_set1_curves_list", "SSL_set_options",
    "SSL_CTX_set_session_id_context", "SSL_get_session", "SSL_SESSION_get_master_key", "SSL_set_session",
    "i2d_SSL_SESSION", "d2i_SSL_SESSION",
    "SSL_session_reused", "SSL_SESSION_free",
    "SSL_get_peer_certificate", "SSL_set_shutdown", "SSL_CTX_set_tlsext_status_cb", "SSL_set_tlsext_status_ocsp_resp",
    "SSL_set_tlsext_status_type", "SSL_get_tlsext_status_ocsp_resp", "TLSEXT_STATUSTYPE_ocsp", "OPENSSL_malloc",
)  # fmt: skip
_lib = _util.lib
_ffi = _util.ffi
_missing = [name for name in _NEEDED if not hasattr(_lib, name)]
if _missing:
    raise EnvironmentFault(
        f"pyOpenSSL {OpenSSL.__version__} cannot be used: its binding lacks {', '.join(_missing)}; "
        "countersign was written for pyOpenSSL 26.4 with cryptography 50"
    )

OPENSSL_VERSION = SSL.OpenSSL_version(SSL.SSLEAY_VERSION).decode("ascii", "replace").split(" (")[0]

_MODE_NO_AUTO_CHAIN = 0x8
_MODE_SEND_FALLBACK_SCSV = 0x80
_FALLBACK_SCSV = 0x5600  # RFC 7507: the target has to know, or it could not notice a downgrade
_MODES = _MODE_NO_AUTO_CHAIN | _lib.SSL_MODE_RELEASE_BUFFERS | _lib.SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER
_HANDSHAKE = 22
_SERVER_HELLO, _NEW_SESSION_TICKET, _CERTIFICATE, _SERVER_KEY_EXCHANGE, _CERTIFICATE_REQUEST = 2, 4, 11, 12, 13
_WEIGHED = frozenset({_SERVER_HELLO, _NEW_SESSION_TICKET, _CERTIFICATE, _SERVER_KEY_EXCHANGE})
_LATE = frozenset({(_CERTIFICATE_REQUEST, False), (_CERTIFICATE, True)})  # what is asked, and our answer
_EARLY_DATA = 42
_KEY_NAME = 16  # bytes at the beginning of each ticket
_WITHOUT = {
    TLS10: SSL.OP_NO_TLSv1,
    TLS11: SSL.OP_NO_TLSv1_1,
    TLS12: SSL.OP_NO_TLSv1_2,
    TLS13: SSL.OP_NO_TLSv1_3,
}
_NO_EXTENDED_MASTER_SECRET = 1  # SSL_OP_NO_EXTENDED_MASTER_SECRET
_NO_RESUMPTION_ON_RENEGOTIATION = 1 << 16  # a client that resumes in a renegotiation is asked nothing
_VERDICT_HOLDS = 60.0  # seconds

# OpenSSL's reasons (its ssl_err.c)
_TOO_LONG = "excessive message size"  # its bound is 100 KiB for certificates
_NO_CERTIFICATE = "peer did not return a certificate"
_STRANGE_VERSION = "unsupported protocol"
_RECORD_LAYER = "record layer failure"  # around what the record layer itself says
_NO_RECORD = frozenset({"wrong version number", "bad record type"})
_NO_RENEGOTIATION = "no renegotiation"
_NOTHING_SHARED = ("no shared", "no suitable", "no protocols available", "no ciphers available")

CHUNK = 128 * 1024
_LENT_FROM = 16 * 1024  # bytes that cost more to copy than to have a BIO made for them
_RECORD = 16 * 1024  # the most that one record can hold (RFC 8446 5.1)
_SEALED = CHUNK + 8 * 1024  # a chunk in full records, with what protects them

GROUP_NAMES = {
    0x0017: "secp256r1", 0x0018: "secp384r1", 0x0019: "secp521r1", 0x001A: "brainpoolP256r1", 0x001B: "brainpoolP384r1",
    0x001C: "brainpoolP512r1", 0x001D: "X25519", 0x001E: "X448", 0x001F: "brainpoolP256r1tls13",
    0x0020: "brainpoolP384r1tls13", 0x0021: "brainpoolP512r1tls13", 0x0100: "ffdhe2048", 0x0101: "ffdhe3072",
    0x0102: "ffdhe4096", 0x0103: "ffdhe6144", 0x0104: "ffdhe8192", 0x0200: "MLKEM512", 0x0201: "MLKEM768",
    0x0202: "MLKEM1024", 0x11EB: "SecP256r1MLKEM768", 0x11EC: "X25519MLKEM768", 0x11ED: "SecP384r1MLKEM1024",
}  # fmt: skip
"""IANA's numbers and OpenSSL's names of the groups that OpenSSL 4 can have."""
_CERTIFICATE_CURVES = ":".join(GROUP_NAMES[number] for number in range(0x0017, 0x001D)).encode("ascii")


# -- what can go wrong -------------------------------------------------------------------------------------------


class TlsTrouble(Exception):  # noqa: N818 - a fact about the wire, not an error of the program
    """OpenSSL gave up. ``reason`` has its words; ``by_peer`` is true where the peer's close_notify was the reason.

    Whether a fatal alert of the peer's was, the words do not say reliably: ``TlsLeg.peer_alert`` does.
    """

    def __init__(self, reason: str, *, by_peer: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.by_peer = by_peer

    @property
    def no_certificate(self) -> bool:
        """The peer was asked for a certificate that it must show, and showed none."""
        return self.reason == _NO_CERTIFICATE

    @property
    def strange_version(self) -> bool:
        """The peer chose, or offers nothing but, versions that this side does not speak."""
        return self.reason == _STRANGE_VERSION

    @property
    def no_record(self) -> bool:
        """What the peer sent does not begin like a record of TLS (RFC 8446 5.1)."""
        return self.reason in _NO_RECORD

    @property
    def no_renegotiation(self) -> bool:
        """The peer was asked to renegotiate and will not (RFC 5246 7.2.2)."""
        return self.reason == _NO_RENEGOTIATION

    @property
    def nothing_shared(self) -> bool:
        """No version, suite, group or signature scheme is common to both sides, or none is left on this one."""
        return self.strange_version or any(words in self.reason for words in _NOTHING_SHARED)


class TooCostly(TlsTrouble):
    """The peer showed what is too costly to work with, and it was refused unworked; ``reason`` names it."""


class IdentityRefused(TlsTrouble):
    """OpenSSL does not take the certificate or key that we are to show."""


class CertificateAsked(Exception):  # noqa: N818 - a fact about the wire
    """The target has asked for a certificate, and the handshake waits for :meth:`TlsConnection.present`."""


class EndOfData(Exception):  # noqa: N818 - the peer's close_notify has been read
    """The peer closed its direction with a close_notify alert."""


def _reason(error: Exception) -> str:
    entries = error.args[0] if error.args and isinstance(error.args[0], list) else []
    reasons = [entry[2] for entry in entries if len(entry) == 3 and entry[2]]
    reasons = [each for each in reasons if each != _RECORD_LAYER] or reasons
    return reasons[-1] if reasons else "it gives no reason"


@contextlib.contextmanager
def _as_trouble(kind: type[TlsTrouble] = TlsTrouble) -> Iterator[None]:
    """What OpenSSL has against a setting is a :class:`TlsTrouble`, never an error of the program."""
    try:
        yield
    except (SSL.Error, crypto.Error) as error:
        raise kind(_reason(error)) from None


def _accepted(result: int) -> None:
    if result != 1:
        _util.exception_from_error_queue(SSL.Error)


# -- callbacks ---------------------------------------------------------------------------------------------------

_connections: dict[int, TlsConnection] = {}
"""By the address of their ``SSL``."""


def _address(ssl: Any) -> int:
    return int(_ffi.cast("uintptr_t", ssl))


_callback: Callable[[str], Callable[[Callable[..., Any]], Any]] = _ffi.callback


@_callback("void(int, int, int, uintptr_t, size_t, uintptr_t)")
def _told(written: int, version: int, content_type: int, at: int, length: int, ssl: int) -> None:  # noqa: PLR0917
    """SSL_CTX_set_msg_callback(3). It comes four times for each record of bulk data and says nothing then, so its
    pointers are taken for numbers, and the argument at its end for nothing: cffi makes an object of each.
    """
    if not 20 <= content_type <= 24:  # 256 and 257 are pseudo headers
        return
    made = _connections.get(ssl)
    if made is None:
        return
    original = _ffi.buffer(_ffi.cast("char *", at), length)
    data = original[:]
    if content_type != _HANDSHAKE:
        made.hear(written == 1, content_type, version, data)
        return
    kind = data[0]
    if kind == _CERTIFICATE:
        data = _shared(data)
    if not written and kind in _WEIGHED:
        made.weigh(data, original)
    made.hear(written == 1, content_type, version, data)
    for awaited, ours, hear in made.awaited:
        if awaited == kind and ours == written:
            hear(data)


_on_message = _ffi.cast("void (*)(int, int, int, const void *, size_t, SSL *, void *)", _told)

_SHARED_UP_TO = 8 * 1024


def _shared(data: bytes) -> bytes:
    """The same bytes: what thousands of connections show alike is kept once, unless it is long."""
    return _kept_once(data) if len(data) <= _SHARED_UP_TO else data


@lru_cache(maxsize=256)
def _kept_once(data: bytes) -> bytes:
    return data


@_callback("int(int, X509_STORE_CTX *)")
def _on_verify(ok: int, store: Any) -> int:
    """Notes the first thing that is wrong with the target's chain; OpenSSL sends the alert that goes with it."""
    ssl = _lib.X509_STORE_CTX_get_ex_data(store, _lib.SSL_get_ex_data_X509_STORE_CTX_idx())
    made = _connections.get(_address(ssl))
    return int(made is not None and made.judge(store, ok=bool(ok)))


@_callback("int(int, X509_STORE_CTX *)")
def _on_verify_known(_ok: int, _store: Any) -> int:
    """Ends the verification where it begins: its result is known, and not asked for (``SSL_VERIFY_NONE``)."""
    return 0


@_callback("int(int, X509_STORE_CTX *)")
def _on_verify_take_any(_ok: int, store: Any) -> int:
    _take_its_curve(store)
    _lib.X509_STORE_CTX_set_error(store, _lib.X509_V_OK)
    return 1


@_callback("int(int, X509_STORE_CTX *)")
def _on_verify_client(ok: int, store: Any) -> int:
    """Judges a client's chain; OpenSSL sends the alert that goes with what is wrong."""
    _take_its_curve(store)
    ssl = _lib.X509_STORE_CTX_get_ex_data(store, _lib.SSL_get_ex_data_X509_STORE_CTX_idx())
    made = _connections.get(_address(ssl))
    return int(made is not None and made.judge_client(store, ok=bool(ok)))


def _take_its_curve(store: Any) -> None:
    """Let a client's certificate have any curve, whatever groups the key exchange, which is over, was bound to.

    OpenSSL has one list for both below TLS 1.3 (``tls12_check_peer_sigalg``: "wrong curve").
    """
    ssl = _lib.X509_STORE_CTX_get_ex_data(store, _lib.SSL_get_ex_data_X509_STORE_CTX_idx())
    _lib.SSL_set1_curves_list(ssl, _CERTIFICATE_CURVES)


@_callback("int(SSL *, void *)")
def _on_status_asked(ssl: Any, _arg: Any) -> int:
    """The client asks for an OCSP response (RFC 6066 8): it gets ours, where there is one, from OpenSSL's memory."""
    made = _connections.get(_address(ssl))
    staple = b"" if made is None else made.staple
    if not staple:
        return int(_lib.SSL_TLSEXT_ERR_NOACK)
    copy = _lib.OPENSSL_malloc(len(staple))
    _ffi.buffer(copy, len(staple))[:] = staple
    _lib.SSL_set_tlsext_status_ocsp_resp(ssl, copy, len(staple))
    return int(_lib.SSL_TLSEXT_ERR_OK)


@_callback("int(SSL *, unsigned char **, unsigned char *, unsigned char *, unsigned int, void *)")
def _on_alpn(ssl: Any, out: Any, out_length: Any, offered: Any, length: int, _arg: Any) -> int:
    """RFC 7301 3.2: the protocol that the target chose, where the client offered it; ours points into the offer."""
    made = _connections.get(_address(ssl))
    chosen = None if made is None else made.alpn
    at = 0
    while chosen and at < length:
        size = offered[at]
        if _ffi.buffer(offered + at + 1, size)[:] == chosen:
            out[0], out_length[0] = offered + at + 1, size
            return int(_lib.SSL_TLSEXT_ERR_OK)
        at += 1 + size
    if made is not None and made.unoffered is not None:
        out[0], out_length[0] = made.unoffered, len(made.alpn or b"")
        return int(_lib.SSL_TLSEXT_ERR_OK)
    return int(_lib.SSL_TLSEXT_ERR_NOACK)


@_callback("int(SSL *, void *)")
def _on_certificate_asked(ssl: Any, _arg: Any) -> int:
    """SSL_CTX_set_cert_cb(3): 1 goes on with what there is, -1 waits, 0 ends the handshake."""
    made = _connections.get(_address(ssl))
    return 0 if made is None else made.answer


@_callback("void(SSL *, char *)")
def _on_secret(ssl: Any, line: Any) -> None:
    made = _connections.get(_address(ssl))
    if made is not None:
        made.on_secret(_ffi.string(line))


# -- what OpenSSL has --------------------------------------------------------------------------------------------

_NOT_FOR_US = re.compile(r"^(ADH|AECDH)-|PSK|SRP|NULL")
_EVERY_TLS13 = (
    b"TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:"
    b"TLS_AES_128_CCM_SHA256:TLS_AES_128_CCM_8_SHA256"
)  # RFC 8446 B.4


@cache
def _probe() -> tuple[SSL.Connection, frozenset[str]]:
    """A connection to ask, and the suites that this OpenSSL can speak: it knows the numbers of more (GOST, say)."""
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_cipher_list(b"ALL:@SECLEVEL=0")
    context.set_tls13_ciphersuites(_EVERY_TLS13)
    connection = SSL.Connection(context, None)
    return connection, frozenset(connection.get_cipher_list())


@cache
def suite_name(number: int) -> str | None:
    """OpenSSL's name of this suite, if it can speak it.

    Left out are suites without a server certificate (there is nothing to mimic) or without encryption, which
    OpenSSL does not speak at its usual security level.
    """
    connection, spoken = _probe()
    found = _lib.SSL_CIPHER_find(connection._ssl, number.to_bytes(2, "big"))
    name = "" if found == _ffi.NULL else _ffi.string(_lib.SSL_CIPHER_get_name(found)).decode("ascii")
    return name if name in spoken and not _NOT_FOR_US.search(name) else None


@cache
def signature_name(scheme: int) -> str | None:
    """OpenSSL's name of this signature scheme, which is IANA's, if it knows it."""
    name = SIGNATURE_SCHEMES.get(scheme)
    if name is None:
        return None
    context = SSL.Context(SSL.TLS_METHOD)._context
    known = _lib.SSL_CTX_set1_sigalgs_list(context, name.encode("ascii")) == 1
    _lib.ERR_clear_error()
    return name if known else None


_CURVE_SCHEMES = {
    "secp256r1": 0x0403, "secp384r1": 0x0503, "secp521r1": 0x0603, "brainpoolP256r1": 0x081A,
    "brainpoolP384r1": 0x081B, "brainpoolP512r1": 0x081C,
}  # fmt: skip


def own_schemes(key: PrivateKeyTypes | bytes) -> dict[int, tuple[int, ...]]:
    """The schemes that a key of ours can sign with, by the version: TLS 1.3 has fewer (RFC 8446 4.2.3)."""
    match key:
        case rsa.RSAPrivateKey():
            return {TLS13: (0x0804, 0x0805, 0x0806), TLS12: (0x0401, 0x0501, 0x0601)}
        case ec.EllipticCurvePrivateKey():
            mine = _CURVE_SCHEMES.get(key.curve.name, 0x0403)
            return {TLS13: (mine,), TLS12: (0x0403, 0x0503, 0x0603)}
        case ed25519.Ed25519PrivateKey():
            return {TLS13: (0x0807,), TLS12: (0x0807,)}
        case ed448.Ed448PrivateKey():
            return {TLS13: (0x0808,), TLS12: (0x0808,)}
    return {}


# -- contexts ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Offer:
    """What a leg may offer or accept, by numbers on the wire, in order of preference; groups in OpenSSL's words.

    ``versions`` are without a hole, the oldest first. No ``groups`` or no ``signatures`` are OpenSSL's own. What
    OpenSSL does not have is left out (:func:`suite_name`, :func:`signature_name`). ``without`` names extensions of
    :data:`OPTIONAL_EXTENSIONS` that a client does not send.
    """

    versions: tuple[int, ...]
    ciphers: tuple[int, ...]
    groups: str = ""
    signatures: tuple[int, ...] | None = None
    without: frozenset[int] = frozenset()


_OPTIONAL = {22: 1 << 19, 23: _NO_EXTENDED_MASTER_SECRET, 35: SSL.OP_NO_TICKET}  # 22: SSL_OP_NO_ENCRYPT_THEN_MAC
OPTIONAL_EXTENSIONS = frozenset(_OPTIONAL)
"""The extensions of a ClientHello that OpenSSL leaves out if asked: encrypt_then_mac, extended_master_secret,
session_ticket."""


def _set_modes(context: SSL.Context) -> None:
    context.set_mode(_MODES)
    # pyOpenSSL has it on: a memory BIO is never full, so a batch of records can be written at once.
    _lib.SSL_CTX_clear_mode(context._context, _lib.SSL_MODE_ENABLE_PARTIAL_WRITE)


def _new_context(
    offer: Offer, *, level: int, keylog: bool, identity: tuple[Sequence[bytes], PrivateKeyTypes | bytes] | None
) -> SSL.Context:
    """Raises :class:`TlsTrouble` where OpenSSL takes nothing of some kind, :class:`IdentityRefused` for our chain."""
    context = SSL.Context(SSL.TLS_METHOD)
    raw = context._context
    names = [(number, suite_name(number)) for number in offer.ciphers]
    below = [name for number, name in names if name and number >> 8 != 0x13]
    tls13 = [name for number, name in names if name and number >> 8 == 0x13]
    if identity is not None:
        # The level is for what the peer shows; what we show is the user's choice, or the target's.
        context.set_cipher_list(b"DEFAULT:@SECLEVEL=0")
        with _as_trouble(IdentityRefused):
            _use_chain(context, *identity)
    with _as_trouble():
        context.set_min_proto_version(offer.versions[0])
        context.set_max_proto_version(offer.versions[-1])
        # OpenSSL wants suites below TLS 1.3 even where those versions are off.
        wanted = below if offer.versions[0] < TLS13 else ["DEFAULT"]
        context.set_cipher_list(":".join([*wanted, f"@SECLEVEL={level}"]).encode("ascii"))
        context.set_tls13_ciphersuites(":".join(tls13).encode("ascii"))
        if offer.groups:
            _accepted(_lib.SSL_CTX_set1_curves_list(raw, offer.groups.encode("ascii")))
        if offer.signatures is not None:
            schemes = ":".join(filter(None, map(signature_name, offer.signatures)))
            _accepted(_lib.SSL_CTX_set1_sigalgs_list(raw, schemes.encode("ascii")))
    for extension in offer.without:
        context.set_options(_OPTIONAL[extension])
    if _FALLBACK_SCSV in offer.ciphers:
        context.set_mode(_MODE_SEND_FALLBACK_SCSV)
    _set_modes(context)
    _lib.SSL_CTX_set_msg_callback(raw, _on_message)
    if keylog:
        _lib.SSL_CTX_set_keylog_callback(raw, _on_secret)
    return context


class Verdicts:
    """Chains that were found good. For a minute, and while all of it is valid, the same chain is good again.

    Two signatures of a chain cost as much as the rest of a handshake of ours, and a target shows the same chain each
    time. What is remembered is the chain byte for byte, the name that it was for, and the measure it was held to.
    """

    def __init__(self, *, size: int = 256) -> None:
        self._size = size
        self._until: OrderedDict[object, float] = OrderedDict()

    def knows(self, key: object) -> bool:
        return self._until.get(key, 0.0) > time.time()

    def keep(self, key: object, verified: Sequence[bytes]) -> None:
        """``verified`` is the chain as OpenSSL has built it, root included (DER)."""
        until = time.time() + _VERDICT_HOLDS
        for certificate in verified:
            try:
                _, not_after, _ = read_validity(cut_certificate(certificate).validity)
            except DerError:
                not_after = None
            if not_after is None:
                return
            until = min(until, not_after.timestamp())
        self._until[key] = until
        self._until.move_to_end(key)
        if len(self._until) > self._size:
            self._until.popitem(last=False)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A context in which we are the client, and the ClientHello that it makes, before names and ALPN are in it."""

    context: SSL.Context
    judges_weakness: bool
    hello: bytes


@dataclass(frozen=True, slots=True)
class ClientJudging:
    """What is expected of a client's certificate. ``required``: that there is one. Its chain leads to one of ``roots``
    (DER), None: it is not looked at. The X509_V_ERR numbers in ``forgiven`` are held against nobody.
    """

    required: bool = False
    roots: tuple[bytes, ...] | None = None
    forgiven: frozenset[int] = frozenset()


_ASK_ONLY = ClientJudging()


@dataclass(frozen=True, slots=True)
class ClientSession:
    """A session with a target that can be taken up again (``i2d_SSL_SESSION``), and the chain that the target showed
    when it began.

    The structure itself is shared with its connection, and OpenSSL makes it useless when that ends badly.
    """

    encoded: bytes
    chain: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class ClientIdentity:
    """A certificate chain and its key as :meth:`TlsConnection.present` takes them."""

    context: SSL.Context


class TlsClientSide:
    """Makes the connections in which we are the client, with one trust store.

    ``roots`` are DER certificates; none means the system's store. ``identity`` is our certificate chain (DER, leaf
    first) and its key, sent when the target asks for one. ``enforce`` refuses a chain that cannot be
    trusted; without it the verdict is only noted.
    """

    def __init__(
        self,
        roots: Sequence[bytes] | None,
        *,
        enforce: bool = True,
        identity: tuple[Sequence[bytes], PrivateKeyTypes | bytes] | None = None,
        keylog: bool = False,
    ) -> None:
        self.enforce = enforce
        self.own_schemes = {} if identity is None else own_schemes(identity[1])
        self._identity = identity
        self._keylog = keylog
        self._verdicts = Verdicts()
        self._trusting = SSL.Context(SSL.TLS_METHOD)
        if roots is None:
            self._trusting.set_default_verify_paths()
        else:
            store = self._store()
            for root in roots:
                with contextlib.suppress(crypto.Error):  # a root that OpenSSL cannot load can vouch for nothing
                    store.add_cert(_openssl_certificate(root))

    def _store(self) -> crypto.X509Store:
        store = self._trusting.get_cert_store()
        assert store is not None
        return store

    def prepare(self, offer: Offer, *, level: int) -> Prepared:
        """A context for this offer, and the hello that it makes.

        Raises :class:`TlsTrouble` where OpenSSL can make none, and :class:`IdentityRefused`.
        """
        context = _new_context(offer, level=level, keylog=self._keylog, identity=self._identity)
        raw = context._context
        store = self._store()._store
        _lib.X509_STORE_up_ref(store)  # SSL_CTX_set_cert_store takes over one reference
        _lib.SSL_CTX_set_cert_store(raw, store)
        _lib.SSL_CTX_set_verify(raw, SSL.VERIFY_PEER, _on_verify)
        return Prepared(context, level == 0, first_flight(context))

    def identity(self, chain: Sequence[bytes], key: PrivateKeyTypes | bytes) -> ClientIdentity:
        """For :meth:`TlsConnection.present`. Raises :class:`IdentityRefused`."""
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_cipher_list(b"DEFAULT:@SECLEVEL=0")
        with _as_trouble(IdentityRefused):
            _use_chain(context, chain, key)
        return self._identity_of(context)

    def _identity_of(self, context: SSL.Context) -> ClientIdentity:
        raw = context._context
        store = self._store()._store
        _lib.X509_STORE_up_ref(store)
        _lib.SSL_CTX_set_cert_store(raw, store)  # for a renegotiation, in which the target shows its chain again
        _lib.SSL_CTX_set_msg_callback(raw, _on_message)
        if self._keylog:
            _lib.SSL_CTX_set_keylog_callback(raw, _on_secret)
        return ClientIdentity(context)

    @cached_property
    def nobody(self) -> ClientIdentity:
        """Who has no certificate: what takes the place of somebody who was presented."""
        return self._identity_of(SSL.Context(SSL.TLS_METHOD))

    def connection(
        self,
        prepared: Prepared,
        *,
        name: str,
        sni: bytes | None,
        alpn: Sequence[bytes],
        session: ClientSession | None = None,
        enforce: bool | None = None,
        asks_status: bool = False,
    ) -> TlsConnection:
        """A connection that has not begun; ``name`` is the host or address that the certificate must be for, and
        ``session`` is what the target is asked to take up again. ``enforce`` stands before that of all of them.
        ``asks_status``: it is asked for an OCSP response.

        Raises :class:`TlsTrouble` where OpenSSL does not take the name or the protocols.
        """
        if sni is not None and (b"\0" in sni or not 0 < len(sni) < 256):
            raise TlsTrouble("a server name that is empty, too long or has a NUL byte")
        enforced = self.enforce if enforce is None else enforce
        verifying = Verifying(name, enforced, prepared.judges_weakness, self._verdicts)
        made = TlsConnection(prepared.context, verifying=verifying)
        if sni is not None:
            _lib.SSL_set_tlsext_host_name(made.ssl, sni)
        # OpenSSL takes no empty protocol; nor does the client leg
        protocols = b"".join([bytes([len(one)]) + one for one in alpn if one])
        if protocols and _lib.SSL_set_alpn_protos(made.ssl, protocols, len(protocols)) != 0:
            made.close()
            raise TlsTrouble("a list of ALPN protocols that cannot be sent")
        if asks_status:
            _lib.SSL_set_tlsext_status_type(made.ssl, _lib.TLSEXT_STATUSTYPE_ocsp)
        _expect_name(_lib.SSL_get0_param(made.ssl), name)
        _lib.SSL_set_connect_state(made.ssl)
        if session is not None:
            made.offers(session)
        return made


def _ask_under(context: SSL.Context, names: Sequence[bytes]) -> None:
    """Have clients asked for a certificate under these names (DER), which OpenSSL sends byte for byte as they are.

    Raises :class:`TlsTrouble` for a name that it does not take for one.
    """
    stack = _lib.sk_X509_NAME_new_null()
    _lib.SSL_CTX_set_client_CA_list(context._context, stack)  # which is its owner from here on
    for name in names:
        at = _ffi.new("unsigned char[]", name)
        into = _ffi.new("unsigned char **", at)
        loaded = _lib.d2i_X509_NAME(_ffi.NULL, into, len(name))
        if loaded == _ffi.NULL:
            _lib.ERR_clear_error()
            raise TlsTrouble("a name of a certificate authority that cannot be sent")
        if _lib.sk_X509_NAME_push(stack, loaded) < 1:
            _lib.X509_NAME_free(loaded)
            raise MemoryError("OpenSSL can keep no name")


def _trust(context: SSL.Context, roots: Sequence[bytes]) -> None:
    """Have clients' chains judged by these roots (DER). Raises :class:`TlsTrouble` for one that OpenSSL cannot load."""
    store = crypto.X509Store()
    with _as_trouble():
        for root in roots:
            store.add_cert(_openssl_certificate(root))
    _lib.X509_STORE_up_ref(store._store)  # SSL_CTX_set_cert_store takes over one reference
    _lib.SSL_CTX_set_cert_store(context._context, store._store)


def first_flight(
    context: SSL.Context, *, name: bytes | None = None, alpn: Sequence[bytes] = (), asks_status: bool = False
) -> bytes:
    """The ClientHello that a connection of this context begins with, header included."""
    connection = SSL.Connection(context, None)
    connection.set_connect_state()
    if name is not None:
        connection.set_tlsext_host_name(name)
    if alpn:
        connection.set_alpn_protos(list(alpn))
    if asks_status:
        connection.request_ocsp()
    _lib.ERR_clear_error()
    with _as_trouble():
        with contextlib.suppress(SSL.WantReadError):
            connection.do_handshake()
        return connection.bio_read(CHUNK)[5:]  # a hello of ours fits into one record


NO_SESSIONS = 2
"""The base of connections that take up no session and leave none."""


def own_hello() -> bytes:
    """What OpenSSL offers unless it is told anything, and all of its suites."""
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_cipher_list(b"ALL:@SECLEVEL=0")
    return first_flight(context)


class TlsServerSide:
    """Makes the connections in which we are the server. Contexts are kept, the least recently used goes first.

    ``resumes`` off declines every session that a client offers. (TLS 1.3 tickets are sent all the same: the binding
    cannot keep OpenSSL from that.)
    """

    def __init__(self, *, keylog: bool = False, resumes: bool = True, size: int = 256) -> None:
        self._keylog = keylog
        self._resumes = resumes
        self._size = size
        self._contexts: OrderedDict[object, SSL.Context] = OrderedDict()
        self.forget()

    def forget(self) -> None:
        """No session of an earlier connection can be taken up again from now on."""
        self._bases = (*[_base(resumes=self._resumes) for _ in range(2)], _base(resumes=False))
        self._key_names: list[bytes] | None = None  # each takes a handshake: known when the first ticket comes

    def base_of(self, ticket: bytes) -> int | None:
        """Which of the bases has made this ticket (0 or 1); None where it is not of ours."""
        if not self._resumes:
            return None
        if self._key_names is None:
            self._key_names = [_ticket_key_name(base) for base in self._bases]
        name = ticket[:_KEY_NAME]
        return self._key_names.index(name) if name in self._key_names else None

    def connection(
        self,
        offer: Offer,
        *,
        chain: Sequence[bytes],
        key: PrivateKeyTypes | bytes,
        alpn: bytes | None = None,
        ask_for: Sequence[bytes] | None = None,
        ask_under: Sequence[bytes] | None = None,
        base: int = 0,
        scope: bytes = b"",
        tickets: bool = True,
        ids: bool = True,
        judging: ClientJudging = _ASK_ONLY,
        staple: bytes = b"",
        insists_on_alpn: bool = False,
        extended_master_secret: bool = True,
    ) -> TlsConnection:
        """A connection that has not begun.

        ``chain`` is sent exactly as given (DER, leaf first), ``key`` is the leaf's. With ``ask_for``,
        even empty, the client is asked for a certificate under these CA certificates' names (DER); what it sends is
        not judged. ``ask_under`` is the same with the names themselves (DER).

        Only sessions of the same ``base`` (0 or 1; with :data:`NO_SESSIONS` none at all) and ``scope`` (32 bytes at
        most) are taken up again. Below TLS 1.3 the client is given a ticket or a session id, as it wants and as far as
        they are on here.

        ``judging`` is what the certificate that is asked for has to be. ``staple`` is the OCSP response for clients
        that ask for one. ``insists_on_alpn``: ``alpn`` is chosen where the client offers only others, too. Raises
        :class:`TlsTrouble` where OpenSSL can serve no such certificate.
        """
        asked = None if ask_for is None else tuple(ask_for)
        under = None if ask_under is None else tuple(ask_under)
        context = self._context(offer, chain, key, asked, under, ids=ids, roots=judging.roots)
        raw = context._context
        made = TlsConnection(self._bases[base], alpn=alpn, becomes=context)
        ssl = made.ssl
        made.staple = staple
        if insists_on_alpn and alpn:
            made.unoffered = _ffi.new("unsigned char[]", alpn)
        without = 0 if tickets else _lib.SSL_OP_NO_TICKET
        without |= 0 if extended_master_secret else _NO_EXTENDED_MASTER_SECRET
        for version, flag in _WITHOUT.items():
            if version not in offer.versions:
                without |= flag
        _lib.SSL_set_options(ssl, without)
        if offer.groups:
            _lib.SSL_set1_curves_list(ssl, offer.groups.encode("ascii"))
        if asked is not None or under is not None:
            made.judging = judging
            mode = SSL.VERIFY_PEER | (SSL.VERIFY_FAIL_IF_NO_PEER_CERT if judging.required else 0)
            _lib.SSL_set_verify(ssl, mode, _on_verify_take_any if judging.roots is None else _on_verify_client)
        named = scope or (b"countersign" if asked is None and under is None else b"countersign, asking")
        _lib.SSL_CTX_set_session_id_context(raw, named, len(named))
        _lib.SSL_set_SSL_CTX(ssl, raw)
        _lib.SSL_set_accept_state(ssl)
        return made

    def ask_later(
        self,
        made: TlsConnection,
        offer: Offer,
        *,
        chain: Sequence[bytes],
        key: PrivateKeyTypes | bytes,
        under: Sequence[bytes],
        scope: bytes,
    ) -> None:
        """Ask the client of a connection whose handshake is done for a certificate under these names (DER).

        In TLS 1.3 that is post-handshake authentication (RFC 8446 4.6.2), below it a HelloRequest, which begins a
        renegotiation (RFC 5246 7.4.1.1). What else is said in it is by the rest, as in :meth:`connection`. Raises
        :class:`TlsTrouble` where OpenSSL cannot ask.
        """
        context = self._context(offer, chain, key, None, tuple(under), ids=False, roots=None)
        _lib.SSL_CTX_set_session_id_context(context._context, scope, len(scope))
        made.ask_again(context)

    def _context(
        self,
        offer: Offer,
        chain: Sequence[bytes],
        key: PrivateKeyTypes | bytes,
        asked: tuple[bytes, ...] | None,
        under: tuple[bytes, ...] | None,
        *,
        ids: bool,
        roots: tuple[bytes, ...] | None,
    ) -> SSL.Context:
        cache_key = (offer, tuple(chain), asked, under, ids, roots)
        context = self._contexts.get(cache_key)
        if context is not None:
            self._contexts.move_to_end(cache_key)
            return context
        context = self._make(offer, chain, key, asked if under is None else ())
        if under is not None:
            _ask_under(context, under)
        if roots is not None:
            _trust(context, roots)
        if not ids:  # what it caches is the base's affair, whether it tells an id is this one's
            _lib.SSL_CTX_set_session_cache_mode(context._context, SSL.SESS_CACHE_OFF)
        self._contexts[cache_key] = context
        if len(self._contexts) > self._size:
            self._contexts.popitem(last=False)
        return context

    def _make(
        self,
        offer: Offer,
        chain: Sequence[bytes],
        key: PrivateKeyTypes | bytes,
        asked: Sequence[bytes] | None,
    ) -> SSL.Context:
        context = _new_context(offer, level=0, keylog=self._keylog, identity=(chain, key))
        raw = context._context
        _lib.SSL_CTX_set_alpn_select_cb(raw, _on_alpn, _ffi.NULL)
        _lib.SSL_CTX_set_tlsext_status_cb(raw, _on_status_asked)
        with _as_trouble():
            if offer.versions[0] < TLS13:
                _use_dh_parameters(raw)
            for authority in asked or ():
                _accepted(_lib.SSL_CTX_add_client_CA(raw, _openssl_certificate(authority)._x509))
        return context


_BASE_SCOPE = b"base"


def _base(*, resumes: bool) -> SSL.Context:
    """What connections with clients are made from: the keys of tickets, the cache of session ids, no more."""
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(TLS10)
    context.set_cipher_list(b"ALL:@SECLEVEL=0")
    context.set_options(SSL.OP_CIPHER_SERVER_PREFERENCE)
    _set_modes(context)
    # A connection takes over the scope of the context that it is given only where it has that of its first one.
    context.set_session_id(_BASE_SCOPE)
    if not resumes:
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_options(SSL.OP_NO_TICKET)
    _lib.SSL_CTX_set_msg_callback(context._context, _on_message)
    return context


def _ticket_key_name(base: SSL.Context) -> bytes:
    """The name at the beginning of each ticket of this context, from one that a client without certificates gets."""
    asking = SSL.Context(SSL.TLS_METHOD)
    asking.set_max_proto_version(TLS12)
    asking.set_cipher_list(b"AECDH:@SECLEVEL=0")
    client, server = SSL.Connection(asking, None), SSL.Connection(base, None)
    client.set_connect_state()
    server.set_accept_state()
    heard = b""
    for _ in range(2):
        for one, other in ((client, server), (server, client)):
            with contextlib.suppress(SSL.WantReadError):
                one.do_handshake()
            sent = one.bio_read(CHUNK)
            other.bio_write(sent)
            if one is server:
                heard = sent
    # NewSessionTicket comes first in the server's last flight (RFC 5077 3.3): headers, lifetime, length, ticket.
    return heard[5 + 4 + 4 + 2 :][:_KEY_NAME]


def _use_chain(context: SSL.Context, chain: Sequence[bytes], key: PrivateKeyTypes | bytes) -> None:
    """Straight to OpenSSL, which can serve certificates that ``cryptography`` cannot read."""
    leaf, *above = [_openssl_certificate(encoded) for encoded in chain]
    _accepted(_lib.SSL_CTX_use_certificate(context._context, leaf._x509))
    for certificate in above:
        copy = _lib.X509_dup(certificate._x509)
        _accepted(_lib.SSL_CTX_add_extra_chain_cert(context._context, copy))
    if isinstance(key, bytes):
        loaded = crypto.load_privatekey(crypto.FILETYPE_ASN1, key)
        _accepted(_lib.SSL_CTX_use_PrivateKey(context._context, loaded._pkey))
    else:
        context.use_privatekey(key)  # type: ignore[arg-type]  # its annotation leaves out Edwards keys, which it takes


def _openssl_certificate(encoded: bytes) -> Any:
    return crypto.load_certificate(crypto.FILETYPE_ASN1, encoded)


@cache
def _dh_parameters() -> bytes:
    """ffdhe2048 (RFC 7919 A.1) as PEM (RFC 7468), for clients that have no better than DHE."""
    prime = ffdhe_prime(2048, 560316)
    body = base64.b64encode(der.encode(der.SEQUENCE, der.encode_integer(prime), der.encode_integer(2)))
    lines = [body[at : at + 64] for at in range(0, len(body), 64)]
    return b"\n".join([b"-----BEGIN DH PARAMETERS-----", *lines, b"-----END DH PARAMETERS-----", b""])


def _use_dh_parameters(context: Any) -> None:
    """What pyOpenSSL's ``load_tmp_dh`` does with a file."""
    parameters = _dh_parameters()
    bio = _ffi.gc(_lib.BIO_new_mem_buf(parameters, len(parameters)), _lib.BIO_free)
    loaded = _ffi.gc(_lib.PEM_read_bio_DHparams(bio, _ffi.NULL, _ffi.NULL, _ffi.NULL), _lib.DH_free)
    _accepted(_lib.SSL_CTX_set_tmp_dh(context, loaded))


_NOBODY = b"unmatched.invalid"  # RFC 6761 6.4: nobody has a name under .invalid


def _expect_name(parameters: Any, name: str) -> None:
    try:
        address = ip_address(name).packed
    except ValueError:
        try:
            encoded = name.removesuffix(".").encode("ascii" if name.isascii() else "idna")
        except UnicodeError:
            encoded = b""
        # A name that OpenSSL does not take for one, or an empty one, would leave any certificate good for it, and one
        # that begins with a dot that of any host below it.
        if encoded[:1] in {b"", b"."} or _lib.X509_VERIFY_PARAM_set1_host(parameters, encoded, len(encoded)) != 1:
            _lib.X509_VERIFY_PARAM_set1_host(parameters, _NOBODY, len(_NOBODY))
    else:
        _lib.X509_VERIFY_PARAM_set1_ip(parameters, address, len(address))


# -- connections -------------------------------------------------------------------------------------------------


class Buffers:
    """The two buffers that bulk data goes through; one pair an event loop."""

    def __init__(self) -> None:
        self.plain = _ffi.new("unsigned char[]", CHUNK)
        self.out = _ffi.new("unsigned char[]", _SEALED)
        self.out_view = memoryview(_ffi.buffer(self.out, _SEALED))

    def read(self, count: int) -> bytes:
        """The first ``count`` bytes of ``plain``."""
        return bytes(_ffi.buffer(self.plain, count))


@dataclass(frozen=True, slots=True)
class Verifying:
    """How the peer's chain is verified: for whom, whether a bad one ends the handshake, and what is known already."""

    name: str
    enforce: bool
    judges_weakness: bool
    verdicts: Verdicts

    def key(self, chain: tuple[bytes, ...]) -> object:
        """What a verdict on this chain is remembered under."""
        return chain, self.name, self.judges_weakness


def _nothing(*_: object) -> None:
    """What is called where nobody wants to know."""


def _waiting(bio: Any) -> int:
    """How many bytes a memory BIO holds."""
    return int(_lib.BIO_get_mem_data(bio, _ffi.NULL))


class TlsConnection:
    """One OpenSSL connection between memory BIOs. :meth:`close` must be called; the callbacks find it until then."""

    __slots__ = (
        "__weakref__", "_address", "_broken", "_closing", "_context", "_empty", "_from", "_held", "_into",
        "_late", "_lent", "_logs_secrets", "_offered", "_parted", "_peer_chain", "_presented", "_session_id",
        "_suite", "_ticket", "_too_costly", "_verified", "_verifying", "alpn", "answer", "at_close",
        "awaited", "early_data", "hear", "judging", "keeps_session", "on_secret", "records", "ssl", "staple",
        "unoffered", "verify_error", "verify_number",
    )  # fmt: skip

    def __init__(
        self,
        context: SSL.Context,
        *,
        alpn: bytes | None = None,
        verifying: Verifying | None = None,
        becomes: SSL.Context | None = None,
    ) -> None:
        made = _lib.SSL_new(context._context)
        if made == _ffi.NULL:
            raise MemoryError("OpenSSL can make no connection")
        self.ssl = _ffi.gc(made, _lib.SSL_free)
        self._context = becomes or context  # whose settings a callback may need
        self._new_bios()
        self.records = 0  # that the last read() has read
        self._empty = False  # the last read() has found the end of what there is
        # What the last read() has met behind its bytes.
        self._late: TlsTrouble | EndOfData | CertificateAsked | None = None
        self.alpn = alpn
        self.unoffered: Any = None  # the same as OpenSSL's bytes, where it is to be chosen in any case
        self.staple = b""
        self.judging = _ASK_ONLY
        self.verify_error: tuple[str, int] | None = None
        self.verify_number = 0  # of that error, an X509_V_ERR; 0 for a weakness that we found
        self.on_secret: Callable[[bytes], None] = _nothing
        self._logs_secrets = False  # whatever its context was made for
        self.hear: Callable[[bool, int, int, bytes], None] = _nothing
        self.awaited: tuple[tuple[int, bool, Callable[[bytes], None]], ...] = ()
        self._peer_chain: tuple[bytes, ...] = ()
        self._verifying = verifying
        self._verified: tuple[bytes, ...] = ()  # the chain that is being verified, from its root on
        self._suite: str | None = None
        self._too_costly: str | None = None
        self._held = bytearray()
        self._closing = False
        self._presented: ClientIdentity | None = None
        self._offered: ClientSession | None = None
        self._session_id = False  # the server has given one
        self._ticket = False
        self._broken = False
        self._parted = False
        self.early_data = 0  # bytes of 0-RTT data that the server would take of a session that it has given
        self.at_close: Callable[[], None] = _nothing
        self.keeps_session = True  # what the server gives may be taken up by a later connection
        self.answer = 1  # to a target that asks for a certificate, as SSL_CTX_set_cert_cb(3) has it
        self._address = _address(made)
        _connections[self._address] = self

    def tap(self, callback: Callable[[bool, int, int, bytes], None]) -> None:
        """``callback(written, content type, version, bytes)`` for every message, in clear."""
        self.hear = callback

    def tap_only(self, kind: int, callback: Callable[[bytes], None], *, written: bool) -> None:
        """``callback(bytes)`` for handshake messages of this type that are ``written``, or come; behind :meth:`tap`."""
        self.awaited += ((kind, written, callback),)

    def hears(self, kind: int, *, written: bool) -> bool:
        """Whether somebody hears of these messages."""
        return any(one[:2] == (kind, written) for one in self.awaited)

    def log_secrets(self, callback: Callable[[bytes], None]) -> None:
        """``callback(line)`` for every line of the key log of this connection, whatever its context was made for."""
        self.on_secret = callback
        self._logs_secrets = True
        _lib.SSL_CTX_set_keylog_callback(self._context._context, _on_secret)

    def master_secret(self) -> bytes | None:
        """The master secret of a connection below TLS 1.3, once it has been agreed on."""
        session = _lib.SSL_get_session(self.ssl)
        if session == _ffi.NULL:
            return None
        out = _ffi.new("unsigned char[]", 48)
        return _ffi.buffer(out, 48)[:] if _lib.SSL_SESSION_get_master_key(session, out, 48) == 48 else None

    def close(self) -> None:
        """Free what the callbacks hold; the connection is of no use afterwards."""
        if _connections.pop(self._address, None) is None:
            return
        self.at_close()
        self.at_close = _nothing
        if not self._broken:
            # Since TLS 1.1 a session outlives a connection that ends without close_notify (RFC 5246 7.2.1); OpenSSL
            # would bury it with that.
            _lib.SSL_set_shutdown(self.ssl, SSL.SENT_SHUTDOWN | SSL.RECEIVED_SHUTDOWN)
        self.on_secret = self.hear = _nothing
        self.awaited = ()

    # -- what the callbacks ask

    def weigh(self, message: bytes, original: Any) -> None:
        """Spoil a message that asks for too much: OpenSSL refuses it then before it works with anything in it."""
        if message[0] == _SERVER_HELLO:  # OpenSSL tells the suite only when the keys are made
            at = 39 + message[38] if len(message) > 38 else 0
            self._suite = suite_name(int.from_bytes(message[at : at + 2]))
            self._session_id = at > 39
            return
        if message[0] == _NEW_SESSION_TICKET:
            self._ticket = True
            if self.version == TLS13:
                self.early_data = max(self.early_data, _early_data(message))
            return
        if message[0] == _CERTIFICATE:
            found = _certificates(message, tls13=self.version == TLS13)
            if not found:
                return
            self._peer_chain = tuple(_shared(certificate) for _, certificate in found)
            reason = costly_chain(self._peer_chain)
            at, spoilt = found[0][0], b"\0"  # no certificate begins so: bad_certificate
        elif (self._suite or "").startswith("DHE-"):
            reason = costly_prime(message[6 : 6 + int.from_bytes(message[4:6])])
            at, spoilt = 4, b"\xff\xff"  # longer than the message: decode_error
        else:
            return
        if reason is not None:
            self._too_costly = reason
            original[at : at + len(spoilt)] = spoilt
        elif message[0] == _CERTIFICATE and self._verifying is not None:
            self._verified = ()
            if self._verifying.verdicts.knows(self._verifying.key(self._peer_chain)):
                _lib.SSL_set_verify(self.ssl, SSL.VERIFY_NONE, _on_verify_known)
            else:
                _lib.SSL_set_verify(self.ssl, SSL.VERIFY_PEER, _on_verify)

    def judge(self, store: Any, *, ok: bool) -> bool:
        """What the verification of a chain says of one certificate of it; whether to go on."""
        verifying = self._verifying
        assert verifying is not None
        text, number = None, 0
        depth = _lib.X509_STORE_CTX_get_error_depth(store)
        if ok:
            certificate = _der(_lib.X509_STORE_CTX_get_current_cert(store))
            self._verified += (certificate,)
            if verifying.judges_weakness:
                text = weakness(certificate, depth=depth, anchor=len(self._verified) == 1)
        else:
            number = int(_lib.X509_STORE_CTX_get_error(store))
            text = _ffi.string(_lib.X509_verify_cert_error_string(number)).decode("ascii")
        if text is None:
            return True
        if self.verify_error is None:
            self.verify_error, self.verify_number = (text, depth), number
        if not verifying.enforce:
            _lib.X509_STORE_CTX_set_error(store, _lib.X509_V_OK)
        return not verifying.enforce

    def judge_client(self, store: Any, *, ok: bool) -> bool:
        """What the verification of a client's chain says of one certificate of it; whether to go on."""
        if ok:
            return True
        number = int(_lib.X509_STORE_CTX_get_error(store))
        if number in self.judging.forgiven:
            _lib.X509_STORE_CTX_set_error(store, _lib.X509_V_OK)
            return True
        if self.verify_error is None:
            text = _ffi.string(_lib.X509_verify_cert_error_string(number)).decode("ascii")
            self.verify_error = text, _lib.X509_STORE_CTX_get_error_depth(store)
            self.verify_number = number
        return False

    # -- a target that asks for a certificate

    def wait_when_asked(self) -> None:
        """From now on :meth:`handshake` raises :class:`CertificateAsked` when the target asks for a certificate.

        By then its CertificateRequest has been heard, in TLS 1.3 its Finished too. The next :meth:`handshake` goes on.
        Where the handshake is over and ``answer`` is -1 again, :meth:`read` does so, what is written meanwhile is
        kept back, and the next :meth:`read` goes on.
        """
        self.answer = -1
        _lib.SSL_set_cert_cb(self.ssl, _on_certificate_asked, _ffi.NULL)

    def offer_post_handshake_auth(self) -> None:
        """Let the target ask for a certificate after the handshake, too (RFC 8446 4.2.6); OpenSSL answers by itself."""
        _lib.SSL_set_post_handshake_auth(self.ssl, 1)

    def present(self, identity: ClientIdentity | None) -> None:
        """Answer with this chain and key (:meth:`TlsClientSide.identity`), or with no certificate.

        The binding has no chain for a single connection, so the whole context is put in the place of the old one; what
        a connection has taken over from the old one (versions, suites, callbacks, what is verified) it keeps.
        """
        self.answer = 1
        if identity is not None:
            _lib.SSL_set_SSL_CTX(self.ssl, identity.context._context)
            self._presented = identity
            if self._logs_secrets:
                _lib.SSL_CTX_set_keylog_callback(identity.context._context, _on_secret)

    def ask_again(self, context: SSL.Context) -> None:
        """As a server whose handshake is done, ask for a certificate by this context; the answer comes in a later
        :meth:`read`. Raises :class:`TlsTrouble`.
        """
        ssl = self.ssl
        _lib.SSL_set_SSL_CTX(ssl, context._context)
        self._context = context
        _lib.SSL_set_verify(ssl, SSL.VERIFY_PEER | _lib.SSL_VERIFY_POST_HANDSHAKE, _on_verify_take_any)
        _lib.ERR_clear_error()
        if self.version == TLS13:
            begun = _lib.SSL_verify_client_post_handshake(ssl)
        else:
            _lib.SSL_set_options(ssl, _NO_RESUMPTION_ON_RENEGOTIATION)
            begun = _lib.SSL_renegotiate(ssl)
        if begun != 1:
            self._wait_or_raise(begun)
        result = _lib.SSL_do_handshake(ssl)
        if result != 1:
            self._wait_or_raise(result)

    def refuse_to_present(self) -> None:
        """Answer nothing: the next :meth:`handshake` tells the target ``internal_error`` and raises."""
        self.answer = 0

    # -- sessions that are taken up again

    def offers(self, session: ClientSession) -> None:
        """Ask the target to take up this session, if OpenSSL finds that it still can be."""
        at = _ffi.new("unsigned char[]", session.encoded)
        into = _ffi.new("unsigned char **", at)
        loaded = _lib.d2i_SSL_SESSION(_ffi.NULL, into, len(session.encoded))
        if loaded == _ffi.NULL:
            _lib.ERR_clear_error()
            return
        _lib.SSL_set_session(self.ssl, loaded)
        _lib.SSL_SESSION_free(loaded)
        self._offered = session

    @property
    def resumed(self) -> bool:
        """Whether a session of an earlier connection was taken up again."""
        return bool(_lib.SSL_session_reused(self.ssl))

    @property
    def resumable(self) -> bool:
        """Whether the server has given a session that may be kept: a ticket, or below TLS 1.3 a session id."""
        return self.keeps_session and (self._ticket or (self._session_id and self.version != TLS13))

    @property
    def sound(self) -> bool:
        """Whether neither side has broken the connection off, by a fatal alert or by what cannot be taken."""
        return not self._broken

    def session(self) -> ClientSession:
        """The session as it stands, for a later connection to the same target."""
        held = _lib.SSL_get_session(self.ssl)
        size = _lib.i2d_SSL_SESSION(held, _ffi.NULL)
        encoded = _ffi.new("unsigned char[]", size)
        _lib.i2d_SSL_SESSION(held, _ffi.new("unsigned char **", encoded))
        return ClientSession(_ffi.buffer(encoded, size)[:], self.peer_chain())

    def part(self) -> None:
        """The peer has been told that we send no more; what it makes of that is nothing against its session."""
        self._parted = True

    def shown(self) -> bytes | None:
        """The certificate that the peer has shown, in this handshake or when the session began; DER."""
        certificate = _lib.SSL_get_peer_certificate(self.ssl)
        if certificate == _ffi.NULL:
            return None
        return _der(_ffi.gc(certificate, _lib.X509_free))

    # -- the network side

    def _new_bios(self) -> None:
        self._into = _lib.BIO_new(_lib.BIO_s_mem())
        self._lent: Any = None  # the memory that OpenSSL reads instead, kept as long as it can
        self._from = _lib.BIO_new(_lib.BIO_s_mem())
        _lib.SSL_set_bio(self.ssl, self._into, self._from)  # which is the owner of both from here on, and frees the old

    def let_go(self) -> None:
        """The handshake is over. Behind one of TLS 1.3 nothing of it comes again, but the target may ask for a
        certificate (RFC 8446 4.6.2); whoever asks the client then wants to hear its answer anew (:meth:`tap_only`).
        """
        if self.version == TLS13:
            self.awaited = tuple([one for one in self.awaited if one[:2] in _LATE])

    def shed(self) -> None:
        """Give back what the BIOs have grown to: they never shrink. Nothing where something waits in one of them."""
        if not _waiting(self._into) and not _waiting(self._from):
            self._new_bios()

    def lend(self, data: bytes | memoryview) -> None:
        """Bytes from the network that OpenSSL may read where they are, until :meth:`take_back`; or copies of them."""
        if len(data) < _LENT_FROM or _waiting(self._into):
            self.feed(data)
            return
        lent = _ffi.from_buffer(data)
        self._read_from(_lib.BIO_new_mem_buf(lent, len(data)))
        _lib.BIO_set_mem_eof_return(self._into, -1)  # its end is not that of the connection
        self._lent = lent

    def take_back(self) -> None:
        """What was lent may be overwritten from here on: what OpenSSL has not read of it is copied."""
        if self._lent is not None and _waiting(self._into):
            at = _ffi.new("char **")
            left = _lib.BIO_get_mem_data(self._into, at)
            self.feed(_ffi.buffer(at[0], left)[:])

    def _read_from(self, bio: Any) -> None:
        if bio == _ffi.NULL:
            raise MemoryError("OpenSSL can make no BIO")
        _lib.SSL_set_bio(self.ssl, bio, self._from)  # which frees the old one
        self._into = bio

    def feed(self, data: bytes | memoryview) -> None:
        """Bytes from the network."""
        if self._lent is not None:  # a BIO on it takes no more
            self._read_from(_lib.BIO_new(_lib.BIO_s_mem()))
            self._lent = None
        if _lib.BIO_write(self._into, _ffi.from_buffer(data), len(data)) != len(data):
            raise TlsTrouble("OpenSSL took no more bytes")

    def drain(self, buffers: Buffers) -> memoryview | bytes:
        """Bytes for the network; a view is good until the next call with these buffers."""
        count = _lib.BIO_read(self._from, buffers.out, _SEALED)
        if count < _SEALED:
            return buffers.out_view[: max(count, 0)]
        parts = [bytes(buffers.out_view)]
        while (count := _lib.BIO_read(self._from, buffers.out, _SEALED)) > 0:
            parts.append(bytes(buffers.out_view[:count]))
        return b"".join(parts)

    # -- the application's side

    def handshake(self) -> bool:
        """Take the handshake as far as the bytes go; true when it is done. Raises :class:`TlsTrouble`."""
        _lib.ERR_clear_error()
        result = _lib.SSL_do_handshake(self.ssl)
        if result == 1:
            if self._verified and self._verifying is not None and self.verify_error is None:
                self._verifying.verdicts.keep(self._verifying.key(self._peer_chain), self._verified)
            return True
        try:
            self._wait_or_raise(result)
        except EndOfData:
            raise TlsTrouble("close_notify in the handshake", by_peer=True) from None
        return False

    def read(self, buffers: Buffers) -> int:
        """Decrypt into ``buffers.plain``; how many bytes, 0 when there is no more for now.

        That is one record, or several of which all but the last are full: written again at once, they are the same
        records again. Raises :class:`EndOfData` at the peer's close_notify and :class:`TlsTrouble`.
        """
        self.records = 0
        if self._empty:
            self._empty = False
            return 0
        if self._late is not None:
            late, self._late = self._late, None
            try:
                raise late
            finally:
                del late  # or this frame would hold what holds it
        _lib.ERR_clear_error()
        ssl, plain, total, read = self.ssl, buffers.plain, 0, _lib.SSL_read
        while (count := read(ssl, plain + total, CHUNK - total)) > 0:
            total += count
            self.records += 1
            if count < _RECORD or total > CHUNK - _RECORD:
                return int(total)
        if not total:
            self._wait_or_raise(count)
            return 0
        try:
            self._wait_or_raise(count)
            self._empty = True
        except (TlsTrouble, EndOfData, CertificateAsked) as late:
            self._late = late
        return int(total)

    def _wait_or_raise(self, result: int) -> None:
        """Why OpenSSL did not go on: it waits for bytes, or the peer said goodbye, or there is trouble."""
        error = _lib.SSL_get_error(self.ssl, result)
        if error == _lib.SSL_ERROR_WANT_READ:
            return
        if error == _lib.SSL_ERROR_WANT_X509_LOOKUP:
            raise CertificateAsked
        if error == _lib.SSL_ERROR_ZERO_RETURN:
            raise EndOfData
        if error == _lib.SSL_ERROR_SYSCALL:
            # OpenSSL 4 reports a close_notify behind a user_canceled, as JSSE closes, as an error without a reason.
            if _lib.SSL_get_shutdown(self.ssl) & SSL.RECEIVED_SHUTDOWN:
                raise EndOfData
            raise TlsTrouble("the connection ended unexpectedly")
        self._broken = not self._parted
        try:
            _util.exception_from_error_queue(SSL.Error)
        except SSL.Error as queue:
            reason = _reason(queue)
        if self._too_costly is not None:
            raise TooCostly(self._too_costly)
        if reason == _TOO_LONG:
            raise TooCostly(f"a handshake message of {_TOO_LONG}; OpenSSL takes 100 KiB of certificates")
        raise TlsTrouble(reason)

    def pass_on(self, buffers: Buffers, count: int) -> None:
        """Encrypt ``count`` bytes of ``buffers.plain``; what a renegotiation keeps back goes out at :meth:`retry`."""
        if self._held:
            self._held += _ffi.buffer(buffers.plain, count)
            return
        sent = self._write(buffers.plain, count)
        if sent < count:
            self._held += memoryview(_ffi.buffer(buffers.plain, count))[sent:]

    def write(self, data: bytes) -> None:
        """Encrypt these bytes."""
        self._held += data
        self.retry()

    def retry(self) -> None:
        """Encrypt what was kept back."""
        while self._held:
            sent = self._write(_ffi.from_buffer(self._held), len(self._held))
            if not sent:
                return
            del self._held[:sent]
        if self._closing:
            self.close_notify()

    @property
    def holding(self) -> int:
        """Bytes that wait for the handshake in progress to end."""
        return len(self._held)

    def _write(self, data: Any, count: int) -> int:
        done = 0
        while done < count:
            _lib.ERR_clear_error()
            sent = _lib.SSL_write(self.ssl, data + done, count - done)
            if sent <= 0:
                with contextlib.suppress(CertificateAsked):  # which is the reader's to hear
                    self._wait_or_raise(sent)
                return done
            done += int(sent)
        return done

    def close_notify(self) -> None:
        """Say that we send no more, once all that was kept back is sent."""
        self._closing = bool(self._held)
        if not self._closing:
            _lib.ERR_clear_error()
            _lib.SSL_shutdown(self.ssl)

    # -- what was negotiated

    def stapled(self) -> bytes:
        """The OCSP response that the server has sent with its certificate; empty: none."""
        at = _ffi.new("unsigned char **")
        length = _lib.SSL_get_tlsext_status_ocsp_resp(self.ssl, at)
        return bytes(_ffi.buffer(at[0], length)) if length > 0 else b""

    @property
    def chosen_alpn(self) -> bytes | None:
        at, length = _ffi.new("unsigned char **"), _ffi.new("unsigned int *")
        _lib.SSL_get0_alpn_selected(self.ssl, at, length)
        return _ffi.buffer(at[0], length[0])[:] if length[0] else None

    @property
    def version(self) -> int:
        return int(_lib.SSL_version(self.ssl))

    @property
    def group(self) -> str | None:
        name = _lib.SSL_get0_group_name(self.ssl)
        return None if name == _ffi.NULL else _ffi.string(name).decode("ascii")

    def peer_chain(self) -> tuple[bytes, ...]:
        """What the peer sent, leaf first, DER; where it resumes, what it sent when the session began."""
        if self._peer_chain or not self.resumed:
            return self._peer_chain
        if self._offered is not None:
            return self._offered.chain
        shown = self.shown()
        return () if shown is None else (shown,)

    def chosen_cipher(self, offered: Sequence[int]) -> int | None:
        """Which of these suites was negotiated."""
        name = self._cipher_name()
        return next((number for number in offered if suite_name(number) == name), None)

    def _cipher_name(self) -> str:
        cipher = _lib.SSL_get_current_cipher(self.ssl)
        if cipher == _ffi.NULL:  # below TLS 1.3 it is there with the keys, and a target asks for a certificate before
            return self._suite or ""
        return str(_ffi.string(_lib.SSL_CIPHER_get_name(cipher)).decode("ascii"))


def _certificates(message: bytes, *, tls13: bool) -> list[tuple[int, bytes]]:
    """The certificates of a Certificate message (RFC 8446 4.4.2, RFC 5246 7.4.2), with where they begin.

    Up to the first whose length does not fit: OpenSSL refuses the message there.
    """
    at = 4 + (1 + message[4] if tls13 and len(message) > 4 else 0) + 3
    found = []
    while at + 3 <= len(message):
        size = int.from_bytes(message[at : at + 3])
        at += 3
        if not 0 < size <= len(message) - at:
            break
        found.append((at, message[at : at + size]))
        at += size
        if tls13:
            at += 2 + int.from_bytes(message[at : at + 2])
    return found


def _early_data(ticket: bytes) -> int:
    """``max_early_data_size`` in a NewSessionTicket (RFC 8446 4.6.1), 0 where there is none."""
    at = 13 + ticket[12] if len(ticket) > 12 else len(ticket)
    at += 2 + int.from_bytes(ticket[at : at + 2]) + 2
    while at + 4 <= len(ticket):
        kind, size = int.from_bytes(ticket[at : at + 2]), int.from_bytes(ticket[at + 2 : at + 4])
        if kind == _EARLY_DATA and size == 4:
            return int.from_bytes(ticket[at + 4 : at + 8])
        at += 4 + size
    return 0


def _der(certificate: Any) -> bytes:
    bio = _ffi.gc(_lib.BIO_new(_lib.BIO_s_mem()), _lib.BIO_free)
    _accepted(_lib.i2d_X509_bio(bio, certificate))
    data = _ffi.new("char **")
    length = _lib.BIO_get_mem_data(bio, data)
    return bytes(_ffi.buffer(data[0], length))
