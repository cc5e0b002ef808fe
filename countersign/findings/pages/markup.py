"""The least that HTML needs: escaped text, elements, and the frame of a page."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""For the file itself (Content Security Policy Level 3): no script, no fetch, no form."""

_STYLE = """
:root { --ink: #1a1a1a; --dim: #6a6a6a; --line: #c8c8c8; --bad: #a40000; --good: #1b6e1b; --fault: #8a2a8a;
  --paper: #ffffff; --box: #f6f6f4; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e6; --dim: #a0a0a0; --line: #4a4a4a; --bad: #ff8a80;
  --good: #8bd48b; --fault: #e0a0e0; --paper: #171717; --box: #222222; } }
@media print { :root { --ink: #000; --dim: #444; --line: #999; --paper: #fff; --box: #fff; }
  details > * { display: block; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 72em;
  margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.3em; } h2 { font-size: 1.1em; margin-top: 2em; border-bottom: 1px solid var(--line); }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; vertical-align: top; padding: .25em .6em;
  border-bottom: 1px solid var(--line); overflow-wrap: anywhere; } th { white-space: nowrap; font-weight: 600; }
code, .mono { font: 13px/1.45 ui-monospace, monospace; overflow-wrap: anywhere; }
.fix { background: var(--box); border-left: 4px solid var(--good); padding: .6em 1em; }
.cause { color: var(--bad); } .note { color: var(--dim); } .bad { color: var(--bad); } .good { color: var(--good); }
svg { width: 100%; height: auto; } svg text { font: 12px ui-monospace, monospace; fill: var(--ink); }
svg .dim { fill: var(--dim); } svg .bad { fill: var(--bad); stroke: none; } svg .fault { fill: var(--fault); }
svg line, svg path { stroke: var(--ink); fill: none; } svg .lane { stroke: var(--line); }
svg path.tip { fill: var(--ink); }
svg line.bad, svg path.bad { stroke: var(--bad); } svg .lock { fill: var(--dim); }
"""


def text(value: object, *, limit: int = 2000) -> str:
    """A stranger's text for a place between tags or in an attribute."""
    return escape(printable(str(value), limit=limit), quote=True)


def element(tag: str, content: str = "", **attributes: object) -> str:
    """``content`` is markup already; attributes are escaped. ``class_`` is the attribute ``class``."""
    given = "".join(f' {name.rstrip("_").replace("_", "-")}="{text(value)}"' for name, value in attributes.items())
    return f"<{tag}{given}>{content}</{tag}>"


def table(rows: Iterable[tuple[str, str]]) -> str:
    """Names and values, both markup already."""
    return element("table", "".join(element("tr", element("th", name) + element("td", value)) for name, value in rows))


def page(title: str, *parts: str) -> bytes:
    """The whole file."""
    head = (
        '<meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY, quote=True)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="referrer" content="no-referrer">'
        f"<title>{text(title, limit=200)}</title><style>{_STYLE}</style>"
    )
    body = "\n".join(parts)
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'.encode()
