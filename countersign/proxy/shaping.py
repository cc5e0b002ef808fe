"""What orders do to the streams of a session where no TLS leg of ours does it.

That is the network, on both ways; what happens before the ClientHello, or to it, on its way to us; and all faults of a
connection that passes through. There our keys open nothing, so faults find what is said in clear, and each sealed
record of TLS 1.3 counts as application data, for nobody can tell what it is.

What was done is known before it is known on which leg that was: a client that has only connected may be intercepted or
pass through. So it is noted at the end (:meth:`Shaping.told`), each with the moment at which it happened.

The recording is of the wire all the same: what the client sent before there was a leg is kept for it also where nothing
of it was let through (:attr:`Shaping.came`), and its ``prelude`` has what the client was really answered.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal

from countersign.proxy.answer import turn_down
from countersign.proxy.faults.armed import entry
from countersign.proxy.faults.effects import Applied, Send
from countersign.proxy.faults.registry import FAULTS
from countersign.proxy.faults.way import Way
from countersign.proxy.network import Weather
from countersign.proxy.sealer import Agreed, Keyring
from countersign.proxy.settings import Mode
from countersign.recorder.recording import FailureCode, LegRole, Party
from countersign.recorder.wire.dialogue import answer_form
from countersign.recorder.wire.events import Side
from countersign.recorder.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from countersign.proxy.context import Context
    from countersign.proxy.faults.effects import Effect
    from countersign.proxy.faults.model import WireFault
    from countersign.proxy.network import Network, Receiver
    from countersign.proxy.prelude import Reply
    from countersign.proxy.stream import Stream
    from countersign.recorder.recording import Ending

_CAME_AT_MOST = 192 * 1024
_SAID_AT_MOST = 256

_Leg = Literal["client", "server"]


def before_hello(fault: WireFault) -> bool:
    """Whether it happens before the client's hello has come, so that no leg of ours can do it."""
    to_us = fault.to == "proxy" and fault.at == "client_hello"
    return fault.leg == "client" and (fault.at == "connect" or to_us) and FAULTS[fault.do].sort == "stream"


class _NoKeys(Keyring):
    """For what is never opened."""

    def __init__(self) -> None:
        super().__init__(Agreed())

    @property
    def may_come(self) -> bool:
        return False


class _Bare:
    """The faults of one stream that has no leg of ours, in both directions."""

    def __init__(self, stream: Stream, us: Side, faults: Sequence[WireFault]) -> None:
        keys = _NoKeys()
        self.stream = stream
        self.us = us
        self.into = Way(us.peer, _kinds(faults, to_us=True), source=keys, wire=keys)
        self.out = Way(us, _kinds(faults, to_us=False), source=keys, wire=keys)

    def send(self, data: bytes) -> list[Effect]:
        """What becomes of bytes that go out."""
        return [*self.out.feed(data), *self.out.rest()]


def _kinds(faults: Sequence[WireFault], *, to_us: bool) -> list[Any]:
    return [(FAULTS[each.do], each) for each in faults if (each.to == "proxy") is to_us]


