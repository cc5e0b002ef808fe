"""``countersign run`` and ``countersign matrix``: a client under one scenario, or under all of them."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from countersign.cli.common import (
    Home,
    Json,
    Overwrite,
    StoreUrl,
    coloured_output,
    home_of,
    print_json,
    read_file,
    store_location,
    write_out,
)
from countersign.cli.scenario import Directories, SetValues, known_scenarios, parse_set
from countersign.cli.triggering import (
    Allow,
    Listen,
    Settle,
    ShowsCertificate,
    TriggerBody,
    TriggerCa,
    TriggerHeaders,
    TriggerMethod,
    TriggerUrl,
    stand_of,
    trigger_of,
    who,
)
from countersign.errors import EnvironmentFault, UserError
from countersign.recorder.private_files import FileFault, read_regular

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from countersign.proxy import Keeper
    from countersign.scenarios.model import Scenario
    from countersign.scenarios.running.baseline import Change
    from countersign.scenarios.running.matrix import Runner
    from countersign.scenarios.running.results import Matrix, Result, Shard
    from countersign.scenarios.running.stage import Target
    from countersign.scenarios.running.verdict import Excuse

Client = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="CLIENT ARGS",
        help="The client and its arguments, in which {url} {host} {port} {ca} {proxy} {client_cert} {client_key}"
        " {client_store} {trust_store} {store_password} are filled in. Without any of the first three it is sent here"
        " by HTTPS_PROXY.",
        show_default=False,
    ),
]
Scenarios = Annotated[
    list[str] | None,
    typer.Option(
        "--scenario",
        metavar="ID,...",
        help="Scenarios by id or as FILE.toml; a+b is both at once; may be repeated.",
        show_default=False,
    ),
]
Select = Annotated[
    str | None,
    typer.Option(help="Those that this fits: 'family:chain and not id:huge-*'.", show_default=False),
]
TargetAt = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="The target (default: one of our own).", show_default=False),
]
UpstreamCa = Annotated[
    Path | None, typer.Option(help="Trust the roots in this file for the target.", show_default=False)
]
UpstreamInsecure = Annotated[bool, typer.Option("--upstream-insecure", help="Take the target whoever it is.")]
Mode = Annotated[
    str | None,
    typer.Option(
        help="How the client comes in: connect (HTTPS_PROXY) or reverse (straight). Unless told: whichever it takes.",
        show_default=False,
    ),
]
FamilyName = Annotated[
    str | None,
    typer.Option(
        "--family",
        help="What the client is, where its name does not tell: curl, java, java-fips, python, node ...",
        show_default=False,
    ),
]
Preset = Annotated[
    str | None,
    typer.Option(help="The proxy is this product: zscaler, palo-alto, fortigate-flow ...", show_default=False),
]
ClockAt = Annotated[str, typer.Option("--clock", help="How many times as fast what lasts passes: 10000x.")]
Tls = Annotated[
    str | None,
    typer.Option(
        help="Hold the client to TLS 1.2 or 1.3, or try each scenario with both: 1.2, 1.3, both.", show_default=False
    ),
]
Timeout = Annotated[
    float | None,
    typer.Option(
        help="Seconds that the client gets (default: 30, and 5 where waiting is the point of the scenario).",
        show_default=False,
    ),
]
Seed = Annotated[str, typer.Option(help="Where a scenario leaves something to chance, the same seed gives the same.")]
Keep = Annotated[bool, typer.Option("--keep", help="Keep the recordings in the store, for ls, show, diff.")]
Reports = Annotated[
    list[str] | None,
    typer.Option(
        "--report",
        metavar="FORM=FILE",
        help="Write a report: html, json, junit, markdown or sarif; may be repeated.",
        show_default=False,
    ),
]
Jobs = Annotated[
    int | None,
    typer.Option(
        help="Clients at the same time (default: one per core; of a daemon there is one).", show_default=False
    ),
]
Known = Annotated[
    list[str] | None,
    typer.Option(
        "--known",
        metavar="ID=accept:REASON",
        help="This client is known to accept (or refuse) where that is wrong, and it is taken as it is; may be"
        " repeated.",
        show_default=False,
    ),
]
Baseline = Annotated[
    Path | None,
    typer.Option(help="Verdicts of an earlier run: only what has changed fails.", show_default=False),
]
UpdateBaseline = Annotated[bool, typer.Option("--update-baseline", help="Write the verdicts of this run to it.")]
ShardOf = Annotated[
    str | None,
    typer.Option("--shard", metavar="I/N", help="Only the I-th of N parts, for several machines.", show_default=False),
]


class ClientCommand(TyperCommand):
    """What comes behind the client belongs to the client; `merge` as the first word has options anywhere."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        merges = self.name == "matrix" and args[:1] == ["merge"]
        ctx.allow_interspersed_args = merges
        ctx.meta[_MERGES] = merges
        return super().parse_args(ctx, args[1:] if merges else args)


