"""``run`` and ``matrix`` as they are typed."""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.cli.commands import Ran, countersign
from tests.peers.process import Background
from tests.scenarios.running.playing import CARELESS, CURL

pytestmark = pytest.mark.peer("curl")

THREE = "missing-intermediate,expired,root-sent"


@pytest.fixture(autouse=True)
def _own_home(home: Path) -> None:
    """Nothing of the developer's own is looked at."""


def run(*args: str | Path) -> Ran:
    return countersign("run", *args)


# -- one scenario --------------------------------------------------------------------------------------------------


def test_one_scenario_gives_one_line_and_exit_code_0() -> None:
    done = run("--scenario", "missing-intermediate", "--", *CURL)
    assert (done.code, done.out, done.err) == (0, "missing-intermediate  refused as it should\n", "")


def test_a_client_that_verifies_nothing_ends_with_1_and_the_handshake_is_shown() -> None:
    done = run("--scenario", "expired", "--", *CARELESS)
    assert done.code == 1
    assert done.out.startswith("expired  accepted but should have refused (sent ")
    assert "client_hello" in done.out


def test_what_comes_behind_the_client_is_the_clients_without_a_double_dash_too() -> None:
    assert run("--scenario", "expired", "curl", "-sS", "--json", "{}", "{url}").code == 0


def test_a_refusal_quotes_the_client_and_says_what_it_means() -> None:
    found = run("--scenario", "root-sent", "--json", "--", *CURL, "--max-filesize", "1").json()["results"][0]
    assert found["verdict"] == "accepted"
    refused = run("--scenario", "expired", "--json", "--", *CURL).json()["results"][0]
    assert refused["said"][0]["line"].startswith("curl: (60) SSL certificate problem: certificate has expired")
    assert refused["said"][0]["meaning"].startswith("A certificate of the chain has expired")
    assert refused["alerts"] == ["certificate_expired"]
    assert refused["exit_code"] == 60


# -- many ----------------------------------------------------------------------------------------------------------


def test_a_selection_is_run_and_summed_up() -> None:
    done = countersign("matrix", "--select", "family:chain and not id:missing-*", "--jobs", "2", "--", *CURL)
    assert done.code == 0, done.out
    *lines, empty, summary = done.out.splitlines()
    assert len(lines) >= 3
    assert not empty
    assert summary.startswith(f"{len(lines)} scenarios in ")
    assert not any(line.startswith("missing-") for line in lines)


def test_json_is_the_stable_form() -> None:
    done = countersign("matrix", "--json", "--scenario", THREE, "--", *CURL)
    document = done.json()
    assert (document["schema"], document["exit_code"], done.code) == (1, 0, 0)
    assert document["client"] == list(CURL)
    assert document["counts"] == {"refused": 2, "accepted": 1}
    assert [each["scenario"] for each in document["results"]] == THREE.split(",")


def test_every_version_is_tried_and_named() -> None:
    done = run("--scenario", "expired", "--tls", "both", "--json", "--", *CURL)
    assert [each["tls"] for each in done.json()["results"]] == ["TLSv1.2", "TLSv1.3"]


def test_a_file_of_ones_own_and_a_folder_are_scenarios_too(tmp_path: Path, home: Path) -> None:
    text = 'title = "Mine"\ncertificate.recipe = "sent-leaf-only"\n'
    (tmp_path / "mine.toml").write_text(text)
    (home / "scenarios").mkdir(parents=True, mode=0o700)
    (home / "scenarios" / "at-home.toml").write_text(text)
    done = run("--scenario", f"{tmp_path / 'mine.toml'},at-home", "--", *CURL)
    assert done.code == 0, done.err
    assert [line.split()[0] for line in done.out.splitlines()[:2]] == ["mine", "at-home"]
    assert run("--scenarios", tmp_path, "--scenario", "mine", "--", *CURL).code == 0


# -- reports and baselines -----------------------------------------------------------------------------------------


def test_reports_are_written_beside_what_is_printed(tmp_path: Path) -> None:
    forms = {"junit": "out.xml", "sarif": "out.sarif", "json": "out.json", "markdown": "out.md", "html": "out.html"}
    flags = [word for form, name in forms.items() for word in ("--report", f"{form}={tmp_path / name}")]
    done = countersign("matrix", "--scenario", THREE, *flags, "--", *CARELESS)
    assert done.code == 1
    assert "accepted but should have refused" in done.out
    root = ET.fromstring((tmp_path / "out.xml").read_bytes())
    assert (root.get("tests"), root.get("failures")) == ("3", "2")
    assert len(json.loads((tmp_path / "out.sarif").read_bytes())["runs"][0]["results"]) == 2
    assert json.loads((tmp_path / "out.json").read_bytes())["results"][0]["ladders"]
    assert "client_hello" in (tmp_path / "out.html").read_text()
    assert (tmp_path / "out.md").read_text().startswith("# countersign matrix")
    again = countersign("matrix", "--scenario", THREE, *flags, "--", *CARELESS)
    assert again.code == 3
    assert "--overwrite" in again.err


