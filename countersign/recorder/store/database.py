"""The store: recordings in SQLite or PostgreSQL, written and read.

What a recording is once it is here: one row (:mod:`.schema`), whose blob holds all of it (:mod:`.blob`) and whose
columns are what lists and filters need (:mod:`.index`).

*Durability.* SQLite runs with a write-ahead log and ``synchronous=NORMAL``: a commit has left this process when it
returns, so no kill of the process loses it, and the store is whole after any crash. A power failure may take the last
commits before it, never older ones. ``FULL`` would flush the disk at each commit, for which a hundred commits a second
while handshakes go on are too many, and the proxy's promise is about being killed.

*Space.* Freed pages are overwritten with zeros (``secure_delete``: what was pruned is gone) and used again;
:meth:`Store.prune` gives them back to the file system.

*Faults.* Whatever the database says becomes an :class:`EnvironmentFault` that names the store, or is a defect of ours.
Decisions go by SQLite's result codes, never by its wording. No error repeats the values of a statement: they may hold
secrets.
"""

from __future__ import annotations

import os
import re
import sqlite3
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, Unpack

from sqlalchemy import (
    Connection,
    Engine,
    Row,
    bindparam,
    delete,
    exists,
    func,
    insert,
    inspect,
    make_url,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError

from countersign.errors import EnvironmentFault, NothingCalledSo, UserError
from countersign.recorder.outcome import INTERRUPTED
from countersign.recorder.private_files import make_private_dir, open_private
from countersign.recorder.recording import LegRole, Recording, Status
from countersign.recorder.store import blob, migrations
from countersign.recorder.store.engine import (
    WRITES,
    check_file,
    damaged,
    is_cut,
    postgresql_engine,
    postgresql_fault,
    sqlite_engine,
    sqlite_fault,
)
from countersign.recorder.store.index import Index, index_of, names_of
from countersign.recorder.store.owner import Owner
from countersign.recorder.store.schema import (
    VERSION_TABLE,
    VERSIONS,
    certificates,
    chain_certificates,
    chains,
    owners,
    recordings,
)
from countersign.recorder.store.search import (
    SHOWN,
    Filters,
    Summary,
    conditions,
    orphaned,
    parse_cursor,
    row_summary,
    storable,
)
from countersign.recorder.wire.events import Problem, Side

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

OWNER_SILENT = 60.0
"""Seconds after which an owner that cannot be looked at from here, and was not heard of, counts as dead."""

_MANY = 500  # of bound values in one statement
_PRUNED_AT_ONCE = 200
_GIVEN_BACK_AT_ONCE = 5000  # pages
_ROW_OVERHEAD = 700  # bytes that a recording takes beside its blob, indexes included; for guessing, never for judging
_MIGRATION_LOCK = 0x636F756E746572  # any number that others are unlikely to use: "counter"

_OWNER = select(owners.c.n, owners.c.seen).where(
    *(owners.c[name] == bindparam(name) for name in ("boot_id", "namespace", "pid", "started"))
)

_Value = TypeVar("_Value")


class Encoded(NamedTuple):
    """A recording made ready to be written: the row but for ``written``, ``owner`` and ``chain``."""

    row: dict[str, Any]
    shown: Index
    certificates: dict[bytes, bytes]


def encode(recording: Recording) -> Encoded:
    """The work of :meth:`Store.put` that needs no database. Raises what a recording out of bounds leads to."""
    if storable(recording.id) != recording.id:
        raise UserError(f"cannot store the recording {recording.id!r}: its id is no plain text")
    packed = blob.pack(recording)
    index = index_of(recording)
    outcome = recording.outcome
    row = {
        "id": recording.id,
        "started": blob.microseconds(recording.started),
        "ended": None if recording.ended is None else blob.microseconds(recording.ended),
        "mode": storable(recording.mode),
        "action": storable(recording.action),
        "scenario": storable(recording.scenario),
        "step": recording.step,
        "client": storable(recording.client),
        "target": storable(recording.target),
        "sni": storable(recording.sni),
        "label": storable(recording.label),
        "status": outcome.status.value,
        "broken_by": outcome.broken_by and outcome.broken_by.value,
        "leg": outcome.leg and outcome.leg.value,
        "alert": storable(outcome.alert),
        "text": storable(outcome.text),
        "from_client": recording.from_client,
        "from_target": recording.from_target,
        "version": index.version,
        "ja4": index.ja4,
        "blob": packed.data,
    }
    return Encoded(row, index, packed.certificates)


class Store:
    """Recordings in one database. May be used by several threads, and one database by several processes.

    Get one by :meth:`open`. ``now`` is asked for the time of writing.
    """

    def __init__(self, engine: Engine, *, path: Path | None, now: Callable[[], datetime]) -> None:
        self._engine = engine
        self._path = path
        self._now = now
        self._place = str(path) if path else engine.url.render_as_string(hide_password=True)
        self._writer = engine.execution_options(**{WRITES: True})
        self._insert: Any = sqlite.insert if path else postgresql.insert
        self._inode, self._size = self._found()
        upsert = self._insert(recordings)
        new = {column.name: upsert.excluded[column.name] for column in recordings.columns if column.name != "id"}
        self._upsert = upsert.on_conflict_do_update(index_elements=["id"], set_=new)
        query = select(chains.c.digest, chains.c.n).where(chains.c.digest.in_(bindparam("digests", expanding=True)))
        # In PostgreSQL so that no prune takes it before our rows refer to it.
        self._chains_of = query if path else query.with_for_update(key_share=True)

    @classmethod
    def open(
        cls, url_or_path: str | Path, *, create: bool = True, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> Store:
        """The store at ``sqlite:///PATH``, a bare path or ``postgresql+psycopg://...``.

        Made if it is not there (the file with mode 0600, missing directories with 0700), unless ``create`` is false;
        brought to the newest version of the schema. Raises :class:`UserError` for a URL that names no store, and
        :class:`EnvironmentFault` for what is wrong with the store or the place.
        """
        if isinstance(url_or_path, str) and "://" in url_or_path:
            try:
                url = make_url(url_or_path)
            except (ArgumentError, ValueError):
                raise UserError(
                    "cannot open the store: its URL cannot be read; expected sqlite:///PATH, a path, "
                    "or postgresql+psycopg://USER@HOST/DATABASE"
                ) from None
            backend = url.get_backend_name()
            if backend == "postgresql":
                return cls._opened(postgresql_engine(url), path=None, now=now)
            if backend != "sqlite" or not url.database or url.host:
                raise UserError(
                    f"cannot open the store {url.render_as_string(hide_password=True)}: expected sqlite:///PATH, a "
                    "path, or postgresql+psycopg://USER@HOST/DATABASE"
                )
            url_or_path = url.database
        if str(url_or_path) in ("", ":memory:"):
            raise UserError("cannot open the store: it needs a file; name a path")
        try:
            path = Path(os.path.abspath(Path(url_or_path).expanduser()))  # noqa: PTH100  links are not to be followed
        except RuntimeError as wrong:  # the home of nobody
            raise UserError(f"cannot open the store {str(url_or_path)!r}: it is no path ({wrong})") from None
        if "\0" in str(path):
            raise UserError(f"cannot open the store {str(path)!r}: it is no path (it holds a NUL)")
        if not create and not os.path.lexists(path):
            raise UserError(
                f"cannot open the store {path}: there is no such file; record something first, or name another store"
            )
        if not path.parent.exists():
            make_private_dir(path.parent)
        if path.is_file() and not path.is_symlink():
            check_file(path)  # before its mode is judged: what is no store is not to be made private
        os.close(open_private(path))
        return cls._opened(sqlite_engine(path), path=path, now=now)

    @classmethod
    def _opened(cls, engine: Engine, *, path: Path | None, now: Callable[[], datetime]) -> Store:
        store = cls(engine, path=path, now=now)
        try:
            store._migrate()
        except BaseException:
            store.close()
            raise
        return store

    def close(self) -> None:
        """Let go of the database. A store that is closed opens again by itself when it is used."""
        self._engine.dispose()

    # -- writing -------------------------------------------------------------------------------------------------

    def put(self, recordings: Sequence[Recording], *, owner: Owner | None) -> None:
        """Write these, each in place of what the store has under its id, all of them or none.

        ``owner`` is the process that will finish those that are open; an open one without owner reads as interrupted.
        """
        self.write([encode(recording) for recording in recordings], owner=owner)

    def write(self, encoded: Sequence[Encoded], *, owner: Owner | None) -> None:
        """:meth:`put` for what :func:`encode` made ready."""
        if not encoded:
            return
        with self._writing("write to") as connection:
            written = blob.microseconds(self._now())
            some_open = any(one.row["status"] == Status.OPEN for one in encoded)
            number = self._owner_number(connection, owner, written) if owner is not None and some_open else None
            numbers = self._chain_numbers(connection, encoded)
            rows = [
                {
                    **one.row,
                    "written": written,
                    "owner": number if one.row["status"] == Status.OPEN else None,
                    "chain": numbers.get(one.shown.digest),
                }
                for one in encoded
            ]
            rows.sort(key=lambda row: row["id"])  # one order for all: two writers in PostgreSQL never wait in a circle
            connection.execute(self._upsert, rows)

    def finish(self, last: Recording) -> bool:
        """Give the open recording under this id the end that ``last`` has, whose legs were not kept; whether there was
        one that can be read. A problem on it says so.
        """
        with self._reading("read") as connection:
            row = connection.execute(select(recordings.c.status).where(recordings.c.id == last.id)).first()
        if row is None or row.status != Status.OPEN.value:
            return False
        try:
            before = self.get(last.id)
        except EnvironmentFault as fault:
            if isinstance(fault.__cause__, blob.BlobError):
                return False
            raise
        role = before.legs[0].role if before.legs else LegRole.THROUGH
        when = (last.ended - last.started).total_seconds() if last.ended else 0.0
        expected = "room for the whole recording among those that wait for the store"
        problem = Problem(
            when, Side.CLIENT, "store.queue", 0, expected, "none: what came after the last snapshot was dropped"
        )
        ended = replace(
            before,
            ended=last.ended,
            outcome=last.outcome,
            from_client=last.from_client,
            from_target=last.from_target,
            problems=(*before.problems, (role, problem)),
        )
        self.put([ended], owner=None)
        return True

    def check(self) -> None:
        """Read every page of the file. Raises :class:`.StoreDamaged` where they do not fit together."""
        if self._path is None:
            return
        with self._raw("check") as raw:
            (found,) = raw.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise damaged("check", self._place, f"SQLite says: {' '.join(str(found).split())}")

    def touch(self, owner: Owner) -> None:
        """Say that the owner is still there, for those who cannot look at it (:data:`OWNER_SILENT`)."""
        with self._writing("write to") as connection:
            self._owner_number(connection, owner, blob.microseconds(self._now()))

    def mark_interrupted(self) -> int:
        """Give the open recordings of dead owners the outcome ``interrupted``; how many there were.

        Their end is when they were last written. An owner is dead when its process is gone. One that cannot be looked
        at from here (another machine's or another container's) is dead when it has been silent for
        :data:`OWNER_SILENT` seconds: a :class:`.StoreWriter` says every ten that it is there.
        """
        with self._reading("read") as connection:
            dead = self._dead_owners(connection)
            left = connection.execute(select(recordings.c.id).where(orphaned(dead)).limit(1)).first()
        if not dead and left is None:
            return 0
        with self._writing("write to") as connection:
            marked = connection.execute(
                update(recordings)
                .where(orphaned(dead))
                .values(
                    status=INTERRUPTED.status.value,
                    broken_by=None,
                    leg=None,
                    alert=None,
                    text=INTERRUPTED.text,
                    ended=func.coalesce(recordings.c.ended, recordings.c.written),
                    owner=None,
                )
            )
            connection.execute(delete(owners).where(owners.c.n.in_(dead)))
            return marked.rowcount

    def _owner_number(self, connection: Connection, owner: Owner, now: int) -> int:
        process = {
            "boot_id": owner.boot_id,
            "namespace": owner.namespace,
            "pid": owner.pid,
            "started": owner.started,
        }
        found = connection.execute(_OWNER, process).first()
        if found is None:
            made = connection.execute(insert(owners).values(**process, seen=now).returning(owners.c.n))
            return int(made.scalar_one())
        if now - found.seen > 1_000_000:
            connection.execute(update(owners).where(owners.c.n == found.n).values(seen=now))
        return int(found.n)

    def _chain_numbers(self, connection: Connection, encoded: Sequence[Encoded]) -> dict[bytes, int]:
        """The number of each chain that these recordings showed; what is new is written."""
        wanted = {one.shown.digest: one for one in encoded if one.shown.digest}
        found: dict[bytes, int] = {}
        for part in _parts(list(wanted)):
            rows = connection.execute(self._chains_of, {"digests": part})
            found.update((bytes(digest), n) for digest, n in rows)
        new = sorted(set(wanted) - set(found))
        if not new:
            return found
        ders = {digest: der for key in new for digest, der in wanted[key].certificates.items()}
        connection.execute(
            self._insert(certificates).on_conflict_do_nothing(),
            [{"sha256": digest, "der": ders[digest]} for digest in sorted(ders)],
        )
        for key in new:
            index = wanted[key].shown
            connection.execute(
                self._insert(chains).on_conflict_do_nothing(),
                {
                    "digest": key,
                    "leaf_client": index.leaf_client,
                    "leaf_target": index.leaf_target,
                    "names": storable(names_of(wanted[key].certificates.values())),
                },
            )
            number = connection.execute(select(chains.c.n).where(chains.c.digest == key)).scalar_one()
            connection.execute(
                self._insert(chain_certificates).on_conflict_do_nothing(),
                [{"chain": number, "certificate": digest} for digest in sorted(wanted[key].certificates)],
            )
            found[key] = number
        return found

    # -- reading -------------------------------------------------------------------------------------------------

    def get(self, reference: str) -> Recording:
        """The recording of this id, label (the newest with it), unambiguous beginning of an id, ``last`` or ``last~1``.

        A label goes before the beginning of an id, for ids are random and ``bad`` could begin one. Raises
        :class:`UserError` when there is none or more than one, :class:`EnvironmentFault` when it is damaged.
        """
        with self._reading("read") as connection:
            id_ = self._resolve(connection, reference)
        with self._reading(f"read the recording {id_} from") as connection:
            columns = recordings.c
            row = connection.execute(
                select(columns.blob, columns.status, columns.owner, columns.written, columns.ended).where(
                    columns.id == id_
                )
            ).first()
            if row is None:
                raise self._no_recording(reference)
            interrupted = row.status == Status.INTERRUPTED or (
                row.status == Status.OPEN and (row.owner is None or row.owner in self._dead_owners(connection))
            )
            try:
                if not isinstance(row.blob, (bytes, memoryview)):
                    raise blob.BlobError(f"it is {type(row.blob).__name__} instead of bytes")
                recording = blob.unpack(bytes(row.blob), lambda digests: self._find(connection, digests))
                if recording.id != id_:
                    raise blob.BlobError(f"it is the recording {recording.id!r}")
            except blob.BlobError as wrong:
                raise EnvironmentFault(
                    f"cannot read the recording {id_} from the store {self._place}: {wrong}; "
                    "the other recordings are not affected"
                ) from wrong
        if interrupted and recording.outcome.status is Status.OPEN:
            ended = blob.moment(row.written if row.ended is None else row.ended)
            return replace(recording, outcome=INTERRUPTED, ended=recording.ended or ended)
        return recording

    def known(self, ids: Iterable[str]) -> set[str]:
        """Which of these ids the store has."""
        found: set[str] = set()
        with self._reading("read") as connection:
            for part in _parts(list(ids)):
                found.update(connection.execute(select(recordings.c.id).where(recordings.c.id.in_(part))).scalars())
        return found

    def summaries(
        self, *, limit: int | None = 50, before: str | None = None, **filters: Unpack[Filters]
    ) -> list[Summary]:
        """Newest first. ``before`` is the :attr:`Summary.cursor` of the last one of the page before."""
        columns = recordings.c
        with self._reading("read") as connection:
            dead = self._dead_owners(connection)
            query = (
                select(*SHOWN)
                .select_from(recordings.outerjoin(chains, columns.chain == chains.c.n))
                .where(*conditions(filters, dead))
                .order_by(columns.started.desc(), columns.id.desc())
                .limit(limit)
            )
            if before is not None:
                started, id_ = parse_cursor(before)
                query = query.where(columns.started <= started, or_(columns.started < started, columns.id < id_))
            rows = connection.execute(query).all()
        try:
            return [row_summary(row, dead) for row in rows]
        except (ValueError, TypeError, OverflowError) as wrong:  # a column holds what nobody wrote
            raise damaged("read", self._place, f"a row of its list: {wrong}") from wrong

    def beginnings(self, ids: Iterable[str], *, at_least: int = 8) -> dict[str, str]:
        """For each of these ids a beginning that is no other's, of that many characters or as many more as it takes."""
        own, next_to = recordings.c.id, recordings.alias().c.id
        below = select(func.max(next_to)).where(next_to < own).scalar_subquery()
        above = select(func.min(next_to)).where(next_to > own).scalar_subquery()
        found: dict[str, str] = {}
        with self._reading("read") as connection:
            for part in _parts(list(ids)):
                for id_, *near in connection.execute(select(own, below, above).where(own.in_(part))):
                    size = at_least
                    while size < len(id_) and any(other and other.startswith(id_[:size]) for other in near):
                        size += 1
                    found[id_] = id_[:size]
        return found

    def count(self, **filters: Unpack[Filters]) -> int:
        """How many recordings there are that match."""
        with self._reading("read") as connection:
            matching = conditions(filters, self._dead_owners(connection))
            query = select(func.count()).select_from(recordings).where(*matching)
            return int(connection.execute(query).scalar_one())

    def _resolve(self, connection: Connection, reference: str) -> str:
        columns = recordings.c
        newest = select(columns.id).order_by(columns.started.desc(), columns.id.desc())
        named = storable(reference)
        back = re.fullmatch(r"last(?:~(\d{1,9}))?", reference)
        if back:
            found = connection.execute(newest.limit(1).offset(int(back[1] or 0))).scalar()
            if found is None:
                count = connection.execute(select(func.count()).select_from(recordings)).scalar_one()
                raise UserError(f"no recording {reference!r}: the store {self._place} holds {count}")
            return str(found)
        for exact in (columns.id == named, columns.label == named):
            found = connection.execute(newest.where(exact).limit(1)).scalar()
            if found is not None:
                return str(found)
        if not named:
            raise self._no_recording(reference)
        query = newest.where(columns.id >= named, columns.id < named + "\U0010ffff")
        begun = list(connection.execute(query.limit(4)).scalars())
        if not begun:
            raise self._no_recording(reference)
        if len(begun) > 1:
            some = ", ".join(begun[:3]) + (", ..." if len(begun) > 3 else "")
            raise UserError(
                f"ambiguous: more than one recording begins with {reference!r} ({some}); give more of the id"
            )
        return str(begun[0])

    def _no_recording(self, reference: str) -> NothingCalledSo:
        return NothingCalledSo(
            f"no recording {reference!r}: it is no id, no beginning of one and no label in the store {self._place}; "
            "`countersign ls` shows what there is"
        )

    def _find(self, connection: Connection, digests: Sequence[bytes]) -> Mapping[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        for part in _parts(digests):
            query = select(certificates.c.sha256, certificates.c.der).where(certificates.c.sha256.in_(part))
            found.update((bytes(digest), bytes(der)) for digest, der in connection.execute(query))
        return found

    def _dead_owners(self, connection: Connection) -> list[int]:
        here = Owner.current()
        now = blob.microseconds(self._now())
        dead = []
        for row in connection.execute(select(owners)):
            owner = Owner(row.boot_id, row.pid, row.started, row.namespace)
            if owner.visible:
                gone = not owner.alive()
            elif self._path and owner.boot_id != here.boot_id:
                gone = True  # a file has one machine at a time, so it was an earlier boot of it
            else:
                gone = now - row.seen > OWNER_SILENT * 1_000_000
            if gone:
                dead.append(row.n)
        return dead

    # -- making room ---------------------------------------------------------------------------------------------

    def prune(self, *, older_than: datetime | None = None, max_bytes: int | None = None) -> int:
        """Remove the oldest recordings: those that started before ``older_than``, and as many as it takes for the store
        to need at most ``max_bytes``; how many were removed.

        Certificates that no recording shows any more go with them, and the space goes back to the file system. What
        is still open in a living process stays.
        """
        self.mark_interrupted()
        removed = 0
        while step := self.prune_some(older_than=older_than, max_bytes=max_bytes):
            removed += step
        with self._writing("prune") as connection:
            self._forget_chains(connection)
        if self._path:
            self._shrink()
        return removed

    def prune_some(
        self, *, older_than: datetime | None = None, max_bytes: int | None = None, at_most: int = _PRUNED_AT_ONCE
    ) -> int:
        """One short step of :meth:`prune`, so that a writer need not wait long for its turn; 0 when all is done."""
        columns = recordings.c
        with self._writing("prune") as connection:
            removed = 0
            oldest = (
                select(columns.id, columns.chain, func.length(columns.blob).label("size"))
                .where(columns.status != Status.OPEN.value)
                .order_by(columns.started, columns.id)
            )
            gone: list[Row[*tuple[Any, ...]]] = []
            if older_than is not None:
                old = oldest.where(columns.started < blob.microseconds(older_than))
                gone = list(connection.execute(old.limit(at_most)))
            if not gone and max_bytes is not None:
                excess = self._used(connection) - max_bytes
                for row in connection.execute(oldest.limit(at_most)) if excess > 0 else ():
                    gone.append(row)
                    excess -= row.size + _ROW_OVERHEAD
                    if excess <= 0:
                        break
            for part in _parts(gone):
                connection.execute(delete(recordings).where(columns.id.in_([row.id for row in part])))
                removed += len(part)
            shown = sorted({row.chain for row in gone if row.chain is not None})
            if shown:
                self._forget_chains(connection, shown)
            return removed

    def _forget_chains(self, connection: Connection, some: Sequence[int] | None = None) -> None:
        """Remove the chains (of ``some``) that no recording shows any more, and what certificates only they held."""
        link = chain_certificates.c
        unused = delete(chains).where(~exists().where(recordings.c.chain == chains.c.n))
        orphans = delete(chain_certificates).where(~exists().where(chains.c.n == link.chain))
        unheld = delete(certificates).where(~exists().where(link.certificate == certificates.c.sha256))
        try:
            with connection.begin_nested():
                if some is None:
                    for statement in (unused, orphans, unheld):
                        connection.execute(statement)
                for part in _parts(some or ()):
                    held = connection.execute(select(link.certificate).distinct().where(link.chain.in_(part)))
                    held_by_them = list(held.scalars())
                    if not connection.execute(unused.where(chains.c.n.in_(part))).rowcount:
                        continue
                    connection.execute(orphans.where(link.chain.in_(part)))
                    for digests in _parts(held_by_them):
                        connection.execute(unheld.where(certificates.c.sha256.in_(digests)))
        except IntegrityError:
            # Only in PostgreSQL, where others write meanwhile: a recording came that shows one of them.
            # They stay, and are looked at again by the next prune.
            return

    def used(self) -> int:
        """Bytes that the recordings take: in SQLite the pages in use, in PostgreSQL their blobs and an allowance."""
        with self._reading("read") as connection:
            return self._used(connection)

    def _used(self, connection: Connection) -> int:
        if self._path:
            pages, free, size = (
                int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one())
                for name in ("page_count", "freelist_count", "page_size")
            )
            return (pages - free) * size
        total = func.coalesce(func.sum(func.length(recordings.c.blob) + _ROW_OVERHEAD), 0)
        return int(connection.execute(select(total)).scalar_one())

    def _shrink(self) -> None:
        with self._raw("prune") as raw:
            before, free = None, _pragma(raw, "freelist_count")
            while free and free != before:
                # A script, for the driver would stop after the first page; in steps, so that writers get their turn.
                raw.executescript(f"PRAGMA incremental_vacuum({_GIVEN_BACK_AT_ONCE})")
                before, free = free, _pragma(raw, "freelist_count")
            raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()  # may find readers in its way: then another time

    # -- the database --------------------------------------------------------------------------------------------

    @contextmanager
    def _reading(self, attempt: str) -> Iterator[Connection]:
        with self._faults(attempt), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _writing(self, attempt: str) -> Iterator[Connection]:
        with self._faults(attempt):
            self._look(attempt)
            with self._writer.begin() as connection:
                yield connection

    @contextmanager
    def _raw(self, attempt: str) -> Iterator[sqlite3.Connection]:
        """SQLite's own connection, outside any transaction."""
        with self._faults(attempt):
            pooled = self._engine.raw_connection()
            try:
                raw = pooled.driver_connection
                assert isinstance(raw, sqlite3.Connection)
                yield raw
            finally:
                pooled.close()

    @contextmanager
    def _faults(self, attempt: str) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            fault = (sqlite_fault if self._path else postgresql_fault)(attempt, self._place, error)
            if fault is None:
                raise _without_values(error) from None
            raise fault from error
        except sqlite3.Error as error:  # from setting a connection up
            raise sqlite_fault(attempt, self._place, error) or error from error

    def _found(self) -> tuple[tuple[int, int] | None, int]:
        """Which file is there, and how long it is."""
        if self._path is None:
            return None, 0
        try:
            found = self._path.stat()
        except OSError:
            return None, 0
        return (found.st_dev, found.st_ino), found.st_size

    def _look(self, attempt: str) -> None:
        """Whether the file is still the one that was opened, and whole. SQLite does not look: it would write on."""
        if self._path is None:
            return
        inode, size = self._found()
        if inode != self._inode:
            raise EnvironmentFault(
                f"cannot {attempt} the store {self._place}: the file was removed or replaced while it was in use"
            )
        if size < self._size and is_cut(self._path):
            raise damaged(attempt, self._place, f"it was cut to {size} bytes while it was in use")
        self._size = size

    def _migrate(self) -> None:
        with self._reading("open") as connection:
            if self._version(connection) == VERSIONS[-1]:
                return
        with self._writing("open") as connection:
            if not self._path:
                connection.execute(select(func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
            if self._version(connection) != VERSIONS[-1]:  # unless another process did it meanwhile
                migrations.upgrade(connection)

    def _version(self, connection: Connection) -> str | None:
        """The version of the schema; ``None`` for a database with nothing in it."""
        tables = inspect(connection).get_table_names()
        if VERSION_TABLE not in tables:
            if recordings.name in tables or (tables and self._path):
                raise EnvironmentFault(
                    f"cannot open the store {self._place}: it is a database of something else; name another place"
                )
            return None
        found = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608  a constant
        if found is not None and found not in VERSIONS:
            raise EnvironmentFault(
                f"cannot open the store {self._place}: it was made by a newer countersign (schema {found}, this one "
                f"knows up to {VERSIONS[-1]}); upgrade countersign, or name another place"
            )
        return None if found is None else str(found)


def _pragma(raw: sqlite3.Connection, name: str) -> int:
    return int(raw.execute(f"PRAGMA {name}").fetchone()[0])


def _parts(values: Sequence[_Value]) -> Iterator[Sequence[_Value]]:
    for at in range(0, len(values), _MANY):
        yield values[at : at + _MANY]


def _without_values(error: DBAPIError) -> DBAPIError:
    """The same error with the first line of what the server said: the next ones repeat the row, secrets and all."""
    says = str(error.orig).partition("\n")[0]
    return type(error)(None, None, Exception(says), hide_parameters=True)
