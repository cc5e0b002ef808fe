"""Handshakes of real peers with each other, nothing of ours in between, read by us and by tshark.

Each test has the conversations of one family of peers, puts their captures into one file and compares the two readings
message by message (:mod:`tests.peers.compare`). What must have been in them is said beside each, so that a conversation
that did not happen is not a comparison that found nothing.
"""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import sys
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from tests.peers.certs import SERVER_NAMES
from tests.peers.compare import Comparison, comparison, main
from tests.peers.curl import curl
from tests.peers.java import BOUNCY_CASTLE, QUICK_START, java_client
from tests.peers.kinds import DheServer
from tests.peers.openssl import OpensslServer, openssl_client
from tests.peers.openssl4 import ModernServer, modern_client
from tests.peers.process import Background, run
from tests.peers.relay import Relay
from tests.peers.witness import connections, jvm_trust

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.peers.certs import Issued, Lab

pytestmark = pytest.mark.peer("tshark")

_PCAP_HEADER = 24
LAB_NAME = "server.lab.test"
NGINX = shutil.which("nginx") or "/usr/sbin/nginx"
FULL13 = {"client_hello", "server_hello", "encrypted_extensions", "certificate", "certificate_verify", "finished"}
ASKED13 = FULL13 | {"certificate_request"}
FULL12 = {"client_hello", "server_hello", "certificate", "server_hello_done", "client_key_exchange", "finished"}
ECDHE12 = FULL12 | {"server_key_exchange"}
ASKED12 = ECDHE12 | {"certificate_request", "certificate_verify"}
HALF12 = ECDHE12 - {"finished"} | {"encrypted"}
RESUMED12 = {"client_hello", "server_hello", "change_cipher_spec", "finished"}
RESUMED13 = FULL13 - {"certificate", "certificate_verify"}


