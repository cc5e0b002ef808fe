"""A fault as it is written in a scenario's file, read and checked.

    [[wire]]
    do = "corrupt"
    leg = "client"          # or "server"; the client leg unless told
    to = "client"           # who receives the faulted bytes: "client" or "target", or "proxy" for what comes from them
    at = "server_hello"     # the message, as RFC 8446 and RFC 5246 call it
    place = "before"        # or "after", or within = 10 for that many bytes of it first; each kind has its own places
    occurrence = 1          # which message of that name
    consistent = false      # what is signed and hashed behind it is made right again, for kinds that have this
    byte = 40               # and the kind's own options

What is wrong is a :class:`FaultError` with the key at fault.
"""

from __future__ import annotations

from difflib import get_close_matches
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, cast

from countersign.proxy.faults.kinds import FaultError, FaultKind
from countersign.proxy.faults.model import WireFault
from countersign.recorder.wire.names import HANDSHAKE_TYPES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_FROM_CLIENT = {"client_hello", "end_of_early_data", "client_key_exchange"}
_FROM_SERVER = {
    "hello_request", "server_hello", "hello_retry_request", "new_session_ticket", "encrypted_extensions",
    "server_key_exchange", "certificate_request", "server_hello_done", "certificate_status",
}  # fmt: skip
_OTHERS = ("connect", "change_cipher_spec", "alert", "application_data")
MESSAGES = (*_OTHERS[:1], "hello_retry_request", *HANDSHAKE_TYPES.values(), *_OTHERS[1:])
"""What ``at`` may be."""

_COMMON = ("do", "leg", "to", "at", "place", "within")


def read_fault(kinds: Mapping[str, FaultKind], table: Mapping[str, Any]) -> WireFault:
    """The fault that this table says. Raises :class:`FaultError`."""
    kind = _kind(kinds, table)
    leg = _one_of(table, "leg", ("client", "server"), "client")
    other = "client" if leg == "client" else "target"
    to = _one_of(table, "to", (other, "proxy"), other if other in kind.sides else "proxy")
    if to not in kind.sides:
        raise FaultError("to", f"the fault {kind.name!r} cannot be for the {to}: {_listed(kind.sides)} can receive it")
    at = _at(table, kind, leg, to)
    place, offset = _place(table, kind)
    known = kind.known
    options = {}
    for key in table:
        if key not in known and key not in _COMMON:
            raise FaultError(key, f"the fault {kind.name!r} has no {key}: {_nearest(key, [*known, *_COMMON])}")
    for key, option in known.items():
        if key in table:
            options[key] = option.read(kind.name, key, table[key])
        elif option.default is not None:
            options[key] = option.default
        elif not option.optional:
            raise FaultError(key, f"the fault {kind.name!r} needs {key}, {option.says}: {option.expected()}")
    fault = WireFault(
        do=kind.name,
        leg=cast("Literal['client', 'server']", leg),
        to=to,
        at=at,
        place=place,
        offset=offset,
        options=MappingProxyType(options),
    )
    kind.check(fault)
    return fault


def _kind(kinds: Mapping[str, FaultKind], table: Mapping[str, Any]) -> FaultKind:
    do = table.get("do")
    if not isinstance(do, str):
        raise FaultError("do", f"a fault needs do, the name of its kind: one of {_listed(kinds)}")
    if do not in kinds:
        raise FaultError("do", f"there is no fault {do!r}: {_nearest(do, kinds)}")
    return kinds[do]


def _at(table: Mapping[str, Any], kind: FaultKind, leg: str, to: str) -> str:
    client = (leg == "client") == (to == "proxy")
    at = table.get("at", "client_hello" if client and kind.default_at in _FROM_SERVER else kind.default_at)
    if at == "connect" and kind.sort == "message":
        raise FaultError("at", f"the fault {kind.name!r} is about messages: before the first byte there is none")
    if not isinstance(at, str) or at not in MESSAGES:
        raise FaultError("at", f"there is no message {at!r}: {_nearest(str(at), MESSAGES)}")
    if at in (_FROM_SERVER if client else _FROM_CLIENT):
        text = f"the fault {kind.name!r} on the {leg} leg to the {to} cannot be at {at}: a TLS "
        raise FaultError("at", text + ("client" if client else "server") + " does not send it")
    return at


def _place(table: Mapping[str, Any], kind: FaultKind) -> tuple[Any, int]:
    if "within" in table:
        offset = table["within"]
        if isinstance(offset, bool) or not isinstance(offset, int) or offset < 0:
            raise FaultError("within", f"cannot be within {offset!r}: expected a whole number of bytes that go first")
        if "within" not in kind.places:
            raise FaultError("within", f"the fault {kind.name!r} cannot be within a message; {_places(kind)}")
        if table.get("place", "within") != "within":
            raise FaultError("place", "a fault cannot have both place and within; leave one out")
        return "within", offset
    place = table.get("place", kind.default_place)
    if place not in {"before", "within", "after"}:
        raise FaultError("place", f"there is no place {place!r}: expected 'before', 'after', or within = 10")
    if place not in kind.places:
        raise FaultError("place", f"the fault {kind.name!r} cannot be {place} a message; {_places(kind)}")
    return place, 0


def _places(kind: FaultKind) -> str:
    return f"it can be {' or '.join(sorted(kind.places))} it"


def _one_of(table: Mapping[str, Any], key: str, choices: tuple[str, ...], default: str) -> str:
    value = table.get(key, default)
    if value not in choices:
        raise FaultError(key, f"a fault cannot have {key} = {value!r}: expected {' or '.join(map(repr, choices))}")
    return str(value)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _nearest(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f"did you mean {' or '.join(map(repr, close))}?" if close else f"there are {_listed(known)}"
