"""A client meets a scenario; what is made of the recording does the same to it again."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from countersign.errors import UserError
from countersign.recorder.files.importing import import_files
from countersign.recorder.files.pcapng import export_pcapng
from countersign.recorder.recording import Recording
from countersign.scenarios.reading import Source, read_scenario, to_toml
from countersign.scenarios.rebuilding import Rebuilt, rebuild
from countersign.scenarios.running.verdict import Kind
from tests.findings.test_comparing import recorded
from tests.proxy.running import Kept
from tests.recorder.transcripts import NAMES, transcript
from tests.scenarios.running.playing import CURL, WITH_CERTIFICATE, known, playing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

AGAIN = (
    "missing-intermediate", "issuer-name-differs", "leaf-issued-by-a-leaf",
    "expired", "not-yet-valid", "intermediate-expired", "intermediate-not-yet-valid", "dates-reversed", "month-13",
    "other-name", "no-name", "wildcard-too-shallow", "name-with-nul",
    "server-shows-client-certificate", "any-purpose", "code-signing-certificate", "intermediate-for-clients",
    "intermediate-is-no-ca", "intermediate-may-not-sign", "unknown-critical-extension", "names-twice", "precertificate",
    "path-length-exceeded", "name-constraints-violated",
    "rsa-1024", "signed-with-sha1", "signed-with-md5", "signature-broken",
    "self-signed", "loop", "unknown-root", "zscaler-root-not-imported", "fortigate-root-not-imported",
    "alert-handshake-failure", "alert-unrecognized-name", "cut-before-certificate", "garbage", "block-page-of-zscaler",
    "client-certificate-expired", "client-shows-server-certificate", "client-sends-leaf-only",
    "tls12-only", "p-521-only", "three-intermediates", "inspected-by-zscaler", "leaf-is-a-ca",
)  # fmt: skip
"""Scenarios whose recordings have all that it takes."""

NOT_IN_A_CAPTURE = {"cut-before-certificate", "garbage", "block-page-of-zscaler"}
"""Ends that we made ourselves and bytes that are no TLS are not in the packets that an export makes up."""


def from_the_recording(recording: Recording, _: Path) -> Rebuilt:
    return rebuild(recording, name=f"again-{recording.scenario}")


def without_ours(data: bytes) -> Iterator[bytes]:
    """The blocks of a pcapng, without the custom ones, in which the recording itself is."""
    at = 0
    while at < len(data):
        kind, size = struct.unpack_from("<II", data, at)
        if kind not in {0x00000BAD, 0x40000BAD}:
            yield data[at : at + size]
        at += size


def from_its_capture(recording: Recording, folder: Path) -> Rebuilt:
    """Written as a pcapng without the recording itself, as Wireshark would have it, and imported again."""
    file = folder / f"{recording.id}.pcapng"
    file.write_bytes(b"".join(without_ours(export_pcapng(recording))))
    again = next(iter(import_files([file])))  # the client's conversation; the second one is with the target
    assert isinstance(again, Recording)
    return rebuild(again, name=f"again-{recording.scenario}")


@pytest.mark.peer("curl")
@pytest.mark.parametrize("source", [from_the_recording, from_its_capture])
async def test_what_was_recorded_happens_again(source: Callable[[Recording, Path], Rebuilt], tmp_path: Path) -> None:
    names = [name for name in AGAIN if source is from_the_recording or name not in NOT_IN_A_CAPTURE]
    kept = Kept()
    async with playing((*CURL, *WITH_CERTIFICATE), keeper=kept, timeout=20.0) as runner:
        before = await runner.matrix([known().open(name) for name in names], jobs=2)
        first: dict[str, Recording] = {}
        for recording in kept.finished:
            if recording.scenario is not None:
                first.setdefault(recording.scenario, recording)
        made = [source(first[name], tmp_path) for name in names]
        written = [read_scenario(Source(to_toml(one.scenario), name="again.toml", id="again")) for one in made]
        assert written == [one.scenario for one in made]
        after = await runner.matrix(written, jobs=2)
    was = {result.scenario: result.verdict.kind in {Kind.ACCEPTED, Kind.ACCEPTED_WRONGLY} for result in before.results}
    stories = {one.scenario.id: one.scenario.story for one in made}
    wrong = {
        result.scenario: f"{result.verdict}; {stories[result.scenario]}"
        for result in after.results
        if result.verdict.kind is not (Kind.ACCEPTED if was[result.scenario.removeprefix("again-")] else Kind.REFUSED)
    }
    assert not wrong
    assert len(after.results) == len(names) >= 30


@pytest.mark.parametrize("name", NAMES)
def test_a_scenario_is_made_of_every_kind_of_handshake_or_it_is_said_why_not(name: str) -> None:
    messages = transcript(name)
    for end in range(1, len(messages) + 1):
        rebuilt = rebuild(recorded(messages[:end]).recording)
        assert read_scenario(Source(to_toml(rebuilt.scenario), name="x.toml", id="x")) == rebuilt.scenario


def test_where_there_is_no_tls_there_is_no_scenario() -> None:
    with pytest.raises(UserError, match="there is no TLS in it"):
        rebuild(recorded([]).recording)
