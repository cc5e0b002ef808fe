"""Two real TLS endpoints in memory, the bytes between them, their key log, and a live tap at each of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from OpenSSL._util import ffi, lib

from countersign.recorder.wire.events import ApplicationData, EncryptedRecord, Event, Message, Problem, Side
from countersign.recorder.wire.keyschedule import next_traffic_secret, traffic_key
from countersign.recorder.wire.leg import LegDecoder
from countersign.recorder.wire.secrets import KeyLog
from countersign.recorder.wire.tap import LegTap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

C, S = Side.CLIENT, Side.SERVER

_MSG_CALLBACK = "void(int, int, int, const void *, size_t, SSL *, void *)"
_ALLOW_RENEGOTIATION = 1 << 8  # SSL_OP_ALLOW_CLIENT_RENEGOTIATION
_NO_ENCRYPT_THEN_MAC = 1 << 19
_NO_MIDDLEBOX_COMPAT = 1 << 20
_NO_TICKET = 1 << 14


@cache
def certificate(kind: str) -> tuple[Any, x509.Certificate]:
    """A key and its self-signed certificate: ``ec``, ``rsa``, or ``big`` with names that fill several records."""
    key: Any = (
        rsa.generate_private_key(public_exponent=65537, key_size=2048)
        if kind == "rsa"
        else ec.generate_private_key(ec.SECP256R1())
    )
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(4711)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
    )
    if kind == "big":
        hosts = [x509.DNSName(f"host-{n}.a-rather-long-domain-name.example.com") for n in range(900)]
        builder = builder.add_extension(x509.SubjectAlternativeName(hosts), critical=False)
    return key, builder.sign(key, hashes.SHA256())


@dataclass
class Pair:
    """Both endpoints and all that was seen of them. ``log`` is the wire: who sent which bytes, in order."""

    client: Endpoint
    server: Endpoint
    keylog: KeyLog
    log: list[tuple[Side, bytes]] = field(default_factory=list)

    def run(self, *, rounds: int = 20) -> None:
        """Let both work until neither has anything to say."""
        for _ in range(rounds):
            self.client.step()
            moved = self._carry(self.client, self.server)
            self.server.step()
            moved |= self._carry(self.server, self.client)
            if not moved:
                return

    def _carry(self, sender: Endpoint, receiver: Endpoint) -> bool:
        data = sender.flush()
        if data:
            self.log.append((sender.side, data))
            receiver.take(data)
        return bool(data)

    def say(self, endpoint: Endpoint, data: bytes) -> None:
        while data:
            data = data[endpoint.connection.send(data) :]
        self.run()

    def inject(self, sender: Side, data: bytes) -> None:
        """Bytes that this side's library did not make."""
        self.log.append((sender, data))
        (self.server if sender is C else self.client).take(data)
        self.run()

    def close(self) -> None:
        for endpoint in (self.client, self.server):
            endpoint.shut()
        self.run()


class Endpoint:
    """One side: a pyOpenSSL connection over memory BIOs, with a LegTap between it and its wire."""

    def __init__(self, side: Side, context: SSL.Context, *, session: Any = None, host: bytes = b"localhost") -> None:
        self.side = side
        self.tap = LegTap()
        self.events: list[Event] = []
        self.errors: list[Exception] = []
        self.received = b""
        self.done = False
        self._keep_alive = callback = ffi.callback(_MSG_CALLBACK, self._message)
        lib.SSL_CTX_set_msg_callback(context._context, callback)
        self.connection = SSL.Connection(context, None)
        if side is C:
            self.connection.set_connect_state()
            self.connection.set_tlsext_host_name(host)
            if session is not None:
                self.connection.set_session(session)
        else:
            self.connection.set_accept_state()
        self.clock = 0.0

    def _message(self, *args: Any) -> None:
        writing, version, content_type, buffer, length, _ssl, _arg = args
        sender = self.side if writing else self.side.peer
        self.tap.inside(sender, content_type, version, bytes(ffi.buffer(buffer, length)))

    def take(self, data: bytes) -> None:
        self.clock += 1
        self.events += self.tap.wire(self.side.peer, data, self.clock)
        self.connection.bio_write(data)

    def step(self) -> None:
        try:
            if not self.done:
                self.connection.do_handshake()
                self.done = True
            while True:
                self.received += self.connection.recv(65536)
        except SSL.WantReadError:
            pass
        except (SSL.ZeroReturnError, SSL.SysCallError, SSL.Error) as error:
            self.errors.append(error)

    def flush(self) -> bytes:
        out = b""
        try:
            while True:
                out += self.connection.bio_read(65536)
        except SSL.WantReadError:
            pass
        if out:
            self.events += self.tap.wire(self.side, out, self.clock)
        self.events += self.tap.settle(self.clock)
        return out

    def shut(self) -> None:
        try:
            self.connection.shutdown()
        except SSL.Error as error:
            self.errors.append(error)


