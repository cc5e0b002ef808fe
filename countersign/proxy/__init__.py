"""The asyncio engine: listeners, preludes, TLS legs, relay."""

from countersign.proxy.engine import Engine, Keeper
from countersign.proxy.settings import (
    Action,
    Address,
    Identity,
    Limits,
    Mode,
    SecretsKept,
    Settings,
    parse_address,
    parse_network,
)

__all__ = [
    "Action",
    "Address",
    "Engine",
    "Identity",
    "Keeper",
    "Limits",
    "Mode",
    "SecretsKept",
    "Settings",
    "parse_address",
    "parse_network",
]
