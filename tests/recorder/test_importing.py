from __future__ import annotations

import gzip
import json
import random
import struct
import tracemalloc
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from OpenSSL import SSL

from countersign.recorder.files.documents import read_document
from countersign.recorder.files.importing import ImportTrouble, Tally, import_files
from countersign.recorder.files.pcapng import export_pcapng, pcapng_blocks
from countersign.recorder.recording import Ending, Recording, Status, to_json
from countersign.recorder.schema import load_schema
from countersign.recorder.wire.events import Message, Side
from countersign.recorder.wire.secrets import HANDSHAKE_LABELS, LABELS, KeyLog
from tests.recorder.made_captures import Lost, Wire
from tests.recorder.made_recordings import hostile, leg, recording, with_data
from tests.recorder.tls_pairs import C, Pair, S, connected, messages, pair

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from tests.recorder.made_captures import Said

VERSIONS = {"tls12": SSL.TLS1_2_VERSION, "tls13": SSL.TLS1_3_VERSION}
PASSWORD = "correct-horse"
VALIDATOR = jsonschema.Draft202012Validator(load_schema())


def talked(**settings: Any) -> Pair:
    """A whole conversation whose request has not the size of an alert."""
    made = pair(**settings)
    made.run()
    made.say(made.client, b"GET / HTTP/1.1\r\nHost: server.lab.test\r\n\r\n")
    made.say(made.server, b"x" * 40_000)
    made.close()
    return made


@pytest.fixture(params=VERSIONS)
def talk(request: pytest.FixtureRequest) -> Pair:
    return talked(version=VERSIONS[request.param])


def as_exported(one: Recording) -> dict[str, Any]:
    """Its JSON form as it is written; it never holds secrets."""
    without = replace(one, legs=tuple(replace(leg, secrets=()) for leg in one.legs))
    return json.loads(json.dumps(to_json(without)))  # type: ignore[no-any-return]


class Imported:
    """What came of a file."""

    def __init__(self, folder: Path, *files: bytes, **settings: Any) -> None:
        paths = []
        for number, data in enumerate(files):
            paths.append(folder / f"file-{number}")
            paths[-1].write_bytes(data)
        self.tally = Tally()
        found = list(import_files(paths, tally=self.tally, **settings))
        self.recordings = [one for one in found if isinstance(one, Recording)]
        self.troubles = [one for one in found if isinstance(one, ImportTrouble)]
        for one in self.recordings:
            VALIDATOR.validate(as_exported(one))

    @property
    def only(self) -> Recording:
        assert [str(trouble) for trouble in self.troubles] == []
        (only,) = self.recordings
        return only


@pytest.fixture
def imported(tmp_path: Path) -> Callable[..., Imported]:
    return lambda *files, **settings: Imported(tmp_path, *files, **settings)


def told(one: Recording, side: Side | None = None) -> list[tuple[str, str, int, bool, bytes]]:
    return messages(one.legs[0].messages, side)


def live(talk: Pair, side: Side) -> list[tuple[str, str, int, bool, bytes]]:
    """What the tap at the sender's own end told."""
    end = talk.client if side is C else talk.server
    return messages((event for event in end.events if isinstance(event, Message)), side)


def types(one: Recording) -> list[str]:
    return [message.type for message in one.legs[0].read().messages]


# -- captures, with keys and without -------------------------------------------------------------------------------


def test_a_capture_with_its_keys_tells_what_both_ends_saw(imported: Callable[..., Imported], talk: Pair) -> None:
    got = imported(Wire().conversation(talk.log).pcap(), keylog=talk.keylog)
    for side in Side:
        assert told(got.only, side) == live(talk, side)
    assert got.only.outcome.status is Status.ESTABLISHED
    assert (got.only.client, got.only.target, got.only.sni) == ("198.51.100.1:50001", "192.0.2.7:443", "localhost")
    assert (got.only.mode, got.only.action) == ("import", "import")
    assert [end.how for end in got.only.legs[0].ends] == [Ending.FIN, Ending.FIN]
    assert not got.only.problems
    assert as_exported(read_document(json.dumps(to_json(got.only)).encode())) == as_exported(got.only)
    assert (got.tally.opened, got.tally.closed) == (1, 0)
    assert got.only.from_client == sum(len(data) for side, data in talk.log if side is C)
    assert got.only.started.isoformat() == "2025-11-21T04:40:00+00:00"


def test_a_capture_without_keys_tells_what_is_in_clear(imported: Callable[..., Imported], talk: Pair) -> None:
    got = imported(Wire().conversation(talk.log).pcap())
    assert types(got.only)[:2] == ["client_hello", "server_hello"]
    assert "finished" not in types(got.only)
    assert got.only.outcome.status is Status.ESTABLISHED
    assert (got.tally.opened, got.tally.closed) == (0, 1)


