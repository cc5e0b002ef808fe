"""What the engine is told: frozen, checked when it is made, with a sentence for each mistake."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Literal

from countersign.errors import UserError
from countersign.proxy.orders import NOTHING_ORDERED, Orders
from countersign.recorder.wire.text import host_port

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

    from countersign.proxy.hellos import HelloPreset
    from countersign.proxy.ways.addressing import Overrides, Targets
    from countersign.proxy.ways.credentials import Credentials
    from countersign.proxy.ways.policy import Policy
    from countersign.proxy.ways.upstream import UpstreamProxy


class Mode(StrEnum):
    """How clients reach the proxy."""

    REVERSE = "reverse"
    CONNECT = "connect"
    SOCKS5 = "socks5"
    TRANSPARENT = "transparent"


class Action(StrEnum):
    """What is done with a TLS connection."""

    INTERCEPT = "intercept"
    PASSTHROUGH = "passthrough"


class Mtls(StrEnum):
    """What becomes of a target's request for a client certificate (:mod:`countersign.proxy.mtls`)."""

    RELAY = "relay"
    PRESENT = "present"
    STRIP = "strip"
    BYPASS = "bypass"
    BLOCK = "block"


class SecretsKept(StrEnum):
    """Which traffic secrets a recording keeps (DESIGN 3)."""

    NONE = "none"
    HANDSHAKE = "handshake"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Address:
    """A host name or address and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return host_port(self.host, self.port)


_HOST_PORT = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.%]+)\]|(?P<host>[^\[\]:/\s@]*)):(?P<port>\d{1,5})")


def parse_address(text: str, *, what: str, any_port: bool = False) -> Address:
    """``host:port``, ``[::1]:port``. Raises :class:`UserError` that names ``what`` was being read."""
    match = _HOST_PORT.fullmatch(text.strip())
    if match is None:
        hint = " (an IPv6 address goes in brackets: [::1]:443)" if text.count(":") > 1 else ""
        hint = " (give host and port alone, without scheme and path)" if "//" in text else hint
        missing = " has no port" if ":" not in text else " is not of that form"
        raise UserError(f"{what} takes HOST:PORT; {text!r}{missing}{hint}")
    port = int(match["port"])
    if port > 65535 or (port == 0 and not any_port):
        raise UserError(f"{what} takes a port from {0 if any_port else 1} to 65535, got {port}")
    host = match["six"] or match["host"]
    if not host:
        raise UserError(f"{what} takes HOST:PORT; {text!r} has no host")
    return Address(host, port)


def parse_network(text: str) -> IPv4Network | IPv6Network:
    """An address or a range in CIDR form, for ``--allow``."""
    try:
        return ip_network(text.strip(), strict=False)
    except ValueError:
        raise UserError(f"--allow takes an address or a range such as 10.1.0.0/16, got {text!r}") from None


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds that each step may take."""

    hello: float = 10.0
    connect: float = 10.0
    handshake: float = 20.0
    idle: float = 300.0
    stop: float = 5.0


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate chain (DER, leaf first) with its key, shown to targets that ask for one."""

    chain: tuple[bytes, ...]
    key: PrivateKeyTypes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Settings:
    """All that a running proxy needs to know.

    ``target`` is one for all, or several by the server name of the ClientHello. ``credentials`` are what clients of an
    explicit proxy must show. ``resolve`` has addresses that stand before the resolver's, and ``bind_out`` is where
    connections to targets come from. ``starttls`` names the dialogue before TLS, and ``proxy_protocol`` wants the
    header of a load balancer before anything else.

    ``roots`` are the DER certificates that the target's chain is verified against; none means the system's store.
    ``verify`` off lets untrusted targets through, and every recording says what was wrong. ``policy`` decides what is
    done with a connection; without one, or where none of its rules fits, it is ``action``. ``resumption`` off has all
    connections make full handshakes on both legs, and ``hello`` says what targets are offered
    (:mod:`countersign.proxy.offer`). ``http_summary`` notes what was asked and answered in intercepted
    HTTP/1.1. ``orders`` are for all connections, as far as a director says nothing else.
    """

    listen: Address
    mode: Mode = Mode.REVERSE
    target: Address | Targets | None = None
    credentials: Credentials | None = None
    proxy_protocol: bool = False
    starttls: str | None = None
    tproxy: bool = False
    resolve: Overrides | None = None
    bind_out: IPv4Address | IPv6Address | None = None
    upstream: UpstreamProxy | None = None
    action: Action = Action.INTERCEPT
    policy: Policy | None = None
    bypass_after_failure: bool = False
    roots: tuple[bytes, ...] | None = None
    verify: bool = True
    identity: Identity | None = None
    mtls: Mtls | None = None
    resumption: bool = True
    hello: HelloPreset | Literal["mirror", "own"] = "mirror"
    http_summary: bool = False
    label: str | None = None
    secrets: SecretsKept = SecretsKept.NONE
    allow: tuple[IPv4Network | IPv6Network, ...] = ()
    limits: Limits = Limits()
    orders: Orders = NOTHING_ORDERED

    def __post_init__(self) -> None:
        if self.mode is Mode.REVERSE and self.target is None:
            raise UserError("--mode reverse needs to know where to go: give --target HOST:PORT")
        if self.mode is not Mode.REVERSE and self.target is not None:
            raise UserError(f"--target is for --mode reverse; in --mode {self.mode} each client names its own target")
        if self.credentials is not None and self.mode not in {Mode.CONNECT, Mode.SOCKS5}:
            raise UserError(f"--proxy-auth is for --mode connect and socks5; in --mode {self.mode} nobody can be asked")
        if self.tproxy and self.mode is not Mode.TRANSPARENT:
            raise UserError("--tproxy is for --mode transparent")
        if self.starttls is not None and self.target is not None and not isinstance(self.target, Address):
            raise UserError(
                "--starttls needs one --target HOST:PORT: the dialogue before TLS is with the target, "
                "and the server name that would choose one comes behind it"
            )
        if self.http_summary and self.action is Action.PASSTHROUGH and self.policy is None:
            raise UserError("--http-summary is for what is intercepted; with --passthrough nobody can read it")
        if self.mtls is Mtls.PRESENT and self.identity is None:
            raise UserError("--mtls present needs a certificate to present: give --client-cert and --client-key")
        if self.mtls not in {None, Mtls.PRESENT} and self.identity is not None:
            raise UserError(f"--client-cert is for --mtls present; with --mtls {self.mtls} it would never be shown")
        if self.mode is not Mode.REVERSE and not self.allow and not is_loopback(self.listen.host):
            raise UserError(
                f"--listen {self.listen} would be an open proxy for everybody who reaches it: "
                "give --allow CIDR for the clients that may use it, or listen on 127.0.0.1"
            )

    @property
    def mtls_mode(self) -> Mtls:
        """``mtls``, or what it is unless told: a given certificate is presented, and without one nothing is."""
        return self.mtls or (Mtls.STRIP if self.identity is None else Mtls.PRESENT)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def may_connect(host: str, allow: Sequence[IPv4Network | IPv6Network]) -> bool:
    """Whether a client at this address may use the proxy; without a list, everybody who reaches it may."""
    return not allow or within(host, allow)


def within(host: str, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    """Whether an address is in one of these; an IPv4-mapped one counts as IPv4, and what is no address is in none."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return False
    if address.version == 6 and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address.version == network.version and address in network for network in networks)
