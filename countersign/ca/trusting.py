"""The exact commands that make a client trust a root, one client after another, quoted for the shell they are for.

Whatever is in a path (spaces, quotes, ``$(...)``) stays text in the shell: POSIX shells get ``shlex``'s quotes,
PowerShell its single quotes, in which nothing means anything but a quote (and the four typographic ones that it takes
for one). What does not show in a terminal is refused. Nothing is run here.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any, Literal

from countersign.errors import UserError
from countersign.recorder.certificates import read_certificate
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable

CLIENTS = ("java", "mid", "node", "python", "curl", "windows", "macos", "debian", "rhel")

Shell = Literal["sh", "powershell"]

_WINDOWS_PATH = re.compile(r"[A-Za-z]:[\\/]|\\\\")
_POWERSHELL_QUOTES = re.compile("(['\u2018\u2019\u201a\u201b])")
_PASSWORD = "changeit"  # noqa: S105 - what every JDK's cacerts has, as its documentation says


@dataclass(frozen=True, slots=True)
class Command:
    """One command as it is typed, for which shell, and what it does."""

    text: str
    what: str
    shell: Shell = "sh"


@dataclass(frozen=True, slots=True)
class Instructions:
    """Commands in their order, those that undo them, and what to know besides."""

    client: str
    commands: tuple[Command, ...]
    undo: tuple[Command, ...] = ()
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        def listed(commands: tuple[Command, ...]) -> list[dict[str, str]]:
            return [{"shell": each.shell, "command": each.text, "what": each.what} for each in commands]

        return {
            "for": self.client,
            "commands": listed(self.commands),
            "undo": listed(self.undo),
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True)
class _Root:
    """The root's file, and how stores shall call it: its own fingerprint is in the name, so two roots never meet."""

    path: PurePath
    alias: str
    sha1: str


def instructions(client: str, root_file: str, root: bytes, *, mid_home: str | None = None) -> Instructions:
    """How to make ``client`` trust ``root`` (DER), which lies in ``root_file`` on the machine where the commands run.

    ``mid`` needs ``mid_home``, the folder of the MID Server, on Windows or elsewhere. Raises :class:`UserError`.
    """
    if client not in CLIENTS:
        raise UserError(f"cannot say how {client!r} is made to trust the root: expected {', '.join(CLIENTS)}")
    for path in (root_file, mid_home or ""):
        if printable(path) != path:
            raise UserError(
                f"cannot print a command for the path '{printable(path)}': it has characters that do not show; move it"
            )
        if path.startswith("-"):
            raise UserError(
                f"cannot print a command for the path '{path}': programs take it for an option; give it whole"
            )
    if (client == "mid") != (mid_home is not None):
        raise UserError("--mid-home DIR belongs to --for mid: give both, the folder that holds agent/")
    alias = f"countersign-{read_certificate(root).sha256[:8]}"
    known = _Root(_path(root_file), alias, hashlib.sha1(root, usedforsecurity=False).hexdigest())
    if mid_home is not None:
        return _mid(known, _path(mid_home))
    return _CLIENTS[client](known)


def _path(text: str) -> PurePath:
    return PureWindowsPath(text) if _WINDOWS_PATH.match(text) else PurePosixPath(text)


def _sh(*words: object) -> str:
    return shlex.join(map(str, words))


def _powershell(program: str, *words: object) -> str:
    return " ".join(["&", _single_quoted(program), *map(_single_quoted, words)])


def _single_quoted(word: object) -> str:
    text = str(word)
    if re.fullmatch(r"-?[A-Za-z][A-Za-z-]*", text):
        return text
    return "'" + _POWERSHELL_QUOTES.sub(r"\1\1", text) + "'"


# -- clients -----------------------------------------------------------------------------------------------------


def _keytool(
    keytool: PurePath | str, root: _Root, store: tuple[object, ...], shell: Shell
) -> tuple[list[str], list[str]]:
    """Import and check; and undo."""
    line: Callable[..., str] = _powershell if shell == "powershell" else _sh
    secret = (*store, "-storepass", _PASSWORD)
    importing = ("-importcert", "-noprompt", "-trustcacerts", "-alias", root.alias, "-file", root.path, *secret)
    done = [line(str(keytool), *importing), line(str(keytool), "-list", "-alias", root.alias, *secret)]
    return done, [line(str(keytool), "-delete", "-alias", root.alias, *secret)]


def _java(root: _Root) -> Instructions:
    done, undone = _keytool("keytool", root, ("-cacerts",), "sh")
    return Instructions(
        "java",
        (
            Command(done[0], "into the trust store of the JDK whose keytool this is"),
            Command(done[1], "shows that it is there"),
        ),
        (Command(undone[0], "takes it out again"),),
        (
            "run it with the keytool of the very JVM that the client uses, as the owner of its cacerts",
            "for one program alone: java -Djavax.net.ssl.trustStore=STORE -Djavax.net.ssl.trustStorePassword=PASSWORD",
            "make such a store with: countersign ca keystore convert ROOT STORE --to pkcs12",
            'Java 8 has no -cacerts: name the file instead, -keystore "$JAVA_HOME/jre/lib/security/cacerts"',
        ),
    )


