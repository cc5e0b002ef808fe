"""The five traces of RFC 8448, bit for bit: every record opens, every message and every key is the RFC's.

The files in ``rfc8448/`` are its text in a form for machines (``rfc8448/extract.py``).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from countersign.recorder.wire import secrets
from countersign.recorder.wire.events import ApplicationData, Content, EncryptedRecord, Event, Message, Side
from countersign.recorder.wire.keyschedule import hkdf_expand_label, traffic_key
from countersign.recorder.wire.reading import read_leg
from countersign.recorder.wire.secrets import KeyLog
from tests.recorder.tls_pairs import decode, problems

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

FOLDER = Path(__file__).parent / "rfc8448"
TRACES = sorted(path.stem for path in FOLDER.glob("*.txt"))
LABELS = {
    "tls13 c e traffic": secrets.CLIENT_EARLY_TRAFFIC_SECRET,
    "tls13 c hs traffic": secrets.CLIENT_HANDSHAKE_TRAFFIC_SECRET,
    "tls13 s hs traffic": secrets.SERVER_HANDSHAKE_TRAFFIC_SECRET,
    "tls13 c ap traffic": secrets.CLIENT_TRAFFIC_SECRET_0,
    "tls13 s ap traffic": secrets.SERVER_TRAFFIC_SECRET_0,
}
CUTS: dict[str, Callable[[bytes], Iterable[bytes]]] = {
    "whole": lambda data: (data,),
    "byte-by-byte": lambda data: (data[at : at + 1] for at in range(len(data))),
    "with-a-tail": lambda data: (data[:-3], data[-3:]),
}


class Value(NamedTuple):
    """One line: whose, what (``message``, ``record``, ``expand``, ``keys``), which of them, and its bytes."""

    side: Side
    what: str
    name: str
    data: tuple[bytes, ...]


@cache
def trace(name: str) -> tuple[Value, ...]:
    found = []
    for line in (FOLDER / f"{name}.txt").read_text().splitlines():
        if line.startswith("#"):
            continue
        label, _, digits = line.partition(": ")
        side, _, label = label.partition(" ")
        if label.endswith(" record"):
            what, kind = "record", label.removesuffix(" record")
        elif " traffic keys for " in label:
            what, kind = "keys", label
        else:
            what, _, kind = label.partition(" ")
        data = tuple(b"" if one == "-" else bytes.fromhex(one) for one in digits.split())
        found.append(Value(Side(side), what, kind, data))
    return tuple(found)


def values(name: str, what: str) -> list[Value]:
    found = [value for value in trace(name) if value.what == what]
    assert found
    return found


def keylog(name: str) -> KeyLog:
    """The trace's secrets under the random of its ClientHello."""
    log = KeyLog()
    client_random = values(name, "message")[0].data[0][6:38]
    for value in values(name, "expand"):
        if value.name in LABELS:
            log.add(LABELS[value.name], client_random, value.data[2])
    return log


def events(name: str, cut: str = "whole") -> list[Event]:
    wire = [(value.side, value.data[1]) for value in values(name, "record")]
    return decode(wire, keylog=keylog(name), cut=CUTS[cut])


def test_there_are_five_traces() -> None:
    assert len(TRACES) == 5


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("name", TRACES)
def test_every_record_opens_and_no_problem_is_seen(name: str, cut: str) -> None:
    found = events(name, cut)
    assert problems(found) == []
    assert not [event for event in found if isinstance(event, EncryptedRecord)]
    data = [value for value in values(name, "record") if value.name == "application_data"]
    assert [(event.sender, event.records, event.length) for event in found if isinstance(event, ApplicationData)] == [
        (value.side, 1, len(value.data[0])) for value in data
    ]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("name", TRACES)
def test_what_is_in_each_record_is_what_the_rfc_says(name: str, cut: str) -> None:
    """Side by side: all that the messages of a flight say is the payload of the RFC's record, in the RFC's order."""
    ours = [(event.sender, event.content.value, event.raw) for event in events(name, cut) if isinstance(event, Message)]
    for value in values(name, "record"):
        if value.name == "application_data":
            continue
        flight = b""
        while len(flight) < len(value.data[0]):
            sender, content, raw = ours.pop(0)
            assert (sender, content) == (value.side, value.name)
            flight += raw
        assert flight == value.data[0]
    assert ours == []


@pytest.mark.parametrize("name", TRACES)
def test_each_message_is_the_one_that_the_rfc_constructs(name: str) -> None:
    found = [event for event in events(name) if isinstance(event, Message) and event.content is Content.HANDSHAKE]
    constructed = values(name, "message")
    assert [event.sender for event in found] == [value.side for value in constructed]
    for event, value in zip(found, constructed, strict=True):
        if event.raw[:1] == b"\x01":  # with early data the RFC shows it before its binders are there
            assert event.raw.startswith(value.data[0])
        else:
            assert event.raw == value.data[0]


@pytest.mark.parametrize("name", TRACES)
def test_each_message_is_read_without_problems_and_built_again(name: str) -> None:
    reading = read_leg([event for event in events(name) if isinstance(event, Message)])
    assert reading.problems == ()
    assert reading.version == "TLSv1.3"
    assert reading.cipher == "TLS_AES_128_GCM_SHA256"
    assert reading.group == ("secp256r1" if name == "hello-retry-request" else "x25519")
    assert reading.sni == "server"
    assert reading.resumed is (name == "resumed-0-rtt")
    assert reading.handshake_finished == set(Side)
    for one in reading.messages:
        assert one.value is not None
        assert one.value.build() == one.message.raw


@pytest.mark.parametrize("name", TRACES)
def test_every_key_and_iv_is_the_one_of_the_rfc(name: str) -> None:
    for value in values(name, "keys"):
        secret, key, iv = value.data
        assert traffic_key(secret, len(key), "sha256", iv_length=len(iv)) == (key, iv), value


@pytest.mark.parametrize("name", TRACES)
def test_every_expansion_is_the_one_of_the_rfc(name: str) -> None:
    for value in values(name, "expand"):
        secret, context, expanded = value.data
        label = value.name.removeprefix("tls13 ")
        assert hkdf_expand_label(secret, label, context, len(expanded), "sha256") == expanded, value


def test_the_files_hold_each_kind_of_value_in_the_number_of_the_rfc() -> None:
    """What was lost on the way from its text would be missed here."""
    counted = {name: [len(values(name, what)) for what in ("record", "message", "keys")] for name in TRACES}
    assert counted == {
        "client-authentication": [6, 10, 4],
        "compatibility-mode": [8, 7, 4],
        "hello-retry-request": [8, 9, 4],
        "resumed-0-rtt": [10, 6, 5],
        "simple-1-rtt": [9, 8, 4],
    }
