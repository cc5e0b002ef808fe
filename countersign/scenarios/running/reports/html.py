"""The matrix as one HTML file that can be opened from anywhere: no script, nothing fetched, ladders to fold out.

Everything in it that a peer or a client has chosen (names in certificates, error lines) is made safe to show and then
escaped. The page forbids itself all else by its content security policy, and allows its one style sheet by its hash.
"""

from __future__ import annotations

import base64
import hashlib
from html import escape
from itertools import groupby
from typing import TYPE_CHECKING

from countersign import __version__
from countersign.recorder.recording import rfc3339
from countersign.recorder.wire.text import printable
from countersign.scenarios.running.reports.words import command, details, plain_ladder, summary, title, verdict_text
from countersign.scenarios.running.verdict import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from countersign.scenarios.running.results import Matrix, Result

_STYLE = """
:root { color-scheme: light dark; --good: #1a7f37; --bad: #cf222e; --odd: #9a6700; --line: #8884; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
code, pre { font: 13px/1.35 ui-monospace, monospace; }
pre { overflow-x: auto; padding: .7rem; border: 1px solid var(--line); }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
details, p.right { border-top: 1px solid var(--line); padding: .35rem 0; margin: 0; }
summary { cursor: pointer; }
.right b { color: var(--good); } .wrong b { color: var(--bad); } .skipped b { color: var(--odd); }
.id { display: inline-block; min-width: 22rem; }
ul { margin: .3rem 0; }
"""


def to_html(matrix: Matrix) -> bytes:
    """What is wrong first, then every family; each scenario folds out to its reasons and its handshakes."""
    digest = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    wrong = [result for result in matrix.results if not result.right_done]
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f"<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-{digest}'\">",
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{_safe(f'countersign: {command(matrix)}')}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{title(matrix)}</h1>",
        f"<p><code>{_safe(command(matrix))}</code></p>",
        f"<p>{_safe(summary(matrix))}.</p>",
    ]
    if wrong:
        parts.append("<h2>What is not right</h2>")
        for result in wrong:
            parts += _entry(result, opened=len(wrong) == 1)
    for family, results in groupby(sorted(matrix.results, key=_family), key=_family):
        parts.append(f"<h2>{_safe(family)}</h2>")
        for result in results:
            parts += _entry(result)
    made = f"Made by countersign {__version__} from what ran on {rfc3339(matrix.started)}"
    parts.append(f"<p>{_safe(made)}, mode {_safe(matrix.way)}.</p></body></html>")
    return "\n".join(parts).encode()


def _family(result: Result) -> str:
    return result.family


def _entry(result: Result, *, opened: bool = False) -> Iterator[str]:
    kind = result.verdict.kind
    odd = kind is Kind.SKIPPED or result.verdict.excused
    tone = "skipped" if odd else "right" if kind.right else "wrong"
    head = f'<span class="id">{_safe(result.key)}</span> <b>{_safe(verdict_text(result))}</b>'
    yield f'<details class="{tone}"{" open" if opened else ""}><summary>{head}</summary>'
    yield f"<p>{_safe(result.title)} (right is to {_safe(result.right)})</p>"
    reasons = list(details(result))
    if reasons:
        yield f"<ul>{''.join(f'<li>{_safe(reason)}</li>' for reason in reasons)}</ul>"
    if result.argv:
        yield f"<p><code>{_safe(' '.join(result.argv))}</code></p>"
    for ladder in result.ladders:
        yield f"<pre>{escape(plain_ladder(ladder))}</pre>"
    yield "</details>"


def _safe(text: str) -> str:
    return escape(printable(text))
