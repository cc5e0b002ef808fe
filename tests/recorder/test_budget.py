"""How much of a leg is kept, whatever its peers send: bytes first, then messages, and never the alert that decides."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING

import jsonschema
import pytest

from countersign.recorder.budget import FREE, LIVE, SMALL, Allowance, Budget, Pool, weigh
from countersign.recorder.files.importing import import_files
from countersign.recorder.files.pcapng import export_pcapng
from countersign.recorder.live import LiveRecording
from countersign.recorder.recording import Ending, LegRole, Party, Recording, Status, from_json, to_json
from countersign.recorder.schema import load_schema
from countersign.recorder.store import blob
from countersign.recorder.wire.events import Content, EncryptedRecord, Message
from countersign.recorder.wire.messages import message_type
from countersign.recorder.wire.secrets import Secret
from tests.peers.tshark import tshark_handshakes
from tests.recorder import made_recordings
from tests.recorder.store_samples import C, S, chain, leg, message
from tests.recorder.tls_pairs import connected

if TYPE_CHECKING:
    from pathlib import Path

TICKET = message(S, 4, bytes(60_000), t=0.1, encrypted=True)
KEY_UPDATE = message(C, 24, b"\0", t=0.2, encrypted=True)


def live() -> LiveRecording:
    return LiveRecording(
        started=datetime(2026, 11, 20, tzinfo=UTC),
        mode="reverse",
        action="intercept",
        client="c",
        target=None,
        label=None,
    )


def flooded(count: int, what: Message = TICKET) -> LiveRecording:
    """A session that went well, and then this came so often."""
    one = live()
    before = leg(LegRole.SERVER, "instance.example.com", chain("instance.example.com", "Public"))
    one.add(LegRole.SERVER, before.messages)
    one.add(LegRole.SERVER, [replace(what, t=round(0.1 + n / 1000, 6)) for n in range(count)])
    return one


def server_leg(recording: Recording) -> tuple[Message, ...]:
    (found,) = recording.legs
    return found.messages


def test_big_messages_beyond_the_budget_keep_their_length_and_hash() -> None:
    one = flooded(100)
    tickets = [kept for kept in server_leg(one.snapshot()) if kept.length == TICKET.length]
    whole = [kept for kept in tickets if kept.complete]
    assert len(tickets) == 100
    assert (LIVE.bytes - 2 * TICKET.length) < sum(len(kept.raw) for kept in server_leg(one.snapshot())) <= LIVE.bytes
    assert {(kept.sha256, kept.length, kept.code, kept.sender) for kept in tickets} == {
        (sha256(TICKET.raw).hexdigest(), 60_004, 4, S)
    }
    ((role, problem),) = one.snapshot().problems
    cut = 100 - len(whole)
    assert (role, problem.field, problem.sender) == (LegRole.SERVER, "leg.messages", S)
    assert problem.got == f"{cut} more of {cut * 60_004} bytes, kept as length and SHA-256"
    assert problem.t == pytest.approx(0.1 + len(whole) / 1000)


def test_a_flood_of_tickets_takes_a_few_megabytes() -> None:
    one = flooded(5_000)
    assert one.weight < 3 << 20
    assert one.weight == weigh(server_leg(one.snapshot()))
    ((_, problem),) = one.snapshot().problems
    assert problem.got.endswith(
        f"{5_000 + 10 - LIVE.messages} more of {(5_000 + 10 - LIVE.messages) * 60_004} bytes, only counted"
    )


def test_a_flood_of_small_messages_is_kept_up_to_its_number_and_then_counted() -> None:
    recording = flooded(LIVE.messages, KEY_UPDATE).snapshot()
    assert len(server_leg(recording)) == LIVE.messages
    assert all(kept.complete for kept in server_leg(recording))
    assert [problem.got for _, problem in recording.problems] == ["10 more of 50 bytes, only counted"]


@pytest.mark.parametrize("flood", [TICKET, KEY_UPDATE], ids=["tickets", "key updates"])
def test_the_alert_behind_a_flood_is_kept_and_decides(flood: Message) -> None:
    one = flooded(3 * LIVE.messages, flood)
    one.add(LegRole.SERVER, [Message(20.0, S, Content.ALERT, 48, True, 2, b"\2\x30")])
    recording = one.finished(datetime(2026, 11, 20, 1, tzinfo=UTC))
    assert (recording.outcome.status, recording.outcome.broken_by) == (Status.FAILED, Party.TARGET)
    assert recording.outcome.alert == "unknown_ca"


def test_a_handshake_behind_a_flood_is_seen_to_be_finished() -> None:
    one = live()
    done = leg(LegRole.SERVER, "instance.example.com", chain("instance.example.com", "Public")).messages
    one.add(LegRole.SERVER, done[:2])
    one.add(LegRole.SERVER, [message(S, 0, b"", t=0.003)] * (2 * LIVE.messages))
    one.add(LegRole.SERVER, done[2:])
    one.end(LegRole.SERVER, C, Ending.FIN, 30.0)
    recording = one.finished(datetime(2026, 11, 20, 1, tzinfo=UTC))
    assert [kept.code for kept in server_leg(recording)[-2:]] == [20, 20]
    assert "in the middle of the handshake" not in recording.outcome.text


def test_alerts_beyond_all_numbers_are_counted_too() -> None:
    one = flooded(LIVE.messages + 500, Message(0.3, S, Content.ALERT, 90, True, 2, b"\1\x5a"))
    assert len(server_leg(one.snapshot())) == LIVE.messages + 100
    ((_, problem),) = one.snapshot().problems
    assert problem.got == "410 more of 820 bytes, only counted"


def test_within_the_budget_nothing_is_said() -> None:
    assert flooded(10).snapshot().problems == ()


@pytest.mark.parametrize("size", [SMALL - 4, SMALL - 3])
def test_small_messages_are_never_cut(size: int) -> None:
    budget = Budget(Allowance(bytes=0, messages=10))
    kept = budget.take(message(S, 15, bytes(size)))
    assert kept is not None
    assert kept.complete is (size + 4 <= SMALL)


def test_a_cut_message_is_read_as_cut_and_not_as_broken() -> None:
    document = to_json(flooded(100).snapshot())
    jsonschema.validate(document, load_schema())
    last = document["legs"][0]["messages"][-1]
    assert (last["type"], last["fields"]) == ("new_session_ticket", {"truncated": {"kept": 0, "length": 60_004}})
    cut = {entry["n"] for entry in document["legs"][0]["messages"] if "truncated" in entry["fields"]}
    assert len(cut) > 50
    assert not [problem for problem in document["problems"] if problem["message"] in cut]


def test_what_was_cut_survives_json_store_and_pcapng(tmp_path: Path) -> None:
    given = flooded(100).finished(datetime(2026, 11, 20, 1, tzinfo=UTC))
    assert from_json(to_json(given)) == given
    packed = blob.pack(given)
    assert blob.unpack(packed.data, lambda _: packed.certificates) == given
    file = tmp_path / "cut.pcapng"
    file.write_bytes(export_pcapng(given))
    assert list(import_files([file])) == [given]


@pytest.mark.peer("tshark")
def test_what_comes_behind_a_cut_message_opens_in_tshark(tmp_path: Path) -> None:
    one = live()
    ticket = replace(TICKET, t=1.0)
    handshake = made_recordings.leg(connected()).messages
    handshake = tuple(message for message in handshake if message.content is Content.HANDSHAKE)
    one.add(LegRole.SERVER, [*handshake, *[ticket] * 40, KEY_UPDATE, replace(KEY_UPDATE, sender=S)])
    given = one.snapshot()
    assert sum(message.complete for message in server_leg(given)) == len(server_leg(given)) - 6
    file = tmp_path / "cut.pcapng"
    file.write_bytes(export_pcapng(given))
    seen = [(one.sender, one.type, one.length) for one in tshark_handshakes(file)]
    kept = [message for message in server_leg(given) if message.raw]
    assert seen == [(one.sender.value, message_type(one.content, one.code, one.raw), one.length) for one in kept]


# -- what all recordings in progress share -----------------------------------------------------------------------------


def pooled(pool: Pool, count: int, what: Message = TICKET) -> LiveRecording:
    one = live()
    one._pool = pool
    one.add(LegRole.SERVER, [replace(what, t=n / 1000) for n in range(count)])
    return one


def test_many_sessions_together_hold_no_more_than_the_pool_and_what_is_free() -> None:
    pool = Pool(10_000_000)
    sessions = [pooled(pool, 100) for _ in range(50)]
    assert sum(one.weight for one in sessions) <= 10_000_000 + 50 * FREE
    assert 0 <= pool.left < TICKET.length + 1000
    late = sessions[-1].snapshot()
    assert server_leg(late)[0].complete  # what is free is there for everybody
    ((_, problem),) = late.problems
    cut, counted = (int(part.split()[0]) for part in problem.got.split("; "))
    assert sum(kept.complete for kept in server_leg(late)) + cut + counted == 100


def test_what_a_session_had_borrowed_is_given_back_once_when_it_ends() -> None:
    pool = Pool(10_000_000)
    one = pooled(pool, 100)
    assert pool.left < 10_000_000 - 1_000_000
    for _ in range(2):
        one.finished(datetime(2026, 11, 20, 1, tzinfo=UTC))
        assert pool.left == 10_000_000


def test_a_session_of_the_usual_size_borrows_nothing() -> None:
    pool = Pool(10_000_000)
    one = live()
    one._pool = pool
    one.add(LegRole.SERVER, leg(LegRole.SERVER, "a.test", chain("a.test", "Public")).messages)
    assert pool.left == 10_000_000


@pytest.mark.parametrize("flood", [TICKET, KEY_UPDATE], ids=["tickets", "key updates"])
def test_the_alert_decides_with_an_empty_pool_too(flood: Message) -> None:
    one = pooled(Pool(0), 1_000, flood)
    assert one.weight <= FREE
    one.add(LegRole.SERVER, [Message(20.0, S, Content.ALERT, 48, True, 2, b"\2\x30")])
    recording = one.finished(datetime(2026, 11, 20, 1, tzinfo=UTC))
    assert (recording.outcome.broken_by, recording.outcome.alert) == (Party.TARGET, "unknown_ca")
    ((_, problem),) = recording.problems
    assert problem.got.endswith("bytes, only counted")


def test_encrypted_records_beyond_the_number_kept_are_counted_and_said() -> None:
    one = live()
    one.add(LegRole.THROUGH, [EncryptedRecord(n / 100, C if n % 2 else S, 23, 1000 + n) for n in range(300)])
    recording = one.snapshot()
    kept = recording.legs[0].encrypted_records
    beyond = [problem for _, problem in recording.problems]
    assert len(kept) == 200
    assert [(each.field, each.sender, each.t) for each in beyond] == [
        ("leg.encrypted_records", S, 2.0), ("leg.encrypted_records", C, 2.01),
    ]  # fmt: skip
    assert beyond[0].got == f"50 more with {sum(range(1200, 1300, 2))} bytes, which are only counted"
    assert from_json(to_json(recording)) == recording


def test_faults_beyond_the_number_kept_are_counted_and_said() -> None:
    one = live()
    for n in range(300):
        one.fault(LegRole.CLIENT, {"do": "delay", "t": n / 100, "text": "waited"})
    recording = one.snapshot()
    assert len(recording.legs[0].faults) == 200
    ((_, problem),) = recording.problems
    assert (problem.field, problem.got) == ("leg.faults", "100 more, which are only counted")


def test_a_leg_holds_only_so_many_secrets_and_says_so() -> None:
    one = live()
    for n in range(300):
        one.keep(LegRole.CLIENT, Secret("CLIENT_RANDOM", n.to_bytes(32), bytes(48)), 1.0)
    recording = one.snapshot()
    assert len(recording.legs[0].secrets) == 200
    assert [problem.field for _, problem in recording.problems] == ["leg.secrets"]
