"""A ladder as SVG: the same rows as on a terminal, the lanes side by side, time running down."""

from __future__ import annotations

from typing import TYPE_CHECKING

from countersign.findings.pages.markup import element, text
from countersign.recorder.files.ladder import Kind, Tone, rows
from countersign.recorder.recording import LegRole, Party
from countersign.recorder.wire.events import Side

if TYPE_CHECKING:
    from collections.abc import Iterator

    from countersign.recorder.files.ladder import Row
    from countersign.recorder.recording import Recording

_WIDTH, _LEFT, _RIGHT = 1000, 110, 930
_TITLE, _DETAIL = 34, 15
_MOST_DETAILS = 6
_LONGEST = 110
_MOST_ROWS = 2000
_LOCK = "\N{LOCK} "


def draw(recording: Recording) -> str:
    """The drawing, as an element that stands by itself in a page."""
    lanes = _lanes(recording)
    body: list[str] = []
    y = 46.0
    every = rows(recording)
    for row in every[:_MOST_ROWS]:
        drawn, height = _row(row, lanes, y)
        body += drawn
        y += height
    if len(every) > _MOST_ROWS:
        body.append(element("text", f"{len(every) - _MOST_ROWS} more", x=_LEFT, y=y + 14, class_="dim"))
        y += _TITLE
    heads = [
        element("text", text(name), x=x, y=20, text_anchor="middle", font_weight="bold") for name, x in lanes.items()
    ]
    lines = [element("line", x1=x, x2=x, y1=28, y2=y, class_="lane") for x in lanes.values()]
    title = element("title", text(f"Ladder of recording {recording.id}"))
    content = title + "".join((*lines, *heads, *body))
    return element(
        "svg", content, viewBox=f"0 0 {_WIDTH} {int(y) + 10}", role="img", xmlns="http://www.w3.org/2000/svg"
    )


def _lanes(recording: Recording) -> dict[str, float]:
    between = {leg.role for leg in recording.legs} != {LegRole.THROUGH} and bool(recording.legs)
    if not between:
        return {"client": _LEFT, "target": _RIGHT}
    return {"client": _LEFT, "proxy": (_LEFT + _RIGHT) / 2, "target": _RIGHT}


def _ends(row: Row, lanes: dict[str, float]) -> tuple[float, float] | None:
    """From where to where an arrow goes; None for what happens at one place."""
    if row.leg is None or row.sender is None:
        return None
    server = {LegRole.CLIENT: "proxy", LegRole.SERVER: "target", LegRole.THROUGH: "target"}[row.leg]
    client = {LegRole.CLIENT: "client", LegRole.SERVER: "proxy", LegRole.THROUGH: "client"}[row.leg]
    places = lanes.get(client, _LEFT), lanes.get(server, _RIGHT)
    return places if row.sender is Side.CLIENT else (places[1], places[0])


def _row(row: Row, lanes: dict[str, float], y: float) -> tuple[list[str], float]:
    ends = _ends(row, lanes)
    details = [detail.text for detail in row.details][:_MOST_DETAILS]
    left = min(ends) if ends is not None else _at(row, lanes)
    bad = row.tone in {Tone.ALERT, Tone.TROUBLE, Tone.BAD} or row.kind in {Kind.PROBLEM, Kind.FAILURE}
    look = "fault" if row.kind is Kind.FAULT else "bad" if bad else ""
    drawn = [] if row.t is None else [element("text", f"{row.t * 1000:.1f} ms", x=4, y=y + 12, class_="dim")]
    length = f" ({row.length})" if row.length is not None else ""
    words = f"{_LOCK if row.encrypted else ''}{row.title}{length}"
    drawn.append(element("text", text(words, limit=_LONGEST), x=left + 12, y=y + 12, class_=look))
    below = y + 18
    if ends is not None:
        drawn += _arrow(*ends, below, look)
        below += 4
    for detail in details:
        drawn.append(element("text", text(detail, limit=_LONGEST), x=left + 22, y=below + 11, class_="dim"))
        below += _DETAIL
    more = len(row.details) - len(details)
    if more > 0:
        drawn.append(element("text", f"{more} more", x=left + 22, y=below + 11, class_="dim"))
        below += _DETAIL
    return drawn, max(below - y + 8, _TITLE)


def _at(row: Row, lanes: dict[str, float]) -> float:
    lane = {Party.CLIENT: "client", Party.TARGET: "target"}.get(row.party or Party.PROXY, "proxy")
    return min(lanes.get(lane, _LEFT), _RIGHT - 300)


def _arrow(start: float, end: float, y: float, look: str) -> Iterator[str]:
    way = 1 if end > start else -1
    yield element("line", x1=start, x2=end - 6 * way, y1=y, y2=y, class_=look)
    tip = f"M {end} {y} l {-9 * way} -4 l 0 8 z"
    yield element("path", d=tip, class_=f"tip {look}".strip())
