from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest

from countersign.recorder.recording import Status
from countersign.recorder.wire.events import Side
from tests.recorder.javalog import logs_of_java as java

REFUSED = "jdk17-tls13-untrusted.log"
ASKED = "jdk17-tls12-client-certificate.log"
BOTH = pytest.mark.parametrize("name", [REFUSED, ASKED])


def test_a_refused_certificate_is_read_from_a_log_of_java_17() -> None:
    recording = java.read_one(java.log(REFUSED))
    assert java.told(recording) == [
        ("client", "client_hello", False),
        ("server", "server_hello", False),
        ("server", "change_cipher_spec", False),
        ("server", "encrypted_extensions", True),
        ("server", "certificate", True),
        ("client", "alert", True),
    ]
    assert (recording.outcome.broken_by, recording.outcome.alert) == ("client", "certificate_unknown")
    assert "PKIX path building failed" in recording.outcome.text
    reading = recording.legs[0].read()
    assert (reading.version, reading.cipher, reading.group) == ("TLSv1.3", "TLS_AES_256_GCM_SHA384", "x25519")
    subjects = [sent.facts.subject for sent in reading.certificates]
    assert subjects == ["CN=localhost,O=Lab", "CN=Lab Issuing CA,O=Lab"]
    leaf = reading.certificates[0].facts
    assert leaf.san == ("DNS:localhost", "DNS:server.lab.test", "IP:127.0.0.1", "IP:::1")
    assert (leaf.is_ca, leaf.key, leaf.signature_algorithm) == (False, "EC", "ecdsa-with-SHA256")
    assert leaf.serial is not None
    assert recording.started == datetime(2026, 11, 21, 13, 19, 40, 700_000, UTC) or recording.started.second == 40
    assert recording.log["said"][0]["causes"][0].startswith("sun.security.validator.ValidatorException")


def test_a_hello_is_byte_for_byte_what_was_sent() -> None:
    """Its length is that of the record in which it went out, as a log with records says it."""
    message = java.read_one(java.log(ASKED)).legs[0].messages[0]
    assert message.told is not None
    assert message.told.whole
    assert len(message.form) == 459
    assert java.read_one(java.log(ASKED)).legs[0].read().ja4 is not None


def test_what_the_log_does_not_hold_is_absent() -> None:
    recording = java.read_one(java.log(ASKED))
    certificates = recording.legs[0].read().certificates
    assert {sent.der for sent in certificates} == {b""}
    assert {sent.facts.sha256 for sent in certificates} == {""}
    assert {message.length for message in recording.legs[0].messages if message.told is not None} == {0}
    assert all(message.raw == b"" for message in recording.legs[0].messages if message.told is not None)
    assert (recording.client, recording.target) == (None, None)


@BOTH
def test_the_words_of_older_versions_say_the_same(name: str) -> None:
    """FINE for DEBUG, no source line, two blanks in a key, and no gap in the middle of a dump's line."""
    old = java.log(name)
    for new, before in (("DEBUG", "FINE"), ("ERROR", "SEVERE"), ('"not after"', '"not  after"')):
        old = old.replace(f"|{new}|", f"|{before}|").replace(new if new.startswith('"') else "\0", before)
    old = re.sub(r"\|[A-Za-z0-9]+\.java:\d+\|", "|null:-1|", old)
    old = re.sub(r"(?m)^( *[0-9A-F]{4}:(?: [0-9A-F]{2}){8})  ( [0-9A-F]{2})", r"\1\2", old)
    assert "FINE" in old
    assert "null:-1" in old
    assert java.comparable(java.read_one(old)) == java.comparable(java.read_one(java.log(name)))


@BOTH
@pytest.mark.parametrize("thread", ["Worker|0[node, a] (x)", "http-nio-443-exec-1", "a|b|2026-11-21|c", "", "Größe ☃"])
def test_any_name_of_a_thread_is_read(name: str, thread: str) -> None:
    text = java.log(name).replace("|10|main|", f"|2F|{thread}|")
    recording = java.read_one(text)
    assert recording.log["thread"] == thread
    assert java.comparable(recording) == java.comparable(java.read_one(java.log(name)))


