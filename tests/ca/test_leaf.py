from __future__ import annotations

import asyncio
import contextlib
import subprocess
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.verification import PolicyBuilder, Store

from countersign.ca import Authority, AuthorityError, CannotMimic, LeafMint, Minted, Plan, assemble, keys, mint
from countersign.ca.pem import to_pem
from countersign.recorder import der
from countersign.recorder.certificates import cut_certificate, cut_extensions, read_certificate
from tests.ca import odd_certificates
from tests.ca.odd_certificates import NOW, certificate, dates, dns, san, signer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from countersign.ca.randomness import Rng
    from countersign.ca.signer import PrivateKey, Signer
    from tests.peers.certs import KeyType, Lab

_AUTHORITY: list[Authority] = []


@pytest.fixture
def authority() -> Authority:
    """One for all: nothing changes it."""
    if not _AUTHORITY:
        _AUTHORITY.append(Authority.make(Plan(now=NOW)))
    return _AUTHORITY[0]


@pytest.fixture
def today() -> Authority:
    """One that is valid for clients with a real clock."""
    return Authority.make()


def minted(authority: Authority, target: bytes, **how: Signer) -> Minted:
    return mint(authority, target, key=how.get("key", signer()), now=NOW)


def extensions(data: bytes) -> dict[str, bytes]:
    return {each.oid: each.raw for each in cut_extensions(cut_certificate(data).extensions or b"")}


# -- what is copied ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ec-p256", "ec-p384", "ec-p521", "rsa-2048", "rsa-3072", "ed25519", "ed448"])
def test_the_leaf_says_what_the_target_says(lab: Lab, kind: KeyType) -> None:
    authority = Authority.make()
    target = lab.issue("localhost", "*.lab.test", "::1", "127.0.0.1", key=kind).certificate.public_bytes(Encoding.DER)
    made = mint(authority, target)
    wanted, got = read_certificate(target), read_certificate(made.chain[0])
    same = ("subject", "san", "key", "not_after", "not_before", "is_ca", "key_usage", "extended_key_usage", "critical")
    assert {name: getattr(got, name) for name in same} == {name: getattr(wanted, name) for name in same}
    assert got.issuer == authority.issuer.facts.subject
    assert got.aki == authority.issuer.facts.ski
    assert got.ski != wanted.ski
    assert got.serial != wanted.serial
    assert got.problems == made.left_out == ()
    assert got.extensions == wanted.extensions
    assert made.chain == (made.chain[0], *authority.chain)


def test_alternative_names_are_the_targets_bytes_in_the_targets_order(authority: Authority) -> None:
    """mitmproxy#1108: nothing is added to them."""
    target = odd_certificates.odd()["other kinds of names"]
    assert extensions(minted(authority, target).chain[0])["2.5.29.17"] == extensions(target)["2.5.29.17"]


@pytest.mark.parametrize(
    "name",
    [
        "NUL in the name",
        "BMPString",
        "empty subject",
        "unknown critical extension",
        "poison",
        "two alternative names",
        "alternative name that is garbage",
        "basic constraints that is garbage",
        "month 13",
        "time that is text",
        "reversed validity",
        "GeneralizedTime before 2050",
        "version 1",
        "version 99",
        "version 1 with extensions",
        "CA as a leaf",
    ],
)
def test_an_odd_certificate_stays_odd(authority: Authority, name: str) -> None:
    """T19: what a client refuses the target for, it can refuse us for."""
    target = odd_certificates.odd()[name]
    wanted, got = cut_certificate(target), cut_certificate(minted(authority, target).chain[0])
    assert (got.version, got.subject) == (wanted.version, wanted.subject)
    assert got.validity == wanted.validity
    ours = {assemble.SKI, assemble.AKI}
    raw = [
        [each.raw for each in cut_extensions(parts.extensions or b"\xa3\x02\x30\x00") if each.oid not in ours]
        for parts in (got, wanted)
    ]
    assert raw[0] == raw[1]
    assert got.version != b"" or not wanted.extensions or got.extensions == wanted.extensions


