"""``countersign ca split`` and ``ca verify``: files of keys and certificates taken apart and judged."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from countersign.cli.ca_passwords import KeyPasswordFile, StorePassword, StorePasswordFile, read_password
from countersign.cli.common import Json, check_not_ours, naming_overwrite, print_json
from countersign.cli.values import parse_moment
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from countersign.ca.verify import Verdict


def split(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="PEM, DER, PKCS #12, JKS, JCEKS, BCFKS or PKCS #7.")],
    out_dir: Annotated[Path, typer.Option("--out-dir", help="Where the files go; made if it is not there.")],
    alias: Annotated[str | None, typer.Option(help="Which key, where there are several.", show_default=False)] = None,
    clear_key: Annotated[
        bool, typer.Option("--clear-key", help="Write the key unencrypted (default: as protected as it was).")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
    store_password: StorePassword = None,
    store_password_file: StorePasswordFile = None,
    key_password_file: KeyPasswordFile = None,
    as_json: Json = False,
) -> None:
    """Split a file into key-and-leaf.pem, leaf.pem and ca-chain.pem (intermediates, then the root), in order."""
    from countersign.ca.split import CHAIN, KEY_AND_LEAF, LEAF, split_file, write_split
    from countersign.recorder.certificates import read_certificate

    made = split_file(
        file,
        read_password(store_password_file, store_password),
        key_password=read_password(key_password_file, what="--key-password-file"),
        alias=alias,
        clear_key=clear_key,
    )
    for name in made.files():
        check_not_ours(out_dir / name)
    with naming_overwrite("another --out-dir"):
        written = write_split(made, out_dir, overwrite=overwrite)
    if as_json:
        print_json(
            {
                "schema": 1,
                "files": {name: str(path) for name, path in written.items()},
                "key_encrypted": made.key_encrypted if made.key_pem is not None else None,
                "leaf": read_certificate(made.leaf).to_json(),
                "chain": [read_certificate(der).to_json() for der in made.chain],
                "notes": list(made.notes),
            }
        )
        return
    leaf = f"'{read_certificate(made.leaf).subject}'"
    held = {
        KEY_AND_LEAF: f"key ({'encrypted' if made.key_encrypted else 'not encrypted'}) and {leaf}",
        LEAF: leaf,
        CHAIN: ", then ".join(f"'{read_certificate(der).subject}'" for der in made.chain) or "no certificate",
    }
    for name, path in written.items():
        typer.echo(f"{printable(str(path))}: {held[name]}")
    for note in made.notes:
        typer.echo(f"countersign: {note}", err=True)


def verify(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="The certificate is the first in each file.")],
    ca_file: Annotated[
        list[Path] | None,
        typer.Option("--ca-file", help="Trusted roots (default: the system's); may be repeated.", show_default=False),
    ] = None,
    untrusted: Annotated[
        list[Path] | None, typer.Option("--untrusted", help="Intermediates; may be repeated.", show_default=False)
    ] = None,
    purpose: Annotated[
        str | None, typer.Option(help="client, server, or another of openssl's.", show_default=False)
    ] = None,
    hostname: Annotated[
        str | None, typer.Option(help="A host name or address that it has to be for.", show_default=False)
    ] = None,
    at: Annotated[
        str | None, typer.Option(help="At another time: 2027-01-01T00:00, or 7d ago.", show_default=False)
    ] = None,
    store_password: StorePassword = None,
    store_password_file: StorePasswordFile = None,
    as_json: Json = False,
) -> None:
    """Say what `openssl verify` says of certificates, why, and what to do; with the chain of their name hashes."""
    from countersign.ca.verify import certificates_of, roots_of, verify_leaf

    password = read_password(store_password_file, store_password)
    moment = parse_moment(at, what="--at") if at is not None else None
    roots = [der for path in ca_file for der in roots_of(path, password)] if ca_file else None
    between = [der for path in untrusted or () for der in certificates_of(path, password)]
    verdicts: list[tuple[Path, Verdict, int]] = []
    for path in files:
        leaf, *others = certificates_of(path, password)
        found = verify_leaf(leaf, roots=roots, untrusted=between, purpose=purpose, hostname=hostname, at=moment)
        verdicts.append((path, found, len(others)))
    if as_json:
        documents = [{"file": str(path), **found.to_json()} for path, found, _ in verdicts]
        print_json({"schema": 1, "ok": all(found.ok for _, found, _ in verdicts), "verdicts": documents})
    else:
        for path, found, more in verdicts:
            _tell(path, found, more)
    if not all(found.ok for _, found, _ in verdicts):
        raise typer.Exit(1)


def _tell(path: Path, verdict: Verdict, others: int) -> None:
    from countersign.recorder.certificates import read_certificate

    name = printable(str(path))
    if verdict.ok:
        typer.echo(f"{name}: OK")
    else:
        typer.echo(f"{name}: error {verdict.code} at {verdict.depth} depth: {verdict.reason}")
        about = read_certificate(verdict.about).subject if verdict.about else None
        if about or verdict.cure:
            typer.echo(f"  '{about}': {verdict.cure or 'see openssl-verification-options(1)'}")
    if verdict.hashes:
        typer.echo(f"  {verdict.hashes}")
    if others and not verdict.ok:
        typer.echo(f"  ({others} more in the file, not used: give it with --untrusted too)")
