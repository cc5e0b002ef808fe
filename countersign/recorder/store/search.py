"""What a list shows of a recording, and the filters that it can be asked for.

Everything here works on the columns of :data:`.schema.recordings`; no blob is read. A list is newest first and stops
when it is full, so the plan that is wanted of the database is always a walk along an index that ends with ``started``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypedDict

from sqlalchemy import ColumnElement, Row, and_, func, or_, select

from countersign.errors import UserError
from countersign.recorder.outcome import INTERRUPTED
from countersign.recorder.recording import LegRole, Outcome, Party, Recording, Status, summary
from countersign.recorder.store.blob import microseconds, moment
from countersign.recorder.store.schema import chain_certificates, chains, recordings

if TYPE_CHECKING:
    from collections.abc import Sequence

SHOWN = (
    *(column for column in recordings.columns if column.name != "blob"),
    chains.c.leaf_client,
    chains.c.leaf_target,
)
"""The columns that :func:`row_summary` reads."""

_POINTED = re.compile(r"(\[[^]]*]|[^:]*):\d+\Z")  # a target with its port


class Filters(TypedDict, total=False):
    """What :meth:`Store.summaries` and :meth:`Store.count` may be asked for; what is absent or ``None`` is not asked.

    ``sni`` and ``target`` are compared without regard to case and may hold ``*``; a target without a port stands for
    any. ``since`` (included) and ``until`` (excluded) are about the start. ``text`` is part of a name: of the server
    name, the target, the label, or a subject, issuer or alternative name in a certificate that was shown.
    ``fingerprint`` is the SHA-256 of such a certificate, or the beginning of it, in hex. ``logged``: imported from a
    program's log, or not.
    """

    sni: str | None
    target: str | None
    outcome: Status | str | None
    since: datetime | None
    until: datetime | None
    alert: str | None
    scenario: str | None
    label: str | None
    text: str | None
    fingerprint: str | None
    ja4: str | None
    logged: bool | None


@dataclass(frozen=True, slots=True)
class Summary:
    """A recording as a list shows it. ``leaf_client`` and ``leaf_target`` are SHA-256 in hex: what the client was shown
    and what the target showed. ``cursor`` is where the next page begins (:meth:`Store.summaries`, ``before``).
    """

    id: str
    started: datetime
    ended: datetime | None
    mode: str
    action: str
    scenario: str | None
    step: int
    client: str | None
    target: str | None
    sni: str | None
    label: str | None
    outcome: Outcome
    from_client: int
    from_target: int
    version: str | None
    ja4: str | None
    leaf_client: str | None
    leaf_target: str | None

    @property
    def broken_by(self) -> Party | None:
        return self.outcome.broken_by

    @property
    def cursor(self) -> str:
        return f"{microseconds(self.started)}~{self.id}"

    def to_json(self) -> dict[str, Any]:
        """The same keys as :func:`countersign.recorder.recording.summary`."""
        names = ("id", "started", "ended", "mode", "action", "scenario", "step", "client", "target", "sni", "label")
        shared = {name: getattr(self, name) for name in (*names, "outcome", "from_client", "from_target")}
        return summary(Recording(**shared))


def conditions(filters: Filters, dead: Sequence[int]) -> list[ColumnElement[bool]]:
    """The filters as SQL. ``dead`` are the owners whose open recordings are interrupted ones."""
    columns = recordings.c
    asked = {name: value for name, value in filters.items() if value is not None}
    conditions: list[ColumnElement[bool]] = []
    for name, value in asked.items():
        match name, value:
            case "since", datetime():
                conditions.append(columns.started >= microseconds(value))
            case "until", datetime():
                conditions.append(columns.started < microseconds(value))
            case "outcome", str():
                conditions.append(_outcome(value, dead))
            case (("sni" | "target"), str()):
                pattern = value.lower()
                if name == "target" and "*" not in pattern and not _POINTED.match(pattern):
                    pattern += ":*"
                conditions.append(_like(columns[name], pattern))
            case (("alert" | "scenario" | "label" | "ja4"), str()):
                conditions.append(columns[name] == storable(value))
            case "logged", bool():
                conditions.append(columns.action == "log" if value else columns.action != "log")
            case "fingerprint", str():
                conditions.append(_shown(value))
            case "text", str():
                conditions.append(_text(value))
            case _:
                raise TypeError(f"no such filter: {name}={value!r}")
    return conditions


def _outcome(wanted: str, dead: Sequence[int]) -> ColumnElement[bool]:
    try:
        status = Status(wanted)
    except ValueError:
        raise UserError(f"no outcome {wanted!r}: expected one of {', '.join(Status)}") from None
    same = recordings.c.status == status.value
    if status is Status.OPEN:
        return and_(same, ~orphaned(dead))
    if status is Status.INTERRUPTED:
        return or_(same, orphaned(dead))
    return same


def orphaned(dead: Sequence[int]) -> ColumnElement[bool]:
    """Open, and nobody left to finish it."""
    owner = recordings.c.owner
    return and_(recordings.c.status == Status.OPEN.value, or_(owner.is_(None), owner.in_(dead)))


def _like(column: ColumnElement[str | None], pattern: str) -> ColumnElement[bool]:
    """The pattern is in lower case; ``*`` in it stands for anything."""
    pattern = storable(pattern) or ""
    lowered = func.lower(column)
    if "*" not in pattern:
        return and_(lowered == pattern, column.is_not(None))  # said twice, for the index is a partial one
    return lowered.like(_escaped(pattern).replace("*", "%"), escape="/")


def _shown(fingerprint: str) -> ColumnElement[bool]:
    digits = fingerprint.replace(":", "").replace(" ", "").lower()
    if not re.fullmatch(r"[0-9a-f]{4,64}", digits):
        raise UserError(
            f"cannot look for the certificate {fingerprint!r}: expected its SHA-256 in hex, or at least 4 digits of it"
        )
    first, last = bytes.fromhex(digits.ljust(64, "0")), bytes.fromhex(digits.ljust(64, "f"))
    with_it = select(chain_certificates.c.chain).where(chain_certificates.c.certificate.between(first, last))
    # The sum keeps SQLite from collecting all sessions of these chains through the index only to sort them.
    return (recordings.c.chain + 0).in_(with_it)


def _text(part: str) -> ColumnElement[bool]:
    columns = recordings.c
    pattern = f"%{_escaped(storable(part.lower()) or '')}%"
    shown = select(chains.c.n).where(chains.c.names.like(pattern, escape="/"))
    named = (func.lower(column).like(pattern, escape="/") for column in (columns.sni, columns.target, columns.label))
    return or_(*named, columns.chain.in_(shown))


def _escaped(pattern: str) -> str:
    return re.sub(r"[%_/]", lambda found: "/" + found[0], pattern)


def parse_cursor(text: str) -> tuple[int, str]:
    """When the recording of a :attr:`Summary.cursor` started, and its id."""
    started, _, id_ = text.partition("~")
    if not re.fullmatch(r"-?\d{1,18}", started):
        raise UserError(f"cannot go on from {text!r}: expected the cursor of a recording in a list")
    return int(started), storable(id_) or ""


# -- rows ----------------------------------------------------------------------------------------------------------


def row_summary(row: Row[*tuple[Any, ...]], dead: Sequence[int]) -> Summary:
    """A row of :data:`SHOWN`."""
    status, ended = Status(row.status), row.ended
    outcome = Outcome(
        status,
        None if row.broken_by is None else Party(row.broken_by),
        None if row.leg is None else LegRole(row.leg),
        row.alert,
        row.text,
    )
    if status is Status.OPEN and (row.owner is None or row.owner in dead):
        outcome, ended = INTERRUPTED, row.written if ended is None else ended
    return Summary(
        id=row.id,
        started=moment(row.started),
        ended=None if ended is None else moment(ended),
        mode=row.mode,
        action=row.action,
        scenario=row.scenario,
        step=row.step,
        client=row.client,
        target=row.target,
        sni=row.sni,
        label=row.label,
        outcome=outcome,
        from_client=row.from_client,
        from_target=row.from_target,
        version=row.version,
        ja4=row.ja4,
        leaf_client=None if row.leaf_client is None else bytes(row.leaf_client).hex(),
        leaf_target=None if row.leaf_target is None else bytes(row.leaf_target).hex(),
    )


def storable(text: str | None) -> str | None:
    """Text that both databases take: what is no Unicode and what PostgreSQL refuses (NUL) is escaped."""
    if text is None or (text.isascii() and "\0" not in text):
        return text
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
