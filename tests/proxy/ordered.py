"""A director for tests, and what a client sees of a connection that it has something to say about."""

from __future__ import annotations

import contextlib
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography import x509

from countersign.proxy.orders import NOTHING_ORDERED, Orders
from tests.proxy.wire import connect

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.proxy.running import RunningProxy

HOST = "instance.lab.test"


@dataclass
class Scripted:
    """Says the orders of ``script`` one after the other, the last again and again, and notes what it was asked."""

    script: list[Orders]
    before: Orders = NOTHING_ORDERED
    arrived: list[str] = field(default_factory=list)
    asked: list[tuple[str, str | None, str]] = field(default_factory=list)

    def arriving(self, client: str) -> Orders:
        self.arrived.append(client)
        return self.before

    def orders(self, client: str, sni: str | None, target: str) -> Orders:
        self.asked.append((client, sni, target))
        return self.script[min(len(self.asked), len(self.script)) - 1]


@dataclass(frozen=True)
class Seen:
    """What a client saw of one handshake: the chain (leaf first), protocol, ALPN, and the answer to a request."""

    chain: list[x509.Certificate]
    version: str | None
    cipher: str
    alpn: str | None
    answer: str
    resumed: bool
    session: ssl.SSLSession | None

    @property
    def issuer(self) -> str:
        return self.chain[0].issuer.rfc4514_string()

    @property
    def issuers(self) -> list[str]:
        """The common names of all issuers in the chain, the leaf's first."""
        names = (each.issuer.get_attributes_for_oid(x509.NameOID.COMMON_NAME) for each in self.chain)
        return [str(found[0].value) for found in names]


def trusting(*pems: bytes, change: Callable[[ssl.SSLContext], object] | None = None) -> ssl.SSLContext:
    """A client that trusts these roots, or, without any, takes whatever it is shown."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if pems:
        context.load_verify_locations(cadata=b"".join(pems).decode())
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if change is not None:
        change(context)
    return context


def look(
    proxy: RunningProxy,
    context: ssl.SSLContext | None = None,
    *,
    name: str = HOST,
    session: ssl.SSLSession | None = None,
) -> Seen:
    """One HTTPS request through the proxy. Raises :class:`ssl.SSLError` and :class:`OSError` as Python does."""
    with (
        connect(proxy) as raw,
        (context or trusting()).wrap_socket(raw, server_hostname=name, session=session) as tls,
    ):
        tls.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = tls.recv(65536).decode("latin-1")
        shown = tls._sslobj.get_unverified_chain() or []  # type: ignore[attr-defined]
        chain = [x509.load_der_x509_certificate(ssl.PEM_cert_to_DER_cert(each.public_bytes())) for each in shown]
        cipher, version, alpn = tls.cipher(), tls.version(), tls.selected_alpn_protocol()
        with contextlib.suppress(OSError):
            tls.unwrap()  # a session that ends without a goodbye is not taken up again
        return Seen(
            chain,
            version,
            cipher[0] if cipher else "",
            alpn,
            answer,
            bool(tls.session_reused),
            tls.session,
        )
