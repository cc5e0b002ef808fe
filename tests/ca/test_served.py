"""Recipes on the wire: exactly what they say is sent, and clients refuse what they refuse in a file."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from countersign.ca import Authority, KeyPool
from countersign.ca.pem import to_pem
from countersign.ca.recipes import CertSpec, MadeChain, Recipe, Send, catalogue
from countersign.proxy._openssl import TlsTrouble
from countersign.recorder.certificates import cut_certificate
from tests.ca import judges
from tests.ca.judges import ACCEPTS, Case
from tests.ca.odd_certificates import odd, rsa_key
from tests.ca.served import judged_in_memory, serving
from tests.peers.java import java_client, java_truststore
from tests.peers.openssl import openssl_client

if TYPE_CHECKING:
    from pathlib import Path

HOST = "host.example.test"
TIMELESS = {"leaf-expires-now"}  # by the time it is served it has
SERVERS = [each.id for each in catalogue().values() if each.role == "server" and each.id not in TIMELESS]
SERVED = [each for each in SERVERS if catalogue()[each].served]

# The shapes of a chain, whatever its certificates say.
SHAPES = [each for each in SERVED if each.startswith("sent-") or each == "plain"]


@cache
def authority() -> Authority:
    return Authority.make()


@cache
def pool() -> KeyPool:
    return KeyPool()


@cache
def made(name: str) -> MadeChain:
    recipe = catalogue()[name]
    return recipe.make(authority(), name=recipe.host or HOST, pool=pool())


@pytest.mark.peer("openssl")
@pytest.mark.parametrize("name", SERVED)
@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_our_client_trusts_what_openssl_verify_trusts(tmp_path: Path, name: str, version: str) -> None:
    """T17, over TLS, with the OpenSSL inside: the same verdict as the program's, and the chain as it was made."""
    recipe, chain = catalogue()[name], made(name)
    host = recipe.host or HOST
    if (name, version) == ("leaf-brainpool", "1.2"):
        pytest.skip("no group of OpenSSL's usual offer is on that curve")
    if (name, version) == ("sent-leaf-last", "1.2"):
        pytest.skip("the root's key usage keeps OpenSSL from serving it in TLS 1.2")
    got, said = judged_in_memory(chain, host, version)
    level = ("-auth_level", "1")
    verdict = judges.openssl(Case(chain.chain, chain.anchors, host, datetime.now(UTC)), tmp_path, *level)
    if said is None:
        assert got == chain.chain
    assert (said is None) == (verdict == ACCEPTS and not recipe.handshake)
    if recipe.handshake:
        assert recipe.handshake in (said or "")


@pytest.mark.parametrize("name", [each for each in SERVERS if each not in SERVED])
def test_what_is_said_not_to_be_served_openssl_does_not_serve(name: str) -> None:
    with pytest.raises((TlsTrouble, ValueError)):
        judged_in_memory(made(name), HOST)


@pytest.mark.peer("openssl")
@pytest.mark.parametrize("name", [*SHAPES, "leaf-key-not-in-use", "leaf-rsa-key-not-in-use", "self-signed", "loop"])
@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_exactly_these_certificates_are_sent_in_that_order(tmp_path: Path, name: str, version: str) -> None:
    """As ``s_client -showcerts`` prints them and as our recorder saw them; and the client ends as it has to."""
    recipe, chain = catalogue()[name], made(name)
    if name == "sent-leaf-last" and version == "1.2":
        pytest.skip("the root's key usage keeps OpenSSL from serving it in TLS 1.2")
    (tmp_path / "root.pem").write_bytes(b"".join(map(to_pem, chain.anchors)))
    with serving(chain, version) as (target, seen):
        client = openssl_client(
            str(target.address),
            "-showcerts",
            "-verify",
            "100",
            ca=tmp_path / "root.pem",
            name=HOST,
            version=f"TLSv{version}",
        )
    assert seen.sent == chain.chain
    if recipe.handshake == "excessive message size":
        assert recipe.handshake in client.completed.stderr
        return
    if recipe.handshake:
        assert recipe.handshake in client.completed.stderr
        assert seen.trouble is not None
        assert "decrypt error" in seen.trouble
    shown = re.findall(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n", client.output, re.DOTALL)
    refused = re.search(r"verify error:num=(\d+)", client.completed.stderr)
    assert (refused[1] if refused else ACCEPTS) == recipe.openssl.split()[0]
    if shown:  # a client that refuses prints nothing in some versions
        ders = [x509.load_pem_x509_certificate(each.encode()).public_bytes(Encoding.DER) for each in shown]
        assert ders == list(chain.chain)


@pytest.mark.peer("java", "javac", "keytool")
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("plain", None),
        ("sent-with-root", None),
        ("sent-reversed", None),
        ("sent-leaf-only", "unable to find valid certification path"),
        ("sent-20-certificates", "exceeds the maximum allowed length (10)"),
        ("sent-64-kib", "exceeds the maximum allowed size (32768)"),
        ("leaf-key-not-in-use", "Invalid CertificateVerify"),
    ],
)
def test_a_jvm_takes_or_refuses_the_shape(tmp_path: Path, name: str, expected: str | None) -> None:
    chain = made(name)
    (tmp_path / "root.pem").write_bytes(b"".join(map(to_pem, chain.anchors)))
    store = java_truststore(tmp_path / "roots.p12", tmp_path / "root.pem")
    with serving(chain) as (target, seen):
        port = target.address.port
        done = java_client(f"{HOST}:{port}", truststore=store, hosts={HOST: "127.0.0.1"})
    assert seen.sent == chain.chain
    if expected is None:
        assert done.ok
    else:
        assert expected in " ".join(done.causes)


# -- what costs --------------------------------------------------------------------------------------------------

_MIRRORS = [
    CertSpec(name=f"mirror-{n}", subject_of="intermediate", key_of="intermediate", issuer=f"mirror-{(n + 1) % 150}")
    for n in range(150)
]
_COSTLY = {
    "150 intermediates that cross-sign each other": Recipe(
        other=tuple(_MIRRORS), send=Send(order=("leaf", *(each.name for each in _MIRRORS)))
    ),
    "200 certificates": Recipe(send=Send(count=200)),
    "an issuer with RSA 16384": Recipe(
        intermediate=CertSpec(public_key=rsa_key(16384)),
        leaf=CertSpec(inner_algorithm="rsa:sha256", outer_algorithm="rsa:sha256"),
    ),
    "an issuer with RSA 16384 and a long exponent": Recipe(
        intermediate=CertSpec(public_key=rsa_key(16384, 1 << 64 | 1)),
        leaf=CertSpec(inner_algorithm="rsa:sha256", outer_algorithm="rsa:sha256"),
    ),
    "an issuer with an explicit curve": Recipe(
        intermediate=CertSpec(public_key=cut_certificate(odd()["explicit curve"]).public_key)
    ),
    "10,000 alternative names": Recipe(leaf=CertSpec(more_names=10_000)),
}


@pytest.mark.parametrize("name", _COSTLY)
def test_a_costly_chain_gets_its_verdict_within_a_second(name: str) -> None:
    """T18: nothing in it is trusted, and finding that out stops nobody."""
    chain = _COSTLY[name].make(authority(), name=HOST)
    begun = time.process_time()
    _, said = judged_in_memory(chain, HOST)
    assert time.process_time() - begun < 1
    assert (said is None) == (name == "200 certificates")
