"""``countersign proxy``: the engine in the foreground."""

from __future__ import annotations

import sys
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from countersign.cli.common import Home, StoreUrl, home_of, read_file, store_location
from countersign.cli.scenario import Directories, SetValues, parse_set
from countersign.cli.values import parse_label, parse_size
from countersign.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from ipaddress import IPv4Address, IPv6Address

    from countersign.cli.beside import ResponderPlan
    from countersign.proxy import Address, Identity, Mode, Mtls, SecretsKept, Settings
    from countersign.proxy.hellos import HelloPreset
    from countersign.proxy.ways.addressing import Targets
    from countersign.proxy.ways.credentials import Credentials
    from countersign.proxy.ways.upstream import UpstreamProxy


def proxy(
    home: Home = None,
    store: StoreUrl = None,
    listen: Annotated[
        str, typer.Option(help="Where clients connect; port 0 takes any free one, and [::] IPv6 alone.")
    ] = "127.0.0.1:8443",
    mode: Annotated[str, typer.Option(help="How clients come: reverse, connect, socks5 or transparent.")] = "reverse",
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="HOST:PORT, for --mode reverse; as SNI=HOST:PORT for one server name, may be repeated.",
            show_default=False,
        ),
    ] = None,
    proxy_auth: Annotated[
        Path | None,
        typer.Option(help="USER:PASSWORD lines; clients of connect and socks5 must show one.", show_default=False),
    ] = None,
    proxy_protocol: Annotated[
        bool, typer.Option("--proxy-protocol", help="Each connection begins with the header of the PROXY protocol.")
    ] = False,
    tproxy: Annotated[
        bool, typer.Option("--tproxy", help="For --mode transparent by a TPROXY rule in place of REDIRECT.")
    ] = False,
    starttls: Annotated[
        str | None,
        typer.Option(
            help="The dialogue before TLS: smtp, lmtp, imap, pop3, ftp, ldap, postgres, mysql, xmpp or auto.",
            show_default=False,
        ),
    ] = None,
    resolve: Annotated[
        list[str] | None,
        typer.Option(help="HOST:PORT:ADDRESS[,...], as curl has it; may be repeated.", show_default=False),
    ] = None,
    bind_out: Annotated[
        str | None, typer.Option(help="The address that connections to targets come from.", show_default=False)
    ] = None,
    upstream_proxy: Annotated[
        str | None,
        typer.Option(help="Go out through this http://, https:// or socks5:// proxy.", show_default=False),
    ] = None,
    upstream_proxy_auth: Annotated[
        Path | None, typer.Option(help="A file with the USER:PASSWORD for it.", show_default=False)
    ] = None,
    rules: Annotated[
        Path | None,
        typer.Option(help="Rules (TOML) that decide by connection; SIGHUP reads them again.", show_default=False),
    ] = None,
    bypass_after_failure: Annotated[
        bool,
        typer.Option("--bypass-after-failure", help="Pass through, for an hour, where a client turned us down."),
    ] = False,
    http_summary: Annotated[
        bool,
        typer.Option("--http-summary", help="Note method, path and status of intercepted HTTP/1.1 exchanges."),
    ] = False,
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
    mtls: Annotated[
        str | None,
        typer.Option(
            help="When a target asks for a client certificate: relay (ask the client, and sign its certificate again"
            " with the CA in HOME/client-ca), present (the one of --client-cert), strip (send none), bypass (pass"
            " through), or block (refuse the client)."
            " Unless told: what the preset does, else present with --client-cert, else strip.",
            show_default=False,
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="Look and behave as an inspection product: zscaler, palo-alto, fortigate-flow ... Its CA is kept in"
            " HOME/presets; `ca root --preset NAME` hands its root out.",
            show_default=False,
        ),
    ] = None,
    behaviour: Annotated[
        list[str] | None,
        typer.Option(
            help="Of the preset: KEY=WORD, as bad_upstream=allow, alpn=strip, post_quantum=refuse; may be repeated.",
            show_default=False,
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="How every certificate and chain is made: an id of the catalogue (leaf-expired ...), FILE.toml or"
            " FILE.toml:ID.",
            show_default=False,
        ),
    ] = None,
    staple: Annotated[
        list[str] | None,
        typer.Option(
            help="The OCSP response for clients that ask for one: good, none, or what is wrong with it (revoked,"
            " expired, tryLater, wrong-signer, wrong-serial, malformed ...); may be repeated. Unless told: good or"
            " revoked where the target staples that.",
            show_default=False,
        ),
    ] = None,
    responder: Annotated[
        str | None,
        typer.Option(
            help="Answer here (HOST:PORT) for all certificates that are made: OCSP, CRLs, issuers; they say so.",
            show_default=False,
        ),
    ] = None,
    responder_host: Annotated[
        str | None, typer.Option(help="The name in its URLs (default: its address).", show_default=False)
    ] = None,
    responder_fault: Annotated[
        list[str] | None,
        typer.Option(help="What goes wrong there, as `ca responder --fault`; may be repeated.", show_default=False),
    ] = None,
    scenario: Annotated[
        str | None,
        typer.Option(
            help="What goes wrong, and when: an id (`countersign scenario ls`), a FILE.toml, or several with + between."
            " SIGUSR1 begins the next step.",
            show_default=False,
        ),
    ] = None,
    scenarios: Directories = None,
    set_: SetValues = None,
    control: Annotated[
        str | None,
        typer.Option(
            help="Listen here (HOST:PORT, loopback) for `countersign ctl`, which says what the next connections meet;"
            " the token is in HOME/control.",
            show_default=False,
        ),
    ] = None,
    control_beyond_loopback: Annotated[
        bool, typer.Option("--control-beyond-loopback", help="Let other machines try, too.")
    ] = False,
    clock: Annotated[
        str | None,
        typer.Option(help="How many times as fast the scenario's clock runs: 10000x.", show_default=False),
    ] = None,
    seed: Annotated[str | None, typer.Option(help="Where its chance comes from.", show_default=False)] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(help="Only clients of this address or range may connect; may be repeated.", show_default=False),
    ] = None,
    label: Annotated[str | None, typer.Option(help="A name for the recordings made now.", show_default=False)] = None,
    resumption: Annotated[
        bool,
        typer.Option(
            "--resumption/--no-resumption", help="Resume sessions on both legs where client and target do, or never."
        ),
    ] = True,
    hello: Annotated[
        str,
        typer.Option(
            help="What targets are offered: mirror (as the client does), own (the same in OpenSSL's order), or as"
            " another client would: chrome-143, firefox-144, java-17, curl-7.88, go-1.23 ..."
        ),
    ] = "mirror",
    workers: Annotated[
        int, typer.Option(min=1, max=256, help="Processes that share the address, the CA and the store.")
    ] = 1,
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
    from countersign.ca.keeping import read_passphrase
    from countersign.cli.controlled import control_plan
    from countersign.cli.directed import scenario_plan
    from countersign.cli.inspecting import orders
    from countersign.cli.log import logs
    from countersign.cli.serve import load_policy, serve
    from countersign.proxy import Action, Limits, Settings, parse_address, parse_network
    from countersign.proxy.ways.addressing import Overrides

    for name, seconds in (
        ("--hello-timeout", hello_timeout),
        ("--connect-timeout", connect_timeout),
        ("--handshake-timeout", handshake_timeout),
        ("--idle-timeout", idle_timeout),
    ):
        if not seconds > 0:
            raise UserError(f"{name} takes seconds above 0, got {seconds:g}")
    action, place = Action.INTERCEPT if intercept else Action.PASSTHROUGH, home_of(home)
    settings = Settings(
        listen=parse_address(listen, what="--listen", any_port=True),
        mode=_mode(mode),
        target=_targets(target),
        credentials=_credentials(proxy_auth),
        proxy_protocol=proxy_protocol,
        tproxy=tproxy,
        starttls=_starttls(starttls),
        resolve=Overrides.parse(resolve) if resolve else None,
        bind_out=_address(bind_out),
        upstream=_upstream(upstream_proxy, upstream_proxy_auth),
        action=action,
        policy=load_policy(rules, action) if rules is not None else None,
        bypass_after_failure=bypass_after_failure,
        http_summary=http_summary,
        roots=load_roots(upstream_ca) if upstream_ca is not None else None,
        verify=not upstream_insecure,
        identity=_identity(client_cert, client_key),
        mtls=_mtls(mtls),
        resumption=resumption,
        hello=_hello(hello),
        label=parse_label(label, what="--label"),
        secrets=_secrets(secrets),
        allow=tuple(parse_network(text) for text in allow or ()),
        limits=Limits(hello=hello_timeout, connect=connect_timeout, handshake=handshake_timeout, idle=idle_timeout),
        orders=orders(
            place,
            preset=preset,
            behaviour=behaviour or (),
            recipe=recipe,
            staple=staple or (),
            passphrase=read_passphrase(),
        ),
    )
    max_bytes = _at_least_16_mib(parse_size(store_max, what="--store-max"), store_max)
    _warn(settings)
    plan = _responder(responder, responder_host, responder_fault or (), settings)
    play = scenario_plan(place, scenario, scenarios, given=parse_set(set_), clock=clock, seed=seed)
    steered = control_plan(control, scenarios, beyond_loopback=control_beyond_loopback, workers=workers)
    if workers > 1 and play is not None:
        raise UserError("--scenario counts connections in one process; leave --workers out")
    if play is not None and play.asks:
        play, plan = replace(play, responder=plan), None
    with logs(threaded=workers == 1):
        serve(
            settings,
            place,
            store_location(home, store),
            max_bytes=max_bytes,
            ready=ready_file,
            rules=rules,
            responder=plan,
            workers=workers,
            scenario=play,
            control=steered,
        )


