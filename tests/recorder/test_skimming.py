"""A skimmed hello says what the same hello says when it is read, or nothing."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, settings, strategies as st

from countersign.recorder.wire import names
from countersign.recorder.wire.codes import CLIENT_HELLO, SERVER_HELLO
from countersign.recorder.wire.extensions import EarlyData, EncryptThenMac, SelectedVersion, SupportedVersions
from countersign.recorder.wire.messages import ClientHello, ServerHello, decode_message
from countersign.recorder.wire.skimming import (
    SkimmedClientHello,
    SkimmedServerHello,
    skim_client_hello,
    skim_server_hello,
)
from tests.recorder.transcripts import NAMES, transcript


@cache
def hellos() -> tuple[bytes, ...]:
    """Those of all golden transcripts."""
    found = {
        message.raw: None
        for name in NAMES
        for message in transcript(name)
        if message.is_handshake(CLIENT_HELLO) or message.is_handshake(SERVER_HELLO)
    }
    return tuple(found)


def read(raw: bytes) -> SkimmedClientHello | SkimmedServerHello | None:
    """What :mod:`countersign.recorder.wire.leg` takes from a hello that is read."""
    hello = decode_message(raw).value
    if isinstance(hello, ClientHello):
        offered = [one for one in hello.extensions or () if isinstance(one, SupportedVersions)]
        tls13 = any(names.is_tls13(version) for one in offered for version in one.versions)
        early_data = any(isinstance(one, EarlyData) for one in hello.extensions or ())
        return SkimmedClientHello(hello.random, hello.cipher_suites, tls13, early_data)
    if isinstance(hello, ServerHello):
        chosen = [one.selected_version for one in hello.extensions or () if isinstance(one, SelectedVersion)]
        encrypt_then_mac = any(isinstance(one, EncryptThenMac) for one in hello.extensions or ())
        version = chosen[-1] if chosen else hello.legacy_version
        return SkimmedServerHello(hello.random, version, hello.cipher_suite, hello.compression_method, encrypt_then_mac)
    return None


def skimmed(raw: bytes) -> SkimmedClientHello | SkimmedServerHello | None:
    return skim_client_hello(raw) or skim_server_hello(raw)


def test_hellos_as_they_come_are_skimmed() -> None:
    assert len(hellos()) > 20
    for raw in hellos():
        if not isinstance(read(raw), SkimmedClientHello | SkimmedServerHello):
            continue
        assert skimmed(raw) == read(raw)


@pytest.mark.parametrize("code", [CLIENT_HELLO, SERVER_HELLO])
@given(data=st.data())
@settings(max_examples=150)
def test_what_is_not_as_it_should_be_is_skimmed_as_it_is_read_or_not_at_all(data: st.DataObject, code: int) -> None:
    raw = bytearray(data.draw(st.sampled_from([one for one in hellos() if one[0] == code])))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at] = data.draw(st.sampled_from([0, 1, 2, 3, 22, 42, 43, raw[at] ^ 1, raw[at] ^ 0x80, 255]))
    cut = bytes(raw[: data.draw(st.integers(0, len(raw)))]) if data.draw(st.booleans()) else bytes(raw)
    found = skimmed(cut)
    assert found is None or found == read(cut)
