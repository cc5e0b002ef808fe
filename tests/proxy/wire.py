"""Peers made by hand: ClientHellos byte by byte, and servers on loopback that do one thing, odd or not."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import warnings
from typing import TYPE_CHECKING, Any, Self

from countersign.proxy import Address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from tests.peers.certs import Issued
    from tests.proxy.running import RunningProxy

AES_GCM = (0x1301, 0x1302, 0xC02B, 0xC02F)
SCHEMES = (0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0203, 0x0201)
TLS13, TLS12, TLS11, TLS10, SSL3 = 0x0304, 0x0303, 0x0302, 0x0301, 0x0300

SERVER_NAME, GROUPS, POINT_FORMATS, SIGNATURES, ALPN, PADDING, VERSIONS, KEY_SHARE = 0, 10, 11, 13, 16, 21, 43, 51


def client_hello(
    *,
    versions: Iterable[int] | None = (TLS13, TLS12),
    suites: Iterable[int] = AES_GCM,
    groups: Iterable[int] | None = (0x001D, 0x0017),
    shares: Iterable[int] = (0x001D,),
    sni: bytes | None = b"localhost",
    alpn: Iterable[bytes] = (),
    legacy: int = TLS12,
    padding: int = 0,
    signatures: Iterable[int] | None = SCHEMES,
    extra: Iterable[tuple[int, bytes]] = (),
) -> bytes:
    """A ClientHello, header included. Without ``versions``, ``groups`` or ``signatures`` that extension is left out."""
    extensions = b""
    if sni is not None:
        extensions += _extension(SERVER_NAME, _sized(b"\0" + _sized(sni)))
    if groups is not None:
        extensions += _extension(GROUPS, _sized(_numbers(groups)))
        extensions += _extension(POINT_FORMATS, b"\1\0")
    if signatures is not None:
        extensions += _extension(SIGNATURES, _sized(_numbers(signatures)))
    names = b"".join(bytes([len(name)]) + name for name in alpn)
    if names:
        extensions += _extension(ALPN, _sized(names))
    if versions is not None:
        listed = _numbers(versions)
        extensions += _extension(VERSIONS, bytes([len(listed)]) + listed)
        entries = b"".join(_numbers((group,)) + _sized(_share(group)) for group in shares)
        extensions += _extension(KEY_SHARE, _sized(entries))
    for number, body in extra:
        extensions += _extension(number, body)
    if padding:
        extensions += _extension(PADDING, bytes(padding))
    body = _numbers((legacy,)) + bytes(range(32)) + b"\x20" + bytes(range(32, 64))
    body += _sized(_numbers(suites)) + b"\1\0" + _sized(extensions)
    return b"\1" + len(body).to_bytes(3, "big") + body


def in_records(message: bytes, *, size: int = 16384) -> bytes:
    """The message in handshake records of ``size`` bytes."""
    pieces = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(b"\x16\3\1" + _sized(piece) for piece in pieces)


def sslv2_hello() -> bytes:
    """A ClientHello in the form of SSL 2 that offers up to TLS 1.2 (RFC 5246 E.2)."""
    specs = b"\0\xc0\x2f\0\0\x2f"
    body = b"\1\3\3" + len(specs).to_bytes(2, "big") + b"\0\0" + b"\0\x20" + specs + bytes(range(32))
    return (0x8000 | len(body)).to_bytes(2, "big") + body


def _share(group: int) -> bytes:
    if group == 0x0017:  # the base point: any point on the curve will do
        x = "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
        y = "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
        return b"\4" + bytes.fromhex(x + y)
    return bytes(range(1, 33))


def _extension(number: int, body: bytes) -> bytes:
    return number.to_bytes(2, "big") + _sized(body)


def _numbers(values: Iterable[int]) -> bytes:
    return b"".join(value.to_bytes(2, "big") for value in values)


def _sized(body: bytes) -> bytes:
    return len(body).to_bytes(2, "big") + body


# -- clients -----------------------------------------------------------------------------------------------------


def connect(proxy: RunningProxy) -> socket.socket:
    """A TCP connection to the proxy that gives up after 10 s."""
    return socket.create_connection(proxy.address, 10)


def connect_request(host: str, port: int, *headers: str, version: str = "1.1") -> bytes:
    """What asks the proxy for a tunnel to this host."""
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {target} HTTP/{version}", f"Host: {target}", *headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def reset(connection: socket.socket) -> None:
    """Close with a RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def rest(connection: socket.socket) -> bytes:
    """All that still comes; a reset counts as an end."""
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while data := connection.recv(65536):
            found += data
    return found


def send(proxy: RunningProxy, data: bytes, *, finish: bool = False) -> bytes:
    """What the proxy answers to these bytes until it closes."""
    with connect(proxy) as connection:
        connection.sendall(data)
        if finish:
            connection.shutdown(socket.SHUT_WR)
        return rest(connection)


