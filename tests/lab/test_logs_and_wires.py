"""The rows that need the lab: a MID-like client, or a JVM's server, and what was captured beside its debug log.

Both are imported and diagnosed, and say the same of each handshake. Those that need no more than a JVM and a server are
in ``tests/recorder/javalog/test_real_jvm.py``.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509 import load_der_x509_certificate

from countersign.ca import Authority, Minted, Plan, issue
from countersign.ca.pem import to_pem
from countersign.ca.revocation import Reason
from countersign.ca.stores import StoreType
from countersign.findings.diagnosing import diagnose
from countersign.lab.instance import Policy
from countersign.lab.target import HOST
from countersign.proxy import Mode
from countersign.proxy.orders import NOTHING_ORDERED, ChainOrders, Orders
from countersign.proxy.ways.addressing import Overrides
from countersign.recorder.files.importing import import_files
from countersign.recorder.recording import Recording, Status
from tests.ca.revocation.lab import NAME, answered
from tests.lab.instance_lab import instance, pki
from tests.lab.mid import PASSWORD, classes, key_store, mids, trust_store
from tests.peers.certs import Issued
from tests.peers.curl import curl
from tests.peers.java import QUICK_START
from tests.peers.openssl import OpensslServer
from tests.peers.process import Background
from tests.peers.relay import Relay
from tests.proxy.ordered import Scripted
from tests.proxy.running import AUTHORITY, RunningProxy
from tests.proxy.test_upgrading import Slapd

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from tests.peers.certs import Lab

SERVER = "server.lab.test"
INSTALL = "install.lab.test"
IN_CLEAR = "-Djdk.tls.client.protocols=TLSv1.2"
DEBUG = "-Djavax.net.debug=ssl:handshake"
ANONYMOUS = ("--set", "ldap.user=", "--set", "ldap.password=")


@dataclass(frozen=True, slots=True)
class Row:
    """Clients that go by one relay one after the other, and the cause of each of their handshakes, in order."""

    relay: Relay
    capture: Path
    clients: Sequence[Sequence[object]]
    causes: Sequence[str | None]
    notes: Sequence[set[str]] = ()


def recordings(path: Path) -> list[Recording]:
    found = [one for one in import_files([path]) if isinstance(one, Recording)]
    return sorted(found, key=lambda one: one.started)


def random(recording: Recording) -> bytes:
    found = recording.legs[0].read().client_random
    assert found is not None
    return found


def diagnosed(found: Iterable[Recording]) -> list[tuple[str | None, list[str]]]:
    """The cause of each, and all that is found; what is known of the same target before goes with it."""
    before: list[Recording] = []
    said = []
    for one in found:
        diagnosis = diagnose(one, history=before)
        every = [each.id for each in diagnosis.findings if each.id != "client-says"]
        said.append((diagnosis.cause.id if diagnosis.cause is not None else None, every))
        before += [one] if one.outcome.status is Status.ESTABLISHED else []
    return said


def serving(folder: Path, shown: Minted) -> Issued:
    """As files that OpenSSL's server reads."""
    certificates = [load_der_x509_certificate(der) for der in shown.chain]
    key = shown.key
    assert isinstance(key, EllipticCurvePrivateKey)
    made = Issued(certificates[0], key, tuple(certificates[1:]), folder)
    made.cert_pem.write_bytes(to_pem(shown.chain[0]))
    made.chain_pem.write_bytes(b"".join(map(to_pem, shown.chain[1:])))
    made.key_pem.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return made


