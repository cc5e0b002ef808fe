"""What is ordered for the client leg: certificates that clients are asked for, versions, suites, groups, resumption."""

from __future__ import annotations

import contextlib
import ssl
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from countersign.ca import Authority, issue
from countersign.ca.recipes import catalogue
from countersign.errors import UserError
from countersign.proxy import Mtls
from countersign.proxy.orders import ClientAuthOrders, Orders, ProtocolOrders
from countersign.recorder.recording import FailureCode, LegRole, Party, Status, to_json
from tests.peers.openssl import openssl_client
from tests.proxy.ordered import HOST, Scripted, look, trusting
from tests.proxy.running import AUTHORITY, RunningProxy

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from countersign.ca import Minted
    from countersign.recorder.recording import Recording

CLIENTS = Authority.make()
ROOTS = (CLIENTS.root.der,)
BOTH = (CLIENTS.issuer.der, CLIENTS.root.der)
TLS12, TLS13 = 0x0303, 0x0304


def identity(minted: Minted, folder: Path) -> tuple[str, ...]:
    """What ``s_client`` takes to show this certificate with its chain."""
    from countersign.ca.keeping import key_to_pem
    from countersign.ca.pem import to_pem

    assert not isinstance(minted.key, bytes)
    leaf, key, chain = (folder / f"{name}.pem" for name in ("leaf", "key", "chain"))
    leaf.write_bytes(to_pem(minted.chain[0]))
    key.write_bytes(key_to_pem(minted.key))
    chain.write_bytes(b"".join(map(to_pem, minted.chain[1:])))
    return ("-cert", str(leaf), "-key", str(key), *(("-cert_chain", str(chain)) if minted.chain[1:] else ()))


def ask(orders: Orders, folder: Path, *args: str, version: str | None = None, **settings: Any) -> tuple[str, Recording]:
    """What ``s_client`` says behind these orders, and the recording."""
    with RunningProxy(orders=orders, **settings) as proxy:
        client = openssl_client(
            f"127.0.0.1:{proxy.port}",
            *args,
            ca=proxy.root_file(folder),
            name=HOST,
            version=version,
            send=b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            until="seen over|alert|closed|errno",
        )
        return client.output + client.completed.stderr, proxy.recording()


# -- certificates of clients -------------------------------------------------------------------------------------


@pytest.mark.peer("openssl")
@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
@pytest.mark.parametrize(
    ("names", "shown"),
    [
        ("full", ["intermediate", "root"]),
        ("roots", ["root"]),
        ("intermediates", ["intermediate"]),
        ("empty", []),
        ("others", ["somebody else 1", "somebody else 2", "somebody else 3"]),
    ],
)
def test_a_client_is_asked_under_the_names_that_are_ordered(
    tmp_path: Path, names: Any, shown: list[str], version: str
) -> None:
    orders = Orders(client_auth=ClientAuthOrders(names=names, authorities=BOTH, required=False))
    said, recording = ask(orders, tmp_path, version=version)
    assert "no client certificate" in said, said
    listed = said.partition("Acceptable client certificate CA names")[2].partition("Client Certificate Types")[0]
    listed = listed.partition("Requested Signature")[0]
    assert all(each in listed for each in shown)
    assert listed.count("CN = ") == len(shown)
    asked = recording.mtls["asked_of_client"]["certificate_authorities"]
    assert len(asked) == len(shown)
    assert recording.mtls["chosen"] == {"certificates": 0}


@pytest.mark.peer("openssl")
def test_given_names_and_schemes_go_out_as_they_are(tmp_path: Path) -> None:
    name = bytes.fromhex("300f310d300b06035504030c04 4f746865".replace(" ", ""))
    auth = ClientAuthOrders(names=(name,), signature_algorithms=(0x0804, 0x0403), required=False)
    _, recording = ask(Orders(client_auth=auth), tmp_path)
    asked = recording.mtls["asked_of_client"]
    assert [bytes.fromhex(each["der"]) for each in asked["certificate_authorities"]] == [name]
    assert asked["signature_algorithms"] == ["rsa_pss_rsae_sha256", "ecdsa_secp256r1_sha256"]


