from __future__ import annotations

import json
import random
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings, strategies as st

from countersign.recorder.files.javalog import read_java_log, reading
from countersign.recorder.files.javalog.lines import LONGEST
from countersign.recorder.files.ladder import render_ladder
from countersign.recorder.recording import Status, to_json
from tests.recorder.javalog import logs_of_java as java

if TYPE_CHECKING:
    from collections.abc import Callable

ALL = (
    "java8-untrusted.log",
    "java8-asked-for-certificate.log",
    "jdk17-tls12-client-certificate.log",
    "jdk17-tls13-untrusted.log",
)
EACH = pytest.mark.parametrize("name", ALL)


@EACH
def test_a_log_that_ends_at_any_line_has_the_messages_up_to_there(name: str) -> None:
    lines = java.log(name).splitlines(keepends=True)
    whole = java.read_one("".join(lines))
    messages = [(message.sender, message.content, message.code) for message in whole.legs[0].messages]
    forms = [message.form for message in whole.legs[0].messages]
    longest = 0
    for end in (*range(0, len(lines), 3), len(lines) - 1):
        found = java.read("".join(lines[:end]))
        if not found:
            continue
        (recording,) = found
        kept = recording.legs[0].messages
        assert [(message.sender, message.content, message.code) for message in kept] == messages[: len(kept)]
        assert [message.form for message in kept[:-1]] == forms[: len(kept) - 1] or name.startswith("jdk17")
        assert recording.outcome.status in {Status.INTERRUPTED, whole.outcome.status, Status.FAILED, Status.ESTABLISHED}
        if recording.outcome.status is Status.FAILED:
            assert recording.outcome.broken_by == whole.outcome.broken_by
        longest = len(kept)
    assert longest >= len(messages) - 1


@EACH
def test_a_message_that_is_cut_is_said_to_be_cut(name: str) -> None:
    text = java.log(name)
    at = text.index("extended_master_secret") if "extended_master_secret" in text else text.index("supported_versions")
    (recording,) = java.read(text[:at])
    assert "log.cut" in java.problems(recording)
    assert recording.outcome.status is Status.INTERRUPTED


@EACH
def test_a_log_that_begins_at_any_line_raises_nothing_and_makes_up_nothing(name: str) -> None:
    lines = java.log(name).splitlines(keepends=True)
    whole = java.read_one("".join(lines))
    known = {(message.sender, message.content, message.code) for message in whole.legs[0].messages}
    for start in range(0, len(lines), 3):
        for recording in java.read("".join(lines[start:])):
            assert {(one.sender, one.content, one.code) for one in recording.legs[0].messages} <= known
            assert "stream.begin" in java.problems(recording) or recording.legs[0].messages[0].code == 1


# -- other ends of lines, other encodings ---------------------------------------------------------------------------


@EACH
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_any_encoding_and_any_end_of_lines_says_the_same(name: str, encoding: str, end: str) -> None:
    text = java.log(name)
    data = text.replace("\n", end).encode(encoding)
    assert java.comparable(java.read_one(data)) == java.comparable(java.read_one(text))


def test_a_line_in_another_encoding_spoils_no_other() -> None:
    text = java.log(ALL[3]).replace("|10|main|", "|10|Gerät|").replace("CN=Lab Root CA", "CN=Café Root CA")
    lines = [line.encode("cp1252" if number % 2 else "utf-8") for number, line in enumerate(text.splitlines())]
    recording = java.read_one(b"\n".join(lines))
    assert recording.log["thread"] == "Gerät"
    assert recording.outcome.alert == "certificate_unknown"


@EACH
def test_rubbish_between_the_lines_changes_no_message_but_the_one_that_it_is_in(name: str) -> None:
    dice = random.Random(name)
    lines = java.log(name).encode().splitlines(keepends=True)
    whole = java.read_one(b"".join(lines))
    for _ in range(40):
        at = dice.randrange(len(lines))
        rubbish = dice.randbytes(dice.randrange(1, 400)) + b"\n"
        found = java.read(b"".join(lines[:at]) + rubbish + b"".join(lines[at:]))
        messages = [message for one in found for message in one.legs[0].messages]
        kinds = [(message.sender, message.code) for message in messages]
        assert kinds == [(message.sender, message.code) for message in whole.legs[0].messages]


