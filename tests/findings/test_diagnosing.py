"""What is found in recordings of real clients, servers and chains that are broken in one known way."""

from __future__ import annotations

import json
import re
import socket
import threading
from asyncio import to_thread
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from string import Formatter
from typing import TYPE_CHECKING, Any, Literal

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from countersign.ca.pem import to_pem
from countersign.ca.recipes import catalogue
from countersign.errors import UserError
from countersign.findings.diagnosing import FAMILIES, Diagnosis, Severity, diagnose, kinds
from countersign.findings.diagnosing.case import Case
from countersign.findings.diagnosing.showing import show
from countersign.findings.diagnosing.signing import signature_holds, signed_message
from countersign.findings.subjects import find
from countersign.proxy import Action, Address, Limits, Mtls
from countersign.proxy.orders import ChainOrders, Orders
from countersign.recorder.recording import (
    End,
    Ending,
    Leg,
    LegRole,
    Outcome,
    Party,
    Recording,
    Status,
    from_json,
    to_json,
)
from countersign.recorder.wire.events import Content, Message, Side
from countersign.recorder.wire.text import printable
from tests.ca.revocation.lab import answered
from tests.cli.commands import countersign
from tests.findings.test_comparing import recorded, shown_chain
from tests.peers.curl import curl
from tests.peers.java import java_client, java_truststore
from tests.peers.openssl import OpensslServer, openssl_client
from tests.proxy.ordered import HOST, Scripted
from tests.proxy.running import AUTHORITY, RunningProxy
from tests.recorder.transcripts import NAMES, transcript

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.peers.certs import Lab

CHAINS = {
    "leaf-expired": "leaf-expired",
    "leaf-not-yet-valid": "leaf-not-yet-valid",
    "intermediate-expired": "issuer-expired",
    "intermediate-not-yet-valid": "issuer-not-yet-valid",
    "leaf-time-is-text": "malformed-certificate",
    "intermediate-is-no-ca": "issuer-is-no-ca",
    "leaf-issued-by-a-leaf": "issuer-is-no-ca",
    "intermediate-may-not-sign-certificates": "issuer-may-not-sign",
    "path-length-exceeded": "path-too-long",
    "leaf-for-clients": "wrong-eku",
    "leaf-for-any-purpose": "wrong-eku",
    "intermediate-for-clients": "issuer-wrong-eku",
    "leaf-key-usage-for-certificates": "wrong-key-usage",
    "leaf-key-usage-empty": "malformed-certificate",
    "leaf-issuer-key-identifier-of-somebody-else": "other-issuer-key",
    "issuer-key-identifier-critical": "unknown-critical-extension",
    "leaf-unknown-critical-extension": "unknown-critical-extension",
    "leaf-precertificate": "precertificate",
    "leaf-names-twice": "malformed-certificate",
    "name-constraints-violated": "outside-name-constraints",
    "leaf-other-name": "wrong-host-name",
    "leaf-wildcard-one-label-too-deep": "wrong-host-name",
    "leaf-other-address": "wrong-host-name",
    "leaf-without-any-name": "no-alternative-name",
    "self-signed": "self-signed",
    "loop": "chain-loop",
    "ten-intermediates": "long-chain",
    "sent-leaf-only": "missing-intermediate",
    "sent-without-intermediate": "missing-intermediate",
    "sent-leaf-last": "leaf-not-first",
    "sent-110-kib": "chain-too-large",
    "sent-nothing": "no-server-certificate",
    "leaf-rsa-1024": "weak-key",
    "leaf-signed-with-sha1": "weak-signature",
    "leaf-signed-with-md5": "weak-signature",
    "leaf-signature-broken": "signature-does-not-hold",
    "leaf-signed-by-somebody-else": "signature-does-not-hold",
    "leaf-key-not-in-use": "handshake-signature",
}
UNKNOWN_KEYS = {"tls13-raw-public-key"}
"""Whose key is not in a certificate."""
HARMLESS = ("leaf-wildcard", "sent-with-root", "sent-reversed", "cross-signed", "leaf-is-a-ca", "leaf-p-384")


def cause(recording: Recording, **more: Any) -> str | None:
    found = diagnose(recording, **more).cause
    return None if found is None else found.id


def ids(diagnosis: Diagnosis, severity: Severity) -> list[str]:
    return [one.id for one in diagnosis.findings if one.severity is severity]


