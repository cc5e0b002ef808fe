"""The MID-like client, compiled once a session, and stores for it."""

from __future__ import annotations

import asyncio
import re
import tempfile
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import countersign
from countersign.ca.signer import pkcs8_der
from countersign.ca.stores import CertificateEntry, Form, KeyEntry, Scheme, StoreType, write_store
from countersign.findings.explaining import explain
from countersign.lab.target import HOST
from tests.peers.java import BOUNCY_CASTLE, QUICK_START
from tests.peers.process import Completed, run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from countersign.ca import Minted

SOURCES = Path(countersign.__file__).parent / "lab" / "java"
PASSWORD = "changeit"

_QUICK = Scheme("aes-256-cbc", "pbkdf2", 1000, "sha256")
_PKCS12 = Form(keys=_QUICK, content=_QUICK, mac=Scheme("hmac-sha256", "pkcs12", 1000))


@cache
def classes() -> tempfile.TemporaryDirectory[str]:
    directory = tempfile.TemporaryDirectory(prefix="mid-client-")
    sources = (*sorted(SOURCES.glob("*.java")), Path(__file__).parent / "java" / "MidClients.java")
    run("javac", "-d", directory.name, *sources, timeout=90).check()
    return directory


@dataclass(frozen=True)
class Said:
    code: int
    log: str

    @property
    def kinds(self) -> set[str]:
        """What explain makes of the log."""
        return {found.kind.id for found in explain(BytesIO(self.log.encode())).findings}

    def of(self, profile: str) -> str:
        """The part of the log that is one profile's."""
        return self.log.partition(f"# {profile}\n")[2].partition("\n# ")[0]

    def broken(self) -> list[str]:
        """Which profiles did not get through."""
        names = [line[2:] for line in self.log.splitlines() if line.startswith("# ")]
        return [name for name in names if "*** WARNING ***" in self.of(name) or "*** ERROR ***" in self.of(name)]


async def mid(*args: object, folder: Path, properties: tuple[str, ...] = ()) -> Said:
    """``folder`` gets the hosts file; Bouncy Castle is on the class path where there is a --provider."""
    done = await _java(*properties, main="MidClient", args=args, folder=folder, hosts=(HOST,), bouncy=_bouncy(args))
    return Said(done.returncode, done.stdout + done.stderr)


def _bouncy(args: Sequence[object]) -> bool:
    return "--provider" in args


async def _java(
    *properties: str, main: str, args: Sequence[object], folder: Path, hosts: tuple[str, ...], bouncy: bool
) -> Completed:
    table = folder / "hosts"
    table.write_text("".join(f"127.0.0.1 {name}\n" for name in ("localhost", *hosts)))
    path = ":".join([classes().name, *(map(str, BOUNCY_CASTLE) if bouncy else ())])
    command = ("java", *QUICK_START, f"-Djdk.net.hosts.file={table}", *properties, "-cp", path, main)
    return await asyncio.to_thread(run, *command, *map(str, args), timeout=100)


async def mids(
    *clients: Sequence[object],
    folder: Path,
    hosts: tuple[str, ...] = (HOST,),
    properties: tuple[str, ...] = (),
    debug: Path | None = None,
) -> list[Said]:
    """Several, one after the other in one JVM, which saves its start for each; all on the same provider. ``debug`` gets
    what the JVM itself printed.
    """
    words = folder / "clients"
    words.write_text("\n\n".join("\n".join(map(str, each)) for each in clients))
    done = await _java(
        *properties, main="MidClients", args=(words,), folder=folder, hosts=hosts, bouncy=_bouncy(clients[0])
    )
    assert done.returncode == 0, done
    if debug is not None:
        await asyncio.to_thread(debug.write_text, done.stderr)
    said = re.split(r"^## exit code (\d)\n", done.stdout, flags=re.MULTILINE)
    return [Said(int(code), log) for log, code in zip(said[::2], said[1::2], strict=False)]


def trust_store(folder: Path, *roots: bytes, name: str = "trust.p12") -> Path:
    path = folder / name
    entries = [CertificateEntry(f"root-{number}", der) for number, der in enumerate(roots)]
    path.write_bytes(write_store(StoreType.PKCS12, entries, PASSWORD, form=_PKCS12))
    return path


def key_store(folder: Path, shown: Minted, kind: StoreType = StoreType.PKCS12) -> Path:
    """Key and whole chain; without a suffix, as agent_keystore has none."""
    path = folder / f"agent_keystore-{kind.value}"
    key = shown.key if isinstance(shown.key, bytes) else pkcs8_der(shown.key)
    form = _PKCS12 if kind is StoreType.PKCS12 else None
    path.write_bytes(write_store(kind, [KeyEntry("mid", shown.chain, key)], PASSWORD, form=form))
    return path
