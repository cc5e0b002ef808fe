"""The commands that ``ca trust`` prints: run in a shell they make the client trust the root, and do nothing else."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from countersign.ca.stores import CertificateEntry, StoreType, load_store, write_store
from countersign.ca.trusting import CLIENTS, Instructions, instructions
from countersign.errors import UserError
from tests.ca.stores.made_stores import PASSWORD, chain
from tests.peers.openssl import OpensslServer
from tests.peers.process import peer_env, run

if TYPE_CHECKING:
    from tests.peers.certs import Lab

HOSTILE = "it's $(touch pwn) `touch pwn` \"; touch pwn; & %PATH% !x"


def in_bash(script: str, directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-eu", "-c", script],
        cwd=directory, capture_output=True, text=True, timeout=90, env=peer_env(), check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.fixture
def root_file(lab: Lab, tmp_path: Path) -> Path:
    """The root, in a folder whose name is a trap for shells."""
    folder = tmp_path / HOSTILE
    folder.mkdir()
    return Path(shutil.copy(lab.root_pem, folder / "root.pem"))


def told(client: str, root_file: Path, lab: Lab, mid_home: str | None = None) -> Instructions:
    return instructions(client, str(root_file), chain(lab.root)[0], mid_home=mid_home)


@pytest.mark.peer("keytool")
@pytest.mark.parametrize("named", ["the home", "agent"])
def test_a_mid_servers_own_trust_store_is_added_to_and_put_back(
    named: str, lab: Lab, root_file: Path, tmp_path: Path
) -> None:
    """Its keytool, its cacerts, wherever they are; T7: the folder's name stays text."""
    agent = root_file.parent / "mid" / "agent"
    (agent / "jre" / "bin").mkdir(parents=True)
    (agent / "jre" / "lib" / "security").mkdir(parents=True)
    keytool = shutil.which("keytool")
    assert keytool is not None
    (agent / "jre" / "bin" / "keytool").symlink_to(Path(keytool).resolve())
    cacerts = agent / "jre" / "lib" / "security" / "cacerts"
    cacerts.write_bytes(write_store(StoreType.JKS, [CertificateEntry("theirs", chain(lab.server)[0])], PASSWORD))
    before = load_store(cacerts, PASSWORD).entries
    made = told("mid", root_file, lab, str(agent if named == "agent" else agent.parent))
    assert not any("was not found" in note for note in made.notes)
    done = in_bash("\n".join(command.text for command in made.commands), tmp_path)
    assert done.returncode == 0, done
    after = load_store(cacerts, PASSWORD)
    assert chain(lab.root)[0] in after.certificates
    assert len(after.entries) == 2
    assert load_store(cacerts.with_name("cacerts.before-countersign"), PASSWORD).entries == before
    assert in_bash(made.undo[0].text, tmp_path).returncode == 0
    assert load_store(cacerts, PASSWORD).certificates == (chain(lab.server)[0],)
    assert not list(tmp_path.rglob("pwn"))


CLIENT_COMMANDS = {
    "curl": "curl -sS --resolve server.lab.test:{port}:127.0.0.1 https://server.lab.test:{port}/",
    "python": "{python} -c 'import urllib.request as r; r.urlopen(\"https://localhost:{port}/\", timeout=10).read()'",
    "node": 'node -e \'require("https").get("https://localhost:{port}/", r => r.resume()).on("error", '
    "e => {{ console.error(e.message); process.exit(1) }})'",
}


@pytest.mark.peer("openssl", "curl", "node")
@pytest.mark.parametrize("client", CLIENT_COMMANDS)
def test_a_client_that_did_not_trust_the_root_does_so_afterwards(
    client: str, lab: Lab, root_file: Path, tmp_path: Path
) -> None:
    exports = [command.text for command in told(client, root_file, lab).commands if command.text.startswith("export ")]
    with OpensslServer(lab.server, mode="www") as server:
        command = CLIENT_COMMANDS[client].format(port=server.port, python=shlex.quote(sys.executable))
        assert in_bash(command, tmp_path).returncode != 0
        done = in_bash("\n".join([*exports, command]), tmp_path)
        assert done.returncode == 0, done
    assert not list(tmp_path.rglob("pwn"))