def test_an_older_version_gets_no_extensions_of_ours(authority: Authority) -> None:
    for name in ("version 1", "version 2"):
        assert cut_certificate(minted(authority, odd_certificates.odd()[name]).chain[0]).extensions is None


# -- what is not -------------------------------------------------------------------------------------------------


def test_promises_of_the_targets_issuer_are_left_out_and_named(authority: Authority) -> None:
    """plabayo/rama#968: copied CRL points, AIA, must-staple and SCTs made leaves unsatisfiable."""
    made = minted(authority, odd_certificates.whole())
    facts = read_certificate(made.chain[0])
    assert "freshest_crl" not in facts.extensions
    assert (facts.ocsp, facts.crl, facts.must_staple, facts.sct_count) == ((), (), False, 0)
    assert made.left_out == (
        "authority_info_access",
        "crl_distribution_points",
        "freshest_crl",
        "tls_feature",
        "signed_certificate_timestamps",
    )


def test_a_leaf_has_both_key_identifiers_even_where_the_target_has_none(authority: Authority) -> None:
    """NVIDIA/nvcf#1180: without the authority's, Python 3.13 refuses it."""
    facts = read_certificate(minted(authority, certificate()).chain[0])
    assert facts.ski == signer().key_id.hex()
    assert facts.aki == authority.issuer.signer.key_id.hex()


@pytest.mark.parametrize(
    ("name", "kind", "note"),
    [
        ("DSA", "RSA 2048", "key: DSA 1024 (RSA 2048 instead)"),
        ("GOST", "RSA 2048", "key: GOST 2012-256 (RSA 2048 instead)"),
        ("ML-DSA-65", "RSA 2048", "key: ML-DSA-65 (RSA 2048 instead)"),
        ("RSA 16384", "RSA 4096", "key: RSA 16384 (RSA 4096 instead)"),
        ("RSA 2047", "RSA 1024", "key: RSA 2047 (RSA 1024 instead)"),
        ("RSA-PSS key", "RSA 2048", "key: RSA-PSS 2048 (RSA 2048 instead)"),
        ("explicit curve", "EC P-256", "key: EC explicit parameters (EC P-256 instead)"),
        ("key that is garbage", "RSA 2048", "key: unreadable (RSA 2048 instead)"),
    ],
)
async def test_a_key_that_cannot_be_had_is_replaced_and_named(
    authority: Authority, name: str, kind: str, note: str
) -> None:
    """A weak key never becomes a strong one (T19): 2047 bits, which browsers refuse, are rounded down."""
    made = await LeafMint(authority, clock=lambda: NOW).leaf_for(odd_certificates.odd()[name])
    assert read_certificate(made.chain[0]).key == kind
    assert note in made.left_out


def test_a_copied_key_usage_is_fitted_to_another_type_of_key(authority: Authority) -> None:
    """droe/sslsplit#188."""
    usage = assemble.key_usage(["digitalSignature", "keyAgreement"])
    unsupported = odd_certificates.key_of("1.2.643.7.1.1.1.1")
    made = mint(authority, certificate(extensions=[usage], public_key=unsupported), now=NOW)
    assert read_certificate(made.chain[0]).key_usage == ("digitalSignature",)
    assert "key_usage: keyAgreement" in made.left_out
    kept = minted(authority, certificate(extensions=[usage]))
    assert read_certificate(kept.chain[0]).key_usage == ("digitalSignature", "keyAgreement")


def test_a_weak_signature_that_ours_hides_is_named(authority: Authority) -> None:
    target = certificate("RSA 2048").replace(b"\x86\xf7\x0d\x01\x01\x0b", b"\x86\xf7\x0d\x01\x01\x05")
    assert minted(authority, target, key=signer("RSA 2048")).left_out == ("signature_algorithm: sha1WithRSAEncryption",)


