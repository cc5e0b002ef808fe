"""What an explicit proxy answers on purpose, and what real clients make of it."""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any, Self

import pytest

from countersign.lab.target import EmbeddedTarget, Pki
from countersign.proxy import Limits, Mode
from countersign.proxy.answer import AnswerError, ProxyAnswer
from countersign.proxy.orders import Orders
from countersign.recorder.recording import FailureCode, Party, Recording, Status
from tests.peers.curl import curl
from tests.peers.java import java_client, java_truststore
from tests.peers.process import run
from tests.proxy.ordered import Scripted
from tests.proxy.running import RunningProxy
from tests.proxy.wire import connect, connect_request, rest

if TYPE_CHECKING:
    from pathlib import Path

QUICK = Limits(hello=2.0, handshake=1.0, idle=2.0, stop=0.1)
BASIC = "Proxy-Authorization: Basic dTpw"


class _InTurn(Scripted):
    """One answer after the other, the last again and again."""

    def __init__(self, answers: tuple[ProxyAnswer, ...]) -> None:
        super().__init__([Orders()])
        self._answers = answers

    def arriving(self, client: str) -> Orders:
        self.arrived.append(client)
        return Orders(answer=self._answers[min(len(self.arrived), len(self._answers)) - 1])


class Answering(RunningProxy):
    """An explicit proxy that answers so, with a target that it can reach on ``target_port``."""

    def __init__(self, *answers: ProxyAnswer, mode: Mode = Mode.CONNECT, limits: Limits = QUICK) -> None:
        pki = Pki.make()
        self._embedded = EmbeddedTarget(pki)
        super().__init__(mode=mode, limits=limits, roots=(pki.public.root.der,), director=_InTurn(answers))

    def __enter__(self) -> Self:
        super().__enter__()
        self.run(self._stack.enter_async_context(self._embedded))
        return self

    @property
    def target_port(self) -> int:
        return self._embedded.plain_port

    @property
    def url(self) -> str:
        return f"https://localhost:{self.target_port}/"


def asked(proxy: Answering, *headers: str) -> bytes:
    """All that a CONNECT request gets."""
    with connect(proxy) as raw:
        raw.sendall(connect_request("localhost", proxy.target_port, *headers))
        raw.shutdown(socket.SHUT_WR)
        return rest(raw)


def said(recording: Recording) -> list[str]:
    return [each["text"] for leg in recording.legs for each in leg.faults if each["do"] == "answer"]


# -- on the wire ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [403, 502, 503, 504, 511, 599])
def test_a_status_is_answered_whole_and_the_target_is_not_dialled(status: int) -> None:
    with Answering(ProxyAnswer(status=status)) as proxy:
        answer = asked(proxy)
        recording = proxy.recording()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert f"Content-Length: {len(body)}".encode() in head
    assert (recording.outcome.status, recording.outcome.broken_by) == (Status.FAILED, Party.PROXY)
    assert recording.failures[0].code is FailureCode.ORDERED
    assert recording.outcome.text == f"The proxy answered CONNECT with HTTP/1.1 {status}, as ordered."
    assert said(recording) == [f"answered CONNECT with HTTP/1.1 {status}"]
    assert recording.prelude["answer"] == status
    assert recording.from_target == 0


def test_a_407_is_said_again_to_each_request_on_the_same_connection() -> None:
    schemes: tuple[Any, ...] = ("Basic", "Digest", "NTLM", "Negotiate")
    with Answering(ProxyAnswer(status=407, schemes=schemes)) as proxy:
        with connect(proxy) as raw:
            request = connect_request("localhost", proxy.target_port, BASIC)
            found = b""
            for number in range(1, 4):
                raw.sendall(request)
                while found.count(b"HTTP/1.1 407") < number or not found.endswith(b"Required\n"):
                    more = raw.recv(65536)
                    assert more, "it closed instead"
                    found += more
        recording = proxy.recording()
    assert recording.prelude["ordered"]["said"] == 3
    assert found.count(b'Proxy-Authenticate: Basic realm="proxy"\r\n') == 3
    assert found.count(b"Proxy-Authenticate: NTLM\r\n") == 3
    nonces = {line for line in found.split(b"\r\n") if line.startswith(b"Proxy-Authenticate: Digest")}
    assert len(nonces) == 3, "each challenge has a nonce of its own"
    assert b"dTpw" not in repr(recording).encode(), "and what it was answered with is nowhere"


