"""``countersign ctl``: break it now. Tells a running proxy what its next connections are to meet."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from countersign.cli.common import Home, Json, default_home, print_json
from countersign.cli.scenario import SetValues, parse_set
from countersign.errors import UserError
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

app = typer.Typer(
    help="Steer a running proxy (`countersign proxy --control 127.0.0.1:0 ...`): what its next connections meet.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Where = Annotated[
    str | None,
    typer.Option(
        "--control",
        metavar="HOST:PORT|FILE",
        help="Which proxy, by its control address or control file (default: the only one of the home).",
        show_default=False,
    ),
]


@app.command("status")
def status(home: Home = None, control: Where = None, as_json: Json = False) -> None:
    """Say where it listens, what is in force, and what became of its sessions."""
    _tell(home, control, "/v1/status", None, as_json=as_json)


@app.command("step")
def step(
    number: Annotated[int | None, typer.Argument(metavar="[N]", help="To this one (default: the next).")] = None,
    home: Home = None,
    control: Where = None,
    as_json: Json = False,
) -> None:
    """Begin the next step of the scenario, or the one with this number."""
    _tell(home, control, "/v1/step", {} if number is None else {"to": number}, as_json=as_json)


@app.command("scenario")
def scenario(
    name: Annotated[str, typer.Argument(metavar="ID|none", help="One of `countersign scenario ls`, a+b, or none.")],
    set_: SetValues = None,
    clock: Annotated[
        str | None, typer.Option(help="How many times as fast its clock runs: 10000x.", show_default=False)
    ] = None,
    seed: Annotated[str | None, typer.Option(help="Where its chance comes from.", show_default=False)] = None,
    home: Home = None,
    control: Where = None,
    as_json: Json = False,
) -> None:
    """Run this scenario from now on in place of any other, from its first step."""
    told: dict[str, Any] = {"id": None if name == "none" else name}
    if name == "none" and (set_ or clock or seed):
        raise UserError("--set, --clock and --seed are for a scenario, not for none")
    told |= {"set": given} if (given := parse_set(set_)) else {}
    told |= {key: value for key, value in (("clock", clock), ("seed", seed)) if value is not None}
    _tell(home, control, "/v1/scenario", told, as_json=as_json)


@app.command("fault")
def fault(
    kind: Annotated[str, typer.Argument(metavar="ID|none", help="A fault on the wire: cut, alert, drop ..., or none.")],
    connections: Annotated[int, typer.Option("--connections", "-n", min=1, help="For so many sessions.")] = 1,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="As in a scenario's [[wire]]: at=certificate, within=10, leg=server ...; may be repeated.",
            show_default=False,
        ),
    ] = None,
    home: Home = None,
    control: Where = None,
    as_json: Json = False,
) -> None:
    """Break the next session on the wire, or so many of them, whatever the scenario says."""
    given = parse_set(set_)
    if kind == "none" and given:
        raise UserError("--set is for a fault, not for none")
    table = None if kind == "none" else {"do": kind, **_values(kind, given)}
    _tell(home, control, "/v1/fault", {"fault": table, "connections": connections}, as_json=as_json)


@app.command("rotate")
def rotate(
    what: Annotated[str, typer.Argument(metavar="leaf|intermediate|root", help="What another takes the place of.")],
    home: Home = None,
    control: Where = None,
    as_json: Json = False,
) -> None:
    """Let the proxy sign with another CA, or for another leaf key, from now on. The CA in the home stays as it is."""
    from countersign.scenarios.commanding import ROTATED

    if what not in ROTATED:
        raise UserError(f"ctl rotate takes {', '.join(ROTATED)}; got {printable(what, limit=100)!r}")
    _tell(home, control, "/v1/rotate", {"what": what}, as_json=as_json)


@app.command("pass")
def pass_(home: Home = None, control: Where = None, as_json: Json = False) -> None:
    """Order nothing any more: no scenario, no fault, the CA as it was."""
    _tell(home, control, "/v1/pass", {}, as_json=as_json)


def _values(kind: str, given: Mapping[str, str]) -> dict[str, Any]:
    """As TOML has them, but for texts, which need no quotes here."""
    from countersign.proxy.faults import FAULTS

    known = FAULTS[kind].known if kind in FAULTS else {}
    texts = {name for name, option in known.items() if option.form in {"text", "bytes"}}
    values: dict[str, Any] = {}
    for name, text in given.items():
        try:
            values[name] = text if name in texts else tomllib.loads(f"value = {text}")["value"]
        except ValueError:
            values[name] = text
    return values


def _tell(home: Path | None, control: str | None, path: str, told: dict[str, Any] | None, *, as_json: bool) -> None:
    """Tell the proxy, and show what it is at then."""
    from countersign.web.asking import ask
    from countersign.web.place import find

    said = ask(find(home or default_home(), control), path, told)
    if as_json:
        print_json(said)
        return
    for line in _lines(said):
        typer.echo(printable(line))


def _lines(said: dict[str, Any]) -> list[str]:
    sessions, scenario, fault = said["sessions"], said["scenario"], said["fault"]
    to = f" to {said['target']}" if said["target"] else ""
    lines = [f"listening on {', '.join(said['listen'])} ({said['mode']}{to}, {said['action']}), pid {said['pid']}"]
    outcomes = ", ".join(f"{count} {what}" for what, count in sessions["outcomes"].items())
    lines += [f"sessions: {sessions['open']} open, {sessions['ended']} ended{f' ({outcomes})' if outcomes else ''}"]
    if scenario is None:
        lines += ["scenario: none"]
    else:
        at = f", step {scenario['step']} of {len(scenario['steps'])}" if scenario["steps"] else ""
        lines += [f"scenario: {scenario['id']}{at} (a right client: {scenario['right']})"]
    if fault is not None:
        lines += [f"fault: {fault['do']} at {fault['at']}, for {fault['connections_left']} more"]
    rotated = f" (rotated: {', '.join(said['rotated'])})" if said["rotated"] else ""
    lines += [f"signs: {said['signs']['issuer']}{rotated}"]
    if said["recordings"]["lost"]:
        lines += [f"recordings lost: {said['recordings']['lost']}"]
    return lines
