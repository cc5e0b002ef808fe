"""``countersign fixcheck``: before the cure and after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cli.commands import countersign

if TYPE_CHECKING:
    from pathlib import Path

    from countersign.scenarios.running.house import House
    from countersign.scenarios.running.trial import ScenarioProxy

pytestmark = pytest.mark.peer("curl")

CURL = ("curl", "-sS", "{url}")


@pytest.fixture
def failed(home: Path, target: ScenarioProxy) -> str:
    """The label of a session that a client broke that did not know the root."""
    where = ("--target", f"{target.host}:{target.port}", "--upstream-ca", target.ca)
    made = countersign("record", "--label", "bad", *where, "--", *CURL, "--cacert", target.ca)
    assert made.code == 0, made.err
    return "bad"


def test_a_cure_that_is_one(target: ScenarioProxy, failed: str) -> None:
    made = countersign("fixcheck", failed, "--label", "cured", "--upstream-ca", target.ca, "--", *CURL)
    assert made.code == 0, made.out + made.err
    lines = made.out.splitlines()
    assert lines[0] == "Cured: the handshake goes through now."
    assert any(line.startswith("Before: The client broke the handshake with alert unknown_ca") for line in lines)
    assert any(line.startswith("After: Established") for line in lines)
    assert "What has changed" in lines
    assert countersign("show", "cured", "--json").json()["outcome"]["status"] == "established"


def test_a_cure_that_is_none_and_one_that_uncovers_the_next_fault(
    house: House, target: ScenarioProxy, failed: str
) -> None:
    same = countersign("fixcheck", failed, "--upstream-ca", target.ca, "--json", "--", *CURL, "--cacert", target.ca)
    assert same.code == 1, same.err
    document = same.json()
    assert (document["cured"], document["text"]) == (False, "Not cured: it is what it was.")
    assert document["before"]["diagnosis"]["cause"] == document["after"]["diagnosis"]["cause"]
    causes = [
        countersign("diagnose", failed, "--client", kind, "--ask", "--json").json() for kind in ("windows", "java")
    ]
    assert ["certutil -addstore" in one["findings"][0]["fix"] for one in causes] == [True, False]
    assert causes[0]["questions"][-1] == {
        "id": "inspection",
        "text": "Is the connection to the instance exempt from HTTPS inspection?",
        "answer": False,
        "by": "untrusted-inspection-ca",
        "no": "Exempt it: inspection takes the client certificate away.",
    }
    other = countersign("fixcheck", failed, "--client", "windows", "--", *CURL)  # now we do not know the root
    assert other.code == 1
    assert other.out.startswith("Not cured: that is over, and now it is something else: ")
    assert "certutil -addstore" in " ".join(other.out.split())


def test_what_cannot_be_checked_is_said(home: Path, house: House, target: ScenarioProxy, failed: str) -> None:
    where = ("--target", f"{target.host}:{target.port}", "--upstream-ca", target.ca)
    assert countersign("record", "--label", "good", *where, "--", *CURL).code == 0
    good = countersign("fixcheck", "good", "--", *CURL)
    assert (good.code, "there is nothing to cure in" in good.err) == (2, True)
    silent = countersign("fixcheck", failed, "--", "true")
    assert (silent.code, "made no TLS connection" in silent.err) == (1, True)
    with house.open("plain", mode="connect") as elsewhere:
        url = ("curl", "-sS", elsewhere.url)
        went = countersign("fixcheck", failed, "--via", str(elsewhere.proxy_url), "--upstream-insecure", "--", *url)
    assert went.code == 1
    assert f"the client went to {elsewhere.host}:{elsewhere.port}, and " in went.err
    assert countersign("fixcheck", "nothing", "--", *CURL).code in {1, 2}
