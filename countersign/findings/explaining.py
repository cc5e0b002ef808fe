"""Error texts of other programs, read for what they mean: any text in, findings with line numbers out.

The table is in ``texts/``: one file for each family of programs says what its texts are and which *kind* of failure
each is of; ``kinds.toml`` says of a kind what the cause is, which evidence would prove it, and the cure, for each
family where cures differ. A text is recognised by literal pieces that stand on one line in their order, never by an
expression: what is read may be hostile, and a search for literals takes linear time. The case of letters is passed
over, for programs and their versions differ in it; a piece of one or two words stands for these whole words.

Many texts come from a table of their program's own (OpenSSL's reasons, the alerts of each library): such a *list* names
its entries by kind, and in which *forms* which families print an entry.

*Whose text it is.* What a library or the system says (``library = true``) is printed by many programs: where the line
bears the mark of one, it is that one's, and gets its cure.

*One line, several texts.* A text that lies within a longer one is not told (``self-signed certificate`` within
``self-signed certificate in certificate chain``), nor is one that only says that something failed (``vague``) where
another on its line says what, nor a second one of the same kind. All others are told, for a line may hold an effect and
its cause.

*What is not known* is said to be unknown: lines that look like an error and match nothing are shown, and nothing is
guessed of them.

A file is searched in blocks of whole lines. A block's words say which texts can be in it at all (each has words that no
line with it lacks), so the time goes with the file and hardly with the number of texts, and a gigabyte streams.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from countersign.findings.jvm import ANY, of_family
from countersign.recorder.files.javalog import decoded, read_blocks, without_credentials

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from countersign.findings.jvm import Jvm

_SAYS_LEAST = "tls-failed"
"""The kind that is needless beside any other of the same line."""

_SEVERITIES: Final = ("cause", "warning", "note")
_PLACES_KEPT: Final = 5
_UNKNOWN_KEPT: Final = 20
_BLOCK: Final = 1 << 11
"""Bytes whose words are looked at together: the fewer, the fewer texts there are to search for."""
_TROUBLED: Final = (
    b"Exception", b"rror:", b"ERROR", b"ERR_", b"SEVERE", b"FATAL", b"fatal", b"Fatal", b"failed", b"Failed",
    b"refused", b"denied", b"alert", b"annot ", b"ould not ", b"nable to ", b"ot trusted", b"timed out",
)  # fmt: skip
"""One of these is in a line that tells of trouble."""
_LONGEST_FRAME: Final = 2_000
_NO_TROUBLE: Final = re.compile(
    rb"(?:^|\t|  |[|>\])!:\"] )[ \t]*(?:"  # behind nothing, an indentation, or what ends a prefix
    # a frame of Java, .NET or Node: what is called (its place, or what it takes)
    rb"at (?:async |new )*(?:[^\s()]+|<anonymous>)(?: \[as \w+\])? ?\(|"
    rb"at (?:async )?\S+:\d+:\d+|"
    # of .NET in other languages (bei, \xc3\xa0, en, ...)
    rb"[^\s()]{1,12} (?:[\w`<>+\[\]]+\.)+[\w`<>|\[\]]+\(|"
    rb"File \"[^\"]+\", line \d+|"  # Python
    rb"from \S+:\d+:in [`']|"  # Ruby
    rb"#\d+ \S+\(\d+\): |"  # PHP
    rb"\.\.\. \d+ (?:more|common frames)|"
    rb"npm (?:ERR!|error)\s*$|(?:npm (?:ERR!|error)|\d+ error) +(?:If you need help|[\w-]+ v\d|https?://|Windows_NT)"
    rb")|--- End of .{1,80} ---|"
    # what a JVM's debug log says on its way, of an alert or of nothing
    rb"javax\.net\.ssl\|(?:DEBUG|FINE|FINER|FINEST|ALL|TRACE)\||\"level\" *: \"(?:fatal|warning)\"|"
    rb"duplex close failed\. Debug info only"
)
"""Lines with a word of trouble in them that tell of none."""
_COLOUR: Final = re.compile(rb"(?:\x1b|\\u001[bB])\[[0-9;]{0,20}[A-Za-z]")
_SHORT: Final = 2
"""Words of a piece that must not be part of others; a longer one is telling even so."""
_IN_WORDS: Final = b"_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_FOLD: Final = bytes(range(256)).lower()
_TO_WORDS: Final = bytes(_FOLD[code] if code in _IN_WORDS else 32 for code in range(256))


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


@dataclass(frozen=True, slots=True, eq=False)
class Family:
    """Programs that speak alike. ``marks`` show that a line is theirs; a library's texts are printed by others too."""

    name: str
    marks: tuple[bytes, ...]
    library: bool


