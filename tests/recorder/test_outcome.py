"""Each rule of the judgement on a recording made by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from countersign.recorder.outcome import judge
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
)
from countersign.recorder.wire.events import Content, EncryptedRecord, Message, Side
from tests.recorder import made_recordings as made

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

C, S = Side.CLIENT, Side.SERVER
CLIENT, SERVER, THROUGH = LegRole.CLIENT, LegRole.SERVER, LegRole.THROUGH


def message(t: float, sender: Side, code: int, *, clear: bool = False) -> Message:
    return made.handshake(sender, code, b"", t=t, encrypted=not clear)


def alert(t: float, sender: Side, code: int, *, level: int = 2, clear: bool = False) -> Message:
    return Message(t, sender, Content.ALERT, code, not clear, 2, bytes((level, code)))


def ccs(t: float, sender: Side) -> Message:
    return Message(t, sender, Content.CHANGE_CIPHER_SPEC, 1, False, 1, b"\1")


def hellos(t: float) -> list[Message]:
    return [message(t, C, 1, clear=True), message(t + 0.01, S, 2, clear=True)]


def tls13(t: float = 0.0, *, asks: bool = False) -> list[Message]:
    """A whole TLS 1.3 handshake of 40 ms, without a ticket."""
    server = [message(t + 0.02, S, code) for code in (8, *((13,) if asks else ()), 11, 15, 20)]
    return [*hellos(t), *server, message(t + 0.04, C, 20)]


def tls12(t: float = 0.0, *, resumed: bool = False) -> list[Message]:
    if resumed:
        return [*hellos(t), ccs(t + 0.02, S), message(t + 0.02, S, 20), ccs(t + 0.03, C), message(t + 0.03, C, 20)]
    server = [message(t + 0.02, S, code, clear=True) for code in (11, 12, 14)]
    client = [message(t + 0.03, C, 16, clear=True), ccs(t + 0.03, C), message(t + 0.03, C, 20)]
    return [*hellos(t), *server, *client, ccs(t + 0.04, S), message(t + 0.04, S, 20)]


def ticket(t: float) -> Message:
    return message(t, S, 4)


def data(*sides: Side, t: float = 0.5) -> Mapping[Side, DataCount]:
    return {side: DataCount(1, 10, t, t) for side in sides}


def intercepted(
    client: Iterable[Message],
    server: Iterable[Message],
    *,
    talked: Iterable[Side] = (C, S),
    ends: tuple[End, ...] = (),
    server_ends: tuple[End, ...] = (),
    failures: tuple[Failure, ...] = (),
) -> Recording:
    seen = data(*talked)
    legs = (Leg(CLIENT, tuple(client), seen, ends), Leg(SERVER, tuple(server), seen, server_ends))
    return made.recording(*legs, failures=failures)


def assert_judged(
    outcome: Outcome, status: Status, by: Party | None = None, leg: LegRole | None = None, *words: str
) -> None:
    assert (outcome.status, outcome.broken_by, outcome.leg) == (status, by, leg), outcome
    for word in words:
        assert word in outcome.text
    assert "  " not in outcome.text


# -- established, abandoned --------------------------------------------------------------------------------------


@pytest.mark.parametrize("server", [tls13(), tls12(), tls12(resumed=True)])
@pytest.mark.parametrize("client", [tls13(0.1), tls12(0.1), tls12(0.1, resumed=True)])
def test_both_legs_used_is_established(client: list[Message], server: list[Message]) -> None:
    assert_judged(judge(intercepted(client, server)), Status.ESTABLISHED)


@pytest.mark.parametrize("server", [tls12(), tls12(resumed=True), [*tls13(), ticket(0.2)]])
def test_finished_and_unused_is_abandoned(server: list[Message]) -> None:
    recording = intercepted([*tls13(0.1), ticket(0.15)], server, talked=(), ends=(End(0.3, C, Ending.FIN),))
    assert_judged(judge(recording), Status.ABANDONED, Party.CLIENT, CLIENT, "host name")


def test_a_client_that_left_before_the_target_could_prove_anything_has_abandoned_it() -> None:
    ends, later = (End(0.3, C, Ending.FIN),), (End(0.4, S, Ending.FIN),)
    recording = intercepted(tls13(0.1), tls13(), talked=(), ends=ends, server_ends=later)
    assert_judged(judge(recording), Status.ABANDONED, Party.CLIENT, CLIENT)


def test_a_server_that_only_spoke_was_used() -> None:
    assert_judged(judge(intercepted(tls13(0.1), tls13(), talked=(S,))), Status.ESTABLISHED)


def test_user_canceled_before_close_notify_is_a_regular_close() -> None:
    goodbye = [alert(0.9, C, 90, level=1), alert(0.9, C, 0, level=1)]
    assert_judged(judge(intercepted([*tls13(0.1), *goodbye], tls13())), Status.ESTABLISHED)
    unused = intercepted([*tls13(0.1), *goodbye], [*tls13(), ticket(0.2)], talked=())
    assert_judged(judge(unused), Status.ABANDONED, Party.CLIENT, CLIENT)


def test_no_renegotiation_refuses_nothing() -> None:
    assert_judged(judge(intercepted([*tls12(0.1), alert(0.3, S, 100, level=1)], tls12())), Status.ESTABLISHED)


@pytest.mark.parametrize("code", [10, 20, 46, 80])
def test_an_alert_after_both_have_talked_breaks_no_handshake(code: int) -> None:
    assert_judged(judge(intercepted([*tls13(0.1), alert(0.9, C, code)], tls13())), Status.ESTABLISHED)


# -- refusals ----------------------------------------------------------------------------------------------------


def test_the_client_does_not_trust_our_root() -> None:
    refused = [*tls13(0.1)[:-1], alert(0.14, C, 48)]
    outcome = judge(intercepted(refused, [*tls13(), ticket(0.05)], talked=()))
    assert_judged(outcome, Status.FAILED, Party.CLIENT, CLIENT, "does not trust the CA")
    assert outcome.alert == "unknown_ca"


def test_a_target_refuses_the_client_certificate_after_the_handshake() -> None:
    """TLS 1.3: the alert comes after both Finished, and after the client's first data."""
    late = [*tls13(asks=True), alert(0.6, S, 43)]
    recording = intercepted(tls13(0.1), late, talked=(C,))
    outcome = judge(recording)
    assert_judged(outcome, Status.FAILED, Party.TARGET, SERVER, "does not take this kind of certificate")
    assert outcome.alert == "unsupported_certificate"


