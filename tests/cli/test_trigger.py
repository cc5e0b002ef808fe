"""``--trigger``: clients that are daemons, which run already and are asked to connect."""

from __future__ import annotations

import json
import shutil
import socket
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from countersign.ca import Authority, issue
from countersign.ca.pem import to_pem
from countersign.ca.signer import pkcs8_der
from tests.cli.commands import Ran, countersign
from tests.peers.process import Background

if TYPE_CHECKING:
    from collections.abc import Iterator

    from countersign.scenarios.running.trial import ScenarioProxy
    from tests.peers.certs import Lab

DAEMONS = Path(__file__).parents[1] / "scenarios" / "running" / "daemons"
TOLD = "/told?proxy={proxy}&url={url}"


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CA as it is in a home, which the daemons of this module trust."""
    place = tmp_path_factory.mktemp("standing") / "ca"
    Authority.open(place)
    return place


@pytest.fixture
def root(home: Path, standing: Path) -> Path:
    """The root of the CA in the home."""
    home.mkdir(mode=0o700)
    shutil.copytree(standing, home / "ca")
    return home / "ca" / "root.pem"


@pytest.fixture
def kept_port() -> Iterator[int]:
    """A port of loopback that nobody else can get, and on which nobody listens."""
    with socket.socket() as kept:
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.bind(("127.0.0.1", 0))
        yield kept.getsockname()[1]


@contextmanager
def daemon(
    root: Path, *token: str, how: str = "aiohttp", proxy: int = 1, place: str = "https://localhost:1/", shown: str = ""
) -> Iterator[str]:
    """The URL of a running one; ``proxy`` is the port where it looks for that."""
    words = (sys.executable, DAEMONS / "daemon.py", how, f"http://127.0.0.1:{proxy}", place, root, *token)
    with Background(*map(str, words), env={"DAEMON_SHOWS": shown}) as running:
        yield f"http://127.0.0.1:{port_of(running)}"


@pytest.fixture(scope="module")
def told(standing: Path) -> Iterator[str]:
    """One that goes where it is told."""
    with daemon(standing / "root.pem") as url:
        yield url


@pytest.fixture(scope="module")
def stranger(lab: Lab) -> Iterator[str]:
    """One that trusts another root."""
    with daemon(lab.root_pem) as url:
        yield url


def port_of(running: Background) -> str:
    """What it prints once it listens."""
    return running.wait_for(r"(\d+)\n", timeout=60)[1]


def results(made: Ran) -> dict[str, str]:
    """The verdicts by their keys."""
    return {each["scenario"]: each["verdict"] for each in made.json()["results"]}


# -- daemons that are real -------------------------------------------------------------------------------------------


@pytest.mark.peer("curl")
@pytest.mark.parametrize("how", ["aiohttp", "curl"])
def test_a_daemon_with_its_own_proxy_and_place_meets_all_scenarios_on_one_port(
    root: Path, target: ScenarioProxy, kept_port: int, how: str
) -> None:
    place = f"{target.host}:{target.port}"
    listen, there = f"127.0.0.1:{kept_port}", ("--target", place, "--upstream-ca", target.ca)
    names = "missing-intermediate,expired,root-sent,rotation-leaf,ten-intermediates,certificate-asked"
    with daemon(root, how=how, proxy=kept_port, place=f"https://{place}/") as url:
        asked = ("--trigger", f"{url}/refresh", "--listen", listen, *there, "--scenario", names, "--settle", "0.3")
        made = countersign("matrix", *asked, "--family", "python", "--keep", "--json")
    assert made.code == 0, made.out + made.err
    assert results(made) == {
        "missing-intermediate": "refused",
        "expired": "refused",
        "root-sent": "accepted",
        "rotation-leaf": "accepted",
        "ten-intermediates": "skipped",
        "certificate-asked": "skipped",
    }
    document = made.json()
    assert document["client"] == ["trigger", "GET", f"{url}/refresh"]
    expired = next(each for each in document["results"] if each["scenario"] == "expired")
    assert (expired["answered"], expired["exit_code"], expired["argv"][0]) == (502, None, "trigger")
    assert expired["said"][0]["line"] == "502 Bad Gateway"
    assert expired["said"][1]["meaning"].startswith("A certificate of the chain has expired")
    kept = countersign("ls", "--json").json()["recordings"]
    assert {each["target"] for each in kept} == {place}
    assert {each["mode"] for each in kept} == {"connect"}


@pytest.mark.peer("java", "keytool")
def test_a_java_daemon_that_keeps_its_connections_is_judged_by_its_recordings(
    root: Path, kept_port: int, target: ScenarioProxy, tmp_path: Path
) -> None:
    store = tmp_path / "trust.p12"
    (tmp_path / "password").write_text("changeit")
    secret = ("--store-password-file", tmp_path / "password")
    assert countersign("ca", "keystore", "convert", root, store, "--to", "pkcs12", *secret).code == 0
    options = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", f"-Djavax.net.ssl.trustStore={store}")
    more = ("-Djavax.net.ssl.trustStorePassword=changeit", DAEMONS / "Daemon.java", kept_port)
    place = f"{target.host}:{target.port}"
    with Background("java", *options, *map(str, more), f"https://{place}/") as running:
        url = f"http://127.0.0.1:{port_of(running)}/refresh"
        listen = ("--listen", f"127.0.0.1:{kept_port}", "--target", place, "--upstream-ca", target.ca)
        names = "missing-intermediate,root-sent,rotation-leaf"
        made = countersign("run", "--trigger", url, *listen, "--family", "java", "--scenario", names, "--json")
    assert made.code == 0, made.out + made.err
    assert results(made) == {
        "missing-intermediate": "refused",
        "root-sent": "accepted",
        "rotation-leaf": "accepted",
    }
    refused = made.json()["results"][0]
    assert refused["answered"] == 500
    assert "unable to find valid certification path" in refused["said"][1]["line"]


def test_a_daemon_that_goes_straight_and_is_told_where(root: Path, told: str) -> None:
    asked = ("--mode", "reverse", "--trigger", f"{told}/told?url={{url}}")
    made = countersign("run", *asked, "--scenario", "expired,root-sent", "--json")
    assert made.code == 0, made.out + made.err
    assert results(made) == {"expired": "refused", "root-sent": "accepted"}


def test_beyond_loopback_a_daemon_needs_leave_and_nobody_answers_it_about_revocation(root: Path, told: str) -> None:
    beyond = ("run", "--listen", "0.0.0.0:0", "--trigger", told + TOLD, "--scenario", "expired,ocsp-revoked", "--json")
    refused = countersign(*beyond)
    assert (refused.code, "give --allow CIDR" in refused.err) == (2, True)
    made = countersign(*beyond, "--allow", "127.0.0.1")
    assert made.code == 0, made.out + made.err
    assert results(made) == {"expired": "refused", "ocsp-revoked": "skipped"}


def test_one_that_answers_before_it_connects_is_judged_where_the_recordings_tell(root: Path, told: str) -> None:
    names = ("--scenario", "expired,root-sent,cut-within-certificate")
    made = countersign("run", "--trigger", f"{told}/later{TOLD[5:]}", *names, "--json")
    assert made.code == 0, made.out + made.err
    assert results(made) == {"expired": "refused", "root-sent": "accepted", "cut-within-certificate": "skipped"}
    cut = made.json()["results"][2]
    assert "the recordings do not tell what the daemon made of it" in cut["text"]
    assert cut["answered"] == 202


def test_a_daemon_shows_its_own_certificate_where_it_has_one(root: Path, home: Path, tmp_path: Path) -> None:
    shown = tmp_path / "daemon.pem"
    minted = issue(Authority.open(home / "ca"), "daemon.lab.test", purpose="client")
    assert not isinstance(minted.key, bytes)
    shown.write_bytes(b"".join([*map(to_pem, minted.chain), to_pem(pkcs8_der(minted.key), "PRIVATE KEY")]))
    asked = ("--scenario", "certificate-asked,client-certificate-expired", "--shows-certificate", "--json")
    with daemon(root, shown=str(shown)) as url:
        made = countersign("run", "--trigger", url + TOLD, *asked)
    assert made.code == 0, made.out + made.err
    assert results(made) == {"certificate-asked": "accepted", "client-certificate-expired": "skipped"}


def test_what_a_token_file_has_is_sent_and_never_shown(root: Path, tmp_path: Path) -> None:
    headers, body, token = tmp_path / "headers", tmp_path / "body", "s3cr3t-0123456789"
    headers.write_text("Authorization: Bearer another-s3cr3t\n")
    body.write_text('{"go": "{url}"}')
    with daemon(root, token) as url:
        asked = ("run", "--trigger", url + TOLD, "--trigger-headers", headers, "--scenario", "expired")
        refused = countersign(*asked)
        headers.write_text(f"# of the lab's daemon\n\nAuthorization: Bearer {token}\n")
        made = countersign(*asked, "--trigger-body", body, "--json")
    assert (refused.code, refused.out) == (2, "")
    assert "answered 401 Unauthorized to the trigger, and connected nowhere" in refused.err
    assert "It said: error: expected a token, got ***" in refused.err
    assert made.code == 0, made.out + made.err
    assert results(made) == {"expired": "refused"}
    assert made.json()["client"][1] == "POST"
    assert "s3cr3t" not in made.out + made.err + refused.err


def test_a_cure_is_checked_with_the_daemon_itself(root: Path, target: ScenarioProxy, told: str, stranger: str) -> None:
    place = ("--target", f"{target.host}:{target.port}", "--upstream-ca", target.ca)
    bad = countersign("record", "--label", "bad", "--trigger", stranger + TOLD, *place, "--json")
    assert bad.code == 0, bad.err
    assert bad.json()["client"]["answered"] == 502
    same = countersign("fixcheck", "bad", "--trigger", stranger + TOLD, "--upstream-ca", target.ca)
    assert (same.code, same.out.splitlines()[0]) == (1, "Not cured: it is what it was.")
    cured = countersign("fixcheck", "bad", "--trigger", told + TOLD, "--upstream-ca", target.ca)
    assert (cured.code, cured.out.splitlines()[0]) == (0, "Cured: the handshake goes through now.")
    idle = countersign("record", "--trigger", f"{told}/idle?{{proxy}}", "--for", "1s")
    assert idle.code == 1
    assert "made no TLS connection through the proxy (it answered the trigger with 200 OK)" in idle.err


# -- where there is no verdict ---------------------------------------------------------------------------------------


def test_a_daemon_that_does_not_trust_us_gets_no_verdict(root: Path, stranger: str) -> None:
    made = countersign("run", "--trigger", stranger + TOLD, "--scenario", "expired")
    assert (made.code, made.out) == (3, "")
    assert f"the daemon at {stranger}/told does not accept a proxy with nothing wrong: refused but should" in made.err
    assert "`countersign ca trust --for java`" in made.err
    assert "502 Bad Gateway" in made.err
    assert len(made.err.splitlines()) == 1


def test_a_daemon_that_goes_nowhere_never_connected(root: Path, told: str) -> None:
    idle = f"{told}/idle?{{proxy}}{{url}}"
    made = countersign("run", "--trigger", idle, "--scenario", "expired", "--timeout", "1")
    assert (made.code, made.out) == (3, "")
    assert "never connected: it answered the trigger with 200 OK; what --listen says has to be its proxy" in made.err


@contextmanager
def answering(*answers: bytes | None) -> Iterator[str]:
    """Says these, one to each request, and closes; None says nothing until the end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            held = []
            for answer in answers:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    break
                connection.settimeout(20)
                connection.recv(1 << 16)
                if answer is None:
                    held.append(connection)
                else:
                    connection.sendall(answer)
                    connection.close()
            over.wait(60)
            for each in held:
                each.close()

        over = threading.Event()
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/go?p={{proxy}}&u={{url}}"
        finally:
            over.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        (b"", 3, "the connection was closed without an answer"),
        (b"SSH-2.0-x\r\n", 3, "what answers there speaks no HTTP"),
        (
            b"HTTP/1.1 500 Oh\r\nContent-Length: 9\r\n\r\nold error",
            3,
            "answered 500 Internal Server Error to the trigger",
        ),
        (b"HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\n\r\n", 3, "answered 302 Found to the trigger"),
        (
            b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n",
            2,
            "answered 404 Not Found to the trigger, and connected now",
        ),
        (None, 3, "hung: it had not answered the trigger after 1"),
        (b"HTTP/1.1 200 OK\r\n\r\n", 3, "never connected: it answered the trigger with 200 OK"),
    ],
)
def test_a_trigger_that_is_none_is_one_line(root: Path, answer: bytes | None, code: int, said: str) -> None:
    with answering(answer) as url:
        made = countersign("run", "--trigger", url, "--scenario", "expired", "--timeout", "1", "--settle", "0.05")
    assert (made.code, made.out) == (code, ""), made.err
    assert said in made.err
    assert len(made.err.splitlines()) == 1


