"""Inspection products as they show themselves, and where it is known from."""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING

import pytest

from countersign.ca import Authority, Plan, issue
from countersign.ca.presets import Preset, presets, read_preset
from countersign.ca.recipes import RecipeError
from countersign.errors import UserError
from countersign.recorder.certificates import cut_certificate, read_certificate
from tests.ca import judges
from tests.ca.judges import ACCEPTS, Case
from tests.ca.odd_certificates import NOW

if TYPE_CHECKING:
    from pathlib import Path

    from countersign.ca.recipes import MadeChain

HOST = "host.example.test"
PRESETS = presets()


@cache
def authority(name: str, *, untrusted: bool = False) -> Authority:
    return PRESETS[name].make_authority(Plan(now=NOW), untrusted=untrusted)


@cache
def target() -> bytes:
    """What a public CA issued: 300 days, and an EC key."""
    public = Authority.make(Plan(now=NOW, days=3000))
    return issue(public, HOST, days=300, now=NOW).chain[0]


def made(name: str) -> MadeChain:
    return PRESETS[name].leaf.make(authority(name), target=target(), name=HOST, now=NOW)


def verdict(tmp_path: Path, chain: tuple[bytes, ...], root: Authority, *options: str) -> str:
    return judges.openssl(Case(chain, (root.root.der,), HOST, NOW), tmp_path, *options)


def test_there_is_a_preset_for_each_product() -> None:
    assert set(PRESETS) == {
        "checkpoint", "cisco-wsa", "f5-c3d", "fortigate-flow", "fortigate-proxy", "netskope", "palo-alto", "plain",
        "proxysg", "squid", "umbrella", "zscaler",
    }  # fmt: skip


@pytest.mark.parametrize("name", PRESETS)
def test_every_field_has_a_source_or_is_marked_as_assumed(name: str) -> None:
    preset = PRESETS[name]
    assert preset.title
    for path in preset.fields():
        fact = preset.fact(path)
        assert fact is not None, path
        assert fact.source
    said = set(preset.fields())
    for fact in preset.facts:  # and no source is about nothing
        for each in fact.fields:
            assert any(path == each or path.startswith(f"{each}.") for path in said), each


@pytest.mark.peer("openssl", "java")
def test_a_client_that_trusts_the_products_root_accepts_its_leaves(tmp_path: Path) -> None:
    cases = {name: Case(made(name).chain, (authority(name).root.der,), HOST, NOW) for name in PRESETS}
    assert judges.jvm(cases, tmp_path / "jvm") == dict.fromkeys(PRESETS, ACCEPTS)
    for case in cases.values():
        assert judges.openssl(case, tmp_path) == ACCEPTS


@pytest.mark.parametrize("name", PRESETS)
def test_a_leaf_is_for_the_target_and_the_root_is_not_sent(name: str) -> None:
    chain = made(name)
    assert read_certificate(chain.leaf).san == (f"DNS:{HOST}",)
    assert len(chain.chain) == 1 + len(authority(name).intermediates)
    assert authority(name).root.der not in chain.chain
    assert not any(url for each in chain.chain for url in read_certificate(each).crl if ".test/" not in url)


@pytest.mark.parametrize("name", [each for each in PRESETS if each != "plain"])
def test_a_root_says_that_it_is_not_the_vendors(name: str) -> None:
    assert "countersign lab" in (authority(name).root.facts.subject or "")


@pytest.mark.parametrize("name", ["palo-alto", "fortigate-flow", "fortigate-proxy", "squid"])
def test_what_is_not_trusted_is_signed_by_another_root(tmp_path: Path, name: str) -> None:
    trusted, other = authority(name), authority(name, untrusted=True)
    assert trusted.root.public_key != other.root.public_key
    recipe = PRESETS[name].untrusted or PRESETS[name].leaf
    chain = recipe.make(other, target=target(), name=HOST, now=NOW).chain
    assert verdict(tmp_path, chain, trusted).startswith("20 ")
    assert verdict(tmp_path, chain, other) == ACCEPTS


@pytest.mark.peer("openssl")
def test_zscaler_looks_as_it_was_seen(tmp_path: Path) -> None:
    zscaler = authority("zscaler")
    root, cloud, issuing = (each.facts for each in zscaler.issuers)
    assert cut_certificate(zscaler.issuer.der).subject.endswith(b"(t) ")
    assert (issuing.is_ca, issuing.path_length, issuing.key) == (True, None, "RSA 2048")
    assert issuing.signature_algorithm == "sha256WithRSAEncryption"
    assert issuing.crl == ("http://gateway.zscalertwo.test/crl/zs2-kek--4-1.crl",)
    assert zscaler.issuer.not_after - zscaler.issuer.not_before == timedelta(days=14)
    assert "basic_constraints" not in root.critical
    assert "basic_constraints" in cloud.critical
    assert root.serial == "dbbe982d89b77b93"
    chain = made("zscaler").chain
    assert chain == (chain[0], zscaler.issuer.der, zscaler.intermediates[0].der)
    assert verdict(tmp_path, chain, zscaler, "-x509_strict").startswith("89 ")  # as Python from 3.13 on


