"""``--upstream-insecure`` says what becomes valid by our hand; here is that it does, and that nothing else does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from countersign.proxy import Address
from tests.cli.commands import countersign
from tests.peers.certs import Lab
from tests.peers.curl import PEER_FAILED_VERIFICATION, curl
from tests.peers.openssl import OpensslServer
from tests.proxy.running import RunningProxy

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.peers.certs import Issued

LONG_AGO = datetime.now(UTC) - timedelta(days=100)


def unknown_issuer(_lab: Lab, folder: Path) -> Issued:
    return Lab(folder).server


def self_signed(lab: Lab, _folder: Path) -> Issued:
    return lab.issue("localhost", signer=None)


def missing_intermediate(lab: Lab, _folder: Path) -> Issued:
    leaf = lab.issue("localhost")
    leaf.chain_pem.write_bytes(b"")
    leaf.fullchain_pem.write_bytes(leaf.cert_pem.read_bytes())
    return leaf


def expired_intermediate(lab: Lab, _folder: Path) -> Issued:
    above = lab.issue(common_name="Old CA", signer=lab.root, ca=True, key="ec-p384", not_before=LONG_AGO, days=10)
    return lab.issue("localhost", signer=above)


def expired_leaf(lab: Lab, _folder: Path) -> Issued:
    return lab.issue("localhost", not_before=LONG_AGO, days=10)


def other_name(lab: Lab, _folder: Path) -> Issued:
    return lab.issue("elsewhere.test")


@pytest.mark.peer("curl", "openssl")
@pytest.mark.parametrize(
    ("make", "becomes_valid"),
    [
        (unknown_issuer, True),
        (self_signed, True),
        (missing_intermediate, True),
        (expired_intermediate, True),
        (expired_leaf, False),
        (other_name, False),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_becomes_valid_by_our_hand(
    lab: Lab, tmp_path: Path, make: Callable[[Lab, Path], Issued], *, becomes_valid: bool
) -> None:
    with OpensslServer(make(lab, tmp_path / "other"), mode="www") as server:
        refused = curl(f"https://localhost:{server.port}/", "-4", ca=lab.root_pem)
        assert refused.exit_code == PEER_FAILED_VERIFICATION
        target = Address("localhost", server.port)
        roots = (lab.root.certificate.public_bytes(Encoding.DER),)
        with RunningProxy(target=target, verify=False, roots=roots) as proxy:
            answer = curl(f"https://localhost:{proxy.port}/", "-4", ca=proxy.root_file(tmp_path))
            (leg,) = (leg for leg in proxy.recording().legs if leg.verification is not None)
    assert answer.exit_code == (0 if becomes_valid else PEER_FAILED_VERIFICATION)
    assert leg.verification is not None
    assert not leg.verification.trusted


def test_the_warning_names_them(home: Path) -> None:
    told = countersign("proxy", "--upstream-insecure", "--target", "nowhere.invalid:443", "--listen", "127.0.0.1:0")
    (warning,) = (line for line in told.err.splitlines() if line.startswith("--upstream-insecure"))
    for part in ("unknown or self-signed issuer", "missing, expired or revoked", "weak signature", "names and dates"):
        assert part in warning