@dataclass(frozen=True, slots=True)
class Text:
    """A text of a family of programs: pieces that stand on one line in this order, in small letters.

    One that ``yields`` (an exit code, say) is told only where nothing else on its line is known.
    """

    id: str
    family: Family
    kind: Kind
    says: tuple[bytes, ...]
    yields: bool = False

    @property
    def key(self) -> bytes:
        """The piece that is looked for first."""
        return max(self.says, key=len)

    @property
    def words(self) -> frozenset[bytes]:
        """The words that each line with this text has: those that no letter can stand against."""
        return frozenset(word for piece in self.says for word in _words(piece))


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
        return self.cure(ANY)

    def cure(self, known: Jvm) -> str:
        """The same for a JVM of which more is known than what the family tells."""
        jvm = of_family(self.family) if known == ANY else known
        return jvm.filled(self.kind.fixes.get(self.family, self.kind.fix))

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
    documents = [
        tomllib.loads(path.read_text(encoding="utf-8"))
        for path in sorted(files(__package__).joinpath("texts").iterdir(), key=lambda one: one.name)
        if path.name.endswith(".toml") and path.name != "kinds.toml"
    ]
    families = {
        said["family"]: Family(said["family"], _folded(said.get("marks", ())), said.get("library", False))
        for said in documents
    }
    found: list[Text] = []
    for document in documents:
        family = families[document["family"]]
        found += [
            Text(said["id"], family, kinds()[said["kind"]], _folded(said["says"]), said.get("yields", False))
            for said in document.get("text", ())
        ]
        for entries in document.get("list", ()):
            found += _listed(entries, families)
    return tuple(found)


def _listed(entries: Mapping[str, Any], families: Mapping[str, Family]) -> Iterator[Text]:
    """The texts of a program's own table: each entry in each form.

    In a form stands ``{words}`` for an entry, ``{name}`` for it with ``_`` between its words.
    """
    for kind, several in entries["kinds"].items():
        for words in several:
            name = words.replace(" ", "_")
            for family, form in entries["forms"].items():
                says = _folded(piece.replace("{words}", words).replace("{name}", name) for piece in form)
                identity = f"{family}-{entries['name']}-{name}".lower().replace(" ", "-")
                yield Text(identity, families[family], kinds()[kind], says, entries.get("yields", False))


def _folded(pieces: Iterable[str]) -> tuple[bytes, ...]:
    return tuple(one.encode().translate(_FOLD) for one in pieces)


def _words(piece: bytes) -> Sequence[bytes]:
    """The words of a piece that a line with it has: in a long one not those that a letter could stand against."""
    words = piece.translate(_TO_WORDS).split()
    if len(words) <= _SHORT:
        return words
    return words[piece[0] in _IN_WORDS : len(words) - (piece[-1] in _IN_WORDS)]


@dataclass(frozen=True, slots=True)
class _Index:
    """The texts by a word that few others have, and all words that are looked for."""

    by_word: Mapping[bytes, Sequence[tuple[Text, bytes, frozenset[bytes]]]]
    needed: frozenset[bytes]

    def within(self, folded: bytes) -> Iterator[tuple[Text, bytes]]:
        """The texts whose longest piece is there, with it."""
        there = self.needed.intersection(folded.translate(_TO_WORDS).split())
        for word in there:
            for text, key, words in self.by_word.get(word, ()):
                if words <= there and key in folded:
                    yield text, key


