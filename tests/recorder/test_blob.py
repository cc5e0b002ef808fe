from __future__ import annotations

import json
import math
import random
import re
import struct
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from countersign.recorder.recording import (
    DataCount,
    End,
    Ending,
    Failure,
    FailureCode,
    Leg,
    LegRole,
    Outcome,
    Party,
    Recording,
    Status,
    Verification,
    to_json,
)
from countersign.recorder.store.blob import BlobError, pack, unpack
from countersign.recorder.wire.events import Content, Message, Problem, Side
from countersign.recorder.wire.secrets import Secret
from tests.recorder.store_samples import (
    C,
    S,
    certificate12,
    certificate13,
    chain,
    full_sample,
    message,
    open_sample,
    sample,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from countersign.recorder.store.blob import Find


def again(recording: Recording) -> Recording:
    packed = pack(recording)
    return unpack(packed.data, finder(packed.certificates))


def finder(certificates: Mapping[bytes, bytes]) -> Find:
    def find(digests: Sequence[bytes]) -> dict[bytes, bytes]:
        return {digest: certificates[digest] for digest in digests if digest in certificates}

    return find


def with_messages(*messages: Message) -> Recording:
    return sample(legs=(Leg(LegRole.CLIENT, messages=messages),))


@pytest.mark.parametrize("recording", [sample(), open_sample(), full_sample(), sample(legs=())])
def test_a_recording_comes_back_equal(recording: Recording) -> None:
    assert again(recording) == recording


def test_its_json_form_comes_back_equal() -> None:
    assert json.dumps(to_json(again(full_sample()))) == json.dumps(to_json(full_sample()))


def test_mappings_of_any_kind_come_back_as_dicts() -> None:
    recording = sample(prelude=MappingProxyType({"kind": "socks5", "inner": MappingProxyType({"a": 1})}))
    assert again(recording).prelude == {"kind": "socks5", "inner": {"a": 1}}


def test_moments_are_exact_and_in_utc() -> None:
    tokyo = timezone(timedelta(hours=9))
    started = datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=tokyo)
    back = again(sample(started=started, ended=datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)))
    assert back.started == started
    assert back.started.utcoffset() == timedelta(0)
    assert back.ended == datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)


def test_every_member_of_an_enumeration_has_a_code() -> None:
    for side in Side:
        for content in Content:
            recording = with_messages(Message(0.0, side, content, 1, False, 1, b"\x01"))
            assert again(recording) == recording


# -- certificates --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "certificate",
    [
        certificate12(S, chain("a.example.com", "Public")),
        certificate13(S, chain("a.example.com", "Public")),
        certificate13(C, chain("a.example.com", "Device"), context=b"\x01\x02\x03"),
        certificate13(S, chain("a.example.com", "Public"), stapled=bytes(1500)),
        certificate13(S, chain("a.example.com", "Public") * 2),
    ],
)
def test_certificates_are_taken_out_and_put_back_byte_for_byte(certificate: Message) -> None:
    packed = pack(with_messages(certificate))
    for der in packed.certificates.values():
        assert der in certificate.raw
        assert der not in packed.data
    assert set(packed.certificates) == {sha256(der).digest() for der in packed.certificates.values()}
    assert len(packed.certificates) == 3
    assert unpack(packed.data, finder(packed.certificates)) == with_messages(certificate)


def test_a_certificate_of_two_legs_is_taken_out_once() -> None:
    one = certificate12(S, chain("a.example.com", "Public"))
    packed = pack(sample(legs=(Leg(LegRole.CLIENT, messages=(one, one)), Leg(LegRole.SERVER, messages=(one,)))))
    assert len(packed.certificates) == 3
    assert len(packed.data) < 900


def _odd_certificate_messages() -> list[Message]:
    good = certificate12(S, chain("a.example.com", "Public"))
    return [
        message(S, 11, b""),
        message(S, 11, b"\0\0\0"),
        message(S, 11, b"\0\0\0\0"),
        message(S, 11, b"\0\0\0\0\0"),
        message(S, 11, b"\xff\xff\xff" + bytes(20)),
        message(S, 11, b"\xff" + bytes(20)),
        message(S, 11, good.raw[4:-1]),
        message(S, 11, good.raw[4:] + b"\0"),
        message(S, 11, (20_000 * 4).to_bytes(3, "big") + b"\0\0\x01\x30" * 20_000),  # a list of one-byte certificates
        message(S, 11, bytes([0]) + (20_000 * 3).to_bytes(3, "big") + bytes(60_000)),
        replace(good, raw=good.raw[:-1]),
        replace(good, raw=good.raw[:400], digest="cd" * 32),
        replace(good, length=good.length + 1),
        replace(good, code=12),
        replace(good, content=Content.HEARTBEAT),
        replace(good, raw=b"", encrypted=True),
        Message(0.0, S, Content.HANDSHAKE, 11, False, 2, b"\x0b\x00"),
    ]


