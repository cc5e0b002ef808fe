"""OCSP responses that come with certificates (RFC 6066 8, RFC 8446 4.4.2.1): the target's, and ours to the client.

The target is asked for one where the client asks us. What it staples is judged and noted; it is of no use to the
client, for it is about another certificate. So the client gets one by our own CA that says the same: good where the
target's says so and can be believed, revoked where it says that, and none where there is none or it cannot be believed.
What a director orders stands before that.

A response is signed by the issuer of the leaf itself, once in ten seconds for each leaf and set of faults at most, in a
thread, for RSA takes its time.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from countersign.ca.revocation import Fault, Manner, Reason, SignedBy, Verdict, What, judge_staple, stapler
from countersign.proxy.orders import StaplingOrders

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from countersign.ca import Authority, Minted
    from countersign.ca.revocation import Answer, Answers, Register

_HOLDS = 10.0  # seconds: a revocation shows soon
_KEPT = 1000
_ANSWERS = 64
_JUDGED_AT_MOST = 32 * 1024  # bytes: a response for one certificate has two

_Place = tuple[str, bytes, tuple[Fault, ...]]


class Staples:
    """What an engine staples. ``register`` says what is revoked; without one nothing is, but by order."""

    def __init__(
        self, register: Register | None, *, now: Callable[[], datetime], monotonic: Callable[[], float]
    ) -> None:
        self._register = register
        self._now = now
        self._monotonic = monotonic
        self._answers: OrderedDict[tuple[str, tuple[Fault, ...]], tuple[Answers, asyncio.Lock]] = OrderedDict()
        self._kept: OrderedDict[_Place, tuple[float, bytes]] = OrderedDict()

    async def staple(self, minted: Minted, authority: Authority, orders: StaplingOrders) -> bytes:
        """The response for this leaf. Raises :class:`UserError` for a leaf that the authority has not issued."""
        if orders.body is not None:
            return orders.body
        leaf = minted.leaf
        place = (authority.fingerprint, sha256(leaf).digest(), orders.faults)
        until, body = self._kept.get(place, (0.0, b""))
        if until > self._monotonic():
            return body
        answers, lock = self._of(authority, orders.faults)
        async with lock:
            body = await asyncio.to_thread(answers.staple, leaf)
        if all(fault.times is None for fault in orders.faults):
            self._kept[place] = (self._monotonic() + _HOLDS, body)
            self._kept.move_to_end(place)
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return body

    def forget(self) -> None:
        """Make each response anew."""
        self._kept.clear()

    def _of(self, authority: Authority, faults: tuple[Fault, ...]) -> tuple[Answers, asyncio.Lock]:
        place = (authority.fingerprint, faults)
        found = self._answers.get(place)
        if found is None:
            manner = Manner(signed_by=SignedBy.ISSUER)
            made = stapler(authority, self._register, manner=manner, faults=faults, now=self._now)
            found = self._answers[place] = (made, asyncio.Lock())
            if len(self._answers) > _ANSWERS:
                self._answers.popitem(last=False)
        self._answers.move_to_end(place)
        return found


def judged(body: bytes, chain: Sequence[bytes], now: datetime) -> Answer | None:
    """What a response is worth for the first certificate of this chain (DER); None where it is too long to be one."""
    issuer = chain[1] if len(chain) > 1 else chain[0]
    return judge_staple(body, chain[0], issuer, now=now) if len(body) <= _JUDGED_AT_MOST else None


def noted(body: bytes, answer: Answer | None, t: float) -> dict[str, Any]:
    """As it stands among what was asked of revocation on the recording."""
    entry: dict[str, Any] = {"url": "stapled", "asked_at": round(t, 6), "bytes": len(body)}
    if answer is None:
        return {**entry, "answer": "too long to be looked at", "verdict": None, "doubts": []}
    said = answer.to_json()
    return {**entry, "answer": answer.text, "verdict": said["verdict"], "doubts": said["doubts"]}


def like(answer: Answer | None) -> StaplingOrders | None:
    """What the client gets where the target's response is this; None: no response."""
    match None if answer is None else answer.verdict:
        case Verdict.GOOD:
            return StaplingOrders()
        case Verdict.REVOKED:
            reason = answer.reason if answer is not None else None
            if reason is None or reason is Reason.REMOVE_FROM_CRL:  # which is no reason to revoke
                return StaplingOrders(faults=(Fault(What.REVOKED),))
            return StaplingOrders(faults=(Fault(What.REVOKED, reason=reason),))
    return None


def asking_for_status(hello: bytes) -> bytes:
    """A ClientHello with status_request among its extensions (RFC 6066 8), in records, from one without (with header).

    Below TLS 1.3 the keys do not depend on it unless the client wants the extended master secret, so a client that
    takes no offence at an answer to what it has not asked gets to its Finished before it notices.
    """
    body = hello[4:]
    at = 34
    at += 1 + body[at]  # session id
    at += 2 + int.from_bytes(body[at : at + 2])  # cipher suites
    at += 1 + body[at]  # compression methods
    extensions = body[at + 2 :] + bytes.fromhex("0005 0005 01 0000 0000")
    body = body[:at] + len(extensions).to_bytes(2, "big") + extensions
    message = hello[:1] + len(body).to_bytes(3, "big") + body
    pieces = [message[n : n + 16384] for n in range(0, len(message), 16384)]
    return b"".join(b"\x16\x03\x01" + len(piece).to_bytes(2, "big") + piece for piece in pieces)