def test_a_daemon_that_is_recorded_and_does_not_answer_in_time_is_told_what_a_daemon_has_to_do(root: Path) -> None:
    with answering(None) as url:
        made = countersign("record", "--trigger", url.partition("&")[0], "--for", "1s", "--settle", "0.05")
    assert (made.code, made.out) == (1, ""), made.err
    daemon_at = f"the daemon at {url.partition('?')[0]} made no TLS connection through the proxy"
    assert f"{daemon_at} (it had not answered the trigger after 1" in made.err
    assert "the trigger has to make it connect anew" in made.err


def test_a_trigger_that_nobody_answers_is_the_environments_fault(root: Path, kept_port: int) -> None:
    url = f"http://127.0.0.1:{kept_port}/refresh?{{proxy}}&{{url}}"
    made = countersign("matrix", "--trigger", url, "--scenario", "expired")
    assert (made.code, made.out) == (3, "")
    assert "connection refused; the daemon has to run before countersign does" in made.err


def test_a_port_that_is_taken_is_the_environments_fault(root: Path, target: ScenarioProxy) -> None:
    with answering() as url:
        made = countersign("run", "--trigger", url, "--listen", f"127.0.0.1:{target.port}", "--scenario", "expired")
    assert (made.code, made.out) == (3, "")
    assert f"cannot listen on 127.0.0.1:{target.port}: something else listens there" in made.err


