"""``import``, ``export``, ``ls`` and ``prune`` as a user types them."""

from __future__ import annotations

import itertools
import json
import os
import signal
import struct
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from countersign.recorder.files import importing
from countersign.recorder.schema import load_schema
from countersign.recorder.store import Store
from tests.cli.commands import Ran, countersign
from tests.peers.process import peer_env
from tests.recorder import packet_makers
from tests.recorder.made_captures import Lost, Wire
from tests.recorder.tls_pairs import C, Pair, S, connected

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def talks() -> list[Pair]:
    return [connected() for _ in range(3)]


@pytest.fixture
def capture(tmp_path: Path, talks: list[Pair]) -> Path:
    """Three TLS conversations and one that is none."""
    wire = Wire()
    for talk in talks:
        wire.conversation(talk.log)
    wire.conversation([(C, b"GET / HTTP/1.1\r\n\r\n"), (S, b"HTTP/1.1 204 No Content\r\n\r\n")])
    path = tmp_path / "capture.pcap"
    path.write_bytes(wire.pcap())
    return path


@pytest.fixture
def keylog(tmp_path: Path, talks: list[Pair]) -> Path:
    path = tmp_path / "keys.txt"
    path.write_text("".join(f"{line}\n" for talk in talks for line in talk.keylog.lines()))
    return path


def shown(reference: str = "last") -> list[str]:
    (leg,) = countersign("show", reference, "--json").json()["legs"]
    return [message["type"] for message in leg["messages"]]


def listed(*args: str) -> list[str]:
    return [entry["id"] for entry in countersign("ls", "--json", *args).json()["recordings"]]


def test_a_capture_is_imported_and_summed_up(home: Path, capture: Path, keylog: Path) -> None:
    told = countersign("import", capture, "--keylog", keylog, "--label", "ticket 4711")
    assert (told.code, told.err) == (0, "")
    assert "3 recordings imported: 3 established" in told.out
    assert "1 conversation without TLS" in told.out
    assert "3 conversations had keys, 0 had none" in told.out
    assert "finished" in shown("ticket 4711")
    assert "established" in countersign("ls").out
    assert countersign("show", "last").code == 0


def test_json_is_a_list_of_summaries(home: Path, capture: Path) -> None:
    told = countersign("import", capture, "--json")
    jsonschema.validate(told.json(), load_schema())
    assert len(told.json()["recordings"]) == 3
    assert "3 recordings imported" in told.err


def test_nothing_is_imported_twice_but_keys_add_what_they_open(home: Path, capture: Path, keylog: Path) -> None:
    countersign("import", capture)
    before = listed()
    assert "finished" not in shown()
    again = countersign("import", capture)
    assert "0 recordings imported" in again.out
    assert "3 were there already" in again.out
    assert again.code == 0
    opened = countersign("import", capture, "--keylog", keylog)
    assert "3 recordings imported" in opened.out
    assert "finished" in shown()
    countersign("import", capture)
    assert "finished" in shown()
    assert listed() == before
    assert len(countersign("import", capture, "--json").json()["recordings"]) == 3


def test_an_export_comes_back_as_it_was_into_another_store(home: Path, tmp_path: Path, capture: Path) -> None:
    countersign("import", capture)
    ids = listed()
    for form in ("pcapng", "jsonl"):
        file, other = tmp_path / f"all.{form}", tmp_path / form
        told = countersign("export", *ids, "--format", form, "--out", file)
        assert "3 recordings" in told.out
        assert countersign("import", file, "--home", other).code == 0
        for id_ in ids:
            assert countersign("show", id_, "--json", "--home", other).out == countersign("show", id_, "--json").out


def test_an_export_does_not_take_the_place_of_what_is_there(
    home: Path, tmp_path: Path, capture: Path, keylog: Path
) -> None:
    """The stored one has its secrets, the exported one has not."""
    countersign("import", capture, "--keylog", keylog, "--secrets", "all")
    exported = tmp_path / "one.json"
    countersign("export", "last", "--format", "json", "--out", exported)
    assert "1 was there already" in countersign("import", exported).out
    assert countersign("export", "last", "--format", "keylog").code == 0


