"""``--trigger`` and what goes with it: a client that is a daemon, where it finds us, and whose root it trusts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from countersign.cli.common import home_of, read_file
from countersign.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from countersign.ca.presets import Preset
    from countersign.proxy import Address
    from countersign.scenarios.running.clients import Family
    from countersign.scenarios.running.stage import Stand
    from countersign.scenarios.running.trigger import Trigger

TriggerUrl = Annotated[
    str | None,
    typer.Option(
        "--trigger",
        metavar="URL",
        help="The client is a daemon: a request to this URL of its own makes it connect. In place of CLIENT; {url} and"
        " its like are filled in. The daemon trusts the root of the CA in the home (`countersign ca trust`).",
        show_default=False,
    ),
]
TriggerMethod = Annotated[
    str | None,
    typer.Option(help="GET, or POST, which it is with a body unless told.", metavar="METHOD", show_default=False),
]
TriggerHeaders = Annotated[
    Path | None, typer.Option(help="A file with `Name: value` lines for it: a token, say.", show_default=False)
]
TriggerBody = Annotated[Path | None, typer.Option(help="A file with what it posts.", show_default=False)]
TriggerCa = Annotated[
    Path | None, typer.Option(help="Trust the roots in this file for an https trigger.", show_default=False)
]
Settle = Annotated[
    float | None,
    typer.Option(
        help="Seconds without anything new after which the daemon is done (default: 0.5).", show_default=False
    ),
]
Listen = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="Where the daemon finds the proxy, for all scenarios.", show_default=False),
]
Allow = Annotated[
    list[str] | None,
    typer.Option(help="With --listen beyond loopback: who may connect; may be repeated.", show_default=False),
]
ShowsCertificate = Annotated[
    bool,
    typer.Option(
        "--shows-certificate",
        help="The daemon has a certificate of the home's CA to show (`countersign ca issue NAME --eku client`).",
    ),
]

_WITH_TRIGGER = (
    "trigger_method", "trigger_headers", "trigger_body", "trigger_ca", "settle", "listen", "allow", "shows_certificate",
)  # fmt: skip


def trigger_of(given: dict[str, Any]) -> Trigger | None:
    """What the options say; None for a client with a command line. Raises :class:`UserError` where there is neither, or
    both.
    """
    from countersign.scenarios.running.trigger import SETTLES, Trigger, parse_headers

    url = given["trigger"]
    if url is None:
        for name in _WITH_TRIGGER:
            if given.get(name):
                raise UserError(f"--{name.replace('_', '-')} is for a daemon that is named: give --trigger URL")
        if not given["client"]:
            raise UserError("a client is needed: give its command line behind --, or a daemon's --trigger URL")
        return None
    if given["client"]:
        raise UserError(f"--trigger is for a client that runs already; leave {given['client'][0]!r} out, or --trigger")
    headers, body = given["trigger_headers"], given["trigger_body"]
    try:
        text = None if body is None else read_file(body, what="--trigger-body").decode("utf-8")
    except UnicodeDecodeError:
        raise UserError(f"--trigger-body: {body} is not UTF-8") from None
    return Trigger(
        url=url,
        method=given["trigger_method"] or ("GET" if body is None else "POST"),
        headers=()
        if headers is None
        else parse_headers(read_file(headers, what="--trigger-headers"), name=str(headers)),
        body=text,
        ca=given["trigger_ca"],
        settles=SETTLES if given["settle"] is None else given["settle"],
        shows=given.get("shows_certificate", False),
    )


def who(client: Sequence[str] | None, trigger: Trigger | None, family: str | None) -> tuple[tuple[str, ...], Family]:
    """The client's command line, or what a daemon is called, and its family."""
    from countersign.scenarios.running.clients import UNKNOWN, family_named, family_of

    argv = tuple(client or ()) if trigger is None else trigger.words
    if family is not None:
        return argv, family_named(family)
    return argv, family_of(argv) if trigger is None else UNKNOWN


def listen_of(listen: str | None, trigger: Trigger, *, straight: bool) -> Address:
    """Where the daemon finds us: an address that it knows, or any, where the trigger says it."""
    from countersign.proxy import Address, parse_address

    told = trigger.named & ({"url", "port"} if straight else {"proxy"})
    if listen is None:
        if told:
            return Address("127.0.0.1", 0)
        wanted = "{url}" if straight else "{proxy}"
        raise UserError(
            f"--trigger needs --listen HOST:PORT, where the daemon looks for its proxy, or {wanted} in the trigger,"
            " which tells it"
        )
    where = parse_address(listen, what="--listen", any_port=True)
    if not where.port and not told:
        raise UserError(f"--listen takes a port that the daemon knows, or the trigger has to tell it; got {listen}")
    return where


def stand_of(given: dict[str, Any], trigger: Trigger, preset: Preset | None) -> Stand:
    """Where we stand for this daemon, with the CA of the home, or the product's that is kept there."""
    from countersign.ca import Authority
    from countersign.ca.keeping import read_passphrase
    from countersign.cli.inspecting import chain_orders
    from countersign.proxy import parse_network
    from countersign.scenarios.running.stage import Stand

    straight = given["mode"] == "reverse"
    listen = listen_of(given["listen"], trigger, straight=straight)
    if not straight and given["target"] is None and not trigger.named & {"url", "host", "port"}:
        raise UserError(
            "--trigger: give --target HOST:PORT, where the daemon goes, so that it is there and trusted; or tell the"
            " daemon by {url} in the trigger to go to one of ours"
        )
    home, passphrase = home_of(given["home"]), read_passphrase()
    own = Authority.open(home / "ca", passphrase=passphrase)
    return Stand(
        listen=listen,
        authority=chain_orders(home, preset, None, passphrase).authority or own,
        clients=own,
        allow=tuple(parse_network(text) for text in given["allow"] or ()),
    )
