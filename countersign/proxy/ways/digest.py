"""Showing a user name and password to an HTTP proxy: Basic (RFC 7617) and Digest (RFC 7616).

A 407 answer carries challenges. The strongest one that is understood is answered: Digest with SHA-512-256, SHA-256 or
MD5 (each also as ``-sess``), then Basic. Digest without ``qop`` is the form of RFC 2069, which old proxies still send.
Of ``qop`` only ``auth`` is answered: ``auth-int`` protects a body, and CONNECT has none.

What a proxy has once said is kept in :class:`Authenticator`, which all connections to that proxy share: the next
request shows its answer at once, with the nonce counted up, until the proxy hands out another nonce (``nextnonce`` in
Proxy-Authentication-Info, or a challenge that says ``stale=true``). A challenge that is not stale, after an answer to
one, means that the password is wrong, and is not answered again.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from countersign.proxy.ways.credentials import Login

_ALGORITHMS: Final[Mapping[str, str]] = {"SHA-512-256": "sha512_256", "SHA-256": "sha256", "MD5": "md5"}
"""Strongest first (RFC 7616 6.1)."""

_CHALLENGES_AT_MOST = 20

# -- the grammar of challenges (RFC 9110 11.2, 11.6.1) -------------------------------------------------------------

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME = re.compile(rf"[ \t,]*({_WORD})(?:[ \t]+|(?=,)|$)")
_PARAMETER = re.compile(rf'[ \t,]*({_WORD})[ \t]*=[ \t]*(?:({_WORD})|"((?:[^"\\]|\\.)*)")[ \t]*(?=,|$)')
_TOKEN68 = re.compile(r"[ \t]*[A-Za-z0-9._~+/-]+=*[ \t]*(?=,|$)")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to authenticate that a proxy offers; names in lower case, values as they mean."""

    scheme: str
    parameters: Mapping[str, str]


def parse_challenges(values: Iterable[str]) -> list[Challenge]:
    """The challenges of Proxy-Authenticate fields, in their order; reading stops at what is none."""
    found: list[Challenge] = []
    for value in values:
        for challenge in _challenges(value):
            if len(found) == _CHALLENGES_AT_MOST:
                return found
            found.append(challenge)
    return found


def _challenges(value: str) -> Iterator[Challenge]:
    at = 0
    while (scheme := _SCHEME.match(value, at)) is not None:
        at = scheme.end()
        parameters: dict[str, str] = {}
        token = _TOKEN68.match(value, at)
        if token is not None and _PARAMETER.match(value, at) is None and scheme[0][-1:] in {" ", "\t"}:
            at = token.end()
        else:
            at = _take_parameters(value, at, parameters)
        yield Challenge(scheme[1].lower(), parameters)


def _take_parameters(value: str, at: int, parameters: dict[str, str]) -> int:
    while (found := _PARAMETER.match(value, at)) is not None:
        quoted = None if found[3] is None else re.sub(r"\\(.)", r"\1", found[3])
        parameters.setdefault(found[1].lower(), found[2] if quoted is None else quoted)
        at = found.end()
    return at


def parse_info(value: str) -> dict[str, str]:
    """The parameters of Proxy-Authentication-Info (RFC 7615 3)."""
    parameters: dict[str, str] = {}
    _take_parameters(value, 0, parameters)
    return parameters


# -- answers -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DigestChallenge:
    """What of a Digest challenge an answer is made from. ``qop`` is ``auth`` or, in the form of RFC 2069, none."""

    realm: str
    nonce: str
    opaque: str | None
    algorithm: str
    session: bool
    qop: str | None
    userhash: bool
    named: bool = True
    """Whether the challenge named its algorithm; then the answer does."""

    @classmethod
    def of(cls, challenge: Challenge) -> DigestChallenge | None:
        """None for one that cannot be answered: an unknown algorithm, no ``qop`` that is understood, no nonce."""
        parameters = challenge.parameters
        algorithm = parameters.get("algorithm", "MD5").upper()
        base = algorithm.removesuffix("-SESS")
        offered = [one.strip().lower() for one in parameters.get("qop", "").split(",") if one.strip()]
        usable = base in _ALGORITHMS and _ALGORITHMS[base] in hashlib.algorithms_available
        if challenge.scheme != "digest" or not usable or "nonce" not in parameters or "realm" not in parameters:
            return None
        if offered and "auth" not in offered:
            return None
        return cls(
            realm=parameters["realm"],
            nonce=parameters["nonce"],
            opaque=parameters.get("opaque"),
            algorithm=base,
            session=algorithm != base,
            qop="auth" if offered else None,
            userhash=parameters.get("userhash", "").lower() == "true",
            named="algorithm" in parameters,
        )


