"""A prelude is a value: any way in that gives what was asked works, alone and in front of or behind another."""

from __future__ import annotations

import socket
from dataclasses import dataclass, replace
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

import pytest

from countersign.proxy import Mode, parse_address, session as session_module
from countersign.proxy.dial import DialFailed
from countersign.proxy.prelude import Asked, Prelude, PreludeFailed, Reach
from countersign.proxy.ways.policy import Policy, Rule, Verdict
from countersign.recorder.recording import FailureCode, Party, Status
from tests.proxy.running import RunningProxy
from tests.proxy.wire import (
    Target,
    alert,
    ask,
    client_context,
    client_hello,
    connect,
    echo,
    in_records,
    rest,
    send,
    server_context,
    tls,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from countersign.proxy import Address
    from countersign.proxy.stream import Stream
    from tests.peers.certs import Lab


async def line(stream: Stream) -> str:
    said = b""
    while b"\n" not in said:
        data = await stream.read()
        if not data:
            raise PreludeFailed(FailureCode.NO_REQUEST, "left before it had said where to go")
        said += data
    first, _, rest_ = said.partition(b"\n")
    stream.unread(rest_)
    return first.decode()


@dataclass(frozen=True)
class Reply:
    stream: Stream

    def granted(self) -> Mapping[str, Any]:
        self.stream.write(b"OK\n")
        return {"answer": "OK"}

    def refused(self, code: FailureCode, text: str) -> Mapping[str, Any]:
        self.stream.write(f"NO {code}: {text}\n".encode())
        return {"answer": "NO"}


@dataclass(frozen=True)
class Line:
    """The client says ``HOST:PORT`` in a line, and waits for ``OK``."""

    async def run(self, stream: Stream, reach: Reach) -> Asked:
        asked = await line(stream)
        assert reach.limits.hello
        return Asked(parse_address(asked, what="test"), record={"line": asked}, reply=Reply(stream))


@dataclass(frozen=True)
class Header:
    """Something in front that says who the client is."""

    inner: Prelude

    async def run(self, stream: Stream, reach: Reach) -> Asked | None:
        who = await line(stream)
        reach.note({"who": who}, client=who)
        return await self.inner.run(stream, reach)


@dataclass(frozen=True)
class Banner:
    """A dialogue behind another prelude: the target speaks first, then the client says START."""

    inner: Prelude

    async def run(self, stream: Stream, reach: Reach) -> Asked | None:
        asked = await self.inner.run(stream, reach)
        assert asked is not None
        target = await reach.open(asked)
        stream.write(await target.read())
        said = await line(stream)
        return replace(asked, reply=None, record={**asked.record, "said": said})


@dataclass(frozen=True)
class Served:
    """Answers each line by itself, with what the target that it names says first."""

    async def run(self, stream: Stream, reach: Reach) -> None:
        while True:
            try:
                asked = await line(stream)
            except PreludeFailed:
                return
            try:
                target, _ = await reach.fetch(parse_address(asked, what="test"))
            except DialFailed as failed:
                stream.write(f"NO {failed.code}\n".encode())
                continue
            stream.write(await target.read())
            target.close()


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[Prelude], RunningProxy]:
    def with_it(prelude: Prelude, **settings: Any) -> RunningProxy:
        monkeypatch.setattr(session_module, "prelude_of", lambda _: prelude)
        return RunningProxy(**{"mode": Mode.CONNECT, "verify": False, **settings})

    return with_it


@pytest.fixture
def target(lab: Lab) -> Iterator[Target]:
    with Target(echo(server_context(lab.server))) as running:
        yield running


def asked_for(proxy: RunningProxy, *lines: str) -> socket.socket:
    connection = connect(proxy)
    connection.sendall("".join(f"{one}\n" for one in lines).encode())
    return connection


def heard(connection: socket.socket, count: int) -> bytes:
    said = b""
    while len(said) < count:
        data = connection.recv(count - len(said))
        assert data, said
        said += data
    return said


def test_a_way_in_of_another_kind(use: Callable[[Prelude], RunningProxy], target: Target) -> None:
    with use(Line()) as proxy:
        connection = asked_for(proxy, str(target.address))
        assert heard(connection, 3) == b"OK\n"
        with tls(proxy, client_context(), connection=connection) as client:
            client.sendall(b"through")
            assert client.recv(100) == b"through"
        recording = proxy.recording()
    assert recording.outcome.status is Status.ESTABLISHED
    assert recording.target == str(target.address)
    assert recording.prelude == {"line": str(target.address), "answer": "OK"}


def test_a_failed_dial_is_told_in_its_words(use: Callable[[Prelude], RunningProxy], free_port: int) -> None:
    with use(Line()) as proxy:
        with asked_for(proxy, f"127.0.0.1:{free_port}") as connection:
            assert rest(connection).startswith(b"NO dial-refused: the target refuses TCP connections")
        recording = proxy.recording()
    assert recording.prelude["answer"] == "NO"
    assert [failure.code for failure in recording.failures] == [FailureCode.DIAL_REFUSED]


