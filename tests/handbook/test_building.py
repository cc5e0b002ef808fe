"""The handbook is built without a warning, from what stands there alone, and reads texts of the code as texts."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from types import MappingProxyType
from typing import TYPE_CHECKING

import pytest
from docutils.core import publish_from_doctree
from docutils.utils import new_document

from countersign.scenarios.catalogue import catalogue
from countersign.scenarios.expect import ClientExpect, Expect
from countersign.scenarios.model import Parameter, Scenario
from countersign.scenarios.typed import table_schema
from docs.generating import findings, scenarios, schemas, writing
from tests.handbook.reading import DOCS, PAGES, ROOT, blocks

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from docutils import nodes

HOSTILE = "<script>alert(1)</script> & *a* **b** `c` ``d`` [e](f) {ref}`g` :doc:`h` |i| _j: .. raw:: html {{ k }} \\m"


class Page(HTMLParser):
    """What a browser makes of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.tags, self.loaded = "", set[str](), list[str]()
        self.feed(text)
        self.close()

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        given = dict(attrs)
        self.loaded += [given[name] or "" for name in ("src", "href") if name in given and tag != "a"]


def page_of(parts: Iterable[nodes.Element]) -> Page:
    document = new_document("made")
    document += list(parts)
    html = publish_from_doctree(document, writer="html5", settings_overrides={"output_encoding": "unicode"})
    return Page(re.sub(r"(?s)^.*<body[^>]*>|</body>.*$", "", str(html)))


@pytest.mark.timeout(400)
def test_the_handbook_is_built_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    flags = ("-n", "-W", "--keep-going", "-E", "-q")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *flags, "-d", tmp_path / "trees", DOCS, tmp_path / "html"],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in (tmp_path / "html").rglob("*.html")}
    assert {path.stem for path in DOCS.rglob("*.md")} <= {path.stem for path in pages}
    from_elsewhere = {where for page in pages.values() for where in page.loaded if re.match(r"[a-z]+:|//", where)}
    assert from_elsewhere == set()
    (listed,) = (page.text for path, page in pages.items() if path.match("reference/scenarios.html"))
    assert [name for name in catalogue() if name not in listed] == []


def test_texts_of_scenarios_are_read_as_texts() -> None:
    scenario = Scenario(
        id="hostile",
        title=HOSTILE,
        story=HOSTILE,
        sources=(HOSTILE,),
        expect=Expect(
            why=HOSTILE,
            clients=MappingProxyType({"curl": ClientExpect(texts=(HOSTILE,), note=HOSTILE, skip=HOSTILE)}),
        ),
        parameters=MappingProxyType({"days": Parameter(default=HOSTILE, text=HOSTILE)}),
    )
    page = page_of(scenarios.of([scenario]))
    assert page.text.count(HOSTILE) == 9
    assert page.tags.isdisjoint({"script", "em", "a", "b"})


def test_of_a_ticked_text_the_ticks_alone_are_markup() -> None:
    page = page_of([writing.paragraph(writing.ticked(f"`{HOSTILE.replace('`', '')}` {HOSTILE.replace('`', '')}"))])
    assert page.text.count("<script>alert(1)</script> & *a* **b**") == 2
    assert page.tags <= {"main", "p", "code", "span"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_links_of_a_page_to_files_lead_to_files(page: Path) -> None:
    """Those within the handbook are Sphinx's to check, with their anchors."""
    text = re.sub(r"(?ms)^```.*?^```|^    .*?$|`[^`\n]*`", "", page.read_text(encoding="utf-8"))
    targets = [each for each in re.findall(r"\]\(([^)#\s]+)", text) if not re.match(r"[a-z]+:", each)]
    assert [each for each in targets if not (page.parent / each).exists()] == []


def test_the_scenario_that_the_handbook_shows_is_right(tmp_path: Path) -> None:
    page = DOCS / "reference" / "scenario-files.md"
    (text,) = (each.text for each in blocks(page) if each.form == "toml")
    file = tmp_path / "mine.toml"
    file.write_text(text, encoding="utf-8")
    assert len(catalogue().open(str(file), {"connections": "3"}).steps) == 2


def test_every_table_of_a_scenario_file_is_told_key_by_key() -> None:
    """Faults of the wire have a page of their own."""
    keys = table_schema(Scenario)["properties"].items()
    tables = {key for key, said in keys if "properties" in said or "properties" in said.get("items", {})}
    page = page_of(schemas.scenario_keys())
    assert tables - {"wire"}
    assert [key for key in sorted(tables - {"wire"}) if f"[{key}]" not in page.text] == []


def test_the_cures_of_findings_are_shown_as_they_are_told() -> None:
    page = page_of(findings.findings_made())
    assert "tls.Config{Renegotiation" in page.text
    assert "{{" not in page.text
