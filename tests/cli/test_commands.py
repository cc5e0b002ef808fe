"""The commands as a user types them: what they print, and their exit codes."""

from __future__ import annotations

import json
import re
import socket
import sqlite3
import ssl
import stat
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import jsonschema
import pytest

from countersign import __version__
from countersign.recorder.schema import load_schema
from countersign.recorder.store.schema import VERSION_TABLE
from tests.cli.commands import ProxyProcess, countersign
from tests.peers.curl import PEER_FAILED_VERIFICATION, curl
from tests.peers.openssl import OpensslServer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.peers.certs import Lab


def assert_is_one_line(text: str, *parts: str) -> None:
    """An error for a person: one line, no traceback, and these parts in it."""
    assert text.count("\n") == 1, text
    assert "Traceback" not in text
    for part in parts:
        assert part in text, text


def client_hello() -> bytes:
    """A ClientHello as Python's own TLS makes it."""
    context, out = ssl.create_default_context(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), out, server_hostname="localhost").do_handshake()
    return out.read()


@pytest.fixture
def server(lab: Lab) -> OpensslServer:
    return OpensslServer(lab.server, mode="www")


def test_version_and_help_are_printed() -> None:
    assert countersign("--version").out == f"countersign {__version__}\n"
    told = countersign("--help")
    assert told.code == 0
    for command in ("demo", "proxy", "ls", "show", "export", "ca"):
        assert re.search(rf"^ *{command} ", told.out, re.MULTILINE)


def test_help_imports_nothing_heavy() -> None:
    """What keeps ``--help`` fast is what it does not import; a clock would only measure this machine."""
    told = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "countersign", "--help"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    imported = set(re.findall(r"\| +([\w.]+)$", told.stderr, re.MULTILINE))
    heavy = {"sqlalchemy", "OpenSSL", "cryptography", "asyncio", "alembic", "structlog", "rich.table"}
    assert imported & heavy == set()


def test_demo_shows_both_ladders_and_who_broke_it(home: Path) -> None:
    shown = countersign("demo")
    assert shown.code == 0, shown.err
    assert "Established: both handshakes were accepted" in shown.out
    assert "unknown_ca" in shown.out
    assert shown.out.count("client_hello") == 4
    assert "certificate_request" in shown.out
    assert not home.exists()


def test_demo_keeps_what_it_recorded_when_asked(home: Path) -> None:
    assert countersign("demo", "--keep").code == 0
    listed = countersign("ls", "--json").json()
    assert [entry["outcome"]["status"] for entry in listed["recordings"]] == ["failed", "established"]
    assert countersign("show", "demo").code == 0
    assert not (home / "ca").exists()  # who makes the home's own says what it can speak for
    asked = {
        leg: "client_auth" in countersign("scenario", "from-recording", f"last{leg}").out for leg in ("", ":server")
    }
    assert asked == {"": False, ":server": True}  # the proxy does not ask for what the target asks for


def test_ca_init_makes_a_ca_once(home: Path) -> None:
    first, second = countersign("ca", "init"), countersign("ca", "init")
    assert (first.code, second.code) == (0, 0)
    assert first.out.startswith("made: ")
    assert second.out.startswith("already there: ")
    assert first.out.endswith("hand it out with: countersign ca root --out root.pem\n")
    for path in home.rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        if path.is_dir():
            assert mode == 0o700
        elif path.name.endswith(".key.pem"):
            assert mode == 0o600


def test_another_home_stands_in_the_command_that_hands_its_root_out(home: Path, tmp_path: Path) -> None:
    other = tmp_path / "an other"
    made = countersign("ca", "init", "--home", other)
    assert made.out.endswith(f"countersign ca root --home '{other}' --out root.pem\n")
    assert not (home / "ca").exists()


@pytest.mark.peer("openssl")
def test_ca_root_is_a_certificate_that_openssl_reads(home: Path, tmp_path: Path) -> None:
    countersign("ca", "init")
    out = tmp_path / "root.pem"
    assert countersign("ca", "root", "--out", out).code == 0
    read = subprocess.run(
        ["openssl", "x509", "-in", out, "-noout", "-subject"], capture_output=True, text=True, check=True
    )
    assert "countersign inspection root" in read.stdout
    assert countersign("ca", "root").out.startswith("-----BEGIN CERTIFICATE-----")