class Stage:
    """Conversations, each through a relay of its own that captures it; then what comparing them says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keylog = folder / "keys.log"
        self.keylog.touch()
        self._shown: list[tuple[str, Path, tuple[set[str], ...]]] = []

    @contextmanager
    def relay(self, name: str, port: int, *shows: set[str]) -> Iterator[Relay]:
        """A way to the server on this port; ``shows`` are the types that each connection must have had."""
        pcap = self.folder / f"{len(self._shown)}.pcap"
        with Relay(("127.0.0.1", port), pcap=pcap) as relay:
            yield relay
        self._shown.append((name, pcap, shows))

    def compare(self) -> Comparison:
        """Compare all that was captured; fails with the differences, named by conversation."""
        merged = self.folder / "all.pcap"
        names: list[str] = []
        wanted: list[set[str]] = []
        data = b""
        for name, pcap, shows in self._shown:
            captured = pcap.read_bytes()
            data += captured[_PCAP_HEADER:] if data else captured
            count = len(connections(pcap))
            assert count == len(shows), f"{name}: {count} connections"
            names += [name] * count
            wanted += shows
        merged.write_bytes(data)
        found = comparison(merged, self.keylog)
        said = [f"{names[one.stream]}: {one}" for one in found.differences]
        assert not said, "\n".join(said)
        for stream, types in enumerate(wanted):
            missing = types - found.types.get(stream, {}).keys()
            assert not missing, f"{names[stream]}: no {missing} in {dict(found.types.get(stream, {}))}"
        assert not found.uncompared, f"tshark knows more: {dict(found.uncompared)}"
        return found


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def wait_for_port(port: int, server: Background, timeout: float = 40) -> None:
    deadline = time.monotonic() + timeout
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert not server.ended(), server.stderr
            assert time.monotonic() < deadline, f"nothing listens on {port}"
            time.sleep(0.02)
        else:
            return


# -- openssl


@pytest.mark.peer("openssl")
def test_tshark_and_we_read_openssl_alike_in_every_version(lab: Lab, stage: Stage) -> None:
    """Client certificates, ALPN, a hello retry request, key updates, resumption, early data."""
    for version, shows in (
        ("TLSv1", ASKED12),
        ("TLSv1.1", ASKED12),
        ("TLSv1.2", ASKED12 | {"new_session_ticket"}),
        ("TLSv1.3", ASKED13 | {"new_session_ticket"}),
    ):
        more = ("-alpn", "h2,http/1.1", "-status")
        with OpensslServer(
            lab.server, "-alpn", "http/1.1", verify_ca=lab.root_pem, version=version, keylog=stage.keylog
        ) as server:
            with stage.relay(f"openssl {version}", server.port, shows | {"alert"}) as relay:
                _talk(relay, lab, *more, version=version, identity=lab.client)
            server.wait_for("CONNECTION CLOSED")
    with (
        OpensslServer(lab.server, groups="P-384", keylog=stage.keylog) as server,
        stage.relay("openssl hello retry request", server.port, FULL13 | {"hello_retry_request"}) as relay,
    ):
        _talk(relay, lab, "-groups", "X25519:P-384")
    with OpensslServer(
        lab.server, "-max_early_data", "16384", "-early_data", keylog=stage.keylog, mode="plain"
    ) as server:
        session, early = stage.folder / "session.pem", stage.folder / "early.txt"
        early.write_bytes(b"GET / HTTP/1.0\r\n\r\n")
        with stage.relay(
            "openssl early data", server.port, FULL13, RESUMED13 | {"end_of_early_data", "key_update"}
        ) as relay:
            with Background("openssl", "s_client", "-connect", relay.address, "-msg", "-sess_out", session) as client:
                client.wait_for(r"NewSessionTicket(?s:.*)NewSessionTicket")
                client.hang_up()
                client.wait(10)
            words = ("-sess_in", session, "-early_data", early)
            with Background("openssl", "s_client", "-connect", relay.address, "-msg", *words) as client:
                client.wait_for(r"NewSessionTicket")
                client.say(b"K\n")
                client.wait_for(r"^>>> .*KeyUpdate")
                client.say(b"Q\n")
                client.wait(10)
    stage.compare()


def _talk(relay: Relay, lab: Lab, *args: str, version: str | None = None, identity: Issued | None = None) -> None:
    done = openssl_client(
        relay.address, *args, ca=lab.root_pem, version=version, identity=identity, send=b"hello\n", until=r"^olleh$"
    )
    assert "olleh" in done.output, done.completed


@pytest.mark.peer("openssl")
def test_tshark_and_we_read_every_key_exchange_of_openssl_alike(lab: Lab, stage: Stage) -> None:
    """RSA, DHE, ECDHE over CBC and AEAD; PSK of all kinds; anonymous; a session by id and by ticket; renegotiation."""
    rsa = lab.issue(*SERVER_NAMES, key="rsa-2048")
    psk = ("-psk", "00112233445566778899aabbccddeeff", "-psk_identity", "device-7")
    hint = ("-psk", psk[1], "-psk_hint", "which device?")
    bare = FULL12 - {"certificate"}
    suites = {
        "AES128-SHA": FULL12,
        "AES256-GCM-SHA384": FULL12,
        "DHE-RSA-AES128-SHA256": ECDHE12,
        "ECDHE-RSA-AES256-SHA384": ECDHE12,
        "ECDHE-RSA-CHACHA20-POLY1305": ECDHE12,
        "ECDHE-RSA-CAMELLIA128-SHA256": ECDHE12,
        "DHE-RSA-AES128-CCM8": ECDHE12,
        "PSK-AES128-GCM-SHA256": bare,
        "DHE-PSK-AES128-CBC-SHA": bare | {"server_key_exchange"},
        "ECDHE-PSK-CHACHA20-POLY1305": bare | {"server_key_exchange"},
        "RSA-PSK-AES256-GCM-SHA384": FULL12,
        "ADH-AES128-SHA": bare | {"server_key_exchange"},
        "AECDH-AES256-SHA": bare | {"server_key_exchange"},
    }
    weak = ("-cipher", "ALL:PSK:aNULL:@SECLEVEL=0")
    with (
        DheServer(rsa, *weak, *hint, "-dhparam", _dh(stage.folder), version="TLSv1.2", keylog=stage.keylog) as dhe,
        stage.relay("openssl 1.2", dhe.port, *suites.values()) as relay,
    ):
        for suite in suites:
            done = openssl_client(
                relay.address,
                *("-cipher", f"{suite}:@SECLEVEL=0", *(psk if "PSK" in suite else ())),
                version="TLSv1.2",
                send=b"hello\n",
                until=r"^olleh$",
            )
            assert "olleh" in done.output, f"{suite}: {done.completed}"
    for name, options in (("ticket", ()), ("id", ("-no_ticket",))):
        session = stage.folder / f"{name}.pem"
        with (
            OpensslServer(rsa, *options, version="TLSv1.2", keylog=stage.keylog) as server,
            stage.relay(f"openssl resumed by {name}", server.port, ECDHE12, RESUMED12) as relay,
        ):
            openssl_client(relay.address, "-sess_out", str(session), version="TLSv1.2", send=b"a\n", until="^a$")
            openssl_client(relay.address, "-sess_in", str(session), version="TLSv1.2", send=b"a\n", until="^a$")
    with (
        OpensslServer(rsa, version="TLSv1.2", mode="plain", keylog=stage.keylog) as server,
        stage.relay("openssl renegotiation", server.port, ECDHE12 | {"hello_request"}) as relay,
        Background("openssl", "s_client", "-connect", relay.address, "-tls1_2") as client,
    ):
        client.wait_for("Verify return code")
        client.say(b"hello\n")
        server.wait_for("^hello$")
        server.command("r")
        server.wait_for("SSL_do_handshake -> 1")
        client.say(b"hello again\n")
        server.wait_for("^hello again$")
    stage.compare()


def _dh(folder: Path) -> Path:
    """RFC 7919's group, in a file."""
    path = folder / "dh.pem"
    run("openssl", "genpkey", "-genparam", "-algorithm", "DH", "-pkeyopt", "group:ffdhe2048", "-out", path).check()
    return path