# -- dates -------------------------------------------------------------------------------------------------------


def test_dates_within_the_authoritys_are_copied_to_the_second(authority: Authority) -> None:
    target = certificate(validity=assemble.validity_der(NOW - timedelta(hours=3), NOW + timedelta(seconds=86399)))
    made = minted(authority, target)
    assert cut_certificate(made.chain[0]).validity == cut_certificate(target).validity
    assert made.left_out == ()


def test_a_valid_targets_dates_are_kept_within_the_authoritys(authority: Authority) -> None:
    """T21."""
    target = certificate(validity=assemble.validity_der(NOW - timedelta(days=500), NOW + timedelta(days=500)))
    made = minted(authority, target)
    facts = read_certificate(made.chain[0])
    assert datetime.fromisoformat(facts.not_before or "") == authority.not_before
    assert datetime.fromisoformat(facts.not_after or "") == authority.not_after
    assert made.left_out == ("not_before: earlier than the CA's", "not_after: later than the CA's")


@pytest.mark.parametrize("days", [(-900, -1), (1, 900), (-1, -2), (5, -5)])
def test_an_invalid_date_never_becomes_valid(authority: Authority, days: tuple[int, int]) -> None:
    """T19: Komodia."""
    target = certificate(validity=assemble.validity_der(*(NOW + timedelta(days=each) for each in days)))
    assert cut_certificate(minted(authority, target).chain[0]).validity == cut_certificate(target).validity


def test_a_date_in_a_doubtful_form_is_not_mended(authority: Authority) -> None:
    target = certificate(validity=dates(b"1001010000Z", b"290101000000Z"))
    assert cut_certificate(minted(authority, target).chain[0]).validity == cut_certificate(target).validity


@pytest.mark.peer("openssl")
def test_openssl_refuses_the_leaf_for_what_it_refuses_the_target_for(tmp_path: Path, today: Authority) -> None:
    """T19: expired stays expired, a wrong name stays wrong, an unknown critical extension stays unknown."""
    now = datetime.now(UTC)
    within = assemble.validity_der(now - timedelta(days=1), now + timedelta(days=9))
    expired = assemble.validity_der(now - timedelta(days=9), now - timedelta(days=1))
    future = assemble.validity_der(now + timedelta(days=1), now + timedelta(days=9))
    critical = [san(dns("odd.test")), assemble.extension("1.2.3.4", b"\x05\x00", critical=True)]
    client_only = assemble.extension("2.5.29.37", der.encode(der.SEQUENCE, der.encode_oid("1.3.6.1.5.5.7.3.2")))
    for target, expected in (
        (certificate(validity=within), "OK"),
        (certificate(validity=expired), "certificate has expired"),
        (certificate(validity=future), "not yet valid"),
        (certificate(validity=within, extensions=[san(dns("else.test"))]), "hostname mismatch"),
        (certificate(validity=within, extensions=critical), "unhandled critical extension"),
        (certificate(validity=within, extensions=[san(dns("odd.test"))] * 2), "invalid certificate"),
        (certificate(validity=within, extensions=[client_only]), "unsuitable certificate purpose"),
    ):
        assert expected in verify(tmp_path, today, [mint(today, target).chain[0]])


def verify(tmp_path: Path, authority: Authority, leaves: list[bytes]) -> str:
    (tmp_path / "root.pem").write_bytes(authority.root_pem)
    (tmp_path / "chain.pem").write_bytes(b"".join(map(to_pem, authority.chain)))
    names = [f"leaf-{number}.pem" for number in range(len(leaves))]
    for name, leaf in zip(names, leaves, strict=True):
        (tmp_path / name).write_bytes(to_pem(leaf))
    command = ["openssl", "verify", "-CAfile", "root.pem", "-untrusted", "chain.pem", "-purpose", "sslserver"]
    done = subprocess.run(
        [*command, "-verify_hostname", "odd.test", *names], cwd=tmp_path, capture_output=True, check=False, text=True
    )
    return done.stderr if done.returncode else "OK"


