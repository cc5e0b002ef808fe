"""Rules over a running proxy: what decides, what reading them again changes, and bypasses after a failure."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest

from countersign.proxy.ways.policy import parse_policy
from countersign.recorder.recording import LegRole, Status
from tests.proxy.running import RunningProxy
from tests.proxy.wire import (
    Target,
    alert,
    ask,
    client_context,
    client_hello,
    echo,
    in_records,
    send,
    server_context,
    tls,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.peers.certs import Lab

RULES = """
[[rule]]
sni = "secret.test"
action = "passthrough"

[[rule]]
sni = "forbidden.test"
action = "refuse"
"""


@pytest.fixture
def target(lab: Lab) -> Iterator[Target]:
    with Target(echo(server_context(lab.server))) as running:
        yield running


def test_the_first_rule_that_fits_decides(target: Target) -> None:
    with RunningProxy(target=target.address, verify=False, policy=parse_policy(RULES, name="x")) as proxy:
        ask(proxy, client_context(), name="secret.test")
        proxy.recordings(1)
        ask(proxy)
        proxy.recordings(2)
        assert send(proxy, in_records(client_hello(sni=b"forbidden.test"))) == alert("access_denied")
        recordings = proxy.recordings(3)
    assert [recording.action for recording in recordings] == ["passthrough", "intercept", "refuse"]
    assert [leg.role for leg in recordings[0].legs] == [LegRole.THROUGH]
    assert [recording.prelude["decision"] for recording in recordings] == [
        "rule 1 says passthrough", "no rule fits", "rule 2 says refuse"
    ]  # fmt: skip


def test_new_rules_are_for_new_connections(target: Target) -> None:
    with RunningProxy(target=target.address, verify=False) as proxy:
        with tls(proxy) as before:
            before.sendall(b"one")
            assert before.recv(10) == b"one"
            proxy.engine.use(parse_policy('default = "refuse"', name="x"))
            assert send(proxy, in_records(client_hello())) == alert("access_denied")
            before.sendall(b"two")
            assert before.recv(10) == b"two"
        recordings = proxy.recordings(2)
    assert sorted(recording.action for recording in recordings) == ["intercept", "refuse"]


def test_what_a_client_has_turned_down_passes_through(lab: Lab, target: Target) -> None:
    strict = client_context(lab.root_pem.read_text())
    with RunningProxy(target=target.address, verify=False, bypass_after_failure=True) as proxy:
        with pytest.raises(ssl.SSLCertVerificationError):
            ask(proxy, strict)
        first = proxy.recordings(1)[0]
        assert ask(proxy, strict) == b"good morning\n"
        proxy.recordings(2)
        assert ask(proxy, client_context(), name="server.lab.test") == b"good morning\n"
        recordings = proxy.recordings(3)
    assert (first.action, first.outcome.status, first.outcome.alert) == ("intercept", Status.FAILED, "unknown_ca")
    assert [recording.action for recording in recordings[1:]] == ["passthrough", "intercept"]
    assert "answered it with the alert unknown_ca" in recordings[1].prelude["decision"]


def test_what_fails_for_another_reason_is_intercepted_again(lab: Lab) -> None:
    def refuse(connection: object) -> None:
        pass

    with (
        Target(refuse) as target,
        RunningProxy(target=target.address, verify=False, bypass_after_failure=True) as proxy,
    ):
        for _ in range(2):
            send(proxy, in_records(client_hello()))
        assert [recording.action for recording in proxy.recordings(2)] == ["intercept"] * 2
