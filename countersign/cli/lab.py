"""``countersign lab``: stand-ins to try things against, an instance behind its load balancer and a MID-like client."""

from __future__ import annotations

import os
import shutil
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from countersign.cli.common import Overwrite, naming_overwrite
from countersign.errors import EnvironmentFault, UserError

if TYPE_CHECKING:
    from countersign.lab.instance import Instance
    from countersign.lab.target import Pki

_Word = TypeVar("_Word", bound=StrEnum)

app = typer.Typer(
    help="Stand-ins: a ServiceNow instance behind its load balancer, and a client like a MID Server.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_PASSWORD = "changeit"  # noqa: S105 - what every Java store has; the files are throwaways
_BOUNCY_CASTLE = tuple(f"/usr/share/java/{name}.jar" for name in ("bcprov", "bcutil", "bctls"))  # Debian's


@app.command("instance")
def instance(
    files: Annotated[
        Path,
        typer.Option(
            "--files",
            help="A folder for what a client needs: root.pem and trust.p12 to trust, client.pem, client.key and"
            " agent_keystore (PKCS12, password changeit) to show. Made if it is not there.",
        ),
    ],
    listen: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1:9443",
    name: Annotated[list[str] | None, typer.Option("--name", help="Host names in its certificate.")] = None,
    mtls: Annotated[str, typer.Option("--mtls", help="Inbound mutual TLS: on, optional or off.")] = "optional",
    supports_tls: Annotated[
        str | None,
        typer.Option(
            help="What /adcv2/supports_tls answers: true, mixed, 404 or redirect (default: as --mtls is).",
            show_default=False,
        ),
    ] = None,
    publishing: Annotated[
        float, typer.Option(help="Seconds until the CA records Exist at the load balancer.", min=0)
    ] = 0.0,
    without_check: Annotated[
        list[str] | None,
        typer.Option(
            "--without-check",
            help="A check that the MID Security Policy does not have: chain, hostname or revocation.",
        ),
    ] = None,
    user: Annotated[
        list[str] | None, typer.Option("--user", help="NAME:PASSWORD for Basic authentication; several times.")
    ] = None,
    revoked: Annotated[bool, typer.Option("--revoked", help="The client's certificate is revoked (403).")] = False,
    ready_file: Annotated[
        Path | None, typer.Option(help="Write where it listens to this file (JSON) once it does.", show_default=False)
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Run the stand-in instance until a signal says stop."""
    import asyncio

    from countersign.cli.log import logs
    from countersign.lab.instance import Inbound, Instance, InstancePlan, Policy, SupportsTls
    from countersign.lab.target import HOST, Pki
    from countersign.proxy import parse_address

    plan = InstancePlan(
        inbound=_one_of(Inbound, mtls, "--mtls"),
        supports_tls=None if supports_tls is None else _one_of(SupportsTls, supports_tls, "--supports-tls"),
        publishing=publishing,
        policy=Policy.without(*(without_check or ())),
        users=dict(_user(text) for text in user or ()),
    )
    where = parse_address(listen, what="--listen", any_port=True)
    pki = Pki.make(*(name or (HOST, "localhost", "127.0.0.1")))
    with naming_overwrite():
        _write_files(pki, files, overwrite=overwrite)
    made = Instance.of(pki, plan, listen=where)
    if revoked:
        made.revoke(pki.client.chain[0])
    with logs():
        asyncio.run(_run(made, where.host, ready_file))


@app.command("mid")
def mid(
    url: Annotated[str | None, typer.Option(help="The instance.", show_default=False)] = None,
    profile: Annotated[
        str | None,
        typer.Option(
            metavar="RELEASE",
            help="Whose checks it has: new-york, orlando, orlando-p7a, paris, paris-p1hf3a, paris-p2, quebec, several"
            " with commas between, or all.",
            show_default=False,
        ),
    ] = None,
    provider: Annotated[
        str | None,
        typer.Option(help="sun, bc or fips (Bouncy Castle, on the CLASSPATH or Debian's).", show_default=False),
    ] = None,
    truststore: Annotated[Path | None, typer.Option(help="What it trusts, a key store.", show_default=False)] = None,
    keystore: Annotated[
        str | None, typer.Option(metavar="FILE|none", help="What it shows when it is asked.", show_default=False)
    ] = None,
    store_password: Annotated[str | None, typer.Option(help="The password of both.", show_default=False)] = None,
    proxy: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Go by CONNECT.", show_default=False)] = None,
    config: Annotated[Path | None, typer.Option(help="A config.xml to read.", show_default=False)] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A parameter of config.xml; may be repeated."),
    ] = None,
    key_manager: Annotated[
        str | None,
        typer.Option(help="How it chooses what it shows: mid, as the articles have it, or stock.", show_default=False),
    ] = None,
    ldap: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Then bind to this directory.", show_default=False)
    ] = None,
    start_tls: Annotated[bool, typer.Option("--start-tls", help="In clear first, and LDAP's StartTLS then.")] = False,
    plain: Annotated[bool, typer.Option("--plain", help="One GET of the URL, no SOAP.")] = False,
    ocsp_off: Annotated[
        bool, typer.Option("--ocsp-off", help="The workaround that turns the OCSP check off, and the chain's with it.")
    ] = False,
    source: Annotated[
        bool, typer.Option("--source", help="Print where its Java source is, to start it by yourself.")
    ] = False,
) -> None:
    """Run the MID-like client (needs java): it asks an instance as a MID Server does, with the checks of a release.

    Exit code 0: all went well; 1: something did not; 2: wrong usage.
    """
    from importlib.resources import files

    path = str(files("countersign.lab") / "java" / "MidClient.java")
    if source:
        typer.echo(path)
        return
    java = shutil.which("java")
    if java is None:
        raise EnvironmentFault(
            "cannot run the MID-like client: there is no java on the PATH; install a JDK, 17 or later"
        )
    values: dict[str, object] = {
        "--url": url, "--profile": profile, "--provider": provider, "--truststore": truststore, "--keystore": keystore,
        "--store-password": store_password, "--proxy": proxy, "--config": config, "--key-manager": key_manager,
        "--ldap": ldap,
    }  # fmt: skip
    flags = {"--start-tls": start_tls, "--plain": plain, "--ocsp-off": ocsp_off}
    words = [word for name, value in values.items() if value is not None for word in (name, str(value))]
    words += [word for each in sets or () for word in ("--set", each)]
    words += [name for name, wanted in flags.items() if wanted]
    jars = os.environ.get("CLASSPATH") or ":".join(each for each in _BOUNCY_CASTLE if Path(each).exists())
    os.execv(java, [java, *(["-cp", jars] if jars else []), path, *words])  # noqa: S606 - it becomes the client


async def _run(made: Instance, host: str, ready: Path | None) -> None:
    import asyncio
    from contextlib import AsyncExitStack

    import structlog

    from countersign.cli.ready import ready_file
    from countersign.cli.serve import on_signals
    from countersign.proxy import Address

    log = structlog.get_logger("countersign")
    stop = asyncio.Event()
    on_signals(stop.set)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(made)
        address = str(Address(host, made.port))
        log.info("instance", listen=address, mtls=made.plan.inbound.value)
        if ready is not None:
            stack.enter_context(ready_file(ready, address))
        await stop.wait()
        log.info("stopping", requests=len(made.requests), refused=len(made.refused))


def _write_files(pki: Pki, folder: Path, *, overwrite: bool) -> None:
    """New ones each time: the keys are those of this run."""
    from countersign.ca.pem import to_pem
    from countersign.ca.signer import pkcs8_der
    from countersign.ca.stores import CertificateEntry, KeyEntry, StoreType, write_store
    from countersign.recorder.private_files import make_private_dir, write_private

    make_private_dir(folder)
    shown = pki.client
    key = shown.key if isinstance(shown.key, bytes) else pkcs8_der(shown.key)
    trusted = [CertificateEntry("lab-root", pki.public.root.der)]
    for name, data in {
        "root.pem": pki.public.root_pem,
        "trust.p12": write_store(StoreType.PKCS12, trusted, _PASSWORD),
        "client.pem": b"".join(map(to_pem, shown.chain)),
        "client.key": to_pem(key, "PRIVATE KEY"),
        "agent_keystore": write_store(StoreType.PKCS12, [KeyEntry("mid", shown.chain, key)], _PASSWORD),
    }.items():
        write_private(folder / name, data, overwrite=overwrite)


def _user(text: str) -> tuple[str, str]:
    name, colon, password = text.partition(":")
    if not name or not colon:
        raise UserError("--user takes NAME:PASSWORD; got a value without a name or without a colon")
    return name, password


def _one_of(kind: type[_Word], text: str, option: str) -> _Word:
    try:
        return kind(text)
    except ValueError:
        raise UserError(f"{option} takes {', '.join(kind)}; got {text!r}") from None