# -- many, and hostile -------------------------------------------------------------------------------------------


@pytest.mark.peer("openssl")
def test_many_leaves_have_unique_serials_and_are_accepted(
    tmp_path: Path, today: Authority, scaled: Callable[[int], int]
) -> None:
    """T21: 100,000 leaves, a twentieth of them outside the long run; openssl looks at one in twenty of these."""
    now = datetime.now(UTC)
    target = certificate(
        validity=assemble.validity_der(now - timedelta(days=300), now + timedelta(days=800)),
        extensions=[
            san(dns("odd.test")),
            assemble.extension("2.5.29.37", der.encode(der.SEQUENCE, der.encode_oid("1.3.6.1.5.5.7.3.1"))),
        ],
    )
    leaves = [mint(today, target, key=signer()).chain[0] for _ in range(scaled(100_000))]
    loaded = [x509.load_der_x509_certificate(leaf) for leaf in leaves]
    assert len({each.serial_number for each in loaded}) == len(leaves)
    assert all(1 << 158 <= each.serial_number < 1 << 159 for each in loaded)
    assert {each.not_valid_before_utc for each in loaded} == {today.not_before}
    assert {each.not_valid_after_utc for each in loaded} == {today.not_after}
    store = Store([x509.load_der_x509_certificate(today.root.der)])
    verifier = PolicyBuilder().store(store).build_server_verifier(x509.DNSName("odd.test"))
    chain = [x509.load_der_x509_certificate(each) for each in today.chain]
    for each in loaded:
        assert len(verifier.verify(each, chain)) == 3
    assert verify(tmp_path, today, leaves[::20]) == "OK"


_PKIX = """
import java.io.*; import java.nio.file.*; import java.security.cert.*; import java.util.*;
public class Pkix {
    public static void main(String[] paths) throws Exception {
        var factory = CertificateFactory.getInstance("X.509");
        var given = new ArrayList<X509Certificate>();
        for (var each : factory.generateCertificates(Files.newInputStream(Path.of("all.pem"))))
            given.add((X509Certificate) each);
        var parameters = new PKIXParameters(Set.of(new TrustAnchor(given.get(0), null)));
        parameters.setRevocationEnabled(false);
        var validator = CertPathValidator.getInstance("PKIX");
        for (var leaf : given.subList(2, given.size()))
            validator.validate(factory.generateCertPath(List.of(leaf, given.get(1))), parameters);
        System.out.println(given.size() - 2);
    }
}
"""


@pytest.mark.peer("java", "javac")
def test_a_jvm_accepts_the_leaves(tmp_path: Path, today: Authority, scaled: Callable[[int], int]) -> None:
    """T21, by the PKIX rules of the JDK; one leaf in twenty of those that the others look at."""
    now = datetime.now(UTC)
    validity = assemble.validity_der(now - timedelta(days=300), now + timedelta(days=800))
    leaves = [mint(today, certificate(validity=validity), key=signer()).chain[0] for _ in range(scaled(5_000))]
    (tmp_path / "all.pem").write_bytes(b"".join(map(to_pem, (today.root.der, *today.chain, *leaves))))
    (tmp_path / "Pkix.java").write_text(_PKIX)
    done = subprocess.run(["java", "Pkix.java"], cwd=tmp_path, capture_output=True, check=False, text=True)
    assert (done.stdout.strip(), done.stderr) == (str(len(leaves)), "")