@pytest.mark.peer("curl", "openssl", "tshark")
def test_the_main_job_by_hand(home: Path, tmp_path: Path, server: OpensslServer, lab: Lab) -> None:
    """What the README tells a new user to type."""
    countersign("ca", "init")
    root = tmp_path / "corp-root.pem"
    countersign("ca", "root", "--out", root)
    with (
        server,
        ProxyProcess(home, "--target", f"localhost:{server.port}", "--upstream-ca", lab.root_pem) as proxy,
    ):
        assert curl(f"https://localhost:{proxy.port}/", ca=root).ok
        assert curl(f"https://localhost:{proxy.port}/", ca=lab.root_pem).exit_code == PEER_FAILED_VERIFICATION
        assert proxy.terminate() == 0
        log = [json.loads(line) for line in proxy.log.splitlines()]
    assert [entry["outcome"] for entry in log if entry["event"] == "session"] == ["established", "failed"]
    assert not (home / "ready.json").exists()

    listed = countersign("ls", "--json").json()
    jsonschema.validate(listed, load_schema())
    assert len(listed["recordings"]) == 2
    assert "unknown_ca" in countersign("ls").out

    shown = countersign("show", "last", "--json").json()
    jsonschema.validate(shown, load_schema())
    assert shown["outcome"]["broken_by"] == "client"
    ladder = countersign("show", "last~1")
    assert "new_session_ticket" in ladder.out
    assert countersign("show", shown["id"][:6]).code == 0

    exported = tmp_path / "x.pcapng"
    assert countersign("export", "last", "--format", "pcapng", "--out", exported).code == 0
    assert stat.S_IMODE(exported.stat().st_mode) == 0o600
    read = subprocess.run(
        ["tshark", "-r", exported, "-Y", "tls.handshake.type == 11"], capture_output=True, text=True, check=True
    )
    assert len(read.stdout.splitlines()) == 2


@pytest.mark.peer("curl", "openssl")
def test_connect_mode_by_hand(home: Path, server: OpensslServer, lab: Lab, tmp_path: Path) -> None:
    countersign("ca", "init")
    root = tmp_path / "corp-root.pem"
    countersign("ca", "root", "--out", root)
    with server, ProxyProcess(home, "--mode", "connect", "--upstream-ca", lab.root_pem) as proxy:
        url = f"https://localhost:{server.port}/"
        assert curl(url, ca=root, proxy=f"http://127.0.0.1:{proxy.port}").ok
        proxy.terminate()
    shown = countersign("show", "last", "--json").json()
    assert shown["target"] == f"localhost:{server.port}"
    assert shown["prelude"]["request"]["method"] == "CONNECT"


def test_export_of_secrets_that_were_not_kept_says_why(home: Path) -> None:
    countersign("demo", "--keep")
    told = countersign("export", "last", "--format", "keylog")
    assert told.code == 1
    assert_is_one_line(told.err, "--secrets")


# -- mistakes ----------------------------------------------------------------------------------------------------


