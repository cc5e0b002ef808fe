"""``countersign probe`` and ``countersign compare``: servers looked at from outside."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from countersign.cli.common import Home, Json, StoreUrl, open_store, print_json, terminal_width
from countersign.cli.values import parse_label
from countersign.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    from countersign.findings.comparing import Comparison
    from countersign.findings.probing import Plan
    from countersign.recorder.recording import Recording
    from countersign.recorder.store import Store

Where = Annotated[str, typer.Argument(metavar="HOST[:PORT]", help="The server; the port is 443 unless told.")]
CaFile = Annotated[Path | None, typer.Option(help="Trusted roots (default: the system's).", show_default=False)]
Via = Annotated[str | None, typer.Option(metavar="URL", help="Through this HTTP proxy.", show_default=False)]
Name = Annotated[str | None, typer.Option("--name", help="Another server name (SNI).", show_default=False)]
Starttls = Annotated[
    str | None,
    typer.Option(help="TLS begins in smtp, lmtp, imap, pop3, ftp, ldap, postgres, mysql or xmpp.", show_default=False),
]
Seconds = Annotated[float, typer.Option("--timeout", min=0.1, max=600, help="Seconds for each connection.")]


def probe(
    where: Where,
    home: Home = None,
    store: StoreUrl = None,
    via: Via = None,
    starttls: Starttls = None,
    name: Name = None,
    no_sni: Annotated[bool, typer.Option("--no-sni", help="Ask for no server name.")] = False,
    ca_file: CaFile = None,
    client_cert: Annotated[Path | None, typer.Option(help="A PEM chain to show.", show_default=False)] = None,
    client_key: Annotated[
        Path | None, typer.Option(help="Its key, if not in the same file.", show_default=False)
    ] = None,
    all_versions: Annotated[bool, typer.Option("--all-versions", help="Find all versions, suites and groups.")] = False,
    no_revocation: Annotated[bool, typer.Option("--no-revocation", help="Ask no OCSP responder and no CRL.")] = False,
    instance: Annotated[
        bool, typer.Option("--instance", help="Also ask an instance for its load balancer and mutual TLS.")
    ] = False,
    count: Annotated[
        int,
        typer.Option(
            min=1, max=10_000, help="Only count the chains of so many connections; with --ca-file judge each."
        ),
    ] = 1,
    against: Annotated[
        str | None, typer.Option(metavar="ID", help="Compare with an earlier probe: `last`, an id, a label.")
    ] = None,
    label: Annotated[str | None, typer.Option(help="A name for the recording.", show_default=False)] = None,
    timeout: Seconds = 10.0,
    as_json: Json = False,
) -> None:
    """Look at a server's chain and what it offers; exit code 1 when a careful client would not go on."""
    from countersign.findings.probing import census, probe as probed
    from countersign.findings.probing.instance import look_at_instance
    from countersign.findings.probing.showing import show, show_census

    if no_sni and name is not None:
        raise UserError("--no-sni asks for no server name, and --name for one: give one of the two")
    if instance and starttls is not None:
        raise UserError("--instance asks by HTTPS, which does not begin with --starttls: give one of the two")
    if count > 1:
        _only_counted(all_versions=all_versions, instance=instance, against=against, label=label)
    plan = replace(
        plan_of(where, via=via, starttls=starttls, name="" if no_sni else name, ca_file=ca_file, seconds=timeout),
        certificate=client_cert,
        key=client_key,
        all_versions=all_versions,
        revocation=not no_revocation,
    )
    width = terminal_width()
    if count > 1:
        counted = census(plan, count, told=_teller())
        print_json(counted.to_json()) if as_json else typer.echo(show_census(counted, width=width), nl=False)
        raise typer.Exit(0 if counted.good else 1)
    with open_store(home, store, make=True) as kept:
        earlier = _earlier(kept, against, plan) if against is not None else None
        found = probed(plan, label=parse_label(label, what="--label"), told=_teller())
        kept.put([found.recording], owner=None)
    looked = look_at_instance(plan) if instance else None
    compared = None if earlier is None else _comparison(earlier, found.recording, ("before", "now"))
    if as_json:
        more = {} if looked is None else {"instance": looked.to_json()}
        print_json({**found.to_json(), **more, **({} if compared is None else {"against": compared.to_json()})})
    else:
        typer.echo(show(found, width=width), nl=False)
        typer.echo("".join(f"\n{line}" for line in looked.lines) if looked is not None else "", nl=looked is not None)
        _tell(compared)
    if (compared is not None and compared.matters) or not found.good:
        raise typer.Exit(1)


