"""Key stores between us and a JVM, both ways; many commands in each JVM, for its start costs more than all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from countersign.ca.stores import (
    SCRYPT,
    CertificateEntry,
    KeyEntry,
    SecretEntry,
    StoreType,
    WrongKeyPassword,
    entries_for,
    load_store,
    read_store,
    write_store,
)
from countersign.ca.stores.errors import CannotHold
from countersign.ca.stores.model import Scheme
from countersign.ca.stores.pbe import Algorithm, Secret, encrypt
from countersign.ca.stores.pkcs12 import CLEAR
from tests.ca.stores.made_stores import FORMS, MADE, PASSWORD, digest, entries, key_entry
from tests.peers.keystores import in_java, keytool, openssl

if TYPE_CHECKING:
    from pathlib import Path

    from countersign.ca.stores import Entry
    from tests.peers.certs import Lab
    from tests.peers.keystores import Answer, JavaEntry
    from tests.peers.process import Arg

pytestmark = pytest.mark.peer("java", "javac", "keytool", "bcprov")

JAVA_TYPE = {StoreType.PKCS12: "PKCS12", StoreType.JKS: "JKS", StoreType.JCEKS: "JCEKS", StoreType.BCFKS: "BCFKS"}


def assert_java_sees(found: dict[str, JavaEntry], meant: tuple[Entry, ...], kind: StoreType) -> None:
    """The same aliases, keys, chains and trusted certificates, and dates as far as the type has them."""
    folded = kind.folds_aliases
    assert set(found) == {entry.alias.lower() if folded else entry.alias for entry in meant}
    for entry in meant:
        seen = found[entry.alias.lower() if folded else entry.alias]
        match entry:
            case KeyEntry():
                assert entry.key is not None
                assert seen.kind == "key"
                assert seen.certificates == tuple(map(digest, entry.chain))
                if seen.key != digest(entry.key):  # a JVM may encode an EC key anew, without its public half
                    assert "EC" in str(entry.alias).upper() or "384" in entry.alias
            case CertificateEntry():
                assert (seen.kind, seen.certificates) == ("certificate", (digest(entry.certificate),))
            case SecretEntry():
                assert seen.kind == "secret"
        if entry.created and (kind is not StoreType.PKCS12 or isinstance(entry, KeyEntry)):
            assert seen.created == int(entry.created.timestamp() * 1000)


@pytest.fixture(scope="module")
def meant(lab: Lab) -> tuple[Entry, ...]:
    return entries(lab)


@pytest.fixture(scope="module")
def written(meant: tuple[Entry, ...], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every form, written by us."""
    directory = tmp_path_factory.mktemp("written")
    for name, (kind, form) in FORMS.items():
        (directory / name).write_bytes(write_store(kind, meant, PASSWORD, form=form, now=MADE))
    return {name: directory / name for name in FORMS}


@pytest.fixture(scope="module")
def listed(written: dict[str, Path]) -> dict[str, Answer]:
    """What one JVM says of each."""
    commands = [("list", JAVA_TYPE[FORMS[name][0]], path, PASSWORD, PASSWORD) for name, path in written.items()]
    return dict(zip(written, in_java(*commands, bouncy_castle=True), strict=True))


@pytest.mark.parametrize("name", FORMS)
def test_a_jvm_reads_what_we_write(name: str, listed: dict[str, Answer], meant: tuple[Entry, ...]) -> None:
    assert_java_sees(listed[name].entries, meant, FORMS[name][0])


def test_a_jvm_reads_our_default_of_scrypt(lab: Lab, tmp_path: Path) -> None:
    root = CertificateEntry("root", key_entry(lab, "x", "ec-p256").chain[-1], MADE)
    (tmp_path / "store").write_bytes(write_store(StoreType.BCFKS, [root], PASSWORD, form=SCRYPT))
    answer = in_java(("list", "BCFKS", tmp_path / "store", PASSWORD, PASSWORD), bouncy_castle=True)[0]
    assert_java_sees(answer.entries, (root,), StoreType.BCFKS)


