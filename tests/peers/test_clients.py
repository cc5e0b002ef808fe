"""Real clients through the proxy: what they get, what they say when they refuse, and whom the recording names."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from countersign.proxy import Action, Address, Identity, Mode
from countersign.recorder.recording import LegRole, Party, Recording, Status
from countersign.recorder.wire.events import Side
from countersign.recorder.wire.reading import read_leg
from tests.peers import java
from tests.peers.certs import SERVER_NAMES, Issued, Lab, new_key
from tests.peers.curl import PEER_FAILED_VERIFICATION, curl
from tests.peers.kinds import HOSTS, LAB_NAME, node_says, openssl
from tests.peers.openssl import OpensslServer, openssl_client
from tests.peers.process import Background, run
from tests.peers.witness import Scene, decoded, jvm_trust, witness
from tests.proxy.running import AUTHORITY, RunningProxy

if TYPE_CHECKING:
    from collections.abc import Iterator

VERIFIER = Path(java.__file__).with_name("java") / "RefusingVerifier.java"
NO_PATH = "unable to find valid certification path to requested target"
NO_ISSUER = "No issuer certificate for certificate in certification path found."
NO_CHAIN = "Unable to find certificate chain."


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def roots(lab: Lab) -> tuple[bytes, ...]:
    return (der(lab.root.certificate),)


@pytest.fixture
def www(lab: Lab) -> Iterator[OpensslServer]:
    with OpensslServer(lab.server, mode="www") as server:
        yield server


def in_front_of(server: OpensslServer, lab: Lab, **settings: Any) -> RunningProxy:
    return RunningProxy(target=Address("127.0.0.1", server.port), roots=roots(lab), **settings)


def assert_client_refused(recording: Recording, alert: str | None, *, of_leg: LegRole = LegRole.CLIENT) -> None:
    outcome = recording.outcome
    assert (outcome.status, outcome.broken_by, outcome.leg, outcome.alert) == (
        Status.FAILED,
        Party.CLIENT,
        of_leg,
        alert,
    )
    assert "The client" in outcome.text


# -- curl ----------------------------------------------------------------------------------------------------------

VERSIONS = {"TLSv1.2": ("--tls-max", "1.2"), "TLSv1.3": ("--tlsv1.3",)}

NODE_H2 = """
const [key, cert] = process.argv.slice(1).map((file) => require('fs').readFileSync(file));
const answer = (request, response) => response.end('HTTP/' + request.httpVersion);
const server = require('http2').createSecureServer({key, cert, allowHTTP1: true}, answer);
server.listen(0, '127.0.0.1', () => console.log('port ' + server.address().port));
"""


@pytest.mark.peer("openssl", "curl")
@pytest.mark.parametrize("version", VERSIONS)
def test_curl_reaches_its_target_through_connect(lab: Lab, www: OpensslServer, tmp_path: Path, version: str) -> None:
    with RunningProxy(mode=Mode.CONNECT, roots=roots(lab)) as proxy:
        ca = proxy.root_file(tmp_path)
        url, through = f"https://localhost:{www.port}/", f"http://127.0.0.1:{proxy.port}"
        answer = curl(url, *VERSIONS[version], ca=ca, proxy=through)
        recording = proxy.recording()
    assert answer.status == 200, answer.completed
    assert version.encode() in answer.body
    assert recording.outcome.status is Status.ESTABLISHED
    assert [leg.read().version for leg in recording.legs] == [version, version]
    assert recording.prelude["answer"] == 200


@pytest.mark.peer("curl", "node")
@pytest.mark.parametrize("mode", [Mode.REVERSE, Mode.CONNECT])
def test_curl_speaks_http_2_when_the_target_does(lab: Lab, tmp_path: Path, mode: Mode) -> None:
    with Background("node", "-e", NODE_H2, lab.server.key_pem, lab.server.fullchain_pem) as node:
        port = int(node.wait_for(r"^port (\d+)$")[1])
        where: dict[str, Any] = {"target": Address("127.0.0.1", port)} if mode is Mode.REVERSE else {}
        with RunningProxy(mode=mode, roots=roots(lab), **where) as proxy:
            ca = proxy.root_file(tmp_path)
            if mode is Mode.REVERSE:
                answer = curl(f"https://localhost:{proxy.port}/", "--http2", ca=ca)
            else:
                answer = curl(f"https://localhost:{port}/", "--http2", ca=ca, proxy=f"http://127.0.0.1:{proxy.port}")
            recording = proxy.recording()
    assert (answer.status, answer.http, answer.body) == (200, "2", b"HTTP/2.0"), answer.completed
    assert [leg.read().alpn for leg in recording.legs] == ["h2", "h2"]
    assert recording.outcome.status is Status.ESTABLISHED


@pytest.mark.peer("openssl", "curl")
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("mode", [Mode.REVERSE, Mode.CONNECT])
def test_curl_refuses_a_ca_that_it_does_not_know(
    lab: Lab, www: OpensslServer, tmp_path: Path, mode: Mode, version: str
) -> None:
    if mode is Mode.REVERSE:
        with in_front_of(www, lab) as proxy:
            answer = curl(f"https://localhost:{proxy.port}/", *VERSIONS[version], ca=lab.root_pem)
            recording = proxy.recording()
    else:
        with RunningProxy(mode=mode, roots=roots(lab)) as proxy:
            through = f"http://127.0.0.1:{proxy.port}"
            answer = curl(f"https://localhost:{www.port}/", *VERSIONS[version], ca=lab.root_pem, proxy=through)
            recording = proxy.recording()
    assert answer.exit_code == PEER_FAILED_VERIFICATION
    assert_client_refused(recording, "unknown_ca")
    alert = recording.leg(LegRole.CLIENT).messages[-1]  # type: ignore[union-attr]
    assert (alert.sender, alert.raw) == (Side.CLIENT, bytes((2, 48)))


@pytest.mark.peer("openssl", "curl")
def test_after_a_refusal_the_same_proxy_serves_the_next_client(lab: Lab, www: OpensslServer, tmp_path: Path) -> None:
    with in_front_of(www, lab) as proxy:
        url = f"https://localhost:{proxy.port}/"
        refused, trusting = curl(url, ca=lab.root_pem), curl(url, ca=proxy.root_file(tmp_path))
        recordings = proxy.recordings(2)
    assert (refused.exit_code, trusting.status) == (PEER_FAILED_VERIFICATION, 200)
    assert {recording.outcome.status for recording in recordings} == {Status.FAILED, Status.ESTABLISHED}


# -- openssl, gnutls, node -----------------------------------------------------------------------------------------


@pytest.mark.peer("openssl")
@pytest.mark.parametrize("version", ["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"])
def test_s_client_verifies_the_chain_in_every_version(lab: Lab, tmp_path: Path, version: str) -> None:
    with OpensslServer(lab.server, version=version) as server, in_front_of(server, lab) as proxy:
        root = proxy.root_file(tmp_path)
        client = openssl_client(proxy.engine.addresses[0], ca=root, version=version, send=b"hello\n", until="^olleh$")
        recording = proxy.recording()
    assert client.verify_code == 0
    assert recording.outcome.status is Status.ESTABLISHED


@pytest.mark.peer("openssl", "gnutls-cli")
@pytest.mark.parametrize("version", ["TLS1.2", "TLS1.3"])
def test_gnutls_refuses_with_an_alert_of_its_own(lab: Lab, www: OpensslServer, version: str) -> None:
    with in_front_of(www, lab) as proxy:
        words = ("--priority", f"NORMAL:-VERS-ALL:+VERS-{version}", "--x509cafile", lab.root_pem)
        done = run("gnutls-cli", *words, "-p", str(proxy.port), "localhost")
        recording = proxy.recording()
    assert "The certificate issuer is unknown." in done.stdout
    assert_client_refused(recording, "bad_certificate")


@pytest.mark.peer("openssl", "node")
def test_node_refuses_without_an_alert(lab: Lab, www: OpensslServer, tmp_path: Path) -> None:
    """It judges the certificate after the handshake; in TLS 1.3 it is gone before its Finished is sent."""
    for version in ("TLSv1.2", "TLSv1.3"):
        with in_front_of(www, lab) as proxy:
            scene = Scene(proxy.port, tmp_path, www, lab.root_pem, proxy)
            assert node_says(scene, version, ca=lab.root_pem) == "UNABLE_TO_GET_ISSUER_CERT_LOCALLY"
            recording = proxy.recording()
        if version == "TLSv1.2":
            assert (recording.outcome.status, recording.outcome.broken_by) == (Status.ABANDONED, Party.CLIENT)
        else:
            assert_client_refused(recording, None)


# -- a JVM ---------------------------------------------------------------------------------------------------------


def causes(run: java.JavaRun) -> str:
    assert not run.ok, run.completed
    return "\n".join(run.causes)


def strangers_store(lab: Lab) -> Path:
    """A trust store that knows the target's CA and not ours: a MID Server whose cacerts lacks the device's root."""
    return jvm_trust(lab.root_pem.read_bytes())


def our_store(proxy: RunningProxy) -> Path:
    return jvm_trust(proxy.authority.root_pem)


JVM = pytest.mark.peer("openssl", "java", "javac", "keytool")


@JVM
def test_a_jvm_that_trusts_us_goes_through_connect(lab: Lab, www: OpensslServer) -> None:
    with RunningProxy(mode=Mode.CONNECT, roots=roots(lab)) as proxy:
        url = f"https://localhost:{www.port}/"
        done = java.java_client(url, truststore=our_store(proxy), proxy=proxy.address)
        recording = proxy.recording()
    assert done.ok, done.completed
    assert done.attempts[0].said["status"] == "200"
    assert len(done.attempts[0].peers) == 2
    assert recording.outcome.status is Status.ESTABLISHED


@JVM
def test_a_jvm_without_our_ca_refuses_and_does_not_say_why(lab: Lab, www: OpensslServer) -> None:
    """The Sun provider's one text, and the alert that names no cause."""
    with in_front_of(www, lab) as proxy:
        url = f"https://{LAB_NAME}:{proxy.port}/"
        done = java.java_client(url, truststore=strangers_store(lab), hosts=HOSTS)
        recording = proxy.recording()
    assert NO_PATH in causes(done)
    assert_client_refused(recording, "certificate_unknown")
    assert "inspection" in recording.outcome.text  # whose certificate it had been shown


