from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given, strategies as st

from countersign.recorder.recording import Ending, Status, to_json
from countersign.recorder.wire import extensions as e, messages as m
from countersign.recorder.wire.events import Side
from tests.recorder.javalog import logs_of_java as java

RANDOM = "6a9f81e23365093ae54fd35ea7f758f66c361860d1385720a6177031dae16eb4"
SERVER_RANDOM = "6a1081c3b010350ba1b3ce15d2240823d44a583f1000afcf5ce3c6ffb3d5a081"
PINNED = "unable to find valid certification path to requested target"


def test_a_refused_certificate_is_read_from_a_log_of_java_8() -> None:
    recording = java.read_one(java.log("java8-untrusted.log"))
    assert java.told(recording) == [
        ("client", "client_hello", False),
        ("server", "server_hello", False),
        ("server", "certificate", False),
        ("client", "alert", False),
    ]
    assert recording.outcome.status is Status.FAILED
    assert (recording.outcome.broken_by, recording.outcome.alert) == ("client", "certificate_unknown")
    assert "PKIX path building failed" in recording.outcome.text
    hello = java.fields(recording, "client_hello")
    assert hello["random"] == RANDOM
    assert hello["cipher_suites"][3:5] == ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_RSA_WITH_3DES_EDE_CBC_SHA"]
    assert java.fields(recording, "server_hello")["random"] == SERVER_RANDOM
    (leg,) = recording.legs
    reading = leg.read()
    assert (reading.version, reading.cipher) == ("TLSv1.2", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256")
    assert reading.sni == recording.sni == "server.lab.test"
    assert reading.client_random == bytes.fromhex(RANDOM)
    assert [(end.sender, end.how) for end in leg.ends] == [(Side.CLIENT, Ending.FIN)]
    (said,) = recording.log["said"]
    assert [cause.rpartition(": ")[2] for cause in said["causes"]] == [PINNED, PINNED]


def test_a_certificate_page_is_read_into_the_facts_that_the_certificate_gives() -> None:
    recording = java.read_one(java.log("java8-untrusted.log"))
    first, second = (sent.facts for sent in recording.legs[0].read().certificates)
    assert (first.subject, first.issuer) == ("CN=localhost,O=Fixture", "CN=Fixture Issuing CA,O=Fixture")
    assert first.serial == "5ae11b2f560b73e4d5ccb61fb0562db7c078c046"
    assert (first.not_before, first.not_after) == ("2026-11-21T13:29:07Z", "2026-12-21T13:29:07Z")
    assert (first.version, first.key, first.signature_algorithm) == (3, "RSA 2048", "sha256WithRSAEncryption")
    assert first.san == ("DNS:localhost", "DNS:server.lab.test", "IP:127.0.0.1", "IP:::1")
    assert (first.is_ca, first.key_usage) == (False, ("digitalSignature", "keyEncipherment"))
    assert first.extended_key_usage == ("serverAuth",)
    assert first.aki == second.ski == "8344 3466 1d6b 53f0 4e5d 8266 fea7 7cb6 086f 9f40".replace(" ", "")
    assert first.extensions[0] == "authority_key_identifier"
    assert first.critical == ("basic_constraints", "key_usage")
    assert (second.subject, second.is_ca, second.path_length) == ("CN=Fixture Issuing CA,O=Fixture", True, 0)
    assert (first.sha256, first.self_signed) == ("", None)


def test_what_java_says_of_trusted_certificates_is_no_chain() -> None:
    recording = java.read_one(java.log("java8-asked-for-certificate.log"))
    senders = [(sent.sender, sent.facts.subject) for sent in recording.legs[0].read().certificates]
    assert senders == [(Side.SERVER, "CN=localhost,O=Fixture"), (Side.SERVER, "CN=Fixture Issuing CA,O=Fixture")]
    assert "Elsewhere" not in json.dumps(to_json(java.read_one(java.log("java8-untrusted.log"))))


def test_a_request_for_a_certificate_and_an_empty_answer_are_read() -> None:
    recording = java.read_one(java.log("java8-asked-for-certificate.log"))
    assert java.told(recording) == [
        ("client", "client_hello", False),
        ("server", "server_hello", False),
        ("server", "certificate", False),
        ("server", "server_key_exchange", False),
        ("server", "certificate_request", False),
        ("server", "server_hello_done", False),
        ("client", "certificate", False),
        ("client", "client_key_exchange", False),
        ("client", "change_cipher_spec", False),
        ("client", "finished", True),
        ("server", "change_cipher_spec", False),
        ("server", "finished", True),
        ("server", "alert", True),
    ]
    assert recording.outcome.status is Status.ESTABLISHED
    asked = java.fields(recording, "certificate_request")
    assert asked["certificate_types"] == ["rsa_sign", "dss_sign", "ecdsa_sign"]
    assert asked["signature_algorithms"] == ["rsa_pkcs1_sha512", "rsa_pkcs1_sha256", "rsa_pss_rsae_sha256"]
    names = ("CN=Fixture Root CA,O=Fixture", "CN=Branch\\, North,OU=Agents,O=Fixture,C=US")
    assert recording.legs[0].read().requested_ca_texts == names
    exchange = java.fields(recording, "server_key_exchange")
    assert exchange["public"] == (
        "04a5832a7b2fa6f4cac80f9ba7f6b9b00edd48b441fe966bfc9bcb50168c725751"
        "d12fe62d011cde4c89d2f1ade5fc2bb577b4c48593d1e4b8f66a2c2ea73ccdec"
    )
    assert (exchange["algorithm"], exchange["signature"]) == ("rsa_pkcs1_sha512", None)
    assert java.fields(recording, "certificate", 1)["certificates"] == []
    data = recording.legs[0].data
    assert {side.value: (count.records, count.length) for side, count in data.items()} == {
        "client": (1, 215),
        "server": (1, 1024),
    }
    assert [said["text"] for said in recording.log["said"]] == [
        "Warning: no suitable certificate found - continuing without client authentication"
    ]


@pytest.mark.parametrize(
    "beginning", ["11223344", "2122334455", "3122334455", "414d534543524554", "51223344", "61223344"]
)
def test_no_secret_and_no_key_of_a_log_is_kept(beginning: str) -> None:
    (start,) = [
        line
        for line in java.log("java8-asked-for-certificate.log").splitlines()
        if line[6:29].replace(" ", "").lower().startswith(beginning[:10])
    ][:1]
    secret = bytes.fromhex(start[6:53].replace("   ", " "))
    document = json.dumps(to_json(java.read_one(java.log("java8-asked-for-certificate.log"))))
    for shift in range(3):
        inner = base64.b64encode(bytes(shift) + secret)[4:-4].decode()
        assert inner not in document
    assert secret.hex() not in document.lower()
    assert secret.hex(" ") not in document.lower()


# -- hellos --------------------------------------------------------------------------------------------------------

BYTES_32 = st.binary(min_size=32, max_size=32)
HOSTS = st.from_regex(r"[a-z][a-z0-9-]{0,20}(\.[a-z]{1,9}){1,3}", fullmatch=True)
SUITES = st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=40)
SCHEMES = st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=20)
EXTENSIONS = st.one_of(
    st.builds(lambda hosts: e.ServerName((e.ServerNameEntry(0, hosts.encode()),)), HOSTS),
    st.builds(
        lambda groups: e.SupportedGroups(tuple(groups)), st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=20)
    ),
    st.builds(lambda formats: e.EcPointFormats(tuple(formats)), st.lists(st.integers(0, 2), min_size=1, max_size=3)),
    st.builds(lambda schemes: e.SignatureAlgorithms(tuple(schemes)), SCHEMES),
    st.just(e.ExtendedMasterSecret()),
    st.builds(e.RenegotiationInfo, st.binary(max_size=36)),
    st.builds(lambda name: e.Alpn((name.encode(),)), st.from_regex(r"[a-z0-9/.-]{1,20}", fullmatch=True)),
    st.builds(e.UnknownExtension, st.integers(0x2000, 0x3000), st.binary(max_size=20)),
)
BLOCKS = st.lists(EXTENSIONS, max_size=8, unique_by=lambda one: one.code).map(tuple).map(lambda block: block or None)


