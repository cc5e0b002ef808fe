"""The one module that knows OpenSSL: contexts, connections over memory BIOs, the message callback, its reasons.

A :class:`TlsConnection` is an OpenSSL connection whose network side is bytes in and bytes out. Three things reach
below pyOpenSSL's public names, all of them here:

- the *message callback* (``SSL_CTX_set_msg_callback``) gives every handshake message and alert in clear, in both
  directions, encrypted ones too. OpenSSL hands it an ``SSL *``; addresses are used again after a connection is
  freed, so an entry in the table of taps lives exactly as long as its connection;
- the *no-auto-chain mode*: without it OpenSSL completes a served chain from its trust store;
- ``SSL_read``, ``SSL_write``, ``BIO_read`` and ``BIO_write`` on buffers that are allocated once, for bulk data.

Names that are missing in another version of pyOpenSSL are reported at import, by name.
"""

from __future__ import annotations

import base64
import contextlib
import math
import re
import tempfile
from collections import OrderedDict
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import OpenSSL
from cryptography import x509
from OpenSSL import SSL, _util

from countersign.errors import EnvironmentFault
from countersign.recorder import der

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

_NEEDED = (
    "SSL_CTX_set_msg_callback", "SSL_CTX_set1_sigalgs_list", "SSL_set1_curves_list", "SSL_CTX_set_cert_store",
    "X509_STORE_up_ref", "X509_VERIFY_PARAM_set1_host", "X509_VERIFY_PARAM_set1_ip", "SSL_get0_param",
    "SSL_CTX_use_certificate", "SSL_CTX_use_PrivateKey", "SSL_CTX_add_extra_chain_cert", "X509_dup",
    "SSL_CIPHER_find", "X509_verify_cert_error_string",
    "SSL_CIPHER_get_name", "SSL_read", "SSL_write", "SSL_get_error", "BIO_read", "BIO_write", "ERR_clear_error",
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
_OP_NO_TICKET = SSL.OP_NO_TICKET
_OP_SERVER_PREFERENCE = SSL.OP_CIPHER_SERVER_PREFERENCE
_OP_IGNORE_UNEXPECTED_EOF = 1 << 7
_VERSIONS = (0x0301, 0x0302, 0x0303, 0x0304)
_OP_NO_VERSION = dict(
    zip(_VERSIONS, (SSL.OP_NO_TLSv1, SSL.OP_NO_TLSv1_1, SSL.OP_NO_TLSv1_2, SSL.OP_NO_TLSv1_3), strict=True)
)
_MODE_SEND_FALLBACK_SCSV = 0x80
_FALLBACK_SCSV = 0x5600  # RFC 7507: the target has to know, or it could not notice a downgrade

CHUNK = 64 * 1024

GROUP_NAMES = {
    0x0017: "secp256r1", 0x0018: "secp384r1", 0x0019: "secp521r1", 0x001A: "brainpoolP256r1", 0x001B: "brainpoolP384r1",
    0x001C: "brainpoolP512r1", 0x001D: "X25519", 0x001E: "X448", 0x001F: "brainpoolP256r1tls13",
    0x0020: "brainpoolP384r1tls13", 0x0021: "brainpoolP512r1tls13", 0x0100: "ffdhe2048", 0x0101: "ffdhe3072",
    0x0102: "ffdhe4096", 0x0103: "ffdhe6144", 0x0104: "ffdhe8192", 0x0200: "MLKEM512", 0x0201: "MLKEM768",
    0x0202: "MLKEM1024", 0x11EB: "SecP256r1MLKEM768", 0x11EC: "X25519MLKEM768", 0x11ED: "SecP384r1MLKEM1024",
}  # fmt: skip
"""IANA's numbers and OpenSSL's names of the groups that OpenSSL 4 can have."""


# -- the message callback ----------------------------------------------------------------------------------------

_taps: dict[int, Callable[[bool, int, int, bytes], None]] = {}


@_ffi.callback("void(int, int, int, void *, size_t, SSL *, void *)")  # type: ignore[untyped-decorator]
def _on_message(  # noqa: PLR0917 - the callback's shape is OpenSSL's
    written: int, version: int, content_type: int, buf: Any, length: int, ssl: Any, _arg: Any
) -> None:
    if not 20 <= content_type <= 24:  # 256 and 257 are pseudo headers
        return
    tap = _taps.get(int(_ffi.cast("uintptr_t", ssl)))
    if tap is not None:
        tap(bool(written), content_type, version, _ffi.buffer(buf, length)[:])


# -- what can go wrong -------------------------------------------------------------------------------------------


class TlsTrouble(Exception):  # noqa: N818 - a fact about the wire, not an error of the program
    """OpenSSL gave up. ``reason`` has its words; ``by_peer`` is true where the peer's close_notify was the reason.

    Whether a fatal alert of the peer's was, the words do not say reliably: ``TlsLeg.peer_alert`` does.
    """

    def __init__(self, reason: str, *, by_peer: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.by_peer = by_peer


class EndOfData(Exception):  # noqa: N818 - the peer's close_notify has been read
    """The peer closed its direction with a close_notify alert."""


def _trouble(error: Exception) -> TlsTrouble:
    entries = error.args[0] if error.args and isinstance(error.args[0], list) else []
    reasons = [entry[2] for entry in entries if len(entry) == 3 and entry[2]]
    reason = reasons[-1] if reasons else str(error) or "the connection ended unexpectedly"
    return TlsTrouble(reason)


# -- contexts ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Offer:
    """What a leg may offer or accept: versions and suites as their numbers on the wire, groups in OpenSSL's words."""

    versions: tuple[int, ...]
    ciphers: tuple[int, ...]
    groups: str = ""

    def usable(self) -> tuple[tuple[int, ...], tuple[str, ...], tuple[str, ...]]:
        """What OpenSSL has of it: versions for which there is a suite, suites up to TLS 1.2, suites of TLS 1.3."""
        below, tls13 = cipher_names(self.ciphers)
        versions = {version for version in self.versions if version in _VERSIONS}
        versions = {version for version in versions if (tls13 if version == 0x0304 else below)}
        return tuple(sorted(versions)), below, tls13

    def speakable(self) -> bool:
        """Whether OpenSSL has a version of these and a suite for it."""
        return bool(self.usable()[0])


def cipher_names(numbers: Sequence[int]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """OpenSSL's names of these suites, as far as it has them: those up to TLS 1.2, and those of TLS 1.3.

    Left out are suites without a server certificate (there is nothing to mimic) or without encryption, which
    OpenSSL does not speak at its usual security level.
    """
    below: list[str] = []
    tls13: list[str] = []
    for number in numbers:
        name = _cipher_name(number)
        if name is not None and number >> 8 == 0x13:
            tls13.append(name)
        elif name is not None and not _NOT_FOR_US.search(name):
            below.append(name)
    return tuple(below), tuple(tls13)


_SHORT_TAG = re.compile("CCM_?8")  # 64 bits, less than level 1 takes
_NOT_FOR_US = re.compile(
    r"^(ADH|AECDH|TLS)[-_]|PSK|SRP|NULL"
)  # what begins with TLS_ here: SCSVs, and TLS 1.3 oddities


_cipher_cache: dict[int, str | None] = {}
_probe: list[SSL.Connection] = []


def _cipher_name(number: int) -> str | None:
    if number not in _cipher_cache:
        if not _probe:
            _probe.append(SSL.Connection(SSL.Context(SSL.TLS_METHOD), None))
        found = _lib.SSL_CIPHER_find(_probe[0]._ssl, number.to_bytes(2, "big"))  # noqa: SLF001
        _cipher_cache[number] = (
            None if found == _ffi.NULL else _ffi.string(_lib.SSL_CIPHER_get_name(found)).decode("ascii")
        )
    return _cipher_cache[number]


def _new_context(offer: Offer, *, level: int, keylog: bool) -> SSL.Context:
    context = SSL.Context(SSL.TLS_METHOD)
    versions, below, tls13 = offer.usable()
    context.set_min_proto_version(versions[0])
    context.set_max_proto_version(versions[-1])
    for version, without in _OP_NO_VERSION.items():  # no other one in between (T22)
        if version not in versions:
            context.set_options(without)
    # DEFAULT and the default suites of TLS 1.3 only where that version is off.
    context.set_cipher_list(":".join([*(below or ["DEFAULT"]), f"@SECLEVEL={level}"]).encode("ascii"))
    if tls13:
        context.set_tls13_ciphersuites(":".join(tls13).encode("ascii"))
    if _FALLBACK_SCSV in offer.ciphers:
        context.set_mode(_MODE_SEND_FALLBACK_SCSV)
    _lib.SSL_CTX_set_msg_callback(context._context, _on_message)  # noqa: SLF001
    context.set_mode(
        _MODE_NO_AUTO_CHAIN
        | _lib.SSL_MODE_RELEASE_BUFFERS
        | _lib.SSL_MODE_ENABLE_PARTIAL_WRITE
        | _lib.SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER
    )
    if keylog:
        context.set_keylog_callback(lambda connection, line: connection.get_app_data().on_secret(line))
    return context


class _ContextCache:
    """Contexts by their settings; bounded, the least recently used goes first."""

    def __init__(self, size: int = 256) -> None:
        self._size = size
        self._kept: OrderedDict[object, SSL.Context] = OrderedDict()

    def get(self, key: object, make: Callable[[], SSL.Context]) -> SSL.Context:
        context = self._kept.get(key)
        if context is None:
            context = self._kept[key] = make()
            if len(self._kept) > self._size:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(key)
        return context


class TlsClientSide:
    """Makes the connections in which we are the client: one trust store, contexts cached by what they offer.

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
        self._identity = identity
        self._keylog = keylog
        self._contexts = _ContextCache()
        self._trusting = SSL.Context(SSL.TLS_METHOD)
        if roots is None:
            self._trusting.set_default_verify_paths()
        else:
            store = self._trusting.get_cert_store()
            assert store is not None
            for root in roots:
                with contextlib.suppress(Exception):  # a root that OpenSSL cannot load can vouch for nothing
                    store.add_cert(_openssl_certificate(root))

    def connection(self, offer: Offer, *, name: str, sni: bytes | None, alpn: Sequence[bytes]) -> TlsConnection:
        """A connection that has not begun; ``name`` is the host or address that the certificate must be for."""
        versions, below, tls13 = offer.usable()
        level = 0 if versions[0] < 0x0303 or all(_SHORT_TAG.search(name) for name in (*below, *tls13)) else 1
        key = (versions, below, tls13, _FALLBACK_SCSV in offer.ciphers)  # without GREASE: a browser's comes back to it
        context = self._contexts.get(key, lambda: self._make(offer, level))
        made = TlsConnection(context, enforce=self.enforce, judges_weakness=level == 0)
        connection = made.openssl
        if offer.groups:
            _set_groups(connection, offer.groups)
        if sni is not None:
            connection.set_tlsext_host_name(sni)
        if protocols := [
            protocol for protocol in alpn if protocol
        ]:  # OpenSSL takes no empty one; nor does the client leg
            connection.set_alpn_protos(protocols)
        parameters = _lib.SSL_get0_param(connection._ssl)  # noqa: SLF001
        _expect_name(parameters, name)
        connection.set_connect_state()
        return made

    def _make(self, offer: Offer, level: int) -> SSL.Context:
        context = _new_context(offer, level=level, keylog=self._keylog)
        store = self._trusting.get_cert_store()
        assert store is not None
        _lib.X509_STORE_up_ref(store._store)  # noqa: SLF001 - set_cert_store takes over one reference
        _lib.SSL_CTX_set_cert_store(context._context, store._store)  # noqa: SLF001
        context.set_verify(SSL.VERIFY_PEER, _verify)
        if self._identity is not None:
            _use_chain(context, *self._identity)
        return context


class TlsServerSide:
    """Makes the connections in which we are the server. Tickets belong to a context, so contexts are kept."""

    def __init__(self, *, keylog: bool = False) -> None:
        self._keylog = keylog
        self._contexts = _ContextCache()

    def connection(
        self,
        offer: Offer,
        *,
        chain: Sequence[bytes],
        key: PrivateKeyTypes | bytes,
        alpn: bytes | None = None,
        ask_for: Sequence[bytes] | None = None,
        must_answer: bool = False,
    ) -> TlsConnection:
        """A connection that has not begun.

        ``chain`` is sent exactly as given (DER, leaf first), ``key`` is the leaf's. With ``ask_for``,
        even empty, the client is asked for a certificate under these CA certificates' names (DER); what it sends is
        not judged, but with ``must_answer`` it has to send one. Raises :class:`TlsTrouble` where OpenSSL can serve no
        such certificate.
        """
        asked = None if ask_for is None else tuple(ask_for)
        cache_key = (offer.usable(), tuple(chain), asked, must_answer)
        context = self._contexts.get(cache_key, lambda: self._make(offer, chain, key, asked, must_answer))
        made = TlsConnection(context, alpn=alpn)
        if offer.groups:
            _set_groups(made.openssl, offer.groups)
        made.openssl.set_accept_state()
        return made

    def _make(
        self,
        offer: Offer,
        chain: Sequence[bytes],
        key: PrivateKeyTypes | bytes,
        asked: Sequence[bytes] | None,
        must_answer: bool,  # noqa: FBT001
    ) -> SSL.Context:
        context = _new_context(offer, level=0, keylog=self._keylog)
        context.set_options(_OP_SERVER_PREFERENCE)
        context.set_alpn_select_callback(_select_alpn)
        context.set_session_id(b"countersign")
        _use_chain(context, chain, key)
        if any(version < 0x0304 for version in offer.versions):
            context.load_tmp_dh(_dh_parameters())
        if asked is not None:
            for authority in asked:
                context.add_client_ca(x509.load_der_x509_certificate(authority))
            mode = SSL.VERIFY_PEER | (SSL.VERIFY_FAIL_IF_NO_PEER_CERT if must_answer else 0)
            context.set_verify(mode, _take_any)
        return context


def _use_chain(context: SSL.Context, chain: Sequence[bytes], key: PrivateKeyTypes | bytes) -> None:
    """Straight to OpenSSL, which can serve certificates and keys (DER) that ``cryptography`` cannot read (T16)."""
    from OpenSSL import crypto

    try:
        leaf, *above = [_openssl_certificate(encoded) for encoded in chain]
        _accepted(_lib.SSL_CTX_use_certificate(context._context, leaf._x509))  # noqa: SLF001
        for certificate in above:
            copy = _lib.X509_dup(certificate._x509)  # noqa: SLF001
            _accepted(_lib.SSL_CTX_add_extra_chain_cert(context._context, copy))  # noqa: SLF001
        if isinstance(key, bytes):
            loaded = crypto.load_privatekey(crypto.FILETYPE_ASN1, key)
            _accepted(_lib.SSL_CTX_use_PrivateKey(context._context, loaded._pkey))  # noqa: SLF001
        else:
            context.use_privatekey(key)  # type: ignore[arg-type]
    except (SSL.Error, crypto.Error) as error:
        raise _trouble(error) from None


def _set_groups(connection: SSL.Connection, groups: str) -> None:
    try:
        _accepted(_lib.SSL_set1_curves_list(connection._ssl, groups.encode("ascii")))  # noqa: SLF001
    except SSL.Error as error:
        raise _trouble(error) from None


def _accepted(result: int) -> None:
    if result != 1:
        _util.exception_from_error_queue(SSL.Error)


def _openssl_certificate(encoded: bytes) -> Any:
    from OpenSSL import crypto

    return crypto.load_certificate(crypto.FILETYPE_ASN1, encoded)


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
        # that begins with a dot that of any host below it (T19).
        if encoded[:1] in {b"", b"."} or _lib.X509_VERIFY_PARAM_set1_host(parameters, encoded, len(encoded)) != 1:
            _lib.X509_VERIFY_PARAM_set1_host(parameters, _NOBODY, len(_NOBODY))
    else:
        _lib.X509_VERIFY_PARAM_set1_ip(parameters, address, len(address))


def _select_alpn(connection: SSL.Connection, offered: list[bytes]) -> Any:
    chosen = connection.get_app_data().alpn
    return chosen if chosen in offered else SSL.NO_OVERLAPPING_PROTOCOLS


def _take_any(_connection: SSL.Connection, _certificate: Any, _error: int, _depth: int, _ok: int) -> bool:
    return True


def _verify(connection: SSL.Connection, certificate: Any, error: int, depth: int, ok: int) -> bool:
    """Notes the first thing that is wrong with the target's chain; OpenSSL sends the alert that goes with it."""
    made: TlsConnection = connection.get_app_data()
    text = None
    if not ok:
        text = _ffi.string(_lib.X509_verify_cert_error_string(error)).decode("ascii")
    elif made.judges_weakness:
        text = _weakness(certificate)
    if text is not None and made.verify_error is None:
        made.verify_error = (text, depth)
        made.verify_number = error
    return text is None or not made.enforce


def _weakness(certificate: Any) -> str | None:
    """What OpenSSL's security level 1 would refuse; it has to be off where TLS 1.0 or 1.1 may be spoken,
    or where there are only suites with a short tag.
    """
    try:
        read = certificate.to_cryptography()
        hash_algorithm = read.signature_hash_algorithm
        weak_hash = hash_algorithm is not None and hash_algorithm.name in {"md5", "sha1"}
        if weak_hash and read.issuer != read.subject:
            return "CA signature digest algorithm too weak"
        if getattr(read.public_key(), "key_size", 4096) < (160 if hasattr(read.public_key(), "curve") else 1024):
            return "EE certificate key too weak"
    except Exception as unreadable:  # noqa: BLE001 - `cryptography` raises many kinds on odd certificates (T16)
        return f"certificate cannot be read ({type(unreadable).__name__})"
    return None


def _dh_parameters() -> str:
    """ffdhe2048 (RFC 7919 A.1, by its formula), in a file, as pyOpenSSL wants it; made once a process."""
    if not _dh_file:
        e = sum((1 << (1918 + 64)) // math.factorial(k) for k in range(400)) >> 64  # 2**1918 times e, rounded down
        prime = 2**2048 - 2**1984 + (e + 560316) * 2**64 - 1
        parameters = der.encode(der.SEQUENCE, der.encode_integer(prime), der.encode_integer(2))
        body = base64.encodebytes(parameters).replace(b"\n", b"")
        lines = b"\n".join(body[at : at + 64] for at in range(0, len(body), 64))
        file = tempfile.NamedTemporaryFile(prefix="countersign-", suffix=".pem")  # noqa: SIM115 - lives with the process
        file.write(b"-----BEGIN DH PARAMETERS-----\n" + lines + b"\n-----END DH PARAMETERS-----\n")
        file.flush()
        _dh_file.append(file)
    return str(_dh_file[0].name)


_dh_file: list[Any] = []


# -- connections -------------------------------------------------------------------------------------------------


class Buffers:
    """The two buffers that bulk data goes through; one pair an event loop."""

    def __init__(self) -> None:
        self.plain = _ffi.new("unsigned char[]", CHUNK)
        self.out = _ffi.new("unsigned char[]", CHUNK)
        self.out_view = memoryview(_ffi.buffer(self.out, CHUNK))

    def read(self, count: int) -> bytes:
        """The first ``count`` bytes of ``plain``."""
        return bytes(_ffi.buffer(self.plain, count))


class TlsConnection:
    """One OpenSSL connection between memory BIOs. :meth:`close` must be called; the tap lives until then."""

    def __init__(
        self, context: SSL.Context, *, alpn: bytes | None = None, enforce: bool = True, judges_weakness: bool = False
    ) -> None:
        self.openssl = SSL.Connection(context, None)
        self.openssl.set_app_data(self)
        self.alpn = alpn
        self.enforce = enforce
        self.judges_weakness = judges_weakness
        self.verify_error: tuple[str, int] | None = None
        self.verify_number = 0  # of that error, an X509_V_ERR; 0 for a weakness that we found
        self.on_secret: Callable[[bytes], None] = lambda _line: None
        self._ssl = self.openssl._ssl  # noqa: SLF001
        self._into = self.openssl._into_ssl  # noqa: SLF001
        self._from = self.openssl._from_ssl  # noqa: SLF001
        self._address = int(_ffi.cast("uintptr_t", self._ssl))
        self._held = bytearray()
        self._closing = False

    def tap(self, callback: Callable[[bool, int, int, bytes], None]) -> None:
        """``callback(written, content type, version, bytes)`` for every message, in clear."""
        _taps[self._address] = callback

    def close(self) -> None:
        """Free what the table of taps and the callbacks hold; the connection is of no use afterwards."""
        _taps.pop(self._address, None)
        self.openssl.set_app_data(None)
        self.on_secret = lambda _line: None

    def feed(self, data: bytes | memoryview) -> None:
        """Bytes from the network."""
        view = memoryview(data)
        while view:
            written = _lib.BIO_write(self._into, _ffi.from_buffer(view), len(view))
            if written <= 0:
                raise TlsTrouble("OpenSSL took no more bytes")
            view = view[written:]

    def drain(self, buffers: Buffers) -> bytes:
        """Bytes for the network."""
        parts = []
        while (count := _lib.BIO_read(self._from, buffers.out, CHUNK)) > 0:
            parts.append(bytes(buffers.out_view[:count]))
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def handshake(self) -> bool:
        """Take the handshake as far as the bytes go; true when it is done. Raises :class:`TlsTrouble`."""
        try:
            self.openssl.do_handshake()
        except SSL.WantReadError:
            return False
        except SSL.ZeroReturnError:
            raise TlsTrouble("close_notify in the handshake", by_peer=True) from None
        except SSL.Error as error:
            raise _trouble(error) from None
        return True

    def read(self, buffers: Buffers) -> int:
        """Decrypt into ``buffers.plain``; how many bytes, 0 when there is no more for now.

        Raises :class:`EndOfData` at the peer's close_notify and :class:`TlsTrouble`.
        """
        _lib.ERR_clear_error()
        count = _lib.SSL_read(self._ssl, buffers.plain, CHUNK)
        if count > 0:
            return int(count)
        try:
            self.openssl._raise_ssl_error(self._ssl, count)  # noqa: SLF001
        except SSL.WantReadError:
            return 0
        except SSL.ZeroReturnError:
            raise EndOfData from None
        except SSL.Error as error:
            # OpenSSL 4 reports a close_notify behind a user_canceled, as JSSE closes, as an error without a reason.
            if self.openssl.get_shutdown() & SSL.RECEIVED_SHUTDOWN and isinstance(error, SSL.SysCallError):
                raise EndOfData from None
            raise _trouble(error) from None
        return 0

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
            sent = _lib.SSL_write(self._ssl, data + done, count - done)
            if sent <= 0:
                try:
                    self.openssl._raise_ssl_error(self._ssl, sent)  # noqa: SLF001
                except SSL.WantReadError:
                    return done
                except SSL.Error as error:
                    raise _trouble(error) from None
                return done
            done += int(sent)
        return done

    def close_notify(self) -> None:
        """Say that we send no more, once all that was kept back is sent."""
        self._closing = bool(self._held)
        if self._closing:
            return
        with contextlib.suppress(SSL.Error):
            self.openssl.shutdown()

    @property
    def chosen_alpn(self) -> bytes | None:
        return self.openssl.get_alpn_proto_negotiated() or None

    @property
    def version(self) -> int:
        return self.openssl.get_protocol_version()

    @property
    def group(self) -> str | None:
        return self.openssl.get_group_name()

    def chosen_cipher(self, offered: Sequence[int]) -> int | None:
        """Which of these suites was negotiated."""
        name = self.openssl.get_cipher_name()
        return next((number for number in offered if _cipher_name(number) == name), None)

    def peer_chain(self) -> tuple[bytes, ...]:
        """What the peer sent, leaf first, DER."""
        chain = self.openssl.get_peer_cert_chain(as_cryptography=False) or []
        return tuple(_der(certificate) for certificate in chain)


def _der(certificate: Any) -> bytes:
    from OpenSSL import crypto

    return bytes(crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate))