@cache
def _index() -> _Index:
    common = Counter(word for text in texts() for word in text.words)
    by_word: dict[bytes, list[tuple[Text, bytes, frozenset[bytes]]]] = {}
    for text in texts():
        rarest = min(text.words, key=lambda word: (common[word], -len(word), word))
        by_word.setdefault(rarest, []).append((text, text.key, text.words))
    return _Index(by_word, frozenset(common))


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


def explain(source: BinaryIO) -> Explanation:
    """What is known of the error texts in a file. Never raises on what is in it."""
    tallies: dict[tuple[str, str], _Tally] = {}
    unknown: list[Place] = []
    more, last = False, 0
    for number, block in _blocks(source):
        last = number + block.count(b"\n")
        folded = _without_escapes(block).translate(_FOLD)
        known = _known(folded, number)
        for line, (start, end, matches) in known.items():
            for match in matches:
                family = _whose(match.text, folded[start:end])
                _count(tallies, match.text, family, line, block[start:end])
        if more or not any(word in block for word in _TROUBLED):
            continue
        for line, raw in enumerate(block.split(b"\n"), number):
            if not more and line not in known and _tells_of_trouble(_without_escapes(raw)):
                more = len(unknown) == _UNKNOWN_KEPT
                if not more:
                    unknown.append(Place(line, _shown(raw)))
    return Explanation(tuple(_in_order(_joined(tallies.values()))), tuple(unknown), more, last)


