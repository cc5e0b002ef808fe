"""``countersign import``: captures, logs and exports into the store."""

from __future__ import annotations

import json
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from countersign.cli.common import Home, Json, StoreUrl, ended_as_by_ctrl_c, open_store
from countersign.cli.values import parse_label
from countersign.errors import UserError
from countersign.recorder.wire.text import listed, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from countersign.recorder.files.importing import ImportTrouble, Tally
    from countersign.recorder.recording import Recording
    from countersign.recorder.store import Store
    from countersign.recorder.wire.secrets import KeyLog

_BATCH = 200
_BATCH_MESSAGES = 20_000
_TROUBLES_SHOWN = 20
_KINDS_SHOWN = 5
_LOOKS = 200  # recordings for which the other side of the same handshake is looked for


def import_(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="Captures (pcap, pcapng), debug logs of Java (javax.net.debug, BCJSSE), exports (pcapng, JSON, JSON"
            " lines), also .gz and .zst, or -. What a file is tells its content.",
        ),
    ],
    home: Home = None,
    store: StoreUrl = None,
    keylog: Annotated[
        list[Path] | None,
        typer.Option(help="A key log (SSLKEYLOGFILE) that opens the captures; may be repeated.", show_default=False),
    ] = None,
    label: Annotated[str | None, typer.Option(help="A name for what is imported.", show_default=False)] = None,
    secrets: Annotated[
        str, typer.Option(help="Secrets of the key logs to keep: none, handshake, or all (opens what was sent, too).")
    ] = "none",
    as_json: Json = False,
) -> None:
    """Record what captures and logs show: one recording for each TLS conversation, decrypted where there are keys."""
    from countersign.recorder.files.importing import ImportTrouble, Tally, import_files

    label = parse_label(label, what="--label")
    kept_labels = _labels(secrets)
    keys = read_keys(keylog or [])
    tally, outcome = Tally(), _Result(as_json)
    with ended_as_by_ctrl_c(), open_store(home, store, make=True) as kept, ExitStack() as stack:
        sink = _Sink(kept, outcome)
        progress = _progress(stack)
        try:
            for found in import_files(
                files, keylog=keys, kept=kept_labels, label=label, tally=tally, progress=progress
            ):
                if isinstance(found, ImportTrouble):
                    outcome.trouble(found)
                else:
                    sink.take(found)
            sink.flush()
        finally:  # what was read before Ctrl-C or SIGTERM is kept
            sink.flush()
            outcome.finish(tally, keys, asked=bool(keylog))
    if outcome.broken:
        raise typer.Exit(2)
    if not outcome.imported and not outcome.there_already:
        typer.echo("countersign: nothing was imported: no TLS was found", err=True)
        raise typer.Exit(1)


def _labels(secrets: str) -> frozenset[str]:
    from countersign.recorder.wire.secrets import HANDSHAKE_LABELS, LABELS

    known = {"none": frozenset[str](), "handshake": HANDSHAKE_LABELS, "all": LABELS}
    if secrets not in known:
        raise UserError(f"--secrets takes {', '.join(known)}; got {secrets!r}")
    if secrets == "all":
        typer.secho(
            "--secrets all: these recordings can open everything that was sent, passwords and cookies too;"
            " do not attach them to a ticket",
            fg=typer.colors.RED,
            err=True,
        )
    return known[secrets]


def read_keys(paths: Iterable[Path]) -> KeyLog:
    """The secrets of these key logs. Raises :class:`UserError` for a file that is none."""
    from countersign.recorder.files.importing import open_regular
    from countersign.recorder.wire.secrets import KeyLog

    keys = KeyLog()
    for path in paths:
        try:
            if str(path) == "-":
                text = sys.stdin.buffer.read()
            else:
                with ExitStack() as stack:
                    text = open_regular(str(path), stack).read()
        except OSError as error:
            raise UserError(f"cannot read the key log {path}: {error.strerror}") from None
        reading = keys.add_text(text)
        if not reading.secrets:
            raise UserError(f"{path} is no key log: there is no line in it like CLIENT_RANDOM <hex> <hex>")
        if reading.broken:
            typer.echo(
                f"{path}: {reading.broken} lines could not be read, the first is {reading.broken_lines[0]}", err=True
            )
    return keys


class _Sink:
    """Writes recordings in batches. One that is in the store stays as it is, unless it can be told more of now.

    Whoever is ended while a batch is written has it still, and can write it again.
    """

    def __init__(self, store: Store, result: _Result) -> None:
        self._store = store
        self._result = result
        self._batch: dict[str, Recording] = {}
        self._messages = 0
        self._looks = _LOOKS
        self._logs = bool(store.summaries(limit=1, logged=True))

    def take(self, recording: Recording) -> None:
        before = self._batch.get(recording.id)
        if before is None or _told(recording) > _told(before):
            self._batch[recording.id] = recording
        if before is not None:
            self._result.there_already += 1
        self._messages += sum(len(leg.messages) for leg in recording.legs)
        if len(self._batch) >= _BATCH or self._messages >= _BATCH_MESSAGES:
            self.flush()

    def flush(self) -> None:
        from countersign.recorder.store.database import encode

        there = self._store.known(self._batch)
        encoded, shown = [], []
        unstorable: dict[str, Exception] = {}
        for id_, recording in self._batch.items():
            if id_ in there:
                stored = self._store.get(id_)
                if _told(recording) <= _told(stored):
                    shown.append((stored, False))
                    continue
            try:
                encoded.append(encode(recording))
            except (UserError, ValueError, OverflowError, TypeError) as error:
                unstorable[id_] = error
                continue
            shown.append((recording, True))
        self._store.write(encoded, owner=None)
        batch, self._batch, self._messages = self._batch, {}, 0
        for id_, wrong in unstorable.items():
            self._result.unstorable(id_, wrong)
        for recording, new in shown:
            self._result.took(recording, new=new)
        for recording in batch.values():
            self._join(recording)

    def _join(self, recording: Recording) -> None:
        """Say which recording of the wire tells of the same handshake as a log."""
        from countersign.recorder.store.joining import counterpart

        if (recording.action == "log" or self._logs) and self._looks:
            self._looks -= 1
            other = counterpart(self._store, recording)
            if other is not None:
                pair = (recording, other) if recording.action == "log" else (other, recording)
                self._result.joined[pair[0].id] = pair[1].id


