"""Which connections are intercepted: the rules, the file that they come from, and what is remembered."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, strategies as st

from countersign.errors import UserError
from countersign.proxy.settings import Address
from countersign.proxy.ways.policy import Bypasses, Decision, Facts, Policy, Verdict, parse_policy

RULES = """
default = "passthrough"

[[rule]]
name = "banks"
sni = ["*.bank.example", "Bank.Example."]
action = "passthrough"

[[rule]]
client = ["10.1.0.0/16", "2001:db8::/32"]
alpn = "h2"
action = "refuse"
with = "unrecognized_name"

[[rule]]
client = "192.0.2.7"
action = "refuse"
with = "reset"

[[rule]]
target = ["*.lab.test:8443", "[::1]:443", "10.0.0.1"]
scenario = "missing-intermediate"

[[rule]]
ja4 = "t13d1516h2_8daaf6152771_b186095e22b6"
sni = "tool.test"
action = "intercept"

[[rule]]
sni = ""
action = "refuse"
"""
POLICY = parse_policy(RULES, name="rules.toml")


def facts(
    sni: str | None = "x.test",
    target: str = "x.test:443",
    client: str = "127.0.0.1",
    alpn: tuple[str, ...] = (),
    ja4: str | None = None,
) -> Facts:
    host, _, port = target.rpartition(":")
    return Facts(Address(host.strip("[]"), int(port)), client, sni, alpn, lambda: ja4)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (facts("www.bank.example"), Decision(Verdict.PASSTHROUGH, "rule 1 (banks) says passthrough")),
        (facts("BANK.example."), Decision(Verdict.PASSTHROUGH, "rule 1 (banks) says passthrough")),
        (
            facts(client="10.1.2.3", alpn=("http/1.1", "h2")),
            Decision(Verdict.REFUSE, "rule 2 says refuse", "unrecognized_name"),
        ),
        (
            facts(client="::ffff:10.1.2.3", alpn=("h2",)),
            Decision(Verdict.REFUSE, "rule 2 says refuse", "unrecognized_name"),
        ),
        (
            facts(client="2001:db8::5%eth0", alpn=("h2",)),
            Decision(Verdict.REFUSE, "rule 2 says refuse", "unrecognized_name"),
        ),
        (facts(client="10.1.2.3", alpn=("http/1.1",)), Decision(Verdict.PASSTHROUGH, "no rule fits")),
        (facts(client="192.0.2.7"), Decision(Verdict.REFUSE, "rule 3 says refuse", "reset")),
        (
            facts(target="a.lab.test:8443"),
            Decision(Verdict.INTERCEPT, "rule 4 says intercept", scenario="missing-intermediate"),
        ),
        (facts(target="a.lab.test:443"), Decision(Verdict.PASSTHROUGH, "no rule fits")),
        (
            facts(target="[::1]:443"),
            Decision(Verdict.INTERCEPT, "rule 4 says intercept", scenario="missing-intermediate"),
        ),
        (
            facts(target="10.0.0.1:9"),
            Decision(Verdict.INTERCEPT, "rule 4 says intercept", scenario="missing-intermediate"),
        ),
        (
            facts("tool.test", ja4="t13d1516h2_8daaf6152771_b186095e22b6"),
            Decision(Verdict.INTERCEPT, "rule 5 says intercept"),
        ),
        (facts("tool.test", ja4="t13d1516h1_8daaf6152771_b186095e22b6"), Decision(Verdict.PASSTHROUGH, "no rule fits")),
        (facts(None), Decision(Verdict.REFUSE, "rule 6 says refuse", "access_denied")),
        (facts(client="unknown"), Decision(Verdict.PASSTHROUGH, "no rule fits")),
        (Facts(None, "127.0.0.1", "x.test"), Decision(Verdict.PASSTHROUGH, "no rule fits")),
    ],
)
def test_the_first_rule_that_fits_decides(seen: Facts, expected: Decision) -> None:
    assert POLICY.decide(seen) == expected


def test_without_rules_the_default_decides() -> None:
    assert Policy().decide(facts()) == Decision(Verdict.INTERCEPT, "there are no rules")
    assert parse_policy("", name="f", default=Verdict.PASSTHROUGH).decide(facts()).verdict is Verdict.PASSTHROUGH
    assert parse_policy("[[rule]]", name="f", default=Verdict.PASSTHROUGH).rules[0].verdict is Verdict.PASSTHROUGH


def test_ja4_is_made_only_when_a_rule_comes_to_it() -> None:
    made = []

    def ja4() -> str:
        made.append(1)
        return "x"

    POLICY.decide(Facts(Address("a", 1), "127.0.0.1", "www.bank.example", (), ja4))
    POLICY.decide(Facts(Address("a", 1), "127.0.0.1", "other", (), ja4))
    assert made == []
    POLICY.decide(Facts(Address("a", 1), "127.0.0.1", "tool.test", (), ja4))
    assert made == [1]


def test_whether_the_hello_is_needed_is_known() -> None:
    assert POLICY.needs_hello
    assert not parse_policy('[[rule]]\nclient = "10.0.0.0/8"\naction = "refuse"', name="f").needs_hello


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[rule]\n", "f is not TOML"),
        ("a = 1\nb = =", "line 2"),
        ("rules = []", "f: there is no key 'rules'; did you mean 'rule'?"),
        ("[rule]\nsni = 'a'", "rules are written as [[rule]]"),
        ("rule = [1]", "rules are written as [[rule]]"),
        ("default = 'block'", "f: default is one of intercept, passthrough, refuse; got 'block'"),
        ("[[rule]]\n[[rule]]\nname='x'\nsnii = 'a'", "f: rule 2 (x): there is no key 'snii'; did you mean 'sni'?"),
        ("[[rule]]\nhost = 'a'", "there is no key 'host'; there are name, sni, target"),
        ("[[rule]]\naction = 'passthru'", "got 'passthru'; did you mean 'passthrough'?"),
        ("[[rule]]\naction = 3", "action is one of"),
        ("[[rule]]\nname = 3", "name takes text, got 3"),
        ("[[rule]]\nsni = 3", "sni takes a text or a list of texts, got 3"),
        ("[[rule]]\nsni = []", "sni takes a text or a list of texts, got []"),
        ("[[rule]]\nalpn = ['h2', 3]", "alpn takes a text or a list of texts"),
        ("[[rule]]\nalpn = ''", "alpn has an empty text in it"),
        ("[[rule]]\nsni = 'a.*.b'", "rule 1: sni: a star stands alone"),
        ("[[rule]]\nsni = 'b\u00fccher.test'", "xn--bcher-kva.test"),
        (
            "[[rule]]\nclient = '10.0.0.0/33'",
            "client takes addresses and ranges such as 10.1.0.0/16, got '10.0.0.0/33'",
        ),
        ("[[rule]]\ntarget = 'a:b'", "a port is a number from 1 to 65535, got 'b'"),
        ("[[rule]]\ntarget = 'a:0'", "a port is a number"),
        ("[[rule]]\ntarget = '::1'", "goes in brackets"),
        ("[[rule]]\ntarget = '[::1'", "goes in brackets"),
        ("[[rule]]\ntarget = '[::1]x'", "goes in brackets"),
        ("[[rule]]\nwith = 'reset'", '"with" belongs to action = "refuse"'),
        ("[[rule]]\naction='refuse'\nwith = 'unknown_c'", "got 'unknown_c'; did you mean 'unknown_ca'?"),
        ("[[rule]]\naction='refuse'\nwith = 7", "the name of an alert; got 7, such as 'access_denied'"),
        ("[[rule]]\nscenario = ''", "scenario takes the id of one"),
        ("[[rule]]\nscenario = 'x'\naction='refuse'", "action refuse leaves nothing to break"),
    ],
)
def test_a_mistake_in_the_file_is_told(text: str, words: str) -> None:
    with pytest.raises(UserError) as error:
        parse_policy(text, name="f")
    assert words in str(error.value)


def test_a_hostile_name_in_the_file_cannot_colour_the_terminal() -> None:
    with pytest.raises(UserError) as error:
        parse_policy('[[rule]]\nname = "\\u001b[31m"\nx = 1', name="f")
    assert "\x1b" not in str(error.value)


@given(st.text(max_size=60))
def test_any_text_is_a_policy_or_an_error(text: str) -> None:
    for candidate in (text, f"[[rule]]\n{text}", f"[[rule]]\nsni = {text}", f'[[rule]]\ntarget = "{text}"'):
        with contextlib.suppress(UserError):
            parse_policy(candidate, name="f").decide(facts())


# -- remembered bypasses -------------------------------------------------------------------------------------------

INTERCEPT = Decision(Verdict.INTERCEPT, "no rule fits")


def test_what_was_turned_down_passes_through_for_a_time() -> None:
    bypasses = Bypasses(seconds=60)
    seen = facts()
    assert bypasses.apply(INTERCEPT, seen, now=0) == INTERCEPT
    bypasses.remember(Address("x.test", 443), "X.test.", "sent the alert unknown_ca", now=10)
    got = bypasses.apply(INTERCEPT, seen, now=69)
    assert got.verdict is Verdict.PASSTHROUGH
    assert "sent the alert unknown_ca (--bypass-after-failure)" in got.reason
    assert bypasses.apply(INTERCEPT, facts("y.test"), now=11) == INTERCEPT
    assert bypasses.apply(INTERCEPT, facts(target="x.test:444"), now=11) == INTERCEPT
    assert bypasses.apply(INTERCEPT, seen, now=70) == INTERCEPT
    assert len(bypasses) == 0


def test_a_bypass_changes_no_other_decision() -> None:
    bypasses = Bypasses()
    bypasses.remember(Address("x.test", 443), "x.test", "left", now=0)
    for decision in (
        Decision(Verdict.REFUSE, "r"),
        Decision(Verdict.PASSTHROUGH, "r"),
        Decision(Verdict.INTERCEPT, "r", scenario="rotation"),
    ):
        assert bypasses.apply(decision, facts(), now=1) == decision
    assert bypasses.apply(INTERCEPT, Facts(None, "c"), now=1) == INTERCEPT
    bypasses.forget()
    assert bypasses.apply(INTERCEPT, facts(), now=1) == INTERCEPT


def test_the_memory_is_bounded_and_forgets_the_oldest() -> None:
    bypasses = Bypasses(at_most=3)
    for name in ("a", "b", "c", "a", "d"):
        bypasses.remember(Address("x.test", 443), name, "left", now=0)
    assert len(bypasses) == 3
    kept = [name for name in "abcd" if bypasses.apply(INTERCEPT, facts(name), now=1) != INTERCEPT]
    assert kept == ["a", "c", "d"]