def fetched(recipe: str | None, root: Path, *args: str) -> Recording:
    """What curl meets that trusts the inspection root."""
    chain = ChainOrders(recipe=catalogue()[recipe]) if recipe else ChainOrders()
    with RunningProxy(director=Scripted([Orders(scenario="kept out of sight", chain=chain)])) as proxy:
        there = f"{HOST}:{proxy.port}"
        curl(f"https://{there}/", "--connect-to", f"{there}:127.0.0.1:{proxy.port}", *args, ca=root)
        return proxy.recording()


@pytest.fixture(name="root")
def _root(tmp_path: Path) -> Path:
    path = tmp_path / "root.pem"
    path.write_bytes(AUTHORITY.root_pem)
    return path


# -- the server's chain --------------------------------------------------------------------------------------------


@pytest.mark.peer("curl")
@pytest.mark.parametrize("recipe", CHAINS)
def test_what_is_wrong_with_the_chain_is_the_cause(recipe: str, root: Path) -> None:
    recording = fetched(recipe, root)
    diagnosis = diagnose(recording)
    assert diagnosis.cause is not None
    assert diagnosis.cause.id == CHAINS[recipe], diagnosis.to_json()
    assert diagnosis.cause.evidence
    bare = replace(recording, scenario=None, step=0, legs=tuple(replace(leg, faults=()) for leg in recording.legs))
    assert diagnose(bare) == diagnosis  # what was ordered is not looked at


@pytest.mark.peer("curl")
@pytest.mark.parametrize("recipe", HARMLESS)
def test_what_a_right_client_takes_has_no_cause(recipe: str, root: Path) -> None:
    assert cause(fetched(recipe, root)) is None


@pytest.mark.peer("curl")
@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_an_inspection_root_that_is_not_trusted_is_to_be_imported_and_not_its_leaf(lab: Lab, version: str) -> None:
    diagnosis = diagnose(fetched(None, lab.root_pem, "--tls-max", version))
    assert diagnosis.cause is not None
    assert diagnosis.cause.id == "untrusted-inspection-ca"
    assert diagnosis.cause.fix.startswith("Import the root of the inspecting device")
    assert "not the leaf" in diagnosis.cause.fix
    (unseen,) = (text for text in diagnosis.unseen if "which was not sent" in text)
    assert "path length" in unseen
    assert unseen.startswith("CN=countersign inspection root")


@pytest.mark.peer("java")
@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ("sent-leaf-only", "missing-intermediate"),
        ("leaf-expired", "leaf-expired"),
        ("leaf-other-name", "wrong-host-name"),
        (None, "untrusted-inspection-ca"),
    ],
)
def test_a_jvm_names_no_reason_and_the_chain_does(
    recipe: str | None, expected: str, lab: Lab, root: Path, tmp_path: Path
) -> None:
    trusted = java_truststore(tmp_path / "trust.p12", lab.root_pem if recipe is None else root)
    chain = ChainOrders(recipe=catalogue()[recipe]) if recipe else ChainOrders()
    with RunningProxy(director=Scripted([Orders(chain=chain)])) as proxy:
        java_client(f"https://{HOST}:{proxy.port}/", hosts={HOST: "127.0.0.1"}, truststore=trusted)
        recording = proxy.recordings()[0]
    diagnosis = diagnose(recording)
    assert diagnosis.cause is not None
    assert diagnosis.cause.id == expected, diagnosis.to_json()
    assert "keytool" in diagnosis.cause.fix or recipe in {"leaf-expired", "leaf-other-name"}


@pytest.mark.peer("curl")
def test_a_chain_that_changed_since_the_last_good_session_is_named(root: Path, lab: Lab) -> None:
    good, bad = fetched(None, root), fetched(None, lab.root_pem)
    bad = replace(bad, target=good.target)
    diagnosis = diagnose(bad, history=[good])
    assert diagnosis.cause is not None
    assert diagnosis.cause.id == "untrusted-inspection-ca"
    assert f"took a chain under the same root in recording {good.id}: was it this one" in diagnosis.cause.text
    rotated = next(one for one in diagnosis.findings if one.id == "rotated")
    assert good.id in rotated.text
    assert "the leaf" in rotated.text


# -- the client's certificate --------------------------------------------------------------------------------------


