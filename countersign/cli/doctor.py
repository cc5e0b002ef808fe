"""``countersign doctor``: a MID Server's folder read and explained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from countersign.cli.common import Json, print_json, read_file, terminal_width


def doctor(
    mid_home: Annotated[
        Path, typer.Option("--mid-home", metavar="DIR", help="The MID Server's folder, or its agent folder.")
    ],
    cacerts_password_file: Annotated[
        Path | None, typer.Option(help="The password of cacerts (default: changeit).", show_default=False)
    ] = None,
    keystore_password_file: Annotated[
        Path | None, typer.Option(help="The password of the agent's key stores.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Read config.xml, key stores, Java version and logs of a MID Server; exit code 1 when something is wrong.

    Nothing is written there, and no secret is shown.
    """
    from countersign.findings.doctoring import examine, find_home
    from countersign.findings.doctoring.showing import show

    home = find_home(mid_home)
    checkup = examine(
        home,
        cacerts_password=_password(cacerts_password_file, "--cacerts-password-file"),
        keystore_password=_password(keystore_password_file, "--keystore-password-file"),
    )
    if as_json:
        print_json(checkup.to_json())
    else:
        typer.echo(show(checkup, width=terminal_width()), nl=False)
    if checkup.sick:
        raise typer.Exit(1)


def _password(path: Path | None, what: str) -> str | None:
    if path is None:
        return None
    return read_file(path, what=what).decode("utf-8", "surrogateescape").rstrip("\r\n")