@pytest.mark.peer("slapd", "openssl", "java", "javac")
async def test_of_what_a_mid_server_meets_its_debug_log_and_the_wire_say_the_same(lab: Lab, tmp_path: Path) -> None:
    """One JVM for all of them: its log is one file with the handshakes of every row."""
    root = lab.root.certificate.public_bytes(Encoding.DER)
    stranger = lab.issue(common_name="Elsewhere", signer=None, ca=True).certificate.public_bytes(Encoding.DER)
    trusting = ("--truststore", trust_store(tmp_path, root, pki().public.root.der, AUTHORITY.root.der))
    without = ("--truststore", trust_store(tmp_path, stranger, name="stranger.p12"))
    untouched = ("--truststore", trust_store(tmp_path, root, name="public.p12"))
    shown = ("--keystore", key_store(tmp_path, pki().client))
    rows: dict[str, Row] = {}
    clients: list[tuple[object, ...]]
    client: tuple[object, ...]
    log = tmp_path / "wrapper.log"

    async with AsyncExitStack() as opened:

        def by(port: int) -> tuple[Relay, Path]:
            capture = tmp_path / f"{len(rows)}.pcap"
            return opened.enter_context(Relay(("127.0.0.1", port), pcap=capture)), capture

        directory = opened.enter_context(Slapd(lab))
        for name, port, upgrade in (
            ("R5: LDAPS", directory.secured.port, ()),
            ("R5: StartTLS", directory.plain.port, ("--start-tls",)),
        ):
            relay, capture = by(port)
            client = ("--ldap", f"{SERVER}:{relay.port}", *upgrade, *without, *ANONYMOUS)
            rows[name] = Row(relay, capture, [client], ["untrusted-root"])

        chain = await opened.enter_async_context(answered(tmp_path / "chain", plan=Plan(levels=2)))
        chain.responder.revoke(chain.minted.chain[1], reason=Reason.CA_COMPROMISE)
        relay, capture = by(opened.enter_context(OpensslServer(serving(chain.files, chain.minted), mode="www")).port)
        trust = ("--truststore", trust_store(tmp_path, chain.responder.authority.root.der, name="revoking.p12"))
        client = ("--url", f"https://{NAME}:{relay.port}", "--plain", *trust)
        rows["R7: a revoked intermediate"] = Row(relay, capture, [client], ["revoked"])

        other = opened.enter_context(OpensslServer(lab.issue("other.lab.test"), mode="www"))
        relay, capture = by(other.port)
        releases = ("quebec", "paris-p2")
        client = ("--url", f"https://{SERVER}:{relay.port}", "--plain", *trusting)
        clients = [(*client, "--profile", release) for release in releases]
        rows["R8: checks of releases"] = Row(relay, capture, clients, ["wrong-host-name", None])

        both = opened.enter_context(OpensslServer(lab.issue(SERVER, INSTALL), mode="www"))
        device = opened.enter_context(
            RunningProxy(mode=Mode.CONNECT, roots=(root,), resolve=Overrides.parse([f"{SERVER}:{both.port}:127.0.0.1"]))
        )
        relay, capture = by(device.port)
        client = ("--url", f"https://{SERVER}:{both.port}", "--plain", "--proxy", f"127.0.0.1:{relay.port}")
        clients = [(*client, *untouched), (*client, *trusting)]
        rows["R10: an explicit proxy that inspects"] = Row(relay, capture, clients, ["untrusted-inspection-ca", None])

        relay, capture = by(both.port)
        clients = [("--url", f"https://{name}:{relay.port}", "--plain", *trusting) for name in (SERVER, INSTALL)]
        rows["R11: one certificate for several names"] = Row(relay, capture, clients, [None, None])

        unpublished = await opened.enter_async_context(instance(publishing=300))
        relay, capture = by(unpublished.port)
        client = ("--url", f"https://{HOST}:{relay.port}", *trusting, *shown)
        rows["R12: CA records that do not exist yet"] = Row(
            relay, capture, [client], [None], [{"no-client-certificate-empty-list"}]
        )

        barred = await opened.enter_async_context(instance(policy=Policy.without("chain")))
        relay, capture = by(barred.port)
        client = ("--url", f"https://{HOST}:{relay.port}", *trusting, *shown)
        rows["R16: a policy off its defaults"] = Row(
            relay, capture, [client], [None] * 3, [set(), set(), {"no-client-certificate"}]
        )

        elsewhere = Orders(chain=ChainOrders(authority=Authority.make()))
        rotating = opened.enter_context(RunningProxy(director=Scripted([NOTHING_ORDERED, elsewhere])))
        relay, capture = by(rotating.port)
        client = ("--url", f"https://{HOST}:{relay.port}", "--plain", *trusting)
        rows["R20: a root that changes in mid-life"] = Row(
            relay, capture, [client] * 2, [None, "untrusted-inspection-ca"]
        )

        await mids(
            *(client for row in rows.values() for client in row.clients),
            folder=tmp_path,
            hosts=(HOST, SERVER, INSTALL, NAME),
            properties=(DEBUG, IN_CLEAR),
            debug=log,
        )
    told = {random(one): one for one in recordings(log)}
    for name, row in rows.items():
        wire = recordings(row.capture)
        heard = diagnosed(told.pop(random(one)) for one in wire)
        seen = diagnosed(wire)
        assert (name, heard) == (name, seen)
        assert (name, [cause for cause, _ in seen]) == (name, row.causes)
        for (_, every), notes in zip(seen, row.notes, strict=bool(row.notes)):
            assert notes <= set(every), name
    assert not told


@pytest.mark.peer("java", "javac", "curl")
def test_of_a_jvm_s_server_its_debug_log_and_the_wire_say_the_same(tmp_path: Path) -> None:
    """R19: what the client refuses is told by the server's log as well, for it has printed what it sent."""
    made = issue(pki().public, SERVER)
    store = key_store(tmp_path, Minted(made.key, made.chain[:1]), StoreType.JCEKS)
    capture, log, root = tmp_path / "wire.pcap", tmp_path / "wrapper.log", tmp_path / "root.pem"
    root.write_bytes(pki().public.root_pem)
    with Background("java", *QUICK_START, DEBUG, "-cp", classes().name, "MidWebServer", store, PASSWORD) as server:
        port = int(server.wait_for(r"listening on (\d+)")[1])
        with Relay(("127.0.0.1", port), pcap=capture) as relay:
            there = ("--connect-to", f"{SERVER}:{relay.port}:127.0.0.1:{relay.port}")
            answer = curl(f"https://{SERVER}:{relay.port}/api/mid/em/jsonv2", "--tls-max", "1.2", *there, ca=root)
            server.wait_for(r"Fatal \((?s:.)*?^\)$")  # the whole entry
        log.write_text(server.stderr)
    assert not answer.ok
    heard, seen = diagnosed(recordings(log)), diagnosed(recordings(capture))
    assert heard == seen
    assert [cause for cause, _ in seen] == ["missing-intermediate"]