def test_zeros_where_a_disk_was_full_are_passed_over() -> None:
    text = java.log(ALL[3]).encode()
    data = bytes(5_000) + b"\n" + text + bytes(5_000)
    assert java.comparable(java.read_one(data)) == java.comparable(java.read_one(text))


# -- anything at all ------------------------------------------------------------------------------------------------

LINES = [line for name in ALL for line in java.log(name).splitlines()]
ODD = [
    "*** ",
    "***",
    "*** ClientHello",
    "*** ClientHello, ",
    "*** ServerHello, TLSv9",
    "*** Certificate chain",
    "chain [0] = [",
    "[Raw read]: length = 99999999999999999999",
    "[read] MD5 and SHA1 hashes:  len = 5",
    "0000: 16 03",
    "0010: 16",
    "(",
    ")",
    "{",
    "}",
    '"Alert": {',
    '"level" : "fatal",',
    "javax.net.ssl|",
    "javax.net.ssl|DEBUG|||2026-99-99 99:99:99.999 UTC||Consuming ServerHello handshake message (",
    "javax.net.ssl|X|1|m|2026-11-21 12:00:00.000 Z|n|Plaintext after DECRYPTION (",
    "javax.net.ssl|X|1|m|2026-11-21 12:00:00.000 Z|n|Raw read (",
    (
        "javax.net.ssl|X|1|m|2026-11-21 12:00:00.000 Z|n|"
        "WRITE: TLSv1.3 alert(no_such_alert), length = 9,999,999,999,999,999,999,999"
    ),
    "main, RECV TLSv1.2 ALERT:  fatal, <UNKNOWN ALERT: 99999>",
    "main, READ: TLSv1.2 Handshake, length = " + "9" * 5_000,
    "RandomCookie:  GMT: " + "9" * 5_000 + " bytes = { 1 }",
    "Client raised fatal(2) certificate_unknown(999) alert: x",
    "Session ID:  {" + ", ".join("7" * 400) + "}",
    '"cipher suites" : "[(0xFFFF), (0x1), ' + "(" * 3_000 + ']"',
    "INFO   | jvm 1    | 9999/99/99 99:99:99 | *** ServerHelloDone",
    "java.lang.Exception",
    "Caused by: ",
    '"a" : [' * 300,
]


@settings(max_examples=300)
@given(st.lists(st.one_of(st.sampled_from(LINES), st.sampled_from(ODD), st.text(max_size=30)), max_size=120))
def test_no_order_of_lines_raises(lines: list[str]) -> None:
    for recording in java.read("\n".join(lines).encode("utf-8", "replace")):
        java.told(recording)


@settings(max_examples=100)
@given(st.binary(max_size=4_000), st.sampled_from(ALL), st.integers(0, 20_000))
def test_no_bytes_raise(data: bytes, name: str, at: int) -> None:
    text = java.log(name).encode()
    java.read(text[:at] + data + text[at:])


# -- bounds ---------------------------------------------------------------------------------------------------------