def test_an_answer_that_hangs_ends_when_the_client_goes_or_its_time_is_up() -> None:
    with Answering(ProxyAnswer(hang=True), limits=Limits()) as proxy:
        with connect(proxy) as raw:
            raw.sendall(connect_request("localhost", proxy.target_port))
            while not proxy.engine.open_sessions:
                time.sleep(0.001)
        assert proxy.recording().outcome.text == "The proxy gave no answer to CONNECT, as ordered."
    with Answering(ProxyAnswer(hang=True)) as proxy, connect(proxy) as raw:
        raw.sendall(connect_request("localhost", proxy.target_port))
        assert rest(raw) == b""


@pytest.mark.parametrize("length", [0, 5, 20])
def test_an_answer_that_is_cut_ends_within_its_head(length: int) -> None:
    with Answering(ProxyAnswer(status=200, cut_after=length)) as proxy:
        assert asked(proxy) == b"HTTP/1.1 200 OK\r\n\r\n"[:length]
        recording = proxy.recording()
    assert recording.outcome.broken_by is Party.PROXY
    assert recording.prelude["said"] == "HTTP/1.1 200 OK\\r\\n\\r\\n"[: 23 if length == 20 else length], (
        "as it was heard"
    )
    assert recording.prelude["answer"] == (200 if length == 20 else None)


def test_garbage_and_a_version_and_chunks_are_as_they_were_asked_for() -> None:
    with Answering(ProxyAnswer(garbage=33), ProxyAnswer(status=502, version="1.0", body="no", chunked=True)) as proxy:
        assert len(asked(proxy)) == 33
        answer = asked(proxy)
    assert answer.startswith(b"HTTP/1.0 502 Bad Gateway\r\n")
    assert answer.endswith(b"\r\n\r\n2\r\nno\r\n0\r\n\r\n")


@pytest.mark.parametrize("reply", [1, 2, 3, 4, 5, 6, 7, 8, 9, 255])
def test_each_socks_reply_goes_out_as_it_is(reply: int) -> None:
    with Answering(ProxyAnswer(socks_reply=reply), mode=Mode.SOCKS5) as proxy:
        with connect(proxy) as raw:
            raw.sendall(b"\x05\x01\x00" + b"\x05\x01\x00\x01\x7f\x00\x00\x01" + proxy.target_port.to_bytes(2))
            assert rest(raw)[:4] == bytes((5, 0, 5, reply))
        recording = proxy.recording()
    assert recording.prelude["socks"]["answer"] == reply
    assert said(recording)[0].startswith(f"answered a SOCKS request with the reply {reply} ")


# -- real clients --------------------------------------------------------------------------------------------------


@pytest.mark.peer("curl")
@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        ({"status": 403}, 0, "CONNECT tunnel failed, response 403"),
        ({"status": 407}, 0, "CONNECT tunnel failed, response 407"),
        ({"status": 407, "schemes": ("Digest", "NTLM")}, 0, "CONNECT tunnel failed, response 407"),
        ({"status": 502}, 0, "CONNECT tunnel failed, response 502"),
        ({"hang": True}, 0, "Proxy CONNECT aborted"),
        ({"garbage": 40}, 0, "Proxy CONNECT aborted"),
        ({"status": 200, "cut_after": 10}, 0, "Proxy CONNECT aborted"),
        ({"status": 200}, 200, ""),
        ({"status": 200, "version": "1.0"}, 200, ""),
        ({"status": 204}, 200, ""),
        ({"status": 200, "headers": ("Content-Length: 500",)}, 200, ""),
        ({"status": 200, "headers": ("Transfer-Encoding: chunked",)}, 200, ""),
        ({"status": 200, "body": "hello"}, 0, "wrong version number"),
        ({"status": 200, "body": "hello", "chunked": True}, 0, "wrong version number"),
        ({"status": 200, "every": 0.001}, 200, ""),
        ({"status": 200, "delay": 0.05}, 200, ""),
    ],
    ids=str,
)
def test_what_curl_makes_of_an_answer_to_connect(
    answer: dict[str, Any], status: int, words: str, tmp_path: Path
) -> None:
    """RFC 9110 9.3.6: Content-Length and Transfer-Encoding of a 2xx to CONNECT are to be ignored."""
    with Answering(ProxyAnswer(**answer)) as proxy:
        login = ("-U", "u:p", "--proxy-anyauth") if answer.get("status") == 407 else ()
        found = curl(proxy.url, *login, ca=proxy.root_file(tmp_path), proxy=f"http://127.0.0.1:{proxy.port}", timeout=5)
        recording = proxy.recordings()[0]
    assert (found.status, words in found.error) == (status, True), found.completed
    assert len(said(recording)) == 1
    if status == 200:
        assert recording.outcome.status is Status.ESTABLISHED
    else:
        assert recording.outcome.broken_by is Party.PROXY


