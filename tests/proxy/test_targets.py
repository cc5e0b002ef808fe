"""What a target may do wrong: the recording names it and says why, and the client gets an alert that fits."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import select
import socket
import ssl
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from countersign.ca.pem import to_pem
from countersign.proxy import Address, Identity, Limits, Mode
from countersign.proxy.resolver import RESOLVER
from countersign.recorder import der as asn1
from countersign.recorder.certificates import cut_certificate, read_certificate
from countersign.recorder.recording import Ending, FailureCode, LegRole, Party, Recording, Status, to_json
from countersign.recorder.wire.events import Content, Side
from tests.proxy.running import RunningProxy
from tests.proxy.wire import (
    TLS10,
    TLS11,
    TLS12,
    TLS13,
    Target,
    alert,
    ask,
    client_context,
    client_hello,
    connect,
    connect_request,
    echo,
    in_records,
    reset,
    rest,
    send,
    server_context,
    silent,
    tls,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.peers.certs import Issued, Lab

HELLO = in_records(client_hello())


def der(issued: Issued) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return issued.certificate.public_bytes(Encoding.DER)


def proxied(target: Target | Address, lab: Lab, **settings: Any) -> RunningProxy:
    """A proxy in front of this target that trusts the lab's root."""
    address = target.address if isinstance(target, Target) else target
    return RunningProxy(target=address, **{"roots": (der(lab.root),), **settings})


def assert_broken_by_target(recording: Recording, *words: str) -> None:
    assert_outcome(recording, Party.TARGET, *words)


def assert_outcome(recording: Recording, party: Party, *words: str) -> None:
    outcome = recording.outcome
    assert (outcome.status, outcome.broken_by) == (Status.FAILED, party), outcome
    for word in words:
        assert word in outcome.text
    assert not [failure for failure in recording.failures if failure.code == "internal"]
    to_json(recording)


# -- not reached -------------------------------------------------------------------------------------------------


def test_nothing_listens(lab: Lab, free_port: int) -> None:
    with proxied(Address("127.0.0.1", free_port), lab) as proxy:
        assert send(proxy, HELLO) == alert("internal_error")
        recording = proxy.recording()
    assert_broken_by_target(recording, "refuses TCP connections")
    assert recording.leg(LegRole.CLIENT) is not None


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> dict[str, Callable[[], Any]]:
    """What happens when one of these names is looked up."""
    known = socket.getaddrinfo
    odd: dict[str, Callable[[], Any]] = {}

    def look_up(host: Any, *args: Any, **settings: Any) -> Any:
        return odd[host]() if host in odd else known(host, *args, **settings)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(RESOLVER, "_found", {})  # nothing is known from before, nor for long
    monkeypatch.setattr("countersign.proxy.resolver.KEPT", 0.0)
    return odd


def slow_name() -> Any:
    time.sleep(3)
    return []


def unknown_name() -> Any:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def test_a_name_without_an_address(lab: Lab, resolver: dict[str, Callable[[], Any]]) -> None:
    with proxied(Address("localhost", 443), lab) as proxy:
        resolver["localhost"] = unknown_name
        assert send(proxy, HELLO) == alert("internal_error")
        recording = proxy.recording()
    words = "knows no address of localhost: Name or service not known; check the name"
    assert_outcome(recording, Party.NETWORK, words)


def test_a_resolver_that_does_not_answer_is_given_up_and_holds_up_no_address(
    lab: Lab, resolver: dict[str, Callable[[], Any]]
) -> None:
    with Target(echo(server_context(lab.server))) as target:
        settings: dict[str, Any] = {"mode": Mode.CONNECT, "roots": (der(lab.root),), "limits": Limits(connect=2)}
        resolver["slow.test"] = slow_name
        with RunningProxy(**settings) as proxy, contextlib.ExitStack() as stack:
            waiting = [stack.enter_context(connect(proxy)) for _ in range(10)]
            for connection in waiting:
                connection.sendall(connect_request("slow.test", 443))
            time.sleep(0.1)
            answer = send(proxy, connect_request("127.0.0.1", target.address.port), finish=True)
            assert not select.select(waiting, [], [], 0)[0], "these wait for their resolver still"
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert rest(waiting[0]).startswith(b"HTTP/1.1 504 ")
            recording = proxy.recordings(11)[0]
    assert_outcome(recording, Party.NETWORK, "named no address of slow.test within 2 s")


