"""Scenario files: what is read, and how a mistake is shown."""

from __future__ import annotations

import os
import re
import time
import tomllib
from datetime import UTC, datetime, time as time_of_day
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, strategies as st

from countersign.ca.recipes import CertSpec
from countersign.ca.revocation import What
from countersign.scenarios.catalogue import Catalogue, catalogue
from countersign.scenarios.lines import lines_of
from countersign.scenarios.model import Duration, Mistake, Scenario, Step
from countersign.scenarios.reading import MOST_BYTES, ScenarioError, Source, composed, read_scenario, to_toml

if TYPE_CHECKING:
    from pathlib import Path

BUILT_IN = catalogue()


def scenario(text: str, **given: str) -> Scenario:
    return read_scenario(Source(text, name="mine.toml", id="mine"), find=BUILT_IN.source, given=given or None)


def mistake(text: str, **given: str) -> str:
    with pytest.raises(ScenarioError) as caught:
        scenario(text, **given)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("titel = 'x'", "mine.toml:1: titel: there is no such key; did you mean title"),
        ("\n\nfamily = 'chian'", "mine.toml:3: family: there is no family 'chian'; did you mean chain?"),
        (
            "certificate.recipe = 'leaf-expird'",
            "mine.toml:1: certificate.recipe: there is no recipe 'leaf-expird'; did",
        ),
        ("[certificate]\npreset = 'zscalar'", "mine.toml:2: certificate.preset: there is no preset 'zscalar'"),
        ("certificate.levels = '3'", "mine.toml:1: certificate.levels: expected a whole number, got '3'"),
        ("certificate.levels = true", "expected a whole number, got true"),
        ("certificate.recipe = 'client-expired'", "'client-expired' is a client's; expected one that a server shows"),
        ("certificate.valid = '14 days'", 'expected a time such as "90s", "15m", "36h" or "14d", got \'14 days\''),
        (
            "[certificate.recipe]\nleaf.not_aftr = '-1d'",
            "certificate.recipe: leaf: there is no 'not_aftr' here; did you",
        ),
        ("client_certificate.recipe = 'plain'", "'plain' is a server's; expected one that a client shows"),
        (
            "target.versions = ['TLSv1.4']",
            "mine.toml:1: target.versions: expected one, or the lowest and the highest, of",
        ),
        ("target.shows = 'client-expird'", "target.shows: there is no recipe 'client-expird'; did you mean client-exp"),
        ("target.shows = 'leaf-expired'", "'leaf-expired' is of the role server; expected one that a client shows"),
        ("target.server_name = 'ü'", "target.server_name: expected a host name of at most 255 ASCII characters"),
        ("target.ask = true", "mine.toml:1: target.ask: there is no such key; did you mean asks?"),
        ("revocation = ['ocsp:revokd']", "mine.toml:1: revocation.1: there is no fault 'revokd'"),
        ("revocation = 'ocsp:revoked'", "revocation: expected a list, got 'ocsp:revoked'"),
        (
            "[[wire]]\ndo = 'cut'\n[[wire]]\ndo = 'cutt'",
            "mine.toml:4: wire.2.do: there is no fault 'cutt': did you mean 'cut'",
        ),
        (
            "[[wire]]\ndo = 'alert'\nalert = 'unknwn_ca'",
            "mine.toml:3: wire.1.alert: the fault 'alert' cannot take alert",
        ),
        ("network.latency = -1", "mine.toml:1: network.latency: a network takes latency"),
        ("network.latencie = 1", "network.latencie: there is no such key; did you mean latency?"),
        ("answer.status = 99", "mine.toml:1: answer.status: a proxy answers with a status from 200 to 599"),
        (
            "protocol.versions = ['TLSv9']",
            "mine.toml:1: protocol.versions: expected one, or the lowest and the highest, of",
        ),
        (
            "protocol.ciphers = ['TLS_AES_128_GCM_SHA25']",
            "there is no 'TLS_AES_128_GCM_SHA25'; did you mean TLS_AES_128",
        ),
        (
            "client_auth.names = 'ful'",
            "client_auth.names: expected full, empty, roots, intermediates, others, got 'ful'",
        ),
        (
            "client_auth.names = ['roots', 'CN=x']",
            "client_auth.names: expected roots, intermediates or a name (DER) in hexadecimal digits, got 'CN=x'",
        ),
        ("client_auth.names = ['3003020101', '02']", "in hexadecimal digits, got '02'"),
        ("client_auth.names = ['roots', 1]", "client_auth.names.2: expected text, got 1"),
        (
            "expect.right = 'refused'",
            "expect.right: expected refuse, accept, either, got 'refused'; did you mean refuse?",
        ),
        ("expect.clients.java.alerts = ['unknown_c']", "there is no alert 'unknown_c'"),
        ("expect.clients.jawa.known = 'refuse'", "there is no client family 'jawa'"),
        ("id = 'My Scenario'", "mine.toml:1: id: expected small letters, digits, points and dashes"),
        ("waits = 1", "waits: expected true or false, got 1"),
        ("action = 'pass'", "mine.toml:1: action: expected intercept, passthrough, got 'pass'"),
        ("action = 'passthrough'\ncertificate.levels = 2", "mine.toml:2: certificate: this needs interception"),
        ("step = 5", "step: expected a list, got 5"),
        ("story = nan", "story: expected text, got"),
    ],
)
def test_a_mistake_is_shown_with_file_line_key_what_was_expected_and_the_nearest_name(text: str, said: str) -> None:
    assert said in mistake(text)
    assert "\n" not in mistake(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[step]]\n[[step]]", "mine.toml:2: step.2: its turn never comes; expected one of connections, after, at"),
        ("[[step]]\nafter = '5s'", "mine.toml:2: step.1.after: the first step is in force from the start"),
        ("[[step]]\nrotate = 'root'", "mine.toml:2: step.1.rotate: there is nothing to rotate before the first step"),
        ("[[step]]\n[[step]]\nconnections = 0", "mine.toml:3: step.2.connections: expected a number from 1 up, got 0"),
        ("[[step]]\n[[step]]\nafter = '0s'", "step.2.after: expected a time above 0"),
        ("[[step]]\n[[step]]\nchance = 1.5", "step.2.chance: expected more than 0 and at most 1, got 1.5"),
        ("[[step]]\n[[step]]\nafter = '1s'\nsame_key = true", 'step.2.same_key: this is for rotate = "intermediate"'),
        ("[[step]]\n[[step]]\nafter = '1s'\ncross_signed = true", 'step.2.cross_signed: this is for rotate = "root"'),
        (
            "[[step]]\n[[step]]\nat = 2026-12-02T00:00:00Z\n[[step]]\nat = 2026-12-01T00:00:00Z",
            "mine.toml:5: step.3.at: contradicts an earlier step, whose moment 2026-12-02 00:00:00+00:00 is",
        ),
        (
            "[[step]]\n[[step]]\nat = 2026-12-01T00:00:00\n[[step]]\nat = 2026-12-02T00:00:00Z",
            "one says its zone and the other does not",
        ),
        ("schedule.order = 'loop'\n[[step]]\n[[step]]\nafter = '1s'", "step.1: the loop would not go on past it"),
        (
            "schedule.order = 'random'\n[[step]]\n[[step]]\nafter = '1s'",
            "step.2.after: of random steps each connection",
        ),
        ("schedule.order = 'loop'", "schedule.order: loop is for several steps, and there are none"),
        ("[[step]]\n[[step]]\nafter = '1s'\nweight = 2.0", "step.2.weight: a weight is for schedule.order"),
        ("schedule.per = 'run'\n[[step]]\n[[step]]\nafter = '1s'", "step.2.after: with schedule.per"),
        ("schedule.order = 'loop'\n[[step]]\nat = 2026-12-01T00:00:00Z", "in a loop a moment comes only once"),
        (
            "[[step]]\n[[step]]\nafter = '1s'\ntarget.asks = true",
            "mine.toml:4: step.2.target: the target is the same in all steps; say asks, certificate and by_name",
        ),
        ("[[step]]\n[[step]]\nafter = '1s'\naction = 'passthrough'\nprotocol.alpn = ''", "step.2.protocol: this needs"),
    ],
)
def test_steps_that_contradict_each_other_are_a_mistake_of_the_key_at_fault(text: str, said: str) -> None:
    assert said in mistake(text)