@JVM
@pytest.mark.peer("bcprov")
def test_bouncy_castle_misses_the_issuer_where_the_root_is_not_sent(lab: Lab, www: OpensslServer) -> None:
    with in_front_of(www, lab) as proxy:
        url = f"https://{LAB_NAME}:{proxy.port}/"
        done = java.java_client(url, truststore=strangers_store(lab), hosts=HOSTS, bouncy_castle=True)
        recording = proxy.recording()
    assert NO_ISSUER in causes(done)
    assert_client_refused(recording, "certificate_unknown")


@JVM
@pytest.mark.peer("bcprov")
def test_bouncy_castle_says_otherwise_where_the_root_is_sent(lab: Lab, tmp_path: Path) -> None:
    """We never send the root; here the target does, and passes through."""
    everything = tmp_path / "chain.pem"
    everything.write_bytes(lab.server.chain_pem.read_bytes() + lab.root_pem.read_bytes())
    strange = jvm_trust(Lab(tmp_path / "other", name="Other").root_pem.read_bytes())
    with (
        OpensslServer(lab.server, "-cert_chain", everything, mode="www", version="TLSv1.2", send_chain=False) as server,
        in_front_of(server, lab, action=Action.PASSTHROUGH) as proxy,
    ):
        url = f"https://{LAB_NAME}:{proxy.port}/"
        done = java.java_client(url, truststore=strange, hosts=HOSTS, bouncy_castle=True)
        recording = proxy.recording()
    assert NO_CHAIN in causes(done)
    assert_client_refused(recording, "certificate_unknown", of_leg=LegRole.THROUGH)
    assert len(recording.legs[0].read().certificates) == 3


