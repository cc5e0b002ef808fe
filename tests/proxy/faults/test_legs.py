"""Faults on both legs and in both directions, what goes with them on the recording, and what is left alone."""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING, Any

import pytest
from OpenSSL import SSL

from countersign.ca.recipes import catalogue
from countersign.proxy import SecretsKept
from countersign.proxy.faults import FAULTS, read_fault
from countersign.proxy.network import Network
from countersign.proxy.orders import ChainOrders, Orders, ProtocolOrders
from countersign.recorder.files.ladder import render_ladder
from countersign.recorder.recording import LegRole, Party, Status
from countersign.recorder.wire.messages import message_type
from countersign.recorder.wire.reading import read_leg
from tests.peers.curl import curl
from tests.proxy.faults.facing import REQUEST, TLS12, TLS13, OneAfterAnother, by_java, by_python, leg_of
from tests.proxy.running import RunningProxy

if TYPE_CHECKING:
    from pathlib import Path

    from countersign.recorder.recording import Recording
    from tests.proxy.faults.facing import Said


def meets(
    tmp_path: Path, *faults: dict[str, object], version: int | None = None, **settings: Any
) -> tuple[Said, Recording]:
    """A Python client's connection that meets these faults."""
    protocol = None if version is None else ProtocolOrders(versions=(version, version))
    orders = Orders(faults=tuple(read_fault(fault) for fault in faults), protocol=protocol)
    with RunningProxy(orders=orders, **settings) as proxy:
        (said,) = by_python(proxy.port, proxy.root_file(tmp_path), 1)
        return said, proxy.recording()


def names(recording: Recording, role: str = "client") -> list[str]:
    """The messages of a leg, and who sent them."""
    return [f"{one.sender} {message_type(one.content, one.code, one.raw)}" for one in leg_of(recording, role).messages]


def proof(recording: Recording, fault: dict[str, object]) -> str | None:
    read = read_fault(fault)
    return FAULTS[read.do].proof(recording, read)


def test_what_was_done_to_the_network_and_to_messages_is_told_in_its_order(tmp_path: Path) -> None:
    wrong = read_fault({"do": "wrong_finished", "leg": "client"})
    with RunningProxy(orders=Orders(network=Network(latency=0.01), faults=(wrong,))) as proxy:
        by_python(proxy.port, proxy.root_file(tmp_path), 1)
        faults = leg_of(proxy.recording(), "client").faults
    assert [fault["do"] for fault in faults] == ["network", "wrong_finished"]
    assert faults[0]["t"] < faults[1]["t"]


# -- the server leg ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [None, TLS12])
def test_our_finished_can_be_wrong_for_the_target(tmp_path: Path, version: int | None) -> None:
    fault: dict[str, object] = {"do": "wrong_finished", "leg": "server"}
    said, recording = meets(tmp_path, fault, version=version)
    assert not said.ok
    assert proof(recording, fault) is None
    assert recording.outcome.broken_by in {Party.TARGET, Party.PROXY}
    assert recording.outcome.alert == "decrypt_error"


def test_the_targets_certificate_can_be_broken_on_its_way_to_us(tmp_path: Path) -> None:
    """What came is on the recording as it came; what OpenSSL made of it, too."""
    fault: dict[str, object] = {"do": "corrupt", "leg": "server", "to": "proxy", "at": "certificate", "byte": -30}
    said, recording = meets(tmp_path, fault)
    assert not said.ok
    assert proof(recording, fault) is None
    assert "client alert" in names(recording, "server")
    (entry,) = leg_of(recording, "server").faults
    assert entry["message"] == names(recording, "server").index("server certificate")


def test_an_alert_of_the_targets_can_be_made_up(tmp_path: Path) -> None:
    fault: dict[str, object] = {"do": "alert", "leg": "server", "to": "proxy", "alert": "access_denied"}
    said, recording = meets(tmp_path, fault)
    assert "access denied" in said.text
    assert proof(recording, fault) is None