def test_the_keys_of_others_change_nothing_and_are_counted(imported: Callable[..., Imported], talk: Pair) -> None:
    capture = Wire().conversation(talk.log).pcap()
    without, got = imported(capture), imported(capture, keylog=connected().keylog)
    assert to_json(got.only) == to_json(without.only)
    assert got.tally.matched == set()
    (random_,) = {secret.client_random for secret in talk.keylog}
    assert got.tally.unmatched == [random_]


@pytest.mark.parametrize("where", ["secrets_before", "secrets_after"])
def test_keys_in_the_file_open_what_is_before_and_behind_them(
    imported: Callable[..., Imported], talk: Pair, where: str
) -> None:
    text = "".join(f"{line}\n" for line in talk.keylog.lines())
    got = imported(Wire().conversation(talk.log).pcapng(**{where: text}))
    assert told(got.only, S) == live(talk, S)


def test_given_keys_go_with_those_in_the_file(imported: Callable[..., Imported], talk: Pair) -> None:
    text = "".join(f"{line}\n" for line in connected().keylog.lines())
    got = imported(Wire().conversation(talk.log).pcapng(secrets_before=text), keylog=talk.keylog)
    assert told(got.only, S) == live(talk, S)


def test_secrets_are_kept_only_when_asked(imported: Callable[..., Imported]) -> None:
    talk = connected()
    capture = Wire().conversation(talk.log).pcap()
    kept = {
        name: {secret.label for secret in imported(capture, keylog=talk.keylog, kept=labels).only.legs[0].secrets}
        for name, labels in (("none", frozenset[str]()), ("handshake", HANDSHAKE_LABELS), ("all", LABELS))
    }
    assert kept["none"] == set()
    assert kept["handshake"] == HANDSHAKE_LABELS
    assert {"CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0"} < kept["all"]


def test_the_same_conversation_has_the_same_id_whenever_it_is_imported(imported: Callable[..., Imported]) -> None:
    talk = connected()
    capture = Wire().conversation(talk.log).pcap()
    first, again = imported(capture).only, imported(capture, keylog=talk.keylog, label="again").only
    assert first.id == again.id
    assert again.label == "again"
    later = Wire().conversation([(C, b"x")]).conversation(talk.log).pcap()
    assert imported(later).only.id != first.id


def test_many_conversations_at_once_are_told_apart(imported: Callable[..., Imported]) -> None:
    talks = [connected(version=version) for version in VERSIONS.values() for _ in range(5)]
    keys, wire = KeyLog(), Wire()
    for talk in talks:
        wire.conversation(talk.log)
        for secret in talk.keylog:
            keys.add(secret.label, secret.client_random, secret.secret)
    got = imported(wire.interleaved().pcap(), keylog=keys)
    assert len(got.recordings) == len(talks)
    by_port = {one.client: one for one in got.recordings}
    for number, talk in enumerate(talks, start=50_001):
        assert told(by_port[f"198.51.100.1:{number}"], C) == live(talk, C)


def test_a_client_port_that_is_used_again_is_another_conversation(imported: Callable[..., Imported]) -> None:
    first, second = connected(), connected()
    wire = (
        Wire().conversation(first.log, client="198.51.100.1:4711").conversation(second.log, client="198.51.100.1:4711")
    )
    got = imported(wire.pcap())
    assert len({one.id for one in got.recordings}) == 2


def test_a_hello_in_pieces_is_found_and_opened(imported: Callable[..., Imported], talk: Pair) -> None:
    """One byte a segment: the client random cannot be seen when TLS begins."""
    side, hello = talk.log[0]
    said = [(side, hello[at : at + 1]) for at in range(len(hello))]
    got = imported(Wire().conversation([*said, *talk.log[1:]]).pcap(), keylog=talk.keylog)
    assert told(got.only, S) == live(talk, S)


def test_a_hello_in_tiny_records_is_found_and_opened(imported: Callable[..., Imported]) -> None:
    """T13. The server would answer another transcript; what counts is that it is read and its keys found."""
    talk = connected()
    hello = talk.log[0][1]
    body = hello[5:]
    tiny = b"".join(hello[:3] + b"\0\x01" + body[at : at + 1] for at in range(len(body)))
    got = imported(Wire().conversation([(C, tiny), *talk.log[1:]]).pcap(), keylog=talk.keylog)
    assert told(got.only, S) == live(talk, S)
    after = imported(Wire().conversation([*SMTP, (C, tiny), *talk.log[1:]]).pcap(), keylog=talk.keylog)
    assert told(after.only, S) == live(talk, S)


def test_whoever_sends_the_hello_is_the_client(imported: Callable[..., Imported], talk: Pair) -> None:
    """The server opened the connection."""
    turned = [(side.peer, data) for side, data in talk.log]
    got = imported(Wire().conversation(turned).pcap(), keylog=talk.keylog)
    assert told(got.only, C) == live(talk, C)
    assert (got.only.client, got.only.target) == ("192.0.2.7:443", "198.51.100.1:50001")
    assert got.only.from_client == sum(len(data) for side, data in talk.log if side is C)


