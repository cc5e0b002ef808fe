"""A target that asks for a client certificate, through the proxy: real servers and real clients on both sides."""

from __future__ import annotations

import base64
import contextlib
import select
import socket
import ssl
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from countersign.ca import Authority, Plan
from countersign.ca.signer import impostor_key
from countersign.errors import UserError
from countersign.findings.diagnosing import diagnose
from countersign.proxy import Address, Identity, Limits, Mtls, Settings
from countersign.proxy.mtls import Exchange
from countersign.proxy.relay import TlsDirection
from countersign.recorder.recording import FailureCode, LegRole, Party, Recording, Status, to_json
from countersign.recorder.wire.events import Side
from tests.peers.curl import curl
from tests.peers.java import PASSWORD, java_client, java_truststore
from tests.peers.openssl import OpensslServer, openssl_client
from tests.peers.process import Background, run
from tests.proxy.running import AUTHORITY, RunningProxy
from tests.proxy.wire import TLS12, TLS13, Target, client_hello, connect, in_records, server_context
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.peers.certs import Issued, Lab

VERSIONS = ("TLSv1.2", "TLSv1.3")

pytestmark = pytest.mark.peer("openssl")


@cache
def clients() -> Authority:
    """The client CA of the proxy under test."""
    return Authority.make(Plan(name="countersign clients"))


@contextmanager
def relaying(
    lab: Lab,
    tmp_path: Path,
    *more: str,
    names: Sequence[Path] = (),
    version: str | None = None,
    insist: bool = True,
    mtls: Mtls | None = Mtls.RELAY,
    trust: Path | None = None,
    mode: Literal["rev", "www", "plain"] = "rev",
    **settings: Any,
) -> Iterator[tuple[OpensslServer, RunningProxy]]:
    """``s_server`` that asks under the names of these certificates, and the proxy in front of it.

    It trusts the proxy's client CA unless told another root.
    """
    root = tmp_path / "client-root.pem"
    root.write_bytes(clients().root_pem)
    args: list[str | Path] = ["-Verify" if insist else "-verify", "5", "-verifyCAfile", trust or root]
    args += ["-verify_return_error", *more]
    if names:
        asked = tmp_path / "asked.pem"
        asked.write_bytes(b"".join(path.read_bytes() for path in names))
        args += ["-CAfile", asked]
    with (
        OpensslServer(lab.server, *args, version=version, mode=mode) as server,
        RunningProxy(
            target=Address("127.0.0.1", server.port),
            roots=(lab.root.certificate.public_bytes(Encoding.DER),),
            mtls=mtls,
            clients=clients(),
            **settings,
        ) as proxy,
    ):
        yield server, proxy


def speak(proxy: RunningProxy, identity: Issued | None, tmp_path: Path, version: str | None = None) -> str:
    """What a client gets that says ``ping``; s_server gives it back reversed."""
    client = openssl_client(
        f"127.0.0.1:{proxy.port}",
        *(() if identity is None else ("-cert", identity.fullchain_pem, "-key", identity.key_pem)),
        *(() if identity is None or not identity.chain_pem.stat().st_size else ("-cert_chain", identity.chain_pem)),
        ca=proxy.root_file(tmp_path),
        version=version,
        send=b"ping\n",
        until="gnip|alert|closed|errno",
        timeout=10,
    )
    return client.output + client.completed.stderr


def requests(recording: Recording) -> tuple[bytes, bytes]:
    """The CertificateRequest of the target and ours, as they were on the wire."""
    found = []
    for role in (LegRole.SERVER, LegRole.CLIENT):
        leg = recording.leg(role)
        assert leg is not None
        found.append(next(m.raw for m in leg.messages if m.code == 13 and m.sender is Side.SERVER))
    return found[0], found[1]


def names_on(recording: Recording) -> tuple[list[bytes], list[bytes]]:
    """The names in both requests, byte for byte."""
    asked, ours = (recording.mtls[key]["certificate_authorities"] for key in ("asked", "asked_of_client"))
    server, client = requests(recording)
    for shown, raw in ((asked, server), (ours, client)):
        for name in shown:
            assert bytes.fromhex(name["der"]) in raw
    return [bytes.fromhex(n["der"]) for n in asked], [bytes.fromhex(n["der"]) for n in ours]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_certificate_gets_through_signed_again(lab: Lab, tmp_path: Path, version: str) -> None:
    with relaying(lab, tmp_path, names=(lab.root.cert_pem, lab.intermediate.cert_pem), version=version) as (_, proxy):
        said = speak(proxy, lab.client, tmp_path)
        recording = proxy.recording()
    assert "gnip" in said
    assert recording.outcome.status is Status.ESTABLISHED, recording.outcome.text
    asked, ours = names_on(recording)
    assert (
        asked
        == ours
        == [
            lab.root.certificate.subject.public_bytes(),
            lab.intermediate.certificate.subject.public_bytes(),
        ]
    )
    mtls = recording.mtls
    assert mtls["chosen"]["sha256"] == lab.client.certificate.fingerprint(_sha256()).hex()
    assert "Lab Issuing CA" in mtls["why"]
    presented = x509.load_der_x509_certificate(base64.b64decode(mtls["presented"]["der"]))
    mine = lab.client.certificate
    assert presented.subject == mine.subject
    assert presented.not_valid_before_utc == mine.not_valid_before_utc
    assert presented.not_valid_after_utc == mine.not_valid_after_utc
    for kind in (x509.ExtendedKeyUsage, x509.KeyUsage):
        assert presented.extensions.get_extension_for_class(kind) == mine.extensions.get_extension_for_class(kind)
    assert presented.public_key() != mine.public_key()
    assert openssl_verifies(recording, tmp_path)
    to_json(recording)


