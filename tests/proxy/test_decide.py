"""What a policy decides is what happens, in the client's own words where it waits for an answer, and is recorded."""

from __future__ import annotations

from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

import pytest

from countersign.proxy import Mode
from countersign.proxy.ways.policy import RESET, Policy, Rule, TargetPattern, Verdict
from countersign.recorder.recording import FailureCode, LegRole, Party, Recording, Status, to_json
from countersign.recorder.wire.names import alert_name
from tests.proxy.running import RunningProxy
from tests.proxy.wire import (
    Target,
    alert,
    ask,
    client_context,
    client_hello,
    connect,
    connect_request,
    echo,
    in_records,
    rest,
    send,
    server_context,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.peers.certs import Lab

HELLO = in_records(client_hello())


@pytest.fixture
def target(lab: Lab) -> Iterator[Target]:
    with Target(echo(server_context(lab.server))) as running:
        yield running


def ruled(target: Target, *rules: Rule, **settings: Any) -> RunningProxy:
    policy = Policy(rules, default=settings.pop("default", Verdict.INTERCEPT))
    return RunningProxy(**{"target": target.address, "verify": False, "policy": policy, **settings})


def assert_refused(recording: Recording, reason: str) -> None:
    outcome = recording.outcome
    assert (outcome.status, outcome.broken_by) == (Status.FAILED, Party.PROXY), outcome
    assert recording.action == "refuse"
    assert [failure.code for failure in recording.failures] == [FailureCode.REFUSED_BY_RULE]
    assert f"does not serve this connection: {reason}" in outcome.text
    to_json(recording)


@pytest.mark.parametrize(("name", "role"), [("localhost", LegRole.THROUGH), ("other.test", LegRole.CLIENT)])
def test_the_rule_that_fits_decides(target: Target, name: str, role: LegRole) -> None:
    rule = Rule(1, sni=("localhost",), verdict=Verdict.PASSTHROUGH)
    with ruled(target, rule) as proxy:
        assert ask(proxy, client_context(), name=name) == b"good morning\n"
        recording = proxy.recording()
    assert recording.leg(role) is not None
    assert recording.action == ("passthrough" if role is LegRole.THROUGH else "intercept")


def test_a_default_decides_where_no_rule_fits(target: Target) -> None:
    with ruled(target, Rule(1, alpn=("h2",)), default=Verdict.PASSTHROUGH) as proxy:
        assert ask(proxy, client_context()) == b"good morning\n"
        assert proxy.recording().action == "passthrough"


@pytest.mark.parametrize("name", [None, "unrecognized_name"])
def test_a_refusal_is_an_alert_to_the_client_and_the_target_is_not_dialled(target: Target, name: str | None) -> None:
    rule = Rule(3, name="no lab", sni=("localhost",), verdict=Verdict.REFUSE, refuse_with=name)
    with ruled(target, rule) as proxy:
        assert send(proxy, HELLO) == alert(name or "access_denied")
        recording = proxy.recording()
    assert_refused(recording, "rule 3 (no lab) says refuse")
    assert recording.sni == "localhost"
    assert alert_name(recording.legs[0].messages[-1].code) == (name or "access_denied")
    assert not target.connections


def test_a_refusal_is_a_reset_where_the_rule_says_so(target: Target) -> None:
    rule = Rule(1, sni=("localhost",), verdict=Verdict.REFUSE, refuse_with=RESET)
    with ruled(target, rule) as proxy:
        with connect(proxy) as connection:
            connection.sendall(HELLO)
            with pytest.raises(ConnectionResetError):
                connection.recv(1)
        recording = proxy.recording()
    assert_refused(recording, "rule 1 says refuse")


def test_who_does_not_speak_tls_is_refused_with_a_reset(target: Target) -> None:
    rule = Rule(1, client=(ip_network("127.0.0.0/8"),), verdict=Verdict.REFUSE, refuse_with="access_denied")
    with ruled(target, rule) as proxy:
        with connect(proxy) as connection:
            connection.sendall(b"EHLO me\r\n")
            with pytest.raises(ConnectionResetError):
                connection.recv(1)
        recording = proxy.recording()
    assert_refused(recording, "rule 1 says refuse")
    assert not target.connections


@pytest.mark.parametrize(
    "rule",
    [
        Rule(1, client=(ip_network("127.0.0.0/8"),), verdict=Verdict.REFUSE),
        Rule(1, target=(TargetPattern("127.0.0.1"),), verdict=Verdict.REFUSE),
    ],
    ids=["client", "target"],
)
def test_a_refusal_that_needs_no_hello_is_told_in_the_words_of_the_prelude(target: Target, rule: Rule) -> None:
    settings: dict[str, Any] = {"mode": Mode.CONNECT, "verify": False, "policy": Policy((rule,))}
    with RunningProxy(**settings) as proxy:
        answer = send(proxy, connect_request("127.0.0.1", target.address.port))
        assert answer.startswith(b"HTTP/1.1 403 ")
        assert b"rule 1 says refuse" in answer
        recording = proxy.recording()
    assert_refused(recording, "rule 1 says refuse")
    assert recording.prelude["answer"] == 403
    assert not target.connections


def test_a_refusal_by_name_comes_after_the_tunnel(target: Target) -> None:
    rule = Rule(1, sni=("localhost",), verdict=Verdict.REFUSE)
    with RunningProxy(mode=Mode.CONNECT, verify=False, policy=Policy((rule,))) as proxy:
        with connect(proxy) as connection:
            connection.sendall(connect_request("127.0.0.1", target.address.port) + HELLO)
            answer = rest(connection)
        recording = proxy.recording()
    assert answer == b"HTTP/1.1 200 Connection established\r\n\r\n" + alert("access_denied")
    assert_refused(recording, "rule 1 says refuse")


def test_a_fingerprint_is_made_only_if_a_rule_asks_for_it(target: Target) -> None:
    with ruled(target) as proxy:
        send(proxy, HELLO, finish=True)
        fingerprint = proxy.recording().legs[0].read().ja4
    assert fingerprint is not None
    with ruled(target, Rule(1, ja4=(fingerprint,), verdict=Verdict.REFUSE)) as proxy:
        assert send(proxy, HELLO) == alert("access_denied")
