"""``countersign bundle``: one zip for a ticket."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated

import typer

from countersign.cli.common import Home, Overwrite, RecordingId, StoreUrl, home_of, open_store, write_out
from countersign.cli.diagnose import history_of
from countersign.errors import EnvironmentFault
from countersign.recorder.private_files import read_regular, write_private

_KEY = "pseudonyms.key"
_KEY_SIZE = 32


def bundle(
    recording_id: RecordingId = "last",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The file (default: ID.zip).", show_default=False)
    ] = None,
    redact: Annotated[bool, typer.Option("--redact", help="Give hosts, names and addresses pseudonyms.")] = False,
    home: Home = None,
    store: StoreUrl = None,
    overwrite: Overwrite = False,
) -> None:
    """Pack ladder, page, JSON, pcapng, chain and findings of one recording, without any secret."""
    from countersign.findings.bundling import Pseudonyms, bundle as bundled

    with open_store(home, store) as kept:
        recording = kept.get(recording_id)
        history = history_of(kept, recording)
    pseudonyms = Pseudonyms(_key(home_of(home))) if redact else None
    data = bundled(recording, history=history, pseudonyms=pseudonyms)
    place = out or Path(f"countersign-{recording.id}.zip")
    write_out(data, place, overwrite=overwrite, home=home, store=store)
    if str(place) != "-":
        changed = "" if pseudonyms is None else f", {sum(pseudonyms.counts.values())} names under pseudonyms"
        typer.echo(f"{place}: {len(data)} bytes, recording {recording.id}{changed}")


def _key(home: Path) -> bytes:
    """The home's key for pseudonyms, made when it is first needed."""
    path = home / _KEY
    found = read_regular(path, at_most=_KEY_SIZE * 2)
    if found is None:
        found = secrets.token_bytes(_KEY_SIZE)
        write_private(path, found)
    if len(found) != _KEY_SIZE:
        raise EnvironmentFault(
            f"cannot use {path}: it has {len(found)} bytes and not {_KEY_SIZE}; remove it to get a new one"
        )
    return found
