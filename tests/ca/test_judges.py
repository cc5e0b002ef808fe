"""Each recipe of the catalogue before three verifiers, which refuse it as it says, and accept it mended."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING

import pytest

from countersign.ca import Authority, KeyPool, Plan
from countersign.ca.draft import Draft
from countersign.ca.pieces import EXTENSIONS
from countersign.ca.randomness import Seeded
from countersign.ca.recipes import MadeChain, Recipe, catalogue
from countersign.recorder.certificates import cut_certificate
from tests.ca import judges
from tests.ca.judges import ACCEPTS, Case

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
HOST = "host.example.test"

CATALOGUE = catalogue()
WRONG = [each.id for each in CATALOGUE.values() if each.wrong]
ODD = [each.id for each in CATALOGUE.values() if not each.wrong]

pytestmark = pytest.mark.filterwarnings("ignore:Parsed a serial number which wasn't positive")


@cache
def authority() -> Authority:
    return Authority.make(Plan(now=NOW, rng=Seeded("judges")))


@cache
def pool() -> KeyPool:
    """Keys for all chains of a process: a chain and its mended form have the same ones."""
    return KeyPool()


@cache
def made(name: str, *, mended: bool = False) -> tuple[Recipe, MadeChain]:
    recipe = CATALOGUE[name].mended() if mended else CATALOGUE[name]
    chain = recipe.make(authority(), name=recipe.host or HOST, now=NOW, rng=Seeded("chain"), pool=pool())
    return recipe, chain


def case(name: str, *, mended: bool = False) -> Case:
    recipe, chain = made(name, mended=mended)
    return Case(chain.chain, chain.anchors, recipe.host or HOST, NOW, recipe.role)


@pytest.fixture(scope="session")
def jvm(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the JVM says of every recipe and of every mended one, from one run."""
    cases = {name: case(name) for name in CATALOGUE}
    cases |= {f"{name}-mended": case(name, mended=True) for name in WRONG}
    return judges.jvm(cases, tmp_path_factory.mktemp("jvm"))


def assert_said(expected: str, said: str) -> None:
    """``accepts`` is said as it is, a refusal has the expected words in it."""
    assert said == expected if ACCEPTS in {expected, said} else expected in said


@pytest.mark.peer("openssl")
@pytest.mark.parametrize("name", CATALOGUE)
def test_openssl_says_what_the_recipe_says(tmp_path: Path, name: str) -> None:
    """By number; the texts that go with them change from version to version."""
    recipe, _ = made(name)
    for expected, options in ((recipe.openssl, ()), (recipe.openssl_strict or recipe.openssl, ("-x509_strict",))):
        said = judges.openssl(case(name), tmp_path, *options)
        assert_said(expected.split()[0], said.split()[0])


@pytest.mark.peer("java")
@pytest.mark.parametrize("name", CATALOGUE)
def test_a_jvm_says_what_the_recipe_says(jvm: dict[str, str], name: str) -> None:
    assert_said(CATALOGUE[name].jvm, jvm[name])


@pytest.mark.parametrize("name", CATALOGUE)
def test_cryptography_says_what_the_recipe_says(name: str) -> None:
    assert_said(CATALOGUE[name].cryptography, judges.cryptography(case(name)))


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_refused_by_a_judge_or_by_the_handshake(name: str) -> None:
    recipe = CATALOGUE[name]
    verdicts = {recipe.openssl, recipe.openssl_strict or recipe.openssl, recipe.jvm, recipe.cryptography}
    assert verdicts != {ACCEPTS} or recipe.handshake


@pytest.mark.peer("openssl", "java")
@pytest.mark.parametrize("name", WRONG)
def test_it_is_wrong_in_that_field_alone_mended_all_judges_accept_it(
    tmp_path: Path, jvm: dict[str, str], name: str
) -> None:
    mended = case(name, mended=True)
    assert judges.openssl(mended, tmp_path) == ACCEPTS
    assert judges.openssl(mended, tmp_path, "-x509_strict") == ACCEPTS
    assert judges.cryptography(mended) == ACCEPTS
    assert jvm[f"{name}-mended"] == ACCEPTS