def digest_answer(
    challenge: DigestChallenge, login: Login, *, method: str, uri: str, count: int, cnonce: str
) -> dict[str, str]:
    """The parameters of the answer (RFC 7616 3.4), in the order in which they are sent; values without quotes."""

    def hashed(*parts: str) -> str:
        return hashlib.new(
            _ALGORITHMS[challenge.algorithm], ":".join(parts).encode("utf-8", "surrogateescape"), usedforsecurity=False
        ).hexdigest()

    a1 = hashed(login.user, challenge.realm, login.password)
    if challenge.session:  # 3.4.2
        a1 = hashed(a1, challenge.nonce, cnonce)
    a2 = hashed(method, uri)  # 3.4.3
    nc = f"{count:08x}"
    middle = (nc, cnonce, challenge.qop) if challenge.qop else ()
    answer = {
        "username": hashed(login.user, challenge.realm) if challenge.userhash else login.user,  # 3.4.4
        "realm": challenge.realm,
        "uri": uri,
        "nonce": challenge.nonce,
        "response": hashed(a1, challenge.nonce, *middle, a2),  # 3.4.1
    }
    if challenge.named:
        answer["algorithm"] = challenge.algorithm + ("-sess" if challenge.session else "")
    if challenge.qop:
        answer |= {"qop": challenge.qop, "nc": nc}
    if challenge.qop or challenge.session:
        answer["cnonce"] = cnonce
    if challenge.opaque is not None:
        answer["opaque"] = challenge.opaque
    if challenge.userhash:
        answer["userhash"] = "true"
    return answer


_UNQUOTED = frozenset({"algorithm", "qop", "nc", "userhash"})  # RFC 7616 3.4


def _field(answer: Mapping[str, str]) -> bytes:
    parts = []
    for name, value in answer.items():
        if name in _UNQUOTED:
            parts.append(f"{name}={value}")
        elif name == "username" and not value.isascii():  # RFC 8187, RFC 7616 3.4
            encoded = "".join(
                chr(byte) if re.match(_WORD, chr(byte)) and chr(byte) not in "*'%" else f"%{byte:02X}"
                for byte in value.encode()
            )
            parts.append(f"username*=UTF-8''{encoded}")
        else:
            quoted = re.sub(r'(["\\])', r"\\\1", value)
            parts.append(f'{name}="{quoted}"')
    return ("Digest " + ", ".join(parts)).encode("utf-8", "surrogateescape")


class Authenticator:
    """What one upstream proxy wants to be shown, learnt from its challenges; one for all connections to it.

    Fields come and go as text in which bytes that are no UTF-8 are escaped (``surrogateescape``): a realm in another
    encoding has to be given back as it came.
    """

    def __init__(self, login: Login, *, rng: Callable[[int], str] = secrets.token_hex) -> None:
        self._login = login
        self._rng = rng
        self._scheme: str | None = None
        self._digest: DigestChallenge | None = None
        self._cnonce = ""
        self._count = 0

    @property
    def scheme(self) -> str | None:
        """How it authenticates, for the recording: ``basic``, ``digest SHA-256``, or none as yet."""
        if self._digest is not None:
            return f"digest {self._digest.algorithm}" + ("-sess" if self._digest.session else "")
        return self._scheme

    def answer(self, method: str, uri: str) -> bytes | None:
        """The value of Proxy-Authorization for the next request, or none before the first challenge."""
        if self._digest is not None:
            self._count += 1
            return _field(
                digest_answer(self._digest, self._login, method=method, uri=uri, count=self._count, cnonce=self._cnonce)
            )
        if self._scheme == "basic":
            return b"Basic " + base64.b64encode(f"{self._login.user}:{self._login.password}".encode())
        return None

    def challenged(self, values: Iterable[str], *, answered: bool) -> str | None:
        """A 407 came. None: :meth:`answer` has another one now; else the reason why there is nothing more to try.

        ``answered`` says that the request which it refuses carried an answer to a challenge of this same dialogue;
        one that was made from an older challenge may just have been too old.
        """
        challenges = parse_challenges(values)
        digests = [(DigestChallenge.of(challenge), challenge) for challenge in challenges]
        usable = [(digest, challenge) for digest, challenge in digests if digest is not None]
        if usable:
            strength = list(_ALGORITHMS)
            digest, challenge = min(usable, key=lambda pair: strength.index(pair[0].algorithm))
            if answered and challenge.parameters.get("stale", "").lower() != "true":
                self._forget()
                return "does not take the user name and password (Digest)"
            self._learn(digest)
            return None
        if any(challenge.scheme == "basic" for challenge in challenges):
            if answered:
                self._forget()
                return "does not take the user name and password (Basic)"
            self._scheme, self._digest = "basic", None
            return None
        offered = ", ".join(challenge.scheme for challenge in challenges) or "nothing"
        return (
            f"asks for authentication in a way that is not spoken here: it offers {printable(offered, limit=100)},"
            " and Digest and Basic are known"
        )

    def informed(self, value: str) -> None:
        """A Proxy-Authentication-Info field came with the answer to a good request (RFC 7616 3.5)."""
        following = parse_info(value).get("nextnonce")
        if following and self._digest is not None:
            self._learn(replace(self._digest, nonce=following))

    def _learn(self, digest: DigestChallenge) -> None:
        if self._digest is None or self._digest.nonce != digest.nonce:  # a nonce's count never goes back
            self._count, self._cnonce = 0, self._rng(16)
        self._scheme, self._digest = "digest", digest

    def _forget(self) -> None:
        """A password that was refused is not shown again unasked: the next connection starts from the beginning."""
        self._scheme, self._digest, self._count = None, None, 0
