from __future__ import annotations

import re
from dataclasses import replace

import pytest
from OpenSSL import SSL

from countersign.recorder.files.ladder import Kind, Row, Tone, ladder, render_ladder, rows
from countersign.recorder.recording import (
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
)
from countersign.recorder.wire.events import Content, Message, Problem, Side
from countersign.recorder.wire.text import columns
from tests.recorder.made_recordings import (
    CONTROLS,
    HOSTILE,
    certificate_for,
    certificate_message,
    client_hello,
    handshake,
    hostile,
    leg,
    recording,
    with_data,
)
from tests.recorder.tls_pairs import connected

C, S = Side.CLIENT, Side.SERVER


def refused() -> Recording:
    """Both legs of a session in which the client does not take the chain; written by hand, so always the same."""
    server_hello = b"\x03\x03" + bytes(32) + b"\0" + b"\xc0\x2f" + b"\0"
    with_target = Leg(
        LegRole.SERVER,
        (
            client_hello(b"inst.example", alpn=b"h2", t=0.0031),
            handshake(S, 2, server_hello, t=0.0052, encrypted=False),
            handshake(C, 20, bytes(12), t=0.0071),
        ),
        ends=(End(0.021, C, Ending.FIN),),
    )
    with_client = Leg(
        LegRole.CLIENT,
        (
            client_hello(b"inst.example", alpn=b"h2", t=0.0002),
            handshake(S, 2, server_hello, t=0.0113, encrypted=False),
            Message(0.0141, C, Content.ALERT, 48, False, 2, b"\x02\x30"),
        ),
        ends=(End(0.0142, C, Ending.RESET),),
        faults=({"t": 0.0113, "text": "the server_hello was sent twice"},),
    )
    return recording(
        with_client,
        with_target,
        target="inst.example:443",
        sni="inst.example",
        outcome=Outcome(
            Status.FAILED,
            Party.CLIENT,
            LegRole.CLIENT,
            "unknown_ca",
            "The client refused the chain that countersign showed it (unknown_ca): it does not trust that root.",
        ),
        failures=(
            Failure(0.0205, LegRole.CLIENT, Party.CLIENT, code=FailureCode.CLIENT_LEFT, text="alert unknown ca"),
        ),
    )


GOLDEN = """\
recording 0123456789abcdef; reverse, intercept; 2026-11-20 12:00:00 UTC
client 127.0.0.1:53122; target inst.example:443; SNI inst.example

    ms  client  proxy  target     message               bytes  🔒 is encrypted
   0.2  ├────────►│         │     client_hello             77
        │         │         │        TLSv1.2; SNI inst.example; ALPN h2; 1 suite
   3.1  │         ├────────►│     client_hello             77
        │         │         │        TLSv1.2; SNI inst.example; ALPN h2; 1 suite
   5.2  │         │◄────────┤     server_hello             42
        │         │         │        TLSv1.2;
        │         │         │        TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
   7.1  │         ╞════════►│  🔒 finished                 16
  11.3  │◄────────┤         │     server_hello             42
        │         │         │        TLSv1.2;
        │         │         │        TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
  11.3  │         ●         │     fault
        │         │         │        the server_hello was sent twice
  14.1  ├────────►│         │     alert                     2
        │         │         │        fatal: unknown_ca
  14.2  ├────────×│         │     reset
        │         │         │        TCP RST
  20.5  ●         │         │     client-left
        │         │         │        alert unknown ca
  21.0  │         ├────────►│     closed
        │         │         │        TCP FIN

The client refused the chain that countersign showed it (unknown_ca): it does
not trust that root.
"""


def test_a_refused_session_reads_like_this_in_80_columns() -> None:
    assert render_ladder(refused(), width=80) == GOLDEN


def test_wide_terminals_have_the_details_beside_the_messages() -> None:
    lines = render_ladder(refused(), width=140).splitlines()
    assert lines[4] == (
        "   0.2  ├────────────►│             │     client_hello             77   "
        "TLSv1.2; SNI inst.example; ALPN h2; 1 suite"
    )


