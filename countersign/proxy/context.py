"""What the steps of one session share: its recording, its clock, its streams and legs, and the way to end it early."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from countersign.proxy.leg import TlsLeg
from countersign.proxy.settings import Address, SecretsKept
from countersign.proxy.shaping import Shaping, before_hello
from countersign.recorder.live import LiveRecording
from countersign.recorder.recording import Ending, Failure, FailureCode, LegRole, Party
from countersign.recorder.wire.events import Side
from countersign.recorder.wire.names import alert_number
from countersign.recorder.wire.secrets import HANDSHAKE_LABELS, parse_line

if TYPE_CHECKING:
    from countersign.proxy._openssl import TlsConnection
    from countersign.proxy.engine import Engine
    from countersign.proxy.faults.armed import Served
    from countersign.proxy.relay import Relay
    from countersign.proxy.stream import Stream
    from countersign.recorder.wire.tap import LegTap


class Over(Exception):  # noqa: N818 - the session ends here; why is on the recording
    """Ends a session from within any of its steps."""


class Context:
    """One client connection on its way. ``target`` is the stream to the target, once it is dialled; ``client_host`` is
    the client's address, or the one that a proxy in front of this one said it has. ``orders`` are what it is to meet,
    until its ClientHello has come only what can be known before, and ``conduct`` is what follows from them.
    """

    __slots__ = (
        "_began", "client", "client_host", "conduct", "engine", "legs", "orders", "recording", "settings", "shaping",
        "target",
    )  # fmt: skip

    def __init__(self, engine: Engine, client: Stream) -> None:
        settings = engine.settings
        self.engine = engine
        self.settings = settings
        self.client = client
        self.client_host = client.peer_host()
        self.orders = engine.arriving(self.client_host)
        self.conduct = engine.conduct(self.orders)
        self.target: Stream | None = None
        self.legs: list[TlsLeg] = []
        self._began = engine.monotonic()
        self.recording = LiveRecording(
            started=engine.now(),
            mode=settings.mode.value,
            action=settings.action.value,
            client=client.peer(),
            target=str(settings.target) if isinstance(settings.target, Address) else None,
            label=settings.label,
            pool=engine.pool,
        )
        self._note_orders()
        self.shaping = Shaping(self)

    def take_orders(self, target: str) -> None:
        """The ClientHello has come: what this session is to meet is asked for, once, and noted."""
        self.orders = self.engine.orders(self.client_host, self.recording.sni, target)
        self.conduct = self.engine.conduct(self.orders)
        self._note_orders()

    def _note_orders(self) -> None:
        orders, recording = self.orders, self.recording
        recording.scenario, recording.step = orders.scenario, orders.step
        noted: dict[str, Any] = {}
        if orders.chain.recipe is not None:
            noted["recipe"] = orders.chain.recipe.id
        if orders.chain.preset is not None:
            noted |= {"preset": orders.chain.preset.id, **self.conduct.to_json()}
        if noted:
            recording.prelude["inspection"] = noted
        else:
            recording.prelude.pop("inspection", None)
        recording.changed = True

    def clock(self) -> float:
        """Seconds since the session's start."""
        return self.engine.monotonic() - self._began

    def let_go(self) -> None:
        """The session is over: nobody holds who holds him, or 85 KB would wait for the garbage collector each time."""
        self.legs.clear()
        del self.shaping

    def over(self, leg: LegRole | None, by: Party, *, code: FailureCode, text: str, t: float | None = None) -> Over:
        """Put a failure on the recording and give what is to be raised; ``t`` is when it happened, if not now."""
        self.recording.fail(Failure(self.clock() if t is None else t, leg, by, code=code, text=text))
        return Over()

    def refuse(self, tap: LegTap, alert: str, leg: LegRole, by: Party, *, code: FailureCode, text: str) -> Over:
        """The same, and the client is told by this alert."""
        over = self.over(leg, by, code=code, text=text)
        self.alert_client(tap, alert)
        return over

    def client_left(self) -> Over:
        """The client's bytes ended while the target was being spoken to: there is nobody left to do it for."""
        ending = self.client.ending or Ending.RESET
        now = self.clock()
        self.recording.end(LegRole.CLIENT, Side.CLIENT, ending, now)
        if ending is Ending.STOPPED:  # by a fault that was ordered
            return Over()
        how = "reset the connection" if ending is Ending.RESET else "closed the connection"
        text = f"{how} before the proxy had answered its ClientHello (the target had not finished its handshake)"
        return self.over(LegRole.CLIENT, Party.CLIENT, code=FailureCode.CLIENT_LEFT, text=text, t=now)

    async def until_finished(self, relay: Relay) -> None:
        """Wait for the end of a relay; one in which nothing moves any more is ended by us."""
        try:
            await relay.finished
            if relay.timed_out:
                self._timed_out()
        finally:
            relay.let_go()

    def _timed_out(self) -> None:
        now, recording = self.clock(), self.recording
        recording.stopped = f"ended the session, in which nothing had moved for {self.settings.limits.idle:g} s"
        through = recording.legs.get(LegRole.THROUGH)
        if through is not None and through.messages and not through.has_data_of(Side.SERVER):
            # Nothing of it is encrypted yet: whoever did not speak last has fallen silent.
            recording.end(LegRole.THROUGH, through.messages[-1].sender.peer, Ending.SILENT, now)
        self.end_all(now)

    def end_all(self, t: float) -> None:
        """Both sides of every leg that have not ended end by our hand."""
        for role in self.recording.legs:
            for side in Side:
                self.recording.end(role, side, Ending.STOPPED, t)

    def alert_client(self, tap: LegTap, name: str) -> None:
        """A fatal alert in clear, before our ServerHello (RFC 8446 6.2)."""
        number = alert_number(name)
        assert number is not None
        record = bytes((21, 3, 3, 0, 2, 2, number))
        self.recording.add(LegRole.CLIENT, tap.wire(Side.SERVER, record, self.clock()))
        self.client.write(record)

    def leg(
        self,
        role: LegRole,
        stream: Stream,
        connection: TlsConnection,
        tap: LegTap | None = None,
        *,
        served: Served | None = None,
    ) -> TlsLeg:
        """A leg of this session, recorded with the secrets that are asked for, and with the faults that are ordered.

        ``served`` is what it shows, where a fault can be about that.
        """
        leg = TlsLeg(role, stream, connection, self.recording, buffers=self.engine.buffers, clock=self.clock, tap=tap)
        self.legs.append(leg)
        if self.settings.secrets is not SecretsKept.NONE:
            connection.on_secret = lambda line: self._keep_secret(role, line)
        faults = [fault for fault in self.orders.faults if fault.leg == role.value and not before_hello(fault)]
        if faults or (served is not None and served.chain is not None):
            leg.arm(faults, served)
        elif role is LegRole.CLIENT:
            leg.may_alert()
        return leg

    def _keep_secret(self, role: LegRole, line: bytes) -> None:
        secret = parse_line(line.decode("ascii", "replace"))
        if secret is not None and (self.settings.secrets is SecretsKept.ALL or secret.label in HANDSHAKE_LABELS):
            self.recording.keep(role, secret, self.clock())