def test_what_is_said_in_words_is_read_as_what_it_means() -> None:
    read = scenario("""
        revocation = ["ocsp:revoked=keyCompromise", { what = "tryLater", on = ["ocsp"], times = 2 }]
        certificate.valid = "36h"
        certificate.recipe.leaf.not_after = "-1d"
        stapling.body = "0aff"
        [[step]]
        [[step]]
        after = 1.5
        at = 02:00:00
        [[step]]
        at = "2026-12-01T02:00:00Z"
    """)
    assert read.revocation is not None
    assert read.certificate is not None
    assert read.certificate.own_recipe is not None
    assert read.stapling is not None
    assert [fault.what for fault in read.revocation] == [What.REVOKED, What.TRY_LATER]
    assert read.certificate.valid == Duration(36 * 3600)
    assert read.certificate.own_recipe.leaf == CertSpec(not_after="-1d")
    assert read.stapling.body == b"\x0a\xff"
    assert [(step.after, step.at) for step in read.steps] == [
        (None, None), (1.5, time_of_day(2)), (None, datetime(2026, 12, 1, 2, tzinfo=UTC)),
    ]  # fmt: skip


def test_a_part_that_a_step_names_stands_in_place_of_the_scenarios_own() -> None:
    read = scenario("""
        certificate.recipe = "leaf-expired"
        certificate.issuer = "device"
        protocol.alpn = ""
        [[step]]
        [[step]]
        after = "1s"
        certificate.recipe = "sent-leaf-only"
    """)
    first, second = read.scenes
    assert (first.certificate, first.protocol) == (read.certificate, read.protocol)
    assert second.certificate is not None
    assert (second.certificate.recipe, second.certificate.issuer) == ("sent-leaf-only", "trusted")
    assert second.protocol == read.protocol


