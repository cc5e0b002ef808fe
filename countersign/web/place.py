"""Where a proxy can be told what to do, and the token for it: a file in the home, 0600, for as long as it runs::

    HOME/control/4f1c09aa31c2d7e0.json
    {"control": "127.0.0.1:9001", "token": "...", "listen": ["127.0.0.1:8443"], "owner": {"pid": 4711, ...}}

Several proxies may have one home, and one that was killed leaves its file behind; it says whose it is, so that whoever
looks for a proxy (:func:`find`) passes over those of the dead, and the next proxy removes them.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from countersign.errors import EnvironmentFault, UserError
from countersign.recorder.private_files import FileFault, make_private_dir, read_private, write_private
from countersign.recorder.store.owner import Owner

if TYPE_CHECKING:
    from collections.abc import Iterator

_FOLDER = "control"
_AT_MOST = 1 << 16


def new_token() -> str:
    """256 bits that nobody guesses."""
    return secrets.token_urlsafe(32)


@dataclass(frozen=True, slots=True)
class Place:
    """Where one proxy is told what to do; ``listen`` is where its clients come."""

    control: str
    token: str
    listen: tuple[str, ...]
    owner: Owner


@contextlib.contextmanager
def kept(home: Path, control: str, token: str, listen: list[str]) -> Iterator[Path]:
    """The file of this process while the block runs. Raises :class:`FileFault`."""
    folder = make_private_dir(home / _FOLDER)
    for path, place in _places(folder):
        if not place.owner.alive():
            path.unlink(missing_ok=True)
    path = folder / f"{secrets.token_hex(8)}.json"
    said = {"control": control, "token": token, "listen": listen, "owner": asdict(Owner.current())}
    write_private(path, json.dumps(said).encode() + b"\n")
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):
            path.unlink()


def find(home: Path, named: str | None) -> Place:
    """The proxy that is meant: of those of the home the only one, or the one ``named`` by its address or its file.

    Raises :class:`EnvironmentFault` where there is none, :class:`UserError` where there are several.
    """
    if named is not None and named.endswith(".json"):
        return read(Path(named))
    running = [place for _, place in _places(home / _FOLDER) if place.owner.alive()]
    meant = [place for place in running if named in {None, place.control}]
    if len(meant) == 1:
        return meant[0]
    if not meant:
        what = f"no proxy is controlled at {named}" if named is not None and running else "no proxy can be controlled"
        raise EnvironmentFault(
            f"{what} from the home {home}; start one with `countersign proxy --control 127.0.0.1:0 ...`, or name its "
            "home with --home, or the control file that its ready file names with --control"
        )
    there = ", ".join(f"{place.control} (clients at {', '.join(place.listen)})" for place in meant)
    raise UserError(f"--control has to say which proxy is meant: there are {there}")


def read(path: Path) -> Place:
    """One such file. Raises :class:`FileFault`."""
    data = read_private(path, at_most=_AT_MOST)
    try:
        said = json.loads(data)
        owner = Owner(**said["owner"])
        place = Place(said["control"], said["token"], tuple(said["listen"]), owner)
        sound = all(isinstance(each, str) for each in (place.control, place.token, owner.boot_id, *place.listen))
        sound = sound and all(isinstance(each, int) for each in (owner.pid, owner.started, owner.namespace))
    except (ValueError, KeyError, TypeError, RecursionError):
        sound = False
    if not sound:
        raise FileFault(f"cannot read {path}: it is no control file of a proxy")
    return place


def _places(folder: Path) -> Iterator[tuple[Path, Place]]:
    for path in sorted(folder.glob("*.json")):
        with contextlib.suppress(FileFault):  # it went meanwhile, or is none
            yield path, read(path)
