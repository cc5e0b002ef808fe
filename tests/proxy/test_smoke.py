from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from countersign.recorder.recording import LegRole, Status
from countersign.recorder.wire.codes import CERTIFICATE
from tests.peers.curl import curl
from tests.proxy.running import RunningProxy
from tests.proxy.test_relay import leg_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.peer("curl")
def test_curl_goes_through_an_intercepting_proxy(tmp_path: Path) -> None:
    with RunningProxy() as proxy:
        answer = curl(f"https://localhost:{proxy.port}/", "--cacert", proxy.root_file(tmp_path))
        recording = proxy.recording()
    assert answer.ok
    assert recording.outcome.status is Status.ESTABLISHED


@pytest.mark.peer("curl")
def test_certificates_that_come_again_are_in_memory_once(tmp_path: Path) -> None:
    with RunningProxy() as proxy:
        for _ in range(2):
            assert curl(f"https://localhost:{proxy.port}/", "--cacert", proxy.root_file(tmp_path)).ok
        first, second = proxy.recordings(2)
    for role in (LegRole.CLIENT, LegRole.SERVER):
        shown = [
            message.raw
            for recording in (first, second)
            for message in leg_of(recording, role).messages
            if message.is_handshake(CERTIFICATE)
        ]
        assert len(shown) == 2
        assert shown[0] is shown[1]