@pytest.mark.peer("node")
def test_node_accepts_the_chain(tmp_path: Path, today: Authority) -> None:
    made = mint(today, certificate("Ed25519"))
    for name, data in (("root", today.root.der), ("intermediate", made.chain[1]), ("leaf", made.chain[0])):
        (tmp_path / f"{name}.pem").write_bytes(to_pem(data))
    script = """
        const {X509Certificate} = require('crypto'); const fs = require('fs');
        const [root, intermediate, leaf] = ['root', 'intermediate', 'leaf'].map(
            (name) => new X509Certificate(fs.readFileSync(name + '.pem')));
        console.log(root.ca, intermediate.checkIssued(root), intermediate.verify(root.publicKey),
            leaf.checkIssued(intermediate), leaf.verify(intermediate.publicKey), leaf.checkHost('odd.test'));
    """
    done = subprocess.run(["node", "-e", script], cwd=tmp_path, capture_output=True, check=True, text=True)
    assert done.stdout.split() == ["true"] * 5 + ["odd.test"]


@pytest.mark.peer("keytool")
def test_keytool_reads_the_chain(tmp_path: Path, today: Authority) -> None:
    made = mint(today, certificate())
    (tmp_path / "chain.pem").write_bytes(b"".join(map(to_pem, made.chain)))
    done = subprocess.run(
        ["keytool", "-printcert", "-file", "chain.pem"], cwd=tmp_path, capture_output=True, check=True, text=True
    )
    assert done.stdout.count("Owner:") == 2
    assert "Owner: CN=odd.test, O=Odd" in done.stdout


async def test_whatever_the_target_shows_is_mimicked_or_refused_with_a_reason(
    authority: Authority, scaled: Callable[[int], int]
) -> None:
    """T16: thousands of odd certificates, one kind of error, and a reading of each leaf."""
    leaves = LeafMint(authority, size=10, clock=lambda: NOW)
    made = 0
    reasons: set[str] = set()
    for data in (*odd_certificates.odd().values(), *odd_certificates.broken(scaled(40_000))):
        try:
            leaf = await leaves.leaf_for(data)
        except CannotMimic as refused:
            reasons.add(str(refused).partition(": ")[0])
        else:
            made += 1
            assert read_certificate(leaf.chain[0]).issuer == authority.issuer.facts.subject
    assert made > scaled(40_000) // 4
    assert reasons == {"cannot mimic the target's certificate"}


@pytest.mark.parametrize("name", ["10,000 alternative names", "RSA 16384", "explicit curve", "too large"])
def test_a_costly_certificate_is_minted_or_refused_at_once(authority: Authority, name: str) -> None:
    """T18 allows a lag of 250 ms; what is measured is CPU time, so that a busy machine is no failure."""
    target = odd_certificates.odd()[name]
    begun = time.process_time()
    with pytest.raises(CannotMimic) if name == "too large" else contextlib.nullcontext():
        mint(authority, target, key=signer(), now=NOW)
    assert time.process_time() - begun < 0.25


# -- the mint that the proxy asks --------------------------------------------------------------------------------


async def test_the_same_target_gets_the_same_leaf(authority: Authority) -> None:
    leaves = LeafMint(authority, clock=lambda: NOW)
    target = certificate()
    one, two = await leaves.leaf_for(target), await leaves.leaf_for(certificate(serial=2))
    assert one is await leaves.leaf_for(bytes(bytearray(target)))
    assert one is not two
    assert one.key is two.key


async def test_the_least_recently_used_leaf_goes_first(authority: Authority) -> None:
    leaves = LeafMint(authority, size=2, clock=lambda: NOW)
    targets = [certificate(serial=number) for number in (1, 2, 3)]
    first, second = await leaves.leaf_for(targets[0]), await leaves.leaf_for(targets[1])
    await leaves.leaf_for(targets[0])
    await leaves.leaf_for(targets[2])
    assert await leaves.leaf_for(targets[0]) is first
    assert await leaves.leaf_for(targets[1]) is not second


