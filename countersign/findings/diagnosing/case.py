"""What the rules look at: one recording with its readings, and the questions that several rules ask of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from countersign.findings.jvm import ANY, Jvm, by_user_agent
from countersign.recorder.outcome import party_of
from countersign.recorder.recording import End, Ending, Leg, LegRole, Party, Recording
from countersign.recorder.sealed import Flight, Sealed, sealed
from countersign.recorder.wire import codes
from countersign.recorder.wire.events import Content, Message, Side
from countersign.recorder.wire.extensions import Extension
from countersign.recorder.wire.messages import ClientHello, HelloRetryRequest, ServerHello
from countersign.recorder.wire.names import alert_name
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from countersign.recorder.certificates import CertificateFacts
    from countersign.recorder.recording import Failure
    from countersign.recorder.wire.reading import LegReading, ReadMessage, SentCertificate

FAMILIES = ("any", "java", "openssl", "curl", "python", "node", "go", "dotnet", "windows")
"""The families of clients that a cure may be worded for."""

_Extension = TypeVar("_Extension", bound=Extension)

REDACTED = "redacted"
"""A mark in the ``prelude``: the recording has pseudonyms (:mod:`countersign.findings.bundling`). For each leg by its
role it has what was known of signatures before: ``{"client": {"handshake": true, "server": [[0, 1]], "client": []}}``.
"""

_STATUS_REQUEST_V2 = 17  # only JSSE still offers it


@dataclass(frozen=True, slots=True)
class Ended:
    """What ended a leg: an alert, or an end of bytes, or, with neither, an alert that nobody opened. ``place`` is the
    alert's message number.
    """

    party: Party
    alert: int | None = None
    end: End | None = None
    place: int | None = None

    @property
    def name(self) -> str:
        return "" if self.alert is None else alert_name(self.alert)


@dataclass(frozen=True)
class View:
    """One leg of the case."""

    recording: Recording
    leg: Leg

    @cached_property
    def reading(self) -> LegReading:
        return self.leg.read()

    @property
    def renamed(self) -> bool:
        """Whether names in it are pseudonyms, so that no signature over them holds."""
        return REDACTED in self.recording.prelude

    @property
    def _known(self) -> dict[str, Any]:
        """What was known of this leg's signatures before its names became pseudonyms."""
        mark = self.recording.prelude.get(REDACTED)
        known = mark.get(self.role.value) if isinstance(mark, dict) else None
        return known if isinstance(known, dict) else {}

    @property
    def signature_held(self) -> bool | None:
        """Under pseudonyms: whether the server's signature in the handshake held; None where that is not known."""
        held = self._known.get("handshake")
        return held if isinstance(held, bool) else None

    def broken(self, sender: Side) -> frozenset[tuple[int, int]] | None:
        """Under pseudonyms: which signatures in this side's chain did not hold
        (:func:`countersign.findings.diagnosing.chain.broken_signatures`); None for names as they are.
        """
        if not self.renamed:
            return None
        known = self._known.get(sender.value)
        pairs = known if isinstance(known, list | tuple) else ()
        whole = (one for one in pairs if isinstance(one, list | tuple) and len(one) == 2)
        return frozenset((a, b) for a, b in whole if isinstance(a, int) and isinstance(b, int))

    @property
    def role(self) -> LegRole:
        return self.leg.role

    @cached_property
    def title(self) -> str:
        return {LegRole.CLIENT: "client leg", LegRole.SERVER: "server leg", LegRole.THROUGH: "conversation"}[self.role]

    def party(self, side: Side) -> Party:
        return party_of(self.role, side)

    def who(self, side: Side) -> str:
        return f"the {self.party(side).value}"

    @cached_property
    def hello(self) -> ClientHello | None:
        """The last ClientHello that was answered or not, as typed data; those of renegotiations are encrypted."""
        messages = self.reading.messages
        found = [one.value for one in messages if isinstance(one.value, ClientHello) and not one.message.encrypted]
        return found[-1] if found else None

    @cached_property
    def answer(self) -> ServerHello | HelloRetryRequest | None:
        for one in self.reading.messages:
            if isinstance(one.value, ServerHello | HelloRetryRequest):
                return one.value
        return None

    def extension(self, kind: type[_Extension]) -> _Extension | None:
        """The client's extension of this type."""
        inner = self.hello.extensions if self.hello is not None else None
        return next((one for one in inner or () if isinstance(one, kind)), None)

    def message(self, kind: str, sender: Side | None = None) -> ReadMessage | None:
        """The first message of this type."""
        return next(
            (one for one in self.reading.messages if one.type == kind and sender in {None, one.message.sender}), None
        )

    def chain(self, sender: Side) -> Sequence[SentCertificate]:
        return self.reading.chain(sender)

    def facts(self, sender: Side) -> list[CertificateFacts]:
        return [sent.facts for sent in self.chain(sender)]

    def evidence(self, *messages: ReadMessage | Message | int | None) -> tuple[str, ...]:
        """Where it can be seen: ``client leg, message 4 (certificate)``."""
        found = []
        for one in messages:
            if isinstance(one, Message):
                one = next(each.number for each in self.reading.messages if each.message is one)  # noqa: PLW2901
            read = self.reading.messages[one] if isinstance(one, int) else one
            if read is not None:
                found.append(f"{self.title}, message {read.number} ({read.type})")
        return tuple(found)

    def alerts(self) -> Iterator[tuple[int, Message]]:
        """Fatal ones and what refuses a certificate, with their numbers."""
        for number, message in enumerate(self.leg.messages):
            if message.content is Content.ALERT and message.code not in codes.NEVER_FATAL and message.code >= 0:
                yield number, message

    @cached_property
    def ended(self) -> Ended | None:
        """What ended it first: an alert of a peer, or the end of a peer's bytes; if nothing else, the proxy's alert.

        A client whose server has left in the middle may still send an alert: Java does (``handshake_failure``).
        """
        ours = None
        left = self._server_left
        for number, message in self.alerts():
            party = self.party(message.sender)
            if left is not None and message.sender is Side.CLIENT and message.t >= left.t:
                break
            if party is not Party.PROXY:
                return Ended(party, message.code, place=number)
            ours = ours or Ended(party, message.code, place=number)
        if self._left_sealed:
            return Ended(Party.CLIENT)
        course = self.sealed
        if course is not None and course.flight is Flight.ALERT and not course.server_left_first:
            return Ended(Party.CLIENT)
        for end in sorted(self.leg.ends, key=lambda one: one.t):
            if end.how is Ending.STOPPED:
                return ours or self._hung_up(end)
            if (self.party(end.sender) is not Party.PROXY or end is left) and ours is None:
                return Ended(self.party(end.sender), end=end)
            if self.role is LegRole.SERVER and end.how is Ending.RESET and ours is None and not self.recording.failures:
                return Ended(Party.NETWORK, end=End(end.t, Side.SERVER, end.how))  # by nobody's decision that it notes
        return ours

    @cached_property
    def _server_left(self) -> End | None:
        """The end of the server's bytes, where that was in the middle of the handshake.

        The proxy in the server's place ends them for what has befallen it elsewhere; else it is a server like any.
        """
        if len(self.reading.handshake_finished) == 2:
            return None
        end = next((one for one in self.leg.ends if one.sender is Side.SERVER and one.how is not Ending.STOPPED), None)
        ours = self.party(Side.SERVER) is Party.PROXY
        return None if ours and self.recording.failures else end

    def _hung_up(self, stopped: End) -> Ended | None:
        """The proxy ended a leg with the client, in which it is the server, for no reason that it noted."""
        if self.role is not LegRole.CLIENT or self.recording.failures or len(self.reading.handshake_finished) == 2:
            return None
        return Ended(Party.PROXY, end=End(stopped.t, Side.SERVER, Ending.FIN))

    @property
    def _left_sealed(self) -> bool:
        """Below TLS 1.3: an alert of the client's that nobody opened is the first thing with which a side left."""
        if self.role is not LegRole.THROUGH:
            return False
        alerts = [one for one in self.leg.messages if one.content is Content.ALERT and one.code < 0]
        ends = [one.t for one in self.leg.ends if one.how is not Ending.STOPPED]
        return bool(alerts) and alerts[0].sender is Side.CLIENT and alerts[0].t <= min(ends, default=alerts[0].t)

    @cached_property
    def sealed(self) -> Sealed | None:
        """What the sizes of sealed records tell, where nobody opened them."""
        return sealed(self.leg)

    @property
    def asked_for_certificate(self) -> ReadMessage | None:
        return self.message("certificate_request", Side.SERVER)


