"""``countersign ls``: which sessions were recorded."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from countersign.cli.common import Home, Json, StoreUrl, open_store, print_json
from countersign.cli.values import parse_moment

if TYPE_CHECKING:
    from countersign.recorder.store import Store

_AT_MOST = 1_000_000_000


def ls(
    home: Home = None,
    store: StoreUrl = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=_AT_MOST, help="How many, the newest.")] = 50,
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
    until: Annotated[str | None, typer.Option(help="Only from before this time.")] = None,
    scenario: Annotated[str | None, typer.Option(help="Only of this scenario.")] = None,
    text: Annotated[
        str | None,
        typer.Option(help="Only with this in the server name, the target, the label or a name of the chain."),
    ] = None,
    fingerprint: Annotated[
        str | None, typer.Option(help="Only with this certificate: its SHA-256, or the first digits of it.")
    ] = None,
    ja4: Annotated[str | None, typer.Option("--ja4", help="Only with this JA4 fingerprint of the client.")] = None,
    before: Annotated[
        str | None, typer.Option(metavar="ID", help="Only older than this recording: the next page of a list.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the recordings, the newest first."""
    from countersign.cli.listing import print_list

    with open_store(home, store) as kept:
        found = kept.summaries(
            limit=limit,
            before=_cursor(kept, before) if before is not None else None,
            sni=sni,
            target=target,
            outcome=outcome,
            alert=alert,
            label=label,
            since=parse_moment(since, what="--since") if since is not None else None,
            until=parse_moment(until, what="--until") if until is not None else None,
            scenario=scenario,
            text=text,
            fingerprint=fingerprint,
            ja4=ja4,
        )
        beginnings = {} if as_json else kept.beginnings([summary.id for summary in found])
    if as_json:
        print_json({"schema": 1, "recordings": [summary.to_json() for summary in found]})
        return
    if not found:
        typer.echo("no recordings", err=True)
        return
    print_list(found, beginnings)
    if len(found) == limit:
        typer.echo(f"older ones: --before {found[-1].id}", err=True)


def _cursor(store: Store, reference: str) -> str:
    """Where the page behind this recording begins; a cursor of the API is taken as it is."""
    from countersign.recorder.store.blob import microseconds

    if re.fullmatch(r"-?\d+~.+", reference):
        return reference
    recording = store.get(reference)
    return f"{microseconds(recording.started)}~{recording.id}"
