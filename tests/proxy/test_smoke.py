from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from countersign.recorder.recording import Status
from tests.peers.curl import curl
from tests.proxy.running import RunningProxy

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.peer("curl")
def test_curl_goes_through_an_intercepting_proxy(tmp_path: Path) -> None:
    with RunningProxy() as proxy:
        answer = curl(f"https://localhost:{proxy.port}/", "--cacert", proxy.root_file(tmp_path))
        recording = proxy.recording()
    assert answer.ok
    assert recording.outcome.status is Status.ESTABLISHED
