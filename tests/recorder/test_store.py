from __future__ import annotations

import importlib.util
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import traceback
import zlib
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import inspect, text

from countersign.errors import EnvironmentFault, UserError
from countersign.recorder.recording import LegRole, Outcome, Party, Recording, Status, summary
from countersign.recorder.store import Owner, Store, database, migrations
from countersign.recorder.store.schema import VERSION_TABLE, VERSIONS, metadata
from tests.recorder.store_samples import STARTED, S, certificate12, chain, full_sample, leg, open_sample, sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

HERE = Owner.current()
GONE = replace(HERE, pid=2**22 + 1)  # above the largest pid there is
ELSEWHERE = replace(HERE, boot_id="another machine")
CONTAINER = replace(HERE, namespace=HERE.namespace + 1)


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.time = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """A server of our own on a socket, with nothing in it; its URL without a database."""
    missing = [name for name in ("initdb", "pg_ctl") if not shutil.which(name)]
    if importlib.util.find_spec("psycopg") is None:
        missing.append("psycopg")
    if missing:
        missed = f"needs {', '.join(missing)}"
        if os.environ.get("REQUIRE_PEERS") == "1":
            pytest.fail(missed)
        pytest.skip(missed)
    home = Path(tempfile.mkdtemp(prefix="cs-pg-"))  # another user must get there, so not under pytest's own
    run: list[str] = []
    if os.geteuid() == 0:  # the server refuses to be root
        shutil.chown(home, "nobody")
        run = ["setpriv", "--reuid=nobody", "--clear-groups", "--"]
    options = f"-c listen_addresses= -c unix_socket_directories={home} -c fsync=off"

    def command(*arguments: str) -> None:
        log = home.with_suffix(".log")
        with log.open("ab") as output:  # the server keeps its descriptors, so a pipe would never end
            done = subprocess.run([*run, *arguments], stdout=output, stderr=output, cwd="/", timeout=60, check=False)
        assert done.returncode == 0, log.read_text()

    try:
        command("initdb", "-D", f"{home}/data", "-U", "test", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8")
        command("pg_ctl", "-D", f"{home}/data", "-w", "-o", options, "start")
        try:
            yield f"postgresql+psycopg://test@/{{}}?host={home}"
        finally:
            command("pg_ctl", "-D", f"{home}/data", "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(home)
        home.with_suffix(".log").unlink()


@contextmanager
def database_of(server: str, name: str, *, like: str = "template1") -> Iterator[str]:
    """The URL of a new database, a copy of another one, gone afterwards."""
    psycopg = importlib.import_module("psycopg")  # an extra: not there for a type checker, perhaps
    administration = server.replace("+psycopg", "").format("postgres")
    with psycopg.connect(administration, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE {like}")
    try:
        yield server.format(name)
    finally:
        with psycopg.connect(administration, autocommit=True) as admin:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a store that is not there yet."""
    if request.param == "sqlite":
        yield f"sqlite:///{request.getfixturevalue('tmp_path')}/store.sqlite"
    else:
        with database_of(request.getfixturevalue("postgresql_server"), "fresh") as place:
            yield place


@pytest.fixture(scope="session")
def empty_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with nothing in it: to copy one is quicker than to make one."""
    path = tmp_path_factory.mktemp("empty") / "store.sqlite"
    Store.open(path).close()
    return path


@pytest.fixture(scope="session")
def empty_database(postgresql_server: str) -> Iterator[str]:
    with database_of(postgresql_server, "empty") as place:
        Store.open(place).close()
        yield postgresql_server


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Store]:
    """A store with nothing in it."""
    if request.param == "sqlite":
        place = str(shutil.copy(request.getfixturevalue("empty_file"), tmp_path / "store.sqlite"))
        opened = Store.open(place, now=clock)
        yield opened
        opened.close()
    else:
        with database_of(request.getfixturevalue("empty_database"), "copy", like="empty") as place:
            opened = Store.open(place, now=clock)
            yield opened
            opened.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite"


@contextmanager
def opened(place: str | Path, *, create: bool = True) -> Iterator[Store]:
    store = Store.open(place, create=create)
    try:
        yield store
    finally:
        store.close()


def ids(store: Store, **filters: object) -> list[str]:
    return [one.id for one in store.summaries(limit=None, **filters)]  # type: ignore[arg-type]


# -- what is put is got --------------------------------------------------------------------------------------------


def test_what_is_put_is_got_in_another_process_of_time(url: str) -> None:
    everything = [full_sample(), sample(1), sample(2, legs=())]
    with opened(url) as store:
        store.put(everything, owner=None)
    with opened(url, create=False) as store:
        assert [store.get(one.id) for one in everything] == everything


def test_nothing_is_put_by_an_empty_put(store: Store) -> None:
    store.put([], owner=None)
    assert store.count() == 0


def test_a_later_put_takes_the_place_of_an_earlier_one(store: Store) -> None:
    store.put([open_sample(1)], owner=HERE)
    store.put([sample(1, label="done")], owner=HERE)
    assert store.get("last") == sample(1, label="done")
    assert store.count() == 1


def test_of_two_in_one_put_the_later_one_stays(store: Store) -> None:
    store.put([open_sample(1), sample(1)], owner=HERE)
    assert store.get("last") == sample(1)


def test_a_put_is_written_whole_or_not_at_all(store: Store) -> None:
    unwritable = sample(2, step=2**80)
    with pytest.raises(Exception) as error:  # noqa: PT011  the driver's own, whichever it is
        store.put([sample(1), unwritable], owner=None)
    assert not isinstance(error.value, EnvironmentFault)
    assert store.count() == 0


def test_text_that_no_database_takes_is_kept_in_the_recording_and_escaped_in_the_list(store: Store) -> None:
    odd = sample(1, sni="nul\0.example.com", label="\ud800", client="caf\u00e9\u202e")
    store.put([odd], owner=None)
    assert store.get(odd.id) == odd
    (shown,) = store.summaries()
    assert (shown.sni, shown.label, shown.client) == ("nul\\x00.example.com", "\\ud800", "caf\u00e9\u202e")
    assert ids(store, sni="nul\0.example.com") == ids(store, label="\ud800") == [odd.id]


def test_certificates_are_kept_once(store: Store) -> None:
    store.put([sample(n) for n in range(20)], owner=None)
    store.put([sample(n) for n in range(20, 40)], owner=None)
    with store._engine.begin() as connection:
        assert _count(connection, "certificates") == 6
        assert _count(connection, "chains") == 1


def _count(connection: Connection, table: str) -> int:
    return int(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


# -- references ----------------------------------------------------------------------------------------------------


@pytest.fixture
def named(store: Store) -> Store:
    store.put(
        [
            sample(1, id="aa11", label="good"),
            sample(2, id="aa22", label="bad"),
            sample(3, id="bad0", label="good"),
            sample(4, id="cc44"),
            sample(5, id="\u00e4\U0010fffe"),
        ],
        owner=None,
    )
    return store


@pytest.mark.parametrize(
    ("reference", "found"),
    [
        ("aa11", "aa11"),
        ("aa1", "aa11"),
        ("c", "cc44"),
        ("good", "bad0"),  # the newest with this label
        ("bad", "aa22"),  # a label goes before the beginning of an id
        ("bad0", "bad0"),
        ("last", "\u00e4\U0010fffe"),
        ("last~0", "\u00e4\U0010fffe"),
        ("last~1", "cc44"),
        ("last~4", "aa11"),
        ("\u00e4", "\u00e4\U0010fffe"),
    ],
)
def test_a_reference_names_a_recording(named: Store, reference: str, found: str) -> None:
    assert named.get(reference).id == found


@pytest.mark.parametrize(
    "reference", ["aa3", "", "%", "aa__", "LAST", "last~x", "nope", "\0", "\U0010ffff", "a" * 9999]
)
def test_a_reference_to_nothing_says_what_to_do(named: Store, reference: str) -> None:
    with pytest.raises(
        UserError, match=r"no recording .*: it is no id, no beginning of one and no label .*`countersign ls`"
    ):
        named.get(reference)


def test_an_ambiguous_reference_names_the_candidates(named: Store) -> None:
    with pytest.raises(UserError, match=r"ambiguous: .*'aa' \(aa22, aa11\); give more of the id"):
        named.get("aa")


def test_further_back_than_there_are_recordings_says_how_many_there_are(named: Store) -> None:
    with pytest.raises(UserError, match=r"no recording 'last~5': the store .* holds 5"):
        named.get("last~5")


# -- lists ---------------------------------------------------------------------------------------------------------


def test_a_summary_is_the_recordings_own(store: Store) -> None:
    recording = replace(full_sample(), sni="x", label="y")
    store.put([recording], owner=None)
    (shown,) = store.summaries()
    assert shown.to_json() == summary(recording)
    assert shown.broken_by is Party.CLIENT


def test_a_summary_knows_version_fingerprint_and_leaves(store: Store) -> None:
    recording = sample(1)
    store.put([recording], owner=None)
    (shown,) = store.summaries()
    client = recording.leg(LegRole.CLIENT)
    assert client is not None
    assert shown.version == client.read().version == "TLSv1.3"
    assert shown.ja4 == client.read().ja4
    assert shown.leaf_client == sha256(chain("instance.example.com", "Inspection")[0]).hexdigest()
    assert shown.leaf_target == sha256(chain("instance.example.com", "Public")[0]).hexdigest()


def test_a_session_that_passed_through_has_the_targets_leaf(store: Store) -> None:
    ders = chain("a.example.com", "Public")
    store.put([sample(1, legs=(leg(LegRole.THROUGH, "a.example.com", ders),)), sample(2, legs=())], owner=None)
    without, shown = store.summaries()
    assert (shown.leaf_client, shown.leaf_target) == (None, sha256(ders[0]).hexdigest())
    assert (without.version, without.ja4, without.leaf_client, without.leaf_target) == (None, None, None, None)


def test_lists_are_newest_first_and_paged(store: Store) -> None:
    store.put([sample(n, started=STARTED + timedelta(seconds=n // 3)) for n in range(50)], owner=None)
    everything = ids(store)
    assert len(everything) == 50
    paged: list[str] = []
    cursor = None
    while page := store.summaries(limit=7, before=cursor):
        paged += [one.id for one in page]
        cursor = page[-1].cursor
    assert paged == everything
    starts = [one.started for one in store.summaries(limit=None)]
    assert starts == sorted(starts, reverse=True)
    assert [one.id for one in store.summaries(limit=3)] == everything[:3]


def test_a_cursor_that_is_none_is_refused(store: Store) -> None:
    with pytest.raises(UserError, match="cannot go on from 'x': expected the cursor"):
        store.summaries(before="x")


@pytest.fixture
def varied(store: Store) -> Store:
    refused = Outcome(Status.FAILED, Party.CLIENT, LegRole.CLIENT, "unknown_ca", "refused")
    store.put(
        [
            sample(1, id="a", host="alpha.example.com", scenario="missing-intermediate"),
            sample(2, id="b", host="beta.example.org", outcome=refused, target="10.0.0.1:8443"),
            sample(3, id="c", host="alpha.example.com", label="Good_One", target="[::1]:443", legs=()),
            sample(4, id="d", sni=None, target=None, legs=()),
        ],
        owner=None,
    )
    return store


def _leaf(host: str, authority: str = "Public") -> str:
    return sha256(chain(host, authority)[0]).hexdigest()


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"logged": True}, ""),
        ({}, "dcba"),
        ({"sni": "alpha.example.com"}, "ca"),
        ({"sni": "ALPHA.example.com"}, "ca"),
        ({"sni": "*.example.*"}, "cba"),
        ({"sni": "%"}, ""),
        ({"sni": "alpha_example.com"}, ""),
        ({"target": "alpha.example.com"}, "a"),
        ({"target": "alpha.example.com:443"}, "a"),
        ({"target": "alpha.example.com:44"}, ""),
        ({"target": "10.0.0.1"}, "b"),
        ({"target": "[::1]"}, "c"),
        ({"target": "[::1]:443"}, "c"),
        ({"target": "*:443"}, "ca"),
        ({"outcome": "failed"}, "b"),
        ({"outcome": Status.ESTABLISHED}, "dca"),
        ({"alert": "unknown_ca"}, "b"),
        ({"scenario": "missing-intermediate"}, "a"),
        ({"label": "Good_One"}, "c"),
        ({"label": "good_one"}, ""),
        ({"since": STARTED + timedelta(milliseconds=3)}, "dc"),
        ({"until": STARTED + timedelta(milliseconds=3)}, "ba"),
        ({"since": STARTED + timedelta(milliseconds=2), "until": STARTED + timedelta(milliseconds=3)}, "b"),
        ({"text": "BETA"}, "b"),
        ({"text": "www.beta.example.org"}, "b"),  # an alternative name
        ({"text": "public root ca"}, "ba"),  # an issuer
        ({"text": "the inspection issuing ca organization"}, "ba"),  # a subject
        ({"text": "good_o"}, "c"),
        ({"text": "good%"}, ""),
        ({"text": "10.0.0"}, "b"),
        ({"text": "nowhere"}, ""),
        ({"fingerprint": "LEAF"}, "b"),
        ({"fingerprint": "ROOT"}, "ba"),
        ({"fingerprint": "0000000"}, ""),
        ({"sni": "alpha.example.com", "scenario": "missing-intermediate"}, "a"),
        ({"sni": "alpha.example.com", "alert": "unknown_ca"}, ""),
        ({"sni": None, "alert": None, "since": None}, "dcba"),
    ],
)
def test_filters(varied: Store, filters: dict[str, str], found: str) -> None:
    if filters.get("fingerprint") == "LEAF":
        digest = _leaf("beta.example.org").upper()
        filters = {"fingerprint": ":".join(digest[n : n + 2] for n in range(0, 20, 2))}
    if filters.get("fingerprint") == "ROOT":
        filters = {"fingerprint": sha256(chain("alpha.example.com", "Public")[2]).hexdigest()}
    assert "".join(ids(varied, **filters)) == found
    assert varied.count(**filters) == len(found)  # type: ignore[arg-type]


def test_a_fingerprint_of_any_certificate_finds_every_session_that_showed_it(store: Store) -> None:
    leaf, issuing, root = chain("a.example.com", "Public")
    other = chain("b.example.com", "Public")[0]
    for n, ders in enumerate([(leaf, issuing, root), (other, issuing), (other,)]):
        store.put([sample(n, id=str(n), legs=(leg(LegRole.SERVER, "x", ders),))], owner=None)
    assert ids(store, fingerprint=sha256(issuing).hexdigest()) == ["1", "0"]
    assert ids(store, fingerprint=sha256(other).hexdigest()[:9]) == ["2", "1"]


def test_certificates_in_compressed_messages_are_found_and_come_back(store: Store) -> None:
    """RFC 8879: the message stays as it is, and what is in it is kept and indexed as any other certificate."""
    ders = chain("compressed.example.com", "Public")
    (whole,) = (one for one in leg(LegRole.THROUGH, "x", ders).messages if one.code == 11)
    body = b"\x00\x01" + (len(whole.raw) - 4).to_bytes(3, "big")
    packed = zlib.compress(whole.raw[4:])
    raw = b"\x19" + (len(packed) + 8).to_bytes(3, "big") + body + len(packed).to_bytes(3, "big") + packed
    compressed = replace(whole, code=25, raw=raw, length=len(raw))
    without = leg(LegRole.THROUGH, "x", ())
    messages = tuple(compressed if one.code == 11 else one for one in without.messages)
    store.put([sample(1, legs=(replace(without, messages=messages),))], owner=None)
    (summary,) = store.summaries(text="compressed.example.com")
    assert summary.leaf_target == sha256(ders[0]).hexdigest()
    assert ids(store, fingerprint=sha256(ders[2]).hexdigest()) == [summary.id]
    read = store.get(summary.id).legs[0].read()
    assert tuple(one.der for one in read.certificates) == ders


def test_a_filter_by_ja4(store: Store) -> None:
    store.put([sample(1), sample(2, legs=())], owner=None)
    (without, with_it) = store.summaries()
    assert without.ja4 is None
    assert with_it.ja4 is not None
    assert ids(store, ja4=with_it.ja4) == [with_it.id]


def test_a_filter_that_cannot_be_read_says_what_was_expected(store: Store) -> None:
    with pytest.raises(UserError, match="no outcome 'broken': expected one of established, abandoned"):
        store.summaries(outcome="broken")
    for fingerprint in ("xyz", "abc", "ab" * 33, ""):
        with pytest.raises(UserError, match="expected its SHA-256 in hex"):
            store.summaries(fingerprint=fingerprint)
    with pytest.raises(TypeError, match="no such filter"):
        store.summaries(snj="x")  # type: ignore[call-arg]


# -- owners --------------------------------------------------------------------------------------------------------


def test_this_process_is_alive_and_visible() -> None:
    assert HERE.alive()
    assert HERE.visible
    assert Owner.current() == HERE


def test_a_process_that_has_gone_is_dead() -> None:
    assert not GONE.alive()


def test_a_process_with_the_same_number_and_another_start_is_another() -> None:
    assert not replace(HERE, started=HERE.started + 1).alive()


def test_a_zombie_is_dead() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    from countersign.recorder.store.owner import _start_time

    started = _start_time(child.pid)
    assert started is not None
    owner = replace(HERE, pid=child.pid, started=started)
    assert owner.alive()
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not owner.alive()
    child.communicate()
    assert not owner.alive()


def test_what_cannot_be_seen_from_here_counts_as_alive() -> None:
    for owner in (ELSEWHERE, CONTAINER):
        assert not owner.visible
        assert owner.alive()


def test_an_open_recording_of_a_living_owner_stays_open(store: Store) -> None:
    store.put([open_sample(1)], owner=HERE)
    assert store.mark_interrupted() == 0
    assert store.get("last") == open_sample(1)
    assert store.summaries()[0].outcome.status is Status.OPEN


@pytest.mark.parametrize("owner", [GONE, None])
def test_an_open_recording_of_a_dead_owner_reads_as_interrupted(
    store: Store, clock: Clock, owner: Owner | None
) -> None:
    store.put([open_sample(1)], owner=owner)
    written = clock.time
    clock.advance(3600)
    for marked in (1, 0):
        recording = store.get("last")
        assert recording.outcome.status is Status.INTERRUPTED
        assert recording.ended == written
        assert recording.legs == open_sample(1).legs
        (shown,) = store.summaries()
        assert shown.to_json() == summary(recording)
        assert ids(store, outcome="interrupted") == [recording.id]
        assert ids(store, outcome="open") == []
        assert store.mark_interrupted() == marked


def test_only_the_dead_owners_open_recordings_are_marked(store: Store) -> None:
    store.put([open_sample(1, id="mine"), sample(2, id="done")], owner=HERE)
    store.put([open_sample(3, id="theirs"), sample(4, id="theirs, done")], owner=GONE)
    assert store.mark_interrupted() == 1
    assert {one.id: one.outcome.status.value for one in store.summaries()} == {
        "mine": "open",
        "done": "established",
        "theirs": "interrupted",
        "theirs, done": "established",
    }


@pytest.mark.parametrize("owner", [ELSEWHERE, CONTAINER])
def test_an_owner_out_of_sight_is_dead_when_it_was_silent_for_long(store: Store, clock: Clock, owner: Owner) -> None:
    store.put([open_sample(1)], owner=owner)
    if owner is ELSEWHERE and store._path:  # a file has one machine at a time, so that was an earlier boot
        assert store.mark_interrupted() == 1
        return
    clock.advance(59)
    assert store.mark_interrupted() == 0
    store.touch(owner)
    clock.advance(59)
    assert store.get("last").outcome.status is Status.OPEN
    clock.advance(2)
    assert store.get("last").outcome.status is Status.INTERRUPTED
    assert store.mark_interrupted() == 1


def test_a_recording_that_was_taken_for_interrupted_is_put_right_by_its_owner(store: Store) -> None:
    store.put([open_sample(1)], owner=GONE)
    store.mark_interrupted()
    store.put([sample(1)], owner=HERE)
    assert store.get("last") == sample(1)


# -- pruning -------------------------------------------------------------------------------------------------------


def test_prune_removes_what_is_older(store: Store) -> None:
    store.put([sample(n, id=f"{n:03}") for n in range(300)], owner=None)
    assert store.prune(older_than=STARTED + timedelta(milliseconds=290)) == 290
    assert ids(store) == [f"{n:03}" for n in range(299, 289, -1)]
    assert store.get("299") == sample(299, id="299")


def test_prune_removes_the_oldest_until_the_store_is_small_enough(store: Store) -> None:
    for n in range(0, 600, 100):
        store.put([sample(m, id=f"{m:03}") for m in range(n, n + 100)], owner=None)
    limit = store.used() // 2
    removed = store.prune(max_bytes=limit)
    assert 200 < removed < 400
    assert store.used() <= limit
    assert ids(store) == [f"{n:03}" for n in range(599, removed - 1, -1)]
    assert store.prune(max_bytes=limit) == 0


def test_prune_removes_certificates_that_nobody_shows_any_more(store: Store) -> None:
    store.put([sample(1, host="a.example.com"), sample(2, host="b.example.com")], owner=None)
    store.put([sample(1, host="a.example.com", legs=())], owner=None)
    assert store.prune() == 0
    with store._engine.begin() as connection:
        assert _count(connection, "certificates") == 6
    store.prune(older_than=STARTED + timedelta(days=1))
    with store._engine.begin() as connection:
        assert [_count(connection, table) for table in ("certificates", "chains", "chain_certificates")] == [0, 0, 0]


def test_a_certificate_that_another_chain_holds_is_kept(store: Store) -> None:
    leaf, issuing, root = chain("a.example.com", "Public")
    store.put([sample(1, id="a", legs=(leg(LegRole.SERVER, "x", (leaf, issuing)),))], owner=None)
    kept = sample(2, id="b", legs=(leg(LegRole.SERVER, "x", (issuing, root)),))
    store.put([kept], owner=None)
    assert store.prune_some(older_than=kept.started) == 1
    assert store.get("b") == kept
    with store._engine.begin() as connection:
        assert [_count(connection, table) for table in ("certificates", "chains", "chain_certificates")] == [2, 1, 2]


def test_prune_keeps_what_is_still_open(store: Store) -> None:
    store.put([open_sample(1)], owner=HERE)
    store.put([open_sample(2)], owner=GONE)
    assert store.prune(older_than=STARTED + timedelta(days=1), max_bytes=0) == 1
    assert ids(store) == [open_sample(1).id]


def test_prune_gives_the_space_back_and_leaves_nothing_readable(path: Path) -> None:
    with opened(path) as store:
        store.put([sample(n) for n in range(400)], owner=None)
        store.put([sample(0, label="find me if you can")], owner=None)
        before = store.used()
        store.prune(older_than=STARTED + timedelta(days=1))
        assert path.stat().st_size < before / 4
    assert b"find me if you can" not in path.read_bytes()
    with sqlite3.connect(path) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    raw.close()


# -- the place -----------------------------------------------------------------------------------------------------


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_files_are_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with opened(tmp_path / "state" / "deeper" / "store.sqlite") as store:
            store.put([sample(1)], owner=None)
            found = sorted((tmp_path / "state" / "deeper").iterdir())
            assert [one.name for one in found] == ["store.sqlite", "store.sqlite-shm", "store.sqlite-wal"]
            assert {_mode(one) for one in found} == {0o600}
            assert {_mode(tmp_path / "state"), _mode(tmp_path / "state" / "deeper")} == {0o700}
    finally:
        os.umask(before)


def test_paths_with_odd_characters_are_paths(tmp_path: Path) -> None:
    for name in (
        "a b.sqlite",
        "100%.sqlite",
        "what?mode=memory",
        "#1",
        "caf\u00e9",
        "file:x",
        "-x",
        os.fsdecode(b"\xff"),
    ):
        with opened(tmp_path / name) as store:
            store.put([sample(1)], owner=None)
        assert (tmp_path / name).stat().st_size > 0
        with opened(tmp_path / name, create=False) as store:
            assert store.count() == 1


def test_a_relative_path_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with opened("sqlite:///here.sqlite") as store:
        store.put([sample(1)], owner=None)
        monkeypatch.chdir("/")
        assert store.count() == 1
    assert (tmp_path / "here.sqlite").exists()


def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    with opened(tmp_path / "real.sqlite"):
        pass
    (tmp_path / "link.sqlite").symlink_to(tmp_path / "real.sqlite")
    (tmp_path / "dangling.sqlite").symlink_to(tmp_path / "nowhere.sqlite")
    for name in ("link.sqlite", "dangling.sqlite"):
        with pytest.raises(EnvironmentFault, match="symbolic link"):
            Store.open(tmp_path / name)
    assert not (tmp_path / "nowhere.sqlite").exists()


def test_a_store_that_is_not_there_is_not_made_unasked(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot open the store .*: there is no such file; record something"):
        Store.open(tmp_path / "x" / "store.sqlite", create=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "url",
    [
        "mysql://x/y",
        "sqlite://",
        "sqlite:///:memory:",
        ":memory:",
        "",
        "sqlite://host/path",
        "http://x",
        "://",
        "x://[",
    ],
)
def test_a_url_that_names_no_store_says_what_was_expected(url: str) -> None:
    with pytest.raises(UserError, match=r"cannot open the store.*(expected sqlite:///PATH|name a path)"):
        Store.open(url)


@pytest.mark.parametrize("place", ["a\0b", "~no-such-user-here/store.sqlite"])
def test_what_is_no_path_says_so(place: str) -> None:
    with pytest.raises(UserError, match=r"cannot open the store .*: it is no path"):
        Store.open(place)


def test_an_id_that_is_no_plain_text_is_refused(store: Store) -> None:
    for id_ in ("\0", "\ud800"):
        with pytest.raises(UserError, match="its id is no plain text"):
            store.put([sample(1, id=id_)], owner=None)


def test_a_password_in_a_url_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    for url in ("mysql://user:hunter2@x/y", "postgresql://user:hunter2@127.0.0.1:1/x", "x://user:hunter2@["):
        with pytest.raises((UserError, EnvironmentFault)) as error:
            Store.open(url)
        assert "hunter2" not in str(error.value)


def test_psycopg_is_named_when_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(EnvironmentFault, match=r"needs psycopg; run: pip install 'countersign\[postgresql\]'"):
        Store.open("postgresql://x/y")


def test_a_directory_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match=f"cannot write {tmp_path}: it is a directory"):
        Store.open(tmp_path)


def test_a_place_below_a_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentFault, match="a part of the path is a file"):
        Store.open(tmp_path / "file" / "store.sqlite")


def test_a_directory_that_is_not_writable_says_so(tmp_path: Path) -> None:
    place = Path(tempfile.mkdtemp(prefix="cs-store-"))
    try:
        place.chmod(0o555)
        script = f"from countersign.recorder.store import Store; Store.open({str(place / 'store.sqlite')!r})"
        done = run_as_nobody(script)
        assert "FileFault: cannot write " in done
        assert "permission denied" in done
    finally:
        place.chmod(0o700)
        shutil.rmtree(place)


def run_as_nobody(script: str) -> str:
    """What the script says on stderr, run without a superuser's rights."""
    if os.geteuid() != 0:
        command = [sys.executable, "-c", script]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stderr
    # The interpreter may lie where nobody may look, so the modules are loaded first.
    script = "import os, countersign.recorder.store; os.setgroups([]); os.setgid(65534); os.setuid(65534)\n" + script
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    ).stderr


# -- damage --------------------------------------------------------------------------------------------------------


def filled(path: Path, count: int = 50) -> list[Recording]:
    everything = [sample(n) for n in range(count)]
    with opened(path) as store:
        store.put(everything, owner=None)
    return everything


@pytest.mark.parametrize("content", [b"not a database, but long enough to be one" * 100, b"x"])
def test_a_file_that_is_no_database_says_what_to_do(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(EnvironmentFault) as error:
        Store.open(path)
    assert f"cannot open the store {path}: it is damaged (it is no SQLite database)" in str(error.value)
    assert f"mv {path} {path}.damaged" in str(error.value)
    assert path.read_bytes() == content


def test_a_store_of_which_the_first_page_is_gone_says_so(path: Path) -> None:
    filled(path)
    with path.open("r+b") as file:
        file.write(bytes(100))
    with pytest.raises(EnvironmentFault, match=r"it is damaged .*nothing was deleted"):
        Store.open(path)


def test_a_cut_store_is_an_error_or_reads_right(path: Path, tmp_path: Path) -> None:
    everything = filled(path)
    whole = path.read_bytes()
    cut = tmp_path / "cut.sqlite"
    for size in [0, 1, 99, 100, 4096, 8192, *range(12_288, len(whole), 40_000), len(whole) - 1]:
        cut.write_bytes(whole[:size])
        cut.chmod(0o600)
        try:
            with opened(cut) as store:
                for one in everything if size else ():
                    with_errors(store, one)
        except EnvironmentFault as fault:
            assert str(cut) in str(fault)  # noqa: PT017


def with_errors(store: Store, recording: Recording) -> None:
    for read in (lambda: store.get(recording.id), store.summaries, store.count):
        try:
            found = read()
        except (EnvironmentFault, UserError):
            continue
        if isinstance(found, Recording):
            assert found == recording


def test_flipped_bits_are_errors_or_harmless_and_never_wrong_readings(path: Path, tmp_path: Path) -> None:
    import random

    everything = filled(path, 20)
    whole = path.read_bytes()
    noise = random.Random(1)
    flipped = tmp_path / "flipped.sqlite"
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(3):
            data[noise.randrange(len(data))] ^= 1 << noise.randrange(8)
        flipped.write_bytes(data)
        flipped.chmod(0o600)
        try:
            with opened(flipped) as store:
                for one in everything:
                    with_errors(store, one)
        except EnvironmentFault as fault:
            assert str(flipped) in str(fault)  # noqa: PT017


def test_a_damaged_recording_is_named_and_the_others_are_read(path: Path) -> None:
    everything = filled(path, 3)
    with opened(path) as store:
        with store._writer.begin() as connection:
            other_byte = "CAST(substr(blob, 1, 500) || x'00' || substr(blob, 502) AS BLOB)"
            connection.execute(
                text(f"UPDATE recordings SET blob = {other_byte} WHERE id = :id"), {"id": everything[1].id}
            )
        with pytest.raises(EnvironmentFault) as error:
            store.get(everything[1].id)
        assert f"cannot read the recording {everything[1].id} from the store {path}: its checksum" in str(error.value)
        assert "the other recordings are not affected" in str(error.value)
        assert store.get(everything[0].id) == everything[0]
        assert store.get(everything[2].id) == everything[2]
        assert store.prune(older_than=STARTED + timedelta(days=1)) == 3


def test_a_blob_in_another_recordings_row_is_noticed(store: Store) -> None:
    store.put([sample(1, id="a"), sample(2, id="b")], owner=None)
    with store._writer.begin() as connection:
        connection.execute(text("UPDATE recordings SET blob = (SELECT blob FROM recordings WHERE id = 'a')"))
    with pytest.raises(EnvironmentFault, match=r"cannot read the recording b .*: it is the recording 'a'"):
        store.get("b")


# -- versions ------------------------------------------------------------------------------------------------------


def test_a_store_of_a_newer_version_says_upgrade(url: str) -> None:
    with opened(url) as store, store._writer.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    with pytest.raises(EnvironmentFault, match=r"made by a newer countersign \(schema 9999, .*; upgrade countersign"):
        Store.open(url)


def test_a_database_of_something_else_is_left_alone(path: Path) -> None:
    with sqlite3.connect(path) as raw:
        raw.execute("CREATE TABLE bookmarks (url TEXT)")
    raw.close()
    path.chmod(0o600)
    with pytest.raises(EnvironmentFault, match="it is a database of something else"):
        Store.open(path)


def test_an_empty_file_becomes_a_store(path: Path) -> None:
    path.touch(mode=0o600)
    with opened(path, create=False) as store:
        assert store.count() == 0


def test_the_known_versions_are_those_of_the_migrations() -> None:
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory.from_config(migrations.configuration())
    assert tuple(reversed([script.revision for script in scripts.walk_revisions()])) == VERSIONS


def test_the_migrations_lead_to_the_tables_that_the_code_knows(url: str, request: pytest.FixtureRequest) -> None:
    with opened(url) as store, store._writer.begin() as connection:
        migrated = described(connection)
        metadata.drop_all(connection)
        metadata.create_all(connection)
        assert described(connection) == migrated


def described(connection: Connection) -> object:
    """The tables as the database itself knows them."""
    if connection.dialect.name == "sqlite":
        query = "SELECT type, name, sql FROM sqlite_master WHERE tbl_name != :version ORDER BY 1, 2"
        rows = connection.execute(text(query), {"version": VERSION_TABLE})
        return [(kind, name, sorted((sql or "").replace("\t", "").split("\n"))) for kind, name, sql in rows]
    found = inspect(connection)
    indexes = connection.execute(text("SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'")).scalars()
    return (
        {
            table: (
                [str(column) for column in found.get_columns(table)],
                [str(key) for key in found.get_foreign_keys(table)],
            )
            for table in sorted(metadata.tables)
        },
        sorted(index for index in indexes if VERSION_TABLE not in index),
    )


# -- several at a time ---------------------------------------------------------------------------------------------

WRITE = """
import sys
from countersign.recorder.store import Owner, Store
from tests.recorder.store_samples import sample
url, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
store = Store.open(url)
for n in range(first, first + count, 5):
    store.put([sample(n + k, id=f"{n + k:05}", host=f"h{k}.example.com") for k in range(5)], owner=Owner.current())
store.close()
"""


def test_several_processes_make_and_write_one_store_at_once(url: str) -> None:
    root = Path(__file__).parents[2]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITE, url, str(first), "100"], env=environment, stderr=subprocess.PIPE, text=True
        )
        for first in (0, 100, 200)
    ]
    for writer in writers:
        assert writer.communicate(timeout=60)[1] == ""
        assert writer.returncode == 0
    with opened(url) as store:
        assert store.count() == 300
        assert sorted(ids(store)) == [f"{n:05}" for n in range(300)]
        store.get("00123")


