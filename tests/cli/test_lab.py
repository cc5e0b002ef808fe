"""``countersign lab``: the stand-ins as commands."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

import countersign.lab
from countersign.lab.target import HOST
from tests.cli.commands import countersign as command
from tests.lab.mid import PASSWORD
from tests.peers.curl import curl
from tests.peers.java import QUICK_START
from tests.peers.process import Background, run


@pytest.mark.peer("curl", "java")
def test_an_instance_and_a_mid_server_are_started_by_two_commands(tmp_path: Path) -> None:
    files, ready = tmp_path / "files", tmp_path / "ready.json"
    words = (sys.executable, "-m", "countersign", "lab", "instance", "--listen", "127.0.0.1:0", "--mtls", "on")
    with Background(*words, "--files", files, "--ready-file", ready) as server:
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
        again = command("lab", "instance", "--files", files, "--listen", "127.0.0.1:0")
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
    done = command("lab", "instance", "--files", tmp_path / "files", *args)
    assert done.code == 2
    assert expected in done.err
    assert not (tmp_path / "files").exists()


def test_lab_mid_names_each_option_that_its_client_takes_and_no_other() -> None:
    source = (Path(countersign.lab.__file__).parent / "java" / "MidClient.java").read_text()
    lists = re.findall(r"List<String> (?:FLAGS|known) = List\.of\(([^)]*)\)", source)
    known = {f"--{name}" for each in lists for name in re.findall(r'"([a-z-]+)"', each)}
    releases = re.findall(r'RELEASES.put\("([a-z0-9-]+)"', source)
    said = command("lab", "mid", "--help").out
    assert set(re.findall(r"^  (--[a-z-]+)", said, re.MULTILINE)) == known | {"--source"}
    assert f"{', '.join(releases)}, several" in " ".join(said.split())


def test_lab_mid_hands_on_what_it_was_given(tmp_path: Path) -> None:
    java = tmp_path / "java"
    java.write_text('#!/bin/sh\nfor word; do echo "$word"; done\n')
    java.chmod(0o755)
    given = ("--set", "a=b", "--set", "c=d", "--url", "https://x", "--keystore", "none", "--plain", "--ocsp-off")
    words = (sys.executable, "-m", "countersign", "lab", "mid", *given)
    done = run(*words, env={"PATH": f"{tmp_path}:/usr/bin:/bin", "CLASSPATH": "x.jar"})
    said = done.stdout.split()
    assert said[:2] == ["-cp", "x.jar"]
    assert said[2].endswith("MidClient.java")
    assert sorted(said[3:]) == sorted(given)
