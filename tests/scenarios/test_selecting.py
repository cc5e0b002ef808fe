"""``--select``: which scenarios are meant, and what is wrong with an expression."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from countersign.scenarios.catalogue import Catalogue, catalogue
from countersign.scenarios.reading import Source, read_scenario
from countersign.scenarios.selecting import SelectionError, select, selection

KNOWN = catalogue()


def ids(text: str) -> set[str]:
    return {each.id for each in select(KNOWN, text)}


def test_words_and_signs_mean_what_they_say() -> None:
    chain, missing = ids("family:chain"), ids("id:missing-*")
    assert ids("family:chain and not id:missing-*") == chain - missing != chain
    assert ids("missing-*") == missing
    assert ids("family:chain or family:trust") == ids("family:chain, family:trust") == chain | ids("family:trust")
    assert ids("family:chain and missing-* or plain") == (chain & missing) | {"plain"}
    assert ids("family:chain and (missing-* or plain)") == chain & missing
    assert ids("not not plain") == {"plain"}
    assert ids("") == ids("  ") == ids("*") == set(KNOWN)


def test_the_other_fields() -> None:
    assert ids("is:waiting") == {each.id for each in KNOWN.values() if each.waits}
    assert ids("right:accept") == {each.id for each in KNOWN.values() if each.expect.right == "accept"}
    assert "R10" in {source for name in ids("source:R10") for source in KNOWN[name].sources}
    assert not any("R1" in KNOWN[name].sources for name in ids("source:R10") - ids("source:R1"))
    assert ids("source:'RFC 8446 4.1.3'") < ids("source:'RFC 8446*'")
    assert ids("tag:none") == set()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("famly:chain", "there is no 'famly'; did you mean family?; expected id, family, source"),
        ("family:chian", "there is no family 'chian'; did you mean chain?"),
        ("right:no", "there is no right 'no'; expected refuse, accept, either"),
        ("(a or b", "a bracket is opened and never closed"),
        ("a b", "expected `and` or `or` before 'b'"),
        ("a and", "expected a word such as family:chain or rotation-*, it ends"),
        ("and a", "expected a word such as family:chain or rotation-*, got 'and'"),
        ("a)", "expected `and` or `or` before ')'"),
        ("()", "expected a word such as family:chain or rotation-*, got ')'"),
        ("'a", "a quote is opened and never closed"),
        ("not " * 100 + "a", "more than 50 brackets"),
        ("(" * 3000, "more than 50 brackets"),
        ("a" * 5000, "expected at most 4000"),
        ("\x1b[31m:x", "\\x1b[31m"),
    ],
)
def test_what_cannot_be_read_is_said_in_a_line(text: str, said: str) -> None:
    with pytest.raises(SelectionError) as caught:
        selection(text)
    assert said in str(caught.value)
    assert str(caught.value).isprintable()


@given(st.text(alphabet="ab:*()not,r'\" ", max_size=30))
def test_any_text_is_an_expression_or_a_mistake(text: str) -> None:
    try:
        test = selection(text)
    except SelectionError:
        return
    assert test(KNOWN["plain"]) in {True, False}


def test_a_value_goes_to_the_scenarios_that_have_it_and_to_none_is_a_mistake(tmp_path: object) -> None:
    chosen = {each.id: each for each in select(KNOWN, "rotation-root, plain", {"connections": "5"})}
    assert chosen["rotation-root"].steps[1].connections == 5
    with pytest.raises(SelectionError, match="cannot set 'connections': none of the 1 scenarios"):
        select(KNOWN, "plain", {"connections": "5"})


def test_tags_are_those_of_a_users_own() -> None:
    mine = read_scenario(Source("tags = ['slow', 'ci']", name="mine.toml", id="mine"))
    assert selection("tag:ci and tag:s*")(mine)
    assert not selection("tag:ci")(Catalogue()["plain"])
