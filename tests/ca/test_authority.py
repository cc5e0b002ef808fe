from __future__ import annotations

import os
import stat
import subprocess
import sys
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from countersign.ca import Authority, AuthorityError, Plan, mint
from countersign.ca.pem import to_pem
from countersign.errors import EnvironmentFault, UserError
from countersign.recorder.certificates import read_certificate
from countersign.recorder.private_files import FileFault
from tests.ca import odd_certificates
from tests.ca.odd_certificates import NOW, certificate, dns, san

if TYPE_CHECKING:
    from pathlib import Path


def files(directory: Path) -> list[str]:
    return sorted(each.name for each in directory.iterdir())


def verify(tmp_path: Path, authority: Authority, leaf: bytes, *options: str) -> str:
    """What ``openssl verify`` says: ``OK``, or its error."""
    (tmp_path / "root.pem").write_bytes(authority.root_pem)
    (tmp_path / "chain.pem").write_bytes(b"".join(map(to_pem, authority.chain)))
    (tmp_path / "leaf.pem").write_bytes(to_pem(leaf))
    command = [
        "openssl",
        "verify",
        "-attime",
        f"{NOW.timestamp():.0f}",
        "-CAfile",
        "root.pem",
        "-untrusted",
        "chain.pem",
        *options,
        "leaf.pem",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False, text=True)
    return "OK" if not done.returncode else done.stderr


def leaf_for(authority: Authority, *names: bytes) -> bytes:
    """A leaf without a common name, for these names alone."""
    return mint(authority, certificate(subject=b"\x30\x00", extensions=[san(*names)]), now=NOW).chain[0]


def test_the_smallest_call_makes_an_authority_and_the_next_one_loads_it(tmp_path: Path) -> None:
    made = Authority.open(tmp_path / "home" / "ca")
    loaded = Authority.open(tmp_path / "home" / "ca")
    assert loaded == Authority.load(tmp_path / "home" / "ca")
    assert (loaded.root.der, loaded.chain, loaded.fingerprint) == (made.root.der, made.chain, made.fingerprint)
    assert files(tmp_path / "home" / "ca") == [
        "intermediate-1.key.pem",
        "intermediate-1.pem",
        "root.key.pem",
        "root.pem",
    ]
    assert files(tmp_path / "home") == ["ca"]


def test_keys_are_0600_and_directories_0700_under_umask_000(tmp_path: Path) -> None:
    """T23."""
    before = os.umask(0)
    try:
        Authority.open(tmp_path / "home" / "ca")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "home").rglob("*")}
    assert modes["ca"] == stat.S_IMODE((tmp_path / "home").stat().st_mode) == 0o700
    assert modes["root.key.pem"] == modes["intermediate-1.key.pem"] == 0o600


def test_the_root_says_what_a_careful_root_says() -> None:
    """T20: the path length set, a year at most, the constraints that Python from 3.13 on demands."""
    authority = Authority.make()
    for issuer, path_length in ((authority.root, 2), (authority.intermediates[0], 0)):
        facts = read_certificate(issuer.der)
        assert facts.problems == ()
        assert (facts.is_ca, facts.path_length) == (True, path_length)
        assert facts.key_usage == ("keyCertSign", "cRLSign")
        assert facts.critical == ("basic_constraints", "key_usage")
        assert facts.ski == issuer.signer.key_id.hex()
        assert facts.aki == authority.root.signer.key_id.hex()
        assert issuer.not_after - issuer.not_before <= timedelta(days=366)
        assert len(facts.serial or "") == 40
        assert not (facts.serial or "").startswith("-")
    assert authority.root.facts.self_signed
    assert authority.chain == (authority.intermediates[0].der,)


def test_two_installs_share_nothing_and_can_be_told_apart() -> None:
    """T20: Superfish."""
    one, other = Authority.make(), Authority.make()
    assert one.root.signer.public_key != other.root.signer.public_key
    assert one.issuer.signer.public_key != other.issuer.signer.public_key
    assert one.name != other.name
    assert one.name.startswith("CN=countersign inspection root ")
    assert one.root.facts.serial != other.root.facts.serial


def test_no_key_is_in_the_package() -> None:
    """T20: none in wheel, image or repository."""
    import countersign

    (root,) = countersign.__path__
    from pathlib import Path

    suspicious = [path for path in Path(root).rglob("*") if path.suffix in {".pem", ".key", ".p12", ".jks", ".der"}]
    assert not suspicious


