"""SOCKS: version 5 as a server and as a client (RFC 1928, RFC 1929), version 4 and 4a as a server.

The server side, :class:`SocksServer`, in the order in which things are said:

    client: methods            -> we choose one: none, or user name and password (RFC 1928 3)
    client: user and password  -> we say yes or no (RFC 1929 2)
    client: CONNECT to ...     -> Wanted; then ``granted`` or ``failed``, and we answer (RFC 1928 4, 6)

A domain name stays a name and is resolved by us, which is what clients call *socks5h*. BIND and UDP ASSOCIATE get the
reply for commands that are not served. Version 4 (https://www.openssh.com/txt/socks4.protocol) has one message and no
passwords, so it is served only where none are asked for; its 4a form has the name behind it.

What the recording keeps is the version, the target, whether the client authenticated, and our reply. What it
authenticated with is not kept anywhere.

The client side, :class:`SocksClient`, is for an upstream proxy. It offers a password only when it has one, and takes
whatever the proxy chooses of what it offered.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Any, Final

from countersign.proxy.settings import Address
from countersign.proxy.ways.events import Ready, Refused, Send, Wanted
from countersign.recorder.recording import FailureCode, Party
from countersign.recorder.wire.records import looks_like_tls, shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from countersign.proxy.ways.credentials import Credentials, Login

Event = Send | Wanted | Ready | Refused

_NO_AUTHENTICATION, _USER_PASSWORD, _NO_METHOD = 0x00, 0x02, 0xFF
_CONNECT = 1
_COMMANDS: Final = {1: "CONNECT", 2: "BIND", 3: "UDP ASSOCIATE"}
_IPV4, _DOMAIN, _IPV6 = 1, 3, 4

GENERAL_FAILURE, NOT_ALLOWED, NETWORK_UNREACHABLE, HOST_UNREACHABLE = 1, 2, 3, 4
REFUSED, TTL_EXPIRED, COMMAND_NOT_SUPPORTED, ADDRESS_NOT_SUPPORTED = 5, 6, 7, 8
REPLIES: Final = {
    0: "succeeded",
    GENERAL_FAILURE: "general SOCKS server failure",
    NOT_ALLOWED: "connection not allowed by ruleset",
    NETWORK_UNREACHABLE: "network unreachable",
    HOST_UNREACHABLE: "host unreachable",
    REFUSED: "connection refused",
    TTL_EXPIRED: "TTL expired",
    COMMAND_NOT_SUPPORTED: "command not supported",
    ADDRESS_NOT_SUPPORTED: "address type not supported",
}
"""RFC 1928 6."""

_DIAL_REPLIES: Final = {
    FailureCode.DIAL_REFUSED: REFUSED,
    FailureCode.DIAL_TIMEOUT: TTL_EXPIRED,
    FailureCode.UNKNOWN_HOST: HOST_UNREACHABLE,
    FailureCode.RESOLVER_TIMEOUT: HOST_UNREACHABLE,
    FailureCode.UNREACHABLE: HOST_UNREACHABLE,
    FailureCode.TARGET_NOT_ALLOWED: NOT_ALLOWED,
    FailureCode.CLIENT_NOT_ALLOWED: NOT_ALLOWED,
    FailureCode.REFUSED_BY_RULE: NOT_ALLOWED,
}
"""The reply for each way in which a dial fails; for all others it is the general one."""

_NAME = re.compile(rb"[A-Za-z0-9._-]+")
_V4_TEXT_AT_MOST = 255  # bytes of user id and of host name: the document sets no bound
_V4_GRANTED, _V4_REJECTED = 0x5A, 0x5B


@dataclass(frozen=True, slots=True)
class _Field:
    """What was read, and the bytes that follow it."""

    value: bytes
    rest: bytes


class SocksServer:
    """One client's dialogue. Feed it with :meth:`receive` until it says :class:`Wanted` or :class:`Refused`."""

    def __init__(self, credentials: Credentials | None = None) -> None:
        self._credentials = credentials
        self._buffer = b""
        self._step: Callable[[], list[Event] | None] = self._version
        self._answered = False
        self._four = False
        self.record: dict[str, Any] = {}
        """What a recording's ``prelude`` keeps as ``socks``."""

    def receive(self, data: bytes) -> list[Event]:
        """What the client sent. What comes behind its request is kept and given back with :class:`Ready`."""
        self._buffer += data
        events: list[Event] = []
        while not self._answered and "target" not in self.record:
            said = self._step()
            if said is None:
                break
            events += said
        return events

    def granted(self, bound: Address | None = None) -> list[Event]:
        """The target is connected, from the address ``bound`` where that is known."""
        rest, self._buffer = self._buffer, b""
        return [*self._answer(0, bound), Ready(rest)]

    def failed(self, code: FailureCode) -> list[Event]:
        """It is not, for the reason that ``code`` names."""
        return self._answer(_DIAL_REPLIES.get(code, GENERAL_FAILURE))

    @property
    def midway(self) -> bool:
        """Whether the client has begun and not yet said what it wants."""
        return bool(self._buffer or self.record) and "target" not in self.record

    # -- steps: each takes a whole part of the dialogue off the buffer, or says None while it is not whole

    def _version(self) -> list[Event] | None:
        if not self._buffer:
            return None
        if self._buffer[0] == 5:
            self.record["version"] = 5
            self._step = self._methods
            return []
        if self._buffer[0] == 4:
            self.record["version"] = 4
            self._four = True
            self._step = self._request_4
            return []
        return self._no_socks()

    def _no_socks(self) -> list[Event] | None:
        first = self._buffer[:8]
        tls = looks_like_tls(first)
        if tls is None:
            return None
        if tls:
            text = "began with TLS where a SOCKS request belongs: it takes this proxy for the target itself"
        elif re.match(rb"[A-Z]", first):
            text = "speaks HTTP or another protocol of words where a SOCKS request belongs (HTTP is --mode connect)"
        else:
            text = f"sent no SOCKS request: it began with 0x{first[0]:02x}"
        return self._over(FailureCode.BAD_REQUEST, text)

    def _methods(self) -> list[Event] | None:
        """RFC 1928 3: VER NMETHODS METHODS."""
        taken = _counted(self._buffer[1:])
        if taken is None:
            return None
        self._buffer = taken.rest
        wanted = _NO_AUTHENTICATION if self._credentials is None else _USER_PASSWORD
        if wanted not in taken.value:
            asked = "authenticate with a user name and password" if self._credentials else "go without authentication"
            offered = ", ".join(f"0x{method:02x}" for method in taken.value) or "none"
            text = f"does not offer to {asked}, which this proxy wants (it offers {offered})"
            return [Send(bytes((5, _NO_METHOD))), *self._over(FailureCode.NOT_AUTHENTICATED, text)]
        self._step = self._request if self._credentials is None else self._password
        return [Send(bytes((5, wanted)))]

    def _password(self) -> list[Event] | None:
        """RFC 1929 2: VER ULEN UNAME PLEN PASSWD."""
        assert self._credentials is not None
        if not self._buffer:
            return None
        if self._buffer[0] != 1:
            text = f"sent version 0x{self._buffer[0]:02x} of user name and password where RFC 1929 has 1"
            return [Send(b"\x01\x01"), *self._over(FailureCode.BAD_REQUEST, text)]
        user = _counted(self._buffer[1:])
        password = None if user is None else _counted(user.rest)
        if user is None or password is None:
            return None
        self._buffer = password.rest
        if not self._credentials.fit(user.value, password.value):
            self.record["authenticated"] = False
            text = "showed a user name and password that this proxy does not know"
            return [Send(b"\x01\x01"), *self._over(FailureCode.NOT_AUTHENTICATED, text)]
        self.record["authenticated"] = True
        self._step = self._request
        return [Send(b"\x01\x00")]

    def _request(self) -> list[Event] | None:
        """RFC 1928 4: VER CMD RSV ATYP DST.ADDR DST.PORT; what is wrong is answered as soon as it shows."""
        request = self._buffer
        if request and request[0] != 5:
            text = f"sent version 0x{request[0]:02x} in its SOCKS request where 5 belongs"
            return [*self._answer(GENERAL_FAILURE), *self._over(FailureCode.BAD_REQUEST, text)]
        if len(request) < 4:
            return None
        if request[1] != _CONNECT:
            command = _COMMANDS.get(request[1], f"command 0x{request[1]:02x}")
            text = f"asked for {command}; this proxy serves CONNECT only"
            return [*self._answer(COMMAND_NOT_SUPPORTED), *self._over(FailureCode.UNSUPPORTED_REQUEST, text)]
        if request[3] not in {_IPV4, _DOMAIN, _IPV6}:
            text = f"named its target by an address of type 0x{request[3]:02x}, which RFC 1928 does not have"
            return [*self._answer(ADDRESS_NOT_SUPPORTED), *self._over(FailureCode.BAD_REQUEST, text)]
        taken = _address(request[3:])
        if taken is None:
            return None
        host, port, self._buffer = taken
        return self._wanted(host, port)

    def _request_4(self) -> list[Event] | None:
        """VN CD DSTPORT DSTIP USERID NUL, and in the 4a form, with an address of 0.0.0.x, HOST NUL."""
        if self._credentials is not None:
            text = "speaks SOCKS4, which knows no passwords, and this proxy wants one: use SOCKS5"
            return [*self._answer(NOT_ALLOWED), *self._over(FailureCode.NOT_AUTHENTICATED, text)]
        request = self._buffer
        if len(request) >= 2 and request[1] != _CONNECT:
            command = _COMMANDS.get(request[1], f"command 0x{request[1]:02x}")
            text = f"asked for {command}; this proxy serves CONNECT only"
            return [*self._answer(COMMAND_NOT_SUPPORTED), *self._over(FailureCode.UNSUPPORTED_REQUEST, text)]
        if len(request) < 9:
            return None
        port, address = int.from_bytes(request[2:4], "big"), request[4:8]
        named = address[:3] == b"\0\0\0" and address[3] != 0
        count = 2 if named else 1
        *texts, rest = request[8:].split(b"\0", count)
        if any(len(text) > _V4_TEXT_AT_MOST for text in (*texts, *([rest] if len(texts) < count else []))):
            return [
                *self._answer(GENERAL_FAILURE),
                *self._over(FailureCode.BAD_REQUEST, "sent a SOCKS4 request without an end"),
            ]
        if len(texts) < count:
            return None
        self._buffer = rest
        return self._wanted(texts[1] if named else str(IPv4Address(address)).encode(), port)

    def _wanted(self, host: bytes, port: int) -> list[Event]:
        try:
            name = str(ip_address(host.decode("ascii")))
        except ValueError:
            name = host.decode("ascii", "replace")
            if not _NAME.fullmatch(host):
                text = "named a target that is no host name"
                return [*self._answer(GENERAL_FAILURE), *self._over(FailureCode.BAD_REQUEST, text)]
        target = Address(name, port)
        if port == 0:
            text = f"named a target without a port: {target}"
            return [*self._answer(GENERAL_FAILURE), *self._over(FailureCode.BAD_REQUEST, text)]
        self.record |= {"target": str(target), "authenticated": self._credentials is not None}
        return [Wanted(target)]

    def _over(self, code: FailureCode, text: str) -> list[Event]:
        self._answered = True
        return [Refused(Party.CLIENT, code, text)]

    def _answer(self, reply: int, bound: Address | None = None) -> list[Event]:
        self._answered = True
        if self._four:
            self.record["answer"] = _V4_REJECTED if reply else _V4_GRANTED
            return [Send(bytes((0, self.record["answer"])) + bytes(6))]
        self.record["answer"] = reply
        return [Send(bytes((5, reply, 0)) + _address_bytes(bound or Address("0.0.0.0", 0)))]  # noqa: S104 - "none"


