"""``countersign proxy --mtls``: the client CA in the home, and what is said about it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.cli.commands import ProxyProcess, countersign
from tests.peers.openssl import OpensslServer, openssl_client

if TYPE_CHECKING:
    from pathlib import Path

    from tests.peers.certs import Lab


@pytest.mark.peer("openssl")
def test_the_client_ca_is_kept_in_the_home(lab: Lab, home: Path, free_port: int) -> None:
    args = ("--upstream-ca", lab.root_pem, "--mtls", "relay", "--target")
    with ProxyProcess(home, *args, f"127.0.0.1:{free_port}") as proxy:
        assert "is not judged" in proxy.log
        made = (home / "client-ca" / "root.pem").read_bytes()
    assert (home / "client-ca").stat().st_mode & 0o777 == 0o700
    (home / "ready.json").unlink(missing_ok=True)
    asking = ("-Verify", "5", "-verifyCAfile", home / "client-ca" / "root.pem", "-verify_return_error")
    with OpensslServer(lab.server, *asking) as server, ProxyProcess(home, *args, server.address) as proxy:
        assert (home / "client-ca" / "root.pem").read_bytes() == made != (home / "ca" / "root.pem").read_bytes()
        client = openssl_client(
            f"127.0.0.1:{proxy.port}", ca=home / "ca" / "root.pem", identity=lab.client, send=b"ping\n", until="gnip"
        )
        assert "gnip" in client.output
        proxy.terminate()
    shown = json.loads(countersign("show", "last", "--json", "--home", home).out)
    assert shown["mtls"]["mode"] == "relay"
    assert shown["mtls"]["presented"]["subject"] == "CN=Lab Client,O=Lab"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--mtls", "sideways"], "--mtls takes relay, present, strip, bypass, block; got 'sideways'"),
        (["--mtls", "present"], "--mtls present needs a certificate to present"),
    ],
)
def test_a_mode_that_cannot_be_is_refused(home: Path, args: list[str], said: str) -> None:
    told = countersign("proxy", "--target", "localhost:443", *args, "--home", home)
    assert told.code == 2
    assert said in " ".join(told.err.split())
