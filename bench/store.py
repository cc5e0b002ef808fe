"""How a store of very many recordings keeps up: how fast they go in, and how soon a list of the last fifty is there.

The recordings are of intercepted sessions: two legs of ten messages each, their chains among a thousand, one in twenty
broken by an alert. They are made beforehand and do not count; what counts is encoding, indexing and committing them in
batches, by one thread, and then each question of ``ls`` on the full store, its first answer and the median of the rest.
``ls`` itself is run too: what it takes beyond the question is the start of Python.

    python -m bench.store --recordings 1000000 --batch 1000 --json
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from countersign.recorder.recording import LegRole, Outcome, Party, Status
from countersign.recorder.store import Store
from tests.recorder.store_samples import STARTED, chain, leg, sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from countersign.recorder.recording import Leg, Recording

HOSTS = 1000
BROKEN = 20  # one in so many
BROKEN_BY_ALERT = Outcome(
    Status.FAILED, Party.CLIENT, LegRole.CLIENT, "unknown_ca", "The client broke the handshake with alert unknown_ca."
)


class Answer(NamedTuple):
    """Milliseconds: the first time, and the median of the times after it."""

    first: float
    again: float


def recordings(count: int) -> Iterator[Recording]:
    """Ten milliseconds apart; the messages of a host's sessions are the same but for their randoms' hosts."""
    legs: dict[int, tuple[Leg, Leg]] = {}
    for n in range(count):
        number = n * 7919 % HOSTS
        host = f"host-{number:04}.example.com"
        if number not in legs:
            legs[number] = (
                leg(LegRole.SERVER, host, chain(host, "Public"), seed=number),
                leg(LegRole.CLIENT, host, chain(host, "Inspection"), seed=number + 1),
            )
        made = sample(n, host=host, legs=legs[number], started=STARTED + timedelta(milliseconds=10 * n))
        made = replace(made, ended=made.started + timedelta(milliseconds=20))
        yield replace(made, outcome=BROKEN_BY_ALERT) if n % BROKEN == 0 else made


class Inserted(NamedTuple):
    wall: float
    cpu: float


def insert(store: Store, count: int, batch: int, *, told: bool) -> Inserted:
    made = recordings(count)
    wall = cpu = 0.0
    done = 0
    while part := [one for _, one in zip(range(batch), made, strict=False)]:
        begun, worked = time.perf_counter(), time.process_time()
        store.put(part, owner=None)
        wall += time.perf_counter() - begun
        cpu += time.process_time() - worked
        done += len(part)
        if told and done % (100 * batch) < batch:
            print(f"{done:,} recordings, {done / wall:,.0f} a second", flush=True)
    return Inserted(wall, cpu)


def questions(store: Store) -> dict[str, Callable[[], object]]:
    newest = store.summaries(limit=50)[-1].cursor
    leaf = sha256(chain("host-0042.example.com", "Public")[0]).hexdigest()
    asked: dict[str, dict[str, Any]] = {
        "the last 50": {},
        "the page behind them": {"before": newest},
        "--sni": {"sni": "host-0042.example.com"},
        "--target": {"target": "host-0042.example.com:443"},
        "--outcome failed": {"outcome": "failed"},
        "--alert unknown_ca": {"alert": "unknown_ca"},
        "--since (the last minute)": {"since": store.summaries(limit=1)[0].started - timedelta(minutes=1)},
        "--fingerprint": {"fingerprint": leaf},
        "--text (a name in the chain)": {"text": "host-0042"},
        "--text (nobody has it)": {"text": "no such name"},
        "--scenario (nobody has it)": {"scenario": "none"},
    }
    made: dict[str, Callable[[], object]] = {}
    for name, filters in asked.items():
        made[name] = partial(store.summaries, limit=50, **filters)
    made["how many"] = store.count
    return made


def answered(question: Callable[[], object], rounds: int) -> Answer:
    times = []
    for _ in range(rounds + 1):
        begun = time.perf_counter()
        question()
        times.append((time.perf_counter() - begun) * 1000)
    return Answer(times[0], statistics.median(times[1:]))


def command(path: Path) -> float:
    """Seconds that ``countersign ls`` takes, the start of Python included."""
    words = [sys.executable, "-m", "countersign", "ls", "--store", str(path), "--json"]
    begun = time.perf_counter()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=int, default=100_000, help="default: 100000; a million takes 4 GB")
    parser.add_argument("--batch", type=int, default=1000, help="of one commit (default: 1000)")
    parser.add_argument("--rounds", type=int, default=5, help="of each question (default: 5)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recordings.sqlite"
        with closing(Store.open(path)) as store:
            took = insert(store, asked.recordings, asked.batch, told=not asked.json)
        size = sum(file.stat().st_size for file in Path(folder).iterdir())
        with closing(Store.open(path)) as store:
            answers = {name: answered(question, asked.rounds) for name, question in questions(store).items()}
        started = command(path)
    rate = asked.recordings / took.wall
    if asked.json:
        report = {
            "recordings": asked.recordings,
            "batch": asked.batch,
            "inserted_a_second": rate,
            "cpu_ms_each": took.cpu * 1000 / asked.recordings,
            "bytes": size,
            "answers_ms": {name: answer._asdict() for name, answer in answers.items()},
            "ls_s": started,
            "python": platform.python_version(),
        }
        print(json.dumps(report))
        return
    each = took.cpu * 1000 / asked.recordings
    print(
        f"{asked.recordings:,} recordings in batches of {asked.batch}: {rate:,.0f} a second, {each:.2f} ms of CPU each"
    )
    print(f"the store takes {size / 2**20:,.0f} MiB, {size / asked.recordings:,.0f} bytes each")
    for name, answer in answers.items():
        print(f"{name:<30} {answer.first:8.1f} ms the first time, {answer.again:8.1f} ms again")
    print(f"countersign ls as a command: {started:.2f} s")


if __name__ == "__main__":
    main()
