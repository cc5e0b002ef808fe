"""Which scenarios are meant: ``family:chain and not id:huge-*``.

    family:chain            of that family; as are id:, source:, tag:, right: and is:
    rotation-*              the same as id:rotation-*
    source:R2               from that row of the requirements, or whatever a source begins with ("RFC 8446")
    right:refuse            what a right client does
    is:waiting              whose point is waiting, so that it takes its time
    a and b, a or b, not a, (a)        `and` binds more closely than `or`; a comma is an `or`

Words are patterns as a shell has them (``*``, ``?``, ``[ab]``), in quotes where there is a space in them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from countersign.errors import UserError
from countersign.recorder.wire.text import printable
from countersign.scenarios.model import FAMILIES, nearest

if TYPE_CHECKING:
    from countersign.scenarios.catalogue import Catalogue
    from countersign.scenarios.model import Scenario

Test = Callable[["Scenario"], bool]

_LONGEST = 4000
_DEEPEST = 50
_WORD = re.compile(r"""\s*(?:(?P<sign>[(),])|(?P<word>(?:[^\s(),"']|"[^"]*"|'[^']*')+))""")
_FIELDS: dict[str, Callable[[Scenario], Iterable[str]]] = {
    "id": lambda scenario: [scenario.id],
    "family": lambda scenario: [scenario.family],
    "source": lambda scenario: scenario.sources,
    "tag": lambda scenario: scenario.tags,
    "right": lambda scenario: [scenario.expect.right],
    "is": lambda scenario: ["waiting"] if scenario.waits else [],
}
_CLOSED = {"family": FAMILIES, "right": ("refuse", "accept", "either"), "is": ("waiting",)}


class SelectionError(UserError):
    """An expression that cannot be read; the text says what was expected."""


def selection(text: str) -> Test:
    """The test that ``text`` says. Raises :class:`SelectionError`."""
    if len(text) > _LONGEST:
        raise SelectionError(f"cannot select by {len(text)} characters: expected at most {_LONGEST}")
    words = _words(text)
    reader = _Reader(words, text)
    test = reader.either(0)
    if reader.at < len(words):
        raise reader.error(f"expected `and` or `or` before {words[reader.at]!r}")
    return test


def _words(text: str) -> list[str]:
    words, at = [], 0
    while text[at:].strip():
        found = _WORD.match(text, at)
        if found is None:
            raise SelectionError(f"cannot select by {printable(text)!r}: a quote is opened and never closed")
        words.append(found["sign"] or found["word"])
        at = found.end()
    return words


class _Reader:
    """The words from left to right."""

    def __init__(self, words: list[str], text: str) -> None:
        self.words, self.at, self._text = words, 0, text

    def error(self, what: str) -> SelectionError:
        return SelectionError(f"cannot select by {printable(self._text, limit=200)!r}: {printable(what)}")

    def either(self, depth: int) -> Test:
        tests = [self.both(depth)]
        while self._took("or", ","):
            tests.append(self.both(depth))
        return tests[0] if len(tests) == 1 else lambda scenario: any(test(scenario) for test in tests)

    def both(self, depth: int) -> Test:
        tests = [self.one(depth)]
        while self._took("and"):
            tests.append(self.one(depth))
        return tests[0] if len(tests) == 1 else lambda scenario: all(test(scenario) for test in tests)

    def one(self, depth: int) -> Test:
        if depth > _DEEPEST:
            raise self.error(f"more than {_DEEPEST} brackets and `not` are within each other")
        if self._took("not"):
            inner = self.one(depth + 1)
            return lambda scenario: not inner(scenario)
        if self._took("("):
            inner = self.either(depth + 1)
            if not self._took(")"):
                raise self.error("a bracket is opened and never closed")
            return inner
        if self.at == len(self.words) or self.words[self.at] in {"and", "or", ")", ","}:
            found = f"got {self.words[self.at]!r}" if self.at < len(self.words) else "it ends"
            raise self.error(f"expected a word such as family:chain or rotation-*, {found}")
        word = self.words[self.at]
        self.at += 1
        return self._word(word)

    def _word(self, word: str) -> Test:
        field, found, pattern = word.partition(":")
        if not found:
            field, pattern = "id", word
        pattern = re.sub(r"""["']""", "", pattern)
        if field not in _FIELDS:
            raise self.error(f"there is no {field!r}{nearest(field, _FIELDS)}; expected {', '.join(_FIELDS)}")
        known = _CLOSED.get(field)
        if known and not any(fnmatchcase(each, pattern) for each in known):
            raise self.error(f"there is no {field} {pattern!r}{nearest(pattern, known)}; expected {', '.join(known)}")
        values = _FIELDS[field]
        if field == "source":
            return lambda scenario: any(_begins(each, pattern) for each in values(scenario))
        return lambda scenario: any(fnmatchcase(each, pattern) for each in values(scenario))

    def _took(self, *words: str) -> bool:
        if self.at < len(self.words) and self.words[self.at] in words:
            self.at += 1
            return True
        return False


def _begins(source: str, pattern: str) -> bool:
    """Whether a source is meant: the whole of it, or up to where a word of it ends (R1 is not R10)."""
    return fnmatchcase(source, pattern) or fnmatchcase(source, f"{pattern} *")


def select(known: Catalogue, text: str, given: Mapping[str, str] | None = None) -> list[Scenario]:
    """The scenarios of a catalogue that ``text`` fits, all of them where it is empty, in the catalogue's order.

    ``given`` are values of parameters, each for those scenarios that have it. Raises :class:`SelectionError`, also for
    a parameter that none of them has.
    """
    test = selection(text) if text.strip() else lambda _scenario: True
    chosen = [known[name] for name in known if test(known[name])]
    if not given:
        return chosen
    stray = next((name for name in given if not any(name in scenario.parameters for scenario in chosen)), None)
    if stray is not None:
        raise SelectionError(f"cannot set {stray!r}: none of the {len(chosen)} scenarios that are meant has it")
    return [
        known.open(scenario.id, {name: value for name, value in given.items() if name in scenario.parameters})
        for scenario in chosen
    ]