@pytest.mark.peer("curl")
def test_what_curl_makes_of_socks_replies(tmp_path: Path) -> None:
    answers = [ProxyAnswer(socks_reply=reply) for reply in (0, 1, 5)] + [ProxyAnswer(garbage=10)]
    with Answering(*answers, mode=Mode.SOCKS5) as proxy:
        ca, via = proxy.root_file(tmp_path), f"socks5h://127.0.0.1:{proxy.port}"
        found = [curl(proxy.url, ca=ca, proxy=via, timeout=5) for _ in answers]
    assert [(each.status, each.exit_code) for each in found] == [(200, 0), (0, 97), (0, 97), (0, 97)]
    assert "(5)" in found[2].error
    assert "wrong version" in found[3].error


def test_what_python_makes_of_answers(tmp_path: Path) -> None:
    """http.client reads a status line and fields, and no body behind a 200."""
    answers: list[dict[str, Any]] = [
        {"status": 403},
        {"status": 407},
        {"status": 200},
        {"status": 200, "version": "1.0"},
    ]
    found: list[str] = []
    with Answering(*[ProxyAnswer(**each) for each in answers]) as proxy:
        context = ssl.create_default_context(cafile=str(proxy.root_file(tmp_path)))
        for _ in answers:
            connection = http.client.HTTPSConnection("127.0.0.1", proxy.port, context=context, timeout=5)
            connection.set_tunnel("localhost", proxy.target_port)
            try:
                connection.request("GET", "/")
                found.append(str(connection.getresponse().status))
            except OSError as error:
                found.append(str(error))
            connection.close()
    assert found == [
        "Tunnel connection failed: 403 Forbidden",
        "Tunnel connection failed: 407 Proxy Authentication Required",
        "200",
        "200",
    ]


@pytest.mark.peer("java")
def test_what_a_jvm_makes_of_answers(tmp_path: Path) -> None:
    answers = [ProxyAnswer(status=403), ProxyAnswer(status=407), ProxyAnswer(status=502), ProxyAnswer(status=200)]
    with Answering(*answers) as proxy:
        done = java_client(
            f"https://instance.lab.test:{proxy.target_port}/",
            truststore=java_truststore(tmp_path / "trust.p12", proxy.root_file(tmp_path)),
            hosts={"instance.lab.test": "127.0.0.1"},
            proxy=("127.0.0.1", proxy.port),
            repeat=3,
        )
    words = [" ".join(attempt.causes) for attempt in done.attempts]
    assert 'Unable to tunnel through proxy. Proxy returns "HTTP/1.1 403 Forbidden"' in words[0]
    assert done.attempts[1].said["status"] == "407", "it gives the proxy's answer as if it were the target's"
    assert 'Unable to tunnel through proxy. Proxy returns "HTTP/1.1 502 Bad Gateway"' in words[2]


NODE = """
const [proxy, port] = process.argv.slice(1);
require('http').request({port: proxy, host: '127.0.0.1', method: 'CONNECT', path: 'localhost:' + port})
  .on('connect', (answer, socket, head) => { console.log(answer.statusCode, head.length); socket.destroy(); })
  .on('error', (error) => console.log(error.code)).end();
"""


@pytest.mark.peer("node")
def test_what_node_makes_of_answers() -> None:
    answers = [ProxyAnswer(status=403), ProxyAnswer(status=200, body="hello"), ProxyAnswer(garbage=20)]
    with Answering(*answers) as proxy:
        words = [
            run("node", "-e", NODE, str(proxy.port), str(proxy.target_port), timeout=20).stdout.split() for _ in answers
        ]
    assert words[0][0] == "403"
    assert words[1] == ["200", "5"], "the body is the beginning of the tunnel"
    assert words[2] == ["HPE_INVALID_CONSTANT"]


# -- reading -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ({"status": 100}, "status"),
        ({"version": "2"}, "version"),
        ({"headers": ["no colon"]}, "headers"),
        ({"headers": ["X: a\r\nY: b"]}, "headers"),
        ({"schemes": ["Kerberos"]}, "schemes"),
        ({"schemes": []}, "schemes"),
        ({"socks_reply": 256}, "socks_reply"),
        ({"chunked": True}, "chunked"),
        ({"delay": -1}, "delay"),
        ({"garbage": 0}, "garbage"),
        ({"hang": True, "body": "x"}, "hang"),
    ],
)
def test_an_answer_that_cannot_be_names_its_key(table: dict[str, Any], key: str) -> None:
    with pytest.raises(AnswerError) as wrong:
        ProxyAnswer(**table)
    assert wrong.value.key == key


def test_an_answer_says_what_it_is() -> None:
    answer = ProxyAnswer(status=407, schemes=("Basic", "NTLM"), every=1, cut_after=12)
    assert (
        answer.text() == "answered CONNECT with HTTP/1.1 407, wanting Basic or NTLM, again and again, a byte every 1 s,"
        " cut off after 12 bytes"
    )