@JVM
def test_a_jvm_refuses_another_name_in_the_handshake(lab: Lab) -> None:
    other = lab.issue("other.lab.test")
    with OpensslServer(other, mode="www") as server, in_front_of(server, lab, verify=False) as proxy:
        url = f"https://{LAB_NAME}:{proxy.port}/"
        done = java.java_client(url, truststore=our_store(proxy), hosts=HOSTS)
        recording = proxy.recording()
    assert f"No subject alternative DNS name matching {LAB_NAME} found." in causes(done)
    assert_client_refused(recording, "certificate_unknown")
    verification = recording.leg(LegRole.SERVER).verification  # type: ignore[union-attr]
    assert verification is not None
    assert (verification.trusted, verification.error) == (False, "hostname mismatch")


@JVM
def test_a_host_name_verifier_abandons_what_is_established(lab: Lab, tmp_path: Path) -> None:
    """It refuses after the handshake, so nothing on the wire says so but that no request came."""
    hosts = tmp_path / "hosts"
    hosts.write_text(f"127.0.0.1 {LAB_NAME}\n")
    other = lab.issue("other.lab.test")
    with OpensslServer(other, mode="www") as server, in_front_of(server, lab, verify=False) as proxy:
        properties = {
            "javax.net.ssl.trustStore": our_store(proxy),
            "javax.net.ssl.trustStorePassword": java.PASSWORD,
            "jdk.net.hosts.file": hosts,
        }
        done = run(
            *("java", *java.QUICK_START, "-cp", java._classes().name),
            *(f"-D{name}={value}" for name, value in properties.items()),
            *(VERIFIER, f"https://{LAB_NAME}:{proxy.port}/"),
            timeout=60,
        )
        recording = proxy.recording()
    assert f"HTTPS hostname wrong:  should be <{LAB_NAME}>" in done.stdout, done
    assert (recording.outcome.status, recording.outcome.broken_by) == (Status.ABANDONED, Party.CLIENT)


