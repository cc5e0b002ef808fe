"""``countersign diagnose``: what broke one session, the evidence, and the cure."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from countersign.cli.common import Home, Json, StoreUrl, open_store, print_json
from countersign.cli.import_ import read_keys

if TYPE_CHECKING:
    from countersign.recorder.recording import Recording
    from countersign.recorder.store import Store

_EARLIER = 20  # recordings of the same target that are looked at


def diagnose(
    what: Annotated[
        str,
        typer.Argument(
            metavar="ID|FILE|-", help="A recording as in `show`, or a capture, export or Java log (FILE#2: its second)."
        ),
    ] = "last",
    home: Home = None,
    store: StoreUrl = None,
    client: Annotated[
        str, typer.Option(help="Word the cure for: java, openssl, curl, python, node, go, dotnet or windows.")
    ] = "any",
    keylog: Annotated[
        list[Path] | None,
        typer.Option(help="A key log (SSLKEYLOGFILE) that opens a capture; may be repeated.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what broke a session and what to do, the cure first; exit code 1 when there is a cause."""
    from countersign.findings.diagnosing import diagnose as diagnosed
    from countersign.findings.diagnosing.showing import show
    from countersign.findings.subjects import find

    with open_store(home, store) as kept:
        recording = find(what, kept.get, keylog=read_keys(keylog or [])).recording
        diagnosis = diagnosed(recording, history=history_of(kept, recording), family=client)
    if as_json:
        print_json(diagnosis.to_json())
    else:
        typer.echo(show(diagnosis, width=shutil.get_terminal_size((120, 0)).columns), nl=False)
    if diagnosis.cause is not None:
        raise typer.Exit(1)


def history_of(store: Store, recording: Recording) -> list[Recording]:
    """Earlier recordings of the same target and name, newest first."""
    if recording.target is None:
        return []
    some = store.summaries(target=recording.target, limit=_EARLIER * 2)
    earlier = [one for one in some if one.started < recording.started and one.sni == recording.sni]
    return [store.get(one.id) for one in earlier[:_EARLIER]]