def _told(recording: Recording) -> int:
    """How many messages can be read."""
    return sum(1 for leg in recording.legs for message in leg.messages if message.form)


class _Result:
    """What is printed: the list as it grows with ``--json``, troubles as they come, a summary at the end."""

    def __init__(self, as_json: bool) -> None:
        self._json = as_json
        self._listed = 0
        self._troubles = 0
        self._outcomes: Counter[str] = Counter()
        self.imported = 0
        self.there_already = 0
        self.joined: dict[str, str] = {}
        self.broken = False

    def took(self, recording: Recording, *, new: bool) -> None:
        """One that is in the store: ``new``, or as it was there."""
        if new:
            self.imported += 1
            self._outcomes[recording.outcome.status.value] += 1
        else:
            self.there_already += 1
        if not self._json:
            return
        from countersign.recorder.recording import summary

        typer.echo(('{"schema": 1, "recordings": [' if not self._listed else ",") + "\n  ", nl=False)
        typer.echo(json.dumps(summary(recording), ensure_ascii=True), nl=False)
        self._listed += 1

    def trouble(self, trouble: ImportTrouble) -> None:
        self.broken = self.broken or trouble.broken
        self._troubles += 1
        if self._troubles <= _TROUBLES_SHOWN or trouble.broken:
            typer.echo(f"countersign: {printable(str(trouble))}", err=True)

    def unstorable(self, id_: str, error: Exception) -> None:
        self.broken = True
        typer.echo(f"countersign: the recording {printable(id_)} cannot be stored: {printable(str(error))}", err=True)

    def finish(self, tally: Tally, keys: KeyLog, *, asked: bool) -> None:
        if self._json:
            typer.echo("\n]}" if self._listed else '{"schema": 1, "recordings": []}')
        if self._troubles > _TROUBLES_SHOWN:
            typer.echo(f"countersign: {self._troubles} troubles in all", err=True)
        for line in self._summary(tally, keys, asked=asked):
            typer.echo(line, err=self._json)

    def _summary(self, tally: Tally, keys: KeyLog, *, asked: bool) -> Iterable[str]:
        which = ", ".join(f"{count} {status}" for status, count in self._outcomes.most_common())
        yield f"{_counted(self.imported, 'recording')} imported" + (f": {which}" if which else "")
        if self.there_already:
            yield f"{self.there_already} {'was' if self.there_already == 1 else 'were'} there already"
        for told, seen in self.joined.items():
            yield f"log and wire tell of the same handshake: countersign diff {told} {seen}"
        if tally.not_tls:
            yield f"{_counted(tally.not_tls, 'conversation')} without TLS, not recorded"
        if tally.silent:
            yield f"{_counted(tally.silent, 'connection')} in which nobody sent a byte, not recorded"
        if tally.passed_over:
            kinds = [f"{kind} ({count})" for kind, count in tally.passed_over.most_common(_KINDS_SHOWN)]
            more = ["others"] if len(tally.passed_over) > _KINDS_SHOWN else []
            yield f"{_counted(tally.passed_over.total(), 'packet')} without TCP: {', '.join(kinds + more)}"
        if tally.cut_packets:
            packets = _counted(tally.cut_packets, "packet")
            yield f"{packets} captured in part, so bytes are missing: capture with a larger snap length (tcpdump -s 0)"
        if not asked and not tally.opened:
            return
        yield f"{_counted(tally.opened, 'conversation')} had keys, {tally.closed} had none"
        unused = {secret.client_random for secret in keys} - tally.matched if tally.closed else set()
        if unused:
            of_others = "; ".join(random.hex() for random in tally.unmatched) or "unknown"
            first = listed([random.hex() for random in sorted(unused)], 3, joint="; ")
            none = "no key matched" if len(unused) == _connections(keys) else "some keys matched nothing"
            yield f"{none}: the key log has client randoms {first}; without keys are {of_others}"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _connections(keys: KeyLog) -> int:
    return len({secret.client_random for secret in keys})


def _progress(stack: ExitStack) -> Callable[[str, int, int | None], None] | None:
    """A bar for each file, on a terminal only."""
    if not sys.stderr.isatty():
        return None
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    bars = stack.enter_context(
        Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
    )
    tasks: dict[str, TaskID] = {}

    def show(name: str, done: int, size: int | None) -> None:
        if name not in tasks:
            tasks[name] = bars.add_task(printable(name, limit=40), total=size)
        bars.update(tasks[name], completed=done)

    return show
