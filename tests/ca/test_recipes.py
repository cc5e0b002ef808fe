"""What a recipe can say, in Python and in TOML, and what is made of it."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, strategies as st

from countersign.ca import Authority, AuthorityError, CannotMimic, KeyPool, LeafMint, Plan, issue, mint
from countersign.ca.draft import Draft
from countersign.ca.pieces import EXTENSIONS
from countersign.ca.randomness import Seeded
from countersign.ca.recipes import (
    BasicConstraints,
    CertSpec,
    Extension,
    MadeChain,
    NameConstraints,
    Recipe,
    RecipeError,
    Send,
    catalogue,
    load_recipes,
    read_recipes,
    to_toml,
)
from countersign.errors import CountersignError, UserError
from countersign.recorder import der
from countersign.recorder.certificates import cut_certificate, read_certificate, signed_by
from tests.ca import judges
from tests.ca.judges import ACCEPTS, Case
from tests.ca.odd_certificates import NOW, certificate, odd

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HOST = "host.example.test"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.make(Plan(now=NOW))


def make(authority: Authority, recipe: Recipe | None = None, **leaf: Any) -> MadeChain:
    return (recipe or Recipe(leaf=CertSpec(**leaf))).make(authority, name=HOST, now=NOW)


def accepted(made: MadeChain, *options: str, host: str = HOST, tmp_path: Path) -> str:
    return judges.openssl(Case(made.chain, made.anchors, host, NOW), tmp_path, *options)


def signed(issued: bytes, issuer: bytes) -> bool | None:
    parts, above = cut_certificate(issued), cut_certificate(issuer)
    return parts.issuer == above.subject and signed_by(parts, above.public_key)


# -- the smallest calls ------------------------------------------------------------------------------------------


@pytest.mark.peer("openssl")
def test_the_smallest_recipe_makes_a_right_chain(tmp_path: Path, authority: Authority) -> None:
    made = make(authority)
    assert made.chain == (made.leaf, *authority.chain)
    assert made.anchors == (authority.root.der,)
    assert made.wrong == made.left_out == ()
    assert accepted(made, "-x509_strict", tmp_path=tmp_path) == ACCEPTS


def test_a_leaf_from_nothing_says_what_an_issued_one_says(authority: Authority) -> None:
    made, issued = make(authority), issue(authority, HOST, now=NOW).chain[0]
    mine, other = Draft.of(made.leaf), Draft.of(issued)
    assert (mine.subject, mine.issuer, mine.validity) == (other.subject, other.issuer, other.validity)
    assert [each.oid for each in mine.extensions] == [each.oid for each in other.extensions]


def test_without_changes_a_target_is_mimicked_as_the_mint_does_it(authority: Authority) -> None:
    """One place that makes leaves: the recipe ``plain`` and the proxy's mint differ in what is left to chance."""
    target = certificate()
    made = catalogue()["plain"].make(authority, target=target, now=NOW)
    minted = mint(authority, target, now=NOW)
    mine, other = Draft.of(made.leaf), Draft.of(minted.chain[0])
    assert made.left_out == minted.left_out
    assert (mine.subject, mine.issuer, mine.validity) == (other.subject, other.issuer, other.validity)
    aside = {EXTENSIONS["ski"]}
    assert [each.raw for each in mine.extensions if each.oid not in aside] == [
        each.raw for each in other.extensions if each.oid not in aside
    ]


def test_a_mimicked_leaf_can_be_otherwise_in_one_field(authority: Authority) -> None:
    target = certificate()
    made = Recipe(leaf=CertSpec(not_after="-1d")).make(authority, target=target, now=NOW)
    facts, wanted = read_certificate(made.leaf), read_certificate(target)
    assert datetime.fromisoformat(facts.not_after or "") == NOW - timedelta(days=1)
    assert (facts.subject, facts.san, facts.not_before) == (wanted.subject, wanted.san, wanted.not_before)


def test_a_recipe_can_leave_the_target_alone(authority: Authority) -> None:
    made = Recipe(mimic=False).make(authority, target=certificate(), name=HOST, now=NOW)
    assert read_certificate(made.leaf).san == (f"DNS:{HOST}",)


# -- each field --------------------------------------------------------------------------------------------------

