from __future__ import annotations

import base64
import json
import re
import struct
import subprocess
from dataclasses import replace
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import pytest
from OpenSSL import SSL

from countersign.errors import UserError
from countersign.recorder.files.keylog import export_keylog
from countersign.recorder.files.pcapng import MAGIC, export_pcapng
from countersign.recorder.files.pem import export_pem
from countersign.recorder.recording import (
    DataCount,
    End,
    Ending,
    Failure,
    FailureCode,
    Leg,
    LegRole,
    Outcome,
    Party,
    Recording,
    Status,
    from_json,
    to_json,
)
from countersign.recorder.wire.decryption import tls12_opener, tls13_opener
from countersign.recorder.wire.events import Content, Message, Problem, Side
from countersign.recorder.wire.messages import message_type
from countersign.recorder.wire.names import CIPHER_SUITES
from countersign.recorder.wire.records import Record, RecordFramer
from countersign.recorder.wire.sealing import tls12_sealers, tls13_sealer
from countersign.recorder.wire.secrets import Secret
from tests.peers.tshark import tshark_handshakes
from tests.recorder.made_recordings import (
    CONTROLS,
    HOSTILE,
    certificate_for,
    certificate_message,
    handshake,
    hostile,
    leg,
    recording,
    with_data,
)
from tests.recorder.tls_pairs import Pair, connected, pair

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

C, S = Side.CLIENT, Side.SERVER
TLS10, TLS11, TLS12 = SSL.TLS1_VERSION, SSL.TLS1_1_VERSION, SSL.TLS1_2_VERSION


# -- what tshark sees --------------------------------------------------------------------------------------------


def resumed(**settings: Any) -> Pair:
    return connected(previous=connected(**settings), **settings)


def renegotiated() -> Pair:
    made = pair(version=TLS12)
    made.run()
    made.client.connection.renegotiate()
    made.client.done = False
    made.run()
    made.close()
    return made


HANDSHAKES: dict[str, Callable[[], Pair]] = {
    "TLS 1.3": connected,
    "TLS 1.3 AES-128": lambda: connected(suites="TLS_AES_128_GCM_SHA256"),
    "TLS 1.3 ChaCha20": lambda: connected(suites="TLS_CHACHA20_POLY1305_SHA256"),
    "TLS 1.3 CCM": lambda: connected(suites="TLS_AES_128_CCM_SHA256"),
    "TLS 1.3 CCM_8": lambda: connected(suites="TLS_AES_128_CCM_8_SHA256"),
    "TLS 1.3 HelloRetryRequest": lambda: connected(client_groups="X25519:secp384r1", server_groups="secp384r1"),
    "TLS 1.3 client certificate": lambda: connected(ask=True, present=True),
    "TLS 1.3 client certificate refused": lambda: connected(ask=True, present=True, server_trusts=False),
    "TLS 1.3 client sends none": lambda: connected(ask=True),
    "TLS 1.3 certificate refused": lambda: connected(client_trusts=False),
    "TLS 1.3 resumed": resumed,
    "TLS 1.3 certificate over several records": lambda: connected(cert="big"),
    "TLS 1.3 without compatibility mode": lambda: connected(compat=False),
    "TLS 1.2": lambda: connected(version=TLS12),
    "TLS 1.2 ChaCha20": lambda: connected(version=TLS12, ciphers="ECDHE-ECDSA-CHACHA20-POLY1305"),
    "TLS 1.2 CCM_8": lambda: connected(version=TLS12, ciphers="ECDHE-ECDSA-AES128-CCM8:@SECLEVEL=0"),
    "TLS 1.2 CBC": lambda: connected(version=TLS12, ciphers="ECDHE-ECDSA-AES128-SHA256"),
    "TLS 1.2 CBC, MAC first": lambda: connected(version=TLS12, ciphers="ECDHE-ECDSA-AES256-SHA384", etm=False),
    "TLS 1.2 Camellia": lambda: connected(version=TLS12, ciphers="ECDHE-ECDSA-CAMELLIA256-SHA384"),
    "TLS 1.2 no cipher": lambda: connected(version=TLS12, ciphers="ECDHE-ECDSA-NULL-SHA:@SECLEVEL=0"),
    "TLS 1.2 RSA key exchange": lambda: connected(version=TLS12, ciphers="AES128-SHA", cert="rsa"),
    "TLS 1.2 resumed": lambda: resumed(version=TLS12),
    "TLS 1.2 resumed by session id": lambda: resumed(version=TLS12, tickets=False),
    "TLS 1.2 client certificate": lambda: connected(version=TLS12, ask=True, present=True),
    "TLS 1.2 client certificate refused": lambda: connected(version=TLS12, ask=True, present=True, server_trusts=False),
    "TLS 1.2 certificate refused": lambda: connected(version=TLS12, client_trusts=False),
    "TLS 1.2 renegotiated": renegotiated,
    "TLS 1.1": lambda: connected(version=TLS11),
    "TLS 1.0": lambda: connected(version=TLS10),
    "TLS 1.0, MAC first": lambda: connected(version=TLS10, etm=False),
}


