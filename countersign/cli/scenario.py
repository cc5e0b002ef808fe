"""``countersign scenario``: what can go wrong on order: listed, shown, checked, described for editors."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from countersign.cli.common import (
    Home,
    Json,
    Overwrite,
    StoreUrl,
    default_home,
    open_store,
    print_json,
    write_out,
)
from countersign.cli.import_ import read_keys
from countersign.errors import AnswerIsNo, UserError
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from countersign.scenarios.catalogue import Catalogue
    from countersign.scenarios.model import Scenario

app = typer.Typer(
    help="Scenarios: list them, show one, check a file of your own, describe the form for an editor.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Directories = Annotated[
    list[Path] | None,
    typer.Option(
        "--scenarios",
        help="A directory of your own scenarios, beside HOME/scenarios; may be repeated.",
        show_default=False,
    ),
]
SetValues = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A value of a parameter; may be repeated.", show_default=False),
]


def known_scenarios(home: Path | None, directories: list[Path] | None) -> Catalogue:
    """The built-in ones, those in the home, and those in these directories, which stand before the others."""
    from countersign.scenarios.catalogue import catalogue

    for directory in directories or ():
        if not directory.is_dir():
            raise UserError(f"--scenarios: there is no directory {directory}")
    return catalogue(*(directories or ()), (home or default_home()) / "scenarios")


def parse_set(values: list[str] | None) -> dict[str, str]:
    """``NAME=VALUE`` each."""
    given = {}
    for text in values or ():
        name, found, value = text.partition("=")
        if not (found and name.strip()):
            raise UserError(f"--set takes NAME=VALUE, got {text!r}")
        given[name.strip()] = value
    return given


@app.command("ls")
def ls(
    home: Home = None,
    scenarios: Directories = None,
    select: Annotated[
        str, typer.Option(help="Only those that this fits, as 'family:chain and not id:missing-*'.", show_default=False)
    ] = "",
    as_json: Json = False,
) -> None:
    """List the scenarios."""
    from countersign.scenarios.selecting import select as selected

    found = selected(known_scenarios(home, scenarios), select)
    if as_json:
        print_json({"schema": 1, "scenarios": [_summary(each) for each in found]})
        return
    if not found:
        raise AnswerIsNo(f"--select {printable(select)!r} fits no scenario")
    widest = max(len(each.id) for each in found)
    family = ""
    for each in found:
        if each.family != family:
            family = each.family
            typer.secho(family, bold=True)
        typer.echo(f"  {each.id:{widest}}  {each.expect.right:6}  {printable(each.title)}")


@app.command("show")
def show(
    scenario: Annotated[str, typer.Argument(metavar="ID|FILE", help="A scenario, or several with + between them.")],
    home: Home = None,
    scenarios: Directories = None,
    set_: SetValues = None,
    as_json: Json = False,
) -> None:
    """Show one: what happens, where that is known from, what a right client does, and the file that it is."""
    from countersign.scenarios.reading import to_toml

    found = known_scenarios(home, scenarios).open(scenario, parse_set(set_))
    if as_json:
        print_json({"schema": 1, "scenario": {**_summary(found), **_table(found)}})
        return
    typer.secho(f"{found.id}: {printable(found.title)}", bold=True)
    for text in (
        found.story,
        f"A right client: {found.expect.right}" + (f", for {found.expect.why}" if found.expect.why else ""),
    ):
        if text:
            typer.echo(printable(text))
    sources = [source for source in found.sources if not re.fullmatch(r"R\d+", source)]  # rows of the requirements
    if sources:
        typer.echo(f"Known from: {printable(', '.join(sources))}")
    for name, parameter in found.parameters.items():
        typer.echo(f"--set {name}={parameter.default}  {printable(parameter.text)}")
    typer.echo()
    typer.echo(to_toml(found), nl=False)


@app.command("check")
def check(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files of your own.")],
    home: Home = None,
    scenarios: Directories = None,
    as_json: Json = False,
) -> None:
    """Say what is wrong with files of your own, each with its line."""
    from countersign.scenarios.reading import ScenarioError

    known = known_scenarios(home, scenarios)
    results: list[dict[str, Any]] = []
    for file in files:
        try:
            found = known.open(str(file if file.suffix == ".toml" else file.absolute()))
        except ScenarioError as wrong:
            results.append({"file": str(file), "right": False, "mistake": str(wrong)})
        else:
            results.append({"file": str(file), "right": True, "scenario": found.id, "title": found.title})
    bad = [each for each in results if not each["right"]]
    if as_json:
        print_json({"schema": 1, "files": results})
    else:
        for each in results:
            if each["right"]:
                typer.echo(f"{printable(each['file'])}: right ({each['scenario']}: {printable(each['title'])})")
            else:
                typer.echo(printable(each["mistake"]), err=True)
    if bad:
        raise typer.Exit(2)


@app.command("schema")
def schema(
    home: Home = None,
    out: Annotated[Path | None, typer.Option(help="Write it to this file.", show_default=False)] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,  # noqa: ARG001 - it is JSON in any case
) -> None:
    """Print the JSON Schema of scenario files, for editors that complete and check TOML."""
    import json

    from countersign.scenarios.schema import schema as made

    text = json.dumps(made(), indent=2, ensure_ascii=True) + "\n"
    write_out(text.encode(), out, overwrite=overwrite, home=home, public=True)


def _summary(scenario: Scenario) -> dict[str, Any]:
    return {
        "id": scenario.id,
        "family": scenario.family,
        "title": scenario.title,
        "story": scenario.story,
        "sources": list(scenario.sources),
        "right": scenario.expect.right,
        "waits": scenario.waits,
        "steps": len(scenario.steps),
        "parameters": {name: each.default for name, each in scenario.parameters.items()},
    }


def _table(scenario: Scenario) -> dict[str, Any]:
    from countersign.scenarios.reading import table_of

    return {"table": table_of(scenario)}


@app.command("from-recording")
def from_recording(
    recording: Annotated[
        str,
        typer.Argument(
            metavar="ID|FILE",
            help="A recording as in `show`, or a capture, export or Java log; ID:server is what the target did.",
        ),
    ],
    name: Annotated[str | None, typer.Option("--id", help="What the scenario is called.", show_default=False)] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The file (default: standard output).", show_default=False)
    ] = None,
    overwrite: Overwrite = False,
    home: Home = None,
    store: StoreUrl = None,
    keylog: Annotated[
        list[Path] | None, typer.Option(help="A key log that opens a capture; may be repeated.", show_default=False)
    ] = None,
) -> None:
    """Make a scenario that does what a recorded server did: its chain's shape, versions, requests, how it ended."""
    from countersign.findings.subjects import find
    from countersign.scenarios.reading import to_toml
    from countersign.scenarios.rebuilding import rebuild

    with open_store(home, store) as kept:
        subject = find(recording, kept.get, keylog=read_keys(keylog or []), broken=True)
    rebuilt = rebuild(subject.recording, role=subject.role, name=name)
    write_out(to_toml(rebuilt.scenario).encode(), out, overwrite=overwrite, home=home, store=store, public=True)
    if out is not None:
        typer.echo(f"wrote {printable(str(out))}: the scenario {rebuilt.scenario.id}")
    for note in rebuilt.notes:
        typer.echo(f"note: {printable(note, limit=400)}", err=True)