def _mid(root: _Root, home: PurePath) -> Instructions:
    """A MID Server's own JRE and cacerts: a JVM elsewhere on the machine is not asked."""
    windows = isinstance(home, PureWindowsPath)
    agent, found = _agent(home)
    jre = agent / "jre"
    cacerts = jre / "lib" / "security" / "cacerts"
    shell: Shell = "powershell" if windows else "sh"
    done, undone = _keytool(
        jre / "bin" / ("keytool.exe" if windows else "keytool"), root, ("-keystore", cacerts), shell
    )
    backup = cacerts.with_name("cacerts.before-countersign")
    if windows:
        copy = f"Copy-Item -LiteralPath {_single_quoted(cacerts)} -Destination {_single_quoted(backup)}"
    else:
        copy = _sh("cp", "-pn", cacerts, backup)
    notes = [
        "restart the MID Server afterwards: a JVM reads its trust store once",
        "an upgrade of the MID Server may replace its jre: keep the backup and this command",
    ]
    if not found:
        notes.insert(0, f"{agent} was not found from here; the commands are for the machine that has it")
    return Instructions(
        "mid",
        (
            Command(copy, "keeps what is there", shell),
            Command(done[0], "into the MID Server's own trust store", shell),
            Command(done[1], "shows that it is there", shell),
        ),
        (Command(undone[0], "takes it out again", shell),),
        tuple(notes),
    )


def _agent(home: PurePath) -> tuple[PurePath, bool]:
    """The agent folder in (or at) what was named, and whether it is on this machine."""
    if isinstance(home, PurePosixPath):
        for place in (home / "agent", home):
            if (Path(place) / "jre").is_dir():
                return place, True
    return (home if home.name.lower() == "agent" else home / "agent"), False


def _exported(client: str, variables: tuple[str, ...], root: _Root, notes: tuple[str, ...]) -> Instructions:
    return Instructions(
        client,
        tuple(Command(f"export {name}={shlex.quote(str(root.path))}", "for programs started from this shell")
              for name in variables),
        tuple(Command(f"unset {name}", "as before") for name in variables),
        notes,
    )  # fmt: skip


def _node(root: _Root) -> Instructions:
    return _exported(
        "node",
        ("NODE_EXTRA_CA_CERTS",),
        root,
        (
            "it is read once, when node starts, and adds to the built-in roots",
            "npm has its own: npm config set cafile FILE",
        ),
    )


def _python(root: _Root) -> Instructions:
    return _exported(
        "python",
        ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"),
        root,
        (
            "these replace the system's roots: to keep those, add the root to a copy of their bundle",
            "from Python 3.13 on a root whose basicConstraints is not critical is refused (RFC 5280, strict)",
        ),
    )


def _curl(root: _Root) -> Instructions:
    return Instructions(
        "curl",
        (
            Command(
                f"curl --cacert {shlex.quote(str(root.path))} https://HOST/",
                "for one request; HOST is yours to fill in",
            ),
            Command(f"export CURL_CA_BUNDLE={shlex.quote(str(root.path))}", "for programs started from this shell"),
        ),
        (Command("unset CURL_CA_BUNDLE", "as before"),),
        ("both replace the system's roots", "curl of Windows and macOS may use the system's store instead"),
    )


def _windows(root: _Root) -> Instructions:
    path = _single_quoted(root.path)
    remove = f"Remove-Item -LiteralPath 'Cert:\\LocalMachine\\Root\\{root.sha1.upper()}'"
    return Instructions(
        "windows",
        (
            Command(
                f"Import-Certificate -FilePath {path} -CertStoreLocation Cert:\\LocalMachine\\Root",
                "into the machine's trusted roots; in a PowerShell run as administrator",
                "powershell",
            ),
        ),
        (Command(remove, "takes it out again", "powershell"),),
        (
            "for the current user alone: Cert:\\CurrentUser\\Root, no administrator needed",
            "Firefox and Java have stores of their own",
        ),
    )


def _macos(root: _Root) -> Instructions:
    keychain = "/Library/Keychains/System.keychain"
    return Instructions(
        "macos",
        (
            Command(
                _sh("sudo", "security", "add-trusted-cert", "-d", "-r", "trustRoot", "-k", keychain, root.path),
                "into the system's keychain, trusted for everything",
            ),
        ),
        (Command(_sh("sudo", "security", "remove-trusted-cert", "-d", root.path), "takes the trust away again"),),
        ("Firefox and Java have stores of their own",),
    )


def _debian(root: _Root) -> Instructions:
    target = f"/usr/local/share/ca-certificates/{root.alias}.crt"
    return Instructions(
        "debian",
        (
            Command(_sh("sudo", "install", "-m", "0644", root.path, target), "the name has to end in .crt"),
            Command(
                "sudo update-ca-certificates", "into /etc/ssl/certs, and with ca-certificates-java into its cacerts"
            ),
        ),
        (
            Command(_sh("sudo", "rm", target), "takes it out again"),
            Command("sudo update-ca-certificates --fresh", "and out of the bundle"),
        ),
    )


def _rhel(root: _Root) -> Instructions:
    target = f"/etc/pki/ca-trust/source/anchors/{root.alias}.pem"
    return Instructions(
        "rhel",
        (
            Command(_sh("sudo", "install", "-m", "0644", root.path, target), "among the anchors"),
            Command("sudo update-ca-trust extract", "into the bundles, that of Java included"),
        ),
        (
            Command(_sh("sudo", "rm", target), "takes it out again"),
            Command("sudo update-ca-trust extract", "and out of the bundles"),
        ),
    )


_CLIENTS: dict[str, Callable[[_Root], Instructions]] = {
    "java": _java,
    "node": _node,
    "python": _python,
    "curl": _curl,
    "windows": _windows,
    "macos": _macos,
    "debian": _debian,
    "rhel": _rhel,
}