@pytest.fixture(scope="module")
def every() -> dict[str, Recording]:
    return {name: recording(with_data(leg(make()))) for name, make in HANDSHAKES.items()}


def recorded(given: Leg) -> list[tuple[str, str, str, int]]:
    """The messages as tshark names them: it takes a HelloRetryRequest for the ServerHello that it looks like."""
    return [
        (
            message.sender.value,
            message.content.value,
            message_type(message.content, message.code, message.raw).replace("hello_retry_request", "server_hello"),
            message.length,
        )
        for message in given.messages
    ]


def seen(file: Path) -> list[tuple[str, str, str, int]]:
    return [(one.sender, one.content, one.type, one.length) for one in tshark_handshakes(file)]


def exported(tmp_path: Path, given: Recording) -> Path:
    file = tmp_path / "export.pcapng"
    file.write_bytes(export_pcapng(given))
    return file


def tshark(file: Path, *arguments: str) -> str:
    command = ["tshark", "-n", "-r", str(file), *arguments]
    done = subprocess.run(command, capture_output=True, timeout=30, check=True, encoding="utf-8")
    return done.stdout


@pytest.mark.peer("tshark")
def test_tshark_sees_the_recorded_messages_in_order_and_of_the_same_lengths(
    every: dict[str, Recording], tmp_path: Path
) -> None:
    # One file with a section for each: tshark takes longer to start than to read them all.
    file = tmp_path / "all.pcapng"
    with file.open("wb") as out:
        for n, exported in enumerate(every.values()):
            out.write(export_pcapng(replace(exported, client=f"127.0.0.1:{50_001 + n}")))
    by_stream: dict[int, list[tuple[str, str, str, int]]] = {}
    for one in tshark_handshakes(file):
        by_stream.setdefault(one.stream, []).append((one.sender, one.content, one.type, one.length))
    for (name, given), messages in zip(every.items(), by_stream.values(), strict=True):
        assert messages == recorded(given.legs[0]), name
        assert len(messages) > 4, name


def test_the_handshakes_of_that_test_are_what_they_are_called(every: dict[str, Recording]) -> None:
    def types(name: str) -> list[str]:
        return [kind for _, _, kind, _ in recorded(every[name].legs[0])]

    assert types("TLS 1.3 HelloRetryRequest").count("client_hello") == 2
    assert types("TLS 1.2 renegotiated").count("finished") == 4
    assert "certificate" not in types("TLS 1.3 resumed")
    assert "certificate" not in types("TLS 1.2 resumed by session id")
    assert types("TLS 1.3 client certificate").count("certificate_verify") == 2
    assert types("TLS 1.3 client certificate refused")[-1] == "alert"
    readings = {name: one.legs[0].read() for name, one in every.items()}
    assert readings["TLS 1.0"].version == "TLSv1.0"
    assert readings["TLS 1.1"].version == "TLSv1.1"
    assert readings["TLS 1.2 CBC, MAC first"].cipher == "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA384"
    assert readings["TLS 1.3 CCM_8"].cipher == "TLS_AES_128_CCM_8_SHA256"