def test_ascii_is_ascii_and_says_the_same() -> None:
    text = render_ladder(hostile(HOSTILE["wide"]), ascii=True) + render_ladder(refused(), ascii=True)
    assert text.isascii()
    assert "|------------>|" in text
    assert "|============>|  #  finished" in text


@pytest.mark.parametrize("width", [60, 80, 99, 100, 120, 160, 300])
@pytest.mark.parametrize("name", ["wide", "long", "osc 8"])
def test_no_line_is_wider_than_the_terminal(width: int, name: str) -> None:
    failure = Failure(0.0, None, Party.NETWORK, code=FailureCode.UNREACHABLE, text=HOSTILE[name])
    for one in (refused(), replace(hostile(HOSTILE[name]), failures=(failure,)), recording(leg(connected()))):
        for line in ladder(one, width=width):
            assert columns(line.text) <= max(width, 64), line.text


@pytest.mark.parametrize("ascii_only", [False, True])
@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_hostile_names_reach_no_line_unescaped(name: str, ascii_only: bool) -> None:  # noqa: FBT001
    one = hostile(name)
    fault = {"t": 0.0, "text": name}
    problem = Problem(0.1, C, name, 0, name, name)
    verification = Verification(trusted=False, error=name)
    legs = (replace(one.legs[0], faults=(fault, {"what": name}), verification=verification),)
    failure = Failure(0.1, LegRole.CLIENT, Party.CLIENT, code=FailureCode.SILENT, text=name)
    one = replace(one, legs=legs, failures=(failure,), problems=((LegRole.CLIENT, problem),), scenario=name)
    for line in ladder(one, width=100, ascii=ascii_only):
        assert not any(control in line.text for control in CONTROLS)
        assert line.text.isprintable()
    assert render_ladder(one).count("\n") == len(ladder(one))


def found(one: Recording, title: str) -> list[Row]:
    return [row for row in rows(one) if row.title == title]


def details(one: Recording, title: str) -> list[list[str]]:
    return [[detail.text for detail in row.details] for row in found(one, title)]


def test_rows_are_in_order_of_time_over_both_legs() -> None:
    assert [row.t for row in rows(refused())] == sorted(row.t or 0.0 for row in rows(refused()))
    assert [(row.leg, row.sender) for row in found(refused(), "client_hello")] == [
        (LegRole.CLIENT, C),
        (LegRole.SERVER, C),
    ]


def test_a_client_hello_says_what_it_offers() -> None:
    (said,) = details(recording(leg(connected(client_groups="X25519MLKEM768:secp256r1"))), "client_hello")
    assert said[0].startswith("TLSv1.3, TLSv1.2")
    assert said[1:3] == ["SNI localhost", "no ALPN"]
    assert re.fullmatch(r"\d+ suites", said[3])
    assert "groups X25519MLKEM768, secp256r1" in said[4]
    assert "key shares X25519MLKEM768" in said[5]
    assert said[6] == "post-quantum"


def test_a_hello_retry_request_says_what_it_wants() -> None:
    one = recording(leg(connected(client_groups="X25519:secp384r1", server_groups="secp384r1")))
    assert details(one, "hello_retry_request") == [
        ["TLSv1.3", "TLS_AES_256_GCM_SHA384", "wants a key share of secp384r1"]
    ]
    assert len(found(one, "client_hello")) == 2


@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
def test_a_resumed_session_is_said_to_be_one(version: int) -> None:
    first = connected(version=version)
    again = connected(previous=first, version=version)
    assert "resumed" not in details(recording(leg(first)), "server_hello")[0]
    assert "resumed" in details(recording(leg(again)), "server_hello")[0]


