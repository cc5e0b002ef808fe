"""Every dialect: when TLS begins, in any slicing, what is passed on and what never is (T33)."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from countersign.errors import UserError
from countersign.proxy.ways.starttls import (
    DIALECTS,
    Agreed,
    Asked,
    Auto,
    Declined,
    Dialect,
    Event,
    Forward,
    Said,
    Settled,
    Transcript,
    Upgraded,
    Violation,
    dialect_named,
)
from countersign.proxy.ways.starttls.dialect import HELD_AT_MOST
from countersign.recorder.wire.events import Side
from tests.proxy.ways.starttls.dialogues import (
    DIALOGUES,
    GSSENC_REQUEST,
    HELLO,
    LDAP_START_TLS,
    MYSQL_LOGIN,
    MYSQL_SSL_REQUEST,
    NS,
    REFUSALS,
    SECRET,
    SSL_REQUEST,
    Turn,
    ldap_answer,
    mysql_greeting,
    mysql_packet,
)

C, S = Side.CLIENT, Side.SERVER
NAMES = [dialect.name for dialect in DIALECTS]


def named(dialogue: str) -> Dialect:
    return dialect_named(dialogue.split(maxsplit=1)[0])()


def talk(dialect: Dialect, turns: list[Turn], *, sliced: int | None = None) -> list[Event]:
    """All events; each turn in slices of that many bytes."""
    events: list[Event] = []
    for side, data in turns:
        size = sliced or len(data) or 1
        for at in range(0, len(data), size):
            events += dialect.receive(side, data[at : at + size])
    return events


def passed(events: list[Event], side: Side) -> bytes:
    return b"".join(event.data for event in events if isinstance(event, Forward) and event.side is side)


def said(turns: list[Turn], side: Side) -> bytes:
    return b"".join(data for who, data in turns if who is side)


def steps(events: list[Event]) -> list[str]:
    return [type(event).__name__ for event in events if not isinstance(event, Forward | Said)]


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Said))


# -- the upgrade ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("auto", [False, True], ids=["named", "auto"])
@pytest.mark.parametrize("name", DIALOGUES)
def test_tls_begins_where_the_client_begins_it(name: str, *, auto: bool) -> None:
    turns = DIALOGUES[name]
    for sliced in (None, 1, 2, 3, 7):
        dialect = Auto() if auto else named(name)
        events = talk(dialect, turns, sliced=sliced)
        asked = 1 if not name.endswith("gssapi") else 2
        declined = ["Declined"] if asked == 2 else []
        assert steps(events) == [*(["Asked", *declined] if asked == 2 else []), "Asked", "Agreed"]
        for side in (C, S):
            assert passed(events, side) == said(turns, side)
        assert dialect.protocol == dialect_named(name.split(maxsplit=1)[0]).name
        assert dialect.receive(C, HELLO) == [Upgraded(HELLO)]
        assert dialect.upgraded


@pytest.mark.parametrize("name", DIALOGUES)
def test_the_words_are_told_the_same_in_any_slicing_and_without_the_password(name: str) -> None:
    turns = DIALOGUES[name]
    whole = text_of(talk(named(name), turns))
    for sliced in (1, 3, 10):
        assert text_of(talk(named(name), turns, sliced=sliced)) == whole
    assert SECRET.decode() not in whole
    assert whole


@pytest.mark.parametrize("auto", [False, True], ids=["named", "auto"])
@pytest.mark.parametrize("name", DIALOGUES)
def test_a_dialogue_that_stops_anywhere_has_upgraded_nothing(name: str, *, auto: bool) -> None:
    turns = DIALOGUES[name]
    dialect = Auto() if auto else named(name)
    events: list[Event] = []
    for side, data in turns:
        for at in range(len(data)):
            assert "Upgraded" not in steps(events)
            assert "Agreed" not in steps(events)
            events += dialect.receive(side, data[at : at + 1])
            if name.startswith("mysql") and side is C:
                break


@pytest.mark.parametrize("name", DIALOGUES)
def test_a_hello_that_comes_in_pieces_is_found(name: str) -> None:
    dialect = named(name)
    talk(dialect, DIALOGUES[name])
    events: list[Event] = []
    for at in range(len(HELLO)):
        events += dialect.receive(C, HELLO[at : at + 1])
        if dialect.upgraded:
            assert events == [Upgraded(HELLO[: at + 1])]
            break
    assert dialect.upgraded


# -- what is never passed on ---------------------------------------------------------------------------------------

INJECTED = {
    "smtp": b"RSET\r\nMAIL FROM:<evil@test>\r\n",
    "imap": b"a5 LOGIN evil x\r\n",
    "pop3": b"USER evil\r\n",
    "ftp": b"USER evil\r\n",
    "ldap": LDAP_START_TLS,
    "postgres": b"\0\0\0\x10\0\x03\0\0user\0x\0\0",
    "mysql": mysql_packet(2, b"injected"),
    "xmpp": b"<iq/>",
}


@pytest.mark.parametrize("auto", [False, True], ids=["named", "auto"])
@pytest.mark.parametrize("name", NAMES)
def test_commands_behind_the_request_are_never_passed_on(name: str, *, auto: bool) -> None:
    """CVE-2011-0411: in one segment with the request, in the next, before or behind the answer."""
    *before, last = DIALOGUES[name]
    if last[0] is C:  # MySQL's server gives no answer
        cases = [[*before, (C, last[1] + INJECTED[name])], [*before, last, (C, INJECTED[name])]]
    else:
        *before, (_, request) = before
        cases = [
            [*before, (C, request + INJECTED[name]), last],
            [*before, (C, request), (C, INJECTED[name]), last],
            [*before, (C, request), last, (C, INJECTED[name])],
        ]
    for turns in cases:
        for sliced in (None, 1):
            dialect = Auto() if auto else named(name)
            events = talk(dialect, turns, sliced=sliced)
            assert passed(events, C) == said(DIALOGUES[name], C)
            assert [event.field for event in events if isinstance(event, Violation)] == [f"{name}.injection"]
            assert not dialect.upgraded
            assert dialect.receive(C, HELLO) == [Upgraded(HELLO)]


@pytest.mark.parametrize("name", NAMES)
def test_a_hello_behind_injected_commands_is_found_and_nothing_else_goes_into_tls(name: str) -> None:
    dialect = named(name)
    events = talk(dialect, DIALOGUES[name])
    events += dialect.receive(C, INJECTED[name] + b"\x16\x03\x16" + HELLO + b"more")
    assert events[-1] == Upgraded(HELLO + b"more")
    assert [event.got for event in events if isinstance(event, Violation)] == [
        f"{len(INJECTED[name]) + 3} bytes in clear, which were not passed on"
    ]


@pytest.mark.parametrize("name", [name for name in NAMES if name != "mysql"])
def test_what_a_server_says_behind_its_answer_is_never_passed_on(name: str) -> None:
    """CVE-2021-33515, CVE-2021-23222."""
    *before, (_, answer) = DIALOGUES[name]
    for turns in ([*before, (S, answer + b"evil\r\n")], [*before, (S, answer), (S, b"evil\r\n")]):
        dialect = named(name)
        events = talk(dialect, turns)
        assert passed(events, S) == said(DIALOGUES[name], S)
        assert [(event.side, event.field) for event in events if isinstance(event, Violation)] == [
            (S, f"{name}.injection")
        ]
        assert dialect.receive(C, HELLO) == [Upgraded(HELLO)]


@pytest.mark.parametrize("name", [name for name in NAMES if name != "mysql"])
def test_a_hello_that_does_not_wait_for_the_answer_is_told_and_used(name: str) -> None:
    *before, (_, request), answer = DIALOGUES[name]
    dialect = named(name)
    events = talk(dialect, [*before, (C, request + HELLO)])
    assert not dialect.upgraded
    events = talk(dialect, [answer])
    assert steps(events) == ["Agreed", "Violation", "Upgraded"]
    assert passed(events, S) == answer[1]
    assert events[-1] == Upgraded(HELLO)


def test_a_flood_behind_the_request_is_bounded() -> None:
    for name in ("smtp", "ldap"):
        *before, (_, request), answer = DIALOGUES[name]
        dialect = named(name)
        talk(dialect, [*before, (C, request)])
        events: list[Event] = []
        for _ in range(100):
            events += dialect.receive(C, b"RSET\r\n" * 1000)
            assert len(dialect._held) <= HELD_AT_MOST
        assert steps(events) == ["Violation"]
        talk(dialect, [answer])
        for _ in range(10):
            dialect.receive(C, b"\x16\x03" * 10_000)
            assert len(dialect._held) < 10


# -- no ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("auto", [False, True], ids=["named", "auto"])
@pytest.mark.parametrize("name", REFUSALS)
def test_a_server_that_says_no_is_told_and_the_dialogue_goes_on(name: str, *, auto: bool) -> None:
    turns, words = REFUSALS[name]
    for sliced in (None, 1):
        dialect = Auto() if auto else named(name)
        events = talk(dialect, turns, sliced=sliced)
        (declined,) = [event for event in events if isinstance(event, Declined)]
        assert words in declined.text
        more = talk(dialect, [(C, INJECTED[name]), (S, b"something\r\n" if name == "smtp" else b"")])
        assert passed(events + more, C) == said(turns, C) + INJECTED[name]
        assert not dialect.upgraded


@pytest.mark.parametrize("name", REFUSALS)
def test_what_waited_behind_a_refused_request_is_passed_on_as_dialogue(name: str) -> None:
    *before, (_, request), answer = REFUSALS[name][0]
    events = talk(named(name), [*before, (C, request + INJECTED[name]), answer])
    assert passed(events, C) == said(before, C) + request + INJECTED[name]


def test_a_client_may_ask_again_after_a_no() -> None:
    dialect = named("smtp")
    talk(dialect, REFUSALS["smtp"][0])
    assert steps(talk(dialect, [(C, b"NOOP\r\nSTARTTLS\r\n"), (S, b"250 ok\r\n220 go\r\n")])) == ["Asked", "Agreed"]


@pytest.mark.parametrize(
    ("name", "turns", "reason"),
    [
        ("postgres", [(C, b"\0\0\0\x29\0\x03\0\0user\0me\0database\0x\0\0")], "in clear"),
        ("postgres", [(C, SSL_REQUEST), (S, b"N"), (C, b"\0\0\0\x10\0\x03\0\0user\0m\0\0")], "in clear"),
        ("postgres", [(C, b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x01" + b"key!")], "cancels"),
        ("postgres", [(C, GSSENC_REQUEST), (S, b"G")], "GSSAPI"),
        ("postgres", [(C, SSL_REQUEST), (S, b"E\0\0\0\x10too many")], "error"),
        ("mysql", [(S, mysql_packet(0, b"\xff\x10\x04Too many connections"))], "error 1040"),
        ("mysql", [(S, mysql_greeting()), (C, mysql_packet(1, MYSQL_LOGIN))], "in clear"),
    ],
)  # fmt: skip
def test_a_dialogue_that_can_have_no_tls_any_more_says_so(name: str, turns: list[Turn], reason: str) -> None:
    for sliced in (None, 1, 5):
        for dialect in (named(name), Auto()):
            events = talk(dialect, [*turns, (C, HELLO), (S, b"binary\0\x16")], sliced=sliced)
            (settled,) = [event for event in events if isinstance(event, Settled)]
            assert reason in settled.reason
            assert passed(events, C) == said(turns, C) + HELLO
            assert passed(events, S) == said(turns, S) + b"binary\0\x16"
            assert SECRET.decode() not in text_of(events)


# -- not as the protocol says --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_tls_from_the_first_byte_needs_no_request(name: str) -> None:
    for dialect in (named(name), Auto()):
        assert dialect.receive(C, HELLO) == [Upgraded(HELLO)]


@pytest.mark.parametrize("name", ["smtp", "imap", "pop3", "ftp", "mysql"])
def test_tls_without_a_request_is_told(name: str) -> None:
    greeting = DIALOGUES[name][0]
    dialect = named(name)
    events = talk(dialect, [greeting, (C, HELLO)])
    assert steps(events) == ["Violation", "Upgraded"]
    if name != "mysql":
        asked = DIALOGUES[name][1][1]
        events = talk(named(name), [greeting, (C, asked + HELLO)])
        assert events[-1] == Upgraded(HELLO)
        assert passed(events, C) == asked


@pytest.mark.parametrize(
    ("name", "turns", "field"),
    [
        ("smtp", [(S, b"SSH-2.0\r\n")], "smtp.reply"),
        ("smtp", [(S, b"500 no\r\n")], "smtp.greeting"),
        ("smtp", [(S, b"220 x\r\n"), (C, b"USER me\r\n")], "smtp.command"),
        ("smtp", [(S, b"220 x\r\n"), (C, b"EHLO x\r\n"), (S, b"hello\r\n")], "smtp.reply"),
        ("smtp", [(S, b"220 x\r\n"), (C, b"EHLO x\r\n" * 1001)], "smtp.command"),
        ("ftp", [(S, b"220 x\r\n"), (C, b"EHLO me\r\n")], "ftp.command"),
        ("imap", [(S, b"+OK\r\n")], "imap.greeting"),
        ("pop3", [(S, b"* OK\r\n")], "pop3.greeting"),
        ("pop3", [(S, b"+OK\r\n"), (C, b"CAPA\r\n"), (S, b"hm\r\n")], "pop3.reply"),
        ("pop3", [(S, b"+OK\r\n"), (C, b"NOOP\r\n" * 1001)], "pop3.command"),
        ("ldap", [(C, b"EHLO\r\n")], "ldap.message"),
        ("ldap", [(C, b"\x30\x80\0\0")], "ldap.message"),
        ("ldap", [(C, b"\x30\x89" + bytes(9))], "ldap.message"),
        ("ldap", [(C, b"\x30\x03\x04\x01x")], "ldap.message"),
        ("ldap", [(C, LDAP_START_TLS), (S, b"no\r\n")], "ldap.message"),
        ("postgres", [(C, b"\0\0\0\x07")], "postgres.request"),
        ("postgres", [(C, b"GET / HTTP/1.1\r\n")], "postgres.request"),
        ("postgres", [(C, b"\0\0\0\x08\0\x09\0\0")], "postgres.request"),
        ("postgres", [(S, b"hello")], "postgres.answer"),
        ("postgres", [(C, SSL_REQUEST), (S, b"Y")], "postgres.answer"),
        ("postgres", [(C, GSSENC_REQUEST), (S, b"S")], "postgres.answer"),
        ("mysql", [(C, b"hello")], "mysql.packet"),
        ("mysql", [(S, b"220 smtp\r\n")], "mysql.greeting"),
        ("mysql", [(S, mysql_packet(0, b"\x0bx"))], "mysql.greeting"),
        ("mysql", [(S, mysql_packet(1, b"\x0ax"))], "mysql.greeting"),
        ("mysql", [(S, mysql_greeting()), (C, mysql_packet(2, bytes(32)))], "mysql.packet"),
        ("mysql", [(S, mysql_greeting()), (C, mysql_packet(1, b""))], "mysql.packet"),
        ("xmpp", [(C, b"EHLO\r\n")], "xmpp.stream"),
        ("xmpp", [(C, b"<iq/>")], "xmpp.stream"),
        ("xmpp", [(C, b"<stream:stream " + b"x" * 20_000)], "xmpp.stream"),
    ],
)
def test_what_is_not_of_the_protocol_is_told_and_passed_on(name: str, turns: list[Turn], field: str) -> None:
    for sliced in (None, 1) if len(turns[-1][1]) < 1000 else (None, 999):
        dialect = named(name)
        events = talk(dialect, turns, sliced=sliced)
        assert next(event.field for event in events if isinstance(event, Violation)) == field
        events += talk(dialect, [(S, b"and so on\0\r\n"), (C, b"yes\xff\r\n"), (S, b"well\r\n")])
        assert passed(events, C) == said(turns, C) + b"yes\xff\r\n"
        assert passed(events, S) == said(turns, S) + b"and so on\0\r\nwell\r\n"
        assert not dialect.upgraded
        assert dialect.receive(C, HELLO)[-1] == Upgraded(HELLO)


def test_a_request_for_tls_that_mysql_did_not_offer_is_told() -> None:
    events = talk(named("mysql"), [(S, mysql_greeting(flags=0xF7FF)), (C, MYSQL_SSL_REQUEST), (C, HELLO)])
    assert steps(events) == ["Violation", "Asked", "Agreed", "Upgraded"]


def test_an_answer_of_ldap_belongs_to_the_request_of_its_number() -> None:
    events = talk(named("ldap"), [(C, LDAP_START_TLS), (S, ldap_answer(0, number=9)), (S, ldap_answer(0))])
    assert steps(events) == ["Asked", "Agreed"]
    assert len(passed(events, S)) == 28


def test_an_answer_that_was_miscounted_does_not_hang_the_client() -> None:
    """A server that greets twice: our count is off by one, and the client's hello waits until nothing moves."""
    dialect = named("smtp")
    talk(dialect, [(S, b"220 a\r\n220 b\r\n"), (C, b"EHLO x\r\n"), (S, b"250 ok\r\n")])
    events = talk(dialect, [(C, b"NOOP\r\nRSET\r\nSTARTTLS\r\n"), (S, b"250 ok\r\n250 ok\r\n"), (C, HELLO)])
    assert "Upgraded" not in steps(events)
    assert steps(dialect.silence()) == ["Violation", "Upgraded"]