def after_the_handshake(given: Leg) -> Leg:
    """What OpenSSL's API does not do of itself: key updates, authentication afterwards, alerts under new keys."""
    t = given.messages[-1].t
    chain = certificate_for("late client")
    context, no_extensions = b"\x01\x07", b"\0\0"
    entry = len(chain).to_bytes(3, "big") + chain + no_extensions
    more = (
        handshake(S, 24, b"\x01", t=t),
        handshake(C, 24, b"\0", t=t),
        handshake(S, 4, bytes(8) + b"\x01\x01" + b"\0\x04abcd" + b"\0\0", t=t),
        handshake(S, 13, context + b"\0\x08\0\x0d\0\x04\0\x02\x04\x03", t=t),
        handshake(C, 11, context + len(entry).to_bytes(3, "big") + entry, t=t),
        handshake(C, 15, b"\x04\x03\0\x04abcd", t=t),
        handshake(C, 20, bytes(48), t=t),
        handshake(S, 24, b"\0", t=t),
        handshake(S, 24, b"\0", t=t),
        Message(t, C, Content.ALERT, 0, True, 2, b"\x01\0"),
        Message(t, S, Content.ALERT, 46, True, 2, b"\x02\x2e"),
    )
    alerts = sum(message.content is Content.ALERT for message in given.messages)
    return replace(given, messages=given.messages[: len(given.messages) - alerts] + more)


@pytest.mark.peer("tshark")
def test_key_updates_and_late_client_authentication_open_in_tshark(tmp_path: Path) -> None:
    given = after_the_handshake(leg(connected()))
    assert seen(exported(tmp_path, recording(given))) == recorded(given)


@pytest.mark.peer("tshark")
def test_early_data_opens_in_tshark(tmp_path: Path) -> None:
    given = leg(connected(previous=connected()))
    # The client's hello with an early_data extension (RFC 8446 4.2.10) before pre_shared_key, which must be last.
    hello, *rest = given.messages
    raw = bytearray(hello.raw)
    at = raw.rindex(b"\0\x29", 0, len(raw))  # pre_shared_key
    while int.from_bytes(raw[at + 2 : at + 4], "big") != len(raw) - at - 4:
        at = raw.rindex(b"\0\x29", 0, at)
    raw[at:at] = b"\0\x2a\0\0"
    raw[1:4] = (len(raw) - 4).to_bytes(3, "big")
    start = 4 + 34 + 1 + raw[38]
    start += 2 + int.from_bytes(raw[start : start + 2], "big")
    start += 1 + raw[start]
    raw[start : start + 2] = (len(raw) - start - 2).to_bytes(2, "big")
    offered = replace(hello, raw=bytes(raw), length=len(raw))
    finished = next(n for n, one in enumerate(rest) if one.sender is C and one.code == 20)
    rest.insert(finished, handshake(C, 5, b"", t=rest[finished].t))
    early = {C: DataCount(1, 5, hello.t, hello.t)}
    given = replace(given, messages=(offered, *rest), data=early)
    given = replace(
        given, messages=tuple(replace(one, t=one.t + 0.001 * (n > 0)) for n, one in enumerate(given.messages))
    )
    file = exported(tmp_path, recording(given))
    assert seen(file) == recorded(given)
    assert "CLIENT_EARLY_TRAFFIC_SECRET" in file.read_bytes().decode("latin-1")


@pytest.mark.peer("tshark")
def test_a_suite_that_cannot_be_sealed_goes_out_as_records_that_stay_closed(tmp_path: Path) -> None:
    given = leg(connected(version=TLS12, ciphers="ECDHE-ECDSA-ARIA128-GCM-SHA256"))
    file = exported(tmp_path, recording(given))
    opened = recorded(given)
    assert [one[:2] for one in seen(file)] == [one[:2] for one in opened]
    assert [one[2] for one in seen(file)] == [
        "encrypted" if message.encrypted else kind
        for message, (_, _, kind, _) in zip(given.messages, opened, strict=True)
    ]
    assert "zeros stand for it" in tshark(file, "-T", "fields", "-e", "frame.comment")
    assert "its encrypted messages could not be sealed" in file.read_bytes().decode("latin-1")


