"""What README and handbook tell people to type is there to be typed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.handbook.reading import PAGES, ROOT, Typed, commands, known_options, mistake, options, simple_commands

if TYPE_CHECKING:
    from pathlib import Path

OTHERS = {"--help", "--cert", "--curves", "--tls-keylog"}
"""Options of every command, and of other programs (curl, node) that a page names."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_of_a_page_is_one_that_the_command_line_takes(page: Path) -> None:
    mistakes = {str(each): wrong for each in commands(page) if (wrong := mistake(each))}
    assert mistakes == {}
    assert options(page) - known_options() - OTHERS == set()


def test_the_commands_and_options_of_pages_are_found_at_all() -> None:
    assert len(commands(ROOT / "README.md")) > 40
    assert {"--ldap", "--ocsp-off", "--listen", "--no-resumption"} <= known_options()


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("A=1 countersign ls --json | head -1  # newest", [("countersign", "ls", "--json"), ("head", "-1")]),
        ("curl {url} 2>err.txt && countersign show last > out", [("curl", "{url}"), ("countersign", "show", "last")]),
        ("countersign run -- sh -c 'a | b' &", [("countersign", "run", "--", "sh", "-c", "a | b")]),
    ],
)
def test_a_line_of_shell_is_cut_into_its_commands(line: str, found: list[tuple[str, ...]]) -> None:
    assert list(simple_commands(line)) == found


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("countersign ls --no-such-option", "NoSuchOption"),
        ("countersign no-such-command", "UsageError"),
        ("countersign ca no-such-command", "UsageError"),
        ("countersign explain", "MissingParameter"),
        ("countersign run --scenario no-such-scenario -- curl", "no-such-scenario"),
        ("countersign run --scenario expired+no-such-scenario -- curl", "no-such-scenario"),
        ("countersign proxy --preset no-such-product", "no-such-product"),
        ("countersign proxy --workers none", "BadParameter"),
        ("countersign lab mid --profil quebec", "--profil"),
    ],
)
def test_a_command_that_is_none_is_seen(line: str, said: str) -> None:
    assert said in (mistake(Typed(ROOT / "README.md", 1, tuple(line.split()))) or "")