def _sha256() -> Any:
    from cryptography.hazmat.primitives.hashes import SHA256

    return SHA256()


def openssl_verifies(recording: Recording, tmp_path: Path) -> bool:
    """``openssl verify`` on what the proxy presented, with the client CA's root as trust."""
    server = recording.leg(LegRole.SERVER)
    assert server is not None
    sent = [c.der for c in server.read().certificates if c.sender is Side.CLIENT]
    files = []
    for number, der in enumerate(sent):
        files.append(tmp_path / f"presented-{number}.pem")
        files[-1].write_bytes(x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM))
    root = tmp_path / "verify-root.pem"
    root.write_bytes(clients().root_pem)
    above = [word for file in files[1:] for word in ("-untrusted", file)]
    done = run("openssl", "verify", "-purpose", "sslclient", "-CAfile", root, *above, files[0])
    return done.returncode == 0 and "OK" in done.stdout


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("key", ["rsa-2048", "ec-p384", "ed25519"])
def test_the_key_is_of_the_type_and_size_of_the_clients(lab: Lab, tmp_path: Path, version: str, key: Any) -> None:
    client = lab.issue(common_name="another", usages=("client",), key=key)
    with relaying(lab, tmp_path, version=version) as (_, proxy):
        assert "gnip" in speak(proxy, client, tmp_path)
        recording = proxy.recording()
    presented = x509.load_der_x509_certificate(base64.b64decode(recording.mtls["presented"]["der"]))
    theirs, ours = client.certificate.public_key(), presented.public_key()
    assert type(ours) is type(theirs)
    assert getattr(ours, "key_size", None) == getattr(theirs, "key_size", None)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("which", ["empty", "root only", "others only"])
def test_the_list_of_names_is_the_targets(lab: Lab, tmp_path: Path, version: str, which: str) -> None:
    other = lab.issue(common_name="Somebody Else's CA", signer=None, ca=True)
    names = {"empty": (), "root only": (lab.root.cert_pem,), "others only": (other.cert_pem,)}[which]
    with relaying(lab, tmp_path, names=names, version=version) as (_, proxy):
        assert "gnip" in speak(proxy, lab.client, tmp_path)  # s_client sends what it was given, whatever is asked
        recording = proxy.recording()
    asked, ours = names_on(recording)
    assert asked == ours
    assert len(asked) == len(names)
    assert recording.mtls["asked"]["certificate_authorities_count"] == len(names)
    expected = {
        "empty": "named no authority",
        "root only": "certificate 1 of its chain",
        "others only": "none of them is an issuer",
    }
    assert expected[which] in recording.mtls["why"]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_without_a_certificate_has_none_presented(lab: Lab, tmp_path: Path, version: str) -> None:
    with relaying(lab, tmp_path, version=version, insist=False) as (_, proxy):
        assert "gnip" in speak(proxy, None, tmp_path)
        recording = proxy.recording()
    assert recording.mtls["chosen"] == recording.mtls["presented"] == {"certificates": 0}
    assert recording.outcome.status is Status.ESTABLISHED


@pytest.mark.parametrize(("version", "alert"), [("TLSv1.2", "handshake_failure"), ("TLSv1.3", "certificate_required")])
def test_a_target_that_insists_refuses_it(lab: Lab, tmp_path: Path, version: str, alert: str) -> None:
    with relaying(lab, tmp_path, version=version) as (_, proxy):
        said = speak(proxy, None, tmp_path)
        recording = proxy.recording()
    assert "gnip" not in said
    assert recording.outcome.broken_by is Party.TARGET
    assert recording.outcome.alert == alert
    if version == "TLSv1.2":
        assert "handshake failure" in said  # the target's alert is the client's, before its Finished