@pytest.mark.peer("tshark")
def test_a_passed_through_leg_shows_its_encrypted_records_closed(tmp_path: Path) -> None:
    whole = leg(connected(), LegRole.THROUGH)
    in_clear = tuple(message for message in whole.messages if not message.encrypted)
    given = with_data(replace(whole, messages=in_clear))
    file = exported(tmp_path, recording(given, action="passthrough"))
    assert seen(file) == recorded(given)
    comments = tshark(file, "-Y", "tls.record.opaque_type == 23", "-T", "fields", "-e", "frame.comment")
    assert comments.count("40000 bytes in 3 records, not kept") == 2
    assert b"TRAFFIC_SECRET" not in file.read_bytes()


@pytest.mark.peer("tshark")
@pytest.mark.parametrize(
    ("client", "target", "port"),
    [
        ("127.0.0.1:53122", "localhost:9443", 9443),
        ("127.0.0.1:44818", "localhost:9443", 443),  # the client's port is another protocol's
        ("127.0.0.1:53122", "127.0.0.1:35791", 35791),
        ("127.0.0.1:53122", "db.example:5432", 443),
        ("[::1]:53122", "[2001:db8::7]:8443", 8443),
        ("[::1]:53122", "10.0.0.7:443", 443),
        (None, None, 443),
    ],
)
def test_tshark_takes_any_pair_of_addresses_for_tls(
    client: str | None, target: str | None, port: int, tmp_path: Path
) -> None:
    given = leg(connected(), LegRole.THROUGH)
    file = exported(tmp_path, recording(given, client=client, target=target))
    assert seen(file) == recorded(given)
    first = tshark(file, "-T", "fields", "-e", "ip.version", "-e", "tcp.dstport", "-c", "1").split()
    assert first == ["6" if client == "[::1]:53122" and target != "10.0.0.7:443" else "4", str(port)]


@pytest.mark.peer("tshark")
def test_tshark_finds_nothing_to_remark_on_in_tcp(tmp_path: Path) -> None:
    given = with_data(leg(connected(cert="big")))
    ends = (End(1.0, C, Ending.FIN), End(1.25, S, Ending.FIN))
    both = replace(given, ends=ends), replace(given, role=LegRole.SERVER, ends=(End(1.5, S, Ending.RESET),))
    file = exported(tmp_path, recording(*both))
    checked = ("-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE")
    remarks = tshark(
        file, *checked, "-T", "fields", "-e", "_ws.expert.message", "-Y", '_ws.expert.severity >= "Warning"'
    )
    assert remarks.split("\n") == ["Connection reset (RST)", ""]
    fields = ("-e", "frame.time_epoch", "-e", "tcp.flags.str", "-Y", "tcp.flags.fin == 1 || tcp.flags.reset == 1")
    assert [line.split()[0] for line in tshark(file, "-T", "fields", *fields).splitlines()] == [
        "1795176001.250000000",
        "1795176001.500000000",
        "1795176001.750000000",
    ]


@pytest.mark.peer("tshark")
@pytest.mark.peer("tshark")
def test_recordings_in_one_file_stay_apart_in_tshark(tmp_path: Path) -> None:
    one = recording(replace(leg(connected()), role=LegRole.SERVER))
    file = tmp_path / "two.pcapng"
    file.write_bytes(export_pcapng(one) + export_pcapng(replace(one, id="f" * 16)))
    streams = tshark(file, "-T", "fields", "-e", "tcp.stream").split()
    assert set(streams) == {"0", "1"}
    assert not tshark(file, "-Y", "tcp.analysis.flags")