@pytest.mark.parametrize(("number", "words"), [(40, "got none"), (42, "got none"), (116, "and got none")])
def test_a_target_that_wanted_a_client_certificate_and_got_none_names_the_cure(number: int, words: str) -> None:
    cure = f"{words}: --client-cert gives the proxy one to show."
    asked = tls13(asks=True)
    none, some = (made.handshake(C, 11, body, t=0.03) for body in (bytes(4), bytes(4) + b"certificate"))
    refused = intercepted(tls13(0.1), [*asked[:-1], none, asked[-1], alert(0.6, S, number)], talked=(C,))
    assert_judged(judge(refused), Status.FAILED, Party.TARGET, SERVER, cure)
    assert judge(refused).text.count("got none") == 1
    shown = intercepted(tls13(0.1), [*asked[:-1], some, asked[-1], alert(0.6, S, number)], talked=(C,))
    assert "--client-cert" not in judge(shown).text
    unasked = intercepted(tls13(0.1), [*tls13(), alert(0.6, S, number)], talked=(C,))
    assert "--client-cert" not in judge(unasked).text
    watched = through([*asked[:-1], none, asked[-1], alert(0.6, S, number)])
    assert "got none" in judge(watched).text
    assert "--client-cert" not in judge(watched).text


def test_of_a_flood_of_alerts_the_first_of_the_peer_decides() -> None:
    flood = [alert(0.2 + n / 10_000, sender, number) for n in range(2_000) for sender, number in ((S, 80), (C, 48))]
    outcome = judge(intercepted([*hellos(0.1), *flood], tls13(), talked=()))
    assert (outcome.broken_by, outcome.leg, outcome.alert) == (Party.CLIENT, CLIENT, "unknown_ca")
    theirs = judge(intercepted(hellos(0.1), [*hellos(0.1), *flood], talked=()))
    assert (theirs.broken_by, theirs.leg, theirs.alert) == (Party.TARGET, SERVER, "internal_error")