def test_the_targets_finished_may_come_twice(tmp_path: Path) -> None:
    fault: dict[str, object] = {"do": "duplicate", "leg": "server", "to": "proxy", "at": "finished"}
    said, recording = meets(tmp_path, fault)
    assert not said.ok
    assert proof(recording, fault) is None


@pytest.mark.parametrize("version", [None, TLS12])
def test_what_the_client_finishes_with_can_be_broken_on_its_way_to_us(tmp_path: Path, version: int | None) -> None:
    """Below TLS 1.3 OpenSSL logs no secret that early; it is asked for it."""
    fault: dict[str, object] = {"do": "wrong_finished", "to": "proxy"}
    said, recording = meets(tmp_path, fault, version=version)
    assert "decrypt error" in said.text
    assert proof(recording, fault) is None
    assert "client finished" in names(recording)


@pytest.mark.parametrize("version", [None, TLS12])
def test_small_records_of_the_client_are_taken(tmp_path: Path, version: int | None) -> None:
    fault: dict[str, object] = {"do": "split_records", "to": "proxy", "at": "finished", "size": 3}
    said, recording = meets(tmp_path, fault, version=version)
    assert said.ok
    assert recording.outcome.status is Status.ESTABLISHED


# -- post-quantum groups -------------------------------------------------------------------------------------------


def post_quantum(tmp_path: Path, fault: dict[str, object]) -> tuple[str, Recording]:
    """A client whose OpenSSL offers a post-quantum group first; what it gets, or what it says."""
    context = SSL.Context(SSL.TLS_METHOD)
    assert SSL._lib.SSL_CTX_set1_curves_list(context._context, b"X25519MLKEM768:X25519") == 1  # type: ignore[attr-defined]
    context.set_verify(SSL.VERIFY_PEER)
    with RunningProxy(orders=Orders(faults=(read_fault(fault),))) as proxy:
        context.load_verify_locations(str(proxy.root_file(tmp_path)))
        with socket.create_connection(proxy.address, timeout=10) as raw:
            raw.settimeout(None)
            connection = SSL.Connection(context, raw)
            connection.set_tlsext_host_name(b"localhost")
            connection.set_connect_state()
            try:
                connection.sendall(REQUEST)
                said = connection.recv(1000).decode()
            except SSL.Error as error:
                said = str(error)
        return said, proxy.recording()


def test_post_quantum_groups_can_be_taken_out_of_our_hello(tmp_path: Path) -> None:
    fault: dict[str, object] = {"do": "strip_post_quantum", "leg": "server"}
    _, recording = post_quantum(tmp_path, fault)
    assert proof(recording, fault) is None
    assert recording.outcome.status is Status.FAILED
    hello = leg_of(recording, "server").messages[0]
    assert read_leg([hello]).messages[0].value is not None
    assert bytes.fromhex("11ec") not in hello.raw[70:]


def test_a_client_that_offers_post_quantum_groups_can_be_refused(tmp_path: Path) -> None:
    fault: dict[str, object] = {"do": "refuse_post_quantum", "alert": "handshake_failure"}
    said, recording = post_quantum(tmp_path, fault)
    assert "handshake failure" in said
    assert proof(recording, fault) is None
    assert names(recording)[:2] == ["client client_hello", "server alert"]


def test_one_that_offers_none_is_served(tmp_path: Path) -> None:
    """Nothing is said to have been applied that was not."""
    fault: dict[str, object] = {"do": "refuse_post_quantum"}
    said, recording = meets(tmp_path, fault)
    assert said.ok
    assert "was not applied" in str(proof(recording, fault))
    assert leg_of(recording).faults == ()


# -- a handshake that is made anew ---------------------------------------------------------------------------------


@pytest.mark.parametrize("group", [0x001D, 0x0017, 0x0018, 0x0019, 0x001E], ids=hex)
def test_a_recast_handshake_carries_data_with_each_group(tmp_path: Path, group: int) -> None:
    """The random is another one, the transcript knows it, and so nobody can notice."""
    fault = read_fault({"do": "corrupt", "at": "server_hello", "field": "random", "consistent": True})
    with RunningProxy(orders=Orders(faults=(fault,), protocol=ProtocolOrders(groups=(group,)))) as proxy:
        (said,) = by_python(proxy.port, proxy.root_file(tmp_path), 1)
        recording = proxy.recording()
    assert said.ok, said.text
    assert recording.outcome.status is Status.ESTABLISHED
    retried = "server hello_retry_request" in names(recording)
    assert retried == (group != 0x001D)  # OpenSSL 3.0 sends a share of X25519 alone


