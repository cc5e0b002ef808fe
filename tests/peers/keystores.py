"""keytool, and a JVM that does many things with key stores in one run (``KeyStores.java``)."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.peers.java import BOUNCY_CASTLE, BOUNCY_CASTLE_PROVIDER, QUICK_START
from tests.peers.process import Completed, run

SOURCE = Path(__file__).with_name("java") / "KeyStores.java"
PASSWORD = "changeit"
WITH_BOUNCY_CASTLE = ("-providerpath", BOUNCY_CASTLE[0], "-provider", BOUNCY_CASTLE_PROVIDER)


@dataclass(frozen=True, slots=True)
class JavaEntry:
    """An entry as a JVM sees it; digests are SHA-256 in hexadecimal, ``created`` is in milliseconds since 1970."""

    kind: str
    alias: str
    created: int
    key: str
    certificates: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What one command said: lines of words, and the exception with its causes if it failed."""

    lines: tuple[tuple[str, ...], ...]
    failure: str | None

    @property
    def entries(self) -> dict[str, JavaEntry]:
        """The answer to ``list``."""
        assert self.failure is None, self.failure
        return {
            alias: JavaEntry(kind, alias, int(created), key, tuple(certificates.split()))
            for kind, alias, created, key, certificates in self.lines
        }


@cache
def _classes() -> tempfile.TemporaryDirectory[str]:
    """KeyStores compiled, once a session; the directory goes when the interpreter does."""
    directory = tempfile.TemporaryDirectory(prefix="key-stores-")
    run("javac", "-d", directory.name, SOURCE, timeout=120).check()
    return directory


def in_java(*commands: tuple[object, ...], bouncy_castle: bool = False, java: str = "java") -> list[Answer]:
    """Run the commands of ``KeyStores.java`` in one JVM; an answer each."""
    text = "".join("\t".join(map(str, command)) + "\n" for command in commands)
    path = ":".join([_classes().name, *([str(BOUNCY_CASTLE[0])] if bouncy_castle else [])])
    provider = [BOUNCY_CASTLE_PROVIDER] if bouncy_castle else []
    done = run(java, *QUICK_START, "-cp", path, "KeyStores", *provider, stdin=text.encode("utf-8"), timeout=110).check()
    answers: list[Answer] = []
    lines: list[tuple[str, ...]] = []
    for line in done.stdout.splitlines():
        words = tuple(line.split("\t"))
        if words[0] in {"ok", "failed"}:
            answers.append(Answer(tuple(lines), words[1] if words[0] == "failed" else None))
            lines = []
        else:
            lines.append(words)
    assert len(answers) == len(commands), done
    return answers


def keytool(*words: str | Path, bouncy_castle: bool = False) -> Completed:
    """One run of keytool."""
    return run("keytool", *words, *(WITH_BOUNCY_CASTLE if bouncy_castle else ()), timeout=60)


def openssl(*words: str | Path, stdin: bytes = b"") -> Completed:
    """One run of openssl; it need not go well."""
    return run("openssl", *words, timeout=60, stdin=stdin)