@pytest.mark.parametrize("version", [SSL.TLS1_VERSION, SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
def test_a_certificate_request_lists_whom_it_would_trust(version: int) -> None:
    one = recording(leg(connected(version=version, ask=True, present=True)))
    (said,) = details(one, "certificate_request")
    assert said[-2:] == ["1 CA name:", "CN=localhost"]
    assert any("signature algorithm" in text for text in said) == (version != SSL.TLS1_VERSION)
    (listed,) = [line.text for line in ladder(one, width=80) if line.text.endswith("- CN=localhost")]
    assert listed.startswith("        │")


def test_a_certificate_message_shows_the_chain_and_its_breaks() -> None:
    def shown(*chain: tuple[str, str]) -> list[str]:
        certificates = [certificate_for(name, issuer=issuer) for name, issuer in chain]
        messages = (certificate_message(S, certificates, t=0.0),)
        (said,) = details(recording(Leg(LegRole.SERVER, messages)), "certificate")
        return said

    assert shown() == ["empty"]
    assert shown(("leaf", "leaf")) == ["1 certificate: leaf, self-issued"]
    assert shown(("leaf", "inter")) == ["1 certificate: leaf ← inter (not sent)"]
    assert shown(("leaf", "inter"), ("inter", "root"), ("root", "root")) == ["3 certificates: leaf ← inter ← root"]
    assert shown(("leaf", "inter"), ("root", "root")) == ["2 certificates: leaf ← inter (not sent); then root"]


def test_the_verdict_stands_at_the_chain_that_it_is_about() -> None:
    certificates = [certificate_for("leaf", issuer="root")]
    messages = (certificate_message(S, certificates, t=0.0), certificate_message(C, certificates, t=0.1))
    verdict = Verification(trusted=False, error="unable to get local issuer certificate", depth=0)
    of_target, of_client = details(recording(Leg(LegRole.SERVER, messages, verification=verdict)), "certificate")
    assert of_target[1] == "not trusted: unable to get local issuer certificate at depth 0"
    assert len(of_client) == 1


def test_alerts_data_and_endings_are_told_by_their_tones() -> None:
    given = with_data(leg(connected(client_trusts=False)), sides=[S])
    given = replace(given, ends=(End(1.0, C, Ending.RESET), End(2.0, S, Ending.SILENT)))
    one = recording(given, outcome=Outcome(Status.FAILED, text="no"))
    assert {row.tone for row in found(one, "alert")} == {Tone.ALERT}
    (data,) = found(one, "application_data")
    assert data.details[0].text == "3 records, 40000 bytes"
    assert (data.kind, data.sender, data.encrypted) == (Kind.DATA, S, True)
    assert [row.tone for row in rows(one) if row.kind is Kind.END] == [Tone.TROUBLE, Tone.TROUBLE]
    assert [part.tone for part in ladder(one)[-1].parts] == [Tone.BAD]


def test_a_passed_through_leg_goes_through_the_proxy_s_lane() -> None:
    in_clear = client_hello(b"inst.example", t=0.0)
    given = Leg(LegRole.THROUGH, (in_clear,), data={S: DataCount(5, 900, 0.1, 0.2)})
    lines = [line.text for line in ladder(recording(given), width=80, ascii=True)]
    assert "   0.0  |---------+-------->|     client_hello" in "\n".join(lines)
    assert " 100.0  |<........+.........|  #  encrypted records" in "\n".join(lines)


def test_what_stayed_closed_and_what_was_cut_is_said() -> None:
    closed = Message(0.1, C, Content.ALERT, -1, True, 26, b"")
    hello = client_hello(b"inst.example", t=0.0)
    cut = replace(hello, raw=hello.raw[:50])
    one = recording(Leg(LegRole.CLIENT, (cut, closed)))
    assert details(one, "alert") == [["not opened"]]
    assert details(one, "client_hello")[0][-1] == f"only 50 of {hello.length} bytes"
    assert found(one, "problem")


def test_many_problems_are_counted_not_listed() -> None:
    problems = tuple((LegRole.CLIENT, Problem(0.1, C, f"record.{n}", n, "x", "y")) for n in range(100))
    one = recording(Leg(LegRole.CLIENT), problems=problems)
    assert len(found(one, "problem")) == 21
    assert details(one, "problem")[-1] == ["80 more on this leg"]


def test_an_open_session_without_a_message_has_a_ladder_too() -> None:
    text = render_ladder(recording(outcome=Outcome(Status.OPEN, text="the session is still open"), client=None))
    assert text.splitlines()[-1] == "the session is still open"