@contextmanager
def asking(lab: Lab, *more: str, mtls: Mtls | None = None, **settings: Any) -> Iterator[RunningProxy]:
    roots = (lab.root.certificate.public_bytes(Encoding.DER),)
    with (
        OpensslServer(lab.server, *more, verify_ca=lab.root_pem) as server,
        RunningProxy(target=Address("127.0.0.1", server.port), roots=roots, mtls=mtls, **settings) as proxy,
    ):
        yield proxy


def shown(proxy: RunningProxy, tmp_path: Path, *args: str | Path, version: str | None = None) -> Recording:
    ca = proxy.root_file(tmp_path)
    openssl_client(
        f"127.0.0.1:{proxy.port}", *args, version=version, ca=ca, send=b"ping\n", until="gnip|alert|closed|errno"
    )
    return proxy.recording()


@pytest.mark.peer("openssl")
@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_inspection_that_strips_the_client_certificate_is_the_cause(lab: Lab, tmp_path: Path, version: str) -> None:
    with asking(lab, mtls=Mtls.STRIP) as proxy:
        recording = shown(proxy, tmp_path, "-cert", lab.client.cert_pem, "-key", lab.client.key_pem, version=version)
    assert cause(recording) == "mtls-stripped"


def through(lab: Lab, *args: str | Path, server: tuple[str | Path, ...] = ()) -> Recording:
    """Passed through in TLS 1.2, so that a witness sees the certificates."""
    with (
        OpensslServer(lab.server, "-verify_return_error", "-Verify", "5", *server, version="TLSv1.2") as target,
        RunningProxy(target=Address("127.0.0.1", target.port), action=Action.PASSTHROUGH) as proxy,
    ):
        until = "gnip|alert|closed|errno"
        openssl_client(f"127.0.0.1:{proxy.port}", *args, ca=lab.root_pem, send=b"ping\n", until=until)
        return proxy.recording()


@pytest.mark.peer("openssl")
def test_why_a_target_did_not_take_the_clients_certificate(lab: Lab) -> None:
    ask = ("-CAfile", lab.root_pem)
    wrong = lab.issue(common_name="For servers", usages=("server",))
    old = lab.issue(common_name="Old", usages=("client",), days=0.01)
    own = lab.issue(common_name="Own", usages=("client",), signer=None)

    def with_chain(one: Any) -> tuple[str | Path, ...]:
        chain = ("-cert_chain", one.chain_pem) if one.chain_pem.stat().st_size else ()
        return ("-cert", one.cert_pem, "-key", one.key_pem, *chain)

    assert cause(through(lab, *with_chain(lab.client), server=ask)) is None
    assert cause(through(lab, server=ask)) == "no-client-certificate"
    assert cause(through(lab, server=("-verifyCAfile", lab.root_pem))) == "no-client-certificate-empty-list"
    assert cause(through(lab, *with_chain(wrong), server=ask)) == "client-wrong-eku"
    assert cause(through(lab, *with_chain(old), server=ask)) == "client-leaf-expired"
    assert cause(through(lab, *with_chain(own), server=ask)) == "client-self-signed"
    bare = ("-cert", lab.client.cert_pem, "-key", lab.client.key_pem)
    assert cause(through(lab, *bare, server=ask)) == "client-missing-intermediate"


def test_of_the_demos_two_recordings_one_is_well_and_the_other_has_one_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its target has accepted the proxy's certificate, and goes when the client has gone: that refuses nothing."""
    monkeypatch.setenv("COUNTERSIGN_HOME", str(tmp_path))
    assert countersign("demo", "--keep").code == 0
    good, bad = (countersign("diagnose", which, "--json") for which in ("last~1", "last"))
    assert (good.code, good.json()["findings"]) == (0, [])
    found = {one["severity"]: one["id"] for one in bad.json()["findings"]}
    assert (bad.code, found) == (1, {"cause": "untrusted-inspection-ca", "note": "just-issued"})


# -- nothing in common ---------------------------------------------------------------------------------------------


