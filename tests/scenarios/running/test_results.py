"""Results in their JSON form, in parts and joined, and compared with a baseline."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from countersign.errors import UserError
from countersign.scenarios.running.baseline import changes, read_baseline, write_baseline
from countersign.scenarios.running.results import Shard, from_json, merge, to_json
from countersign.scenarios.running.verdict import Kind
from tests.scenarios.running.made import ONE_OF_EACH, matrix, result


def test_the_json_form_gives_back_what_it_was_given() -> None:
    document = json.loads(json.dumps(to_json(replace(ONE_OF_EACH, shard=Shard(2, 3)))))
    assert from_json(document, name="x") == replace(ONE_OF_EACH, shard=Shard(2, 3))


def test_the_exit_code_is_4_for_what_was_not_on_the_wire_and_1_for_what_is_wrong() -> None:
    right = result("a", Kind.REFUSED), result("b", Kind.SKIPPED), result("c", Kind.ACCEPTED)
    assert matrix(*right).exit_code == 0
    for kind in (Kind.ACCEPTED_WRONGLY, Kind.REFUSED_WRONGLY, Kind.HUNG, Kind.CRASHED, Kind.NEVER_CONNECTED):
        assert matrix(*right, result("d", kind)).exit_code == 1
    assert ONE_OF_EACH.exit_code == 4


def _without(document: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name != key}


GOOD = to_json(ONE_OF_EACH)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([], "it is no result of"),
        ({}, "it is no result of"),
        ({**GOOD, "schema": 2}, "it is no result of"),
        (_without(GOOD, "client"), "its key 'client' is missing"),
        ({**GOOD, "results": [{}]}, "its key 'verdict' is missing"),
        ({**GOOD, "results": [{**GOOD["results"][0], "verdict": "splendid"}]}, "a value is not what its key says"),
        ({**GOOD, "results": [{**GOOD["results"][0], "seconds": "long"}]}, "a value is not what its key says"),
        ({**GOOD, "results": [{**GOOD["results"][0], "ladders": "x"}]}, "a value is not what its key says"),
        ({**GOOD, "results": [{**GOOD["results"][0], "sent": float("inf")}]}, "a value is not what its key says"),
        ({**GOOD, "results": 3}, "a value is not what its key says"),
        ({**GOOD, "started": "yesterday"}, "a value is not what its key says"),
        ({**GOOD, "shard": {"index": 3, "of": 2}}, "--shard takes"),
    ],
)
def test_what_is_no_result_is_told_in_a_sentence(document: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        from_json(document, name="part.json")


# -- parts ---------------------------------------------------------------------------------------------------------

KEYS = [f"scenario-{number}" for number in range(23)]


@pytest.mark.parametrize("of", [1, 2, 5, 23, 40])
def test_the_parts_of_a_matrix_are_all_of_it_and_each_once(of: int) -> None:
    parts = [Shard(index, of).of_all(KEYS) for index in range(1, of + 1)]
    assert sorted(key for part in parts for key in part) == sorted(KEYS)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "a/b", "1/2/3", "-1/2", "1/0", "1/99999", "²/3"])
def test_a_part_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="--shard takes the part and how many there are, as in 2/5"):
        Shard.parse(text)


def part(index: int, of: int, *names: str) -> Any:
    return matrix(*(result(name, Kind.REFUSED) for name in names), shard=Shard(index, of))


def test_parts_are_joined_in_their_order() -> None:
    joined = merge([("b.json", part(2, 2, "b", "d")), ("a.json", part(1, 2, "a", "c"))])
    assert [each.key for each in joined.results] == ["a", "c", "b", "d"]
    assert joined.shard is None
    assert joined.seconds == 3.0


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([part(1, 2, "a")], "part 2/2 is missing"),
        ([part(1, 2, "a"), part(1, 2, "b")], "part 1/2 is in 0 already"),
        ([part(1, 2, "a"), part(2, 2, "a")], "the result of a is in 0 already"),
        ([part(1, 2, "a"), part(2, 3, "b")], "one is part 2/3, the other 1/2"),
        ([part(1, 2, "a"), replace(part(2, 2, "b"), client=("wget",))], "one is of `wget`, the other of `curl"),
    ],
)
def test_parts_that_do_not_belong_together_are_not_joined(parts: list[Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        merge((str(number), each) for number, each in enumerate(parts))


# -- baselines -----------------------------------------------------------------------------------------------------


def test_only_what_has_changed_is_a_change() -> None:
    before = read_baseline(write_baseline(ONE_OF_EACH.results, {}), name="x")
    assert list(changes(ONE_OF_EACH.results, before)) == []
    better = result("leaf-expired", Kind.REFUSED)
    worse = result("missing-intermediate", Kind.HUNG)
    assert [str(each) for each in changes([better, worse], before)] == [
        "leaf-expired: was accepted-wrongly, is refused",
        "missing-intermediate: was refused, is hung",
    ]


def test_of_what_the_baseline_does_not_know_only_what_is_wrong_is_a_change() -> None:
    found = list(changes([result("new", Kind.REFUSED), result("other", Kind.ACCEPTED_WRONGLY)], {}))
    assert [str(each) for each in found] == ["other: accepted-wrongly, and the baseline does not have it"]


def test_a_part_updates_its_part_alone() -> None:
    first = write_baseline([result("a", Kind.REFUSED)], {"b": "hung"})
    assert read_baseline(first, name="x") == {"a": "refused", "b": "hung"}


def test_the_version_is_part_of_the_name_in_a_baseline() -> None:
    (only,) = read_baseline(write_baseline([result("a", Kind.REFUSED, tls="TLSv1.2")], {}), name="x")
    assert only == "a@TLSv1.2"


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{}", b'{"schema": 2, "verdicts": {}}', b'{"schema": 1, "verdicts": {"a": "splendid"}}',
     b'{"schema": 1, "verdicts": {"a": []}}', b'{"schema": 1, "verdicts": []}', b"[" * 100_000, b"\xff"],
)  # fmt: skip
def test_what_is_no_baseline_is_told_in_a_sentence(data: bytes) -> None:
    with pytest.raises(UserError, match=r"cannot read the baseline old\.json"):
        read_baseline(data, name="old.json")
