"""Which CRLs an issuer has and what is on each (RFC 5280 5).

A complete CRL is made anew for each question and says what is so now. Where delta CRLs are wanted there is a base
besides, which stands still for half its life, and a delta to it: what has changed since, with ``removeFromCRL`` for
what is revoked no longer (5.2.4, 5.3.1). CRLs that are partitioned by reason are two, for compromised keys and for
everything else; each says in a critical extension which reasons it is about (5.2.5).

CRL numbers are milliseconds since 1970, and one more where that would not be more than the last: they rise through
restarts without being kept anywhere (5.2.3).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from countersign.ca.revocation.crl import CrlFields, Listed
from countersign.ca.revocation.points import KEY_REASONS, CrlForm
from countersign.ca.revocation.register import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from countersign.ca.revocation.issuers import Served

Dates = tuple["datetime", "datetime | None"]
"""This update and the next."""


@dataclass(slots=True)
class Lists:
    """The CRLs of all issuers; only their numbers and bases are kept."""

    _numbers: dict[str, int] = field(default_factory=dict)
    _bases: dict[str, tuple[CrlFields, datetime]] = field(default_factory=dict)

    def fields(
        self,
        served: Served,
        form: CrlForm,
        entries: tuple[Listed, ...],
        *,
        now: datetime,
        dates: Dates,
        wrong_dates: bool = False,
        released: Mapping[int, datetime],
    ) -> CrlFields:
        """What the CRL of that form says when ``entries`` are revoked and those in ``released`` are no longer.

        A base has its own dates, unless they are to be wrong ones.
        """
        match form:
            case CrlForm.FULL:
                return replace(self._plain(served, now, dates), entries=entries)
            case CrlForm.BASE:
                base = self._base(served, entries, now, dates)
                return replace(base, this_update=dates[0], next_update=dates[1]) if wrong_dates else base
            case CrlForm.DELTA:
                base = self._base(served, entries, now, dates)
                changed = _changes(base.entries, entries, now, released)
                return replace(self._plain(served, now, dates), entries=changed, base=base.number)
            case CrlForm.KEYS | CrlForm.OTHERS:
                about_keys = form is CrlForm.KEYS
                chosen = tuple(entry for entry in entries if (entry.reason in KEY_REASONS) is about_keys)
                return replace(self._plain(served, now, dates), entries=chosen, point=served.urls.point(form))

    def _plain(self, served: Served, now: datetime, dates: Dates) -> CrlFields:
        number = max(int(now.timestamp() * 1000), self._numbers.get(served.urls.name, 0) + 1)
        self._numbers[served.urls.name] = number
        return CrlFields(served.issuer.subject, served.key_id, *dates, number)

    def _base(self, served: Served, entries: tuple[Listed, ...], now: datetime, dates: Dates) -> CrlFields:
        base, until = self._bases.get(served.urls.name, (None, now))
        if base is None or now >= until:
            this_update, next_update = dates
            freshest = (served.urls.crl(CrlForm.DELTA),)
            base = replace(self._plain(served, now, dates), entries=entries, freshest=freshest)
            lasts = (next_update or this_update) - now
            self._bases[served.urls.name] = (base, now + lasts / 2)
        return base


def _changes(
    before: Sequence[Listed], entries: Sequence[Listed], now: datetime, released: Mapping[int, datetime]
) -> tuple[Listed, ...]:
    """5.2.4: what is on the complete CRL now and was not, or not so, and what was and is not."""
    was = {entry.serial: entry for entry in before}
    still = {entry.serial for entry in entries}
    gone = (Listed(serial, released.get(serial, now), Reason.REMOVE_FROM_CRL) for serial in was if serial not in still)
    return (*(entry for entry in entries if was.get(entry.serial) != entry), *gone)
