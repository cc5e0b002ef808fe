from __future__ import annotations

import base64
import json
import re
import struct
import subprocess
from dataclasses import replace
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from OpenSSL import SSL

from countersign.errors import UserError
from countersign.recorder.files.keylog import export_keylog
from countersign.recorder.files.pcapng import MAGIC, export_pcapng, write_pcapng
from countersign.recorder.files.pem import export_pem
from countersign.recorder.files.seal import tls12_sealers, tls13_sealer
from countersign.recorder.recording import (
    DataCount,
    End,
    Ending,
    Failure,
    Leg,
    LegRole,
    Outcome,
    Party,
    Recording,
    Status,
    from_json,
    to_json,
)
from countersign.recorder.wire.decryption import tls12_opener, tls13_opener
from countersign.recorder.wire.events import Content, Message, Problem, Side
from countersign.recorder.wire.messages import message_type
from countersign.recorder.wire.names import CIPHER_SUITES
from countersign.recorder.wire.records import Record, RecordFramer
from countersign.recorder.wire.secrets import Secret
from tests.peers.tshark import tshark_handshakes
from tests.recorder.made_recordings import (
    CONTROLS,
    HOSTILE,
    certificate_for,
    certificate_message,
    handshake,
    hostile,
    leg,
    recording,
    with_data,
)
from tests.recorder.tls_pairs import Pair, connected, pair

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

C, S = Side.CLIENT, Side.SERVER
TLS10, TLS11, TLS12 = SSL.TLS1_VERSION, SSL.TLS1_1_VERSION, SSL.TLS1_2_VERSION


# -- what tshark sees --------------------------------------------------------------------------------------------


def resumed(**settings: Any) -> Pair:
    return connected(previous=connected(**settings), **settings)


def renegotiated() -> Pair:
    made = pair(version=TLS12)
    made.run()
    made.client.connection.renegotiate()
    made.client.done = False
    made.run()
    made.close()
    return made


HANDSHAKES: dict[str, Callable[[], Pair]] = {
    "TLS 1.3": connected,
    "TLS 1.3 AES-128": lambda: connected(suites="TLS_AES_128_GCM_SHA256"),
    "TLS 1.3 ChaCha20": lambda: connected(suites="TLS_CHACHA20_POLY1305_SHA256"),
    "TLS 1.3 CCM": lambda: connected(suites="TLS_AES_128_CCM_SHA256"),
    "TLS 1.3 CCM_8": lambda: connected(suites="TLS_AES_128_CCM_8_SHA256"),
    "TLS 1.3 HelloRetryRequest": lambda: connected(client_groups="X25519:secp384r1", server_groups="secp384r1"),
    "TLS 1.3 client certificate": lambda: connected(ask=True, present=True),
    "TLS 1.3 client certificate refused": lambda: connected(ask=True, present=True, server_trusts=False),
    "TLS 1.3 client sends none": lambda: connected(ask=True),
    "TLS 1.3 certificate refused": lambda: connected(client_trusts=False),
    "TLS 1.3 resumed": resumed,
    "TLS 1.3 certificate over several records": lambda: connected(cert="big"),
    "TLS 1.3 without compatibility mode": lambda: connected(compat=False),
    "TLS 1.2": lambda: connected(version=TLS12),
    "TLS 1.2 ChaCha20": lambda: connected(version=TLS12, ciphers="ECDHE-ECDSA-CHACHA20-POLY1305"),
    "TLS 1.2 CCM_8": lambda: connected(version=TLS12, ciphers="ECDHE-ECDSA-AES128-CCM8:@SECLEVEL=0"),
    "TLS 1.2 CBC": lambda: connected(version=TLS12, ciphers="ECDHE-ECDSA-AES128-SHA256"),
    "TLS 1.2 CBC, MAC first": lambda: connected(version=TLS12, ciphers="ECDHE-ECDSA-AES256-SHA384", etm=False),
    "TLS 1.2 Camellia": lambda: connected(version=TLS12, ciphers="ECDHE-ECDSA-CAMELLIA256-SHA384"),
    "TLS 1.2 no cipher": lambda: connected(version=TLS12, ciphers="ECDHE-ECDSA-NULL-SHA:@SECLEVEL=0"),
    "TLS 1.2 RSA key exchange": lambda: connected(version=TLS12, ciphers="AES128-SHA", cert="rsa"),
    "TLS 1.2 resumed": lambda: resumed(version=TLS12),
    "TLS 1.2 resumed by session id": lambda: resumed(version=TLS12, tickets=False),
    "TLS 1.2 client certificate": lambda: connected(version=TLS12, ask=True, present=True),
    "TLS 1.2 client certificate refused": lambda: connected(version=TLS12, ask=True, present=True, server_trusts=False),
    "TLS 1.2 certificate refused": lambda: connected(version=TLS12, client_trusts=False),
    "TLS 1.2 renegotiated": renegotiated,
    "TLS 1.1": lambda: connected(version=TLS11),
    "TLS 1.0": lambda: connected(version=TLS10),
    "TLS 1.0, MAC first": lambda: connected(version=TLS10, etm=False),
}


@pytest.fixture(scope="module")
def _recordings() -> dict[str, Recording]:
    return {name: recording(with_data(leg(make()))) for name, make in HANDSHAKES.items()}


def recorded(given: Leg) -> list[tuple[str, str, str, int]]:
    """The messages as tshark names them: it takes a HelloRetryRequest for the ServerHello that it looks like."""
    return [
        (
            message.sender.value,
            message.content.value,
            message_type(message.content, message.code, message.raw).replace("hello_retry_request", "server_hello"),
            message.length,
        )
        for message in given.messages
    ]


def seen(file: Path) -> list[tuple[str, str, str, int]]:
    return [(one.sender, one.content, one.type, one.length) for one in tshark_handshakes(file)]


def exported(tmp_path: Path, given: Recording) -> Path:
    file = tmp_path / "export.pcapng"
    file.write_bytes(export_pcapng(given))
    return file


def tshark(file: Path, *arguments: str) -> str:
    command = ["tshark", "-n", "-r", str(file), *arguments]
    done = subprocess.run(command, capture_output=True, timeout=30, check=True, encoding="utf-8")
    return done.stdout


@pytest.mark.peer("tshark")
def test_tshark_sees_the_recorded_messages_in_order_and_of_the_same_lengths(
    _recordings: dict[str, Recording], tmp_path: Path
) -> None:
    # One file with a section for each: tshark takes longer to start than to read them all.
    file = tmp_path / "all.pcapng"
    with file.open("wb") as out:
        write_pcapng(
            (replace(one, client=f"127.0.0.1:{50_001 + n}") for n, one in enumerate(_recordings.values())), out
        )
    by_stream: dict[int, list[tuple[str, str, str, int]]] = {}
    for one in tshark_handshakes(file):
        by_stream.setdefault(one.stream, []).append((one.sender, one.content, one.type, one.length))
    for (name, one), messages in zip(_recordings.items(), by_stream.values(), strict=True):
        assert messages == recorded(one.legs[0]), name
        assert len(messages) > 4, name
