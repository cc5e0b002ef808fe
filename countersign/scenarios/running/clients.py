"""Clients: which family a command line belongs to, where it is sent, and what it is told of us.

Every client gets the whole environment, whichever family it is of, for a script may start any other. Families differ in
three things: the way they come in (some obey ``HTTPS_PROXY``, some only go where they are told), the name that they can
be sent to, and what they can be expected to do.

What a JVM needs is measured: it ignores ``HTTPS_PROXY``, goes past a proxy for localhost whatever it is told but for an
exactly empty ``http.nonProxyHosts``, and sends no SNI for ``localhost``. So it gets a dotted name with a hosts file of
its own, both proxies as properties, and stores that keytool would have made.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import PurePath
from typing import TYPE_CHECKING

from countersign.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path


class Way(StrEnum):
    """How a client comes in: it is told of a proxy (CONNECT), or sent straight to us (reverse)."""

    CONNECT = "connect"
    REVERSE = "reverse"


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Clients that are alike; ``name`` is what :mod:`countersign.scenarios.expect` calls them, if it knows them.

    ``programs`` match the name of the program. ``way`` is the one to try first; where the client never connects on it,
    the other is tried. ``says`` goes to its standard input: a client that has nothing to say shows less of what it
    thinks.
    """

    name: str | None
    title: str
    programs: re.Pattern[str]
    way: Way
    says: bytes = b""


_REQUEST = b"GET / HTTP/1.0\r\n\r\n"

FAMILIES: tuple[Family, ...] = (
    Family(name="curl", title="curl", programs=re.compile(r"curl"), way=Way.CONNECT),
    Family(name="gnutls", title="wget", programs=re.compile(r"wget"), way=Way.CONNECT),
    Family(name="gnutls", title="git", programs=re.compile(r"git"), way=Way.CONNECT),
    Family(name="openssl", title="openssl", programs=re.compile(r"openssl"), way=Way.REVERSE, says=_REQUEST),
    Family(name="gnutls", title="gnutls-cli", programs=re.compile(r"gnutls-cli"), way=Way.REVERSE, says=_REQUEST),
    Family(
        name="python",
        title="Python",
        programs=re.compile(r"python[\d.]*|pypy[\d.]*|pytest|http|httpie|https|pip[\d.]*|aws|uv|uvx|tox|nox"),
        way=Way.CONNECT,
    ),
    Family(name="node", title="Node", programs=re.compile(r"node(js)?|npm|npx|yarn|pnpm|deno|bun"), way=Way.REVERSE),
    Family(name="java", title="Java", programs=re.compile(r"java|jshell|mvnw?|gradlew?|kotlin|scala"), way=Way.CONNECT),
    Family(name="go", title="Go", programs=re.compile(r"go|gh|kubectl|terraform|docker"), way=Way.CONNECT),
)

UNKNOWN = Family(name=None, title="an unknown client", programs=re.compile(r"(?!)"), way=Way.CONNECT)

_FIPS = re.compile(r"fips:BC|BouncyCastleFips|bc-fips")
_BOUNCY_CASTLE = re.compile(r"bouncycastle|bcprov|\bbctls")
_BEFORE_A_PROGRAM = frozenset({"env", "timeout", "nice", "nohup", "stdbuf", "time", "setsid", "command", "exec"})


def family_of(argv: Sequence[str]) -> Family:
    """The family of a command line, by the name of its program; ``env A=b timeout 5 curl ...`` is curl."""
    words = list(argv)
    while words:
        program = PurePath(words.pop(0)).name.removesuffix(".exe")
        if program in _BEFORE_A_PROGRAM:
            while words and (words[0].startswith("-") or "=" in words[0] or re.fullmatch(r"[\d.]+[smhd]?", words[0])):
                words.pop(0)
            continue
        found = next((each for each in FAMILIES if each.programs.fullmatch(program)), UNKNOWN)
        return _java(found, argv) if found.name == "java" else found
    return UNKNOWN


def _java(family: Family, argv: Sequence[str]) -> Family:
    """A JVM with Bouncy Castle builds paths by other rules, and says so in other words."""
    line = " ".join(argv)
    name = "java-fips" if _FIPS.search(line) else "java-bc" if _BOUNCY_CASTLE.search(line) else "java"
    return replace(family, name=name)


_JAVA_WITH = ("java-bc", "java-fips")
"""JVMs whose providers are set in a file, where no command line shows them."""


def family_named(name: str) -> Family:
    """The family that ``--family`` names. Raises :class:`UserError`."""
    wanted = name.lower()
    for each in FAMILIES:
        if wanted in {each.title.lower(), each.name}:
            return each
        if each.name == "java" and wanted in _JAVA_WITH:
            return replace(each, name=wanted)
    known = ", ".join(dict.fromkeys((*(each.title.lower() for each in FAMILIES), *_JAVA_WITH)))
    raise UserError(f"--family takes {known}; got {name!r}")


# -- places -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Where a client is sent, and the roots that it has to trust; ``proxy`` is ``host:port`` of ours."""

    way: Way
    host: str
    port: int
    proxy: str
    ca: Path

    @property
    def url(self) -> str:
        return f"https://{self.host}:{self.port}/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place(Where):
    """The same with all that a program may be given to trust and to show."""

    trust_store: Path
    store_password: str
    client_cert: Path
    client_key: Path
    client_store: Path
    hosts: Path | None
    wgetrc: Path


