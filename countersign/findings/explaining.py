"""Error texts of other programs, read for what they mean: any text in, findings with line numbers out.

The table is in ``texts/``: one file for each family of programs says what its texts are and which *kind* of failure
each is of; ``kinds.toml`` says of a kind what the cause is, which evidence would prove it, and the cure, for each
family where cures differ. A text is recognised by literal pieces that stand on one line in their order, never by an
expression: what is read may be hostile, and a search for literals takes linear time.

*One line, several texts.* A text that lies within a longer one is not told (``self-signed certificate`` within
``self-signed certificate in certificate chain``), nor is one that only says that something failed (``vague``) where
another on its line says what, nor a second one of the same kind. All others are told, for a line may hold an effect and
its cause.

*What is not known* is said to be unknown: lines that look like an error and match nothing are shown, and nothing is
guessed of them.

A file is searched in blocks of whole lines for each text's longest piece, and only blocks with a hit are taken line by
line, so a gigabyte streams.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from countersign.recorder.files.javalog import decoded, read_blocks, without_credentials

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

_SEVERITIES: Final = ("cause", "warning", "note")
_PLACES_KEPT: Final = 5
_UNKNOWN_KEPT: Final = 20
_TROUBLED: Final = (
    b"Exception", b"rror:", b"ERROR", b"ERR_", b"SEVERE", b"FATAL", b"fatal", b"failed", b"refused", b"denied",
    b"alert",
)  # fmt: skip
"""One of these is in a line that tells of trouble."""


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """What texts of one kind mean; there is one object of each.

    ``fixes`` are cures for one family, ``fix`` is that for the others.
    """

    id: str
    severity: str
    text: str
    wanted: str
    fix: str
    source: str
    fixes: Mapping[str, str]
    vague: bool


@dataclass(frozen=True, slots=True)
class Text:
    """A text of a family of programs: pieces that stand on one line in this order."""

    id: str
    family: str
    kind: Kind
    says: tuple[bytes, ...]

    @property
    def key(self) -> bytes:
        """The piece that is looked for first."""
        return max(self.says, key=len)


@dataclass(frozen=True, slots=True)
class Place:
    """A line, from 1, and what stands there: printable, bounded, without credentials."""

    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Explained:
    """One finding: texts of one kind from one family. ``places`` are the first of ``count``."""

    kind: Kind
    family: str
    texts: tuple[str, ...]
    places: tuple[Place, ...]
    count: int

    @property
    def fix(self) -> str:
        """The cure for this family."""
        return self.kind.fixes.get(self.family, self.kind.fix)

    def to_json(self) -> dict[str, Any]:
        """As findings stand in a recording, with what is particular to texts beside it."""
        return {
            "id": self.kind.id,
            "severity": self.kind.severity,
            "text": self.kind.text,
            "evidence": [f"line {place.line}: {place.text}" for place in self.places],
            "fix": self.fix,
            "source": self.kind.source,
            "family": self.family,
            "wanted": self.kind.wanted,
            "vague": self.kind.vague,
            "texts": list(self.texts),
            "lines": [place.line for place in self.places],
            "count": self.count,
        }


@dataclass(frozen=True, slots=True)
class Explanation:
    """All that is known of a text: the likeliest cause first.

    ``unknown`` are the first lines of trouble that nothing is known of; ``more_unknown``: there are more.
    """

    findings: tuple[Explained, ...]
    unknown: tuple[Place, ...]
    more_unknown: bool
    lines: int

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": 1,
            "lines": self.lines,
            "findings": [finding.to_json() for finding in self.findings],
            "unknown": [{"line": place.line, "text": place.text} for place in self.unknown],
            "more_unknown": self.more_unknown,
        }


# -- the table -----------------------------------------------------------------------------------------------------


@cache
def kinds() -> Mapping[str, Kind]:
    """Every kind of failure, by its id."""
    document = tomllib.loads(files(__package__).joinpath("texts", "kinds.toml").read_text(encoding="utf-8"))
    return {
        name: Kind(
            id=name,
            severity=said.get("severity", _SEVERITIES[0]),
            text=said["text"],
            wanted=said["wanted"],
            fix=said["fix"],
            source=said["source"],
            fixes=said.get("fixes", {}),
            vague=said.get("vague", False),
        )
        for name, said in document.items()
    }


@cache
def texts() -> tuple[Text, ...]:
    """Every text that is known."""
    found: list[Text] = []
    for path in sorted(files(__package__).joinpath("texts").iterdir(), key=lambda one: one.name):
        if not path.name.endswith(".toml") or path.name == "kinds.toml":
            continue
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        found += [
            Text(said["id"], document["family"], kinds()[said["kind"]], tuple(one.encode() for one in said["says"]))
            for said in document["text"]
        ]
    return tuple(found)


# -- reading -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Match:
    text: Text
    spans: tuple[tuple[int, int], ...]

    def within(self, other: _Match) -> bool:
        """Whether it lies in a longer text."""
        inside = all(any(a <= start and end <= b for a, b in other.spans) for start, end in self.spans)
        return inside and self.length < other.length

    @property
    def length(self) -> int:
        return sum(end - start for start, end in self.spans)


@dataclass(slots=True)
class _Tally:
    kind: Kind
    family: str
    texts: dict[str, None]
    places: list[Place]
    count: int = 0


def explain(source: BinaryIO, *, tell: Callable[[], None] | None = None) -> Explanation:
    """What is known of the error texts in a file. Never raises on what is in it; ``tell`` is called now and then."""
    tallies: dict[tuple[str, str], _Tally] = {}
    unknown: list[Place] = []
    more, last = False, 0
    for number, block in read_blocks(source):
        if tell is not None:
            tell()
        last = number + block.count(b"\n")
        wanted = [text for text in texts() if text.key in block]
        troubled = not more and any(word in block for word in _TROUBLED)
        if not wanted and not troubled:
            continue
        for line, raw in enumerate(block.split(b"\n"), number):
            matches = _matches(raw, wanted)
            for match in matches:
                _count(tallies, match.text, line, raw)
            if not matches and troubled and not more and _tells_of_trouble(raw):
                more = len(unknown) == _UNKNOWN_KEPT
                if not more:
                    unknown.append(Place(line, without_credentials(decoded(raw))))
    return Explanation(tuple(_in_order(tallies.values())), tuple(unknown), more, last)


def _matches(raw: bytes, wanted: Sequence[Text]) -> list[_Match]:
    """The texts in one line, without those that another one there makes needless."""
    found = [match for text in wanted if text.key in raw and (match := _match(raw, text)) is not None]
    if len(found) < 2:
        return found
    found = [one for one in found if not any(one.within(other) for other in found)]
    telling = [one for one in found if not one.text.kind.vague]
    if any(one.text.kind.severity == "cause" for one in telling):
        found = telling
    first: dict[str, _Match] = {}
    for one in sorted(found, key=lambda match: match.spans[0]):
        first.setdefault(one.text.kind.id, one)
    return list(first.values())


def _match(raw: bytes, text: Text) -> _Match | None:
    spans: list[tuple[int, int]] = []
    at = 0
    for piece in text.says:
        start = raw.find(piece, at)
        if start < 0:
            return None
        at = start + len(piece)
        spans.append((start, at))
    return _Match(text, tuple(spans))


def _tells_of_trouble(raw: bytes) -> bool:
    """Whether a line tells of an error; the frames of a stack trace do not."""
    return not raw.lstrip().startswith(b"at ") and any(word in raw for word in _TROUBLED)


def _count(tallies: dict[tuple[str, str], _Tally], text: Text, line: int, raw: bytes) -> None:
    tally = tallies.setdefault((text.kind.id, text.family), _Tally(text.kind, text.family, {}, []))
    tally.texts[text.id] = None
    tally.count += 1
    if len(tally.places) < _PLACES_KEPT:
        tally.places.append(Place(line, without_credentials(decoded(raw))))


def _in_order(tallies: Iterable[_Tally]) -> Iterator[Explained]:
    """Causes before notes, what tells more before what is vague, then as they stand in the file."""
    for one in sorted(
        tallies, key=lambda t: (_SEVERITIES.index(t.kind.severity), t.kind.vague, t.places[0].line, t.kind.id)
    ):
        yield Explained(one.kind, one.family, tuple(one.texts), tuple(one.places), one.count)
