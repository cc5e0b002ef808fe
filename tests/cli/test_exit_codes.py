"""Exit codes mean the same for every command, and what was no TLS is shown for what it was."""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING

import pytest

import countersign.cli
from tests.cli.commands import ProxyProcess, countersign as run
from tests.cli.test_commands import assert_is_one_line

if TYPE_CHECKING:
    from pathlib import Path

PLAIN = b"GET /status HTTP/1.1\r\nHost: x\r\nAuthorization: Basic c2VjcmV0\r\n\r\n"


@pytest.fixture
def plain(home: Path) -> Path:
    """A home in which one session is recorded that was no TLS."""
    with (
        socket.create_server(("127.0.0.1", 0)) as target,
        ProxyProcess(home, "--target", f"127.0.0.1:{target.getsockname()[1]}") as proxy,
        socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as client,
    ):
        client.sendall(PLAIN)
        accepted, _ = target.accept()
        with accepted:
            assert accepted.recv(4096) == PLAIN
            accepted.sendall(b"HTTP/1.1 204 No \x1b[31mContent\r\n\r\n")
            client.recv(4096)
        client.shutdown(socket.SHUT_WR)
        client.recv(4096)
        proxy.terminate()
    return home


def test_what_was_relayed_as_it_was_is_on_the_ladder(plain: Path) -> None:
    shown = run("show", "last").out
    assert run("export", "last", "--format", "text").out in shown
    up, down = (line for line in shown.splitlines() if "not TLS" in line)
    assert re.search(rf"►.*not TLS +{len(PLAIN)} +begins GET /status HTTP/1.1\\r\\n", up)
    assert re.search(r"◄.*not TLS +\d+ +begins HTTP/1.1 204 No \\x1b\[31mContent", down)
    assert "c2VjcmV0" not in shown


def test_the_answer_no_is_1_for_every_command(plain: Path) -> None:
    for args, part in (
        (("export", "last", "--format", "keylog"), "--secrets"),
        (("export", "last", "--format", "pem"), "no certificate"),
    ):
        told = run(*args)
        assert told.code == 1
        assert told.out == ""
        assert_is_one_line(told.err, part)


def test_where_some_have_it_and_others_have_not_the_answer_is_no_but_for_those_that_have(
    plain: Path, tmp_path: Path
) -> None:
    run("demo", "--keep")
    out = tmp_path / "chains.pem"
    told = run("export", "last", "last~1", "last~2", "--format", "pem", "--out", out)
    assert told.code == 1
    assert_is_one_line(told.err, "no certificate")
    assert "2 recordings" in told.out
    assert out.read_bytes().count(b"BEGIN CERTIFICATE") > 2


def test_nothing_is_written_where_there_is_nothing(plain: Path, tmp_path: Path) -> None:
    out = tmp_path / "keys.log"
    assert run("export", "last", "--format", "keylog", "--out", out).code == 1
    assert not out.exists()


def test_a_list_with_nothing_in_it_is_as_expected(home: Path) -> None:
    for command in (["ls"], ["ls", "--json"], ["ls", "--sni", "nobody"], ["prune", "--older", "1d"]):
        assert run(*command).code == 0


def test_what_was_named_and_is_not_there_is_wrong_usage(home: Path) -> None:
    for command in (["show", "abcdef"], ["show", "last"], ["export", "last"], ["ls", "--before", "abcdef"]):
        assert run(*command).code == 2


def test_the_table_of_exit_codes_has_them_all() -> None:
    table = countersign.cli.__doc__ or ""
    assert re.findall(r"^(\d+) ", table, re.MULTILINE) == ["0", "1", "2", "3", "4", "130", "141"]