class Endless:
    """A file of so many bytes, which repeats a piece."""

    def __init__(self, beginning: bytes, piece: bytes, size: int) -> None:
        self._pending, self._piece, self._left = beginning, piece, size

    def read(self, count: int) -> bytes:
        if not self._pending and self._left > 0:
            times = max(count // len(self._piece), 1)
            self._pending = self._piece * times
            self._left -= len(self._pending)
        given, self._pending = self._pending[:count], self._pending[count:]
        return given


HEADER = "javax.net.ssl|DEBUG|10|main|2026-11-21 12:00:00.000 UTC|X.java:1|"
UNENDED = {
    "a line without an end": (b"", b"x" * 4096),
    "an entry without an end": (
        f"{HEADER}Consuming ServerHello handshake message (\n".encode(),
        b'  "random": "00",\n',
    ),
    "a statement without an end": (b"*** ServerHello, TLSv1.2\n", b"Extension extended_master_secret and more of it\n"),
    "a dump without an end": (
        b"[Raw read]: length = 9\n",
        b"".join(
            b"%04X: 16 03 03 00 00 00 00 00   00 00 00 00 00 00 00 00  ........\n" % at for at in range(0, 0x10000, 16)
        ),
    ),
    "a stack trace without an end": (b"javax.net.ssl.SSLException: x\n", b"\tat a.b.C.d(E.java:1)\n"),
    "a thread for each line": (
        b"",
        b"".join(
            b"thread-%d, READ: TLSv1.2 Handshake, length = 5\n*** ServerHello, TLSv1.2\n***\n" % n for n in range(3_000)
        ),
    ),
    "alerts without an end": (
        b"",
        f'{HEADER}Received alert message (\n"Alert": {{\n'.encode()
        + b'"level": "fatal",\n"description": "bad_certificate"\n}\n)\n',
    ),
    "hellos without an end": (b"", java.log(ALL[3]).encode()),
}


@pytest.mark.parametrize(("beginning", "piece"), UNENDED.values(), ids=list(UNENDED))
def test_what_never_ends_takes_bounded_memory(beginning: bytes, piece: bytes, scaled: Callable[[int], int]) -> None:
    """Until its bound it grows, so what is long enough without any structure is longer than that bound."""
    size = 64 * LONGEST if piece[:1] == b"x" else scaled(LONGEST if b"thread-1," in piece else 5 * LONGEST)
    tracemalloc.start()
    try:
        for _ in read_java_log(Endless(beginning, piece, size), otherwise=java.DATED):  # type: ignore[arg-type]
            pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 40 << 20


# -- hostile names --------------------------------------------------------------------------------------------------

ODD_NAMES = {
    "an escape": "\x1b[31mred",
    "a clipboard": "\x1b]52;c;aGk=\x07",
    "a link": "\x1b]8;;https://evil.lab.test\x07here",
    "a bell and a C1": "a\x07b\x9b31m",
    "a carriage return": "good\rbad",
    "an override": "abc\u202egpj.exe",
    "markup": "<script>alert(1)</script>",
    "a path": "../../etc/passwd",
    "a command": "$(touch pwn); rm -rf ~",
    "a line of its own": 'x", "level": "error", "text": "forged',
}


@pytest.mark.parametrize("odd", ODD_NAMES.values(), ids=list(ODD_NAMES))
@pytest.mark.parametrize("name", ALL)
def test_odd_names_reach_no_terminal_and_forge_nothing(name: str, odd: str) -> None:
    text = java.log(name).replace("Lab Issuing CA", odd).replace("Fixture Issuing CA", odd)
    text = text.replace("server.lab.test", odd).replace("main", odd)
    for recording in java.read(text):
        shown = render_ladder(recording)
        assert not [one for one in shown if one != "\n" and (ord(one) < 32 or 127 <= ord(one) < 160 or one == "\u202e")]
        log = to_json(recording)["log"]
        assert json.loads(json.dumps(log)) == log
        for said in (str(log.get("thread")), recording.outcome.text, *(one["text"] for one in log["said"])):
            assert said.isprintable()


WAYS: dict[str, Callable[[int, str], str]] = {
    "alone": lambda _, line: line,
    "in a wrapper's log": lambda n, line: f"INFO   | jvm 1    | 2026/11/21 12:00:{n // 60 % 60:02d} | {line}\r",
    "of two processes": lambda n, line: f"INFO   | jvm {n // 90 % 2}    | 2026/11/21 12:00:00 | {line}",
    "in an agent's log": lambda n, line: (
        f"2026-11-21T12:00:00.{n // 50:03d}+0000 DEBUG (worker {n // 70 % 2}) [a] {line}"
    ),
    "behind what nobody knows": lambda n, line: f" <{n // 30}> [main] {line}",
    "with other things between": lambda n, line: line + ("", "", "", "\nGrü\n", "\n*** ClientHello, TLSv1.2\n ")[n % 5],
    "with a form in it that splits": lambda n, line: line if n % 9 else f'{line}\n  x {{ | "a" : 1',
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["jdk17-tls12-client-certificate.log", "jdk17-tls13-untrusted.log"])
def test_lines_that_are_taken_together_tell_what_they_tell_one_by_one(
    name: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "\n".join(WAYS[way](n, line) for n, line in enumerate(java.log(name).splitlines()))
    together = [to_json(one) for one in java.read(text)]
    monkeypatch.setattr(reading._Job, "take_body", lambda *_: 0)
    assert together == [to_json(one) for one in java.read(text)]
    assert together
