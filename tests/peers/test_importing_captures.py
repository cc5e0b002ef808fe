"""Captures of real clients that speak something else before TLS: what an import makes of them."""

from __future__ import annotations

import re
import socket
import ssl
import threading
from typing import TYPE_CHECKING, Self

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from countersign.proxy import Mode
from countersign.recorder.files.importing import Tally, import_files
from countersign.recorder.recording import Recording, Status
from countersign.recorder.wire.events import Side
from countersign.recorder.wire.secrets import KeyLog
from tests.peers.curl import curl
from tests.peers.openssl import OpensslServer, openssl_client
from tests.peers.process import run
from tests.peers.relay import Relay
from tests.peers.tshark import tshark_handshakes
from tests.proxy.running import RunningProxy

if TYPE_CHECKING:
    from pathlib import Path

    from tests.peers.certs import Lab

# What the server says first, then what it waits for and what it answers.
SCRIPTS: dict[str, tuple[bytes, list[tuple[bytes, bytes]]]] = {
    "smtp": (
        b"220 lab.test ESMTP\r\n",
        [(rb"EHLO .*\r\n", b"250-lab.test\r\n250 STARTTLS\r\n"), (rb"STARTTLS\r\n", b"220 go\r\n")],
    ),
    "pop3": (b"+OK ready\r\n", [(rb"STLS\r\n", b"+OK begin\r\n")]),
    "imap": (
        b"* OK ready\r\n",
        [
            (rb"\. CAPABILITY\r\n", b"* CAPABILITY IMAP4rev1 STARTTLS\r\n. OK done\r\n"),
            (rb"\. STARTTLS\r\n", b". OK begin\r\n"),
        ],
    ),
    "ftp": (b"220 ready\r\n", [(rb"AUTH TLS\r\n", b"234 begin\r\n")]),
    "nntp": (
        b"200 ready\r\n",
        [(rb"CAPABILITIES\r\n", b"101 here\r\nSTARTTLS\r\n.\r\n"), (rb"STARTTLS\r\n", b"382 begin\r\n")],
    ),
    "ldap": (
        b"",
        [(rb"\x30.*1\.3\.6\.1\.4\.1\.1466\.20037", b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00")],
    ),
    "postgres": (b"", [(rb"\x00\x00\x00\x08\x04\xd2\x16\x2f", b"S")]),
    "mysql": (
        b"\x4a\0\0\0\x0a8.0.33\0\x01\0\0\0"
        b"salt1234\0"
        b"\xff\xff\xff\x02\0\xff\xdf\x15" + bytes(10) + b"morelongsalt\0mysql_native_password\0",
        [(rb"\x20\x00\x00\x01.{32}", b"")],
    ),
    "xmpp": (
        b"",
        [
            (
                rb"<stream:stream.*>",
                (
                    b"<stream:stream><stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
                    b"</stream:features>"
                ),
            ),
            (rb"<starttls[^>]*>", b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"),
        ],
    ),
}


class StarttlsServer:
    """One conversation by a script, then TLS and an echo."""

    def __init__(self, lab: Lab, protocol: str, folder: Path) -> None:
        chain = folder / "chain.pem"
        chain.write_bytes(lab.server.cert_pem.read_bytes() + lab.server.chain_pem.read_bytes())
        self._greeting, self._steps = SCRIPTS[protocol]
        if protocol == "mysql":
            self._greeting = bytes([len(self._greeting) - 4]) + self._greeting[1:]
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(chain, lab.server.key_pem)
        self._thread = threading.Thread(target=self._serve, name="starttls")
        self.error: Exception | None = None

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(10)
        self.port: int = self._listener.getsockname()[1]
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(10)
        self._listener.close()

    def _serve(self) -> None:
        try:
            plain, _ = self._listener.accept()
            with plain:
                plain.settimeout(10)
                plain.sendall(self._greeting)
                for wanted, answer in self._steps:
                    said = b""
                    while not re.search(wanted, said, re.DOTALL):
                        more = plain.recv(1)  # what comes behind may be TLS already
                        assert more, said
                        said += more
                    plain.sendall(answer)
                with self._context.wrap_socket(plain, server_side=True) as tls:
                    tls.sendall(tls.recv(100)[::-1])
                    tls.recv(100)
        except Exception as error:  # noqa: BLE001  told by the test
            self.error = error


def imported(path: Path, keylog: Path | None) -> tuple[Recording, Tally]:
    keys = KeyLog()
    if keylog is not None:
        keys.add_text(keylog.read_bytes())
    tally = Tally()
    (found,) = import_files([path], keylog=keys, tally=tally)
    assert isinstance(found, Recording)
    return found, tally


@pytest.mark.peer("openssl", "tshark")
@pytest.mark.parametrize("protocol", SCRIPTS)
def test_what_s_client_says_before_tls_is_the_prelude(lab: Lab, tmp_path: Path, protocol: str) -> None:
    capture, keylog = tmp_path / "capture.pcap", tmp_path / "keys.txt"
    with StarttlsServer(lab, protocol, tmp_path) as server, Relay(("127.0.0.1", server.port), pcap=capture) as relay:
        client = openssl_client(
            relay.address, "-starttls", protocol, ca=lab.root_pem, keylog=keylog, send=b"hello\n", until="olleh"
        )
    assert "olleh" in client.output, (client, server.error)
    found, tally = imported(capture, keylog)
    assert found.outcome.status is Status.ESTABLISHED
    assert found.prelude["protocol"] == protocol
    assert not found.problems
    assert tally.opened == 1
    reading = found.legs[0].read()
    for side in Side:
        told = [m.length for m in client.messages if m.sender == side.value and m.content == "handshake"]
        seen = [
            m.message.length for m in reading.messages if m.message.sender is side and m.message.content == "handshake"
        ]
        assert seen[: len(told)] == told
    assert [m.type for m in reading.messages].count("finished") == 2


@pytest.mark.peer("curl", "openssl", "tshark")
def test_a_capture_before_our_connect_proxy_shows_the_request(lab: Lab, tmp_path: Path) -> None:
    capture, keylog = tmp_path / "capture.pcap", tmp_path / "keys.txt"
    with (
        OpensslServer(lab.server, mode="www") as server,
        RunningProxy(mode=Mode.CONNECT, roots=(lab.root.certificate.public_bytes(Encoding.DER),)) as proxy,
        Relay(proxy.address, pcap=capture) as relay,
    ):
        root = proxy.root_file(tmp_path)
        url = f"https://localhost:{server.port}/"
        via = f"http://me:secret@127.0.0.1:{relay.port}"
        assert curl(url, ca=root, proxy=via, keylog=keylog).ok
        live = proxy.recording()
    found, _ = imported(capture, keylog)
    assert found.target == f"localhost:{server.port}" == live.target
    assert found.prelude["request"]["method"] == "CONNECT"
    assert found.prelude["answer"] == 200
    assert found.prelude["proxy"] == f"127.0.0.1:{relay.port}"
    assert "c2VjcmV0" not in str(found.prelude)
    ours = {side: [m.raw for m in found.legs[0].messages if m.sender is side] for side in Side}
    facing = live.legs[0]
    assert ours == {side: [m.raw for m in facing.messages if m.sender is side] for side in Side}


@pytest.mark.peer("openssl", "tshark")
def test_what_editcap_and_mergecap_write_is_read(lab: Lab, tmp_path: Path) -> None:
    """Secrets injected before the packets, two captures in one, another format, and comments."""
    both, injected = tmp_path / "both.pcapng", tmp_path / "injected.pcapng"
    keylog = tmp_path / "keys.txt"
    captures = [tmp_path / "0.pcap", tmp_path / "1.pcap"]
    ports = {}
    for capture in captures:
        with OpensslServer(lab.server) as server, Relay((server.host, server.port), pcap=capture) as relay:
            openssl_client(relay.address, ca=lab.root_pem, keylog=keylog, send=b"hello\n", until="olleh")
            ports[relay.port] = "tls"
    run("mergecap", "-w", both, *captures).check()
    run("editcap", "-a", "3:a remark", "--inject-secrets", f"tls,{keylog}", both, injected).check()
    tally = Tally()
    found = [one for one in import_files([injected], tally=tally) if isinstance(one, Recording)]
    assert (len(found), tally.opened) == (2, 2)
    apart = [one for file in captures for one in import_files([file]) if isinstance(one, Recording)]
    assert {one.id for one in found} == {one.id for one in apart}
    saw = tshark_handshakes(injected, decode_as=ports)
    told = [m for one in found for m in one.legs[0].messages]
    for side in Side:
        assert sorted(m.length for m in saw if m.content == "handshake" and m.sender == side.value) == sorted(
            m.length for m in told if m.content == "handshake" and m.sender is side
        )