def test_a_leg_of_the_target_alone_is_judged() -> None:
    recording = made.recording(Leg(SERVER, (*tls13(), ticket(0.2)), data(C, S)))
    assert_judged(judge(recording), Status.ESTABLISHED)


def test_a_target_that_leaves_after_the_handshake_without_a_word_has_accepted_nothing() -> None:
    ends = (End(0.6, S, Ending.FIN),)
    recording = intercepted(tls13(0.1), tls13(asks=True), talked=(C,), server_ends=ends)
    assert_judged(judge(recording), Status.FAILED, Party.TARGET, SERVER, "nothing that proves")


@pytest.mark.parametrize("proof", [ticket(0.2), alert(0.2, S, 0, level=1)])
def test_a_ticket_or_a_goodbye_of_the_target_is_proof(proof: Message) -> None:
    assert_judged(judge(intercepted(tls13(0.1), [*tls13(), proof], talked=(C,))), Status.ESTABLISHED)


def test_a_certificate_warning_in_clear_is_a_refusal_and_other_warnings_are_not() -> None:
    refused = [*hellos(0.1), alert(0.2, C, 42, level=1, clear=True)]
    assert_judged(judge(intercepted(refused, tls12(), talked=())), Status.FAILED, Party.CLIENT, CLIENT)
    named = [*hellos(0.0), alert(0.01, S, 112, level=1, clear=True), *tls12()[2:]]
    assert_judged(judge(intercepted(tls12(0.1), named)), Status.ESTABLISHED)


def test_an_alert_ahead_of_any_hello() -> None:
    recording = made.recording(Leg(CLIENT, (alert(0.0, C, 40, clear=True),)))
    assert_judged(judge(recording), Status.FAILED, Party.CLIENT, CLIENT, "began with alert handshake_failure")


# -- what the proxy noticed --------------------------------------------------------------------------------------


def failure(t: float, leg: LegRole | None, by: Party, text: str = "did something wrong") -> Failure:
    return Failure(t, leg, by, code=FailureCode.UNREACHABLE, text=text)


def test_our_refusal_of_the_target_is_ours_with_its_reason() -> None:
    reason = failure(0.03, SERVER, Party.PROXY, "does not trust the target's certificate: it has expired")
    recording = intercepted(
        [*hellos(0.0)[:1], alert(0.04, S, 40, clear=True)],
        [*hellos(0.0), alert(0.029, C, 45)],
        talked=(),
        failures=(reason,),
    )
    outcome = judge(recording)
    assert_judged(outcome, Status.FAILED, Party.PROXY, SERVER, "The proxy does not trust", "expired")
    assert outcome.alert == "certificate_expired"


@pytest.mark.parametrize("t", [0.02, 0.03])
def test_what_the_alert_to_the_client_was_for_comes_before_it(t: float) -> None:
    """A failed dial is the target's, though the only alert on the wire is our own."""
    reason = failure(t, SERVER, Party.TARGET, "refuses TCP connections")
    leg = Leg(CLIENT, (message(0.0, C, 1, clear=True), alert(0.03, S, 80, clear=True)))
    outcome = judge(made.recording(leg, failures=(reason,)))
    assert_judged(outcome, Status.FAILED, Party.TARGET, SERVER, "The target localhost:9443 refuses TCP")


def test_a_broken_message_of_the_peer_is_the_peers_though_the_alert_is_ours() -> None:
    for code in (10, 47, 50, 51, 109):
        recording = intercepted([*hellos(0.1), alert(0.2, S, code, clear=True)], tls12(), talked=())
        outcome = judge(recording)
        assert_judged(outcome, Status.FAILED, Party.CLIENT, CLIENT, "got something wrong from the client")