@pytest.mark.parametrize(
    ("shown", "hour", "doubted"),
    [
        ("2026-11-21 24:38:34.123 UTC", 0, False),
        ("2026-11-21 13:38:34.123 CET", 12, False),
        ("2026-11-21 13:38:34.123 CEST", 11, False),
        ("2026-11-21 13:38:34.123 CST", 19, True),
        ("2026-11-21 13:38:34.123 IST", 8, True),
        ("2026-11-21 13:38:34.123 GMT-03:00", 16, False),
        ("2026-11-21 13:38:34.123 +0530", 8, False),
        ("2026-11-21 13:38:34.123 XYZT", 13, True),
        ("2026-11-21 13:38:34,123", 13, True),
    ],
)
def test_times_are_read_in_their_zone_and_what_is_not_certain_of_them_is_said(
    shown: str, hour: int, *, doubted: bool
) -> None:
    text = re.sub(r"2026-11-21 \d\d:\d\d:\d\d\.\d{3} UTC", shown, java.log(REFUSED))
    recording = java.read_one(text)
    assert recording.started.hour == hour
    assert (recording.started.day, recording.started.second, recording.started.microsecond) == (21, 34, 123_000)
    assert ("log.time_zone" in java.problems(recording)) is doubted


def test_messages_of_one_millisecond_keep_their_order() -> None:
    text = re.sub(r"2026-11-21 \d\d:\d\d:\d\d\.\d{3} UTC", "2026-11-21 13:38:34.123 UTC", java.log(ASKED))
    times = [message.t for message in java.read_one(text).legs[0].messages]
    assert times == sorted(set(times))
    assert times[-1] < 0.001


def test_a_time_that_goes_back_does_not_turn_messages_round() -> None:
    text = java.log(ASKED)
    later = re.sub(r"13:19:37", "13:19:59", text, count=40)
    assert java.told(java.read_one(later)) == java.told(java.read_one(text))
    assert [m.t for m in java.read_one(later).legs[0].messages] == sorted(
        m.t for m in java.read_one(later).legs[0].messages
    )


# -- a list of CA names in one line ---------------------------------------------------------------------------------


def authorities(shown: str) -> tuple[tuple[str | None, ...] | None, bool]:
    text = java.log(ASKED).replace("[CN=Lab Root CA, O=Lab]", f"[{shown}]")
    recording = java.read_one(text)
    return recording.legs[0].read().requested_ca_texts, "log.certificate_authorities" in java.problems(recording)


def test_a_name_that_stands_in_a_certificate_of_the_log_is_cut_out_with_certainty() -> None:
    assert authorities("CN=Lab Root CA, O=Lab") == (("CN=Lab Root CA,O=Lab",), False)
    both = ("CN=Lab Root CA,O=Lab", "CN=Lab Issuing CA,O=Lab")
    assert authorities("CN=Lab Root CA, O=Lab, CN=Lab Issuing CA, O=Lab") == (both, False)


@pytest.mark.parametrize(
    ("shown", "names"),
    [
        ("CN=A, O=X, C=US, CN=B, O=Y, C=US", ("CN=A,O=X,C=US", "CN=B,O=Y,C=US")),
        ("OU=One, O=X, C=US, OU=Two, OU=Three, O=Y", ("OU=One,O=X,C=US", "OU=Two,OU=Three,O=Y")),
        ('CN="A, Inc.", O=X, CN=B', ("CN=A\\, Inc.,O=X", "CN=B")),
        (
            "EMAILADDRESS=a@lab.test, CN=A, O=X, CN=B, DC=lab, DC=test",
            ("emailAddress=a@lab.test,CN=A,O=X", "CN=B,DC=lab,DC=test"),
        ),
        ("CN=A + SERIALNUMBER=7, O=X, CN=B", ("CN=A+serialNumber=7,O=X", "CN=B")),
    ],
)
def test_where_a_name_ends_is_judged_by_the_order_of_its_parts_and_the_doubt_is_said(
    shown: str, names: tuple[str, ...]
) -> None:
    assert authorities(shown) == (names, True)


def test_an_empty_list_and_a_single_part_leave_no_doubt() -> None:
    assert authorities("") == ((), False)
    assert authorities("CN=Alone") == (("CN=Alone",), False)


def test_a_list_that_is_none_is_absent() -> None:
    names, _ = authorities("this is not a list of names")
    assert names is None
    recording = java.read_one(java.log(ASKED).replace("[CN=Lab Root CA, O=Lab]", "[this is none]"))
    assert java.fields(recording, "certificate_request")["certificate_authorities"] is None


# -- conversations -------------------------------------------------------------------------------------------------


