"""What stands in examples/ is run as it stands there."""

from __future__ import annotations

import json
import re
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from tests.peers.process import Background, run

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@pytest.mark.peer("curl")
def test_the_script_of_the_ci_jobs_runs_the_pytest_suite_and_a_client(tmp_path: Path) -> None:
    report = tmp_path / "tls.xml"
    path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
    env = {"PATH": path, "REPORT": str(report), "PYTHONDONTWRITEBYTECODE": "1", "PYTEST_ADDOPTS": "-p no:cacheprovider"}
    done = run("sh", EXAMPLES / "ci" / "check.sh", env=env, timeout=100)
    assert done.returncode == 0, done
    assert "4 passed" in done.stdout
    assert len(list(ET.parse(report).getroot().iter("testcase"))) == 4


@pytest.mark.parametrize("name", ["github-actions.yml", "gitlab-ci.yml"])
def test_a_job_file_runs_a_script_that_is_there(name: str) -> None:
    named = re.findall(r"sh (examples/\S+)", (EXAMPLES / "ci" / name).read_text(encoding="utf-8"))
    assert named
    assert all((EXAMPLES.parent / each).is_file() for each in named)


@pytest.mark.peer("javac", "java", "junit4")
def test_the_junit_test_starts_the_proxy_and_meets_its_scenarios(tmp_path: Path) -> None:
    jars = [f"/usr/share/java/{name}.jar" for name in ("junit4", "hamcrest")]
    source = EXAMPLES / "java" / "CountersignTest.java"
    made = run("javac", "-cp", jars[0], "-d", tmp_path, source, timeout=60)
    assert made.returncode == 0, made
    env = {"PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin", "HOME": str(tmp_path)}
    classpath = ":".join([str(tmp_path), *jars])
    done = run("java", "-cp", classpath, "org.junit.runner.JUnitCore", "CountersignTest", env=env, timeout=100)
    assert done.returncode == 0, done
    assert "OK (5 tests)" in done.stdout


def port_in(path: Path, background: Background) -> int:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert not background.ended(), background.stderr
        assert time.monotonic() < deadline, background.stderr
        time.sleep(0.02)
    return int(json.loads(path.read_text())["port"])


@pytest.mark.parametrize(("scenario", "code"), [("plain", 0), ("missing-intermediate", 1)])
def test_the_services_of_the_compose_file_do_what_it_says(tmp_path: Path, scenario: str, code: int) -> None:
    """There is no container engine here: its commands are run as processes, with this machine's places for theirs."""
    services = yaml.safe_load((EXAMPLES / "compose.yaml").read_text(encoding="utf-8"))["services"]
    program = Path(sys.executable).parent
    places = {
        "/var/lib/countersign": str(tmp_path / "home"),
        "/run/countersign": str(tmp_path / "run"),
        "/tmp/": f"{tmp_path}/",
        "${SCENARIO:-plain}": scenario,
        "0.0.0.0:9443": "127.0.0.1:0",
        "0.0.0.0:3128": "127.0.0.1:0",
    }

    def here(text: str) -> str:
        return re.sub("|".join(map(re.escape, places)), lambda found: places[found[0]], text)

    (tmp_path / "run").mkdir()
    env = {"PATH": f"{program}:/usr/bin:/bin", "COUNTERSIGN_HOME": str(tmp_path / "home")}
    words = [str(program / "countersign"), *map(here, services["instance"]["command"])]
    with Background(*words, env=env) as one:
        places["instance:9443"] = f"instance:{port_in(tmp_path / 'run' / 'ready.json', one)}"
        words = [str(program / "countersign"), *map(here, services["proxy"]["command"])]
        more = ["--allow", "127.0.0.0/8", "--resolve", f"{places['instance:9443']}:127.0.0.1"]
        more += ["--ready-file", str(tmp_path / "run" / "proxy.json")]
        with Background(*words, *more, env=env) as two:
            places["proxy:3128"] = f"127.0.0.1:{port_in(tmp_path / 'run' / 'proxy.json', two)}"
            client = services["client"]
            env |= {name: here(value) for name, value in client["environment"].items()}
            done = run(*client["entrypoint"], *map(here, client["command"]), env=env, timeout=60)
    assert done.returncode == code, done
    assert ("200" in done.stdout) is (code == 0)
    assert ("CERTIFICATE_VERIFY_FAILED" in done.stderr) is (code != 0)