@pytest.mark.parametrize("suite", [0x1301, 0x1302, 0x1303], ids=hex)
def test_a_recast_handshake_carries_data_with_each_suite(tmp_path: Path, suite: int) -> None:
    fault = read_fault({"do": "corrupt", "at": "server_hello", "field": "random", "consistent": True})
    with RunningProxy(orders=Orders(faults=(fault,), protocol=ProtocolOrders(ciphers=(suite,)))) as proxy:
        (said,) = by_python(proxy.port, proxy.root_file(tmp_path), 1)
    assert said.ok, said.text


def test_a_recast_handshake_carries_data_with_a_post_quantum_group(tmp_path: Path) -> None:
    fault: dict[str, object] = {"do": "corrupt", "at": "server_hello", "field": "random", "consistent": True}
    said, recording = post_quantum(tmp_path, fault)
    assert "200" in said
    assert proof(recording, fault) is None
    assert leg_of(recording).read().group == "X25519MLKEM768"


UNSERVED = [recipe for recipe in catalogue().values() if recipe.role == "server" and not recipe.served]


@pytest.mark.peer("curl")
@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("recipe", UNSERVED, ids=lambda recipe: recipe.id)
def test_a_chain_that_openssl_cannot_serve_is_served(tmp_path: Path, recipe: Any, version: str) -> None:
    """What curl has against it is the certificate, and with --insecure the rest of the handshake is right."""
    with RunningProxy(orders=Orders(chain=ChainOrders(recipe=recipe))) as proxy:
        url, ca = f"https://localhost:{proxy.port}/", proxy.root_file(tmp_path)
        refused = curl(url, "--tls-max", version, ca=ca)
        insecure = curl(url, "--tls-max", version, "--insecure")
        recordings = proxy.recordings(2)
    assert not refused.ok
    assert re.search("certificate|asn1|length mismatch", refused.error, re.IGNORECASE), refused.error
    assert insecure.ok == recipe.id.startswith("leaf-time"), insecure.error  # the others cannot be read at all
    for recording in recordings:
        leg = leg_of(recording)
        assert [entry["do"] for entry in leg.faults] == ["certificate"]
        sent = [one.der for one in leg.read().certificates if one.sender == "server"]
        assert len(sent) == (0 if recipe.id == "sent-nothing" else 2)


@pytest.mark.peer("curl")
def test_what_cannot_be_shown_is_not_replaced_by_something_else(tmp_path: Path) -> None:
    """A suite with CBC: nobody is shown what OpenSSL was given to hold."""
    protocol = ProtocolOrders(versions=(TLS12, TLS12), ciphers=(0xC009, 0xC013))
    with RunningProxy(orders=Orders(chain=ChainOrders(recipe=UNSERVED[0]), protocol=protocol)) as proxy:
        suites = "ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA"
        answer = curl(f"https://localhost:{proxy.port}/", "--ciphers", suites, "--insecure")
        recording = proxy.recording()
    assert "alert internal error" in answer.error
    assert leg_of(recording).faults == ()
    assert leg_of(recording).read().certificates == ()
    assert "cannot serve this chain" in recording.outcome.text


@pytest.mark.peer("java", "javac", "keytool")
def test_a_jvm_says_of_such_a_chain_what_it_says_of_it_in_a_file(tmp_path: Path) -> None:
    orders = [
        Orders(chain=ChainOrders(recipe=recipe), protocol=ProtocolOrders(versions=(version, version)))
        for recipe in UNSERVED
        for version in (TLS12, TLS13)
    ]
    with RunningProxy(director=OneAfterAnother(orders)) as proxy:
        said = by_java(proxy.port, proxy.root_file(tmp_path), len(orders))
    for given, answer in zip(orders, said, strict=True):
        assert given.chain.recipe is not None
        expected = given.chain.recipe.jvm
        if given.chain.recipe.id == "sent-nothing":  # in a file there is no message that could be empty
            expected = "Empty server certificate chain"
        assert answer.ok == (expected == "accepts"), answer
        assert answer.ok or expected in answer.text