# What is asked for, and what the certificate then says in the words of the recorder.
_SAID = [
    ({"version": 1, "extensions": False}, {"version": 1, "extensions": ()}),
    ({"version": 7}, {"version": 7}),
    ({"serial": -255}, {"serial": "-ff"}),
    ({"serial": 0}, {"serial": "00"}),
    ({"serial": 1 << 160}, {"serial": "01" + "00" * 20}),
    ({"not_before": "2020-01-01"}, {"not_before": "2020-01-01T00:00:00Z"}),
    ({"not_before": "-90s"}, {"not_before": "2026-11-20T11:58:30Z"}),
    ({"not_after": "+2w"}, {"not_after": "2026-12-04T12:00:00Z"}),
    ({"not_after": "2060-02-03T04:05:06+01:00"}, {"not_after": "2060-02-03T03:05:06Z"}),
    ({"not_after": "utc:270101000000Z"}, {"not_after": "2027-01-01T00:00:00Z"}),
    ({"not_after": "generalized:99991231235959Z"}, {"not_after": "9999-12-31T23:59:59Z"}),
    ({"validity": b"\x30\x00"}, {"not_before": None, "not_after": None}),
    ({"subject": ("C=CH", "O=A, B", "CN={name}")}, {"subject": f"CN={HOST},O=A\\, B,C=CH"}),
    ({"subject": ("CN:bmp=Zürich", "1.2.3.4=x")}, {"subject": "1.2.3.4=x,CN=Zürich"}),
    ({"subject": ()}, {"subject": ""}),
    ({"issuer_name": ("CN=x",)}, {"issuer": "CN=x"}),
    ({"key": "rsa:1024"}, {"key": "RSA 1024", "key_usage": ("digitalSignature", "keyEncipherment")}),
    ({"key": "rsa-pss:1024"}, {"key": "RSA-PSS 1024"}),
    ({"key": "ec:P-521"}, {"key": "EC P-521"}),
    ({"key": "ed25519"}, {"key": "Ed25519"}),
    ({"signature": "sha1"}, {"signature_algorithm": "ecdsa-with-SHA1"}),
    ({"signature": "sha512"}, {"signature_algorithm": "ecdsa-with-SHA512"}),
    ({"outer_algorithm": "rsa:md5"}, {"signature_algorithm": "md5WithRSAEncryption"}),
    ({"san": ("a.test", "10.0.0.1", "::1", "*.{parent}")},
     {"san": ("DNS:a.test", "IP:10.0.0.1", "IP:::1", "DNS:*.example.test")}),
    ({"san": ("dns:10.0.0.1", "ip:#0a0000", "email:a@b", "uri:x://y", "rid:1.2.3", "dirname:CN=d", "upn:u")},
     {"san": ("DNS:10.0.0.1", "IP:#0a0000", "email:a@b", "URI:x://y", "RID:1.2.3", "dirName:CN=d",
              "otherName:1.3.6.1.4.1.311.20.2.3:u")}),
    ({"san": False}, {"san": ()}),
    ({"more_names": 10_000}, {"san_count": 10_001}),
    ({"basic_constraints": BasicConstraints(ca=True, path_length=3)}, {"is_ca": True, "path_length": 3}),
    ({"basic_constraints": False}, {"is_ca": False, "critical": ("key_usage",)}),
    ({"key_usage": ("keyAgreement", "decipherOnly")}, {"key_usage": ("keyAgreement", "decipherOnly")}),
    ({"key_usage": False}, {"key_usage": ()}),
    ({"extended_key_usage": ("clientAuth", "1.2.3.4")}, {"extended_key_usage": ("clientAuth", "1.2.3.4")}),
    ({"extended_key_usage": False}, {"extended_key_usage": ()}),
    ({"ski": "0102"}, {"ski": "0102"}),
    ({"ski": False}, {"ski": None}),
    ({"aki": "0102"}, {"aki": "0102"}),
    ({"aki": False}, {"aki": None}),
    ({"ocsp": ("http://o/",), "ca_issuers": ("http://i/",)}, {"ocsp": ("URI:http://o/",), "ca_issuers": ("URI:http://i/",)}),
    ({"crl": ("http://c/", "http://d/")}, {"crl": ("URI:http://c/", "URI:http://d/")}),
    ({"must_staple": True}, {"must_staple": True}),
    ({"scts": 3}, {"sct_count": 3}),
    ({"critical": ("san",), "not_critical": ("basic_constraints",)},
     {"critical": ("key_usage", "subject_alt_name")}),
]  # fmt: skip


@pytest.mark.parametrize(("said", "expected"), _SAID, ids=[str(number) for number in range(len(_SAID))])
def test_a_field_says_what_it_was_told(authority: Authority, said: dict[str, Any], expected: dict[str, Any]) -> None:
    facts = read_certificate(make(authority, **said).leaf)
    places = {"ocsp", "ca_issuers", "crl"}
    plain = {name: tuple(f"URI:{url}" for url in getattr(facts, name)) for name in places & expected.keys()}
    assert {name: plain.get(name, getattr(facts, name)) for name in expected} == expected


