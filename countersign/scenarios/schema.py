"""The JSON Schema of scenario files, for editors: made of the model, so that it says nothing else than the reader.

What a schema cannot say (that a recipe exists, that two steps do not contradict each other) is said when a file is
read. A text with a parameter in it (``"{days}"``) may stand wherever a text, a number or a truth may.
"""

from __future__ import annotations

from typing import Any

from countersign.ca.presets import presets
from countersign.ca.recipes import catalogue
from countersign.proxy.faults import FAULTS
from countersign.scenarios.expect import FAMILIES
from countersign.scenarios.model import FAMILIES as SCENARIO_FAMILIES, Scenario
from countersign.scenarios.typed import Json, table_schema

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_PARAMETER: Json = {"type": "string", "pattern": r"^\{[a-z][a-z0-9_]*\}$"}


def schema() -> Json:
    """What may stand in the file of a scenario."""
    made = table_schema(Scenario)
    properties = made["properties"]
    made.pop("required", None)  # the id is the file's name, unless it says another
    properties["extends"] = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
    for part, key, role in (
        ("certificate", "recipe", "server"),
        ("client_certificate", "recipe", "client"),
        ("target", "certificate", "server"),
        ("target", "shows", "client"),
    ):
        _name(properties[part], key, [each.id for each in catalogue().values() if each.role == role])
    _name(properties["certificate"], "preset", list(presets()))
    properties["family"] = {"enum": list(SCENARIO_FAMILIES)}
    properties["wire"]["items"]["properties"]["do"]["enum"] = sorted(FAULTS)
    step = properties["step"]["items"]["properties"]
    for part in ("certificate", "target", "wire"):
        step[part] = properties[part]
    properties["expect"]["properties"]["clients"]["propertyNames"] = {"enum": list(FAMILIES)}
    parameters = properties.pop("parameters")
    made = _with_parameters(made)
    made["properties"]["parameters"] = parameters
    return {"$schema": DIALECT, "title": "A scenario of countersign", **made}


def _name(table: Json, key: str, names: list[str]) -> None:
    """Of a text that is a name, which ones there are; beside it what else may stand there."""
    there = table["properties"][key]
    others = [each for each in there.get("anyOf", [there]) if each.get("type") != "string"]
    table["properties"][key] = {"anyOf": [{"enum": sorted(names)}, *others]} if others else {"enum": sorted(names)}


def _with_parameters(made: Any) -> Any:
    """The same where a parameter may stand in the place of any value that is none itself."""
    if isinstance(made, list):
        return [_with_parameters(each) for each in made]
    if not isinstance(made, dict):
        return made
    inside = {key: _with_parameters(value) for key, value in made.items() if key != "properties"}
    if "properties" in made:
        inside["properties"] = {name: _with_parameters(each) for name, each in made["properties"].items()}
    if made.get("type") in ("integer", "number", "boolean") or ("enum" in made and "type" not in made):
        return {"anyOf": [inside, _PARAMETER]}
    return inside