def alert(name: str) -> bytes:
    """The record of a fatal alert in clear, as the proxy writes it."""
    numbers = {
        "unexpected_message": 10, "handshake_failure": 40, "illegal_parameter": 47, "access_denied": 49,
        "decode_error": 50, "protocol_version": 70, "internal_error": 80, "unrecognized_name": 112,
    }  # fmt: skip
    return bytes((21, 3, 3, 0, 2, 2, numbers[name]))


def client_context(
    roots: str | None = None, *, version: str | None = None, alpn: Iterable[str] = (), keylog: Path | None = None
) -> ssl.SSLContext:
    """A client that trusts these roots (PEM text), or everybody without; ``version`` is ``TLSv1`` to ``TLSv1_3``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if roots is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_verify_locations(cadata=roots)
    _only(context, version)
    if list(alpn):
        context.set_alpn_protocols(list(alpn))
    if keylog is not None:
        context.keylog_filename = str(keylog)
    return context


def tls(
    proxy: RunningProxy,
    context: ssl.SSLContext | None = None,
    *,
    name: str | None = "localhost",
    session: ssl.SSLSession | None = None,
    connection: socket.socket | None = None,
) -> ssl.SSLSocket:
    """A TLS client of the proxy, its handshake done; it trusts the inspection root unless told otherwise."""
    made = context or client_context(proxy.authority.root_pem.decode())
    if name is None:
        made.check_hostname = False
    return made.wrap_socket(connection or connect(proxy), server_hostname=name, session=session)


def ask(proxy: RunningProxy, context: ssl.SSLContext | None = None, *, name: str | None = "localhost") -> bytes:
    """Say a line to an echo server through the proxy, and what comes back."""
    with tls(proxy, context, name=name) as connection:
        connection.sendall(b"good morning\n")
        return connection.recv(100)


def _only(context: ssl.SSLContext, version: str | None) -> None:
    if version is None:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    if version in {"TLSv1", "TLSv1_1"}:
        context.set_ciphers("DEFAULT:@SECLEVEL=0")


class Client:
    """A TLS client over a socket that one can get at; ``at_most`` bytes leave it, then :class:`EOFError` is raised.

    ``flights`` are the bytes that it has sent, each piece as OpenSSL gave it.
    """

    def __init__(
        self,
        proxy: RunningProxy,
        context: ssl.SSLContext,
        *,
        at_most: int | None = None,
        name: str = "localhost",
        connection: socket.socket | None = None,
    ) -> None:
        self.connection = connection or connect(proxy)
        self.flights: list[bytes] = []
        self._left = at_most
        self._into, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._into, self._out, server_hostname=name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.connection.close()

    def handshake(self) -> None:
        self._until_done(self.tls.do_handshake)

    def send(self, data: bytes) -> None:
        self.tls.write(data)
        self._flush()

    def recv(self) -> bytes:
        data: bytes = self._until_done(self.tls.read)
        return data

    def _until_done(self, step: Callable[[], Any]) -> Any:
        while True:
            try:
                done = step()
            except ssl.SSLWantReadError:
                self._flush()
                data = self.connection.recv(65536)
                if not data:
                    raise EOFError from None
                self._into.write(data)
            else:
                self._flush()
                return done

    def _flush(self) -> None:
        data = self._out.read()
        if not data:
            return
        if self._left is not None:
            data, cut = data[: self._left], len(data) > self._left
            self._left -= len(data)
        else:
            cut = False
        self.flights.append(data)
        self.connection.sendall(data)
        if cut:
            raise EOFError


# -- servers -----------------------------------------------------------------------------------------------------


class Target:
    """A TCP server on loopback: ``handle`` gets each connection in a thread; what it raises is ``broken``."""

    def __init__(self, handle: Callable[[socket.socket], None], *, host: str = "127.0.0.1") -> None:
        self._handle = handle
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family, backlog=256)
        self.address = Address(host, self._listener.getsockname()[1])
        self.connections: list[socket.socket] = []
        self.broken: list[BaseException] = []
        self._threads = [threading.Thread(target=self._accept, name="target accepts")]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join(5)
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join(5)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.settimeout(10)
            self.connections.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,), name="target serves")
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            self._handle(connection)
        except (OSError, ssl.SSLError) as error:
            self.broken.append(error)
        finally:
            connection.close()


def server_context(identity: Issued, *, chain: bool = True, version: str | None = None) -> ssl.SSLContext:
    """A server that shows this certificate, with its intermediates or without."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.fullchain_pem if chain else identity.cert_pem, identity.key_pem)
    _only(context, version)
    return context


def echo(context: ssl.SSLContext) -> Callable[[socket.socket], None]:
    """A TLS server that says back what it hears until it hears no more, then closes with close_notify."""

    def handle(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            while data := secured.recv(65536):
                secured.sendall(data)
            with contextlib.suppress(OSError):
                secured.unwrap().close()

    return handle


def silent(connection: socket.socket) -> None:
    """Reads and says nothing."""
    while connection.recv(65536):
        pass
