"""``countersign ca`` with words that nobody types by accident: one sentence, no traceback, the right exit code."""

from __future__ import annotations

import pytest

from tests.cli.commands import countersign


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
