"""Authorities beside, below and after one another: intermediates, cross-signing, rotation, and what is kept of it."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12

from countersign.ca import Authority, AuthorityError, KeyPairError, LeafMint, Plan, issue, mint
from countersign.ca.keeping import PASSPHRASE_VARIABLE, key_to_pem, read_passphrase
from countersign.ca.pem import to_pem
from countersign.ca.randomness import Seeded
from countersign.errors import EnvironmentFault, UserError
from countersign.recorder.certificates import cut_certificate, read_certificate
from countersign.recorder.private_files import FileFault, write_private
from tests.ca import judges
from tests.ca.judges import ACCEPTS, Case
from tests.ca.odd_certificates import NOW, certificate

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

HOST = "host.example.test"


def verdict(tmp_path: Path, chain: Iterable[bytes], *roots: Authority, strict: bool = True) -> str:
    """What ``openssl verify`` says of the chain before a client that trusts these roots."""
    case = Case(tuple(chain), tuple(root.root.der for root in roots), HOST, NOW)
    return judges.openssl(case, tmp_path, *(["-x509_strict"] if strict else []))


def leaf(authority: Authority) -> tuple[bytes, ...]:
    return issue(authority, HOST, now=NOW).chain


def made(**how: object) -> Authority:
    return Authority.make(Plan(now=NOW, **how))  # type: ignore[arg-type]


# -- levels, kinds of keys, several side by side -----------------------------------------------------------------


@pytest.mark.peer("openssl")
@pytest.mark.parametrize("levels", [0, 1, 2, 3, 10])
def test_an_authority_has_as_many_intermediates_as_asked_for(tmp_path: Path, levels: int) -> None:
    authority = made(levels=levels)
    assert [issuer.path_length for issuer in authority.issuers] == [levels + 1, *range(levels - 1, -1, -1)]
    assert len(authority.chain) == levels
    assert len({issuer.subject for issuer in authority.issuers}) == levels + 1
    assert verdict(tmp_path, leaf(authority), authority) == ACCEPTS


@pytest.mark.peer("openssl")
@pytest.mark.parametrize(
    "key",
    ["rsa:1024", "rsa:2048", "rsa:4096", "rsa:2056", "rsa-pss:2048", "ec:P-256", "ec:P-384", "ec:P-521", "ed25519"],
)
def test_an_authority_signs_with_any_kind_of_key(tmp_path: Path, key: str) -> None:
    authority = made(key=key)
    size = "67 CA certificate key too weak" if key == "rsa:1024" else ACCEPTS
    assert verdict(tmp_path, leaf(authority), authority) == size
    assert authority.issuer.facts.key == {"rsa:2056": "RSA 2056"}.get(key, authority.root.facts.key)


def test_several_authorities_stand_side_by_side_and_share_nothing(tmp_path: Path) -> None:
    names = ("inspection", "client", "lab public")
    for name in names:
        Authority.create(tmp_path / name.replace(" ", "-"), Plan(name=name))
    loaded = [Authority.load(tmp_path / name.replace(" ", "-")) for name in names]
    assert len({issuer.signer.public_key for each in loaded for issuer in each.issuers}) == 6
    assert [each.name.split(" root ")[0] for each in loaded] == [f"CN={name}" for name in names]


def test_a_seed_makes_the_same_authority_again() -> None:
    one, other = (Authority.make(Plan(now=NOW, levels=2, rng=Seeded(5))) for _ in range(2))
    assert one == other
    assert one != made(levels=2)


# -- below another -----------------------------------------------------------------------------------------------


@pytest.mark.peer("openssl")
def test_an_authority_below_another_is_trusted_by_its_clients(tmp_path: Path) -> None:
    corporate = made(levels=0, name="corporate")
    assert corporate.room == 1
    inspection = corporate.below(Plan(name="inspection", days=14, now=NOW))
    assert len(inspection.chain) == 1
    assert inspection.room == 0
    assert inspection.not_after - NOW <= timedelta(days=14)
    assert verdict(tmp_path, leaf(inspection), corporate) == ACCEPTS
    deep = Authority(made(levels=3).root, ()).below(Plan(levels=2, now=NOW))
    assert [each.path_length for each in deep.intermediates] == [1, 0]
    assert verdict(tmp_path, leaf(deep), deep) == ACCEPTS


def test_an_authority_whose_path_length_is_used_up_issues_none_below(tmp_path: Path) -> None:
    """The limit is read from the certificate, whoever made it."""
    authority = made()
    assert authority.room == 0
    with pytest.raises(AuthorityError, match=r"its path length allows 0 below it, and 1 are asked for"):
        authority.below(Plan(now=NOW))
    (tmp_path / "ca.pem").write_bytes(to_pem(authority.issuer.der) + key_to_pem(authority.issuer.signer.key))
    with pytest.raises(AuthorityError, match="its path length allows 0"):
        Authority.given(tmp_path / "ca.pem").below(Plan(now=NOW))


def test_a_constrained_authority_issues_for_no_other_name_and_mimics_what_it_is_shown() -> None:
    authority = made(constrain=("example.test", "10.0.0.0/8"))
    issue(authority, HOST, "*.example.test", "10.1.2.3", now=NOW)
    for name in ("other.test", "example.test.evil.test", "notexample.test", "192.0.2.1", "::1"):
        with pytest.raises(UserError, match=r"permitted: example\.test, 10\.0\.0\.0/8"):
            issue(authority, name, now=NOW)
    assert mint(authority, certificate(), now=NOW).chain


# -- cross-signed ------------------------------------------------------------------------------------------------


@pytest.mark.peer("openssl", "java")
def test_clients_of_either_root_accept_an_authority_that_was_cross_signed(tmp_path: Path) -> None:
    old, new = made(name="old"), made(name="new")
    both = old.cross_sign(new, days=30, now=NOW)
    facts = read_certificate(both.crossed[0])
    assert (facts.issuer, facts.subject) == (old.root.facts.subject, new.root.facts.subject)
    assert facts.not_after == f"{NOW + timedelta(days=30):%Y-%m-%dT%H:%M:%SZ}"
    chain = leaf(both)
    cases = {name: Case(chain, (root.root.der,), HOST, NOW) for name, root in (("old", old), ("new", new))}
    assert judges.jvm(cases, tmp_path / "jvm") == {"old": ACCEPTS, "new": ACCEPTS}
    for case in cases.values():
        assert judges.openssl(case, tmp_path, "-x509_strict") == ACCEPTS
        assert judges.cryptography(case) == ACCEPTS
    assert verdict(tmp_path, leaf(new), old).startswith("20 ")


def test_who_has_no_room_or_no_key_cross_signs_nothing(tmp_path: Path) -> None:
    with pytest.raises(AuthorityError, match="its path length allows 1 below it, and 2 are needed"):
        made(levels=0).cross_sign(made(), now=NOW)
    old = made(levels=3)
    (tmp_path / "old.pem").write_bytes(
        b"".join(to_pem(each.der) for each in reversed(old.issuers)) + key_to_pem(old.issuer.signer.key)
    )
    with pytest.raises(AuthorityError, match="its private key is not here"):
        Authority.given(tmp_path / "old.pem").cross_sign(made(), now=NOW)
    with pytest.raises(AuthorityError, match="expired on"):
        old.cross_sign(made(), now=NOW + timedelta(days=400))


# -- rotation ----------------------------------------------------------------------------------------------------


@pytest.mark.peer("openssl")
@pytest.mark.parametrize("levels", [1, 3])
def test_a_new_intermediate_stands_under_the_same_root_and_the_old_one_is_kept(tmp_path: Path, levels: int) -> None:
    old = made(levels=levels)
    new = old.rotate("intermediate", overlap=timedelta(days=14), plan=Plan(now=NOW))
    assert new.root == old.root
    assert new.issuer.public_key != old.issuer.public_key
    assert new.issuer.subject != old.issuer.subject
    assert new.issuer.path_length == 0
    assert new.fingerprint != old.fingerprint
    for chain in (leaf(old), leaf(new)):
        assert verdict(tmp_path, chain, old) == ACCEPTS
    (retired,) = new.retired
    assert retired.authority == old
    assert (retired.what, retired.at, retired.until) == ("intermediate", NOW, NOW + timedelta(days=14))


@pytest.mark.peer("openssl")
def test_a_new_root_is_vouched_for_by_the_old_one_as_long_as_they_overlap(tmp_path: Path) -> None:
    old = made(constrain=("example.test",))
    new = old.rotate("root", overlap=timedelta(days=30), plan=Plan(now=NOW))
    assert new.root.public_key != old.root.public_key
    assert verdict(tmp_path, leaf(new), new) == ACCEPTS
    assert verdict(tmp_path, leaf(new), old) == ACCEPTS
    assert read_certificate(new.crossed[0]).not_after == f"{NOW + timedelta(days=30):%Y-%m-%dT%H:%M:%SZ}"
    with pytest.raises(UserError, match="constrained"):  # what the old one was constrained to, the new one is too
        issue(new, "other.test", now=NOW)
    apart = old.rotate("root", overlap=timedelta(), plan=Plan(now=NOW))
    assert apart.crossed == ()
    assert verdict(tmp_path, leaf(apart), old).startswith("20 ")


def test_a_rotated_authority_is_like_the_old_one() -> None:
    old = made(key="rsa:1024", levels=2, days=100, name="Lab, Inc. Root")
    for what in ("intermediate", "root"):
        new = old.rotate(what, plan=None)
        assert new.issuer.facts.key == "RSA 1024"
        assert len(new.chain) == 2 + (what == "root")
        assert "Lab, Inc. Root" in (new.issuer.facts.subject or "").replace("\\", "")
        assert new.issuer.not_after - new.issuer.not_before <= timedelta(days=101)


def test_an_intermediate_can_keep_its_name_or_its_key() -> None:
    old = made()
    renewed = old.rotate("intermediate", same_key=True, plan=Plan(now=NOW)).issuer
    assert (renewed.public_key, renewed.subject) == (old.issuer.public_key, old.issuer.subject)
    assert renewed.facts.serial != old.issuer.facts.serial
    namesake = old.rotate("intermediate", same_name=True, plan=Plan(now=NOW)).issuer
    assert namesake.subject == old.issuer.subject
    assert namesake.public_key != old.issuer.public_key
    with pytest.raises(UserError, match="cannot keep name or key of a root"):
        old.rotate("root", same_key=True)


def test_an_expired_intermediate_can_be_rotated_and_an_expired_root_cannot_sign_one() -> None:
    old = made()
    short = old.rotate("intermediate", plan=Plan(now=NOW, days=5))
    later = NOW + timedelta(days=30)
    with pytest.raises(AuthorityError, match="expired on"):
        issue(short, HOST, now=later)
    assert issue(short.rotate("intermediate", plan=Plan(now=later, days=5)), HOST, now=later).chain
    with pytest.raises(AuthorityError, match="expired on"):
        old.rotate("intermediate", plan=Plan(now=NOW + timedelta(days=500)))
    with pytest.raises(AuthorityError, match="it has none; rotate the root"):
        made(levels=0).rotate("intermediate")


async def test_a_mint_hands_out_leaves_of_the_new_authority_at_once() -> None:
    old = made()
    leaves = LeafMint(old, clock=lambda: NOW)
    before = await leaves.leaf_for(certificate())
    leaves.authority = old.rotate("intermediate", plan=Plan(now=NOW))
    after = await leaves.leaf_for(certificate())
    assert before.chain[1:] == old.chain
    assert after.chain[1:] == leaves.authority.chain
    assert before.chain[0] != after.chain[0]


# -- on the disk -------------------------------------------------------------------------------------------------


def test_a_rotation_is_kept_and_the_old_ones_can_be_loaded(tmp_path: Path) -> None:
    first = Authority.create(tmp_path / "ca")
    second = first.rotate("intermediate")
    third = second.rotate("root")
    loaded = Authority.load(tmp_path / "ca")
    assert (loaded.root, loaded.chain) == (third.root, third.chain)
    assert loaded.crossed == third.crossed
    assert [each.what for each in loaded.retired] == ["intermediate", "root"]
    assert [each.authority.issuer for each in loaded.retired] == [first.issuer, second.issuer]
    assert all(each.until > each.at for each in loaded.retired)
    assert Authority.open(tmp_path / "ca").fingerprint == third.fingerprint
    assert sorted(each.name for each in (tmp_path / "ca").iterdir() if not each.name.endswith(".pem")) == [
        "generation-2",
        "generation-3",
        "generations.json",
    ]


def test_what_a_rotation_writes_is_private_under_umask_000(tmp_path: Path) -> None:
    """T23."""
    before = os.umask(0)
    try:
        Authority.create(tmp_path / "ca").rotate("root")
    finally:
        os.umask(before)
    for path in (tmp_path / "ca").rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o644 if path.suffixes == [".pem"] else 0o600), path


def test_two_that_rotate_at_once_do_not_undo_each_other(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "ca")
    authority.rotate("intermediate")
    with pytest.raises(AuthorityError, match="rotated by somebody else meanwhile; load it again"):
        authority.rotate("intermediate")
    script = (
        "import sys; from countersign.ca import Authority, AuthorityError\n"
        "for _ in range(50):\n"
        "    try: Authority.load(sys.argv[1]).rotate('intermediate'); break\n"
        "    except AuthorityError as e: assert 'meanwhile' in str(e)\n"
    )
    started = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "ca")]) for _ in range(3)]
    assert [each.wait(60) for each in started] == [0] * 3
    assert len(Authority.load(tmp_path / "ca").retired) == 4


def test_a_rotation_that_breaks_off_leaves_the_old_authority_in_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority.create(tmp_path / "ca")

    def fails(path: Path, data: bytes, *, overwrite: bool = False) -> None:
        if path.name == "generations.json":
            raise FileFault("the disk is full")
        write_private(path, data, overwrite=overwrite)

    with monkeypatch.context() as patched:
        patched.setattr("countersign.ca.keeping.write_private", fails)
        with pytest.raises(FileFault):
            authority.rotate("root")
    assert Authority.load(tmp_path / "ca").fingerprint == authority.fingerprint
    assert Authority.load(tmp_path / "ca").rotate("root").root != authority.root


def test_a_retired_authority_that_was_removed_is_forgotten(tmp_path: Path) -> None:
    import shutil

    authority = Authority.create(tmp_path / "ca").rotate("intermediate").rotate("intermediate")
    shutil.rmtree(tmp_path / "ca" / "generation-2")
    loaded = Authority.load(tmp_path / "ca")
    assert loaded.fingerprint == authority.fingerprint
    assert len(loaded.retired) == 1


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"schema": 2, "current": ".", "retired": []}', '{"schema": 1, "current": "..", "retired": []}',
     '{"schema": 1, "current": "/etc", "retired": []}',
     '{"schema": 1, "current": ".", "retired": [{"directory": "../..", "what": "root", "at": "", "until": ""}]}',
     '{"schema": 1, "current": ".", "retired": [{"directory": ".", "what": "root", "at": "soon", "until": "soon"}]}',
     '{"schema": 1, "current": 7, "retired": []}'],
)  # fmt: skip
def test_a_list_of_generations_that_is_none_is_named(tmp_path: Path, content: str) -> None:
    """T31: nothing outside the directory is read on its word."""
    Authority.create(tmp_path / "ca")
    path = tmp_path / "ca" / "generations.json"
    path.touch(mode=0o600)
    path.write_text(content)
    with pytest.raises(AuthorityError, match=r"generations\.json: it is not in its form"):
        Authority.load(tmp_path / "ca")


def test_a_generation_that_is_gone_is_an_error(tmp_path: Path) -> None:
    Authority.create(tmp_path / "ca").rotate("intermediate")
    said = json.loads((tmp_path / "ca" / "generations.json").read_text())
    assert said["current"] == "generation-2"
    (tmp_path / "ca" / "generation-2").rename(tmp_path / "elsewhere")
    with pytest.raises(AuthorityError, match=r"no root\.pem in it"):
        Authority.load(tmp_path / "ca")


# -- encrypted ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["ec:P-256", "rsa:1024", "rsa-pss:1024", "ed25519"])
def test_keys_are_encrypted_with_a_passphrase_and_opened_with_it(tmp_path: Path, key: str) -> None:
    authority = Authority.create(tmp_path / "ca", Plan(key=key), passphrase=b"right")
    for path in (tmp_path / "ca").glob("*.key.pem"):
        assert b"BEGIN ENCRYPTED PRIVATE KEY" in path.read_bytes()
    loaded = Authority.load(tmp_path / "ca", passphrase=b"right")
    assert loaded.fingerprint == authority.fingerprint
    assert issue(loaded, HOST).chain
    rotated = loaded.rotate("intermediate", passphrase=b"right")
    assert b"ENCRYPTED" in (tmp_path / "ca" / "generation-2" / "root.key.pem").read_bytes()
    assert Authority.open(tmp_path / "ca", passphrase=b"right").fingerprint == rotated.fingerprint
    with pytest.raises(AuthorityError, match=rf"it is encrypted; give its passphrase in {PASSPHRASE_VARIABLE}"):
        Authority.load(tmp_path / "ca")
    with pytest.raises(AuthorityError, match="the passphrase is wrong, or the file is broken") as caught:
        Authority.load(tmp_path / "ca", passphrase=b"wrong-one")
    assert "wrong-one" not in str(caught.value)


def test_an_encrypted_authority_is_not_rotated_into_the_clear(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "ca", passphrase=b"right")
    with pytest.raises(AuthorityError, match="its keys are encrypted; give the passphrase"):
        authority.rotate("intermediate")
    assert not (tmp_path / "ca" / "generation-2").exists()


def test_a_passphrase_comes_from_a_private_file_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read_passphrase() is None
    monkeypatch.setenv(PASSPHRASE_VARIABLE, "from the environment")
    assert read_passphrase() == b"from the environment"
    path = tmp_path / "passphrase"
    path.touch(mode=0o600)
    path.write_bytes(b"from a file\r\nsecond line\n")
    assert read_passphrase(path) == b"from a file"
    path.chmod(0o644)
    with pytest.raises(FileFault, match="chmod 600"):
        read_passphrase(path)


# -- given -------------------------------------------------------------------------------------------------------


@pytest.mark.peer("openssl")
@pytest.mark.parametrize("form", ["pem", "pem in any order", "pkcs12", "two files"])
def test_a_given_authority_signs_with_the_key_that_is_there(tmp_path: Path, form: str) -> None:
    from cryptography import x509

    corporate = made(levels=2, name="corporate")
    own, *above = (issuer.der for issuer in reversed(corporate.issuers))
    key = corporate.issuer.signer.key
    file, key_file = tmp_path / "ca", None
    match form:
        case "pem":
            file.write_bytes(b"".join(map(to_pem, (own, *above))) + key_to_pem(key))
        case "pem in any order":
            file.write_bytes(key_to_pem(key) + b"".join(map(to_pem, (own, *reversed(above)))))
        case "two files":
            file.write_bytes(b"".join(map(to_pem, (own, *above))))
            key_file = tmp_path / "key"
            key_file.write_bytes(key_to_pem(key, b"right"))
        case _:
            chain = [x509.load_der_x509_certificate(each) for each in above]
            leaf_one = x509.load_der_x509_certificate(own)
            file.write_bytes(
                pkcs12.serialize_key_and_certificates(b"ca", key, leaf_one, chain, BestAvailableEncryption(b"right"))
            )
    authority = Authority.given(file, key_file, passphrase=b"right")
    assert (authority.chain, authority.root.der) == (corporate.chain, corporate.root.der)
    assert verdict(tmp_path, leaf(authority), corporate) == ACCEPTS
    assert authority.not_after == corporate.not_after
    with pytest.raises(AuthorityError, match=r"cannot sign with '.*intermediate 1 .*': its private key is not here"):
        authority.rotate("intermediate", plan=Plan(now=NOW))


@pytest.mark.peer("openssl")
def test_a_given_intermediate_is_sent_though_nothing_is_known_above_it(tmp_path: Path) -> None:
    corporate = made(name="corporate")
    (tmp_path / "ca.pem").write_bytes(to_pem(corporate.issuer.der) + key_to_pem(corporate.issuer.signer.key))
    authority = Authority.given(tmp_path / "ca.pem")
    assert authority.chain == (corporate.issuer.der,)
    assert verdict(tmp_path, leaf(authority), corporate) == ACCEPTS


def test_a_given_authority_is_judged_by_its_certificate(tmp_path: Path) -> None:
    no_ca = issue(made(), HOST, now=NOW)
    (tmp_path / "leaf.pem").write_bytes(to_pem(no_ca.chain[0]) + key_to_pem(no_ca.key))  # type: ignore[arg-type]
    with pytest.raises(AuthorityError, match="expected a CA certificate, got one that is none; give that of a CA"):
        Authority.given(tmp_path / "leaf.pem")
    expired = Authority.make(Plan(now=NOW - timedelta(days=400)))
    (tmp_path / "old.pem").write_bytes(to_pem(expired.root.der) + key_to_pem(expired.root.signer.key))
    given = Authority.given(tmp_path / "old.pem")
    with pytest.raises(AuthorityError, match=r"expired on .*; make or give a new one"):
        issue(given, HOST, now=NOW)
    (tmp_path / "empty").touch()
    with pytest.raises(KeyPairError, match="an empty file"):
        Authority.given(tmp_path / "empty", tmp_path / "old.pem")


def test_a_given_authority_that_may_not_sign_certificates_is_refused(tmp_path: Path) -> None:
    from countersign.ca.recipes import CertSpec, Recipe

    wrong = Recipe(intermediate=CertSpec(key_usage=("cRLSign",))).make(authority := made(), now=NOW)
    (tmp_path / "ca.pem").write_bytes(
        to_pem(wrong.certificates["intermediate"]) + key_to_pem(authority.issuer.signer.key)
    )
    with pytest.raises(AuthorityError, match=r"its key usage \(cRLSign\) does not allow it to sign certificates"):
        Authority.given(tmp_path / "ca.pem")


def test_a_given_authority_that_is_kept_nowhere_is_rotated_in_memory(tmp_path: Path) -> None:
    root = made(levels=1)
    (tmp_path / "ca.pem").write_bytes(to_pem(root.root.der) + key_to_pem(root.root.signer.key))
    given = Authority.given(tmp_path / "ca.pem")
    below = given.below(Plan(now=NOW))
    assert below.rotate("intermediate", plan=Plan(now=NOW)).issuer.subject != below.issuer.subject
    assert cut_certificate(below.issuer.der).issuer == root.root.subject


def test_an_authority_with_a_key_elsewhere_is_not_kept(tmp_path: Path) -> None:
    corporate = made()
    (tmp_path / "ca.pem").write_bytes(
        b"".join(to_pem(each.der) for each in reversed(corporate.issuers)) + key_to_pem(corporate.issuer.signer.key)
    )
    given = Authority.given(tmp_path / "ca.pem")
    from dataclasses import replace

    with pytest.raises(EnvironmentFault):
        replace(given, directory=tmp_path / "nowhere").rotate("root", plan=Plan(now=NOW))
