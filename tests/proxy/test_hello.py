"""What targets are offered: the client's own offer, the same in OpenSSL's order, or what another client would offer."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from countersign.errors import UserError
from countersign.proxy._openssl import TlsClientSide, first_flight
from countersign.proxy.hellos import HelloPreset, hello_preset, hello_presets
from countersign.proxy.offer import Mirror
from countersign.recorder.recording import LegRole, Status, to_json
from countersign.recorder.wire.fingerprints import ja3, ja4
from countersign.recorder.wire.messages import ClientHello, decode_message
from countersign.recorder.wire.reading import summarize_client_hello
from tests.proxy.running import RunningProxy
from tests.proxy.test_offer import Listening
from tests.proxy.wire import TLS12, Target, ask, client_context, client_hello, echo, server_context

if TYPE_CHECKING:
    from tests.peers.certs import Issued, Lab

PRESETS = sorted(hello_presets())
SAME_JA4 = {"openssl-3.0"}
EXTENDED_MASTER_SECRET, SESSION_TICKET, ENCRYPT_THEN_MAC = 23, 35, 22


def der(issued: Issued) -> bytes:
    return issued.certificate.public_bytes(Encoding.DER)


def ja4_of_parts(preset: HelloPreset) -> str:
    """By the definition (github.com/FoxIO-LLC/ja4), from a preset's own numbers."""

    def digest(text: str) -> str:
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    first = preset.alpn[0].decode() if preset.alpn else "00"
    version = {0x0304: "13", 0x0303: "12"}[max(preset.versions)]
    head = f"t{version}d{len(preset.ciphers):02}{len(preset.extensions):02}{first[0]}{first[-1]}"
    ciphers = digest(",".join(f"{one:04x}" for one in sorted(preset.ciphers)))
    extensions = ",".join(f"{one:04x}" for one in sorted(preset.extensions) if one not in {0, 16})
    schemes = ",".join(f"{one:04x}" for one in preset.signature_algorithms)
    return f"{head}_{ciphers}_{digest(f'{extensions}_{schemes}')}"


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_what_its_source_says(name: str) -> None:
    preset = hello_preset(name)
    assert preset.source
    assert set(preset.key_shares) <= set(preset.groups)
    if preset.ja4 is not None:
        assert ja4_of_parts(preset) == preset.ja4
    listed = [(771,), preset.ciphers, preset.extensions, preset.groups]
    formats = "0-1-2" if name.startswith(("openssl", "curl", "python", "node")) else "0"
    text = ",".join([*("-".join(map(str, part)) for part in listed), formats])
    assert hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() == preset.ja3


@pytest.mark.parametrize("name", PRESETS)
def test_what_a_preset_offers_is_offered_in_its_order_and_what_cannot_be_is_named(name: str) -> None:
    preset = hello_preset(name)
    mirror = Mirror(TlsClientSide(()), hello=preset)
    made = mirror.of(summarize_client_hello(client_hello()))
    asks = 5 in preset.extensions
    hello = first_flight(made.prepared.context, name=b"host.example", alpn=preset.alpn, asks_status=asks)
    ours = summarize_client_hello(hello)
    noted = " ".join(made.left_out)
    assert all(text.startswith(f"--hello {name}: ") for text in made.left_out)
    for what, theirs, mine in (
        ("cipher_suites", preset.ciphers, ours.ciphers),
        ("supported_groups", preset.groups, ours.groups),
        ("signature_algorithms", preset.signature_algorithms, ours.signature_algorithms),
    ):
        kept = [one for one in theirs if one in mine]
        assert list(mine) == kept or what == "cipher_suites"
        assert (len(kept) < len([one for one in theirs if one != 0x00FF])) <= (what in noted), what
    value = decode_message(hello).value
    assert isinstance(value, ClientHello)
    assert (ja4(value) != preset.ja4 and preset.ja4 is not None) is ("ja4:" in noted)
    assert (ja3(value) != preset.ja3) is ("ja3:" in noted)
    if name in SAME_JA4:
        assert ja4(value) == preset.ja4