def _blocks(source: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Some whole lines at a time, with the number of the first."""
    for number, block in read_blocks(source):
        start, line = 0, number
        while len(block) - start > _BLOCK and (end := block.find(b"\n", start + _BLOCK)) >= 0:
            yield line, block[start:end]
            line += block.count(b"\n", start, end) + 1
            start = end + 1
        yield line, block[start:]


def _without_escapes(block: bytes) -> bytes:
    """Colours, and line ends and tabs that a program has written as ``\\n`` and ``\\t``, would else stand against the
    next word. Blanks take their place, as many as they are long.
    """
    if b"\x1b" in block or b"\\u001b" in block:
        block = _COLOUR.sub(lambda found: b" " * len(found[0]), block)
    if b"\\" not in block:
        return block
    return block.replace(b"\\n", b"  ").replace(b"\\t", b"  ").replace(b"\\r", b"  ")


def _known(folded: bytes, number: int) -> dict[int, tuple[int, int, list[_Match]]]:
    """The lines of a block that hold texts: where each starts and ends, and what is in it."""
    hits: dict[int, list[Text]] = {}
    for text, key in _index().within(folded):
        at = folded.find(key)
        while at >= 0:
            hits.setdefault(folded.rfind(b"\n", 0, at) + 1, []).append(text)
            end = folded.find(b"\n", at)
            at = folded.find(key, end) if end >= 0 else -1
    known: dict[int, tuple[int, int, list[_Match]]] = {}
    line, counted = number, 0
    for start in sorted(hits):
        line += folded.count(b"\n", counted, start)
        counted = start
        end = folded.find(b"\n", start)
        end = len(folded) if end < 0 else end
        if matches := _matches(folded[start:end], hits[start]):
            known[line] = (start, end, matches)
    return known


def _matches(raw: bytes, wanted: Iterable[Text]) -> list[_Match]:
    """The texts in one line, without those that another one there makes needless."""
    found = [match for text in wanted if (match := _match(raw, text)) is not None]
    if len(found) < 2:
        return found
    found = [one for one in found if not one.text.yields] or found
    found = _longest(found)
    telling = [one for one in found if not one.text.kind.vague]
    if any(one.text.kind.severity == "cause" for one in telling):
        found = telling
    found = [one for one in found if one.text.kind.id != _SAYS_LEAST] or found
    first: dict[str, _Match] = {}
    for one in sorted(found, key=lambda match: (match.spans[0], match.text.id)):
        first.setdefault(one.text.kind.id, one)
    return list(first.values())


def _match(raw: bytes, text: Text) -> _Match | None:
    spans: list[tuple[int, int]] = []
    at = 0
    for piece in text.says:
        start = _find(raw, piece, at)
        if start < 0:
            return None
        at = start + len(piece)
        spans.append((start, at))
    return _Match(text, tuple(spans))


def _longest(found: Sequence[_Match]) -> list[_Match]:
    """Those that lie in no other. Only what begins shortly before another can hold it, so that a line with every text
    in it is no square of them.
    """
    starts = sorted((start, number) for number, match in enumerate(found) for start, _ in match.spans)
    reach = max(end - start for match in found for start, end in match.spans)

    def held(one: _Match) -> bool:
        start = one.spans[0][0]
        near = starts[bisect_left(starts, (start - reach, 0)) : bisect_left(starts, (start + 1, 0))]
        return any(one.within(found[number]) for _, number in near)

    return [one for one in found if not held(one)]


def _find(raw: bytes, piece: bytes, at: int) -> int:
    """Where a piece stands; a short one only where its words are whole."""
    start = raw.find(piece, at)
    if start < 0 or len(piece.translate(_TO_WORDS).split()) > _SHORT:
        return start
    while start >= 0:
        end = start + len(piece)
        before = start and piece[0] in _IN_WORDS and raw[start - 1] in _IN_WORDS
        if not before and not (end < len(raw) and piece[-1] in _IN_WORDS and raw[end] in _IN_WORDS):
            return start
        start = raw.find(piece, end)
    return -1


def _whose(text: Text, raw: bytes) -> str:
    """The family whose text it is here: that whose mark stands first (of two the longer), where a library's text may be
    anyone's.
    """
    if not text.family.library:
        return text.family.name
    marked = [(at, -len(mark), name) for mark, name in _marks() if (at := _find(raw, mark, 0)) >= 0]
    return min(marked)[2] if marked else text.family.name


@cache
def _marks() -> tuple[tuple[bytes, str], ...]:
    return tuple({(mark, text.family.name): None for text in texts() for mark in text.family.marks})


def _shown(raw: bytes) -> str:
    return without_credentials(decoded(raw))


def _tells_of_trouble(raw: bytes) -> bool:
    """Whether a line tells of an error; the frames of a stack trace do not, whatever stands before them."""
    if not any(word in raw for word in _TROUBLED):
        return False
    return len(raw) > _LONGEST_FRAME or _NO_TROUBLE.search(raw) is None


def _count(tallies: dict[tuple[str, str], _Tally], text: Text, family: str, line: int, raw: bytes) -> None:
    tally = tallies.setdefault((text.kind.id, family), _Tally(text.kind, family, {}, []))
    tally.texts[text.id] = None
    tally.count += 1
    if len(tally.places) < _PLACES_KEPT:
        tally.places.append(Place(line, _shown(raw)))


def _joined(tallies: Iterable[_Tally]) -> Iterator[_Tally]:
    """A library's texts with those of the one program that says the same: it prints the library's on a line apart."""
    of_kind: dict[str, list[_Tally]] = {}
    for one in tallies:
        of_kind.setdefault(one.kind.id, []).append(one)
    for several in of_kind.values():
        programs = [one for one in several if one.family not in _libraries()]
        if len(programs) != 1:
            yield from several
            continue
        (program,) = programs
        for one in several:
            if one is not program:
                program.texts.update(one.texts)
                program.count += one.count
                program.places = sorted(program.places + one.places, key=lambda place: place.line)[:_PLACES_KEPT]
        yield program


@cache
def _libraries() -> frozenset[str]:
    return frozenset(text.family.name for text in texts() if text.family.library)


def _in_order(tallies: Iterable[_Tally]) -> Iterator[Explained]:
    """Causes before notes, what tells more before what is vague, then as they stand in the file."""
    for one in sorted(
        tallies, key=lambda t: (_SEVERITIES.index(t.kind.severity), t.kind.vague, t.places[0].line, t.kind.id)
    ):
        yield Explained(one.kind, one.family, tuple(one.texts), tuple(one.places), one.count)
