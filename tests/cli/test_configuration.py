"""``countersign.toml``, ``COUNTERSIGN_*`` and odd values: whatever is in them, one line that says where it stands."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.cli.commands import countersign
from tests.cli.test_commands import assert_is_one_line
from tests.peers.process import peer_env

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``countersign.toml`` of the working directory; not yet written."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder / "countersign.toml"


# -- what is wrong with the file ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (b"a = " + b"[" * 100_000, ["nested too deeply"]),
        (b"a = " + b"{a=" * 100_000, ["nested too deeply"]),
        (b"a = " + b"9" * 5_000, ["4300 digits"]),
        (b"# " + b"x" * (1 << 20), ["larger than 1048576 bytes"]),
        (b"\xff\xfe[proxy]\n", ["utf-8"]),
        (b"\x00", ["line 1"]),
        (b"proxy = 5\n", ["proxy is a command", "[proxy]"]),
        (b"[ca]\ninit = 5\n", ["ca.init is a command", "[ca.init]"]),
        (b"[proxy]\ntarget = 'a:1'\ntarget = 'b:1'\n", ["line 3"]),
    ],
    ids=["lists", "tables", "number", "large", "encoding", "nul", "command", "command-in-group", "twice"],
)
def test_a_file_that_is_no_configuration_is_one_line(home: Path, toml: Path, text: bytes, parts: list[str]) -> None:
    toml.write_bytes(text)
    told = countersign("ls")
    assert told.code == 2
    assert_is_one_line(told.err, str(toml), *parts)


@pytest.mark.parametrize("kind", ["pipe", "directory", "socket", "loop"])
def test_what_is_no_regular_file_is_not_waited_for(home: Path, toml: Path, kind: str) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        match kind:
            case "pipe":
                os.mkfifo(toml)
            case "directory":
                toml.mkdir()
            case "socket":
                listener.bind("countersign.toml")
            case _:
                toml.symlink_to(toml)
        told = countersign("ls")
    assert told.code == 2
    assert_is_one_line(told.err, str(toml))


def test_a_configuration_behind_a_symbolic_link_is_read(home: Path, toml: Path, tmp_path: Path) -> None:
    (tmp_path / "dotfiles.toml").write_text("[ls]\njson = true\n")
    toml.symlink_to(tmp_path / "dotfiles.toml")
    assert countersign("ls").json()["recordings"] == []


def test_a_working_directory_that_was_deleted_is_no_trouble(home: Path, toml: Path) -> None:
    toml.parent.rmdir()
    assert countersign("ls").code == 0
    told = countersign("ls", "--home", "here")
    assert told.code == 3
    assert_is_one_line(told.err, "here")
    done = subprocess.run(
        [sys.executable, "-m", "countersign", "--version"], check=True, capture_output=True, text=True, env=peer_env()
    )
    assert done.stderr == ""


def test_the_home_has_a_configuration_too(home: Path, toml: Path) -> None:
    home.mkdir(mode=0o700)
    (home / "countersign.toml").write_text("[ls]\njson = true\n")
    assert countersign("ls").json()["recordings"] == []
    toml.write_text("")
    assert countersign("ls").out == ""  # the working directory's stands before it


# -- what is wrong with a value ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value", "part"),
    [
        ("proxy.hello_timeout", "soon", "number"),
        ("proxy.intercept", "perhaps", "boolean"),
        ("ls.limit", "many", "integer"),
        ("ls.limit", "0", "1"),
        ("ls.limit", "9" * 30, "1000000000"),
    ],
)
@pytest.mark.usefixtures("home")
def test_a_value_of_the_wrong_kind_is_said_of_where_it_stands(
    toml: Path, monkeypatch: pytest.MonkeyPatch, option: str, value: str, part: str
) -> None:
    command, _, key = option.partition(".")
    toml.write_text(f"[{command}]\n{key.replace('_', '-')} = '{value}'\n")
    told = countersign(command)
    assert told.code == 2
    assert_is_one_line(told.err, f"{option} in {toml}", part)
    variable = f"COUNTERSIGN_{command.upper()}_{key.upper()}"
    monkeypatch.setenv(variable, value)
    told = countersign(command)
    assert told.code == 2
    assert_is_one_line(told.err, variable, part)
    for text in ("Usage", "--", "toml"):
        assert text not in told.err


def test_a_flag_that_was_typed_is_answered_with_its_usage(home: Path) -> None:
    told = countersign("ls", "--limit", "1e30")
    assert told.code == 2
    assert "--limit" in told.err
    assert "Traceback" not in told.err


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--target", "nowhere"),
        ("--listen", "nowhere"),
        ("--idle-timeout", "-1"),
        ("--secrets", "some"),
        ("--mode", "sideways"),
        ("--label", "last"),
        ("--store-max", "2"),
    ],
)
def test_our_own_errors_say_where_a_value_that_nobody_typed_stands(
    home: Path, toml: Path, monkeypatch: pytest.MonkeyPatch, flag: str, value: str
) -> None:
    target = [] if flag == "--target" else ["--target", "127.0.0.1:9"]
    key = flag[2:].replace("-", "_")
    told = countersign("proxy", *target, flag, value)
    assert told.code == 2
    assert "comes from" not in told.err
    toml.write_text(f"[proxy]\n{key} = '{value}'\n")
    told = countersign("proxy", *target)
    assert told.code == 2
    assert_is_one_line(told.err, f"{flag} comes from proxy.{key} in {toml}")
    monkeypatch.setenv(f"COUNTERSIGN_PROXY_{key.upper()}", value)
    told = countersign("proxy", *target)
    assert_is_one_line(told.err, f"({flag} comes from COUNTERSIGN_PROXY_{key.upper()})")


def test_only_the_value_that_is_wrong_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUNTERSIGN_PROXY_TARGET", "127.0.0.1:9")
    monkeypatch.setenv("COUNTERSIGN_PROXY_STORE_MAX", "16M")
    monkeypatch.setenv("COUNTERSIGN_STORE", "x.sqlite")
    told = countersign("proxy", "--store-max", "2")
    assert_is_one_line(told.err, "--store-max takes")
    assert "comes from" not in told.err


@pytest.mark.parametrize(
    "args",
    [
        ["ca", "init", "--name", "a\udcff"],
        ["proxy", "--target", "127.0.0.1:9", "--label", "a\udcff"],
        ["proxy", "--target", "a\udcff:1"],
        ["ls", "--sni", "a\udcff"],
        ["ls", "--store", "a\udcff"],
        ["show", "a\udcff"],
        ["export", "a\udcff"],
    ],
    ids=lambda args: " ".join(args[:3]).encode("ascii", "replace").decode(),
)
def test_bytes_that_are_no_text_are_said(home: Path, args: list[str]) -> None:
    told = countersign(*args)
    assert told.code == 2
    assert_is_one_line(told.err, "not UTF-8", r"\udcff")


def test_a_file_name_that_is_no_text_is_a_file_name(home: Path, tmp_path: Path) -> None:
    countersign("ca", "init")
    out = tmp_path / os.fsdecode(b"root\xff.pem")
    assert countersign("ca", "root", "--out", out).code == 0
    assert out.exists()
    assert countersign("ls", "--home", tmp_path / os.fsdecode(b"home\xff")).code == 0


def test_a_nul_character_is_said(home: Path, toml: Path) -> None:
    toml.write_text('[export]\nout = "x\\u0000"\n[ls]\nsni = "x\\u0000"\n')
    for command, part in (("export", f"export.out in {toml}"), ("ls", f"ls.sni in {toml}")):
        told = countersign(command)
        assert told.code == 2
        assert_is_one_line(told.err, part)


@pytest.mark.parametrize(
    "label",
    ["last", "last~1", "last~x", "0123456789abcdef", "case:client", "case~2", "", "  ", "x" * 201, "a\nb:c"],
    ids=["last", "last~1", "last~x", "id", "leg", "tilde", "empty", "blank", "long", "lines"],
)
@pytest.mark.parametrize("command", [["proxy", "--target", "127.0.0.1:9"], ["import", "x"]], ids=["proxy", "import"])
def test_a_label_that_could_never_be_asked_for_is_refused(home: Path, command: list[str], label: str) -> None:
    told = countersign(*command, "--label", label)
    assert told.code == 2
    assert_is_one_line(told.err, "--label takes a name")


def test_labels_that_are_words_dates_and_numbers_are_taken(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "nothing"
    path.write_text("no capture")
    for label in ("good", "bad", "deadbeef", "20261121", "lasting", "ticket 4711", "é"):
        assert "--label" not in countersign("import", path, "--label", label).err
