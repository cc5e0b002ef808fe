"""``countersign prune``: remove old recordings, give the space back."""

from __future__ import annotations

from typing import Annotated

import typer

from countersign.cli.common import Home, Json, StoreUrl, open_store, print_json
from countersign.cli.values import parse_moment, parse_size, size_text
from countersign.errors import UserError


def prune(
    home: Home = None,
    store: StoreUrl = None,
    older: Annotated[
        str | None,
        typer.Option(help="Remove what started before: 30d, 12h, or 2026-11-21T08:00.", show_default=False),
    ] = None,
    max_size: Annotated[
        str | None,
        typer.Option(help="Remove the oldest until the store takes at most this: 500M, 2G.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Remove recordings by age, by size, or both. What is still open stays; what is removed is overwritten."""
    if older is None and max_size is None:
        raise UserError("prune removes nothing by itself: give --older 30d, --max-size 500M, or both")
    moment = parse_moment(older, what="--older") if older is not None else None
    most = parse_size(max_size, what="--max-size") if max_size is not None else None
    with open_store(home, store) as kept:
        before = kept.used()
        removed = kept.prune(older_than=moment, max_bytes=most)
        after, left = kept.used(), kept.count()
    if as_json:
        print_json({"schema": 1, "removed": removed, "left": left, "bytes_before": before, "bytes": after})
        return
    typer.echo(
        f"{removed} recordings removed, {left} left; the store takes {size_text(after)} (before: {size_text(before)})"
    )
