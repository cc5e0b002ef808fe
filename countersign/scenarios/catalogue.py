"""Where scenarios are found: those that come with the package, and those of the user.

Built in are the files of ``catalogue/``, one folder a family. A user's own stand in ``scenarios/`` of the home and in
the directories that are named beside it; one of the same id stands before the built-in one. ``a+b`` is both at once,
and what ends in ``.toml`` is a file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from importlib import resources
from pathlib import Path

from countersign.scenarios.model import Scenario, nearest
from countersign.scenarios.reading import ScenarioError, Source, composed, read_scenario

_CALLED = {
    **dict.fromkeys(("wrong-name", "bad-name", "name-mismatch"), "other-name"),
    **dict.fromkeys(("wrong-host", "bad-host", "host-mismatch"), "other-name"),
    **dict.fromkeys(("wrong-hostname", "bad-hostname", "hostname-mismatch"), "other-name"),
    **dict.fromkeys(("incomplete-chain", "leaf-only", "no-intermediate"), "missing-intermediate"),
    **dict.fromkeys(("untrusted-root", "untrusted-ca", "unknown-ca", "untrusted"), "unknown-root"),
}
"""What others call a scenario that we have."""

BUILT_IN = Path(str(resources.files("countersign.scenarios").joinpath("catalogue")))


class Catalogue(Mapping[str, Scenario]):
    """Scenarios by their ids, in the order of families and ids; each is read when it is first asked for.

    ``directories`` are a user's, the first before the others. ``given`` are values of parameters (``--set``); those
    that a scenario does not have are no mistake of that scenario's where it is one of many.
    """

    def __init__(self, directories: Sequence[Path] = ()) -> None:
        self._directories = directories
        self._read: dict[str, Scenario] = {}
        self._sources: dict[str, Source] = {}

    @property
    def files(self) -> dict[str, Path]:
        """The file of each id."""
        return {name: Path(place) for name, place in self._places.items()}

    @cached_property
    def _places(self) -> dict[str, str]:
        found = _files_in(BUILT_IN)
        for directory in reversed(self._directories):
            found |= _files_in(directory)
        return found

    def __getitem__(self, name: str) -> Scenario:
        if name not in self._places:
            raise KeyError(name)
        if name not in self._read:
            self._read[name] = read_scenario(self.source(name), find=self.source)
        return self._read[name]

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def source(self, name: str) -> Source:
        """The text of a scenario. Raises :class:`ScenarioError` for one that there is not."""
        if name not in self._places:
            raise ScenarioError(f"there is no scenario {name!r}{nearest(_CALLED.get(name, name), self._places)}")
        if name not in self._sources:
            self._sources[name] = Source.load(Path(self._places[name]))
        return self._sources[name]

    def open(self, text: str, given: Mapping[str, str] | None = None) -> Scenario:
        """What ``--scenario`` names: an id, a file, or several of these with ``+`` between them.

        ``given`` are values of parameters. Raises :class:`ScenarioError`.
        """
        given = dict(given or {})
        sources = [self._named(each) for each in text.split("+")]
        read = [read_scenario(each, find=self.source, given=_of(each, given, self, len(sources))) for each in sources]
        return composed(read)

    def _named(self, text: str) -> Source:
        if text.endswith(".toml") or "/" in text or "\\" in text:
            return Source.load(text)
        return self.source(text)


def _files_in(directory: Path) -> dict[str, str]:
    """The scenario files in it and below, in the order of their paths. One program opens one of hundreds, so none is
    made a path here.
    """
    found = [(place, name) for place, _, names in os.walk(directory) for name in names if name.endswith(".toml")]
    found.sort(key=lambda each: (each[0].replace(os.sep, "\0"), each[1]))  # folder by folder, by their parts
    return {name.removesuffix(".toml"): f"{place}{os.sep}{name}" for place, name in found}


def _of(source: Source, given: dict[str, str], catalogue: Catalogue, several: int) -> dict[str, str]:
    """Of the values those that are this scenario's; with one scenario, all of them are."""
    if several == 1 or not given:
        return given
    own = read_scenario(source, find=catalogue.source).parameters
    return {name: value for name, value in given.items() if name in own}


def catalogue(*directories: Path) -> Catalogue:
    """The built-in scenarios, and those in these directories."""
    return Catalogue(directories)