@pytest.mark.peer("openssl")
def test_tshark_and_we_read_openssl_alike_without_keys_and_in_odd_shapes(lab: Lab, stage: Stage) -> None:
    """Refusals in clear, no keys at all, a post-quantum hybrid, a chain over several records, small fragments."""
    big = lab.issue(*SERVER_NAMES, *(f"tenant-{n:04}.a-name-of-some-length.lab.test" for n in range(500)))
    with (
        OpensslServer(big, keylog=stage.keylog) as server,
        stage.relay("openssl long certificate", server.port, FULL13, FULL13) as relay,
    ):
        _talk(relay, lab)
        _talk(relay, lab, "-maxfraglen", "512")
    with (
        OpensslServer(big, keylog=stage.keylog, version="TLSv1.2") as server,
        stage.relay("openssl small fragments in 1.2", server.port, ECDHE12) as relay,
    ):
        _talk(relay, lab, "-maxfraglen", "512", version="TLSv1.2")
    for version, shows in (("TLSv1.2", HALF12), ("TLSv1.3", {"client_hello", "server_hello"})):
        with (
            OpensslServer(lab.server, version=version) as server,
            stage.relay(f"openssl {version} without keys", server.port, shows) as relay,
        ):
            _talk(relay, lab, version=version)
    with (
        OpensslServer(lab.server, version="TLSv1.3") as server,
        stage.relay("openssl refuses the version", server.port, {"client_hello", "alert"}) as relay,
    ):
        openssl_client(relay.address, version="TLSv1.2")
    with (
        ModernServer(lab.server, groups="X25519MLKEM768:X25519", keylog=stage.keylog) as modern,
        stage.relay("openssl 4", modern.port, FULL13) as relay,
    ):
        group = modern_client(relay.port, groups="X25519MLKEM768:X25519", ca=lab.root_pem, keylog=stage.keylog)
    assert group == "X25519MLKEM768"
    stage.compare()