@given(BYTES_32, st.binary(max_size=32), SUITES, BLOCKS)
def test_any_client_hello_comes_back_byte_for_byte(
    random: bytes, session_id: bytes, suites: list[int], block: tuple[e.Extension, ...] | None
) -> None:
    hello = m.ClientHello(0x0303, random, session_id, tuple(suites), (0,), block)
    recording = java.read_one(java.lines(java.client_hello(hello), "main, WRITE: TLSv1.2 Handshake, length = 1"))
    message = recording.legs[0].messages[0]
    assert message.form == hello.build()
    assert message.told is not None
    assert message.told.whole
    assert (message.raw, message.length) == (b"", 0)


@given(BYTES_32, st.binary(max_size=32), st.integers(0, 0xFFFF))
def test_any_server_hello_comes_back_byte_for_byte(random: bytes, session_id: bytes, suite: int) -> None:
    block = (e.RenegotiationInfo(b""), e.ServerNameAcknowledged())
    hello = m.ServerHello(0x0303, random, session_id, suite, 0, block)
    recording = java.read_one(
        java.lines(
            java.client_hello(HELLO),
            "main, WRITE: TLSv1.2 Handshake, length = 1",
            "main, READ: TLSv1.2 Handshake, length = 1",
            java.server_hello(hello),
        )
    )
    assert [message.form for message in recording.legs[0].messages] == [HELLO.build(), hello.build()]