def test_a_port_in_use_is_said(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = countersign("proxy", "--listen", f"127.0.0.1:{port}", "--target", "localhost:443")
    assert told.code == 3
    line = [line for line in told.err.splitlines() if line.startswith("countersign:")]
    assert_is_one_line(line[0] + "\n", f"127.0.0.1:{port}", "something else listens there")


@pytest.mark.parametrize(
    ("args", "code", "parts"),
    [
        (["proxy", "--target", "localhost"], 2, ["--target", "has no port"]),
        (["proxy", "--target", "::1:443"], 2, ["--target", "brackets"]),
        (["proxy", "--target", "localhost:99999"], 2, ["port from 1 to 65535"]),
        (["proxy"], 2, ["--target HOST:PORT"]),
        (["probe", "https://localhost:1/"], 2, ["'https://localhost:1/' is not", "without scheme and path"]),
        (["probe", "localhost:1", "--count", "2", "--all-versions"], 2, ["--count", "--all-versions is for one"]),
        (["probe", "localhost:1", "--count", "2", "--instance"], 2, ["--count", "--instance is for one"]),
        (["probe", "localhost:1", "--count", "2", "--against", "last"], 2, ["--count", "--against is for one"]),
        (["probe", "localhost:1", "--count", "2", "--label", "x"], 2, ["--count", "--label is for one"]),
        (["probe", "localhost:1", "--no-sni", "--name", "x"], 2, ["--no-sni", "--name"]),
        (["probe", "localhost:1", "--instance", "--starttls", "smtp"], 2, ["--instance", "--starttls"]),
        (["diff", "last", "last", "--brief", "--json"], 2, ["--brief", "--json"]),
        (["fixcheck", "last", "--client", "toaster", "--", "curl"], 2, ["no family of clients 'toaster'", "java"]),
        (["proxy", "--mode", "sideways"], 2, ["--mode takes", "sideways"]),
        (["proxy", "--mode", "connect", "--target", "localhost:443"], 2, ["--target is for --mode reverse"]),
        (["proxy", "--mode", "connect", "--listen", "0.0.0.0:0"], 2, ["open proxy", "--allow"]),
        (["proxy", "--mode", "connect", "--listen", "127.0.0.1:0", "--allow", "me"], 2, ["--allow takes", "me"]),
        (["proxy", "--target", "localhost:443", "--upstream-ca", "nowhere.pem"], 2, ["nowhere.pem"]),
        (["proxy", "--target", "localhost:443", "--client-cert", "nowhere.pem"], 2, ["nowhere.pem"]),
        (["proxy", "--target", "localhost:443", "--client-key", "nowhere.pem"], 2, ["--client-cert"]),
        (["proxy", "--target", "localhost:443", "--secrets", "some"], 2, ["--secrets takes", "some"]),
        (["proxy", "--target", "localhost:443", "--store-max", "much"], 2, ["--store-max takes", "much"]),
        (["proxy", "--target", "localhost:443", "--store-max", "2"], 2, ["--store-max", "16M", "2 bytes"]),
        (["ls", "--store", "nowhere.sqlite"], 2, ["nowhere.sqlite", "record something first"]),
        (["proxy", "--target", "localhost:443", "--idle-timeout", "0"], 2, ["--idle-timeout"]),
        (["proxy", "--target", "nowhere.invalid:443", "--listen", "127.0.0.1:0"], 3, ["nowhere.invalid"]),
        (["show", "abcdef"], 2, ["abcdef"]),
        (["show"], 2, ["last"]),
        (["export", "last", "--format", "exe"], 2, ["--format takes", "exe"]),
        (["ls", "--since", "yesterdayish"], 2, ["--since takes", "yesterdayish"]),
        (["ca", "root"], 3, ["countersign ca init"]),
        (["ca", "init", "--key", "dsa:512"], 2, ["dsa:512"]),
        (["ca", "root", "--format", "jks"], 2, ["--format takes", "jks"]),
    ],
)
def test_a_mistake_is_one_clear_line(home: Path, args: list[str], code: int, parts: list[str]) -> None:
    told = countersign(*args)
    assert told.code == code, told.err
    assert_is_one_line(told.err, *parts)


def test_an_unknown_option_is_usage(home: Path) -> None:
    told = countersign("proxy", "--tarket", "localhost:443")
    assert told.code == 2
    assert "--tarket" in told.err


def test_a_key_that_does_not_belong_to_its_certificate_is_said(home: Path, lab: Lab) -> None:
    one, other = lab.issue("one", usages=("client",)), lab.issue("other", usages=("client",), key="rsa-2048")
    told = countersign(
        "proxy", "--target", "localhost:443", "--client-cert", one.cert_pem, "--client-key", other.key_pem
    )
    assert told.code == 2
    assert_is_one_line(told.err, str(one.cert_pem), str(other.key_pem))


def test_a_corrupt_store_is_said_and_left_alone(home: Path) -> None:
    home.mkdir(mode=0o700)
    store = home / "recordings.sqlite"
    store.write_bytes(b"this is no database" * 100)
    store.chmod(0o600)
    for command in (["ls"], ["proxy", "--target", "localhost:443", "--listen", "127.0.0.1:0"]):
        told = countersign(*command)
        assert told.code == 3
        assert_is_one_line(told.err, str(store))
    assert store.read_bytes().startswith(b"this is no database")


def test_a_store_of_a_newer_countersign_is_said(home: Path) -> None:
    countersign("demo", "--keep")
    with sqlite3.connect(home / "recordings.sqlite") as database:
        database.execute(f"UPDATE {VERSION_TABLE} SET version_num = 'from-the-future'")
    database.close()
    told = countersign("ls")
    assert told.code == 3
    assert_is_one_line(told.err, "newer countersign")


def test_a_home_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    told = countersign("ls", "--home", tmp_path / "file" / "home")
    assert told.code == 3
    assert_is_one_line(told.err, "--home")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a place where nobody may write is Linux's /proc")
def test_a_home_that_is_not_writable_is_said() -> None:
    told = countersign("ls", "--home", "/proc/countersign")
    assert told.code == 3
    assert_is_one_line(told.err, "/proc/countersign", "--home")


def test_a_ca_whose_key_others_can_read_is_refused(home: Path) -> None:
    countersign("ca", "init")
    (key,) = home.glob("ca/root*key*")
    key.chmod(0o644)
    told = countersign("proxy", "--target", "localhost:443", "--listen", "127.0.0.1:0")
    assert told.code == 3
    assert_is_one_line(told.err, "chmod 600")


# -- configuration -----------------------------------------------------------------------------------------------


def test_settings_come_from_flags_then_variables_then_the_file(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "countersign.toml").write_text('[proxy]\ntarget = "from-the-file"\n')
    assert "from-the-file" in countersign("proxy").err
    monkeypatch.setenv("COUNTERSIGN_PROXY_TARGET", "from-the-variable")
    assert "from-the-variable" in countersign("proxy").err
    assert "from-the-flag" in countersign("proxy", "--target", "from-the-flag").err


def test_variables_and_keys_are_called_as_the_options_are(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "countersign.toml").write_text('[export]\nformat = "from-the-file"\n[ls]\njson = true\n')
    assert "from-the-file" in countersign("export", "last").err
    assert countersign("ls").json()["recordings"] == []
    monkeypatch.setenv("COUNTERSIGN_EXPORT_FORMAT", "from-the-variable")
    assert "from-the-variable" in countersign("export", "last").err


def test_a_variable_named_version_is_somebody_elses(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUNTERSIGN_VERSION", "0.1.0")
    assert countersign("ls").code == 0


def test_a_constraint_on_a_ca_that_is_there_already_is_an_error(home: Path) -> None:
    countersign("ca", "init")
    told = countersign("ca", "init", "--constrain", "example.com")
    assert told.code == 2
    assert_is_one_line(told.err, "holds one already")


def test_a_second_proxy_that_cannot_start_leaves_the_ready_file_of_the_first(home: Path) -> None:
    with ProxyProcess(home, "--target", "127.0.0.1:9") as proxy:
        ready = home / "ready.json"
        told = countersign(
            "proxy", "--target", "127.0.0.1:9", "--listen", f"127.0.0.1:{proxy.port}", "--ready-file", ready
        )
        assert told.code == 3
        assert ready.exists()


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ('[proxy]\ntarket = "x:1"\n', ["proxy.tarket", "did you mean target?"]),
        ("[proxi]\n", ["proxi", "did you mean proxy?"]),
        ("[proxy\n", ["line 1"]),
    ],
)
def test_a_mistake_in_the_configuration_is_said(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, parts: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "countersign.toml").write_text(text)
    told = countersign("ls")
    assert told.code == 2
    assert_is_one_line(told.err, "countersign.toml", *parts)


