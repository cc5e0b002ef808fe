"""What a director orders: who signs in which step, whom it counts, when sessions are forgotten."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from countersign.ca import Authority, AuthorityError, KeyPool, Plan
from countersign.ca.presets import presets
from countersign.proxy import Action
from countersign.proxy.orders import Orders
from countersign.scenarios.catalogue import catalogue
from countersign.scenarios.clock import Clock
from countersign.scenarios.directing import ScenarioDirector
from countersign.scenarios.reading import Source, read_scenario
from tests.scenarios.driving import Time

if TYPE_CHECKING:
    from pathlib import Path

    from countersign.scenarios.model import Scenario

TRUSTED = Authority.make()
KNOWN = catalogue()


def scenario(text: str) -> Scenario:
    return read_scenario(Source(text, name="mine.toml", id="mine"), find=KNOWN.source)


class Directed:
    """A director with a clock that is moved by hand."""

    def __init__(self, text: str | Scenario, *, authority: Authority = TRUSTED, **given: Any) -> None:
        self.time = Time()
        self.director = ScenarioDirector(
            scenario(text) if isinstance(text, str) else text,
            authority,
            now=self.time.now,
            wall=self.time.wall,
            **given,
        )

    def connect(
        self, client: str = "192.0.2.1", sni: str | None = "host.test", target: str = "host.test:443"
    ) -> Orders:
        self.director.arriving(client)
        return self.director.orders(client, sni, target)


def chain(orders: Orders) -> Authority:
    assert orders.chain.authority is not None
    return orders.chain.authority


STEPS = """
    [[step]]
    [[step]]
    connections = 2
    rotate = "{what}"
    {more}
