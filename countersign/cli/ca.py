"""``countersign ca``: the inspection CA in the home."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from countersign.cli.common import Home, Json, home_of, print_json

app = typer.Typer(help="The inspection CA: make it, hand out its root.", no_args_is_help=True, rich_markup_mode=None)

_NAME, _KEY, _DAYS = "countersign inspection", "ec:P-256", 365


@app.command("init")
def init(
    home: Home = None,
    name: Annotated[str, typer.Option(help="How its certificates are called.")] = _NAME,
    key: Annotated[str, typer.Option(help="The kind of its keys: ec:P-256, ec:P-384, rsa:2048, rsa:4096, ...")] = _KEY,
    days: Annotated[int, typer.Option(min=1, help="How long it is valid.")] = _DAYS,
    constrain: Annotated[
        list[str] | None, typer.Option(help="A domain or network that it may speak for, and no other; may be repeated.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make the CA: a root and an intermediate. One that is there already is left as it is, and said to be."""
    from countersign.ca import Authority
    from countersign.errors import UserError

    directory = home_of(home) / "ca"
    made = not (directory / "root.pem").exists()
    if not made and (constrain or (name, key, days) != (_NAME, _KEY, _DAYS)):
        raise UserError(
            f"cannot make a CA as asked: {directory} holds one already, which stays as it is;"
            " move it away first, or name another home"
        )
    if made:
        authority = Authority.create(directory, name=name, key=key, days=days, constrain=constrain or ())
    else:
        authority = Authority.load(directory)
    if as_json:
        print_json({"schema": 1, "made": made, "directory": str(directory), **_facts(authority)})
        return
    typer.echo(f"{'made' if made else 'already there'}: {authority.name} in {directory}")
    typer.echo(f"valid until {authority.not_after:%Y-%m-%d}; hand it out with: countersign ca root --out root.pem")


@app.command("root")
def root(
    home: Home = None,
    out: Annotated[Path | None, typer.Option(help="The file to write (default: standard output).")] = None,
    form: Annotated[str, typer.Option("--format", help="pem or der.")] = "pem",
) -> None:
    """Write the root certificate: what a client must trust to be let through."""
    from countersign.ca import Authority
    from countersign.errors import UserError
    from countersign.recorder.private_files import write_public

    if form not in {"pem", "der"}:
        raise UserError(f"--format takes pem or der, got {form!r}")
    authority = Authority.load(home_of(home) / "ca")
    data = authority.root_pem if form == "pem" else authority.root.der
    if out is None or str(out) == "-":
        import sys

        sys.stdout.buffer.write(data)
        return
    write_public(out, data)
    typer.echo(f"{out}: {authority.name}, valid until {authority.not_after:%Y-%m-%d}")


def _facts(authority: Any) -> dict[str, Any]:
    from countersign.recorder.certificates import read_certificate

    return {"certificates": [read_certificate(der).to_json() for der in (*authority.chain, authority.root.der)]}
