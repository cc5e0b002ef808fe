"""Puts the commands together, reads the configuration and turns errors into one line and an exit code.

A value has one of three origins: a flag, a variable, ``countersign.toml``. What is wrong with a flag is said of the
flag. What is wrong with a value that nobody typed is said of the variable, or of the file and the key in it: our own
errors name the flag that would say the same, and where the value stands is put behind them.
"""

from __future__ import annotations

import difflib
import re
import sys
import tomllib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from countersign.cli import (
    bundle,
    ca,
    ctl,
    demo,
    diagnose,
    diff,
    doctor,
    explain,
    export,
    fixcheck,
    import_,
    knock,
    lab,
    ls,
    probe,
    proxy,
    prune,
    record,
    run as run_,
    scenario,
    show,
)
from countersign.cli.common import default_home
from countersign.cli.streams import ReaderGone
from countersign.errors import CountersignError, UserError
from countersign.recorder.private_files import FileFault, read_regular

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_Command = TyperCommand | TyperGroup
_Parameter = TyperOption | TyperArgument

_CONFIGURATION = "countersign.toml"
_CONFIGURATION_AT_MOST = 1 << 20
_ORIGINS = "countersign.origins"  # in the context: where the value of a flag that nobody typed stands


class _Commands(TyperGroup):
    """All commands. ``ctx`` is typer's context, here and below; its class has no public name."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            origin = _origin(error.param, error.ctx) if isinstance(error.param, _Parameter) else None
            if origin is None:
                raise
            raise UserError(f"cannot use {origin}: {error.message[:1].lower()}{error.message[1:]}") from None
        except UserError as error:
            for flag, origin in ctx.meta.get(_ORIGINS, {}).items():
                if re.search(rf"(?<![\w-]){re.escape(flag)}(?![\w-])", str(error)):
                    error.add_note(f"{flag} comes from {origin}")
            raise


app = typer.Typer(
    name="countersign",
    help="Stand between a TLS client and its target; record every handshake message of both legs; say who broke it.",
    cls=_Commands,
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
app.command("diff")(diff.diff)
app.command("diagnose")(diagnose.diagnose)
app.command("explain")(explain.explain)
app.command("probe")(probe.probe)
app.command("compare")(probe.compare)
app.command("knock")(knock.knock)
app.command("run", cls=run_.ClientCommand)(run_.run)
app.command("matrix", cls=run_.ClientCommand)(run_.matrix)
app.command("record", cls=run_.ClientCommand)(record.record)
app.command("fixcheck")(fixcheck.fixcheck)
app.command("bundle")(bundle.bundle)
app.command("doctor")(doctor.doctor)
app.command("export")(export.export)
app.command("import")(import_.import_)
app.command("prune")(prune.prune)
app.add_typer(ca.app, name="ca")
app.add_typer(scenario.app, name="scenario")
app.add_typer(ctl.app, name="ctl")
app.add_typer(lab.app, name="lab")


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


def command_line() -> TyperGroup:
    """All commands, each option with its variable."""
    command = typer.main.get_command(app)
    assert isinstance(command, TyperGroup)
    _prepare(command, "COUNTERSIGN")
    return command


def run() -> None:
    """The command line's way in; ends the process with the exit code."""
    try:
        command = command_line()
        found = _configuration()
        settings = _checked(found[1], command, found[0], "") if found else {}
        command(default_map=settings, obj=found[0] if found else None)
    except ReaderGone as gone:
        sys.exit(gone.exit_code)
    except CountersignError as error:
        notes = getattr(error, "__notes__", None)
        typer.echo(f"countersign: {error}" + (f" ({'; '.join(notes)})" if notes else ""), err=True)
        sys.exit(error.exit_code)


# -- options -----------------------------------------------------------------------------------------------------


def _parameters(command: _Command) -> Iterator[_Parameter]:
    return (parameter for parameter in command.params if isinstance(parameter, _Parameter))


def _commands(command: _Command) -> dict[str, _Command]:
    inner = command.commands if isinstance(command, TyperGroup) else {}
    return {name: each for name, each in inner.items() if isinstance(each, _Command)}


def _flag(parameter: _Parameter) -> str:
    """``--format``; arguments go by their own name, and so does what has no long form."""
    return next((name for name in parameter.opts if name.startswith("--")), f"--{parameter.name}")


