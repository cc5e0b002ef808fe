"""Two recordings compared: what differs is said, and noise is not."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING

import jsonschema
import pytest
from hypothesis import given, strategies as st

from countersign.ca import Authority
from countersign.ca.recipes import Recipe, catalogue
from countersign.errors import UserError
from countersign.findings.comparing import Comparison, Weight, compare
from countersign.findings.comparing.showing import show
from countersign.findings.pages import comparison_page
from countersign.findings.subjects import NoTls, Subject, find
from countersign.recorder.recording import Leg, LegRole, Outcome, Recording, Status, to_json
from countersign.recorder.wire.events import Content, Message, Side
from countersign.recorder.wire.text import printable
from tests.peers.curl import curl
from tests.proxy.running import RunningProxy
from tests.recorder.transcripts import NAMES, RFC8448_CLIENT_HELLO, framed, message, transcript

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def recorded(
    messages: Sequence[Message], *, named: str = "a" * 16, role: LegRole = LegRole.THROUGH, label: str | None = None
) -> Subject:
    leg = Leg(role, tuple(messages))
    outcome = Outcome(Status.ESTABLISHED, text="Established.")
    started = datetime(2026, 11, 21, tzinfo=UTC)
    return Subject(
        named, Recording(named, started, "reverse", "passthrough", legs=(leg,), outcome=outcome, label=label)
    )


def compared(a: str, b: str) -> Comparison:
    return compare(recorded(transcript(a)), recorded(transcript(b), named="b" * 16))


def fields(comparison: Comparison, weight: Weight | None = None) -> dict[str, str]:
    return {one.field: one.text for one in comparison.differences if weight in {None, one.weight}}


@pytest.mark.parametrize("name", NAMES)
def test_a_recording_does_not_differ_from_itself(name: str) -> None:
    assert not compared(name, name).differences


@pytest.mark.parametrize("name", NAMES)
def test_what_is_drawn_anew_each_time_is_no_difference(name: str) -> None:
    """Randoms, key shares' bytes, signatures, verify_data: each message's noise replaced."""
    noisy = [_redrawn(one) for one in transcript(name)]
    found = compare(recorded(transcript(name)), recorded(noisy, named="b" * 16))
    assert not [one for one in found.differences if one.weight is Weight.MATTERS]


def _redrawn(one: Message) -> Message:
    raw = bytearray(one.raw)
    if one.content is Content.HANDSHAKE and one.code in {1, 2} and len(raw) > 38:
        if raw[6:38].hex().startswith("cf21ad74e59a6111"):  # a HelloRetryRequest is one by its random
            return one
        raw[6:30] = bytes(byte ^ 0x55 for byte in raw[6:30])  # the last 8 may be the downgrade sentinel
    elif one.content is Content.HANDSHAKE and one.code == 20:
        raw[4:] = bytes(byte ^ 0xFF for byte in raw[4:])
    return replace(one, raw=bytes(raw)) if bytes(raw) != one.raw else one


@pytest.mark.parametrize(("a", "b"), [("tls13-full", "tls12-ecdhe"), ("tls12-rsa", "tls12-dhe")])
def test_both_ways_the_same_fields_differ(a: str, b: str) -> None:
    assert set(fields(compared(a, b))) == set(fields(compared(b, a)))


def test_versions_suites_and_protocols_are_told_apart() -> None:
    found = fields(compared("tls13-full", "tls12-ecdhe"), Weight.MATTERS)
    assert found["agreed.version"] == "the version is TLSv1.3 in A and TLSv1.2 in B"
    assert found["agreed.cipher"] == (
        "the cipher suite is TLS_AES_256_GCM_SHA384 in A and TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 in B"
    )
    assert "TLS_AES_256_GCM_SHA384" in found["client_hello.cipher_suites"]
    assert found["client_hello.cipher_suites"].startswith("B does not offer the cipher suites ")


def hello_with(*extensions: bytes, suites: bytes = b"\x13\x01") -> Message:
    block = b"".join(extensions)
    body = b"\x03\x03" + bytes(32) + b"\0" + len(suites).to_bytes(2, "big") + suites + b"\1\0"
    return message(framed(1, body + len(block).to_bytes(2, "big") + block))


def extension(code: int, body: bytes) -> bytes:
    return code.to_bytes(2, "big") + len(body).to_bytes(2, "big") + body


def alpn(*names: bytes) -> bytes:
    block = b"".join(bytes([len(name)]) + name for name in names)
    return extension(16, len(block).to_bytes(2, "big") + block)


@given(st.permutations(range(4)), st.integers(0, 15), st.integers(0, 15))
def test_the_order_of_extensions_and_grease_are_notes(order: list[int], one: int, other: int) -> None:
    """As Chrome draws them anew for each hello."""
    inner = [extension(23, b""), alpn(b"h2"), extension(35, b""), extension(22, b"")]

    def drawn(extensions: list[bytes], grease: int) -> Message:
        number = 0x0A0A + 0x1010 * grease
        return hello_with(extension(number, b""), *extensions, suites=number.to_bytes(2, "big") + b"\x13\x01")

    found = compare(recorded([drawn(inner, one)]), recorded([drawn([inner[n] for n in order], other)], named="b" * 16))
    assert not found.matters


def test_a_protocol_that_is_no_longer_offered_is_named() -> None:
    found = compare(
        recorded([hello_with(alpn(b"h2", b"http/1.1"))]), recorded([hello_with(alpn(b"http/1.1"))], named="b")
    )
    path = "client_hello.extensions.application_layer_protocol_negotiation.protocols"
    assert fields(found)[path] == "B does not offer the ALPN protocols h2"


def test_suites_in_another_order_matter() -> None:
    one, other = hello_with(suites=b"\x13\x01\x13\x02"), hello_with(suites=b"\x13\x02\x13\x01")
    found = fields(compare(recorded([one]), recorded([other], named="b")), Weight.MATTERS)
    assert found["client_hello.cipher_suites"] == (
        "A and B offer the same cipher suites in another order: "
        "number 1 is TLS_AES_128_GCM_SHA256, and TLS_AES_256_GCM_SHA384"
    )


def test_ignored_fields_do_not_count() -> None:
    one, other = recorded([hello_with(suites=b"\x13\x01")]), recorded([hello_with(suites=b"\x13\x02")], named="b")
    assert compare(one, other).matters
    for ignored in ("client_hello", "client_hello.cipher_suites", "*.cipher_suites"):
        assert not compare(one, other, ignore=[ignored]).matters
    with pytest.raises(UserError, match="--ignore takes the path of a field"):
        compare(one, other, ignore=["no field!"])


# -- chains --------------------------------------------------------------------------------------------------------

AUTHORITY = Authority.make()


@cache
def chain(recipe: str) -> tuple[bytes, ...]:
    made = Recipe() if recipe == "right" else catalogue()[recipe]
    return made.make(AUTHORITY, name="host.example").chain


def shown_chain(ders: Sequence[bytes]) -> list[Message]:
    """A TLS 1.2 server's Certificate message."""
    certificates = b"".join(len(der).to_bytes(3, "big") + der for der in ders)
    return [message(framed(11, len(certificates).to_bytes(3, "big") + certificates), Side.SERVER)]