def _into(keylog: KeyLog) -> Callable[[SSL.Connection, bytes], None]:
    def write(_: SSL.Connection, line: bytes) -> None:
        keylog.add_line(line)

    return write


def context(
    side: Side,
    keylog: KeyLog,
    *,
    version: int = SSL.TLS1_3_VERSION,
    ciphers: str | None = None,
    suites: str | None = None,
    groups: str | None = None,
    cert: str = "ec",
    options: int = 0,
    ask: bool = False,
    present: bool = False,
    trust: bool = True,
) -> SSL.Context:
    made = SSL.Context(SSL.TLS_METHOD)
    made.set_min_proto_version(SSL.TLS1_VERSION)
    made.set_max_proto_version(version)
    made.set_cipher_list((ciphers or "ALL:@SECLEVEL=0").encode())
    if suites:
        made.set_tls13_ciphersuites(suites.encode())
    if groups:
        assert lib.SSL_CTX_set1_curves_list(made._context, groups.encode()) == 1
    made.set_options(options | _ALLOW_RENEGOTIATION)
    made.set_keylog_callback(_into(keylog))
    if side is S or present:
        key, leaf = certificate(cert)
        made.use_privatekey(key)
        made.use_certificate(leaf)
    if side is S:
        made.set_session_id(b"tests")
    if ask:
        made.set_verify(SSL.VERIFY_PEER, lambda *_: trust)
        made.add_client_ca(certificate("ec")[1])
    elif not trust:
        made.set_verify(SSL.VERIFY_PEER, lambda *_: False)
    return made


def pair(
    *,
    version: int = SSL.TLS1_3_VERSION,
    server_version: int = SSL.TLS1_3_VERSION,
    ciphers: str | None = None,
    suites: str | None = None,
    client_groups: str | None = None,
    server_groups: str | None = None,
    cert: str = "ec",
    etm: bool = True,
    ask: bool = False,
    present: bool = False,
    client_trusts: bool = True,
    server_trusts: bool = True,
    compat: bool = True,
    tickets: bool = True,
    previous: Pair | None = None,
    early_data: int = 0,
) -> Pair:
    """Two fresh endpoints, not connected yet. ``previous`` gives its session, both its contexts and its key log."""
    options = 0 if etm else _NO_ENCRYPT_THEN_MAC
    options |= 0 if compat else _NO_MIDDLEBOX_COMPAT
    keylog = KeyLog() if previous is None else previous.keylog
    both: dict[str, Any] = {"version": version, "ciphers": ciphers, "suites": suites, "options": options}
    if previous is None:
        client_context = context(C, keylog, **both, groups=client_groups, present=present, trust=client_trusts)
        both["options"] |= 0 if tickets else _NO_TICKET
        both["version"] = min(version, server_version)
        server_context = context(S, keylog, **both, groups=server_groups, cert=cert, ask=ask, trust=server_trusts)
        server_context.set_session_cache_mode(SSL.SESS_CACHE_SERVER)
        session = None
    else:
        client_context = previous.client.connection.get_context()
        server_context = previous.server.connection.get_context()
        session = previous.client.connection.get_session()
    if early_data or previous is not None:
        lib.SSL_CTX_set_max_early_data(server_context._context, early_data)
    return Pair(Endpoint(C, client_context, session=session), Endpoint(S, server_context), keylog)


