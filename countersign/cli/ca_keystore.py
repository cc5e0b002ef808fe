"""``countersign ca keystore``: what is in key stores, one type made of another, and roots put into a trust store."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from countersign.cli.ca_passwords import KeyPasswordFile, StorePassword, StorePasswordFile, check_length, read_password
from countersign.cli.common import Json, Overwrite, check_not_ours, naming_overwrite, print_json
from countersign.errors import UserError
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from countersign.ca.stores import Added, Entry, Form, Store, StoreType

app = typer.Typer(
    help="Key stores of every type: list, show, convert, add to.", no_args_is_help=True, rich_markup_mode=None
)

_TYPES = ("pem", "der", "pkcs7", "pkcs12", "jks", "jceks", "bcfks")

StoreFile = Annotated[Path, typer.Argument(metavar="FILE", help="A key store; its type is found from its bytes.")]
Alias = Annotated[
    list[str] | None, typer.Option("--alias", help="Only this entry; may be repeated.", show_default=False)
]


@app.command("list")
def list_(
    file: StoreFile,
    store_password: StorePassword = None,
    store_password_file: StorePasswordFile = None,
    as_json: Json = False,
) -> None:
    """List the entries of a key store: alias, kind, date, and whose certificate."""
    from countersign.ca.stores import load_store

    store = load_store(file, read_password(store_password_file, store_password), open_keys=False)
    if as_json:
        _json(file, store)
        return
    typer.echo(_headline(file, store))
    for entry in store.entries:
        typer.echo(f"  {_line(entry)}")


@app.command("show")
def show(
    file: StoreFile,
    alias: Alias = None,
    store_password: StorePassword = None,
    store_password_file: StorePasswordFile = None,
    key_password_file: KeyPasswordFile = None,
    as_json: Json = False,
) -> None:
    """Show entries with their chains, and what a client would stumble over. Exits with 1 if there is such a thing."""
    from dataclasses import replace

    from countersign.ca.stores import load_store, problems_of

    store = load_store(
        file,
        read_password(store_password_file, store_password),
        key_password=read_password(key_password_file, what="--key-password-file"),
    )
    if alias:
        store = replace(store, entries=tuple(store.entry(each) for each in alias))
    problems = problems_of(store, datetime.now(UTC))
    if as_json:
        _json(file, store)
    else:
        _print(file, store, problems)
    if problems:
        raise typer.Exit(1)


def _json(file: Path, store: Store) -> None:
    from countersign.ca.stores import describe_store

    print_json({"schema": 1, "file": str(file), **describe_store(store, datetime.now(UTC))})


def _headline(file: Path, store: Store) -> str:
    count = len(store.entries)
    entries = "no entries" if not count else "1 entry" if count == 1 else f"{count} entries"
    guarded = "digest right" if store.verified else "no digest checked"
    return f"{printable(str(file))}: {store.kind.label}, {entries}, {guarded}"


def _line(entry: Entry) -> str:
    from countersign.ca.stores.describe import describe_entry

    told = describe_entry(entry)
    certificates = told["certificates"]
    since = f", since {told['created']}" if told["created"] else ""
    about = f": {certificates[0]['subject']}" if certificates else ""
    chain = f" (chain of {len(certificates)})" if told["kind"] == "key" else ""
    return f"{printable(entry.alias)}  {told['kind'].replace('-', ' ')}{chain}{since}{about}"


def _print(file: Path, store: Store, problems: tuple[str, ...]) -> None:
    from countersign.ca.stores.describe import describe_entry

    typer.echo(_headline(file, store))
    for entry in store.entries:
        typer.echo(f"\n{_line(entry)}")
        for number, facts in enumerate(describe_entry(entry)["certificates"]):
            typer.echo(f"  {number} {facts['subject']}")
            typer.echo(
                f"    issued by {facts['issuer']}, {facts['key']}, {facts['not_before']} to {facts['not_after']}"
            )
            typer.echo(f"    SHA-256 {facts['sha256']}")
            if facts["san"]:
                typer.echo(f"    for {', '.join(facts['san'][:8])}")
            if facts["extended_key_usage"]:
                typer.echo(f"    to be used for {', '.join(facts['extended_key_usage'])}")
    for note in store.notes:
        typer.echo(f"\nnote: {note}")
    for problem in problems:
        typer.echo(f"\nproblem: {problem}")


@app.command("convert")
def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A key store; its type is found from its bytes.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write.")],
    to: Annotated[str, typer.Option("--to", "--type", help=f"One of {', '.join(_TYPES)}.")],
    alias: Alias = None,
    store_password: StorePassword = None,
    store_password_file: StorePasswordFile = None,
    key_password_file: KeyPasswordFile = None,
    to_password_file: Annotated[
        Path | None,
        typer.Option(
            "--to-password-file", help="The new store's password (default: the old one's).", show_default=False
        ),
    ] = None,
    legacy: Annotated[bool, typer.Option("--legacy", help="PKCS #12 with RC2 and 3DES, as Java 8 writes it.")] = False,
    no_password: Annotated[
        bool, typer.Option("--no-password", help="PKCS #12 or PEM without any password; PEM keys then are in clear.")
    ] = False,
    scrypt: Annotated[bool, typer.Option("--scrypt", help="BCFKS with scrypt.")] = False,
    pem: Annotated[bool, typer.Option("--pem", help="PKCS #7 as PEM.")] = False,
    reorder: Annotated[bool, typer.Option("--reorder", help="Put chains in order instead of refusing them.")] = False,
    certificates_only: Annotated[
        bool, typer.Option("--certificates-only", help="Every certificate as an entry of its own, and no key.")
    ] = False,
    drop_secret_keys: Annotated[
        bool, typer.Option("--drop-secret-keys", help="Leave out secret keys, which only their own type can hold.")
    ] = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Write a key store as another type: keys, chains, trusted certificates, aliases and dates."""
    from countersign.ca.stores import KeyEntry, SecretEntry, StoreType, entries_for, load_store, write_store
    from countersign.recorder.private_files import write_private, write_public

    if to not in _TYPES:
        raise UserError(f"--to takes one of {', '.join(_TYPES)}; got {to!r}")
    kind = StoreType(to)
    form = _form(kind, legacy=legacy, no_password=no_password, scrypt=scrypt, pem=pem)
    password = read_password(store_password_file, store_password)
    new_password = password if to_password_file is None else read_password(to_password_file, what="--to-password-file")
    if no_password:
        if to_password_file is not None:
            raise UserError("--no-password and --to-password-file say opposite things: give one")
        new_password = None
    check_length(to, new_password)
    key_password = read_password(key_password_file, what="--key-password-file")
    store = load_store(source, password, key_password=key_password, open_keys=not certificates_only)
    entries = entries_for(
        store,
        kind,
        aliases=alias or (),
        reorder=reorder,
        certificates_only=certificates_only,
        drop_secret_keys=drop_secret_keys,
        same_password=new_password == password,
    )
    data = write_store(kind, entries, new_password, form=form, armour=pem)
    check_not_ours(target)
    with naming_overwrite():
        if any(isinstance(entry, KeyEntry | SecretEntry) for entry in entries):
            write_private(target, data, overwrite=overwrite, allow_sticky=True)
        else:
            write_public(target, data, overwrite=overwrite)
    made = load_store(target, new_password, open_keys=False)
    if as_json:
        _json(target, made)
        return
    typer.echo(_headline(target, made))
    for line in _lost(store, made):
        typer.echo(f"countersign: {line}", err=True)