@pytest.mark.parametrize("version", VERSIONS)
def test_a_server_certificate_stays_one_and_is_refused(lab: Lab, tmp_path: Path, version: str) -> None:
    """R14: error 26, unsuitable certificate purpose."""
    wrong = lab.issue(common_name="wrong", usages=("server",))
    with relaying(lab, tmp_path, version=version) as (server, proxy):
        said = speak(proxy, wrong, tmp_path)
        recording = proxy.recording()
        server.wait_for("verify error:num=26")
    assert "gnip" not in said
    assert recording.outcome.broken_by is Party.TARGET
    assert recording.outcome.alert == "unsupported_certificate"
    if version == "TLSv1.2":
        assert "unsupported certificate" in said


@pytest.mark.parametrize("version", VERSIONS)
def test_an_expired_certificate_stays_expired(lab: Lab, tmp_path: Path, version: str) -> None:
    """T19, R15."""
    expired = lab.issue(
        common_name="late", usages=("client",), not_before=datetime.now(UTC) - timedelta(days=30), days=10
    )
    with relaying(lab, tmp_path, version=version) as (server, proxy):
        assert "gnip" not in speak(proxy, expired, tmp_path)
        recording = proxy.recording()
        server.wait_for("verify error:num=10")
    assert recording.outcome.alert == "certificate_expired"
    assert recording.outcome.broken_by is Party.TARGET


@pytest.mark.parametrize("version", VERSIONS)
def test_a_certificate_that_signed_itself_gets_no_issuer_from_us(lab: Lab, tmp_path: Path, version: str) -> None:
    alone = lab.issue(common_name="alone", usages=("client",), signer=None)
    with relaying(lab, tmp_path, version=version) as (server, proxy):
        assert "gnip" not in speak(proxy, alone, tmp_path)
        recording = proxy.recording()
        server.wait_for("verify error:num=18")
    presented = x509.load_der_x509_certificate(base64.b64decode(recording.mtls["presented"]["der"]))
    assert presented.issuer == presented.subject == alone.certificate.subject
    presented.verify_directly_issued_by(presented)


def test_each_client_has_its_own_certificate_presented(lab: Lab, tmp_path: Path) -> None:
    """No session of one client is resumed for another."""
    other = lab.issue(common_name="other", usages=("client",))
    with relaying(lab, tmp_path) as (_, proxy):
        for identity in (lab.client, other, lab.client):
            assert "gnip" in speak(proxy, identity, tmp_path)
        subjects = [each.mtls["presented"]["subject"] for each in proxy.recordings(3)]
        digests = [each.mtls["presented"]["sha256"] for each in proxy.recordings(3)]
    assert subjects == ["CN=Lab Client,O=Lab", "CN=other,O=Lab", "CN=Lab Client,O=Lab"]
    assert digests[0] == digests[2] != digests[1]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_target_that_asks_nothing_is_not_asked_for(lab: Lab, tmp_path: Path, version: str) -> None:
    with (
        OpensslServer(lab.server, version=version) as server,
        RunningProxy(
            target=Address("127.0.0.1", server.port),
            roots=(lab.root.certificate.public_bytes(Encoding.DER),),
            mtls=Mtls.RELAY,
            clients=clients(),
        ) as proxy,
    ):
        assert "gnip" in speak(proxy, lab.client, tmp_path)
        assert proxy.recording().mtls == {}


@pytest.mark.parametrize("version", VERSIONS)
def test_strip_answers_with_nothing_and_asks_nobody(lab: Lab, tmp_path: Path, version: str) -> None:
    with relaying(lab, tmp_path, version=version, insist=False, mtls=Mtls.STRIP) as (_, proxy):
        assert "gnip" in speak(proxy, lab.client, tmp_path)
        mtls = proxy.recording().mtls
    assert (mtls["mode"], mtls["asked_of_client"], mtls["presented"]) == ("strip", None, {"certificates": 0})


@pytest.mark.parametrize("version", VERSIONS)
def test_present_shows_what_was_given(lab: Lab, tmp_path: Path, version: str) -> None:
    given = Identity((lab.client.certificate.public_bytes(Encoding.DER),), lab.client.key)
    trust = tmp_path / "both.pem"
    trust.write_bytes(lab.root_pem.read_bytes() + lab.intermediate.cert_pem.read_bytes())
    with relaying(lab, tmp_path, version=version, mtls=None, identity=given, trust=trust) as (_, proxy):
        assert "gnip" in speak(proxy, None, tmp_path)
        mtls = proxy.recording().mtls
    assert (mtls["mode"], mtls["asked_of_client"]) == ("present", None)
    assert mtls["presented"]["subject"] == "CN=Lab Client,O=Lab"


