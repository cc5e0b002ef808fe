"""One client, recorded, with no scenario: what it does where nothing is broken on purpose.

The client is told of the proxy as under a scenario (:mod:`countersign.scenarios.running.clients`), and goes where it
always goes; only what it shows of itself stays its own, so a JVM is given no key store. It is run until it ends, until
its time is up, or, for those that never end, until its first TLS session is over. A daemon is asked, and waited for
until it is at rest (:mod:`.trigger`).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from countersign.errors import UserError
from countersign.proxy import Engine, Mode
from countersign.recorder.recording import LegRole
from countersign.scenarios.running.clients import Place, Way, environment, filled, placeholders
from countersign.scenarios.running.matrix import TIMEOUT
from countersign.scenarios.running.process import run_client
from countersign.scenarios.running.stage import PASSWORD, Props, reached_at
from countersign.scenarios.running.trigger import Answered, Trigger, triggered
from countersign.scenarios.running.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from countersign.ca import Authority
    from countersign.proxy import Address, Keeper, Settings
    from countersign.recorder.recording import Recording
    from countersign.scenarios.running.clients import Family
    from countersign.scenarios.running.process import Ran

_FOR_EVER = 365 * 86400.0
_HOST = "localhost"


@dataclass(frozen=True, slots=True)
class Recorded:
    """``ran`` is None where the client was ended by us, and a daemon not waited for; ``recordings`` are its sessions
    with TLS, in their order, ``before_tls`` those that ended without.
    """

    ran: Ran | Answered | None
    recordings: tuple[Recording, ...]
    before_tls: tuple[Recording, ...] = ()


class _Kept:
    """Hands recordings on, and knows when the first TLS session is over."""

    def __init__(self, keeper: Keeper, watch: Watch) -> None:
        self._keeper, self._watch = keeper, watch
        self.found: dict[str, Recording] = {}
        self.before_tls: dict[str, Recording] = {}
        self.first = asyncio.Event()

    def submit(self, recording: Recording) -> None:
        self._keeper.submit(recording)
        self._watch.submit(recording)
        if recording.ended is None:
            return
        if _has_tls(recording):
            self.found[recording.id] = recording
            self.first.set()
        else:
            self.before_tls[recording.id] = recording


def _has_tls(recording: Recording) -> bool:
    return any(leg.role is not LegRole.SERVER and leg.messages for leg in recording.legs)


async def record(
    argv: Sequence[str],
    *,
    settings: Settings,
    authority: Authority,
    keeper: Keeper,
    family: Family,
    env: Mapping[str, str],
    trigger: Trigger | None = None,
    target: Address | None = None,
    once: bool = False,
    limit: float | None = None,
    stop: asyncio.Event | None = None,
) -> Recorded:
    """Run a client through an engine of ``settings``, which is in connect or in reverse mode, and record it.

    With a ``trigger`` it is a daemon, and ``argv`` is only what it is called.

    ``target`` is what ``{url}``, ``{host}`` and ``{port}`` mean. ``once``: it is ended after its first TLS session;
    ``limit``: after so many seconds; ``stop``: when that is set. Raises :class:`UserError` for a placeholder that
    nothing is known for.
    """
    named = placeholders(argv) if trigger is None else trigger.named
    if target is None and named & {"url", "host", "port"}:
        raise UserError("{url}, {host} and {port} need a target: give --target HOST:PORT, or name it in the client")
    if given := named & {"client_cert", "client_key", "client_store"}:
        raise UserError(f"{{{min(given)}}} is for scenarios; here the client has its own certificate, or none")
    watch = Watch()
    kept = _Kept(keeper, watch)
    async with Props() as props, Engine(settings, authority, kept) as engine:
        place = _place(props, engine, authority, target)
        work: asyncio.Future[Ran] | asyncio.Future[Answered]
        if trigger is not None:
            seconds = TIMEOUT if limit is None else limit
            work = asyncio.ensure_future(triggered(trigger, place, engine=engine, watch=watch, limit=seconds))
        else:
            work = asyncio.ensure_future(
                run_client(
                    filled(argv, place),
                    env=environment(env, place, shows=False),
                    timeout=_FOR_EVER if limit is None else limit,
                    stdin=family.says,
                )
            )
        events = [kept.first] if once else []
        events += [] if stop is None else [stop]
        ends = [asyncio.ensure_future(each.wait()) for each in events]
        try:
            await asyncio.wait([work, *ends], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in (work, *ends):
                each.cancel()  # of one that is done this does nothing
            await asyncio.gather(work, *ends, return_exceptions=True)
        ran = None if work.cancelled() else work.result()
        await watch.settle(lambda: engine.open_sessions)
    return Recorded(
        None if trigger is None and ran is not None and ran.timed_out else ran,
        _in_order(kept.found),
        _in_order(kept.before_tls),
    )


def _in_order(found: Mapping[str, Recording]) -> tuple[Recording, ...]:
    return tuple(sorted(found.values(), key=lambda each: each.started))


def _place(props: Props, engine: Engine, authority: Authority, target: Address | None) -> Place:
    port = engine.ports[0]
    straight = engine.settings.mode is Mode.REVERSE
    ca, store = props.trust_files((authority.root.der,))
    certificate, key, client_store = props.client_files(None)
    return Place(
        way=Way.REVERSE if straight else Way.CONNECT,
        host=_HOST if straight or target is None else target.host,
        port=port if straight or target is None else target.port,
        proxy=reached_at(engine.settings.listen, port),
        ca=ca,
        trust_store=store,
        store_password=PASSWORD,
        client_cert=certificate,
        client_key=key,
        client_store=client_store,
        hosts=None,
        wgetrc=props.wgetrc(ca),
    )
