from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from hypothesis import given, strategies as st
from OpenSSL import SSL

from countersign.errors import UserError
from countersign.recorder.certificates import CertificateFacts
from countersign.recorder.files.documents import read_document
from countersign.recorder.recording import (
    SCHEMA,
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
    from_json,
    summary,
    to_json,
)
from countersign.recorder.schema import load_schema
from countersign.recorder.wire.events import Content, Message, Problem, Side
from countersign.recorder.wire.told import Told
from tests.recorder.made_recordings import (
    HOSTILE,
    certificate_for,
    certificate_message,
    hostile,
    leg,
    recording,
    with_data,
)
from tests.recorder.tls_pairs import connected

if TYPE_CHECKING:
    from collections.abc import Mapping

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
VALIDATOR = jsonschema.Draft202012Validator(
    load_schema(), format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
)


def assert_valid(document: Mapping[str, Any]) -> None:
    """As JSON, as it is written: what `json` cannot write is no JSON form."""
    written = json.loads(json.dumps(document, allow_nan=False))
    assert written == document
    error = jsonschema.exceptions.best_match(VALIDATOR.iter_errors(written))
    assert error is None, error and f"{error.json_path}: {error.message}"


def invalid(document: Mapping[str, Any]) -> bool:
    return not VALIDATOR.is_valid(document)


# -- recordings of all kinds -------------------------------------------------------------------------------------

texts = st.text(st.characters(codec="utf-8"), max_size=12)
maybe_text = st.none() | texts
times = st.integers(0, 10**9).map(lambda microseconds: microseconds / 1_000_000)
moments = st.integers(0, 2**52).map(lambda microseconds: EPOCH + timedelta(microseconds=microseconds))
counts = st.integers(0, 2**40)
sides = st.sampled_from(Side)
roles = st.sampled_from(LegRole)
parties = st.sampled_from(Party)
json_objects = st.dictionaries(texts, st.none() | st.booleans() | counts | texts, max_size=3)


@st.composite
def messages(draw: st.DrawFn) -> Message:
    """Mostly nonsense: what reading makes of it has to be JSON in the same form."""
    content = draw(st.sampled_from(Content))
    raw = draw(st.binary(max_size=60))
    if content is Content.HANDSHAKE and draw(st.booleans()):
        raw = bytes([draw(st.sampled_from([1, 2, 4, 8, 11, 13, 15, 20, 24]))]) + len(raw).to_bytes(3, "big") + raw
    missing = draw(st.sampled_from([0, 0, 1, 5_000]))
    digest = sha256(raw + b"and more").hexdigest() if missing else ""
    code = raw[0] if raw else -1
    return Message(draw(times), draw(sides), content, code, draw(st.booleans()), len(raw) + missing, raw, digest)


data_counts = st.builds(DataCount, st.integers(1, 2**31), counts, times | st.none(), times | st.none())
ends = st.builds(End, times, sides, st.sampled_from(Ending))
verifications = st.builds(
    Verification, trusted=st.booleans(), error=maybe_text, depth=st.none() | st.integers(0, 9), enforced=st.booleans()
)
legs = st.builds(
    Leg,
    roles,
    st.lists(messages(), max_size=4).map(tuple),
    data=st.dictionaries(sides, data_counts),
    ends=st.lists(ends, max_size=2).map(tuple),
    verification=st.none() | verifications,
    faults=st.lists(json_objects, max_size=2).map(tuple),
    revocation=st.lists(json_objects, max_size=2).map(tuple),
)
problems = st.builds(
    Problem,
    times,
    sides,
    texts.map("record.{}".format),  # what framing notices; the rest is read from the messages again
    counts,
    texts,
    texts,
    st.none() | st.integers(0, 9),
)
failures = st.builds(Failure, times, st.none() | roles, parties, code=st.sampled_from(FailureCode), text=texts)
outcomes = st.builds(Outcome, st.sampled_from(Status), st.none() | parties, st.none() | roles, maybe_text, texts)
recordings = st.builds(
    Recording,
    id=st.text("0123456789abcdef", min_size=1, max_size=16),
    started=moments,
    ended=st.none() | moments,
    mode=texts,
    action=texts,
    scenario=maybe_text,
    step=st.integers(0, 99),
    client=maybe_text,
    target=maybe_text,
    sni=maybe_text,
    label=maybe_text,
    outcome=outcomes,
    from_client=counts,
    from_target=counts,
    legs=st.lists(legs, max_size=2, unique_by=lambda one: one.role).map(tuple),
    problems=st.lists(st.tuples(roles, problems), max_size=2).map(tuple),
    failures=st.lists(failures, max_size=2).map(tuple),
    prelude=json_objects,
    http=st.lists(json_objects, max_size=2).map(tuple),
    mtls=json_objects,
    not_mirrored=st.lists(texts, max_size=2).map(tuple),
)


