"""A bundle for a ticket: whole, without secrets, and on order without names."""

from __future__ import annotations

import io
import json
import re
import zipfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, ip_address, ip_network
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, strategies as st

from countersign.ca.limits import Constraints, outside
from countersign.ca.recipes import catalogue
from countersign.findings.bundling import Pseudonyms, bundle
from countersign.findings.bundling.pseudonyms import _KEPT_NETWORKS, _Swap
from countersign.findings.comparing import compare
from countersign.findings.diagnosing import diagnose
from countersign.findings.diagnosing.case import View
from countersign.findings.diagnosing.chain import defects
from countersign.findings.diagnosing.inspection import is_root_of_a_product, product_of
from countersign.findings.subjects import Subject
from countersign.proxy import Address, SecretsKept
from countersign.recorder.certificates import CertificateFacts
from countersign.recorder.files.importing import import_files
from countersign.recorder.recording import Recording, to_json
from countersign.recorder.schema.checking import what_is_wrong
from countersign.recorder.wire.events import Content, Message, Side
from countersign.recorder.wire.told import Told
from tests.findings.test_comparing import AUTHORITY, hello_with, recorded, shown_chain
from tests.peers.curl import curl
from tests.peers.openssl import OpensslServer
from tests.proxy.running import RunningProxy
from tests.recorder.transcripts import NAMES, transcript

if TYPE_CHECKING:
    from pathlib import Path

    from tests.peers.certs import Lab

KEY = bytes(range(32))
HOST = "mid07.intranet.acmewidgets.com"
SECRET_WORDS = ("acmewidgets", "intranet", "mid07", "Wile", "coyote", "192.0.2.77", "Lab Issuing")


@pytest.fixture(name="recordings")
def _recordings(lab: Lab, tmp_path: Path) -> list[Recording]:
    """Two sessions with a server whose names are somebody's."""
    server = lab.issue(HOST, "*.acmewidgets.com", "192.0.2.77", common_name="Wile E. Coyote Ltd")
    roots = (lab.root.certificate.public_bytes(Encoding.DER),)
    with (
        OpensslServer(server, "-verify", "3", "-CAfile", lab.root_pem, mode="www") as target,
        RunningProxy(target=Address("127.0.0.1", target.port), roots=roots, secrets=SecretsKept.ALL) as proxy,
    ):
        for version in ("1.3", "1.2"):
            there = f"{HOST}:{proxy.port}"
            to = ("--connect-to", f"{there}:127.0.0.1:{proxy.port}", "--tls-max", version)
            curl(f"https://{there}/", *to, ca=proxy.root_file(tmp_path))
        return [replace(one, target=f"{HOST}:443", client="192.0.2.77:1234") for one in proxy.recordings(2)]


