"""What has a form: scenario files and faults, of the model's own annotations, and recordings, of their JSON Schema."""

from __future__ import annotations

import json
from dataclasses import fields
from importlib import resources
from typing import TYPE_CHECKING, Any

from countersign.ca import revocation
from countersign.ca.revocation import faults as revocation_said
from countersign.proxy.answer import ProxyAnswer
from countersign.proxy.faults import FAULTS, WireFault
from countersign.proxy.network import Network
from countersign.proxy.orders import Match
from countersign.scenarios import model
from countersign.scenarios.expect import ClientExpect, Expect
from countersign.scenarios.typed import default_of, hints, keys, schema
from docs.generating.writing import bullets, code, docstring, inline, link, listed, paragraph, section, table, ticked

if TYPE_CHECKING:
    from collections.abc import Mapping

    from docutils import nodes

    from countersign.proxy.faults import FaultKind
    from docs.generating.writing import Inline

    Json = Mapping[str, Any]

# -- scenario files ----------------------------------------------------------------------------------------------

_TABLES: dict[str, type[Any]] = {
    "": model.Scenario,
    "certificate": model.Certificate,
    "client_certificate": model.ClientCertificate,
    "client_auth": model.ClientAuth,
    "protocol": model.Protocol,
    "stapling": model.Stapling,
    "target": model.Target,
    "network": Network,
    "answer": ProxyAnswer,
    "match": Match,
    "schedule": model.Schedule,
    "[step]": model.Step,
    "parameters.NAME": model.Parameter,
    "expect": Expect,
    "expect.clients.FAMILY": ClientExpect,
}
_ANCHORS = {
    kind: f"scenario-keys-{(name or 'top').strip('[]').replace('.', '-').lower()}" for name, kind in _TABLES.items()
}


def scenario_keys() -> list[nodes.Element]:
    """A section a table of the file, a row a key."""
    return [
        section(code(f"[{name}]") if name else "The file itself", _ANCHORS[kind], *docstring(kind.__doc__), _keys(kind))
        for name, kind in _TABLES.items()
    ]


def _keys(kind: type[Any]) -> nodes.table:
    inherited = set() if kind is not model.Step else {each.name for each in fields(model.Scene)}
    rows: list[list[Inline]] = []
    for key, one in keys(kind).items():
        if one.name in inherited:
            continue
        annotation = hints(kind)[one.name]
        rows.append([code(key), inline(*_kind_of(key, annotation)), _default(default_of(one))])
    if inherited:
        rows.append([listed(map(code, sorted(inherited))), "as of the file itself, for this step alone", ""])
    return table(("key", "value", "unless said"), rows)


def _kind_of(key: str, annotation: Any) -> list[str | nodes.Node]:
    name, anchor = next(
        ((name, _ANCHORS[kind]) for name, kind in _TABLES.items() if name.split(".")[0].strip("[]") == key), ("", "")
    )
    if name:
        return [link(anchor, "table ", code(f"[{name}]"))]
    if key == "wire":
        return [code("[[wire]]"), ": faults, each a table with ", code("do")]
    return words(schema(annotation))


def _default(value: object) -> str | nodes.Node:
    match value:
        case None | () | "":
            return ""
        case bool():
            return code("true" if value else "false")
        case str():
            return code(json.dumps(value))
        case bytes():
            return code(json.dumps(value.hex()))
        case int() | float():
            return code(f"{value:g}")
    return ""


def words(said: Json) -> list[str | nodes.Node]:
    """What may stand there, by its JSON Schema."""
    if "$ref" in said:
        name = str(said["$ref"]).rpartition("/")[2]
        return [link(f"recording-{name}", code(name))]
    if "const" in said:
        return [code(json.dumps(said["const"]))]
    if "enum" in said:
        return list(listed([code(json.dumps(each)) for each in said["enum"]]))
    if "anyOf" in said:
        found: list[str | nodes.Node] = []
        for each in said["anyOf"]:
            found += [" or ", *words(each)] if found else words(each)
        return found
    if said.get("type") == "array":
        return ["list of ", *words(said["items"])]
    if said.get("type") == "object" and isinstance(said.get("additionalProperties"), dict):
        return ["table of ", *words(said["additionalProperties"])]
    kinds = said.get("type", "anything")
    text = " or ".join([kinds] if isinstance(kinds, str) else kinds)
    examples = [code(json.dumps(each)) for each in said.get("examples", ())]
    return [text, " as in ", *listed(examples)] if examples else [text]


# -- faults ------------------------------------------------------------------------------------------------------


def wire_faults() -> list[nodes.Element]:
    return [*docstring(WireFault.__doc__), *(_fault(name, kind) for name, kind in sorted(FAULTS.items()))]


def _fault(name: str, kind: FaultKind) -> nodes.section:
    facts: list[list[str | nodes.Node]] = [
        ["a right client: ", kind.right],
        ["stands at ", code(kind.default_at), " unless said"],
    ]
    facts += [["places: ", *listed(map(code, sorted(kind.places)))], ["to: ", *listed(map(code, sorted(kind.sides)))]]
    if kind.needs:
        facts.append(["only in ", *listed(map(code, sorted(kind.needs)))])
    rows: list[list[Inline]] = []
    for key, option in kind.known.items():
        needed = option.default is None and not option.optional
        unless_said = "has to be there" if needed else _default(option.default)
        rows.append([code(key), f"{option.says}; {option.expected()}", unless_said])
    return section(
        code(name),
        f"fault-{name}",
        paragraph(kind.says),
        bullets(facts),
        table(("key", "what it is", "unless said"), rows),
    )


def revocation_faults() -> list[nodes.Element]:
    names = [code(each.value) for each in revocation_said.What]
    return [
        *docstring(revocation_said.__doc__),
        *docstring(revocation.Fault.__doc__),
        paragraph("All: ", *listed(names)),
    ]


# -- recordings --------------------------------------------------------------------------------------------------


def recording_keys() -> list[nodes.Element]:
    """A section a definition of the schema, in its order, a row a key."""
    text = resources.files("countersign.recorder").joinpath("schema/recording-1.json").read_text("utf-8")
    document = json.loads(text)
    return [
        paragraph(ticked(document["description"])),
        *(_definition(name, said) for name, said in document["$defs"].items()),
    ]


def _definition(name: str, said: Json) -> nodes.section:
    parts: list[nodes.Element] = [paragraph(ticked(said["description"]))] if "description" in said else []
    if "properties" in said:
        parts.append(table(("key", "value", "what it is"), _properties(said, "")))
    else:
        parts.append(paragraph(inline(*words(said))))
    return section(code(name), f"recording-{name}", *parts)


def _properties(said: Json, above: str) -> list[list[Any]]:
    """A row a key, and below it those of a table that stands there."""
    rows: list[list[Any]] = []
    for key, each in said["properties"].items():
        rows.append([code(f"{above}{key}"), inline(*words(each)), ticked(str(each.get("description", "")))])
        inner = each.get("items", each) if isinstance(each.get("items", each), dict) else each
        if "properties" in inner:
            rows += _properties(inner, f"{above}{key}[]." if inner is not each else f"{above}{key}.")
    return rows