def test_an_alert_of_the_peer_comes_before_a_failure_of_the_same_moment_and_that_before_an_end() -> None:
    refusing = [*hellos(0.1), alert(0.2, C, 46, clear=True)]
    noticed, ended = failure(0.2, CLIENT, Party.PROXY), (End(0.2, C, Ending.RESET),)
    assert judge(intercepted(refusing, tls12(), talked=(), ends=ended, failures=(noticed,))).alert is not None
    outcome = judge(intercepted(hellos(0.1), tls12(), talked=(), ends=ended, failures=(noticed,)))
    assert_judged(outcome, Status.FAILED, Party.PROXY, CLIENT, "did something wrong")


def test_the_first_break_counts() -> None:
    recording = intercepted(
        [*hellos(0.1), alert(0.3, C, 46, clear=True)],
        hellos(0.0),
        talked=(),
        server_ends=(End(0.2, S, Ending.RESET),),
    )
    assert_judged(judge(recording), Status.FAILED, Party.TARGET, SERVER, "reset the connection")


@pytest.mark.parametrize(("closed", "by"), [(0.2, Party.TARGET), (0.4, Party.CLIENT)])
def test_openssls_decode_error_behind_an_end_of_the_peers_is_no_refusal(closed: float, by: Party) -> None:
    """A target that closes without a word after the handshake refuses; the client only says that it noticed."""
    messages = (*tls13(asks=True), alert(0.3, C, 50))
    leg = Leg(THROUGH, messages, data(), (End(closed, S, Ending.FIN), End(0.5, C, Ending.FIN)))
    assert_judged(judge(made.recording(leg)), Status.FAILED, by, THROUGH)


# -- ends --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "words"), [(Ending.FIN, "closed"), (Ending.RESET, "reset"), (Ending.SILENT, "fell silent")]
)
def test_an_end_in_mid_handshake_is_its_senders(how: Ending, words: str) -> None:
    by_client = intercepted(hellos(0.1), tls12(), talked=(), ends=(End(0.2, C, how),))
    assert_judged(judge(by_client), Status.FAILED, Party.CLIENT, CLIENT, words, "after server_hello of the proxy")
    by_target = intercepted(hellos(0.1)[:1], hellos(0.0), talked=(), server_ends=(End(0.2, S, how),))
    assert_judged(judge(by_target), Status.FAILED, Party.TARGET, SERVER, words, "after server_hello of the target")


def test_a_goodbye_in_mid_handshake() -> None:
    recording = intercepted([*hellos(0.1), alert(0.2, C, 0, level=1, clear=True)], tls12(), talked=())
    assert_judged(judge(recording), Status.FAILED, Party.CLIENT, CLIENT, "said goodbye")


def test_an_end_after_the_handshake_is_none() -> None:
    ends = (End(0.9, C, Ending.RESET),)
    assert_judged(judge(intercepted(tls13(0.1), tls13(), ends=ends)), Status.ESTABLISHED)


def test_nothing_at_all_is_the_clients() -> None:
    assert_judged(judge(made.recording()), Status.FAILED, Party.CLIENT, None, "without sending a ClientHello")


# -- stopped, interrupted, not TLS -------------------------------------------------------------------------------


def test_a_stop_in_mid_handshake_is_nobodys_fault() -> None:
    ends = tuple(End(0.5, side, Ending.STOPPED) for side in Side)
    recording = intercepted(hellos(0.1), tls12(), talked=(), ends=ends)
    assert_judged(judge(recording, stopped="was stopped"), Status.INTERRUPTED, None, None, "proxy was stopped")
    assert_judged(judge(made.recording(), stopped="was stopped"), Status.INTERRUPTED, None, None, "ClientHello")


