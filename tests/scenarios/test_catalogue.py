"""Every built-in scenario: read, written, described by the schema, and known by the rows that asked for it."""

from __future__ import annotations

import json
import re
from collections import Counter

import jsonschema
import pytest

from countersign.scenarios.catalogue import BUILT_IN, catalogue
from countersign.scenarios.model import FAMILIES
from countersign.scenarios.reading import Source, read_scenario, table_of, to_toml
from countersign.scenarios.schema import schema

CATALOGUE = catalogue()
FILES = {path.stem: path for path in BUILT_IN.rglob("*.toml")}


def test_there_are_at_least_120_scenarios_and_15_odd_but_valid_ones() -> None:
    count = Counter(scenario.family for scenario in CATALOGUE.values())
    assert count.total() >= 120
    assert count["odd-but-valid"] >= 15
    assert set(count) == set(FAMILIES) - {"own"}, "a family that nothing is about"


def test_no_two_files_have_the_same_id() -> None:
    assert len(FILES) == len(list(BUILT_IN.rglob("*.toml"))) == len(CATALOGUE)


def test_every_row_from_r1_to_r20_has_a_scenario_by_its_number() -> None:
    named = {source for scenario in CATALOGUE.values() for source in scenario.sources}
    assert [f"R{number}" for number in range(1, 21) if f"R{number}" not in named] == []


def test_a_scenario_stands_in_the_folder_of_its_family_under_its_id() -> None:
    wrong = [name for name, path in FILES.items() if CATALOGUE[name].family != path.parent.name]
    assert wrong == []
    assert [name for name in FILES if CATALOGUE[name].id != name] == []


def test_a_scenario_has_a_title_a_source_and_where_something_may_be_refused_the_reason() -> None:
    for name, scenario in CATALOGUE.items():
        assert scenario.title, name
        assert scenario.story, name
        assert not scenario.title.endswith("."), name
        assert all(re.match(r"R\d+$|[A-Za-z]", source) for source in scenario.sources), name
        assert scenario.sources, name
    reasonless = [
        name
        for name, scenario in CATALOGUE.items()
        if scenario.expect.right == "either" and not scenario.expect.why and scenario.certificate is None
    ]
    assert reasonless == []


def test_the_odd_but_valid_ones_have_to_be_accepted() -> None:
    wrong = [each.id for each in CATALOGUE.values() if each.family == "odd-but-valid" and each.expect.right != "accept"]
    assert wrong == []


@pytest.mark.parametrize("family", [each for each in FAMILIES if each != "own"])
def test_a_scenario_that_is_written_and_read_again_is_the_same(family: str) -> None:
    for name, scenario in CATALOGUE.items():
        if scenario.family == family:
            again = read_scenario(Source(to_toml(scenario), name="written.toml", id="written"))
            assert again == scenario, name


def test_the_schema_takes_every_file_and_what_is_written_of_it() -> None:
    made = schema()
    jsonschema.Draft202012Validator.check_schema(made)
    validator = jsonschema.Draft202012Validator(made)
    for name, scenario in CATALOGUE.items():
        for table in (CATALOGUE.source(name).table, json.loads(json.dumps(table_of(scenario)))):
            assert [f"{name}: {wrong.json_path}: {wrong.message}" for wrong in validator.iter_errors(table)] == []


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('titel = "x"', "$"),
        ('family = "chian"', "$.family"),
        ('certificate.recipe = "leaf-expird"', "$.certificate.recipe"),
        ('certificate.preset = "zscalar"', "$.certificate.preset"),
        ('wire = [{ do = "cutt" }]', "$.wire[0].do"),
        ('target.shows = "leaf-expired"', "$.target.shows"),
        ('[[step]]\n[[step]]\nconnections = "two"', "$.step[1].connections"),
        ('[[step]]\nrotate = "stem"', "$.step[0].rotate"),
        ("expect.clients.jawa = {}", "$.expect.clients"),
        ("schedule.per = 5", "$.schedule.per"),
    ],
)
def test_the_schema_finds_what_the_reader_finds(text: str, path: str) -> None:
    from countersign.scenarios.reading import ScenarioError

    source = Source(text, name="x.toml", id="x")
    with pytest.raises(ScenarioError):
        read_scenario(source)
    found = {wrong.json_path for wrong in jsonschema.Draft202012Validator(schema()).iter_errors(source.table)}
    assert path in found