# -- extends -----------------------------------------------------------------------------------------------------


@pytest.fixture
def own(tmp_path: Path) -> Catalogue:
    """A directory of one's own scenarios."""
    for name, text in {
        "base": "title = 'the base'\nfamily = 'own'\ncertificate.issuer = 'device'\nexpect.clients.java.note = 'n'",
        "upper": "extends = 'base'\ncertificate.recipe = 'leaf-expired'\nexpect.right = 'refuse'",
        "both": "extends = ['upper', 'other']",
        "other": "protocol.alpn = ''\ntitle = 'the other'",
        "ring": "extends = 'rung'",
        "rung": "extends = 'ring'",
        "broken": "extends = 'base'\n\ntitel = 'x'",
        "syntax": "a = = 1",
        "below-syntax": "\nextends = 'syntax'",
    }.items():
        (tmp_path / f"{name}.toml").write_text(text)
    return Catalogue([tmp_path])


def test_a_scenario_that_extends_another_is_laid_over_it_key_by_key(own: Catalogue) -> None:
    read = own["upper"]
    assert read.certificate is not None
    assert (read.title, read.certificate.recipe, read.certificate.issuer) == ("the base", "leaf-expired", "device")
    assert read.expect.of("java").note == "n"


def test_of_several_that_are_extended_the_later_one_is_laid_over_the_earlier(own: Catalogue) -> None:
    read = own["both"]
    assert (read.id, read.title) == ("both", "the other")
    assert read.certificate is not None
    assert read.protocol is not None


def test_scenarios_that_extend_each_other_in_a_circle_are_a_mistake(own: Catalogue) -> None:
    with pytest.raises(ScenarioError, match=r"ring\.toml:1: extends: rung extends ring extends rung, and so on"):
        own["rung"]
    assert "mine extends mine, and so on for ever" in mistake("extends = 'mine'")


def test_a_mistake_below_names_the_file_that_it_is_in(own: Catalogue) -> None:
    with pytest.raises(ScenarioError, match=r"broken\.toml:3: titel: there is no such key"):
        own["broken"]
    with pytest.raises(ScenarioError, match=r"below-syntax\.toml:2: extends: .*syntax\.toml:1: it is not TOML"):
        own["below-syntax"]
    assert "mine.toml:1: extends: there is no scenario 'plane'; did you mean plain?" in mistake("extends = 'plane'")
    assert "mine.toml:1: extends: expected the id of a scenario, or a list of ids" in mistake("extends = 5")


