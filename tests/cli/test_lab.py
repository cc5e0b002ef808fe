"""``countersign lab``: the stand-ins as commands."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from countersign.lab.target import HOST
from tests.cli.commands import countersign
from tests.lab.mid import PASSWORD
from tests.peers.curl import curl
from tests.peers.java import QUICK_START
from tests.peers.process import Background, run

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.peer("curl", "java")
def test_an_instance_and_a_mid_server_are_started_by_two_commands(tmp_path: Path) -> None:
    files, ready = tmp_path / "files", tmp_path / "ready.json"
    command = (sys.executable, "-m", "countersign", "lab", "instance", "--listen", "127.0.0.1:0", "--mtls", "on")
    with Background(*command, "--files", files, "--ready-file", ready) as server:
        server.wait_for("instance", timeout=40)
        while not ready.exists():
            assert not server.ended(), server.stderr
        port = json.loads(ready.read_text())["port"]
        to = ("--connect-to", f"{HOST}:{port}:127.0.0.1:{port}")
        shown = ("--cert", str(files / "client.pem"), "--key", str(files / "client.key"))
        answer = curl(f"https://{HOST}:{port}/adcv2/supports_tls", *to, *shown, ca=files / "root.pem")
        refused = curl(f"https://{HOST}:{port}/", *to, ca=files / "root.pem")
        hosts = tmp_path / "hosts"
        hosts.write_text(f"127.0.0.1 localhost\n127.0.0.1 {HOST}\n")
        mid = run(
            *(sys.executable, "-m", "countersign", "lab", "mid", "--profile", "quebec"),
            *("--url", f"https://{HOST}:{port}", "--truststore", files / "trust.p12"),
            *("--keystore", files / "agent_keystore", "--store-password", PASSWORD),
            env={"JAVA_TOOL_OPTIONS": " ".join((*QUICK_START, f"-Djdk.net.hosts.file={hosts}"))},
            timeout=90,
        )
        again = countersign("lab", "instance", "--files", files, "--listen", "127.0.0.1:0")
    assert (answer.ok, refused.ok) == (True, False)
    assert mid.returncode == 0, mid
    assert "Snapshot received" in mid.stdout
    assert (files / "client.key").stat().st_mode & 0o777 == 0o600
    assert again.code != 0
    assert "--overwrite" in again.err
    assert not ready.exists()


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (("--mtls", "yes"), "--mtls takes on, optional, off; got 'yes'"),
        (("--supports-tls", "no"), "--supports-tls takes true, mixed, 404, redirect"),
        (("--without-check", "names"), "expected chain, hostname, revocation"),
        (("--user", "nobody"), "--user takes NAME:PASSWORD"),
        (("--listen", "here"), "--listen"),
    ],
)
def test_a_wrong_word_is_said_and_nothing_is_written(args: tuple[str, str], expected: str, tmp_path: Path) -> None:
    done = countersign("lab", "instance", "--files", tmp_path / "files", *args)
    assert done.code == 2
    assert expected in done.err
    assert not (tmp_path / "files").exists()
