"""What is said to somebody who begins: a CA made unasked, a passphrase that is missing, a file that is none."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from tests.cli.commands import ProxyProcess, countersign
from tests.cli.test_commands import assert_is_one_line
from tests.peers.process import peer_env

if TYPE_CHECKING:
    from pathlib import Path

PROXY = ("proxy", "--listen", "127.0.0.1:0", "--target", "127.0.0.1:9")


def warnings(proxy: ProxyProcess) -> list[dict[str, str]]:
    assert proxy.terminate() == 0
    lines = [json.loads(line) for line in proxy.log.splitlines()]
    return [line for line in lines if line["level"] == "warning"]


def test_a_proxy_that_makes_its_ca_says_where_and_that_it_has_no_limits(home: Path) -> None:
    with ProxyProcess(home, "--target", "127.0.0.1:9") as proxy:
        (told,) = warnings(proxy)
    assert told["directory"] == str(home / "ca")
    assert told["keys"] == "not encrypted"
    assert "without constraints" in told["event"]
    assert "ca init --constrain" in told["event"]
    with ProxyProcess(home, "--target", "127.0.0.1:9") as proxy:
        assert warnings(proxy) == []


def test_a_ready_file_that_cannot_be_is_refused_before_anything_is_promised(home: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_text("theirs")
    told = countersign(*PROXY, "--ready-file", theirs)
    assert told.code == 3
    assert "another file is there" in told.err
    assert "listening" not in told.err


@pytest.mark.parametrize("command", [("ls",), PROXY], ids=lambda words: words[0])
def test_a_file_that_is_no_store_is_not_to_be_made_private(
    command: tuple[str, ...], home: Path, tmp_path: Path
) -> None:
    theirs = tmp_path / "notes.txt"
    theirs.write_text("not a database at all")
    theirs.chmod(0o644)
    told = countersign(*command, "--store", theirs)
    assert told.code == 3
    line = [line for line in told.err.splitlines() if line.startswith("countersign:")]
    assert_is_one_line(line[0] + "\n", "no SQLite database", "name another")
    assert "chmod" not in told.err
    assert theirs.read_text() == "not a database at all"


def test_a_store_that_others_can_read_is_still_refused(home: Path) -> None:
    assert countersign("demo", "--keep").code == 0
    (home / "recordings.sqlite").chmod(0o644)
    told = countersign("ls")
    assert told.code == 3
    assert_is_one_line(told.err, "chmod 600")


# -- the passphrase ----------------------------------------------------------------------------------------------


def typed(line: bytes | None, home: Path, *words: str | Path) -> subprocess.CompletedProcess[bytes]:
    """A command with this on its standard input; closed if there is nothing."""
    return subprocess.run(
        ["bash", "-c", '"$@"' + (" <&-" if line is None else ""), "-", sys.executable, "-m", "countersign", *words],
        input=line or b"", capture_output=True, timeout=60, check=False, env=peer_env({"COUNTERSIGN_HOME": str(home)}),
    )  # fmt: skip


def test_a_passphrase_is_read_from_standard_input(home: Path) -> None:
    made = typed(b"caf\xe9 au lait\r\nmore", home, "ca", "init", "--passphrase-file", "-")
    assert made.returncode == 0, made.stderr
    assert all(b"ENCRYPTED" in path.read_bytes() for path in (home / "ca").glob("*.key.pem"))
    for command in (["root"], ["issue", "a.test"], ["rotate", "intermediate"]):
        ran = typed(b"caf\xe9 au lait\n", home, "ca", *command, "--passphrase-file", "-")
        assert ran.returncode == 0, ran.stderr
    assert typed(b"tea\n", home, "ca", "root", "--passphrase-file", "-").returncode == 3


@pytest.mark.parametrize("line", [b"", b"\n", b"x" * 2000, None], ids=["end", "empty", "long", "closed"])
def test_a_missing_passphrase_makes_no_ca_in_clear(line: bytes | None, home: Path) -> None:
    made = typed(line, home, "ca", "init", "--passphrase-file", "-")
    assert made.returncode in {2, 3}
    assert_is_one_line(made.stderr.decode(), "passphrase")
    assert not (home / "ca").exists()


def test_an_encrypted_ca_names_the_flag_where_there_is_one(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COUNTERSIGN_CA_PASSPHRASE", "a passphrase")
    assert countersign("ca", "init").code == 0
    monkeypatch.delenv("COUNTERSIGN_CA_PASSPHRASE")
    for words, named in ((("ca", "root"), True), (("ca", "rotate", "root"), True), (PROXY, False)):
        told = countersign(*words)
        assert told.code == 3
        assert "it is encrypted; give its passphrase in COUNTERSIGN_CA_PASSPHRASE" in told.err
        assert ("--passphrase-file" in told.err) == named, words


# -- requests, rotations, key logs -------------------------------------------------------------------------------


@pytest.mark.parametrize(("bits", "warned"), [(1024, True), (2048, False)])
def test_a_short_key_in_a_request_is_said(bits: int, *, warned: bool, home: Path, tmp_path: Path) -> None:
    countersign("ca", "init")
    key = rsa.generate_private_key(65537, bits)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mid")])
    asked = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    (tmp_path / "csr").write_bytes(asked.public_bytes(serialization.Encoding.PEM))
    told = countersign("ca", "sign", tmp_path / "csr", "--out", tmp_path / "crt")
    assert told.code == 0
    assert ("RSA 1024" in told.err) == warned
    notes = countersign("ca", "sign", tmp_path / "csr", "--json").json()["notes"]
    assert any("RSA 1024" in note for note in notes) == warned


@pytest.mark.parametrize("what", ["intermediate", "root"])
def test_a_rotation_says_who_does_not_see_it_yet(what: str, home: Path) -> None:
    countersign("ca", "init")
    assert "read it when they start again" in countersign("ca", "rotate", what).out


def test_a_recording_that_was_imported_without_secrets_says_how_to_get_them(home: Path, tmp_path: Path) -> None:
    countersign("demo", "--keep")
    out = tmp_path / "demo.json"
    document = countersign("export", "last", "--format", "json").json()
    assert document["mode"] != "import"
    document["mode"] = "import"
    out.write_text(json.dumps(document))
    other = tmp_path / "other"
    told = countersign("import", out, "--home", other)
    assert told.code == 0, told.err
    told = countersign("export", "last", "--format", "keylog", "--home", other)
    assert told.code == 1
    assert_is_one_line(told.err, "import its capture again", "--keylog", "--secrets all")
