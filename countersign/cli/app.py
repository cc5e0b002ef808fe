"""Puts the commands together, reads the configuration and turns errors into one line and an exit code."""

from __future__ import annotations

import difflib
import os
import sys
import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer

from countersign.cli import ca, demo, export, import_, ls, proxy, prune, show
from countersign.cli.common import default_home
from countersign.errors import CountersignError, UserError

app = typer.Typer(
    name="countersign",
    help="Stand between a TLS client and its target; record every handshake message of both legs; say who broke it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo")(demo.demo)
app.command("proxy")(proxy.proxy)
app.command("ls")(ls.ls)
app.command("show")(show.show)
app.command("export")(export.export)
app.command("import")(import_.import_)
app.command("prune")(prune.prune)
app.add_typer(ca.app, name="ca")


def _print_version(wanted: bool) -> None:
    if wanted:
        from countersign import __version__

        typer.echo(f"countersign {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    pass


def run() -> None:
    """The command line's way in; ends the process with the exit code."""
    try:
        command = typer.main.get_command(app)
        _name_variables(command, "COUNTERSIGN")
        command(default_map=_configuration(command))
    except CountersignError as error:
        typer.echo(f"countersign: {error}", err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # Whoever read our output has gone (`countersign ls | head`); nothing more can be said to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def _option(parameter: Any) -> str:
    """What the user calls it: ``format`` of ``--format``; arguments go by their own name."""
    long = next((name for name in parameter.opts if name.startswith("--")), f"--{parameter.name}")
    return str(long[2:].replace("-", "_"))


def _name_variables(command: Any, prefix: str) -> None:
    """Each option's variable is called as the option is: ``COUNTERSIGN_EXPORT_FORMAT``.

    ``--version`` has none: images set a ``COUNTERSIGN_VERSION`` for their own ends.
    """
    for parameter in command.params:
        given = parameter.param_type_name == "option" and parameter.name not in {"version", "help", "as_json"}
        if parameter.envvar is None and given:
            parameter.envvar = f"{prefix}_{_option(parameter).upper()}"
    for name, inner in getattr(command, "commands", {}).items():
        _name_variables(inner, f"{prefix}_{name.replace('-', '_').upper()}")


def _configuration(command: Any) -> dict[str, Any]:
    """``countersign.toml`` as the command line's defaults: a table a command, a key an option."""
    for folder in (Path.cwd(), default_home()):
        path = folder / "countersign.toml"
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read {path}: {error}") from None
        try:
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise UserError(f"cannot read {path}: {error}") from None
        return _checked(document, command, path, "")
    return {}


def _checked(document: dict[str, Any], command: Any, path: Path, table: str) -> dict[str, Any]:
    """The same with ``-`` for ``_`` undone. Raises :class:`UserError` for a key that no option has."""
    commands = getattr(command, "commands", {})
    options = {_option(parameter): parameter.name for parameter in command.params}
    result: dict[str, Any] = {}
    for key, value in document.items():
        name = key.replace("-", "_")
        if isinstance(value, dict) and key in commands:
            result[key] = _checked(value, commands[key], path, f"{table}{key}.")
        elif not isinstance(value, dict) and name in options:
            result[options[name]] = value
        else:
            near = difflib.get_close_matches(key, [*commands, *options], n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UserError(f"cannot use {path}: there is no {table}{key}{hint}")
    return result