@pytest.mark.parametrize("odd", _odd_certificate_messages())
def test_a_certificate_message_that_is_not_well_formed_stays_whole(odd: Message) -> None:
    packed = pack(with_messages(odd))
    assert not packed.certificates
    assert odd.raw in packed.data
    assert unpack(packed.data, finder({})) == with_messages(odd)


def test_a_list_of_very_many_certificates_takes_out_only_some() -> None:
    many = certificate12(S, tuple(bytes([n % 256, n // 256]) * 100 for n in range(1000)))
    packed = pack(with_messages(many))
    assert len(packed.certificates) == 64
    assert unpack(packed.data, finder(packed.certificates)) == with_messages(many)


@settings(max_examples=300, deadline=None)
@given(
    body=st.binary(max_size=2000)
    | st.lists(st.binary(max_size=400), max_size=6).map(lambda ders: certificate12(S, tuple(ders)).raw[4:]),
    cut=st.integers(0, 30),
    extra=st.binary(max_size=5),
)
def test_any_certificate_message_comes_back_byte_for_byte(body: bytes, cut: int, extra: bytes) -> None:
    recording = with_messages(message(S, 11, body[: len(body) - cut] + extra))
    assert again(recording) == recording


def test_a_missing_certificate_is_named() -> None:
    packed = pack(sample())
    gone = min(packed.certificates)
    with pytest.raises(BlobError, match=f"the certificate {gone.hex()} that it refers to is not in the store"):
        unpack(packed.data, finder({key: der for key, der in packed.certificates.items() if key != gone}))


def test_a_changed_certificate_is_named() -> None:
    packed = pack(sample())
    changed = min(packed.certificates)
    with pytest.raises(BlobError, match=f"the certificate {changed.hex()} that it refers to was changed"):
        unpack(packed.data, finder({**packed.certificates, changed: b"another"}))


# -- damage --------------------------------------------------------------------------------------------------------


def test_every_prefix_is_refused_with_a_sentence() -> None:
    packed = pack(full_sample())
    for size in range(len(packed.data)):
        with pytest.raises(BlobError):
            unpack(packed.data[:size], finder(packed.certificates))


def test_every_flipped_bit_is_noticed() -> None:
    packed = pack(full_sample())
    noise = random.Random(0)
    places = range(len(packed.data) * 8) if len(packed.data) < 2000 else noise.sample(range(len(packed.data) * 8), 4000)
    for place in (*range(64), *places):
        flipped = bytearray(packed.data)
        flipped[place // 8] ^= 1 << place % 8
        with pytest.raises(BlobError):
            unpack(bytes(flipped), finder(packed.certificates))


def test_what_is_longer_than_it_should_be_is_refused() -> None:
    packed = pack(sample())
    with pytest.raises(BlobError, match="checksum"):
        unpack(packed.data + b"\0", finder(packed.certificates))


def test_a_form_of_tomorrow_says_so() -> None:
    data = bytearray(pack(sample()).data)
    data[2] = 9
    with pytest.raises(BlobError, match=r"written by a newer countersign \(form 9, this one reads 1\): upgrade"):
        unpack(bytes(data), finder({}))


def test_something_else_says_how_it_begins() -> None:
    with pytest.raises(BlobError, match="it begins with 5351 instead of 4352"):
        unpack(b"SQLite format 3\0", finder({}))


@settings(max_examples=500, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.data())
def test_bytes_with_a_right_checksum_and_wrong_content_never_raise_anything_else(data: st.DataObject) -> None:
    packed = pack(full_sample())
    body = bytearray(packed.data[8:])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body) - 1))
        body[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=6))
    try:
        unpack(sealed(bytes(body)), finder(packed.certificates))
    except BlobError:
        pass


def test_a_head_that_is_no_head_is_an_error() -> None:
    for head in (b"", b"[]", b"{}", b"null", b"[" * 5000, b'{"legs":[{}],"outcome":[1,2,3,4,5]}'):
        with pytest.raises(BlobError):
            unpack(sealed(struct.pack("<I", len(head)) + head + bytes(4)), finder({}))


@pytest.mark.parametrize("started", [b"1e999", b"NaN", b"-1e30", b'"x"', b"1" + b"0" * 400])
def test_a_moment_that_is_none_is_an_error(started: bytes) -> None:
    body = pack(full_sample()).data[8:]
    size = int.from_bytes(body[:4], "little")
    head = re.sub(rb'"started":\d+', b'"started":' + started, body[4 : 4 + size])
    with pytest.raises(BlobError, match="its checksum is right and its content is not"):
        unpack(sealed(struct.pack("<I", len(head)) + head + body[4 + size :]), finder(pack(full_sample()).certificates))


def test_a_failure_of_a_kind_that_is_not_known_here_is_read() -> None:
    """A newer countersign may have more of them."""
    packed = pack(sample(failures=(Failure(1.0, None, Party.PROXY, code=FailureCode.UNTRUSTED, text="did"),)))
    renamed = sealed(packed.data[8:].replace(b'"untrusted"', b'"of-later"'.ljust(11)))
    (failure,) = unpack(renamed, finder(packed.certificates)).failures
    assert (failure.code, failure.text) == (FailureCode.OTHER, "did")


def sealed(body: bytes) -> bytes:
    """With the checksum that it should have."""
    from zlib import crc32

    return b"CR\x01\x00" + struct.pack("<I", crc32(body, crc32(b"CR\x01\x00"))) + body


# -- everything at once --------------------------------------------------------------------------------------------

_texts = st.text(max_size=20)
_maybe = st.none() | _texts
_times = st.floats(0, 1e9, allow_nan=False)
_sides = st.sampled_from(Side)
_roles = st.sampled_from(LegRole)
_sizes = st.integers(0, 2**53)
_json: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=5,
)
_mappings = st.dictionaries(_texts, _json, max_size=3)
_mapping_tuples = st.lists(_mappings, max_size=2).map(tuple)
_moments = st.datetimes(timezones=st.just(UTC))
_messages = st.builds(
    Message,
    t=_times,
    sender=_sides,
    content=st.sampled_from(Content),
    code=st.integers(-1, 255) | st.just(11),
    encrypted=st.booleans(),
    length=st.integers(0, 2**40),
    raw=st.binary(max_size=100),
    digest=st.just("") | st.just("0f" * 32) | st.text("0123456789abcdef", max_size=70),
)
_legs = st.builds(
    Leg,
    role=_roles,
    messages=st.lists(_messages, max_size=4).map(tuple),
    data=st.dictionaries(
        _sides, st.builds(DataCount, _sizes, _sizes, st.none() | _times, st.none() | _times), max_size=2
    ),
    ends=st.lists(st.builds(End, _times, _sides, st.sampled_from(Ending)), max_size=2).map(tuple),
    secrets=st.lists(st.builds(Secret, _texts, st.binary(max_size=40), st.binary(max_size=70)), max_size=3).map(tuple),
    verification=st.none()
    | st.builds(Verification, st.booleans(), _maybe, st.none() | st.integers(0, 10), st.booleans()),
    faults=_mapping_tuples,
    revocation=_mapping_tuples,
)
_outcomes = st.builds(
    Outcome, st.sampled_from(Status), st.none() | st.sampled_from(Party), st.none() | _roles, _maybe, _texts
)
_problems = st.builds(Problem, _times, _sides, _texts, _sizes, _texts, _texts, st.none() | st.integers(0, 99))
recordings = st.builds(
    Recording,
    id=_texts,
    started=_moments,
    mode=_texts,
    action=_texts,
    ended=st.none() | _moments,
    scenario=_maybe,
    step=st.integers(0, 2**31),
    client=_maybe,
    target=_maybe,
    sni=_maybe,
    label=_maybe,
    outcome=_outcomes,
    from_client=_sizes,
    from_target=_sizes,
    legs=st.lists(_legs, max_size=3).map(tuple),
    problems=st.lists(st.tuples(_roles, _problems), max_size=2).map(tuple),
    failures=st.lists(
        st.builds(
            Failure,
            _times,
            st.none() | _roles,
            st.sampled_from(Party),
            code=st.sampled_from(FailureCode),
            text=_texts,
        ),
        max_size=2,
    ).map(tuple),
    prelude=_mappings,
    http=_mapping_tuples,
    mtls=_mappings,
    not_mirrored=st.lists(_texts, max_size=3).map(tuple),
    findings=_mapping_tuples,
)


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(recordings)
def test_any_recording_comes_back_equal(recording: Recording) -> None:
    assert again(recording) == recording


