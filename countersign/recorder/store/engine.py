"""How the databases are spoken to: connections that are set up, and sentences for what goes wrong.

SQLite's file exists before SQLite sees it, made private by :mod:`countersign.recorder.private_files`; SQLite itself
would make it with the mode of the umask. Its ``-wal`` and ``-shm`` files get the mode of the file that they belong to.
"""

from __future__ import annotations

import os
import sqlite3
import time
from typing import TYPE_CHECKING
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, QueuePool, create_engine, event
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError

from countersign.errors import EnvironmentFault

if TYPE_CHECKING:
    from pathlib import Path

WRITES = "countersign_writes"
"""The execution option of a connection that will write."""

_BUSY_TIMEOUT = 5.0
_HEADER = b"SQLite format 3\0"


class StoreDamaged(EnvironmentFault):
    """The bytes of the store are not right, whatever is tried again."""


def sqlite_engine(path: Path) -> Engine:
    """Connections to the file, which must be there; transactions begin when SQLAlchemy says so."""

    def connect() -> sqlite3.Connection:
        uri = f"file:{quote(os.fsencode(path))}?mode=rw"  # never make it: see above
        connection = sqlite3.connect(
            uri, uri=True, timeout=_BUSY_TIMEOUT, isolation_level=None, check_same_thread=False
        )
        try:
            _prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    url = URL.create("sqlite", database=str(path))
    engine = create_engine(url, creator=connect, poolclass=QueuePool, hide_parameters=True)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # The driver is kept from beginning transactions by itself. What will write says so at once: a reader that
        # becomes a writer later fails without waiting when another was faster.
        writes = connection.get_execution_options().get(WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _prepare(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA trusted_schema=OFF")
    connection.execute("PRAGMA auto_vacuum=INCREMENTAL")  # heard only by a file with nothing in it
    deadline = time.monotonic() + _BUSY_TIMEOUT
    while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            connection.execute("PRAGMA journal_mode=WAL").fetchone()
            break  # where the file system cannot have it, SQLite stays with its rollback journal
        except sqlite3.OperationalError as error:
            # SQLite does not wait here by itself, and two processes may open a new store at once.
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA secure_delete=ON")
    connection.execute("PRAGMA wal_autocheckpoint=2000")
    connection.execute(f"PRAGMA journal_size_limit={64 << 20}")


def postgresql_engine(url: URL) -> Engine:
    """Connections to a PostgreSQL server, by psycopg."""
    url = url.set(drivername="postgresql+psycopg")
    try:
        return create_engine(url, hide_parameters=True, pool_pre_ping=True, connect_args={"connect_timeout": 5})
    except ModuleNotFoundError:
        raise EnvironmentFault(
            f"cannot open the store {url.render_as_string(hide_password=True)}: PostgreSQL needs psycopg; "
            "run: pip install 'countersign[postgresql]'"
        ) from None


def check_file(path: Path) -> None:
    """Raise :class:`EnvironmentFault` for a file that is no SQLite database and not empty.

    SQLite itself takes a file that is shorter than a page for an empty one, and writes over it.
    """
    try:
        with path.open("rb") as file:
            begins = file.read(len(_HEADER))
    except OSError:  # who opens it to write says why
        return
    if begins not in (b"", _HEADER):
        fault = damaged("open", str(path), "it is no SQLite database")
        raise StoreDamaged(f"{fault}; if it never was a store, name another")


def is_cut(path: Path) -> bool:
    """Whether the file of a database has fewer pages than its header counts, or no header: somebody cut it.

    Right to ask only when the file has just become shorter. A checkpoint writes the header with a new count before the
    pages behind it (https://sqlite.org/fileformat2.html, 1.3.8), but shortens the file last.
    """
    with path.open("rb") as file:
        head = file.read(100)
        size = os.fstat(file.fileno()).st_size
    page = int.from_bytes(head[16:18], "big")
    return len(head) < 100 or size < int.from_bytes(head[28:32], "big") * (65536 if page == 1 else page)


def damaged(attempt: str, place: str, what: str) -> StoreDamaged:
    """The sentence for a store whose bytes are not right."""
    return StoreDamaged(
        f"cannot {attempt} the store {place}: it is damaged ({what}); move it away and a new one will be begun "
        f"(mv {place} {place}.damaged, the same for -wal and -shm); nothing was deleted"
    )


def sqlite_fault(attempt: str, place: str, error: DBAPIError | sqlite3.Error) -> EnvironmentFault | None:
    """The sentence for what SQLite says; ``None`` where what we asked of it was wrong."""
    cannot = f"cannot {attempt} the store {place}"
    cause = error.orig if isinstance(error, DBAPIError) else error
    says = " ".join(str(cause).split())
    code: int | None = getattr(cause, "sqlite_errorcode", None)
    if code is None:
        # Of the driver itself: a value that cannot be text although its column says so, or a defect of ours.
        return damaged(attempt, place, says) if isinstance(cause, sqlite3.OperationalError) else None
    match code & 0xFF:
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return damaged(attempt, place, f"SQLite says: {says}")
        case sqlite3.SQLITE_FULL:
            return EnvironmentFault(f"{cannot}: the disk is full; free some space, or name another place")
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return EnvironmentFault(
                f"{cannot}: another process has been writing to it for {_BUSY_TIMEOUT:.0f} s; "
                f"wait for it or end it (fuser -v {place} names it)"
            )
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            return EnvironmentFault(
                f"{cannot}: it cannot be written (SQLite says: {says}); check who may write to it and to its "
                "directory, or name another place"
            )
        case sqlite3.SQLITE_IOERR:
            return EnvironmentFault(
                f"{cannot}: the disk does not do as it should ({getattr(cause, 'sqlite_errorname', says)}); "
                "look at the system's log, or name another place"
            )
        case sqlite3.SQLITE_CONSTRAINT | sqlite3.SQLITE_MISMATCH | sqlite3.SQLITE_TOOBIG | sqlite3.SQLITE_RANGE:
            return None
        case _:
            return EnvironmentFault(f"{cannot}: SQLite says: {says}")


def postgresql_fault(attempt: str, place: str, error: DBAPIError) -> EnvironmentFault | None:
    """The same for PostgreSQL. ``place`` holds no password."""
    if isinstance(error, (DataError, IntegrityError)):
        return None
    says = " ".join(str(error.orig).split())
    return EnvironmentFault(f"cannot {attempt} the store {place}: PostgreSQL says: {says}")