@pytest.mark.parametrize(
    ("number", "party", "words"),
    [
        (errno.ECONNRESET, Party.TARGET, "resets TCP connections"),
        (errno.EHOSTUNREACH, Party.NETWORK, "gave no connection to 127.0.0.1:443: no route to host"),
        (errno.EMFILE, Party.PROXY, "no file descriptor"),
    ],
)
def test_why_a_connection_did_not_come_about(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, number: int, party: Party, words: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, "Connect call failed ('127.0.0.1', 443)")

    with proxied(Address("127.0.0.1", 443), lab) as proxy:
        connection = connect(proxy)
        monkeypatch.setattr(asyncio.SelectorEventLoop, "sock_connect", fail)
        connection.sendall(HELLO)
        assert rest(connection) == alert("internal_error")
        connection.close()
        recording = proxy.recording()
    assert_outcome(recording, party, words)


def test_a_target_that_does_not_take_the_connection(lab: Lab) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, contextlib.ExitStack() as stack:
        address = full.getsockname()
        for _ in range(8):  # until the kernel drops the next SYN
            waiting = socket.socket()
            waiting.setblocking(False)
            stack.callback(waiting.close)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(address)
        with proxied(Address(*address), lab, limits=Limits(connect=0.2, handshake=0.2)) as proxy:
            answer = send(proxy, HELLO)
            recording = proxy.recording()
    assert answer == alert("internal_error")
    assert recording.outcome.status is Status.FAILED
    assert recording.outcome.broken_by in {Party.NETWORK, Party.TARGET}


# -- says nothing, leaves, or does not speak TLS -----------------------------------------------------------------


def test_a_target_that_says_nothing(lab: Lab) -> None:
    with Target(silent) as target, proxied(target, lab, limits=Limits(handshake=0.2)) as proxy:
        assert send(proxy, HELLO) == alert("internal_error")
        recording = proxy.recording()
    assert_broken_by_target(recording, "fell silent", "client_hello of the proxy")
    assert recording.outcome.leg is LegRole.SERVER
    leg = recording.leg(LegRole.SERVER)
    assert leg is not None
    assert (Side.SERVER, Ending.SILENT) in {(end.sender, end.how) for end in leg.ends}


@pytest.mark.parametrize("how", ["closes", "resets"])
@pytest.mark.parametrize("when", ["at once", "after the hello"])
def test_a_target_that_leaves(lab: Lab, how: str, when: str) -> None:
    def leave(connection: socket.socket) -> None:
        if when == "after the hello":
            connection.recv(65536)
        if how == "resets":
            reset(connection)

    with Target(leave) as target, proxied(target, lab) as proxy:
        assert send(proxy, HELLO) == alert("internal_error")
        recording = proxy.recording()
    if when == "after the hello":
        assert_broken_by_target(recording, how[:-1], "in the middle of the handshake")
    else:
        assert_broken_by_target(recording)


