"""What one connection is to meet, beyond the settings: a director says it, the engine does it.

The engine knows nothing of scenarios. It asks its :class:`Director` twice for each session: when the client has
connected, for what must be known before its first byte; and after the ClientHello, for the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from countersign.ca import Authority
    from countersign.ca.presets import Preset
    from countersign.ca.recipes import Recipe
    from countersign.proxy.faults.model import WireFault
    from countersign.proxy.settings import Action


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Which sessions orders are for: patterns (``*.example.com``) for the server name and for ``host:port``."""

    sni: str | None = None
    target: str | None = None

    def fits(self, sni: str | None, target: str) -> bool:
        """Whether a session with this server name and target is meant."""
        return (self.sni is None or fnmatchcase((sni or "").lower(), self.sni.lower())) and (
            self.target is None or fnmatchcase(target.lower(), self.target.lower())
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainOrders:
    """Who signs the leaf, how it is made, and how its chain is sent; what is None is as the engine has it."""

    authority: Authority | None = None
    recipe: Recipe | None = None
    preset: Preset | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What one connection is to meet. ``scenario`` and ``step`` go to its recording.

    ``forget_sessions``: neither ticket nor session of an earlier connection is taken up again.
    """

    scenario: str | None = None
    step: int = 0
    match: Match = Match()
    action: Action | None = None
    chain: ChainOrders = ChainOrders()
    faults: tuple[WireFault, ...] = ()
    forget_sessions: bool = False


class Director(Protocol):
    """Who says what each connection is to meet. Must not block and must not raise."""

    def arriving(self, client: str) -> Orders:
        """For a client that has just connected. Only what must be known before its first byte is read of this."""

    def orders(self, client: str, sni: str | None, target: str) -> Orders:
        """For a session whose ClientHello has come; once for each, so that schedules can count."""