@pytest.mark.peer("openssl")
@pytest.mark.parametrize(
    ("server", "client", "expected"),
    [
        (("-tls1_3",), ("-tls1_2",), "no-shared-version"),
        (("-tls1_2", "-cipher", "ECDHE"), ("-tls1_2", "-cipher", "AES128-SHA256"), "no-shared-cipher"),
        (("-tls1_3", "-groups", "P-384"), ("-groups", "X25519"), "no-shared-group"),
        (("-alpn", "smtp"), ("-alpn", "h2"), "no-shared-protocol"),
        (("-servername", "other.example", "-servername_fatal"), (), "unknown-name"),
    ],
)
def test_what_is_not_shared_is_named(
    lab: Lab, tmp_path: Path, server: tuple[str, ...], client: tuple[str, ...], expected: str
) -> None:
    extra: tuple[str | Path, ...] = ()
    if "-servername" in server:
        extra = ("-cert2", lab.server.cert_pem, "-key2", lab.server.key_pem)
    with (
        OpensslServer(lab.server, *server, *extra) as target,
        RunningProxy(target=Address("127.0.0.1", target.port), action=Action.PASSTHROUGH) as proxy,
    ):
        openssl_client(f"127.0.0.1:{proxy.port}", *client, ca=lab.root_pem, send=b"x\n", until="alert|closed|errno")
        recording = proxy.recording()
    diagnosis = diagnose(recording)
    assert diagnosis.cause is not None
    assert diagnosis.cause.id == expected, (recording.outcome, diagnosis.to_json())


@pytest.mark.peer("openssl")
def test_what_another_client_agreed_on_tells_what_this_one_lacks(lab: Lab) -> None:
    with (
        OpensslServer(lab.server, "-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305") as target,
        RunningProxy(target=Address("127.0.0.1", target.port), action=Action.PASSTHROUGH) as proxy,
    ):
        for words in ((), ("-tls1_2", "-cipher", "AESGCM:AESCCM", "-curves", "P-256:P-384:P-521")):
            until = "gnip|alert|closed|errno"
            openssl_client(f"127.0.0.1:{proxy.port}", *words, ca=lab.root_pem, send=b"ping\n", until=until)
        good, bad = proxy.recordings(2)
    diagnosis = diagnose(bad, history=[good])
    assert diagnosis.cause is not None
    assert diagnosis.cause.id == "no-shared-cipher"
    assert good.id in diagnosis.cause.text
    assert "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256" in diagnosis.cause.text


# -- the way -------------------------------------------------------------------------------------------------------


@contextmanager
def answering(answer: bytes | Literal["reset"] | None) -> Iterator[int]:
    """A target that takes one connection and answers its first bytes with these, with a reset, or not at all."""
    listener = socket.create_server(("127.0.0.1", 0))
    done = threading.Event()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            if answer is None:
                done.wait(10)
            elif answer == "reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            else:
                connection.sendall(answer)
                connection.recv(65536)

    thread = threading.Thread(target=serve, name="answering")
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        done.set()
        thread.join(10)
        listener.close()


@pytest.mark.peer("openssl")
@pytest.mark.parametrize(
    ("answer", "client", "expected"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", (), "target-plain-http"),
        (b"220 mail.example ESMTP\r\n", (), "target-not-tls"),
        ("reset", ("-tls1_2",), "target-reset"),
        (None, ("-tls1_2",), "target-silent"),
    ],
)
def test_what_happens_on_the_way_is_told_apart(
    answer: bytes | Literal["reset"] | None, client: tuple[str, ...], expected: str, tmp_path: Path
) -> None:
    with (
        answering(answer) as port,
        RunningProxy(target=Address("127.0.0.1", port), limits=Limits(handshake=0.5)) as proxy,
    ):
        openssl_client(
            f"127.0.0.1:{proxy.port}", *client, ca=proxy.root_file(tmp_path), send=b"x\n", until="alert|closed|errno"
        )
        recording = proxy.recording()
    assert cause(recording) == expected, diagnose(recording).to_json()


@pytest.mark.peer("openssl")
def test_a_large_hello_that_gets_no_answer_is_named(tmp_path: Path) -> None:
    long = "x" * 250 + ".example"
    names = ",".join(f"{n:03d}{long[:240]}" for n in range(8))
    with (
        answering("reset") as port,
        RunningProxy(target=Address("127.0.0.1", port), action=Action.PASSTHROUGH) as proxy,
    ):
        openssl_client(f"127.0.0.1:{proxy.port}", "-alpn", names, send=b"x\n", until="alert|closed|errno")
        recording = proxy.recording()
    assert cause(recording) == "large-hello-dropped", diagnose(recording).to_json()


def test_a_target_that_nobody_listens_at_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with RunningProxy(target=Address("127.0.0.1", port)) as proxy:
        openssl_client(f"127.0.0.1:{proxy.port}", send=b"x\n", until="alert|closed|errno")
        assert cause(proxy.recording()) == "target-refuses-tcp"