# -- auto ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "turns",
    [
        [(S, b'"IMPLEMENTATION" "x"\r\nOK\r\n'), (C, b"STARTTLS\r\n"), (S, b"OK begin\r\n")],
        [(S, b"200\r\n"), (C, b"AUTHINFO PASS x" + SECRET + b"\n"), (S, b"483\n"), (C, b"STARTTLS\r\n"), (S, b"382\n")],
        [(C, b":x CAP LS\r\n"), (S, b"CAP * LS :tls\r\n"), (C, b"STARTTLS\r\n"), (S, b"670 go\r\n")],
        [(C, b"\x01\x02\x03"), (S, b"\xff\x00")],
        [(S, b"SSH-2.0-x\r\n")],
        [(C, b"CONNECT a:443 HTTP/1.1\r\n\r\n"), (S, b"HTTP/1.1 200 OK\r\n\r\n")],
    ],
)  # fmt: skip
def test_auto_finds_a_hello_behind_words_that_it_does_not_know(turns: list[Turn]) -> None:
    for sliced in (None, 1):
        dialect = Auto()
        events = talk(dialect, turns, sliced=sliced)
        assert dialect.protocol == "unknown"
        for side in (C, S):
            assert passed(events, side) == said(turns, side)
        for at in range(len(HELLO)):
            events += dialect.receive(C, HELLO[at : at + 1])
            if dialect.upgraded:
                break
        assert events[-1] == Upgraded(HELLO[:6])
        if sliced is None:
            assert SECRET.decode() not in text_of(events)