def _mode(text: str) -> Mode:
    from countersign.proxy import Mode

    try:
        return Mode(text)
    except ValueError:
        raise UserError(f"--mode takes {' or '.join(mode.value for mode in Mode)}; got {text!r}") from None


def _targets(values: list[str] | None) -> Address | Targets | None:
    from countersign.proxy.ways.addressing import Targets

    if not values:
        return None
    targets = Targets.parse(values)
    return targets.single or targets


def _credentials(path: Path | None) -> Credentials | None:
    from countersign.proxy.ways.credentials import Credentials

    if path is None:
        return None
    return Credentials.parse(read_file(path, what="--proxy-auth"), name=str(path))


def _starttls(name: str | None) -> str | None:
    from countersign.proxy.ways.starttls import dialect_named

    if name is not None:
        dialect_named(name)
    return name


def _address(text: str | None) -> IPv4Address | IPv6Address | None:
    if text is None:
        return None
    try:
        return ip_address(text)
    except ValueError:
        raise UserError(f"--bind-out takes an address of this machine, got {text!r}") from None


def _upstream(url: str | None, auth: Path | None) -> UpstreamProxy | None:
    """A password stands in a file, in the environment or in the configuration, never on the command line, where every
    user of the machine can read it.
    """
    from countersign.proxy.ways.upstream import parse_login, parse_upstream

    if url is None:
        if auth is not None:
            raise UserError("--upstream-proxy-auth needs --upstream-proxy with the proxy that it is for")
        return None
    upstream = parse_upstream(url)
    if upstream.login is not None and any(url in argument for argument in sys.argv):
        raise UserError(
            "--upstream-proxy shows a password to everybody who lists processes: "
            "give it with --upstream-proxy-auth FILE, or the URL in COUNTERSIGN_PROXY_UPSTREAM_PROXY"
        )
    if auth is None:
        return upstream
    if upstream.login is not None:
        raise UserError("--upstream-proxy has a user name in it, and --upstream-proxy-auth another: give one of them")
    return replace(upstream, login=parse_login(read_file(auth, what="--upstream-proxy-auth"), upstream, name=str(auth)))


