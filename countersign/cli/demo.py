"""``countersign demo``: the main job on the embedded target, in a few seconds, nothing else needed."""

from __future__ import annotations

import tempfile
from contextlib import closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from countersign.cli.common import Home, home_of
from countersign.errors import CountersignError, EnvironmentFault

if TYPE_CHECKING:
    from countersign.recorder.recording import Recording
    from countersign.recorder.store import StoreTrouble

_SECONDS = 15


def demo(
    home: Home = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the recordings in the home, for ls, show, export.")
    ] = False,
) -> None:
    """A target, an inspecting proxy in front of it, and a client that trusts the proxy's CA, then one that does not."""
    import asyncio

    from countersign.cli.ladder import print_ladder
    from countersign.cli.log import logs

    folder = nullcontext(home_of(home)) if keep else tempfile.TemporaryDirectory(prefix="countersign-demo-")
    with logs(only_errors=True), folder as place:
        good, bad = asyncio.run(_run(Path(place)))
    for recording, title in (
        (good, "1. The client trusts the inspection CA"),
        (bad, "2. The client trusts only the target's own CA, like a MID Server whose cacerts lacks the device's root"),
    ):
        typer.secho(f"\n{title}\n", bold=True)
        print_ladder(recording)
    typer.echo()
    if keep:
        typer.echo("kept: look again with `countersign ls`, `countersign show last`, `countersign export last`")
    if (good.outcome.status.value, bad.outcome.status.value) != ("established", "failed"):
        raise CountersignError("the demo did not go as it should: the first has to be established, the second to fail")


async def _run(home: Path) -> tuple[Recording, Recording]:
    import asyncio

    from countersign.ca import Authority, Plan
    from countersign.lab.target import EmbeddedTarget, Pki
    from countersign.proxy import Address, Engine, Identity, Settings
    from countersign.recorder.store import Owner, Store, StoreWriter

    authority = Authority.make(Plan())  # nobody is to trust it: a home's own CA is made by `ca init`, with its limits
    pki = Pki.make()
    assert not isinstance(pki.client.key, bytes)  # that would be a forged one
    path = str(home / "recordings.sqlite")
    Store.open(path).close()
    troubles: list[StoreTrouble] = []
    writer = StoreWriter(path, owner=Owner.current(), on_error=troubles.append)
    writer.start()
    try:
        async with EmbeddedTarget(pki) as target:
            settings = Settings(
                listen=Address("127.0.0.1", 0),
                target=Address("127.0.0.1", target.asking_port),
                roots=(pki.public.root.der,),
                identity=Identity(pki.client.chain, pki.client.key),
                label="demo",
            )
            async with Engine(settings, authority, writer) as engine:
                port = engine.ports[0]
                await asyncio.to_thread(_client, port, authority.root_pem)
                await asyncio.to_thread(_client, port, pki.public.root_pem)
    finally:
        writer.stop()
    if troubles:
        raise EnvironmentFault(str(troubles[0]))
    with closing(Store.open(path)) as store:
        return store.get("last~1"), store.get("last")


def _client(port: int, trusted: bytes) -> None:
    """One GET as any Python program makes it; what it thinks of the certificate is on the recording."""
    import http.client
    import socket
    import ssl

    from countersign.lab.target import HOST

    context = ssl.create_default_context(cadata=trusted.decode("ascii"))
    context.set_alpn_protocols(["h2", "http/1.1"])
    with socket.create_connection(("127.0.0.1", port), timeout=_SECONDS) as plain:
        try:
            with context.wrap_socket(plain, server_hostname=HOST) as tls:
                connection = http.client.HTTPConnection(HOST)
                connection.sock = tls
                connection.request("GET", "/", headers={"Connection": "close"})
                connection.getresponse().read()
        except ssl.SSLError:
            return