def test_what_is_no_tls_is_counted(imported: Callable[..., Imported]) -> None:
    wire = Wire().conversation([(C, b"GET / HTTP/1.1\r\n\r\n"), (S, b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 90_000)])
    wire.conversation([]).conversation([(S, b"SSH-2.0-OpenSSH\r\n"), (C, bytes(range(256)) * 500)])
    got = imported(wire.pcap())
    assert got.recordings == []
    assert (got.tally.not_tls, got.tally.silent) == (2, 1)


def test_an_answer_that_is_no_tls_is_the_targets_fault(imported: Callable[..., Imported]) -> None:
    made = pair()
    made.client.step()
    hello = made.client.flush()
    got = imported(Wire().conversation([(C, hello), (S, b"HTTP/1.1 400 Bad Request\r\n\r\n")]).pcap())
    assert got.only.outcome.broken_by == "target"
    assert "no TLS" in got.only.outcome.text
    assert "HTTP/1.1 400" in got.only.outcome.text


def test_compressed_captures_are_read(imported: Callable[..., Imported]) -> None:
    zstandard = pytest.importorskip("zstandard")
    talk = connected()
    text = "".join(f"{line}\n" for line in talk.keylog.lines())
    plain = Wire().conversation(talk.log).pcapng(secrets_after=text)
    for packed in (gzip.compress(plain), zstandard.compress(plain)):
        assert to_json(imported(packed).only) == to_json(imported(plain).only)


# -- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_that_refuses_is_named_with_its_alert(imported: Callable[..., Imported], version: str) -> None:
    talk = connected(version=VERSIONS[version], client_trusts=False)
    got = imported(Wire().conversation(talk.log).pcap(), keylog=talk.keylog).only
    assert (got.outcome.status, got.outcome.broken_by) == (Status.FAILED, "client")
    assert got.outcome.alert
    assert imported(Wire().conversation(talk.log).pcap()).only.outcome.alert == got.outcome.alert  # it was in clear


@pytest.fixture
def refused() -> list[Said]:
    """As a JVM refuses in TLS 1.3, which needs keys to be read; OpenSSL's alert is in clear."""
    talk = connected(client_trusts=False)
    said: list[Said] = [(side, data) for side, data in talk.log if data[:1] != b"\x15"]
    return [*said, (C, b"\x17\x03\x03\x00\x23" + bytes(range(35)))]


def test_a_refusal_under_encryption_is_hinted_at(imported: Callable[..., Imported], refused: list[Said]) -> None:
    outcome = imported(Wire().conversation(refused).pcap()).only.outcome
    assert (outcome.status, outcome.broken_by, outcome.alert) == (Status.FAILED, "client", None)
    assert "size of an alert" in outcome.text
    assert "-Djdk.tls.client.protocols=TLSv1.2" in outcome.text


def test_a_request_of_the_size_of_an_alert_is_no_refusal(imported: Callable[..., Imported]) -> None:
    """``GET / HTTP/1.1`` and its two line ends: 18 bytes, 35 in their record."""
    got = imported(Wire().conversation(connected().log).pcap()).only
    assert any(record.alert_size for record in got.legs[0].encrypted_records)
    assert got.outcome.status is Status.ESTABLISHED


def test_a_key_log_of_others_does_not_hide_the_refusal(imported: Callable[..., Imported], refused: list[Said]) -> None:
    capture = Wire().conversation(refused).pcap()
    assert imported(capture, keylog=connected().keylog).only.outcome == imported(capture).only.outcome


def test_a_capture_that_ends_in_the_handshake_accuses_nobody(imported: Callable[..., Imported], talk: Pair) -> None:
    got = imported(Wire().conversation(talk.log[:2], ends=()).pcap(), keylog=talk.keylog).only
    assert (got.outcome.status, got.outcome.broken_by) == (Status.INTERRUPTED, None)
    assert "capture" in got.outcome.text


def test_a_reset_in_the_handshake_is_who_sent_it(imported: Callable[..., Imported], talk: Pair) -> None:
    got = imported(Wire().conversation(talk.log[:1], reset=S).pcap()).only
    assert (got.outcome.status, got.outcome.broken_by) == (Status.FAILED, "target")
    assert "reset" in got.outcome.text


# -- what is missing -----------------------------------------------------------------------------------------------


def lossy(log: list[tuple[Side, bytes]], side: Side, start: int, stop: int) -> list[Said]:
    """The conversation without these bytes of one side."""
    said: list[Said] = []
    at = 0
    for sender, data in log:
        if sender is not side:
            said.append((sender, data))
            continue
        first, last = (min(max(0, edge - at), len(data)) for edge in (start, stop))
        at += len(data)
        parts: list[bytes | Lost] = [data[:first], Lost(data[first:last]), data[last:]]
        said += [(sender, part) for part in parts if part not in {b"", Lost(b"")}]
    return said


