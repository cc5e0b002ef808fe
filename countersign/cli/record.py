"""``countersign record``: one client, recorded, with no scenario; for the good case to hold the bad one against."""

from __future__ import annotations

import os
import re
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from countersign.cli.common import Home, Json, StoreUrl, home_of, open_store, print_json, store_location
from countersign.cli.run import Client, FamilyName, Mode, TargetAt, UpstreamCa, UpstreamInsecure
from countersign.cli.values import parse_label
from countersign.errors import AnswerIsNo, EnvironmentFault, UserError

if TYPE_CHECKING:
    from countersign.ca import Authority
    from countersign.proxy import Address, Settings
    from countersign.recorder.store import StoreWriter
    from countersign.scenarios.running.single import Recorded

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST = 365 * 86400

Via = Annotated[
    str | None,
    typer.Option(help="Go out through this http://, https:// or socks5:// proxy.", show_default=False),
]


def record(
    client: Client,
    label: Annotated[
        str | None, typer.Option(help="A name for what is recorded: good, friday, before-the-fix.", show_default=False)
    ] = None,
    via: Via = None,
    target: TargetAt = None,
    mode: Mode = None,
    upstream_ca: UpstreamCa = None,
    upstream_insecure: UpstreamInsecure = False,
    once: Annotated[bool, typer.Option("--once", help="End the client after its first TLS session.")] = False,
    for_: Annotated[
        str | None,
        typer.Option("--for", metavar="TIME", help="End the client after 90s, 10m, 2h, 1d.", show_default=False),
    ] = None,
    family: FamilyName = None,
    home: Home = None,
    store: StoreUrl = None,
    as_json: Json = False,
) -> None:
    """Run a client through the proxy, with nothing broken on purpose, and keep what was on the wire.

    The proxy signs with the CA in the home. The client finds it by HTTPS_PROXY and its like and is told to trust its
    root; where it goes is its own affair, unless {url}, {host} or {port} stand among its arguments. Exit code 1 where
    it made no TLS connection.
    """
    from countersign.scenarios.running.clients import family_named, family_of

    limit = None if for_ is None else parse_duration(for_, what="--for")
    address = _address(target)
    settings = _settings(address, mode, via, upstream_ca, insecure=upstream_insecure, label=parse_label_of(label))
    made = recorded(
        client,
        settings,
        address,
        home=home_of(home),
        store=store_location(home_of(home) if store is None else None, store),
        family=family_of(client) if family is None else family_named(family),
        once=once,
        limit=limit,
    )
    if not made.recordings:
        raise AnswerIsNo(f"{client[0]} made no TLS connection through the proxy: {_end(made)}{_hint(made)}")
    with open_store(home, store) as kept:
        found = [kept.get(each.id) for each in made.recordings]
    if as_json:
        from countersign.recorder.recording import summary

        ran = made.ran
        print_json(
            {
                "schema": 1,
                "label": label,
                "client": {
                    "argv": list(client),
                    "exit_code": None if ran is None else ran.code,
                    "signal": None if ran is None else ran.signal,
                    "ended_by_us": ran is None,
                },
                "recordings": [summary(each) for each in found],
            }
        )
        return
    _print(made, label)


def parse_label_of(text: str | None) -> str | None:
    """The label, if there is to be one."""
    return parse_label(text, what="--label")