@pytest.mark.parametrize(("secrets", "code"), [("none", 1), ("handshake", 0), ("all", 0)])
def test_secrets_are_kept_as_asked(home: Path, capture: Path, keylog: Path, secrets: str, code: int) -> None:
    told = countersign("import", capture, "--keylog", keylog, "--secrets", secrets)
    assert ("do not attach" in told.err) == (secrets == "all")
    got = countersign("export", "last", "--format", "keylog")
    assert got.code == code
    assert ("TRAFFIC_SECRET_0" in got.out) == (secrets == "all")


def test_a_key_log_of_others_is_said_by_client_random(
    home: Path, tmp_path: Path, capture: Path, talks: list[Pair]
) -> None:
    other = tmp_path / "other.txt"
    foreign = connected().keylog
    other.write_text("".join(f"{line}\n" for line in foreign.lines()))
    told = countersign("import", capture, "--keylog", other)
    assert told.code == 0
    assert "no key matched" in told.out
    assert next(iter(foreign)).client_random.hex() in told.out
    assert next(iter(talks[0].keylog)).client_random.hex() in told.out


def test_standard_input_is_a_file_too(home: Path, capture: Path, keylog: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "countersign", "import", "-", "--keylog", keylog],
        input=capture.read_bytes(),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"3 conversations had keys" in done.stdout
    assert done.stderr == b""


def assert_error(told: Ran, code: int, *parts: str) -> None:
    assert told.code == code
    assert "Traceback" not in told.err
    for part in parts:
        assert part in told.err, told.err


