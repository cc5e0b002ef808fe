"""R19: the proxy in front of a JVM's HTTPS server whose store we wrote, as a MID web server extension has it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from countersign.ca import Minted, issue
from countersign.ca.stores import StoreType
from countersign.findings.diagnosing import diagnose
from countersign.proxy import Address
from countersign.proxy.ways.addressing import Overrides
from countersign.recorder.recording import LegRole, Party, Status
from countersign.recorder.wire.events import Side
from tests.lab.instance_lab import pki
from tests.lab.mid import PASSWORD, classes, key_store
from tests.peers.curl import curl
from tests.peers.java import QUICK_START
from tests.peers.process import Background
from tests.proxy.running import RunningProxy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from countersign.recorder.recording import Recording

pytestmark = pytest.mark.peer("java", "javac", "curl")

NAME = "midserver17.lab.test"


@contextmanager
def web_server(folder: Path, *, whole_chain: bool) -> Iterator[int]:
    """The JVM with ``webserver_keystore.jceks``; its port."""
    made = issue(pki().public, NAME)
    held = made if whole_chain else Minted(made.key, made.chain[:1])
    store = key_store(folder, held, StoreType.JCEKS)
    with Background("java", *QUICK_START, "-cp", classes().name, "MidWebServer", store, PASSWORD) as server:
        yield int(server.wait_for(r"listening on (\d+)", timeout=40)[1])


def ask(port: int, name: str, folder: Path) -> tuple[bool, Recording]:
    """By ``name``, through a proxy that looks at the server's certificate."""
    target = Address(name, port)
    with RunningProxy(
        target=target, resolve=Overrides.parse([f"{target}:127.0.0.1"]), roots=(pki().public.root.der,)
    ) as proxy:
        url = f"https://{name}:{proxy.port}/api/mid/em/jsonv2"
        answer = curl(url, "--connect-to", f"{name}:{proxy.port}:127.0.0.1:{proxy.port}", ca=proxy.root_file(folder))
        return answer.ok, proxy.recording()


def findings(recording: Recording) -> set[str]:
    return {each.id for each in diagnose(recording).findings}


def test_by_its_own_name_it_is_reached_and_by_an_alias_it_is_not(tmp_path: Path) -> None:
    with web_server(tmp_path, whole_chain=True) as port:
        reached, good = ask(port, NAME, tmp_path)
        alias, bad = ask(port, "events.lab.test", tmp_path)
    assert (reached, alias) == (True, False)
    assert good.outcome.status is Status.ESTABLISHED
    assert (bad.outcome.status, bad.outcome.broken_by) == (Status.FAILED, Party.PROXY)
    assert "host-name" in " ".join(findings(bad)), findings(bad)


def test_a_store_with_the_leaf_alone_makes_a_server_without_its_intermediate(tmp_path: Path) -> None:
    with web_server(tmp_path, whole_chain=False) as port:
        reached, recording = ask(port, NAME, tmp_path)
    assert not reached
    leg = recording.leg(LegRole.SERVER)
    assert leg is not None
    assert len([each for each in leg.read().certificates if each.sender is Side.SERVER]) == 1
    assert "missing-intermediate" in findings(recording), findings(recording)