def test_plain_http_to_the_tls_port_is_named() -> None:
    with RunningProxy() as proxy:
        curl(f"http://127.0.0.1:{proxy.port}/")
        assert cause(proxy.recording()) == "client-plain-http"


def test_words_of_http_within_what_is_none_are_not_taken_for_it() -> None:
    with RunningProxy() as proxy:
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=30) as client:
            client.sendall(b"SSH-2.0-I can GET and POST \r\n")
            client.recv(1)
        recording = proxy.recording()
    assert cause(recording) == "client-not-tls"


# -- logs ----------------------------------------------------------------------------------------------------------


@pytest.mark.peer("java", "javac", "keytool")
@pytest.mark.parametrize("debug", ["ssl:handshake", "all"])
def test_a_jvms_log_and_the_wire_have_the_same_cause(lab: Lab, tmp_path: Path, debug: str) -> None:
    """The same handshake, once as the proxy saw it and once as the client wrote it down."""
    trusted = java_truststore(tmp_path / "trust.p12", lab.root_pem)
    hosts = {HOST: "127.0.0.1"}
    with RunningProxy(director=Scripted([Orders(chain=ChainOrders(recipe=catalogue()["sent-leaf-only"]))])) as proxy:
        made = java_client(f"https://{HOST}:{proxy.port}/", hosts=hosts, truststore=trusted, debug=debug)
        seen = proxy.recordings()[0]
    log = tmp_path / "wrapper.log"
    log.write_text(made.debug)
    written = find(str(log), lambda _: pytest.fail("it is a file"), broken=True).recording
    assert cause(written) == cause(seen) == "missing-intermediate"
    assert "client-says" in {one.id for one in diagnose(written).findings}


@pytest.mark.parametrize("name", ["java8-untrusted.log", "jdk17-tls13-untrusted.log"])
def test_of_a_jvms_log_the_cure_is_javas(name: str) -> None:
    log = Path(__file__).parents[1] / "recorder" / "javalog" / "logs" / name
    found = diagnose(find(str(log), lambda _: pytest.fail("it is a file"), broken=True).recording).cause
    assert found is not None
    assert found.id == "untrusted-root"
    assert "keytool -importcert" in found.fix


@pytest.mark.parametrize(
    "reason",
    [
        "signature check failed",
        "unrecognized critical extension(s)",
        "non-null policy tree required and policy tree is null",
    ],
)
def test_what_a_jvm_itself_says_of_a_chain_comes_before_a_root_that_it_might_lack(reason: str, tmp_path: Path) -> None:
    """Of a root that was not sent the wire cannot tell what is wrong with what it signed; who has it can."""
    words = f"PKIX path validation failed: java.security.cert.CertPathValidatorException: {reason}"
    written = (Path(__file__).parents[1] / "recorder" / "javalog" / "logs" / "jdk17-tls13-untrusted.log").read_text()
    log = tmp_path / "wrapper.log"
    log.write_text(re.sub(r"PKIX path building failed: \S+ unable to .*target", words, written))
    diagnosis = diagnose(find(str(log), lambda _: pytest.fail("it is a file"), broken=True).recording)
    assert diagnosis.cause is not None
    assert diagnosis.cause.id == "client-says"
    assert words in diagnosis.cause.text


# -- whatever comes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_servers_signature_holds_until_a_byte_that_it_is_over_is_changed(name: str) -> None:
    messages = transcript(name)
    (view,) = Case(recorded(messages).recording).views
    signed = signed_message(view)
    if signed is None or view.reading.version in {"TLSv1.0", "TLSv1.1"} or not view.chain(Side.SERVER):
        assert signature_holds(view) is None
        return
    holds = signature_holds(view)
    assert holds is (None if name in UNKNOWN_KEYS else True)
    if holds:
        place = next(number for number, one in enumerate(messages) if one.code == 2)
        raw = bytearray(messages[place].raw)
        raw[20] ^= 1  # of the server's random
        changed = (*messages[:place], replace(messages[place], raw=bytes(raw)), *messages[place + 1 :])
        (other,) = Case(recorded(changed).recording).views
        assert signature_holds(other) is False