# -- curl and nginx


@contextmanager
def nginx(identity: Issued, folder: Path, *, client_ca: Path | None = None) -> Iterator[int]:
    """The port of an nginx that speaks HTTP/2 and asks for a certificate where ``client_ca`` is given."""
    folder.mkdir()
    port = free_port()
    asks = f"ssl_client_certificate {client_ca}; ssl_verify_client optional;" if client_ca else ""
    temporary = " ".join(
        f"{one}_temp_path {folder}/{one};" for one in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log stderr;"
        f"events {{}} http {{ access_log off; {temporary} server {{ listen 127.0.0.1:{port} ssl http2;"
        f"ssl_certificate {identity.fullchain_pem}; ssl_certificate_key {identity.key_pem};"
        f"ssl_protocols TLSv1.2 TLSv1.3; {asks} location / {{ return 200 hello; }} }} }}"
    )
    with Background(NGINX, "-p", folder, "-c", folder / "nginx.conf", "-e", "stderr") as server:
        wait_for_port(port, server)
        yield port


@pytest.mark.peer("curl", "nginx", "openssl")
def test_tshark_and_we_read_curl_and_nginx_alike(lab: Lab, stage: Stage) -> None:
    with nginx(lab.server, stage.folder / "nginx", client_ca=lab.root_pem) as port:
        with stage.relay("curl to nginx", port, ASKED12, ASKED13, ASKED12) as relay:
            url = f"https://localhost:{relay.port}/"
            own = ("--cert", lab.client.fullchain_pem, "--key", lab.client.key_pem)
            for args in (("--tls-max", "1.2", *own), ("--tlsv1.3", *own), ("--tls-max", "1.2", "--no-alpn", *own)):
                answer = curl(url, *args, ca=lab.root_pem, keylog=stage.keylog)
                assert answer.status == 200, answer.completed
        session = str(stage.folder / "nginx.session")
        with stage.relay("openssl to nginx, resumed", port, ECDHE12, RESUMED12) as relay:
            for way in ("-sess_out", "-sess_in"):
                openssl_client(
                    relay.address,
                    way,
                    session,
                    version="TLSv1.2",
                    keylog=stage.keylog,
                    send=b"GET /\n",
                    until="hello|closed",
                )
        with stage.relay("curl does not trust nginx", port, {"client_hello", "server_hello", "alert"}) as relay:
            refused = curl(f"https://localhost:{relay.port}/", keylog=stage.keylog)
            assert not refused.ok
    stage.compare()


# -- GnuTLS


@contextmanager
def gnutls_server(identity: Issued, *args: str, keylog: Path, ca: Path | None = None) -> Iterator[int]:
    port = free_port()
    words = ["--echo", "-p", str(port), "--x509certfile", str(identity.fullchain_pem)]
    words += ["--x509keyfile", str(identity.key_pem)]
    words += ["--x509cafile", str(ca), "--require-client-cert"] if ca else ["--disable-client-cert"]
    with Background("gnutls-serv", *words, *args, env={"SSLKEYLOGFILE": str(keylog)}) as server:
        server.wait_for(r"Echo Server listening on IPv4 .* port \d+\.\.\.done")
        yield port


def gnutls_client(relay: Relay, priority: str, *args: str, ca: Path, keylog: Path | None = None) -> None:
    words = ("--priority", priority, "--x509cafile", str(ca), "-p", str(relay.port), *args, "localhost")
    with Background("gnutls-cli", *words, env={"SSLKEYLOGFILE": str(keylog)} if keylog else {}) as client:
        client.wait_for("Handshake was completed")
        client.say(b"hello\n")
        client.wait_for("^(hello|olleh)$")
        client.hang_up()
        client.wait(10)


