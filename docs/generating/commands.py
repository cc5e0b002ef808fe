"""The command line: each command with its options, as ``--help`` has them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from typer.core import TyperGroup, TyperOption

import countersign.cli
from countersign.cli.app import command_line
from docs.generating.writing import block, code, docstring, paragraph, section, table, ticked

if TYPE_CHECKING:
    from docutils import nodes

    from docs.generating.writing import Inline

_BRACKETS = re.compile(r"^(?P<help>.*?)(?:  \[(?P<extra>[^\[\]]*(?:\[[^\[\]]*\][^\[\]]*)*)\])?$", re.DOTALL)


def made() -> list[nodes.Element]:
    command = command_line()
    return _sections(command, command.context_class(command, info_name="countersign"))


def _sections(group: TyperGroup, ctx: Any) -> list[nodes.Element]:
    found: list[nodes.Element] = []
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command is not None
        inner = command.context_class(command, info_name=name, parent=ctx)
        parts: list[nodes.Element] = [paragraph(ticked(each)) for each in (command.help or "").split("\n\n")]
        if isinstance(command, TyperGroup):
            parts += _sections(command, inner)
        else:
            parts += _options(command, inner)
        found.append(section(inner.command_path, f"command-{inner.command_path.replace(' ', '-')}", *parts))
    return found


def _options(command: Any, ctx: Any) -> list[nodes.Element]:
    """The line that is typed, and a table of what can stand in it."""
    usage = f"{ctx.command_path} {' '.join(command.collect_usage_pieces(ctx))}"
    rows: list[list[Inline]] = []
    for parameter in command.params:
        record = parameter.get_help_record(ctx)
        if record is None:
            continue
        flags, said = record
        told = _BRACKETS.match(said)
        assert told is not None
        extra = [each for each in (told["extra"] or "").split("; ") if each and not each.startswith("env var: ")]
        extra = [each.removeprefix("default: ") for each in extra]
        variable = str(parameter.envvar) if isinstance(parameter, TyperOption) and parameter.envvar else ""
        rows.append([code(flags), ticked(told["help"]), "; ".join(extra), code(variable) if variable else ""])
    parts: list[nodes.Element] = [block(usage)]
    return [*parts, table(("option", "what it does", "unless said", "variable"), rows)] if rows else parts


def exit_codes() -> list[nodes.Element]:
    """What the docstring of the room says of them: its table."""
    return [each for each in docstring(countersign.cli.__doc__) if each.tagname == "table"]