def test_with_a_baseline_only_what_has_changed_fails(tmp_path: Path) -> None:
    baseline = tmp_path / "baseline.json"
    made = countersign("matrix", "--scenario", THREE, "--baseline", baseline, "--update-baseline", "--", *CARELESS)
    assert made.code == 0, made.err
    assert countersign("matrix", "--scenario", THREE, "--baseline", baseline, "--", *CARELESS).code == 0
    better = countersign("matrix", "--scenario", THREE, "--baseline", baseline, "--", *CURL)
    assert better.code == 1
    assert "2 changed against the baseline:" in better.out
    assert "expired: was accepted-wrongly, is refused" in better.out
    document = countersign("matrix", "--scenario", THREE, "--baseline", baseline, "--json", "--", *CURL).json()
    assert {each["key"] for each in document["changes"]} == {"missing-intermediate", "expired"}


def test_parts_run_by_several_machines_are_joined(tmp_path: Path) -> None:
    parts = [tmp_path / f"{number}.json" for number in (1, 2)]
    for number, path in enumerate(parts, 1):
        shard = ("--shard", f"{number}/2", "--report", f"json={path}")
        done = countersign("matrix", "--scenario", THREE, *shard, "--", *CURL)
        assert done.code == 0, done.err
    joined = countersign("matrix", "merge", *parts, "--json", "--report", f"junit={tmp_path / 'all.xml'}")
    assert joined.code == 0, joined.err
    assert {each["scenario"] for each in joined.json()["results"]} == set(THREE.split(","))
    assert ET.fromstring((tmp_path / "all.xml").read_bytes()).get("tests") == "3"
    alone = countersign("matrix", "merge", parts[0])
    assert (alone.code, alone.err) == (2, "countersign: cannot merge: part 2/2 is missing\n")


def test_the_result_of_a_merge_is_that_of_its_parts(tmp_path: Path) -> None:
    part = tmp_path / "part.json"
    assert countersign("matrix", "--scenario", "expired", "--report", f"json={part}", "--", *CARELESS).code == 1
    assert countersign("matrix", "merge", part).code == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "it is not JSON"),
        (b"[]", "it is no result of"),
        (b"[" * 50_000, "it is not JSON"),
        (None, "there is no file"),
    ],
)
def test_what_cannot_be_merged_is_told_in_a_sentence(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "part.json"
    if content is not None:
        path.write_bytes(content)
    done = countersign("matrix", "merge", path)
    assert done.code == 2
    assert said in done.err
    assert len(done.err.splitlines()) == 1


# -- recordings ----------------------------------------------------------------------------------------------------


def test_recordings_are_kept_where_that_is_asked_and_nowhere_else(home: Path) -> None:
    assert run("--scenario", "expired", "--", *CURL).code == 0
    assert not (home / "recordings.sqlite").exists()
    assert run("--scenario", "expired", "--keep", "--", *CURL).code == 0
    found = countersign("ls", "--json").json()["recordings"]
    assert {each["scenario"] for each in found} == {"expired", "plain"}
    assert countersign("show", "last", "--json").json()["outcome"]["alert"] == "certificate_expired"


# -- what is wrong with the input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (
            ("--scenario", "mising-intermediate"),
            2,
            "there is no scenario 'mising-intermediate'; did you mean missing-i",
        ),
        ((), 2, "run needs to know what: name scenarios with --scenario ID or --select EXPRESSION"),
        (("--select", "family:nothing"), 2, "family"),
        (("--select", "id:nowhere-*"), 2, "fits no scenario"),
        (("--select", "(family:chain"), 2, "cannot select"),
        (("--scenario", "expired", "--set", "days"), 2, "--set takes NAME=VALUE, got 'days'"),
        (("--scenario", "expired", "--set", "days=3"), 2, "cannot set 'days' of the scenario 'expired'"),
        (("--scenario", "expired", "--tls", "1.1"), 2, "--tls takes 1.2, 1.3, both; got '1.1'"),
        (("--scenario", "expired", "--clock", "fast"), 2, "--clock takes how many times as fast it runs"),
        (("--scenario", "expired", "--timeout", "0"), 2, "--timeout takes seconds"),
        (("--scenario", "expired", "--jobs", "0"), 2, "--jobs takes 1 to 256, got 0"),
        (("--scenario", "expired", "--mode", "socks5"), 2, "--mode takes connect or reverse; got 'socks5'"),
        (("--scenario", "expired", "--family", "cobol"), 2, "--family takes curl, wget"),
        (("--scenario", "expired", "--preset", "zscalar"), 2, "did you mean zscaler"),
        (("--scenario", "expired", "--report", "pdf=x"), 2, "--report takes FORM=FILE"),
        (("--scenario", "expired", "--baseline", "/nowhere.json"), 2, "--baseline: there is no file /nowhere.json"),
        (("--scenario", "expired", "--update-baseline"), 2, "--update-baseline needs --baseline FILE"),
        (("--scenario", "expired", "--upstream-insecure"), 2, "--upstream-insecure is for a target that is named"),
        (("--scenario", "expired", "--target", "nowhere"), 2, "--target takes HOST:PORT; 'nowhere' has no port"),
        (("--scenario", "expired", "--scenarios", "/nowhere"), 2, "--scenarios: there is no directory /nowhere"),
    ],
)
def test_bad_input_is_one_clear_line_and_never_a_verdict(args: tuple[str, ...], code: int, said: str) -> None:
    done = run(*args, "--", *CURL)
    assert (done.code, done.out) == (code, "")
    assert said in done.err, done.err
    assert len(done.err.splitlines()) == 1


