"""What the integration does when inspection goes wrong. Needs countersign and pytest installed, nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from tickets import fetch


@pytest.mark.tls_scenario("root-sent")
def test_a_chain_with_its_root_is_accepted(countersign: Any) -> None:
    with countersign.attempt():
        assert fetch(countersign.url, str(countersign.ca))
    countersign.assert_accepted()


@pytest.mark.tls_scenario("missing-intermediate", "expired", "other-name")
def test_a_wrong_certificate_is_refused(countersign: Any) -> None:
    with countersign.attempt():
        fetch(countersign.url, str(countersign.ca))
    countersign.assert_refused()
