"""How bad the network of a connection is: latency, jitter, bandwidth, losses, stalls and resets.

All of it is made by the proxy's own streams (:mod:`.lane`), on either leg and in either direction, and not by the
kernel: ``tc netem`` is not everywhere, and needs privileges. So it begins where the TCP connection stands, and its own
handshake is as fast as ever.

TCP hides a lost segment from its users: it comes a retransmission timeout later, and everything behind it waits (RFC
9293 3.8.1, RFC 6298). That is what ``loss`` makes, out of the bytes of each segment: a stall of ``retransmission``
seconds. To lose something for good is a fault of the bytes, not of the network (:mod:`.faults`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Literal

from countersign.errors import UserError
from countersign.proxy.faults.effects import Reset, Send

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from countersign.proxy.lane import Out

_SEGMENT = 1460
"""Bytes of a full segment on Ethernet with IPv4."""
_SLICES = 100  # a second, into which a bandwidth is cut

Receiver = Literal["client", "proxy", "target"]


class NetworkError(UserError):
    """A network that cannot be as it is written; ``key`` is the key at fault."""

    def __init__(self, key: str, text: str) -> None:
        super().__init__(text)
        self.key = key


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """What the way between the proxy and a peer is like. Times are seconds; sizes are bytes, for each direction alone.

    ``leg`` is which way: to the client, to the target (``server``), or both; ``to`` who receives the bytes that are
    slowed down: the proxy, its peer, or both. Each segment takes ``latency`` and up to ``jitter`` more, and no more
    than ``bandwidth`` bytes a second get through. Of the segments ``loss`` (0 to 1) are lost at first and come
    ``retransmission`` later. After ``stall_after_bytes`` nothing comes for ``stall_seconds``, or for good without
    them; after ``reset_after_bytes`` or ``reset_after_seconds`` the connection is reset. Chance is the same for the
    same ``seed``.
    """

    leg: Literal["client", "server", "both"] = "client"
    to: Literal["proxy", "peer", "both"] = "both"
    latency: float = 0.0
    jitter: float = 0.0
    bandwidth: int | None = None
    loss: float = 0.0
    retransmission: float = 0.2
    stall_after_bytes: int | None = None
    stall_seconds: float | None = None
    reset_after_bytes: int | None = None
    reset_after_seconds: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for key, choices in (("leg", ("client", "server", "both")), ("to", ("proxy", "peer", "both"))):
            if getattr(self, key) not in choices:
                named = ", ".join(map(repr, choices))
                raise NetworkError(key, f"a network takes {key} = one of {named}, got {getattr(self, key)!r}")
        for key in ("latency", "jitter", "retransmission", "stall_seconds", "reset_after_seconds"):
            self._check(key, number=int | float, least=0, unit="seconds")
        for key in ("bandwidth", "stall_after_bytes", "reset_after_bytes", "seed"):
            least = 1 if key in {"bandwidth", "reset_after_bytes"} else 0
            self._check(key, number=int, least=least, unit="bytes a second" if key == "bandwidth" else "")
        self._check("loss", number=int | float, least=0, unit="")
        if self.loss > 0.9:
            raise NetworkError("loss", f"a network takes loss from 0 to 0.9 (of 1), got {self.loss!r}")
        if self.stall_seconds is not None and self.stall_after_bytes is None:
            raise NetworkError(
                "stall_seconds", "a network with stall_seconds needs stall_after_bytes: when does it begin?"
            )
        ends = (self.bandwidth, self.stall_after_bytes, self.reset_after_bytes, self.reset_after_seconds)
        if not (self.latency or self.jitter or self.loss) and all(each is None for each in ends):
            raise NetworkError(
                "latency", "a network needs something to do: latency, jitter, bandwidth, loss, a stall or a reset"
            )

    def _check(self, key: str, *, number: object, least: int, unit: str) -> None:
        value = getattr(self, key)
        if value is None and key not in {"latency", "jitter", "retransmission", "loss", "seed"}:
            return
        right = isinstance(value, number) and not isinstance(value, bool)  # type: ignore[arg-type]
        if not right or not least <= value < math.inf:
            what = f"{'a whole number' if number is int else 'a number'}{f' of {unit}' if unit else ''}"
            raise NetworkError(key, f"a network takes {key} = {what}, at least {least}; got {value!r}")

    def acts(self, leg: Literal["client", "server"], receiver: Receiver) -> bool:
        """Whether it is in the way of what this receiver gets on this leg."""
        side = "proxy" if receiver == "proxy" else "peer"
        return self.leg in {leg, "both"} and self.to in {side, "both"}

    @property
    def text(self) -> str:
        """What it does, behind "the proxy"."""
        parts = []
        if self.latency or self.jitter:
            parts.append(f"{self.latency:g} s of latency{f' and up to {self.jitter:g} s more' if self.jitter else ''}")
        if self.bandwidth is not None:
            parts.append(f"{self.bandwidth} bytes a second")
        if self.loss:
            parts.append(f"{self.loss:.0%} of the segments lost and sent again {self.retransmission:g} s later")
        if self.stall_after_bytes is not None:
            parts.append(f"silence{_for(self)} after {self.stall_after_bytes} bytes")
        if self.reset_after_bytes is not None:
            parts.append(f"a reset after {self.reset_after_bytes} bytes")
        if self.reset_after_seconds is not None:
            parts.append(f"a reset after {self.reset_after_seconds:g} s")
        return f"gave the network {', '.join(parts)}"


class Weather:
    """A network as one direction of one connection meets it: when does what arrive?

    ``told`` hears what is worth an entry on the recording, when it happens: a word, the byte, the end of a sentence.
    """

    def __init__(
        self,
        network: Network,
        *,
        seed: str = "",
        told: Callable[[str, int, str], None] = lambda _do, _byte, _text: None,
    ) -> None:
        self._network = network
        self._chance = Random(f"{network.seed} {seed}")  # noqa: S311 - the same again for the same seed, not secret
        self._told = told
        self._free = 0.0  # when the bytes before have left
        self._last = 0.0  # when they arrive
        self._sent = 0
        self._passed = 0
        self._begun = False
        self.reset_in = network.reset_after_seconds

    def arrivals(self, effect: Out, now: float) -> Iterator[tuple[float, Out]]:
        """What becomes of it on the way: pieces with the moments at which they arrive, never one before the last."""
        self._begin()
        if not isinstance(effect, Send):
            yield self._arrival(0, now), effect
            return
        at = 0
        while at < len(effect.data):
            piece = effect.data[at : at + self._size(len(effect.data) - at)]
            due = self._arrival(len(piece), now)
            at += len(piece)
            self._sent += len(piece)
            yield due, Send(piece)
            if self._sent == self._network.reset_after_bytes:
                yield due, Reset()
                return

    def _size(self, most: int) -> int:
        """How many bytes of that many are the next piece: up to the next byte at which something happens."""
        network = self._network
        if network.loss:
            most = min(most, _SEGMENT)
        if network.bandwidth is not None:
            most = min(most, max(1, network.bandwidth // _SLICES))
        for place in (network.reset_after_bytes, network.stall_after_bytes):
            if place is not None and place > self._sent:
                most = min(most, place - self._sent)
        return most

    def _arrival(self, size: int, now: float) -> float:
        network = self._network
        self._free = max(self._free, now)
        if network.bandwidth is not None:
            self._free += size / network.bandwidth
        if size and self._sent == network.stall_after_bytes:
            seconds = math.inf if network.stall_seconds is None else network.stall_seconds
            self._free = max(self._free, self._last) + seconds
            self._told("network_stall", self._sent, f"fell silent{_for(network)} after {self._sent} bytes")
        due = self._free + network.latency + self._chance.uniform(0, network.jitter)
        if size and network.loss:
            while self._chance.random() < network.loss:
                due += network.retransmission
        self._last = max(self._last, due)
        return self._last

    @property
    def silent(self) -> bool:
        """Nothing more arrives."""
        return self._last == math.inf

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            self._told("network", 0, self._network.text)

    def passed(self, effect: Out) -> None:
        """It has arrived."""
        self._begin()
        if isinstance(effect, Send):
            self._passed += len(effect.data)
        elif isinstance(effect, Reset):
            self._told("network_reset", self._passed, f"reset the connection after {self._passed} bytes")


def _for(network: Network) -> str:
    return " for good" if network.stall_seconds is None else f" for {network.stall_seconds:g} s"
