"""``countersign ca issue`` and ``ca sign``: certificates for keys made here, and for requests made elsewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args

import typer

from countersign.cli.ca_passwords import (
    PassphraseFile,
    StorePassword,
    StorePasswordFile,
    check_length,
    open_authority,
    read_password,
)
from countersign.cli.ca_responder import ResponderUrl, answered_for
from countersign.cli.common import Home, Json, Overwrite, print_json, write_out
from countersign.errors import UserError
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from countersign.ca import Minted
    from countersign.ca.issue import Purpose

_STORES = ("pem", "pkcs12", "jks", "jceks", "bcfks")
_SHORTEST_MODULUS = 2048
_HOST = re.compile(r"(?=.{1,253}$)[A-Za-z0-9*_:.-]+")  # a host name, a wildcard or an address

_FILE = re.compile(r"\.(pem|crt|cer|der|key|p7b|p12|pfx|jks|jceks|bcfks)$", re.IGNORECASE)  # none is a top-level domain

San = Annotated[
    list[str] | None, typer.Option("--san", help="A host name or address; may be repeated.", show_default=False)
]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="The file to write.", show_default=False)]


def issue(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", help="Host names or addresses; the first is its common name.")
    ],
    home: Home = None,
    eku: Annotated[str, typer.Option(help="What it is for: client, server, both or none.")] = "server",
    days: Annotated[int, typer.Option(min=1, max=36_500, help="How long it is valid.")] = 90,
    san: San = None,
    key_type: Annotated[str, typer.Option(help="ec:P-256, rsa:2048, ed25519, ...")] = "ec:P-256",
    store_type: Annotated[str, typer.Option(help=f"One of {', '.join(_STORES)}.")] = "pem",
    store_password: StorePassword = None,
    store_password_file: StorePasswordFile = None,
    alias: Annotated[
        str | None, typer.Option(help="What its entry is called (default: the first name).", show_default=False)
    ] = None,
    root: Annotated[
        bool | None,
        typer.Option("--root/--no-root", help="With the root in the chain (default: in key stores, not in PEM)."),
    ] = None,
    out: Out = None,
    overwrite: Overwrite = False,
    responder: ResponderUrl = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Make a key and a certificate for it, and write both with their chain to a key store.

    A client's name that is no host name (`mid server 1`) is its common name alone. PEM keys are encrypted if there is a
    password; PEM goes to standard output where no file is named.
    """
    from countersign.ca import issue as issue_certificate
    from countersign.ca.signer import pkcs8_der
    from countersign.ca.stores import KeyEntry, StoreType, write_store

    if store_type not in _STORES:
        raise UserError(f"--store-type takes one of {', '.join(_STORES)}; got {store_type!r}")
    if (out is None or str(out) == "-") and store_type != "pem":
        raise UserError(f"a {store_type} store is not for standard output: give --out FILE")
    password = read_password(store_password_file, store_password)
    check_length(store_type, password)
    authority = answered_for(open_authority(home, passphrase_file), responder)
    hosts = [name for name in (*names, *(san or ())) if _is_host(name, eku)]
    minted = issue_certificate(
        authority, *hosts, purpose=purpose_of(eku), common_name=names[0], key=key_type, days=days
    )
    with_root = root if root is not None else store_type != "pem"
    above = () if not with_root or authority.root.der in minted.chain else (authority.root.der,)
    key = minted.key if isinstance(minted.key, bytes) else pkcs8_der(minted.key)
    entry = KeyEntry(alias or names[0], (*minted.chain, *above), key)
    data = write_store(StoreType(store_type), [entry], password)
    to_file = out is not None and str(out) != "-"
    if to_file or not as_json:
        write_out(data, out, overwrite=overwrite, home=home)
    if as_json:
        where = {"file": str(out)} if to_file else {"file": None, "pem": data.decode("ascii")}
        print_json({"schema": 1, **where, "type": store_type, **_made(entry.chain)})
    elif to_file:
        typer.echo(f"{printable(str(out))}: {store_type}, {_sentence(minted)}, chain of {len(entry.chain)}")