_PLACEHOLDERS = (
    "url", "host", "port", "ca", "proxy", "client_cert", "client_key", "client_store", "trust_store", "store_password",
)  # fmt: skip
_BRACES = re.compile(r"(?<!\$)(?:\{\{([a-z][a-z0-9_]*)\}\}|\{([a-z][a-z0-9_]*)\})")
_PROGRAM = re.compile(r"""[\s"'`;<>|()]""")
"""What stands in programs and hardly in addresses and names: braces around a word mean something else there."""


def placeholders(argv: Sequence[str]) -> frozenset[str]:
    """The names of the placeholders in the arguments. Raises :class:`UserError` for one that there is not."""
    found: set[str] = set()

    def take(name: str) -> str:
        found.add(name)
        return ""

    for word in argv:
        _with(word, take)
    return frozenset(found)


def filled(argv: Sequence[str], place: Place) -> tuple[str, ...]:
    """The arguments with ``{url}`` and its like filled in. ``{{url}}`` is ``{url}`` itself.

    Other braces stay as they are: a shell's ``${url}``, JSON, and in an argument that looks like a program's text any
    word that is no placeholder. Raises :class:`UserError` for such a word anywhere else.
    """
    return tuple(filled_text(word, place) for word in argv)


def filled_text(text: str, place: Place, form: Callable[[str], str] = str) -> str:
    """The same for one text; ``form`` gives each value the form that it needs there."""
    return _with(text, lambda name: form(str(getattr(place, name))))


def _with(word: str, value: Callable[[str], str]) -> str:
    """The argument with these values in the places of the names."""
    is_program = _PROGRAM.search(word) is not None

    def put(found: re.Match[str]) -> str:
        doubled, name = found[1], found[2] or found[1]
        if name not in _PLACEHOLDERS and is_program:
            return found[0]
        if doubled:
            return f"{{{name}}}"
        if name not in _PLACEHOLDERS:
            near = difflib.get_close_matches(name, _PLACEHOLDERS, 1, 0.5)
            meant = f"; did you mean {{{near[0]}}}?" if near else ""
            known = " ".join(f"{{{each}}}" for each in _PLACEHOLDERS)
            raise UserError(
                f"there is no placeholder {found[0]}{meant or '.'} There are {known}; where the client is to"
                f" get {found[0]} itself, write {{{found[0]}}}"
            )
        return value(name)

    return _BRACES.sub(put, word)


# -- the environment ----------------------------------------------------------------------------------------------

_BUNDLES = (
    "SSL_CERT_FILE",  # OpenSSL and with it Python's ssl, aiohttp, httpx, Ruby; Go; rustls-native-certs
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "PIP_CERT",
    "AWS_CA_BUNDLE",
    "CARGO_HTTP_CAINFO",
    "DENO_CERT",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "NPM_CONFIG_CAFILE",
)
_TURNS_ASIDE = frozenset({"SSL_CERT_DIR", "SSLKEYLOGFILE", "GIT_SSL_NO_VERIFY", "NODE_TLS_REJECT_UNAUTHORIZED"})


def environment(base: Mapping[str, str], place: Place, *, shows: bool = True) -> dict[str, str]:
    """What the client is started with: ``base``, less what names other proxies and roots, with ours.

    ``shows``: a JVM is given our client certificate, in place of whatever it has.
    """
    env = {
        name: value for name, value in base.items() if not name.lower().endswith("_proxy") and name not in _TURNS_ASIDE
    }
    env |= dict.fromkeys(_BUNDLES, str(place.ca))
    env |= {"WGETRC": str(place.wgetrc), "GIT_TERMINAL_PROMPT": "0"}
    if place.way is Way.CONNECT:
        env |= {"HTTPS_PROXY": f"http://{place.proxy}", "https_proxy": f"http://{place.proxy}"}
        env["NODE_USE_ENV_PROXY"] = "1"
    env["JAVA_TOOL_OPTIONS"] = " ".join(
        [*filter(None, [base.get("JAVA_TOOL_OPTIONS")]), *map(_quoted, _java_properties(place, shows=shows))]
    )
    return env


def _java_properties(place: Place, *, shows: bool) -> Iterator[str]:
    stores = {"trustStore": place.trust_store, **({"keyStore": place.client_store} if shows else {})}
    for role, path in stores.items():
        yield f"-Djavax.net.ssl.{role}={path}"
        yield f"-Djavax.net.ssl.{role}Password={place.store_password}"
        yield f"-Djavax.net.ssl.{role}Type=PKCS12"
    if place.hosts is not None:
        yield f"-Djdk.net.hosts.file={place.hosts}"
    if place.way is Way.CONNECT:
        host, _, port = place.proxy.rpartition(":")
        for scheme in ("http", "https"):
            yield f"-D{scheme}.proxyHost={host}"
            yield f"-D{scheme}.proxyPort={port}"
        yield "-Dhttp.nonProxyHosts="  # exactly empty: any word here still goes past the proxy for loopback


def _quoted(option: str) -> str:
    """The JVM splits the variable at blanks, and knows quotes."""
    return f'"{option}"' if re.search(r"\s", option) else option
