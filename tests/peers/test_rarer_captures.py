"""What real peers do more rarely, read by us and by tshark: see :mod:`tests.peers.test_real_captures`."""

from __future__ import annotations

import base64
import hashlib
import struct
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tests.peers.certs import SERVER_NAMES
from tests.peers.java import java_client
from tests.peers.openssl import OpensslServer, openssl_client
from tests.peers.process import Background, run
from tests.peers.test_real_captures import (
    ASKED12,
    ASKED13,
    ECDHE12,
    FULL12,
    FULL13,
    LAB_NAME,
    RESUMED13,
    Stage,
    gnutls_client,
    gnutls_server,
    nss_client,
)
from tests.peers.witness import jvm_trust

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.peers.certs import Issued, Lab
    from tests.peers.process import Arg

pytestmark = pytest.mark.peer("tshark")

PSK = "00112233445566778899aabbccddeeff"
GNUTLS12, GNUTLS13 = "NORMAL:-VERS-ALL:+VERS-TLS1.2", "NORMAL:-VERS-ALL:+VERS-TLS1.3"
PSK13 = {"client_hello", "server_hello", "encrypted_extensions", "finished"}
SRP12 = {"client_hello", "server_hello", "server_key_exchange", "server_hello_done", "client_key_exchange", "finished"}


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


# -- openssl


@pytest.mark.peer("openssl")
def test_tshark_and_we_read_openssls_rarer_settings_alike(lab: Lab, stage: Stage) -> None:
    """Padded records, an external PSK, SCSV, no cipher at all, groups and keys that few use."""
    rsa = lab.issue(*SERVER_NAMES, key="rsa-2048")
    ed448, p521 = (lab.issue(*SERVER_NAMES, key=kind) for kind in ("ed448", "ec-p521"))
    null = "ECDHE-ECDSA-NULL-SHA:@SECLEVEL=0"
    psk = ("-psk", PSK, "-psk_identity", "Client_identity")
    few = ("-split_send_frag", "100", "-max_send_frag", "512")
    kinds: list[tuple[str, str, Issued, set[str], Sequence[Arg], Sequence[Arg]]] = [
        ("padding", "TLSv1.3", lab.server, FULL13, ("-record_padding", "512"), ("-record_padding", "256")),
        ("external PSK", "TLSv1.3", lab.server, PSK13, (*psk, "-nocert"), psk),
        ("SCSV", "TLSv1.2", lab.server, ECDHE12, (), ("-fallback_scsv",)),
        ("no cipher", "TLSv1.2", lab.server, ECDHE12, ("-cipher", null), ("-cipher", null)),
        ("Ed448", "TLSv1.3", ed448, FULL13, (), ()),
        ("P-521", "TLSv1.3", p521, FULL13, (), ("-groups", "P-521")),
        ("X448", "TLSv1.3", lab.server, FULL13, (), ("-groups", "X448")),
        ("ffdhe4096", "TLSv1.3", lab.server, FULL13, ("-groups", "ffdhe4096"), ("-groups", "ffdhe4096")),
        ("PSS", "TLSv1.2", rsa, ECDHE12, ("-sigalgs", "RSA-PSS+SHA512"), ()),
        ("no ETM", "TLSv1.2", rsa, ECDHE12, (), ("-no_etm", "-cipher", "ECDHE-RSA-AES128-SHA256")),
        ("fragments", "TLSv1.2", rsa, ECDHE12, few, few),
    ]
    for name, version, leaf, shows, server_args, client_args in kinds:
        with (
            OpensslServer(leaf, *server_args, version=version, keylog=stage.keylog) as server,
            stage.relay(name, server.port, shows) as relay,
        ):
            done = openssl_client(relay.address, *client_args, version=version, send=b"hello\n", until="^olleh$")
            assert "olleh" in done.output, f"{name}: {done.completed}"
    stage.compare()


@pytest.mark.peer("openssl")
def test_tshark_and_we_read_a_client_that_authenticates_later_alike(lab: Lab, stage: Stage) -> None:
    shows = FULL13 | {"new_session_ticket", "certificate_request"}
    with (
        OpensslServer(
            lab.server, "-verify", "3", "-CAfile", lab.root_pem, version="TLSv1.3", mode="plain", keylog=stage.keylog
        ) as server,
        stage.relay("later", server.port, shows) as relay,
        Background(
            *("openssl", "s_client", "-connect", relay.address, "-enable_pha", "-msg"),
            *("-cert", lab.client.cert_pem, "-key", lab.client.key_pem),
        ) as client,
    ):
        client.wait_for(r"NewSessionTicket(?s:.*)NewSessionTicket")
        client.say(b"hello\n")
        server.wait_for("^hello$")
        server.command("c")
        client.wait_for(">>> .*CertificateVerify")
        client.say(b"again\n")
        server.wait_for("^again$")
        client.say(b"Q\n")
        client.wait(10)
    found = stage.compare()
    assert found.types[0]["certificate_request"] == 2
    assert found.types[0]["certificate"] == 3