def of_chains(one: Sequence[bytes], other: Sequence[bytes]) -> dict[str, str]:
    return fields(compare(recorded(shown_chain(one)), recorded(shown_chain(other), named="b")), Weight.MATTERS)


def test_a_missing_intermediate_is_named_by_its_subject() -> None:
    leaf, intermediate = chain("right")
    found = of_chains([leaf, intermediate], [leaf])
    assert set(found) == {"chain.intermediate"}
    assert re.fullmatch(
        r"the intermediate CN=countersign inspection intermediate \w+,O=countersign is missing in B; A sends it",
        found["chain.intermediate"],
    )


def test_a_chain_in_another_order_is_that_and_nothing_else() -> None:
    leaf, intermediate = chain("right")
    root = AUTHORITY.root.der
    assert set(of_chains([leaf, intermediate, root], [leaf, root, intermediate])) == {"chain.order"}


def test_a_re_issued_leaf_shows_what_changed() -> None:
    leaf, intermediate = chain("right")
    expired = catalogue()["leaf-expired"].make(AUTHORITY, name="host.example").chain
    found = of_chains([leaf, intermediate], expired)
    assert {"chain.leaf.serial", "chain.leaf.not_after", "chain.leaf.key"} <= set(found)
    assert not any(field.startswith(("chain.intermediate", "chain.order")) for field in found)


@given(st.lists(st.sampled_from(["leaf", "intermediate", "root"]), min_size=1, max_size=6))
def test_any_two_chains_can_be_compared(parts: list[str]) -> None:
    leaf, intermediate = chain("right")
    made = {"leaf": leaf, "intermediate": intermediate, "root": AUTHORITY.root.der}
    found = of_chains([leaf, intermediate], [made[part] for part in parts])
    assert bool(found) == (parts != ["leaf", "intermediate"])


# -- real sessions -------------------------------------------------------------------------------------------------


def test_two_sessions_of_the_same_peers_differ_in_nothing_and_the_two_legs_in_who_signed(tmp_path: Path) -> None:
    with RunningProxy() as proxy:
        for _ in range(2):
            curl(f"https://localhost:{proxy.port}/", "--cacert", proxy.root_file(tmp_path))
        curl(f"https://localhost:{proxy.port}/", "--cacert", proxy.root_file(tmp_path), "--tls-max", "1.2")
        first, second, older = (Subject(one.id, one) for one in proxy.recordings(3))
    assert not compare(first, second).matters
    assert {"agreed.version", "agreed.cipher"} <= set(fields(compare(first, older)))
    legs = compare(Subject("", first.recording, LegRole.SERVER), Subject("", first.recording, LegRole.CLIENT))
    assert "chain.leaf.issuer" in fields(legs)
    assert legs.names == ("the server leg", "the client leg")


