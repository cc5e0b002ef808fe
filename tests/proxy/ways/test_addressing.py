"""Targets by name, addresses of our own, and the order in which to try them."""

from __future__ import annotations

import socket
import time

import pytest
from hypothesis import given, strategies as st

from countersign.errors import UserError
from countersign.proxy.settings import Address
from countersign.proxy.ways.addressing import Overrides, Targets, interleaved, name_fits, parse_pattern

A, B, C, D = (Address(name, 443) for name in ("a", "b", "c", "d"))


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("a.test", "a.test", True),
        ("a.test", "b.a.test", False),
        ("*.a.test", "b.a.test", True),
        ("*.a.test", "c.b.a.test", True),
        ("*.a.test", "a.test", False),
        ("*.a.test", ".a.test", False),
        ("*.a.test", "xa.test", False),
        ("*", "anything", True),
        ("*", "", False),
        ("", "", True),
        ("", "a", False),
    ],
)
def test_a_star_stands_for_all_names_below(pattern: str, name: str, *, fits: bool) -> None:
    assert name_fits(pattern, name) is fits


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a.*.test", "star"),
        ("a*", "star"),
        ("**", "star"),
        ("a b", "host name"),
        ("a/b", "host name"),
        ("b\u00fc.x", "xn--b-"),
    ],
)
def test_a_pattern_that_is_none_is_told(text: str, words: str) -> None:
    with pytest.raises(UserError, match="--it") as error:
        parse_pattern(text, what="--it")
    assert words in str(error.value)


def test_names_are_compared_without_case_and_last_dot() -> None:
    targets = Targets.parse(["Inst.Example.=a:443", "*.EXAMPLE=b:443"])
    assert targets.choose("inst.example") == A
    assert targets.choose("INST.EXAMPLE.") == A
    assert targets.choose("other.example") == B


def test_the_nearest_target_is_chosen() -> None:
    targets = Targets.parse(["a.x.test=a:443", "*.x.test=b:443", "*.test=c:443", "d:443"])
    assert [targets.choose(name) for name in ("a.x.test", "b.x.test", "c.b.x.test", "x.test", "test", None, "")] == [
        A, B, B, C, D, D, D,
    ]  # fmt: skip
    assert targets.choose("*.x.test") == D  # what a client says is no pattern
    assert targets.choose(".x.test") == C
    assert Targets.parse(["*=a:443"]).choose("any") == A
    assert Targets.parse(["*=a:443"]).choose(None) is None
    assert Targets.parse(["a.x=a:443"]).choose("other") is None


def test_a_single_target_is_known_before_any_hello() -> None:
    assert Targets.parse(["a:443"]).single == A
    assert Targets.parse(["a:443", "x=b:443"]).single is None
    assert Targets.parse(["[::1]:8443"]).single == Address("::1", 8443)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (["a:443", "b:443"], "two defaults, a:443 and b:443: give one as SNI=b:443"),
        (["x=a:443", "X.=b:443"], "names x twice"),
        (["=a:443"], "a name before the equals sign"),
        (["x="], "has no port"),
        (["x=a"], "has no port"),
        (["x*=a:443"], "star"),
        (["a"], "has no port"),
        (["::1:443"], "goes in brackets"),
    ],
)
def test_a_wrong_target_is_told(values: list[str], words: str) -> None:
    with pytest.raises(UserError) as error:
        Targets.parse(values)
    assert words in str(error.value)


def test_a_hostile_name_costs_no_time() -> None:
    targets = Targets.parse(["*.x.test=b:443", "d:443"])
    begun = time.process_time()
    for name in ("." * 65_000, "a." * 30_000, "xn--" * 16_000, "a" * 65_000):
        assert targets.choose(name) == D
    assert targets.choose("xn--a." * 40 + "x.test") == B
    assert time.process_time() - begun < 1


# -- overrides -----------------------------------------------------------------------------------------------------


def test_names_are_resolved_as_curl_would() -> None:
    overrides = Overrides.parse([
        "a.test:443:127.0.0.1",
        "A.test.:80:[::1],127.0.0.2,2001:db8::1",
        "*:8443:127.0.0.3",
        "[::1]:443:127.0.0.4",
        "b.test:8443:127.0.0.5",
    ])  # fmt: skip
    assert overrides.lookup(Address("a.test", 443)) == ("127.0.0.1",)
    assert overrides.lookup(Address("A.TEST.", 80)) == ("::1", "127.0.0.2", "2001:db8::1")
    assert overrides.lookup(Address("any", 8443)) == ("127.0.0.3",)
    assert overrides.lookup(Address("b.test", 8443)) == ("127.0.0.5",)
    assert overrides.lookup(Address("::1", 443)) == ("127.0.0.4",)
    assert overrides.lookup(Address("a.test", 444)) == ()
    assert Overrides.parse(["a:1:127.0.0.1", "a:1:127.0.0.2"]).lookup(Address("a", 1)) == ("127.0.0.2",)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("a:443", "HOST:PORT:ADDRESS"),
        ("a", "HOST:PORT:ADDRESS"),
        ("a:443:", "no address"),
        ("a:443:b", "'b' is no address"),
        ("a:443:127.0.0.1,", "'' is no address"),
        ("a:443:127.0.0.1 ,::1", "is no address"),
        ("a:x:127.0.0.1", "--resolve"),
        ("a:0:127.0.0.1", "1 to 65535"),
        (":443:127.0.0.1", "no host"),
        ("*.a:443:127.0.0.1", "* alone"),
        ("+a:443:127.0.0.1", "without curl's +"),
        ("-a:443", "without curl's -"),
    ],
)
def test_a_wrong_override_is_told(value: str, words: str) -> None:
    with pytest.raises(UserError) as error:
        Overrides.parse([value])
    assert words in str(error.value)


# -- order ---------------------------------------------------------------------------------------------------------

V4, V6 = socket.AF_INET, socket.AF_INET6


def test_the_families_alternate() -> None:
    assert interleaved([(V6, 1), (V6, 2), (V6, 3), (V4, 4), (V4, 5)]) == [(V6, 1), (V4, 4), (V6, 2), (V4, 5), (V6, 3)]
    assert interleaved([(V4, 1), (V4, 2), (V6, 3)]) == [(V4, 1), (V6, 3), (V4, 2)]
    assert interleaved([]) == []


@given(st.lists(st.tuples(st.sampled_from([V4, V6]), st.integers())))
def test_no_address_is_lost_and_each_family_keeps_its_order(addresses: list[tuple[socket.AddressFamily, int]]) -> None:
    got = interleaved(addresses)
    for family in (V4, V6):
        assert [one for one in got if one[0] == family] == [one for one in addresses if one[0] == family]
    assert got[:1] == addresses[:1]
