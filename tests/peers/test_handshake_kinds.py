"""For each kind of handshake, what we recorded is what everybody else saw: types, order and lengths of all messages."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from countersign.recorder.files.importing import Tally, import_files
from countersign.recorder.files.pcapng import export_pcapng
from countersign.recorder.recording import LegRole, Recording, Status, to_json
from countersign.recorder.wire.events import Side
from countersign.recorder.wire.secrets import KeyLog
from tests.peers.kinds import ESTABLISHED, KINDS, Kind, Shows
from tests.peers.witness import (
    Witnessed,
    as_tshark_names_them,
    decoded,
    recorded,
    tshark_saw,
    tshark_saw_in_export,
    unlike,
    unlike_told,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from countersign.recorder.recording import Leg
    from countersign.recorder.wire.events import Message
    from tests.peers.certs import Lab

LEGS = (LegRole.CLIENT, LegRole.SERVER)
TELLERS = {LegRole.CLIENT: Side.CLIENT, LegRole.SERVER: Side.SERVER}


def of_kinds(*also: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "kind",
        [pytest.param(kind, id=kind.name, marks=pytest.mark.peer(*kind.peers, *also)) for kind in KINDS],
    )


@pytest.fixture(scope="session")
def happen(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Kind], Witnessed]:
    """Each conversation is had once, whoever asks."""
    had: dict[str, Witnessed] = {}

    def once(kind: Kind) -> Witnessed:
        if kind.name not in had:
            had[kind.name] = kind.happen(lab, tmp_path_factory.mktemp(kind.name))
        return had[kind.name]

    return once


@of_kinds()
def test_a_conversation_is_of_its_kind(happen: Callable[[Kind], Witnessed], kind: Kind) -> None:
    witnessed = happen(kind)
    assert len(witnessed.recordings) == kind.sessions
    for recording in witnessed.recordings:
        assert recording.outcome.text
        assert not recording.problems
        said = recording.outcome
        assert (said.status, said.broken_by, said.leg, said.alert) == kind.outcome
    for role, shows in zip(LEGS, (kind.client_leg, kind.server_leg), strict=True):
        assert_leg_shows(witnessed.legs(role)[-1], kind.both)
        assert_leg_shows(witnessed.legs(role)[-1], shows)


def assert_leg_shows(leg: Leg, shows: Shows) -> None:
    reading = leg.read()
    assert not reading.problems
    for name in ("version", "cipher", "group", "alpn", "resumed"):
        wanted = getattr(shows, name)
        assert wanted is None or getattr(reading, name) == wanted, name
    counts = Counter(message.type for message in reading.messages)
    assert {name: counts[name] for name in shows.counts} == shows.counts


@of_kinds("tshark")
def test_tshark_saw_what_was_recorded(happen: Callable[[Kind], Witnessed], kind: Kind) -> None:
    """With the peers' own key logs where the handshake got so far that they wrote all of it, else with ours."""
    witnessed = happen(kind)
    theirs = [file for role in LEGS if (file := witnessed.peer_keylog(role))]
    enough = kind.outcome == ESTABLISHED and len(theirs) == len(LEGS)
    saw = tshark_saw(witnessed, *(theirs if enough else [witnessed.own_keylog]))
    for role in LEGS:
        assert not unlike(saw[role], as_tshark_names_them(recorded(witnessed.legs(role))))


@of_kinds()
def test_openssl_printed_what_was_recorded(happen: Callable[[Kind], Witnessed], kind: Kind) -> None:
    witnessed = happen(kind)
    assert LegRole.SERVER in witnessed.told or "openssl" not in kind.peers
    for role, told in witnessed.told.items():
        assert not unlike_told(witnessed.legs(role), told, TELLERS[role])


