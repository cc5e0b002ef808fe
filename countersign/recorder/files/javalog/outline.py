"""The text between the brackets of a JSSE log entry as a tree.

It looks like JSON and is none: keys repeat, values go without quotes and commas, brackets close in the same line as the
next key opens, and hex dumps stand where a value belongs. What holds is that everything is made of lines: a key with
a value, a key that opens a bracket, a closing bracket, a line of a hex dump, or text. So it is read by lines, and what
fits none of them is text of the bracket that it stands in. Nothing raises; what is cut short gives what there is.

Inside of a printed certificate brackets mean nothing (``KeyIdentifier [``): the lines of its extensions are kept as
they are (:mod:`.printed` reads them).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_KEY = re.compile(r'"([^"]*)"\s*:\s*(.*)', re.DOTALL)
_HEX = re.compile(r"([0-9A-Fa-f]{4}):((?: {1,3}[0-9A-Fa-f]{2}){1,16})(?= |$)")
_CLOSING = re.compile(r"[\]}]['\s]*[,]?\s*")
_DEEPEST = 40


@dataclass(slots=True)
class Node:
    """A key with what it holds: a ``value``, or ``children``, ``text`` lines and the ``data`` of a hex dump."""

    key: str = ""
    value: str | None = None
    bracket: str = ""
    children: list[Node] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    data: bytearray = field(default_factory=bytearray)

    def child(self, key: str) -> Node | None:
        """The first child of this name."""
        return next((one for one in self.children if one.key == key), None)

    def get(self, key: str) -> str | None:
        """The value of the first child of this name."""
        found = self.child(key)
        return None if found is None else found.value

    def all(self, key: str) -> Iterator[Node]:
        return (one for one in self.children if one.key == key)

    @property
    def says_empty(self) -> bool:
        """Whether nothing is in it, or a placeholder says so: ``<empty>``, ``<no extension>``."""
        return not self.children and not self.data and all(line.startswith("<") for line in self.text)


def hex_line(line: str) -> tuple[int, bytes, str] | None:
    """A line of a hex dump, spaced or not in its middle: its offset, its bytes, and what stands behind them."""
    found = _HEX.match(line)
    if found is None:
        return None
    return int(found[1], 16), bytes.fromhex(found[2]), line[found.end() :]


def hex_dump(lines: Iterable[str]) -> bytes:
    """The bytes of a dump. A line that does not follow on the one before it ends the dump."""
    data = bytearray()
    for line in lines:
        read = hex_line(line.strip())
        if read is None:
            continue
        offset, piece, _ = read
        if offset != len(data) & 0xFFFF:
            break
        data += piece
    return bytes(data)


def outline(lines: Iterable[str]) -> Node:
    """The tree of these lines, under a root without a name."""
    root = Node()
    path = [root]
    raw: Node | None = None
    for line in lines:
        stripped = line.strip()
        if raw is not None:
            if stripped in {"]}", "]},"}:
                raw = None
                _close(path, stripped)
            else:
                raw.text.append(stripped)
            continue
        _take(path, stripped)
        here = path[-1]
        if here.key == "extensions" and len(path) > 1 and path[-2].key == "certificate":
            raw = here
    return root


def _take(path: list[Node], line: str) -> None:
    if not line:
        return
    here = path[-1]
    read = hex_line(line)
    if read is not None and read[0] == len(here.data) & 0xFFFF:
        here.data += read[1]
        return
    if found := _KEY.match(line):
        _keyed(path, found[1].strip(), found[2].strip())
    elif line in {"{", "["}:
        _open(path, Node(bracket=line))
    elif line[0] in "}]":
        _close(path, line)
    elif here.bracket == "[" and line.endswith("]") and line.count("]") > line.count("["):
        here.text.append(line[:-1].rstrip())
        _close(path, "]")
    else:
        here.text.append(line)


def _keyed(path: list[Node], key: str, rest: str) -> None:
    if rest in {"{", "["}:
        _open(path, Node(key, bracket=rest))
        return
    value = rest.removesuffix(",").rstrip()
    closing = ""
    if value.startswith('"') and (end := value.rfind('"')) > 0 and not value[end + 1 :].strip(" }]',"):
        value, closing = value[1:end], value[end + 1 :].strip()
    path[-1].children.append(Node(key, value))
    if closing:
        _close(path, closing)


def _open(path: list[Node], node: Node) -> None:
    path[-1].children.append(node)
    if len(path) < _DEEPEST:
        path.append(node)


def _close(path: list[Node], line: str) -> None:
    """Close a bracket for each that the line begins with; what is behind them is a line of its own."""
    while found := _CLOSING.match(line):
        if len(path) > 1:
            path.pop()
        line = line[found.end() :].lstrip("'")
    if line:
        _take(path, line)