HELLO = m.ClientHello(0x0303, bytes(range(32)), b"", (0xC02F, 0x009C), (0,), (e.ExtendedMasterSecret(),))
SERVER_HELLO = m.ServerHello(0x0303, bytes(range(64, 96)), b"\x01" * 32, 0xC02F, 0, None)
WRITTEN = "main, WRITE: TLSv1.2 Handshake, length = 53"
ANSWERED = ("main, READ: TLSv1.2 Handshake, length = 81", java.server_hello(SERVER_HELLO))


def test_the_name_in_the_words_of_java_7_is_read() -> None:
    printed = [*java.client_hello(HELLO)[:-1], "Extension server_name, server_name: [host_name: old.lab.test]", "***"]
    assert java.read_one(java.lines(printed, WRITTEN)).sni == "old.lab.test"


def test_a_random_without_a_time_is_read() -> None:
    printed = java.client_hello(HELLO)
    printed[1] = f"RandomCookie:  random_bytes = {java.decimals(HELLO.random)}"
    assert java.read_one(java.lines(printed, WRITTEN)).legs[0].messages[0].form == HELLO.build()


def test_of_what_was_not_printed_nothing_is_said() -> None:
    text = java.lines(
        "*** ClientHello, TLSv1.2", WRITTEN, "main, READ: TLSv1.2 Handshake, length = 81", "*** ServerHello, TLSv1.1"
    )
    recording = java.read_one(text)
    hello = java.fields(recording, "client_hello")
    assert hello["legacy_version"] == "TLSv1.2"
    assert {hello[name] for name in ("random", "session_id", "cipher_suites", "compression_methods")} == {None}
    reading = recording.legs[0].read()
    assert (reading.client_random, reading.ja3, reading.ja4) == (None, None, None)
    assert java.fields(recording, "server_hello")["cipher_suite"] is None


def test_an_extension_that_cannot_be_turned_back_is_named_and_not_made_up() -> None:
    printed = [*java.client_hello(HELLO)[:-1], "Extension status_request: ocsp, something of the future", "***"]
    recording = java.read_one(java.lines(printed, WRITTEN))
    told = recording.legs[0].messages[0].told
    assert told is not None
    assert told.absent in {("extensions[1]",), ("extensions",)}
    assert recording.legs[0].read().ja4 is None


# -- whose line it is ----------------------------------------------------------------------------------------------


def test_a_hello_that_was_read_is_a_servers_log() -> None:
    text = java.lines(
        "Thread-3, READ: TLSv1 Handshake, length = 53",
        java.client_hello(HELLO),
        "%% Initialized:  [Session-1, SSL_NULL_WITH_NULL_NULL]",
        "Thread-3, fatal error: 40: no cipher suites in common",
        "javax.net.ssl.SSLHandshakeException: no cipher suites in common",
        "%% Invalidated:  [Session-1, SSL_NULL_WITH_NULL_NULL]",
        "Thread-3, SEND TLSv1.2 ALERT:  fatal, description = handshake_failure",
        "Thread-3, WRITE: TLSv1.2 Alert, length = 2",
    )
    recording = java.read_one(text)
    assert (recording.log["side"], recording.log["thread"]) == ("server", "Thread-3")
    assert java.told(recording) == [("client", "client_hello", False), ("server", "alert", False)]
    assert (recording.outcome.broken_by, recording.outcome.alert) == ("target", "handshake_failure")
    assert "no cipher suites in common" in recording.outcome.text


