"""Plays scenarios to real clients, in the test's own loop."""

from __future__ import annotations

import os
import tempfile
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countersign.cli.log import logs
from countersign.scenarios.catalogue import catalogue
from countersign.scenarios.running.clients import family_named, family_of
from countersign.scenarios.running.matrix import PLAIN, Client, Runner
from countersign.scenarios.running.stage import Props
from tests.peers.process import run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from countersign.scenarios.catalogue import Catalogue
    from countersign.scenarios.model import Scenario

CURL = ("curl", "-sS", "{url}")
CARELESS = ("curl", "-sSk", "{url}")
WITH_CERTIFICATE = ("--cert", "{client_cert}", "--key", "{client_key}")
QUICK_JAVA = ("java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")


@cache
def known() -> Catalogue:
    """The built-in scenarios, each read once."""
    return catalogue()


def scenarios(*names: str) -> list[Scenario]:
    return [known().open(name) for name in names]


def client(argv: Sequence[str], *, family: str | None = None, **settings: Any) -> Client:
    known = family_of(argv) if family is None else family_named(family)
    return Client(argv=tuple(argv), family=known, env=dict(os.environ), **settings)


@asynccontextmanager
async def playing(
    argv: Sequence[str], *, props: dict[str, Any] | None = None, **settings: Any
) -> AsyncIterator[Runner]:
    """A runner on props of its own; ``settings`` are the client's, but for those of the runner."""
    of_runner = {name: settings.pop(name) for name in ("clock", "seed", "keeper", "ladders") if name in settings}
    with logs(only_errors=True):
        async with Props(**(props or {})) as made:
            yield Runner(client(argv, **settings), made, plain=known()[PLAIN], **of_runner)


@cache
def java_classes() -> tempfile.TemporaryDirectory[str]:
    """The test clients in Java, compiled once a session; the directory goes when the interpreter does."""
    directory = tempfile.TemporaryDirectory(prefix="matrix-clients-")
    sources = Path(__file__).parents[2] / "peers" / "java" / "HandshakeClient.java", Path(__file__).parent / "java"
    run("javac", "-d", directory.name, sources[0], *sorted(sources[1].glob("*.java")), timeout=90).check()
    return directory


def java(main: str, *args: str) -> tuple[str, ...]:
    return (*QUICK_JAVA, "-cp", java_classes().name, main, *args)