def unpacked(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as packed:
        assert packed.testzip() is None
        return {name.rpartition("/")[2]: packed.read(name) for name in packed.namelist()}


@pytest.mark.peer("openssl", "curl")
def test_a_bundle_has_everything_and_no_secret(recordings: list[Recording], tmp_path: Path) -> None:
    recording = recordings[0]
    assert any(leg.secrets for leg in recording.legs)
    files = unpacked(bundle(recording))
    assert set(files) == {
        "README.txt", "ladder.txt", "recording.html", "recording.json", "recording.pcapng", "findings.txt",
        "findings.json", "environment.json", "chain.pem",
    }  # fmt: skip
    secrets = [secret.secret for leg in recording.legs for secret in leg.secrets]
    for content in files.values():
        assert not any(secret in content or secret.hex().encode() in content for secret in secrets)
    assert b"secrets that the recording keeps" in files["README.txt"]
    (tmp_path / "again.pcapng").write_bytes(files["recording.pcapng"])
    (again,) = import_files([tmp_path / "again.pcapng"])
    assert isinstance(again, Recording)
    assert to_json(again)["legs"][0]["messages"] == to_json(recording)["legs"][0]["messages"]


@pytest.mark.peer("openssl", "curl")
def test_no_name_is_left_in_a_redacted_bundle_and_it_reads_as_before(recordings: list[Recording]) -> None:
    for recording in recordings:
        files = unpacked(bundle(recording, pseudonyms=Pseudonyms(KEY)))
        for name, content in files.items():
            for word in SECRET_WORDS:
                assert word.lower().encode() not in content.lower(), (name, word)
        document = json.loads(files["recording.json"])
        assert what_is_wrong(document) is None
        before = to_json(recording)
        for leg, was in zip(document["legs"], before["legs"], strict=True):
            assert [(m["type"], m["length"]) for m in leg["messages"]] == [
                (m["type"], m["length"]) for m in was["messages"]
            ]
            assert leg["certificates"][0]["key"] == was["certificates"][0]["key"]
            assert leg["certificates"][0]["not_after"] == was["certificates"][0]["not_after"]
        host, wildcard = document["legs"][0]["certificates"][0]["san"][:2]
        assert host.removeprefix("DNS:") == document["sni"]
        assert wildcard.removeprefix("DNS:*.") == document["sni"].split(".", 2)[2]
        found = json.loads(files["findings.json"])["findings"]
        assert [one["id"] for one in found] == [one.id for one in diagnose(recording).findings]


@pytest.mark.peer("openssl", "curl")
def test_two_redacted_recordings_differ_as_they_did(recordings: list[Recording]) -> None:
    a, b = recordings
    hidden = [Pseudonyms(KEY).redacted(one) for one in recordings]
    plain = compare(Subject("a", a), Subject("b", b))
    under = compare(Subject("a", hidden[0]), Subject("b", hidden[1]))
    assert [one.field for one in plain.differences] == [one.field for one in under.differences]
    other = Pseudonyms(bytes(32)).redacted(a)
    assert other.sni != hidden[0].sni


@pytest.mark.parametrize("name", NAMES)
def test_every_kind_of_handshake_keeps_its_form(name: str) -> None:
    recording = recorded(transcript(name)).recording
    hidden = Pseudonyms(KEY).redacted(recording)
    lengths = [[len(one.raw) for one in each.legs[0].messages if one.code != 25] for each in (recording, hidden)]
    assert lengths[0] == lengths[1]  # but for a compressed certificate's
    was, now = recording.legs[0].read(), hidden.legs[0].read()
    assert [one.type for one in was.messages] == [one.type for one in now.messages]
    assert (was.version, was.cipher, was.group, was.resumed) == (now.version, now.cipher, now.group, now.resumed)
    assert was.problems == now.problems


@given(st.from_regex(r"[a-zA-Z0-9-]{1,30}(\.[a-zA-Z0-9-]{1,30}){1,4}", fullmatch=True))
def test_a_pseudonym_has_the_form_of_its_name(host: str) -> None:
    pseudonym = Pseudonyms(KEY)._name(host, "host name")
    assert len(pseudonym) == len(host)
    form = (re.compile(r"[a-z]"), re.compile(r"[A-Z]"), re.compile(r"[0-9]"))
    for old, new in zip(host, pseudonym, strict=True):
        assert old == new or any(one.match(old) and one.match(new) for one in form)
    assert Pseudonyms(KEY)._name(host, "host name") == pseudonym


def test_names_that_only_re_takes_for_the_same_are_replaced_by_one_another() -> None:
    """The long s is an s for ``re.IGNORECASE`` and stays itself for ``str.lower``; so are dotless i and final sigma."""
    for name, shown in (("te\u017ft", "TEST"), ("\u0131nt", "INT"), ("\u03c2ab", "\u03c3AB"), ("\u0130ab", "iab")):
        assert _Swap({name: "x" * len(name)}).text(f"at {shown}, {name}") == f"at {'x' * len(name)}, {'x' * len(name)}"


@pytest.mark.parametrize("name", ["株式会社トヨタ", "Газпром", "Müller", "\U00020000\U00020001"])
def test_a_name_in_any_script_is_replaced_by_one_as_long(name: str) -> None:
    pseudonym = Pseudonyms(KEY)._name(name, "name in a certificate")
    assert all(old != new for old, new in zip(pseudonym, name, strict=True) if not old.isascii())
    for coding in ("utf-8", "utf-16-be"):
        assert len(pseudonym.encode(coding)) == len(name.encode(coding))


def test_a_compressed_certificate_keeps_no_name() -> None:
    recording = recorded(transcript("tls13-compressed-certificate")).recording
    hidden = Pseudonyms(KEY).redacted(recording)
    was, now = ([one.facts for one in each.legs[0].read().certificates] for each in (recording, hidden))
    assert [one.subject for one in was] == ["CN=localhost,O=Lab", "CN=Lab Issuing CA,O=Lab"]
    assert not any("Lab" in (one.subject or "") for one in now)
    assert [one.key for one in now] == [one.key for one in was]
    assert what_is_wrong(to_json(hidden)) is None
    packed = next(one for one in recording.legs[0].messages if one.code == 25)
    broken = replace(packed, raw=packed.raw[:20] + bytes(len(packed.raw) - 20))
    (only,) = Pseudonyms(KEY).redacted(recorded([broken]).recording).legs[0].messages
    assert (only.length, len(only.raw)) == (packed.length, 11)  # what cannot be opened is not passed on


def test_a_host_without_a_point_and_a_label_are_names_too() -> None:
    recording = replace(recorded([hello_with()], label="Acme before").recording, sni="db", target="midserver01:443")
    hidden = Pseudonyms(KEY).redacted(recording)
    assert hidden.target is not None
    assert hidden.target != recording.target
    assert hidden.target.endswith(":443")
    assert hidden.sni != "db"
    assert hidden.label is not None
    assert "Acme" not in hidden.label
    text = replace(recording, outcome=replace(recording.outcome, text="The feedback of db."))
    assert Pseudonyms(KEY).redacted(text).outcome.text == f"The feedback of {hidden.sni}."  # "db" as a word alone


@pytest.mark.parametrize(
    ("name", "product"),
    [
        ("CN=Fortinet_CA_SSL,OU=Acme,O=Fortinet", "FortiGate"),
        ("CN=Acme proxy,O=Palo Alto Networks", "Palo Alto Networks"),
        ("CN=Forward Trust,OU=Acme,O=Palo Alto Networks", "Palo Alto Networks"),
        ("CN=Cisco Umbrella Root CA,OU=Acme,O=Cisco", "Cisco Umbrella"),
        ("CN=Gateway CA - Cloudflare Managed G1 acme,O=Cloudflare\\, Inc.", "Cloudflare Gateway"),
    ],
)
def test_a_product_is_known_under_pseudonyms_and_its_owner_is_not(name: str, product: str) -> None:
    facts = CertificateFacts("", subject="CN=host.acme.test", issuer=name)
    message = Message(0.0, Side.SERVER, Content.HANDSHAKE, 11, False, 0, b"", told=Told(b"", (), (facts,)))
    (hidden,) = Pseudonyms(KEY).redacted(recorded([message]).recording).legs[0].messages
    assert hidden.told is not None
    assert product_of(hidden.told.certificates) == product_of([facts]) == product
    (shown,) = hidden.told.certificates
    assert is_root_of_a_product(shown.issuer) == is_root_of_a_product(name)
    assert "acme" not in f"{hidden.told.certificates}".lower()


def test_the_domains_of_name_constraints_are_names_too() -> None:
    """So that what a CA may speak for is the same, and is not told."""
    ders = catalogue()["name-constraints-exclude"].make(AUTHORITY, name=HOST).chain
    recording = recorded(shown_chain(ders)).recording
    hidden = Pseudonyms(KEY).redacted(recording)
    chains = [[sent.der for sent in one.legs[0].read().chain(Side.SERVER)] for one in (recording, hidden)]
    told = [outside(one[0], one[1:]) for one in chains]
    assert None not in told
    assert b"acmewidgets" not in b"".join(chains[1])


def under_an_authority_of_networks(leaf: str, *permitted: str, excluded: str | None = None) -> list[bytes]:
    """A leaf for an address, and an authority that may speak for these networks alone."""
    key = ec.generate_private_key(ec.SECP256R1())
    day = datetime(2026, 11, 21, tzinfo=UTC)

    def made(subject: str, extension: x509.ExtensionType) -> bytes:
        names = [x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, one)]) for one in (subject, "Acme Issuing CA")]
        begun = x509.CertificateBuilder(names[1], names[0], key.public_key(), 7, day, day + timedelta(days=9))
        return begun.add_extension(extension, critical=True).sign(key, hashes.SHA256()).public_bytes(Encoding.DER)

    def subtrees(*networks: str) -> list[x509.GeneralName] | None:
        return [x509.IPAddress(ip_network(one)) for one in networks] or None

    limits = x509.NameConstraints(subtrees(*permitted), subtrees(*([excluded] if excluded else [])))
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(leaf))])
    return [made("leaf", names), made("Acme Issuing CA", limits)]