@given(recordings)
def test_any_recording_is_written_as_the_schema_says_and_read_back(one: Recording) -> None:
    document = to_json(one)
    assert_valid(document)
    assert from_json(json.loads(json.dumps(document))) == one
    assert to_json(from_json(document)) == document
    assert_valid({"schema": SCHEMA, "recordings": [summary(one)]})


REAL: dict[str, dict[str, Any]] = {
    "TLS 1.3": {},
    "HelloRetryRequest": {"client_groups": "X25519:secp384r1", "server_groups": "secp384r1"},
    "client certificate": {"ask": True, "present": True},
    "client certificate in TLS 1.2": {"ask": True, "present": True, "version": SSL.TLS1_2_VERSION},
    "refused": {"client_trusts": False},
    "TLS 1.0": {"version": SSL.TLS1_VERSION},
    "RSA key exchange": {"version": SSL.TLS1_2_VERSION, "ciphers": "AES128-SHA", "cert": "rsa"},
}


@pytest.mark.parametrize("settings", REAL.values(), ids=REAL)
def test_real_handshakes_are_written_as_the_schema_says_and_read_back(settings: dict[str, Any]) -> None:
    made = connected(**settings)
    given_leg = with_data(leg(made))
    one = recording(
        replace(given_leg, verification=Verification(trusted=True)), replace(given_leg, role=LegRole.SERVER)
    )
    document = to_json(one)
    assert_valid(document)
    assert from_json(document) == one
    assert [entry["n"] for entry in document["legs"][0]["messages"]] == list(range(len(given_leg.messages)))


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_hostile_names_are_data_and_survive(name: str) -> None:
    one = hostile(name)
    document = to_json(one)
    assert_valid(document)
    assert from_json(document) == one
    assert json.dumps(document).count("\n") == 0


def test_odd_certificates_are_written_as_the_schema_says() -> None:
    good = certificate_for("leaf")
    chain = [good, good[:40], b"\x30", b"\x30\x84\xff\xff\xff\xff", good[:-1] + b"\xff", good + b"tail"]
    document = to_json(recording(Leg(LegRole.SERVER, (certificate_message(Side.SERVER, chain, t=0.0),))))
    assert_valid(document)
    assert len(document["legs"][0]["certificates"]) == len(chain)


def test_secrets_are_named_and_never_shown() -> None:
    made = connected()
    secrets = tuple(made.keylog)
    document = to_json(recording(replace(leg(made), secrets=secrets)))
    assert_valid(document)
    assert document["legs"][0]["secrets"] == [secret.label for secret in secrets]
    assert not any(secret.secret.hex() in json.dumps(document) for secret in secrets)


# -- the schema is strict ----------------------------------------------------------------------------------------


def objects(document: Any, path: str = "$") -> list[tuple[str, dict[str, Any]]]:
    """Every object of ours in the document, but those whose keys are open."""
    found: list[tuple[str, dict[str, Any]]] = []
    if isinstance(document, dict):
        found.append((path, document))
        for key, value in document.items():
            if key not in {"fields", "prelude", "mtls", "http", "faults", "revocation"}:
                found += objects(value, f"{path}.{key}")
    elif isinstance(document, list):
        for number, value in enumerate(document):
            found += objects(value, f"{path}[{number}]")
    return found


def full() -> dict[str, Any]:
    """A document in which nothing is missing."""
    given_leg = replace(
        with_data(leg(connected(client_trusts=False))),
        ends=(End(1.0, Side.CLIENT, Ending.FIN),),
        verification=Verification(trusted=False, error="expired", depth=0),
    )
    finding = {"id": "x", "severity": "cause", "text": "t", "evidence": ["e"], "fix": "f", "source": "s"}
    one = recording(
        given_leg,
        problems=((LegRole.CLIENT, Problem(0.0, Side.CLIENT, "record.length", 3, "a", "b")),),
        failures=(Failure(0.0, None, Party.NETWORK, code=FailureCode.UNREACHABLE, text="text"),),
        findings=(finding,),
    )
    return to_json(one)