def test_auto_holds_what_may_be_a_hello_until_it_is_told_apart() -> None:
    unknown: list[Turn] = [(S, b"SSH-2.0-x\r\n")]
    for release in ("more", "silence", "server"):
        dialect = Auto()
        talk(dialect, unknown)
        assert dialect.receive(C, b"\x16\x03") == []
        if release == "more":
            events = dialect.receive(C, b"\x09")
            assert passed(events, C) == b"\x16\x03\x09"
        elif release == "silence":
            events = dialect.silence()
            assert passed(events, C) == b"\x16\x03"
            assert dialect.silence() == []
        else:
            events = dialect.receive(S, b"hm")
            assert [type(event) for event in events if isinstance(event, Forward)] == [Forward, Forward]
            assert passed(events, C) == b"\x16\x03"
        assert not dialect.upgraded


def test_a_hello_in_the_middle_of_the_clients_words_is_none() -> None:
    dialect = Auto()
    talk(dialect, [(S, b"SSH-2.0-x\r\n"), (C, b"data"), (C, HELLO)])
    assert not dialect.upgraded


def test_auto_tells_smtp_from_ftp_by_what_the_client_says() -> None:
    for command, name in [(b"EHLO x\r\n", "smtp"), (b"USER x\r\n", "ftp"), (b"QUIT\r\n", "unknown")]:
        dialect = Auto()
        talk(dialect, [(S, b"220 hello\r\n"), (C, command)])
        assert dialect.protocol == name