@pytest.mark.parametrize(
    ("leaf", "permitted", "excluded", "within"),
    [
        ("203.0.113.77", ("203.0.113.0/24",), None, True),
        ("203.0.112.77", ("203.0.113.0/24",), None, False),
        ("10.77.3.9", ("10.0.0.0/8", "192.168.0.0/16"), "10.77.3.8/31", False),
        ("10.77.3.9", ("10.77.0.0/16",), "10.77.3.16/28", True),
        ("2001:db8:77::9", ("2001:db8:77::/48",), None, True),
        ("2001:db8:78::9", ("2001:db8:77::/48",), None, False),
        ("127.0.0.1", ("127.0.0.0/8",), None, True),
    ],
)
def test_the_networks_of_name_constraints_are_names_too(
    leaf: str,
    permitted: tuple[str, ...],
    excluded: str | None,
    within: bool,  # noqa: FBT001
) -> None:
    ders = under_an_authority_of_networks(leaf, *permitted, excluded=excluded)
    assert (outside(ders[0], ders[1:]) is None) is within
    hidden = Pseudonyms(KEY).redacted(recorded(shown_chain(ders)).recording)
    chain = [sent.der for sent in hidden.legs[0].read().chain(Side.SERVER)]
    assert (outside(chain[0], chain[1:]) is None) is within
    networks = [ip_network(one) for one in (*permitted, excluded) if one is not None]
    for network in networks:
        there = network.network_address.packed + network.netmask.packed in chain[1]
        assert there is (str(network) in {"10.0.0.0/8", "192.168.0.0/16", "127.0.0.0/8"})  # which are everybody's


