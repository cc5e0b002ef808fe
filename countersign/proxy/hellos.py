"""ClientHellos of real clients, for ``--hello``: what they offer, in their order, each with where it is known from.

A client is told by its JA3 string (version, suites, extensions, groups, point formats, all in their order), its
signature schemes, versions and key shares. GREASE is not among them. ``ja3`` and ``ja4`` are what the source gave, and
what ours are compared with once our own hello is made: what OpenSSL cannot repeat, the extensions' order above all, is
named on the recording.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from countersign.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class HelloPreset:
    """What a client offers, by numbers on the wire and in its order; ``extensions`` are those of its hello.

    ``ja4`` is None where the source gives none.
    """

    id: str
    name: str
    source: str
    versions: tuple[int, ...]
    ciphers: tuple[int, ...]
    extensions: tuple[int, ...]
    groups: tuple[int, ...]
    key_shares: tuple[int, ...]
    signature_algorithms: tuple[int, ...]
    alpn: tuple[bytes, ...]
    ja3: str
    ja4: str | None


@cache
def hello_presets() -> Mapping[str, HelloPreset]:
    """All that there are, by their ids."""
    text = resources.files("countersign.proxy").joinpath("hellos.toml").read_text("utf-8")
    return {name: _read(name, table) for name, table in tomllib.loads(text).items()}


def hello_preset(name: str) -> HelloPreset:
    """The one of this id. Raises :class:`UserError`."""
    found = hello_presets().get(name)
    if found is None:
        raise UserError(f"--hello takes own, mirror or one of {', '.join(hello_presets())}; got {name!r}")
    return found


def _read(name: str, table: Mapping[str, str]) -> HelloPreset:
    _, ciphers, extensions, groups, _ = (_decimal(part) for part in table["ja3_text"].split(","))
    return HelloPreset(
        id=name,
        name=table["name"],
        source=table["source"],
        versions=_hexadecimal(table["versions"]),
        ciphers=ciphers,
        extensions=extensions,
        groups=groups,
        key_shares=_decimal(table["key_shares"]),
        signature_algorithms=_hexadecimal(table["signature_algorithms"]),
        alpn=tuple(one.encode("ascii") for one in table["alpn"]),
        ja3=table["ja3"],
        ja4=table.get("ja4"),
    )


def _decimal(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split("-") if number)


def _hexadecimal(text: str) -> tuple[int, ...]:
    return tuple(int(number, 16) for number in text.split(",") if number)
