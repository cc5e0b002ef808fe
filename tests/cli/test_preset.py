"""``countersign proxy --preset``, ``--behaviour`` and ``--recipe``, and the CA of a preset in the home."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from countersign.ca import Authority, Plan, issue
from countersign.ca.presets import presets
from countersign.ca.revocation import Register
from countersign.cli import beside
from countersign.cli.inspecting import chain_orders, fresh, preset_places
from countersign.proxy import Address, Engine, Settings
from countersign.proxy.orders import Orders
from tests.cli.commands import ProxyProcess, countersign
from tests.peers.curl import PEER_FAILED_VERIFICATION, curl
from tests.peers.openssl import OpensslServer, openssl_client
from tests.peers.process import run
from tests.proxy.running import Kept

if TYPE_CHECKING:
    from pathlib import Path

    from tests.peers.certs import Lab


@pytest.mark.peer("curl", "openssl")
def test_a_client_that_trusts_the_root_of_a_preset_gets_through_and_one_with_our_own_does_not(
    lab: Lab, home: Path, tmp_path: Path
) -> None:
    root = tmp_path / "netskope.pem"
    said = countersign("ca", "root", "--preset", "netskope", "--out", root, "--home", home)
    assert said.code == 0
    assert "Netskope tenant CA" in said.out
    with (
        OpensslServer(lab.server, mode="www") as server,
        ProxyProcess(home, "--upstream-ca", lab.root_pem, "--preset", "netskope", "--target", server.address) as proxy,
    ):
        url = f"https://localhost:{proxy.port}/"
        trusting = curl(url, ca=root)
        assert trusting.ok, trusting.error
        assert curl(url, ca=home / "ca" / "root.pem").exit_code == PEER_FAILED_VERIFICATION
        assert "behaves as a product" in proxy.log
        assert "presets/netskope/root.pem" in proxy.log
        proxy.terminate()
    place = home / "presets" / "netskope"
    assert place.stat().st_mode & 0o777 == 0o700
    assert all(key.stat().st_mode & 0o777 == 0o600 for key in place.glob("*.key.pem"))
    shown = json.loads(countersign("show", "last~1", "--json", "--home", home).out)
    assert shown["prelude"]["inspection"] == {
        "preset": "netskope", "alpn": "keep", "post_quantum": "keep", "bad_upstream": "block",
    }  # fmt: skip


@pytest.mark.peer("curl", "openssl")
def test_a_recipe_for_all_connections_is_what_clients_get(lab: Lab, home: Path) -> None:
    args = ("--upstream-ca", lab.root_pem, "--recipe", "leaf-expired", "--target")
    with OpensslServer(lab.server, mode="www") as server, ProxyProcess(home, *args, server.address) as proxy:
        refused = curl(f"https://localhost:{proxy.port}/", ca=home / "ca" / "root.pem")
        assert "expired" in refused.error
        assert "makes every certificate by a recipe" in proxy.log
        proxy.terminate()


def test_a_recipe_may_stand_in_a_file(home: Path, tmp_path: Path) -> None:
    from countersign.cli.inspecting import find_recipe

    file = tmp_path / "mine.toml"
    file.write_text('[one]\nleaf.not_after = "-1d"\n')
    assert find_recipe(str(file)).id == "one"
    file.write_text('[one]\nleaf.not_after = "-1d"\n[two]\nsend.order = "leaf-only"\n')
    assert find_recipe(f"{file}:two").send.order == "leaf-only"
    told = countersign("proxy", "--target", "localhost:443", "--recipe", file, "--home", home)
    assert (told.code, "there are 2 recipes in that file" in told.err) == (2, True)


def test_an_issuing_ca_that_is_due_is_changed_when_the_proxy_starts(home: Path) -> None:
    """Two weeks later, under the same root: as the product does it, and as ``ca rotate`` keeps it."""
    preset = presets()["zscaler"]
    place, _ = preset_places(home, preset)
    old = preset.make_authority(Plan(now=datetime.now(UTC) - timedelta(days=20))).keep(place)
    chain = chain_orders(home, preset, None, None)
    assert chain.authority is not None
    assert chain.authority.root == old.root
    assert chain.authority.issuer.subject == old.issuer.subject
    assert chain.authority.issuer.not_after > datetime.now(UTC) + timedelta(days=12)
    assert Authority.load(place).issuer == chain.authority.issuer
    again = chain_orders(home, preset, None, None)
    assert again.authority == fresh(chain, None, datetime.now(UTC)).authority == Authority.load(place)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--preset", "zscalr"], "did you mean zscaler?"),
        (["--recipe", "leaf-expird"], "did you mean leaf-expired"),
        (["--recipe", "client-expired"], "it makes a client's chain"),
        (["--recipe", "not-there.toml"], "no such file"),
        (["--behaviour", "alpn=strip"], "--behaviour needs --preset"),
        (["--preset", "squid", "--behaviour", "alpn=h3"], "alpn takes http/1.1, keep, strip; got 'h3'"),
        (["--preset", "squid", "--behaviour", "colour"], "there is no behaviour 'colour'"),
        (["--preset", "\x1b[31m"], "there is none of that name"),
    ],
)
def test_what_is_not_there_is_refused_with_the_nearest_name(home: Path, args: list[str], said: str) -> None:
    told = countersign("proxy", "--target", "localhost:443", *args, "--home", home)
    assert told.code == 2
    assert said in " ".join(told.err.split())
    assert "\x1b" not in told.err
    assert not (home / "presets").exists()


# -- stapling and the responder beside the proxy -----------------------------------------------------------------


@pytest.mark.peer("curl", "openssl")
def test_a_proxy_with_a_responder_makes_certificates_that_can_be_asked_about(
    lab: Lab, home: Path, tmp_path: Path
) -> None:
    """Its leaves name the responder, it answers for them, and what ``ca revoke`` revokes is revoked at once."""
    root, leaf_file, issuer_file = home / "ca" / "root.pem", tmp_path / "leaf.pem", tmp_path / "issuer.pem"
    args = ("--upstream-ca", lab.root_pem, "--responder", "127.0.0.1:0", "--staple", "good", "--target")
    with OpensslServer(lab.server, mode="www") as server, ProxyProcess(home, *args, server.address) as proxy:
        url = f"https://localhost:{proxy.port}/"
        assert curl(url, "--cert-status", ca=root).ok
        shown = openssl_client(f"127.0.0.1:{proxy.port}", "-showcerts", ca=root)
        leaf, issuer = re.findall(r"-----BEGIN.*?END CERTIFICATE-----\n", shown.output, re.DOTALL)[:2]
        leaf_file.write_text(leaf)
        issuer_file.write_text(issuer)
        asking = ("ocsp", "-issuer", issuer_file, "-cert", leaf_file, "-CAfile", root, "-no_nonce", "-url")
        where = re.search(r"http://127\.0\.0\.1:\d+/ocsp/intermediate-1-[0-9a-f]+", proxy.log)
        assert where is not None, proxy.log
        named = run("openssl", "x509", "-in", leaf_file, "-noout", "-ocsp_uri").stdout.strip()
        assert named == where[0]
        assert ": good" in run("openssl", *asking, named).stdout
        assert countersign("ca", "revoke", leaf_file, "--reason", "keyCompromise", "--home", home).code == 0
        assert ": revoked" in run("openssl", *asking, named).stdout
        assert "asked" in proxy.log
        proxy.terminate()


@pytest.mark.peer("openssl")
def test_the_cas_of_a_preset_are_answered_for_too_and_the_answers_can_be_wrong(
    lab: Lab, home: Path, tmp_path: Path
) -> None:
    leaf_file, issuer_file = tmp_path / "leaf.pem", tmp_path / "issuer.pem"
    args = ("--upstream-ca", lab.root_pem, "--responder", "127.0.0.1:0", "--responder-fault", "ocsp:tryLater")
    with (
        OpensslServer(lab.server, mode="www") as server,
        ProxyProcess(home, *args, "--preset", "fortigate-proxy", "--target", server.address) as proxy,
    ):
        root = home / "presets" / "fortigate-proxy" / "root.pem"
        shown = openssl_client(f"127.0.0.1:{proxy.port}", "-showcerts", ca=root)
        assert shown.verify_code == 0
        leaf_file.write_text(re.findall(r"-----BEGIN.*?END CERTIFICATE-----\n", shown.output, re.DOTALL)[0])
        issuer_file.write_bytes(root.read_bytes())
        named = run("openssl", "x509", "-in", leaf_file, "-noout", "-ocsp_uri").stdout.strip()
        told = run("openssl", "ocsp", "-issuer", issuer_file, "-cert", leaf_file, "-CAfile", root, "-url", named)
        assert "trylater" in told.stdout + told.stderr
        assert "answers are wrong on purpose" in proxy.log
        proxy.terminate()


def test_an_issuing_ca_that_is_due_is_changed_while_the_proxy_runs(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """New leaves come from the new one, which has its points, and the old one is still answered for."""
    monkeypatch.setattr(beside, "_LOOK_EVERY", 0.01)
    preset = presets()["zscaler"]
    chain = chain_orders(home, preset, None, None)
    assert chain.authority is not None
    old = chain.authority

    async def scenario() -> tuple[Authority, tuple[str, ...], bytes]:
        clock = [datetime.now(UTC)]
        settings = Settings(listen=Address("127.0.0.1", 0), target=Address("127.0.0.1", 9), orders=Orders(chain=chain))
        engine = Engine(settings, Authority.make(), Kept(), now=lambda: clock[0])
        plan = beside.ResponderPlan(("127.0.0.1", 0))
        async with engine, beside.Beside(engine, Authority.make(), plan, Register()) as around:
            clock[0] = old.issuer.not_after
            async with asyncio.timeout(20):
                while True:
                    now = engine.settings.orders.chain.authority
                    assert now is not None
                    if now.issuer.public_key != old.issuer.public_key:
                        break
                    await asyncio.sleep(0.01)
            assert around.responder is not None
            leaf = issue(old, "localhost").chain[0]
            return now, around.responder.labels, around.responder.staple(leaf)

    # The clock of the engine says that it is due; what is made is made now, so it is changed again and again.
    now, labels, staple = asyncio.run(scenario())
    assert now.issuer.subject == old.issuer.subject
    assert now.points
    assert len(labels) > 4
    assert staple


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--staple", "none", "--staple", "good"], "--staple none goes with no other"),
        (["--staple", "sideways"], "--staple: there is no fault 'sideways'"),
        (["--responder-fault", "tryLater"], "need --responder HOST:PORT"),
        (["--responder", "0.0.0.0:0"], "the proxy listens on loopback"),
        (["--responder", "127.0.0.1"], "--responder takes HOST:PORT"),
        (["--responder", "0.0.0.0:0", "--listen", "0.0.0.0:0"], "give --responder-host"),
        (["--responder", "127.0.0.1:0", "--responder-fault", "x"], "there is no fault 'x'"),
    ],
)
def test_what_cannot_be_stapled_or_answered_is_refused(home: Path, args: list[str], said: str) -> None:
    told = countersign("proxy", "--target", "localhost:443", *args, "--home", home)
    assert told.code == 2
    assert said in " ".join(told.err.split())


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--preset", "f5-c3d"], "--preset (it relays client certificates): who issued"),
        (["--preset", "plain", "--behaviour", "bad_upstream=allow"], "bad_upstream=allow: targets are not verified"),
    ],
)
def test_what_a_preset_gives_up_is_said_as_if_it_were_asked_for_by_name(
    home: Path, args: list[str], said: str, free_port: int
) -> None:
    with ProxyProcess(home, "--target", f"127.0.0.1:{free_port}", *args) as proxy:
        assert said in " ".join(proxy.log.split())


@pytest.mark.peer("openssl")
def test_of_several_workers_one_answers_and_all_name_it(lab: Lab, home: Path, free_port: int, tmp_path: Path) -> None:
    args = ("--upstream-ca", lab.root_pem, "--workers", "2", "--responder", f"127.0.0.1:{free_port}", "--target")
    with OpensslServer(lab.server, mode="www") as server, ProxyProcess(home, *args, server.address) as proxy:
        root = home / "ca" / "root.pem"
        shown = set()
        for _ in range(8):
            client = openssl_client(f"127.0.0.1:{proxy.port}", "-showcerts", ca=root)
            shown.add(re.findall(r"-----BEGIN.*?END CERTIFICATE-----\n", client.output, re.DOTALL)[1])
        (issuer,) = shown
        (tmp_path / "issuer.pem").write_text(issuer)
        about = run("openssl", "x509", "-in", tmp_path / "issuer.pem", "-noout", "-ocsp_uri").stdout.strip()
        assert about.startswith(f"http://127.0.0.1:{free_port}/ocsp/root-")
        asking = ("ocsp", "-issuer", root, "-cert", tmp_path / "issuer.pem", "-CAfile", root, "-url", about)
        assert ": good" in run("openssl", *asking).stdout
        proxy.terminate()
    told = countersign("proxy", "--target", "localhost:443", "--workers", "2", "--responder", "127.0.0.1:0")
    assert told.code == 2
    assert "--responder with --workers takes a port" in told.err