# -- hard ends ---------------------------------------------------------------------------------------------------


def stored() -> list[str]:
    """The types of the messages of the newest recording's first leg."""
    told = countersign("show", "last", "--json")
    return [message["type"] for leg in told.json()["legs"][:1] for message in leg["messages"]] if told.code == 0 else []


def test_a_killed_proxy_loses_nothing_that_it_had_stored_while_the_session_was_open(home: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        ProxyProcess(home, "--target", f"127.0.0.1:{silent.getsockname()[1]}") as proxy,
        socket.create_connection(("127.0.0.1", proxy.port)) as client,
    ):
        client.sendall(client_hello())
        deadline = time.monotonic() + 60
        while stored() != ["client_hello"]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        proxy.kill()
    (entry,) = countersign("ls", "--json").json()["recordings"]
    assert entry["outcome"]["status"] == "interrupted"
    assert stored() == ["client_hello"]


def test_stopping_finishes_open_sessions(home: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        ProxyProcess(home, "--target", f"127.0.0.1:{silent.getsockname()[1]}", "--passthrough") as proxy,
        socket.create_connection(("127.0.0.1", proxy.port)) as client,
    ):
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        time.sleep(0.2)
        assert proxy.terminate() == 0
    (entry,) = countersign("ls", "--json").json()["recordings"]
    assert entry["outcome"]["status"] == "not-tls"
    assert entry["ended"]