def _is_host(name: str, eku: str) -> bool:
    if _FILE.search(name):
        raise UserError(f"{name!r} is a file's name and no host's: for a file to write, give --out {name}")
    if _HOST.fullmatch(name):
        return True
    if eku == "client":
        return False
    raise UserError(f"{name!r} is no host name or address; give it in its ASCII (xn--) form, or say --eku client")


def purpose_of(eku: str) -> Purpose:
    """``--eku`` as the library has it."""
    from countersign.ca.issue import Purpose

    known = get_args(Purpose)
    if eku not in known:
        raise UserError(f"--eku takes {', '.join(known)}; got {eku!r}")
    return cast("Purpose", eku)


def _made(chain: tuple[bytes, ...]) -> dict[str, Any]:
    from countersign.recorder.certificates import read_certificate

    return {"certificates": [read_certificate(der).to_json() for der in chain]}


def _sentence(minted: Minted) -> str:
    from countersign.recorder.certificates import read_certificate

    facts = read_certificate(minted.chain[0])
    purposes = ", ".join(facts.extended_key_usage) or "no extended key usage"
    return f"{facts.subject} ({purposes}), valid until {facts.not_after}"


def _weak(key: str | None) -> list[str]:
    """What most peers refuse (RFC 9325 4.4: not shorter than 2048 bits)."""
    kind, _, size = (key or "").partition(" ")
    if kind not in {"RSA", "RSA-PSS", "DSA"} or not size.isdigit() or int(size) >= _SHORTEST_MODULUS:
        return []
    return [f"the request's key is {key}, which many peers refuse; ask again with {_SHORTEST_MODULUS} bits or more"]


def sign(
    request: Annotated[Path, typer.Argument(metavar="CSR", help="What keytool -certreq or openssl req wrote.")],
    home: Home = None,
    eku: Annotated[str, typer.Option(help="What it is for: client, server, both or none.")] = "client",
    days: Annotated[int, typer.Option(min=1, max=36_500, help="How long it is valid.")] = 90,
    san: San = None,
    out: Out = None,
    overwrite: Overwrite = False,
    responder: ResponderUrl = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Sign a certificate request; the reply is its certificate with those above it, the root last, in one PEM file.

    Subject and names are those of the request (--san replaces the names). Take the reply with:
    keytool -importcert -alias NAME -keystore STORE -file REPLY
    """
    from countersign.ca.csr import RequestError, read_request, sign_request
    from countersign.recorder.certificates import read_certificate
    from countersign.recorder.private_files import read_regular

    data = read_regular(request, at_most=1 << 20)
    if data is None:
        raise UserError(f"cannot sign {printable(str(request))}: there is no such file")
    try:
        asked = read_request(data)
    except RequestError as wrong:
        raise RequestError(f"cannot sign {printable(str(request))}: {wrong}") from wrong
    authority = answered_for(open_authority(home, passphrase_file), responder)
    reply = sign_request(authority, asked, purpose=purpose_of(eku), names=tuple(san or ()), days=days)
    facts = read_certificate(reply.chain[0])
    notes = [*reply.notes, *_weak(facts.key)]
    if out is not None and str(out) != "-":
        write_out(reply.pem, out, overwrite=overwrite, home=home, public=True)
    if as_json:
        document = {"schema": 1, "file": str(out) if out else None, "pem": reply.pem.decode("ascii")}
        print_json({**document, **_made(reply.chain), "notes": notes})
        return
    for note in notes:
        typer.echo(f"countersign: {note}", err=True)
    if out is None or str(out) == "-":
        typer.echo(reply.pem.decode("ascii"), nl=False)
        return
    typer.echo(f"{printable(str(out))}: {facts.subject}, valid until {facts.not_after}, chain of {len(reply.chain)}")