@given(
    one=st.integers(0, 2**32 - 1).map(ip_address),
    other=st.integers(0, 2**32 - 1).map(ip_address),
    length=st.integers(0, 32),
)
def test_addresses_of_one_network_have_pseudonyms_of_one_network(
    one: IPv4Address, other: IPv4Address, length: int
) -> None:
    near = ip_address(int(one) ^ int(other) >> length)  # so many bits in common at least
    hidden = [ip_address(Pseudonyms(KEY)._address(str(each))) for each in (one, near)]
    if not one.is_loopback and not near.is_loopback:
        common = [32 - (int(a) ^ int(b)).bit_length() for a, b in ((one, near), hidden)]
        assert common[0] == common[1]
    for network in _KEPT_NETWORKS:
        assert [each in network for each in hidden] == [one in network, near in network]


def test_masks_with_holes_and_subtrees_without_a_mask_are_replaced_too() -> None:
    for base, shown in (
        (b"\xcb\0\x71\x4d\xff\0\xff\0", "203.0.113.77/255.0.255.0"),
        (b"\xcb\0\x71\x4d", "203.0.113.77"),
    ):
        assert Constraints(((0x87, base),), ()).networks == [shown]
        new = Pseudonyms(KEY)._address(shown)
        assert new != shown
        swap = _Swap({shown: new})
        raw = swap.raw(b"\x30\x0a\x87" + bytes([len(base)]) + base)
        assert len(raw) == len(base) + 4
        assert raw[4:8] != base[:4]
        assert raw[8:] == base[4:]


def test_what_was_known_of_signatures_is_known_under_pseudonyms_and_marks_that_are_none_do_no_harm() -> None:
    chain = shown_chain(catalogue()["leaf-signature-broken"].make(AUTHORITY, name=HOST).chain)
    recording = recorded(chain).recording
    hidden = Pseudonyms(KEY).redacted(recording)
    again = Pseudonyms(bytes(32)).redacted(hidden)
    for one in (hidden, again):
        view = View(one, one.legs[0])
        found = defects(view.chain(Side.SERVER), at=one.started, name=None, broken=view.broken(Side.SERVER))
        assert "signature-does-not-hold" in {each.id for each in found}
    for mark in (True, {}, {"through": 3}, {"through": {"handshake": "yes", "server": [0, [1], ["a", 2], {}]}}):
        odd = replace(hidden, prelude={"redacted": mark})
        view = View(odd, odd.legs[0])
        assert (view.signature_held, view.broken(Side.SERVER)) == (None, frozenset())
        assert diagnose(odd).unseen


def test_what_a_log_told_is_redacted_whatever_its_names_are() -> None:
    """A name may be a word of the JSON form, or look like Base64."""
    told = Told(b"\x0b\x00\x00\x00", ("random",), (CertificateFacts("", subject="CN=random,O=AAAA"),), ("O=random",))
    message = Message(0.0, Side.SERVER, Content.HANDSHAKE, 11, False, 0, b"", told=told)
    (hidden,) = Pseudonyms(KEY).redacted(recorded([message]).recording).legs[0].messages
    assert hidden.told is not None
    assert (hidden.told.form, hidden.told.absent) == (told.form, told.absent)
    assert "random" not in str(hidden.told.certificates[0].subject)
    assert hidden.told.authorities is not None
    assert "random" not in hidden.told.authorities[0]
