"""``countersign record``: one client, recorded, with no scenario; for the good case to hold the bad one against."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from countersign.cli.common import Home, Json, StoreUrl, home_of, print_json, store_location
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
    listen_of,
    trigger_of,
    who,
)
from countersign.cli.values import parse_duration, parse_label
from countersign.errors import AnswerIsNo, EnvironmentFault, UserError
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from countersign.proxy import Address, Settings
    from countersign.recorder.store import StoreTrouble
    from countersign.scenarios.running.clients import Family
    from countersign.scenarios.running.single import Recorded
    from countersign.scenarios.running.trigger import Trigger

Mode = Annotated[
    str | None,
    typer.Option(
        help="How the client comes in: connect (HTTPS_PROXY) or reverse (straight). Unless told: straight for those "
        "that obey no proxy (openssl, gnutls-cli, node) and are given the target by {url}, {host} or {port}.",
        show_default=False,
    ),
]
Via = Annotated[
    str | None,
    typer.Option(help="Go out through this http://, https:// or socks5:// proxy.", show_default=False),
]


def record(
    client: Client = None,
    label: Annotated[
        str | None, typer.Option(help="A name for what is recorded: good, friday, before-the-fix.", show_default=False)
    ] = None,
    via: Via = None,
    target: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="What {url}, {host} and {port} name.", show_default=False)
    ] = None,
    mode: Mode = None,
    upstream_ca: UpstreamCa = None,
    upstream_insecure: UpstreamInsecure = False,
    once: Annotated[bool, typer.Option("--once", help="End the client after its first TLS session.")] = False,
    for_: Annotated[
        str | None,
        typer.Option("--for", metavar="TIME", help="End the client after 90s, 10m, 2h, 1d.", show_default=False),
    ] = None,
    family: FamilyName = None,
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
    """Run a client through the proxy, with nothing broken on purpose, and keep what was on the wire.

    The proxy signs with the CA in the home. The client finds it by HTTPS_PROXY and its like and is told to trust its
    root; where it goes is its own affair, unless {url}, {host} or {port} stand among its arguments. A daemon is asked
    by --trigger URL to connect, and waited for until it is at rest, 30 seconds at most unless --for says otherwise.
    Exit code 1 where it made no TLS connection.
    """
    asked = trigger_of(locals())
    limit = None if for_ is None else parse_duration(for_, what="--for")
    address = _address(target)
    argv, known = who(client, asked, family)
    settings = settings_for(
        address,
        mode or way_of(known, argv, address),
        via,
        upstream_ca,
        insecure=upstream_insecure,
        label=parse_label(label, what="--label"),
    )
    if asked is not None:
        settings = known_to_daemons(settings, asked, listen, allow)
    made = recorded(
        argv,
        settings,
        address,
        home=home_of(home),
        store=store_location(home_of(home) if store is None else None, store),
        family=known,
        trigger=asked,
        once=once,
        limit=limit,
    )
    if not made.recordings:
        raise no_connection(argv, made, asked)
    if as_json:
        from countersign.recorder.recording import summary
        from countersign.scenarios.running.trigger import Answered

        ran = made.ran
        print_json(
            {
                "schema": 1,
                "label": label,
                "client": {
                    "argv": list(argv),
                    "exit_code": None if ran is None else ran.code,
                    "signal": None if ran is None else ran.signal,
                    "answered": ran.status if isinstance(ran, Answered) else None,
                    "ended_by_us": ran is None and asked is None,
                },
                "recordings": [summary(each) for each in made.recordings],
            }
        )
        return
    _print(argv, made, asked, label)


def way_of(family: Family, argv: Sequence[str], target: Address | None) -> str | None:
    """Straight, where that is how such a client goes to the target that it is given; else nothing is decided."""
    from countersign.scenarios.running.clients import Way, placeholders

    named = placeholders(argv)
    goes = family.way is Way.REVERSE and "proxy" not in named and bool(named & {"url", "host", "port"})
    return "reverse" if goes and target is not None else None


def _address(text: str | None) -> Address | None:
    from countersign.proxy import parse_address

    return None if text is None else parse_address(text, what="--target")


def settings_for(
    target: Address | None,
    mode: str | None,
    via: str | None,
    upstream_ca: Path | None,
    *,
    insecure: bool,
    label: str | None,
) -> Settings:
    """Those of an engine on any free port of loopback, for one client."""
    from countersign.ca import load_roots
    from countersign.proxy import Address, Mode as Modes, Settings
    from countersign.proxy.ways.upstream import parse_upstream

    if mode not in {None, "connect", "reverse"}:
        raise UserError(f"--mode takes connect or reverse; got {mode!r}")
    if mode == "reverse" and target is None:
        raise UserError("--mode reverse needs to know where to go: give --target HOST:PORT")
    try:
        upstream = None if via is None else parse_upstream(via)
    except UserError as wrong:
        raise UserError(str(wrong).replace("--upstream-proxy", "--via")) from None
    return Settings(
        listen=Address("127.0.0.1", 0),
        mode=Modes(mode or "connect"),
        target=target if mode == "reverse" else None,
        upstream=upstream,
        roots=None if upstream_ca is None else load_roots(upstream_ca),
        verify=not insecure,
        label=label,
    )


def known_to_daemons(settings: Settings, trigger: Trigger, listen: str | None, allow: list[str] | None) -> Settings:
    """The same settings where a daemon looks for us."""
    from countersign.proxy import Mode as Modes, parse_network

    return replace(
        settings,
        listen=listen_of(listen, trigger, straight=settings.mode is Modes.REVERSE),
        allow=tuple(parse_network(text) for text in allow or ()),
    )


def recorded(
    client: Sequence[str],
    settings: Settings,
    target: Address | None,
    *,
    home: Path,
    store: str,
    family: Family,
    trigger: Trigger | None = None,
    once: bool,
    limit: float | None,
) -> Recorded:
    """Run it, with the CA of the home, its recordings in the store. A signal ends the client, and all is kept."""
    import asyncio

    from countersign.ca import Authority
    from countersign.ca.keeping import read_passphrase
    from countersign.cli.log import logs
    from countersign.recorder.store import Owner, Store, StoreWriter
    from countersign.scenarios.running.single import record as record_one

    authority = Authority.open(home / "ca", passphrase=read_passphrase())
    with closing(Store.open(store)):
        pass
    troubles: list[StoreTrouble] = []
    writer = StoreWriter(store, owner=Owner.current(), on_error=troubles.append)

    async def run() -> Recorded:
        from countersign.cli.serve import on_signals

        stop = asyncio.Event()
        on_signals(stop.set)
        return await record_one(
            client,
            settings=settings,
            authority=authority,
            keeper=writer,
            family=family,
            env=dict(os.environ),
            trigger=trigger,
            target=target,
            once=once,
            limit=limit,
            stop=stop,
        )

    with logs(only_errors=True):
        writer.start()
        try:
            made = asyncio.run(run())
        finally:
            writer.stop()
    if troubles:
        raise EnvironmentFault(f"not all recordings were kept: {troubles[-1]}")
    return made


def how_it_ended(made: Recorded, trigger: Trigger | None) -> str:
    """``it ended with exit code 60``, and what else there is to its end."""
    ran = made.ran
    if ran is None:
        return "it was ended by countersign" if trigger is None else "it was not waited for any longer"
    return ran.hung if ran.timed_out else ran.how_it_ended


def no_connection(client: Sequence[str], made: Recorded, trigger: Trigger | None) -> AnswerIsNo:
    """The error for a client that made no TLS connection."""
    said = "" if made.ran is None else "; ".join(each.line for each in made.ran.said)
    said = f". It said: {printable(said)}" if said else ""
    ended = next((each.outcome for each in reversed(made.before_tls) if each.outcome is not None), None)
    if ended is not None:
        return AnswerIsNo(
            f"{_called(client, trigger)} came to the proxy, but not as far as TLS ({how_it_ended(made, trigger)}):"
            f" {printable(ended.text).removesuffix('.')}{said}"
        )
    cure = (
        "what --listen says has to be its proxy, and the trigger has to make it connect anew"
        if trigger is not None
        else "it has to obey HTTPS_PROXY, or be told of the proxy by {proxy}, or come straight with --target HOST:PORT"
        " --mode reverse and {url}"
    )
    return AnswerIsNo(
        f"{_called(client, trigger)} made no TLS connection through"
        f" the proxy ({how_it_ended(made, trigger)}): {cure}{said}"
    )


def _called(client: Sequence[str], trigger: Trigger | None) -> str:
    return printable(client[0] if trigger is None else trigger.name)


def _print(client: Sequence[str], made: Recorded, trigger: Trigger | None, label: str | None) -> None:
    """The ladder of each session, and how the client ended."""
    from countersign.cli.ladder import print_ladder

    for number, recording in enumerate(made.recordings):
        if number:
            typer.echo()
        print_ladder(recording)
    sessions = len(made.recordings)
    typer.echo(
        f"\n{_called(client, trigger)}: {how_it_ended(made, trigger)}; {sessions} session{'s' * (sessions != 1)} kept"
        + (f" as {label}" if label else "")
        + f": {', '.join(each.id for each in made.recordings)}"
    )