def test_what_went_wrong_is_a_comment_where_it_was_noticed(tmp_path: Path) -> None:
    given = leg(connected(client_trusts=False))
    alert = len(given.messages) - 1
    given = replace(
        given,
        faults=({"t": 0.0, "message": 0, "text": "the third byte was flipped"},),
        ends=(End(2.0, S, Ending.SILENT),),
    )
    file = exported(
        tmp_path,
        recording(
            given,
            problems=((LegRole.CLIENT, Problem(0.0, C, "record.length", 3, "at most 18432", "20000", message=0)),),
            failures=(
                Failure(
                    given.messages[alert].t, LegRole.CLIENT, Party.CLIENT, code=FailureCode.SILENT, text="unknown ca"
                ),
                Failure(0.5, LegRole.SERVER, Party.TARGET, code=FailureCode.DIAL_REFUSED, text="nobody listens there"),
            ),
            outcome=Outcome(Status.FAILED, text="the client refused the certificate"),
        ),
    )
    lines = tshark(
        file, "-T", "fields", "-e", "tls.handshake.type", "-e", "tls.alert_message.desc", "-e", "frame.comment"
    )
    hello = next(line for line in lines.splitlines() if line.startswith("1\t"))
    assert "problem: record.length at byte 3" in hello
    assert "fault: the third byte was flipped" in hello
    refusal = next(line for line in lines.splitlines() if line.split("\t")[1:2] == ["48"])
    assert "silent, by the client: unknown ca" in refusal
    assert "the server said nothing more until its time was up" in refusal
    section = comments_of_section(file.read_bytes())
    assert section[0] == "countersign recording 0123456789abcdef: the client refused the certificate"
    assert "re-encrypted under throwaway keys by countersign" in section[1]
    assert section[2] == "dial-refused, by the target: nobody listens there"


@pytest.mark.peer("tshark")
def test_tshark_opens_a_recording_without_a_single_packet(tmp_path: Path) -> None:
    empty = exported(tmp_path, recording(outcome=Outcome(Status.NOT_TLS, text="no TLS")))
    assert "Custom Block" in tshark(empty)


# -- the file itself ---------------------------------------------------------------------------------------------