def problems(one: Recording) -> list[str]:
    return [problem.field for _, problem in one.problems]


def test_bytes_missing_in_bulk_data_cost_one_record(imported: Callable[..., Imported], talk: Pair) -> None:
    sent = sum(len(data) for side, data in talk.log if side is S)
    said = lossy(talk.log, S, sent - 20_000, sent - 18_540)
    got = imported(Wire().conversation(said).pcap(), keylog=talk.keylog).only
    assert told(got, C) == live(talk, C)
    assert told(got, S) == live(talk, S)  # the goodbye behind the gap, too
    assert "stream.gap" in problems(got)
    assert len(got.problems) < 4
    assert got.outcome.status is Status.ESTABLISHED


def test_bytes_missing_in_the_handshake_spoil_no_message(imported: Callable[..., Imported]) -> None:
    talk = connected(version=SSL.TLS1_2_VERSION)
    said = lossy(talk.log, S, 200, 400)  # within the Certificate
    got = imported(Wire().conversation(said).pcap(), keylog=talk.keylog).only
    whole = live(talk, S)
    for message in got.legs[0].messages:
        if message.sender is S and message.complete:
            assert ("server", message.content.value, message.code, message.encrypted, message.raw) in whole
    assert got.outcome.status is Status.ESTABLISHED
    assert got.outcome.broken_by is None


def test_random_losses_never_raise_and_accuse_nobody(
    imported: Callable[..., Imported], talk: Pair, scaled: Callable[[int], int]
) -> None:
    rng = random.Random(7)
    for _ in range(scaled(400)):
        side = rng.choice([C, S])
        sent = sum(len(data) for sender, data in talk.log if sender is side)
        start = rng.randrange(sent)
        said = lossy(talk.log, side, start, start + rng.randrange(1, 3000))
        for keys in (talk.keylog, None):
            for one in imported(Wire().conversation(said).pcap(), keylog=keys).recordings:
                assert one.outcome.broken_by is None, one.outcome


def one_way(talk: Pair, side: Side) -> bytes:
    """A capture of what this side sent alone, as a mirror of one direction gives it."""
    wire = Wire().conversation(talk.log)
    wire.packets = [(t, data) for t, data in wire.packets if (data[20:22] == b"\x01\xbb") is (side is S)]
    return wire.pcap()


@pytest.mark.parametrize("side", Side)
def test_a_capture_of_one_direction_tells_what_there_is_and_accuses_nobody(
    imported: Callable[..., Imported], talk: Pair, side: Side
) -> None:
    got = imported(one_way(talk, side)).only
    assert types(got)[0] == ("client_hello" if side is C else "server_hello")
    assert "stream.gap" in problems(got)
    assert not set(problems(got)) - {"stream.gap", "stream.begin"}
    assert got.outcome.broken_by is None
    assert got.client == "198.51.100.1:50001"


