"""Runs an engine with its store until a signal says stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING

import structlog

from countersign.ca import Authority, Plan
from countersign.ca.keeping import read_passphrase
from countersign.ca.revocation import Register
from countersign.cli.beside import Beside
from countersign.cli.common import read_file
from countersign.cli.controlled import Controlled
from countersign.cli.directed import Directed
from countersign.cli.log import logs
from countersign.cli.ready import ready_file
from countersign.errors import CountersignError, UserError
from countersign.proxy import Engine, Mtls
from countersign.proxy.conduct import conduct_of
from countersign.proxy.listening import listen_for
from countersign.proxy.stream import address_text
from countersign.proxy.ways.policy import Policy, Verdict, parse_policy
from countersign.proxy.workers import Workers
from countersign.recorder.store import Owner, Store, StoreTrouble, StoreWriter, Trouble
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from countersign.cli.beside import ResponderPlan
    from countersign.cli.controlled import ControlPlan
    from countersign.cli.directed import ScenarioPlan
    from countersign.proxy import Action, Keeper, Settings
    from countersign.proxy.orders import Director
    from countersign.proxy.workers import Worker

log = structlog.get_logger("countersign")


def serve(
    settings: Settings,
    home: Path,
    store: str,
    *,
    max_bytes: int,
    ready: Path | None,
    rules: Path | None,
    responder: ResponderPlan | None = None,
    workers: int = 1,
    scenario: ScenarioPlan | None = None,
    control: ControlPlan | None = None,
) -> None:
    """Until a signal says stop; with ``rules`` SIGHUP reads them again.

    Raises what is wrong before the first client is served.
    """
    authority = _authority(home / "ca")
    with contextlib.closing(Store.open(store)) as kept:
        interrupted = kept.mark_interrupted()
    if interrupted:
        log.warning("sessions of a proxy that died were marked interrupted", count=interrupted)
    clients = None
    if conduct_of(settings, settings.orders.chain.preset, can_relay=True).mtls is Mtls.RELAY:
        plan = Plan(name="countersign clients")
        clients = Authority.open(home / "client-ca", plan, passphrase=read_passphrase())
        log.info(
            "signs clients' certificates again; targets have to trust this root", root=str(home / "client-ca/root.pem")
        )
    writer = StoreWriter(store, owner=Owner.current(), max_bytes=max_bytes, on_error=_store_trouble)
    register = Register.of_home(home / "ca")
    directed = None
    if scenario is not None:
        directed = Directed(scenario, settings.orders.chain.authority or authority, home, register)
    controlled = None
    director: Director | None = None if directed is None else directed.director
    keeper: Keeper = writer
    if control is not None:
        controlled = Controlled(
            control, home, store, writer=writer, authority=authority, register=register, first=directed
        )
        director, keeper = controlled.commanded, controlled.counting
    engine = Engine(settings, authority, keeper, client_authority=clients, director=director, register=register)
    if directed is not None:
        directed.engine = engine
    if controlled is not None:
        controlled.commanded.engine = engine
    beside = Beside(engine, authority, responder, register)
    if workers == 1:
        with _writing(writer):
            tell = partial(_ready_file, ready, controlled=controlled)
            asyncio.run(_run(engine, beside, ready=tell, rules=rules, around=controlled or directed))
        return
    beside.share()
    listeners = listen_for(settings, workers)

    def work(worker: Worker) -> None:
        with logs(worker=worker.number):
            if worker.predecessors:
                with contextlib.closing(Store.open(store)) as kept:
                    kept.mark_interrupted()
            own = StoreWriter(store, owner=Owner.current(), max_bytes=max_bytes, on_error=_store_trouble)
            for others in listeners[: worker.number - 1] + listeners[worker.number :]:
                for listener in others:
                    listener.close()
            engine.become_worker(own, listeners[worker.number - 1])
            beside.answers = worker.number == 1
            if worker.predecessors and rules is not None:
                _reload(engine, rules)  # they may have been read again since the parent has
            with _writing(own):
                run = _run(engine, beside, ready=partial(_tell_ready, worker), rules=rules, lifeline=worker.lifeline)
                asyncio.run(run)

    log.info("starting", workers=workers)
    address = address_text(listeners[0][0].getsockname())
    patience = settings.limits.stop + 10
    group = Workers(workers, work, say=log.warning, reloads=rules is not None, patience=patience)
    group.run(ready=partial(_ready_file, ready, address))


@contextlib.contextmanager
def _writing(writer: StoreWriter) -> Iterator[None]:
    writer.start()
    try:
        yield
    finally:
        writer.stop()
        if writer.lost:
            log.error("recordings were lost, the store could not take them", lost=writer.lost)


def _ready_file(
    path: Path | None, address: str, *, controlled: Controlled | None = None
) -> AbstractContextManager[None]:
    said = {} if controlled is None else controlled.said
    return contextlib.nullcontext() if path is None else ready_file(path, address, **said)


def _tell_ready(worker: Worker, _address: str) -> AbstractContextManager[None]:
    worker.ready()
    return contextlib.nullcontext()


def _authority(directory: Path) -> Authority:
    """The CA in the home, made where there is none; what was made so is said, for it may speak for everybody."""
    there, passphrase = (directory / "root.pem").exists(), read_passphrase()
    authority = Authority.open(directory, passphrase=passphrase)
    if not there:
        log.warning(
            "made a CA without constraints: whoever has its keys can be any server to those that trust its root;"
            " for one with limits stop, move it away and run: countersign ca init --constrain DOMAIN",
            directory=str(directory),
            keys="encrypted" if passphrase else "not encrypted",
        )
    return authority


async def _run(
    engine: Engine,
    beside: Beside,
    *,
    ready: Callable[[str], AbstractContextManager[None]],
    rules: Path | None,
    lifeline: int | None = None,
    around: Controlled | Directed | None = None,
) -> None:
    """``ready`` is entered with the address once it listens; it stops when ``lifeline`` can be read."""
    gc.freeze()  # what is here lives as long as the process
    gc.set_threshold(20_000, 20, 20)  # a handshake makes thousands of objects, and hardly a cycle among them
    stop = asyncio.Event()
    if lifeline is not None:
        asyncio.get_running_loop().add_reader(lifeline, stop.set)
    on_signals(stop.set, reload=None if rules is None else partial(_reload, engine, rules))
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(engine)
        await stack.enter_async_context(beside)
        if around is not None:
            await stack.enter_async_context(around)
        stack.enter_context(ready(engine.addresses[0]))
        settings = engine.settings
        log.info(
            "listening",
            on=engine.addresses,
            mode=settings.mode.value,
            target=str(settings.target) if settings.target else None,
            action=settings.action.value,
        )
        await stop.wait()
        log.info("stopping", open_sessions=engine.open_sessions)


def load_policy(rules: Path, action: Action) -> Policy:
    """The rules of this file; ``action`` is for connections that none of them fits."""
    data = read_file(rules, what="--rules")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as wrong:
        raise UserError(f"--rules {rules} must be UTF-8 text, byte {wrong.start} is not") from None
    policy = parse_policy(text, name=f"--rules {rules}", default=Verdict(action.value))
    named = next((rule for rule in policy.rules if rule.scenario is not None), None)
    if named is not None:
        raise UserError(f"--rules {rules}: {named} names a scenario, and `countersign proxy` runs none")
    return policy


def _reload(engine: Engine, rules: Path) -> None:
    """Open connections live on; a file that cannot be used changes nothing."""
    try:
        policy = load_policy(rules, engine.settings.action)
    except CountersignError as wrong:
        log.warning("the rules stay as they were", reason=printable(str(wrong)))
        return
    engine.use(policy)
    log.info("the rules were read again", file=str(rules), rules=len(policy.rules))


def on_signals(stop: Callable[[], None], *, reload: Callable[[], None] | None = None) -> None:
    """What signals mean to what runs until it is stopped.

    SIGINT, SIGTERM: stop in order. SIGHUP: ``reload`` where there is something to read again; else the same, for the
    terminal has gone. A signal that was ignored when we were
    started stays ignored: that is what ``nohup`` does with SIGHUP, and a shell with the SIGINT of a background job.
    """
    loop = asyncio.get_running_loop()
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C ends asyncio.run itself
                loop.add_signal_handler(number, (reload or stop) if name == "SIGHUP" else stop)


def _store_trouble(trouble: StoreTrouble) -> None:
    if trouble.kind is Trouble.HEALED:
        log.warning("recordings are being stored again", reason=trouble.text, lost=trouble.lost)
    elif trouble.kind is Trouble.THINNING:
        log.warning("big recordings are stored in part", reason=trouble.text, waiting=trouble.waiting)
    else:
        log.error("recordings are not being stored", reason=trouble.text, lost=trouble.lost, waiting=trouble.waiting)