@pytest.mark.peer("openssl")
def test_tshark_and_we_read_timestamps_in_a_handshake_alike(lab: Lab, stage: Stage) -> None:
    """RFC 6962 3.3.1, which ``s_server`` sends from a file."""
    public = stage.folder / "log.der"
    run("openssl", "pkey", "-in", lab.server.key_pem, "-pubout", "-outform", "DER", "-out", public).check()
    log = stage.folder / "logs.cnf"
    log.write_text(f"enabled_logs=a\n[a]\ndescription=lab\nkey={base64.b64encode(public.read_bytes()).decode()}\n")
    log_id = hashlib.sha256(public.read_bytes()).digest()
    sct = b"\0" + log_id + (1_795_176_000_123).to_bytes(8, "big") + b"\0\0\x04\x03\0\x46" + bytes(70)
    listed = struct.pack("!HHHH", 18, len(sct) + 4, len(sct) + 2, len(sct)) + sct
    info = stage.folder / "info.pem"
    text = base64.encodebytes(listed).decode()
    info.write_text(f"-----BEGIN SERVERINFO FOR SCT-----\n{text}-----END SERVERINFO FOR SCT-----\n")
    with (
        OpensslServer(lab.server, "-serverinfo", info, version="TLSv1.2", keylog=stage.keylog) as server,
        stage.relay("SCT", server.port, ECDHE12) as relay,
    ):
        done = openssl_client(
            relay.address, "-ct", "-ctlogfile", log, version="TLSv1.2", send=b"hello\n", until="^olleh$"
        )
        assert "SCTs present (1)" in done.output, done.completed
    stage.compare()


# -- GnuTLS


@pytest.mark.peer("gnutls-cli", "gnutls-serv", "openssl")
def test_tshark_and_we_read_what_gnutls_alone_has_alike(lab: Lab, stage: Stage) -> None:
    """SRP, bare public keys, a PSK in both versions, early data."""
    users, groups = stage.folder / "users", stage.folder / "groups"
    run("srptool", "--create-conf", groups).check()
    user = ("--passwd", users, "--passwd-conf", groups, "-u", "alice")
    run("srptool", *user, stdin=b"secret\n").check()
    srp = f"{GNUTLS12}:-KX-ALL:+SRP"
    with (
        gnutls_server(
            lab.server, f"--srppasswd={users}", f"--srppasswdconf={groups}", f"--priority={srp}", keylog=stage.keylog
        ) as port,
        stage.relay("SRP", port, SRP12) as relay,
    ):
        gnutls_client(relay, srp, "--srpusername", "alice", "--srppasswd", "secret", ca=lab.root_pem)
    (stage.folder / "psk").write_text(f"device-7:{PSK}\n")
    own = ("--pskusername", "device-7", "--pskkey", PSK)
    for priority, shows in ((f"{GNUTLS12}:-KX-ALL:+PSK", FULL12 - {"certificate"}), (f"{GNUTLS13}:+PSK", PSK13)):
        given = (f"--pskpasswd={stage.folder / 'psk'}", "--pskhint=which?", f"--priority={priority}")
        with (
            gnutls_server(lab.server, *given, keylog=stage.keylog) as port,
            stage.relay("PSK", port, shows) as relay,
        ):
            gnutls_client(relay, priority, *own, ca=lab.root_pem)
    public = stage.folder / "public.pem"
    run("openssl", "pkey", "-in", lab.server.key_pem, "-pubout", "-out", public).check()
    bare = (f"--rawpkfile={public}", f"--rawpkkeyfile={lab.server.key_pem}")
    with (
        gnutls_server(lab.server, *bare, "--priority=NORMAL:+CTYPE-SRV-RAWPK", keylog=stage.keylog) as port,
        stage.relay("bare key", port, FULL13) as relay,
    ):
        priority = f"{GNUTLS13}:+CTYPE-SRV-RAWPK:-CTYPE-SRV-X509"
        gnutls_client(relay, priority, "--no-ca-verification", ca=lab.root_pem)
    early = stage.folder / "early"
    early.write_bytes(b"hello early\n")
    with (
        gnutls_server(lab.server, "--earlydata", "--maxearlydata=1000", keylog=stage.keylog) as port,
        stage.relay("early data", port, FULL13, RESUMED13 | {"end_of_early_data"}) as relay,
    ):
        again = ("--resume", "--waitresumption", f"--earlydata={early}")
        words = ("--priority", GNUTLS13, "--x509cafile", str(lab.root_pem), "-p", str(relay.port), *again, "localhost")
        with Background("gnutls-cli", *words, env={"SSLKEYLOGFILE": str(stage.keylog)}) as client:
            client.wait_for(r"Handshake was completed(?s:.*)Handshake was completed")
            client.say(b"hello\n")
            client.wait_for("^hello$")
            client.hang_up()
            client.wait(10)
    stage.compare()


