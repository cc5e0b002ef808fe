"""What is said before TLS: how a client names its target, and how it hears what became of it.

A prelude is a value. Each mode has one, and they compose: a PROXY header in front of any of them, a STARTTLS dialogue
behind any of them, is a prelude that runs another one. Its one method takes the client's stream and a :class:`Reach`,
and gives what was :class:`Asked`:

    asked = await prelude.run(stream, reach)
    await reach.open(asked)              check, dial, tell the client; the session does it unless the prelude has

The dial belongs to the session, because what may be dialled is decided there and a failure is an outcome of the
session. What the client is told of it belongs to the prelude, for each protocol has its own words: that is
:class:`Reply`. A prelude whose protocol has none (reverse, transparent) leaves it out, and then the target is dialled
when the ClientHello is there.

A prelude that needs the target's own words (STARTTLS: the banner comes from there) calls ``reach.open`` itself, talks
to both, and gives back what was asked with ``reply`` taken out. One that has served the client by itself, so that there
is nothing left to relay (plain ``http://`` requests, each with a connection from ``reach.fetch``), gives None.

Every prelude keeps its own time limit, of ``reach.limits``, and leaves what came behind its dialogue in the stream
(:meth:`~countersign.proxy.stream.Stream.unread`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from countersign.recorder.recording import FailureCode, Party

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from countersign.proxy.dial import SockAddr
    from countersign.proxy.settings import Address, Limits
    from countersign.proxy.stream import Stream
    from countersign.proxy.ways.http_in import Shows
    from countersign.recorder.wire.events import Problem


@dataclass(frozen=True, slots=True)
class Asked:
    """What a client has asked for.

    ``target`` is None where the ClientHello decides: then ``by_name`` gives the target for a server name, or for none,
    and there can be no ``reply``. ``addresses`` are where the target is, if the prelude knows; else its name is
    resolved. ``record`` goes into the recording's ``prelude``, credentials left out. ``by_client`` tells that the
    client chose the target, so that it may be one that nobody should reach.
    """

    target: Address | None
    addresses: tuple[SockAddr, ...] = ()
    record: Mapping[str, Any] = field(default_factory=dict)
    reply: Reply | None = None
    by_client: bool = True
    by_name: Callable[[str | None], Address | None] | None = None


class Reply(Protocol):
    """Tells the client how the dial went, once; what it gives is added to the recording's ``prelude``."""

    def granted(self) -> Mapping[str, Any]:
        """The connection to the target stands."""

    def refused(self, code: FailureCode, text: str) -> Mapping[str, Any]:
        """It does not; ``text`` is a whole sentence without its full stop."""


class Reach(Protocol):
    """What a prelude may ask of its session."""

    @property
    def limits(self) -> Limits:
        """Seconds that each step may take."""

    @property
    def destination(self) -> Address | None:
        """Where the client was going before the kernel turned it to us, in transparent mode."""

    def clock(self) -> float:
        """Seconds since the session's start."""

    def note(self, record: Mapping[str, Any], *, client: str | None = None, problems: Iterable[Problem] = ()) -> None:
        """Put this on the recording's ``prelude`` at once, and what was not as its protocol says. ``client`` is who the
        client really is, where a proxy in front of this one said so.
        """

    def exchanged(self, record: Mapping[str, Any]) -> None:
        """A plain HTTP request was served; the recording's ``http`` keeps this of it."""

    def stop_idle(self) -> NoReturn:
        """Nothing has moved for too long; ends the session, with an exception that a prelude lets through."""

    async def open(self, asked: Asked) -> Stream:
        """The connection to the target, made once: checked, dialled, and the client told. A failure ends the session,
        with an exception that a prelude lets through.
        """

    async def fetch(self, target: Address) -> tuple[Stream, Shows | None]:
        """Another connection, to a target that the client has named, checked alike; who fetches it closes it.

        Where it leads to a proxy that forwards what it is asked for, with what that is shown.

        Raises :class:`~countersign.proxy.dial.DialFailed`.
        """


class Prelude(Protocol):
    """One way in."""

    async def run(self, stream: Stream, reach: Reach) -> Asked | None:
        """Let the client say what it wants. Raises :class:`PreludeFailed`."""


class PreludeFailed(Exception):  # noqa: N818 - an outcome of the session
    """The client did not ask as it should, and has been answered. ``text`` ends a sentence that starts with ``by``."""

    def __init__(
        self, code: FailureCode, text: str, *, by: Party = Party.CLIENT, record: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.by = by
        self.record = record or {}
