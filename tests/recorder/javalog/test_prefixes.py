from __future__ import annotations

import pytest

from tests.recorder.javalog import logs_of_java as java

ALL = (
    "java8-untrusted.log",
    "java8-asked-for-certificate.log",
    "jdk17-tls12-client-certificate.log",
    "jdk17-tls13-untrusted.log",
)
"""One prefix: JSSE prints an entry in one piece, so a wrapper puts its own before each line."""

WRAPPER = "INFO   | jvm 1    | 2026/11/21 12:00:00 | "
PREFIXES = {
    "wrapper": WRAPPER,
    "wrapper, time first": "2026/11/21 12:00:00 | INFO   | jvm 2    | ",
    "wrapper, short": "jvm 1    | ",
    "agent": "11/21/26 12:00:00 (123) Worker-Standard:HttpProbe-2c0ffee1 DEBUG: ",
    "agent, new": "2026-11-21 12:00:00.123+0000 INFO  (Worker-Standard:HttpProbe) [HttpProbe:54] ",
    "container": "2026-11-21T12:00:00.123456789Z stderr F ",
    "syslog": "Nov 21 12:00:00 host-7 mid-agent[4711]: ",
    "wrapper in a container": "2026-11-21T12:00:00.123456789Z stdout F " + WRAPPER,
    "unknown": "[tenant-7/cell-3] <12345> ",
    "unknown with an arrow": "app-7d9f-2 | 2026 -> ",
}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("prefix", PREFIXES.values(), ids=list(PREFIXES))
def test_what_stands_before_the_lines_changes_nothing_that_is_told(name: str, prefix: str) -> None:
    plain = java.log(name)
    recording = java.read_one("".join(f"{prefix}{line}\n" for line in plain.splitlines()))
    assert java.comparable(recording) == java.comparable(java.read_one(plain))
    assert recording.log["prefix"] == prefix.rstrip()


@pytest.mark.parametrize(
    "prefix", [PREFIXES["wrapper"], PREFIXES["agent"], PREFIXES["agent, new"], PREFIXES["container"]]
)
def test_a_log_without_times_has_those_of_its_prefixes(prefix: str) -> None:
    plain = java.log("java8-untrusted.log")
    recording = java.read_one("".join(f"{prefix}{line}\n" for line in plain.splitlines()))
    assert "log.time" in java.problems(java.read_one(plain))
    assert "log.time" not in java.problems(recording)
    assert (recording.started.day, recording.started.hour, recording.started.minute) == (21, 12, 0)


def test_wrapped_processes_that_write_at_the_same_time_are_kept_apart() -> None:
    one = [f"INFO   | jvm 1    | 2026/11/21 12:00:00 | {line}" for line in java.log(ALL[0]).splitlines()]
    two = [f"INFO   | jvm 2    | 2026/11/21 12:00:00 | {line}" for line in java.log(ALL[3]).splitlines()]
    mixed = []
    while one or two:
        mixed += one[:1] + two[:2]
        one, two = one[1:], two[2:]
    recordings = sorted(java.read(java.lines(mixed)), key=lambda recording: recording.log["form"])
    alone = [java.read_one(java.log(ALL[3])), java.read_one(java.log(ALL[0]))]
    assert [java.comparable(recording) for recording in recordings] == [
        java.comparable(recording) for recording in alone
    ]


AGENT = [
    "11/21/26 12:00:00 (001) MIDServer INFO: Initializing MID Server",
    "11/21/26 12:00:00 (002) ECCSender.1 DEBUG: Sending ecc_queue.1f.xml",
    "2026-11-21 12:00:00.003 INFO  (Worker-Standard) [Probe:12] probe with <xml/> *** done",
    "WARNING *** something of the agent that has stars ***",
    "java.lang.IllegalStateException: a cause that has nothing to do with TLS",
    "\tat com.lab.agent.Probe.run(Probe.java:12)",
]


