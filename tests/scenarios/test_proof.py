"""Every scenario, driven: what it says was on the wire, and with the fault taken out the proof says that it was not."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import pytest
from OpenSSL import SSL

from countersign.ca.recipes import Recipe, catalogue as recipes
from countersign.scenarios.catalogue import catalogue
from countersign.scenarios.model import FAMILIES, Certificate, Scenario
from countersign.scenarios.proof import Unproved, proofs
from countersign.scenarios.reading import Source, read_scenario
from tests.scenarios.driving import Client, drive, mended

if TYPE_CHECKING:
    from collections.abc import Callable

KNOWN = catalogue()
_AT_ONCE = 4


def client_for(scenario: Scenario) -> Client:
    """One that offers what the scenario is about, and does not wait longer than it has to."""
    silent = scenario.id == "oversized-record" or (scenario.waits and scenario.family not in {"rotation", "revocation"})
    return Client(
        patience=1.0 if silent else 20.0,
        most=SSL.TLS1_2_VERSION if scenario.id == "tls13-only" else SSL.TLS1_3_VERSION,
        staple=any(scene.stapling is not None for scene in scenario.scenes),
    )


async def proved(scenario: Scenario, *, without: bool) -> tuple[tuple[Unproved, ...], tuple[Unproved, ...], list[str]]:
    """What is not proved of it when it is driven, and when it is driven without what it breaks (unless left out)."""
    run = partial(
        drive, client=client_for(scenario), times=2 if scenario.id in {"no-resumption", "session-ids-alone"} else 0
    )
    driven = await run(scenario)
    held = driven.unproved(scenario)
    return held, (await run(mended(scenario))).unproved(scenario) if without else (), driven.words


@pytest.mark.parametrize("family", [each for each in FAMILIES if each != "own"])
async def test_what_a_scenario_says_was_on_the_wire_and_without_the_fault_was_not(
    family: str, pytestconfig: pytest.Config
) -> None:
    """Every scenario is proved; the test of the proof is made with every fifth of them, and with --long with each."""
    scenarios = [each for each in KNOWN.values() if each.family == family]
    every = 1 if pytestconfig.getoption("--long") else 5
    turn, found = asyncio.Semaphore(_AT_ONCE), []

    async def one(number: int, scenario: Scenario) -> None:
        async with turn:
            without = number % every == 0
            held, fell, words = await proved(scenario, without=without)
        if held:
            found.append(f"{scenario.id}: {held[0].part}, step {held[0].step}: {held[0].text} (the client: {words})")
        if without and not fell:
            found.append(f"{scenario.id}: is proved without what it breaks")

    await asyncio.gather(*(one(number, each) for number, each in enumerate(scenarios)))
    assert found == []


def own(text: str) -> Scenario:
    return read_scenario(Source(text, name="mine.toml", id="mine"), find=KNOWN.source)


async def unproved(scenario: Scenario, driven: Scenario, *, client: Client | None = None, times: int = 0) -> list[str]:
    """What of ``scenario`` is not proved by sessions under ``driven``."""
    found = await drive(replace(driven, id=scenario.id), client=client, times=times)
    return [each.text for each in found.unproved(scenario)]


PLAIN = own("")


@pytest.mark.parametrize(
    ("text", "driven", "said"),
    [
        ('certificate.recipe = "sent-leaf-only"', "", "2 certificates were sent, expected 1"),
        ('certificate.recipe = "leaf-expired"', "", "the leaf's not before is"),
        ('certificate.recipe = "leaf-other-name"', "", "the leaf's san is not what the recipe makes it"),
        ('certificate.recipe = "leaf-rsa-2048"', "", "the leaf's key is not what the recipe makes it"),
        ('certificate.recipe = "leaf-signature-broken"', "", "that the leaf is signed by the key of the intermediate"),
        ('certificate.recipe = "leaf-key-not-in-use"', "", "the handshake was not signed with another key than"),
        ('certificate.recipe = "root-expired"', "", "the root's not before is"),
        ('certificate.issuer = "device"', "", "the chain leads to what the client trusts, 'CN=countersign"),
        ('certificate.preset = "squid"', "", "expected"),
        ('protocol.versions = ["TLSv1.2"]', "", "the version was TLSv1.3, expected TLSv1.2"),
        ('protocol.ciphers = ["TLS_CHACHA20_POLY1305_SHA256"]', "", "the cipher was TLS_AES_256_GCM_SHA384, expected"),
        ('protocol.groups = ["secp384r1"]', "", "the group was"),
        ('protocol.alpn = ""', "", "the alpn was http/1.1"),
        ('client_auth.names = "full"', "", "the client was not asked for a certificate"),
        ('client_auth.names = "others"', 'client_auth.names = "full"', "names that are not the others ones"),
        ('client_auth.names = "roots"', 'client_auth.names = "empty"', "0 names that are not the roots ones"),
        ('revocation = ["ocsp:revoked"]', "revocation = []", "no answer of it shows the fault revoked"),
        ('revocation = ["crl:500"]', "", "nobody asked the responder about CRL, we neither"),
        ('wire = [{ do = "cut" }]', "", "the fault 'cut' was not applied"),
        ("network.latency = 0.01", "", "nothing came through the network that was ordered"),
        (
            "network.latency = 0.01\nnetwork.reset_after_seconds = 60.0",
            "network.latency = 0.01\nnetwork.reset_after_seconds = 60.0",
            "the connection was over before 60 s had passed, so there was no reset",
        ),
        ("answer.status = 201", "answer.status = 200", "or got another answer than the one that was ordered"),
        ('target.versions = ["TLSv1.2"]', "", "expected TLSv1.2 alone"),
        ('target.server_name = ""', "", "the target was told the server name 'instance.lab.test', expected None"),
        ("target.asks = true", "", "the target did not ask for a certificate"),
        (
            'target.asks = true\ntarget.shows = "client"',
            "target.asks = true",
            "of what the proxy showed: 0 certificates",
        ),
        (
            'target.asks = true\ntarget.shows = "client-of-an-unknown-ca"',
            'target.asks = true\ntarget.shows = "client"',
            "what the proxy showed leads to the CA that the target asks for",
        ),
        ('target.certificate = "leaf-expired"', "", "of what the target showed: the leaf's not before is"),
        (
            'target.server_name = ""\ntarget.by_name = true',
            'target.server_name = ""',
            "the target's certificate is for",
        ),
        ('action = "passthrough"', "", "a session was not passthrough: it is intercept"),
        ('[[step]]\n[[step]]\nconnections = 5\nrotate = "root"', "", "step 2 was never reached"),
    ],
)
async def test_the_sentence_says_what_was_not_there(text: str, driven: str, said: str) -> None:
    found = await unproved(own(text), own(driven))
    assert any(said in each for each in found), found


async def test_of_several_parts_each_has_its_proof() -> None:
    both = own('certificate.recipe = "leaf-expired"\nprotocol.versions = ["TLSv1.2"]\nwire = [{ do = "segments" }]')
    driven = await drive(replace(own('protocol.versions = ["TLSv1.2"]'), id="mine"))
    assert {each.part for each in driven.unproved(both)} == {"certificate", "wire"}
    assert (await drive(both)).unproved(both) == ()


async def test_a_resumed_session_proves_nothing_of_certificates() -> None:
    expired = own('certificate.recipe = "leaf-expired"')
    driven = await drive(expired, times=2)
    resumed = driven.recordings[1:]
    assert [leg.read().resumed for each in resumed for leg in each.legs if leg.role == "client"] == [True]
    (found,) = proofs(expired, resumed)
    assert found.text == "every session was resumed, and a resumed one shows no certificate"
    assert driven.unproved(expired) == (), "the first session shows it"


async def test_what_a_client_did_not_ask_for_is_said_to_be_so() -> None:
    for name, client in (("staple-good", Client()), ("no-resumption", Client())):
        (found,) = (await drive(KNOWN[name], client=client)).unproved(KNOWN[name])
        assert found.not_asked, name
    assert (await drive(KNOWN["staple-good"], client=Client(staple=True))).unproved(KNOWN["staple-good"]) == ()


def test_without_a_session_nothing_is_proved() -> None:
    for scenario in KNOWN.values():
        (found,) = proofs(scenario, [])
        assert "no session" in found.text


async def test_sessions_of_another_scenario_are_nobodys_proof() -> None:
    driven = await drive(KNOWN["expired"])
    assert proofs(KNOWN["expired"], [replace(each, scenario="other") for each in driven.recordings]) != ()
    assert proofs(KNOWN["expired"], driven.recordings) == ()


def test_every_recipe_that_can_be_served_is_told_from_its_mended_form(scaled: Callable[[int], int]) -> None:
    """Without an engine: the chain that a recipe makes is like it, and the mended one is not."""
    from countersign.ca import Authority, CannotMimic
    from countersign.scenarios.likeness import Shown, unlike
    from tests.scenarios.driving import AUTHORITY, POOL

    wrong = [each for each in recipes().values() if each.role == "server" and each.served and each.breaks]
    base = Authority.make()
    for recipe in wrong[:: max(1, len(wrong) // scaled(len(wrong)))]:
        if recipe.impostor:
            continue  # that is in the handshake
        made, right = (each.make(AUTHORITY, name="host.example.test", pool=POOL) for each in (recipe, recipe.mended()))
        shown, without = (Shown(each.chain, each.anchors, _now()) for each in (made, right))
        assert unlike(recipe, shown, base=base, target=None, host="host.example.test") is None, recipe.id
        assert unlike(recipe, without, base=base, target=None, host="host.example.test"), recipe.id
    with pytest.raises(CannotMimic):
        Recipe().make(AUTHORITY, target=b"no certificate")


def _now() -> datetime:
    return datetime.now(UTC)


async def test_hostile_recordings_are_unproved_and_nothing_raises() -> None:
    driven = await drive(KNOWN["expired"])
    (recording,) = driven.recordings
    for leg in recording.legs:
        for cut in (0, 1, 5, 40):
            messages = tuple(replace(each, raw=each.raw[:cut]) for each in leg.messages)
            broken = replace(recording, legs=(replace(leg, messages=messages),))
            for scenario in (KNOWN["expired"], own('certificate.recipe = "leaf-key-not-in-use"'), KNOWN["tls12-only"]):
                assert proofs(scenario.named("expired"), [broken], anchors=[b"", b"\x30\x80"]) != ()


def test_a_certificate_part_that_says_nothing_needs_no_proof() -> None:
    assert Certificate() == own("certificate.issuer = 'trusted'").certificate


@pytest.mark.parametrize("what", ["leaf", "intermediate", "root"])
async def test_what_a_recipe_makes_is_proved_on_both_sides_of_a_border(what: str) -> None:
    text = f"""
        certificate.recipe = "leaf-rsa-2048"
        [[step]]
        [[step]]
        connections = 1
        rotate = "{what}"
    """
    assert (await drive(own(text))).unproved(own(text)) == ()
    other = own(text.replace("leaf-rsa-2048", "leaf-p-384"))
    assert {(each.part, each.step) for each in (await drive(other)).unproved(own(text))} == {
        ("certificate", 1), ("certificate", 2),
    }  # fmt: skip
