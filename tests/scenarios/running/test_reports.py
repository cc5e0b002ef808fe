"""Reports: read back by what reads them, and safe whatever a peer is called."""

from __future__ import annotations

import html.parser
import json
import re
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from countersign.errors import UserError
from countersign.scenarios.running.reports import FORMS, parse_report
from countersign.scenarios.running.reports.terminal import lines
from countersign.scenarios.running.results import from_json
from countersign.scenarios.running.texts import Said
from countersign.scenarios.running.verdict import Kind
from tests.recorder.made_recordings import HOSTILE
from tests.scenarios.running.made import ONE_OF_EACH, matrix, result


class Page(html.parser.HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def names(self) -> list[str]:
        return [name for name, _ in self.elements]


def named(name: str) -> Any:
    """A matrix in which everything has this name that a peer, a client or its user can name."""
    said = (Said(name[:300], None), Said(f"x {name[:300]}", "a meaning"))
    one = result("leaf-expired", Kind.ACCEPTED_WRONGLY, said=said, argv=("curl", name), ladders=(f"a {name}\nb",))
    one = replace(one, title=name, verdict=replace(one.verdict, text=f"accepted {name}", notes=(name,)))
    return matrix(one, client=("curl", name))


@pytest.mark.parametrize("form", sorted(FORMS))
def test_every_form_is_made_of_every_kind_of_result(form: str) -> None:
    assert b"leaf-expired" in FORMS[form](ONE_OF_EACH)
    assert FORMS[form](matrix())


def test_json_is_read_back_as_it_was() -> None:
    assert from_json(json.loads(FORMS["json"](ONE_OF_EACH)), name="x") == ONE_OF_EACH


# -- JUnit ---------------------------------------------------------------------------------------------------------


def test_junit_has_a_suite_for_each_family_and_counts_that_agree() -> None:
    root = ET.fromstring(FORMS["junit"](ONE_OF_EACH))
    assert root.tag == "testsuites"
    suites = {suite.get("name"): suite for suite in root.findall("testsuite")}
    assert set(suites) == {each.family for each in ONE_OF_EACH.results}
    for suite in (root, *suites.values()):
        cases = list(suite.iter("testcase"))
        assert int(suite.get("tests", "")) == len(cases)
        for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert int(suite.get(name, "")) == len([case for case in cases if case.find(tag) is not None]), name
    assert (root.get("tests"), root.get("failures"), root.get("errors"), root.get("skipped")) == ("9", "5", "1", "1")


def test_junit_says_why_a_case_failed() -> None:
    root = ET.fromstring(FORMS["junit"](ONE_OF_EACH))
    failure = root.find(".//testcase[@name='leaf-expired']/failure")
    assert failure is not None
    assert failure.get("type") == "accepted-wrongly"
    assert failure.get("message") == "accepted but should have refused (sent 87 bytes of application data)"
    assert failure.text is not None
    assert "it said: curl: (60) all is lost\nthat is: nothing good" in failure.text
    assert "──►" in failure.text
    assert root.find(".//testcase[@name='wildcard@TLSv1.2']/failure") is not None


# -- SARIF ---------------------------------------------------------------------------------------------------------


def test_sarif_has_a_rule_for_each_scenario_and_a_result_for_each_that_is_wrong() -> None:
    (run,) = json.loads(FORMS["sarif"](ONE_OF_EACH))["runs"]
    rules = {rule["id"] for rule in run["tool"]["driver"]["rules"]}
    assert rules == {each.scenario for each in ONE_OF_EACH.results}
    assert {each["ruleId"] for each in run["results"]} == {
        each.scenario for each in ONE_OF_EACH.results if not each.right_done
    }
    for each in run["results"]:
        assert each["message"]["text"]
        place = each["locations"][0]["physicalLocation"]
        assert place["artifactLocation"]["uri"] == "curl"
        assert place["region"]["startLine"] == 1
    prints = [each["partialFingerprints"]["countersign/v1"] for each in run["results"]]
    assert len(set(prints)) == len(prints)


def test_sarif_points_at_the_file_of_the_client_where_it_names_one(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my client.py").write_text("")
    monkeypatch.chdir(tmp_path)
    (run,) = json.loads(FORMS["sarif"](replace(ONE_OF_EACH, client=("python3", "my client.py", "{url}"))))["runs"]
    places = {each["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for each in run["results"]}
    assert places == {"my%20client.py"}


def test_sarif_calls_what_is_known_a_note() -> None:
    known = result("a", Kind.ACCEPTED_WRONGLY)
    known = replace(known, verdict=replace(known.verdict, known=True))
    (run,) = json.loads(FORMS["sarif"](matrix(known)))["runs"]
    assert run["results"][0]["level"] == "note"


# -- HTML and Markdown ---------------------------------------------------------------------------------------------


def test_the_page_needs_nothing_but_itself() -> None:
    text = FORMS["html"](ONE_OF_EACH).decode()
    page = Page(text)
    assert not {"script", "link", "img", "iframe", "object", "embed", "base", "form"} & set(page.names())
    assert {name for _, attrs in page.elements for name in attrs} <= {
        "lang", "charset", "http-equiv", "content", "name", "class", "open",
    }  # fmt: skip
    (policy,) = [attrs["content"] for name, attrs in page.elements if attrs.get("http-equiv")]
    assert policy is not None
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy


def test_the_page_allows_its_own_style_sheet() -> None:
    import base64
    import hashlib

    text = FORMS["html"](ONE_OF_EACH).decode()
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"'sha256-{digest}'" in text


def test_the_page_shows_verdicts_reasons_and_handshakes() -> None:
    page = Page(FORMS["html"](ONE_OF_EACH).decode())
    for text in (
        "accepted but should have refused (sent 87 bytes of application data)",
        "it said: curl: (60) all is lost",
        "client  ──►  proxy",
        "9 scenarios in 1.5 s",
    ):
        assert text in page.text


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_no_name_becomes_an_element_of_the_page(name: str) -> None:
    harmless, hostile = (Page(FORMS["html"](named(text)).decode()) for text in ("harmless", HOSTILE[name]))
    assert hostile.elements == harmless.elements


@pytest.mark.parametrize("name", sorted(HOSTILE))
@pytest.mark.parametrize("form", ["html", "markdown", "junit", "sarif", "terminal"])
def test_no_control_character_reaches_a_reader(name: str, form: str) -> None:
    made = named(HOSTILE[name])
    if form == "terminal":
        text = "\n".join(line for line, _ in lines(made))
    elif form == "junit":
        text = "".join(ET.fromstring(FORMS[form](made)).itertext())
    else:
        text = FORMS[form](made).decode()
    found = {char for char in text if not char.isprintable() and char != "\n"}
    assert not found, found


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_no_name_becomes_markup_in_markdown(name: str) -> None:
    text = FORMS["markdown"](named(HOSTILE[name])).decode()
    bare = re.sub(r"(`+).*?\1|\\.", "", text)
    assert not re.search(r"<(?!br>)|\[|\]|\(|\)", bare), bare
    rows = [line for line in text.splitlines() if line.startswith("| ") and "leaf" in line]
    assert [len(re.findall(r"(?<!\\)\|", row)) for row in rows] == [4, 5]


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_junit_and_sarif_are_well_formed_whatever_a_peer_is_called(name: str) -> None:
    root = ET.fromstring(FORMS["junit"](named(HOSTILE[name])))
    assert [element.tag for element in root.iter()] == [
        "testsuites", "testsuite", "properties", "property", "testcase", "failure",
    ]  # fmt: skip
    assert json.loads(FORMS["sarif"](named(HOSTILE[name])))["runs"][0]["results"][0]["message"]["text"]


# -- terminal ------------------------------------------------------------------------------------------------------


def test_the_terminal_has_a_line_for_each_and_reasons_for_what_is_wrong() -> None:
    text = [line for line, _ in lines(ONE_OF_EACH)]
    for each in ONE_OF_EACH.results:
        assert any(line.startswith(f"{each.key} ") for line in text), each.key
    assert any(line.strip() == "it said: curl: (60) all is lost" for line in text)
    assert text[-1].startswith("9 scenarios in 1.5 s: 1 refused as they should, 1 accepted as they should")


@pytest.mark.parametrize("text", ["", "html", "html=", "=x", "pdf=x", "HTML=x"])
def test_a_report_that_there_is_not_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="--report takes FORM=FILE, where the form is html, json, junit, markdown, sar"):
        parse_report(text)


def test_a_report_is_a_form_and_a_file() -> None:
    assert parse_report("junit=out/a=b.xml") == ("junit", "out/a=b.xml")