@pytest.mark.parametrize("cut", [1, 5, 40, 200, 600, 1100])
@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_a_target_that_leaves_in_its_flight(lab: Lab, cut: int, version: str) -> None:
    context = server_context(lab.server, version=version)

    def speak_in_part(connection: socket.socket) -> None:
        into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
        secured = context.wrap_bio(into, out, server_side=True)
        into.write(connection.recv(65536))
        with contextlib.suppress(ssl.SSLWantReadError):
            secured.do_handshake()
        connection.sendall(out.read()[:cut])

    with Target(speak_in_part) as target, proxied(target, lab) as proxy:
        assert send(proxy, HELLO) == alert("internal_error")
        recording = proxy.recording()
    assert_broken_by_target(recording, "in the middle of the handshake")
    assert recording.from_target == cut


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "HTTP/1.1 400 Bad Request"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "SSH-2.0"),
        (b"\0" * 50, "00 00"),
        (b"\x16\x03\x03\xff\xff" + b"\xee" * 200, ""),
        (b"\x16\x03\x03\x00\x04\x02\x00\x00\x00", ""),
        (b"\x16\x03\x03\x00\x04\x0b\x00\x00\x00", ""),
        (b"\x17\x03\x03\x00\x04data", ""),
    ],
    ids=["HTTP", "SSH", "zeros", "long record", "empty ServerHello", "another message", "application data"],
)
def test_a_target_that_does_not_speak_tls(lab: Lab, answer: bytes, said: str) -> None:
    def talk(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(answer)
        rest(connection)

    with Target(talk) as target, proxied(target, lab, limits=Limits(handshake=1)) as proxy:
        assert send(proxy, HELLO) == alert("handshake_failure")
        recording = proxy.recording()
    assert_broken_by_target(recording, said)


@pytest.mark.parametrize(
    ("number", "name"),
    [(40, "handshake_failure"), (70, "protocol_version"), (112, "unrecognized_name"), (80, "internal_error")],
)
def test_the_targets_alert_is_passed_on_to_the_client(lab: Lab, number: int, name: str) -> None:
    def refuse(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(bytes((21, 3, 3, 0, 2, 2, number)))
        rest(connection)

    with Target(refuse) as target, proxied(target, lab) as proxy:
        assert send(proxy, HELLO) == alert(name)
        recording = proxy.recording()
    assert_broken_by_target(recording, f"alert {name}")
    assert (recording.outcome.alert, recording.outcome.leg) == (name, LegRole.SERVER)


@pytest.mark.parametrize("number", [110, 111, 113, 114, 115, 200])
def test_an_alert_that_openssl_has_odd_words_for_is_the_targets_own(lab: Lab, number: int) -> None:
    def refuse(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(bytes((21, 3, 3, 0, 2, 2, number)))
        rest(connection)

    with Target(refuse) as target, proxied(target, lab) as proxy:
        assert send(proxy, HELLO) == bytes((21, 3, 3, 0, 2, 2, number))
        recording = proxy.recording()
    assert (recording.outcome.status, recording.outcome.broken_by) == (Status.FAILED, Party.TARGET)
    assert not recording.failures


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b"\x15\3\3\0\2\1\x70" + b"\x15\3\3\0\2\2\x28", "handshake_failure"),
        (b"\x15\3\3\0\2\1\x70", "internal_error"),
        (b"\x15\3\3\0\2\1\0", "handshake_failure"),
        (b"\x15\3\3\0\2\1\x70" + b"\x16\3\3\0\4\x0e\0\0\0", "handshake_failure"),
    ],
    ids=["then a fatal one", "then nothing", "close_notify", "then nonsense"],
)
def test_a_warning_of_the_target_is_not_passed_on_as_fatal(lab: Lab, said: bytes, told: str) -> None:
    def warn(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(said)
        connection.shutdown(socket.SHUT_WR)
        rest(connection)

    with Target(warn) as target, proxied(target, lab) as proxy:
        assert send(proxy, HELLO) == alert(told)
        recording = proxy.recording()
    assert (recording.outcome.status, recording.outcome.broken_by) == (Status.FAILED, Party.TARGET)


def test_what_a_target_began_to_say_before_it_left_is_recorded(lab: Lab) -> None:
    def begin(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"\x16\3\3\0\x40\2\0\0\x60\3\3")
        connection.shutdown(socket.SHUT_WR)
        rest(connection)

    with Target(begin) as target, proxied(target, lab) as proxy:
        send(proxy, HELLO)
        recording = proxy.recording()
    assert (recording.outcome.status, recording.outcome.broken_by) == (Status.FAILED, Party.TARGET)
    assert any(role is LegRole.SERVER and problem.sender is Side.SERVER for role, problem in recording.problems), (
        recording.problems
    )


def test_a_client_certificate_that_openssl_refuses_is_laid_to_the_proxy(lab: Lab) -> None:
    identity = Identity((der(lab.client),), ec.generate_private_key(ec.SECP256R1()))
    with Target(echo(server_context(lab.server))) as target, proxied(target, lab, identity=identity) as proxy:
        assert send(proxy, HELLO) == alert("internal_error")
        recording = proxy.recording()
    assert (recording.outcome.status, recording.outcome.broken_by) == (Status.FAILED, Party.PROXY)
    assert "mismatch" in recording.outcome.text
    assert [failure.code for failure in recording.failures] == [FailureCode.CANNOT_BEGIN]


def test_a_target_that_wants_a_newer_version(lab: Lab) -> None:
    with Target(echo(server_context(lab.server, version="TLSv1_3"))) as target, proxied(target, lab) as proxy:
        with pytest.raises(ssl.SSLError, match=r"(?i)protocol.version"):
            tls(proxy, client_context(version="TLSv1_2"))
        recording = proxy.recording()
    assert_broken_by_target(recording, "does not speak the version")


def test_a_target_that_answers_with_an_older_version(lab: Lab) -> None:
    """Without supported_versions that is how a server says what it has; the client did not offer it."""

    def old(connection: socket.socket) -> None:
        connection.recv(65536)
        hello = b"\3\1" + bytes(32) + b"\0" + b"\xc0\x2f" + b"\0"
        connection.sendall(b"\x16\3\1" + (len(hello) + 4).to_bytes(2, "big") + b"\2\0\0" + bytes([len(hello)]) + hello)
        rest(connection)

    with Target(old) as target, proxied(target, lab) as proxy:
        assert send(proxy, HELLO)[:1] == b"\x15"
        recording = proxy.recording()
    assert_broken_by_target(recording, "TLSv1.0", "not offered")


# -- chains that are not to be trusted ---------------------------------------------------------------------------


def expired(lab: Lab) -> Issued:
    return lab.issue("localhost", not_before=datetime.now(UTC) - timedelta(days=90), days=30)


def not_yet_valid(lab: Lab) -> Issued:
    return lab.issue("localhost", not_before=datetime.now(UTC) + timedelta(days=10), days=30)


def for_another_name(lab: Lab) -> Issued:
    return lab.issue("other.test")


def self_signed(lab: Lab) -> Issued:
    return lab.issue("localhost", signer=None)


def for_clients(lab: Lab) -> Issued:
    return lab.issue("localhost", usages=("client",))


Maker = "Callable[[Lab], Issued]"


@pytest.mark.parametrize(
    ("make", "reason", "code"),
    [
        (expired, "certificate has expired", FailureCode.NOT_VALID_NOW),
        (not_yet_valid, "certificate is not yet valid", FailureCode.NOT_VALID_NOW),
        (for_another_name, "hostname mismatch", FailureCode.WRONG_NAME),
        (self_signed, "self-signed certificate", FailureCode.UNTRUSTED),
        (for_clients, "purpose", FailureCode.BAD_CHAIN),
    ],
)
def test_an_untrusted_target_is_refused_with_the_reason(
    lab: Lab, make: Callable[[Lab], Issued], reason: str, code: FailureCode
) -> None:
    with Target(echo(server_context(make(lab)))) as target, proxied(target, lab) as proxy:
        assert send(proxy, HELLO) == alert("handshake_failure")
        recording = proxy.recording()
    assert_outcome(recording, Party.PROXY, "does not trust the target's certificate", reason, "(the leaf")
    assert [failure.code for failure in recording.failures] == [code]
    # Which roots are trusted is what matters for a chain that leads to none of them, and would mislead otherwise.
    assert ("those of --upstream-ca" in recording.outcome.text) is (code is FailureCode.UNTRUSTED)
    leg = recording.leg(LegRole.SERVER)
    assert leg is not None
    assert leg.verification is not None
    assert (leg.verification.trusted, leg.verification.enforced) == (False, True)
    facts = read_certificate(leg.read().certificates[0].der)
    told: dict[Callable[[Lab], Issued], str] = {
        expired: f"; expired on {facts.not_after}; the client would be shown the same dates",
        not_yet_valid: f"; valid from {facts.not_before} on; the client would be shown the same dates",
        for_another_name: "; the name checked is localhost, the client's SNI; the certificate is for DNS:other.test;",
    }
    assert told.get(make, "") in recording.outcome.text
    assert "--upstream-insecure" not in recording.outcome.text


def test_without_sni_the_name_checked_is_the_targets_and_the_client_may_think_otherwise(lab: Lab) -> None:
    with Target(echo(server_context(for_another_name(lab)))) as target, proxied(target, lab) as proxy:
        with contextlib.suppress(OSError):
            tls(proxy, client_context(), name=None)
        recording = proxy.recording()
    name = f"the name checked is that of the target {recording.target}: no SNI was sent"
    assert_outcome(recording, Party.PROXY, name, "is for DNS:other.test; with --upstream-insecure the client decides")


def test_of_an_expired_intermediate_the_flag_is_named_that_lets_it_through(lab: Lab) -> None:
    long_ago = datetime.now(UTC) - timedelta(days=100)
    above = lab.issue(common_name="Old CA", signer=lab.root, ca=True, key="ec-p384", not_before=long_ago, days=10)
    leaf = lab.issue("localhost", signer=above)
    with Target(echo(server_context(leaf))) as target, proxied(target, lab) as proxy:
        send(proxy, HELLO)
        recording = proxy.recording()
    ended = read_certificate(der(above)).not_after
    assert_outcome(recording, Party.PROXY, f"certificate 1 of the chain, counted from the leaf; expired on {ended}; --")
    assert "--upstream-insecure lets it through" in recording.outcome.text


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_a_target_that_wants_a_client_certificate_names_the_flag_that_gives_one(lab: Lab, version: str) -> None:
    context = server_context(lab.server)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(lab.root.cert_pem)
    with Target(echo(context)) as target, proxied(target, lab) as proxy:
        with contextlib.suppress(OSError):
            ask(proxy, client_context(version=version))
        recording = proxy.recording()
    outcome = recording.outcome
    assert (outcome.status, outcome.broken_by, outcome.leg) == (Status.FAILED, Party.TARGET, LegRole.SERVER)
    assert outcome.text.endswith("got none: --client-cert gives the proxy one to show.")


def test_a_missing_intermediate_is_refused_with_the_reason(lab: Lab) -> None:
    with Target(echo(server_context(lab.server, chain=False))) as target, proxied(target, lab) as proxy:
        assert send(proxy, HELLO) == alert("handshake_failure")
        recording = proxy.recording()
    assert_outcome(recording, Party.PROXY, "unable to get local issuer certificate", "the leaf", "--upstream-ca")
    assert [failure.code for failure in recording.failures] == [FailureCode.UNTRUSTED]


@pytest.mark.parametrize(
    "name",
    [b"\xff\xfe", b"." * 9, b".localhost", b"a b", b"xn--" * 63, b"localhost.evil.test", b"other.test", b"LOCALHOST."],
)
def test_no_server_name_makes_another_hosts_certificate_good(lab: Lab, name: bytes) -> None:
    with (
        Target(echo(server_context(lab.server))) as target,
        proxied(target, lab) as proxy,
        connect(proxy) as connection,
    ):
        connection.sendall(in_records(client_hello(sni=name)))
        answer = connection.recv(7, socket.MSG_WAITALL)
    assert (answer == alert("handshake_failure")) == (name != b"LOCALHOST.")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (expired, "certificate has expired"),
        (not_yet_valid, "certificate is not yet valid"),
        (for_another_name, "Hostname mismatch"),
    ],
)
def test_let_through_it_shows_the_client_the_same_defect(lab: Lab, make: Callable[[Lab], Issued], words: str) -> None:
    """T19: nothing bad becomes good by our hand."""
    target_leaf = make(lab)
    with Target(echo(server_context(target_leaf))) as target, proxied(target, lab, verify=False) as proxy:
        with pytest.raises(ssl.SSLCertVerificationError, match=words):
            tls(proxy)
        refused = proxy.recording()
        assert ask(proxy, client_context()) == b"good morning\n"
        taken = proxy.recordings(2)[-1]
    assert_outcome(refused, Party.CLIENT)
    assert taken.outcome.status is Status.ESTABLISHED
    leg = taken.leg(LegRole.SERVER)
    assert leg is not None
    assert leg.verification is not None
    assert (leg.verification.trusted, leg.verification.enforced) == (False, False)
    client = taken.leg(LegRole.CLIENT)
    assert client is not None
    ours, theirs = (read_certificate(one) for one in (client.read().certificates[0].der, der(target_leaf)))
    assert (ours.not_before, ours.not_after, ours.subject) == (theirs.not_before, theirs.not_after, theirs.subject)


