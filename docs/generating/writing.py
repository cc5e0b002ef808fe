"""Nodes of docutils out of texts. Whatever comes as a text stays one: only docstrings are read as markup."""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING

from docutils import nodes
from docutils.core import publish_doctree

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    Inline = str | nodes.Node | Sequence[str | nodes.Node]

_ROLE = re.compile(r":[a-z:]+:`~?\.?([^`<>]+)`")


def inline(*said: Inline) -> list[nodes.Node]:
    """Texts and nodes, in a row."""
    found: list[nodes.Node] = []
    for each in said:
        if isinstance(each, str):
            found.append(nodes.Text(each))
        elif isinstance(each, nodes.Node):
            found.append(each)
        else:
            found += inline(*each)
    return found


def code(text: str) -> nodes.literal:
    return nodes.literal("", "", nodes.Text(text))


def strong(text: str) -> nodes.strong:
    return nodes.strong("", "", nodes.Text(text))


def ticked(text: str) -> list[nodes.Node]:
    """A text in which `backticks` stand around code."""
    parts = re.split(r"`([^`\n]+)`", text)
    return [code(part) if number % 2 else nodes.Text(part) for number, part in enumerate(parts) if part]


def link(anchor: str, *said: Inline) -> nodes.reference:
    """To a section of the same page."""
    return nodes.reference("", "", *inline(*said), refid=anchor, internal=True)


def listed(parts: Iterable[nodes.Node], between: str = ", ") -> list[nodes.Node]:
    """In a row, with something between them."""
    found: list[nodes.Node] = []
    for part in parts:
        found += [nodes.Text(between), part] if found else [part]
    return found


def paragraph(*said: Inline) -> nodes.paragraph:
    return nodes.paragraph("", "", *inline(*said))


def block(text: str) -> nodes.literal_block:
    """As it is, line by line."""
    return nodes.literal_block("", "", nodes.Text(text), language="none")


def section(title: Inline, anchor: str, *inside: nodes.Node) -> nodes.section:
    """``anchor`` is what a link names; every anchor is there once in the handbook."""
    return nodes.section("", nodes.title("", "", *inline(title)), *inside, ids=[anchor], names=[anchor])


def bullets(rows: Iterable[Inline]) -> nodes.bullet_list:
    return nodes.bullet_list("", *(nodes.list_item("", paragraph(row)) for row in rows))


def table(head: Sequence[str], rows: Iterable[Sequence[Inline | Sequence[nodes.Element]]]) -> nodes.table:
    """A cell is what stands in one paragraph, or a list of whole ones."""
    columns = [nodes.colspec(colwidth=1) for _ in head]
    body = nodes.tbody("", *(_row(cells) for cells in rows))
    group = nodes.tgroup("", *columns, nodes.thead("", _row(head)), body, cols=len(head))
    return nodes.table("", group, classes=["colwidths-auto"])


def _row(cells: Sequence[Inline | Sequence[nodes.Element]]) -> nodes.row:
    return nodes.row("", *(nodes.entry("", *_cell(cell)) for cell in cells))


def _cell(cell: Inline | Sequence[nodes.Element]) -> list[nodes.Element]:
    blocks = (nodes.paragraph, nodes.bullet_list, nodes.literal_block)
    if not isinstance(cell, str | nodes.Node) and cell and all(isinstance(each, blocks) for each in cell):
        return [each for each in cell if isinstance(each, nodes.Element)]
    return [paragraph(cell)]


def docstring(text: str | None) -> list[nodes.Element]:
    """A docstring, which is reStructuredText; names of code in it become literals. Raises for one that is none."""
    first, _, rest = (text or "").partition("\n")
    plain = _ROLE.sub(lambda found: f"``{found[1].rpartition('.')[2]}``", f"{first}\n{textwrap.dedent(rest)}")
    tree = publish_doctree(
        plain, settings_overrides={"report_level": 2, "halt_level": 2, "raw_enabled": False, "_disable_config": True}
    )
    for each in tree.findall(nodes.literal_block):
        each["language"] = "none"
    return [each.deepcopy() for each in tree.children if isinstance(each, nodes.Element)]