async def test_a_leaf_is_minted_again_when_its_target_expires(authority: Authority) -> None:
    """T19 on a long run: the old leaf's dates were moved to the authority's, the new one's are the target's."""
    clock = [NOW]
    leaves = LeafMint(authority, clock=lambda: clock[0])
    target = certificate(validity=assemble.validity_der(NOW - timedelta(days=90), NOW + timedelta(days=5)))
    one = await leaves.leaf_for(target)
    clock[0] += timedelta(days=5, seconds=1)
    two = await leaves.leaf_for(target)
    assert two is not one
    assert read_certificate(two.chain[0]).not_before == read_certificate(target).not_before


async def test_an_expired_authority_hands_out_nothing_it_kept(authority: Authority) -> None:
    clock = [NOW]
    leaves = LeafMint(authority, clock=lambda: clock[0])
    target = certificate()
    await leaves.leaf_for(target)
    clock[0] = authority.not_after + timedelta(seconds=1)
    with pytest.raises(AuthorityError, match="expired on"):
        await leaves.leaf_for(target)


async def test_a_new_authority_takes_over_at_once(authority: Authority) -> None:
    leaves = LeafMint(authority, clock=lambda: NOW)
    target = certificate()
    await leaves.leaf_for(target)
    leaves.authority = Authority.make(Plan(now=NOW))
    made = await leaves.leaf_for(target)
    assert made.chain[1:] == leaves.authority.chain


async def test_a_slow_key_is_made_once_beside_a_loop_that_runs(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    targets = [certificate("RSA 2048", serial=number) for number in range(1, 21)]
    made: list[str] = []
    begun, runs = threading.Event(), threading.Event()
    generate = keys.generate

    def counted(kind: str, _: Rng) -> PrivateKey:
        made.append(kind)
        begun.set()
        assert runs.wait(10), "the loop stands still while a key is made"
        return generate("EC P-256")

    monkeypatch.setattr(keys, "generate", counted)
    leaves = LeafMint(authority, clock=lambda: NOW)
    asked = [asyncio.create_task(leaves.leaf_for(target)) for target in targets]
    assert await asyncio.to_thread(begun.wait, 10)
    runs.set()
    await asyncio.gather(*asked)
    assert made == ["RSA 2048"]
    assert len({task.result().chain[0] for task in asked}) == 20


async def test_who_stops_waiting_for_a_key_takes_it_from_nobody(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate = keys.generate

    def slow(_: str, __: Rng) -> PrivateKey:
        time.sleep(0.1)
        return generate("EC P-256")

    target = certificate("RSA 2048")
    monkeypatch.setattr(keys, "generate", slow)
    leaves = LeafMint(authority, clock=lambda: NOW)
    impatient, patient = (asyncio.create_task(leaves.leaf_for(target)) for _ in range(2))
    await asyncio.sleep(0.01)
    impatient.cancel()
    assert (await patient).chain[0]
    assert impatient.cancelled()


async def test_a_key_that_could_not_be_made_is_tried_again(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = certificate("RSA 2048")

    def fails(_: str, __: Rng) -> PrivateKey:
        raise MemoryError

    leaves = LeafMint(authority, clock=lambda: NOW)
    with monkeypatch.context() as patched:
        patched.setattr(keys, "generate", fails)
        with pytest.raises(MemoryError):
            await leaves.leaf_for(target)
    assert (await leaves.leaf_for(target)).chain[0]


async def test_a_rotation_of_the_leaves_gives_every_target_a_new_one_with_a_new_key(authority: Authority) -> None:
    leaves = LeafMint(authority, clock=lambda: NOW)
    target = certificate()
    before = await leaves.leaf_for(target)
    leaves.rotate()
    after = await leaves.leaf_for(target)
    old, new = (cut_certificate(each.chain[0]) for each in (before, after))
    assert (old.serial, old.public_key) != (new.serial, new.public_key)
    assert old.public_key != new.public_key
    assert old.subject == new.subject
    assert after.chain[1:] == before.chain[1:]
