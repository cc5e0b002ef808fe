"""Answers as they go out over HTTP, and what a network that is not well makes of them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from email.utils import format_datetime
from typing import TYPE_CHECKING

from countersign.ca.revocation.faults import Fault, Kind, What

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from countersign.ca.revocation.crl import CrlFields
    from countersign.ca.signer import Signer

MOVED = "/moved"
"""What a path begins with that a redirect led to; there the question is answered."""

NOT_CACHED = (("Cache-Control", "no-store"),)

GARBAGE = b"\x30\x82\x01\x00" + bytes(range(32))
"""What is sent for a malformed answer: a SEQUENCE of 256 bytes of which 32 came."""

_HTML = "text/html; charset=utf-8"
_BLOCK_PAGE = b"""<!DOCTYPE html>
<html><head><title>Access denied</title></head>
<body><h1>Access denied</h1><p>The policy of your organization does not allow this site.
Category: uncategorized. Ask your administrator.</p></body></html>
"""


@dataclass(frozen=True, slots=True)
class BigCrl:
    """A CRL that is yet to be written to a file: what it says, who signs it, and how large it is to be."""

    fields: CrlFields
    signer: Signer
    size: int
    broken: bool


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer. ``says`` is what it says in words; ``faults`` are those in force for the question.

    ``status``, ``content_type`` and ``headers`` are HTTP's. ``kind`` is ``None`` where nothing was asked.
    """

    kind: Kind | None
    says: str
    body: bytes | BigCrl = b""
    status: int = 200
    content_type: str = "text/plain"
    headers: tuple[tuple[str, str], ...] = NOT_CACHED
    issuer: str | None = None
    serials: tuple[int, ...] = ()
    faults: tuple[Fault, ...] = ()

    def fault(self, what: What) -> Fault | None:
        return next((fault for fault in self.faults if fault.what is what), None)


def by_what(faults: Iterable[Fault]) -> dict[What, Fault]:
    """The first fault of each sort."""
    found: dict[What, Fault] = {}
    for fault in faults:
        found.setdefault(fault.what, fault)
    return found


def cache_headers(
    body: bytes, this_update: datetime, next_update: datetime | None, now: datetime
) -> tuple[tuple[str, str], ...]:
    """RFC 5019 6.2 (and 9111): to be kept until the next update, if there is to be one that is yet to come."""
    if next_update is None or next_update <= now:
        return NOT_CACHED
    return (
        ("Cache-Control", f"max-age={int((next_update - now).total_seconds())},public,no-transform,must-revalidate"),
        ("Last-Modified", format_datetime(this_update, usegmt=True)),
        ("Expires", format_datetime(next_update, usegmt=True)),
        ("ETag", f'"{hashlib.sha256(body).hexdigest()[:40]}"'),
    )


def disguised(reply: Reply, path: str, method: str) -> Reply:
    """The reply with the first of HTTP's own faults done to it; ``path`` is where it was asked for."""
    for fault in reply.faults:
        match fault.what:
            case What.HTTP:
                says = f"HTTP {fault.status}"
                text = f"{says}\n".encode() if fault.status >= 400 else b""
                return replace(_plain(reply, says, text), status=fault.status)
            case What.REDIRECT if not path.startswith(MOVED):
                return _redirected(reply, fault.location or MOVED + path, method)
            case What.REDIRECT_LOOP:
                return _redirected(reply, path, method)
            case What.CONTENT_TYPE:
                return replace(reply, content_type=_HTML, headers=NOT_CACHED)
            case What.BLOCK_PAGE:
                return replace(_plain(reply, "a page of HTML", _BLOCK_PAGE), status=200, content_type=_HTML)
            case What.EMPTY:
                return replace(reply, says="nothing", body=b"")
    return reply


def _plain(reply: Reply, says: str, body: bytes = b"") -> Reply:
    return replace(reply, says=says, body=body, content_type="text/plain", headers=NOT_CACHED)


def _redirected(reply: Reply, location: str, method: str) -> Reply:
    """307 for a POST, which has to be one again there (RFC 9110 15.4.8), else the 302 that everybody sends."""
    status = 307 if method == "POST" else 302
    headers = (*NOT_CACHED, ("Location", location))
    return replace(_plain(reply, f"HTTP {status}, look elsewhere"), status=status, headers=headers)
