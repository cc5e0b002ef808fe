"""What stands in a ``console`` block is typed, page by page, and what comes is what stands there."""

from __future__ import annotations

import doctest
import os
import shlex
import sys
from pathlib import Path

import pytest

from tests.cli.commands import countersign
from tests.handbook.reading import DOCS, blocks
from tests.peers.process import run

SLOW = {"java": [pytest.mark.long, pytest.mark.peer("java")], "python": [pytest.mark.long]}
"""What pages have that start another program's runtime with a program of their own."""

HOW_TOS = [
    pytest.param(page, id=page.stem, marks=[mark for form in SLOW.keys() & forms for mark in SLOW[form]])
    for page in sorted((DOCS / "howto").glob("*.md"))
    if "console" in (forms := {block.form for block in blocks(page)})
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where somebody sits who has countersign on PATH, and nothing else of it."""
    path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin:/usr/sbin"
    for name, value in {"PATH": path, "COUNTERSIGN_HOME": str(tmp_path / "home"), "COLUMNS": "120"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read_and_type(page: Path, folder: Path) -> int:
    """How many commands were typed. In what is shown ``...`` stands for anything, and where nothing is, for anything.

    A block whose first line names a file is that file.
    """
    for block in blocks(page):
        name = block.text.partition("\n")[0].lstrip("#/ ")
        if block.form in {"toml", "java", "python"} and name.endswith((".toml", ".java", ".py")):
            (folder / name).write_text(block.text, encoding="utf-8")
    steps = [(block, *step) for block in blocks(page) if block.form == "console" for step in block.steps()]
    for block, typed, shown in steps:
        came = what_comes(typed)
        right = doctest.OutputChecker().check_output(shown, came, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
        assert right or not shown, f"{page.name}:{block.line}: $ {typed}{came}\n-- where the page shows\n{shown}"
    return len(steps)


def what_comes(typed: str) -> str:
    """What a command prints: one of ours alone in this process, which spares its start, all else in a shell."""
    words = shlex.split(typed)
    if words[0] == "countersign" and not set(typed) & set("|&;<>$"):
        ran = countersign(*words[1:])
        return ran.out + ran.err
    return run("bash", "-c", f"exec 2>&1; {typed}", env={"PATH": os.environ["PATH"]}, timeout=100).stdout


@pytest.mark.timeout(400)
@pytest.mark.peer("curl")
def test_the_tutorial_shows_what_comes(folder: Path) -> None:
    assert read_and_type(DOCS / "tutorial.md", folder) >= 10


@pytest.mark.timeout(400)
@pytest.mark.peer("curl", "openssl")
@pytest.mark.parametrize("page", HOW_TOS)
def test_a_how_to_shows_what_comes(page: Path, folder: Path) -> None:
    assert read_and_type(page, folder) >= 1


def test_what_does_not_come_is_seen(folder: Path) -> None:
    page = folder / "page.md"
    page.write_text("```console\n$ countersign --version\ncountersign ... of another day\n```\n", encoding="utf-8")
    with pytest.raises(AssertionError, match="where the page shows"):
        read_and_type(page, folder)
