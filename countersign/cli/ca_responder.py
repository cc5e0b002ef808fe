"""``countersign ca responder`` and ``ca revoke``: who says that certificates are revoked, and who decides it."""

from __future__ import annotations

import os
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from countersign.cli.ca_passwords import PassphraseFile, open_authority
from countersign.cli.common import Home, Json, Overwrite, home_of, print_json, write_out
from countersign.cli.values import parse_moment
from countersign.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from countersign.ca import Authority
    from countersign.ca.revocation import Entry, Fault, Responder

_Word = TypeVar("_Word", bound=StrEnum)

ResponderUrl = Annotated[
    str | None,
    typer.Option(
        "--responder",
        help="The address of the `ca responder` that answers for it (http://127.0.0.1:8089), put into the whole chain.",
        show_default=False,
    ),
]


def answered_for(authority: Authority, responder: str | None) -> Authority:
    """The CA whose certificates name the responder, if there is to be one."""
    if responder is None:
        return authority
    from countersign.ca.revocation import pointed_at

    return pointed_at(authority, responder)


def responder(
    home: Home = None,
    listen: Annotated[str, typer.Option(help="Where clients ask; port 0 takes any free one.")] = "127.0.0.1:0",
    host: Annotated[
        str | None, typer.Option(help="The name in its URLs (default: the address it listens on).", show_default=False)
    ] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            help="What goes wrong: tryLater, ocsp:revoked=keyCompromise, crl:hang,issuer=root, 404,times=2 ...;"
            " may be repeated.",
            show_default=False,
        ),
    ] = None,
    revoke: Annotated[
        list[str] | None,
        typer.Option(
            help="A serial number or file that is revoked while it runs; may be repeated.", show_default=False
        ),
    ] = None,
    crl: Annotated[str, typer.Option(help="Which CRLs certificates point at: full, delta or reasons.")] = "full",
    signed_by: Annotated[str, typer.Option(help="Who signs OCSP responses: delegate or issuer.")] = "delegate",
    responder_id: Annotated[str, typer.Option(help="How responses name who signed them: key or name.")] = "key",
    lifetime: Annotated[float, typer.Option(help="Hours until the next update.")] = 24,
    clock: Annotated[float, typer.Option(help="How many times as fast what lasts is over.")] = 1,
    apart: Annotated[
        bool, typer.Option("--apart", help="A port for each issuer and kind of URL, so that one can be refused alone.")
    ] = False,
    beyond_loopback: Annotated[
        bool, typer.Option("--beyond-loopback", help="Let others than this machine ask.")
    ] = False,
    chain: Annotated[
        Path | None,
        typer.Option(help="Write the intermediates with its URLs in them to this file (PEM).", show_default=False),
    ] = None,
    overwrite: Overwrite = False,
    ready_file: Annotated[
        Path | None, typer.Option(help="Write where it listens to this file (JSON) once it does.", show_default=False)
    ] = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Answer for the CA's certificates until Ctrl-C or SIGTERM: OCSP, CRLs, and the issuers' own certificates."""
    import asyncio
    from datetime import UTC, datetime, timedelta

    from countersign.ca import Authority
    from countersign.ca.keeping import read_passphrase
    from countersign.ca.revocation import CrlStyle, Manner, Register, Responder, ResponderId, SignedBy, parse_fault
    from countersign.cli.beside import log_asked
    from countersign.cli.log import logs
    from countersign.proxy import parse_address

    if not 1 / 3600 <= lifetime <= 87600:
        raise UserError(f"--lifetime takes hours, a second to ten years; got {lifetime:g}")
    passphrase = read_passphrase(passphrase_file)

    def generations() -> tuple[Authority, ...]:
        found = Authority.load(home_of(home) / "ca", passphrase=passphrase)
        return found, *(retired.authority for retired in found.retired)

    authorities = generations()
    authority = authorities[0]
    authority.check(datetime.now(UTC))
    where = parse_address(listen, what="--listen", any_port=True)
    made = Responder(
        *authorities,
        register=Register.of_home(home_of(home) / "ca"),
        faults=[*map(parse_fault, fault or ()), *(_revoked(authority, what) for what in revoke or ())],
        manner=Manner(
            _word(SignedBy, signed_by, "--signed-by"),
            _word(ResponderId, responder_id, "--responder-id"),
            timedelta(hours=lifetime),
            clock,
        ),
        crl=_word(CrlStyle, crl, "--crl"),
        listen=(where.host, where.port),
        host=host,
        apart=apart,
        beyond_loopback=beyond_loopback,
        on_asked=log_asked,
        reopen=generations,
    )
    with logs():
        asyncio.run(_run(made, partial(_write_chain, made, chain, home, overwrite=overwrite), ready_file))


def _write_chain(responder: Responder, out: Path | None, home: Path | None, *, overwrite: bool) -> None:
    from countersign.ca.pem import to_pem

    if out is not None:
        write_out(b"".join(map(to_pem, responder.authority.chain)), out, overwrite=overwrite, home=home, public=True)


async def _run(responder: Responder, chain: Callable[[], None], ready: Path | None) -> None:
    import asyncio
    from contextlib import AsyncExitStack

    import structlog

    from countersign.cli.beside import tell_responder
    from countersign.cli.ready import ready_file
    from countersign.cli.serve import on_signals

    log = structlog.get_logger("countersign")
    stop = asyncio.Event()
    on_signals(stop.set)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(responder)
        tell_responder(responder)
        chain()
        if ready is not None:
            stack.enter_context(ready_file(ready, responder.addresses[0]))
        await stop.wait()
        log.info("stopping")


def revoke(
    certificates: Annotated[
        list[str] | None, typer.Argument(metavar="SERIAL|FILE...", help="Serial numbers (hexadecimal) or files.")
    ] = None,
    home: Home = None,
    reason: Annotated[
        str, typer.Option(help="keyCompromise, superseded, certificateHold (which can be released), ...")
    ] = "unspecified",
    at: Annotated[
        str | None, typer.Option(help="Since when: 2026-11-20T08:00, or 7d ago (default: now).", show_default=False)
    ] = None,
    issuer: Annotated[
        str | None,
        typer.Option(
            help="Of a serial number: root or intermediate-1 ... (default: who issues leaves).", show_default=False
        ),
    ] = None,
    release: Annotated[bool, typer.Option("--release", help="End a certificateHold instead.")] = False,
    unknown: Annotated[bool, typer.Option("--unknown", help="Have OCSP say `unknown` of it instead.")] = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Revoke certificates of the CA; without any, list those that are. A running responder sees it at once."""
    from dataclasses import replace
    from datetime import UTC, datetime

    from countersign.ca.revocation import Reason, Register, State, named

    authority = open_authority(home, passphrase_file)
    register = Register.of_home(home_of(home) / "ca")
    if not certificates:
        _show(list(register), as_json=as_json)
        return
    moment = parse_moment(at, what="--at") if at is not None else datetime.now(UTC)
    why = Reason.read(reason)
    if release and (unknown or why is not Reason.UNSPECIFIED):
        raise UserError("--release ends a hold and goes with neither --reason nor --unknown")
    if why is Reason.REMOVE_FROM_CRL:
        raise UserError("--reason removeFromCRL is the end of a hold: say --release")
    issuers = named(authority, *(retired.authority for retired in authority.retired))
    if issuer is not None and issuer not in issuers:
        raise UserError(f"--issuer takes {', '.join(issuers)}; got {issuer!r}")
    entries = [_entry(authority, what, issuer, moment) for what in certificates]
    before: list[Entry] = []
    if release:
        entries = [register.release(entry.issuer, entry.serial, moment) for entry in entries]
    else:
        state = State.UNKNOWN if unknown else State.REVOKED
        entries = [replace(entry, state=state, reason=why) for entry in entries]
        before = list(register)
        entries = [register.revoke(entry) if entry.is_revoked else register.put(entry) for entry in entries]
    _show(entries, as_json=as_json, before=before)


