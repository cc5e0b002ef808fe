"""The reference pages that are made of the code whenever the handbook is built, so that they say what it says.

Each directive stands in one page of ``docs/reference/`` and gives finished nodes of docutils. Texts of the code go into
them as text (:mod:`.writing`): no markup in a title, a story or a help text is ever read as markup.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from docutils import nodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from docs.generating import commands, control, findings, scenarios, schemas, wrong_certificates

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sphinx.application import Sphinx

    Made = Callable[[], list[nodes.Element]]

_EXTERNAL = re.compile(r"https://www\.rfc-editor\.org/rfc/rfc[0-9]{1,5}\.html(#[a-z]+-[0-9A-Z.]+)?")
"""What links may lead out of the handbook: nobody looks them up when it is built, so only those that do not move."""

PAGES: Mapping[str, Made] = {
    "all-commands": commands.made,
    "all-scenarios": scenarios.made,
    "scenario-keys": schemas.scenario_keys,
    "recording-keys": schemas.recording_keys,
    "wire-faults": schemas.wire_faults,
    "revocation-faults": schemas.revocation_faults,
    "all-recipes": wrong_certificates.recipes_made,
    "all-presets": wrong_certificates.presets_made,
    "all-findings": findings.findings_made,
    "all-texts": findings.texts_made,
    "control-requests": control.made,
    "exit-codes": commands.exit_codes,
}

log = logging.getLogger(__name__)


def setup(app: Sphinx) -> dict[str, Any]:
    """What Sphinx calls."""
    for name, made in PAGES.items():
        app.add_directive(name, _directive(made))
    app.connect("doctree-read", _check_links)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def _directive(made: Made) -> type[SphinxDirective]:
    class Generated(SphinxDirective):
        def run(self) -> list[nodes.Node]:
            parts = made()
            for part in parts:
                for section in part.findall(nodes.section):
                    self.state.document.note_explicit_target(section, section)
            return list(parts)

    return Generated


def _check_links(_app: Sphinx, doctree: nodes.document) -> None:
    for link in doctree.findall(nodes.reference):
        uri = str(link.get("refuri", ""))
        if re.match(r"[a-z]+:", uri, re.IGNORECASE) and not _EXTERNAL.fullmatch(uri):
            log.warning("a link leads to %s; expected https://www.rfc-editor.org/rfc/rfcN.html", uri, location=link)
