"""``countersign knock``: a server under test. We are the client, right or wrong, and say what it makes of us."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from countersign.cli.common import (
    Home,
    Json,
    Overwrite,
    StoreUrl,
    coloured_output,
    home_of,
    open_store,
    print_json,
    write_out,
)
from countersign.cli.probe import Name, Seconds, Starttls, Via, plan_of
from countersign.errors import UserError

if TYPE_CHECKING:
    from countersign.scenarios.knocking import Knock
    from countersign.scenarios.running.results import Matrix


def knock(
    where: Annotated[
        str | None,
        typer.Argument(metavar="HOST[:PORT]", help="The server; the port is 443 unless told.", show_default=False),
    ] = None,
    home: Home = None,
    store: StoreUrl = None,
    scenario: Annotated[
        list[str] | None,
        typer.Option(help="Only these: ids or patterns such as client-*, with commas between.", show_default=False),
    ] = None,
    list_them: Annotated[bool, typer.Option("--list", help="Say what can be tried, and connect to nobody.")] = False,
    via: Via = None,
    starttls: Starttls = None,
    name: Name = None,
    silent: Annotated[bool, typer.Option("--silent", help="Send no HTTP request; say nothing inside.")] = False,
    report: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FORM=FILE", help="junit, sarif, json, markdown or html; may be repeated.", show_default=False
        ),
    ] = None,
    overwrite: Overwrite = False,
    timeout: Seconds = 10.0,
    as_json: Json = False,
) -> None:
    """Knock at a server with right and wrong client certificates and odd hellos; exit code 1 where it does wrong.

    The certificates are of the CA in HOME/client-ca; a server that asks for certificates has to trust its root.pem.
    """
    from countersign.ca import Authority, Plan
    from countersign.ca.keeping import read_passphrase
    from countersign.scenarios.knocking import Server, chosen, knock as knocked
    from countersign.scenarios.knocking.knocking import request
    from countersign.scenarios.running.reports import FORMS, needs_ladders, parse_report
    from countersign.scenarios.running.results import to_json

    tried = chosen(each for text in scenario or () for each in text.split(",") if each)
    if list_them:
        _list(tried, as_json=as_json)
        return
    if where is None:
        raise UserError("knock takes HOST[:PORT], the server to knock at, or --list")
    reports = [parse_report(text) for text in report or ()]
    plan = plan_of(where, via=via, starttls=starttls, name=name, ca_file=None, seconds=timeout)
    clients = home_of(home) / "client-ca"
    authority = Authority.open(clients, Plan(name="countersign clients"), passphrase=read_passphrase())
    if not as_json:
        typer.echo(f"a server that asks for client certificates has to trust {clients / 'root.pem'}", err=True)
    says = b"" if silent or starttls is not None else request(plan.name or plan.host)
    with open_store(home, store, make=True) as kept:
        made = knocked(
            Server(plan, authority, says=says),
            tried,
            keep=lambda recording: kept.put([recording], owner=None),
            ladders=as_json or needs_ladders({form for form, _ in reports}),
        )
    for form, path in reports:
        write_out(FORMS[form](made), Path(path), overwrite=overwrite, home=home, store=store, public=True)
    if as_json:
        print_json(to_json(made))
    else:
        _print(made)
    if made.exit_code:
        raise typer.Exit(made.exit_code)


def _list(tried: list[Knock], *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "schema": 1,
                "scenarios": [
                    {"id": each.id, "family": each.family, "title": each.title, "right": each.right, "rfc": each.rfc}
                    for each in tried
                ],
            }
        )
        return
    widest = max(len(each.id) for each in tried)
    for each in tried:
        typer.echo(f"{each.id:{widest}}  {each.right:6}  {each.title} ({each.rfc})")


def _print(made: Matrix) -> None:
    from rich.console import Console

    from countersign.scenarios.running.reports.terminal import lines

    console = Console(highlight=False, no_color=not coloured_output(), soft_wrap=True)
    for text, style in lines(made):
        console.print(text, style=style, markup=False)
