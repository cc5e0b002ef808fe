"""``countersign ctl`` against a real proxy, with curl and openssl going through it."""

from __future__ import annotations

import json
import re
import stat
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.commands import ProxyProcess, countersign
from tests.cli.test_commands import assert_is_one_line
from tests.peers.curl import PEER_FAILED_VERIFICATION, CurlAnswer, curl
from tests.peers.openssl import OpensslServer, openssl_client
from tests.peers.process import Background

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.peers.certs import Lab


class Steered:
    """A proxy with a control API; ``ctl`` tells it something."""

    def __init__(self, home: Path, proxy: ProxyProcess) -> None:
        self.home, self.proxy = home, proxy

    def ctl(self, *args: str | Path) -> Any:
        ran = countersign("ctl", *args, "--json", "--home", self.home)
        assert ran.code == 0, ran.err
        return ran.json()

    def curl(self, ca: Path | None = None) -> CurlAnswer:
        return curl(f"https://localhost:{self.proxy.port}/", ca=ca or self.home / "ca" / "root.pem")

    def leaf_key(self) -> str:
        """The public key of the leaf that the next client is shown."""
        shown = openssl_client(f"127.0.0.1:{self.proxy.port}", "-showcerts", ca=self.home / "ca" / "root.pem")
        assert shown.verify_code == 0, shown.output
        leaf = re.search(r"-----BEGIN.*?END CERTIFICATE-----\n", shown.output, re.DOTALL)
        assert leaf is not None
        with Background("openssl", "x509", "-noout", "-pubkey") as reading:
            reading.say(leaf[0].encode())
            reading.hang_up()
            reading.wait()
            return reading.stdout


@pytest.fixture
def steered(lab: Lab, home: Path) -> Iterator[Steered]:
    args = ("--upstream-ca", lab.root_pem, "--control", "127.0.0.1:0", "--target")
    with OpensslServer(lab.server, mode="www") as server, ProxyProcess(home, *args, server.address) as proxy:
        yield Steered(home, proxy)
        assert proxy.terminate() == 0


@pytest.mark.peer("curl", "openssl")
def test_rotations_change_what_the_next_connection_meets_and_pass_undoes_them(steered: Steered, tmp_path: Path) -> None:
    key = steered.leaf_key()
    before = steered.ctl("status")
    assert steered.ctl("rotate", "leaf")["rotated"] == ["leaf"]
    assert steered.leaf_key() != key
    said = steered.ctl("rotate", "intermediate")
    assert said["signs"]["issuer"] != before["signs"]["issuer"]
    assert said["signs"]["root"] == before["signs"]["root"]
    assert steered.curl().ok
    said = steered.ctl("rotate", "root")
    assert steered.curl().exit_code == PEER_FAILED_VERIFICATION
    new = tmp_path / "new.pem"
    new.write_text(said["root_pem"])
    assert steered.curl(new).ok
    after = steered.ctl("pass")
    assert (after["rotated"], after["signs"]) == ([], before["signs"])
    assert steered.curl().ok
    assert steered.leaf_key() == key
    assert after["sessions"]["ended"] >= 4
    assert after["sessions"]["outcomes"]["failed"] == 1


@pytest.mark.peer("curl", "openssl")
def test_what_is_open_lives_on_whatever_is_ordered(steered: Steered) -> None:
    root = steered.home / "ca" / "root.pem"
    where = f"127.0.0.1:{steered.proxy.port}"
    words = (
        "openssl",
        "s_client",
        "-connect",
        where,
        "-servername",
        "localhost",
        "-CAfile",
        root,
        "-quiet",
        "-ign_eof",
    )
    with Background(*words) as client:
        client.wait_for("depth=0")
        client.say(b"GET ")  # half a request; the rest is for later
        steered.ctl("rotate", "root")
        steered.ctl("scenario", "plain")
        steered.ctl("fault", "reset", "--set", "at=connect", "--connections", "3")
        assert not steered.curl().ok
        steered.ctl("pass")
        client.say(b"/ HTTP/1.0\r\n\r\n")
        client.wait_for("HTTP/1.0 200 ok")


