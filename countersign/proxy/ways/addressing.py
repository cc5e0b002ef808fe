"""Which target, and which of its addresses: ``--target`` by SNI, ``--resolve``, and the order in which to try.

*Names with a star.* ``*.example.com`` stands for every name below example.com, however deep, and not for example.com
itself; ``*`` stands for every name. Names are compared without regard to case and to a dot at their end. The same rule
goes for policies (:mod:`.policy`); it is not that of certificates, where a star is one label.

*Order of addresses.* The resolver has sorted them (RFC 6724). RFC 8305 4 then has the families alternate, so that a
network on which one of them leads nowhere costs a quarter of a second and not one for each of its addresses. The racing
itself is in :mod:`countersign.proxy.dial`. ``loop.create_connection(happy_eyeballs_delay=...)`` races too, but cannot
be used for it: it resolves by itself, so the addresses that were checked are not the ones that it dials, and the
OSError that it raises in the end has lost its number, from which we tell who is at fault.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, TypeVar

from countersign.errors import UserError
from countersign.proxy.settings import Address, parse_address

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable, Mapping, Sequence

    T = TypeVar("T")

_LONGEST_NAME = 255  # RFC 1035 2.3.4

# -- names with a star ---------------------------------------------------------------------------------------------


def normalized(name: str) -> str:
    """A host name as it is compared."""
    return name.lower().removesuffix(".")


def name_fits(pattern: str, name: str) -> bool:
    """Whether a normalised pattern stands for a normalised name."""
    if pattern == "*":
        return bool(name)
    if pattern.startswith("*."):
        return name.endswith(pattern[1:]) and len(name) > len(pattern) - 1
    return name == pattern


def parse_pattern(text: str, *, what: str) -> str:
    """A host name, ``*.name`` or ``*``, normalised. Raises :class:`UserError` that names ``what``."""
    if not text.isascii():
        raise UserError(f"{what}: {text!r} goes by the name that is on the wire, {_on_the_wire(text)}")
    if "*" in text.removeprefix("*.") and text != "*":
        raise UserError(f"{what}: a star stands alone or at the beginning, as in *.example.com; got {text!r}")
    if any(character.isspace() or character in "/@" for character in text):
        raise UserError(f"{what} takes a host name, got {text!r}")
    return normalized(text)


def _on_the_wire(text: str) -> str:
    try:
        return text.encode("idna").decode("ascii")
    except UnicodeError:
        return "which is written with xn--"


# -- the target by SNI ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Targets:
    """Where each name goes. ``default`` is for names without a target of their own, and for hellos without a name."""

    by_name: Mapping[str, Address]
    default: Address | None = None

    @classmethod
    def parse(cls, values: Sequence[str]) -> Targets:
        """``--target`` as often as given: ``HOST:PORT``, or ``SNI=HOST:PORT`` with a name or a pattern before it."""
        default: Address | None = None
        by_name: dict[str, Address] = {}
        for value in values:
            name, equals, address = value.rpartition("=")
            target = parse_address(address, what="--target")
            if not equals:
                if default is not None:
                    raise UserError(f"--target has two defaults, {default} and {target}: give one as SNI={target}")
                default = target
                continue
            pattern = parse_pattern(name.strip(), what="--target")
            if not pattern:
                raise UserError(f"--target takes a name before the equals sign, got {value!r}")
            if pattern in by_name:
                raise UserError(f"--target names {pattern} twice, for {by_name[pattern]} and {target}")
            by_name[pattern] = target
        return cls(by_name, default)

    def choose(self, sni: str | None) -> Address | None:
        """The target of the name itself, else that of the longest pattern, else the default."""
        name = normalized(sni or "")
        if "*" not in name and len(name) <= _LONGEST_NAME:
            if name in self.by_name:
                return self.by_name[name]
            at = 0
            while (at := name.find(".", at + 1)) > 0:  # from the longest *.suffix to the shortest
                if (found := self.by_name.get("*" + name[at:])) is not None:
                    return found
        return (self.by_name.get("*") if name else None) or self.default

    @property
    def places(self) -> tuple[Address, ...]:
        """Every target, each once."""
        default = () if self.default is None else (self.default,)
        return tuple(dict.fromkeys((*self.by_name.values(), *default)))

    def __str__(self) -> str:
        return ", ".join(map(str, self.places))

    @property
    def single(self) -> Address | None:
        """The one target that every client gets, if there is but one: it can be dialled before any hello."""
        return self.default if not self.by_name else None


# -- addresses of our own ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Overrides:
    """What ``--resolve`` says; a name of ``*`` is for every host of its port (CURLOPT_RESOLVE(3))."""

    by_name: Mapping[tuple[str, int], tuple[str, ...]]

    @classmethod
    def parse(cls, values: Iterable[str]) -> Overrides:
        """``HOST:PORT:ADDRESS[,ADDRESS]``; an IPv6 address may stand in brackets. A later value replaces an earlier."""
        by_name: dict[tuple[str, int], tuple[str, ...]] = {}
        for value in values:
            head, addresses = _split_resolve(value)
            place = parse_address(head, what="--resolve")
            name = place.host if place.host == "*" else parse_pattern(place.host, what="--resolve")
            if "*" in name and name != "*":
                raise UserError(f"--resolve takes a host name or * alone, got {place.host!r}")
            by_name[name, place.port] = addresses
        return cls(by_name)

    def lookup(self, target: Address) -> tuple[str, ...]:
        """The addresses to dial for this target, or none where the resolver is to be asked."""
        found = self.by_name.get((normalized(target.host), target.port))
        return found or self.by_name.get(("*", target.port), ())


def _split_resolve(value: str) -> tuple[str, tuple[str, ...]]:
    """``HOST:PORT`` and the addresses. The host itself may be an IPv6 address in brackets."""
    form = "--resolve takes HOST:PORT:ADDRESS[,ADDRESS] as curl has it"
    if value[:1] in {"+", "-"}:
        raise UserError(f"{form}, without curl's {value[:1]}: nothing is kept here that would time out or be removed")
    start = value.find("]") + 1 if value.startswith("[") else 0
    port = value.find(":", start)
    end = value.find(":", port + 1)
    if port < 0 or end < 0:
        raise UserError(f"{form}; got {value!r}")
    addresses = []
    for text in value[end + 1 :].split(","):
        bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
        try:
            addresses.append(str(ip_address(bare)))
        except ValueError:
            raise UserError(f"{form}; {text!r} is no address") from None
    return value[:end], tuple(addresses)


# -- in which order ------------------------------------------------------------------------------------------------


def interleaved(addresses: Sequence[tuple[socket.AddressFamily, T]]) -> list[tuple[socket.AddressFamily, T]]:
    """RFC 8305 4: the families alternate, the one that was first stays first, each keeps its order."""
    families: dict[socket.AddressFamily, list[tuple[socket.AddressFamily, T]]] = {}
    for address in addresses:
        families.setdefault(address[0], []).append(address)
    return [address for address in chain(*zip_longest(*families.values())) if address is not None]