# -- showing -------------------------------------------------------------------------------------------------------


def test_the_json_form_names_fields_weights_and_evidence() -> None:
    document = json.loads(json.dumps(compared("tls13-full", "tls12-ecdhe").to_json()))
    text = {"type": "string"}
    difference = {
        "type": "object",
        "required": ["field", "weight", "text", "a", "b", "evidence"],
        "properties": {
            "field": text,
            "weight": {"enum": ["matters", "note"]},
            "text": text,
            "evidence": {"type": "array"},
        },
    }
    legs = {
        "required": ["a", "b", "differences", "unseen", "course"],
        "properties": {"differences": {"items": difference}},
    }
    schema = {"required": ["schema", "differs", "a", "b", "legs"], "properties": {"legs": {"items": legs}}}
    jsonschema.validate(document, schema)
    assert document["differs"] is True
    assert any(one["evidence"] == ["A: message 0", "B: message 0"] for one in document["legs"][0]["differences"])


@pytest.mark.parametrize(("a", "b"), [("tls13-full", "tls12-refused"), ("tls12-rsa", "tls13-hello-retry-request")])
def test_what_is_shown_fits_the_terminal_and_names_both(a: str, b: str) -> None:
    lines = show(compared(a, b), width=100).splitlines()
    assert lines[0].startswith("A: ")
    assert lines[1].startswith("B: ")
    assert all(len(line) <= 100 or " " not in line.strip() for line in lines)


def test_in_brief_there_are_the_sentences_that_matter_alone() -> None:
    comparison = compared("tls13-full", "tls12-refused")
    brief, whole = (show(comparison, width=100, brief=brief).splitlines() for brief in (True, False))
    assert next(line for line in whole if line.lstrip().startswith("- ")) in brief
    assert "Notes" in whole
    assert not [line for line in brief if line == "Notes" or "client_hello (" in line.lower()]
    assert len(brief) < len(whole)


ROLES = (LegRole.CLIENT, LegRole.SERVER)


def test_a_label_stays_as_it_was_given_where_it_begins_a_sentence() -> None:
    offers = [[hello_with(alpn(b"h2"))], [hello_with()]]
    labelled = [recorded(one, named=name * 16, label=name) for one, name in zip(offers, "ab", strict=True)]
    comparison = compare(*labelled)
    assert any(one.text.startswith(("a ", "b ")) for one in comparison.differences), comparison.differences
    page = comparison_page(comparison).decode()
    for shown in (show(comparison, width=100), page):
        assert not re.search(r"(?:- |>)[AB] ", shown)
    legs = [replace(recorded(one, role=role).recording.legs[0]) for one, role in zip(offers, ROLES, strict=True)]
    both = replace(recorded([]).recording, legs=tuple(legs))
    text = show(compare(*(Subject("last", both, role) for role in ROLES)), width=100)
    assert "- The server leg" in text or "- The client leg" in text


def test_hostile_names_are_escaped() -> None:
    hostile = hello_with(alpn(b"\x1b]52;c;AAAA\x07", "\u202eh2".encode()), extension(0, b""))
    text = show(compare(recorded([hello_with(alpn(b"h2"))]), recorded([hostile], named="b")), width=100)
    assert all(line == printable(line) for line in text.splitlines())


@pytest.mark.parametrize("name", NAMES)
def test_every_prefix_of_a_session_can_be_compared(name: str) -> None:
    messages = transcript(name)
    for end in range(len(messages)):
        comparison = compare(recorded(messages), recorded(messages[:end], named="b"))
        assert show(comparison, width=80)


# -- what is pointed at --------------------------------------------------------------------------------------------


def test_a_file_of_several_recordings_asks_which(tmp_path: Path) -> None:
    recordings = [recorded([message(RFC8448_CLIENT_HELLO)], named=letter * 16).recording for letter in "abc"]
    file = tmp_path / "three.jsonl"
    file.write_text("".join(json.dumps(to_json(one)) + "\n" for one in recordings))

    def stored(reference: str) -> Recording:
        raise UserError(f"no {reference}")

    with pytest.raises(UserError, match=r"has 3 recordings; say which:\n  .*three.jsonl#1 "):
        find(str(file), stored)
    assert find(f"{file}#2", stored).recording.id == "b" * 16
    assert find(f"{file}#2:through", stored).role is LegRole.THROUGH
    with pytest.raises(UserError, match="has 3 recordings; there is no number 4"):
        find(f"{file}#4", stored)
    with pytest.raises(UserError, match="has no client leg; its legs are: through"):
        find(f"{file}#2:client", stored)
    with pytest.raises(UserError, match="there is no file"):
        find(str(tmp_path / "none.json"), stored)
    with pytest.raises(UserError, match="is a folder"):
        find(str(tmp_path), stored)
    with pytest.raises(UserError, match="no last"):
        find("last", stored)
    assert find(str(file), stored, broken=True).reference == f"{file}#3"
    file.write_text("PKIX path building failed\n")
    with pytest.raises(NoTls):
        find(str(file), stored)