def handed_over(how: Ending, *, sender: Side, before_alert: bool) -> Recording:
    """A server hello, the end of one side, and an alert of the client's as Java sends it."""
    hello, answer = transcript("tls13-full")[:2]
    alert = Message(2.0, Side.CLIENT, Content.ALERT, 40, False, 2, b"\x02\x28")
    leg = Leg(LegRole.THROUGH, (hello, answer, alert), ends=(End(1.0 if before_alert else 3.0, sender, how),))
    return Recording(
        "1" * 16,
        recorded(()).recording.started,
        "reverse",
        "passthrough",
        outcome=Outcome(Status.FAILED, Party.CLIENT, LegRole.THROUGH),
        legs=(leg,),
    )


@pytest.mark.parametrize(("how", "expected"), [(Ending.FIN, "target-closed"), (Ending.RESET, "target-reset")])
def test_an_alert_behind_the_end_of_the_server_is_not_why_it_ended(how: Ending, expected: str) -> None:
    assert cause(handed_over(how, sender=Side.SERVER, before_alert=True)) == expected
    assert cause(handed_over(how, sender=Side.SERVER, before_alert=False)) == "too-weak-for-client"
    assert cause(handed_over(how, sender=Side.CLIENT, before_alert=True)) == "too-weak-for-client"


@pytest.mark.parametrize(
    ("prelude", "expected"),
    [
        ({"answer": 403}, "403"),
        ({"answer": 201}, "Java takes 200 alone"),
        ({"answer": None, "said": "", "form": "nothing"}, "did not answer"),
        ({"answer": None, "said": "HTTP/1.1 ", "form": "cut"}, "broke off: 'HTTP/1.1 '"),
        ({"answer": None, "said": "SSH-2.0-x\\r\\n", "form": "no-http"}, "is no HTTP: 'SSH-2.0-x"),
        ({"answer": None, "said": "HTTP/", "form": "of another version"}, None),
        ({"answer": 200}, None),
        ({"answer": 200, "said": "HTTP/1.1 200 OK\\r\\nContent-Length: 7\\r\\n", "form": "whole"}, None),
        ({"answer": None}, None),
        ({}, None),
    ],
)
def test_what_connect_was_answered_tells_why_there_is_no_tunnel(prelude: dict[str, Any], expected: str | None) -> None:
    recording = replace(recorded(()).recording, legs=(), prelude={"request": {"method": "CONNECT"}, **prelude})
    found = diagnose(replace(recording, outcome=Outcome(Status.FAILED, Party.CLIENT))).cause
    assert (found.id if found else None) == (None if expected is None else "no-tunnel")
    assert expected is None or (found is not None and expected in found.text)


CUT_OFF = Message(0.1, Side.CLIENT, Content.ALERT, 10, False, 2, b"\x02\x0a")
UNKNOWN_CA = Message(0.1, Side.CLIENT, Content.ALERT, 48, False, 2, b"\x02\x30")
PAGE = "<html>Please accept the terms of use.</html>"
WITH_A_PAGE = (
    {"said": f"HTTP/1.1 200 OK\\r\\nContent-Length: {len(PAGE)}\\r\\n\\r\\n{PAGE}", "form": "with-body"},
    {"protocol": "http", "dialogue": [{"t": 0.1, "from": "server", "text": PAGE}]},  # of a capture
)


@pytest.mark.parametrize("prelude", WITH_A_PAGE)
@pytest.mark.parametrize(
    ("messages", "alert", "expected"),
    [
        ("tls12-ecdhe", (), "no-tunnel"),
        ("tls12-ecdhe", (CUT_OFF,), "no-tunnel"),
        ("tls12-ecdhe", (UNKNOWN_CA,), "missing-intermediate"),
        ("tls13-full", (), "no-tunnel"),
    ],
)
def test_a_body_behind_the_200_is_the_cause_however_far_the_server_has_come_meanwhile(
    prelude: dict[str, Any], messages: str, alert: tuple[Message, ...], expected: str
) -> None:
    """Unless the client has said that it read what came behind the body."""
    flight = transcript(messages)
    flight = flight[: next(n for n, one in enumerate(flight) if one.sender is Side.CLIENT and n)]
    leg = Leg(LegRole.THROUGH, (*flight, *alert), ends=(End(0.2, Side.CLIENT, Ending.RESET),))
    recording = replace(recorded(()).recording, legs=(leg,), outcome=Outcome(Status.FAILED, Party.CLIENT))
    recording = replace(recording, prelude={"request": {"method": "CONNECT"}, "answer": 200, **prelude})
    assert cause(recording) == expected, diagnose(recording).to_json()