# -- our verdict on the target's chain -----------------------------------------------------------------------------


def in_days(days: float) -> datetime:
    return datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)


def under_a_ca_without_basic_constraints(lab: Lab) -> Issued:
    """RFC 5280 4.2.1.9: without the extension its key must not be used to verify certificate signatures."""
    key = new_key("ec-p256")
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "No Constraints CA")])
    plain = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(lab.root.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(in_days(-1))
        .not_valid_after(in_days(30))
        .sign(lab.root.key, hashes.SHA256())
    )
    signer = replace(lab.intermediate, certificate=plain, key=key)
    return lab.issue(*SERVER_NAMES, signer=signer)


def elsewhere(lab: Lab) -> Issued:
    return Lab(lab.directory / "elsewhere", name="Elsewhere").server


CHAINS: dict[str, tuple[Any, str | None]] = {
    "good": (lambda lab: lab.server, None),
    "missing-intermediate": (lambda lab: lab.server, "unable to get local issuer certificate"),
    "expired": (lambda lab: lab.issue(*SERVER_NAMES, not_before=in_days(-9), days=5), "certificate has expired"),
    "not-yet-valid": (lambda lab: lab.issue(*SERVER_NAMES, not_before=in_days(5)), "certificate is not yet valid"),
    "wrong-host": (lambda lab: lab.issue("other.lab.test"), "hostname mismatch"),
    "self-signed": (lambda lab: lab.issue(*SERVER_NAMES, signer=None), "self-signed certificate"),
    "unknown-root": (elsewhere, "unable to get local issuer certificate"),
    "ca-without-basic-constraints": (under_a_ca_without_basic_constraints, "invalid CA certificate"),
    "issued-by-a-leaf": (lambda lab: lab.issue(*SERVER_NAMES, signer=lab.server), "invalid CA certificate"),
    "wrong-eku": (lambda lab: lab.issue(*SERVER_NAMES, usages=("client",)), "unsuitable certificate purpose"),
}