"""


@pytest.mark.parametrize(
    ("what", "more", "new"),
    [
        ("leaf", "", "generation"),
        ("intermediate", "", "issuer"),
        ("root", "", "root"),
        ("intermediate", "same_name = true", "key"),
        ("intermediate", "same_name = true\nsame_key = true", "certificate"),
    ],
)
def test_a_rotation_changes_what_it_says_and_nothing_else(what: str, more: str, new: str) -> None:
    directed = Directed(STEPS.format(what=what, more=more))
    first, second, third = (directed.connect() for _ in range(3))
    assert [each.step for each in (first, second, third)] == [1, 1, 2]
    before, after = chain(second), chain(third)
    assert chain(first).fingerprint == before.fingerprint == TRUSTED.fingerprint
    assert (third.chain.generation != first.chain.generation) is (new == "generation")
    assert (after.root.der != before.root.der) is (new == "root")
    assert (after.issuer.der != before.issuer.der) is (new != "generation")
    assert (after.issuer.subject != before.issuer.subject) is (new in {"issuer", "root"})
    assert (after.issuer.public_key != before.issuer.public_key) is (new in {"issuer", "root", "key"})


def test_a_new_root_is_vouched_for_by_the_old_one_only_where_that_is_said() -> None:
    for more, crossed in (("", 0), ("cross_signed = true", 1)):
        directed = Directed(STEPS.format(what="root", more=more))
        assert [len(chain(directed.connect()).crossed) for _ in range(3)] == [0, 0, crossed]


def test_sessions_are_forgotten_once_at_each_border_unless_they_are_to_be_kept() -> None:
    directed = Directed(STEPS.format(what="root", more=""))
    assert [directed.connect().forget_sessions for _ in range(5)] == [False, False, True, False, False]
    kept = Directed(STEPS.format(what="root", more="keep_sessions = true"))
    assert not any(kept.connect().forget_sessions for _ in range(5))
    flapping = Directed(KNOWN["flapping"])
    assert [flapping.connect().forget_sessions for _ in range(4)] == [False, True, True, True]


def test_what_was_made_ahead_is_what_a_rotation_takes_and_each_is_another() -> None:
    directed = Directed('schedule.order = "loop"\n[[step]]\nconnections = 1\nrotate = "intermediate"')
    issuers = [chain(directed.connect()).issuer.der for _ in range(6)]
    assert len(set(issuers)) == 6
    assert {chain(directed.connect()).root.der for _ in range(3)} == {TRUSTED.root.der}


def test_an_rsa_key_is_not_made_while_a_client_waits() -> None:
    """What is made ahead is made in a thread: the border takes no key generation of its own."""
    rsa = Authority.make(Plan(key="rsa:2048"))
    directed = Directed(STEPS.format(what="intermediate", more=""), authority=rsa)
    (thread, _made), = directed.director._shared.generations.ahead.values()  # fmt: skip
    thread.join(30)
    orders = [directed.connect() for _ in range(3)]
    assert chain(orders[2]).issuer.der != rsa.issuer.der


def test_another_issuer_than_the_trusted_one_is_made_for_the_run_and_stays() -> None:
    directed = Directed(KNOWN["flapping"])
    issuers = [chain(directed.connect()).root.der for _ in range(4)]
    assert issuers[0] == issuers[2] == TRUSTED.root.der
    assert issuers[1] == issuers[3] != issuers[0]
    assert directed.director.anchors(KeyPool()) == (TRUSTED.root.der,)
    assert [each.root.der for each in directed.director.authorities] == issuers[:2]


def test_what_a_client_has_to_trust_is_the_root_of_the_recipe_or_of_the_preset() -> None:
    pool = KeyPool()
    expired = Directed(KNOWN["root-expired"]).director.anchors(pool)
    assert len(expired) == 1
    assert expired != (TRUSTED.root.der,)
    both = Directed(KNOWN["cross-signed-by-an-expired-root"]).director.anchors(pool)
    assert len(both) == 2
    squid = Directed(KNOWN["inspected-by-squid"])
    assert squid.director.anchors(pool) == (squid.director.authorities[1].root.der,)
    assert squid.connect().chain.preset is presets()["squid"]


def test_a_depth_of_the_chain_is_made() -> None:
    directed = Directed("certificate.levels = 3")
    assert len(chain(directed.connect()).intermediates) == 3
    assert chain(Directed("certificate.levels = 0").connect()).intermediates == ()


def test_only_sessions_that_are_meant_are_counted_and_met() -> None:
    directed = Directed('match.sni = "*.host.test"\n' + STEPS.format(what="root", more=""))
    for _ in range(5):
        assert directed.connect(sni="other.test") == Orders()
        assert directed.connect(sni=None) == Orders()
    assert [directed.connect(sni="a.host.test").step for _ in range(3)] == [1, 1, 2]


def test_each_client_goes_its_own_way_where_it_should() -> None:
    directed = Directed('schedule.per = "client"\n' + STEPS.format(what="root", more=""))
    assert [directed.connect("192.0.2.1").step for _ in range(3)] == [1, 1, 2]
    assert [directed.connect("2001:db8::1").step for _ in range(3)] == [1, 1, 2]
    assert directed.connect("192.0.2.1").step == 2


def test_clients_beyond_number_are_not_remembered_for_ever() -> None:
    directed = Directed('schedule.per = "client"\n[[step]]\n[[step]]\nconnections = 1')
    for number in range(1100):
        directed.connect(f"192.0.2.{number}")
    assert len(directed.director._ways) == 1000


def test_in_a_run_all_connections_are_in_the_step_of_the_run() -> None:
    text = 'schedule.per = "run"\n[[step]]\n[[step]]\nconnections = 2\nrotate = "root"'
    directed = Directed(text)
    assert {directed.connect().step for _ in range(5)} == {1}
    assert [directed.director.next_run() for _ in range(3)] == [1, 2, 2]
    assert [directed.connect().forget_sessions for _ in range(2)] == [True, False]
    assert [Directed(text, run=run).connect().step for run in range(4)] == [1, 1, 2, 2]


def test_a_step_by_call_is_for_everybody_and_for_those_who_come() -> None:
    directed = Directed(KNOWN["rotation-on-call"])
    before = directed.connect()
    assert directed.director.step_to() == 2
    after = directed.connect()
    assert (before.step, after.step, after.forget_sessions) == (1, 2, True)
    assert chain(after).root.der != chain(before).root.der
    assert directed.director.step_to(1) == 1
    assert directed.connect().step == directed.director.current == 1


def test_a_step_that_may_end_sessions_before_a_hello_counts_when_clients_arrive() -> None:
    directed = Directed("[[step]]\nanswer.status = 407\n[[step]]\nconnections = 2")
    assert [directed.director.arriving("192.0.2.1").step for _ in range(3)] == [1, 1, 2]
    assert directed.director.orders("192.0.2.1", None, "host.test:443").step == 2
    tunnels = Directed("[[step]]\nanswer.status = 200\n[[step]]\nconnections = 2")
    assert [tunnels.connect().step for _ in range(3)] == [1, 1, 2]


def test_arriving_says_what_will_be_and_counts_nothing() -> None:
    directed = Directed("[[step]]\n[[step]]\nconnections = 1\nnetwork.latency = 1.0")
    assert [directed.director.arriving("192.0.2.1").network for _ in range(5)] == [None] * 5
    directed.connect()
    network = directed.director.arriving("192.0.2.1").network
    assert network is not None
    assert network.latency == 1.0


def test_time_passes_on_the_directors_clock() -> None:
    directed = Directed(KNOWN["zscaler-two-weeks"], clock=Clock(10000))
    first = directed.connect()
    directed.time.passed = 120
    second = directed.connect()
    directed.time.passed = 122
    third = directed.connect()
    assert chain(first).issuer.der == chain(second).issuer.der != chain(third).issuer.der
    assert chain(first).issuer.subject == chain(third).issuer.subject, "Zscaler's keeps its name"
    assert third.chain.recipe is not None
    assert third.chain.recipe.intermediate.not_after == "+121s"


def test_words_become_what_the_engine_takes() -> None:
    orders = Directed("""
        action = "intercept"
        protocol = { versions = ["TLSv1.3", "TLSv1.2"], groups = ["x25519"], alpn = "h2" }
        client_auth = { names = "roots", signature_algorithms = ["ed25519"], verify = false }
        stapling.body = "00"
        network.latency = 0.5
        answer.status = 200
        wire = [{ do = "cut" }]
    """).connect()
    assert orders.action is Action.INTERCEPT
    assert orders.protocol is not None
    assert (orders.protocol.versions, orders.protocol.groups, orders.protocol.alpn) == ((0x0303, 0x0304), (29,), b"h2")
    assert orders.client_auth is not None
    assert (orders.client_auth.names, orders.client_auth.trusted, len(orders.client_auth.authorities)) == (
        "roots",
        None,
        2,
    )
    assert orders.stapling is not None
    assert orders.stapling.body == b"\0"
    assert orders.network is not None
    assert orders.answer is not None
    assert [fault.do for fault in orders.faults] == ["cut"]


def test_a_director_neither_raises_nor_waits_for_anything_that_a_client_says() -> None:
    directed = Directed(KNOWN["rotation-for-each-client"])
    for client in ("", ":", "[::1]", "\0", "x" * 10000):
        for sni in (None, "", "\0", "*", "[", "x" * 10000):
            assert directed.connect(client, sni).step in {1, 2}


def test_a_client_of_an_unknown_ca_is_asked_by_a_server_that_trusts_another() -> None:
    clients = Authority.make(Plan(name="clients"))
    asked = Directed(KNOWN["client-of-an-unknown-ca"], clients=clients).connect().client_auth
    usual = Directed(KNOWN["certificate-asked"], clients=clients).connect().client_auth
    assert asked is not None
    assert usual is not None
    assert usual.trusted == (clients.root.der,)
    assert asked.trusted != usual.trusted
    assert clients.root.der not in asked.authorities


def test_a_rotation_of_a_ca_on_disk_leaves_it_there_as_it_is(tmp_path: Path) -> None:
    kept = Authority.create(tmp_path / "ca")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for what in ("intermediate", "root"):
        directed = Directed(STEPS.format(what=what, more=""), authority=kept)
        directed.director.point((kept,))
        assert len({chain(directed.connect()).issuer.der for _ in range(3)}) == 2
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_ca_whose_key_is_elsewhere_cannot_be_rotated_and_that_is_said_at_once() -> None:
    rootless = replace(TRUSTED, root=replace(TRUSTED.root, held=None))
    with pytest.raises(AuthorityError, match="'mine': it changes the intermediate, and the private key of 'CN=counter"):
        Directed(STEPS.format(what="intermediate", more=""), authority=rootless)
    with pytest.raises(AuthorityError, match="it changes the root"):
        Directed(STEPS.format(what="root", more="cross_signed = true"), authority=rootless)
    assert Directed(STEPS.format(what="root", more=""), authority=rootless).connect().step == 1


def test_an_authority_that_has_expired_meanwhile_is_not_rotated_and_nothing_raises() -> None:
    past = Authority.make(Plan(days=2, now=datetime.now(UTC) - timedelta(days=30)))
    directed = Directed(STEPS.format(what="intermediate", more=""), authority=past)
    assert [chain(directed.connect()).issuer.der for _ in range(3)] == [past.issuer.der] * 3