URL = ("--trigger", "http://127.0.0.1:9/refresh")
ANY = ("--trigger", "http://127.0.0.1:9/refresh?{proxy}&{url}")
LISTEN = ("--listen", "127.0.0.1:3128")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((), "a client is needed: give its command line behind --, or a daemon's --trigger URL"),
        (("--listen", "127.0.0.1:3128"), "--listen is for a daemon that is named: give --trigger URL"),
        ((*URL, *LISTEN, "--", "curl"), "--trigger is for a client that runs already; leave 'curl' out"),
        (URL, "--trigger needs --listen HOST:PORT, where the daemon looks for its proxy, or {proxy} in the trigger"),
        ((*URL, "--mode", "reverse"), "or {url} in the trigger"),
        ((*URL, *LISTEN), "--trigger: give --target HOST:PORT, where the daemon goes"),
        ((*URL, "--listen", "127.0.0.1:0"), "or the trigger has to tell it; got 127.0.0.1:0"),
        ((*ANY, "--listen", "0.0.0.0:3128"), "would be an open proxy"),
        ((*ANY, "--jobs", "2"), "a daemon meets one scenario at a time"),
        ((*URL, "--settle", "0"), "--settle takes seconds, 0.05 to 60; got 0"),
        ((*URL, "--trigger-method", "get it"), "--trigger-method takes GET, POST"),
        ((*URL, "--trigger-ca", "x"), "--trigger-ca is for a --trigger that begins with https:"),
        (("--trigger", "https://127.0.0.1:9/", "--trigger-ca", "/nowhere"), "--trigger-ca: cannot use /nowhere"),
        (("--trigger", "ftp://127.0.0.1/"), "--trigger takes an http:// or https:// URL"),
        (("--trigger", "http:///refresh"), "--trigger takes an http:// or https:// URL"),
        (("--trigger", "http://127.0.0.1:99999/"), "--trigger takes an http:// or https:// URL"),
        (("--trigger", "http://[::1/"), "--trigger takes an http:// or https:// URL"),
        (("--trigger", "http://a..test/"), "--trigger: a..test is no host name"),
        (("--trigger", "https://.test/"), "--trigger: .test is no host name"),
        (("--trigger", "http://a.test/b c"), "percent-encoded"),
        (("--trigger", "http://me:pw@a.test/"), "--trigger shows a password to everybody"),
        (("--trigger", "http://a.test/?{client_key}"), "a daemon shows its own certificate"),
        (("--trigger", "http://a.test/?{urn}"), "there is no placeholder {urn}; did you mean {url}?"),
        ((*URL, "--trigger-headers", "/nowhere"), "--trigger-headers: there is no file /nowhere"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(home: Path, args: tuple[str, ...], said: str) -> None:
    made = countersign("run", "--scenario", "expired", *args)
    assert (made.code, made.out) == (2, ""), made.err
    assert said in made.err
    assert "pw" not in made.err
    assert len(made.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no colon s3cr3t", ":1: expected `Name: value`"),
        ("\nNa me: s3cr3t", ":2: expected `Name: value`"),
        ("content-length: 3", ":1: content-length is said by countersign itself"),
        ("Host: a\nHOST: s3cr3t", ":2: a request has one Host"),
        ("X: s3cr3t\x07", ":1: the value of X has control characters"),
        ("X: \udcff", "it is not UTF-8"),
    ],
)
def test_a_headers_file_is_checked_and_no_value_of_it_repeated(
    home: Path, tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "headers"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    made = countersign("run", *URL, "--trigger-headers", path, "--scenario", "expired")
    assert (made.code, made.out) == (2, "")
    assert said in made.err
    assert "s3cr3t" not in made.err


def test_results_of_a_daemon_are_read_back_and_joined(root: Path, told: str, tmp_path: Path) -> None:
    parts = [tmp_path / f"{number}.json" for number in (1, 2)]
    for number, part in enumerate(parts, 1):
        shard = ("--shard", f"{number}/2", "--report", f"json={part}")
        done = countersign("matrix", "--trigger", told + TOLD, "--scenario", "expired,root-sent", *shard)
        assert done.code == 0, done.err
    forms = {"junit": "out.xml", "sarif": "out.sarif", "markdown": "out.md", "html": "out.html", "json": "all.json"}
    flags = [word for form, name in forms.items() for word in ("--report", f"{form}={tmp_path / name}")]
    assert countersign("matrix", "merge", *parts, *flags).code == 0
    joined = json.loads((tmp_path / "all.json").read_bytes())
    assert {each["answered"] for each in joined["results"]} == {200, 502}
    assert "trigger GET http://127.0.0.1" in (tmp_path / "out.md").read_text()
