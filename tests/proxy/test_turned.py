"""Transparent mode: a client that knows of no proxy goes through a running one, in a network of our own."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from countersign.errors import EnvironmentFault
from countersign.proxy import Mode
from tests.peers.process import run
from tests.proxy.running import RunningProxy
from tests.proxy.ways.test_transparent import APART, own_network

__all__ = ["own_network"]


@pytest.mark.peer("unshare", "ip", "nft")
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("how", ["REDIRECT", "TPROXY"])
@pytest.mark.usefixtures("own_network")
def test_a_turned_client_is_intercepted(how: str, version: int) -> None:
    script = Path(__file__).parent / "ways" / "turned_to_proxy.py"
    path = {"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    done = run(*APART, sys.executable, script, how, str(version), timeout=90, env=path).check()
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["heard"] == "hello"
    assert told["target"] == {4: "203.0.113.5:443", 6: "[2001:db8::5]:443"}[version]
    assert told["client"].startswith({4: "10.77.0.2:", 6: "[fd77::2]:"}[version])
    assert (told["status"], told["legs"]) == ("established", ["client", "server"])
    assert ("this proxy itself" in told["straight"]) or ("no rule of the kernel" in told["straight"])


@pytest.mark.peer("unshare", "ip", "nft")
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.usefixtures("own_network")
def test_the_proxys_own_connection_is_known_when_it_is_turned_back(version: int) -> None:
    """A rule that leaves out nobody: without notice, each connection would make the next, to the last descriptor."""
    script = Path(__file__).parent / "ways" / "turned_back.py"
    path = {"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    done = run(*APART, sys.executable, script, str(version), timeout=90, env=path).check()
    told = json.loads(done.stdout.splitlines()[-1])
    inner, outer = told["said"]
    assert "was reached by its own connection, which a rule of the network has turned back to it" in inner
    assert "target" in outer
    assert told["heard"].startswith("1503")  # an alert


def test_elsewhere_it_says_so_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("countersign.proxy.engine.sys.platform", "darwin")
    with pytest.raises(EnvironmentFault, match="Linux only"), RunningProxy(mode=Mode.TRANSPARENT):
        pass