@pytest.mark.peer("openssl")
@pytest.mark.parametrize("key", ["ec:P-256", "ec:P-384", "ec:P-521", "rsa:2048", "ed25519", "ed448"])
def test_openssl_accepts_what_it_signs_in_its_strict_mode(tmp_path: Path, key: str) -> None:
    authority = Authority.make(Plan(key=key, now=NOW))
    leaf = mint(authority, certificate(), now=NOW).chain[0]
    assert verify(tmp_path, authority, leaf, "-x509_strict", "-verify_hostname", "odd.test") == "OK"


@pytest.mark.peer("openssl")
def test_a_constrained_root_can_harm_nobody_else(tmp_path: Path) -> None:
    """T20: names below the domain, and addresses of the network, and no other."""
    authority = Authority.make(Plan(constrain=["example.com", "10.0.0.0/8"], now=NOW))
    assert "name_constraints" in authority.root.facts.critical
    refused = "permitted subtree violation"
    address = {ip: b"\x87\x04" + bytes(map(int, ip.split("."))) for ip in ("10.1.2.3", "192.0.2.1")}
    for name, expected in (
        (dns("example.com"), "OK"),
        (dns("a.b.example.com"), "OK"),
        (dns("example.org"), refused),
        (address["10.1.2.3"], "OK"),
        (address["192.0.2.1"], refused),
        (b"\x87\x10" + bytes(15) + b"\x01", "permitted subtree violation"),
    ):
        leaf = leaf_for(authority, name)
        assert expected in verify(tmp_path, authority, leaf)


@pytest.mark.peer("openssl")
def test_a_root_constrained_to_domains_speaks_for_no_address_and_the_reverse(tmp_path: Path) -> None:
    domain, network = (Authority.make(Plan(constrain=[each], now=NOW)) for each in ("*.example.com", "10.0.0.0/8"))
    leaf = leaf_for(domain, b"\x87\x04\x0a\x00\x00\x01")
    assert "excluded subtree violation" in verify(tmp_path, domain, leaf)
    leaf = leaf_for(network, dns("example.com"))
    assert "excluded subtree violation" in verify(tmp_path, network, leaf)


@pytest.mark.parametrize("constrain", [["exa mple.com"], [""], ["10.0.0.0/99"], ["a\x00b"], ["a..b"]])
def test_a_constraint_that_is_none_is_the_users_error(constrain: list[str]) -> None:
    with pytest.raises(UserError, match="expected a domain"):
        Authority.make(Plan(constrain=constrain))


@pytest.mark.parametrize("wrong", [{"key": "dsa"}, {"key": "rsa:512"}, {"days": 1}, {"days": 99999}, {"name": ""}])
def test_values_that_make_no_authority_are_the_users_error(wrong: dict[str, object]) -> None:
    with pytest.raises(UserError):
        Plan(**wrong)  # type: ignore[arg-type]


def test_several_processes_at_once_make_one_authority(tmp_path: Path) -> None:
    script = "import sys; from countersign.ca import Authority; print(Authority.open(sys.argv[1]).fingerprint)"
    command = [sys.executable, "-c", script, str(tmp_path / "home" / "ca")]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(6)]
    printed = {each.communicate()[0] for each in started}
    assert len(printed) == 1
    assert [each.returncode for each in started] == [0] * 6
    assert files(tmp_path / "home") == ["ca"]


