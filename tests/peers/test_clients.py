"""Real clients through the proxy: what they get, what they say when they refuse, and whom the recording names for it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from countersign.proxy import Action, Identity, Mode
from countersign.recorder.certificates import read_certificate
from countersign.recorder.recording import LegRole, Party, Status
from countersign.recorder.wire.reading import read_leg
from tests.peers.certs import SERVER_NAMES, Issued, Lab
from tests.peers.curl import CONNECT_REFUSED_BY_PROXY, PEER_FAILED_VERIFICATION, curl
from tests.peers.java import java_client, java_refusing_names
from tests.peers.kinds import HOSTS, LAB_NAME, node_says
from tests.peers.openssl import OpensslServer, openssl_client
from tests.peers.process import Background, run
from tests.peers.witness import Scene, decoded, jvm_trust, witness
from tests.proxy.running import RunningProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from countersign.recorder.recording import Recording

STRANGERS_TRUST = "what the client trusts instead"


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)