@pytest.mark.peer("openssl")
def test_zscalers_issuing_ca_is_changed_every_two_weeks_and_looks_the_same(tmp_path: Path) -> None:
    zscaler = authority("zscaler")
    later = NOW + timedelta(days=12)
    after = zscaler.rotate("intermediate", same_name=True, plan=Plan(now=later, days=14, key="rsa:2048"))
    assert after.issuer.subject == zscaler.issuer.subject
    assert after.issuer.public_key != zscaler.issuer.public_key
    assert after.issuer.facts.crl == zscaler.issuer.facts.crl
    chain = PRESETS["zscaler"].leaf.make(after, target=target(), name=HOST, now=later).chain
    case = Case(chain, (zscaler.root.der,), HOST, later + timedelta(days=10))
    assert judges.openssl(case, tmp_path) == ACCEPTS
    case = Case(made("zscaler").chain, (zscaler.root.der,), HOST, later + timedelta(days=10))
    assert judges.openssl(case, tmp_path) == "10 certificate has expired"


def test_umbrellas_leaf_and_issuing_ca_live_ten_days() -> None:
    leaf = read_certificate(made("umbrella").leaf)
    assert (leaf.not_before, leaf.not_after) == ("2026-11-13T12:00:00Z", "2026-11-23T12:00:00Z")
    issuing = authority("umbrella").issuer
    assert issuing.not_after - issuing.not_before == timedelta(days=10)
    assert issuing.facts.subject == "CN=Cisco Umbrella Secondary SubCA,O=Cisco"


def test_cisco_marks_what_it_does_not_trust_in_the_common_name() -> None:
    recipe = PRESETS["cisco-wsa"].untrusted
    assert recipe is not None
    chain = recipe.make(authority("cisco-wsa"), target=target(), name=HOST, now=NOW)
    assert read_certificate(chain.leaf).subject == "CN=Untrusted Certificate Warning"
    assert read_certificate(made("cisco-wsa").leaf).subject == f"CN={HOST}"


def test_squids_leaf_has_the_key_of_its_issuer_and_a_usage_that_goes_with_it() -> None:
    leaf, squid = made("squid").leaf, authority("squid")
    assert cut_certificate(leaf).public_key == squid.issuer.public_key
    assert read_certificate(leaf).key_usage == ("digitalSignature", "keyEncipherment")
    assert "subject_key_identifier" not in read_certificate(leaf).extensions


def test_a_presets_authority_is_kept_and_constrained_like_any_other(tmp_path: Path) -> None:
    made_one = PRESETS["zscaler"].make_authority(Plan(constrain=("example.test",)))
    kept = made_one.keep(tmp_path / "ca", passphrase=b"secret")
    loaded = Authority.load(tmp_path / "ca", passphrase=b"secret")
    assert loaded.fingerprint == kept.fingerprint == made_one.fingerprint
    with pytest.raises(UserError, match="constrained to permitted: example"):
        issue(loaded, "elsewhere.test")


_FACT = '\n[[fact]]\nfields = ["key"]\nsource = "x"\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("title = 'x'", "key has no source; add a [[fact]] that names it"),
        (f"[behaviour]\nalpn = ['keep']\n{_FACT}", "behaviour.alpn has no source"),
        (f"[authority]\nroot.serial = 5\n{_FACT}", "authority.root.serial has no source"),
        (f"colour = 'red'\n{_FACT}", "colour is no part of one, or not of its kind"),
        (f"issuer_days = 'ten'\n{_FACT}", "issuer_days is no part of one, or not of its kind"),
        (f"[behaviour]\nalpn = ['h3']\n{_FACT}", "behaviour.alpn: expected a list of http/1.1, keep, strip"),
        (f"[behaviour]\ncolour = ['red']\n{_FACT}", "behaviour.colour: expected a list of alpn, bad_upstream, mtls"),
        ("[[fact]]\nfields = ['key']\n", "expected each fact to have fields, a source"),
        ("[[fact]]\nfields = []\nsource = 'x'\n", "expected each fact to have fields, a source"),
        (f"[authority]\nroot.sirial = 5\n{_FACT}", "did you mean serial?"),
        ("key = ", "it is not TOML"),
    ],
)
def test_what_is_wrong_with_a_preset_is_named(text: str, expected: str) -> None:
    with pytest.raises(RecipeError) as caught:
        read_preset("mine", text)
    assert "mine.toml" in str(caught.value)
    assert expected in str(caught.value)


def test_a_preset_that_says_nothing_is_the_usual_ca() -> None:
    preset = read_preset("mine", _FACT)
    assert preset == Preset(id="mine", title="", facts=preset.facts, authority=preset.authority, leaf=preset.leaf)