def test_a_long_lineage_ends(tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"n{number}.toml").write_text(f"extends = 'n{number + 1}'")
    (tmp_path / "n40.toml").write_text("")
    with pytest.raises(ScenarioError, match="more than 20 scenarios extend each other"):
        Catalogue([tmp_path])["n0"]


# -- parameters --------------------------------------------------------------------------------------------------

DAYS = """
    parameters.days = { default = 14, text = "how long", least = 1, most = 30 }
    parameters.recipe = { default = "leaf-expired" }
    title = "after {days} days, {name} and {unknown}"
    certificate.levels = "{days}"
    certificate.recipe = "{recipe}"
    [[step]]
    [[step]]
    after = "{days}d"
"""


def test_a_parameter_takes_its_default_or_what_is_given() -> None:
    usual, other = scenario(DAYS.replace("{days}d", "1d"), days="3"), scenario(DAYS.replace('"{days}"', "2"), days="3")
    assert usual.certificate is not None
    assert usual.certificate.levels == 3
    assert usual.title == "after 3 days, {name} and {unknown}"
    assert other.steps[1].after == Duration(3 * 86400)
    assert other.parameters["days"].default == 3


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"day": "3"}, "cannot set 'day' of the scenario 'mine': its parameters are days, recipe; did you mean days?"),
        ({"days": "three"}, "cannot set days=three of the scenario 'mine': expected a whole number, got 'three'"),
        ({"days": "99"}, "cannot set days=99 of the scenario 'mine': expected 30 or less, got 99"),
        ({"days": "0"}, "expected 1 or more, got 0"),
        ({"days": "1" * 5000}, "expected a whole number"),
        ({"days": "3", "recipe": "leaf-expird"}, "there is no recipe 'leaf-expird'; did you mean leaf-expired"),
    ],
)
def test_a_value_that_a_parameter_cannot_take_is_a_mistake(given: dict[str, str], said: str) -> None:
    assert said in mistake(DAYS, **given)


def test_a_value_given_cannot_become_more_than_a_text() -> None:
    read = scenario("parameters.what = { default = 'x' }\ntitle = '{what}'", what='"]\n[[step]]\n# {what}')
    assert (read.title, read.steps) == ('"]\n[[step]]\n# {what}', ())


# -- several at once ---------------------------------------------------------------------------------------------


def test_several_at_once_are_one_scenario_with_the_parts_of_all() -> None:
    both = BUILT_IN.open("expired+ca-names-empty+slow-link")
    assert both.id == "expired+ca-names-empty+slow-link"
    assert both.certificate == BUILT_IN["expired"].certificate
    assert both.client_auth == BUILT_IN["ca-names-empty"].client_auth
    assert both.network == BUILT_IN["slow-link"].network
    assert both.expect.right == "refuse"


def test_faults_of_several_add_up_and_what_both_say_is_said_once() -> None:
    both = BUILT_IN.open("ocsp-reset+crl-500")
    assert both.revocation == (*(BUILT_IN["ocsp-reset"].revocation or ()), *(BUILT_IN["crl-500"].revocation or ()))
    assert composed([BUILT_IN["expired"], BUILT_IN["expired"]]).certificate == BUILT_IN["expired"].certificate


@pytest.mark.parametrize("names", ["expired+other-name", "rotation-root+flapping", "tls12-only+tls13-only"])
def test_two_that_say_different_things_of_one_part_cannot_be_at_once(names: str) -> None:
    first, second = names.split("+")
    with pytest.raises(ScenarioError, match=f"cannot run '{first}' and '{second}' at once: each says something else"):
        BUILT_IN.open(names)


def test_a_parameter_is_given_to_the_one_that_has_it() -> None:
    both = BUILT_IN.open("rotation-root+slow-link", {"connections": "7"})
    assert both.steps[1].connections == 7
    with pytest.raises(ScenarioError, match="cannot set 'wrong'"):
        BUILT_IN.open("rotation-root", {"wrong": "7"})


