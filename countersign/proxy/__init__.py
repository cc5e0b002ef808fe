"""The asyncio engine: listeners, preludes, TLS legs, relay; and the TLS under it, for stand-ins that speak it too."""

from countersign.proxy._openssl import (
    Buffers,
    ClientJudging,
    EndOfData,
    Offer,
    TlsClientSide,
    TlsConnection,
    TlsServerSide,
    TlsTrouble,
)
from countersign.proxy.engine import Engine, Keeper
from countersign.proxy.settings import (
    Action,
    Address,
    Identity,
    Limits,
    Mode,
    Mtls,
    SecretsKept,
    Settings,
    parse_address,
    parse_network,
)
from countersign.proxy.stream import RECEIVE_BUFFER, ReceiveBuffer, Stream

__all__ = [
    "RECEIVE_BUFFER",
    "Action",
    "Address",
    "Buffers",
    "ClientJudging",
    "EndOfData",
    "Engine",
    "Identity",
    "Keeper",
    "Limits",
    "Mode",
    "Mtls",
    "Offer",
    "ReceiveBuffer",
    "SecretsKept",
    "Settings",
    "Stream",
    "TlsClientSide",
    "TlsConnection",
    "TlsServerSide",
    "TlsTrouble",
    "parse_address",
    "parse_network",
]
