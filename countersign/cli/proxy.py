"""``countersign proxy``: the engine in the foreground."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from countersign.cli.common import Home, StoreUrl, home_of, store_location
from countersign.cli.values import parse_label, parse_size
from countersign.errors import UserError

if TYPE_CHECKING:
    from countersign.proxy import Identity, Mode, SecretsKept, Settings


def proxy(
    home: Home = None,
    store: StoreUrl = None,
    listen: Annotated[str, typer.Option(help="Where clients connect; port 0 takes any free one.")] = "127.0.0.1:8443",
    mode: Annotated[str, typer.Option(help="reverse (one target) or connect (clients ask with CONNECT).")] = "reverse",
    target: Annotated[str | None, typer.Option(help="HOST:PORT, for --mode reverse.", show_default=False)] = None,
    intercept: Annotated[
        bool, typer.Option("--intercept/--passthrough", help="Re-sign and record inside, or only watch from outside.")
    ] = True,
    upstream_ca: Annotated[
        Path | None,
        typer.Option(help="Trust the roots in this file for the target, not the system's.", show_default=False),
    ] = None,
    upstream_insecure: Annotated[
        bool, typer.Option("--upstream-insecure", help="Let targets through that cannot be trusted, and record why.")
    ] = False,
    client_cert: Annotated[
        Path | None, typer.Option(help="Certificate (with chain) for targets that ask for one.", show_default=False)
    ] = None,
    client_key: Annotated[Path | None, typer.Option(help="Its key.", show_default=False)] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(help="Only clients of this address or range may connect; may be repeated.", show_default=False),
    ] = None,
    label: Annotated[str | None, typer.Option(help="A name for the recordings made now.", show_default=False)] = None,
    secrets: Annotated[
        str, typer.Option(help="Traffic secrets to keep: none, handshake, or all (opens what was sent, too).")
    ] = "none",
    store_max: Annotated[str, typer.Option(help="The most that the store may take; the oldest go first.")] = "2G",
    ready_file: Annotated[
        Path | None, typer.Option(help="Write where it listens to this file (JSON) once it does.", show_default=False)
    ] = None,
    hello_timeout: Annotated[float, typer.Option(help="Seconds from accept to the ClientHello.")] = 10,
    connect_timeout: Annotated[float, typer.Option(help="Seconds to reach the target.")] = 10,
    handshake_timeout: Annotated[float, typer.Option(help="Seconds for each handshake.")] = 20,
    idle_timeout: Annotated[float, typer.Option(help="Seconds without a byte either way.")] = 300,
) -> None:
    """Run the inspecting proxy until Ctrl-C or SIGTERM, recording every session."""
    from countersign.ca import load_roots
    from countersign.cli.log import logs
    from countersign.cli.serve import serve
    from countersign.proxy import Action, Limits, Settings, parse_address, parse_network

    for name, seconds in (
        ("--hello-timeout", hello_timeout),
        ("--connect-timeout", connect_timeout),
        ("--handshake-timeout", handshake_timeout),
        ("--idle-timeout", idle_timeout),
    ):
        if not seconds > 0:
            raise UserError(f"{name} takes seconds above 0, got {seconds:g}")
    settings = Settings(
        listen=parse_address(listen, what="--listen", any_port=True),
        mode=_mode(mode),
        target=parse_address(target, what="--target") if target is not None else None,
        action=Action.INTERCEPT if intercept else Action.PASSTHROUGH,
        roots=load_roots(upstream_ca) if upstream_ca is not None else None,
        verify=not upstream_insecure,
        identity=_identity(client_cert, client_key),
        label=parse_label(label, what="--label"),
        secrets=_secrets(secrets),
        allow=tuple(parse_network(text) for text in allow or ()),
        limits=Limits(hello=hello_timeout, connect=connect_timeout, handshake=handshake_timeout, idle=idle_timeout),
    )
    max_bytes = _at_least_16_mib(parse_size(store_max, what="--store-max"), store_max)
    _warn(settings)
    with logs():
        serve(settings, home_of(home), store_location(home, store), max_bytes=max_bytes, ready=ready_file)


def _mode(text: str) -> Mode:
    from countersign.proxy import Mode

    try:
        return Mode(text)
    except ValueError:
        raise UserError(f"--mode takes {' or '.join(mode.value for mode in Mode)}; got {text!r}") from None


def _secrets(text: str) -> SecretsKept:
    from countersign.proxy import SecretsKept

    try:
        return SecretsKept(text)
    except ValueError:
        raise UserError(f"--secrets takes {', '.join(kept.value for kept in SecretsKept)}; got {text!r}") from None


def _identity(certificate: Path | None, key: Path | None) -> Identity | None:
    from countersign.ca import load_key_pair
    from countersign.proxy import Identity

    if certificate is None and key is None:
        return None
    if certificate is None:
        raise UserError("--client-key needs --client-cert with the certificate that belongs to it")
    pair = load_key_pair(certificate, key or certificate)
    return Identity(pair.chain, pair.key)


def _warn(settings: Settings) -> None:
    from countersign.proxy import SecretsKept

    if settings.secrets is SecretsKept.ALL:
        typer.secho(
            "--secrets all: these recordings can open everything that was sent, passwords and cookies too;"
            " do not attach them to a ticket",
            fg=typer.colors.RED,
            err=True,
        )
    if not settings.verify:
        typer.secho(
            "--upstream-insecure: targets are not verified. Our signature makes valid to the client what it would have"
            " refused: an unknown or self-signed issuer, a chain with a certificate missing, expired or revoked, a"
            " revoked leaf, a weak signature. The leaf keeps its own names and dates. Recordings say what was wrong",
            fg=typer.colors.YELLOW,
            err=True,
        )


def _at_least_16_mib(size: int, said: str) -> int:
    """A bare ``2`` is two bytes, and would remove every recording there is."""
    if size < 16 << 20:
        raise UserError(f"--store-max takes at least 16M; {said} is {size} bytes, and the oldest recordings would go")
    return size
