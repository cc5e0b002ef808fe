"""``countersign ca`` beyond init and root: what the commands print, write and exit with."""

from __future__ import annotations

import re
import shlex
import shutil
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from countersign.ca.stores import CertificateEntry, KeyEntry, StoreType, load_store, write_store
from tests.ca.stores.made_stores import MADE, PASSWORD, chain, entries, key_entry
from tests.cli.commands import countersign
from tests.peers.keystores import keytool, openssl
from tests.peers.process import run

if TYPE_CHECKING:
    from tests.cli.commands import Ran
    from tests.peers.certs import Lab
    from tests.peers.process import Arg


@pytest.fixture
def made(home: Path) -> Path:
    """A home with a CA in it."""
    assert countersign("ca", "init").code == 0
    return home


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text(PASSWORD + "\n")
    return path


def assert_refused(ran: Ran, code: int, *parts: str) -> None:
    """One line on standard error, no traceback, these parts in it."""
    assert ran.code == code, ran
    assert ran.err.count("\n") == 1, ran.err
    assert "Traceback" not in ran.err
    for part in parts:
        assert part in ran.err, ran.err


# -- issue and sign ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["pem", "pkcs12", "jks", "jceks", "bcfks"])
def test_issue_writes_a_key_store_with_the_whole_chain(
    kind: str, made: Path, tmp_path: Path, password_file: Path
) -> None:
    words = ("--eku", "both", "--store-type", kind, "--store-password-file", password_file, "--out", tmp_path / "store")
    ran = countersign("ca", "issue", "a.example.com", "--san", "192.0.2.1", "--days", "7", *words)
    assert ran.code == 0, ran.err
    assert PASSWORD not in ran.out
    assert stat.S_IMODE((tmp_path / "store").stat().st_mode) == 0o600
    store = load_store(tmp_path / "store", PASSWORD)
    assert store.kind == kind
    (entry,) = store.keys
    assert len(entry.chain) == (2 if kind == "pem" else 3)
    assert entry.alias == "a.example.com"
    leaf = x509.load_der_x509_certificate(entry.chain[0])
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(each.value) for each in names] == ["a.example.com", "192.0.2.1"]
    assert (leaf.not_valid_after_utc - leaf.not_valid_before_utc).days == 7
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert len(list(usage)) == 2


def test_issue_makes_a_client_whose_name_is_no_host(made: Path, tmp_path: Path) -> None:
    ran = countersign("ca", "issue", "mid server 1", "--eku", "client", "--key-type", "rsa:2048")
    (tmp_path / "pem").write_text(ran.out)
    leaf = x509.load_der_x509_certificate(load_store(tmp_path / "pem").keys[0].chain[0])
    assert leaf.subject.rfc4514_string() == "CN=mid server 1"
    with pytest.raises(x509.ExtensionNotFound):
        leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)


def test_issue_says_what_it_did_as_json(made: Path, tmp_path: Path) -> None:
    told = countersign("ca", "issue", "a.test", "--out", tmp_path / "pem", "--json").json()
    assert (told["schema"], told["type"], told["file"]) == (1, "pem", str(tmp_path / "pem"))
    assert told["certificates"][0]["subject"] == "CN=a.test"
    assert "pem" not in told
    told = countersign("ca", "issue", "a.test", "--json").json()
    assert told["pem"].count("BEGIN CERTIFICATE") == 2


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--store-type", "jks", "a.test"], ["needs a password", "COUNTERSIGN_STORE_PASSWORD"]),
        (["a.test", "--store-type", "jks"], ["--out FILE"]),
        (["a.test", "--store-type", "bks"], ["--store-type takes", "'bks'"]),
        (["a.test", "--eku", "code"], ["--eku takes server, client, both, none", "'code'"]),
        (["no host", "--eku", "server"], ["no host name"]),
        (["leaf.pem"], ["a file's name", "--out leaf.pem"]),
        (["a.test", "--eku", "client", "own.P12"], ["a file's name", "--out own.P12"]),
        (["a.test", "--key-type", "dsa"], ["'dsa'"]),
        (["a.test", "--store-password-file", "nowhere"], ["nowhere: there is no such file"]),
    ],
)
def test_issue_refuses_what_it_cannot_do(words: list[str], parts: list[str], made: Path, tmp_path: Path) -> None:
    out: tuple[Arg, ...] = () if words[-1] == "jks" else ("--out", tmp_path / "x")
    assert_refused(countersign("ca", "issue", *words, *out), 2, *parts)
    assert not (tmp_path / "x").exists()