@pytest.mark.peer("gnutls-cli", "gnutls-serv", "openssl")
def test_tshark_and_we_read_gnutls_alike(lab: Lab, stage: Stage) -> None:
    tls12, tls13 = "NORMAL:-VERS-ALL:+VERS-TLS1.2", "NORMAL:-VERS-ALL:+VERS-TLS1.3"
    own = ("--x509certfile", str(lab.client.fullchain_pem), "--x509keyfile", str(lab.client.key_pem))
    with (
        gnutls_server(lab.server, keylog=stage.keylog, ca=lab.root_pem) as port,
        stage.relay("gnutls to gnutls", port, ASKED12, ASKED13, ASKED12 | {"alert"}) as relay,
    ):
        gnutls_client(relay, tls12, *own, ca=lab.root_pem)
        gnutls_client(relay, tls13, *own, ca=lab.root_pem)
        gnutls_client(relay, f"{tls12}:-CIPHER-ALL:+AES-256-CBC:+SHA1", *own, ca=lab.root_pem)
    p384 = "NORMAL:-GROUP-ALL:+GROUP-SECP384R1"
    with (
        gnutls_server(lab.server, "--priority", p384, keylog=stage.keylog) as port,
        stage.relay("openssl to gnutls", port, ECDHE12, FULL13 | {"hello_retry_request"}) as relay,
    ):
        for args, version in (((), "TLSv1.2"), (("-groups", "X25519:P-384"), "TLSv1.3")):
            done = openssl_client(relay.address, *args, version=version, send=b"hello\n", until="^hello$")
            assert "hello" in done.output, done.completed
    with (
        OpensslServer(lab.server, keylog=stage.keylog) as server,
        stage.relay("gnutls to openssl, resumed", server.port, ECDHE12, ECDHE12, FULL13, FULL13) as relay,
    ):
        gnutls_client(relay, tls12, ca=lab.root_pem)
        gnutls_client(relay, f"{tls12}:-KX-ALL:+ECDHE-ECDSA:%NO_ETM:-CIPHER-ALL:+AES-128-CBC", ca=lab.root_pem)
        gnutls_client(relay, tls13, ca=lab.root_pem)
        gnutls_client(relay, f"{tls13}:-CIPHER-ALL:+CHACHA20-POLY1305", "--recordsize", "512", ca=lab.root_pem)
    stage.compare()


# -- NSS


@contextmanager
def nss_server(identity: Issued, folder: Path, *args: str) -> Iterator[tuple[int, Path]]:
    """The port of ``selfserv`` and its data base, which a ``tstclnt`` can use too. Debian's NSS writes no key log."""
    folder.mkdir()
    store = f"sql:{folder}"
    run("certutil", "-N", "-d", store, "--empty-password").check()
    run("pk12util", "-i", identity.pkcs12(folder / "own.p12"), "-d", store, "-W", "changeit").check()
    port = free_port()
    with Background("selfserv", "-d", store, "-p", str(port), "-n", "lab", "-V", "tls1.2:tls1.3", *args) as server:
        wait_for_port(port, server)
        yield port, folder


def nss_client(relay: Relay, store: Path, versions: str, *args: str) -> None:
    words = ("-h", "127.0.0.1", "-p", str(relay.port), "-d", f"sql:{store}", "-o", "-V", versions, "-a", "localhost")
    with Background("tstclnt", *words, *args) as client:
        client.say(b"GET / HTTP/1.0\r\n\r\n")
        client.wait_for("HTTP/1.0 200")


@pytest.mark.peer("tstclnt", "selfserv", "certutil", "openssl")
def test_tshark_and_we_read_nss_alike(lab: Lab, stage: Stage) -> None:
    with nss_server(lab.server, stage.folder / "nss") as (port, store):
        in_clear = {"client_hello", "server_hello"}
        with stage.relay("nss to nss without keys", port, HALF12, in_clear) as relay:
            nss_client(relay, store, "tls1.2:tls1.2")
            nss_client(relay, store, "tls1.3:tls1.3")
        with stage.relay("openssl to nss", port, ECDHE12, FULL13) as relay:
            for version in ("TLSv1.2", "TLSv1.3"):
                request = b"GET / HTTP/1.0\r\n\r\n"
                openssl_client(relay.address, version=version, keylog=stage.keylog, send=request, until="HTTP/1.0 200")
        with (
            OpensslServer(lab.server, mode="www", keylog=stage.keylog) as server,
            stage.relay("nss to openssl", server.port, ECDHE12, FULL13, FULL13) as relay,
        ):
            nss_client(relay, store, "tls1.2:tls1.2", "-G")
            nss_client(relay, store, "tls1.3:tls1.3", "-i", "200")
            nss_client(relay, store, "tls1.2:tls1.3", "-T")
    stage.compare()


