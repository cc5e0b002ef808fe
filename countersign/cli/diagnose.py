"""``countersign diagnose``: what broke one session, the evidence, and the cure."""

from __future__ import annotations

import shutil
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from countersign.cli.common import (
    Home,
    Json,
    Overwrite,
    StoreUrl,
    open_store,
    print_json,
    terminal_width,
    write_out,
)
from countersign.cli.explain import explained
from countersign.cli.import_ import read_keys
from countersign.errors import EnvironmentFault
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from countersign.findings.diagnosing import Diagnosis
    from countersign.recorder.recording import Recording
    from countersign.recorder.store import Store

_EARLIER = 20  # recordings of the same target that are looked at


WordedFor = Annotated[
    str | None,
    typer.Option(
        "--client",
        metavar="KIND",
        help="Word the cure for java, openssl, curl, python, node, go, dotnet or windows (default: what it seems).",
        show_default=False,
    ),
]


def diagnose(
    what: Annotated[
        str,
        typer.Argument(
            metavar="ID|FILE|-",
            help="A recording as in `show`, or a capture, export, log or stack trace (FILE#2: its second).",
        ),
    ] = "last",
    home: Home = None,
    store: StoreUrl = None,
    client: WordedFor = None,
    keylog: Annotated[
        list[Path] | None,
        typer.Option(help="A key log (SSLKEYLOGFILE) that opens a capture; may be repeated.", show_default=False),
    ] = None,
    ask: Annotated[
        bool, typer.Option("--ask", help="Go through the questions about mutual TLS that no recording answers.")
    ] = False,
    fetch_issuers: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Fetch what the server left out of its chain from where its certificates say (AIA, plain http to the"
            " internet), and write it to FILE as PEM.",
            show_default=False,
        ),
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Say what broke a session and what to do, the cure first; exit code 1 when there is a cause."""
    from countersign.findings.diagnosing import diagnose as diagnosed
    from countersign.findings.diagnosing.showing import show
    from countersign.findings.subjects import NoTls, find

    with open_store(home, store) as kept, readable(what) as place:
        try:
            subject = find(place, kept.get, keylog=read_keys(keylog or []), broken=True)
        except NoTls:
            if not explained(place, as_json=as_json):
                raise
            raise typer.Exit(1) from None
        diagnosis = diagnosed(subject.recording, history=history_of(kept, subject.recording), family=client or "any")
    if "#" in subject.reference and "#" not in what:
        which = subject.reference.rpartition("#")[2]
        typer.echo(f"{what} has several recordings; this is number {which}, the last that broke", err=True)
    if as_json:
        from countersign.findings.diagnosing.asking import walk

        more = {"questions": [asked.to_json() for asked in walk(diagnosis)]} if ask else {}
        print_json({**diagnosis.to_json(), **more})
    else:
        typer.echo(show(diagnosis, width=terminal_width()), nl=False)
    if fetch_issuers is not None:
        _fetch(subject.recording, fetch_issuers, overwrite=overwrite, home=home, store=store)
    if ask and not as_json:
        _ask(diagnosis)
    if diagnosis.cause is not None:
        raise typer.Exit(1)


def _fetch(recording: Recording, out: Path, *, overwrite: bool, home: Path | None, store: str | None) -> None:
    """What came is told on standard error, for standard output may be JSON."""
    import asyncio

    from countersign.ca.pem import to_pem
    from countersign.ca.revocation import fetch_issuers
    from countersign.findings.diagnosing.chain import incomplete
    from countersign.recorder.recording import LegRole
    from countersign.recorder.wire.events import Side

    leg = recording.leg(LegRole.SERVER) or recording.leg(LegRole.THROUGH) or recording.leg(LegRole.CLIENT)
    chain = [] if leg is None else leg.read().chain(Side.SERVER)
    last = incomplete(chain)
    if last is None:
        why = "no root or intermediate is missing" if chain else "the recording shows no certificate of the server"
        typer.echo(f"nothing to fetch: {why}", err=True)
        return
    answers = asyncio.run(fetch_issuers(last.der))
    for answer in answers:
        typer.echo(f"{answer.url}: {printable(answer.text)}", err=True)
    found = [answer.issuer for answer in answers if answer.issuer is not None]
    if not found:
        subject = printable(last.facts.subject or "no name")
        said = "" if answers else f": the certificate of {subject} names no place for its issuer"
        raise EnvironmentFault(f"no issuer could be fetched{said}")
    write_out(b"".join(map(to_pem, found)), out, overwrite=overwrite, home=home, store=store, public=True)
    typer.echo(f"{printable(str(out))}: {len(found)} certificate{'s' * (len(found) > 1)}, the nearest first", err=True)


def _ask(diagnosis: Diagnosis) -> None:
    """Question by question, up to the first no; without a terminal all of them are printed."""
    from countersign.findings.diagnosing.asking import SOURCE, walk

    live = sys.stdin.isatty() and sys.stdout.isatty()
    typer.echo(f"\nQuestions ({SOURCE})")
    for asked in walk(diagnosis):
        answer = asked.answer
        if answer is not None:
            typer.echo(f"  {'yes' if answer else 'no '}  {asked.question.text} [{asked.by}]")
        elif live:
            answer = typer.confirm(f"  {asked.question.text}", default=True)
        else:
            typer.echo(f"  ?    {asked.question.text}\n       If not: {asked.question.no}")
        if answer is False:
            typer.echo(f"       {asked.question.no}")
            if live:
                return


@contextmanager
def readable(what: str) -> Iterator[str]:
    """The reference itself; for ``-`` the name of a private copy of standard input, which is read twice."""
    if what != "-":
        yield what
        return
    with tempfile.NamedTemporaryFile(prefix="countersign-") as copy:
        shutil.copyfileobj(sys.stdin.buffer, copy)
        copy.flush()
        yield copy.name


def history_of(store: Store, recording: Recording) -> list[Recording]:
    """Earlier recordings of the same target and name, newest first."""
    if recording.target is None:
        return []
    some = store.summaries(target=recording.target, limit=_EARLIER * 2)
    earlier = [one for one in some if one.started < recording.started and one.sni == recording.sni]
    return [store.get(one.id) for one in earlier[:_EARLIER]]