@pytest.mark.parametrize("word", [each for each in EXTENSIONS if each != "aia"])
def test_every_extension_can_be_left_out_and_can_hold_any_bytes(authority: Authority, word: str) -> None:
    oid = EXTENSIONS[word]
    garbage = Draft.of(make(authority, **dict[str, Any]({word: b"\xff\x00"})).leaf).find(oid)
    assert garbage is not None
    assert garbage.value == b"\xff\x00"
    assert Draft.of(make(authority, **dict[str, Any]({word: False})).leaf).find(oid) is None


@pytest.mark.parametrize(
    ("word", "place"),
    [("version", "version"), ("serial", "serial"), ("validity", "validity"), ("subject", "subject"),
     ("issuer_name", "issuer"), ("public_key", "public_key"), ("inner_algorithm", "inner_algorithm"),
     ("outer_algorithm", "algorithm")],
)  # fmt: skip
def test_every_field_can_hold_any_der(authority: Authority, word: str, place: str) -> None:
    odd = der.encode(0xA0 if word == "version" else der.SEQUENCE, b"\x05\x00")
    assert getattr(cut_certificate(make(authority, **dict[str, Any]({word: odd})).leaf), place) == odd


def test_an_extension_by_number_can_be_added_and_stand_there_twice(authority: Authority) -> None:
    extra = (Extension(oid="1.2.3.4", value=b"\x05\x00", critical=True),)
    draft = Draft.of(make(authority, extra=extra, twice=("1.2.3.4", "san")).leaf)
    oids = [each.oid for each in draft.extensions]
    assert oids.count("1.2.3.4") == oids.count(EXTENSIONS["san"]) == 2
    assert [each.critical for each in draft.extensions if each.oid == "1.2.3.4"] == [True, True]


def test_an_empty_subject_stays_off_the_other_fields(authority: Authority) -> None:
    right, made = make(authority), make(authority, subject=())
    mine, other = cut_certificate(made.leaf), cut_certificate(right.leaf)
    assert mine.subject == b"\x30\x00"
    assert (mine.issuer, mine.validity) == (other.issuer, other.validity)


# -- who signs whom ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [0, 1, 2, 4])
@pytest.mark.peer("openssl")
def test_any_number_of_intermediates_is_taken_along(tmp_path: Path, levels: int) -> None:
    authority = Authority.make(Plan(now=NOW, levels=levels))
    for recipe in (Recipe(), Recipe(leaf=CertSpec(serial=5))):
        made = make(authority, recipe)
        assert made.chain[1:] == authority.chain
        assert len(made.chain) == levels + 1
        assert accepted(made, "-x509_strict", tmp_path=tmp_path) == ACCEPTS


@pytest.mark.peer("openssl")
@pytest.mark.parametrize("levels", [1, 3])
def test_a_changed_intermediate_is_made_again_by_whoever_is_above_it(tmp_path: Path, levels: int) -> None:
    authority = Authority.make(Plan(now=NOW, levels=levels))
    made = make(authority, Recipe(intermediate=CertSpec(crl=("http://crl.test/",))))
    leaf, intermediate, *above = made.chain
    assert intermediate != authority.issuer.der
    assert above == list(authority.chain[1:])
    assert signed(leaf, intermediate)
    assert signed(intermediate, (*above, authority.root.der)[0])
    assert read_certificate(intermediate).serial != authority.issuer.facts.serial
    assert read_certificate(intermediate).crl == ("http://crl.test/",)
    assert accepted(made, tmp_path=tmp_path) == ACCEPTS


@pytest.mark.peer("openssl")
def test_a_new_key_or_name_above_reaches_what_is_below(tmp_path: Path, authority: Authority) -> None:
    for spec in (CertSpec(key="ec:P-384"), CertSpec(subject=("CN=Another Root",))):
        made = make(authority, Recipe(root=spec))
        assert made.anchors[0] != authority.root.der
        assert signed(made.chain[1], made.anchors[0])
        assert made.chain[1] != authority.issuer.der
        assert accepted(made, "-x509_strict", tmp_path=tmp_path) == ACCEPTS


def test_a_changed_root_of_the_same_name_and_key_leaves_the_intermediate_as_it_was(authority: Authority) -> None:
    made = make(authority, Recipe(root=CertSpec(not_critical=("basic_constraints",))))
    assert made.anchors[0] != authority.root.der
    assert made.chain[1:] == authority.chain


def test_an_intermediate_can_be_put_under_a_root_that_had_none() -> None:
    authority = Authority.make(Plan(now=NOW, levels=0))
    made = make(authority, Recipe(intermediate=CertSpec(key="ec:P-384")))
    assert len(made.chain) == 2
    assert signed(made.chain[0], made.chain[1])
    assert signed(made.chain[1], authority.root.der)