def test_a_store_that_is_locked_for_long_says_who_may_be_asked(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from countersign.recorder.store import engine

    monkeypatch.setattr(engine, "_BUSY_TIMEOUT", 0.2)
    with opened(path) as store:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(EnvironmentFault, match=r"cannot write to the store .*: another process has been writing"):
            store.put([sample(1)], owner=None)
        assert store.count() == 0
        other.execute("ROLLBACK")
        other.close()
        store.put([sample(1)], owner=None)
        assert store.count() == 1


def test_readers_do_not_wait_for_a_writer(path: Path) -> None:
    with opened(path) as store, opened(path) as other:
        store.put([sample(1)], owner=None)
        with store._writer.begin() as connection:
            connection.execute(text("DELETE FROM recordings"))
            assert other.count() == 1
        assert other.count() == 0


def test_a_file_that_is_removed_while_in_use_is_noticed(path: Path) -> None:
    with opened(path) as store:
        store.put([sample(1)], owner=None)
        path.rename(path.with_suffix(".away"))
        with pytest.raises(EnvironmentFault, match="was removed or replaced while it was in use"):
            store.put([sample(2)], owner=None)


# -- safety --------------------------------------------------------------------------------------------------------


def test_no_error_repeats_what_was_to_be_written(store: Store) -> None:
    encoded = database.encode(replace(full_sample(), label="hunter2"))
    broken = encoded._replace(row={**encoded.row, "mode": None})
    with pytest.raises(Exception) as error:  # noqa: PT011  the driver's own
        store.write([broken], owner=None)
    said = "".join(traceback.format_exception(error.value)).replace(__file__, "")
    for token in ("hunter2", bytes(range(48)).hex(), repr(bytes(range(16)))[2:-1]):
        assert token not in said.replace('label="hunter2"', "")


def test_importing_the_store_does_not_import_alembic() -> None:
    script = "import sys, countersign.recorder.store; print('alembic' in sys.modules, 'psycopg' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_opening_a_store_that_is_up_to_date_runs_no_migration(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(path, 1)
    monkeypatch.setattr(migrations, "upgrade", lambda _: pytest.fail("nothing is to be done"))
    with opened(path) as store:
        assert store.count() == 1


def test_many_chains_in_one_put(store: Store) -> None:
    """More than one statement takes values for."""
    everything = [
        sample(
            n,
            legs=(
                replace(leg(LegRole.SERVER, "x", ()), messages=(certificate12(S, (bytes([n % 256, n // 256]) * 90,)),)),
            ),
        )
        for n in range(1200)
    ]
    store.put(everything, owner=None)
    store.put(everything, owner=None)
    assert store.get(everything[1100].id) == everything[1100]
    assert store.prune(older_than=STARTED + timedelta(days=1)) == 1200
