"""What a director orders, and what a preset's behaviour is, as real clients and targets meet it."""

from __future__ import annotations

import ssl
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Literal

import pytest

from countersign.ca import Authority, Plan
from countersign.ca.presets import Behaviour, behaviour_with, presets
from countersign.ca.recipes import RecipeError, catalogue
from countersign.errors import UserError
from countersign.proxy import Action, Mtls
from countersign.proxy.hellos import hello_preset
from countersign.proxy.orders import NOTHING_ORDERED, ChainOrders, Match, Orders, TargetOrders
from countersign.recorder.recording import LegRole, Party, Status, to_json
from countersign.recorder.wire.names import TLS10, TLS11, TLS12, TLS13, version_name
from countersign.recorder.wire.reading import summarize_client_hello
from tests.peers.curl import PEER_FAILED_VERIFICATION, curl
from tests.peers.openssl import HELLO_RETRY_REQUEST, OpensslServer
from tests.proxy.ordered import HOST, Scripted, look, trusting
from tests.proxy.running import AUTHORITY, RunningProxy
from tests.proxy.wire import alert, client_hello, connect, in_records, send

if TYPE_CHECKING:
    from pathlib import Path

    from countersign.ca.presets import Preset
    from countersign.proxy.hellos import HelloPreset
    from countersign.recorder.recording import Recording
    from tests.peers.certs import Lab

X25519, HYBRID, SERVER_HELLO = 0x001D, 0x11EC, 2


@cache
def authority_of(name: str, *, untrusted: bool = False) -> Authority:
    """The CA of a preset, one for all tests: RSA keys take their time."""
    return presets()[name].make_authority(untrusted=untrusted)


def product(name: str, **behaviour: str) -> ChainOrders:
    """A preset with its CAs, which does these things."""
    preset: Preset = presets()[name]
    said: Behaviour = preset.behaviour
    for key, word in behaviour.items():
        said = behaviour_with(said, key, word)
    untrusted = authority_of(name, untrusted=True) if "untrusted-ca" in said.bad_upstream else None
    return ChainOrders(preset=replace(preset, behaviour=said), authority=authority_of(name), untrusted=untrusted)


def upstream_hello(recording: Recording) -> dict[str, object]:
    """What our own ClientHello to the target said."""
    legs = {leg["leg"]: leg for leg in to_json(recording)["legs"]}
    hello: dict[str, object] = next(m["fields"] for m in legs["server"]["messages"] if m["type"] == "client_hello")
    return hello


def first_message(proxy: RunningProxy, data: bytes) -> int:
    """The type of the first handshake message that the proxy answers."""
    with connect(proxy) as connection:
        connection.sendall(data)
        return connection.recv(6)[5]


# -- the director ------------------------------------------------------------------------------------------------


def test_a_director_is_asked_once_for_each_session_and_its_words_are_on_the_recording() -> None:
    director = Scripted([Orders(scenario="first", step=1), Orders(scenario="second", step=2), NOTHING_ORDERED])
    with RunningProxy(director=director) as proxy:
        for _ in range(3):
            assert "HTTP/1.1 200" in look(proxy, trusting(AUTHORITY.root_pem)).answer
        recordings = proxy.recordings(3)
    assert [(one.scenario, one.step) for one in recordings] == [("first", 1), ("second", 2), (None, 0)]
    assert director.arrived == ["127.0.0.1"] * 3
    assert [(client, sni) for client, sni, _ in director.asked] == [("127.0.0.1", HOST)] * 3
    assert all(target.startswith("127.0.0.1:") for _, _, target in director.asked)


def test_who_says_no_hello_counts_nothing_and_carries_what_was_ordered_at_its_arrival() -> None:
    director = Scripted([Orders(scenario="met")], before=Orders(scenario="waiting"))
    with RunningProxy(director=director) as proxy:
        send(proxy, b"", finish=True)
        recording = proxy.recording()
    assert recording.scenario == "waiting"
    assert director.asked == []