class SocksClient:
    """Our dialogue with an upstream SOCKS5 proxy. Send what :meth:`begin` gives, then feed :meth:`receive`."""

    def __init__(self, target: Address, login: Login | None = None) -> None:
        self._target = target
        self._login = login
        self._buffer = b""
        self._step: Callable[[], list[Event] | None] = self._method
        self._over = False
        self.record: dict[str, Any] = {"version": 5, "target": str(target)}

    def begin(self) -> bytes:
        """RFC 1928 3. A password is offered beside the way without one, for the proxy may not ask for it."""
        methods = bytes((_NO_AUTHENTICATION,)) if self._login is None else bytes((_NO_AUTHENTICATION, _USER_PASSWORD))
        return bytes((5, len(methods))) + methods

    def receive(self, data: bytes) -> list[Event]:
        """What the proxy sent."""
        self._buffer += data
        events: list[Event] = []
        while not self._over and (said := self._step()) is not None:
            events += said
        return events

    def _method(self) -> list[Event] | None:
        if self._buffer and self._buffer[0] != 5:
            return self._broken(f"does not speak SOCKS5: it answered {shown(self._buffer[:8])}")
        if len(self._buffer) < 2:
            return None
        method, self._buffer = self._buffer[1], self._buffer[2:]
        if method == _NO_AUTHENTICATION:
            return self._request()
        if method == _USER_PASSWORD and self._login is not None:
            user, password = self._login.user.encode(), self._login.password.encode()
            self._step = self._authenticated
            return [Send(b"\x01" + bytes((len(user),)) + user + bytes((len(password),)) + password)]
        if method == _NO_METHOD:
            had = "a user name and password" if self._login is not None else "no user name and password"
            return self._unauthenticated(f"takes no way of authentication that it was offered ({had})")
        return self._broken(f"chose the authentication 0x{method:02x}, which was not offered")

    def _authenticated(self) -> list[Event] | None:
        """RFC 1929 2: any status but 0 is a no."""
        if len(self._buffer) < 2:
            return None
        version, status, self._buffer = self._buffer[0], self._buffer[1], self._buffer[2:]
        if status:
            return self._unauthenticated(f"does not take the user name and password (status {status})")
        if version != 1:
            return self._broken(f"answered the password with version 0x{version:02x} where 1 belongs")
        self.record["authenticated"] = True
        return self._request()

    def _request(self) -> list[Event]:
        try:
            target = _address_bytes(self._target)
        except ValueError:  # UnicodeError is one, and so is a length that does not fit into a byte
            self._over = True
            text = "named a target that SOCKS5 cannot ask for: a host name has at most 255 bytes"
            return [Refused(Party.CLIENT, FailureCode.BAD_REQUEST, text)]
        self._step = self._reply
        return [Send(bytes((5, _CONNECT, 0)) + target)]

    def _reply(self) -> list[Event] | None:
        """RFC 1928 6: VER REP RSV ATYP BND.ADDR BND.PORT."""
        if self._buffer and self._buffer[0] != 5:
            return self._broken(f"answered the request with {shown(self._buffer[:8])}, which is no reply")
        if len(self._buffer) < 2:
            return None
        reply = self._buffer[1]
        if reply:  # some proxies close behind these two bytes
            self.record["answer"] = reply
            said = REPLIES.get(reply, "a reply that RFC 1928 does not have")
            return self._refused(
                FailureCode.UPSTREAM_REFUSED, f"gives no connection to {self._target}: {said} ({reply})"
            )
        if len(self._buffer) >= 4 and self._buffer[3] not in {_IPV4, _DOMAIN, _IPV6}:
            return self._broken(f"answered with an address of type 0x{self._buffer[3]:02x}")
        taken = _address(self._buffer[3:])
        if taken is None:
            return None
        self.record["answer"] = 0
        self._over = True
        return [Ready(taken[2])]

    def _broken(self, text: str) -> list[Event]:
        return self._refused(FailureCode.UPSTREAM_BROKEN, text)

    def _unauthenticated(self, text: str) -> list[Event]:
        return self._refused(FailureCode.UPSTREAM_NOT_AUTHENTICATED, text)

    def _refused(self, code: FailureCode, text: str) -> list[Event]:
        self._over = True
        return [Refused(Party.UPSTREAM_PROXY, code, text)]


