"""``countersign ca``: the inspection CA in the home, and all that has to do with keys and certificates."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from countersign.cli import ca_files, ca_issue, ca_keystore, ca_responder, ca_trust
from countersign.cli.ca_passwords import PassphraseFile, ca_passphrase, open_authority
from countersign.cli.common import Home, Json, Overwrite, default_home, home_of, print_json, write_out

if TYPE_CHECKING:
    from countersign.ca import Authority

app = typer.Typer(
    help="The CA: make it, hand out its root, issue, sign, revoke, rotate; key stores; verify.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_NAME, _KEY, _DAYS, _LEVELS = "countersign inspection", "ec:P-256", 365, 1


@app.command("init")
def init(
    home: Home = None,
    name: Annotated[str, typer.Option(help="How its certificates are called.")] = _NAME,
    key: Annotated[str, typer.Option(help="The kind of its keys: ec:P-256, ec:P-384, rsa:2048, rsa:4096, ...")] = _KEY,
    days: Annotated[int, typer.Option(min=1, help="How long it is valid.")] = _DAYS,
    levels: Annotated[int, typer.Option(help="How many intermediates are under the root.")] = _LEVELS,
    constrain: Annotated[
        list[str] | None, typer.Option(help="A domain or network that it may speak for, and no other; may be repeated.")
    ] = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Make the CA: a root and an intermediate. One that is there already is left as it is, and said to be."""
    from countersign.ca import Authority, Plan
    from countersign.errors import UserError

    directory = home_of(home) / "ca"
    made = not (directory / "root.pem").exists()
    if not made and (constrain or (name, key, days, levels) != (_NAME, _KEY, _DAYS, _LEVELS)):
        raise UserError(
            f"cannot make a CA as asked: {directory} holds one already, which stays as it is;"
            " move it away first, or name another home"
        )
    if made:
        plan = Plan(name=name, key=key, days=days, levels=levels, constrain=tuple(constrain or ()))
        authority = Authority.create(directory, plan, passphrase=ca_passphrase(passphrase_file))
    else:
        authority = open_authority(home, passphrase_file)
    if as_json:
        print_json({"schema": 1, "made": made, "directory": str(directory), **_facts(authority)})
        return
    typer.echo(f"{'made' if made else 'already there'}: {authority.name} in {directory}")
    typer.echo(f"valid until {authority.not_after:%Y-%m-%d}; hand it out with: {_hand_out(home)}")


@app.command("root")
def root(
    home: Home = None,
    out: Annotated[Path | None, typer.Option(help="The file to write (default: standard output).")] = None,
    form: Annotated[str, typer.Option("--format", help="pem or der.")] = "pem",
    overwrite: Overwrite = False,
    preset: Annotated[
        str | None,
        typer.Option(help="That of `proxy --preset NAME`; made if it is not there.", show_default=False),
    ] = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Write the root certificate: what a client must trust to be let through."""
    from countersign.errors import UserError

    if form not in {"pem", "der"}:
        raise UserError(f"--format takes pem or der, got {form!r}")
    authority = _preset_authority(home, preset, passphrase_file) or open_authority(home, passphrase_file)
    data = authority.root_pem if form == "pem" else authority.root.der
    if out is not None and str(out) != "-":
        write_out(data, out, overwrite=overwrite, home=home, public=True)
    if as_json:
        print_json({"schema": 1, "file": str(out) if out else None, "root": authority.root.facts.to_json()})
    elif out is None or str(out) == "-":
        write_out(data, None, overwrite=False, home=home)
    else:
        typer.echo(f"{out}: {authority.name}, valid until {authority.not_after:%Y-%m-%d}")


def _preset_authority(home: Path | None, name: str | None, passphrase_file: Path | None) -> Authority | None:
    """The CA of a preset that has one of its own."""
    from countersign.cli.inspecting import find_preset, preset_authority

    preset = None if name is None else find_preset(name)
    if preset is None or not any(preset.authority.changed_fields()):
        return None
    return preset_authority(home_of(home), preset, ca_passphrase(passphrase_file))


@app.command("rotate")
def rotate(
    what: Annotated[str, typer.Argument(metavar="intermediate|root", help="What is made anew.")],
    home: Home = None,
    overlap: Annotated[
        int, typer.Option(min=0, max=36_500, help="Days for which the old one counts as good beside the new one.")
    ] = 14,
    same_key: Annotated[bool, typer.Option("--same-key", help="A new intermediate for the same key.")] = False,
    same_name: Annotated[bool, typer.Option("--same-name", help="A new intermediate under the same name.")] = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Put a new intermediate, or a new root and all below it, in force; the old one is kept and marked.

    A new root is cross-signed by the old one while both are good. What was issued before stays valid.
    """
    from countersign.errors import UserError

    if what not in {"intermediate", "root"}:
        leaf = "; leaves are made as they are needed"
        raise UserError(f"cannot rotate {what!r}: expected intermediate or root{leaf if what == 'leaf' else ''}")
    passphrase = ca_passphrase(passphrase_file)
    authority = open_authority(home, passphrase=passphrase)
    made = authority.rotate(
        "root" if what == "root" else "intermediate",
        overlap=timedelta(days=overlap),
        same_key=same_key,
        same_name=same_name,
        passphrase=passphrase,
    )
    old, new = (each.root if what == "root" else each.issuer for each in (authority, made))
    if as_json:
        until = f"{datetime.now(UTC) + timedelta(days=overlap):%Y-%m-%dT%H:%M:%SZ}"
        document = {"rotated": what, "old": old.facts.to_json(), "new": new.facts.to_json(), "overlap_until": until}
        print_json({"schema": 1, **document, **_facts(made)})
        return
    typer.echo(f"old: {old.facts.subject}, kept")
    typer.echo(f"new: {new.facts.subject}, valid until {new.facts.not_after}")
    if what == "root":
        typer.echo(f"hand the new root out with: {_hand_out(home)}")
    typer.echo("a `ca responder` that is running follows; proxies read it when they start again")


app.command("issue")(ca_issue.issue)
app.command("sign")(ca_issue.sign)
app.command("csr", hidden=True)(ca_issue.sign)
app.command("revoke")(ca_responder.revoke)
app.command("responder")(ca_responder.responder)
app.command("trust")(ca_trust.trust)
app.add_typer(ca_keystore.app, name="keystore")
app.command("split")(ca_files.split)
app.command("verify")(ca_files.verify)


def _hand_out(home: Path | None) -> str:
    elsewhere = f" --home {shlex.quote(str(home))}" if home is not None and home != default_home() else ""
    return f"countersign ca root{elsewhere} --out root.pem"


def _facts(authority: Authority) -> dict[str, Any]:
    from countersign.recorder.certificates import read_certificate

    return {"certificates": [read_certificate(der).to_json() for der in (*authority.chain, authority.root.der)]}