def blocks(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        kind, total = struct.unpack_from("<II", data, at)
        assert total % 4 == 0
        assert struct.unpack_from("<I", data, at + total - 4) == (total,)
        yield kind, data[at + 8 : at + total - 4]
        at += total


def comments_of_section(data: bytes) -> list[str]:
    _, body = next(blocks(data))
    return list(comments(body[16:]))


def comments(options: bytes) -> Iterator[str]:
    at = 0
    while at < len(options):
        code, length = struct.unpack_from("<HH", options, at)
        if code == 1:
            yield options[at + 4 : at + 4 + length].decode()
        at += 4 + length + -length % 4


def shown_texts(data: bytes) -> Iterator[str]:
    """Every comment and every name that a reader of the file would be shown."""
    for kind, body in blocks(data):
        if kind == 0x0A0D0D0A:
            yield from comments(body[16:])
        elif kind == 6:
            (size,) = struct.unpack_from("<I", body, 12)
            yield from comments(body[20 + size + -size % 4 :])
        elif kind == 4:
            at = 0
            while at < len(body):
                what, length = struct.unpack_from("<HH", body, at)
                if what:
                    *names, end = body[at + 4 + (4 if what == 1 else 16) : at + 4 + length].split(b"\0")
                    assert end == b""
                    yield from (name.decode() for name in names)
                at += 4 + length + -length % 4


def recording_in(data: bytes) -> dict[str, Any]:
    """As an import would find it; the module's docstring is the description."""
    parts: list[bytes] = []
    for kind, body in blocks(data):
        if kind == 0x0BAD:
            number, magic, part, count, length = struct.unpack_from("<I16sHHI", body)
            assert (number, magic, part) == (32473, MAGIC, len(parts))
            parts.append(body[28 : 28 + length])
    assert len(parts) == count
    document: dict[str, Any] = json.loads(b"".join(parts))
    return document


def test_the_whole_recording_is_in_the_file(every: dict[str, Recording], monkeypatch: pytest.MonkeyPatch) -> None:
    one = every["TLS 1.3 client certificate"]
    assert recording_in(export_pcapng(one)) == to_json(one)
    monkeypatch.setattr("countersign.recorder.files.pcapng._PART", 1000)
    in_parts = export_pcapng(one)
    assert from_json(recording_in(in_parts)) == one


def test_the_same_recording_gives_the_same_bytes(every: dict[str, Recording]) -> None:
    one = every["TLS 1.3"]
    assert export_pcapng(one) == export_pcapng(one)
    assert export_pcapng(from_json(to_json(one))) == export_pcapng(one)


def test_no_real_secret_is_in_the_file() -> None:
    made = connected()
    secrets = tuple(made.keylog)
    data = export_pcapng(recording(replace(leg(made), secrets=secrets)))
    assert len(secrets) >= 4
    for secret in secrets:
        forms = (secret.secret, secret.secret.hex().encode(), base64.b64encode(secret.secret))
        assert not any(form in data for form in forms), secret.label


def test_names_are_resolved_and_escaped() -> None:
    data = export_pcapng(recording(leg(connected(), LegRole.SERVER), target="inst\x1bance.test:443"))
    body = next(body for kind, body in blocks(data) if kind == 4)
    assert b"inst\\x1bance.test\0" in body
    assert ip_address("192.0.2.1").packed + b"countersign\0" in body


@pytest.mark.peer("tshark")
@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_hostile_names_reach_no_comment_and_no_name_unescaped(name: str, tmp_path: Path) -> None:
    given = hostile(name)
    failure = Failure(0.1, LegRole.CLIENT, Party.CLIENT, code=FailureCode.SILENT, text=name)
    problem = Problem(0.1, C, name, 0, name, name)
    given = replace(given, failures=(failure,), problems=((LegRole.CLIENT, problem),))
    data = export_pcapng(given)
    texts = list(shown_texts(data))
    assert len(texts) >= 4
    assert not any(control in text for control in CONTROLS for text in texts)
    assert recording_in(data) == to_json(given)
    file = tmp_path / "hostile.pcapng"
    file.write_bytes(data)
    assert seen(file) == recorded(given.legs[0])


def test_a_message_whose_end_was_not_kept_does_not_hide_the_next_one() -> None:
    hello, *_ = leg(connected()).messages
    chain = certificate_message(S, [certificate_for("x")], t=0.1)
    cut = replace(chain, raw=chain.raw[:100], digest=chain.sha256)
    done = handshake(S, 14, b"", t=0.2, encrypted=False)
    data = export_pcapng(recording(Leg(LegRole.CLIENT, (hello, cut, done))))
    sent = b"".join(body[20 + 40 :] for kind, body in blocks(data) if kind == 6)
    assert chain.raw[:100] + bytes(chain.length - 100) in sent
    assert b"was kept up to byte 100" in data


def test_a_message_that_never_came_whole_goes_out_as_far_as_it_came() -> None:
    hello, *_ = leg(connected()).messages
    cut = replace(hello, raw=hello.raw[:77])
    one = recording(Leg(LegRole.CLIENT, (cut,)))
    data = export_pcapng(one)
    assert b"\x16\x03\x01\x00\x4d" + hello.raw[:77] in data  # a record of 77 bytes
    assert hello.raw[:78] not in data
    assert export_pcapng(from_json(to_json(one))) == data
    assert f"is cut short: 77 of {hello.length} bytes".encode() in data


# -- sealing -----------------------------------------------------------------------------------------------------


def records(data: bytes) -> Iterator[Record]:
    framer = RecordFramer()
    framer.feed(data)
    while (frame := framer.next()) is not None:
        assert isinstance(frame, Record)
        yield frame


@pytest.mark.parametrize("suite", [0x1301, 0x1302, 0x1303, 0x1304, 0x1305])
def test_what_is_sealed_for_tls13_opens_again(suite: int) -> None:
    secret = bytes(range(48 if suite == 0x1302 else 32))
    sealer, opener = tls13_sealer(suite, secret), tls13_opener(suite, secret)
    assert opener is not None
    for round_ in range(2):
        for size in (0, 1, 1 << 14):
            (record,) = records(sealer.seal(22, bytes(size)))
            assert opener.open(record) == (22, bytes(size)), (round_, size)
        sealer, opener = sealer.updated(), opener.updated()


def test_what_is_sealed_below_tls13_opens_again_for_every_suite_that_there_is() -> None:
    opened = set()
    for suite, name in CIPHER_SUITES.items():
        for version in (0x0301, 0x0302, 0x0303):
            for etm in (False, True):
                keys: dict[str, Any] = {
                    "version": version,
                    "suite": suite,
                    "master": bytes(48),
                    "client_random": bytes(32),
                    "server_random": bytes(32),
                    "encrypt_then_mac": etm,
                }
                sealers = tls12_sealers(**keys)
                if sealers is None:
                    continue
                for side in Side:
                    opener = tls12_opener(side, **keys)
                    assert opener is not None, name
                    for size in (0, 1, 15, 16, 300):
                        (record,) = records(sealers[side].seal(22, bytes(size)))
                        assert opener.open(record) == (22, bytes(size)), (name, version, etm, side, size)
                opened.add(re.sub(r".*_WITH_", "", name))
    assert {
        "AES_128_GCM_SHA256",
        "AES_256_CCM_8",
        "CHACHA20_POLY1305_SHA256",
        "AES_128_CBC_SHA",
        "NULL_SHA256",
    } <= opened


def test_a_suite_that_has_no_sealer_is_said_to_have_none() -> None:
    keys: dict[str, Any] = {"master": bytes(48), "client_random": bytes(32), "server_random": bytes(32)}
    assert tls12_sealers(version=0x0303, suite=0xC05C, **keys, encrypt_then_mac=False) is None  # ARIA
    assert tls12_sealers(version=0x0300, suite=0x002F, **keys, encrypt_then_mac=False) is None  # SSL 3.0
    assert tls12_sealers(version=0x0302, suite=0xC02F, **keys, encrypt_then_mac=False) is None  # no AEAD before 1.2


# -- key log and PEM ---------------------------------------------------------------------------------------------


def test_a_key_log_has_each_secret_once() -> None:
    secret = Secret("CLIENT_RANDOM", bytes(32), bytes(range(48)))
    text = export_keylog(recording(Leg(LegRole.CLIENT, secrets=(secret,)), Leg(LegRole.SERVER, secrets=(secret,))))
    assert text == f"CLIENT_RANDOM {'00' * 32} {bytes(range(48)).hex()}\n"


def test_a_recording_without_secrets_has_no_key_log_and_says_why() -> None:
    with pytest.raises(UserError, match="--secrets none") as refused:
        export_keylog(recording(Leg(LegRole.CLIENT)))
    assert refused.value.exit_code == 1


def test_chains_come_out_as_pem_under_comments() -> None:
    chain = [certificate_for("leaf", issuer="root"), certificate_for("root")]
    message = certificate_message(S, chain, t=0.1)
    text = export_pem(recording(Leg(LegRole.SERVER, (message,)), Leg(LegRole.CLIENT, (message,))))
    assert [line for line in text.splitlines() if line.startswith("#")] == [
        "# server leg, from the server, 1 of 2: CN=leaf",
        "# server leg, from the server, 2 of 2: CN=root",
        "# client leg, from the server, 1 of 2: CN=leaf",
        "# client leg, from the server, 2 of 2: CN=root",
    ]
    found = re.findall(r"-----BEGIN CERTIFICATE-----\n(.*?)-----END CERTIFICATE-----\n", text, re.DOTALL)
    assert [base64.b64decode(body) for body in found] == [*chain, *chain]
    with pytest.raises(UserError, match="holds no certificate"):
        export_pem(recording(Leg(LegRole.CLIENT)))


@pytest.mark.parametrize("name", [*HOSTILE.values(), "x\n-----BEGIN CERTIFICATE-----\nMII\n"])
def test_no_name_leaves_its_comment(name: str) -> None:
    text = export_pem(hostile(name))
    lines = text.splitlines()
    assert text.count("-----BEGIN") == lines.count("-----BEGIN CERTIFICATE-----") + lines[0].count("-----BEGIN")
    assert all(not any(control in line for control in CONTROLS) for line in lines)
