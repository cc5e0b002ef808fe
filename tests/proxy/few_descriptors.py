"""A proxy in front of the embedded target with 64 descriptors; prints its port. Run by a test."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
from typing import TYPE_CHECKING

from countersign.ca import Authority
from countersign.cli.log import logs
from countersign.lab.target import EmbeddedTarget, Pki
from countersign.proxy import Address, Engine, Limits, Settings

if TYPE_CHECKING:
    from countersign.recorder.recording import Recording


class Nowhere:
    def submit(self, recording: Recording) -> None:
        pass


async def main() -> None:
    pki = Pki.make()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with EmbeddedTarget(pki) as target:
        settings = Settings(
            listen=Address("127.0.0.1", 0),
            target=Address("127.0.0.1", target.plain_port),
            roots=(pki.public.root.der,),
            limits=Limits(stop=0.2),
        )
        async with Engine(settings, Authority.make(), Nowhere()) as engine:
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
            print(engine.ports[0], flush=True)  # noqa: T201 - the test reads it
            await stop.wait()


with logs(), contextlib.suppress(KeyboardInterrupt):
    asyncio.run(main())
