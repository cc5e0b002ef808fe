"""``countersign explain``: error texts of other programs, and what is to be done about them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from countersign.cli.common import Json, print_json
from countersign.errors import UserError
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from countersign.findings.explaining import Explained, Explanation

_SHOWN = 240


def explain(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="A log, a stack trace or an error text of a MID Server, Java, keytool, curl, OpenSSL, GnuTLS, Python,"
            " Node, Go, Rust, Ruby, PHP, Erlang, .NET, Windows, Apple, browsers, git, wget, databases, OpenLDAP, nginx,"
            " Apache, HAProxy, Envoy, OpenVPN or a mail server; - for standard input.",
        ),
    ],
    as_json: Json = False,
) -> None:
    """Say what error texts mean, which evidence would prove it, and the cure; exit code 1 when nothing is known."""
    if not explained(file, as_json=as_json):
        raise typer.Exit(1)


def explained(file: str, *, as_json: bool) -> bool:
    """Print what a file's error texts mean; whether anything is known of them."""
    explanation = _explained(file)
    if as_json:
        print_json(explanation.to_json())
    else:
        typer.echo(_shown(explanation), nl=False)
    return bool(explanation.findings)


def _explained(file: str) -> Explanation:
    from countersign.findings.explaining import explain as read

    if file == "-":
        return read(sys.stdin.buffer)
    try:
        with open(file, "rb") as source:  # noqa: PTH123  the name is the user's, as it was typed
            return read(source)
    except OSError as error:
        do = "name a file, or give an error text on standard input: countersign explain -"
        raise UserError(f"cannot read {printable(file)}: {error.strerror}; {do}") from None


def _shown(explanation: Explanation) -> str:
    """The fix is the first line."""
    lines: list[str] = []
    for number, finding in enumerate(explanation.findings):
        lines += ([""] if number else []) + _finding(finding)
    if explanation.unknown:
        lines += [""] if lines else []
        more = "; there are more" if explanation.more_unknown else ""
        lines.append(f"Not known, and nothing is guessed of it{more}:")
        lines += [f"  line {place.line}: {printable(place.text, limit=_SHOWN)}" for place in explanation.unknown]
    if not lines:
        read = "this line" if explanation.lines == 1 else f"these {explanation.lines} lines"
        lines.append(f"Nothing in {read} looks like an error text.")
    return "".join(f"{line}\n" for line in lines)


def _finding(finding: Explained) -> list[str]:
    kind = finding.kind
    times = f", {finding.count} times" if finding.count > 1 else ""
    return [
        f"Fix: {finding.fix}",
        f"  {kind.severity}: {kind.id} ({finding.family}{times}{', vague' if kind.vague else ''})",
        f"  {kind.text}",
        f"  Evidence wanted: {kind.wanted}",
        f"  Source: {kind.source}",
        *(f"  line {place.line}: {printable(place.text, limit=_SHOWN)}" for place in finding.places),
    ]
