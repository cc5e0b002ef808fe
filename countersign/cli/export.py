"""``countersign export``: one recording in a form that other tools read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from countersign.cli.common import Home, RecordingId, StoreUrl, open_store, write_out
from countersign.errors import UserError

if TYPE_CHECKING:
    from countersign.recorder.recording import Recording

FORMS = ("pcapng", "json", "pem", "keylog", "text")


def export(
    recording_id: RecordingId = "last",
    home: Home = None,
    store: StoreUrl = None,
    form: Annotated[str, typer.Option("--format", "-f", help="pcapng, json, pem, keylog or text.")] = "pcapng",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The file (default: standard output).")] = None,
) -> None:
    """Write one recording as pcapng (for Wireshark and tshark), JSON, PEM chain, key log or text."""
    if form not in FORMS:
        raise UserError(f"--format takes one of {', '.join(FORMS)}; got {form!r}")
    with open_store(home, store) as kept:
        recording = kept.get(recording_id)
    data = _data(recording, form)
    if out is None and form == "pcapng" and _to_terminal():
        raise UserError("a pcapng file is not for a terminal: give --out FILE, or a pipe")
    write_out(data, out)
    if out is not None and str(out) != "-":
        typer.echo(f"{out}: {form}, {len(data)} bytes, recording {recording.id}")


def _data(recording: Recording, form: str) -> bytes:
    if form == "pcapng":
        from countersign.recorder.files.pcapng import export_pcapng

        return export_pcapng(recording)
    if form == "json":
        from countersign.recorder.recording import to_json

        return (json.dumps(to_json(recording), indent=2, ensure_ascii=True) + "\n").encode("ascii")
    if form == "pem":
        from countersign.recorder.files.pem import export_pem

        return export_pem(recording).encode("utf-8")
    if form == "keylog":
        from countersign.recorder.files.keylog import export_keylog

        return export_keylog(recording).encode("ascii")
    from countersign.recorder.files.ladder import render_ladder

    return render_ladder(recording, width=120).encode("utf-8")


def _to_terminal() -> bool:
    import sys

    return sys.stdout.isatty()