@pytest.mark.peer("curl", "openssl")
def test_a_fault_is_for_the_next_connections_alone_and_is_on_their_recordings(steered: Steered) -> None:
    said = steered.ctl("fault", "alert", "--set", "alert=handshake_failure", "--connections", "2")
    assert said["fault"]["do"] == "alert"
    assert said["fault"]["connections_left"] == 2
    first, second, third = steered.curl(), steered.curl(), steered.curl()
    assert (first.ok, second.ok, third.ok) == (False, False, True)
    assert "handshake failure" in first.error
    assert steered.ctl("status")["fault"] is None
    shown = json.loads(countersign("show", "last~1", "--json", "--home", steered.home).out)
    assert [each["do"] for leg in shown["legs"] for each in leg["faults"]] == ["alert"]
    steered.ctl("fault", "cut")
    steered.ctl("fault", "none")
    assert steered.curl().ok


@pytest.mark.peer("curl", "openssl")
def test_scenarios_follow_each_other_while_it_runs_and_step_goes_on(steered: Steered) -> None:
    said = steered.ctl("scenario", "rotation-on-call")
    assert (said["scenario"]["step"], len(said["scenario"]["steps"])) == (1, 2)
    assert steered.curl().ok
    assert steered.ctl("step")["scenario"]["step"] == 2
    assert steered.curl().exit_code == PEER_FAILED_VERIFICATION
    last = countersign("ctl", "step", "--home", steered.home)
    assert (last.code, "step 2 is the last" in last.err) == (1, True)
    assert steered.ctl("step", "1")["scenario"]["step"] == 1
    assert steered.ctl("scenario", "expired")["scenario"]["id"] == "expired"
    assert "expired" in steered.curl().error
    none = countersign("ctl", "step", "--home", steered.home)
    assert (none.code, "has no steps" in none.err) == (1, True)
    assert steered.ctl("scenario", "none")["scenario"] is None
    assert steered.curl().ok
    shown = json.loads(countersign("show", "last~1", "--json", "--home", steered.home).out)
    assert shown["scenario"] == "expired"
    without = countersign("ctl", "step", "--home", steered.home)
    assert (without.code, "no scenario is in force" in without.err) == (1, True)


@pytest.mark.peer("curl", "openssl")
def test_a_scenario_with_a_responder_comes_with_it_and_goes_with_it(steered: Steered) -> None:
    steered.ctl("scenario", "ocsp-revoked")
    root = steered.home / "ca" / "root.pem"
    shown = openssl_client(f"127.0.0.1:{steered.proxy.port}", "-showcerts", ca=root)
    assert shown.verify_code == 0
    assert "answering" in steered.proxy.log
    steered.ctl("scenario", "plain")
    assert steered.curl().ok
    assert steered.ctl("pass")["scenario"] is None


@pytest.mark.peer("curl", "openssl")
def test_a_scenario_of_the_command_line_can_be_stepped_and_taken_off(lab: Lab, home: Path) -> None:
    args = ("--upstream-ca", lab.root_pem, "--control", "127.0.0.1:0", "--scenario", "rotation-on-call", "--target")
    with OpensslServer(lab.server, mode="www") as server, ProxyProcess(home, *args, server.address) as proxy:
        steered = Steered(home, proxy)
        assert steered.ctl("status")["scenario"]["id"] == "rotation-on-call"
        assert steered.curl().ok
        steered.ctl("step")
        assert not steered.curl().ok
        steered.ctl("pass")
        assert steered.curl().ok
        assert proxy.terminate() == 0


# -- finding it ------------------------------------------------------------------------------------------------------