@of_kinds()
def test_both_taps_agree(happen: Callable[[Kind], Witnessed], kind: Kind) -> None:
    """The wire and the key log give exactly what OpenSSL's message callback gave."""
    witnessed = happen(kind)
    for role in LEGS:
        from_the_wire = decoded(witnessed.captures[role], witnessed.own_secrets)
        live = [leg.messages for leg in witnessed.legs(role)]
        assert [exactly(messages) for messages in from_the_wire] == [exactly(messages) for messages in live]


def exactly(messages: Iterable[Message]) -> dict[Side, list[tuple[object, ...]]]:
    """All of each message but its time, for each side in order."""
    return {
        side: [(m.content, m.code, m.encrypted, m.length, m.raw, m.sha256) for m in messages if m.sender is side]
        for side in Side
    }


@of_kinds()
def test_both_ends_of_a_leg_have_the_same_secrets(happen: Callable[[Kind], Witnessed], kind: Kind) -> None:
    witnessed = happen(kind)
    ours = set(witnessed.own_secrets)
    for role in LEGS:
        file = witnessed.peer_keylog(role)
        if file is None or kind.outcome != ESTABLISHED:
            assert kind.outcome != ESTABLISHED or "java" in kind.peers, "the peer wrote no key log"
            continue
        theirs = KeyLog()
        theirs.add_text(file.read_bytes())
        randoms = {secret.client_random for secret in theirs}
        assert len(randoms) >= kind.sessions  # more, where it was negotiated anew
        assert {secret for secret in ours if secret.client_random in randoms} == set(theirs)


@of_kinds("tshark")
def test_tshark_finds_the_same_in_the_export(happen: Callable[[Kind], Witnessed], kind: Kind) -> None:
    for number, recording in enumerate(happen(kind).recordings):
        file = happen(kind).folder / f"export-{number}.pcapng"
        file.write_bytes(export_pcapng(recording))
        found = tshark_saw_in_export(file)
        assert len(found) == len(recording.legs)
        for leg, saw in zip(recording.legs, found, strict=True):
            assert not unlike(saw, as_tshark_names_them(recorded([leg])))


@of_kinds("tshark")
def test_an_import_of_the_capture_tells_what_tshark_saw(happen: Callable[[Kind], Witnessed], kind: Kind) -> None:
    """Both legs are in the files; what they were to the proxy, a capture does not tell."""
    witnessed = happen(kind)
    keys = witnessed.own_secrets
    saw = tshark_saw(witnessed, witnessed.own_keylog)
    for role in LEGS:
        tally = Tally()
        found = list(import_files([witnessed.captures[role]], keylog=keys, tally=tally))
        imported = [one for one in found if isinstance(one, Recording)]
        assert len(imported) == len(found) == tally.opened + tally.closed == len(witnessed.legs(role))
        legs = [one.legs[0] for one in sorted(imported, key=lambda one: one.started)]
        assert not unlike(saw[role], as_tshark_names_them(recorded(legs)))
        assert [exactly(leg.messages) for leg in legs] == [exactly(leg.messages) for leg in witnessed.legs(role)]
        for one in imported:
            assert not one.problems
            assert one.outcome.status in {kind.outcome.status, Status.ABANDONED}
            if kind.outcome.leg == role.value:
                assert one.outcome.alert == kind.outcome.alert
                assert one.outcome.broken_by in {"client", "target"}


@of_kinds()
def test_an_import_of_the_export_is_the_recording(happen: Callable[[Kind], Witnessed], kind: Kind) -> None:
    for number, recording in enumerate(happen(kind).recordings):
        file = happen(kind).folder / f"back-{number}.pcapng"
        file.write_bytes(export_pcapng(recording))
        (back,) = import_files([file])
        assert isinstance(back, Recording)
        without = replace(recording, legs=tuple(replace(leg, secrets=()) for leg in recording.legs))
        assert json.loads(json.dumps(to_json(back))) == json.loads(json.dumps(to_json(without)))


def test_there_are_kinds_enough() -> None:
    assert len({kind.name for kind in KINDS}) == len(KINDS) >= 20
