"""An inspection CA that may not speak for what the target is: noticed when the leaf is made, and told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from countersign.ca import Authority, Plan
from countersign.recorder.recording import FailureCode, LegRole, Party, Status
from tests.peers.curl import PEER_FAILED_VERIFICATION, curl
from tests.proxy.running import RunningProxy
from tests.proxy.wire import client_context, tls

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

    from countersign.recorder.recording import Recording

OUTSIDE = "localhost is outside what this CA may speak for (lab.test, 127.0.0.0/8)"
CONSTRAINED = ("lab.test", "127.0.0.0/8")


def notes(recording: Recording) -> list[str]:
    return [note for note in recording.not_mirrored if note.startswith("names: ")]


def fetch(proxy: RunningProxy, context: ssl.SSLContext | None = None) -> None:
    with tls(proxy, context) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert connection.recv(100)


@pytest.mark.peer("curl")
def test_a_client_that_refuses_names_outside_the_constraints_is_laid_to_the_proxy(tmp_path: Path) -> None:
    with RunningProxy(authority=Authority.make(Plan(constrain=CONSTRAINED))) as proxy:
        answer = curl(f"https://localhost:{proxy.port}/", "-4", ca=proxy.root_file(tmp_path))
        recording = proxy.recording()
    assert answer.exit_code == PEER_FAILED_VERIFICATION
    outcome = recording.outcome
    assert (outcome.status, outcome.broken_by, outcome.leg) == (Status.FAILED, Party.PROXY, LegRole.CLIENT)
    assert outcome.alert is not None
    assert OUTSIDE in outcome.text
    assert [failure.code for failure in recording.failures] == [FailureCode.CANNOT_MIMIC]
    assert [note.startswith("names: localhost") for note in notes(recording)] == [True]


def test_a_client_that_takes_the_leaf_is_established_with_a_note() -> None:
    with RunningProxy(authority=Authority.make(Plan(constrain=CONSTRAINED))) as proxy:
        fetch(proxy, client_context())
        recording = proxy.recording()
    assert recording.outcome.status is Status.ESTABLISHED
    assert len(notes(recording)) == 1
    assert not recording.failures


def test_an_authority_that_may_speak_for_the_target_leaves_no_note() -> None:
    allowed = ("localhost", "test", "127.0.0.0/8", "::1/128")
    with RunningProxy(authority=Authority.make(Plan(constrain=allowed))) as proxy:
        fetch(proxy)
        recording = proxy.recording()
    assert recording.outcome.status is Status.ESTABLISHED
    assert notes(recording) == []