def test_nothing_found_is_a_no(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "plain.pcap"
    path.write_bytes(Wire().conversation([(C, b"GET / HTTP/1.1\r\n\r\n")]).pcap())
    assert_error(countersign("import", path), 1, "no TLS was found")


_ENDED_AFTER_TWO = """
import itertools, signal, sys
from countersign.__main__ import main
from countersign.recorder.files import importing

def ended(*args, whole=importing.import_files, **given):
    yield from itertools.islice(whole(*args, **given), 2)
    signal.raise_signal(number)
    yield from ()

number = getattr(signal, sys.argv.pop(1))
importing.import_files = ended
main()
"""


def test_what_was_read_before_ctrl_c_is_kept(home: Path, capture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = importing.import_files

    def interrupted(*args: Any, **given: Any) -> Iterator[object]:
        yield from itertools.islice(whole(*args, **given), 2)
        raise KeyboardInterrupt

    monkeypatch.setattr(importing, "import_files", interrupted)
    ran = countersign("import", capture)
    assert ran.code == 130
    assert "2 recordings imported" in ran.out
    assert len(listed()) == 2


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_what_was_read_before_a_signal_is_kept(home: Path, capture: Path, name: str) -> None:
    words = [sys.executable, "-c", _ENDED_AFTER_TWO, name, "import", str(capture)]
    env = peer_env({"COUNTERSIGN_HOME": str(home)})
    done = subprocess.run(words, capture_output=True, env=env, timeout=60, text=True, check=False)
    assert (done.returncode, done.stderr) == (128 + getattr(signal, name), "")
    assert "2 recordings imported" in done.stdout
    assert len(listed()) == 2


def test_a_batch_in_whose_writing_ctrl_c_comes_is_kept(
    home: Path, capture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, tries = Store.write, []

    def interrupted(*args: Any, **given: Any) -> None:
        tries.append(1)
        if len(tries) == 1:
            raise KeyboardInterrupt
        write(*args, **given)

    monkeypatch.setattr(Store, "write", interrupted)
    ran = countersign("import", capture)
    assert (ran.code, len(tries)) == (130, 2)
    assert "3 recordings imported" in ran.out
    assert len(listed()) == 3


@pytest.mark.parametrize(
    "log",
    [
        "javax.net.ssl|DEBUG|10|main|2026-11-21 12:00:00.000 UTC|SSLCipher.java:466|jdk.tls.keyLimits:  entry = AES\n",
        "Nov 21, 2026 12:00:00 PM sun.security.ssl.SSLLogger log\nFINE: Produced ClientHello handshake message\n",
    ],
)
def test_a_debug_log_without_messages_is_said_to_be_one(home: Path, tmp_path: Path, log: str) -> None:
    path = tmp_path / "java.log"
    path.write_text(log)
    assert_error(countersign("import", path), 2, "a JVM's debug log without messages", "use ssl:handshake or all")


@pytest.mark.parametrize("what", ["nofile", "PKIX path building failed: " * 20])
def test_what_is_neither_a_file_nor_a_recording_is_said_to_be_neither(home: Path, what: str) -> None:
    assert_error(
        countersign("diagnose", what), 2, "there is no file PKIX" if " " in what else "there is no file nofile"
    )
    assert_error(countersign("diff", what, "last"), 2, "no recording")


def test_what_was_passed_over_and_what_was_cut_is_said(home: Path, tmp_path: Path, talks: list[Pair]) -> None:
    path = tmp_path / "mixed.pcap"
    datagram = packet_makers.ipv4(packet_makers.C2S, bytes(40), proto=17)
    whole = Wire().conversation(talks[0].log)
    whole.packets += [(whole.packets[-1][0], datagram)] * 3
    data = bytearray(whole.pcap())
    data[24 + 12 : 24 + 16] = struct.pack("<I", 4000)  # the first packet had more on the wire
    path.write_bytes(data)
    told = countersign("import", path)
    assert "3 packets without TCP: IP packets that are not TCP (3)" in told.out
    assert "1 packet captured in part" in told.out


def test_a_link_type_that_is_not_read_is_named(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "wifi.pcap"
    path.write_bytes(packet_makers.pcap([bytes(60)] * 2, link=105))
    told = countersign("import", path)
    assert "2 packets without TCP: link type 105 (2)" in told.out
    assert_error(told, 1, "no TLS was found")


def test_what_is_no_capture_is_said_with_its_place(home: Path, tmp_path: Path, capture: Path) -> None:
    (tmp_path / "text").write_text("hello\n")
    assert_error(countersign("import", tmp_path / "text"), 2, "text", "no capture", "no log in which a JVM tells")
    assert_error(countersign("import", tmp_path / "nowhere"), 2, "nowhere", "No such file")
    assert_error(countersign("import", tmp_path), 2, "directory")
    both = countersign("import", tmp_path / "text", capture)
    assert_error(both, 2, "text")
    assert "3 recordings imported" in both.out


def test_what_came_before_a_cut_is_kept(home: Path, tmp_path: Path, capture: Path, talks: list[Pair]) -> None:
    cut = tmp_path / "cut.pcap"
    whole = capture.read_bytes()
    cut.write_bytes(whole[: len(Wire().conversation(talks[0].log).pcap()) + 1000])
    told = countersign("import", cut)
    assert_error(told, 2, "cut.pcap", "at byte", "ends in the middle")
    assert "recording imported" in told.out
    assert listed()


def test_lost_packets_are_a_problem_of_the_recording(home: Path, tmp_path: Path, talks: list[Pair]) -> None:
    path = tmp_path / "lossy.pcap"
    log = talks[0].log
    (side, data) = log[1]
    path.write_bytes(Wire().conversation([log[0], (side, Lost(data[:700])), (side, data[700:]), *log[2:]]).pcap())
    assert countersign("import", path).code == 0
    problems = countersign("show", "last", "--json").json()["problems"]
    assert "stream.gap" in {problem["field"] for problem in problems}


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (["import"], ["FILE"]),
        (["import", "x", "--secrets", "some"], ["--secrets takes", "some"]),
        (["import", "x", "--keylog", "nowhere.txt"], ["nowhere.txt"]),
        (["export", "last", "last~1", "--format", "json"], ["jsonl"]),
        (["prune"], ["--older", "--max-size"]),
        (["prune", "--older", "soon"], ["--older takes", "soon"]),
        (["prune", "--max-size", "much"], ["--max-size takes", "much"]),
        (["ls", "--until", "soon"], ["--until takes", "soon"]),
        (["ls", "--before", "nobody"], ["nobody"]),
        (["ls", "--fingerprint", "xyz"], ["xyz"]),
    ],
)
def test_a_mistake_is_usage(home: Path, args: list[str], parts: list[str]) -> None:
    assert_error(countersign(*args), 2, *parts)


def test_a_key_log_without_keys_is_usage(home: Path, tmp_path: Path, capture: Path) -> None:
    (tmp_path / "empty.txt").write_text("# nothing\n")
    assert_error(countersign("import", capture, "--keylog", tmp_path / "empty.txt"), 2, "empty.txt", "no key log")


def test_names_in_a_file_cannot_write_to_the_terminal(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "bad\x1b[31m"
    path.write_text("no capture")
    assert "\x1b" not in countersign("import", path).err


def test_lists_are_filtered_and_paged(home: Path, capture: Path) -> None:
    countersign("import", capture, "--label", "three")
    ids = listed()
    assert len(ids) == 3
    assert listed("--limit", "2") == ids[:2]
    assert listed("--limit", "2", "--before", ids[1]) == ids[2:]
    page = countersign("ls", "--limit", "2")
    assert f"--before {ids[1]}" in page.err
    assert listed("--until", "2020-01-01") == []
    assert listed("--since", "2020-01-01", "--until", "2030-01-01") == ids
    assert listed("--scenario", "none of these") == []
    leg = countersign("show", "last", "--json").json()["legs"][0]
    assert listed("--ja4", leg["ja4"]) == ids
    assert listed("--ja4", "t13d0000_000000000000_000000000000") == []


def test_certificates_are_found_by_their_fingerprint(home: Path, capture: Path, keylog: Path) -> None:
    countersign("import", capture, "--keylog", keylog)
    certificate = countersign("show", "last", "--json").json()["legs"][0]["certificates"][0]
    assert len(listed("--fingerprint", certificate["sha256"])) == 3
    assert len(listed("--fingerprint", certificate["sha256"][:12])) == 3
    assert listed("--fingerprint", "00" * 32) == []


def test_several_recordings_are_exported_into_one_file(home: Path, capture: Path, keylog: Path) -> None:
    countersign("import", capture, "--keylog", keylog, "--secrets", "all")
    ids = listed()
    lines = countersign("export", *ids, "--format", "jsonl").out.splitlines()
    assert [json.loads(line)["id"] for line in lines] == ids
    assert countersign("export", *ids, "--format", "keylog").out.count("SERVER_TRAFFIC_SECRET_0 ") == 3
    assert countersign("export", *ids, "--format", "pem").out.count("BEGIN CERTIFICATE") == 3
    assert countersign("export", *ids, "--format", "text").out.count("client_hello") == 3


def test_prune_says_what_went(home: Path, capture: Path) -> None:
    countersign("import", capture)
    assert "0 recordings removed, 3 left" in countersign("prune", "--max-size", "1G").out
    told = countersign("prune", "--older", "1d", "--json").json()
    assert (told["removed"], told["left"]) == (3, 0)
    assert listed() == []


@pytest.mark.parametrize("kind", ["a FIFO", "a device"])
@pytest.mark.parametrize("option", [False, True])
def test_what_is_no_regular_file_is_refused_and_not_waited_for(
    home: Path, tmp_path: Path, capture: Path, kind: str, *, option: bool
) -> None:
    path = tmp_path / "odd"
    if kind == "a FIFO":
        os.mkfifo(path)  # into which nobody writes
    else:
        path.symlink_to("/dev/zero")
    told = countersign("import", capture, "--keylog", path) if option else countersign("import", path)
    assert told.code == 2
    assert "it is not a regular file" in told.err
    assert "countersign import -" in told.err
    assert home
