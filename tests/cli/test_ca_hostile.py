"""``countersign ca`` with words that nobody types by accident: one sentence, no traceback, the right exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cli.commands import countersign
from tests.peers.keystores import openssl

if TYPE_CHECKING:
    from pathlib import Path

    from tests.peers.certs import Lab


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["rotate", "intermediate", "--overlap", "99999999"], "--overlap"),
        (["rotate", "root", "--overlap", "9" * 30], "--overlap"),
        (["issue", "a.test", "--days", "3000000"], "--days"),
        (["issue", "a.test", "--days", "9" * 30], "--days"),
        (["revoke", "f" * 5000], "serial number"),
    ],
)
def test_numbers_beyond_all_measure_are_refused(words: list[str], said: str, home: object) -> None:
    assert countersign("ca", "init").code == 0
    ran = countersign("ca", *words)
    assert ran.code == 2, ran
    assert "Traceback" not in ran.err
    assert said in ran.err


@pytest.mark.peer("openssl")
def test_a_root_that_is_marked_as_not_trusted_is_not_added_as_trusted(home: Path, tmp_path: Path, lab: Lab) -> None:
    marked, store = tmp_path / "marked.pem", tmp_path / "store.pem"
    store.write_bytes(lab.root_pem.read_bytes())
    openssl("x509", "-in", lab.intermediate.cert_pem, "-addreject", "serverAuth", "-trustout", "-out", marked)
    told = countersign("ca", "keystore", "add", marked, "--into", store)
    assert told.code == 2
    assert "settings of trust" in told.err
    assert store.read_bytes() == lab.root_pem.read_bytes()
