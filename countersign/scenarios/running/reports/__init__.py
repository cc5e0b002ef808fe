"""A matrix as a file for others: JUnit, SARIF, JSON, Markdown, and HTML that needs nothing but itself."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from countersign.errors import UserError
from countersign.scenarios.running.reports.html import to_html
from countersign.scenarios.running.reports.junit import to_junit
from countersign.scenarios.running.reports.markdown import to_markdown
from countersign.scenarios.running.reports.sarif import to_sarif
from countersign.scenarios.running.results import to_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from countersign.scenarios.running.results import Matrix


def _json(matrix: Matrix) -> bytes:
    return (json.dumps(to_json(matrix), indent=1, ensure_ascii=True) + "\n").encode()


FORMS: dict[str, Callable[[Matrix], bytes]] = {
    "html": to_html,
    "json": _json,
    "junit": to_junit,
    "markdown": to_markdown,
    "sarif": to_sarif,
}
"""What ``--report`` takes, and what makes it."""


def parse_report(text: str) -> tuple[str, str]:
    """``FORM=FILE``. Raises :class:`UserError`."""
    form, found, path = text.partition("=")
    if form not in FORMS or not found or not path:
        raise UserError(f"--report takes FORM=FILE, where the form is {', '.join(FORMS)}; got {text!r}")
    return form, path


def needs_ladders(forms: set[str]) -> bool:
    """Whether one of these forms shows the handshakes."""
    return bool(forms & {"html", "json"})
