"""How commands that open or write key stores learn passwords: from a file, from the environment, last from a flag.

A flag is seen by everybody on the machine while the command runs and stays in the shell's history; the flag is there
for throwaway stores. A password never comes back out: not in an error, not in ``--json``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from countersign.cli.common import home_of
from countersign.errors import UserError

if TYPE_CHECKING:
    from countersign.ca import Authority

_LONGEST = 1 << 16
_SHORTEST_OF_JAVA = 6


def _is_text(value: Any) -> Any:
    """Refuse what is no text, without showing it."""
    try:
        (value or "").encode()
    except UnicodeEncodeError:
        raise UserError("cannot use the password: it is not UTF-8 text") from None
    return value


StorePassword = Annotated[
    str | None,
    typer.Option(
        "--store-password",
        envvar="COUNTERSIGN_STORE_PASSWORD",
        help="The store's password; others on this machine can see a flag, so better name a file.",
        show_default=False,
        callback=_is_text,
    ),
]
StorePasswordFile = Annotated[
    Path | None,
    typer.Option(
        "--store-password-file", help="The file with it in the first line; - is standard input.", show_default=False
    ),
]
KeyPasswordFile = Annotated[
    Path | None,
    typer.Option(
        "--key-password-file", help="The same for the keys, where they have another password.", show_default=False
    ),
]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file",
        help="The file with the passphrase of the CA's keys in the first line (else COUNTERSIGN_CA_PASSPHRASE); - is"
        " standard input.",
        show_default=False,
    ),
]


def read_password(file: Path | None, given: str | None = None, *, what: str = "--store-password-file") -> str | None:
    """The first line of ``file`` if one is named, else what was ``given``."""
    if file is None:
        return given
    if str(file) == "-":
        data = _typed(what)
    else:
        from countersign.recorder.private_files import read_regular

        found = read_regular(file, at_most=_LONGEST)
        if found is None:
            raise UserError(f"cannot use {what} {file}: there is no such file")
        data = found
    line = data.removeprefix(b"\xef\xbb\xbf").split(b"\n", 1)[0].removesuffix(b"\r")
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        raise UserError(f"cannot use {what} {file}: its first line is not UTF-8 text") from None


def _typed(what: str) -> bytes:
    """A line of standard input, and no more: the next one may be for another option."""
    try:
        return sys.stdin.buffer.readline(_LONGEST)
    except OSError as wrong:
        raise UserError(f"cannot read standard input for {what}: {wrong.strerror or wrong}") from None


def check_length(kind: str, password: str | None) -> None:
    """keytool, and Java's own programs with it, take no shorter password for the stores that are Java's own."""
    if kind in {"jks", "jceks"} and password is not None and len(password) < _SHORTEST_OF_JAVA:
        raise UserError(
            f"cannot write a {kind} store with a password of {len(password)} characters: "
            f"keytool expects at least {_SHORTEST_OF_JAVA}; give a longer one"
        )


def ca_passphrase(file: Path | None) -> bytes | None:
    """The passphrase of the CA's keys: from ``--passphrase-file``, else from the environment."""
    from countersign.ca.keeping import checked_passphrase, read_passphrase

    if file is None:
        return read_passphrase()
    if str(file) == "-":
        line = _typed("--passphrase-file").removesuffix(b"\n").removesuffix(b"\r")
        passphrase = checked_passphrase(line, "standard input")
    else:
        passphrase = read_passphrase(file)
    if passphrase is None:
        raise UserError(f"cannot use --passphrase-file {file}: its first line is empty")
    return passphrase


def open_authority(
    home: Path | None, passphrase_file: Path | None = None, *, passphrase: bytes | None = None
) -> Authority:
    """The CA in the home, for commands that have ``--passphrase-file``; ``passphrase`` if it was read already."""
    from countersign.ca import Authority
    from countersign.ca.errors import PassphraseNeeded

    try:
        return Authority.load(home_of(home) / "ca", passphrase=passphrase or ca_passphrase(passphrase_file))
    except PassphraseNeeded as needed:
        raise PassphraseNeeded(f"{needed}, or its file with --passphrase-file") from None