@pytest.mark.peer("openssl")
@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
@pytest.mark.parametrize("trusted", [None, ROOTS], ids=["any", "of ours"])
def test_ordered_groups_bind_the_key_exchange_and_not_the_clients_certificate(
    trusted: tuple[bytes, ...] | None, version: str, tmp_path: Path
) -> None:
    """RFC 8422 5.1.1: below TLS 1.3 the groups speak of certificates too, but of those that the client takes."""
    shown = identity(issue(CLIENTS, "client.lab.test", purpose="client"), tmp_path)  # its key is of P-256
    auth = ClientAuthOrders(names="full", authorities=BOTH, trusted=trusted)
    orders = Orders(client_auth=auth, protocol=ProtocolOrders(groups=(0x001D,)))
    said, recording = ask(orders, tmp_path, *shown, version=version)
    assert recording.outcome.status is Status.ESTABLISHED, (said, recording.outcome)
    leg = recording.leg(LegRole.CLIENT)
    assert leg is not None
    assert leg.read().group == "x25519"
    assert recording.mtls["chosen"]["subject"] == "CN=client.lab.test"


@pytest.mark.peer("openssl")
@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
@pytest.mark.parametrize(
    ("what", "said", "ordered"),
    [
        ("right", None, {}),
        ("none", {"TLSv1.2": "handshake failure", "TLSv1.3": "certificate required"}, {}),
        ("for servers", "unsupported certificate", {}),
        ("for servers", None, {"usage": False}),
        ("expired", "certificate expired", {}),
        ("expired", None, {"dates": False}),
        ("of another CA", "unknown ca", {}),
        ("of another CA", None, {"trusted": None}),
        ("leaf alone", "unknown ca", {}),
    ],
)  # fmt: skip
def test_a_client_certificate_is_judged_as_servers_do(
    tmp_path: Path, what: str, said: Any, ordered: dict[str, Any], version: str
) -> None:
    recipes = catalogue()
    made: dict[str, Callable[[], Minted]] = {
        "right": lambda: issue(CLIENTS, "mid", purpose="client"),
        "for servers": lambda: issue(CLIENTS, "mid", purpose="server"),
        "expired": lambda: recipes["client-expired"].make(CLIENTS, name="mid"),
        "of another CA": lambda: issue(Authority.make(), "mid", purpose="client"),
        "leaf alone": lambda: recipes["client-leaf-only"].make(CLIENTS, name="mid"),
    }
    args = () if what == "none" else identity(made[what](), tmp_path)
    auth = ClientAuthOrders(**{"authorities": BOTH, "trusted": ROOTS, **ordered})
    heard, recording = ask(Orders(client_auth=auth), tmp_path, *args, version=version)
    if said is None:
        assert "seen over" in heard, heard
        assert recording.outcome.status is Status.ESTABLISHED, recording.outcome.text
        return
    expected = said if isinstance(said, str) else said[version]
    assert f"alert {expected}" in heard, heard
    assert recording.outcome.status is Status.FAILED
    assert recording.outcome.broken_by is Party.PROXY
    assert recording.outcome.alert == expected.replace(" ", "_")
    assert [failure.code for failure in recording.failures] == [FailureCode.CLIENT_CERTIFICATE]
    assert "as ordered" in recording.outcome.text


@pytest.mark.peer("openssl")
def test_what_the_target_asks_is_not_changed_by_what_the_client_is_asked(tmp_path: Path) -> None:
    """The target gets no certificate where nothing is relayed; the client is asked all the same."""
    auth = ClientAuthOrders(authorities=BOTH, trusted=ROOTS)
    args = identity(issue(CLIENTS, "mid", purpose="client"), tmp_path)
    said, recording = ask(Orders(client_auth=auth), tmp_path, *args, asking=True)
    assert "no client certificate" in said
    assert recording.mtls["mode"] == "strip"
    assert recording.mtls["asked"] is not None
    assert recording.mtls["chosen"]["subject"] == "CN=mid"


@pytest.mark.peer("openssl")
def test_a_certificate_that_is_relayed_can_be_asked_for_under_other_names(tmp_path: Path) -> None:
    auth = ClientAuthOrders(names="others", trusted=ROOTS)
    args = identity(issue(CLIENTS, "mid", purpose="client"), tmp_path)
    said, recording = ask(Orders(client_auth=auth), tmp_path, *args, asking=True, mtls=Mtls.RELAY, clients=CLIENTS)
    assert "1 client certificate(s)" in said or "2 client certificate(s)" in said, said
    assert "somebody else" in str(recording.mtls["asked_of_client"])
    assert "somebody else" not in str(recording.mtls["asked"])