def test_no_object_of_ours_takes_an_unknown_key_or_lacks_one() -> None:
    document = full()
    assert_valid(document)
    places = objects(document)
    assert len(places) > 15
    for path, place in places:
        place["surprise"] = 1
        assert invalid(document), f"{path} takes an unknown key"
        del place["surprise"]
        for key in list(place):
            if path == "$.findings[0]" and key in {"evidence", "fix", "source"}:
                continue
            if ".certificates[" in path and key in {"tls_features", "precertificate", "scts"}:  # older ones lack it
                continue
            value = place.pop(key)
            assert invalid(document), f"{path} does without {key}"
            place[key] = value
    assert_valid(document)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("schema", 2),
        ("started", "2026-11-20T12:00:00+01:00"),
        ("started", "yesterday"),
        ("step", -1),
        ("outcome", {"status": "fine", "broken_by": None, "leg": None, "alert": None, "text": ""}),
        ("client", 5),
        ("id", ""),
    ],
)
def test_wrong_values_are_refused(key: str, value: object) -> None:
    assert invalid({**full(), key: value})


def test_a_failure_of_a_kind_that_is_not_known_here_is_read() -> None:
    document = full()
    document["failures"][0]["code"] = "of-later"
    assert_valid(document)
    assert [failure.code for failure in from_json(document).failures] == [FailureCode.OTHER]
    document["failures"][0]["code"] = 7
    with pytest.raises(UserError, match="a value is not as its schema says"):
        from_json(document)


def test_a_list_holds_summaries_and_no_recordings() -> None:
    document = full()
    assert invalid({"schema": SCHEMA, "recordings": [document]})
    assert_valid({"schema": SCHEMA, "recordings": []})
    assert invalid(summary(recording()))


@pytest.mark.parametrize(
    "damage", ["schema", "id", "legs", "legs.0.messages", "legs.0.messages.0.raw", "outcome.status", "problems.0.leg"]
)
def test_a_document_that_lacks_something_is_refused_by_name(damage: str) -> None:
    document: Any = full()
    place = document
    *way, last = damage.split(".")
    for step in way:
        place = place[int(step)] if step.isdigit() else place[step]
    del place[last]
    with pytest.raises(UserError, match=last):
        from_json(document)


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("not_before", "x"),
        ("not_before", "2026-13-01T00:00:00Z"),
        ("not_after", 7),
        ("san", None),
        ("san", [7]),
        ("san_count", "x"),
        ("subject", {}),
        ("problems", True),
        ("key", [None]),
    ],
)
def test_what_was_told_of_a_certificate_is_as_the_schema_says_or_refused(where: str, value: object) -> None:
    told = Told(certificates=(CertificateFacts("", subject="CN=a", not_before="2026-01-01T00:00:00Z"),))
    message = Message(0.0, Side.SERVER, Content.HANDSHAKE, 11, False, 0, b"", told=told)
    document: Any = to_json(recording(Leg(LegRole.THROUGH, (message,))))
    assert read_document(json.dumps(document).encode()).legs[0].messages[0].told == told
    document["legs"][0]["messages"][0]["told"]["certificates"][0][where] = value
    with pytest.raises(UserError, match=r"it is no recording|cannot read the recording"):
        read_document(json.dumps(document).encode())


def test_raw_bytes_beside_what_was_told_are_not_read() -> None:
    message = Message(0.0, Side.SERVER, Content.HANDSHAKE, 11, False, 0, b"", told=Told())
    document: Any = to_json(recording(Leg(LegRole.THROUGH, (message,))))
    document["legs"][0]["messages"][0]["raw"] = "A"
    assert read_document(json.dumps(document).encode()).legs[0].messages[0] == message


@pytest.mark.parametrize("name", ["../../x", "\x1b[31m", "a/b", "", "a\n", "-x", "a" * 81])
def test_an_id_is_a_word(name: str) -> None:
    """It names files, folders in a zip, and stands on terminals."""
    document = json.dumps(full() | {"id": name}).encode()
    with pytest.raises(UserError, match="id: "):
        read_document(document)


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(load_schema())