def connected(**settings: Any) -> Pair:
    """A pair that has shaken hands, exchanged some data, and closed."""
    made = pair(**settings)
    made.run()
    if not made.client.errors and not made.server.errors:
        made.say(made.client, b"GET / HTTP/1.1\r\n\r\n")
        made.say(made.server, b"x" * 40_000)
    made.close()
    return made


def early(made: Pair, *parts: bytes, accept: bool) -> bytes:
    """Send early data before the handshake, a record each; give what the server read of it."""
    written = ffi.new("size_t *")
    for part in parts:
        assert lib.SSL_write_early_data(made.client.connection._ssl, part, len(part), written) == 1
    made._carry(made.client, made.server)
    got = b""
    if accept:
        buffer = ffi.new("char[]", 65536)
        while lib.SSL_read_early_data(made.server.connection._ssl, buffer, 65536, written) == 1:
            got += bytes(ffi.buffer(buffer, written[0]))
        made._carry(made.server, made.client)
        made.client.step()
        made._carry(made.client, made.server)
        if lib.SSL_read_early_data(made.server.connection._ssl, buffer, 65536, written) == 1:
            got += bytes(ffi.buffer(buffer, written[0]))
    made.run()
    return got


class Sealer:
    """Seals TLS 1.3 records (AES-128-GCM) in the place of one side, from the key log: KeyUpdate, oddities."""

    def __init__(self, secret: bytes, *, sequence: int = 0) -> None:
        self._secret = secret
        self._sequence = sequence
        self._key, self._iv = traffic_key(secret, 16, "sha256")

    def seal(self, content_type: int, data: bytes, *, padding: int = 0) -> bytes:
        inner = data + bytes((content_type,)) + bytes(padding)
        header = b"\x17\x03\x03" + (len(inner) + 16).to_bytes(2, "big")
        nonce = (int.from_bytes(self._iv, "big") ^ self._sequence).to_bytes(12, "big")
        self._sequence += 1
        return header + AESGCM(self._key).encrypt(nonce, inner, header)

    def update(self) -> None:
        self._secret = next_traffic_secret(self._secret, "sha256")
        self._key, self._iv = traffic_key(self._secret, 16, "sha256")
        self._sequence = 0


def decode(
    log: Iterable[tuple[Side, bytes]],
    *,
    keylog: KeyLog | None = None,
    cut: Callable[[bytes], Iterable[bytes]] = lambda data: (data,),
    end: bool = True,
) -> list[Event]:
    """The events of a leg whose bytes come in the given slices."""
    decoder = LegDecoder(keylog=keylog)
    out: list[Event] = []
    for sender, data in log:
        for part in cut(data):
            out += decoder.receive(sender, part, 0.0)
    if end:
        out += decoder.end(C, 0.0) + decoder.end(S, 0.0)
    return out


def messages(events: Iterable[Event], side: Side | None = None) -> list[tuple[str, str, int, bool, bytes]]:
    """What the messages say, without their times."""
    return [
        (event.sender.value, event.content.value, event.code, event.encrypted, event.raw)
        for event in events
        if isinstance(event, Message) and side in {None, event.sender}
    ]


def problems(events: Iterable[Event]) -> list[Problem]:
    return [event for event in events if isinstance(event, Problem)]


def summed(events: Iterable[Event], side: Side) -> list[Event]:
    """One side's events, application data that follows upon application data added up: the same for any slicing."""
    out: list[Event] = []
    for event in events:
        if event.sender is not side:
            continue
        last = out[-1] if out else None
        if isinstance(event, ApplicationData) and isinstance(last, ApplicationData):
            out[-1] = ApplicationData(0.0, side, last.records + event.records, last.length + event.length)
        else:
            out.append(event)
    return out


def sealed(events: Iterable[Event]) -> list[EncryptedRecord]:
    return [event for event in events if isinstance(event, EncryptedRecord)]
