"""``countersign record``: one client, recorded, with nothing broken on purpose."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.cli.commands import countersign

if TYPE_CHECKING:
    from pathlib import Path

    from countersign.scenarios.running.house import House
    from countersign.scenarios.running.trial import ScenarioProxy

pytestmark = pytest.mark.peer("curl")

CURL = ("curl", "-sS", "{url}")


def place(target: ScenarioProxy) -> tuple[str | Path, ...]:
    return ("--target", f"{target.host}:{target.port}", "--upstream-ca", target.ca)


def test_what_a_client_does_is_kept_under_its_label(home: Path, target: ScenarioProxy) -> None:
    made = countersign("record", "--label", "good", *place(target), "--", *CURL)
    assert made.code == 0, made.err
    assert "Established: both handshakes were accepted" in made.out
    assert "curl: it ended with exit code 0; 1 session kept as good: " in made.out
    kept = countersign("show", "good", "--json").json()
    assert (kept["mode"], kept["scenario"], kept["label"]) == ("connect", None, "good")
    assert kept["target"] == f"localhost:{target.port}"
    assert (home / "ca" / "root.pem").exists()


def test_a_client_that_refuses_is_recorded_as_well(home: Path, target: ScenarioProxy) -> None:
    made = countersign("record", "--label", "bad", "--json", *place(target), "--", *CURL, "--cacert", target.ca)
    assert made.code == 0, made.err
    document = made.json()
    assert document["client"] == {
        "argv": [*CURL, "--cacert", str(target.ca)],
        "exit_code": 60,
        "signal": None,
        "answered": None,
        "ended_by_us": False,
    }
    (recording,) = document["recordings"]
    assert (recording["label"], recording["outcome"]["broken_by"]) == ("bad", "client")


def test_a_client_that_goes_straight_is_sent_here(home: Path, target: ScenarioProxy) -> None:
    made = countersign("record", "--mode", "reverse", "--json", *place(target), "--", *CURL)
    assert made.code == 0, made.err
    assert made.json()["recordings"][0]["mode"] == "reverse"


@pytest.mark.peer("openssl")
def test_a_client_that_obeys_no_proxy_is_sent_straight_to_us(home: Path, target: ScenarioProxy) -> None:
    made = countersign(
        "record", "--json", *place(target), "--",
        "openssl", "s_client", "-connect", "{host}:{port}", "-servername", target.host, "-CAfile", "{ca}",
    )  # fmt: skip
    assert made.code == 0, made.err
    (recording,) = made.json()["recordings"]
    assert (recording["mode"], recording["target"]) == ("reverse", f"{target.host}:{target.port}")


def test_the_way_out_may_be_a_proxy(home: Path, house: House) -> None:
    with house.open("plain", mode="connect") as corporate:
        assert corporate.proxy_url is not None
        made = countersign(
            "record", "--label", "via", "--via", corporate.proxy_url, "--upstream-ca", corporate.ca,
            "--", "curl", "-sS", corporate.url,
        )  # fmt: skip
        assert made.code == 0, made.out + made.err
        corporate.assert_accepted()
    assert countersign("show", "via", "--json").json()["target"] == f"{corporate.host}:{corporate.port}"


@pytest.mark.parametrize("end", ["--once", "--for=4s"])
def test_a_client_that_never_ends_is_ended(home: Path, target: ScenarioProxy, end: str) -> None:
    began = time.monotonic()
    made = countersign("record", end, "--json", *place(target), "--", "sh", "-c", "curl -sS {url}; exec sleep 100")
    assert made.code == 0, made.out + made.err
    assert made.json()["client"]["ended_by_us"]
    assert len(made.json()["recordings"]) == 1
    assert time.monotonic() - began < 50


def test_a_client_whose_target_is_not_there_is_not_told_to_obey_the_proxy(home: Path) -> None:
    made = countersign("record", "--", "curl", "-sS", "https://localhost:1/")
    assert made.code == 1
    assert "curl came to the proxy, but not as far as TLS (it ended with exit code 56): " in made.err
    assert "The target localhost:1 refuses TCP connections" in made.err
    assert "HTTPS_PROXY" not in made.err


def test_a_client_that_makes_no_connection_is_no_recording(home: Path) -> None:
    made = countersign("record", "--", sys.executable, "-c", "import sys; sys.exit('Error: I had rather not')")
    assert made.code == 1
    assert "made no TLS connection through the proxy (it ended with exit code 1)" in made.err
    assert "It said: Error: I had rather not" in made.err


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (("--for", "10"), "--for takes a time such as 90s, 10m, 2h or 1d, at most a year; got '10'"),
        (("--for", "999d"), "at most a year"),
        (("--mode", "socks5"), "--mode takes connect or reverse; got 'socks5'"),
        (("--mode", "reverse"), "--mode reverse needs to know where to go"),
        (("--via", "ftp://proxy"), "--via takes a URL that begins with"),
        (("--label", "last"), "--label takes a name"),
        ((), "{url}, {host} and {port} need a target"),
    ],
)
def test_mistakes_are_said(home: Path, args: tuple[str, ...], sentence: str) -> None:
    made = countersign("record", *args, "--", *CURL)
    assert made.code == 2
    assert sentence in made.err


def test_a_certificate_of_scenarios_is_not_given(home: Path) -> None:
    made = countersign("record", "--", "curl", "--cert", "{client_cert}", "https://localhost/")
    assert made.code == 2
    assert "{client_cert} is for scenarios" in made.err
