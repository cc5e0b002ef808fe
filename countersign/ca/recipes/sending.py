"""The order in which the certificates of a chain are sent, and what is sent behind them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from countersign.ca import assemble, keys
from countersign.ca.draft import Draft, part
from countersign.recorder import der

if TYPE_CHECKING:
    from collections.abc import Sequence

    from countersign.ca.randomness import Rng
    from countersign.ca.recipes.model import Send
    from countersign.ca.signer import Signer

_AGES = (datetime(2020, 1, 1, tzinfo=UTC), datetime(2049, 12, 31, tzinfo=UTC))
_COMMENT = "2.16.840.1.113730.1.13"  # Netscape's comment: no verifier looks at it


def ordered(
    order: str | tuple[str, ...], path: Sequence[str], crossed: Sequence[str], *, with_root: bool, rng: Rng
) -> list[str]:
    """The names of the certificates that are sent, in that order.

    ``path`` is the leaf and its issuers from below, ``with_root`` whether it ends with a root, which is usually not
    sent. ``crossed`` are certificates of an authority that has been cross-signed, which it sends behind its chain.
    """
    leaf, *issuers = path
    right = [*(issuers[:-1] if with_root else issuers), *crossed]
    match order:
        case tuple():
            between = [each for each in issuers[1:] if each.startswith("above-")]
            return [name for each in order for name in ((each, *between) if each == "intermediate" else (each,))]
        case "right":
            return [leaf, *right]
        case "leaf-only":
            return [leaf]
        case "no-intermediate":
            return [leaf, *issuers[1:]]
        case "with-root":
            return [leaf, *issuers, *crossed]
        case "reversed":
            return [leaf, *reversed(issuers)]
        case "leaf-last":
            return [*reversed(issuers), leaf]
        case "shuffled":
            return [leaf, *_shuffled(issuers, rng)]
        case "twice":
            return [each for each in (leaf, *right) for _ in range(2)]
        case _:
            return []


def unrelated(send: Send, sent: Sequence[bytes], rng: Rng) -> list[bytes]:
    """What is sent behind ``sent`` and has nothing to do with it (DER)."""
    missing = max(send.unrelated, send.count - len(sent))
    if missing <= 0 and not send.size:
        return []
    signer = keys.new_signer("EC P-256", rng)
    extra = [_root(signer, number, rng) for number in range(1, missing + 1)]
    if (room := send.size - sum(map(len, (*sent, *extra)))) > 0:
        extra.append(_root(signer, 0, rng, b"." * room))
    return extra


def _shuffled(names: Sequence[str], rng: Rng) -> list[str]:
    """In an order left to chance, but never the right one where there is another."""
    drawn = sorted(names, key=lambda _: rng(8))
    return drawn if drawn != list(names) else drawn[::-1]


def _root(signer: Signer, number: int, rng: Rng, comment: bytes = b"") -> bytes:
    """A root of its own that has issued nothing here."""
    name = assemble.name_der(O="countersign", CN=f"unrelated root {number}")
    draft = Draft(
        serial=assemble.new_serial(rng),
        issuer=name,
        validity=assemble.validity_der(*_AGES),
        subject=name,
        public_key=signer.public_key,
        extensions=[part(assemble.BASIC_CONSTRAINTS, assemble.basic_constraints_value(ca=True), critical=True)],
    )
    if comment:
        draft.put(_COMMENT, der.encode(0x16, comment), critical=False)
    return draft.sign(signer)
