"""``countersign probe`` and ``compare``, as they are typed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from countersign.ca.pem import to_pem
from countersign.cli.log import logs
from countersign.proxy import Mode
from tests.cli.commands import countersign
from tests.proxy.ordered import HOST
from tests.proxy.running import AUTHORITY, RunningProxy

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


def test_chains_that_are_counted_are_judged_by_given_roots(home: Path, target: ScenarioProxy, tmp_path: Path) -> None:
    where = ("probe", f"{target.host}:{target.port}", "--count", "2")
    unjudged = countersign(*where)
    assert (unjudged.code, "The chain is" in unjudged.out) == (0, False)
    good = countersign(*where, "--ca-file", target.ca)
    assert (good.code, good.out.count("The chain is good.")) == (0, 1)
    strange = tmp_path / "strange.pem"
    strange.write_bytes(to_pem(AUTHORITY.root.der))
    refused = countersign(*where, "--ca-file", strange)
    assert refused.code == 1
    assert "The chain is refused: unable to get" in refused.out
    (chain,) = countersign(*where, "--ca-file", strange, "--json").json()["chains"]
    assert (chain["times"], chain["verdict"]["ok"]) == (2, False)


def test_of_two_ways_to_a_server_each_chain_is_judged_by_given_roots(home: Path, tmp_path: Path) -> None:
    with logs(only_errors=True), RunningProxy() as front:
        assert front.target is not None
        root = front.target.pki.public.root.der
        roots = tmp_path / "roots.pem"
        roots.write_bytes(to_pem(root))
        with RunningProxy(mode=Mode.CONNECT, roots=(root,)) as between:
            place, via = f"127.0.0.1:{front.target.plain_port}", f"http://127.0.0.1:{between.port}"
            where = ("compare", place, "--name", HOST, "--direct", "--via", via)
            told, unjudged = countersign(*where, "--ca-file", roots), countersign(*where)
            both = countersign(*where, "--ca-file", roots, "--json").json()["verdicts"]
    assert told.code == 1
    assert "Direct:\n  The chain is good.\nVia 127.0.0.1:" in told.out
    assert "The chain is refused: unable to get" in told.out
    assert "The chain is" not in unjudged.out
    assert [each["ok"] for each in both] == [True, False]