def entries(text: str) -> list[str]:
    """The entries of a log, each with its body."""
    return [one for one in re.split(r"(?m)^(?=javax\.net\.ssl\|)", text) if one]


def test_entries_of_threads_that_take_turns_are_kept_apart() -> None:
    first = entries(java.log(ASKED).replace("|10|main|", "|1F|one|"))
    second = entries(java.log(REFUSED).replace("|10|main|", "|20|two|"))
    mixed = []
    while first or second:
        mixed += first[:3] + second[:2]
        first, second = first[3:], second[2:]
    recordings = sorted(java.read("".join(mixed)), key=lambda one: one.log["thread"])
    assert [one.log["thread"] for one in recordings] == ["one", "two"]
    alone = [java.read_one(java.log(ASKED)), java.read_one(java.log(REFUSED))]
    assert [java.comparable(one) for one in recordings] == [java.comparable(one) for one in alone]


def test_a_log_that_was_written_twice_has_each_conversation_once_more() -> None:
    both = java.read(java.log(ASKED) + java.log(REFUSED))
    assert [one.outcome.status for one in both] == [Status.ESTABLISHED, Status.FAILED]
    assert len({one.id for one in both}) == 2


def test_the_same_conversation_has_the_same_id_wherever_its_log_was_copied_to() -> None:
    alone = java.read_one(java.log(REFUSED)).id
    behind, wrapped = java.log(ASKED) + java.log(REFUSED), java.log(REFUSED).replace("\n", "\r\n")
    assert java.read(behind)[1].id == alone
    assert java.read_one(wrapped).id == alone


def test_a_connection_of_which_the_hello_is_missing_is_begun_in_the_middle() -> None:
    text = java.log(REFUSED)
    at = text.index(
        "javax.net.ssl|",
        text.index("Consuming encrypted") if "Consuming encrypted" in text else text.index("EncryptedExtensions.java"),
    )
    recording = java.read_one(text[at:])
    assert "stream.begin" in java.problems(recording)
    assert recording.outcome.alert == "certificate_unknown"
    assert recording.outcome.broken_by == "client"


def test_an_alert_that_could_not_be_sent_is_no_message() -> None:
    text = java.log(REFUSED) + (
        "javax.net.ssl|WARNING|10|main|2026-11-21 13:19:40.760 UTC|TransportContext.java:412|"
        "Fatal: failed to send fatal alert CERTIFICATE_UNKNOWN (\n)\n"
    )
    recording = java.read_one(text)
    assert "alert" not in [kind for _, kind, _ in java.told(recording)]


def test_who_the_log_belongs_to_is_kept_beside_it() -> None:
    log = java.read_one(java.log(REFUSED)).log
    assert (log["form"], log["side"], log["thread"]) == ("jsse", "client", "main")
    assert 1 < log["first_line"] < log["last_line"]
    assert java.log(REFUSED).splitlines()[log["first_line"] - 1].endswith("Produced ClientHello handshake message (")


def test_the_random_that_joins_it_with_a_recording_of_the_wire_is_there() -> None:
    text = java.log(ASKED)
    random = re.search(r'"random"\s*: "([0-9A-F]{64})"', text)
    assert random
    assert java.read_one(text).legs[0].read().client_random == bytes.fromhex(random[1])
    assert java.fields(java.read_one(text), "client_hello")["random"] == random[1].lower()
    assert java.read_one(text).legs[0].messages[0].sender is Side.CLIENT


@pytest.mark.parametrize(
    ("thrown", "status"),
    [
        ("javax.net.ssl.SSLPeerUnverifiedException: Hostname server.lab.test not verified", Status.ABANDONED),
        ("java.security.cert.CertificateException: no pin fits", Status.ABANDONED),
        ("java.io.IOException: Server returned HTTP response code: 401", Status.ESTABLISHED),
        ("java.net.SocketException: Connection reset", Status.ESTABLISHED),
    ],
)
def test_what_a_client_refuses_behind_the_handshake_its_log_does_not_call_established(
    thrown: str, status: Status
) -> None:
    """An application that judges name, pin or chain by itself does so when the log of the handshake is over."""
    whole = java.log(ASKED).partition("SSLSocket duplex close failed")[0].rpartition("\n")[0]
    recording = java.read_one(f'{whole}\nException in thread "main" {thrown}\n\tat Main.main(Main.java:1)\n')
    assert recording.outcome.status is status
    assert (thrown in recording.outcome.text) is (status is Status.ABANDONED)