def test_a_stop_of_a_used_session_leaves_it_established() -> None:
    outcome = judge(intercepted(tls13(0.1), tls13()), stopped="was stopped")
    assert_judged(outcome, Status.ESTABLISHED, None, None, "proxy was stopped")


def test_a_stop_does_not_hide_what_broke_before() -> None:
    recording = intercepted([*hellos(0.1), alert(0.2, C, 48, clear=True)], tls12(), talked=())
    assert_judged(judge(recording, stopped="was stopped"), Status.FAILED, Party.CLIENT, CLIENT)


def test_what_was_not_tls() -> None:
    recording = made.recording(from_client=12, from_target=34)
    assert_judged(judge(recording, not_tls=True), Status.NOT_TLS, None, None, "12 bytes", "34 from the target")
    unreachable = made.recording(failures=(failure(0.1, None, Party.TARGET, "refuses TCP connections"),))
    assert_judged(judge(unreachable, not_tls=True), Status.NOT_TLS, Party.TARGET, None, "refuses TCP connections")


# -- passed through ----------------------------------------------------------------------------------------------


def through(
    messages: Iterable[Message],
    *,
    talked: Iterable[Side] = (),
    sealed: Iterable[EncryptedRecord] = (),
    ends: Iterable[End] = (),
) -> Recording:
    leg = Leg(THROUGH, tuple(messages), data(*talked), tuple(ends), encrypted_records=tuple(sealed))
    return made.recording(leg, action="passthrough")


def sealed13(*, alert_by: Side | None = None) -> list[EncryptedRecord]:
    records = [EncryptedRecord(0.02, S, 23, 900)]
    return [*records, EncryptedRecord(0.03, alert_by, 23, 19, True)] if alert_by else records


def test_used_without_keys_is_established() -> None:
    assert_judged(judge(through(hellos(0.0), talked=(C, S), sealed=sealed13())), Status.ESTABLISHED)


def test_with_keys_it_is_judged_like_any_other() -> None:
    assert_judged(judge(through([*tls13(), ticket(0.1)], talked=(C, S))), Status.ESTABLISHED)
    assert_judged(judge(through([*tls13(), ticket(0.1)])), Status.ABANDONED, Party.CLIENT, THROUGH)
    refused = judge(through([*tls13()[:-1], alert(0.03, C, 48)]))
    assert_judged(refused, Status.FAILED, Party.CLIENT, THROUGH, "does not trust the CA")
    late = judge(through([*tls13(asks=True), alert(0.2, S, 116)], talked=(C,)))
    assert_judged(late, Status.FAILED, Party.TARGET, THROUGH, "wants a client certificate")


@pytest.mark.parametrize("alert_by", [C, S, None])
def test_tls13_that_ends_early_without_keys_is_nobodys_for_certain(alert_by: Side | None) -> None:
    ends = (End(0.04, C, Ending.FIN), End(0.05, S, Ending.FIN))
    outcome = judge(through(hellos(0.0), sealed=sealed13(alert_by=alert_by), ends=ends))
    assert_judged(outcome, Status.FAILED, Party.UNKNOWN, THROUGH, "encrypted")
    named = {C: "the client has sent a record of the size of an alert", S: "the target has sent"}
    assert alert_by is None or named[alert_by] in outcome.text


def test_tls12_that_is_finished_and_unused_without_keys_is_abandoned() -> None:
    messages = [one for one in tls12() if one.code != 20]
    sealed = [EncryptedRecord(0.03, C, 22, 40), EncryptedRecord(0.04, S, 22, 40)]
    ends = (End(0.05, C, Ending.FIN), End(0.06, S, Ending.FIN))
    assert_judged(judge(through(messages, sealed=sealed, ends=ends)), Status.ABANDONED, Party.CLIENT, THROUGH)
    assert_judged(judge(through(messages, sealed=sealed, talked=(C, S), ends=ends)), Status.ESTABLISHED)
    cut = through(messages, sealed=sealed[:1], ends=ends)
    assert_judged(judge(cut), Status.FAILED, Party.CLIENT, THROUGH, "in the middle of the handshake")


