"""Which proxy to go out through: ``--upstream-proxy URL``.

``http://`` is a proxy spoken to in clear, ``https://`` the same inside of TLS, ``socks5://`` and ``socks5h://`` both
mean that the proxy resolves names, as with every proxy here: what we resolve ourselves goes by ``--resolve``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

from countersign.errors import UserError
from countersign.proxy.settings import Address
from countersign.proxy.ways.credentials import Login

_PORTS: Final = {"http": 3128, "https": 443, "socks5": 1080, "socks5h": 1080}


@dataclass(frozen=True, slots=True)
class UpstreamProxy:
    """A proxy between us and every target. ``tls``: it is spoken to inside of TLS."""

    kind: str
    address: Address
    tls: bool = False
    login: Login | None = field(default=None, repr=False)

    def __str__(self) -> str:
        scheme = "https" if self.tls else "socks5" if self.kind == "socks" else "http"
        return f"{scheme}://{self.address}"


def parse_upstream(url: str) -> UpstreamProxy:
    """``http://user:password@proxy:3128``; characters of user and password may be percent-encoded.

    Raises :class:`UserError`, whose text never shows the password.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise UserError("--upstream-proxy takes a URL such as http://proxy:3128; this one cannot be read") from None
    if parts.scheme not in _PORTS:
        known = ", ".join(f"{scheme}://" for scheme in _PORTS)
        got = f"{parts.scheme}://" if parts.netloc else "none"
        raise UserError(f"--upstream-proxy takes a URL that begins with {known}; got {got}")
    if not parts.hostname:
        raise UserError(f"--upstream-proxy names no host behind {parts.scheme}://")
    if port == 0:
        raise UserError("--upstream-proxy takes a port from 1 to 65535, got 0")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise UserError(f"--upstream-proxy takes a host and a port; nothing goes behind {parts.hostname}")
    login = None
    if parts.username is not None:
        login = Login(unquote(parts.username), unquote(parts.password or ""))
        _check_login(login, parts.scheme)
    kind = "socks" if parts.scheme.startswith("socks") else "http"
    return UpstreamProxy(kind, Address(parts.hostname, port or _PORTS[parts.scheme]), parts.scheme == "https", login)


def parse_login(data: bytes, proxy: UpstreamProxy, *, name: str) -> Login:
    """The one line ``user:password`` of a file; ``name`` is what errors call it. Raises :class:`UserError`."""
    try:
        lines = data.decode("utf-8").splitlines()
    except UnicodeDecodeError as wrong:
        raise UserError(f"{name} must be UTF-8 text, byte {wrong.start} is not") from None
    said = [line for line in lines if line.strip() and not line.startswith("#")]
    if len(said) != 1 or ":" not in said[0]:
        raise UserError(f"{name} must have one line USER:PASSWORD")
    user, _, password = said[0].partition(":")
    login = Login(user, password)
    _check_login(login, "socks5" if proxy.kind == "socks" else "http")
    return login


def _check_login(login: Login, scheme: str) -> None:
    if ":" in login.user:
        raise UserError("--upstream-proxy: a user name has no colon (RFC 7617 2)")
    if any(ord(character) < 32 or ord(character) == 127 for character in login.user + login.password):
        raise UserError("--upstream-proxy: user name and password have no control characters")
    if scheme.startswith("socks") and max(len(login.user.encode()), len(login.password.encode())) > 255:
        raise UserError("--upstream-proxy: SOCKS5 takes user names and passwords of at most 255 bytes (RFC 1929)")