def test_certificates_may_sign_each_other_in_a_circle(authority: Authority) -> None:
    made = make(authority, catalogue()["loop"])
    assert signed(made.certificates["sun"], made.certificates["moon"])
    assert signed(made.certificates["moon"], made.certificates["sun"])
    assert made.chain == tuple(made.certificates[each] for each in ("leaf", "sun", "moon"))


def test_a_copy_has_the_subject_and_the_key_of_its_original_and_another_serial(authority: Authority) -> None:
    made = make(authority, catalogue()["cross-signed"])
    root, cross = (cut_certificate(made.certificates[each]) for each in ("root", "cross"))
    assert (cross.subject, cross.public_key) == (root.subject, root.public_key)
    assert cross.serial != root.serial
    assert signed(made.certificates["cross"], made.certificates["old-root"])


@pytest.mark.parametrize(
    ("recipe", "circle"),
    [
        ({"other": (CertSpec(name="a", like="b"), CertSpec(name="b", like="a"))}, "a is subject_of b is subject_of a"),
        ({"leaf": CertSpec(key_of="leaf")}, "leaf is key_of leaf"),
        (
            {"leaf": CertSpec(key_of="intermediate"), "intermediate": CertSpec(key_of="leaf")},
            "is key_of leaf is key_of",
        ),
        ({"root": CertSpec(key_of="issuer")}, "root is key_of root"),
        ({"leaf": CertSpec(subject_of="issuer", issuer="leaf")}, "leaf is subject_of leaf"),
    ],
)
def test_a_subject_or_key_that_comes_from_itself_is_refused(recipe: dict[str, Any], circle: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe(**recipe)
    assert circle in str(caught.value)


def test_a_key_that_must_sign_and_is_not_here_is_told(tmp_path: Path, authority: Authority) -> None:
    """Of a given authority the issuer's key is there: leaves can be made, intermediates cannot be made again."""
    from countersign.ca.keeping import key_to_pem
    from countersign.ca.pem import to_pem

    (tmp_path / "ca.pem").write_bytes(to_pem(authority.issuer.der) + authority.root_pem)
    (tmp_path / "key.pem").write_bytes(key_to_pem(authority.issuer.signer.key))
    given_one = Authority.given(tmp_path / "ca.pem", tmp_path / "key.pem")
    made = make(given_one)
    assert made.chain[1:] == authority.chain
    assert make(given_one, not_after="-1d").chain[1:] == authority.chain
    with pytest.raises(AuthorityError, match="its private key is not here"):
        make(given_one, Recipe(intermediate=CertSpec(not_after="-1d")))


def test_an_expired_authority_makes_no_recipe(authority: Authority) -> None:
    with pytest.raises(AuthorityError, match="expired on"):
        Recipe().make(authority, now=NOW + timedelta(days=400))


def test_a_cross_signed_authority_sends_its_cross_certificate(authority: Authority) -> None:
    new = Authority.make(Plan(name="new", now=NOW))
    crossed = authority.cross_sign(new, now=NOW)
    assert make(crossed).chain[1:] == crossed.chain
    assert len(crossed.chain) == 2


# -- what is sent ------------------------------------------------------------------------------------------------


def sent(authority: Authority, *order: str, **how: object) -> tuple[MadeChain, list[str]]:
    """The names of what is sent, ``?`` for what has none."""
    made = make(authority, Recipe(send=Send(order=order[0] if len(order) == 1 else order, **how)))  # type: ignore[arg-type]
    names = {certificate: name for name, certificate in made.certificates.items()}
    return made, [names.get(each, "?") for each in made.chain]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("right", "leaf intermediate above-1"),
        ("leaf-only", "leaf"),
        ("no-intermediate", "leaf above-1 root"),
        ("with-root", "leaf intermediate above-1 root"),
        ("reversed", "leaf root above-1 intermediate"),
        ("leaf-last", "root above-1 intermediate leaf"),
        ("twice", "leaf leaf intermediate intermediate above-1 above-1"),
        ("empty", ""),
    ],
)
def test_a_chain_is_sent_in_the_order_that_has_that_name(order: str, expected: str) -> None:
    assert sent(Authority.make(Plan(levels=2, now=NOW)), order)[1] == expected.split()


def test_a_chain_is_sent_in_the_order_that_is_listed(authority: Authority) -> None:
    assert sent(authority, "intermediate", "root", "leaf", "leaf")[1] == ["intermediate", "root", "leaf", "leaf"]