# -- the record ----------------------------------------------------------------------------------------------------


def test_the_transcript_is_that_of_an_import() -> None:
    transcript = Transcript()
    dialect = named("smtp")
    for number, (side, data) in enumerate(DIALOGUES["smtp"]):
        transcript.note(dialect.receive(side, data), number / 10)
    transcript.note(dialect.receive(C, b"x" + HELLO), 2.0)
    record = transcript.record(dialect.protocol)
    assert record["protocol"] == "smtp"
    assert record["dialogue"][:2] == [
        {"t": 0.0, "from": "server", "text": "220 mx.test ESMTP\r\n"},
        {"t": 0.1, "from": "client", "text": "EHLO me.test\r\n"},
    ]
    assert all(one["from"] != other["from"] for one, other in pairwise(record["dialogue"]))
    assert [problem.field for problem in transcript.problems] == ["smtp.injection"]
    assert SECRET.decode() not in json.dumps(record)


def test_a_transcript_is_bounded() -> None:
    transcript = Transcript()
    for number in range(300):
        transcript.note([Said(C if number % 2 else S, "x" * 3000), Said(C if number % 2 else S, "y" * 3000)], 0.0)
    record = transcript.record("smtp")
    assert len(record["dialogue"]) == 100
    assert record["turns_left_out"] == 200
    assert len(json.dumps(record)) < 500_000
    assert record["dialogue"][0]["text"].endswith(" (6002 characters)")


