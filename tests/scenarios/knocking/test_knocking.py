"""Servers that are knocked at: real ones, right and wrong."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import ssl
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar
from xml.etree import ElementTree as ET

import pytest

from countersign.ca import Authority, Plan
from countersign.errors import EnvironmentFault, UserError
from countersign.findings.probing import Plan as Probing
from countersign.findings.probing.handshaking import Manner
from countersign.lab.target import EmbeddedTarget, Pki
from countersign.recorder.recording import LegRole, Recording
from countersign.recorder.store import Store
from countersign.recorder.wire.events import Content, Side
from countersign.recorder.wire.extensions import (
    KeyShare,
    KnownExtension,
    SignatureAlgorithms,
    SupportedGroups,
    SupportedVersions,
    UnknownExtension,
)
from countersign.recorder.wire.messages import ClientHello, DecodeContext, decode_message
from countersign.scenarios.knocking import KNOCKS, Server, chosen, knock
from countersign.scenarios.knocking.knocking import request
from countersign.scenarios.running.verdict import Kind
from tests.cli.commands import countersign
from tests.findings.oddities import ALERT, echoes, hangs_up, resets, says, serving, streams, waits
from tests.peers.openssl import OpensslServer
from tests.peers.process import Background
from tests.proxy.wire import server_context

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from countersign.scenarios.running.results import Matrix
    from tests.peers.certs import Lab

_Extension = TypeVar("_Extension", bound=KnownExtension)

CERTIFICATES = {
    "client": "accept", "client-for-servers": "refuse", "client-for-both": "accept",
    "client-without-extended-key-usage": "accept", "client-expired": "refuse", "client-self-signed": "refuse",
    "client-leaf-only": "refuse", "client-of-an-unknown-ca": "refuse", "client-without-a-certificate": "refuse",
    "client-in-other-strings": "accept",
}  # fmt: skip


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> tuple[Authority, Path]:
    """The CA of client certificates, and its root as a file for servers."""
    authority = Authority.make(Plan(name="clients of a test"))
    root = tmp_path_factory.mktemp("clients") / "root.pem"
    root.write_bytes(authority.root_pem)
    return authority, root


def knocked(port: int, authority: Authority, *names: str, seconds: float = 10.0) -> Matrix:
    plan = Probing(host="127.0.0.1", port=port, name="localhost", seconds=seconds)
    return knock(Server(plan, authority, says=request("localhost")), chosen(names))


def kinds(made: Matrix) -> dict[str, Kind]:
    return {result.scenario: result.verdict.kind for result in made.results}


def test_every_recipe_for_clients_is_a_knock_that_says_what_is_right() -> None:
    assert {each.id: each.right for each in KNOCKS.values() if each.recipe is not None} == CERTIFICATES
    assert all(each.rfc and each.title for each in KNOCKS.values())


@pytest.mark.peer("openssl")
def test_openssl_does_right_with_every_certificate_and_every_hello(lab: Lab, clients: tuple[Authority, Path]) -> None:
    authority, root = clients
    with OpensslServer(lab.server, mode="www", verify_ca=root) as server:
        made = knocked(server.port, authority)
    assert made.exit_code == 0, [(each.scenario, each.verdict) for each in made.results]
    assert {each for each in KNOCKS if kinds(made)[each] is Kind.REFUSED} >= {
        each for each, right in CERTIFICATES.items() if right == "refuse"
    }
    expired = made.result("client-expired").verdict
    assert expired.alerts == ("certificate_expired",)
    assert made.result("client-of-an-unknown-ca").verdict.alerts == ("unknown_ca",)


@pytest.mark.peer("openssl")
def test_a_server_that_takes_any_certificate_and_old_versions_is_found_out(
    lab: Lab, clients: tuple[Authority, Path]
) -> None:
    with OpensslServer(lab.server, "-verify", "5", "-cipher", "ALL:@SECLEVEL=0", mode="www") as server:
        made = knocked(server.port, clients[0])
    wrong = {name for name, kind in kinds(made).items() if kind is Kind.ACCEPTED_WRONGLY}
    refused = {name for name, right in CERTIFICATES.items() if right == "refuse"}
    assert wrong == {*refused, "hello-of-tls-1.0", "hello-of-tls-1.1"}
    assert made.exit_code == 1


@pytest.mark.peer("openssl")
def test_a_server_that_asks_for_nothing_is_not_judged_by_certificates(
    lab: Lab, clients: tuple[Authority, Path]
) -> None:
    with OpensslServer(lab.server, mode="www") as server:
        made = knocked(server.port, clients[0], "client*", "hello-without-a-name")
    assert {kinds(made)[name] for name in CERTIFICATES} == {Kind.SKIPPED}
    assert kinds(made)["hello-without-a-name"] is Kind.ACCEPTED


@pytest.mark.peer("openssl")
def test_who_refuses_a_right_client_too_has_refused_nobody_for_cause(lab: Lab, clients: tuple[Authority, Path]) -> None:
    with OpensslServer(lab.server, mode="www", verify_ca=lab.root_pem) as server:
        made = knocked(server.port, clients[0], "client-expired", "hello-byte-by-byte")
    unproved = Kind.UNPROVED
    assert kinds(made) == {"client": Kind.REFUSED_WRONGLY, "client-expired": unproved, "hello-byte-by-byte": unproved}
    assert made.exit_code == 4
    assert made.results[0].verdict.notes[-1].endswith("most often it does not trust HOME/client-ca/root.pem yet")
    assert made.result("hello-byte-by-byte").verdict.text.endswith("a right client as well, and in the same way")


def test_who_refuses_a_right_client_is_to_be_asked_otherwise_first(clients: tuple[Authority, Path]) -> None:
    for alert, first in ((0x70, "(--name)"), (0x46, "neither TLS 1.2 nor TLS 1.3"), (0x28, "countersign diagnose ")):
        with serving(says(b"\x15\x03\x03\0\2\2" + bytes([alert]))) as port:
            made = knocked(port, clients[0], "hello-of-tls-1.3")
        assert first in made.results[0].verdict.notes[-1]


NGINX = """
worker_processes 1; daemon off; pid {folder}/pid; error_log {folder}/error.log; events {{}}
http {{
  access_log off; client_body_temp_path {folder}/1; proxy_temp_path {folder}/2; fastcgi_temp_path {folder}/3;
  uwsgi_temp_path {folder}/4; scgi_temp_path {folder}/5;
  server {{
    listen 127.0.0.1:{port} ssl http2; ssl_protocols TLSv1.2 TLSv1.3;
    ssl_certificate {chain}; ssl_certificate_key {key};
    ssl_client_certificate {root}; ssl_verify_client on; ssl_verify_depth 4;
    location / {{ return {status} "a certificate is not what this is about\\n"; }}
  }}
}}
"""


@pytest.mark.peer("nginx", "openssl")
@pytest.mark.parametrize("status", [200, 404])
def test_nginx_refuses_inside_and_that_is_a_refusal_and_its_other_answers_are_none(
    lab: Lab, clients: tuple[Authority, Path], tmp_path: Path, free_port: int, status: int
) -> None:
    authority, root = clients
    configuration = tmp_path / "nginx.conf"
    chain, key = lab.server.fullchain_pem, lab.server.key_pem
    text = NGINX.format(folder=tmp_path, port=free_port, root=root, status=status, chain=chain, key=key)
    configuration.write_text(text)
    with Background("/usr/sbin/nginx", "-c", configuration):
        _until_it_listens(free_port)
        made = knocked(free_port, authority)
    assert made.exit_code == 0, [(each.scenario, each.verdict) for each in made.results]
    without = made.result("client-without-a-certificate").verdict
    assert without.kind is Kind.REFUSED
    assert "its answer to the request was 400" in " ".join(without.notes)


def _until_it_listens(port: int) -> None:
    for _ in range(500):
        with socket.socket() as trying:
            if trying.connect_ex(("127.0.0.1", port)) == 0:
                return
            threading.Event().wait(0.01)
    raise AssertionError("nginx does not listen")


# -- servers that are none -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("deed", "why"),
    [
        (streams(bytes(1000)), "does not speak TLS: it said 00 00"),
        (says(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "that is HTTP"),
        (says(b"220 mx ESMTP\r\n", first=True), "TLS begins later: --starttls smtp"),
        (says(b"SSH-2.0-x\r\n", first=True), "that is SSH"),
        (waits, "fell silent in the middle of the handshake"),
        (hangs_up, "closed the connection in the middle of the handshake"),
        (resets, "reset the connection in the middle of the handshake"),
        (streams(b"\x14\x03\x03\0\1\1" * 50), "sent something that cannot be taken"),
        (echoes, "is the ClientHello that it got: an echo"),
    ],
    ids=["zeros", "HTTP", "SMTP", "SSH", "silence", "FIN", "RST", "change_cipher_spec", "an echo"],
)
def test_who_says_nothing_in_tls_to_a_right_client_is_not_judged(
    clients: tuple[Authority, Path], deed: Callable[[socket.socket], None], why: str
) -> None:
    kept: list[Recording] = []
    seconds = 0.5 if deed is waits else 20.0
    knocks = chosen(["client", "client-expired", "hello-with-grease"])
    with serving(deed) as port:
        server = Server(Probing(host="127.0.0.1", port=port, name="localhost", seconds=seconds), clients[0])
        with pytest.raises(EnvironmentFault, match="which takes part in no handshake") as wrong:
            knock(server, knocks, keep=kept.append)
    assert why in str(wrong.value)
    assert [f"(recording {each.id})" in str(wrong.value) for each in kept] == [True]


def test_a_server_that_speaks_tls_and_nothing_else_right_is_judged(clients: tuple[Authority, Path]) -> None:
    refused = {
        "client": Kind.REFUSED_WRONGLY, "client-expired": Kind.UNPROVED, "hello-byte-by-byte": Kind.UNPROVED,
    }  # fmt: skip
    for deed in (says(ALERT), says(ALERT, first=True), says(b"\x16\x03\x03\0\x05\xee\0\0\1\0")):
        with serving(deed) as port:
            made = knocked(port, clients[0], *refused)
        assert kinds(made) == refused
        assert made.exit_code == 4


def test_who_begins_and_does_not_go_on_hangs_and_what_had_come_is_told(clients: tuple[Authority, Path]) -> None:
    begun = b"\x16\x03\x03\0\x50\2\0\0\x4c\3"

    def deed(connection: socket.socket) -> None:
        connection.sendall(b"220 x\r\n250 STARTTLS\r\n220 go\r\n" + begun)
        waits(connection)

    with serving(deed) as port:
        plan = Probing(host="127.0.0.1", port=port, name="localhost", seconds=3.0, starttls="smtp")
        made = knock(Server(plan, clients[0]), chosen(["client"]))
    assert kinds(made) == {"client": Kind.HUNG}
    assert "bytes had come behind its last whole message" in made.result("client").verdict.notes[0]


def test_no_tls_in_answer_to_an_odd_hello_is_a_refusal_and_no_wait(lab: Lab, clients: tuple[Authority, Path]) -> None:
    context = server_context(lab.server)
    met = 0

    def deed(connection: socket.socket) -> None:
        nonlocal met
        met += 1
        if met > 1:
            streams(b"HTTP/1.1 400 Bad Request\r\n\r\n")(connection)
        with context.wrap_socket(connection, server_side=True) as wrapped:
            wrapped.recv(4096)
            wrapped.sendall(b"HTTP/1.1 200 OK\r\n\r\n")

    with serving(deed) as port:
        made = knocked(port, clients[0], "hello-with-grease", "hello-byte-by-byte", seconds=30.0)
    assert set(kinds(made).values()) == {Kind.REFUSED_WRONGLY}
    assert all("that is HTTP" in each.verdict.notes[-1] for each in made.results)
    assert made.seconds < 30


@pytest.mark.peer("openssl")
def test_what_openssl_here_cannot_say_is_skipped(lab: Lab, clients: tuple[Authority, Path]) -> None:
    none = Manner(versions=(ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2))
    with OpensslServer(lab.server, mode="www") as server:
        plan = Probing(host="127.0.0.1", port=server.port, name="localhost")
        made = knock(Server(plan, clients[0]), [replace(KNOCKS["hello-of-tls-1.2"], manner=none)])
    assert [each.verdict.text for each in made.results] == [
        "skipped: the client cannot begin the handshake: OpenSSL says 'no protocols available'"
    ]


@pytest.mark.peer("openssl")
def test_with_nothing_said_a_refusal_is_seen_all_the_same(lab: Lab, clients: tuple[Authority, Path]) -> None:
    authority, root = clients
    with OpensslServer(lab.server, "-num_tickets", "0", mode="rev", verify_ca=root) as server:
        plan = Probing(host="127.0.0.1", port=server.port, name="localhost")
        made = knock(Server(plan, authority), chosen(["client", "client-expired"]))
    assert kinds(made) == {"client": Kind.ACCEPTED, "client-expired": Kind.REFUSED}
    assert "neither answered nor refused" in " ".join(made.result("client").verdict.notes)


def heard(name: str, authority: Authority) -> bytes:
    """What of this knock is on the wire, up to the end of its hello."""
    said: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for _ in ("a right client", "this one"):
                connection, _address = listener.accept()
                with connection:
                    connection.settimeout(20)
                    data = b""
                    while not is_whole(data) and (piece := connection.recv(1 << 16)):
                        data += piece
                    said.append(data)
                    connection.sendall(ALERT)  # which is in TLS, so that there is more than the right client

        thread = threading.Thread(target=serve)
        thread.start()
        knocked(listener.getsockname()[1], authority, name)
        thread.join()
    return said[1]


def records(data: bytes) -> list[tuple[bytes, bytes]]:
    """Head and payload of each record."""
    found = []
    while data:
        size = 5 + int.from_bytes(data[3:5], "big")
        found.append((data[:5], data[5:size]))
        data = data[size:]
    return found


def is_whole(data: bytes) -> bool:
    """Whether a hello has come to its end."""
    hello = b"".join(payload for _, payload in records(data))
    return len(hello) >= 4 and len(hello) >= 4 + int.from_bytes(hello[1:4], "big")


def test_what_is_odd_about_a_hello_is_on_the_wire(clients: tuple[Authority, Path]) -> None:
    plain = records(heard("hello-byte-by-byte", clients[0]))
    assert [head[:3] for head, _ in plain] == [b"\x16\x03\x01"]
    single = records(heard("hello-in-one-byte-records", clients[0]))
    assert {len(payload) for _, payload in single} == {1}
    short = records(heard("hello-in-short-records", clients[0]))
    assert {len(payload) for _, payload in short[:-1]} == {100}
    for found in (single, short):
        hello = b"".join(payload for _, payload in found)
        assert (hello[0], len(hello)) == (1, 4 + int.from_bytes(hello[1:4], "big"))
    assert records(heard("hello-in-a-record-of-tls-1.2", clients[0]))[0][0][:3] == b"\x16\x03\x03"
    large = heard("hello-as-large-as-post-quantum", clients[0])
    assert len(large) > 1460
    assert b"localhost" not in heard("hello-without-a-name", clients[0])
    assert b"nobody.invalid" in heard("hello-for-another-name", clients[0])
    assert b"\0\x2b\0\3\2\3\4" in heard("hello-of-tls-1.3", clients[0])
    assert heard("hello-of-tls-1.1", clients[0])[9:11] == b"\x03\x02"


def hello_of(name: str, authority: Authority) -> ClientHello:
    """The hello of this knock, as it is on the wire."""
    message = b"".join(payload for _, payload in records(heard(name, authority)))
    read = decode_message(message, DecodeContext(None, None, Side.CLIENT))
    assert isinstance(read.value, ClientHello)
    return read.value


def test_what_a_hello_says_is_on_the_wire(clients: tuple[Authority, Path]) -> None:
    def has(name: str, kind: type[_Extension]) -> _Extension:
        return next(each for each in hello_of(name, clients[0]).extensions or () if isinstance(each, kind))

    shares = {each.group: len(each.key_exchange) for each in has("hello-with-a-post-quantum-share", KeyShare).entries}
    assert shares == {0x11EC: 1216, 0x001D: 32}
    alone = has("hello-with-a-post-quantum-share-alone", KeyShare).entries
    assert [each.group for each in alone] == [0x11EC]
    assert has("hello-with-no-group-but-a-post-quantum-one", SupportedGroups).groups == (0x11EC,)
    assert hello_of("hello-without-compatibility", clients[0]).session_id == b""
    assert has("hello-of-a-version-to-come", SupportedVersions).versions[:2] == (0x0305, 0x0304)
    large = [len(each.data) for each in _unknown(hello_of("hello-with-a-large-unknown-extension", clients[0]))]
    assert large == [4096]
    suites = hello_of("hello-with-many-unknown-suites", clients[0]).cipher_suites
    assert suites[:200] == tuple(range(0xFA00, 0xFAC8))
    plain = [each.code for each in hello_of("hello-byte-by-byte", clients[0]).extensions or ()]
    turned = hello_of("hello-with-extensions-the-other-way-round", clients[0])
    assert [each.code for each in turned.extensions or ()] == plain[::-1]
    twice = [each.code for each in hello_of("hello-with-an-extension-twice", clients[0]).extensions or ()]
    assert twice == [*plain, 10]


def _unknown(hello: ClientHello) -> list[UnknownExtension]:
    return [each for each in hello.extensions or () if isinstance(each, UnknownExtension)]


def test_a_hello_with_grease_has_it_in_every_list(clients: tuple[Authority, Path]) -> None:
    hello = hello_of("hello-with-grease", clients[0])
    lists = {type(each): each for each in hello.extensions or ()}
    first = [
        hello.cipher_suites[0],
        _unknown(hello)[0].code,
        _unknown(hello)[-1].code,
        next(each.groups[0] for each in lists.values() if isinstance(each, SupportedGroups)),
        next(each.entries[0].group for each in lists.values() if isinstance(each, KeyShare)),
        next(each.versions[0] for each in lists.values() if isinstance(each, SupportedVersions)),
        next(each.schemes[0] for each in lists.values() if isinstance(each, SignatureAlgorithms)),
    ]
    assert all(each & 0x0F0F == 0x0A0A and each >> 12 == each >> 4 & 15 for each in first), first


def test_a_hello_of_ssl_3_is_one(clients: tuple[Authority, Path]) -> None:
    data = heard("hello-of-ssl-3", clients[0])
    hello = hello_of("hello-of-ssl-3", clients[0])
    assert (data[:3], hello.legacy_version, hello.extensions) == (b"\x16\x03\x00", 0x0300, None)


@pytest.mark.peer("openssl")
def test_a_whole_flight_in_one_byte_records_is_on_the_wire_and_finished(
    lab: Lab, clients: tuple[Authority, Path]
) -> None:
    kept: dict[str, Recording] = {}
    with OpensslServer(lab.server, "-tls1_2", mode="www", verify_ca=clients[1]) as server:
        plan = Probing(host="127.0.0.1", port=server.port, name="localhost")
        knocked_at = Server(plan, clients[0], says=request("localhost"))
        made = knock(knocked_at, chosen(["flight-*"]), keep=lambda each: kept.update({str(each.scenario): each}))
        server.wait_for_message("Finished", 6)  # of three knocks, each side's
        single = len(re.findall(r"RecordHeader.*\n    16 03 0[13] 00 01$", server.output, re.MULTILINE))
    assert kinds(made) == {"flight-in-one-byte-records": Kind.ACCEPTED}
    leg = kept["flight-in-one-byte-records"].leg(LegRole.THROUGH)
    assert leg is not None
    sent = [each for each in leg.messages if each.sender is Side.CLIENT and each.content is Content.HANDSHAKE]
    clear = [each for each in sent if not each.encrypted]
    assert [each.code for each in clear] == [1, 11, 16, 15]
    assert single == sum(each.length for each in clear), "the server has seen as many records as there are bytes"


@pytest.mark.peer("openssl")
def test_what_needs_a_version_that_the_server_has_not_is_left_out(lab: Lab, clients: tuple[Authority, Path]) -> None:
    with OpensslServer(lab.server, "-tls1_3", mode="www", verify_ca=clients[1]) as server:
        made = knocked(server.port, clients[0], "flight-*", "hello-of-tls-1.2")
    assert kinds(made) == {"hello-of-tls-1.2": Kind.REFUSED, "flight-in-one-byte-records": Kind.SKIPPED}


@pytest.mark.peer("openssl")
async def test_a_server_with_post_quantum_groups_uses_the_share_and_one_without_asks_for_another(
    lab: Lab, clients: tuple[Authority, Path]
) -> None:
    names = ("hello-with-a-post-quantum-share", "hello-with-a-post-quantum-share-alone")
    async with EmbeddedTarget(Pki.make("localhost")) as target:
        modern = await asyncio.to_thread(_groups, target.plain_port, clients[0], *names)
    with OpensslServer(lab.server, mode="www") as server:
        older = await asyncio.to_thread(_groups, server.port, clients[0], *names)
    assert modern == dict.fromkeys(names, ("X25519MLKEM768", 1))
    assert older == {names[0]: ("x25519", 1), names[1]: ("x25519", 2)}


def _groups(port: int, authority: Authority, *names: str) -> dict[str, tuple[str | None, int]]:
    """For each of these knocks the group that was agreed on, and how many hellos that took."""
    found = {}

    def keep(recording: Recording) -> None:
        leg = recording.leg(LegRole.THROUGH)
        assert leg is not None
        found[str(recording.scenario)] = (leg.read().group, sum(each.is_handshake(1) for each in leg.messages))

    plan = Probing(host="127.0.0.1", port=port, name="localhost")
    made = knock(Server(plan, authority, says=request("localhost")), chosen(names), keep=keep)
    assert made.exit_code == 0, made.results
    return {name: found[name] for name in names}


SERVER_HELLO_3 = bytes.fromhex("16 0300 002a 02 000026 0300") + bytes(32) + bytes.fromhex("00 000a 00")


def test_a_server_that_answers_a_hello_of_ssl_3_with_one_is_found_out(clients: tuple[Authority, Path]) -> None:
    with serving(says(SERVER_HELLO_3)) as port:
        made = knocked(port, clients[0], "hello-of-ssl-3", "hello-with-grease")
    assert kinds(made)["hello-of-ssl-3"] is Kind.ACCEPTED_WRONGLY
    assert made.exit_code == 1
    with serving(says(b"\x15\x03\0\0\2\2\x28")) as port:
        refused = knocked(port, clients[0], "hello-with-grease")
    assert kinds(refused) == {"client": Kind.REFUSED_WRONGLY, "hello-with-grease": Kind.UNPROVED}
    assert refused.result("client").verdict.alerts == ("handshake_failure",)


def test_where_nobody_listens_it_is_the_environment(clients: tuple[Authority, Path], free_port: int) -> None:
    with pytest.raises(EnvironmentFault):
        knocked(free_port, clients[0])


def test_a_knock_that_there_is_not_is_named_with_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean client-expired"):
        chosen(["client-expird"])


# -- the command -----------------------------------------------------------------------------------------------------


@pytest.mark.peer("openssl")
def test_the_command_gives_verdicts_reports_and_recordings(lab: Lab, home: Path, tmp_path: Path) -> None:
    assert countersign("knock", "--list", "--json").json()["scenarios"][0]["id"] == "client"
    home.mkdir(mode=0o700)
    Authority.open(home / "client-ca", Plan(name="countersign clients"))
    forms = {"junit": "out.xml", "sarif": "out.sarif", "json": "out.json", "markdown": "out.md", "html": "out.html"}
    reports = [word for form, name in forms.items() for word in ("--report", f"{form}={tmp_path / name}")]
    with OpensslServer(lab.server, mode="www", verify_ca=home / "client-ca" / "root.pem") as server:
        args = ("knock", f"localhost:{server.port}", "--home", home, "--scenario", "client,client-expired")
        ran = countersign(*args, *reports)
        as_json = countersign(*args, "--json")
    assert ran.code == 0, ran.out + ran.err
    assert "client-expired  refused as it should" in ran.out
    assert all("client-expired" in (tmp_path / name).read_text() for name in forms.values())
    junit = ET.fromstring((tmp_path / "out.xml").read_bytes())
    assert (junit.get("name"), junit.get("tests"), junit.get("failures")) == ("countersign knock", "2", "0")
    assert "Server: `localhost:" in (tmp_path / "out.md").read_text()
    assert "<h1>What a server does when TLS goes wrong</h1>" in (tmp_path / "out.html").read_text()
    assert json.loads((tmp_path / "out.sarif").read_bytes())["runs"][0]["results"] == []
    kept_form = json.loads((tmp_path / "out.json").read_bytes())
    assert (kept_form["subject"], len(kept_form["results"][1]["ladders"])) == ("server", 1)
    document = as_json.json()
    assert [each["verdict"] for each in document["results"]] == ["accepted", "refused"]
    store = Store.open(home / "recordings.sqlite")
    try:
        kept = store.get(document["results"][1]["recordings"][0])
    finally:
        store.close()
    assert (kept.scenario, kept.mode) == ("client-expired", "probe")
    assert json.loads(as_json.out)["exit_code"] == 0


def test_without_a_server_it_is_a_mistake(home: Path) -> None:
    ran = countersign("knock", "--home", home)
    assert (ran.code, "--list" in ran.err) == (2, True)


def test_a_server_that_speaks_no_tls_is_the_environments_fault_and_its_recording_is_kept(home: Path) -> None:
    with serving(says(b"220 mx ESMTP\r\n", first=True)) as port:
        ran = countersign("knock", f"127.0.0.1:{port}", "--home", home)
    assert (ran.code, ran.out) == (3, "")
    assert "TLS begins later: --starttls smtp" in ran.err
    store = Store.open(home / "recordings.sqlite")
    try:
        assert f"(recording {store.get('last').id})" in ran.err
    finally:
        store.close()