def test_a_shuffled_chain_is_another_one_each_time_and_the_same_for_a_seed() -> None:
    authority = Authority.make(Plan(levels=5, now=NOW, rng=Seeded(0)))
    recipe = Recipe(send=Send(order="shuffled"))
    orders = [recipe.make(authority, now=NOW, rng=Seeded(seed)).chain for seed in (1, 2, 3, 1)]
    assert orders[0] == orders[3]
    assert len({each[1:] for each in orders}) == 3
    right = Recipe(send=Send(order="with-root")).make(authority, now=NOW).chain[1:]
    assert all(sorted(each[1:]) == sorted(right) and each[1:] != right for each in orders)


@pytest.mark.parametrize(("how", "count"), [({"unrelated": 1}, 3), ({"unrelated": 5}, 7), ({"count": 100}, 100)])
def test_certificates_that_belong_to_nothing_are_sent_behind(
    authority: Authority, how: dict[str, int], count: int
) -> None:
    made, names = sent(authority, "right", **how)
    assert names == ["leaf", "intermediate", *["?"] * (count - 2)]
    assert len(set(made.chain)) == count
    assert all(read_certificate(each).self_signed for each in made.chain[2:])


@pytest.mark.parametrize("size", [10_000, 66_000, 1_000_000])
def test_a_chain_can_be_made_as_large_as_wanted(authority: Authority, size: int) -> None:
    made, _ = sent(authority, "right", size=size)
    assert size <= sum(map(len, made.chain)) < size + 1000
    assert len(made.chain) == 3


def test_every_certificate_of_a_chain_can_say_where_its_status_is_found(authority: Authority) -> None:
    """A JVM that checks revocation asks for all of them."""
    made = make(authority, catalogue()["chain-with-status-points"])
    assert [bool(read_certificate(each).ocsp and read_certificate(each).crl) for each in made.chain] == [True, True]


def test_points_of_the_authority_are_on_every_leaf(authority: Authority) -> None:
    from dataclasses import replace

    from countersign.ca.assemble import extension

    pointed = replace(authority, points=(extension(EXTENSIONS["crl"], b"\x30\x00"),))
    for leaf in (
        make(pointed).leaf,
        issue(pointed, HOST, now=NOW).chain[0],
        mint(pointed, certificate(), now=NOW).chain[0],
    ):
        assert Draft.of(leaf).find(EXTENSIONS["crl"]) is not None


# -- chance and keys ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["ec:P-256", "rsa:1024", "ed25519", "rsa-pss:1024"])
def test_the_same_seed_makes_the_same_chain_byte_for_byte(key: str) -> None:
    def once() -> tuple[object, ...]:
        authority = Authority.make(Plan(now=NOW, key=key, rng=Seeded("authority")))
        recipe = Recipe(leaf=CertSpec(key=key, scts=2), send=Send(unrelated=1))
        made = recipe.make(authority, name=HOST, now=NOW, rng=Seeded("chain"))
        return made.chain, made.anchors

    assert once() == once()


def test_without_a_seed_no_two_chains_are_the_same(authority: Authority) -> None:
    one, other = make(authority), make(authority)
    assert cut_certificate(one.leaf).public_key != cut_certificate(other.leaf).public_key
    assert read_certificate(one.leaf).serial != read_certificate(other.leaf).serial


def test_the_keys_of_a_pool_are_one_for_each_certificate_of_a_chain(authority: Authority) -> None:
    pool = KeyPool()
    recipe = Recipe(leaf=CertSpec(key="rsa:1024"), intermediate=CertSpec(key="rsa:1024"))
    chains = [recipe.make(authority, now=NOW, pool=pool).chain for _ in range(2)]
    keys = [[cut_certificate(each).public_key for each in chain] for chain in chains]
    assert keys[0] == keys[1]
    assert keys[0][0] != keys[0][1]