# -- any bytes -----------------------------------------------------------------------------------------------------

_PIECES = st.binary(max_size=30) | st.sampled_from(
    [data for turns in DIALOGUES.values() for _, data in turns]
    + [HELLO, b"\r\n", b"\x16\x03", b"\x30\x84\xff\xff\xff\xff"]
)


@given(st.sampled_from([*NAMES, "auto"]), st.lists(st.tuples(st.sampled_from([C, S]), _PIECES), max_size=10))
def test_any_words_are_taken_and_none_are_made_up(name: str, turns: list[Turn]) -> None:
    dialect, transcript = dialect_named(name)(), Transcript()
    events: list[Event] = []
    for side, data in turns:
        if dialect.upgraded:
            break
        got = dialect.receive(side, data)
        transcript.note(got, 0.0)
        events += got
    for side in (C, S):
        assert said(turns, side).startswith(passed(events, side)[:1]) or not passed(events, side)
        assert len(passed(events, side)) <= len(said(turns, side))
    kinds = steps(events)
    assert kinds.count("Upgraded") <= 1
    assert kinds.count("Agreed") <= 1
    if "Agreed" in kinds:
        agreed = next(number for number, event in enumerate(events) if isinstance(event, Agreed))
        after = [event for event in events[agreed:] if isinstance(event, Forward)]
        assert len(after) <= 1  # what ends with the agreement itself
    json.dumps(transcript.record(dialect.protocol))