_MERGES = "countersign.merges"
_REPORT_AT_MOST = 256 << 20


def run(
    client: Client = None,
    scenario: Scenarios = None,
    select: Select = None,
    scenarios: Directories = None,
    set_: SetValues = None,
    target: TargetAt = None,
    upstream_ca: UpstreamCa = None,
    upstream_insecure: UpstreamInsecure = False,
    mode: Mode = None,
    family: FamilyName = None,
    preset: Preset = None,
    clock: ClockAt = "1x",
    tls: Tls = None,
    timeout: Timeout = None,
    seed: Seed = "0",
    jobs: Jobs = None,
    trigger: TriggerUrl = None,
    trigger_method: TriggerMethod = None,
    trigger_headers: TriggerHeaders = None,
    trigger_body: TriggerBody = None,
    trigger_ca: TriggerCa = None,
    settle: Settle = None,
    listen: Listen = None,
    allow: Allow = None,
    shows_certificate: ShowsCertificate = False,
    keep: Keep = False,
    report: Reports = None,
    known: Known = None,
    baseline: Baseline = None,
    update_baseline: UpdateBaseline = False,
    overwrite: Overwrite = False,
    home: Home = None,
    store: StoreUrl = None,
    as_json: Json = False,
) -> None:
    """Run a client under scenarios and say of each whether it did what a right client does.

    A client that is a daemon is not run, but asked by --trigger URL to connect.

    Exit code 0: it did; 1: it did not; 3: it does not even accept a proxy with nothing wrong, or cannot be run; 4: the
    fault of a scenario never was on the wire.
    """
    if scenario is None and select is None:
        raise UserError(
            "run needs to know what: name scenarios with --scenario ID or --select EXPRESSION"
            " (`countersign scenario ls` lists them, `countersign matrix` runs all of them)"
        )
    _run(locals() | {"shard": None})


def matrix(
    ctx: typer.Context,
    client: Client = None,
    scenario: Scenarios = None,
    select: Select = None,
    scenarios: Directories = None,
    set_: SetValues = None,
    target: TargetAt = None,
    upstream_ca: UpstreamCa = None,
    upstream_insecure: UpstreamInsecure = False,
    mode: Mode = None,
    family: FamilyName = None,
    preset: Preset = None,
    clock: ClockAt = "1x",
    tls: Tls = None,
    timeout: Timeout = None,
    seed: Seed = "0",
    jobs: Jobs = None,
    trigger: TriggerUrl = None,
    trigger_method: TriggerMethod = None,
    trigger_headers: TriggerHeaders = None,
    trigger_body: TriggerBody = None,
    trigger_ca: TriggerCa = None,
    settle: Settle = None,
    listen: Listen = None,
    allow: Allow = None,
    shows_certificate: ShowsCertificate = False,
    keep: Keep = False,
    report: Reports = None,
    known: Known = None,
    baseline: Baseline = None,
    update_baseline: UpdateBaseline = False,
    shard: ShardOf = None,
    overwrite: Overwrite = False,
    home: Home = None,
    store: StoreUrl = None,
    as_json: Json = False,
) -> None:
    """Run a client under all scenarios, or those selected; `matrix merge FILE...` joins the JSON reports of shards.

    Exit codes as those of `countersign run`; with --baseline, 1 only where a verdict is not as it was.
    """
    if ctx.meta[_MERGES]:
        _merge(client or (), locals())
    else:
        _run(locals())


# -- what both do -------------------------------------------------------------------------------------------------