# -- what makes no sense -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"not_after": "yesterday"}, "cannot take 'yesterday' for a date: expected -1d"),
        ({"not_after": "+9999999y"}, "for a date"),
        ({"subject": ("Common Name=x",)}, "for a part of a name: expected CN"),
        ({"subject": ("CN:printable=\u20ac",)}, "characters that such a string has not"),
        ({"key": "rsa:512"}, "cannot make a key of kind 'rsa:512'"),
        ({"signature": "sha3"}, "cannot sign with 'sha3' and an ec key: expected sha1 or"),
        ({"signature": "pss-sha256"}, "cannot sign with 'pss-sha256' and an ec key"),
        ({"inner_algorithm": "rot13"}, "cannot name the signature algorithm 'rot13'"),
        ({"key_usage": ("digitalsignature",)}, "cannot take 'digitalsignature' for a key usage"),
        ({"extended_key_usage": ("webServer",)}, "cannot take 'webServer' for a purpose"),
        ({"aki": "xyz"}, "cannot read the key identifier 'xyz'"),
        ({"critical": ("crl",)}, "cannot make crl critical: it is not there"),
        ({"twice": ("crl",)}, "cannot put crl into a certificate twice"),
        ({"twice": ("subjectAltName",)}, "cannot take 'subjectAltName' for an extension"),
        ({"name_constraints": NameConstraints(permitted=("a b",))}, "expected a domain"),
    ],
)
def test_a_value_that_means_nothing_is_the_users_error(
    authority: Authority, said: dict[str, Any], expected: str
) -> None:
    with pytest.raises(UserError) as caught:
        make(authority, **said)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ({"trust": ("roots",)}, "names the certificate 'roots', expected one of root, intermediate, leaf"),
        ({"leaf": CertSpec(issuer="ca")}, "leaf.issuer names the certificate 'ca'"),
        ({"send": Send(order="random")}, "in the order 'random': expected right, leaf-only"),
        ({"send": Send(order=("leaf", "x"))}, "names the certificate 'x'"),
        ({"other": (CertSpec(),)}, "needs a name of its own"),
        ({"other": (CertSpec(name="leaf"),)}, "needs a name of its own"),
        ({"other": (CertSpec(name="a"), CertSpec(name="a"))}, "needs a name of its own"),
        ({"breaks": ("leaf.notAfter",)}, "cannot take 'leaf.notAfter'"),
        ({"role": "both"}, "its role is server or client"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused_when_it_is_written(recipe: dict[str, Any], expected: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe(**recipe)
    assert expected in str(caught.value)


def test_what_breaks_nothing_cannot_be_mended() -> None:
    with pytest.raises(RecipeError, match="names nothing that it breaks"):
        Recipe().mended()


# -- TOML --------------------------------------------------------------------------------------------------------


def test_a_file_of_recipes_is_read(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        """
        [mine]
        title = "Mine"
        leaf.serial = "-0x10"
        leaf.subject = ["CN={name}"]
        leaf.san = false
        leaf.basic_constraints = { ca = true, path_length = 2 }
        leaf.key_usage = { der = "0302" }
        leaf.extra = [{ oid = "1.2.3", value = "0500", critical = true }]
        other.old.not_after = "-1d"
        send = { order = ["leaf", "old"], unrelated = 2 }
        """
    )
    (recipe,) = load_recipes(tmp_path / "mine.toml").values()
    assert recipe == Recipe(
        id="mine",
        title="Mine",
        leaf=CertSpec(
            serial=-16,
            subject=("CN={name}",),
            san=False,
            basic_constraints=BasicConstraints(ca=True, path_length=2),
            key_usage=b"\x03\x02",
            extra=(Extension(oid="1.2.3", value=b"\x05\x00", critical=True),),
        ),
        other=(CertSpec(name="old", not_after="-1d"),),
        send=Send(order=("leaf", "old"), unrelated=2),
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[a]\nleaf.not_aftr = '-1d'", "[a] leaf: there is no 'not_aftr' here; did you mean not_after? expected aki, "),
        ("[a]\ntitel = 'x'", "[a]: there is no 'titel' here; did you mean title? expected breaks, "),
        ("[a]\nleef.san = false", "[a]: there is no 'leef' here; did you mean leaf?"),
        ("[a]\nsend.ordr = 'right'", "[a] send: there is no 'ordr' here; did you mean order?"),
        ("[a]\nleaf.version = '3'", "[a] leaf.version: expected a number or { der"),
        ("[a]\nleaf.version = true", "[a] leaf.version: expected a number or { der"),
        ("[a]\nleaf.san = 'host'", "[a] leaf.san: expected a list of texts or false or { der"),
        ("[a]\nleaf.san = [1]", "[a] leaf.san: expected a list of texts"),
        ("[a]\nleaf.san = true", "[a] leaf.san: expected a list of texts or false or { der"),
        ("[a]\nleaf.san = { der = 'xy' }", "[a] leaf.san: expected pairs of hexadecimal digits, got 'xy'"),
        ("[a]\nleaf.serial = 'many'", "[a] leaf.serial: expected a number in hexadecimal"),
        ("[a]\nleaf.not_after = 2026-01-01", "[a] leaf.not_after: expected text, got a date"),
        ("[a]\nleaf.not_after = 'soon'", "[a] leaf.not_after: cannot take 'soon' for a date"),
        ("[a]\nleaf.basic_constraints.Ca = true", "leaf.basic_constraints: there is no 'Ca' here; did you mean ca?"),
        ("[a]\nleaf.extra = [{ oid = '1.2', value = 5 }]", "leaf.extra.1.value: expected hexadecimal digits in quotes"),
        ("[a]\nleaf.key = 'dsa'", "[a] leaf.key: cannot make a key of kind 'dsa'"),
        ("[a]\nother.x.issuer = 'y'", "[a]: cannot use the recipe 'a': x.issuer names the certificate 'y'"),
        ("[a]\nother = 5", "[a] other: expected a table, got a number"),
        ("a = 5", "[a]: expected a table of its own for each recipe, got a number"),
        ("[a\n", "it is not TOML"),
        ('["a\\u001b[2J"]\nx = 1', "[a\\x1b[2J]: there is no 'x' here"),
    ],
)  # fmt: skip
def test_a_wrong_key_or_value_is_named_with_file_place_and_what_was_expected(
    tmp_path: Path, text: str, expected: str
) -> None:
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(RecipeError) as caught:
        load_recipes(tmp_path / "mine.toml")
    assert str(tmp_path / "mine.toml") in str(caught.value)
    assert expected in str(caught.value)


def test_a_file_that_is_not_there_or_no_text_is_told(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no such file"):
        load_recipes(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b"[a]\ntitle = '\xe9'")
    with pytest.raises(RecipeError, match="it is not UTF-8"):
        load_recipes(tmp_path / "latin.toml")


def test_a_file_that_is_broken_in_any_way_is_an_error_of_one_kind(scaled: Callable[[int], int]) -> None:
    """T31: flipped, cut, doubled; and too deep, and too long a number."""
    import random
    from importlib import resources

    files = [each.read_bytes() for each in resources.files("countersign.ca.recipes").iterdir() if ".toml" in each.name]
    chance = random.Random(31)
    broken = ["a = " + "[" * 100_000, "a = " + "9" * 10_000, "[a]\nleaf.serial = '0x" + "f" * 100_000 + "'"]
    for _ in range(scaled(2000)):
        data = bytearray(chance.choice(files))
        for _ in range(chance.choice((1, 2, 8))):
            at = chance.randrange(len(data))
            match chance.randrange(4):
                case 0:
                    data[at] ^= 1 << chance.randrange(7)
                case 1:
                    del data[at : at + chance.randrange(1, 200)]
                case 2:
                    data[at:at] = data[at : at + chance.randrange(100)]
                case _:
                    del data[at:]
                    data += b"\n" * 2
        broken.append(data.decode("utf-8", "replace"))
    for text in broken:
        try:
            recipes = read_recipes(text)
        except RecipeError:
            continue
        for recipe in recipes.values():
            assert isinstance(recipe.changes, tuple)


@pytest.mark.parametrize("name", catalogue())
def test_what_was_written_is_read_again(name: str) -> None:
    recipe = catalogue()[name]
    assert read_recipes(to_toml(recipe)) == {name: recipe}


_words = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), max_size=3).map(tuple)
_raw = st.binary(max_size=6)
_SOME = {
    "version": st.integers(-5, 300) | _raw,
    "serial": st.integers(-(1 << 170), 1 << 170) | _raw,
    "not_after": st.sampled_from(["-1d", "+5y", "utc:x\x00", "2030-01-01T00:00:00Z"]),
    "validity": _raw,
    "subject": _words.map(lambda words: tuple(f"CN={word}" for word in words)) | _raw,
    "signature_broken": st.booleans(),
    "san": _words.map(lambda words: tuple(f"dns:{word}" for word in words)) | _raw | st.just(value=False),
    "basic_constraints": _raw
    | st.builds(BasicConstraints, ca=st.booleans(), path_length=st.none() | st.integers(0, 9)),
    "name_constraints": st.builds(NameConstraints, permitted=st.just(("a.test", "10.0.0.0/8"))) | st.just(value=False),
    "must_staple": st.booleans() | _raw,
    "scts": st.integers(0, 3) | st.just(value=False) | _raw,
    "extra": st.lists(
        st.builds(Extension, oid=st.just("1.2.3"), value=_raw, critical=st.booleans()), max_size=2
    ).map(tuple),
}  # fmt: skip
_specs = st.fixed_dictionaries({}, optional=_SOME)


