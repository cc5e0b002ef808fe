"""What is done in one connection about client certificates, ALPN, post-quantum groups, and untrusted targets.

Unless told otherwise that is what the settings say. An inspection product has ways of its own
(:class:`countersign.ca.presets.Behaviour`); of each thing that it can do, the first is what it does. What the user has
asked for by name (``--mtls``, ``--upstream-insecure``) stands before what the product would do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from countersign.proxy.settings import Mtls
from countersign.recorder.wire.names import POST_QUANTUM_GROUPS, group_name

if TYPE_CHECKING:
    from countersign.ca.presets import Preset
    from countersign.proxy.settings import Settings
    from countersign.recorder.wire.reading import HelloSummary

_HTTP11 = b"http/1.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Conduct:
    """``alpn``, ``post_quantum`` and ``bad_upstream`` in the words of a preset's behaviour."""

    mtls: Mtls
    alpn: str = "keep"
    post_quantum: str = "keep"
    bad_upstream: str = "block"

    @property
    def enforce(self) -> bool:
        """Whether a target that is not trusted ends the handshake with it."""
        return self.bad_upstream == "block"

    def protocols(self, offered: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """What of the client's ALPN protocols is offered to the target."""
        match self.alpn:
            case "strip":
                return ()
            case "http/1.1":
                return (_HTTP11,) if offered else ()
        return offered

    def to_json(self) -> dict[str, Any]:
        """What is otherwise than without a preset, for the recording."""
        return {"alpn": self.alpn, "post_quantum": self.post_quantum, "bad_upstream": self.bad_upstream}


def conduct_of(settings: Settings, preset: Preset | None, *, can_relay: bool) -> Conduct:
    """What is done under these settings where this preset is in force; without a client CA nothing is relayed."""
    without = Conduct(mtls=settings.mtls_mode, bad_upstream="block" if settings.verify else "allow")
    if preset is None:
        return without
    behaviour = preset.behaviour
    mtls = settings.mtls or (Mtls(behaviour.mtls[0]) if behaviour.mtls else settings.mtls_mode)
    if (mtls is Mtls.RELAY and not can_relay) or (mtls is Mtls.PRESENT and settings.identity is None):
        mtls = Mtls.STRIP
    return Conduct(
        mtls=mtls,
        alpn=behaviour.alpn[0] if behaviour.alpn else without.alpn,
        post_quantum=behaviour.post_quantum[0] if behaviour.post_quantum else without.post_quantum,
        bad_upstream=behaviour.bad_upstream[0] if settings.verify and behaviour.bad_upstream else without.bad_upstream,
    )


def without_post_quantum(summary: HelloSummary) -> tuple[HelloSummary, tuple[int, ...]]:
    """The offer without its post-quantum groups, and which those were."""
    taken = tuple(group for group in summary.groups if group in POST_QUANTUM_GROUPS)
    return replace(
        summary,
        groups=tuple(group for group in summary.groups if group not in POST_QUANTUM_GROUPS),
        key_share_groups=tuple(group for group in summary.key_share_groups if group not in POST_QUANTUM_GROUPS),
    ), taken


def named_groups(groups: tuple[int, ...]) -> str:
    """For a sentence."""
    return ", ".join(map(group_name, groups))