def test_an_old_hello_of_a_client_is_one_that_was_read() -> None:
    text = java.lines("main, READ:  SSL v2, contentType = Handshake, translated length = 53", java.client_hello(HELLO))
    assert java.read_one(text).log["side"] == "server"


def test_a_log_without_threads_is_read() -> None:
    text = java.lines(
        java.client_hello(HELLO),
        "WRITE: TLSv1.2 Handshake, length = 53",
        "READ: TLSv1.2 Alert, length = 2",
        "RECV TLSv1.2 ALERT:  fatal, handshake_failure",
    )
    recording = java.read_one(text)
    assert java.told(recording) == [("client", "client_hello", False), ("server", "alert", False)]
    assert recording.outcome.broken_by == "target"


def test_conversations_of_several_threads_are_kept_apart() -> None:
    names = ("Thread-1", "pool-1-thread-7 [a, b] (x)", "Agent, main")
    hellos = [m.ClientHello(0x0303, bytes([n]) * 32, b"", (0xC02F,), (0,), None) for n in range(3)]
    answers = [m.ServerHello(0x0303, bytes([n + 64]) * 32, bytes([n]) * 8, 0xC02F, 0, None) for n in range(3)]
    text = java.lines(
        *(
            java.lines(java.client_hello(hello), f"{name}, WRITE: TLSv1.2 Handshake, length = 43").rstrip("\n")
            for hello, name in zip(hellos, names, strict=True)
        ),
        *(
            java.lines(f"{name}, READ: TLSv1.2 Handshake, length = 50", java.server_hello(answer)).rstrip("\n")
            for answer, name in reversed(list(zip(answers, names, strict=True)))
        ),
        *(
            f"{name}, RECV TLSv1.2 ALERT:  fatal, {alert}"
            for name, alert in zip(names, ("unknown_ca", "access_denied", "<UNKNOWN ALERT: 120>"), strict=True)
        ),
    )
    recordings = sorted(java.read(text), key=lambda one: one.log["first_line"])
    assert [one.log["thread"] for one in recordings] == list(names)
    assert [[message.form for message in one.legs[0].messages[:2]] for one in recordings] == [
        [hello.build(), answer.build()] for hello, answer in zip(hellos, answers, strict=True)
    ]
    alerts = [one.outcome.alert for one in recordings]
    assert alerts == ["unknown_ca", "access_denied", "no_application_protocol"]


def test_handshakes_one_after_the_other_on_a_thread_are_recordings_of_their_own() -> None:
    again = m.ClientHello(0x0303, bytes(32), b"\x01" * 32, (0xC02F,), (0,), None)
    resumed = m.ServerHello(0x0303, b"\x09" * 32, b"\x01" * 32, 0xC02F, 0, None)
    text = java.lines(
        "%% No cached client session", java.client_hello(HELLO), WRITTEN, *ANSWERED,
        "%% Client cached [Session-1, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]",
        "%% Try resuming [Session-1, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256] from port 51234",
        java.client_hello(again), "main, WRITE: TLSv1.2 Handshake, length = 79",
        "main, READ: TLSv1.2 Handshake, length = 81", java.server_hello(resumed),
        "%% Server resumed [Session-1, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]",
        "main, READ: TLSv1.2 Change Cipher Spec, length = 1",
        "main, READ: TLSv1.2 Handshake, length = 40", java.finished(bytes(12)),
        "main, WRITE: TLSv1.2 Change Cipher Spec, length = 1",
        java.finished(bytes(range(12))), "main, WRITE: TLSv1.2 Handshake, length = 40",
        "main, WRITE: TLSv1.2 Application Data, length = 7",
        "main, READ: TLSv1.2 Application Data, length = 9",
    )  # fmt: skip
    first, second = sorted(java.read(text), key=lambda one: one.log["first_line"])
    assert java.told(first) == [("client", "client_hello", False), ("server", "server_hello", False)]
    assert java.told(second) == [
        ("client", "client_hello", False),
        ("server", "server_hello", False),
        ("server", "change_cipher_spec", False),
        ("server", "finished", True),
        ("client", "change_cipher_spec", False),
        ("client", "finished", True),
    ]
    assert second.legs[0].read().resumed is True
    assert second.outcome.status is Status.ESTABLISHED