def test_who_loses_the_race_takes_the_winners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, decided: the other process renames between our look and our rename."""
    make = Authority.make
    winner: list[Authority] = []

    def slow(plan: Plan) -> Authority:
        if not winner:
            winner.append(make())
            winner[0] = Authority.create(tmp_path / "ca")
        return make(plan)

    monkeypatch.setattr(Authority, "make", slow)
    assert Authority.open(tmp_path / "ca").fingerprint == winner[0].fingerprint
    assert files(tmp_path) == ["ca"]


def test_an_authority_is_not_made_over_another(tmp_path: Path) -> None:
    Authority.create(tmp_path / "ca")
    with pytest.raises(AuthorityError, match="it is not empty; move it away"):
        Authority.create(tmp_path / "ca")


def test_an_empty_directory_is_taken_and_made_private(tmp_path: Path) -> None:
    (tmp_path / "ca").mkdir(mode=0o755)
    Authority.open(tmp_path / "ca")
    assert stat.S_IMODE((tmp_path / "ca").stat().st_mode) == 0o700


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    Authority.create(tmp_path / "ca")
    (tmp_path / "ca" / "root.key.pem").chmod(0o644)
    with pytest.raises(FileFault, match=r"mode 0644, expected 0600\); run: chmod 600 .*root\.key\.pem"):
        Authority.load(tmp_path / "ca")


def test_no_symbolic_link_is_followed(tmp_path: Path) -> None:
    """T23, T32: neither the directory nor a key in it."""
    Authority.create(tmp_path / "ca")
    (tmp_path / "link").symlink_to(tmp_path / "ca")
    with pytest.raises(AuthorityError, match="symbolic link"):
        Authority.open(tmp_path / "link")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(AuthorityError, match="symbolic link"):
        Authority.open(tmp_path / "dangling")
    assert not (tmp_path / "nowhere").exists()
    key = tmp_path / "ca" / "root.key.pem"
    key.rename(tmp_path / "key")
    key.symlink_to(tmp_path / "key")
    with pytest.raises(FileFault, match="symbolic link"):
        Authority.load(tmp_path / "ca")


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("root.pem", b"", "an empty file"),
        ("root.pem", b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n", "is broken"),
        ("intermediate-1.pem", b"garbage", "expected a certificate"),
        ("root.key.pem", b"garbage", "expected a PEM private key"),
        ("intermediate-1.key.pem", b"", "expected a PEM private key"),
        ("intermediate-1.key.pem", None, "no such file"),
    ],
)
def test_a_damaged_file_is_named_with_what_is_wrong(
    tmp_path: Path, name: str, content: bytes | None, expected: str
) -> None:
    Authority.create(tmp_path / "ca")
    path = tmp_path / "ca" / name
    path.unlink()
    if content is not None:
        path.touch(mode=0o600)
        path.write_bytes(content)
    with pytest.raises(EnvironmentFault, match=expected) as caught:
        Authority.load(tmp_path / "ca")
    assert str(path) in str(caught.value)


def test_files_that_do_not_belong_together_are_told(tmp_path: Path) -> None:
    Authority.create(tmp_path / "ca")
    other = Authority.create(tmp_path / "other")
    key = tmp_path / "ca" / "root.key.pem"
    key.write_bytes((tmp_path / "other" / "root.key.pem").read_bytes())
    with pytest.raises(AuthorityError, match=r"root\.key\.pem: it is not the key of root\.pem"):
        Authority.load(tmp_path / "ca")
    (tmp_path / "ca" / "root.pem").write_bytes(other.root_pem)
    with pytest.raises(AuthorityError, match=r"intermediate-1\.pem: it was not signed by 'CN=countersign inspection"):
        Authority.load(tmp_path / "ca")


@pytest.mark.parametrize("name", ["root", "intermediate-1"])
def test_a_certificate_with_a_broken_signature_is_told(tmp_path: Path, name: str) -> None:
    authority = Authority.create(tmp_path / "ca")
    issuer = authority.root if name == "root" else authority.issuer
    (tmp_path / "ca" / f"{name}.pem").write_bytes(to_pem(issuer.der[:-1] + bytes((issuer.der[-1] ^ 1,))))
    with pytest.raises(AuthorityError, match=rf"{name}\.pem: it was not signed by"):
        Authority.load(tmp_path / "ca")


def test_a_certificate_that_is_no_ca_is_refused(tmp_path: Path) -> None:
    Authority.create(tmp_path / "ca")
    (tmp_path / "ca" / "root.pem").write_bytes(to_pem(certificate()))
    with pytest.raises(AuthorityError, match="expected a CA certificate"):
        Authority.load(tmp_path / "ca")


def test_an_encrypted_key_is_told(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "ca")
    sealed = authority.root.signer.key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    (tmp_path / "ca" / "root.key.pem").write_bytes(sealed)
    with pytest.raises(AuthorityError, match="it is encrypted"):
        Authority.load(tmp_path / "ca")


def test_an_expired_authority_refuses_to_sign_with_the_reason() -> None:
    authority = Authority.make(Plan(now=NOW - timedelta(days=400)))
    with pytest.raises(AuthorityError, match=r"inspection root \w{6},O=countersign' expired on 2026-10-1"):
        mint(authority, certificate(), now=NOW)
    with pytest.raises(AuthorityError, match=r"is valid from .* on, and it is"):
        mint(Authority.make(Plan(now=NOW)), certificate(), now=NOW - timedelta(days=30))
    mint(Authority.make(Plan(now=NOW)), certificate(), now=NOW + timedelta(days=363))


def test_a_directory_that_holds_something_else_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    with pytest.raises(AuthorityError, match=r"no root\.pem in it"):
        Authority.open(tmp_path)
    with pytest.raises(AuthorityError, match="it is a file"):
        Authority.open(tmp_path / "precious")
    assert files(tmp_path) == ["precious"]


def test_keys_do_not_show_in_what_is_printed() -> None:
    authority = Authority.make(Plan(key="rsa:2048"))
    assert isinstance(x509.load_der_x509_certificate(authority.root.der), x509.Certificate)
    assert "PRIVATE KEY" not in repr(authority)
    assert "PRIVATE KEY" not in repr(mint(authority, odd_certificates.certificate(), now=None))
