"""The file that says where a proxy listens (``--ready-file``), for whoever waits for it or has to know the port.

It is there while the proxy listens, and gone after. What it takes the place of may be missing, empty (``mktemp``) or
an earlier ready file, and nothing else: a name that was mistyped costs nobody a file.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING

from countersign.errors import EnvironmentFault
from countersign.recorder.private_files import FileFault, read_regular, write_public

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_AT_MOST = 1 << 16


@contextlib.contextmanager
def ready_file(path: Path, listen: str, **more: str) -> Iterator[None]:
    """``{"listen": "127.0.0.1:8443", "host": "127.0.0.1", "port": 8443, "pid": 4711}`` while the block runs, and
    whatever ``more`` there is to say.

    Raises :class:`EnvironmentFault` where it cannot be written, or would take another file's place.
    """
    there = read_regular(path, at_most=_AT_MOST, follow=False)
    if there is not None and not _replaceable(there):
        raise EnvironmentFault(f"cannot write the ready file {path}: another file is there; remove it or name another")
    host, _, port = listen.rpartition(":")
    document = {"listen": listen, "host": host.strip("[]"), "port": int(port), "pid": os.getpid(), **more}
    data = (json.dumps(document) + "\n").encode("ascii")
    write_public(path, data)
    try:
        yield
    finally:
        with contextlib.suppress(OSError, FileFault):  # it may be another proxy's by now, or anything
            if read_regular(path, at_most=_AT_MOST, follow=False) == data:
                path.unlink()


def _replaceable(data: bytes) -> bool:
    if not data.strip():
        return True
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and document.keys() >= {"listen", "port", "pid"}
