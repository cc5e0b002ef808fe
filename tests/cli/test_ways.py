"""The flags of the ways in and out, and rules that SIGHUP reads again."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.cli.commands import ProxyProcess, countersign
from tests.proxy.wire import Target, alert, client_hello, echo, in_records, rest, server_context

if TYPE_CHECKING:
    from pathlib import Path

    from tests.peers.certs import Lab

TARGET = ("--target", "127.0.0.1:9")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--mode", "transparent", *TARGET), "--target is for --mode reverse"),
        (("--mode", "socks4"), "--mode takes reverse or connect or socks5 or transparent"),
        ((*TARGET, "--tproxy"), "--tproxy is for --mode transparent"),
        ((*TARGET, "--target", "127.0.0.1:10"), "two defaults"),
        (("--target", "a.test=127.0.0.1:9", "--starttls", "smtp"), "--starttls needs one --target"),
        ((*TARGET, "--starttls", "gopher"), "--starttls takes one of"),
        ((*TARGET, "--bind-out", "here"), "--bind-out takes an address"),
        ((*TARGET, "--resolve", "a:1"), "--resolve takes HOST:PORT:ADDRESS"),
        ((*TARGET, "--proxy-auth", "/nowhere"), "--proxy-auth: there is no file /nowhere"),
        ((*TARGET, "--upstream-proxy", "ftp://x"), "--upstream-proxy takes a URL"),
        ((*TARGET, "--upstream-proxy", "http://me:hunter2@x:1"), "COUNTERSIGN_PROXY_UPSTREAM_PROXY"),
        ((*TARGET, "--upstream-proxy-auth", "x"), "--upstream-proxy-auth needs --upstream-proxy"),
        ((*TARGET, "--rules", "/nowhere"), "--rules: there is no file"),
    ],
)
def test_what_cannot_work_is_one_sentence(words: tuple[str, ...], said: str) -> None:
    told = countersign("proxy", *words)
    assert told.code == 2, told
    assert said in told.err
    assert told.err.count("\n") == 1
    assert "hunter2" not in told.err


def test_rules_are_read_again_on_sighup_and_broken_ones_are_not_taken(tmp_path: Path, lab: Lab) -> None:
    import socket

    rules = tmp_path / "rules.toml"
    rules.write_text('default = "passthrough"\n')
    with (
        Target(echo(server_context(lab.server))) as target,
        ProxyProcess(
            tmp_path / "home", "--target", str(target.address), "--upstream-insecure", "--rules", rules
        ) as proxy,
    ):

        def said() -> bytes:
            with socket.create_connection(("127.0.0.1", proxy.port), 10) as connection:
                connection.sendall(in_records(client_hello()))
                connection.shutdown(socket.SHUT_WR)
                return rest(connection)

        def hang_up(words: str) -> None:
            os.kill(proxy.pid, signal.SIGHUP)
            deadline = time.monotonic() + 60
            while words not in proxy.log:
                assert time.monotonic() < deadline, proxy.log
                time.sleep(0.02)

        assert said() != alert("access_denied")
        rules.write_text('default = "refuse"\n')
        hang_up("the rules were read again")
        assert said() == alert("access_denied")
        rules.write_text("nonsense")
        hang_up("the rules stay as they were")
        assert said() == alert("access_denied")
