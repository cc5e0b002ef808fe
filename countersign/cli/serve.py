"""Runs an engine with its store until a signal says stop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import structlog

from countersign.ca import Authority
from countersign.proxy import Engine, write_ready_file
from countersign.recorder.store import Owner, Store, StoreWriter

if TYPE_CHECKING:
    from pathlib import Path

    from countersign.proxy import Settings
    from countersign.recorder.store import StoreTrouble

log = structlog.get_logger("countersign")


def serve(settings: Settings, home: Path, store: str, *, max_bytes: int, ready_file: Path | None) -> None:
    """Until SIGINT or SIGTERM. Raises what is wrong before the first client is served."""
    authority = Authority.open(home / "ca")
    with contextlib.closing(Store.open(store)) as kept:
        interrupted = kept.mark_interrupted()
    if interrupted:
        log.warning("sessions of a proxy that died were marked interrupted", count=interrupted)
    writer = StoreWriter(store, owner=Owner.current(), max_bytes=max_bytes, on_error=_store_trouble)
    writer.start()
    try:
        asyncio.run(_run(Engine(settings, authority, writer), ready_file))
    finally:
        writer.stop()
        if writer.lost:
            log.error("recordings were lost, the store could not take them", lost=writer.lost)


async def _run(engine: Engine, ready_file: Path | None) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C ends asyncio.run itself
            loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(engine)
        settings = engine.settings
        log.info(
            "listening",
            on=engine.addresses,
            mode=settings.mode.value,
            target=str(settings.target) if settings.target else None,
            action=settings.action.value,
        )
        if ready_file is not None:
            write_ready_file(ready_file, engine)
            stack.callback(_remove_ready_file, ready_file)
        await stop.wait()
        log.info("stopping", open_sessions=engine.open_sessions)


def _remove_ready_file(path: Path) -> None:
    """Ours is gone when we are; one that another proxy has written meanwhile stays."""
    with contextlib.suppress(OSError, ValueError):
        if json.loads(path.read_text(encoding="utf-8"))["pid"] == os.getpid():
            path.unlink()


def _store_trouble(trouble: StoreTrouble) -> None:
    from countersign.recorder.store import Trouble

    if trouble.kind is Trouble.HEALED:
        log.warning("recordings are being stored again", reason=trouble.text, lost=trouble.lost)
    else:
        log.error("recordings are not being stored", reason=trouble.text, lost=trouble.lost, waiting=trouble.waiting)