def _option(parameter: _Parameter) -> str:
    """What the user calls it elsewhere: ``format`` of ``--format``."""
    return _flag(parameter)[2:].replace("-", "_")


def _prepare(command: _Command, prefix: str) -> None:
    """Each option's variable is called as the option is, ``COUNTERSIGN_EXPORT_FORMAT``, and each value is looked at.

    ``--version`` has no variable: images set a ``COUNTERSIGN_VERSION`` for their own ends.
    """
    for parameter in _parameters(command):
        given = isinstance(parameter, TyperOption) and parameter.name not in {"version", "help", "as_json"}
        if parameter.envvar is None and given:
            parameter.envvar = f"{prefix}_{_option(parameter).upper()}"
        if parameter.callback is None:
            parameter.callback = partial(_looked_at, parameter)
    for name, inner in _commands(command).items():
        _prepare(inner, f"{prefix}_{name.replace('-', '_').upper()}")


def _looked_at(parameter: _Parameter, ctx: Any, _same_parameter: object, value: object) -> object:
    """Note where the value stands, and refuse what no option can take: text that is none, a name with a NUL byte."""
    origin = _origin(parameter, ctx)
    what = _flag(parameter) if isinstance(parameter, TyperOption) else parameter.metavar or parameter.name
    if origin is not None:
        ctx.meta.setdefault(_ORIGINS, {})[what] = origin
    for text in value if isinstance(value, list) else [value]:
        if isinstance(text, str) and not _is_text(text):
            raise UserError(f"cannot use {origin or what}: {text!a} is not UTF-8 text")
        if isinstance(text, str | Path) and "\0" in str(text):
            raise UserError(f"cannot use {origin or what}: {str(text)!a} has a NUL character in it")
    return value


def _is_text(text: str) -> bool:
    """Bytes of a command line that are no UTF-8 come as lone surrogates (PEP 383)."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _origin(parameter: _Parameter, ctx: Any) -> str | None:
    """Where the value was found; ``None`` for what was typed and for defaults."""
    source = ctx.get_parameter_source(parameter.name)
    match source.name if source is not None else None:
        case "ENVIRONMENT":
            return str(parameter.envvar)
        case "DEFAULT_MAP":
            return f"{'.'.join((*_path(ctx), _option(parameter)))} in {ctx.find_root().obj}"
    return None


def _path(ctx: Any) -> list[str]:
    """The command's name, behind those of the groups that it is in."""
    return [] if ctx.parent is None else [*_path(ctx.parent), ctx.info_name]


# -- the configuration -------------------------------------------------------------------------------------------


def _configuration() -> tuple[Path, dict[str, Any]] | None:
    """``countersign.toml``: where it is and what it holds, if there is one."""
    for path in _places():
        try:
            data = read_regular(path, at_most=_CONFIGURATION_AT_MOST)
            if data is not None:
                return path, tomllib.loads(data.decode("utf-8"))
        except FileFault as fault:
            raise UserError(str(fault)) from None
        except ValueError as error:
            raise UserError(f"cannot read {path}: {error}") from None
        except RecursionError:
            raise UserError(f"cannot read {path}: it is nested too deeply") from None
    return None


def _places() -> Iterable[Path]:
    try:
        yield Path.cwd() / _CONFIGURATION
    except FileNotFoundError:  # the working directory was deleted
        pass
    yield default_home() / _CONFIGURATION


def _checked(document: dict[str, Any], command: _Command, path: Path, table: str) -> dict[str, Any]:
    """A table a command, a key an option, ``-`` for ``_`` undone: the command line's defaults.

    Raises :class:`UserError` for a key that no option has.
    """
    commands = _commands(command)
    options = {_option(parameter): parameter for parameter in _parameters(command)}
    result: dict[str, Any] = {}
    for key, value in document.items():
        name = key.replace("-", "_")
        if isinstance(value, dict) and key in commands:
            result[key] = _checked(value, commands[key], path, f"{table}{key}.")
        elif not isinstance(value, dict) and name in options:
            several = getattr(options[name], "multiple", False) and isinstance(value, str)
            result[options[name].name] = [value] if several else value
        elif key in commands:
            raise UserError(f"cannot use {path}: {table}{key} is a command; its settings go under [{table}{key}]")
        else:
            near = difflib.get_close_matches(key, [*commands, *options], n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UserError(f"cannot use {path}: there is no {table}{key}{hint}")
    return result