def test_nothing_is_overwritten_unasked(made: Path, tmp_path: Path) -> None:
    (tmp_path / "pem").write_text("mine")
    assert_refused(countersign("ca", "issue", "a.test", "--out", tmp_path / "pem"), 3, "it exists")
    assert (tmp_path / "pem").read_text() == "mine"
    assert countersign("ca", "issue", "a.test", "--out", tmp_path / "pem", "--overwrite").code == 0


@pytest.mark.peer("keytool")
@pytest.mark.parametrize("command", ["sign", "csr"])
def test_sign_answers_keytool(command: str, made: Path, tmp_path: Path) -> None:
    """R41, end to end."""
    store = ("-keystore", tmp_path / "my.keystore", "-storepass", PASSWORD)
    keytool("-genkeypair", "-alias", "own", "-keyalg", "RSA", "-dname", "CN=own", *store).check()
    keytool("-certreq", "-alias", "own", "-file", tmp_path / "csr", *store).check()
    ran = countersign("ca", command, tmp_path / "csr", "--out", tmp_path / "merged.crt")
    assert ran.code == 0, ran.err
    assert "chain of 3" in ran.out
    keytool("-importcert", "-noprompt", "-alias", "own", "-file", tmp_path / "merged.crt", *store).check()
    assert "Certificate chain length: 3" in keytool("-list", "-v", *store).check().stdout
    shown = countersign("ca", "keystore", "show", tmp_path / "my.keystore", "--store-password", PASSWORD)
    assert (shown.code, "clientAuth" in shown.out, "chain of 3" in shown.out) == (0, True, True), shown


def test_sign_prints_the_reply_where_no_file_is_named(made: Path, lab: Lab, tmp_path: Path) -> None:
    openssl("req", "-new", "-key", lab.server.key_pem, "-subj", "/CN=x", "-out", tmp_path / "csr").check()
    ran = countersign("ca", "sign", tmp_path / "csr", "--eku", "server", "--san", "a.test")
    assert ran.out.count("BEGIN CERTIFICATE") == 3
    told = countersign("ca", "sign", tmp_path / "csr", "--json").json()
    assert told["certificates"][0]["extended_key_usage"] == ["clientAuth"]
    assert_refused(countersign("ca", "sign", tmp_path / "missing"), 2, "no such file")
    assert_refused(countersign("ca", "sign", lab.server.cert_pem), 2, "cannot sign", "signed already")


# -- passwords ---------------------------------------------------------------------------------------------------


