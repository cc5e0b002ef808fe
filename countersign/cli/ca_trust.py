"""``countersign ca trust``: the commands that make a client trust the root."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from countersign.cli.ca_passwords import PassphraseFile, open_authority
from countersign.cli.common import Home, Json, print_json
from countersign.errors import UserError


def trust(
    client: Annotated[
        str, typer.Option("--for", help="java, mid, node, python, curl, windows, macos, debian or rhel.")
    ],
    home: Home = None,
    mid_home: Annotated[
        str | None,
        typer.Option("--mid-home", help="With --for mid: its folder, the one with agent/ in it.", show_default=False),
    ] = None,
    root: Annotated[
        str | None,
        typer.Option(
            "--root", help="Where the root's file is for the client (default: in the home).", show_default=False
        ),
    ] = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Print the exact commands that make a client trust the root, and those that undo it. Nothing is run."""
    from countersign.ca.trusting import instructions

    authority = open_authority(home, passphrase_file)
    file = root or str(_root_file(authority.directory, authority.root.der))
    told = instructions(client, file, authority.root.der, mid_home=mid_home)
    if as_json:
        print_json({"schema": 1, **told.to_json()})
        return
    for command in told.commands:
        typer.echo(f"# {command.what}\n{command.text}")
    for command in told.undo:
        typer.echo(f"\n# to undo it: {command.what}\n# {command.text}")
    for note in told.notes:
        typer.echo(f"# note: {note}")


def _root_file(directory: Path | None, root: bytes) -> Path:
    """The file of the root in force: a rotation leaves the old one's where it was."""
    from countersign.ca.pem import PemError, certificates_in
    from countersign.recorder.private_files import FileFault, read_regular

    for path in sorted((directory or Path()).glob("**/root.pem"), reverse=True):
        try:
            if certificates_in(read_regular(path) or b"") == (root,):
                return path.resolve()
        except (FileFault, PemError):
            continue
    raise UserError(
        "cannot name the root's file: write it with `countersign ca root --out FILE`, then give --root FILE"
    )