def test_a_mistake_in_a_scenario_is_shown_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('title = "Mine"\n\ncertificate.recipe = "sent-leaf-onyl"\n')
    done = run("--scenario", str(path), "--", *CURL)
    assert done.code == 2
    assert f"{path}:3: certificate.recipe: " in done.err
    assert "did you mean sent-leaf-only" in done.err


def test_steps_that_contradict_each_other_are_a_mistake(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('title = "Mine"\n[[step]]\nat = 2030-01-02T00:00:00Z\n[[step]]\nat = 2030-01-01T00:00:00Z\n')
    done = run("--scenario", str(path), "--", *CURL)
    assert (done.code, done.out) == (2, "")
    assert f"{path}:" in done.err


def test_a_fault_that_never_was_on_the_wire_is_exit_code_4(tmp_path: Path) -> None:
    path = tmp_path / "elsewhere.toml"
    path.write_text('title = "Mine"\ncertificate.recipe = "sent-leaf-only"\nmatch.sni = "elsewhere.test"\n')
    done = run("--scenario", f"{path},expired", "--", *CURL)
    assert done.code == 4, done.out
    assert "elsewhere  the fault never was on the wire: no session of the scenario 'elsewhere' was recorded" in done.out


@pytest.mark.parametrize(
    ("client", "code", "said"),
    [
        (("no-such-client", "{url}"), 2, "cannot run 'no-such-client': no program of that name is on the PATH"),
        (("true",), 3, "never connected: it ended with exit code 0"),
        (("curl", "-sS", "--cacert", "/etc/hostname", "{url}"), 3, "curl does not accept a proxy with nothing wrong"),
        (("sh", "-c", "echo 'error: address already in use' >&2; exit 1"), 3, "address already in use"),
    ],
)
def test_a_client_that_cannot_be_judged_gives_no_verdict(client: tuple[str, ...], code: int, said: str) -> None:
    done = run("--scenario", "expired", "--", *client)
    assert (done.code, done.out) == (code, "")
    assert said in done.err
    assert len(done.err.splitlines()) == 1


def test_a_target_that_cannot_be_reached_is_exit_code_3(free_port: int) -> None:
    done = run("--scenario", "expired", "--target", f"127.0.0.1:{free_port}", "--", *CURL)
    assert (done.code, done.out) == (3, "")
    assert f"cannot reach the target 127.0.0.1:{free_port}: connection refused" in done.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_whoever_is_stopped_leaves_no_client_and_no_file_behind(
    tmp_path: Path, home: Path, number: signal.Signals
) -> None:
    pid_file = tmp_path / "pid"
    stuck = f"echo $$ > {pid_file}; exec sleep 600"
    env = {"COUNTERSIGN_HOME": str(home), "TMPDIR": str(tmp_path)}
    args = ("run", "--scenario", "expired", "--timeout", "60", "--", "sh", "-c", stuck)
    with Background(sys.executable, "-m", "countersign", *args, env=env) as running:
        deadline = time.monotonic() + 30
        while not (pid_file.exists() and pid_file.read_text().strip()):
            assert time.monotonic() < deadline, running.stderr
            time.sleep(0.02)
        done = running.stop(number, timeout=20)
    assert done.returncode == 3, done.stderr
    assert done.stderr == "countersign: stopped before all scenarios had been run; there is no result\n"
    assert not Path(f"/proc/{pid_file.read_text().strip()}").exists()
    assert not list(tmp_path.glob("countersign-run-*"))
