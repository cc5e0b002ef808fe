"""Proxies under scenarios inside a program: a test, a script, a notebook.

    with countersign.run(scenario="missing-intermediate") as proxy:
        with proxy.attempt():
            urllib.request.urlopen(proxy.url, context=ssl.create_default_context(cafile=proxy.ca))
        proxy.assert_refused()

A :class:`House` keeps what proxies have in common, the thread that they run in, authorities, keys, the embedded target,
files; so the first proxy takes some tens of milliseconds and each after it a few. :func:`run` makes a house for one
proxy, the pytest plugin has one for the session.

The engine's log lines go to the logger ``countersign.proxy`` of the standard library, for the program may have
configured structlog for itself, and its standard output is not ours.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import structlog

from countersign.ca import load_roots
from countersign.ca.presets import presets
from countersign.errors import UserError
from countersign.proxy import parse_address
from countersign.recorder.wire.text import printable
from countersign.scenarios.catalogue import Catalogue, catalogue
from countersign.scenarios.clock import Clock
from countersign.scenarios.model import Scenario, nearest
from countersign.scenarios.running.clients import Way, family_named
from countersign.scenarios.running.guard import Guard
from countersign.scenarios.running.matrix import TLS, held_to, not_this_way
from countersign.scenarios.running.stage import LONG_KEPT, Props, Stage, Target
from countersign.scenarios.running.thread import LoopThread
from countersign.scenarios.running.trial import ScenarioProxy

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Mapping, Sequence

    from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

_Which = tuple[Target | None, str | None]


class CannotBePut(UserError):  # noqa: N818 - a fact about the scenario
    """The scenario cannot be met by this client, or by one that comes in this way."""


class House:
    """See the top of the module. Proxies that are still open when it is closed are closed with it.

    ``for_one``: it is closed with its proxy.
    """

    def __init__(self, *, for_one: bool = False) -> None:
        self._for_one = for_one
        self._guard = Guard()
        self._thread = LoopThread("countersign")
        self._props: dict[_Which, Props] = {}
        self._stack = AsyncExitStack()
        self._making = asyncio.Lock()
        self._open: set[ScenarioProxy] = set()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(
        self,
        scenario: str | Scenario,
        *,
        target: str | None = None,
        upstream_ca: str | os.PathLike[str] | None = None,
        upstream_insecure: bool = False,
        mode: str = "reverse",
        port: int = 0,
        preset: str | None = None,
        family: str | None = None,
        tls: str | None = None,
        clock: str = "1x",
        seed: int | str = 0,
        values: Mapping[str, object] | None = None,
        directories: Sequence[str | os.PathLike[str]] = (),
        patience: float = 20.0,
    ) -> ScenarioProxy:
        """A running proxy under a scenario: its id, a file, several with ``+`` between, or the scenario itself.

        ``target`` (``host:port``) is one of our own unless it is given; ``upstream_ca`` and ``upstream_insecure`` say
        how far it is trusted. ``mode``: the client goes straight to ``url`` (``reverse``), or is told of a proxy
        (``connect``). ``port``: where to listen on 127.0.0.1, any free one unless it is given. ``preset``: the product
        that the proxy is. ``family``: what is known of a client is looked up under this name; unless told, under that
        of its program. ``tls``: hold the client to ``1.2`` or ``1.3``. ``values``: of the scenario's parameters.
        ``directories``: where scenarios are looked for besides the built-in ones. ``patience``: seconds that the proxy
        waits for the client.

        Raises :class:`UserError` for what cannot be, :class:`CannotBePut` among it, and :class:`EnvironmentFault`
        where the port is taken or the target is not there.
        """
        way = _way(mode)
        if tls is not None and tls not in {"1.2", "1.3"}:
            raise UserError(f"tls takes 1.2 or 1.3, got {tls!r}")
        if not 0 <= port <= 65535:
            raise UserError(f"port takes 0 (any) to 65535, got {port}")
        if preset is not None and preset not in presets():
            raise UserError(f"there is no preset {printable(preset)!r}{nearest(preset, presets())}")
        found = _scenario(scenario, values, directories)
        if tls is not None:
            found = held_to(found, TLS[tls][0])
        known = None if family is None else family_named(family).name
        if why := not_this_way(found, way):
            raise CannotBePut(f"{found.id} cannot be put to a client that goes straight: {why}; use mode='connect'")
        if known is not None and (why := found.expect.of(known).skip):
            raise CannotBePut(f"{found.id} cannot be put to {family}: {why}")
        make = partial(
            Stage, found, way=way, port=port, clock=Clock.parse(clock), seed=seed, patience=patience, log=_logger()
        )
        target_at = _target(target, upstream_ca, insecure=upstream_insecure)
        return self._thread.call(self._opened(make, (target_at, preset), known), what=f"start a proxy under {found.id}")

    async def _opened(self, make: partial[Stage], which: _Which, family: str | None) -> ScenarioProxy:
        async with self._making:
            props = self._props.get(which)
            if props is None:
                target, preset = which
                product = None if preset is None else presets()[preset]
                props = await self._stack.enter_async_context(
                    Props(target=target, preset=product, folder=self._guard.folder, kept=LONG_KEPT)
                )
                self._props[which] = props
        stage = make(props=props)
        await stage.__aenter__()
        proxy = ScenarioProxy(self._thread, stage, mark=self._guard.mark, family=family, on_close=self._left)
        self._open.add(proxy)
        return proxy

    def _left(self, proxy: ScenarioProxy) -> None:
        self._open.discard(proxy)
        if self._for_one:
            self.close()

    def close(self) -> None:
        """Stop all of it. In a fork nothing is done, for nothing of it runs there."""
        if self._closed or not self._thread.here:
            return
        self._closed = True
        try:
            for proxy in list(self._open):
                proxy.close()
            self._thread.call(self._stack.aclose(), what="stop")
        finally:
            self._thread.close()
            self._guard.close()


def _way(mode: str) -> Way:
    if mode not in {way.value for way in Way}:
        raise UserError(f"mode takes {' or '.join(way.value for way in Way)}; got {mode!r}")
    return Way(mode)


def _scenario(
    named: str | Scenario, values: Mapping[str, object] | None, directories: Sequence[str | os.PathLike[str]]
) -> Scenario:
    if isinstance(named, Scenario):
        if values:
            raise UserError(f"values are for a scenario that is named; {named.id} has been read, and has its own")
        return named
    return known_scenarios(*map(Path, directories)).open(
        named, {name: str(value) for name, value in (values or {}).items()}
    )


def known_scenarios(*directories: Path) -> Catalogue:
    """The built-in scenarios and those of these directories, each read once until a file there has changed."""
    files = (path for directory in directories for path in directory.rglob("*.toml"))
    return _known(directories, tuple(sorted((str(path), path.stat().st_mtime_ns) for path in files)))


@lru_cache(maxsize=16)
def _known(directories: tuple[Path, ...], _files: tuple[tuple[str, int], ...]) -> Catalogue:
    return catalogue(*directories)


def _target(text: str | None, ca: str | os.PathLike[str] | None, *, insecure: bool) -> Target | None:
    if text is None:
        if ca is not None or insecure:
            raise UserError("upstream_ca and upstream_insecure are for a target that is named: give target='HOST:PORT'")
        return None
    roots = None if ca is None else load_roots(ca)
    return Target(address=parse_address(text, what="target"), roots=roots, verify=not insecure)


@cache
def _logger() -> FilteringBoundLogger:
    there = logging.getLogger("countersign.proxy")
    there.addHandler(logging.NullHandler())  # where nobody listens, nothing goes to standard error
    made: FilteringBoundLogger = structlog.wrap_logger(
        there, processors=[_as_line], wrapper_class=structlog.stdlib.BoundLogger
    )
    return made


def _as_line(_logger: WrappedLogger, _name: str, event: EventDict) -> tuple[tuple[str], dict[str, Any]]:
    """What the standard library's loggers take: a message, and an exception apart."""
    apart = {"exc_info": event.pop("exc_info")} if "exc_info" in event else {}
    text = str(event.pop("event")) + "".join(f" {name}={value}" for name, value in event.items() if value is not None)
    return (text,), apart


# -- one proxy ----------------------------------------------------------------------------------------------------


def run(scenario: str | Scenario, **how: Any) -> ScenarioProxy:
    """A proxy under a scenario, running; ``how`` is as :meth:`House.open` takes it.

    It is for a ``with`` block, or for :meth:`ScenarioProxy.close`; one that is forgotten ends with the program.
    """
    house = House(for_one=True)
    try:
        return house.open(scenario, **how)
    except BaseException:
        house.close()
        raise


@asynccontextmanager
async def running(scenario: str | Scenario, **how: Any) -> AsyncIterator[ScenarioProxy]:
    """:func:`run` for coroutines: the proxy has its own thread, so the caller's loop is only ever the client's."""
    starting = asyncio.ensure_future(asyncio.to_thread(run, scenario, **how))
    try:
        proxy = await asyncio.shield(starting)
    except asyncio.CancelledError:
        await asyncio.gather(starting, return_exceptions=True)
        if starting.exception() is None:
            await asyncio.to_thread(starting.result().close)
        raise
    try:
        yield proxy
    finally:
        await asyncio.to_thread(proxy.close)
