"""What several commands share: the home, the store, how things are printed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from countersign.errors import EnvironmentFault, UserError
from countersign.recorder.private_files import FileFault, make_private_dir, read_regular, write_private, write_public

if TYPE_CHECKING:
    from collections.abc import Iterator

    from countersign.recorder.store import Store

Home = Annotated[
    Path | None,
    typer.Option(
        "--home",
        envvar="COUNTERSIGN_HOME",
        help="Where the CA and the recordings live (default: the platform's user data directory).",
        show_default=False,
    ),
]
StoreUrl = Annotated[
    str | None,
    typer.Option(
        "--store",
        envvar="COUNTERSIGN_STORE",
        help="Another store: a file or a database URL (default: in the home).",
        show_default=False,
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
RecordingId = Annotated[
    str, typer.Argument(metavar="ID", help="An id or an unambiguous beginning of one, a label, `last` or `last~1`.")
]


def default_home() -> Path:
    """``COUNTERSIGN_HOME``, or the platform's user data directory."""
    named = os.environ.get("COUNTERSIGN_HOME")
    if named:
        return Path(named)
    import platformdirs

    return Path(platformdirs.user_data_dir("countersign"))


def home_of(given: Path | None) -> Path:
    """The home directory, made with mode 0700 if it is not there."""
    try:
        return make_private_dir(given or default_home())
    except EnvironmentFault as fault:
        raise EnvironmentFault(f"{fault}, or name another home with --home or COUNTERSIGN_HOME") from None


def store_location(home: Path | None, url: str | None) -> str:
    """Where recordings are kept."""
    return url or str(home_of(home) / "recordings.sqlite")


def read_file(path: Path, *, what: str) -> bytes:
    """The bytes of a file that an option names; ``what`` is the option."""
    try:
        data = read_regular(path)
    except FileFault as fault:
        raise UserError(f"{what}: {fault}") from None
    if data is None:
        raise UserError(f"{what}: there is no file {path}")
    return data


@contextmanager
def ended_as_by_ctrl_c() -> Iterator[None]:
    """SIGTERM and SIGHUP end what runs within as Ctrl-C does, once: behind its own ``finally``, and with 128 and their
    number for an exit code. One that was ignored when we were started stays so.
    """

    def end(number: int, _frame: object) -> None:
        for each in before:
            signal.signal(each, signal.SIG_IGN)  # it is ending
        raise SystemExit(128 + number)

    known = (getattr(signal, name, None) for name in ("SIGTERM", "SIGHUP"))  # Windows has no SIGHUP
    numbers = [each for each in known if each is not None and signal.getsignal(each) is not signal.SIG_IGN]
    before = {each: signal.signal(each, end) for each in numbers}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def open_store(home: Path | None, url: str | None, *, make: bool = False) -> closing[Store]:
    """The store, for a ``with``. The home's is made if it is not there; one that was named only with ``make``."""
    from countersign.recorder.store import Store

    return closing(Store.open(store_location(home, url), create=make or url is None))


def print_json(document: Any) -> None:
    """JSON for a machine; escapes keep every control character of a peer's out of a terminal."""
    typer.echo(json.dumps(document, indent=2, ensure_ascii=True))


def terminal_width() -> int:
    """The columns to wrap text in: the terminal's, and 120 in a pipe."""
    return shutil.get_terminal_size((120, 0)).columns


def unicode_output() -> bool:
    """Whether standard output takes what the ladder is drawn with."""
    try:
        "│►🔒…".encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        return False
    return True


def coloured_output() -> bool:
    """Whether somebody sees colours, and wants to (https://no-color.org)."""
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ


def write_out(
    data: bytes,
    out: Path | None,
    *,
    overwrite: bool,
    home: Path | None,
    store: str | None = None,
    public: bool = False,
) -> None:
    """To a file (0600 unless it is public, whole or not at all), or to standard output.

    A file that is there is replaced only with ``overwrite``, and one of the home or the store not even then.
    """
    if out is None or str(out) == "-":
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    check_not_ours(out, home, store)
    with naming_overwrite():
        if public:
            write_public(out, data, overwrite=overwrite)
        else:
            write_private(out, data, overwrite=overwrite, allow_sticky=True)


@contextmanager
def naming_overwrite(*others: str) -> Iterator[None]:
    """Add to the sentence for a file that is there the flags that help."""
    try:
        yield
    except FileFault as fault:
        if not isinstance(fault.__cause__, FileExistsError):
            raise
        raise FileFault(f"{fault}, or give {' or '.join(('--overwrite', *others))}") from fault.__cause__


def check_not_ours(out: Path, home: Path | None = None, store: str | None = None) -> None:
    """Refuse a file of the home, where the CA's keys and the recordings are, and the files of a store elsewhere."""
    place = _real(out)
    if not os.path.lexists(place):
        return
    own = os.path.realpath(home or default_home())
    if place.is_relative_to(own):
        raise UserError(
            f"cannot write {out}: it is one of the files of the home {own}, which are not replaced; name another"
        )
    url = store or os.environ.get("COUNTERSIGN_STORE") or ""
    name = url.partition(":///")[2] if url.startswith("sqlite") and ":///" in url else url
    kept = str(_real(Path(name).expanduser())) if name else None
    if kept and str(place) in {kept, f"{kept}-wal", f"{kept}-shm", f"{kept}-journal"}:
        raise UserError(f"cannot write {out}: it is the store {url}; name another file")


def _real(path: Path) -> Path:
    """The file itself: a link in its own place is not followed by what writes."""
    return Path(os.path.realpath(path.parent)) / path.name