def test_who_has_been_asked_once_is_asked_again_and_resumes_nothing() -> None:
    auth = Orders(client_auth=ClientAuthOrders(required=False))
    with RunningProxy(director=Scripted([Orders(), auth, auth])) as proxy:
        client = trusting(AUTHORITY.root_pem)
        first = look(proxy, client)
        second = look(proxy, client, session=first.session)
        third = look(proxy, client, session=second.session)
        recordings = proxy.recordings(3)
    assert not second.resumed
    assert not third.resumed
    assert ["asked_of_client" in recording.mtls for recording in recordings] == [False, True, True]


# -- protocol ----------------------------------------------------------------------------------------------------


def only(version: ssl.TLSVersion) -> ssl.SSLContext:
    def change(context: ssl.SSLContext) -> None:
        context.minimum_version = context.maximum_version = version

    return trusting(AUTHORITY.root_pem, change=change)


@pytest.mark.parametrize(
    ("orders", "version", "cipher"),
    [
        (ProtocolOrders(versions=(TLS12, TLS12)), "TLSv1.2", None),
        (ProtocolOrders(versions=(TLS12, TLS13), ciphers=(0xC02B,)), "TLSv1.2", "ECDHE-ECDSA-AES128-GCM-SHA256"),
        (ProtocolOrders(ciphers=(0xC02C,)), "TLSv1.2", "ECDHE-ECDSA-AES256-GCM-SHA384"),
        (ProtocolOrders(ciphers=(0x1303,)), "TLSv1.3", "TLS_CHACHA20_POLY1305_SHA256"),
        (ProtocolOrders(groups=(0x0018,)), "TLSv1.3", None),
    ],
)
def test_the_client_leg_speaks_what_is_ordered(orders: ProtocolOrders, version: str, cipher: str | None) -> None:
    with RunningProxy(orders=Orders(protocol=orders)) as proxy:
        seen = look(proxy, trusting(AUTHORITY.root_pem))
        legs = {leg["leg"]: leg for leg in to_json(proxy.recording())["legs"]}
    assert seen.version == version == legs["client"]["version"]
    assert cipher is None or seen.cipher == cipher
    assert legs["server"]["version"] == "TLSv1.3", "the target's leg is as ever"
    if orders.groups:
        assert legs["client"]["group"] == "secp384r1"


def test_a_client_that_shares_nothing_of_what_is_ordered_is_told_so() -> None:
    old = Orders(protocol=ProtocolOrders(versions=(TLS12, TLS12)))
    suites = Orders(protocol=ProtocolOrders(versions=(TLS13, TLS13), ciphers=(0x1304,)))
    with RunningProxy(director=Scripted([old, suites])) as proxy:
        with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
            look(proxy, only(ssl.TLSVersion.TLSv1_3))
        with pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"):
            look(proxy)
        recordings = proxy.recordings(2)
    assert {recording.outcome.broken_by for recording in recordings} == {Party.PROXY}
    assert {failure.code for recording in recordings for failure in recording.failures} == {FailureCode.NOTHING_SHARED}


@pytest.mark.parametrize(
    ("ordered", "offered", "chosen"),
    [
        (b"", ["h2", "http/1.1"], None),
        (b"h2", ["h2", "http/1.1"], "h2"),
        (None, ["h2", "http/1.1"], "http/1.1"),
    ],
)
def test_alpn_is_none_or_what_is_ordered(ordered: bytes | None, offered: list[str], chosen: str | None) -> None:
    client = trusting(change=lambda context: context.set_alpn_protocols(offered))
    with RunningProxy(orders=Orders(protocol=ProtocolOrders(alpn=ordered))) as proxy:
        assert look(proxy, client).alpn == chosen


def test_alpn_can_be_what_the_client_has_not_offered() -> None:
    """RFC 7301 3.1: a client that looks ends the connection; OpenSSL's does not look, and says what it was told."""
    client = trusting(change=lambda context: context.set_alpn_protocols(["http/1.1"]))
    with RunningProxy(orders=Orders(protocol=ProtocolOrders(alpn=b"spdy/3"))) as proxy:
        with contextlib.suppress(ssl.SSLError):
            assert look(proxy, client).alpn == "spdy/3"
        leg = next(leg for leg in to_json(proxy.recording())["legs"] if leg["leg"] == "client")
    assert leg["alpn"] == "spdy/3"


