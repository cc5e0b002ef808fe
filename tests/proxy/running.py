"""An engine in a thread of its own, so that tests and real peers can talk to it in a blocking way."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Self

from countersign.ca import Authority
from countersign.lab.target import EmbeddedTarget, Pki
from countersign.proxy import Address, Engine, Settings

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

    from countersign.ca.revocation import Register
    from countersign.proxy.orders import Director
    from countersign.recorder.recording import Recording

AUTHORITY = Authority.make()
"""One inspection CA for all tests of a process; clients trust ``AUTHORITY.root_pem``."""


class Kept:
    """A keeper that holds recordings in memory: ``finished`` in their order, ``snapshots`` of open ones."""

    def __init__(self) -> None:
        self.finished: list[Recording] = []
        self.snapshots: list[Recording] = []

    def submit(self, recording: Recording) -> None:
        (self.finished if recording.ended is not None else self.snapshots).append(recording)


class RunningProxy:
    """``with RunningProxy(target=Address(...), roots=(...)) as proxy:`` and then ``proxy.port``, ``proxy.recording()``.

    Without a target the lab's embedded one is started too: ``proxy.target``, whose CA is trusted unless ``roots`` say
    otherwise; ``asking=True`` goes to its port that asks for a client certificate.
    """

    def __init__(
        self,
        *,
        authority: Authority = AUTHORITY,
        clients: Authority | None = None,
        director: Director | None = None,
        register: Register | None = None,
        asking: bool = False,
        **settings: Any,
    ) -> None:
        self.authority = authority
        self.clients = clients
        self.director = director
        self.register = register
        self.kept = Kept()
        self.target: EmbeddedTarget | None = None
        self.engine: Engine
        self._asking = asking
        self._settings = {"listen": Address("127.0.0.1", 0), **settings}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy under test")
        self._stack = AsyncExitStack()

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self.run(self._start())
        except BaseException:
            self._end()
            raise
        return self

    async def _start(self) -> None:
        if "target" not in self._settings and self._settings.get("mode", "reverse") == "reverse":
            pki = Pki.make()
            self.target = await self._stack.enter_async_context(EmbeddedTarget(pki))
            port = self.target.asking_port if self._asking else self.target.plain_port
            self._settings["target"] = Address("127.0.0.1", port)
            self._settings.setdefault("roots", (pki.public.root.der,))
        self.engine = await self._stack.enter_async_context(
            Engine(
                Settings(**self._settings),
                self.authority,
                self.kept,
                client_authority=self.clients,
                director=self.director,
                register=self.register,
            )
        )

    def __exit__(self, *_: object) -> None:
        try:
            self.run(self._stack.aclose())
        finally:
            self._end()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, Any], timeout: float = 30) -> Any:
        """Run this in the engine's loop and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout)

    @property
    def port(self) -> int:
        return self.engine.ports[0]

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    def recordings(self, count: int = 1, timeout: float = 30) -> list[Recording]:
        """The finished recordings, once there are at least ``count``, in the order in which the sessions began."""
        deadline = time.monotonic() + timeout
        while len(self.kept.finished) < count:
            if time.monotonic() > deadline:
                raise AssertionError(f"only {len(self.kept.finished)} of {count} recordings within {timeout} s")
            time.sleep(0.005)
        return sorted(self.kept.finished, key=lambda recording: recording.started)

    def recording(self, timeout: float = 30) -> Recording:
        """The one recording that was made."""
        (only,) = self.recordings(1, timeout)
        return only

    def root_file(self, folder: Path) -> Path:
        """The inspection root as a file for a client."""
        path = folder / "inspection-root.pem"
        path.write_bytes(self.authority.root_pem)
        return path