@given(
    st.sampled_from(NAMES), st.lists(st.tuples(st.sampled_from([C, S]), _PIECES.filter(bool)), max_size=8), st.data()
)
def test_the_slicing_of_a_turn_changes_nothing_that_counts(name: str, turns: list[Turn], data: st.DataObject) -> None:
    whole, sliced = named(name), named(name)
    first: list[Event] = []
    second: list[Event] = []
    for side, said_ in turns:
        if whole.upgraded:
            break
        first += whole.receive(side, said_)
        cut = data.draw(st.integers(0, len(said_)))
        for piece in (said_[:cut], said_[cut:]):
            if not sliced.upgraded:
                second += sliced.receive(side, piece)
        if whole.upgraded != sliced.upgraded:
            return  # a first byte of TLS is enough; the rest of the turn is the hello's
    assert [kind for kind in steps(first) if kind != "Violation"] == [
        kind for kind in steps(second) if kind != "Violation"
    ]
    for side in (C, S):
        assert passed(first, side) == passed(second, side)


def test_a_dialect_that_is_none_is_told() -> None:
    with pytest.raises(UserError, match="auto, ftp, imap, ldap, lmtp, mysql, pop3, postgres, smtp, xmpp; got 'nntp'"):
        dialect_named("nntp")


def test_who_speaks_first_is_known() -> None:
    assert {dialect.name for dialect in DIALECTS if dialect.server_first} == {"smtp", "imap", "pop3", "ftp", "mysql"}
    assert Auto.server_first is None


def test_asked_is_said_once_the_request_is_whole() -> None:
    dialect = named("smtp")
    talk(dialect, [(S, b"220 x\r\n")])
    assert dialect.receive(C, b"STARTTLS\r") == [Forward(C, b"STARTTLS\r")]
    assert dialect.receive(C, b"\n") == [Said(C, "STARTTLS\r\n"), Asked(), Forward(C, b"\n")]


def test_the_namespace_decides_what_is_starttls() -> None:
    start = DIALOGUES["xmpp"][:3]
    for element in (b"<starttls/>", b"<starttls xmlns='urn:other'/>", b"<iq xmlns='" + NS + b"'/>"):
        assert steps(talk(named("xmpp"), [*start, (C, element)])) == []