def test_the_master_secret_can_be_made_as_before_rfc_7627() -> None:
    orders = Orders(protocol=ProtocolOrders(versions=(TLS12, TLS12), extended_master_secret=False))
    with RunningProxy(
        director=Scripted([orders, replace(orders, protocol=ProtocolOrders(versions=(TLS12, TLS12)))])
    ) as proxy:
        look(proxy), look(proxy)
        hellos = [
            next(m["fields"] for leg in to_json(one)["legs"] if leg["leg"] == "client" for m in leg["messages"]
                 if m["type"] == "server_hello")
            for one in proxy.recordings(2)
        ]  # fmt: skip
    assert ["extended_master_secret" in str(hello["extensions"]) for hello in hellos] == [False, True]


# -- resumption --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_what_is_forgotten_is_not_resumed(version: ssl.TLSVersion) -> None:
    """A session is resumed; once all are forgotten it is not, on neither leg; and the new one is again."""
    script = [Orders(), Orders(), Orders(forget_sessions=True), Orders()]
    with RunningProxy(director=Scripted(script)) as proxy:
        client = only(version)
        first = look(proxy, client)
        second = look(proxy, client, session=first.session)
        third = look(proxy, client, session=second.session)
        fourth = look(proxy, client, session=third.session)
        recordings = proxy.recordings(4)
    assert [one.resumed for one in (first, second, third, fourth)] == [False, True, False, True]
    server = [leg["resumed"] for one in recordings for leg in to_json(one)["legs"] if leg["leg"] == "server"]
    assert server == [False, True, False, True]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_resumption_can_be_off_for_a_connection(version: ssl.TLSVersion) -> None:
    none = Orders(protocol=ProtocolOrders(resumption="none"))
    with RunningProxy(director=Scripted([none, Orders(), none])) as proxy:
        client = only(version)
        first = look(proxy, client)
        assert not look(proxy, client, session=first.session).resumed
        again = look(proxy, client)
        assert not look(proxy, client, session=again.session).resumed


def test_tickets_and_session_ids_can_be_had_alone() -> None:
    ids = Orders(protocol=ProtocolOrders(resumption="id"))
    tickets = Orders(protocol=ProtocolOrders(resumption="ticket"))
    with RunningProxy(director=Scripted([ids, ids, tickets])) as proxy:
        client = only(ssl.TLSVersion.TLSv1_2)
        first = look(proxy, client)
        assert first.session is not None
        assert not first.session.has_ticket
        assert look(proxy, client, session=first.session).resumed
        third = look(proxy, client)
        assert third.session is not None
        assert third.session.has_ticket


def test_a_target_that_is_not_trusted_is_not_resumed_with() -> None:
    """Its certificate is not looked at when a session is resumed, so that it would seem trusted the second time."""
    with RunningProxy(roots=(), verify=False) as proxy:
        client = trusting(AUTHORITY.root_pem)
        first = look(proxy, client)
        look(proxy, client, session=first.session)
        for recording in proxy.recordings(2):
            leg = recording.leg(LegRole.SERVER)
            assert leg is not None
            assert leg.verification is not None
            assert not leg.verification.trusted


# -- what cannot be ordered --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ProtocolOrders(versions=(TLS13, TLS12)), "expected the lowest and the highest"),
        (lambda: ProtocolOrders(ciphers=(0x0005,)), "TLS_RSA_WITH_RC4_128_SHA: this OpenSSL does not have it"),
        (lambda: ProtocolOrders(ciphers=()), "the list is empty"),
        (lambda: ProtocolOrders(groups=(0x0001,)), "does not have it"),
        (lambda: ProtocolOrders(signature_algorithms=(0x0999,)), "0x0999"),
        (lambda: ProtocolOrders(alpn=b"x" * 256), "255 at most"),
        (lambda: ClientAuthOrders(names="roots"), "no authorities are given"),
        (lambda: ClientAuthOrders(names=(b"CN=x",)), "cannot ask clients under this name"),
    ],
)
def test_what_this_openssl_cannot_do_is_refused_when_it_is_ordered(make: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        make()