def _run(given: dict[str, Any]) -> None:
    import asyncio

    from countersign.cli.inspecting import find_preset
    from countersign.cli.log import logs
    from countersign.scenarios.clock import Clock
    from countersign.scenarios.running.matrix import TLS, Runner
    from countersign.scenarios.running.reports import needs_ladders, parse_report
    from countersign.scenarios.running.results import Shard

    reports = [parse_report(text) for text in given["report"] or ()]
    before = _baseline(given["baseline"], update=given["update_baseline"])
    clock, shard = Clock.parse(given["clock"]), None if given["shard"] is None else Shard.parse(given["shard"])
    if given["tls"] is not None and given["tls"] not in TLS:
        raise UserError(f"--tls takes {', '.join(TLS)}; got {given['tls']!r}")
    if given["timeout"] is not None and not 0 < given["timeout"] <= 3600:
        raise UserError(f"--timeout takes seconds, more than 0 and at most 3600; got {given['timeout']:g}")
    if given["jobs"] is not None and not 1 <= given["jobs"] <= 256:
        raise UserError(f"--jobs takes 1 to 256, got {given['jobs']}")
    versions: Sequence[str | None] = (None,) if given["tls"] is None else TLS[given["tls"]]
    plain, chosen = _chosen(given, shard)
    excuses = _excuses(given, chosen)
    client = _client(given)
    product = None if given["preset"] is None else find_preset(given["preset"])
    stand = None if client.trigger is None else stand_of(given, client.trigger, product)
    with ExitStack() as stack:
        keeper = stack.enter_context(_keeping(given)) if given["keep"] else None
        stack.enter_context(logs(only_errors=True))
        on_result = stack.enter_context(_progress(len(chosen) * len(versions)))

        def make(props: Any) -> Runner:
            return Runner(
                client,
                props,
                plain=plain,
                clock=clock,
                seed=given["seed"],
                keeper=keeper,
                excuses=excuses,
                ladders=needs_ladders({form for form, _ in reports}) or given["as_json"] or len(chosen) == 1,
            )

        made: Matrix = asyncio.run(
            _matrix(
                make,
                chosen,
                props={"target": _target(given), "preset": product, "stand": stand},
                tls=versions,
                jobs=given["jobs"] or (1 if stand is not None else os.cpu_count() or 2),
                shard=shard,
                on_result=on_result,
            )
        )
    _finish(made, given, reports, before)


async def _matrix(make: Any, chosen: Sequence[Scenario], *, props: dict[str, Any], **how: Any) -> Matrix:
    import asyncio

    from countersign.cli.serve import on_signals
    from countersign.scenarios.running.stage import Props

    work = asyncio.current_task()
    assert work is not None
    stopped: list[bool] = []

    def stop() -> None:
        stopped.append(True)
        work.cancel()

    on_signals(stop)
    try:
        async with Props(**props) as there:
            made: Matrix = await make(there).matrix(chosen, **how)
            return made
    except asyncio.CancelledError:
        if stopped:
            raise EnvironmentFault("stopped before all scenarios had been run; there is no result") from None
        raise


def _chosen(given: dict[str, Any], shard: Shard | None) -> tuple[Scenario, list[Scenario]]:
    """The plain scenario, and those that were asked for, each once, in the order of the catalogue or of the names."""
    from countersign.scenarios.running.matrix import PLAIN
    from countersign.scenarios.selecting import select

    values = parse_set(given["set_"])
    known = known_scenarios(given["home"], given["scenarios"])
    found: dict[str, Scenario] = {}
    for name in [each for text in given["scenario"] or () for each in text.split(",") if each]:
        one = known.open(name, values)
        found[one.id] = one
    if given["select"] is not None or given["scenario"] is None:
        for one in select(known, given["select"] or "", values):
            found.setdefault(one.id, one)
    keys = list(found) if shard is None else shard.of_all(list(found))
    if not found:
        raise UserError(f"--select {given['select']!r} fits no scenario; `countersign scenario ls` lists them")
    return known.open(PLAIN), [found[key] for key in keys]


def _excuses(given: dict[str, Any], chosen: Sequence[Scenario]) -> dict[str, Excuse]:
    """What ``--known`` says, by scenario; one that is not run here may be named, one that there is not may not."""
    from countersign.scenarios.running.verdict import Excuse

    known = known_scenarios(given["home"], given["scenarios"])
    found: dict[str, Excuse] = {}
    for text in given["known"] or ():
        name, excuse = Excuse.parse(text)
        if name in found:
            raise UserError(f"--known says two things of {name}; expected one")
        if name not in {scenario.id for scenario in chosen}:
            known.open(name)
        found[name] = excuse
    return found


def _client(given: dict[str, Any]) -> Any:
    from countersign.scenarios.running.clients import Way
    from countersign.scenarios.running.matrix import Client as RunClient

    mode = given["mode"]
    if mode is not None and mode not in {way.value for way in Way}:
        raise UserError(f"--mode takes {' or '.join(way.value for way in Way)}; got {mode!r}")
    trigger = trigger_of(given)
    argv, family = who(given["client"], trigger, given["family"])
    return RunClient(
        argv=argv,
        family=family,
        env=dict(os.environ),
        way=None if mode is None else Way(mode),
        timeout=given["timeout"],
        trigger=trigger,
    )


def _target(given: dict[str, Any]) -> Target | None:
    from countersign.ca import load_roots
    from countersign.proxy import parse_address
    from countersign.scenarios.running.stage import Target

    if given["target"] is None:
        for flag in ("upstream_ca", "upstream_insecure"):
            if given[flag]:
                raise UserError(f"--{flag.replace('_', '-')} is for a target that is named: give --target HOST:PORT")
        return None
    return Target(
        address=parse_address(given["target"], what="--target"),
        roots=None if given["upstream_ca"] is None else load_roots(given["upstream_ca"]),
        verify=not given["upstream_insecure"],
    )


