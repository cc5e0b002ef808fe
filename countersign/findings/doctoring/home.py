"""Where a MID Server keeps its things, by release; found by looking, and read with a bound."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from countersign.errors import EnvironmentFault, UserError
from countersign.recorder.private_files import FileFault, read_regular
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CONFIG_AT_MOST = 4 << 20
_LOGS_AT_MOST = 12


@dataclass(frozen=True, slots=True)
class MidHome:
    """The agent's folder and what was found in it; a file that is not there is None."""

    agent: Path
    config: Path | None
    cacerts: Path | None
    keystore: Path | None
    webserver: Path | None
    release: Path | None
    logs: tuple[Path, ...]


def find_home(folder: Path) -> MidHome:
    """What there is in a MID Server's folder, or its ``agent`` folder. Raises :class:`UserError` where it is none."""
    try:
        return _found(folder)
    except PermissionError as wrong:
        place = printable(str(wrong.filename or folder))
        raise EnvironmentFault(f"cannot look at {place}: permission denied; run as the MID Server's own user") from None


def _found(folder: Path) -> MidHome:
    for agent in (folder, folder / "agent"):
        config = agent / "config.xml"
        if config.is_file() or (agent / "keystore").is_dir() or (agent / "conf" / "wrapper.conf").is_file():
            break
    else:
        raise UserError(
            f"{printable(str(folder))} is no MID Server's folder: there is no config.xml and no keystore in it or in "
            "its agent folder"
        )
    return MidHome(
        agent=agent,
        config=config if config.is_file() else None,
        cacerts=_first(
            agent, "jre/lib/security/cacerts", "jre/jre/lib/security/cacerts", "../jre/lib/security/cacerts"
        ),
        # Rome moved it, and took its suffix away.
        keystore=_first(agent, "security/agent_keystore", "keystore/agent_keystore.jks", "keystore/agent_keystore"),
        webserver=_first(agent, "keystore/webserver_keystore.jceks", "security/webserver_keystore.jceks"),
        release=_first(agent, "jre/release", "jre/jre/release", "../jre/release"),
        logs=tuple(_logs(agent)),
    )


def _first(agent: Path, *names: str) -> Path | None:
    return next((path for name in names if (path := agent / name).is_file()), None)


def _logs(agent: Path) -> Iterator[Path]:
    """The newest logs, the agent's and the wrapper's."""
    found = [path for pattern in ("agent*.log*", "wrapper*.log*") for path in (agent / "logs").glob(pattern)]
    real = [path for path in found if path.is_file() and not path.is_symlink()]
    yield from sorted(real, key=lambda path: path.stat().st_mtime, reverse=True)[:_LOGS_AT_MOST]


def java_version(home: MidHome) -> str | None:
    """``JAVA_VERSION`` of the JRE's ``release`` file."""
    if home.release is None:
        return None
    try:
        data = read_regular(home.release, at_most=1 << 16)
    except FileFault:
        return None
    found = re.search(rb'^JAVA_VERSION="?([\w.+-]{1,40})', data or b"", re.MULTILINE)
    return found[1].decode() if found else None


def read_config(home: MidHome) -> bytes | None:
    """The bytes of ``config.xml``. Raises :class:`FileFault` for one that we cannot read, whoever else can."""
    if home.config is None:
        return None
    return read_regular(home.config, at_most=_CONFIG_AT_MOST)