# -- NSS


@pytest.mark.peer("tstclnt", "certutil", "openssl")
def test_tshark_and_we_read_what_nss_alone_has_alike(lab: Lab, stage: Stage) -> None:
    """Delegated credentials, false start, an external PSK, client certificates, ECH that is refused."""
    psk = ("-psk", PSK, "-psk_identity", "Client_identity")
    kinds: list[tuple[str, str, set[str], Sequence[Arg], Sequence[str]]] = [
        ("delegated credential", "tls1.3:tls1.3", FULL13, (), ("-B",)),
        ("timestamps wanted", "tls1.2:tls1.3", FULL13, (), ("-U", "-T")),
        ("false start", "tls1.2:tls1.2", ECDHE12, (), ("-g", "-G")),
        ("external PSK", "tls1.3:tls1.3", PSK13, psk, ("-z", f"0x{PSK}")),
        ("every version", "tls1.0:tls1.3", FULL13, (), ("-u", "-H")),
        ("ffdhe2048", "tls1.3:tls1.3", FULL13, ("-groups", "ffdhe2048"), ("-I", "FF2048")),
    ]
    store = stage.folder / "nss"
    store.mkdir()
    run("certutil", "-N", "-d", f"sql:{store}", "--empty-password").check()
    run("pk12util", "-i", lab.client.pkcs12(store / "own.p12"), "-d", f"sql:{store}", "-W", "changeit").check()
    for name, versions, shows, server_args, client_args in kinds:
        with (
            OpensslServer(lab.server, *server_args, mode="www", keylog=stage.keylog) as server,
            stage.relay(name, server.port, shows) as relay,
        ):
            nss_client(relay, store, versions, *client_args)
    for versions, shows in (("tls1.2:tls1.2", ASKED12), ("tls1.3:tls1.3", ASKED13)):
        with (
            OpensslServer(lab.server, mode="www", verify_ca=lab.root_pem, keylog=stage.keylog) as server,
            stage.relay("client certificate", server.port, shows) as relay,
        ):
            nss_client(relay, store, versions, "-n", "lab")
    with (
        OpensslServer(lab.server, mode="www", keylog=stage.keylog) as server,
        stage.relay("ECH", server.port, FULL13 | {"alert"}) as relay,
        Background(
            *("tstclnt", "-h", "127.0.0.1", "-p", str(relay.port), "-d", f"sql:{store}", "-o", "-a", "localhost"),
            *("-V", "tls1.3:tls1.3", "-N", ech_configs("public.lab.test")),
        ) as client,
    ):
        client.wait(10)
    stage.compare()


def ech_configs(name: str) -> str:
    """An ECHConfigList of a key that nobody has (RFC 9849 4)."""
    public = X25519PrivateKey.generate().public_key().public_bytes_raw()
    contents = b"\7" + struct.pack("!HH", 0x20, 32) + public + struct.pack("!HHH", 4, 1, 1)
    contents += bytes([64, len(name)]) + name.encode() + b"\0\0"
    config = struct.pack("!HH", 0xFE0D, len(contents)) + contents
    return base64.b64encode(struct.pack("!H", len(config)) + config).decode()


# -- JVM


@pytest.mark.peer("java", "javac", "keytool", "openssl")
def test_tshark_and_we_read_a_hello_in_sslv2_form_alike(lab: Lab, stage: Stage) -> None:
    """JSSE still has it. OpenSSL takes it and finds no suite: such a hello has no room for extensions."""
    trust = jvm_trust(lab.root_pem.read_bytes())
    with (
        OpensslServer(lab.server, mode="www", keylog=stage.keylog) as server,
        stage.relay("SSLv2 form", server.port, {"client_hello", "alert"}) as relay,
    ):
        done = java_client(
            f"{LAB_NAME}:{relay.port}",
            truststore=trust,
            hosts={LAB_NAME: "127.0.0.1"},
            protocols=["SSLv2Hello", "TLSv1.2"],
        )
        assert "handshake_failure" in done.completed.stdout, done.completed
    stage.compare()