def _form(kind: StoreType, *, legacy: bool, no_password: bool, scrypt: bool, pem: bool) -> Form | None:
    """The options that belong to one type each."""
    from countersign.ca.stores import CLEAR, LEGACY, SCRYPT, StoreType

    for given, flag, types in (
        (legacy, "--legacy", (StoreType.PKCS12,)),
        (no_password, "--no-password", (StoreType.PKCS12, StoreType.PEM)),
        (scrypt, "--scrypt", (StoreType.BCFKS,)),
        (pem, "--pem", (StoreType.PKCS7,)),
    ):
        if given and kind not in types:
            raise UserError(f"{flag} is for --to {' and --to '.join(types)}, not {kind.value}")
    if legacy and no_password:
        raise UserError("--legacy and --no-password say opposite things: give one")
    return LEGACY if legacy else CLEAR if no_password and kind is StoreType.PKCS12 else SCRYPT if scrypt else None


def _lost(before: Store, after: Store) -> list[str]:
    """What the new type has no place for, in sentences."""
    from countersign.ca.stores import StoreType

    lost = []
    if after.kind in {StoreType.PEM, StoreType.DER, StoreType.PKCS7} and any(each.created for each in before.entries):
        lost.append(f"{after.kind.label} holds no dates: when entries were made is not in the new file")
    if after.kind in {StoreType.DER, StoreType.PKCS7}:
        lost.append(f"{after.kind.label} holds no aliases")
    return lost


