"""Name constraints as they stand in a certificate (RFC 5280 4.2.1.10), and what they say about a host or address."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING

from countersign.ca import assemble
from countersign.recorder import der
from countersign.recorder.certificates import cut_certificate, cut_extensions
from countersign.recorder.der import DerError
from countersign.recorder.wire.text import listed, printable

if TYPE_CHECKING:
    from collections.abc import Iterable

_DNS, _IP = 0x82, 0x87
_MOST_NAMES, _SHOWN = 1000, 3


@dataclass(frozen=True, slots=True)
class Constraints:
    """The subtrees that are about hosts and addresses, as tags and values of GeneralNames; others are not looked at."""

    permitted: tuple[tuple[int, bytes], ...]
    excluded: tuple[tuple[int, bytes], ...]

    def allow(self, name: str) -> bool:
        """Whether a certificate for this host or address is within them."""
        tag, value = _encoded(name)
        mine = [base for kind, base in self.permitted if kind == tag]
        if mine and not any(_within(tag, value, base) for base in mine):
            return False
        return not any(_within(tag, value, base) for kind, base in self.excluded if kind == tag)

    @property
    def hosts(self) -> list[str]:
        """The domains among the subtrees, as they stand there but for a dot in front."""
        bases = [base for kind, base in (*self.permitted, *self.excluded) if kind == _DNS]
        return [base.removeprefix(b".").decode("ascii", "backslashreplace") for base in bases]

    @property
    def networks(self) -> list[str]:
        """The networks among the subtrees, as ``10.1.0.0/16``, or ``10.0.1.0/255.0.255.0`` for a mask with holes; an
        address alone where there is no mask.
        """
        bases = [base for kind, base in (*self.permitted, *self.excluded) if kind == _IP]
        return [_network(base) for base in bases if len(base) in {4, 8, 16, 32}]

    @property
    def allowed(self) -> str:
        """What is permitted, in a list."""
        return ", ".join(map(_shown, self.permitted)) or "no host and no address"

    def __str__(self) -> str:
        return f"permitted: {self.allowed}"


def _encoded(name: str) -> tuple[int, bytes]:
    try:
        return _IP, ipaddress.ip_address(name).packed
    except ValueError:
        return _DNS, name.lower().removeprefix("*.").encode("utf-8", "replace")


def _within(tag: int, value: bytes, base: bytes) -> bool:
    if tag == _DNS:
        base = base.lower().removeprefix(b".")
        return not base or value == base or value.endswith(b"." + base)
    half = len(base) // 2
    if len(value) != half:
        return False
    address, mask = base[:half], base[half:]
    return all(one & bit == other & bit for one, other, bit in zip(value, address, mask, strict=True))


def _shown(base: tuple[int, bytes]) -> str:
    tag, value = base
    half = len(value) // 2
    if tag == _IP and half in {4, 16}:
        prefix = int.from_bytes(value[half:]).bit_count()
        return f"{ipaddress.ip_address(value[:half])}/{prefix}"
    return value.decode("ascii", "backslashreplace")


def _network(base: bytes) -> str:
    if len(base) in {4, 16}:  # 16 bytes are a network of IPv4 to nobody (RFC 5280 4.2.1.10)
        return str(ipaddress.ip_address(base))
    half = len(base) // 2
    mask, size = int.from_bytes(base[half:]), half * 8
    ones = mask.bit_count()
    whole = mask == (1 << size) - (1 << size - ones)
    return f"{ipaddress.ip_address(base[:half])}/{ones if whole else ipaddress.ip_address(base[half:])}"


def outside(leaf: bytes, above: Iterable[bytes]) -> str | None:
    """Which hosts and addresses of a leaf (DER) those above it may not speak for, in a sentence; ``None``: none."""
    constraints = [each for each in map(constraints_of, above) if each]
    barred = [name for name in _hosts(leaf) if not all(each.allow(name) for each in constraints)] if constraints else []
    if not barred:
        return None
    shown = listed([printable(name, limit=80) for name in barred], _SHOWN)
    allowed = "; ".join(dict.fromkeys(each.allowed for each in constraints))
    return f"{shown} {'are' if len(barred) > 1 else 'is'} outside what this CA may speak for ({allowed})"


def _hosts(leaf: bytes) -> list[str]:
    """The first hosts and addresses of its alternative names; none where they cannot be read."""
    try:
        field = cut_certificate(leaf).extensions
        found = [each for each in cut_extensions(field or b"\xa3\x02\x30\x00") if each.oid == assemble.SAN]
        if not found:
            return []
        names = list(islice(der.pieces(der.whole(found[0].value, der.SEQUENCE, "GeneralNames").body), _MOST_NAMES))
    except DerError:
        return []
    hosts = [each.body.decode("ascii", "backslashreplace") for each in names if each.tag == _DNS]
    addresses = [each.body for each in names if each.tag == _IP and len(each.body) in {4, 16}]
    return hosts + [str(ipaddress.ip_address(address)) for address in addresses]


@lru_cache(maxsize=64)
def constraints_of(certificate: bytes) -> Constraints | None:
    """The name constraints of a certificate (DER); ``None`` where it has none that can be read."""
    try:
        field = cut_certificate(certificate).extensions
        found = [each for each in cut_extensions(field or b"\xa3\x02\x30\x00") if each.oid == assemble.NAME_CONSTRAINTS]
        if not found:
            return None
        lists: dict[int, tuple[tuple[int, bytes], ...]] = {0xA0: (), 0xA1: ()}
        for each in der.at_most(2, der.whole(found[0].value, der.SEQUENCE, "NameConstraints").body, "NameConstraints"):
            bases = (der.first_piece(subtree.body) for subtree in der.pieces(each.body))
            lists[each.tag] = tuple((base.tag, base.body) for base in bases if base.tag in {_DNS, _IP})
    except DerError:
        return None
    return Constraints(lists[0xA0], lists[0xA1])