# -- node and Python


NODE_SERVER = """
const [cert, key] = process.argv.slice(1);
const fs = require('fs');
const server = require('https').createServer({cert: fs.readFileSync(cert), key: fs.readFileSync(key)},
  (request, answer) => answer.end('hello'));
server.listen(0, '127.0.0.1', () => console.log('port ' + server.address().port));
"""
NODE_CLIENT = """
const [port, ca, version] = process.argv.slice(1);
require('https').get({port, host: '127.0.0.1', servername: 'localhost', ca: require('fs').readFileSync(ca),
  minVersion: version, maxVersion: version, ALPNProtocols: ['http/1.1', 'spdy']}, (answer) => {
  answer.on('data', () => {}).on('end', () => console.log(answer.statusCode));
});
"""


@contextmanager
def python_server(identity: Issued, keylog: Path) -> Iterator[int]:
    """The ssl module's; it asks for a certificate that nobody has to show, and repeats what it hears."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.fullchain_pem, identity.key_pem)
    context.keylog_filename = str(keylog)
    context.set_alpn_protocols(["http/1.1"])
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_verify_locations(identity.root_pem)

    def serve() -> None:
        with suppress(OSError):
            while True:
                raw, _ = listener.accept()
                raw.settimeout(10)
                with suppress(OSError), context.wrap_socket(raw, server_side=True) as connection:
                    connection.sendall(connection.recv(100))
                    connection.recv(100)
                    connection.unwrap()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, name="python server")
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def python_client(relay: Relay, ca: Path, version: ssl.TLSVersion, keylog: Path) -> None:
    context = ssl.create_default_context(cafile=ca)
    context.minimum_version = context.maximum_version = version
    context.keylog_filename = str(keylog)
    with (
        socket.create_connection((relay.host, relay.port), timeout=10) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as connection,
    ):
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert connection.recv(100)
        with suppress(OSError):
            connection.unwrap()


@pytest.mark.peer("node")
def test_tshark_and_we_read_node_and_python_alike(lab: Lab, stage: Stage) -> None:
    keys = f"--tls-keylog={stage.keylog}"
    with Background("node", "-e", NODE_SERVER, str(lab.server.fullchain_pem), str(lab.server.key_pem)) as server:
        port = int(server.wait_for(r"port (\d+)")[1])
        with stage.relay("node to node", port, ECDHE12, FULL13) as relay:
            for version in ("TLSv1.2", "TLSv1.3"):
                done = run("node", keys, "-e", NODE_CLIENT, str(relay.port), lab.root_pem, version)
                assert done.stdout.strip() == "200", done
        with stage.relay("python to node", port, ECDHE12, FULL13) as relay:
            for one in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
                python_client(relay, lab.root_pem, one, stage.keylog)
    with (
        python_server(lab.server, stage.keylog) as port,
        stage.relay("python to python", port, ECDHE12 | {"certificate_request"}, ASKED13) as relay,
    ):
        for one in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            python_client(relay, lab.root_pem, one, stage.keylog)
    stage.compare()


# -- JVM


@pytest.mark.peer("java", "javac", "keytool", "openssl")
def test_tshark_and_we_read_jsse_alike(lab: Lab, stage: Stage) -> None:
    trust = jvm_trust(lab.root_pem.read_bytes())
    own = lab.client.pkcs12(stage.folder / "own.p12")
    hosts = {LAB_NAME: "127.0.0.1"}
    with OpensslServer(lab.server, mode="www", verify_ca=lab.root_pem, keylog=stage.keylog) as server:
        for version, shows in (("TLSv1.2", (ASKED12, RESUMED12)), ("TLSv1.3", (ASKED13, RESUMED13))):
            with stage.relay(f"JSSE {version}", server.port, *shows) as relay:
                url = f"{LAB_NAME}:{relay.port}"
                done = java_client(url, truststore=trust, keystore=own, hosts=hosts, protocols=[version], repeat=2)
                assert done.ok, done.completed
    with (
        OpensslServer(lab.server, mode="www", keylog=stage.keylog) as server,
        stage.relay("JSSE that does not trust", server.port, {"client_hello", "server_hello", "alert"}) as relay,
    ):
        done = java_client(f"https://{LAB_NAME}:{relay.port}/", hosts=hosts)
        assert not done.ok
    stage.compare()


BCJSSE = (
    "org.bouncycastle.jce.provider.BouncyCastleProvider",
    "org.bouncycastle.jsse.provider.BouncyCastleJsseProvider",
)


@pytest.mark.peer("java", "javac", "keytool", "openssl", "bcprov", "bctls")
def test_tshark_and_we_read_bouncy_castle_alike(lab: Lab, stage: Stage) -> None:
    """BCJSSE, which makes the handshake itself, unlike Bouncy Castle's ciphers under JSSE."""
    from tests.peers.java import _classes

    trust = jvm_trust(lab.root_pem.read_bytes())
    class_path = os.pathsep.join([_classes().name, *map(str, BOUNCY_CASTLE)])
    with OpensslServer(lab.server, mode="www", keylog=stage.keylog) as server:
        for version, shows in (("TLSv1.2", ECDHE12), ("TLSv1.3", FULL13)):
            with stage.relay(f"BCJSSE {version}", server.port, shows) as relay:
                properties = {
                    "javax.net.ssl.trustStore": trust,
                    "javax.net.ssl.trustStorePassword": "changeit",
                    "jdk.tls.client.protocols": version,
                }
                words = [f"-D{name}={value}" for name, value in properties.items()]
                providers = [word for name in BCJSSE for word in ("--provider", name)]
                target = f"127.0.0.1:{relay.port}"
                done = run(
                    "java", *QUICK_START, *words, "-cp", class_path, "HandshakeClient", target, *providers, timeout=60
                )
                assert "result: OK" in done.stdout, done
    stage.compare()


