from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given, strategies as st

from countersign.recorder.wire.text import columns, listed, printable
from tests.recorder.made_recordings import CONTROLS, HOSTILE

ANY_TEXT = st.text(st.characters(codec=None))  # lone surrogates too


@given(ANY_TEXT)
def test_what_comes_out_prints_as_itself_on_one_line(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert not {unicodedata.category(character) for character in shown} & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    shown.encode("utf-8")  # lone surrogates do not encode
    assert len(shown.splitlines()) <= 1


@given(ANY_TEXT)
def test_escaping_what_is_escaped_changes_nothing(text: str) -> None:
    assert printable(printable(text)) == printable(text)
    assert printable(printable(text, ascii_only=True)) == printable(text, ascii_only=True)


@given(ANY_TEXT)
def test_ascii_only_is_ascii_only(text: str) -> None:
    assert printable(text, ascii_only=True).isascii()


@given(st.text(st.sampled_from("abc <>[]{}\"'\\/;:äöü株ñ€")))
def test_what_prints_as_itself_is_left_alone(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31m", r"\x1b[31m"),
        ("\x9b", r"\x9b"),
        ("a\nb\rc\td", r"a\nb\rc\td"),
        ("\u202egnp", r"\u202egnp"),
        ("\ud800", r"\ud800"),
        ("\U000e0041", r"\U000e0041"),
        ("\u3164", r"\u3164"),  # a letter that shows nothing
        ("a\ufe0f", r"a\ufe0f"),
        ("a\xa0b", r"a\xa0b"),
        ("\x7f", r"\x7f"),
    ],
)
def test_what_does_not_print_is_shown_by_its_number(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_name_stays_one_log_line(name: str) -> None:
    shown = printable(name)
    assert not any(control in shown for control in CONTROLS)
    assert json.loads(json.dumps({"cn": shown})) == {"cn": shown}
    assert "\n" not in json.dumps({"cn": shown}, ensure_ascii=False)


def test_a_limit_says_how_much_it_left_out() -> None:
    assert printable("abcdef", limit=4) == "abcd... (2 more)"
    assert printable("abcd", limit=4) == "abcd"
    assert printable("\x1b" * 9, limit=2) == r"\x1b\x1b... (7 more)"


def test_wide_characters_take_two_columns_and_marks_none() -> None:
    assert columns("abc") == 3
    assert columns("株式") == 4
    assert columns("e\u0301") == 1


def test_what_is_beyond_the_first_names_is_counted() -> None:
    assert listed(["a", "b"], 2) == "a, b"
    assert listed(["a", "b", "c"], 2, joint="; ") == "a; b and 1 more"
    assert listed([], 2) == ""