@pytest.mark.parametrize("version", VERSIONS)
def test_bypass_begins_anew_and_remembers(lab: Lab, tmp_path: Path, version: str) -> None:
    trust = tmp_path / "both.pem"
    trust.write_bytes(lab.root_pem.read_bytes() + lab.intermediate.cert_pem.read_bytes())
    with relaying(lab, tmp_path, version=version, mtls=Mtls.BYPASS, trust=trust) as (server, proxy):
        for _ in range(2):
            client = openssl_client(
                f"127.0.0.1:{proxy.port}", ca=lab.root_pem, identity=lab.client, send=b"ping\n", until="gnip"
            )
            assert "gnip" in client.output  # with the target's own certificate, and the client's
        first, second = proxy.recordings(2)
        accepted = server.output.count("ClientHello")
    assert accepted == 3
    for recording in (first, second):
        assert recording.action == "passthrough"
        assert [leg.role for leg in recording.legs] == [LegRole.THROUGH]
        assert recording.outcome.status is Status.ESTABLISHED, recording.outcome.text
        assert recording.mtls["mode"] == "bypass"
    assert "made again" in first.mtls["why"]
    assert "before" in second.mtls["why"]


@pytest.mark.peer("curl")
@pytest.mark.parametrize("version", VERSIONS)
def test_curl_with_a_certificate(lab: Lab, tmp_path: Path, version: str) -> None:
    root = tmp_path / "client-root.pem"
    root.write_bytes(clients().root_pem)
    args = ("-Verify", "5", "-verifyCAfile", root, "-verify_return_error")
    with (
        OpensslServer(lab.server, *args, mode="www", version=version) as server,
        RunningProxy(
            target=Address("127.0.0.1", server.port),
            roots=(lab.root.certificate.public_bytes(Encoding.DER),),
            mtls=Mtls.RELAY,
            clients=clients(),
        ) as proxy,
    ):
        answer = curl(
            f"https://localhost:{proxy.port}/",
            "--cert", lab.client.fullchain_pem, "--key", lab.client.key_pem,
            ca=proxy.root_file(tmp_path),
        )  # fmt: skip
        assert answer.ok, answer
        assert proxy.recording().mtls["presented"]["subject"] == "CN=Lab Client,O=Lab"


def test_settings_that_contradict_each_other_are_refused(lab: Lab) -> None:
    given = Identity((lab.client.certificate.public_bytes(Encoding.DER),), lab.client.key)
    at: dict[str, Any] = {"listen": Address("127.0.0.1", 0), "target": Address("127.0.0.1", 1)}
    with pytest.raises(UserError, match="--mtls present needs"):
        Settings(**at, mtls=Mtls.PRESENT)
    for mode in (Mtls.RELAY, Mtls.STRIP, Mtls.BYPASS):
        with pytest.raises(UserError, match="--client-cert is for --mtls present"):
            Settings(**at, mtls=mode, identity=given)


def test_both_peers_saw_the_same_names(lab: Lab, tmp_path: Path) -> None:
    """What ``s_server`` says it sent and what ``s_client`` says it got: the names as a whole, byte for byte."""
    with relaying(lab, tmp_path, names=(lab.root.cert_pem, lab.intermediate.cert_pem), version="TLSv1.2") as (
        server,
        proxy,
    ):
        client = openssl_client(f"127.0.0.1:{proxy.port}", identity=lab.client, send=b"ping\n", until="gnip")
        sent = next(m.raw for m in server.messages if m.type == "certificate_request")
    got = next(m.raw for m in client.messages if m.type == "certificate_request")
    names = [name.certificate.subject.public_bytes() for name in (lab.root, lab.intermediate)]
    block = b"".join(len(name).to_bytes(2) + name for name in names)
    block = len(block).to_bytes(2) + block
    assert sent.endswith(block)
    assert got.endswith(block)


@pytest.mark.parametrize("version", VERSIONS)
def test_nothing_is_presented_for_a_client_that_has_not_the_key(lab: Lab, tmp_path: Path, version: str) -> None:
    """Whoever knows a certificate is not its owner: its CertificateVerify does not verify."""
    body = base64.encodebytes(impostor_key(lab.client.key)).decode()
    forged = tmp_path / "forged.pem"
    forged.write_text(f"-----BEGIN EC PRIVATE KEY-----\n{body}-----END EC PRIVATE KEY-----\n")
    context = ssl.create_default_context(cadata=AUTHORITY.root_pem.decode())
    context.load_cert_chain(lab.client.fullchain_pem, forged)
    context.maximum_version = ssl.TLSVersion.TLSv1_2 if version == "TLSv1.2" else ssl.TLSVersion.TLSv1_3
    with relaying(lab, tmp_path, version=version) as (server, proxy):
        with (
            socket.create_connection(proxy.address) as raw,
            contextlib.suppress(OSError),
            context.wrap_socket(raw, server_hostname="localhost") as tls,
        ):
            tls.recv(1)
        recording = proxy.recording()
        assert not any(m.type == "certificate" and m.sender == "client" for m in server.messages)
    assert "presented" not in recording.mtls
    assert recording.mtls["chosen"]["certificates"] == 2
    assert recording.outcome.broken_by is Party.CLIENT