@pytest.mark.parametrize("name", ALL)
def test_a_log_of_an_agent_around_it_says_nothing_of_tls(name: str) -> None:
    plain = java.log(name).splitlines()
    at = next(n for n, line in enumerate(plain) if "%%" in line or "Consuming ServerHello" in line)
    text = java.lines(AGENT * 5, plain[:at], AGENT[:3], plain[at:], AGENT * 5)
    recording = java.read_one(text)
    assert java.comparable(recording) == java.comparable(java.read_one(java.log(name)))
    assert "IllegalState" not in str(recording.log)


def test_a_line_of_another_stream_within_an_entry_is_no_part_of_it() -> None:
    plain = java.log(ALL[3]).splitlines()
    at = next(n for n, line in enumerate(plain) if '"cipher suites"' in line)
    text = java.lines(plain[:at], "11/21/26 12:00:00 (002) ECCSender.1 DEBUG: Sending", plain[at:])
    assert java.comparable(java.read_one(text)) == java.comparable(java.read_one(java.log(ALL[3])))


def test_an_exception_that_the_agent_logs_for_the_same_thread_is_kept_as_evidence() -> None:
    thrown = "javax.net.ssl.SSLHandshakeException: Received fatal alert: bad_certificate"
    lines = [
        *java.log("java8-asked-for-certificate.log").splitlines()[:15],
        "11/21/26 12:00:01 (001) other-worker SEVERE: *** ERROR *** java.net.ConnectException: Connection refused",
        f"11/21/26 12:00:01 (002) http-worker WARNING: *** WARNING *** {thrown}",
        "\tat com.lab.agent.Probe.run(Probe.java:12)",
        "Caused by: java.io.IOException: https://user:hunter2@server.lab.test/api?password=hunter2 failed",
    ]
    recording = java.read_one(java.lines([f"{WRAPPER}{line}" for line in lines]))
    (said,) = recording.log["said"]
    assert said["causes"][0] == thrown
    assert said["causes"][1].startswith("java.io.IOException: https://(redacted)@server.lab.test/api?password=")
    assert "hunter2" not in str(recording.log)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("margin", ["    ", "\t"])
def test_a_log_that_was_pasted_as_a_block_of_code_is_read_as_it_was(name: str, margin: str) -> None:
    plain = java.log(name)
    text = "it says:\n\n" + "".join(f"{margin}{line}\n" if line else "\n" for line in plain.splitlines())
    assert java.comparable(java.read_one(text)) == java.comparable(java.read_one(plain))


PASTED = """
    "ClientHello": {
      "client version"      : "TLSv1.2",
      "random"              : "3EC1AECE3CE19374279E75AC5F7E4B991657C2A68716F86C1A79F5C35175DC61",
      "session id"          : "",
      "cipher suites"       : "[TLS_AES_256_GCM_SHA384(0x1302), TLS_RSA_WITH_AES_128_CBC_SHA(0x002F)]",
      "compression methods" : "00",
      "extensions"          : [
        "server_name (0)": {
          type=host_name (0), value=lab.test
        }
      ]
    }
    javax.net.ssl|ERROR|01|main|2020-09-02 03:50:05.562 UTC|TransportContext.java:1|\
Fatal (HANDSHAKE_FAILURE): Received fatal alert: handshake_failure (
    "throwable" : {
      javax.net.ssl.SSLHandshakeException: Received fatal alert: handshake_failure
      \tat lab.Client.main(Client.java:1)}

    )
"""


def test_a_hello_that_was_pasted_without_its_first_line_goes_with_the_alert_that_answered_it() -> None:
    recording = java.read_one(PASTED)
    assert java.told(recording) == [("client", "client_hello", False), ("server", "alert", False)]
    assert (recording.outcome.broken_by, recording.outcome.alert) == ("target", "handshake_failure")
    assert "log.side" in java.problems(recording)
    assert recording.sni == "lab.test"