@app.command("add")
def add(
    certificate: Annotated[Path, typer.Argument(metavar="CERT", help="One or more certificates (PEM, DER, PKCS #7).")],
    into: Annotated[Path, typer.Option("--into", help="The store to add to: a JVM's cacerts, a PEM bundle, ...")],
    alias: Annotated[
        str | None, typer.Option(help="What its entry is called (default: its common name).", show_default=False)
    ] = None,
    backup: Annotated[bool, typer.Option("--backup", help="Keep a dated copy of the store beside it.")] = False,
    store_password: StorePassword = None,
    store_password_file: StorePasswordFile = None,
    as_json: Json = False,
) -> None:
    """Add certificates to a trust store as trusted, in one step, its owner and mode kept; say what was there before.

    A certificate that is trusted already is not added again (exit code 1).
    """
    from countersign.ca.stores import add_to_file
    from countersign.ca.verify import roots_of

    password = read_password(store_password_file, store_password)
    added = add_to_file(into, roots_of(certificate, None), password, alias=alias, backup=backup)
    if as_json:
        print_json({"schema": 1, **_added(added)})
        return
    before = added.before
    typer.echo(f"before: {_headline(added.path, before)}")
    if added.backup:
        typer.echo(f"backup: {printable(str(added.backup))}")
    for entry in added.addition.added:
        typer.echo(f"added: {_line(entry)}")
    for entry in added.addition.present:
        typer.echo(f"there already: {_line(entry)}")
    for note in _doubts(added):
        typer.echo(f"countersign: {note}", err=True)
    typer.echo("programs that are running read it when they start again")


def _added(added: Added) -> dict[str, Any]:
    from countersign.ca.stores.describe import describe_entry

    return {
        "file": str(added.path),
        "type": added.before.kind.value,
        "backup": str(added.backup) if added.backup else None,
        "entries_before": len(added.before.entries),
        "added": [describe_entry(entry) for entry in added.addition.added],
        "there_already": [describe_entry(entry) for entry in added.addition.present],
        "same_name_before": [describe_entry(entry) for entry in added.addition.namesakes],
        "notes": _doubts(added),
    }


def _doubts(added: Added) -> list[str]:
    """What may not be what was meant: a leaf in place of its root, an old one of the same name, one that has
    expired.
    """
    from countersign.recorder.certificates import read_certificate

    notes = []
    for entry in added.addition.added:
        facts = read_certificate(entry.certificate)
        if not facts.is_ca:
            notes.append(
                f"'{facts.subject}' is no CA certificate: the next one that replaces it will not be trusted; "
                f"import the root behind it ('{facts.issuer}') instead"
            )
        if facts.valid_at(datetime.now(UTC)) is False:
            notes.append(f"'{facts.subject}' is valid from {facts.not_before} to {facts.not_after} only")
    for entry in added.addition.namesakes:
        facts = read_certificate(entry.certificate)
        notes.append(
            f"another certificate of the same name stays: '{printable(entry.alias)}', valid until {facts.not_after}"
        )
    return notes