def cut_when_captured(talk: Pair, size: int) -> bytes:
    """As `tcpdump -s` does it."""
    packets = Wire().conversation(talk.log).packets
    head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, size, 101)
    return head + b"".join(
        struct.pack("<IIII", t // 10**6, t % 10**6, min(size, len(data)), len(data)) + data[:size]
        for t, data in packets
    )


@pytest.mark.parametrize("size", [54, 60, 96, 128, 200, 400, 600, 1000])
def test_packets_cut_when_captured_accuse_nobody_and_keys_still_open_what_is_whole(
    imported: Callable[..., Imported], talk: Pair, size: int
) -> None:
    whole = [*live(talk, C), *live(talk, S)]
    for keys in (talk.keylog, None):
        got = imported(cut_when_captured(talk, size), keylog=keys)
        one = got.only
        assert one.outcome.broken_by is None, one.outcome
        assert got.tally.cut_packets
        for message in one.legs[0].messages:
            if message.complete and message.raw:
                sent = (message.sender.value, message.content.value, message.code, message.encrypted, message.raw)
                assert sent in whole
    assert got.tally.closed == 1
    if size >= 128:  # the random is there
        assert imported(cut_when_captured(talk, size), keylog=talk.keylog).tally.opened == 1


def test_a_capture_that_began_in_the_middle_says_so(imported: Callable[..., Imported], talk: Pair) -> None:
    """Behind the handshake, in the middle of a record."""
    late = [(side, data) for side, data in talk.log[-4:]]
    side, data = late[0]
    late[0] = side, data[7:]
    got = imported(Wire().conversation([*late, (S, b"")], opened=False).pcap(), keylog=talk.keylog)
    assert "stream.begin" in problems(got.only)
    assert got.only.outcome.broken_by is None
    assert "began" in got.only.outcome.text


def test_a_lost_client_hello_leaves_the_rest(imported: Callable[..., Imported], talk: Pair) -> None:
    (side, hello), *rest = talk.log
    got = imported(Wire().conversation([(side, Lost(hello)), *rest]).pcap(), keylog=talk.keylog).only
    assert types(got)[0] == "server_hello"
    assert "stream.begin" in problems(got)
    assert got.client == "198.51.100.1:50001"


# -- before TLS ----------------------------------------------------------------------------------------------------

SMTP: list[Said] = [
    (S, b"220 mail.lab.test ESMTP\r\n"),
    (C, b"EHLO me\r\n"),
    (S, b"250-mail.lab.test\r\n250-AUTH PLAIN LOGIN\r\n250 STARTTLS\r\n"),
    (C, b"STARTTLS\r\n"),
    (S, b"220 go ahead\r\n"),
]
DIALOGUES: dict[str, list[Said]] = {
    "smtp": [
        *SMTP[:3],
        (C, b"AUTH PLAIN " + PASSWORD.encode() + b"\r\n"),
        (S, b"535 not before TLS\r\n"),
        (C, b"AUTH LOGIN\r\n"),
        (S, b"334 VXNlcm5hbWU6\r\n"),
        (C, PASSWORD.encode() + b"\r\n"),
        (S, b"334 UGFzc3dvcmQ6\r\n"),
        (C, PASSWORD.encode() + b"\r\n"),
        (S, b"535 no\r\n"),
        *SMTP[3:],
    ],
    "imap": [
        (S, b"* OK IMAP4rev1\r\n"),
        (C, b"a1 LOGIN me " + PASSWORD.encode() + b"\r\n"),
        (S, b"a1 NO not before TLS\r\n"),
        (C, b"a2 login me {13}\r\n"),
        (S, b"+ go on\r\n"),
        (C, PASSWORD.encode() + b"\r\n"),
        (S, b"a2 NO\r\n"),
        (C, b"a3 STARTTLS\r\n"),
        (S, b"a3 OK begin\r\n"),
    ],
    "pop3": [
        (S, b"+OK ready\r\n"),
        (C, b"USER me\r\nPA"),
        (S, b"+OK\r\n"),
        (C, b"SS " + PASSWORD.encode() + b"\r\n"),
        (S, b"-ERR not before TLS\r\n"),
        (C, b"STLS\r\n"),
        (S, b"+OK begin\r\n"),
    ],
    "ftp": [
        (S, b"220 FTP\r\n"),
        (C, b"USER me\r\n"),
        (S, b"331 password\r\n"),
        (C, b"PASS " + PASSWORD.encode() + b"\r\n"),
        (S, b"530 not before TLS\r\n"),
        (C, b"AUTH TLS\r\n"),
        (S, b"234 begin\r\n"),
    ],
    "ldap": [
        (C, b"\x30\x1f\x02\x01\x01\x60\x1a\x02\x01\x03\x04\x06cn=bob\x80\x0d" + PASSWORD.encode()),
        (S, b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\x0d\x04\x00\x04\x00"),
        (C, b"\x30\x1d\x02\x01\x02\x77\x18\x80\x161.3.6.1.4.1.1466.20037"),
        (S, b"\x30\x0c\x02\x01\x02\x78\x07\x0a\x01\x00\x04\x00\x04\x00"),
    ],
    "postgres": [(C, b"\0\0\0\x08\x04\xd2\x16\x2f"), (S, b"S")],
    "mysql": [
        (S, b"\x4a\0\0\0\x0a8.0.33\0" + bytes(66)),
        (C, b"\x20\0\0\x01\x85\xae\xff\x19" + bytes(28)),
    ],
    "xmpp": [
        (C, b"<?xml version='1.0'?><stream:stream to='lab.test' version='1.0'>"),
        (S, b"<stream:stream><stream:features><starttls/></stream:features>"),
        (C, b"<auth mechanism='PLAIN'>" + PASSWORD.encode()[:5]),
        (S, b"<wait/>"),
        (C, PASSWORD.encode()[5:] + b"</auth>"),
        (C, b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"),
        (S, b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"),
    ],
    "nntp": [(S, b"200 news\r\n"), (C, b"AUTHINFO PASS " + PASSWORD.encode() + b"\r\n"), (S, b"483 no\r\n"),
             (C, b"STARTTLS\r\n"), (S, b"382 begin\r\n")],
    "rdp": [
        (C, b"\x03\x00\x00\x13\x0e\xe0\x00\x00\x00\x00\x00\x01\x00\x08\x00\x03\x00\x00\x00"),
        (S, b"\x03\x00\x00\x13\x0e\xd0\x00\x00\x12\x34\x00\x02\x00\x08\x00\x01\x00\x00\x00"),
    ],
    "amqp": [(C, b"AMQP\x02\x01\x00\x00"), (S, b"AMQP\x02\x01\x00\x00")],
    "nats": [(S, b'INFO {"tls_required":true}\r\n')],
    "irc": [
        (C, b"NICK me\r\nPASS " + PASSWORD.encode() + b"\r\nSTARTTLS\r\n"),
        (S, b":irc.lab.test 670 me :STARTTLS successful\r\n"),
    ],
    "unknown": [(C, b"\x01\x02" + PASSWORD.encode()), (S, b"\xff\x00")],
}  # fmt: skip


@pytest.mark.parametrize("protocol", DIALOGUES)
def test_tls_is_found_behind_a_dialogue(imported: Callable[..., Imported], talk: Pair, protocol: str) -> None:
    said = DIALOGUES[protocol]
    got = imported(Wire().conversation([*said, *talk.log]).pcap(), keylog=talk.keylog).only
    assert told(got, S) == live(talk, S)
    assert told(got, C) == live(talk, C)
    assert not got.problems
    assert got.prelude["protocol"] == protocol
    assert next(turn["from"] for turn in got.prelude["dialogue"]) == ("client" if said[0][0] is C else "server")
    everything = json.dumps(to_json(got)["prelude"])
    assert PASSWORD not in everything
    assert PASSWORD[:5] not in everything
    assert PASSWORD[5:] not in everything


@pytest.mark.parametrize(
    ("protocol", "words"),
    [
        ("smtp", ["AUTH PLAIN (redacted)", "EHLO me", "535 not before TLS", "STARTTLS"]),
        ("imap", ["a1 LOGIN (redacted)", "a3 STARTTLS"]),
        ("pop3", ["USER me", "PASS (redacted)"]),
        ("ftp", ["PASS (redacted)", "AUTH TLS"]),
        ("ldap", ["bindRequest (redacted)", "extendedRequest 1.3.6.1.4.1.1466.20037 (StartTLS)"]),
        ("postgres", ["SSLRequest", "S (yes, TLS)"]),
        ("mysql", ["greeting of 8.0.33", "SSLRequest"]),
        ("xmpp", ["<starttls", "<proceed"]),
    ],
)
def test_a_dialogue_is_kept_but_for_its_credentials(
    imported: Callable[..., Imported], protocol: str, words: list[str]
) -> None:
    talk = connected()
    got = imported(Wire().conversation([*DIALOGUES[protocol], *talk.log]).pcap()).only
    text = "\n".join(turn["text"] for turn in got.prelude["dialogue"])
    for word in words:
        assert word in text


def test_a_dialogue_of_more_than_64_kib_is_no_tls(imported: Callable[..., Imported]) -> None:
    talk = connected()
    got = imported(Wire().conversation([(C, b"GET /\r\n" * 10_000), *talk.log]).pcap())
    assert got.tally.not_tls == 1


CONNECT = (
    b"CONNECT server.lab.test:8443 HTTP/1.1\r\nHost: server.lab.test\r\nProxy-Authorization: Basic %b\r\n"
    b"X-Api-Key: opensesame\r\n\r\n"
)
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


def test_a_connect_request_names_the_target(imported: Callable[..., Imported], talk: Pair) -> None:
    said: list[Said] = [
        (C, b"CONNECT server.lab.test:8443 HTTP/1.1\r\n\r\n"),
        (S, b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 2\r\n\r\nno"),
        (C, CONNECT % PASSWORD.encode()),
        (S, ESTABLISHED),
    ]
    got = imported(Wire().conversation([*said, *talk.log], server="192.0.2.7:3128").pcap(), keylog=talk.keylog).only
    assert told(got, S) == live(talk, S)
    assert got.target == "server.lab.test:8443"
    assert got.prelude["proxy"] == "192.0.2.7:3128"
    assert got.prelude["answer"] == 200
    assert got.prelude["request"]["method"] == "CONNECT"
    assert ["Proxy-Authorization", "(redacted)"] in got.prelude["request"]["headers"]
    assert ["X-Api-Key", "(redacted)"] in got.prelude["request"]["headers"]
    assert [earlier["answer"] for earlier in got.prelude["earlier"]] == [407]
    assert PASSWORD not in json.dumps(to_json(got))
    assert "dialogue" not in got.prelude


def test_a_hello_that_does_not_wait_for_the_answer_is_found(imported: Callable[..., Imported], talk: Pair) -> None:
    """Request and hello in one segment; the proxy's answer comes with the ServerHello."""
    (_, hello), (_, answer), *rest = talk.log
    said = [(C, CONNECT % b"x" + hello), (S, ESTABLISHED + answer), *rest]
    got = imported(Wire().conversation(said).pcap(), keylog=talk.keylog).only
    assert told(got, S) == live(talk, S)
    assert got.prelude["answer"] == 200
    assert not got.problems


V2 = b"\r\n\r\n\0\r\nQUIT\n" + b"\x21\x11\0\x0c" + bytes([203, 0, 113, 9, 192, 0, 2, 7]) + b"\x15\xb3\x01\xbb"


@pytest.mark.parametrize("header", [b"PROXY TCP4 203.0.113.9 192.0.2.7 5555 443\r\n", V2])
@pytest.mark.parametrize("apart", [True, False])
def test_a_proxy_protocol_header_names_the_client(
    imported: Callable[..., Imported], talk: Pair, header: bytes, *, apart: bool
) -> None:
    (_, hello), *rest = talk.log
    said = [(C, header), (C, hello)] if apart else [(C, header + hello)]
    got = imported(Wire().conversation([*said, *rest]).pcap(), keylog=talk.keylog).only
    assert told(got, S) == live(talk, S)
    assert got.client == "203.0.113.9:5555"
    assert got.prelude["proxy_protocol"]["destination"] == "192.0.2.7:443"
    assert not got.problems


def test_a_socks_request_names_the_target_and_no_password(imported: Callable[..., Imported], talk: Pair) -> None:
    name = b"server.lab.test"
    said: list[Said] = [
        (C, b"\x05\x01\x02"),
        (S, b"\x05\x02"),
        (C, b"\x01\x02me" + bytes([len(PASSWORD)]) + PASSWORD.encode()),
        (S, b"\x01\0"),
        (C, b"\x05\x01\0\x03" + bytes([len(name)]) + name + b"\x01\xbb"),
        (S, b"\x05\0\0\x01\0\0\0\0\0\0"),
    ]
    got = imported(Wire().conversation([*said, *talk.log]).pcap(), keylog=talk.keylog).only
    assert told(got, S) == live(talk, S)
    assert got.target == "server.lab.test:443"
    assert PASSWORD not in json.dumps(to_json(got))


# -- our own exports -----------------------------------------------------------------------------------------------


def exported(version: int = SSL.TLS1_3_VERSION, **settings: Any) -> Recording:
    from countersign.recorder.recording import LegRole

    talk = connected(version=version)
    return recording(with_data(leg(talk, LegRole.CLIENT)), with_data(leg(talk, LegRole.SERVER)), **settings)


WRITERS: dict[str, Callable[[Recording], bytes]] = {
    "pcapng": export_pcapng,
    "json": lambda one: json.dumps(to_json(one), indent=2).encode(),
    "jsonl": lambda one: json.dumps(to_json(one)).encode() + b"\n",
    "json.gz": lambda one: gzip.compress(json.dumps(to_json(one)).encode()),
}


@pytest.mark.parametrize("form", WRITERS)
@pytest.mark.parametrize("version", VERSIONS)
def test_an_export_gives_the_same_recording(imported: Callable[..., Imported], form: str, version: str) -> None:
    one = exported(VERSIONS[version])
    got = imported(WRITERS[form](one))
    assert as_exported(got.only) == as_exported(one)
    assert (got.tally.recordings, got.tally.not_tls) == (1, 0)


@pytest.mark.parametrize("form", ["pcapng", "jsonl"])
def test_several_exports_in_one_file_are_all_there(imported: Callable[..., Imported], form: str) -> None:
    several = [exported(id=f"{number:016x}") for number in range(5)]
    got = imported(b"".join(WRITERS[form](one) for one in several))
    assert [as_exported(one) for one in got.recordings] == [as_exported(one) for one in several]
    assert got.troubles == []


def test_an_export_beside_a_capture_gives_both(imported: Callable[..., Imported]) -> None:
    talk, one = connected(), exported()
    got = imported(export_pcapng(one) + Wire().conversation(talk.log).pcapng())
    assert [found.mode for found in got.recordings] == ["reverse", "import"]


def test_hostile_names_survive_the_round_trip(imported: Callable[..., Imported]) -> None:
    from tests.recorder.made_recordings import HOSTILE

    for name in HOSTILE.values():
        one = hostile(name)
        for write in (WRITERS["pcapng"], WRITERS["jsonl"]):
            (found,) = imported(write(one)).recordings
            assert as_exported(found) == as_exported(one)


def test_a_label_may_be_given_to_an_export_too(imported: Callable[..., Imported]) -> None:
    one = exported()
    assert imported(export_pcapng(one), label="from a ticket").only == replace(
        imported(export_pcapng(one)).only, label="from a ticket"
    )


def cut(data: bytes, parts: int) -> Iterable[bytes]:
    for number in range(1, parts):
        yield data[: len(data) * number // parts]


@pytest.mark.parametrize("form", ["pcapng", "json", "jsonl", "json.gz"])
def test_a_cut_export_is_an_error_with_its_place(imported: Callable[..., Imported], form: str) -> None:
    one = exported()
    for part in cut(WRITERS[form](one), 25):
        got = imported(part)
        assert any(trouble.broken for trouble in got.troubles)
        assert all(str(trouble) for trouble in got.troubles)
        assert one.id not in {found.id for found in got.recordings}


@pytest.mark.parametrize("form", ["pcapng", "json", "jsonl"])
def test_a_flipped_bit_never_raises_and_never_changes_a_message(
    imported: Callable[..., Imported], form: str, scaled: Callable[[int], int]
) -> None:
    """T31. A flip in a time or a name cannot be told from another time or name; one in a message can."""
    one = exported()
    data = WRITERS[form](one)
    raws = {message.raw for leg in one.legs for message in leg.messages}
    rng = random.Random(31)
    errors = 0
    count = scaled(600)
    for _ in range(count):
        flipped = bytearray(data)
        flipped[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        got = imported(bytes(flipped))
        errors += bool(got.troubles)
        for found in got.recordings:
            if found.id == one.id:
                assert {message.raw for leg in found.legs for message in leg.messages} <= raws
    assert errors > count // 10


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.pop("legs"), "legs: it is missing"),
        (lambda d: d.update(client=5), "client: expected string or null, got 5"),
        (lambda d: d.update(schema=2), "its schema is 2"),
        (lambda d: d["bytes"].update(from_client=10**30), "bytes.from_client: expected"),
        (lambda d: d.update(started="yesterday"), "started: expected"),
        (lambda d: d.update(started="0000-11-20T12:00:00.250000Z"), "not as its schema says"),
        (lambda d: d["outcome"].update(status="fine"), "outcome.status: expected one of"),
        (lambda d: d["legs"][0]["messages"][0].update(t="now"), "legs[0].messages[0].t: expected number"),
        (lambda d: d["legs"][0]["messages"][0].update(raw="!"), "raw: expected"),
        (lambda d: d["legs"][0]["messages"][1].update(raw=d["legs"][0]["messages"][1]["raw"][::-1]), ""),
        (lambda d: d["legs"][0]["messages"][0].update(sha256="0" * 64), "it was changed: the bytes of message 0"),
        (lambda d: d.update(prelude=[]), "prelude: expected object"),
    ],
)
def test_a_wrong_document_is_an_error_that_names_the_key(
    imported: Callable[..., Imported], change: Callable[[Any], object], says: str
) -> None:
    document = as_exported(exported())
    change(document)
    got = imported(json.dumps(document).encode())
    assert got.recordings == []
    (trouble,) = got.troubles
    assert trouble.broken
    assert says in str(trouble)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"{", "no JSON"),
        (b'{"schema": 1, "recordings": []}', "list of summaries"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a":' * 100_000, "nested too deep"),
        (b'{"a": "\xff"}', "UTF-8"),
        (b"[1]", "capture"),
        (b'{"a": ' + b"1" * 10_000 + b"}", "no recording"),
        (b"CLIENT_RANDOM " + b"ab" * 32 + b" " + b"cd" * 48 + b"\n", "give it with --keylog"),
        (b"", ""),
        (b"hello\n", ""),
        (gzip.compress(b"hello", mtime=0), ""),
        (gzip.compress(b"{" * 1000, mtime=0)[:20], ""),
        (b"\x28\xb5\x2f\xfd" + b"nothing", ""),
    ],
)
def test_what_is_no_file_of_ours_is_one_clear_error(imported: Callable[..., Imported], data: bytes, says: str) -> None:
    got = imported(data)
    assert got.recordings == []
    (trouble,) = got.troubles
    assert trouble.broken
    assert says in str(trouble)


def test_good_lines_beside_a_broken_one_are_kept(imported: Callable[..., Imported]) -> None:
    one = exported()
    line = WRITERS["jsonl"](one)
    got = imported(line + b'{"schema": 1}\n' + line)
    assert len(got.recordings) == 2
    (trouble,) = got.troubles
    assert trouble.offset == len(line)


def test_a_missing_file_does_not_keep_the_others_back(tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(WRITERS["json"](exported()))
    found = list(import_files([tmp_path / "nowhere", tmp_path, tmp_path / "there"]))
    assert [type(one) for one in found] == [ImportTrouble, ImportTrouble, Recording]


def test_an_export_without_its_recording_is_imported_from_its_packets_and_said(
    imported: Callable[..., Imported],
) -> None:
    blocks = [one for one in pcapng_blocks(exported()) if one[:4] != b"\xad\x0b\0\0"]
    got = imported(b"".join(blocks))
    assert [found.mode for found in got.recordings] == ["import", "import"]
    assert "without the recording itself" in str(got.troubles[0])


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    talk = connected()

    def most(count: int) -> int:
        wire = Wire()
        for _ in range(count):
            wire.conversation(talk.log)
        path = tmp_path / "many.pcap"
        path.write_bytes(wire.pcap())
        del wire
        tracemalloc.start()
        try:
            assert sum(1 for _ in import_files([path], keylog=talk.keylog)) == count
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    most(5)
    assert most(200) < most(20) + 500_000
