"""Runs an engine with its store until a signal says stop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import structlog

from countersign.ca import Authority
from countersign.ca.keeping import read_passphrase
from countersign.cli.ready import ready_file
from countersign.proxy import Engine
from countersign.recorder.store import Owner, Store, StoreTrouble, StoreWriter, Trouble

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from countersign.proxy import Settings

log = structlog.get_logger("countersign")


def serve(settings: Settings, home: Path, store: str, *, max_bytes: int, ready: Path | None) -> None:
    """Until SIGINT, SIGTERM or SIGHUP. Raises what is wrong before the first client is served."""
    authority = Authority.open(home / "ca", passphrase=read_passphrase())
    with contextlib.closing(Store.open(store)) as kept:
        interrupted = kept.mark_interrupted()
    if interrupted:
        log.warning("sessions of a proxy that died were marked interrupted", count=interrupted)
    writer = StoreWriter(store, owner=Owner.current(), max_bytes=max_bytes, on_error=_store_trouble)
    writer.start()
    try:
        asyncio.run(_run(Engine(settings, authority, writer), ready))
    finally:
        writer.stop()
        if writer.lost:
            log.error("recordings were lost, the store could not take them", lost=writer.lost)


async def _run(engine: Engine, ready: Path | None) -> None:
    stop = asyncio.Event()
    on_signals(stop.set)
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
        if ready is not None:
            stack.enter_context(ready_file(ready, engine.addresses[0]))
        await stop.wait()
        log.info("stopping", open_sessions=engine.open_sessions)


def on_signals(stop: Callable[[], None]) -> None:
    """What signals mean to what runs until it is stopped.

    SIGINT, SIGTERM: stop in order. SIGHUP: the same, for the terminal has gone. A signal that was ignored when we were
    started stays ignored: that is what ``nohup`` does with SIGHUP, and a shell with the SIGINT of a background job.
    """
    loop = asyncio.get_running_loop()
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C ends asyncio.run itself
                loop.add_signal_handler(number, stop)


def _store_trouble(trouble: StoreTrouble) -> None:
    if trouble.kind is Trouble.HEALED:
        log.warning("recordings are being stored again", reason=trouble.text, lost=trouble.lost)
    elif trouble.kind is Trouble.THINNING:
        log.warning("big recordings are stored in part", reason=trouble.text, waiting=trouble.waiting)
    else:
        log.error("recordings are not being stored", reason=trouble.text, lost=trouble.lost, waiting=trouble.waiting)