def test_the_form_does_not_change_by_accident() -> None:
    """What is written today is read by every later version: this blob was written by the first one."""
    recording = Recording(
        id="0123",
        started=datetime(2026, 11, 20, tzinfo=UTC),
        mode="reverse",
        action="intercept",
        outcome=Outcome(Status.ABANDONED, text="x"),
        legs=(Leg(LegRole.CLIENT, messages=(Message(0.5, S, Content.ALERT, 48, True, 2, b"\x02\x30"),)),),
    )
    golden = bytes.fromhex(GOLDEN)
    assert unpack(golden, finder({})) == recording
    assert pack(recording).data == golden


GOLDEN = (
    "43520100dc7f7abca10000007b226964223a2230313233222c2273746172746564223a313739353133323830303030303030"
    "302c226d6f6465223a2272657665727365222c22616374696f6e223a22696e74657263657074222c226f7574636f6d65223a"
    "5b226162616e646f6e6564222c6e756c6c2c6e756c6c2c6e756c6c2c2278225d2c226279746573223a5b302c305d2c226c65"
    "6773223a5b7b226c6567223a22636c69656e74227d5d7d0000000001000000000000000000e03f2330000000020000000000"
    "000002000000023000000000"
)


def test_a_recording_that_json_cannot_hold_is_a_defect_of_its_maker() -> None:
    with pytest.raises(TypeError, match="a recording holds bytes, which has no JSON form"):
        pack(sample(prelude={"kind": b"x"}))


def test_an_infinite_time_is_kept() -> None:
    assert (
        again(with_messages(Message(math.inf, C, Content.ALERT, 0, False, 2, b"\1\0"))).legs[0].messages[0].t
        == math.inf
    )