def test_a_weak_chain_stays_refused_where_old_versions_may_be_spoken(lab: Lab, tmp_path: Path) -> None:
    """Below TLS 1.2 OpenSSL's security level is off; its measure of certificates is ours then."""
    weak = _signed_with_sha1(lab, tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.load_cert_chain(*weak)
    hello = in_records(client_hello(versions=(TLS12, TLS11, TLS10)))
    with Target(echo(context)) as target, proxied(target, lab) as proxy:
        assert send(proxy, hello) == alert("handshake_failure")
        recording = proxy.recording()
    assert_outcome(recording, Party.PROXY, "digest algorithm too weak")


def _signed_with_sha1(lab: Lab, folder: Path) -> tuple[Path, Path]:
    """The server's certificate once more, signed with ECDSA over SHA-1."""
    parts = cut_certificate(der(lab.server))
    weak = asn1.encode(asn1.SEQUENCE, asn1.encode_oid("1.2.840.10045.4.1"))
    inside = asn1.first_piece(parts.tbs).body.replace(parts.inner_algorithm, weak)
    tbs = asn1.encode(asn1.SEQUENCE, inside)
    key = lab.intermediate.key
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    signature = key.sign(tbs, ec.ECDSA(hashes.SHA1()))
    made = asn1.encode(asn1.SEQUENCE, tbs, weak, asn1.encode(asn1.BIT_STRING, b"\0", signature))
    path = folder / "weak.pem"
    path.write_bytes(to_pem(made) + lab.server.chain_pem.read_bytes())
    return path, lab.server.key_pem


# -- what the proxy offers ---------------------------------------------------------------------------------------


def offered_upstream(lab: Lab, hello: bytes) -> Any:
    """Our own hello to the target when the client's is this one, read; none when we made none."""
    from countersign.recorder.wire.reading import summarize_client_hello

    heard: list[bytes] = []

    def listen(connection: socket.socket) -> None:
        data = b""
        while len(data) < 5 or len(data) < 5 + int.from_bytes(data[3:5], "big"):
            data += connection.recv(65536)
        heard.append(data)

    with Target(listen) as target, proxied(target, lab) as proxy:
        send(proxy, in_records(hello))
        proxy.recording()
    return summarize_client_hello(heard[0][5:]) if heard else None


@pytest.mark.parametrize(
    "hello",
    [
        client_hello(),
        client_hello(versions=(TLS13,)),
        client_hello(versions=(TLS13, TLS12), suites=(0x1301,)),
        client_hello(versions=(TLS13, TLS12), suites=(0xC02F,)),
        client_hello(versions=(TLS12,)),
        client_hello(versions=None),
        client_hello(versions=(TLS13, TLS11, TLS10), suites=(0x1303, 0xC013)),
        client_hello(versions=(TLS12, TLS10), suites=(0xC013, 0x002F)),
        client_hello(versions=(0x6A6A, TLS13, TLS12), suites=(0x2A2A, 0x1301, 0xC02F), groups=(0x3A3A, 0x001D)),
        client_hello(groups=(0x0018, 0x0017), shares=()),
        client_hello(groups=(0x0017,), shares=(0x0017,)),
        client_hello(groups=(0x11EC, 0x001D), shares=(0x001D,)),
        client_hello(groups=(0x0100,), shares=()),
        client_hello(groups=(0x0015,), shares=(), versions=(TLS13, TLS12), suites=(0x1301, 0xC02F, 0x009C)),
        client_hello(versions=None, groups=None, suites=(0x009C, 0x002F)),
        client_hello(versions=None, suites=(0xC02F, 0x0034, 0x0002, 0x008C)),
        client_hello(versions=None, suites=(0xC02F, 0x5600)),
    ],
    ids=range(17),
)
def test_nothing_is_offered_upstream_that_the_client_did_not_offer(lab: Lab, hello: bytes) -> None:
    """T22."""
    from countersign.recorder.wire.reading import summarize_client_hello

    theirs, ours = summarize_client_hello(hello), offered_upstream(lab, hello)
    assert ours is not None
    implied = {TLS12, TLS11, TLS10} if not any(extension == 43 for extension in theirs.extensions) else set()
    allowed = set(theirs.versions) | {version for version in implied if version <= theirs.legacy_version}
    mine = set(ours.versions) | (set() if 43 in ours.extensions else {ours.legacy_version})
    assert mine <= allowed
    assert set(ours.ciphers) - {0x00FF} <= set(theirs.ciphers)
    if theirs.groups:
        assert set(ours.groups) <= set(theirs.groups)
    assert set(ours.key_share_groups) <= set(theirs.groups)
    assert (0x5600 in ours.ciphers) == (0x5600 in theirs.ciphers)
    assert ours.sni_raw == b"localhost"


def test_alpn_and_name_are_passed_on_as_they_came(lab: Lab) -> None:
    ours = offered_upstream(lab, client_hello(sni=b"LocalHost", alpn=(b"h2", b"\x00odd", b"http/1.1")))
    assert (ours.sni_raw, ours.alpn_raw) == (b"LocalHost", (b"h2", b"\x00odd", b"http/1.1"))
    ours = offered_upstream(lab, client_hello(sni=None))
    assert (ours.sni_raw, ours.alpn_raw) == (None, ())


# -- in CONNECT mode ---------------------------------------------------------------------------------------------


def test_a_failed_dial_is_a_502_and_what_fails_later_an_alert(lab: Lab, free_port: int) -> None:
    with Target(silent) as target:
        settings: dict[str, Any] = {"mode": Mode.CONNECT, "roots": (der(lab.root),), "limits": Limits(handshake=0.2)}
        with RunningProxy(**settings) as proxy:
            refused = send(proxy, connect_request("127.0.0.1", free_port))
            later = send(proxy, connect_request("127.0.0.1", target.address.port) + HELLO)
            first, second = proxy.recordings(2)
    assert refused.startswith(b"HTTP/1.1 502 ")
    assert b"refuses TCP connections" in refused
    assert_broken_by_target(first, "refuses TCP connections")
    assert first.prelude["answer"] == 502
    assert later == b"HTTP/1.1 200 Connection established\r\n\r\n" + alert("internal_error")
    assert_broken_by_target(second, "fell silent")


def test_a_recorded_alert_of_ours_is_the_one_on_the_wire(lab: Lab, free_port: int) -> None:
    with proxied(Address("127.0.0.1", free_port), lab) as proxy:
        answer = send(proxy, HELLO)
        leg = proxy.recording().leg(LegRole.CLIENT)
    assert leg is not None
    (sent,) = [message for message in leg.messages if message.content is Content.ALERT]
    assert answer[5:] == sent.raw