def _counted(data: bytes) -> _Field | None:
    """A byte of length and that many bytes."""
    if not data or len(data) < 1 + data[0]:
        return None
    return _Field(data[1 : 1 + data[0]], data[1 + data[0] :])


def _address(data: bytes) -> tuple[bytes, int, bytes] | None:
    """ATYP ADDR PORT: the host, the port and the bytes behind (RFC 1928 5)."""
    if not data:
        return None
    if data[0] == _DOMAIN:
        name = _counted(data[1:])
        host, rest = (name.value, name.rest) if name is not None else (b"", b"")
    else:
        size = 4 if data[0] == _IPV4 else 16
        packed, rest = data[1 : 1 + size], data[1 + size :]
        if len(packed) < size:
            return None
        host = str(ip_address(packed)).encode()
    if len(rest) < 2:
        return None
    return host, int.from_bytes(rest[:2], "big"), rest[2:]


def _address_bytes(address: Address) -> bytes:
    """ATYP ADDR PORT; a name goes as it is, for the other side to resolve. One that is too long raises ValueError."""
    port = address.port.to_bytes(2, "big")
    try:
        known: IPv4Address | IPv6Address = ip_address(address.host)
    except ValueError:
        name = address.host.encode("ascii" if address.host.isascii() else "idna")
        return bytes((_DOMAIN, len(name))) + name + port
    return bytes((_IPV4 if known.version == 4 else _IPV6,)) + known.packed + port