def _responder(listen: str | None, host: str | None, faults: Iterable[str], settings: Settings) -> ResponderPlan | None:
    """Who answers for the certificates. Beyond loopback only where the proxy itself listens there."""
    from countersign.ca.revocation import parse_fault
    from countersign.cli.beside import ResponderPlan
    from countersign.proxy import parse_address
    from countersign.proxy.settings import is_loopback

    words = list(faults)
    if listen is None:
        if words or host is not None:
            raise UserError("--responder-fault and --responder-host need --responder HOST:PORT")
        return None
    where = parse_address(listen, what="--responder", any_port=True)
    beyond = not is_loopback(settings.listen.host)
    if not beyond and not is_loopback(where.host):
        raise UserError(
            f"--responder {listen}: the proxy listens on loopback, so nobody else has certificates to ask about; "
            "listen there too, or run `countersign ca responder --beyond-loopback`"
        )
    if beyond and where.host in {"0.0.0.0", "::"} and host is None:  # noqa: S104 - what was given, not what is chosen
        raise UserError(f"--responder {listen}: give --responder-host with the name that clients reach it by")
    return ResponderPlan((where.host, where.port), host, tuple(map(parse_fault, words)), beyond)


def _hello(text: str) -> HelloPreset | Literal["mirror", "own"]:
    from countersign.proxy.hellos import hello_preset

    match text:
        case "mirror" | "own":
            return text
    return hello_preset(text)


def _secrets(text: str) -> SecretsKept:
    from countersign.proxy import SecretsKept

    try:
        return SecretsKept(text)
    except ValueError:
        raise UserError(f"--secrets takes {', '.join(kept.value for kept in SecretsKept)}; got {text!r}") from None


def _mtls(text: str | None) -> Mtls | None:
    from countersign.proxy import Mtls

    try:
        return None if text is None else Mtls(text)
    except ValueError:
        raise UserError(f"--mtls takes {', '.join(mode.value for mode in Mtls)}; got {text!r}") from None


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
    from countersign.proxy import Mtls, SecretsKept
    from countersign.proxy.conduct import conduct_of

    conduct = conduct_of(settings, settings.orders.chain.preset, can_relay=True)
    if conduct.mtls is Mtls.RELAY:
        how = "--mtls relay" if settings.mtls is Mtls.RELAY else "--preset (it relays client certificates)"
        typer.secho(
            f"{how}: who issued a client's certificate is not judged. What any client shows, but for one that"
            " signed itself, is signed again with its names and dates by a CA that the target trusts; let only clients"
            " connect that may be whoever they say they are (--allow)",
            fg=typer.colors.YELLOW,
            err=True,
        )
    if settings.secrets is SecretsKept.ALL:
        typer.secho(
            "--secrets all: these recordings can open everything that was sent, passwords and cookies too;"
            " do not attach them to a ticket",
            fg=typer.colors.RED,
            err=True,
        )
    if settings.starttls in {"ftp", "auto"}:
        typer.secho(
            "--starttls: of FTP the control connection is intercepted; its data connections go past this proxy",
            fg=typer.colors.YELLOW,
            err=True,
        )
    if not settings.verify or conduct.bad_upstream == "allow":
        how = "--behaviour bad_upstream=allow" if settings.verify else "--upstream-insecure"
        typer.secho(
            f"{how}: targets are not verified. Our signature makes valid to the client what it would have"
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
