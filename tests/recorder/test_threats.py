"""What only the decoders together can keep: cost, leaks and damage.

What one module keeps alone stands with its tests: T11 in test_messages.py, T12 in test_leg.py and test_handshakes.py,
T13 in test_leg.py, T18 for one certificate in test_certificates.py, T31 for blobs in test_blob.py.
"""

from __future__ import annotations

import base64
import gc
import json
import random
import time
import tracemalloc
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from countersign.ca import assemble
from countersign.errors import UserError
from countersign.recorder.files.documents import read_document
from countersign.recorder.files.ladder import ladder
from countersign.recorder.recording import Leg, LegRole, Recording, to_json
from countersign.recorder.wire.events import Event, Message, Side
from countersign.recorder.wire.leg import LegDecoder
from countersign.recorder.wire.reading import read_leg
from tests.ca import odd_certificates
from tests.recorder import made_recordings
from tests.recorder.store_samples import certificate12, certificate13, full_sample, sample
from tests.recorder.tls_pairs import connected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

S = Side.SERVER


# -- T18: costly certificates


def cross_signed(count: int) -> list[bytes]:
    """One subject and key under that many issuers, as a bridge between authorities has them."""
    subject = assemble.name_der(O="Bridge", CN="Bridge CA")
    return [
        odd_certificates.certificate(
            subject=subject, issuer=assemble.name_der(O="Issuer", CN=f"Root {n}"), serial=n + 1
        )
        for n in range(count)
    ]


@pytest.mark.parametrize("form", [certificate12, certificate13], ids=["1.2", "1.3"])
def test_costly_certificates_are_read_within_a_second_and_with_bounded_memory(
    form: Callable[[Side, tuple[bytes, ...]], Message],
) -> None:
    """T18: RSA-16384, explicit EC parameters, 10,000 names, 200 cross-signed: all in one chain."""
    odd = odd_certificates.odd()
    costly = [odd[name] for name in ("10,000 alternative names", "RSA 16384", "explicit curve", "too large")]
    message = form(S, (*costly, *cross_signed(200)))
    recording = made_recordings.recording(Leg(LegRole.SERVER, (message,)))
    to_json(recording)  # imports
    tracemalloc.start()
    begun = time.process_time()
    reading = read_leg([message])
    document = to_json(recording)
    took = time.process_time() - begun
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert took < 2  # tracemalloc makes it three times as slow: without it, see below
    assert peak < 16 * len(message.raw) + (8 << 20)
    assert len(reading.certificates) == len(document["legs"][0]["certificates"]) == 204
    assert len(json.dumps(document)) < 12 * len(message.raw)
    begun = time.process_time()
    to_json(recording)
    assert time.process_time() - begun < 1


# -- T24: secrets do not show


def reachable(root: object) -> Iterator[object]:
    """Every object that a decoder holds on to."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, type) or callable(one):
            continue
        seen.add(id(one))
        yield one
        if type(one).__module__.startswith("countersign.") or isinstance(one, (list, tuple, dict, set)):
            waiting += gc.get_referents(one)


@pytest.mark.parametrize("version", [0x0303, 0x0304])
def test_no_secret_shows_in_anything_that_decoding_made(version: int) -> None:
    """T24: raw, hex and base64; in every object of a decoder, its events, readings and written forms."""
    made = connected(version=version)
    decoder = LegDecoder(keylog=made.keylog)
    events: list[Event] = []
    said: list[str] = []
    keyed = False
    for side, data in made.log:
        events += decoder.receive(side, data, 0.0)
        for one in reachable(decoder):  # while keys are in use
            if type(one).__module__.startswith("countersign."):
                said += [repr(one), str(one), f"{one}"]
                keyed |= type(one).__name__.endswith("Opener")
    messages = [event for event in events if isinstance(event, Message)]
    assert keyed
    assert any(message.encrypted and message.raw for message in messages)  # the keys were used
    recording = made_recordings.recording(
        Leg(LegRole.CLIENT, tuple(messages), secrets=tuple(made.keylog)),
    )
    said += [repr(events), repr(read_leg(messages)), repr(recording), str(recording)]
    said += [json.dumps(to_json(recording)), str(ladder(recording))]
    text = "\n".join(said).lower()
    assert len(text) > 10_000
    secrets = [secret.secret for secret in made.keylog]
    assert secrets
    for secret in secrets:
        for form in (secret.hex(), base64.b64encode(secret).decode(), repr(secret)[2:-1], repr(list(secret))[1:-1]):
            assert form.lower() not in text


# -- T31: damaged exports


def read(text: bytes) -> Recording | str:
    try:
        return read_document(text)
    except UserError as wrong:
        return str(wrong)


def exported(recording: Recording) -> bytes:
    return json.dumps(to_json(recording)).encode()


def test_every_truncated_json_export_is_a_clear_error(scaled: Callable[[int], int]) -> None:
    """T31."""
    text = exported(replace(full_sample(), findings=()))
    for end in random.Random().sample(range(len(text)), scaled(4000)):
        said = read(text[:end])
        assert isinstance(said, str)
        assert said.isprintable()
    assert isinstance(read(text), Recording)


def test_a_json_export_with_flipped_bits_is_an_error_or_a_recording_that_can_be_written(
    scaled: Callable[[int], int],
) -> None:
    """T31: and where the bytes of a whole message were hit, it is an error."""
    original = sample()
    text = exported(original)
    dice = random.Random()
    for _ in range(scaled(4000)):
        changed = bytearray(text)
        for _ in range(dice.choice((1, 1, 1, 5, 50))):
            changed[dice.randrange(len(text))] ^= 1 << dice.randrange(8)
        found = read(bytes(changed))
        if isinstance(found, str):
            assert found.isprintable(), found
            continue
        assert read(exported(found)) == found
        for ours, theirs in zip(original.legs, found.legs, strict=False):
            whole = [one.raw for one in theirs.messages if one.complete and not one.digest]
            assert set(whole) <= {one.raw for one in ours.messages}


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff\xfe{}",
        b"[" * 100_000,
        b'{"schema": 1}',
        b'{"schema": 2}',
        b"null",
        b"1e999",
        b'{"schema": 1, "schema": 1' + b", " * 5,
        b'"\\ud800"',
        b"9" * 5000,
    ],
)
def test_what_is_no_export_is_a_clear_error(text: bytes) -> None:
    said = read(text)
    assert isinstance(said, str)
    assert said.isprintable()
    assert said


def test_a_date_beyond_the_calendar_is_a_clear_error() -> None:
    """Found by fuzzing: in UTC it would be in the year 10000."""
    document: dict[str, Any] = to_json(sample())
    document["ended"] = "9999-12-31T23:59:59-23:59"
    assert isinstance(read(json.dumps(document).encode()), str)