@contextmanager
def _keeping(given: dict[str, Any]) -> Iterator[Keeper]:
    """The store, for the time of the run."""
    from countersign.recorder.store import Owner, Store, StoreTrouble, StoreWriter

    place = store_location(home_of(given["home"]) if given["store"] is None else None, given["store"])
    Store.open(place).close()
    troubles: list[StoreTrouble] = []
    writer = StoreWriter(place, owner=Owner.current(), on_error=troubles.append)
    writer.start()
    try:
        yield writer
    finally:
        writer.stop()
    if troubles:
        raise EnvironmentFault(f"not all recordings were kept: {troubles[-1]}")


@contextmanager
def _progress(total: int) -> Iterator[Any]:
    """A bar on a terminal, nothing in a pipe; what is yielded takes each result."""
    if not sys.stderr.isatty() or total < 2:
        yield lambda _result: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from countersign.scenarios.running.reports.terminal import result_lines

    console = Console(stderr=True, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("scenarios", total=total)

        def advance(result: Result) -> None:
            progress.advance(task)
            if not result.right_done:
                for text, style in result_lines(result):
                    progress.console.print(text, style=style, markup=False)
                    break

        yield advance


# -- what comes of it ---------------------------------------------------------------------------------------------


def _baseline(path: Path | None, *, update: bool) -> dict[str, str] | None:
    """The verdicts of an earlier run; none are there yet where they are about to be written."""
    from countersign.scenarios.running.baseline import read_baseline

    if path is None:
        if update:
            raise UserError("--update-baseline needs --baseline FILE with the file that it is to write")
        return None
    if update and not path.exists():
        return {}
    return read_baseline(read_file(path, what="--baseline"), name=str(path))


def _finish(made: Matrix, given: dict[str, Any], reports: list[tuple[str, str]], before: dict[str, str] | None) -> None:
    """Reports, baseline, what is printed, and the exit code."""
    from countersign.scenarios.running.baseline import changes, write_baseline
    from countersign.scenarios.running.reports import FORMS
    from countersign.scenarios.running.results import to_json
    from countersign.scenarios.running.verdict import Kind

    for form, path in reports:
        write_out(
            FORMS[form](made), Path(path), overwrite=given["overwrite"], home=given["home"], store=given["store"],
            public=True,
        )  # fmt: skip
    changed = [] if before is None else list(changes(made.results, before))
    if given["as_json"]:
        document = to_json(made)
        if before is not None:
            document["changes"] = [{"key": each.key, "before": each.before, "now": each.now} for each in changed]
        print_json(document)
    else:
        _print(made, changed, compared=before is not None)
    if before is not None and given["update_baseline"]:
        write_out(
            write_baseline(made.results, before), given["baseline"], overwrite=True, home=given["home"],
            store=given["store"], public=True,
        )  # fmt: skip
        changed = []
    code = made.exit_code
    if before is not None and not made.count(Kind.UNPROVED):
        code = 1 if changed else 0
    if code:
        raise typer.Exit(code)


def _print(made: Matrix, changed: Sequence[Change], *, compared: bool) -> None:
    from rich.console import Console

    from countersign.scenarios.running.reports.terminal import lines, result_lines
    from countersign.scenarios.running.reports.words import plain_ladder

    console = Console(highlight=False, no_color=not coloured_output(), soft_wrap=True)
    if len(made.results) == 1:
        (result,) = made.results
        for text, style in result_lines(result):
            console.print(text, style=style, markup=False)
        if not result.right_done:
            for ladder in result.ladders:
                console.print("\n" + plain_ladder(ladder), markup=False)
    else:
        for text, style in lines(made):
            console.print(text, style=style, markup=False)
    if compared:
        console.print(f"\n{len(changed)} changed against the baseline" + (":" if changed else ""), markup=False)
        for each in changed:
            console.print(f"  {each}", style="bold red", markup=False)


def _merge(files: Sequence[str], given: dict[str, Any]) -> None:
    """Join the JSON reports of the parts of a matrix."""
    import json

    from countersign.scenarios.running.reports import parse_report
    from countersign.scenarios.running.results import from_json, merge

    reports = [parse_report(text) for text in given["report"] or ()]
    before = _baseline(given["baseline"], update=given["update_baseline"])
    parts = []
    for name in files:
        try:
            data = read_regular(name, at_most=_REPORT_AT_MOST)
            if data is None:
                raise UserError(f"matrix merge: there is no file {name}")
            document = json.loads(data)
        except FileFault as fault:
            raise UserError(f"matrix merge: {fault}") from None
        except (ValueError, RecursionError) as wrong:
            raise UserError(f"cannot read {name}: it is not JSON ({wrong})") from None
        parts.append((name, from_json(document, name=name)))
    _finish(merge(parts), given, reports, before)