@pytest.mark.parametrize("name", NAMES)
def test_every_prefix_of_a_session_can_be_diagnosed(name: str) -> None:
    messages = transcript(name)
    for end in range(len(messages) + 1):
        for status in Status:
            recording = recorded(messages[:end]).recording
            outcome = Outcome(status, text="Whatever.")
            for role in LegRole:
                leg = Leg(role, recording.legs[0].messages)
                diagnosis = diagnose(replace(recording, outcome=outcome, legs=(leg,)))
                assert all(one.id in kinds() and one.evidence for one in diagnosis.findings), diagnosis.to_json()


@pytest.mark.peer("curl")
def test_a_diagnosis_is_shown_with_the_cure_first_and_is_the_same_from_json(root: Path) -> None:
    recording = fetched("leaf-subject-with-escape-sequences", root, "--tls-max", "1.2")
    recording = replace(recording, outcome=Outcome(Status.FAILED, text="Made to fail."))
    for family in FAMILIES:
        diagnosis = diagnose(recording, family=family)
        text = show(diagnosis, width=100)
        assert text.startswith("Fix: ")
        assert "The proxy ran the scenario kept out of sight" in text
        assert all(line == printable(line) for line in text.splitlines())
        assert diagnose(from_json(json.loads(json.dumps(to_json(recording)))), family=family) == diagnosis
    with pytest.raises(UserError, match="there is no family of clients 'cobol'"):
        diagnose(recording, family="cobol")


def test_each_kind_says_what_to_do_and_where_it_is_known_from() -> None:
    assert len(kinds()) >= 50
    for kind in kinds().values():
        assert kind.title
        assert not kind.title.endswith(".")
        assert kind.fix.endswith((".", "?", ")", "{cure}")), kind.id
        assert kind.source
        assert set(kind.fixes) <= set(FAMILIES), kind.id
        for words in (kind.fix, *kind.fixes.values()):
            names = [name for _, name, _, _ in Formatter().parse(words) if name is not None]
            assert all(re.fullmatch(r"[a-z_]+", name) for name in names), kind.id


# -- what the server left out, fetched -----------------------------------------------------------------------------


def kept(chain: Sequence[bytes], path: Path) -> Path:
    """A recording of a server that sends this chain, as a file."""
    path.write_text(json.dumps(to_json(recorded(shown_chain(chain)).recording)))
    return path


async def test_a_missing_intermediate_is_fetched_when_asked_and_only_then(tmp_path: Path) -> None:
    async with answered(tmp_path / "ca") as made:
        authority, out = made.responder.authority, tmp_path / "issuers.pem"
        file = kept([made.leaf], tmp_path / "leaf-only.json")
        asked = len(made.responder.asked)
        await to_thread(countersign, "diagnose", file, "--home", tmp_path / "home")
        assert len(made.responder.asked) == asked
        told = await to_thread(
            countersign, "diagnose", file, "--home", tmp_path / "home", "--json", "--fetch-issuers", out
        )
        assert out.read_bytes() == b"".join(map(to_pem, [*authority.chain, authority.root.der]))
        assert "found the issuer" in told.err
        assert told.json()["schema"] == 1
        again = await to_thread(countersign, "diagnose", file, "--home", tmp_path / "home", "--fetch-issuers", out)
        assert "--overwrite" in again.err
        await made.fault("404")
        other = tmp_path / "other.pem"
        nowhere = await to_thread(countersign, "diagnose", file, "--home", tmp_path / "home", "--fetch-issuers", other)
        assert nowhere.code == 3
        assert "HTTP 404" in nowhere.err
        assert not other.exists()


def test_nothing_is_fetched_where_nothing_is_missing(tmp_path: Path) -> None:
    whole = [AUTHORITY.issuer.der, AUTHORITY.root.der]
    told = countersign(
        "diagnose", kept(whole, tmp_path / "r.json"), "--home", tmp_path / "home", "--fetch-issuers", tmp_path / "x"
    )
    assert "nothing to fetch" in told.err
    without = countersign(
        "diagnose", kept(whole[:1], tmp_path / "s.json"), "--home", tmp_path / "home", "--fetch-issuers", tmp_path / "x"
    )
    assert without.code == 3
    assert "names no place for its issuer" in without.err