def test_a_target_that_leaves_in_clear_is_named() -> None:
    outcome = judge(through(hellos(0.0)[:1], ends=(End(0.2, S, Ending.RESET), End(0.3, C, Ending.FIN))))
    assert_judged(outcome, Status.FAILED, Party.TARGET, THROUGH, "The target localhost:9443 reset", "client_hello")


# -- who left first, and after what ------------------------------------------------------------------------------


@pytest.mark.parametrize("witness", ["proxy", "capture"])
def test_an_unused_connection_that_the_proxy_ended_is_nobodys_fault(witness: str) -> None:
    stops = tuple(End(9.0, side, Ending.STOPPED) for side in Side)
    recording = intercepted(tls13(0.1), [*tls13(), ticket(0.2)], talked=(), ends=stops, server_ends=stops)
    outcome = judge(recording, stopped="was stopped", witness=witness)
    assert_judged(outcome, Status.INTERRUPTED, None, None, f"finished but the connection was unused when the {witness}")
    left = intercepted(tls13(0.1), [*tls13(), ticket(0.2)], talked=(), ends=(End(0.3, C, Ending.FIN),))
    assert_judged(judge(left, stopped="was stopped"), Status.ABANDONED, Party.CLIENT, CLIENT, "proxy was stopped")


@pytest.mark.parametrize("how", [Ending.FIN, Ending.RESET, None])
def test_a_target_that_left_first_has_failed_an_unused_connection(how: Ending | None) -> None:
    goodbye = [] if how else [alert(0.3, S, 0, level=1)]
    server_ends = (End(0.3, S, how),) if how else ()
    server = [*tls13(), ticket(0.2), *goodbye]
    recording = intercepted(
        tls13(0.1),
        server,
        talked=(),
        ends=(End(0.4, C, Ending.FIN),),
        server_ends=(*server_ends, End(0.5, S, Ending.FIN)),
    )
    words = {Ending.FIN: "closed the connection", Ending.RESET: "reset the connection", None: "said close_notify"}
    sentence = f"{words[how]} after the handshake, before any application data"
    assert_judged(judge(recording), Status.FAILED, Party.TARGET, SERVER, sentence)
    passed = through(server, ends=(*server_ends, End(0.4, C, Ending.FIN)))
    assert_judged(judge(passed), Status.FAILED, Party.TARGET, THROUGH, sentence)


def test_a_client_that_left_before_an_answer_is_not_said_to_have_sent_nothing() -> None:
    ends, later = (End(0.6, C, Ending.FIN),), (End(0.7, S, Ending.FIN),)
    outcome = judge(intercepted(tls13(0.1), tls13(), talked=(C,), ends=ends, server_ends=later))
    assert_judged(
        outcome, Status.ABANDONED, Party.CLIENT, CLIENT, "left before the target had answered", "nothing proves"
    )
    assert "host name" not in outcome.text


@pytest.mark.parametrize("side", [C, S])
def test_an_idle_session_without_keys_has_not_fallen_silent_in_the_handshake(side: Side) -> None:
    sealed = [*sealed13(), EncryptedRecord(0.03, C, 23, 53)]
    idle = through([*hellos(0.0), ccs(0.03, C)], sealed=sealed, ends=(End(9.0, side, Ending.SILENT),))
    assert_judged(judge(idle, stopped="was idle"), Status.INTERRUPTED)
    silent = through(hellos(0.0), sealed=sealed13(), ends=(End(9.0, C, Ending.SILENT),))
    assert_judged(judge(silent), Status.FAILED, Party.CLIENT, THROUGH, "fell silent")


@pytest.mark.parametrize(
    ("handshake", "again"),
    [(tls13(), message(0.6, S, 13)), (tls12(), message(0.6, S, 0)), (tls12(), message(0.6, C, 1))],
)
def test_a_certificate_asked_for_later_can_be_refused_later(handshake: list[Message], again: Message) -> None:
    refused = intercepted(tls13(0.1), [*handshake, again, alert(0.9, S, 116)])
    assert_judged(judge(refused), Status.FAILED, Party.TARGET, SERVER, "wants a client certificate")
    other = intercepted(tls13(0.1), [*handshake, again, alert(0.9, S, 80)])
    assert_judged(judge(other), Status.ESTABLISHED)


