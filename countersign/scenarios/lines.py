"""Where in a TOML file a key stands: ``tomllib`` says it of syntax alone, and a mistake has a line too.

The text has been read by ``tomllib`` before, so it is TOML, and this needs to know of it only how statements begin and
end: headers, dotted keys, strings of four kinds, brackets that go on over lines. One pass over it, in linear time.
"""

from __future__ import annotations

import json
import re
from collections import Counter

Path = tuple[str, ...]

_KEY = re.compile(
    r"""[ \t]*(?:"(?P<basic>(?:[^"\\\n]|\\.)*)"|'(?P<literal>[^'\n]*)'|(?P<bare>[A-Za-z0-9_-]+))[ \t]*(?P<dot>\.)?"""
)
_REST = re.compile(
    r'(?:[^\n"\'#\[\]{}]'
    r'|"""(?:[^"\\]|\\.|"(?!""))*"{3,5}'
    r"|'''(?:[^']|'(?!''))*'{3,5}"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'"
    r"|#[^\n]*"
    r"|(?P<open>[\[{])|(?P<close>[\]}])|(?P<end>\n))",
    re.DOTALL,
)


def lines_of(text: str) -> dict[Path, int]:
    """The line of each key and table by its path; the elements of an array of tables are counted from 1."""
    text = text.replace("\r\n", "\n")
    found: dict[Path, int] = {}
    count: Counter[Path] = Counter()
    table: Path = ()
    at, line = 0, 1
    while at < len(text):
        if text[at] in " \t\n":
            line += text[at] == "\n"
            at += 1
            continue
        begins = line
        array = text.startswith("[[", at)
        header = array or text[at] == "["
        if text[at] != "#":
            keys, at = _keys(text, at + header + array)
            if header:
                table = _counted(keys, count, array=array)
                found.setdefault(table, begins)
            else:
                for depth in range(1, len(keys) + 1):
                    found.setdefault((*table, *keys[:depth]), begins)
        at, line = _past(text, at, line, header=header)
    return found


def line_of(lines: dict[Path, int], path: Path) -> int | None:
    """The line of a path, or of what it is in."""
    while path:
        if path in lines:
            return lines[path]
        path = path[:-1]
    return None


def _keys(text: str, at: int) -> tuple[Path, int]:
    keys = []
    while found := _KEY.match(text, at):
        at = found.end()
        if found["basic"] is not None:
            keys.append(_unescaped(found["basic"]))
        else:
            keys.append(found["literal"] if found["literal"] is not None else found["bare"])
        if not found["dot"]:
            break
    return tuple(keys), at


def _unescaped(text: str) -> str:
    try:
        return str(json.loads(f'"{text}"'))
    except ValueError:  # escapes that JSON has not; then it is only not found
        return text


def _counted(keys: Path, count: Counter[Path], *, array: bool) -> Path:
    """A header's path, with the number of the element behind the name of each array that it goes through."""
    path: Path = ()
    for depth, key in enumerate(keys, 1):
        path = (*path, key)
        if array and depth == len(keys):
            count[path] += 1
        if path in count:
            path = (*path, str(count[path]))
    return path


def _past(text: str, at: int, line: int, *, header: bool) -> tuple[int, int]:
    """Behind the statement that goes on here, and the line there."""
    depth = 0
    while at < len(text):
        found = _REST.match(text, at)
        if found is None:  # not in what tomllib has read
            return len(text), line
        if found["open"]:
            depth += 1
        elif found["close"] and not header:
            depth -= 1
        line += found.group().count("\n")
        at = found.end()
        if found["end"] and depth <= 0:
            break
    return at, line
