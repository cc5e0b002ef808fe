"""``countersign probe`` and ``compare``, as they are typed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.cli.commands import countersign

if TYPE_CHECKING:
    from pathlib import Path

    from countersign.scenarios.running.house import House
    from countersign.scenarios.running.trial import ScenarioProxy


def test_a_probe_is_held_to_an_earlier_one_in_text_and_json(home: Path, house: House, target: ScenarioProxy) -> None:
    where = ("probe", f"{target.host}:{target.port}", "--ca-file", target.ca, "--no-revocation")
    assert countersign(*where, "--against", "last").code == 2  # there is none yet
    assert countersign(*where, "--label", "before").code == 0
    same = countersign(*where, "--against", "last", "--json")
    assert (same.code, same.json()["good"], same.json()["against"]["differs"]) == (0, True, False)
    with house.open("missing-intermediate") as other:
        elsewhere = ("probe", f"{other.host}:{other.port}", "--ca-file", other.ca, "--no-revocation")
        told = countersign(*elsewhere, "--against", "before")
        document = countersign(*elsewhere, "--against", "before", "--json").json()
    assert told.code == 1
    assert document["against"]["differs"]
    assert "is missing in now; before sends it" in " ".join(told.out.split())
