"""What stands in examples/ is run as it stands there."""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.peers.process import run

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
