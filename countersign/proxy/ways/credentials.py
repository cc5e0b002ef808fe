"""User names and passwords: those that clients must show, from a file, and the one that we show an upstream proxy.

The file has a line ``user:password`` each, empty lines and lines that begin with ``#`` aside. In place of the password
may stand a hash of it, with its kind in braces as LDAP servers write it (``slappasswd``, ``doveadm pw``)::

    alice:{SSHA256}B3KoZ5M0V2rUvPlwY0o9mC...    base64 of SHA-256(password + salt) and the salt
    bob:{SSHA512}...                            the same with SHA-512
    carol:{PLAIN}{SSHA256} is my real password

These hashes are quick to compute, so a client that tries passwords costs no more than its connection does, and the file
itself is readable for its owner alone. Comparing takes the same time whether the user exists or not and however much of
the password is right.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from countersign.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

_HASHES: Final = {"SSHA256": hashlib.sha256, "SSHA512": hashlib.sha512}
_KIND = re.compile(r"\{([^{}]*)\}(.*)", re.DOTALL)
_CRYPT = re.compile(r"\$[0-9a-z-]{1,20}\$")


@dataclass(frozen=True, slots=True)
class Login:
    """One user name and password, as we show it."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Password:
    kind: str
    digest: bytes = field(repr=False)
    salt: bytes = field(repr=False)

    def fits(self, password: bytes) -> bool:
        return hmac.compare_digest(_HASHES[self.kind](password + self.salt).digest(), self.digest)


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who may use the proxy."""

    _passwords: Mapping[bytes, _Password] = field(repr=False)

    @classmethod
    def parse(cls, data: bytes, *, name: str) -> Credentials:
        """The credentials of a file; ``name`` is what errors call it. Raises :class:`UserError`."""
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as wrong:
            raise UserError(f"{name} must be UTF-8 text, byte {wrong.start} is not") from None
        passwords: dict[bytes, _Password] = {}
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip() or line.startswith("#"):
                continue
            user, colon, secret = line.partition(":")
            where = f"line {number} of {name}"
            if not colon or not user or not secret:
                raise UserError(f"{where} must be USER:PASSWORD")
            if len(user.encode()) > 255:
                raise UserError(f"{where}: a user name has at most 255 bytes (RFC 1929)")
            if user.encode() in passwords:
                raise UserError(f"{where}: the user {user!r} stands there twice")
            passwords[user.encode()] = _read_password(secret, where)
        if not passwords:
            raise UserError(f"{name} names no user: nobody could use the proxy")
        return cls(passwords)

    def fit(self, user: bytes, password: bytes) -> bool:
        """Whether this user has this password."""
        known = self._passwords.get(user)
        return (known or _NOBODY).fits(password) and known is not None

    def fit_basic(self, value: bytes) -> bool:
        """The same for the value of a Proxy-Authorization field (RFC 7617 2)."""
        scheme, _, token = value.partition(b" ")
        if scheme.lower() != b"basic":
            return False
        try:
            user, colon, password = base64.b64decode(token.strip(b" "), validate=True).partition(b":")
        except binascii.Error:
            return False
        return bool(colon) and self.fit(user, password)


def _read_password(secret: str, where: str) -> _Password:
    found = _KIND.fullmatch(secret)
    if found is None:
        if _CRYPT.match(secret):
            raise UserError(f"{where}: a hash of crypt(3) cannot be checked here; use {{SSHA256}} or {{SSHA512}}")
        return _hashed(secret)
    kind, rest = found[1].upper(), found[2]
    if kind == "PLAIN":
        return _hashed(rest)
    if kind not in _HASHES:
        known = ", ".join(f"{{{name}}}" for name in (*_HASHES, "PLAIN"))
        raise UserError(f"{where}: {{{found[1]}}} is no kind of hash that is known here; those are {known}")
    size = _HASHES[kind]().digest_size
    try:
        data = base64.b64decode(rest, validate=True)
    except binascii.Error:
        raise UserError(f"{where}: behind {{{kind}}} goes base64") from None
    if len(data) < size:
        raise UserError(f"{where}: {{{kind}}} has at least {size} bytes, got {len(data)}")
    return _Password(kind, data[:size], data[size:])


def _hashed(password: str) -> _Password:
    """Plain ones are hashed as well, so that every comparison is one of digests."""
    return _Password("SSHA256", hashlib.sha256(password.encode()).digest(), b"")


_NOBODY: Final = _Password("SSHA256", bytes(32), b"")