# -- where they are found ----------------------------------------------------------------------------------------


def test_an_unknown_scenario_is_told_with_the_nearest_names() -> None:
    with pytest.raises(ScenarioError, match="there is no scenario 'rotation-rot'; did you mean rotation-root"):
        BUILT_IN.open("rotation-rot")


def test_a_users_own_stands_before_the_built_in_one_and_may_be_a_file(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "plain.toml"
    file.parent.mkdir()
    file.write_text("title = 'mine'")
    assert Catalogue([tmp_path])["plain"].title == "mine"
    assert Catalogue([tmp_path, tmp_path / "nowhere"]).open(str(file)).title == "mine"
    assert Catalogue().open(f"{file}+expired").id == "plain+expired"
    assert Catalogue()["plain"].title != "mine"


# -- hostile -----------------------------------------------------------------------------------------------------

HOSTILE = {
    "nothing": "",
    "no-toml": "[" * 50,
    "deep-lists": "wire = " + "[" * 5000 + "]" * 5000,
    "deep-tables": "a = " + "{ b = " * 5000 + "1" + " }" * 5000,
    "deep-keys": ".".join("a" * 20000) + " = 1",
    "a-bit-too-deep": "certificate.recipe" + ".a" * 40 + " = 1",
    "deep-quoted-keys": "x = { " + " . ".join(['"a"'] * 20000) + " = 1 }",
    "long-word": "x" * 200000,
    "long-quotes": '"' * 200000,
    "long-dots": "." * 200000 + " = 1",
    "huge-number": "certificate.levels = " + "9" * 10000,
    "hex-number": "certificate.levels = 0x" + "f" * 4000,
    "infinite": "network.latency = inf",
    "not-a-number": "network.latency = nan",
    "huge-duration": "[[step]]\n[[step]]\nafter = '999999999999w'",
    "many-steps": "[[step]]\n" * 5000,
    "many-keys": "\n".join(f"k{number} = {number}" for number in range(8000)),
    "escape": 'title = "\\u001b]0;pwned\\u0007"\nfamily = "\\u001b[31m"',
    "braces": "title = '" + "{" * 30000 + "'",
    "control": "family = '''a\nb'''",
    "dates": "story = 2026-11-21",
    "dotted-id": 'id = "../../etc/passwd"',
    "surrogates": 'title = "\\ud800"',
    "nul": 'title = "\\u0000"',
    "wild-recipe": "certificate.recipe.leaf = 5",
    "wild-recipe-2": "certificate.recipe.other.x.issuer = 'y'",
    "wild-recipe-3": "certificate.recipe.send.order = ['root', 'nobody']",
    "wild-wire": "wire = [{ do = 5 }, 6]",
    "wild-parameters": "parameters.x = { default = [] }",
    "wild-parameters-2": "parameters.name = { default = 1 }",
    "wild-parameters-3": "parameters = 5",
    "date-at": "[[step]]\n[[step]]\nat = 2026-12-01",
    "year-at": "[[step]]\n[[step]]\nat = '0001-01-01T00:00:00+23:59'",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_toml_is_a_scenario_or_a_mistake_in_one_line_and_soon(name: str) -> None:
    began = time.process_time()
    try:
        read = scenario(HOSTILE[name])
    except ScenarioError as wrong:
        text = str(wrong)
        assert text.isprintable()
        assert len(text) < 5000
    else:
        assert to_toml(read)
    assert time.process_time() - began < 5


def test_a_file_that_is_none_or_too_large_is_a_mistake(tmp_path: Path) -> None:
    for name, make, said in (
        ("missing", lambda _path: None, "there is no file"),
        ("directory", lambda path: path.mkdir(), "cannot read the scenario"),
        ("fifo", os.mkfifo, "cannot read the scenario"),
        ("large", lambda path: path.write_bytes(b"# " + b"x" * MOST_BYTES), "cannot read the scenario"),
        ("latin", lambda path: path.write_bytes(b"title = '\xe4'"), r"it is not UTF-8 \(byte 9\)"),
    ):
        path = tmp_path / f"{name}.toml"
        make(path)
        with pytest.raises(ScenarioError, match=said):
            BUILT_IN.open(str(path))


_KEYS = st.sampled_from([*Scenario.__dataclass_fields__, *Step.__dataclass_fields__, "x", "step", "recipe", "do"])
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | _KEYS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(_KEYS, _VALUES, max_size=4))
def test_any_table_is_a_scenario_or_a_mistake(table: dict[str, object]) -> None:
    source = Source("", name="made.toml", id="made")
    source.table = table
    try:
        read = read_scenario(source, find=BUILT_IN.source)
    except ScenarioError:
        pass  # and nothing else
    else:
        assert read_scenario(Source(to_toml(read), name="made.toml", id="made")) == read


# -- lines -------------------------------------------------------------------------------------------------------


def test_the_line_of_every_key_is_found_whatever_stands_between() -> None:
    text = '''# [not.a.table]
a = """
b = 1
[c]
"""
"d\\u0065" = [ # x = 1
  1, # ]
  2,
]
e.f . "g" = { h = "}", i = [
  1 ] }
[t.u]
v = 'w # = "'   # comment

[[list]]
x = 1
[[list]]
[list.sub]
y = 2
[[list.inner]]
z = \'\'\'
\'\'\'
[[list.inner]]
last = true'''
    lines = lines_of(text)
    assert {".".join(path): line for path, line in lines.items()} == {
        "a": 2, "de": 6, "e": 10, "e.f": 10, "e.f.g": 10, "t.u": 12, "t.u.v": 13, "list.1": 15, "list.1.x": 16,
        "list.2": 17, "list.2.sub": 18, "list.2.sub.y": 19, "list.2.inner.1": 20, "list.2.inner.1.z": 21,
        "list.2.inner.2": 23, "list.2.inner.2.last": 24,
    }  # fmt: skip
    assert lines_of(text.replace("\n", "\r\n")) == lines


def test_every_key_of_every_built_in_file_has_a_line_that_begins_with_it() -> None:
    for path in BUILT_IN.files.values():
        text = path.read_text("utf-8")
        lines = text.splitlines()
        for key, line in lines_of(text).items():
            assert key[-1] in lines[line - 1] or key[-1].isdigit(), (path, key)
        assert set(tomllib.loads(text)) <= {key[0] for key in lines_of(text)}


@given(st.text(alphabet="[]{}\"'#=.,\n\r\\ ab1", max_size=60))
def test_lines_are_found_of_any_text_and_end(text: str) -> None:
    assert all(1 <= line <= text.count("\n") + 1 for line in lines_of(text).values())


def test_the_lines_of_a_long_text_take_linear_time() -> None:
    began = time.process_time()
    lines_of("a = " + "[" * 100_000 + "\n" * 100_000)
    lines_of("[" * 200_000)
    lines_of('a = "' + "\\" * 200_001)
    assert time.process_time() - began < 5


def test_a_mistake_tells_where_it_is_by_the_key_at_fault() -> None:
    with pytest.raises(Mistake) as caught:
        Scenario(id="x", family="none")
    assert (caught.value.key, caught.value.exit_code) == ("family", 2)


def test_of_a_file_all_mistakes_are_shown_and_none_that_comes_of_another() -> None:
    text = """
titel = "The leaf has expired"
family = "validity"
certificate.recipe = "leaf-expird"

[expect]
right = "refuze"

[[step]]

[[step]]
after = "a while"

[[wire]]
do = "cut"
within = -1
"""
    with pytest.raises(ScenarioError) as wrong:
        read_scenario(Source(text, name="x.toml", id="x"))
    places = re.findall(r"x\.toml:(\d+): ([\w.]+):", str(wrong.value))
    keys = ["titel", "certificate.recipe", "expect.right", "step.2.after", "wire.1.within"]
    assert places == [*zip(["2", "4", "7", "12", "16"], keys, strict=True)]


def test_a_key_with_dots_in_it_and_a_wrong_list_end_the_search_for_more() -> None:
    for text in ('"a.b" = 1\nfamily = 3', "step = 3\nfamily = 3", "step = [3]\nfamily = 3"):
        with pytest.raises(ScenarioError, match=r"x\.toml"):
            read_scenario(Source(text, name="x.toml", id="x"))
