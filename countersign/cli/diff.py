"""``countersign diff``: what differs between two recordings, or between the two legs of one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from countersign.cli.common import Home, Json, Overwrite, StoreUrl, open_store, print_json, terminal_width, write_out
from countersign.cli.import_ import read_keys
from countersign.errors import UserError

Reference = Annotated[
    str,
    typer.Argument(
        help="An id or an unambiguous beginning of one, a label, `last`, `last~1`, or a file (FILE#2: its second "
        "recording); `:client`, `:server` or `:through` behind it names one leg.",
    ),
]


def diff(
    a: Reference,
    b: Reference,
    home: Home = None,
    store: StoreUrl = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD", help="A field that does not count, as it stands in []; may be repeated."),
    ] = None,
    keylog: Annotated[
        list[Path] | None,
        typer.Option(help="A key log (SSLKEYLOGFILE) that opens captures; may be repeated.", show_default=False),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the comparison as one HTML file.", show_default=False)
    ] = None,
    overwrite: Overwrite = False,
    brief: Annotated[bool, typer.Option("--brief", help="What matters, in sentences: no notes, no ladders.")] = False,
    as_json: Json = False,
) -> None:
    """Compare two recordings, message by message; exit code 1 when something differs that matters."""
    from countersign.findings.comparing import compare
    from countersign.findings.comparing.showing import show
    from countersign.findings.pages import comparison_page
    from countersign.findings.subjects import find

    if brief and as_json:
        raise UserError("--brief is about text, and --json has everything: give one of the two")
    keys = read_keys(keylog or [])
    with open_store(home, store) as kept:
        one, other = (find(reference, kept.get, keylog=keys) for reference in (a, b))
    comparison = compare(one, other, ignore=ignore or ())
    if html is not None:
        write_out(comparison_page(comparison), html, overwrite=overwrite, home=home, store=store)
    if as_json:
        print_json(comparison.to_json())
    else:
        typer.echo(show(comparison, width=terminal_width(), brief=brief), nl=False)
    if comparison.matters:
        raise typer.Exit(1)