def test_passwords_come_from_a_file_the_environment_or_a_flag(
    lab: Lab, tmp_path: Path, password_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    store.write_bytes(write_store(StoreType.BCFKS, entries(lab)[-1:], PASSWORD))
    command = ("ca", "keystore", "list", store)
    assert_refused(countersign(*command), 2, "needs a password", "--store-password-file", "COUNTERSIGN_STORE_PASSWORD")
    assert countersign(*command, "--store-password-file", password_file).code == 0
    assert countersign(*command, "--store-password", PASSWORD).code == 0
    monkeypatch.setenv("COUNTERSIGN_STORE_PASSWORD", PASSWORD)
    assert countersign(*command).code == 0
    password_file.write_text("another one\n")
    refused = countersign(*command, "--store-password-file", password_file)
    assert_refused(refused, 2, "the password is wrong, or bytes were altered")
    for text in (refused.err, refused.out, countersign(*command, "--json").out):
        assert PASSWORD not in text.replace("a JDK's cacerts has changeit", "")
        assert "another one" not in text


def test_a_password_is_read_from_standard_input_and_windows_files(lab: Lab, tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.write_bytes(write_store(StoreType.JKS, entries(lab)[-1:], "grüße"))
    words = ("-m", "countersign", "ca", "keystore", "list", store, "--store-password-file", "-")
    done = run(sys.executable, *words, stdin="grüße\r\nmore".encode(), timeout=60)
    assert (done.returncode, "digest right" in done.stdout) == (0, True), done
    (tmp_path / "password").write_bytes(b"\xef\xbb\xbf" + "grüße\r\n".encode())
    assert countersign("ca", "keystore", "list", store, "--store-password-file", tmp_path / "password").code == 0
    (tmp_path / "password").write_bytes(b"gr\xfc\xdfe\n")
    refused = countersign("ca", "keystore", "list", store, "--store-password-file", tmp_path / "password")
    assert_refused(refused, 2, "not UTF-8")


def test_a_password_that_is_no_text_is_not_shown(lab: Lab) -> None:
    refused = countersign("ca", "keystore", "list", lab.root_pem, "--store-password", "secret\udcff")
    assert_refused(refused, 2, "not UTF-8 text")
    assert "secret" not in refused.err


# -- keystore ----------------------------------------------------------------------------------------------------


def test_list_and_show_tell_what_is_in_a_store(lab: Lab, tmp_path: Path, password_file: Path) -> None:
    store = tmp_path / "store"
    store.write_bytes(write_store(StoreType.JKS, entries(lab), PASSWORD))
    given = ("--store-password-file", password_file)
    listed = countersign("ca", "keystore", "list", store, *given)
    assert listed.out.splitlines()[0] == f"{store}: JKS, 4 entries, digest right"
    assert "rsa  key (chain of 3), since 2026-03-04T05:06:07Z: CN=The rsa-2048 Client,O=Lab" in listed.out
    unchecked = countersign("ca", "keystore", "list", store)
    assert "JKS, 4 entries, no digest checked" in unchecked.out
    told = countersign("ca", "keystore", "list", store, *given, "--json").json()
    assert (told["schema"], told["type"], told["verified"]) == (1, "jks", True)
    assert [(each["alias"], each["kind"], len(each["certificates"])) for each in told["entries"]] == [
        ("rsa", "key", 3), ("ec", "key", 3), ("münchen 384", "key", 3), ("the root", "certificate", 1),
    ]  # fmt: skip
    shown = countersign("ca", "keystore", "show", store, *given, "--alias", "ec")
    assert shown.code == 0, shown
    assert "2 CN=Lab Root CA,O=Lab" in shown.out
    assert_refused(countersign("ca", "keystore", "show", store, *given, "--alias", "RS"), 1, "the nearest are 'rsa'")


def test_show_exits_with_1_where_a_client_would_stumble(lab: Lab, tmp_path: Path, password_file: Path) -> None:
    entry = key_entry(lab, "own", "ec-p256")
    wrong = KeyEntry("own", entry.chain[::-1], entry.key, MADE)
    (tmp_path / "store").write_bytes(write_store(StoreType.JKS, [wrong], PASSWORD))
    shown = countersign("ca", "keystore", "show", tmp_path / "store", "--store-password-file", password_file)
    assert (shown.code, "problem: the chain of entry 'own' is in the wrong order" in shown.out) == (1, True), shown


@pytest.mark.parametrize("to", ["pem", "pkcs12", "jks", "jceks", "bcfks"])
def test_convert_writes_every_type(to: str, lab: Lab, tmp_path: Path, password_file: Path) -> None:
    (tmp_path / "in").write_bytes(write_store(StoreType.PKCS12, entries(lab), PASSWORD))
    words = ("ca", "keystore", "convert", tmp_path / "in", tmp_path / "out", "--to", to)
    ran = countersign(*words, "--store-password-file", password_file)
    assert ran.code == 0, ran.err
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o600
    made = load_store(tmp_path / "out", PASSWORD)
    assert made.kind == to
    assert [entry.alias for entry in made.keys] == ["rsa", "ec", "münchen 384"]
    again = countersign(*words, "--store-password-file", password_file)
    assert_refused(again, 3, "it exists")


def test_convert_knows_the_forms_of_a_type(lab: Lab, tmp_path: Path, password_file: Path) -> None:
    (tmp_path / "in").write_bytes(write_store(StoreType.JKS, entries(lab), PASSWORD))
    (tmp_path / "new").write_text("the new one")

    def convert(out: str, *words: str | Path) -> Ran:
        given = ("--store-password-file", password_file)
        return countersign("ca", "keystore", "convert", tmp_path / "in", tmp_path / out, *given, *words)

    assert convert("legacy", "--to", "pkcs12", "--legacy").code == 0
    form = load_store(tmp_path / "legacy", PASSWORD).form
    assert form is not None
    assert form.content is not None
    assert form.content.cipher == "rc2-40-cbc"
    assert convert("scrypt", "--type", "bcfks", "--scrypt", "--to-password-file", tmp_path / "new").code == 0
    assert load_store(tmp_path / "scrypt", "the new one").verified
    assert convert("clear", "--to", "pem", "--no-password").code == 0
    assert b"ENCRYPTED" not in (tmp_path / "clear").read_bytes()
    assert convert("trust", "--to", "pkcs12", "--no-password", "--alias", "the root").code == 0
    assert stat.S_IMODE((tmp_path / "trust").stat().st_mode) == 0o644
    assert [entry.alias for entry in load_store(tmp_path / "trust").entries] == ["the root"]
    assert convert("p7b", "--to", "pkcs7", "--pem", "--certificates-only").code == 0
    assert (tmp_path / "p7b").read_bytes().startswith(b"-----BEGIN PKCS7-----")
    assert convert("der", "--to", "der", "--alias", "the root").code == 0
    assert (tmp_path / "der").read_bytes() == chain(lab.root)[0]
    for words, code, part in (
        (("--to", "bks"), 2, "--to takes"),
        (("--to", "jks", "--legacy"), 2, "--legacy is for --to pkcs12"),
        (("--to", "pkcs12", "--legacy", "--no-password"), 2, "opposite things"),
        (("--to", "pem", "--no-password", "--to-password-file", tmp_path / "new"), 2, "opposite things"),
        (("--to", "pkcs12", "--no-password"), 2, "needs a password"),
        (("--to", "der"), 2, "one certificate"),
        (("--to", "pkcs7"), 2, "--certificates-only"),
        (("--to", "pem", "--alias", "other"), 1, "no entry 'other'"),
    ):
        assert_refused(convert("refused", *words), code, part)
        assert not (tmp_path / "refused").exists()


def test_add_puts_a_root_into_a_trust_store(lab: Lab, tmp_path: Path, password_file: Path) -> None:
    """R46."""
    store = tmp_path / "cacerts"
    store.write_bytes(write_store(StoreType.JKS, [CertificateEntry("theirs", chain(lab.server)[0], MADE)], PASSWORD))
    words = ("ca", "keystore", "add", lab.root_pem, "--into", store, "--store-password-file", password_file)
    ran = countersign(*words, "--backup")
    assert ran.code == 0, ran.err
    assert f"before: {store}: JKS, 1 entry, digest right" in ran.out
    assert "added: lab root ca  certificate: CN=Lab Root CA,O=Lab" in ran.out
    (backup,) = tmp_path.glob("cacerts.*.bak")
    assert re.fullmatch(r"cacerts\.20\d\d-\d\d-\d\dT\d{6}Z\.bak", backup.name)
    assert len(load_store(backup, PASSWORD).entries) == 1
    assert_refused(countersign(*words), 1, "nothing to add", "'lab root ca'")
    leaf = countersign("ca", "keystore", "add", lab.client.cert_pem, *words[4:], "--json")
    told = leaf.json()
    assert (told["entries_before"], told["added"][0]["alias"]) == (2, "lab client")
    assert "is no CA certificate" in told["notes"][0]
    assert_refused(countersign("ca", "keystore", "add", lab.server.key_pem, "--into", store), 2, "private key")


def test_no_alias_reaches_the_terminal_as_it_is(lab: Lab, tmp_path: Path, password_file: Path) -> None:
    """T9."""
    entry = key_entry(lab, "\x1b]52;c;aGVsbG8=\x07\u202e\n[ok]", "ec-p256")
    (tmp_path / "store").write_bytes(write_store(StoreType.BCFKS, [entry], PASSWORD))
    given = ("--store-password-file", password_file)
    for words in (("list",), ("show",), ("show", "--alias", "x"), ("list", "--json")):
        ran = countersign("ca", "keystore", words[0], tmp_path / "store", *given, *words[1:])
        text = (ran.out + ran.err).replace("\n", "")
        assert text.isprintable(), text
        assert "\u202e" not in text


# -- split, verify, trust, rotate --------------------------------------------------------------------------------


def test_split_writes_three_files(lab: Lab, tmp_path: Path) -> None:
    whole = lab.server.key_pem.read_bytes() + lab.server.fullchain_pem.read_bytes() + lab.root_pem.read_bytes()
    (tmp_path / "all.pem").write_bytes(whole.replace(b"\n", b"\r\n"))
    ran = countersign("ca", "split", tmp_path / "all.pem", "--out-dir", tmp_path / "out")
    assert ran.code == 0, ran.err
    assert ran.out.splitlines() == [
        f"{tmp_path}/out/key-and-leaf.pem: key (not encrypted) and 'CN=localhost,O=Lab'",
        f"{tmp_path}/out/leaf.pem: 'CN=localhost,O=Lab'",
        f"{tmp_path}/out/ca-chain.pem: 'CN=Lab Issuing CA,O=Lab', then 'CN=Lab Root CA,O=Lab'",
    ]
    assert (tmp_path / "out" / "leaf.pem").read_bytes() == lab.server.cert_pem.read_bytes()
    assert_refused(countersign("ca", "split", tmp_path / "all.pem", "--out-dir", tmp_path / "out"), 3, "it exists")
    words = ("ca", "split", tmp_path / "all.pem", "--out-dir", tmp_path / "out", "--overwrite", "--json")
    told = countersign(*words).json()
    assert (told["key_encrypted"], [each["subject"] for each in told["chain"]]) == (
        False, ["CN=Lab Issuing CA,O=Lab", "CN=Lab Root CA,O=Lab"],
    )  # fmt: skip


@pytest.mark.peer("openssl")
def test_verify_says_what_openssl_says(lab: Lab) -> None:
    good = ("--ca-file", lab.root_pem, "--untrusted", lab.intermediate.cert_pem)
    right = countersign("ca", "verify", lab.server.cert_pem, *good, "--purpose", "server", "--hostname", "localhost")
    assert (right.code, right.out.splitlines()[0]) == (0, f"{lab.server.cert_pem}: OK"), right
    assert re.fullmatch(r"  [0-9a-f]{8} >>> [0-9a-f]{8} >>> [0-9a-f]{8}", right.out.splitlines()[1])
    missing = countersign("ca", "verify", lab.server.fullchain_pem, lab.server.cert_pem, "--ca-file", lab.root_pem)
    assert missing.code == 1
    assert "error 20 at 0 depth: unable to get local issuer certificate" in missing.out
    assert "(missing)" in missing.out
    assert "1 more in the file, not used" in missing.out
    told = countersign("ca", "verify", lab.server.cert_pem, *good, "--at", "2001-01-01", "--json")
    assert (told.code, told.json()["ok"], told.json()["verdicts"][0]["code"]) == (1, False, 9)
    assert_refused(countersign("ca", "verify", lab.server.cert_pem, "--purpose", "mail"), 2, "'mail'")
    assert_refused(countersign("ca", "verify", lab.server.cert_pem, "--at", "noon"), 2, "--at", "noon")
    assert_refused(countersign("ca", "verify", "missing.pem"), 2, "no such file")


def test_trust_prints_commands_with_the_roots_file(made: Path, tmp_path: Path) -> None:
    ran = countersign("ca", "trust", "--for", "node")
    assert f"export NODE_EXTRA_CA_CERTS={shlex.quote(str((made / 'ca' / 'root.pem').resolve()))}" in ran.out
    told = countersign("ca", "trust", "--for", "mid", "--mid-home", tmp_path, "--root", "/elsewhere/root.pem", "--json")
    assert told.json()["for"] == "mid"
    assert "-file /elsewhere/root.pem" in told.json()["commands"][1]["command"]
    assert_refused(countersign("ca", "trust", "--for", "mid"), 2, "--mid-home")
    assert_refused(countersign("ca", "trust", "--for", "lynx"), 2, "'lynx'", "expected java")


def test_rotate_puts_a_new_authority_in_force(made: Path, tmp_path: Path) -> None:
    before = countersign("ca", "root", "--json").json()["root"]["sha256"]
    assert countersign("ca", "rotate", "intermediate").code == 0
    assert countersign("ca", "root", "--json").json()["root"]["sha256"] == before
    told = countersign("ca", "rotate", "root", "--overlap", "3", "--json").json()
    assert (told["rotated"], told["old"]["sha256"]) == ("root", before)
    assert countersign("ca", "root", "--json").json()["root"]["sha256"] == told["new"]["sha256"] != before
    trusted = countersign("ca", "trust", "--for", "curl", "--json").json()["commands"][0]["command"]
    path = Path(next(word for word in shlex.split(trusted) if word.endswith("root.pem")))
    assert x509.load_pem_x509_certificate(path.read_bytes()).fingerprint(hashes.SHA256()).hex() == told["new"]["sha256"]
    assert_refused(countersign("ca", "rotate", "leaf"), 2, "leaves are made as they are needed")
    assert_refused(countersign("ca", "rotate", "root", "--same-key"), 2, "root")


def test_the_cas_keys_may_be_encrypted(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "secret"
    secret.touch(mode=0o600)
    secret.write_text("a passphrase\n")
    assert countersign("ca", "init", "--passphrase-file", secret).code == 0
    assert all(b"ENCRYPTED" in path.read_bytes() for path in (home / "ca").glob("*.key.pem"))
    assert_refused(countersign("ca", "issue", "a.test"), 3, "it is encrypted", "COUNTERSIGN_CA_PASSPHRASE")
    assert countersign("ca", "issue", "a.test", "--passphrase-file", secret).code == 0
    monkeypatch.setenv("COUNTERSIGN_CA_PASSPHRASE", "a passphrase")
    assert countersign("ca", "issue", "a.test").code == 0
    monkeypatch.setenv("COUNTERSIGN_CA_PASSPHRASE", "another one")
    refused = countersign("ca", "issue", "a.test")
    assert_refused(refused, 3, "passphrase is wrong")
    assert "another one" not in refused.err


@pytest.mark.peer("keytool", "bcprov")
def test_the_whole_way_of_a_mid_server_in_fips_mode(made: Path, tmp_path: Path, password_file: Path) -> None:
    """K3: a client certificate for a MID Server, as PKCS #12, then as BCFKS; keytool reads both."""
    given = ("--store-password-file", password_file)
    words: tuple[Arg, ...] = (
        "--eku",
        "client",
        "--key-type",
        "rsa:2048",
        "--store-type",
        "pkcs12",
        "--out",
        tmp_path / "mid.p12",
    )
    assert countersign("ca", "issue", "mid-1", *words, *given).code == 0
    words = (tmp_path / "mid.p12", tmp_path / "mid.bcfks", "--to", "bcfks")
    assert countersign("ca", "keystore", "convert", *words, *given).code == 0
    store = ("-keystore", tmp_path / "mid.bcfks", "-storetype", "BCFKS", "-storepass", PASSWORD)
    told = keytool("-list", "-v", *store, bouncy_castle=True).check().stdout
    assert "Certificate chain length: 3" in told
    shutil.copy(tmp_path / "mid.bcfks", tmp_path / "agent_keystore")
    split = countersign(
        "ca", "split", tmp_path / "agent_keystore", "--out-dir", tmp_path / "out", *given, "--clear-key"
    )
    assert split.code == 0, split.err
    key = serialization.load_pem_private_key((tmp_path / "out" / "key-and-leaf.pem").read_bytes(), None)
    assert key.public_key() == x509.load_pem_x509_certificate((tmp_path / "out" / "leaf.pem").read_bytes()).public_key()