def test_the_token_is_in_a_private_file_that_the_ready_file_names_and_goes_with_the_proxy(
    home: Path, free_port: int
) -> None:
    with ProxyProcess(home, "--target", f"127.0.0.1:{free_port}", "--control", "127.0.0.1:0") as proxy:
        ready = json.loads((home / "ready.json").read_text())
        file = home / "control" / ready["control_file"].rpartition("/")[2]
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
        place = json.loads(file.read_text())
        assert place["control"] == ready["control"]
        assert place["token"] not in proxy.log + (home / "ready.json").read_text()
        for where in (ready["control"], ready["control_file"]):
            assert countersign("ctl", "status", "--control", where, "--home", home).code == 0
        text = countersign("ctl", "status", "--home", home).out
        assert f"127.0.0.1:{proxy.port}" in text
        elsewhere = countersign("ctl", "status", "--control", "127.0.0.1:1", "--home", home)
        assert (elsewhere.code, "no proxy is controlled at 127.0.0.1:1" in elsewhere.err) == (3, True)
        wrong = {**place, "token": "wrong"}
        (home / "wrong.json").touch(0o600)
        (home / "wrong.json").write_text(json.dumps(wrong))
        declined = countersign("ctl", "status", "--control", str(home / "wrong.json"), "--home", home)
        assert (declined.code, "the token is missing or wrong" in declined.err) == (3, True)
        proxy.terminate()
    assert not file.exists()
    gone = countersign("ctl", "status", "--home", home)
    assert gone.code == 3
    assert_is_one_line(gone.err)
    assert "--control 127.0.0.1:0" in gone.err


def test_of_several_proxies_of_one_home_one_has_to_be_named_and_dead_ones_are_passed_over(
    home: Path, free_port: int, tmp_path: Path
) -> None:
    args = ("--target", f"127.0.0.1:{free_port}", "--control", "127.0.0.1:0")
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    with ProxyProcess(home, *args) as first:
        place = json.loads(next((home / "control").iterdir()).read_text())
        two = Background(*first._background.args[:-6], *args, env={"COUNTERSIGN_HOME": str(home)})
        assert "--ready-file" not in two.args[:6]
        with two as second:
            second.wait_for('"listening"')
            both = countersign("ctl", "status", "--home", home)
            assert (both.code, place["control"] in both.err) == (2, True)
            assert countersign("ctl", "status", "--control", place["control"], "--home", home).code == 0
            first.kill()
            assert countersign("ctl", "status", "--home", home).code == 0


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--control", "0.0.0.0:0"], "say --control-beyond-loopback"),
        (["--control", "9001"], "--control takes HOST:PORT"),
        (["--control-beyond-loopback"], "needs --control HOST:PORT"),
        (["--control", "127.0.0.1:0", "--workers", "2"], "leave --workers out"),
    ],
)
def test_a_control_address_that_cannot_be_is_refused(home: Path, args: list[str], said: str) -> None:
    told = countersign("proxy", "--target", "localhost:443", *args, "--home", home)
    assert told.code == 2
    assert said in " ".join(told.err.split())


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["scenario", "expird"], "did you mean expired"),
        (["scenario", "/etc/passwd"], "there is no scenario"),
        (["scenario", "x.toml"], "there is no scenario"),
        (["scenario", "expired", "--clock", "fast"], "--clock"),
        (["scenario", "none", "--seed", "1"], "are for a scenario"),
        (["fault", "ct"], "did you mean 'cut'"),
        (["fault", "cut", "--set", "within=-1"], "cannot be within -1"),
        (["fault", "cut", "--set", "at=nowhere"], "there is no message 'nowhere'"),
        (["fault", "none", "--set", "at=alert"], "--set is for a fault"),
        (["rotate", "everything"], "ctl rotate takes leaf, intermediate, root; got 'everything'"),
    ],
)
def test_what_cannot_be_ordered_is_a_mistake_of_usage(control_only: Path, args: list[str], said: str) -> None:
    told = countersign("ctl", *args, "--home", control_only)
    assert told.code == 2
    assert said in " ".join(told.err.split())


@pytest.fixture(scope="module")
def control_only(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The home of a proxy that nobody goes through."""
    home = tmp_path_factory.mktemp("steered")
    with ProxyProcess(home, "--target", "127.0.0.1:9", "--control", "127.0.0.1:0") as proxy:
        yield home
        proxy.terminate()