@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_that_refuses_us_ends_both_legs(lab: Lab, tmp_path: Path, version: str) -> None:
    with relaying(lab, tmp_path, version=version) as (server, proxy):
        openssl_client(f"127.0.0.1:{proxy.port}", ca=lab.root_pem, identity=lab.client, until="alert|verify error")
        recording = proxy.recording()
        server.wait_for("alert internal error")  # it has done nothing wrong, and is told so
    assert recording.outcome.broken_by is Party.CLIENT
    assert recording.outcome.alert == "unknown_ca"
    assert "presented" not in recording.mtls


@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_that_falls_silent_when_asked_ends_both_legs(lab: Lab, tmp_path: Path, version: str) -> None:
    hello = client_hello(versions=(TLS13, TLS12))
    with relaying(lab, tmp_path, version=version, limits=Limits(handshake=1.0)) as (server, proxy):
        with connect(proxy) as raw:
            raw.sendall(in_records(hello))
            recording = proxy.recording()
        server.wait_for("alert internal error")
    assert recording.outcome.broken_by is Party.CLIENT
    assert "fell silent" in recording.outcome.text


@pytest.mark.parametrize("version", VERSIONS)
def test_a_target_that_goes_while_the_client_is_asked_is_to_blame(lab: Lab, tmp_path: Path, version: str) -> None:
    with relaying(lab, tmp_path, version=version) as (server, proxy):
        with connect(proxy) as raw:
            raw.sendall(in_records(client_hello(versions=(TLS13, TLS12))))
            raw.recv(1)  # our flight with the request in it
            server.__exit__()
        recording = proxy.recording()
    assert recording.mtls["asked_of_client"] is not None
    assert recording.outcome.status is Status.FAILED


@pytest.mark.peer("java", "keytool")
@pytest.mark.parametrize(("version", "java"), [("TLSv1.2", "TLSv1.2"), ("TLSv1.3", "TLSv1.3")])
def test_a_jvm_with_a_key_store_gets_through(lab: Lab, tmp_path: Path, version: str, java: str) -> None:
    """R17."""
    store = lab.client.pkcs12(tmp_path / "client.p12", PASSWORD)
    with relaying(lab, tmp_path, names=(lab.intermediate.cert_pem,), version=version) as (_, proxy):
        trust = java_truststore(tmp_path / "trust.p12", proxy.root_file(tmp_path))
        java_client(
            f"server.lab.test:{proxy.port}",
            truststore=trust,
            keystore=store,
            protocols=(java,),
            hosts={"server.lab.test": "127.0.0.1"},
        )
        recording = proxy.recording()
    assert recording.mtls["chosen"]["subject"] == "CN=Lab Client,O=Lab"
    assert recording.mtls["presented"]["subject"] == "CN=Lab Client,O=Lab"
    assert recording.outcome.broken_by is None, recording.outcome.text


@contextmanager
def asking_later(
    lab: Lab, tmp_path: Path, version: str, mode: Mtls = Mtls.RELAY, **settings: Any
) -> Iterator[tuple[OpensslServer, RunningProxy]]:
    """A target that can be told to ask in mid-connection, and a proxy before it."""
    given = Identity((lab.client.certificate.public_bytes(Encoding.DER),), lab.client.key)
    root = tmp_path / "client-root.pem"
    root.write_bytes(clients().root_pem)
    how = ("-no_resumption_on_reneg",) if version == "TLSv1.2" else ()
    with (
        OpensslServer(
            lab.server, *how, "-verifyCAfile", root, "-alpn", "http/1.1", mode="plain", version=version
        ) as server,
        RunningProxy(
            target=Address("127.0.0.1", server.port),
            roots=(lab.root.certificate.public_bytes(Encoding.DER),),
            mtls=mode,
            identity=given if mode is Mtls.PRESENT else None,
            clients=clients(),
            **settings,
        ) as proxy,
    ):
        yield server, proxy


def asked_later(server: OpensslServer, version: str) -> None:
    """Have the target ask now, and wait until that is settled."""
    server.command("R" if version == "TLSv1.2" else "c")
    server.wait_for_message("Finished", count=4 if version == "TLSv1.2" else 3)


def talking(proxy: RunningProxy, *arguments: str) -> Background:
    return Background(
        "openssl", "s_client", "-connect", f"127.0.0.1:{proxy.port}", "-servername", "localhost", "-quiet",
        "-enable_pha", *arguments,
    )  # fmt: skip


def showing(lab: Lab) -> tuple[str, ...]:
    return "-cert", str(lab.client.fullchain_pem), "-key", str(lab.client.key_pem)


