"""How much of a leg is kept, so that no peer can make a recording grow without bound.

A target may send a session ticket of 64 KiB as often as it likes (RFC 8446 4.6.1), and a client a key update. Both
are part of the conversation, and nothing of a conversation goes without a word. What goes first is what there is most
of:

- While the budget of bytes lasts, a message is kept as it came.
- Beyond it a message of more than :data:`SMALL` bytes is *cut*: it loses its bytes and keeps its length and SHA-256, so
  how often it came, how long it was and whether two were the same stays known.
- Beyond the budget of messages they are only *counted*, with the bytes that they had on the wire.

Alerts and Finished are what a judgement hangs on (:mod:`countersign.recorder.outcome`). They are small, so they are
never cut, and a hundred of them are kept beyond any number.

What was cut and counted is said in one :class:`Problem` of the leg.

What is enough for one session is too much for ten thousand at once. So beyond the first :data:`FREE` bytes of a leg
what is kept is borrowed from a :class:`Pool` that all recordings in progress share, and given back when they end. While
it is empty, messages are cut and counted as above.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from countersign.recorder.wire.codes import FINISHED
from countersign.recorder.wire.events import Content, Message, Problem, Side

if TYPE_CHECKING:
    from collections.abc import Iterable

SMALL = 64
_MESSAGE = 300  # bytes that a message takes in memory beside its own
_DECIDING = 100


@dataclass(frozen=True, slots=True)
class Allowance:
    """What one leg may hold: bytes of messages, and messages."""

    bytes: int
    messages: int


LIVE = Allowance(bytes=2 << 20, messages=2_000)
"""Of a leg that is being recorded. A chain of a thousand names and a request for certificates of every CA fit in."""

FREE = 64 << 10
"""Bytes of memory that any leg may take: a handshake as they come needs a quarter of it."""


class Pool:
    """Bytes of memory that all recordings in progress may take together beyond what is free."""

    __slots__ = ("left",)

    def __init__(self, size: int = 256 << 20) -> None:
        self.left = size


class Budget:
    """Give each message of a leg to :meth:`take`, in their order; without a pool it may take what it is allowed."""

    __slots__ = (
        "_allowance",
        "_borrowed",
        "_bytes",
        "_counted",
        "_counted_bytes",
        "_cut",
        "_cut_bytes",
        "_deciding",
        "_first",
        "_kept",
        "_pool",
    )

    def __init__(self, allowance: Allowance = LIVE, pool: Pool | None = None) -> None:
        self._allowance = allowance
        self._pool = pool
        self._borrowed = 0
        self._bytes = 0
        self._kept = 0
        self._deciding = 0
        self._cut = self._cut_bytes = 0
        self._counted = self._counted_bytes = 0
        self._first: tuple[float, Side] = (0.0, Side.CLIENT)

    def take(self, message: Message) -> Message | None:
        """The message as it is to be kept; none when it is only counted."""
        size = len(message.raw)
        allowed = self._allowance
        weight = self._bytes + size + _MESSAGE * (self._kept + 1)
        if self._kept < allowed.messages and weight <= FREE < allowed.bytes:  # nearly all: none is borrowed
            self._kept += 1
            self._bytes += size
            return message
        fits = size <= SMALL or self._bytes + size <= allowed.bytes
        if self._kept < allowed.messages:
            if fits and self._borrow(_MESSAGE + size):
                return self._keep(message)
            if self._borrow(_MESSAGE):
                return self._keep(message if size <= SMALL else self._without_bytes(message))
        if _decides(message) and self._deciding < _DECIDING:
            self._deciding += 1
            return self._keep(message)
        self._note(message)
        self._counted += 1
        self._counted_bytes += message.length
        return None

    def _keep(self, message: Message) -> Message:
        self._kept += 1
        self._bytes += len(message.raw)
        return message

    def _without_bytes(self, message: Message) -> Message:
        self._note(message)
        self._cut += 1
        self._cut_bytes += message.length
        return replace(message, raw=b"", digest=message.sha256)

    def _borrow(self, count: int) -> bool:
        if self._pool is None or self.weight + count <= FREE:
            return True
        if self._pool.left < count:
            return False
        self._pool.left -= count
        self._borrowed += count
        return True

    def release(self) -> None:
        """The leg is over: give back what was borrowed."""
        if self._pool is not None:
            self._pool.left += self._borrowed
            self._borrowed = 0

    @property
    def weight(self) -> int:
        """About how many bytes of memory the kept messages take."""
        return self._bytes + _MESSAGE * self._kept

    def problem(self, field: str, expected: str) -> Problem | None:
        """What was not kept, if anything was not; dated by the first message that it happened to."""
        said = []
        if self._cut:
            said.append(f"{self._cut} more of {self._cut_bytes} bytes, kept as length and SHA-256")
        if self._counted:
            said.append(f"{self._counted} more of {self._counted_bytes} bytes, only counted")
        if not said:
            return None
        t, sender = self._first
        return Problem(t, sender, field, 0, expected, "; ".join(said))

    def _note(self, message: Message) -> None:
        if not (self._cut or self._counted):
            self._first = (message.t, message.sender)


def weigh(messages: Iterable[Message]) -> int:
    """About how many bytes of memory these messages take."""
    return sum([len(message.raw) + _MESSAGE for message in messages])


def _decides(message: Message) -> bool:
    return message.content is Content.ALERT or (message.content is Content.HANDSHAKE and message.code == FINISHED)