@pytest.mark.peer("openssl")
@pytest.mark.parametrize("case", CHAINS)
def test_our_verdict_is_that_of_openssl_verify(lab: Lab, tmp_path: Path, case: str) -> None:
    make, expected = CHAINS[case]
    served: Issued = make(lab)
    whole = case != "missing-intermediate"
    untrusted = ("-untrusted", served.chain_pem) if whole and served.chain_pem.stat().st_size else ()
    options = ("-CAfile", lab.root_pem, "-no-CApath", "-no-CAstore", *untrusted, "-purpose", "sslserver")
    theirs = run("openssl", "verify", *options, "-verify_hostname", "localhost", served.cert_pem)
    said = re.search(r"^error \d+ at (\d+) depth lookup: (.*)$", theirs.stdout + theirs.stderr, re.MULTILINE)

    with OpensslServer(served, send_chain=whole) as server, in_front_of(server, lab) as proxy:
        openssl_client(proxy.engine.addresses[0], ca=proxy.root_file(tmp_path))
        recording = proxy.recording()
    leg = recording.leg(LegRole.SERVER)
    assert leg is not None
    ours = leg.verification
    assert ours is not None
    assert ours.trusted is (theirs.returncode == 0) is (expected is None)
    if said is None:
        assert recording.outcome.status is not Status.FAILED
        return
    # OpenSSL 4 has more to say in places: "... or the system clock is incorrect".
    assert (ours.error.startswith(said[2]), ours.depth) == (True, int(said[1]))  # type: ignore[union-attr]
    assert said[2] == expected
    assert (recording.outcome.status, recording.outcome.broken_by) == (Status.FAILED, Party.PROXY)
    assert said[2] in recording.outcome.text


# -- the chain on the wire -----------------------------------------------------------------------------------------


def sent_chain(capture: Path, keylog: Any, sender: Side) -> list[bytes]:
    (messages,) = decoded(capture, keylog)
    return [sent.der for sent in read_leg(messages).certificates if sent.sender is sender]


@pytest.mark.peer("openssl")
@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_the_chain_on_the_wire_is_leaf_and_intermediate(lab: Lab, tmp_path: Path, version: str) -> None:
    """And our own certificate goes alone where it was given alone, although its issuers are in the trust store."""
    settings: dict[str, Any] = {
        "roots": (der(lab.root.certificate), der(lab.intermediate.certificate)),
        "identity": Identity((der(lab.client.certificate),), lab.client.key),
    }
    both = tmp_path / "both.pem"
    both.write_bytes(lab.root_pem.read_bytes() + lab.intermediate.cert_pem.read_bytes())
    target = OpensslServer(lab.server, verify_ca=both)
    witnessed = witness(openssl(version=version), target, tmp_path, target_root=lab.root_pem, **settings)
    assert witnessed.recordings[0].outcome.status is Status.ESTABLISHED
    keylog = witnessed.own_secrets
    leaf, *above = sent_chain(witnessed.captures[LegRole.CLIENT], keylog, Side.SERVER)
    assert above == [AUTHORITY.issuer.der]
    assert leaf == witnessed.legs(LegRole.CLIENT)[0].read().certificates[0].der
    assert sent_chain(witnessed.captures[LegRole.SERVER], keylog, Side.CLIENT) == [der(lab.client.certificate)]


@pytest.mark.peer("openssl")
def test_a_server_of_ours_that_asks_for_certificates_completes_no_chain(tmp_path: Path) -> None:
    """OpenSSL fills up a served chain from its trust store where it also verifies clients."""
    with RunningProxy(asking=True) as proxy:
        assert proxy.target is not None
        pki = proxy.target.pki
        shown = openssl_client(f"127.0.0.1:{proxy.target.asking_port}", "-showcerts", name="localhost")
    (message,) = (m for m in shown.messages if m.type == "certificate" and m.sender == "server")
    assert [certificate in message.raw for certificate in pki.server.chain] == [True, True]
    assert shown.output.count("BEGIN CERTIFICATE") == len(pki.server.chain) == 2
    assert pki.public.root.der not in message.raw
