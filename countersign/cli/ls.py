"""``countersign ls``: which sessions were recorded."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from countersign.cli.common import Home, Json, StoreUrl, open_store, print_json

if TYPE_CHECKING:
    from countersign.recorder.store import Summary


def ls(
    home: Home = None,
    store: StoreUrl = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many, the newest.")] = 50,
    sni: Annotated[str | None, typer.Option(help="Only of this server name.")] = None,
    target: Annotated[str | None, typer.Option(help="Only to this target (host:port).")] = None,
    outcome: Annotated[
        str | None, typer.Option(help="Only with this outcome: established, abandoned, failed, interrupted, not-tls.")
    ] = None,
    alert: Annotated[str | None, typer.Option(help="Only ended by this alert.")] = None,
    label: Annotated[str | None, typer.Option(help="Only with this label.")] = None,
    since: Annotated[
        str | None, typer.Option(help="Only from this time on: 2026-11-21T08:00, or 30m, 2h, 7d ago.")
    ] = None,
    text: Annotated[str | None, typer.Option(help="Only with this in a name of the chain.")] = None,
    as_json: Json = False,
) -> None:
    """List the recordings, the newest first."""
    with open_store(home, store) as kept:
        found = kept.summaries(
            limit=limit,
            sni=sni,
            target=target,
            outcome=outcome,
            alert=alert,
            label=label,
            since=_moment(since) if since else None,
            text=text,
        )
    if as_json:
        print_json({"schema": 1, "recordings": [summary.to_json() for summary in found]})
        return
    if not found:
        typer.echo("no recordings", err=True)
        return
    _table(found)


def _moment(text: str) -> datetime:
    """``30m`` ago, or a time of the day's calendar in local time unless it says otherwise."""
    from countersign.errors import UserError

    units = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
    if text[:-1].isdigit() and text[-1:] in units:
        return datetime.now().astimezone() - timedelta(**{units[text[-1]]: int(text[:-1])})
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError:
        raise UserError(f"--since takes a time such as 2026-11-21T08:00 or 30m, 2h, 7d; got {text!r}") from None


def _table(found: list[Summary]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from countersign.recorder.wire.text import printable

    colours = {"established": "green", "failed": "red", "abandoned": "yellow", "interrupted": "magenta"}
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("id", "started", "client", "target", "sni", "outcome", "broken by", "alert"):
        table.add_column(heading, no_wrap=True, overflow="ellipsis")
    for summary in found:
        row: dict[str, Any] = summary.to_json()
        ended = row["outcome"]
        started = datetime.fromisoformat(row["started"]).astimezone()
        table.add_row(
            row["id"],
            f"{started:%m-%d %H:%M:%S}",
            *(Text(printable(row[key] or "-")) for key in ("client", "target", "sni")),
            Text(ended["status"], style=colours.get(ended["status"], "")),
            ended["broken_by"] or "-",
            ended["alert"] or "-",
        )
    console = Console()
    if not console.is_terminal:
        console.width = 200
    console.print(table)