# -- the tool


@pytest.mark.peer("openssl")
def test_the_tool_says_what_it_compared_and_what_differs(
    lab: Lab, stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And it can fail: read one suite wrong, and it says where."""
    from tests.peers import compare

    with (
        OpensslServer(lab.server, version="TLSv1.2", keylog=stage.keylog) as server,
        stage.relay("openssl", server.port, ECDHE12) as relay,
    ):
        _talk(relay, lab, version="TLSv1.2")
    file = next(stage.folder.glob("*.pcap"))
    monkeypatch.setattr(sys, "argv", ["compare", str(file), "--keylog", str(stage.keylog)])
    assert main() == 0
    assert "1 connections, 13 messages, 0 differences" in capsys.readouterr().out
    inside = stage.folder / "with-secrets.pcapng"
    run("editcap", "--inject-secrets", f"tls,{stage.keylog}", file, inside).check()
    assert not compare.compare(inside)
    assert comparison(inside).types[0]["finished"] == 2
    right = compare.values_of

    def wrong(value: object) -> dict[str, list[str]]:
        found = right(value)
        if "tls.handshake.ciphersuite" in found:
            found["tls.handshake.ciphersuite"][-1] = "1337"
        return found

    monkeypatch.setattr(compare, "values_of", wrong)
    assert main() == 1
    said = capsys.readouterr().out
    assert "connection 0, client message 0: client_hello tls.handshake.ciphersuite: tshark" in said
    assert "2 differences" in said
