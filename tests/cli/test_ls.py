"""What ``ls`` shows where there is little room for it."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from countersign.recorder.recording import LegRole, Outcome, Party, Recording, Status
from countersign.recorder.store import Owner, Store, StoreWriter
from countersign.recorder.wire.text import columns
from tests.cli.commands import countersign

if TYPE_CHECKING:
    from pathlib import Path

STARTED = datetime(2026, 11, 21, 9, 6, 12, tzinfo=UTC)
REFUSED = Outcome(Status.FAILED, Party.CLIENT, LegRole.CLIENT, "certificate_unknown", "The client broke it.")
PLAIN = Recording(
    "0123456789abcdef",
    STARTED,
    "reverse",
    "intercept",
    ended=STARTED,
    client="192.168.100.200:60612",
    target="instance.service-now.example.com:443",
    sni="instance.service-now.example.com",
    outcome=REFUSED,
)


def store(home: Path, *recordings: Recording) -> None:
    home.mkdir(mode=0o700, exist_ok=True)
    writer = StoreWriter(
        home / "recordings.sqlite", owner=Owner.current(), on_error=lambda trouble: pytest.fail(str(trouble))
    )
    writer.start()
    for number, recording in enumerate(recordings):
        writer.submit(replace(recording, started=STARTED - timedelta(seconds=number)))
    writer.stop()


def lines(width: int | None, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    if width is None:
        monkeypatch.delenv("COLUMNS", raising=False)
    else:
        monkeypatch.setenv("COLUMNS", str(width))
    listed = countersign("ls")
    assert listed.code == 0, listed.err
    return listed.out.splitlines()


@pytest.mark.parametrize("width", [80, 100, 120, 160])
def test_a_list_fits_the_terminal(home: Path, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    wide = replace(
        PLAIN, id="f" * 16, sni="名前.example.jp", target="ホスト.example.jp:443", outcome=Outcome(Status.ESTABLISHED)
    )
    far = replace(PLAIN, id="e" * 16, sni="x" * 300, outcome=replace(REFUSED, alert="unsupported_certificate"))
    store(home, PLAIN, wide, far)
    listed = lines(width, monkeypatch)
    assert len(listed) == 4
    assert all(columns(line) <= width for line in listed), listed
    for line, status in zip(listed[1:], ("failed", "established", "failed"), strict=True):
        assert line.split()[0] in {"01234567", "ffffffff", "eeeeeeee", PLAIN.id, wide.id, far.id}
        assert f" {status} " in line
    assert " client " in listed[1]


def test_at_80_columns_the_causes_are_still_there(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store(home, PLAIN)
    heading, line = lines(80, monkeypatch)
    assert heading.split() == ["id", "started", "target", "outcome", "by", "alert"]
    assert line.split() == ["01234567", "11-21", STARTED.astimezone().strftime("%H:%M"), *line.split()[3:]]
    assert line.split()[3].startswith("instance.")
    assert line.split()[4:] == ["failed", "client", "certificate_unknown"]


def test_with_room_enough_everything_is_there(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store(home, PLAIN)
    for width in (None, 250):
        heading, line = lines(width, monkeypatch)
        assert heading.split() == ["id", "started", "client", "target", "sni", "outcome", "by", "alert"]
        assert {PLAIN.id, PLAIN.client, PLAIN.target, PLAIN.sni, "certificate_unknown"} <= set(line.split())


def test_what_is_shown_of_an_id_is_enough_to_ask_for_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = ["0123456789abcdef", "0123456789abcd00", "0123456700000000", "f000000000000000", "f0000000ffffffff"]
    store(home, *(replace(PLAIN, id=each) for each in ids))
    shown = [line.split()[0] for line in lines(80, monkeypatch)[1:]]
    assert shown == ["0123456789abcde", "0123456789abcd0", "012345670", "f00000000", "f0000000f"]
    for beginning, id_ in zip(shown, ids, strict=True):
        assert countersign("show", beginning, "--json").json()["id"] == id_


def test_the_beginnings_of_many_ids_are_found_at_once(home: Path) -> None:
    store(home, *(replace(PLAIN, id=f"{number:08x}{number:08x}") for number in range(1500)))
    with closing(Store.open(home / "recordings.sqlite")) as kept:
        ids = [summary.id for summary in kept.summaries(limit=None)]
        found = kept.beginnings(ids)
        assert found == {id_: id_[:8] for id_ in ids}
        assert kept.beginnings(ids[:1], at_least=2) == {ids[0]: ids[0][:8]}
        assert kept.beginnings(["nobody"]) == {}