# -- how it ended --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "ending"),
    [
        ("main, received EOFException: error", Ending.FIN),
        ("main, handling exception: java.net.SocketException: Connection reset", Ending.RESET),
        ("main, handling exception: java.net.SocketTimeoutException: Read timed out", Ending.SILENT),
        (
            (
                "main, handling exception: javax.net.ssl.SSLHandshakeException: "
                "Remote host closed connection during handshake"
            ),
            Ending.FIN,
        ),
    ],
)
def test_how_the_target_ended_it_is_told_by_the_exception(line: str, ending: Ending) -> None:
    recording = java.read_one(java.lines(java.client_hello(HELLO), WRITTEN, line))
    assert [(end.sender, end.how) for end in recording.legs[0].ends] == [(Side.SERVER, ending)]
    assert recording.outcome.status is Status.FAILED
    assert recording.outcome.broken_by == "target"


def test_an_answer_without_tls_is_told_by_the_exception() -> None:
    thrown = "javax.net.ssl.SSLException: Unrecognized SSL message, plaintext connection?"
    text = java.lines(
        java.client_hello(HELLO),
        WRITTEN,
        f"main, handling exception: {thrown}",
        "main, SEND TLSv1.2 ALERT:  fatal, description = unexpected_message",
    )
    recording = java.read_one(text)
    assert [failure.code.value for failure in recording.failures] == ["not-tls"]
    assert recording.outcome.broken_by == "target"


def test_a_log_that_says_no_more_accuses_nobody() -> None:
    recording = java.read_one(java.lines(java.client_hello(HELLO), WRITTEN, *ANSWERED))
    assert recording.outcome.status is Status.INTERRUPTED
    assert recording.outcome.broken_by is None


# -- dumps ---------------------------------------------------------------------------------------------------------


def record(kind: int, data: bytes) -> bytes:
    return bytes([kind, 3, 3]) + len(data).to_bytes(2, "big") + data


@pytest.mark.parametrize("upper", [True, False])
@pytest.mark.parametrize("spaced", [True, False])
def test_where_records_were_dumped_their_bytes_are_the_messages(*, upper: bool, spaced: bool) -> None:
    def dumped(data: bytes) -> list[str]:
        return java.dump(data, upper=upper, spaced=spaced)

    out, back = HELLO.build(), SERVER_HELLO.build() + m.ServerHelloDone().build()
    text = java.lines(
        java.client_hello(HELLO),
        f"[write] MD5 and SHA1 hashes:  len = {len(out)}", dumped(out),
        WRITTEN,
        f"[Raw write]: length = {len(out) + 5}", dumped(record(22, out)),
        "[Raw read]: length = 5", dumped(record(22, back)[:5]),
        f"[Raw read]: length = {len(back)}", dumped(back),
        "main, READ: TLSv1.2 Handshake, length = 85", java.server_hello(SERVER_HELLO),
        "[read] MD5 and SHA1 hashes:  len = 77", dumped(SERVER_HELLO.build()),
        "*** ServerHelloDone",
        "[read] MD5 and SHA1 hashes:  len = 4", dumped(m.ServerHelloDone().build()),
    )  # fmt: skip
    messages = java.read_one(text).legs[0].messages
    assert [message.raw for message in messages] == [out, SERVER_HELLO.build(), m.ServerHelloDone().build()]
    assert all(message.told is None for message in messages)


def test_a_line_that_stands_behind_a_dump_without_a_line_end_is_read() -> None:
    """As IBM's JSSE prints it."""
    dumped = java.dump(HELLO.build(), upper=False)
    dumped[-1] = f"{dumped[-1][:57]:<57}{'.' * (len(HELLO.build()) % 16)}main, WRITE: TLSv1.2 Handshake, length = 53"
    text = java.lines(
        java.client_hello(HELLO),
        f"[write] MD5 and SHA1 hashes:  len = {len(HELLO.build())}",
        dumped,
        "main, READ: TLSv1.2 Alert, length = 2",
        "main, RECV TLSv1.2 ALERT:  fatal, protocol_version",
    )
    recording = java.read_one(text)
    assert recording.legs[0].messages[0].raw == HELLO.build()
    assert recording.outcome.alert == "protocol_version"


def test_names_of_suites_in_the_words_of_ibm_are_read() -> None:
    printed = [
        line.replace("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "SSL_ECDHE_RSA_WITH_AES_128_GCM_SHA256")
        for line in java.client_hello(HELLO)
    ]
    assert "SSL_ECDHE" in java.lines(printed)
    assert java.read_one(java.lines(printed, WRITTEN)).legs[0].messages[0].form == HELLO.build()