def test_a_missing_message_is_noticed_though_all_else_is_right(tmp_path: Path) -> None:
    """With ``consistent`` off a client that overlooks it fails at Finished; with it on the message is all there is."""
    for consistent in (True, False):
        said, _ = meets(tmp_path, {"do": "drop", "at": "certificate_verify", "consistent": consistent})
        assert "unexpected message" in said.text


# -- the recording -------------------------------------------------------------------------------------------------


def test_no_secret_is_kept_without_being_asked_for(tmp_path: Path) -> None:
    _, recording = meets(tmp_path, {"do": "ticket_flood"}, {"do": "unsolicited_extension"})
    assert all(leg.secrets == () for leg in recording.legs)


@pytest.mark.parametrize("kind", ["record_padding", "unsolicited_extension"])
def test_the_secrets_that_are_kept_open_the_wire(tmp_path: Path, kind: str) -> None:
    """Those of a recast handshake are the client's, not OpenSSL's."""
    _, recording = meets(tmp_path, {"do": kind}, secrets=SecretsKept.ALL)
    labels = {secret.label for secret in leg_of(recording).secrets}
    assert {"CLIENT_HANDSHAKE_TRAFFIC_SECRET", "SERVER_TRAFFIC_SECRET_0"} <= labels
    randoms = {secret.client_random for secret in leg_of(recording).secrets}
    assert randoms == {leg_of(recording).messages[0].raw[6:38]}


def test_the_ladder_shows_what_was_done(tmp_path: Path) -> None:
    _, recording = meets(tmp_path, {"do": "drop", "at": "certificate"})
    assert "left out the certificate" in render_ladder(recording, width=140)


def test_two_faults_of_one_direction_are_both_applied(tmp_path: Path) -> None:
    faults: list[dict[str, object]] = [{"do": "one_byte_records"}, {"do": "ticket_flood", "count": 3}]
    said, recording = meets(tmp_path, *faults)
    assert said.ok
    assert [proof(recording, fault) for fault in faults] == [None, None]


def test_the_second_of_a_name_can_be_meant(tmp_path: Path) -> None:
    _, recording = meets(tmp_path, {"do": "drop", "at": "new_session_ticket", "occurrence": 2, "consistent": False})
    assert names(recording).count("server new_session_ticket") == 1


@pytest.mark.parametrize("do", ["bad_server_key_exchange", "early_change_cipher_spec", "downgrade_sentinel"])
def test_what_needs_tls12_is_not_done_in_tls13(tmp_path: Path, do: str) -> None:
    fault: dict[str, object] = {"do": do}
    said, recording = meets(tmp_path, fault)
    assert said.ok
    assert "was not applied" in str(proof(recording, fault))


@pytest.mark.peer("curl")
@pytest.mark.parametrize("fault", [{"do": "wrong_finished"}, {"do": "alert", "at": "finished"}])
def test_what_cannot_be_sealed_is_left_alone(tmp_path: Path, fault: dict[str, object]) -> None:
    """Below TLS 1.3 a suite with CBC is not sealed anew: nothing is done, and nothing is said to have been done."""
    protocol = ProtocolOrders(versions=(TLS12, TLS12), ciphers=(0xC009, 0xC013))
    with RunningProxy(orders=Orders(faults=(read_fault(fault),), protocol=protocol)) as proxy:
        ca = proxy.root_file(tmp_path)
        suites = "ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA"
        answer = curl(f"https://localhost:{proxy.port}/", "--ciphers", suites, ca=ca)
        recording = proxy.recording()
    assert answer.ok, answer.error
    assert recording.leg(LegRole.CLIENT) is not None
    assert "was not applied" in str(proof(recording, fault))