@pytest.fixture(scope="module")
def made_by_java(written: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every type as a JVM writes it, with a secret key in it where there can be one; keys under their own password."""
    directory = tmp_path_factory.mktemp("java")
    source = ("PKCS12", written["pkcs12"], PASSWORD, PASSWORD)
    commands: list[tuple[object, ...]] = []
    for kind in ("JKS", "JCEKS", "PKCS12", "BCFKS"):
        commands.append(("copy", *source, kind, directory / kind, PASSWORD, PASSWORD))
        if kind != "JKS":
            commands.append(("secret", kind, directory / kind, PASSWORD, "secret"))
        if kind != "PKCS12":
            commands.append(("copy", *source, kind, directory / f"{kind}-keyed", PASSWORD, "for the keys"))
    # what the file says of parallelization is not what Bouncy Castle does
    commands += [("scrypt", *source[:3], 512, r, p, directory / f"scrypt-{r}-{p}") for r, p in ((8, 1), (8, 8))]
    for command, answer in zip(commands, in_java(*commands, bouncy_castle=True), strict=True):
        assert answer.failure is None, (command, answer.failure)
    return {path.name: path for path in directory.iterdir()}


@pytest.mark.parametrize("name", ["JKS", "JCEKS", "PKCS12", "BCFKS", "scrypt-8-1", "scrypt-8-8"])
def test_we_read_what_a_jvm_writes(name: str, made_by_java: dict[str, Path], meant: tuple[Entry, ...]) -> None:
    store = load_store(made_by_java[name], PASSWORD)
    assert store.verified
    found = {entry.alias: entry for entry in store.entries}
    for entry in meant:
        same = found.pop(entry.alias)
        if isinstance(entry, KeyEntry):
            assert isinstance(same, KeyEntry)
            assert same.chain == entry.chain
            assert same.key is not None
        else:
            assert isinstance(same, CertificateEntry)
            assert isinstance(entry, CertificateEntry)
            assert (same.certificate, same.trusted) == (entry.certificate, True)
    assert [type(entry) for entry in found.values()] == ([SecretEntry] if name in {"JCEKS", "PKCS12", "BCFKS"} else [])
    entries_for(store, StoreType.PEM, aliases=[entry.alias for entry in meant])  # keys fit their certificates


@pytest.mark.parametrize("name", ["JKS-keyed", "JCEKS-keyed", "BCFKS-keyed"])
def test_keys_may_have_a_password_of_their_own(
    name: str, made_by_java: dict[str, Path], meant: tuple[Entry, ...]
) -> None:
    with pytest.raises(WrongKeyPassword, match="--key-password-file"):
        load_store(made_by_java[name], PASSWORD)
    assert len(load_store(made_by_java[name], PASSWORD, open_keys=False).entries) == len(meant)
    store = load_store(made_by_java[name], PASSWORD, key_password="for the keys")
    assert all(entry.key for entry in store.keys)


@pytest.mark.parametrize("kind", [StoreType.JKS, StoreType.JCEKS, StoreType.BCFKS])
def test_a_jvm_opens_keys_with_the_password_that_we_gave_them(
    kind: StoreType, lab: Lab, made_by_java: dict[str, Path], tmp_path: Path
) -> None:
    entry = key_entry(lab, "rsa", "rsa-2048")
    (tmp_path / "store").write_bytes(write_store(kind, [entry], PASSWORD, key_password="for the keys"))
    right, wrong = in_java(
        ("list", JAVA_TYPE[kind], tmp_path / "store", PASSWORD, "for the keys"),
        ("list", JAVA_TYPE[kind], tmp_path / "store", PASSWORD, PASSWORD),
        bouncy_castle=True,
    )
    assert_java_sees(right.entries, (entry,), kind)
    assert wrong.failure is not None


def test_secret_keys_are_carried_along_untouched(made_by_java: dict[str, Path], tmp_path: Path) -> None:
    """The same bytes, so that a JVM finds the same key under the same password; no other type takes them."""
    commands = []
    for kind in (StoreType.JCEKS, StoreType.PKCS12, StoreType.BCFKS):
        store = load_store(made_by_java[JAVA_TYPE[kind]], PASSWORD)
        again = write_store(kind, entries_for(store, kind), PASSWORD)
        (tmp_path / kind).write_bytes(again)
        commands.append(("list", JAVA_TYPE[kind], tmp_path / kind, PASSWORD, PASSWORD))
        with pytest.raises(CannotHold, match="--drop-secret-keys"):
            entries_for(store, StoreType.JKS)
        with pytest.raises(CannotHold, match="the same password"):
            entries_for(store, kind, same_password=False)
        assert len(entries_for(store, StoreType.JKS, drop_secret_keys=True)) == len(store.entries) - 1
    for answer in in_java(*commands, bouncy_castle=True):
        assert answer.entries["secret"].key == digest(b"\x5a" * 32)


def test_jvms_speak_tls_with_our_stores_on_both_sides(lab: Lab, tmp_path: Path) -> None:
    """R17: on each side a key store with key and whole chain and a trust store with the root; client authentication."""
    rsa, ec = key_entry(lab, "own", "rsa-2048"), key_entry(lab, "own", "ec-p256")
    root = CertificateEntry("root", rsa.chain[-1])
    sides: list[list[object]] = []
    for number, (name, (kind, form)) in enumerate(FORMS.items()):
        held = rsa if number % 2 else ec
        (tmp_path / name).write_bytes(write_store(kind, [held], PASSWORD, form=form))
        (tmp_path / f"{name}.trust").write_bytes(write_store(kind, [root], PASSWORD, form=form))
        trust = [JAVA_TYPE[kind], tmp_path / f"{name}.trust", PASSWORD]
        sides.append([JAVA_TYPE[kind], tmp_path / name, PASSWORD, PASSWORD, *trust])
    commands = [
        ("handshake", *server, *client, "TLSv1.2" if number % 3 else "TLSv1.3")
        for number, (server, client) in enumerate(zip(sides, [*sides[1:], sides[0]], strict=True))
    ]
    for command, answer in zip(commands, in_java(*commands, bouncy_castle=True), strict=True):
        assert answer.failure is None, (command, answer.failure)
        assert ("own", "3") in answer.lines


def test_a_trust_store_that_openssl_made_is_empty_for_a_jvm_until_we_wrote_it(lab: Lab, tmp_path: Path) -> None:
    """Its entries lack Java's mark of trust."""
    theirs, ours = tmp_path / "theirs.p12", tmp_path / "ours.p12"
    openssl("pkcs12", "-export", "-nokeys", "-in", lab.root_pem, "-out", theirs, "-passout", f"pass:{PASSWORD}").check()
    store = load_store(theirs, PASSWORD)
    assert [isinstance(entry, CertificateEntry) and entry.trusted for entry in store.entries] == [False]
    ours.write_bytes(write_store(StoreType.PKCS12, entries_for(store, StoreType.PKCS12), PASSWORD))
    before, after = in_java(*(("list", "PKCS12", path, PASSWORD, PASSWORD) for path in (theirs, ours)))
    assert before.lines == ()
    assert [entry.kind for entry in after.entries.values()] == ["certificate"]


def test_a_trust_store_without_a_password_is_one_for_a_jvm(lab: Lab, tmp_path: Path) -> None:
    """As the cacerts of JDK 18 and later; any password opens it, and none."""
    root = key_entry(lab, "x", "ec-p256").chain[-1]
    (tmp_path / "store").write_bytes(write_store(StoreType.PKCS12, [CertificateEntry("root", root)], form=CLEAR))
    for answer in in_java(*(("list", "PKCS12", tmp_path / "store", password, "-") for password in ("-", "changeit"))):
        assert answer.entries["root"].certificates == (digest(root),)


@pytest.mark.parametrize("form", ["modern", "legacy"])
def test_an_empty_password_is_not_none(form: str, lab: Lab, tmp_path: Path) -> None:
    """RFC 7292 B.1 has two zero bytes for an empty password; a JVM tries both ways, and so do we."""
    entry = key_entry(lab, "own", "ec-p256")
    kind, made = FORMS["pkcs12" if form == "modern" else "pkcs12-legacy"]
    (tmp_path / "ours").write_bytes(write_store(kind, [entry], "", form=made))
    read, copied = in_java(
        ("list", "PKCS12", tmp_path / "ours", "", ""),
        ("copy", "PKCS12", tmp_path / "ours", "", "", "PKCS12", tmp_path / "theirs", "", ""),
    )
    assert list(read.entries) == ["own"]
    assert copied.failure is None
    for password in ("", None):
        store = load_store(tmp_path / "theirs", password)
        assert store.verified
        assert store.keys[0].chain == entry.chain
    assert load_store(tmp_path / "theirs", "").keys[0].key is not None


def test_a_salt_of_two_equal_halves_is_turned_as_the_jvm_turns_it() -> None:
    """JCEKS derives the two halves of a key from them, which must not be the same."""
    for salt in (bytes.fromhex("0102030401020304"), bytes.fromhex("0102030405060708")):
        algorithm = Algorithm(Scheme("3des-cbc", "jceks", 7, "md5"), salt)
        answer = in_java(("pbe", salt.hex(), 7, PASSWORD, b"a secret".hex()))[0]
        assert answer.lines == (("encrypted", encrypt(algorithm, b"a secret", Secret(PASSWORD)).hex()),)


# -- keytool itself ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["jks", "jceks", "pkcs12-legacy", "bcfks"])
def test_keytool_lists_a_chain_of_three(name: str, written: dict[str, Path]) -> None:
    kind = FORMS[name][0]
    words = ("-list", "-v", "-keystore", written[name], "-storetype", JAVA_TYPE[kind], "-storepass", PASSWORD)
    told = keytool(*words, bouncy_castle=kind is StoreType.BCFKS).check().stdout
    assert told.count("Certificate chain length: 3") == 3
    assert told.count("trustedCertEntry") == 1


def test_keytool_turns_our_bcfks_into_pkcs12_and_back(written: dict[str, Path], tmp_path: Path) -> None:
    """K3's command, both ways; what comes back is what we wrote."""
    way = (
        (written["bcfks"], "BCFKS", tmp_path / "x.p12", "PKCS12"),
        (tmp_path / "x.p12", "PKCS12", tmp_path / "x", "BCFKS"),
    )
    for source, source_type, target, target_type in way:
        words: tuple[Arg, ...] = (
            "-srckeystore",
            source,
            "-srcstoretype",
            source_type,
            "-srcstorepass",
            PASSWORD,
            "-noprompt",
        )
        words += ("-destkeystore", target, "-deststoretype", target_type, "-deststorepass", PASSWORD)
        keytool("-importkeystore", *words, bouncy_castle=True).check()
    before, after = (read_store(path.read_bytes(), PASSWORD) for path in (written["bcfks"], tmp_path / "x"))
    assert {entry.alias.lower(): entry.chain for entry in before.keys} == {
        entry.alias.lower(): entry.chain for entry in after.keys
    }


def test_keytool_changes_our_jks_and_we_read_it_again(written: dict[str, Path], tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.write_bytes(written["jks"].read_bytes())
    words = ("-keystore", store, "-storetype", "JKS", "-storepass", PASSWORD)
    keytool("-changealias", "-alias", "rsa", "-destalias", "other", *words).check()
    keytool("-keypasswd", "-alias", "ec", "-keypass", PASSWORD, "-new", "for the keys", *words).check()
    names = [entry.alias for entry in load_store(store, PASSWORD, open_keys=False).entries]
    assert sorted(names) == ["ec", "münchen 384", "other", "the root"]
    with pytest.raises(WrongKeyPassword, match="'ec'"):
        load_store(store, PASSWORD)
