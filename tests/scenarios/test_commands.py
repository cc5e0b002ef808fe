"""``countersign scenario``, and ``countersign proxy --scenario`` as a process."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from typing import TYPE_CHECKING

import jsonschema
import pytest

from countersign.scenarios.catalogue import catalogue
from tests.cli.commands import ProxyProcess, countersign
from tests.peers.curl import PEER_FAILED_VERIFICATION, curl
from tests.peers.openssl import OpensslServer, openssl_client
from tests.peers.process import run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.peers.certs import Lab


def test_ls_lists_what_is_selected_by_family(tmp_path: Path) -> None:
    shown = countersign("scenario", "ls", "--home", tmp_path, "--select", "family:chain or plain")
    assert shown.code == 0
    assert shown.out.splitlines()[0] == "chain"
    assert "  missing-intermediate            refuse  The intermediate is missing" in shown.out
    listed = countersign("scenario", "ls", "--home", tmp_path, "--json").json()
    assert listed["schema"] == 1
    assert {each["id"] for each in listed["scenarios"]} == set(catalogue())
    (first,) = countersign("scenario", "ls", "--home", tmp_path, "--json", "--select", "plain").json()["scenarios"]
    assert (first["family"], first["right"], first["waits"], first["steps"]) == ("plain", "accept", False, 0)


def test_ls_of_nothing_says_so(tmp_path: Path) -> None:
    none = countersign("scenario", "ls", "--home", tmp_path, "--select", "id:nothing")
    assert (none.code, none.err) == (1, "countersign: --select 'id:nothing' fits no scenario\n")
    wrong = countersign("scenario", "ls", "--home", tmp_path, "--select", "famly:x")
    assert wrong.code == 2
    assert "did you mean family?" in wrong.err


def test_show_tells_the_story_and_writes_a_file_that_is_the_same_scenario(tmp_path: Path) -> None:
    shown = countersign("scenario", "show", "rotation-root", "--home", tmp_path, "--set", "connections=4")
    assert shown.code == 0
    assert shown.out.startswith("rotation-root: The device's root changes")
    assert "A right client: refuse, for the new root is not trusted" in shown.out
    file = tmp_path / "again.toml"
    file.write_text(shown.out.partition("\n\n")[2])
    given = countersign("scenario", "show", "rotation-root", "--home", tmp_path, "--set", "connections=4", "--json")
    again = countersign("scenario", "show", file, "--home", tmp_path, "--json")
    assert again.json() == given.json()
    assert given.json()["scenario"]["table"]["step"][1]["connections"] == 4


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["show", "plane"], 2, "there is no scenario 'plane'; did you mean plain?"),
        (["show", "wrong-name"], 2, "there is no scenario 'wrong-name'; did you mean other-name"),
        (["show", "rotation-root", "--set", "connections"], 2, "--set takes NAME=VALUE, got 'connections'"),
        (["show", "rotation-root", "--set", "connections=0"], 2, "expected 1 or more, got 0"),
        (["show", "expired+other-name"], 2, "each says something else of certificate"),
        (["ls", "--scenarios", "/nowhere"], 2, "--scenarios: there is no directory /nowhere"),
    ],
)
def test_wrong_usage_is_one_line(tmp_path: Path, args: list[str], code: int, said: str) -> None:
    ran = countersign("scenario", *args, "--home", tmp_path)
    assert ran.code == code
    assert said in ran.err
    assert ran.err.count("\n") == 1


def test_check_says_of_each_file_what_is_wrong_with_it_and_where(tmp_path: Path) -> None:
    right, wrong = tmp_path / "right.toml", tmp_path / "wrong.toml"
    right.write_text("extends = 'expired'\ntitle = 'mine'")
    wrong.write_text("title = 'mine'\n\ncertificate.recipe = 'leaf-expird'")
    ran = countersign("scenario", "check", right, wrong, "--home", tmp_path)
    assert ran.code == 2
    assert ran.out == f"{right}: right (right: mine)\n"
    assert ran.err.startswith(
        f"{wrong}:3: certificate.recipe: there is no recipe 'leaf-expird'; did you mean leaf-expired"
    )
    assert countersign("scenario", "check", right, "--home", tmp_path).code == 0
    listed = countersign("scenario", "check", right, wrong, "--home", tmp_path, "--json").json()["files"]
    assert [each["right"] for each in listed] == [True, False]


def test_scenarios_of_the_home_and_of_a_directory_are_found(tmp_path: Path) -> None:
    for folder, title in (("home/scenarios", "of the home"), ("beside", "beside it")):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "mine.toml").write_text(f"title = '{title}'")
    home, beside = tmp_path / "home", tmp_path / "beside"
    assert "mine: of the home" in countersign("scenario", "show", "mine", "--home", home).out
    assert "mine: beside it" in countersign("scenario", "show", "mine", "--home", home, "--scenarios", beside).out


def test_a_directory_may_stand_in_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "mine.toml").write_text("title = 'configured'")
    (tmp_path / "countersign.toml").write_text(f"[scenario.show]\nscenarios = ['{tmp_path / 'own'}']\n")
    monkeypatch.setenv("COUNTERSIGN_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert "mine: configured" in countersign("scenario", "show", "mine").out


def test_what_a_file_says_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        'title = "\\u001b]0;pwned\\u0007"\nstory = "a\\u001b[2Jb"\nsources = ["\\u009b"]\nexpect.why = "\\u202e"'
    )
    shown = countersign("scenario", "show", file, "--home", tmp_path)
    assert shown.code == 0
    head = shown.out.partition("\n\n")[0]
    assert all(each.isprintable() or each == "\n" for each in head)
    assert "\x1b" not in shown.out
    assert "\x9b" not in shown.out


def test_the_schema_is_a_schema(tmp_path: Path) -> None:
    out = tmp_path / "schema.json"
    assert countersign("scenario", "schema", "--home", tmp_path, "--out", out).code == 0
    printed = countersign("scenario", "schema", "--home", tmp_path)
    assert json.loads(out.read_text()) == printed.json()
    jsonschema.Draft202012Validator.check_schema(printed.json())


def logged(proxy: ProxyProcess, words: str) -> None:
    """Wait until these words are in its log."""
    deadline = time.monotonic() + 60
    while words not in proxy.log:
        assert time.monotonic() < deadline, proxy.log
        time.sleep(0.02)


# -- countersign proxy --scenario --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--scenario", "plane"], "there is no scenario 'plane'; did you mean plain?"),
        (["--clock", "10x"], "--clock needs --scenario with the scenario that it is for"),
        (["--seed", "5"], "--seed needs --scenario"),
        (["--set", "a=b"], "--set needs --scenario"),
        (
            ["--scenario", "plain", "--clock", "soon"],
            "--clock takes how many times as fast it runs, as in 10000x; got 'soon'",
        ),
        (["--scenario", "plain", "--workers", "2"], "--scenario counts connections in one process"),
        (["--scenario", "rotation-root", "--set", "days=3"], "cannot set 'days' of the scenario 'rotation-root'"),
    ],
)
def test_the_proxy_refuses_what_makes_no_sense(tmp_path: Path, args: list[str], said: str) -> None:
    ran = countersign("proxy", "--home", tmp_path, "--listen", "127.0.0.1:0", "--target", "127.0.0.1:1", *args)
    assert ran.code == 2
    assert said in ran.err


@pytest.mark.peer("curl", "openssl")
def test_a_scenario_runs_for_clients_that_are_started_elsewhere(lab: Lab, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with (
        OpensslServer(lab.server, mode="www") as server,
        ProxyProcess(
            home, "--upstream-ca", lab.root_pem, "--target", server.address,
            "--scenario", "rotation-root", "--set", "connections=1",
        ) as proxy,
    ):  # fmt: skip
        url, root = f"https://localhost:{proxy.port}/", home / "scenario-roots.pem"
        assert root.read_bytes() == (home / "ca" / "root.pem").read_bytes()
        assert curl(url, ca=root).ok
        assert curl(url, ca=root).exit_code == PEER_FAILED_VERIFICATION
        logged(proxy, "the next step begins")
        proxy.terminate()
    listed = countersign("ls", "--home", home, "--json").json()["recordings"]
    assert sorted((each["scenario"], each["step"]) for each in listed) == [("rotation-root", 1), ("rotation-root", 2)]


@pytest.mark.peer("curl", "openssl")
def test_a_signal_begins_the_next_step(lab: Lab, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with (
        OpensslServer(lab.server, mode="www") as server,
        ProxyProcess(
            home, "--upstream-ca", lab.root_pem, "--target", server.address, "--scenario", "rotation-on-call"
        ) as proxy,
    ):
        url, root = f"https://localhost:{proxy.port}/", home / "scenario-roots.pem"
        assert [curl(url, ca=root).ok for _ in range(3)] == [True] * 3
        os.kill(proxy.pid, signal.SIGUSR1)
        logged(proxy, "the next step begins")
        assert curl(url, ca=root).exit_code == PEER_FAILED_VERIFICATION
        proxy.terminate()


@pytest.mark.peer("openssl")
def test_who_is_asked_about_revocation_says_what_the_scenario_has(lab: Lab, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with (
        OpensslServer(lab.server, mode="www") as server,
        ProxyProcess(
            home, "--upstream-ca", lab.root_pem, "--target", server.address, "--scenario", "ocsp-revoked"
        ) as proxy,
    ):
        shown = openssl_client(f"127.0.0.1:{proxy.port}", "-showcerts", until="Verify return code")
        certificates = re.findall(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", shown.output, re.DOTALL)
        for name, text in zip(("leaf.pem", "issuer.pem"), certificates, strict=False):
            (tmp_path / name).write_text(text)
        where = run("openssl", "x509", "-in", tmp_path / "leaf.pem", "-noout", "-ocsp_uri").stdout.strip()
        asked = run(
            "openssl", "ocsp", "-issuer", tmp_path / "issuer.pem", "-cert", tmp_path / "leaf.pem", "-url", where,
            "-CAfile", home / "ca" / "root.pem",
        )  # fmt: skip
        assert f"{tmp_path / 'leaf.pem'}: revoked" in asked.stdout
        proxy.terminate()