def test_what_may_not_be_dialled_may_not_be_dialled_that_way_either(use: Callable[[Prelude], RunningProxy]) -> None:
    with use(Line()) as proxy:
        with asked_for(proxy, str(proxy.port).join(("127.0.0.1:", ""))) as connection:
            assert b"NO target-not-allowed" in rest(connection)
        assert proxy.recording().outcome.broken_by is Party.PROXY


def test_one_in_front_of_another(use: Callable[[Prelude], RunningProxy], target: Target) -> None:
    with use(Header(Line())) as proxy:
        connection = asked_for(proxy, "192.0.2.77:1234", str(target.address))
        assert heard(connection, 3) == b"OK\n"
        tls(proxy, client_context(), connection=connection).close()
        recording = proxy.recording()
    assert recording.client == "192.0.2.77:1234"
    assert recording.prelude["who"] == "192.0.2.77:1234"


def test_a_rule_is_about_the_client_that_is_told_from_in_front(
    use: Callable[..., RunningProxy], target: Target
) -> None:
    rule = Rule(1, client=(ip_network("192.0.2.0/24"),), verdict=Verdict.REFUSE)
    with use(Header(Line()), policy=Policy((rule,))) as proxy:
        with asked_for(proxy, "198.51.100.1:5", str(target.address)) as connection:
            assert heard(connection, 3) == b"OK\n"
        with asked_for(proxy, "192.0.2.77:1234", str(target.address)) as connection:
            assert rest(connection).startswith(b"NO refused-by-rule")
        proxy.recordings(2)


def test_one_behind_another_that_talks_to_the_target(use: Callable[[Prelude], RunningProxy], lab: Lab) -> None:
    def greet(connection: socket.socket) -> None:
        connection.sendall(b"220 welcome\n")
        echo(server_context(lab.server))(connection)

    with Target(greet) as target, use(Banner(Line())) as proxy:
        connection = asked_for(proxy, str(target.address), "START")
        assert heard(connection, 15) == b"OK\n220 welcome\n"
        with tls(proxy, client_context(), connection=connection) as client:
            client.sendall(b"through")
            assert client.recv(100) == b"through"
        recording = proxy.recording()
    assert recording.outcome.status is Status.ESTABLISHED
    assert recording.prelude["said"] == "START"
    assert len(target.connections) == 1


def test_a_failed_dial_behind_another_ends_the_session_once(
    use: Callable[[Prelude], RunningProxy], free_port: int
) -> None:
    with use(Banner(Line())) as proxy:
        with asked_for(proxy, f"127.0.0.1:{free_port}") as connection:
            assert rest(connection).count(b"NO dial-refused") == 1
        recording = proxy.recording()
    assert [failure.code for failure in recording.failures] == [FailureCode.DIAL_REFUSED]


@dataclass(frozen=True)
class ByName:
    """The server name chooses."""

    targets: Mapping[str | None, Address]

    async def run(self, stream: Stream, reach: Reach) -> Asked:  # noqa: ARG002
        return Asked(None, by_name=self.targets.get, by_client=False)


def test_the_server_name_chooses_the_target(use: Callable[[Prelude], RunningProxy], target: Target) -> None:
    with use(ByName({"localhost": target.address})) as proxy:
        assert ask(proxy, client_context()) == b"good morning\n"
        recording = proxy.recording()
    assert (recording.outcome.status, recording.target) == (Status.ESTABLISHED, str(target.address))


@pytest.mark.parametrize(("name", "words"), [(b"other.test", "the server name other.test"), (None, "no server name")])
def test_a_server_name_without_a_target_is_refused(
    use: Callable[[Prelude], RunningProxy], target: Target, name: bytes | None, words: str
) -> None:
    with use(ByName({"localhost": target.address})) as proxy:
        assert send(proxy, in_records(client_hello(sni=name))) == alert("unrecognized_name")
        recording = proxy.recording()
    assert recording.outcome.broken_by is Party.PROXY
    assert f"has no target for {words}" in recording.outcome.text
    assert [failure.code for failure in recording.failures] == [FailureCode.NO_TARGET]
    assert recording.target is None
    assert not target.connections


def test_one_that_serves_the_client_by_itself(use: Callable[[Prelude], RunningProxy], free_port: int) -> None:
    with Target(lambda connection: connection.sendall(b"welcome\n")) as target, use(Served()) as proxy:
        asked = [str(target.address), f"127.0.0.1:{free_port}", str(target.address), f"127.0.0.1:{proxy.port}"]
        with asked_for(proxy, *asked) as connection:
            connection.shutdown(socket.SHUT_WR)
            said = rest(connection)
        recording = proxy.recording()
    assert said == b"welcome\nNO dial-refused\nwelcome\nNO target-not-allowed\n"
    assert (recording.outcome.status, recording.failures) == (Status.NOT_TLS, ())
    assert recording.from_target == 2 * len(b"welcome\n")
    assert len(target.connections) == 2


def test_a_client_that_does_not_ask_is_recorded_with_the_reason(use: Callable[[Prelude], RunningProxy]) -> None:
    with use(Line()) as proxy:
        connect(proxy).close()
        recording = proxy.recording()
    assert [failure.code for failure in recording.failures] == [FailureCode.NO_REQUEST]
    assert "left before it had said where to go" in recording.outcome.text