def _entry(authority: Authority, what: str, issuer: str | None, at: datetime) -> Entry:
    """What to enter for ``SERIAL|FILE``: a file if there is one of that name, its first certificate."""
    from countersign.ca.pem import PemError, certificates_in
    from countersign.ca.revocation import entry_for, named, parse_serial
    from countersign.recorder.private_files import read_regular

    issuers = named(authority, *(retired.authority for retired in authority.retired))
    path = Path(what)
    certificate: bytes | int
    if os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises for a name that is too long
        try:
            certificate = certificates_in(read_regular(path) or b"")[0]
        except PemError as wrong:
            raise UserError(f"cannot revoke what is in {path}: {wrong}") from None
    else:
        try:
            certificate = parse_serial(what)
        except UserError:
            raise UserError(
                f"cannot revoke {what!r}: expected a file that exists, or a serial number as 1f:3a"
            ) from None
    return entry_for(issuers, certificate, issuer or list(named(authority))[-1], at)


def _revoked(authority: Authority, what: str) -> Fault:
    """``--revoke``: for as long as the responder runs, as a fault is."""
    from datetime import UTC, datetime

    from countersign.ca.revocation import Fault, What

    return Fault(What.REVOKED, serial=_entry(authority, what, None, datetime.now(UTC)).serial)


def _show(entries: list[Entry], *, as_json: bool, before: Sequence[Entry] = ()) -> None:
    """What is in the register, with a word for what was so ``before``."""
    if as_json:
        print_json({"schema": 1, "certificates": [entry.to_json() for entry in entries]})
        return
    for entry in entries:
        since = f"{entry.at:%Y-%m-%dT%H:%M:%SZ}"
        why = f" ({entry.reason})" if entry.is_revoked else ""
        state = f"already {entry.state}" if entry in before else entry.state
        typer.echo(f"{entry.serial:x}: {state}{why} since {since}{f'  {entry.name}' if entry.name else ''}")
    if not entries:
        typer.echo("no certificate is revoked")


def _word(kind: type[_Word], text: str, what: str) -> _Word:
    try:
        return kind(text)
    except ValueError:
        raise UserError(f"{what} takes {', '.join(kind)}; got {text!r}") from None
