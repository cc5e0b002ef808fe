"""``countersign fixcheck``: the handshake that failed once more, after the cure, and what is different now."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Annotated

import typer

from countersign.cli.common import Home, Json, StoreUrl, home_of, open_store, print_json, store_location
from countersign.cli.diagnose import WordedFor  # noqa: TC001
from countersign.cli.record import Mode, Via, known_to_daemons, no_connection, recorded, settings_for, way_of
from countersign.cli.run import Client, FamilyName, UpstreamCa, UpstreamInsecure  # noqa: TC001
from countersign.cli.triggering import (
    Allow,
    Listen,
    Settle,
    TriggerBody,
    TriggerCa,
    TriggerHeaders,
    TriggerMethod,
    TriggerUrl,
    trigger_of,
    who,
)
from countersign.cli.values import parse_label
from countersign.errors import UserError

if TYPE_CHECKING:
    from countersign.proxy import Address
    from countersign.recorder.recording import Recording


def fixcheck(
    what: Annotated[
        str,
        typer.Argument(metavar="ID|FILE", help="The recording that failed, as in `show`, or a capture or export."),
    ],
    client: Client = None,
    label: Annotated[str | None, typer.Option(help="A name for what is recorded now.", show_default=False)] = None,
    via: Via = None,
    mode: Mode = None,
    upstream_ca: UpstreamCa = None,
    upstream_insecure: UpstreamInsecure = False,
    family: FamilyName = None,
    worded_for: WordedFor = None,
    trigger: TriggerUrl = None,
    trigger_method: TriggerMethod = None,
    trigger_headers: TriggerHeaders = None,
    trigger_body: TriggerBody = None,
    trigger_ca: TriggerCa = None,
    settle: Settle = None,
    listen: Listen = None,
    allow: Allow = None,
    home: Home = None,
    store: StoreUrl = None,
    as_json: Json = False,
) -> None:
    """Run the client again after the cure, and say whether its handshake goes through now; exit code 1 if it does not.

    It is recorded as `countersign record` does it. {url}, {host} and {port} are those of the target that it failed
    with.
    """
    from countersign.findings.diagnosing import FAMILIES, check_family
    from countersign.findings.subjects import find
    from countersign.scenarios.running.cured import check_failed, cure, lines, same_again

    asked = trigger_of(locals())
    if worded_for is not None:
        check_family(worded_for)
    with open_store(home, store) as kept:
        before = find(what, kept.get, broken=True).recording
    check_failed(before)
    target = _target(before)
    argv, known = who(client, asked, family)
    straight = before.mode == "reverse" and target is not None
    way = mode or ("reverse" if straight else way_of(known, argv, target))
    name = parse_label(label, what="--label")
    settings = settings_for(target, way, via, upstream_ca, insecure=upstream_insecure, label=name)
    if asked is not None:
        settings = known_to_daemons(settings, asked, listen, allow)
    made = recorded(
        argv,
        settings,
        target,
        home=home_of(home),
        store=store_location(home_of(home) if store is None else None, store),
        family=known,
        trigger=asked,
        once=False,
        limit=None,
    )
    if not made.recordings:
        raise no_connection(argv, made, asked)
    after = same_again(before, made.recordings)
    seems = (known.name or "any").partition("-")[0]  # java-fips is told what Java is told
    words = worded_for or (seems if seems in FAMILIES else "any")
    found = cure(before, after, well=made.ran is not None and made.ran.well, family=words)
    if as_json:
        print_json(found.to_json())
    else:
        from countersign.findings.wrapping import wrapped

        width = max(shutil.get_terminal_size((120, 0)).columns, 60)
        for line in lines(found):
            indent = line[: len(line) - len(line.lstrip())]
            typer.echo("\n".join(wrapped(line.lstrip(), width, indent)))
    if not found.cured:
        raise typer.Exit(1)


def _target(before: Recording) -> Address | None:
    """Where it went, if that was recorded in a form that one can go to."""
    from countersign.proxy import parse_address

    if before.target is None:
        return None
    try:
        return parse_address(before.target, what="the recording's target")
    except UserError:
        return None
