"""The rooms import one way (docs/architecture.md)."""

from __future__ import annotations

import ast
from pathlib import Path

import countersign

PACKAGE = Path(countersign.__file__).parent
LOWER = {
    "recorder": set(),
    "ca": {"recorder"},
    "proxy": {"ca", "recorder"},
    "findings": {"ca", "recorder"},
    "scenarios": {"lab", "proxy", "findings", "ca", "recorder"},
    "lab": {"proxy", "ca", "recorder"},
    "web": {"scenarios", "lab", "proxy", "findings", "ca", "recorder"},
    "cli": {"web", "scenarios", "lab", "proxy", "findings", "ca", "recorder"},
}


def imported(path: Path) -> set[str]:
    """The modules of ours that a file names in its imports, those inside functions as well."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.startswith("countersign.")}


def test_no_room_imports_upwards() -> None:
    upwards = [
        f"{path.relative_to(PACKAGE)} imports {module}"
        for room, below in LOWER.items()
        for path in (PACKAGE / room).rglob("*.py")
        for module in sorted(imported(path))
        if (other := module.split(".")[1]) in LOWER and other != room and other not in below
    ]
    assert upwards == []


def test_the_wire_knows_no_store_no_files_and_no_network() -> None:
    barred = ("countersign.recorder.store", "countersign.recorder.files", "countersign.recorder.recording")
    reaching = [
        f"{path.name} imports {module}"
        for path in (PACKAGE / "recorder" / "wire").rglob("*.py")
        for module in imported(path)
        if module.startswith(barred)
    ]
    network = [
        f"{path.name} imports {name}"
        for path in (PACKAGE / "recorder" / "wire").rglob("*.py")
        for name in ("asyncio", "socket", "OpenSSL")
        if f"import {name}" in path.read_text(encoding="utf-8")
    ]
    assert reaching + network == []


def test_only_one_module_of_a_room_knows_openssl() -> None:
    knowing = sorted(
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if "OpenSSL import" in path.read_text(encoding="utf-8") or "import OpenSSL" in path.read_text(encoding="utf-8")
    )
    assert knowing == ["ca/_openssl.py", "proxy/_openssl.py"]


def test_no_room_uses_a_private_module_of_another() -> None:
    private = [
        f"{path.relative_to(PACKAGE)} imports {module}"
        for path in PACKAGE.rglob("*.py")
        for module in sorted(imported(path))
        if any(part.startswith("_") and not part.startswith("__") for part in module.split(".")[1:])
        and module.split(".")[1] != path.relative_to(PACKAGE).parts[0]
    ]
    assert private == []
