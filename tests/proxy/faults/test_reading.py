"""A fault as it is written: what is taken, what the rest is, and which key a mistake is at."""

from __future__ import annotations

from typing import Any

import pytest

from countersign.errors import UserError
from countersign.proxy.faults import FAULTS, FaultError, WireFault, read_fault

SAID = [kind.name for kind in FAULTS.values() if kind.sort == "message"]
"""Message faults; of byte faults there are tests beside them."""

SMALLEST: dict[str, dict[str, object]] = {"corrupt": {"byte": 0}}
"""What a kind cannot do without."""


@pytest.mark.parametrize("do", SAID)
def test_a_name_is_enough(do: str) -> None:
    fault = read_fault({"do": do, **SMALLEST.get(do, {})})
    kind = FAULTS[do]
    assert fault.do == do
    assert fault.to in kind.sides
    assert fault.place in kind.places
    assert fault.options["occurrence"] == 1
    assert kind.says
    assert kind.right_of(fault) in {"refuse", "accept", "either"}


def test_defaults_follow_the_leg() -> None:
    assert read_fault({"do": "drop", "leg": "server"}).to == "target"
    assert read_fault({"do": "duplicate", "leg": "server"}).at == "client_hello"
    assert read_fault({"do": "duplicate", "leg": "server", "to": "proxy"}).at == "server_hello"
    assert read_fault({"do": "strip_post_quantum"}).to == "proxy"


def test_an_alert_has_a_name_or_a_number() -> None:
    assert read_fault({"do": "alert", "alert": "unknown_ca"}).options["alert"] == 48
    assert read_fault({"do": "alert", "alert": 200}).options["alert"] == 200


def test_bytes_are_hex() -> None:
    fault = read_fault({"do": "wrong_message", "message": "client_key_exchange", "data": "0a ff"})
    assert fault.options["data"] == b"\x0a\xff"


MISTAKES: list[tuple[dict[str, Any], str, str]] = [
    ({}, "do", "a fault needs do"),
    ({"do": 7}, "do", "a fault needs do"),
    ({"do": "dorp"}, "do", "did you mean 'drop'"),
    ({"do": "drop", "leg": "middle"}, "leg", "expected 'client' or 'server'"),
    ({"do": "drop", "to": "target"}, "to", "expected 'client' or 'proxy'"),
    ({"do": "drop", "leg": "server", "to": "client"}, "to", "expected 'target' or 'proxy'"),
    ({"do": "ticket_flood", "leg": "server", "to": "target"}, "to", "cannot be for the target"),
    ({"do": "drop", "at": "serverhello"}, "at", "did you mean 'server_hello'"),
    ({"do": "drop", "at": "client_hello"}, "at", "a TLS server does not send it"),
    ({"do": "drop", "at": "server_hello", "to": "proxy"}, "at", "a TLS client does not send it"),
    ({"do": "drop", "at": "connect"}, "at", "before the first byte there is none"),
    ({"do": "drop", "within": 3}, "within", "cannot be within a message"),
    ({"do": "drop", "within": -1}, "within", "a whole number of bytes"),
    ({"do": "drop", "place": "after"}, "place", "it can be before it"),
    ({"do": "drop", "place": "beside"}, "place", "expected 'before', 'after'"),
    ({"do": "alert", "alert": "unknwon_ca"}, "alert", "an alert's name"),
    ({"do": "alert", "alert": 256}, "alert", "an alert's name"),
    ({"do": "alert", "level": "grave"}, "level", "one of 'fatal', 'warning'"),
    ({"do": "alert", "levle": "fatal"}, "levle", "did you mean 'level'"),
    ({"do": "drop", "occurrence": 0}, "occurrence", "at least 1"),
    ({"do": "drop", "consistent": "yes"}, "consistent", "true or false"),
    ({"do": "corrupt"}, "byte", "either byte"),
    ({"do": "corrupt", "byte": 1, "field": "random"}, "field", "either byte"),
    ({"do": "corrupt", "byte": True}, "byte", "a whole number"),
    ({"do": "split_records", "size": 0}, "size", "from 1 to 16384"),
    ({"do": "wrong_message", "message": "client_hello"}, "data", "needs data"),
    ({"do": "wrong_message", "data": "xyz"}, "data", "bytes in hex"),
    ({"do": "unsolicited_extension", "at": "finished"}, "at", "extensions are in"),
    ({"do": "wrong_finished", "at": "certificate"}, "at", "is about the finished"),
    ({"do": "downgrade_sentinel", "at": "certificate"}, "at", "is about the server_hello"),
    ({"do": "strip_post_quantum", "at": "finished"}, "at", "those offer groups"),
    ({"do": "refuse_post_quantum", "at": "certificate"}, "at", "the answer to a ClientHello"),
]


@pytest.mark.parametrize(("table", "key", "words"), MISTAKES, ids=lambda value: str(value)[:60])
def test_a_mistake_is_at_its_key(table: dict[str, Any], key: str, words: str) -> None:
    with pytest.raises(FaultError) as raised:
        read_fault(table)
    assert raised.value.key == key
    assert words in str(raised.value)
    assert isinstance(raised.value, UserError)


def test_a_fault_is_a_value() -> None:
    assert read_fault({"do": "drop"}) == read_fault({"do": "drop"})
    assert isinstance(read_fault({"do": "drop"}), WireFault)