LATE = [("TLSv1.2", mode) for mode in (Mtls.RELAY, Mtls.PRESENT, Mtls.STRIP, Mtls.BYPASS)]
LATE += [("TLSv1.3", mode) for mode in (Mtls.RELAY, Mtls.PRESENT, Mtls.BYPASS)]


@pytest.mark.parametrize(("version", "mode"), LATE)
def test_what_a_target_asks_in_mid_connection_has_an_answer(lab: Lab, tmp_path: Path, version: str, mode: Mtls) -> None:
    """A renegotiation (RFC 5246 7.4.1.1), and authentication after the handshake (RFC 8446 4.6.2)."""
    with asking_later(lab, tmp_path, version, mode) as (server, proxy):
        with talking(proxy, *showing(lab), "-alpn", "http/1.1") as client:
            client.say(b"ping\n")
            server.wait_for("ping")
            asked_later(server, version)
            client.say(b"again\n")
            server.wait_for("again")
            client.hang_up()
        recording = proxy.recording()
        if mode is Mtls.BYPASS:
            with talking(proxy) as client:
                client.say(b"third\n")
                server.wait_for("third")
            assert proxy.recordings(2)[1].action == "passthrough"
    mtls = recording.mtls
    assert recording.outcome.status is Status.ESTABLISHED
    assert (mtls["asked_again"], mtls["mode"]) == (True, mode.value)
    assert mtls["presented"]["certificates"] == {Mtls.RELAY: 2, Mtls.PRESENT: 1}.get(mode, 0)
    assert "alpn-lost" not in {one.id for one in diagnose(recording).findings}  # OpenSSL renegotiates without ALPN
    unasked = mode in {Mtls.STRIP, Mtls.BYPASS}
    assert [problem.field for _, problem in recording.problems] == ["certificate_request"] * unasked
    assert ("extensions: post_handshake_auth" in recording.not_mirrored) is (mode is Mtls.STRIP)
    if mode is Mtls.RELAY:
        assert mtls["presented"]["subject"] == mtls["chosen"]["subject"] == "CN=Lab Client,O=Lab"
        assert mtls["asked_of_client"]["certificate_authorities"] == mtls["asked"]["certificate_authorities"]


def test_strip_keeps_from_the_target_that_it_could_ask_later(lab: Lab, tmp_path: Path) -> None:
    with asking_later(lab, tmp_path, "TLSv1.3", Mtls.STRIP) as (server, proxy):
        with talking(proxy, *showing(lab)) as client:
            client.say(b"ping\n")
            server.wait_for("ping")
            server.command("c")
            server.wait_for("Failed to initiate request|extension not received")
            client.hang_up()
        recording = proxy.recording()
    assert "extensions: post_handshake_auth" in recording.not_mirrored
    assert "asked_again" not in recording.mtls


def test_a_client_that_is_asked_twice_shows_what_it_has_twice(lab: Lab, tmp_path: Path) -> None:
    with asking_later(lab, tmp_path, "TLSv1.3") as (server, proxy):
        with talking(proxy, *showing(lab)) as client:
            client.say(b"ping\n")
            server.wait_for("ping")
            for count in (3, 4):
                server.command("c")
                server.wait_for_message("Finished", count=count)
            client.say(b"again\n")
            server.wait_for("again")
            client.hang_up()
        recording = proxy.recording()
        assert sum(message.type == "certificate_verify" for message in server.messages) == 3  # its own, and two
    assert recording.outcome.status is Status.ESTABLISHED


@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_that_is_asked_later_and_has_no_certificate_has_none_presented(
    lab: Lab, tmp_path: Path, version: str
) -> None:
    with asking_later(lab, tmp_path, version) as (server, proxy):
        with talking(proxy) as client:
            client.say(b"ping\n")
            server.wait_for("ping")
            asked_later(server, version)
            client.say(b"again\n")
            server.wait_for("again")
            client.hang_up()
        recording = proxy.recording()
    assert recording.outcome.status is Status.ESTABLISHED
    assert recording.mtls["chosen"] == recording.mtls["presented"] == {"certificates": 0}


NO_ANSWER = ["left", "gave no answer within 0.2 s", "had not answered when the session ended"]


@pytest.mark.parametrize("why", NO_ANSWER)
def test_a_client_that_does_not_answer_when_it_is_asked_later_has_none_presented(
    lab: Lab, tmp_path: Path, why: str
) -> None:
    """RFC 5246 7.4.1.1: a client may ignore a HelloRequest."""
    _, silent, stopped = (why == each for each in NO_ANSWER)
    with asking_later(lab, tmp_path, "TLSv1.2", limits=Limits(handshake=1000)) as (server, proxy):
        context = ssl.create_default_context(cadata=AUTHORITY.root_pem.decode())
        with connect(proxy) as raw, context.wrap_socket(raw, server_hostname="localhost") as client:
            client.sendall(b"ping\n")  # and reads nothing more
            server.wait_for("ping")
            if silent:
                (session,) = proxy.engine._sessions.values()
                within = session._context
                within.settings = replace(within.settings, limits=Limits(handshake=0.2))
            server.command("R")
            assert select.select([client], [], [], 40)[0], "the client is asked"
            if silent:
                server.wait_for_message("Finished", count=4)
            if stopped:
                proxy.run(proxy.engine.hang_up())
        recording = proxy.recording()
    assert ("presented" in recording.mtls) is silent
    assert recording.mtls["why"].endswith(f"the client {why}")