@pytest.mark.parametrize("pattern", ["[::1]:443", "[*]:443", "[::?]:*"])
def test_brackets_in_a_pattern_are_those_of_an_ipv6_address(pattern: str) -> None:
    assert Match(target=pattern).fits(None, "[::1]:443")
    assert not Match(target=pattern).fits(None, "1:443")


@pytest.mark.parametrize(("match", "fits"), [(Match(sni="*.lab.test"), True), (Match(sni="*.other.test"), False)])
def test_orders_are_for_the_sessions_that_they_name(match: Match, fits: bool) -> None:  # noqa: FBT001
    director = Scripted([Orders(scenario="named", match=match, action=Action.PASSTHROUGH)])
    with RunningProxy(director=director) as proxy:
        issuer = look(proxy).issuers[0]
        recording = proxy.recording()
    assert recording.scenario == ("named" if fits else None)
    assert recording.action == ("passthrough" if fits else "intercept")
    assert ("Lab Public Trust" in issuer) is fits


def test_what_a_director_leaves_open_is_as_the_settings_have_it() -> None:
    always = Orders(chain=ChainOrders(recipe=catalogue()["leaf-expired"]))
    other = Orders(scenario="other", chain=ChainOrders(recipe=catalogue()["leaf-signed-with-sha1"]))
    with RunningProxy(director=Scripted([Orders(scenario="open"), other]), orders=always) as proxy:
        assert look(proxy).chain[0].not_valid_after_utc < look(proxy).chain[0].not_valid_after_utc
        first, second = proxy.recordings(2)
    assert (first.scenario, first.prelude["inspection"]["recipe"]) == ("open", "leaf-expired")
    assert (second.scenario, second.prelude["inspection"]["recipe"]) == ("other", "leaf-signed-with-sha1")


# -- what the target is told -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("versions", "offered"),
    [((TLS12, TLS12), ["TLSv1.2"]), ((TLS10, TLS11), ["TLSv1.1"]), ((TLS13, TLS13), ["TLSv1.3"])],
)
@pytest.mark.parametrize("hello", ["mirror", "own", hello_preset("java-17")], ids=["mirror", "own", "java-17"])
def test_the_target_is_offered_the_versions_that_are_ordered_and_no_others(
    versions: tuple[int, int], offered: list[str], hello: HelloPreset | Literal["mirror", "own"]
) -> None:
    """The client offers TLS 1.2 and less. Below TLS 1.3 a hello names its highest version (RFC 5246 7.4.1.2)."""

    def old(context: ssl.SSLContext) -> None:
        context.maximum_version = ssl.TLSVersion.TLSv1_2

    director = Scripted([Orders(target=TargetOrders(versions=versions))])
    with RunningProxy(director=director, hello=hello) as proxy:
        if versions == (TLS10, TLS11):
            with pytest.raises(ssl.SSLError, match=r"(?i)protocol.version"):
                look(proxy, trusting(AUTHORITY.root_pem, change=old))
        else:
            assert "200" in look(proxy, trusting(AUTHORITY.root_pem, change=old)).answer
        recording = proxy.recording()
    assert sorted(offered_versions(recording), reverse=True) == offered


def offered_versions(recording: Recording) -> list[str]:
    server = recording.leg(LegRole.SERVER)
    assert server is not None
    hello = next(each for each in server.read().messages if each.type == "client_hello")
    summary = summarize_client_hello(hello.message.raw)
    return [version_name(each) for each in summary.versions or (summary.legacy_version,)]


@pytest.mark.parametrize(("sni", "told"), [(None, HOST), (b"", None), (b"other.lab.test", "other.lab.test")])
def test_the_target_is_told_the_server_name_that_is_ordered(sni: bytes | None, told: str | None) -> None:
    with RunningProxy(director=Scripted([Orders(target=TargetOrders(sni=sni))])) as proxy:
        assert "200" in look(proxy, trusting(AUTHORITY.root_pem)).answer
        recording = proxy.recording()
    legs = {leg["leg"]: leg for leg in to_json(recording)["legs"]}
    assert (legs["client"]["sni"], legs["server"]["sni"]) == (HOST, told)


