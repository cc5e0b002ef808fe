"""A daemon: it goes to its one place through its one proxy when GET or POST ``/refresh`` is asked of it.

    python daemon.py aiohttp|curl PROXY URL ROOTS [TOKEN]

By aiohttp it keeps its connections; by curl each refresh is a process. ``/told?url=&proxy=`` goes where it is told,
``/later?url=&proxy=`` answers 202 and goes then, ``/idle`` goes nowhere. With a token it wants that as a bearer, and
tells everybody what it got instead. It prints its port. ``DAEMON_SHOWS`` names a certificate of its own.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import web

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler

HOW, PROXY, PLACE, ROOTS, *TOKEN = sys.argv[1:]
PATIENCE = 20.0
tasks: set[asyncio.Task[web.Response]] = set()


async def refresh(request: web.Request, proxy: str | None = PROXY, place: str = PLACE) -> web.Response:
    how = by_curl if HOW == "curl" else by_aiohttp
    try:
        return web.Response(text=await how(request.app, proxy, place))
    except (aiohttp.ClientError, OSError) as wrong:
        return web.Response(status=502, text=f"refresh failed\n{wrong}\n")


async def by_aiohttp(app: web.Application, proxy: str | None, place: str) -> str:
    async with app[session].get(place, proxy=proxy) as answer:
        return f"refreshed: {answer.status}, {len(await answer.read())} bytes"


async def by_curl(_app: web.Application, proxy: str | None, place: str) -> str:
    words = ("curl", "-sS", "--max-time", f"{PATIENCE:g}", "--cacert", ROOTS, "--proxy", proxy or "", place)
    pipe = asyncio.subprocess.PIPE
    running = await asyncio.create_subprocess_exec(*words, stdout=pipe, stderr=pipe)
    out, err = await running.communicate()
    if running.returncode:
        raise OSError(err.decode())
    return f"refreshed: {len(out)} bytes"


async def later(request: web.Request) -> web.Response:
    task = asyncio.ensure_future(told(request))
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    return web.Response(status=202, text="soon")


async def told(request: web.Request) -> web.Response:
    proxy = request.query.get("proxy")
    return await refresh(request, None if proxy is None else f"http://{proxy}", request.query["url"])


async def idle(_request: web.Request) -> web.Response:
    return web.Response(text="nothing to do")


@web.middleware
async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
    got = request.headers.get("Authorization", "nothing")
    if TOKEN and got != f"Bearer {TOKEN[0]}":
        return web.Response(status=401, text=f"error: expected a token, got {got}\n")
    return await handler(request)


session = web.AppKey("session", aiohttp.ClientSession)


async def main() -> None:
    app = web.Application(middlewares=[guarded])
    app.router.add_route("*", "/refresh", refresh)
    app.router.add_get("/later", later)
    app.router.add_route("*", "/told", told)
    app.router.add_get("/idle", idle)
    trust = ssl.create_default_context(cafile=ROOTS)
    if shown := os.environ.get("DAEMON_SHOWS"):
        trust.load_cert_chain(shown)
    connector = aiohttp.TCPConnector(ssl=trust)
    timeout = aiohttp.ClientTimeout(total=PATIENCE)
    app[session] = aiohttp.ClientSession(connector=connector, timeout=timeout)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)  # noqa: T201 - whoever started it waits for this
    await asyncio.Event().wait()


asyncio.run(main())