def test_a_client_that_does_not_renegotiate_is_told_so(lab: Lab, tmp_path: Path) -> None:
    context = ssl.create_default_context(cadata=AUTHORITY.root_pem.decode())
    context.options |= ssl.OP_NO_RENEGOTIATION
    with asking_later(lab, tmp_path, "TLSv1.2") as (server, proxy):
        with connect(proxy) as raw, context.wrap_socket(raw, server_hostname="localhost") as client:
            client.sendall(b"ping\n")
            server.wait_for("ping")
            server.command("R")
            with contextlib.suppress(OSError):
                assert client.recv(10) == b""
        recording = proxy.recording()
    assert recording.outcome.broken_by is Party.CLIENT
    assert "does not renegotiate" in recording.outcome.text
    assert diagnose(recording).findings[0].id == "no-renegotiation"


@pytest.mark.parametrize("version", VERSIONS)
def test_what_a_client_sends_before_it_hears_that_it_is_asked_reaches_the_target(
    lab: Lab, tmp_path: Path, version: str
) -> None:
    """Its answer lies behind that, so it is read on though the target takes nothing meanwhile."""
    said = b"x" * 63 + b"\n"
    with asking_later(lab, tmp_path, version) as (server, proxy):
        context = ssl.create_default_context(cadata=AUTHORITY.root_pem.decode())
        context.post_handshake_auth = True
        context.load_cert_chain(lab.client.fullchain_pem, lab.client.key_pem)
        with connect(proxy) as raw, context.wrap_socket(raw, server_hostname="localhost") as client:
            client.sendall(b"ping\n")
            server.wait_for("ping")
            server.command("R" if version == "TLSv1.2" else "c")
            until(lambda: "asked_again" in next(iter(proxy.engine._sessions.values())).recording.mtls)
            client.sendall(said * 8000 + b"the end\n")  # half a megabyte, and nothing was read
            client.settimeout(1)
            with contextlib.suppress(TimeoutError):
                client.recv(1)  # it hears now, and answers
            server.wait_for("the end")
        recording = proxy.recording()
    assert recording.mtls["presented"]["certificates"] == 2