def test_an_encrypted_warning_is_fatal_in_tls13_only() -> None:
    warning = alert(0.3, S, 112, level=1)
    renegotiated = [*tls12(), message(0.2, S, 11)]
    assert_judged(judge(intercepted(tls12(0.1), [*renegotiated, warning])), Status.ESTABLISHED)
    fatal = [[*tls13(), warning], [*tls12(), alert(0.3, S, 112)], [*tls12(), alert(0.3, S, 46, level=1)]]
    for target in fatal:
        assert_judged(judge(intercepted(tls12(0.1), target)), Status.FAILED, Party.TARGET, SERVER)


@pytest.mark.parametrize("how", [Ending.FIN, Ending.RESET])
def test_a_client_that_goes_without_an_alert_was_shown_a_certificate(how: Ending) -> None:
    shown = made.certificate_message(S, [made.certificate_for("leaf", issuer="root")], t=0.12)
    hint, ends = "refuses a certificate without an alert", (End(0.2, C, how),)
    outcome = judge(intercepted([*hellos(0.1), shown], tls12(), talked=(), ends=ends))
    assert_judged(outcome, Status.FAILED, Party.CLIENT, CLIENT, "shown: CN=leaf, sent alone", hint)
    taken = [*hellos(0.1), shown, message(0.13, C, 16, clear=True)]
    assert hint not in judge(intercepted(taken, tls12(), talked=(), ends=ends)).text
    assert hint not in judge(intercepted(hellos(0.1), tls12(), talked=(), ends=ends)).text


@pytest.mark.parametrize(
    ("body", "words"), [(None, "had no answer yet"), (bytes(4), "got none"), (bytes(4) + b"certificate", "got one")]
)
def test_a_target_that_goes_had_asked_for_a_client_certificate(body: bytes | None, words: str) -> None:
    answer = [] if body is None else [made.handshake(C, 11, body, t=0.03)]
    asked, ends = tls13(asks=True), (End(0.6, S, Ending.FIN),)
    broken = intercepted(tls13(0.1), [*asked[:-1], *answer], talked=(), server_ends=ends)
    sentence = f"it had asked for a client certificate and {words}"
    assert_judged(judge(broken), Status.FAILED, Party.TARGET, SERVER, "in the middle", sentence)
    unproven = intercepted(tls13(0.1), [*asked[:-1], *answer, asked[-1]], talked=(C,), server_ends=ends)
    assert_judged(judge(unproven), Status.FAILED, Party.TARGET, SERVER, "nothing that proves", sentence)


def test_a_leg_without_finished_is_not_said_to_have_ended_after_the_handshake() -> None:
    outcome = judge(intercepted(tls13(0.1), hellos(0.0), talked=()))
    assert_judged(outcome, Status.FAILED, Party.UNKNOWN, SERVER, "before the handshake with the target was finished")


def test_a_request_right_behind_finished_that_was_answered_is_established() -> None:
    """As curl does it: Finished, request and close_notify, the last of the size of an alert."""
    asked = [
        EncryptedRecord(0.03, C, 23, 69),
        EncryptedRecord(0.031, C, 23, 101),
        EncryptedRecord(0.09, C, 23, 19, True),
    ]
    answered = [*sealed13(), *asked, EncryptedRecord(0.05, S, 23, 234)]
    assert_judged(judge(through(hellos(0.01), sealed=answered)), Status.ESTABLISHED)
    refused = [*sealed13(), *asked, EncryptedRecord(0.05, S, 23, 19, True)]
    assert judge(through(hellos(0.01), sealed=refused)).status is Status.FAILED


# -- what was shown ----------------------------------------------------------------------------------------------


def issued(*names: tuple[str, str]) -> list[bytes]:
    return [made.certificate_for(name, issuer=issuer) for name, issuer in names]