class Shaping:
    """The streams of one session."""

    __slots__ = ("_before", "_context", "_network", "_said", "_told", "came", "hung_up")

    def __init__(self, context: Context) -> None:
        self._context = context
        self._network: dict[_Leg, Network] = {}
        self._before: _Bare | None = None
        self._told: list[tuple[float, _Leg, Side, Applied]] = []
        self._said: bytearray | None = None
        self.came: list[tuple[float, bytes]] = []
        """What the client sent where its hello was awaited, before any fault had it, each with its moment."""
        self.hung_up: tuple[float, Ending] | None = None
        """When and how an order ended our side of it, before there was a leg."""

    # -- when what is done ---------------------------------------------------------------------------------------------

    def arrived(self) -> None:
        """The client has connected, and nothing has been said."""
        client, faults = self._context.client, [each for each in self._context.orders.faults if before_hello(each)]
        self._shape(client, "client")
        client.on_hung_up = self._hung_up
        if faults:
            self._before = self._bare(client, "client", faults)
            self._listen()
            client.perform(self._before.out.begin())
            client.take_in(self._before.into.begin())

    def awaiting_hello(self) -> None:
        """What comes next is TLS."""
        if self._before is not None:
            self._context.client.receive_through(self._takes)

    def hello_came(self) -> None:
        """It did; from here on legs do what is to be done."""
        self._answer_told()
        self.came.clear()
        self._shape(self._context.client, "client")
        if self._before is not None:
            self._context.client.receive_through(None)
            begun = self._before.into.reader.let_go()
            self._context.client.take_in((Send(begun),) if begun else ())
            self._before = None

    def dialled(self, target: Stream) -> None:
        """There is a connection to the target."""
        self._shape(target, "server")

    async def answers(self, reply: Reply) -> None:
        """The client waits to hear of its tunnel. Where something is ordered that is no tunnel it is said, and the
        session ends; where it is one, it is said when the reply is.
        """
        context, answer = self._context, self._context.orders.answer
        if answer is None:
            return
        socks = context.settings.mode is Mode.SOCKS5
        text = answer.text(socks=socks)
        applied = Applied("answer", text, at="connect")

        def instead(right: bytes) -> list[Effect]:
            rights.append(right)
            if len(rights) > 1:  # the rest of it
                return []
            self._told.append((context.clock(), "client", Side.SERVER, applied))
            return answer.effects(right) if tunnels else []

        rights: list[bytes] = []
        tunnels = answer.tunnels(socks=socks)
        self._listen()
        context.client.send_through(instead)
        recording = context.recording
        recording.prelude["ordered"] = {"answer": text}
        if tunnels:
            return
        recording.prelude.update(reply.refused(FailureCode.ORDERED, text))
        context.client.send_through(None)
        said = await turn_down(answer, context.client, rights[0], limit=context.settings.limits.handshake)
        recording.prelude["ordered"]["said"] = said
        (recording.prelude["socks"] if socks else recording.prelude)["answer"] = answer.code(socks=socks)
        raise context.over(None, Party.PROXY, code=FailureCode.ORDERED, text=text)

    def answered(self) -> None:
        """The reply has been said."""
        if self._context.orders.answer is not None:
            self._context.client.send_through(None)

    def passes_through(self, hello: bytes, target: Stream) -> None:
        """The two streams are to be relayed as they are; the target has not been sent the hello yet."""
        ways: tuple[tuple[Stream, _Leg], ...] = ((self._context.client, "client"), (target, "server"))
        for stream, leg in ways:
            faults = [each for each in self._context.orders.faults if each.leg == leg and not before_hello(each)]
            if not faults:
                continue
            bare = self._bare(stream, leg, faults)
            stream.perform(bare.out.begin())
            stream.take_in(bare.into.begin())
            stream.send_through(bare.send)
            if leg == "client":
                bare.into.feed(hello)  # has been read and judged; what follows it is looked at
                bare.into.reader.let_go()
            stream.receive_through(bare.into.feed)

    def told(self) -> None:
        """The session is over: put on the recording what was done."""
        self._answer_told()
        recording = self._context.recording
        for t, leg, sender, applied in self._told:
            role = LegRole(leg)
            if LegRole.THROUGH in recording.legs or recording.action in {"passthrough", "relay"}:
                role = LegRole.THROUGH
            recording.fault(role, entry(applied, recording.leg(role), sender, t))
            live = recording.leg(role)
            live.faults = tuple(sorted(live.faults, key=lambda fault: fault["t"]))
        self._told.clear()

    # -- what is really on the wire ------------------------------------------------------------------------------------

    def _takes(self, data: bytes) -> list[Effect]:
        """What becomes of bytes of the client's where its hello is awaited."""
        assert self._before is not None
        if sum(len(each) for _, each in self.came) < _CAME_AT_MOST:
            self.came.append((self._context.clock(), data))
        return self._before.into.feed(data)

    def _hung_up(self, how: Ending) -> None:
        self.hung_up = self.hung_up or (self._context.clock(), how)

    def _listen(self) -> None:
        """Keep the beginning of what is said to the client before TLS."""
        if self._said is None:
            self._said = said = bytearray()
            self._context.client.on_sent = lambda data: said.extend(data[: _SAID_AT_MOST - len(said)])

    def _answer_told(self) -> None:
        """What the client has heard in answer to its CONNECT, whatever was meant to be said."""
        prelude = self._context.recording.prelude
        if self._said is None or "request" not in prelude:
            return
        status = re.match(rb"HTTP/1\.[01] (\d{3})", self._said)
        prelude["answer"] = int(status[1]) if status else None
        prelude["said"] = printable(self._said.decode("latin-1"))
        prelude["form"] = answer_form(bytes(self._said)).value

    # -- how -----------------------------------------------------------------------------------------------------------

    def _bare(self, stream: Stream, leg: _Leg, faults: Sequence[WireFault]) -> _Bare:
        bare = _Bare(stream, Side.SERVER if leg == "client" else Side.CLIENT, faults)

        def applied(what: Applied, ours: bool) -> None:  # noqa: FBT001 - the stream's signature
            self._told.append((self._context.clock(), leg, bare.us if ours else bare.us.peer, what))

        stream.on_applied = applied
        return bare

    def _shape(self, stream: Stream, leg: _Leg) -> None:
        network = self._context.orders.network
        if network is None or self._network.get(leg) == network:
            return
        self._network[leg] = network
        peer: Receiver = "client" if leg == "client" else "target"
        us = Side.SERVER if leg == "client" else Side.CLIENT
        stream.shape(
            outward=self._weather(network, leg, us) if network.acts(leg, peer) else None,
            inward=self._weather(network, leg, us.peer) if network.acts(leg, "proxy") else None,
        )

    def _weather(self, network: Network, leg: _Leg, sender: Side) -> Weather:
        def told(do: str, byte: int, text: str) -> None:
            if do == "network" and any(each[1] == leg and each[3].do == do for each in self._told):
                return  # the other direction has said it
            self._told.append((self._context.clock(), leg, sender, Applied(do, text, at="connect", byte=byte)))

        return Weather(network, seed=f"{leg} {sender.value}", told=told)