def test_a_target_that_has_its_answer_may_ask_again_at_once(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its next request may lie behind the first, and is the client's to answer, too (RFC 8446 4.6.2)."""
    answers: list[int] = []
    real = TlsDirection.go_on

    def go_on(self: TlsDirection) -> None:
        real(self)
        answers.append(self._source.connection.answer)

    monkeypatch.setattr(TlsDirection, "go_on", go_on)
    with asking_later(lab, tmp_path, "TLSv1.3") as (server, proxy):
        with talking(proxy, *showing(lab)) as client:
            client.say(b"ping\n")
            server.wait_for("ping")
            asked_later(server, "TLSv1.3")
            client.hang_up()
        proxy.recording()
    assert answers == [-1]


def test_a_fault_of_ours_in_the_answer_ends_the_session(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answer(self: Exchange, server: object) -> None:
        raise ValueError(self, server)

    monkeypatch.setattr(Exchange, "answer", answer)
    with asking_later(lab, tmp_path, "TLSv1.3") as (server, proxy), talking(proxy, *showing(lab)) as client:
        client.say(b"ping\n")
        server.wait_for("ping")
        server.command("c")
        recording = proxy.recording()
    assert [failure.code for failure in recording.failures] == [FailureCode.INTERNAL]


@pytest.mark.parametrize("version", VERSIONS)
def test_nobody_inherits_a_certificate_that_was_shown_in_mid_connection(lab: Lab, tmp_path: Path, version: str) -> None:
    """The target's session stands for the client from then on, and is not taken up for another."""
    session = str(tmp_path / "session.pem")
    with asking_later(lab, tmp_path, version) as (server, proxy):
        with talking(proxy, "-sess_out", session) as other:
            other.say(b"first\n")
            server.wait_for("first")
            other.hang_up()
        proxy.recordings(1)
        with talking(proxy, *showing(lab)) as client:
            client.say(b"ping\n")
            server.wait_for("ping")
            server.command("R" if version == "TLSv1.2" else "c")
            server.wait_for_message("Finished", count=6 if version == "TLSv1.2" else 5)
            client.say(b"again\n")
            server.wait_for("again")
            client.hang_up()
        assert proxy.recordings(2)[1].mtls["presented"]["certificates"] == 2
        with talking(proxy, "-sess_in", session) as other:
            other.say(b"third\n")
            server.wait_for("third")
            other.hang_up()
        leg = proxy.recordings(3)[2].leg(LegRole.SERVER)
    assert leg is not None
    assert any(message.code == 11 for message in leg.messages), "the target made a full handshake"


def without_certificate_verify(flight: bytes) -> bytes:
    """The records of a flight in clear, each handshake message in one of its own, but for CertificateVerify."""
    kept, at, sealed = b"", 0, False
    while at < len(flight):
        size = 5 + int.from_bytes(flight[at + 3 : at + 5])
        record, at = flight[at : at + size], at + size
        sealed = sealed or record[0] == 20
        if sealed or record[0] != 22 or record[5] != 15:
            kept += record
    return kept


def test_nothing_is_presented_for_a_client_that_proves_nothing(lab: Lab, tmp_path: Path) -> None:
    """TLS 1.2: Certificate, ClientKeyExchange, and then at once ChangeCipherSpec and Finished."""
    context = ssl.create_default_context(cadata=AUTHORITY.root_pem.decode())
    context.load_cert_chain(lab.client.fullchain_pem, lab.client.key_pem)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    came, goes = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(came, goes, server_hostname="localhost")
    with relaying(lab, tmp_path, version="TLSv1.2") as (server, proxy):
        with connect(proxy) as raw, contextlib.suppress(ssl.SSLError):
            while True:
                with contextlib.suppress(ssl.SSLWantReadError):
                    tls.do_handshake()
                flight = goes.read()
                assert flight
                raw.sendall(without_certificate_verify(flight))
                while not (data := raw.recv(65536)).endswith(b"\x0e\0\0\0"):  # ServerHelloDone
                    came.write(data)
                    if data[:1] in {b"", b"\x15"}:
                        raise ssl.SSLError
                came.write(data)
        recording = proxy.recording()
        assert not any(m.type == "certificate" and m.sender == "client" for m in server.messages)
    assert recording.mtls["chosen"]["certificates"] == 2
    assert "presented" not in recording.mtls
    assert recording.outcome.broken_by is Party.CLIENT


@pytest.mark.parametrize("version", VERSIONS)
def test_a_scheme_that_our_own_leaf_needs_is_added_and_noted(lab: Lab, tmp_path: Path, version: str) -> None:
    """The target has an ECDSA certificate, and takes RSA from clients alone."""
    client = lab.issue(common_name="rsa", usages=("client",), key="rsa-2048")
    args = ("-client_sigalgs", "rsa_pss_rsae_sha256:rsa_pss_rsae_sha384")
    with relaying(lab, tmp_path, *args, version=version) as (_, proxy):
        assert "gnip" in speak(proxy, client, tmp_path)
        mtls = proxy.recording().mtls
    asked = mtls["asked"]["signature_algorithms"]
    assert asked == ["rsa_pss_rsae_sha256", "rsa_pss_rsae_sha384"]
    assert mtls["asked_of_client"]["signature_algorithms"] == [*asked, "ecdsa_secp256r1_sha256"]
    assert "signature_algorithms: with ecdsa_secp256r1_sha256" in mtls["differs"]


def test_bypass_behind_starttls_cannot_begin_anew_but_remembers(lab: Lab) -> None:
    """The dialogue before TLS was with the connection that is closed."""
    context = server_context(lab.server)
    context.verify_mode = ssl.CERT_OPTIONAL

    def serve(connection: socket.socket) -> None:
        connection.sendall(b"220 ready\r\n")
        for answer in (b"250-here\r\n250 STARTTLS\r\n", b"220 go on\r\n"):
            assert connection.recv(4096).endswith(b"\r\n")
            connection.sendall(answer)
        with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True) as tls:
            tls.sendall(b"gnip\n")
            tls.recv(1)

    with (
        Target(serve) as target,
        RunningProxy(
            target=target.address,
            roots=(lab.root.certificate.public_bytes(Encoding.DER),),
            mtls=Mtls.BYPASS,
            starttls="smtp",
        ) as proxy,
    ):
        said = [
            openssl_client(
                f"127.0.0.1:{proxy.port}", "-starttls", "smtp", ca=lab.root_pem, send=b"x\n", until="gnip|alert"
            ).output
            for _ in range(2)
        ]
        first, second = proxy.recordings(2)
    assert ["gnip" in each for each in said] == [False, True]
    assert first.outcome.broken_by is Party.PROXY
    assert "cannot begin anew behind a dialogue in clear" in first.outcome.text
    assert (second.action, second.outcome.status) == ("passthrough", Status.ESTABLISHED)
