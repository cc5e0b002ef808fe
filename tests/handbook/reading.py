"""The pages that people copy commands from, read as they read them: which commands stand there, and what they show."""

from __future__ import annotations

import itertools
import re
import shlex
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from markdown_it import MarkdownIt
from typer.core import TyperGroup

from countersign.ca.presets import presets
from countersign.ca.recipes import catalogue as recipes
from countersign.cli.app import command_line
from countersign.scenarios.catalogue import catalogue as scenarios
from countersign.scenarios.knocking.knocks import KNOCKS

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping

ROOT = Path(__file__).resolve().parent.parent.parent
DOCS = ROOT / "docs"
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md")))

_USAGE: type[Exception] = typer.BadParameter.__bases__[0]  # which has no public name
_OPERATORS = re.compile(r"[;|&()<>]+")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")


@dataclass(frozen=True, slots=True)
class Block:
    """A block of a page, from its line. ``form`` is ``console`` (what is typed behind ``$``, and what comes), ``sh``,
    or another word behind the fence.
    """

    page: Path
    line: int
    form: str
    text: str

    def steps(self) -> Iterator[tuple[str, str]]:
        """What is typed, and what it shows; nothing where the block has commands alone."""
        if self.form != "console":
            for line in self.text.replace("\\\n", "").splitlines():
                yield line, ""
            return
        typed, shown = "", ""
        for line in self.text.splitlines(keepends=True):
            if line.startswith("$ "):
                if typed:
                    yield typed, shown
                typed, shown = line[2:], ""
            elif line.startswith("> ") and not shown:
                typed += line[2:]
            else:
                shown += line
        yield typed, shown


@dataclass(frozen=True, slots=True)
class Typed:
    """One ``countersign ...`` of a page; ``whole`` where it is to be typed, and not only named in a sentence."""

    page: Path
    line: int
    words: tuple[str, ...]
    whole: bool = True

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}: {' '.join(self.words)}"


@cache
def _tokens(page: Path) -> list[Any]:
    return MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))


def blocks(page: Path) -> list[Block]:
    """Fenced blocks, and indented ones, which are of commands outside the handbook."""
    found = []
    for token in _tokens(page):
        if token.type in {"fence", "code_block"}:
            form = token.info.strip() if token.type == "fence" else "text" if DOCS in page.parents else "sh"
            found.append(Block(page, token.map[0] + 1, form, token.content))
    return found


def commands(page: Path) -> list[Typed]:
    """Every ``countersign ...`` of the page's blocks of commands, and of what stands between backticks in its text."""
    found = []
    for block in blocks(page):
        if block.form in {"console", "sh"}:
            for typed, _ in block.steps():
                found += [Typed(page, block.line, words) for words in simple_commands(typed)]
    for token in _tokens(page):
        for child in token.children or ():
            if child.type == "code_inline" and child.content.startswith("countersign "):
                found.append(
                    Typed(page, token.map[0] + 1 if token.map else 0, tuple(child.content.split()), whole=False)
                )
    return [each for each in found if each.words[0] == "countersign"]


def simple_commands(line: str) -> Iterator[tuple[str, ...]]:
    """Of a line of shell each simple command, without redirections and variables before it."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    tokens = list(lexer)
    for number, token in enumerate(tokens):
        behind = tokens[number + 1] if number + 1 < len(tokens) else ""
        before = tokens[number - 1] if number and _OPERATORS.fullmatch(tokens[number - 1]) else ""
        if _OPERATORS.fullmatch(token):
            if not set(token) & set("<>"):
                yield from _simple(words)
                words = []
        elif not set(before) & set("<>") and not (token.isdigit() and behind[:1] in {"<", ">"}):
            words.append(token)
    yield from _simple(words)


def _simple(words: list[str]) -> Iterable[tuple[str, ...]]:
    words = list(itertools.dropwhile(_ASSIGNMENT.match, words))
    return [tuple(words)] if words else []


@cache
def _command_line() -> TyperGroup:
    return command_line()


def options(page: Path) -> set[str]:
    """Every ``--option`` that stands at the beginning of something between backticks in the page's text."""
    codes = [child.content for token in _tokens(page) for child in token.children or () if child.type == "code_inline"]
    return {found[0] for each in codes if (found := re.match(r"--[a-z][a-z0-9-]*", each))}


def known_options() -> set[str]:
    """Every option of every command."""
    return {*_options(_command_line())}


def _options(command: Any) -> Iterator[str]:
    for parameter in command.params:
        yield from (*parameter.opts, *parameter.secondary_opts)
    for inner in getattr(command, "commands", {}).values():
        yield from _options(inner)


def mistake(typed: Typed) -> str | None:
    """What the command line says against it, nothing of which runs."""
    try:
        values = _parsed(typed.words)
    except typer.Exit:  # --version
        return None
    except _USAGE as wrong:
        named = type(wrong).__name__ in {"MissingParameter", "NoArgsIsHelpError"} and not typed.whole
        return None if named else f"{type(wrong).__name__}: {wrong}"
    unknown = [f"there is no {key} {each!r}" for key, each in _names(values) if each not in _known(key)]
    return "; ".join(unknown) or None


def _names(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What is named in values that is looked up only when a command runs. Capitals stand for what a reader has."""
    for key in ("scenario", "recipe", "preset"):
        given = values.get(key) or ()
        for each in [given] if isinstance(given, str) else given:
            for name in re.split(r"[+,]", each):
                if not name.isupper() and not name.endswith((".toml", "*")):
                    yield key, name


def _known(key: str) -> Container[str]:
    return {"scenario": {*scenarios(), *KNOCKS}, "recipe": recipes(), "preset": presets()}[key]


def _parsed(words: Iterable[str]) -> dict[str, Any]:
    _, *rest = words
    command: Any = _command_line()
    context = command.make_context("countersign", rest)
    while isinstance(command, TyperGroup):
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        assert command is not None
        context = command.make_context(name, list(rest), parent=context)
    values: dict[str, Any] = context.params
    return values