@pytest.mark.parametrize("highest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_target_is_shown_the_certificate_that_is_ordered_and_nobody_inherits_it(highest: ssl.TLSVersion) -> None:
    """Each connection by its own orders, though the client would resume, and the target, too."""

    def of(context: ssl.SSLContext) -> None:
        context.maximum_version = highest

    clients = Authority.make(Plan(name="somebody"))
    one, two = (catalogue()["client"].make(clients, name=name) for name in ("one.lab.test", "two.lab.test"))
    orders = [Orders(target=TargetOrders(shows=one)), Orders(target=TargetOrders(shows=two)), NOTHING_ORDERED]
    context, session = trusting(AUTHORITY.root_pem, change=of), None
    with RunningProxy(director=Scripted(orders), asking=True) as proxy:
        for count in (1, 1, 0):
            seen = look(proxy, context, session=session)
            session = seen.session
            assert ("no client certificate" in seen.answer) is (count == 0), seen.answer
        recordings = proxy.recordings(3)
    assert [each.mtls["mode"] for each in recordings] == ["present", "present", "strip"]
    assert [each.mtls["asked_of_client"] for each in recordings] == [None] * 3
    subjects = [each.mtls["presented"].get("subject") for each in recordings]
    assert subjects == ["CN=one.lab.test", "CN=two.lab.test", None]


@pytest.mark.parametrize("versions", [(0x0300, TLS12), (TLS13, TLS12)])
def test_versions_that_cannot_be_offered_are_a_mistake(versions: tuple[int, int]) -> None:
    with pytest.raises(UserError, match=r"expected the lowest and the highest of TLS 1\.0 to 1\.3"):
        TargetOrders(versions=versions)


# -- chains ------------------------------------------------------------------------------------------------------


@pytest.mark.peer("curl")
def test_a_recipe_is_what_the_client_gets_and_the_next_connection_gets_another(tmp_path: Path) -> None:
    recipes = [Orders(chain=ChainOrders(recipe=catalogue()[name])) for name in ("leaf-expired", "sent-leaf-only")]
    with RunningProxy(director=Scripted([*recipes, NOTHING_ORDERED])) as proxy:
        root = proxy.root_file(tmp_path)
        answers = [
            curl(f"https://{HOST}:{proxy.port}/", "--resolve", f"{HOST}:{proxy.port}:127.0.0.1", ca=root)
            for _ in range(3)
        ]
    assert [answer.exit_code for answer in answers] == [PEER_FAILED_VERIFICATION, PEER_FAILED_VERIFICATION, 0]
    assert "certificate has expired" in answers[0].error
    assert "unable to get local issuer certificate" in answers[1].error


def test_another_authority_signs_where_it_is_ordered() -> None:
    rotated = Authority.make(Plan(name="Rotated"))
    director = Scripted([NOTHING_ORDERED, Orders(chain=ChainOrders(authority=rotated)), NOTHING_ORDERED])
    with RunningProxy(director=director) as proxy:
        assert "200" in look(proxy, trusting(AUTHORITY.root_pem)).answer
        with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer"):
            look(proxy, trusting(AUTHORITY.root_pem))
        assert "200" in look(proxy, trusting(AUTHORITY.root_pem)).answer
        assert proxy.recordings(3)[1].outcome.alert == "unknown_ca"


def test_a_recipe_that_cannot_be_served_is_refused_when_it_is_ordered() -> None:
    with pytest.raises(RecipeError, match="cannot serve the recipe"):
        ChainOrders(recipe=catalogue()["client-expired"])


# -- presets -----------------------------------------------------------------------------------------------------


def test_zscaler_shows_two_intermediates_of_which_one_lives_two_weeks() -> None:
    with RunningProxy(orders=Orders(chain=product("zscaler"))) as proxy:
        seen = look(proxy, trusting(authority_of("zscaler").root_pem))
        recording = proxy.recording()
    assert seen.issuers == [
        "Zscaler Intermediate Root CA (zscalertwo.net) (t) ",
        "Zscaler Intermediate Root CA (zscalertwo.net)",
        "Zscaler Root CA",
    ]
    issuing = seen.chain[1]
    assert (issuing.not_valid_after_utc - issuing.not_valid_before_utc).days == 14
    assert recording.prelude["inspection"]["preset"] == "zscaler"


def test_an_issuing_ca_whose_time_is_up_is_changed_and_keeps_its_name() -> None:
    preset, old = presets()["zscaler"], authority_of("zscaler")
    assert not preset.is_due(old, old.not_before)
    assert preset.is_due(old, old.not_after)
    new = preset.renewed(old)
    assert new.issuer.subject == old.issuer.subject
    assert new.issuer.public_key != old.issuer.public_key
    assert new.root == old.root
    with RunningProxy(orders=Orders(chain=replace(product("zscaler"), authority=new))) as proxy:
        assert "200" in look(proxy, trusting(old.root_pem)).answer


def test_a_preset_without_a_ca_at_hand_makes_its_own_once() -> None:
    chain = ChainOrders(preset=presets()["f5-c3d"])
    with RunningProxy(orders=Orders(chain=chain)) as proxy:
        first, second = look(proxy), look(proxy)
    assert first.issuers == second.issuers == ["Forged Certificates CA"]
    assert first.chain[0] == second.chain[0]


def test_a_target_that_is_not_trusted_is_blocked_or_signed_by_an_untrusted_ca_or_marked() -> None:
    """Each product in its own way, and the client sees which."""
    seen = {}
    for name, word in (
        ("fortigate-proxy", "untrusted-ca"), ("squid", "self-signed"), ("cisco-wsa", "mark"), ("zscaler", "allow"),
        ("zscaler", "pass-through"), ("zscaler", "block"),
    ):  # fmt: skip
        with RunningProxy(roots=(), orders=Orders(chain=product(name, bad_upstream=word))) as proxy:
            if word == "block":
                with pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"):
                    look(proxy)
            else:
                seen[word] = look(proxy)
            recording = proxy.recording()
        server = recording.leg(LegRole.SERVER)
        assert recording.prelude["inspection"]["bad_upstream"] == word
        if word == "pass-through":
            assert recording.action == "passthrough"
            assert "not trusted" in recording.prelude["decision"]
        else:
            assert server is not None
            assert server.verification is not None
            assert not server.verification.trusted
            assert server.verification.enforced is (word == "block")
    assert seen["untrusted-ca"].issuers == ["Fortinet_CA_Untrusted"]
    assert seen["self-signed"].chain[0].issuer == seen["self-signed"].chain[0].subject
    assert len(seen["self-signed"].chain) == 1
    assert seen["mark"].chain[0].subject.rfc4514_string() == "CN=Untrusted Certificate Warning"
    assert seen["mark"].issuers[0] == "Uploaded Intermediate"
    assert seen["allow"].issuers[0].startswith("Zscaler")
    assert "Lab Public Trust" in seen["pass-through"].issuers[0]


def test_a_target_that_is_trusted_is_signed_by_the_trusted_ca() -> None:
    with RunningProxy(orders=Orders(chain=product("fortigate-proxy"))) as proxy:
        assert look(proxy).issuers == ["Fortinet_CA_SSL"]


def test_upstream_insecure_stands_before_what_the_product_does() -> None:
    with RunningProxy(roots=(), verify=False, orders=Orders(chain=product("fortigate-proxy"))) as proxy:
        assert look(proxy).issuers == ["Fortinet_CA_SSL"]


@pytest.mark.parametrize(
    ("word", "offered", "upstream", "chosen"),
    [
        ("keep", ["h2", "http/1.1"], ["h2", "http/1.1"], "http/1.1"),
        ("strip", ["h2", "http/1.1"], None, None),
        ("http/1.1", ["h2", "http/1.1"], ["http/1.1"], "http/1.1"),
        ("http/1.1", [], None, None),
    ],
)
def test_alpn_is_kept_or_stripped_or_cut_to_http_1_1(
    word: str, offered: list[str], upstream: list[str] | None, chosen: str | None
) -> None:
    with RunningProxy(orders=Orders(chain=product("fortigate-proxy", alpn=word))) as proxy:
        client = trusting(change=lambda context: context.set_alpn_protocols(offered) if offered else None)
        assert look(proxy, client).alpn == chosen
        sent = str(upstream_hello(proxy.recording()))
    assert all((protocol in sent) is (protocol in (upstream or ())) for protocol in ("h2", "http/1.1"))


def test_post_quantum_groups_are_taken_out_or_the_client_is_refused() -> None:
    hybrid = in_records(client_hello(groups=(HYBRID, X25519), shares=(X25519,), sni=HOST.encode()))
    only = in_records(client_hello(groups=(HYBRID,), shares=(), sni=HOST.encode()))
    with RunningProxy(orders=Orders(chain=product("palo-alto"))) as proxy:
        assert first_message(proxy, hybrid) == SERVER_HELLO
        assert send(proxy, only) == alert("handshake_failure")
        stripped, refused = sorted(proxy.recordings(2), key=lambda one: len(one.legs), reverse=True)
    assert "X25519MLKEM768" not in str(upstream_hello(stripped))
    assert any("X25519MLKEM768" in each for each in stripped.not_mirrored)
    assert refused.outcome.broken_by is Party.PROXY
    assert "post-quantum" in refused.outcome.text
    with RunningProxy(orders=Orders(chain=product("palo-alto"))) as proxy, connect(proxy) as client:
        client.sendall(in_records(client_hello(groups=(HYBRID, X25519), shares=(HYBRID,), sni=HOST.encode())))
        assert client.recv(43)[11:43] == HELLO_RETRY_REQUEST, "it has to make a share for another group first"
    with RunningProxy(orders=Orders(chain=product("fortigate-flow"))) as proxy:
        assert send(proxy, hybrid) == alert("illegal_parameter")
        plain = in_records(client_hello(sni=HOST.encode()))
        assert first_message(proxy, plain) == SERVER_HELLO


def test_a_target_that_asks_for_a_certificate_is_passed_by_or_blocked_as_the_product_has_it() -> None:
    with RunningProxy(asking=True, orders=Orders(chain=product("zscaler"))) as proxy:
        assert "Lab Public Trust" in look(proxy).issuers[0]
        assert proxy.recording().mtls["mode"] == "bypass"
    with RunningProxy(asking=True, orders=Orders(chain=product("checkpoint"))) as proxy:
        with pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"):
            look(proxy)
        recording = proxy.recording()
    assert recording.outcome.status is Status.FAILED
    assert recording.outcome.broken_by is Party.PROXY
    assert recording.mtls["mode"] == "block"
    with RunningProxy(asking=True, mtls=Mtls.STRIP, orders=Orders(chain=product("checkpoint"))) as proxy:
        assert "no client certificate" in look(proxy).answer, "what was asked for by name stands first"


@pytest.mark.peer("openssl")
def test_a_blocked_target_hears_that_it_was_not_its_fault(lab: Lab) -> None:
    with (
        OpensslServer(lab.server, verify_ca=lab.root.cert_pem) as server,
        RunningProxy(target=_address(server), roots=(), verify=False, mtls=Mtls.BLOCK) as proxy,
    ):
        with pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"):
            look(proxy)
        server.wait_for("alert internal error")


def _address(server: OpensslServer) -> object:
    from countersign.proxy import Address

    return Address(server.host, server.port)


def test_a_behaviour_that_is_none_is_refused() -> None:
    with pytest.raises(UserError, match="bad_upstream takes allow, block"):
        behaviour_with(Behaviour(), "bad_upstream", "ignore")
    with pytest.raises(UserError, match="there is no behaviour 'colour'"):
        behaviour_with(Behaviour(), "colour", "red")