@pytest.mark.parametrize("name", ODD)
def test_what_is_odd_but_valid_is_accepted_by_a_jvm_and_by_openssl_or_says_why_not(name: str) -> None:
    """The three that OpenSSL refuses are about OpenSSL: a second too early, no way back, no partial chains."""
    recipe = CATALOGUE[name]
    assert recipe.jvm == ACCEPTS
    stubborn = {"leaf-expires-now", "cross-signed-better-path-second", "intermediate-trusted"}
    assert (recipe.openssl == ACCEPTS) != (name in stubborn)


# -- that field and no other -------------------------------------------------------------------------------------

# What follows from a field: the key that its identifier names, the algorithms that name the scheme.
_FOLLOWS = {
    "not_before": {"validity"},
    "not_after": {"validity"},
    "key": {"public_key", "ski", "key_usage"},
    "subject_of": {"subject"},
    "issuer_name": {"issuer"},
    "issuer": {"issuer", "aki"},
    "signature": {"inner_algorithm", "algorithm"},
    "outer_algorithm": {"algorithm"},
    "signature_broken": set[str](),
    "signed_by": set[str](),
    "extra": {"1.2.3.4.5", "1.3.6.1.4.1.11129.2.4.3", "2.5.29.36"},
    "twice": {"san", "1.2.3.4.5"},
    "critical": {"aki", "aia"},
    "not_critical": {"basic_constraints"},
    "extensions": set(EXTENSIONS),
}


def pieces(certificate: bytes) -> dict[str, object]:
    """A certificate field by field, each extension by its word or number; the signature left out."""
    parts, draft = cut_certificate(certificate), Draft.of(certificate)
    words = {oid: word for word, oid in EXTENSIONS.items()}
    fields = ("version", "serial", "inner_algorithm", "issuer", "validity", "subject", "public_key", "algorithm")
    found: dict[str, object] = {each: getattr(parts, each) for each in fields}
    for extension in draft.extensions:
        word = words.get(extension.oid, extension.oid)
        found[word] = (found.get(word, ()), extension.raw)
    return found


@pytest.mark.parametrize("name", WRONG)
def test_the_mended_chain_differs_in_what_was_broken_and_in_nothing_else(name: str) -> None:
    """Made from the same seed: same keys, same serial numbers, and every other field the same bytes.

    But a certificate of the authority that is made again needs a serial number of its own (RFC 5280 4.1.2.2).
    """
    (recipe, wrong), (_, right) = made(name), made(name, mended=True)
    broken = [path.split(".") for path in recipe.breaks]
    anchors_may_differ = any(path[0] in {"trust", "root"} or path[:2] == ["other", "old-root"] for path in broken)
    assert wrong.anchors == right.anchors or anchors_may_differ
    assert {*wrong.certificates} == {*right.certificates}
    for each, certificate in wrong.certificates.items():
        before, after = pieces(right.certificates[each]), pieces(certificate)
        differ = {field for field in before.keys() | after.keys() if before.get(field) != after.get(field)}
        own = {issuer.der for issuer in authority().issuers}
        allowed = {"serial"} if right.certificates[each] in own else set()
        for *where, field in broken:
            if where and where[-1] == each:
                allowed |= _FOLLOWS.get(field, {field})
            elif field in {"subject", "key", "subject_of"}:  # of an issuer
                allowed |= {"issuer", "aki", "inner_algorithm", "algorithm"}
        assert differ <= allowed, differ - allowed


def test_the_catalogue_is_large_and_each_recipe_says_what_it_is() -> None:
    assert len(CATALOGUE) >= 80
    assert len(WRONG) >= 80
    for recipe in CATALOGUE.values():
        assert recipe.title
        assert recipe.rfc
        assert bool(recipe.wrong) == bool(recipe.breaks)