@pytest.mark.parametrize(
    ("chain", "words"),
    [
        ([("leaf", "root")], "CN=leaf, sent alone; it was issued by CN=root, which was not sent)"),
        ([("leaf", "leaf")], "CN=leaf, which vouches for itself and was sent alone)"),
        (
            [("leaf", "between"), ("between", "root")],
            "issued by CN=between; the chain sent ends with CN=between, issued by CN=root, which was not sent)",
        ),
        ([("leaf", "root"), ("root", "root")], "issued by CN=root; the chain sent ends with the root CN=root)"),
        (
            [("leaf", "between"), ("root", "root"), ("between", "root")],
            "ends with CN=between, issued by CN=root, which was sent before it)",
        ),
    ],
)
def test_who_refuses_a_chain_is_said_to_have_got_the_root_only_if_it_was_sent(
    chain: list[tuple[str, str]], words: str
) -> None:
    shown = made.certificate_message(S, issued(*chain), t=0.12)
    outcome = judge(intercepted([*hellos(0.1), shown, alert(0.2, C, 48, clear=True)], tls12(), talked=()))
    assert_judged(outcome, Status.FAILED, Party.CLIENT, CLIENT, "(shown: CN=leaf", words)


@pytest.mark.parametrize("number", [42, 46, 48])
def test_a_client_that_may_mean_the_host_name_is_told_with_the_names(number: int) -> None:
    shown = made.certificate_message(S, issued(("leaf", "root")), t=0.12)
    outcome = judge(intercepted([*hellos(0.1), shown, alert(0.2, C, number, clear=True)], tls12(), talked=()))
    words = "perhaps for the host name: the certificate is for no alternative name, and the client's SNI was localhost"
    assert (words in outcome.text) is (number != 48)


@pytest.mark.parametrize("name", ["localhost", "LocalHost", "other.test"])
def test_a_name_that_the_certificate_has_is_no_reason_to_refuse_it(name: str) -> None:
    shown = made.certificate_message(S, [made.certificate_for("leaf", issuer="root", hosts=[name])], t=0.12)
    outcome = judge(intercepted([*hellos(0.1), shown, alert(0.2, C, 46, clear=True)], tls12(), talked=()))
    assert ("perhaps for the host name" in outcome.text) is (name == "other.test")


def test_a_refusal_of_a_leaf_that_our_ca_may_not_issue_is_ours() -> None:
    shown = made.certificate_message(S, issued(("leaf", "root")), t=0.12)
    barred = Failure(0.21, CLIENT, Party.PROXY, code=FailureCode.CANNOT_MIMIC, text="had no certificate to show")
    for number, by in ((46, Party.PROXY), (80, Party.CLIENT)):
        refused = [*hellos(0.1), shown, alert(0.2, C, number, clear=True)]
        outcome = judge(intercepted(refused, tls12(), talked=(), failures=(barred,)))
        assert (outcome.broken_by, outcome.leg, outcome.alert is None) == (by, CLIENT, False)


def test_of_many_ordered_faults_the_first_are_named_and_the_rest_counted_without_those_told_already() -> None:
    done = [{"t": 0.0, "text": f"did thing {number}"} for number in range(5)]
    whole = intercepted(tls13(0.1), tls13())
    whole = replace(whole, legs=(replace(whole.legs[0], faults=tuple(done)), whole.legs[1]))
    assert judge(whole).text.endswith("did thing 0, and did thing 1, and did thing 2 and did 2 more things.")
    told = Failure(0.3, CLIENT, Party.PROXY, code=FailureCode.CANNOT_MIMIC, text="did thing 0, for did thing 1 failed")
    cut = intercepted(hellos(0.1), tls13(), talked=(), failures=(told,))
    cut = replace(cut, legs=(replace(cut.legs[0], faults=tuple(done)), cut.legs[1]))
    assert judge(cut).text.endswith("; as ordered, the proxy did thing 2, and did thing 3, and did thing 4.")