@pytest.mark.parametrize("client", [client for client in CLIENTS if client != "windows"])
def test_every_command_is_words_for_a_shell(client: str, lab: Lab, root_file: Path, tmp_path: Path) -> None:
    made = told(client, root_file, lab, str(tmp_path / HOSTILE) if client == "mid" else None)
    assert made.commands
    assert made.undo
    for command in (*made.commands, *made.undo):
        assert in_bash(f"set -n\n{command.text}", tmp_path).returncode == 0
        words = shlex.split(command.text)
        assert not any(word in {"touch", "pwn"} for word in words)
        shown = in_bash(f"printf '%s\\n' {command.text}", tmp_path)
        assert shown.stdout.splitlines() == words
    assert any(str(root_file) in word for command in made.commands for word in shlex.split(command.text))
    assert not list(tmp_path.rglob("pwn"))


@pytest.mark.parametrize(
    "folder", ["C:\\ServiceNow\\MID one\\agent", 'C:\\it\'s ‘here’ $(x) `x` "y"', "\\\\server\\share\\mid"]
)
def test_a_mid_server_on_windows_gets_powershell(folder: str, lab: Lab) -> None:
    """In single quotes nothing means anything but a quote, which is doubled; typographic ones are quotes as well."""
    made = instructions("mid", "C:\\roots\\root.pem", chain(lab.root)[0], mid_home=folder)
    agent = folder if folder.endswith("agent") else f"{folder}\\agent"
    for command in made.commands:
        assert command.shell == "powershell"
        strings = re.findall("['‘’](?:[^'‘’]|['‘’]{2})*['‘’]", command.text)
        plain = [re.sub("(['‘’])\\1", r"\1", each[1:-1]) for each in strings]
        assert any(each.startswith(f"{agent}\\jre") for each in plain), command.text
        rest = re.sub("['‘’](?:[^'‘’]|['‘’]{2})*['‘’]", "", command.text)
        assert re.fullmatch(r"[A-Za-z& -]*", rest), rest
    assert "keytool.exe" in made.commands[1].text


def test_windows_and_the_rest_name_the_root(lab: Lab) -> None:
    made = instructions("windows", "C:\\it's\\root.pem", chain(lab.root)[0])
    assert made.commands[0].text == (
        "Import-Certificate -FilePath 'C:\\it''s\\root.pem' -CertStoreLocation Cert:\\LocalMachine\\Root"
    )
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    thumbprint = x509.load_der_x509_certificate(chain(lab.root)[0]).fingerprint(hashes.SHA1()).hex().upper()
    assert f"Cert:\\LocalMachine\\Root\\{thumbprint}" in made.undo[0].text


@pytest.mark.parametrize(
    ("client", "path", "mid_home", "told_why"),
    [
        ("netscape", "/root.pem", None, "expected java, mid"),
        ("mid", "/root.pem", None, "--mid-home"),
        ("java", "/root.pem", "/mid", "--mid-home"),
        ("java", "/ro\not.pem", None, "do not show"),
        ("java", "/ro\x1b]0;x\x07ot.pem", None, "do not show"),
        ("mid", "/root.pem", "/mid\u202e", "do not show"),
        ("mid", "/root.pem", "/mid\0", "do not show"),
    ],
)
def test_what_cannot_be_told_is_the_users_error(
    client: str, path: str, mid_home: str | None, told_why: str, lab: Lab
) -> None:
    with pytest.raises(UserError, match=told_why):
        instructions(client, path, chain(lab.root)[0], mid_home=mid_home)


def test_the_alias_is_the_roots_own(lab: Lab) -> None:
    """Two roots never meet under one alias."""
    names = {
        re.search(r"countersign-[0-9a-f]{8}", instructions("java", "/root.pem", chain(each)[0]).commands[0].text)
        for each in (lab.root, lab.intermediate)
    }
    assert None not in names
    assert len({found[0] for found in names if found}) == 2


@pytest.mark.peer("keytool")
def test_the_commands_for_java_are_ones_that_keytool_knows(lab: Lab, tmp_path: Path) -> None:
    """Not run against the machine's own cacerts: the same words against a store of its own."""
    made = instructions("java", str(lab.root_pem), chain(lab.root)[0])
    store = tmp_path / "store"
    store.write_bytes(write_store(StoreType.PKCS12, [CertificateEntry("x", chain(lab.server)[0])], PASSWORD))
    for command in (*made.commands, *made.undo):
        words = shlex.split(command.text)
        at = words.index("-cacerts")
        run(words[0], *words[1:at], "-keystore", store, *words[at + 1 :], timeout=60).check()