@dataclass(frozen=True)
class Case:
    """A recording with what was recorded of the same target before, newest first."""

    recording: Recording
    history: Sequence[Recording] = ()
    family: str = "any"
    views: tuple[View, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "views", tuple(View(self.recording, leg) for leg in self.recording.legs))

    def view(self, role: LegRole) -> View | None:
        return next((view for view in self.views if view.role is role), None)

    @property
    def of_client(self) -> View | None:
        """Where the client's own handshake is to be seen."""
        return self.view(LegRole.CLIENT) or self.view(LegRole.THROUGH)

    @property
    def of_target(self) -> View | None:
        """Where the target's own handshake is to be seen."""
        return self.view(LegRole.SERVER) or self.view(LegRole.THROUGH)

    @property
    def broken(self) -> View | None:
        """The leg on which it broke."""
        role = self.recording.outcome.leg
        return None if role is None else self.view(role)

    @property
    def host(self) -> str | None:
        """The name that the client wanted: its SNI, else the target's host."""
        if self.recording.sni:
            return self.recording.sni
        target = self.recording.target or ""
        return target.rpartition(":")[0].strip("[]") or None

    @cached_property
    def client_family(self) -> str:
        """Which family the client is of, as far as its hello tells, or that a JVM wrote the log; else ``any``."""
        if self.family != "any":
            return self.family
        if self.recording.log.get("form") and self.recording.log.get("side") != Side.SERVER.value:
            return "java"
        view = self.of_client
        inner = view.hello.extensions if view is not None and view.hello is not None else None
        offered = {one.code for one in inner or ()}
        if _STATUS_REQUEST_V2 in offered:
            return "java"
        return "openssl" if codes.ENCRYPT_THEN_MAC in offered else "any"

    @property
    def jvm(self) -> Jvm:
        """What is known of the JVM that the client is, if it is one: a JVM tells a proxy its version."""
        request = self.recording.prelude.get("request")
        fields = request.get("headers") if isinstance(request, dict) else None
        for one in fields if isinstance(fields, list | tuple) else ():
            if isinstance(one, list | tuple) and len(one) == 2 and str(one[0]).lower() == "user-agent":
                return by_user_agent(str(one[1]))
        return ANY


def noted(failure: Failure) -> tuple[str, ...]:
    """Where a finding has its evidence that no message holds."""
    leg = "" if failure.leg is None else f" on the {failure.leg.value} leg"
    return (f"what the proxy noted{leg} after {failure.t:.3f} s ({failure.code.value})",)


def named(name: str | None) -> str:
    """A distinguished name for a sentence."""
    return printable(name, limit=200) if name else "(no name)"