def _only_counted(**given: object) -> None:
    """Raise :class:`UserError` for what a census would leave undone."""
    left = [f"--{name.replace('_', '-')}" for name, value in given.items() if value not in (None, False)]
    if left:
        raise UserError(
            f"--count counts chains, and no more: {left[0]} is for one connection; leave one of the two out"
        )


def compare(
    where: Where,
    via: Annotated[
        list[str] | None, typer.Option(metavar="URL", help="Through this HTTP proxy; may be repeated.")
    ] = None,
    direct: Annotated[bool, typer.Option("--direct", help="One of the two looks is direct.")] = False,
    home: Home = None,
    store: StoreUrl = None,
    starttls: Starttls = None,
    name: Name = None,
    ca_file: Annotated[
        Path | None, typer.Option(help="Say of each way whether its chain leads to these roots.", show_default=False)
    ] = None,
    timeout: Seconds = 10.0,
    as_json: Json = False,
) -> None:
    """Look at a server in two ways, directly and through a proxy, and say what differs; exit code 1 if it matters."""
    from countersign.findings.probing import verdict_on
    from countersign.findings.probing.handshaking import handshake
    from countersign.findings.probing.showing import show_verdicts

    ways: list[str | None] = [*([None] if direct else []), *(via or [])]
    if len(ways) != 2:
        raise UserError("compare needs two ways to the server: --direct --via URL, or --via URL --via URL")
    plan = plan_of(where, via=None, starttls=starttls, name=name, ca_file=ca_file, seconds=timeout)
    plans = [replace(plan, via=way) for way in ways]
    names = ["direct" if each.via is None else f"via {each.proxy}" for each in plans]
    looks = [handshake(each, label=label) for each, label in zip(plans, names, strict=True)]
    with open_store(home, store, make=True) as kept:
        kept.put(looks, owner=None)
    compared = _comparison(looks[0], looks[1], (names[0], names[1]))
    verdicts = [verdict_on(each, look) for each, look in zip(plans, looks, strict=True)] if ca_file else []
    if as_json:
        judged = [None if each is None else each.to_json() for each in verdicts]
        print_json({**compared.to_json(), **({"verdicts": judged} if ca_file else {})})
    else:
        _tell(compared)
        told = show_verdicts(zip(names, verdicts, strict=False), width=terminal_width())
        typer.echo(f"\n{told}" if ca_file else "", nl=False)
    if compared.matters or any(each is None or not each.ok for each in verdicts):
        raise typer.Exit(1)


def plan_of(
    where: str, *, via: str | None, starttls: str | None, name: str | None, ca_file: Path | None, seconds: float
) -> Plan:
    from countersign.ca.verify import roots_of
    from countersign.findings.probing import Plan
    from countersign.findings.probing.model import default_port
    from countersign.proxy.settings import parse_address

    port = default_port(starttls)
    bare = where.startswith("[") and where.endswith("]")
    text = where if ":" in where and not bare else f"{where}:{port}"
    address = parse_address(
        f"[{where}]:{port}" if where.count(":") > 1 and not {"[", "/"} & {*where} else text, what="HOST[:PORT]"
    )
    asked = name if name is not None else "" if _is_address(address.host) else address.host
    roots = roots_of(ca_file) if ca_file is not None else None
    return Plan(
        host=address.host, port=address.port, name=asked, via=via, starttls=starttls, roots=roots, seconds=seconds
    )


def _is_address(host: str) -> bool:
    import ipaddress

    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _earlier(store: Store, reference: str, plan: Plan) -> Recording:
    if reference != "last":
        return store.get(reference)
    found = next((one for one in store.summaries(target=plan.place, limit=100) if one.mode == "probe"), None)
    if found is None:
        raise UserError(f"--against last: no probe of {plan.place} is in the store")
    return store.get(found.id)


def _comparison(a: Recording, b: Recording, names: tuple[str, str]) -> Comparison:
    from countersign.findings.comparing import compare as compared
    from countersign.findings.subjects import Subject

    return compared(Subject(a.id, a), Subject(b.id, b), names=names)


def _tell(comparison: Comparison | None) -> None:
    from countersign.findings.comparing.showing import show

    if comparison is not None:
        typer.echo("")
        typer.echo(show(comparison, width=terminal_width()), nl=False)


def _teller() -> Callable[[str], None]:
    """Says on a terminal what is being done; nothing elsewhere."""
    import sys

    if not sys.stderr.isatty():
        return lambda _: None
    return lambda what: typer.echo(f"\r\x1b[K{what} ...\r", err=True, nl=False)