def test_a_preset_that_nobody_knows_is_a_mistake_of_the_user() -> None:
    with pytest.raises(UserError, match="chrome-143"):
        hello_preset("netscape-4")


def test_a_target_gets_the_hello_of_the_preset_whoever_the_client_is() -> None:
    with Listening(hello=hello_preset("java-17")) as listening:
        _, ours, recording = listening.offer(client_hello())
    assert ours is not None
    assert ours.ciphers[:2] == (0x1302, 0x1301)
    assert not set(ours.extensions) & {ENCRYPT_THEN_MAC}
    assert any("ja3:" in note for note in recording.not_mirrored)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_with_each_preset_a_client_of_either_version_is_served(lab: Lab, name: str, version: str) -> None:
    """The target may choose what this client has not offered; its leg then has the nearest that the client can."""
    with (
        Target(echo(server_context(lab.server))) as target,
        RunningProxy(target=target.address, roots=(der(lab.root),), hello=hello_preset(name)) as proxy,
    ):
        context = client_context(proxy.authority.root_pem.decode(), version=version)
        assert ask(proxy, context) == b"good morning\n"
        recording = proxy.recording()
    assert recording.outcome.status is Status.ESTABLISHED
    versions = {leg["leg"]: leg["version"] for leg in to_json(recording)["legs"]}
    assert versions[LegRole.CLIENT.value] == version.replace("_", ".")
    assert versions[LegRole.SERVER.value] == ("TLSv1.2" if name == "java-17-tls12" else "TLSv1.3")


def test_own_offers_what_the_client_does_in_another_order() -> None:
    hello = client_hello(suites=(0xC02F, 0x1301, 0xC02B, 0x1302), groups=(0x0017, 0x001D), shares=(0x0017,))
    seen = {}
    for style in ("mirror", "own"):
        with Listening(hello=style) as listening:
            _, seen[style], _ = listening.offer(hello)
    mirrored, own = seen["mirror"], seen["own"]
    assert mirrored is not None
    assert own is not None
    assert [one for one in mirrored.ciphers if one != 0x00FF] == [0x1301, 0x1302, 0xC02F, 0xC02B]
    assert [one for one in own.ciphers if one != 0x00FF] == [0x1302, 0x1301, 0xC02B, 0xC02F]
    assert (mirrored.groups, own.groups) == ((0x0017, 0x001D), (0x001D, 0x0017))
    assert (mirrored.key_share_groups, own.key_share_groups) == ((0x0017,), (0x001D,))


def test_own_brings_no_version_suite_group_or_scheme_that_the_client_left_out() -> None:
    hello = client_hello(versions=(TLS12,), suites=(0xC02F,), groups=(0x0018,), shares=(), signatures=(0x0601,))
    with Listening(hello="own") as listening:
        _, ours, _ = listening.offer(hello)
    assert ours is not None
    assert [one for one in ours.ciphers if one != 0x00FF] == [0xC02F]
    assert ours.groups == (0x0018,)
    assert ours.signature_algorithms == (0x0601,)
    assert max(ours.versions) == TLS12


def test_extensions_that_can_be_left_out_are_there_as_the_client_has_them() -> None:
    with Listening() as listening:
        _, without, _ = listening.offer(client_hello())
        _, with_all, _ = listening.offer(
            client_hello(extra=((EXTENDED_MASTER_SECRET, b""), (SESSION_TICKET, b""), (ENCRYPT_THEN_MAC, b"")))
        )
    optional = {EXTENDED_MASTER_SECRET, SESSION_TICKET, ENCRYPT_THEN_MAC}
    assert without is not None
    assert with_all is not None
    assert not optional & set(without.extensions)
    assert optional <= set(with_all.extensions)
