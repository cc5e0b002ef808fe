"""``countersign export``: recordings in a form that other tools read, and ``countersign import``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from countersign.cli.common import Home, Overwrite, StoreUrl, open_store, write_out
from countersign.errors import AnswerIsNo, UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    from countersign.recorder.recording import Recording

FORMS = ("pcapng", "json", "jsonl", "pem", "keylog", "text", "html")


def export(
    recording_ids: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ID]...",
            help="Ids or unambiguous beginnings of them, labels, `last` (the default) or `last~1`.",
            show_default=False,
        ),
    ] = None,
    home: Home = None,
    store: StoreUrl = None,
    form: Annotated[str, typer.Option("--format", "-f", help=f"One of {', '.join(FORMS)}.")] = "pcapng",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The file (default: standard output).")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write recordings as pcapng (for Wireshark and tshark), JSON, JSON lines, PEM chains, key log, text or HTML."""
    ids = recording_ids or ["last"]
    if form not in FORMS:
        raise UserError(f"--format takes one of {', '.join(FORMS)}; got {form!r}")
    if form == "json" and len(ids) > 1:
        raise UserError(f"--format json holds one recording, not {len(ids)}; --format jsonl holds any number")
    if form == "html" and len(ids) > 1:
        raise UserError(f"--format html holds one recording, not {len(ids)}; `countersign diff --html` holds two")
    if out is None and form == "pcapng" and sys.stdout.isatty():
        raise UserError("a pcapng file is not for a terminal: give --out FILE, or a pipe")
    with open_store(home, store) as kept:
        exported, missing = _all(kept.get, ids, form)
    if exported:
        data = (b"\n" if form == "text" else b"").join(exported.values())
        write_out(data, out, overwrite=overwrite, home=home, store=store)
        if out is not None and str(out) != "-":
            which = f"recording {next(iter(exported))}" if len(exported) == 1 else f"{len(exported)} recordings"
            typer.echo(f"{out}: {form}, {len(data)} bytes, {which}")
    for why in missing:
        typer.echo(f"countersign: {why}", err=True)
    if missing:
        raise typer.Exit(missing[0].exit_code)


def _all(get: Callable[[str], Recording], ids: list[str], form: str) -> tuple[dict[str, bytes], list[AnswerIsNo]]:
    """What goes into the file, by the id, and why some of them have nothing to give (no secrets, no chain)."""
    exported: dict[str, bytes] = {}
    missing: dict[str, AnswerIsNo] = {}
    for recording in map(get, ids):
        if recording.id not in exported and recording.id not in missing:
            try:
                exported[recording.id] = _data(recording, form)
            except AnswerIsNo as why:
                missing[recording.id] = why
    return exported, list(missing.values())


def _data(recording: Recording, form: str) -> bytes:
    if form == "pcapng":
        from countersign.recorder.files.pcapng import export_pcapng

        return export_pcapng(recording)
    if form in {"json", "jsonl"}:
        from countersign.recorder.recording import to_json

        indent = 2 if form == "json" else None
        return (json.dumps(to_json(recording), indent=indent, ensure_ascii=True) + "\n").encode("ascii")
    if form == "pem":
        from countersign.recorder.files.pem import export_pem

        return export_pem(recording).encode("utf-8")
    if form == "keylog":
        from countersign.recorder.files.keylog import export_keylog

        return export_keylog(recording).encode("ascii")
    if form == "html":
        from countersign.findings.diagnosing import diagnose
        from countersign.findings.pages import recording_page

        return recording_page(recording, diagnose(recording))
    from countersign.recorder.files.ladder import render_ladder

    return render_ladder(recording, width=120).encode("utf-8")
