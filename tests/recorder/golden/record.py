"""Record the golden transcripts anew with the system's openssl: ``python tests/recorder/golden/record.py``.

Each transcript is what ``openssl s_client -msg`` printed, in a form for people: one message a line, who sent it, of
what content, its bytes. The readings beside them (``*.json``) are made by the tests: ``REGOLD=1 pytest
tests/recorder``.

What openssl cannot do was captured from other peers and opened with their key log (tests.peers.compare holds such a
capture against tshark): ``python -m tests.recorder.golden.record NAME CAPTURE KEYLOG WHAT``, of its first connection.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
PSK = "00112233445566778899aabbccddeeff"
OLD = ["-cipher", "ALL:@SECLEVEL=0"]
CLIENT_CERTIFICATE = ["-cert", "client.pem", "-key", "client.key"]

# name: (arguments of s_server, arguments of s_client)
TRANSCRIPTS: dict[str, tuple[list[str], list[str]]] = {
    "tls13-full": (
        ["-tls1_3", "-alpn", "h2,http/1.1"],
        ["-tls1_3", "-servername", "instance.example", "-alpn", "h2,http/1.1", "-status"],
    ),
    "tls13-client-certificate": (
        ["-tls1_3", "-Verify", "3", "-CAfile", "ca.pem"],
        ["-tls1_3", *CLIENT_CERTIFICATE],
    ),
    "tls13-hello-retry-request": (["-tls1_3", "-groups", "P-384"], ["-tls1_3", "-groups", "X25519:P-384"]),
    "tls13-psk": (["-tls1_3", "-psk", PSK, "-nocert"], ["-tls1_3", "-psk", PSK]),
    "tls13-stapled-ocsp": (["-tls1_3", "-status_file", "ocsp.der"], ["-tls1_3", "-status"]),
    "tls12-ecdhe": (
        ["-tls1_2", "-alpn", "http/1.1"],
        ["-tls1_2", "-servername", "instance.example", "-alpn", "h2,http/1.1"],
    ),
    "tls12-ecdhe-client-certificate": (
        ["-tls1_2", "-Verify", "3", "-CAfile", "ca.pem"],
        ["-tls1_2", *CLIENT_CERTIFICATE],
    ),
    "tls12-dhe": (["-tls1_2", "-cipher", "DHE"], ["-tls1_2", "-cipher", "DHE"]),
    "tls12-dh-anon": (["-tls1_2", *OLD], ["-tls1_2", "-cipher", "ADH:@SECLEVEL=0"]),
    "tls12-ecdh-anon": (["-tls1_2", *OLD], ["-tls1_2", "-cipher", "AECDH:@SECLEVEL=0"]),
    "tls12-rsa": (["-tls1_2", "-cipher", "kRSA"], ["-tls1_2", "-cipher", "kRSA"]),
    "tls12-psk": (
        ["-tls1_2", "-psk", PSK, "-psk_hint", "hint", "-nocert"],
        ["-tls1_2", "-psk", PSK, "-cipher", "kPSK"],
    ),
    "tls12-dhe-psk": (["-tls1_2", "-psk", PSK, "-nocert"], ["-tls1_2", "-psk", PSK, "-cipher", "kDHEPSK"]),
    "tls12-ecdhe-psk": (["-tls1_2", "-psk", PSK, "-nocert"], ["-tls1_2", "-psk", PSK, "-cipher", "kECDHEPSK"]),
    "tls12-rsa-psk": (["-tls1_2", "-psk", PSK], ["-tls1_2", "-psk", PSK, "-cipher", "kRSAPSK"]),
    "tls12-next-protocol": (["-tls1_2", "-nextprotoneg", "spdy/3,http/1.1"], ["-tls1_2", "-nextprotoneg", "http/1.1"]),
    "tls12-stapled-ocsp": (["-tls1_2", "-status_file", "ocsp.der"], ["-tls1_2", "-status"]),
    "tls12-refused": (["-tls1_2"], ["-tls1_2", "-CAfile", "other.pem", "-verify_return_error"]),
    "tls11-ecdhe": (["-tls1_1", *OLD], ["-tls1_1", *OLD]),
    "tls10-client-certificate": (
        ["-tls1", *OLD, "-Verify", "3", "-CAfile", "ca.pem"],
        ["-tls1", *OLD, *CLIENT_CERTIFICATE],
    ),
}
RESUMED = {"tls13-resumed": ["-tls1_3"], "tls12-resumed": ["-tls1_2"], "tls12-resumed-by-id": ["-tls1_2", "-no_ticket"]}
EARLY = "tls13-early-data"

_HEAD = re.compile(r"^(<<<|>>>) (?:TLS|SSL) [\d.]+, (Handshake|Alert|ChangeCipherSpec) \[length ([0-9a-f]{4})\]")
_CONTENT = {"Handshake": "handshake", "Alert": "alert", "ChangeCipherSpec": "change_cipher_spec"}


def openssl(directory: Path, *arguments: str, text: str = "") -> str:
    done = subprocess.run(
        ["openssl", *arguments], cwd=directory, input=text, capture_output=True, text=True, timeout=20, check=False
    )
    return done.stdout + done.stderr


def make_certificates(directory: Path) -> None:
    for name, subject in (("ca", "/O=Example/CN=Example Root"), ("other", "/CN=Other Root")):
        openssl(directory, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
                "3650", "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", subject)  # fmt: skip
    for name, subject, kind in (
        ("server", "/CN=instance.example", ["rsa:2048"]),
        ("client", "/O=Example/CN=mid-server", ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]),
    ):
        openssl(directory, "req", "-newkey", *kind, "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr",
                "-subj", subject)  # fmt: skip
        openssl(directory, "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "3650",
                "-CAcreateserial", "-out", f"{name}.pem")  # fmt: skip
    serial = openssl(directory, "x509", "-in", "server.pem", "-noout", "-serial").strip().partition("=")[2]
    (directory / "index.txt").write_text(f"V\t360101000000Z\t\t{serial}\tunknown\t/CN=instance.example\n")
    openssl(directory, "ocsp", "-issuer", "ca.pem", "-cert", "server.pem", "-reqout", "req.der")
    openssl(directory, "ocsp", "-index", "index.txt", "-CA", "ca.pem", "-rsigner", "ca.pem", "-rkey", "ca.key",
            "-reqin", "req.der", "-respout", "ocsp.der", "-ndays", "3650")  # fmt: skip


def run(directory: Path, port: int, server: list[str], client: list[str]) -> str:
    certificate = [] if "-nocert" in server else ["-cert", "server.pem", "-key", "server.key"]
    process = subprocess.Popen(
        ["openssl", "s_server", "-accept", str(port), *certificate, *server, "-quiet"],
        cwd=directory, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        time.sleep(0.4)
        return openssl(directory, "s_client", "-connect", f"127.0.0.1:{port}", "-msg", *client, text="Q\n")
    finally:
        process.kill()
        process.wait()


def parse(output: str) -> list[str]:
    """The messages in what -msg printed, one line each."""
    found: list[str] = []
    wanted, data, head = 0, "", ""
    for line in output.splitlines():
        match = _HEAD.match(line)
        if match:
            wanted, data = 2 * int(match[3], 16), ""
            head = f"{'client' if match[1] == '>>>' else 'server'} {_CONTENT[match[2]]}"
        elif wanted and re.fullmatch(r"\s+([0-9a-f]{2} ?)+(- [0-9a-f ]+)?\s*", line):
            data += re.sub(r"[^0-9a-f]", "", line)
            if len(data) >= wanted:
                found.append(f"{head} {data[:wanted]}")
                wanted = 0
        elif wanted and not line.startswith(" "):
            wanted = 0
    return found


def write(name: str, server: list[str], client: list[str], output: str) -> None:
    version = subprocess.run(["openssl", "version"], capture_output=True, text=True, check=True).stdout.strip()
    messages = parse(output)
    head = [f"# {version}", f"# s_server {' '.join(server)}", f"# s_client {' '.join(client)}"]
    (HERE / f"{name}.txt").write_text("\n".join([*head, *messages]) + "\n")
    print(f"{name}: {len(messages)} messages")  # noqa: T201


def main() -> None:
    with tempfile.TemporaryDirectory() as made:
        directory = Path(made)
        make_certificates(directory)
        port = 24100
        for name, (server, client) in TRANSCRIPTS.items():
            port += 1
            write(name, server, client, run(directory, port, server, client))
        for name, arguments in RESUMED.items():
            port += 1
            record_resumed(directory, port, name, arguments)
        record_early_data(directory, port + 1)


def record_resumed(directory: Path, port: int, name: str, arguments: list[str]) -> None:
    server = ["openssl", "s_server", "-accept", str(port), "-cert", "server.pem", "-key", "server.key", *arguments]
    with subprocess.Popen(server, cwd=directory, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        time.sleep(0.4)
        client = ["s_client", "-connect", f"127.0.0.1:{port}", *arguments]
        first = subprocess.Popen(
            ["openssl", *client, "-sess_out", "session.pem"],
            cwd=directory, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(0.6)  # tickets come after the handshake
        first.communicate(b"Q\n")
        output = openssl(directory, *client, "-msg", "-sess_in", "session.pem", text="Q\n")
        process.kill()
    write(name, arguments, [*arguments, "-sess_in", "session.pem"], output)


def record_early_data(directory: Path, port: int) -> None:
    (directory / "early.txt").write_text("GET / HTTP/1.0\r\n\r\n")
    arguments = ["-tls1_3", "-early_data"]
    server = ["openssl", "s_server", "-accept", str(port), "-cert", "server.pem", "-key", "server.key", *arguments]
    with subprocess.Popen(server, cwd=directory, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        time.sleep(0.4)
        client = ["s_client", "-connect", f"127.0.0.1:{port}", "-tls1_3"]
        first = subprocess.Popen(
            ["openssl", *client, "-sess_out", "session.pem"],
            cwd=directory, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(0.6)
        first.communicate(b"Q\n")
        resumed = ["-sess_in", "session.pem", "-early_data", "early.txt"]
        output = openssl(directory, *client, "-msg", *resumed, text="k\nQ\n")
        process.kill()
    write(EARLY, arguments, ["-tls1_3", *resumed], output)


def record_capture(name: str, capture: Path, keylog: Path, what: str) -> None:
    from countersign.recorder.files.importing import import_files
    from countersign.recorder.recording import Recording
    from countersign.recorder.wire.secrets import KeyLog

    keys = KeyLog()
    keys.add_text(keylog.read_bytes())
    first = next(one for one in import_files([capture], keylog=keys) if isinstance(one, Recording))
    lines = [f"{one.sender.value} {one.content.value} {one.raw.hex()}" for one in first.legs[0].messages]
    (HERE / f"{name}.txt").write_text("\n".join([f"# {what}", *lines]) + "\n")
    print(f"{name}: {len(lines)} messages")  # noqa: T201


if __name__ == "__main__":
    if len(sys.argv) == 5:
        record_capture(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
    else:
        main()