@given(leaf=_specs, other=_specs, title=st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_any_recipe_that_can_be_written_in_python_can_be_written_in_toml(
    leaf: dict[str, Any], other: dict[str, Any], title: str
) -> None:
    recipe = Recipe(
        id="any one",
        title=title,
        leaf=CertSpec(**leaf),
        other=(CertSpec(name="an other", **other),),
    )
    assert read_recipes(to_toml(recipe)) == {"any one": recipe}


@given(leaf=_specs, intermediate=_specs)
def test_whatever_a_recipe_says_is_made_and_can_be_cut_again(
    leaf: dict[str, Any], intermediate: dict[str, Any]
) -> None:
    made = Recipe(leaf=CertSpec(**leaf), intermediate=CertSpec(**intermediate)).make(_one(), name=HOST, now=NOW)
    assert len(made.chain) == 2
    for each in made.chain:
        read_certificate(each)


def _one() -> Authority:
    if not _kept:
        _kept.append(Authority.make(Plan(now=NOW)))
    return _kept[0]


_kept: list[Authority] = []


def test_every_field_that_toml_knows_is_one_of_python() -> None:
    from countersign.ca.recipes import reading

    assert {each.name for each in fields(CertSpec)} - {"name"} == set(reading._SPEC)
    tables = {"id", "leaf", "intermediate", "root", "other", "send"}
    assert {each.name for each in fields(Recipe)} - tables == set(reading._RECIPE)
    assert {each.name for each in fields(Send)} == set(reading._SEND)


def test_dates_are_utc(authority: Authority) -> None:
    facts = read_certificate(make(authority, not_before="2026-11-01T12:00:00+09:00").leaf)
    assert datetime.fromisoformat(facts.not_before or "") == datetime(2026, 11, 1, 3, tzinfo=UTC)


@pytest.mark.parametrize("name", odd())
def test_whatever_the_target_shows_each_recipe_is_made_or_says_why_not(authority: Authority, name: str) -> None:
    """T16: a hostile target meets a recipe, and one kind of error comes of it."""
    spec = CertSpec(
        not_after="-1d", subject=("CN=x",), more_key_usage=("keyAgreement",), san=("{name}",), twice=("san",)
    )
    for recipe in (Recipe(leaf=spec), Recipe(leaf=CertSpec(critical=("san",))), Recipe(leaf=CertSpec(ski=False))):
        try:
            made = recipe.make(authority, target=odd()[name], now=NOW)
        except CountersignError:
            continue
        assert read_certificate(made.leaf).issuer == authority.issuer.facts.subject


# -- in the proxy's mint -----------------------------------------------------------------------------------------


async def test_a_mint_makes_leaves_by_its_recipe_and_keeps_them_for_each_host(authority: Authority) -> None:
    target = certificate()
    mint_by = LeafMint(authority, recipe=catalogue()["leaf-other-name"], clock=lambda: NOW)
    one = await mint_by.leaf_for(target, name="a.test")
    assert one is await mint_by.leaf_for(target, name="a.test")
    assert one is not await mint_by.leaf_for(target, name="b.test")
    assert read_certificate(one.chain[0]).san == ("DNS:other.example.test",)
    mint_by.recipe = None
    plain = await mint_by.leaf_for(target)
    assert "DNS:odd.test" in read_certificate(plain.chain[0]).san


async def test_a_mint_makes_a_leaf_again_when_its_recipes_dates_have_passed(authority: Authority) -> None:
    clock, target = [NOW], certificate()
    mint_by = LeafMint(authority, recipe=Recipe(leaf=CertSpec(not_after="+5m")), clock=lambda: clock[0])
    one = await mint_by.leaf_for(target)
    clock[0] += timedelta(minutes=4)
    assert one is await mint_by.leaf_for(target)
    clock[0] += timedelta(minutes=2)
    assert one is not await mint_by.leaf_for(target)


async def test_slow_keys_of_a_recipe_are_made_beside_the_loop(authority: Authority) -> None:
    recipe = Recipe(leaf=CertSpec(key="rsa:2048"), intermediate=CertSpec(key="rsa:2048"))
    mint_by = LeafMint(authority, recipe=recipe, clock=lambda: NOW)
    assert recipe.kinds_of_keys(authority, certificate()) == [("RSA 2048", "intermediate"), ("RSA 2048", "leaf")]
    made = await mint_by.leaf_for(certificate())
    assert mint_by.pool.ready("RSA 2048", "leaf")
    assert mint_by.pool.ready("RSA 2048", "intermediate")
    assert read_certificate(made.chain[0]).key == "RSA 2048"


async def test_a_recipe_that_asks_of_a_target_what_it_has_not_is_told_as_one_that_cannot_be_mimicked(
    authority: Authority,
) -> None:
    mint_by = LeafMint(authority, recipe=Recipe(leaf=CertSpec(twice=("crl",))), clock=lambda: NOW)
    with pytest.raises(CannotMimic, match="cannot put crl into a certificate twice"):
        await mint_by.leaf_for(certificate())
