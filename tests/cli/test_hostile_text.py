"""Names that a stranger chose reach a terminal, a log and a file name as text only (T6, T9, T10)."""

from __future__ import annotations

import contextlib
import json
import re
import socket
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from countersign.ca import Authority, Plan, issue
from tests.cli.commands import ProxyProcess, countersign
from tests.cli.test_commands import client_hello
from tests.peers.process import Background

if TYPE_CHECKING:
    from pathlib import Path

    from countersign.ca import Minted

NASTY = [
    "\x1b[2J\x1b]0;owned\x07",
    "\x1b]52;c;cm0gLXJm\x1b\\",
    "\x1b]8;;http://evil.test\x1b\\click\x1b]8;;\x1b\\",
    'x\n{"event": "session", "outcome": "established"}',
    "\rforged\x9b31m",
    "\u202egnp.exe\u2066",
    "<script>alert(1)</script>",
]
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def assert_is_safe(text: str) -> None:
    """Nothing but text and line ends."""
    assert not UNSAFE.search(text), UNSAFE.findall(text)


def _server(folder: Path, minted: Minted) -> Background:
    chain = folder / "chain.pem"
    chain.write_bytes(b"".join(x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in minted.chain))
    key = folder / "key.pem"
    assert not isinstance(minted.key, bytes)
    key.write_bytes(minted.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return Background(
        "openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", chain, "-cert_chain", chain, "-key", key, "-www"
    )


@pytest.mark.peer("openssl")
@pytest.mark.parametrize("name", NASTY)
def test_a_name_in_the_targets_chain_moves_no_cursor_and_forges_no_line(home: Path, tmp_path: Path, name: str) -> None:
    authority = Authority.make(Plan(name=f"CA {name}"[:40]))
    root = tmp_path / "root.pem"
    root.write_bytes(authority.root_pem)
    with _server(tmp_path, issue(authority, "localhost", common_name=name[:64])) as server:
        port = server.wait_for(r"ACCEPT \S*:(\d+)")[1]
        with ProxyProcess(home, "--target", f"localhost:{port}", "--upstream-ca", root) as proxy:
            with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as client:
                client.sendall(client_hello())
                assert client.recv(5)
            proxy.terminate()
            log = proxy.log
    assert all(json.loads(line)["event"] for line in log.splitlines())
    assert_is_safe(log)
    shown = countersign("show", "last")
    assert shown.code == 0
    assert "certificate" in shown.out
    for text in (
        shown.out,
        countersign("show", "last", "--json").out,
        countersign("ls").out,
        countersign("export", "last", "--format", "pem").out,
        countersign("export", "last", "--format", "text").out,
    ):
        assert_is_safe(text)


@pytest.mark.parametrize("name", [b"\x1b]0;x\x07ab", b'a\n{"e":1}', b"../../etc", b"$(id)\r\n;`"])
@pytest.mark.parametrize("watched", [True, False], ids=["passed-through", "intercepted"])
def test_a_server_name_is_shown_as_text(home: Path, name: bytes, *, watched: bool) -> None:
    hello = client_hello()
    assert hello.count(b"localhost") == 1
    with (
        socket.create_server(("127.0.0.1", 0)) as target,
        ProxyProcess(
            home, "--target", f"127.0.0.1:{target.getsockname()[1]}", *(["--passthrough"] if watched else [])
        ) as proxy,
    ):
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as client:
            client.sendall(hello.replace(b"localhost", name[:9].ljust(9, b"x")))
            accepted, _ = target.accept()
            accepted.close()
            client.shutdown(socket.SHUT_WR)
            client.settimeout(10)
            with contextlib.suppress(ConnectionResetError):  # the target closed over what it had not read
                while client.recv(4096):
                    pass
        proxy.terminate()
        log = proxy.log
    assert all(json.loads(line)["event"] for line in log.splitlines())
    assert_is_safe(log)
    listed = countersign("ls", "--json").json()["recordings"]
    assert len(listed) == 1
    assert listed[0]["sni"]
    for text in (countersign("ls").out, countersign("show", "last").out, countersign("show", "last", "--json").out):
        assert_is_safe(text)
