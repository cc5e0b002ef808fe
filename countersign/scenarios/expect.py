"""What a right client does when it meets a scenario, and what is known of those that people use.

``right`` is the measure: what the RFCs want of a client that verifies. ``clients`` has, for each family of clients, how
that looks there: the alerts and the texts in which it says no, for a JVM's alert names no cause and OpenSSL's does, and
what it is known to do where that is not right. What nobody has measured is not there.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - the annotations are read, by typed.py
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from countersign.errors import UserError
from countersign.recorder.wire.names import ALERTS

Right = Literal["refuse", "accept", "either"]
Words = tuple[str, ...]

FAMILIES = (
    "openssl", "curl", "python", "java", "java-bc", "java-fips", "go", "node", "gnutls", "browsers", "ldap", "postgres",
)  # fmt: skip
"""Families of clients. ``java-bc`` is a JVM with Bouncy Castle as first provider, ``java-fips`` BCJSSE in FIPS mode."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientExpect:
    """One family. ``known``: what it does where that is not what is right, or where both are. ``alerts`` that it may
    send, ``texts`` (parts of them) that it says. ``skip``: why the scenario cannot be put to it. ``note`` for people.
    """

    known: Right | None = None
    alerts: Words = ()
    texts: Words = ()
    skip: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        for alert in self.alerts:
            if alert not in ALERTS.values():
                raise UserError(f"there is no alert {alert!r}: expected a name of RFC 8446 6 such as unknown_ca")


@dataclass(frozen=True, slots=True, kw_only=True)
class Expect:
    """``right`` and ``why``; what is known of each family of clients in ``clients``."""

    right: Right = "refuse"
    why: str = ""
    clients: Mapping[str, ClientExpect] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        for family in self.clients:
            if family not in FAMILIES:
                raise UserError(f"there is no client family {family!r}: expected {', '.join(FAMILIES)}")

    def of(self, family: str | None) -> ClientExpect:
        """What is known of a family; curl and Python are OpenSSL's where they have no words of their own."""
        found = self.clients.get(family or "")
        if found is None and family in {"curl", "python"}:
            found = self.clients.get("openssl")
        return found or ClientExpect()

    def expected(self, family: str | None) -> Right:
        """What a client of this family is expected to do, right or not."""
        return self.of(family).known or self.right
